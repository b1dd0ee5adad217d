//! Aggregations in a search body.

use ringdex_engine::search::aggs::AggRequest;
use serde_json::Value;

use super::value::parsing;
use super::{DslError, DslResult};

/// Reads `{"name": {"type": {...}}}`.
pub fn parse_aggs(json: &Value) -> Result<Vec<AggRequest>, DslError> {
    let read = || -> DslResult<()> {
        match json.as_object() {
            Some(map) if map.is_empty() => Ok(()),
            _ => Err(parsing("aggregations are not read yet")),
        }
    };
    read().map(|()| Vec::new())
}

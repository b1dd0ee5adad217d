//! `cluster.max_shards_per_node`: how many copies the cluster may have.

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};

use super::settings::as_u32;
use crate::error::{ApiError, ApiResult};

const SETTING: &str = "cluster.max_shards_per_node";
const DEFAULT: u32 = 1000;

/// Copies that an index wants.
fn copies(index: &IndexMetadata) -> u64 {
    u64::from(index.number_of_shards) * (1 + u64::from(index.number_of_replicas))
}

/// Copies that all open indices want.
fn open_copies(state: &ClusterState) -> u64 {
    state.indices.values().filter(|index| index.open).map(|index| copies(index)).sum()
}

/// Refuses a change after which open indices want more copies than before, and more than the nodes may have.
pub fn check(before: &ClusterState, after: &ClusterState) -> ApiResult<()> {
    let nodes = before.nodes.values().filter(|node| node.is_data()).count() as u64;
    let each = before.setting(SETTING).and_then(as_u32).unwrap_or(DEFAULT);
    let (most, now, then) = (nodes * u64::from(each), open_copies(before), open_copies(after));
    if nodes == 0 || then <= now || then <= most {
        return Ok(());
    }
    let problem = format!(
        "this action would add [{}] total shards, but this cluster currently has [{now}]/[{most}] maximum shards open",
        then - now
    );
    let reason = format!("Validation Failed: 1: {problem};");
    Err(ApiError::new(400, "validation_exception", reason))
}

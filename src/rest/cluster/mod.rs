//! `_cluster`: health, state, settings, and what an operator asks of the whole.

mod allocation;
mod health;
mod pending;
mod setting;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ringdex_net::cluster::state::DiscoveryNode;
use serde_json::json;

use super::params::{self, flag};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
pub use allocation::{allocation_explain, reroute};
pub use health::{Counts, Status, health};
pub use pending::{longest_wait, pending_tasks};
pub use setting::{get_settings, put_settings};
pub use state::state;
pub(super) use state::{copy_shown, node_shown};

/// `GET /_remote/info`
pub async fn remote_info(_backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::ok(json!({})))
}

/// Milliseconds as `2020-01-01T00:00:00.000Z`.
#[must_use]
pub fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// `POST /_cluster/voting_config_exclusions`
pub async fn add_voting_exclusions(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let ids = params::list(&request, "node_ids");
    let names = params::list(&request, "node_names");
    let (list, by_id) = match (ids, names) {
        (Some(list), None) => (list, true),
        (None, Some(list)) => (list, false),
        _ => {
            return Err(ApiError::illegal_argument(
                "Please set node identifiers correctly. One and only one of [node_name], [node_names] and [node_ids] has to be set",
            ));
        }
    };
    backend
        .update_state(
            "add-voting-config-exclusions",
            Box::new(move |state| {
                let mut next = state.clone();
                let own = next.custom.entry("voting_config_exclusions".into()).or_default();
                for item in &list {
                    let is_it = |node: &&Arc<DiscoveryNode>| {
                        if by_id { node.id.to_string() == *item } else { node.name == *item }
                    };
                    let absent = || "_absent_".to_owned();
                    let (id, name) = match (state.nodes.values().find(is_it), by_id) {
                        (Some(node), _) => (node.id.to_string(), node.name.clone()),
                        (None, true) => (item.clone(), absent()),
                        (None, false) => (absent(), item.clone()),
                    };
                    own.insert(format!("{id}/{name}"), Arc::new(json!({ "node_id": id, "node_name": name })));
                }
                Ok((next != *state).then_some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({})))
}

/// Waits until nodes without a vote are no members any more: they would vote again at once.
async fn until_excluded_left(backend: &SharedBackend, timeout_ms: i64) -> ApiResult<()> {
    let start = backend.monotonic_ns();
    loop {
        let state = backend.state();
        let excluded = state.custom.get("voting_config_exclusions").into_iter().flat_map(|all| all.values());
        let ids: Vec<&str> = excluded.filter_map(|one| one["node_id"].as_str()).collect();
        let left: Vec<String> = state
            .nodes
            .values()
            .filter(|node| ids.contains(&node.id.to_string().as_str()))
            .map(|node| format!("{{{}}}{{{}}}", node.name, node.id))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        if (backend.monotonic_ns() - start) / 1_000_000 >= timeout_ms.max(0) as u64 {
            let reason = format!(
                "timed out waiting for removal of nodes; if nodes should not be removed, set waitForRemoval to false. [{}]",
                left.join(", ")
            );
            return Err(ApiError::new(500, "timeout_exception", reason));
        }
        backend.sleep_ms(50).await;
    }
}

/// `DELETE /_cluster/voting_config_exclusions`
pub async fn clear_voting_exclusions(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    if flag(&request, "wait_for_removal", true)? {
        until_excluded_left(backend, params::time(&request, "timeout")?.unwrap_or(30_000)).await?;
    }
    backend
        .update_state(
            "clear-voting-config-exclusions",
            Box::new(|state| {
                if !state.custom.contains_key("voting_config_exclusions") {
                    return Ok(None);
                }
                let mut next = state.clone();
                next.custom.remove("voting_config_exclusions");
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({})))
}

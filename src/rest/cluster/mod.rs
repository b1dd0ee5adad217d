//! `_cluster`: health, state, settings, and what an operator asks of the whole.

mod allocation;
mod health;
mod setting;
mod state;

use std::sync::Arc;

use serde_json::json;

use super::params;
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
pub use allocation::{allocation_explain, reroute};
pub use health::{Counts, Status, health, index_counts, shard_counts};
pub use setting::{get_settings, put_settings};
pub use state::state;

/// `GET /_cluster/pending_tasks`
pub async fn pending_tasks(_backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::ok(json!({ "tasks": [] })))
}

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
    let known = (backend.node().id.clone(), backend.node().name.clone());
    backend
        .update_state(
            "add-voting-config-exclusions",
            Box::new(move |state| {
                let mut next = state.clone();
                let own = next.custom.entry("voting_config_exclusions".into()).or_default();
                for item in list {
                    let absent = "_absent_".to_owned();
                    let (id, name) = if by_id {
                        let name = if item == known.0 { known.1.clone() } else { absent };
                        (item.clone(), name)
                    } else {
                        (if item == known.1 { known.0.clone() } else { absent }, item.clone())
                    };
                    own.insert(format!("{id}/{name}"), Arc::new(json!({ "node_id": id, "node_name": name })));
                }
                Ok((next != *state).then_some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({})))
}

/// `DELETE /_cluster/voting_config_exclusions`
pub async fn clear_voting_exclusions(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
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

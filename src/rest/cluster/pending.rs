//! `_cluster/pending_tasks`: what the master has not done yet.

use serde_json::{Value, json};

use crate::backend::{PendingUpdate, SharedBackend};
use crate::error::ApiResult;
use crate::rest::params::flag;
use crate::rest::passed::{MASTER_WAIT_MS, by_master, master_timeout};
use crate::rest::request::{Request, Response};
use crate::rest::table::nanos_text;

/// Milliseconds that the oldest of them has waited.
#[must_use]
pub fn longest_wait(pending: &[PendingUpdate]) -> u64 {
    pending.iter().map(|update| update.waited_ms).max().unwrap_or(0)
}

fn shown(pending: &[PendingUpdate]) -> Value {
    let one = |update: &PendingUpdate| {
        json!({
            "insert_order": update.number,
            "priority": update.priority.name(),
            "source": update.source,
            "executing": update.executing,
            "time_in_queue_millis": update.waited_ms,
            "time_in_queue": nanos_text(update.waited_ms * 1_000_000),
        })
    };
    json!({ "tasks": pending.iter().map(one).collect::<Vec<_>>() })
}

/// `GET /_cluster/pending_tasks`
pub async fn pending_tasks(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    if !flag(&request, "local", false)? {
        let find_ms = master_timeout(&request)?;
        if let Some(answer) = by_master(backend, &mut request, find_ms, MASTER_WAIT_MS).await? {
            return Ok(answer);
        }
    }
    Ok(Response::ok(shown(&backend.pending_updates().await)))
}

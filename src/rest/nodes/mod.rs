//! `_nodes`, `_cluster/stats`: every node speaks of itself and its machine.

mod figures;
mod hot;
mod info;
mod known;
mod stats;
mod totals;

use serde_json::{Value, json};

pub use self::figures::{Figures, Machine, cpu_percent, max_files};
pub use self::hot::hot_threads;
pub use self::info::info;
pub use self::known::{KnownNode, known_nodes, means_node, this_node};
pub use self::stats::{metrics, stats, usage};
pub use self::totals::cluster_stats;
use super::passed::{Others, PassedOn, gather};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::ApiResult;

pub(super) fn header(successful: usize, failures: Vec<Value>) -> Value {
    let failed = failures.len();
    let mut out = json!({ "total": successful + failed, "successful": successful, "failed": failed });
    if failed > 0 {
        out["failures"] = failures.into();
    }
    out
}

/// Attributes, as they are shown.
fn attributes(of: &[(String, String)]) -> Value {
    Value::Object(of.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect())
}

/// `POST /_nodes[/{node_id}]/reload_secure_settings`: there are none, so that is soon done.
pub async fn reload_secure_settings(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let expression = request.param("node_id");
    let call = PassedOn::post(&["_nodes", "_local", "reload_secure_settings"], Vec::new());
    let Others { mut nodes, failures } = gather(backend, &request, expression, &call).await;
    if let Some(own) = this_node(backend, expression) {
        nodes.insert(own.id, json!({ "name": own.name }));
    }
    let header = header(nodes.len(), failures);
    Ok(Response::ok(json!({ "_nodes": header, "cluster_name": backend.state().cluster_name, "nodes": nodes })))
}

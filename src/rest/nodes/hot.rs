//! `_nodes/hot_threads`: which tasks kept a core to themselves.

use std::fmt::Write;
use std::time::Instant;

use super::this_node;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::rest::params;
use crate::rest::passed::{NODE_WAIT_MS, PassedOn, ask_others};
use crate::rest::request::{Request, Response};
use crate::stats::hot;

/// `GET /_nodes[/{node_id}]/hot_threads`
pub async fn hot_threads(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let shown = params::int(&request, "threads")?.map_or(3, |n| n.max(0) as usize);
    let expression = request.param("node_id");
    let mut out = if this_node(backend, expression).is_some() { own(backend, shown).await } else { String::new() };
    let params = vec![("threads".to_owned(), shown.to_string())];
    let call = PassedOn::get(&["_nodes", "_local", "hot_threads"], params);
    for (node, told) in ask_others(backend, &request, expression, &call, NODE_WAIT_MS).await {
        match told {
            Ok(told) => out.push_str(&String::from_utf8_lossy(&told.body)),
            Err(error) => drop(writeln!(out, "::: {{{}}}{{{}}}\n   it did not answer: {error}\n", node.name, node.id)),
        }
    }
    Ok(Response::text(out))
}

async fn own(backend: &SharedBackend, shown: usize) -> String {
    let node = backend.node();
    let mut out = format!("::: {{{}}}{{{}}}{{{}}}{{{}}}\n", node.name, node.id, node.ephemeral_id, node.host);
    let limit = hot::LIMIT;
    let _ = writeln!(out, "   Every core runs one task at a time. Tasks that did not give way within {limit:?}:\n");
    let now = Instant::now();
    for (core, (count, mut last)) in backend.hot_tasks().await {
        last.sort_by_key(|task| std::cmp::Reverse(task.took));
        let longest =
            last.first().map_or(String::new(), |task| format!(", the longest of the last took {:.1?}", task.took));
        let _ = writeln!(out, "   core {core}: {count} since the start{longest}");
        for task in last.iter().take(shown) {
            let ago = now.saturating_duration_since(task.ended);
            let what = task.route.map_or(String::new(), |route| format!(" {route}"));
            let _ = writeln!(out, "     {:.1?} in lane [{}]{what}, {ago:.1?} ago", task.took, task.lane);
        }
    }
    out.push('\n');
    out
}

//! `_search_shards`: where a search would go.

use serde_json::{Value, json};

use super::targets_of;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::{self, IndicesOptions};
use crate::rest::indices::stats::allocation_id;
use crate::rest::params::{self, indices_options};
use crate::rest::request::{Request, Response};

/// `GET|POST [/{index}]/_search_shards`
pub async fn search_shards(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets_of(backend, &state, &request, options)?;
    let names = resolve::resolve_names(&state, &params::indices(&request), options, backend.now_ms())?;
    let node = backend.node();
    let mut indices = serde_json::Map::new();
    for target in &list {
        let mut shown = serde_json::Map::new();
        let through: Vec<&String> = names.iter().filter(|n| target.index.aliases.contains_key(*n)).collect();
        if !through.is_empty() {
            shown.insert("aliases".into(), json!(through));
            if target.filter.is_some()
                && let Some(filter) = through.iter().find_map(|n| target.index.aliases[*n].filter.clone())
            {
                shown.insert("filter".into(), filter);
            }
        }
        indices.insert(target.index.name.clone(), Value::Object(shown));
    }
    let shards: Vec<Value> = list
        .iter()
        .map(|t| {
            json!([{
                "state": "STARTED", "primary": true, "node": node.id, "relocating_node": null,
                "shard": t.shard, "index": t.index.name,
                "allocation_id": { "id": allocation_id(&t.index, t.shard) },
            }])
        })
        .collect();
    Ok(Response::ok(json!({
        "nodes": { node.id.clone(): {
            "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": {},
        } },
        "indices": indices,
        "shards": shards,
    })))
}

//! `_cluster/state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::health::shard_counts;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::metadata::settings;
use crate::rest::indices::stats::allocation_id;
use crate::rest::params::{self, flag, indices_options};
use crate::rest::request::{Request, Response};

const METRICS: [&str; 8] =
    ["version", "master_node", "blocks", "nodes", "metadata", "routing_table", "routing_nodes", "customs"];

/// `GET /_cluster/state[/{metric}[/{index}]]`
pub async fn state(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let asked = params::list(&request, "metric").unwrap_or_default();
    let all = asked.is_empty() || asked.iter().any(|m| m == "_all");
    for metric in &asked {
        if metric != "_all" && !METRICS.contains(&metric.as_str()) {
            return Err(ApiError::illegal_argument(format!("Unknown metric [{metric}]")));
        }
    }
    let wants = |name: &str| all || asked.iter().any(|m| m == name);
    let flat = flag(&request, "flat_settings", false)?;
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let expressions = params::indices(&request);
    let options = if request.param("index").is_some() {
        IndicesOptions { ignore_unavailable: flag(&request, "ignore_unavailable", false)?, ..options }
    } else {
        options
    };
    let state = backend.state();
    let mut indices = resolve(&state, &expressions, options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let node = backend.node();
    let mut out = Map::new();
    out.insert("cluster_name".into(), state.cluster_name.clone().into());
    out.insert("cluster_uuid".into(), state.cluster_uuid.clone().into());
    if wants("version") {
        out.insert("version".into(), state.version.into());
        out.insert("state_uuid".into(), state.state_uuid.clone().into());
    }
    if wants("master_node") {
        out.insert("master_node".into(), node.id.clone().into());
    }
    if wants("blocks") {
        out.insert("blocks".into(), blocks(&indices));
    }
    if wants("nodes") {
        let attributes: Map<String, Value> =
            node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        out.insert("nodes".into(), json!({ node.id.clone(): {
            "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": attributes,
        } }));
    }
    if wants("metadata") {
        out.insert("metadata".into(), metadata(&state, &indices, flat));
    }
    if wants("routing_table") {
        let table: Map<String, Value> =
            indices.iter().map(|index| (index.name.clone(), json!({ "shards": routing_of(backend, index) }))).collect();
        out.insert("routing_table".into(), json!({ "indices": table }));
    }
    if wants("routing_nodes") {
        let mut assigned = Vec::new();
        let mut unassigned = Vec::new();
        for index in &indices {
            if let Value::Object(shards) = routing_of(backend, index) {
                for copy in shards.values().filter_map(Value::as_array).flatten() {
                    if copy["node"].is_null() { unassigned.push(copy.clone()) } else { assigned.push(copy.clone()) }
                }
            }
        }
        out.insert("routing_nodes".into(), json!({ "unassigned": unassigned, "nodes": { node.id.clone(): assigned } }));
    }
    Ok(Response::ok(Value::Object(out)))
}

fn blocks(indices: &[Arc<IndexMetadata>]) -> Value {
    const BLOCKS: [(&str, &str, &str, &[&str]); 5] = [
        ("index.blocks.read_only", "5", "index read-only (api)", &["write", "metadata_write"]),
        ("index.blocks.read", "7", "index read (api)", &["read"]),
        ("index.blocks.write", "8", "index write (api)", &["write"]),
        ("index.blocks.metadata", "9", "index metadata (api)", &["metadata_read", "metadata_write"]),
        (
            "index.blocks.read_only_allow_delete",
            "12",
            "disk usage exceeded flood-stage watermark, index has read-only-allow-delete block",
            &["metadata_write", "write"],
        ),
    ];
    let mut out = Map::new();
    for index in indices {
        let mut own = Map::new();
        if !index.open {
            own.insert(
                "4".into(),
                json!({ "description": "index closed", "retryable": false, "levels": ["read", "write"] }),
            );
        }
        for (setting, id, text, levels) in BLOCKS {
            if settings::is_on(index, setting) {
                own.insert(id.into(), json!({ "description": text, "retryable": false, "levels": levels }));
            }
        }
        if !own.is_empty() {
            out.insert(index.name.clone(), Value::Object(own));
        }
    }
    if out.is_empty() { json!({}) } else { json!({ "indices": out }) }
}

pub(super) fn metadata(state: &ClusterState, indices: &[Arc<IndexMetadata>], flat: bool) -> Value {
    let mut shown = Map::new();
    for index in indices {
        let in_sync: Map<String, Value> =
            (0..index.number_of_shards).map(|s| (s.to_string(), json!([allocation_id(index, s)]))).collect();
        let terms: Map<String, Value> =
            index.primary_terms.iter().enumerate().map(|(s, t)| (s.to_string(), (*t).into())).collect();
        let mappings = if index.mapping.as_object().is_some_and(|m| !m.is_empty()) {
            json!({ "_doc": index.mapping })
        } else {
            json!({})
        };
        shown.insert(
            index.name.clone(),
            json!({
                "version": index.mapping_version + index.settings_version + index.aliases_version,
                "mapping_version": index.mapping_version,
                "settings_version": index.settings_version,
                "aliases_version": index.aliases_version,
                "routing_num_shards": index.routing_num_shards,
                "state": if index.open { "open" } else { "close" },
                "settings": settings::shown(&index.settings, flat),
                "mappings": mappings,
                "aliases": index.aliases.keys().collect::<Vec<_>>(),
                "primary_terms": terms,
                "in_sync_allocations": in_sync,
                "rollover_info": {},
                "system": false,
            }),
        );
    }
    let named = |map: &BTreeMap<String, Arc<Value>>| -> Value {
        Value::Object(map.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect())
    };
    let section = |name: &str| state.custom.get(name).map_or_else(|| json!({}), named);
    let exclusions: Vec<Value> = state
        .custom
        .get("voting_config_exclusions")
        .map(|m| m.values().map(|v| (**v).clone()).collect())
        .unwrap_or_default();
    let mut out = json!({
        "cluster_uuid": state.cluster_uuid,
        "cluster_uuid_committed": true,
        "cluster_coordination": {
            "term": state.term,
            "last_committed_config": [],
            "last_accepted_config": [],
            "voting_config_exclusions": exclusions,
        },
        "templates": named(&state.templates),
        "indices": shown,
        "index-graveyard": { "tombstones": [] },
        "index_template": { "index_template": named(&state.index_templates) },
        "component_template": { "component_template": named(&state.component_templates) },
    });
    if !state.persistent_settings.is_empty() {
        out["settings"] = settings::shown(&state.persistent_settings, flat);
    }
    for (key, name) in [("stored_scripts", "scripts"), ("repositories", "repositories"), ("ingest", "pipelines")] {
        let value = section(name);
        if value.as_object().is_some_and(|m| !m.is_empty()) {
            out[key] = value;
        }
    }
    out
}

/// Every copy of every shard of an index.
pub(super) fn routing_of(backend: &SharedBackend, index: &IndexMetadata) -> Value {
    let node = &backend.node().id;
    let mut shards = Map::new();
    for shard in 0..index.number_of_shards {
        let mut copies = Vec::new();
        let counts = shard_counts(backend, index, shard);
        let state = match (counts.active_primaries, counts.initializing) {
            (1, _) => "STARTED",
            (_, 1) => "INITIALIZING",
            _ => "UNASSIGNED",
        };
        let mut primary = json!({
            "state": state, "primary": true, "node": node, "relocating_node": null, "shard": shard, "index": index.name,
        });
        if state == "UNASSIGNED" {
            primary["node"] = Value::Null;
            primary["unassigned_info"] =
                json!({ "reason": "ALLOCATION_FAILED", "delayed": false, "allocation_status": "no_valid_shard_copy" });
        } else {
            primary["allocation_id"] = json!({ "id": allocation_id(index, shard) });
        }
        copies.push(primary);
        for _ in 0..index.number_of_replicas.min(64) {
            copies.push(json!({
                "state": "UNASSIGNED", "primary": false, "node": null, "relocating_node": null, "shard": shard, "index": index.name,
                "recovery_source": { "type": "PEER" },
                "unassigned_info": { "reason": "INDEX_CREATED", "delayed": false, "allocation_status": "no_attempt" },
            }));
        }
        shards.insert(shard.to_string(), Value::Array(copies));
    }
    Value::Object(shards)
}

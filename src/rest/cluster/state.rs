//! `_cluster/state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::routing::ShardRouting;
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata};
use serde_json::{Map, Value, json};

use super::iso;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::NoMaster;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::metadata::settings;
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
    let mut out = Map::new();
    out.insert("cluster_name".into(), state.cluster_name.clone().into());
    out.insert("cluster_uuid".into(), state.cluster_uuid.clone().into());
    if wants("version") {
        out.insert("version".into(), state.version.into());
        out.insert("state_uuid".into(), state.state_uuid.clone().into());
    }
    if wants("master_node") {
        out.insert("master_node".into(), json!(state.master.filter(|_| backend.has_master())));
    }
    if wants("blocks") {
        let no_master = (!backend.has_master()).then(|| NoMaster::of(&state));
        out.insert("blocks".into(), blocks(&indices, no_master));
    }
    if wants("nodes") {
        out.insert("nodes".into(), nodes_of(&state));
    }
    if wants("metadata") {
        out.insert("metadata".into(), metadata(&state, &indices, flat));
    }
    if wants("routing_table") {
        let table: Map<String, Value> =
            indices.iter().map(|index| (index.name.clone(), json!({ "shards": routing_of(&state, index) }))).collect();
        out.insert("routing_table".into(), json!({ "indices": table }));
    }
    if wants("routing_nodes") {
        let data_nodes = state.nodes.values().filter(|node| node.is_data());
        let mut assigned: BTreeMap<String, Vec<Value>> =
            data_nodes.map(|node| (node.id.to_string(), Vec::new())).collect();
        let mut unassigned = Vec::new();
        for index in &indices {
            if let Value::Object(shards) = routing_of(&state, index) {
                for copy in shards.values().filter_map(Value::as_array).flatten() {
                    match copy["node"].as_str() {
                        None => unassigned.push(copy.clone()),
                        Some(node) => assigned.entry(node.to_owned()).or_default().push(copy.clone()),
                    }
                }
            }
        }
        out.insert("routing_nodes".into(), json!({ "unassigned": unassigned, "nodes": assigned }));
    }
    Ok(Response::ok(Value::Object(out)))
}

fn blocks(indices: &[Arc<IndexMetadata>], no_master: Option<NoMaster>) -> Value {
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
    let mut all = Map::new();
    if let Some(no_master) = no_master {
        let block = json!({
            "description": "no master", "retryable": true, "disable_state_persistence": false,
            "levels": no_master.levels(),
        });
        all.insert("global".into(), json!({ "2": block }));
    }
    if !out.is_empty() {
        all.insert("indices".into(), Value::Object(out));
    }
    Value::Object(all)
}

pub(super) fn metadata(state: &ClusterState, indices: &[Arc<IndexMetadata>], flat: bool) -> Value {
    let mut shown = Map::new();
    for index in indices {
        let in_sync: Map<String, Value> =
            (0..index.number_of_shards).map(|s| (s.to_string(), json!(index.in_sync_of(s)))).collect();
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
            "last_committed_config": state.last_committed_config,
            "last_accepted_config": state.last_accepted_config,
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

/// The nodes.
pub(super) fn nodes_of(state: &ClusterState) -> Value {
    Value::Object(state.nodes.iter().map(|(id, node)| (id.to_string(), node_shown(node))).collect())
}

/// A node, without its id.
pub(in crate::rest) fn node_shown(node: &DiscoveryNode) -> Value {
    json!({
        "name": node.name,
        "ephemeral_id": node.ephemeral_id,
        "transport_address": node.transport_address,
        "attributes": node.attributes,
    })
}

/// A copy, as the routing table shows it.
pub(in crate::rest) fn copy_shown(index: &IndexMetadata, shard: u32, copy: &ShardRouting) -> Value {
    let mut out = json!({
        "state": copy.state.name(), "primary": copy.primary, "node": copy.node, "relocating_node": copy.relocating_node,
        "shard": shard, "index": index.name,
    });
    if let Some(id) = copy.allocation_id {
        out["allocation_id"] = json!({ "id": id });
    }
    if copy.active() {
        return out;
    }
    out["recovery_source"] = json!({ "type": copy.recovery_source.name() });
    if let Some(info) = copy.unassigned.as_ref().filter(|_| !copy.relocation_target()) {
        let mut own = json!({ "reason": info.reason.name(), "at": iso(info.at_ms) });
        if info.failed_allocations > 0 {
            own["failed_attempts"] = info.failed_allocations.into();
        }
        own["delayed"] = info.delayed_until_ms.is_some().into();
        if let Some(details) = &info.details {
            own["details"] = details.clone().into();
        }
        own["allocation_status"] = info.last_status.name().into();
        out["unassigned_info"] = own;
    }
    out
}

/// Every copy of every shard of an index.
pub(super) fn routing_of(state: &ClusterState, index: &IndexMetadata) -> Value {
    let groups = state.routing.get(&index.uuid).map_or(&[][..], |routing| &routing.shards);
    let shown = groups.iter().enumerate().map(|(shard, group)| {
        let copies: Vec<Value> = group.iter().map(|copy| copy_shown(index, shard as u32, copy)).collect();
        (shard.to_string(), Value::Array(copies))
    });
    Value::Object(shown.collect())
}

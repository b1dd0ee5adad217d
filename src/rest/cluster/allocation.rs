//! `_cluster/reroute` and `_cluster/allocation/explain`.

use ringdex_net::cluster::state::ClusterState;
use serde_json::{Map, Value, json};

use super::health::shard_counts;
use super::iso;
use super::state::routing_of;
use crate::backend::{ShardHealth, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::rest::indices::lifecycle::shard_id;
use crate::rest::indices::stats::allocation_id;
use crate::rest::params::{self, flag};
use crate::rest::request::{Request, Response};

/// `POST /_cluster/reroute`
pub async fn reroute(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let explain = flag(&request, "explain", false)?;
    let dry_run = flag(&request, "dry_run", false)?;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let commands = match body.get("commands") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(_) => return Err(params::parse_exception("[commands] must be an array")),
    };
    let state = backend.state();
    let mut explanations = Vec::new();
    for command in &commands {
        let Some((verb, inner)) = command.as_object().and_then(|m| m.iter().next()) else {
            return Err(params::parse_exception("a command must be an object with one key"));
        };
        explanations.push(explain_command(&state, verb, inner, explain || dry_run)?);
    }
    let node = backend.node();
    let attributes: Map<String, Value> = node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    let mut out = json!({
        "acknowledged": true,
        "state": {
            "cluster_uuid": state.cluster_uuid,
            "version": state.version,
            "state_uuid": state.state_uuid,
            "master_node": node.id,
            "nodes": { node.id.clone(): { "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": attributes } },
            "routing_table": { "indices": state.indices.values().map(|i| (i.name.clone(), json!({ "shards": routing_of(backend, i) }))).collect::<Map<_, _>>() },
        },
    });
    if explain {
        out["explanations"] = explanations.into();
    }
    Ok(Response::ok(out))
}

/// On one node no shard can go anywhere else: every command is answered with the reason.
fn explain_command(state: &ClusterState, verb: &str, inner: &Value, explained: bool) -> ApiResult<Value> {
    if !matches!(verb, "move" | "cancel" | "allocate_replica" | "allocate_stale_primary" | "allocate_empty_primary") {
        return Err(params::parse_exception(format!("Unknown AllocationCommand [{verb}]")));
    }
    let index = inner["index"].as_str().unwrap_or("");
    let known = state.indices.get(index).ok_or_else(|| ApiError::index_not_found(index))?;
    let shard = inner["shard"].as_u64().unwrap_or(0);
    let mut parameters = inner.clone();
    if verb == "cancel" && parameters.get("allow_primary").is_none() {
        parameters["allow_primary"] = false.into();
    }
    let text = if shard >= u64::from(known.number_of_shards) {
        format!("can't {verb} {shard}, failed to find it on node {}", inner["node"])
    } else {
        format!("[{verb}] on [{index}][{shard}] is not possible: no other node can take the shard")
    };
    if !explained {
        return Err(ApiError::illegal_argument(format!("[{verb}_allocation] {text}")));
    }
    Ok(json!({
        "command": verb,
        "parameters": parameters,
        "decisions": [{ "decider": format!("{verb}_allocation_command"), "decision": "NO", "explanation": text }],
    }))
}

/// `GET|POST /_cluster/allocation/explain`
pub async fn allocation_explain(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let state = backend.state();
    let node = backend.node();
    let (index, shard, primary) = match body.get("index").and_then(Value::as_str) {
        Some(name) => {
            let index = state.indices.get(name).ok_or_else(|| ApiError::index_not_found(name))?.clone();
            let shard = body
                .get("shard")
                .and_then(Value::as_u64)
                .ok_or_else(|| ApiError::validation(&["shard must be specified".to_owned()]))?;
            let primary = body
                .get("primary")
                .map(params::boolean)
                .transpose()?
                .ok_or_else(|| ApiError::validation(&["primary must be specified".to_owned()]))?;
            (index, shard as u32, primary)
        }
        None => {
            let found = state.indices.values().find_map(|index| {
                (0..index.number_of_shards).find_map(|shard| {
                    let counts = shard_counts(backend, index, shard);
                    (counts.unassigned > 0).then(|| (index.clone(), shard, counts.active_primaries == 0))
                })
            });
            found.ok_or_else(|| {
                ApiError::illegal_argument("unable to find any unassigned shards to explain [ClusterAllocationExplainRequest[useAnyUnassignedShard=true,includeYesDecisions?=false]")
            })?
        }
    };
    if shard >= index.number_of_shards {
        return Err(ApiError::illegal_argument(format!("no such shard [{shard}] in index [{}]", index.name)));
    }
    let counts = shard_counts(backend, &index, shard);
    let mut out = json!({ "index": index.name, "shard": shard, "primary": primary });
    if primary && counts.active_primaries == 1 {
        out["current_state"] = "started".into();
        out["current_node"] = json!({ "id": node.id, "name": node.name, "transport_address": node.transport_address });
        out["can_remain_on_current_node"] = "yes".into();
        out["can_rebalance_cluster"] = "yes".into();
        out["can_rebalance_to_other_node"] = "no".into();
        out["rebalance_explanation"] =
            "cannot rebalance as no target node exists that can both allocate this shard and improve the cluster balance".into();
        return Ok(Response::ok(out));
    }
    if !primary && index.number_of_replicas == 0 {
        return Err(ApiError::illegal_argument("unable to find a replica shard to explain: the index has no replicas"));
    }
    out["current_state"] = "unassigned".into();
    out["unassigned_info"] = json!({
        "reason": if primary { "ALLOCATION_FAILED" } else { "INDEX_CREATED" },
        "at": iso(index.creation_date),
        "last_allocation_status": if primary { "no_valid_shard_copy" } else { "no_attempt" },
    });
    out["can_allocate"] = if primary { "no_valid_shard_copy" } else { "no" }.into();
    out["allocate_explanation"] = if primary {
        match backend.shard_health(&shard_id(&index, shard)) {
            ShardHealth::Failed(why) => format!("cannot allocate because the only copy of the shard failed: {why}"),
            _ => "cannot allocate because a previous copy of the primary shard existed but can no longer be found on the nodes in the cluster".to_owned(),
        }
    } else {
        "cannot allocate because allocation is not permitted to any of the nodes".to_owned()
    }
    .into();
    let copy = format!(
        "a copy of this shard is already allocated to this node [[{}][{shard}], node[{}], [P], s[STARTED], a[id={}]]",
        index.name,
        node.id,
        allocation_id(&index, shard)
    );
    out["node_allocation_decisions"] = json!([{
        "node_id": node.id, "node_name": node.name, "transport_address": node.transport_address, "node_decision": "no",
        "deciders": [{ "decider": "same_shard", "decision": "NO", "explanation": copy }],
    }]);
    Ok(Response::ok(out))
}

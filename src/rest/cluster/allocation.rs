//! `_cluster/reroute` and `_cluster/allocation/explain`.

use ringdex_net::cluster::allocation::command::{Command, Verb, reroute_by_hand};
use ringdex_net::cluster::allocation::explain::{Explanation, NodeOutlook, Outlook, explain, first_missing};
use ringdex_net::cluster::allocation::{AllocationInputs, Decision, Verdict};
use ringdex_net::cluster::routing::{CopyState, ShardRouting};
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode};
use serde_json::{Map, Value, json};

use super::iso;
use super::state::{nodes_of, routing_of};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::rest::params::{self, flag};
use crate::rest::passed::{MASTER_WAIT_MS, by_master, master_timeout};
use crate::rest::request::{Request, Response};

/// `POST /_cluster/reroute`
pub async fn reroute(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    // Only the master knows what is on the disks.
    let find_ms = master_timeout(&request)?;
    if let Some(answer) = by_master(backend, &mut request, find_ms, MASTER_WAIT_MS).await? {
        return Ok(answer);
    }
    let wants_explanations = flag(&request, "explain", false)?;
    let dry_run = flag(&request, "dry_run", false)?;
    let retry_failed = flag(&request, "retry_failed", false)?;
    let explained = wants_explanations || dry_run;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let commands = match body.get("commands") {
        None => &[][..],
        Some(Value::Array(list)) => list,
        Some(_) => return Err(params::parse_exception("[commands] must be an array")),
    };
    let commands = commands.iter().map(parse).collect::<ApiResult<Vec<Command>>>()?;
    let inputs = backend.allocation_inputs().await;
    let mut state = backend.state();
    for command in &commands {
        if !state.indices.contains_key(&command.index) {
            return Err(ApiError::index_not_found(&command.index));
        }
    }
    let planned =
        reroute_by_hand(&state, &inputs, &commands, explained, retry_failed).map_err(ApiError::illegal_argument)?;
    let explanations: Vec<Value> =
        commands.iter().zip(&planned.explanations).map(|(command, list)| explanation(command, list)).collect();
    if dry_run {
        state = planned.state.map_or(state, std::sync::Arc::new);
    } else if planned.state.is_some() {
        let update = move |state: &ClusterState| {
            reroute_by_hand(state, &inputs, &commands, explained, retry_failed)
                .map(|done| done.state)
                .map_err(ApiError::illegal_argument)
        };
        state = backend.update_state("cluster_reroute (api)", Box::new(update)).await?;
    }
    let tables: Map<String, Value> = state
        .indices
        .values()
        .map(|index| (index.name.clone(), json!({ "shards": routing_of(&state, index) })))
        .collect();
    let mut out = json!({
        "acknowledged": true,
        "state": {
            "cluster_uuid": state.cluster_uuid,
            "version": state.version,
            "state_uuid": state.state_uuid,
            "master_node": state.master,
            "nodes": nodes_of(&state),
            "routing_table": { "indices": tables },
        },
    });
    if wants_explanations {
        out["explanations"] = explanations.into();
    }
    Ok(Response::ok(out))
}

fn parse(command: &Value) -> ApiResult<Command> {
    let Some((name, inner)) = command.as_object().and_then(|m| m.iter().next()) else {
        return Err(params::parse_exception("a command must be an object with one key"));
    };
    let is_allocation = name.starts_with("allocate_");
    let missing = |field: &str| {
        if is_allocation {
            let more = if field == "shard" { " and non-negative" } else { "" };
            ApiError::illegal_argument(format!("Argument [{field}] must be defined{more}"))
        } else {
            params::parse_exception(format!("[{name}] command missing the {field} parameter"))
        }
    };
    let text = |field: &str| inner[field].as_str().map(str::to_owned).ok_or_else(|| missing(field));
    let on = |field: &str| inner.get(field).map(params::boolean).transpose().map(|b| b.unwrap_or(false));
    let verb = match name.as_str() {
        "move" => Verb::Move { to: text("to_node")? },
        "cancel" => Verb::Cancel { allow_primary: on("allow_primary")? },
        "allocate_replica" => Verb::AllocateReplica,
        "allocate_stale_primary" => Verb::AllocateStalePrimary { accept_data_loss: on("accept_data_loss")? },
        "allocate_empty_primary" => Verb::AllocateEmptyPrimary { accept_data_loss: on("accept_data_loss")? },
        _ => return Err(params::parse_exception(format!("Unknown AllocationCommand [{name}]"))),
    };
    let shard = match &inner["shard"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    Ok(Command {
        index: text("index")?,
        shard: shard.and_then(|n| n.try_into().ok()).ok_or_else(|| missing("shard"))?,
        node: text(if name == "move" { "from_node" } else { "node" })?,
        verb,
    })
}

fn explanation(command: &Command, decisions: &[Decision]) -> Value {
    let mut parameters = json!({ "index": command.index, "shard": command.shard });
    match &command.verb {
        Verb::Move { to } => {
            parameters["from_node"] = command.node.clone().into();
            parameters["to_node"] = to.clone().into();
        }
        verb => {
            parameters["node"] = command.node.clone().into();
            match verb {
                Verb::Cancel { allow_primary } => parameters["allow_primary"] = (*allow_primary).into(),
                Verb::AllocateStalePrimary { accept_data_loss } | Verb::AllocateEmptyPrimary { accept_data_loss } => {
                    parameters["accept_data_loss"] = (*accept_data_loss).into();
                }
                _ => {}
            }
        }
    }
    json!({ "command": command.verb.name(), "parameters": parameters, "decisions": shown(decisions, true) })
}

fn shown(decisions: &[Decision], yes: bool) -> Value {
    let listed = decisions
        .iter()
        .filter(|d| yes || d.verdict != Verdict::Yes)
        .map(|d| json!({ "decider": d.decider, "decision": d.verdict.name(), "explanation": d.explanation }));
    Value::Array(listed.collect())
}

/// `GET|POST /_cluster/allocation/explain`
pub async fn allocation_explain(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let find_ms = master_timeout(&request)?;
    if let Some(answer) = by_master(backend, &mut request, find_ms, MASTER_WAIT_MS).await? {
        return Ok(answer);
    }
    let yes = flag(&request, "include_yes_decisions", false)?;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let state = backend.state();
    let mut node = None;
    let (index, shard, primary) = match body.get("index").and_then(Value::as_str) {
        Some(index) => {
            let known = state.indices.get(index).ok_or_else(|| ApiError::index_not_found(index))?;
            let shard = body.get("shard").and_then(Value::as_u64);
            let shard = shard.ok_or_else(|| ApiError::validation(&["shard must be specified".to_owned()]))?;
            let primary = body.get("primary").map(params::boolean).transpose()?;
            let primary = primary.ok_or_else(|| ApiError::validation(&["primary must be specified".to_owned()]))?;
            if shard >= known.number_of_shards.into() {
                return Err(ApiError::illegal_argument(format!("no such shard [{shard}] in index [{index}]")));
            }
            if let Some(name) = body.get("current_node").and_then(Value::as_str) {
                let found = state.nodes.values().find(|node| node.name == name || node.id.to_string() == name);
                let found = found.ok_or_else(|| {
                    ApiError::illegal_argument(format!("unable to find node [{name}] in the cluster"))
                })?;
                node = Some(found.id);
            }
            (index.to_owned(), shard as u32, primary)
        }
        None => first_missing(&state).ok_or_else(|| {
            ApiError::illegal_argument(
                "unable to find any unassigned shards to explain [ClusterAllocationExplainRequest[useAnyUnassignedShard=true,includeYesDecisions?=false]",
            )
        })?,
    };
    let mut inputs: AllocationInputs = backend.allocation_inputs().await;
    if inputs.stored_copies.is_empty() {
        // Nobody has told this node what is on the disks: the deciders can still be asked.
        inputs.stored_copies = state.nodes.keys().map(|id| (*id, std::collections::BTreeMap::new())).collect();
    }
    let found = explain(&state, &inputs, &index, shard, primary, node).ok_or_else(|| {
        ApiError::illegal_argument(if primary {
            format!("unable to find a primary shard to explain [{index}][{shard}]")
        } else {
            "unable to find a replica shard to explain: the index has no replicas".to_owned()
        })
    })?;
    let mut out = Map::new();
    out.insert("index".into(), index.into());
    out.insert("shard".into(), shard.into());
    out.insert("primary".into(), primary.into());
    out.insert("current_state".into(), found.copy.state.name().to_ascii_lowercase().into());
    if found.copy.state != CopyState::Started
        && let Some(info) = unassigned_info(&found.copy)
    {
        out.insert("unassigned_info".into(), info);
    }
    if let Some(node) = found.copy.node.and_then(|id| state.nodes.get(&id)) {
        out.insert("current_node".into(), node_shown(node));
    }
    out.extend(outlook(&state, &found));
    let nodes: Vec<Value> = found.nodes.iter().map(|node| node_outlook(&state, node, yes)).collect();
    if !nodes.is_empty() {
        out.insert("node_allocation_decisions".into(), nodes.into());
    }
    Ok(Response::ok(Value::Object(out)))
}

fn node_shown(node: &DiscoveryNode) -> Value {
    let mut out = json!({ "id": node.id, "name": node.name, "transport_address": node.transport_address });
    if !node.attributes.is_empty() {
        out["attributes"] = json!(node.attributes);
    }
    out
}

fn unassigned_info(copy: &ShardRouting) -> Option<Value> {
    let info = copy.unassigned.as_ref()?;
    let mut out = json!({ "reason": info.reason.name(), "at": iso(info.at_ms) });
    if info.failed_allocations > 0 {
        out["failed_allocation_attempts"] = info.failed_allocations.into();
    }
    if let Some(details) = &info.details {
        out["details"] = details.clone().into();
    }
    out["last_allocation_status"] = info.last_status.name().into();
    Some(out)
}

fn outlook(state: &ClusterState, found: &Explanation) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
    let target = match &found.outlook {
        Outlook::Busy { explanation } => {
            put("explanation", explanation.clone().into());
            None
        }
        Outlook::Missing { can_allocate, explanation, target, delay_ms } => {
            put("can_allocate", (*can_allocate).into());
            put("allocate_explanation", explanation.clone().into());
            if let Some((configured, remaining)) = delay_ms {
                put("configured_delay_in_millis", (*configured).into());
                put("remaining_delay_in_millis", (*remaining).into());
            }
            *target
        }
        Outlook::Leaves { can_remain, can_move, explanation, target } => {
            put("can_remain_on_current_node", "no".into());
            put("can_remain_decisions", shown(can_remain, false));
            put("can_move_to_other_node", (*can_move).into());
            put("move_explanation", (*explanation).into());
            *target
        }
        Outlook::Stays { can_rebalance, cluster, to_other, explanation, target } => {
            put("can_remain_on_current_node", "yes".into());
            let word = if *can_rebalance == Verdict::Throttle {
                "throttled".into()
            } else {
                can_rebalance.name().to_ascii_lowercase()
            };
            put("can_rebalance_cluster", word.into());
            if !cluster.is_empty() {
                put("can_rebalance_cluster_decisions", shown(cluster, false));
            }
            put("can_rebalance_to_other_node", (*to_other).into());
            put("rebalance_explanation", explanation.clone().into());
            *target
        }
    };
    if let Some(node) = target.and_then(|id| state.nodes.get(&id)) {
        put("target_node", node_shown(node));
    }
    out
}

fn node_outlook(state: &ClusterState, node: &NodeOutlook, yes: bool) -> Value {
    let mut out = json!({ "node_id": node.node });
    if let Some(known) = state.nodes.get(&node.node) {
        out["node_name"] = known.name.clone().into();
        out["transport_address"] = known.transport_address.clone().into();
        if !known.attributes.is_empty() {
            out["node_attributes"] = json!(known.attributes);
        }
    }
    out["node_decision"] = node.decision.into();
    match node.store {
        None => {}
        Some(None) => out["store"] = json!({ "found": false }),
        Some(Some((id, in_sync))) => out["store"] = json!({ "in_sync": in_sync, "allocation_id": id }),
    }
    if let Some(rank) = node.weight_ranking {
        out["weight_ranking"] = rank.into();
    }
    let deciders = shown(&node.deciders, yes);
    if deciders.as_array().is_some_and(|list| !list.is_empty()) {
        out["deciders"] = deciders;
    }
    out
}

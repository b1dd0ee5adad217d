//! `_cluster/health`, and the health of indices and shards.

use std::sync::Arc;

use ringdex_net::cluster::health::index_health;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::pending::longest_wait;
use crate::backend::{Priority, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::params::{self, flag, indices_options, time};
use crate::rest::passed::{MASTER_WAIT_MS, by_master, master_timeout};
use crate::rest::request::{Request, Response};
use crate::rest::table::nanos_text;

pub use ringdex_net::cluster::health::{Counts, Status};

fn parse_status(text: &str) -> ApiResult<Status> {
    match text.to_ascii_lowercase().as_str() {
        "green" => Ok(Status::Green),
        "yellow" => Ok(Status::Yellow),
        "red" => Ok(Status::Red),
        _ => Err(ApiError::illegal_argument(format!("unknown cluster health status [{text}]"))),
    }
}

fn shown(counts: &Counts) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "status": counts.status.name(),
        "active_primary_shards": counts.active_primaries,
        "active_shards": counts.active,
        "relocating_shards": counts.relocating,
        "initializing_shards": counts.initializing,
        "unassigned_shards": counts.unassigned,
    }) else {
        unreachable!("an object literal")
    };
    map
}

struct Wanted {
    status: Option<Status>,
    nodes: Option<String>,
    active: Option<params::ActiveShards>,
    no_initializing: bool,
    no_relocating: bool,
    indices: Vec<String>,
}

impl Wanted {
    fn is_met(&self, indices: &[Arc<IndexMetadata>], missing: bool, counts: &Counts, nodes: usize) -> ApiResult<bool> {
        if missing {
            return Ok(false);
        }
        if self.status.is_some_and(|status| counts.status > status) {
            return Ok(false);
        }
        if self.no_initializing && counts.initializing > 0 {
            return Ok(false);
        }
        if self.no_relocating && counts.relocating > 0 {
            return Ok(false);
        }
        let copies: u32 = indices.iter().map(|i| i.number_of_shards * (1 + i.number_of_replicas)).sum();
        let enough = match self.active {
            None | Some(params::ActiveShards::Default | params::ActiveShards::Quorum) => true,
            Some(params::ActiveShards::All) => counts.active == copies,
            Some(params::ActiveShards::Count(n)) => counts.active >= n,
        };
        Ok(enough && self.nodes.as_deref().map_or(Ok(true), |text| nodes_match(text, nodes as i64))?)
    }
}

/// `3`, `>=3`, `ge(3)`, ...
fn nodes_match(text: &str, nodes: i64) -> ApiResult<bool> {
    let (op, number) = if let Some((op, rest)) = text.split_once('(') {
        (op, rest.trim_end_matches(')'))
    } else if let Some(rest) = text.strip_prefix(">=") {
        ("ge", rest)
    } else if let Some(rest) = text.strip_prefix("<=") {
        ("le", rest)
    } else if let Some(rest) = text.strip_prefix('>') {
        ("gt", rest)
    } else if let Some(rest) = text.strip_prefix('<') {
        ("lt", rest)
    } else {
        ("eq", text)
    };
    let number: i64 =
        number.trim().parse().map_err(|_| ApiError::illegal_argument(format!("For input string: \"{number}\"")))?;
    Ok(match op {
        "ge" => nodes >= number,
        "le" => nodes <= number,
        "gt" => nodes > number,
        "lt" => nodes < number,
        _ => nodes == number,
    })
}

/// `wait_for_events`
fn parse_priority(text: &str) -> ApiResult<Priority> {
    let word = text.to_uppercase();
    Priority::ALL.into_iter().find(|priority| priority.name() == word).ok_or_else(|| {
        let reason = format!("No enum constant org.elasticsearch.common.Priority.{word}");
        ApiError::illegal_argument(reason)
    })
}

/// `GET /_cluster/health[/{index}]`
pub async fn health(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let wanted = Wanted {
        status: request.param("wait_for_status").map(parse_status).transpose()?,
        nodes: request.param("wait_for_nodes").map(str::to_owned),
        active: request.param("wait_for_active_shards").map(params::parse_active_shards).transpose()?,
        no_initializing: flag(&request, "wait_for_no_initializing_shards", false)?,
        no_relocating: flag(&request, "wait_for_no_relocating_shards", false)?,
        indices: params::indices(&request),
    };
    if let Some(text) = &wanted.nodes {
        nodes_match(text, 0)?;
    }
    let level = request.param("level").unwrap_or("cluster").to_owned();
    if !matches!(level.as_str(), "cluster" | "indices" | "shards") {
        return Err(ApiError::illegal_argument(format!(
            "level parameter must be one of [cluster] or [indices] or [shards] but was [{level}]"
        )));
    }
    let events = request.param("wait_for_events").map(parse_priority).transpose()?;
    let timeout = time(&request, "timeout")?;
    // A node that was cut off would say what was so before.
    if !flag(&request, "local", false)? {
        let find_ms = match (request.param("master_timeout").is_some(), timeout) {
            (false, Some(timeout)) => timeout,
            _ => master_timeout(&request)?,
        };
        let wait_ms = (timeout.unwrap_or(0).max(0) as u64).saturating_add(MASTER_WAIT_MS);
        if let Some(answer) = by_master(backend, &mut request, find_ms, wait_ms).await? {
            return Ok(answer);
        }
    }
    let timeout = timeout.unwrap_or(30_000);
    let start = backend.monotonic_ns();
    // Only what was there when the request came: more may come for ever.
    let awaited = match events {
        None => Vec::new(),
        Some(least) => {
            let pending = backend.pending_updates().await.into_iter();
            pending.filter(|update| update.priority <= least).map(|update| update.number).collect()
        }
    };
    let (state, indices, counts, missing, pending, timed_out) = loop {
        let pending = backend.pending_updates().await;
        let state = backend.state();
        let indices = resolve(&state, &wanted.indices, options, backend.now_ms())?;
        let missing = wanted.indices.iter().any(|n| {
            !n.contains('*')
                && n != "_all"
                && !state.indices.contains_key(n)
                && !crate::metadata::resolve::is_alias(&state, n)
        });
        let mut counts = Counts::default();
        for index in &indices {
            counts.add(&index_health(&state, index).counts);
        }
        let met = wanted.is_met(&indices, missing, &counts, state.nodes.len())?
            && !pending.iter().any(|update| awaited.contains(&update.number));
        let waited = ((backend.monotonic_ns() - start) / 1_000_000) as i64;
        if met || waited >= timeout {
            break (state, indices, counts, missing, pending, !met);
        }
        backend.sleep_ms(10.min((timeout - waited).max(1)) as u64).await;
    };
    let mut out = Map::new();
    out.insert("cluster_name".into(), state.cluster_name.clone().into());
    let mut own = shown(&counts);
    let status = if missing { Status::Red } else { counts.status };
    out.insert("status".into(), status.name().into());
    own.shift_remove("status");
    out.insert("timed_out".into(), timed_out.into());
    let data_nodes = state.nodes.values().filter(|node| node.is_data()).count();
    out.insert("number_of_nodes".into(), state.nodes.len().into());
    out.insert("number_of_data_nodes".into(), data_nodes.into());
    out.extend(own);
    let percent = counts.active_percent();
    let longest_ms = longest_wait(&pending);
    for (key, value) in [
        ("delayed_unassigned_shards", json!(counts.delayed)),
        ("number_of_pending_tasks", json!(pending.len())),
        ("number_of_in_flight_fetch", json!(0)),
        ("task_max_waiting_in_queue_millis", json!(longest_ms)),
        ("active_shards_percent_as_number", json!(percent)),
    ] {
        out.insert(key.into(), value);
    }
    if flag(&request, "human", false)? {
        out.insert("task_max_waiting_in_queue".into(), nanos_text(longest_ms * 1_000_000).into());
        out.insert("active_shards_percent".into(), format!("{percent:.1}%").into());
    }
    if level != "cluster" {
        out.insert("indices".into(), indices_level(&state, &indices, level == "shards"));
    }
    Ok(Response::json(if timed_out { 408 } else { 200 }, Value::Object(out)))
}

fn indices_level(state: &ClusterState, indices: &[Arc<IndexMetadata>], shards: bool) -> Value {
    let mut out = Map::new();
    for index in indices {
        let mut own = Map::new();
        let health = index_health(state, index);
        own.insert("status".into(), health.counts.status.name().into());
        own.insert("number_of_shards".into(), index.number_of_shards.into());
        own.insert("number_of_replicas".into(), index.number_of_replicas.into());
        own.extend(shown(&health.counts));
        if shards {
            let mut list = Map::new();
            for (shard, counts) in health.shards.iter().enumerate() {
                let mut one = shown(counts);
                one.shift_remove("active_primary_shards");
                one.insert("primary_active".into(), (counts.active_primaries == 1).into());
                list.insert(shard.to_string(), Value::Object(one));
            }
            own.insert("shards".into(), Value::Object(list));
        }
        out.insert(index.name.clone(), Value::Object(own));
    }
    Value::Object(out)
}

//! `_cluster/health`, and the health of indices and shards.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use crate::backend::{ShardHealth, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::indices::lifecycle::shard_id;
use crate::rest::params::{self, flag, indices_options, time};
use crate::rest::request::{Request, Response};

/// How well shards, indices, the cluster are; the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Every copy is active.
    #[default]
    Green,
    /// Every primary is active.
    Yellow,
    /// A primary is not.
    Red,
}

impl Status {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Green => "green",
            Status::Yellow => "yellow",
            Status::Red => "red",
        }
    }

    fn parse(text: &str) -> ApiResult<Status> {
        match text.to_ascii_lowercase().as_str() {
            "green" => Ok(Status::Green),
            "yellow" => Ok(Status::Yellow),
            "red" => Ok(Status::Red),
            _ => Err(ApiError::illegal_argument(format!("unknown cluster health status [{text}]"))),
        }
    }
}

/// Counts of shard copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// How well.
    pub status: Status,
    /// Primaries that take requests.
    pub active_primaries: u32,
    /// Copies that do.
    pub active: u32,
    /// Copies being recovered.
    pub initializing: u32,
    /// Copies that are nowhere.
    pub unassigned: u32,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.status = self.status.max(other.status);
        self.active_primaries += other.active_primaries;
        self.active += other.active;
        self.initializing += other.initializing;
        self.unassigned += other.unassigned;
    }
}

/// The copies of one shard. This node has the primary; replicas have no other node to go to.
#[must_use]
pub fn shard_counts(backend: &SharedBackend, index: &IndexMetadata, shard: u32) -> Counts {
    let mut counts = Counts { unassigned: index.number_of_replicas, ..Counts::default() };
    // The primary of a closed index is on the disk, ready to be opened.
    let health = if index.open { backend.shard_health(&shard_id(index, shard)) } else { ShardHealth::Started };
    match health {
        ShardHealth::Started => {
            (counts.active_primaries, counts.active) = (1, 1);
            counts.status = if index.number_of_replicas > 0 { Status::Yellow } else { Status::Green };
        }
        ShardHealth::Recovering => {
            counts.initializing = 1;
            counts.status = Status::Red;
        }
        ShardHealth::Failed(_) | ShardHealth::Missing => {
            counts.unassigned += 1;
            counts.status = Status::Red;
        }
    }
    counts
}

/// The copies of one index.
#[must_use]
pub fn index_counts(backend: &SharedBackend, index: &IndexMetadata) -> Counts {
    let mut counts = Counts::default();
    for shard in 0..index.number_of_shards {
        counts.add(shard_counts(backend, index, shard));
    }
    counts
}

pub(super) fn shown(counts: &Counts) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "status": counts.status.name(),
        "active_primary_shards": counts.active_primaries,
        "active_shards": counts.active,
        "relocating_shards": 0,
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
    indices: Vec<String>,
}

impl Wanted {
    fn is_met(&self, indices: &[Arc<IndexMetadata>], missing: bool, counts: &Counts) -> ApiResult<bool> {
        if missing {
            return Ok(false);
        }
        if self.status.is_some_and(|status| counts.status > status) {
            return Ok(false);
        }
        if self.no_initializing && counts.initializing > 0 {
            return Ok(false);
        }
        let copies: u32 = indices.iter().map(|i| i.number_of_shards * (1 + i.number_of_replicas)).sum();
        let enough = match self.active {
            None | Some(params::ActiveShards::Default) => true,
            Some(params::ActiveShards::All) => counts.active == copies,
            Some(params::ActiveShards::Count(n)) => counts.active >= n,
        };
        Ok(enough && self.nodes.as_deref().map_or(Ok(true), |text| nodes_match(text, 1))?)
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

/// `GET /_cluster/health[/{index}]`
pub async fn health(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let wanted = Wanted {
        status: request.param("wait_for_status").map(Status::parse).transpose()?,
        nodes: request.param("wait_for_nodes").map(str::to_owned),
        active: request.param("wait_for_active_shards").map(params::parse_active_shards).transpose()?,
        no_initializing: flag(&request, "wait_for_no_initializing_shards", false)?,
        indices: params::indices(&request),
    };
    flag(&request, "wait_for_no_relocating_shards", false)?;
    let level = request.param("level").unwrap_or("cluster").to_owned();
    if !matches!(level.as_str(), "cluster" | "indices" | "shards") {
        return Err(ApiError::illegal_argument(format!(
            "level parameter must be one of [cluster] or [indices] or [shards] but was [{level}]"
        )));
    }
    if let Some(word) = request.param("wait_for_events")
        && !matches!(word.to_ascii_lowercase().as_str(), "immediate" | "urgent" | "high" | "normal" | "low" | "languid")
    {
        return Err(ApiError::illegal_argument(format!(
            "No enum constant org.elasticsearch.common.Priority.{}",
            word.to_uppercase()
        )));
    }
    let timeout = time(&request, "timeout")?.unwrap_or(30_000);
    let start = backend.monotonic_ns();
    let (state, indices, counts, missing, timed_out) = loop {
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
            counts.add(index_counts(backend, index));
        }
        let met = wanted.is_met(&indices, missing, &counts)?;
        let waited = ((backend.monotonic_ns() - start) / 1_000_000) as i64;
        if met || waited >= timeout {
            break (state, indices, counts, missing, !met);
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
    out.insert("number_of_nodes".into(), 1.into());
    out.insert("number_of_data_nodes".into(), 1.into());
    out.extend(own);
    let all = counts.active + counts.initializing + counts.unassigned;
    let percent = if all == 0 { 100.0 } else { f64::from(counts.active) * 100.0 / f64::from(all) };
    for (key, value) in [
        ("delayed_unassigned_shards", json!(0)),
        ("number_of_pending_tasks", json!(0)),
        ("number_of_in_flight_fetch", json!(0)),
        ("task_max_waiting_in_queue_millis", json!(0)),
        ("active_shards_percent_as_number", json!(percent)),
    ] {
        out.insert(key.into(), value);
    }
    if flag(&request, "human", false)? {
        out.insert("task_max_waiting_in_queue".into(), "0s".into());
        out.insert("active_shards_percent".into(), format!("{percent:.1}%").into());
    }
    if level != "cluster" {
        out.insert("indices".into(), indices_level(backend, &indices, level == "shards"));
    }
    Ok(Response::json(if timed_out { 408 } else { 200 }, Value::Object(out)))
}

fn indices_level(backend: &SharedBackend, indices: &[Arc<IndexMetadata>], shards: bool) -> Value {
    let mut out = Map::new();
    for index in indices {
        let mut own = Map::new();
        let counts = index_counts(backend, index);
        own.insert("status".into(), counts.status.name().into());
        own.insert("number_of_shards".into(), index.number_of_shards.into());
        own.insert("number_of_replicas".into(), index.number_of_replicas.into());
        own.extend(shown(&counts));
        if shards {
            let mut list = Map::new();
            for shard in 0..index.number_of_shards {
                let counts = shard_counts(backend, index, shard);
                let mut one = shown(&counts);
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

//! `GET /_latency[/{index}[/{shard}]]`: how long every stage took, as whole histograms, per node and core, and per shard.
//!
//! `?interval=NAME` reads what came since the reader of that name looked last; `POST /_latency/_reset` begins anew for
//! everyone else. `?hdr=true` adds each histogram whole, in HdrHistogram's compressed encoding, to be added over nodes.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::indices::shards_header;
use super::indices::upkeep::{broadcast, primaries, targets};
use super::nodes::{header, this_node};
use super::params::flag;
use super::passed::{Others, PassedOn, gather, is_passed_on};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::shard::message::{ShardRequest, ShardResponse};
use crate::stats::Snapshot;
use crate::stats::interval::Reading;

/// Bytes of a reader's name.
const NAME_MAX: usize = 64;

fn reading(request: &Request) -> ApiResult<Reading> {
    match request.param("interval") {
        None => Ok(Reading::SinceReset),
        Some(name) if !name.is_empty() && name.len() <= NAME_MAX => Ok(Reading::Interval(name.to_owned())),
        Some(_) => Err(ApiError::illegal_argument(format!(
            "[interval] must name its reader, with 1 to {NAME_MAX} bytes, like [interval=dashboard]"
        ))),
    }
}

fn shown(snapshot: &Snapshot, hdr: bool) -> Value {
    let mut out = json!({ "stages": snapshot.to_json() });
    if hdr {
        out["hdr"] = snapshot.to_hdr();
    }
    out
}

/// `GET /_latency[?nodes=...]`
pub async fn node(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let hdr = flag(&request, "hdr", false)?;
    let reading = reading(&request)?;
    let mut params = request.params.clone();
    params.retain(|(name, _)| ["interval", "hdr"].contains(&name.as_str()));
    answer(backend, &request, reading, hdr, &PassedOn::get(&["_latency"], params)).await
}

/// What the nodes that the parameter `nodes` means say.
async fn answer(
    backend: &SharedBackend,
    request: &Request,
    reading: Reading,
    hdr: bool,
    call: &PassedOn,
) -> ApiResult<Response> {
    let expression = request.param("nodes");
    let Others { mut nodes, failures } = gather(backend, request, expression, call).await;
    if let Some(own) = this_node(backend, expression) {
        nodes.insert(own.id, of_node(backend, reading, hdr).await);
    }
    let header = header(nodes.len(), failures);
    Ok(Response::ok(json!({ "_nodes": header, "cluster_name": backend.state().cluster_name, "nodes": nodes })))
}

pub(super) async fn of_node(backend: &SharedBackend, reading: Reading, hdr: bool) -> Value {
    let cores = backend.latency(reading).await;
    let mut sum = Snapshot::default();
    cores.iter().for_each(|(_, core)| sum.add(core));
    let mut out = shown(&sum, hdr);
    out["node"] = backend.node().id.as_str().into();
    out["name"] = backend.node().name.as_str().into();
    let per_core = cores.iter().map(|(number, core)| {
        let mut out = shown(core, hdr);
        out["core"] = (*number).into();
        out
    });
    out["cores"] = per_core.collect();
    out
}

/// `POST /_latency/_reset`: answers what was recorded until now.
pub async fn reset(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    if !is_passed_on(&request) {
        let state = backend.state();
        let open: Vec<Arc<IndexMetadata>> = state.indices.values().filter(|i| i.open).cloned().collect();
        broadcast(backend, &open, &ShardRequest::Latency(Reading::Reset)).await;
    }
    answer(backend, &request, Reading::Reset, false, &PassedOn::post(&["_latency", "_reset"], Vec::new())).await
}

/// `GET /_latency/{index}[/{shard}]`
pub async fn indices(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let hdr = flag(&request, "hdr", false)?;
    let reading = reading(&request)?;
    let only = match request.param("shard") {
        None => None,
        Some(text) => Some(text.parse::<u32>().map_err(|_| {
            ApiError::illegal_argument(format!("[shard] must be the number of a shard, but was [{text}]"))
        })?),
    };
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let (answers, failures) = broadcast(backend, &indices, &ShardRequest::Latency(reading)).await;
    let mut out = Map::new();
    for index in &indices {
        let mut sum = Snapshot::default();
        let mut shards = Map::new();
        for (_, shard, answer) in
            answers.iter().filter(|(i, shard, _)| i.name == index.name && only.is_none_or(|only| only == *shard))
        {
            if let ShardResponse::Latency { core, snapshot } = answer {
                sum.add(snapshot);
                let mut one = shown(snapshot, hdr);
                one["core"] = (*core).into();
                shards.insert(shard.to_string(), one);
            }
        }
        if shards.is_empty()
            && let Some(shard) = only
            && shard >= index.number_of_shards
        {
            let reason = format!("no such shard [{}][{shard}]", index.name);
            return Err(ApiError::new(404, "shard_not_found_exception", reason).with("index", index.name.as_str()));
        }
        let mut one = shown(&sum, hdr);
        one["shards"] = Value::Object(shards);
        out.insert(index.name.clone(), one);
    }
    let shards = shards_header(primaries(&indices), answers.len(), failures);
    Ok(Response::ok(json!({ "_shards": shards, "indices": out })))
}

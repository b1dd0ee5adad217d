//! `_recovery`, `_shard_stores`: what copies were made from, and where there are any.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::health::shard_health;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::routing::RecoverySource;
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata, host_of};
use serde_json::{Map, Value, json};

use super::copies::{OfCopy, gather, gather_recoveries};
use super::upkeep::targets;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::IndicesOptions;
use crate::rest::cluster::{iso, node_shown};
use crate::rest::params::{self, flag};
use crate::rest::passed::{MASTER_WAIT_MS, by_master, master_timeout};
use crate::rest::request::{Request, Response};
use crate::rest::table::{bytes_text, nanos_text};
use crate::shard::message::{PeerRecovery, RecoveryStage, ShardStats};

/// How a copy came to be, or is coming to be.
#[derive(Clone, Debug)]
struct Recovery {
    index: Arc<IndexMetadata>,
    shard: u32,
    primary: bool,
    /// `PEER`, `EXISTING_STORE`, `EMPTY_STORE`
    kind: &'static str,
    /// Where it is.
    target: Arc<DiscoveryNode>,
    /// Beginning and end (or now), in milliseconds since 1970. Of a recovery from the disk only the beginning is known.
    times: (i64, i64),
    /// Operations that were replayed.
    operations: u64,
    stage: RecoveryStage,
    /// What came from its primary, if it was made from that.
    peer: Option<PeerRecovery>,
}

impl Recovery {
    /// Of a copy in service.
    fn ended(backend: &SharedBackend, target: &Arc<DiscoveryNode>, of: &OfCopy<ShardStats>) -> Recovery {
        let peer = of.told.recovery.as_deref().cloned();
        let replayed = of.told.recovered_operations;
        // When other nodes have started is not known here.
        let started = if target.id.to_string() == backend.node().id { backend.node().start_ms } else { 0 };
        let created = of.index.creation_date;
        let at = started.max(created);
        let kind = match &peer {
            Some(_) => "PEER",
            None if replayed > 0 || started > created => "EXISTING_STORE",
            None => "EMPTY_STORE",
        };
        Recovery {
            index: Arc::clone(&of.index),
            shard: of.shard,
            primary: of.copy.primary,
            kind,
            target: Arc::clone(target),
            times: peer.as_ref().map_or((at, at), |peer| (peer.start_ms, peer.stop_ms)),
            operations: peer.as_ref().map_or(replayed, |peer| peer.operations),
            stage: RecoveryStage::Done,
            peer,
        }
    }

    /// Of a copy that is being made.
    fn under_way(backend: &SharedBackend, target: &Arc<DiscoveryNode>, of: OfCopy<PeerRecovery>) -> Recovery {
        let kind = match of.copy.recovery_source {
            RecoverySource::Peer => "PEER",
            RecoverySource::ExistingStore => "EXISTING_STORE",
            RecoverySource::EmptyStore => "EMPTY_STORE",
        };
        let start = if of.told.start_ms > 0 { of.told.start_ms } else { backend.now_ms() };
        let stop = if of.told.stop_ms > 0 { of.told.stop_ms } else { backend.now_ms().max(start) };
        Recovery {
            index: of.index,
            shard: of.shard,
            primary: of.copy.primary,
            kind,
            target: Arc::clone(target),
            times: (start, stop),
            operations: of.told.operations,
            stage: of.told.stage,
            peer: Some(of.told).filter(|_| kind == "PEER"),
        }
    }

    /// Of a copy whose index is closed: it lies on a disk.
    fn closed(index: &Arc<IndexMetadata>, shard: u32, primary: bool, node: &Arc<DiscoveryNode>, at: i64) -> Recovery {
        Recovery {
            index: Arc::clone(index),
            shard,
            primary,
            kind: "EXISTING_STORE",
            target: Arc::clone(node),
            times: (at, at),
            operations: 0,
            stage: RecoveryStage::Done,
            peer: None,
        }
    }

    fn took_ms(&self) -> u64 {
        (self.times.1 - self.times.0).max(0) as u64
    }

    fn shown(&self, state: &ClusterState, detailed: bool, human: bool) -> Value {
        let (start, stop) = self.times;
        let done = self.stage == RecoveryStage::Done;
        let peer = self.peer.clone().unwrap_or_default();
        let source = match (&self.peer, self.kind) {
            (Some(peer), _) => source_shown(state, peer),
            (None, "EXISTING_STORE") => json!({ "bootstrap_new_history_uuid": false }),
            (None, _) => json!({}),
        };
        // What comes after the files is the translog's.
        let files_at = if peer.files_at_ms > 0 { peer.files_at_ms.clamp(start, stop.max(start)) } else { stop };
        let (bytes, fetched) = (peer.bytes_total, peer.bytes_fetched);
        let reused = bytes.saturating_sub(peer.bytes_missing);
        // How many there will be is not known before the last one.
        let (operations, operations_percent) =
            if done { (json!(self.operations), "100.0%") } else { (json!(-1), "-1.0%") };
        let mut one = json!({
            "id": self.shard,
            "type": self.kind,
            "stage": self.stage.name(),
            "primary": self.primary,
            "start_time_in_millis": start,
            "stop_time_in_millis": stop,
            "total_time_in_millis": self.took_ms(),
            "source": source,
            "target": address(Some(self.target.id), &self.target.name, &self.target.transport_address),
            "index": {
                "size": {
                    "total_in_bytes": bytes, "reused_in_bytes": reused, "recovered_in_bytes": fetched,
                    "percent": percent(bytes, peer.bytes_missing, fetched),
                },
                "files": {
                    "total": peer.files_total, "reused": peer.files_total.saturating_sub(peer.files_missing),
                    "recovered": peer.files_fetched,
                    "percent": percent(peer.files_total, peer.files_missing, peer.files_fetched),
                },
                "total_time_in_millis": (files_at - start).max(0),
                "source_throttle_time_in_millis": 0,
                "target_throttle_time_in_millis": peer.throttled_ms,
            },
            "translog": {
                "recovered": self.operations, "total": operations, "percent": operations_percent,
                "total_on_start": operations, "total_time_in_millis": (stop - files_at).max(0),
            },
            "verify_index": { "check_index_time_in_millis": 0, "total_time_in_millis": 0 },
        });
        if !done {
            one.as_object_mut().expect("made here").shift_remove("stop_time_in_millis");
        }
        if detailed {
            one["index"]["files"]["details"] = json!([]);
        }
        if human {
            let took = nanos_text(self.took_ms() * 1_000_000);
            one["start_time"] = iso(start).into();
            if done {
                one["stop_time"] = iso(stop).into();
            }
            one["total_time"] = took.clone().into();
            one["index"]["size"]["total"] = bytes_text(bytes).into();
            one["index"]["size"]["reused"] = bytes_text(reused).into();
            one["index"]["size"]["recovered"] = bytes_text(fetched).into();
            one["index"]["total_time"] = took.into();
            one["index"]["source_throttle_time"] = "-1".into();
            one["index"]["target_throttle_time"] = match peer.throttled_ms {
                0 => "-1".into(),
                ms => nanos_text(ms * 1_000_000).into(),
            };
            one["translog"]["total_time"] = "0s".into();
            one["verify_index"]["check_index_time"] = "0s".into();
            one["verify_index"]["total_time"] = "0s".into();
        }
        one
    }
}

/// How much of what was missing has come.
fn percent(total: u64, missing: u64, fetched: u64) -> String {
    match (total, missing) {
        (0, _) => "0.0%".to_owned(),
        (_, 0) => "100.0%".to_owned(),
        (_, missing) => format!("{:.1}%", fetched.min(missing) as f64 * 100.0 / missing as f64),
    }
}

fn address(id: Option<NodeId>, name: &str, transport_address: &str) -> Value {
    let host = host_of(transport_address);
    let mut out = Map::new();
    if let Some(id) = id {
        out.insert("id".into(), json!(id));
    }
    for (key, value) in [("host", host), ("transport_address", transport_address), ("ip", host), ("name", name)] {
        out.insert(key.into(), value.into());
    }
    Value::Object(out)
}

/// The node may have left since.
fn source_shown(state: &ClusterState, peer: &PeerRecovery) -> Value {
    let is_it =
        |node: &&Arc<DiscoveryNode>| node.name == peer.source_node && node.transport_address == peer.source_address;
    let id = state.nodes.values().find(is_it).map(|node| node.id);
    address(id, &peer.source_node, &peer.source_address)
}

/// How the copies of some open indices came to be, or are coming to be.
async fn of_open(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
    active_only: bool,
) -> Vec<Recovery> {
    let target = |node: Option<NodeId>| state.nodes.get(&node?);
    let mut out = Vec::new();
    if !active_only {
        let (copies, _) = gather(backend, state, indices).await;
        let ended = copies.iter().filter_map(|of| Some(Recovery::ended(backend, target(of.copy.node)?, of)));
        out.extend(ended);
    }
    let under_way = gather_recoveries(backend, state, indices).await.into_iter();
    out.extend(under_way.filter_map(|of| Some(Recovery::under_way(backend, target(of.copy.node)?, of))));
    out
}

/// The copies of closed indices: they stay where they were, without running shards.
async fn of_closed(backend: &SharedBackend, state: &ClusterState, indices: &[Arc<IndexMetadata>]) -> Vec<Recovery> {
    let on_disks = backend.allocation_inputs().await.stored_copies;
    let mut out = Vec::new();
    for index in indices {
        let at = backend.node().start_ms.max(index.creation_date);
        for shard in 0..index.number_of_shards {
            let key = (index.uuid.clone(), shard);
            let in_sync = index.in_sync_of(shard);
            let stored = |node: &&Arc<DiscoveryNode>| {
                on_disks.get(&node.id).and_then(|copies| copies.get(&key)).is_some_and(|id| in_sync.contains(id))
            };
            let found = state.nodes.values().filter(stored).enumerate();
            out.extend(found.map(|(n, node)| Recovery::closed(index, shard, n == 0, node, at)));
        }
    }
    out
}

/// `GET [/{index}]/_recovery`
pub async fn recovery(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let active_only = flag(&request, "active_only", false)?;
    let detailed = flag(&request, "detailed", false)?;
    let human = flag(&request, "human", false)?;
    let indices = targets(backend, &request, IndicesOptions::OPEN_CLOSED)?;
    let (open, closed): (Vec<_>, Vec<_>) = indices.into_iter().partition(|index| index.open);
    if !closed.is_empty() && !active_only {
        // Only the master knows what is on the disks.
        let find_ms = master_timeout(&request)?;
        if let Some(answer) = by_master(backend, &mut request, find_ms, MASTER_WAIT_MS).await? {
            return Ok(answer);
        }
    }
    let state = backend.state();
    let mut found = of_open(backend, &state, &open, active_only).await;
    if !active_only {
        found.extend(of_closed(backend, &state, &closed).await);
    }
    let mut out = Map::new();
    for one in found {
        let own = out.entry(one.index.name.clone()).or_insert_with(|| json!({ "shards": [] }));
        own["shards"].as_array_mut().expect("made here").push(one.shown(&state, detailed, human));
    }
    Ok(Response::ok(Value::Object(out)))
}

/// `GET [/{index}]/_shard_stores`
pub async fn shard_stores(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let find_ms = master_timeout(&request)?;
    if let Some(answer) = by_master(backend, &mut request, find_ms, MASTER_WAIT_MS).await? {
        return Ok(answer);
    }
    let wanted = params::list(&request, "status").unwrap_or_else(|| vec!["yellow".into(), "red".into()]);
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let state = backend.state();
    let on_disks = backend.allocation_inputs().await.stored_copies;
    let mut out = Map::new();
    for index in &indices {
        let mut shards = Map::new();
        for shard in 0..index.number_of_shards {
            let status = shard_health(&state, index, shard).status.name();
            if wanted.iter().any(|w| w == "all" || w == status) {
                shards.insert(shard.to_string(), json!({ "stores": stores(&state, index, shard, &on_disks) }));
            }
        }
        if !shards.is_empty() {
            out.insert(index.name.clone(), json!({ "shards": shards }));
        }
    }
    Ok(Response::ok(json!({ "indices": out })))
}

/// The copies of a shard: those that the routing has on a node, and what else is known to be on a disk.
fn stores(
    state: &ClusterState,
    index: &IndexMetadata,
    shard: u32,
    on_disks: &BTreeMap<NodeId, BTreeMap<(String, u32), AllocationId>>,
) -> Vec<Value> {
    let key = (index.uuid.clone(), shard);
    let group = state.routing.get(&index.uuid).map_or(&[][..], |routing| routing.copies(shard));
    let mut out: Vec<(u8, Value)> = Vec::new();
    for node in state.nodes.values() {
        let copy = group.iter().find(|copy| copy.node == Some(node.id));
        let id = copy.and_then(|copy| copy.allocation_id).or_else(|| on_disks.get(&node.id)?.get(&key).copied());
        let Some(id) = id else { continue };
        let (rank, word) = match copy {
            Some(copy) if copy.primary => (0, "primary"),
            Some(_) => (1, "replica"),
            None => (2, "unused"),
        };
        out.push((rank, json!({ node.id.to_string(): node_shown(node), "allocation_id": id, "allocation": word })));
    }
    out.sort_by_key(|(rank, _)| *rank);
    out.into_iter().map(|(_, store)| store).collect()
}

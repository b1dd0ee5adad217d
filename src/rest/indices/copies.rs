//! Asks every copy of some shards, wherever it is.

use std::sync::Arc;

use ringdex_net::cluster::health::index_health;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::routing::{CopyState, ShardRouting};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Value, json};

use super::lifecycle::shard_id;
use super::upkeep::status_name;
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::error::{ApiError, ApiResult};
use crate::shard::message::{PeerRecovery, SegmentStats, ShardRequest, ShardResponse, ShardStats};

/// What a copy of a shard says.
#[derive(Clone, Debug)]
pub struct OfCopy<T> {
    /// Its index.
    pub index: Arc<IndexMetadata>,
    /// Number of its shard.
    pub shard: u32,
    /// The copy, as the routing has it.
    pub copy: ShardRouting,
    /// What it says.
    pub told: T,
}

impl<T> OfCopy<T> {
    /// Whether it is a copy of this index.
    #[must_use]
    pub fn is_of(&self, index: &IndexMetadata) -> bool {
        self.index.uuid == index.uuid
    }

    /// Whether it is on this node.
    #[must_use]
    pub fn is_on(&self, node: NodeId) -> bool {
        self.copy.node == Some(node)
    }

    fn try_map<U>(self, map: impl FnOnce(T) -> Option<U>) -> Option<OfCopy<U>> {
        Some(OfCopy { index: self.index, shard: self.shard, copy: self.copy, told: map(self.told)? })
    }
}

/// A copy that is not where the routing has it any more is counted as missing, not as failed; one that could not be opened has failed.
fn is_missing(error: &ApiError) -> bool {
    const MISSING: [&str; 4] = [
        "no_shard_available_action_exception",
        "shard_not_found_exception",
        "unavailable_shards_exception",
        "index_not_found_exception",
    ];
    MISSING.contains(&error.kind.as_str()) && error.caused_by.is_none()
}

/// Asks all active copies of some indices the same. Answers come by index and shard, the primary's first; failures as members of a
/// list.
pub async fn ask_copies(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
    request: &ShardRequest,
) -> (Vec<OfCopy<ShardResponse>>, Vec<Value>) {
    ask_some(backend, state, indices, request, ShardRouting::active).await
}

/// The same of those that `wanted` picks.
async fn ask_some(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
    request: &ShardRequest,
    wanted: impl Fn(&ShardRouting) -> bool,
) -> (Vec<OfCopy<ShardResponse>>, Vec<Value>) {
    let mut asked: Vec<LocalFuture<'_, OfCopy<ApiResult<ShardResponse>>>> = Vec::new();
    for index in indices {
        let groups = state.routing.get(&index.uuid).map_or(&[][..], |routing| &routing.shards);
        for (shard, group) in groups.iter().enumerate() {
            for copy in group.iter().filter(|copy| wanted(copy)) {
                let Some(node) = copy.node else { continue };
                let (id, copy, request) = (shard_id(index, shard as u32), copy.clone(), request.clone());
                asked.push(Box::pin(async move {
                    let told = backend.copy(&id, node, request).await;
                    OfCopy { index: Arc::clone(index), shard: id.shard, copy, told }
                }));
            }
        }
    }
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for OfCopy { index, shard, copy, told } in join::all(asked).await {
        match told {
            Ok(told) => answers.push(OfCopy { index, shard, copy, told }),
            Err(error) if is_missing(&error) => {}
            Err(error) => failures.push(json!({
                "shard": shard,
                "index": index.name,
                "status": status_name(error.status),
                "reason": error.to_cause(),
            })),
        }
    }
    (answers, failures)
}

fn statistics(answers: Vec<OfCopy<ShardResponse>>) -> Vec<OfCopy<ShardStats>> {
    let told = |answer| if let ShardResponse::Stats(stats) = answer { Some(*stats) } else { None };
    answers.into_iter().filter_map(|answer| answer.try_map(told)).collect()
}

/// Statistics of every active copy of some indices.
pub async fn gather(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
) -> (Vec<OfCopy<ShardStats>>, Vec<Value>) {
    let (answers, failures) = ask_copies(backend, state, indices, &ShardRequest::Stats).await;
    (statistics(answers), failures)
}

/// Statistics of the copies that are on one node.
pub async fn gather_on(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
    node: &str,
) -> Vec<OfCopy<ShardStats>> {
    let Ok(node) = node.parse::<NodeId>() else { return Vec::new() };
    let wanted = |copy: &ShardRouting| copy.active() && copy.node == Some(node);
    let (answers, _) = ask_some(backend, state, indices, &ShardRequest::Stats, wanted).await;
    statistics(answers)
}

/// How far the copies of some indices are that are being made. One that cannot be asked is at its beginning.
pub async fn gather_recoveries(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
) -> Vec<OfCopy<PeerRecovery>> {
    let wanted = |copy: &ShardRouting| copy.state == CopyState::Initializing;
    let (answers, _) = ask_some(backend, state, indices, &ShardRequest::Recovery, wanted).await;
    let told = |answer| if let ShardResponse::Recovery(recovery) = answer { Some(*recovery) } else { None };
    let mut out: Vec<OfCopy<PeerRecovery>> = answers.into_iter().filter_map(|answer| answer.try_map(told)).collect();
    for index in indices {
        let groups = state.routing.get(&index.uuid).map_or(&[][..], |routing| &routing.shards);
        for (shard, copy) in
            groups.iter().enumerate().flat_map(|(at, group)| group.iter().map(move |copy| (at as u32, copy)))
        {
            let known = |of: &OfCopy<PeerRecovery>| of.copy.allocation_id == copy.allocation_id;
            if wanted(copy) && !out.iter().any(known) {
                let told = PeerRecovery::default();
                out.push(OfCopy { index: Arc::clone(index), shard, copy: copy.clone(), told });
            }
        }
    }
    out
}

/// Segments of every active copy of some indices.
pub async fn gather_segments(
    backend: &SharedBackend,
    state: &ClusterState,
    indices: &[Arc<IndexMetadata>],
) -> (Vec<OfCopy<Vec<SegmentStats>>>, Vec<Value>) {
    let (answers, failures) = ask_copies(backend, state, indices, &ShardRequest::Segments).await;
    let told = |answer| if let ShardResponse::Segments(segments) = answer { Some(segments) } else { None };
    (answers.into_iter().filter_map(|answer| answer.try_map(told)).collect(), failures)
}

/// Copies that all shards of some indices should have.
#[must_use]
pub fn copies(indices: &[Arc<IndexMetadata>]) -> usize {
    indices.iter().map(|i| i.number_of_shards as usize * (1 + i.number_of_replicas as usize)).sum()
}

/// Copies of some indices that are in service.
#[must_use]
pub fn active(state: &ClusterState, indices: &[Arc<IndexMetadata>]) -> usize {
    indices.iter().map(|index| index_health(state, index).counts.active as usize).sum()
}

//! What happens to nodes, copies and indices, as plain functions from state to state.
//!
//! None of them allocates: the caller reroutes afterwards, once for all it has in hand. `version` and `state_uuid` are the
//! publisher's; `metadata_version` grows when an index changed, in-sync sets and primary terms included.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::draft::{ANY_COPY, Draft, position};
use super::settings;
use crate::cluster::ids::{AllocationId, NodeId};
use crate::cluster::routing::{
    CopyState, IndexRouting, RecoverySource, ShardRouting, UnassignedInfo, UnassignedReason,
};
use crate::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata};

/// Why the news of a copy was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Whoever says it is not the primary any more.
    StaleTerm {
        /// The term it says it in.
        reported: u64,
        /// The term of the shard.
        current: u64,
    },
    /// There is no such shard.
    NoSuchShard,
}

/// A node is in the cluster.
#[must_use]
pub fn node_joined(state: &ClusterState, node: DiscoveryNode) -> ClusterState {
    let mut next = state.clone();
    next.nodes.insert(node.id, Arc::new(node));
    next
}

/// A node is not in the cluster any more.
#[must_use]
pub fn node_left(state: &ClusterState, node: NodeId, now_ms: i64) -> ClusterState {
    nodes_left(state, &BTreeSet::from([node]), now_ms)
}

/// Nodes are not in the cluster any more. Together: no copy on one of them is promoted when another's is lost.
#[must_use]
pub fn nodes_left(state: &ClusterState, left: &BTreeSet<NodeId>, now_ms: i64) -> ClusterState {
    let mut draft = Draft::of(state);
    for node in left {
        if draft.state.nodes.remove(node).is_some() {
            draft.touch();
        }
    }
    for (uuid, routing) in &state.routing {
        let delay = state.index_by_uuid(uuid).map_or(0, |index| settings::delayed_timeout_ms(index));
        for (shard, group) in routing.shards.iter().enumerate() {
            let shard = shard as u32;
            let lost = |copy: &&ShardRouting| copy.node.is_some_and(|node| left.contains(&node));
            // Replicas and targets first, primaries last: what remains then can be promoted.
            for primaries in [false, true] {
                for copy in group.iter().filter(lost).filter(|c| (c.primary && !c.relocation_target()) == primaries) {
                    let (Some(id), Some(node)) = (copy.allocation_id, copy.node) else { continue };
                    let mut info = UnassignedInfo::new(UnassignedReason::NodeLeft, now_ms);
                    info.details = Some(format!("node_left [{node}]"));
                    info.delayed_until_ms = (delay > 0).then(|| now_ms.saturating_add(delay));
                    info.last_node = Some(node);
                    draft.lose(uuid, shard, id, info);
                }
            }
        }
    }
    draft.finish().unwrap_or_else(|| state.clone())
}

/// A copy says that it has recovered. `primary_term` is the term it recovered in; none if it does not know. None if that was known.
pub fn shard_started(
    state: &ClusterState,
    uuid: &str,
    shard: u32,
    id: AllocationId,
    primary_term: Option<u64>,
) -> Result<Option<ClusterState>, Refusal> {
    check_term(state, uuid, shard, primary_term)?;
    let mut draft = Draft::of(state);
    draft.start(uuid, shard, id);
    Ok(draft.finish())
}

/// A copy is failed: by the primary in its term, which makes it stale, or (without a term) by the node that has it. None if that was
/// known.
///
/// Once the state that comes out is committed, the primary may acknowledge what the copy does not have. A copy that a primary fails
/// may be gone from the routing already; it leaves the in-sync set all the same.
pub fn shard_failed(
    state: &ClusterState,
    uuid: &str,
    shard: u32,
    id: AllocationId,
    primary_term: Option<u64>,
    reason: &str,
    now_ms: i64,
) -> Result<Option<ClusterState>, Refusal> {
    check_term(state, uuid, shard, primary_term)?;
    let mut draft = Draft::of(state);
    let group = draft.group(uuid, shard);
    let found = position(group, id).map(|at| group[at].clone());
    let is_primary = found.as_ref().is_some_and(|copy| copy.primary && !copy.relocation_target());
    if let Some(copy) = found {
        let mut info = UnassignedInfo::new(UnassignedReason::AllocationFailed, now_ms);
        let failures = if copy.relocation_target() || copy.state == CopyState::Initializing {
            copy.unassigned.as_ref().map_or(0, |old| old.failed_allocations)
        } else {
            0
        };
        info.failed_allocations = failures.saturating_add(1);
        info.last_node = copy.node;
        info.details = Some(match copy.node {
            Some(node) => format!("failed shard on node [{node}]: {reason}"),
            None => reason.to_owned(),
        });
        draft.lose(uuid, shard, id, info);
    }
    // A primary that fails itself says nothing of its content; and it has to be possible to try it again.
    if primary_term.is_some() && !is_primary {
        draft.mark_stale(uuid, shard, id);
    }
    Ok(draft.finish())
}

fn check_term(state: &ClusterState, uuid: &str, shard: u32, reported: Option<u64>) -> Result<(), Refusal> {
    let index = state.index_by_uuid(uuid).ok_or(Refusal::NoSuchShard)?;
    if shard >= index.number_of_shards {
        return Err(Refusal::NoSuchShard);
    }
    let current = index.primary_term(shard);
    match reported {
        Some(reported) if reported != current => Err(Refusal::StaleTerm { reported, current }),
        _ => Ok(()),
    }
}

/// The routing follows what a change of metadata did to indices: created, deleted, closed, opened, other number of replicas.
#[must_use]
pub fn follow_metadata(state: &ClusterState, now_ms: i64) -> ClusterState {
    let mut draft = Draft::of(state);
    let open: BTreeSet<&str> = state.indices.values().filter(|i| i.open).map(|i| i.uuid.as_str()).collect();
    for uuid in state.routing.keys().filter(|uuid| !open.contains(uuid.as_str())) {
        draft.remove_routing(uuid);
    }
    for index in state.indices.values().filter(|index| index.open) {
        if state.routing.contains_key(&index.uuid) {
            for shard in 0..index.number_of_shards {
                draft.fit_replicas(&index.uuid, shard, now_ms, UnassignedReason::ReplicaAdded);
            }
        } else {
            let is_new = index.in_sync.iter().all(BTreeSet::is_empty);
            let reason = if is_new { UnassignedReason::IndexCreated } else { UnassignedReason::IndexReopened };
            route_anew(&mut draft, index, now_ms, reason);
        }
    }
    draft.finish().unwrap_or_else(|| state.clone())
}

/// An index was added to the metadata: all its copies are missing, and its primaries may be made from nothing.
#[must_use]
pub fn index_created(state: &ClusterState, uuid: &str, now_ms: i64) -> ClusterState {
    with_index(state, uuid, |draft, index| route_anew(draft, index, now_ms, UnassignedReason::IndexCreated))
}

/// An index was taken from the metadata, or closed: it has no copies any more. The files of a closed one stay where they are.
#[must_use]
pub fn index_closed(state: &ClusterState, uuid: &str) -> ClusterState {
    let mut draft = Draft::of(state);
    draft.remove_routing(uuid);
    draft.finish().unwrap_or_else(|| state.clone())
}

/// As [`index_closed`].
#[must_use]
pub fn index_deleted(state: &ClusterState, uuid: &str) -> ClusterState {
    index_closed(state, uuid)
}

/// A closed index was opened: its primaries come from the in-sync copies on the nodes' disks.
#[must_use]
pub fn index_opened(state: &ClusterState, uuid: &str, now_ms: i64) -> ClusterState {
    with_index(state, uuid, |draft, index| route_anew(draft, index, now_ms, UnassignedReason::IndexReopened))
}

/// The number of replicas in the metadata changed: places for copies are added, or copies are dropped.
#[must_use]
pub fn replicas_changed(state: &ClusterState, uuid: &str, now_ms: i64) -> ClusterState {
    with_index(state, uuid, |draft, index| {
        for shard in 0..index.number_of_shards {
            draft.fit_replicas(uuid, shard, now_ms, UnassignedReason::ReplicaAdded);
        }
    })
}

/// A state from the disk, after all nodes were down or from before there were clusters: no node is there yet, and every copy is to be
/// found again. Shards without an in-sync set take any copy that is found.
#[must_use]
pub fn adopt(state: &ClusterState, now_ms: i64) -> ClusterState {
    let mut bare = state.clone();
    bare.nodes.clear();
    bare.routing.clear();
    bare.master = None;
    let mut draft = Draft::of(&bare);
    for index in bare.indices.values() {
        if index.in_sync.len() < index.number_of_shards as usize {
            draft.edit_in_sync(&index.uuid, index.number_of_shards - 1);
        }
        if index.open {
            let index = draft.index(&index.uuid).cloned().unwrap_or_else(|| index.clone());
            route_anew(&mut draft, &index, now_ms, UnassignedReason::ClusterRecovered);
        }
    }
    draft.finish().unwrap_or(bare)
}

fn with_index(state: &ClusterState, uuid: &str, change: impl FnOnce(&mut Draft<'_>, &IndexMetadata)) -> ClusterState {
    let mut draft = Draft::of(state);
    if let Some(index) = state.index_by_uuid(uuid).filter(|index| index.open) {
        change(&mut draft, index);
    }
    draft.finish().unwrap_or_else(|| state.clone())
}

fn route_anew(draft: &mut Draft<'_>, index: &IndexMetadata, now_ms: i64, reason: UnassignedReason) {
    if reason == UnassignedReason::IndexCreated
        && (index.in_sync.len() < index.number_of_shards as usize
            || index.primary_terms.len() < index.number_of_shards as usize)
        && let Some(edited) = draft.edit_index(&index.uuid)
    {
        edited.in_sync.resize(edited.number_of_shards as usize, BTreeSet::new());
        edited.primary_terms.resize(edited.number_of_shards as usize, 1);
    }
    let mut routing = IndexRouting::default();
    for shard in 0..index.number_of_shards {
        let in_sync = draft.in_sync(&index.uuid, shard);
        let source = if in_sync.is_empty() { RecoverySource::EmptyStore } else { RecoverySource::ExistingStore };
        let mut group = vec![ShardRouting::unassigned(true, source, UnassignedInfo::new(reason, now_ms))];
        group.extend(
            (0..index.number_of_replicas)
                .map(|_| ShardRouting::unassigned(false, RecoverySource::Peer, UnassignedInfo::new(reason, now_ms))),
        );
        routing.shards.push(group);
    }
    draft.insert_routing(&index.uuid, routing);
}

/// Whether a shard takes any copy that is found, having been made before there were clusters.
#[must_use]
pub fn takes_any_copy(index: &IndexMetadata, shard: u32) -> bool {
    index.in_sync_of(shard).contains(&ANY_COPY)
}

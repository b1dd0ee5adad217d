//! A cluster state being changed: the few ways in which a copy's life goes on.
//!
//! Each keeps [`super::check`]; none decides anything. What the in-sync sets and primary terms must follow is here alone:
//!
//! | step | in-sync set | primary term |
//! |---|---|---|
//! | primary starts on files that are in sync | unchanged | + 1 when it begins to recover |
//! | new primary starts, or one that was forced | itself alone | + 1 when forced |
//! | replica starts | + itself | |
//! | target of a move starts | + target, - source | + 1 if primary |
//! | active primary is lost | unchanged | + 1 |
//! | copy is failed by its primary | - itself, unless it is the last | |

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cluster::ids::{AllocationId, NodeId};
use crate::cluster::routing::{
    CopyState, IndexRouting, RecoverySource, ShardRouting, UnassignedInfo, UnassignedReason,
};
use crate::cluster::state::{ClusterState, IndexMetadata};

/// In the in-sync set of a shard made before there were clusters, until its primary has started: any copy that is found.
pub const ANY_COPY: AllocationId = AllocationId(0);

/// A state, and what has been changed of it.
pub(super) struct Draft<'a> {
    pub(super) state: ClusterState,
    names: FxHashMap<&'a str, &'a str>,
    metadata_version: u64,
    metadata_changed: bool,
    changed: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn of(old: &'a ClusterState) -> Draft<'a> {
        Draft {
            state: old.clone(),
            names: old.indices.values().map(|index| (index.uuid.as_str(), index.name.as_str())).collect(),
            metadata_version: old.metadata_version,
            metadata_changed: false,
            changed: false,
        }
    }

    /// The new state; none if nothing changed.
    pub(super) fn finish(mut self) -> Option<ClusterState> {
        if self.metadata_changed {
            self.state.metadata_version = self.metadata_version + 1;
        }
        (self.changed || self.metadata_changed).then_some(self.state)
    }

    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    pub(super) fn index(&self, uuid: &str) -> Option<&Arc<IndexMetadata>> {
        self.state.indices.get(*self.names.get(uuid)?)
    }

    pub(super) fn edit_index(&mut self, uuid: &str) -> Option<&mut IndexMetadata> {
        let index = self.state.indices.get_mut(*self.names.get(uuid)?)?;
        self.metadata_changed = true;
        Some(Arc::make_mut(index))
    }

    pub(super) fn group(&self, uuid: &str, shard: u32) -> &[ShardRouting] {
        self.state.routing.get(uuid).map_or(&[], |index| index.copies(shard))
    }

    pub(super) fn edit_group(&mut self, uuid: &str, shard: u32) -> Option<&mut Vec<ShardRouting>> {
        let group = Arc::make_mut(self.state.routing.get_mut(uuid)?).shards.get_mut(shard as usize)?;
        self.changed = true;
        Some(group)
    }

    pub(super) fn insert_routing(&mut self, uuid: &str, routing: IndexRouting) {
        self.state.routing.insert(uuid.to_owned(), Arc::new(routing));
        self.changed = true;
    }

    pub(super) fn remove_routing(&mut self, uuid: &str) {
        self.changed |= self.state.routing.remove(uuid).is_some();
    }

    pub(super) fn in_sync(&self, uuid: &str, shard: u32) -> &BTreeSet<AllocationId> {
        static NONE: BTreeSet<AllocationId> = BTreeSet::new();
        self.index(uuid).map_or(&NONE, |index| index.in_sync_of(shard))
    }

    pub(super) fn edit_in_sync(&mut self, uuid: &str, shard: u32) -> Option<&mut BTreeSet<AllocationId>> {
        let index = self.edit_index(uuid)?;
        if index.in_sync.len() <= shard as usize {
            let before = index.in_sync.len();
            index.in_sync.resize(index.number_of_shards.max(shard + 1) as usize, BTreeSet::new());
            // Shards of an old index that nobody has asked about yet keep what they were: any copy.
            index.in_sync[before..].fill(BTreeSet::from([ANY_COPY]));
        }
        index.in_sync.get_mut(shard as usize)
    }

    fn bump_term(&mut self, uuid: &str, shard: u32) {
        let Some(index) = self.edit_index(uuid) else { return };
        if index.primary_terms.len() <= shard as usize {
            index.primary_terms.resize(shard as usize + 1, 1);
        }
        index.primary_terms[shard as usize] += 1;
    }

    /// An unassigned copy begins to recover.
    pub(super) fn initialize(&mut self, uuid: &str, shard: u32, at: usize, node: NodeId, id: AllocationId) {
        let forced = {
            let copy = &self.group(uuid, shard)[at];
            assert_eq!(copy.state, CopyState::Unassigned);
            let known = self.in_sync(uuid, shard);
            // A primary that is none of the known copies is made from nothing, or from what was given up by hand.
            let forced = copy.primary && !known.is_empty() && !known.contains(&ANY_COPY) && !known.contains(&id);
            if copy.primary && (forced || copy.recovery_source == RecoverySource::ExistingStore) {
                self.bump_term(uuid, shard);
            }
            forced
        };
        if forced && let Some(known) = self.edit_in_sync(uuid, shard) {
            *known = BTreeSet::from([id]);
        }
        let Some(group) = self.edit_group(uuid, shard) else { return };
        let copy = &mut group[at];
        copy.state = CopyState::Initializing;
        copy.node = Some(node);
        copy.allocation_id = Some(id);
        if let Some(info) = &mut copy.unassigned {
            info.delayed_until_ms = None;
        }
    }

    /// A started copy begins to move.
    pub(super) fn relocate(&mut self, uuid: &str, shard: u32, at: usize, to: NodeId, id: AllocationId) {
        let Some(group) = self.edit_group(uuid, shard) else { return };
        let source = &mut group[at];
        assert_eq!(source.state, CopyState::Started);
        source.state = CopyState::Relocating;
        source.relocating_node = Some(to);
        let target = ShardRouting {
            primary: source.primary,
            state: CopyState::Initializing,
            node: Some(to),
            allocation_id: Some(id),
            relocating_node: source.node,
            unassigned: source.unassigned.clone(),
            recovery_source: RecoverySource::Peer,
        };
        group.push(target);
    }

    /// A recovering copy is complete. False if there is no such copy, or it was complete already.
    pub(super) fn start(&mut self, uuid: &str, shard: u32, id: AllocationId) -> bool {
        let Some(at) = position(self.group(uuid, shard), id) else { return false };
        let copy = self.group(uuid, shard)[at].clone();
        if copy.state != CopyState::Initializing {
            return false;
        }
        let Some(group) = self.edit_group(uuid, shard) else { return false };
        let started = &mut group[at];
        started.state = CopyState::Started;
        started.unassigned = None;
        started.relocating_node = None;
        started.recovery_source = RecoverySource::Peer;
        let mut source_id = None;
        if copy.relocation_target() {
            let source = group.iter().position(|c| c.state == CopyState::Relocating && c.node == copy.relocating_node);
            let source = source.expect("a target has its source");
            source_id = group[source].allocation_id;
            // The target takes the place of its source: primaries stay first.
            let started = group.remove(at);
            group[source] = started;
            if copy.primary {
                self.bump_term(uuid, shard);
                self.restart_recoveries(uuid, shard, UnassignedReason::Reinitialized, None);
            }
        }
        let replicas = self.index(uuid).map_or(0, |index| index.number_of_replicas as usize);
        let active: BTreeSet<AllocationId> =
            self.group(uuid, shard).iter().filter(|c| c.active()).filter_map(|c| c.allocation_id).collect();
        if self.in_sync(uuid, shard).contains(&id) && source_id.is_none() {
            return true;
        }
        let Some(in_sync) = self.edit_in_sync(uuid, shard) else { return true };
        if copy.primary && source_id.is_none() {
            in_sync.clear();
        }
        in_sync.insert(id);
        if let Some(source) = source_id {
            in_sync.remove(&source);
        }
        // Copies that went away with their nodes stay in sync until a write, but not more than there can be copies.
        let mut surplus = in_sync.len().saturating_sub(replicas + 1);
        in_sync.retain(|id| {
            let drop = surplus > 0 && !active.contains(id);
            surplus -= usize::from(drop);
            !drop
        });
        true
    }

    /// A copy is lost where it was; `info` says why. What recovers from it is lost with it, and a replica takes the place of a primary.
    pub(super) fn lose(&mut self, uuid: &str, shard: u32, id: AllocationId, info: UnassignedInfo) -> bool {
        let Some(at) = position(self.group(uuid, shard), id) else { return false };
        let copy = self.group(uuid, shard)[at].clone();
        if copy.relocation_target() {
            self.drop_target(uuid, shard, at, Some(info));
            return true;
        }
        if copy.primary {
            self.lose_primary(uuid, shard, &copy, info);
            return true;
        }
        let Some(group) = self.edit_group(uuid, shard) else { return false };
        if copy.state == CopyState::Relocating
            && let Some(target) = group.iter_mut().find(|c| c.relocation_target() && c.relocating_node == copy.node)
        {
            // It recovers from the primary, not from the copy that it was to replace.
            target.relocating_node = None;
            target.unassigned = Some(info);
            group.remove(at);
        } else {
            group[at] = ShardRouting::unassigned(false, RecoverySource::Peer, info);
        }
        true
    }

    fn lose_primary(&mut self, uuid: &str, shard: u32, copy: &ShardRouting, info: UnassignedInfo) {
        if copy.active() {
            self.bump_term(uuid, shard);
        }
        if let Some(target) =
            self.group(uuid, shard).iter().position(|c| c.relocation_target() && c.relocating_node == copy.node)
        {
            self.drop_target(uuid, shard, target, None);
        }
        self.restart_recoveries(uuid, shard, UnassignedReason::PrimaryFailed, Some(info.at_ms));
        let in_sync = self.in_sync(uuid, shard).clone();
        let Some(group) = self.edit_group(uuid, shard) else { return };
        let at = group.iter().position(|c| c.allocation_id == copy.allocation_id).expect("still there");
        let heir = group.iter().position(|c| {
            !c.primary
                && c.active()
                && !c.relocation_target()
                && c.allocation_id.is_some_and(|id| in_sync.contains(&id))
        });
        match heir {
            Some(heir) => {
                group[at] = ShardRouting::unassigned(false, RecoverySource::Peer, info);
                group[heir].primary = true;
                group.swap(0, heir);
            }
            None => {
                let source = if copy.active() { RecoverySource::ExistingStore } else { copy.recovery_source };
                group[at] = ShardRouting::unassigned(true, source, info);
                group.swap(0, at);
            }
        }
    }

    /// Everything that recovers from the primary stops: it is another one now, or none.
    fn restart_recoveries(&mut self, uuid: &str, shard: u32, reason: UnassignedReason, at_ms: Option<i64>) {
        while let Some(at) = self.group(uuid, shard).iter().position(|c| c.relocation_target() && !c.primary) {
            self.drop_target(uuid, shard, at, None);
        }
        if !self.group(uuid, shard).iter().any(|c| c.state == CopyState::Initializing && !c.primary) {
            return;
        }
        let Some(group) = self.edit_group(uuid, shard) else { return };
        for copy in group.iter_mut().filter(|c| c.state == CopyState::Initializing && !c.primary) {
            let (since, failures) = copy.unassigned.as_ref().map_or((0, 0), |old| (old.at_ms, old.failed_allocations));
            let mut info = UnassignedInfo::new(reason, at_ms.unwrap_or(since));
            info.failed_allocations = failures;
            info.last_node = copy.node;
            *copy = ShardRouting::unassigned(false, RecoverySource::Peer, info);
        }
    }

    /// A move ends where it began. `failure` is remembered at the source, so that the move is not tried again at once.
    pub(super) fn drop_target(&mut self, uuid: &str, shard: u32, at: usize, failure: Option<UnassignedInfo>) {
        let Some(group) = self.edit_group(uuid, shard) else { return };
        let target = group.remove(at);
        let source = group.iter_mut().find(|c| c.state == CopyState::Relocating && c.node == target.relocating_node);
        let source = source.expect("a target has its source");
        source.state = CopyState::Started;
        source.relocating_node = None;
        if failure.as_ref().is_some_and(|info| info.reason == UnassignedReason::AllocationFailed) {
            source.unassigned = failure;
        }
    }

    /// The group of a shard is made as large as the index wants it; the least useful copies go first.
    pub(super) fn fit_replicas(&mut self, uuid: &str, shard: u32, now_ms: i64, reason: UnassignedReason) {
        let Some(wanted) = self.index(uuid).map(|index| index.number_of_replicas as usize) else { return };
        loop {
            let group = self.group(uuid, shard);
            let have = group.iter().filter(|c| !c.primary && !c.relocation_target()).count();
            if have < wanted {
                let info = UnassignedInfo::new(reason, now_ms);
                let Some(group) = self.edit_group(uuid, shard) else { return };
                group.push(ShardRouting::unassigned(false, RecoverySource::Peer, info));
                continue;
            }
            if have == wanted {
                return;
            }
            let usefulness = |c: &ShardRouting| match c.state {
                CopyState::Unassigned => 0,
                CopyState::Initializing => 1,
                CopyState::Relocating => 2,
                CopyState::Started => 3,
            };
            let replicas = group.iter().enumerate().filter(|(_, c)| !c.primary && !c.relocation_target());
            let Some((at, _)) = replicas.min_by_key(|(at, c)| (usefulness(c), usize::MAX - at)) else { return };
            let (id, node) = (group[at].allocation_id, group[at].node);
            let Some(group) = self.edit_group(uuid, shard) else { return };
            group.remove(at);
            group.retain(|c| !(c.relocation_target() && !c.primary && c.relocating_node == node));
            if let Some(id) = id {
                self.mark_stale(uuid, shard, id);
            }
        }
    }

    /// A copy misses an operation: it may not become primary. The last one stays, for there is no better.
    pub(super) fn mark_stale(&mut self, uuid: &str, shard: u32, id: AllocationId) -> bool {
        let known = self.in_sync(uuid, shard);
        if known.len() < 2 || !known.contains(&id) {
            return false;
        }
        self.edit_in_sync(uuid, shard).is_some_and(|known| known.remove(&id))
    }
}

/// Where in a group a copy is.
pub(super) fn position(group: &[ShardRouting], id: AllocationId) -> Option<usize> {
    group.iter().position(|copy| copy.allocation_id == Some(id))
}

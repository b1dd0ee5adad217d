//! How well shards, indices, and the cluster are, from nodes and routing alone.

use std::collections::BTreeMap;

use super::routing::{AllocationStatus, CopyState, RecoverySource, ShardRouting};
use super::state::{ClusterState, IndexMetadata};

/// The worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Every copy is active.
    #[default]
    Green,
    /// Every primary is active, or on its way for the first time.
    Yellow,
    /// A primary is missing.
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
}

/// Counts of copies; the target of a move is counted at its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The worst of them.
    pub status: Status,
    /// Primaries in service.
    pub active_primaries: u32,
    /// Copies in service.
    pub active: u32,
    /// Those of them that are on the move.
    pub relocating: u32,
    /// Copies that recover.
    pub initializing: u32,
    /// Copies that are nowhere.
    pub unassigned: u32,
    /// Those of them whose node may come back.
    pub delayed: u32,
}

impl Counts {
    /// All copies that should be.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.active + self.initializing + self.unassigned
    }

    /// Copies in service, in percent of those that should be.
    #[must_use]
    pub fn active_percent(&self) -> f64 {
        if self.total() == 0 { 100.0 } else { f64::from(self.active) * 100.0 / f64::from(self.total()) }
    }

    /// Adds those of another part; the worse status stays.
    pub fn add(&mut self, other: &Counts) {
        self.status = self.status.max(other.status);
        self.active_primaries += other.active_primaries;
        self.active += other.active;
        self.relocating += other.relocating;
        self.initializing += other.initializing;
        self.unassigned += other.unassigned;
        self.delayed += other.delayed;
    }
}

/// How well an index is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexHealth {
    /// All its copies.
    pub counts: Counts,
    /// The copies of each shard.
    pub shards: Vec<Counts>,
}

/// How well the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// All copies.
    pub counts: Counts,
    /// Nodes.
    pub nodes: u32,
    /// Those of them that hold shards.
    pub data_nodes: u32,
    /// By index name.
    pub indices: BTreeMap<String, IndexHealth>,
}

/// The health of everything.
#[must_use]
pub fn health(state: &ClusterState) -> ClusterHealth {
    let mut health = ClusterHealth {
        nodes: state.nodes.len() as u32,
        data_nodes: state.nodes.values().filter(|node| node.is_data()).count() as u32,
        ..ClusterHealth::default()
    };
    for index in state.indices.values() {
        let own = index_health(state, index);
        health.counts.add(&own.counts);
        health.indices.insert(index.name.clone(), own);
    }
    health
}

/// The health of an index.
#[must_use]
pub fn index_health(state: &ClusterState, index: &IndexMetadata) -> IndexHealth {
    let mut health = IndexHealth::default();
    for shard in 0..index.number_of_shards {
        let counts = shard_health(state, index, shard);
        health.counts.add(&counts);
        health.shards.push(counts);
    }
    health
}

/// The health of a shard. The copies of a closed index are those that were in sync when it was closed.
#[must_use]
pub fn shard_health(state: &ClusterState, index: &IndexMetadata, shard: u32) -> Counts {
    let mut counts = Counts::default();
    if !index.open {
        let wanted = index.number_of_replicas + 1;
        counts.active = (index.in_sync_of(shard).len() as u32).clamp(1, wanted);
        counts.active_primaries = 1;
        counts.unassigned = wanted - counts.active;
        counts.status = if counts.unassigned > 0 { Status::Yellow } else { Status::Green };
        return counts;
    }
    let group = state.routing.get(&index.uuid).map_or(&[][..], |routing| routing.copies(shard));
    for copy in group.iter().filter(|copy| !copy.relocation_target()) {
        match copy.state {
            CopyState::Started | CopyState::Relocating => {
                counts.active += 1;
                counts.active_primaries += u32::from(copy.primary);
                counts.relocating += u32::from(copy.state == CopyState::Relocating);
            }
            CopyState::Initializing => counts.initializing += 1,
            CopyState::Unassigned => {
                counts.unassigned += 1;
                let info = copy.unassigned.as_ref();
                counts.delayed += u32::from(info.is_some_and(|info| info.delayed_until_ms.is_some()));
            }
        }
    }
    counts.status = match group.iter().find(|copy| copy.primary && !copy.relocation_target()) {
        Some(primary) if primary.active() => {
            if counts.active == counts.total() {
                Status::Green
            } else {
                Status::Yellow
            }
        }
        Some(primary) if is_on_its_way(primary) => Status::Yellow,
        _ => Status::Red,
    };
    counts
}

/// A new primary is not missed before something went wrong with it.
fn is_on_its_way(primary: &ShardRouting) -> bool {
    let info = primary.unassigned.as_ref();
    primary.recovery_source == RecoverySource::EmptyStore
        && info.is_none_or(|info| info.failed_allocations == 0 && info.last_status != AllocationStatus::DecidersNo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::allocation::{fixture, follow_metadata, node_joined};
    use crate::cluster::ids::{AllocationId, NodeId};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// One shard with a replica, on two nodes of which none has anything yet.
    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        state.indices.insert("i".into(), Arc::new(fixture::index("i", 1, 1)));
        let state = node_joined(&node_joined(&state, fixture::node(1)), fixture::node(2));
        follow_metadata(&state, 0)
    }

    fn with(state: &ClusterState, at: usize, change: impl FnOnce(&mut ShardRouting)) -> ClusterState {
        let mut next = state.clone();
        let routing = next.routing.get_mut("u-i").unwrap();
        change(&mut Arc::make_mut(routing).shards[0][at]);
        next
    }

    fn assign(copy: &mut ShardRouting, state: CopyState, node: u128) {
        (copy.state, copy.node, copy.allocation_id) = (state, Some(NodeId(node)), Some(AllocationId(node)));
    }

    fn check(state: &ClusterState, status: Status, [active, initializing, unassigned]: [u32; 3]) {
        let health = health(state);
        let counts = health.counts;
        assert_eq!(
            (counts.status, [counts.active, counts.initializing, counts.unassigned]),
            (status, [active, initializing, unassigned])
        );
        assert_eq!((health.nodes, health.data_nodes), (2, 2));
        assert_eq!(health.indices["i"].shards, [counts]);
    }

    #[test]
    fn a_shard_goes_from_new_to_green() {
        let new = state();
        check(&new, Status::Yellow, [0, 0, 2]);
        let recovering = with(&new, 0, |copy| assign(copy, CopyState::Initializing, 1));
        check(&recovering, Status::Yellow, [0, 1, 1]);
        let started = with(&new, 0, |copy| assign(copy, CopyState::Started, 1));
        check(&started, Status::Yellow, [1, 0, 1]);
        assert_eq!(health(&started).counts.active_percent(), 50.0);
        let green = with(&started, 1, |copy| assign(copy, CopyState::Started, 2));
        check(&green, Status::Green, [2, 0, 0]);
    }

    #[test]
    fn a_primary_that_was_there_and_is_not_is_red() {
        let lost = with(&state(), 0, |copy| copy.recovery_source = RecoverySource::ExistingStore);
        check(&lost, Status::Red, [0, 0, 2]);
        let failed = with(&state(), 0, |copy| copy.unassigned.as_mut().unwrap().failed_allocations = 1);
        check(&failed, Status::Red, [0, 0, 2]);
        let refused =
            with(&state(), 0, |copy| copy.unassigned.as_mut().unwrap().last_status = AllocationStatus::DecidersNo);
        check(&refused, Status::Red, [0, 0, 2]);
        let mut unknown = state();
        unknown.routing.clear();
        assert_eq!(health(&unknown).counts.status, Status::Red);
    }

    #[test]
    fn a_move_is_counted_at_its_source() {
        let green = with(&state(), 0, |copy| assign(copy, CopyState::Relocating, 1));
        let mut moving = with(&green, 1, |copy| assign(copy, CopyState::Started, 2));
        let routing = Arc::make_mut(moving.routing.get_mut("u-i").unwrap());
        let mut target = routing.shards[0][0].clone();
        assign(&mut target, CopyState::Initializing, 3);
        target.relocating_node = Some(NodeId(1));
        routing.shards[0].push(target);
        check(&moving, Status::Green, [2, 0, 0]);
        assert_eq!(health(&moving).counts.relocating, 1);
    }

    #[test]
    fn a_closed_index_is_as_well_as_it_was_left() {
        let mut state = state();
        let index = Arc::make_mut(state.indices.get_mut("i").unwrap());
        index.open = false;
        index.in_sync = vec![BTreeSet::from([AllocationId(1), AllocationId(2)])];
        let state = follow_metadata(&state, 0);
        check(&state, Status::Green, [2, 0, 0]);
    }

    #[test]
    fn delayed_copies_are_counted() {
        let state = with(&state(), 1, |copy| copy.unassigned.as_mut().unwrap().delayed_until_ms = Some(1));
        assert_eq!(health(&state).counts.delayed, 1);
    }
}

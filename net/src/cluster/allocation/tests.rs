//! A cluster in miniature: nodes with disks, copies with content, and whatever can happen to them, in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::check::check_step;
use super::command::{Command, Verb, reroute_by_hand};
use super::fixture::{index, node};
use super::*;
use crate::cluster::routing::{CopyState, ShardRouting};
use crate::cluster::state::IndexMetadata;

/// The state and the truth behind it.
pub(super) struct World {
    pub(super) state: ClusterState,
    pub(super) inputs: AllocationInputs,
    /// Disks of all nodes, also of those that are away.
    disks: BTreeMap<NodeId, BTreeMap<(String, u32), AllocationId>>,
    /// Operations that each copy has.
    content: BTreeMap<AllocationId, u64>,
    /// Operations that clients were told are safe.
    acknowledged: BTreeMap<(String, u32), u64>,
    made: usize,
}

impl World {
    pub(super) fn new(nodes: u128) -> World {
        let mut world = World {
            state: ClusterState::default(),
            inputs: AllocationInputs { now_ms: 1_600_000_000_000, seed: 7, ..AllocationInputs::default() },
            disks: BTreeMap::new(),
            content: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            made: 0,
        };
        (1..=nodes).for_each(|n| world.join(n));
        world
    }

    fn now(&self) -> i64 {
        self.inputs.now_ms
    }

    pub(super) fn set(&mut self, next: ClusterState) {
        check(&next)
            .unwrap_or_else(|what| panic!("{what}\nbefore {:#?}\nafter {:#?}", self.state.routing, next.routing));
        if let Err(what) = check_step(&self.state, &next) {
            panic!("{what}\nbefore {:#?}\nafter {:#?}", self.state.routing, next.routing);
        }
        for (uuid, routing) in &next.routing {
            for (shard, group) in routing.shards.iter().enumerate() {
                self.check_primary(uuid, shard as u32, &group[0]);
            }
        }
        self.state = next;
    }

    /// Wherever there is a primary, it has all that was acknowledged.
    fn check_primary(&self, uuid: &str, shard: u32, primary: &ShardRouting) {
        let Some(id) = primary.allocation_id else { return };
        let acknowledged = self.acknowledged.get(&(uuid.to_owned(), shard)).copied().unwrap_or(0);
        let has = self.content.get(&id).copied().unwrap_or(0);
        assert!(has >= acknowledged, "[{uuid}][{shard}]: {primary:?} has {has} of {acknowledged}");
    }

    pub(super) fn join(&mut self, n: u128) {
        let next = node_joined(&self.state, node(n));
        let disk = self.disks.entry(NodeId(n)).or_default().clone();
        self.inputs.stored_copies.insert(NodeId(n), disk);
        self.set(next);
    }

    pub(super) fn leave(&mut self, n: u128) {
        let next = node_left(&self.state, NodeId(n), self.now());
        self.inputs.stored_copies.remove(&NodeId(n));
        self.set(next);
    }

    pub(super) fn create(&mut self, shards: u32, replicas: u32) -> String {
        self.made += 1;
        let made = index(&format!("i{}", self.made), shards, replicas);
        let uuid = made.uuid.clone();
        let mut next = self.state.clone();
        next.indices.insert(made.name.clone(), Arc::new(made));
        next.metadata_version += 1;
        self.set(follow_metadata(&next, self.now()));
        uuid
    }

    pub(super) fn edit(&mut self, uuid: &str, edit: impl FnOnce(&mut IndexMetadata)) {
        let mut next = self.state.clone();
        let Some(name) = next.index_by_uuid(uuid).map(|index| index.name.clone()) else { return };
        let mut index = (*next.indices[&name]).clone();
        edit(&mut index);
        next.indices.insert(name, Arc::new(index));
        next.metadata_version += 1;
        self.set(follow_metadata(&next, self.now()));
    }

    pub(super) fn copies(&self, of: impl Fn(&ShardRouting) -> bool) -> Vec<(String, u32, ShardRouting)> {
        let mut found = Vec::new();
        for (uuid, routing) in &self.state.routing {
            for (shard, group) in routing.shards.iter().enumerate() {
                found.extend(group.iter().filter(|c| of(c)).map(|c| (uuid.clone(), shard as u32, c.clone())));
            }
        }
        found
    }

    fn start(&mut self, uuid: &str, shard: u32, copy: &ShardRouting) {
        let id = copy.allocation_id.unwrap();
        let index = self.state.index_by_uuid(uuid).unwrap().clone();
        let primary = self.state.routing[uuid].primary(shard).unwrap().allocation_id.unwrap();
        if id != primary {
            let content = self.content.get(&primary).copied().unwrap_or(0);
            self.content.insert(id, content);
        }
        let disk = self.disks.entry(copy.node.unwrap()).or_default();
        disk.insert((uuid.to_owned(), shard), id);
        self.inputs.stored_copies.insert(copy.node.unwrap(), disk.clone());
        let term = index.primary_term(shard);
        assert!(shard_started(&self.state, uuid, shard, id, Some(term + 1)).is_err(), "a term that never was");
        if let Some(next) = shard_started(&self.state, uuid, shard, id, Some(term)).unwrap() {
            self.set(next);
        }
    }

    fn fail(&mut self, uuid: &str, shard: u32, id: AllocationId, by_primary: bool) {
        let term = self.state.index_by_uuid(uuid).unwrap().primary_term(shard);
        if term > 1 {
            let stale = shard_failed(&self.state, uuid, shard, id, Some(term - 1), "test", self.now());
            assert_eq!(stale.unwrap_err(), Refusal::StaleTerm { reported: term - 1, current: term });
        }
        let reporter = by_primary.then_some(term);
        if let Some(next) = shard_failed(&self.state, uuid, shard, id, reporter, "test", self.now()).unwrap() {
            self.set(next);
        }
    }

    /// One operation on a shard: to every in-sync copy, and those that cannot have it are failed first.
    fn write(&mut self, uuid: &str, shard: u32) {
        let Some(primary) = self.state.routing.get(uuid).and_then(|r| r.primary(shard)).cloned() else { return };
        if !primary.active() {
            return;
        }
        let in_sync = self.state.index_by_uuid(uuid).unwrap().in_sync_of(shard).clone();
        for id in in_sync {
            if self.copies(|c| c.active() && c.allocation_id == Some(id)).is_empty() {
                self.fail(uuid, shard, id, true);
                assert!(!self.state.index_by_uuid(uuid).unwrap().in_sync_of(shard).contains(&id));
            } else {
                *self.content.entry(id).or_default() += 1;
            }
        }
        *self.acknowledged.entry((uuid.to_owned(), shard)).or_default() += 1;
    }

    pub(super) fn reroute(&mut self) -> Rerouted {
        self.inputs.seed += 1;
        let out = reroute(&self.state, &self.inputs);
        let again = reroute(&self.state, &self.inputs);
        assert_eq!(out.state.as_ref().map(|s| &s.routing), again.state.as_ref().map(|s| &s.routing), "deterministic");
        if let Some(wake) = out.wake_up_ms {
            assert!(wake > self.now());
        }
        if let Some(next) = out.state.clone() {
            assert_ne!(next, self.state, "a change that changes nothing");
            self.set(next);
        }
        out
    }

    /// Everything goes well from now on, until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..400 {
            let recovering = self.copies(|c| c.state == CopyState::Initializing);
            for (uuid, shard, copy) in &recovering {
                let still =
                    self.copies(|c| c.allocation_id == copy.allocation_id && c.state == CopyState::Initializing);
                if let Some((_, _, copy)) = still.first() {
                    self.start(uuid, *shard, &copy.clone());
                }
            }
            let out = self.reroute();
            match (out.state, out.wake_up_ms) {
                (Some(_), _) => {}
                (None, Some(wake)) => self.inputs.now_ms = wake,
                (None, None) if recovering.is_empty() => return,
                (None, None) => {}
            }
        }
        panic!("it never comes to rest: {:#?}", self.state.routing);
    }

    /// What a healthy cluster looks like.
    fn assert_healthy(&self) {
        let nodes = self.state.nodes.len();
        assert_eq!(self.copies(|c| c.relocating_node.is_some()).len(), 0);
        for (uuid, routing) in &self.state.routing {
            let index = self.state.index_by_uuid(uuid).unwrap();
            for (shard, group) in routing.shards.iter().enumerate() {
                let shard = shard as u32;
                let in_sync = index.in_sync_of(shard);
                let on_disk = self.inputs.stored_copies.values().filter_map(|d| d.get(&(uuid.clone(), shard)));
                let can_be = in_sync.is_empty() || on_disk.clone().any(|id| in_sync.contains(id));
                let active = group.iter().filter(|c| c.active()).count();
                let wanted = if can_be { nodes.min(index.number_of_replicas as usize + 1) } else { 0 };
                assert_eq!(active, wanted, "[{uuid}][{shard}]: {group:#?}");
            }
        }
        let per_node = self.per_node();
        let (most, least) = (per_node.values().max().unwrap(), per_node.values().min().unwrap());
        assert!(most - least <= 1, "{per_node:?}");
    }

    pub(super) fn per_node(&self) -> BTreeMap<NodeId, usize> {
        let mut per_node: BTreeMap<NodeId, usize> = self.state.nodes.keys().map(|id| (*id, 0)).collect();
        for (_, _, copy) in self.copies(|c| c.node.is_some()) {
            *per_node.get_mut(&copy.node.unwrap()).unwrap() += 1;
        }
        per_node
    }

    fn apply(&mut self, event: &Event) {
        let pick = |list: &[(String, u32, ShardRouting)], n: u8| {
            (!list.is_empty()).then(|| list[n as usize % list.len()].clone())
        };
        let uuids: Vec<String> = self.state.indices.values().map(|i| i.uuid.clone()).collect();
        let some = |n: u8| (!uuids.is_empty()).then(|| uuids[n as usize % uuids.len()].clone());
        match *event {
            Event::Join(n) => self.join(u128::from(n % 4) + 1),
            Event::Leave(n, wiped) => {
                let id = u128::from(n % 4) + 1;
                self.leave(id);
                if wiped {
                    self.disks.remove(&NodeId(id));
                }
            }
            Event::Start(n) => {
                if let Some((uuid, shard, copy)) = pick(&self.copies(|c| c.state == CopyState::Initializing), n) {
                    self.start(&uuid, shard, &copy);
                }
            }
            Event::Fail(n, by_primary) => {
                if let Some((uuid, shard, copy)) = pick(&self.copies(|c| c.allocation_id.is_some()), n) {
                    self.fail(&uuid, shard, copy.allocation_id.unwrap(), by_primary);
                }
            }
            Event::Create(shards, replicas) => {
                if self.state.indices.len() < 4 {
                    self.create(u32::from(shards % 4) + 1, u32::from(replicas % 4));
                }
            }
            Event::Delete(n) => {
                if let Some(uuid) = some(n) {
                    let mut next = self.state.clone();
                    next.indices.retain(|_, index| index.uuid != uuid);
                    self.set(follow_metadata(&next, self.now()));
                }
            }
            Event::Replicas(n, replicas) => {
                if let Some(uuid) = some(n) {
                    self.edit(&uuid, |index| index.number_of_replicas = u32::from(replicas % 4));
                }
            }
            Event::Open(n, open) => {
                if let Some(uuid) = some(n) {
                    self.edit(&uuid, |index| index.open = open);
                }
            }
            Event::Write(n) => {
                if let Some((uuid, shard, _)) = pick(&self.copies(|c| c.primary && c.active()), n) {
                    self.write(&uuid, shard);
                }
            }
            Event::Reroute => drop(self.reroute()),
            Event::Move(n, to) => {
                let Some((uuid, shard, copy)) = pick(&self.copies(|c| c.state == CopyState::Started), n) else {
                    return;
                };
                let index = self.state.index_by_uuid(&uuid).unwrap().name.clone();
                let verb = Verb::Move { to: format!("n{}", to % 4 + 1) };
                let command = Command { index, shard, node: copy.node.unwrap().to_string(), verb };
                self.inputs.seed += 1;
                if let Ok(done) = reroute_by_hand(&self.state, &self.inputs, &[command], false, false) {
                    self.set(done.state.expect("a move is a change"));
                }
            }
            Event::Wait(seconds) => self.inputs.now_ms += i64::from(seconds) * 1000,
            Event::Restart => {
                self.set(adopt(&self.state, self.now()));
                self.inputs.stored_copies.clear();
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Join(u8),
    Leave(u8, bool),
    Start(u8),
    Fail(u8, bool),
    Create(u8, u8),
    Delete(u8),
    Replicas(u8, u8),
    Open(u8, bool),
    Write(u8),
    Reroute,
    Move(u8, u8),
    Wait(u8),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let n = any::<u8>();
    prop_oneof![
        3 => n.prop_map(Event::Join),
        2 => (n, proptest::bool::weighted(0.2)).prop_map(|(n, wiped)| Event::Leave(n, wiped)),
        12 => n.prop_map(Event::Start),
        3 => (n, any::<bool>()).prop_map(|(n, by)| Event::Fail(n, by)),
        2 => (n, n).prop_map(|(s, r)| Event::Create(s, r)),
        1 => n.prop_map(Event::Delete),
        1 => (n, n).prop_map(|(n, r)| Event::Replicas(n, r)),
        1 => (n, any::<bool>()).prop_map(|(n, open)| Event::Open(n, open)),
        5 => n.prop_map(Event::Write),
        8 => Just(Event::Reroute),
        3 => (n, n).prop_map(|(n, to)| Event::Move(n, to)),
        2 => n.prop_map(Event::Wait),
        1 => proptest::bool::weighted(0.3).prop_map(|restart| if restart { Event::Restart } else { Event::Reroute }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, no primary lacks an acknowledged operation, and when all is well again everything is where it should be.
    #[test]
    fn any_story_keeps_the_invariants_and_ends_well(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new(3);
        for event in &events {
            world.apply(event);
        }
        (1..=4).for_each(|n| world.join(n));
        world.settle();
        world.assert_healthy();
        prop_assert!(world.reroute().state.is_none());
    }
}

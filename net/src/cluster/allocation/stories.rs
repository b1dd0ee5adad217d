//! Stories of one kind each: delays, throttles, filters, disks, commands.

use std::sync::Arc;

use super::command::{Command, Verb, reroute_by_hand};
use super::explain::{Outlook, explain, first_missing};
use super::tests::World;
use super::*;
use crate::cluster::health::{Status, health};
use crate::cluster::routing::{AllocationStatus, CopyState, RecoverySource};

fn setting(world: &mut World, key: &str, value: &str) {
    world.state.persistent_settings.insert(key.to_owned(), value.into());
}

fn counts(world: &World) -> Vec<usize> {
    world.per_node().into_values().collect()
}

fn texts(world: &World, primary: bool) -> Vec<(&'static str, Verdict, String)> {
    let found = explain(&world.state, &world.inputs, "i1", 0, primary, None).unwrap();
    let all = found.nodes.into_iter().flat_map(|node| node.deciders);
    all.filter(|d| d.verdict != Verdict::Yes).map(|d| (d.decider, d.verdict, d.explanation)).collect()
}

fn command(node: &str, verb: Verb) -> Command {
    Command { index: "i1".into(), shard: 0, node: node.into(), verb }
}

#[test]
fn one_node_has_no_place_for_a_replica_and_says_so() {
    let mut world = World::new(1);
    world.create(1, 1);
    world.settle();
    assert_eq!(health(&world.state).counts.status, Status::Yellow);
    assert_eq!(first_missing(&world.state), Some(("i1".into(), 0, false)));
    let [(decider, verdict, text)] = &texts(&world, false)[..] else { panic!() };
    assert_eq!((*decider, *verdict), ("same_shard", Verdict::No));
    let id = world.copies(|c| c.primary)[0].2.allocation_id.unwrap();
    assert_eq!(
        *text,
        format!(
            "a copy of this shard is already allocated to this node [[i1][0], node[{}], [P], s[STARTED], a[id={id}]]",
            NodeId(1)
        )
    );
}

#[test]
fn a_replica_waits_for_its_node_and_then_goes_elsewhere() {
    let mut world = World::new(3);
    world.create(1, 1);
    world.settle();
    let (_, _, replica) = world.copies(|c| !c.primary).remove(0);
    world.leave(replica.node.unwrap().0);
    let out = world.reroute();
    assert_eq!(out.wake_up_ms, Some(world.inputs.now_ms + 60_000));
    assert_eq!(health(&world.state).counts.delayed, 1);
    let found = explain(&world.state, &world.inputs, "i1", 0, false, None).unwrap();
    let Outlook::Missing { can_allocate, explanation, delay_ms, .. } = found.outlook else { panic!() };
    assert_eq!((can_allocate, delay_ms), ("allocation_delayed", Some((60_000, 60_000))));
    assert_eq!(
        explanation,
        "cannot allocate because the cluster is still waiting 1m for the departed node holding a replica to rejoin, despite being \
         allowed to allocate the shard to at least one other node"
    );
    world.inputs.now_ms += 60_000;
    world.reroute();
    assert_eq!(world.copies(|c| !c.primary && c.state == CopyState::Initializing).len(), 1);
}

#[test]
fn a_replica_goes_back_to_the_node_that_has_its_files() {
    let mut world = World::new(3);
    world.create(1, 1);
    world.settle();
    let (_, _, replica) = world.copies(|c| !c.primary).remove(0);
    let node = replica.node.unwrap();
    world.leave(node.0);
    world.reroute();
    world.join(node.0);
    world.reroute();
    let (_, _, back) = world.copies(|c| !c.primary).remove(0);
    assert_eq!((back.node, back.state), (Some(node), CopyState::Initializing));
    assert_ne!(back.allocation_id, replica.allocation_id, "what it has is old until it has recovered");
}

#[test]
fn a_lost_primary_is_replaced_in_a_new_term() {
    let mut world = World::new(2);
    let uuid = world.create(1, 1);
    world.settle();
    let (_, _, primary) = world.copies(|c| c.primary).remove(0);
    world.leave(primary.node.unwrap().0);
    let (_, _, heir) = world.copies(|c| c.primary).remove(0);
    assert_eq!(heir.state, CopyState::Started);
    let index = world.state.index_by_uuid(&uuid).unwrap();
    assert_eq!(index.primary_term(0), 2);
    assert!(index.in_sync_of(0).contains(&primary.allocation_id.unwrap()), "until somebody writes");
}

#[test]
fn without_an_in_sync_copy_the_shard_stays_red_until_somebody_gives_it_up() {
    let mut world = World::new(2);
    let uuid = world.create(1, 0);
    world.settle();
    let (_, _, primary) = world.copies(|c| c.primary).remove(0);
    let (gone, other) = (primary.node.unwrap(), NodeId(3 - primary.node.unwrap().0));
    world.leave(gone.0);
    // A copy that is not in sync is no copy.
    world.inputs.stored_copies.get_mut(&other).unwrap().insert((uuid, 0), AllocationId(99));
    world.settle();
    let (_, _, missing) = world.copies(|c| c.primary).remove(0);
    assert_eq!(missing.state, CopyState::Unassigned);
    assert_eq!(missing.unassigned.unwrap().last_status, AllocationStatus::NoValidShardCopy);
    assert_eq!(health(&world.state).counts.status, Status::Red);
    let found = explain(&world.state, &world.inputs, "i1", 0, true, None).unwrap();
    let Outlook::Missing { can_allocate, explanation, .. } = found.outlook else { panic!() };
    assert_eq!(can_allocate, "no_valid_shard_copy");
    assert_eq!(explanation, "cannot allocate because all found copies of the shard are either stale or corrupt");
    assert_eq!(found.nodes[0].store, Some(Some((AllocationId(99), false))));

    let name = format!("n{}", other.0);
    let careful = command(&name, Verb::AllocateStalePrimary { accept_data_loss: false });
    let refused = reroute_by_hand(&world.state, &world.inputs, &[careful], false, false).unwrap_err();
    assert_eq!(
        refused,
        "[allocate_stale_primary] allocating an empty primary for [i1][0] can result in data loss. Please confirm by setting the \
         accept_data_loss parameter to true"
    );
    for (verb, id) in [
        (Verb::AllocateStalePrimary { accept_data_loss: true }, Some(AllocationId(99))),
        (Verb::AllocateEmptyPrimary { accept_data_loss: true }, None),
    ] {
        let done = reroute_by_hand(&world.state, &world.inputs, &[command(&name, verb)], false, false).unwrap();
        let state = done.state.unwrap();
        check(&state).unwrap();
        let index = &state.indices["i1"];
        let copy = state.routing[&index.uuid].primary(0).unwrap();
        assert_eq!(copy.state, CopyState::Initializing);
        assert!(id.is_none() || copy.allocation_id == id);
        assert_eq!(copy.recovery_source == RecoverySource::EmptyStore, id.is_none());
        assert_eq!(index.in_sync_of(0).iter().copied().collect::<Vec<_>>(), [copy.allocation_id.unwrap()]);
        assert!(index.primary_term(0) > world.state.indices["i1"].primary_term(0));
    }
}

#[test]
fn a_copy_that_keeps_failing_is_tried_again_after_a_pause() {
    let mut world = World::new(1);
    let uuid = world.create(1, 0);
    for attempt in 1..=5 {
        world.reroute();
        let (_, _, copy) = world.copies(|c| c.state == CopyState::Initializing).remove(0);
        let id = copy.allocation_id.unwrap();
        let next = shard_failed(&world.state, &uuid, 0, id, None, "no space", world.inputs.now_ms).unwrap().unwrap();
        world.set(next);
        let info = world.copies(|c| c.primary)[0].2.unassigned.clone().unwrap();
        assert_eq!(info.failed_allocations, attempt);
    }
    let out = world.reroute();
    assert_eq!(out.wake_up_ms, Some(world.inputs.now_ms + 10_000));
    let [(decider, Verdict::No, text)] = &texts(&world, true)[..] else { panic!() };
    assert_eq!(*decider, "max_retry");
    assert!(
        text.starts_with("shard has exceeded the maximum number of retries [5] on failed allocation attempts - "),
        "{text}"
    );
    let retried = reroute_by_hand(&world.state, &world.inputs, &[], false, true).unwrap();
    assert_eq!(health(&retried.state.unwrap()).counts.initializing, 1);
    world.inputs.now_ms += 10_000;
    world.settle();
    assert_eq!(health(&world.state).counts.status, Status::Green);
}

#[test]
fn recoveries_are_throttled_per_node() {
    let mut world = World::new(1);
    world.create(6, 0);
    world.reroute();
    assert_eq!(health(&world.state).counts.initializing, 4);
    world.settle();
    world.join(2);
    let uuids: Vec<String> = world.state.routing.keys().cloned().collect();
    world.edit(&uuids[0], |index| index.number_of_replicas = 1);
    world.reroute();
    assert_eq!(health(&world.state).counts.initializing, 2);
    let found = explain(&world.state, &world.inputs, "i1", 5, false, None).unwrap();
    let says = found.nodes.iter().flat_map(|n| &n.deciders).find(|d| d.verdict == Verdict::Throttle).unwrap();
    assert_eq!(
        (says.decider, says.explanation.as_str()),
        (
            "throttling",
            "reached the limit of incoming shard recoveries [2], cluster setting \
             [cluster.routing.allocation.node_concurrent_incoming_recoveries=2] (can also be set via \
             [cluster.routing.allocation.node_concurrent_recoveries])"
        )
    );
}

#[test]
fn a_new_node_gets_its_share_and_an_excluded_one_is_emptied() {
    let mut world = World::new(2);
    world.create(6, 0);
    world.settle();
    assert_eq!(counts(&world), [3, 3]);
    world.join(3);
    world.reroute();
    assert_eq!(health(&world.state).counts.relocating, 2, "two at a time");
    world.settle();
    assert_eq!(counts(&world), [2, 2, 2]);
    setting(&mut world, "cluster.routing.allocation.exclude._name", "n1");
    world.settle();
    assert_eq!(counts(&world), [0, 3, 3]);
    setting(&mut world, "cluster.routing.rebalance.enable", "none");
    world.join(4);
    world.settle();
    assert_eq!(counts(&world), [0, 3, 3, 0]);
}

#[test]
fn copies_are_spread_over_zones() {
    let mut world = World::new(4);
    setting(&mut world, "cluster.routing.allocation.awareness.attributes", "zone");
    world.create(4, 1);
    world.settle();
    for routing in world.state.routing.values() {
        for group in &routing.shards {
            let zones: std::collections::BTreeSet<u128> = group.iter().map(|c| c.node.unwrap().0 % 2).collect();
            assert_eq!(zones.len(), 2, "{group:#?}");
        }
    }
    // Half of the zones gone: forced awareness leaves room for them.
    setting(&mut world, "cluster.routing.allocation.awareness.force.zone.values", "z0,z1");
    world.leave(1);
    world.leave(3);
    world.inputs.now_ms += 60_000;
    world.settle();
    let counts = health(&world.state).counts;
    assert_eq!((counts.active, counts.unassigned), (4, 4));
}

#[test]
fn full_disks_get_nothing_lose_what_they_have_and_block_writes() {
    let mut world = World::new(2);
    world.create(2, 0);
    world.settle();
    let disk = |world: &mut World, node, available| {
        world.inputs.disks.insert(NodeId(node), DiskUsage { total: 1000, available });
    };
    disk(&mut world, 1, 140);
    disk(&mut world, 2, 900);
    assert!(world.reroute().state.is_none(), "above low: what is there stays");
    let found = explain(&world.state, &world.inputs, "i1", 0, true, None).unwrap();
    let other = found.nodes.iter().find(|n| n.node == NodeId(1));
    if let Some(other) = other {
        let says = other.deciders.iter().find(|d| d.decider == "disk_threshold").unwrap();
        assert_eq!(
            says.explanation,
            "the node is above the low watermark cluster setting [cluster.routing.allocation.disk.watermark.low=85%], using more \
             disk space than the maximum allowed [85.0%], actual free: [14.0%]"
        );
    }
    disk(&mut world, 1, 90);
    world.settle();
    assert_eq!(counts(&world), [0, 2]);
    let blocked = |world: &World| world.state.indices["i1"].settings.contains_key(READ_ONLY_ALLOW_DELETE);
    disk(&mut world, 2, 40);
    world.reroute();
    assert!(blocked(&world));
    disk(&mut world, 2, 80);
    world.reroute();
    assert!(blocked(&world), "not before it is below high");
    disk(&mut world, 2, 200);
    world.reroute();
    assert!(!blocked(&world));
}

#[test]
fn replicas_expand_with_the_nodes() {
    let mut world = World::new(1);
    let uuid = world.create(1, 0);
    world.edit(&uuid, |index| drop(index.settings.insert("index.auto_expand_replicas".into(), "0-all".into())));
    world.join(2);
    world.join(3);
    world.settle();
    assert_eq!(world.state.indices["i1"].number_of_replicas, 2);
    assert_eq!(health(&world.state).counts.active, 3);
    world.leave(3);
    world.settle();
    assert_eq!(health(&world.state).counts.status, Status::Green);
    assert_eq!(world.state.indices["i1"].settings["index.number_of_replicas"], "1");
}

#[test]
fn an_index_from_before_clusters_takes_any_copy_that_is_found() {
    let mut state = ClusterState::default();
    state.indices.insert("i1".into(), Arc::new(fixture::index("i1", 1, 1)));
    let mut world = World::new(0);
    world.set(adopt(&state, 0));
    world.join(1);
    world.reroute();
    assert_eq!(health(&world.state).counts.status, Status::Red, "never from nothing");
    world.join(2);
    world.inputs.stored_copies.insert(NodeId(2), [(("u-i1".to_owned(), 0), ANY_COPY)].into());
    world.reroute();
    let (_, _, copy) = world.copies(|c| c.primary).remove(0);
    assert_eq!((copy.node, copy.recovery_source), (Some(NodeId(2)), RecoverySource::ExistingStore));
    assert_ne!(copy.allocation_id, Some(ANY_COPY));
    world.settle();
    let in_sync = world.state.indices["i1"].in_sync_of(0);
    assert!(in_sync.contains(&copy.allocation_id.unwrap()) && !in_sync.contains(&ANY_COPY));
    assert_eq!(in_sync.len(), 2, "with the replica that was made of it");
}

#[test]
fn copies_move_and_are_dropped_by_hand() {
    let mut world = World::new(2);
    setting(&mut world, "cluster.routing.rebalance.enable", "none");
    world.create(1, 0);
    world.settle();
    let (_, _, copy) = world.copies(|c| c.primary).remove(0);
    let (from, to) = (copy.node.unwrap(), NodeId(3 - copy.node.unwrap().0));
    let (from_name, to_name) = (format!("n{}", from.0), format!("n{}", to.0));
    let run = |world: &World, command: Command| reroute_by_hand(&world.state, &world.inputs, &[command], false, false);
    let refused = run(&world, command(&to_name, Verb::Move { to: from_name.clone() })).unwrap_err();
    assert!(refused.starts_with("[move_allocation] can't move 0, failed to find it on node {n"), "{refused}");
    let refused = run(&world, command("n9", Verb::AllocateReplica)).unwrap_err();
    assert_eq!(refused, "failed to resolve [n9], no matching nodes");
    let refused = run(&world, command(&from_name, Verb::Cancel { allow_primary: false })).unwrap_err();
    assert!(refused.ends_with("shard is primary and started"), "{refused}");
    let nowhere = Command { shard: 9, ..command(&from_name, Verb::Cancel { allow_primary: false }) };
    let explained = reroute_by_hand(&world.state, &world.inputs, &[nowhere], true, false).unwrap().explanations;
    assert_eq!(explained[0][0].verdict, Verdict::No);
    assert!(explained[0][0].explanation.starts_with("can't cancel 9, failed to find it on node"));

    let moved = run(&world, command(&from_name, Verb::Move { to: to_name.clone() })).unwrap();
    world.set(moved.state.unwrap());
    assert_eq!(health(&world.state).counts.relocating, 1);
    let stopped = run(&world, command(&from_name, Verb::Cancel { allow_primary: false })).unwrap();
    assert_eq!(health(stopped.state.as_ref().unwrap()).counts.relocating, 0);
    world.settle();
    let (_, _, copy) = world.copies(|c| c.primary).remove(0);
    assert_eq!(copy.node, Some(to));
    assert_eq!(world.state.indices["i1"].primary_term(0), 2);
}

#[test]
fn a_node_that_vanished_unannounced_holds_nothing() {
    let mut world = World::new(2);
    world.create(1, 1);
    world.settle();
    let mut state = world.state.clone();
    state.nodes.remove(&NodeId(1));
    assert!(check(&state).is_err());
    let next = reroute(&state, &world.inputs).state.unwrap();
    check(&next).unwrap();
    assert_eq!(health(&next).counts.active_primaries, 1);
}

#[test]
fn what_moved_away_is_in_sync_no_more() {
    let mut world = World::new(3);
    let uuid = world.create(1, 2);
    world.settle();
    world.edit(&uuid, |index| index.number_of_replicas = 1);
    world.settle();
    let (_, _, copy) = world.copies(|c| !c.primary).remove(0);
    let free = (1..=3).find(|n| world.copies(|c| c.node == Some(NodeId(*n))).is_empty()).unwrap();
    let there = Verb::Move { to: format!("n{free}") };
    let command = command(&format!("n{}", copy.node.unwrap().0), there);
    world.set(reroute_by_hand(&world.state, &world.inputs, &[command], false, false).unwrap().state.unwrap());
    // One more may be known than is active: only what the move itself does takes the source out.
    world.state.indices.values_mut().for_each(|index| Arc::make_mut(index).number_of_replicas = 9);
    let (_, _, target) = world.copies(|c| c.state == CopyState::Initializing).remove(0);
    let next = shard_started(&world.state, &uuid, 0, target.allocation_id.unwrap(), None).unwrap().unwrap();
    let in_sync = next.indices["i1"].in_sync_of(0);
    assert!(in_sync.contains(&target.allocation_id.unwrap()) && !in_sync.contains(&copy.allocation_id.unwrap()));
}

#[test]
fn the_last_in_sync_copy_stays_whoever_complains() {
    let mut world = World::new(1);
    let uuid = world.create(1, 0);
    world.settle();
    let (_, _, copy) = world.copies(|c| c.primary).remove(0);
    world.leave(1);
    let term = world.state.indices["i1"].primary_term(0);
    let next = shard_failed(&world.state, &uuid, 0, copy.allocation_id.unwrap(), Some(term), "gone", 0).unwrap();
    assert!(next.is_none());
}

#[test]
fn of_nodes_that_leave_together_none_is_promoted() {
    let mut world = World::new(3);
    world.create(1, 2);
    world.settle();
    let primary = world.copies(|c| c.primary)[0].2.node.unwrap();
    let heir = world.copies(|c| !c.primary)[0].2.node.unwrap();
    let next = nodes_left(&world.state, &[primary, heir].into(), 0);
    check(&next).unwrap();
    assert_eq!(health(&next).counts.active_primaries, 1);
    assert_eq!(next.indices["i1"].primary_term(0), world.state.indices["i1"].primary_term(0) + 1);
}

#[test]
fn a_replica_that_moves_goes_on_without_its_source() {
    let mut world = World::new(3);
    let uuid = world.create(1, 1);
    world.settle();
    let (_, _, copy) = world.copies(|c| !c.primary).remove(0);
    let free = (1..=3).find(|n| world.copies(|c| c.node == Some(NodeId(*n))).is_empty()).unwrap();
    let command = command(&format!("n{}", copy.node.unwrap().0), Verb::Move { to: format!("n{free}") });
    world.set(reroute_by_hand(&world.state, &world.inputs, &[command], false, false).unwrap().state.unwrap());
    world.leave(copy.node.unwrap().0);
    let group = &world.state.routing[&uuid].shards[0];
    assert_eq!(group.len(), 2);
    assert_eq!((group[1].state, group[1].node), (CopyState::Initializing, Some(NodeId(free))));
    world.settle();
    assert_eq!(health(&world.state).counts.status, Status::Green);
}

//! Random operations without faults: the shard answers as a map of documents would, at every moment.

use ringdex::io::NodeIo;
use ringdex::shard::message::{RefreshPolicy, ShardRequest, ShardResponse};
use serde_json::json;

use crate::harness::{Dice, Harness, delete, put, scenario};

#[test]
fn random_operations_answer_as_a_map_would() {
    for seed in 0..60 {
        let mut harness = Harness::new(seed, json!({"index.translog.flush_threshold_size": "64kb"}));
        harness.open().expect("an empty disk opens");
        let mut dice = Dice(seed);
        for _ in 0..6 {
            scenario(&mut harness, &mut dice, 25);
            harness.check();
        }
        assert!(harness.owner.failed.borrow().is_none());
    }
}

#[test]
fn the_same_seed_makes_the_same_disk() {
    let run = |seed| {
        let mut harness = Harness::new(seed, json!({}));
        harness.open().expect("an empty disk opens");
        scenario(&mut harness, &mut Dice(seed), 60);
        harness.disk().trace()
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn who_waits_sees_each_write_at_once_and_few_segments_come_of_it() {
    let mut harness = Harness::new(3, json!({"index.refresh_interval": "1h"}));
    harness.open().expect("an empty disk opens");
    let segments = |harness: &Harness| match harness.ask(ShardRequest::Segments).expect("statistics") {
        ShardResponse::Segments(segments) => segments,
        _ => panic!("another answer"),
    };
    let mut dice = Dice(3);
    let began = harness.world.monotonic_ns();
    for n in 0..600u64 {
        let id = dice.roll(400).to_string();
        let op = if dice.roll(5) == 0 { delete(&id) } else { put(&id, json!({"n": n})) };
        harness.write(vec![op], RefreshPolicy::WaitFor);
        if n.is_multiple_of(20) {
            let found = harness.search_all();
            let live = harness.acked.values().filter(|known| known.source.is_some()).count();
            assert_eq!(found.len(), live, "after write {n}");
        }
        // As many as the documents' logarithm, in memory only; but the first document changed the mapping, which refreshes.
        let now = segments(&harness);
        let in_files = now.iter().filter(|s| s.memory_bytes == 0).count();
        assert!(now.len() <= 10 && in_files <= 1, "after write {n}: {now:?}");
    }
    let each = (harness.world.monotonic_ns() - began) / 600;
    assert!(each < 10_000_000, "a wait of {each} ns");
    harness.check();
    let after = segments(&harness);
    assert!(after.len() <= 2, "{after:?}");
}

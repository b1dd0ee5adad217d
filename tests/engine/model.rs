//! Random operations without faults: the shard answers as a map of documents would, at every moment.

use serde_json::json;

use crate::harness::{Dice, Harness, scenario};

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

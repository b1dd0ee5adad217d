//! Power loss before and after every step of the disk, with torn and reordered unsynced writes.

use ringdex::shard::message::{RefreshPolicy, ShardRequest, ShardResponse, WriteRequest};
use ringdex_engine::store::sim::Stop;
use serde_json::json;

use crate::harness::{Dice, Harness, scenario};

/// A translog small enough to roll and be trimmed often.
fn settings() -> serde_json::Value {
    json!({"index.translog.generation_threshold_size": "64kb", "index.translog.flush_threshold_size": "200kb"})
}

/// Steps that the scenario of `seed` makes when nothing goes wrong, and its state checked at the end.
fn undisturbed(seed: u64, requests: u64) -> u64 {
    let mut harness = Harness::new(seed, settings());
    harness.open().expect("an empty disk opens");
    scenario(&mut harness, &mut Dice(seed), requests);
    harness.check();
    harness.disk().steps()
}

fn stopped_at(seed: u64, requests: u64, step: u64, stop: Stop) {
    let mut harness = Harness::new(seed, settings());
    harness.disk().fail_after(step, stop);
    if harness.open().is_ok() {
        scenario(&mut harness, &mut Dice(seed), requests);
    }
    harness.crash();
    // The second power loss comes while recovering from the first.
    let mut dice = Dice(seed ^ step);
    if dice.roll(2) == 0 {
        harness.disk().fail_after(1 + dice.roll(12), Stop::Before);
        let _ = harness.open();
        harness.crash();
    }
    harness.open().unwrap_or_else(|e| panic!("seed {seed}, {stop:?} step {step}: does not open: {e}"));
    harness.check();
    // The shard works as before: more writes, a flush, and another start.
    scenario(&mut harness, &mut Dice(seed + 1), 8);
    let _ = harness.ask(ShardRequest::Flush { force: true, wait_if_ongoing: true });
    harness.check();
    harness.crash();
    harness.open().expect("a flushed shard opens");
    harness.check();
}

#[test]
fn nothing_acknowledged_is_lost_at_any_step() {
    for seed in 0..3 {
        let steps = undisturbed(seed, 40);
        assert!(steps > 100, "the scenario does too little: {steps} steps");
        for step in 1..=steps {
            stopped_at(seed, 40, step, Stop::Before);
            stopped_at(seed, 40, step, Stop::After);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_many_short_lives() {
    for seed in 100..160 {
        let mut harness = Harness::new(seed, settings());
        let mut dice = Dice(seed);
        for _ in 0..6 {
            harness.disk().fail_after(1 + dice.roll(90), if dice.roll(2) == 0 { Stop::Before } else { Stop::After });
            if harness.open().is_ok() {
                harness.check_if_alive();
                scenario(&mut harness, &mut dice, 30);
            }
            harness.crash();
        }
        harness.open().unwrap_or_else(|e| panic!("seed {seed}: does not open: {e}"));
        harness.check();
    }
}

#[test]
fn asynchronous_durability_loses_only_a_suffix() {
    for seed in 0..80u64 {
        let mut harness =
            Harness::new(seed, json!({"index.translog.durability": "async", "index.translog.sync_interval": "5s"}));
        harness.open().expect("an empty disk opens");
        let mut dice = Dice(seed);
        let mut written_ms = Vec::new();
        for n in 0..40u64 {
            harness.write(vec![crate::harness::put(&format!("d{n}"), json!({"n": n}))], Default::default());
            written_ms.push(harness.now_ms());
            harness.pause(dice.roll(600));
        }
        let crash_ms = harness.now_ms();
        harness.crash();
        harness.open().expect("opens");
        let there: Vec<bool> = (0..40).map(|n| harness.get(&format!("d{n}"), true).found).collect();
        let survivors = there.iter().take_while(|t| **t).count();
        assert!(there[survivors..].iter().all(|t| !t), "seed {seed}: a hole among the survivors: {there:?}");
        for (n, at) in written_ms.iter().enumerate().skip(survivors) {
            assert!(crash_ms - at <= 5_100, "seed {seed}: write {n}, {} ms old, is lost", crash_ms - at);
        }
    }
}

#[test]
fn each_request_keeps_the_durability_it_asked_for() {
    for seed in 0..120u64 {
        let by_default = if seed % 2 == 0 { "async" } else { "request" };
        let mut harness = Harness::new(seed, json!({"index.translog.durability": by_default}));
        harness.open().expect("an empty disk opens");
        let mut dice = Dice(seed);
        let mut promised = Vec::new();
        for n in 0..30u64 {
            let level = [None, Some(true), Some(false)][dice.roll(3) as usize];
            let op = crate::harness::put(&format!("d{n}"), json!({"n": n}));
            let request =
                WriteRequest { ops: vec![op], refresh: RefreshPolicy::None, wait_for_sync: level, timeout_ms: 60_000 };
            let Ok(ShardResponse::Write(answer)) = harness.ask(ShardRequest::Write(request)) else { panic!("written") };
            let kept = level.unwrap_or(seed % 2 == 1);
            assert!(answer.fsynced || !kept, "seed {seed}: acknowledged without the sync it asked for");
            promised.push(answer.fsynced);
            if dice.roll(4) == 0 {
                harness.pause(dice.roll(3000));
            }
        }
        harness.crash();
        harness.open().expect("opens");
        for (n, promised) in promised.iter().enumerate() {
            let found = harness.get(&format!("d{n}"), true).found;
            assert!(found || !promised, "seed {seed}: write {n} was said to be on the disk and is lost");
        }
    }
}

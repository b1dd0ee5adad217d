//! Disks that fail without dying: failed syncs, failed writes, no space, flipped bits.

use ringdex::error::ApiResult;
use ringdex::shard::message::{RefreshPolicy, ShardRequest, ShardResponse, WriteOp, WriteRequest};
use ringdex_engine::store::sim::Step;
use serde_json::json;

use crate::harness::{Dice, Harness, put, scenario};

#[test]
fn a_failed_sync_fails_the_shard_and_nothing_is_acknowledged_after_it() {
    for nth in 1..40u64 {
        let mut harness = Harness::new(nth, json!({}));
        harness.open().expect("an empty disk opens");
        harness.disk().fail_sync(nth);
        let mut acknowledged_after = 0;
        for n in 0..60u64 {
            let failed_before = harness.owner.failed.borrow().is_some();
            let answer = harness.ask(ShardRequest::Write(WriteRequest {
                ops: vec![put(&format!("d{n}"), json!({"n": n}))],
                refresh: RefreshPolicy::None,
                wait_for_sync: None,
                timeout_ms: 60_000,
            }));
            if failed_before && answer.is_ok() {
                acknowledged_after += 1;
            }
            if n % 7 == 6 {
                let _ = harness.ask(ShardRequest::Flush { force: true, wait_if_ongoing: true });
            }
        }
        assert_eq!(acknowledged_after, 0, "sync {nth}: acknowledged after the shard had failed");
        assert!(harness.owner.failed.borrow().is_some(), "sync {nth}: nobody was told");
    }
}

#[test]
fn writes_stop_at_a_full_disk_and_go_on_when_there_is_space() {
    for seed in 0..12 {
        let mut harness = Harness::new(seed, json!({"index.translog.generation_threshold_size": "64kb"}));
        harness.open().expect("an empty disk opens");
        let mut dice = Dice(seed);
        scenario(&mut harness, &mut dice, 10);
        let used = harness.disk().used_space();
        harness.disk().limit_space(Some(used + 4096 * dice.roll(20)));
        // Documents big enough to need a new translog generation soon.
        let filler = "x".repeat(9_000);
        let mut refused = 0;
        for n in 0..200u64 {
            let op = put(&format!("d{}", n % 12), json!({"n": n, "text": filler}));
            let ShardResponse::Write(answer) = harness
                .ask(ShardRequest::Write(WriteRequest {
                    ops: vec![op.clone()],
                    refresh: RefreshPolicy::None,
                    wait_for_sync: None,
                    timeout_ms: 60_000,
                }))
                .unwrap_or_else(|e| panic!("seed {seed}: a full disk is not a failed shard: {e}"))
            else {
                panic!("not an answer to a write")
            };
            match &answer.items[0] {
                Ok(done) => harness.note(&op, done),
                Err(e) => {
                    assert_eq!((e.status, e.kind.as_str()), (429, "cluster_block_exception"), "{e}");
                    refused += 1;
                }
            }
            if n % 16 == 3 {
                let _ = harness.ask(ShardRequest::Flush { force: true, wait_if_ongoing: true });
            }
        }
        assert!(refused > 0, "seed {seed}: the disk never was full");
        assert!(harness.owner.failed.borrow().is_none(), "seed {seed}: {:?}", harness.owner.failed.borrow());
        harness.check();
        harness.disk().limit_space(None);
        harness.pause(10_000);
        harness.write(vec![put("after", json!({"n": 1}))], RefreshPolicy::Immediate);
        assert!(harness.acked.contains_key("after"), "seed {seed}: space is back, writing is not");
        harness.check();
        harness.crash();
        harness.open().expect("opens");
        harness.check();
    }
}

/// Writes documents until ten in a row are refused.
fn fill(harness: &mut Harness) {
    let filler = "x".repeat(9_000);
    let mut refused = 0;
    for n in 0..1000 {
        let op = put(&format!("f{n}"), json!({"n": n, "text": filler}));
        match try_put(harness, &op) {
            Ok(()) => refused = 0,
            Err(e) => {
                assert_eq!((e.status, e.kind.as_str()), (429, "cluster_block_exception"), "{e}");
                refused += 1;
            }
        }
        if refused == 10 {
            return;
        }
    }
    panic!("the disk never was full");
}

fn try_put(harness: &mut Harness, op: &WriteOp) -> ApiResult<()> {
    let request =
        WriteRequest { ops: vec![op.clone()], refresh: RefreshPolicy::None, wait_for_sync: None, timeout_ms: 60_000 };
    let answer = harness.ask(ShardRequest::Write(request)).unwrap_or_else(|e| panic!("not a failed shard: {e}"));
    let ShardResponse::Write(mut answer) = answer else { panic!("not an answer to a write") };
    answer.items.remove(0).map(|done| harness.note(op, &done))
}

#[test]
fn a_full_disk_is_left_alone_however_many_writes_it_refuses() {
    for seed in 0..4 {
        let mut harness = Harness::new(seed, json!({"index.translog.generation_threshold_size": "64kb"}));
        harness.open().expect("an empty disk opens");
        let disk = harness.disk();
        disk.limit_space(Some(disk.used_space() + (200 << 10)));
        fill(&mut harness);
        disk.limit_space(Some(0));
        disk.clear_trace();
        // Ten seconds, with a refusal and what wakes upkeep every ten milliseconds.
        for n in 0..1000 {
            let op = put(&format!("r{n}"), json!({"n": n, "text": "x".repeat(9_000), "new": n}));
            try_put(&mut harness, &op).expect_err("accepted on a full disk");
            if n % 10 == 0 {
                harness.ask(ShardRequest::Refresh).expect("refreshes");
            }
            harness.pause(10);
        }
        let created: Vec<String> = disk
            .trace()
            .into_iter()
            .filter_map(|step| match step {
                Step::Create(name) if name.starts_with("translog-") => Some(name),
                _ => None,
            })
            .collect();
        assert!((5..=80).contains(&created.len()), "seed {seed}: {} attempts in ten seconds", created.len());
        assert!(created.iter().all(|name| *name == created[0]), "seed {seed}: one name is enough, {created:?}");
        let mapping = harness.owner.index.borrow().mapping.to_string();
        assert!(!mapping.contains("\"new\""), "seed {seed}: a refused document changed the mapping");
        disk.limit_space(None);
        harness.pause(1_000);
        try_put(&mut harness, &put("after", json!({"n": 1}))).expect("space is back");
        harness.check();
    }
}

#[test]
fn a_shard_opens_on_a_full_disk_and_writes_when_there_is_space() {
    for seed in 0..12 {
        let mut harness = Harness::new(seed, json!({"index.translog.generation_threshold_size": "64kb"}));
        harness.open().expect("an empty disk opens");
        scenario(&mut harness, &mut Dice(seed), 10);
        let disk = harness.disk();
        disk.limit_space(Some(disk.used_space() + (300 << 10)));
        fill(&mut harness);
        for _ in 0..3 {
            disk.limit_space(Some(0));
            harness.crash();
            harness
                .open()
                .unwrap_or_else(|e| panic!("seed {seed}: a full disk does not keep a shard from opening: {e}"));
            harness.check();
            // Until what was prepared and never used is.
            fill(&mut harness);
            harness.check();
        }
        // Nobody writes: upkeep finds out by itself.
        disk.limit_space(None);
        harness.pause(12_000);
        let used = disk.used_space();
        disk.limit_space(Some(used));
        try_put(&mut harness, &put("after", json!({"n": 1}))).expect("there was space, and upkeep has taken some");
        harness.check();
        harness.crash();
        harness.open().expect("opens");
        harness.check();
    }
}

#[test]
fn a_flipped_bit_in_what_was_committed_is_refused_with_file_and_offset() {
    let mut harness = Harness::new(1, json!({}));
    harness.open().expect("an empty disk opens");
    scenario(&mut harness, &mut Dice(1), 40);
    harness.ask(ShardRequest::Flush { force: true, wait_if_ongoing: true }).expect("flushes");
    harness.crash();
    let commit = harness.names().into_iter().filter(|n| n.starts_with("commit-")).max().expect("a commit point");
    harness.disk().flip(&commit, 40, 3);
    let error = harness.open().expect_err("a damaged commit point opens");
    assert!(error.reason.contains(&commit) && error.reason.contains("offset"), "{error}");
    harness.disk().flip(&commit, 40, 3);
    harness.open().expect("the bit is back");
    harness.check();
}

//! The translog against a list of operations, on a disk that crashes at every step.

use std::cell::RefCell;
use std::rc::Rc;

use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;

use super::*;
use crate::ids::{PrimaryTerm, Version};
use crate::op::OperationKind;
use crate::store::Directory;
use crate::store::sim::{SimDirectory, Step, Stop};

const UUID: Uuid = [9; 16];
const SMALL: Options = Options { first_size: 3 * BLOCK as u64, size_max: 6 * BLOCK as u64, spares_max: 2 };
const START: Position = Position { generation: Generation(1), batch: 1 };

/// An encoded operation: its sequence number again in the id, `size` bytes of source.
fn op(seq_no: i64, size: usize) -> Vec<u8> {
    let id = format!("doc-{seq_no}");
    let source = vec![b'a' + (seq_no % 26) as u8; size];
    let kind = OperationKind::Index { id: &id, version: Version(1), routing: None, source: &source };
    let mut out = Vec::new();
    Operation { seq_no: SeqNo(seq_no), term: PrimaryTerm(1), kind }.encode(&mut out);
    out
}

async fn add<D: Directory>(translog: &Translog<D>, seq_no: i64, size: usize) -> Result<Location> {
    let encoded = op(seq_no, size);
    translog.reserve(encoded.len()).await?;
    translog.append_encoded(SeqNo(seq_no), &encoded)
}

async fn collect<D: Directory>(mut reader: OperationReader<D>) -> Result<Vec<i64>> {
    let mut out = Vec::new();
    while let Some(batch) = reader.next().await? {
        for (encoded, operation) in batch.operations() {
            let OperationKind::Index { id, source, .. } = operation.kind else { panic!("{operation:?}") };
            assert_eq!(id, format!("doc-{}", operation.seq_no));
            assert_eq!(encoded, op(operation.seq_no.0, source.len()));
            out.push(operation.seq_no.0);
        }
    }
    Ok(out)
}

async fn reopen(d: &SimDirectory, from: Position) -> Result<(Translog<SimDirectory>, Vec<i64>)> {
    let translog = Translog::open(d.clone(), UUID, from, SMALL).await?;
    let operations = collect(translog.replay()).await?;
    Ok((translog, operations))
}

fn new_translog(d: &SimDirectory) -> Translog<SimDirectory> {
    block_on(Translog::create(d.clone(), UUID, SMALL)).unwrap()
}

fn file(generation: u64) -> String {
    format!("translog-{generation}.tlog")
}

fn is_corrupt(result: Result<(Translog<SimDirectory>, Vec<i64>)>, name: &str, at: u64) {
    match result {
        Err(Error::Corrupt { file, offset, .. }) => assert_eq!((file.as_str(), offset), (name, at)),
        Err(e) => panic!("{e}"),
        Ok((_, operations)) => panic!("opened with {operations:?}"),
    }
}

#[test]
fn synced_operations_are_replayed_in_order() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        for i in 0..5 {
            let location = add(&t, i, 10).await.unwrap();
            assert!(t.synced() < location && t.needs_sync());
            if i % 2 == 0 {
                t.sync().await.unwrap();
                assert_eq!(t.synced(), location);
            }
        }
        t.sync().await.unwrap();
        assert!(!t.needs_sync());
        let (t, operations) = reopen(&d, START).await.unwrap();
        assert_eq!(operations, [0, 1, 2, 3, 4]);
        assert_eq!(t.stats().operations, 5);
        assert_eq!(t.stats().uncommitted_operations, 5);
        // 3 batches, and the headers of the two generations they are in and of the new one.
        assert_eq!(t.stats().size_in_bytes, 6 * BLOCK as u64);
    });
}

#[test]
fn unsynced_operations_are_gone_after_a_crash() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        add(&t, 1, 10).await.unwrap();
        d.crash();
        d.restart();
        assert_eq!(reopen(&d, START).await.unwrap().1, [0]);
    });
}

#[test]
fn one_sync_covers_all_that_wait_while_the_next_batch_fills() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        let first: Vec<_> = (0..10).map(|i| t.append_encoded(SeqNo(i), &op(i, 10)).unwrap()).collect();
        d.set_yielding(true);
        let mut waits: Vec<_> = first.iter().map(|l| Box::pin(t.wait_synced(*l))).collect();
        let mut sync = Box::pin(t.sync());
        assert!(poll_once(&mut sync).await.is_none(), "the write is in flight");
        let late = t.append_encoded(SeqNo(10), &op(10, 10)).unwrap();
        let mut other = Box::pin(t.sync());
        assert!(poll_once(&mut other).await.is_none(), "a second sync waits for the first");
        for w in &mut waits {
            assert!(poll_once(w).await.is_none());
        }
        d.clear_trace();
        sync.await.unwrap();
        for w in waits {
            assert_eq!(poll_once(w).await, Some(Ok(())));
        }
        assert!(t.synced() < late);
        other.await.unwrap();
        assert_eq!(t.synced(), late);
        let f = "translog-1.tmp".to_owned(); // the handle's first name
        let (a, b) = (BLOCK as u64, 2 * BLOCK as u64);
        let want =
            [Step::Write(f.clone(), a, BLOCK), Step::Sync(f.clone()), Step::Write(f.clone(), b, BLOCK), Step::Sync(f)];
        assert_eq!(d.trace(), want);
    });
}

#[test]
fn appending_wakes_the_sync_task() {
    let d = SimDirectory::new(1);
    let t = new_translog(&d);
    let (worker, syncs) = (t.clone(), Rc::new(RefCell::new(0)));
    let count = syncs.clone();
    let task = async move {
        loop {
            worker.wait_appended().await?;
            worker.sync().await?;
            *count.borrow_mut() += 1;
        }
    };
    let clients = async {
        for i in 0..3 {
            let location = add(&t, i, 10).await?;
            t.wait_synced(location).await?;
        }
        Ok::<(), Error>(())
    };
    block_on(futures_lite::future::or(clients, task)).unwrap();
    assert_eq!(t.synced().ordinal, 3);
}

#[test]
fn failed_sync_fails_the_translog_for_ever() {
    for write in [false, true] {
        block_on(async {
            let d = SimDirectory::new(1);
            let t = new_translog(&d);
            let a = add(&t, 0, 10).await.unwrap();
            let mut waiting = Box::pin(t.wait_synced(a));
            assert!(poll_once(&mut waiting).await.is_none());
            if write {
                d.fail_write(1)
            } else {
                d.fail_sync(1)
            };
            let error = t.sync().await.unwrap_err();
            let Error::Io { context, .. } = &error else { panic!("{error}") };
            assert_eq!(*context, format!("translog-1.tlog: {} at 4096", if write { "write" } else { "sync" }));
            assert_eq!(waiting.await.unwrap_err(), error);
            let steps = d.steps();
            assert_eq!(t.sync().await.unwrap_err(), error, "and not tried again");
            assert!(matches!(t.append_encoded(SeqNo(1), &op(1, 1)), Err(Error::Failed { .. })));
            assert!(matches!(t.reserve(1).await, Err(Error::Failed { .. })));
            assert!(matches!(t.roll().await, Err(Error::Failed { .. })));
            assert!(matches!(t.prepare_next().await, Err(Error::Failed { .. })));
            assert_eq!(t.wait_appended().await.unwrap_err(), error);
            assert_eq!(t.failure(), Some(error));
            assert!(!t.wants_next());
            assert_eq!(d.steps(), steps, "nothing is written after a failure");
        });
    }
}

#[test]
fn abandoned_sync_fails_the_translog() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        let location = add(&t, 0, 10).await.unwrap();
        d.set_yielding(true);
        assert!(poll_once(t.sync()).await.is_none());
        assert!(matches!(t.wait_synced(location).await, Err(Error::Failed { .. })));
    });
}

#[test]
fn abandoned_preparation_is_taken_up_again() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        d.set_yielding(true);
        assert!(poll_once(t.prepare_next()).await.is_none());
        t.prepare_next().await.unwrap();
        assert!(!t.wants_next());
    });
}

#[test]
fn full_disk_refuses_appends_only_and_resumes() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        d.limit_space(Some(d.used_space()));
        let mut count = 0;
        let refused = loop {
            match t.append_encoded(SeqNo(count), &op(count, 1000)) {
                Ok(_) => count += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(refused, Error::Rejected { .. }), "not known to be full yet");
        assert!(t.wants_next());
        assert!(matches!(t.prepare_next().await, Err(Error::DiskFull { .. })));
        assert!(matches!(t.append_encoded(SeqNo(count), &op(count, 1000)), Err(Error::DiskFull { .. })));
        assert!(matches!(t.reserve(1000).await, Err(Error::DiskFull { .. })));
        assert_eq!(d.list().await.unwrap().len(), 1, "no half-made file is left");
        t.sync().await.unwrap();
        assert_eq!(collect(t.read_range(SeqNo(0), SeqNo(99))).await.unwrap(), (0..count).collect::<Vec<_>>());
        assert!(t.wants_next());
        d.limit_space(None);
        add(&t, count, 1000).await.unwrap();
        t.sync().await.unwrap();
        assert_eq!(reopen(&d, START).await.unwrap().1, (0..=count).collect::<Vec<_>>());
    });
}

#[test]
fn a_disk_without_space_for_a_large_generation_gets_a_small_one() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        let mut count = 0;
        while t.append_encoded(SeqNo(count), &op(count, 1000)).is_ok() {
            count += 1;
        }
        // The next one would be larger, and that is more than there is.
        d.limit_space(Some(d.used_space() + SMALL.first_size));
        t.prepare_next().await.unwrap();
        add(&t, count, 1000).await.unwrap();
        t.sync().await.unwrap();
        assert_eq!(reopen(&d, START).await.unwrap().1, (0..=count).collect::<Vec<_>>());
    });
}

#[test]
fn full_disk_does_not_keep_a_translog_from_opening() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        d.limit_space(Some(d.used_space()));
        let (t, operations) = reopen(&d, START).await.unwrap();
        assert_eq!(operations, [0]);
        assert!(matches!(t.append_encoded(SeqNo(1), &op(1, 1)), Err(Error::DiskFull { .. })));
        assert_eq!(t.min_generation_for(SeqNo(1)), START, "no generation to begin at");
        assert!(t.wants_next());
        d.limit_space(None);
        t.prepare_next().await.unwrap();
        add(&t, 1, 1).await.unwrap();
        t.sync().await.unwrap();
        assert_eq!(reopen(&d, START).await.unwrap().1, [0, 1]);
    });
}

#[test]
fn generations_follow_each_other_and_grow() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        for i in 0..40 {
            add(&t, i, 900).await.unwrap();
            if i % 3 == 0 {
                t.sync().await.unwrap();
            }
        }
        t.sync().await.unwrap();
        let sizes: Vec<u64> = d.list().await.unwrap().into_iter().map(|(_, size)| size / BLOCK as u64).collect();
        assert_eq!(sizes[0], 3);
        assert!(sizes.len() > 3 && sizes[1..].iter().all(|s| *s == 6), "{sizes:?}");
        assert_eq!(reopen(&d, START).await.unwrap().1, (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn operation_over_the_generation_size_gets_one_of_its_own_size() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        t.prepare_next().await.unwrap();
        assert!(matches!(t.append_encoded(SeqNo(0), &op(0, 100_000)), Err(Error::Rejected { .. })));
        assert!(t.wants_next());
        for (i, size) in [(0, 100_000), (1, 10), (2, 3_000_000), (3, 10)] {
            add(&t, i, size).await.unwrap();
        }
        t.sync().await.unwrap();
        assert_eq!(reopen(&d, START).await.unwrap().1, [0, 1, 2, 3]);
        let huge = t.reserve(OPERATION_MAX + 1).await;
        assert!(matches!(huge, Err(Error::Rejected { .. })));
    });
}

#[test]
fn commit_drops_what_it_holds_and_files_are_written_again() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        let mut from = START;
        for round in 0..8 {
            for i in 0..5 {
                add(&t, round * 5 + i, 1000).await.unwrap();
            }
            t.sync().await.unwrap();
            t.roll().await.unwrap();
            from = t.min_generation_for(SeqNo(round * 5 + 5));
            assert_eq!(from.generation, t.generation());
            t.committed(from);
            assert_eq!(t.stats().uncommitted_operations, 0);
            t.trim(t.generation()).await.unwrap();
            assert_eq!(t.min_generation(), t.generation());
        }
        let created = d.trace().iter().filter(|s| matches!(s, Step::Create(_))).count();
        assert!(created <= 5, "{created} files made for {}", t.generation());
        assert!(d.list().await.unwrap().len() <= 2 + SMALL.spares_max);
        let (_, operations) = reopen(&d, from).await.unwrap();
        assert!(operations.is_empty(), "{operations:?}");
    });
}

#[test]
fn generations_with_operations_above_the_checkpoint_are_kept() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        // A replica's order: 5 arrives before 3.
        for seq_no in [0, 1, 5] {
            add(&t, seq_no, 10).await.unwrap();
        }
        t.roll().await.unwrap();
        for seq_no in [2, 3, 4] {
            add(&t, seq_no, 10).await.unwrap();
        }
        t.sync().await.unwrap();
        t.roll().await.unwrap();
        assert_eq!(t.min_generation_for(SeqNo(5)), START);
        assert_eq!(t.min_generation_for(SeqNo(6)), Position { generation: t.generation(), batch: 3 });
        t.trim(t.generation()).await.unwrap();
        assert_eq!(t.min_generation(), Generation(1), "no commit yet");
        assert_eq!(collect(t.read_range(SeqNo(3), SeqNo(5))).await.unwrap(), [5, 3, 4]);
        assert_eq!(collect(t.read_range(SeqNo(7), SeqNo(9))).await.unwrap(), [0i64; 0]);
    });
}

#[test]
fn reader_outlives_a_trim() {
    block_on(async {
        // All generations of one size: each would do as a spare for the next.
        let options = Options { first_size: SMALL.size_max, ..SMALL };
        let t = Translog::create(SimDirectory::new(1), UUID, options).await.unwrap();
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        let reader = t.read_range(SeqNo(0), SeqNo(9));
        t.roll().await.unwrap();
        t.committed(t.min_generation_for(SeqNo(1)));
        t.trim(t.generation()).await.unwrap();
        for i in 1..30 {
            add(&t, i, 900).await.unwrap();
        }
        t.sync().await.unwrap();
        assert_eq!(collect(reader).await.unwrap(), [0]);
    });
}

#[test]
fn history_below_the_commit_is_kept_while_it_joins_up() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        for i in 0..4 {
            add(&t, i, 10).await.unwrap();
            t.sync().await.unwrap();
            t.roll().await.unwrap();
        }
        let from = t.min_generation_for(SeqNo(4));
        let (t, operations) = reopen(&d, from).await.unwrap();
        assert!(operations.is_empty());
        assert_eq!(collect(t.read_range(SeqNo(0), SeqNo(9))).await.unwrap(), [0, 1, 2, 3]);
        d.flip(&file(2), BLOCK as u64 + 50, 3);
        let (t, _) = reopen(&d, from).await.unwrap();
        assert_eq!(
            collect(t.read_range(SeqNo(0), SeqNo(9))).await.unwrap(),
            [2, 3],
            "below the damage nothing is usable"
        );
    });
}

#[test]
fn hole_in_the_middle_is_corruption_and_a_torn_tail_is_not() {
    let build = || {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        block_on(async {
            for i in 0..2 {
                add(&t, i, 10).await.unwrap();
                t.sync().await.unwrap();
            }
        });
        (d, t)
    };
    let block = BLOCK as u64;
    for damage in [0, 5, 39, 60] {
        let (d, _) = build();
        d.flip(&file(1), block + damage, 0);
        is_corrupt(block_on(reopen(&d, START)), &file(1), block);
        let (d, t) = build();
        d.flip(&file(1), 2 * block + damage, 0);
        assert_eq!(block_on(reopen(&d, START)).unwrap().1, [0], "the newest batch may be torn");
        // Unless it was sealed.
        let (d, t2) = build();
        drop(t);
        block_on(t2.roll()).unwrap();
        block_on(t2.seal()).unwrap();
        assert!(!t2.needs_sync());
        d.flip(&file(1), 2 * block + damage, 0);
        is_corrupt(block_on(reopen(&d, START)), &file(1), 2 * block);
    }
}

/// Two operations in the first generation, the second prepared, closed in order.
fn closed() -> SimDirectory {
    let d = SimDirectory::new(1);
    let options = Options { first_size: 8 << 20, size_max: 8 << 20, ..SMALL };
    block_on(async {
        let t = Translog::create(d.clone(), UUID, options).await.unwrap();
        for i in 0..2 {
            add(&t, i, 10).await.unwrap();
            t.sync().await.unwrap();
        }
        t.prepare_next().await.unwrap();
        t.close().await.unwrap();
        assert!(add(&t, 2, 10).await.is_err(), "nothing is taken after the end");
    });
    d
}

#[test]
fn what_was_closed_in_order_is_not_searched_for_more() {
    let block = BLOCK as u64;
    let ledger = std::sync::Arc::<crate::store::ledger::Ledger>::default();
    let purpose = crate::store::ledger::Purpose::Segments;
    let d = crate::store::ledger::Ledgered::new(closed(), ledger.clone(), purpose);
    let t = block_on(Translog::open(d, UUID, START, SMALL)).unwrap();
    assert_eq!(block_on(collect(t.replay())).unwrap(), [0, 1]);
    let read = ledger.flow(crate::store::ledger::Purpose::Translog).read_bytes;
    assert!(read <= 3 << 20, "{read} bytes read of 16 MiB");
    // Without the end everything is looked through, and nothing is lost either.
    let d = closed();
    d.flip(&file(1), 3 * block + 5, 0);
    assert_eq!(block_on(reopen(&d, START)).unwrap().1, [0, 1]);
    // The end proves the batch before it.
    let d = closed();
    d.flip(&file(1), 2 * block + 60, 0);
    is_corrupt(block_on(reopen(&d, START)), &file(1), 2 * block);
}

#[test]
fn lives_that_write_nothing_leave_no_files_behind() {
    let d = closed();
    let files = block_on(d.list()).unwrap().len();
    for _ in 0..5 {
        let ledger = std::sync::Arc::<crate::store::ledger::Ledger>::default();
        let purpose = crate::store::ledger::Purpose::Segments;
        let counted = crate::store::ledger::Ledgered::new(d.clone(), ledger.clone(), purpose);
        let options = Options { first_size: 8 << 20, size_max: 8 << 20, ..SMALL };
        let t = block_on(Translog::open(counted, UUID, START, options)).unwrap();
        assert_eq!(block_on(collect(t.replay())).unwrap(), [0, 1]);
        block_on(t.close()).unwrap();
        let flow = ledger.flow(crate::store::ledger::Purpose::Translog);
        assert!(flow.read_bytes <= 3 << 20, "{flow:?}");
        assert_eq!(block_on(d.list()).unwrap().len(), files, "{:?}", block_on(d.list()));
    }
    let (t, _) = block_on(reopen(&d, START)).unwrap();
    block_on(add(&t, 2, 10)).unwrap();
    block_on(t.close()).unwrap();
    assert_eq!(block_on(reopen(&d, START)).unwrap().1, [0, 1, 2]);
}

#[test]
fn a_life_that_only_commits_leaves_a_place_to_begin() {
    let d = closed();
    let position = block_on(async {
        let (t, replayed) = reopen(&d, START).await.unwrap();
        assert_eq!(replayed, [0, 1]);
        t.roll().await.unwrap();
        let position = t.min_generation_for(SeqNo(2));
        t.committed(position);
        t.trim(position.generation).await.unwrap();
        t.close().await.unwrap();
        position
    });
    for n in 2..5 {
        let (t, replayed) = block_on(reopen(&d, position)).unwrap();
        assert_eq!(replayed, (2..n).collect::<Vec<_>>());
        block_on(add(&t, n, 10)).unwrap();
        block_on(t.close()).unwrap();
    }
}

#[test]
fn what_was_written_after_the_end_by_another_life_is_looked_for() {
    let block = BLOCK as u64;
    let write = || {
        let d = closed();
        let generation = block_on(async {
            let t = Translog::open(d.clone(), UUID, START, SMALL).await.unwrap();
            for i in 2..4 {
                add(&t, i, 10).await.unwrap();
                t.sync().await.unwrap();
            }
            t.generation()
        });
        (d, generation.0)
    };
    let (d, generation) = write();
    assert_eq!(block_on(reopen(&d, START)).unwrap().1, [0, 1, 2, 3]);
    let (d, _) = write();
    d.flip(&file(generation), block + 45, 0);
    is_corrupt(block_on(reopen(&d, START)), &file(generation), block);
    let (d, _) = write();
    d.flip(&file(generation), block, 0);
    is_corrupt(block_on(reopen(&d, START)), &file(generation), block);
}

#[test]
fn damage_in_an_older_generation_is_corruption() {
    for (at, offset) in [(0, 0), (40, 48), (BLOCK as u64, BLOCK as u64), (BLOCK as u64 + 45, BLOCK as u64)] {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        block_on(async {
            add(&t, 0, 10).await.unwrap();
            t.sync().await.unwrap();
            t.roll().await.unwrap();
            add(&t, 1, 10).await.unwrap();
            t.sync().await.unwrap();
        });
        d.flip(&file(1), at, 0);
        match block_on(reopen(&d, START)) {
            Err(Error::Corrupt { file: f, offset: o, .. }) if at == BLOCK as u64 => {
                // Without a header at all the next file's beginning tells.
                assert_eq!((f, o), (file(2), offset));
            }
            other => is_corrupt(other, &file(1), offset),
        }
    }
}

#[test]
fn missing_generation_is_corruption() {
    block_on(async {
        // Of a missing file nothing is left but the numbers on both sides.
        for (missing, seen_in, at) in [(1, 2, BLOCK), (2, 1, 2 * BLOCK)] {
            let d = SimDirectory::new(1);
            let t = new_translog(&d);
            for i in 0..3 {
                add(&t, i, 10).await.unwrap();
                t.sync().await.unwrap();
                t.roll().await.unwrap();
            }
            d.remove(&file(missing)).await.unwrap();
            is_corrupt(reopen(&d, START).await, &file(seen_in), at as u64);
        }
    });
}

#[test]
fn late_write_of_a_dead_process_is_no_ghost() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        let before = d.content(&file(1)).unwrap();
        add(&t, 1, 10).await.unwrap();
        t.sync().await.unwrap();
        let late = d.content(&file(1)).unwrap();
        d.put(&file(1), &before);
        let (t, operations) = reopen(&d, START).await.unwrap();
        assert_eq!(operations, [0]);
        add(&t, 2, 10).await.unwrap();
        t.sync().await.unwrap();
        d.put(&file(1), &late);
        assert_eq!(reopen(&d, START).await.unwrap().1, [0, 2]);
    });
}

#[test]
fn what_a_recovery_has_read_is_durable() {
    block_on(async {
        for seed in 0..50 {
            let d = SimDirectory::new(seed);
            let t = new_translog(&d);
            add(&t, 0, 2000).await.unwrap();
            d.set_yielding(true);
            let mut sync = Box::pin(t.sync());
            for _ in 0..2 {
                assert!(poll_once(&mut sync).await.is_none(), "written, not synced");
            }
            drop(sync);
            d.set_yielding(false);
            d.restart();
            assert_eq!(reopen(&d, START).await.unwrap().1, [0], "the process died, the write had happened");
            d.crash();
            d.restart();
            assert_eq!(reopen(&d, START).await.unwrap().1, [0]);
        }
    });
}

#[test]
fn another_translog_in_the_directory_is_replaced_when_a_commit_says_so() {
    block_on(async {
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        let other = Translog::create(d.clone(), [8; 16], SMALL).await.unwrap();
        add(&other, 7, 10).await.unwrap();
        other.sync().await.unwrap();
        let (_, operations) = reopen(&d, START).await.unwrap();
        assert_eq!(operations, [0], "the commit still names the old one");
        let d = SimDirectory::new(1);
        let t = new_translog(&d);
        add(&t, 0, 10).await.unwrap();
        t.sync().await.unwrap();
        let other = Translog::create(d.clone(), [8; 16], SMALL).await.unwrap();
        let from = other.min_generation_for(SeqNo(0));
        other.committed(from);
        other.trim(other.generation()).await.unwrap();
        assert_eq!(d.list().await.unwrap().len(), 1);
        assert!(Translog::open(d, [8; 16], from, SMALL).await.is_ok());
    });
}

#[cfg(feature = "glommio")]
#[test]
fn real_files_are_grown_recycled_and_replayed() {
    use crate::store::dma::{DmaDirectory, on_disk};

    on_disk(async |path: std::path::PathBuf| {
        let options = Options { first_size: 64 << 10, size_max: 256 << 10, spares_max: 2 };
        let d = DmaDirectory::open(path.join("translog")).await.unwrap();
        let t = Translog::create(d.clone(), UUID, options).await.unwrap();
        let worker = t.clone();
        let sync_task = glommio::spawn_local(async move {
            while worker.wait_appended().await.is_ok() {
                worker.sync().await.unwrap();
            }
        })
        .detach();
        let mut from = START;
        let mut seq_no = 0;
        for round in 0..6 {
            // 64 writers, each waiting for its own operation, 2000 operations of 300 bytes.
            let next = Rc::new(std::cell::Cell::new(seq_no));
            seq_no += 2000;
            let writers: Vec<_> = (0..64)
                .map(|_| {
                    let (t, next) = (t.clone(), next.clone());
                    glommio::spawn_local(async move {
                        while next.get() < seq_no {
                            t.reserve(400).await.unwrap();
                            let i = next.replace(next.get() + 1);
                            if i >= seq_no {
                                break;
                            }
                            let location = t.append_encoded(SeqNo(i), &op(i, 300)).unwrap();
                            t.wait_synced(location).await.unwrap();
                        }
                    })
                })
                .collect();
            for w in writers {
                w.await;
            }
            if round < 5 {
                t.roll().await.unwrap();
                from = t.min_generation_for(SeqNo(seq_no));
                t.committed(from);
                t.trim(t.generation()).await.unwrap();
            }
        }
        assert!(t.generation() > Generation(12), "several generations a round: {}", t.generation());
        let files = d.list().await.unwrap();
        assert!(files.len() < 10, "{files:?}");
        assert!(t.failure().is_none());
        t.seal().await.unwrap();
        t.fail(Error::Failed { reason: "end of the test".to_owned() });
        sync_task.await;
        let t = Translog::open(d, UUID, from, options).await.unwrap();
        let replayed = collect(t.replay()).await.unwrap();
        assert_eq!(replayed, (seq_no - 2000..seq_no).collect::<Vec<_>>());
        add(&t, seq_no, 10).await.unwrap();
        t.sync().await.unwrap();
        assert_eq!(collect(t.read_range(SeqNo(seq_no - 1), SeqNo(seq_no))).await.unwrap(), [seq_no - 1, seq_no]);
    });
}

#[test]
fn fuzz_body_accepts_anything() {
    fuzz_translog_read(&[]);
    for mode in 0..4u8 {
        for fill in [0u8, 1, 0xff] {
            fuzz_translog_read(&[&[mode][..], &vec![fill; 3 * BLOCK]].concat());
        }
    }
}

/// What a client of the translog does.
#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Sync,
    Prepare,
    Seal,
    /// The last thing that is done.
    Close,
    /// Roll, commit everything synced, trim.
    Commit,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => prop_oneof![4 => 0usize..200, 2 => 1000usize..6000, 1 => 9000usize..30_000].prop_map(Act::Append),
        4 => Just(Act::Sync),
        1 => Just(Act::Prepare),
        1 => Just(Act::Seal),
        1 => Just(Act::Close),
        2 => Just(Act::Commit),
    ];
    proptest::collection::vec(act, 1..30)
}

/// What the client knows, whatever happens to the machine.
struct Model {
    /// Sequence numbers appended, in order.
    appended: i64,
    /// Those below this were acknowledged.
    acked: i64,
    /// The last durable commit: position, and operations below this are in it.
    commit: (Position, i64),
    /// The commit being written: durable or not, if the machine stops.
    committing: Option<(Position, i64)>,
}

/// Runs until the end or the first error.
async fn run(t: &Translog<SimDirectory>, acts: &[Act], m: &mut Model) -> Result<()> {
    for act in acts {
        match act {
            Act::Append(size) => {
                add(t, m.appended, *size).await?;
                m.appended += 1;
            }
            Act::Sync => {
                t.sync().await?;
                m.acked = m.appended;
            }
            Act::Prepare => t.prepare_next().await?,
            Act::Seal => {
                t.seal().await?;
                m.acked = m.appended;
            }
            Act::Close => {
                t.close().await?;
                m.acked = m.appended;
                return Ok(());
            }
            Act::Commit => {
                t.roll().await?;
                // The segments hold what was appended, acknowledged or not.
                let commit = (t.min_generation_for(SeqNo(m.appended)), m.appended);
                m.committing = Some(commit);
                write_commit(&t.shared.directory, commit).await?;
                m.commit = commit;
                m.committing = None;
                t.committed(commit.0);
                t.trim(t.generation()).await?;
            }
        }
    }
    Ok(())
}

/// A stand-in for a commit point, with the same steps.
async fn write_commit(d: &SimDirectory, (position, below): (Position, i64)) -> Result<()> {
    let text = format!("{} {} {below}", position.generation, position.batch);
    crate::store::replace_file(d, "commit", text.as_bytes()).await
}

async fn read_commit(d: &SimDirectory) -> (Position, i64) {
    let text = String::from_utf8(d.read("commit").await.unwrap()).unwrap();
    let n: Vec<u64> = text.split(' ').map(|n| n.parse().unwrap()).collect();
    (Position { generation: Generation(n[0]), batch: n[1] }, n[2] as i64)
}

/// Opens after whatever happened, and checks every promise. Returns the translog for another life.
async fn check_after_crash(d: &SimDirectory, m: &mut Model) -> Translog<SimDirectory> {
    let commit = read_commit(d).await;
    assert!(commit == m.commit || Some(commit) == m.committing, "{commit:?}");
    (m.commit, m.committing) = (commit, None);
    let (t, replayed) = match reopen(d, commit.0).await {
        Ok(opened) => opened,
        Err(e) => panic!("{e}, files {:?}, trace {:#?}", d.list().await, d.trace()),
    };
    let lost_from = match replayed.last() {
        Some(last) => last + 1,
        None => commit.1,
    };
    if let Some(first) = replayed.first() {
        assert!(*first <= commit.1, "a gap between the commit at {} and {first}", commit.1);
    }
    assert!(replayed.windows(2).all(|w| w[1] == w[0] + 1), "each once, in order: {replayed:?}");
    let known = lost_from.max(commit.1);
    assert!(known >= m.acked, "acknowledged below {}, found below {known}", m.acked);
    assert!(known <= m.appended, "nothing that was never appended");
    // The rest was never acknowledged; the shard goes on from what it has.
    (m.appended, m.acked) = (known, known);
    t
}

/// Two lives, stopped at step `n` of the first, of recovery, or of the second, as `n` falls; then a third that must just work.
fn crash_at(seed: u64, n: u64, stop: Stop, power: bool, first: &[Act], second: &[Act]) -> bool {
    let d = SimDirectory::new(seed);
    let mut m = Model { appended: 0, acked: 0, commit: (START, 0), committing: None };
    block_on(async {
        let mut t = new_translog(&d);
        write_commit(&d, m.commit).await.unwrap();
        d.clear_trace();
        d.fail_after(n, stop);
        let mut struck = false;
        let mut die = |d: &SimDirectory| {
            assert!(d.stopped(), "only the injected stop may fail a call");
            struck = true;
            if power {
                d.crash();
            }
            d.restart();
        };
        if run(&t, first, &mut m).await.is_err() {
            die(&d);
            t = check_after_crash(&d, &mut m).await;
        } else {
            // A clean stop, and perhaps a crash while recovering.
            let commit = m.commit;
            match reopen(&d, commit.0).await {
                Ok((opened, _)) => t = opened,
                Err(_) => {
                    die(&d);
                    t = check_after_crash(&d, &mut m).await;
                }
            }
            (m.appended, m.acked) = (m.appended.min(m.acked.max(m.commit.1)), m.acked);
            m.appended = m.appended.max(m.acked);
            m.acked = m.appended;
        }
        if run(&t, second, &mut m).await.is_err() {
            die(&d);
            t = check_after_crash(&d, &mut m).await;
            run(&t, second, &mut m).await.unwrap();
        }
        // Without a stop, a last power loss.
        drop(t);
        d.crash();
        d.restart();
        check_after_crash(&d, &mut m).await;
        struck
    })
}

fn crash_everywhere(seed: u64, first: &[Act], second: &[Act]) {
    for stop in [Stop::Before, Stop::After] {
        for power in [true, false] {
            let mut n = 1;
            while crash_at(seed.wrapping_add(n), n, stop, power, first, second) {
                n += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_operations_survive_a_crash_at_every_step(seed in any::<u64>(), first in acts(), second in acts()) {
        crash_everywhere(seed, &first, &second);
    }

    #[test]
    fn an_error_at_any_write_or_sync_loses_nothing_acknowledged(seed in any::<u64>(), acts in acts(), n in 1u64..40, write in any::<bool>()) {
        let d = SimDirectory::new(seed);
        let mut m = Model { appended: 0, acked: 0, commit: (START, 0), committing: None };
        block_on(async {
            let t = new_translog(&d);
            write_commit(&d, m.commit).await.unwrap();
            if write { d.fail_write(n) } else { d.fail_sync(n) };
            let _ = run(&t, &acts, &mut m).await;
            d.crash();
            d.restart();
            // A commit whose sync failed may be there or not, but its own rules are not under test here.
            if m.committing.is_none() {
                let t = check_after_crash(&d, &mut m).await;
                run(&t, &acts, &mut m).await.unwrap();
            }
        });
    }

    #[test]
    fn full_disk_at_any_size_refuses_and_resumes(acts in acts(), space in 3u64..60) {
        let d = SimDirectory::new(1);
        let mut m = Model { appended: 0, acked: 0, commit: (START, 0), committing: None };
        block_on(async {
            let t = new_translog(&d);
            write_commit(&d, m.commit).await.unwrap();
            d.limit_space(Some(space * BLOCK as u64));
            for act in acts.iter().filter(|act| !matches!(act, Act::Close)) {
                let result = run(&t, std::slice::from_ref(act), &mut m).await;
                prop_assert!(matches!(result, Ok(()) | Err(Error::DiskFull { .. })), "{result:?}");
                m.committing = None;
                // What was accepted can always be made durable, and read.
                t.sync().await.unwrap();
                m.acked = m.appended;
                let held = collect(t.replay()).await.unwrap();
                prop_assert_eq!(held.last().map_or(m.commit.1.max(m.acked), |l| l + 1), m.acked);
            }
            d.limit_space(None);
            add(&t, m.appended, 5000).await.unwrap();
            t.sync().await.unwrap();
            m.appended += 1;
            m.acked = m.appended;
            let _ = d.remove("commit.tmp").await;
            drop(t);
            d.restart();
            check_after_crash(&d, &mut m).await;
            Ok(())
        })?;
    }

    #[test]
    fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        fuzz_translog_read(&bytes);
    }
}

//! A copy under arbitrary orders, crashes and roll-backs, against the naive model: of the operations that are here, the one with
//! the highest sequence number says what a document is.

use std::collections::BTreeMap;

use futures_lite::future::block_on;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::analysis::AnalyzerRegistry;
use crate::digest::Digest;
use crate::document;
use crate::engine::EngineConfig;
use crate::ids::Version;
use crate::merge::policy::MergeCandidate;
use crate::pace::Unpaced;
use crate::seed::HashSeed;
use crate::segment::writer::Codec;
use crate::store::FileBytes;
use crate::store::sim::{SimDirectory, Stop};

pub(crate) const UUID: [u8; 16] = [7; 16];

/// An encoded operation.
pub(crate) type Bytes = Vec<u8>;

/// The operation `seq_no` of `term`: which document it changes, and how, comes from `what`.
pub(crate) fn operation(seq_no: i64, term: u64, what: u8) -> Bytes {
    let id = format!("d{}", what % 5);
    let source = json!({"n": seq_no, "t": term, "k": what}).to_string();
    let version = Version(seq_no as u64 + 1);
    let kind = match what / 5 % 5 {
        0 => OperationKind::NoOp { reason: "nothing" },
        1 | 2 => OperationKind::Delete { id: &id, version },
        _ => {
            let routing = (what % 2 == 1).then_some("r");
            OperationKind::Index { id: &id, version, routing, source: source.as_bytes() }
        }
    };
    let mut out = Vec::new();
    Operation { seq_no: SeqNo(seq_no), term: PrimaryTerm(term), kind }.encode(&mut out);
    out
}

/// What a document is: sequence number, term, version, source.
pub(crate) type Documents = BTreeMap<String, (SeqNo, PrimaryTerm, Version, Vec<u8>)>;

/// The model.
pub(crate) fn model<'a>(operations: impl Iterator<Item = &'a Bytes>) -> Documents {
    let mut newest: BTreeMap<&str, Operation<'_>> = BTreeMap::new();
    for bytes in operations {
        let operation = Operation::decode(bytes).unwrap();
        let Some(id) = operation.id() else { continue };
        if newest.get(id).is_none_or(|other| other.seq_no < operation.seq_no) {
            newest.insert(id, operation);
        }
    }
    let index = |(id, o): (&str, Operation<'_>)| match o.kind {
        OperationKind::Index { version, source, .. } => {
            Some((id.to_owned(), (o.seq_no, o.term, version, source.to_vec())))
        }
        _ => None,
    };
    newest.into_iter().filter_map(index).collect()
}

/// A copy on a simulated disk.
pub(crate) struct Copy {
    pub disk: SimDirectory,
    pub engine: Engine<SimDirectory>,
    mapping: Mapping,
    pub now_ms: i64,
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        shard_uuid: UUID,
        codec: Codec::Default,
        translog_generation_bytes: 16 << 10,
        hash_seed: HashSeed::new(3),
    }
}

impl Copy {
    pub fn open(disk: SimDirectory) -> Result<Copy> {
        let fields = json!({"properties": {"n": {"type": "long"}, "t": {"type": "long"}, "k": {"type": "keyword"}}});
        let mapping = Mapping::parse(&fields, &AnalyzerRegistry::default()).unwrap();
        let engine = block_on(Engine::open(disk.clone(), config()))?;
        let copy = Copy { disk, engine, mapping, now_ms: 0 };
        let mut replay = copy.engine.replay();
        while let Some(batch) = block_on(replay.next())? {
            for (_, operation) in batch.operations() {
                copy.engine.recover(&copy.mapping, &operation, &copy.parsed(&operation), 0)?;
            }
        }
        Ok(copy)
    }

    fn parsed(&self, operation: &Operation<'_>) -> ParsedDocument {
        let mut parsed = ParsedDocument::default();
        if let OperationKind::Index { id, source, .. } = operation.kind {
            document::parse(&self.mapping, id, source, &mut parsed).unwrap();
        }
        parsed
    }

    pub fn apply(&self, bytes: &[u8]) -> Result<Location> {
        block_on(self.engine.translog().reserve(bytes.len()))?;
        let operation = Operation::decode(bytes).unwrap();
        self.engine.apply(&self.mapping, &operation, bytes, &self.parsed(&operation), self.now_ms)
    }

    pub fn sync(&self) -> Result<()> {
        block_on(self.engine.sync())
    }

    pub fn refresh(&self) -> Result<bool> {
        block_on(self.engine.refresh(self.now_ms, &Unpaced))
    }

    pub fn flush(&self) -> Result<bool> {
        block_on(self.engine.flush(true, self.now_ms, &Unpaced))
    }

    pub fn merge(&self) -> Result<()> {
        let segments: Vec<_> = self.engine.segment_sizes().iter().map(|s| s.id).collect();
        let Some(job) = self.engine.begin_merge(&MergeCandidate { segments }) else { return Ok(()) };
        let began_with: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
        let merged = block_on(job.run(&self.disk, &crate::pace::Unpaced))?;
        let bytes: Option<FileBytes> = match merged.meta {
            Some(_) => Some(block_on(crate::store::Directory::map(&self.disk, &job.name))?),
            None => None,
        };
        block_on(self.engine.finish_merge(job.target, &began_with, &merged.maps, bytes))
    }

    /// Everything above `to` is undone. Whether it could be.
    pub fn roll_back(&self, to: i64, suspended_to: i64) -> Result<bool> {
        block_on(async {
            match self.engine.roll_back(SeqNo(to), SeqNo(suspended_to)).await? {
                RollBackStart::Nothing => Ok(true),
                RollBackStart::NeedsRecovery => Ok(false),
                RollBackStart::Begun(mut back) => {
                    while let Some(batch) = back.next().await? {
                        for (_, operation) in batch.operations() {
                            back.recover(&self.mapping, &operation, &self.parsed(&operation), self.now_ms)?;
                        }
                    }
                    back.finish(self.now_ms, &Unpaced).await?;
                    Ok(true)
                }
            }
        })
    }

    /// The process is killed, perhaps with a power loss; and started again.
    pub fn restart(self, power: bool) -> Copy {
        let Copy { disk, engine, now_ms, .. } = self;
        drop(engine);
        if power {
            disk.crash();
        }
        disk.restart();
        Copy { now_ms, ..Copy::open(disk).unwrap() }
    }

    /// By realtime gets.
    pub fn documents(&self) -> Documents {
        let ids = (0..5).map(|i| format!("d{i}"));
        let got =
            ids.filter_map(|id| self.engine.get(&id).unwrap().map(|d| (id, (d.seq_no, d.term, d.version, d.source))));
        got.collect()
    }

    /// By a search, as well.
    pub fn checked_documents(&self) -> Documents {
        let documents = self.documents();
        self.refresh().unwrap();
        let visible =
            |id: &String| self.engine.get_visible(id).unwrap().map(|d| (d.seq_no, d.term, d.version, d.source));
        for i in 0..5 {
            let id = format!("d{i}");
            assert_eq!(visible(&id), documents.get(&id).cloned(), "{id}");
        }
        assert_eq!(self.digest().documents, documents.len() as u64);
        documents
    }

    pub fn digest(&self) -> Digest {
        self.refresh().unwrap();
        block_on(self.engine.digest(&Unpaced)).unwrap()
    }

    /// The numbers that are here.
    pub fn numbers(&self) -> Vec<i64> {
        (0..200).filter(|n| self.engine.contains(SeqNo(*n))).collect()
    }

    pub fn read(&self, mut reader: OperationReader<SimDirectory>) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(batch) = block_on(reader.next()).unwrap() {
            all.extend(batch.operations().map(|(bytes, _)| bytes.to_vec()));
        }
        all
    }

    pub fn history(&self, from: i64) -> Vec<Bytes> {
        sorted(self.read(block_on(self.engine.operations(SeqNo(from))).unwrap()))
    }
}

fn sorted(mut operations: Vec<Bytes>) -> Vec<Bytes> {
    operations.sort_by_key(|bytes| Operation::decode(bytes).unwrap().seq_no);
    operations
}

fn copy() -> Copy {
    Copy::open(SimDirectory::new(1)).unwrap()
}

/// What may happen between two operations.
fn upkeep(copy: Copy, what: u8) -> Copy {
    match what % 16 {
        0 => drop(copy.refresh().unwrap()),
        1 => drop(copy.flush().unwrap()),
        2 => copy.merge().unwrap(),
        3 => copy.sync().unwrap(),
        4 => return Copy { now_ms: copy.now_ms + 100_000, ..copy },
        5 => {
            copy.sync().unwrap();
            return copy.restart(what >= 128);
        }
        _ => {}
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_with_duplicates_leaves_what_the_model_says(
        whats in proptest::collection::vec(any::<u8>(), 1..40),
        order in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..80),
        shuffle in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let all: Vec<Bytes> = whats.iter().enumerate().map(|(i, what)| operation(i as i64, 1, *what)).collect();
        let mut copy = copy();
        let mut here = BTreeMap::new();
        let rest = shuffle.into_iter().filter(|i| *i < all.len()).map(|i| (i, 0));
        let some = order.into_iter().map(|(index, what)| (index.index(all.len()), what));
        for (i, what) in some.collect::<Vec<_>>().into_iter().chain(rest.clone()).chain(rest) {
            let before = copy.engine.translog().stats().operations;
            copy.apply(&all[i]).unwrap();
            let appended = copy.engine.translog().stats().operations - before;
            prop_assert_eq!(appended, u64::from(here.insert(i, all[i].clone()).is_none()), "one record an operation");
            prop_assert_eq!(copy.documents(), model(here.values()));
            copy = upkeep(copy, what);
            prop_assert_eq!(copy.documents(), model(here.values()));
            let dense = (0..).take_while(|i| here.contains_key(i)).count() as i64 - 1;
            prop_assert_eq!(copy.engine.local_checkpoint(), SeqNo(dense));
            prop_assert!(copy.engine.persisted_checkpoint() <= SeqNo(dense));
        }
        prop_assert_eq!(copy.checked_documents(), model(all.iter()));
        copy.sync().unwrap();
        prop_assert_eq!(copy.engine.persisted_checkpoint(), SeqNo(all.len() as i64 - 1));
        // A copy that got them in order is the same.
        let other = self::copy();
        for bytes in &all {
            other.apply(bytes).unwrap();
        }
        prop_assert_eq!(copy.digest(), other.digest());
    }
}

#[test]
fn a_copy_with_gaps_commits_and_loses_nothing_and_repeats_nothing() {
    // 3 changes what 2 changes, and came before it; 4 deletes what 2 puts anew.
    let all: Vec<Bytes> =
        [15, 16, 18, 18, 9].iter().enumerate().map(|(i, what)| operation(i as i64, 1, *what)).collect();
    let copy = copy();
    for i in [0, 1, 3, 4] {
        copy.apply(&all[i]).unwrap();
    }
    copy.flush().unwrap();
    assert_eq!(copy.engine.committed_checkpoint(), SeqNo(1));
    let mut copy = copy.restart(true);
    // No tombstone may be forgotten while 2 is missing.
    copy.now_ms = 10_000_000;
    copy.flush().unwrap();
    copy.refresh().unwrap();
    assert_eq!((copy.engine.local_checkpoint(), copy.engine.max_seq_no()), (SeqNo(1), SeqNo(4)));
    assert_eq!(copy.numbers(), [0, 1, 3, 4]);
    let records = copy.engine.translog().stats().operations;
    copy.apply(&all[3]).unwrap();
    assert_eq!(copy.engine.translog().stats().operations, records, "what is here is not appended again");
    copy.apply(&all[2]).unwrap();
    assert_eq!(copy.engine.local_checkpoint(), SeqNo(4));
    assert_eq!(copy.checked_documents(), model(all.iter()));
    let copy = copy.restart(false);
    assert_eq!(copy.engine.max_seq_no(), SeqNo(4));
}

#[test]
fn what_is_reported_durable_survives_a_crash_at_every_step() {
    for (stop, power) in [(Stop::Before, true), (Stop::After, true), (Stop::After, false)] {
        for n in 1.. {
            let disk = SimDirectory::new(n);
            let copy = Copy::open(disk.clone()).unwrap();
            disk.fail_after(n, stop);
            let mut persisted = SeqNo::NONE;
            let mut tried = BTreeMap::new();
            let mut run = || -> Result<()> {
                for i in 0..40u8 {
                    // Pairs come the wrong way round; every fourth never comes.
                    let seq_no = i64::from(i ^ 1);
                    if seq_no == 36 {
                        continue;
                    }
                    let bytes = operation(seq_no, 1, i.wrapping_mul(37));
                    tried.insert(seq_no, bytes.clone());
                    copy.apply(&bytes)?;
                    match i % 8 {
                        2 | 5 => copy.sync()?,
                        6 => drop(copy.flush()?),
                        7 => copy.merge()?,
                        _ => {}
                    }
                    let now = copy.engine.persisted_checkpoint();
                    assert!(now >= persisted, "it does not go back");
                    persisted = now;
                }
                Ok(())
            };
            let stopped = run().is_err();
            let copy = copy.restart(power);
            assert!(copy.engine.local_checkpoint() >= persisted, "step {n}: {persisted} was durable");
            let here = copy.numbers();
            assert_eq!(copy.checked_documents(), model(here.iter().map(|n| &tried[n])), "step {n}");
            if !stopped {
                assert!(n > 60, "{n} steps");
                break;
            }
        }
    }
}

#[test]
fn a_duplicate_can_be_waited_for() {
    let copy = copy();
    let bytes = operation(0, 1, 20);
    copy.apply(&bytes).unwrap();
    let again = copy.apply(&bytes).unwrap();
    assert!(!copy.engine.translog().is_synced(again));
    copy.sync().unwrap();
    block_on(copy.engine.wait_durable(again)).unwrap();
    assert_eq!(copy.engine.persisted_checkpoint(), SeqNo(0));
}

#[test]
fn persisted_follows_the_sync_and_not_the_append() {
    let copy = copy();
    copy.apply(&operation(1, 1, 20)).unwrap();
    copy.sync().unwrap();
    assert_eq!(copy.engine.persisted_checkpoint(), SeqNo::NONE);
    copy.apply(&operation(0, 1, 20)).unwrap();
    assert_eq!((copy.engine.local_checkpoint(), copy.engine.persisted_checkpoint()), (SeqNo(1), SeqNo::NONE));
    copy.sync().unwrap();
    assert_eq!(copy.engine.persisted_checkpoint(), SeqNo(1));
}

#[test]
fn another_operation_of_a_higher_term_is_refused_before_a_roll_back() {
    let copy = copy();
    copy.engine.set_global_checkpoint(SeqNo(0));
    copy.apply(&operation(0, 1, 20)).unwrap();
    copy.apply(&operation(1, 1, 21)).unwrap();
    assert!(matches!(copy.apply(&operation(1, 2, 22)), Err(Error::Request { .. })));
    assert_eq!(copy.history(0).len(), 2);
    // Up to the global checkpoint it can only be the same operation.
    copy.apply(&operation(0, 2, 20)).unwrap();
    // A late one of a lower term is no news.
    assert!(copy.roll_back(0, 1).unwrap());
    copy.apply(&operation(1, 2, 22)).unwrap();
    copy.apply(&operation(1, 1, 21)).unwrap();
    assert_eq!(copy.history(1), [operation(1, 2, 22)]);
}

#[test]
fn gaps_are_filled_with_operations_that_do_nothing() {
    let copy = copy();
    for n in [1, 4, 700] {
        copy.apply(&operation(n, 1, 20 + n as u8 % 5)).unwrap();
    }
    let before = copy.documents();
    let (filled, last) = block_on(copy.engine.fill_gaps(PrimaryTerm(2))).unwrap();
    assert_eq!((filled, copy.engine.local_checkpoint()), (698, SeqNo(700)));
    copy.sync().unwrap();
    assert!(copy.engine.translog().is_synced(last));
    assert_eq!(block_on(copy.engine.fill_gaps(PrimaryTerm(2))).unwrap().0, 0);
    let copy = copy.restart(true);
    assert_eq!((copy.engine.local_checkpoint(), copy.documents()), (SeqNo(700), before));
    let terms: Vec<u64> = copy.history(0).iter().map(|b| Operation::decode(b).unwrap().term.0).collect();
    assert_eq!((terms.len(), terms.iter().filter(|t| **t == 1).count()), (701, 3));
}

#[test]
fn a_copy_rolled_back_has_the_history_of_the_new_primary() {
    for flushes in 0..4 {
        let copy = copy();
        copy.engine.set_global_checkpoint(SeqNo::NONE);
        for n in 0..30 {
            copy.apply(&operation(n, 1, 15 + n as u8 % 10)).unwrap();
            if n % 10 == 4 {
                // Behind, as it is told with the next operations.
                copy.engine.set_global_checkpoint(SeqNo(n - 4));
                copy.flush().unwrap();
            }
            match flushes {
                1 if n == 21 => drop(copy.flush().unwrap()),
                2 if n == 29 => drop(copy.flush().unwrap()),
                3 if n > 12 => {
                    copy.refresh().unwrap();
                    copy.merge().unwrap();
                    copy.flush().unwrap();
                }
                _ => {}
            }
        }
        assert!(copy.roll_back(22, 26).unwrap());
        let (old, new): (Vec<_>, Vec<_>) =
            (0..30).map(|n| (operation(n, 1, 15 + n as u8 % 10), operation(n, 2, 24 - n as u8 % 10))).unzip();
        assert_eq!(copy.checked_documents(), model(old[..=22].iter()));
        assert_eq!((copy.engine.max_seq_no(), copy.engine.persisted_checkpoint()), (SeqNo(22), SeqNo(22)));
        assert_eq!(
            sorted(copy.read(copy.engine.suspended())),
            old[23..=26],
            "what is above the new primary's never happened"
        );
        let committed = copy.engine.committed_global_checkpoint();
        let copy = copy.restart(flushes % 2 == 0);
        assert_eq!(copy.engine.global_checkpoint(), Some(SeqNo(22)));
        assert!(committed == SeqNo(22) || flushes % 2 == 0, "{committed:?}");
        assert_eq!((copy.checked_documents(), copy.engine.max_seq_no()), (model(old[..=22].iter()), SeqNo(22)));
        assert_eq!(sorted(copy.read(copy.engine.suspended())), old[23..=26]);
        // 23 was on the new primary, too; then it goes its own way.
        copy.apply(&old[23]).unwrap();
        for n in [25, 24, 27, 26] {
            copy.apply(&new[n]).unwrap();
        }
        let want: Vec<Bytes> = old[..=23].iter().chain(&new[24..=27]).cloned().collect();
        assert_eq!(copy.checked_documents(), model(want.iter()));
        copy.sync().unwrap();
        let copy = copy.restart(true);
        assert_eq!(copy.checked_documents(), model(want.iter()));
        let from = copy.engine.history_from();
        assert_eq!(copy.history(from.0), want[from.0 as usize..]);
        copy.flush().unwrap();
        let copy = copy.restart(true);
        assert_eq!(copy.checked_documents(), model(want.iter()));
        assert_eq!(copy.numbers(), (0..28).collect::<Vec<_>>());
    }
}

#[test]
fn a_promoted_copy_restores_what_it_was_rolled_back_from() {
    let copy = copy();
    let all: Vec<Bytes> = (0..9).map(|n| operation(n, 1, 15 + n as u8)).collect();
    copy.engine.set_global_checkpoint(SeqNo(3));
    all.iter().for_each(|bytes| assert!(copy.apply(bytes).is_ok()));
    assert!(copy.roll_back(3, 8).unwrap());
    // The new primary could send one again, and an own one, before it died; the next gives way to another.
    copy.apply(&all[5]).unwrap();
    copy.apply(&operation(6, 2, 19)).unwrap();
    copy.apply(&operation(9, 2, 19)).unwrap();
    assert!(copy.roll_back(3, 9).unwrap());
    copy.apply(&operation(4, 3, 23)).unwrap();
    for bytes in copy.read(copy.engine.suspended()) {
        if !copy.engine.contains(Operation::decode(&bytes).unwrap().seq_no) {
            copy.apply(&bytes).unwrap();
        }
    }
    let (filled, _) = block_on(copy.engine.fill_gaps(PrimaryTerm(4))).unwrap();
    assert_eq!(filled, 0);
    let mut want = all.clone();
    want[4] = operation(4, 3, 23);
    want[6] = operation(6, 2, 19);
    want.push(operation(9, 2, 19));
    assert_eq!(copy.checked_documents(), model(want.iter()));
    assert_eq!(copy.history(0), want);
}

#[test]
fn without_a_safe_commit_a_copy_says_so_and_stays() {
    let copy = copy();
    for n in 0..9 {
        copy.apply(&operation(n, 1, 20)).unwrap();
    }
    copy.engine.set_global_checkpoint(SeqNo(8));
    copy.flush().unwrap();
    let before = copy.documents();
    // Only a wrong primary says this.
    copy.apply(&operation(9, 1, 21)).unwrap();
    copy.flush().unwrap();
    assert!(copy.roll_back(8, 9).unwrap());
    assert_eq!(copy.documents(), before);
    // A shard that had no other copy keeps one commit.
    let alone = self::copy();
    alone.apply(&operation(0, 1, 20)).unwrap();
    alone.engine.state.borrow_mut().copy.global_checkpoint = None;
    alone.flush().unwrap();
    let before = alone.documents();
    assert!(!alone.roll_back(-1, 9).unwrap());
    assert_eq!(alone.documents(), before);
    alone.apply(&operation(1, 1, 21)).unwrap();
}

#[test]
fn a_crash_at_every_step_of_a_roll_back_leaves_it_done_or_not_begun() {
    for (stop, power) in [(Stop::Before, true), (Stop::After, true), (Stop::After, false)] {
        let mut seen = [0, 0];
        for n in 1.. {
            let disk = SimDirectory::new(n);
            let copy = Copy::open(disk.clone()).unwrap();
            let old: Vec<Bytes> = (0..30).map(|n| operation(n, 1, (n as u8).wrapping_mul(37))).collect();
            for (n, bytes) in old.iter().enumerate() {
                copy.apply(bytes).unwrap();
                copy.engine.set_global_checkpoint(SeqNo(n as i64 - 5));
                match n {
                    12 | 18 | 26 => drop(copy.flush().unwrap()),
                    15 | 17 => drop(copy.refresh().unwrap()),
                    20 => copy.merge().unwrap(),
                    _ => {}
                }
            }
            copy.sync().unwrap();
            disk.fail_after(n, stop);
            let result = copy.roll_back(24, 27);
            let news: Vec<Bytes> = (25..32).map(|n| operation(n, 2, (n as u8).wrapping_mul(41))).collect();
            let mut synced = false;
            let mut tried = old[..=24].to_vec();
            if result.is_ok() {
                for bytes in &news {
                    tried.push(bytes.clone());
                    if copy.apply(bytes).is_err() {
                        break;
                    }
                }
                synced = copy.sync().is_ok() && copy.flush().is_ok() && copy.merge().is_ok() && copy.flush().is_ok();
            }
            let copy = copy.restart(power);
            let here = copy.numbers();
            let found = copy.checked_documents();
            let done = copy.engine.contains(SeqNo(25)) == (copy.history(25).first() == Some(&news[0]));
            let undone = here.len() == 30 && found == model(old.iter());
            if undone && result.is_err() {
                seen[0] += 1;
                // Once more, and now it goes through.
                assert!(copy.roll_back(24, 27).unwrap());
                assert_eq!(copy.checked_documents(), model(old[..=24].iter()));
            } else {
                seen[1] += 1;
                assert!(done);
                let want: Vec<Bytes> = here.iter().map(|n| tried[*n as usize].clone()).collect();
                assert_eq!(found, model(want.iter()), "step {n}");
                assert!(here.len() >= 25);
            }
            assert!(!synced || here.len() == 32);
            if synced {
                break;
            }
        }
        assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
    }
}

#[test]
fn an_unfinished_roll_back_fails_the_shard() {
    let copy = copy();
    copy.engine.set_global_checkpoint(SeqNo::NONE);
    copy.apply(&operation(0, 1, 20)).unwrap();
    let begun = block_on(copy.engine.roll_back(SeqNo::NONE, SeqNo(0))).unwrap();
    assert!(matches!(begun, RollBackStart::Begun(_)));
    assert!(copy.engine.failure().is_none());
    drop(begun);
    assert!(copy.engine.failure().is_some());
}

#[test]
fn history_is_kept_for_leases_and_no_longer() {
    let copy = copy();
    let all: Vec<Bytes> = (0..60).map(|n| operation(n, 1, 15 + n as u8 % 10)).collect();
    copy.engine.retain_from(SeqNo(20));
    for (n, bytes) in all.iter().enumerate() {
        copy.apply(bytes).unwrap();
        copy.engine.set_global_checkpoint(SeqNo(n as i64));
        if n % 5 == 4 {
            copy.sync().unwrap();
            copy.flush().unwrap();
        }
    }
    copy.apply(&operation(63, 1, 20)).unwrap();
    let check = |copy: &Copy, from: i64| {
        assert_eq!(copy.engine.history_from(), SeqNo(from));
        let mut want = all[from as usize..].to_vec();
        want.push(operation(63, 1, 20));
        assert_eq!(copy.history(from), want);
    };
    check(&copy, 20);
    copy.engine.retain_from(SeqNo(41));
    block_on(copy.engine.trim_history()).unwrap();
    check(&copy, 40);
    let copy = copy.restart(true);
    check(&copy, 40);
    // A cap by size: the two newest generations.
    copy.engine.retain_from(copy.engine.seq_no_within(3 * 8192 - 1));
    block_on(copy.engine.trim_history()).unwrap();
    let from = copy.engine.history_from();
    assert!(from > SeqNo(40) && from < SeqNo(60), "{from}");
    assert_eq!(copy.engine.seq_no_within(u64::MAX), SeqNo(0));
    copy.engine.retain_from(SeqNo(i64::MAX));
    copy.engine.set_global_checkpoint(SeqNo(63));
    copy.sync().unwrap();
    copy.flush().unwrap();
    assert_eq!(copy.engine.history_from(), SeqNo(60), "63 is above a gap, so the commit still needs it");
    assert_eq!(copy.history(0), [operation(63, 1, 20)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn roll_backs_and_upkeep_in_any_order_keep_to_the_model(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..80),
    ) {
        let mut copy = copy();
        copy.engine.set_global_checkpoint(SeqNo::NONE);
        let (mut here, mut term, mut global): (BTreeMap<i64, Bytes>, u64, i64) = (BTreeMap::new(), 1, -1);
        for (what, how, more) in steps {
            let dense = (0..).take_while(|i| here.contains_key(i)).count() as i64 - 1;
            match what % 12 {
                0 => {
                    term += 1;
                    prop_assert!(copy.roll_back(global, 1000).unwrap());
                    here.retain(|n, _| *n <= global);
                    prop_assert!(copy.engine.max_seq_no() <= SeqNo(global));
                }
                1 => {
                    global = global.max(dense - i64::from(how % 4));
                    copy.engine.set_global_checkpoint(SeqNo(global));
                }
                2..8 => {
                    let n = dense + 1 + i64::from(how % 4) * i64::from(what % 2);
                    if let std::collections::btree_map::Entry::Vacant(entry) = here.entry(n) {
                        let bytes = entry.insert(operation(n, term, more));
                        copy.apply(bytes).unwrap();
                    }
                }
                _ => {}
            }
            prop_assert_eq!(copy.documents(), model(here.values()));
            copy = upkeep(copy, how);
            copy.engine.set_global_checkpoint(SeqNo(global));
            prop_assert_eq!(copy.numbers(), here.keys().copied().collect::<Vec<_>>());
        }
        prop_assert_eq!(copy.checked_documents(), model(here.values()));
        let from = copy.engine.history_from().0;
        let history: Vec<Bytes> = here.range(from..).map(|(_, bytes)| bytes.clone()).collect();
        prop_assert_eq!(copy.history(from), history);
    }
}

//! One copy among several: operations of another copy, what of them is durable, and undoing those that never happened.
//!
//! Operations of other copies come with their numbers, in any order and more than once; what they leave is what they would
//! leave in order, once each. In the translog, between two roll-backs, a sequence number has one term.
//!
//! **Rolling back.** Up to the *global checkpoint* every copy has the same history. What a copy has above it may be
//! unknown to the next primary, which then gives the same numbers to other operations. So before a copy follows a new
//! primary it goes back to the global checkpoint:
//!
//! 1. The newest commit with nothing above the global checkpoint (the *safe* commit) takes the place of all in memory. It, and
//!    the translog from it on, have been kept for this; where there is none the copy needs a file recovery.
//! 2. A new translog generation is begun. In those before it, operations above the global checkpoint do not count any more
//!    (`translog::Voided`); the others are replayed.
//! 3. A commit says so, in its user data: `rolled_back`, with per roll-back the generation, the last sequence number that
//!    counts before it, and the last that may be restored, as in `7:41:45;12:60:66`.
//!
//! A crash before the commit is durable leaves the copy as it was before; nothing was applied in between.
//!
//! **Restoring.** Operations taken out may have been acknowledged: the new primary sends them again. If it dies before it
//! has and this copy is promoted, it must still have them: [`Engine::suspended`] gives them back. Only those that the new primary
//! had, or gave to another operation, may be: it tells its highest sequence number with the roll-back. They are kept until the
//! global checkpoint has passed them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_lock::MutexGuard;

use crate::commit::CommitPoint;
use crate::document::ParsedDocument;
use crate::engine::{Engine, IndexOperation};
use crate::error::{Error, Result};
use crate::ids::{Generation, PrimaryTerm, SeqNo};
use crate::mapping::Mapping;
use crate::op::{Operation, OperationKind};
use crate::pace::Pace;
use crate::recover::open_segments;
use crate::store::Directory;
use crate::translog::{Batch, Location, OperationReader, Voided};
use crate::write::buffer::IndexingBuffer;
use crate::write::local_checkpoint::LocalCheckpointTracker;
use crate::write::plan::Condition;
use crate::write::version_map::LiveVersionMap;

const GLOBAL_CHECKPOINT: &str = "global_checkpoint";
const ROLLED_BACK: &str = "rolled_back";
/// Gaps filled between two looks at the whole.
const GAPS: usize = 256;

/// What a copy knows of its history beyond which numbers it has.
pub(crate) struct CopyState {
    /// Every copy has the same up to here; none in a shard that never had another copy.
    pub global_checkpoint: Option<SeqNo>,
    /// Terms of the operations above the global checkpoint.
    terms: BTreeMap<SeqNo, PrimaryTerm>,
    /// Appended operations that may not be durable, by the order of appending.
    unsynced: VecDeque<(u64, SeqNo)>,
    /// Which are durable.
    pub persisted: LocalCheckpointTracker,
    /// Somebody may ask for operations from here on.
    pub retain_from: SeqNo,
    /// See the module.
    pub rolled_back: Vec<(Generation, Voided)>,
    /// All that are kept, ascending; the last is the newest durable one.
    pub commits: Vec<CommitPoint>,
    /// How many are reading a commit's files.
    pub pins: std::rc::Rc<std::cell::RefCell<BTreeMap<Generation, usize>>>,
}

impl CopyState {
    pub fn new(checkpoint: SeqNo) -> CopyState {
        CopyState {
            global_checkpoint: None,
            terms: BTreeMap::new(),
            unsynced: VecDeque::new(),
            persisted: LocalCheckpointTracker::new(checkpoint),
            retain_from: SeqNo(i64::MAX),
            rolled_back: Vec::new(),
            commits: Vec::new(),
            pins: Default::default(),
        }
    }

    fn note_term(&mut self, seq_no: SeqNo, term: PrimaryTerm) {
        if self.global_checkpoint.is_some_and(|global| seq_no > global) {
            self.terms.insert(seq_no, term);
        }
    }

    /// Operations up to `synced` are durable.
    fn note_synced(&mut self, synced: Location) {
        while let Some(&(ordinal, seq_no)) = self.unsynced.front()
            && ordinal <= synced.ordinal
        {
            self.unsynced.pop_front();
            self.persisted.mark(seq_no);
        }
    }

    /// The newest of the kept commits with nothing above `seq_no`.
    fn safe_commit(&self, seq_no: SeqNo) -> Option<&CommitPoint> {
        self.commits.iter().rev().find(|c| c.max_seq_no <= seq_no)
    }

    /// Forgets commits that neither a roll-back nor a reader can need.
    pub fn retire_commits(&mut self) {
        let newest = self.commits.last().map(|c| c.generation).expect("an open shard has a commit");
        let oldest = match self.global_checkpoint {
            None => newest,
            Some(global) => self.safe_commit(global).map_or(Generation(0), |c| c.generation),
        };
        let pins = self.pins.borrow();
        self.commits.retain(|c| c.generation >= oldest || pins.contains_key(&c.generation));
    }

    /// Whether this commit is kept.
    pub fn keeps(&self, generation: Generation) -> bool {
        self.commits.iter().any(|c| c.generation == generation)
    }

    /// Whether a kept commit names this segment or live-docs file.
    pub fn names(&self, file: &str) -> bool {
        let mut segments = self.commits.iter().flat_map(|c| &c.segments);
        segments.any(|s| s.file == file || s.live_docs_file().is_some_and(|live| live == file))
    }

    /// For the next commit. Roll-backs are told as long as there are generations before them.
    pub fn user_data(&self, oldest: Generation) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        if let Some(global) = self.global_checkpoint {
            data.insert(GLOBAL_CHECKPOINT.to_owned(), global.to_string());
        }
        let told = self.rolled_back.iter().filter(|(generation, _)| *generation > oldest);
        let told: Vec<String> = told.map(|(g, v)| format!("{g}:{}:{}", v.above, v.suspended_to)).collect();
        if !told.is_empty() {
            data.insert(ROLLED_BACK.to_owned(), told.join(";"));
        }
        data
    }
}

/// The global checkpoint as it was known to a commit.
pub(crate) fn global_checkpoint(commit: &CommitPoint) -> Result<Option<SeqNo>> {
    let Some(text) = commit.user_data.get(GLOBAL_CHECKPOINT) else { return Ok(None) };
    let wrong = || Error::corrupt(commit.file_name(), 0, format!("global checkpoint [{text}]"));
    text.parse().map(|n| Some(SeqNo(n))).map_err(|_| wrong())
}

/// The roll-backs that a commit tells of.
pub(crate) fn rolled_back(commit: &CommitPoint) -> Result<Vec<(Generation, Voided)>> {
    let Some(text) = commit.user_data.get(ROLLED_BACK) else { return Ok(Vec::new()) };
    let parse = |one: &str| {
        let mut numbers = one.split(':');
        let generation = Generation(numbers.next()?.parse().ok()?);
        let above = SeqNo(numbers.next()?.parse().ok()?);
        let suspended_to = SeqNo(numbers.next()?.parse().ok()?);
        numbers.next().is_none().then_some((generation, Voided { above, suspended_to }))
    };
    let all: Option<Vec<_>> = text.split(';').map(parse).collect();
    all.ok_or_else(|| Error::corrupt(commit.file_name(), 0, format!("roll-backs [{text}]")))
}

impl crate::engine::State {
    /// An operation is in the translog's batch; everything up to `synced` is durable.
    pub fn appended(&mut self, location: Location, synced: Location, seq_no: SeqNo, term: PrimaryTerm) {
        self.copy.note_synced(synced);
        self.copy.unsynced.push_back((location.ordinal, seq_no));
        self.copy.note_term(seq_no, term);
    }

    /// An operation was read back from the translog.
    pub fn recovered(&mut self, seq_no: SeqNo, term: PrimaryTerm) {
        self.copy.persisted.mark(seq_no);
        self.copy.note_term(seq_no, term);
    }
}

/// What [`Engine::roll_back`] came to.
pub enum RollBackStart<'a, D: Directory> {
    /// This copy has nothing above the global checkpoint.
    Nothing,
    /// Feed it its operations.
    Begun(RollBack<'a, D>),
    /// No commit goes back that far: the copy must be recovered from another's files. Nothing was changed.
    NeedsRecovery,
}

impl<D: Directory> Engine<D> {
    /// Takes an operation of another copy, with the numbers it has. `encoded` are its bytes, which go to the translog as they
    /// are; `parsed` is its source (if it has one), parsed with `mapping`. In any order, and any number of times: what is
    /// here already changes nothing; if only files have it, it becomes history. Durable once the location is, also then.
    ///
    /// # Errors
    /// `DiskFull` and `Rejected` (nothing was changed); `Failed`; `Request` when another operation has this number in a
    /// lower term: the copy must be [rolled back](Self::roll_back) before it follows the new primary.
    pub fn apply(
        &self,
        mapping: &Mapping,
        operation: &Operation<'_>,
        encoded: &[u8],
        parsed: &ParsedDocument,
        now_ms: i64,
    ) -> Result<Location> {
        debug_assert_eq!(Operation::decode(encoded).as_ref(), Ok(operation));
        self.check_open()?;
        let state = &mut *self.state.borrow_mut();
        state.copy.global_checkpoint.get_or_insert(SeqNo::NONE);
        let Operation { seq_no, term, kind } = *operation;
        if state.checkpoints.contains(seq_no) {
            if let Some(here) = state.copy.terms.get(&seq_no).filter(|here| **here < term) {
                return Err(Error::request(
                    "illegal_state_exception",
                    format!("operation [{seq_no}] of term [{term}] is here in term [{here}]: roll back first"),
                ));
            }
            // In files it may be without being in the translog. Above the global checkpoint this copy must be able to give
            // it to others, should it become their primary.
            if state.copy.global_checkpoint < Some(seq_no)
                && seq_no < self.translog.complete_from(state.checkpoints.checkpoint())
            {
                self.translog.append_encoded(seq_no, encoded)?;
                state.copy.note_term(seq_no, term);
            }
            return Ok(self.translog.appended());
        }
        let found = operation.id().map_or(Ok(None), |id| state.find(id))?;
        let location = self.translog.append_encoded(seq_no, encoded)?;
        let newer = found.is_none_or(|f| f.current.seq_no < seq_no);
        match kind {
            OperationKind::Index { id, version, routing, source } if newer => {
                let index =
                    IndexOperation { id, routing, source, condition: Condition::Any, create: false, auto_id: false };
                state.put(mapping, parsed, &index, found, version, seq_no, term);
            }
            OperationKind::Delete { id, version } if newer => state.remove(id, found, version, seq_no, term, now_ms),
            _ => state.mark(seq_no),
        }
        state.appended(location, self.translog.synced(), seq_no, term);
        Ok(location)
    }

    /// Whether an operation with this number is here.
    #[must_use]
    pub fn contains(&self, seq_no: SeqNo) -> bool {
        self.state.borrow().checkpoints.contains(seq_no)
    }

    /// Every operation up to here is in this copy and survives a crash.
    #[must_use]
    pub fn persisted_checkpoint(&self) -> SeqNo {
        let state = &mut *self.state.borrow_mut();
        state.copy.note_synced(self.translog.synced());
        state.copy.persisted.checkpoint()
    }

    /// The last known global checkpoint (after an opening, as the newest commit knew it); none in a shard that never had
    /// another copy.
    #[must_use]
    pub fn global_checkpoint(&self) -> Option<SeqNo> {
        self.state.borrow().copy.global_checkpoint
    }

    /// What [`global_checkpoint`](Self::global_checkpoint) would answer after an opening now: a copy that comes back lacks what
    /// others did above it.
    #[must_use]
    pub fn committed_global_checkpoint(&self) -> SeqNo {
        let state = self.state.borrow();
        let newest = state.copy.commits.last().and_then(|commit| global_checkpoint(commit).ok().flatten());
        newest.unwrap_or(SeqNo::NONE)
    }

    /// Every in-sync copy has the same operations up to here; it never goes back. From the first call on commits are kept that a
    /// roll-back to it may need. The next commit remembers it.
    pub fn set_global_checkpoint(&self, seq_no: SeqNo) {
        let copy = &mut self.state.borrow_mut().copy;
        let global = copy.global_checkpoint.map_or(seq_no, |g| g.max(seq_no));
        copy.global_checkpoint = Some(global);
        copy.terms = copy.terms.split_off(&global.next());
    }

    /// For a promoted copy: gives every number below the highest that no operation has to one that does nothing. Answers how
    /// many, and where the last is. To be called again after an error, and before the copy numbers operations itself.
    ///
    /// # Errors
    /// `DiskFull`, `Failed`.
    pub async fn fill_gaps(&self, term: PrimaryTerm) -> Result<(u64, Location)> {
        let mut filled = 0;
        loop {
            let missing = self.state.borrow().checkpoints.missing(GAPS);
            if missing.is_empty() {
                return Ok((filled, self.translog.appended()));
            }
            for seq_no in missing {
                let operation = Operation { seq_no, term, kind: OperationKind::NoOp { reason: "filling gaps" } };
                let mut encoded = Vec::new();
                operation.encode(&mut encoded);
                self.translog.reserve(encoded.len()).await?;
                self.check_open()?;
                let state = &mut *self.state.borrow_mut();
                // Somebody may have brought it meanwhile.
                if !state.checkpoints.contains(seq_no) {
                    let location = self.translog.append_encoded(seq_no, &encoded)?;
                    state.mark(seq_no);
                    state.appended(location, self.translog.synced(), seq_no, term);
                    filled += 1;
                }
            }
        }
    }

    /// For a promoted copy, before [`fill_gaps`](Self::fill_gaps): operations that roll-backs took out of it and that it has not
    /// got again since. [`apply`](Self::apply) each that is not [here](Self::contains), in the order they come.
    #[must_use]
    pub fn suspended(&self) -> OperationReader<D> {
        self.translog.suspended()
    }

    /// Whether [`roll_back`](Self::roll_back) to `to` can begin.
    #[must_use]
    pub fn can_roll_back(&self, to: SeqNo) -> bool {
        self.max_seq_no() <= to || self.safe_commit(to).is_some()
    }

    /// The commit to go back to `to` from: without anything above, and the operations between are there.
    fn safe_commit(&self, to: SeqNo) -> Option<CommitPoint> {
        let safe = self.state.borrow().copy.safe_commit(to).cloned();
        safe.filter(|c| self.translog.holds(c.translog_position))
    }

    /// Begins to undo every operation above `to`, a global checkpoint, before this copy follows a primary that may not have
    /// them. `suspended_to` is the new primary's highest sequence number when it began its term: what is above that never
    /// happened. Feed what [`RollBack::next`] gives to [`RollBack::recover`], then [`RollBack::finish`]. Writes are
    /// refused meanwhile; searches see what they saw.
    ///
    /// # Errors
    /// `DiskFull` (nothing was changed); others fail the shard.
    pub async fn roll_back(&self, to: SeqNo, suspended_to: SeqNo) -> Result<RollBackStart<'_, D>> {
        let flushing = self.flush_lock.lock().await;
        let refreshing = self.refresh_lock.lock().await;
        let writing = self.write_lock.lock().await;
        self.check_open()?;
        self.set_global_checkpoint(to);
        if self.max_seq_no() <= to {
            return Ok(RollBackStart::Nothing);
        }
        let Some(safe) = self.safe_commit(to) else { return Ok(RollBackStart::NeedsRecovery) };
        let segments = self.noting(open_segments(&self.directory, &safe).await)?;
        let voided = Voided { above: to, suspended_to };
        // Refuses operations from here on, so that none is between what is voided and what is not.
        self.rolling_back.set(true);
        let rolled = self.translog.roll_back(voided).await;
        self.rolling_back.set(rolled.is_ok());
        let generation = self.noting(rolled)?;
        let seed = self.hash_seed();
        let state = &mut *self.state.borrow_mut();
        state.buffer = IndexingBuffer::new(seed);
        state.frozen = None;
        state.versions = LiveVersionMap::new(seed);
        state.checkpoints = LocalCheckpointTracker::new(safe.local_checkpoint);
        state.checkpoints.advance_max(safe.max_seq_no);
        state.segments = segments;
        for entry in &mut state.segments {
            // Names of live docs that later commits have used are never used again.
            let commits = state.copy.commits.iter().flat_map(|c| &c.segments);
            let used = commits.filter(|s| s.id == entry.id).filter_map(|s| s.live_docs).max().unwrap_or_default();
            entry.live_generation = Generation(used.0 + u64::from(entry.live.is_some()));
        }
        state.pending_deletes.clear();
        (state.visible, state.visible_max) = (safe.local_checkpoint, safe.max_seq_no);
        state.changes += 1;
        let merging: BTreeSet<_> = std::mem::take(&mut state.merging).into_keys().collect();
        state.cancelled.extend(merging);
        state.copy.terms.clear();
        state.copy.unsynced.clear();
        state.copy.persisted = LocalCheckpointTracker::new(safe.local_checkpoint);
        state.copy.rolled_back.push((generation, voided));
        let operations = self.translog.replay_from(safe.translog_position, to);
        let locks = Some((flushing, refreshing, writing));
        Ok(RollBackStart::Begun(RollBack { engine: self, locks, operations }))
    }
}

/// A copy that is being rolled back. Dropped before its end it fails the shard: half a history is nobody's.
#[must_use]
pub struct RollBack<'a, D: Directory> {
    engine: &'a Engine<D>,
    /// Of flushes, of refreshes, of whoever writes images.
    locks: Option<(MutexGuard<'a, ()>, MutexGuard<'a, ()>, MutexGuard<'a, ()>)>,
    operations: OperationReader<D>,
}

impl<D: Directory> RollBack<'_, D> {
    /// Operations that count and that the safe commit lacks; none after the last.
    ///
    /// # Errors
    /// Any fails the shard.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        self.engine.noting(self.operations.next().await)
    }

    /// As [`Engine::recover`].
    ///
    /// # Errors
    /// `Corrupt` fails the shard.
    pub fn recover(
        &self,
        mapping: &Mapping,
        operation: &Operation<'_>,
        parsed: &ParsedDocument,
        now_ms: i64,
    ) -> Result<()> {
        self.engine.noting(self.engine.recover(mapping, operation, parsed, now_ms))
    }

    /// Frees the indexing buffer, when memory is short; searches then see the copy as far as it has come.
    ///
    /// # Errors
    /// As [`Engine::refresh`].
    pub async fn refresh<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        self.engine.refresh_locked(now_ms, pace).await
    }

    /// Commits. When this returns the copy has nothing above the global checkpoint, whatever happens to it, and takes
    /// operations again.
    ///
    /// # Errors
    /// Any fails the shard: a full disk, too.
    pub async fn finish<P: Pace>(mut self, now_ms: i64, pace: &P) -> Result<()> {
        if let Some(batch) = self.next().await? {
            panic!("a roll-back is finished before batch {} of its history was replayed", batch.number());
        }
        let Some((_flushing, refreshing, writing)) = self.locks.take() else { return Ok(()) };
        drop((refreshing, writing));
        // An unfinished flush leaves the flag set, and dropping this fails the shard.
        self.engine.noting(self.engine.flush_locked(true, now_ms, pace).await)?;
        self.engine.rolling_back.set(false);
        Ok(())
    }
}

impl<D: Directory> Drop for RollBack<'_, D> {
    fn drop(&mut self) {
        if self.engine.rolling_back.get() {
            self.engine.fail(&Error::Failed { reason: "a roll-back was not finished".to_owned() });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

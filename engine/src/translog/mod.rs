//! The translog: every operation since the last commit, durable before it is acknowledged.
//!
//! ```text
//! append ──> batch being filled ──sync──> translog-N.tlog      one write and one fdatasync for all who wait
//!                                         translog-N+1.tlog    prepared ahead: zero-filled or recycled
//! ```
//!
//! - [`append`](Translog::append) only copies; [`sync`](Translog::sync) takes the whole batch, and while it is being
//!   written the next one fills. Batches become durable one after the other, in order of appending.
//! - The space for an operation is there (allocated and written once) before it is accepted. A full disk refuses
//!   appends and nothing else.
//! - After one failed write or sync the translog has failed for ever.
//! - Opening never appends to a file it found.
//!
//! The shard's loop runs one task for `wait_appended` and `sync`, and `prepare_next` whenever `wants_next`. Files and what a
//! crash leaves of them: `record.rs`.

mod ranges;
mod reader;
mod record;
mod recover;
#[cfg(test)]
mod tests;
mod wait;
mod writer;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;

use ranges::complete_from;
pub use reader::{Batch, OperationReader, fuzz_translog_read};
use reader::{BatchFile, Part};
pub use record::Uuid;
use record::{BatchBuilder, OPERATION_MAX, footprint, record_size};
use recover::Name;
use wait::{WaitList, WaitUntil, wake};
pub use writer::Voided;
use writer::{Abandoned, GenerationFile, Prepared, Spare, Waiting};

use crate::error::{Error, Result};
use crate::ids::{Generation, SeqNo};
use crate::op::Operation;
use crate::store::{BLOCK, Directory};

/// Where an appended operation is; later operations are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file it will be in.
    pub generation: Generation,
    /// Counts the operations appended since the translog was opened, from 1.
    pub ordinal: u64,
}

/// Where recovery begins: recorded in a commit point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The first file that is needed.
    pub generation: Generation,
    /// Number of the first batch that is needed.
    pub batch: u64,
}

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the first generation in bytes; later ones grow fourfold while they fill up.
    pub first_size: u64,
    /// Largest size of a generation (`index.translog.generation_threshold_size`), but for an operation that needs more.
    pub size_max: u64,
    /// How many trimmed files are kept to be written again.
    pub spares_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { first_size: 256 << 10, size_max: 64 << 20, spares_max: 2 }
    }
}

/// What `_stats` shows of a translog (the age of the oldest operation is the caller's: no clock here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Operations in all kept generations.
    pub operations: u64,
    /// Their bytes, headers and padding included.
    pub size_in_bytes: u64,
    /// Operations a recovery would replay.
    pub uncommitted_operations: u64,
    /// Their bytes.
    pub uncommitted_size_in_bytes: u64,
}

/// A cheap handle (clones share one translog); everything on one thread.
///
/// Invariants:
/// - generations `kept`, `head`, `next` ascend, and so do batch numbers in them;
/// - batches are queued, written and synced in order of their numbers; at most one is in flight;
/// - only the last queued batch takes operations, and it belongs to `head`;
/// - every queued batch fits into its file, whose space is allocated;
/// - after `failure` nothing is written any more.
pub struct Translog<D: Directory> {
    shared: Rc<Shared<D>>,
}

struct Shared<D: Directory> {
    directory: D,
    uuid: Uuid,
    options: Options,
    state: RefCell<State<D::File>>,
}

struct State<F> {
    /// Closed generations, ascending.
    kept: VecDeque<GenerationFile<F>>,
    /// Where appends go; none while a full disk keeps an opened translog from beginning one.
    head: Option<GenerationFile<F>>,
    /// The one after.
    next: Option<GenerationFile<F>>,
    next_generation: Generation,
    spares: Vec<Spare>,
    /// Files of no use, removed by the next trim.
    unneeded: Vec<String>,
    queue: VecDeque<Queued<F>>,
    /// Whether the last queued batch takes operations.
    open: bool,
    next_number: u64,
    synced_number: u64,
    appended: Location,
    synced: Location,
    sealed: bool,
    /// What was found at opening ended in order.
    ended: bool,
    /// No operation is taken any more.
    closed: bool,
    syncing: bool,
    preparing: bool,
    /// Largest refused operation since a generation was prepared, as it counts in a body.
    needed: usize,
    /// Why the last preparation found no space.
    full: Option<Error>,
    failure: Option<Error>,
    committed: Position,
    waiting: Waiting,
}

/// A batch on its way to the disk.
struct Queued<F> {
    batch: BatchBuilder,
    generation: Generation,
    file: Rc<F>,
    offset: u64,
    last: Location,
}

impl<D: Directory> Clone for Translog<D> {
    fn clone(&self) -> Self {
        Translog { shared: self.shared.clone() }
    }
}

impl<D: Directory> Translog<D> {
    /// Makes a new, empty translog. Files of an older one in `directory` stay until the first [`trim`](Translog::trim),
    /// so that a commit that goes with them stays good until one that goes with this is written.
    pub async fn create(directory: D, uuid: Uuid, options: Options) -> Result<Translog<D>> {
        let old = recover::list(&directory).await?;
        let last = old.last().map_or(Generation(0), |(name, _)| name.generation());
        let from = Position { generation: Generation(last.0 + 1), batch: 1 };
        let recovered = recover::Recovered {
            kept: VecDeque::new(),
            next_number: 1,
            next_generation: from.generation,
            sealed: true,
            ended: false,
            spares: Vec::new(),
            unneeded: old.into_iter().map(|(name, _)| name.text()).collect(),
        };
        let translog = Translog::new(directory, uuid, options, from, recovered);
        translog.prepare_next().await?;
        translog.shared.state.borrow_mut().switch();
        Ok(translog)
    }

    /// Opens an existing one. What [`replay`](Translog::replay) gives then is all that a commit at `from` lacks.
    /// Begins a new generation (a full disk only refuses later appends).
    pub async fn open(directory: D, uuid: Uuid, from: Position, options: Options) -> Result<Translog<D>> {
        let mut recovered = recover::recover(&directory, &uuid, from).await?;
        let spares = std::mem::take(&mut recovered.spares);
        let unneeded = std::mem::take(&mut recovered.unneeded);
        let translog = Translog::new(directory, uuid, options, from, recovered);
        translog.tidy(spares, unneeded).await?;
        match translog.prepare_next().await {
            Ok(()) => translog.shared.state.borrow_mut().switch(),
            Err(Error::DiskFull { .. }) => {}
            Err(e) => return Err(e),
        }
        Ok(translog)
    }

    fn new(
        directory: D,
        uuid: Uuid,
        options: Options,
        from: Position,
        recovered: recover::Recovered<D::File>,
    ) -> Translog<D> {
        let state = State {
            kept: recovered.kept,
            head: None,
            next: None,
            next_generation: recovered.next_generation,
            spares: Vec::new(),
            unneeded: recovered.unneeded,
            queue: VecDeque::new(),
            open: false,
            next_number: recovered.next_number,
            synced_number: recovered.next_number - 1,
            appended: Location::default(),
            synced: Location::default(),
            sealed: recovered.sealed,
            ended: recovered.ended,
            closed: false,
            syncing: false,
            preparing: false,
            needed: 0,
            full: None,
            failure: None,
            committed: from,
            waiting: Waiting::default(),
        };
        Translog { shared: Rc::new(Shared { directory, uuid, options, state: RefCell::new(state) }) }
    }

    /// Operations in the order they were appended, from the committed position on: after [`open`](Translog::open), all that
    /// the commit lacks, and perhaps some it has (compare sequence numbers).
    pub fn replay(&self) -> OperationReader<D> {
        let from = self.shared.state.borrow().committed;
        self.replay_from(from, SeqNo(i64::MAX))
    }

    /// What a commit at `from` lacks of the operations up to `to`. The commit may be older than the newest, if nothing that
    /// it needs was [trimmed](Translog::trim).
    pub fn replay_from(&self, from: Position, to: SeqNo) -> OperationReader<D> {
        self.reader(from, SeqNo(0), to, false)
    }

    /// Durable operations with `from <= seq_no <= to`, in the order they were appended. The files stay readable
    /// while the reader lives, whatever is trimmed. Call [`sync`](Translog::sync) first to see everything.
    pub fn read_range(&self, from: SeqNo, to: SeqNo) -> OperationReader<D> {
        self.reader(Position { generation: Generation(0), batch: 0 }, from, to, false)
    }

    /// What roll-backs have suspended, the newest generation first: of two operations with one sequence number the first
    /// counts.
    pub fn suspended(&self) -> OperationReader<D> {
        let mut reader = self.reader(Position { generation: Generation(0), batch: 0 }, SeqNo(0), SeqNo(i64::MAX), true);
        reader.newest_first();
        reader
    }

    fn reader(&self, position: Position, from: SeqNo, to: SeqNo, suspended: bool) -> OperationReader<D> {
        let state = self.shared.state.borrow();
        let within = |v: Voided| match suspended {
            false => (SeqNo(0), v.above),
            true if v == Voided::NOTHING => (SeqNo(0), SeqNo::NONE),
            true => (v.above.next(), v.suspended_to),
        };
        let parts = state.generations().filter(|g| g.generation >= position.generation).filter_map(|g| {
            let file = BatchFile::new(g.file.clone(), g.name.clone(), g.key, g.capacity);
            let (offset, end, number) = (BLOCK as u64, g.durable_end, g.first_number?);
            Some(Part { file, offset, end, number, within: within(g.voided) })
        });
        OperationReader::new(parts.collect(), position.batch, from, to)
    }

    /// Waits until an encoded operation of `size` bytes can be appended, preparing a generation if need be.
    /// `DiskFull` when there is no space for one. Nothing is promised beyond the caller's next `await`.
    pub async fn reserve(&self, size: usize) -> Result<()> {
        loop {
            {
                let mut state = self.shared.state.borrow_mut();
                state.usable()?;
                let size = checked_size(size)?;
                if state.has_room(size) {
                    return Ok(());
                }
                state.needed = state.needed.max(size);
            }
            self.prepare_next().await?;
        }
    }

    /// Why [`reserve`](Translog::reserve) of `size` bytes would have to look for space that was not there last time.
    #[must_use]
    pub fn refusal(&self, size: usize) -> Option<Error> {
        let state = self.shared.state.borrow();
        let size = checked_size(size).ok()?;
        if state.has_room(size) { None } else { state.full.clone() }
    }

    /// Copies an operation, encoded as [`Operation::encode`] does, into the current batch. Refused with `DiskFull` or
    /// `Rejected` (the next generation is not ready) without any change; never after a successful
    /// [`reserve`](Translog::reserve) of its size without an `await` between.
    pub fn append_encoded(&self, seq_no: SeqNo, encoded: &[u8]) -> Result<Location> {
        debug_assert_eq!(Operation::decode(encoded).map(|o| o.seq_no), Ok(seq_no));
        let mut state = self.shared.state.borrow_mut();
        state.usable()?;
        if state.closed {
            return Err(Error::Failed { reason: "the translog is closed".to_owned() });
        }
        let size = checked_size(encoded.len())?;
        if !state.has_room(size) {
            state.needed = state.needed.max(size);
            return Err(state.full.clone().unwrap_or_else(|| Error::Rejected {
                reason: format!("translog: no generation is ready for {size} more bytes"),
            }));
        }
        let location = state.append(seq_no, encoded, size);
        let wakers = state.waiting.appended.take_all();
        drop(state);
        wake(wakers);
        Ok(location)
    }

    /// Encodes and appends.
    pub fn append(&self, operation: &Operation<'_>) -> Result<Location> {
        let mut encoded = Vec::new();
        operation.encode(&mut encoded);
        self.append_encoded(operation.seq_no, &encoded)
    }

    /// Makes everything appended before the call durable. Concurrent calls share the work. Must not be dropped half way: run it
    /// in the shard's own task (a dropped one fails the translog). After an error the translog has failed for ever.
    pub async fn sync(&self) -> Result<()> {
        let target = self.shared.state.borrow().next_number - 1;
        loop {
            let taken = {
                let mut state = self.shared.state.borrow_mut();
                if state.synced_number >= target {
                    return Ok(());
                }
                if let Some(e) = &state.failure {
                    return Err(e.clone());
                }
                if state.syncing { None } else { Some(state.take()) }
            };
            match taken {
                Some(batch) => self.write(batch).await?,
                None => self.wait(|w| &mut w.sync_end, 0, |s| (!s.syncing).then_some(())).await,
            }
        }
    }

    /// Writes and syncs one batch, alone.
    async fn write(&self, queued: Queued<D::File>) -> Result<()> {
        let abandon = || self.fail(Error::Failed { reason: "a translog sync was abandoned".to_owned() });
        let mut guard = Abandoned(Some(&abandon));
        let Queued { batch, generation, file, offset, last } = queued;
        let number = batch.number();
        let sealed = batch.length() == 0;
        let bytes = batch.finish();
        let result = writer::write_batch(&*file, &Name::Generation(generation).text(), offset, &bytes).await;
        guard.0 = None;
        if let Err(e) = result {
            self.fail(e.clone());
            return Err(e);
        }
        let mut state = self.shared.state.borrow_mut();
        if let Some(e) = &state.failure {
            return Err(e.clone());
        }
        assert!(number == state.synced_number + 1, "batches are synced in order");
        state.syncing = false;
        state.synced_number = number;
        state.synced = last;
        state.sealed = sealed;
        let file =
            state.generations_mut().find(|g| g.generation == generation).expect("kept while it has queued batches");
        assert!(file.durable_end == offset, "batches follow each other in their file");
        file.durable_end = offset + bytes.len() as u64;
        let mut wakers = state.waiting.synced.take_up_to(last.ordinal);
        wakers.extend(state.waiting.sync_end.take_all());
        drop(state);
        wake(wakers);
        Ok(())
    }

    /// Waits (without doing the work) until `location` is durable, or the translog has failed.
    pub fn wait_synced(&self, location: Location) -> impl Future<Output = Result<()>> + 'static + use<D> {
        let ordinal = location.ordinal;
        self.wait(
            |w| &mut w.synced,
            ordinal,
            move |s| if s.synced.ordinal >= ordinal { Some(Ok(())) } else { s.failure.clone().map(Err) },
        )
    }

    /// Whether `location` is durable.
    #[must_use]
    pub fn is_synced(&self, location: Location) -> bool {
        self.shared.state.borrow().synced.ordinal >= location.ordinal
    }

    /// Waits until there is something to sync; the shard's sync task loops over this and [`sync`](Translog::sync).
    pub fn wait_appended(&self) -> impl Future<Output = Result<()>> + 'static + use<D> {
        self.wait(
            |w| &mut w.appended,
            0,
            |s| match &s.failure {
                Some(e) => Some(Err(e.clone())),
                None => (!s.queue.is_empty()).then_some(Ok(())),
            },
        )
    }

    fn wait<T, C>(
        &self,
        list: fn(&mut Waiting) -> &mut WaitList,
        position: u64,
        check: C,
    ) -> impl Future<Output = T> + 'static + use<D, T, C>
    where
        T: 'static,
        C: Fn(&State<D::File>) -> Option<T> + Unpin + 'static,
    {
        let (shared, listed) = (self.shared.clone(), self.shared.clone());
        WaitUntil::new(
            position,
            move || check(&shared.state.borrow()),
            move |f: &mut dyn FnMut(&mut WaitList)| f(list(&mut listed.state.borrow_mut().waiting)),
        )
    }

    /// The last durable operation.
    #[must_use]
    pub fn synced(&self) -> Location {
        self.shared.state.borrow().synced
    }

    /// The last appended operation.
    #[must_use]
    pub fn appended(&self) -> Location {
        self.shared.state.borrow().appended
    }

    /// Whether something appended is not durable yet.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        let state = self.shared.state.borrow();
        state.synced_number + 1 < state.next_number
    }

    /// The first failure, if the translog has failed.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.shared.state.borrow().failure.clone()
    }

    /// Whether [`prepare_next`](Translog::prepare_next) should be run (in the background). True again and again while the disk is
    /// full: try again after a pause.
    #[must_use]
    pub fn wants_next(&self) -> bool {
        let state = self.shared.state.borrow();
        state.failure.is_none() && !state.preparing && state.wants_next()
    }

    /// Zero-fills (or recycles) the file of the next generation. `DiskFull` is not a failure of the translog. May be dropped.
    pub async fn prepare_next(&self) -> Result<()> {
        loop {
            let work = {
                let mut state = self.shared.state.borrow_mut();
                state.usable()?;
                if state.next.as_ref().is_some_and(|next| next.fits(footprint(state.needed))) {
                    return Ok(());
                }
                if state.preparing { None } else { Some(state.begin_preparing(&self.shared.options)) }
            };
            match work {
                Some((generation, capacity, spare)) => match self.prepare(generation, capacity, spare).await {
                    // There may be space for a smaller one: from now on `begin_preparing` asks for no other.
                    Err(Error::DiskFull { .. })
                        if capacity > self.shared.state.borrow().size_min(&self.shared.options) => {}
                    prepared => return prepared,
                },
                None => {
                    self.wait(|w| &mut w.prepared, 0, |s| (!s.preparing).then_some(())).await;
                    // What one has not found, all who waited for it need not look for.
                    if let Some(full) = &self.shared.state.borrow().full {
                        return Err(full.clone());
                    }
                }
            }
        }
    }

    async fn prepare(&self, generation: Generation, capacity: u64, spare: Option<Spare>) -> Result<()> {
        let end = || {
            let mut state = self.shared.state.borrow_mut();
            state.preparing = false;
            let wakers = state.waiting.prepared.take_all();
            drop(state);
            wake(wakers);
        };
        let _guard = Abandoned(Some(&end));
        let Shared { directory, uuid, .. } = &*self.shared;
        match writer::prepare(directory, uuid, generation, capacity, spare).await {
            Ok(Prepared::Ready(file)) => {
                let mut state = self.shared.state.borrow_mut();
                state.usable()?;
                state.full = None;
                if state.needed > 0 && file.fits(footprint(state.needed)) {
                    state.needed = 0;
                }
                // One that was too small for an operation: never used, so of no use to a recovery.
                if let Some(small) = state.next.replace(file) {
                    state.unneeded.push(small.name.to_string());
                }
                Ok(())
            }
            Ok(Prepared::Full(e, spare)) => {
                let mut state = self.shared.state.borrow_mut();
                state.full = Some(e.clone());
                // No file has ever had this number.
                if spare.is_none() && state.next_generation.0 == generation.0 + 1 {
                    state.next_generation = generation;
                }
                state.spares.extend(spare);
                Err(e)
            }
            Err(e) => {
                self.fail(e.clone());
                Err(e)
            }
        }
    }

    /// Later operations go to a new generation, so that a commit may drop the ones before. Nothing if the current one has
    /// none. On `DiskFull` a commit can go on; it only drops less.
    pub async fn roll(&self) -> Result<()> {
        loop {
            {
                let mut state = self.shared.state.borrow_mut();
                state.usable()?;
                if state.head.as_ref().is_some_and(|h| h.operations == 0) {
                    return Ok(());
                }
                if state.next.is_some() {
                    state.switch();
                    return Ok(());
                }
            }
            self.prepare_next().await?;
        }
    }

    /// What a commit has to record if its segments hold all operations below `seq_no`: replay begins there.
    #[must_use]
    pub fn min_generation_for(&self, seq_no: SeqNo) -> Position {
        self.shared.state.borrow().min_generation_for(seq_no)
    }

    /// From which sequence number on every operation up to `end` can be read back.
    #[must_use]
    pub fn complete_from(&self, end: SeqNo) -> SeqNo {
        complete_from(self.shared.state.borrow().generations().map(|g| &g.seq_nos), end)
    }

    /// Whether every batch from `from` on is kept.
    #[must_use]
    pub fn holds(&self, from: Position) -> bool {
        let state = self.shared.state.borrow();
        let first = state.generations().find_map(|g| g.first_number);
        first.unwrap_or(state.next_number) <= from.batch
    }

    /// The oldest generation with an operation that counts at or above `seq_no`; the one appended to if there is none.
    #[must_use]
    pub fn oldest_generation_with(&self, seq_no: SeqNo) -> Generation {
        let state = self.shared.state.borrow();
        let found = state.generations().find(|g| g.max_seq_no() >= Some(seq_no));
        found.or(state.head.as_ref()).map_or(Generation(u64::MAX), |g| g.generation)
    }

    /// The oldest generation with a suspended operation above `seq_no`.
    #[must_use]
    pub fn oldest_suspended_above(&self, seq_no: SeqNo) -> Option<Generation> {
        let state = self.shared.state.borrow();
        state.generations().find(|g| g.suspended_max > Some(seq_no)).map(|g| g.generation)
    }

    /// From which sequence number on what is kept takes at most `bytes`, whole generations counted.
    #[must_use]
    pub fn seq_no_within(&self, bytes: u64) -> SeqNo {
        let state = self.shared.state.borrow();
        let generations: Vec<&GenerationFile<D::File>> = state.generations().collect();
        let mut left = bytes;
        for (i, g) in generations.iter().enumerate().rev() {
            match left.checked_sub(g.tail) {
                Some(rest) => left = rest,
                // Everything in it and before it may go.
                None => {
                    return generations[..=i].iter().filter_map(|g| g.max_seq_no()).max().unwrap_or(SeqNo::NONE).next();
                }
            }
        }
        SeqNo(0)
    }

    /// Operations above `voided.above` in the generations so far do not count any more, nor are they replayed; those up to
    /// `voided.suspended_to` stay readable by [`suspended`](Translog::suspended). For this life: who opens it again tells it again, by
    /// [`void_before`](Translog::void_before) with the generation this answers.
    pub async fn roll_back(&self, voided: Voided) -> Result<Generation> {
        self.sync().await?;
        self.roll().await?;
        let generation = self.generation();
        self.void_before(generation, voided);
        Ok(generation)
    }

    /// The same for the generations below `generation`.
    pub fn void_before(&self, generation: Generation, voided: Voided) {
        let mut state = self.shared.state.borrow_mut();
        state.generations_mut().filter(|g| g.generation < generation).for_each(|g| g.void(voided));
    }

    /// Tells that a commit with this position is durable; for the statistics, and the limit of [`trim`](Translog::trim).
    pub fn committed(&self, position: Position) {
        let mut state = self.shared.state.borrow_mut();
        assert!(position >= state.committed, "a commit does not go back");
        state.committed = position;
    }

    /// Drops (recycles) generations below both `generation` and the committed one. Call when a commit is durable and no
    /// replica or lease needs them.
    pub async fn trim(&self, generation: Generation) -> Result<()> {
        let (spares, unneeded) = {
            let mut state = self.shared.state.borrow_mut();
            state.usable()?;
            state.drop_below(generation)
        };
        self.tidy(spares, unneeded).await
    }

    /// Removes `unneeded` files; gives up to the allowed number of `spares` their name, and removes the others.
    async fn tidy(&self, spares: Vec<Spare>, unneeded: Vec<String>) -> Result<()> {
        let Shared { directory, options, .. } = &*self.shared;
        let wanted = {
            let state = self.shared.state.borrow();
            state.head.as_ref().or(state.kept.back()).map_or(0, |g| g.capacity.min(options.size_max))
        };
        if spares.is_empty() && unneeded.is_empty() {
            return Ok(());
        }
        for name in unneeded {
            match directory.remove(&name).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let mut recycled = Vec::new();
        for spare in spares {
            let has = self.shared.state.borrow().spares.len() + recycled.len();
            let name = Name::Spare(Name::parse(&spare.name).expect("a translog file").generation()).text();
            let fits = spare.capacity >= wanted && spare.capacity <= options.size_max;
            if has >= options.spares_max || !fits {
                directory.remove(&spare.name).await?;
                continue;
            }
            if name != spare.name {
                match directory.rename(&spare.name, &name).await {
                    Ok(()) => {}
                    Err(Error::DiskFull { .. }) => {
                        directory.remove(&spare.name).await?;
                        continue;
                    }
                    Err(e) => return Err(e),
                }
            }
            recycled.push(Spare { name, capacity: spare.capacity });
        }
        // Before any of them gets a new generation's name: else a crash could leave it under both.
        directory.sync().await?;
        self.shared.state.borrow_mut().spares.extend(recycled);
        Ok(())
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.shared.state.borrow();
        let mut stats = Stats::default();
        for g in state.generations() {
            let open = if state.open && state.head.as_ref().is_some_and(|h| h.generation == g.generation) {
                state.queue.back().map_or(0, |q| q.batch.footprint())
            } else {
                0
            };
            stats.operations += g.operations;
            stats.size_in_bytes += g.tail + open;
            if g.generation >= state.committed.generation {
                stats.uncommitted_operations += g.operations;
                stats.uncommitted_size_in_bytes += g.tail + open;
            }
        }
        stats
    }

    /// The generation that the next operation goes to (0: a full disk keeps an opened translog from beginning one).
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.state.borrow().head.as_ref().map_or(Generation(0), |h| h.generation)
    }

    /// The oldest generation that is kept.
    #[must_use]
    pub fn min_generation(&self) -> Generation {
        self.shared.state.borrow().generations().next().map_or(Generation(0), |g| g.generation)
    }

    /// For an idle moment or before closing: makes everything durable and ends it with an empty batch, so that damage of
    /// the last operations is told from a torn write. Costs one block; nothing if it is done already or there is no room.
    pub async fn seal(&self) -> Result<()> {
        self.sync().await?;
        {
            let mut state = self.shared.state.borrow_mut();
            state.usable()?;
            if state.sealed || !state.queue.is_empty() || state.syncing {
                return Ok(());
            }
            state.begin_seal();
        }
        self.sync().await
    }

    /// The last thing done with it: makes everything durable and says, in a block of its own, that nothing follows, so that the
    /// next start does not look for it. Without room for that block it is only made durable. It takes no operations any more.
    pub async fn close(&self) -> Result<()> {
        self.sync().await?;
        let unused: Option<Vec<Rc<str>>> = {
            let mut state = self.shared.state.borrow_mut();
            state.usable()?;
            if !state.queue.is_empty() || state.syncing {
                return Ok(());
            }
            state.closed = true;
            let unused = state.head.iter().chain(&state.next).filter(|g| g.first_number.is_none());
            (state.ended && state.head.as_ref().is_none_or(|head| head.first_number.is_none()))
                .then(|| unused.map(|g| g.name.clone()).collect())
        };
        // Nothing was written in this life: the end of the one before still stands, if the files of this one are set aside.
        if let Some(unused) = unused {
            for name in unused {
                let generation = Name::parse(&name).expect("a translog file").generation();
                self.shared.directory.rename(&name, &Name::Spare(generation).text()).await?;
            }
            return Ok(());
        }
        {
            let mut state = self.shared.state.borrow_mut();
            // Also of one that is being prepared at this moment.
            let last = Generation(state.next_generation.0.saturating_sub(1));
            state.begin_seal();
            if let Some(queued) = state.queue.back_mut() {
                queued.batch.end(last);
            }
        }
        self.sync().await
    }

    /// Fails the translog for ever, and tells everybody who waits for it.
    pub(crate) fn fail(&self, e: Error) {
        let mut state = self.shared.state.borrow_mut();
        if state.failure.is_none() {
            state.failure = Some(e);
        }
        state.syncing = false;
        let wakers = state.waiting.all();
        drop(state);
        wake(wakers);
    }
}

impl<F> State<F> {
    fn usable(&self) -> Result<()> {
        match &self.failure {
            Some(Error::Failed { reason }) => Err(Error::Failed { reason: reason.clone() }),
            Some(e) => Err(Error::Failed { reason: e.to_string() }),
            None => Ok(()),
        }
    }

    fn generations(&self) -> impl Iterator<Item = &GenerationFile<F>> {
        self.kept.iter().chain(&self.head)
    }

    fn generations_mut(&mut self) -> impl Iterator<Item = &mut GenerationFile<F>> {
        self.kept.iter_mut().chain(&mut self.head)
    }

    fn head_has_room(&self, size: usize) -> bool {
        let length = if self.open { self.queue.back().map_or(0, |q| q.batch.length()) } else { 0 };
        self.head.as_ref().is_some_and(|h| h.fits(footprint(length + size)))
    }

    fn has_room(&self, size: usize) -> bool {
        self.head_has_room(size) || self.next.as_ref().is_some_and(|n| n.fits(footprint(size)))
    }

    fn append(&mut self, seq_no: SeqNo, encoded: &[u8], size: usize) -> Location {
        if !self.head_has_room(size) {
            self.switch();
        }
        let ordinal = self.appended.ordinal + 1;
        if !self.open {
            self.begin_batch();
        }
        let head = self.head.as_mut().expect("has room");
        let queued = self.queue.back_mut().expect("open");
        queued.batch.push(seq_no, encoded);
        assert!(head.fits(queued.batch.footprint()), "an accepted operation fits");
        head.operations += 1;
        head.seq_nos.insert(seq_no);
        self.appended = Location { generation: head.generation, ordinal };
        queued.last = self.appended;
        self.appended
    }

    /// Opens an empty batch at the head's tail.
    fn begin_batch(&mut self) {
        assert!(!self.open);
        let head = self.head.as_mut().expect("only called with room");
        let number = self.next_number;
        self.next_number += 1;
        head.first_number.get_or_insert(number);
        self.queue.push_back(Queued {
            batch: BatchBuilder::new(head.key, number),
            generation: head.generation,
            file: head.file.clone(),
            offset: head.tail,
            last: self.appended,
        });
        self.open = true;
    }

    /// The last batch takes no more operations.
    fn close_batch(&mut self) {
        if std::mem::take(&mut self.open) {
            let footprint = self.queue.back().expect("open").batch.footprint();
            self.head.as_mut().expect("open").tail += footprint;
        }
    }

    /// The batch to be written now.
    fn take(&mut self) -> Queued<F> {
        if self.queue.len() == 1 {
            self.close_batch();
        }
        self.syncing = true;
        self.queue.pop_front().expect("a batch that is not durable is queued or in flight")
    }

    fn begin_seal(&mut self) {
        if !self.head_has_room(0) && self.next.is_some() {
            self.switch();
        }
        if self.head_has_room(0) {
            self.begin_batch();
        }
    }

    /// The prepared generation becomes the head.
    fn switch(&mut self) {
        self.close_batch();
        let next = self.next.take().expect("a prepared generation");
        if let Some(old) = self.head.replace(next) {
            if old.first_number.is_some() {
                self.kept.push_back(old);
            } else {
                // Too small for the operation at hand, and never used.
                self.unneeded.push(old.name.to_string());
            }
        }
    }

    fn wants_next(&self) -> bool {
        let needed = self.needed > 0 && !self.has_room(self.needed);
        let late = || match &self.head {
            Some(head) => head.tail + self.queue.back().map_or(0, |q| q.batch.footprint()) > head.capacity / 2,
            None => true,
        };
        needed || self.next.is_none() && late()
    }

    /// Of a generation that holds the operations that wait, and is worth a file.
    fn size_min(&self, options: &Options) -> u64 {
        let block = BLOCK as u64;
        options.first_size.max(block + footprint(self.needed)).max(2 * block).next_multiple_of(block)
    }

    fn begin_preparing(&mut self, options: &Options) -> (Generation, u64, Option<Spare>) {
        assert!(!self.preparing);
        self.preparing = true;
        let generation = self.next_generation;
        self.next_generation.0 += 1;
        let size_max = options.size_max.max(2 * BLOCK as u64);
        let size = match &self.head {
            _ if self.full.is_some() => 0,
            // A start does not wait for a large file to be filled; a spare is as large as it is.
            None => options.first_size,
            Some(g) if g.tail > g.capacity / 2 || self.needed > 0 => g.capacity * 4,
            Some(g) => g.capacity,
        };
        let size = size.min(size_max).next_multiple_of(BLOCK as u64).max(self.size_min(options));
        let fitting = self.spares.iter().enumerate().filter(|(_, s)| s.capacity >= size);
        let largest = fitting.max_by_key(|(_, s)| s.capacity).map(|(i, _)| i);
        let spare = largest.map(|i| self.spares.swap_remove(i));
        if spare.is_none() {
            // Too small by now.
            let small = self.spares.extract_if(.., |s| s.capacity < size).map(|s| s.name);
            self.unneeded.extend(small);
        }
        (generation, size, spare)
    }

    fn min_generation_for(&self, seq_no: SeqNo) -> Position {
        let needed = self.generations().filter(|g| g.generation >= self.committed.generation);
        for g in needed {
            if let Some(batch) = g.first_number
                && g.max_seq_no() >= Some(seq_no)
            {
                return Position { generation: g.generation, batch };
            }
        }
        match &self.head {
            Some(head) => {
                Position { generation: head.generation, batch: head.first_number.unwrap_or(self.next_number) }
            }
            None => self.committed,
        }
    }

    /// Takes out what lies below `generation` and the commit: files that may be recycled, and files to be removed.
    fn drop_below(&mut self, generation: Generation) -> (Vec<Spare>, Vec<String>) {
        let limit = generation.min(self.committed.generation);
        let mut spares = Vec::new();
        let mut unneeded = std::mem::take(&mut self.unneeded);
        while let Some(front) = self.kept.front()
            && front.generation < limit
            && front.durable_end == front.tail
        {
            let dropped = self.kept.pop_front().expect("front");
            // A reader may still be at it: then the name goes, and the content stays as it is.
            if Rc::strong_count(&dropped.file) == 1 {
                spares.push(Spare { name: dropped.name.to_string(), capacity: dropped.capacity });
            } else {
                unneeded.push(dropped.name.to_string());
            }
        }
        (spares, unneeded)
    }
}

fn checked_size(size: usize) -> Result<usize> {
    if size > OPERATION_MAX {
        return Err(Error::Rejected {
            reason: format!("translog: an operation of {size} bytes, over {OPERATION_MAX}"),
        });
    }
    Ok(record_size(size))
}

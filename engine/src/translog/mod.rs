//! The translog: every operation since the last commit, durable before it is acknowledged.

use std::future::Future;
use std::marker::PhantomData;

use crate::error::Result;
use crate::ids::{Generation, SeqNo};
use crate::op::Operation;
use crate::store::Directory;

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
pub struct Translog<D: Directory> {
    shared: PhantomData<D>,
}

impl<D: Directory> Clone for Translog<D> {
    fn clone(&self) -> Self {
        Translog { shared: PhantomData }
    }
}

impl<D: Directory> Translog<D> {
    /// Makes a new, empty translog, in place of any in `directory`.
    pub async fn create(directory: D, uuid: [u8; 16], options: Options) -> Result<Translog<D>> {
        let _ = (directory, uuid, options);
        unimplemented!()
    }

    /// Opens an existing one. What [`replay`](Translog::replay) gives then is all that a commit at `from` lacks.
    /// Begins a new generation (a full disk only refuses later appends).
    pub async fn open(directory: D, uuid: [u8; 16], from: Position, options: Options) -> Result<Translog<D>> {
        let _ = (directory, uuid, from, options);
        unimplemented!()
    }

    /// Operations in the order they were appended, from the position given to [`open`](Translog::open) on.
    pub fn replay(&self) -> OperationReader<D> {
        unimplemented!()
    }

    /// Durable operations with `from <= seq_no <= to`, in the order they were appended. The files stay readable
    /// while the reader lives, whatever is trimmed. Call [`sync`](Translog::sync) first to see everything.
    pub fn read_range(&self, from: SeqNo, to: SeqNo) -> OperationReader<D> {
        let _ = (from, to);
        unimplemented!()
    }

    /// Waits until an encoded operation of `size` bytes can be appended, preparing a generation if need be.
    /// `DiskFull` when there is no space for one. Nothing is promised beyond the next `await`.
    pub async fn reserve(&self, size: usize) -> Result<()> {
        let _ = size;
        unimplemented!()
    }

    /// Copies an operation, encoded as [`Operation::encode`] does, into the current batch. Refused with `DiskFull` or
    /// `Rejected` (the next generation is not ready) without any change; never after a successful
    /// [`reserve`](Translog::reserve) of its size without an `await` between.
    pub fn append_encoded(&self, seq_no: SeqNo, encoded: &[u8]) -> Result<Location> {
        let _ = (seq_no, encoded);
        unimplemented!()
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
        unimplemented!()
    }

    /// Waits (without doing the work) until `location` is durable, or the translog has failed.
    pub fn wait_synced(&self, location: Location) -> impl Future<Output = Result<()>> + 'static {
        let _ = location;
        async { unimplemented!() }
    }

    /// Waits until there is something to sync; the shard's sync task loops over this and [`sync`](Translog::sync).
    pub fn wait_appended(&self) -> impl Future<Output = Result<()>> + 'static {
        async { unimplemented!() }
    }

    /// The last durable operation.
    pub fn synced(&self) -> Location {
        unimplemented!()
    }

    /// The last appended operation.
    pub fn appended(&self) -> Location {
        unimplemented!()
    }

    /// Whether something appended is not durable yet.
    pub fn needs_sync(&self) -> bool {
        unimplemented!()
    }

    /// The first failure, if the translog has failed.
    pub fn failure(&self) -> Option<crate::Error> {
        unimplemented!()
    }

    /// Whether [`prepare_next`](Translog::prepare_next) should be run (in the background).
    pub fn wants_next(&self) -> bool {
        unimplemented!()
    }

    /// Zero-fills (or recycles) the file of the next generation. `DiskFull` is not a failure of the translog.
    pub async fn prepare_next(&self) -> Result<()> {
        unimplemented!()
    }

    /// Later operations go to a new generation, so that a commit may drop the ones before. Nothing if the current one is empty.
    pub async fn roll(&self) -> Result<()> {
        unimplemented!()
    }

    /// What a commit has to record if its segments hold all operations below `seq_no`: replay begins there.
    pub fn min_generation_for(&self, seq_no: SeqNo) -> Position {
        let _ = seq_no;
        unimplemented!()
    }

    /// Tells that a commit with this position is durable; for the statistics, and the limit of [`trim`](Translog::trim).
    pub fn committed(&self, position: Position) {
        let _ = position;
        unimplemented!()
    }

    /// Drops (recycles) generations below both `generation` and the committed one.
    pub async fn trim(&self, generation: Generation) -> Result<()> {
        let _ = generation;
        unimplemented!()
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// The generation that the next operation goes to.
    pub fn generation(&self) -> Generation {
        unimplemented!()
    }

    /// For an idle moment or before closing: ends the current generation's data with an empty batch, so that damage of the
    /// last operations is told from a torn write.
    pub async fn seal(&self) -> Result<()> {
        unimplemented!()
    }
}

/// Reads operations back, one durable batch at a time.
pub struct OperationReader<D: Directory> {
    shared: PhantomData<D>,
}

impl<D: Directory> OperationReader<D> {
    /// The next batch, or none after the last.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        unimplemented!()
    }
}

/// The operations of one batch that were asked for.
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// Encoded operations and what they decode to, in order.
    pub fn operations(&self) -> impl Iterator<Item = (&[u8], Operation<'_>)> {
        let _ = &self.bytes;
        std::iter::empty()
    }
}

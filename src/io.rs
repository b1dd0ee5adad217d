//! The edge of the node: time, tasks, randomness, directories, maintenance threads. `runtime.rs` implements it over glommio;
//! tests and the simulator over simulated ones. Everything else in this crate is the same under both.

use std::path::Path;
use std::time::Duration;

use ringdex_engine::pace::Pace;
use ringdex_engine::store::Directory;

use crate::backend::LocalFuture;
use crate::error::ApiResult;

/// Which task queue of a core a task belongs to; searches before writes before refreshes and flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Requests that read.
    Search,
    /// Requests that write; translog syncs.
    Write,
    /// Refresh, flush, bookkeeping.
    Background,
}

/// What part of its core a job of maintenance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The time that nobody else wants: requests do not notice it, and on a core that never rests it nearly stands still.
    Spare,
    /// So many percent, whatever else there is to do.
    Percent(u8),
}

/// Called by a job of maintenance every few microseconds: those who serve have the core.
pub type GiveWay = Box<dyn Fn() + Send>;

/// What one core offers to the code that runs on it. Cheap to clone.
pub trait NodeIo: Clone + 'static {
    /// Its files.
    type Directory: Directory;
    /// Its way of sharing the core.
    type Pace: Pace + Clone + 'static;

    /// Opens (and creates) the directory of a shard.
    fn directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<Self::Directory>>;

    /// Removes a directory and everything in it.
    fn remove_directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<()>>;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// Nanoseconds of a clock that never goes back.
    fn monotonic_ns(&self) -> u64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Waits; not less than asked, usually less than a millisecond more.
    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()>;

    /// Starts a task that nobody waits for. A panic in it is caught and logged; the core lives on.
    fn spawn(&self, lane: Lane, task: LocalFuture<'static, ()>);

    /// How a piece of work shares the core; with a deadline (monotonic ns) after which it is told to stop.
    fn pace(&self, deadline_ns: Option<u64>) -> Self::Pace;

    /// Runs long work (merges) on a maintenance thread of the core, on `directory` opened there; it is to give way often. A
    /// panic in it becomes an error.
    fn maintain<T: Send + 'static>(
        &self,
        claim: Claim,
        directory: &Self::Directory,
        job: impl FnOnce(Self::Directory, GiveWay) -> LocalFuture<'static, T> + Send + 'static,
    ) -> LocalFuture<'static, ApiResult<T>>;
}

//! glommio executors made trustworthy: everything the runtime needs so that the rest need not think about it.
//!
//! Per core: a *serving* executor (HTTP, shards) and two *maintenance* executors (merges) pinned to the same CPU, so that
//! the kernel, not our code, shares the core between them: one at nice 19, which takes what is left, and one of normal
//! priority for what has waited too long, which sleeps so that it takes no more than its part. Both give way every 50 µs to
//! those who wake. One *coordination* executor, bound to no CPU, for the cluster state: no shard work can
//! delay it.
//!
//! The guards, each with a test that fails without it:
//!
//! - [`heartbeat`]: glommio 0.9 can park with runnable tasks; a timer bounds such a stall to [`HEARTBEAT`]
//!   ([`SIDE_HEARTBEAT`]). It can do so before
//!   the first task, too: [`start`] then tries again with another thread.
//! - `iopoll_guard` (engine): before an executor opens its first file, it opens a non-empty one, or all its direct I/O
//!   spins on a polling ring.
//! - [`guarded`]: a panic in a task would unwind the executor's thread; it is caught, logged, and the core lives on.
//! - No preemption timer under a millisecond, and blocking calls in a pool of their own (the default pool is one thread on
//!   the executor's core).
//! - `mesh`: no wake per message from foreign threads. `net::http`: accepting on a thread of its own.

pub mod checks;

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_lite::FutureExt;
use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle};
use ringdex_engine::pace::Pace;
use ringdex_engine::store::Directory;
use ringdex_engine::store::dma::{self, DmaDirectory};
use ringdex_engine::store::ledger::{Ledger, Ledgered, Purpose};

use crate::backend::LocalFuture;
use crate::error::{ApiError, ApiResult};
use crate::io::{Claim, GiveWay, Lane, NodeIo};
use crate::mesh::{self, Desk, Mailbox, panic_text};
use crate::stats::hot;

/// The longest a serving executor can sleep on runnable tasks.
pub const HEARTBEAT: Duration = Duration::from_millis(5);
/// The same of the others: nobody waits for them request by request, and their beats take the CPU from those who serve.
pub const SIDE_HEARTBEAT: Duration = Duration::from_millis(25);
/// Between the first beats of an executor; no timer of glommio's is faster.
const START_BEAT: Duration = Duration::from_millis(1);
/// How many of them.
const START_BEATS: usize = 1000;
/// How long an executor may take to poll its first task before another is tried; doubled each time. It takes some
/// milliseconds; a try too many costs a thread that ends at once, a wait too long is the start's.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(100);
const FIRST_POLL_TRIES: u32 = 8;
/// How long a task queue runs before the rings are looked at again. Under a millisecond glommio 0.9 hangs.
pub const PREEMPT: Duration = Duration::from_millis(2);
/// Registered I/O memory of a serving executor. The kernel pins all of it at once, so it counts from the start; what does
/// not fit is allocated as it is needed, and read and written the plain way.
const SERVING_IO_BYTES: usize = 4 << 20;
/// Registered I/O memory of the others.
const SIDE_IO_BYTES: usize = 1 << 20;
/// The priority of [`Claim::Spare`]: one part in seventy of a core that never rests. (`SCHED_IDLE` would take one in three
/// hundred, and can hold a lock of the file system for as long as it waits.)
const SPARE_NICE: i32 = 19;
/// The longest that those who serve wait for maintenance on their core.
const COURTESY: Duration = Duration::from_micros(50);
/// What maintenance that has a part of the core works between two rests.
const WORK: Duration = Duration::from_millis(1);

/// What an executor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// HTTP and shards, on one CPU.
    Serving {
        /// The CPU.
        cpu: usize,
        /// How long to spin before sleeping; zero on a machine that is not ours alone.
        spin: Duration,
    },
    /// Long work, on the CPU of a serving executor.
    Maintenance {
        /// The CPU.
        cpu: usize,
        /// What part of it: the spare time, or any part.
        claim: Claim,
    },
    /// The cluster state; on any CPU.
    Coordination,
}

/// Starts an executor on a thread of its own and runs what `body` makes in it, with all guards. The data directory is
/// probed for direct I/O first. `body` is told whether that went well; if not, what it makes is not run. Errors of starting
/// and a panic of the body come out of [`Executor::join`].
pub fn start<F>(
    name: &str,
    role: Role,
    data: &Path,
    body: impl FnOnce(Result<(), String>) -> Option<F> + Send + 'static,
) -> std::io::Result<Executor>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let (name, data) = (name.to_owned(), data.to_owned());
    let inner = name.clone();
    let thread = std::thread::Builder::new().name(format!("{name}-starter")).spawn(move || {
        let body = Arc::new(Mutex::new(Some(body)));
        let attempt = |alive: Alive| {
            let (data, body) = (data.clone(), Arc::clone(&body));
            let thread = std::thread::Builder::new().name(inner.clone());
            thread.spawn(move || run(role, &data, &body, &alive)).map_err(|e| e.to_string())
        };
        let ended = started(FIRST_POLL_WAIT, attempt).and_then(|thread| thread.join().map_err(|p| panic_text(&*p))?);
        if let (Err(e), Some(body)) = (&ended, take(&body)) {
            body(Err(e.clone()));
        }
        ended
    })?;
    Ok(Executor { name, thread })
}

/// Makes attempts until one says that it is alive, or has ended. The time for it doubles with each.
///
/// glommio 0.9 arms its preemption timer before it runs anything. If the thread loses its CPU right there, for longer than
/// the timer, the executor takes that for having nothing to run, and parks before the first poll of its first task. No timer
/// is armed then and nobody has a waker, so it sleeps for ever; such a thread is left behind.
fn started<T>(
    mut wait: Duration,
    mut attempt: impl FnMut(Alive) -> Result<std::thread::JoinHandle<T>, String>,
) -> Result<std::thread::JoinHandle<T>, String> {
    let (sender, seen) = mpsc::channel();
    let mut threads = Vec::new();
    for number in 0..FIRST_POLL_TRIES as usize {
        threads.push(attempt(Alive { number, sender: sender.clone() })?);
        match seen.recv_timeout(wait) {
            // Perhaps an earlier one, given up too soon.
            Ok(first) => return Ok(threads.swap_remove(first)),
            Err(_) => {
                tracing::warn!(attempt = number, "an executor sleeps before its first task; another try");
                wait *= 2;
            }
        }
    }
    Err("it did not run its first task in several tries".to_owned())
}

/// How an attempt says that it is the one: it runs, or it has failed for good.
struct Alive {
    number: usize,
    sender: mpsc::Sender<usize>,
}

impl Alive {
    fn tell(&self) {
        // Nobody listens any more when another attempt was first; then the body is gone, too.
        let _ = self.sender.send(self.number);
    }
}

/// Whoever comes first gets it.
fn take<T>(shared: &Mutex<Option<T>>) -> Option<T> {
    shared.lock().unwrap_or_else(|e| e.into_inner()).take()
}

/// A running executor.
pub struct Executor {
    name: String,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Executor {
    /// Waits for its end.
    pub fn join(self) -> Result<(), String> {
        match self.thread.join() {
            Ok(result) => result.map_err(|e| format!("executor [{}]: {e}", self.name)),
            Err(panic) => Err(format!("executor [{}] panicked: {}", self.name, panic_text(&*panic))),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

fn run<F>(
    role: Role,
    data: &Path,
    body: &Mutex<Option<impl FnOnce(Result<(), String>) -> Option<F>>>,
    alive: &Alive,
) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let placement = match role {
        Role::Serving { cpu, .. } | Role::Maintenance { cpu, .. } => Placement::Fixed(cpu),
        Role::Coordination => Placement::Unbound,
    };
    let mut builder = LocalExecutorBuilder::new(placement)
        .ring_depth(256)
        .preempt_timer(PREEMPT)
        // Unbound: a rename must not queue behind the executor's own work on its own core.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(2));
    match role {
        Role::Serving { spin, .. } => builder = builder.io_memory(SERVING_IO_BYTES).spin_before_park(spin),
        Role::Maintenance { claim, .. } => {
            if claim == Claim::Spare {
                // Before the executor is made: its kernel workers and blocking threads inherit the priority.
                rustix::process::setpriority_process(None, SPARE_NICE)
                    .map_err(|e| format!("cannot lower the priority of a maintenance thread: {e}"))?;
            }
            builder = builder.io_memory(SIDE_IO_BYTES);
        }
        Role::Coordination => builder = builder.io_memory(SIDE_IO_BYTES),
    }
    let executor = match builder.make() {
        Ok(executor) => executor,
        Err(e) => {
            alive.tell();
            return Err(checks::executor_refused(&e.to_string()));
        }
    };
    executor.run(async move {
        // None: this thread was given up and another has taken its place.
        let Some(body) = take(body) else { return Ok(()) };
        alive.tell();
        // Before the first await: the guard already waits for a blocking thread, whose word can be missed.
        heartbeat(if matches!(role, Role::Serving { .. }) { HEARTBEAT } else { SIDE_HEARTBEAT });
        if let Err(e) = dma::iopoll_guard(data).await {
            body(Err(e.to_string()));
            return Err(e.to_string());
        }
        let guarded = async {
            match body(Ok(())) {
                Some(body) => body.await,
                None => Ok(()),
            }
        };
        let ended = AssertUnwindSafe(guarded).catch_unwind().await;
        ended.unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
    })
}

/// How long work between two waits shares the core; cheap to ask.
///
/// A thread that has been woken on this CPU runs within [`COURTESY`]. The kernel does not see to it by itself: whatever the
/// weights, a woken thread waits until the running one has used up its slice or the next tick comes, some milliseconds. At the
/// end of a system call the running one is put aside at once.
struct Courtesy {
    claim: Claim,
    yielded: Cell<Instant>,
    /// When the thread rested last, and its CPU time then.
    rested: Cell<(Instant, Duration)>,
}

impl Courtesy {
    fn new(claim: Claim) -> Courtesy {
        let now = Instant::now();
        Courtesy { claim, yielded: Cell::new(now), rested: Cell::new((now, thread_cpu())) }
    }

    fn give_way(&self) {
        if self.yielded.get().elapsed() < COURTESY {
            return;
        }
        match self.claim {
            Claim::Spare => std::thread::yield_now(),
            Claim::Percent(percent) => {
                let (since, before) = self.rested.get();
                let worked = thread_cpu().saturating_sub(before);
                if worked < WORK {
                    std::thread::yield_now();
                } else {
                    let due = worked * 100 / u32::from(percent.clamp(1, 100));
                    std::thread::sleep(due.saturating_sub(since.elapsed()));
                    self.rested.set((Instant::now(), thread_cpu()));
                }
            }
        }
        self.yielded.set(Instant::now());
    }
}

/// CPU time that this thread has had.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Wakes the executor every `period`, whatever happens. A beat can itself be among the tasks that a park leaves
/// unrun; then the next slower one wakes it. A start waits for one blocking call after the other, so at first it beats fast.
pub fn heartbeat(period: Duration) {
    glommio::spawn_local(async {
        for _ in 0..START_BEATS {
            glommio::timer::sleep(START_BEAT).await;
        }
    })
    .detach();
    for slower in [1, 10, 50] {
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(period * slower).await;
            }
        })
        .detach();
    }
}

/// A task whose panic ends it alone.
pub async fn guarded(task: LocalFuture<'static, ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        // Where and why has been logged by the panic hook; this says that the core goes on.
        tracing::error!(panic = %panic_text(&*panic), "a task panicked and was dropped");
    }
}

/// What a maintenance executor hands to its jobs: nothing, they bring what they need.
pub struct Maintenance;

/// The maintenance executors of a core.
#[derive(Clone)]
pub struct Maintainers {
    spare: Arc<Mailbox<Maintenance>>,
    part: Arc<Mailbox<Maintenance>>,
}

impl Maintainers {
    /// One claim of each executor.
    pub const CLAIMS: [Claim; 2] = [Claim::Spare, Claim::Percent(50)];

    /// Nothing serves them yet.
    #[must_use]
    pub fn new(messages_max: usize) -> Maintainers {
        Maintainers { spare: Mailbox::new(messages_max), part: Mailbox::new(messages_max) }
    }

    /// Where jobs of a claim go.
    #[must_use]
    pub fn mailbox(&self, claim: Claim) -> &Arc<Mailbox<Maintenance>> {
        match claim {
            Claim::Spare => &self.spare,
            Claim::Percent(_) => &self.part,
        }
    }

    /// No more jobs.
    pub fn close(&self) {
        self.spare.close();
        self.part.close();
    }
}

/// The edge of the node over glommio: one per serving executor (or coordination, without maintenance).
#[derive(Clone)]
pub struct GlommioIo(Rc<Inner>);

struct Inner {
    search: TaskQueueHandle,
    write: TaskQueueHandle,
    background: TaskQueueHandle,
    maintenance: Option<(Rc<Desk>, Maintainers)>,
    origin: Instant,
    random: (RandomState, Cell<u64>),
}

impl GlommioIo {
    /// Must be called in an executor. `origin` is where the monotonic clock starts, the same for all cores.
    #[must_use]
    pub fn new(origin: Instant, maintenance: Option<(Rc<Desk>, Maintainers)>) -> GlommioIo {
        let executor = glommio::executor();
        // Not `Latency::Matters`: its forced wake-ups are what makes glommio park too early, and the preemption timer
        // already bounds how long a queue waits.
        let queue = |shares, name| executor.create_task_queue(Shares::Static(shares), Latency::NotImportant, name);
        GlommioIo(Rc::new(Inner {
            search: queue(1000, "search"),
            write: queue(600, "write"),
            background: queue(200, "background"),
            maintenance,
            origin,
            random: (RandomState::new(), Cell::new(0)),
        }))
    }
}

impl NodeIo for GlommioIo {
    type Directory = Ledgered<DmaDirectory>;
    type Pace = GlommioPace;

    fn directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<Self::Directory>> {
        let path = path.to_owned();
        Box::pin(async move { open_directory(path, Arc::default(), Purpose::Segments).await })
    }

    fn remove_directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<()>> {
        let path = path.to_owned();
        Box::pin(async move {
            let shown = path.display().to_string();
            let removed = blocking(move || match std::fs::remove_dir_all(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            });
            removed.await.map_err(|e| ApiError::new(500, "i_o_exception", format!("cannot remove [{shown}]: {e}")))
        })
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        // SipHash of a counter under a key from the operating system.
        let (key, counter) = &self.0.random;
        counter.set(counter.get().wrapping_add(1));
        key.hash_one(counter.get())
    }

    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            glommio::timer::sleep(time).await;
        })
    }

    fn spawn(&self, lane: Lane, task: LocalFuture<'static, ()>) {
        let (name, queue) = match lane {
            Lane::Search => ("search", self.0.search),
            Lane::Write => ("write", self.0.write),
            Lane::Background => ("background", self.0.background),
        };
        glommio::spawn_local_into(hot::watched(name, guarded(task)), queue)
            .expect("the lanes live as long as the executor")
            .detach();
    }

    fn pace(&self, deadline_ns: Option<u64>) -> GlommioPace {
        GlommioPace { origin: self.0.origin, deadline_ns, asked: Cell::new(0), stopped: Cell::new(false) }
    }

    fn maintain<T: Send + 'static>(
        &self,
        claim: Claim,
        directory: &Self::Directory,
        job: impl FnOnce(Self::Directory, GiveWay) -> LocalFuture<'static, T> + Send + 'static,
    ) -> LocalFuture<'static, ApiResult<T>> {
        let path = directory.inner().path().to_owned();
        let ledger = directory.ledger().cloned().unwrap_or_default();
        let Some((desk, maintainers)) = self.0.maintenance.clone() else {
            let directory = directory.clone();
            return Box::pin(async move { Ok(job(directory, Box::new(|| ())).await) });
        };
        Box::pin(async move {
            let call = desk.call(maintainers.mailbox(claim), Lane::Background, move |_| {
                Box::pin(async move {
                    let directory = open_directory(path, ledger, Purpose::Merges).await?;
                    let courtesy = Courtesy::new(claim);
                    ApiResult::Ok(job(directory, Box::new(move || courtesy.give_way())).await)
                })
            });
            call.await.map_err(ApiError::from)?
        })
    }
}

async fn open_directory(
    path: PathBuf,
    ledger: Arc<Ledger>,
    segments_for: Purpose,
) -> ApiResult<Ledgered<DmaDirectory>> {
    let directory = DmaDirectory::open(path).await?;
    Ok(Ledgered::new(directory, ledger, segments_for))
}

/// Runs `work` in the executor's blocking pool. A panic there would hang the caller for ever, so it becomes an error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let caught = move || {
        std::panic::catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic_text(&*panic))))
    };
    glommio::executor().spawn_blocking(caught).await
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How work shares a core under glommio.
#[derive(Clone, Debug)]
pub struct GlommioPace {
    origin: Instant,
    deadline_ns: Option<u64>,
    asked: Cell<u8>,
    stopped: Cell<bool>,
}

impl GlommioPace {
    /// Times `stopped` answers from memory between two looks at the clock.
    const CLOCK_EVERY: u8 = 8;
}

impl Pace for GlommioPace {
    async fn yield_if_needed(&self) {
        glommio::yield_if_needed().await;
    }

    fn stopped(&self) -> bool {
        let Some(deadline) = self.deadline_ns else { return false };
        if self.stopped.get() {
            return true;
        }
        let asked = self.asked.get();
        self.asked.set((asked + 1) % GlommioPace::CLOCK_EVERY);
        if asked == 0 {
            self.stopped.set(self.origin.elapsed().as_nanos() >= u128::from(deadline));
        }
        self.stopped.get()
    }
}

/// A mailbox's jobs run in the lanes of this executor.
pub fn serve_mailbox<S: 'static>(mailbox: Arc<Mailbox<S>>, state: Rc<S>, io: &GlommioIo) -> LocalFuture<'static, ()> {
    let io = io.clone();
    Box::pin(async move { mailbox.serve(state, mesh::JOBS_MAX, |lane, task| io.spawn(lane, task)).await })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn data() -> tempfile::TempDir {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
        std::fs::create_dir_all(&target).unwrap();
        tempfile::tempdir_in(target).unwrap()
    }

    fn executor<F: Future<Output = Result<(), String>> + 'static>(
        name: &str,
        role: Role,
        data: &Path,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> Executor {
        let body = move |started: Result<(), String>| {
            started.unwrap();
            Some(body())
        };
        start(name, role, data, body).unwrap()
    }

    fn serving() -> Role {
        Role::Serving { cpu: first_cpu(), spin: Duration::ZERO }
    }

    fn first_cpu() -> usize {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap()
    }

    /// Without the heartbeat this executor parks with its task runnable within a second, for ever: its preemption timer
    /// fires before the queue has run.
    #[test]
    fn heartbeat_bounds_a_park_with_runnable_tasks() {
        let count = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopping) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let builder = LocalExecutorBuilder::new(Placement::Fixed(first_cpu())).io_memory(1 << 20);
            builder.preempt_timer(Duration::from_micros(100)).make().unwrap().run(async move {
                heartbeat(HEARTBEAT);
                while !stopping.load(Ordering::Relaxed) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    glommio::yield_if_needed().await;
                }
            });
        });
        std::thread::sleep(Duration::from_secs(2));
        let before = count.load(Ordering::Relaxed);
        // Far above the period: other processes share this machine. Without the heartbeat it is for ever.
        let deadline = Instant::now() + Duration::from_secs(10);
        while count.load(Ordering::Relaxed) == before {
            assert!(Instant::now() < deadline, "asleep after {before} turns");
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }

    /// What a park before the first poll looks like from outside: no word, for ever.
    #[test]
    fn an_executor_that_sleeps_before_its_first_task_is_replaced() {
        let begun = AtomicU64::new(0);
        let hung = Arc::new(AtomicBool::new(true));
        let thread = started(Duration::from_millis(50), |alive| {
            let hangs = begun.fetch_add(1, Ordering::Relaxed) == 0;
            let hung = Arc::clone(&hung);
            Ok(std::thread::spawn(move || {
                while hangs && hung.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                alive.tell();
                7
            }))
        });
        assert_eq!(thread.unwrap().join().unwrap(), 7);
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        hung.store(false, Ordering::Relaxed);
    }

    /// Without the guard every append waits for a slice of a spinning executor: 4 ms and more.
    #[test]
    fn iopoll_guard_keeps_appends_from_spinning() {
        use ringdex_engine::store::{BLOCK, Directory, File};
        let dir = data();
        let path = dir.path().to_owned();
        let (tx, rx) = mpsc::channel();
        let executor = executor("guard", serving(), dir.path(), move || async move {
            let directory = open_directory(path, Arc::default(), Purpose::Segments).await.map_err(|e| e.to_string())?;
            let file = directory.create("appended", 0).await.map_err(|e| e.to_string())?;
            let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let (start, begun) = (cpu(), Instant::now());
            for n in 0..100u64 {
                file.write_at(n * BLOCK as u64, &[7; BLOCK]).await.map_err(|e| e.to_string())?;
                file.sync().await.map_err(|e| e.to_string())?;
            }
            let end = cpu();
            let used = (end.tv_sec - start.tv_sec) as f64 + (end.tv_nsec - start.tv_nsec) as f64 / 1e9;
            tx.send((used, begun.elapsed().as_secs_f64())).map_err(|e| e.to_string())
        });
        executor.join().unwrap();
        let (used, wall) = rx.recv().unwrap();
        // A spinning executor burns all of the time it can get, however slow the disk is.
        assert!(used < 0.25 || used / wall < 0.95, "{used} s of CPU in {wall} s");
    }

    #[test]
    fn a_panicking_task_does_not_end_its_core() {
        let dir = data();
        let (tx, rx) = mpsc::channel();
        let executor = executor("panic", serving(), dir.path(), move || async move {
            let io = GlommioIo::new(Instant::now(), None);
            io.spawn(Lane::Search, Box::pin(async { panic!("on purpose") }));
            io.sleep(Duration::from_millis(20)).await;
            let told = tx.clone();
            io.spawn(Lane::Write, Box::pin(async move { told.send("alive").unwrap() }));
            io.sleep(Duration::from_millis(20)).await;
            let refused = blocking(|| -> std::io::Result<()> { panic!("in the pool") }).await;
            assert_eq!(refused.unwrap_err().to_string(), "in the pool");
            blocking(|| Ok(())).await.unwrap();
            tx.send("pool alive").unwrap();
            Ok(())
        });
        executor.join().unwrap();
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["alive", "pool alive"]);
    }

    #[test]
    fn a_panicking_body_is_an_error_of_its_executor() {
        let dir = data();
        let executor = executor("body", serving(), dir.path(), || async { panic!("body") });
        assert_eq!(executor.join(), Err("executor [body]: panicked: body".to_owned()));
    }

    #[test]
    fn maintenance_runs_elsewhere_as_it_claims_and_survives_panics() {
        let dir = data();
        let maintainers = Maintainers::new(16);
        let sides = Maintainers::CLAIMS.map(|claim| {
            let served = Arc::clone(maintainers.mailbox(claim));
            let role = Role::Maintenance { cpu: first_cpu(), claim };
            executor("side", role, dir.path(), move || async move {
                let io = GlommioIo::new(Instant::now(), None);
                serve_mailbox(served, Rc::new(Maintenance), &io).await;
                Ok(())
            })
        });
        let path = dir.path().to_owned();
        let closing = maintainers.clone();
        let serving = executor("front", serving(), dir.path(), move || async move {
            let desk = Desk::new();
            glommio::spawn_local(Rc::clone(&desk).serve()).detach();
            let io = GlommioIo::new(Instant::now(), Some((desk, maintainers)));
            let directory = io.directory(&path.join("shard")).await.unwrap();
            let thread = || (std::thread::current().id(), rustix::process::getpriority_process(None).unwrap());
            let mut threads = vec![thread()];
            for claim in Maintainers::CLAIMS {
                let job = move |d: Ledgered<DmaDirectory>, give_way: GiveWay| -> LocalFuture<'static, _> {
                    give_way();
                    Box::pin(async move { (thread(), d.inner().path().to_owned()) })
                };
                let (there, opened) = io.maintain(claim, &directory, job).await.unwrap();
                threads.push(there);
                assert_eq!(opened, path.join("shard"));
                let panicked = io.maintain::<()>(claim, &directory, |_, _| Box::pin(async { panic!("merge") })).await;
                assert_eq!(panicked.unwrap_err().reason, "internal error: panicked: merge".replace("panicked: ", ""));
                assert_eq!(io.maintain(claim, &directory, |_, _| Box::pin(async { 5 })).await, Ok(5));
            }
            assert_eq!(threads.iter().map(|t| t.1).collect::<Vec<_>>(), [0, 19, 0].map(|nice| nice.max(threads[0].1)));
            threads.sort_by_key(|t| format!("{:?}", t.0));
            threads.dedup_by_key(|t| t.0);
            assert_eq!(threads.len(), 3, "threads of their own");
            Ok(())
        });
        serving.join().unwrap();
        closing.close();
        sides.into_iter().for_each(|side| side.join().unwrap());
    }

    #[test]
    fn maintenance_takes_no_more_than_its_part() {
        let courtesy = Courtesy::new(Claim::Percent(25));
        let (began, before) = (Instant::now(), thread_cpu());
        while thread_cpu() - before < Duration::from_millis(20) {
            courtesy.give_way();
        }
        // The last millisecond has not been slept for.
        assert!(began.elapsed() >= Duration::from_millis(19 * 4), "{:?}", began.elapsed());
    }

    #[test]
    fn pace_stops_at_its_deadline() {
        let pace = GlommioPace {
            origin: Instant::now(),
            deadline_ns: Some(20_000_000),
            asked: Cell::new(0),
            stopped: Cell::new(false),
        };
        assert!(!pace.stopped());
        std::thread::sleep(Duration::from_millis(25));
        assert!((0..16).any(|_| pace.stopped()));
        assert!(pace.stopped());
    }
}

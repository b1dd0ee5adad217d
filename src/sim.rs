//! The second implementation of the node's edge: virtual time, seeded scheduling, simulated disks, one thread.
//!
//! Everything a [`SimWorld`] runs is a function of its seed: which ready task runs next, what a crash leaves on a disk,
//! every random number. Time passes only when nothing can run: the clock then jumps to the next timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringdex_engine::pace::Pace;
use ringdex_engine::store::sim::SimDirectory;

use crate::backend::LocalFuture;
use crate::error::ApiResult;
use crate::io::{Claim, GiveWay, Lane, NodeIo};

/// Milliseconds since 1970 at which every simulation begins.
const START_MS: i64 = 1_700_000_000_000;

/// Number of the future given to [`SimWorld::block_on`]; tasks have the others.
const MAIN: usize = usize::MAX;

/// A simulated machine, or one of several under one clock and scheduler: what is spawned through it dies with it. Cheap to clone.
/// Implements [`NodeIo`].
#[derive(Clone)]
pub struct SimWorld(Rc<World>, u32);

struct World {
    seed: u64,
    random: Cell<u64>,
    now_ns: Cell<u64>,
    /// With the machine each belongs to.
    tasks: RefCell<Vec<Option<(u32, LocalFuture<'static, ()>)>>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Mutex<Vec<usize>>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    timer_count: Cell<u64>,
    disks: RefCell<BTreeMap<PathBuf, SimDirectory>>,
    /// How long a call of a disk below a path takes at most.
    latency: RefCell<BTreeMap<PathBuf, Duration>>,
    /// Machines that do not run, and their tasks that were to.
    frozen: RefCell<BTreeMap<u32, Vec<usize>>>,
}

struct TaskWaker {
    task: usize,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().expect("no panic while held");
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

impl SimWorld {
    /// A world whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimWorld {
        SimWorld(
            Rc::new(World {
                seed,
                random: Cell::new(seed ^ 0x9e37_79b9_7f4a_7c15),
                now_ns: Cell::new(1),
                tasks: RefCell::default(),
                free: RefCell::default(),
                ready: Arc::default(),
                timers: RefCell::default(),
                timer_count: Cell::new(0),
                disks: RefCell::default(),
                latency: RefCell::default(),
                frozen: RefCell::default(),
            }),
            0,
        )
    }

    /// Another machine of the same world.
    #[must_use]
    pub fn machine(&self, number: u32) -> SimWorld {
        SimWorld(Rc::clone(&self.0), number)
    }

    /// Stops this machine where it stands, as a stopped process is; timers run out meanwhile.
    pub fn freeze(&self) {
        self.0.frozen.borrow_mut().entry(self.1).or_default();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        for task in self.0.frozen.borrow_mut().remove(&self.1).unwrap_or_default() {
            self.waker(task).wake();
        }
    }

    /// Every call of a disk below `path` takes up to `most` from now on.
    pub fn set_latency(&self, path: &Path, most: Duration) {
        self.0.latency.borrow_mut().insert(path.to_owned(), most);
    }

    /// The disks below `path`, with their paths.
    #[must_use]
    pub fn disks(&self, path: &Path) -> Vec<(PathBuf, SimDirectory)> {
        let disks = self.0.disks.borrow();
        disks.iter().filter(|(at, _)| at.starts_with(path)).map(|(at, disk)| (at.clone(), disk.clone())).collect()
    }

    /// Ends what this machine runs; with `power`, its disks (those below `path`) lose what a power loss takes.
    pub fn crash_machine(&self, path: &Path, power: bool) {
        self.0.frozen.borrow_mut().remove(&self.1);
        let mut gone = Vec::new();
        {
            let mut tasks = self.0.tasks.borrow_mut();
            for (slot, task) in tasks.iter_mut().enumerate() {
                if task.as_ref().is_some_and(|(machine, _)| *machine == self.1) {
                    gone.push(task.take());
                    self.0.free.borrow_mut().push(slot);
                }
            }
        }
        // What they hold may wake others.
        drop(gone);
        for (_, disk) in self.disks(path) {
            if power {
                disk.crash();
                disk.restart();
            }
        }
    }

    /// Runs `future` to its end, and all spawned tasks as far as they get meanwhile.
    ///
    /// # Panics
    /// When nothing can run and no timer is set: the simulated program waits for ever.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = self.waker(MAIN);
        waker.wake_by_ref();
        loop {
            let Some(task) = self.pick() else {
                self.next_timer();
                continue;
            };
            if task == MAIN {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return value;
                }
            } else {
                self.run_task(task);
            }
        }
    }

    /// The simulated disk of a directory; made when first asked for.
    #[must_use]
    pub fn disk(&self, path: &Path) -> SimDirectory {
        let mut disks = self.0.disks.borrow_mut();
        let seed = self.0.seed.wrapping_add(disks.len() as u64 * 7919);
        let make = || {
            let disk = SimDirectory::new(seed);
            let (world, path) = (Rc::downgrade(&self.0), path.to_owned());
            disk.set_latency(Some(Rc::new(move || latency(&world, &path))));
            disk
        };
        disks.entry(path.to_owned()).or_insert_with(make).clone()
    }

    /// Power loss: every task is gone, every disk keeps what a crash leaves of it, and can be opened again.
    pub fn crash(&self) {
        self.drop_tasks();
        for disk in self.0.disks.borrow().values() {
            disk.crash();
            disk.restart();
        }
    }

    /// Ends every spawned task where it stands (a killed process: the disks keep all writes).
    pub fn drop_tasks(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        self.0.free.borrow_mut().clear();
        self.0.ready.lock().expect("no panic while held").clear();
        self.0.timers.borrow_mut().clear();
    }

    fn waker(&self, task: usize) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, ready: self.0.ready.clone() }))
    }

    /// Any of the ready tasks.
    fn pick(&self) -> Option<usize> {
        let mut ready = self.0.ready.lock().expect("no panic while held");
        match ready.len() {
            0 => None,
            n => {
                let at = (self.next_random() % n as u64) as usize;
                Some(ready.swap_remove(at))
            }
        }
    }

    fn run_task(&self, task: usize) {
        let mut frozen = self.0.frozen.borrow_mut();
        let machine = self.0.tasks.borrow().get(task).and_then(|task| task.as_ref().map(|(machine, _)| *machine));
        if let Some(held) = machine.and_then(|machine| frozen.get_mut(&machine)) {
            held.push(task);
            return;
        }
        drop(frozen);
        let taken = self.0.tasks.borrow_mut().get_mut(task).and_then(Option::take);
        let Some((machine, mut future)) = taken else { return };
        let waker = self.waker(task);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => self.0.free.borrow_mut().push(task),
            Poll::Pending => {
                if let Some(slot) = self.0.tasks.borrow_mut().get_mut(task) {
                    *slot = Some((machine, future));
                }
            }
        }
    }

    fn next_timer(&self) {
        let first = self.0.timers.borrow_mut().pop_first();
        let Some(((at, _), waker)) = first else { panic!("the simulation waits for ever (seed {})", self.0.seed) };
        self.0.now_ns.set(self.0.now_ns.get().max(at));
        waker.wake();
    }

    /// splitmix64.
    fn next_random(&self) -> u64 {
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a call of the disk at `path` waits for.
fn latency(world: &Weak<World>, path: &Path) -> Pin<Box<dyn Future<Output = ()>>> {
    let Some(world) = world.upgrade().map(|world| SimWorld(world, 0)) else { return Box::pin(std::future::ready(())) };
    let most = {
        let latency = world.0.latency.borrow();
        let mut below = path.ancestors().filter_map(|at| latency.get(at));
        below.next().map_or(0, |most| most.as_nanos() as u64)
    };
    match most {
        0 => Box::pin(std::future::ready(())),
        most => world.sleep(Duration::from_nanos(world.next_random() % most)),
    }
}

struct Sleep {
    world: SimWorld,
    at_ns: u64,
    key: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        if let Some(key) = self.key.take() {
            world.0.timers.borrow_mut().remove(&key);
        }
        if world.0.now_ns.get() >= self.at_ns {
            return Poll::Ready(());
        }
        let n = world.0.timer_count.get() + 1;
        world.0.timer_count.set(n);
        let key = (self.at_ns, n);
        world.0.timers.borrow_mut().insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world.0.timers.borrow_mut().remove(&key);
        }
    }
}

/// Yields now and then, as the seed has it; stops at its deadline in virtual time.
#[derive(Clone)]
pub struct SimPace {
    world: SimWorld,
    deadline_ns: Option<u64>,
}

impl Pace for SimPace {
    async fn yield_if_needed(&self) {
        if self.world.next_random().is_multiple_of(4) {
            futures_lite::future::yield_now().await;
        }
    }

    fn stopped(&self) -> bool {
        self.deadline_ns.is_some_and(|at| self.world.0.now_ns.get() >= at)
    }
}

impl NodeIo for SimWorld {
    type Directory = SimDirectory;
    type Pace = SimPace;

    fn directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<SimDirectory>> {
        let disk = self.disk(path);
        Box::pin(async move { Ok(disk) })
    }

    fn remove_directory(&self, path: &Path) -> LocalFuture<'static, ApiResult<()>> {
        self.0.disks.borrow_mut().retain(|p, _| !p.starts_with(path));
        Box::pin(async { Ok(()) })
    }

    fn now_ms(&self) -> i64 {
        START_MS + (self.0.now_ns.get() / 1_000_000) as i64
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    fn random(&self) -> u64 {
        self.next_random()
    }

    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()> {
        let at_ns = self.0.now_ns.get() + time.as_nanos() as u64;
        Box::pin(Sleep { world: self.clone(), at_ns, key: None })
    }

    fn spawn(&self, _: Lane, task: LocalFuture<'static, ()>) {
        let number = {
            let mut tasks = self.0.tasks.borrow_mut();
            match self.0.free.borrow_mut().pop() {
                Some(slot) => {
                    tasks[slot] = Some((self.1, task));
                    slot
                }
                None => {
                    tasks.push(Some((self.1, task)));
                    tasks.len() - 1
                }
            }
        };
        self.waker(number).wake();
    }

    fn pace(&self, deadline_ns: Option<u64>) -> SimPace {
        SimPace { world: self.clone(), deadline_ns }
    }

    fn maintain<T: Send + 'static>(
        &self,
        _: Claim,
        directory: &SimDirectory,
        job: impl FnOnce(SimDirectory, GiveWay) -> LocalFuture<'static, T> + Send + 'static,
    ) -> LocalFuture<'static, ApiResult<T>> {
        let directory = directory.clone();
        Box::pin(async move {
            futures_lite::future::yield_now().await;
            Ok(job(directory, Box::new(|| ())).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(seed: u64) -> Vec<(u32, u64)> {
        let world = SimWorld::new(seed);
        let log: Rc<RefCell<Vec<(u32, u64)>>> = Rc::default();
        for task in 0..5u32 {
            let (io, log) = (world.clone(), log.clone());
            world.spawn(
                Lane::Write,
                Box::pin(async move {
                    for step in 0..4u64 {
                        io.sleep(Duration::from_millis(step * u64::from(task % 2))).await;
                        io.pace(None).yield_if_needed().await;
                        log.borrow_mut().push((task, io.monotonic_ns()));
                    }
                }),
            );
        }
        world.block_on(world.sleep(Duration::from_secs(1)));
        log.take()
    }

    #[test]
    fn a_seed_replays_and_seeds_differ() {
        assert_eq!(trace(1), trace(1));
        assert_eq!(trace(1).len(), 20);
        assert!((2..12).any(|seed| trace(seed) != trace(1)));
    }

    #[test]
    fn time_jumps_to_the_next_timer() {
        let world = SimWorld::new(1);
        let before = world.now_ms();
        world.block_on(world.sleep(Duration::from_secs(3600)));
        assert_eq!(world.now_ms() - before, 3_600_000);
    }

    #[test]
    #[should_panic(expected = "waits for ever")]
    fn a_deadlock_is_found() {
        SimWorld::new(1).block_on(std::future::pending::<()>());
    }
}

//! A thread that sends requests when they are due and times their answers.
//!
//! ```text
//! Schedule -> due? -> idle connection? -> send       epoll -> answer -> record -> connection idle
//! ```
//!
//! In an open loop the schedule itself is the queue: a request that is due but finds no idle connection stays in it, and
//! its latency still counts from when it was due. It is given up at its timeout, sent or not, so a run ends at most
//! one timeout after its last request was due, whatever the server does.
//!
//! Times are nanoseconds since the start of the run. A thread with a core of its own polls without pause; one without
//! sleeps until shortly before the next request is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll;

use super::connection::{Connection, Event, State};
use super::plan::{Mix, Plan, Request, Stream};
use super::random::Random;
use super::record::{Failure, Record};
use super::schedule::{Arrivals, Schedule};
use super::verdict::judge;

/// Requests sent before answers are looked at again.
const LAUNCH_MAX: usize = 16;
/// How often timeouts and lost connections are looked at.
const CHECK_NS: u64 = 2_000_000;
/// Pause after a connection could not be made.
const RETRY_NS: u64 = 20_000_000;
/// Polling before a request is due, on a core shared with others.
const SPIN_NS: u64 = 50_000;
/// Longest sleep.
const SLEEP_NS_MAX: u64 = 50_000_000;
/// For the first connections.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Bytes one read takes at most.
const READ_BYTES: usize = 64 << 10;
/// Characters of an error's body that are shown.
const SAMPLE_CHARS: usize = 300;
/// Keeps think times apart from other randomness.
const THINK: u64 = 0x0074_6869_6e6b;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// At times fixed beforehand, at this rate over all threads.
    Open { arrivals: Arrivals, rate: f64 },
    /// As soon as the client has its answer, and has thought.
    Closed { think: Duration, poisson: bool },
}

/// What all threads of a run share.
pub(super) struct Job {
    pub(super) plan: Arc<Plan>,
    pub(super) mix: Mix,
    /// Number of the run; part of the requests' randomness.
    pub(super) run: u64,
    pub(super) pace: Pace,
    pub(super) address: SocketAddr,
    pub(super) timeout: Duration,
    pub(super) warmup: Duration,
    pub(super) duration: Option<Duration>,
    pub(super) requests: Option<u64>,
    pub(super) interval: Duration,
    pub(super) threads: usize,
    pub(super) connections: usize,
    /// All are connected.
    pub(super) connected: Barrier,
    pub(super) start: OnceLock<Instant>,
    /// Ends the run early.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a thread tells while it runs.
pub(super) enum Report {
    /// An interval is over.
    Interval { thread: usize, number: u64, record: Box<Record> },
    /// The thread is done; time since the start.
    Ended { thread: usize, at_ns: u64 },
    /// It could not begin.
    Failed(String),
}

struct Flight {
    operation: usize,
    intended: u64,
    sent: u64,
}

#[derive(Default)]
struct Slot {
    connection: Connection,
    flight: Option<Flight>,
    /// When the last answer came.
    free_at: u64,
    /// When to connect again, if down.
    retry_at: u64,
    /// Closed loop: the client wants to send since `parked_at`, and waits for the connection.
    parked_at: Option<u64>,
}

/// One thread's part of a run.
pub(super) struct Worker {
    job: Arc<Job>,
    thread: usize,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    idle: VecDeque<usize>,
    busy: usize,
    connecting: usize,
    schedule: Option<Schedule>,
    /// Next request of all threads.
    next: u64,
    stream: Stream,
    request: Request,
    /// When `request` is due; none when there are no more. In a closed loop: whenever a client is ready.
    due: Option<u64>,
    /// Closed loop: when clients are ready.
    ready: BinaryHeap<Reverse<(u64, usize)>>,
    think: Random,
    record: Box<Record>,
    interval: u64,
    reports: mpsc::Sender<Report>,
    spares: mpsc::Receiver<Box<Record>>,
    events: Vec<epoll::Event>,
    scratch: Box<[u8]>,
    start: Instant,
    spin_ns: u64,
    next_check: u64,
    warmup: u64,
    end: u64,
    timeout: u64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Worker {
    /// Runs to the end, or says why it could not begin.
    pub(super) fn run(
        job: &Arc<Job>,
        thread: usize,
        core: Option<usize>,
        reports: &mpsc::Sender<Report>,
        spares: mpsc::Receiver<Box<Record>>,
    ) {
        let made = Worker::new(job, thread, core, reports.clone(), spares).and_then(|mut worker| {
            worker.connect_all()?;
            Ok(worker)
        });
        if made.is_err() {
            // The others need not go on either.
            job.stop.store(true, Ordering::Relaxed);
        }
        // Everybody gets here, or the others would wait for ever.
        job.connected.wait();
        let ended = made.and_then(|mut worker| {
            // A moment for the slowest thread to wake up.
            worker.start = *job.start.get_or_init(|| Instant::now() + Duration::from_millis(20));
            worker.work()
        });
        let _ = reports.send(match ended {
            Ok(at_ns) => Report::Ended { thread, at_ns },
            Err(e) => Report::Failed(e),
        });
    }

    fn new(
        job: &Arc<Job>,
        thread: usize,
        core: Option<usize>,
        reports: mpsc::Sender<Report>,
        spares: mpsc::Receiver<Box<Record>>,
    ) -> Result<Worker, String> {
        if let Some(core) = core {
            pin(core)?;
        }
        // Sleeps end when they should, not up to 50 µs later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
        let connections = (thread..job.connections).step_by(job.threads).count();
        let end = job.duration.map_or(u64::MAX, |d| nanos(job.warmup).saturating_add(nanos(d)));
        let schedule = match job.pace {
            Pace::Open { arrivals, rate } => Some(Schedule::new(arrivals, rate, job.plan.seed, job.run)),
            Pace::Closed { .. } => None,
        };
        let mut worker = Worker {
            thread,
            epoll,
            slots: (0..connections).map(|_| Slot::default()).collect(),
            idle: VecDeque::new(),
            busy: 0,
            connecting: 0,
            schedule,
            next: 0,
            stream: Stream::new(&job.plan, job.run, &job.mix),
            request: Request::default(),
            due: None,
            ready: BinaryHeap::new(),
            think: Random::of(&[job.plan.seed ^ THINK, job.run, thread as u64]),
            record: Box::new(Record::new(job.plan.operations.len())),
            interval: 0,
            reports,
            spares,
            events: Vec::with_capacity(256),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            start: Instant::now(),
            spin_ns: if core.is_some() { u64::MAX } else { SPIN_NS },
            next_check: 0,
            warmup: nanos(job.warmup),
            end,
            timeout: nanos(job.timeout),
            job: Arc::clone(job),
        };
        worker.advance();
        Ok(worker)
    }

    fn clock(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    fn connect_all(&mut self) -> Result<(), String> {
        let until = Instant::now() + CONNECT_MAX;
        let mut last = "no connection asked for".to_owned();
        for index in 0..self.slots.len() {
            self.connect(index);
        }
        while self.connecting > 0 && Instant::now() < until {
            for (index, event) in self.poll(SLEEP_NS_MAX)? {
                match event {
                    Event::Connected => self.connecting -= 1,
                    Event::Lost(why) => {
                        self.connecting -= 1;
                        last = why.to_owned();
                        let _ = index;
                    }
                    Event::None | Event::Answer(_) => {}
                }
            }
        }
        let open = |s: &Slot| s.connection.state() == State::Idle;
        if !self.slots.is_empty() && !self.slots.iter().any(open) {
            return Err(format!("no connection to {}: {last}", self.job.address));
        }
        for index in 0..self.slots.len() {
            match self.job.pace {
                Pace::Open { .. } if open(&self.slots[index]) => self.idle.push_back(index),
                Pace::Open { .. } => {}
                // Clients do not start in step.
                Pace::Closed { .. } => {
                    let at = self.think_ns();
                    let at = if matches!(self.job.pace, Pace::Closed { poisson: false, .. }) {
                        (at as f64 * self.think.unit()) as u64
                    } else {
                        at
                    };
                    self.ready.push(Reverse((at, index)));
                }
            }
        }
        Ok(())
    }

    fn think_ns(&mut self) -> u64 {
        match self.job.pace {
            Pace::Closed { think, poisson: true } => (nanos(think) as f64 * self.think.exponential()) as u64,
            Pace::Closed { think, .. } => nanos(think),
            Pace::Open { .. } => 0,
        }
    }

    fn connect(&mut self, index: usize) {
        match self.slots[index].connection.connect(self.job.address, &self.epoll, index as u64) {
            Ok(()) => self.connecting += 1,
            Err(_) => self.slots[index].retry_at = self.clock() + RETRY_NS,
        }
    }

    /// Waits for events, at most so long, and lets connections do what they can.
    fn poll(&mut self, timeout_ns: u64) -> Result<Vec<(usize, Event)>, String> {
        // Only while connecting; the loop handles events one by one.
        let events = self.wait_events(timeout_ns)?;
        let mut seen = Vec::new();
        for at in 0..events {
            let event = self.events[at];
            let index = event.data.u64() as usize;
            let slot = &mut self.slots[index];
            seen.push((index, slot.connection.ready(event.flags, &mut self.scratch, &self.epoll, index as u64)));
        }
        Ok(seen)
    }

    fn wait_events(&mut self, timeout_ns: u64) -> Result<usize, String> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (timeout_ns % 1_000_000_000) as _,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => Ok(self.events.len()),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(e) => Err(format!("epoll: {e}")),
        }
    }

    fn work(&mut self) -> Result<u64, String> {
        std::thread::sleep(self.start.saturating_duration_since(Instant::now()));
        loop {
            self.launch();
            let now = self.clock();
            if now >= self.next_check {
                self.check(now);
            }
            self.turn(now);
            if self.busy == 0 && self.exhausted(now) {
                let record = std::mem::replace(&mut self.record, Box::new(Record::new(0)));
                let _ = self.reports.send(Report::Interval { thread: self.thread, number: self.interval, record });
                return Ok(now);
            }
            let events = self.wait_events(self.pause(now))?;
            for at in 0..events {
                let event = self.events[at];
                self.happened(event.data.u64() as usize, event.flags);
            }
        }
    }

    /// No request will be sent any more.
    fn exhausted(&self, now: u64) -> bool {
        let closed = matches!(self.job.pace, Pace::Closed { .. });
        self.due.is_none() || (closed && now >= self.end)
    }

    /// How long to sleep.
    fn pause(&self, now: u64) -> u64 {
        if self.spin_ns == u64::MAX {
            return 0;
        }
        let idle = self.busy == 0 && self.connecting == 0 && self.idle.len() == self.slots.len();
        let mut gap = SLEEP_NS_MAX;
        if !idle {
            gap = gap.min(self.next_check.saturating_sub(now));
        }
        let due = if self.idle.is_empty() { None } else { self.due };
        let ready = self.ready.peek().map(|Reverse((at, _))| *at);
        if let Some(at) = due.into_iter().chain(ready).min() {
            gap = gap.min(at.saturating_sub(now).saturating_sub(self.spin_ns));
        }
        gap
    }

    /// Hands the record over when its interval is over.
    fn turn(&mut self, now: u64) {
        let length = nanos(self.job.interval);
        let current = now.saturating_sub(self.warmup) / length;
        if current == self.interval {
            return;
        }
        let fresh = self.spares.try_recv().unwrap_or_else(|_| Box::new(Record::new(self.job.plan.operations.len())));
        let record = std::mem::replace(&mut self.record, fresh);
        let _ = self.reports.send(Report::Interval { thread: self.thread, number: self.interval, record });
        self.interval = current;
    }

    /// Prepares the next request of this thread.
    fn advance(&mut self) {
        loop {
            let (number, at) = match &mut self.schedule {
                Some(schedule) => schedule.next().unwrap_or((0, u64::MAX)),
                None => (self.next, 0),
            };
            if at >= self.end || self.job.requests.is_some_and(|n| number >= n) || self.job.stop.load(Ordering::Relaxed)
            {
                self.due = None;
                return;
            }
            self.next = number + 1;
            if number % self.job.threads as u64 == self.thread as u64 {
                self.stream.next(&self.job.plan, &mut self.request);
                self.due = Some(at);
                return;
            }
            self.stream.skip(&self.job.plan);
        }
    }

    fn launch(&mut self) {
        for _ in 0..LAUNCH_MAX {
            let Some(due) = self.due else { return };
            let now = self.clock();
            match self.job.pace {
                Pace::Open { .. } => {
                    if due > now {
                        return;
                    }
                    if now - due > self.timeout {
                        self.fail(self.request.operation, due, Failure::Timeout, now, String::new);
                    } else if let Some(index) = self.idle.pop_front() {
                        self.send(index, due, now);
                    } else if self.busy == 0 && self.connecting == 0 {
                        self.fail(self.request.operation, due, Failure::Connect, now, || "no connection".to_owned());
                    } else {
                        return;
                    }
                }
                Pace::Closed { .. } => {
                    let Some(Reverse((at, index))) = self.ready.peek().copied() else { return };
                    if at > now || now >= self.end {
                        return;
                    }
                    self.ready.pop();
                    match self.slots[index].connection.state() {
                        State::Idle => self.send(index, at, now),
                        State::Connecting | State::Busy => {
                            self.slots[index].parked_at = Some(at);
                            continue;
                        }
                        State::Down => {
                            let failed = || "no connection".to_owned();
                            self.fail(self.request.operation, at, Failure::Connect, now, failed);
                            self.ready.push(Reverse((now + RETRY_NS, index)));
                        }
                    }
                }
            }
            self.advance();
        }
    }

    fn send(&mut self, index: usize, intended: u64, now: u64) {
        let operation = self.request.operation;
        let slot = &mut self.slots[index];
        if intended >= self.warmup {
            self.record.lag.saturating_record(now - intended.max(slot.free_at).min(now));
        }
        slot.flight = Some(Flight { operation, intended, sent: now });
        self.busy += 1;
        let bodiless = self.job.plan.operations[operation].method == "HEAD";
        let sent = slot.connection.send(&mut self.request.bytes, bodiless, &self.epoll, index as u64);
        if let Err(why) = sent {
            slot.connection.close();
            self.lost(index, why);
        }
    }

    fn happened(&mut self, index: usize, flags: epoll::EventFlags) {
        let before = self.slots[index].connection.state();
        let event = self.slots[index].connection.ready(flags, &mut self.scratch, &self.epoll, index as u64);
        match event {
            Event::None => {}
            Event::Connected => {
                self.connecting -= 1;
                self.slots[index].free_at = self.clock();
                match self.slots[index].parked_at.take() {
                    Some(at) => self.ready.push(Reverse((at, index))),
                    None if self.schedule.is_some() => self.idle.push_back(index),
                    None => {}
                }
            }
            Event::Answer(head) => self.answered(index, head.status),
            Event::Lost(why) if before == State::Busy => self.lost(index, why),
            Event::Lost(_) if before == State::Connecting => {
                self.connecting -= 1;
                let now = self.clock();
                self.slots[index].retry_at = now + RETRY_NS;
                if let Some(at) = self.slots[index].parked_at.take() {
                    self.ready.push(Reverse((at, index)));
                }
            }
            Event::Lost(_) => {
                self.idle.retain(|i| *i != index);
                self.connect(index);
            }
        }
    }

    fn answered(&mut self, index: usize, status: u16) {
        let now = self.clock();
        let slot = &mut self.slots[index];
        slot.free_at = now;
        // A busy connection has a request in flight.
        let Some(flight) = slot.flight.take() else { return };
        self.busy -= 1;
        let operation = &self.job.plan.operations[flight.operation];
        let verdict = judge(operation, status, slot.connection.body());
        let clip = |body: &[u8]| String::from_utf8_lossy(body).chars().take(SAMPLE_CHARS).collect::<String>();
        if let Some(failure) = verdict.failure {
            let body = clip(self.slots[index].connection.body());
            self.fail(flight.operation, flight.intended, failure, now, || body);
        } else {
            if !verdict.refused.is_empty() {
                let (name, body) = (&operation.name, slot.connection.body());
                self.record.sample(|| format!("{name}: refused documents: {}", clip(body)));
            }
            let refused: u64 = verdict.refused.values().sum();
            let documents = u64::from(operation.documents).saturating_sub(refused);
            let measured = &mut self.record.operations[flight.operation];
            if now >= self.warmup && now < self.end {
                measured.arrived += 1;
                measured.documents_arrived += documents;
            }
            if flight.intended >= self.warmup {
                measured.latency.saturating_record(now - flight.intended);
                measured.service.saturating_record(now - flight.sent);
                measured.intended += 1;
                measured.succeeded += 1;
                measured.documents += documents;
                for (status, count) in verdict.refused {
                    *measured.errors.entry(Failure::Item(status)).or_default() += count;
                }
            }
        }
        self.freed(index, now);
    }

    /// The connection of a busy slot is gone.
    fn lost(&mut self, index: usize, why: &'static str) {
        let now = self.clock();
        if let Some(flight) = self.slots[index].flight.take() {
            self.busy -= 1;
            self.fail(flight.operation, flight.intended, Failure::Closed, now, || why.to_owned());
        }
        self.freed(index, now);
    }

    /// The slot has nothing in flight any more.
    fn freed(&mut self, index: usize, now: u64) {
        if self.slots[index].connection.state() == State::Down {
            self.connect(index);
        } else if self.schedule.is_some() {
            self.idle.push_back(index);
        }
        if self.schedule.is_none() {
            let think = self.think_ns();
            self.ready.push(Reverse((now + think, index)));
        }
    }

    fn fail(&mut self, operation: usize, intended: u64, failure: Failure, now: u64, message: impl FnOnce() -> String) {
        if intended < self.warmup {
            return;
        }
        let name = &self.job.plan.operations[operation].name;
        if failure != Failure::Timeout {
            self.record.sample(|| format!("{name}: {failure}: {}", message()));
        }
        let measured = &mut self.record.operations[operation];
        measured.intended += 1;
        measured.failed += 1;
        *measured.errors.entry(failure).or_default() += 1;
        if failure == Failure::Timeout {
            // It took at least this long; to leave it out would hide the worst.
            measured.latency.saturating_record(now - intended);
        }
    }

    /// Gives up what is overdue and connects again what is down.
    fn check(&mut self, now: u64) {
        self.next_check = now + CHECK_NS;
        if self.job.stop.load(Ordering::Relaxed) {
            self.due = None;
        }
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if let Some(flight) = slot.flight.take_if(|f| now.saturating_sub(f.intended) > self.timeout) {
                slot.connection.close();
                self.busy -= 1;
                self.fail(flight.operation, flight.intended, Failure::Timeout, now, String::new);
                self.freed(index, now);
            } else if slot.connection.state() == State::Down && slot.flight.is_none() && now >= slot.retry_at {
                self.connect(index);
            }
        }
    }
}

/// Keeps this thread on one CPU.
pub(super) fn pin(core: usize) -> Result<(), String> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|e| format!("cannot run on CPU {core}: {e}"))
}

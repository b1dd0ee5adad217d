//! How far a by-query operation is, and how fast it may go.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use serde_json::{Map, Value, json};

use crate::backend::SharedBackend;
use crate::tasks::{Operation, Task};

/// Milliseconds of one sleep at most: clocks and timers need not know years.
const SLEEP_MS_MAX: u64 = 3_600_000;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub total: u64,
    pub updated: u64,
    pub created: u64,
    pub deleted: u64,
    pub batches: u64,
    pub conflicts: u64,
    pub retries: u64,
    pub throttled_ms: u64,
}

/// One operation or one slice of one.
pub(super) struct Progress {
    backend: SharedBackend,
    task: Rc<Task>,
    /// Its number among the slices.
    slice: Option<u32>,
    counts: Cell<Counts>,
    /// Documents a second; infinite = as fast as it goes.
    rate: Cell<f32>,
    /// While it waits: until then (monotonic).
    throttled_until_ns: Cell<u64>,
    rate_changed: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
    slices: RefCell<Vec<Rc<Progress>>>,
}

impl Progress {
    pub fn new(backend: &SharedBackend, task: Rc<Task>, slice: Option<u32>, rate: f32) -> Rc<Progress> {
        Rc::new(Progress {
            backend: Rc::clone(backend),
            task,
            slice,
            counts: Cell::default(),
            rate: Cell::new(rate),
            throttled_until_ns: Cell::new(0),
            rate_changed: Cell::new(false),
            sleeper: RefCell::default(),
            slices: RefCell::default(),
        })
    }

    /// Lets its task tell of it.
    pub fn shows(self: &Rc<Self>) {
        let own: Rc<dyn Operation> = Rc::<Progress>::clone(self);
        self.task.works_on(Rc::downgrade(&own));
    }

    /// Its parts, one task each, which share its speed.
    pub fn split(&self, slices: u32) -> Vec<Rc<Progress>> {
        let parts: Vec<Rc<Progress>> = (0..slices)
            .map(|slice| {
                let task = self.backend.tasks().begin_part(&self.task);
                // Whoever cancelled the whole did not know of this part.
                if let Some(reason) = self.task.cancelled() {
                    task.cancel(reason);
                }
                let part = Progress::new(&self.backend, task, Some(slice), self.rate.get() / slices as f32);
                part.shows();
                part
            })
            .collect();
        self.slices.borrow_mut().clone_from(&parts);
        parts
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    pub fn is_cancelled(&self) -> bool {
        self.task.cancelled().is_some()
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// What it and all its slices have done.
    fn counts(&self) -> Counts {
        let mut sum = self.counts.get();
        for slice in self.slices.borrow().iter().map(|slice| slice.counts.get()) {
            sum.total += slice.total;
            sum.updated += slice.updated;
            sum.created += slice.created;
            sum.deleted += slice.deleted;
            sum.batches += slice.batches;
            sum.conflicts += slice.conflicts;
            sum.retries += slice.retries;
            sum.throttled_ms += slice.throttled_ms;
        }
        sum
    }

    fn throttled_until_ms(&self) -> u64 {
        let now = self.backend.monotonic_ns();
        let left = |progress: &Progress| progress.throttled_until_ns.get().saturating_sub(now) / 1_000_000;
        // A whole waits until the first of its slices goes on.
        self.slices.borrow().iter().map(|slice| left(slice)).min().unwrap_or_else(|| left(self))
    }

    fn set_rate(&self, per_second: f32) {
        self.rate.set(per_second);
        let slices = self.slices.borrow();
        for slice in slices.iter() {
            slice.set_rate(per_second / slices.len() as f32);
        }
        self.rate_changed.set(true);
        if let Some(waker) = self.sleeper.take() {
            waker.wake();
        }
    }

    /// Waits until `docs` documents that were begun at `began` have taken the time that is theirs, or the task is cancelled.
    /// A rate that was raised counts at once; one that was lowered for the next batch.
    pub async fn throttle(&self, docs: usize, began: u64) {
        let due_at = |rate: f32| {
            let ns = docs as f64 * 1e9 / f64::from(rate);
            began.saturating_add(ns as u64)
        };
        let start = self.backend.monotonic_ns();
        let mut due = due_at(self.rate.get());
        loop {
            let now = self.backend.monotonic_ns();
            if due <= now || self.is_cancelled() {
                break;
            }
            self.throttled_until_ns.set(due);
            let ms = ((due - now).div_ceil(1_000_000)).min(SLEEP_MS_MAX);
            let woken = futures_lite::future::or(self.until_rate_changes(), self.task.until_cancelled());
            futures_lite::future::or(woken, self.backend.sleep_ms(ms)).await;
            due = due.min(due_at(self.rate.get()));
        }
        self.throttled_until_ns.set(0);
        let waited = (self.backend.monotonic_ns() - start) / 1_000_000;
        self.count(|counts| counts.throttled_ms += waited);
    }

    async fn until_rate_changes(&self) {
        poll_fn(|cx| {
            if self.rate_changed.replace(false) {
                return Poll::Ready(());
            }
            *self.sleeper.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The counts as answers and lists show them; answers leave out what the operation cannot do.
    pub fn put(&self, out: &mut Map<String, Value>, updated: bool, created: bool) {
        let counts = self.counts();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        if let Some(slice) = self.slice {
            put("slice_id", slice.into());
        }
        put("total", counts.total.into());
        if updated {
            put("updated", counts.updated.into());
        }
        if created {
            put("created", counts.created.into());
        }
        put("deleted", counts.deleted.into());
        put("batches", counts.batches.into());
        put("version_conflicts", counts.conflicts.into());
        put("noops", 0.into());
        put("retries", json!({ "bulk": counts.retries, "search": 0 }));
        put("throttled_millis", counts.throttled_ms.into());
        let rate = self.rate.get();
        put("requests_per_second", if rate.is_finite() { json!(rate) } else { json!(-1.0) });
        if let Some(reason) = self.task.cancelled() {
            put("canceled", reason.into());
        }
        put("throttled_until_millis", self.throttled_until_ms().into());
        let slices = self.slices.borrow();
        if !slices.is_empty() {
            let shown = slices.iter().map(|slice| {
                let mut own = Map::new();
                slice.put(&mut own, updated, created);
                Value::Object(own)
            });
            put("slices", shown.collect());
        }
    }
}

impl Operation for Progress {
    fn status(&self) -> Value {
        let mut out = Map::new();
        self.put(&mut out, true, true);
        Value::Object(out)
    }

    fn rethrottle(&self, per_second: f32) -> bool {
        self.set_rate(per_second);
        true
    }
}

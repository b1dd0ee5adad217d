//! What this node is doing: every REST request that was routed is a task while it is worked on; so is everything that goes on
//! behind one (a by-query operation, each of its slices).
//!
//! - Each core has a [`Registry`] of the tasks that began on it; nothing is shared and nothing locks. To register costs two
//!   allocations and a push. Texts are made when somebody asks.
//! - A task's number says its core (`number % cores`) and is never given twice, not even after a restart: what a finished
//!   task left in the index `.tasks` stays its own.
//! - A task is in the registry as long as somebody holds it, unless it was said to be over.
//! - Cancelling sets a mark and wakes who works. Most work is then dropped where it waits, as if its client had left
//!   ([`Cancel::Drop`]); a by-query operation looks at the mark itself and ends after its batch ([`Cancel::Ends`]).

pub mod actions;
mod describe;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use self::actions::{Action, Cancel};
use crate::error::{ApiError, ApiResult};
use crate::rest::filter::glob;

/// Why a task is cancelled when its user wants it.
pub const BY_USER: &str = "by user request";
/// Bytes of a body that a task remembers for its description.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Tasks a second and core, on average, that numbers last for without meeting those of the next start.
const PER_SECOND_BITS: u32 = 17;
/// Numbers begin to count here (November 2023, in seconds since 1970).
const NUMBERS_SINCE: i64 = 1_700_000_000;

/// The tasks of one core.
pub struct Registry {
    core: u64,
    cores: u64,
    /// One moment on two clocks.
    origin: (Instant, i64),
    next: Cell<u64>,
    tasks: RefCell<Vec<Option<Weak<Task>>>>,
    free: RefCell<Vec<u32>>,
}

/// What goes on behind a task: tells how far it is, and may be slowed down.
pub trait Operation {
    /// How far it is.
    fn status(&self) -> Value;
    /// Sets documents a second (infinite = no limit); false if there is no such thing here.
    fn rethrottle(&self, per_second: f32) -> bool;
}

/// Something that is being done.
pub struct Task {
    registry: Rc<Registry>,
    place: u32,
    number: u64,
    action: &'static Action,
    started: Instant,
    /// Path of the request.
    path: String,
    opaque: Option<String>,
    parent: Option<u64>,
    body: RefCell<Bytes>,
    described: OnceCell<String>,
    /// Not held: it holds the task.
    operation: OnceCell<Weak<dyn Operation>>,
    over: Cell<bool>,
    cancelled: OnceCell<String>,
    waiting: RefCell<Vec<Waker>>,
}

/// A task as others see it.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// Its number.
    pub number: u64,
    /// `indices:data/read/search`
    pub action: &'static str,
    /// `transport`, or `direct` for a part of another task.
    pub kind: &'static str,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// Nanoseconds until now.
    pub running_ns: u64,
    /// Whether it can be cancelled.
    pub cancellable: bool,
    /// Whether it was.
    pub cancelled: bool,
    /// Task it is a part of.
    pub parent: Option<u64>,
    /// `X-Opaque-Id`
    pub opaque: Option<String>,
    /// What exactly it does.
    pub description: String,
    /// How far it is.
    pub status: Option<Value>,
}

/// Which tasks are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Patterns of actions; none = all.
    pub actions: Vec<String>,
    /// Only this one.
    pub number: Option<u64>,
    /// Only parts of this one.
    pub parent: Option<u64>,
}

/// What may be wanted of tasks; the answer is those concerned.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Nothing but to know them.
    List(Filter),
    /// Cancel those that can be, with their parts, for this reason.
    Cancel(Filter, String),
    /// Change documents a second of one.
    Rethrottle(u64, f32),
}

impl Ask {
    /// The number of the only task that is meant.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Ask::List(filter) | Ask::Cancel(filter, _) => filter.number,
            Ask::Rethrottle(number, _) => Some(*number),
        }
    }
}

impl Registry {
    /// No tasks yet, on core `core` of `cores` that starts at `now_ms`.
    #[must_use]
    pub fn new(core: usize, cores: usize, now_ms: i64) -> Rc<Registry> {
        let since = (now_ms / 1000 - NUMBERS_SINCE).max(0) as u64;
        Rc::new(Registry {
            core: core as u64,
            cores: cores.max(1) as u64,
            origin: (Instant::now(), now_ms),
            next: Cell::new((since << PER_SECOND_BITS) + 1),
            tasks: RefCell::default(),
            free: RefCell::default(),
        })
    }

    /// The core that gave a number.
    #[must_use]
    pub fn core_of(&self, number: u64) -> usize {
        (number % self.cores) as usize
    }

    /// A task that began at `started`, for the request at `path`.
    pub fn begin(
        self: &Rc<Self>,
        action: &'static Action,
        started: Instant,
        path: String,
        opaque: Option<String>,
    ) -> Rc<Task> {
        self.add(action, started, path, opaque, None)
    }

    /// A part of `parent`.
    pub fn begin_part(self: &Rc<Self>, parent: &Task) -> Rc<Task> {
        let part =
            self.add(parent.action, Instant::now(), parent.path.clone(), parent.opaque.clone(), Some(parent.number));
        let _ = part.described.set(parent.description());
        part
    }

    fn add(
        self: &Rc<Self>,
        action: &'static Action,
        started: Instant,
        path: String,
        opaque: Option<String>,
        parent: Option<u64>,
    ) -> Rc<Task> {
        let count = self.next.get();
        self.next.set(count + 1);
        let mut tasks = self.tasks.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(None);
            u32::try_from(tasks.len() - 1).expect("requests in work are bounded far below")
        });
        let task = Rc::new(Task {
            registry: Rc::clone(self),
            place,
            number: count * self.cores + self.core,
            action,
            started,
            path,
            opaque,
            parent,
            body: RefCell::default(),
            described: OnceCell::new(),
            operation: OnceCell::new(),
            over: Cell::new(false),
            cancelled: OnceCell::new(),
            waiting: RefCell::default(),
        });
        tasks[place as usize] = Some(Rc::downgrade(&task));
        task
    }

    /// Does what is asked with the tasks of this core.
    #[must_use]
    pub fn answer(&self, ask: &Ask) -> Vec<TaskInfo> {
        let live: Vec<Rc<Task>> =
            self.tasks.borrow().iter().flatten().filter_map(Weak::upgrade).filter(|task| !task.over.get()).collect();
        let mut concerned: Vec<&Rc<Task>> = match ask {
            Ask::List(filter) => live.iter().filter(|task| task.is_meant(filter)).collect(),
            Ask::Cancel(filter, reason) => {
                let meant = live.iter().filter(|task| task.is_meant(filter) && task.action.cancel != Cancel::No);
                meant.inspect(|task| task.cancel_with_parts(&live, reason)).collect()
            }
            Ask::Rethrottle(number, rate) => live
                .iter()
                .filter(|t| t.number == *number && t.operation().is_some_and(|o| o.rethrottle(*rate)))
                .collect(),
        };
        concerned.sort_by_key(|task| task.number);
        concerned.into_iter().map(|task| task.info()).collect()
    }
}

impl Task {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Remembers the body of its request, if it is small, for its description.
    pub fn has_body(&self, body: &Bytes) {
        if body.len() <= BODY_BYTES_MAX {
            *self.body.borrow_mut() = body.clone();
        }
    }

    /// Says what it does; the first word counts.
    pub fn describe(&self, text: impl FnOnce() -> String) {
        self.described.get_or_init(text);
    }

    /// Says what goes on behind it, which may hold the task.
    ///
    /// # Panics
    /// If that was said before.
    pub fn works_on(&self, operation: Weak<dyn Operation>) {
        assert!(self.operation.set(operation).is_ok(), "a task does one thing");
    }

    /// Takes it off the list, although somebody still holds it.
    pub fn ends(&self) {
        self.over.set(true);
    }

    fn operation(&self) -> Option<Rc<dyn Operation>> {
        self.operation.get().and_then(Weak::upgrade)
    }

    fn description(&self) -> String {
        self.described.get().cloned().unwrap_or_else(|| describe::of(self.action, &self.path, &self.body.borrow()))
    }

    /// As others see it.
    #[must_use]
    pub fn info(&self) -> TaskInfo {
        let (instant, ms) = self.registry.origin;
        TaskInfo {
            number: self.number,
            action: self.action.name,
            kind: if self.parent.is_some() { "direct" } else { "transport" },
            // Requests may begin before the first look at the clock, by as much as connections are older than the registry.
            start_ms: ms + self.started.saturating_duration_since(instant).as_millis() as i64,
            running_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            cancellable: self.action.cancel != Cancel::No,
            cancelled: self.cancelled.get().is_some(),
            parent: self.parent,
            opaque: self.opaque.clone(),
            description: self.description(),
            status: self.operation().map(|operation| operation.status()),
        }
    }

    fn is_meant(&self, filter: &Filter) -> bool {
        filter.number.is_none_or(|number| number == self.number)
            && filter.parent.is_none_or(|parent| Some(parent) == self.parent)
            && (filter.actions.is_empty() || filter.actions.iter().any(|pattern| glob(pattern, self.action.name)))
    }

    /// Marks it as cancelled and wakes who works on it.
    pub fn cancel(&self, reason: &str) {
        if self.cancelled.set(reason.to_owned()).is_ok() {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    fn cancel_with_parts(&self, all: &[Rc<Task>], reason: &str) {
        self.cancel(reason);
        all.iter().filter(|task| task.parent == Some(self.number)).for_each(|task| task.cancel(reason));
    }

    /// Why it was cancelled, if it was.
    #[must_use]
    pub fn cancelled(&self) -> Option<&str> {
        self.cancelled.get().map(String::as_str)
    }

    /// Waits until it is cancelled.
    pub async fn until_cancelled(&self) {
        poll_fn(|cx| self.poll_cancelled(cx)).await;
    }

    fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.cancelled.get().is_some() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Runs the work of this task. Work that may be dropped is, once the task is cancelled.
    ///
    /// # Errors
    /// The work's, or `task_cancelled_exception`.
    pub async fn run<T>(&self, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        if self.action.cancel != Cancel::Drop {
            return work.await;
        }
        let mut work = pin!(work);
        poll_fn(|cx| match self.poll_cancelled(cx) {
            Poll::Ready(()) => Poll::Ready(Err(self.cancelled_error())),
            Poll::Pending => work.as_mut().poll(cx),
        })
        .await
    }

    fn cancelled_error(&self) -> ApiError {
        let reason = self.cancelled().unwrap_or_default();
        ApiError::new(400, "task_cancelled_exception", format!("cancelled task with reason: {reason}"))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.registry.tasks.borrow_mut()[self.place as usize] = None;
        self.registry.free.borrow_mut().push(self.place);
    }
}

impl TaskInfo {
    /// `node:number`
    #[must_use]
    pub fn id(&self, node: &str) -> String {
        format!("{node}:{}", self.number)
    }

    /// As answers show it; `detailed` adds what costs something.
    #[must_use]
    pub fn to_json(&self, node: &str, detailed: bool) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("node", node.into());
        put("id", self.number.into());
        put("type", self.kind.into());
        put("action", self.action.into());
        if detailed {
            if let Some(status) = &self.status {
                put("status", status.clone());
            }
            put("description", self.description.clone().into());
        }
        put("start_time_in_millis", self.start_ms.into());
        put("running_time_in_nanos", self.running_ns.into());
        put("cancellable", self.cancellable.into());
        if self.cancelled {
            put("cancelled", true.into());
        }
        if let Some(parent) = self.parent {
            put("parent_task_id", format!("{node}:{parent}").into());
        }
        put("headers", self.opaque.as_ref().map_or_else(|| json!({}), |id| json!({ "X-Opaque-Id": id })));
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn search(registry: &Rc<Registry>) -> Rc<Task> {
        let action = actions::of("search::search", "/{index}/_search");
        registry.begin(action, Instant::now(), "/a,b/_search".into(), Some("me".into()))
    }

    fn listed(registry: &Registry, patterns: &[&str]) -> Vec<u64> {
        let actions = patterns.iter().map(|p| (*p).to_owned()).collect();
        let ask = Ask::List(Filter { actions, ..Filter::default() });
        registry.answer(&ask).iter().map(|task| task.number).collect()
    }

    #[test]
    fn tasks_are_listed_while_somebody_holds_them_and_numbers_say_their_core() {
        let cores: Vec<_> = (0..3).map(|core| Registry::new(core, 3, 1_800_000_000_000)).collect();
        let mut seen = Vec::new();
        for _ in 0..5 {
            for (core, registry) in cores.iter().enumerate() {
                let task = search(registry);
                assert_eq!(registry.core_of(task.number()), core);
                assert_eq!(listed(registry, &["indices:data/read/*"]), [task.number()]);
                assert_eq!(listed(registry, &["*write*"]), [0; 0]);
                assert!(!seen.contains(&task.number()) && task.number() < 1 << 53);
                seen.push(task.number());
            }
        }
        assert!(cores.iter().all(|registry| listed(registry, &[]).is_empty()));
        // Places are used again.
        assert!(cores.iter().all(|registry| registry.tasks.borrow().len() == 1));
        let after_restart = Registry::new(0, 3, 1_800_000_001_000);
        assert!(search(&after_restart).number() > *seen.iter().max().expect("some"));
    }

    #[test]
    fn cancelling_drops_the_work_and_says_why() {
        let registry = Registry::new(0, 1, 0);
        let task = search(&registry);
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let mut work = pin!(task.run(async move {
            let _inside = inside;
            pending::<ApiResult<()>>().await
        }));
        assert!(block_on(poll_once(work.as_mut())).is_none());
        let cancel = Ask::Cancel(Filter { number: Some(task.number()), ..Filter::default() }, BY_USER.into());
        assert_eq!(registry.answer(&cancel).len(), 1);
        let error = block_on(work).expect_err("it is cancelled");
        assert_eq!((error.status, error.kind.as_str()), (400, "task_cancelled_exception"));
        assert_eq!(error.reason, "cancelled task with reason: by user request");
        assert_eq!(Rc::strong_count(&held), 1, "the work was dropped");
    }

    #[test]
    fn a_task_that_cannot_be_cancelled_is_not_and_parts_are_with_their_whole() {
        let registry = Registry::new(0, 1, 0);
        let write = registry.begin(actions::of("bulk::bulk", "/_bulk"), Instant::now(), "/_bulk".into(), None);
        let whole = registry.begin(actions::of("by_query::delete", "/i"), Instant::now(), "/i".into(), None);
        let part = registry.begin_part(&whole);
        let cancelled =
            registry.answer(&Ask::Cancel(Filter { actions: vec!["*".into()], ..Filter::default() }, "r".into()));
        assert_eq!(cancelled.len(), 2);
        assert!(write.cancelled().is_none() && whole.cancelled() == Some("r") && part.cancelled() == Some("r"));
        let parts = Ask::List(Filter { parent: Some(whole.number()), ..Filter::default() });
        assert_eq!(registry.answer(&parts).iter().map(|t| t.number).collect::<Vec<_>>(), [part.number()]);
        assert_eq!(part.info().to_json("n", false)["parent_task_id"], format!("n:{}", whole.number()));
        // What looks at the mark itself is not dropped.
        assert_eq!(block_on(whole.run(async { Ok(7) })), Ok(7));
    }
}

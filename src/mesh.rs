//! Calls between cores: bounded, answered exactly once, safe to abandon.
//!
//! ```text
//! caller's core                                       other core
//!   Desk::call --- job ---> Mailbox (bounded queue) ---> Mailbox::serve spawns it
//!   Desk::serve <-- answer -- Replies (as many as calls are open) --+
//! ```
//!
//! A message is a boxed closure over the receiver's state rather than an enum: the compiler checks the type of every
//! answer, and a new kind of call needs no new variant in three places. It costs one allocation, per request and shard,
//! not per document.
//!
//! - **Bounds.** A full mailbox refuses at once ([`CallError::Full`], 429 to a client). A mailbox stops taking jobs while
//!   too many of its own are unfinished. Answers need no bound of their own: there are at most as many as open calls,
//!   and those are bounded by [`CALLS_MAX`].
//! - **Wakes.** A core is woken once for any number of messages: a bell that has been rung is not rung again until it was
//!   heard. So no foreign thread ever queues more than one wake per core (glommio's task reference count is an `i16`).
//! - **Abandoning.** Dropping a [`Call`] frees its slot; its answer is dropped when it comes. The far side stops, at its
//!   next await, if the call was made abortable (reads); otherwise it runs to its end (writes, state changes).
//! - **Panics.** A job that panics answers [`CallError::Panicked`]; one that is dropped unrun answers [`CallError::Lost`].
//!
//! Nothing here names glommio: the same mesh runs on one thread in tests.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use crossbeam_queue::{ArrayQueue, SegQueue};
use futures_lite::FutureExt;

use crate::backend::LocalFuture;
use crate::error::ApiError;
use crate::io::Lane;
use crate::stats::{self, Stage};

/// Messages a mailbox holds before it refuses.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;
/// Unfinished jobs of a mailbox before it stops taking more.
pub const JOBS_MAX: usize = 8192;
/// Open calls of one core.
pub const CALLS_MAX: usize = 65_536;

/// What a mailbox carries.
type Job<S> = Box<dyn FnOnce(Rc<S>) -> LocalFuture<'static, ()> + Send>;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The other core has too much to do.
    Full,
    /// The other core has stopped.
    Closed,
    /// The job panicked, saying this.
    Panicked(String),
    /// The job was dropped before it could answer.
    Lost,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Full => f.write_str("the core's mailbox is full"),
            CallError::Closed => f.write_str("the core has stopped"),
            CallError::Panicked(text) => write!(f, "panicked: {text}"),
            CallError::Lost => f.write_str("the core dropped the request"),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(e: CallError) -> ApiError {
        match e {
            CallError::Full => {
                let reason = format!("rejected execution: mailbox capacity [{MAILBOX_MESSAGES_MAX}] is used up");
                ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1")
            }
            CallError::Closed | CallError::Lost => {
                ApiError::new(503, "node_closed_exception", format!("node closed: {e}"))
            }
            CallError::Panicked(text) => ApiError::new(500, "exception", format!("internal error: {text}")),
        }
    }
}

/// Wakes a task on another thread, once however often it is rung before it is heard.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    async fn heard(&self) {
        poll_fn(|cx| {
            if self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            // It may have been rung before the waker was there.
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Where a core takes work from others. `S` is what the core hands to the work.
pub struct Mailbox<S> {
    queue: ArrayQueue<(Lane, Job<S>)>,
    bell: Bell,
    closed: AtomicBool,
}

impl<S: 'static> Mailbox<S> {
    /// An empty one, for at most `capacity` messages.
    #[must_use]
    pub fn new(capacity: usize) -> Arc<Mailbox<S>> {
        Arc::new(Mailbox { queue: ArrayQueue::new(capacity), bell: Bell::default(), closed: AtomicBool::new(false) })
    }

    /// Hands a job over without waiting for an answer. From any thread.
    pub fn post(
        &self,
        lane: Lane,
        job: impl FnOnce(Rc<S>) -> LocalFuture<'static, ()> + Send + 'static,
    ) -> Result<(), CallError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        self.queue.push((lane, Box::new(job))).map_err(|_| CallError::Full)?;
        self.bell.ring();
        Ok(())
    }

    /// No more messages; those already there are still taken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether no more messages are taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Messages waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes jobs until the mailbox is closed and empty. `spawn` starts a task and catches its panics.
    pub async fn serve(self: Arc<Self>, state: Rc<S>, jobs_max: usize, spawn: impl Fn(Lane, LocalFuture<'static, ()>)) {
        let running = Rc::new(Cell::new(0));
        loop {
            while running.get() < jobs_max
                && let Some((lane, job)) = self.queue.pop()
            {
                running.set(running.get() + 1);
                let place = Place { running: Rc::clone(&running), jobs_max, mailbox: Arc::clone(&self) };
                let state = Rc::clone(&state);
                spawn(
                    lane,
                    Box::pin(async move {
                        let _place = place;
                        job(state).await;
                    }),
                );
            }
            if self.closed.load(Ordering::Acquire) && self.queue.is_empty() {
                return;
            }
            self.bell.heard().await;
        }
    }
}

/// A running job's place; free again when the job ends or is dropped.
struct Place<S: 'static> {
    running: Rc<Cell<usize>>,
    jobs_max: usize,
    mailbox: Arc<Mailbox<S>>,
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        let running = self.running.get();
        self.running.set(running - 1);
        if running == self.jobs_max {
            self.mailbox.bell.ring();
        }
    }
}

/// Answers on their way back to a desk.
#[derive(Default)]
struct Replies {
    queue: SegQueue<Reply>,
    bell: Bell,
}

struct Reply {
    slot: u32,
    generation: u32,
    value: Result<Box<dyn Any + Send>, CallError>,
}

/// Answers a call exactly once, whatever becomes of the job.
struct ReplyTo {
    replies: Arc<Replies>,
    slot: u32,
    generation: u32,
    answered: bool,
}

impl ReplyTo {
    fn answer(mut self, value: Result<Box<dyn Any + Send>, CallError>) {
        self.send(value);
    }

    fn send(&mut self, value: Result<Box<dyn Any + Send>, CallError>) {
        self.answered = true;
        self.replies.queue.push(Reply { slot: self.slot, generation: self.generation, value });
        self.replies.bell.ring();
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Err(CallError::Lost));
        }
    }
}

/// Set by a caller that no longer wants its answer.
#[derive(Default)]
struct Abandoned {
    gone: AtomicBool,
    waker: AtomicWaker,
}

enum Slot {
    Free,
    Waiting(Option<Waker>),
    Answered(Result<Box<dyn Any + Send>, CallError>),
}

/// The calling side of one core: the table of its open calls.
pub struct Desk {
    replies: Arc<Replies>,
    slots: RefCell<Vec<(u32, Slot)>>,
    free: RefCell<Vec<u32>>,
}

impl Desk {
    /// No calls yet.
    #[must_use]
    pub fn new() -> Rc<Desk> {
        Rc::new(Desk { replies: Arc::default(), slots: RefCell::default(), free: RefCell::default() })
    }

    /// Hands answers to those who wait; runs for ever, so the core spawns it.
    pub async fn serve(self: Rc<Self>) {
        loop {
            while let Some(reply) = self.replies.queue.pop() {
                let mut slots = self.slots.borrow_mut();
                let (generation, slot) = &mut slots[reply.slot as usize];
                // Another generation: the call was abandoned and its slot is in use again.
                if *generation == reply.generation
                    && let Slot::Waiting(waker) = slot
                {
                    let waker = waker.take();
                    *slot = Slot::Answered(reply.value);
                    drop(slots);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            }
            self.replies.bell.heard().await;
        }
    }

    /// Open calls.
    #[must_use]
    pub fn open(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len()
    }

    /// Runs `job` on the core that serves `to`. It goes on to its end even if the caller stops waiting.
    pub fn call<S: 'static, T: Send + 'static>(
        self: &Rc<Self>,
        to: &Mailbox<S>,
        lane: Lane,
        job: impl FnOnce(Rc<S>) -> LocalFuture<'static, T> + Send + 'static,
    ) -> Call<T> {
        self.start(to, lane, None, job)
    }

    /// The same, but the job is dropped at its next await once the caller stops waiting.
    pub fn call_abortable<S: 'static, T: Send + 'static>(
        self: &Rc<Self>,
        to: &Mailbox<S>,
        lane: Lane,
        job: impl FnOnce(Rc<S>) -> LocalFuture<'static, T> + Send + 'static,
    ) -> Call<T> {
        self.start(to, lane, Some(Arc::default()), job)
    }

    fn start<S: 'static, T: Send + 'static>(
        self: &Rc<Self>,
        to: &Mailbox<S>,
        lane: Lane,
        abandoned: Option<Arc<Abandoned>>,
        job: impl FnOnce(Rc<S>) -> LocalFuture<'static, T> + Send + 'static,
    ) -> Call<T> {
        let Some((slot, generation)) = self.take_slot() else {
            return Call {
                desk: Rc::clone(self),
                at: None,
                refused: Some(CallError::Full),
                abandoned: None,
                _t: PhantomData,
            };
        };
        let reply_to = ReplyTo { replies: Arc::clone(&self.replies), slot, generation, answered: false };
        let watched = abandoned.clone();
        let sent = Instant::now();
        let posted = to.post(lane, move |state| {
            stats::record_since(Stage::CoreHop, sent);
            Box::pin(async move {
                let work = AssertUnwindSafe(async { job(state).await }).catch_unwind();
                let value = match watched {
                    None => Some(work.await),
                    Some(abandoned) => unless_abandoned(work, &abandoned).await,
                };
                match value {
                    Some(Ok(value)) => reply_to.answer(Ok(Box::new(value))),
                    Some(Err(panic)) => reply_to.answer(Err(CallError::Panicked(panic_text(&*panic)))),
                    None => reply_to.answer(Err(CallError::Lost)),
                }
            })
        });
        let at = Some((slot, generation));
        // A refused job answers `Lost` as it is dropped; what the caller sees is why.
        Call { desk: Rc::clone(self), at, refused: posted.err(), abandoned, _t: PhantomData }
    }

    fn take_slot(&self) -> Option<(u32, u32)> {
        let mut slots = self.slots.borrow_mut();
        let slot = match self.free.borrow_mut().pop() {
            Some(slot) => slot,
            None if slots.len() < CALLS_MAX => {
                slots.push((0, Slot::Free));
                u32::try_from(slots.len() - 1).ok()?
            }
            None => return None,
        };
        let entry = &mut slots[slot as usize];
        entry.1 = Slot::Waiting(None);
        Some((slot, entry.0))
    }

    fn free_slot(&self, slot: u32) {
        let mut slots = self.slots.borrow_mut();
        let entry = &mut slots[slot as usize];
        entry.0 = entry.0.wrapping_add(1);
        entry.1 = Slot::Free;
        self.free.borrow_mut().push(slot);
    }
}

/// An open call. Dropping it abandons it.
pub struct Call<T> {
    desk: Rc<Desk>,
    at: Option<(u32, u32)>,
    refused: Option<CallError>,
    abandoned: Option<Arc<Abandoned>>,
    _t: PhantomData<fn() -> T>,
}

impl<T: Send + 'static> Future for Call<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(error));
        }
        let (slot, _) = self.at.expect("a call is not polled after it has been answered");
        let mut slots = self.desk.slots.borrow_mut();
        let entry = &mut slots[slot as usize].1;
        match entry {
            Slot::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Slot::Answered(_) => {
                let Slot::Answered(value) = std::mem::replace(entry, Slot::Free) else { unreachable!("just matched") };
                drop(slots);
                self.desk.free_slot(slot);
                self.at = None;
                self.abandoned = None;
                Poll::Ready(value.map(|v| *v.downcast::<T>().expect("a slot's answer has the type of its call")))
            }
            Slot::Free => unreachable!("an open call has its slot"),
        }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Some((slot, _)) = self.at.take() {
            self.desk.free_slot(slot);
        }
        if let Some(abandoned) = self.abandoned.take() {
            abandoned.gone.store(true, Ordering::Release);
            abandoned.waker.wake();
        }
    }
}

/// `work`, or `None` (with `work` dropped) once nobody waits for it any more.
async fn unless_abandoned<F: Future>(work: F, abandoned: &Abandoned) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| {
        abandoned.waker.register(cx.waker());
        if abandoned.gone.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}

/// One value from one task of a core to another task of the same core.
pub struct OneShot<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Clone for OneShot<T> {
    fn clone(&self) -> OneShot<T> {
        OneShot(Rc::clone(&self.0))
    }
}

impl<T> Default for OneShot<T> {
    fn default() -> OneShot<T> {
        OneShot(Rc::new(RefCell::new((None, None))))
    }
}

impl<T> OneShot<T> {
    /// Gives the value; wakes who waits.
    pub fn set(&self, value: T) {
        let waker = {
            let mut inner = self.0.borrow_mut();
            inner.0 = Some(value);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the value.
    pub async fn get(&self) -> T {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            match inner.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[cfg(all(test, feature = "glommio"))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    struct State {
        core: usize,
    }

    fn spawn(_: Lane, task: LocalFuture<'static, ()>) {
        glommio::spawn_local(AssertUnwindSafe(task).catch_unwind()).detach();
    }

    fn executor<F: Future<Output = ()> + 'static>(
        body: impl FnOnce() -> F + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20);
            let executor = builder.preempt_timer(Duration::from_millis(2)).make().unwrap();
            executor.run(async {
                glommio::spawn_local(async {
                    loop {
                        glommio::timer::sleep(Duration::from_millis(5)).await;
                    }
                })
                .detach();
                body().await;
            });
        })
    }

    fn other_core(capacity: usize, jobs_max: usize) -> (Arc<Mailbox<State>>, std::thread::JoinHandle<()>) {
        let mailbox = Mailbox::new(capacity);
        let serving = Arc::clone(&mailbox);
        let thread = executor(move || async move {
            serving.serve(Rc::new(State { core: 7 }), jobs_max, spawn).await;
        });
        (mailbox, thread)
    }

    fn caller<F: Future<Output = ()> + 'static>(body: impl FnOnce(Rc<Desk>) -> F + Send + 'static) {
        executor(move || async move {
            let desk = Desk::new();
            glommio::spawn_local(Rc::clone(&desk).serve()).detach();
            body(Rc::clone(&desk)).await;
            assert_eq!(desk.open(), 0, "every call gave its slot back");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn every_call_gets_its_own_answer() {
        let (mailbox, thread) = other_core(1024, 1024);
        let to = Arc::clone(&mailbox);
        caller(move |desk| async move {
            let mut tasks = Vec::new();
            for n in 0..20_000u64 {
                let (desk, to) = (Rc::clone(&desk), Arc::clone(&to));
                tasks.push(glommio::spawn_local(async move {
                    loop {
                        let call = desk.call(&to, Lane::Search, move |s| {
                            Box::pin(async move {
                                if n.is_multiple_of(3) {
                                    glommio::executor().yield_now().await;
                                }
                                n + s.core as u64
                            })
                        });
                        match call.await {
                            Ok(answer) => {
                                assert_eq!(answer, n + 7);
                                return;
                            }
                            Err(CallError::Full) => glommio::timer::sleep(Duration::from_micros(100)).await,
                            Err(e) => panic!("{e}"),
                        }
                    }
                }));
            }
            for task in tasks {
                task.await;
            }
        });
        mailbox.close();
        thread.join().unwrap();
    }

    #[test]
    fn panics_and_lost_jobs_are_answers() {
        let (mailbox, thread) = other_core(16, 16);
        let to = Arc::clone(&mailbox);
        caller(move |desk| async move {
            let early = desk.call(&to, Lane::Search, |_| -> LocalFuture<'static, ()> { panic!("early") }).await;
            assert_eq!(early, Err(CallError::Panicked("early".into())));
            let late = desk.call::<_, ()>(&to, Lane::Search, |_| Box::pin(async { panic!("late {}", 1) })).await;
            assert_eq!(late, Err(CallError::Panicked("late 1".into())));
            assert_eq!(desk.call(&to, Lane::Search, |s| Box::pin(async move { s.core })).await, Ok(7));
            let unserved: Arc<Mailbox<State>> = Mailbox::new(1);
            let call = desk.call(&unserved, Lane::Search, |_| Box::pin(async {}));
            assert_eq!(desk.call(&unserved, Lane::Search, |_| Box::pin(async {})).await, Err(CallError::Full));
            drop(unserved);
            assert_eq!(call.await, Err(CallError::Lost));
            to.close();
            assert_eq!(desk.call(&to, Lane::Search, |_| Box::pin(async {})).await, Err(CallError::Closed));
        });
        drop(mailbox);
        thread.join().unwrap();
    }

    #[test]
    fn an_abandoned_read_stops_and_an_abandoned_write_does_not() {
        struct Note(mpsc::Sender<&'static str>, &'static str);
        impl Drop for Note {
            fn drop(&mut self) {
                self.0.send(self.1).unwrap();
            }
        }
        let (mailbox, thread) = other_core(16, 16);
        let to = Arc::clone(&mailbox);
        let (notes, heard) = mpsc::channel();
        let finished = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&finished);
        caller(move |desk| async move {
            let (note, started) = (Note(notes.clone(), "read dropped"), OneShotFlag::default());
            let flag = started.clone();
            let read = desk.call_abortable::<_, ()>(&to, Lane::Search, move |_| {
                Box::pin(async move {
                    let _note = note;
                    flag.0.store(true, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                })
            });
            while !started.0.load(Ordering::SeqCst) {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            drop(read);
            let write = desk.call(&to, Lane::Write, move |_| {
                Box::pin(async move {
                    glommio::timer::sleep(Duration::from_millis(50)).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                    drop(Note(notes, "write done"));
                })
            });
            drop(write);
            // Slots of abandoned calls are used again; late answers do not reach the new calls.
            for n in 0..100usize {
                assert_eq!(desk.call(&to, Lane::Search, move |_| Box::pin(async move { n })).await, Ok(n));
            }
        });
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok("read dropped"));
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok("write done"));
        assert_eq!(finished.load(Ordering::SeqCst), 1);
        mailbox.close();
        thread.join().unwrap();
    }

    #[derive(Clone, Default)]
    struct OneShotFlag(Arc<AtomicBool>);

    #[test]
    fn a_busy_core_refuses_rather_than_queues() {
        let (mailbox, thread) = other_core(4, 2);
        let to = Arc::clone(&mailbox);
        caller(move |desk| async move {
            let gate = Arc::new(AtomicBool::new(false));
            let mut calls = Vec::new();
            for _ in 0..50 {
                let gate = Arc::clone(&gate);
                calls.push(desk.call(&to, Lane::Search, move |_| {
                    Box::pin(async move {
                        while !gate.load(Ordering::SeqCst) {
                            glommio::timer::sleep(Duration::from_millis(1)).await;
                        }
                    })
                }));
                glommio::timer::sleep(Duration::from_millis(2)).await;
            }
            gate.store(true, Ordering::SeqCst);
            let mut refused = 0;
            for call in calls {
                match call.await {
                    Ok(()) => {}
                    Err(CallError::Full) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            // Two running, four waiting.
            assert_eq!(refused, 44);
        });
        mailbox.close();
        thread.join().unwrap();
    }

    #[test]
    fn posts_from_plain_threads_arrive() {
        let (mailbox, thread) = other_core(4096, 4096);
        let count = Arc::new(AtomicUsize::new(0));
        let posters: Vec<_> = (0..4)
            .map(|_| {
                let (mailbox, count) = (Arc::clone(&mailbox), Arc::clone(&count));
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        loop {
                            let count = Arc::clone(&count);
                            let posted = mailbox.post(Lane::Search, move |_| {
                                Box::pin(async move {
                                    count.fetch_add(1, Ordering::Relaxed);
                                })
                            });
                            match posted {
                                Ok(()) => break,
                                Err(CallError::Full) => std::thread::yield_now(),
                                Err(e) => panic!("{e}"),
                            }
                        }
                    }
                })
            })
            .collect();
        posters.into_iter().for_each(|p| p.join().unwrap());
        mailbox.close();
        thread.join().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 40_000);
    }
}

//! The answering end: connections from other nodes that an executor has been given.
//!
//! - Requests of a connection are handed to the [`Handler`] in order and carried out side by side; answers leave as they come.
//! - Bounded: when too many requests or bytes are in work, or answers are not taken, no more is read, and the
//!   asking end's queue fills. It is told all the while that this end is alive.
//! - A panic in a handler is an answer with status 500, and the connection goes on.
//! - A node that shuts down says so, and it is the asking end that closes: a request that crosses with the news is answered, not lost.
//! - Bytes that are no frames end the connection, and nothing of them is handed over.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::net::TcpStream;
use rustc_hash::FxHashMap;

use super::connection::{self, Limits, Link, Message, Outgoing};
use super::listener::Accepted;
use super::{Handler, LocalFuture};
use crate::cluster::ids::NodeId;
use crate::wire::frame::{Flags, Frame, Header};
use crate::wire::{MessageKind, Payload, RemoteError};

/// How long an asking end with nothing to wait for may take to close.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Connections now.
    pub connections: u64,
    /// Connections ever.
    pub connections_total: u64,
    /// Requests in work now.
    pub requests: u64,
    /// Requests and one-way messages ever.
    pub requests_total: u64,
    /// Times that a connection was not read because too much was in work.
    pub throttled_total: u64,
    /// Handlers that panicked.
    pub panics_total: u64,
}

/// All connections from other nodes to an executor.
pub struct Sessions<H> {
    handler: H,
    limits: Limits,
    sessions: RefCell<FxHashMap<u64, Rc<Session>>>,
    next_id: Cell<u64>,
    draining: Cell<bool>,
    counters: Rc<Cell<SessionCounters>>,
}

/// One of them.
struct Session {
    from: NodeId,
    link: Link,
    outgoing: Rc<Outgoing>,
    counters: Rc<Cell<SessionCounters>>,
    in_work: RefCell<FxHashMap<u64, Rc<Abort>>>,
    /// Requests and one-way messages in work, and their bytes.
    handling: Cell<usize>,
    handling_bytes: Cell<usize>,
    /// Reading has stopped.
    throttled: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

/// Says that an answer is of no use any more.
#[derive(Default)]
struct Abort {
    aborted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Abort {
    fn set(&self) {
        self.aborted.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.aborted.get() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl<H: Handler + 'static> Sessions<H> {
    /// No connections yet.
    pub fn new(handler: H, limits: Limits) -> Rc<Sessions<H>> {
        Rc::new(Sessions {
            handler,
            limits,
            sessions: RefCell::default(),
            next_id: Cell::new(0),
            draining: Cell::new(false),
            counters: Rc::default(),
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> SessionCounters {
        let mut counters = self.counters.get();
        counters.connections = self.sessions.borrow().len() as u64;
        counters
    }

    /// Looks at the time for all connections; runs for ever, so the caller spawns it.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            // Not as often as requests expire: here only silence counts.
            glommio::timer::sleep((self.limits.alive_interval / 4).max(self.limits.tick)).await;
            let now = Instant::now();
            for session in self.sessions.borrow().values() {
                session.link.tick(now, &self.limits, session.throttled.get());
            }
        }
    }

    /// Tells the asking ends to close, answers what they have asked until then, and closes what is left after `bound`.
    /// True if nothing was cut off.
    pub async fn drain(&self, bound: Duration) -> bool {
        self.draining.set(true);
        self.sessions.borrow().values().for_each(|session| session.leave());
        let begun = Instant::now();
        loop {
            if self.sessions.borrow().is_empty() {
                return true;
            }
            let busy = self.sessions.borrow().values().any(|s| s.handling.get() > 0 || !s.outgoing.has_room(1, 0));
            // Whoever has no answer to wait for closes at once, if it is well.
            if begun.elapsed() >= if busy { bound } else { bound.min(LEAVE_WAIT) } {
                self.sessions.borrow().values().for_each(|session| session.link.close("this node is shutting down"));
                return !busy;
            }
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, accepted: Accepted) {
        count(&self.counters, |c| c.connections_total += 1);
        let Accepted { socket, identity, lane, peer, .. } = accepted;
        if self.sessions.borrow().len() >= self.limits.sessions_max {
            tracing::debug!(%peer, "a connection is refused");
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
        let outgoing = Rc::new(Outgoing::default());
        let link = Link::new(TcpStream::from(socket), Rc::clone(&outgoing), self.limits.payload_bytes_max);
        let link = match link {
            Ok(link) => link,
            Err(e) => return tracing::warn!(error = %e, %peer, "a connection that cannot be used"),
        };
        let session = Rc::new(Session {
            from: identity.node,
            link,
            outgoing,
            counters: Rc::clone(&self.counters),
            in_work: RefCell::default(),
            handling: Cell::default(),
            handling_bytes: Cell::default(),
            throttled: Cell::default(),
            reader: RefCell::default(),
        });
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        // It was on its way when the draining began.
        if self.draining.get() {
            session.leave();
        }

        let link = &session.link;
        let write = async { link.write(|_| true).await.err().unwrap_or_default() };
        let read = async { self.read(&session).await.err().unwrap_or_default() };
        let why = link.end().or(write).or(read).await;
        tracing::debug!(node = %identity.node, %peer, ?lane, %why, "connection ended");
        link.shutdown();
        self.sessions.borrow_mut().remove(&id);
        for (_, abort) in session.in_work.take() {
            abort.set();
        }
    }

    async fn read(&self, session: &Rc<Session>) -> Result<(), String> {
        let (mut decoder, mut reads) = (session.link.decoder(), 0);
        loop {
            let frame = session.link.next(&mut decoder, &mut reads).await?;
            self.received(session, frame)?;
            session.room(&self.limits).await;
        }
    }

    fn received(&self, session: &Rc<Session>, frame: Frame) -> Result<(), String> {
        let Frame { header, payload } = frame;
        if header.flags.contains(Flags::RESPONSE) {
            return Err(format!("an answer [{:#06x}] from the asking end", header.kind));
        }
        let Some(kind) = MessageKind::from_number(header.kind) else {
            // From a newer node.
            let reason = format!("unknown message [{:#06x}]", header.kind);
            session.fail(&header, &RemoteError::new(400, "action_not_found_transport_exception", reason));
            return Ok(());
        };
        match kind {
            MessageKind::Alive => return Ok(()),
            MessageKind::Cancel => {
                if let Some(abort) = session.in_work.borrow().get(&header.id) {
                    abort.set();
                }
                return Ok(());
            }
            MessageKind::Leaving => return Err("only the answering end leaves".to_owned()),
            MessageKind::Ping => {
                session.answer(&header, Payload::from(payload), &self.limits);
                return Ok(());
            }
            _ => {}
        }
        let bytes = payload.len();
        let handled = catch_unwind(AssertUnwindSafe(|| self.handler.handle(session.from, kind, payload)));
        let work = match handled {
            Ok(work) => work,
            Err(panic) => {
                session.panicked(&header, kind, &*panic);
                return Ok(());
            }
        };
        let abort = Rc::new(Abort::default());
        if kind.is_abortable() && !header.flags.contains(Flags::ONE_WAY) {
            session.in_work.borrow_mut().insert(header.id, Rc::clone(&abort));
        }
        let session = Rc::clone(session);
        session.begins(bytes);
        let limits = self.limits.clone();
        let task = async move {
            session.work(&header, kind, work, &abort, &limits).await;
            session.in_work.borrow_mut().remove(&header.id);
            session.ends(bytes);
        };
        glommio::spawn_local(task).detach();
        Ok(())
    }
}

impl Session {
    /// Says that nothing more should be asked.
    fn leave(&self) {
        self.outgoing.push(Message::new(MessageKind::Leaving, Flags::ONE_WAY, 0, Payload::new()));
    }

    async fn work(
        &self,
        header: &Header,
        kind: MessageKind,
        work: LocalFuture<Result<Payload, RemoteError>>,
        abort: &Abort,
        limits: &Limits,
    ) {
        let aborted = async {
            abort.wait().await;
            None
        };
        let work = AssertUnwindSafe(async { Some(work.await) }.or(aborted)).catch_unwind();
        match work.await {
            Ok(None) => {}
            Ok(Some(Ok(answer))) => self.answer(header, answer, limits),
            Ok(Some(Err(error))) => self.fail(header, &error),
            Err(panic) => self.panicked(header, kind, &*panic),
        }
    }

    fn answer(&self, header: &Header, answer: Payload, limits: &Limits) {
        if answer.len() > limits.payload_bytes_max {
            let reason = connection::too_large(answer.len(), limits.payload_bytes_max);
            return self.fail(header, &RemoteError::new(500, "transport_exception", reason));
        }
        self.push(header, Flags::RESPONSE, answer);
    }

    fn fail(&self, header: &Header, error: &RemoteError) {
        self.push(header, Flags::FAILURE, error.encode());
    }

    fn push(&self, header: &Header, flags: Flags, payload: Payload) {
        if !header.flags.contains(Flags::ONE_WAY) && !self.link.is_closed() {
            let cold = MessageKind::from_number(header.kind).is_some_and(MessageKind::is_cold);
            self.outgoing.push(Message { header: Header { flags, ..*header }, payload, cold });
        }
    }

    fn panicked(&self, header: &Header, kind: MessageKind, panic: &(dyn std::any::Any + Send)) {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text =
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned());
        tracing::error!(panic = %text, kind = kind.name(), "a message handler panicked");
        count(&self.counters, |c| c.panics_total += 1);
        self.fail(header, &RemoteError::new(500, "exception", format!("a handler panicked: {text}")));
    }

    fn begins(&self, bytes: usize) {
        self.handling.set(self.handling.get() + 1);
        self.handling_bytes.set(self.handling_bytes.get() + bytes);
        count(&self.counters, |c| {
            c.requests += 1;
            c.requests_total += 1;
        });
    }

    fn ends(&self, bytes: usize) {
        self.handling.set(self.handling.get() - 1);
        self.handling_bytes.set(self.handling_bytes.get() - bytes);
        count(&self.counters, |c| c.requests -= 1);
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until one more request may be read.
    async fn room(&self, limits: &Limits) {
        poll_fn(|cx| {
            let full = self.handling.get() >= limits.handling_max
                || self.handling_bytes.get() >= limits.handling_bytes_max
                || !self.outgoing.has_room(0, limits.queue_bytes_max);
            if !full {
                self.throttled.set(false);
                return Poll::Ready(());
            }
            if !self.throttled.replace(true) {
                count(&self.counters, |c| c.throttled_total += 1);
            }
            *self.reader.borrow_mut() = Some(cx.waker().clone());
            self.outgoing.wake_when_less(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

fn count(counters: &Cell<SessionCounters>, change: impl FnOnce(&mut SessionCounters)) {
    let mut all = counters.get();
    change(&mut all);
    counters.set(all);
}

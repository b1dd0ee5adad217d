//! hyper's reads and writes over a glommio socket, and the watch that ends connections which stall.

use std::cell::{Cell, RefCell};
use std::io::{self, Read as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use hyper::body::{Buf, Bytes};
use hyper::rt::ReadBufCursor;
use socket2::{SockRef, Socket};

use super::Limits;
use super::eager::{Eager, Habit};

/// Bytes one read takes at most.
const SCRATCH: usize = 64 << 10;
/// What a connection throws away after its last answer: closed with bytes unread, the socket would answer them with a
/// reset, which can overtake our answer.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// How long it does so.
const LINGER_MAX: Duration = Duration::from_secs(5);
/// Bytes thrown away before others get a turn.
const LINGER_STEP: usize = 256 << 10;

thread_local! {
    // One for all connections of a core: an idle connection owns no buffer. Reading through it costs a copy, and
    // saves filling hyper's uninitialised buffer through a pointer.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Ticks of the sweeper; the time base of the watches, so that no clock is read per request.
pub(super) type Tick = u32;

/// What a connection is doing and since when. The sweeper reads it and kills the connection when it takes too long.
pub(super) struct Watch {
    /// Waiting for the rest of a request's head.
    head_since: Cell<Option<Tick>>,
    /// When the first byte of that head came.
    first_byte: Cell<Option<Instant>>,
    /// The handler waits for the body.
    body_since: Cell<Option<Tick>>,
    /// The client does not take our bytes.
    write_since: Cell<Option<Tick>>,
    /// When the answer that is being sent was ready.
    answered: Cell<Option<Instant>>,
    /// No request in work.
    idle_since: Cell<Tick>,
    in_work: Cell<bool>,
    /// The connection ends with bytes of the client unread.
    lingers: Cell<bool>,
    /// The core that the connection goes to when it has had its answer.
    goes_to: Cell<Option<usize>>,
    /// It is on its way there.
    leaving: Cell<bool>,
    /// The last answer is out, and what the client still sends is thrown away.
    linger_since: Cell<Option<Tick>>,
    fate: Cell<Fate>,
    waker: RefCell<Option<Waker>>,
    habit: RefCell<Habit>,
    /// The next read shall wait a moment for bytes.
    look: Cell<bool>,
}

/// What shall become of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Live,
    /// Finish the request in work, then close.
    Drain,
    /// Close now.
    Kill,
}

impl Watch {
    pub(super) fn new(connection: u64, now: Tick) -> Watch {
        Watch {
            head_since: Cell::default(),
            first_byte: Cell::default(),
            body_since: Cell::default(),
            write_since: Cell::default(),
            answered: Cell::default(),
            idle_since: Cell::new(now),
            in_work: Cell::default(),
            lingers: Cell::default(),
            goes_to: Cell::default(),
            leaving: Cell::default(),
            linger_since: Cell::default(),
            fate: Cell::default(),
            waker: RefCell::default(),
            habit: RefCell::new(Habit::new(connection)),
            look: Cell::default(),
        }
    }

    /// The connection waits for something. True if that is the next request, and likely to come so soon that the
    /// connection should be polled again at once: its read will then look for it.
    pub(super) fn looks(&self, eager: &Eager) -> bool {
        let between = !self.in_work.get()
            && self.head_since.get().is_none()
            && self.write_since.get().is_none()
            && self.linger_since.get().is_none();
        let looks = between && self.habit.borrow_mut().waits(eager, Instant::now());
        self.look.set(looks);
        looks
    }

    /// A request begins; whether it is the connection's first in the tick.
    pub(super) fn first_of_tick(&self, now: Tick) -> bool {
        self.idle_since.get() != now
    }

    /// The connection shall go on on another core.
    pub(super) fn send_to(&self, core: usize) {
        self.goes_to.set(Some(core));
    }

    /// Whether the connection leaves now: it shall, its answer is out, and it is not in another request.
    pub(super) fn leaves(&self) -> bool {
        let sent = self.answered.get().is_none() && self.write_since.get().is_none();
        let leaves = self.goes_to.get().is_some() && sent && !self.in_work.get() && !self.lingers.get();
        self.leaving.set(leaves);
        leaves
    }

    /// It could not, and does not.
    pub(super) fn stays(&self) {
        self.goes_to.set(None);
        self.leaving.set(false);
    }

    /// Where it goes, if it has left.
    pub(super) fn left_for(&self) -> Option<usize> {
        self.goes_to.get().filter(|_| self.leaving.get())
    }

    pub(super) fn request_begins(&self) -> Option<Instant> {
        self.head_since.set(None);
        self.in_work.set(true);
        self.first_byte.take()
    }

    pub(super) fn request_ends(&self, now: Tick) {
        self.answered.set(Some(Instant::now()));
        self.in_work.set(false);
        self.body_since.set(None);
        self.idle_since.set(now);
    }

    pub(super) fn body_wait(&self, now: Option<Tick>) {
        match now {
            Some(now) if self.body_since.get().is_none() => self.body_since.set(Some(now)),
            Some(_) => {}
            None => self.body_since.set(None),
        }
    }

    /// The answer in work is the last one, and some of its request will not be read.
    pub(super) fn linger(&self) {
        self.lingers.set(true);
    }

    pub(super) fn in_work(&self) -> bool {
        self.in_work.get()
    }

    /// What the connection takes too long for.
    pub(super) fn overdue(&self, now: Tick, limits: &TickLimits) -> Option<&'static str> {
        let over = |since: Option<Tick>, limit: Tick| since.is_some_and(|since| now.wrapping_sub(since) > limit);
        if over(self.write_since.get(), limits.write) {
            Some("the client does not read its answer")
        } else if over(self.body_since.get(), limits.body) {
            Some("the body does not arrive")
        } else if over(self.linger_since.get(), limits.linger) {
            Some("the client does not take its refusal")
        } else if over(self.head_since.get(), limits.header) {
            Some("the head of the request does not arrive")
        } else if !self.in_work.get() && over(Some(self.idle_since.get()), limits.idle) {
            Some("idle")
        } else {
            None
        }
    }

    pub(super) fn set_fate(&self, fate: Fate) {
        if self.fate.replace(fate) != fate
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// The fate, and a wish to be woken when it changes.
    pub(super) fn fate(&self, cx: &Context<'_>) -> Fate {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.fate.get()
    }
}

/// [`Limits`] in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct TickLimits {
    pub(super) header: Tick,
    pub(super) body: Tick,
    pub(super) linger: Tick,
    pub(super) write: Tick,
    pub(super) idle: Tick,
}

impl TickLimits {
    pub(super) fn new(limits: &Limits, tick: std::time::Duration) -> TickLimits {
        let ticks = |d: std::time::Duration| {
            Tick::try_from(d.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(Tick::MAX / 2).max(1)
        };
        TickLimits {
            header: ticks(limits.header_timeout),
            body: ticks(limits.body_timeout),
            linger: ticks(limits.body_timeout.min(LINGER_MAX)),
            write: ticks(limits.write_timeout),
            idle: ticks(limits.idle_timeout),
        }
    }
}

/// The socket as hyper wants it.
///
/// Within a request, reading asks the socket itself first, and glommio only when there is nothing: glommio arms a poll after
/// every short read and believes nothing else until it fires, which is a turn of the executor with several system calls.
pub(super) struct Stream {
    /// In non-blocking mode.
    socket: TcpStream,
    watch: Rc<Watch>,
    now: Rc<Cell<Tick>>,
    eager: Rc<Eager>,
    /// Told how long each answer took to get out.
    sent: Rc<dyn Fn(Duration)>,
    /// Read before the connection came to this core.
    before: Bytes,
    lingered: usize,
}

impl Stream {
    /// `socket` must not block; `before` is what has been read off it.
    pub(super) fn new(
        socket: TcpStream,
        before: Bytes,
        watch: Rc<Watch>,
        now: Rc<Cell<Tick>>,
        eager: Rc<Eager>,
        sent: Rc<dyn Fn(Duration)>,
    ) -> Stream {
        Stream { socket, watch, now, eager, sent, before, lingered: 0 }
    }

    /// The socket, for another core, and what has been read off it and not been asked for.
    pub(super) fn into_parts(self) -> io::Result<(Socket, Bytes)> {
        // A second descriptor: glommio's own goes with its poll, which this core may still have in flight.
        Ok((SockRef::from(&self.socket).try_clone()?, self.before))
    }

    /// What the socket has at this moment; `None` if nothing.
    fn at_once(&self, into: &mut [u8]) -> Option<io::Result<usize>> {
        match (&*SockRef::from(&self.socket)).read(into) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            read => Some(read),
        }
    }

    /// What the socket has now, or soon if the connection shall be looked at. Between requests there is most likely
    /// nothing, and glommio has armed its poll already: then it is not asked.
    fn soon(&self, into: &mut [u8]) -> Option<io::Result<usize>> {
        if self.watch.look.take() {
            let came = self.eager.look(|| self.at_once(into));
            self.watch.habit.borrow_mut().looked(came.is_some());
            return came;
        }
        let within = self.watch.in_work.get() || self.watch.head_since.get().is_some();
        within.then(|| self.at_once(into)).flatten()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        READ.with_borrow_mut(|scratch| {
            let room = cursor.remaining().min(scratch.len());
            let into = &mut scratch[..room];
            let read = if !this.before.is_empty() {
                let n = room.min(this.before.len());
                this.before.copy_to_slice(&mut into[..n]);
                Ok(n)
            } else if let Some(read) = this.soon(into) {
                read
            } else {
                ready!(Pin::new(&mut this.socket).poll_read(cx, into))
            };
            // An error stays an error: `Ok` without bytes would mean a clean end.
            let n = read?;
            cursor.put_slice(&scratch[..n]);
            if n > 0 && !this.watch.in_work.get() && this.watch.first_byte.get().is_none() {
                let now = Instant::now();
                this.watch.habit.borrow_mut().begins(&this.eager, now);
                this.watch.first_byte.set(Some(now));
                this.watch.head_since.set(Some(this.now.get()));
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        match &written {
            Poll::Pending if this.watch.write_since.get().is_none() => this.watch.write_since.set(Some(this.now.get())),
            Poll::Pending => {}
            Poll::Ready(_) => this.watch.write_since.set(None),
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all it has.
        if let Some(answered) = self.watch.answered.take() {
            (self.sent)(answered.elapsed());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.leaving.get() {
            return Poll::Ready(Ok(()));
        }
        if this.watch.linger_since.get().is_none() {
            ready!(Pin::new(&mut this.socket).poll_close(cx))?;
            if !this.watch.lingers.get() {
                return Poll::Ready(Ok(()));
            }
            this.watch.linger_since.set(Some(this.now.get()));
        }
        let pause = this.lingered + LINGER_STEP;
        READ.with_borrow_mut(|scratch| {
            while this.lingered < LINGER_BYTES_MAX {
                if this.lingered >= pause {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match ready!(Pin::new(&mut this.socket).poll_read(cx, scratch)) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => this.lingered += n,
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

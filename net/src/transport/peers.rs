//! The asking end: connections of one executor to other nodes, one for each peer and lane.
//!
//! ```text
//!            first request                 handshake
//!     Idle ---------------> Connecting ---------------> Open
//!      ^                        | fails                   | ends: what was sent fails as Closed
//!      |      time passes       v                         |
//!      +------------------- Resting <---------------------+ (at once Idle, if it was of use)
//! ```
//!
//! - Requests and one-way messages of a peer and lane leave in the order they were made, also those made while connecting.
//! - When the far end says that it shuts down, nothing more is asked: requests fail as not sent, and the connection is closed when all is answered.
//! - While resting, requests fail at once, and one-way messages are lost.
//! - What has not left when a connection ends is not carried over to the next one: it fails as not sent.
//! - A peer known by its id is found at a new address by the next request that names it, once the old connection is gone.
//! - Tasks: one for each connection, and one that looks at the time; they end when the [`Peers`] are dropped.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::net::TcpStream;
use rustc_hash::FxHashMap;
use socket2::SockRef;

use super::connection::{self, Limits, Link, Message, Oneshot, Outgoing};
use super::{LocalFuture, PeerAddress, PeerEvent, Transport, TransportError};
use crate::cluster::ids::NodeId;
use crate::wire::frame::{Flags, Frame};
use crate::wire::handshake::{self, Hello, Identity, Reply, VERSIONS};
use crate::wire::{Lane, MessageKind, Payload, RemoteError};

/// Why nothing more is asked on a connection.
const LEAVING: &str = "the far end shuts down";

/// Who this node is, as its handshakes say; shared by all its executors and its listener.
#[derive(Clone, Debug)]
pub struct Own(Arc<RwLock<Identity>>);

impl Own {
    /// At start.
    #[must_use]
    pub fn new(identity: Identity) -> Own {
        Own(Arc::new(RwLock::new(identity)))
    }

    /// At this moment.
    #[must_use]
    pub fn get(&self) -> Identity {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node has become part of a cluster: later handshakes say so.
    pub fn set_cluster_uuid(&self, uuid: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).cluster_uuid = Some(uuid.to_owned());
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Connections made.
    pub connections_total: u64,
    /// Attempts that failed.
    pub connections_failed: u64,
    /// Requests made.
    pub requests_total: u64,
    /// Requests refused because too much was waiting.
    pub requests_rejected: u64,
    /// Requests that got no answer in time.
    pub requests_timed_out: u64,
    /// One-way messages that were lost before they left.
    pub notices_lost: u64,
    /// Answers nobody waited for any more.
    pub answers_late: u64,
}

/// The connections of one executor to other nodes.
pub struct Peers {
    shared: Rc<Shared>,
    channels: Rc<RefCell<FxHashMap<(Key, Lane), Rc<Channel>>>>,
}

/// What the channels have in common.
struct Shared {
    own: Own,
    limits: Limits,
    observer: RefCell<Option<Rc<dyn Fn(PeerEvent)>>>,
    counters: Cell<PeerCounters>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Node(NodeId),
    Address(SocketAddr),
}

impl Key {
    fn of(to: &PeerAddress) -> Key {
        to.node.map_or(Key::Address(to.address), Key::Node)
    }
}

impl Peers {
    /// No connections yet. Call it on the executor that will use them.
    #[must_use]
    pub fn new(own: Own, limits: Limits) -> Peers {
        let tick = limits.tick;
        let shared = Shared { own, limits, observer: RefCell::default(), counters: Cell::default() };
        let channels = Rc::new(RefCell::new(FxHashMap::default()));
        glommio::spawn_local(watch(Rc::downgrade(&channels), tick)).detach();
        Peers { shared: Rc::new(shared), channels }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> PeerCounters {
        self.shared.counters.get()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.channels.borrow().values().filter(|channel| channel.link().is_some()).count()
    }

    /// The node is known to be there: what failed before does not keep the next request waiting.
    pub fn awake(&self, node: NodeId) {
        for lane in Lane::ALL {
            if let Some(channel) = self.channels.borrow().get(&(Key::Node(node), lane)) {
                channel.awake();
            }
        }
    }

    fn channel(&self, to: &PeerAddress, lane: Lane) -> Rc<Channel> {
        let mut channels = self.channels.borrow_mut();
        let channel = channels
            .entry((Key::of(to), lane))
            .or_insert_with(|| Rc::new(Channel::new(Rc::clone(&self.shared), *to, lane)));
        channel.moved_to(to.address);
        Rc::clone(channel)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for (_, channel) in self.channels.borrow_mut().drain() {
            channel.abandon("this node is shutting down");
        }
    }
}

impl Transport for Peers {
    fn request(
        &self,
        to: &PeerAddress,
        lane: Lane,
        kind: MessageKind,
        payload: Payload,
        timeout: Duration,
    ) -> LocalFuture<Result<Bytes, TransportError>> {
        match self.channel(to, lane).request(kind, payload, timeout) {
            Ok(waiting) => Box::pin(waiting),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn notify(&self, to: &PeerAddress, lane: Lane, kind: MessageKind, payload: Payload) {
        self.channel(to, lane).notify(kind, payload);
    }

    fn identify(
        &self,
        to: &PeerAddress,
        lane: Lane,
        timeout: Duration,
    ) -> LocalFuture<Result<Identity, TransportError>> {
        let answer = self.channel(to, lane).identify(timeout);
        Box::pin(async move {
            match answer {
                Ok(answer) => std::future::poll_fn(|cx| answer.poll(cx)).await,
                Err(error) => Err(error),
            }
        })
    }

    fn disconnect(&self, node: NodeId) {
        let channels: Vec<_> = self.channels.borrow().values().cloned().collect();
        for channel in channels {
            if channel.to.get().node == Some(node) || channel.identity().is_some_and(|identity| identity.node == node) {
                channel.abandon("disconnected");
            }
        }
    }

    fn observe(&self, observer: Rc<dyn Fn(PeerEvent)>) {
        *self.shared.observer.borrow_mut() = Some(observer);
    }
}

/// Looks at the time for all channels.
async fn watch(channels: Weak<RefCell<FxHashMap<(Key, Lane), Rc<Channel>>>>, tick: Duration) {
    loop {
        glommio::timer::sleep(tick).await;
        let Some(channels) = channels.upgrade() else { return };
        let now = Instant::now();
        let all: Vec<_> = channels.borrow().iter().map(|(key, channel)| (*key, Rc::clone(channel))).collect();
        for (key, channel) in all {
            if channel.tick(now) {
                channels.borrow_mut().remove(&key);
            }
        }
    }
}

/// One peer, one lane.
struct Channel {
    shared: Rc<Shared>,
    to: Cell<PeerAddress>,
    lane: Lane,
    state: RefCell<State>,
    outgoing: Rc<Outgoing>,
    waiting: RefCell<FxHashMap<u64, Rc<Slot>>>,
    /// Who wants to know who is there, and until when.
    asking: RefCell<Vec<(Instant, Rc<Oneshot<Result<Identity, TransportError>>>)>>,
    next_id: Cell<u64>,
    /// No deadline is before this.
    earliest: Cell<Option<Instant>>,
    used_at: Cell<Instant>,
    /// In a row.
    failures: Cell<u32>,
    /// A frame has come on this connection.
    heard: Cell<bool>,
    /// The far end of this connection shuts down.
    leaving: Cell<bool>,
}

enum State {
    Idle,
    Connecting { given_up: Rc<Oneshot<String>> },
    Open { link: Rc<Link>, identity: Identity },
    Resting { until: Instant, why: String },
}

/// A request under way.
struct Slot {
    answer: Oneshot<Result<Bytes, TransportError>>,
    deadline: Instant,
    kind: MessageKind,
    sent: Cell<bool>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut PeerCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}

impl Channel {
    fn new(shared: Rc<Shared>, to: PeerAddress, lane: Lane) -> Channel {
        Channel {
            shared,
            to: Cell::new(to),
            lane,
            state: RefCell::new(State::Idle),
            outgoing: Rc::default(),
            waiting: RefCell::default(),
            asking: RefCell::default(),
            next_id: Cell::new(1),
            earliest: Cell::default(),
            used_at: Cell::new(Instant::now()),
            failures: Cell::default(),
            heard: Cell::default(),
            leaving: Cell::default(),
        }
    }

    fn link(&self) -> Option<Rc<Link>> {
        match &*self.state.borrow() {
            State::Open { link, .. } => Some(Rc::clone(link)),
            _ => None,
        }
    }

    fn identity(&self) -> Option<Identity> {
        match &*self.state.borrow() {
            State::Open { identity, .. } => Some(identity.clone()),
            _ => None,
        }
    }

    /// A known node may have another address now; a connection that works is left alone.
    fn moved_to(&self, address: SocketAddr) {
        let to = self.to.get();
        if to.address != address && !matches!(*self.state.borrow(), State::Open { .. } | State::Connecting { .. }) {
            self.to.set(PeerAddress { address, ..to });
            self.failures.set(0);
            self.awake();
        }
    }

    fn awake(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Resting { .. }) {
            *state = State::Idle;
        }
    }

    /// Whether something may be queued: there is a connection, or one is being made.
    fn ready(self: &Rc<Self>) -> Result<(), TransportError> {
        self.used_at.set(Instant::now());
        let mut state = self.state.borrow_mut();
        match &*state {
            State::Open { .. } if self.leaving.get() => Err(TransportError::NotConnected(LEAVING.to_owned())),
            State::Open { .. } | State::Connecting { .. } => Ok(()),
            State::Resting { until, why } if Instant::now() < *until => Err(TransportError::NotConnected(why.clone())),
            State::Idle | State::Resting { .. } => {
                let given_up = Rc::default();
                *state = State::Connecting { given_up: Rc::clone(&given_up) };
                glommio::spawn_local(Rc::clone(self).live(given_up)).detach();
                Ok(())
            }
        }
    }

    fn admit(&self, payload: &Payload) -> Result<(), TransportError> {
        let (limits, size) = (&self.shared.limits, payload.len());
        let reason = if size > limits.payload_bytes_max {
            connection::too_large(size, limits.payload_bytes_max)
        } else if !self.outgoing.has_room(size, limits.queue_bytes_max) {
            format!("more than {} bytes are waiting to be sent to {}", limits.queue_bytes_max, self.to.get())
        } else {
            return Ok(());
        };
        Err(TransportError::Rejected(reason))
    }

    fn request(
        self: &Rc<Self>,
        kind: MessageKind,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Waiting, TransportError> {
        self.shared.count(|c| c.requests_total += 1);
        let waiting = self.waiting.borrow().len();
        let admitted = match self.shared.limits.waiting_max {
            max if waiting >= max => {
                let reason = format!("[{waiting}] requests to {} have no answer yet", self.to.get());
                Err(TransportError::Rejected(reason))
            }
            _ => self.admit(&payload),
        };
        if let Err(rejected) = admitted {
            self.shared.count(|c| c.requests_rejected += 1);
            return Err(rejected);
        }
        self.ready()?;
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let deadline = self.deadline(timeout);
        let slot = Rc::new(Slot { answer: Oneshot::default(), deadline, kind, sent: Cell::new(false) });
        self.waiting.borrow_mut().insert(id, Rc::clone(&slot));
        self.outgoing.push(Message::new(kind, Flags::REQUEST, id, payload));
        Ok(Waiting { channel: Rc::clone(self), id, slot })
    }

    fn notify(self: &Rc<Self>, kind: MessageKind, payload: Payload) {
        if let Err(error) = self.admit(&payload).and_then(|()| self.ready()) {
            tracing::debug!(%error, kind = kind.name(), to = %self.to.get(), "a message is lost");
            self.shared.count(|c| c.notices_lost += 1);
            return;
        }
        self.outgoing.push(Message::new(kind, Flags::ONE_WAY, 0, payload));
    }

    fn identify(
        self: &Rc<Self>,
        timeout: Duration,
    ) -> Result<Rc<Oneshot<Result<Identity, TransportError>>>, TransportError> {
        self.ready()?;
        let answer = Rc::new(Oneshot::default());
        match self.identity() {
            Some(identity) => answer.set(Ok(identity)),
            None => self.asking.borrow_mut().push((self.deadline(timeout), Rc::clone(&answer))),
        }
        Ok(answer)
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        let now = Instant::now();
        // A timeout without end has one all the same.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(1 << 30));
        if self.earliest.get().is_none_or(|earliest| deadline < earliest) {
            self.earliest.set(Some(deadline));
        }
        deadline
    }

    /// Looks at the time. True if the channel may be forgotten.
    fn tick(&self, now: Instant) -> bool {
        if self.earliest.get().is_some_and(|earliest| earliest <= now) {
            self.expire(now);
        }
        let limits = &self.shared.limits;
        let idle = now.duration_since(self.used_at.get()) > limits.idle_timeout && self.waiting.borrow().is_empty();
        if let Some(link) = self.link() {
            link.tick(now, limits, false);
            if self.has_left() {
                link.close(LEAVING);
            }
            if idle && self.to.get().node.is_none() {
                link.close("not used");
            }
        }
        idle && matches!(*self.state.borrow(), State::Idle | State::Resting { .. })
    }

    fn expire(&self, now: Instant) {
        let connecting = matches!(*self.state.borrow(), State::Connecting { .. });
        let late = |to: PeerAddress| TransportError::NotConnected(format!("connecting to {to} takes too long"));
        let mut earliest = None;
        let mut keep = |deadline: Instant| {
            if deadline > now {
                earliest = Some(earliest.map_or(deadline, |earliest: Instant| earliest.min(deadline)));
            }
            deadline > now
        };
        let mut expired = Vec::new();
        self.waiting.borrow_mut().retain(|id, slot| {
            let keep = keep(slot.deadline);
            if !keep {
                expired.push((*id, Rc::clone(slot)));
            }
            keep
        });
        let mut asking = self.asking.borrow_mut();
        asking.retain(|(deadline, answer)| {
            let keep = keep(*deadline);
            if !keep {
                answer.set(Err(late(self.to.get())));
            }
            keep
        });
        drop(asking);
        self.earliest.set(earliest);
        for (id, slot) in expired {
            self.shared.count(|c| c.requests_timed_out += 1);
            self.cancel(id, &slot);
            slot.answer.set(Err(if connecting { late(self.to.get()) } else { TransportError::Timeout }));
        }
    }

    /// Tells the far end that nobody waits any more, if that helps.
    fn cancel(&self, id: u64, slot: &Slot) {
        if slot.sent.get() && slot.kind.is_abortable() && self.link().is_some() {
            self.outgoing.push(Message::new(MessageKind::Cancel, Flags::ONE_WAY, id, Payload::new()));
        }
    }

    /// Ends the connection, or the attempt to make one.
    fn abandon(&self, why: &str) {
        match &*self.state.borrow() {
            State::Open { link, .. } => link.close(why),
            State::Connecting { given_up } => given_up.set(why.to_owned()),
            State::Idle | State::Resting { .. } => {}
        }
    }

    /// One connection, from dialing to its end.
    async fn live(self: Rc<Self>, given_up: Rc<Oneshot<String>>) {
        let to = self.to.get();
        let gave_up = Cell::new(false);
        let given_up = async {
            let why = std::future::poll_fn(|cx| given_up.poll(cx)).await;
            gave_up.set(true);
            Err(why)
        };
        let dialed = given_up.or(dial(&self.shared, to, self.lane)).await;
        let (stream, identity) = match dialed {
            Ok(dialed) => dialed,
            Err(why) => {
                tracing::debug!(%to, lane = ?self.lane, %why, "cannot connect");
                self.shared.count(|c| c.connections_failed += 1);
                let why = format!("{to}: {why}");
                match gave_up.get() {
                    true => *self.state.borrow_mut() = State::Idle,
                    false => self.rest(&why),
                }
                self.fail(&why);
                // Also of one that never came to be: who waits for the node need not wait for checks to fail.
                if let Some(node) = to.node.filter(|_| !gave_up.get()) {
                    self.tell(PeerEvent::Disconnected(node));
                }
                return;
            }
        };
        self.shared.count(|c| c.connections_total += 1);
        let node = identity.node;
        let link = match Link::new(stream, Rc::clone(&self.outgoing), self.shared.limits.payload_bytes_max) {
            Ok(link) => Rc::new(link),
            Err(e) => {
                let why = format!("{to}: {e}");
                self.rest(&why);
                return self.fail(&why);
            }
        };
        *self.state.borrow_mut() = State::Open { link: Rc::clone(&link), identity: identity.clone() };
        self.used_at.set(Instant::now());
        self.heard.set(false);
        self.leaving.set(false);
        for (_, answer) in self.asking.take() {
            answer.set(Ok(identity.clone()));
        }
        self.tell(PeerEvent::Connected(node));

        let write = async {
            let wanted = |header: &crate::wire::frame::Header| {
                header.flags.contains(Flags::ONE_WAY)
                    || self.waiting.borrow().get(&header.id).inspect(|slot| slot.sent.set(true)).is_some()
            };
            link.write(wanted).await.err().unwrap_or_default()
        };
        let read = async { self.read(&link).await.err().unwrap_or_default() };
        let why = link.end().or(read).or(write).await;
        tracing::debug!(%to, lane = ?self.lane, %why, "connection ended");
        link.shutdown();
        let why = format!("{to}: {why}");
        if self.heard.get() || link.is_closed() {
            *self.state.borrow_mut() = State::Idle;
        } else {
            // Whoever answers there does so only to hang up.
            self.rest(&why);
        }
        self.fail(&why);
        self.tell(PeerEvent::Disconnected(node));
    }

    /// Only of connections to a known node: others come and go as nodes are looked for.
    fn tell(&self, event: PeerEvent) {
        let observer = self.shared.observer.borrow().clone();
        if let Some(observer) = observer.filter(|_| self.lane == Lane::Cluster && self.to.get().node.is_some()) {
            observer(event);
        }
    }

    async fn read(&self, link: &Link) -> Result<(), String> {
        let (mut decoder, mut reads) = (link.decoder(), 0);
        loop {
            let frame = link.next(&mut decoder, &mut reads).await?;
            self.failures.set(0);
            self.heard.set(true);
            self.received(frame)?;
            if self.has_left() {
                return Err(LEAVING.to_owned());
            }
        }
    }

    /// The far end shuts down, and has answered everything.
    fn has_left(&self) -> bool {
        self.leaving.get() && self.waiting.borrow().is_empty()
    }

    /// What has not left yet need not: the far end shuts down.
    fn leave(&self) {
        self.leaving.set(true);
        let unsent: Vec<_> = self.waiting.borrow_mut().extract_if(|_, slot| !slot.sent.get()).collect();
        for (_, slot) in unsent {
            slot.answer.set(Err(TransportError::NotConnected(LEAVING.to_owned())));
        }
    }

    fn received(&self, frame: Frame) -> Result<(), String> {
        let Frame { header, payload } = frame;
        if !header.flags.contains(Flags::RESPONSE) {
            return match MessageKind::from_number(header.kind) {
                Some(MessageKind::Alive) => Ok(()),
                Some(MessageKind::Leaving) => {
                    self.leave();
                    Ok(())
                }
                _ => Err(format!("a request [{:#06x}] from the answering end", header.kind)),
            };
        }
        let Some(slot) = self.waiting.borrow_mut().remove(&header.id) else {
            self.shared.count(|c| c.answers_late += 1);
            return Ok(());
        };
        if slot.kind.number() != header.kind {
            slot.answer.set(Err(TransportError::Closed("an answer of another kind".to_owned())));
            return Err(format!("an answer [{:#06x}] to a request [{:#06x}]", header.kind, slot.kind.number()));
        }
        let answer = match header.flags.contains(Flags::FAILURE) {
            true => Err(TransportError::Remote(RemoteError::decode(payload).map_err(|e| e.to_string())?)),
            false => Ok(payload),
        };
        slot.answer.set(answer);
        Ok(())
    }

    fn rest(&self, why: &str) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        let (least, most) = self.shared.limits.rest;
        let longest = least.saturating_mul(1 << (failures - 1).min(20)).min(most);
        // Peers that lost the same node do not come back to it all at once.
        let random = RandomState::new().hash_one(failures) as u32;
        let rest = longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
        *self.state.borrow_mut() = State::Resting { until: Instant::now() + rest, why: why.to_owned() };
    }

    /// Everything that waits fails.
    fn fail(&self, why: &str) {
        let lost = self.outgoing.clear().iter().filter(|m| m.header.flags.contains(Flags::ONE_WAY)).count();
        self.shared.count(|c| c.notices_lost += lost as u64);
        for (_, slot) in self.waiting.take() {
            let why = why.to_owned();
            slot.answer.set(Err(match slot.sent.get() {
                true => TransportError::Closed(why),
                false => TransportError::NotConnected(why),
            }));
        }
        for (_, answer) in self.asking.take() {
            answer.set(Err(TransportError::NotConnected(why.to_owned())));
        }
        self.earliest.set(None);
    }
}

/// The answer to come. Dropped, the request is abandoned.
struct Waiting {
    channel: Rc<Channel>,
    id: u64,
    slot: Rc<Slot>,
}

impl Future for Waiting {
    type Output = Result<Bytes, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.answer.poll(cx)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiting = self.channel.waiting.borrow_mut().remove(&self.id);
        if let Some(slot) = waiting {
            self.channel.cancel(self.id, &slot);
        }
    }
}

/// Connects and shakes hands.
async fn dial(shared: &Shared, to: PeerAddress, lane: Lane) -> Result<(TcpStream, Identity), String> {
    let timeout = shared.limits.connect_timeout;
    let own = shared.own.get();
    let work = async {
        let stream = TcpStream::connect_timeout(to.address, timeout).await;
        let mut stream = stream.map_err(|e| std::io::Error::from(e).to_string())?;
        let usable =
            SockRef::from(&stream).set_nonblocking(true).and_then(|()| SockRef::from(&stream).set_nodelay(true));
        usable.map_err(|e| e.to_string())?;
        let hello = Hello { lane, versions: VERSIONS, expected: to.node, identity: own };
        let shaken = shake(&mut stream, &hello).await.map_err(|e| format!("handshake: {e}"))?;
        match shaken {
            Reply::Welcome { version, identity } => {
                handshake::check_welcome(&hello, version, &identity).map_err(|refusal| refusal.to_string())?;
                Ok((stream, identity))
            }
            Reply::Refused(refusal) => Err(format!("refused: {refusal}")),
        }
    };
    let late = async {
        glommio::timer::sleep(timeout).await;
        Err("no handshake in time".to_owned())
    };
    work.or(late).await
}

async fn shake(stream: &mut TcpStream, hello: &Hello) -> std::io::Result<Reply> {
    let malformed = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
    connection::write_all(stream, &hello.encode()).await?;
    // Exactly the reply: what follows are frames.
    let mut reply = vec![0; handshake::HEADER_BYTES];
    connection::read_exact(stream, &mut reply).await?;
    let size = handshake::size(&reply).map_err(malformed)?.expect("a whole header");
    reply.resize(size, 0);
    connection::read_exact(stream, &mut reply[handshake::HEADER_BYTES..]).await?;
    let (reply, _) = Reply::decode(&reply).map_err(malformed)?.expect("a whole reply");
    Ok(reply)
}

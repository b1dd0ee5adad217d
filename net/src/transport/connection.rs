//! One TCP connection over glommio: frames in, frames out. What the asking and the answering end have in common.
//!
//! - Frames that are queued while a write is in flight go out together in one vectored write.
//! - Neither direction blocks the other: a far end that does not read fills the queue, and what the queue does when it is
//!   full is its owner's matter.
//! - Either end says [`MessageKind::Alive`] when it has been silent for a while, and gives up a far end that says nothing at all.
//! - The socket is read and written directly, and glommio only asked to wait: it arms a poll after every short read and believes
//!   nothing else until that fires.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use socket2::SockRef;

use crate::wire::codec::{COMPRESSION_BYTES_MIN, Compress, Decompress};
use crate::wire::frame::{Decoder, Encoder, Flags, Frame, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Seal};
use crate::wire::{MessageKind, Payload};

/// Bytes taken from the queue for one write, unless a single frame has more.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes hashed in one go.
const HASH_BYTES: usize = 512 << 10;
/// What a read that had to wait takes at first.
const SCRATCH: usize = 4 << 10;
/// Reads in a row before others get a turn.
const READS_IN_A_ROW: u32 = 16;

thread_local! {
    // An idle connection owns no buffer: it waits with this one.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What a connection may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest payload, in either direction, before compression. Beyond: refused here, closed there.
    pub payload_bytes_max: usize,
    /// Bytes waiting to be sent to a peer on a lane. Beyond: requests are refused, one-way messages are lost; the answering
    /// end reads no more requests.
    pub queue_bytes_max: usize,
    /// Requests under way to a peer on a lane. Beyond: refused.
    pub waiting_max: usize,
    /// Connections from other nodes to an executor. Beyond: closed at once.
    pub sessions_max: usize,
    /// Requests of a connection being carried out. Beyond: no more are read.
    pub handling_max: usize,
    /// Their bytes. Beyond: no more are read.
    pub handling_bytes_max: usize,
    /// Connecting, and the handshake.
    pub connect_timeout: Duration,
    /// Silence after which a sign of life is sent.
    pub alive_interval: Duration,
    /// Silence after which the far end is given up.
    pub alive_timeout: Duration,
    /// Rest after a failure to connect: doubles from the first to the second, of which a random half is left out.
    pub rest: (Duration, Duration),
    /// A connection made without knowing the node is closed after so long without requests.
    pub idle_timeout: Duration,
    /// How often time limits are looked at.
    pub tick: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            queue_bytes_max: 64 << 20,
            waiting_max: 64 << 10,
            sessions_max: 4096,
            handling_max: 4096,
            handling_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            alive_interval: Duration::from_secs(5),
            alive_timeout: Duration::from_secs(30),
            rest: (Duration::from_millis(50), Duration::from_secs(2)),
            idle_timeout: Duration::from_secs(60),
            tick: Duration::from_millis(20),
        }
    }
}

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) payload: Payload,
    /// Worth compressing when large.
    pub(super) cold: bool,
}

impl Message {
    pub(super) fn new(kind: MessageKind, flags: Flags, id: u64, payload: Payload) -> Message {
        Message { header: Header { kind: kind.number(), flags, id }, payload, cold: kind.is_cold() }
    }

    fn size(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// Messages on their way out, in order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: RefCell<VecDeque<Message>>,
    /// Of the queue, and of what is being written.
    bytes: Cell<usize>,
    writer: RefCell<Option<Waker>>,
    /// Waits until there is room.
    throttled: RefCell<Option<Waker>>,
}

impl Outgoing {
    pub(super) fn push(&self, message: Message) {
        self.bytes.set(self.bytes.get() + message.size());
        self.queue.borrow_mut().push_back(message);
        if let Some(waker) = self.writer.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether so many more bytes are within `limit`. A message of any size is, when there is no other.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        let queued = self.bytes.get();
        queued == 0 || queued.saturating_add(bytes) <= limit
    }

    pub(super) fn wake_when_less(&self, waker: &Waker) {
        *self.throttled.borrow_mut() = Some(waker.clone());
    }

    /// Forgets what has not been sent, and says what it was.
    pub(super) fn clear(&self) -> Vec<Message> {
        self.bytes.set(0);
        self.queue.borrow_mut().drain(..).collect()
    }

    fn pop(&self) -> Option<Message> {
        self.queue.borrow_mut().pop_front()
    }

    fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        if let Some(waker) = self.throttled.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn filled(&self) {
        poll_fn(|cx| {
            if !self.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.writer.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection after its handshake.
pub(super) struct Link {
    stream: RefCell<TcpStream>,
    /// The same socket once more, as one that can be read into memory that is not zeroed.
    socket: std::net::TcpStream,
    pub(super) outgoing: Rc<Outgoing>,
    payload_bytes_max: usize,
    /// When something was sent last.
    sent_at: Cell<Instant>,
    /// When something was received last.
    heard_at: Cell<Instant>,
    /// Why it has to end.
    ended: RefCell<Option<String>>,
    end_waker: RefCell<Option<Waker>>,
}

impl Link {
    /// `stream` must not block.
    pub(super) fn new(stream: TcpStream, outgoing: Rc<Outgoing>, payload_bytes_max: usize) -> io::Result<Link> {
        let now = Instant::now();
        let socket = SockRef::from(&stream).try_clone()?.into();
        Ok(Link {
            stream: RefCell::new(stream),
            socket,
            outgoing,
            payload_bytes_max,
            sent_at: Cell::new(now),
            heard_at: Cell::new(now),
            ended: RefCell::default(),
            end_waker: RefCell::default(),
        })
    }

    pub(super) fn decoder(&self) -> Decoder {
        Decoder::new(self.payload_bytes_max)
    }

    /// Ends the connection; [`Link::end`] comes back with the reason. The first one counts.
    pub(super) fn close(&self, why: impl Into<String>) {
        self.ended.borrow_mut().get_or_insert_with(|| why.into());
        if let Some(waker) = self.end_waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// It was closed from here.
    pub(super) fn is_closed(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Comes back when the connection was closed from here.
    pub(super) async fn end(&self) -> String {
        poll_fn(|cx| {
            if let Some(why) = &*self.ended.borrow() {
                return Poll::Ready(why.clone());
            }
            *self.end_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Tells the far end that nothing more comes, so that it does not wait for its time limit.
    pub(super) fn shutdown(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Looks at the time: says that this end is alive, and ends the connection if the far end is not. An end that
    /// does not read (`deaf`) cannot tell.
    pub(super) fn tick(&self, now: Instant, limits: &Limits, deaf: bool) {
        if deaf {
            self.heard_at.set(now);
        } else if now.duration_since(self.heard_at.get()) > limits.alive_timeout {
            self.close(format!("nothing was heard for {:?}", limits.alive_timeout));
        }
        if now.duration_since(self.sent_at.get()) > limits.alive_interval && self.outgoing.bytes.get() == 0 {
            self.outgoing.push(Message::new(MessageKind::Alive, Flags::ONE_WAY, 0, Payload::new()));
        }
    }

    /// Reads what there is, waiting if there is nothing.
    pub(super) async fn fill(&self, decoder: &mut Decoder) -> Result<(), String> {
        let room = decoder.room();
        let at_once = loop {
            match rustix::io::read(&self.socket, spare_capacity(room)) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        let n = match at_once {
            Ok(n) => n,
            Err(Errno::AGAIN) => {
                let waited = poll_fn(|cx| {
                    READ.with_borrow_mut(|scratch| {
                        let n = scratch.len().min(room.capacity() - room.len());
                        let into = &mut scratch[..n];
                        let read = Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, into);
                        if let Poll::Ready(Ok(n)) = &read {
                            room.extend_from_slice(&into[..*n]);
                        }
                        read
                    })
                });
                waited.await.map_err(|e| e.to_string())?
            }
            Err(e) => return Err(io::Error::from(e).to_string()),
        };
        if n == 0 {
            let inside = if decoder.is_inside_frame() { " inside a frame" } else { "" };
            return Err(format!("the far end closed it{inside}"));
        }
        self.heard_at.set(Instant::now());
        Ok(())
    }

    /// The next frame, decompressed. Gives others a turn now and then, so that `reads` must live as long as the connection.
    pub(super) async fn next(&self, decoder: &mut Decoder, reads: &mut u32) -> Result<Frame, String> {
        loop {
            if let Some(frame) = decoder.next().map_err(|e| e.to_string())? {
                // One read may bring thousands.
                glommio::yield_if_needed().await;
                return self.open(frame).await;
            }
            *reads += 1;
            if reads.is_multiple_of(READS_IN_A_ROW) {
                futures_lite::future::yield_now().await;
            }
            self.fill(decoder).await?;
        }
    }

    async fn open(&self, frame: Frame) -> Result<Frame, String> {
        if !frame.header.flags.contains(Flags::COMPRESSED) {
            return Ok(frame);
        }
        let mut work = Decompress::new(frame.payload, self.payload_bytes_max).map_err(|e| e.to_string())?;
        let payload = loop {
            match work.step().map_err(|e| e.to_string())? {
                Ok(bytes) => break bytes,
                Err(more) => work = more,
            }
            glommio::yield_if_needed().await;
        };
        Ok(Frame { payload, ..frame })
    }

    /// Sends what is queued, for ever. `wanted` is asked of each message as it leaves the queue.
    pub(super) async fn write(&self, wanted: impl Fn(&Header) -> bool) -> Result<(), String> {
        let mut encoder = Encoder::default();
        loop {
            self.outgoing.filled().await;
            let mut taken = 0;
            while encoder.len() < BATCH_BYTES
                && let Some(message) = self.outgoing.pop()
            {
                taken += message.size();
                if wanted(&message.header) {
                    stage(&mut encoder, message).await;
                }
            }
            while !encoder.is_empty() {
                let n = self.write_some(&mut encoder).await.map_err(|e| e.to_string())?;
                encoder.advance(n);
                self.sent_at.set(Instant::now());
                glommio::yield_if_needed().await;
            }
            self.outgoing.sent(taken);
        }
    }

    async fn write_some(&self, encoder: &mut Encoder) -> io::Result<usize> {
        let slices = encoder.slices();
        let at_once = (&self.socket).write_vectored(&slices);
        match at_once {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                let first = &slices[0];
                poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, first)).await
            }
            written => written,
        }
    }
}

/// Compresses, hashes and stages a message; others get a turn if it is large.
async fn stage(encoder: &mut Encoder, message: Message) {
    let Message { mut header, mut payload, cold } = message;
    if cold && payload.len() >= COMPRESSION_BYTES_MIN {
        match compress(&payload).await {
            Ok(smaller) if smaller.len() < payload.len() => {
                header.flags = header.flags.with(Flags::COMPRESSED);
                payload = Payload::from(smaller);
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "a message is sent without compression"),
        }
    }
    if payload.len() <= HASH_BYTES {
        return encoder.push(&header, &payload);
    }
    let mut seal = Seal::new(&header, payload.len());
    for piece in payload.pieces() {
        for some in piece.chunks(HASH_BYTES) {
            seal.hash(some);
            glommio::yield_if_needed().await;
        }
    }
    encoder.push_sealed(seal.finish(), &payload);
}

async fn compress(payload: &Payload) -> io::Result<Vec<u8>> {
    let mut work = Compress::new(payload)?;
    loop {
        match work.step()? {
            Ok(bytes) => return Ok(bytes),
            Err(more) => work = more,
        }
        glommio::yield_if_needed().await;
    }
}

/// Reads exactly `into`, before there are frames.
pub(super) async fn read_exact(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<()> {
    futures_lite::AsyncReadExt::read_exact(stream, into).await
}

/// Writes all of `bytes`, before there are frames.
pub(super) async fn write_all(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    futures_lite::AsyncWriteExt::write_all(stream, bytes).await
}

/// One value, from one task to another of the same executor.
#[derive(Debug)]
pub(super) struct Oneshot<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Default for Oneshot<T> {
    fn default() -> Oneshot<T> {
        Oneshot { value: RefCell::default(), waker: RefCell::default() }
    }
}

impl<T> Oneshot<T> {
    /// The first value counts.
    pub(super) fn set(&self, value: T) {
        self.value.borrow_mut().get_or_insert(value);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &std::task::Context<'_>) -> Poll<T> {
        if let Some(value) = self.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What is said of a message that is too large to be sent.
pub(super) fn too_large(bytes: usize, limit: usize) -> String {
    format!("a message of {bytes} bytes is over the limit of {limit}")
}

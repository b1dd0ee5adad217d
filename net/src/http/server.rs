//! The connections of one core.
//!
//! - A connection is one future; requests on it are handled one after the other, in order.
//! - Between two requests a connection may go to another core: see [`super::home`].
//! - When the client closes its side the request in work is dropped, as Elasticsearch does (a half-closed socket and a
//!   dead one look the same from here, and work nobody waits for must stop).
//! - What the handler leaves of a body is read and thrown away up to a bound, so that the connection can be used again.
//! - A body over the limit is refused at once: the answer goes out, our side of the connection is closed, and only then is
//!   some of what the client sends thrown away, so that it gets to see its answer rather than a reset.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::net::TcpStream;
use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode, Version};
use rustc_hash::FxHashMap;
use socket2::Socket;

use super::body::{BodyReader, Source};
use super::eager::Eager;
use super::encoding::{self, Decoder};
use super::home::{Homes, Leaning, Moving, Neighbours};
use super::stream::{Fate, Stream, Tick, TickLimits, Watch};
use super::{Budget, Handler, Limits, Refusal, Request, Response};

/// How often connections are looked at for time limits.
const TICK: Duration = Duration::from_millis(500);
/// What of an unread body is drained after the answer is ready.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// hyper's buffer for a head or a piece of a body.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections now.
    pub connections: u64,
    /// Connections ever.
    pub connections_total: u64,
    /// Connections closed because there were too many.
    pub connections_refused: u64,
    /// Connections closed because they stalled.
    pub connections_timed_out: u64,
    /// Requests ever.
    pub requests_total: u64,
    /// Requests now.
    pub requests: u64,
    /// Answers that were compressed.
    pub compressed_total: u64,
    /// Connections that went on on another core.
    pub connections_moved: u64,
}

/// All connections of a core, and what they have in common.
pub struct Connections<H> {
    handler: H,
    limits: Limits,
    now: Rc<Cell<Tick>>,
    watches: RefCell<FxHashMap<u64, Rc<Watch>>>,
    next_id: Cell<u64>,
    eager: Rc<Eager>,
    budget: Rc<dyn Budget>,
    /// None: connections stay where they are accepted.
    homes: Option<Homes>,
    /// Connections that have asked something in this tick.
    active: Cell<u32>,
    draining: Cell<bool>,
    counters: Cell<Counters>,
}

impl<H: Handler> Connections<H> {
    /// No connections yet. With `neighbours` they may go to other cores, and come from there.
    pub fn new(
        handler: H,
        limits: Limits,
        budget: Rc<dyn Budget>,
        neighbours: Option<Neighbours>,
    ) -> Rc<Connections<H>> {
        let eager = Rc::new(Eager::new(limits.spin));
        let homes = neighbours.map(|neighbours| Homes::new(neighbours, limits.connections_max));
        Rc::new(Connections {
            handler,
            limits,
            eager,
            homes,
            active: Cell::new(0),
            now: Rc::default(),
            watches: RefCell::default(),
            next_id: Cell::new(0),
            budget,
            draining: Cell::new(false),
            counters: Cell::default(),
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.get();
        counters.connections = self.watches.borrow().len() as u64;
        counters
    }

    /// Ends connections that stall; runs for ever, so the caller spawns it.
    pub async fn sweep(self: Rc<Self>) {
        let limits = TickLimits::new(&self.limits, TICK);
        let mut use_of_time = UseOfTime::new(&self.eager);
        loop {
            glommio::timer::sleep(TICK).await;
            let now = self.now.get().wrapping_add(1);
            self.now.set(now);
            let busy = use_of_time.busy(&self.eager);
            let active = self.active.take();
            if let Some(homes) = &self.homes {
                homes.tick(busy, self.watches.borrow().len(), active);
            }
            for watch in self.watches.borrow().values() {
                if let Some(why) = watch.overdue(now, &limits) {
                    tracing::debug!(why, "closing a connection");
                    self.count(|c| c.connections_timed_out += 1);
                    watch.set_fate(Fate::Kill);
                }
            }
        }
    }

    /// Lets requests in work finish for at most `bound`, closes everything else after [`Limits::linger`]. True if nothing
    /// was cut off.
    pub async fn drain(&self, bound: Duration) -> bool {
        self.draining.set(true);
        let begun = Instant::now();
        loop {
            let mut busy = false;
            let lingers = begun.elapsed() < bound.min(self.limits.linger);
            for watch in self.watches.borrow().values() {
                busy |= watch.in_work();
                if watch.in_work() {
                    watch.set_fate(Fate::Drain);
                } else if !lingers {
                    watch.set_fate(Fate::Kill);
                }
            }
            if self.watches.borrow().is_empty() {
                return true;
            }
            if begun.elapsed() >= bound {
                self.watches.borrow().values().for_each(|watch| watch.set_fate(Fate::Kill));
                return !busy;
            }
            glommio::timer::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Serves a new connection until it ends, or goes to another core.
    pub async fn serve(self: Rc<Self>, socket: Socket, peer: SocketAddr) {
        self.count(|c| c.connections_total += 1);
        if self.draining.get() || self.watches.borrow().len() >= self.limits.connections_max {
            self.count(|c| c.connections_refused += 1);
            return;
        }
        if let Err(e) = socket.set_nonblocking(true) {
            tracing::debug!(error = %e, %peer, "a connection that cannot be used");
            return;
        }
        self.resume(Moving { socket, peer, unread: Bytes::new(), moves: 0 }).await;
    }

    /// The same for one that comes from another core.
    pub async fn resume(self: Rc<Self>, mut connection: Moving) {
        // Where everything ends it ends between two requests.
        while !self.draining.get() {
            let Some((core, moving)) = Rc::clone(&self).stay(connection).await else { return };
            let homes = self.homes.as_ref().expect("only they send a connection anywhere");
            match homes.hand(core, moving) {
                Ok(()) => return self.count(|c| c.connections_moved += 1),
                Err(moving) => connection = moving,
            }
        }
    }

    /// Serves a connection for as long as it is on this core; where it goes from here.
    async fn stay(self: Rc<Self>, connection: Moving) -> Option<(usize, Moving)> {
        let Moving { socket, peer, unread, moves } = connection;
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let watch = Rc::new(Watch::new(id, self.now.get()));
        let _registered = Registration::new(&self, id, Rc::clone(&watch));
        let leaning = Cell::new(Leaning::after(moves));
        let (now, eager) = (Rc::clone(&self.now), Rc::clone(&self.eager));
        let told = Rc::clone(&self);
        let sent = Rc::new(move |took| told.handler.sent(took));
        let stream = Stream::new(TcpStream::from(socket), unread, Rc::clone(&watch), now, eager, sent);
        let leans = &leaning;
        let service = service_fn(|request| {
            let (this, watch) = (Rc::clone(&self), Rc::clone(&watch));
            async move { Ok::<_, Infallible>(this.request(request, &watch, leans, peer).await) }
        });
        let mut connection = http1::Builder::new()
            // Gathering the answers to pipelined requests would also hold back the 400 to bytes that are no request.
            .pipeline_flush(false)
            .half_close(false)
            .max_buf_size(BUFFER_BYTES_MAX)
            // The sweeper keeps the time; hyper's timer would have to be Send.
            .header_read_timeout(None)
            .serve_connection(stream, service);
        let mut told = false;
        let ended = poll_fn(|cx| {
            loop {
                match watch.fate(cx) {
                    Fate::Live => {}
                    Fate::Kill => return Poll::Ready(Ok(())),
                    Fate::Drain if told => {}
                    Fate::Drain => {
                        told = true;
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                }
                let mut polled = Pin::new(&mut connection).poll(cx);
                if polled.is_pending() && watch.leaves() {
                    // Between two requests hyper ends here, and keeps what it has read of the next.
                    Pin::new(&mut connection).graceful_shutdown();
                    polled = Pin::new(&mut connection).poll(cx);
                    if polled.is_pending() {
                        watch.stays();
                    }
                }
                // Only now, not in the read itself: hyper reads ahead before it has sent what it has.
                if polled.is_ready() || !watch.looks(&self.eager) {
                    return polled;
                }
            }
        })
        .await;
        if let Err(e) = ended {
            tracing::debug!(error = %e, %peer, "connection ended");
            return None;
        }
        let core = watch.left_for()?;
        let parts = connection.into_parts();
        let moves = leaning.get().moves() + 1;
        match parts.io.into_parts() {
            Ok((socket, before)) => {
                Some((core, Moving { socket, peer, unread: joined(parts.read_buf, before), moves }))
            }
            Err(e) => {
                tracing::warn!(error = %e, %peer, "a connection that cannot go to another core is closed");
                None
            }
        }
    }

    async fn request(
        &self,
        request: hyper::Request<Incoming>,
        watch: &Rc<Watch>,
        leaning: &Cell<Leaning>,
        peer: SocketAddr,
    ) -> hyper::Response<Full<Bytes>> {
        let head_complete = Instant::now();
        let first_byte = watch.request_begins().unwrap_or(head_complete);
        self.count(|c| {
            c.requests_total += 1;
            c.requests += 1;
        });
        let _in_work = InWork { connections: self, watch };
        if watch.first_of_tick(self.now.get()) {
            self.active.set(self.active.get() + 1);
        }

        let (head, incoming) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let expects = head.headers.contains_key(EXPECT);
        let compress = self.limits.compression && !is_head && encoding::accepts_gzip(&head.headers);
        let length = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let refusal = self.refusal(&head.method, &head.uri, &head.headers, head.version, length);

        let source =
            (!incoming.is_end_stream()).then(|| Rc::new(Source::new(incoming, Rc::clone(watch), Rc::clone(&self.now))));
        let mut refused = refusal.is_some();
        let response = match refusal {
            Some(refusal) => self.handler.refuse(&refusal),
            None => {
                let body = source.clone().map(|source| {
                    let decoder = Decoder::of(&head.headers);
                    BodyReader::new(source, decoder, length, self.limits.body_bytes_max, Rc::clone(&self.budget))
                });
                let (method, uri, headers) = (head.method, head.uri, head.headers);
                let request = Request { method, uri, headers, body, peer, first_byte, head_complete };
                self.handled(request).await
            }
        };
        if let Some(source) = &source {
            refused |= source.too_long.get();
        }
        let drained = match source {
            Some(_) if refused => false,
            // Reading would tell a client that still waits for our word to send its body.
            Some(source) if expects && !source.polled.get() => false,
            Some(source) => drain(&source).await,
            None => true,
        };
        if !drained {
            watch.linger();
        }
        if let Some(homes) = &self.homes
            && drained
            && !self.draining.get()
        {
            let mut leans = leaning.get();
            if let Some(core) = homes.answered(&mut leans, response.worked_on) {
                watch.send_to(core);
            }
            leaning.set(leans);
        }
        self.render(response, is_head, compress, !drained || self.draining.get()).await
    }

    async fn handled(&self, request: Request) -> Response {
        // Both making the future and running it may panic.
        let handled = AssertUnwindSafe(async { self.handler.handle(request).await }).catch_unwind().await;
        handled.unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            tracing::error!(panic = %text, "a request handler panicked");
            self.handler.refuse(&Refusal::Panic(text))
        })
    }

    fn refusal(
        &self,
        method: &Method,
        uri: &hyper::Uri,
        headers: &HeaderMap,
        version: Version,
        length: Option<u64>,
    ) -> Option<Refusal> {
        let limits = &self.limits;
        // `GET /path HTTP/1.1`
        let line = method.as_str().len() + 1 + uri_bytes(uri) + " HTTP/1.1".len();
        if line > limits.line_bytes_max {
            return Some(Refusal::LineTooLong { limit: limits.line_bytes_max });
        }
        let header_bytes: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + ": \r\n".len()).sum();
        if header_bytes > limits.header_bytes_max {
            return Some(Refusal::HeadersTooLong { limit: limits.header_bytes_max });
        }
        if let Some(length) = length
            && length > limits.body_bytes_max
        {
            return Some(Refusal::BodyTooLong { length, limit: limits.body_bytes_max });
        }
        if version >= Version::HTTP_11
            && let Some(expect) = headers.get(EXPECT)
            && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Some(Refusal::Expectation(String::from_utf8_lossy(expect.as_bytes()).into_owned()));
        }
        None
    }

    async fn render(
        &self,
        response: Response,
        is_head: bool,
        compress: bool,
        close: bool,
    ) -> hyper::Response<Full<Bytes>> {
        let mut out = hyper::Response::new(Full::default());
        *out.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = out.headers_mut();
        for (name, value) in response.headers {
            match (HeaderName::try_from(&*name), header_value(value)) {
                (Ok(name), Some(value)) => {
                    headers.append(name, value);
                }
                _ => tracing::warn!(%name, "a header that cannot be sent"),
            }
        }
        let mut body = response.body;
        if compress && body.len() > self.limits.compression_bytes_min && !headers.contains_key(CONTENT_ENCODING) {
            match encoding::gzip(&body).await {
                Ok(smaller) => {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
                    body = smaller;
                    self.count(|c| c.compressed_total += 1);
                }
                Err(e) => tracing::warn!(error = %e, "cannot compress an answer"),
            }
        }
        // Said explicitly: HEAD answers carry the length of what GET would send.
        if response.status != 204 && response.status != 304 && response.status >= 200 {
            headers
                .insert(CONTENT_LENGTH, HeaderValue::from(response.length.filter(|_| is_head).unwrap_or(body.len())));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        *out.body_mut() = Full::new(body);
        out
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}

/// What was read of a connection's next requests, in the order that the client sent it.
fn joined(first: Bytes, then: Bytes) -> Bytes {
    match (first.is_empty(), then.is_empty()) {
        (true, _) => then,
        (_, true) => first,
        (false, false) => [first, then].concat().into(),
    }
}

/// What part of its time an executor works.
struct UseOfTime {
    at: Instant,
    worked: Duration,
}

impl UseOfTime {
    fn new(eager: &Eager) -> UseOfTime {
        UseOfTime { at: Instant::now(), worked: UseOfTime::worked(eager) }
    }

    /// All it has worked. Looking for a request is rest.
    fn worked(eager: &Eager) -> Duration {
        glommio::executor().executor_stats().total_runtime().saturating_sub(eager.looked())
    }

    /// Per mille of the time since it was last asked.
    fn busy(&mut self, eager: &Eager) -> u32 {
        let now = UseOfTime { at: Instant::now(), worked: UseOfTime::worked(eager) };
        let (took, worked) = (now.at - self.at, now.worked.saturating_sub(self.worked));
        *self = now;
        (worked.as_secs_f64() / took.as_secs_f64().max(1e-9) * 1000.0).min(1000.0) as u32
    }
}

/// Reads what is left of a body. False if that was too much or failed: then the connection cannot be used again.
async fn drain(source: &Source) -> bool {
    let mut bytes = 0;
    loop {
        match source.frame().await {
            Ok(None) => return true,
            Ok(Some(piece)) => {
                bytes += piece.len();
                if bytes > DRAIN_BYTES_MAX {
                    return false;
                }
                glommio::yield_if_needed().await;
            }
            Err(_) => return false,
        }
    }
}

fn uri_bytes(uri: &hyper::Uri) -> usize {
    let authority = uri.authority().map_or(0, |a| a.as_str().len() + "http://".len());
    authority + uri.path().len() + uri.query().map_or(0, |q| q.len() + 1)
}

/// Header values are bytes; what cannot be sent as such (line ends) becomes a space.
fn header_value(text: Cow<'static, str>) -> Option<HeaderValue> {
    let bytes = match text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    HeaderValue::from_maybe_shared(bytes.clone()).ok().or_else(|| {
        let clean: Bytes = bytes.iter().map(|&b| if b < 0x20 || b == 0x7f { b' ' } else { b }).collect();
        HeaderValue::from_maybe_shared(clean).ok()
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}

/// Takes the connection out of the list however it ends.
struct Registration<'a, H> {
    connections: &'a Connections<H>,
    id: u64,
}

impl<'a, H> Registration<'a, H> {
    fn new(connections: &'a Connections<H>, id: u64, watch: Rc<Watch>) -> Registration<'a, H> {
        connections.watches.borrow_mut().insert(id, watch);
        Registration { connections, id }
    }
}

impl<H> Drop for Registration<'_, H> {
    fn drop(&mut self) {
        self.connections.watches.borrow_mut().remove(&self.id);
    }
}

/// Notes the end of a request however it ends.
struct InWork<'a, H: Handler> {
    connections: &'a Connections<H>,
    watch: &'a Watch,
}

impl<H: Handler> Drop for InWork<'_, H> {
    fn drop(&mut self) {
        self.watch.request_ends(self.connections.now.get());
        self.connections.count(|c| c.requests -= 1);
    }
}

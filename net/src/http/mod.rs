//! HTTP/1.1 for one core: connections, limits, bodies; nothing of what a path means.
//!
//! ```text
//! acceptor thread (one, blocking accept)  --round robin-->  Connections::serve on each core  <-- between requests: `home` -->
//!                                                             | hyper over `Stream`, the glommio adapter
//!                                                             v
//!                                                           Handler::handle(Request) -> Response
//! ```
//!
//! Why one acceptor and not a listening socket per core: `SO_REUSEPORT` spreads connections by hash, so that a few
//! persistent clients can all land on one core, and two nodes can share a port unnoticed. A plain listener refuses the
//! second node, and round robin is exact. Accepting is rare with keep-alive, so one thread is enough.
//!
//! What is absent: no body is collected here, no task is spawned here (the caller spawns `serve` and `sweep` where it
//! wants them), and a client can make nothing grow without a bound: see [`Limits`].

mod accept;
mod body;
mod eager;
mod encoding;
mod home;
mod server;
mod stream;

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use accept::{Acceptor, AcceptorHandle};
pub use body::{BodyError, BodyReader};
pub use home::{Cores, Moving, Neighbours, WorkedOn};
pub use hyper::{HeaderMap, Method, Uri, header};
pub use server::{Connections, Counters};

/// What a core does with requests.
pub trait Handler: 'static {
    /// Answers one request. The future is dropped when the client goes away.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Response>>>;

    /// Words a refusal the HTTP layer itself decided on.
    fn refuse(&self, refusal: &Refusal) -> Response;

    /// An answer has been handed to the socket, so long after it was ready.
    fn sent(&self, took: Duration) {
        let _ = took;
    }
}

/// One request, its body still arriving.
pub struct Request {
    /// Method.
    pub method: Method,
    /// Target as sent.
    pub uri: Uri,
    /// Headers.
    pub headers: HeaderMap,
    /// The body; none when there is certainly nothing to read.
    pub body: Option<BodyReader>,
    /// The client.
    pub peer: SocketAddr,
    /// When its first byte was seen.
    pub first_byte: Instant,
    /// When its head was complete.
    pub head_complete: Instant,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers; names in any case.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// Body. For HEAD: what GET would answer; its length is sent, the bytes are not.
    pub body: Bytes,
    /// For HEAD without a body: the length GET would answer.
    pub length: Option<usize>,
    /// Where its work was done: the connection may go there.
    pub worked_on: WorkedOn,
}

/// Why a request was answered without being handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request line is longer than allowed.
    LineTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The headers are longer than allowed.
    HeadersTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// `Content-Length` says the body is longer than allowed.
    BodyTooLong {
        /// Bytes declared.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// `Expect` asks for something unknown.
    Expectation(String),
    /// The handler panicked; the panic has been logged.
    Panic(String),
}

/// Memory for the bodies of unfinished requests, perhaps shared with other cores.
pub trait Budget {
    /// Takes bytes, or none at all: then the read of the body fails with [`BodyError::OutOfMemory`].
    fn take(&self, bytes: u64) -> Result<(), BodyError>;

    /// Gives back what was taken.
    fn give(&self, bytes: u64);
}

/// What a client may use up. Every value is a bound with a stated answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `http.max_initial_line_length`: beyond it 400.
    pub line_bytes_max: usize,
    /// `http.max_header_size`: beyond it 400.
    pub header_bytes_max: usize,
    /// `http.max_content_length`, of the decoded body: beyond it 413.
    pub body_bytes_max: u64,
    /// Connections of this core: beyond it a new one is closed at once, and none comes from another core.
    pub connections_max: usize,
    /// From the first byte of a request to the end of its head; then the connection is closed.
    pub header_timeout: Duration,
    /// Between two pieces of a body the handler waits for; then the connection is closed.
    pub body_timeout: Duration,
    /// For a client that does not read its answer; then the connection is closed.
    pub write_timeout: Duration,
    /// Without any request; then the connection is closed.
    pub idle_timeout: Duration,
    /// When the node shuts down, a kept connection without a request is closed after so long: a busy client's next request
    /// may be on its way, and its answer tells the client to close.
    pub linger: Duration,
    /// `http.compression`: answer in gzip when the client accepts it.
    pub compression: bool,
    /// Answers up to this size are not compressed.
    pub compression_bytes_min: usize,
    /// How long a core looks at a connection for its next request before it sleeps, where that has come as soon as this
    /// before; zero: never.
    pub spin: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes_max: 4096,
            header_bytes_max: 8192,
            body_bytes_max: 100 << 20,
            connections_max: 16_384,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3600),
            linger: Duration::from_millis(100),
            compression: true,
            compression_bytes_min: 1024,
            spin: Duration::from_micros(50),
        }
    }
}

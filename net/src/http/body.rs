//! A request body as it arrives: decoded, counted, limited.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};

use super::Budget;
use super::encoding::Decoder;
use super::stream::{Tick, Watch};

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than `http.max_content_length`: 413.
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// All unfinished requests together hold too many bytes: 429.
    OutOfMemory {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not what `Content-Encoding` says, or broken framing: 400.
    Malformed(String),
    /// The client is gone; nobody will see an answer.
    Disconnected(String),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyError::TooLong { limit } => write!(f, "entity content is too long for the configured limit [{limit}]"),
            BodyError::OutOfMemory { wanted, limit } => {
                write!(f, "in-flight requests would hold [{wanted}] bytes, which is larger than the limit of [{limit}]")
            }
            BodyError::Malformed(text) | BodyError::Disconnected(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BodyError {}

/// What the reader shares with the connection, which drains what the handler leaves.
pub(super) struct Source {
    incoming: RefCell<Incoming>,
    ended: Cell<bool>,
    /// Whether anyone asked for the body.
    pub(super) polled: Cell<bool>,
    /// It turned out longer than allowed: the rest is not worth reading.
    pub(super) too_long: Cell<bool>,
    watch: Rc<Watch>,
    now: Rc<Cell<Tick>>,
}

impl Source {
    pub(super) fn new(incoming: Incoming, watch: Rc<Watch>, now: Rc<Cell<Tick>>) -> Source {
        Source {
            incoming: RefCell::new(incoming),
            ended: Cell::new(false),
            polled: Cell::new(false),
            too_long: Cell::new(false),
            watch,
            now,
        }
    }

    /// The next piece as sent.
    pub(super) async fn frame(&self) -> Result<Option<Bytes>, BodyError> {
        self.polled.set(true);
        loop {
            if self.ended.get() {
                return Ok(None);
            }
            let frame = poll_fn(|cx| {
                let polled = Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx);
                let waiting = polled.is_pending();
                self.watch.body_wait(waiting.then(|| self.now.get()));
                if waiting { Poll::Pending } else { polled }
            })
            .await;
            match frame {
                None => self.ended.set(true),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
                Some(Err(e)) => {
                    self.ended.set(true);
                    return Err(if e.is_parse() || e.is_user() {
                        BodyError::Malformed(e.to_string())
                    } else {
                        BodyError::Disconnected(e.to_string())
                    });
                }
            }
        }
    }
}

/// Reads a body piece by piece. Its bytes count as in flight until it is dropped.
pub struct BodyReader {
    source: Rc<Source>,
    decoder: Option<Decoder>,
    encoded: Bytes,
    read: u64,
    limit: u64,
    length: Option<u64>,
    /// Bytes taken from the budget: at least those read, and all to come when their number is known.
    taken: u64,
    budget: Rc<dyn Budget>,
}

impl BodyReader {
    pub(super) fn new(
        source: Rc<Source>,
        decoder: Option<Decoder>,
        length: Option<u64>,
        limit: u64,
        budget: Rc<dyn Budget>,
    ) -> BodyReader {
        let length = if decoder.is_some() { None } else { length };
        BodyReader { source, decoder, encoded: Bytes::new(), read: 0, limit, length, taken: 0, budget }
    }

    /// How long the body will be, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece, never empty; `None` at the end. After an error it must not be called again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(length) = self.length {
            // All of it before the first byte: two bodies must not each wait for what the other half of them holds.
            self.take(length)?;
        }
        loop {
            let Some(decoder) = &mut self.decoder else {
                let Some(piece) = self.source.frame().await? else { return Ok(None) };
                return self.count(piece).map(Some);
            };
            let malformed = |e: std::io::Error| BodyError::Malformed(format!("cannot decode the body: {e}"));
            let piece = if !self.encoded.is_empty() {
                glommio::yield_if_needed().await;
                decoder.step(&mut self.encoded).map_err(malformed)?
            } else if let Some(frame) = self.source.frame().await? {
                self.encoded = frame;
                continue;
            } else {
                let rest = decoder.finish().map_err(malformed)?;
                self.decoder = None;
                rest
            };
            if !piece.is_empty() {
                return self.count(piece).map(Some);
            }
        }
    }

    /// Takes memory so that `bytes` are covered.
    fn take(&mut self, bytes: u64) -> Result<(), BodyError> {
        if bytes > self.taken {
            self.budget.take(bytes - self.taken)?;
            self.taken = bytes;
        }
        Ok(())
    }

    fn count(&mut self, piece: Bytes) -> Result<Bytes, BodyError> {
        let size = piece.len() as u64;
        if self.read + size > self.limit {
            self.source.too_long.set(true);
            return Err(BodyError::TooLong { limit: self.limit });
        }
        self.take(self.read + size)?;
        self.read += size;
        Ok(piece)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.budget.give(self.taken);
    }
}

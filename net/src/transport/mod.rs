//! Requests between nodes: what callers see, whatever carries them.
//!
//! - A request ends in exactly one answer, failure or timeout; dropping its future abandons it.
//! - One-way messages to a node on a lane are handed to its handler in the order they were sent, or lost when the connection is.
//! - Requests on a lane are handed over in the order they were sent, and answered in any order.
//! - Nothing is sent twice: whether a request that failed was carried out is for the caller to find out.

#[cfg(feature = "glommio")]
pub mod connection;
#[cfg(feature = "glommio")]
pub mod listener;
#[cfg(feature = "glommio")]
pub mod peers;
#[cfg(feature = "glommio")]
pub mod sessions;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::ids::NodeId;
pub use crate::wire::handshake::Identity;
pub use crate::wire::{Lane, MessageKind, Payload, RemoteError};
#[cfg(feature = "glommio")]
pub use {
    connection::Limits,
    listener::{Accepted, Admission, Listener, ListenerHandle},
    peers::{Own, PeerCounters, Peers},
    sessions::{SessionCounters, Sessions},
};

/// A future of one executor.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who it must be; none takes whoever is at the address.
    pub node: Option<NodeId>,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{{{node}}}{{{}}}", self.address),
            None => write!(f, "{{{}}}", self.address),
        }
    }
}

/// Sends messages to other nodes, from one executor.
pub trait Transport {
    /// Asks, and waits at most `timeout` for the answer; connecting counts.
    fn request(
        &self,
        to: &PeerAddress,
        lane: Lane,
        kind: MessageKind,
        payload: Payload,
        timeout: Duration,
    ) -> LocalFuture<Result<Bytes, TransportError>>;

    /// Tells, as far as possible: one-way, in order per node and lane, lost when there is no connection in time or too
    /// much is waiting.
    fn notify(&self, to: &PeerAddress, lane: Lane, kind: MessageKind, payload: Payload);

    /// Connects if need be, and says who is there.
    fn identify(
        &self,
        to: &PeerAddress,
        lane: Lane,
        timeout: Duration,
    ) -> LocalFuture<Result<Identity, TransportError>>;

    /// Closes all connections to a node. What waits fails; the next request connects anew.
    fn disconnect(&self, node: NodeId);

    /// Who is told of connections of the cluster lane that come and go: those made to a node by its id. Called between requests, not within one.
    fn observe(&self, observer: Rc<dyn Fn(PeerEvent)>);
}

/// A connection of the cluster lane, from here to there, came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// It is there.
    Connected(NodeId),
    /// It is gone, or could not be made: the node, or the way to it.
    Disconnected(NodeId),
}

/// Carries out what other nodes ask.
pub trait Handler {
    /// Called in the order of arrival; the futures then run side by side. That of an abortable kind is dropped when nobody
    /// waits for it any more; others run to their end, with or without somebody to answer to. The answer to a one-way
    /// message goes nowhere.
    fn handle(&self, from: NodeId, kind: MessageKind, payload: Bytes) -> LocalFuture<Result<Payload, RemoteError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// No connection: the request was not sent.
    NotConnected(String),
    /// No answer in time. The request may have been carried out.
    Timeout,
    /// The connection ended while the request was under way. It may have been carried out.
    Closed(String),
    /// Too much is waiting already: the request was not sent.
    Rejected(String),
    /// The far end says no.
    Remote(RemoteError),
}

impl TransportError {
    /// The far end has not seen the request.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        matches!(self, TransportError::NotConnected(_) | TransportError::Rejected(_))
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::NotConnected(why) => write!(f, "not connected: {why}"),
            TransportError::Timeout => f.write_str("no answer in time"),
            TransportError::Closed(why) => write!(f, "connection closed: {why}"),
            TransportError::Rejected(why) => write!(f, "rejected: {why}"),
            TransportError::Remote(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransportError {}

//! Requests to shard copies wherever they are: this node's go through the mesh, others' over the wire.
//!
//! - A read goes to one copy after the other until one answers; what a copy says about the request itself is final.
//! - A write goes to the primary. While there is none, or no master, or the node that should have it says it is not the primary, it waits for
//!   another state and tries again, until the request's timeout. A write that may have been carried out is never sent twice:
//!   then the client is told that the outcome is unknown.
//! - Refresh, flush, force merge and clearing of caches go to every active copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::ClusterState;
use ringdex_net::transport::{self, Handler, PeerAddress, Transport, TransportError};
use ringdex_net::wire::{MessageKind, Payload, RemoteError, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::core::Core;
use super::route::{Want, want};
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::metadata::block::NoMaster;
use crate::rest::passed::{self, Answered, PassedOn};
use crate::shard::message::{RefreshPolicy, ShardId, ShardRequest, ShardResponse};

/// A request without a deadline of its own is given up after this. A lost connection ends it much earlier.
const READ_WAIT: Duration = Duration::from_secs(600);
/// The same for merges and flushes.
const LONG_WAIT: Duration = Duration::from_secs(24 * 3600);
/// While the state says one thing and the nodes another, a write looks again after this.
const SETTLE_WAIT: Duration = Duration::from_millis(50);

/// What says that a copy did nothing because it is not, or not yet, what the sender took it for.
const NOT_DONE: [&str; 4] = [
    "shard_not_in_primary_mode_exception",
    "shard_not_found_exception",
    "no_shard_available_action_exception",
    "unavailable_shards_exception",
];

/// What says that a node was not heard of.
const UNHEARD: [&str; 3] =
    ["connect_transport_exception", "receive_timeout_transport_exception", "node_disconnected_exception"];

/// A request to a copy on another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardCall {
    /// Which shard.
    pub id: ShardId,
    /// What is asked.
    pub request: ShardRequest,
}

/// As it travels.
pub fn to_remote(error: &ApiError) -> RemoteError {
    let mut remote = RemoteError::new(error.status, &error.kind, error.reason.clone());
    if let Ok(body) = serde_json::to_vec(error) {
        remote.body = body.into();
    }
    remote
}

/// As it came.
pub fn from_remote(remote: RemoteError) -> ApiError {
    match serde_json::from_slice(&remote.body) {
        Ok(error) => error,
        Err(_) => ApiError::new(remote.status, remote.kind, remote.reason),
    }
}

/// A failed request, as a client would be told.
pub fn of_transport(error: TransportError, node: NodeId) -> ApiError {
    match error {
        TransportError::Remote(remote) => from_remote(remote),
        TransportError::NotConnected(why) => {
            ApiError::new(503, "connect_transport_exception", format!("[{node}] {why}"))
        }
        TransportError::Rejected(why) => {
            ApiError::new(429, "es_rejected_execution_exception", format!("[{node}] {why}")).header("Retry-After", "1")
        }
        TransportError::Timeout => {
            ApiError::new(503, "receive_timeout_transport_exception", format!("[{node}] did not answer in time"))
        }
        TransportError::Closed(why) => {
            ApiError::new(503, "node_disconnected_exception", format!("[{node}] disconnected: {why}"))
        }
    }
}

/// Encodes a cold message.
pub fn encode<T: Serialize>(value: &T) -> ApiResult<Payload> {
    let bytes =
        codec::encode(value).map_err(|e| ApiError::new(500, "transport_serialization_exception", e.to_string()))?;
    Ok(Payload::from(bytes))
}

/// Decodes a cold message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    codec::decode(bytes).map_err(|e| ApiError::new(400, "transport_serialization_exception", e.to_string()))
}

/// Where a node of the state listens.
pub fn peer(state: &ClusterState, node: NodeId) -> ApiResult<PeerAddress> {
    let gone = || ApiError::new(503, "node_not_connected_exception", format!("[{node}] is not in the cluster"));
    let known = state.nodes.get(&node).ok_or_else(gone)?;
    let address: SocketAddr = known.transport_address.parse().map_err(|_| gone())?;
    Ok(PeerAddress { node: Some(node), address })
}

fn lane_of(request: &ShardRequest) -> MessageKind {
    if matches!(request, ShardRequest::Write(_)) { MessageKind::ShardWrite } else { MessageKind::ShardRead }
}

fn patience(request: &ShardRequest) -> Duration {
    match request {
        ShardRequest::ForceMerge { .. } | ShardRequest::Flush { .. } => LONG_WAIT,
        _ => READ_WAIT,
    }
}

/// What became of a request to one copy.
pub(super) struct Refused {
    pub(super) error: ApiError,
    /// It was certainly not carried out.
    not_done: bool,
}

impl Refused {
    fn certainly(error: ApiError) -> Refused {
        let not_done = NOT_DONE.contains(&error.kind.as_str());
        Refused { error, not_done }
    }
}

impl<I: NodeIo> Core<I> {
    /// Sends `request` where it belongs.
    pub(super) async fn spread(&self, id: ShardId, request: ShardRequest) -> ApiResult<ShardResponse> {
        match &request {
            ShardRequest::Write(_) => self.write_routed(id, request).await,
            ShardRequest::Refresh
            | ShardRequest::Flush { .. }
            | ShardRequest::ForceMerge { .. }
            | ShardRequest::ClearCache { .. } => self.to_all_copies(id, request).await,
            _ => self.read_routed(id, request).await,
        }
    }

    /// Asks the copy on one node, and no other.
    pub(super) async fn ask_copy(&self, id: ShardId, node: NodeId, request: ShardRequest) -> ApiResult<ShardResponse> {
        let state = self.state_now();
        self.to_copy(&state, node, &id, request).await.map_err(|refused| refused.error)
    }

    async fn read_routed(&self, id: ShardId, request: ShardRequest) -> ApiResult<ShardResponse> {
        let state = self.state_now();
        let nodes = self.router.candidates(&state, &id, want(&request));
        let mut last = None;
        for node in nodes {
            let began = self.io.monotonic_ns();
            self.router.begun(node);
            let answer = self.to_copy(&state, node, &id, request.clone()).await;
            let took = answer.is_ok().then(|| self.io.monotonic_ns() - began);
            self.router.ended(node, took);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(refused) if refused.error.status == 503 => {
                    if UNHEARD.contains(&refused.error.kind.as_str()) {
                        self.router.silent(node);
                    }
                    last = Some(refused.error);
                }
                Err(refused) => return Err(refused.error),
            }
        }
        Err(last.unwrap_or_else(|| self.unavailable(&id, false)))
    }

    async fn to_all_copies(&self, id: ShardId, request: ShardRequest) -> ApiResult<ShardResponse> {
        let state = self.state_now();
        let nodes = self.router.candidates(&state, &id, Want::Any);
        if nodes.is_empty() {
            return Err(self.unavailable(&id, false));
        }
        let calls: Vec<LocalFuture<'_, Result<ShardResponse, Refused>>> = nodes
            .into_iter()
            .map(|node| {
                let (state, id, request) = (Arc::clone(&state), id.clone(), request.clone());
                Box::pin(async move { self.to_copy(&state, node, &id, request).await }) as LocalFuture<'_, _>
            })
            .collect();
        let mut done = None;
        for answer in join::all(calls).await {
            match answer {
                Ok(answer) => done = Some(answer),
                Err(refused) => return Err(refused.error),
            }
        }
        done.ok_or_else(|| self.unavailable(&id, false))
    }

    async fn write_routed(&self, id: ShardId, request: ShardRequest) -> ApiResult<ShardResponse> {
        let wait = match &request {
            ShardRequest::Write(write) => Duration::from_millis(write.timeout_ms),
            _ => READ_WAIT,
        };
        let shown = matches!(&request, ShardRequest::Write(write) if write.refresh != RefreshPolicy::None);
        let until = self.io.monotonic_ns() + wait.as_nanos() as u64;
        loop {
            let state = self.state_now();
            if state.indices.values().all(|index| index.uuid != *id.uuid) && !state.indices.is_empty() {
                return Err(ApiError::index_not_found(&id.index));
            }
            let primary = self.router.candidates(&state, &id, Want::Primary).first().copied();
            let refused = match primary {
                _ if !self.shared().has_master() && NoMaster::of(&state) >= NoMaster::Write => NoMaster::error(),
                Some(node) => match self.to_copy(&state, node, &id, request.clone()).await {
                    Ok(answer) => {
                        // The primary shows it; so must every copy that a search may ask.
                        if shown {
                            let _ = self.to_all_copies(id, ShardRequest::Refresh).await;
                        }
                        return Ok(answer);
                    }
                    Err(refused) if !refused.not_done => return Err(refused.error),
                    Err(refused) => refused.error,
                },
                None => self.unavailable(&id, true),
            };
            let now = self.io.monotonic_ns();
            if now >= until || self.is_stopping() {
                return Err(refused);
            }
            let rest = Duration::from_nanos(until - now);
            let another = self.applied.reached(state.version as i64 + 1);
            let wait = if primary.is_some() { rest.min(SETTLE_WAIT) } else { rest };
            futures_lite::future::or(another, self.io.sleep(wait)).await;
        }
    }

    /// Asks the copy on one node.
    async fn to_copy(
        &self,
        state: &ClusterState,
        node: NodeId,
        id: &ShardId,
        request: ShardRequest,
    ) -> Result<ShardResponse, Refused> {
        if Some(node) == self.shared().local {
            return self.here(id.clone(), request).await.map_err(Refused::certainly);
        }
        let kind = lane_of(&request);
        let wait = patience(&request);
        let bytes = encode(&ShardCall { id: id.clone(), request }).map_err(Refused::certainly)?;
        let answer = self.ask(state, node, kind, bytes, wait).await?;
        decode(&answer).map_err(|error| Refused { error, not_done: false })
    }

    /// One request to another node.
    pub(super) async fn ask(
        &self,
        state: &ClusterState,
        node: NodeId,
        kind: MessageKind,
        payload: Payload,
        wait: Duration,
    ) -> Result<Bytes, Refused> {
        let to = peer(state, node).map_err(|error| Refused { error, not_done: true })?;
        let Some(transport) = self.transport() else {
            let error = ApiError::new(503, "node_not_connected_exception", "this node has no transport");
            return Err(Refused { error, not_done: true });
        };
        transport.request(&to, kind.lane(), kind, payload, wait).await.map_err(|error| {
            let unsent = error.was_not_sent();
            let mut refused = Refused::certainly(of_transport(error, node));
            refused.not_done |= unsent;
            refused
        })
    }

    /// Answers what another node asks of a shard here.
    pub(super) async fn answer_call(self: Rc<Self>, payload: Bytes) -> Result<Payload, RemoteError> {
        let call: ShardCall = decode(&payload).map_err(|e| to_remote(&e))?;
        let answered = self.here(call.id, call.request).await;
        answered.and_then(|response| encode(&response)).map_err(|e| to_remote(&e))
    }

    /// Passes a REST request on to another node.
    pub(super) async fn pass_on(&self, node: NodeId, call: PassedOn, wait: Duration) -> ApiResult<Answered> {
        let state = self.state_now();
        let answer = self.ask(&state, node, MessageKind::Rest, encode(&call)?, wait).await;
        decode(&answer.map_err(|refused| refused.error)?)
    }

    /// Answers what another node has passed on.
    pub(super) async fn answer_passed(self: Rc<Self>, payload: Bytes) -> Result<Payload, RemoteError> {
        let call: PassedOn = decode(&payload).map_err(|e| to_remote(&e))?;
        let backend: SharedBackend = self;
        let answered = passed::answer(&backend, call).await;
        answered.and_then(|answered| encode(&answered)).map_err(|e| to_remote(&e))
    }

    fn transport(&self) -> Option<Rc<dyn Transport>> {
        self.transport.borrow().clone()
    }
}

/// The end of the lanes between cores.
pub struct CoreCalls<I: NodeIo>(pub Rc<Core<I>>);

impl<I: NodeIo> Handler for CoreCalls<I> {
    fn handle(
        &self,
        _from: NodeId,
        kind: MessageKind,
        payload: Bytes,
    ) -> transport::LocalFuture<Result<Payload, RemoteError>> {
        let core = Rc::clone(&self.0);
        Box::pin(async move {
            match kind {
                MessageKind::ShardWrite | MessageKind::ShardRead => core.answer_call(payload).await,
                MessageKind::Replicate
                | MessageKind::GlobalCheckpointSync
                | MessageKind::RecoveryStart
                | MessageKind::RecoveryFileChunk
                | MessageKind::RecoveryOperations
                | MessageKind::RecoveryFinalize
                | MessageKind::RecoveryEnd => core.answer_peer(kind, payload).await,
                MessageKind::Rest => core.answer_passed(payload).await,
                MessageKind::Ping => Ok(Payload::from(payload)),
                other => Err(RemoteError::malformed(format!("[{}] is not for this lane", other.name()))),
            }
        })
    }
}

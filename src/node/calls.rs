//! What coordination threads ask each other: who are you, change the metadata, this copy has started or failed, what is on
//! your disk.
//!
//! A change of metadata on a node that does not lead is made from the state it has, and sent whole with the
//! `metadata_version` it was made from. The master takes it if that is still the version; else the asking node waits for
//! the newer state and makes the change again. So a change is a plain function on every node, and none is lost.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_net::cluster::allocation::{self, AllocationInputs, DiskUsage};
use ringdex_net::cluster::coordinator::Event;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::messages::Message;
use ringdex_net::cluster::routing::{CopyState, RecoverySource, RoutingTable, ShardRouting};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use ringdex_net::cluster::value::{Position, StateValue};
use ringdex_net::transport::{self, Handler};
use ringdex_net::wire::{Lane as WireLane, MessageKind, Payload, RemoteError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::master::Master;
use super::queue::Waiting;
use super::remote::{decode, encode, of_transport, to_remote};
use crate::backend::{PendingUpdate, StateUpdate};
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::rest::passed::master_not_discovered;

/// How long the master may take to publish what was asked of it.
const UPDATE_WAIT: Duration = Duration::from_secs(60);
/// How long a node may take to say what is on its disk.
const STORED_WAIT: Duration = Duration::from_secs(10);
/// How often nodes are asked how full their disks are (`cluster.info.update.interval`).
const INFO_INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(500);
/// The type of the answer to a change made from an older state.
const CONFLICT: &str = "metadata_version_conflict";
/// The type of the answer of a node that does not lead.
const NOT_MASTER: &str = "not_master_exception";

/// Everything that updates change.
#[derive(Debug, Serialize, Deserialize)]
struct MetadataUpdate {
    source: String,
    /// The version it was made from.
    base: u64,
    indices: BTreeMap<String, Arc<IndexMetadata>>,
    templates: BTreeMap<String, Arc<Value>>,
    index_templates: BTreeMap<String, Arc<Value>>,
    component_templates: BTreeMap<String, Arc<Value>>,
    persistent_settings: Map<String, Value>,
    transient_settings: Map<String, Value>,
    custom: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
    /// Routing, where a command changed it, and of which state: it changes without the metadata.
    routing: Option<(Position, RoutingTable)>,
}

/// News of a copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyNews {
    /// Index.
    pub uuid: String,
    /// Shard.
    pub shard: u32,
    /// The copy.
    pub allocation: AllocationId,
    /// The primary term of whoever says it; none if it speaks of itself.
    pub term: Option<u64>,
    /// Why it failed; none = it has started.
    pub failed: Option<String>,
}

/// The copies on a node's disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    copies: Vec<(String, u32, AllocationId)>,
    disk: Option<(u64, u64)>,
}

impl<I: NodeIo> Master<I> {
    /// An update of a node that does not lead.
    pub(super) async fn forward(&self, leader: NodeId, waiting: Waiting) {
        let base = Arc::clone(&self.current.borrow().state);
        let next = match (waiting.update)(&base) {
            Ok(Some(next)) => next,
            Ok(None) => return waiting.answer.set(Ok(base)),
            Err(e) => return waiting.answer.set(Err(e)),
        };
        let message = MetadataUpdate {
            source: waiting.source.clone(),
            base: base.metadata_version,
            routing: (next.routing != base.routing).then(|| (base.position(), next.routing)),
            indices: next.indices,
            templates: next.templates,
            index_templates: next.index_templates,
            component_templates: next.component_templates,
            persistent_settings: next.persistent_settings,
            transient_settings: next.transient_settings,
            custom: next.custom,
        };
        match self.ask_master::<u64>(leader, MessageKind::MetadataUpdate, &message).await {
            Ok(version) => {
                self.applied.reached(version as i64).await;
                let state = Arc::clone(&self.current.borrow().state);
                waiting.answer.set(Ok(state));
            }
            // Nothing was done: again, when there is something newer, or another master.
            Err(e) if e.kind == CONFLICT || e.kind == NOT_MASTER || e.kind == "connect_transport_exception" => {
                let newer = self.applied.reached(base.version as i64 + 1);
                futures_lite::future::or(newer, self.io.sleep(Duration::from_millis(100))).await;
                if self.io.monotonic_ns() >= waiting.until {
                    return waiting.answer.set(Err(master_not_discovered()));
                }
                self.queue.again(waiting);
            }
            Err(e) => waiting.answer.set(Err(e)),
        }
    }

    async fn ask_master<T: serde::de::DeserializeOwned>(
        &self,
        leader: NodeId,
        kind: MessageKind,
        message: &impl Serialize,
    ) -> ApiResult<T> {
        let (Some(transport), Some(to)) = (&self.transport, self.address_of(leader)) else {
            return Err(master_not_discovered());
        };
        let asked = transport.request(&to, WireLane::Cluster, kind, encode(message)?, UPDATE_WAIT).await;
        decode(&asked.map_err(|e| of_transport(e, leader))?)
    }

    /// Tells the master of a copy; on the master itself, does what follows. Answered when that is committed.
    pub async fn copy_news(&self, news: CopyNews) -> ApiResult<()> {
        if let Some(leader) = self.other_leader() {
            let kind = if news.failed.is_some() { MessageKind::ShardFailed } else { MessageKind::ShardStarted };
            return self.ask_master::<()>(leader, kind, &news).await;
        }
        let (source, update) = self.update_of(news);
        self.update(source, update).await.map(drop)
    }

    fn update_of(&self, news: CopyNews) -> (String, StateUpdate) {
        let now_ms = self.io.now_ms();
        let what = if news.failed.is_some() { "shard-failed" } else { "shard-started" };
        let source = format!("{what} [{}][{}] [{}]", news.uuid, news.shard, news.allocation);
        let update: StateUpdate = Box::new(move |state| {
            let CopyNews { uuid, shard, allocation, term, failed } = &news;
            let changed = match failed {
                None => allocation::shard_started(state, uuid, *shard, *allocation, *term),
                Some(reason) => allocation::shard_failed(state, uuid, *shard, *allocation, *term, reason, now_ms),
            };
            match changed {
                Ok(next) => Ok(next),
                // The index is gone: so is what there was to say.
                Err(allocation::Refusal::NoSuchShard) if term.is_none() => Ok(None),
                Err(refusal) => Err(ApiError::new(
                    409,
                    "no_longer_primary_shard_exception",
                    format!("[{uuid}][{shard}] the news was refused: {refusal:?}"),
                )),
            }
        });
        (source, update)
    }

    /// Looks after what is due without any news: delayed allocations, nodes that have not said what they have.
    pub(super) async fn watch(self: Rc<Self>) {
        let mut asked = self.io.monotonic_ns();
        while !self.stopping.get() {
            self.io.sleep(LOOK).await;
            if !self.machine.borrow().accepts_updates() {
                continue;
            }
            let due = self.allocation.wake_up_ms.get().is_some_and(|at| at <= self.io.now_ms());
            if due {
                self.allocation.wake_up_ms.set(None);
                self.reroute_soon();
            }
            let state = Arc::clone(&self.current.borrow().state);
            let now = self.io.monotonic_ns();
            // A primary that must come from a disk: the nodes may have it, since they were asked.
            let wanted = |copy: &ShardRouting| {
                copy.primary
                    && copy.state == CopyState::Unassigned
                    && copy.recovery_source == RecoverySource::ExistingStore
            };
            let missing = state.routing.values().any(|index| index.shards.iter().flatten().any(wanted));
            let due = missing || now.saturating_sub(asked) > INFO_INTERVAL.as_nanos() as u64;
            if self.transport.is_some() && due {
                asked = now;
                self.ask_nodes(state.nodes.values().filter(|node| node.is_data()).map(|node| node.id).collect());
            }
            self.follow_nodes(&state);
        }
    }

    /// Allocates what can be allocated now.
    fn reroute_soon(&self) {
        self.enqueue("reroute", Box::new(|_| Ok(None)));
    }

    /// The updates that wait here or are in work.
    pub(super) fn pending(&self) -> Vec<PendingUpdate> {
        self.queue.pending(self.io.monotonic_ns())
    }

    /// A master asks new data nodes what is on their disks.
    pub(super) fn follow_nodes(self: &Rc<Self>, state: &ClusterState) {
        if !self.machine.borrow().is_established() {
            return;
        }
        let known: Vec<NodeId> = self.allocation.inputs.borrow().stored_copies.keys().copied().collect();
        let asking = state.nodes.values().filter(|node| node.is_data() && !known.contains(&node.id));
        self.ask_nodes(asking.map(|node| node.id).collect());
    }

    /// What is known of the nodes' disks: nothing on a node that does not lead.
    pub(super) fn known_inputs(&self) -> AllocationInputs {
        if !self.machine.borrow().is_established() {
            return AllocationInputs::default();
        }
        let own = self.shared.stored_copies();
        let mut inputs = self.allocation.inputs.borrow().clone();
        inputs.stored_copies.insert(self.machine_node().id, own);
        inputs
    }

    /// Asks nodes what is on their disks, and how full those are.
    fn ask_nodes(self: &Rc<Self>, nodes: Vec<NodeId>) {
        for node in nodes {
            if !self.asking.borrow_mut().insert(node) {
                continue;
            }
            let this = Rc::clone(self);
            let ask = async move {
                let stored = this.stored_on(node).await;
                this.asking.borrow_mut().remove(&node);
                match stored {
                    Ok(stored) => {
                        let copies = stored.copies.into_iter().map(|(uuid, shard, id)| ((uuid, shard), id)).collect();
                        let mut inputs = this.allocation.inputs.borrow_mut();
                        inputs.stored_copies.insert(node, copies);
                        if let Some((total, available)) = stored.disk {
                            inputs.disks.insert(node, DiskUsage { total, available });
                        }
                        drop(inputs);
                        this.reroute_soon();
                    }
                    Err(e) => tracing::debug!(node = %node, error = %e, "a node did not say which copies it has"),
                }
            };
            self.io.spawn(Lane::Background, Box::pin(ask));
        }
    }

    async fn stored_on(&self, node: NodeId) -> ApiResult<Stored> {
        if node == self.machine_node().id {
            return Ok(self.stored());
        }
        let (Some(transport), Some(to)) = (&self.transport, self.address_of(node)) else {
            return Err(ApiError::new(503, "node_not_connected_exception", format!("[{node}] is not connected")));
        };
        let kind = MessageKind::StoredCopies;
        let asked = transport.request(&to, WireLane::Cluster, kind, Payload::new(), STORED_WAIT).await;
        decode(&asked.map_err(|e| of_transport(e, node))?)
    }

    fn stored(&self) -> Stored {
        let copies = self.shared.stored_copies().into_iter().map(|((uuid, shard), id)| (uuid, shard, id)).collect();
        let fs = rustix::fs::statvfs(&self.shared.config.data).ok();
        // As `df` reckons: blocks that are reserved for others are no part of the disk.
        let total = |fs: &rustix::fs::StatVfs| fs.f_blocks.saturating_sub(fs.f_bfree).saturating_add(fs.f_bavail);
        let disk = fs.map(|fs| (total(&fs) * fs.f_frsize, fs.f_bavail * fs.f_frsize));
        Stored { copies, disk }
    }

    async fn take_metadata(&self, payload: &[u8]) -> ApiResult<Payload> {
        let MetadataUpdate {
            source,
            base,
            indices,
            templates,
            index_templates,
            component_templates,
            persistent_settings,
            transient_settings,
            custom,
            routing,
        } = decode(payload)?;
        let update: StateUpdate = Box::new(move |state| {
            if state.metadata_version != base {
                let reason = format!("made from version [{base}], it is [{}] now", state.metadata_version);
                return Err(ApiError::new(409, CONFLICT, reason));
            }
            if let Some((made_from, _)) = &routing
                && *made_from != (Position { term: state.term, version: state.version })
            {
                let reason = format!("routing made from {made_from:?}, it is version [{}] now", state.version);
                return Err(ApiError::new(409, CONFLICT, reason));
            }
            Ok(Some(ClusterState {
                indices: indices.clone(),
                templates: templates.clone(),
                index_templates: index_templates.clone(),
                component_templates: component_templates.clone(),
                persistent_settings: persistent_settings.clone(),
                transient_settings: transient_settings.clone(),
                custom: custom.clone(),
                routing: routing.as_ref().map_or_else(|| state.routing.clone(), |(_, routing)| routing.clone()),
                ..state.clone()
            }))
        });
        let state = self.update_as_master(source, update).await?;
        encode(&state.version)
    }

    /// An update that another node sent: refused by a node that does not lead, not passed on.
    async fn update_as_master(&self, source: String, update: StateUpdate) -> ApiResult<Arc<ClusterState>> {
        if !self.machine.borrow().is_established() {
            return Err(ApiError::new(503, NOT_MASTER, "this node is not the master"));
        }
        self.update(source, update).await
    }

    async fn answer(self: Rc<Self>, kind: MessageKind, payload: Bytes) -> ApiResult<Payload> {
        match kind {
            MessageKind::Peers => encode(&*self.machine_node()),
            MessageKind::Ping => Ok(Payload::from(payload)),
            MessageKind::MetadataUpdate => self.take_metadata(&payload).await,
            MessageKind::ShardStarted | MessageKind::ShardFailed => {
                let (source, update) = self.update_of(decode(&payload)?);
                self.update_as_master(source, update).await?;
                encode(&())
            }
            MessageKind::StoredCopies => encode(&self.stored()),
            other => Err(ApiError::new(
                400,
                "illegal_argument_exception",
                format!("[{}] is not for this lane", other.name()),
            )),
        }
    }
}

/// The cluster lane's end.
pub struct ClusterCalls<I: NodeIo>(pub Rc<Master<I>>);

impl<I: NodeIo> Handler for ClusterCalls<I> {
    fn handle(
        &self,
        from: NodeId,
        kind: MessageKind,
        payload: Bytes,
    ) -> transport::LocalFuture<Result<Payload, RemoteError>> {
        if kind == MessageKind::Coordination {
            // At once, so that messages stay in order.
            return match decode::<Message<Arc<ClusterState>>>(&payload) {
                Ok(message) => {
                    self.0.post(Event::Message { from, message });
                    Box::pin(async { Ok(Payload::new()) })
                }
                Err(e) => Box::pin(async move { Err(to_remote(&e)) }),
            };
        }
        if kind == MessageKind::Publish {
            let taken = self.0.take_published(from, &payload).map_err(|e| to_remote(&e));
            return Box::pin(async move { taken.map(|()| Payload::new()) });
        }
        let master = Rc::clone(&self.0);
        Box::pin(async move { master.answer(kind, payload).await.map_err(|e| to_remote(&e)) })
    }
}

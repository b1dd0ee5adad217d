//! Runs the coordination machine: feeds it events, carries out its effects in order, applies what is committed.
//!
//! ```text
//! wire, timers, updates --events--> Coordinator --effects--> disk, wire, applier --Applied--> (events)
//! ```
//!
//! - One event at a time; nothing after a `Persist` leaves before the save has returned.
//! - States are applied by a task of their own: a shard that takes long to close does not delay an election. States that
//!   were overtaken are skipped.
//! - A save that fails ends the node's part in the cluster: nobody knows which of two states its disk holds.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use ringdex_engine::error::Error;
use ringdex_net::cluster::coordinator::{Effect, Event};
use ringdex_net::cluster::diff::{self, Diff};
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::messages::Message;
use ringdex_net::cluster::routing::CopyState;
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode};
use ringdex_net::cluster::value::{Position, StateValue};
use ringdex_net::transport::{PeerAddress, PeerEvent, Transport};
use ringdex_net::wire::{Lane as WireLane, MessageKind, Payload};

use super::Published as Applied;
use super::ShardKey;
use super::master::{Master, Outcome, compile_all, failed};
use super::remote::{decode, encode};
use crate::error::ApiResult;
use crate::io::{Lane, NodeIo};
use crate::metastore::Persisted;
use serde::{Deserialize, Serialize};

/// How long a node may take to say who it is.
const GREET_WAIT: Duration = Duration::from_secs(5);
/// Between two tries to save on a full disk.
const DISK_FULL_WAIT: Duration = Duration::from_secs(1);

type State = Arc<ClusterState>;

/// What `Publish` carries.
#[derive(Serialize, Deserialize)]
enum Published {
    Whole(State),
    Change(Box<Diff>),
}

impl<I: NodeIo> Master<I> {
    /// Feeds the machine until the node stops.
    pub(super) async fn drive(self: Rc<Self>) {
        self.post(Event::Tick);
        loop {
            loop {
                let event = self.events.borrow_mut().pop_front();
                let Some(event) = event else { break };
                let mut effects = Vec::new();
                {
                    let machine = &mut *self.machine.borrow_mut();
                    machine.step(self.io.monotonic_ns() / 1_000_000, event, &mut effects);
                    if cfg!(debug_assertions) {
                        machine.check();
                    }
                    self.shared.has_master.store(machine.has_master(), Ordering::Release);
                }
                self.perform(effects).await;
                self.stepped.raise();
            }
            if self.failed.borrow().is_some() {
                return;
            }
            let deadline = self.machine.borrow().deadline();
            match deadline {
                None => self.wake.wait().await,
                Some(at) => {
                    let now = self.io.monotonic_ns() / 1_000_000;
                    // At least a moment, whatever the machine says: nothing else runs on this core meanwhile.
                    let time = Duration::from_millis(at.saturating_sub(now).max(1));
                    or(self.wake.wait(), self.io.sleep(time)).await;
                    if self.events.borrow().is_empty() {
                        self.events.borrow_mut().push_back(Event::Tick);
                    }
                }
            }
        }
    }

    /// Something has happened.
    pub(super) fn post(&self, event: Event<State>) {
        self.events.borrow_mut().push_back(event);
        self.wake.raise();
    }

    async fn perform(self: &Rc<Self>, effects: Vec<Effect<State>>) {
        // The same bytes go to everyone who gets the same.
        let (mut whole, mut change): (Option<Bytes>, Option<Bytes>) = (None, None);
        for effect in effects {
            match effect {
                Effect::Persist { ticket, term, state } => {
                    if !self.persist(term, state).await {
                        return;
                    }
                    self.post(Event::Persisted(ticket));
                }
                Effect::Send { to, message } => self.tell(to, &message),
                // All of one step are of one state, and all bases are the state before it.
                Effect::Publish { to, state, base } => {
                    let bytes = if base.is_some() { &mut change } else { &mut whole };
                    if bytes.is_none() {
                        let sent = match &base {
                            Some(base) => Published::Change(Box::new(Diff::between(base, &state))),
                            None => Published::Whole(state),
                        };
                        match encode(&sent) {
                            Ok(payload) => *bytes = Some(payload.into_bytes()),
                            Err(e) => tracing::error!(error = %e, "a cluster state cannot be encoded"),
                        }
                    }
                    if let (Some(bytes), Some(transport), Some(to)) = (bytes, &self.transport, self.address_of(to)) {
                        let payload = Payload::from(bytes.clone());
                        transport.notify(&to, WireLane::Cluster, MessageKind::Publish, payload);
                    }
                }
                Effect::Connect { address } => self.connect(address),
                Effect::Commit(state) => {
                    *self.committed.borrow_mut() = Some(state);
                    self.commit_now.raise();
                }
                Effect::BecameCandidate { term } => tracing::info!(term, "there is no master"),
                Effect::BecameLeader { term } => tracing::info!(term, "elected master"),
                Effect::BecameFollower { term, leader } => {
                    tracing::info!(term, leader = %leader, "follows a master");
                }
                Effect::PublicationDone { id, unapplied, .. } => self.outcome(id, Outcome::Done { unapplied }),
                Effect::PublicationFailed { id, .. } => self.outcome(id, Outcome::Failed),
                Effect::UpdateRejected { id, .. } => self.outcome(Some(id), Outcome::Rejected),
                Effect::JoinRefused { by, reason } => {
                    tracing::warn!(by = %by, reason, "a master does not take this node in")
                }
                Effect::Reject { from, why } => tracing::debug!(from = %from, ?why, "a message was not acted on"),
            }
        }
    }

    /// A state from the leader, whole or as a change of what this node accepted last.
    pub(super) fn take_published(&self, from: NodeId, payload: &[u8]) -> ApiResult<()> {
        let state = match decode(payload)? {
            Published::Whole(state) => state,
            Published::Change(change) => {
                let base = Arc::clone(self.machine.borrow().last_accepted());
                match diff::apply(&base, &change) {
                    Ok(state) => Arc::new(state),
                    Err(e) => {
                        tracing::debug!(from = %from, ?e, "a change is of another state than the one here");
                        let position = Position { term: change.to_term(), version: change.to_version() };
                        self.tell(from, &Message::NeedFull { position });
                        return Ok(());
                    }
                }
            }
        };
        self.post(Event::Message { from, message: Message::PublishRequest { state } });
        Ok(())
    }

    fn outcome(&self, id: Option<u64>, outcome: Outcome) {
        if let Some(waiting) = id.and_then(|id| self.publishing.borrow_mut().remove(&id)) {
            waiting.set(outcome);
        }
    }

    /// Saves; false if that failed for good.
    async fn persist(&self, term: u64, state: Option<State>) -> bool {
        // Taken out while it is in use; a failed one never comes back.
        let Some(mut store) = self.store.borrow_mut().take() else { return false };
        let persisted = {
            let mut last = self.persisted.borrow_mut();
            last.current_term = term;
            if let Some(state) = state {
                last.state = ClusterState::clone(&state);
            }
            Persisted::clone(&last)
        };
        loop {
            match store.save(&persisted).await {
                Ok(()) => {
                    *self.store.borrow_mut() = Some(store);
                    return true;
                }
                Err(Error::DiskFull { reason }) => {
                    tracing::error!(reason, "no space for the cluster state; this node waits");
                    self.io.sleep(DISK_FULL_WAIT).await;
                    if self.stopping.get() {
                        return false;
                    }
                }
                Err(e) => {
                    let reason = e.to_string();
                    tracing::error!(error = %reason, "the cluster state cannot be saved; this node has no part in the cluster until a restart");
                    *self.failed.borrow_mut() = Some(reason.clone());
                    self.shared.has_master.store(false, Ordering::Release);
                    let waiting = std::mem::take(&mut *self.publishing.borrow_mut());
                    waiting.into_values().for_each(|one| one.set(Outcome::Unsaved(failed(&reason))));
                    return false;
                }
            }
        }
    }

    fn tell(&self, to: NodeId, message: &Message<State>) {
        match encode(message) {
            Ok(payload) => self.send(to, payload),
            Err(e) => tracing::error!(error = %e, "a message cannot be encoded"),
        }
    }

    fn send(&self, to: NodeId, payload: Payload) {
        let Some(transport) = &self.transport else { return };
        if let Some(address) = self.address_of(to) {
            transport.notify(&address, WireLane::Cluster, MessageKind::Coordination, payload);
        }
    }

    /// Where a node listens, as far as this one knows.
    pub(super) fn address_of(&self, node: NodeId) -> Option<PeerAddress> {
        let known = self.machine.borrow().node(node).and_then(|node| node.transport_address.parse().ok());
        let mut addresses = self.addresses.borrow_mut();
        if let Some(address) = known {
            addresses.insert(node, address);
        }
        // One that is no member any more, and was not told, asks on: it must hear that.
        let address = *addresses.get(&node)?;
        Some(PeerAddress { node: Some(node), address })
    }

    /// Opens a cluster lane and asks who is there.
    fn connect(self: &Rc<Self>, address: String) {
        let Some(transport) = self.transport.clone() else { return };
        let Ok(socket) = address.parse::<SocketAddr>() else {
            return tracing::warn!(address, "no address of a node");
        };
        // One try at a time to each address.
        if !self.connecting.borrow_mut().insert(socket) {
            return;
        }
        let this = Rc::clone(self);
        let greet = async move {
            let to = PeerAddress { node: None, address: socket };
            let me = this.machine_node();
            let asked = match encode(&*me) {
                Ok(hello) => transport.request(&to, WireLane::Cluster, MessageKind::Peers, hello, GREET_WAIT).await,
                Err(_) => return,
            };
            this.connecting.borrow_mut().remove(&socket);
            match asked.map(|bytes| decode::<DiscoveryNode>(&bytes)) {
                Ok(Ok(node)) if node.id == me.id => {}
                Ok(Ok(node)) => this.post(Event::PeerConnected(Arc::new(node))),
                Ok(Err(e)) => tracing::warn!(%socket, error = %e, "a node did not say who it is"),
                Err(e) => tracing::debug!(%socket, error = %e, "no node there"),
            }
        };
        self.io.spawn(Lane::Search, Box::pin(greet));
    }

    /// Hears of connections that break.
    pub(super) fn observe(self: &Rc<Self>, transport: &Rc<dyn Transport>) {
        let this = Rc::downgrade(self);
        transport.observe(Rc::new(move |event| {
            if let (Some(this), PeerEvent::Disconnected(node)) = (this.upgrade(), event) {
                this.post(Event::PeerDisconnected(node));
            }
        }));
    }

    /// Applies committed states, the newest first and only.
    pub(super) async fn apply_committed(self: Rc<Self>) {
        loop {
            self.commit_now.wait().await;
            let next = self.committed.borrow_mut().take();
            let Some(state) = next else { continue };
            let before = Arc::clone(&*self.current.borrow());
            if state.version <= before.state.version {
                continue;
            }
            let compiled = compile_all(&state, &before.compiled, true).unwrap_or_default();
            let position = state.position();
            let published = Arc::new(self.derive(state, compiled));
            self.publish(&published).await;
            self.shared.recovered.store(true, Ordering::Release);
            self.post(Event::Applied(position));
            self.applied.advance(position.version as i64);
            self.remove_deleted(&before, &published).await;
            self.remove_superseded(&published.state).await;
            self.follow_nodes(&published.state);
        }
    }

    /// The files of copies that have moved away, or that others were made in place of, go when all of those are there.
    async fn remove_superseded(&self, state: &ClusterState) {
        let Some(local) = self.shared.local else { return };
        for ((uuid, shard), stored) in self.shared.stored_copies() {
            // Nearly all are where they belong: the rest is asked of few.
            let Some(routing) = state.routing.get(&uuid).filter(|routing| routing.on_node(shard, local).is_none())
            else {
                continue;
            };
            let Some(index) = state.indices.values().find(|index| index.uuid == uuid) else { continue };
            let copies = routing.copies(shard);
            let whole = copies.len() == index.number_of_replicas as usize + 1
                && copies.iter().all(|copy| copy.state == CopyState::Started && copy.node.is_some());
            let in_sync = index.in_sync.get(shard as usize).is_some_and(|in_sync| in_sync.contains(&stored));
            if !whole || in_sync {
                continue;
            }
            let key: ShardKey = (uuid.as_str().into(), shard);
            if self.is_held(&key).await {
                // The next state finds it let go.
                continue;
            }
            match self.io.remove_directory(&self.shared.shard_path(&key)).await {
                Ok(()) => {
                    self.shared.note_stored(&uuid, shard, None);
                    tracing::info!(uuid, shard, copy = %stored, "removed a copy that others have taken the place of");
                }
                Err(e) => tracing::warn!(uuid, shard, error = %e, "a copy that nobody needs cannot be removed"),
            }
        }
    }

    /// Whether a core has a shard open, or is opening or closing it.
    async fn is_held(&self, key: &ShardKey) -> bool {
        for core in &self.shared.cores {
            let key = (Arc::clone(&key.0), key.1);
            let held = self.desk.call(core, Lane::Write, move |core| Box::pin(async move { core.holds(&key) }));
            if held.await != Ok(false) {
                return true;
            }
        }
        false
    }

    /// The files of indices that are gone go, too.
    async fn remove_deleted(&self, before: &Applied, after: &Applied) {
        let alive: std::collections::BTreeSet<&str> =
            after.state.indices.values().map(|index| index.uuid.as_str()).collect();
        for index in before.state.indices.values().filter(|index| !alive.contains(index.uuid.as_str())) {
            if let Err(e) = self.io.remove_directory(&self.shared.index_path(&index.uuid)).await {
                tracing::warn!(uuid = index.uuid, error = %e, "the directory of a deleted index is left until the next start");
            }
        }
    }
}

//! The master: the only place where the cluster state changes. Every node has one; the one that leads publishes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringdex_engine::error::Error;
use ringdex_engine::store::{BLOCK, Directory, File};
use ringdex_net::cluster::allocation::{self, AllocationInputs};
use ringdex_net::cluster::coordinator::{self, Coordinator, Event, OnNodesChanged};
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata};
use ringdex_net::cluster::value::StateValue;
use ringdex_net::transport::Transport;
use serde_json::json;

use super::gateway::Gateway;
use super::queue::{Answer, Queue, Waiting};
use super::{Compiled, Published, Shared};
use crate::backend::{LocalFuture, StateUpdate};
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::mesh::{Desk, OneShot, panic_text};
use crate::metastore::{Loaded, MetaStore, Persisted};
use crate::rest::passed::master_not_discovered;
use crate::shard::identity;
use crate::shard::signal::{Signal, Watermark};
use crate::stats::{self, Stage};

/// Section of `ClusterState::custom` that remembers deleted indices, by uuid.
pub const GRAVEYARD: &str = "index-graveyard";
/// Deleted indices remembered.
const TOMBSTONES_MAX: usize = 500;
/// Updates waiting before more are refused.
const UPDATES_MAX: usize = 10_000;
/// How long an update waits for a master (`master_timeout`).
const MASTER_WAIT: Duration = Duration::from_secs(30);
/// How often a node without a master looks whether updates have waited too long.
const MASTER_LOOK: Duration = Duration::from_millis(100);
/// Allocated and removed again before indices are created.
const ROOM_PROBE: &str = "room-probe";
/// What a new shard allocates: its first translog generation, a commit point, directories.
const SHARD_BYTES: u64 = (256 << 10) + 8 * BLOCK as u64;
const PROBE_BYTES_MAX: u64 = 64 << 20;

/// What became of a publication.
pub(super) enum Outcome {
    /// Committed; these members are not known to have applied it.
    Done {
        /// Members.
        unapplied: Vec<NodeId>,
    },
    /// Not committed by this master; a later one may still do so.
    Failed,
    /// Not published.
    Rejected,
    /// This node's disk failed.
    Unsaved(ApiError),
}

/// A node's part in the cluster state: agrees on it with others, changes it while it leads, applies it.
pub struct Master<I: NodeIo> {
    pub(super) io: I,
    pub(super) shared: Arc<Shared<I>>,
    pub(super) desk: Rc<Desk>,
    node: Arc<DiscoveryNode>,
    // driver.rs
    pub(super) machine: RefCell<Coordinator<Arc<ClusterState>>>,
    pub(super) events: RefCell<VecDeque<Event<Arc<ClusterState>>>>,
    pub(super) wake: Signal,
    /// After every event.
    pub(super) stepped: Signal,
    pub(super) store: RefCell<Option<MetaStore<I::Directory>>>,
    /// What the disk holds, or will when the save under way is done.
    pub(super) persisted: RefCell<Persisted>,
    pub(super) transport: Option<Rc<dyn Transport>>,
    pub(super) connecting: RefCell<BTreeSet<SocketAddr>>,
    /// Where nodes were last known to listen.
    pub(super) addresses: RefCell<BTreeMap<NodeId, SocketAddr>>,
    pub(super) committed: RefCell<Option<Arc<ClusterState>>>,
    pub(super) commit_now: Signal,
    pub(super) applied: Watermark,
    /// What the cores have.
    pub(super) current: RefCell<Arc<Published>>,
    // updates
    pub(super) queue: Queue,
    pub(super) publishing: RefCell<BTreeMap<u64, OneShot<Outcome>>>,
    next_update: Cell<u64>,
    pub(super) allocation: Rc<Allocation>,
    /// Nodes that are being asked what is on their disks.
    pub(super) asking: RefCell<BTreeSet<NodeId>>,
    pub(super) stopping: Cell<bool>,
    /// Set when a save failed: the disk may hold either state, so no other may be made.
    pub(super) failed: RefCell<Option<String>>,
}

/// What the master knows for allocation that the state does not say.
#[derive(Default)]
pub(super) struct Allocation {
    pub(super) inputs: RefCell<AllocationInputs>,
    /// When a reroute is due though nothing happened (milliseconds since 1970).
    pub(super) wake_up_ms: Cell<Option<i64>>,
    gateway: Gateway,
}

impl Allocation {
    /// Gives missing copies a place.
    fn reroute(&self, state: ClusterState, now_ms: i64, seed: u128) -> ClusterState {
        let mut inputs = self.inputs.borrow_mut();
        (inputs.now_ms, inputs.seed) = (now_ms, seed);
        if let Some(until) = self.gateway.holds(&state, now_ms) {
            self.wake_up_ms.set(until);
            return state;
        }
        let rerouted = allocation::reroute(&state, &inputs);
        self.wake_up_ms.set(rerouted.wake_up_ms);
        rerouted.state.unwrap_or(state)
    }
}

/// What was found on the disk at start.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Index directories, by uuid.
    pub indices: Vec<String>,
    /// Shard directories; none = wherever the state has a shard.
    pub shards: Option<Vec<(String, u32)>>,
}

/// Takes up the state that was found (or none) and its part in the cluster.
pub async fn start_master<I: NodeIo>(
    io: I,
    shared: Arc<Shared<I>>,
    desk: Rc<Desk>,
    mut store: MetaStore<I::Directory>,
    loaded: Loaded,
    on_disk: Found,
    transport: Option<Rc<dyn Transport>>,
) -> ApiResult<Rc<Master<I>>> {
    for unreadable in &loaded.unreadable {
        tracing::warn!(reason = %unreadable, "a cluster state that was not saved to its end, or is damaged, is left aside");
    }
    let Some(local) = shared.local else {
        return Err(ApiError::new(500, "illegal_state_exception", format!("[{}] is no node id", shared.info.id)));
    };
    let alone = transport.is_none();
    let is_new = loaded.persisted.is_none();
    let mut persisted =
        loaded.persisted.unwrap_or_else(|| Persisted { node_id: shared.info.id.clone(), ..Persisted::default() });
    take_up(&mut persisted, local, &shared.config.cluster_name);
    if is_new {
        // Twice: from now on both slots are whole.
        store.save(&persisted).await?;
        store.save(&persisted).await?;
    }
    let node = Arc::new(shared.discovery_node(local));
    let mut config = coordinator::Config::new(Arc::clone(&node));
    config.seeds = shared.config.seed_hosts.iter().map(ToString::to_string).collect();
    config.initial_masters.clone_from(&shared.config.initial_master_nodes);
    if config.initial_masters.is_empty() && config.seeds.is_empty() {
        config.initial_masters = vec![node.name.clone()];
    }
    if alone {
        // Nobody else can have a say.
        config.initial_masters = vec![node.name.clone()];
    }
    shared.config.fault_detection(&mut config.follower_check, &mut config.leader_check)?;
    let allocation = Rc::new(Allocation { gateway: Gateway::new(&shared.config)?, ..Allocation::default() });
    let hook = nodes_changed(io.clone(), Arc::clone(&shared), Rc::clone(&allocation));
    let start = coordinator::Persisted {
        current_term: persisted.current_term,
        last_accepted: Arc::new(persisted.state.clone()),
    };
    let now = io.monotonic_ns() / 1_000_000;
    let machine = Coordinator::new(config, start, hook, now, io.random());
    let found = Arc::new(persisted.state.clone());
    let master = Rc::new(Master {
        io,
        shared,
        desk,
        node,
        machine: RefCell::new(machine),
        events: RefCell::default(),
        wake: Signal::default(),
        stepped: Signal::default(),
        store: RefCell::new(Some(store)),
        persisted: RefCell::new(persisted),
        transport,
        connecting: RefCell::default(),
        addresses: RefCell::default(),
        committed: RefCell::default(),
        commit_now: Signal::default(),
        applied: Watermark::new(0),
        current: RefCell::default(),
        queue: Queue::default(),
        publishing: RefCell::default(),
        next_update: Cell::new(0),
        allocation,
        asking: RefCell::default(),
        stopping: Cell::new(false),
        failed: RefCell::default(),
    });
    master.sweep_directories(&found, on_disk.indices).await;
    master.find_copies(&found, on_disk.shards).await;
    if let Ok(directory) = master.io.directory(&master.shared.config.data).await {
        // Left by a crash, if at all.
        let _ = directory.remove(ROOM_PROBE).await;
    }
    if let Some(transport) = &master.transport {
        master.observe(transport);
    }
    let tasks: [(Lane, LocalFuture<'static, ()>); 4] = [
        (Lane::Search, Box::pin(Rc::clone(&master).drive())),
        (Lane::Write, Box::pin(Rc::clone(&master).apply_committed())),
        (Lane::Write, Box::pin(Rc::clone(&master).run())),
        (Lane::Background, Box::pin(Rc::clone(&master).watch())),
    ];
    for (lane, task) in tasks {
        master.io.spawn(lane, task);
    }
    if alone {
        // Nobody is waited for: the state is there when this returns.
        master.applied.reached(1).await;
    }
    Ok(master)
}

/// Makes what was found the beginning of this life: a state from before there were clusters is this node's own.
fn take_up(persisted: &mut Persisted, local: NodeId, cluster_name: &str) {
    let state = &mut persisted.state;
    state.cluster_name.clear();
    state.cluster_name.push_str(cluster_name);
    if state.version > 0 && state.last_accepted_config.is_empty() {
        state.last_accepted_config = [local].into();
        state.last_committed_config = [local].into();
        state.cluster_uuid_committed = !state.cluster_uuid.is_empty();
    }
    persisted.current_term = persisted.current_term.max(state.term);
}

/// What the leader does to the state in which nodes come and go.
fn nodes_changed<I: NodeIo>(
    io: I,
    shared: Arc<Shared<I>>,
    allocation: Rc<Allocation>,
) -> OnNodesChanged<Arc<ClusterState>> {
    Box::new(move |state, changes| {
        let now_ms = io.now_ms();
        let nodes = state.nodes.clone();
        let mut next = Arc::unwrap_or_clone(state);
        if next.cluster_uuid.is_empty() {
            next.cluster_uuid = uuid(&io);
        }
        if next.cluster_name.is_empty() {
            next.cluster_name.clone_from(&shared.config.cluster_name);
        }
        if changes.elected {
            allocation.gateway.elected();
        }
        if changes.elected && next.routing.is_empty() && !next.indices.is_empty() {
            next = allocation::adopt(&next, now_ms);
        }
        {
            let mut inputs = allocation.inputs.borrow_mut();
            for left in &changes.left {
                inputs.stored_copies.remove(left);
                inputs.disks.remove(left);
            }
            if let Some(local) = shared.local {
                inputs.stored_copies.insert(local, shared.stored_copies());
            }
        }
        let left = changes.left.iter().copied().collect();
        next = allocation::nodes_left(&next, &left, now_ms);
        next.nodes = nodes;
        next = allocation::follow_metadata(&next, now_ms);
        let seed = u128::from(io.random()) << 64 | u128::from(io.random());
        Arc::new(allocation.reroute(next, now_ms, seed))
    })
}

impl<I: NodeIo> Master<I> {
    /// Reads the names of the copies that are on the disk.
    async fn find_copies(&self, state: &ClusterState, shards: Option<Vec<(String, u32)>>) {
        let of_state = || {
            let of = |index: &Arc<IndexMetadata>| {
                let uuid = index.uuid.clone();
                (0..index.number_of_shards).map(move |shard| (uuid.clone(), shard))
            };
            state.indices.values().flat_map(of).collect()
        };
        for (uuid, shard) in shards.unwrap_or_else(of_state) {
            let path = self.shared.shard_path(&(uuid.as_str().into(), shard));
            let read = match self.io.directory(&path).await {
                Ok(directory) => identity::read(&directory).await.map_err(ApiError::from),
                Err(e) => Err(e),
            };
            match read {
                Ok(copy) => self.shared.note_stored(&uuid, shard, copy),
                Err(e) => {
                    tracing::error!(uuid, shard, error = %e, "a shard copy does not say which it is; it is left aside")
                }
            }
        }
    }

    /// This node, as others see it.
    pub(super) fn machine_node(&self) -> Arc<DiscoveryNode> {
        Arc::clone(&self.node)
    }

    /// Queues `update`; answers when every core of every node has applied its result. On a node that does not lead, the
    /// change is made from what this node knows, and taken by the master if that is still so.
    pub async fn update(&self, source: String, update: StateUpdate) -> Answer {
        if let Some(reason) = &*self.failed.borrow() {
            return Err(failed(reason));
        }
        if self.stopping.get() {
            return Err(ApiError::new(503, "node_closed_exception", "node closed"));
        }
        if self.queue.len() >= UPDATES_MAX {
            let reason = format!("rejected execution of a cluster state update: [{UPDATES_MAX}] are waiting");
            return Err(ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1"));
        }
        let now = self.io.monotonic_ns();
        self.queue.add(source, update, now, now + MASTER_WAIT.as_nanos() as u64).get().await
    }

    /// An update that nobody waits for.
    pub(super) fn enqueue(&self, source: &str, update: StateUpdate) {
        let now = self.io.monotonic_ns();
        self.queue.add(source.to_owned(), update, now, now + MASTER_WAIT.as_nanos() as u64);
    }

    /// Takes no more updates; those in work are finished. A leader hands over.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.queue.comes.raise();
        self.post(Event::Stop);
    }

    async fn run(self: Rc<Self>) {
        loop {
            let accepts = self.machine.borrow().accepts_updates();
            let some = self.queue.len() > 0;
            if self.stopping.get() && !some {
                return;
            }
            if !some {
                self.queue.comes.wait().await;
            } else if accepts {
                self.run_batch(self.queue.take_to_work()).await;
            } else if let Some(leader) = self.other_leader() {
                for waiting in self.queue.take() {
                    let this = Rc::clone(&self);
                    self.io.spawn(Lane::Write, Box::pin(async move { this.forward(leader, waiting).await }));
                }
            } else {
                self.expire();
                futures_lite::future::or(self.stepped.wait(), self.io.sleep(MASTER_LOOK)).await;
            }
        }
    }

    /// The node that leads, if it is not this one.
    pub(super) fn other_leader(&self) -> Option<NodeId> {
        let machine = self.machine.borrow();
        machine.leader().filter(|leader| *leader != self.node.id && machine.has_master())
    }

    /// Updates that have waited long enough for a master, or for a node that stops, are refused.
    fn expire(&self) {
        let now = self.io.monotonic_ns();
        let reason = self.failed.borrow().clone();
        let stopping = self.stopping.get();
        for answer in self.queue.expired(|waiting| reason.is_none() && !stopping && now < waiting.until) {
            answer.set(Err(reason.as_deref().map_or_else(master_not_discovered, failed)));
        }
    }

    async fn run_batch(self: &Rc<Self>, batch: Vec<Waiting>) {
        let begun = Instant::now();
        let before = Arc::clone(self.machine.borrow().last_accepted());
        let mut compiled = self.current.borrow().compiled.clone();
        let mut state = Arc::clone(&before);
        let mut accepted = Vec::new();
        for waiting in batch {
            let stepped = match self.step(&state, &compiled, &waiting.update) {
                Ok(Some((next, next_compiled))) => {
                    self.check_room(&state, &next).await.map(|()| Some((next, next_compiled)))
                }
                other => other,
            };
            match stepped {
                Ok(Some((next, next_compiled))) => {
                    tracing::debug!(source = waiting.source, "cluster state changes");
                    (state, compiled) = (Arc::new(next), next_compiled);
                    accepted.push(waiting);
                }
                Ok(None) => accepted.push(waiting),
                Err(e) => waiting.answer.set(Err(e)),
            }
        }
        let now_ms = self.io.now_ms();
        let mut next = ClusterState::clone(&state);
        bury(&before, &mut next, now_ms);
        next = allocation::follow_metadata(&next, now_ms);
        let seed = u128::from(self.io.random()) << 64 | u128::from(self.io.random());
        // What this node has changes as shards are made; others are asked when it matters.
        let own = self.shared.stored_copies();
        self.allocation.inputs.borrow_mut().stored_copies.insert(self.node.id, own);
        next = self.allocation.reroute(next, now_ms, seed);
        if next == *before {
            let current = Arc::clone(&self.current.borrow().state);
            accepted.iter().for_each(|waiting| waiting.answer.set(Ok(Arc::clone(&current))));
            return;
        }
        if let Err(e) = self.make_room(&next).await {
            accepted.iter().for_each(|waiting| waiting.answer.set(Err(e.clone())));
            return;
        }
        let id = self.next_update.get();
        self.next_update.set(id + 1);
        let outcome = OneShot::default();
        self.publishing.borrow_mut().insert(id, outcome.clone());
        let base = before.position();
        self.post(Event::Update { id, base, value: Arc::new(next) });
        // Until it is committed, or not: the next batch is made from what it leaves.
        let this = Rc::clone(self);
        let settled: OneShot<()> = OneShot::default();
        let committed = settled.clone();
        let answer_all = async move {
            let outcome = outcome.get().await;
            committed.set(());
            stats::record_since(Stage::StateUpdate, begun);
            match outcome {
                Outcome::Done { unapplied } => {
                    if !unapplied.is_empty() {
                        tracing::warn!(?unapplied, "nodes have not applied a cluster state in time");
                    }
                    this.applied.reached(base.version as i64 + 1).await;
                    let state = Arc::clone(&this.current.borrow().state);
                    accepted.iter().for_each(|waiting| waiting.answer.set(Ok(Arc::clone(&state))));
                }
                Outcome::Failed => {
                    let reason = "the cluster state was not committed: this node is no longer master";
                    let error = ApiError::new(503, "failed_to_commit_cluster_state_exception", reason);
                    accepted.iter().for_each(|waiting| waiting.answer.set(Err(error.clone())));
                }
                Outcome::Unsaved(error) => {
                    accepted.iter().for_each(|waiting| waiting.answer.set(Err(error.clone())));
                }
                // Nothing has happened: again, from the state as it is now.
                Outcome::Rejected => {
                    this.queue.all_again(accepted);
                }
            }
        };
        self.io.spawn(Lane::Write, Box::pin(answer_all));
        let moved_on = async {
            loop {
                self.stepped.wait().await;
                let machine = self.machine.borrow();
                if machine.accepts_updates() || !machine.is_established() || self.failed.borrow().is_some() {
                    return;
                }
            }
        };
        futures_lite::future::or(moved_on, settled.get()).await;
    }

    /// One update: the next state and what it compiles to.
    #[allow(clippy::type_complexity)]
    fn step(
        &self,
        state: &ClusterState,
        compiled: &BTreeMap<String, Compiled>,
        update: &StateUpdate,
    ) -> ApiResult<Option<(ClusterState, BTreeMap<String, Compiled>)>> {
        let updated = catch_unwind(AssertUnwindSafe(|| update(state)));
        let Some(mut next) = updated.unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            tracing::error!(panic = %text, "a cluster state update panicked");
            Err(ApiError::new(500, "exception", format!("internal error: {text}")))
        })?
        else {
            return Ok(None);
        };
        for index in next.indices.values() {
            check_uuid(&index.uuid)?;
        }
        if next.metadata_version == state.metadata_version && !same_metadata(state, &next) {
            next.metadata_version += 1;
        }
        let compiled = compile_all(&next, compiled, false)?;
        Ok(Some((next, compiled)))
    }

    /// Makes sure that the state fits on this disk, while it can still be refused.
    async fn make_room(&self, state: &ClusterState) -> ApiResult<()> {
        let persisted = Persisted { state: state.clone(), ..self.persisted.borrow().clone() };
        let Some(mut store) = self.store.borrow_mut().take() else { return Err(failed("an earlier save failed")) };
        let reserved = store.reserve(&persisted).await;
        match reserved {
            Ok(()) => {
                *self.store.borrow_mut() = Some(store);
                Ok(())
            }
            Err(e @ Error::DiskFull { .. }) => {
                *self.store.borrow_mut() = Some(store);
                Err(e.into())
            }
            Err(e) => {
                let reason = e.to_string();
                tracing::error!(error = %reason, "the cluster state cannot be saved; it will not change until a restart");
                *self.failed.borrow_mut() = Some(reason.clone());
                Err(failed(&reason))
            }
        }
    }

    /// Refuses an update whose new indices find no space for their shards, before anything of them is there.
    async fn check_room(&self, before: &ClusterState, after: &ClusterState) -> ApiResult<()> {
        let known: BTreeSet<&str> = before.indices.values().map(|index| index.uuid.as_str()).collect();
        let new = after.indices.values().filter(|index| index.open && !known.contains(index.uuid.as_str()));
        let shards: u64 = new.map(|index| u64::from(index.number_of_shards)).sum();
        if shards == 0 {
            return Ok(());
        }
        let directory = self.io.directory(&self.shared.config.data).await?;
        let probed = match directory.create(ROOM_PROBE, (shards * SHARD_BYTES).min(PROBE_BYTES_MAX)).await {
            Ok(file) => file.close().await,
            Err(e) => Err(e),
        };
        let _ = directory.remove(ROOM_PROBE).await;
        match probed {
            Err(e @ Error::DiskFull { .. }) => Err(e.into()),
            // Whatever else is wrong shows where it matters.
            _ => Ok(()),
        }
    }

    pub(super) fn derive(&self, state: Arc<ClusterState>, compiled: BTreeMap<String, Compiled>) -> Published {
        let placement = self.current.borrow().placement.next(&state, self.shared.local, self.shared.cores.len());
        Published { state, compiled, placement }
    }

    /// Hands `published` to every core and waits until all have it.
    pub(super) async fn publish(&self, published: &Arc<Published>) {
        *self.current.borrow_mut() = Arc::clone(published);
        let mut calls = Vec::new();
        for core in &self.shared.cores {
            let published = Arc::clone(published);
            calls.push(
                self.desk.call(core, Lane::Write, move |core| Box::pin(async move { core.apply(published).await })),
            );
        }
        for (number, call) in calls.into_iter().enumerate() {
            let mut outcome = call.await;
            // A full mailbox is for requests to be refused by; the state must arrive.
            while outcome == Err(crate::mesh::CallError::Full) {
                self.io.sleep(Duration::from_millis(10)).await;
                let published = Arc::clone(published);
                let again = self.desk.call(&self.shared.cores[number], Lane::Write, move |core| {
                    Box::pin(async move { core.apply(published).await })
                });
                outcome = again.await;
            }
            if let Err(e) = outcome {
                tracing::error!(core = number, error = %e, "a core did not apply the cluster state");
            }
        }
    }

    /// At start: finishes removals that a crash cut short, reports what nobody knows.
    async fn sweep_directories(&self, state: &ClusterState, directories: Vec<String>) {
        let known: BTreeSet<&str> = state.indices.values().map(|index| index.uuid.as_str()).collect();
        let buried = state.custom.get(GRAVEYARD);
        for uuid in directories {
            if known.contains(uuid.as_str()) {
                continue;
            }
            let path = self.shared.index_path(&uuid);
            if buried.is_some_and(|b| b.contains_key(&uuid)) {
                match self.io.remove_directory(&path).await {
                    Ok(()) => tracing::info!(uuid, "removed what was left of a deleted index"),
                    Err(e) => tracing::warn!(uuid, error = %e, "cannot remove what is left of a deleted index"),
                }
            } else {
                tracing::warn!(path = %path.display(), "dangling index: a directory that no index of the cluster state owns; left as it is");
            }
        }
    }
}

/// Whether two states differ in nothing but nodes, routing, versions and what belongs to the election.
fn same_metadata(a: &ClusterState, b: &ClusterState) -> bool {
    a.indices == b.indices
        && a.templates == b.templates
        && a.index_templates == b.index_templates
        && a.component_templates == b.component_templates
        && a.persistent_settings == b.persistent_settings
        && a.transient_settings == b.transient_settings
        && a.custom == b.custom
}

pub(super) fn failed(reason: &str) -> ApiError {
    ApiError::new(503, "cluster_block_exception", format!("the cluster state cannot be saved: {reason}"))
}

/// 22 URL-safe characters.
pub(super) fn uuid<I: NodeIo>(io: &I) -> String {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&io.random().to_le_bytes());
    bytes[8..].copy_from_slice(&io.random().to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A uuid names a directory, so it must not name any other.
fn check_uuid(uuid: &str) -> ApiResult<()> {
    let plain = !uuid.is_empty() && uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain { Ok(()) } else { Err(ApiError::illegal_argument(format!("index uuid [{uuid}] cannot name a directory"))) }
}

/// Compiles what changed. At start (`lenient`) an index that no longer compiles is left out, and its shards fail, rather than
/// the whole node.
pub(super) fn compile_all(
    state: &ClusterState,
    previous: &BTreeMap<String, Compiled>,
    lenient: bool,
) -> ApiResult<BTreeMap<String, Compiled>> {
    let mut compiled = BTreeMap::new();
    for index in state.indices.values() {
        let before = previous.get(&index.uuid);
        match Compiled::next(index, before) {
            Ok(next) => {
                compiled.insert(index.uuid.clone(), next);
            }
            Err(e) if lenient => {
                tracing::error!(index = index.name, error = %e, "the mapping of an index cannot be compiled");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(compiled)
}

/// Remembers in `next` which indices are gone from `before`.
fn bury(before: &ClusterState, next: &mut ClusterState, now_ms: i64) {
    let alive: BTreeSet<&str> = next.indices.values().map(|index| index.uuid.as_str()).collect();
    let gone: Vec<_> = before.indices.values().filter(|i| !alive.contains(i.uuid.as_str())).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let graves = next.custom.entry(GRAVEYARD.to_owned()).or_default();
    for index in &gone {
        let grave = json!({ "index_name": index.name, "delete_date_in_millis": now_ms });
        graves.insert(index.uuid.clone(), Arc::new(grave));
    }
    while graves.len() > TOMBSTONES_MAX {
        let date = |v: &serde_json::Value| v["delete_date_in_millis"].as_i64().unwrap_or(0);
        let Some(oldest) = graves.iter().min_by_key(|(_, v)| date(v)).map(|(k, _)| k.clone()) else { break };
        graves.remove(&oldest);
    }
}

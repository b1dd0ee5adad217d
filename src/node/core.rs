//! One core: the shards on it, and the node as REST on this core sees it.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use ringdex_engine::ids::PrimaryTerm;
use ringdex_net::cluster::allocation::{ANY_COPY, AllocationInputs};
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::routing::{
    AllocationStatus, CopyState, RecoverySource, ShardRouting, UnassignedInfo, UnassignedReason,
};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use ringdex_net::transport::Transport;
use ringdex_net::wire::replicate::{Replicate, ReplicateAck};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::report::{CoreReport, HttpCounters, NodeReport};
use super::route::{self, Router};
use super::{Compiled, CopyNews, Published, ShardKey, Shared, not_recovered};
use crate::backend::{Backend, CompiledIndex, LocalFuture, NodeInfo, PendingUpdate, ShardHealth, StateUpdate};
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::memory::NodeMemory;
use crate::mesh::{Call, CallError, Desk, OneShot, panic_text};
use crate::metadata::mapping;
use crate::rest::passed::{Answered, PassedOn};
use crate::shard::identity;
use crate::shard::message::{PeerRecovery, RecoveryStage, ShardId, ShardRequest, ShardResponse};
use crate::shard::signal::Watermark;
use crate::shard::{CopySpec, Shard, ShardOwner, ShardSpec, Source};
use crate::stats::hot::{self, HotTask};
use crate::stats::interval::Reading;
use crate::stats::timeline::{self, Span, Timeline};
use crate::stats::{self, Snapshot, Stage};
use crate::tasks::{Ask, Registry, TaskInfo};

/// Times a shard is opened before it is given up (`index.allocation.max_retries`).
const OPEN_TRIES: u32 = 5;
/// After these the next tries of a shard that finds no space follow each other so far apart.
const DISK_FULL_WAIT: Duration = Duration::from_secs(5);
/// The master is told of a copy again after this.
const NEWS_WAIT: Duration = Duration::from_secs(1);
/// How long an update waits for the primaries of new indices before it is answered without them.
const START_WAIT: Duration = Duration::from_secs(30);
/// How long a write waits for a recovering shard.
const RECOVERY_WAIT: Duration = Duration::from_secs(60);

/// A core of the node.
pub struct Core<I: NodeIo> {
    pub(super) io: I,
    number: usize,
    shared: Arc<Shared<I>>,
    pub(super) desk: Rc<Desk>,
    published: RefCell<Arc<Published>>,
    shards: RefCell<FxHashMap<ShardKey, Slot<I>>>,
    /// Shards that have been closed but may still have work in flight: their files are theirs until they are gone.
    leaving: RefCell<FxHashMap<ShardKey, Weak<Shard<I>>>>,
    /// Copies whose files are not to be used if there is another: what is damaged may look whole until it is read.
    pub(super) damaged: RefCell<FxHashSet<ShardKey>>,
    /// Shards that are being opened.
    openings: RefCell<FxHashMap<ShardKey, Rc<Opening>>>,
    http: RefCell<Option<Box<dyn Fn() -> HttpCounters>>>,
    stopping: Cell<bool>,
    generations: Cell<u64>,
    tasks: Rc<Registry>,
    /// Chooses copies.
    pub(super) router: Router,
    /// The way to other nodes; none on a node that has none.
    pub(super) transport: RefCell<Option<Rc<dyn Transport>>>,
    /// Recoveries that this core is the source of.
    pub(super) sources: RefCell<FxHashMap<u64, Rc<Source<I>>>>,
    /// Version of the applied state.
    pub(super) applied: Watermark,
    this: Weak<Core<I>>,
}

/// When a timed request was sent, and whether to another core.
#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    hops: bool,
}

/// What a shard answers, what it spent its time on, and when it was ready to go to another core.
struct Answer {
    answer: ApiResult<ShardResponse>,
    spans: Vec<Span>,
    at: Option<Instant>,
}

impl Answer {
    /// The answer; its spans go to `timeline`.
    fn told(self, timeline: Option<&Timeline>) -> ApiResult<ShardResponse> {
        if let Some(timeline) = timeline {
            timeline.extend(self.spans);
            if let Some(at) = self.at {
                timeline.note(Stage::CoreHop, at, Instant::now());
            }
        }
        self.answer
    }
}

/// A shard of this core and where it is in its life.
struct Slot<I: NodeIo> {
    stage: SlotStage<I>,
    /// Tells an opening that it is not wanted any more.
    generation: u64,
    /// Recovers from its primary, and takes new operations already.
    joining: Option<Rc<Shard<I>>>,
    /// How far its recovery is.
    progress: Rc<RefCell<PeerRecovery>>,
    /// Which copy of the shard it is, as the last state has it.
    copy: Option<ShardRouting>,
    waiting: Vec<OneShot<()>>,
}

/// A task that opens a shard. It alone touches the shard's files: the next one waits until it is over.
struct Opening {
    /// 1 when nobody wants what it opens: it need not wait for others any more.
    given_up: Watermark,
    /// 1 when it has ended.
    over: Watermark,
}

/// Says that an opening has ended, however it ends.
struct Over<I: NodeIo> {
    core: Rc<Core<I>>,
    key: ShardKey,
    opening: Rc<Opening>,
}

impl<I: NodeIo> Drop for Over<I> {
    fn drop(&mut self) {
        self.opening.over.advance(1);
        let mut openings = self.core.openings.borrow_mut();
        if openings.get(&self.key).is_some_and(|last| Rc::ptr_eq(last, &self.opening)) {
            openings.remove(&self.key);
        }
    }
}

enum SlotStage<I: NodeIo> {
    Recovering,
    Started(Rc<Shard<I>>),
    Failed,
}

impl<I: NodeIo> Core<I> {
    /// A core without shards, knowing no state.
    #[must_use]
    pub fn new(io: I, number: usize, shared: Arc<Shared<I>>, desk: Rc<Desk>) -> Rc<Core<I>> {
        let tasks = Registry::new(number, shared.cores.len(), io.now_ms());
        Rc::new_cyclic(|this| Core {
            tasks,
            io,
            number,
            shared,
            desk,
            published: RefCell::default(),
            shards: RefCell::default(),
            leaving: RefCell::default(),
            damaged: RefCell::default(),
            openings: RefCell::default(),
            http: RefCell::default(),
            stopping: Cell::new(false),
            generations: Cell::new(0),
            router: Router::default(),
            transport: RefCell::default(),
            sources: RefCell::default(),
            applied: Watermark::new(0),
            this: this.clone(),
        })
    }

    /// Which of the node's cores this is.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether the cluster state has been loaded.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.shared.is_recovered()
    }

    /// Waits for the cluster state for at most `bound`: a node that has just been started has it in a moment.
    pub async fn until_recovered(&self, bound: Duration) -> bool {
        let until = self.io.monotonic_ns() + bound.as_nanos() as u64;
        while !self.is_recovered() && !self.stopping.get() && self.io.monotonic_ns() < until {
            self.io.sleep(Duration::from_millis(5)).await;
        }
        self.is_recovered()
    }

    /// Where statistics get the HTTP counters of this core from.
    pub fn set_http_counters(&self, counters: impl Fn() -> HttpCounters + 'static) {
        *self.http.borrow_mut() = Some(Box::new(counters));
    }

    pub(super) fn this(&self) -> Rc<Core<I>> {
        self.this.upgrade().expect("a core is used through its Rc")
    }

    /// Takes over a new state: shards that left this core are closed when this returns, new ones begin to open.
    pub async fn apply(&self, published: Arc<Published>) {
        let old = std::mem::replace(&mut *self.published.borrow_mut(), Arc::clone(&published));
        let state = &published.state;
        let mut wanted: FxHashMap<ShardKey, (Arc<IndexMetadata>, Option<ShardRouting>)> = FxHashMap::default();
        for index in state.indices.values().filter(|index| index.open) {
            let uuid: Arc<str> = index.uuid.as_str().into();
            for shard in 0..index.number_of_shards {
                if published.placement.core(&index.uuid, shard) == Some(self.number) {
                    let copy = self.own_copy(state, &uuid, shard);
                    wanted.insert((Arc::clone(&uuid), shard), (Arc::clone(index), copy));
                }
            }
        }
        let replaced = |key: &ShardKey, slot: &Slot<I>| match (wanted.get(key), &slot.copy) {
            (None, _) => true,
            (Some((_, Some(new))), Some(old)) => {
                // It failed and is to come back from its disk: perhaps in states that did not reach this node one by one.
                let failure =
                    |copy: &ShardRouting| copy.unassigned.as_ref().map(|info| (info.at_ms, info.details.clone()));
                let failed = old.active() || failure(old) != failure(new);
                failed && new.state == CopyState::Initializing || old.allocation_id != new.allocation_id
            }
            (Some((_, new)), old) => new.is_some() != old.is_some(),
        };
        let gone: Vec<ShardKey> =
            self.shards.borrow().iter().filter(|(key, slot)| replaced(key, slot)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let slot = self.shards.borrow_mut().remove(&key);
            self.shared.set_health(&key, ShardHealth::Missing);
            if let Some(opening) = self.openings.borrow().get(&key) {
                opening.given_up.advance(1);
            }
            let Some(slot) = slot else { continue };
            slot.waiting.iter().for_each(|waiting| waiting.set(()));
            if let SlotStage::Started(shard) = slot.stage {
                // A closed index is committed; a deleted one has nothing to lose.
                let keep = state.indices.values().any(|index| *index.uuid == *key.0);
                self.close_shard(&key, shard, keep).await;
            }
        }
        let mut changed = Vec::new();
        let mut new = Vec::new();
        for (key, (index, copy)) in wanted {
            if let Some(slot) = self.shards.borrow_mut().get_mut(&key) {
                slot.copy.clone_from(&copy);
            }
            match self.shards.borrow().get(&key).map(|slot| &slot.stage) {
                Some(SlotStage::Started(shard)) => {
                    let same = old.state.indices.get(&index.name).is_some_and(|before| Arc::ptr_eq(before, &index));
                    if !same {
                        changed.push((Rc::clone(shard), index));
                    }
                }
                Some(_) => {
                    // Recovering: operations of its primary may need the new mapping.
                    if let Some(shard) = self.shards.borrow().get(&key).and_then(|slot| slot.joining.clone()) {
                        changed.push((shard, index));
                    }
                }
                None => new.push((key, copy)),
            }
        }
        let running: Vec<(ShardKey, Rc<Shard<I>>)> = {
            let shards = self.shards.borrow();
            let live = shards.iter().filter_map(|(key, slot)| match (&slot.stage, &slot.joining) {
                (SlotStage::Started(shard), _) | (SlotStage::Recovering, Some(shard)) => {
                    Some((key.clone(), Rc::clone(shard)))
                }
                _ => None,
            });
            live.collect()
        };
        for (key, shard) in running {
            if let Some(spec) = self.copy_spec(state, &key) {
                shard.follow_copies(&spec);
            }
        }
        for (shard, index) in changed {
            if let Some(compiled) = published.compiled.get(&index.uuid) {
                shard.apply(index, compiled.index.clone());
            }
        }
        // In order, so that a seeded run is the same every time.
        new.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, copy) in new {
            self.open(key, copy, 1);
        }
        self.router.retain(state);
        self.applied.advance(state.version as i64);
    }

    /// The copy of a shard that the routing has on this node.
    fn own_copy(&self, state: &ClusterState, uuid: &str, shard: u32) -> Option<ShardRouting> {
        state.routing.get(uuid)?.on_node(shard, self.shared.local?).cloned()
    }

    fn next_generation(&self) -> u64 {
        self.generations.set(self.generations.get() + 1);
        self.generations.get()
    }

    /// Begins to open a shard.
    fn open(&self, key: ShardKey, copy: Option<ShardRouting>, attempt: u32) {
        let generation = self.next_generation();
        self.shared.set_health(&key, ShardHealth::Recovering);
        let waiting = self.shards.borrow_mut().remove(&key).map(|slot| slot.waiting).unwrap_or_default();
        let progress = PeerRecovery { start_ms: self.io.now_ms(), ..PeerRecovery::default() };
        let slot = Slot {
            stage: SlotStage::Recovering,
            generation,
            joining: None,
            progress: Rc::new(RefCell::new(progress)),
            copy: copy.clone(),
            waiting,
        };
        self.shards.borrow_mut().insert(key.clone(), slot);
        let this = self.this();
        let opening = Rc::new(Opening { given_up: Watermark::new(0), over: Watermark::new(0) });
        let before = self.openings.borrow_mut().insert(key.clone(), Rc::clone(&opening));
        let task = async move {
            let over = Over { core: Rc::clone(&this), key: key.clone(), opening };
            if let Some(before) = before {
                before.given_up.advance(1);
                before.over.reached(1).await;
            }
            let opening = this.open_shard(&key, copy.as_ref(), &over.opening.given_up);
            let opened = AssertUnwindSafe(opening).catch_unwind().await;
            let opened = opened.unwrap_or_else(|panic| {
                Err(ApiError::new(500, "exception", format!("opening panicked: {}", panic_text(&*panic))))
            });
            // Closed or deleted meanwhile: what was opened is dropped.
            let current = this.shards.borrow().get(&key).map(|slot| slot.generation);
            if current != Some(generation) {
                if let Ok(shard) = opened {
                    this.close_shard(&key, shard, false).await;
                }
                return;
            }
            match opened {
                Ok(shard) => {
                    // The state may have changed while the shard was opening.
                    if let Some((index, compiled)) = this.index(&key.0) {
                        shard.apply(index, compiled.index);
                    }
                    this.settle(&key, SlotStage::Started(shard), ShardHealth::Started);
                    if let Some(copy) = copy.filter(|copy| copy.state == CopyState::Initializing) {
                        this.tell_master(key, &copy, None);
                    }
                }
                Err(e) if attempt < OPEN_TRIES => {
                    tracing::warn!(uuid = %key.0, shard = key.1, error = %e, attempt, "a shard did not open; trying again");
                    this.io.sleep(Duration::from_millis(250 << attempt)).await;
                    let still = this.shards.borrow().get(&key).map(|slot| slot.generation) == Some(generation);
                    if still && !this.stopping.get() {
                        this.open(key, copy, attempt + 1);
                    }
                }
                Err(e) => {
                    // A full disk is no fault of the shard's: it opens when there is space. Told once.
                    let disk_full = e.status == 429 && e.kind == "cluster_block_exception";
                    if attempt == OPEN_TRIES {
                        tracing::error!(uuid = %key.0, shard = key.1, error = %e, disk_full, "a shard cannot be opened");
                    }
                    let reason = e.to_string();
                    this.settle(&key, SlotStage::Failed, ShardHealth::Failed(reason.clone()));
                    // Others may have it, or be able to make it.
                    if !this.alone()
                        && let Some(copy) = &copy
                    {
                        return this.tell_master(key, copy, Some(reason));
                    }
                    if disk_full {
                        this.io.sleep(DISK_FULL_WAIT).await;
                        let still = this.shards.borrow().get(&key).map(|slot| slot.generation) == Some(generation);
                        if still && !this.stopping.get() {
                            this.open(key, copy, OPEN_TRIES + 1);
                        }
                    }
                }
            }
        };
        self.io.spawn(Lane::Background, Box::pin(task));
    }

    /// Sees to it that the directory is the copy's: empty for a new shard, with its name in it.
    async fn prepare(&self, key: &ShardKey, copy: &ShardRouting) -> ApiResult<()> {
        let Some(id) = copy.allocation_id else { return Ok(()) };
        let path = self.shared.shard_path(key);
        let recovering = copy.state == CopyState::Initializing;
        if recovering && copy.recovery_source == RecoverySource::Peer {
            // What is there may be a copy that others count on: it stays that until the recovery changes it.
            return Ok(());
        }
        if recovering && copy.recovery_source == RecoverySource::EmptyStore {
            self.io.remove_directory(&path).await?;
        }
        let directory = self.io.directory(&path).await?;
        let must_be_there =
            if recovering { copy.recovery_source == RecoverySource::ExistingStore } else { copy.primary };
        if must_be_there {
            let found = identity::read(&directory).await?;
            if found.is_none_or(|found| found != id && found != ANY_COPY) {
                let found = found.map_or("nothing".to_owned(), |found| format!("copy [{found}]"));
                let reason = format!("copy [{id}] is not on the disk, {found} is");
                return Err(ApiError::new(500, "index_shard_recovery_exception", reason));
            }
        }
        self.name_directory(key, id).await
    }

    /// Says on the disk, and to whoever asks what is there, which copy a shard's directory is from now on.
    pub(super) async fn name_directory(&self, key: &ShardKey, id: AllocationId) -> ApiResult<()> {
        let directory = self.io.directory(&self.shared.shard_path(key)).await?;
        identity::write(&directory, id).await?;
        self.shared.note_stored(&key.0, key.1, Some(id));
        Ok(())
    }

    /// Tells the master of a copy, until the state says that it has heard, or what is told is not so any more: the copy is gone,
    /// or it is being opened again.
    fn tell_master(&self, key: ShardKey, copy: &ShardRouting, failed: Option<String>) {
        let Some(allocation) = copy.allocation_id else { return };
        let generation_now = |this: &Core<I>, key: &ShardKey| this.shards.borrow().get(key).map(|slot| slot.generation);
        let generation = generation_now(self, &key);
        let this = self.this();
        let tell = async move {
            while !this.stopping.get() && generation_now(&this, &key) == generation {
                let now = this.own_copy(&this.state_now(), &key.0, key.1);
                let Some(now) = now.filter(|now| now.allocation_id == Some(allocation)) else { return };
                if failed.is_none() && now.state != CopyState::Initializing {
                    return;
                }
                let news =
                    CopyNews { uuid: key.0.to_string(), shard: key.1, allocation, term: None, failed: failed.clone() };
                let version = this.state_now().version as i64;
                let told = this.desk.call(&this.shared.master, Lane::Write, move |master| {
                    Box::pin(async move { master.copy_news(news).await })
                });
                match told.await.map_err(ApiError::from).and_then(|told| told) {
                    Ok(()) => {
                        futures_lite::future::or(this.applied.reached(version + 1), this.io.sleep(NEWS_WAIT)).await
                    }
                    Err(e) => {
                        tracing::debug!(uuid = %key.0, shard = key.1, error = %e, "the master has not heard of a copy");
                        this.io.sleep(NEWS_WAIT).await;
                    }
                }
            }
        };
        self.io.spawn(Lane::Write, Box::pin(tell));
    }

    /// What a copy is to know of the others.
    fn copy_spec(&self, state: &ClusterState, key: &ShardKey) -> Option<CopySpec> {
        let routing = state.routing.get(&*key.0)?;
        let own = routing.on_node(key.1, self.shared.local?)?.clone();
        let index = state.indices.values().find(|index| *index.uuid == *key.0)?;
        let shard = key.1 as usize;
        Some(CopySpec {
            routing: own,
            in_sync: index.in_sync.get(shard).cloned().unwrap_or_default(),
            copies: routing.copies(key.1).to_vec(),
            version: state.version,
            term: PrimaryTerm(index.primary_terms.get(shard).copied().unwrap_or(1)),
        })
    }

    async fn open_shard(
        &self,
        key: &ShardKey,
        copy: Option<&ShardRouting>,
        given_up: &Watermark,
    ) -> ApiResult<Rc<Shard<I>>> {
        let Some((index, compiled)) = self.index(&key.0) else {
            return Err(ApiError::new(500, "illegal_state_exception", "the mapping of the index cannot be compiled"));
        };
        let id = ShardId { index: index.name.as_str().into(), uuid: Arc::clone(&key.0), shard: key.1 };
        let spec = ShardSpec {
            id,
            path: self.shared.shard_path(key),
            index,
            compiled: compiled.index,
            core: self.number as u32,
            memory: Arc::clone(&self.shared.memory),
            tag: self.shared.local.map_or(0, route::tag),
            copy: self.copy_spec(&self.state_now(), key),
        };
        self.until_gone(key).await;
        if let Some(copy) = copy {
            self.prepare(key, copy).await?;
        }
        let by_peer = copy
            .is_some_and(|copy| copy.state == CopyState::Initializing && copy.recovery_source == RecoverySource::Peer);
        if by_peer {
            self.recover_from_peer(key, spec, given_up).await
        } else {
            self.progress(key).borrow_mut().stage = RecoveryStage::Translog;
            Shard::open(self.io.clone(), spec, self.this()).await
        }
    }

    fn settle(&self, key: &ShardKey, stage: SlotStage<I>, health: ShardHealth) {
        let waiting = match self.shards.borrow_mut().get_mut(key) {
            Some(slot) => {
                slot.stage = stage;
                slot.joining = None;
                std::mem::take(&mut slot.waiting)
            }
            None => return,
        };
        self.shared.set_health(key, health);
        waiting.iter().for_each(|waiting| waiting.set(()));
    }

    fn index(&self, uuid: &str) -> Option<(Arc<IndexMetadata>, Compiled)> {
        let published = self.published.borrow();
        let index = published.state.indices.values().find(|index| index.uuid == uuid)?;
        Some((Arc::clone(index), published.compiled.get(uuid)?.clone()))
    }

    /// Waits until each of `keys` has started, failed, or gone.
    pub async fn until_settled(&self, keys: Vec<ShardKey>) {
        for key in keys {
            self.settled(&key).await;
        }
    }

    async fn settled(&self, key: &ShardKey) {
        let wait = match self.shards.borrow_mut().get_mut(key) {
            Some(Slot { stage: SlotStage::Recovering, waiting, .. }) => {
                let wait = OneShot::default();
                waiting.push(wait.clone());
                wait
            }
            _ => return,
        };
        wait.get().await;
    }

    async fn close_shard(&self, key: &ShardKey, shard: Rc<Shard<I>>, flush: bool) {
        self.leaving.borrow_mut().insert(key.clone(), Rc::downgrade(&shard));
        if let Err(panic) = AssertUnwindSafe(shard.close(flush)).catch_unwind().await {
            tracing::error!(uuid = %key.0, shard = key.1, panic = %panic_text(&*panic), "closing a shard panicked");
        }
        self.end_sources();
    }

    /// Whether a shard is open here, or being opened or closed.
    pub(super) fn holds(&self, key: &ShardKey) -> bool {
        self.shards.borrow().contains_key(key) || self.openings.borrow().contains_key(key) || self.is_leaving(key)
    }

    fn is_leaving(&self, key: &ShardKey) -> bool {
        self.leaving.borrow().get(key).is_some_and(|old| old.strong_count() > 0)
    }

    /// Waits until no one holds the shard that was open before: two engines on one directory would destroy each other's files.
    async fn until_gone(&self, key: &ShardKey) {
        while self.is_leaving(key) {
            // A recovery that began while the shard was closing holds it, too.
            self.end_sources();
            self.io.sleep(Duration::from_millis(5)).await;
        }
        self.leaving.borrow_mut().remove(key);
    }

    /// Closes all shards, committing them; for a clean stop.
    pub async fn close(&self) {
        self.stopping.set(true);
        let slots = std::mem::take(&mut *self.shards.borrow_mut());
        let mut shards: Vec<_> = slots.into_iter().collect();
        shards.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, slot) in shards {
            self.shared.set_health(&key, ShardHealth::Missing);
            if let SlotStage::Started(shard) = slot.stage {
                self.close_shard(&key, shard, true).await;
            }
        }
    }

    /// The machine is gone: what this core holds, and what holds it, goes.
    #[cfg(test)]
    pub(super) fn abandon(&self) {
        self.shards.take();
        self.sources.take();
        self.transport.take();
    }

    /// The same as [`local`](Self::local), with the spans of what was done here if the request is timed.
    async fn answer(&self, id: ShardId, request: ShardRequest, timed: Option<Sent>) -> Answer {
        let Some(sent) = timed else {
            return Answer { answer: self.local(id, request).await, spans: Vec::new(), at: None };
        };
        let timeline = Timeline::new(self.number, Some(format!("{}[{}]", id.index, id.shard).into()));
        if sent.hops {
            timeline.note(Stage::CoreHop, sent.at, Instant::now());
        }
        let answer = timeline::within(Rc::clone(&timeline), self.local(id, request)).await;
        Answer { answer, spans: timeline.take(), at: sent.hops.then(Instant::now) }
    }

    /// A request to a shard of this core.
    async fn local(&self, id: ShardId, request: ShardRequest) -> ApiResult<ShardResponse> {
        let key = (Arc::clone(&id.uuid), id.shard);
        if matches!(request, ShardRequest::Recovery) && self.recovering(&key) {
            return Ok(ShardResponse::Recovery(Box::new(self.progress(&key).borrow().clone())));
        }
        let shard = match self.started(&key) {
            Some(shard) => shard,
            None if self.recovering(&key) && matches!(request, ShardRequest::Write(_)) => {
                let bound = self.io.sleep(RECOVERY_WAIT);
                futures_lite::future::or(self.settled(&key), bound).await;
                self.started(&key).ok_or_else(|| self.unavailable(&id, true))?
            }
            None => {
                let write = matches!(request, ShardRequest::Write(_));
                return Err(self.unavailable(&id, write));
            }
        };
        let handled = AssertUnwindSafe(shard.handle(request)).catch_unwind().await;
        handled.unwrap_or_else(|panic| {
            // Its state may be half-changed: the shard stops here and recovers from what is on the disk.
            let reason = format!("panicked: {}", panic_text(&*panic));
            self.shard_failed(&id, &reason);
            Err(ApiError::new(
                500,
                "exception",
                format!("internal error in shard [{}][{}]: {reason}", id.index, id.shard),
            ))
        })
    }

    /// A request to a copy on this node, on whatever core it is.
    pub(super) fn here(&self, id: ShardId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        let Some(core) = self.published.borrow().placement.core(&id.uuid, id.shard) else {
            return Box::pin(async move { Err(self.unavailable(&id, matches!(request, ShardRequest::Write(_)))) });
        };
        #[cfg(feature = "glommio")]
        super::visits::visit(core);
        let timeline = timeline::current();
        if core == self.number && timeline.is_none() {
            return Box::pin(self.local(id, request));
        }
        let timed = timeline.as_ref().map(|_| Sent { at: Instant::now(), hops: core != self.number });
        if core == self.number {
            return Box::pin(async move { self.answer(id, request, timed).await.told(timeline.as_deref()) });
        }
        let to = &self.shared.cores[core];
        let call = match request {
            // A client that leaves stops what only reads; what changes the shard is finished.
            ShardRequest::Search(_)
            | ShardRequest::Fetch { .. }
            | ShardRequest::Statistics { .. }
            | ShardRequest::Profile { .. }
            | ShardRequest::Visible { .. }
            | ShardRequest::Explain { .. } => self.desk.call_abortable(to, Lane::Search, move |core| {
                Box::pin(async move { core.answer(id, request, timed).await })
            }),
            ShardRequest::Get(_) | ShardRequest::Open { .. } | ShardRequest::Free { .. } => {
                self.desk
                    .call(to, Lane::Search, move |core| Box::pin(async move { core.answer(id, request, timed).await }))
            }
            _ => self
                .desk
                .call(to, Lane::Write, move |core| Box::pin(async move { core.answer(id, request, timed).await })),
        };
        Box::pin(async move { call.await.map_err(ApiError::from)?.told(timeline.as_deref()) })
    }

    pub(super) fn started(&self, key: &ShardKey) -> Option<Rc<Shard<I>>> {
        match &self.shards.borrow().get(key)?.stage {
            SlotStage::Started(shard) => Some(Rc::clone(shard)),
            _ => None,
        }
    }

    /// The core that a shard is on.
    pub(super) fn core_of(&self, key: &ShardKey) -> Option<usize> {
        self.published.borrow().placement.core(&key.0, key.1)
    }

    /// The copy that takes what a primary sends: in service, or on its way there.
    pub(super) fn follower(&self, key: &ShardKey) -> Option<Rc<Shard<I>>> {
        let shards = self.shards.borrow();
        let slot = shards.get(key)?;
        match &slot.stage {
            SlotStage::Started(shard) => Some(Rc::clone(shard)),
            _ => slot.joining.clone(),
        }
    }

    /// From now on the copy takes what its primary sends.
    pub(super) fn join(&self, key: &ShardKey, shard: Option<&Rc<Shard<I>>>) {
        if let Some(slot) = self.shards.borrow_mut().get_mut(key) {
            slot.joining = shard.cloned();
        }
    }

    /// How far the recovery of a shard is.
    pub(super) fn progress(&self, key: &ShardKey) -> Rc<RefCell<PeerRecovery>> {
        self.shards.borrow().get(key).map(|slot| Rc::clone(&slot.progress)).unwrap_or_default()
    }

    fn recovering(&self, key: &ShardKey) -> bool {
        matches!(self.shards.borrow().get(key), Some(Slot { stage: SlotStage::Recovering, .. }))
    }

    /// Waits until indices that `before` did not route have their primaries, within bounds; the state then.
    async fn until_new_primaries(&self, before: &ClusterState, mut state: Arc<ClusterState>) -> Arc<ClusterState> {
        let new: Vec<String> =
            state.routing.keys().filter(|uuid| !before.routing.contains_key(*uuid)).cloned().collect();
        let started = |state: &ClusterState| {
            let routing = new.iter().filter_map(|uuid| state.routing.get(uuid));
            let mut primaries = routing.flat_map(|routing| routing.shards.iter().flatten().filter(|copy| copy.primary));
            // One that no node may have is not waited for.
            let hopeless = |copy: &ShardRouting| {
                copy.unassigned.as_ref().is_some_and(|info| info.last_status == AllocationStatus::DecidersNo)
            };
            primaries.all(|copy| copy.active() || hopeless(copy))
        };
        let until = self.io.monotonic_ns() + START_WAIT.as_nanos() as u64;
        self.applied.reached(state.version as i64).await;
        while !started(&state) && !self.stopping.get() {
            let left = until.saturating_sub(self.io.monotonic_ns());
            if left == 0 {
                tracing::warn!("some shards take longer than {START_WAIT:?} to start");
                break;
            }
            let next = self.applied.reached(state.version as i64 + 1);
            futures_lite::future::or(next, self.io.sleep(Duration::from_nanos(left))).await;
            state = self.state_now();
        }
        state
    }

    /// Whether this is the only node.
    fn alone(&self) -> bool {
        self.published.borrow().state.nodes.len() <= 1
    }

    /// The state this core has applied.
    pub(super) fn state_now(&self) -> Arc<ClusterState> {
        Arc::clone(&self.published.borrow().state)
    }

    /// What all threads of the node share.
    pub(super) fn shared(&self) -> &Shared<I> {
        &self.shared
    }

    /// Whether the node is being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Gives the core its way to other nodes.
    pub fn set_transport(&self, transport: Rc<dyn Transport>) {
        *self.transport.borrow_mut() = Some(transport);
    }

    pub(super) fn unavailable(&self, id: &ShardId, write: bool) -> ApiError {
        let (index, shard) = (&id.index, id.shard);
        let error = if write {
            let reason = format!("[{index}][{shard}] primary shard is not active Timeout: [1m]");
            ApiError::new(503, "unavailable_shards_exception", reason)
        } else {
            ApiError::new(
                503,
                "no_shard_available_action_exception",
                format!("No shard available for [{index}][{shard}]"),
            )
        };
        match self.shared.health(&(Arc::clone(&id.uuid), shard)) {
            ShardHealth::Failed(reason) => error.because(ApiError::new(503, "shard_failed_exception", reason)),
            _ => error,
        }
    }

    /// What statistics want to know of this core.
    #[must_use]
    pub fn report(&self) -> CoreReport {
        CoreReport {
            latency: stats::snapshot(),
            http: self.http.borrow().as_ref().map(|counters| counters()).unwrap_or_default(),
            shards: self.shards.borrow().len() as u64,
            mailbox: self.shared.cores[self.number].len() as u64,
            open_calls: self.desk.open() as u64,
        }
    }

    /// What every core says.
    async fn of_all_cores<T: Send + 'static>(
        &self,
        ask: impl Fn(&Core<I>) -> T + Clone + Send + 'static,
    ) -> Vec<(usize, T)> {
        let calls: Vec<(usize, Call<T>)> = (0..self.shared.cores.len())
            .filter(|core| *core != self.number)
            .map(|core| {
                let (to, ask) = (&self.shared.cores[core], ask.clone());
                (core, self.desk.call_abortable(to, Lane::Search, move |core| Box::pin(async move { ask(&core) })))
            })
            .collect();
        let mut cores = vec![(self.number, ask(self))];
        for (core, call) in calls {
            // A core too busy to tell is left out.
            if let Ok(told) = call.await {
                cores.push((core, told));
            }
        }
        cores.sort_by_key(|(core, _)| *core);
        cores
    }

    async fn gather(&self) -> NodeReport {
        let cores = self.of_all_cores(Core::report).await;
        NodeReport::new(cores, self.published.borrow().state.indices.len(), &self.shared.memory)
    }
}

impl<I: NodeIo> ShardOwner for Core<I> {
    fn update_mapping(&self, shard: &ShardId, fragment: Value) -> LocalFuture<'_, ApiResult<()>> {
        let uuid = Arc::clone(&shard.uuid);
        let update: StateUpdate = Box::new(move |state| merge_mapping(state, &uuid, &fragment));
        // Straight to the master: a recovering shard may need this before the node as a whole has recovered.
        let call = self.desk.call(&self.shared.master, Lane::Write, move |master| {
            Box::pin(async move { master.update("put-mapping (dynamic)".to_owned(), update).await })
        });
        Box::pin(async move { call.await.map_err(ApiError::from)?.map(drop) })
    }

    fn replicate(&self, node: NodeId, message: Replicate) -> LocalFuture<'_, ApiResult<ReplicateAck>> {
        Box::pin(self.replicate_to(node, message))
    }

    fn fail_copy(&self, shard: &ShardId, copy: AllocationId, term: PrimaryTerm) -> LocalFuture<'_, ApiResult<()>> {
        let news = CopyNews {
            uuid: shard.uuid.to_string(),
            shard: shard.shard,
            allocation: copy,
            term: Some(term.0),
            failed: Some("did not take an operation of its primary".to_owned()),
        };
        let call = self.desk.call(&self.shared.master, Lane::Write, move |master| {
            Box::pin(async move { master.copy_news(news).await })
        });
        Box::pin(async move { call.await.map_err(ApiError::from)? })
    }

    fn shard_damaged(&self, id: &ShardId) {
        self.damaged.borrow_mut().insert((Arc::clone(&id.uuid), id.shard));
    }

    fn shard_failed(&self, id: &ShardId, reason: &str) {
        let key = (Arc::clone(&id.uuid), id.shard);
        if !self.alone()
            && let Some(copy) = self.own_copy(&self.state_now(), &key.0, key.1)
        {
            // Others have it, or the master says what is to become of it.
            tracing::error!(index = %id.index, shard = id.shard, reason, "a shard copy has failed");
            return self.tell_master(key, &copy, Some(reason.to_owned()));
        }
        let shard = match self.shards.borrow_mut().get_mut(&key) {
            Some(slot) if matches!(slot.stage, SlotStage::Started(_)) => {
                slot.generation = self.next_generation();
                std::mem::replace(&mut slot.stage, SlotStage::Failed)
            }
            _ => return,
        };
        tracing::error!(index = %id.index, shard = id.shard, reason, "a shard has failed; recovering it from disk");
        self.shared.set_health(&key, ShardHealth::Failed(reason.to_owned()));
        let (this, reason) = (self.this(), reason.to_owned());
        let again = async move {
            if let SlotStage::Started(shard) = shard {
                this.close_shard(&key, shard, false).await;
            }
            this.io.sleep(Duration::from_secs(1)).await;
            let (uuid, number) = (Arc::clone(&key.0), key.1);
            let mut info = UnassignedInfo::new(UnassignedReason::AllocationFailed, this.io.now_ms());
            info.details = Some(reason);
            let update: StateUpdate = Box::new(move |state| Ok(recover_again(state, &uuid, number, &info)));
            let raised = this.desk.call(&this.shared.master, Lane::Write, move |master| {
                Box::pin(async move { master.update("shard-failed".to_owned(), update).await.map(drop) })
            });
            if !matches!(raised.await, Ok(Ok(()))) {
                tracing::error!(uuid = %key.0, shard = key.1, "a failed shard stays closed: its new primary term was not saved");
            }
        };
        self.io.spawn(Lane::Background, Box::pin(again));
    }
}

/// The only copy of a shard has failed and is to come back from its disk, in a new primary term: operations it lost have given
/// their numbers back.
fn recover_again(state: &ClusterState, uuid: &str, shard: u32, info: &UnassignedInfo) -> Option<ClusterState> {
    let mut next = state.clone();
    let index = next.indices.values_mut().find(|index| index.uuid == uuid)?;
    *Arc::make_mut(index).primary_terms.get_mut(shard as usize)? += 1;
    let copies = Arc::make_mut(next.routing.get_mut(uuid)?).shards.get_mut(shard as usize)?;
    let copy = copies.iter_mut().find(|copy| copy.primary)?;
    (copy.state, copy.recovery_source) = (CopyState::Initializing, RecoverySource::ExistingStore);
    copy.unassigned = Some(info.clone());
    Some(next)
}

/// Adds what a document brought to the mapping of its index, under the limits that an update by request has.
fn merge_mapping(state: &ClusterState, uuid: &str, fragment: &Value) -> ApiResult<Option<ClusterState>> {
    let Some(index) = state.indices.values().find(|index| index.uuid == uuid) else {
        return Err(ApiError::new(404, "index_not_found_exception", "no such index").with("index_uuid", uuid));
    };
    let Some(changed) = mapping::put(index, fragment)? else { return Ok(None) };
    let mut next = state.clone();
    next.indices.insert(changed.name.clone(), Arc::new(changed));
    Ok(Some(next))
}

impl<I: NodeIo> Backend for Core<I> {
    fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.published.borrow().state)
    }

    fn update_state(&self, source: &str, update: StateUpdate) -> LocalFuture<'_, ApiResult<Arc<ClusterState>>> {
        if !self.is_recovered() {
            return Box::pin(async { Err(not_recovered()) });
        }
        let source = source.to_owned();
        let before = self.state_now();
        let call = self.desk.call(&self.shared.master, Lane::Write, move |master| {
            Box::pin(async move { master.update(source, update).await })
        });
        let timeline = timeline::current();
        Box::pin(async move {
            let began = Instant::now();
            let updated = call.await;
            if let Some(timeline) = timeline {
                timeline.note(Stage::StateUpdate, began, Instant::now());
            }
            let state = updated.map_err(ApiError::from)??;
            Ok(self.until_new_primaries(&before, state).await)
        })
    }

    fn has_master(&self) -> bool {
        self.shared.has_master()
    }

    fn pending_updates(&self) -> LocalFuture<'_, Vec<PendingUpdate>> {
        let call =
            self.desk.call(&self.shared.master, Lane::Search, |master| Box::pin(async move { master.pending() }));
        Box::pin(async { call.await.unwrap_or_default() })
    }

    fn shard(&self, shard: &ShardId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        let here = self.published.borrow().placement.core(&shard.uuid, shard.shard).is_some();
        if here && self.alone() {
            self.here(shard.clone(), request)
        } else {
            Box::pin(self.spread(shard.clone(), request))
        }
    }

    fn copy(&self, shard: &ShardId, node: NodeId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        Box::pin(self.ask_copy(shard.clone(), node, request))
    }

    fn compiled(&self, index: &IndexMetadata) -> ApiResult<CompiledIndex> {
        let published = self.published.borrow();
        let known = published.compiled.get(&index.uuid);
        match known {
            Some(known)
                if known.mapping_version == index.mapping_version
                    && known.settings_version == index.settings_version =>
            {
                Ok(known.index.clone())
            }
            // An index as it might become (validation, simulation), or as it was a moment ago.
            _ => Ok(Compiled::next(index, None)?.index),
        }
    }

    fn now_ms(&self) -> i64 {
        self.io.now_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        self.io.monotonic_ns()
    }

    fn random(&self) -> u64 {
        self.io.random()
    }

    fn sleep_ms(&self, ms: u64) -> LocalFuture<'static, ()> {
        self.io.sleep(Duration::from_millis(ms))
    }

    fn spawn(&self, task: LocalFuture<'static, ()>) {
        self.io.spawn(Lane::Write, task);
    }

    fn tasks(&self) -> &Rc<Registry> {
        &self.tasks
    }

    fn ask_tasks(&self, ask: Ask) -> LocalFuture<'_, ApiResult<Vec<TaskInfo>>> {
        let Some(number) = ask.number() else {
            return Box::pin(async move {
                let cores = self.of_all_cores(move |core| core.tasks.answer(&ask)).await;
                Ok(cores.into_iter().flat_map(|(_, tasks)| tasks).collect())
            });
        };
        let core = self.tasks.core_of(number);
        if core == self.number {
            let tasks = self.tasks.answer(&ask);
            return Box::pin(async { Ok(tasks) });
        }
        let call = self.desk.call_abortable(&self.shared.cores[core], Lane::Search, move |core| {
            Box::pin(async move { core.tasks.answer(&ask) })
        });
        Box::pin(async { call.await.map_err(ApiError::from) })
    }

    fn node(&self) -> &NodeInfo {
        &self.shared.info
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    fn memory(&self) -> &Arc<NodeMemory> {
        &self.shared.memory
    }

    fn node_stats(&self) -> LocalFuture<'_, Value> {
        Box::pin(async { self.gather().await.to_json() })
    }

    fn latency(&self, reading: Reading) -> LocalFuture<'_, Vec<(usize, Snapshot)>> {
        Box::pin(self.of_all_cores(move |_| stats::read(&reading)))
    }

    fn hot_tasks(&self) -> LocalFuture<'_, Vec<(usize, (u64, Vec<HotTask>))>> {
        Box::pin(self.of_all_cores(|_| hot::notes()))
    }

    fn metrics_text(&self) -> LocalFuture<'_, String> {
        Box::pin(async { self.gather().await.prometheus() })
    }

    fn allocation_inputs(&self) -> LocalFuture<'_, AllocationInputs> {
        let call =
            self.desk.call(&self.shared.master, Lane::Search, |master| Box::pin(async move { master.known_inputs() }));
        Box::pin(async move {
            let known = call.await.unwrap_or_default();
            let seed = u128::from(self.io.random()) << 64 | u128::from(self.io.random());
            AllocationInputs { now_ms: self.io.now_ms(), seed, ..known }
        })
    }

    fn ask_node(&self, node: NodeId, call: PassedOn, wait_ms: u64) -> LocalFuture<'_, ApiResult<Answered>> {
        Box::pin(self.pass_on(node, call, Duration::from_millis(wait_ms)))
    }

    fn shard_health(&self, shard: &ShardId) -> ShardHealth {
        self.shared.health(&(Arc::clone(&shard.uuid), shard.shard))
    }
}

// What cannot be said in a type: a call's answer crosses threads.
const _: () = {
    const fn crosses<T: Send>() {}
    crosses::<ApiResult<ShardResponse>>();
    crosses::<Arc<Published>>();
    crosses::<CallError>();
};

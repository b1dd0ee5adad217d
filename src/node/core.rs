//! One core: the shards on it, and the node as REST on this core sees it.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::report::{CoreReport, HttpCounters, NodeReport};
use super::{Compiled, Published, ShardKey, Shared, not_recovered};
use crate::backend::{Backend, CompiledIndex, LocalFuture, NodeInfo, ShardHealth, StateUpdate};
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::memory::NodeMemory;
use crate::mesh::{Call, CallError, Desk, OneShot, panic_text};
use crate::metadata::mapping;
use crate::shard::message::{ShardId, ShardRequest, ShardResponse};
use crate::shard::{Shard, ShardOwner, ShardSpec};
use crate::stats::hot::{self, HotTask};
use crate::stats::interval::Reading;
use crate::stats::timeline::{self, Span, Timeline};
use crate::stats::{self, Snapshot, Stage};
use crate::tasks::{Ask, Registry, TaskInfo};

/// Times a shard is opened before it is given up (`index.allocation.max_retries`).
const OPEN_TRIES: u32 = 5;
/// After these the next tries of a shard that finds no space follow each other so far apart.
const DISK_FULL_WAIT: Duration = Duration::from_secs(5);
/// How long a write waits for a recovering shard.
const RECOVERY_WAIT: Duration = Duration::from_secs(60);

/// A core of the node.
pub struct Core<I: NodeIo> {
    io: I,
    number: usize,
    shared: Arc<Shared<I>>,
    desk: Rc<Desk>,
    published: RefCell<Arc<Published>>,
    shards: RefCell<FxHashMap<ShardKey, Slot<I>>>,
    /// Shards that have been closed but may still have work in flight: their files are theirs until they are gone.
    leaving: RefCell<FxHashMap<ShardKey, Weak<Shard<I>>>>,
    http: RefCell<Option<Box<dyn Fn() -> HttpCounters>>>,
    stopping: Cell<bool>,
    generations: Cell<u64>,
    tasks: Rc<Registry>,
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
    waiting: Vec<OneShot<()>>,
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
            http: RefCell::default(),
            stopping: Cell::new(false),
            generations: Cell::new(0),
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

    /// Where statistics get the HTTP counters of this core from.
    pub fn set_http_counters(&self, counters: impl Fn() -> HttpCounters + 'static) {
        *self.http.borrow_mut() = Some(Box::new(counters));
    }

    fn this(&self) -> Rc<Core<I>> {
        self.this.upgrade().expect("a core is used through its Rc")
    }

    /// Takes over a new state: shards that left this core are closed when this returns, new ones begin to open.
    pub async fn apply(&self, published: Arc<Published>) {
        let old = std::mem::replace(&mut *self.published.borrow_mut(), Arc::clone(&published));
        let state = &published.state;
        let mut wanted: FxHashMap<ShardKey, Arc<IndexMetadata>> = FxHashMap::default();
        for index in state.indices.values().filter(|index| index.open) {
            let uuid: Arc<str> = index.uuid.as_str().into();
            for shard in 0..index.number_of_shards {
                if published.placement.core(&index.uuid, shard) == Some(self.number) {
                    wanted.insert((Arc::clone(&uuid), shard), Arc::clone(index));
                }
            }
        }
        let gone: Vec<ShardKey> =
            self.shards.borrow().keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            let slot = self.shards.borrow_mut().remove(&key);
            self.shared.set_health(&key, ShardHealth::Missing);
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
        for (key, index) in wanted {
            match self.shards.borrow().get(&key).map(|slot| &slot.stage) {
                Some(SlotStage::Started(shard)) => {
                    let same = old.state.indices.get(&index.name).is_some_and(|before| Arc::ptr_eq(before, &index));
                    if !same {
                        changed.push((Rc::clone(shard), index));
                    }
                }
                Some(_) => {}
                None => new.push(key),
            }
        }
        for (shard, index) in changed {
            if let Some(compiled) = published.compiled.get(&index.uuid) {
                shard.apply(index, compiled.index.clone());
            }
        }
        // In order, so that a seeded run is the same every time.
        new.sort();
        for key in new {
            self.open(key, 1);
        }
    }

    fn next_generation(&self) -> u64 {
        self.generations.set(self.generations.get() + 1);
        self.generations.get()
    }

    /// Begins to open a shard.
    fn open(&self, key: ShardKey, attempt: u32) {
        let generation = self.next_generation();
        self.shared.set_health(&key, ShardHealth::Recovering);
        let waiting = self.shards.borrow_mut().remove(&key).map(|slot| slot.waiting).unwrap_or_default();
        self.shards.borrow_mut().insert(key.clone(), Slot { stage: SlotStage::Recovering, generation, waiting });
        let this = self.this();
        let task = async move {
            let opened = AssertUnwindSafe(this.open_shard(&key)).catch_unwind().await;
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
                }
                Err(e) if attempt < OPEN_TRIES => {
                    tracing::warn!(uuid = %key.0, shard = key.1, error = %e, attempt, "a shard did not open; trying again");
                    this.io.sleep(Duration::from_millis(250 << attempt)).await;
                    let still = this.shards.borrow().get(&key).map(|slot| slot.generation) == Some(generation);
                    if still && !this.stopping.get() {
                        this.open(key, attempt + 1);
                    }
                }
                Err(e) => {
                    // A full disk is no fault of the shard's: it opens when there is space. Told once.
                    let disk_full = e.status == 429 && e.kind == "cluster_block_exception";
                    if attempt == OPEN_TRIES {
                        tracing::error!(uuid = %key.0, shard = key.1, error = %e, disk_full, "a shard cannot be opened");
                    }
                    let reason = e.to_string();
                    this.settle(&key, SlotStage::Failed, ShardHealth::Failed(reason));
                    if disk_full {
                        this.io.sleep(DISK_FULL_WAIT).await;
                        let still = this.shards.borrow().get(&key).map(|slot| slot.generation) == Some(generation);
                        if still && !this.stopping.get() {
                            this.open(key, OPEN_TRIES + 1);
                        }
                    }
                }
            }
        };
        self.io.spawn(Lane::Background, Box::pin(task));
    }

    async fn open_shard(&self, key: &ShardKey) -> ApiResult<Rc<Shard<I>>> {
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
        };
        self.until_gone(key).await;
        Shard::open(self.io.clone(), spec, self.this()).await
    }

    fn settle(&self, key: &ShardKey, stage: SlotStage<I>, health: ShardHealth) {
        let waiting = match self.shards.borrow_mut().get_mut(key) {
            Some(slot) => {
                slot.stage = stage;
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
    }

    /// Waits until no one holds the shard that was open before: two engines on one directory would destroy each other's files.
    async fn until_gone(&self, key: &ShardKey) {
        let alive = |core: &Core<I>| core.leaving.borrow().get(key).is_some_and(|old| old.strong_count() > 0);
        while alive(self) {
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

    fn started(&self, key: &ShardKey) -> Option<Rc<Shard<I>>> {
        match &self.shards.borrow().get(key)?.stage {
            SlotStage::Started(shard) => Some(Rc::clone(shard)),
            _ => None,
        }
    }

    fn recovering(&self, key: &ShardKey) -> bool {
        matches!(self.shards.borrow().get(key), Some(Slot { stage: SlotStage::Recovering, .. }))
    }

    fn unavailable(&self, id: &ShardId, write: bool) -> ApiError {
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

    fn shard_failed(&self, id: &ShardId, reason: &str) {
        let key = (Arc::clone(&id.uuid), id.shard);
        let (generation, shard) = match self.shards.borrow_mut().get_mut(&key) {
            Some(slot) if matches!(slot.stage, SlotStage::Started(_)) => {
                slot.generation = self.next_generation();
                let stage = std::mem::replace(&mut slot.stage, SlotStage::Failed);
                (slot.generation, stage)
            }
            _ => return,
        };
        tracing::error!(index = %id.index, shard = id.shard, reason, "a shard has failed; recovering it from disk");
        self.shared.set_health(&key, ShardHealth::Failed(reason.to_owned()));
        let this = self.this();
        let again = async move {
            if let SlotStage::Started(shard) = shard {
                this.close_shard(&key, shard, false).await;
            }
            this.io.sleep(Duration::from_secs(1)).await;
            let (uuid, number) = (Arc::clone(&key.0), key.1);
            let update: StateUpdate = Box::new(move |state| Ok(raise_term(state, &uuid, number)));
            let raised = this.desk.call(&this.shared.master, Lane::Write, move |master| {
                Box::pin(async move { master.update("shard-failed".to_owned(), update).await.map(drop) })
            });
            if !matches!(raised.await, Ok(Ok(()))) {
                tracing::error!(uuid = %key.0, shard = key.1, "a failed shard stays closed: its new primary term was not saved");
                return;
            }
            let unchanged = this.shards.borrow().get(&key).map(|slot| slot.generation) == Some(generation);
            if unchanged && !this.stopping.get() {
                this.open(key, 1);
            }
        };
        self.io.spawn(Lane::Background, Box::pin(again));
    }
}

/// A shard that starts again after a failure begins a new primary term: operations it lost have given their numbers back.
fn raise_term(state: &ClusterState, uuid: &str, shard: u32) -> Option<ClusterState> {
    let index = state.indices.values().find(|index| index.uuid == uuid)?;
    let mut raised = IndexMetadata::clone(index);
    *raised.primary_terms.get_mut(shard as usize)? += 1;
    let mut next = state.clone();
    next.indices.insert(raised.name.clone(), Arc::new(raised));
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
            updated.map_err(ApiError::from)?
        })
    }

    fn shard(&self, shard: &ShardId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        let id = shard.clone();
        let Some(core) = self.published.borrow().placement.core(&id.uuid, id.shard) else {
            return Box::pin(async move { Err(self.unavailable(&id, matches!(request, ShardRequest::Write(_)))) });
        };
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

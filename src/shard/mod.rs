//! One shard on one core: the engine, and the loop that decides when it syncs, refreshes, writes images, flushes and merges.
//!
//! Every request comes through [`Shard::handle`]. Five tasks run beside the requests, each in its lane:
//! - *sync* (write lane): group commit; while one sync is in flight the next batch fills.
//! - *refresh* (background lane): every `index.refresh_interval`, unless nobody searches.
//! - *soon* (write lane): refreshes of a few documents, within milliseconds, for those who wait to see what was written.
//! - *images* (background lane): writes what refreshes made to files, which frees its memory.
//! - *upkeep* (background lane): merges on the maintenance thread, flushes when the translog is long.
//!
//! Invariant: after the engine has failed nothing is acknowledged; the owner is told once.

pub mod backoff;
pub mod identity;
pub mod message;
pub mod settings;
pub mod signal;
pub mod slowlog;

mod merge;
mod profile;
mod read;
pub mod recovery;
mod replication;
mod request_cache;
mod write;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::engine::{Engine, EngineConfig};
use ringdex_engine::ids::{PrimaryTerm, SeqNo};
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_engine::pace::Pace;
use ringdex_engine::search::{FilterCache, LiveCounts};
use ringdex_engine::seed::HashSeed;
use ringdex_engine::segment::reader::damage_found;
use ringdex_engine::store::Directory;
use ringdex_engine::store::ledger::Purpose;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::state::IndexMetadata;
use ringdex_net::wire::replicate::{Replicate, ReplicateAck};

use crate::backend::{CompiledIndex, LocalFuture};
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::memory::{NodeMemory, ShardBuffer};
use crate::stats::interval::Marks;
use crate::stats::{self, Stage, StageSet, timeline};
use backoff::Backoff;
use bytes::Bytes;
use message::{
    PeerRecovery, RecoveryStage, SegmentStats, ShardId, ShardRequest, ShardResponse, ShardStats, ShardStorage,
};
pub use recovery::{Fetch, Fetched, Joined, Source};
use replication::Copies;
pub use replication::{CopySpec, NOT_PRIMARY, STALE_TERM};
use request_cache::RequestCache;
use settings::ShardSettings;
use signal::{Signal, Watermark};

/// What a shard is opened with.
#[derive(Clone)]
pub struct ShardSpec {
    /// Which.
    pub id: ShardId,
    /// Its directory.
    pub path: PathBuf,
    /// Its index.
    pub index: Arc<IndexMetadata>,
    /// The index's mapping and analyzers.
    pub compiled: CompiledIndex,
    /// Core it lives on, for statistics.
    pub core: u32,
    /// The node's memory budget.
    pub memory: Arc<NodeMemory>,
    /// What the numbers of its search contexts begin with.
    pub tag: u32,
    /// Which copy it is; none = the only one there is.
    pub copy: Option<CopySpec>,
}

/// How often a shard that does not refresh of itself looks whether others need its memory.
const BUFFER_CHECK: Duration = Duration::from_secs(1);
/// Sets of documents that the filter cache has at most (`indices.queries.cache.count`).
const FILTERS_MAX: usize = 10_000;
/// How long a set or an answer may be idle while the caches are full.
const CACHE_IDLE_MS: i64 = 30_000;
/// A larger indexing buffer becomes a segment of its own at once.
const SOON_BYTES_MAX: usize = 4 << 20;
/// Between two refreshes for those who wait.
const SOON_REST_MIN: Duration = Duration::from_millis(2);
/// The same, after a long one.
const SOON_REST_MAX: Duration = Duration::from_millis(100);
/// How long a write waits for memory.
const BUFFER_WAIT: Duration = Duration::from_secs(30);
/// How much of its files a shard reads again after its start.
const SCRUB_BYTES_PER_SECOND: u64 = 50 << 20;
/// How long a rest of it goes on once the shard is closing.
const SCRUB_LOOK: Duration = Duration::from_millis(5);
/// How long [`Shard::close`] waits for work in flight: the longest is a merge.
const CLOSE_WAIT: Duration = Duration::from_secs(60);
/// How long of that for other copies: those that do not answer are no reason to keep this one open.
const COPIES_WAIT: Duration = Duration::from_secs(5);
/// Upkeep and merges that find no space are tried again after at most so long.
const UPKEEP_WAIT_MAX: Duration = Duration::from_secs(10);
/// Writes are refused without looking for space again for at most so long.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a shard asks of the node.
pub trait ShardOwner {
    /// Adds fields to the index's mapping (a fragment `{"properties":...}`); answers when the new mapping is durable and
    /// [`Shard::apply`] has been called with it.
    fn update_mapping(&self, shard: &ShardId, fragment: serde_json::Value) -> LocalFuture<'_, ApiResult<()>>;

    /// The shard takes no more requests.
    fn shard_failed(&self, shard: &ShardId, reason: &str);

    /// Told before that when files of the copy are damaged.
    fn shard_damaged(&self, shard: &ShardId);

    /// Sends a message to a copy on another node.
    fn replicate(&self, _node: NodeId, _message: Replicate) -> LocalFuture<'_, ApiResult<ReplicateAck>> {
        Box::pin(async { Err(ApiError::new(503, "node_not_connected_exception", "there are no other nodes")) })
    }

    /// Asks the master to fail a copy, in the name of the primary of `term`; answers when that is committed.
    fn fail_copy(&self, _shard: &ShardId, _copy: AllocationId, _term: PrimaryTerm) -> LocalFuture<'_, ApiResult<()>> {
        Box::pin(async { Err(ApiError::new(503, "master_not_discovered_exception", "there is no master")) })
    }
}

/// See the module.
pub struct Shard<I: NodeIo> {
    id: ShardId,
    io: I,
    engine: Engine<I::Directory>,
    owner: Rc<dyn ShardOwner>,
    index: RefCell<Arc<IndexMetadata>>,
    compiled: RefCell<CompiledIndex>,
    settings: RefCell<Rc<ShardSettings>>,
    term: Cell<PrimaryTerm>,
    copies: Option<Copies>,
    /// The bytes of the operation done last, for the other copies.
    encoded: RefCell<Option<Bytes>>,
    core: u32,
    memory: Arc<NodeMemory>,
    buffer: ShardBuffer,
    counters: Counters,
    stages: RefCell<StageSet>,
    marks: RefCell<Marks>,
    contexts: RefCell<read::Contexts>,
    filter_cache: Option<Rc<FilterCache>>,
    live_counts: Rc<LiveCounts>,
    request_cache: RefCell<RequestCache>,
    caches_swept_ms: Cell<i64>,
    visible: Watermark,
    sync_now: Signal,
    refresh_now: Signal,
    soon_now: Signal,
    upkeep_now: Signal,
    scrub_now: Signal,
    /// What [`damage_found`] was when it was last looked for here.
    damage_seen: Cell<u64>,
    /// Ends a pause of [`checkpoint_task`](Self::checkpoint_task).
    beat_now: Signal,
    images_now: Signal,
    merges: Rc<merge::Merges>,
    /// Of writers that find no room in the translog.
    room_backoff: RefCell<Backoff>,
    upkeep_backoff: RefCell<Backoff>,
    merge_backoff: RefCell<Backoff>,
    last_search_ms: Cell<i64>,
    closing: Cell<bool>,
    /// The same for merges, on their thread.
    merges_end: Arc<AtomicBool>,
    /// Tasks of this shard that have not ended.
    tasks: Cell<usize>,
    failure_reported: Cell<bool>,
    /// How this copy was made from its primary.
    made: RefCell<Option<Box<PeerRecovery>>>,
    scratch: RefCell<Vec<ParsedDocument>>,
}

/// Plain counts of what requests did; times in nanoseconds.
#[derive(Debug, Default)]
struct Counters {
    index: Cell<u64>,
    index_ns: Cell<u64>,
    source_bytes: Cell<u64>,
    index_failed: Cell<u64>,
    delete: Cell<u64>,
    delete_ns: Cell<u64>,
    noop: Cell<u64>,
    get: Cell<u64>,
    get_ns: Cell<u64>,
    get_missing: Cell<u64>,
    query: Cell<u64>,
    query_ns: Cell<u64>,
    fetch: Cell<u64>,
    fetch_ns: Cell<u64>,
    refresh_ns: Cell<u64>,
    refresh_external: Cell<u64>,
    flush_ns: Cell<u64>,
    flush_periodic: Cell<u64>,
    merge_ns: Cell<u64>,
    syncs: Cell<u64>,
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

impl<I: NodeIo> Shard<I> {
    /// Opens the shard, replays what its last commit lacks, makes it searchable, and starts its tasks.
    ///
    /// # Errors
    /// Corruption, naming file and offset; I/O errors; a full disk.
    pub async fn open(io: I, spec: ShardSpec, owner: Rc<dyn ShardOwner>) -> ApiResult<Rc<Shard<I>>> {
        let settings = ShardSettings::of(&spec.index);
        let directory = io.directory(&spec.path).await?;
        let config = EngineConfig {
            shard_uuid: shard_uuid(&spec.id),
            codec: settings.codec,
            translog_generation_bytes: settings.translog_generation_bytes,
            hash_seed: HashSeed::new(io.random()),
        };
        let engine = Engine::open(directory, config).await?;
        let seed = engine.hash_seed();
        let filters = || FilterCache::new(Arc::clone(&spec.memory.filter_cache), FILTERS_MAX, seed);
        let filter_cache = settings.filter_cache.then(filters);
        let live_counts = LiveCounts::new(Arc::clone(&spec.memory.filter_cache), seed);
        let request_cache = RefCell::new(RequestCache::new(Arc::clone(&spec.memory.request_cache), seed));
        let term = PrimaryTerm(spec.index.primary_terms.get(spec.id.shard as usize).copied().unwrap_or(1));
        let copies = spec.copy.as_ref().map(|copy| {
            let global = engine.global_checkpoint().unwrap_or(SeqNo::NONE);
            Copies::new(copy, global)
        });
        let primary = spec.copy.as_ref().is_some_and(|copy| copy.routing.primary && !copy.routing.relocation_target());
        let shard = Rc::new(Shard {
            visible: Watermark::new(engine.visible_seq_no().0),
            last_search_ms: Cell::new(io.now_ms()),
            id: spec.id,
            io,
            engine,
            owner,
            index: RefCell::new(spec.index),
            compiled: RefCell::new(spec.compiled),
            settings: RefCell::new(Rc::new(settings)),
            term: Cell::new(term),
            copies,
            encoded: RefCell::default(),
            core: spec.core,
            buffer: ShardBuffer::new(Arc::clone(&spec.memory.indexing)),
            memory: spec.memory,
            counters: Counters::default(),
            stages: RefCell::default(),
            marks: RefCell::default(),
            contexts: RefCell::new(read::Contexts::new(spec.tag)),
            filter_cache,
            live_counts,
            request_cache,
            caches_swept_ms: Cell::new(0),
            sync_now: Signal::default(),
            refresh_now: Signal::default(),
            soon_now: Signal::default(),
            upkeep_now: Signal::default(),
            scrub_now: Signal::default(),
            damage_seen: Cell::new(0),
            beat_now: Signal::default(),
            images_now: Signal::default(),
            merges: Rc::default(),
            room_backoff: RefCell::new(Backoff::new(ROOM_WAIT_MAX)),
            upkeep_backoff: RefCell::new(Backoff::new(UPKEEP_WAIT_MAX)),
            merge_backoff: RefCell::new(Backoff::new(UPKEEP_WAIT_MAX)),
            closing: Cell::new(false),
            merges_end: Arc::default(),
            tasks: Cell::new(0),
            failure_reported: Cell::new(false),
            made: RefCell::default(),
            scratch: RefCell::default(),
        });
        shard.recover().await?;
        shard.start();
        if primary {
            shard.promote(term);
            if let Err(e) = shard.until_primary().await {
                shard.close(false).await;
                return Err(e);
            }
        }
        Ok(shard)
    }

    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> &ShardId {
        &self.id
    }

    /// The index's metadata has changed: settings take effect, documents are parsed with the new mapping.
    pub fn apply(&self, index: Arc<IndexMetadata>, compiled: CompiledIndex) {
        let settings = ShardSettings::of(&index);
        self.engine.set_codec(settings.codec);
        *self.settings.borrow_mut() = Rc::new(settings);
        *self.compiled.borrow_mut() = compiled;
        *self.index.borrow_mut() = index;
        self.request_cache.borrow_mut().changed();
        self.refresh_now.raise();
        self.sync_now.raise();
    }

    /// Answers one request. Dropping the future gives a read up; whatever changes the shard runs in a task of its own and
    /// is finished in any case.
    ///
    /// # Errors
    /// Whatever the request deserves; item errors are inside the answers.
    pub async fn handle(self: &Rc<Self>, request: ShardRequest) -> ApiResult<ShardResponse> {
        let answer = self.answer(request).await;
        self.look_for_damage();
        answer
    }

    /// Acts on damage that has just been read.
    pub(super) fn look_for_damage(&self) {
        let found = damage_found();
        if self.damage_seen.replace(found) != found
            && let Some(e) = self.engine.damage()
        {
            self.found_damage(&e);
        }
    }

    async fn answer(self: &Rc<Self>, request: ShardRequest) -> ApiResult<ShardResponse> {
        if self.closing.get() {
            return Err(self.unavailable("is closing"));
        }
        if request.reads_newest() {
            self.check_whole()?;
        }
        let answer = match request {
            ShardRequest::Get(requests) => self.get(requests).await.map(ShardResponse::Get),
            ShardRequest::Search(request) => self.search(request).await.map(ShardResponse::Search),
            ShardRequest::Fetch { context, hits, fetch, deadline_ms } => {
                self.fetch(context, &hits, &fetch, deadline_ms).await.map(ShardResponse::Fetch)
            }
            ShardRequest::Open { keep_alive_ms } => {
                self.open_context(keep_alive_ms).await.map(|context| ShardResponse::Opened { context })
            }
            ShardRequest::Note { context, note } => {
                self.contexts.borrow_mut().note(context, self.io.now_ms(), note).map(ShardResponse::Note)
            }
            ShardRequest::Free { context } => {
                self.contexts.borrow_mut().free(context);
                Ok(ShardResponse::Done)
            }
            ShardRequest::Statistics { query, context, now_ms } => {
                self.statistics(&query, context, now_ms).await.map(ShardResponse::TermStatistics)
            }
            ShardRequest::Explain { id, query, now_ms } => {
                self.explain(&id, &query, now_ms).await.map(ShardResponse::Explain)
            }
            ShardRequest::Latency(reading) => {
                let snapshot = self.stages.borrow().snapshot();
                let snapshot = self.marks.borrow_mut().read(snapshot, &reading);
                Ok(ShardResponse::Latency { core: self.core, snapshot })
            }
            ShardRequest::ClearCache { query, request } => {
                if query {
                    self.live_counts.clear();
                }
                if let (true, Some(filters)) = (query, &self.filter_cache) {
                    filters.clear();
                }
                if request {
                    self.request_cache.borrow_mut().clear();
                }
                Ok(ShardResponse::Done)
            }
            ShardRequest::Visible { seq_no, until_ms } => {
                self.visible_by(seq_no, until_ms).await.map(|()| ShardResponse::Done)
            }
            ShardRequest::Profile { query, context, deadline_ms } => {
                self.profile(&query, context, deadline_ms).await.map(|shown| ShardResponse::Profile(Box::new(shown)))
            }
            ShardRequest::Storage => Ok(ShardResponse::Storage(Box::new(self.storage()))),
            ShardRequest::Stats => Ok(ShardResponse::Stats(Box::new(self.stats()))),
            ShardRequest::Segments => Ok(ShardResponse::Segments(self.segments())),
            // Of one that has ended.
            ShardRequest::Recovery => {
                let done = || Box::new(PeerRecovery { stage: RecoveryStage::Done, ..PeerRecovery::default() });
                Ok(ShardResponse::Recovery(self.made.borrow().clone().unwrap_or_else(done)))
            }
            ShardRequest::Write(request) => {
                let shard = self.clone();
                let write = async move { shard.write(request).await.map(ShardResponse::Write) };
                self.undroppable(Lane::Write, write).await
            }
            ShardRequest::Refresh => {
                let shard = self.clone();
                self.undroppable(
                    Lane::Background,
                    async move { shard.refresh(true).await.map(|()| ShardResponse::Done) },
                )
                .await
            }
            ShardRequest::Flush { force, wait_if_ongoing } => {
                let shard = self.clone();
                let flush = async move { shard.flush(force, wait_if_ongoing).await.map(|()| ShardResponse::Done) };
                self.undroppable(Lane::Background, flush).await
            }
            ShardRequest::ForceMerge { max_segments, only_expunge_deletes, flush } => {
                let shard = self.clone();
                let merge = async move {
                    shard.force_merge(max_segments, only_expunge_deletes, flush).await.map(|()| ShardResponse::Done)
                };
                self.undroppable(Lane::Background, merge).await
            }
        };
        self.report_failure();
        answer
    }

    /// Runs `work` in a task of its own and waits for it: it goes on when the waiting is given up.
    async fn undroppable<T: 'static>(
        self: &Rc<Self>,
        lane: Lane,
        work: impl Future<Output = ApiResult<T>> + 'static,
    ) -> ApiResult<T> {
        let done = Rc::new((RefCell::new(None), Signal::default()));
        let result = done.clone();
        let called = self.io.monotonic_ns();
        let timeline = timeline::current();
        let (shard, timed) = (self.clone(), timeline.is_some());
        self.keep(
            lane,
            timeline::within_any(timeline, async move {
                shard.timed(Stage::Queue, called);
                let end = Ends(&result.1);
                let answer = work.await;
                *result.0.borrow_mut() = Some((answer, timed.then(Instant::now)));
                drop(end);
            }),
        );
        done.1.wait().await;
        let answer = done.0.borrow_mut().take().map(|(answer, at)| {
            if let (Some(at), Some(timeline)) = (at, timeline::current()) {
                timeline.note(Stage::Queue, at, Instant::now());
            }
            answer
        });
        answer.unwrap_or_else(|| Err(self.unavailable("stopped while it worked on the request")))
    }

    fn unavailable(&self, what: &str) -> ApiError {
        ApiError::new(
            503,
            "no_shard_available_action_exception",
            format!("[{}][{}] {what}", self.id.index, self.id.shard),
        )
    }

    /// Ends the shard: what was begun is finished (writes in flight become durable), its tasks have ended when this returns,
    /// and nothing of it touches its files any more. With `flush` what memory holds is committed, so that the next start
    /// replays nothing.
    pub async fn close(&self, flush: bool) {
        self.closing.set(true);
        self.merges_end.store(true, Ordering::Relaxed);
        if let Some(copies) = &self.copies {
            copies.close(&self.unavailable("is closing"));
        }
        self.sync_now.raise();
        self.refresh_now.raise();
        self.soon_now.raise();
        self.upkeep_now.raise();
        self.scrub_now.raise();
        self.images_now.raise();
        self.beat_now.raise();
        // Nobody refreshes any more: those who wait for it are told what is true, that it is written.
        self.visible.advance(i64::MAX);
        let until = self.io.monotonic_ns() + CLOSE_WAIT.as_nanos() as u64;
        let patience = self.io.monotonic_ns() + COPIES_WAIT.as_nanos() as u64;
        while self.tasks.get() > 0 && self.io.monotonic_ns() < until {
            if let Some(copies) = self.copies.as_ref().filter(|_| self.io.monotonic_ns() > patience) {
                copies.give_up(&self.outcome_unknown());
            }
            if self.engine.failure().is_none() && self.engine.translog().needs_sync() {
                let _ = self.engine.sync().await;
            }
            self.io.sleep(Duration::from_millis(1)).await;
        }
        if self.tasks.get() > 0 {
            tracing::warn!(index = %self.id.index, shard = self.id.shard, tasks = self.tasks.get(), "closed with work in flight");
        }
        if self.engine.failure().is_none() {
            // An error is noted by the engine; the translog has everything that was acknowledged.
            let _ = self.engine.sync().await;
            if flush {
                if let Err(e) = self.engine.flush(false, self.io.now_ms(), &self.io.pace(None)).await {
                    tracing::warn!(index = %self.id.index, shard = self.id.shard, error = %e, "no flush at close");
                }
                let _ = self.engine.translog().close().await;
            }
        }
    }

    async fn recover(self: &Rc<Self>) -> ApiResult<()> {
        let mut replay = self.engine.replay();
        let mut parsed = ParsedDocument::default();
        let pace = self.io.pace(None);
        while let Some(batch) = replay.next().await? {
            for (_, operation) in batch.operations() {
                self.parse_replayed(&operation, &mut parsed).await?;
                let compiled = self.compiled.borrow().clone();
                self.engine.recover(&compiled.mapping, &operation, &parsed, self.io.now_ms())?;
                pace.yield_if_needed().await;
                self.buffer.set(self.engine.indexing_bytes());
                if self.buffer.wants_refresh() {
                    self.engine.refresh(self.io.now_ms(), &pace).await?;
                    match self.engine.write_images().await {
                        // They stay in memory, which has held them before.
                        Ok(()) | Err(ringdex_engine::Error::DiskFull { .. }) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
        }
        self.engine.refresh(self.io.now_ms(), &pace).await?;
        self.visible.advance(self.engine.visible_seq_no().0);
        Ok(())
    }

    /// Parses what a replay needs of an operation.
    async fn parse_replayed(&self, operation: &Operation<'_>, parsed: &mut ParsedDocument) -> ApiResult<()> {
        parsed.clear();
        match operation.kind {
            OperationKind::Index { id, source, .. } if self.engine.recovery_needs(operation)? => {
                self.parse(id, source, parsed).await
            }
            _ => Ok(()),
        }
    }

    /// Parses a document, adding to the mapping what it needs.
    async fn parse(&self, id: &str, source: &[u8], parsed: &mut ParsedDocument) -> ApiResult<()> {
        // Each round adds at least one field or fails, so a few rounds are enough even when others change the mapping, too.
        for _ in 0..16 {
            let compiled = self.compiled.borrow().clone();
            parsed.clear();
            document::parse(&compiled.mapping, id, source, parsed)?;
            match parsed.mapping_update.take() {
                None => return Ok(()),
                Some(fragment) => self.owner.update_mapping(&self.id, fragment).await?,
            }
        }
        Err(ApiError::new(503, "mapper_exception", "the mapping kept changing while the document was parsed"))
    }

    fn start(self: &Rc<Self>) {
        self.keep(Lane::Write, self.clone().sync_task());
        self.keep(Lane::Background, self.clone().refresh_task());
        self.keep(Lane::Write, self.clone().soon_task());
        self.keep(Lane::Background, self.clone().image_task());
        self.keep(Lane::Background, self.clone().upkeep_task());
        self.keep(Lane::Background, self.clone().scrub_task());
        self.keep(Lane::Background, self.clone().warm_task());
        if self.copies.is_some() {
            self.keep(Lane::Background, self.clone().checkpoint_task());
        }
    }

    /// Runs one of the shard's own tasks. Should it panic, the shard has failed: nobody would sync or refresh any more.
    fn keep(self: &Rc<Self>, lane: Lane, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let guard = Running(self.clone());
        self.io.spawn(
            lane,
            Box::pin(async move {
                task.await;
                drop(guard);
            }),
        );
    }

    /// Reads the files after the start, and again when others have come to be used, slowly: what the disk has lost of them should be
    /// known while other copies are there.
    async fn scrub_task(self: Rc<Self>) {
        let go_on = async |bytes: u64| {
            let rest = Duration::from_nanos(bytes * 1_000_000_000 / SCRUB_BYTES_PER_SECOND);
            let until = self.io.monotonic_ns() + rest.as_nanos() as u64;
            while !self.closing.get() && self.io.monotonic_ns() < until {
                self.io.sleep(SCRUB_LOOK.min(rest)).await;
            }
            !self.closing.get() && self.engine.failure().is_none()
        };
        while !self.closing.get() && self.engine.failure().is_none() {
            if let Err(e) = self.engine.scrub(go_on).await {
                self.found_damage(&e);
            }
            self.scrub_now.wait().await;
        }
    }

    /// A file cannot be read as it was written.
    fn found_damage(&self, e: &ringdex_engine::Error) {
        tracing::error!(index = %self.id.index, shard = self.id.shard, error = %e, "a file of the shard cannot be read as it was written");
        // The only copy goes on with what it has.
        if matches!(e, ringdex_engine::Error::Corrupt { .. }) && !self.is_only_copy() {
            self.engine.fail(e);
            self.report_failure();
        }
    }

    async fn sync_task(self: Rc<Self>) {
        let translog = self.engine.translog().clone();
        while !self.closing.get() && self.engine.failure().is_none() {
            or(async { drop(translog.wait_appended().await) }, self.sync_now.wait()).await;
            let settings = self.settings.borrow().clone();
            if !settings.sync_each_request && !self.closing.get() {
                or(self.io.sleep(settings.sync_interval), self.sync_now.wait()).await;
            }
            if translog.needs_sync() {
                add(&self.counters.syncs, 1);
                if let Err(e) = self.engine.sync().await {
                    tracing::error!(index = %self.id.index, shard = self.id.shard, error = %e, "translog sync failed");
                    break;
                }
                self.own_checkpoint();
            }
            if translog.wants_next() || self.engine.wants_packing() {
                self.upkeep_now.raise();
            }
        }
        self.report_failure();
    }

    async fn refresh_task(self: Rc<Self>) {
        let mut next = self.io.monotonic_ns();
        while !self.closing.get() && self.engine.failure().is_none() {
            let settings = self.settings.borrow().clone();
            match settings.refresh_interval {
                // Others may need the memory.
                None => or(self.io.sleep(BUFFER_CHECK), self.refresh_now.wait()).await,
                Some(interval) => {
                    // From the previous deadline, not from now: a late refresh does not delay the next one.
                    next = (next + interval.as_nanos() as u64).max(self.io.monotonic_ns());
                    let wait = Duration::from_nanos(next.saturating_sub(self.io.monotonic_ns()));
                    or(self.io.sleep(wait), self.refresh_now.wait()).await;
                }
            }
            let idle = !settings.refresh_explicit
                && self.io.now_ms() - self.last_search_ms.get() > settings.search_idle_after.as_millis() as i64;
            self.buffer.set(self.engine.indexing_bytes());
            let full = self.buffer.wants_refresh();
            let due = settings.refresh_interval.is_some() && (!idle || self.visible.waiting() > 0);
            // What was shown to those who waited becomes a file like everything else.
            let wanted = self.engine.has_young() || (due || full) && self.engine.refresh_needed();
            if wanted && let Err(e) = self.refresh(false).await {
                tracing::error!(index = %self.id.index, shard = self.id.shard, error = %e, "refresh failed");
            }
        }
        self.report_failure();
    }

    /// Shows what was written to those who wait for it. Those who come while one is at work share the next, and three
    /// quarters of the time are left to others.
    async fn soon_task(self: Rc<Self>) {
        while !self.closing.get() && self.engine.failure().is_none() {
            self.soon_now.wait().await;
            if self.closing.get() || !self.engine.refresh_needed() {
                continue;
            }
            let began = self.io.monotonic_ns();
            let shown = if self.engine.buffer_bytes() > SOON_BYTES_MAX {
                self.refresh(false).await
            } else {
                self.refresh_soon().await
            };
            if let Err(e) = shown {
                tracing::error!(index = %self.id.index, shard = self.id.shard, error = %e, "refresh failed");
                break;
            }
            let rest = Duration::from_nanos(3 * (self.io.monotonic_ns() - began)).clamp(SOON_REST_MIN, SOON_REST_MAX);
            self.io.sleep(rest).await;
        }
        self.report_failure();
    }

    async fn refresh_soon(&self) -> ApiResult<()> {
        let began = self.io.monotonic_ns();
        self.engine.refresh_soon(self.io.now_ms(), &self.io.pace(None)).await?;
        add(&self.counters.refresh_ns, self.timed(Stage::Refresh, began));
        self.visible.advance(self.engine.visible_seq_no().0);
        self.buffer.set(self.engine.indexing_bytes());
        Ok(())
    }

    /// Waits until everything up to `seq_no` is visible to searches, and sees to it that this is soon.
    async fn until_visible(&self, seq_no: i64) {
        if self.engine.visible_seq_no().0 < seq_no {
            self.soon_now.raise();
            self.visible.reached(seq_no).await;
        }
    }

    /// Writes images to files as refreshes make them: until then they hold memory. Not a part of upkeep, which may take
    /// seconds for one flush.
    async fn image_task(self: Rc<Self>) {
        while !self.closing.get() && self.engine.failure().is_none() {
            self.images_now.wait().await;
            // While the disk has no space this is upkeep's, which knows when to look again.
            let in_trouble = self.upkeep_backoff.borrow().in_trouble();
            if !in_trouble && let Err(e) = self.engine.write_images().await {
                tracing::warn!(index = %self.id.index, shard = self.id.shard, error = %e, "images stay in memory");
                self.upkeep_now.raise();
            }
            self.buffer.set(self.engine.indexing_bytes());
        }
        self.report_failure();
    }

    async fn upkeep_task(self: Rc<Self>) {
        while !self.closing.get() && self.engine.failure().is_none() {
            or(self.io.sleep(Duration::from_secs(5)), self.upkeep_now.wait()).await;
            self.contexts.borrow_mut().expire(self.io.now_ms());
            self.sweep_caches();
            // In trouble, signals are heard but only time counts: there is one for every sync.
            loop {
                let rest = self.upkeep_backoff.borrow().rest(self.io.monotonic_ns());
                if rest.is_zero() || self.closing.get() {
                    break;
                }
                or(self.io.sleep(rest), self.upkeep_now.wait()).await;
            }
            if self.closing.get() {
                break;
            }
            match self.upkeep().await {
                Ok(()) => {
                    let failures = self.upkeep_backoff.borrow_mut().succeeded();
                    if let Some(failures) = failures {
                        tracing::info!(index = %self.id.index, shard = self.id.shard, failures, "upkeep goes on");
                    }
                    self.start_merges();
                }
                // No merge now: it needs space before it gives any back.
                Err(e) => {
                    let failures = self.upkeep_backoff.borrow_mut().failed(self.io.monotonic_ns());
                    if let Some(failures) = failures {
                        tracing::warn!(index = %self.id.index, shard = self.id.shard, error = %e, failures, "upkeep put off");
                    }
                }
            }
        }
        self.report_failure();
    }

    /// One round. Every part is tried, whatever became of the others; the first error.
    async fn upkeep(&self) -> ringdex_engine::Result<()> {
        let translog = self.engine.translog();
        let prepared = if translog.wants_next() { translog.prepare_next().await } else { Ok(()) };
        let packing =
            if self.engine.wants_packing() { self.engine.prepare_packing(&self.io.pace(None)).await } else { Ok(()) };
        let written = self.engine.write_images().await;
        let threshold = self.settings.borrow().flush_threshold_bytes;
        let flushed = if translog.stats().uncommitted_size_in_bytes > threshold {
            add(&self.counters.flush_periodic, 1);
            self.timed_flush(false).await
        } else {
            Ok(())
        };
        prepared.and(packing).and(written).and(flushed)
    }

    async fn refresh(&self, external: bool) -> ApiResult<()> {
        let began = self.io.monotonic_ns();
        let changed = self.engine.refresh(self.io.now_ms(), &self.io.pace(None)).await?;
        add(&self.counters.refresh_ns, self.timed(Stage::Refresh, began));
        if external {
            add(&self.counters.refresh_external, 1);
        }
        self.visible.advance(self.engine.visible_seq_no().0);
        self.buffer.set(self.engine.indexing_bytes());
        if changed {
            self.forget_segments();
            self.images_now.raise();
            self.upkeep_now.raise();
        }
        Ok(())
    }

    /// The caches forget what they know of segments that are gone.
    fn forget_segments(&self) {
        self.live_counts.retain(&self.engine.searcher());
        if let Some(filters) = &self.filter_cache {
            filters.retain(&self.engine.searcher());
        }
    }

    /// What was idle for long makes room for other shards.
    fn sweep_caches(&self) {
        let now = self.io.now_ms();
        if now - self.caches_swept_ms.get() >= CACHE_IDLE_MS {
            self.caches_swept_ms.set(now);
            self.request_cache.borrow_mut().sweep();
            self.live_counts.sweep();
            if let Some(filters) = &self.filter_cache {
                filters.sweep();
            }
        }
    }

    async fn flush(&self, force: bool, wait_if_ongoing: bool) -> ApiResult<()> {
        if !wait_if_ongoing && self.engine.flushing() {
            return Err(ApiError::new(429, "flush_not_allowed_engine_exception", "already flushing..."));
        }
        self.timed_flush(force).await?;
        Ok(())
    }

    async fn timed_flush(&self, force: bool) -> ringdex_engine::Result<()> {
        let began = self.io.monotonic_ns();
        let done = self.engine.flush(force, self.io.now_ms(), &self.io.pace(None)).await;
        add(&self.counters.flush_ns, self.timed(Stage::Flush, began));
        self.visible.advance(self.engine.visible_seq_no().0);
        done.map(drop)
    }

    /// Records a stage that began at `began` and ends now; its nanoseconds.
    fn timed(&self, stage: Stage, began: u64) -> u64 {
        let ns = self.io.monotonic_ns() - began;
        self.record(stage, ns);
        ns
    }

    /// Notes that a stage took so long, for this shard and for its core.
    fn record(&self, stage: Stage, ns: u64) {
        self.stages.borrow_mut().record(stage, ns);
        stats::record(stage, ns);
    }

    fn report_failure(&self) {
        if let Some(reason) = self.engine.failure()
            && !self.failure_reported.replace(true)
        {
            tracing::error!(index = %self.id.index, shard = self.id.shard, reason, "shard failed");
            // Nobody refreshes any more: those who wait for it look why.
            self.visible.advance(i64::MAX);
            if self.engine.is_damaged() {
                self.owner.shard_damaged(&self.id);
            }
            self.owner.shard_failed(&self.id, &reason);
        }
    }

    fn stats(&self) -> ShardStats {
        let (c, e) = (&self.counters, self.engine.counters());
        let ms = |ns: &Cell<u64>| ns.get() / 1_000_000;
        let segments = self.engine.segments();
        let translog = self.engine.translog().stats();
        let filters = self.filter_cache.as_ref().map(|f| f.stats()).unwrap_or_default();
        let answers = self.request_cache.borrow().stats();
        let docs: u64 = segments.iter().map(|s| u64::from(s.doc_count)).sum();
        let deleted: u64 = segments.iter().map(|s| u64::from(s.deleted_count)).sum();
        let in_files: u64 = segments.iter().map(|s| s.size_bytes).sum();
        ShardStats {
            docs_count: docs - deleted,
            docs_deleted: deleted,
            store_size_bytes: in_files + translog.size_in_bytes,
            index_total: c.index.get(),
            index_time_ms: ms(&c.index_ns),
            index_failed: c.index_failed.get(),
            delete_total: c.delete.get(),
            delete_time_ms: ms(&c.delete_ns),
            noop_update_total: c.noop.get(),
            get_total: c.get.get(),
            get_time_ms: ms(&c.get_ns),
            get_exists_total: c.get.get() - c.get_missing.get(),
            get_missing_total: c.get_missing.get(),
            query_total: c.query.get(),
            query_time_ms: ms(&c.query_ns),
            fetch_total: c.fetch.get(),
            fetch_time_ms: ms(&c.fetch_ns),
            open_contexts: self.contexts.borrow().len() as u64,
            query_cache_size_bytes: filters.bytes,
            query_cache_hits: filters.hits,
            query_cache_misses: filters.misses,
            query_cache_entries: filters.entries,
            query_cache_entries_ever: filters.kept_ever,
            request_cache_size_bytes: answers.bytes,
            request_cache_hits: answers.hits,
            request_cache_misses: answers.misses,
            request_cache_evictions: answers.evictions,
            merges_current: self.merges.count() as u64,
            merges_total: e.merges.get(),
            merges_time_ms: ms(&c.merge_ns),
            merges_docs: e.merged_docs.get(),
            merges_size_bytes: e.merged_bytes.get(),
            refresh_total: e.refreshes.get(),
            refresh_time_ms: ms(&c.refresh_ns),
            refresh_external_total: c.refresh_external.get(),
            refresh_listeners: self.visible.waiting() as u64,
            flush_total: e.flushes.get(),
            flush_periodic: c.flush_periodic.get(),
            flush_time_ms: ms(&c.flush_ns),
            segments_count: segments.len() as u64,
            segments_memory_bytes: self.engine.unwritten_bytes(),
            index_writer_memory_bytes: self.engine.buffer_bytes() as u64,
            version_map_memory_bytes: self.engine.version_map_bytes() as u64,
            translog_operations: translog.operations,
            translog_size_bytes: translog.size_in_bytes,
            translog_uncommitted_operations: translog.uncommitted_operations,
            translog_uncommitted_size_bytes: translog.uncommitted_size_in_bytes,
            translog_syncs: c.syncs.get(),
            recovered_operations: e.recovered_operations.get(),
            max_seq_no: self.engine.max_seq_no().0,
            local_checkpoint: self.engine.local_checkpoint().0,
            global_checkpoint: self.global_checkpoint().0,
            commit_generation: self.engine.commit_generation().0,
            commit_id: format!("{}-{}", self.id.uuid, self.engine.commit_generation()),
            core: self.core,
            recovery: self.made.borrow().clone(),
        }
    }

    fn storage(&self) -> ShardStorage {
        let ledger = self.engine.directory().ledger();
        ShardStorage {
            segments: self.engine.storage(),
            translog_bytes: self.engine.translog().stats().size_in_bytes,
            operations: self.counters.index.get() + self.counters.delete.get(),
            source_bytes: self.counters.source_bytes.get(),
            flows: ledger.map_or_else(Vec::new, |l| Purpose::ALL.iter().map(|&p| (p, l.flow(p))).collect()),
            directory_syncs: ledger.map_or(0, |l| l.directory_syncs()),
        }
    }

    fn segments(&self) -> Vec<SegmentStats> {
        let describe = |s: ringdex_engine::engine::SegmentInfo| SegmentStats {
            name: format!("_{}", s.id),
            generation: s.id.0,
            docs_count: u64::from(s.doc_count - s.deleted_count),
            docs_deleted: u64::from(s.deleted_count),
            size_bytes: s.size_bytes,
            memory_bytes: if s.written { 0 } else { s.size_bytes },
            committed: s.committed,
            searchable: true,
        };
        self.engine.segments().into_iter().map(describe).collect()
    }
}

/// A task of the shard: counted until it ends; a panic in it fails the shard.
struct Running<I: NodeIo>(Rc<Shard<I>>);

impl<I: NodeIo> Drop for Running<I> {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        if std::thread::panicking() {
            let what = "a task of the shard panicked".to_owned();
            self.0.engine.fail(&ringdex_engine::Error::Failed { reason: what });
            self.0.report_failure();
        }
    }
}

/// Raises a signal when a task ends, even by a panic.
struct Ends<'a>(&'a Signal);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// 16 bytes that tell one shard's files from another's: the index's uuid hashed, and the shard's number.
pub fn shard_uuid(id: &ShardId) -> [u8; 16] {
    let mut uuid = [0u8; 16];
    let text = id.uuid.as_bytes();
    let n = text.len().min(12);
    uuid[..n].copy_from_slice(&text[..n]);
    let rest = ringdex_engine::codec::crc32(text) ^ id.shard;
    uuid[12..].copy_from_slice(&rest.to_le_bytes());
    uuid
}

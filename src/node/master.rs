//! The master: the only place where the cluster state changes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringdex_engine::error::Error;
use ringdex_engine::store::{BLOCK, Directory, File};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::json;

use super::{Compiled, Published, ShardKey, Shared};
use crate::backend::StateUpdate;
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::mesh::{Desk, OneShot, panic_text};
use crate::metastore::{Loaded, MetaStore, Persisted};
use crate::stats::{self, Stage};

/// Section of `ClusterState::custom` that remembers deleted indices, by uuid.
pub const GRAVEYARD: &str = "index-graveyard";
/// Deleted indices remembered.
const TOMBSTONES_MAX: usize = 500;
/// Updates waiting before more are refused.
const UPDATES_MAX: usize = 10_000;
/// How long an update waits for new shards to start before it is answered without them.
const START_WAIT: Duration = Duration::from_secs(30);
/// Allocated and removed again before indices are created.
const ROOM_PROBE: &str = "room-probe";
/// What a new shard allocates: its first translog generation, a commit point, directories.
const SHARD_BYTES: u64 = (256 << 10) + 8 * BLOCK as u64;
const PROBE_BYTES_MAX: u64 = 64 << 20;

type Answer = ApiResult<Arc<ClusterState>>;

struct Waiting {
    source: String,
    update: StateUpdate,
    answer: OneShot<Answer>,
}

/// Owns the cluster state of a node that is its own master.
pub struct Master<I: NodeIo> {
    io: I,
    shared: Arc<Shared<I>>,
    desk: Rc<Desk>,
    node_id: String,
    store: RefCell<Option<MetaStore<I::Directory>>>,
    current: RefCell<Arc<Published>>,
    waiting: RefCell<Vec<Waiting>>,
    wake: OneShot<()>,
    stopping: Cell<bool>,
    /// Set when a save failed: the disk may hold either state, so no other may be made.
    failed: RefCell<Option<String>>,
}

/// Publishes the state that was found (or a first one) and begins to take updates. `directories`: the index
/// directories that are there.
pub async fn start_master<I: NodeIo>(
    io: I,
    shared: Arc<Shared<I>>,
    desk: Rc<Desk>,
    mut store: MetaStore<I::Directory>,
    loaded: Loaded,
    directories: Vec<String>,
) -> ApiResult<Rc<Master<I>>> {
    for unreadable in &loaded.unreadable {
        tracing::warn!(reason = %unreadable, "a cluster state that was not saved to its end, or is damaged, is left aside");
    }
    let persisted = match loaded.persisted {
        Some(mut persisted) => {
            persisted.state.cluster_name.clone_from(&shared.config.cluster_name);
            raise_terms(&mut persisted.state);
            persisted.state.version += 1;
            persisted.state.state_uuid = uuid(&io);
            store.save_at_start(&persisted).await?;
            persisted
        }
        None => {
            let state = ClusterState {
                cluster_uuid: uuid(&io),
                cluster_name: shared.config.cluster_name.clone(),
                state_uuid: uuid(&io),
                term: 1,
                version: 1,
                ..ClusterState::default()
            };
            let persisted = Persisted { node_id: shared.info.id.clone(), state };
            // Twice: from now on both slots are whole.
            store.save(&persisted).await?;
            store.save(&persisted).await?;
            persisted
        }
    };
    let master = Rc::new(Master {
        io,
        shared,
        desk,
        node_id: persisted.node_id,
        store: RefCell::new(Some(store)),
        current: RefCell::default(),
        waiting: RefCell::default(),
        wake: OneShot::default(),
        stopping: Cell::new(false),
        failed: RefCell::default(),
    });
    master.sweep_directories(&persisted.state, directories).await;
    if let Ok(directory) = master.io.directory(&master.shared.config.data).await {
        // Left by a crash, if at all.
        let _ = directory.remove(ROOM_PROBE).await;
    }
    let compiled = compile_all(&persisted.state, &BTreeMap::new(), true)?;
    let published = Arc::new(master.derive(Arc::new(persisted.state), compiled));
    master.publish(&published).await;
    master.shared.recovered.store(true, Ordering::Release);
    let running = Rc::clone(&master);
    master.io.spawn(Lane::Write, Box::pin(async move { running.run().await }));
    Ok(master)
}

impl<I: NodeIo> Master<I> {
    /// Queues `update`; answers when every core has applied its result.
    pub async fn update(&self, source: String, update: StateUpdate) -> Answer {
        if let Some(reason) = &*self.failed.borrow() {
            return Err(failed(reason));
        }
        if self.stopping.get() {
            return Err(ApiError::new(503, "node_closed_exception", "node closed"));
        }
        if self.waiting.borrow().len() >= UPDATES_MAX {
            let reason = format!("rejected execution of a cluster state update: [{UPDATES_MAX}] are waiting");
            return Err(ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1"));
        }
        let answer = OneShot::default();
        self.waiting.borrow_mut().push(Waiting { source, update, answer: answer.clone() });
        self.wake.set(());
        answer.get().await
    }

    /// Takes no more updates; those in work are finished.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.wake.set(());
    }

    async fn run(self: Rc<Self>) {
        loop {
            let batch = std::mem::take(&mut *self.waiting.borrow_mut());
            if !batch.is_empty() {
                self.run_batch(batch).await;
            } else if self.stopping.get() {
                return;
            } else {
                self.wake.get().await;
            }
        }
    }

    async fn run_batch(&self, batch: Vec<Waiting>) {
        let begun = Instant::now();
        let before = Arc::clone(&*self.current.borrow());
        let mut state = Arc::clone(&before.state);
        let mut compiled = before.compiled.clone();
        let mut accepted = Vec::new();
        for Waiting { source, update, answer } in batch {
            let stepped = match self.step(&state, &compiled, update) {
                Ok(Some((next, next_compiled))) => {
                    self.check_room(&state, &next).await.map(|()| Some((next, next_compiled)))
                }
                other => other,
            };
            match stepped {
                Ok(Some((next, next_compiled))) => {
                    tracing::debug!(source, "cluster state changes");
                    (state, compiled) = (Arc::new(next), next_compiled);
                    accepted.push(answer);
                }
                Ok(None) => accepted.push(answer),
                Err(e) => answer.set(Err(e)),
            }
        }
        if Arc::ptr_eq(&state, &before.state) {
            accepted.iter().for_each(|answer| answer.set(Ok(Arc::clone(&state))));
            return;
        }
        let mut next = Arc::unwrap_or_clone(state);
        next.version = before.state.version + 1;
        next.state_uuid = uuid(&self.io);
        let deleted = bury(&before.state, &mut next, self.io.now_ms());
        if let Err(e) = self.save(&next).await {
            accepted.iter().for_each(|answer| answer.set(Err(e.clone())));
            return;
        }
        let published = Arc::new(self.derive(Arc::new(next), compiled));
        self.publish(&published).await;
        for uuid in &deleted {
            if let Err(e) = self.io.remove_directory(&self.shared.index_path(uuid)).await {
                tracing::warn!(uuid, error = %e, "the directory of a deleted index is left until the next start");
            }
        }
        stats::record_since(Stage::StateUpdate, begun);
        let started = new_shards(&before, &published);
        let (desk, shared, io) = (Rc::clone(&self.desk), Arc::clone(&self.shared), self.io.clone());
        let answer_all = async move {
            wait_for_shards(&io, &desk, &shared, &published, started).await;
            accepted.iter().for_each(|answer| answer.set(Ok(Arc::clone(&published.state))));
        };
        // Not awaited: the next update need not wait until new shards have started.
        self.io.spawn(Lane::Write, Box::pin(answer_all));
    }

    /// One update: the next state and what it compiles to.
    #[allow(clippy::type_complexity)]
    fn step(
        &self,
        state: &ClusterState,
        compiled: &BTreeMap<String, Compiled>,
        update: StateUpdate,
    ) -> ApiResult<Option<(ClusterState, BTreeMap<String, Compiled>)>> {
        let updated = catch_unwind(AssertUnwindSafe(|| update(state)));
        let Some(next) = updated.unwrap_or_else(|panic| {
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
        let compiled = compile_all(&next, compiled, false)?;
        Ok(Some((next, compiled)))
    }

    async fn save(&self, state: &ClusterState) -> ApiResult<()> {
        // Taken out while it is in use; a failed one never comes back.
        let Some(mut store) = self.store.borrow_mut().take() else { return Err(failed("an earlier save failed")) };
        let persisted = Persisted { node_id: self.node_id.clone(), state: state.clone() };
        match store.save(&persisted).await {
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

    fn derive(&self, state: Arc<ClusterState>, compiled: BTreeMap<String, Compiled>) -> Published {
        let placement = self.current.borrow().placement.next(&state, self.shared.cores.len());
        Published { state, compiled, placement }
    }

    /// Hands `published` to every core and waits until all have it.
    async fn publish(&self, published: &Arc<Published>) {
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

fn failed(reason: &str) -> ApiError {
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
fn compile_all(
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

/// Remembers in `next` which indices are gone from `before`; gives their uuids.
fn bury(before: &ClusterState, next: &mut ClusterState, now_ms: i64) -> Vec<String> {
    let alive: BTreeSet<&str> = next.indices.values().map(|index| index.uuid.as_str()).collect();
    let gone: Vec<_> = before.indices.values().filter(|i| !alive.contains(i.uuid.as_str())).cloned().collect();
    if gone.is_empty() {
        return Vec::new();
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
    gone.into_iter().map(|index| index.uuid.clone()).collect()
}

/// Shards that run in `after` and did not in `before`.
fn new_shards(before: &Published, after: &Published) -> Vec<ShardKey> {
    let open_before: BTreeSet<&str> =
        before.state.indices.values().filter(|i| i.open).map(|i| i.uuid.as_str()).collect();
    let opened = after.state.indices.values().filter(|i| i.open && !open_before.contains(i.uuid.as_str()));
    opened.flat_map(|i| (0..i.number_of_shards).map(|shard| (i.uuid.as_str().into(), shard))).collect()
}

async fn wait_for_shards<I: NodeIo>(
    io: &I,
    desk: &Rc<Desk>,
    shared: &Shared<I>,
    published: &Published,
    shards: Vec<ShardKey>,
) {
    let mut by_core: BTreeMap<usize, Vec<ShardKey>> = BTreeMap::new();
    for key in shards {
        if let Some(core) = published.placement.core(&key.0, key.1) {
            by_core.entry(core).or_default().push(key);
        }
    }
    let calls: Vec<_> = by_core
        .into_iter()
        .map(|(core, keys)| {
            desk.call_abortable(&shared.cores[core], Lane::Write, move |core| {
                Box::pin(async move { core.until_settled(keys).await })
            })
        })
        .collect();
    let all = async {
        for call in calls {
            let _ = call.await;
        }
    };
    let bound = async {
        io.sleep(START_WAIT).await;
        tracing::warn!("some shards take longer than {START_WAIT:?} to start");
    };
    futures_lite::future::or(all, bound).await;
}

/// Every shard begins a new primary term: a crash may have lost operations whose sequence numbers are given out again, and
/// a client that remembers (sequence number, term) of a lost one must not match its successor.
fn raise_terms(state: &mut ClusterState) {
    for index in state.indices.values_mut() {
        let mut raised = IndexMetadata::clone(index);
        raised.primary_terms.iter_mut().for_each(|term| *term += 1);
        *index = Arc::new(raised);
    }
}

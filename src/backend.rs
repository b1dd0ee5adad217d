//! What REST and coordination see of the node: the cluster state, the shards, time. Implemented by the real node over
//! glommio (`node.rs`) and by an in-process one over simulated disks (tests, simulator).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::mapping::Mapping;
use ringdex_net::cluster::allocation::AllocationInputs;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::error::ApiResult;
use crate::memory::NodeMemory;
use crate::rest::passed::{Answered, PassedOn};
use crate::shard::message::{ShardId, ShardRequest, ShardResponse};
use crate::stats::Snapshot;
use crate::stats::hot::HotTask;
use crate::stats::interval::Reading;
use crate::tasks::{Ask, Registry, TaskInfo};

/// A future that stays on its core.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A change of the cluster state: a pure function from the current state to the next one. `Ok(None)` = nothing to change.
/// It may be run more than once: on a node that is not the master, again when the state has changed meanwhile.
pub type StateUpdate = Box<dyn Fn(&ClusterState) -> ApiResult<Option<ClusterState>> + Send>;

/// How urgent a change of the cluster state is; the more urgent the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are Elasticsearch's
pub enum Priority {
    Immediate,
    Urgent,
    High,
    Normal,
    Low,
    Languid,
}

impl Priority {
    /// All of them.
    pub const ALL: [Priority; 6] =
        [Priority::Immediate, Priority::Urgent, Priority::High, Priority::Normal, Priority::Low, Priority::Languid];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Priority::Immediate => "IMMEDIATE",
            Priority::Urgent => "URGENT",
            Priority::High => "HIGH",
            Priority::Normal => "NORMAL",
            Priority::Low => "LOW",
            Priority::Languid => "LANGUID",
        }
    }
}

/// A change of the cluster state that has not been answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpdate {
    /// Counts those of this node.
    pub number: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is called.
    pub source: String,
    /// Whether it is in work.
    pub executing: bool,
    /// Milliseconds since it came.
    pub waited_ms: u64,
}

/// The node, as one core sees it. Not `Send`: every core has its own.
pub trait Backend {
    /// The state this core has applied.
    fn state(&self) -> Arc<ClusterState>;

    /// Runs `update` on the master, one at a time; persists and publishes the result; answers when every core (node) has
    /// applied it: new shards are started, removed ones are gone. `version` and `state_uuid` are set by the master.
    fn update_state(&self, source: &str, update: StateUpdate) -> LocalFuture<'_, ApiResult<Arc<ClusterState>>>;

    /// Whether a master is known, and the state here is one of its.
    fn has_master(&self) -> bool;

    /// The changes that this node's queue has, in the order they are worked on. Those that count are the elected master's.
    fn pending_updates(&self) -> LocalFuture<'_, Vec<PendingUpdate>>;

    /// Sends a request to a shard on whatever core. A full mailbox is 429 `es_rejected_execution_exception`;
    /// a shard that is not there is 503 `no_shard_available_action_exception`.
    fn shard(&self, shard: &ShardId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>>;

    /// The same to the copy on one node.
    fn copy(&self, shard: &ShardId, _node: NodeId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        self.shard(shard, request)
    }

    /// The compiled mapping and analyzers of an index at its present mapping version (cached by uuid and version).
    fn compiled(&self, index: &IndexMetadata) -> ApiResult<CompiledIndex>;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// Nanoseconds of a clock that never goes back.
    fn monotonic_ns(&self) -> u64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Waits.
    fn sleep_ms(&self, ms: u64) -> LocalFuture<'static, ()>;

    /// Starts a task of its own on this core, that goes on whoever stops waiting for it.
    fn spawn(&self, task: LocalFuture<'static, ()>);

    /// What this core is doing.
    fn tasks(&self) -> &Rc<Registry>;

    /// The tasks of all cores that something is wanted of. A core that is too busy to be asked is left out, unless it is the
    /// only one concerned.
    fn ask_tasks(&self, ask: Ask) -> LocalFuture<'_, ApiResult<Vec<TaskInfo>>>;

    /// Facts about this node.
    fn node(&self) -> &NodeInfo;

    /// The settings this node was started with.
    fn config(&self) -> &Config;

    /// The node's memory budget.
    fn memory(&self) -> &Arc<NodeMemory>;

    /// Node-wide statistics gathered from all cores: latency histograms, HTTP counters, memory, process.
    fn node_stats(&self) -> LocalFuture<'_, Value>;

    /// Latency of every stage, by core.
    fn latency(&self, reading: Reading) -> LocalFuture<'_, Vec<(usize, Snapshot)>>;

    /// Tasks that did not give way, by core: how many, and the last of them.
    fn hot_tasks(&self) -> LocalFuture<'_, Vec<(usize, (u64, Vec<HotTask>))>>;

    /// `/metrics`: Prometheus text from all cores.
    fn metrics_text(&self) -> LocalFuture<'_, String>;

    /// What allocation goes by beyond the state. Only the elected master knows of the nodes' disks; another node knows the time.
    fn allocation_inputs(&self) -> LocalFuture<'_, AllocationInputs>;

    /// Passes a request on to another node, which answers it from what it knows itself.
    fn ask_node(&self, node: NodeId, call: PassedOn, wait_ms: u64) -> LocalFuture<'_, ApiResult<Answered>>;

    /// State of a shard copy on this node: started, recovering, or failed with a reason. What the cluster knows of it is in the routing.
    fn shard_health(&self, shard: &ShardId) -> ShardHealth;
}

/// A shared backend.
pub type SharedBackend = Rc<dyn Backend>;

/// What compiled form of an index's mapping everyone uses.
#[derive(Clone, Debug)]
pub struct CompiledIndex {
    /// Mapping.
    pub mapping: Arc<Mapping>,
    /// Analyzers.
    pub analyzers: Arc<AnalyzerRegistry>,
}

/// State of a shard copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardHealth {
    /// Takes requests.
    Started,
    /// Replaying its translog.
    Recovering,
    /// Has failed, and why.
    Failed(String),
    /// Not on this node.
    Missing,
}

/// Facts about this node that never change while it runs.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// `node.name`
    pub name: String,
    /// 22 characters, URL-safe; persisted in the data directory.
    pub id: String,
    /// New at each start.
    pub ephemeral_id: String,
    /// `127.0.0.1:9200`: where HTTP is bound, as published.
    pub http_address: String,
    /// `127.0.0.1:9300`
    pub transport_address: String,
    /// IP to show as `ip`/`host`.
    pub host: String,
    /// Cores used.
    pub cores: usize,
    /// Start, in milliseconds since 1970.
    pub start_ms: i64,
    /// `node.attr.*`
    pub attributes: Vec<(String, String)>,
}

//! A node in memory for tests of the REST layer: shards are maps, searches find everything. It is a cluster of itself: it does with
//! its state what a master does, and what recovers on it has recovered at once. On other nodes that join, a test says when.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::search::{DocAddress, FetchedHit, QueryResult, TopHit};
use ringdex_net::cluster::allocation::{AllocationInputs, follow_metadata, reroute, shard_started};
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::routing::CopyState;
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata, Role, host_of};
use serde_json::{Value, json};

use super::http::Rendered;
use super::passed::{self, Answered, PassedOn};
use super::request::{Body, HEADERS, Method, Request};
use super::router::handle;
use crate::backend::{
    Backend, CompiledIndex, LocalFuture, NodeInfo, PendingUpdate, ShardHealth, SharedBackend, StateUpdate,
};
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::memory::NodeMemory;
use crate::metadata::settings;
use crate::shard::message::*;
use crate::stats::hot::{self, HotTask};
use crate::stats::interval::Reading;
use crate::stats::{self, Snapshot};
use crate::tasks::{Ask, Registry, TaskInfo};

#[derive(Clone)]
struct Doc {
    version: u64,
    seq_no: i64,
    source: Option<Bytes>,
    routing: Option<String>,
}

#[derive(Default)]
struct NaiveShard {
    docs: BTreeMap<String, Doc>,
    next_seq_no: i64,
}

/// The id of [`FakeNode`].
pub const OWN: NodeId = NodeId(1);

/// A node with all roles.
pub fn member(id: NodeId) -> DiscoveryNode {
    let n = id.0;
    DiscoveryNode {
        id,
        name: format!("n{n}"),
        ephemeral_id: "e".into(),
        transport_address: format!("10.0.0.{n}:9300"),
        http_address: format!("10.0.0.{n}:9200"),
        roles: [Role::Master, Role::Data, Role::Ingest].into(),
        attributes: BTreeMap::new(),
        cores: 1,
    }
}

/// The state in which what recovers on some nodes has recovered.
pub fn copies_started(state: &ClusterState, on: impl Fn(NodeId) -> bool) -> ClusterState {
    let mut next = state.clone();
    for (uuid, routing) in &state.routing {
        for (shard, group) in routing.shards.iter().enumerate() {
            let recovering = group.iter().filter(|copy| copy.state == CopyState::Initializing);
            for copy in recovering.filter(|copy| copy.node.is_some_and(&on)) {
                let id = copy.allocation_id.unwrap();
                next = shard_started(&next, uuid, shard as u32, id, None).unwrap().unwrap_or(next);
            }
        }
    }
    next
}

pub struct FakeNode {
    state: RefCell<Arc<ClusterState>>,
    /// The copies on its disk, by index uuid and shard.
    stored: RefCell<BTreeMap<(String, u32), AllocationId>>,
    shards: RefCell<HashMap<ShardId, NaiveShard>>,
    clock_ms: Cell<i64>,
    random: Cell<u64>,
    node: NodeInfo,
    config: Config,
    memory: Arc<NodeMemory>,
    tasks: Rc<Registry>,
    /// What waits for the master; each is done so many milliseconds after the start.
    pending: Vec<(i64, PendingUpdate)>,
}

/// The clock when a node starts.
const START_MS: i64 = 1_600_000_000_000;

impl FakeNode {
    #[expect(clippy::new_ret_no_self)] // everything wants it shared
    pub fn new() -> SharedBackend {
        FakeNode::with_memory(1 << 30)
    }

    pub fn with_memory(memory: u64) -> SharedBackend {
        let state = ClusterState {
            cluster_name: "test".into(),
            cluster_uuid: "uuuuuuuuuuuuuuuuuuuuuu".into(),
            master: Some(OWN),
            nodes: [(OWN, Arc::new(member(OWN)))].into(),
            ..ClusterState::default()
        };
        FakeNode::with_state(memory, state)
    }

    /// As a node is until a master has been elected.
    pub fn unelected() -> SharedBackend {
        FakeNode::with_state(1 << 30, ClusterState::default())
    }

    /// A master that has updates in work for so many milliseconds.
    pub fn busy(pending: Vec<(i64, PendingUpdate)>) -> SharedBackend {
        let state = ClusterState {
            cluster_name: "test".into(),
            master: Some(OWN),
            nodes: [(OWN, Arc::new(member(OWN)))].into(),
            ..ClusterState::default()
        };
        Rc::new(FakeNode { pending, ..FakeNode::of_member(member(OWN), 1 << 30, state) })
    }

    fn with_state(memory: u64, state: ClusterState) -> SharedBackend {
        Rc::new(FakeNode::of_member(member(OWN), memory, state))
    }

    fn of_member(own: DiscoveryNode, memory: u64, state: ClusterState) -> FakeNode {
        let node = NodeInfo {
            host: host_of(&own.transport_address).to_owned(),
            name: own.name,
            id: own.id.to_string(),
            ephemeral_id: own.ephemeral_id,
            http_address: own.http_address,
            transport_address: own.transport_address,
            cores: 1,
            ..NodeInfo::default()
        };
        FakeNode {
            state: RefCell::new(Arc::new(state)),
            stored: RefCell::default(),
            shards: RefCell::default(),
            clock_ms: Cell::new(START_MS),
            random: Cell::new(7),
            node,
            config: Config {
                data: "/nowhere".into(),
                http: ([127, 0, 0, 1], 9200).into(),
                cores: vec![0],
                memory: 1 << 30,
                name: "n1".into(),
                cluster_name: "test".into(),
                ..Config::default()
            },
            memory: NodeMemory::new(memory),
            tasks: Registry::new(0, 1, START_MS),
            pending: Vec::new(),
        }
    }

    /// Other nodes have empty disks.
    fn inputs(&self, state: &ClusterState) -> AllocationInputs {
        let seed = u128::from(self.random()) << 64 | u128::from(self.random());
        let mut inputs = AllocationInputs { now_ms: self.now_ms(), seed, ..AllocationInputs::default() };
        inputs.stored_copies = state.nodes.keys().map(|id| (*id, BTreeMap::new())).collect();
        inputs.stored_copies.insert(OWN, self.stored.borrow().clone());
        inputs
    }

    /// What becomes of a state: the routing follows, copies get their places, and those that get it here start.
    fn settled(&self, state: &ClusterState) -> ClusterState {
        let mut state = follow_metadata(state, self.now_ms());
        self.stored.borrow_mut().retain(|(uuid, _), _| state.index_by_uuid(uuid).is_some());
        loop {
            let inputs = self.inputs(&state);
            let Some(next) = reroute(&state, &inputs).state else { return state };
            state = copies_started(&next, |node| node == OWN);
            let mut stored = self.stored.borrow_mut();
            for (uuid, routing) in &state.routing {
                for (shard, group) in routing.shards.iter().enumerate() {
                    let own = group.iter().filter(|copy| copy.node == Some(OWN));
                    stored.extend(own.filter_map(|copy| Some(((uuid.clone(), shard as u32), copy.allocation_id?))));
                }
            }
        }
    }
}

impl NaiveShard {
    fn write(&mut self, op: WriteOp) -> Result<WriteResult, ApiError> {
        let known = self.docs.get(&op.id).cloned();
        let live = known.as_ref().filter(|d| d.source.is_some());
        let current = known.as_ref().map_or(0, |d| d.version);
        let conflict = |why: String| {
            Err(ApiError::new(
                409,
                "version_conflict_engine_exception",
                format!("[{}]: version conflict, {why}", op.id),
            ))
        };
        let version = match op.condition {
            VersionMatch::Any => current + 1,
            VersionMatch::SeqNo(s, t) => match live {
                Some(d) if d.seq_no == s.0 && t.0 == 1 => current + 1,
                _ => return conflict(format!("required seqNo [{s}], primary term [{t}]. but no document was found")),
            },
            VersionMatch::Internal(v) if v.0 != current => {
                return conflict(format!("current version [{current}] is different than the one provided [{v}]"));
            }
            VersionMatch::Internal(_) => current + 1,
            VersionMatch::External(v) if known.is_some() && v.0 <= current => {
                return conflict(format!("current version [{current}] is higher or equal to the one provided [{v}]"));
            }
            VersionMatch::ExternalGte(v) if known.is_some() && v.0 < current => {
                return conflict(format!("current version [{current}] is higher than the one provided [{v}]"));
            }
            VersionMatch::External(v) | VersionMatch::ExternalGte(v) => v.0,
        };
        let (source, outcome) = match op.kind {
            WriteKind::Index { create: true, .. } if live.is_some() => {
                return conflict(format!("document already exists (current version [{current}])"));
            }
            WriteKind::Index { source, .. } => {
                (Some(source), if live.is_some() { WriteOutcome::Updated } else { WriteOutcome::Created })
            }
            WriteKind::Delete => (None, if live.is_some() { WriteOutcome::Deleted } else { WriteOutcome::NotFound }),
            WriteKind::Update(update) => match live {
                Some(doc) => {
                    let mut merged: Value = serde_json::from_slice(doc.source.as_ref().unwrap()).unwrap();
                    let before = merged.clone();
                    crate::metadata::value::merge(&mut merged, &serde_json::from_slice(&update.doc.unwrap()).unwrap());
                    if merged == before && update.detect_noop {
                        return Ok(result(WriteOutcome::Noop, doc.version, doc.seq_no));
                    }
                    (Some(serde_json::to_vec(&merged).unwrap().into()), WriteOutcome::Updated)
                }
                None => {
                    let source = if update.doc_as_upsert { update.doc } else { update.upsert };
                    let Some(source) = source else {
                        return Err(ApiError::new(
                            404,
                            "document_missing_exception",
                            format!("[_doc][{}]: document missing", op.id),
                        ));
                    };
                    (Some(source), WriteOutcome::Created)
                }
            },
        };
        let seq_no = self.next_seq_no;
        self.next_seq_no += 1;
        self.docs.insert(op.id, Doc { version, seq_no, source, routing: op.routing });
        Ok(result(outcome, version, seq_no))
    }

    fn get(&self, wanted: &GetRequest) -> Result<GetResult, ApiError> {
        let Some(doc) = self.docs.get(&wanted.id).filter(|d| d.source.is_some()) else {
            return Ok(GetResult::default());
        };
        if let VersionMatch::Internal(v) = wanted.version
            && v.0 != doc.version
        {
            return Err(ApiError::new(409, "version_conflict_engine_exception", "version conflict"));
        }
        Ok(GetResult {
            found: true,
            version: Version(doc.version),
            seq_no: SeqNo(doc.seq_no),
            term: PrimaryTerm(1),
            routing: doc.routing.clone(),
            source: doc.source.clone().filter(|_| !wanted.source.disabled),
            fields: None,
        })
    }

    fn live(&self) -> Vec<(&String, &Doc)> {
        self.docs.iter().filter(|(_, d)| d.source.is_some()).collect()
    }

    fn fetch(&self, at: u32) -> FetchedHit {
        let (id, doc) = self.live()[at as usize];
        FetchedHit { id: id.clone(), source: doc.source.as_ref().map(|s| s.to_vec()), ..FetchedHit::default() }
    }
}

fn result(outcome: WriteOutcome, version: u64, seq_no: i64) -> WriteResult {
    WriteResult {
        outcome,
        version: Version(version),
        seq_no: SeqNo(seq_no),
        term: PrimaryTerm(1),
        get: None,
        location: None,
    }
}

impl Backend for FakeNode {
    fn state(&self) -> Arc<ClusterState> {
        self.state.borrow().clone()
    }

    fn update_state(&self, _source: &str, update: StateUpdate) -> LocalFuture<'_, ApiResult<Arc<ClusterState>>> {
        let current = self.state();
        let answer = update(&current).map(|next| {
            let next = next.map(|next| self.settled(&next)).filter(|next| *next != *current);
            let Some(mut next) = next else { return current };
            next.version = current.version + 1;
            let next = Arc::new(next);
            *self.state.borrow_mut() = next.clone();
            self.shards.borrow_mut().retain(|id, _| next.indices.get(&*id.index).is_some_and(|i| i.uuid == *id.uuid));
            next
        });
        Box::pin(async move { answer })
    }

    fn has_master(&self) -> bool {
        self.state().master.is_some()
    }

    fn pending_updates(&self) -> LocalFuture<'_, Vec<PendingUpdate>> {
        let waited_ms = self.now_ms() - START_MS;
        let left = self.pending.iter().filter(|(until_ms, _)| *until_ms > waited_ms);
        let left: Vec<PendingUpdate> =
            left.map(|(_, update)| PendingUpdate { waited_ms: waited_ms as u64, ..update.clone() }).collect();
        Box::pin(async { left })
    }

    fn shard(&self, shard: &ShardId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        let mut shards = self.shards.borrow_mut();
        let naive = shards.entry(shard.clone()).or_default();
        let answer = match request {
            ShardRequest::Write(write) => {
                let items = write.ops.into_iter().map(|op| naive.write(op)).collect();
                ShardResponse::Write(WriteResponse {
                    items,
                    forced_refresh: write.refresh == RefreshPolicy::Immediate,
                    fsynced: true,
                    copies: 1,
                })
            }
            ShardRequest::Get(wanted) => ShardResponse::Get(wanted.iter().map(|w| naive.get(w)).collect()),
            ShardRequest::Search(search) => {
                let live = naive.live().len();
                let hits: Vec<TopHit> = (0..live.min(search.query.top))
                    .map(|doc| TopHit { doc: DocAddress { segment: 0, doc: doc as u32 }, score: 1.0, sort: Vec::new() })
                    .collect();
                let fetched = match &search.fetch {
                    Some((from, _)) => hits.iter().skip(*from).map(|h| naive.fetch(h.doc.doc)).collect(),
                    None => Vec::new(),
                };
                ShardResponse::Search(SearchShardResponse {
                    result: QueryResult {
                        hits,
                        total: live as u64,
                        total_exact: true,
                        max_score: Some(1.0),
                        ..QueryResult::default()
                    },
                    fetched,
                    context: 1,
                })
            }
            ShardRequest::Fetch { hits, .. } => {
                ShardResponse::Fetch(hits.iter().map(|h| naive.fetch(h.doc.doc)).collect())
            }
            ShardRequest::Stats => ShardResponse::Stats(Box::new(ShardStats {
                docs_count: naive.live().len() as u64,
                ..ShardStats::default()
            })),
            ShardRequest::Segments => ShardResponse::Segments(Vec::new()),
            ShardRequest::Open { .. } => ShardResponse::Opened { context: 1 },
            _ => ShardResponse::Done,
        };
        Box::pin(async move { Ok(answer) })
    }

    /// Every copy has what the shard has, where it can be reached at all.
    fn copy(&self, shard: &ShardId, node: NodeId, request: ShardRequest) -> LocalFuture<'_, ApiResult<ShardResponse>> {
        let state = self.state();
        let copies = state.routing.get(&*shard.uuid).map_or(&[][..], |routing| routing.copies(shard.shard));
        let error = match state.nodes.get(&node) {
            Some(node) if node.transport_address.is_empty() => {
                ApiError::new(503, "node_not_connected_exception", format!("[{}] is not connected", node.name))
            }
            Some(_) if copies.iter().any(|copy| copy.node == Some(node) && copy.active()) => {
                return self.shard(shard, request);
            }
            _ => ApiError::new(503, "no_shard_available_action_exception", "no shard available"),
        };
        Box::pin(async move { Err(error) })
    }

    /// Other nodes have what the cluster agrees on, and nothing else.
    fn ask_node(&self, node: NodeId, call: PassedOn, _: u64) -> LocalFuture<'_, ApiResult<Answered>> {
        Box::pin(async move {
            let state = self.state();
            let own = state.nodes.get(&node).filter(|node| !node.transport_address.is_empty());
            let Some(own) = own.map(|own| DiscoveryNode::clone(own)) else {
                return Err(ApiError::new(503, "node_not_connected_exception", "not connected"));
            };
            let other: SharedBackend = Rc::new(FakeNode::of_member(own, 1 << 30, ClusterState::clone(&state)));
            passed::answer(&other, call).await
        })
    }

    fn allocation_inputs(&self) -> LocalFuture<'_, AllocationInputs> {
        let inputs = if self.state().master.map(|id| id.to_string()) == Some(self.node.id.clone()) {
            self.inputs(&self.state())
        } else {
            AllocationInputs::default()
        };
        Box::pin(async move { inputs })
    }

    fn compiled(&self, index: &IndexMetadata) -> ApiResult<CompiledIndex> {
        let analyzers = AnalyzerRegistry::new(&settings::analysis(&index.settings))?;
        let mapping = Mapping::parse(&index.mapping, &analyzers)?;
        Ok(CompiledIndex { mapping: Arc::new(mapping), analyzers: Arc::new(analyzers) })
    }

    fn now_ms(&self) -> i64 {
        self.clock_ms.get()
    }

    fn monotonic_ns(&self) -> u64 {
        self.clock_ms.get() as u64 * 1_000_000
    }

    fn random(&self) -> u64 {
        // SplitMix64
        let x = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(x);
        let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn sleep_ms(&self, ms: u64) -> LocalFuture<'static, ()> {
        self.clock_ms.set(self.clock_ms.get() + ms as i64);
        Box::pin(async {})
    }

    fn spawn(&self, task: LocalFuture<'static, ()>) {
        futures_lite::future::block_on(task);
    }

    fn tasks(&self) -> &Rc<Registry> {
        &self.tasks
    }

    fn ask_tasks(&self, ask: Ask) -> LocalFuture<'_, ApiResult<Vec<TaskInfo>>> {
        let tasks = self.tasks.answer(&ask);
        Box::pin(async { Ok(tasks) })
    }

    fn node(&self) -> &NodeInfo {
        &self.node
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn memory(&self) -> &Arc<NodeMemory> {
        &self.memory
    }

    fn latency(&self, reading: Reading) -> LocalFuture<'_, Vec<(usize, Snapshot)>> {
        let core = stats::read(&reading);
        Box::pin(async move { vec![(0, core)] })
    }

    fn hot_tasks(&self) -> LocalFuture<'_, Vec<(usize, (u64, Vec<HotTask>))>> {
        Box::pin(async { vec![(0, hot::notes())] })
    }

    fn node_stats(&self) -> LocalFuture<'_, Value> {
        Box::pin(async { json!({}) })
    }

    fn metrics_text(&self) -> LocalFuture<'_, String> {
        Box::pin(async { String::new() })
    }

    fn shard_health(&self, shard: &ShardId) -> ShardHealth {
        let state = self.state();
        let copies = state.routing.get(&*shard.uuid).map_or(&[][..], |routing| routing.copies(shard.shard));
        match copies.iter().find(|copy| copy.node == Some(OWN)) {
            None => ShardHealth::Missing,
            Some(copy) if copy.active() => ShardHealth::Started,
            Some(_) => ShardHealth::Recovering,
        }
    }
}

/// One exchange: `METHOD /path?query` and a body (empty = none).
pub fn call_raw(node: &SharedBackend, line: &str, body: &str, headers: &[(&str, &str)]) -> Rendered {
    futures_lite::future::block_on(handle(node, request(line, body, headers)))
}

/// The same, not sent yet.
pub fn request(line: &str, body: &str, headers: &[(&str, &str)]) -> Request {
    let (method, uri) = line.split_once(' ').expect("METHOD /path");
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let known = |name: &str| HEADERS.into_iter().find(|known| *known == name).expect("a header that is looked at");
    let mut all: Vec<(&str, String)> = headers.iter().map(|(n, v)| (known(n), (*v).to_owned())).collect();
    if !body.is_empty() && !headers.iter().any(|(n, _)| *n == "content-type") {
        all.push(("content-type", "application/json".into()));
    }
    Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            other => panic!("{other}"),
        },
        segments: path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        path: path.to_owned(),
        params: query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').map_or((p.to_owned(), String::new()), |(n, v)| (n.to_owned(), v.to_owned())))
            .collect(),
        headers: all,
        body: Body::Full(Bytes::copy_from_slice(body.as_bytes())),
        task: None,
    }
}

/// The same, with status and JSON.
pub fn call(node: &SharedBackend, line: &str, body: &str) -> (u16, Value) {
    let rendered = call_raw(node, line, body, &[]);
    let value = serde_json::from_slice(&rendered.body).unwrap_or(Value::Null);
    (rendered.status, value)
}

mod tests {
    use super::*;

    #[test]
    fn documents_live_and_die() {
        let node = FakeNode::new();
        let (status, made) = call(&node, "PUT /w/_doc/1", "{\"a\": 1.0}");
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["_version"], 1);
        assert_eq!(made["result"], "created");
        assert_eq!(made["_shards"], json!({"total": 2, "successful": 1, "failed": 0}));
        let (_, got) = call(&node, "GET /w/_doc/1", "");
        assert_eq!(got["_type"], "_doc");
        assert_eq!(got["found"], true);
        let raw = call_raw(&node, "GET /w/_doc/1", "", &[]);
        assert!(std::str::from_utf8(&raw.body).unwrap().ends_with("\"_source\":{\"a\": 1.0}}"));
        assert_eq!(call_raw(&node, "GET /w/_source/1", "", &[]).body, "{\"a\": 1.0}");
        assert_eq!(call(&node, "PUT /w/_create/1", "{}").0, 409);
        assert_eq!(call(&node, "POST /w/_update/1", "{\"doc\":{\"b\":1}}").1["_version"], 2);
        assert_eq!(call(&node, "POST /w/_update/1", "{\"doc\":{\"b\":1}}").1["result"], "noop");
        assert_eq!(call(&node, "HEAD /w/_doc/1", "").0, 200);
        assert_eq!(call(&node, "DELETE /w/_doc/1", "").1["result"], "deleted");
        assert_eq!(call(&node, "DELETE /w/_doc/1", "").0, 404);
        assert_eq!(call(&node, "GET /w/_doc/1", "").0, 404);
        assert_eq!(call(&node, "GET /nope/_doc/1", "").1["error"]["type"], "index_not_found_exception");
    }

    #[test]
    fn versions_are_checked() {
        let node = FakeNode::new();
        let (status, error) = call(&node, "PUT /w/_doc/1?version=1", "{}");
        assert_eq!(status, 400);
        assert_eq!(
            error["error"]["reason"],
            "Validation Failed: 1: internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead;"
        );
        assert_eq!(call(&node, "PUT /w/_doc/1?version=5&version_type=external", "{}").1["_version"], 5);
        assert_eq!(call(&node, "PUT /w/_doc/1?version=5&version_type=external", "{}").0, 409);
        assert_eq!(call(&node, "PUT /w/_doc/1?version=5&version_type=external_gte", "{}").0, 200);
        for bad in ["9223372036854775808", "-1", "1.5"] {
            assert_eq!(call(&node, &format!("PUT /w/_doc/1?version_type=external&version={bad}"), "{}").0, 400);
        }
        assert_eq!(call(&node, "PUT /w/_doc/1?version=9223372036854775807&version_type=external", "{}").0, 200);
        // The shape of the seeds: types, and versions that are compared.
        assert_eq!(call(&node, "PUT /s/blog/1", "{}").1["created"], true);
        let (status, answer) = call(&node, "PUT /s/blog/1?version=1", "{}");
        assert_eq!((status, &answer["_type"], &answer["_version"]), (200, &json!("blog"), &json!(2)));
        assert_eq!(call(&node, "PUT /s/blog/1?version=1", "{}").0, 409);
    }

    #[test]
    fn bulk_keeps_order_and_tells_errors_apart() {
        let node = FakeNode::new();
        let body = "{\"index\":{\"_id\":\"1\"}}\n{\"a\":1}\n{\"create\":{\"_id\":\"1\"}}\n{}\n{\"delete\":{\"_id\":\"9\"}}\n{\"index\":{\"_id\":\"\"}}\n{}\n{\"update\":{\"_id\":\"1\"}}\n{\"doc\":{\"a\":2}}\n";
        let (status, answer) = call(&node, "POST /b/_bulk", body);
        assert_eq!(status, 200);
        assert_eq!(answer["errors"], true);
        let statuses: Vec<i64> = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i.as_object().unwrap().values().next().unwrap()["status"].as_i64().unwrap())
            .collect();
        assert_eq!(statuses, vec![201, 409, 404, 400, 200]);
        assert_eq!(answer["items"][3]["index"]["error"]["reason"], "if _id is specified it must not be empty");
    }

    #[test]
    fn writes_over_the_budget_are_refused_whole_and_leave_nothing_behind() {
        // An eighth for writes in work: 32 KiB.
        let node = FakeNode::with_memory(256 << 10);
        let body = "{\"index\":{}}\n{}\n".repeat(40);
        let (status, error) = call(&node, "POST /b/_bulk", &body);
        assert_eq!((status, &error["error"]["type"]), (429, &json!("es_rejected_execution_exception")));
        assert_eq!(
            error["error"]["reason"],
            "rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, coordinating_operation_bytes=41040, max_coordinating_and_primary_bytes=32768]"
        );
        assert_eq!(call(&node, "GET /b", "").0, 404, "nothing of it was done");
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(32 << 10));
        assert_eq!(call(&node, "PUT /b/_doc/1", &large).0, 429);
        for _ in 0..3 {
            assert_eq!(call(&node, "POST /b/_bulk", &"{\"index\":{}}\n{}\n".repeat(30)).0, 200);
            assert_eq!(call(&node, "PUT /b/_doc/1", "{}").0 / 100, 2);
        }
        assert_eq!(node.memory().writes.used(), 0);
        let (_, stats) = call(&node, "GET /_nodes/stats/indexing_pressure,breaker", "");
        let own = &stats["nodes"][&node.node().id];
        let memory = &own["indexing_pressure"]["memory"];
        assert_eq!(
            (&memory["total"]["coordinating_rejections"], &memory["limit_in_bytes"]),
            (&json!(2), &json!(32768))
        );
        assert_eq!(memory["current"]["all_in_bytes"], 0);
        assert_eq!(own["breakers"]["request"]["limit_size"], "38.3kb");
    }

    #[test]
    fn requests_are_refused_as_elasticsearch_does() {
        let node = FakeNode::new();
        let (status, error) = call(&node, "PUT /w/_doc/1?rutting=x", "{}");
        assert_eq!(status, 400);
        assert_eq!(
            error["error"]["reason"],
            "request [/w/_doc/1] contains unrecognized parameter: [rutting] -> did you mean [routing]?"
        );
        let (status, error) = call(&node, "GET /a/b/c/d/e/f/g/h/i", "");
        assert_eq!(status, 400);
        assert_eq!(error["error"], "no handler found for uri [/a/b/c/d/e/f/g/h/i] and method [GET]");
        let answer = call_raw(&node, "PUT /_bulk/x/y/z", "", &[]);
        assert_eq!(answer.status, 400);
        let answer = call_raw(&node, "DELETE /_aliases", "", &[]);
        assert_eq!(answer.status, 405);
        let answer = call_raw(&node, "PATCHLESS /x".replace("PATCHLESS", "DELETE").as_str(), "", &[]);
        assert_eq!(answer.status, 404);
        let answer = call_raw(&node, "DELETE /_mget", "", &[]);
        assert_eq!(answer.status, 405);
        let (status, error) = call(&node, "PUT /w/_update/1", "{}");
        assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_type_name_exception")));
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = call_raw(&node, &format!("{method} /_cluster/health"), "{}", &[]);
            let text =
                format!("Incorrect HTTP method for uri [/_cluster/health] and method [{method}], allowed: [GET, HEAD]");
            assert_eq!(answer.status, 405);
            assert_eq!(answer.body, json!({ "error": text, "status": 405 }).to_string());
            assert!(answer.headers.contains(&("Allow".into(), "GET,HEAD".into())), "{:?}", answer.headers);
        }
        let (status, error) = call(&node, "POST /_cluster/nothing", "{}");
        assert_eq!(status, 400);
        assert_eq!(error["error"], "no handler found for uri [/_cluster/nothing] and method [POST]");
        let (status, error) = call(&node, "PUT /_nothing", "");
        assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_index_name_exception")));
        let answer = call_raw(&node, "PUT /w/_doc/1", "{}", &[("content-type", "text/plain")]);
        assert_eq!(answer.status, 406);
        assert_eq!(answer.body, "{\"error\":\"Content-Type header [text/plain] is not supported\",\"status\":406}");
        let answer = call_raw(&node, "GET /", "", &[("x-opaque-id", "me")]);
        assert!(answer.headers.contains(&("X-Opaque-Id".into(), "me".into())));
        assert!(answer.headers.contains(&("X-Elastic-Product".into(), "Elasticsearch".into())));
    }

    #[test]
    fn indices_are_created_shown_and_deleted() {
        let node = FakeNode::new();
        let (status, made) = call(
            &node,
            "PUT /i",
            r#"{"settings":{"number_of_shards":3,"index":{"refresh_interval":"5s"}},"mappings":{"properties":{"f":{"type":"keyword"}}},"aliases":{"a":{"routing":"b"}}}"#,
        );
        assert_eq!(status, 200, "{made}");
        assert_eq!(made, json!({"acknowledged": true, "shards_acknowledged": true, "index": "i"}));
        let (_, shown) = call(&node, "GET /i", "");
        assert_eq!(shown["i"]["settings"]["index"]["number_of_shards"], "3");
        assert_eq!(shown["i"]["settings"]["index"]["refresh_interval"], "5s");
        assert_eq!(shown["i"]["mappings"]["properties"]["f"]["type"], "keyword");
        assert_eq!(shown["i"]["aliases"], json!({"a": {"index_routing": "b", "search_routing": "b"}}));
        assert_eq!(call(&node, "PUT /i", "").1["error"]["type"], "resource_already_exists_exception");
        assert_eq!(call(&node, "PUT /i/_mapping", r#"{"properties":{"g":{"type":"long"}}}"#).0, 200);
        let (status, error) = call(&node, "PUT /i/_mapping", r#"{"properties":{"g":{"type":"text"}}}"#);
        assert_eq!(status, 400);
        assert_eq!(error["error"]["reason"], "mapper [g] cannot be changed from type [long] to [text]");
        let (status, error) = call(&node, "PUT /i/_settings", r#"{"index.number_of_shards":9}"#);
        assert_eq!(status, 400);
        assert!(
            error["error"]["reason"]
                .as_str()
                .unwrap()
                .starts_with("Can't update non dynamic settings [[index.number_of_shards]]"),
            "{error}"
        );
        assert_eq!(call(&node, "PUT /i/_settings", r#"{"number_of_replicas":0}"#).0, 200);
        assert_eq!(call(&node, "GET /i/_settings", "").1["i"]["settings"]["index"]["number_of_replicas"], "0");
        assert_eq!(call(&node, "DELETE /a", "").0, 400);
        assert_eq!(call(&node, "DELETE /i", "").0, 200);
        assert_eq!(call(&node, "GET /i", "").0, 404);
    }

    #[test]
    fn templates_shape_new_indices() {
        let node = FakeNode::new();
        let (status, answer) = call(
            &node,
            "PUT /_template/t",
            r#"{"index_patterns":["l-*"],"settings":{"number_of_shards":2},"aliases":{"all":{}}}"#,
        );
        assert_eq!(status, 200, "{answer}");
        call(&node, "PUT /l-1/_doc/1", "{}");
        let (_, shown) = call(&node, "GET /l-1", "");
        assert_eq!(shown["l-1"]["settings"]["index"]["number_of_shards"], "2");
        assert_eq!(shown["l-1"]["aliases"], json!({"all": {}}));
        assert_eq!(
            call(
                &node,
                "PUT /_component_template/c",
                r#"{"template":{"mappings":{"properties":{"x":{"type":"long"}}}}}"#
            )
            .0,
            200
        );
        let (status, answer) = call(
            &node,
            "PUT /_index_template/it",
            r#"{"index_patterns":["l-*"],"priority":5,"composed_of":["c"],"template":{"settings":{"number_of_shards":4}}}"#,
        );
        assert_eq!(status, 200, "{answer}");
        call(&node, "PUT /l-2", "");
        let (_, shown) = call(&node, "GET /l-2", "");
        assert_eq!(shown["l-2"]["settings"]["index"]["number_of_shards"], "4");
        assert_eq!(shown["l-2"]["mappings"]["properties"]["x"]["type"], "long");
        assert_eq!(shown["l-2"]["aliases"], json!({}));
        let (_, answer) = call(&node, "POST /_index_template/_simulate_index/l-3", "");
        assert_eq!(answer["template"]["settings"]["index"]["number_of_shards"], "4");
        assert_eq!(answer["overlapping"][0]["name"], "t");
        assert_eq!(call(&node, "DELETE /_component_template/c", "").0, 400);
    }

    #[test]
    fn alias_names_may_be_excluded() {
        let node = FakeNode::new();
        call(&node, "PUT /i", r#"{"aliases":{"ta1":{},"ta2":{},"tb1":{},"t":{}}}"#);
        let names = |text: &str| {
            let (status, answer) = call(&node, &format!("GET /_alias/{text}"), "");
            let names: Vec<String> =
                answer["i"]["aliases"].as_object().map(|m| m.keys().cloned().collect()).unwrap_or_default();
            (status, names.join(","), answer["error"].as_str().unwrap_or("").to_owned())
        };
        assert_eq!(names("ta*,tb1"), (200, "ta1,ta2,tb1".into(), String::new()));
        assert_eq!(names("tb1,ta*,-ta1"), (200, "ta2,tb1".into(), String::new()));
        assert_eq!(names("ta1,tb1,-ta*"), (200, "tb1".into(), String::new()));
        assert_eq!(names("-ta1,ta*,-ta2"), (404, "ta1".into(), "alias [-ta1] missing".into()));
        assert_eq!(names("ta1,tb1,-ta*,-tb1"), (200, String::new(), String::new()));
        assert_eq!(names("nope"), (404, String::new(), "alias [nope] missing".into()));
    }
}

//! One production shard on a simulated machine, a client that remembers every answer, and the check of both.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use ringdex::backend::{CompiledIndex, LocalFuture};
use ringdex::error::{ApiError, ApiResult};
use ringdex::io::NodeIo;
use ringdex::memory::NodeMemory;
use ringdex::shard::message::{
    GetRequest, GetResult, RefreshPolicy, SearchShardRequest, ShardId, ShardRequest, ShardResponse, UpdateOp,
    VersionMatch, WriteKind, WriteOp, WriteOutcome, WriteRequest,
};
use ringdex::shard::{Shard, ShardOwner, ShardSpec};
use ringdex::sim::SimWorld;
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::search::{FetchRequest, SearchRequest, SourceFilter, TrackTotalHits};
use ringdex_engine::store::sim::SimDirectory;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Value, json};

pub const PATH: &str = "/shard";

/// Keeps the mapping as the metadata store would: durable before a document uses it.
pub struct Owner {
    pub shard: RefCell<Weak<Shard<SimWorld>>>,
    pub index: RefCell<Arc<IndexMetadata>>,
    pub failed: RefCell<Option<String>>,
}

impl Owner {
    pub fn compiled(&self) -> CompiledIndex {
        let analyzers = Arc::new(AnalyzerRegistry::new(&Value::Null).expect("built-in analyzers"));
        let mapping = Arc::new(Mapping::parse(&self.index.borrow().mapping, &analyzers).expect("a mapping we made"));
        CompiledIndex { mapping, analyzers }
    }
}

impl ShardOwner for Owner {
    fn shard_damaged(&self, _: &ShardId) {}

    fn update_mapping(&self, _: &ShardId, fragment: Value) -> LocalFuture<'_, ApiResult<()>> {
        Box::pin(async move {
            let compiled = self.compiled();
            let merged = compiled.mapping.merge(&fragment, &compiled.analyzers).map_err(ApiError::from)?;
            let mut next = IndexMetadata::clone(&self.index.borrow());
            next.mapping = merged.to_json();
            next.mapping_version += 1;
            *self.index.borrow_mut() = Arc::new(next);
            if let Some(shard) = self.shard.borrow().upgrade() {
                shard.apply(self.index.borrow().clone(), self.compiled());
            }
            Ok(())
        })
    }

    fn shard_failed(&self, _: &ShardId, reason: &str) {
        *self.failed.borrow_mut() = Some(reason.to_owned());
    }
}

/// What an acknowledged operation left of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub version: Version,
    pub seq_no: SeqNo,
    /// None = deleted.
    pub source: Option<Value>,
}

/// The machine, its shard while it runs, and what the client knows.
pub struct Harness {
    pub world: SimWorld,
    pub owner: Rc<Owner>,
    pub shard: Option<Rc<Shard<SimWorld>>>,
    /// Last acknowledged state of each document.
    pub acked: BTreeMap<String, Known>,
    /// States that a request which got no answer may have left, in order.
    pub maybe: BTreeMap<String, Vec<Option<Value>>>,
    /// The node's memory budget.
    pub memory: Arc<NodeMemory>,
}

impl Harness {
    pub fn new(seed: u64, settings: Value) -> Harness {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        let index = IndexMetadata {
            name: "i".into(),
            uuid: "uuid-of-index-i-000000".into(),
            open: true,
            creation_date: 0,
            number_of_shards: 1,
            number_of_replicas: 0,
            routing_num_shards: 1024,
            settings,
            mapping: json!({}),
            mapping_version: 1,
            settings_version: 1,
            aliases_version: 1,
            aliases: BTreeMap::new(),
            primary_terms: vec![1],
            in_sync: Vec::new(),
        };
        let owner = Rc::new(Owner {
            shard: RefCell::default(),
            index: RefCell::new(Arc::new(index)),
            failed: RefCell::default(),
        });
        Harness {
            world: SimWorld::new(seed),
            owner,
            shard: None,
            acked: BTreeMap::new(),
            maybe: BTreeMap::new(),
            memory: NodeMemory::new(10 << 20),
        }
    }

    pub fn disk(&self) -> SimDirectory {
        self.world.disk(Path::new(PATH))
    }

    /// Opens the shard as a restarted node would: with a higher primary term.
    pub fn open(&mut self) -> ApiResult<()> {
        let mut next = IndexMetadata::clone(&self.owner.index.borrow());
        next.primary_terms[0] += 1;
        *self.owner.index.borrow_mut() = Arc::new(next);
        *self.owner.failed.borrow_mut() = None;
        let spec = ShardSpec {
            id: ShardId { index: "i".into(), uuid: "uuid-of-index-i-000000".into(), shard: 0 },
            path: PATH.into(),
            index: self.owner.index.borrow().clone(),
            compiled: self.owner.compiled(),
            core: 0,
            memory: Arc::clone(&self.memory),
            tag: 0,
            copy: None,
        };
        let shard = self.world.block_on(Shard::open(self.world.clone(), spec, self.owner.clone()))?;
        *self.owner.shard.borrow_mut() = Rc::downgrade(&shard);
        self.shard = Some(shard);
        Ok(())
    }

    /// The power goes: only what was synced is sure to be there.
    pub fn crash(&mut self) {
        self.shard = None;
        self.world.crash();
    }

    pub fn ask(&self, request: ShardRequest) -> ApiResult<ShardResponse> {
        let shard = self.shard.clone().expect("an open shard");
        self.world.block_on(async move { shard.handle(request).await })
    }

    /// Sends writes and remembers what was acknowledged, or what may have happened.
    pub fn write(&mut self, ops: Vec<WriteOp>, refresh: RefreshPolicy) {
        let answer = self.ask(ShardRequest::Write(WriteRequest {
            ops: ops.clone(),
            refresh,
            wait_for_sync: None,
            timeout_ms: 60_000,
        }));
        match answer {
            Ok(ShardResponse::Write(response)) => {
                assert_eq!(response.items.len(), ops.len(), "one item per operation");
                for (op, item) in ops.iter().zip(response.items) {
                    let Ok(result) = item else { continue };
                    let source = match result.outcome {
                        WriteOutcome::Noop => continue,
                        WriteOutcome::Deleted | WriteOutcome::NotFound => None,
                        WriteOutcome::Created | WriteOutcome::Updated => Some(self.source_after(op)),
                    };
                    let known = Known { version: result.version, seq_no: result.seq_no, source };
                    if let Some(old) = self.acked.insert(op.id.clone(), known) {
                        assert!(result.seq_no > old.seq_no, "history goes forward");
                    }
                }
            }
            Ok(other) => panic!("not an answer to a write: {other:?}"),
            Err(_) => {
                for op in &ops {
                    let state = match op.kind {
                        WriteKind::Delete => None,
                        _ => Some(self.source_after(op)),
                    };
                    self.maybe.entry(op.id.clone()).or_default().push(state);
                }
            }
        }
    }

    /// What the document looks like once `op` has been applied to what is known of it.
    fn source_after(&self, op: &WriteOp) -> Value {
        let parse = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).expect("test documents are JSON");
        match &op.kind {
            WriteKind::Index { source, .. } => parse(source),
            WriteKind::Update(update) => {
                let doc = update.doc.as_ref().map(parse).expect("test updates have a doc");
                match self.acked.get(&op.id).and_then(|k| k.source.clone()) {
                    Some(Value::Object(mut old)) => {
                        let Value::Object(new) = doc else { panic!("test documents are objects") };
                        old.extend(new);
                        Value::Object(old)
                    }
                    _ => doc,
                }
            }
            WriteKind::Delete => unreachable!("a delete leaves no source"),
        }
    }

    pub fn get(&self, id: &str, realtime: bool) -> GetResult {
        let get = GetRequest {
            id: id.into(),
            routing: None,
            realtime,
            refresh: false,
            version: VersionMatch::Any,
            source: SourceFilter::default(),
            stored_fields: Vec::new(),
        };
        match self.ask(ShardRequest::Get(vec![get])).expect("gets work") {
            ShardResponse::Get(mut results) => results.remove(0).expect("no version was asked for"),
            other => panic!("not an answer to a get: {other:?}"),
        }
    }

    /// All documents as a search sees them: id to source. Panics when one comes twice.
    pub fn search_all(&self) -> BTreeMap<String, Value> {
        let query = SearchRequest {
            query: None,
            post_filter: None,
            top: 10_000,
            sort: Vec::new(),
            search_after: None,
            track_total_hits: TrackTotalHits::All,
            track_scores: false,
            rescore: Vec::new(),
            min_score: None,
            terminate_after: None,
            aggs: Vec::new(),
            now_ms: 0,
            statistics: None,
        };
        let request = SearchShardRequest {
            query: Arc::new(query),
            fetch: Some((0, Arc::new(FetchRequest::default()))),
            deadline_ms: None,
            context: None,
            keep_alive_ms: None,
            request_cache: None,
        };
        let ShardResponse::Search(found) = self.ask(ShardRequest::Search(request)).expect("searches work") else {
            panic!("not an answer to a search")
        };
        assert_eq!(found.result.total as usize, found.fetched.len());
        let mut all = BTreeMap::new();
        for hit in found.fetched {
            let source = serde_json::from_slice(&hit.source.expect("source is on")).expect("a source is JSON");
            assert!(all.insert(hit.id.clone(), source).is_none(), "[{}] is found twice", hit.id);
        }
        all
    }

    /// Every acknowledged state is there (or a newer one that may have happened), gets and searches agree, and no
    /// sequence number is used twice. Afterwards what is there is what is known.
    pub fn check(&mut self) {
        self.ask(ShardRequest::Refresh).expect("refresh works");
        let searched = self.search_all();
        let ids: BTreeSet<String> =
            self.acked.keys().chain(self.maybe.keys()).chain(searched.keys()).cloned().collect();
        let mut seq_nos = BTreeSet::new();
        for id in ids {
            let got = self.get(&id, true);
            let source = got.source.as_ref().map(|s| serde_json::from_slice::<Value>(s).expect("a source is JSON"));
            assert_eq!(got.found, source.is_some());
            assert_eq!(source.as_ref(), searched.get(&id), "[{id}]: get and search differ");
            let known = self.acked.get(&id);
            let same = match known {
                Some(k) if k.source.is_some() => {
                    got.found && (got.version, got.seq_no) == (k.version, k.seq_no) && source == k.source
                }
                _ => !got.found,
            };
            let may_be = self.maybe.get(&id).is_some_and(|states| states.contains(&source));
            assert!(same || may_be, "[{id}]: acknowledged {known:?}, may be {:?}, found {got:?}", self.maybe.get(&id));
            if got.found {
                assert!(seq_nos.insert(got.seq_no), "sequence number {} is used twice", got.seq_no);
                self.acked.insert(id, Known { version: got.version, seq_no: got.seq_no, source });
            } else if !same {
                self.acked.remove(&id);
            }
        }
        self.maybe.clear();
    }
}

/// An unconditional put.
pub fn put(id: &str, source: Value) -> WriteOp {
    let source = serde_json::to_vec(&source).expect("a value is JSON").into();
    let kind = WriteKind::Index { source, create: false, auto_id: false };
    WriteOp { id: id.into(), routing: None, condition: VersionMatch::Any, kind }
}

/// A delete.
pub fn delete(id: &str) -> WriteOp {
    WriteOp { id: id.into(), routing: None, condition: VersionMatch::Any, kind: WriteKind::Delete }
}

/// An update that creates what is missing.
pub fn update(id: &str, doc: Value) -> WriteOp {
    let doc = Some(serde_json::to_vec(&doc).expect("a value is JSON").into());
    let update = UpdateOp { doc, doc_as_upsert: true, detect_noop: true, retry_on_conflict: 3, ..UpdateOp::default() };
    WriteOp { id: id.into(), routing: None, condition: VersionMatch::Any, kind: WriteKind::Update(Box::new(update)) }
}

/// The same with a condition on the last change.
pub fn only_if(mut op: WriteOp, seq_no: SeqNo, term: PrimaryTerm) -> WriteOp {
    op.condition = VersionMatch::SeqNo(seq_no, term);
    op
}

/// splitmix64, for the tests' own choices.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// Some random requests: mixed writes, refreshes, flushes, merges, pauses. Errors (a stopped disk) are the client's
/// ignorance, not the test's failure.
pub fn scenario(harness: &mut Harness, dice: &mut Dice, requests: u64) {
    for n in 0..requests {
        match dice.roll(20) {
            0 => drop(harness.ask(ShardRequest::Refresh)),
            1 => drop(harness.ask(ShardRequest::Flush { force: dice.roll(2) == 0, wait_if_ongoing: true })),
            2 => drop(harness.ask(ShardRequest::ForceMerge {
                max_segments: Some(1),
                only_expunge_deletes: false,
                flush: dice.roll(2) == 0,
            })),
            3 => harness.world.block_on(harness.world.sleep(std::time::Duration::from_millis(dice.roll(3_000)))),
            _ => {
                let mut ops: Vec<WriteOp> = Vec::new();
                for _ in 0..=dice.roll(3) {
                    let id = format!("d{}", dice.roll(12));
                    if ops.iter().any(|op| op.id == id) {
                        continue;
                    }
                    let text = ["quick brown fox", "lazy dog", "the quick dog"][dice.roll(3) as usize];
                    let doc = json!({"n": n, "text": text, "tag": format!("t{}", dice.roll(3))});
                    ops.push(match dice.roll(8) {
                        0 | 1 => delete(&id),
                        2 | 3 => update(&id, json!({"n": n})),
                        4 => match harness.acked.get(&id) {
                            // Sometimes the right condition, sometimes a stale one: then nothing may change.
                            Some(k) => {
                                only_if(put(&id, doc), SeqNo(k.seq_no.0 - dice.roll(2) as i64), harness.term_of(&id))
                            }
                            None => put(&id, doc),
                        },
                        _ => put(&id, doc),
                    });
                }
                let refresh =
                    [RefreshPolicy::None, RefreshPolicy::None, RefreshPolicy::Immediate, RefreshPolicy::WaitFor]
                        [dice.roll(4) as usize];
                harness.write(ops, refresh);
            }
        }
        if harness.disk().stopped() {
            return;
        }
    }
}

impl Harness {
    /// The term of the last change of a document (1 when it is not there).
    pub fn term_of(&self, id: &str) -> PrimaryTerm {
        if self.disk().stopped() { PrimaryTerm(1) } else { self.get(id, true).term }
    }
}

impl Harness {
    /// [`check`](Self::check) unless the disk has stopped.
    pub fn check_if_alive(&mut self) {
        let shard_can_answer = self.ask(ShardRequest::Refresh).is_ok() && !self.disk().stopped();
        if shard_can_answer {
            self.check();
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.world.now_ms()
    }

    pub fn pause(&self, ms: u64) {
        self.world.block_on(self.world.sleep(std::time::Duration::from_millis(ms)));
    }
}

impl Harness {
    /// Remembers one acknowledged put.
    pub fn note(&mut self, op: &WriteOp, done: &ringdex::shard::message::WriteResult) {
        let known = Known { version: done.version, seq_no: done.seq_no, source: Some(self.source_after(op)) };
        self.acked.insert(op.id.clone(), known);
    }

    /// Files of the shard.
    pub fn names(&self) -> Vec<String> {
        use ringdex_engine::store::Directory;
        let disk = self.disk();
        self.world
            .block_on(async move { disk.list().await })
            .expect("lists")
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }
}

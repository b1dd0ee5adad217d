//! Reads: gets, the query phase, the fetch phase, and the contexts that join them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_engine::ids::SeqNo;
use ringdex_engine::mapping::Mapping;
use ringdex_engine::query::Query;
use ringdex_engine::search::statistics::{Statistics, statistics};
use ringdex_engine::search::{FetchRequest, FetchedHit, IndexContext, Searcher, TopHit, execute, explain, fetch};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use crate::backend::CompiledIndex;
use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::shard::message::{GetRequest, GetResult, SearchShardRequest, SearchShardResponse, VersionMatch};
use crate::shard::{Shard, add};
use crate::stats::Stage;

/// What is found by the deadline is still fetched for so long, in milliseconds.
const FETCH_GRACE_MS: i64 = 100;

/// How long a context waits for its fetch phase, in milliseconds.
const FETCH_WAIT_MS: i64 = 60_000;

/// Open contexts of one shard at most (`search.max_open_scroll_context`).
const CONTEXTS_MAX: usize = 500;

/// A point in time that a later request comes back to.
struct Context {
    searcher: Searcher,
    compiled: CompiledIndex,
    keep_alive_ms: i64,
    expires_ms: i64,
    /// Kept by its owner (scroll, PIT); otherwise freed by the fetch.
    kept: bool,
    /// What its owner wants remembered.
    note: Bytes,
}

/// The open contexts of a shard.
#[derive(Default)]
pub(super) struct Contexts {
    next: u64,
    open: FxHashMap<u64, Context>,
}

impl Contexts {
    /// None yet. Their numbers begin with `tag` in the upper half, which says to other nodes where they are.
    pub(super) fn new(tag: u32) -> Contexts {
        Contexts { next: u64::from(tag) << 32, open: FxHashMap::default() }
    }

    fn add(
        &mut self,
        searcher: Searcher,
        compiled: CompiledIndex,
        keep_alive_ms: i64,
        now_ms: i64,
        kept: bool,
    ) -> ApiResult<u64> {
        self.expire(now_ms);
        if self.open.len() >= CONTEXTS_MAX {
            return Err(ApiError::new(
                429,
                "es_rejected_execution_exception",
                format!(
                    "Trying to create too many scroll contexts. Must be less than or equal to: [{CONTEXTS_MAX}]. This limit can be set by changing the [search.max_open_scroll_context] setting."
                ),
            ));
        }
        self.next += 1;
        self.open.insert(
            self.next,
            Context { searcher, compiled, keep_alive_ms, expires_ms: now_ms + keep_alive_ms, kept, note: Bytes::new() },
        );
        Ok(self.next)
    }

    /// Replaces a context's note, if `note` is given; the one before.
    pub(super) fn note(&mut self, id: u64, now_ms: i64, note: Option<Bytes>) -> ApiResult<Bytes> {
        self.touch(id, now_ms, None)?;
        let context = self.open.get_mut(&id).expect("it was touched");
        Ok(match note {
            Some(note) => std::mem::replace(&mut context.note, note),
            None => context.note.clone(),
        })
    }

    pub(super) fn free(&mut self, id: u64) -> bool {
        self.open.remove(&id).is_some()
    }

    pub(super) fn expire(&mut self, now_ms: i64) {
        self.open.retain(|_, c| c.expires_ms > now_ms);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn touch(
        &mut self,
        id: u64,
        now_ms: i64,
        keep_alive_ms: Option<i64>,
    ) -> ApiResult<(Searcher, CompiledIndex, bool)> {
        self.expire(now_ms);
        let Some(context) = self.open.get_mut(&id) else {
            return Err(ApiError::new(
                404,
                "search_context_missing_exception",
                format!("No search context found for id [{id}]"),
            ));
        };
        if let Some(ms) = keep_alive_ms {
            context.keep_alive_ms = ms;
        }
        context.expires_ms = now_ms + context.keep_alive_ms;
        Ok((context.searcher.clone(), context.compiled.clone(), context.kept))
    }
}

impl<I: NodeIo> Shard<I> {
    pub(super) async fn get(&self, requests: Vec<GetRequest>) -> ApiResult<Vec<Result<GetResult, ApiError>>> {
        let began = self.io.monotonic_ns();
        if requests.iter().any(|r| r.refresh) {
            self.refresh(true).await?;
        }
        let results: Vec<_> = requests.iter().map(|r| self.get_one(r)).collect();
        let missing = results.iter().filter(|r| !r.as_ref().is_ok_and(|g| g.found)).count();
        add(&self.counters.get, requests.len() as u64);
        add(&self.counters.get_missing, missing as u64);
        add(&self.counters.get_ns, self.timed(Stage::Get, began));
        Ok(results)
    }

    fn get_one(&self, request: &GetRequest) -> ApiResult<GetResult> {
        let found = if request.realtime { self.engine.get(&request.id) } else { self.engine.get_visible(&request.id) };
        let Some(document) = found.map_err(|e| self.here(e))? else { return Ok(GetResult::default()) };
        let (conflict, wanted) = match request.version {
            VersionMatch::Internal(v) => (document.version != v, v),
            VersionMatch::External(v) => (document.version != v, v),
            VersionMatch::ExternalGte(v) => (document.version < v, v),
            VersionMatch::Any | VersionMatch::SeqNo(..) => (false, document.version),
        };
        if conflict {
            return Err(self.here(ringdex_engine::Error::VersionConflict {
                id: request.id.clone(),
                reason: format!("current version [{}] is different than the one provided [{wanted}]", document.version),
                current: Some((document.version, document.seq_no, document.term)),
            }));
        }
        let stored = if request.stored_fields.is_empty() {
            None
        } else {
            let compiled = self.compiled.borrow().clone();
            let source: Value = serde_json::from_slice(&document.source).unwrap_or_default();
            Some(stored_fields(&compiled.mapping, &source, &request.stored_fields))
        };
        let mut result = self.found(document, &request.source)?;
        result.fields = stored.filter(|f| !f.is_empty());
        Ok(result)
    }

    pub(super) fn context_of(&self, compiled: &CompiledIndex) -> IndexContext {
        let index = self.index.borrow();
        let defaults = IndexContext::default();
        let default_fields = match index.settings.get("index.query.default_field") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => defaults.default_fields.clone(),
        };
        let number = |key: &str, default: usize| {
            index.settings.get(key).and_then(|v| v.as_str()?.parse().ok()).unwrap_or(default)
        };
        IndexContext {
            index: self.id.index.to_string(),
            analyzers: compiled.analyzers.clone(),
            default_fields,
            max_terms_count: number("index.max_terms_count", defaults.max_terms_count),
            max_regex_length: number("index.max_regex_length", defaults.max_regex_length),
            memory: Arc::clone(&self.memory.search),
            hash_seed: self.engine.hash_seed(),
            filter_cache: self.filter_cache.clone(),
            live_counts: Some(Rc::clone(&self.live_counts)),
            ..defaults
        }
    }

    /// Notes that somebody searches; the first search of an idle shard shows what was written meanwhile.
    async fn searching(&self) -> ApiResult<()> {
        let now = self.io.now_ms();
        let settings = self.settings.borrow().clone();
        let was_idle = now - self.last_search_ms.replace(now) > settings.search_idle_after.as_millis() as i64;
        if was_idle && !settings.refresh_explicit && self.engine.refresh_needed() {
            self.refresh(false).await?;
        }
        Ok(())
    }

    /// What a search looks at: a point in time that is kept, or what is visible now.
    pub(super) async fn view(
        &self,
        context: Option<u64>,
        keep_alive_ms: Option<i64>,
    ) -> ApiResult<(Searcher, CompiledIndex)> {
        if let Some(id) = context {
            let (searcher, compiled, _) = self.contexts.borrow_mut().touch(id, self.io.now_ms(), keep_alive_ms)?;
            return Ok((searcher, compiled));
        }
        self.searching().await?;
        Ok((self.engine.searcher(), self.compiled.borrow().clone()))
    }

    /// Waits until everything up to `seq_no` is visible, at most until then.
    pub(super) async fn visible_by(&self, seq_no: SeqNo, until_ms: i64) -> ApiResult<()> {
        let began = self.io.monotonic_ns();
        let bound = Duration::from_millis((until_ms - self.io.now_ms()).max(0) as u64);
        futures_lite::future::or(self.until_visible(seq_no.0), self.io.sleep(bound)).await;
        self.timed(Stage::RefreshWait, began);
        let visible = self.engine.visible_seq_no();
        if visible >= seq_no {
            return Ok(());
        }
        if let Some(reason) = self.engine.failure() {
            return Err(self.failed(&reason));
        }
        let (index, shard) = (&self.id.index, self.id.shard);
        let reason = format!("[{index}][{shard}] shows operations up to [{visible}]; gave up waiting for [{seq_no}]");
        Err(ApiError::new(503, "timeout_exception", reason))
    }

    /// A deadline on the clock that work is paced by: not before `grace_ms` from now.
    fn deadline(&self, deadline_ms: Option<i64>, grace_ms: i64) -> Option<u64> {
        let left = |at: i64| at.saturating_sub(self.io.now_ms()).max(grace_ms) as u64;
        deadline_ms.map(|at| self.io.monotonic_ns().saturating_add(left(at).saturating_mul(1_000_000)))
    }

    /// A deadline for what follows the query phase, which gets a moment even if that took all the time there was.
    pub(super) fn grace(&self, deadline_ms: Option<i64>) -> Option<u64> {
        self.deadline(deadline_ms, FETCH_GRACE_MS)
    }

    pub(super) async fn search(&self, request: SearchShardRequest) -> ApiResult<SearchShardResponse> {
        let began = self.io.monotonic_ns();
        let (searcher, compiled) = self.view(request.context, request.keep_alive_ms).await?;
        let context = self.context_of(&compiled);
        let pace = self.io.pace(self.deadline(request.deadline_ms, 0));
        let key = if self.may_cache(&request) { self.request_cache.borrow().key(&request.query) } else { None };
        let known = key.as_ref().and_then(|key| self.request_cache.borrow_mut().get(key, &searcher));
        let result = match known {
            Some(known) => known,
            None => {
                let found = execute::query(&searcher, &compiled.mapping, &context, &request.query, &pace).await;
                let found = found.map_err(|e| self.here(e))?;
                if let Some(key) = key {
                    self.request_cache.borrow_mut().put(key, &searcher, &found);
                }
                found
            }
        };
        add(&self.counters.query, 1);
        let took = self.timed(Stage::Query, began);
        add(&self.counters.query_ns, took);
        self.settings.borrow().slow_log.query(&self.id, took, &request.query, result.total);
        let mut response = SearchShardResponse { result, fetched: Vec::new(), context: request.context.unwrap_or(0) };
        if let Some((from, fetch)) = &request.fetch {
            let hits = response.result.hits.get(*from..).unwrap_or_default();
            response.fetched =
                self.fetch_hits(&searcher, &compiled, request.query.now_ms, hits, fetch, request.deadline_ms).await?;
            response.result.timed_out |= response.fetched.len() < hits.len();
        } else if request.context.is_none() && !response.result.hits.is_empty() {
            response.context =
                self.contexts.borrow_mut().add(searcher, compiled, FETCH_WAIT_MS, self.io.now_ms(), false)?;
        }
        Ok(response)
    }

    /// Whether the index and the request allow for an answer that was found before: unless asked to, only without hits.
    fn may_cache(&self, request: &SearchShardRequest) -> bool {
        let by_default = || self.settings.borrow().request_cache && request.query.top == 0;
        request.context.is_none() && request.request_cache.unwrap_or_else(by_default)
    }

    pub(super) async fn statistics(&self, query: &Query, context: Option<u64>, now_ms: i64) -> ApiResult<Statistics> {
        let (searcher, compiled) = self.view(context, None).await?;
        let context = self.context_of(&compiled);
        let pace = self.io.pace(None);
        statistics(&searcher, &compiled.mapping, &context, query, now_ms, &pace).await.map_err(|e| self.here(e))
    }

    pub(super) async fn fetch(
        &self,
        context: u64,
        hits: &[TopHit],
        fetch: &FetchRequest,
        deadline_ms: Option<i64>,
    ) -> ApiResult<Vec<FetchedHit>> {
        let now_ms = self.io.now_ms();
        let (searcher, compiled, kept) = self.contexts.borrow_mut().touch(context, now_ms, None)?;
        if !kept {
            self.contexts.borrow_mut().free(context);
        }
        self.fetch_hits(&searcher, &compiled, now_ms, hits, fetch, deadline_ms).await
    }

    async fn fetch_hits(
        &self,
        searcher: &Searcher,
        compiled: &CompiledIndex,
        now_ms: i64,
        hits: &[TopHit],
        fetch: &FetchRequest,
        deadline_ms: Option<i64>,
    ) -> ApiResult<Vec<FetchedHit>> {
        let began = self.io.monotonic_ns();
        let context = self.context_of(compiled);
        let pace = self.io.pace(self.grace(deadline_ms));
        let fetched = fetch::fetch(searcher, &compiled.mapping, &context, fetch, now_ms, hits, &pace).await;
        add(&self.counters.fetch, 1);
        let took = self.timed(Stage::Fetch, began);
        add(&self.counters.fetch_ns, took);
        self.settings.borrow().slow_log.fetch(&self.id, took, hits.len());
        fetched.map_err(|e| self.here(e))
    }

    pub(super) async fn open_context(&self, keep_alive_ms: i64) -> ApiResult<u64> {
        self.searching().await?;
        let (searcher, compiled) = (self.engine.searcher(), self.compiled.borrow().clone());
        self.contexts.borrow_mut().add(searcher, compiled, keep_alive_ms, self.io.now_ms(), true)
    }

    pub(super) async fn explain(
        self: &Rc<Self>,
        id: &str,
        query: &Query,
        now_ms: i64,
    ) -> ApiResult<Option<(bool, Value)>> {
        self.searching().await?;
        let compiled = self.compiled.borrow().clone();
        let context = self.context_of(&compiled);
        let searcher = self.engine.searcher();
        let Some(doc) = searcher.find_id(id)? else { return Ok(None) };
        let pace = self.io.pace(None);
        let explained = explain::explain(&searcher, &compiled.mapping, &context, query, now_ms, doc, &pace).await;
        let explanation = explained.map_err(|e| self.here(e))?;
        Ok(Some((explanation.matches, explanation.to_json())))
    }
}

/// The values of fields that the mapping stores (`"store": true`), taken from the source.
fn stored_fields(mapping: &Mapping, source: &Value, wanted: &[String]) -> Map<String, Value> {
    let shown = mapping.to_json();
    let mut fields = Map::new();
    for path in wanted {
        let definition = path.split('.').try_fold(&shown, |at, part| at.get("properties")?.get(part));
        let stored = definition.and_then(|d| d.get("store")).is_some_and(|s| s == true || s == "true");
        if stored && let Some(value) = path.split('.').try_fold(source, |at, part| at.get(part)) {
            let values = match value {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            };
            fields.insert(path.clone(), Value::Array(values));
        }
    }
    fields
}

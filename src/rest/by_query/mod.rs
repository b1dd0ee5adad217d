//! `_delete_by_query`, `_update_by_query`, `_reindex`: a walk over everything a query finds, and a write for each hit.

use bytes::Bytes;
use ringdex_engine::ids::Version;
use ringdex_engine::search::{SortBy, SortKey, SortValue, SourceFilter, TrackTotalHits};
use serde_json::{Map, Value, json};

use super::lookup;
use super::params::{self, ActiveShards, flag, indices_options};
use super::request::{Request, Response};
use super::search::targets_of;
use crate::backend::SharedBackend;
use crate::coordinate::search::{Hit, SearchPlan, Target, search, targets};
use crate::coordinate::write::{ClientKind, ClientOp, WriteOptions, write};
use crate::dsl::search::query_param;
use crate::dsl::{SearchBody, parse_search};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{self, IndicesOptions};
use crate::rest::indices::upkeep::broadcast;
use crate::shard::message::{RefreshPolicy, ShardRequest, ShardResponse, VersionMatch, WriteOutcome};

/// How long a page's context waits for the next page, in milliseconds.
const KEEP_ALIVE_MS: i64 = 300_000;

/// Pages through a fixed point in time, in index order.
pub(crate) struct Walk<'a> {
    backend: &'a SharedBackend,
    plan: SearchPlan,
    total: u64,
    done: bool,
}

impl<'a> Walk<'a> {
    pub(crate) async fn open(
        backend: &'a SharedBackend,
        mut list: Vec<Target>,
        mut body: SearchBody,
        page: usize,
    ) -> ApiResult<Walk<'a>> {
        for target in &mut list {
            match backend.shard(&target.id(), ShardRequest::Open { keep_alive_ms: KEEP_ALIVE_MS }).await? {
                ShardResponse::Opened { context } => target.context = Some(context),
                _ => {
                    return Err(ApiError::new(
                        500,
                        "illegal_state_exception",
                        "a context was answered by something else",
                    ));
                }
            }
        }
        body.request.sort.push(SortKey { by: SortBy::Doc, descending: false });
        body.request.top = page;
        body.request.track_total_hits = TrackTotalHits::All;
        body.request.now_ms = backend.now_ms();
        body.fetch.version = true;
        body.fetch.seq_no_primary_term = true;
        let plan = SearchPlan {
            request: body.request,
            fetch: body.fetch,
            from: 0,
            size: page,
            deadline_ms: None,
            keep_alive_ms: Some(KEEP_ALIVE_MS),
            request_cache: Some(false),
            targets: list,
        };
        Ok(Walk { backend, plan, total: 0, done: false })
    }

    /// The next hits, with the names of their indices; empty at the end.
    pub(crate) async fn next(&mut self) -> ApiResult<Vec<(String, Hit)>> {
        if self.done {
            return Ok(Vec::new());
        }
        let outcome = search(self.backend, &self.plan).await?;
        if let Some(failure) = outcome.failures.first() {
            return Err(failure.error.clone());
        }
        self.total = self.total.max(outcome.total.map_or(0, |(n, _)| n));
        self.done = outcome.hits.len() < self.plan.size;
        for hit in &outcome.hits {
            let after: Vec<SortValue> = hit.top.sort.clone();
            self.plan.targets[hit.target].after = Some(after);
        }
        let names: Vec<String> = self.plan.targets.iter().map(|t| t.index.name.clone()).collect();
        Ok(outcome.hits.into_iter().map(|hit| (names[hit.target].clone(), hit)).collect())
    }

    pub(crate) async fn close(&self) {
        for target in &self.plan.targets {
            let message = ShardRequest::Free { context: target.context.unwrap_or(0) };
            let _ = self.backend.shard(&target.id(), message).await;
        }
    }
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    total: u64,
    updated: u64,
    created: u64,
    deleted: u64,
    batches: u64,
    conflicts: u64,
    failures: Vec<Value>,
    throttled_ms: u64,
    worst: u16,
}

/// What is asked for beside the query.
struct Job {
    page: usize,
    /// Documents a second.
    rate: Option<f32>,
    max_docs: Option<u64>,
    proceed: bool,
    refresh: bool,
    options: WriteOptions,
    shows_updated: bool,
    shows_created: bool,
    /// Writes documents again, so that their sources must be there.
    needs_source: bool,
}

impl Job {
    fn of(request: &Request, body: &Value, shows_updated: bool, shows_created: bool) -> ApiResult<Job> {
        if !flag(request, "wait_for_completion", true)? {
            return Err(ApiError::illegal_argument("[wait_for_completion=false] is not supported"));
        }
        let conflicts = body.get("conflicts").and_then(Value::as_str).or_else(|| request.param("conflicts"));
        let proceed = match conflicts {
            None | Some("abort") => false,
            Some("proceed") => true,
            Some(other) => {
                return Err(ApiError::illegal_argument(format!(
                    "conflicts may only be \"proceed\" or \"abort\" but was [{other}]"
                )));
            }
        };
        let page = params::int(request, "scroll_size")?.unwrap_or(1000);
        if page <= 0 {
            return Err(ApiError::validation(&[format!("size should be greater than 0 but was [{page}]")]));
        }
        let rate = request.param("requests_per_second").filter(|r| *r != "-1");
        if let Some(rate) = rate
            && !rate.parse::<f32>().is_ok_and(|r| r > 0.0)
        {
            return Err(ApiError::illegal_argument(
                "[requests_per_second] must be a float greater than 0. Use -1 to disable throttling.",
            ));
        }
        if let Some(slices) = request.param("slices")
            && slices != "auto"
            && slices.parse::<u32>().map_or(true, |n| n == 0)
        {
            return Err(ApiError::illegal_argument("[slices] must be a positive integer or the string \"auto\""));
        }
        Ok(Job {
            page: page as usize,
            rate: rate.and_then(|r| r.parse().ok()).filter(|r: &f32| r.is_finite()),
            max_docs: max_docs(request, body)?,
            proceed,
            refresh: flag(request, "refresh", false)?,
            options: WriteOptions {
                refresh: RefreshPolicy::None,
                active: params::active_shards(request).unwrap_or(ActiveShards::Default),
                timeout_ms: params::time(request, "timeout")?.unwrap_or(60_000),
                wait_for_sync: None,
            },
            shows_updated,
            shows_created,
            needs_source: shows_updated,
        })
    }
}

fn max_docs(request: &Request, body: &Value) -> ApiResult<Option<u64>> {
    // One limit under several names; those given must agree.
    let given: Vec<String> = [body.get("max_docs"), body.get("size")]
        .into_iter()
        .flatten()
        .map(params::text)
        .chain([request.param("max_docs"), request.param("size")].into_iter().flatten().map(str::to_owned))
        .collect();
    let Some(text) = given.first() else { return Ok(None) };
    let number: i64 = text.parse().map_err(|_| {
        ApiError::illegal_argument(format!("Failed to parse int parameter [max_docs] with value [{text}]"))
    })?;
    if number < 0 {
        return Err(ApiError::illegal_argument(format!("[max_docs] parameter cannot be negative, found [{number}]")));
    }
    if let Some(other) = given.iter().find(|other| *other != text) {
        return Err(ApiError::illegal_argument(format!(
            "[max_docs] set to two different values [{text}] and [{other}]"
        )));
    }
    if number == 0 {
        return Err(ApiError::validation(&[format!(
            "[max_docs] should be greater than 0 if the request is limited to some number of documents or -1 if it isn't but it was [{number}]"
        )]));
    }
    if let Some(slices) = request.param("slices").and_then(|s| s.parse::<i64>().ok())
        && number < slices
    {
        return Err(ApiError::validation(&[format!(
            "[max_docs] should be >= [slices] but was [{number}] and [{slices}]"
        )]));
    }
    Ok(Some(number as u64))
}

/// Runs a job: `make` turns a hit into a write.
async fn run(
    backend: &SharedBackend,
    job: &Job,
    mut walk: Walk<'_>,
    make: impl Fn(String, Hit) -> ClientOp,
    start: u64,
) -> ApiResult<Response> {
    let mut tally = Tally::default();
    let mut left = job.max_docs.unwrap_or(u64::MAX);
    let touched: Vec<Target> = walk.plan.targets.clone();
    let mut written_to: Vec<String> = Vec::new();
    let (mut last_batch, mut batch_start) = (0usize, start);
    let walked = async {
        while left > 0 && tally.failures.is_empty() {
            let mut hits = walk.next().await?;
            hits.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= hits.len() as u64;
            if hits.is_empty() {
                break;
            }
            if job.needs_source && let Some((index, hit)) = hits.iter().find(|(_, hit)| hit.fetched.source.is_none()) {
                return Err(ApiError::illegal_argument(format!("[{index}][_doc][{}] didn't store _source", hit.fetched.id)));
            }
            // The batch before has used up its time before this one begins.
            let due = job.rate.map_or(0.0, |rate| last_batch as f32 * 1000.0 / rate) as u64;
            let spent = (backend.monotonic_ns() - batch_start) / 1_000_000;
            if due > spent {
                backend.sleep_ms(due - spent).await;
                tally.throttled_ms += due - spent;
            }
            batch_start = backend.monotonic_ns();
            last_batch = hits.len();
            tally.batches += 1;
            let ops = hits.into_iter().map(|(index, hit)| make(index, hit)).collect();
            for written in write(backend, ops, &job.options).await {
                if !written_to.contains(&written.index) {
                    written_to.push(written.index.clone());
                }
                match written.result {
                    Ok(result) => match result.outcome {
                        WriteOutcome::Created => tally.created += 1,
                        WriteOutcome::Updated | WriteOutcome::Noop => tally.updated += 1,
                        WriteOutcome::Deleted => tally.deleted += 1,
                        WriteOutcome::NotFound => {}
                    },
                    Err(error) => {
                        if error.status == 409 {
                            tally.conflicts += 1;
                            if job.proceed {
                                continue;
                            }
                        }
                        tally.worst = tally.worst.max(error.status);
                        tally.failures.push(json!({
                            "index": written.index, "type": "_doc", "id": written.id, "cause": error.to_cause(), "status": error.status,
                        }));
                    }
                }
            }
        }
        Ok::<(), ApiError>(())
    }
    .await;
    walk.close().await;
    walked?;
    tally.total = walk.total.min(job.max_docs.unwrap_or(u64::MAX));
    if job.refresh {
        let state = backend.state();
        let mut indices: Vec<_> = touched.iter().map(|t| t.index.clone()).collect();
        indices.extend(written_to.iter().filter_map(|n| state.indices.get(n).cloned()));
        indices.sort_by(|a, b| a.name.cmp(&b.name));
        indices.dedup_by(|a, b| a.name == b.name);
        broadcast(backend, &indices, &ShardRequest::Refresh).await;
    }
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("took", ((backend.monotonic_ns() - start) / 1_000_000).into());
    put("timed_out", false.into());
    put("total", tally.total.into());
    if job.shows_updated {
        put("updated", tally.updated.into());
    }
    if job.shows_created {
        put("created", tally.created.into());
    }
    put("deleted", tally.deleted.into());
    put("batches", tally.batches.into());
    put("version_conflicts", tally.conflicts.into());
    put("noops", 0.into());
    put("retries", json!({ "bulk": 0, "search": 0 }));
    put("throttled_millis", tally.throttled_ms.into());
    put("requests_per_second", json!(job.rate.unwrap_or(-1.0)));
    put("throttled_until_millis", 0.into());
    put("failures", tally.failures.into());
    Ok(Response::json(if tally.worst == 0 { 200 } else { tally.worst }, Value::Object(out)))
}

/// The shards and the search of a request whose body is a search.
async fn search_part(
    backend: &SharedBackend,
    request: &Request,
    body: &Value,
    allowed: &[&str],
) -> ApiResult<(Vec<Target>, SearchBody)> {
    let mut inner = Map::new();
    for (key, value) in body.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "conflicts" | "max_docs" | "size" | "script") {
            if matches!(key.as_str(), "stored_fields" | "_source" | "fields") {
                return Err(ApiError::illegal_argument(format!("{key} is not supported in this context")));
            }
            if !allowed.contains(&key.as_str()) {
                return Err(ApiError::new(
                    400,
                    "parsing_exception",
                    format!("Unknown key for a START_OBJECT in [{key}]."),
                ));
            }
            inner.insert(key.clone(), value.clone());
        }
    }
    let inner = Value::Object(inner);
    let looked_up = lookup::resolve(backend, &inner).await?;
    let mut parsed = parse_search(looked_up.as_ref().unwrap_or(&inner))?;
    parsed.request.sort.clear();
    let param = |name: &str| request.param(name);
    if let Some(query) = query_param(&param)? {
        parsed.request.query = Some(query);
    }
    parsed.fetch.source = SourceFilter::default();
    let options = indices_options(request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets_of(backend, &state, request, options)?;
    Ok((list, parsed))
}

fn condition(hit: &Hit) -> VersionMatch {
    hit.fetched.seq_no.map_or(VersionMatch::Any, |(seq_no, term)| VersionMatch::SeqNo(seq_no, term))
}

/// `POST /{index}/_delete_by_query`
pub async fn delete(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let job = Job::of(&request, &body, false, false)?;
    let (list, mut parsed) = search_part(backend, &request, &body, &["query", "slice", "sort"]).await?;
    if parsed.request.query.is_none() {
        return Err(ApiError::validation(&["query is missing".to_owned()]));
    }
    parsed.fetch.source.disabled = true;
    let walk = Walk::open(backend, list, parsed, job.page).await?;
    let make = |index: String, hit: Hit| ClientOp {
        index,
        condition: condition(&hit),
        id: Some(hit.fetched.id),
        routing: hit.fetched.routing,
        kind: ClientKind::Delete,
        require_alias: false,
        pipeline: None,
    };
    run(backend, &job, walk, make, start).await
}

/// `POST /{index}/_update_by_query`
pub async fn update(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    if body.get("script").is_some() {
        return Err(ApiError::illegal_argument("cannot execute [update] scripts"));
    }
    let job = Job::of(&request, &body, true, false)?;
    let (list, parsed) = search_part(backend, &request, &body, &["query", "slice", "sort"]).await?;
    let walk = Walk::open(backend, list, parsed, job.page).await?;
    let pipeline = request.param("pipeline").map(str::to_owned);
    let make = |index: String, hit: Hit| ClientOp {
        index,
        condition: condition(&hit),
        id: Some(hit.fetched.id),
        routing: hit.fetched.routing,
        kind: ClientKind::Index {
            source: hit.fetched.source.map_or_else(|| Bytes::from_static(b"{}"), Bytes::from),
            create: false,
        },
        require_alias: false,
        pipeline: pipeline.clone(),
    };
    run(backend, &job, walk, make, start).await
}

/// Where documents of a reindex go.
struct Destination {
    index: String,
    create: bool,
    external: bool,
    routing: Routing,
    pipeline: Option<String>,
}

enum Routing {
    Keep,
    Discard,
    Set(String),
}

impl Destination {
    fn parse(dest: &Value) -> ApiResult<Destination> {
        let map = params::object(dest, "[dest]")?;
        let word = |key: &str| map.get(key).map(params::text);
        for key in map.keys() {
            if !matches!(key.as_str(), "index" | "type" | "op_type" | "version_type" | "routing" | "pipeline") {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [dest] unknown field [{key}]"),
                ));
            }
        }
        let create = match word("op_type").as_deref() {
            None | Some("index") => false,
            Some("create") => true,
            Some(other) => {
                return Err(ApiError::illegal_argument(format!(
                    "opType must be 'create' or 'index', found: [{other}]"
                )));
            }
        };
        let external = match word("version_type").as_deref() {
            None | Some("internal") => false,
            Some("external" | "external_gt" | "external_gte") => true,
            Some(other) => return Err(ApiError::illegal_argument(format!("No version type match [{other}]"))),
        };
        let routing = match word("routing").as_deref() {
            None | Some("keep") => Routing::Keep,
            Some("discard") => Routing::Discard,
            Some(text) if text.starts_with('=') => Routing::Set(text[1..].to_owned()),
            Some(other) => {
                return Err(ApiError::validation(&[format!(
                    "routing must be unset, [keep], [discard] or [=<some new value>] but was [{other}]"
                )]));
            }
        };
        let Some(index) = word("index").filter(|i| !i.is_empty()) else {
            return Err(ApiError::validation(&["index is missing".to_owned()]));
        };
        Ok(Destination { index, create, external, routing, pipeline: word("pipeline") })
    }
}

/// `POST /_reindex`
pub async fn reindex(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::required_json(&mut request).await?;
    let map = params::object(&body, "reindex")?;
    for key in map.keys() {
        if !matches!(key.as_str(), "source" | "dest" | "max_docs" | "size" | "conflicts" | "script") {
            return Err(ApiError::new(
                400,
                "x_content_parse_exception",
                format!("[1:2] [reindex] unknown field [{key}]"),
            ));
        }
    }
    if map.contains_key("script") {
        return Err(ApiError::illegal_argument("cannot execute [reindex] scripts"));
    }
    let source = map.get("source").cloned().unwrap_or(Value::Null);
    if source.get("remote").is_some() {
        return Err(ApiError::illegal_argument("reindex from remote is not supported"));
    }
    let dest = Destination::parse(map.get("dest").unwrap_or(&Value::Null))?;
    let mut job = Job::of(&request, &body, true, true)?;
    let mut inner = source.as_object().cloned().unwrap_or_default();
    let names: Vec<String> = inner
        .remove("index")
        .map(|v| params::strings(&v).iter().flat_map(|s| params::split_list(s)).collect())
        .unwrap_or_default();
    if names.is_empty() {
        return Err(ApiError::validation(
            &["use _all if you really want to copy from all existing indexes".to_owned()],
        ));
    }
    if let Some(size) = inner.remove("size").and_then(|v| v.as_u64()) {
        job.page = (size as usize).clamp(1, 10_000);
    }
    inner.remove("type");
    let kept_source = inner.get("_source").map(super::document::source_filter_value).transpose()?;
    let inner = Value::Object(inner);
    let looked_up = lookup::resolve(backend, &inner).await?;
    let mut parsed = parse_search(looked_up.as_ref().unwrap_or(&inner))?;
    parsed.request.sort.clear();
    parsed.fetch.source = kept_source.unwrap_or_default();
    let state = backend.state();
    let list = targets(backend, &state, &names, IndicesOptions::OPEN_FORBID_CLOSED, None, None)?;
    let to = resolve::date_math(&dest.index, backend.now_ms())?;
    let concrete = resolve::resolve_write(&state, &to, backend.now_ms()).map_or(to.clone(), |i| i.name.clone());
    if list.iter().any(|t| t.index.name == concrete) {
        return Err(ApiError::validation(&[format!("reindex cannot write into an index its reading from [{to}]")]));
    }
    let walk = Walk::open(backend, list, parsed, job.page).await?;
    let make = |_: String, hit: Hit| {
        let version = hit.fetched.version.unwrap_or(Version(1));
        ClientOp {
            index: dest.index.clone(),
            condition: if dest.external { VersionMatch::External(version) } else { VersionMatch::Any },
            id: Some(hit.fetched.id),
            routing: match &dest.routing {
                Routing::Keep => hit.fetched.routing,
                Routing::Discard => None,
                Routing::Set(text) => Some(text.clone()),
            },
            kind: ClientKind::Index {
                source: hit.fetched.source.map_or_else(|| Bytes::from_static(b"{}"), Bytes::from),
                create: dest.create,
            },
            require_alias: false,
            pipeline: dest.pipeline.clone(),
        }
    };
    run(backend, &job, walk, make, start).await
}

//! `_search`, `_count`, `_msearch`, scroll and point in time, and what else asks with a query.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::aggs::{RenderOptions, finalize};
use ringdex_engine::search::{SearchRequest, SortBy, SortKey, SortValue, TrackTotalHits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::document::encode;
use super::indices::lifecycle::shard_id;
use super::indices::stats::allocation_id;
use super::lookup;
use super::ndjson::Lines;
use super::params::{self, flag, indices_options, parse_time};
use super::raw::{ObjectOut, json as put_json};
use super::request::{Body, Content, Method, Request, Response};
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::coordinate::search::{
    SearchOutcome, SearchPlan, ShardFailure, Target, alias_filter, failed, failures_shown, search as run,
    statistics as term_statistics, targets,
};
use crate::coordinate::{routing, write};
use crate::dsl::search::{Slice, StoredFields, TRACK_TOTAL_HITS_DEFAULT, query_param};
use crate::dsl::{SearchBody, parse_query, parse_search};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{self, IndicesOptions};
use crate::metadata::settings;
use crate::shard::message::{ShardRequest, ShardResponse};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    total_as_int: bool,
    typed_keys: bool,
    /// `terminated_early` is shown only to those who may cause it.
    shows_early: bool,
    explain: bool,
    /// Sort values were added by us (scroll) and are not shown.
    hide_sort: bool,
    /// `stored_fields: _none_`
    hide_id: bool,
    /// Shown when not 1; 0 = not counted.
    reduce_phases: usize,
}

/// `GET|POST [/{index}]/_search`
pub async fn search(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let json = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut headers = Vec::new();
    if let Some(kind) = request.param("search_type")
        && !matches!(kind, "query_then_fetch" | "dfs_query_then_fetch")
    {
        return Err(ApiError::illegal_argument(format!("No search type for [{kind}]")));
    }
    if request.param("type").is_some() {
        headers.push(super::http::warning("[types removal] Specifying types in search requests is deprecated."));
    }
    let prepared = prepare(backend, &request, json).await?;
    let out = execute(backend, &request, prepared, start).await?;
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers })
}

/// A search that was understood, before anything was asked.
struct Prepared {
    json: Value,
    body: SearchBody,
    shape: Shape,
    scroll: Option<i64>,
    batched_reduce_size: usize,
}

/// Reads and checks parameters and body.
async fn prepare(backend: &SharedBackend, request: &Request, json: Value) -> ApiResult<Prepared> {
    let json = lookup::resolve(backend, &json).await?.unwrap_or(json);
    let mut body = parse_search(&json)?;
    body.apply_params(|name| request.param(name))?;
    let mut shape = Shape {
        total_as_int: flag(request, "rest_total_hits_as_int", false)?,
        typed_keys: flag(request, "typed_keys", false)?,
        shows_early: body.request.terminate_after.is_some(),
        explain: body.fetch.explain,
        hide_id: body.stored_fields == StoredFields::None,
        ..Shape::default()
    };
    check_total(
        &mut body,
        shape.total_as_int,
        request.param("track_total_hits").is_some() || json.get("track_total_hits").is_some(),
    )?;
    let batched_reduce_size = params::int(request, "batched_reduce_size")?.unwrap_or(512);
    if batched_reduce_size < 2 {
        return Err(ApiError::illegal_argument("batchedReduceSize must be >= 2"));
    }
    if params::int(request, "pre_filter_shard_size")?.is_some_and(|n| n < 1) {
        return Err(ApiError::illegal_argument("preFilterShardSize must be >= 1"));
    }
    if params::int(request, "max_concurrent_shard_requests")?.is_some_and(|n| n < 1) {
        return Err(ApiError::illegal_argument("maxConcurrentShardRequests must be >= 1"));
    }
    let scroll = request.param("scroll").map(|t| parse_time(t, "scroll")).transpose()?;
    check_combination(request, &body, scroll)?;
    if scroll.is_some() {
        shape.hide_sort = body.request.sort.is_empty();
    }
    Ok(Prepared { json, body, shape, scroll, batched_reduce_size: batched_reduce_size as usize })
}

/// What cannot be asked together.
fn check_combination(request: &Request, body: &SearchBody, scroll: Option<i64>) -> ApiResult<()> {
    let mut problems = Vec::new();
    if scroll.is_some() {
        if body.request.track_total_hits != TrackTotalHits::All
            && body.request.track_total_hits != TrackTotalHits::Limit(TRACK_TOTAL_HITS_DEFAULT)
        {
            problems.push("disabling [track_total_hits] is not allowed in a scroll context".to_owned());
        }
        if body.from > 0 {
            problems.push("using [from] is not allowed in a scroll context".to_owned());
        }
        if body.size == 0 {
            problems.push("[size] cannot be [0] in a scroll context".to_owned());
        }
        if !body.request.rescore.is_empty() {
            problems.push("using [rescore] is not allowed in a scroll context".to_owned());
        }
        if flag(request, "request_cache", false)? {
            problems.push("[request_cache] cannot be used in a scroll context".to_owned());
        }
        if body.request.search_after.is_some() {
            problems.push("`search_after` cannot be used in a scroll context.".to_owned());
        }
    }
    if body.pit.is_some() {
        if scroll.is_some() {
            problems.push("using [point in time] is not allowed in a scroll context".to_owned());
        }
        if request.param("index").is_some() {
            problems.push("[indices] cannot be used with point in time".to_owned());
        }
        if request.param("routing").is_some() {
            problems.push("[routing] cannot be used with point in time".to_owned());
        }
        if request.param("preference").is_some() {
            problems.push("[preference] cannot be used with point in time".to_owned());
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ApiError::validation(&problems)) }
}

/// From a search that was understood to the bytes of the answer.
async fn execute(backend: &SharedBackend, request: &Request, prepared: Prepared, start: u64) -> ApiResult<Vec<u8>> {
    let Prepared { json, mut body, mut shape, scroll, batched_reduce_size } = prepared;
    if let Some(section) = body.unsupported() {
        return Err(ApiError::illegal_argument(format!("[{section}] is not supported")));
    }
    body.request.now_ms = backend.now_ms();
    let state = backend.state();
    let mut keep_alive_ms = None;
    let mut list = match &body.pit {
        Some((id, keep_alive)) => {
            keep_alive_ms = keep_alive.as_deref().map(|t| parse_time(t, "keep_alive")).transpose()?;
            Held::decode(id)?.targets(backend)?
        }
        None => {
            let options = indices_options(request, IndicesOptions::OPEN_FORBID_CLOSED)?;
            let expressions = params::indices(request);
            targets(backend, &state, &expressions, options, request.param("routing"), request.param("preference"))?
        }
    };
    boost_indices(&mut list, &body.indices_boost);
    if let Some(limit) = window_limit(&list, &body, scroll.is_some()) {
        let failures: Vec<ShardFailure> =
            (0..list.len()).map(|target| ShardFailure { target, error: limit.clone() }).collect();
        return Err(failed(backend, &list, &failures, "query", "all shards failed"));
    }
    if body.script_fields.is_some() {
        return Err(ApiError::illegal_argument("[script_fields] is not supported"));
    }
    if let Some(slice) = &body.slice {
        slice_targets(&mut list, slice);
    }
    shape.reduce_phases = reduce_phases(&body, list.len(), batched_reduce_size);
    if let Some(keep_alive) = scroll {
        check_keep_alive(keep_alive)?;
        open_contexts(backend, &mut list, keep_alive).await?;
        keep_alive_ms = Some(keep_alive);
        body.request.track_total_hits = TrackTotalHits::All;
        let scroll = ScrollState {
            body: json,
            query: params_of_scroll(request),
            total_as_int: shape.total_as_int,
            after: vec![None; list.len()],
        };
        let id = Held { targets: HeldTarget::of(&list) }.encode()?;
        return scroll_page(backend, &id, scroll, list, body, shape, keep_alive_ms, start).await;
    }
    if request.param("search_type") == Some("dfs_query_then_fetch")
        && list.len() > 1
        && let Some(query) = &body.request.query
    {
        let all = term_statistics(backend, &list, query, body.request.now_ms).await;
        body.request.statistics = Some(all);
    }
    let default_timeout = || {
        let text = cluster_setting(backend, "search.default_search_timeout")?;
        parse_time(&text, "search.default_search_timeout").ok().filter(|ms| *ms >= 0)
    };
    let plan = SearchPlan {
        deadline_ms: body.timeout_ms.or_else(default_timeout).map(|t| backend.now_ms() + t),
        from: body.from,
        size: body.size,
        request: body.request.clone(),
        fetch: body.fetch.clone(),
        keep_alive_ms,
        targets: list,
    };
    let outcome = run(backend, &plan).await?;
    check_partial(backend, request, &plan, &outcome)?;
    let extra = body.pit.as_ref().map(|(id, _)| ("pit_id", id.as_str()));
    write_answer(backend, &plan, &outcome, &shape, extra, start)
}

/// Steps in which the answers of the shards would be merged, with this many at a time.
fn reduce_phases(body: &SearchBody, shards: usize, batch: usize) -> usize {
    if body.request.aggs.is_empty() && body.size == 0 {
        return 1;
    }
    let batch = batch.min(shards);
    let (mut phases, mut waiting, mut merged) = (1, 0, 0);
    for _ in 0..shards {
        if waiting + merged >= batch && batch >= 2 {
            phases += 1;
            (waiting, merged) = (0, 1);
        }
        waiting += 1;
    }
    phases
}

/// Slices are of shards as far as there are enough of them, then of the documents of each.
fn slice_targets(list: &mut [Target], slice: &Slice) {
    let part = |id: u32, max: u32| Some(QueryKind::Slice { field: slice.field.clone(), id, max }.into());
    for target in list {
        let (shard, shards) = (target.shard, target.index.number_of_shards);
        target.slice = if shards <= 1 {
            part(slice.id, slice.max)
        } else if slice.max >= shards {
            let slices = slice.max / shards + u32::from(slice.max % shards > shard);
            match slices {
                _ if slice.id % shards != shard => Some(QueryKind::MatchNone.into()),
                1 => None,
                _ => part(slice.id / shards, slices),
            }
        } else if shard % slice.max == slice.id {
            None
        } else {
            Some(QueryKind::MatchNone.into())
        };
    }
}

/// `rest_total_hits_as_int` needs an accurate count.
fn check_total(body: &mut SearchBody, as_int: bool, given: bool) -> ApiResult<()> {
    if !as_int {
        return Ok(());
    }
    match body.request.track_total_hits {
        TrackTotalHits::Limit(limit) if given => Err(ApiError::illegal_argument(format!(
            "[rest_total_hits_as_int] cannot be used if the tracking of total hits is not accurate, got {limit}"
        ))),
        TrackTotalHits::Limit(_) => {
            body.request.track_total_hits = TrackTotalHits::All;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_keep_alive(keep_alive_ms: i64) -> ApiResult<()> {
    const MAX_MS: i64 = 86_400_000;
    if keep_alive_ms > MAX_MS {
        return Err(ApiError::illegal_argument(format!(
            "Keep alive for request ({}) is too large. It must be less than (1d). This limit can be set by changing the [search.max_keep_alive] cluster level setting.",
            write::show_time(keep_alive_ms)
        )));
    }
    Ok(())
}

fn boost_indices(list: &mut [Target], boosts: &[(String, f32)]) {
    for target in list {
        let name = &target.index.name;
        if let Some((_, boost)) =
            boosts.iter().find(|(p, _)| super::filter::glob(p, name) || target.index.aliases.contains_key(p))
        {
            target.boost = *boost;
        }
    }
}

/// The first limit of an index that the request goes over.
fn window_limit(list: &[Target], body: &SearchBody, scroll: bool) -> Option<ApiError> {
    for target in list {
        let number = |name: &str| settings::get(&target.index, name).parse::<usize>().unwrap_or(usize::MAX);
        let window = number("index.max_result_window");
        let end = body.from.saturating_add(body.size);
        if end > window {
            return Some(ApiError::illegal_argument(if scroll {
                format!(
                    "Batch size is too large, size must be less than or equal to: [{window}] but was [{end}]. Scroll batch sizes cost as much memory as result windows so they are controlled by the [index.max_result_window] index level setting."
                )
            } else {
                format!(
                    "Result window is too large, from + size must be less than or equal to: [{window}] but was [{end}]. See the scroll api for a more efficient way to request large data sets. This limit can be set by changing the [index.max_result_window] index level setting."
                )
            }));
        }
        if let Some(wrong) =
            body.request.rescore.iter().map(|r| r.window_size).find(|w| *w > number("index.max_rescore_window"))
        {
            return Some(ApiError::illegal_argument(format!(
                "Rescore window [{wrong}] is too large. It must be less than [{}]. This prevents allocating massive heaps for storing the results to be rescored. This limit can be set by changing the [index.max_rescore_window] index level setting.",
                number("index.max_rescore_window")
            )));
        }
        let most = number("index.max_script_fields");
        if let Some(Value::Object(scripts)) = &body.script_fields
            && scripts.len() > most
        {
            return Some(ApiError::illegal_argument(format!(
                "Trying to retrieve too many script_fields. Must be less than or equal to: [{most}] but was [{}]. This limit can be set by changing the [index.max_script_fields] index level setting.",
                scripts.len()
            )));
        }
        let most = number("index.max_slices_per_scroll");
        if let Some(slice) = body.slice.as_ref().filter(|s| s.max as usize > most) {
            return Some(ApiError::illegal_argument(format!(
                "The number of slices [{}] is too large. It must be less than [{most}]. This limit can be set by changing the [index.max_slices_per_scroll] index level setting.",
                slice.max
            )));
        }
        let most = number("index.max_docvalue_fields_search");
        let count = body.fetch.docvalue_fields.len();
        if count > most {
            return Some(ApiError::illegal_argument(format!(
                "Trying to retrieve too many docvalue_fields. Must be less than or equal to: [{most}] but was [{count}]. This limit can be set by changing the [index.max_docvalue_fields_search] index level setting."
            )));
        }
    }
    None
}

fn check_partial(
    backend: &SharedBackend,
    request: &Request,
    plan: &SearchPlan,
    outcome: &SearchOutcome,
) -> ApiResult<()> {
    let allowed = flag(request, "allow_partial_search_results", true)?;
    if allowed || (outcome.failures.is_empty() && !outcome.timed_out) {
        return Ok(());
    }
    if outcome.failures.is_empty() {
        return Err(ApiError::new(504, "search_timeout_exception", "Time exceeded"));
    }
    Err(failed(backend, &plan.targets, &outcome.failures, "query", "Partial shards failure"))
}

fn write_answer(
    backend: &SharedBackend,
    plan: &SearchPlan,
    outcome: &SearchOutcome,
    shape: &Shape,
    extra: Option<(&str, &str)>,
    start: u64,
) -> ApiResult<Vec<u8>> {
    let aggregations = if plan.request.aggs.is_empty() {
        None
    } else {
        let mut options = RenderOptions {
            typed_keys: shape.typed_keys,
            total_as_int: shape.total_as_int,
            ..RenderOptions::default()
        };
        if let Some(most) = cluster_setting(backend, "search.max_buckets").and_then(|v| v.parse().ok()) {
            options.buckets_max = most;
        }
        Some(finalize(outcome.aggs.clone(), &plan.request.aggs, &options).map_err(ApiError::from)?)
    };
    let mut out = Vec::with_capacity(
        512 + outcome.hits.iter().map(|h| 160 + h.fetched.source.as_ref().map_or(0, Vec::len)).sum::<usize>(),
    );
    let mut top = ObjectOut::begin(&mut out);
    if let Some((key, value)) = extra {
        top.field(key, value);
    }
    top.field("took", &((backend.monotonic_ns() - start) / 1_000_000));
    top.field("timed_out", &outcome.timed_out);
    if shape.shows_early {
        top.field("terminated_early", &outcome.terminated_early);
    }
    if shape.reduce_phases > 1 {
        top.field("num_reduce_phases", &shape.reduce_phases);
    }
    top.field("_shards", &shards_member(backend, plan, outcome));
    write_hits(&mut top, plan, outcome, shape);
    if let Some(aggregations) = aggregations {
        top.field("aggregations", &aggregations);
    }
    top.end();
    Ok(out)
}

/// A cluster setting somebody has set.
fn cluster_setting(backend: &SharedBackend, name: &str) -> Option<String> {
    let state = backend.state();
    let value = state.transient_settings.get(name).or_else(|| state.persistent_settings.get(name))?;
    value.as_str().map(str::to_owned)
}

fn shards_member(backend: &SharedBackend, plan: &SearchPlan, outcome: &SearchOutcome) -> Value {
    let failed = outcome.failures.len();
    let mut shards = json!({ "total": outcome.total_shards, "successful": outcome.total_shards - failed, "skipped": 0, "failed": failed });
    if failed > 0 {
        shards["failures"] = failures_shown(backend, &plan.targets, &outcome.failures).into();
    }
    shards
}

fn write_hits(top: &mut ObjectOut<'_>, plan: &SearchPlan, outcome: &SearchOutcome, shape: &Shape) {
    let mut hits = ObjectOut::begin(top.key("hits"));
    match outcome.total {
        Some((value, _)) if shape.total_as_int => hits.field("total", &value),
        Some((value, exact)) => {
            hits.field("total", &json!({ "value": value, "relation": if exact { "eq" } else { "gte" } }));
        }
        None if shape.total_as_int => hits.field("total", &-1),
        None => {}
    }
    let none = (outcome.total_shards == 0).then_some(0.0);
    hits.field("max_score", &outcome.max_score.filter(|_| !outcome.hits.is_empty()).and_then(finite).or(none));
    let out = hits.key("hits");
    out.push(b'[');
    for (i, hit) in outcome.hits.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let target = &plan.targets[hit.target];
        let mut object = ObjectOut::begin(out);
        if shape.explain {
            object.field("_shard", &format!("[{}][{}]", target.index.name, target.shard));
            object.field("_node", "");
        }
        object.field("_index", &target.index.name);
        object.field("_type", "_doc");
        if !shape.hide_id {
            object.field("_id", &hit.fetched.id);
        }
        if let Some(version) = &hit.fetched.version {
            object.field("_version", version);
        }
        if let Some((seq_no, term)) = &hit.fetched.seq_no {
            object.field("_seq_no", seq_no);
            object.field("_primary_term", term);
        }
        object.field("_score", &finite(hit.top.score));
        if let Some(routing) = &hit.fetched.routing {
            object.field("_routing", routing);
        }
        if !hit.fetched.ignored.is_empty() {
            object.field("_ignored", &hit.fetched.ignored);
        }
        if let Some(source) = &hit.fetched.source {
            object.raw("_source", source);
        }
        if let Some(fields) = hit.fetched.fields.as_ref().filter(|f| !f.is_empty()) {
            object.field("fields", fields);
        }
        if !hit.top.sort.is_empty() && !shape.hide_sort {
            let out = object.key("sort");
            out.push(b'[');
            for (i, value) in hit.top.sort.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_sort_value(out, value);
            }
            out.push(b']');
        }
        if !hit.fetched.matched_queries.is_empty() {
            object.field("matched_queries", &hit.fetched.matched_queries);
        }
        if let Some(explanation) = &hit.fetched.explanation {
            object.field("_explanation", explanation);
        }
        object.end();
    }
    out.push(b']');
    hits.end();
}

fn finite(score: f32) -> Option<f32> {
    score.is_finite().then_some(score)
}

fn write_sort_value(out: &mut Vec<u8>, value: &SortValue) {
    match value {
        SortValue::Null => put_json(out, &()),
        SortValue::Int(n) => put_json(out, n),
        SortValue::UInt(n) => put_json(out, n),
        SortValue::Float(n) if n.is_finite() => put_json(out, n),
        SortValue::Float(n) => put_json(
            out,
            if n.is_nan() {
                "NaN"
            } else if *n > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
        ),
        SortValue::String(s) => put_json(out, s),
    }
}

/// What a scroll id or a point in time stands for. It travels in the id, so that any core (or node) can go on with it.
/// What changes from page to page is a note that the first shard's context keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    targets: Vec<HeldTarget>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct HeldTarget {
    index: String,
    uuid: String,
    shard: u32,
    context: u64,
    filter: Option<Query>,
    slice: Option<Query>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ScrollState {
    body: Value,
    query: Vec<(String, String)>,
    total_as_int: bool,
    /// Sort values of the last hit given, for each target.
    after: Vec<Option<Vec<SortValue>>>,
}

impl ScrollState {
    async fn load(backend: &SharedBackend, list: &[Target]) -> ApiResult<ScrollState> {
        let bad = || ApiError::illegal_argument("Cannot parse scroll id");
        let first = list.first().ok_or_else(bad)?;
        let message = ShardRequest::Note { context: first.context.unwrap_or(0), note: None };
        match backend.shard(&first.id(), message).await {
            Ok(ShardResponse::Note(note)) => serde_json::from_slice(&note).map_err(|_| bad()),
            Ok(_) => Err(bad()),
            Err(error) => {
                let failures: Vec<ShardFailure> =
                    (0..list.len()).map(|target| ShardFailure { target, error: error.clone() }).collect();
                Err(failed(backend, list, &failures, "query", "all shards failed"))
            }
        }
    }

    async fn save(&self, backend: &SharedBackend, list: &[Target]) -> ApiResult<()> {
        let Some(first) = list.first() else { return Ok(()) };
        let note = serde_json::to_vec(self)
            .map_err(|e| ApiError::new(500, "illegal_state_exception", format!("cannot keep a scroll: {e}")))?;
        let message = ShardRequest::Note { context: first.context.unwrap_or(0), note: Some(note.into()) };
        backend.shard(&first.id(), message).await.map(|_| ())
    }
}

impl HeldTarget {
    fn of(list: &[Target]) -> Vec<HeldTarget> {
        list.iter()
            .map(|t| HeldTarget {
                index: t.index.name.clone(),
                uuid: t.index.uuid.clone(),
                shard: t.shard,
                context: t.context.unwrap_or(0),
                filter: t.filter.clone(),
                slice: t.slice.clone(),
            })
            .collect()
    }
}

impl Held {
    fn encode(&self) -> ApiResult<String> {
        let json = serde_json::to_vec(self)
            .map_err(|e| ApiError::new(500, "illegal_state_exception", format!("cannot write a scroll id: {e}")))?;
        let mut packed = Vec::new();
        let mut encoder = flate2::write::DeflateEncoder::new(&mut packed, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &json)
            .and_then(|()| encoder.finish().map(|_| ()))
            .map_err(|e| ApiError::new(500, "illegal_state_exception", e.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(packed))
    }

    fn decode(id: &str) -> ApiResult<Held> {
        let bad = || ApiError::illegal_argument("Cannot parse scroll id");
        let packed = URL_SAFE_NO_PAD.decode(id.trim_end_matches('=')).map_err(|_| bad())?;
        let mut json = Vec::new();
        // An id of ours is small; one that unpacks to more than this is not one of ours.
        let decoder = flate2::read::DeflateDecoder::new(&packed[..]);
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, 16 << 20), &mut json).map_err(|_| bad())?;
        serde_json::from_slice(&json).map_err(|_| bad())
    }

    fn targets(&self, backend: &SharedBackend) -> ApiResult<Vec<Target>> {
        let state = backend.state();
        self.targets
            .iter()
            .map(|held| {
                let index = state
                    .indices
                    .get(&held.index)
                    .filter(|i| i.uuid == held.uuid && held.shard < i.number_of_shards)
                    .ok_or_else(|| ApiError::index_not_found(&held.index))?;
                Ok(Target {
                    index: index.clone(),
                    shard: held.shard,
                    filter: held.filter.clone(),
                    boost: 1.0,
                    context: Some(held.context),
                    after: None,
                    slice: held.slice.clone(),
                })
            })
            .collect()
    }
}

/// Parameters that later pages of a scroll need.
fn params_of_scroll(request: &Request) -> Vec<(String, String)> {
    request
        .params
        .iter()
        .filter(|(name, _)| {
            !matches!(name.as_str(), "scroll" | "index" | "routing" | "source" | "filter_path" | "pretty")
        })
        .cloned()
        .collect()
}

async fn open_contexts(backend: &SharedBackend, list: &mut [Target], keep_alive_ms: i64) -> ApiResult<()> {
    let futures: Vec<LocalFuture<'_, ApiResult<u64>>> = list
        .iter()
        .map(|target| {
            let id = target.id();
            Box::pin(async move {
                match backend.shard(&id, ShardRequest::Open { keep_alive_ms }).await? {
                    ShardResponse::Opened { context } => Ok(context),
                    _ => Err(ApiError::new(500, "illegal_state_exception", "a context was answered by something else")),
                }
            }) as LocalFuture<'_, _>
        })
        .collect();
    for (target, context) in list.iter_mut().zip(join::all(futures).await) {
        target.context = Some(context?);
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
/// One page of a scroll: every shard goes on after its own last hit given.
async fn scroll_page(
    backend: &SharedBackend,
    id: &str,
    mut scroll: ScrollState,
    list: Vec<Target>,
    mut body: SearchBody,
    shape: Shape,
    keep_alive_ms: Option<i64>,
    start: u64,
) -> ApiResult<Vec<u8>> {
    let by_score = body.request.sort.is_empty();
    if by_score {
        body.request.sort.push(SortKey { by: SortBy::Score, descending: true });
    }
    // The document's place in the shard makes the order total, so that no page repeats or skips a hit.
    let own_tie = body.request.sort.last().is_none_or(|k| k.by != SortBy::Doc);
    if own_tie {
        body.request.sort.push(SortKey { by: SortBy::Doc, descending: false });
    }
    body.request.top = body.size;
    let plan = SearchPlan {
        deadline_ms: body.timeout_ms.map(|t| backend.now_ms() + t),
        from: 0,
        size: body.size,
        request: body.request.clone(),
        fetch: body.fetch.clone(),
        keep_alive_ms,
        targets: list,
    };
    let mut outcome = run(backend, &plan).await?;
    for hit in &outcome.hits {
        scroll.after[hit.target] = Some(hit.top.sort.clone());
    }
    scroll.save(backend, &plan.targets).await?;
    if own_tie {
        for hit in &mut outcome.hits {
            hit.top.sort.pop();
        }
    }
    if by_score {
        // Sorted by score, the best one is the first hit of the first page.
        outcome.max_score = outcome.max_score.or_else(|| outcome.hits.first().map(|h| h.top.score));
    }
    write_answer(backend, &plan, &outcome, &shape, Some(("_scroll_id", id)), start)
}

/// `GET|POST /_search/scroll[/{scroll_id}]`
pub async fn scroll(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut id = request.param("scroll_id").map(str::to_owned);
    let mut keep_alive = request.param("scroll").map(|t| parse_time(t, "scroll")).transpose()?;
    if let Value::Object(map) = &body {
        for (key, value) in map {
            match (key.as_str(), value) {
                ("scroll_id", Value::String(text)) => id = Some(text.clone()),
                ("scroll", Value::String(text)) => keep_alive = Some(parse_time(text, "scroll")?),
                _ => {
                    return Err(ApiError::illegal_argument(format!(
                        "Unknown parameter [{key}] in request body or parameter is of the wrong type[{}] ",
                        "VALUE_STRING"
                    )));
                }
            }
        }
    }
    let Some(id) = id.filter(|i| !i.is_empty()) else {
        return Err(ApiError::validation(&["scrollId is missing".to_owned()]));
    };
    if let Some(keep_alive) = keep_alive {
        check_keep_alive(keep_alive)?;
    }
    let held = Held::decode(&id)?;
    let mut list = held.targets(backend)?;
    if list.is_empty() {
        let mut out = json!({
            "_scroll_id": id, "took": 0, "timed_out": false, "_shards": { "total": 0, "successful": 0, "skipped": 0, "failed": 0 },
            "hits": { "total": { "value": 0, "relation": "eq" }, "max_score": 0.0, "hits": [] },
        });
        if flag(&request, "rest_total_hits_as_int", false)? {
            out["hits"]["total"] = 0.into();
        }
        return Ok(Response::ok(out));
    }
    let state = ScrollState::load(backend, &list).await?;
    for (target, after) in list.iter_mut().zip(&state.after) {
        target.after.clone_from(after);
    }
    let mut parsed = parse_search(&state.body)?;
    parsed.apply_params(|name| state.query.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str()))?;
    parsed.request.now_ms = backend.now_ms();
    parsed.request.track_total_hits = TrackTotalHits::All;
    // Aggregations come with the first page only.
    parsed.request.aggs.clear();
    let shape = Shape {
        total_as_int: flag(&request, "rest_total_hits_as_int", state.total_as_int)?,
        explain: parsed.fetch.explain,
        hide_sort: parsed.request.sort.is_empty(),
        hide_id: parsed.stored_fields == StoredFields::None,
        ..Shape::default()
    };
    let out = scroll_page(backend, &id, state, list, parsed, shape, keep_alive, start).await?;
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers: Vec::new() })
}

async fn free(backend: &SharedBackend, held: &Held) -> usize {
    let Ok(list) = held.targets(backend) else { return 0 };
    let mut freed = 0;
    for target in list {
        let context = target.context.unwrap_or(0);
        let known = backend.shard(&target.id(), ShardRequest::Note { context, note: None }).await.is_ok();
        let gone = backend.shard(&target.id(), ShardRequest::Free { context }).await.is_ok();
        freed += usize::from(known && gone);
    }
    freed
}

/// `DELETE /_search/scroll[/{scroll_id}]`
pub async fn clear_scroll(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut ids = params::list(&request, "scroll_id").unwrap_or_default();
    if let Value::Object(map) = &body {
        for (key, value) in map {
            if key != "scroll_id" {
                return Err(ApiError::illegal_argument(format!(
                    "Unknown parameter [{key}] in request body or parameter is of the wrong type[VALUE_STRING] "
                )));
            }
            ids = params::strings(value);
        }
    }
    if ids.is_empty() {
        return Err(ApiError::validation(&["no scroll ids specified".to_owned()]));
    }
    if ids.iter().any(|i| i == "_all") {
        return Ok(Response::ok(json!({ "succeeded": true, "num_freed": 0 })));
    }
    let mut freed = 0;
    for id in &ids {
        freed += free(backend, &Held::decode(id)?).await;
    }
    Ok(Response::json(if freed > 0 { 200 } else { 404 }, json!({ "succeeded": true, "num_freed": freed })))
}

/// `POST /{index}/_pit`, `POST /{index}/_search/point_in_time`
pub async fn open_pit(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let Some(keep_alive) = request.param("keep_alive").map(|t| parse_time(t, "keep_alive")).transpose()? else {
        return Err(ApiError::validation(&["[keep_alive] is not specified".to_owned()]));
    };
    check_keep_alive(keep_alive)?;
    let state = backend.state();
    let mut list = targets(
        backend,
        &state,
        &params::indices(&request),
        options,
        request.param("routing"),
        request.param("preference"),
    )?;
    open_contexts(backend, &mut list, keep_alive).await?;
    let id = Held { targets: HeldTarget::of(&list) }.encode()?;
    if request.path.contains("point_in_time") {
        let total = list.len();
        return Ok(Response::ok(json!({
            "pit_id": id,
            "_shards": { "total": total, "successful": total, "skipped": 0, "failed": 0 },
            "creation_time": backend.now_ms(),
        })));
    }
    Ok(Response::ok(json!({ "id": id })))
}

/// `DELETE /_pit`, `DELETE /_search/point_in_time`
pub async fn close_pit(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::required_json(&mut request).await?;
    let ids = body.get("id").or_else(|| body.get("pit_id")).map(params::strings).unwrap_or_default();
    if ids.is_empty() {
        return Err(ApiError::validation(&["id is empty".to_owned()]));
    }
    let mut freed = 0;
    let mut shown = Vec::new();
    for id in &ids {
        let count = free(backend, &Held::decode(id)?).await;
        freed += count;
        shown.push(json!({ "pit_id": id, "successful": count > 0 }));
    }
    let status = if freed > 0 { 200 } else { 404 };
    if request.path.contains("point_in_time") {
        return Ok(Response::json(status, json!({ "pits": shown })));
    }
    Ok(Response::json(status, json!({ "succeeded": true, "num_freed": freed })))
}

/// The query of a body that has nothing else, or of `q`.
async fn query_only(backend: &SharedBackend, request: &mut Request) -> ApiResult<Option<Query>> {
    let body = params::body_json(request).await?.unwrap_or(Value::Null);
    let body = lookup::resolve(backend, &body).await?.unwrap_or(body);
    let mut query = None;
    if let Value::Object(map) = &body {
        for (key, value) in map {
            if key != "query" {
                return Err(ApiError::new(400, "parsing_exception", format!("request does not support [{key}]")));
            }
            query = Some(parse_query(value)?);
        }
    }
    let param = |name: &str| request.param(name);
    Ok(query_param(&param)?.or(query))
}

fn bare(query: Option<Query>, now_ms: i64) -> SearchRequest {
    SearchRequest { query, now_ms, top: 0, track_total_hits: TrackTotalHits::All, ..SearchBody::default().request }
}

/// `GET|POST [/{index}]/_count`
pub async fn count(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let query = query_only(backend, &mut request).await?;
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets(
        backend,
        &state,
        &params::indices(&request),
        options,
        request.param("routing"),
        request.param("preference"),
    )?;
    let mut wanted = bare(query, backend.now_ms());
    wanted.min_score = params::float(&request, "min_score")?;
    wanted.terminate_after = params::int(&request, "terminate_after")?.filter(|n| *n > 0).map(|n| n as u64);
    let early = wanted.terminate_after.is_some();
    let plan = SearchPlan {
        request: wanted,
        fetch: SearchBody::default().fetch,
        from: 0,
        size: 0,
        deadline_ms: None,
        keep_alive_ms: None,
        targets: list,
    };
    let outcome = run(backend, &plan).await?;
    let mut out = serde_json::Map::new();
    out.insert("count".into(), outcome.total.map_or(0, |(n, _)| n).into());
    if early {
        out.insert("terminated_early".into(), outcome.terminated_early.into());
    }
    out.insert("_shards".into(), shards_member(backend, &plan, &outcome));
    Ok(Response::ok(Value::Object(out)))
}

/// `GET|POST [/{index}]/_msearch`
pub async fn msearch(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let mut lines: Vec<Bytes> = Vec::new();
    let mut splitter = Lines::default();
    let mut any = false;
    while let Some(piece) = request.body.next().await? {
        any = true;
        splitter.feed(&piece, |line| {
            lines.push(line);
            Ok::<(), ApiError>(())
        })?;
    }
    if !any {
        return Err(params::body_required());
    }
    if !splitter.rest().is_empty() {
        return Err(ApiError::illegal_argument("The msearch request must be terminated by a newline [\\n]"));
    }
    if let Some(n) = params::int(&request, "max_concurrent_searches")?
        && n < 1
    {
        return Err(ApiError::illegal_argument("maxConcurrentSearchRequests must be positive"));
    }
    let mut searches: Vec<(Request, Prepared)> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let header = &lines[at];
        at += 1;
        let blank = header.iter().all(u8::is_ascii_whitespace);
        if blank && at == lines.len() {
            break;
        }
        let own = sub_request(&request, if blank { Value::Null } else { params::parse_json(header)? })?;
        let Some(body) = lines.get(at) else { break };
        at += 1;
        let json = params::parse_json(body)?;
        // A search that cannot be understood fails all of them: nothing was asked yet.
        let prepared = prepare(backend, &own, json).await?;
        searches.push((own, prepared));
    }
    if searches.is_empty() {
        return Err(ApiError::validation(&["no requests added".to_owned()]));
    }
    let mut out = Vec::new();
    let mut answers: Vec<ApiResult<Vec<u8>>> = Vec::new();
    // A few at a time: each is spread over all shards already.
    let mut queue = searches.into_iter();
    loop {
        let futures: Vec<LocalFuture<'_, ApiResult<Vec<u8>>>> = queue
            .by_ref()
            .take(8)
            .map(|(own, prepared)| {
                Box::pin(async move { execute(backend, &own, prepared, backend.monotonic_ns()).await })
                    as LocalFuture<'_, _>
            })
            .collect();
        if futures.is_empty() {
            break;
        }
        answers.extend(join::all(futures).await);
    }
    let mut top = ObjectOut::begin(&mut out);
    top.field("took", &((backend.monotonic_ns() - start) / 1_000_000));
    let list = top.key("responses");
    list.push(b'[');
    for (i, answer) in answers.into_iter().enumerate() {
        if i > 0 {
            list.push(b',');
        }
        match answer {
            Ok(mut bytes) => {
                bytes.pop();
                list.extend_from_slice(&bytes);
                list.extend_from_slice(b",\"status\":200}");
            }
            Err(error) => put_json(list, &error.to_body()),
        }
    }
    list.push(b']');
    top.end();
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers: Vec::new() })
}

/// One search of a multi search: its header's words as parameters, the request's own as defaults.
fn sub_request(request: &Request, header: Value) -> ApiResult<Request> {
    let mut own = Request {
        method: Method::Post,
        segments: Vec::new(),
        path: request.path.clone(),
        params: request.params.iter().filter(|(n, _)| n != "filter_path").cloned().collect(),
        headers: Vec::new(),
        body: Body::Full(Bytes::new()),
    };
    match header {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let joined = params::strings(&value).join(",");
                let name = match key.as_str() {
                    "index" | "indices" => "index",
                    "search_type" | "searchType" => "search_type",
                    "request_cache" | "requestCache" => "request_cache",
                    "expand_wildcards" | "expandWildcards" => "expand_wildcards",
                    "ignore_unavailable" | "ignoreUnavailable" => "ignore_unavailable",
                    "allow_no_indices" | "allowNoIndices" => "allow_no_indices",
                    "ignore_throttled" | "ignoreThrottled" => "ignore_throttled",
                    "type" | "types" => "type",
                    "allow_partial_search_results" | "preference" | "routing" | "ccs_minimize_roundtrips" => {
                        key.as_str()
                    }
                    other => {
                        return Err(ApiError::illegal_argument(format!(
                            "key [{other}] is not supported in the metadata section"
                        )));
                    }
                };
                if name == "index" && (value.is_null() || joined.is_empty()) {
                    continue;
                }
                own.params.push((name.to_owned(), joined));
            }
        }
        _ => return Err(ApiError::illegal_argument("the metadata section of a search must be an object")),
    }
    Ok(own)
}

/// `GET|POST [/{index}]/_validate/query`
pub async fn validate(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let explain = flag(&request, "explain", false)?;
    let rewrite = flag(&request, "rewrite", false)?;
    let all_shards = flag(&request, "all_shards", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let query = match query_only(backend, &mut request).await {
        Ok(query) => query,
        Err(error) if error.status == 400 => {
            let mut out = json!({ "valid": false });
            if explain {
                let kind = match error.kind.as_str() {
                    "parsing_exception" => "ParsingException",
                    other => other,
                };
                out["error"] = if error.kind == "parsing_exception" && !error.reason.starts_with("request does not") {
                    format!("org.elasticsearch.common.{kind}: {}; {}", error.reason, error.reason).into()
                } else {
                    error.reason.clone().into()
                };
            }
            return Ok(Response::ok(out));
        }
        Err(error) => return Err(error),
    };
    let state = backend.state();
    let list = targets(backend, &state, &params::indices(&request), options, None, None)?;
    let asked: Vec<Target> =
        if all_shards { list.clone() } else { list.iter().filter(|t| t.shard == 0).cloned().collect() };
    let plan = SearchPlan {
        request: SearchRequest { terminate_after: Some(1), ..bare(query.clone(), backend.now_ms()) },
        fetch: SearchBody::default().fetch,
        from: 0,
        size: 0,
        deadline_ms: None,
        keep_alive_ms: None,
        targets: asked,
    };
    let outcome = run(backend, &plan).await;
    let total = plan.targets.len().max(usize::from(list.is_empty()));
    let (valid, error) = match &outcome {
        Ok(outcome) => (outcome.failures.is_empty(), outcome.failures.first().map(|f| f.error.clone())),
        Err(error) => (false, Some(error.root_causes.first().unwrap_or(error).clone())),
    };
    let mut out = json!({
        "_shards": { "total": total.max(1), "successful": total.max(1), "failed": 0 },
        "valid": valid,
    });
    if explain || rewrite {
        let text = explain_text(query.as_ref());
        let explanations: Vec<Value> = plan
            .targets
            .iter()
            .map(|t| {
                let mut one = json!({ "index": t.index.name });
                if all_shards {
                    one["shard"] = t.shard.into();
                }
                one["valid"] = valid.into();
                match &error {
                    Some(error) => {
                        one["error"] = format!("[{}/{}] {}", t.index.name, t.index.uuid, error.reason).into()
                    }
                    None => one["explanation"] = text.clone().into(),
                }
                one
            })
            .collect();
        out["explanations"] = explanations.into();
    }
    Ok(Response::ok(out))
}

/// The simplest queries as Lucene prints them; others by their name.
fn explain_text(query: Option<&Query>) -> String {
    match query.map(|q| &q.kind) {
        None | Some(QueryKind::MatchAll) => "*:*".to_owned(),
        Some(QueryKind::MatchNone) => "MatchNoDocsQuery(\"\")".to_owned(),
        Some(QueryKind::Term { field, value, .. }) => format!("{field}:{}", scalar(value)),
        Some(QueryKind::Match { field, text, .. }) => format!("{field}:{}", scalar(text)),
        Some(QueryKind::Exists { field }) => format!("ConstantScore(DocValuesFieldExistsQuery [field={field}])"),
        Some(QueryKind::QueryString(q)) => q.query.clone(),
        Some(other) => serde_json::to_value(other)
            .ok()
            .and_then(|v| v.as_object().and_then(|m| m.keys().next().cloned()))
            .unwrap_or_default(),
    }
}

fn scalar(value: &ringdex_engine::query::Value) -> String {
    use ringdex_engine::query::Value as V;
    match value {
        V::Bool(b) => b.to_string(),
        V::Int(n) => n.to_string(),
        V::UInt(n) => n.to_string(),
        V::Float(n) => n.to_string(),
        V::String(s) => s.clone(),
    }
}

/// `GET|POST /{index}/_explain/{id}`
pub async fn explain(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let query = query_only(backend, &mut request).await?;
    let Some(mut query) = query else { return Err(ApiError::validation(&["query is missing".to_owned()])) };
    let state = backend.state();
    let name = request.param("index").unwrap_or("").to_owned();
    let id = request.param("id").unwrap_or("").to_owned();
    let index = resolve::resolve_single(&state, &name, backend.now_ms())?;
    let routing_value = request
        .param("routing")
        .map(str::to_owned)
        .or_else(|| index.aliases.get(&name).and_then(|a| a.search_routing.clone()));
    if routing_value.is_none() && write::routing_required(&index) {
        return Err(write::routing_missing(&index, &id));
    }
    if let Some(filter) = alias_filter(&index, std::slice::from_ref(&name))? {
        query = QueryKind::Bool {
            must: vec![query],
            filter: vec![filter],
            should: Vec::new(),
            must_not: Vec::new(),
            minimum_should_match: None,
        }
        .into();
    }
    let shard = routing::shard_of(&index, &id, routing_value.as_deref());
    let message = ShardRequest::Explain { id: id.clone(), query: Arc::new(query), now_ms: backend.now_ms() };
    let answer = backend.shard(&shard_id(&index, shard), message).await?;
    let ShardResponse::Explain(explained) = answer else {
        return Err(ApiError::new(500, "illegal_state_exception", "an explanation was answered by something else"));
    };
    let kind = request.param("type").unwrap_or("_doc");
    let mut out = json!({ "_index": index.name, "_type": kind, "_id": id });
    let status = match explained {
        None => {
            out["matched"] = false.into();
            404
        }
        Some((matched, explanation)) => {
            out["matched"] = matched.into();
            out["explanation"] = explanation;
            200
        }
    };
    let filter = super::document::source_filter(&request)?;
    if status == 200 && (filter.is_some() || request.param("stored_fields").is_some()) {
        out["get"] = explained_get(backend, &request, &index.name, &id).await?;
    }
    Ok(Response::json(status, out))
}

async fn explained_get(backend: &SharedBackend, request: &Request, index: &str, id: &str) -> ApiResult<Value> {
    let mut own = Request {
        method: Method::Get,
        segments: Vec::new(),
        path: format!("/{}/_doc/{}", encode(index), encode(id)),
        params: request
            .params
            .iter()
            .filter(|(n, _)| n.starts_with("_source") || matches!(n.as_str(), "stored_fields" | "routing"))
            .cloned()
            .collect(),
        headers: Vec::new(),
        body: Body::Full(Bytes::new()),
    };
    own.params.push(("index".into(), index.to_owned()));
    own.params.push(("id".into(), id.to_owned()));
    let answer = super::document::get(backend, own).await?;
    let Content::RawJson(bytes) = answer.content else { return Ok(Value::Null) };
    let mut value = params::parse_json(&bytes)?;
    if let Value::Object(map) = &mut value {
        map.retain(|k, _| !matches!(k.as_str(), "_index" | "_type" | "_id" | "_version"));
    }
    Ok(value)
}

/// `GET|POST [/{index}]/_search_shards`
pub async fn search_shards(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets(
        backend,
        &state,
        &params::indices(&request),
        options,
        request.param("routing"),
        request.param("preference"),
    )?;
    let names = resolve::resolve_names(&state, &params::indices(&request), options, backend.now_ms())?;
    let node = backend.node();
    let mut indices = serde_json::Map::new();
    for target in &list {
        let mut shown = serde_json::Map::new();
        let through: Vec<&String> = names.iter().filter(|n| target.index.aliases.contains_key(*n)).collect();
        if !through.is_empty() {
            shown.insert("aliases".into(), json!(through));
            if target.filter.is_some()
                && let Some(filter) = through.iter().find_map(|n| target.index.aliases[*n].filter.clone())
            {
                shown.insert("filter".into(), filter);
            }
        }
        indices.insert(target.index.name.clone(), Value::Object(shown));
    }
    let shards: Vec<Value> = list
        .iter()
        .map(|t| {
            json!([{
                "state": "STARTED", "primary": true, "node": node.id, "relocating_node": null,
                "shard": t.shard, "index": t.index.name,
                "allocation_id": { "id": allocation_id(&t.index, t.shard) },
            }])
        })
        .collect();
    Ok(Response::ok(json!({
        "nodes": { node.id.clone(): {
            "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": {},
        } },
        "indices": indices,
        "shards": shards,
    })))
}

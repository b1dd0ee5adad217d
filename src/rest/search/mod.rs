//! `_search`, `_count`, `_msearch`, scroll and point in time, and what else asks with a query.

mod answer;
mod context;
mod count;
mod explain;
mod msearch;
mod pit;
mod scroll;
mod shards;
mod validate;
mod visible;

use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::{SearchRequest, TrackTotalHits};
use ringdex_net::cluster::state::ClusterState;
use serde_json::Value;

use super::lookup;
use super::params::{self, flag, indices_options, parse_time};
use super::request::{Content, Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::search::{
    SearchOutcome, SearchPlan, ShardFailure, Target, failed, profile, search as run, statistics as term_statistics,
    targets,
};
use crate::coordinate::write;
use crate::dsl::search::{Slice, StoredFields, TRACK_TOTAL_HITS_DEFAULT, query_param};
use crate::dsl::{SearchBody, parse_query, parse_search};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::metadata::settings;
use answer::{Shape, write_answer};
use context::{Held, HeldTarget, open_contexts};
pub use count::count;
pub use explain::explain;
pub use msearch::msearch;
pub use pit::{close_pit, open_pit};
use scroll::{ScrollState, params_of_scroll, scroll_page};
pub use scroll::{clear_scroll, scroll};
pub use shards::search_shards;
pub use validate::validate;

/// The shards that a request's index names, `routing` and `preference` lead to.
pub(in crate::rest) fn targets_of(
    backend: &SharedBackend,
    state: &ClusterState,
    request: &Request,
    options: IndicesOptions,
) -> ApiResult<Vec<Target>> {
    let (routing, preference) = (request.param("routing"), request.param("preference"));
    targets(backend, state, &params::indices(request), options, routing, preference)
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
    let deadline_ms = deadline(backend, &body);
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
    if let Some(text) = request.param("min_seq_no") {
        visible::until(backend, &list, text, deadline_ms).await?;
    }
    let plan = SearchPlan {
        deadline_ms,
        from: body.from,
        size: body.size,
        request: body.request.clone(),
        fetch: body.fetch.clone(),
        keep_alive_ms,
        request_cache: request.param("request_cache").map(|_| flag(request, "request_cache", false)).transpose()?,
        targets: list,
    };
    let outcome = run(backend, &plan).await?;
    check_partial(backend, request, &plan, &outcome)?;
    let extra = body.pit.as_ref().map(|(id, _)| ("pit_id", id.as_str()));
    let profiled = if body.profile { Some(profile(backend, &plan).await) } else { None };
    write_answer(backend, &plan, &outcome, &shape, extra, profiled, start)
}

/// When a search is to be over, from now on and in all its phases.
fn deadline(backend: &SharedBackend, body: &SearchBody) -> Option<i64> {
    let default_timeout = || {
        let text = cluster_setting(backend, "search.default_search_timeout")?;
        parse_time(&text, "search.default_search_timeout").ok().filter(|ms| *ms >= 0)
    };
    body.timeout_ms.or_else(default_timeout).map(|ms| backend.now_ms().saturating_add(ms))
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
pub(in crate::rest) fn slice_targets(list: &mut [Target], slice: &Slice) {
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

/// A cluster setting somebody has set.
fn cluster_setting(backend: &SharedBackend, name: &str) -> Option<String> {
    backend.state().setting(name)?.as_str().map(str::to_owned)
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

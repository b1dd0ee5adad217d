//! `_search/scroll`: a search page by page.

use ringdex_engine::search::{SortBy, SortKey, SortValue, TrackTotalHits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Shape, write_answer};
use super::check_keep_alive;
use super::context::{Held, free};
use crate::backend::SharedBackend;
use crate::coordinate::search::{SearchPlan, ShardFailure, Target, failed, search as run};
use crate::dsl::search::StoredFields;
use crate::dsl::{SearchBody, parse_search};
use crate::error::{ApiError, ApiResult};
use crate::rest::params::{self, flag, parse_time};
use crate::rest::request::{Content, Request, Response};
use crate::shard::message::{ShardRequest, ShardResponse};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ScrollState {
    pub(super) body: Value,
    pub(super) query: Vec<(String, String)>,
    pub(super) total_as_int: bool,
    /// Sort values of the last hit given, for each target.
    pub(super) after: Vec<Option<Vec<SortValue>>>,
}

impl ScrollState {
    pub(super) async fn load(backend: &SharedBackend, list: &[Target]) -> ApiResult<ScrollState> {
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

    pub(super) async fn save(&self, backend: &SharedBackend, list: &[Target]) -> ApiResult<()> {
        let Some(first) = list.first() else { return Ok(()) };
        let note = serde_json::to_vec(self)
            .map_err(|e| ApiError::new(500, "illegal_state_exception", format!("cannot keep a scroll: {e}")))?;
        let message = ShardRequest::Note { context: first.context.unwrap_or(0), note: Some(note.into()) };
        backend.shard(&first.id(), message).await.map(|_| ())
    }
}

/// Parameters that later pages of a scroll need.
pub(super) fn params_of_scroll(request: &Request) -> Vec<(String, String)> {
    request
        .params
        .iter()
        .filter(|(name, _)| {
            !matches!(name.as_str(), "scroll" | "index" | "routing" | "source" | "filter_path" | "pretty")
        })
        .cloned()
        .collect()
}

#[allow(clippy::too_many_arguments)]
/// One page of a scroll: every shard goes on after its own last hit given.
pub(super) async fn scroll_page(
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
        deadline_ms: super::deadline(backend, &body),
        from: 0,
        size: body.size,
        request: body.request.clone(),
        fetch: body.fetch.clone(),
        keep_alive_ms,
        request_cache: Some(false),
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
    write_answer(backend, &plan, &outcome, &shape, Some(("_scroll_id", id)), None, start)
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

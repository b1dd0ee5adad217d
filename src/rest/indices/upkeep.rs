//! What is done to whole indices: open, close, refresh, flush, merge, clear caches.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::copies::{active, ask_copies, copies, gather};
use super::lifecycle::{shard_id, wait_for_active};
use super::shards_header;
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::limit;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::http::warning;
use crate::rest::params::{self, active_shards, flag, indices_options, int, time};
use crate::rest::request::{Request, Response};
use crate::shard::message::{ShardRequest, ShardResponse};

/// Asks every shard of some indices the same: one copy, or all if the request is for all; failures as members of a list.
pub async fn broadcast(
    backend: &SharedBackend,
    indices: &[Arc<IndexMetadata>],
    request: &ShardRequest,
) -> (Vec<(Arc<IndexMetadata>, u32, ShardResponse)>, Vec<Value>) {
    let mut futures: Vec<LocalFuture<'_, (Arc<IndexMetadata>, u32, ApiResult<ShardResponse>)>> = Vec::new();
    for index in indices {
        for shard in 0..index.number_of_shards {
            let request = request.clone();
            futures.push(Box::pin(async move {
                let answer = backend.shard(&shard_id(index, shard), request).await;
                (index.clone(), shard, answer)
            }));
        }
    }
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    for (index, shard, answer) in join::all(futures).await {
        match answer {
            Ok(answer) => answers.push((index, shard, answer)),
            Err(error) => failures.push(json!({
                "shard": shard,
                "index": index.name,
                "status": status_name(error.status),
                "reason": error.to_cause(),
            })),
        }
    }
    (answers, failures)
}

/// The name of a status in failure lists.
#[must_use]
pub fn status_name(status: u16) -> &'static str {
    match status {
        400 => "BAD_REQUEST",
        404 => "NOT_FOUND",
        408 => "REQUEST_TIMEOUT",
        409 => "CONFLICT",
        429 => "TOO_MANY_REQUESTS",
        503 => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_SERVER_ERROR",
    }
}

/// Primary shards of some indices.
#[must_use]
pub fn primaries(indices: &[Arc<IndexMetadata>]) -> usize {
    indices.iter().map(|i| i.number_of_shards as usize).sum()
}

/// The indices a request with the usual options means.
pub fn targets(
    backend: &SharedBackend,
    request: &Request,
    defaults: IndicesOptions,
) -> ApiResult<Vec<Arc<IndexMetadata>>> {
    let options = indices_options(request, defaults)?;
    let mut indices = resolve(&backend.state(), &params::indices(request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(indices)
}

/// Has every copy do some work.
async fn all_copies(backend: &SharedBackend, request: &Request, work: ShardRequest) -> ApiResult<Response> {
    let indices = targets(backend, request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let (answers, failures) = ask_copies(backend, &backend.state(), &indices, &work).await;
    Ok(Response::ok(json!({ "_shards": shards_header(copies(&indices), answers.len(), failures) })))
}

/// `POST [/{index}]/_refresh`
pub async fn refresh(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    all_copies(backend, &request, ShardRequest::Refresh).await
}

/// `POST [/{index}]/_flush`
pub async fn flush(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let force = flag(&request, "force", false)?;
    let wait_if_ongoing = match request.param("wait_for_ongoing") {
        Some(_) => flag(&request, "wait_for_ongoing", true)?,
        None => flag(&request, "wait_if_ongoing", true)?,
    };
    if force && !wait_if_ongoing {
        return Err(ApiError::validation(&["wait_if_ongoing must be true for a force flush".to_owned()]));
    }
    all_copies(backend, &request, ShardRequest::Flush { force, wait_if_ongoing }).await
}

/// `POST [/{index}]/_flush/synced`
pub async fn flush_synced(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let work = ShardRequest::Flush { force: false, wait_if_ongoing: true };
    let (answers, failures) = ask_copies(backend, &backend.state(), &indices, &work).await;
    let total = copies(&indices);
    let mut out = Map::new();
    out.insert("_shards".into(), shards_header(total, answers.len(), failures.clone()));
    for index in &indices {
        let own = answers.iter().filter(|answer| answer.is_of(index)).count();
        let failed = failures.iter().filter(|failure| failure["index"] == index.name.as_str()).count();
        let all = copies(std::slice::from_ref(index));
        out.insert(index.name.clone(), json!({ "total": all, "successful": own, "failed": failed }));
    }
    let mut response = Response::ok(Value::Object(out));
    response.headers.push(warning(
        "Synced flush is deprecated and will be removed in 8.0. Use flush at /_flush or /{index}/_flush instead.",
    ));
    Ok(response)
}

/// `POST [/{index}]/_forcemerge`
pub async fn force_merge(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let max_segments = int(&request, "max_num_segments")?;
    let only_expunge_deletes = flag(&request, "only_expunge_deletes", false)?;
    let work = ShardRequest::ForceMerge {
        max_segments: max_segments.filter(|n| *n > 0).map(|n| n as u32),
        only_expunge_deletes,
        flush: flag(&request, "flush", true)?,
    };
    let mut response = all_copies(backend, &request, work).await?;
    if only_expunge_deletes && max_segments.is_some_and(|n| n > 0) {
        response.headers.push(warning("setting only_expunge_deletes and max_num_segments at the same time is deprecated and will be rejected in a future version"));
    }
    Ok(response)
}

/// `POST [/{index}]/_cache/clear`
pub async fn clear_cache(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    // Columns are in the segments: there is no field data to forget.
    let (query, fielddata) = (flag(&request, "query", false)?, flag(&request, "fielddata", false)?);
    let wanted = flag(&request, "request", false)?;
    // None named = all.
    let all = !query && !fielddata && !wanted;
    let work = ShardRequest::ClearCache { query: query || all, request: wanted || all };
    all_copies(backend, &request, work).await
}

/// `POST [/{index}]/_upgrade`
pub async fn upgrade(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let upgraded: Map<String, Value> = indices
        .iter()
        .map(|i| (i.name.clone(), json!({ "upgrade_version": "7.10.2", "oldest_lucene_segment_version": "8.7.0" })))
        .collect();
    Ok(Response::ok(json!({
        "_shards": shards_header(copies(&indices), active(&backend.state(), &indices), Vec::new()),
        "upgraded_indices": upgraded,
    })))
}

/// `GET [/{index}]/_upgrade`
pub async fn get_upgrade(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let (answers, _) = gather(backend, &backend.state(), &indices).await;
    let mut per_index: Map<String, Value> = Map::new();
    let mut total = 0;
    for index in &indices {
        let own = answers.iter().filter(|answer| answer.is_of(index));
        let size: u64 = own.map(|answer| answer.told.store_size_bytes).sum();
        total += size;
        per_index.insert(
            index.name.clone(),
            json!({ "size_in_bytes": size, "size_to_upgrade_in_bytes": 0, "size_to_upgrade_ancient_in_bytes": 0 }),
        );
    }
    Ok(Response::ok(json!({
        "size_in_bytes": total, "size_to_upgrade_in_bytes": 0, "size_to_upgrade_ancient_in_bytes": 0, "indices": per_index,
    })))
}

async fn set_open(backend: &SharedBackend, indices: &[Arc<IndexMetadata>], open: bool) -> ApiResult<()> {
    let names: Vec<String> = indices.iter().filter(|i| i.open != open).map(|i| i.name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let source = if open { "open-indices" } else { "close-indices" };
    backend
        .update_state(
            source,
            Box::new(move |state| {
                let mut next = state.clone();
                for name in &names {
                    let Some(index) = state.indices.get(name) else { return Err(ApiError::index_not_found(name)) };
                    let mut changed = (**index).clone();
                    changed.open = open;
                    changed.settings_version += 1;
                    if open {
                        changed.settings.shift_remove("index.verified_before_close");
                    } else {
                        changed.settings.insert("index.verified_before_close".into(), "true".into());
                    }
                    next.indices.insert(name.clone(), Arc::new(changed));
                }
                limit::check(state, &next)?;
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(())
}

/// `POST /{index}/_open`
pub async fn open(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let indices = targets(backend, &request, IndicesOptions::CLOSED)?;
    let state = backend.state();
    for index in &indices {
        block::check(&state, index, Level::MetadataWrite)?;
    }
    set_open(backend, &indices, true).await?;
    let timeout = time(&request, "timeout")?.unwrap_or(30_000);
    let active = active_shards(&request)?;
    let state = backend.state();
    let mut all = true;
    for index in &indices {
        if let Some(index) = state.indices.get(&index.name) {
            all &= wait_for_active(backend, index, active, timeout).await?;
        }
    }
    Ok(Response::ok(json!({ "acknowledged": true, "shards_acknowledged": all })))
}

/// `POST /{index}/_close`
pub async fn close(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let indices = targets(backend, &request, IndicesOptions::OPEN)?;
    let state = backend.state();
    for index in &indices {
        block::check(&state, index, Level::MetadataWrite)?;
    }
    // What was acknowledged is in the commit when the shard goes away, so that opening replays nothing.
    let open: Vec<_> = indices.iter().filter(|i| i.open).cloned().collect();
    broadcast(backend, &open, &ShardRequest::Flush { force: false, wait_if_ongoing: true }).await;
    set_open(backend, &indices, false).await?;
    let mut response = json!({ "acknowledged": true, "shards_acknowledged": true, "indices": {} });
    for index in &indices {
        response["indices"][&index.name] = json!({ "closed": true });
    }
    Ok(Response::ok(response))
}

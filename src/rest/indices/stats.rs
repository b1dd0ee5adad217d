//! `_stats`, `_segments`.

use std::sync::Arc;

use ringdex_net::cluster::health::shard_health;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::copies::{OfCopy, copies, gather, gather_segments};
use super::shards_header;
use super::upkeep::{broadcast, targets};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::rest::params::{self, flag};
use crate::rest::request::{Request, Response};
use crate::rest::router::unrecognized;
use crate::shard::message::{ShardRequest, ShardResponse, ShardStats};

/// The groups of `_stats`, in the order of the answer.
pub const METRICS: [&str; 17] = [
    "docs",
    "store",
    "indexing",
    "get",
    "search",
    "merge",
    "refresh",
    "flush",
    "warmer",
    "query_cache",
    "fielddata",
    "completion",
    "segments",
    "translog",
    "suggest",
    "request_cache",
    "recovery",
];

/// Adds the counters of another copy.
pub fn add(sum: &mut ShardStats, more: &ShardStats) {
    macro_rules! add {
        ($($field:ident),* $(,)?) => { $(sum.$field += more.$field;)* };
    }
    add!(
        docs_count,
        docs_deleted,
        store_size_bytes,
        index_total,
        index_time_ms,
        index_failed,
        delete_total,
        delete_time_ms,
        noop_update_total,
        get_total,
        get_time_ms,
        get_exists_total,
        get_missing_total,
        query_total,
        query_time_ms,
        fetch_total,
        fetch_time_ms,
        open_contexts,
        query_cache_size_bytes,
        query_cache_hits,
        query_cache_misses,
        query_cache_entries,
        query_cache_entries_ever,
        request_cache_size_bytes,
        request_cache_hits,
        request_cache_misses,
        request_cache_evictions,
        merges_current,
        merges_total,
        merges_time_ms,
        merges_docs,
        merges_size_bytes,
        refresh_total,
        refresh_time_ms,
        refresh_external_total,
        refresh_listeners,
        flush_total,
        flush_periodic,
        flush_time_ms,
        segments_count,
        segments_memory_bytes,
        index_writer_memory_bytes,
        version_map_memory_bytes,
        translog_operations,
        translog_size_bytes,
        translog_uncommitted_operations,
        translog_uncommitted_size_bytes,
        translog_syncs,
        recovered_operations,
    );
}

/// One group of `_stats`. Names as in the answer: `merge` is `merges`.
#[must_use]
pub fn group(metric: &str, s: &ShardStats) -> (&'static str, Value) {
    match metric {
        "docs" => ("docs", json!({ "count": s.docs_count, "deleted": s.docs_deleted })),
        "store" => ("store", json!({ "size_in_bytes": s.store_size_bytes, "reserved_in_bytes": 0 })),
        "indexing" => (
            "indexing",
            json!({
                "index_total": s.index_total, "index_time_in_millis": s.index_time_ms, "index_current": 0,
                "index_failed": s.index_failed, "delete_total": s.delete_total,
                "delete_time_in_millis": s.delete_time_ms, "delete_current": 0,
                "noop_update_total": s.noop_update_total, "is_throttled": false, "throttle_time_in_millis": 0,
            }),
        ),
        "get" => (
            "get",
            json!({
                "total": s.get_total, "time_in_millis": s.get_time_ms, "exists_total": s.get_exists_total,
                "exists_time_in_millis": s.get_time_ms, "missing_total": s.get_missing_total,
                "missing_time_in_millis": 0, "current": 0,
            }),
        ),
        "search" => (
            "search",
            json!({
                "open_contexts": s.open_contexts, "query_total": s.query_total, "query_time_in_millis": s.query_time_ms,
                "query_current": 0, "fetch_total": s.fetch_total, "fetch_time_in_millis": s.fetch_time_ms,
                "fetch_current": 0, "scroll_total": 0, "scroll_time_in_millis": 0, "scroll_current": 0,
                "suggest_total": 0, "suggest_time_in_millis": 0, "suggest_current": 0,
            }),
        ),
        "merge" => (
            "merges",
            json!({
                "current": s.merges_current, "current_docs": 0, "current_size_in_bytes": 0, "total": s.merges_total,
                "total_time_in_millis": s.merges_time_ms, "total_docs": s.merges_docs,
                "total_size_in_bytes": s.merges_size_bytes, "total_stopped_time_in_millis": 0,
                "total_throttled_time_in_millis": 0, "total_auto_throttle_in_bytes": 20_971_520,
            }),
        ),
        "refresh" => (
            "refresh",
            json!({
                "total": s.refresh_total, "total_time_in_millis": s.refresh_time_ms,
                "external_total": s.refresh_external_total, "external_total_time_in_millis": s.refresh_time_ms,
                "listeners": s.refresh_listeners,
            }),
        ),
        "flush" => (
            "flush",
            json!({ "total": s.flush_total, "periodic": s.flush_periodic, "total_time_in_millis": s.flush_time_ms }),
        ),
        "warmer" => ("warmer", json!({ "current": 0, "total": 0, "total_time_in_millis": 0 })),
        "query_cache" => (
            "query_cache",
            json!({
                "memory_size_in_bytes": s.query_cache_size_bytes,
                "total_count": s.query_cache_hits + s.query_cache_misses, "hit_count": s.query_cache_hits,
                "miss_count": s.query_cache_misses, "cache_size": s.query_cache_entries,
                "cache_count": s.query_cache_entries_ever,
                "evictions": s.query_cache_entries_ever - s.query_cache_entries,
            }),
        ),
        "fielddata" => ("fielddata", json!({ "memory_size_in_bytes": 0, "evictions": 0 })),
        "completion" => ("completion", json!({ "size_in_bytes": 0 })),
        "segments" => (
            "segments",
            json!({
                "count": s.segments_count, "memory_in_bytes": s.segments_memory_bytes,
                "terms_memory_in_bytes": s.segments_memory_bytes, "stored_fields_memory_in_bytes": 0,
                "term_vectors_memory_in_bytes": 0, "norms_memory_in_bytes": 0, "points_memory_in_bytes": 0,
                "doc_values_memory_in_bytes": 0, "index_writer_memory_in_bytes": s.index_writer_memory_bytes,
                "version_map_memory_in_bytes": s.version_map_memory_bytes, "fixed_bit_set_memory_in_bytes": 0,
                "max_unsafe_auto_id_timestamp": -1, "file_sizes": {},
            }),
        ),
        "translog" => (
            "translog",
            json!({
                "operations": s.translog_operations, "size_in_bytes": s.translog_size_bytes,
                "uncommitted_operations": s.translog_uncommitted_operations,
                "uncommitted_size_in_bytes": s.translog_uncommitted_size_bytes, "earliest_last_modified_age": 0,
            }),
        ),
        "suggest" => ("suggest", json!({})),
        "request_cache" => (
            "request_cache",
            json!({
                "memory_size_in_bytes": s.request_cache_size_bytes, "evictions": s.request_cache_evictions,
                "hit_count": s.request_cache_hits, "miss_count": s.request_cache_misses,
            }),
        ),
        "recovery" => {
            ("recovery", json!({ "current_as_source": 0, "current_as_target": 0, "throttle_time_in_millis": 0 }))
        }
        _ => ("", Value::Null),
    }
}

/// The groups asked for.
#[must_use]
pub fn groups(wanted: &[&str], stats: &ShardStats) -> Value {
    let mut out = Map::new();
    for metric in METRICS {
        if metric != "suggest" && wanted.contains(&metric) {
            let (name, value) = group(metric, stats);
            out.insert(name.into(), value);
        }
    }
    Value::Object(out)
}

/// Statistics of the primary of every shard of some indices.
pub async fn gather_primaries(
    backend: &SharedBackend,
    indices: &[Arc<IndexMetadata>],
) -> (Vec<(Arc<IndexMetadata>, u32, ShardStats)>, Vec<Value>) {
    let (answers, failures) = broadcast(backend, indices, &ShardRequest::Stats).await;
    let stats = answers
        .into_iter()
        .filter_map(|(index, shard, answer)| match answer {
            ShardResponse::Stats(stats) => Some((index, shard, *stats)),
            _ => None,
        })
        .collect();
    (stats, failures)
}

/// `GET [/{index}]/_stats[/{metric}]`
pub async fn stats(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let asked = params::list(&request, "metric").unwrap_or_default();
    let all = asked.is_empty() || asked.iter().any(|m| m == "_all");
    if all && asked.len() > 1 {
        return Err(ApiError::illegal_argument(format!(
            "request [{}] contains _all and individual metrics [{}]",
            request.path,
            asked.join(",")
        )));
    }
    if !all {
        let mut unknown: Vec<&str> =
            asked.iter().map(String::as_str).filter(|m| !METRICS.contains(m) && *m != "merge").collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            let path = request.path.split('?').next().unwrap_or("");
            return Err(ApiError::illegal_argument(unrecognized(
                &format!("request [{path}] contains unrecognized metric"),
                &unknown,
                &METRICS,
            )));
        }
    }
    let wanted: Vec<&str> = METRICS.into_iter().filter(|m| all || asked.iter().any(|a| a == m)).collect();
    let level = request.param("level").unwrap_or("indices").to_owned();
    if !matches!(level.as_str(), "cluster" | "indices" | "shards") {
        return Err(ApiError::illegal_argument(format!(
            "level parameter must be one of [cluster] or [indices] or [shards] but was [{level}]"
        )));
    }
    let forbid_closed = flag(&request, "forbid_closed_indices", true)?;
    let mut defaults = IndicesOptions::OPEN_FORBID_CLOSED;
    defaults.forbid_closed = forbid_closed;
    let indices = targets(backend, &request, defaults)?;
    let open: Vec<Arc<IndexMetadata>> = indices.iter().filter(|i| i.open).cloned().collect();
    let state = backend.state();
    let (answers, failures) = gather(backend, &state, &open).await;
    let mut successful = answers.len();
    // A closed index was committed when it was closed: nothing of it is in memory or in a log.
    for index in indices.iter().filter(|i| !i.open) {
        successful +=
            (0..index.number_of_shards).map(|n| shard_health(&state, index, n).active as usize).sum::<usize>();
    }
    let (mut primaries, mut total) = (ShardStats::default(), ShardStats::default());
    let mut per_index = Map::new();
    for index in &indices {
        let (mut own_primaries, mut own_total) = (ShardStats::default(), ShardStats::default());
        let mut shards = Map::new();
        for answer in answers.iter().filter(|answer| answer.is_of(index)) {
            add(&mut own_total, &answer.told);
            if answer.copy.primary {
                add(&mut own_primaries, &answer.told);
            }
            if level == "shards" {
                let group = shards.entry(answer.shard.to_string()).or_insert_with(|| json!([]));
                group.as_array_mut().expect("made here").push(copy_shown(&wanted, answer));
            }
        }
        add(&mut primaries, &own_primaries);
        add(&mut total, &own_total);
        let mut shown = Map::new();
        shown.insert("uuid".into(), index.uuid.clone().into());
        shown.insert("primaries".into(), groups(&wanted, &own_primaries));
        shown.insert("total".into(), groups(&wanted, &own_total));
        if level == "shards" {
            shown.insert("shards".into(), Value::Object(shards));
        }
        per_index.insert(index.name.clone(), Value::Object(shown));
    }
    let mut out = Map::new();
    out.insert("_shards".into(), shards_header(copies(&indices), successful, failures));
    out.insert("_all".into(), json!({ "primaries": groups(&wanted, &primaries), "total": groups(&wanted, &total) }));
    if level != "cluster" {
        out.insert("indices".into(), Value::Object(per_index));
    }
    Ok(Response::ok(Value::Object(out)))
}

/// One copy of `level=shards`.
fn copy_shown(wanted: &[&str], answer: &OfCopy<ShardStats>) -> Value {
    let (stats, copy) = (&answer.told, &answer.copy);
    let mut shown = groups(wanted, stats);
    shown["routing"] = json!({
        "state": copy.state.name(), "primary": copy.primary, "node": copy.node, "relocating_node": copy.relocating_node,
    });
    shown["commit"] = json!({
        "id": stats.commit_id, "generation": stats.commit_generation, "user_data": {}, "num_docs": stats.docs_count,
    });
    shown["seq_no"] = json!({
        "max_seq_no": stats.max_seq_no, "local_checkpoint": stats.local_checkpoint,
        "global_checkpoint": stats.global_checkpoint,
    });
    let term = answer.index.primary_term(answer.shard);
    shown["retention_leases"] = json!({ "primary_term": term, "version": 1, "leases": [] });
    shown["shard_path"] = json!({ "state_path": "", "data_path": "", "is_custom_data_path": false });
    shown
}

/// `GET [/{index}]/_segments`
pub async fn segments(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let (answers, failures) = gather_segments(backend, &backend.state(), &indices).await;
    let mut out = Map::new();
    for index in &indices {
        let mut shards = Map::new();
        for answer in answers.iter().filter(|answer| answer.is_of(index)) {
            let mut shown = Map::new();
            for s in &answer.told {
                shown.insert(
                    s.name.clone(),
                    json!({
                        "generation": s.generation, "num_docs": s.docs_count, "deleted_docs": s.docs_deleted,
                        "size_in_bytes": s.size_bytes, "memory_in_bytes": s.memory_bytes, "committed": s.committed,
                        "search": s.searchable, "version": "8.7.0", "compound": false, "attributes": {},
                    }),
                );
            }
            let mut routing = json!({
                "state": answer.copy.state.name(), "primary": answer.copy.primary, "node": answer.copy.node,
            });
            if let Some(target) = answer.copy.relocating_node {
                routing["relocating_node"] = json!(target);
            }
            let group = shards.entry(answer.shard.to_string()).or_insert_with(|| json!([]));
            group.as_array_mut().expect("made here").push(json!({
                "routing": routing,
                "num_committed_segments": answer.told.iter().filter(|s| s.committed).count(),
                "num_search_segments": answer.told.iter().filter(|s| s.searchable).count(),
                "segments": shown,
            }));
        }
        out.insert(index.name.clone(), json!({ "shards": shards }));
    }
    Ok(Response::ok(json!({ "_shards": shards_header(copies(&indices), answers.len(), failures), "indices": out })))
}

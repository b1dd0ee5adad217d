//! `_stats`, `_segments`, `_recovery`, `_shard_stores`.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::shards_header;
use super::upkeep::{broadcast, copies, targets};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::rest::cluster::iso;
use crate::rest::params::{self, flag};
use crate::rest::request::{Request, Response};
use crate::rest::router::unrecognized;
use crate::shard::message::{SegmentStats, ShardRequest, ShardResponse, ShardStats};

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

/// Statistics of every shard of some indices.
pub async fn gather(
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
    let (mut answers, failures) = gather(backend, &open).await;
    // A closed index was committed when it was closed: nothing of it is in memory or in a log.
    for index in indices.iter().filter(|i| !i.open) {
        answers.extend((0..index.number_of_shards).map(|shard| (index.clone(), shard, ShardStats::default())));
    }
    let mut total = ShardStats::default();
    let mut per_index = Map::new();
    for index in &indices {
        let mut sum = ShardStats::default();
        let mut shards = Map::new();
        for (_, shard, stats) in answers.iter().filter(|(i, ..)| i.name == index.name) {
            add(&mut sum, stats);
            if level == "shards" {
                let mut shown = groups(&wanted, stats);
                if let Value::Object(map) = &mut shown {
                    map.insert(
                        "routing".into(),
                        json!({ "state": "STARTED", "primary": true, "node": backend.node().id, "relocating_node": null }),
                    );
                    map.insert(
                        "commit".into(),
                        json!({ "id": stats.commit_id, "generation": stats.commit_generation, "user_data": {}, "num_docs": stats.docs_count }),
                    );
                    map.insert(
                        "seq_no".into(),
                        json!({ "max_seq_no": stats.max_seq_no, "local_checkpoint": stats.local_checkpoint, "global_checkpoint": stats.global_checkpoint }),
                    );
                    map.insert("retention_leases".into(), json!({ "primary_term": index.primary_terms.get(*shard as usize).copied().unwrap_or(1), "version": 1, "leases": [] }));
                    map.insert(
                        "shard_path".into(),
                        json!({ "state_path": "", "data_path": "", "is_custom_data_path": false }),
                    );
                }
                shards.insert(shard.to_string(), json!([shown]));
            }
        }
        add(&mut total, &sum);
        let mut shown = Map::new();
        shown.insert("uuid".into(), index.uuid.clone().into());
        shown.insert("primaries".into(), groups(&wanted, &sum));
        shown.insert("total".into(), groups(&wanted, &sum));
        if level == "shards" {
            shown.insert("shards".into(), Value::Object(shards));
        }
        per_index.insert(index.name.clone(), Value::Object(shown));
    }
    let mut out = Map::new();
    out.insert("_shards".into(), shards_header(copies(&indices), answers.len(), failures));
    out.insert("_all".into(), json!({ "primaries": groups(&wanted, &total), "total": groups(&wanted, &total) }));
    if level != "cluster" {
        out.insert("indices".into(), Value::Object(per_index));
    }
    Ok(Response::ok(Value::Object(out)))
}

/// Segments of every shard of some indices.
pub async fn gather_segments(
    backend: &SharedBackend,
    indices: &[Arc<IndexMetadata>],
) -> (Vec<(Arc<IndexMetadata>, u32, Vec<SegmentStats>)>, Vec<Value>) {
    let (answers, failures) = broadcast(backend, indices, &ShardRequest::Segments).await;
    let segments = answers
        .into_iter()
        .filter_map(|(index, shard, answer)| match answer {
            ShardResponse::Segments(segments) => Some((index, shard, segments)),
            _ => None,
        })
        .collect();
    (segments, failures)
}

/// `GET [/{index}]/_segments`
pub async fn segments(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let (answers, failures) = gather_segments(backend, &indices).await;
    let mut out = Map::new();
    for index in &indices {
        let mut shards = Map::new();
        for (_, shard, segments) in answers.iter().filter(|(i, ..)| i.name == index.name) {
            let mut shown = Map::new();
            for s in segments {
                shown.insert(
                    s.name.clone(),
                    json!({
                        "generation": s.generation, "num_docs": s.docs_count, "deleted_docs": s.docs_deleted,
                        "size_in_bytes": s.size_bytes, "memory_in_bytes": s.memory_bytes, "committed": s.committed,
                        "search": s.searchable, "version": "8.7.0", "compound": false, "attributes": {},
                    }),
                );
            }
            let committed = segments.iter().filter(|s| s.committed).count();
            shards.insert(
                shard.to_string(),
                json!([{
                    "routing": { "state": "STARTED", "primary": true, "node": backend.node().id },
                    "num_committed_segments": committed,
                    "num_search_segments": segments.iter().filter(|s| s.searchable).count(),
                    "segments": shown,
                }]),
            );
        }
        out.insert(index.name.clone(), json!({ "shards": shards }));
    }
    Ok(Response::ok(json!({ "_shards": shards_header(copies(&indices), answers.len(), failures), "indices": out })))
}

/// `GET [/{index}]/_recovery`
pub async fn recovery(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let active_only = flag(&request, "active_only", false)?;
    let detailed = flag(&request, "detailed", false)?;
    let human = flag(&request, "human", false)?;
    let indices = targets(backend, &request, IndicesOptions::OPEN_CLOSED)?;
    let open: Vec<Arc<IndexMetadata>> = indices.iter().filter(|i| i.open).cloned().collect();
    let (answers, _) = gather(backend, &open).await;
    let mut out = Map::new();
    let node = backend.node();
    for index in &indices {
        let mut shards = Vec::new();
        // A closed index stays where it was recovered, without a running shard.
        let closed: Vec<(u32, ShardStats)> = if index.open {
            Vec::new()
        } else {
            (0..index.number_of_shards).map(|shard| (shard, ShardStats::default())).collect()
        };
        let running = answers.iter().filter(|(i, ..)| i.name == index.name).map(|(_, shard, stats)| (*shard, stats));
        for (shard, stats) in running.chain(closed.iter().map(|(shard, stats)| (*shard, stats))) {
            if active_only {
                continue;
            }
            let at = node.start_ms.max(index.creation_date);
            let existing = stats.recovered_operations > 0 || node.start_ms > index.creation_date || !index.open;
            let address = json!({
                "id": node.id, "host": node.host, "transport_address": node.transport_address, "ip": node.host, "name": node.name,
            });
            let replayed = stats.recovered_operations;
            let mut files = json!({ "total": 0, "reused": 0, "recovered": 0, "percent": "0.0%" });
            if detailed {
                files["details"] = json!([]);
            }
            let mut one = json!({
                "id": shard,
                "type": if existing { "EXISTING_STORE" } else { "EMPTY_STORE" },
                "stage": "DONE",
                "primary": true,
                "start_time_in_millis": at,
                "stop_time_in_millis": at,
                "total_time_in_millis": 0,
                "source": if existing { json!({ "bootstrap_new_history_uuid": false }) } else { json!({}) },
                "target": address,
                "index": {
                    "size": {
                        "total_in_bytes": 0, "reused_in_bytes": 0, "recovered_in_bytes": 0, "percent": "0.0%",
                    },
                    "files": files,
                    "total_time_in_millis": 0,
                    "source_throttle_time_in_millis": 0,
                    "target_throttle_time_in_millis": 0,
                },
                "translog": {
                    "recovered": replayed, "total": replayed, "percent": "100.0%", "total_on_start": replayed, "total_time_in_millis": 0,
                },
                "verify_index": { "check_index_time_in_millis": 0, "total_time_in_millis": 0 },
            });
            if human {
                one["start_time"] = iso(at).into();
                one["stop_time"] = iso(at).into();
                one["total_time"] = "0s".into();
                one["index"]["size"]["total"] = "0b".into();
                one["index"]["size"]["reused"] = "0b".into();
                one["index"]["size"]["recovered"] = "0b".into();
                one["index"]["total_time"] = "0s".into();
                one["index"]["source_throttle_time"] = "-1".into();
                one["index"]["target_throttle_time"] = "-1".into();
                one["translog"]["total_time"] = "0s".into();
                one["verify_index"]["check_index_time"] = "0s".into();
                one["verify_index"]["total_time"] = "0s".into();
            }
            shards.push(one);
        }
        if !shards.is_empty() {
            out.insert(index.name.clone(), json!({ "shards": shards }));
        }
    }
    Ok(Response::ok(Value::Object(out)))
}

/// `GET [/{index}]/_shard_stores`
pub async fn shard_stores(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let wanted = params::list(&request, "status").unwrap_or_else(|| vec!["yellow".into(), "red".into()]);
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let node = backend.node();
    let mut out = Map::new();
    for index in &indices {
        let status = if index.number_of_replicas == 0 { "green" } else { "yellow" };
        if !wanted.iter().any(|w| w == "all" || w == status) {
            continue;
        }
        let mut shards = Map::new();
        for shard in 0..index.number_of_shards {
            let store = json!({
                node.id.clone(): {
                    "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": {},
                },
                "allocation_id": allocation_id(index, shard),
                "allocation": "primary",
            });
            shards.insert(shard.to_string(), json!({ "stores": [store] }));
        }
        out.insert(index.name.clone(), json!({ "shards": shards }));
    }
    Ok(Response::ok(json!({ "indices": out })))
}

/// Names a shard copy: made from the index's uuid and the shard's number while each shard has one copy.
#[must_use]
pub fn allocation_id(index: &IndexMetadata, shard: u32) -> String {
    let tag = format!("{:02}", shard % 100);
    format!("{}{tag}", &index.uuid[..index.uuid.len().min(20)])
}

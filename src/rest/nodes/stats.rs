//! `_nodes/stats`, `_nodes/usage`: what nodes have done.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::{Machine, attributes, cpu_percent, header, max_files, this_node};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::rest::indices::copies::gather_on;
use crate::rest::indices::stats::{METRICS, add, groups};
use crate::rest::latency;
use crate::rest::params;
use crate::rest::passed::others;
use crate::rest::request::{Request, Response};
use crate::rest::router::unrecognized;
use crate::shard::message::ShardStats;
use crate::stats::interval::Reading;

const STATS_METRICS: [&str; 17] = [
    "indices",
    "os",
    "process",
    "jvm",
    "thread_pool",
    "fs",
    "transport",
    "http",
    "breaker",
    "breakers",
    "script",
    "discovery",
    "ingest",
    "adaptive_selection",
    "script_cache",
    "indexing_pressure",
    "latency",
];

/// `GET /_nodes[/{node_id}]/stats[/{metric}[/{index_metric}]]`
pub async fn stats(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let asked = params::list(&request, "metric").unwrap_or_default();
    let all = asked.is_empty() || asked.iter().any(|m| m == "_all");
    if asked.iter().any(|m| m == "_all") && asked.len() > 1 {
        return Err(ApiError::illegal_argument(format!(
            "request [{}] contains _all and individual metrics [{}]",
            request.path.split('?').next().unwrap_or(""),
            asked.join(",")
        )));
    }
    let unknown: Vec<&str> =
        asked.iter().map(String::as_str).filter(|m| *m != "_all" && !STATS_METRICS.contains(m)).collect();
    if !unknown.is_empty() {
        let path = request.path.split('?').next().unwrap_or("");
        return Err(ApiError::illegal_argument(unrecognized(
            &format!("request [{path}] contains unrecognized metric"),
            &unknown,
            &STATS_METRICS,
        )));
    }
    let index_metrics = params::list(&request, "index_metric").unwrap_or_default();
    let all_index = index_metrics.is_empty() || index_metrics.iter().any(|m| m == "_all");
    let unknown: Vec<&str> =
        index_metrics.iter().map(String::as_str).filter(|m| *m != "_all" && !METRICS.contains(m)).collect();
    if !unknown.is_empty() {
        let path = request.path.split('?').next().unwrap_or("");
        return Err(ApiError::illegal_argument(unrecognized(
            &format!("request [{path}] contains unrecognized index metric"),
            &unknown,
            &METRICS,
        )));
    }
    let wants = |name: &str| all || asked.iter().any(|m| m == name);
    let node = backend.node();
    let state = backend.state();
    let mut nodes = Map::new();
    if let Some(known) = this_node(backend, request.param("node_id")) {
        let now = backend.now_ms();
        let machine = Machine::read(&backend.config().data);
        let mut own = json!({
            "timestamp": now,
            "name": known.name,
            "transport_address": known.transport_address,
            "host": known.host,
            "ip": known.transport_address,
            "roles": known.roles,
            "attributes": attributes(&known.attributes),
        });
        if wants("indices") {
            let wanted: Vec<&str> =
                METRICS.into_iter().filter(|m| all_index || index_metrics.iter().any(|a| a == m)).collect();
            let indices: Vec<Arc<IndexMetadata>> = state.indices.values().filter(|i| i.open).cloned().collect();
            let shards = gather_on(backend, &state, &indices, &known.id).await;
            let mut sum = ShardStats::default();
            for answer in &shards {
                add(&mut sum, &answer.told);
            }
            own["indices"] = groups(&wanted, &sum);
            if request.param("level").is_some_and(|l| l == "indices" || l == "shards") {
                let mut per_index = Map::new();
                for index in &indices {
                    let mut sum = ShardStats::default();
                    for answer in shards.iter().filter(|answer| answer.is_of(index)) {
                        add(&mut sum, &answer.told);
                    }
                    per_index.insert(index.name.clone(), groups(&wanted, &sum));
                }
                own["indices"]["indices"] = Value::Object(per_index);
            }
        }
        if wants("os") {
            own["os"] = json!({
                "timestamp": now,
                "cpu": { "percent": cpu_percent(&machine, node.cores), "load_average": { "1m": machine.load[0], "5m": machine.load[1], "15m": machine.load[2] } },
                "mem": {
                    "total_in_bytes": machine.memory_total, "free_in_bytes": machine.memory_free,
                    "used_in_bytes": machine.memory_total - machine.memory_free.min(machine.memory_total),
                    "free_percent": 100 - machine.memory_percent(), "used_percent": machine.memory_percent(),
                },
                "swap": { "total_in_bytes": 0, "free_in_bytes": 0, "used_in_bytes": 0 },
            });
        }
        if wants("process") {
            own["process"] = json!({
                "timestamp": now, "open_file_descriptors": machine.open_files, "max_file_descriptors": max_files(),
                "cpu": { "percent": 0, "total_in_millis": machine.cpu_ms },
                "mem": { "total_virtual_in_bytes": machine.virtual_size },
            });
        }
        if wants("jvm") {
            own["jvm"] = json!({
                "timestamp": now, "uptime_in_millis": now - node.start_ms,
                "mem": {
                    "heap_used_in_bytes": machine.resident, "heap_used_percent": machine.resident * 100 / backend.config().memory.max(1),
                    "heap_committed_in_bytes": machine.resident, "heap_max_in_bytes": backend.config().memory,
                    "non_heap_used_in_bytes": 0, "non_heap_committed_in_bytes": 0, "pools": {},
                },
                "threads": { "count": node.cores, "peak_count": node.cores },
                "gc": { "collectors": {
                    "young": { "collection_count": 0, "collection_time_in_millis": 0 },
                    "old": { "collection_count": 0, "collection_time_in_millis": 0 },
                } },
                "buffer_pools": {},
                "classes": { "current_loaded_count": 0, "total_loaded_count": 0, "total_unloaded_count": 0 },
            });
        }
        if wants("thread_pool") {
            let pool = json!({ "threads": node.cores, "queue": 0, "active": 0, "rejected": 0, "largest": node.cores, "completed": 0 });
            own["thread_pool"] = json!({ "write": pool, "search": pool, "get": pool });
        }
        if wants("fs") {
            let fs = json!({ "total_in_bytes": machine.disk_total, "free_in_bytes": machine.disk_available, "available_in_bytes": machine.disk_available });
            own["fs"] = json!({ "timestamp": now, "total": fs, "data": [fs] });
        }
        if wants("transport") {
            own["transport"] = json!({
                "server_open": 0, "total_outbound_connections": 0, "rx_count": 0, "rx_size_in_bytes": 0, "tx_count": 0, "tx_size_in_bytes": 0,
            });
        }
        if wants("http") {
            own["http"] = json!({ "current_open": 0, "total_opened": 0 });
        }
        if wants("breaker") || wants("breakers") {
            own["breakers"] = backend.memory().breakers(machine.anonymous);
        }
        if wants("script") {
            own["script"] = json!({ "compilations": 0, "cache_evictions": 0, "compilation_limit_triggered": 0 });
        }
        if wants("discovery") {
            own["discovery"] = json!({
                "cluster_state_queue": { "total": 0, "pending": 0, "committed": 0 },
                "published_cluster_states": { "full_states": state.version, "incompatible_diffs": 0, "compatible_diffs": 0 },
            });
        }
        if wants("ingest") {
            own["ingest"] =
                json!({ "total": { "count": 0, "time_in_millis": 0, "current": 0, "failed": 0 }, "pipelines": {} });
        }
        if wants("adaptive_selection") {
            own["adaptive_selection"] = json!({});
        }
        if wants("script_cache") {
            own["script_cache"] =
                json!({ "sum": { "compilations": 0, "cache_evictions": 0, "compilation_limit_triggered": 0 } });
        }
        if asked.iter().any(|m| m == "latency") {
            own["latency"] = latency::of_node(backend, Reading::SinceReset, false).await;
        }
        if wants("indexing_pressure") {
            own["indexing_pressure"] = backend.memory().indexing_pressure();
        }
        // What this server measures beyond the original: latencies of every stage, per core.
        if (all || ["http", "process", "os"].into_iter().any(wants))
            && let Value::Object(more) = backend.node_stats().await
        {
            for (key, value) in more {
                if let (Value::Object(known), Value::Object(more)) = (&mut own[&key], &value) {
                    known.extend(more.clone());
                } else if all {
                    own[key] = value;
                } else if own[&key].is_null() {
                    own.as_object_mut().expect("made here").shift_remove(&key);
                }
            }
        }
        nodes.insert(node.id.clone(), own);
    }
    let (metrics, of_indices) = (asked.join(","), index_metrics.join(","));
    let parts = ["stats", metrics.as_str(), of_indices.as_str()];
    let what: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let mut others = others(backend, &request, request.param("node_id"), &what).await;
    nodes.append(&mut others.nodes);
    let header = header(nodes.len(), others.failures);
    Ok(Response::ok(json!({ "_nodes": header, "cluster_name": state.cluster_name, "nodes": nodes })))
}

/// `GET /_nodes/usage`
pub async fn usage(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut nodes = Map::new();
    if this_node(backend, request.param("node_id")).is_some() {
        nodes.insert(
            backend.node().id.clone(),
            json!({ "timestamp": backend.now_ms(), "since": backend.node().start_ms, "rest_actions": {}, "aggregations": {} }),
        );
    }
    let mut others = others(backend, &request, request.param("node_id"), &["usage"]).await;
    nodes.append(&mut others.nodes);
    let header = header(nodes.len(), others.failures);
    Ok(Response::ok(json!({ "_nodes": header, "cluster_name": backend.state().cluster_name, "nodes": nodes })))
}

/// `GET /metrics`, `GET /_prometheus/metrics`
pub async fn metrics(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::text(backend.metrics_text().await))
}

//! `_nodes`, `_cluster/stats`: this node and its machine.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::cluster::{Status, index_counts};
use super::http::{BUILD_HASH, VERSION};
use super::indices::stats::{METRICS, add, gather, groups};
use super::latency;
use super::params::{self, flag};
use super::request::{Request, Response};
use super::router::unrecognized;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::rest::filter::glob;
use crate::shard::message::ShardStats;
use crate::stats::hot;
use crate::stats::interval::Reading;

/// Figures of the machine, from `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes free.
    pub memory_free: u64,
    /// Bytes of this process in memory.
    pub resident: u64,
    /// Bytes of those that are no file's.
    pub anonymous: u64,
    /// Bytes of its address space.
    pub virtual_size: u64,
    /// Load over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Open files.
    pub open_files: u64,
    /// Bytes of the data directory's file system.
    pub disk_total: u64,
    /// Bytes available there.
    pub disk_available: u64,
    /// CPU milliseconds this process has used.
    pub cpu_ms: u64,
}

impl Machine {
    /// Reads them; what cannot be read is 0.
    #[must_use]
    pub fn read(data: &std::path::Path) -> Machine {
        let mut machine = Machine::default();
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        for line in text("/proc/meminfo").lines() {
            let kib = || line.split_ascii_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024;
            if line.starts_with("MemTotal:") {
                machine.memory_total = kib();
            } else if line.starts_with("MemAvailable:") {
                machine.memory_free = kib();
            }
        }
        for (slot, word) in machine.load.iter_mut().zip(text("/proc/loadavg").split_ascii_whitespace()) {
            *slot = word.parse().unwrap_or(0.0);
        }
        let pages: Vec<u64> =
            text("/proc/self/statm").split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        machine.virtual_size = pages.first().copied().unwrap_or(0) * 4096;
        machine.resident = pages.get(1).copied().unwrap_or(0) * 4096;
        machine.anonymous = machine.resident.saturating_sub(pages.get(2).copied().unwrap_or(0) * 4096);
        let stat = text("/proc/self/stat");
        let after: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        let ticks = |at: usize| after.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        machine.cpu_ms = (ticks(11) + ticks(12)) * 10;
        machine.open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
        if let Ok(fs) = rustix::fs::statvfs(data) {
            machine.disk_total = fs.f_blocks * fs.f_frsize;
            machine.disk_available = fs.f_bavail * fs.f_frsize;
        }
        machine
    }

    /// Percentage of memory in use.
    #[must_use]
    pub fn memory_percent(&self) -> u64 {
        (self.memory_total - self.memory_free.min(self.memory_total)) * 100 / self.memory_total.max(1)
    }
}

/// Names of roles, sorted as the original sorts them.
pub const ROLES: [&str; 4] = ["data", "ingest", "master", "remote_cluster_client"];

/// Whether a node expression (`_local`, `_master`, names, ids, `data:true`, ...) means this node.
pub(super) fn means_this_node(backend: &SharedBackend, expression: Option<&str>) -> bool {
    let Some(list) = expression.filter(|e| !e.is_empty()) else { return true };
    let node = backend.node();
    let mut included = false;
    for item in list.split(',') {
        included = match item {
            "_all" | "_local" | "_master" | "*" => true,
            other => match other.split_once(':') {
                Some((role, value)) if ROLES.contains(&role) || role == "coordinating_only" => {
                    let has = ROLES.contains(&role);
                    match value {
                        "true" => included | has,
                        "false" => included & !has,
                        _ => included,
                    }
                }
                Some((attribute, pattern)) => {
                    included | node.attributes.iter().any(|(n, v)| glob(attribute, n) && glob(pattern, v))
                }
                None => included | glob(other, &node.name) || other == node.id || glob(other, &node.host),
            },
        };
    }
    included
}

fn header(count: usize) -> Value {
    json!({ "total": count, "successful": count, "failed": 0 })
}

const INFO_METRICS: [&str; 11] = [
    "settings",
    "os",
    "process",
    "jvm",
    "thread_pool",
    "transport",
    "http",
    "plugins",
    "ingest",
    "aggregations",
    "indices",
];

/// `GET /_nodes[/{node_id}][/{metric}]`
pub async fn info(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    // One part alone may be either: names of metrics win.
    let mut node_id = request.param("node_id").map(str::to_owned);
    let mut metrics = params::list(&request, "metric");
    if metrics.is_none()
        && let Some(list) = node_id.as_deref().map(params::split_list)
        && list.iter().all(|m| INFO_METRICS.contains(&m.as_str()) || m == "_all")
    {
        metrics = Some(list);
        node_id = None;
    }
    let wants = |name: &str| metrics.as_ref().is_none_or(|list| list.iter().any(|m| m == name || m == "_all"));
    let node = backend.node();
    let flat = flag(&request, "flat_settings", false)?;
    let mut nodes = Map::new();
    if means_this_node(backend, node_id.as_deref()) {
        let attributes: Map<String, Value> =
            node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let mut own = json!({
            "name": node.name,
            "transport_address": node.transport_address,
            "host": node.host,
            "ip": node.host,
            "version": VERSION,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": BUILD_HASH,
            "roles": ROLES,
            "attributes": attributes,
        });
        let machine = Machine::read(&backend.config().data);
        if wants("indices") {
            own["total_indexing_buffer"] = backend.memory().indexing.limit().into();
        }
        if wants("settings") {
            let mut settings = Map::new();
            settings.insert("cluster.name".into(), backend.state().cluster_name.clone().into());
            settings.insert("node.name".into(), node.name.clone().into());
            settings.insert("path.data".into(), backend.config().data.display().to_string().into());
            for (name, value) in &node.attributes {
                settings.insert(format!("node.attr.{name}"), value.clone().into());
            }
            own["settings"] = crate::metadata::settings::shown(&settings, flat);
        }
        if wants("os") {
            own["os"] = json!({
                "refresh_interval_in_millis": 1000, "name": "Linux", "pretty_name": "Linux", "arch": std::env::consts::ARCH,
                "version": "", "available_processors": node.cores, "allocated_processors": node.cores,
            });
        }
        if wants("process") {
            own["process"] = json!({ "refresh_interval_in_millis": 1000, "id": std::process::id(), "mlockall": false });
        }
        if wants("jvm") {
            own["jvm"] = json!({
                "pid": std::process::id(), "version": "0", "vm_name": "none", "vm_version": "0", "vm_vendor": "none",
                "bundled_jdk": false, "using_bundled_jdk": null, "start_time_in_millis": node.start_ms,
                "mem": { "heap_init_in_bytes": 0, "heap_max_in_bytes": backend.config().memory, "non_heap_init_in_bytes": 0, "non_heap_max_in_bytes": 0, "direct_max_in_bytes": machine.memory_total },
                "gc_collectors": [], "memory_pools": [], "using_compressed_ordinary_object_pointers": "false", "input_arguments": [],
            });
        }
        if wants("thread_pool") {
            own["thread_pool"] = json!({
                "write": { "type": "fixed", "size": node.cores, "queue_size": 10000 },
                "search": { "type": "fixed", "size": node.cores, "queue_size": 1000 },
                "get": { "type": "fixed", "size": node.cores, "queue_size": 1000 },
            });
        }
        if wants("transport") {
            own["transport"] = json!({
                "bound_address": [node.transport_address], "publish_address": node.transport_address, "profiles": {},
            });
        }
        if wants("http") {
            own["http"] = json!({
                "bound_address": [node.http_address], "publish_address": node.http_address,
                "max_content_length_in_bytes": backend.config().max_content_length,
            });
        }
        if wants("plugins") {
            own["plugins"] = json!([]);
            own["modules"] = json!([]);
        }
        if wants("ingest") {
            own["ingest"] = json!({ "processors": [] });
        }
        if wants("aggregations") {
            own["aggregations"] = json!({});
        }
        nodes.insert(node.id.clone(), own);
    }
    Ok(Response::ok(json!({
        "_nodes": header(nodes.len()),
        "cluster_name": backend.state().cluster_name,
        "nodes": nodes,
    })))
}

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
    if means_this_node(backend, request.param("node_id")) {
        let now = backend.now_ms();
        let machine = Machine::read(&backend.config().data);
        let attributes: Map<String, Value> =
            node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let mut own = json!({
            "timestamp": now,
            "name": node.name,
            "transport_address": node.transport_address,
            "host": node.host,
            "ip": node.transport_address,
            "roles": ROLES,
            "attributes": attributes,
        });
        if wants("indices") {
            let wanted: Vec<&str> =
                METRICS.into_iter().filter(|m| all_index || index_metrics.iter().any(|a| a == m)).collect();
            let indices: Vec<Arc<IndexMetadata>> = state.indices.values().filter(|i| i.open).cloned().collect();
            let (shards, _) = gather(backend, &indices).await;
            let mut sum = ShardStats::default();
            for (_, _, stats) in &shards {
                add(&mut sum, stats);
            }
            own["indices"] = groups(&wanted, &sum);
            if request.param("level").is_some_and(|l| l == "indices" || l == "shards") {
                let mut per_index = Map::new();
                for index in &indices {
                    let mut sum = ShardStats::default();
                    for (_, _, stats) in shards.iter().filter(|(i, ..)| i.name == index.name) {
                        add(&mut sum, stats);
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
        if all && let Value::Object(more) = backend.node_stats().await {
            for (key, value) in more {
                if own.get(&key).is_none() {
                    own[key] = value;
                } else if let (Value::Object(known), Value::Object(more)) = (&mut own[&key], value) {
                    known.extend(more);
                }
            }
        }
        nodes.insert(node.id.clone(), own);
    }
    Ok(Response::ok(json!({ "_nodes": header(nodes.len()), "cluster_name": state.cluster_name, "nodes": nodes })))
}

/// The machine's load as a percentage of its cores.
#[must_use]
pub fn cpu_percent(machine: &Machine, cores: usize) -> u64 {
    ((machine.load[0] * 100.0 / cores.max(1) as f64) as u64).min(100)
}

/// The limit of open files.
#[must_use]
pub fn max_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

/// `GET /_nodes/usage`
pub async fn usage(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut nodes = Map::new();
    if means_this_node(backend, request.param("node_id")) {
        nodes.insert(
            backend.node().id.clone(),
            json!({ "timestamp": backend.now_ms(), "since": backend.node().start_ms, "rest_actions": {}, "aggregations": {} }),
        );
    }
    Ok(Response::ok(
        json!({ "_nodes": header(nodes.len()), "cluster_name": backend.state().cluster_name, "nodes": nodes }),
    ))
}

/// `GET /_nodes/hot_threads`
pub async fn hot_threads(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let shown = params::int(&request, "threads")?.map_or(3, |n| n.max(0) as usize);
    let node = backend.node();
    let mut out = format!("::: {{{}}}{{{}}}{{{}}}{{{}}}\n", node.name, node.id, node.ephemeral_id, node.host);
    let limit = hot::LIMIT;
    let _ = writeln!(out, "   Every core runs one task at a time. Tasks that did not give way within {limit:?}:\n");
    let now = Instant::now();
    for (core, (count, mut last)) in backend.hot_tasks().await {
        last.sort_by_key(|task| std::cmp::Reverse(task.took));
        let longest =
            last.first().map_or(String::new(), |task| format!(", the longest of the last took {:.1?}", task.took));
        let _ = writeln!(out, "   core {core}: {count} since the start{longest}");
        for task in last.iter().take(shown) {
            let ago = now.saturating_duration_since(task.ended);
            let what = task.route.map_or(String::new(), |route| format!(" {route}"));
            let _ = writeln!(out, "     {:.1?} in lane [{}]{what}, {ago:.1?} ago", task.took, task.lane);
        }
    }
    Ok(Response::text(out))
}

/// `POST /_nodes/reload_secure_settings`
pub async fn reload_secure_settings(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    let node = backend.node();
    Ok(Response::ok(json!({
        "_nodes": header(1), "cluster_name": backend.state().cluster_name, "nodes": { node.id.clone(): { "name": node.name } },
    })))
}

/// `GET /_cluster/stats`
pub async fn cluster_stats(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    let state = backend.state();
    let node = backend.node();
    let indices: Vec<Arc<IndexMetadata>> = state.indices.values().cloned().collect();
    let open: Vec<Arc<IndexMetadata>> = indices.iter().filter(|i| i.open).cloned().collect();
    let (shards, _) = gather(backend, &open).await;
    let mut sum = ShardStats::default();
    for (_, _, stats) in &shards {
        add(&mut sum, stats);
    }
    let mut status = Status::Green;
    for index in &indices {
        status = status.max(index_counts(backend, index).status);
    }
    let machine = Machine::read(&backend.config().data);
    let primaries: u32 = indices.iter().map(|i| i.number_of_shards).sum();
    let mut own = groups(&["docs", "store", "fielddata", "query_cache", "completion", "segments"], &sum);
    own["count"] = indices.len().into();
    own["shards"] = if primaries == 0 {
        json!({})
    } else {
        let per: Vec<f64> = indices.iter().map(|i| f64::from(i.number_of_shards)).collect();
        let min = per.iter().copied().fold(f64::INFINITY, f64::min);
        let max = per.iter().copied().fold(0.0, f64::max);
        let avg = per.iter().sum::<f64>() / per.len() as f64;
        let spread = json!({ "min": min as u64, "max": max as u64, "avg": avg });
        json!({
            "total": primaries, "primaries": primaries, "replication": 0.0,
            "index": { "shards": spread, "primaries": spread, "replication": { "min": 0.0, "max": 0.0, "avg": 0.0 } },
        })
    };
    own["mappings"] = json!({ "field_types": field_types(&indices) });
    own["analysis"] = json!({
        "char_filter_types": [], "tokenizer_types": [], "filter_types": [], "analyzer_types": [], "built_in_char_filters": [],
        "built_in_tokenizers": [], "built_in_filters": [], "built_in_analyzers": [],
    });
    Ok(Response::ok(json!({
        "_nodes": header(1),
        "cluster_name": state.cluster_name,
        "cluster_uuid": state.cluster_uuid,
        "timestamp": backend.now_ms(),
        "status": status.name(),
        "indices": own,
        "nodes": {
            "count": { "total": 1, "coordinating_only": 0, "data": 1, "ingest": 1, "master": 1, "remote_cluster_client": 1, "voting_only": 0 },
            "versions": [VERSION],
            "os": {
                "available_processors": node.cores, "allocated_processors": node.cores,
                "names": [{ "name": "Linux", "count": 1 }], "pretty_names": [{ "pretty_name": "Linux", "count": 1 }],
                "mem": {
                    "total_in_bytes": machine.memory_total, "free_in_bytes": machine.memory_free,
                    "used_in_bytes": machine.memory_total - machine.memory_free.min(machine.memory_total),
                    "free_percent": 100 - machine.memory_percent(), "used_percent": machine.memory_percent(),
                },
            },
            "process": { "cpu": { "percent": 0 }, "open_file_descriptors": { "min": machine.open_files, "max": machine.open_files, "avg": machine.open_files } },
            "jvm": {
                "max_uptime_in_millis": backend.now_ms() - node.start_ms, "versions": [],
                "mem": { "heap_used_in_bytes": machine.resident, "heap_max_in_bytes": backend.config().memory }, "threads": node.cores,
            },
            "fs": { "total_in_bytes": machine.disk_total, "free_in_bytes": machine.disk_available, "available_in_bytes": machine.disk_available },
            "plugins": [],
            "network_types": { "transport_types": { "ringdex": 1 }, "http_types": { "ringdex": 1 } },
            "discovery_types": { "zen": 1 },
            "packaging_types": [{ "flavor": "default", "type": "tar", "count": 1 }],
            "ingest": { "number_of_pipelines": 0, "processor_stats": {} },
        },
    })))
}

/// How many fields of each type, in how many indices.
fn field_types(indices: &[Arc<IndexMetadata>]) -> Value {
    fn walk(properties: Option<&Value>, depth: usize, out: &mut std::collections::BTreeMap<String, u64>) {
        let Some(Value::Object(properties)) = properties else { return };
        if depth > 50 {
            return;
        }
        for field in properties.values() {
            let kind = field.get("type").and_then(Value::as_str).unwrap_or("object");
            *out.entry(kind.to_owned()).or_default() += 1;
            walk(field.get("properties"), depth + 1, out);
            walk(field.get("fields"), depth + 1, out);
        }
    }
    let mut all: std::collections::BTreeMap<String, (u64, u64)> = Default::default();
    for index in indices {
        let mut own = Default::default();
        walk(index.mapping.get("properties"), 0, &mut own);
        for (kind, count) in own {
            let entry = all.entry(kind).or_default();
            entry.0 += count;
            entry.1 += 1;
        }
    }
    all.into_iter()
        .map(|(name, (count, indices))| json!({ "name": name, "count": count, "index_count": indices }))
        .collect()
}

/// `GET /metrics`, `GET /_prometheus/metrics`
pub async fn metrics(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::text(backend.metrics_text().await))
}

//! `_cluster/stats`: all nodes and indices together.

use std::sync::Arc;

use ringdex_net::cluster::health::{ClusterHealth, health as cluster_health};
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Value, json};

use super::{Figures, header, known_nodes, this_node};
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::rest::http::VERSION;
use crate::rest::indices::copies::gather;
use crate::rest::indices::stats::{add, group, groups};
use crate::rest::passed::others;
use crate::rest::request::{Request, Response};
use crate::shard::message::ShardStats;

/// `GET /_cluster/stats`
pub async fn cluster_stats(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let state = backend.state();
    let indices: Vec<Arc<IndexMetadata>> = state.indices.values().cloned().collect();
    let open: Vec<Arc<IndexMetadata>> = indices.iter().filter(|i| i.open).cloned().collect();
    let (shards, _) = gather(backend, &state, &open).await;
    let (mut sum, mut primaries) = (ShardStats::default(), ShardStats::default());
    for answer in &shards {
        add(&mut sum, &answer.told);
        if answer.copy.primary {
            add(&mut primaries, &answer.told);
        }
    }
    let health = cluster_health(&state);
    let known = known_nodes(backend);
    let with = |role: &str| known.iter().filter(|node| node.roles.contains(&role)).count();
    let others = others(backend, &request, None, &["stats", "os,process,jvm,fs"]).await;
    let mut figures: Vec<Figures> = others.nodes.values().map(Figures::told).collect();
    figures.extend(this_node(backend, None).map(|_| Figures::own(backend)));
    let of_all = |part: fn(&Figures) -> u64| figures.iter().map(part).sum::<u64>();
    let most = |part: fn(&Figures) -> u64| figures.iter().map(part).max().unwrap_or(0);
    let (memory, free) = (of_all(|f| f.memory_total), of_all(|f| f.memory_free));
    let used_percent = memory.saturating_sub(free) * 100 / memory.max(1);
    let cores: u32 = state.nodes.values().map(|node| node.cores).sum();
    let files = of_all(|f| f.open_files);
    let mut own = groups(&["docs", "store", "fielddata", "query_cache", "completion", "segments"], &sum);
    // A document is counted once, its bytes on every disk.
    own["docs"] = group("docs", &primaries).1;
    own["count"] = indices.len().into();
    own["shards"] = shard_counts(&health);
    own["mappings"] = json!({ "field_types": field_types(&indices) });
    own["analysis"] = json!({
        "char_filter_types": [], "tokenizer_types": [], "filter_types": [], "analyzer_types": [], "built_in_char_filters": [],
        "built_in_tokenizers": [], "built_in_filters": [], "built_in_analyzers": [],
    });
    Ok(Response::ok(json!({
        "_nodes": header(figures.len(), others.failures),
        "cluster_name": state.cluster_name,
        "cluster_uuid": state.cluster_uuid,
        "timestamp": backend.now_ms(),
        "status": health.counts.status.name(),
        "indices": own,
        "nodes": {
            "count": {
                "total": known.len(), "coordinating_only": known.iter().filter(|node| node.roles.is_empty()).count(),
                "data": with("data"), "ingest": with("ingest"), "master": with("master"),
                "remote_cluster_client": with("remote_cluster_client"), "voting_only": 0,
            },
            "versions": [VERSION],
            "os": {
                "available_processors": cores, "allocated_processors": cores,
                "names": [{ "name": "Linux", "count": figures.len() }],
                "pretty_names": [{ "pretty_name": "Linux", "count": figures.len() }],
                "mem": {
                    "total_in_bytes": memory, "free_in_bytes": free, "used_in_bytes": memory.saturating_sub(free),
                    "free_percent": 100 - used_percent, "used_percent": used_percent,
                },
            },
            "process": { "cpu": { "percent": 0 }, "open_file_descriptors": {
                "min": figures.iter().map(|f| f.open_files).min().unwrap_or(0), "max": most(|f| f.open_files),
                "avg": files / (figures.len() as u64).max(1),
            } },
            "jvm": {
                "max_uptime_in_millis": most(|f| f.uptime_ms), "versions": [],
                "mem": { "heap_used_in_bytes": of_all(|f| f.heap_used), "heap_max_in_bytes": of_all(|f| f.heap_max) },
                "threads": cores,
            },
            "fs": {
                "total_in_bytes": of_all(|f| f.disk_total), "free_in_bytes": of_all(|f| f.disk_available),
                "available_in_bytes": of_all(|f| f.disk_available),
            },
            "plugins": [],
            "network_types": { "transport_types": { "ringdex": known.len() }, "http_types": { "ringdex": known.len() } },
            "discovery_types": { "zen": known.len() },
            "packaging_types": [{ "flavor": "default", "type": "tar", "count": known.len() }],
            "ingest": { "number_of_pipelines": 0, "processor_stats": {} },
        },
    })))
}

/// Copies in service, and how they are spread over the indices.
fn shard_counts(health: &ClusterHealth) -> Value {
    let counts = health.indices.values().map(|index| &index.counts).filter(|counts| counts.active > 0);
    // Copies, primaries, and copies beside the primary for each of those.
    let per: Vec<[f64; 3]> = counts
        .map(|counts| {
            let (active, primaries) = (f64::from(counts.active), f64::from(counts.active_primaries));
            [active, primaries, if primaries > 0.0 { (active - primaries) / primaries } else { 0.0 }]
        })
        .collect();
    if per.is_empty() {
        return json!({});
    }
    let spread = |of: usize, whole: bool| {
        let min = per.iter().map(|counts| counts[of]).fold(f64::INFINITY, f64::min);
        let max = per.iter().map(|counts| counts[of]).fold(0.0, f64::max);
        let avg = per.iter().map(|counts| counts[of]).sum::<f64>() / per.len() as f64;
        if whole {
            json!({ "min": min as u64, "max": max as u64, "avg": avg })
        } else {
            json!({ "min": min, "max": max, "avg": avg })
        }
    };
    let (active, primaries) = (health.counts.active, health.counts.active_primaries);
    let replication = f64::from(active - primaries) / f64::from(primaries.max(1));
    json!({
        "total": active, "primaries": primaries, "replication": replication,
        "index": { "shards": spread(0, true), "primaries": spread(1, true), "replication": spread(2, false) },
    })
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

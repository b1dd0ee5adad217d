//! `_nodes`: what nodes are.

use serde_json::{Map, Value, json};

use super::{KnownNode, Machine, attributes, header, this_node};
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::rest::http::{BUILD_HASH, VERSION};
use crate::rest::params::{self, flag};
use crate::rest::passed::others;
use crate::rest::request::{Request, Response};

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

/// What is shown of every node.
fn identity(node: &KnownNode) -> Value {
    json!({
        "name": node.name,
        "transport_address": node.transport_address,
        "host": node.host,
        "ip": node.host,
        "version": VERSION,
        "build_flavor": "default",
        "build_type": "tar",
        "build_hash": BUILD_HASH,
        "roles": node.roles,
        "attributes": attributes(&node.attributes),
    })
}

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
    if let Some(known) = this_node(backend, node_id.as_deref()) {
        let mut own = identity(&known);
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
    let what: Vec<String> = metrics.into_iter().map(|list| list.join(",")).collect();
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let mut others = others(backend, &request, node_id.as_deref(), &what).await;
    nodes.append(&mut others.nodes);
    Ok(Response::ok(json!({
        "_nodes": header(nodes.len(), others.failures),
        "cluster_name": backend.state().cluster_name,
        "nodes": nodes,
    })))
}

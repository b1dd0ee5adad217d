//! `_cat/nodes` and whatever else is about the node: attributes, pools, tasks, plugins, the master.

use std::collections::BTreeMap;

use futures_lite::future::zip;
use serde_json::Value;

use super::{answer, time_of_day};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::rest::cluster;
use crate::rest::filter::glob;
use crate::rest::http::{BUILD_HASH, VERSION};
use crate::rest::nodes::{Figures, KnownNode, known_nodes};
use crate::rest::params::{self, flag};
use crate::rest::passed::others;
use crate::rest::request::{Request, Response};
use crate::rest::table::{Cell, Column, Table};
use crate::rest::tasks;

const NODES: &[Column] = &[
    Column::new("id", &["id", "nodeId"], "unique node id").hidden(),
    Column::new("pid", &["p"], "process id").hidden(),
    Column::new("ip", &["i"], "ip address"),
    Column::new("port", &["po"], "bound transport port").hidden(),
    Column::new("http_address", &["http"], "bound http address").hidden(),
    Column::new("version", &["v"], "es version").hidden(),
    Column::new("flavor", &["f"], "es distribution flavor").hidden(),
    Column::new("type", &["t"], "es distribution type").hidden(),
    Column::new("build", &["b"], "es build hash").hidden(),
    Column::new("jdk", &["j"], "jdk version").hidden(),
    Column::new("disk.total", &["dt", "diskTotal"], "total disk space").hidden().right(),
    Column::new("disk.used", &["du", "diskUsed"], "used disk space").hidden().right(),
    Column::new("disk.avail", &["d", "da", "disk", "diskAvail"], "available disk space").hidden().right(),
    Column::new("disk.used_percent", &["dup", "diskUsedPercent"], "used disk space percentage").hidden().right(),
    Column::new("heap.current", &["hc", "heapCurrent"], "used heap").hidden().right(),
    Column::new("heap.percent", &["hp", "heapPercent"], "used heap ratio").right(),
    Column::new("heap.max", &["hm", "heapMax"], "max configured heap").hidden().right(),
    Column::new("ram.current", &["rc", "ramCurrent"], "used machine memory").hidden().right(),
    Column::new("ram.percent", &["rp", "ramPercent"], "used machine memory ratio").right(),
    Column::new("ram.max", &["rm", "ramMax"], "total machine memory").hidden().right(),
    Column::new("file_desc.current", &["fdc", "fileDescriptorCurrent"], "used file descriptors").hidden().right(),
    Column::new("file_desc.percent", &["fdp", "fileDescriptorPercent"], "used file descriptor ratio").hidden().right(),
    Column::new("file_desc.max", &["fdm", "fileDescriptorMax"], "max file descriptors").hidden().right(),
    Column::new("cpu", &["cpu"], "recent cpu usage").right(),
    Column::new("load_1m", &["l"], "1m load avg").right(),
    Column::new("load_5m", &["l"], "5m load avg").right(),
    Column::new("load_15m", &["l"], "15m load avg").right(),
    Column::new("uptime", &["u"], "node uptime").hidden().right(),
    Column::new(
        "node.role",
        &["r", "role", "nodeRole"],
        "m:master eligible node, d:data node, i:ingest node, -:coordinating node only",
    ),
    Column::new("master", &["m"], "*:current master"),
    Column::new("name", &["n"], "node name"),
];

/// The port of `host:port`.
fn port(address: &str) -> Cell {
    address.rsplit_once(':').map_or_else(|| "-".into(), |(_, port)| port.into())
}

/// `GET /_cat/nodes`
pub async fn nodes(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(NODES);
    let full_id = flag(&request, "full_id", false)?;
    let others = others(backend, &request, None, &["stats", "os,process,jvm,fs"]);
    let (others, pids) = zip(others, pids(backend, &request)).await;
    for known in known_nodes(backend) {
        let figures =
            if known.local { Some(Figures::own(backend)) } else { others.nodes.get(&known.id).map(Figures::told) };
        table.push(node_row(&known, figures.as_ref(), pids.get(&known.id), full_id));
    }
    answer(&request, &table)
}

/// Process ids, by node.
async fn pids(backend: &SharedBackend, request: &Request) -> BTreeMap<String, i64> {
    let told = others(backend, request, None, &["process"]).await.nodes;
    let pid = |(id, node): (String, Value)| Some((id, node["process"]["id"].as_i64()?));
    let own = (backend.node().id.clone(), i64::from(std::process::id()));
    told.into_iter().filter_map(pid).chain([own]).collect()
}

fn pid_cell(pid: Option<&i64>) -> Cell {
    pid.map_or(Cell::Null, |pid| Cell::Int(*pid))
}

/// A node that has not answered has no figures.
fn node_row(node: &KnownNode, figures: Option<&Figures>, pid: Option<&i64>, full_id: bool) -> Vec<Cell> {
    let of = |part: &dyn Fn(&Figures) -> Cell| figures.map_or(Cell::Null, part);
    let share = |part: u64, all: u64| (part * 100 / all.max(1)).min(100);
    vec![
        if full_id { node.id.clone() } else { node.id.chars().take(4).collect() }.into(),
        pid_cell(pid),
        node.host.clone().into(),
        port(&node.transport_address),
        node.http_address.clone().into(),
        VERSION.into(),
        "default".into(),
        "tar".into(),
        BUILD_HASH.into(),
        "-".into(),
        of(&|f| Cell::Bytes(f.disk_total)),
        of(&|f| Cell::Bytes(f.disk_used())),
        of(&|f| Cell::Bytes(f.disk_available)),
        of(&|f| format!("{:.2}", f.disk_used() as f64 * 100.0 / f.disk_total.max(1) as f64).into()),
        of(&|f| Cell::Bytes(f.heap_used)),
        of(&|f| share(f.heap_used, f.heap_max).into()),
        of(&|f| Cell::Bytes(f.heap_max)),
        of(&|f| Cell::Bytes(f.memory_used())),
        of(&|f| share(f.memory_used(), f.memory_total).into()),
        of(&|f| Cell::Bytes(f.memory_total)),
        of(&|f| f.open_files.into()),
        of(&|f| share(f.open_files, f.files_max).into()),
        of(&|f| f.files_max.into()),
        of(&|f| f.cpu_percent.into()),
        of(&|f| format!("{:.2}", f.load[0]).into()),
        of(&|f| format!("{:.2}", f.load[1]).into()),
        of(&|f| format!("{:.2}", f.load[2]).into()),
        of(&|f| Cell::Nanos(f.uptime_ms * 1_000_000)),
        node.role_letters().into(),
        if node.master { "*" } else { "-" }.into(),
        node.name.clone().into(),
    ]
}

const MASTER: &[Column] = &[
    Column::new("id", &[], "node id"),
    Column::new("host", &["h"], "host name"),
    Column::new("ip", &[], "ip address "),
    Column::new("node", &["n"], "node name"),
];

/// `GET /_cat/master`
pub async fn master(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(MASTER);
    for node in known_nodes(backend).into_iter().filter(|node| node.master) {
        table.push(vec![node.id.into(), node.host.clone().into(), node.host.into(), node.name.into()]);
    }
    answer(&request, &table)
}

const ATTRIBUTES: &[Column] = &[
    Column::new("node", &["name"], "node name"),
    Column::new("id", &["id", "nodeId"], "unique node id").hidden(),
    Column::new("pid", &["p"], "process id").hidden(),
    Column::new("host", &["h"], "host name"),
    Column::new("ip", &["i"], "ip address"),
    Column::new("port", &["po"], "bound transport port").hidden(),
    Column::new("attr", &["attr.name"], "attribute description"),
    Column::new("value", &["attr.value"], "attribute value"),
];

/// `GET /_cat/nodeattrs`
pub async fn attributes(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(ATTRIBUTES);
    let pids = pids(backend, &request).await;
    for node in known_nodes(backend) {
        for (name, value) in &node.attributes {
            table.push(vec![
                node.name.clone().into(),
                node.id.chars().take(4).collect::<String>().into(),
                pid_cell(pids.get(&node.id)),
                node.host.clone().into(),
                node.host.clone().into(),
                port(&node.transport_address),
                name.clone().into(),
                value.clone().into(),
            ]);
        }
    }
    answer(&request, &table)
}

const PLUGINS: &[Column] = &[
    Column::new("id", &[], "unique node id").hidden(),
    Column::new("name", &["n"], "node name"),
    Column::new("component", &["c"], "component"),
    Column::new("version", &["v"], "component version"),
    Column::new("description", &["d"], "plugin details").hidden(),
];

/// `GET /_cat/plugins`
pub async fn plugins(_backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    answer(&request, &Table::new(PLUGINS))
}

const PENDING: &[Column] = &[
    Column::new("insertOrder", &["o"], "task insertion order").right(),
    Column::new("timeInQueue", &["t"], "how long task has been in queue").right(),
    Column::new("priority", &["p"], "task priority"),
    Column::new("source", &["s"], "task source"),
];

/// `GET /_cat/pending_tasks`
pub async fn pending_tasks(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(PENDING);
    if request.param("help").is_none() {
        let ask = request.instead(&["_cluster", "pending_tasks"], &["local", "master_timeout"]);
        let told = cluster::pending_tasks(backend, ask).await?.into_json();
        for update in told["tasks"].as_array().into_iter().flatten() {
            let text = |name: &str| update[name].as_str().unwrap_or_default().to_owned();
            table.push(vec![
                Cell::Int(update["insert_order"].as_i64().unwrap_or(0)),
                Cell::Nanos(update["time_in_queue_millis"].as_u64().unwrap_or(0) * 1_000_000),
                text("priority").into(),
                text("source").into(),
            ]);
        }
    }
    answer(&request, &table)
}

const REPOSITORIES: &[Column] = &[
    Column::new("id", &["id", "repoId"], "unique repository id"),
    Column::new("type", &["t", "type"], "repository type").right(),
];

/// `GET /_cat/repositories`
pub async fn repositories(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(REPOSITORIES);
    for (name, body) in backend.state().custom.get("repositories").into_iter().flatten() {
        table.push(vec![name.clone().into(), body.get("type").and_then(Value::as_str).unwrap_or("").into()]);
    }
    answer(&request, &table)
}

const SNAPSHOTS: &[Column] = &[
    Column::new("id", &["id", "snapshot"], "unique snapshot"),
    Column::new("status", &["s", "status"], "snapshot name").right(),
    Column::new("start_epoch", &["ste", "startEpoch"], "start time in seconds since 1970-01-01 00:00:00"),
    Column::new("start_time", &["sti", "startTime"], "start time in HH:MM:SS"),
    Column::new("end_epoch", &["ete", "endEpoch"], "end time in seconds since 1970-01-01 00:00:00"),
    Column::new("end_time", &["eti", "endTime"], "end time in HH:MM:SS"),
    Column::new("duration", &["dur", "duration"], "duration").right(),
    Column::new("indices", &["i", "indices"], "number of indices").right(),
    Column::new("successful_shards", &["ss", "successful_shards"], "number of successful shards").right(),
    Column::new("failed_shards", &["fs", "failed_shards"], "number of failed shards").right(),
    Column::new("total_shards", &["ts", "total_shards"], "number of total shards").right(),
    Column::new("reason", &["r", "reason"], "reason for failures").hidden(),
];

/// `GET /_cat/snapshots[/{repository}]`
pub async fn snapshots(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    if let Some(name) = request.param("repository").filter(|_| request.param("help").is_none()) {
        let state = backend.state();
        let known = state.custom.get("repositories").is_some_and(|r| r.keys().any(|k| glob(name, k)));
        if !known && !name.contains('*') && name != "_all" {
            return Err(ApiError::new(404, "repository_missing_exception", format!("[{name}] missing")));
        }
    }
    answer(&request, &Table::new(SNAPSHOTS))
}

macro_rules! task_columns {
    ($description:expr) => {
        &[
            Column::new("id", &["id"], "id of the task with the node").hidden(),
            Column::new("action", &["ac"], "task action"),
            Column::new("task_id", &["ti"], "unique task id"),
            Column::new("parent_task_id", &["pti"], "parent task id"),
            Column::new("type", &["ty"], "task type"),
            Column::new("start_time", &["start"], "start time in ms"),
            Column::new("timestamp", &["ts", "hms", "hhmmss"], "start time in HH:MM:SS"),
            Column::new("running_time_ns", &[], "running time ns").hidden(),
            Column::new("running_time", &["time"], "running time"),
            Column::new("node_id", &["ni"], "unique node id").hidden(),
            Column::new("ip", &["i"], "ip address"),
            Column::new("port", &["po"], "bound transport port").hidden(),
            Column::new("node", &["n"], "node name"),
            Column::new("version", &["v"], "es version").hidden(),
            Column::new("x_opaque_id", &["x"], "X-Opaque-ID header").hidden(),
            $description,
        ]
    };
}

const TASKS: &[Column] = task_columns!(Column::new("description", &["desc"], "task action").hidden());
const TASKS_DETAILED: &[Column] = task_columns!(Column::new("description", &["desc"], "task action"));

/// `GET /_cat/tasks`
pub async fn tasks(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let detailed = flag(&request, "detailed", false)?;
    let mut table = Table::new(if detailed { TASKS_DETAILED } else { TASKS });
    let listed = tasks::listed(backend, &request, true).await?;
    for node in known_nodes(backend) {
        let Some(tasks) = listed.nodes.get(&node.id).and_then(|listed| listed["tasks"].as_object()) else { continue };
        for (id, task) in tasks {
            let text = |name: &str, default: &str| task[name].as_str().unwrap_or(default).to_owned();
            let number = |name: &str| task[name].as_i64().unwrap_or(0);
            table.push(vec![
                Cell::Int(number("id")),
                text("action", "-").into(),
                id.clone().into(),
                text("parent_task_id", "-").into(),
                text("type", "-").into(),
                Cell::Int(number("start_time_in_millis")),
                time_of_day(number("start_time_in_millis")).into(),
                Cell::Int(number("running_time_in_nanos")),
                Cell::Nanos(number("running_time_in_nanos").max(0) as u64),
                node.id.clone().into(),
                node.host.clone().into(),
                port(&node.transport_address),
                node.name.clone().into(),
                VERSION.into(),
                task["headers"]["X-Opaque-Id"].as_str().unwrap_or("-").into(),
                if detailed { text("description", "-") } else { "-".to_owned() }.into(),
            ]);
        }
    }
    answer(&request, &table)
}

const POOLS: &[Column] = &[
    Column::new("node_name", &["nn"], "node name"),
    Column::new("node_id", &["id"], "persistent node id").hidden(),
    Column::new("ephemeral_node_id", &["eid"], "ephemeral node id").hidden(),
    Column::new("pid", &["p"], "process id").hidden(),
    Column::new("host", &["h"], "host name").hidden(),
    Column::new("ip", &["i"], "ip address").hidden(),
    Column::new("port", &["po"], "bound transport port").hidden(),
    Column::new("name", &["n"], "thread pool name"),
    Column::new("type", &["t"], "thread pool type").hidden(),
    Column::new("active", &["a"], "number of active threads").right(),
    Column::new("pool_size", &["psz"], "number of threads").hidden().right(),
    Column::new("queue", &["q"], "number of tasks currently in queue").right(),
    Column::new("queue_size", &["qs"], "maximum number of tasks permitted in queue").hidden().right(),
    Column::new("rejected", &["r"], "number of rejected tasks").right(),
    Column::new("largest", &["l"], "highest number of seen active threads").hidden().right(),
    Column::new("completed", &["c"], "number of completed tasks").hidden().right(),
    Column::new("core", &["cr"], "core number of threads in a scaling thread pool").hidden().right(),
    Column::new("max", &["mx"], "maximum number of threads in a scaling thread pool").hidden().right(),
    Column::new("size", &["sz"], "number of threads in a fixed thread pool").hidden().right(),
    Column::new("keep_alive", &["ka"], "thread keep alive time").hidden().right(),
];

/// Names of the original's pools, and whether each is of a fixed size. Here every core runs one executor and no pool
/// has threads of its own.
const POOL_NAMES: &[(&str, bool)] = &[
    ("analyze", true),
    ("fetch_shard_started", false),
    ("fetch_shard_store", false),
    ("flush", false),
    ("force_merge", true),
    ("generic", false),
    ("get", true),
    ("listener", true),
    ("management", false),
    ("refresh", false),
    ("search", true),
    ("search_throttled", true),
    ("snapshot", false),
    ("warmer", false),
    ("write", true),
];

/// `GET /_cat/thread_pool[/{thread_pool_patterns}]`
pub async fn thread_pool(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let patterns = params::list(&request, "thread_pool_patterns").unwrap_or_default();
    let mut table = Table::new(POOLS);
    let state = backend.state();
    let pids = pids(backend, &request).await;
    let mut nodes = known_nodes(backend);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = nodes.iter().flat_map(|node| POOL_NAMES.iter().map(move |pool| (node, pool)));
    for (node, (name, fixed)) in rows {
        if !patterns.is_empty() && !patterns.iter().any(|p| glob(p, name)) {
            continue;
        }
        let known = state.nodes.values().find(|known| known.id.to_string() == node.id);
        let cores = known.map_or(1, |known| known.cores as usize);
        let scaling = |cell: Cell| if *fixed { Cell::Null } else { cell };
        table.push(vec![
            node.name.clone().into(),
            node.id.clone().into(),
            known.map_or(String::new(), |known| known.ephemeral_id.clone()).into(),
            pid_cell(pids.get(&node.id)),
            node.host.clone().into(),
            node.host.clone().into(),
            port(&node.transport_address),
            (*name).into(),
            if *fixed { "fixed" } else { "scaling" }.into(),
            Cell::Int(0),
            cores.into(),
            Cell::Int(0),
            Cell::Int(if *fixed { 1000 } else { -1 }),
            Cell::Int(0),
            cores.into(),
            Cell::Int(0),
            scaling(Cell::Int(1)),
            scaling(cores.into()),
            if *fixed { cores.into() } else { Cell::Null },
            scaling("5m".into()),
        ]);
    }
    answer(&request, &table)
}

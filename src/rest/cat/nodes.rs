//! `_cat/nodes` and whatever else is about the node: attributes, pools, tasks, plugins, the master.

use serde_json::Value;

use super::{answer, time_of_day};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::rest::filter::glob;
use crate::rest::http::{BUILD_HASH, VERSION};
use crate::rest::nodes::{Machine, cpu_percent, max_files};
use crate::rest::params::{self, flag};
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
    let node = backend.node();
    let machine = Machine::read(&backend.config().data);
    let memory = backend.config().memory.max(1);
    let used = machine.disk_total - machine.disk_available.min(machine.disk_total);
    let percent = used as f64 * 100.0 / machine.disk_total.max(1) as f64;
    let files = max_files();
    let uptime = (backend.now_ms() - node.start_ms).max(0) as u64;
    table.push(vec![
        if full_id { node.id.clone() } else { node.id.chars().take(4).collect() }.into(),
        Cell::Int(std::process::id().into()),
        node.host.clone().into(),
        port(&node.transport_address),
        node.http_address.clone().into(),
        VERSION.into(),
        "default".into(),
        "tar".into(),
        BUILD_HASH.into(),
        "-".into(),
        Cell::Bytes(machine.disk_total),
        Cell::Bytes(used),
        Cell::Bytes(machine.disk_available),
        format!("{percent:.2}").into(),
        Cell::Bytes(machine.resident),
        Cell::Int((machine.resident * 100 / memory).min(100) as i64),
        Cell::Bytes(memory),
        Cell::Bytes(machine.memory_total - machine.memory_free.min(machine.memory_total)),
        Cell::Int(machine.memory_percent() as i64),
        Cell::Bytes(machine.memory_total),
        machine.open_files.into(),
        (machine.open_files * 100 / files.max(1)).into(),
        files.into(),
        Cell::Int(cpu_percent(&machine, node.cores) as i64),
        format!("{:.2}", machine.load[0]).into(),
        format!("{:.2}", machine.load[1]).into(),
        format!("{:.2}", machine.load[2]).into(),
        Cell::Nanos(uptime * 1_000_000),
        "dimr".into(),
        "*".into(),
        node.name.clone().into(),
    ]);
    answer(&request, &table)
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
    let node = backend.node();
    table.push(vec![
        node.id.clone().into(),
        node.host.clone().into(),
        node.host.clone().into(),
        node.name.clone().into(),
    ]);
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
    let node = backend.node();
    for (name, value) in &node.attributes {
        table.push(vec![
            node.name.clone().into(),
            node.id.chars().take(4).collect::<String>().into(),
            Cell::Int(std::process::id().into()),
            node.host.clone().into(),
            node.host.clone().into(),
            port(&node.transport_address),
            name.clone().into(),
            value.clone().into(),
        ]);
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
pub async fn pending_tasks(_backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    answer(&request, &Table::new(PENDING))
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
    let node = backend.node();
    for task in tasks::wanted(backend, &request).await? {
        table.push(vec![
            Cell::Int(task.number as i64),
            task.action.into(),
            task.id(&node.id).into(),
            task.parent.map_or_else(|| "-".to_owned(), |parent| format!("{}:{parent}", node.id)).into(),
            task.kind.into(),
            Cell::Int(task.start_ms),
            time_of_day(task.start_ms).into(),
            Cell::Int(task.running_ns as i64),
            Cell::Nanos(task.running_ns),
            node.id.clone().into(),
            node.host.clone().into(),
            port(&node.transport_address),
            node.name.clone().into(),
            VERSION.into(),
            task.opaque.as_deref().unwrap_or("-").into(),
            if detailed { task.description.into() } else { "-".into() },
        ]);
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
    let node = backend.node();
    let cores = node.cores;
    for (name, fixed) in POOL_NAMES {
        if !patterns.is_empty() && !patterns.iter().any(|p| glob(p, name)) {
            continue;
        }
        let scaling = |cell: Cell| if *fixed { Cell::Null } else { cell };
        table.push(vec![
            node.name.clone().into(),
            node.id.clone().into(),
            node.ephemeral_id.clone().into(),
            Cell::Int(std::process::id().into()),
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

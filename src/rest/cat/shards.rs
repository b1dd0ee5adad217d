//! `_cat/shards`, `_cat/segments`, `_cat/recovery`, `_cat/allocation`, `_cat/fielddata`.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;

use super::answer;
use super::statistics::stat_cell;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::cluster::{iso, shard_counts};
use crate::rest::indices::stats::{gather, gather_segments};
use crate::rest::indices::upkeep::targets;
use crate::rest::nodes::Machine;
use crate::rest::params::{self, flag};
use crate::rest::request::{Request, Response};
use crate::rest::table::{Cell, Column, Table};
use crate::shard::message::ShardStats;

macro_rules! columns {
    ([$($first:expr),* $(,)?] $(($name:literal, [$($alias:literal),*], $text:literal),)*) => {
        &[$($first,)* $(Column::new($name, &[$($alias),*], $text).hidden().right(),)*]
    };
}

const SHARDS: &[Column] = statistics!(
    columns,
    [
        Column::new("index", &["i", "idx"], "index name"),
        Column::new("shard", &["s", "sh"], "shard name"),
        Column::new("prirep", &["p", "pr", "primaryOrReplica"], "primary or replica"),
        Column::new("state", &["st"], "shard state"),
        Column::new("docs", &["d", "dc"], "number of docs in shard").right(),
        Column::new("store", &["sto"], "store size of shard (how much disk it uses)").right(),
        Column::new("ip", &[], "ip of node where it lives"),
        Column::new("id", &[], "unique id of node where it lives").hidden(),
        Column::new("node", &["n"], "name of node where it lives"),
        Column::new("sync_id", &["sync_id"], "sync id").hidden(),
        Column::new("unassigned.reason", &["ur"], "reason shard became unassigned").hidden(),
        Column::new("unassigned.at", &["ua"], "time shard became unassigned (UTC)").hidden(),
        Column::new("unassigned.for", &["uf"], "time has been unassigned").hidden().right(),
        Column::new("unassigned.details", &["ud"], "additional details as to why the shard became unassigned").hidden(),
        Column::new("recoverysource.type", &["rs"], "recovery source type").hidden(),
    ],
    [],
    [
        ("seq_no.max", ["sqm", "maxSeqNo"], "max sequence number"),
        ("seq_no.local_checkpoint", ["sql", "localCheckpoint"], "local checkpoint"),
        ("seq_no.global_checkpoint", ["sqg", "globalCheckpoint"], "global checkpoint"),
    ],
    [("path.data", ["pd", "dataPath"], "shard data path"), ("path.state", ["ps", "statsPath"], "shard state path"),]
);

const FIXED: usize = 15;

/// `GET /_cat/shards[/{index}]`
pub async fn shards(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(SHARDS);
    if request.param("help").is_some() {
        return answer(&request, &table);
    }
    let options = IndicesOptions { expand_hidden: true, ..IndicesOptions::OPEN_CLOSED };
    let mut list = resolve(&backend.state(), &params::indices(&request), options, backend.now_ms())?;
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let open: Vec<Arc<IndexMetadata>> = list.iter().filter(|i| i.open).cloned().collect();
    let (stats, _) = gather(backend, &open).await;
    for index in &list {
        for shard in 0..index.number_of_shards {
            let counts = shard_counts(backend, index, shard);
            let own = stats.iter().find(|(i, s, _)| i.name == index.name && *s == shard).map(|(.., s)| s);
            let state = match (counts.active_primaries, counts.initializing) {
                (1, _) => "STARTED",
                (_, 1) => "INITIALIZING",
                _ => "UNASSIGNED",
            };
            table.push(shard_row(backend, index, shard, true, state, own));
            for _ in 0..index.number_of_replicas {
                table.push(shard_row(backend, index, shard, false, "UNASSIGNED", None));
            }
        }
    }
    answer(&request, &table)
}

fn shard_row(
    backend: &SharedBackend,
    index: &IndexMetadata,
    shard: u32,
    primary: bool,
    state: &str,
    stats: Option<&ShardStats>,
) -> Vec<Cell> {
    let node = backend.node();
    let assigned = state != "UNASSIGNED";
    let here = |text: &str| if assigned { Cell::from(text) } else { Cell::Null };
    let absent = |cell: Cell| if assigned { Cell::Null } else { cell };
    let stat = |name: &str| stats.map_or(Cell::Null, |s| stat_cell(name, s));
    let waiting = (backend.now_ms() - index.creation_date).max(0) as u64;
    let mut row = vec![
        index.name.clone().into(),
        Cell::Int(shard.into()),
        if primary { "p" } else { "r" }.into(),
        state.into(),
        stat("docs"),
        stat("store"),
        here(&node.host),
        here(&node.id),
        here(&node.name),
        Cell::Null,
        absent(if primary { "ALLOCATION_FAILED" } else { "INDEX_CREATED" }.into()),
        absent(iso(index.creation_date).into()),
        absent(Cell::Nanos(waiting * 1_000_000)),
        Cell::Null,
        absent(if primary { "existing_store" } else { "peer" }.into()),
    ];
    for column in &SHARDS[FIXED..] {
        row.push(if column.name.starts_with("path.") { Cell::Null } else { stat(column.name) });
    }
    row
}

const SEGMENTS: &[Column] = &[
    Column::new("index", &["i", "idx"], "index name"),
    Column::new("shard", &["s", "sh"], "shard name"),
    Column::new("prirep", &["p", "pr", "primaryOrReplica"], "primary or replica"),
    Column::new("ip", &[], "ip of node where it lives"),
    Column::new("id", &[], "unique id of node where it lives").hidden(),
    Column::new("segment", &["seg"], "segment name"),
    Column::new("generation", &["g", "gen"], "segment generation").right(),
    Column::new("docs.count", &["dc", "docsCount"], "number of docs in segment").right(),
    Column::new("docs.deleted", &["dd", "docsDeleted"], "number of deleted docs in segment").right(),
    Column::new("size", &["si"], "segment size in bytes").right(),
    Column::new("size.memory", &["sm", "sizeMemory"], "segment memory in bytes").right(),
    Column::new("committed", &["ic", "isCommitted"], "is segment committed"),
    Column::new("searchable", &["is", "isSearchable"], "is segment searched"),
    Column::new("version", &["v", "ver"], "version"),
    Column::new("compound", &["ico", "isCompound"], "is segment compound"),
];

/// `GET /_cat/segments[/{index}]`
pub async fn segments(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(SEGMENTS);
    if request.param("help").is_some() {
        return answer(&request, &table);
    }
    let list = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let (shards, _) = gather_segments(backend, &list).await;
    let node = backend.node();
    for (index, shard, segments) in shards {
        for s in segments {
            table.push(vec![
                index.name.clone().into(),
                Cell::Int(shard.into()),
                "p".into(),
                node.host.clone().into(),
                node.id.clone().into(),
                s.name.into(),
                s.generation.into(),
                s.docs_count.into(),
                s.docs_deleted.into(),
                Cell::Bytes(s.size_bytes),
                s.memory_bytes.into(),
                s.committed.into(),
                s.searchable.into(),
                "8.7.0".into(),
                false.into(),
            ]);
        }
    }
    answer(&request, &table)
}

const RECOVERY: &[Column] = &[
    Column::new("index", &["i", "idx"], "index name"),
    Column::new("shard", &["s", "sh"], "shard name"),
    Column::new("start_time", &["start"], "recovery start time").hidden(),
    Column::new("start_time_millis", &["start_millis"], "recovery start time in epoch milliseconds").hidden(),
    Column::new("stop_time", &["stop"], "recovery stop time").hidden(),
    Column::new("stop_time_millis", &["stop_millis"], "recovery stop time in epoch milliseconds").hidden(),
    Column::new("time", &["t", "ti"], "recovery time"),
    Column::new("type", &["ty"], "recovery type"),
    Column::new("stage", &["st"], "recovery stage"),
    Column::new("source_host", &["shost"], "source host"),
    Column::new("source_node", &["snode"], "source node name"),
    Column::new("target_host", &["thost"], "target host"),
    Column::new("target_node", &["tnode"], "target node name"),
    Column::new("repository", &["rep"], "repository"),
    Column::new("snapshot", &["snap"], "snapshot"),
    Column::new("files", &["f"], "number of files to recover"),
    Column::new("files_recovered", &["fr"], "files recovered"),
    Column::new("files_percent", &["fp"], "percent of files recovered"),
    Column::new("files_total", &["tf"], "total number of files"),
    Column::new("bytes", &["b"], "number of bytes to recover"),
    Column::new("bytes_recovered", &["br"], "bytes recovered"),
    Column::new("bytes_percent", &["bp"], "percent of bytes recovered"),
    Column::new("bytes_total", &["tb"], "total number of bytes"),
    Column::new("translog_ops", &["to"], "number of translog ops to recover"),
    Column::new("translog_ops_recovered", &["tor"], "translog ops recovered"),
    Column::new("translog_ops_percent", &["top"], "percent of translog ops recovered"),
];

/// `GET /_cat/recovery[/{index}]`
pub async fn recovery(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(RECOVERY);
    if request.param("help").is_some() {
        return answer(&request, &table);
    }
    let active_only = flag(&request, "active_only", false)?;
    let mut list = targets(backend, &request, IndicesOptions::OPEN_CLOSED)?;
    list.retain(|i| i.open);
    let node = backend.node();
    let (shards, _) = gather(backend, &list).await;
    for (index, shard, stats) in shards.iter().filter(|_| !active_only) {
        let at = node.start_ms.max(index.creation_date);
        let replayed = stats.recovered_operations;
        let existing = replayed > 0 || node.start_ms > index.creation_date;
        table.push(vec![
            index.name.clone().into(),
            Cell::Int((*shard).into()),
            iso(at).into(),
            Cell::Int(at),
            iso(at).into(),
            Cell::Int(at),
            Cell::Nanos(0),
            if existing { "existing_store" } else { "empty_store" }.into(),
            "done".into(),
            "n/a".into(),
            "n/a".into(),
            node.host.clone().into(),
            node.name.clone().into(),
            "n/a".into(),
            "n/a".into(),
            Cell::Int(0),
            Cell::Int(0),
            "0.0%".into(),
            Cell::Int(0),
            Cell::Bytes(0),
            Cell::Bytes(0),
            "0.0%".into(),
            Cell::Bytes(0),
            replayed.into(),
            replayed.into(),
            "100.0%".into(),
        ]);
    }
    answer(&request, &table)
}

const ALLOCATION: &[Column] = &[
    Column::new("shards", &["s"], "number of shards on node").right(),
    Column::new("disk.indices", &["di", "diskIndices"], "disk used by ES indices").right(),
    Column::new("disk.used", &["du", "diskUsed"], "disk used (total, not just ES)").right(),
    Column::new("disk.avail", &["da", "diskAvail"], "disk available").right(),
    Column::new("disk.total", &["dt", "diskTotal"], "total capacity of all volumes").right(),
    Column::new("disk.percent", &["dp", "diskPercent"], "percent disk used").right(),
    Column::new("host", &["h"], "host of node"),
    Column::new("ip", &[], "ip of node"),
    Column::new("node", &["n"], "name of node"),
];

/// `GET /_cat/allocation[/{node_id}]`
pub async fn allocation(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(ALLOCATION);
    if request.param("help").is_some() {
        return answer(&request, &table);
    }
    let state = backend.state();
    let node = backend.node();
    let open: Vec<Arc<IndexMetadata>> = state.indices.values().filter(|i| i.open).cloned().collect();
    let (shards, _) = gather(backend, &open).await;
    let (mut active, mut unassigned) = (0u32, 0u32);
    for index in state.indices.values() {
        for shard in 0..index.number_of_shards {
            let counts = shard_counts(backend, index, shard);
            active += counts.active + counts.initializing;
            unassigned += counts.unassigned;
        }
    }
    let wanted = request.param("node_id").is_none_or(|list| {
        list.split(',').any(|n| {
            matches!(n, "_all" | "_local" | "_master" | "*") || crate::rest::filter::glob(n, &node.name) || n == node.id
        })
    });
    if wanted {
        let machine = Machine::read(&backend.config().data);
        let used = machine.disk_total - machine.disk_available.min(machine.disk_total);
        table.push(vec![
            Cell::Int(active.into()),
            Cell::Bytes(shards.iter().map(|(.., s)| s.store_size_bytes).sum()),
            Cell::Bytes(used),
            Cell::Bytes(machine.disk_available),
            Cell::Bytes(machine.disk_total),
            Cell::Int((used * 100 / machine.disk_total.max(1)) as i64),
            node.host.clone().into(),
            node.host.clone().into(),
            node.name.clone().into(),
        ]);
    }
    if unassigned > 0 && request.param("node_id").is_none() {
        let mut row = vec![Cell::Int(unassigned.into())];
        row.extend((0..7).map(|_| Cell::Null));
        row.push("UNASSIGNED".into());
        table.push(row);
    }
    answer(&request, &table)
}

const FIELDDATA: &[Column] = &[
    Column::new("id", &[], "node id"),
    Column::new("host", &["h"], "host name"),
    Column::new("ip", &[], "ip address"),
    Column::new("node", &["n"], "node name"),
    Column::new("field", &["f"], "field name"),
    Column::new("size", &[], "field data usage").right(),
];

/// `GET /_cat/fielddata[/{fields}]`: columns live in the segments, so nothing is loaded for them.
pub async fn fielddata(_backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    answer(&request, &Table::new(FIELDDATA))
}

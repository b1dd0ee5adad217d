//! `_cat/shards`, `_cat/segments`, `_cat/recovery`, `_cat/allocation`, `_cat/fielddata`.

use std::sync::Arc;

use ringdex_net::cluster::health::index_health;
use ringdex_net::cluster::routing::ShardRouting;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata, host_of};
use serde_json::Value;

use super::answer;
use super::statistics::stat_cell;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::cluster::iso;
use crate::rest::indices::copies::{gather, gather_segments};
use crate::rest::indices::recovery as recovery_of;
use crate::rest::indices::upkeep::targets;
use crate::rest::nodes::{Figures, known_nodes, means_node};
use crate::rest::params;
use crate::rest::passed::others;
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
    [
        ("path.data", ["pd", "dataPath"], "shard data path"),
        ("path.state", ["ps", "statsPath"], "shard state path"),
        ("core", [], "core of the node that the copy is pinned to"),
    ]
);

const FIXED: usize = 15;

/// `GET /_cat/shards[/{index}]`
pub async fn shards(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(SHARDS);
    if request.param("help").is_some() {
        return answer(&request, &table);
    }
    let options = IndicesOptions { expand_hidden: true, ..IndicesOptions::OPEN_CLOSED };
    let state = backend.state();
    let mut list = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    list.sort_by(|a, b| a.name.cmp(&b.name));
    for index in &list {
        push_copies(backend, &state, index, &mut table).await;
    }
    answer(&request, &table)
}

/// The copies as the routing has them.
async fn push_copies(backend: &SharedBackend, state: &ClusterState, index: &Arc<IndexMetadata>, table: &mut Table) {
    let (stats, _) = gather(backend, state, std::slice::from_ref(index)).await;
    let Some(routing) = state.routing.get(&index.uuid) else { return };
    for (shard, group) in routing.shards.iter().enumerate() {
        let shard = shard as u32;
        for copy in group.iter().filter(|copy| !copy.relocation_target()) {
            let own = stats.iter().find(|answer| answer.shard == shard && answer.copy.node == copy.node);
            let own = own.map(|answer| &answer.told).filter(|_| copy.active());
            table.push(shard_row(backend, state, index, shard, copy, own));
        }
    }
}

fn shard_row(
    backend: &SharedBackend,
    state: &ClusterState,
    index: &IndexMetadata,
    shard: u32,
    copy: &ShardRouting,
    stats: Option<&ShardStats>,
) -> Vec<Cell> {
    let node = copy.node.and_then(|id| state.nodes.get(&id));
    let target = copy.relocating_node.and_then(|id| state.nodes.get(&id));
    let name = match (node, target) {
        (Some(node), Some(to)) => {
            format!("{} -> {} {} {}", node.name, host_of(&to.transport_address), to.id, to.name).into()
        }
        (Some(node), None) => node.name.clone().into(),
        (None, _) => Cell::Null,
    };
    let info = copy.unassigned.as_ref().filter(|_| !copy.active());
    let waiting = |at: i64| Cell::Nanos((backend.now_ms() - at).max(0) as u64 * 1_000_000);
    let stat = |name: &str| stats.map_or(Cell::Null, |s| stat_cell(name, s));
    let mut row = vec![
        index.name.clone().into(),
        Cell::Int(shard.into()),
        if copy.primary { "p" } else { "r" }.into(),
        copy.state.name().into(),
        stat("docs"),
        stat("store"),
        node.map_or(Cell::Null, |node| host_of(&node.transport_address).into()),
        node.map_or(Cell::Null, |node| node.id.to_string().into()),
        name,
        Cell::Null,
        info.map_or(Cell::Null, |info| info.reason.name().into()),
        info.map_or(Cell::Null, |info| iso(info.at_ms).into()),
        info.map_or(Cell::Null, |info| waiting(info.at_ms)),
        info.and_then(|info| info.details.clone()).map_or(Cell::Null, Cell::from),
        if copy.active() { Cell::Null } else { copy.recovery_source.name().to_ascii_lowercase().into() },
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
    let state = backend.state();
    let (shards, _) = gather_segments(backend, &state, &list).await;
    for answer in shards {
        let Some(node) = answer.copy.node.and_then(|id| state.nodes.get(&id)) else { continue };
        for s in answer.told {
            table.push(vec![
                answer.index.name.clone().into(),
                Cell::Int(answer.shard.into()),
                if answer.copy.primary { "p" } else { "r" }.into(),
                host_of(&node.transport_address).into(),
                node.id.to_string().into(),
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
    let index = request.param("index").map(str::to_owned);
    let path: Vec<&str> = index.iter().map(String::as_str).chain(["_recovery"]).collect();
    let options = ["ignore_unavailable", "allow_no_indices", "expand_wildcards"];
    let kept: Vec<&str> = ["active_only", "index", "master_timeout"].into_iter().chain(options).collect();
    let answered = recovery_of::recovery(backend, request.instead(&path, &kept)).await?;
    let (status, told) = (answered.status, answered.into_json());
    if status >= 400 {
        return Ok(Response::json(status, told));
    }
    let all = told.as_object().into_iter().flatten();
    let all = all.flat_map(|(index, of)| of["shards"].as_array().into_iter().flatten().map(move |one| (index, one)));
    for (index, one) in all {
        let number = |path: &str| one.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let count = |path: &str| Cell::Int(number(path));
        let bytes = |path: &str| Cell::Bytes(number(path).max(0) as u64);
        let text = |path: &str| one.pointer(path).and_then(Value::as_str).unwrap_or("n/a").to_owned();
        let stop = one.get("stop_time_in_millis").and_then(Value::as_i64);
        let (files, size) = (number("/index/files/total"), number("/index/size/total_in_bytes"));
        table.push(vec![
            index.clone().into(),
            count("/id"),
            iso(number("/start_time_in_millis")).into(),
            count("/start_time_in_millis"),
            stop.map_or(Cell::Null, |stop| iso(stop).into()),
            stop.map_or(Cell::Null, Cell::Int),
            Cell::Nanos(number("/total_time_in_millis").max(0) as u64 * 1_000_000),
            text("/type").to_ascii_lowercase().into(),
            text("/stage").to_ascii_lowercase().into(),
            text("/source/host").into(),
            text("/source/name").into(),
            text("/target/host").into(),
            text("/target/name").into(),
            "n/a".into(),
            "n/a".into(),
            Cell::Int(files - number("/index/files/reused")),
            count("/index/files/recovered"),
            text("/index/files/percent").into(),
            Cell::Int(files),
            Cell::Bytes((size - number("/index/size/reused_in_bytes")).max(0) as u64),
            bytes("/index/size/recovered_in_bytes"),
            text("/index/size/percent").into(),
            Cell::Bytes(size.max(0) as u64),
            count("/translog/total"),
            count("/translog/recovered"),
            text("/translog/percent").into(),
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
    let open: Vec<Arc<IndexMetadata>> = state.indices.values().filter(|i| i.open).cloned().collect();
    let (shards, _) = gather(backend, &state, &open).await;
    let expression = request.param("node_id");
    let others = others(backend, &request, expression, &["stats", "os,process,jvm,fs"]).await;
    let unassigned: u32 = state.indices.values().map(|index| index_health(&state, index).counts.unassigned).sum();
    // Only nodes that may hold shards have a part in this.
    let known = known_nodes(backend).into_iter().filter(|node| means_node(node, expression));
    for known in known.filter(|node| node.roles.contains(&"data")) {
        let copies = state.routing.values().flat_map(|routing| routing.shards.iter().flatten());
        let held = copies.filter(|copy| copy.node.is_some_and(|id| id.to_string() == known.id)).count();
        let figures =
            if known.local { Some(Figures::own(backend)) } else { others.nodes.get(&known.id).map(Figures::told) };
        let of = |part: &dyn Fn(&Figures) -> Cell| figures.as_ref().map_or(Cell::Null, part);
        let own = shards.iter().filter(|answer| answer.copy.node.is_some_and(|id| id.to_string() == known.id));
        let stored: u64 = own.map(|answer| answer.told.store_size_bytes).sum();
        table.push(vec![
            Cell::Int(held as i64),
            of(&|_| Cell::Bytes(stored)),
            of(&|f| Cell::Bytes(f.disk_used())),
            of(&|f| Cell::Bytes(f.disk_available)),
            of(&|f| Cell::Bytes(f.disk_total)),
            of(&|f| (f.disk_used() * 100 / f.disk_total.max(1)).into()),
            known.host.clone().into(),
            known.host.clone().into(),
            known.name.clone().into(),
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

//! `_cat/indices`, `_cat/aliases`, `_cat/count`, `_cat/templates`, `_cat/health`.

use std::sync::Arc;

use ringdex_net::cluster::health::index_health;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::Value;

use super::statistics::stat_cell;
use super::{answer, clock};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, is_hidden, resolve};
use crate::rest::cluster::{self, iso};
use crate::rest::filter::glob;
use crate::rest::indices::copies::gather;
use crate::rest::indices::stats::{add, gather_primaries};
use crate::rest::params::{self, indices_options, strings};
use crate::rest::request::{Request, Response};
use crate::rest::table::{Cell, Column, Table};
use crate::shard::message::ShardStats;

macro_rules! stat_columns {
    ([$($first:expr),* $(,)?] $(($name:literal, [$($alias:literal),*], $text:literal),)*) => {
        &[
            $($first,)*
            $(
                Column::new($name, &[$($alias),*], $text).hidden().right().with_sibling("pri"),
                Column::new(concat!("pri.", $name), &[], $text).hidden().right(),
            )*
        ]
    };
}

const INDICES: &[Column] = statistics!(
    stat_columns,
    [
        Column::new("health", &["h"], "current health status"),
        Column::new("status", &["s"], "open/close status"),
        Column::new("index", &["i", "idx"], "index name"),
        Column::new("uuid", &["id", "uuid"], "index uuid"),
        Column::new("pri", &["p", "shards.primary", "shardsPrimary"], "number of primary shards").right(),
        Column::new("rep", &["r", "shards.replica", "shardsReplica"], "number of replica shards").right(),
        Column::new("docs.count", &["dc", "docsCount"], "available docs").right(),
        Column::new("docs.deleted", &["dd", "docsDeleted"], "deleted docs").right(),
        Column::new("creation.date", &["cd"], "index creation date (millisecond value)").hidden(),
        Column::new("creation.date.string", &["cds"], "index creation date (as string)").hidden(),
        Column::new("store.size", &["ss", "storeSize"], "store size of primaries & replicas")
            .right()
            .with_sibling("pri"),
        Column::new("pri.store.size", &[], "store size of primaries").right(),
    ],
    [
        ("request_cache.memory_size", ["rcm", "requestCacheMemory"], "used request cache"),
        ("request_cache.evictions", ["rce", "requestCacheEvictions"], "request cache evictions"),
        ("request_cache.hit_count", ["rchc", "requestCacheHitCount"], "request cache hit count"),
        ("request_cache.miss_count", ["rcmc", "requestCacheMissCount"], "request cache miss count"),
    ],
    [],
    [
        ("suggest.current", ["suc", "suggestCurrent"], "number of current suggest ops"),
        ("suggest.time", ["suti", "suggestTime"], "time spend in suggest"),
        ("suggest.total", ["suto", "suggestTotal"], "number of suggest ops"),
        ("memory.total", ["tm", "memoryTotal"], "total used memory"),
    ]
);

/// Fixed columns before the ones that are statistics.
const FIXED: usize = 12;

/// `GET /_cat/indices[/{index}]`
pub async fn indices(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    if request.param("help").is_some() {
        return answer(&request, &Table::new(INDICES));
    }
    let wanted_health = match request.param("health") {
        None => None,
        Some(word @ ("green" | "yellow" | "red")) => Some(word),
        Some(other) => return Err(ApiError::illegal_argument(format!("unknown cluster health status [{other}]"))),
    };
    let options = indices_options(&request, IndicesOptions { expand_hidden: false, ..IndicesOptions::OPEN_CLOSED })?;
    let state = backend.state();
    let mut list = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let open: Vec<Arc<IndexMetadata>> = list.iter().filter(|i| i.open).cloned().collect();
    let (shards, _) = gather(backend, &state, &open).await;
    let mut table = Table::new(INDICES);
    for index in &list {
        let counts = index_health(&state, index).counts;
        if wanted_health.is_some_and(|w| w != counts.status.name()) {
            continue;
        }
        let (mut primaries, mut total) = (ShardStats::default(), ShardStats::default());
        for answer in shards.iter().filter(|answer| answer.is_of(index)) {
            add(&mut total, &answer.told);
            if answer.copy.primary {
                add(&mut primaries, &answer.told);
            }
        }
        let of = |name: &str, sum: &ShardStats| if index.open { stat_cell(name, sum) } else { Cell::Null };
        let mut row = vec![
            counts.status.name().into(),
            if index.open { "open" } else { "close" }.into(),
            index.name.clone().into(),
            index.uuid.clone().into(),
            Cell::Int(index.number_of_shards.into()),
            Cell::Int(index.number_of_replicas.into()),
            of("docs.count", &primaries),
            of("docs.deleted", &primaries),
            Cell::Int(index.creation_date),
            iso(index.creation_date).into(),
            of("store.size", &total),
            of("store.size", &primaries),
        ];
        for column in &INDICES[FIXED..] {
            row.push(match column.name.strip_prefix("pri.") {
                Some(name) => of(name, &primaries),
                None => of(column.name, &total),
            });
        }
        table.push(row);
    }
    answer(&request, &table)
}

const ALIASES: &[Column] = &[
    Column::new("alias", &["a"], "alias name"),
    Column::new("index", &["i", "idx"], "index alias points to"),
    Column::new("filter", &["f", "fi"], "filter"),
    Column::new("routing.index", &["ri", "routingIndex"], "index routing"),
    Column::new("routing.search", &["rs", "routingSearch"], "search routing"),
    Column::new("is_write_index", &["w", "isWriteIndex"], "write index"),
];

/// `GET /_cat/aliases[/{name}]`
pub async fn aliases(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let names = params::list(&request, "name").unwrap_or_default();
    let state = backend.state();
    let mut table = Table::new(ALIASES);
    for index in state.indices.values() {
        if is_hidden(index) && !options.expand_hidden {
            continue;
        }
        for (name, alias) in &index.aliases {
            let wanted = names.is_empty() || names.iter().any(|n| n == "_all" || glob(n, name));
            let visible = alias.is_hidden != Some(true)
                || options.expand_hidden
                || names.iter().any(|n| n == name || (n.starts_with('.') && name.starts_with('.')));
            if !wanted || !visible {
                continue;
            }
            let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            table.push(vec![
                name.clone().into(),
                index.name.clone().into(),
                if alias.filter.is_some() { "*" } else { "-" }.into(),
                dash(&alias.index_routing).into(),
                dash(&alias.search_routing).into(),
                alias.is_write_index.map_or_else(|| "-".to_owned(), |w| w.to_string()).into(),
            ]);
        }
    }
    answer(&request, &table)
}

const COUNT: &[Column] = &[
    Column::new("epoch", &["t", "time"], "seconds since 1970-01-01 00:00:00"),
    Column::new("timestamp", &["ts", "hms", "hhmmss"], "time in HH:MM:SS"),
    Column::new("count", &["dc", "docs.count", "docsCount"], "the document count"),
];

/// `GET /_cat/count[/{index}]`
pub async fn count(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(COUNT);
    if request.param("help").is_none() {
        let options = IndicesOptions::OPEN_FORBID_CLOSED;
        let list = resolve(&backend.state(), &params::indices(&request), options, backend.now_ms())?;
        let (shards, failures) = gather_primaries(backend, &list).await;
        if shards.is_empty() && !failures.is_empty() {
            return Err(ApiError::new(503, "search_phase_execution_exception", "all shards failed"));
        }
        let docs: u64 = shards.iter().map(|(.., s)| s.docs_count).sum();
        let (epoch, timestamp) = clock(backend);
        table.push(vec![epoch, timestamp, docs.into()]);
    }
    answer(&request, &table)
}

const TEMPLATES: &[Column] = &[
    Column::new("name", &["n"], "template name"),
    Column::new("index_patterns", &["t"], "template index patterns"),
    Column::new("order", &["o", "p"], "template application order/priority number"),
    Column::new("version", &["v"], "version"),
    Column::new("composed_of", &["c"], "component templates comprising index template"),
];

/// `GET /_cat/templates[/{name}]`
pub async fn templates(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let names = params::list(&request, "name").unwrap_or_default();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| glob(n, name));
    let state = backend.state();
    let mut table = Table::new(TEMPLATES);
    let patterns = |t: &Value| format!("[{}]", strings(&t["index_patterns"]).join(", "));
    let mut rows: Vec<(String, Vec<Cell>)> = Vec::new();
    for (name, t) in state.templates.iter().filter(|(n, _)| wanted(n)) {
        rows.push((
            name.clone(),
            vec![
                name.clone().into(),
                patterns(t).into(),
                Cell::Text(t["order"].as_i64().unwrap_or(0).to_string()),
                super::member(t, "version"),
                "".into(),
            ],
        ));
    }
    for (name, t) in state.index_templates.iter().filter(|(n, _)| wanted(n)) {
        rows.push((
            name.clone(),
            vec![
                name.clone().into(),
                patterns(t).into(),
                Cell::Text(t["priority"].as_i64().unwrap_or(0).to_string()),
                super::member(t, "version"),
                format!("[{}]", strings(&t["composed_of"]).join(", ")).into(),
            ],
        ));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, row) in rows {
        table.push(row);
    }
    answer(&request, &table)
}

const HEALTH: &[Column] = &[
    Column::new("epoch", &["t", "time"], "seconds since 1970-01-01 00:00:00"),
    Column::new("timestamp", &["ts", "hms", "hhmmss"], "time in HH:MM:SS"),
    Column::new("cluster", &["cl"], "cluster name"),
    Column::new("status", &["st"], "health status"),
    Column::new("node.total", &["nt", "nodeTotal"], "total number of nodes").right(),
    Column::new("node.data", &["nd", "nodeData"], "number of nodes that can store data").right(),
    Column::new("shards", &["t", "sh", "shards.total", "shardsTotal"], "total number of shards").right(),
    Column::new("pri", &["p", "shards.primary", "shardsPrimary"], "number of primary shards").right(),
    Column::new("relo", &["r", "shards.relocating", "shardsRelocating"], "number of relocating nodes").right(),
    Column::new("init", &["i", "shards.initializing", "shardsInitializing"], "number of initializing nodes").right(),
    Column::new("unassign", &["u", "shards.unassigned", "shardsUnassigned"], "number of unassigned shards").right(),
    Column::new("pending_tasks", &["pt", "pendingTasks"], "number of pending tasks").right(),
    Column::new("max_task_wait_time", &["mtwt", "maxTaskWaitTime"], "wait time of longest task pending").right(),
    Column::new("active_shards_percent", &["asp", "activeShardsPercent"], "active number of shards in percent").right(),
];

/// `GET /_cat/health`
pub async fn health(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut table = Table::new(HEALTH);
    if request.param("help").is_none() {
        let ask = request.instead(&["_cluster", "health"], &["local", "master_timeout"]);
        let answered = cluster::health(backend, ask).await?;
        let (status, found) = (answered.status, answered.into_json());
        if status >= 400 {
            return Ok(Response::json(status, found));
        }
        let count = |name: &str| Cell::Int(found[name].as_i64().unwrap_or(0));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let (epoch, timestamp) = clock(backend);
        let waited_ms = found["task_max_waiting_in_queue_millis"].as_u64().unwrap_or(0);
        table.push(vec![
            epoch,
            timestamp,
            text("cluster_name").into(),
            text("status").into(),
            count("number_of_nodes"),
            count("number_of_data_nodes"),
            count("active_shards"),
            count("active_primary_shards"),
            count("relocating_shards"),
            count("initializing_shards"),
            count("unassigned_shards"),
            count("number_of_pending_tasks"),
            if waited_ms == 0 { "-".into() } else { Cell::Nanos(waited_ms * 1_000_000) },
            format!("{:.1}%", found["active_shards_percent_as_number"].as_f64().unwrap_or(100.0)).into(),
        ]);
    }
    answer(&request, &table)
}

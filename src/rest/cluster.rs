//! `_cluster`: health, state, settings, and what an operator asks of the whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::indices::lifecycle::shard_id;
use super::indices::stats::allocation_id;
use super::params::{self, flag, indices_options, parse_bytes, parse_time, time};
use super::request::{Request, Response};
use crate::backend::{ShardHealth, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::metadata::settings;
use crate::metadata::value::flatten;
use crate::rest::filter::glob;

/// How well shards, indices, the cluster are; the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Every copy is active.
    #[default]
    Green,
    /// Every primary is active.
    Yellow,
    /// A primary is not.
    Red,
}

impl Status {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Green => "green",
            Status::Yellow => "yellow",
            Status::Red => "red",
        }
    }

    fn parse(text: &str) -> ApiResult<Status> {
        match text.to_ascii_lowercase().as_str() {
            "green" => Ok(Status::Green),
            "yellow" => Ok(Status::Yellow),
            "red" => Ok(Status::Red),
            _ => Err(ApiError::illegal_argument(format!("unknown cluster health status [{text}]"))),
        }
    }
}

/// Counts of shard copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// How well.
    pub status: Status,
    /// Primaries that take requests.
    pub active_primaries: u32,
    /// Copies that do.
    pub active: u32,
    /// Copies being recovered.
    pub initializing: u32,
    /// Copies that are nowhere.
    pub unassigned: u32,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.status = self.status.max(other.status);
        self.active_primaries += other.active_primaries;
        self.active += other.active;
        self.initializing += other.initializing;
        self.unassigned += other.unassigned;
    }
}

/// The copies of one shard. This node has the primary; replicas have no other node to go to.
#[must_use]
pub fn shard_counts(backend: &SharedBackend, index: &IndexMetadata, shard: u32) -> Counts {
    let mut counts = Counts { unassigned: index.number_of_replicas, ..Counts::default() };
    // The primary of a closed index is on the disk, ready to be opened.
    let health = if index.open { backend.shard_health(&shard_id(index, shard)) } else { ShardHealth::Started };
    match health {
        ShardHealth::Started => {
            (counts.active_primaries, counts.active) = (1, 1);
            counts.status = if index.number_of_replicas > 0 { Status::Yellow } else { Status::Green };
        }
        ShardHealth::Recovering => {
            counts.initializing = 1;
            counts.status = Status::Red;
        }
        ShardHealth::Failed(_) | ShardHealth::Missing => {
            counts.unassigned += 1;
            counts.status = Status::Red;
        }
    }
    counts
}

/// The copies of one index.
#[must_use]
pub fn index_counts(backend: &SharedBackend, index: &IndexMetadata) -> Counts {
    let mut counts = Counts::default();
    for shard in 0..index.number_of_shards {
        counts.add(shard_counts(backend, index, shard));
    }
    counts
}

fn shown(counts: &Counts) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "status": counts.status.name(),
        "active_primary_shards": counts.active_primaries,
        "active_shards": counts.active,
        "relocating_shards": 0,
        "initializing_shards": counts.initializing,
        "unassigned_shards": counts.unassigned,
    }) else {
        unreachable!("an object literal")
    };
    map
}

struct Wanted {
    status: Option<Status>,
    nodes: Option<String>,
    active: Option<params::ActiveShards>,
    no_initializing: bool,
    indices: Vec<String>,
}

impl Wanted {
    fn is_met(&self, indices: &[Arc<IndexMetadata>], missing: bool, counts: &Counts) -> ApiResult<bool> {
        if missing {
            return Ok(false);
        }
        if self.status.is_some_and(|status| counts.status > status) {
            return Ok(false);
        }
        if self.no_initializing && counts.initializing > 0 {
            return Ok(false);
        }
        let copies: u32 = indices.iter().map(|i| i.number_of_shards * (1 + i.number_of_replicas)).sum();
        let enough = match self.active {
            None | Some(params::ActiveShards::Default) => true,
            Some(params::ActiveShards::All) => counts.active == copies,
            Some(params::ActiveShards::Count(n)) => counts.active >= n,
        };
        Ok(enough && self.nodes.as_deref().map_or(Ok(true), |text| nodes_match(text, 1))?)
    }
}

/// `3`, `>=3`, `ge(3)`, ...
fn nodes_match(text: &str, nodes: i64) -> ApiResult<bool> {
    let (op, number) = if let Some((op, rest)) = text.split_once('(') {
        (op, rest.trim_end_matches(')'))
    } else if let Some(rest) = text.strip_prefix(">=") {
        ("ge", rest)
    } else if let Some(rest) = text.strip_prefix("<=") {
        ("le", rest)
    } else if let Some(rest) = text.strip_prefix('>') {
        ("gt", rest)
    } else if let Some(rest) = text.strip_prefix('<') {
        ("lt", rest)
    } else {
        ("eq", text)
    };
    let number: i64 =
        number.trim().parse().map_err(|_| ApiError::illegal_argument(format!("For input string: \"{number}\"")))?;
    Ok(match op {
        "ge" => nodes >= number,
        "le" => nodes <= number,
        "gt" => nodes > number,
        "lt" => nodes < number,
        _ => nodes == number,
    })
}

/// `GET /_cluster/health[/{index}]`
pub async fn health(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let wanted = Wanted {
        status: request.param("wait_for_status").map(Status::parse).transpose()?,
        nodes: request.param("wait_for_nodes").map(str::to_owned),
        active: request.param("wait_for_active_shards").map(params::parse_active_shards).transpose()?,
        no_initializing: flag(&request, "wait_for_no_initializing_shards", false)?,
        indices: params::indices(&request),
    };
    flag(&request, "wait_for_no_relocating_shards", false)?;
    let level = request.param("level").unwrap_or("cluster").to_owned();
    if !matches!(level.as_str(), "cluster" | "indices" | "shards") {
        return Err(ApiError::illegal_argument(format!(
            "level parameter must be one of [cluster] or [indices] or [shards] but was [{level}]"
        )));
    }
    if let Some(word) = request.param("wait_for_events")
        && !matches!(word.to_ascii_lowercase().as_str(), "immediate" | "urgent" | "high" | "normal" | "low" | "languid")
    {
        return Err(ApiError::illegal_argument(format!(
            "No enum constant org.elasticsearch.common.Priority.{}",
            word.to_uppercase()
        )));
    }
    let timeout = time(&request, "timeout")?.unwrap_or(30_000);
    let start = backend.monotonic_ns();
    let (state, indices, counts, missing, timed_out) = loop {
        let state = backend.state();
        let indices = resolve(&state, &wanted.indices, options, backend.now_ms())?;
        let missing = wanted.indices.iter().any(|n| {
            !n.contains('*')
                && n != "_all"
                && !state.indices.contains_key(n)
                && !crate::metadata::resolve::is_alias(&state, n)
        });
        let mut counts = Counts::default();
        for index in &indices {
            counts.add(index_counts(backend, index));
        }
        let met = wanted.is_met(&indices, missing, &counts)?;
        let waited = ((backend.monotonic_ns() - start) / 1_000_000) as i64;
        if met || waited >= timeout {
            break (state, indices, counts, missing, !met);
        }
        backend.sleep_ms(10.min((timeout - waited).max(1)) as u64).await;
    };
    let mut out = Map::new();
    out.insert("cluster_name".into(), state.cluster_name.clone().into());
    let mut own = shown(&counts);
    let status = if missing { Status::Red } else { counts.status };
    out.insert("status".into(), status.name().into());
    own.shift_remove("status");
    out.insert("timed_out".into(), timed_out.into());
    out.insert("number_of_nodes".into(), 1.into());
    out.insert("number_of_data_nodes".into(), 1.into());
    out.extend(own);
    let all = counts.active + counts.initializing + counts.unassigned;
    let percent = if all == 0 { 100.0 } else { f64::from(counts.active) * 100.0 / f64::from(all) };
    for (key, value) in [
        ("delayed_unassigned_shards", json!(0)),
        ("number_of_pending_tasks", json!(0)),
        ("number_of_in_flight_fetch", json!(0)),
        ("task_max_waiting_in_queue_millis", json!(0)),
        ("active_shards_percent_as_number", json!(percent)),
    ] {
        out.insert(key.into(), value);
    }
    if flag(&request, "human", false)? {
        out.insert("task_max_waiting_in_queue".into(), "0s".into());
        out.insert("active_shards_percent".into(), format!("{percent:.1}%").into());
    }
    if level != "cluster" {
        out.insert("indices".into(), indices_level(backend, &indices, level == "shards"));
    }
    Ok(Response::json(if timed_out { 408 } else { 200 }, Value::Object(out)))
}

fn indices_level(backend: &SharedBackend, indices: &[Arc<IndexMetadata>], shards: bool) -> Value {
    let mut out = Map::new();
    for index in indices {
        let mut own = Map::new();
        let counts = index_counts(backend, index);
        own.insert("status".into(), counts.status.name().into());
        own.insert("number_of_shards".into(), index.number_of_shards.into());
        own.insert("number_of_replicas".into(), index.number_of_replicas.into());
        own.extend(shown(&counts));
        if shards {
            let mut list = Map::new();
            for shard in 0..index.number_of_shards {
                let counts = shard_counts(backend, index, shard);
                let mut one = shown(&counts);
                one.shift_remove("active_primary_shards");
                one.insert("primary_active".into(), (counts.active_primaries == 1).into());
                list.insert(shard.to_string(), Value::Object(one));
            }
            own.insert("shards".into(), Value::Object(list));
        }
        out.insert(index.name.clone(), Value::Object(own));
    }
    Value::Object(out)
}

const METRICS: [&str; 8] =
    ["version", "master_node", "blocks", "nodes", "metadata", "routing_table", "routing_nodes", "customs"];

/// `GET /_cluster/state[/{metric}[/{index}]]`
pub async fn state(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let asked = params::list(&request, "metric").unwrap_or_default();
    let all = asked.is_empty() || asked.iter().any(|m| m == "_all");
    for metric in &asked {
        if metric != "_all" && !METRICS.contains(&metric.as_str()) {
            return Err(ApiError::illegal_argument(format!("Unknown metric [{metric}]")));
        }
    }
    let wants = |name: &str| all || asked.iter().any(|m| m == name);
    let flat = flag(&request, "flat_settings", false)?;
    let options = indices_options(&request, IndicesOptions::LENIENT_ALL)?;
    let expressions = params::indices(&request);
    let options = if request.param("index").is_some() {
        IndicesOptions { ignore_unavailable: flag(&request, "ignore_unavailable", false)?, ..options }
    } else {
        options
    };
    let state = backend.state();
    let mut indices = resolve(&state, &expressions, options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let node = backend.node();
    let mut out = Map::new();
    out.insert("cluster_name".into(), state.cluster_name.clone().into());
    out.insert("cluster_uuid".into(), state.cluster_uuid.clone().into());
    if wants("version") {
        out.insert("version".into(), state.version.into());
        out.insert("state_uuid".into(), state.state_uuid.clone().into());
    }
    if wants("master_node") {
        out.insert("master_node".into(), node.id.clone().into());
    }
    if wants("blocks") {
        out.insert("blocks".into(), blocks(&indices));
    }
    if wants("nodes") {
        let attributes: Map<String, Value> =
            node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        out.insert("nodes".into(), json!({ node.id.clone(): {
            "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": attributes,
        } }));
    }
    if wants("metadata") {
        out.insert("metadata".into(), metadata(&state, &indices, flat));
    }
    if wants("routing_table") {
        let table: Map<String, Value> =
            indices.iter().map(|index| (index.name.clone(), json!({ "shards": routing_of(backend, index) }))).collect();
        out.insert("routing_table".into(), json!({ "indices": table }));
    }
    if wants("routing_nodes") {
        let mut assigned = Vec::new();
        let mut unassigned = Vec::new();
        for index in &indices {
            if let Value::Object(shards) = routing_of(backend, index) {
                for copy in shards.values().filter_map(Value::as_array).flatten() {
                    if copy["node"].is_null() { unassigned.push(copy.clone()) } else { assigned.push(copy.clone()) }
                }
            }
        }
        out.insert("routing_nodes".into(), json!({ "unassigned": unassigned, "nodes": { node.id.clone(): assigned } }));
    }
    Ok(Response::ok(Value::Object(out)))
}

fn blocks(indices: &[Arc<IndexMetadata>]) -> Value {
    const BLOCKS: [(&str, &str, &str, &[&str]); 5] = [
        ("index.blocks.read_only", "5", "index read-only (api)", &["write", "metadata_write"]),
        ("index.blocks.read", "7", "index read (api)", &["read"]),
        ("index.blocks.write", "8", "index write (api)", &["write"]),
        ("index.blocks.metadata", "9", "index metadata (api)", &["metadata_read", "metadata_write"]),
        (
            "index.blocks.read_only_allow_delete",
            "12",
            "disk usage exceeded flood-stage watermark, index has read-only-allow-delete block",
            &["metadata_write", "write"],
        ),
    ];
    let mut out = Map::new();
    for index in indices {
        let mut own = Map::new();
        if !index.open {
            own.insert(
                "4".into(),
                json!({ "description": "index closed", "retryable": false, "levels": ["read", "write"] }),
            );
        }
        for (setting, id, text, levels) in BLOCKS {
            if settings::is_on(index, setting) {
                own.insert(id.into(), json!({ "description": text, "retryable": false, "levels": levels }));
            }
        }
        if !own.is_empty() {
            out.insert(index.name.clone(), Value::Object(own));
        }
    }
    if out.is_empty() { json!({}) } else { json!({ "indices": out }) }
}

fn metadata(state: &ClusterState, indices: &[Arc<IndexMetadata>], flat: bool) -> Value {
    let mut shown = Map::new();
    for index in indices {
        let in_sync: Map<String, Value> =
            (0..index.number_of_shards).map(|s| (s.to_string(), json!([allocation_id(index, s)]))).collect();
        let terms: Map<String, Value> =
            index.primary_terms.iter().enumerate().map(|(s, t)| (s.to_string(), (*t).into())).collect();
        let mappings = if index.mapping.as_object().is_some_and(|m| !m.is_empty()) {
            json!({ "_doc": index.mapping })
        } else {
            json!({})
        };
        shown.insert(
            index.name.clone(),
            json!({
                "version": index.mapping_version + index.settings_version + index.aliases_version,
                "mapping_version": index.mapping_version,
                "settings_version": index.settings_version,
                "aliases_version": index.aliases_version,
                "routing_num_shards": index.routing_num_shards,
                "state": if index.open { "open" } else { "close" },
                "settings": settings::shown(&index.settings, flat),
                "mappings": mappings,
                "aliases": index.aliases.keys().collect::<Vec<_>>(),
                "primary_terms": terms,
                "in_sync_allocations": in_sync,
                "rollover_info": {},
                "system": false,
            }),
        );
    }
    let named = |map: &BTreeMap<String, Arc<Value>>| -> Value {
        Value::Object(map.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect())
    };
    let section = |name: &str| state.custom.get(name).map_or_else(|| json!({}), named);
    let exclusions: Vec<Value> = state
        .custom
        .get("voting_config_exclusions")
        .map(|m| m.values().map(|v| (**v).clone()).collect())
        .unwrap_or_default();
    let mut out = json!({
        "cluster_uuid": state.cluster_uuid,
        "cluster_uuid_committed": true,
        "cluster_coordination": {
            "term": state.term,
            "last_committed_config": [],
            "last_accepted_config": [],
            "voting_config_exclusions": exclusions,
        },
        "templates": named(&state.templates),
        "indices": shown,
        "index-graveyard": { "tombstones": [] },
        "index_template": { "index_template": named(&state.index_templates) },
        "component_template": { "component_template": named(&state.component_templates) },
    });
    if !state.persistent_settings.is_empty() {
        out["settings"] = settings::shown(&state.persistent_settings, flat);
    }
    for (key, name) in [("stored_scripts", "scripts"), ("repositories", "repositories"), ("ingest", "pipelines")] {
        let value = section(name);
        if value.as_object().is_some_and(|m| !m.is_empty()) {
            out[key] = value;
        }
    }
    out
}

/// Every copy of every shard of an index.
fn routing_of(backend: &SharedBackend, index: &IndexMetadata) -> Value {
    let node = &backend.node().id;
    let mut shards = Map::new();
    for shard in 0..index.number_of_shards {
        let mut copies = Vec::new();
        let counts = shard_counts(backend, index, shard);
        let state = match (counts.active_primaries, counts.initializing) {
            (1, _) => "STARTED",
            (_, 1) => "INITIALIZING",
            _ => "UNASSIGNED",
        };
        let mut primary = json!({
            "state": state, "primary": true, "node": node, "relocating_node": null, "shard": shard, "index": index.name,
        });
        if state == "UNASSIGNED" {
            primary["node"] = Value::Null;
            primary["unassigned_info"] =
                json!({ "reason": "ALLOCATION_FAILED", "delayed": false, "allocation_status": "no_valid_shard_copy" });
        } else {
            primary["allocation_id"] = json!({ "id": allocation_id(index, shard) });
        }
        copies.push(primary);
        for _ in 0..index.number_of_replicas.min(64) {
            copies.push(json!({
                "state": "UNASSIGNED", "primary": false, "node": null, "relocating_node": null, "shard": shard, "index": index.name,
                "recovery_source": { "type": "PEER" },
                "unassigned_info": { "reason": "INDEX_CREATED", "delayed": false, "allocation_status": "no_attempt" },
            }));
        }
        shards.insert(shard.to_string(), Value::Array(copies));
    }
    Value::Object(shards)
}

/// Cluster settings by pattern; anything else is not recognized.
const KNOWN_SETTINGS: &[&str] = &[
    "action.auto_create_index",
    "action.destructive_requires_name",
    "action.search.shard_count.limit",
    "cluster.auto_shrink_voting_configuration",
    "cluster.blocks.read_only",
    "cluster.blocks.read_only_allow_delete",
    "cluster.default_number_of_replicas",
    "cluster.fault_detection.*",
    "cluster.indices.close.enable",
    "cluster.indices.tombstones.size",
    "cluster.info.update.*",
    "cluster.max_shards_per_node",
    "cluster.max_voting_config_exclusions",
    "cluster.metadata.*",
    "cluster.no_master_block",
    "cluster.persistent_tasks.*",
    "cluster.remote.*",
    "cluster.routing.*",
    "cluster.service.slow_task_logging_threshold",
    "cluster.slm.*",
    "discovery.*",
    "http.tracer.*",
    "indices.breaker.*",
    "indices.id_field_data.enabled",
    "indices.lifecycle.*",
    "indices.mapping.*",
    "indices.query.*",
    "indices.recovery.*",
    "indices.requests.cache.*",
    "ingest.*",
    "logger.*",
    "network.breaker.*",
    "script.*",
    "search.*",
    "stack.templates.enabled",
    "transport.*",
    "xpack.*",
];

fn check_setting(scope: &str, key: &str, value: &Value) -> ApiResult<()> {
    if !KNOWN_SETTINGS.iter().any(|p| glob(p, key)) {
        return Err(ApiError::illegal_argument(format!("{scope} setting [{key}], not recognized")));
    }
    let Some(text) = value.as_str() else { return Ok(()) };
    let boolean = matches!(
        key,
        "action.destructive_requires_name" | "cluster.blocks.read_only" | "cluster.blocks.read_only_allow_delete"
    );
    if boolean && text != "true" && text != "false" {
        return Err(ApiError::illegal_argument(format!(
            "Failed to parse value [{text}] as only [true] or [false] are allowed."
        )));
    }
    if key == "indices.recovery.max_bytes_per_sec" {
        parse_bytes(text, key)?;
    }
    if matches!(key, "search.default_search_timeout" | "search.max_keep_alive" | "search.default_keep_alive") {
        parse_time(text, key)?;
    }
    if matches!(
        key,
        "search.max_buckets"
            | "cluster.max_shards_per_node"
            | "search.max_open_scroll_context"
            | "cluster.default_number_of_replicas"
    ) {
        let number: i64 = text.parse().map_err(|_| {
            ApiError::illegal_argument(format!("Failed to parse value [{text}] for setting [{key}]"))
                .because(ApiError::new(400, "number_format_exception", format!("For input string: \"{text}\"")))
        })?;
        let least = if key == "cluster.max_shards_per_node" { 1 } else { 0 };
        if number < least && !(key == "search.max_buckets" && number == -1) {
            return Err(ApiError::illegal_argument(format!(
                "Failed to parse value [{text}] for setting [{key}] must be >= {least}"
            )));
        }
    }
    Ok(())
}

/// `PUT /_cluster/settings`
pub async fn put_settings(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let flat = flag(&request, "flat_settings", false)?;
    let body = params::required_json(&mut request).await?;
    let mut changes: Vec<(bool, Map<String, Value>)> = Vec::new();
    for (key, value) in params::object(&body, "settings")? {
        match key.as_str() {
            "persistent" | "transient" => changes.push((key == "persistent", flatten(value)?)),
            other => {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [cluster_update_settings_request] unknown field [{other}]"),
                ));
            }
        }
    }
    if changes.iter().all(|(_, m)| m.is_empty()) {
        return Err(ApiError::validation(&["no settings to update".to_owned()]));
    }
    let mut answer = json!({ "acknowledged": true, "persistent": {}, "transient": {} });
    for (persistent, map) in &changes {
        let scope = if *persistent { "persistent" } else { "transient" };
        let mut kept = Map::new();
        for (key, value) in map {
            if value.is_null() {
                continue;
            }
            check_setting(scope, key, value)?;
            kept.insert(key.clone(), value.clone());
        }
        answer[scope] = settings::shown(&kept, flat);
    }
    backend
        .update_state(
            "cluster_update_settings",
            Box::new(move |state| {
                let mut next = state.clone();
                for (persistent, map) in changes {
                    let own = if persistent { &mut next.persistent_settings } else { &mut next.transient_settings };
                    for (key, value) in map {
                        if value.is_null() {
                            own.retain(|known, _| !glob(&key, known));
                        } else {
                            own.insert(key, value);
                        }
                    }
                }
                Ok((next != *state).then_some(next))
            }),
        )
        .await?;
    Ok(Response::ok(answer))
}

/// `GET /_cluster/settings`
pub async fn get_settings(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let flat = flag(&request, "flat_settings", false)?;
    let state = backend.state();
    let mut out = json!({
        "persistent": settings::shown(&state.persistent_settings, flat),
        "transient": settings::shown(&state.transient_settings, flat),
    });
    if flag(&request, "include_defaults", false)? {
        let mut defaults = Map::new();
        for (key, value) in [
            ("action.auto_create_index", "true"),
            ("action.destructive_requires_name", "false"),
            ("cluster.blocks.read_only", "false"),
            ("cluster.max_shards_per_node", "1000"),
            ("search.default_search_timeout", "-1"),
            ("search.max_buckets", "65535"),
            ("search.max_keep_alive", "24h"),
            ("search.default_keep_alive", "5m"),
        ] {
            if !state.persistent_settings.contains_key(key) && !state.transient_settings.contains_key(key) {
                defaults.insert(key.into(), value.into());
            }
        }
        for (name, value) in &backend.node().attributes {
            defaults.insert(format!("node.attr.{name}"), value.clone().into());
        }
        out["defaults"] = settings::shown(&defaults, flat);
    }
    Ok(Response::ok(out))
}

/// `GET /_cluster/pending_tasks`
pub async fn pending_tasks(_backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::ok(json!({ "tasks": [] })))
}

/// `GET /_remote/info`
pub async fn remote_info(_backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    Ok(Response::ok(json!({})))
}

/// `POST /_cluster/reroute`
pub async fn reroute(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let explain = flag(&request, "explain", false)?;
    let dry_run = flag(&request, "dry_run", false)?;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let commands = match body.get("commands") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(_) => return Err(params::parse_exception("[commands] must be an array")),
    };
    let state = backend.state();
    let mut explanations = Vec::new();
    for command in &commands {
        let Some((verb, inner)) = command.as_object().and_then(|m| m.iter().next()) else {
            return Err(params::parse_exception("a command must be an object with one key"));
        };
        explanations.push(explain_command(&state, verb, inner, explain || dry_run)?);
    }
    let node = backend.node();
    let attributes: Map<String, Value> = node.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    let mut out = json!({
        "acknowledged": true,
        "state": {
            "cluster_uuid": state.cluster_uuid,
            "version": state.version,
            "state_uuid": state.state_uuid,
            "master_node": node.id,
            "nodes": { node.id.clone(): { "name": node.name, "ephemeral_id": node.ephemeral_id, "transport_address": node.transport_address, "attributes": attributes } },
            "routing_table": { "indices": state.indices.values().map(|i| (i.name.clone(), json!({ "shards": routing_of(backend, i) }))).collect::<Map<_, _>>() },
        },
    });
    if explain {
        out["explanations"] = explanations.into();
    }
    Ok(Response::ok(out))
}

/// On one node no shard can go anywhere else: every command is answered with the reason.
fn explain_command(state: &ClusterState, verb: &str, inner: &Value, explained: bool) -> ApiResult<Value> {
    if !matches!(verb, "move" | "cancel" | "allocate_replica" | "allocate_stale_primary" | "allocate_empty_primary") {
        return Err(params::parse_exception(format!("Unknown AllocationCommand [{verb}]")));
    }
    let index = inner["index"].as_str().unwrap_or("");
    let known = state.indices.get(index).ok_or_else(|| ApiError::index_not_found(index))?;
    let shard = inner["shard"].as_u64().unwrap_or(0);
    let mut parameters = inner.clone();
    if verb == "cancel" && parameters.get("allow_primary").is_none() {
        parameters["allow_primary"] = false.into();
    }
    let text = if shard >= u64::from(known.number_of_shards) {
        format!("can't {verb} {shard}, failed to find it on node {}", inner["node"])
    } else {
        format!("[{verb}] on [{index}][{shard}] is not possible: no other node can take the shard")
    };
    if !explained {
        return Err(ApiError::illegal_argument(format!("[{verb}_allocation] {text}")));
    }
    Ok(json!({
        "command": verb,
        "parameters": parameters,
        "decisions": [{ "decider": format!("{verb}_allocation_command"), "decision": "NO", "explanation": text }],
    }))
}

/// `GET|POST /_cluster/allocation/explain`
pub async fn allocation_explain(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let state = backend.state();
    let node = backend.node();
    let (index, shard, primary) = match body.get("index").and_then(Value::as_str) {
        Some(name) => {
            let index = state.indices.get(name).ok_or_else(|| ApiError::index_not_found(name))?.clone();
            let shard = body
                .get("shard")
                .and_then(Value::as_u64)
                .ok_or_else(|| ApiError::validation(&["shard must be specified".to_owned()]))?;
            let primary = body
                .get("primary")
                .map(params::boolean)
                .transpose()?
                .ok_or_else(|| ApiError::validation(&["primary must be specified".to_owned()]))?;
            (index, shard as u32, primary)
        }
        None => {
            let found = state.indices.values().find_map(|index| {
                (0..index.number_of_shards).find_map(|shard| {
                    let counts = shard_counts(backend, index, shard);
                    (counts.unassigned > 0).then(|| (index.clone(), shard, counts.active_primaries == 0))
                })
            });
            found.ok_or_else(|| {
                ApiError::illegal_argument("unable to find any unassigned shards to explain [ClusterAllocationExplainRequest[useAnyUnassignedShard=true,includeYesDecisions?=false]")
            })?
        }
    };
    if shard >= index.number_of_shards {
        return Err(ApiError::illegal_argument(format!("no such shard [{shard}] in index [{}]", index.name)));
    }
    let counts = shard_counts(backend, &index, shard);
    let mut out = json!({ "index": index.name, "shard": shard, "primary": primary });
    if primary && counts.active_primaries == 1 {
        out["current_state"] = "started".into();
        out["current_node"] = json!({ "id": node.id, "name": node.name, "transport_address": node.transport_address });
        out["can_remain_on_current_node"] = "yes".into();
        out["can_rebalance_cluster"] = "yes".into();
        out["can_rebalance_to_other_node"] = "no".into();
        out["rebalance_explanation"] =
            "cannot rebalance as no target node exists that can both allocate this shard and improve the cluster balance".into();
        return Ok(Response::ok(out));
    }
    if !primary && index.number_of_replicas == 0 {
        return Err(ApiError::illegal_argument("unable to find a replica shard to explain: the index has no replicas"));
    }
    out["current_state"] = "unassigned".into();
    out["unassigned_info"] = json!({
        "reason": if primary { "ALLOCATION_FAILED" } else { "INDEX_CREATED" },
        "at": iso(index.creation_date),
        "last_allocation_status": if primary { "no_valid_shard_copy" } else { "no_attempt" },
    });
    out["can_allocate"] = if primary { "no_valid_shard_copy" } else { "no" }.into();
    out["allocate_explanation"] = if primary {
        match backend.shard_health(&shard_id(&index, shard)) {
            ShardHealth::Failed(why) => format!("cannot allocate because the only copy of the shard failed: {why}"),
            _ => "cannot allocate because a previous copy of the primary shard existed but can no longer be found on the nodes in the cluster".to_owned(),
        }
    } else {
        "cannot allocate because allocation is not permitted to any of the nodes".to_owned()
    }
    .into();
    let copy = format!(
        "a copy of this shard is already allocated to this node [[{}][{shard}], node[{}], [P], s[STARTED], a[id={}]]",
        index.name,
        node.id,
        allocation_id(&index, shard)
    );
    out["node_allocation_decisions"] = json!([{
        "node_id": node.id, "node_name": node.name, "transport_address": node.transport_address, "node_decision": "no",
        "deciders": [{ "decider": "same_shard", "decision": "NO", "explanation": copy }],
    }]);
    Ok(Response::ok(out))
}

/// Milliseconds as `2020-01-01T00:00:00.000Z`.
#[must_use]
pub fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// `POST /_cluster/voting_config_exclusions`
pub async fn add_voting_exclusions(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let ids = params::list(&request, "node_ids");
    let names = params::list(&request, "node_names");
    let (list, by_id) = match (ids, names) {
        (Some(list), None) => (list, true),
        (None, Some(list)) => (list, false),
        _ => {
            return Err(ApiError::illegal_argument(
                "Please set node identifiers correctly. One and only one of [node_name], [node_names] and [node_ids] has to be set",
            ));
        }
    };
    let known = (backend.node().id.clone(), backend.node().name.clone());
    backend
        .update_state(
            "add-voting-config-exclusions",
            Box::new(move |state| {
                let mut next = state.clone();
                let own = next.custom.entry("voting_config_exclusions".into()).or_default();
                for item in list {
                    let absent = "_absent_".to_owned();
                    let (id, name) = if by_id {
                        let name = if item == known.0 { known.1.clone() } else { absent };
                        (item.clone(), name)
                    } else {
                        (if item == known.1 { known.0.clone() } else { absent }, item.clone())
                    };
                    own.insert(format!("{id}/{name}"), Arc::new(json!({ "node_id": id, "node_name": name })));
                }
                Ok((next != *state).then_some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({})))
}

/// `DELETE /_cluster/voting_config_exclusions`
pub async fn clear_voting_exclusions(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    backend
        .update_state(
            "clear-voting-config-exclusions",
            Box::new(|state| {
                if !state.custom.contains_key("voting_config_exclusions") {
                    return Ok(None);
                }
                let mut next = state.clone();
                next.custom.remove("voting_config_exclusions");
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({})))
}

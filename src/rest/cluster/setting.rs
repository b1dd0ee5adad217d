//! `_cluster/settings`.

use serde_json::{Map, Value, json};

use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::NoMaster;
use crate::metadata::settings;
use crate::metadata::value::flatten;
use crate::rest::filter::glob;
use crate::rest::params::{self, flag, parse_bytes, parse_time};
use crate::rest::request::{Request, Response};

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
    if key == "cluster.no_master_block" && !NoMaster::WORDS.contains(&text) {
        return Err(ApiError::illegal_argument(format!(
            "invalid no-master block [{text}], must be one of [all, write, metadata_write]"
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
                for (persistent, map) in &changes {
                    let own = if *persistent { &mut next.persistent_settings } else { &mut next.transient_settings };
                    for (key, value) in map {
                        if value.is_null() {
                            own.retain(|known, _| !glob(key, known));
                        } else {
                            own.insert(key.clone(), value.clone());
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
            ("cluster.no_master_block", "write"),
            ("cluster.routing.allocation.enable", "all"),
            ("cluster.routing.allocation.same_shard.host", "false"),
            ("cluster.routing.allocation.total_shards_per_node", "-1"),
            ("cluster.routing.rebalance.enable", "all"),
            ("cluster.routing.use_adaptive_replica_selection", "true"),
            ("indices.recovery.max_bytes_per_sec", "40mb"),
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

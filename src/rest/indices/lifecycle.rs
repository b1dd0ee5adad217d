//! Creating, deleting, opening, closing, showing indices.

use std::sync::Arc;

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::acknowledged;
use crate::backend::SharedBackend;
use crate::coordinate::ids;
use crate::coordinate::write::{active_copies, copies_needed};
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::create::{self, CreateIndex};
use crate::metadata::resolve::{IndicesOptions, date_math, resolve};
use crate::metadata::{alias, settings};
use crate::rest::http::warning;
use crate::rest::params::{self, ActiveShards, active_shards, flag, indices_options, time};
use crate::rest::request::{Request, Response};
use crate::shard::message::ShardId;

/// The text of requests that name types.
pub const TYPES_IN_CREATE: &str = "[types removal] Using include_type_name in create index requests is deprecated. The parameter will be removed in the next major version.";

/// `PUT /{index}`
pub async fn create(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let expression = request.param("index").unwrap_or("").to_owned();
    let name = date_math(&expression, backend.now_ms())?;
    let typed = flag(&request, "include_type_name", false)?;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let (settings, mapping, aliases) = create::parse_body(&body, typed)?;
    let active = active_shards(&request)?;
    let timeout = time(&request, "timeout")?.unwrap_or(30_000);
    let mut headers = Vec::new();
    if request.param("include_type_name").is_some() {
        headers.push(warning(TYPES_IN_CREATE));
    }
    let wanted = CreateIndex {
        name: name.clone(),
        provided_name: Some(expression),
        settings,
        mapping,
        aliases,
        uuid: ids::uuid(backend.as_ref()),
        now_ms: backend.now_ms(),
        without_templates: false,
    };
    let state = run_create(backend, wanted).await?;
    let started = match state.indices.get(&name) {
        Some(index) => wait_for_active(backend, index, active, timeout).await?,
        None => false,
    };
    let mut response = Response::ok(json!({ "acknowledged": true, "shards_acknowledged": started, "index": name }));
    response.headers = headers;
    Ok(response)
}

/// Puts a new index into the cluster state.
pub async fn run_create(backend: &SharedBackend, wanted: CreateIndex) -> ApiResult<Arc<ClusterState>> {
    let source = format!("create-index [{}]", wanted.name);
    backend
        .update_state(&source, Box::new(move |state| create::create(state, &wanted).map(|(next, _)| Some(next))))
        .await
}

/// Waits until enough copies of every shard are active; whether they are.
pub async fn wait_for_active(
    backend: &SharedBackend,
    index: &IndexMetadata,
    active: ActiveShards,
    timeout_ms: i64,
) -> ApiResult<bool> {
    let needed = copies_needed(index, active)?;
    let start = backend.monotonic_ns();
    loop {
        let enough = (0..index.number_of_shards).all(|shard| active_copies(backend, &shard_id(index, shard)) >= needed);
        if enough {
            return Ok(true);
        }
        if (backend.monotonic_ns() - start) as i64 / 1_000_000 >= timeout_ms {
            return Ok(false);
        }
        backend.sleep_ms(5).await;
    }
}

/// The id of one shard of an index.
#[must_use]
pub fn shard_id(index: &IndexMetadata, shard: u32) -> ShardId {
    ShardId { index: index.name.as_str().into(), uuid: index.uuid.as_str().into(), shard }
}

/// `DELETE /{index}`
pub async fn delete(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::DELETE)?;
    let expressions = params::indices(&request);
    let state = backend.state();
    let wildcard = expressions.iter().any(|e| e.contains('*') || e == "_all") || expressions.is_empty();
    let guarded = state.setting("action.destructive_requires_name");
    if wildcard && guarded.is_some_and(|v| v == "true" || v == true) {
        return Err(ApiError::illegal_argument("Wildcard expressions or all indices are not allowed"));
    }
    let indices = resolve(&state, &expressions, options, backend.now_ms())?;
    if indices.is_empty() {
        return Ok(acknowledged());
    }
    for index in &indices {
        block::check(&state, index, Level::MetadataDelete)?;
    }
    let doomed: Vec<(String, String)> = indices.iter().map(|i| (i.name.clone(), i.uuid.clone())).collect();
    backend
        .update_state(
            "delete-index",
            Box::new(move |state| {
                let mut next = state.clone();
                for (name, uuid) in &doomed {
                    if next.indices.get(name).is_some_and(|i| i.uuid == *uuid) {
                        next.indices.remove(name);
                    }
                }
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(acknowledged())
}

/// `GET /{index}`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let state = backend.state();
    let typed = flag(&request, "include_type_name", false)?;
    let flat = flag(&request, "flat_settings", false)?;
    let defaults = flag(&request, "include_defaults", false)?;
    let human = flag(&request, "human", false)?;
    let mut out = Map::new();
    let mut indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    for index in indices {
        let mut shown = Map::new();
        shown.insert("aliases".into(), alias::all_shown(&index));
        shown.insert("mappings".into(), mapping_shown(&index, typed));
        let own = if human { settings::humanised(&index.settings) } else { index.settings.clone() };
        shown.insert("settings".into(), settings::shown(&own, flat));
        if defaults {
            shown.insert("defaults".into(), settings::shown(&settings::defaults(&index), flat));
        }
        out.insert(index.name.clone(), Value::Object(shown));
    }
    let mut response = Response::ok(Value::Object(out));
    if request.param("include_type_name").is_some() {
        response.headers.push(warning("[types removal] Using `include_type_name` in get indices requests is deprecated. The parameter will be removed in the next major version."));
    }
    Ok(response)
}

/// A mapping as answers show it.
#[must_use]
pub fn mapping_shown(index: &IndexMetadata, typed: bool) -> Value {
    if typed && index.mapping.as_object().is_some_and(|m| !m.is_empty()) {
        json!({ "_doc": index.mapping })
    } else {
        index.mapping.clone()
    }
}

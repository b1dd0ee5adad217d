//! `_settings` and `_block`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::acknowledged;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::limit;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::metadata::settings::{self, normalise};
use crate::rest::filter::glob;
use crate::rest::params::{self, flag, indices_options};
use crate::rest::request::{Request, Response};

/// `GET [/{index}]/_settings[/{name}]`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_CLOSED)?;
    let flat = flag(&request, "flat_settings", false)?;
    let defaults = flag(&request, "include_defaults", false)?;
    let human = flag(&request, "human", false)?;
    let names = params::list(&request, "name").unwrap_or_default();
    let wanted = |key: &str| names.is_empty() || names.iter().any(|n| n == "_all" || glob(n, key));
    let state = backend.state();
    let mut indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Map::new();
    for index in indices {
        block::check(&state, &index, Level::MetadataRead)?;
        let pick = |all: &Map<String, Value>| -> Map<String, Value> {
            all.iter().filter(|(k, _)| wanted(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let own = if human { pick(&settings::humanised(&index.settings)) } else { pick(&index.settings) };
        if own.is_empty() && !names.is_empty() && !defaults {
            continue;
        }
        let mut shown = Map::new();
        shown.insert("settings".into(), settings::shown(&own, flat));
        if defaults {
            shown.insert("defaults".into(), settings::shown(&pick(&settings::defaults(&index)), flat));
        }
        out.insert(index.name.clone(), Value::Object(shown));
    }
    Ok(Response::ok(Value::Object(out)))
}

/// `PUT [/{index}]/_settings`
pub async fn put(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_CLOSED)?;
    let preserve = flag(&request, "preserve_existing", false)?;
    let body = params::required_json(&mut request).await?;
    let inner = match &body {
        Value::Object(map) if map.len() == 1 && map.get("settings").is_some_and(Value::is_object) => &map["settings"],
        Value::Object(_) => &body,
        _ => return Err(params::parse_exception("malformed settings: expected an object")),
    };
    let changes = normalise(inner)?;
    let state = backend.state();
    let indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    let only_blocks = changes.keys().all(|k| k.starts_with("index.blocks."));
    for index in &indices {
        if !only_blocks {
            block::check(&state, index, Level::MetadataWrite)?;
        }
    }
    if changes.is_empty() {
        return Err(ApiError::validation(&["no settings to update".to_owned()]));
    }
    let names: Vec<String> = indices.iter().map(|i| i.name.clone()).collect();
    backend
        .update_state(
            "update-settings",
            Box::new(move |state| {
                let mut next = None;
                for name in &names {
                    let Some(index) = state.indices.get(name) else { return Err(ApiError::index_not_found(name)) };
                    if let Some(changed) = settings::update(index, &changes, preserve)? {
                        next.get_or_insert_with(|| state.clone()).indices.insert(name.clone(), Arc::new(changed));
                    }
                }
                if let Some(next) = &next {
                    limit::check(state, next)?;
                }
                Ok(next)
            }),
        )
        .await?;
    Ok(acknowledged())
}

/// `PUT /{index}/_block/{block}`
pub async fn add_block(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let word = request.param("block").unwrap_or("").to_owned();
    if !matches!(word.as_str(), "read" | "write" | "read_only" | "metadata") {
        return Err(ApiError::illegal_argument(format!("No block found with name {word}")));
    }
    let state = backend.state();
    let indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    let names: Vec<String> = indices.iter().map(|i| i.name.clone()).collect();
    let shown: Vec<Value> = names.iter().map(|n| json!({ "name": n, "blocked": true })).collect();
    let setting = format!("index.blocks.{word}");
    backend
        .update_state(
            "add-block",
            Box::new(move |state| {
                let mut next = state.clone();
                for name in &names {
                    let Some(index) = state.indices.get(name) else { return Err(ApiError::index_not_found(name)) };
                    let mut changed = (**index).clone();
                    changed.settings.insert(setting.clone(), "true".into());
                    changed.settings_version += 1;
                    next.indices.insert(name.clone(), Arc::new(changed));
                }
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(Response::ok(json!({ "acknowledged": true, "shards_acknowledged": true, "indices": shown })))
}

//! `_mapping`: reading, changing, reading single fields.

use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value, json};

use super::acknowledged;
use super::lifecycle::mapping_shown;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::mapping;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::filter::glob;
use crate::rest::http::warning;
use crate::rest::params::{self, flag, indices_options};
use crate::rest::request::{Request, Response};

/// `GET [/{index}]/_mapping[/{type}]`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let typed = flag(&request, "include_type_name", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let types = params::list(&request, "type");
    if types.is_some() && request.param("include_type_name") == Some("false") {
        return Err(ApiError::illegal_argument(
            "Types cannot be provided in get mapping requests, unless include_type_name is set to true.",
        ));
    }
    let state = backend.state();
    let mut indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Map::new();
    for index in indices {
        let typed = typed || types.is_some();
        if let Some(types) = &types
            && !types.iter().any(|t| t == "_all" || glob(t, "_doc"))
        {
            continue;
        }
        out.insert(index.name.clone(), json!({ "mappings": mapping_shown(&index, typed) }));
    }
    if let Some(types) = &types
        && out.is_empty()
        && !types.iter().any(|t| t.contains('*') || t == "_all")
    {
        let names = types.join(",");
        return Err(ApiError::new(404, "type_missing_exception", format!("type[[{names}]] missing"))
            .with("index_uuid", "_na_")
            .with("index", "_all"));
    }
    let mut response = Response::ok(Value::Object(out));
    if request.param("include_type_name").is_some() {
        response.headers.push(warning("[types removal] Using include_type_name in get mapping requests is deprecated. The parameter will be removed in the next major version."));
    }
    Ok(response)
}

/// `HEAD /{index}/_mapping/{type}`
pub async fn exists_type(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let indices = resolve(&backend.state(), &params::indices(&request), options, backend.now_ms())?;
    let types = params::list(&request, "type").unwrap_or_default();
    let found = types.iter().all(|t| glob(t, "_doc"))
        && indices.iter().any(|i| i.mapping.as_object().is_some_and(|m| !m.is_empty()));
    Ok(Response::empty(if found { 200 } else { 404 }))
}

/// `PUT|POST /{index}/_mapping`
pub async fn put(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let typed = flag(&request, "include_type_name", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN_CLOSED)?;
    let body = params::required_json(&mut request).await?;
    let write_only = flag(&request, "write_index_only", false)?;
    let kind = request.param("type").map(str::to_owned);
    let update = match (&body, &kind) {
        (Value::Object(map), Some(kind)) if map.len() == 1 && map.contains_key(kind) => map[kind].clone(),
        (Value::Object(_), Some(_)) => body.clone(),
        (Value::Object(map), None) => match map.iter().next().map(|(k, v)| (k.as_str(), v)) {
            Some(("properties" | "dynamic" | "dynamic_templates" | "_meta" | "_source" | "_routing", _)) if !typed => {
                body.clone()
            }
            Some((key, inner)) if typed && map.len() == 1 && inner.is_object() && key != "properties" => inner.clone(),
            Some(("_doc", inner)) if map.len() == 1 && inner.is_object() => {
                return Err(ApiError::illegal_argument(
                    "Types cannot be provided in put mapping requests, unless the include_type_name parameter is set to true.",
                ));
            }
            _ => body.clone(),
        },
        _ => return Err(params::parse_exception("mapping must be an object")),
    };
    if kind.is_some() && request.param("include_type_name") == Some("false") {
        return Err(ApiError::illegal_argument(
            "Types cannot be provided in put mapping requests, unless the include_type_name parameter is set to true.",
        ));
    }
    let state = backend.state();
    let expressions = params::indices(&request);
    let mut indices = resolve(&state, &expressions, options, backend.now_ms())?;
    if write_only {
        indices = write_indices(&state, &expressions, indices)?;
    }
    for index in &indices {
        block::check(&state, index, Level::MetadataWrite)?;
    }
    let names: Vec<(String, String)> = indices.iter().map(|i| (i.name.clone(), i.uuid.clone())).collect();
    backend.update_state("put-mapping", Box::new(move |state| mapping::put_all(state, &names, &update))).await?;
    let mut response = acknowledged();
    if request.param("include_type_name").is_some() {
        response.headers.push(warning("[types removal] Using include_type_name in put mapping requests is deprecated. The parameter will be removed in the next major version."));
    }
    Ok(response)
}

fn write_indices(
    state: &ringdex_net::cluster::state::ClusterState,
    expressions: &[String],
    indices: Vec<Arc<IndexMetadata>>,
) -> ApiResult<Vec<Arc<IndexMetadata>>> {
    let mut out = Vec::new();
    for expression in expressions {
        if state.indices.contains_key(expression) || !crate::metadata::resolve::is_alias(state, expression) {
            out.extend(indices.iter().filter(|i| glob(expression, &i.name)).cloned());
        } else {
            out.push(crate::metadata::resolve::resolve_write(state, expression, 0)?);
        }
    }
    out.dedup_by(|a, b| a.name == b.name);
    Ok(out)
}

/// `GET [/{index}]/_mapping/field/{fields}`
pub async fn get_field(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let typed = flag(&request, "include_type_name", false)? || request.param("type").is_some();
    let defaults = flag(&request, "include_defaults", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let expressions = params::indices(&request);
    let mut indices = resolve(&backend.state(), &expressions, options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let patterns = params::list(&request, "fields").unwrap_or_default();
    let mut out = Map::new();
    for index in &indices {
        let mut fields: Vec<(String, Value)> = Vec::new();
        collect(index.mapping.get("properties"), "", 0, &mut fields);
        let mut shown = Map::new();
        for pattern in &patterns {
            for (path, mapping) in &fields {
                if !glob(pattern, path) {
                    continue;
                }
                let mut mapping = mapping.clone();
                if defaults {
                    add_defaults(&mut mapping);
                }
                let name = path.rsplit('.').next().unwrap_or(path);
                shown.insert(path.clone(), json!({ "full_name": path, "mapping": { name: mapping } }));
            }
        }
        let shown = if typed && !shown.is_empty() { json!({ "_doc": shown }) } else { Value::Object(shown) };
        out.insert(index.name.clone(), json!({ "mappings": shown }));
    }
    let mut response = Response::ok(Value::Object(out));
    if indices.is_empty() && !expressions.is_empty() {
        response.status = 404;
    }
    if request.param("include_type_name").is_some() {
        response.headers.push(warning("[types removal] Using include_type_name in get field mapping requests is deprecated. The parameter will be removed in the next major version."));
    }
    if request.param("local").is_some() {
        response.headers.push(warning("Use [local] in get field mapping requests is deprecated. The parameter will be removed in the next major version"));
    }
    Ok(response)
}

/// Leaf fields and multi-fields with their full paths.
fn collect(properties: Option<&Value>, prefix: &str, depth: usize, out: &mut Vec<(String, Value)>) {
    let Some(Value::Object(properties)) = properties else { return };
    if depth > 50 {
        return;
    }
    for (name, field) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if field.get("properties").is_some() {
            collect(field.get("properties"), &path, depth + 1, out);
        } else if field.get("type").is_some_and(|t| t != "object" && t != "nested") {
            out.push((path.clone(), field.clone()));
        }
        collect(field.get("fields"), &path, depth + 1, out);
    }
}

/// What a field of its type has when nothing is said.
fn add_defaults(mapping: &mut Value) {
    let Value::Object(map) = mapping else { return };
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("object").to_owned();
    let mut put = |key: &str, value: Value| {
        map.entry(key.to_owned()).or_insert(value);
    };
    match kind.as_str() {
        "text" => {
            for (key, value) in [
                ("boost", json!(1.0)),
                ("index", json!(true)),
                ("store", json!(false)),
                ("fielddata", json!(false)),
                ("norms", json!(true)),
                ("eager_global_ordinals", json!(false)),
                ("index_options", json!("positions")),
                ("term_vector", json!("no")),
                ("similarity", json!("BM25")),
                ("analyzer", json!("default")),
                ("search_analyzer", json!("default")),
                ("search_quote_analyzer", json!("default")),
                ("position_increment_gap", json!(-1)),
                ("index_phrases", json!(false)),
                ("index_prefixes", Value::Null),
            ] {
                put(key, value);
            }
        }
        "keyword" => {
            for (key, value) in [
                ("boost", json!(1.0)),
                ("index", json!(true)),
                ("store", json!(false)),
                ("doc_values", json!(true)),
                ("norms", json!(false)),
                ("null_value", Value::Null),
                ("eager_global_ordinals", json!(false)),
                ("index_options", json!("docs")),
                ("split_queries_on_whitespace", json!(false)),
                ("similarity", json!("BM25")),
                ("ignore_above", json!(2_147_483_647)),
                ("normalizer", Value::Null),
            ] {
                put(key, value);
            }
        }
        "long" | "integer" | "short" | "byte" | "double" | "float" | "half_float" | "scaled_float" => {
            for (key, value) in [
                ("boost", json!(1.0)),
                ("index", json!(true)),
                ("store", json!(false)),
                ("doc_values", json!(true)),
                ("coerce", json!(true)),
                ("ignore_malformed", json!(false)),
                ("null_value", Value::Null),
            ] {
                put(key, value);
            }
        }
        "date" | "boolean" | "ip" => {
            for (key, value) in [
                ("boost", json!(1.0)),
                ("index", json!(true)),
                ("store", json!(false)),
                ("doc_values", json!(true)),
                ("null_value", Value::Null),
            ] {
                put(key, value);
            }
            if kind == "date" {
                put("format", json!("strict_date_optional_time||epoch_millis"));
                put("ignore_malformed", json!(false));
                put("locale", json!("en"));
            }
        }
        _ => {}
    }
}

//! Reading one document, whole or its source.

use std::sync::Arc;

use ringdex_engine::search::SourceFilter;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::Value;

use super::version::VersionParams;
use crate::backend::SharedBackend;
use crate::coordinate::routing;
use crate::coordinate::write::{routing_missing, routing_required};
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::resolve;
use crate::rest::params::{self, flag};
use crate::rest::raw::ObjectOut;
use crate::rest::request::{Content, Request, Response};
use crate::shard::message::{GetRequest, GetResult, ShardId, ShardRequest, ShardResponse};

/// `_source`, `_source_includes`, `_source_excludes` of the query string; none when none is given.
pub fn source_filter(request: &Request) -> ApiResult<Option<SourceFilter>> {
    let mut filter = SourceFilter::default();
    let mut given = false;
    if let Some(text) = request.param("_source") {
        given = true;
        match text {
            "true" | "" => {}
            "false" => filter.disabled = true,
            list => filter.includes = params::split_list(list),
        }
    }
    for name in ["_source_includes", "_source_include"] {
        if let Some(list) = params::list(request, name) {
            given = true;
            filter.includes = list;
        }
    }
    for name in ["_source_excludes", "_source_exclude"] {
        if let Some(list) = params::list(request, name) {
            given = true;
            filter.excludes = list;
        }
    }
    Ok(given.then_some(filter))
}

/// The same in a body: `true`, `"a.*"`, `["a"]`, `{"includes": [...], "excludes": [...]}`.
pub fn source_filter_value(value: &Value) -> ApiResult<SourceFilter> {
    let mut filter = SourceFilter::default();
    match value {
        Value::Bool(wanted) => filter.disabled = !wanted,
        Value::String(text) if text == "true" => {}
        Value::String(text) if text == "false" => filter.disabled = true,
        Value::String(_) | Value::Array(_) => filter.includes = params::strings(value),
        Value::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "includes" | "include" => filter.includes = params::strings(value),
                    "excludes" | "exclude" => filter.excludes = params::strings(value),
                    other => {
                        return Err(params::parse_exception(format!("Unknown key for a VALUE_STRING in [{other}].")));
                    }
                }
            }
        }
        _ => {
            return Err(params::parse_exception(
                "Expected one of [VALUE_BOOLEAN, VALUE_STRING, START_ARRAY, START_OBJECT] but found [VALUE_NUMBER]",
            ));
        }
    }
    Ok(filter)
}

/// Splits `stored_fields` into real fields; and whether `_source` is among them.
pub(super) fn stored_fields(list: Vec<String>) -> (Vec<String>, bool) {
    let source = list.iter().any(|f| f == "_source");
    (list.into_iter().filter(|f| f != "_source" && f != "_none_").collect(), source)
}

/// What a get wants, from the query string.
pub(super) fn get_request(request: &Request) -> ApiResult<GetRequest> {
    let stored = params::list(request, "stored_fields");
    let filter = source_filter(request)?;
    let (fields, source_too) = stored.clone().map(stored_fields).unwrap_or_default();
    let source = match filter {
        Some(filter) => filter,
        None => SourceFilter { disabled: stored.is_some() && !source_too, ..SourceFilter::default() },
    };
    Ok(GetRequest {
        id: request.param("id").unwrap_or("").to_owned(),
        routing: request.param("routing").map(str::to_owned),
        realtime: flag(request, "realtime", true)?,
        refresh: flag(request, "refresh", false)?,
        version: VersionParams::of(request)?.for_read(),
        source,
        stored_fields: fields,
    })
}

async fn get_one(
    backend: &SharedBackend,
    request: &Request,
    wanted: GetRequest,
) -> ApiResult<(Arc<IndexMetadata>, GetResult)> {
    let state = backend.state();
    let index = resolve::resolve_single(&state, request.param("index").unwrap_or(""), backend.now_ms())?;
    block::check(&state, &index, Level::Read)?;
    let (shard, wanted) = place_get(&index, request.param("index").unwrap_or(""), wanted)?;
    let mut results = ask(backend, &index, shard, vec![wanted]).await?;
    let result = results.pop().ok_or_else(|| ApiError::new(500, "illegal_state_exception", "no answer to a get"))??;
    Ok((index, result))
}

pub(super) fn place_get(index: &IndexMetadata, name: &str, mut wanted: GetRequest) -> ApiResult<(u32, GetRequest)> {
    if wanted.routing.is_none()
        && let Some(alias) = index.aliases.get(name)
    {
        wanted.routing.clone_from(&alias.search_routing);
    }
    if wanted.routing.is_none() && routing_required(index) {
        return Err(routing_missing(index, &wanted.id));
    }
    // An unrefreshed document still has its bytes, but what the mapping does not keep is not given.
    if index.mapping.get("_source").and_then(|s| s.get("enabled")).is_some_and(|v| *v == false) {
        wanted.source.disabled = true;
    }
    let shard = routing::shard_of(index, &wanted.id, wanted.routing.as_deref());
    Ok((shard, wanted))
}

pub(super) async fn ask(
    backend: &SharedBackend,
    index: &IndexMetadata,
    shard: u32,
    wanted: Vec<GetRequest>,
) -> ApiResult<Vec<Result<GetResult, ApiError>>> {
    let id = ShardId { index: index.name.as_str().into(), uuid: index.uuid.as_str().into(), shard };
    match backend.shard(&id, ShardRequest::Get(wanted)).await? {
        ShardResponse::Get(results) => Ok(results),
        _ => Err(ApiError::new(500, "illegal_state_exception", "a get was answered by something else")),
    }
}

/// `GET|HEAD /{index}/_doc/{id}`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let wanted = get_request(&request)?;
    let id = wanted.id.clone();
    let (index, result) = get_one(backend, &request, wanted).await?;
    let mut out = Vec::with_capacity(256);
    write_get(&mut out, &index.name, request.param("type").unwrap_or("_doc"), &id, &result);
    let status = if result.found { 200 } else { 404 };
    Ok(Response { status, content: Content::RawJson(out.into()), headers: Vec::new() })
}

pub(super) fn write_get(out: &mut Vec<u8>, index: &str, kind: &str, id: &str, result: &GetResult) {
    let mut object = ObjectOut::begin(out);
    object.field("_index", index);
    object.field("_type", kind);
    object.field("_id", id);
    if result.found {
        object.field("_version", &result.version);
        object.field("_seq_no", &result.seq_no);
        object.field("_primary_term", &result.term);
        if let Some(routing) = &result.routing {
            object.field("_routing", routing);
        }
    }
    object.field("found", &result.found);
    if let Some(source) = &result.source {
        object.raw("_source", source);
    }
    if let Some(fields) = result.fields.as_ref().filter(|f| !f.is_empty()) {
        object.field("fields", fields);
    }
    object.end();
}

/// `GET|HEAD /{index}/_source/{id}`
pub async fn get_source(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut wanted = get_request(&request)?;
    if wanted.source.disabled {
        return Err(ApiError::validation(&["fetching source can not be disabled".to_owned()]));
    }
    wanted.stored_fields.clear();
    let id = wanted.id.clone();
    let (index, result) = get_one(backend, &request, wanted).await?;
    let kind = request.param("type").unwrap_or("_doc");
    match result.source {
        Some(source) => Ok(Response { status: 200, content: Content::RawJson(source), headers: Vec::new() }),
        None if result.found => Err(ApiError::new(
            404,
            "resource_not_found_exception",
            format!("Source not found [{}]/[{kind}]/[{id}]", index.name),
        )),
        None => Err(ApiError::new(
            404,
            "resource_not_found_exception",
            format!("Document not found [{}]/[{kind}]/[{id}]", index.name),
        )),
    }
}

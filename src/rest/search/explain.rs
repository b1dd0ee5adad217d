//! `_explain`: why a document matches, and its score.

use std::sync::Arc;

use bytes::Bytes;
use ringdex_engine::query::QueryKind;
use serde_json::{Value, json};

use super::query_only;
use crate::backend::SharedBackend;
use crate::coordinate::search::alias_filter;
use crate::coordinate::{routing, write};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve;
use crate::rest::document::encode;
use crate::rest::indices::lifecycle::shard_id;
use crate::rest::params;
use crate::rest::request::{Body, Content, Method, Request, Response};
use crate::shard::message::{ShardRequest, ShardResponse};

/// `GET|POST /{index}/_explain/{id}`
pub async fn explain(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let query = query_only(backend, &mut request).await?;
    let Some(mut query) = query else { return Err(ApiError::validation(&["query is missing".to_owned()])) };
    let state = backend.state();
    let name = request.param("index").unwrap_or("").to_owned();
    let id = request.param("id").unwrap_or("").to_owned();
    let index = resolve::resolve_single(&state, &name, backend.now_ms())?;
    let routing_value = request
        .param("routing")
        .map(str::to_owned)
        .or_else(|| index.aliases.get(&name).and_then(|a| a.search_routing.clone()));
    if routing_value.is_none() && write::routing_required(&index) {
        return Err(write::routing_missing(&index, &id));
    }
    if let Some(filter) = alias_filter(&index, std::slice::from_ref(&name))? {
        query = QueryKind::Bool {
            must: vec![query],
            filter: vec![filter],
            should: Vec::new(),
            must_not: Vec::new(),
            minimum_should_match: None,
        }
        .into();
    }
    let shard = routing::shard_of(&index, &id, routing_value.as_deref());
    let message = ShardRequest::Explain { id: id.clone(), query: Arc::new(query), now_ms: backend.now_ms() };
    let answer = backend.shard(&shard_id(&index, shard), message).await?;
    let ShardResponse::Explain(explained) = answer else {
        return Err(ApiError::new(500, "illegal_state_exception", "an explanation was answered by something else"));
    };
    let kind = request.param("type").unwrap_or("_doc");
    let mut out = json!({ "_index": index.name, "_type": kind, "_id": id });
    let status = match explained {
        None => {
            out["matched"] = false.into();
            404
        }
        Some((matched, explanation)) => {
            out["matched"] = matched.into();
            out["explanation"] = explanation;
            200
        }
    };
    let filter = crate::rest::document::source_filter(&request)?;
    if status == 200 && (filter.is_some() || request.param("stored_fields").is_some()) {
        out["get"] = explained_get(backend, &request, &index.name, &id).await?;
    }
    Ok(Response::json(status, out))
}

async fn explained_get(backend: &SharedBackend, request: &Request, index: &str, id: &str) -> ApiResult<Value> {
    let mut own = Request {
        method: Method::Get,
        segments: Vec::new(),
        path: format!("/{}/_doc/{}", encode(index), encode(id)),
        params: request
            .params
            .iter()
            .filter(|(n, _)| n.starts_with("_source") || matches!(n.as_str(), "stored_fields" | "routing"))
            .cloned()
            .collect(),
        headers: Vec::new(),
        body: Body::Full(Bytes::new()),
        task: None,
    };
    own.params.push(("index".into(), index.to_owned()));
    own.params.push(("id".into(), id.to_owned()));
    let answer = crate::rest::document::get(backend, own).await?;
    let Content::RawJson(bytes) = answer.content else { return Ok(Value::Null) };
    let mut value = params::parse_json(&bytes)?;
    if let Value::Object(map) = &mut value {
        map.retain(|k, _| !matches!(k.as_str(), "_index" | "_type" | "_id" | "_version"));
    }
    Ok(value)
}

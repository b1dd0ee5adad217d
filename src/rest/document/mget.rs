//! `_mget`: several documents at once.

use std::sync::Arc;

use ringdex_engine::search::SourceFilter;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::Value;

use super::get::{ask, get_request, place_get, source_filter_value, stored_fields, write_get};
use super::version::{VersionKind, VersionParams};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::resolve;
use crate::rest::params;
use crate::rest::raw::ObjectOut;
use crate::rest::request::{Content, Request, Response};
use crate::shard::message::{GetRequest, GetResult};

struct MultiGet {
    index: Option<String>,
    kind: Option<String>,
    request: GetRequest,
}

/// `GET|POST [/{index}]/_mget`
pub async fn mget(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::required_json(&mut request).await?;
    let items = parse_mget(&request, &body)?;
    let mut problems = Vec::new();
    if items.is_empty() {
        problems.push("no documents to get".to_owned());
    }
    for (i, item) in items.iter().enumerate() {
        if item.index.is_none() {
            problems.push(format!("index is missing for doc {i}"));
        }
        if item.request.id.is_empty() {
            problems.push(format!("id is missing for doc {i}"));
        }
    }
    if !problems.is_empty() {
        return Err(ApiError::validation(&problems));
    }
    let state = backend.state();
    let mut answers: Vec<Option<Result<(String, GetResult), ApiError>>> = items.iter().map(|_| None).collect();
    let mut groups: std::collections::BTreeMap<(String, u32), (Arc<IndexMetadata>, Vec<(usize, GetRequest)>)> =
        Default::default();
    let names: Vec<(String, Option<String>, String)> =
        items.iter().map(|i| (i.index.clone().unwrap_or_default(), i.kind.clone(), i.request.id.clone())).collect();
    for (at, item) in items.into_iter().enumerate() {
        let name = &names[at].0;
        let placed = resolve::resolve_single(&state, name, backend.now_ms()).and_then(|index| {
            block::check(&state, &index, Level::Read)?;
            place_get(&index, name, item.request).map(|(shard, wanted)| (index, shard, wanted))
        });
        match placed {
            Ok((index, shard, wanted)) => {
                groups.entry((index.name.clone(), shard)).or_insert_with(|| (index, Vec::new())).1.push((at, wanted));
            }
            Err(error) => answers[at] = Some(Err(error)),
        }
    }
    type Answers = (String, Vec<usize>, Vec<Result<GetResult, ApiError>>);
    let futures: Vec<crate::backend::LocalFuture<'_, Answers>> = groups
        .into_iter()
        .map(|((_, shard), (index, wanted))| {
            Box::pin(async move {
                let (places, wanted): (Vec<usize>, Vec<GetRequest>) = wanted.into_iter().unzip();
                let results = match ask(backend, &index, shard, wanted).await {
                    Ok(results) => results,
                    Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
                };
                (index.name.clone(), places, results)
            }) as crate::backend::LocalFuture<'_, _>
        })
        .collect();
    for (index, places, results) in crate::coordinate::join::all(futures).await {
        for (at, result) in places.into_iter().zip(results) {
            answers[at] = Some(result.map(|r| (index.clone(), r)));
        }
    }
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"docs\":[");
    for (i, (answer, (name, kind, id))) in answers.into_iter().zip(&names).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match answer {
            Some(Ok((index, result))) => {
                write_get(&mut out, &index, kind.as_deref().unwrap_or("_doc"), id, &result);
            }
            Some(Err(error)) => {
                let mut object = ObjectOut::begin(&mut out);
                object.field("_index", name);
                object.field("_type", kind);
                object.field("_id", id);
                object.field("error", &error.to_body()["error"]);
                object.end();
            }
            None => {}
        }
    }
    out.extend_from_slice(b"]}");
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers: Vec::new() })
}

fn parse_mget(request: &Request, body: &Value) -> ApiResult<Vec<MultiGet>> {
    let defaults = get_request(request)?;
    let index = request.param("index").map(str::to_owned);
    let kind = request.param("type").map(str::to_owned);
    let map = params::object(body, "multi get body")?;
    let mut items = Vec::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("ids", Value::Array(ids)) => {
                for id in ids {
                    if id.is_object() || id.is_array() {
                        return Err(ApiError::illegal_argument("ids array element should only contain ids"));
                    }
                    let id = if id.is_null() { String::new() } else { params::text(id) };
                    items.push(MultiGet {
                        index: index.clone(),
                        kind: kind.clone(),
                        request: GetRequest { id, ..defaults.clone() },
                    });
                }
            }
            ("docs", Value::Array(docs)) => {
                for doc in docs {
                    let Value::Object(doc) = doc else {
                        return Err(ApiError::illegal_argument("docs array element should include an object"));
                    };
                    items.push(parse_mget_doc(doc, &index, &kind, &defaults)?);
                }
            }
            (other, Value::Array(_)) => {
                return Err(params::parse_exception(format!(
                    "unknown key [{other}] for a START_ARRAY, expected [docs] or [ids]"
                )));
            }
            (other, _) => {
                return Err(params::parse_exception(format!(
                    "unexpected token [{}], expected [FIELD_NAME] or [START_ARRAY] for [{other}]",
                    "START_OBJECT"
                )));
            }
        }
    }
    Ok(items)
}

fn parse_mget_doc(
    doc: &serde_json::Map<String, Value>,
    index: &Option<String>,
    kind: &Option<String>,
    defaults: &GetRequest,
) -> ApiResult<MultiGet> {
    let mut item = MultiGet { index: index.clone(), kind: kind.clone(), request: defaults.clone() };
    item.request.id.clear();
    let mut versions = VersionParams::default();
    let mut own_source = false;
    for (key, value) in doc {
        match key.as_str() {
            "_index" => item.index = Some(params::text(value)),
            "_type" => item.kind = Some(params::text(value)),
            "_id" => item.request.id = if value.is_null() { String::new() } else { params::text(value) },
            "routing" | "_routing" => {
                item.request.routing = (!value.is_null()).then(|| params::text(value));
            }
            "_source" => {
                item.request.source = source_filter_value(value)?;
                own_source = true;
            }
            "stored_fields" => {
                let (fields, source) = stored_fields(params::strings(value));
                item.request.stored_fields = fields;
                if !own_source {
                    item.request.source = SourceFilter { disabled: !source, ..SourceFilter::default() };
                }
            }
            "version" | "_version" => versions.version = value.as_i64().or_else(|| value.as_str()?.parse().ok()),
            "version_type" | "_version_type" => versions.kind = VersionKind::parse(&params::text(value))?,
            "fields" => {
                return Err(ApiError::illegal_argument(
                    "Unsupported field [fields] used, expected [stored_fields] instead",
                ));
            }
            other => {
                return Err(params::parse_exception(format!("unknown key [{other}] in multi get item")));
            }
        }
    }
    if versions.version.is_some() {
        item.request.version = versions.for_read();
    }
    Ok(item)
}

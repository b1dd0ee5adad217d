//! One document at a time: `_doc`, `_create`, `_update`, `_source`, and `_mget`.

mod get;
mod mget;
mod update;
mod version;

use super::params::{self, flag};
use super::raw::{ObjectOut, json};
use super::request::{Content, Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::write::{ClientKind, ClientOp, Written, write};
use crate::error::{ApiError, ApiResult};
use crate::memory::{OPERATION_BYTES, too_many_writes};
use crate::shard::message::{VersionMatch, WriteOutcome};
pub use get::{get, get_source, source_filter, source_filter_value};
pub use mget::mget;
pub use update::{ParsedUpdate, check_update, parse_update, raw_members, update, update_get};
pub use version::{VersionKind, VersionParams, check_id, check_index_op, write_options};

/// `PUT|POST /{index}/_doc[/{id}]`
pub async fn index(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let create = match request.param("op_type") {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("index") => false,
        Some(word) if word.eq_ignore_ascii_case("create") => true,
        Some(other) => {
            return Err(ApiError::illegal_argument(format!("opType must be 'create' or 'index', found: [{other}]")));
        }
    };
    put(backend, request, create).await
}

/// `PUT|POST /{index}/_create/{id}`
pub async fn create(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    if let Some(word) = request.param("op_type")
        && !word.eq_ignore_ascii_case("create")
    {
        return Err(ApiError::illegal_argument(format!("opType must be 'create', found: [{word}]")));
    }
    put(backend, request, true).await
}

async fn put(backend: &SharedBackend, mut request: Request, create: bool) -> ApiResult<Response> {
    let source = params::body_bytes(&mut request).await?;
    let typed = request.param("type").map(str::to_owned);
    let id = request.param("id").map(str::to_owned);
    let versions = VersionParams::of(&request)?;
    let mut problems = Vec::new();
    let condition = check_index_op(id.as_deref(), create, &versions, typed.is_some(), &mut problems);
    let kind = ClientKind::Index { source, create };
    one(backend, &request, id, condition, kind, problems, typed).await
}

/// `DELETE /{index}/_doc/{id}`
pub async fn delete(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let typed = request.param("type").map(str::to_owned);
    let id = request.param("id").map(str::to_owned);
    let mut problems = Vec::new();
    let condition = VersionParams::of(&request)?.check(typed.is_some(), &mut problems);
    one(backend, &request, id, condition, ClientKind::Delete, problems, typed).await
}

async fn one(
    backend: &SharedBackend,
    request: &Request,
    id: Option<String>,
    condition: VersionMatch,
    kind: ClientKind,
    problems: Vec<String>,
    typed: Option<String>,
) -> ApiResult<Response> {
    if !problems.is_empty() {
        return Err(ApiError::validation(&problems));
    }
    let options = write_options(request)?;
    let updates = matches!(kind, ClientKind::Update(_));
    let wants_get = matches!(&kind, ClientKind::Update(u) if u.source.is_some());
    let op = ClientOp {
        index: request.param("index").unwrap_or("").to_owned(),
        id,
        routing: request.param("routing").map(str::to_owned),
        condition,
        kind,
        require_alias: flag(request, "require_alias", false)?,
        pipeline: request.param("pipeline").map(str::to_owned),
    };
    let routing = op.routing.clone();
    let bytes = OPERATION_BYTES
        + match &op.kind {
            ClientKind::Index { source, .. } => source.len() as u64,
            ClientKind::Update(update) => update.doc.as_ref().map_or(0, |doc| doc.len()) as u64,
            ClientKind::Delete => 0,
        };
    let _held = backend.memory().writes.take(bytes).map_err(|e| too_many_writes(bytes, e))?;
    let written = write(backend, vec![op], &options).await.pop().expect("one operation, one result");
    let result = match &written.result {
        Ok(result) => result,
        Err(error) => return Err(error.clone()),
    };
    let status = status_of(result.outcome);
    let mut out = Vec::with_capacity(256);
    let mut object = ObjectOut::begin(&mut out);
    write_members(&mut object, &written, typed.as_deref());
    if typed.is_some() {
        object.field("created", &(result.outcome == WriteOutcome::Created));
    }
    if updates
        && wants_get
        && let Some(get) = &result.get
    {
        update_get(&mut object, get);
    }
    object.end();
    let mut headers = Vec::new();
    if result.outcome == WriteOutcome::Created {
        let kind = typed.as_deref().unwrap_or("_doc");
        let mut location = format!("/{}/{kind}/{}", encode(&written.index), encode(&written.id));
        if let Some(routing) = routing {
            location.push_str(&format!("?routing={}", encode(&routing)));
        }
        headers.push(("Location".into(), location));
    }
    Ok(Response { status, content: Content::RawJson(out.into()), headers })
}

/// Percent-encodes what may not stand in a path segment.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The status of a successful write.
#[must_use]
pub fn status_of(outcome: WriteOutcome) -> u16 {
    match outcome {
        WriteOutcome::Created => 201,
        WriteOutcome::NotFound => 404,
        _ => 200,
    }
}

/// The word in `result`.
#[must_use]
pub fn outcome_name(outcome: WriteOutcome) -> &'static str {
    match outcome {
        WriteOutcome::Created => "created",
        WriteOutcome::Updated => "updated",
        WriteOutcome::Deleted => "deleted",
        WriteOutcome::NotFound => "not_found",
        WriteOutcome::Noop => "noop",
    }
}

/// `_index` to `_primary_term` of a successful write.
pub fn write_members(object: &mut ObjectOut<'_>, written: &Written, typed: Option<&str>) {
    let Ok(result) = &written.result else { return };
    object.field("_index", &written.index);
    object.field("_type", typed.unwrap_or("_doc"));
    object.field("_id", &written.id);
    object.field("_version", &result.version);
    object.field("result", outcome_name(result.outcome));
    if written.forced_refresh {
        object.field("forced_refresh", &true);
    }
    let noop = result.outcome == WriteOutcome::Noop;
    let (total, successful) = if noop { (0, 0) } else { (written.copies, written.successful) };
    object.field("_shards", &serde_json::json!({ "total": total, "successful": successful, "failed": 0 }));
    object.field("_seq_no", &result.seq_no);
    object.field("_primary_term", &result.term);
    if let (Some(copies), Some(location)) = (written.fsynced, result.location) {
        let position = format!("{}:{}", location.generation, location.ordinal);
        object.field("durability", &serde_json::json!({ "fsynced_copies": copies, "log_position": position }));
    }
}

/// An error as a member of a list of results.
pub fn error_cause(out: &mut Vec<u8>, error: &ApiError) {
    json(out, &error.to_cause());
}

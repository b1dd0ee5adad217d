//! One document at a time: `_doc`, `_create`, `_update`, `_source`, and `_mget`.

use std::sync::Arc;

use bytes::Bytes;
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::search::SourceFilter;
use ringdex_net::cluster::state::IndexMetadata;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::params::{self, flag, long};
use super::raw::{ObjectOut, json};
use super::request::{Content, Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::routing;
use crate::coordinate::write::{ClientKind, ClientOp, WriteOptions, Written, routing_missing, routing_required, write};
use crate::error::{ApiError, ApiResult};
use crate::memory::{OPERATION_BYTES, too_many_writes};
use crate::metadata::block::{self, Level};
use crate::metadata::resolve;
use crate::shard::message::{
    GetRequest, GetResult, ShardId, ShardRequest, ShardResponse, UpdateOp, VersionMatch, WriteOutcome,
};

/// Versioning as the client wrote it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VersionParams {
    /// `version`
    pub version: Option<i64>,
    /// `version_type`
    pub kind: VersionKind,
    /// `if_seq_no`
    pub if_seq_no: Option<i64>,
    /// `if_primary_term`
    pub if_primary_term: Option<i64>,
}

/// `version_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionKind {
    /// Counted by us.
    #[default]
    Internal,
    /// `external`, `external_gt`
    External,
    /// `external_gte`
    ExternalGte,
}

impl VersionKind {
    /// Reads `version_type`.
    pub fn parse(text: &str) -> ApiResult<VersionKind> {
        match text {
            "internal" => Ok(VersionKind::Internal),
            "external" | "external_gt" => Ok(VersionKind::External),
            "external_gte" => Ok(VersionKind::ExternalGte),
            other => Err(ApiError::illegal_argument(format!("No version type match [{other}]"))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            VersionKind::Internal => "INTERNAL",
            VersionKind::External => "EXTERNAL",
            VersionKind::ExternalGte => "EXTERNAL_GTE",
        }
    }
}

impl VersionParams {
    /// From the query string.
    pub fn of(request: &Request) -> ApiResult<VersionParams> {
        Ok(VersionParams {
            version: long(request, "version")?,
            kind: request.param("version_type").map_or(Ok(VersionKind::Internal), VersionKind::parse)?,
            if_seq_no: non_negative(long(request, "if_seq_no")?, "sequence numbers must be non negative. got")?,
            if_primary_term: non_negative(long(request, "if_primary_term")?, "primary term must be non negative. got")?,
        })
    }

    /// Checks what a write may ask for; `problems` collects what it may not. `typed`: internal versions are compared.
    pub fn check(&self, typed: bool, problems: &mut Vec<String>) -> VersionMatch {
        let seq_no = self.if_seq_no;
        let term = self.if_primary_term.filter(|t| *t != 0);
        if let Some(version) = self.version {
            let legal = match self.kind {
                VersionKind::Internal => version > 0,
                VersionKind::External | VersionKind::ExternalGte => version >= 0,
            };
            if !legal {
                problems.push(format!("illegal version value [{version}] for version type [{}]", self.kind.name()));
            } else if self.kind == VersionKind::Internal && !typed {
                problems.push("internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead".to_owned());
            }
        } else if self.kind != VersionKind::Internal {
            problems.push(format!("illegal version value [-3] for version type [{}]", self.kind.name()));
        }
        if seq_no.is_some() && (self.version.is_some() || self.kind != VersionKind::Internal) {
            problems.push("compare and write operations can not use versioning".to_owned());
        }
        match (seq_no, term) {
            (Some(_), None) => problems.push("ifSeqNo is set, but primary term is [0]".to_owned()),
            (None, Some(term)) => problems.push(format!("ifSeqNo is unassigned, but primary term is [{term}]")),
            _ => {}
        }
        match (seq_no, term, self.version, self.kind) {
            (Some(seq_no), Some(term), ..) => VersionMatch::SeqNo(SeqNo(seq_no), PrimaryTerm(term as u64)),
            (_, _, Some(version), VersionKind::External) => VersionMatch::External(Version(version as u64)),
            (_, _, Some(version), VersionKind::ExternalGte) => VersionMatch::ExternalGte(Version(version as u64)),
            (_, _, Some(version), VersionKind::Internal) => VersionMatch::Internal(Version(version as u64)),
            _ => VersionMatch::Any,
        }
    }

    /// For reads every kind means equality.
    #[must_use]
    pub fn for_read(&self) -> VersionMatch {
        self.version.map_or(VersionMatch::Any, |v| VersionMatch::Internal(Version(v.max(0) as u64)))
    }
}

fn non_negative(value: Option<i64>, text: &str) -> ApiResult<Option<i64>> {
    match value {
        Some(v) if v < 0 => Err(ApiError::illegal_argument(format!("{text} [{v}]."))),
        other => Ok(other),
    }
}

/// Further checks of one index operation.
pub fn check_index_op(
    id: Option<&str>,
    create: bool,
    versions: &VersionParams,
    typed: bool,
    problems: &mut Vec<String>,
) -> VersionMatch {
    if create {
        if versions.kind != VersionKind::Internal {
            problems.push("create operations only support internal versioning. use index instead".to_owned());
            return VersionMatch::Any;
        }
        if versions.version.is_some() && !typed {
            problems.push("create operations do not support explicit versions. use index instead".to_owned());
            return VersionMatch::Any;
        }
        if versions.if_seq_no.is_some() || versions.if_primary_term.is_some_and(|t| t != 0) {
            problems.push("create operations do not support compare and set. use index instead".to_owned());
            return VersionMatch::Any;
        }
    }
    if id.is_none() && (versions.kind != VersionKind::Internal || versions.version.is_some()) {
        problems.push("an id must be provided if version type or value are set".to_owned());
    }
    let condition = versions.check(typed, problems);
    check_id(id, problems);
    condition
}

/// Ids have at most 512 bytes.
pub fn check_id(id: Option<&str>, problems: &mut Vec<String>) {
    if let Some(id) = id
        && id.len() > 512
    {
        problems.push(format!("id [{id}] is too long, must be no longer than 512 bytes but was: {}", id.len()));
    }
}

/// Everything about a write that stands in the query string.
pub fn write_options(request: &Request) -> ApiResult<WriteOptions> {
    let typed = request.param("type").is_some();
    let timeout_ms = match request.param("timeout") {
        None => 60_000,
        Some(text) if typed && text.parse::<u32>().is_ok() => text.parse::<i64>().unwrap_or(0) * 1000,
        Some(text) => params::parse_time(text, "timeout")?,
    };
    let mut active = params::active_shards(request)?;
    if let Some(word) = request.param("consistency") {
        active = match word {
            "one" | "default" | "quorum" => params::ActiveShards::Default,
            "all" => params::ActiveShards::All,
            other => return Err(ApiError::illegal_argument(format!("No write consistency match [{other}]"))),
        };
    }
    let wait_for_sync = match request.param("durability") {
        None => None,
        Some("request") => Some(true),
        Some("async") => Some(false),
        Some(other) => {
            return Err(ApiError::illegal_argument(format!(
                "Unknown value for durability: [{other}], must be one of [request, async]"
            )));
        }
    };
    Ok(WriteOptions { refresh: params::refresh(request)?, active, timeout_ms, wait_for_sync })
}

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

/// `POST /{index}/_update/{id}`
pub async fn update(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let typed = request.param("type").map(str::to_owned);
    let id = request.param("id").map(str::to_owned);
    let body = params::body_bytes(&mut request).await?;
    let mut versions = VersionParams::of(&request)?;
    let mut parsed = parse_update(&body)?;
    versions.if_seq_no = parsed.if_seq_no.or(versions.if_seq_no);
    versions.if_primary_term = parsed.if_primary_term.or(versions.if_primary_term);
    let mut problems = Vec::new();
    if versions.version.is_some() && typed.is_none() || versions.kind != VersionKind::Internal {
        problems.push("internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead".to_owned());
        return Err(ApiError::validation(&problems));
    }
    parsed.op.retry_on_conflict = params::int(&request, "retry_on_conflict")?.unwrap_or(0).max(0) as u32;
    if let Some(filter) = source_filter(&request)? {
        parsed.op.source = (!filter.disabled).then_some(filter);
    }
    let condition = versions.check(typed.is_some(), &mut problems);
    check_update(&parsed, &versions, &mut problems);
    if request.param("doc_as_upsert").is_some() {
        parsed.op.doc_as_upsert = flag(&request, "doc_as_upsert", false)?;
    }
    one(backend, &request, id, condition, ClientKind::Update(Box::new(parsed.op)), problems, typed).await
}

/// What an `_update` body says.
#[derive(Debug, Default)]
pub struct ParsedUpdate {
    /// The operation.
    pub op: UpdateOp,
    /// `if_seq_no` in the body.
    pub if_seq_no: Option<i64>,
    /// `if_primary_term` in the body.
    pub if_primary_term: Option<i64>,
}

/// Reads an `_update` body; `doc` and `upsert` keep their bytes.
pub fn parse_update(body: &Bytes) -> ApiResult<ParsedUpdate> {
    let members = raw_members(body)?;
    let mut parsed = ParsedUpdate::default();
    parsed.op.detect_noop = true;
    for (key, raw) in members {
        let value = || params::parse_json(raw.get().as_bytes());
        let part = || body.slice_ref(raw.get().as_bytes());
        let object = |raw: &RawValue| {
            if raw.get().starts_with('{') {
                Ok(part())
            } else {
                Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [UpdateRequest] {key} doesn't support values of type: VALUE"),
                ))
            }
        };
        match key.as_ref() {
            "doc" => parsed.op.doc = Some(object(raw)?),
            "upsert" => parsed.op.upsert = Some(object(raw)?),
            "doc_as_upsert" => parsed.op.doc_as_upsert = params::boolean(&value()?)?,
            "detect_noop" => parsed.op.detect_noop = params::boolean(&value()?)?,
            "_source" => {
                let filter = source_filter_value(&value()?)?;
                parsed.op.source = (!filter.disabled).then_some(filter);
            }
            "if_seq_no" => parsed.if_seq_no = value()?.as_i64(),
            "if_primary_term" => parsed.if_primary_term = value()?.as_i64(),
            "script" | "scripted_upsert" => {
                return Err(ApiError::illegal_argument("cannot execute [update] scripts"));
            }
            other => {
                let known = [
                    "doc",
                    "upsert",
                    "doc_as_upsert",
                    "detect_noop",
                    "_source",
                    "if_seq_no",
                    "if_primary_term",
                    "script",
                    "scripted_upsert",
                ];
                let hint = match super::router::similar(other, &known).as_slice() {
                    [] => String::new(),
                    [one] => format!(" did you mean [{one}]?"),
                    many => format!(" did you mean any of [{}]?", many.join(", ")),
                };
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [UpdateRequest] unknown field [{other}]{hint}"),
                ));
            }
        }
    }
    Ok(parsed)
}

/// The members of an object, unparsed.
pub fn raw_members(body: &[u8]) -> ApiResult<Vec<(std::borrow::Cow<'_, str>, &RawValue)>> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(std::borrow::Cow<'de, str>, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = Vec::new();
            while let Some(key) = map.next_key::<Key<'de>>()? {
                out.push((key.0, map.next_value::<&'de RawValue>()?));
            }
            Ok(out)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let members =
        serde::Deserializer::deserialize_map(&mut reader, Members).map_err(|e| params::json_error(&e, body))?;
    reader.end().map_err(|e| params::json_error(&e, body))?;
    Ok(members)
}

/// A key that borrows when it has no escapes.
struct Key<'a>(std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key<'de>, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Checks how the parts of an update go together.
pub fn check_update(parsed: &ParsedUpdate, versions: &VersionParams, problems: &mut Vec<String>) {
    if versions.if_seq_no.is_some() {
        if parsed.op.retry_on_conflict > 0 {
            problems.push("compare and write operations can not be retried".to_owned());
        }
        if parsed.op.doc_as_upsert {
            problems.push("compare and write operations can not be used with upsert".to_owned());
        }
        if parsed.op.upsert.is_some() {
            problems.push("upsert requests do not support `if_seq_no` and `if_primary_term`".to_owned());
        }
    }
    if parsed.op.doc.is_none() {
        problems.push("script or doc is missing".to_owned());
        if parsed.op.doc_as_upsert {
            problems.push("doc must be specified if doc_as_upsert is enabled".to_owned());
        }
    }
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
        headers.push(("Location", location));
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
}

/// The `get` part of an update's answer.
pub fn update_get(object: &mut ObjectOut<'_>, get: &GetResult) {
    let out = object.key("get");
    let mut inner = ObjectOut::begin(out);
    inner.field("_seq_no", &get.seq_no);
    inner.field("_primary_term", &get.term);
    inner.field("found", &true);
    if let Some(source) = &get.source {
        inner.raw("_source", source);
    }
    inner.end();
}

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
fn stored_fields(list: Vec<String>) -> (Vec<String>, bool) {
    let source = list.iter().any(|f| f == "_source");
    (list.into_iter().filter(|f| f != "_source" && f != "_none_").collect(), source)
}

/// What a get wants, from the query string.
fn get_request(request: &Request) -> ApiResult<GetRequest> {
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

fn place_get(index: &IndexMetadata, name: &str, mut wanted: GetRequest) -> ApiResult<(u32, GetRequest)> {
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

async fn ask(
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

fn write_get(out: &mut Vec<u8>, index: &str, kind: &str, id: &str, result: &GetResult) {
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

/// An error as a member of a list of results.
pub fn error_cause(out: &mut Vec<u8>, error: &ApiError) {
    json(out, &error.to_cause());
}

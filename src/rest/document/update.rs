//! `_update`: its body and its answer.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::get::{source_filter, source_filter_value};
use super::one;
use super::version::{VersionKind, VersionParams};
use crate::backend::SharedBackend;
use crate::coordinate::write::ClientKind;
use crate::error::{ApiError, ApiResult};
use crate::rest::params::{self, flag};
use crate::rest::raw::ObjectOut;
use crate::rest::request::{Request, Response};
use crate::shard::message::{GetResult, UpdateOp};

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
                let hint = match crate::rest::router::similar(other, &known).as_slice() {
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

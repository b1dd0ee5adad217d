//! `_bulk`: many writes as lines of JSON.

use bytes::Bytes;
use ringdex_engine::search::SourceFilter;
use serde_json::Value;

use super::document::{
    ParsedUpdate, VersionKind, VersionParams, check_id, check_index_op, check_update, parse_update, source_filter,
    source_filter_value, status_of, update_get, write_members, write_options,
};
use super::ndjson::Lines;
use super::params::{self, flag};
use super::raw::ObjectOut;
use super::request::{Content, Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::write::{ClientKind, ClientOp, write};
use crate::dsl::token;
use crate::error::{ApiError, ApiResult};
use crate::memory::{OPERATION_BYTES, too_many_writes};

/// What actions inherit from the request.
#[derive(Clone, Debug, Default)]
pub struct BulkDefaults {
    /// Index of the path.
    pub index: Option<String>,
    /// Type of the path.
    pub kind: Option<String>,
    /// `routing`
    pub routing: Option<String>,
    /// `pipeline`
    pub pipeline: Option<String>,
    /// `_source...`
    pub source: Option<SourceFilter>,
    /// `require_alias`
    pub require_alias: bool,
}

/// One parsed item.
#[derive(Clone, Debug)]
pub struct BulkItem {
    /// Key of the item in the answer.
    pub action: &'static str,
    /// Type, if the client gave one.
    pub kind: Option<String>,
    /// What to do.
    pub op: ClientOp,
}

/// Reads a bulk body piece by piece.
pub struct BulkParser {
    defaults: BulkDefaults,
    lines: Lines,
    line: usize,
    pending: Option<Action>,
    items: Vec<BulkItem>,
    problems: Vec<String>,
    /// Some action named a type.
    pub typed: bool,
    any_bytes: bool,
    /// Bytes of the sources of `items`.
    source_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Index,
    Create,
    Update,
    Delete,
}

struct Action {
    verb: Verb,
    index: Option<String>,
    kind: Option<String>,
    id: Option<String>,
    routing: Option<String>,
    versions: VersionParams,
    retry_on_conflict: u32,
    pipeline: Option<String>,
    source: Option<SourceFilter>,
    require_alias: bool,
}

impl BulkParser {
    /// A parser at the first line.
    #[must_use]
    pub fn new(defaults: BulkDefaults) -> BulkParser {
        BulkParser {
            defaults,
            lines: Lines::default(),
            line: 0,
            pending: None,
            items: Vec::new(),
            problems: Vec::new(),
            typed: false,
            any_bytes: false,
            source_bytes: 0,
        }
    }

    /// Takes the next piece of the body.
    pub fn feed(&mut self, piece: &Bytes) -> ApiResult<()> {
        self.any_bytes |= !piece.is_empty();
        let mut lines = std::mem::take(&mut self.lines);
        let result = lines.feed(piece, |line| self.line(line));
        self.lines = lines;
        result
    }

    /// Memory that the items so far take until they are answered.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.source_bytes + self.items.len() as u64 * OPERATION_BYTES
    }

    /// The items, once the body has ended.
    pub fn finish(self) -> ApiResult<Vec<BulkItem>> {
        if !self.any_bytes {
            return Err(params::body_required());
        }
        if !self.lines.rest().is_empty() {
            return Err(ApiError::illegal_argument("The bulk request must be terminated by a newline [\\n]"));
        }
        let mut problems = self.problems;
        if self.items.is_empty() {
            problems.push("no requests added".to_owned());
        }
        if problems.is_empty() { Ok(self.items) } else { Err(ApiError::validation(&problems)) }
    }

    fn line(&mut self, line: Bytes) -> ApiResult<()> {
        self.line += 1;
        match self.pending.take() {
            Some(action) => self.source(action, line),
            None => match self.action(&line)? {
                None => Ok(()),
                Some(action) if action.verb == Verb::Delete => self.add(action, ClientKind::Delete),
                Some(action) => {
                    self.pending = Some(action);
                    Ok(())
                }
            },
        }
    }

    /// Reads an action line; none for a blank one.
    fn action(&mut self, line: &[u8]) -> ApiResult<Option<Action>> {
        let number = self.line;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let malformed = |expected: &str, found: &str| {
            ApiError::illegal_argument(format!(
                "Malformed action/metadata line [{number}], expected {expected} but found [{found}]"
            ))
        };
        let value = params::parse_json(line)?;
        let Value::Object(map) = &value else { return Err(malformed("START_OBJECT", token(&value))) };
        let Some((verb, metadata)) = map.iter().next() else { return Err(malformed("FIELD_NAME", "END_OBJECT")) };
        let verb = match verb.as_str() {
            "index" => Verb::Index,
            "create" => Verb::Create,
            "update" => Verb::Update,
            "delete" => Verb::Delete,
            other => {
                return Err(ApiError::illegal_argument(format!(
                    "Malformed action/metadata line [{number}], expected field [create], [delete], [index] or [update] but found [{other}]"
                )));
            }
        };
        let Value::Object(metadata) = metadata else {
            return Err(malformed("START_OBJECT or END_OBJECT", token(metadata)));
        };
        let mut action = Action {
            verb,
            index: self.defaults.index.clone(),
            kind: self.defaults.kind.clone(),
            id: None,
            routing: self.defaults.routing.clone(),
            versions: VersionParams::default(),
            retry_on_conflict: 0,
            pipeline: self.defaults.pipeline.clone(),
            source: self.defaults.source.clone(),
            require_alias: self.defaults.require_alias,
        };
        for (key, value) in metadata {
            self.metadata(&mut action, key, value)?;
        }
        Ok(Some(action))
    }

    fn metadata(&mut self, action: &mut Action, key: &str, value: &Value) -> ApiResult<()> {
        let number = self.line;
        match value {
            Value::Null => return Ok(()),
            Value::Object(_) if key == "_source" => {}
            Value::Array(_) | Value::Object(_) => {
                return Err(ApiError::illegal_argument(format!(
                    "Malformed action/metadata line [{number}], expected a simple value for field [{key}] but found [{}]",
                    token(value)
                )));
            }
            _ => {}
        }
        let long = || {
            value
                .as_i64()
                .or_else(|| value.as_str().and_then(|s| s.parse().ok()))
                .ok_or_else(|| ApiError::illegal_argument(format!("For input string: \"{}\"", params::text(value))))
        };
        match key {
            "_index" => action.index = Some(params::text(value)),
            "_type" => {
                action.kind = Some(params::text(value));
                self.typed = true;
            }
            "_id" => action.id = Some(params::text(value)),
            "routing" | "_routing" => action.routing = Some(params::text(value)),
            "op_type" => match params::text(value).as_str() {
                "create" if action.verb == Verb::Index => action.verb = Verb::Create,
                "index" if action.verb == Verb::Create => {}
                _ => {}
            },
            "version" | "_version" => action.versions.version = Some(long()?),
            "version_type" | "_version_type" => action.versions.kind = VersionKind::parse(&params::text(value))?,
            "if_seq_no" => action.versions.if_seq_no = Some(long()?),
            "if_primary_term" => action.versions.if_primary_term = Some(long()?),
            "retry_on_conflict" | "_retry_on_conflict" => {
                action.retry_on_conflict = long()?.clamp(0, i64::from(i32::MAX)) as u32
            }
            "pipeline" => action.pipeline = Some(params::text(value)),
            "_source" => action.source = Some(source_filter_value(value)?),
            "require_alias" => action.require_alias = params::boolean(value)?,
            other => {
                return Err(ApiError::illegal_argument(format!(
                    "Action/metadata line [{number}] contains an unknown parameter [{other}]"
                )));
            }
        }
        Ok(())
    }

    fn source(&mut self, action: Action, line: Bytes) -> ApiResult<()> {
        self.source_bytes += line.len() as u64;
        match action.verb {
            Verb::Index | Verb::Create => {
                let line = match line.last() {
                    Some(b'\r') => line.slice(..line.len() - 1),
                    _ => line,
                };
                let create = action.verb == Verb::Create;
                self.add(action, ClientKind::Index { source: line, create })
            }
            Verb::Update => {
                if action.versions.version.is_some() || action.versions.kind != VersionKind::Internal {
                    return Err(ApiError::illegal_argument(
                        "Update requests do not support versioning. Please use `if_seq_no` and `if_primary_term` instead",
                    ));
                }
                let parsed = parse_update(&line)?;
                self.add_update(action, parsed)
            }
            Verb::Delete => unreachable!("a delete has no source line"),
        }
    }

    fn add_update(&mut self, mut action: Action, mut parsed: ParsedUpdate) -> ApiResult<()> {
        action.versions.if_seq_no = action.versions.if_seq_no.or(parsed.if_seq_no);
        action.versions.if_primary_term = action.versions.if_primary_term.or(parsed.if_primary_term);
        parsed.op.retry_on_conflict = action.retry_on_conflict;
        if let Some(filter) = &action.source {
            parsed.op.source = (!filter.disabled).then(|| filter.clone());
        }
        check_update(&parsed, &action.versions, &mut self.problems);
        self.add(action, ClientKind::Update(Box::new(parsed.op)))
    }

    fn add(&mut self, action: Action, kind: ClientKind) -> ApiResult<()> {
        let typed = false;
        let condition = match &kind {
            ClientKind::Index { create, .. } => {
                check_index_op(action.id.as_deref(), *create, &action.versions, typed, &mut self.problems)
            }
            _ => {
                check_id(action.id.as_deref(), &mut self.problems);
                action.versions.check(typed, &mut self.problems)
            }
        };
        if action.id.as_deref().is_none_or(str::is_empty) && !matches!(kind, ClientKind::Index { .. }) {
            self.problems.push("id is missing".to_owned());
        }
        if action.index.is_none() {
            self.problems.push("index is missing".to_owned());
        }
        let name = match action.verb {
            Verb::Index => "index",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
        };
        let op = ClientOp {
            index: action.index.unwrap_or_default(),
            id: action.id,
            routing: action.routing,
            condition,
            kind,
            require_alias: action.require_alias,
            pipeline: action.pipeline,
        };
        self.items.push(BulkItem { action: name, kind: action.kind, op });
        Ok(())
    }
}

/// `POST|PUT [/{index}]/_bulk`
pub async fn bulk(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let options = write_options(&request)?;
    let mut parser = BulkParser::new(BulkDefaults {
        index: request.param("index").map(str::to_owned),
        kind: request.param("type").map(str::to_owned),
        routing: request.param("routing").map(str::to_owned),
        pipeline: request.param("pipeline").map(str::to_owned),
        source: source_filter(&request)?,
        require_alias: flag(&request, "require_alias", false)?,
    });
    let mut held = backend.memory().writes.take(0).expect("nothing is always there");
    while let Some(piece) = request.body.next().await? {
        parser.feed(&piece)?;
        let (before, bytes) = (held.bytes(), parser.bytes());
        held.resize(bytes).map_err(|e| too_many_writes(bytes - before, e))?;
    }
    let mut headers = Vec::new();
    if parser.typed {
        headers.push(super::http::warning("[types removal] Specifying types in bulk requests is deprecated."));
    }
    let items = parser.finish()?;
    if let Some(task) = &request.task {
        task.describe(|| format!("requests[{}], indices[{}]", items.len(), request.param("index").unwrap_or("")));
    }
    let (names, ops): (Vec<(&'static str, Option<String>)>, Vec<ClientOp>) =
        items.into_iter().map(|item| ((item.action, item.kind), item.op)).unzip();
    let results = write(backend, ops, &options).await;
    let errors = results.iter().any(|r| r.result.is_err());
    let took = (backend.monotonic_ns() - start) / 1_000_000;
    let mut out = Vec::with_capacity(64 + results.len() * 192);
    out.extend_from_slice(format!("{{\"took\":{took},\"errors\":{errors},\"items\":[").as_bytes());
    for (i, ((action, kind), written)) in names.iter().zip(&results).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let mut item = ObjectOut::begin(&mut out);
        let mut object = ObjectOut::begin(item.key(action));
        match &written.result {
            Ok(result) => {
                write_members(&mut object, written, kind.as_deref());
                if let Some(get) = &result.get {
                    update_get(&mut object, get);
                }
                object.field("status", &status_of(result.outcome));
            }
            Err(error) => {
                object.field("_index", &written.index);
                object.field("_type", kind.as_deref().unwrap_or("_doc"));
                object.field("_id", &(!written.id.is_empty()).then_some(&written.id));
                object.field("status", &error.status);
                object.field("error", &error.to_cause());
            }
        }
        object.end();
        item.end();
    }
    out.extend_from_slice(b"]}");
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> ApiResult<Vec<BulkItem>> {
        let mut parser = BulkParser::new(BulkDefaults { index: Some("i".into()), ..BulkDefaults::default() });
        parser.feed(&Bytes::copy_from_slice(body.as_bytes()))?;
        parser.finish()
    }

    #[test]
    fn broken_bodies_are_refused_in_the_known_words() {
        for (body, want) in [
            ("", "request body is required"),
            ("\n", "Validation Failed: 1: no requests added;"),
            ("{\"index\":{}}\n{\"a\":1}", "The bulk request must be terminated by a newline [\\n]"),
            (
                "{\"index\":{}}\n{\"a\":1}\n{}\n",
                "Malformed action/metadata line [3], expected FIELD_NAME but found [END_OBJECT]",
            ),
            ("[]\n", "Malformed action/metadata line [1], expected START_OBJECT but found [START_ARRAY]"),
            (
                "{\"index\":1}\n",
                "Malformed action/metadata line [1], expected START_OBJECT or END_OBJECT but found [VALUE_NUMBER]",
            ),
            ("{\"index\":{\"x\":1}}\n", "Action/metadata line [1] contains an unknown parameter [x]"),
            (
                "{\"index\":{\"_id\":[]}}\n",
                "Malformed action/metadata line [1], expected a simple value for field [_id] but found [START_ARRAY]",
            ),
            (
                "{\"zap\":{}}\n",
                "Malformed action/metadata line [1], expected field [create], [delete], [index] or [update] but found [zap]",
            ),
            ("{\"delete\":{}}\n", "Validation Failed: 1: id is missing;"),
            ("{\"update\":{\"_id\":\"1\"}}\n{}\n", "Validation Failed: 1: script or doc is missing;"),
            (
                "{\"update\":{\"_id\":\"1\",\"version\":2}}\n{\"doc\":{}}\n",
                "Update requests do not support versioning. Please use `if_seq_no` and `if_primary_term` instead",
            ),
            (
                "{\"index\":{\"_id\":\"1\",\"version\":2}}\n{}\n",
                "Validation Failed: 1: internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead;",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err().reason, want, "{body}");
        }
    }

    #[test]
    fn sources_keep_their_bytes() {
        let items = parse("{\"index\":{\"_id\":\"1\"}}\n{ \"a\" :  1.0 }\r\n\n{\"delete\":{\"_id\":\"2\"}}\n").unwrap();
        assert_eq!(items.len(), 2);
        let ClientKind::Index { source, create } = &items[0].op.kind else { panic!("{items:?}") };
        assert_eq!((&source[..], *create), (&b"{ \"a\" :  1.0 }"[..], false));
        assert!(matches!(items[1].op.kind, ClientKind::Delete));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut parser = BulkParser::new(BulkDefaults::default());
            let _ = parser.feed(&bytes.into()).and_then(|()| parser.finish());
        }

        #[test]
        fn action_like_lines_never_panic(lines in proptest::collection::vec(
            "\\{\"(index|update|delete|create|x)\":(\\{(\"(_id|_index|version|_source|if_seq_no)\":(\"a\"|1|null|\\[\\]|\\{\\}|true))?\\}|1|null)\\}|\\{\"(doc|upsert|script)\":(\\{\\}|1)\\}|", 0..8)) {
            let _ = parse(&(lines.join("\n") + "\n"));
        }
    }
}

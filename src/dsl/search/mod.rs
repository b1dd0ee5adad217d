//! The body of `_search`, and the parameters of its URL.

mod part;
mod source;

use ringdex_engine::query::{Operator, Query, QueryKind, QueryString};
use ringdex_engine::search::{FetchRequest, FieldRequest, SearchRequest, TrackTotalHits};
use serde_json::{Map, Value};

use super::aggs::parse_aggs;
use super::query::parse_query;
use super::sort::{parse_sort, parse_sort_param};
use super::text::operator_named;
use super::value::{flag, float, int, parsing, required_text, strings, token};
use super::{DslError, DslResult};
use crate::rest::params::{parse_time, split_list};
use part::{field_request, point_in_time, rescore, search_after, slice, stored_fields};
pub use source::{parse_source, source_params};

/// Hits counted exactly when nothing is said.
pub const TRACK_TOTAL_HITS_DEFAULT: u64 = 10_000;

/// A search as its body and parameters describe it.
///
/// The parts that this page does not understand itself stay as JSON for those who do; a caller that does not support
/// one must refuse it ([`SearchBody::unsupported`]).
#[derive(Clone, Debug)]
pub struct SearchBody {
    /// For the query phase. `top` is `from + size`; the caller sets `now_ms`.
    pub request: SearchRequest,
    /// For the fetch phase.
    pub fetch: FetchRequest,
    /// Whether `_source` was asked for or refused in words.
    pub source_given: bool,
    /// Hits to skip.
    pub from: usize,
    /// Hits to give.
    pub size: usize,
    /// Milliseconds the shards may take; none = no limit.
    pub timeout_ms: Option<i64>,
    /// `stored_fields`: none, `_none_`, or names.
    pub stored_fields: StoredFields,
    /// `profile`
    pub profile: bool,
    /// Index patterns and the factors for their scores.
    pub indices_boost: Vec<(String, f32)>,
    /// `stats`: groups to count this search under.
    pub stats: Vec<String>,
    /// `highlight`
    pub highlight: Option<Value>,
    /// `suggest`
    pub suggest: Option<Value>,
    /// `collapse`
    pub collapse: Option<Value>,
    /// `script_fields`
    pub script_fields: Option<Value>,
    /// `slice`
    pub slice: Option<Slice>,
    /// `ext`
    pub ext: Option<Value>,
    /// `pit`: id and keep_alive.
    pub pit: Option<(String, Option<String>)>,
}

/// `slice`: one of several parts of a scroll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What documents are told apart by (`_id`).
    pub field: String,
    /// Which part, from 0.
    pub id: u32,
    /// Of how many.
    pub max: u32,
}

/// What `stored_fields` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoredFields {
    /// Not given.
    #[default]
    Unset,
    /// `_none_`: not even `_id` and `_source`.
    None,
    /// Names and patterns.
    Names(Vec<String>),
}

impl Default for SearchBody {
    fn default() -> SearchBody {
        SearchBody {
            request: SearchRequest {
                query: None,
                post_filter: None,
                top: 10,
                sort: Vec::new(),
                search_after: None,
                track_total_hits: TrackTotalHits::Limit(TRACK_TOTAL_HITS_DEFAULT),
                track_scores: false,
                rescore: Vec::new(),
                min_score: None,
                terminate_after: None,
                aggs: Vec::new(),
                now_ms: 0,
                statistics: None,
            },
            fetch: FetchRequest::default(),
            source_given: false,
            from: 0,
            size: 10,
            timeout_ms: None,
            stored_fields: StoredFields::Unset,
            profile: false,
            indices_boost: Vec::new(),
            stats: Vec::new(),
            highlight: None,
            suggest: None,
            collapse: None,
            script_fields: None,
            slice: None,
            ext: None,
            pit: None,
        }
    }
}

/// Reads a search body; null is an empty one.
pub fn parse_search(json: &Value) -> DslResult<SearchBody> {
    let mut body = SearchBody::default();
    let map = match json {
        Value::Null => return Ok(body),
        Value::Object(map) => map,
        other => return Err(parsing(format!("Expected [START_OBJECT] but found [{}]", token(other)))),
    };
    for (key, value) in map {
        body.source_given |= key == "_source";
        match value {
            Value::Null => return Err(unknown_key(key, value)),
            Value::Object(inner) => body.object(key, value, inner)?,
            Value::Array(items) => body.array(key, value, items)?,
            scalar => body.scalar(key, scalar)?,
        }
    }
    body.finish()?;
    Ok(body)
}

fn unknown_key(key: &str, value: &Value) -> DslError {
    parsing(format!("Unknown key for a {} in [{key}].", token(value)))
}

impl SearchBody {
    fn scalar(&mut self, key: &str, value: &Value) -> DslResult<()> {
        match key {
            "from" => self.from = not_negative(int(value)?, "[from] parameter cannot be negative")?,
            "size" => {
                let n = int(value)?;
                self.size = not_negative(n, &format!("[size] parameter cannot be negative, found [{n}]"))?;
            }
            "timeout" => self.timeout(&required_text(value)?)?,
            "terminate_after" => self.terminate_after(int(value)?)?,
            "min_score" => self.request.min_score = Some(float(value)?),
            "version" => self.fetch.version = flag(value)?,
            "seq_no_primary_term" => self.fetch.seq_no_primary_term = flag(value)?,
            "explain" => self.fetch.explain = flag(value)?,
            "track_scores" => self.request.track_scores = flag(value)?,
            "track_total_hits" => {
                self.request.track_total_hits = match value {
                    Value::Bool(b) => exact(*b),
                    other => total_hits(&required_text(other)?)?,
                };
            }
            "_source" => self.fetch.source = parse_source(value)?,
            "stored_fields" => self.stored_fields = stored_fields(vec![required_text(value)?])?,
            "sort" => self.request.sort = parse_sort(value)?,
            "profile" => self.profile = flag(value)?,
            _ => return Err(unknown_key(key, value)),
        }
        Ok(())
    }

    fn object(&mut self, key: &str, value: &Value, inner: &Map<String, Value>) -> DslResult<()> {
        match key {
            "query" => self.request.query = Some(parse_query(value)?),
            "post_filter" => self.request.post_filter = Some(parse_query(value)?),
            "_source" => self.fetch.source = parse_source(value)?,
            "aggs" | "aggregations" => self.request.aggs = parse_aggs(value)?,
            "sort" => self.request.sort = parse_sort(value)?,
            "indices_boost" => {
                for (index, factor) in inner {
                    self.indices_boost.push((index.clone(), float(factor)?));
                }
            }
            "highlight" => self.highlight = Some(value.clone()),
            "suggest" => self.suggest = Some(value.clone()),
            "rescore" => self.request.rescore = vec![rescore(inner)?],
            "collapse" => self.collapse = Some(value.clone()),
            "script_fields" => self.script_fields = Some(value.clone()),
            "slice" => self.slice = Some(slice(inner)?),
            "ext" => self.ext = Some(value.clone()),
            "pit" => self.pit = Some(point_in_time(inner)?),
            _ => return Err(unknown_key(key, value)),
        }
        Ok(())
    }

    fn array(&mut self, key: &str, value: &Value, items: &[Value]) -> DslResult<()> {
        match key {
            "stored_fields" => self.stored_fields = stored_fields(strings(value)?)?,
            "docvalue_fields" => {
                self.fetch.docvalue_fields = items.iter().map(field_request).collect::<DslResult<_>>()?;
            }
            "fields" => self.fetch.fields = items.iter().map(field_request).collect::<DslResult<_>>()?,
            "indices_boost" => {
                for item in items {
                    let Value::Object(pair) = item else {
                        return Err(parsing(format!(
                            "Expected [START_OBJECT] in [indices_boost] but found [{}]",
                            token(item)
                        )));
                    };
                    for (index, factor) in pair {
                        self.indices_boost.push((index.clone(), float(factor)?));
                    }
                }
            }
            "sort" => self.request.sort = parse_sort(value)?,
            "rescore" => {
                self.request.rescore = items
                    .iter()
                    .map(|one| match one {
                        Value::Object(inner) => rescore(inner),
                        other => Err(parsing(format!("Expected [START_OBJECT] but found [{}]", token(other)))),
                    })
                    .collect::<DslResult<_>>()?;
            }
            "stats" => self.stats = strings(value)?,
            "_source" => self.fetch.source = parse_source(value)?,
            "search_after" => self.request.search_after = Some(search_after(items)?),
            _ => return Err(unknown_key(key, value)),
        }
        Ok(())
    }

    fn timeout(&mut self, text: &str) -> DslResult<()> {
        let ms = parse_time(text, "timeout")?;
        self.timeout_ms = (ms >= 0).then_some(ms);
        Ok(())
    }

    fn terminate_after(&mut self, n: i32) -> DslResult<()> {
        let n = u64::try_from(n).map_err(|_| DslError::illegal_argument("terminateAfter must be > 0"))?;
        // 0 means no limit.
        self.request.terminate_after = (n > 0).then_some(n);
        Ok(())
    }

    /// Settles what depends on several keys.
    fn finish(&mut self) -> DslResult<()> {
        match &self.stored_fields {
            StoredFields::Unset => {}
            StoredFields::None => {
                if self.source_given && !self.fetch.source.disabled {
                    return Err(DslError::validation(&[
                        "[stored_fields] cannot be disabled if [_source] is requested".to_owned(),
                    ]));
                }
                if self.fetch.version {
                    return Err(DslError::validation(&[
                        "[stored_fields] cannot be disabled if [version] is requested".to_owned(),
                    ]));
                }
                self.fetch.source.disabled = true;
            }
            // Asking for stored fields leaves the source out unless it is asked for too.
            StoredFields::Names(names) => {
                self.fetch.stored_fields.clone_from(names);
                if !self.source_given {
                    self.fetch.source.disabled = !names.iter().any(|n| n == "_source");
                }
            }
        }
        if self.request.search_after.is_some() && self.from > 0 {
            return Err(DslError::validation(&[
                "`from` parameter must be set to 0 when `search_after` is used.".to_owned()
            ]));
        }
        if !self.request.rescore.is_empty() && !self.request.sort.is_empty() {
            return Err(DslError::new(
                400,
                "action_request_validation_exception",
                "Cannot use [sort] option in conjunction with [rescore].",
            ));
        }
        self.request.top = self.from.saturating_add(self.size);
        self.fetch.query = self.request.query.clone();
        Ok(())
    }

    /// The first section given that the server cannot carry out, for an honest error.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        [
            (self.highlight.is_some(), "highlight"),
            (self.suggest.is_some(), "suggest"),
            (self.collapse.is_some(), "collapse"),
        ]
        .into_iter()
        .find(|(given, _)| *given)
        .map(|(_, name)| name)
    }

    /// Adds the URL's parameters, which win over the body: `param` gives a parameter's value.
    pub fn apply_params<'a>(&mut self, param: impl Fn(&str) -> Option<&'a str>) -> DslResult<()> {
        if let Some(query) = query_param(&param)? {
            self.request.query = Some(query);
        }
        let int = |name: &str| -> DslResult<Option<i32>> {
            param(name)
                .map(|text| {
                    text.parse().map_err(|_| {
                        DslError::illegal_argument(format!(
                            "Failed to parse int parameter [{name}] with value [{text}]"
                        ))
                        .because(number_format(text))
                    })
                })
                .transpose()
        };
        let bool = |name: &str| -> DslResult<Option<bool>> {
            match param(name) {
                None => Ok(None),
                Some("" | "true") => Ok(Some(true)),
                Some("false") => Ok(Some(false)),
                Some(other) => Err(DslError::illegal_argument(format!(
                    "Failed to parse value [{other}] as only [true] or [false] are allowed."
                ))),
            }
        };
        if let Some(n) = int("from")? {
            self.from = not_negative(n, "[from] parameter cannot be negative")?;
        }
        if let Some(n) = int("size")? {
            self.size = not_negative(n, &format!("[size] parameter cannot be negative, found [{n}]"))?;
        }
        if let Some(text) = param("timeout") {
            self.timeout(text)?;
        }
        if let Some(n) = int("terminate_after")? {
            self.terminate_after(n)?;
        }
        if let Some(on) = bool("explain")? {
            self.fetch.explain = on;
        }
        if let Some(on) = bool("version")? {
            self.fetch.version = on;
        }
        if let Some(on) = bool("seq_no_primary_term")? {
            self.fetch.seq_no_primary_term = on;
        }
        if let Some(on) = bool("track_scores")? {
            self.request.track_scores = on;
        }
        if let Some(text) = param("track_total_hits") {
            self.request.track_total_hits = match text {
                "" | "true" => exact(true),
                "false" => exact(false),
                number => total_hits(number)?,
            };
        }
        if let Some(text) = param("sort") {
            self.request.sort = parse_sort_param(text)?;
        }
        if let Some(text) = param("stats") {
            self.stats = split_list(text);
        }
        if let Some(text) = param("docvalue_fields") {
            let plain = |field| FieldRequest { field, format: None };
            self.fetch.docvalue_fields = split_list(text).into_iter().map(plain).collect();
        }
        if let Some(source) = source_params(&param) {
            self.fetch.source = source;
            self.source_given = true;
        }
        if let Some(text) = param("stored_fields") {
            self.stored_fields = stored_fields(split_list(text))?;
        }
        self.finish()
    }
}

fn not_negative(n: i32, reason: &str) -> DslResult<usize> {
    usize::try_from(n).map_err(|_| DslError::illegal_argument(reason))
}

fn number_format(text: &str) -> DslError {
    DslError::new(400, "number_format_exception", format!("For input string: \"{text}\""))
}

fn exact(all: bool) -> TrackTotalHits {
    if all { TrackTotalHits::All } else { TrackTotalHits::None }
}

fn total_hits(text: &str) -> DslResult<TrackTotalHits> {
    match text {
        "true" => return Ok(TrackTotalHits::All),
        "false" => return Ok(TrackTotalHits::None),
        _ => {}
    }
    let n: i64 = text.parse().map_err(|_| number_format(text))?;
    match n {
        -1 => Ok(TrackTotalHits::All),
        0.. => Ok(TrackTotalHits::Limit(n as u64)),
        _ => Err(DslError::illegal_argument(format!(
            "[track_total_hits] parameter must be positive or equals to -1, got {n}"
        ))),
    }
}

/// The query of `q=` with `df`, `analyzer`, `analyze_wildcard`, `default_operator` and `lenient`.
pub fn query_param<'a>(param: &impl Fn(&str) -> Option<&'a str>) -> DslResult<Option<Query>> {
    let Some(text) = param("q") else { return Ok(None) };
    let flag = |name: &str| match param(name) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(DslError::illegal_argument(format!(
            "Failed to parse value [{other}] as only [true] or [false] are allowed."
        ))),
    };
    let mut q = QueryString {
        query: text.to_owned(),
        default_field: param("df").map(str::to_owned),
        allow_leading_wildcard: true,
        analyze_wildcard: flag("analyze_wildcard")?,
        ..QueryString::default()
    };
    q.options.analyzer = param("analyzer").map(str::to_owned);
    q.options.lenient = flag("lenient")?;
    q.options.operator = match param("default_operator") {
        None => Operator::Or,
        Some(name) => operator_named(name)?,
    };
    q.options.fuzziness = Some(super::text::FuzzyParts::default().value);
    Ok(Some(QueryKind::QueryString(q).into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(json: Value) -> (String, String) {
        let e = parse_search(&json).unwrap_err();
        (e.kind, e.reason)
    }

    #[test]
    fn everything_is_read() {
        let body = parse_search(&json!({
            "from": 5, "size": "20", "timeout": "2s", "terminate_after": 7, "min_score": 0.5, "version": true,
            "seq_no_primary_term": "true", "explain": false, "track_scores": true, "track_total_hits": 100,
            "_source": {"includes": ["a.*"], "excludes": "b"}, "query": {"match_all": {}},
            "post_filter": {"term": {"x": 1}}, "sort": [{"x": "desc"}], "docvalue_fields": ["d", {"field": "e", "format": "f"}],
            "fields": ["g*"], "stats": ["s"], "indices_boost": [{"i": 2}], "highlight": {}
        }))
        .unwrap();
        assert_eq!((body.from, body.size, body.request.top), (5, 20, 25));
        assert_eq!(body.timeout_ms, Some(2000));
        assert_eq!(body.request.terminate_after, Some(7));
        assert_eq!(body.request.track_total_hits, TrackTotalHits::Limit(100));
        assert_eq!(body.fetch.source.includes, ["a.*"]);
        assert_eq!(body.fetch.source.excludes, ["b"]);
        assert_eq!(body.fetch.docvalue_fields[1].format.as_deref(), Some("f"));
        assert_eq!(body.fetch.query, body.request.query);
        assert_eq!(body.indices_boost, [("i".to_owned(), 2.0)]);
        assert_eq!(body.unsupported(), Some("highlight"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        for (json, kind, text) in [
            (json!({"qury": {}}), "parsing_exception", "Unknown key for a START_OBJECT in [qury]."),
            (json!({"foo": 1}), "parsing_exception", "Unknown key for a VALUE_NUMBER in [foo]."),
            (json!({"query": []}), "parsing_exception", "Unknown key for a START_ARRAY in [query]."),
            (json!([]), "parsing_exception", "Expected [START_OBJECT] but found [START_ARRAY]"),
            (json!({"from": -1}), "illegal_argument_exception", "[from] parameter cannot be negative"),
            (json!({"size": -1}), "illegal_argument_exception", "[size] parameter cannot be negative, found [-1]"),
            (json!({"search_after": []}), "illegal_argument_exception", "Values must contains at least one value."),
        ] {
            assert_eq!(reason(json), (kind.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn source_and_stored_fields() {
        assert!(parse_search(&json!({"_source": false})).unwrap().fetch.source.disabled);
        assert!(parse_search(&json!({"stored_fields": "_none_"})).unwrap().fetch.source.disabled);
        assert!(parse_search(&json!({"stored_fields": ["a"]})).unwrap().fetch.source.disabled);
        assert!(!parse_search(&json!({"stored_fields": ["a", "_source"]})).unwrap().fetch.source.disabled);
        assert!(!parse_search(&json!({"stored_fields": ["a"], "_source": true})).unwrap().fetch.source.disabled);
    }

    #[test]
    fn parameters_win_over_the_body() {
        let mut body =
            parse_search(&json!({"size": 3, "query": {"match_all": {}}, "stored_fields": "_none_"})).unwrap();
        let params = [("q", "a:b"), ("df", "f"), ("default_operator", "and"), ("size", "7"), ("sort", "x:desc")];
        body.apply_params(|name| params.iter().find(|p| p.0 == name).map(|p| p.1)).unwrap();
        assert_eq!((body.size, body.request.top), (7, 7));
        assert!(body.fetch.source.disabled);
        let Some(Query { kind: QueryKind::QueryString(q), .. }) = &body.request.query else { panic!() };
        assert_eq!(
            (q.query.as_str(), q.default_field.as_deref(), q.options.operator),
            ("a:b", Some("f"), Operator::And)
        );
        assert!(body.apply_params(|name| (name == "size").then_some("x")).is_err());
    }

    #[test]
    fn total_hits_forms() {
        let track = |v: Value| parse_search(&json!({"track_total_hits": v})).map(|b| b.request.track_total_hits);
        assert_eq!(track(json!(true)), Ok(TrackTotalHits::All));
        assert_eq!(track(json!(false)), Ok(TrackTotalHits::None));
        assert_eq!(track(json!(-1)), Ok(TrackTotalHits::All));
        assert_eq!(track(json!("5")), Ok(TrackTotalHits::Limit(5)));
        assert!(track(json!(-2)).is_err());
    }
}

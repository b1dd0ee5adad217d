//! The query DSL: JSON to [`Query`].
//!
//! Every query reads its own keys and refuses the others. Compound queries nest at most [`DEPTH_MAX`] deep.

mod compound;
mod full_text;
mod term;

use ringdex_engine::query::{MatchKind, Query, QueryKind};
use serde_json::{Map, Value};

use super::suggest::suggest;
use super::value::{float, object, parsing, required_text, text, x_content};
use super::{DslError, DslResult};
use compound::{boolean, boosting, constant_score, dis_max};
use full_text::{matching, multi_match, query_string, simple_query_string};
use term::{exists, fuzzy, ids, pattern, range, regexp, term, terms};

/// Queries inside one another.
pub const DEPTH_MAX: usize = 30;

const NAMES: [&str; 23] = [
    "bool",
    "boosting",
    "constant_score",
    "dis_max",
    "exists",
    "fuzzy",
    "ids",
    "match",
    "match_all",
    "match_bool_prefix",
    "match_none",
    "match_phrase",
    "match_phrase_prefix",
    "multi_match",
    "prefix",
    "query_string",
    "range",
    "regexp",
    "simple_query_string",
    "term",
    "terms",
    "wildcard",
    "wrapper",
];

/// Reads one query, `{"match": {...}}`.
pub fn parse_query(json: &Value) -> DslResult<Query> {
    query(json, 0)
}

fn query(json: &Value, depth: usize) -> DslResult<Query> {
    let Some(outer) = object(json) else {
        return Err(parsing("[_na] query malformed, must start with start_object"));
    };
    if depth > DEPTH_MAX {
        return Err(DslError::illegal_argument(format!(
            "The nested depth of the query exceeds the maximum nested depth for bool queries set in \
             [indices.query.bool.max_nested_depth]: [{DEPTH_MAX}]"
        )));
    }
    let mut members = outer.iter();
    let Some((name, body)) = members.next() else {
        return Err(DslError::illegal_argument("query malformed, empty clause found"));
    };
    let Some(map) = object(body) else {
        return Err(parsing(format!("[{name}] query malformed, no start_object after query name")));
    };
    let mut common = Common { boost: 1.0, name: None };
    let kind = match name.as_str() {
        "match_all" => {
            declared(map, "match_all", &[], &mut common)?;
            QueryKind::MatchAll
        }
        "match_none" => {
            declared(map, "match_none", &[], &mut common)?;
            QueryKind::MatchNone
        }
        "match" => matching(map, "match", MatchKind::Terms, &mut common)?,
        "match_phrase" => matching(map, "match_phrase", MatchKind::Phrase, &mut common)?,
        "match_phrase_prefix" => matching(map, "match_phrase_prefix", MatchKind::PhrasePrefix, &mut common)?,
        "match_bool_prefix" => matching(map, "match_bool_prefix", MatchKind::BoolPrefix, &mut common)?,
        "multi_match" => multi_match(map, &mut common)?,
        "term" => term(map, &mut common)?,
        "terms" => terms(map, &mut common)?,
        "range" => range(map, &mut common)?,
        "exists" => exists(map, &mut common)?,
        "ids" => ids(map, &mut common)?,
        "prefix" | "wildcard" => pattern(map, name, &mut common)?,
        "regexp" => regexp(map, &mut common)?,
        "fuzzy" => fuzzy(map, &mut common)?,
        "bool" => boolean(map, depth, &mut common)?,
        "constant_score" => constant_score(map, depth, &mut common)?,
        "dis_max" => dis_max(map, depth, &mut common)?,
        "boosting" => boosting(map, depth, &mut common)?,
        "query_string" => query_string(map, &mut common)?,
        "simple_query_string" => simple_query_string(map, &mut common)?,
        "wrapper" => {
            let inner = wrapper(map, depth)?;
            closing(name, members.next())?;
            return Ok(inner);
        }
        _ => {
            let error = parsing(format!("unknown query [{name}]{}", suggest(name, &NAMES)));
            return Err(error.because(DslError::new(
                400,
                "named_object_not_found_exception",
                format!("unknown field [{name}]"),
            )));
        }
    };
    closing(name, members.next())?;
    if common.boost < 0.0 {
        return Err(DslError::illegal_argument(format!(
            "negative [boost] are not allowed in [{name}], use a value between 0 and 1 to deboost"
        )));
    }
    Ok(Query { kind, boost: common.boost, name: common.name })
}

/// A query object has one member.
fn closing(name: &str, next: Option<(&String, &Value)>) -> DslResult<()> {
    if next.is_some() {
        return Err(parsing(format!("[{name}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]")));
    }
    Ok(())
}

/// What every query can carry.
struct Common {
    boost: f32,
    name: Option<String>,
}

impl Common {
    /// Whether the key was one of these.
    fn take(&mut self, key: &str, value: &Value) -> DslResult<bool> {
        match key {
            "boost" => self.boost = float(value)?,
            "_name" => self.name = text(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn unsupported(query: &str, key: &str) -> DslError {
    parsing(format!("[{query}] query does not support [{key}]"))
}

/// For queries whose objects Elasticsearch declares: an unknown key gets suggestions.
fn undeclared(parser: &str, key: &str, known: &[&str]) -> DslError {
    let mut candidates = known.to_vec();
    candidates.extend(["boost", "_name"]);
    x_content(format!("[{parser}] unknown field [{key}]{}", suggest(key, &candidates)))
}

fn declared(map: &Map<String, Value>, parser: &str, known: &[&str], common: &mut Common) -> DslResult<()> {
    for (key, value) in map {
        if !common.take(key, value)? && !known.contains(&key.as_str()) {
            return Err(undeclared(parser, key, known));
        }
    }
    Ok(())
}

/// The one field of a query that looks at one: its name and what is below it.
fn one_field<'a>(map: &'a Map<String, Value>, query: &str) -> DslResult<(&'a str, &'a Value)> {
    let mut members = map.iter();
    let Some((field, value)) = members.next() else {
        return Err(DslError::illegal_argument(match query {
            "term" | "fuzzy" | "prefix" | "wildcard" | "regexp" => "field name is null or empty".to_owned(),
            _ => format!("[{query}] requires fieldName"),
        }));
    };
    if let Some((second, _)) = members.next() {
        return Err(parsing(format!(
            "[{query}] query doesn't support multiple fields, found [{field}] and [{second}]"
        )));
    }
    Ok((field, value))
}

/// A query as base64 of its JSON.
fn wrapper(map: &Map<String, Value>, depth: usize) -> DslResult<Query> {
    use base64::Engine as _;
    let mut members = map.iter();
    let Some((key, value)) = members.next() else {
        return Err(parsing("[wrapper] query malformed"));
    };
    if key != "query" {
        return Err(parsing(format!("[wrapper] query malformed, expected `query` but was [{key}]")));
    }
    if members.next().is_some() {
        return Err(parsing("[wrapper] malformed query, expected [END_OBJECT] but found [FIELD_NAME]"));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(required_text(value)?).map_err(|e| {
        DslError::new(400, "json_parse_exception", format!("Failed to decode VALUE_STRING as base64: {e}"))
    })?;
    let inner: Value = serde_json::from_slice(&bytes).map_err(|e| crate::rest::params::json_error(&e, &bytes))?;
    query(&inner, depth + 1)
}

#[cfg(test)]
mod tests;

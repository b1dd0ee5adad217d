//! Queries for exact terms, ranges and patterns.

use ringdex_engine::query::{Bound, QueryKind, Value as Scalar};
use serde_json::{Map, Value};

use super::full_text::rewrite;
use super::{Common, one_field, undeclared, unsupported};
use crate::dsl::text::FuzzyParts;
use crate::dsl::value::{
    count, failed_field, flag, int, is_value, parsing, required_text, scalar, strings, text, token,
};
use crate::dsl::{DslError, DslResult};

pub(super) fn term(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    if map.values().any(Value::is_array) {
        return Err(parsing("[term] query does not support array of values"));
    }
    let (field, below) = one_field(map, "term")?;
    let mut case_insensitive = false;
    let mut value = None;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" | "term" => value = scalar(given),
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("term", key)),
                }
            }
        }
        given => value = scalar(given),
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    Ok(QueryKind::Term { field: field.to_owned(), value, case_insensitive })
}

pub(super) fn terms(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut found: Option<QueryKind> = None;
    for (key, given) in map {
        match given {
            Value::Array(items) => {
                if found.is_some() {
                    return Err(parsing("[terms] query does not support multiple fields"));
                }
                let values = items
                    .iter()
                    .map(|v| scalar(v).ok_or_else(|| parsing("No value specified for terms query")))
                    .collect::<DslResult<Vec<_>>>()?;
                found = Some(QueryKind::Terms { field: key.clone(), values });
            }
            Value::Object(_) => {
                if found.is_some() {
                    return Err(parsing("[terms] query does not support more than one field. Already got: [terms]"));
                }
                return Err(parsing(format!("[terms] query does not support a document lookup for [{key}]")));
            }
            value => {
                if !common.take(key, value)? {
                    return Err(unsupported("terms", key));
                }
            }
        }
    }
    found.ok_or_else(|| {
        parsing("[terms] query requires a field name, followed by array of terms or a document lookup specification")
    })
}

pub(super) fn range(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut found: Option<(&String, &Map<String, Value>)> = None;
    for (key, given) in map {
        match given {
            Value::Object(body) => {
                if let Some((first, _)) = found {
                    return Err(parsing(format!(
                        "[range] query doesn't support multiple fields, found [{first}] and [{key}]"
                    )));
                }
                found = Some((key, body));
            }
            value if is_value(value) && common.take(key, value)? => {}
            _ => return Err(unsupported("range", key)),
        }
    }
    let Some((field, body)) = found else { return Err(DslError::illegal_argument("field name is null or empty")) };
    let (mut lower, mut upper, mut include_lower, mut include_upper) = (None, None, true, true);
    let (mut format, mut time_zone) = (None, None);
    for (key, value) in body {
        if matches!(value, Value::Array(_) | Value::Object(_)) {
            return Err(unsupported("range", key));
        }
        match key.as_str() {
            "from" => lower = scalar(value),
            "to" => upper = scalar(value),
            "include_lower" => include_lower = flag(value)?,
            "include_upper" => include_upper = flag(value)?,
            "gt" => (lower, include_lower) = (scalar(value), false),
            "gte" | "ge" => (lower, include_lower) = (scalar(value), true),
            "lt" => (upper, include_upper) = (scalar(value), false),
            "lte" | "le" => (upper, include_upper) = (scalar(value), true),
            "format" => format = text(value)?,
            "time_zone" => time_zone = text(value)?,
            // Which range fields match; on single values all three are the same.
            "relation" => match required_text(value)?.to_ascii_lowercase().as_str() {
                "intersects" | "within" | "contains" => {}
                "disjoint" => {
                    return Err(DslError::illegal_argument("[range] query does not support relation [disjoint]"));
                }
                other => {
                    return Err(DslError::illegal_argument(format!("{other} is not a valid relation")));
                }
            },
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported("range", key)),
        }
    }
    let bound = |value: Option<Scalar>, inclusive| value.map(|value| Bound { value, inclusive });
    Ok(QueryKind::Range {
        field: field.clone(),
        lower: bound(lower, include_lower),
        upper: bound(upper, include_upper),
        format,
        time_zone,
    })
}

pub(super) fn exists(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut field = None;
    for (key, value) in map {
        if !is_value(value) {
            return Err(parsing(format!("[exists] unknown token [{}] after [{key}]", token(value))));
        }
        match key.as_str() {
            "field" => field = text(value)?,
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported("exists", key)),
        }
    }
    match field {
        Some(field) if !field.is_empty() => Ok(QueryKind::Exists { field }),
        Some(_) => Err(DslError::illegal_argument("field name is null or empty")),
        None => Err(parsing("[exists] must be provided with a [field]")),
    }
}

pub(super) fn ids(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut values = None;
    for (key, value) in map {
        match key.as_str() {
            "values" => values = Some(strings(value).map_err(|e| failed_field("ids", "values", e))?),
            // Types are gone since 7; the key is still taken.
            "type" | "types" | "_type" => {}
            _ if common.take(key, value)? => {}
            _ => return Err(undeclared("ids", key, &["values", "type"])),
        }
    }
    let values = values.ok_or_else(|| DslError::illegal_argument("Required [values]"))?;
    Ok(QueryKind::Ids { values })
}

/// `prefix` and `wildcard`.
pub(super) fn pattern(map: &Map<String, Value>, query: &str, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, query)?;
    let mut value = None;
    let mut case_insensitive = false;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" => value = text(given)?,
                    key if key == query => value = text(given)?,
                    "rewrite" => rewrite(given)?,
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported(query, key)),
                }
            }
        }
        given => value = text(given)?,
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    let field = field.to_owned();
    Ok(match query {
        "prefix" => QueryKind::Prefix { field, value, case_insensitive },
        _ => QueryKind::Wildcard { field, value, case_insensitive },
    })
}

pub(super) fn regexp(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, "regexp")?;
    let mut value = None;
    let mut case_insensitive = false;
    let mut max_determinized_states = 10_000;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" => value = text(given)?,
                    "flags" => regexp_flags(&required_text(given)?)?,
                    "flags_value" => {
                        int(given)?;
                    }
                    "max_determinized_states" => {
                        max_determinized_states = count(given, "[max_determinized_states] must not be negative")?;
                    }
                    "rewrite" => rewrite(given)?,
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("regexp", key)),
                }
            }
        }
        given => value = text(given)?,
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    Ok(QueryKind::Regexp { field: field.to_owned(), value, case_insensitive, max_determinized_states })
}

/// The optional operators are always on; the names are checked.
fn regexp_flags(flags: &str) -> DslResult<()> {
    for flag in flags.split('|').filter(|f| !f.is_empty()) {
        match flag.to_ascii_uppercase().as_str() {
            "INTERSECTION" | "COMPLEMENT" | "EMPTY" | "ANYSTRING" | "INTERVAL" | "NONE" | "ALL" => {}
            upper => {
                return Err(DslError::illegal_argument(format!(
                    "No enum constant org.elasticsearch.index.query.RegexpFlag.{upper}"
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn fuzzy(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, "fuzzy")?;
    let mut parts = FuzzyParts::default();
    let mut value = None;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                if !is_value(given) {
                    return Err(parsing(format!("[fuzzy] unexpected token [{}] after [{key}]", token(given))));
                }
                match key.as_str() {
                    "value" | "term" => value = scalar(given),
                    "fuzziness" => parts.fuzziness(given)?,
                    "prefix_length" => parts.prefix_length(given)?,
                    "max_expansions" => {
                        parts.max_expansions(given)?;
                    }
                    "transpositions" => parts.transpositions(given)?,
                    "rewrite" => rewrite(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("fuzzy", key)),
                }
            }
        }
        given => value = scalar(given),
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("query value cannot be null")) };
    Ok(QueryKind::Fuzzy { field: field.to_owned(), value, fuzziness: parts.value })
}

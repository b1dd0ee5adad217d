//! `_source`: which parts of a document to give.

use ringdex_engine::search::SourceFilter;
use serde_json::Value;

use crate::dsl::value::{parsing, token};
use crate::dsl::{DslError, DslResult};
use crate::rest::params::split_list;

/// `_source` in a body: a boolean, patterns, or includes and excludes.
pub fn parse_source(json: &Value) -> DslResult<SourceFilter> {
    let mut filter = SourceFilter::default();
    match json {
        Value::Bool(on) => filter.disabled = !on,
        Value::String(text) => match text.as_str() {
            "true" => {}
            "false" => filter.disabled = true,
            pattern => filter.includes = vec![pattern.to_owned()],
        },
        Value::Array(items) => {
            for item in items {
                filter.includes.push(item.as_str().map(str::to_owned).ok_or_else(|| source_key(item, "_source"))?);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let list = match key.as_str() {
                    "includes" | "include" => &mut filter.includes,
                    "excludes" | "exclude" => &mut filter.excludes,
                    _ => return Err(source_key(value, key)),
                };
                match value {
                    Value::String(one) => *list = vec![one.clone()],
                    Value::Array(items) => {
                        *list = items
                            .iter()
                            .map(|i| i.as_str().map(str::to_owned).ok_or_else(|| source_key(i, key)))
                            .collect::<DslResult<_>>()?;
                    }
                    other => return Err(source_key(other, key)),
                }
            }
        }
        other => {
            return Err(parsing(format!(
                "Expected one of [VALUE_BOOLEAN, VALUE_STRING, START_ARRAY, START_OBJECT] but found [{}]",
                token(other)
            )));
        }
    }
    Ok(filter)
}

fn source_key(value: &Value, key: &str) -> DslError {
    parsing(format!("Unknown key for a {} in [{key}].", token(value)))
}

/// `_source`, `_source_includes` and `_source_excludes` of a URL; none if none of them is given.
pub fn source_params<'a>(param: &impl Fn(&str) -> Option<&'a str>) -> Option<SourceFilter> {
    let mut filter = SourceFilter::default();
    let mut given = false;
    match param("_source") {
        None => {}
        Some("" | "true") => given = true,
        Some("false") => (filter.disabled, given) = (true, true),
        Some(list) => (filter.includes, given) = (split_list(list), true),
    }
    for name in ["_source_includes", "_source_include"] {
        if let Some(list) = param(name) {
            (filter.includes, given) = (split_list(list), true);
        }
    }
    for name in ["_source_excludes", "_source_exclude"] {
        if let Some(list) = param(name) {
            (filter.excludes, given) = (split_list(list), true);
        }
    }
    given.then_some(filter)
}

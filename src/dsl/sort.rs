//! `sort` in all its forms.

use ringdex_engine::search::{Missing, SortBy, SortKey, SortMode};
use serde_json::{Map, Value};

use super::suggest::suggest;
use super::value::{parsing, required_text, scalar, token, x_content};
use super::{DslError, DslResult};

const FIELD_OPTIONS: [&str; 10] = [
    "missing",
    "unmapped_type",
    "order",
    "mode",
    "nested_path",
    "nested_filter",
    "nested",
    "numeric_type",
    "format",
    "ignore_unmapped",
];

/// Reads `sort`: a name, an object, or a list of both. Sorting by descending score alone is what happens without any
/// sort, so that gives no keys.
pub fn parse_sort(json: &Value) -> DslResult<Vec<SortKey>> {
    let mut keys = Vec::new();
    match json {
        Value::Array(items) => {
            for item in items {
                element(item, &mut keys)?;
            }
        }
        Value::Null => {}
        one => element(one, &mut keys)?,
    }
    Ok(drop_plain_score(keys))
}

/// Reads the `sort` parameter of a URL: `field`, `field:desc`, with commas.
pub fn parse_sort_param(text: &str) -> DslResult<Vec<SortKey>> {
    let mut keys = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.rsplit_once(':') {
            Some((field, "asc")) => keys.push(named(field, Some(false))),
            Some((field, "desc")) => keys.push(named(field, Some(true))),
            Some((_, order)) => {
                return Err(DslError::illegal_argument(format!(
                    "Illegal sort order [{order}], must be [asc] or [desc]"
                )));
            }
            None => keys.push(named(part, None)),
        }
    }
    Ok(drop_plain_score(keys))
}

fn drop_plain_score(keys: Vec<SortKey>) -> Vec<SortKey> {
    match keys.as_slice() {
        [SortKey { by: SortBy::Score, descending: true }] => Vec::new(),
        _ => keys,
    }
}

fn named(field: &str, descending: Option<bool>) -> SortKey {
    match field {
        "_score" => SortKey { by: SortBy::Score, descending: descending.unwrap_or(true) },
        "_doc" => SortKey { by: SortBy::Doc, descending: descending.unwrap_or(false) },
        _ => SortKey {
            by: SortBy::Field {
                field: field.to_owned(),
                mode: None,
                missing: Missing::Last,
                unmapped_type: None,
                format: None,
            },
            descending: descending.unwrap_or(false),
        },
    }
}

fn order(value: &Value) -> DslResult<bool> {
    let given = required_text(value)?;
    match given.to_ascii_uppercase().as_str() {
        "ASC" => Ok(false),
        "DESC" => Ok(true),
        upper => {
            Err(DslError::illegal_argument(format!("No enum constant org.elasticsearch.search.sort.SortOrder.{upper}")))
        }
    }
}

fn element(json: &Value, keys: &mut Vec<SortKey>) -> DslResult<()> {
    match json {
        Value::String(field) => keys.push(named(field, None)),
        Value::Object(map) => {
            for (field, value) in map {
                keys.push(of_field(field, value)?);
            }
        }
        other => {
            return Err(DslError::illegal_argument(format!(
                "malformed sort format, within the sort array, an object, or an actual string are allowed (found [{}])",
                token(other)
            )));
        }
    }
    Ok(())
}

fn of_field(field: &str, value: &Value) -> DslResult<SortKey> {
    match value {
        Value::Object(options) => match field {
            "_geo_distance" | "_script" => Err(parsing(format!("[{field}] sort is not supported"))),
            "_score" | "_doc" => {
                let mut descending = None;
                for (key, value) in options {
                    match key.as_str() {
                        "order" => descending = Some(order(value)?),
                        _ => return Err(x_content(format!("[{field}] unknown field [{key}]"))),
                    }
                }
                Ok(named(field, descending))
            }
            _ => with_options(field, options),
        },
        Value::Null => Ok(named(field, None)),
        Value::Array(_) => Err(DslError::illegal_argument(
            "malformed sort format, within the sort array, an object, or an actual string are allowed",
        )),
        scalar => Ok(named(field, Some(order(scalar)?))),
    }
}

fn with_options(name: &str, options: &Map<String, Value>) -> DslResult<SortKey> {
    let mut descending = false;
    let mut mode = None;
    let mut missing = Missing::Last;
    let mut unmapped_type = None;
    let mut format = None;
    for (key, value) in options {
        match key.as_str() {
            "order" => descending = order(value)?,
            "mode" => {
                let given = required_text(value)?;
                mode = Some(match given.to_ascii_lowercase().as_str() {
                    "min" => SortMode::Min,
                    "max" => SortMode::Max,
                    "sum" => SortMode::Sum,
                    "avg" => SortMode::Avg,
                    "median" => SortMode::Median,
                    _ => return Err(DslError::illegal_argument(format!("Unknown SortMode [{given}]"))),
                });
            }
            "missing" => {
                missing = match value.as_str() {
                    Some("_last") => Missing::Last,
                    Some("_first") => Missing::First,
                    _ => Missing::Value(scalar(value).ok_or_else(|| {
                        x_content(format!("[field_sort] missing doesn't support values of type: {}", token(value)))
                    })?),
                };
            }
            "unmapped_type" => unmapped_type = Some(required_text(value)?),
            "ignore_unmapped" => {}
            "format" => format = Some(required_text(value)?),
            // What numbers are compared as; the columns of one index have one type.
            "numeric_type" => match required_text(value)?.as_str() {
                "long" | "double" | "date" | "date_nanos" => {}
                other => {
                    return Err(DslError::illegal_argument(format!(
                        "invalid value for [numeric_type], must be [long, double, date, date_nanos], got {other}"
                    )));
                }
            },
            "nested" | "nested_path" | "nested_filter" => {
                return Err(parsing(format!("[{key}] in a sort is not supported")));
            }
            _ => {
                return Err(x_content(format!("[field_sort] unknown field [{key}]{}", suggest(key, &FIELD_OPTIONS))));
            }
        }
    }
    let by = SortBy::Field { field: name.to_owned(), mode, missing, unmapped_type, format };
    Ok(SortKey { by, descending })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(json: &Value, expected: &[(&str, bool)]) {
        let keys = parse_sort(json).unwrap();
        let got: Vec<(String, bool)> = keys
            .iter()
            .map(|k| {
                let name = match &k.by {
                    SortBy::Score => "_score".to_owned(),
                    SortBy::Doc => "_doc".to_owned(),
                    SortBy::Field { field, .. } => field.clone(),
                };
                (name, k.descending)
            })
            .collect();
        let got: Vec<_> = got.iter().map(|(n, d)| (n.as_str(), *d)).collect();
        assert_eq!(got, expected, "{json}");
    }

    #[test]
    fn all_forms() {
        check(&json!("a"), &[("a", false)]);
        check(&json!(["a", "_score"]), &[("a", false), ("_score", true)]);
        check(&json!([{"a": "desc"}, {"b": {"order": "asc"}}, "_doc"]), &[("a", true), ("b", false), ("_doc", false)]);
        check(&json!({"a": {"order": "DESC"}, "_score": {"order": "asc"}}), &[("a", true), ("_score", false)]);
        check(&json!(["_score"]), &[]);
        assert_eq!(parse_sort_param("a:desc,b").unwrap().len(), 2);
        assert!(parse_sort_param("a:up").is_err());
    }

    #[test]
    fn options_are_kept() {
        let keys = parse_sort(&json!([{"a": {"mode": "avg", "missing": 5, "unmapped_type": "long", "format": "x"}}]));
        let SortBy::Field { mode, missing, unmapped_type, format, .. } = &keys.unwrap()[0].by else { panic!() };
        assert_eq!(*mode, Some(SortMode::Avg));
        assert_eq!(*missing, Missing::Value(ringdex_engine::query::Value::Int(5)));
        assert_eq!((unmapped_type.as_deref(), format.as_deref()), (Some("long"), Some("x")));
    }

    #[test]
    fn wrong_ones_are_named() {
        let reason = |j: Value| parse_sort(&j).unwrap_err().reason;
        assert_eq!(reason(json!([{"a": {"ordr": "asc"}}])), "[field_sort] unknown field [ordr] did you mean [order]?");
        assert_eq!(reason(json!([{"a": "up"}])), "No enum constant org.elasticsearch.search.sort.SortOrder.UP");
        assert!(reason(json!([1])).starts_with("malformed sort format"));
    }
}

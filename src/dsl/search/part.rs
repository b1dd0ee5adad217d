//! Parts of a search body with an inner structure.

use ringdex_engine::query::QueryKind;
use ringdex_engine::search::{FieldRequest, Rescore, RescoreMode, SortValue};
use serde_json::{Map, Value};

use super::{Slice, StoredFields, not_negative};
use crate::dsl::query::parse_query;
use crate::dsl::value::{failed_field, float, int, parsing, required_text, token, x_content};
use crate::dsl::{DslError, DslResult};

pub(super) fn stored_fields(names: Vec<String>) -> DslResult<StoredFields> {
    if names.iter().any(|n| n == "_none_") {
        if names.len() > 1 {
            return Err(DslError::illegal_argument("cannot combine _none_ with other fields"));
        }
        return Ok(StoredFields::None);
    }
    Ok(StoredFields::Names(names))
}

/// `docvalue_fields` and `fields`: a name, or an object with `field` and `format`.
pub(super) fn field_request(json: &Value) -> DslResult<FieldRequest> {
    const PARSER: &str = "docvalues_field";
    match json {
        Value::Object(map) => {
            let (mut field, mut format) = (None, None);
            for (key, value) in map {
                match key.as_str() {
                    "field" => field = Some(required_text(value).map_err(|e| failed_field(PARSER, key, e))?),
                    "format" => format = crate::dsl::value::text(value)?,
                    _ => return Err(x_content(format!("[{PARSER}] unknown field [{key}]"))),
                }
            }
            let field = field.ok_or_else(|| DslError::illegal_argument("Required [field]"))?;
            Ok(FieldRequest { field, format })
        }
        name => Ok(FieldRequest { field: required_text(name)?, format: None }),
    }
}

/// One `rescore`: a window, and a query that changes its scores.
pub(super) fn rescore(map: &Map<String, Value>) -> DslResult<Rescore> {
    let mut window_size = 10;
    let mut found = None;
    for (key, value) in map {
        match (key.as_str(), value) {
            ("window_size", value) => window_size = not_negative(int(value)?, "[window_size] cannot be negative")?,
            ("query", Value::Object(inner)) => found = Some(inner),
            (other, _) => return Err(parsing(format!("rescore doesn't support rescorer name [{other}]"))),
        }
    }
    let Some(inner) = found else { return Err(parsing("missing rescore type")) };
    let mut rescore = Rescore {
        window_size,
        query: QueryKind::MatchAll.into(),
        query_weight: 1.0,
        rescore_query_weight: 1.0,
        mode: RescoreMode::Total,
    };
    let mut given = false;
    for (key, value) in inner {
        match key.as_str() {
            "rescore_query" => {
                rescore.query = parse_query(value)?;
                given = true;
            }
            "query_weight" => rescore.query_weight = float(value)?,
            "rescore_query_weight" => rescore.rescore_query_weight = float(value)?,
            "score_mode" => {
                let mode = required_text(value)?;
                rescore.mode = match mode.to_ascii_lowercase().as_str() {
                    "avg" => RescoreMode::Avg,
                    "max" => RescoreMode::Max,
                    "min" => RescoreMode::Min,
                    "total" => RescoreMode::Total,
                    "multiply" => RescoreMode::Multiply,
                    _ => return Err(DslError::illegal_argument(format!("illegal score_mode [{mode}]"))),
                };
            }
            _ => return Err(x_content(format!("[query] unknown field [{key}]"))),
        }
    }
    if given { Ok(rescore) } else { Err(DslError::illegal_argument("Required [rescore_query]")) }
}

pub(super) fn slice(map: &Map<String, Value>) -> DslResult<Slice> {
    let (mut field, mut id, mut max) = ("_id".to_owned(), None, None);
    for (key, value) in map {
        match key.as_str() {
            "field" => field = required_text(value)?,
            "id" => id = Some(int(value)?),
            "max" => max = Some(int(value)?),
            _ => return Err(x_content(format!("[slice] unknown field [{key}]"))),
        }
    }
    let (id, max) = (id.unwrap_or(-1), max.unwrap_or(-1));
    let bad = |reason: &str| failed_field("slice", "max", DslError::illegal_argument(reason));
    if id < 0 {
        let reason = DslError::illegal_argument("id must be greater than or equal to 0");
        return Err(failed_field("slice", "id", reason));
    }
    if max <= 1 {
        return Err(bad("max must be greater than 1"));
    }
    if max <= id {
        return Err(bad("max must be greater than id"));
    }
    Ok(Slice { field, id: id as u32, max: max as u32 })
}

pub(super) fn search_after(items: &[Value]) -> DslResult<Vec<SortValue>> {
    if items.is_empty() {
        return Err(DslError::illegal_argument("Values must contains at least one value."));
    }
    items
        .iter()
        .map(|v| {
            Ok(match v {
                Value::Null => SortValue::Null,
                Value::Bool(b) => SortValue::Int(i64::from(*b)),
                Value::String(s) => SortValue::String(s.clone()),
                Value::Number(n) => {
                    if let Some(i) = n.as_i64() {
                        SortValue::Int(i)
                    } else if let Some(u) = n.as_u64() {
                        SortValue::UInt(u)
                    } else {
                        SortValue::Float(n.as_f64().unwrap_or(f64::NAN))
                    }
                }
                other => {
                    return Err(parsing(format!(
                        "Expected [VALUE_STRING] or [VALUE_NUMBER] or [VALUE_BOOLEAN] or [VALUE_NULL] but found [{}] inside search_after.",
                        token(other)
                    )));
                }
            })
        })
        .collect()
}

pub(super) fn point_in_time(map: &Map<String, Value>) -> DslResult<(String, Option<String>)> {
    let (mut id, mut keep_alive) = (None, None);
    for (key, value) in map {
        match key.as_str() {
            "id" => id = Some(required_text(value)?),
            "keep_alive" => keep_alive = Some(required_text(value)?),
            _ => return Err(x_content(format!("[pit] unknown field [{key}]"))),
        }
    }
    let id = id.ok_or_else(|| DslError::illegal_argument("Required [id]"))?;
    Ok((id, keep_alive))
}

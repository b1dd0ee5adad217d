//! Scalars of a body, as leniently read as Elasticsearch reads them: numbers and booleans may be strings.

use ringdex_engine::query::Value as Scalar;
use serde_json::{Map, Value};

use super::{DslError, DslResult};

/// 400 `parsing_exception`.
pub(super) fn parsing(reason: impl Into<String>) -> DslError {
    DslError::new(400, "parsing_exception", reason)
}

/// 400 `x_content_parse_exception`.
pub(super) fn x_content(reason: impl Into<String>) -> DslError {
    DslError::new(400, "x_content_parse_exception", reason)
}

/// An error inside a field of a declared object: the innermost cause is what clients are shown first.
pub(super) fn failed_field(parser: &str, field: &str, cause: DslError) -> DslError {
    let mut outer = x_content(format!("[{parser}] failed to parse field [{field}]"));
    let mut root = cause.clone();
    root.caused_by = None;
    root.root_causes = Vec::new();
    outer.root_causes = if cause.root_causes.is_empty() { vec![root] } else { cause.root_causes.clone() };
    outer.because(cause)
}

/// The parser's name of a value's first token.
pub(crate) fn token(value: &Value) -> &'static str {
    match value {
        Value::Null => "VALUE_NULL",
        Value::Bool(_) => "VALUE_BOOLEAN",
        Value::Number(_) => "VALUE_NUMBER",
        Value::String(_) => "VALUE_STRING",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    }
}

/// Null is no value where Elasticsearch's parser asks for one.
pub(super) fn is_value(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Array(_) | Value::Object(_))
}

/// A scalar as a query carries it; none for null, arrays and objects.
pub(crate) fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Bool(b) => Some(Scalar::Bool(*b)),
        Value::Number(n) => Some(if let Some(i) = n.as_i64() {
            Scalar::Int(i)
        } else if let Some(u) = n.as_u64() {
            Scalar::UInt(u)
        } else {
            Scalar::Float(n.as_f64().unwrap_or(f64::NAN))
        }),
        Value::String(s) => Some(Scalar::String(s.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A scalar's text; none for null.
pub(super) fn text(value: &Value) -> DslResult<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) => Ok(Some(s.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(DslError::new(400, "illegal_state_exception", format!("Can't get text on a {} at 1:1", token(value))))
        }
    }
}

/// The text of a scalar that must be there.
pub(super) fn required_text(value: &Value) -> DslResult<String> {
    text(value)?.ok_or_else(|| DslError::new(400, "illegal_state_exception", "Can't get text on a VALUE_NULL at 1:1"))
}

fn not_a_number(value: &Value) -> DslError {
    match value {
        Value::String(s) => DslError::new(400, "number_format_exception", format!("For input string: \"{s}\"")),
        other => DslError::new(
            400,
            "json_parse_exception",
            format!("Current token ({}) not numeric, can not use numeric value accessors", token(other)),
        ),
    }
}

pub(super) fn float(value: &Value) -> DslResult<f32> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    number.map(|n| n as f32).ok_or_else(|| not_a_number(value))
}

/// A 32-bit integer; a fraction is cut off, as the parser's coercion does.
pub(super) fn int(value: &Value) -> DslResult<i32> {
    let whole = long(value)?;
    i32::try_from(whole).map_err(|_| {
        DslError::new(
            400,
            "json_parse_exception",
            format!("Numeric value ({whole}) out of range of int (-2147483648 - 2147483647)"),
        )
    })
}

pub(super) fn long(value: &Value) -> DslResult<i64> {
    let from_float = |f: f64| (f.is_finite() && f.abs() < 9.2e18).then_some(f as i64);
    let number = match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().and_then(from_float)),
        Value::String(s) => s.trim().parse().ok().or_else(|| s.trim().parse().ok().and_then(from_float)),
        _ => None,
    };
    number.ok_or_else(|| not_a_number(value))
}

/// An integer that may not be negative; `what` is the message otherwise.
pub(super) fn count(value: &Value, what: &str) -> DslResult<u32> {
    u32::try_from(int(value)?).map_err(|_| DslError::illegal_argument(what))
}

pub(super) fn flag(value: &Value) -> DslResult<bool> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::String(s) if s == "true" => Ok(true),
        Value::String(s) if s == "false" => Ok(false),
        Value::String(s) => Err(DslError::illegal_argument(format!(
            "Failed to parse value [{s}] as only [true] or [false] are allowed."
        ))),
        other => Err(DslError::new(
            400,
            "json_parse_exception",
            format!("Current token ({}) not of boolean type", token(other)),
        )),
    }
}

/// A string or a list of them.
pub(super) fn strings(value: &Value) -> DslResult<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(required_text).collect(),
        other => Ok(vec![required_text(other)?]),
    }
}

/// The object, or none.
pub(super) fn object(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

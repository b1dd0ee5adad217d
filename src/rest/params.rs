//! Typed reading of query parameters and bodies, with Elasticsearch's words for what is wrong.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::request::Request;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::shard::message::RefreshPolicy;

/// A boolean; an empty value means true.
pub fn flag(request: &Request, name: &str, default: bool) -> ApiResult<bool> {
    match optional_flag(request, name)? {
        Some(value) => Ok(value),
        None => Ok(default),
    }
}

/// A boolean that may be missing.
pub fn optional_flag(request: &Request, name: &str) -> ApiResult<Option<bool>> {
    match request.param(name) {
        None => Ok(None),
        Some("" | "true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(ApiError::illegal_argument(format!(
            "Failed to parse value [{other}] as only [true] or [false] are allowed."
        ))),
    }
}

/// A 32-bit integer.
pub fn int(request: &Request, name: &str) -> ApiResult<Option<i32>> {
    request
        .param(name)
        .map(|text| {
            text.parse().map_err(|_| {
                ApiError::illegal_argument(format!("Failed to parse int parameter [{name}] with value [{text}]"))
                    .because(ApiError::new(400, "number_format_exception", format!("For input string: \"{text}\"")))
            })
        })
        .transpose()
}

/// A 64-bit integer.
pub fn long(request: &Request, name: &str) -> ApiResult<Option<i64>> {
    request
        .param(name)
        .map(|text| {
            text.parse().map_err(|_| {
                ApiError::illegal_argument(format!("Failed to parse long parameter [{name}] with value [{text}]"))
                    .because(ApiError::new(400, "number_format_exception", format!("For input string: \"{text}\"")))
            })
        })
        .transpose()
}

/// A float.
pub fn float(request: &Request, name: &str) -> ApiResult<Option<f32>> {
    request
        .param(name)
        .map(|text| {
            text.parse().map_err(|_| {
                ApiError::illegal_argument(format!("Failed to parse float parameter [{name}] with value [{text}]"))
            })
        })
        .transpose()
}

/// A comma-separated list; empty entries are left out.
#[must_use]
pub fn list(request: &Request, name: &str) -> Option<Vec<String>> {
    request.param(name).map(split_list)
}

/// Splits at commas; empty entries are left out.
#[must_use]
pub fn split_list(text: &str) -> Vec<String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// A duration in milliseconds; `-1` is `Some(-1)`.
pub fn time(request: &Request, name: &str) -> ApiResult<Option<i64>> {
    request.param(name).map(|text| parse_time(text, name)).transpose()
}

/// Reads `30s`, `1.5h`, `500ms`, `-1`, `0`.
pub fn parse_time(text: &str, setting: &str) -> ApiResult<i64> {
    let nanos = parse_time_ns(text, setting)?;
    Ok(if nanos < 0 { -1 } else { (nanos / 1_000_000) as i64 })
}

/// The same in nanoseconds.
pub fn parse_time_ns(text: &str, setting: &str) -> ApiResult<i128> {
    let lower = text.trim().to_ascii_lowercase();
    let bad = |why: &str| {
        ApiError::illegal_argument(format!(
            "failed to parse setting [{setting}] with value [{text}] as a time value: {why}"
        ))
    };
    if lower == "-1" {
        return Ok(-1);
    }
    if !lower.is_empty() && lower.bytes().all(|b| b == b'0') {
        return Ok(0);
    }
    const UNITS: [(&str, i128); 7] = [
        ("nanos", 1),
        ("micros", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    for (unit, factor) in UNITS {
        let Some(number) = lower.strip_suffix(unit) else { continue };
        let number = number.trim();
        if number.contains('.') {
            return Err(ApiError::illegal_argument(format!(
                "failed to parse [{text}], fractional time values are not supported"
            )));
        }
        let number: i64 = number.parse().map_err(|_| {
            ApiError::illegal_argument(format!("failed to parse [{text}]")).because(ApiError::new(
                400,
                "number_format_exception",
                format!("For input string: \"{number}\""),
            ))
        })?;
        if number < -1 || (number == -1 && unit != "ms") {
            return Err(ApiError::illegal_argument(format!(
                "failed to parse setting [{setting}] with value [{text}] as a time value: negative durations are not supported"
            )));
        }
        return Ok(i128::from(number) * factor);
    }
    Err(bad("unit is missing or unrecognized"))
}

/// Reads `512mb`, `1kb`, `100b`, `-1`.
pub fn parse_bytes(text: &str, setting: &str) -> ApiResult<i64> {
    let lower = text.trim().to_ascii_lowercase();
    if lower == "-1" {
        return Ok(-1);
    }
    if lower == "0" {
        return Ok(0);
    }
    const UNITS: [(&str, f64); 11] = [
        ("pb", 1_125_899_906_842_624.0),
        ("tb", 1_099_511_627_776.0),
        ("gb", 1_073_741_824.0),
        ("mb", 1_048_576.0),
        ("kb", 1024.0),
        ("p", 1_125_899_906_842_624.0),
        ("t", 1_099_511_627_776.0),
        ("g", 1_073_741_824.0),
        ("m", 1_048_576.0),
        ("k", 1024.0),
        ("b", 1.0),
    ];
    for (unit, factor) in UNITS {
        let Some(number) = lower.strip_suffix(unit) else { continue };
        return match number.trim().parse::<f64>() {
            Ok(n) if n >= 0.0 && n * factor < i64::MAX as f64 => Ok((n * factor) as i64),
            _ => Err(parse_exception(format!(
                "failed to parse setting [{setting}] with value [{text}] as a size in bytes"
            ))),
        };
    }
    Err(parse_exception(format!(
        "failed to parse setting [{setting}] with value [{text}] as a size in bytes: unit is missing or unrecognized"
    )))
}

/// 400 `parse_exception`.
#[must_use]
pub fn parse_exception(reason: impl Into<String>) -> ApiError {
    ApiError::new(400, "parse_exception", reason)
}

/// `refresh=`: empty and `true` mean now.
pub fn refresh(request: &Request) -> ApiResult<RefreshPolicy> {
    match request.param("refresh") {
        None | Some("false") => Ok(RefreshPolicy::None),
        Some("" | "true") => Ok(RefreshPolicy::Immediate),
        Some("wait_for") => Ok(RefreshPolicy::WaitFor),
        Some(other) => Err(ApiError::illegal_argument(format!("Unknown value for refresh: [{other}]."))),
    }
}

/// How many copies must be active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ActiveShards {
    /// What the index says (1).
    #[default]
    Default,
    /// At least so many.
    Count(u32),
    /// More than half of all copies, where there are more than two.
    Quorum,
    /// Primary and all replicas.
    All,
}

/// Reads `wait_for_active_shards`.
pub fn parse_active_shards(text: &str) -> ApiResult<ActiveShards> {
    match text {
        "all" => Ok(ActiveShards::All),
        other => match other.parse::<i32>() {
            Ok(-2) => Ok(ActiveShards::Default),
            Ok(-1) => Ok(ActiveShards::All),
            Ok(n) if n >= 0 => Ok(ActiveShards::Count(n as u32)),
            Ok(_) => Err(ApiError::illegal_argument(
                "waitForActiveShards must be an integer >= 0 or one of -1/\"all\"/-2/\"index-setting\""
                    .replace("/\"index-setting\"", ""),
            )),
            Err(_) => Err(ApiError::illegal_argument(format!("cannot parse ActiveShardCount[{other}]"))),
        },
    }
}

/// `wait_for_active_shards`.
pub fn active_shards(request: &Request) -> ApiResult<ActiveShards> {
    request.param("wait_for_active_shards").map_or(Ok(ActiveShards::Default), parse_active_shards)
}

/// `ignore_unavailable`, `allow_no_indices`, `expand_wildcards` over an API's defaults.
pub fn indices_options(request: &Request, defaults: IndicesOptions) -> ApiResult<IndicesOptions> {
    let mut options = defaults;
    options.ignore_unavailable = flag(request, "ignore_unavailable", options.ignore_unavailable)?;
    options.allow_no_indices = flag(request, "allow_no_indices", options.allow_no_indices)?;
    if let Some(words) = list(request, "expand_wildcards") {
        options.expand(words.iter().map(String::as_str))?;
    }
    Ok(options)
}

/// The index expressions of the path; empty = all.
#[must_use]
pub fn indices(request: &Request) -> Vec<String> {
    list(request, "index").unwrap_or_default()
}

/// The whole body as JSON; none when there is no body.
pub async fn body_json(request: &mut Request) -> ApiResult<Option<Value>> {
    let bytes = request.body.collect().await?;
    if let Some(task) = &request.task {
        task.has_body(&bytes);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let yaml = request.header("content-type").and_then(super::http::media_type) == Some(super::http::MediaType::Yaml);
    let _ = yaml;
    parse_json(&bytes).map(Some)
}

/// The whole body, which must be there.
pub async fn body_bytes(request: &mut Request) -> ApiResult<Bytes> {
    let bytes = request.body.collect().await?;
    if bytes.is_empty() {
        return Err(body_required());
    }
    Ok(bytes)
}

/// The whole body as JSON, which must be there.
pub async fn required_json(request: &mut Request) -> ApiResult<Value> {
    body_json(request).await?.ok_or_else(body_required)
}

/// 400 for a missing body.
#[must_use]
pub fn body_required() -> ApiError {
    parse_exception("request body is required")
}

/// Parses JSON; what is wrong becomes Elasticsearch's 400.
pub fn parse_json(bytes: &[u8]) -> ApiResult<Value> {
    serde_json::from_slice(bytes).map_err(|e| json_error(&e, bytes))
}

/// The 400 of broken JSON.
#[must_use]
pub fn json_error(error: &serde_json::Error, bytes: &[u8]) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let found = String::from_utf8_lossy(bytes);
    let near: Cow<'_, str> = found.lines().nth(line.saturating_sub(1)).unwrap_or("").to_owned().into();
    let reason = if error.is_eof() {
        "Unexpected end-of-input: expected close marker for Object".to_owned()
    } else {
        let at = near.chars().nth(column.saturating_sub(1)).unwrap_or(' ');
        format!("Unexpected character ('{at}' (code {})): {error}", u32::from(at))
    };
    ApiError::new(
        400,
        if error.is_eof() { "json_e_o_f_exception" } else { "json_parse_exception" },
        format!("{reason}\n at [Source: (byte[])\"{}\"; line: {line}, column: {column}]", truncate(&found, 500)),
    )
}

/// At most `chars` characters of a text.
#[must_use]
pub fn truncate(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// The object in `value`, or a parse error that names it.
pub fn object<'a>(value: &'a Value, what: &str) -> ApiResult<&'a serde_json::Map<String, Value>> {
    value.as_object().ok_or_else(|| parse_exception(format!("{what} must be an object")))
}

/// A string or a list of strings.
#[must_use]
pub fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list.iter().filter(|v| !v.is_null()).map(text).collect(),
        other => vec![text(other)],
    }
}

/// A scalar as text.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// A lenient boolean: `true`, `"true"`.
pub fn boolean(value: &Value) -> ApiResult<bool> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::String(s) if s == "true" => Ok(true),
        Value::String(s) if s == "false" => Ok(false),
        other => Err(ApiError::illegal_argument(format!(
            "Failed to parse value [{}] as only [true] or [false] are allowed.",
            text(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_units() {
        assert_eq!(parse_time("30s", "t").unwrap(), 30_000);
        assert_eq!(parse_time("1500micros", "t").unwrap(), 1);
        assert_eq!(parse_time("-1", "t").unwrap(), -1);
        assert_eq!(parse_time("0", "t").unwrap(), 0);
        assert_eq!(
            parse_time("30", "timeout").unwrap_err().reason,
            "failed to parse setting [timeout] with value [30] as a time value: unit is missing or unrecognized"
        );
        assert!(parse_time("99999999999999999999s", "t").is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_bytes("512mb", "s").unwrap(), 512 << 20);
        assert_eq!(parse_bytes("1.5kb", "s").unwrap(), 1536);
        assert!(parse_bytes("5", "s").is_err());
    }
}

//! From the field that a request names to the column that a segment has.

use crate::error::{Error, Result};
use crate::mapping::date::{DateFormat, math};
use crate::mapping::{FieldMapping, FieldType, Mapping, number};
use crate::query::Value;
use crate::search::aggs::format::{ValueFormat, parse_zone};
use crate::search::aggs::values::NumberKind;
use crate::search::aggs::{AggContext, ValuesSource};
use crate::segment::ColumnKind;

/// Where values come from, by an index's mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// Not mapped, and nothing takes its place.
    Unmapped,
    Numbers {
        field: String,
        kind: NumberKind,
        missing: Option<u64>,
    },
    Terms {
        field: String,
        /// 16-byte addresses.
        ip: bool,
        missing: Option<Vec<u8>>,
    },
}

impl Source {
    /// Every document has this term: there is no such column, so that it stands for the missing value of all.
    fn constant(term: &str) -> Source {
        Source::Terms { field: "_index".to_owned(), ip: false, missing: Some(term.as_bytes().to_vec()) }
    }
}

/// What an aggregation computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Numbers; `missing` of an unmapped field is one.
    Numbers,
    /// Dates.
    Dates,
    /// Any column; `missing` of an unmapped field is a string.
    Any,
    /// Addresses.
    Ips,
}

/// A source and how its values are shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub source: Source,
    pub format: ValueFormat,
}

/// Resolves `source` for the aggregation `agg` (its type, for errors).
pub(crate) fn resolve(
    source: &ValuesSource,
    wants: Wants,
    agg: &str,
    mapping: &Mapping,
    context: &AggContext,
) -> Result<Resolved> {
    if source.field == "_index" && matches!(wants, Wants::Any) {
        return Ok(Resolved { source: Source::constant(&context.index), format: ValueFormat::Raw });
    }
    let Some(field) = mapping.field(&source.field) else { return unmapped(source, wants, context) };
    if field.spec.column == ColumnKind::None {
        return Err(no_column(field));
    }
    let unsupported = || {
        Error::illegal_argument(format!(
            "Field [{}] of type [{}] is not supported for aggregation [{agg}]",
            source.field,
            type_name(&field.kind)
        ))
    };
    let name = field.path.clone();
    match NumberKind::of(&field.kind) {
        Some(kind) => {
            if wants == Wants::Ips {
                return Err(unsupported());
            }
            let format = number_format(source, kind, field.format.as_deref())?;
            let missing = source.missing.as_ref().map(|v| encode(v, kind, &format, context)).transpose()?;
            Ok(Resolved { source: Source::Numbers { field: name, kind, missing }, format })
        }
        None if field.spec.column == ColumnKind::Ordinals => {
            let ip = field.kind == FieldType::Ip;
            if matches!(wants, Wants::Numbers | Wants::Dates) || (wants == Wants::Ips && !ip) {
                return Err(unsupported());
            }
            let missing = source.missing.as_ref().map(|v| encode_term(v, ip)).transpose()?;
            Ok(Resolved { source: Source::Terms { field: name, ip, missing }, format: ValueFormat::Raw })
        }
        None => Err(unsupported()),
    }
}

fn unmapped(source: &ValuesSource, wants: Wants, context: &AggContext) -> Result<Resolved> {
    let kind = match (source.value_type.as_deref(), wants) {
        (Some("long" | "integer" | "short" | "byte"), _) => Some(NumberKind::Long),
        (Some("double" | "float" | "number" | "numeric"), _) => Some(NumberKind::Double),
        (Some("boolean"), _) => Some(NumberKind::Boolean),
        (Some("date"), _) | (None, Wants::Dates) => Some(NumberKind::Date),
        (None, Wants::Numbers) => Some(NumberKind::Double),
        _ => None,
    };
    let ip = wants == Wants::Ips || source.value_type.as_deref() == Some("ip");
    let format = match kind {
        Some(kind) => number_format(source, kind, None)?,
        None => ValueFormat::Raw,
    };
    let field = source.field.clone();
    let source = match (&source.missing, kind) {
        (None, _) => Source::Unmapped,
        (Some(value), Some(kind)) => {
            Source::Numbers { field, kind, missing: Some(encode(value, kind, &format, context)?) }
        }
        (Some(value), None) => Source::Terms { field, ip, missing: Some(encode_term(value, ip)?) },
    };
    Ok(Resolved { source, format })
}

fn number_format(source: &ValuesSource, kind: NumberKind, own: Option<&str>) -> Result<ValueFormat> {
    let format = match (kind, &source.format) {
        (kind, given) if kind.is_date() => ValueFormat::Date {
            format: given.as_deref().or(own).unwrap_or(crate::mapping::date::DEFAULT_FORMAT).to_owned(),
            zone: source.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
        },
        (NumberKind::Boolean, None) => ValueFormat::Boolean,
        (_, Some(pattern)) => ValueFormat::Decimal(pattern.clone()),
        (_, None) => ValueFormat::Raw,
    };
    format.printer()?;
    Ok(format)
}

/// A value that the request names, in a column's encoding.
pub(crate) fn encode(value: &Value, kind: NumberKind, format: &ValueFormat, context: &AggContext) -> Result<u64> {
    let bad = || {
        let text = text_of(value);
        Error::request("number_format_exception", format!("For input string: \"{text}\""))
    };
    Ok(match kind {
        NumberKind::Date | NumberKind::DateNanos => {
            let ms = date_ms(value, format, context)?;
            let stored = if kind == NumberKind::DateNanos { ms.saturating_mul(1_000_000) } else { ms };
            number::from_i64(stored)
        }
        NumberKind::Boolean => match value {
            Value::Bool(b) => u64::from(*b),
            Value::Int(n) => u64::from(*n != 0),
            Value::UInt(_) => 1,
            Value::Float(f) => u64::from(*f != 0.0),
            Value::String(s) => match s.as_str() {
                "true" | "1" => 1,
                "false" | "0" | "" => 0,
                _ => {
                    return Err(Error::illegal_argument(format!(
                        "Cannot parse boolean [{s}], expected either [true] or [false]"
                    )));
                }
            },
        },
        NumberKind::Long => match value {
            Value::Int(n) => number::from_i64(*n),
            Value::UInt(_) => number::from_i64(i64::MAX),
            other => number::from_i64(as_f64(other).ok_or_else(bad)? as i64),
        },
        NumberKind::Unsigned => match value {
            Value::Int(n) => u64::try_from(*n).unwrap_or(0),
            Value::UInt(n) => *n,
            Value::String(s) => s.parse().map_err(|_| bad())?,
            other => as_f64(other).ok_or_else(bad)? as u64,
        },
        NumberKind::Double => number::from_f64(as_f64(value).ok_or_else(bad)?),
        NumberKind::Float => number::from_f32(as_f64(value).ok_or_else(bad)? as f32),
        NumberKind::HalfFloat => number::from_f16_bits(number::f32_to_f16(as_f64(value).ok_or_else(bad)? as f32)),
        NumberKind::Scaled(factor) => number::from_i64((as_f64(value).ok_or_else(bad)? * factor).round() as i64),
    })
}

/// A date that the request names, in milliseconds: a number, a date in the format, or date math.
pub(crate) fn date_ms(value: &Value, format: &ValueFormat, context: &AggContext) -> Result<i64> {
    let (format, zone) = match format {
        ValueFormat::Date { format, zone } => (format.as_str(), zone.as_str()),
        _ => (crate::mapping::date::DEFAULT_FORMAT, "UTC"),
    };
    let format = DateFormat::new(format).map_err(Error::illegal_argument)?;
    let text = text_of(value);
    match math::evaluate(&text, &format, context.now_ms, false, &parse_zone(zone)?) {
        Ok(moment) => moment.to_millis().ok_or_else(|| Error::illegal_argument(format!("date out of range: {text}"))),
        Err(reason) => match value {
            // Plain numbers are milliseconds whatever the format.
            Value::Int(ms) => Ok(*ms),
            Value::Float(ms) => Ok(*ms as i64),
            _ => Err(Error::request("parse_exception", reason)),
        },
    }
}

fn encode_term(value: &Value, ip: bool) -> Result<Vec<u8>> {
    let text = text_of(value);
    if !ip {
        return Ok(text.into_bytes());
    }
    parse_ip(&text)
        .map(|ip| ip.to_vec())
        .ok_or_else(|| Error::illegal_argument(format!("'{text}' is not an IP string literal.")))
}

/// An address as the index keeps it.
#[must_use]
pub fn parse_ip(text: &str) -> Option<[u8; 16]> {
    Some(match text.parse().ok()? {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    })
}

/// A 16-byte address as a client reads it.
#[must_use]
pub fn print_ip(ip: [u8; 16]) -> String {
    let v6 = std::net::Ipv6Addr::from(ip);
    v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
}

/// A scalar as text.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(f) => super::format::java_double(*f),
        Value::String(s) => s.clone(),
    }
}

pub(crate) fn as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::Int(n) => Some(*n as f64),
        Value::UInt(n) => Some(*n as f64),
        Value::Float(f) => Some(*f),
        Value::String(s) => s.trim().parse().ok().filter(|f: &f64| !f.is_nan()),
    }
}

fn no_column(field: &FieldMapping) -> Error {
    if field.kind == FieldType::Text {
        return Error::illegal_argument(format!(
            "Text fields are not optimised for operations that require per-document field data like aggregations and \
             sorting, so these operations are disabled by default. Please use a keyword field instead. Alternatively, \
             set fielddata=true on [{}] in order to load field data by uninverting the inverted index. Note that this \
             can use significant memory.",
            field.path
        ));
    }
    Error::illegal_argument(format!(
        "Can't load fielddata on [{}] because fielddata is unsupported on fields of type [{}]. Use doc values instead.",
        field.path,
        type_name(&field.kind)
    ))
}

fn type_name(kind: &FieldType) -> &str {
    match kind {
        FieldType::Text => "text",
        FieldType::Keyword => "keyword",
        FieldType::Long => "long",
        FieldType::Integer => "integer",
        FieldType::Short => "short",
        FieldType::Byte => "byte",
        FieldType::UnsignedLong => "unsigned_long",
        FieldType::Double => "double",
        FieldType::Float => "float",
        FieldType::HalfFloat => "half_float",
        FieldType::ScaledFloat { .. } => "scaled_float",
        FieldType::Date => "date",
        FieldType::DateNanos => "date_nanos",
        FieldType::Boolean => "boolean",
        FieldType::Ip => "ip",
        FieldType::Binary => "binary",
        FieldType::GeoPoint => "geo_point",
        FieldType::Opaque(name) => name,
    }
}

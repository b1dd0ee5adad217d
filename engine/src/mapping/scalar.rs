//! One JSON scalar as one value of a field: the rules both documents and queries follow. Errors are the inner causes
//! that Elasticsearch reports.

use serde_json::Value;

use super::date::Instant;
use super::{FieldMapping, FieldType, geo, ip, number};
use crate::error::ParseError;

/// A scalar as it stands in the document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A string, unescaped.
    Text(&'a str),
    /// A number, as written.
    Number(&'a str),
    /// true, false.
    Bool(bool),
}

impl<'a> Scalar<'a> {
    /// As text fields see it.
    #[must_use]
    pub fn text(self) -> &'a str {
        match self {
            Scalar::Text(text) | Scalar::Number(text) => text,
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
        }
    }
}

fn illegal<T>(reason: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError::new("illegal_argument_exception", reason))
}

fn not_a_number<T>(text: &str) -> Result<T, ParseError> {
    Err(ParseError::new("number_format_exception", format!("For input string: \"{text}\"")))
}

/// The value of a field with a number column; none where an empty text stands for nothing.
///
/// # Errors
/// What the value is not.
pub fn encode_number(field: &FieldMapping, value: Scalar<'_>) -> Result<Option<u64>, ParseError> {
    let kind = &field.kind;
    match kind {
        FieldType::Boolean => return encode_boolean(value).map(|b| Some(u64::from(b))),
        FieldType::Date | FieldType::DateNanos => return encode_date(field, value).map(Some),
        FieldType::GeoPoint => {
            let point = geo::parse(value.text(), field.ignore_z_value)
                .and_then(|p| p.checked(&field.path))
                .map_err(|why| ParseError::new("parse_exception", why))?;
            return Ok(Some(geo::pack(point)));
        }
        _ => {}
    }
    let text = match value {
        Scalar::Bool(_) => {
            let token = if value == Scalar::Bool(true) { "VALUE_TRUE" } else { "VALUE_FALSE" };
            return Err(ParseError::new(
                "json_parse_exception",
                format!("Current token ({token}) not numeric, can not use numeric value accessors"),
            ));
        }
        Scalar::Text("") if field.coerce => return Ok(None),
        Scalar::Text(_) if !field.coerce => {
            return illegal(format!("{} value passed as String", java_class(kind)));
        }
        Scalar::Text(text) | Scalar::Number(text) => text,
    };
    match kind {
        FieldType::Long | FieldType::Integer | FieldType::Short | FieldType::Byte => {
            encode_integer(kind, text, field.coerce).map(Some)
        }
        FieldType::UnsignedLong => encode_unsigned(text).map(Some),
        FieldType::Double | FieldType::Float | FieldType::HalfFloat | FieldType::ScaledFloat { .. } => {
            let double = parse_double(text)?;
            match encode_double(kind, double) {
                Some(sortable) => Ok(Some(sortable)),
                None => illegal(format!(
                    "[{}] supports only finite values, but got [{}]",
                    field.type_name,
                    java_double(double)
                )),
            }
        }
        other => unreachable!("{other:?} has no number column"),
    }
}

fn java_class(kind: &FieldType) -> &'static str {
    match kind {
        FieldType::Long | FieldType::UnsignedLong => "Long",
        FieldType::Integer => "Integer",
        FieldType::Short | FieldType::Byte => "Short",
        FieldType::Float | FieldType::HalfFloat => "Float",
        _ => "Double",
    }
}

/// A double as Java prints the special ones.
fn java_double(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// A double as Java reads one.
///
/// # Errors
/// `number_format_exception`.
pub fn parse_double(text: &str) -> Result<f64, ParseError> {
    let trimmed = text.trim();
    // Rust reads more names of infinity than Java does; those are texts.
    let first = trimmed.trim_start_matches(['+', '-']).bytes().next();
    match trimmed.parse::<f64>() {
        Ok(value) if first.is_some_and(|b| b.is_ascii_digit() || b == b'.') => Ok(value),
        Ok(value) if matches!(trimmed.trim_start_matches(['+', '-']), "NaN" | "Infinity") => Ok(value),
        _ if text.is_empty() => Err(ParseError::new("number_format_exception", "empty String")),
        _ => not_a_number(text),
    }
}

/// A double rounded to what the type can hold; none when that is not finite.
#[must_use]
pub fn encode_double(kind: &FieldType, value: f64) -> Option<u64> {
    match kind {
        FieldType::Double => value.is_finite().then(|| number::from_f64(value)),
        FieldType::Float => (value as f32).is_finite().then(|| number::from_f32(value as f32)),
        FieldType::HalfFloat => {
            let bits = number::f32_to_f16(value as f32);
            number::f16_to_f32(bits).is_finite().then(|| number::from_f16_bits(bits))
        }
        FieldType::ScaledFloat { scaling_factor } => {
            let scaled = value * scaling_factor;
            scaled.is_finite().then(|| number::from_i64(java_round(scaled)))
        }
        other => unreachable!("{other:?} is no floating point type"),
    }
}

/// `Math.round`: ties go up.
pub(super) fn java_round(value: f64) -> i64 {
    let floor = value.floor();
    (if value - floor >= 0.5 { floor + 1.0 } else { floor }) as i64
}

/// A whole number: `integral` towards zero, and whether digits other than 0 were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Truncated; values beyond 128 bits are saturated.
    pub integral: i128,
    /// Whether something was truncated.
    pub fraction: bool,
    /// Also for zero.
    pub negative: bool,
}

/// Reads a decimal number exactly (`-12.5e3`); none if it is not one.
#[must_use]
pub fn parse_decimal(text: &str) -> Option<Decimal> {
    let bytes = text.as_bytes();
    let negative = bytes.first() == Some(&b'-');
    let unsigned = &bytes[usize::from(negative || bytes.first() == Some(&b'+'))..];
    let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => {
            let exponent = std::str::from_utf8(&unsigned[at + 1..]).ok()?;
            let digits = exponent.trim_start_matches(['+', '-']);
            if digits.is_empty() || exponent.len() - digits.len() > 1 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // Beyond 32 bits only the sign matters.
            let limit = if exponent.starts_with('-') { i32::MIN / 2 } else { i32::MAX / 2 };
            (&unsigned[..at], exponent.parse().unwrap_or(limit).clamp(i32::MIN / 2, i32::MAX / 2))
        }
        None => (unsigned, 0i32),
    };
    let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
    let (mut digits, mut integral, mut fraction) = (0usize, 0i128, false);
    // Digits before this index are whole: the point, moved by the exponent.
    let whole = i64::try_from(point).ok()? + i64::from(exponent);
    for (i, byte) in mantissa.iter().enumerate() {
        if i == point {
            continue;
        }
        if !byte.is_ascii_digit() {
            return None;
        }
        let index = digits as i64;
        digits += 1;
        if index < whole {
            integral = integral.saturating_mul(10).saturating_add(i128::from(byte - b'0'));
        } else {
            fraction |= *byte != b'0';
        }
    }
    if digits == 0 {
        return None;
    }
    // Zeros that the exponent adds; 40 of them saturate anything.
    for _ in 0..(whole - digits as i64).clamp(0, 40) {
        integral = integral.saturating_mul(10);
    }
    Some(Decimal { integral: if negative { -integral } else { integral }, fraction, negative })
}

/// Smallest and largest value, and the type's name in errors.
pub(super) fn integer_range(kind: &FieldType) -> (i64, i64, &'static str) {
    match kind {
        FieldType::Long => (i64::MIN, i64::MAX, "a long"),
        FieldType::Integer => (i32::MIN.into(), i32::MAX.into(), "an integer"),
        FieldType::Short => (i16::MIN.into(), i16::MAX.into(), "a short"),
        FieldType::Byte => (i8::MIN.into(), i8::MAX.into(), "a byte"),
        other => unreachable!("{other:?} is no integer type"),
    }
}

fn encode_integer(kind: &FieldType, text: &str, coerce: bool) -> Result<u64, ParseError> {
    let (min, max, name) = integer_range(kind);
    // Nearly every number: up to 18 plain digits.
    let plain = match text.len() {
        1..=18 => text.parse::<i64>().ok(),
        _ => None,
    };
    let value = match plain {
        Some(value) => i128::from(value),
        None => match parse_decimal(text.trim()) {
            None if *kind == FieldType::Long => {
                return illegal(format!("For input string: \"{text}\""));
            }
            None => return not_a_number(text),
            Some(decimal) if decimal.fraction && !coerce => {
                return illegal(format!("Value [{text}] has a decimal part"));
            }
            Some(decimal) => decimal.integral,
        },
    };
    match i64::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(number::from_i64(value)),
        _ => illegal(format!("Value [{text}] is out of range for {name}")),
    }
}

fn encode_unsigned(text: &str) -> Result<u64, ParseError> {
    if let Ok(value) = text.parse::<u64>() {
        return Ok(value);
    }
    match parse_decimal(text.trim()) {
        None => not_a_number(text),
        Some(decimal) if decimal.fraction => illegal(format!("Value [{text}] has a decimal part")),
        Some(decimal) => u64::try_from(decimal.integral)
            .or_else(|_| illegal(format!("Value [{text}] is out of range for unsigned long"))),
    }
}

/// # Errors
/// Anything but `true`, `false`, their texts, and an empty text (false).
pub fn encode_boolean(value: Scalar<'_>) -> Result<bool, ParseError> {
    match value {
        Scalar::Bool(b) => Ok(b),
        Scalar::Text("true") => Ok(true),
        Scalar::Text("false" | "") => Ok(false),
        Scalar::Text(text) => illegal(format!("Failed to parse value [{text}] as only [true] or [false] are allowed.")),
        Scalar::Number(text) => {
            let token = if text.contains(['.', 'e', 'E']) { "VALUE_NUMBER_FLOAT" } else { "VALUE_NUMBER_INT" };
            Err(ParseError::new("json_parse_exception", format!("Current token ({token}) not of boolean type")))
        }
    }
}

fn encode_date(field: &FieldMapping, value: Scalar<'_>) -> Result<u64, ParseError> {
    let format = field.date_format.as_ref().expect("dates have a format");
    let text = value.text();
    let Some(moment) = format.parse(text) else {
        let mut error = ParseError::new(
            "illegal_argument_exception",
            format!("failed to parse date field [{text}] with format [{}]", format.text()),
        );
        error.caused_by = Some(Box::new(ParseError::new("date_time_parse_exception", format.explain(text))));
        return Err(error);
    };
    encode_instant(&field.kind, moment).map_err(|why| ParseError::new("illegal_argument_exception", why))
}

/// A moment in the resolution of a date type.
pub(super) fn encode_instant(kind: &FieldType, moment: Instant) -> Result<u64, String> {
    // No fraction, or as many digits as milliseconds, microseconds or nanoseconds have.
    let shown = || {
        let mut text = String::new();
        super::date::DateFormat::new("strict_date_optional_time_nanos").expect("a known format").print(
            moment,
            &super::date::Zone::Utc,
            &mut text,
        );
        let (seconds, digits) = match text.split_once('.') {
            Some((seconds, fraction)) => {
                (seconds.to_owned(), fraction.trim_end_matches('Z').trim_end_matches('0').len())
            }
            None => return text,
        };
        let fraction = format!("{:09}", moment.nanos);
        match digits.div_ceil(3) * 3 {
            0 => format!("{seconds}Z"),
            digits => format!("{seconds}.{}Z", &fraction[..digits]),
        }
    };
    if *kind == FieldType::Date {
        return moment.to_millis().map(number::from_i64).ok_or_else(|| format!("date[{}] is out of range", shown()));
    }
    if moment.seconds < 0 {
        return Err(format!(
            "date[{}] is before the epoch in 1970 and cannot be stored in nanosecond resolution",
            shown()
        ));
    }
    moment.to_nanos().map(number::from_i64).ok_or_else(|| {
        format!(
            "date[{}] is after 2262-04-11T23:47:16.854775807 and cannot be stored in nanosecond resolution",
            shown()
        )
    })
}

/// # Errors
/// Not an address.
pub fn encode_ip(value: Scalar<'_>) -> Result<[u8; 16], ParseError> {
    let text = value.text();
    ip::parse(text).map_or_else(|| illegal(format!("'{text}' is not an IP string literal.")), Ok)
}

/// What a number column's value means, as a moment.
pub(super) fn decode_instant(kind: &FieldType, sortable: u64) -> Instant {
    match kind {
        FieldType::DateNanos => Instant::from_nanos(number::to_i64(sortable)),
        _ => Instant::from_millis(number::to_i64(sortable)),
    }
}

/// Whether a field's `null_value` can stand for its nulls.
pub(super) fn check_null_value(field: &FieldMapping, value: &Value) -> Result<(), ParseError> {
    let text;
    let scalar = match value {
        Value::String(s) => Scalar::Text(s),
        Value::Bool(b) => Scalar::Bool(*b),
        Value::Number(n) => {
            text = n.to_string();
            Scalar::Number(&text)
        }
        _ if field.kind == FieldType::GeoPoint => return Ok(()),
        _ => return illegal("must be a text, a number, true or false"),
    };
    match field.kind {
        FieldType::Text | FieldType::Keyword | FieldType::Binary | FieldType::Opaque(_) => Ok(()),
        FieldType::Ip => encode_ip(scalar).map(drop),
        _ => encode_number(field, scalar).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_exactly() {
        let check = |text: &str, expected: Option<(i128, bool)>| {
            assert_eq!(parse_decimal(text).map(|d| (d.integral, d.fraction)), expected, "{text}");
        };
        check("12", Some((12, false)));
        check("-12.5", Some((-12, true)));
        check("1.50e1", Some((15, false)));
        check("1.55e1", Some((15, true)));
        check("12e-1", Some((1, true)));
        check("120e-1", Some((12, false)));
        check("5e-3", Some((0, true)));
        check("0.000", Some((0, false)));
        check("9223372036854775808", Some((9_223_372_036_854_775_808, false)));
        check("1e400", Some((i128::MAX, false)));
        check("1e99999999999", Some((i128::MAX, false)));
        check("1e-99999999999", Some((0, true)));
        check(".5", Some((0, true)));
        check("5.", Some((5, false)));
        for bad in ["", "-", ".", "e5", "1e", "1e+-5", "1.2.3", "0x10", "abc", " 1"] {
            check(bad, None);
        }
    }

    #[test]
    fn doubles_are_read_as_java_reads_them() {
        assert_eq!(parse_double(" 1.5 ").unwrap(), 1.5);
        assert_eq!(parse_double("1e400").unwrap(), f64::INFINITY);
        assert!(parse_double("NaN").unwrap().is_nan());
        for bad in ["", "inf", "nan", "infinity", "x", "1x"] {
            assert_eq!(parse_double(bad).unwrap_err().kind, "number_format_exception", "{bad}");
        }
        assert_eq!((java_round(0.5), java_round(-0.5), java_round(-1.5), java_round(2.4)), (1, 0, -1, 2));
    }

    proptest! {
        #[test]
        fn decimals_agree_with_integers_and_doubles(n in any::<i64>(), x in -1e15f64..1e15, text in "[-+0-9.eE]{0,12}") {
            prop_assert_eq!(parse_decimal(&n.to_string()).unwrap().integral, i128::from(n));
            let decimal = parse_decimal(&format!("{x:e}")).unwrap();
            prop_assert_eq!((decimal.integral, decimal.fraction), (x.trunc() as i128, x.fract() != 0.0));
            if let Some(decimal) = parse_decimal(&text) {
                let double: f64 = text.parse().unwrap();
                // Beyond 128 bits the integral part stays at the bound.
                prop_assert!(double.abs() > 1.7e38 || (decimal.integral as f64 - double.trunc()).abs() <= double.abs() * 1e-12 + 1.0);
            }
        }
    }
}

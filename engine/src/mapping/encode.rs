//! From a query's values to what the index holds, and back to what a client reads. `document` uses the same
//! encodings for what it indexes; numbers are those of [`number`], ips are 16 bytes (IPv4 as
//! `::ffff:a.b.c.d`), booleans are 0 and 1, keywords are their normalized UTF-8.

use std::borrow::Cow;
use std::ops::{Bound, RangeInclusive};

use super::date::{self, DateFormat, Zone};
use super::scalar::{self, Scalar};
use super::{FieldMapping, FieldType, decimal_format, geo, ip, number};
use crate::analysis::Scratch;
use crate::error::{Error, ParseError, Result};
use crate::query;

/// What a `term` looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// One term of the inverted index (or of the ordinal column).
    Term(Vec<u8>),
    /// Terms from first to last, both included: a CIDR block.
    Terms(RangeInclusive<Vec<u8>>),
    /// One value of a number column.
    Number(u64),
    /// Numbers from first to last, both included: a date with parts left out.
    Numbers(RangeInclusive<u64>),
    /// No document can have it, such as 1.5 in a `long`.
    Nothing,
}

/// What a `range` looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum RangeBounds {
    /// Numbers, both ends included.
    Numbers(RangeInclusive<u64>),
    /// Terms.
    Terms(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// No value lies between the ends.
    Nothing,
}

fn failed(reason: impl std::fmt::Display) -> Error {
    Error::request("query_shard_exception", format!("failed to create query: {reason}"))
}

fn failed_parse(why: ParseError) -> Error {
    failed(why.reason)
}

/// A query's value as the text Java would make of it.
fn text_of(value: &query::Value) -> Cow<'_, str> {
    match value {
        query::Value::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
        query::Value::Int(n) => Cow::Owned(n.to_string()),
        query::Value::UInt(n) => Cow::Owned(n.to_string()),
        query::Value::Float(x) => Cow::Owned(format!("{x:?}")),
        query::Value::String(s) => Cow::Borrowed(s),
    }
}

impl FieldMapping {
    /// What a `term` (or one of `terms`) means in this field. Text is not analyzed, a keyword is normalized.
    ///
    /// # Errors
    /// `query_shard_exception` in Elasticsearch's words.
    pub fn encode_term(&self, value: &query::Value, now_ms: i64) -> Result<Encoded> {
        self.check_searchable()?;
        let text = text_of(value);
        match &self.kind {
            FieldType::Text => Ok(Encoded::Term(text.into_owned().into_bytes())),
            FieldType::Keyword => Ok(Encoded::Term(self.normalize(&text).into_owned().into_bytes())),
            FieldType::Ip if text.contains('/') => {
                let range = ip::parse_cidr(&text).map_err(failed)?;
                Ok(Encoded::Terms(range.start().to_vec()..=range.end().to_vec()))
            }
            FieldType::Ip => {
                scalar::encode_ip(Scalar::Text(&text)).map(|ip| Encoded::Term(ip.to_vec())).map_err(failed_parse)
            }
            FieldType::Boolean => {
                let value = match &*text {
                    "true" => true,
                    "false" | "" => false,
                    other => {
                        return Err(failed(format!("Can't parse boolean value [{other}], expected [true] or [false]")));
                    }
                };
                Ok(Encoded::Number(u64::from(value)))
            }
            FieldType::Date | FieldType::DateNanos => {
                let bound = query::Bound { value: value.clone(), inclusive: true };
                Ok(match self.encode_range(Some(&bound), Some(&bound), None, None, now_ms)? {
                    RangeBounds::Numbers(range) if range.start() == range.end() => Encoded::Number(*range.start()),
                    RangeBounds::Numbers(range) => Encoded::Numbers(range),
                    _ => Encoded::Nothing,
                })
            }
            FieldType::Long | FieldType::Integer | FieldType::Short | FieldType::Byte => {
                let (min, max, name) = scalar::integer_range(&self.kind);
                let decimal = self.decimal(&text)?;
                if decimal.fraction {
                    return Ok(Encoded::Nothing);
                }
                match i64::try_from(decimal.integral) {
                    Ok(n) if (min..=max).contains(&n) => Ok(Encoded::Number(number::from_i64(n))),
                    _ => Err(failed(format!("Value [{text}] is out of range for {name}"))),
                }
            }
            FieldType::UnsignedLong => {
                let decimal = self.decimal(&text)?;
                Ok(match u64::try_from(decimal.integral) {
                    Ok(n) if !decimal.fraction => Encoded::Number(n),
                    _ => Encoded::Nothing,
                })
            }
            FieldType::Double | FieldType::Float | FieldType::HalfFloat | FieldType::ScaledFloat { .. } => {
                let double = scalar::parse_double(&text).map_err(failed_parse)?;
                match scalar::encode_double(&self.kind, double) {
                    Some(sortable) => Ok(Encoded::Number(sortable)),
                    None => {
                        Err(failed(format!("[{}] supports only finite values, but got [{double}]", self.type_name)))
                    }
                }
            }
            FieldType::GeoPoint | FieldType::Binary | FieldType::Opaque(_) => unreachable!("refused above"),
        }
    }

    /// What a `range` means in this field. Dates take `format`, `time_zone` and date math, rounded by the ends'
    /// inclusiveness as Elasticsearch does.
    ///
    /// # Errors
    /// `query_shard_exception` in Elasticsearch's words.
    pub fn encode_range(
        &self,
        lower: Option<&query::Bound>,
        upper: Option<&query::Bound>,
        format: Option<&str>,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<RangeBounds> {
        self.check_searchable()?;
        match &self.kind {
            FieldType::Text | FieldType::Keyword => {
                let bound = |end: Option<&query::Bound>| match end {
                    None => Bound::Unbounded,
                    Some(end) => {
                        let text = text_of(&end.value);
                        let term = match self.kind {
                            FieldType::Keyword => self.normalize(&text).into_owned(),
                            _ => text.into_owned(),
                        };
                        if end.inclusive { Bound::Included(term.into()) } else { Bound::Excluded(term.into()) }
                    }
                };
                Ok(terms(bound(lower), bound(upper)))
            }
            FieldType::Ip => {
                let bound = |end: Option<&query::Bound>| -> Result<Bound<Vec<u8>>> {
                    let Some(end) = end else { return Ok(Bound::Unbounded) };
                    let ip = scalar::encode_ip(Scalar::Text(&text_of(&end.value))).map_err(failed_parse)?.to_vec();
                    Ok(if end.inclusive { Bound::Included(ip) } else { Bound::Excluded(ip) })
                };
                Ok(terms(bound(lower)?, bound(upper)?))
            }
            FieldType::Date | FieldType::DateNanos => self.date_range(lower, upper, format, time_zone, now_ms),
            _ => {
                let low = lower.map_or(Ok(Some(0)), |end| self.number_end(end, true))?;
                let high = upper.map_or(Ok(Some(u64::MAX)), |end| self.number_end(end, false))?;
                Ok(numbers(low, high))
            }
        }
    }

    fn check_searchable(&self) -> Result<()> {
        match &self.kind {
            FieldType::GeoPoint => Err(Error::request(
                "query_shard_exception",
                format!(
                    "Geometry fields do not support exact searching, use dedicated geometry queries instead: [{}]",
                    self.path
                ),
            )),
            FieldType::Binary => Err(Error::request("query_shard_exception", "Binary fields do not support searching")),
            FieldType::Opaque(name) => Err(Error::request(
                "query_shard_exception",
                format!("Field [{}] of type [{name}] does not support this kind of search", self.path),
            )),
            _ if !self.indexed => {
                Err(failed(format!("Cannot search on field [{}] since it is not indexed.", self.path)))
            }
            _ => Ok(()),
        }
    }

    /// What a keyword's normalizer makes of a text; without a normalizer the text itself.
    #[must_use]
    pub fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match (&self.kind, &self.analyzer) {
            (FieldType::Keyword, Some(normalizer)) => {
                let mut out = String::with_capacity(text.len());
                normalizer.terms(text, &mut Scratch::default(), &mut |term, _| out.push_str(term));
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(text),
        }
    }

    fn decimal(&self, text: &str) -> Result<scalar::Decimal> {
        scalar::parse_decimal(text.trim()).ok_or_else(|| failed(format!("For input string: \"{text}\"")))
    }

    /// One end of a numeric range as an inclusive sortable; none when nothing lies beyond it.
    fn number_end(&self, end: &query::Bound, lower: bool) -> Result<Option<u64>> {
        let text = text_of(&end.value);
        let step = |sortable: u64| match (end.inclusive, lower) {
            (true, _) => Some(sortable),
            (false, true) => sortable.checked_add(1),
            (false, false) => sortable.checked_sub(1),
        };
        Ok(match &self.kind {
            FieldType::Boolean => match &*text {
                "true" => step(1),
                "false" | "" => step(0),
                other => {
                    return Err(failed(format!("Can't parse boolean value [{other}], expected [true] or [false]")));
                }
            },
            FieldType::Long | FieldType::Integer | FieldType::Short | FieldType::Byte | FieldType::UnsignedLong => {
                let decimal = self.decimal(&text)?;
                // The nearest whole number inside the range; a fraction makes the end inclusive there.
                let inside = match (lower, decimal.fraction) {
                    (true, true) => decimal.integral.saturating_add(i128::from(!decimal.negative)),
                    (false, true) => decimal.integral.saturating_sub(i128::from(decimal.negative)),
                    (true, false) => decimal.integral.saturating_add(i128::from(!end.inclusive)),
                    (false, false) => decimal.integral.saturating_sub(i128::from(!end.inclusive)),
                };
                let (min, max, encode): (i128, i128, fn(i128) -> u64) = if self.kind == FieldType::UnsignedLong {
                    (0, u64::MAX.into(), |n| n as u64)
                } else {
                    let (min, max, _) = scalar::integer_range(&self.kind);
                    (min.into(), max.into(), |n| number::from_i64(n as i64))
                };
                if (lower && inside > max) || (!lower && inside < min) {
                    None
                } else {
                    Some(encode(inside.clamp(min, max)))
                }
            }
            FieldType::ScaledFloat { scaling_factor } => {
                let scaled = scalar::parse_double(&text).map_err(failed_parse)? * scaling_factor;
                if scaled.is_nan() {
                    return Err(failed(format!("[scaled_float] supports only finite values, but got [{text}]")));
                }
                let whole = if lower { scaled.ceil() } else { scaled.floor() };
                let sortable = number::from_i64(whole as i64);
                if whole == scaled { step(sortable) } else { Some(sortable) }
            }
            kind => {
                let double = scalar::parse_double(&text).map_err(failed_parse)?;
                if double.is_nan() {
                    return Err(failed(format!("[{}] supports only finite values, but got [NaN]", self.type_name)));
                }
                match scalar::encode_double(kind, double) {
                    Some(sortable) => step(sortable),
                    // Beyond the type's range everything or nothing is inside.
                    None => (lower == (double < 0.0)).then_some(if lower { 0 } else { u64::MAX }),
                }
            }
        })
    }

    fn date_range(
        &self,
        lower: Option<&query::Bound>,
        upper: Option<&query::Bound>,
        format: Option<&str>,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<RangeBounds> {
        let own = self.date_format.as_deref().expect("dates have a format");
        let given;
        let format = match format {
            Some(format) => {
                given = DateFormat::new(format).map_err(|why| Error::request("illegal_argument_exception", why))?;
                &given
            }
            None => own,
        };
        let zone = match time_zone {
            Some(name) => Zone::parse(name)
                .ok_or_else(|| Error::request("illegal_argument_exception", format!("Unknown time-zone ID: {name}")))?,
            None => Zone::Utc,
        };
        let at = |end: &query::Bound, round_up: bool| -> Result<Option<u64>> {
            let text = text_of(&end.value);
            let moment = date::math::evaluate(&text, format, now_ms, round_up, &zone).map_err(failed)?;
            Ok(if self.kind == FieldType::Date {
                moment.to_millis().map(number::from_i64)
            } else {
                // Nanoseconds cover 1970 to 2262; ends outside are as good as open.
                let nanos = if moment.seconds < 0 { 0 } else { moment.to_nanos().unwrap_or(i64::MAX) };
                Some(number::from_i64(nanos))
            })
        };
        let low = match lower {
            None => Some(0),
            Some(end) if end.inclusive => at(end, false)?,
            Some(end) => at(end, true)?.and_then(|low| low.checked_add(1)),
        };
        let high = match upper {
            None => Some(u64::MAX),
            Some(end) if end.inclusive => at(end, true)?,
            Some(end) => at(end, false)?.and_then(|high| high.checked_sub(1)),
        };
        Ok(numbers(low, high))
    }

    /// A value of this field's number column as `docvalue_fields`, bucket keys and `fields` show it: dates as text
    /// in `format` or the field's own, booleans as such, floats as doubles, numbers with a `format` as text by that
    /// decimal pattern.
    ///
    /// # Errors
    /// A format that is not one.
    pub fn render_number(&self, sortable: u64, format: Option<&str>) -> Result<serde_json::Value> {
        let own = || self.date_format.as_deref().cloned().expect("dates have a format");
        match &self.kind {
            FieldType::Boolean => return Ok((sortable != 0).into()),
            FieldType::Date | FieldType::DateNanos => {
                let format = match format {
                    Some(format) => {
                        DateFormat::new(format).map_err(|why| Error::request("illegal_argument_exception", why))?
                    }
                    None => own(),
                };
                return Ok(self.render_date(sortable, &format, &Zone::Utc).into());
            }
            FieldType::GeoPoint => {
                let point = geo::unpack(sortable);
                return Ok(format!("{:?}, {:?}", point.lat, point.lon).into());
            }
            _ => {}
        }
        if let Some(pattern) = format {
            return Ok(decimal_format::format(pattern, self.number_to_f64(sortable)).into());
        }
        Ok(match &self.kind {
            FieldType::UnsignedLong => sortable.into(),
            kind if kind.is_float() => self.number_to_f64(sortable).into(),
            _ => number::to_i64(sortable).into(),
        })
    }

    /// A value of `_source` as the `fields` option shows it: read by this field's rules and written in its form (a
    /// long without its fraction, a keyword normalized, a date in `format`, a point as GeoJSON or `wkt`). None for
    /// what the field leaves out or cannot read.
    ///
    /// # Errors
    /// A format that is not one.
    pub fn render_source(&self, value: &serde_json::Value, format: Option<&str>) -> Result<Option<serde_json::Value>> {
        use serde_json::Value as Json;
        let number_text;
        let value = match (value, &self.null_value) {
            (Json::Null, Some(null_value)) => null_value,
            _ => value,
        };
        let scalar = match value {
            Json::String(text) => Scalar::Text(text),
            Json::Bool(b) => Scalar::Bool(*b),
            Json::Number(number) => {
                number_text = number.to_string();
                Scalar::Number(&number_text)
            }
            Json::Null => return Ok(None),
            Json::Array(_) | Json::Object(_) if self.kind != FieldType::GeoPoint => {
                return Ok(matches!(self.kind, FieldType::Opaque(_)).then(|| value.clone()));
            }
            Json::Array(_) | Json::Object(_) => Scalar::Text(""),
        };
        Ok(match &self.kind {
            FieldType::Opaque(_) | FieldType::Binary => Some(value.clone()),
            FieldType::Text => Some(scalar.text().into()),
            FieldType::Keyword => {
                let text = scalar.text();
                let fits = text.encode_utf16().count() <= self.ignore_above as usize;
                fits.then(|| self.normalize(text).into())
            }
            FieldType::Ip => scalar::encode_ip(scalar).ok().map(|ip| ip::print(&ip).into()),
            FieldType::GeoPoint => {
                let point = match scalar {
                    Scalar::Text("") => geo::parse_json(value, true),
                    other => geo::parse(other.text(), true),
                };
                point.and_then(|p| p.checked(&self.path)).ok().map(|point| match format {
                    Some("wkt") => format!("POINT ({:?} {:?})", point.lon, point.lat).into(),
                    _ => serde_json::json!({"type": "Point", "coordinates": [point.lon, point.lat]}),
                })
            }
            _ => match scalar::encode_number(self, scalar) {
                // A float shows its own digits, not those of the double beside it.
                Ok(Some(sortable)) if self.kind == FieldType::Float && format.is_none() => {
                    number::to_f32(sortable).to_string().parse::<f64>().ok().map(Json::from)
                }
                Ok(Some(sortable)) => Some(self.render_number(sortable, format)?),
                Ok(None) | Err(_) => None,
            },
        })
    }

    /// A date column's value in a compiled format and a zone.
    #[must_use]
    pub fn render_date(&self, sortable: u64, format: &DateFormat, zone: &Zone) -> String {
        let mut out = String::with_capacity(24);
        format.print(scalar::decode_instant(&self.kind, sortable), zone, &mut out);
        out
    }

    /// The field's own date format, if it is a date.
    #[must_use]
    pub fn date_format(&self) -> Option<&DateFormat> {
        self.date_format.as_deref()
    }

    /// A term of this field's ordinal column (or inverted index) as a client reads it.
    #[must_use]
    pub fn render_term(&self, term: &[u8]) -> serde_json::Value {
        match (&self.kind, <[u8; 16]>::try_from(term)) {
            (FieldType::Ip, Ok(bytes)) => ip::print(&bytes).into(),
            _ => String::from_utf8_lossy(term).into(),
        }
    }

    /// A number column's value as a double: what metrics compute with (dates in milliseconds, booleans 0 and 1).
    #[must_use]
    pub fn number_to_f64(&self, sortable: u64) -> f64 {
        match &self.kind {
            FieldType::Boolean | FieldType::UnsignedLong => sortable as f64,
            FieldType::Double => number::to_f64(sortable),
            FieldType::Float => number::to_f32(sortable).into(),
            FieldType::HalfFloat => number::to_f16(sortable).into(),
            FieldType::ScaledFloat { scaling_factor } => number::to_i64(sortable) as f64 / scaling_factor,
            FieldType::DateNanos => (number::to_i64(sortable).div_euclid(1_000_000)) as f64,
            _ => number::to_i64(sortable) as f64,
        }
    }

    /// A date column's value in milliseconds since 1970; other columns' integers as they are.
    #[must_use]
    pub fn number_to_i64(&self, sortable: u64) -> i64 {
        match &self.kind {
            FieldType::Boolean => sortable as i64,
            FieldType::DateNanos => number::to_i64(sortable).div_euclid(1_000_000),
            FieldType::UnsignedLong => i64::try_from(sortable).unwrap_or(i64::MAX),
            kind if kind.is_float() => self.number_to_f64(sortable) as i64,
            _ => number::to_i64(sortable),
        }
    }
}

fn numbers(low: Option<u64>, high: Option<u64>) -> RangeBounds {
    match (low, high) {
        (Some(low), Some(high)) if low <= high => RangeBounds::Numbers(low..=high),
        _ => RangeBounds::Nothing,
    }
}

fn terms(low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> RangeBounds {
    let empty = match (&low, &high) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
        _ => false,
    };
    if empty { RangeBounds::Nothing } else { RangeBounds::Terms(low, high) }
}

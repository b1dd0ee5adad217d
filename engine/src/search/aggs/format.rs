//! How keys and values read as text: `key_as_string`, `value_as_string`, keys of ranges.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mapping::date::{DateFormat, Instant, Zone};
use crate::search::aggs::values::Number;

/// A format as it travels with a partial result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum ValueFormat {
    /// Plain numbers; no `..._as_string`.
    #[default]
    Raw,
    /// `true`, `false`.
    Boolean,
    /// A date format and a time zone.
    Date {
        /// `yyyy-MM-dd`, `strict_date_optional_time||epoch_millis`, ...
        format: String,
        /// `UTC`, `+01:00`, `Europe/Berlin`.
        zone: String,
    },
    /// A decimal pattern, such as `#,##0.00`.
    Decimal(String),
}

/// A [`ValueFormat`] ready to print.
#[derive(Clone, Debug)]
pub enum Printer {
    /// Plain numbers.
    Raw,
    /// `true`, `false`.
    Boolean,
    /// Dates.
    Date(DateFormat, Zone),
    /// Patterns.
    Decimal(DecimalPattern),
}

impl ValueFormat {
    /// Compiles it.
    ///
    /// # Errors
    /// A date format or time zone that is none.
    pub fn printer(&self) -> Result<Printer> {
        Ok(match self {
            ValueFormat::Raw => Printer::Raw,
            ValueFormat::Boolean => Printer::Boolean,
            ValueFormat::Date { format, zone } => {
                Printer::Date(DateFormat::new(format).map_err(Error::illegal_argument)?, parse_zone(zone)?)
            }
            ValueFormat::Decimal(pattern) => Printer::Decimal(DecimalPattern::new(pattern)),
        })
    }
}

/// Reads a `time_zone`.
///
/// # Errors
/// Not one.
pub fn parse_zone(text: &str) -> Result<Zone> {
    Zone::parse(text).ok_or_else(|| Error::illegal_argument(format!("Unknown time-zone ID: {text}")))
}

impl Printer {
    /// Whether numbers need no text beside them.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        matches!(self, Printer::Raw)
    }

    /// A number as text.
    #[must_use]
    pub fn print(&self, value: Number) -> String {
        match (self, value) {
            (Printer::Raw, Number::Long(v)) => v.to_string(),
            (Printer::Raw, Number::Unsigned(v)) => v.to_string(),
            (Printer::Raw, Number::Double(v)) => java_double(v),
            (Printer::Boolean, v) => (v.to_f64() != 0.0).to_string(),
            (Printer::Date(format, zone), v) => {
                let ms = match v {
                    Number::Long(v) => v,
                    other => other.to_f64() as i64,
                };
                let mut out = String::new();
                format.print(Instant::from_millis(ms), zone, &mut out);
                out
            }
            (Printer::Decimal(pattern), v) => pattern.print(v.to_f64()),
        }
    }

    /// A double as text.
    #[must_use]
    pub fn print_f64(&self, value: f64) -> String {
        self.print(Number::Double(value))
    }
}

/// A double as Java writes it: at least one decimal, exponents as in `1.0E7` below 0.001 and from ten million.
#[must_use]
pub fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("scientific notation has an exponent");
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

/// A pattern of Java's `DecimalFormat`: literal prefix and suffix, digits required and possible, grouping, percent.
#[derive(Clone, Debug)]
pub struct DecimalPattern {
    prefix: String,
    suffix: String,
    integer_min: usize,
    fraction_min: usize,
    fraction_max: usize,
    group: usize,
    scale: f64,
}

impl DecimalPattern {
    /// Reads the positive part of a pattern; anything is a pattern, at worst a literal.
    #[must_use]
    pub fn new(pattern: &str) -> DecimalPattern {
        let positive = pattern.split(';').next().unwrap_or_default();
        let is_body = |c: char| matches!(c, '0' | '#' | ',' | '.');
        let start = positive.find(is_body).unwrap_or(positive.len());
        let body_len = positive[start..].find(|c| !is_body(c)).unwrap_or(positive.len() - start);
        let (prefix, rest) = positive.split_at(start);
        let (body, suffix) = rest.split_at(body_len);
        let (integer, fraction) = body.split_once('.').unwrap_or((body, ""));
        let count = |text: &str, wanted: char| text.chars().filter(|&c| c == wanted).count();
        let scale = if suffix.contains('%') || prefix.contains('%') { 100.0 } else { 1.0 };
        DecimalPattern {
            prefix: unquote(prefix),
            suffix: unquote(suffix),
            integer_min: count(integer, '0'),
            fraction_min: count(fraction, '0'),
            fraction_max: (count(fraction, '0') + count(fraction, '#')).min(340),
            group: integer.rfind(',').map_or(0, |at| integer.len() - at - 1),
            scale,
        }
    }

    /// Writes a number; rounds half to even, as Java does.
    #[must_use]
    pub fn print(&self, value: f64) -> String {
        if !value.is_finite() {
            return java_double(value);
        }
        let text = format!("{:.*}", self.fraction_max, (value * self.scale).abs());
        let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let mut fraction = fraction;
        while fraction.len() > self.fraction_min && fraction.ends_with('0') {
            fraction = &fraction[..fraction.len() - 1];
        }
        let mut integer = if integer == "0" && self.integer_min == 0 && !fraction.is_empty() {
            String::new()
        } else {
            format!("{integer:0>width$}", width = self.integer_min)
        };
        if self.group > 0 {
            let mut at = integer.len();
            while at > self.group {
                at -= self.group;
                integer.insert(at, ',');
            }
        }
        let is_zero = !integer.bytes().chain(fraction.bytes()).any(|b| (b'1'..=b'9').contains(&b));
        let sign = if value < 0.0 && !is_zero { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{}{integer}{point}{fraction}{}", self.prefix, self.suffix)
    }
}

fn unquote(text: &str) -> String {
    text.replace("''", "\u{0}").replace('\'', "").replace('\u{0}', "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_read_as_in_java() {
        for (value, expected) in [
            (0.0, "0.0"),
            (50.0, "50.0"),
            (-1.5, "-1.5"),
            (1e7, "1.0E7"),
            (1234567.0, "1234567.0"),
            (1.5e-4, "1.5E-4"),
            (0.001, "0.001"),
            (1.7976931348623157e308, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(java_double(value), expected);
        }
    }

    #[test]
    fn decimal_patterns_print() {
        for (pattern, value, expected) in [
            ("Value is ##0.0", 50.0, "Value is 50.0"),
            ("Value is ##0.0", 0.0, "Value is 0.0"),
            ("#,##0.00", 1234567.891, "1,234,567.89"),
            ("0.#", 2.0, "2"),
            ("000.00", -1.5, "-001.50"),
            ("$#,##0.##", 1e6, "$1,000,000"),
            ("0.0%", 0.256, "25.6%"),
            (".00", 0.5, ".50"),
            ("#", 2.5, "2"),
        ] {
            assert_eq!(DecimalPattern::new(pattern).print(value), expected, "{pattern}");
        }
    }
}

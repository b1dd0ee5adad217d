//! Dates: formats as mappings and queries name them, date math, and the calendar below both.

pub mod calendar;
pub mod math;
mod names;
mod pattern;
#[cfg(test)]
mod tests;

pub use calendar::{Instant, Zone};
pub use pattern::Pattern;

use pattern::Fields;

/// The format of a date field that names none.
pub const DEFAULT_FORMAT: &str = "strict_date_optional_time||epoch_millis";

/// The same for `date_nanos`.
pub const DEFAULT_NANOS_FORMAT: &str = "strict_date_optional_time_nanos||epoch_millis";

/// One or more formats: a text is a date if any of them reads it, in order; the first one prints.
#[derive(Clone, Debug, PartialEq)]
pub struct DateFormat {
    text: String,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug, PartialEq)]
enum Alternative {
    EpochMillis,
    EpochSecond,
    /// `date_optional_time` and its kin, by hand: it is what nearly every date uses. Printed with three
    /// digits of a fraction, or as many as there are up to `fraction_max`.
    Iso {
        strict: bool,
        fraction_max: u8,
    },
    Pattern(Pattern),
}

impl DateFormat {
    /// Compiles `format||format...`: names such as `basic_date`, or Java patterns.
    ///
    /// # Errors
    /// What is wrong, in Elasticsearch's words.
    pub fn new(text: &str) -> Result<DateFormat, String> {
        if text.is_empty() {
            return Err("No date pattern provided".to_owned());
        }
        let mut alternatives = Vec::new();
        for part in text.split("||") {
            let part = part.trim();
            // In 6.x an 8 before the pattern asked for what is now the only way.
            let part = part.strip_prefix('8').unwrap_or(part);
            if part.is_empty() {
                return Err("Cannot have empty element in multi date format pattern: ".to_owned() + text);
            }
            alternatives.push(match part {
                "epoch_millis" => Alternative::EpochMillis,
                "epoch_second" => Alternative::EpochSecond,
                "strict_date_optional_time" | "strictDateOptionalTime" => {
                    Alternative::Iso { strict: true, fraction_max: 3 }
                }
                "strict_date_optional_time_nanos" | "strictDateOptionalTimeNanos" => {
                    Alternative::Iso { strict: true, fraction_max: 9 }
                }
                "iso8601" => Alternative::Iso { strict: true, fraction_max: 3 },
                "date_optional_time" | "dateOptionalTime" => Alternative::Iso { strict: false, fraction_max: 3 },
                _ => match names::find(part) {
                    Some(pattern) => Alternative::Pattern(pattern),
                    None => Alternative::Pattern(
                        Pattern::new(part).map_err(|why| format!("Invalid format: [{part}]: {why}"))?,
                    ),
                },
            });
        }
        Ok(DateFormat { text: text.to_owned(), alternatives })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a date without rounding, in UTC unless it says otherwise.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Instant> {
        self.parse_rounding(text, false, &Zone::Utc)
    }

    /// Reads a date: time of day that is left out becomes the last of the day when rounding up, the first otherwise;
    /// without a zone of its own it is in `zone`.
    #[must_use]
    pub fn parse_rounding(&self, text: &str, round_up: bool, zone: &Zone) -> Option<Instant> {
        self.alternatives.iter().find_map(|alternative| match alternative {
            Alternative::EpochMillis => parse_epoch(text, 3),
            Alternative::EpochSecond => parse_epoch(text, 0),
            Alternative::Iso { strict, .. } => {
                let mut at = 0;
                parse_iso(text, *strict, &mut at)?.resolve(round_up, zone)
            }
            Alternative::Pattern(pattern) => pattern.parse(text).ok()?.resolve(round_up, zone),
        })
    }

    /// Why a text is no date: Java's exception and message.
    #[must_use]
    pub fn explain(&self, text: &str) -> String {
        match self.alternatives.as_slice() {
            [Alternative::Pattern(pattern)] => {
                let at = pattern.parse(text).err().unwrap_or(0);
                format!("Text '{text}' could not be parsed at index {at}")
            }
            _ => "Failed to parse with all enclosed parsers".to_owned(),
        }
    }

    /// Writes a moment as it is in `zone`, in the first format.
    pub fn print(&self, moment: Instant, zone: &Zone, out: &mut String) {
        match &self.alternatives[0] {
            Alternative::EpochMillis => print_epoch(moment, 3, out),
            Alternative::EpochSecond => print_epoch(moment, 0, out),
            Alternative::Iso { fraction_max, .. } => print_iso(moment, *fraction_max, zone, out),
            Alternative::Pattern(pattern) => pattern.print(moment, zone, out),
        }
    }
}

/// `-?digits[.fraction]` in units of 10^-`digits` seconds.
fn parse_epoch(text: &str, digits: u32) -> Option<Instant> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    let is_number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let fraction_max = (9 - digits) as usize;
    if unsigned.is_empty() || unsigned.len() > 19 || !is_number(unsigned) || !is_number(fraction) {
        return None;
    }
    if fraction.len() > fraction_max || text.ends_with('.') {
        return None;
    }
    let mut nanos: i128 = unsigned.parse::<i128>().ok()? * 10i128.pow(9 - digits);
    if !fraction.is_empty() {
        nanos += fraction.parse::<i128>().ok()? * 10i128.pow((fraction_max - fraction.len()) as u32);
    }
    let nanos = if negative { -nanos } else { nanos };
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let moment = Instant { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 };
    moment.to_millis()?;
    Some(moment)
}

fn print_epoch(moment: Instant, digits: u32, out: &mut String) {
    use std::fmt::Write;
    let nanos = i128::from(moment.seconds) * 1_000_000_000 + i128::from(moment.nanos);
    let unit = 10i128.pow(9 - digits);
    let (whole, rest) = (nanos.abs() / unit, nanos.abs() % unit);
    let _ = write!(out, "{}{whole}", if nanos < 0 { "-" } else { "" });
    if rest != 0 {
        let fraction = format!("{rest:0width$}", width = 9 - digits as usize);
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
}

/// `yyyy[-MM[-dd['T'[HH[:mm[:ss[.S]]][zone]]]]]`; not strict: one or two digits where strict wants two.
fn parse_iso(text: &str, strict: bool, at: &mut usize) -> Option<Fields> {
    let bytes = text.as_bytes();
    let mut fields = Fields::default();
    let digits = |at: &mut usize, min: usize, max: usize| -> Option<u32> {
        let count = bytes[*at..].iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        if count < min {
            return None;
        }
        let value = bytes[*at..*at + count].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
        *at += count;
        Some(value)
    };
    let is = |at: usize, b: u8| bytes.get(at) == Some(&b);
    let (negative, plus) = (is(0, b'-'), is(0, b'+'));
    *at = usize::from(negative || plus);
    let (year_min, year_max) = match (negative || plus, strict) {
        (true, _) => (4, 9),
        (false, true) => (4, 4),
        (false, false) => (1, 9),
    };
    let year = i64::from(digits(at, year_min, year_max)?);
    fields.year = Some(if negative { -year } else { year });
    let min = if strict { 2 } else { 1 };
    let end = text.len();
    if *at == end {
        return Some(fields);
    }
    for part in [&mut fields.month, &mut fields.day] {
        if is(*at, b'-') {
            *at += 1;
            *part = Some(digits(at, min, 2)?);
        }
    }
    if *at == end {
        return Some(fields);
    }
    if !is(*at, b'T') {
        return None;
    }
    *at += 1;
    if *at == end {
        return Some(fields);
    }
    fields.hour = Some(digits(at, min, 2)?);
    if is(*at, b':') {
        *at += 1;
        fields.minute = Some(digits(at, min, 2)?);
        if is(*at, b':') {
            *at += 1;
            fields.second = Some(digits(at, min, 2)?);
            if is(*at, b'.') || is(*at, b',') {
                *at += 1;
                fields.nanos = Some(pattern::parse_fraction(bytes, at, 1, 9)?);
            }
        }
    }
    if *at < end {
        fields.zone = Some(pattern::parse_any_zone(text, at)?);
    }
    Some(fields)
}

fn print_iso(moment: Instant, fraction_max: u8, zone: &Zone, out: &mut String) {
    use std::fmt::Write;
    let offset = zone.offset_at(moment.seconds);
    let local = moment.seconds + i64::from(offset);
    let (year, month, day) = calendar::civil_from_days(local.div_euclid(calendar::DAY));
    let second = local.rem_euclid(calendar::DAY);
    let sign = match year {
        ..0 => "-",
        0..=9999 => "",
        _ => "+",
    };
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.", year.abs());
    let fraction = [
        moment.nanos / 100_000_000 % 10,
        moment.nanos / 10_000_000 % 10,
        moment.nanos / 1_000_000 % 10,
        moment.nanos / 100_000 % 10,
        moment.nanos / 10_000 % 10,
        moment.nanos / 1000 % 10,
        moment.nanos / 100 % 10,
        moment.nanos / 10 % 10,
        moment.nanos % 10,
    ];
    let significant = fraction.iter().rposition(|d| *d != 0).map_or(0, |i| i + 1);
    for digit in &fraction[..significant.clamp(3, usize::from(fraction_max))] {
        out.push((b'0' + *digit as u8) as char);
    }
    if offset == 0 {
        out.push('Z');
    } else {
        let (sign, n) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
        let _ = write!(out, "{sign}{:02}:{:02}", n / 3600, n / 60 % 60);
        if n % 60 != 0 {
            let _ = write!(out, ":{:02}", n % 60);
        }
    }
}

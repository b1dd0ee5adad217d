//! Java's `DateTimeFormatter` patterns, as far as dates in documents need them: parsing and printing.
//!
//! Letters: `y u Y M L w D d E e c a H k h K m s S n A X x Z V z`, literals (`'T'`, `-`), optional sections `[...]`.
//! Adjacent numbers work as in Java: a number of open width leaves the digits that the fixed ones after it need.

use super::calendar::{
    DAY, Instant, Zone, civil_from_days, day_of_week, days_from_civil, days_from_week, days_in_month, is_leap,
    week_from_days,
};

const SECTION_DEPTH_MAX: usize = 8;
const PATTERN_BYTES_MAX: usize = 512;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    Literal(char),
    Number {
        field: Field,
        min: u8,
        max: u8,
        reserve: u8,
        sign: Sign,
    },
    /// Digits of a fraction of a second. `point` is read and written before them.
    Fraction {
        min: u8,
        max: u8,
        point: bool,
    },
    Text {
        field: TextField,
        full: bool,
    },
    Offset {
        style: OffsetStyle,
        zero: &'static str,
    },
    ZoneId,
    Optional(Vec<Item>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Digits only.
    Never,
    /// `-` for negative values.
    Normal,
    /// `-` for negative, `+` for values wider than the padding.
    ExceedsPad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    YearTwoDigits,
    WeekYear,
    Month,
    Week,
    DayOfYear,
    Day,
    DayOfWeek,
    Hour,
    HourFrom1,
    Hour12,
    Hour12From0,
    Minute,
    Second,
    Nano,
    MilliOfDay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextField {
    Month,
    DayOfWeek,
    AmPm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OffsetStyle {
    /// `+HH`, minutes when there are some.
    Hour,
    /// `+HHMM`
    Plain,
    /// `+HH:MM`
    Colon,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What a text said; what it left open is filled in by [`Fields::resolve`].
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub year: Option<i64>,
    pub month: Option<u32>,
    pub day: Option<u32>,
    day_of_year: Option<u32>,
    week_year: Option<i64>,
    week: Option<u32>,
    day_of_week: Option<u32>,
    pub hour: Option<u32>,
    hour12: Option<u32>,
    pm: Option<bool>,
    pub minute: Option<u32>,
    pub second: Option<u32>,
    pub nanos: Option<u32>,
    milli_of_day: Option<u32>,
    pub zone: Option<Zone>,
}

impl Fields {
    /// The moment. Without year, month or day: 1970, January, the first. Without hour, minute, second: 0, or the last
    /// one when rounding up. Without a zone: `default_zone`. None when the date does not exist.
    pub(super) fn resolve(&self, round_up: bool, default_zone: &Zone) -> Option<Instant> {
        let days = if let (None, Some(day_of_year)) = (self.month, self.day_of_year) {
            let year = self.year.unwrap_or(1970);
            if day_of_year == 0 || day_of_year > 365 + u32::from(is_leap(year)) {
                return None;
            }
            days_from_civil(year, 1, 1) + i64::from(day_of_year) - 1
        } else if self.week_year.is_some() || (self.week.is_some() && self.month.is_none()) {
            let year = self.week_year.or(self.year).unwrap_or(1970);
            let (week, day) = (self.week.unwrap_or(1), self.day_of_week.unwrap_or(1));
            let weeks = week_from_days(days_from_civil(year, 12, 28)).1;
            if !(1..=weeks).contains(&week) || !(1..=7).contains(&day) {
                return None;
            }
            days_from_week(year, week, day)
        } else {
            let (year, month, day) = (self.year.unwrap_or(1970), self.month.unwrap_or(1), self.day.unwrap_or(1));
            if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
                return None;
            }
            let days = days_from_civil(year, month, day);
            if self.day_of_week.is_some_and(|d| d != day_of_week(days)) {
                return None;
            }
            days
        };
        let (second_of_day, nanos) = if let Some(ms) = self.milli_of_day {
            (i64::from(ms / 1000), ms % 1000 * 1_000_000)
        } else {
            let last = |value: u32| if round_up { value } else { 0 };
            let hour = match (self.hour, self.hour12) {
                (Some(hour), _) => hour,
                (None, Some(hour)) => hour % 12 + if self.pm == Some(true) { 12 } else { 0 },
                (None, None) => last(23),
            };
            let (minute, second) = (self.minute.unwrap_or(last(59)), self.second.unwrap_or(last(59)));
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            (i64::from(hour * 3600 + minute * 60 + second), self.nanos.unwrap_or(last(999_999_999)))
        };
        let local = days * DAY + second_of_day;
        Some(Instant { seconds: self.zone.as_ref().unwrap_or(default_zone).to_utc(local), nanos })
    }

    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let small = || u32::try_from(value).ok();
        match field {
            Field::Year => self.year = Some(value),
            Field::YearTwoDigits => self.year = Some(2000 + value),
            Field::WeekYear => self.week_year = Some(value),
            Field::Month => self.month = Some(small()?),
            Field::Week => self.week = Some(small()?),
            Field::DayOfYear => self.day_of_year = Some(small()?),
            Field::Day => self.day = Some(small()?),
            Field::DayOfWeek => self.day_of_week = Some(small()?),
            Field::Hour => self.hour = Some(small().filter(|h| *h < 24)?),
            Field::HourFrom1 => self.hour = Some(small().filter(|h| (1..=24).contains(h))? % 24),
            Field::Hour12 => self.hour12 = Some(small().filter(|h| (1..=12).contains(h))?),
            Field::Hour12From0 => self.hour12 = Some(small().filter(|h| *h < 12)?),
            Field::Minute => self.minute = Some(small()?),
            Field::Second => self.second = Some(small()?),
            Field::Nano => self.nanos = Some(small().filter(|n| *n < 1_000_000_000)?),
            Field::MilliOfDay => self.milli_of_day = Some(small().filter(|n| *n < 86_400_000)?),
        }
        Some(())
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong, in Java's words.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err("Pattern is too long".to_owned());
        }
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let mut items = compile(&chars, &mut at, 0)?;
        if at < chars.len() {
            return Err("Pattern invalid as it contains ] without previous [".to_owned());
        }
        reserve_digits(&mut items);
        Ok(Pattern { items })
    }

    /// Reads all of `text`; the error is the byte offset where it stopped making sense.
    pub(super) fn parse(&self, text: &str) -> Result<Fields, usize> {
        let mut fields = Fields::default();
        let mut at = 0;
        parse_items(&self.items, text, &mut at, &mut fields).ok_or(at)?;
        if at == text.len() { Ok(fields) } else { Err(at) }
    }

    /// Writes a moment as it is in `zone`.
    pub fn print(&self, moment: Instant, zone: &Zone, out: &mut String) {
        let offset = zone.offset_at(moment.seconds);
        let local = moment.seconds + i64::from(offset);
        let days = local.div_euclid(DAY);
        print_items(&self.items, &Printed { days, second: local.rem_euclid(DAY) as u32, moment, offset, zone }, out);
    }
}

fn compile(chars: &[char], at: &mut usize, depth: usize) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    while let Some(&c) = chars.get(*at) {
        match c {
            '\'' => {
                *at += 1;
                let start = *at;
                loop {
                    match chars.get(*at) {
                        None => {
                            return Err(format!(
                                "Pattern ends with an incomplete string literal: {}",
                                chars.iter().collect::<String>()
                            ));
                        }
                        Some('\'') if chars.get(*at + 1) == Some(&'\'') => {
                            items.push(Item::Literal('\''));
                            *at += 2;
                        }
                        Some('\'') => break,
                        Some(&c) => {
                            items.push(Item::Literal(c));
                            *at += 1;
                        }
                    }
                }
                if *at == start {
                    items.push(Item::Literal('\'')); // '' is a quote
                }
                *at += 1;
            }
            '[' => {
                if depth == SECTION_DEPTH_MAX {
                    return Err("Pattern has too many nested optional sections".to_owned());
                }
                *at += 1;
                let inner = compile(chars, at, depth + 1)?;
                if chars.get(*at) == Some(&']') {
                    *at += 1;
                }
                items.push(Item::Optional(inner));
            }
            ']' => return Ok(items),
            '{' | '}' | '#' => return Err(format!("Pattern includes reserved character: '{c}'")),
            'a'..='z' | 'A'..='Z' => {
                let start = *at;
                while chars.get(*at) == Some(&c) {
                    *at += 1;
                }
                // Joda wrote the year of an era as x and weeks as xxxx; those patterns are refused as in 7.
                items.push(letter(c, *at - start)?);
            }
            c => {
                items.push(Item::Literal(c));
                *at += 1;
            }
        }
    }
    Ok(items)
}

fn letter(c: char, count: usize) -> Result<Item, String> {
    let too_many = || Err(format!("Too many pattern letters: {c}"));
    let number =
        |field, min: usize, max, sign| Ok(Item::Number { field, min: min.min(19) as u8, max, reserve: 0, sign });
    let year = |field| match count {
        4 => number(field, 4, 19, Sign::ExceedsPad),
        1..4 => number(field, count, 19, Sign::Normal),
        5..=19 => number(field, count, 19, Sign::ExceedsPad),
        _ => Err(format!("Too many pattern letters: {c}")),
    };
    let two = |field| match count {
        1 => number(field, 1, 2, Sign::Never),
        2 => number(field, 2, 2, Sign::Never),
        _ => Err(format!("Too many pattern letters: {c}")),
    };
    match c {
        'y' | 'u' if count == 2 => number(Field::YearTwoDigits, 2, 2, Sign::Never),
        'y' | 'u' => year(Field::Year),
        'Y' => year(Field::WeekYear),
        'M' | 'L' => match count {
            3 => Ok(Item::Text { field: TextField::Month, full: false }),
            4 => Ok(Item::Text { field: TextField::Month, full: true }),
            _ => two(Field::Month),
        },
        'w' => two(Field::Week),
        'D' => match count {
            1..=3 => number(Field::DayOfYear, count, 3, Sign::Never),
            _ => too_many(),
        },
        'd' => two(Field::Day),
        'E' => match count {
            1..=3 => Ok(Item::Text { field: TextField::DayOfWeek, full: false }),
            4 => Ok(Item::Text { field: TextField::DayOfWeek, full: true }),
            _ => too_many(),
        },
        'e' | 'c' => match count {
            1 => number(Field::DayOfWeek, 1, 1, Sign::Never),
            2 if c == 'e' => number(Field::DayOfWeek, 2, 2, Sign::Never),
            3 => Ok(Item::Text { field: TextField::DayOfWeek, full: false }),
            4 => Ok(Item::Text { field: TextField::DayOfWeek, full: true }),
            _ => too_many(),
        },
        'a' if count == 1 => Ok(Item::Text { field: TextField::AmPm, full: false }),
        'H' => two(Field::Hour),
        'k' => two(Field::HourFrom1),
        'h' => two(Field::Hour12),
        'K' => two(Field::Hour12From0),
        'm' => two(Field::Minute),
        's' => two(Field::Second),
        'S' if count <= 9 => Ok(Item::Fraction { min: count as u8, max: count as u8, point: false }),
        'n' if count <= 9 => number(Field::Nano, count, 9, Sign::Never),
        'A' if count <= 8 => number(Field::MilliOfDay, count, 8, Sign::Never),
        'X' | 'x' => {
            let (style, zero) = match count {
                1 => (OffsetStyle::Hour, "+00"),
                2 | 4 => (OffsetStyle::Plain, "+0000"),
                3 | 5 => (OffsetStyle::Colon, "+00:00"),
                _ => return too_many(),
            };
            Ok(Item::Offset { style, zero: if c == 'X' { "Z" } else { zero } })
        }
        'Z' => match count {
            1..=3 => Ok(Item::Offset { style: OffsetStyle::Plain, zero: "+0000" }),
            4 => Ok(Item::ZoneId),
            5 => Ok(Item::Offset { style: OffsetStyle::Colon, zero: "Z" }),
            _ => too_many(),
        },
        'V' if count != 2 => Err(format!("Pattern letter count must be 2: {c}")),
        'V' => Ok(Item::ZoneId),
        'z' if count <= 4 => Ok(Item::ZoneId),
        'a' | 'S' | 'n' | 'A' | 'z' => too_many(),
        _ => Err(format!("Unknown pattern letter: {c}")),
    }
}

/// A number of open width directly before numbers of fixed width leaves them their digits (`yyyyMMdd`).
fn reserve_digits(items: &mut [Item]) {
    let mut after = 0u8;
    for item in items.iter_mut().rev() {
        match item {
            Item::Number { min, max, reserve, .. } => {
                if min == max {
                    after = after.saturating_add(*max);
                } else {
                    *reserve = after;
                    after = 0;
                }
            }
            Item::Fraction { min, max, point: false } if min == max => after = after.saturating_add(*max),
            Item::Optional(inner) => {
                reserve_digits(inner);
                after = 0;
            }
            _ => after = 0,
        }
    }
}

fn parse_items(items: &[Item], text: &str, at: &mut usize, fields: &mut Fields) -> Option<()> {
    let bytes = text.as_bytes();
    for item in items {
        match *item {
            Item::Literal(c) => {
                if !text.get(*at..)?.starts_with(c) {
                    return None;
                }
                *at += c.len_utf8();
            }
            Item::Number { field, min, max, reserve, sign } => {
                let mut from = *at;
                let mut negative = false;
                let mut plus = false;
                if sign != Sign::Never {
                    match bytes.get(from) {
                        Some(b'-') => (negative, from) = (true, from + 1),
                        Some(b'+') if sign == Sign::ExceedsPad => (plus, from) = (true, from + 1),
                        _ => {}
                    }
                }
                let mut digits = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                if min != max {
                    digits = digits.saturating_sub(usize::from(reserve)).max(usize::from(min)).min(digits);
                }
                // Without a sign a padded year has exactly its width: 12020 is not a year, +12020 is.
                let max = if sign == Sign::ExceedsPad && !negative && !plus { min } else { max };
                let digits = digits.min(usize::from(max));
                if digits < usize::from(min) || digits == 0 {
                    return None;
                }
                let mut value = 0i64;
                for b in &bytes[from..from + digits] {
                    value = value.checked_mul(10)?.checked_add(i64::from(b - b'0'))?;
                }
                if matches!(field, Field::Year | Field::WeekYear) && value > 999_999_999 {
                    return None;
                }
                fields.set(field, if negative { -value } else { value })?;
                *at = from + digits;
            }
            Item::Fraction { min, max, point } => {
                if point {
                    if !matches!(bytes.get(*at), Some(b'.' | b',')) {
                        return None;
                    }
                    *at += 1;
                }
                fields.nanos = Some(parse_fraction(bytes, at, min, max)?);
            }
            Item::Text { field, full } => {
                let rest = text.get(*at..)?;
                let (value, length) = match field {
                    TextField::AmPm => find_name(rest, &["AM", "PM"], None)?,
                    TextField::Month => find_name(rest, &MONTHS, (!full).then_some(3))?,
                    TextField::DayOfWeek => find_name(rest, &DAYS, (!full).then_some(3))?,
                };
                match field {
                    TextField::AmPm => fields.pm = Some(value == 1),
                    TextField::Month => fields.month = Some(value + 1),
                    TextField::DayOfWeek => fields.day_of_week = Some(value + 1),
                }
                *at += length;
            }
            Item::Offset { style, zero } => {
                let accepts_z = zero == "Z";
                fields.zone = Some(parse_offset(bytes, at, Some(style), accepts_z)?);
            }
            Item::ZoneId => {
                let rest = text.get(*at..)?;
                let length = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+' | ':')))
                    .unwrap_or(rest.len());
                fields.zone = Some(Zone::parse(&rest[..length])?);
                *at += length;
            }
            Item::Optional(ref inner) => {
                let (before, saved) = (*at, fields.clone());
                if parse_items(inner, text, at, fields).is_none() {
                    *at = before;
                    *fields = saved;
                }
            }
        }
    }
    Some(())
}

/// Digits after a decimal point as nanoseconds.
pub(super) fn parse_fraction(bytes: &[u8], at: &mut usize, min: u8, max: u8) -> Option<u32> {
    let digits = bytes.get(*at..)?.iter().take(usize::from(max)).take_while(|b| b.is_ascii_digit()).count();
    if digits < usize::from(min) || digits == 0 {
        return None;
    }
    let value = bytes[*at..*at + digits].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
    *at += digits;
    Some(value * 10u32.pow(9 - digits as u32))
}

/// An offset such as `Z`, `+01`, `+0100`, `+01:00`; with no style any of them.
fn parse_offset(bytes: &[u8], at: &mut usize, style: Option<OffsetStyle>, accepts_z: bool) -> Option<Zone> {
    let sign = match bytes.get(*at)? {
        b'Z' if accepts_z => {
            *at += 1;
            return Some(Zone::Utc);
        }
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two = |from: usize| match bytes.get(from..from + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i32::from(a - b'0') * 10 + i32::from(b - b'0')),
        _ => None,
    };
    let mut end = *at + 3;
    let hours = two(*at + 1)?;
    let mut part = |colon: bool| -> Option<i32> {
        let from = if colon {
            if bytes.get(end) != Some(&b':') {
                return None;
            }
            end + 1
        } else {
            end
        };
        let value = two(from).filter(|v| *v < 60)?;
        end = from + 2;
        Some(value)
    };
    let (minutes, seconds) = match style {
        Some(OffsetStyle::Hour) => (part(false).unwrap_or(0), 0),
        Some(OffsetStyle::Plain) => (part(false)?, part(false).unwrap_or(0)),
        Some(OffsetStyle::Colon) => (part(true)?, part(true).unwrap_or(0)),
        None => match part(true) {
            Some(minutes) => (minutes, part(true).unwrap_or(0)),
            None => (part(false).unwrap_or(0), 0),
        },
    };
    *at = end;
    Zone::from_offset(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Any offset or `Z` at the end of an ISO date; also a zone's name.
pub(super) fn parse_any_zone(text: &str, at: &mut usize) -> Option<Zone> {
    let before = *at;
    if let Some(zone) = parse_offset(text.as_bytes(), at, None, true)
        && *at == text.len()
    {
        return Some(zone);
    }
    *at = text.len();
    Zone::parse(text.get(before..)?)
}

/// The name `rest` starts with, ignoring case: its index and length. `short`: only so many letters of each name.
fn find_name(rest: &str, names: &[&str], short: Option<usize>) -> Option<(u32, usize)> {
    names.iter().enumerate().find_map(|(i, name)| {
        let name = &name[..short.unwrap_or(name.len()).min(name.len())];
        rest.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|_| (i as u32, name.len()))
    })
}

struct Printed<'a> {
    days: i64,
    second: u32,
    moment: Instant,
    offset: i32,
    zone: &'a Zone,
}

fn print_items(items: &[Item], value: &Printed<'_>, out: &mut String) {
    use std::fmt::Write;
    for item in items {
        match *item {
            Item::Literal(c) => out.push(c),
            Item::Number { field, min, sign, .. } => {
                let n = number_of(field, value);
                if n < 0 {
                    out.push('-');
                } else if sign == Sign::ExceedsPad && n >= 10i64.pow(u32::from(min.min(18))) {
                    out.push('+');
                }
                let _ = write!(out, "{:0width$}", n.unsigned_abs(), width = usize::from(min));
            }
            Item::Fraction { min, max, point } => {
                let digits = format!("{:09}", value.moment.nanos);
                let significant = digits.trim_end_matches('0').len();
                let count = significant.clamp(usize::from(min), usize::from(max.max(min)));
                if point && count > 0 {
                    out.push('.');
                }
                out.push_str(&digits[..count]);
            }
            Item::Text { field, full } => {
                let name = match field {
                    TextField::AmPm => ["AM", "PM"][usize::from(value.second >= 43_200)],
                    TextField::Month => MONTHS[civil_from_days(value.days).1 as usize - 1],
                    TextField::DayOfWeek => DAYS[day_of_week(value.days) as usize - 1],
                };
                out.push_str(if full { name } else { &name[..name.len().min(3)] });
            }
            Item::Offset { zero, .. } if value.offset == 0 => out.push_str(zero),
            Item::Offset { style, .. } => print_offset(value.offset, style, out),
            Item::ZoneId => match value.zone {
                Zone::Utc => out.push('Z'),
                Zone::Fixed(seconds) => print_offset(*seconds, OffsetStyle::Colon, out),
                Zone::Named(zone) => match zone.iana_name() {
                    Some(name) => out.push_str(name),
                    None => print_offset(value.offset, OffsetStyle::Colon, out),
                },
            },
            Item::Optional(ref inner) => print_items(inner, value, out),
        }
    }
}

fn print_offset(offset: i32, style: OffsetStyle, out: &mut String) {
    use std::fmt::Write;
    let (sign, n) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
    let (hours, minutes, seconds) = (n / 3600, n / 60 % 60, n % 60);
    let _ = write!(out, "{sign}{hours:02}");
    let _ = match style {
        OffsetStyle::Hour if minutes == 0 => Ok(()),
        OffsetStyle::Hour | OffsetStyle::Plain => write!(out, "{minutes:02}"),
        OffsetStyle::Colon => write!(out, ":{minutes:02}"),
    };
    if seconds != 0 && style != OffsetStyle::Hour {
        let _ = write!(out, "{}{seconds:02}", if style == OffsetStyle::Colon { ":" } else { "" });
    }
}

fn number_of(field: Field, value: &Printed<'_>) -> i64 {
    let (year, month, day) = civil_from_days(value.days);
    let hour = value.second / 3600;
    match field {
        Field::Year => year,
        Field::YearTwoDigits => year.rem_euclid(100),
        Field::WeekYear => week_from_days(value.days).0,
        Field::Month => i64::from(month),
        Field::Week => i64::from(week_from_days(value.days).1),
        Field::DayOfYear => value.days - days_from_civil(year, 1, 1) + 1,
        Field::Day => i64::from(day),
        Field::DayOfWeek => i64::from(day_of_week(value.days)),
        Field::Hour => i64::from(hour),
        Field::HourFrom1 => i64::from(if hour == 0 { 24 } else { hour }),
        Field::Hour12 => i64::from((hour + 11) % 12 + 1),
        Field::Hour12From0 => i64::from(hour % 12),
        Field::Minute => i64::from(value.second / 60 % 60),
        Field::Second => i64::from(value.second % 60),
        Field::Nano => i64::from(value.moment.nanos),
        Field::MilliOfDay => i64::from(value.second * 1000 + value.moment.nanos / 1_000_000),
    }
}

/// Lets the named formats ask for a fraction that patterns cannot write: a point and `min` to `max` digits.
pub(super) fn with_fraction(text: &str, min: u8, max: u8) -> Pattern {
    let mut pattern = Pattern::new(text).expect("named formats are valid patterns");
    replace_fraction(&mut pattern.items, min, max);
    reserve_digits(&mut pattern.items);
    pattern
}

// `@` marks the place: no named format has it otherwise.
fn replace_fraction(items: &mut [Item], min: u8, max: u8) {
    for item in items {
        match item {
            Item::Literal('@') => *item = Item::Fraction { min, max, point: true },
            Item::Optional(inner) => replace_fraction(inner, min, max),
            _ => {}
        }
    }
}

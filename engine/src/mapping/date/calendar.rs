//! Days, civil dates and time zones over the whole range of 64-bit milliseconds (years beyond 9999 are legal in an
//! index). Zone rules come from the bundled IANA database; a zone's first and last offsets hold outside its range.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// A moment: seconds since 1970 and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Instant {
    /// From milliseconds since 1970.
    #[must_use]
    pub fn from_millis(ms: i64) -> Instant {
        Instant { seconds: ms.div_euclid(1000), nanos: ms.rem_euclid(1000) as u32 * 1_000_000 }
    }

    /// From nanoseconds since 1970.
    #[must_use]
    pub fn from_nanos(ns: i64) -> Instant {
        Instant { seconds: ns.div_euclid(1_000_000_000), nanos: ns.rem_euclid(1_000_000_000) as u32 }
    }

    /// Milliseconds since 1970, rounded down; none when they do not fit 64 bits.
    #[must_use]
    pub fn to_millis(self) -> Option<i64> {
        i64::try_from(i128::from(self.seconds) * 1000 + i128::from(self.nanos / 1_000_000)).ok()
    }

    /// Nanoseconds since 1970; none when they do not fit 64 bits.
    #[must_use]
    pub fn to_nanos(self) -> Option<i64> {
        i64::try_from(i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)).ok()
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. `month` counts from 1.
#[must_use]
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years start in March, so that the leap day comes last; eras of 400 years are all alike.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The reverse of [`days_from_civil`]: year, month, day.
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Whether February has 29 days.
#[must_use]
pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days of a month, 1 to 12.
#[must_use]
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Day of the week of a day since 1970: Monday is 1.
#[must_use]
pub fn day_of_week(days: i64) -> u32 {
    (days + 3).rem_euclid(7) as u32 + 1
}

/// Days since 1970 of an ISO week date; `week` may lie outside the year.
#[must_use]
pub fn days_from_week(week_year: i64, week: u32, day: u32) -> i64 {
    let fourth = days_from_civil(week_year, 1, 4);
    fourth - i64::from(day_of_week(fourth) - 1) + (i64::from(week) - 1) * 7 + i64::from(day) - 1
}

/// ISO week year and week of a day since 1970.
#[must_use]
pub fn week_from_days(days: i64) -> (i64, u32) {
    let thursday = days - i64::from(day_of_week(days)) + 4;
    let (year, ..) = civil_from_days(thursday);
    (year, ((thursday - days_from_civil(year, 1, 1)) / 7 + 1) as u32)
}

/// A time zone.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Zone {
    /// Offset zero.
    #[default]
    Utc,
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// By name, with its history.
    Named(TimeZone),
}

// Bundled, not the machine's: a look-up reads no file, so it cannot stall a core, and answers are the same everywhere.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl Zone {
    /// `Z`, `UTC`, `+01:00`, `-0800`, `UTC+1`, `Europe/Paris`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Zone> {
        if matches!(text, "Z" | "z" | "UTC" | "GMT" | "UT" | "Etc/UTC") {
            return Some(Zone::Utc);
        }
        let offset = ["UTC", "GMT", "UT", ""].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
        if offset.starts_with(['+', '-']) {
            return Zone::parse_offset(offset);
        }
        if text.is_empty() || text.len() > 64 {
            return None;
        }
        ZONES.get(text).ok().map(Zone::Named)
    }

    fn parse_offset(text: &str) -> Option<Zone> {
        let bytes = text.as_bytes();
        let sign = if bytes[0] == b'-' { -1 } else { 1 };
        let digits: Vec<u8> = bytes[1..].iter().copied().filter(|&b| b != b':').collect();
        if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Colons, where there are any, stand between pairs.
        if bytes[1..].contains(&b':') && !bytes[1..].split(|&b| b == b':').all(|part| part.len() == 2) {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            digits.get(range).map_or(0, |d| d.iter().fold(0i32, |n, d| n * 10 + i32::from(d - b'0')))
        };
        let (h, m, s) = match digits.len() {
            1 => (number(0..1), 0, 0),
            2 => (number(0..2), 0, 0),
            4 => (number(0..2), number(2..4), 0),
            6 => (number(0..2), number(2..4), number(4..6)),
            _ => return None,
        };
        Zone::from_offset(sign * (h * 3600 + m * 60 + s)).filter(|_| m < 60 && s < 60)
    }

    /// A fixed offset of at most 18 hours.
    #[must_use]
    pub fn from_offset(seconds: i32) -> Option<Zone> {
        match seconds {
            0 => Some(Zone::Utc),
            -64_800..=64_800 => Some(Zone::Fixed(seconds)),
            _ => None,
        }
    }

    /// Seconds to add to UTC, at a moment.
    #[must_use]
    pub fn offset_at(&self, utc_seconds: i64) -> i32 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(zone) => {
                let (min, max) = (jiff::Timestamp::MIN.as_second() + 1, jiff::Timestamp::MAX.as_second());
                let at = jiff::Timestamp::from_second(utc_seconds.clamp(min, max)).unwrap_or(jiff::Timestamp::MAX);
                zone.to_offset(at).seconds()
            }
        }
    }

    /// The moment of a local time. A time skipped by a change of clocks moves forward by the gap; of two equal times
    /// the earlier counts.
    #[must_use]
    pub fn to_utc(&self, local_seconds: i64) -> i64 {
        match self {
            Zone::Utc => local_seconds,
            Zone::Fixed(seconds) => local_seconds - i64::from(*seconds),
            Zone::Named(zone) => {
                let (year, month, day) = civil_from_days(local_seconds.div_euclid(DAY));
                let second = local_seconds.rem_euclid(DAY);
                let exact = i16::try_from(year).ok().filter(|y| (-9998..=9998).contains(y)).and_then(|year| {
                    let time = [second / 3600, second / 60 % 60, second % 60].map(|n| n as i8);
                    let local =
                        jiff::civil::DateTime::new(year, month as i8, day as i8, time[0], time[1], time[2], 0).ok()?;
                    zone.to_ambiguous_timestamp(local).compatible().ok()
                });
                match exact {
                    Some(moment) => moment.as_second(),
                    None => local_seconds - i64::from(self.offset_at(local_seconds)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zones_have_names_and_offsets() {
        let at = |name: &str, utc| Zone::parse(name).unwrap().offset_at(utc);
        assert_eq!(at("Z", 0), 0);
        assert_eq!(at("+01:00", 0), 3600);
        assert_eq!(at("-0830", 0), -30_600);
        assert_eq!(at("UTC+2", 0), 7200);
        assert_eq!(at("Europe/Paris", 1_577_836_800), 3600);
        assert_eq!(at("Europe/Paris", 1_593_561_600), 7200);
        for bad in ["", "+", "+1:00", "+25:00", "+01:60", "Mars/Olympus", "+012", "++1"] {
            assert_eq!(Zone::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_skipped_local_time_moves_forward() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        // 2020-03-29T02:30 does not exist; 03:30+02:00 is what is meant.
        let local = days_from_civil(2020, 3, 29) * DAY + 2 * 3600 + 1800;
        assert_eq!(berlin.to_utc(local), days_from_civil(2020, 3, 29) * DAY + 3600 + 1800);
    }

    proptest! {
        #[test]
        fn calendar_agrees_with_jiff(days in -4_371_587i64..=2_932_896) {
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            let (y, m, d) = civil_from_days(days);
            prop_assert_eq!((y, m, d), (i64::from(date.year()), date.month() as u32, date.day() as u32));
            prop_assert_eq!(days_from_civil(y, m, d), days);
            prop_assert_eq!(day_of_week(days), date.weekday().to_monday_one_offset() as u32);
            let week = date.iso_week_date();
            prop_assert_eq!(week_from_days(days), (i64::from(week.year()), week.week() as u32));
            prop_assert_eq!(days_from_week(i64::from(week.year()), week.week() as u32, day_of_week(days)), days);
            prop_assert_eq!(days_in_month(y, m), date.days_in_month() as u32);
        }

        #[test]
        fn zones_agree_with_jiff(utc in -8_000_000_000i64..8_000_000_000, name in prop::sample::select(
            vec!["America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Europe/London"])) {
            let zone = Zone::parse(name).unwrap();
            let tz = TimeZoneDatabase::bundled().get(name).unwrap();
            let moment = jiff::Timestamp::from_second(utc).unwrap();
            prop_assert_eq!(zone.offset_at(utc), tz.to_offset(moment).seconds());
            let local = tz.to_datetime(moment);
            let local_seconds = utc + i64::from(zone.offset_at(utc));
            prop_assert_eq!(zone.to_utc(local_seconds), tz.to_timestamp(local).unwrap().as_second());
        }

        #[test]
        fn the_whole_range_of_milliseconds_is_covered(ms in any::<i64>()) {
            let moment = Instant::from_millis(ms);
            prop_assert_eq!(moment.to_millis(), Some(ms));
            let (y, m, d) = civil_from_days(moment.seconds.div_euclid(DAY));
            prop_assert_eq!(days_from_civil(y, m, d), moment.seconds.div_euclid(DAY));
            let _ = Zone::parse("America/New_York").unwrap().to_utc(moment.seconds);
        }
    }
}

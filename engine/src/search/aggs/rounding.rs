//! Rounding dates down to calendar units and fixed intervals, in a time zone.
//!
//! All times are milliseconds since 1970. A bucket is `[round(t), next(round(t)))`. Local times are a fiction near a
//! change of clocks: a local time may not exist (a gap) or exist twice (an overlap). Days and longer units begin at
//! the first moment of their first local day. Shorter units and fixed intervals begin at the last moment with the
//! rounded local time that is not after the input, and never reach back over a change of clocks.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::mapping::date::Zone;
use crate::search::aggs::{CalendarUnit, DateInterval};

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;
/// A change of clocks may send rounding back once more; zones do not change more often than this within one unit.
const TRANSITIONS_MAX: usize = 16;

/// Rounds down. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rounding {
    interval: DateInterval,
    zone: Zone,
    offset_ms: i64,
}

/// A [`Rounding`] with the bucket starts of a span of time at hand.
#[derive(Clone, Debug)]
pub struct PreparedRounding {
    rounding: Rounding,
    /// Ascending; the last one is after the span. Empty: compute each.
    starts: Vec<i64>,
}

impl Rounding {
    /// `offset_ms` shifts every bucket.
    #[must_use]
    pub fn new(interval: DateInterval, zone: Zone, offset_ms: i64) -> Rounding {
        if let DateInterval::Fixed(ms) = interval {
            assert!(ms > 0, "an interval is above zero");
        }
        Rounding { interval, zone, offset_ms }
    }

    /// Start of the bucket that `t` falls into.
    #[must_use]
    pub fn round(&self, t: i64) -> i64 {
        self.round_plain(t.saturating_sub(self.offset_ms)).saturating_add(self.offset_ms)
    }

    /// Start of the bucket after the one that starts at `start`.
    #[must_use]
    pub fn next(&self, start: i64) -> i64 {
        let plain = start.saturating_sub(self.offset_ms);
        self.next_plain(plain).max(plain.saturating_add(1)).saturating_add(self.offset_ms)
    }

    /// Milliseconds of the unit where that is a matter of arithmetic, and where the first one of 1970 starts.
    fn fixed(&self) -> Option<(i64, i64)> {
        match self.interval {
            DateInterval::Fixed(ms) => Some((ms, 0)),
            DateInterval::Calendar(unit) => match unit {
                CalendarUnit::Second => Some((SECOND, 0)),
                CalendarUnit::Minute => Some((60 * SECOND, 0)),
                CalendarUnit::Hour => Some((3600 * SECOND, 0)),
                CalendarUnit::Day => Some((DAY, 0)),
                CalendarUnit::Week => Some((7 * DAY, -3 * DAY)), // 1970 began on a Thursday, weeks on Mondays
                CalendarUnit::Month | CalendarUnit::Quarter | CalendarUnit::Year => None,
            },
        }
    }

    /// Whether buckets begin where local days do.
    fn to_midnight(&self) -> bool {
        use CalendarUnit::{Day, Month, Quarter, Week, Year};
        matches!(self.interval, DateInterval::Calendar(Day | Week | Month | Quarter | Year))
    }

    fn floor_local(&self, local: i64) -> i64 {
        if let Some((size, phase)) = self.fixed() {
            return local - (local - phase).rem_euclid(size);
        }
        let (year, month) = month_of(local);
        first_of(year, self.first_month(month))
    }

    fn next_local(&self, local: i64) -> i64 {
        if let Some((size, _)) = self.fixed() {
            return local.saturating_add(size);
        }
        let (year, month) = month_of(local);
        let month = self.first_month(month) + self.months();
        if month > 12 { first_of(year + 1, month - 12) } else { first_of(year, month) }
    }

    fn months(&self) -> i64 {
        match self.interval {
            DateInterval::Calendar(CalendarUnit::Quarter) => 3,
            DateInterval::Calendar(CalendarUnit::Year) => 12,
            _ => 1,
        }
    }

    fn first_month(&self, month: i64) -> i64 {
        (month - 1) / self.months() * self.months() + 1
    }

    fn round_plain(&self, t: i64) -> i64 {
        let zone = match &self.zone {
            Zone::Utc => return self.floor_local(t),
            Zone::Fixed(seconds) => {
                let offset = i64::from(*seconds) * SECOND;
                return self.floor_local(t + offset) - offset;
            }
            Zone::Named(zone) => zone,
        };
        if self.to_midnight() {
            return first_moment(zone, self.floor_local(t + offset_at(zone, t)));
        }
        let mut t = t;
        for _ in 0..TRANSITIONS_MAX {
            let local = self.floor_local(t + offset_at(zone, t));
            let change = change_before(zone, t);
            match moments(zone, local) {
                Moments::One(start) if change.is_none_or(|c| start >= c) => return start,
                Moments::Two(_, later) if later <= t && change.is_none_or(|c| later >= c) => return later,
                Moments::Two(earlier, _) if earlier <= t && change.is_none_or(|c| earlier >= c) => return earlier,
                // The rounded local time was skipped: the interval begins where the gap does.
                Moments::None(gap) if matches!(self.interval, DateInterval::Fixed(_)) => return gap,
                _ => match change {
                    Some(change) => t = change - 1,
                    None => return t,
                },
            }
        }
        t
    }

    fn next_plain(&self, start: i64) -> i64 {
        let zone = match &self.zone {
            Zone::Utc => return self.next_local(start),
            Zone::Fixed(seconds) => {
                let offset = i64::from(*seconds) * SECOND;
                return self.next_local(start + offset) - offset;
            }
            Zone::Named(zone) => zone,
        };
        let local = start + offset_at(zone, start);
        if self.to_midnight() {
            return first_moment(zone, self.next_local(self.floor_local(local)));
        }
        // Step by the unit in real time until rounding arrives somewhere new: changes of clocks make buckets longer.
        let (size, _) = self.fixed().expect("units below a day are fixed");
        let mut probe = start;
        for _ in 0..TRANSITIONS_MAX {
            probe = probe.saturating_add(size);
            let next = self.round_plain(probe);
            if next > start {
                return next;
            }
        }
        probe
    }

    /// Prepares for rounding many times between `min` and `max`.
    #[must_use]
    pub fn prepare(&self, min: i64, max: i64) -> PreparedRounding {
        const STARTS_MAX: usize = 4096;
        let mut starts = Vec::new();
        let arithmetic = !matches!(self.zone, Zone::Named(_)) && self.fixed().is_some();
        let size_min = self.fixed().map_or(28 * DAY, |(size, _)| size);
        if !arithmetic && min <= max && max.saturating_sub(min) / size_min < STARTS_MAX as i64 {
            starts.push(self.round(min));
            while starts[starts.len() - 1] <= max {
                let next = self.next(starts[starts.len() - 1]);
                if starts.len() > STARTS_MAX {
                    starts.clear();
                    break;
                }
                starts.push(next);
            }
        }
        PreparedRounding { rounding: self.clone(), starts }
    }
}

impl PreparedRounding {
    /// As [`Rounding::round`]; `t` should be in the prepared span.
    #[inline]
    #[must_use]
    pub fn round(&self, t: i64) -> i64 {
        if let (Some(&first), Some(&last)) = (self.starts.first(), self.starts.last())
            && t >= first
            && t < last
        {
            return self.starts[self.starts.partition_point(|&s| s <= t) - 1];
        }
        self.rounding.round(t)
    }
}

/// Year and month of a local time.
fn month_of(local: i64) -> (i64, i64) {
    // Days since the first of March of year 0, in eras of 400 years: the leap day ends the year.
    let days = local.div_euclid(DAY) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

/// The first moment of a month, local.
fn first_of(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5;
    let day = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day - 719_468).saturating_mul(DAY)
}

/// What a local time means.
enum Moments {
    One(i64),
    /// Clocks were set back: earlier and later.
    Two(i64, i64),
    /// Clocks were set forward over it: the moment they were.
    None(i64),
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn offset_at(zone: &TimeZone, t: i64) -> i64 {
    i64::from(zone.to_offset(timestamp(t)).seconds()) * SECOND
}

/// The last change of clocks at or before `t`.
fn change_before(zone: &TimeZone, t: i64) -> Option<i64> {
    zone.preceding(timestamp(t.saturating_add(1))).next().map(|c| c.timestamp().as_millisecond())
}

fn moments(zone: &TimeZone, local: i64) -> Moments {
    let Ok(civil) = Timestamp::from_millisecond(local).map(|t| TimeZone::UTC.to_datetime(t)) else {
        return Moments::One(local - offset_at(zone, local));
    };
    let at = |seconds: i32| local - i64::from(seconds) * SECOND;
    match offset(zone, civil) {
        AmbiguousOffset::Unambiguous { offset } => Moments::One(at(offset.seconds())),
        AmbiguousOffset::Fold { before, after } => Moments::Two(at(before.seconds()), at(after.seconds())),
        AmbiguousOffset::Gap { before, .. } => {
            // Read with the old offset, the skipped time lies after the change.
            let inside = at(before.seconds());
            Moments::None(change_before(zone, inside).unwrap_or(inside))
        }
    }
}

fn offset(zone: &TimeZone, civil: DateTime) -> AmbiguousOffset {
    zone.to_ambiguous_timestamp(civil).offset()
}

/// The first moment that is not before the local time, which is a midnight.
fn first_moment(zone: &TimeZone, local: i64) -> i64 {
    match moments(zone, local) {
        Moments::One(t) | Moments::Two(t, _) | Moments::None(t) => t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn check(interval: DateInterval, zone: &str, t: &str, expected: &str) {
        let rounding = Rounding::new(interval, Zone::parse(zone).unwrap(), 0);
        let got = rounding.round(ms(t));
        assert_eq!(got, ms(expected), "{t} in {zone}: {}", timestamp(got));
    }

    #[test]
    fn calendar_units_round_down() {
        use CalendarUnit::*;
        for (unit, expected) in [
            (Second, "2020-05-20T13:14:15Z"),
            (Minute, "2020-05-20T13:14:00Z"),
            (Hour, "2020-05-20T13:00:00Z"),
            (Day, "2020-05-20T00:00:00Z"),
            (Week, "2020-05-18T00:00:00Z"),
            (Month, "2020-05-01T00:00:00Z"),
            (Quarter, "2020-04-01T00:00:00Z"),
            (Year, "2020-01-01T00:00:00Z"),
        ] {
            check(DateInterval::Calendar(unit), "UTC", "2020-05-20T13:14:15.678Z", expected);
        }
        check(DateInterval::Calendar(Month), "UTC", "1969-12-31T23:59:59.999Z", "1969-12-01T00:00:00Z");
        check(DateInterval::Calendar(Week), "UTC", "1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z");
    }

    #[test]
    fn days_follow_the_clocks() {
        let day = DateInterval::Calendar(CalendarUnit::Day);
        // Berlin's clocks went forward on 2020-03-29: that day has 23 hours.
        check(day, "Europe/Berlin", "2020-03-29T12:00:00Z", "2020-03-28T23:00:00Z");
        check(day, "Europe/Berlin", "2020-03-30T12:00:00Z", "2020-03-29T22:00:00Z");
        let berlin = Rounding::new(day, Zone::parse("Europe/Berlin").unwrap(), 0);
        assert_eq!(berlin.next(ms("2020-03-28T23:00:00Z")), ms("2020-03-29T22:00:00Z"));
        assert_eq!(berlin.next(ms("2020-10-24T22:00:00Z")), ms("2020-10-25T23:00:00Z"));
        // In Sao Paulo the change skipped midnight itself.
        check(day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z");
    }

    #[test]
    fn hours_do_not_join_over_an_overlap() {
        let hour = DateInterval::Calendar(CalendarUnit::Hour);
        // 02:30 came twice in Berlin on 2020-10-25.
        check(hour, "Europe/Berlin", "2020-10-25T00:30:00Z", "2020-10-25T00:00:00Z");
        check(hour, "Europe/Berlin", "2020-10-25T01:30:00Z", "2020-10-25T01:00:00Z");
        check(hour, "Asia/Kathmandu", "2020-06-01T00:30:00Z", "2020-06-01T00:15:00Z");
    }

    #[test]
    fn offset_shifts_buckets() {
        let r = Rounding::new(DateInterval::Calendar(CalendarUnit::Day), Zone::Utc, 6 * 3600 * SECOND);
        assert_eq!(r.round(ms("2020-01-02T05:59:59Z")), ms("2020-01-01T06:00:00Z"));
        assert_eq!(r.round(ms("2020-01-02T06:00:00Z")), ms("2020-01-02T06:00:00Z"));
        assert_eq!(r.next(ms("2020-01-01T06:00:00Z")), ms("2020-01-02T06:00:00Z"));
    }

    fn any_interval() -> impl Strategy<Value = DateInterval> {
        use CalendarUnit::*;
        prop_oneof![
            prop::sample::select(vec![Second, Minute, Hour, Day, Week, Month, Quarter, Year])
                .prop_map(DateInterval::Calendar),
            prop::sample::select(vec![1, 1500, 60_000, 5_400_000, 86_400_000, 250_000_000])
                .prop_map(DateInterval::Fixed),
        ]
    }

    fn any_zone() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "UTC",
            "+05:30",
            "-08:00",
            "Europe/Berlin",
            "America/New_York",
            "Asia/Kathmandu",
            "America/Sao_Paulo",
            "Australia/Lord_Howe",
            "Pacific/Apia",
        ])
    }

    proptest! {
        #[test]
        fn buckets_partition_time(interval in any_interval(), zone in any_zone(),
                                  t in 0i64..2_000_000_000, ahead in 0i64..40_000_000_000) {
            let r = Rounding::new(interval, Zone::parse(zone).unwrap(), 0);
            let t = t * SECOND + 7;
            let start = r.round(t);
            prop_assert!(start <= t);
            prop_assert_eq!(r.round(start), start);
            let next = r.next(start);
            prop_assert!(next > t, "{} {} {}", timestamp(start), timestamp(t), timestamp(next));
            prop_assert_eq!(r.round(next), next);
            prop_assert_eq!(r.round(next - 1), start);
            let prepared = r.prepare(t, t + ahead);
            for i in 0..20 {
                let probe = t + ahead / 20 * i;
                prop_assert_eq!(prepared.round(probe), r.round(probe));
            }
        }
    }
}

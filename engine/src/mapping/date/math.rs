//! Date math: `now-1d/d`, `2020-01-01||+1M/M`.

use super::DateFormat;
use super::calendar::{DAY, Instant, Zone, civil_from_days, day_of_week, days_from_civil, days_in_month};

/// Evaluates a date expression. `round_up` is what `gt` and `lte` ask for: a rounding goes to the last millisecond
/// of its unit, and a time of day that is left out becomes the last of the day.
///
/// # Errors
/// The reason of a `parse_exception`.
pub fn evaluate(text: &str, format: &DateFormat, now_ms: i64, round_up: bool, zone: &Zone) -> Result<Instant, String> {
    let date = |text: &str, round_up: bool| {
        format.parse_rounding(text, round_up, zone).ok_or_else(|| {
            let format = format.text();
            format!(
                "failed to parse date field [{text}] with format [{format}]: [failed to parse date field [{text}] \
                 with format [{format}]]"
            )
        })
    };
    let (start, operations) = if let Some(rest) = text.strip_prefix("now") {
        (Instant::from_millis(now_ms), rest)
    } else if let Some((start, rest)) = text.split_once("||") {
        if rest.is_empty() {
            return date(start, round_up);
        }
        (date(start, false)?, rest)
    } else {
        return date(text, round_up);
    };
    apply(operations, start, round_up, zone)
}

fn apply(operations: &str, start: Instant, round_up: bool, zone: &Zone) -> Result<Instant, String> {
    let bytes = operations.as_bytes();
    let mut moment = start;
    let mut at = 0;
    while at < bytes.len() {
        let operator = bytes[at];
        at += 1;
        if !matches!(operator, b'/' | b'+' | b'-') {
            return Err(format!("operator not supported for date math [{operations}]"));
        }
        let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let count = match digits {
            0 => 1,
            _ => operations[at..at + digits].parse::<i32>().map_err(|_| {
                format!("failed to parse date math: number [{}] is too large", &operations[at..at + digits])
            })?,
        };
        at += digits;
        let Some(unit) = operations[at..].chars().next() else {
            return Err(format!("truncated date math [{operations}]"));
        };
        at += unit.len_utf8();
        let out_of_range = || format!("date math [{operations}] leaves the range of dates");
        moment = if operator == b'/' {
            if count != 1 {
                return Err(format!("rounding `/` can only be used on single unit types [{operations}]"));
            }
            let floor = round_down(moment, unit, zone).ok_or_else(|| unsupported(unit, operations))?;
            if round_up {
                let next = add(floor, unit, 1, zone).and_then(|n| n).ok_or_else(out_of_range)?;
                let (seconds, nanos) = match next.nanos.checked_sub(1_000_000) {
                    Some(nanos) => (next.seconds, nanos),
                    None => (next.seconds - 1, next.nanos + 999_000_000),
                };
                Instant { seconds, nanos }
            } else {
                floor
            }
        } else {
            let count = if operator == b'-' { -i64::from(count) } else { i64::from(count) };
            add(moment, unit, count, zone).ok_or_else(|| unsupported(unit, operations))?.ok_or_else(out_of_range)?
        };
    }
    Ok(moment)
}

fn unsupported(unit: char, operations: &str) -> String {
    format!("unit [{unit}] not supported for date math [{operations}]")
}

/// The start of the unit that `moment` lies in; none for an unknown unit.
fn round_down(moment: Instant, unit: char, zone: &Zone) -> Option<Instant> {
    let offset = i64::from(zone.offset_at(moment.seconds));
    let local = moment.seconds + offset;
    let days = local.div_euclid(DAY);
    let (year, month, _) = civil_from_days(days);
    let local_floor = match unit {
        'y' => days_from_civil(year, 1, 1) * DAY,
        'M' => days_from_civil(year, month, 1) * DAY,
        'w' => (days - i64::from(day_of_week(days)) + 1) * DAY,
        'd' => days * DAY,
        'h' | 'H' => local - local.rem_euclid(3600),
        'm' => local - local.rem_euclid(60),
        's' => return Some(Instant { seconds: moment.seconds, nanos: 0 }),
        _ => return None,
    };
    // Hours and minutes stay in their offset: an hour that occurs twice is not sent back to the first.
    let seconds = if matches!(unit, 'h' | 'H' | 'm') { local_floor - offset } else { zone.to_utc(local_floor) };
    Some(Instant { seconds, nanos: 0 })
}

/// Outer none: unknown unit; inner none: beyond the range of dates.
#[allow(clippy::option_option)]
fn add(moment: Instant, unit: char, count: i64, zone: &Zone) -> Option<Option<Instant>> {
    let local = moment.seconds + i64::from(zone.offset_at(moment.seconds));
    let (days, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    let shifted_days = |days: i64| zone.to_utc(days * DAY + second);
    let months = |count: i64| {
        let (year, month, day) = civil_from_days(days);
        let month_index = year * 12 + i64::from(month) - 1 + count;
        let (year, month) = (month_index.div_euclid(12), month_index.rem_euclid(12) as u32 + 1);
        shifted_days(days_from_civil(year, month, day.min(days_in_month(year, month))))
    };
    // Counts have 32 bits and moments fit milliseconds, so none of this overflows.
    let seconds = match unit {
        'y' => months(count * 12),
        'M' => months(count),
        'w' => shifted_days(days + count * 7),
        'd' => shifted_days(days + count),
        'h' | 'H' => moment.seconds + count * 3600,
        'm' => moment.seconds + count * 60,
        's' => moment.seconds + count,
        _ => return None,
    };
    let moved = Instant { seconds, nanos: moment.nanos };
    Some(moved.to_millis().map(|_| moved))
}

//! Histograms and their intervals.

use ringdex_engine::search::aggs::{
    AggKind, Bounds, CalendarUnit, DateHistogramRequest, DateInterval, HistogramRequest,
};
use serde_json::Value;

use super::bucket::{bounds, by_key, order};
use super::{Params, bad, number, scalar};
use crate::dsl::DslResult;

pub(super) fn histogram(p: &mut Params<'_>) -> DslResult<AggKind> {
    let interval = p.number("interval")?.filter(|&i| i > 0.0);
    let interval = interval.ok_or_else(|| bad("[interval] must be >0 for histogram aggregation"))?;
    let extended_bounds = bounds(p, "extended_bounds", number)?;
    if let Some(Bounds { min: Some(min), max: Some(max) }) = extended_bounds
        && min > max
    {
        return Err(bad(format!(
            "[extended_bounds.min][{min:?}] cannot be greater than [extended_bounds.max][{max:?}] for histogram aggregation [{}]",
            p.name
        )));
    }
    Ok(AggKind::Histogram(HistogramRequest {
        interval,
        offset: p.number("offset")?.unwrap_or(0.0),
        min_doc_count: p.min_doc_count(0)?,
        extended_bounds,
        hard_bounds: bounds(p, "hard_bounds", number)?,
        order: order(p, by_key())?,
        keyed: p.flag("keyed")?.unwrap_or(false),
        source: p.source()?,
    }))
}

pub(super) fn date_histogram(p: &mut Params<'_>) -> DslResult<AggKind> {
    let interval = date_interval(p)?;
    let offset_ms = offset_ms(p)?;
    Ok(AggKind::DateHistogram(DateHistogramRequest {
        interval,
        offset_ms,
        min_doc_count: p.min_doc_count(0)?,
        extended_bounds: bounds(p, "extended_bounds", scalar)?,
        hard_bounds: bounds(p, "hard_bounds", scalar)?,
        order: order(p, by_key())?,
        keyed: p.flag("keyed")?.unwrap_or(false),
        source: p.source()?,
    }))
}

/// How much later than usual buckets of time begin.
pub(in crate::dsl) fn offset_ms(p: &mut Params<'_>) -> DslResult<i64> {
    Ok(match p.get("offset") {
        None => 0,
        Some(Value::String(text)) => {
            let (sign, rest) = match text.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, text.strip_prefix('+').unwrap_or(text)),
            };
            sign * fixed_ms(rest, "offset")?
        }
        Some(value) => number(value).ok_or_else(|| p.wrong("offset", value))? as i64,
    })
}

/// A unit of time, by name or as so much time.
pub(in crate::dsl) fn date_unit_ms(text: &str) -> DslResult<i64> {
    const DAY: i64 = 86_400_000;
    Ok(match calendar_unit(text) {
        Some(CalendarUnit::Second) => 1000,
        Some(CalendarUnit::Minute) => 60_000,
        Some(CalendarUnit::Hour) => 3_600_000,
        Some(CalendarUnit::Day) => DAY,
        Some(CalendarUnit::Week) => 7 * DAY,
        // As long as they are on average.
        Some(CalendarUnit::Month) => 2_629_746_000,
        Some(CalendarUnit::Quarter) => 7_889_238_000,
        Some(CalendarUnit::Year) => 31_556_952_000,
        None => match fixed_ms(text, "unit")? {
            0 => return Err(bad("[unit] must be above 0")),
            ms => ms,
        },
    })
}

pub(in crate::dsl) fn date_interval(p: &mut Params<'_>) -> DslResult<DateInterval> {
    let (calendar, fixed, legacy) = (p.text("calendar_interval")?, p.text("fixed_interval")?, p.text("interval")?);
    match (calendar, fixed, legacy) {
        (Some(text), None, None) => calendar_unit(&text)
            .map(DateInterval::Calendar)
            .ok_or_else(|| bad(format!("The supplied interval [{text}] could not be parsed as a calendar interval."))),
        (None, Some(text), None) => fixed_ms(&text, "fixed_interval").map(DateInterval::Fixed).and_then(positive),
        (None, None, Some(text)) => match calendar_unit(&text) {
            Some(unit) => Ok(DateInterval::Calendar(unit)),
            None => fixed_ms(&text, "interval").map(DateInterval::Fixed).and_then(positive),
        },
        (None, None, None) => Err(bad("Invalid interval specified, must be non-null and non-empty")),
        (Some(_), Some(_), None) => {
            Err(bad("Cannot use [fixed_interval] with [calendar_interval] configuration option."))
        }
        _ => Err(bad("Cannot use [interval] with [fixed_interval] or [calendar_interval] configuration options.")),
    }
}

fn positive(interval: DateInterval) -> DslResult<DateInterval> {
    match interval {
        DateInterval::Fixed(ms) if ms <= 0 => Err(bad("Zero or negative time interval not supported")),
        other => Ok(other),
    }
}

fn calendar_unit(text: &str) -> Option<CalendarUnit> {
    Some(match text {
        "second" | "1s" => CalendarUnit::Second,
        "minute" | "1m" => CalendarUnit::Minute,
        "hour" | "1h" => CalendarUnit::Hour,
        "day" | "1d" => CalendarUnit::Day,
        "week" | "1w" => CalendarUnit::Week,
        "month" | "1M" => CalendarUnit::Month,
        "quarter" | "1q" => CalendarUnit::Quarter,
        "year" | "1y" => CalendarUnit::Year,
        _ => return None,
    })
}

/// `90s`, `1.5h`, `30d`; a bare number has no unit and is refused, except zero.
fn fixed_ms(text: &str, setting: &str) -> DslResult<i64> {
    let wrong = || {
        bad(format!(
            "failed to parse setting [{setting}] with value [{text}] as a time value: unit is missing or unrecognized"
        ))
    };
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        "" if digits == "0" => 0.0,
        _ => return Err(wrong()),
    };
    let count: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let ms = count * unit_ms;
    // What no date can be away from another: 200,000 years.
    if !(0.0..=6.3e15).contains(&ms) { Err(wrong()) } else { Ok(ms as i64) }
}

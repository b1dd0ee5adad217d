//! The named formats, as patterns. `@` stands for a point and a fraction of a second.

use super::pattern::{Pattern, with_fraction};

// Name, strict pattern, lenient pattern where it differs. "strict_NAME" asks for the first, "NAME" for the second.
const NAMES: &[(&str, &str, &str)] = &[
    ("basic_date", "yyyyMMdd", ""),
    ("basic_date_time", "yyyyMMdd'T'HHmmss@X", ""),
    ("basic_date_time_no_millis", "yyyyMMdd'T'HHmmssX", ""),
    ("basic_ordinal_date", "yyyyDDD", ""),
    ("basic_ordinal_date_time", "yyyyDDD'T'HHmmss@X", ""),
    ("basic_ordinal_date_time_no_millis", "yyyyDDD'T'HHmmssX", ""),
    ("basic_time", "HHmmss@X", ""),
    ("basic_time_no_millis", "HHmmssX", ""),
    ("basic_t_time", "'T'HHmmss@X", ""),
    ("basic_t_time_no_millis", "'T'HHmmssX", ""),
    ("basic_week_date", "YYYY'W'wwe", ""),
    ("basic_week_date_time", "YYYY'W'wwe'T'HHmmss@X", ""),
    ("basic_week_date_time_no_millis", "YYYY'W'wwe'T'HHmmssX", ""),
    ("date", "yyyy-MM-dd", "y-M-d"),
    ("date_hour", "yyyy-MM-dd'T'HH", "y-M-d'T'H"),
    ("date_hour_minute", "yyyy-MM-dd'T'HH:mm", "y-M-d'T'H:m"),
    ("date_hour_minute_second", "yyyy-MM-dd'T'HH:mm:ss", "y-M-d'T'H:m:s"),
    ("date_hour_minute_second_fraction", "yyyy-MM-dd'T'HH:mm:ss@", "y-M-d'T'H:m:s@"),
    ("date_hour_minute_second_millis", "yyyy-MM-dd'T'HH:mm:ss@", "y-M-d'T'H:m:s@"),
    ("date_time", "yyyy-MM-dd'T'HH:mm:ss@[XXX][X]", "y-M-d'T'H:m:s@[XXX][X]"),
    ("date_time_no_millis", "yyyy-MM-dd'T'HH:mm:ss[XXX][X]", "y-M-d'T'H:m:s[XXX][X]"),
    ("hour", "HH", "H"),
    ("hour_minute", "HH:mm", "H:m"),
    ("hour_minute_second", "HH:mm:ss", "H:m:s"),
    ("hour_minute_second_fraction", "HH:mm:ss@", "H:m:s@"),
    ("hour_minute_second_millis", "HH:mm:ss@", "H:m:s@"),
    ("ordinal_date", "yyyy-DDD", "y-D"),
    ("ordinal_date_time", "yyyy-DDD'T'HH:mm:ss@[XXX][X]", "y-D'T'H:m:s@[XXX][X]"),
    ("ordinal_date_time_no_millis", "yyyy-DDD'T'HH:mm:ss[XXX][X]", "y-D'T'H:m:s[XXX][X]"),
    ("time", "HH:mm:ss@[XXX][X]", "H:m:s@[XXX][X]"),
    ("time_no_millis", "HH:mm:ss[XXX][X]", "H:m:s[XXX][X]"),
    ("t_time", "'T'HH:mm:ss@[XXX][X]", "'T'H:m:s@[XXX][X]"),
    ("t_time_no_millis", "'T'HH:mm:ss[XXX][X]", "'T'H:m:s[XXX][X]"),
    ("week_date", "YYYY-'W'ww-e", "Y-'W'w-e"),
    ("week_date_time", "YYYY-'W'ww-e'T'HH:mm:ss@[XXX][X]", "Y-'W'w-e'T'H:m:s@[XXX][X]"),
    ("week_date_time_no_millis", "YYYY-'W'ww-e'T'HH:mm:ss[XXX][X]", "Y-'W'w-e'T'H:m:s[XXX][X]"),
    ("weekyear", "YYYY", "Y"),
    ("weekyear_week", "YYYY-'W'ww", "Y-'W'w"),
    ("weekyear_week_day", "YYYY-'W'ww-e", "Y-'W'w-e"),
    ("year", "yyyy", "y"),
    ("year_month", "yyyy-MM", "y-M"),
    ("year_month_day", "yyyy-MM-dd", "y-M-d"),
];

pub(super) fn find(name: &str) -> Option<Pattern> {
    let (wanted, strict) = match name.strip_prefix("strict_") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let (name, strict_pattern, lenient) = NAMES.iter().find(|(known, ..)| *known == wanted)?;
    let pattern = if strict || lenient.is_empty() { strict_pattern } else { lenient };
    // Milliseconds are three digits where the format says so, otherwise one to nine.
    let (min, max) = match () {
        () if name.ends_with("_millis") && strict => (3, 3),
        () if name.starts_with("basic") || name.ends_with("_millis") => (1, 9),
        () => (1, 9),
    };
    Some(with_fraction(pattern, min, max))
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = String> {
    NAMES.iter().flat_map(|(name, _, lenient)| {
        let strict = (!lenient.is_empty()).then(|| format!("strict_{name}"));
        std::iter::once((*name).to_owned()).chain(strict)
    })
}

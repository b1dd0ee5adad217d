//! How long a copy that failed waits. Nothing waits for ever, and nothing fails in a tight loop.

use crate::cluster::routing::UnassignedInfo;

const FIRST_MS: i64 = 10_000;
const MOST_MS: i64 = 600_000;

/// When a copy may be allocated again (milliseconds since 1970); none if at once. The first `most` attempts of a missing copy follow
/// each other at once, then, and for a move from its first failure on, the pauses double from ten seconds to ten minutes.
pub(super) fn retry_at_ms(info: &UnassignedInfo, most: u32, is_move: bool) -> Option<i64> {
    let free = if is_move { 1 } else { most.max(1) };
    let beyond = info.failed_allocations.checked_sub(free)?;
    let pause = FIRST_MS.checked_shl(beyond.min(16)).unwrap_or(MOST_MS).min(MOST_MS);
    Some(info.at_ms.saturating_add(pause))
}

/// `unassigned_info[[reason=...], at[...], ...]`
pub(super) fn show_info(info: &UnassignedInfo) -> String {
    let mut out = format!("unassigned_info[[reason={}], at[{}]", info.reason.name(), iso(info.at_ms));
    if info.failed_allocations > 0 {
        out.push_str(&format!(", failed_attempts[{}]", info.failed_allocations));
    }
    out.push_str(&format!(", delayed={}", info.delayed_until_ms.is_some()));
    if let Some(details) = &info.details {
        out.push_str(&format!(", details[{details}]"));
    }
    out.push_str(&format!(", allocation_status[{}]]", info.last_status.name()));
    out
}

/// `2020-01-31T12:30:00.000Z`
fn iso(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, in eras of 400 years.
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::routing::UnassignedReason;

    #[test]
    fn pauses_grow_and_end() {
        let mut info = UnassignedInfo::new(UnassignedReason::AllocationFailed, 1_000);
        let mut check = |failures, is_move, expected: Option<i64>| {
            info.failed_allocations = failures;
            assert_eq!(retry_at_ms(&info, 5, is_move), expected, "{failures} {is_move}");
        };
        check(0, false, None);
        check(4, false, None);
        check(5, false, Some(11_000));
        check(6, false, Some(21_000));
        check(u32::MAX, false, Some(601_000));
        check(0, true, None);
        check(1, true, Some(11_000));
    }

    #[test]
    fn a_time_is_shown_as_a_date() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999Z");
    }
}

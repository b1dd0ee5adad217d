//! A rate that all cores of a node keep together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Says how long to pause so that a rate is kept: what was taken before is paid for before more is taken. No pause is saved up.
#[derive(Debug, Default)]
pub struct Pace {
    /// When all that was taken is paid for, in monotonic nanoseconds.
    paid: AtomicU64,
}

impl Pace {
    /// Takes `bytes` at `now` (monotonic nanoseconds); nanoseconds to pause before more is taken. Without a rate nothing is paid.
    pub fn take(&self, bytes: u64, rate: Option<u64>, now: u64) -> u64 {
        let Some(rate) = rate else { return 0 };
        let cost = (u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))).min(u128::from(u64::MAX / 4)) as u64;
        let next = |paid: u64| paid.max(now).saturating_add(cost);
        let before = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(next(paid)));
        next(before.unwrap_or_else(|paid| paid)) - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_is_kept_by_all_who_pause(
            rate in 1_000u64..1 << 30,
            takes in proptest::collection::vec((0usize..4, 1u64..1 << 20), 1..200),
        ) {
            let pace = Pace::default();
            // When each of four may take again.
            let mut free = [0u64; 4];
            let mut total = 0;
            for (who, bytes) in takes {
                let now = free[who];
                free[who] = now + pace.take(bytes, Some(rate), now);
                total += bytes;
                let end = *free.iter().max().unwrap();
                prop_assert!(u128::from(end) * u128::from(rate) / 1_000_000_000 + 400 >= u128::from(total));
            }
        }
    }

    #[test]
    fn without_a_rate_there_is_no_pause_and_an_idle_time_is_not_saved_up() {
        let pace = Pace::default();
        assert_eq!(pace.take(1 << 30, None, 0), 0);
        assert_eq!(pace.take(100, Some(1000), 0), 100_000_000);
        assert_eq!(pace.take(100, Some(1000), 5_000_000_000), 100_000_000);
        assert_eq!(pace.take(100, Some(1000), 5_000_000_000), 200_000_000);
        assert_eq!(pace.take(100, Some(100_000), 5_000_000_000), 201_000_000);
    }
}

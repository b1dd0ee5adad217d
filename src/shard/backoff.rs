//! When work that failed for want of space is tried again, and how often that is told.
//!
//! ```text
//! calm ──failed──> trouble: wait 100 ms, 200 ms, ... max ──succeeded──> calm
//!                  pressed (a client waits): at most 500 ms after the last attempt
//! told:            the first failure, then at most once a minute with a count
//! ```
//!
//! No clock here: `now_ns` comes in. Signals of any number change nothing but through [`Backoff::press`].

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between attempts while somebody waits for the outcome.
const PRESSED: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Backoff {
    max: Duration,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    failures: u64,
    untold: u64,
    wait: Duration,
    tried_ns: u64,
    told_ns: u64,
    pressed: bool,
}

impl Backoff {
    /// Calm; in trouble it never waits longer than `max`.
    #[must_use]
    pub fn new(max: Duration) -> Backoff {
        Backoff { max, trouble: None }
    }

    /// How long the next attempt is to be put off; zero = it is due.
    #[must_use]
    pub fn rest(&self, now_ns: u64) -> Duration {
        let Some(trouble) = &self.trouble else { return Duration::ZERO };
        let wait = if trouble.pressed { trouble.wait.min(PRESSED) } else { trouble.wait };
        wait.saturating_sub(Duration::from_nanos(now_ns.saturating_sub(trouble.tried_ns)))
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Somebody waits: the next attempt comes soon. One attempt only; press again.
    pub fn press(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.pressed = true;
        }
    }

    /// An attempt that ended now has failed. How many failures are to be told of, this one included; none: be quiet.
    pub fn failed(&mut self, now_ns: u64) -> Option<u64> {
        let Some(trouble) = &mut self.trouble else {
            let wait = FIRST.min(self.max);
            self.trouble =
                Some(Trouble { failures: 1, untold: 0, wait, tried_ns: now_ns, told_ns: now_ns, pressed: false });
            return Some(1);
        };
        trouble.failures += 1;
        trouble.untold += 1;
        trouble.wait = (trouble.wait * 2).min(self.max);
        trouble.tried_ns = now_ns;
        trouble.pressed = false;
        if now_ns.saturating_sub(trouble.told_ns) < TELL_EVERY.as_nanos() as u64 {
            return None;
        }
        trouble.told_ns = now_ns;
        Some(std::mem::take(&mut trouble.untold))
    }

    /// An attempt has succeeded: calm. How many had failed before, if any.
    pub fn succeeded(&mut self) -> Option<u64> {
        self.trouble.take().map(|trouble| trouble.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(MAX);
        let mut now = 7 * MS;
        for _ in 0..2 {
            assert_eq!(backoff.rest(now), Duration::ZERO, "calm");
            for wait_ms in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
                backoff.failed(now);
                assert_eq!(backoff.rest(now), Duration::from_millis(wait_ms));
                assert_eq!(backoff.rest(now + MS), Duration::from_millis(wait_ms - 1));
                now += wait_ms * MS;
                assert_eq!(backoff.rest(now), Duration::ZERO, "due");
            }
            assert_eq!(backoff.succeeded(), Some(9));
        }
        assert_eq!(backoff.succeeded(), None);
    }

    #[test]
    fn a_press_shortens_one_wait_and_never_lengthens_one() {
        let mut backoff = Backoff::new(MAX);
        backoff.press();
        assert_eq!(backoff.rest(0), Duration::ZERO);
        backoff.failed(0);
        backoff.press();
        assert_eq!(backoff.rest(0), Duration::from_millis(100));
        for _ in 0..8 {
            backoff.failed(0);
        }
        assert_eq!(backoff.rest(0), MAX);
        backoff.press();
        assert_eq!(backoff.rest(0), PRESSED);
        assert_eq!(backoff.rest(400 * MS), Duration::from_millis(100));
        backoff.failed(500 * MS);
        assert_eq!(backoff.rest(500 * MS), MAX, "pressed no more");
    }

    #[test]
    fn the_first_failure_is_told_and_then_one_a_minute_with_the_count() {
        let mut backoff = Backoff::new(MAX);
        assert_eq!(backoff.failed(0), Some(1));
        for second in 1..60 {
            assert_eq!(backoff.failed(second * 1000 * MS), None);
        }
        assert_eq!(backoff.failed(60_000 * MS), Some(60));
        assert_eq!(backoff.failed(61_000 * MS), None);
        assert_eq!(backoff.failed(120_000 * MS), Some(2));
        assert_eq!(backoff.succeeded(), Some(63));
        assert_eq!(backoff.failed(121_000 * MS), Some(1), "trouble anew is news");
    }

    proptest! {
        /// Whoever asks and presses how often he likes: attempts made only when due are no closer than the first wait, no
        /// further apart than the limit, and at most two a second once the waits have grown.
        #[test]
        fn no_signals_defeat_it(events in proptest::collection::vec((1u64..50, any::<bool>()), 1..2000)) {
            let mut backoff = Backoff::new(MAX);
            let (mut now, mut attempts) = (0, Vec::new());
            for (pause_ms, press) in events {
                now += pause_ms * MS;
                if press {
                    backoff.press();
                }
                if backoff.rest(now).is_zero() {
                    backoff.failed(now);
                    attempts.push(now);
                }
                prop_assert!(backoff.rest(now) <= MAX);
            }
            for (n, pair) in attempts.windows(2).enumerate() {
                let apart = pair[1] - pair[0];
                prop_assert!(apart >= if n < 3 { 100 << n } else { 500 } * MS, "{n}: {apart}");
                prop_assert!(apart < (10_000 + 50) * MS);
            }
        }
    }
}

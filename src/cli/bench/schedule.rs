//! When requests of an open loop are due. Arrival times are fixed before the first request is sent: nothing a server does
//! moves them, so waiting for a slow answer cannot hide that later requests were kept waiting too.

use serde::{Deserialize, Serialize};

use super::random::Random;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrivals {
    /// As clients that know nothing of each other: exponential gaps.
    #[default]
    Poisson,
    /// Every gap alike.
    Constant,
}

/// Request numbers and the nanoseconds after the start at which they are due, ascending and without end.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    stream: [u64; 2],
    next: u64,
    at_s: f64,
}

/// Keeps the gaps' randomness apart from the requests'.
const GAPS: u64 = 0x6761_7073;

impl Schedule {
    /// `rate` a second, above 0. The same seed and run give the same times.
    pub(super) fn new(arrivals: Arrivals, rate: f64, seed: u64, run: u64) -> Schedule {
        assert!(rate > 0.0);
        Schedule { arrivals, rate, stream: [seed ^ GAPS, run], next: 0, at_s: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let k = self.next;
        self.next += 1;
        let at_s = match self.arrivals {
            // From the number, not from the one before: no error adds up.
            Arrivals::Constant => k as f64 / self.rate,
            Arrivals::Poisson => {
                self.at_s += Random::of(&[self.stream[0], self.stream[1], k]).exponential() / self.rate;
                self.at_s
            }
        };
        Some((k, (at_s * 1e9) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_even_and_do_not_drift() {
        let times: Vec<_> = Schedule::new(Arrivals::Constant, 3.0, 1, 0).take(4).collect();
        assert_eq!(times, [(0, 0), (1, 333_333_333), (2, 666_666_666), (3, 1_000_000_000)]);
        let (k, at) = Schedule::new(Arrivals::Constant, 20_000.0, 1, 0).nth(20_000 * 3600).unwrap();
        assert_eq!((k, at), (72_000_000, 3_600_000_000_000));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_exponential_gaps() {
        let n = 200_000;
        let times: Vec<u64> = Schedule::new(Arrivals::Poisson, 1000.0, 9, 0).take(n).map(|(_, at)| at).collect();
        assert!(times.is_sorted());
        let seconds = times[n - 1] as f64 / 1e9;
        assert!((n as f64 / seconds - 1000.0).abs() < 10.0, "{seconds}");
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e6).collect();
        // Of exponential gaps with mean 1 ms, a share of e^-x is longer than x ms.
        for x in [0.1, 1.0, 3.0] {
            let share = gaps.iter().filter(|gap| **gap > x).count() as f64 / gaps.len() as f64;
            assert!((share - (-x).exp()).abs() < 0.006, "{x}: {share}");
        }
    }

    #[test]
    fn a_seed_and_a_run_say_it_all() {
        let times = |seed, run| Schedule::new(Arrivals::Poisson, 10.0, seed, run).take(50).collect::<Vec<_>>();
        assert_eq!(times(1, 1), times(1, 1));
        assert_ne!(times(1, 1), times(2, 1));
        assert_ne!(times(1, 1), times(1, 2));
    }
}

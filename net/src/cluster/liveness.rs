//! Whether the others are there: a leader checks its followers, each follower its leader.
//!
//! A check is sent every interval. One that is not answered in time, or answered with a refusal, counts as a failure;
//! `retries` failures in a row are one too many. A connection that breaks needs no check: it counts at once.
//! A follower that accepts states and does not apply them is removed after the lag timeout.

use std::collections::BTreeMap;

use super::ids::NodeId;
use super::messages::Progress;
use super::value::Position;

/// `cluster.fault_detection.{leader,follower}_check.*`
#[derive(Clone, Copy, Debug)]
pub struct CheckConfig {
    /// From an answer to the next check.
    pub interval_ms: u64,
    /// How long an answer may take.
    pub timeout_ms: u64,
    /// Failures in a row that are one too many.
    pub retries: u32,
}

impl Default for CheckConfig {
    fn default() -> CheckConfig {
        CheckConfig { interval_ms: 1_000, timeout_ms: 10_000, retries: 3 }
    }
}

/// What is to be done about a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send the check of this number.
    Check(u64),
    /// It is not there.
    Failed,
}

/// The checks of one peer.
#[derive(Clone, Debug)]
pub struct Checks {
    number: u64,
    sent_at: Option<u64>,
    next_at: u64,
    failures: u32,
}

impl Checks {
    /// Checks whose first is due at `first_at`.
    pub fn new(first_at: u64) -> Checks {
        Checks { number: 0, sent_at: None, next_at: first_at, failures: 0 }
    }

    /// When there is something to do.
    pub fn deadline(&self, config: &CheckConfig) -> u64 {
        self.sent_at.map_or(self.next_at, |sent| sent.saturating_add(config.timeout_ms))
    }

    /// What is to be done at `now`; a check that is to be sent counts as sent.
    pub fn due(&mut self, now: u64, config: &CheckConfig) -> Due {
        if now < self.deadline(config) {
            return Due::Nothing;
        }
        if self.sent_at.is_some() {
            return if self.fail(now, config) { Due::Failed } else { Due::Nothing };
        }
        self.number += 1;
        self.sent_at = Some(now);
        Due::Check(self.number)
    }

    /// The check that was sent came to nothing. Whether that is one too many.
    pub fn fail(&mut self, now: u64, config: &CheckConfig) -> bool {
        self.sent_at = None;
        self.next_at = now.saturating_add(config.interval_ms);
        self.failures += 1;
        self.failures >= config.retries
    }

    /// Whether there were too many failures in a row.
    pub fn have_failed(&self, config: &CheckConfig) -> bool {
        self.failures >= config.retries
    }

    /// The answer to check `number`: whether it is the one waited for.
    pub fn is_awaited(&self, number: u64) -> bool {
        self.sent_at.is_some() && self.number == number
    }

    /// The check that was sent was answered well.
    pub fn succeed(&mut self, now: u64, config: &CheckConfig) {
        self.sent_at = None;
        self.next_at = now.saturating_add(config.interval_ms);
        self.failures = 0;
    }

    /// The peer has shown itself in a way that tells that it follows nobody: the next check is due now, and one that has been on
    /// its way for an interval is lost. Whether that is one failure too many.
    pub fn hurry(&mut self, now: u64, config: &CheckConfig) -> bool {
        let lost = self.sent_at.is_some_and(|sent| now.saturating_sub(sent) >= config.interval_ms);
        let failed = lost && self.fail(now, config);
        self.next_at = self.next_at.min(now);
        failed
    }
}

/// What a leader knows of a follower.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Its checks.
    pub checks: Checks,
    /// How far it is.
    pub progress: Progress,
    /// The state it was sent last over this connection.
    pub sent: Option<Position>,
    /// What `sent` was when the last check left: the answer tells whether it arrived.
    pub sent_before_check: Option<Position>,
    /// The version it has to apply, and until when.
    lag: Option<(u64, u64)>,
}

impl Follower {
    /// A follower that is checked from `first_at` on.
    pub fn new(first_at: u64) -> Follower {
        let progress = Progress::default();
        Follower { checks: Checks::new(first_at), progress, sent: None, sent_before_check: None, lag: None }
    }

    /// It shall apply `version` until `deadline`, if nothing older is awaited of it.
    pub fn expect_applied(&mut self, version: u64, deadline: u64) {
        if self.lag.is_none() && self.progress.applied.version < version {
            self.lag = Some((version, deadline));
        }
    }

    /// It has come this far; `committed` is awaited of it next.
    pub fn applied(&mut self, applied: Position, committed: u64, deadline: u64) {
        self.progress.applied = self.progress.applied.max(applied);
        if self.lag.is_some_and(|(version, _)| self.progress.applied.version >= version) {
            self.lag = None;
            self.expect_applied(committed, deadline);
        }
    }

    /// Whether it has not applied in time what it should have.
    pub fn lags(&self, now: u64) -> bool {
        self.lag.is_some_and(|(_, deadline)| now >= deadline)
    }

    /// When there is something to do.
    pub fn deadline(&self, config: &CheckConfig) -> u64 {
        let checks = self.checks.deadline(config);
        self.lag.map_or(checks, |(_, deadline)| checks.min(deadline))
    }
}

/// All that a leader follows up on.
pub type Followers = BTreeMap<NodeId, Follower>;

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CheckConfig = CheckConfig { interval_ms: 1_000, timeout_ms: 10_000, retries: 3 };

    #[test]
    fn a_peer_that_never_answers_fails_after_three_timeouts() {
        let mut checks = Checks::new(1_000);
        let mut seen = Vec::new();
        for now in 0..60_000 {
            match checks.due(now, &CONFIG) {
                Due::Nothing => {}
                Due::Check(number) => seen.push((now, number)),
                Due::Failed => {
                    assert_eq!(seen, [(1_000, 1), (12_000, 2), (23_000, 3)]);
                    assert_eq!(now, 33_000);
                    return;
                }
            }
        }
        panic!("it was never noticed");
    }

    #[test]
    fn an_answer_makes_up_for_failures() {
        let mut checks = Checks::new(0);
        for _ in 0..10 {
            for _ in 0..2 {
                let now = checks.deadline(&CONFIG);
                assert!(matches!(checks.due(now, &CONFIG), Due::Check(_)));
                assert!(!checks.fail(now, &CONFIG));
            }
            let now = checks.deadline(&CONFIG);
            let Due::Check(number) = checks.due(now, &CONFIG) else { panic!("no check") };
            assert!(!checks.is_awaited(number - 1), "an answer to an earlier check");
            assert!(checks.is_awaited(number));
            checks.succeed(now, &CONFIG);
            assert!(!checks.is_awaited(number), "the same answer again");
        }
    }

    #[test]
    fn a_peer_that_asks_to_follow_is_checked_at_once() {
        let mut checks = Checks::new(1_000);
        assert!(!checks.hurry(500, &CONFIG));
        assert_eq!(checks.due(500, &CONFIG), Due::Check(1));
        assert!(!checks.hurry(600, &CONFIG));
        assert_eq!(checks.due(600, &CONFIG), Due::Nothing, "the one on its way may arrive");
        assert!(!checks.hurry(1_500, &CONFIG));
        assert_eq!(checks.due(1_500, &CONFIG), Due::Check(2));
        assert!(!checks.hurry(2_500, &CONFIG));
        assert_eq!(checks.due(2_500, &CONFIG), Due::Check(3));
        assert!(checks.hurry(3_500, &CONFIG), "it asks and asks, and nothing reaches it");
    }

    #[test]
    fn a_follower_lags_only_by_what_it_was_given_time_for() {
        let at = |version| Position { term: 1, version };
        let mut follower = Follower::new(0);
        follower.expect_applied(3, 90);
        follower.expect_applied(4, 100);
        assert!(!follower.lags(89) && follower.lags(90));
        follower.applied(at(2), 4, 150);
        assert!(follower.lags(90));
        follower.applied(at(3), 4, 150);
        assert!(!follower.lags(100) && follower.lags(150), "it has new time for what came meanwhile");
        follower.applied(at(4), 4, 200);
        assert!(!follower.lags(u64::MAX));
    }
}

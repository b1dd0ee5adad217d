//! When a node stands for election: random delays that grow, and a question before each attempt.
//!
//! A node stands when the peers it is connected to could elect it. Its first attempt comes after a random time below
//! `initial_timeout_ms`; each further one `duration_ms` after the last and a random time later whose bound grows by
//! `back_off_time_ms` up to `max_timeout_ms`. An attempt begins with a pre-vote, which nobody grants who follows a leader: a
//! node that merely cannot hear the leader disturbs nobody.

use std::collections::BTreeSet;

use super::ids::NodeId;

/// `cluster.election.*`
#[derive(Clone, Copy, Debug)]
pub struct ElectionConfig {
    /// Bound of the first random delay.
    pub initial_timeout_ms: u64,
    /// What each attempt adds to the bound.
    pub back_off_time_ms: u64,
    /// The bound of the bound.
    pub max_timeout_ms: u64,
    /// How long an attempt is given.
    pub duration_ms: u64,
}

impl Default for ElectionConfig {
    fn default() -> ElectionConfig {
        ElectionConfig { initial_timeout_ms: 100, back_off_time_ms: 100, max_timeout_ms: 10_000, duration_ms: 500 }
    }
}

/// Random numbers that a seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0. The bias is that of a modulus of 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }
}

/// The attempts of one candidacy.
#[derive(Clone, Debug, Default)]
pub struct Election {
    attempts: u64,
    at: Option<u64>,
    granted: Option<BTreeSet<NodeId>>,
}

impl Election {
    /// When the next attempt is made.
    pub fn deadline(&self) -> Option<u64> {
        self.at
    }

    /// Whether attempts are being made.
    pub fn is_scheduled(&self) -> bool {
        self.at.is_some()
    }

    /// The next attempt; `at_once` when nobody else can stand and there is nothing to wait for.
    pub fn schedule(&mut self, now: u64, config: &ElectionConfig, at_once: bool, random: &mut Random) {
        let grown = config.initial_timeout_ms.saturating_add(config.back_off_time_ms.saturating_mul(self.attempts));
        let bound = grown.min(config.max_timeout_ms);
        let grace = if self.attempts == 0 { 0 } else { config.duration_ms };
        let delay = if at_once && self.attempts == 0 { 0 } else { 1 + random.below(bound) + grace };
        self.attempts += 1;
        self.at = Some(now.saturating_add(delay));
    }

    /// No further attempts; the next candidacy begins with short delays again.
    pub fn stop(&mut self) {
        *self = Election::default();
    }

    /// Asks for pre-votes, having given one's own.
    pub fn begin_round(&mut self, me: NodeId) -> &BTreeSet<NodeId> {
        self.granted.insert(BTreeSet::from([me]))
    }

    /// Notes a pre-vote; all there are, if they are still asked for.
    pub fn grant(&mut self, from: NodeId) -> Option<&BTreeSet<NodeId>> {
        let granted = self.granted.as_mut()?;
        granted.insert(from);
        Some(granted)
    }

    /// Stops asking: what was granted served.
    pub fn end_round(&mut self) {
        self.granted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_random_and_grow_up_to_a_bound() {
        let (config, mut random) = (ElectionConfig::default(), Random::new(1));
        let mut first = BTreeSet::new();
        for _ in 0..1000 {
            let mut election = Election::default();
            election.schedule(0, &config, false, &mut random);
            first.insert(election.deadline().unwrap());
        }
        assert!(first.len() > 50 && *first.first().unwrap() >= 1 && *first.last().unwrap() <= 100, "{first:?}");
        let mut election = Election::default();
        for attempt in 0..1000 {
            election.schedule(0, &config, false, &mut random);
            let bound = (100 + 100 * attempt).min(10_000) + if attempt == 0 { 0 } else { 500 };
            assert!(election.deadline().unwrap() <= bound, "attempt {attempt}");
            assert!(attempt == 0 || election.deadline().unwrap() > 500);
        }
        election.stop();
        election.schedule(7, &config, true, &mut random);
        assert_eq!(election.deadline(), Some(7), "who is alone does not wait");
    }

    #[test]
    fn grants_count_only_while_a_round_lasts() {
        let mut election = Election::default();
        assert_eq!(election.grant(NodeId(2)), None);
        assert_eq!(election.begin_round(NodeId(1)).len(), 1);
        assert_eq!(election.grant(NodeId(2)).unwrap().len(), 2);
        assert_eq!(election.grant(NodeId(2)).unwrap().len(), 2, "a node has one voice");
        election.end_round();
        assert_eq!(election.grant(NodeId(3)), None);
    }
}

//! Which sequence numbers a copy has: the local checkpoint is the highest below which none is missing.

use std::collections::BTreeSet;

use crate::ids::SeqNo;

/// Hands out sequence numbers and remembers which are complete. Memory: one entry per number above the checkpoint.
///
/// Invariants: `checkpoint <= max`; no number in `above` is `<= checkpoint + 1`.
#[derive(Clone, Debug)]
pub struct LocalCheckpointTracker {
    checkpoint: i64,
    max: i64,
    above: BTreeSet<i64>,
}

impl LocalCheckpointTracker {
    /// Starts with everything up to `checkpoint` complete and nothing above assigned.
    #[must_use]
    pub fn new(checkpoint: SeqNo) -> LocalCheckpointTracker {
        LocalCheckpointTracker { checkpoint: checkpoint.0, max: checkpoint.0, above: BTreeSet::new() }
    }

    /// The next number for a new operation.
    pub fn generate(&mut self) -> SeqNo {
        self.max += 1;
        SeqNo(self.max)
    }

    /// What [`generate`](Self::generate) would give.
    #[must_use]
    pub fn peek(&self) -> SeqNo {
        SeqNo(self.max + 1)
    }

    /// An operation with a number of someone else's (replay, replica).
    pub fn advance_max(&mut self, seq_no: SeqNo) {
        self.max = self.max.max(seq_no.0);
    }

    /// This operation is complete.
    pub fn mark(&mut self, seq_no: SeqNo) {
        self.advance_max(seq_no);
        if seq_no.0 <= self.checkpoint {
            return;
        }
        if seq_no.0 > self.checkpoint + 1 {
            self.above.insert(seq_no.0);
            return;
        }
        self.checkpoint += 1;
        while self.above.first() == Some(&(self.checkpoint + 1)) {
            self.above.pop_first();
            self.checkpoint += 1;
        }
        debug_assert!(self.checkpoint <= self.max);
    }

    /// Every number up to here is complete, wherever they came from.
    pub fn mark_up_to(&mut self, seq_no: SeqNo) {
        self.advance_max(seq_no);
        if seq_no.0 > self.checkpoint {
            self.above = self.above.split_off(&(seq_no.0 + 1));
            self.checkpoint = seq_no.0;
            while self.above.first() == Some(&(self.checkpoint + 1)) {
                self.above.pop_first();
                self.checkpoint += 1;
            }
        }
    }

    /// The first `count` numbers below the highest that are missing.
    #[must_use]
    pub fn missing(&self, count: usize) -> Vec<SeqNo> {
        let numbers = self.checkpoint + 1..=self.max;
        numbers.filter(|n| !self.above.contains(n)).take(count).map(SeqNo).collect()
    }

    /// Every number up to here is complete.
    #[must_use]
    pub fn checkpoint(&self) -> SeqNo {
        SeqNo(self.checkpoint)
    }

    /// The highest number seen.
    #[must_use]
    pub fn max_seq_no(&self) -> SeqNo {
        SeqNo(self.max)
    }

    /// Whether this operation is complete.
    #[must_use]
    pub fn contains(&self, seq_no: SeqNo) -> bool {
        seq_no.0 <= self.checkpoint || self.above.contains(&seq_no.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn checkpoint_is_the_end_of_the_dense_prefix(order in Just((0i64..60).collect::<Vec<_>>()).prop_shuffle(), n in 0usize..60) {
            let mut tracker = LocalCheckpointTracker::new(SeqNo::NONE);
            let mut seen = BTreeSet::new();
            for s in &order[..n] {
                tracker.mark(SeqNo(*s));
                seen.insert(*s);
                let dense = (0..).take_while(|i| seen.contains(i)).count() as i64 - 1;
                prop_assert_eq!(tracker.checkpoint(), SeqNo(dense));
                prop_assert!((0..60).all(|i| tracker.contains(SeqNo(i)) == seen.contains(&i)));
                let missing: Vec<SeqNo> = (0..*seen.last().unwrap()).filter(|i| !seen.contains(i)).map(SeqNo).collect();
                prop_assert_eq!(tracker.missing(usize::MAX), missing);
            }
        }

        #[test]
        fn marking_up_to_is_marking_each(some in proptest::collection::vec(0i64..40, 0..30), to in -1i64..40) {
            let (mut one, mut each) = (LocalCheckpointTracker::new(SeqNo::NONE), LocalCheckpointTracker::new(SeqNo::NONE));
            for s in some {
                one.mark(SeqNo(s));
                each.mark(SeqNo(s));
            }
            one.mark_up_to(SeqNo(to));
            (0..=to).for_each(|s| each.mark(SeqNo(s)));
            prop_assert_eq!((one.checkpoint, one.max, one.above), (each.checkpoint, each.max, each.above));
        }
    }
}

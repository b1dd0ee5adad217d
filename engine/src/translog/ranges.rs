//! A set of sequence numbers that mostly follow each other.

use crate::ids::SeqNo;

/// Ranges, ascending and apart. Memory: one pair per gap; operations that come nearly in order leave one in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeqNoRanges(Vec<(i64, i64)>);

impl SeqNoRanges {
    /// Cheap when `seq_no` is near the end.
    pub(super) fn insert(&mut self, seq_no: SeqNo) {
        let n = seq_no.0;
        // The first range that ends at n - 1 or later.
        let at = match self.0.last() {
            Some(&(first, last)) if first <= n && last >= n - 1 => self.0.len() - 1,
            Some(&(_, last)) if last < n - 1 => self.0.len(),
            _ => self.0.partition_point(|&(_, last)| last < n - 1),
        };
        let Some(range) = self.0.get_mut(at).filter(|range| range.0 <= n + 1) else {
            self.0.insert(at, (n, n));
            return;
        };
        *range = (range.0.min(n), range.1.max(n));
        let end = range.1;
        if let Some(&(first, last)) = self.0.get(at + 1)
            && first <= end + 1
        {
            self.0[at].1 = last;
            self.0.remove(at + 1);
        }
    }

    /// Takes out everything above `seq_no`.
    pub(super) fn cut_above(&mut self, seq_no: SeqNo) {
        self.0.retain_mut(|range| {
            range.1 = range.1.min(seq_no.0);
            range.0 <= range.1
        });
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (SeqNo, SeqNo)> + '_ {
        self.0.iter().map(|&(first, last)| (SeqNo(first), SeqNo(last)))
    }

    pub(super) fn max(&self) -> Option<SeqNo> {
        self.0.last().map(|range| SeqNo(range.1))
    }
}

/// The lowest number from which on all numbers up to `end` are in one of `sets`; `end + 1` if `end` is in none.
pub(super) fn complete_from<'a>(sets: impl Iterator<Item = &'a SeqNoRanges>, end: SeqNo) -> SeqNo {
    let mut ranges: Vec<(SeqNo, SeqNo)> = sets.flat_map(SeqNoRanges::iter).collect();
    ranges.sort_unstable_by_key(|&(_, last)| std::cmp::Reverse(last));
    let mut from = end.next();
    // By descending ends: one that ends too early to join ends the search, for all after it do, too.
    for (first, last) in ranges {
        if last.next() < from {
            break;
        }
        from = from.min(first);
    }
    from
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set(numbers in proptest::collection::vec(0i64..60, 0..80), cut in -1i64..70) {
            let (mut ranges, mut model) = (SeqNoRanges::default(), BTreeSet::new());
            for n in numbers {
                ranges.insert(SeqNo(n));
                model.insert(n);
                let all: Vec<i64> = ranges.iter().flat_map(|(a, b)| a.0..=b.0).collect();
                prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "apart: {:?}", ranges);
            }
            ranges.cut_above(SeqNo(cut));
            model.retain(|n| *n <= cut);
            prop_assert_eq!(ranges.max().map(|s| s.0), model.last().copied());
        }

        #[test]
        fn history_is_complete_down_to_the_first_gap(
            sets in proptest::collection::vec(proptest::collection::vec(0i64..40, 0..40), 0..4), end in -1i64..45,
        ) {
            let mut model = BTreeSet::new();
            let mut ranges = vec![SeqNoRanges::default(); sets.len()];
            for (i, set) in sets.iter().enumerate() {
                for n in set {
                    ranges[i].insert(SeqNo(*n));
                    model.insert(*n);
                }
            }
            let mut want = end + 1;
            while model.contains(&(want - 1)) {
                want -= 1;
            }
            prop_assert_eq!(complete_from(ranges.iter(), SeqNo(end)), SeqNo(want));
        }
    }
}

//! Where matches go: counted, or ranked by score. (`collect.rs` has the sink for everything else.)

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::ids::DocId;
use crate::search::TrackTotalHits;

/// Takes a segment's matches in document order.
pub(crate) trait Sink {
    /// Only matches that score more are wanted; below 0 = all are.
    fn floor(&self) -> f32;
    /// One match.
    fn hit(&mut self, doc: DocId, score: f32);
    /// Whether no more matches are wanted.
    fn full(&self) -> bool;
    /// The first document from `doc` on that may be wanted.
    #[inline]
    fn skip(&mut self, doc: DocId) -> DocId {
        doc
    }
    /// Consecutive matches, all with one score.
    #[inline]
    fn range(&mut self, docs: Range<DocId>, score: f32) {
        docs.for_each(|doc| self.hit(doc, score));
    }
    /// Matches without scores, ascending.
    #[inline]
    fn hits(&mut self, docs: &[DocId]) {
        docs.iter().for_each(|&doc| self.hit(doc, 0.0));
    }
    /// Matches without scores, 64 documents a word from `base` (a multiple of 64) on.
    #[inline]
    fn set(&mut self, base: DocId, words: &[u64]) {
        for (i, &word) in words.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                self.hit(base + i as u32 * 64 + word.trailing_zeros(), 0.0);
                word &= word - 1;
            }
        }
    }
}

/// Counts matches up to a limit.
#[derive(Debug)]
pub(crate) struct Count {
    /// Matches so far, or the exact number if `exact_already`.
    pub total: u64,
    /// Count no further than one above.
    limit: u64,
    /// The total was known beforehand.
    known: bool,
}

impl Count {
    /// `known` is the exact total where it needs no counting.
    pub(crate) fn new(track: TrackTotalHits, known: Option<u64>) -> Count {
        let limit = match track {
            TrackTotalHits::All => u64::MAX,
            TrackTotalHits::Limit(n) => n,
            TrackTotalHits::None => 0,
        };
        match (track, known) {
            (TrackTotalHits::None, _) => Count { total: 0, limit: 0, known: true },
            (_, Some(total)) => Count { total, limit, known: true },
            (_, None) => Count { total: 0, limit, known: false },
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, matches: u64) {
        if !self.known {
            self.total += matches;
        }
    }

    /// Whether matches need no longer be counted.
    #[inline]
    pub(crate) fn done(&self) -> bool {
        self.known || self.total > self.limit
    }

    /// The total to report, and whether it is exact.
    pub(crate) fn result(&self) -> (u64, bool) {
        if self.total > self.limit { (self.limit, false) } else { (self.total, true) }
    }
}

#[inline]
fn is_live(live: Option<&[u64]>, doc: DocId) -> bool {
    live.is_none_or(|words| words[(doc / 64) as usize] >> (doc % 64) & 1 == 1)
}

/// Counts, nothing else.
pub(crate) struct CountSink<'a> {
    pub count: &'a mut Count,
    pub live: Option<&'a [u64]>,
}

impl Sink for CountSink<'_> {
    #[inline]
    fn floor(&self) -> f32 {
        -1.0
    }

    #[inline]
    fn hit(&mut self, doc: DocId, _: f32) {
        self.count.add(u64::from(is_live(self.live, doc)));
    }

    #[inline]
    fn hits(&mut self, docs: &[DocId]) {
        let matches = match self.live {
            None => docs.len() as u64,
            live => docs.iter().map(|&doc| u64::from(is_live(live, doc))).sum(),
        };
        self.count.add(matches);
    }

    #[inline]
    fn full(&self) -> bool {
        self.count.done()
    }

    #[inline]
    fn set(&mut self, base: DocId, words: &[u64]) {
        let ones: u32 = match self.live {
            None => words.iter().map(|w| w.count_ones()).sum(),
            Some(live) => words.iter().zip(&live[(base / 64) as usize..]).map(|(a, b)| (a & b).count_ones()).sum(),
        };
        self.count.add(u64::from(ones));
    }
}

/// A hit by score. Of equal scores the earlier document is better; `Ord` puts the worst hit on top of a heap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub score: f32,
    pub segment: u32,
    pub doc: DocId,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Scored) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then_with(|| (self.segment, self.doc).cmp(&(other.segment, other.doc)))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Scored) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The best hits by score over all segments.
#[derive(Debug)]
pub(crate) struct TopScores {
    heap: BinaryHeap<Scored>,
    top: usize,
    /// Score of the worst of the best, once there are enough.
    worst: f32,
    /// Best score seen.
    pub max: f32,
}

impl TopScores {
    pub(crate) fn new(top: usize) -> TopScores {
        // With no hits wanted nothing can beat the worst.
        let worst = if top == 0 { f32::INFINITY } else { -1.0 };
        TopScores { heap: BinaryHeap::with_capacity(top.min(1 << 16)), top, worst, max: f32::NEG_INFINITY }
    }

    /// Documents come in order, so an equal score does not displace.
    #[inline]
    pub(crate) fn push(&mut self, hit: Scored) {
        self.max = self.max.max(hit.score);
        if hit.score > self.worst {
            self.push_better(hit);
        }
    }

    fn push_better(&mut self, hit: Scored) {
        if self.heap.len() < self.top {
            self.heap.push(hit);
        } else if let Some(mut worst) = self.heap.peek_mut() {
            *worst = hit;
        }
        if self.heap.len() == self.top {
            self.worst = self.heap.peek().map_or(f32::INFINITY, |w| w.score);
        }
    }

    /// Score of the worst hit kept once there are enough; below 0 before.
    #[inline]
    pub(crate) fn worst(&self) -> f32 {
        self.worst
    }

    pub(crate) fn wants_nothing(&self) -> bool {
        self.top == 0
    }

    /// Best first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec()
    }
}

/// Ranks by score and counts.
pub(crate) struct ScoreSink<'a> {
    pub count: &'a mut Count,
    pub top: &'a mut TopScores,
    pub live: Option<&'a [u64]>,
    pub segment: u32,
}

impl Sink for ScoreSink<'_> {
    #[inline]
    fn floor(&self) -> f32 {
        if self.count.done() { self.top.worst } else { -1.0 }
    }

    #[inline]
    fn hit(&mut self, doc: DocId, score: f32) {
        if is_live(self.live, doc) {
            self.count.add(1);
            self.top.push(Scored { score, segment: self.segment, doc });
        }
    }

    #[inline]
    fn full(&self) -> bool {
        self.top.top == 0 && self.count.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_kept_and_ties_go_to_the_earlier(scores in proptest::collection::vec(0u8..6, 0..60), top in 0usize..10) {
            let mut best = TopScores::new(top);
            for (i, &s) in scores.iter().enumerate() {
                best.push(Scored { score: f32::from(s), segment: i as u32 / 20, doc: i as u32 % 20 });
            }
            let mut expected: Vec<(u8, usize)> = scores.iter().copied().zip(0..).collect();
            expected.sort_by_key(|&(s, i)| (std::cmp::Reverse(s), i));
            expected.truncate(top);
            let got: Vec<(u8, usize)> = best.into_sorted().iter().map(|h| (h.score as u8, (h.segment * 20 + h.doc) as usize)).collect();
            prop_assert_eq!(got, expected);
        }
    }
}

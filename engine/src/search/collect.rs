//! The sink for requests that want more than the best scores: sorting by fields, aggregations, `post_filter`,
//! `min_score`, `terminate_after`, `search_after`.

use std::cmp::Ordering;

use crate::error::Error;
use crate::ids::DocId;
use crate::search::aggs::{BATCH, SegmentAggs};
use crate::search::doc_set::DocSet;
use crate::search::sink::{Count, Scored, Sink, TopScores};
use crate::search::sort::{KeyReader, Keys, SortPlan};

/// A hit by sort keys.
#[derive(Clone, Debug)]
pub(crate) struct Sorted {
    pub keys: Keys,
    pub segment: u32,
    pub doc: DocId,
    pub score: f32,
}

/// The best hits by sort keys over all segments: a heap with the worst on top.
#[derive(Debug)]
pub(crate) struct TopSorted<'a> {
    plan: &'a SortPlan,
    heap: Vec<Sorted>,
    top: usize,
    /// Only what comes after these keys.
    after: Option<Keys>,
}

impl<'a> TopSorted<'a> {
    pub(crate) fn new(plan: &'a SortPlan, top: usize, after: Option<Keys>) -> TopSorted<'a> {
        TopSorted { plan, heap: Vec::with_capacity(top.min(1 << 16)), top, after }
    }

    fn compare(&self, a: &Sorted, b: &Sorted) -> Ordering {
        self.plan.compare(&a.keys, &b.keys).then_with(|| (a.segment, a.doc).cmp(&(b.segment, b.doc)))
    }

    fn is_full(&self) -> bool {
        self.heap.len() >= self.top
    }

    /// Takes a hit if it is good enough; whether it was.
    fn push(&mut self, hit: Sorted) -> bool {
        if self.after.as_ref().is_some_and(|after| self.plan.compare(&hit.keys, after) != Ordering::Greater) {
            return false;
        }
        if !self.is_full() {
            self.heap.push(hit);
            let mut at = self.heap.len() - 1;
            while at > 0 {
                let parent = (at - 1) / 2;
                if self.compare(&self.heap[at], &self.heap[parent]) != Ordering::Greater {
                    break;
                }
                self.heap.swap(at, parent);
                at = parent;
            }
            return true;
        }
        if self.heap.is_empty() || self.compare(&hit, &self.heap[0]) != Ordering::Less {
            return false;
        }
        self.heap[0] = hit;
        let mut at = 0;
        loop {
            let mut worst = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.compare(&self.heap[child], &self.heap[worst]) == Ordering::Greater {
                    worst = child;
                }
            }
            if worst == at {
                return true;
            }
            self.heap.swap(at, worst);
            at = worst;
        }
    }

    /// Best first.
    pub(crate) fn into_sorted(mut self) -> Vec<Sorted> {
        let mut heap = std::mem::take(&mut self.heap);
        heap.sort_by(|a, b| self.compare(a, b));
        heap
    }
}

/// How hits are ranked.
pub(crate) enum Ranking<'s, 'a> {
    Scores {
        top: &'s mut TopScores,
        /// Only lower scores.
        below: Option<f32>,
    },
    Keys {
        top: &'s mut TopSorted<'a>,
        readers: Vec<KeyReader<'s>>,
        /// First key's rank of the worst hit kept, in this segment; none while there is room.
        worst: Option<u64>,
        after: Option<u64>,
        /// Documents before need no look at the block bounds again.
        checked: DocId,
        scratch: Vec<u64>,
    },
}

impl<'s, 'a> Ranking<'s, 'a> {
    pub(crate) fn keys(top: &'s mut TopSorted<'a>, readers: Vec<KeyReader<'s>>) -> Ranking<'s, 'a> {
        let mut ranking = Ranking::Keys {
            after: top.after.as_ref().and_then(|a| Some(readers.first()?.rank_of(a.first()?))),
            top,
            readers,
            worst: None,
            checked: 0,
            scratch: Vec::new(),
        };
        ranking.update_worst();
        ranking
    }

    fn update_worst(&mut self) {
        if let Ranking::Keys { top, readers, worst, .. } = self
            && top.is_full()
        {
            *worst = top.heap.first().map(|w| readers[0].rank_of(&w.keys[0]));
        }
    }
}

/// Matching documents on their way to the aggregations.
pub(crate) struct Batch<'s> {
    pub aggs: SegmentAggs<'s>,
    pub docs: Vec<DocId>,
    /// Empty where scores are not wanted.
    pub scores: Option<Vec<f32>>,
}

impl Batch<'_> {
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.docs.is_empty() {
            return Ok(());
        }
        let result = self.aggs.collect(&self.docs, self.scores.as_deref());
        self.docs.clear();
        if let Some(scores) = &mut self.scores {
            scores.clear();
        }
        result
    }
}

/// What the whole request has seen so far.
#[derive(Debug)]
pub(crate) struct Seen {
    pub count: Count,
    pub max_score: f32,
    /// Documents accepted, for `terminate_after`.
    pub accepted: u64,
    pub terminated: bool,
    pub error: Option<Error>,
}

pub(crate) struct FullSink<'s, 'a> {
    pub seen: &'s mut Seen,
    pub ranking: Ranking<'s, 'a>,
    pub live: Option<&'s [u64]>,
    pub segment: u32,
    pub min_score: Option<f32>,
    pub post_filter: Option<DocSet>,
    pub terminate_after: Option<u64>,
    pub batch: Option<Batch<'s>>,
    /// Whether scores are computed and kept.
    pub scores: bool,
}

impl FullSink<'_, '_> {
    /// Whether only the best hits matter from here on.
    #[inline]
    fn prunes(&self) -> bool {
        self.batch.is_none() && self.terminate_after.is_none() && self.seen.count.done()
    }
}

impl Sink for FullSink<'_, '_> {
    #[inline]
    fn floor(&self) -> f32 {
        let least = self.min_score.map_or(-1.0, f32::next_down);
        match &self.ranking {
            Ranking::Scores { top, below: None } if self.prunes() => least.max(top.worst()),
            _ => least,
        }
    }

    fn hit(&mut self, doc: DocId, score: f32) {
        if self.full()
            || self.live.is_some_and(|words| words[(doc / 64) as usize] >> (doc % 64) & 1 == 0)
            || self.min_score.is_some_and(|min| score < min)
        {
            return;
        }
        if let Some(batch) = &mut self.batch {
            batch.docs.push(doc);
            if let Some(scores) = &mut batch.scores {
                scores.push(score);
            }
            if batch.docs.len() >= BATCH
                && let Err(e) = batch.flush()
            {
                self.seen.error = Some(e);
            }
        }
        if self.post_filter.as_ref().is_some_and(|filter| !filter.contains(doc)) {
            return;
        }
        if let Some(limit) = self.terminate_after {
            if self.seen.accepted >= limit {
                self.seen.terminated = true;
                return;
            }
            self.seen.accepted += 1;
        }
        self.seen.count.add(1);
        if self.scores {
            self.seen.max_score = self.seen.max_score.max(score);
        }
        match &mut self.ranking {
            Ranking::Scores { top, below } => {
                if below.is_none_or(|b| score < b) {
                    top.push(Scored { score, segment: self.segment, doc });
                }
            }
            Ranking::Keys { top, readers, worst, after, scratch, .. } => {
                let rank = readers[0].rank(doc, score, scratch);
                // Documents come in order: of equal single keys the one before stays.
                if worst.is_some_and(|w| rank > w || rank == w && readers.len() == 1 && is_number(&readers[0]))
                    || after.is_some_and(|a| rank < a)
                    || top.top == 0
                {
                    return;
                }
                let keys: Keys = readers.iter().map(|r| r.key(doc, score, scratch)).collect();
                let score = if self.scores { score } else { f32::NAN };
                if top.push(Sorted { keys, segment: self.segment, doc, score }) {
                    self.ranking.update_worst();
                }
            }
        }
    }

    #[inline]
    fn full(&self) -> bool {
        if self.seen.terminated || self.seen.error.is_some() {
            return true;
        }
        let nothing_wanted = match &self.ranking {
            Ranking::Scores { top, .. } => top.wants_nothing(),
            Ranking::Keys { top, .. } => top.top == 0,
        };
        nothing_wanted && self.prunes()
    }

    #[inline]
    fn skip(&mut self, doc: DocId) -> DocId {
        if !self.prunes() {
            return doc;
        }
        let Ranking::Keys { readers, worst: Some(worst), checked, .. } = &mut self.ranking else { return doc };
        if doc < *checked {
            return doc;
        }
        let mut doc = doc;
        while let Some((end, best)) = readers[0].best_rank(doc) {
            let hopeless = best > *worst || best == *worst && readers.len() == 1;
            *checked = end;
            if !hopeless || end == crate::ids::NO_MORE_DOCS || end <= doc {
                return if hopeless { end } else { doc };
            }
            doc = end;
            if readers[0].at_end(doc) {
                return crate::ids::NO_MORE_DOCS;
            }
        }
        doc
    }
}

/// Whether equal ranks are equal keys.
fn is_number(reader: &KeyReader<'_>) -> bool {
    !matches!(reader, KeyReader::Bytes { .. } | KeyReader::Id { .. })
}

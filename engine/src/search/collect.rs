//! The sink for requests that want more than the best scores: sorting by fields, aggregations, `post_filter`,
//! `min_score`, `terminate_after`, `search_after`.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::Error;
use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::aggs::{BATCH, SegmentAggs};
use crate::search::doc_set::DocSet;
use crate::search::sink::{Count, Scored, Sink, TopScores};
use crate::search::sort::{Docs, KeyReader, Keys, SortPlan};
use crate::store::bitpack::indices_of_bits;

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

    /// Whether the worst hit kept comes before a document.
    #[inline]
    fn is_before(&self, segment: u32, doc: DocId) -> bool {
        self.heap.first().is_some_and(|w| (w.segment, w.doc) < (segment, doc))
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
    Keys(Box<ByKeys<'s, 'a>>),
}

/// Ranks a segment's hits by sort keys. Where the first key can be read in bulk, hits wait and are ranked from the block
/// of documents with the best bound on: in an index that grows with time, sorted by falling time, only the last block is
/// ever read.
pub(crate) struct ByKeys<'s, 'a> {
    top: &'s mut TopSorted<'a>,
    readers: Vec<KeyReader<'s>>,
    segment: u32,
    /// First key's rank of the worst hit kept, in this segment; none while there is room.
    worst: Option<u64>,
    after: Option<u64>,
    /// Documents before need no look at the block bounds again.
    checked: DocId,
    waiting: Waiting,
    blocks: Vec<BlockOfHits>,
    ranks: Vec<u64>,
    ordinals: Vec<u32>,
    scratch: Vec<u64>,
    scores: bool,
}

/// Hits to be ranked.
#[derive(Default)]
struct Waiting {
    run: Range<DocId>,
    /// Before `run`.
    list: Vec<DocId>,
}

/// Hits in one block of documents: positions in the list, or documents of the run.
struct BlockOfHits {
    best: u64,
    hits: Range<u32>,
}

/// Hits that wait at most: what can be ranked between two yields, should no bound help.
const WAITING_MAX: usize = 1 << 17;

impl<'s, 'a> ByKeys<'s, 'a> {
    fn update_worst(&mut self) {
        if self.top.is_full() {
            self.worst = self.top.heap.first().map(|w| self.readers[0].rank_of(&w.keys[0]));
        }
    }

    /// Whether a rank of a document, or the best of all those from `doc` on, is not good enough.
    #[inline]
    fn is_hopeless(&self, rank: u64, doc: DocId) -> bool {
        match self.worst {
            Some(worst) if rank == worst => {
                // Equal keys: the earlier document is better.
                self.readers.len() == 1 && self.readers[0].decides(rank) && self.top.is_before(self.segment, doc)
            }
            Some(worst) => rank > worst,
            None => false,
        }
    }

    #[inline]
    fn push(&mut self, doc: DocId, score: f32) {
        let rank = self.readers[0].rank(doc, score, &mut self.scratch);
        self.push_ranked(rank, doc, score);
    }

    #[inline]
    fn push_ranked(&mut self, rank: u64, doc: DocId, score: f32) {
        if self.is_hopeless(rank, doc) || self.after.is_some_and(|a| rank < a) || self.top.top == 0 {
            return;
        }
        self.push_candidate(doc, score);
    }

    fn push_candidate(&mut self, doc: DocId, score: f32) {
        let keys: Keys = self.readers.iter().map(|r| r.key(doc, score, &mut self.scratch)).collect();
        let score = if self.scores { score } else { f32::NAN };
        if self.top.push(Sorted { keys, segment: self.segment, doc, score }) {
            self.update_worst();
        }
    }

    fn add_list(&mut self, docs: &[DocId]) {
        if self.top.top == 0 {
            return;
        }
        if !self.readers[0].is_bulk() {
            docs.iter().for_each(|&doc| self.push(doc, 0.0));
            return;
        }
        if !self.waiting.run.is_empty() || self.waiting.list.len() >= WAITING_MAX {
            self.rank_waiting();
        }
        self.waiting.list.extend_from_slice(docs);
    }

    fn add_run(&mut self, docs: Range<DocId>) {
        if self.top.top == 0 {
            return;
        }
        if !self.readers[0].is_bulk() {
            docs.for_each(|doc| self.push(doc, 0.0));
            return;
        }
        let run = &self.waiting.run;
        if !self.waiting.list.is_empty() || run.len() >= WAITING_MAX || run.end != docs.start {
            self.rank_waiting();
        }
        let run = &mut self.waiting.run;
        *run = if run.start < run.end { run.start..docs.end } else { docs };
    }

    /// Ranks what waits.
    pub(crate) fn rank_waiting(&mut self) {
        let Waiting { run, list } = std::mem::take(&mut self.waiting);
        if !list.is_empty() {
            self.split(
                0..list.len() as u32,
                |i| list[i as usize],
                |from, end| from + list[from as usize..].partition_point(|&d| d < end) as u32,
            );
            self.rank_blocks(|hits| Docs::List(&list[hits.start as usize..hits.end as usize]));
        }
        if !run.is_empty() {
            let last = run.end;
            self.split(run, |doc| doc, |_, end| end.min(last));
            self.rank_blocks(Docs::Run);
        }
        self.waiting.list = list;
        self.waiting.list.clear();
    }

    /// The blocks that can compete, best first.
    fn split(&mut self, hits: Range<u32>, doc_at: impl Fn(u32) -> DocId, position: impl Fn(u32, DocId) -> u32) {
        self.blocks.clear();
        let mut from = hits.start;
        while from < hits.end {
            let doc = doc_at(from);
            let (end, best) = self.readers[0].best_rank(doc).expect("read in bulk");
            let to = position(from, end).clamp(from + 1, hits.end);
            if !self.is_hopeless(best, doc) {
                self.blocks.push(BlockOfHits { best, hits: from..to });
            }
            from = to;
        }
        self.blocks.sort_by_key(|b| b.best);
    }

    fn rank_blocks<'d>(&mut self, docs_of: impl Fn(Range<u32>) -> Docs<'d>) {
        let mut ranks = std::mem::take(&mut self.ranks);
        let blocks = std::mem::take(&mut self.blocks);
        for block in &blocks {
            let docs = docs_of(block.hits.clone());
            let first = match &docs {
                Docs::Run(run) => run.start,
                Docs::List(list) => list[0],
            };
            if self.is_hopeless(block.best, first) {
                continue;
            }
            self.readers[0].ranks(docs.clone(), &mut self.ordinals, &mut ranks);
            match docs {
                Docs::Run(run) => run.zip(&ranks).for_each(|(doc, &rank)| self.push_ranked(rank, doc, 0.0)),
                Docs::List(list) => list.iter().zip(&ranks).for_each(|(&doc, &rank)| self.push_ranked(rank, doc, 0.0)),
            }
        }
        self.ranks = ranks;
        self.blocks = blocks;
    }

    fn skip(&mut self, doc: DocId) -> DocId {
        if self.worst.is_none() || doc < self.checked {
            return doc;
        }
        let mut doc = doc;
        while let Some((end, best)) = self.readers[0].best_rank(doc) {
            let hopeless = self.is_hopeless(best, doc);
            self.checked = end;
            if !hopeless || end == NO_MORE_DOCS || end <= doc {
                return if hopeless { end } else { doc };
            }
            doc = end;
            if self.readers[0].at_end(doc) {
                return NO_MORE_DOCS;
            }
        }
        doc
    }
}

impl<'s, 'a> Ranking<'s, 'a> {
    pub(crate) fn keys(
        top: &'s mut TopSorted<'a>,
        readers: Vec<KeyReader<'s>>,
        segment: u32,
        scores: bool,
    ) -> Ranking<'s, 'a> {
        let mut by_keys = ByKeys {
            after: top.after.as_ref().and_then(|a| Some(readers.first()?.rank_of(a.first()?))),
            top,
            readers,
            segment,
            worst: None,
            checked: 0,
            waiting: Waiting::default(),
            blocks: Vec::new(),
            ranks: Vec::new(),
            ordinals: Vec::new(),
            scratch: Vec::new(),
            scores,
        };
        by_keys.update_worst();
        Ranking::Keys(Box::new(by_keys))
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

    /// Adds documents, all with one score.
    fn add(&mut self, mut docs: &[DocId], score: f32) -> Result<(), Error> {
        while !docs.is_empty() {
            let (now, later) = docs.split_at(docs.len().min(BATCH - self.docs.len()));
            self.docs.extend_from_slice(now);
            if let Some(scores) = &mut self.scores {
                scores.resize(self.docs.len(), score);
            }
            if self.docs.len() == BATCH {
                self.flush()?;
            }
            docs = later;
        }
        Ok(())
    }

    /// Adds consecutive documents, all with one score. Batches are as if they had come one by one.
    fn add_run(&mut self, mut docs: Range<DocId>, score: f32) -> Result<(), Error> {
        while docs.len() >= BATCH && self.docs.is_empty() && self.scores.is_none() {
            let end = docs.start + BATCH as u32;
            self.aggs.collect_run(docs.start..end)?;
            docs.start = end;
        }
        while !docs.is_empty() {
            let end = docs.end.min(docs.start + (BATCH - self.docs.len()) as u32);
            self.docs.extend(docs.start..end);
            if let Some(scores) = &mut self.scores {
                scores.resize(self.docs.len(), score);
            }
            if self.docs.len() == BATCH {
                self.flush()?;
            }
            docs.start = end;
        }
        Ok(())
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
    /// Room for documents that are live, and for those that pass the filter; what is in it means nothing.
    pub alive: Vec<DocId>,
    pub kept: Vec<DocId>,
}

impl FullSink<'_, '_> {
    /// Whether only the best hits matter from here on.
    #[inline]
    fn prunes(&self) -> bool {
        self.batch.is_none() && self.terminate_after.is_none() && self.seen.count.done()
    }

    fn is_live(&self, doc: DocId) -> bool {
        self.live.is_none_or(|words| words[(doc / 64) as usize] >> (doc % 64) & 1 == 1)
    }

    /// Whether each match must be looked at by itself.
    fn one_by_one(&self) -> bool {
        self.terminate_after.is_some() || self.min_score.is_some()
    }

    /// Live documents, ascending, without scores.
    fn add_live(&mut self, docs: &[DocId]) {
        if let Some(batch) = &mut self.batch
            && let Err(e) = batch.add(docs, 0.0)
        {
            self.seen.error = Some(e);
        }
        if let Some(filter) = &self.post_filter {
            let mut kept = std::mem::take(&mut self.kept);
            kept.clear();
            kept.extend(docs.iter().copied().filter(|&doc| filter.contains(doc)));
            self.rank(&kept);
            self.kept = kept;
        } else {
            self.rank(docs);
        }
    }

    fn rank(&mut self, docs: &[DocId]) {
        self.seen.count.add(docs.len() as u64);
        if self.scores && !docs.is_empty() {
            self.seen.max_score = self.seen.max_score.max(0.0);
        }
        match &mut self.ranking {
            Ranking::Scores { top, .. } if top.wants_nothing() => {}
            Ranking::Scores { top, below } => {
                if below.is_none_or(|b| 0.0 < b) {
                    docs.iter().for_each(|&doc| top.push(Scored { score: 0.0, segment: self.segment, doc }));
                }
            }
            Ranking::Keys(by_keys) => by_keys.add_list(docs),
        }
    }

    /// What waits is ranked and aggregated: the segment ends.
    pub(crate) fn finish(&mut self) {
        if let Ranking::Keys(by_keys) = &mut self.ranking {
            by_keys.rank_waiting();
        }
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
        if self.full() || !self.is_live(doc) || self.min_score.is_some_and(|min| score < min) {
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
            Ranking::Keys(by_keys) => by_keys.push(doc, score),
        }
    }

    #[inline]
    fn full(&self) -> bool {
        if self.seen.terminated || self.seen.error.is_some() {
            return true;
        }
        let nothing_wanted = match &self.ranking {
            Ranking::Scores { top, .. } => top.wants_nothing(),
            Ranking::Keys(by_keys) => by_keys.top.top == 0,
        };
        nothing_wanted && self.prunes()
    }

    #[inline]
    fn skip(&mut self, doc: DocId) -> DocId {
        if !self.prunes() {
            return doc;
        }
        match &mut self.ranking {
            Ranking::Keys(by_keys) => by_keys.skip(doc),
            Ranking::Scores { .. } => doc,
        }
    }

    fn range(&mut self, docs: Range<DocId>, score: f32) {
        let slow = self.one_by_one() || self.live.is_some() || self.post_filter.is_some();
        if slow && !self.one_by_one() && !self.scores {
            // Deleted documents and the filter are a matter of words.
            let (first, last) = (docs.start / 64, docs.end.div_ceil(64));
            for word in first..last {
                let mut bits = u64::MAX;
                if word == first {
                    bits &= u64::MAX << (docs.start % 64);
                }
                if word + 1 == last && !docs.end.is_multiple_of(64) {
                    bits &= (1 << (docs.end % 64)) - 1;
                }
                self.set(word * 64, &[bits]);
            }
            return;
        }
        if slow {
            docs.for_each(|doc| self.hit(doc, score));
            return;
        }
        if self.full() {
            return;
        }
        if let Some(batch) = &mut self.batch
            && let Err(e) = batch.add_run(docs.clone(), score)
        {
            self.seen.error = Some(e);
        }
        self.seen.count.add(docs.len() as u64);
        if self.scores && !docs.is_empty() {
            self.seen.max_score = self.seen.max_score.max(score);
        }
        match &mut self.ranking {
            Ranking::Scores { top, below } => {
                if below.is_none_or(|b| score < b) {
                    // Once the worst is as good, no later document of this score is better.
                    for doc in docs {
                        if score <= top.worst() {
                            break;
                        }
                        top.push(Scored { score, segment: self.segment, doc });
                    }
                }
            }
            Ranking::Keys(by_keys) if self.scores => docs.for_each(|doc| by_keys.push(doc, score)),
            Ranking::Keys(by_keys) => by_keys.add_run(docs),
        }
    }

    fn hits(&mut self, docs: &[DocId]) {
        if self.one_by_one() || self.scores {
            docs.iter().for_each(|&doc| self.hit(doc, 0.0));
        } else if self.full() || docs.is_empty() {
        } else if let Some(live) = self.live {
            let mut alive = std::mem::take(&mut self.alive);
            alive.clear();
            alive.extend(docs.iter().copied().filter(|&d| live[(d / 64) as usize] >> (d % 64) & 1 == 1));
            self.add_live(&alive);
            self.alive = alive;
        } else {
            self.add_live(docs);
        }
    }

    fn set(&mut self, base: DocId, words: &[u64]) {
        let mut room = std::mem::take(&mut self.alive);
        if room.len() < words.len() * 64 {
            room.resize(words.len() * 64, 0);
        }
        let mut count = 0;
        for (i, &word) in words.iter().enumerate() {
            // The last words of a window can be behind the segment's end.
            let index = base as usize / 64 + i;
            let word = self.live.map_or(word, |live| word & live.get(index).copied().unwrap_or(0));
            if word != 0 {
                let room = room[count..].first_chunk_mut().expect("room for 64 of each word");
                count += indices_of_bits(word, index as u32 * 64, room);
            }
        }
        let alive = &room[..count];
        if self.one_by_one() || self.scores {
            alive.iter().for_each(|&doc| self.hit(doc, 0.0));
        } else if !self.full() && !alive.is_empty() {
            self.add_live(alive);
        }
        self.alive = room;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use crate::query::{Bound, Query, QueryKind, Value};
    use crate::search::aggs::{AggKind, AggPartial, AggRequest, HistogramRequest, Metric, TermsRequest, ValuesSource};
    use crate::search::tests::{Shard, request};
    use crate::search::{Missing, SearchRequest, SortBy, SortKey, TrackTotalHits};

    #[derive(Clone, Debug)]
    struct Doc {
        segment: u32,
        doc: u32,
        n: i64,
        m: Vec<i64>,
        k: String,
        word: bool,
        live: bool,
    }

    fn world(seed: u64, sizes: &[usize], shape: u8, delete: bool) -> (Shard, Vec<Doc>) {
        let mut state = seed | 1;
        let mut roll = |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % sides
        };
        let (mut docs, mut deleted, mut json) = (Vec::new(), Vec::new(), Vec::new());
        let mut clock = 0;
        for (segment, &size) in sizes.iter().enumerate() {
            let mut lines: Vec<Json> = Vec::new();
            for doc in 0..size as u32 {
                clock += 1;
                let n = match shape {
                    0 => clock + roll(5) as i64,
                    1 => -clock + roll(5) as i64,
                    2 => roll(100_000) as i64,
                    _ => 7 + i64::from(clock % 2000 == 0),
                };
                let m = (0..roll(3)).map(|_| roll(50) as i64).collect();
                let k = format!("k{}", if shape == 3 { clock as u64 / 900 } else { roll(30) });
                let doc =
                    Doc { segment: segment as u32, doc, n, m, k, word: roll(3) == 0, live: !(delete && roll(9) == 0) };
                if !doc.live {
                    deleted.push((segment, doc.doc));
                }
                lines.push(json!({"n": doc.n, "m": doc.m, "k": doc.k, "t": if doc.word { "a b" } else { "b" }}));
                docs.push(doc);
            }
            json.push(lines);
        }
        let mapping = json!({"properties": {
            "t": {"type": "text"}, "k": {"type": "keyword"}, "n": {"type": "long"}, "m": {"type": "long"}
        }});
        (Shard::new(&mapping, &json, &deleted), docs)
    }

    fn key(field: &str, descending: bool) -> SortKey {
        let by = SortBy::Field {
            field: field.to_owned(),
            mode: None,
            missing: Missing::Last,
            unmapped_type: None,
            format: None,
        };
        SortKey { by, descending }
    }

    /// What a key makes of a document: less is better.
    fn rank(doc: &Doc, field: &str, descending: bool) -> (bool, i64, String) {
        let number = |n: i64| if descending { -n } else { n };
        match field {
            "n" => (false, number(doc.n), String::new()),
            "m" => {
                let best = if descending { doc.m.iter().max() } else { doc.m.iter().min() };
                (best.is_none(), best.map_or(0, |&n| number(n)), String::new())
            }
            _ => {
                let flipped: String = doc.k.bytes().map(|b| char::from(if descending { 127 - b } else { b })).collect();
                // A shorter string is before a longer one, falling: behind.
                let end = if descending { "\u{7f}" } else { "" };
                (false, 0, flipped + end)
            }
        }
    }

    fn queries() -> Vec<(Query, fn(&Doc) -> bool)> {
        let term = |word: &str| {
            let value = Value::String(word.to_owned());
            Query::from(QueryKind::Term { field: "t".to_owned(), value, case_insensitive: false })
        };
        let range = QueryKind::Range {
            field: "n".to_owned(),
            lower: Some(Bound { value: Value::Int(8), inclusive: true }),
            upper: Some(Bound { value: Value::Int(60_000), inclusive: true }),
            format: None,
            time_zone: None,
        };
        let range = QueryKind::Bool {
            must: Vec::new(),
            filter: vec![range.into()],
            should: Vec::new(),
            must_not: Vec::new(),
            minimum_should_match: None,
        };
        vec![
            (Query::from(QueryKind::MatchAll), |_| true),
            (term("a"), |d| d.word),
            (term("b"), |_| true),
            (range.into(), |d| (8..=60_000).contains(&d.n)),
        ]
    }

    fn top_of(
        shard: &Shard,
        docs: &[Doc],
        keys: &[(&str, bool)],
        matches: fn(&Doc) -> bool,
        mut request: SearchRequest,
    ) {
        let mut expected: Vec<&Doc> = docs.iter().filter(|d| d.live && matches(d)).collect();
        let total = expected.len() as u64;
        expected.sort_by_key(|d| {
            let ranks: Vec<_> = keys.iter().map(|&(field, descending)| rank(d, field, descending)).collect();
            (ranks, d.segment, d.doc)
        });
        request.sort = keys.iter().map(|&(field, descending)| key(field, descending)).collect();
        let found = shard.search(&request).unwrap();
        let places: Vec<(u32, u32)> = found.hits.iter().map(|h| (h.doc.segment, h.doc.doc)).collect();
        let wanted: Vec<(u32, u32)> = expected.iter().take(request.top).map(|d| (d.segment, d.doc)).collect();
        assert_eq!(places, wanted, "{keys:?}");
        if request.track_total_hits == TrackTotalHits::All {
            assert_eq!(found.total, total);
        }
        // The page behind the first: of equal keys nothing is given twice.
        let Some(last) = found.hits.last() else { return };
        let after = last.sort.clone();
        let of = |d: &Doc| keys.iter().map(|&(field, descending)| rank(d, field, descending)).collect::<Vec<_>>();
        let end = of(expected[wanted.len() - 1]);
        let next: Vec<(u32, u32)> =
            expected.iter().filter(|d| of(d) > end).take(request.top).map(|d| (d.segment, d.doc)).collect();
        request.search_after = Some(after);
        let found = shard.search(&request).unwrap();
        let places: Vec<(u32, u32)> = found.hits.iter().map(|h| (h.doc.segment, h.doc.doc)).collect();
        assert_eq!(places, next, "{keys:?} after");
    }

    fn aggs_of(shard: &Shard, docs: &[Doc], matches: fn(&Doc) -> bool, mut request: SearchRequest) {
        let agg = |name: &str, kind| AggRequest { name: name.to_owned(), kind, subs: Vec::new(), meta: None };
        let histogram = HistogramRequest {
            source: ValuesSource::field("n"),
            interval: 250.0,
            offset: 3.0,
            min_doc_count: 1,
            extended_bounds: None,
            hard_bounds: None,
            order: Vec::new(),
            keyed: false,
        };
        request.aggs = vec![
            agg(
                "t",
                AggKind::Terms(TermsRequest {
                    size: 5,
                    shard_size: Some(7),
                    ..TermsRequest::new(ValuesSource::field("k"))
                }),
            ),
            agg("s", AggKind::Metric { metric: Metric::Stats, source: ValuesSource::field("n") }),
            agg("m", AggKind::Metric { metric: Metric::Stats, source: ValuesSource::field("m") }),
            agg("h", AggKind::Histogram(histogram)),
        ];
        let found = shard.search(&request).unwrap();
        let hits: Vec<&Doc> = docs.iter().filter(|d| d.live && matches(d)).collect();
        let mut counts = std::collections::BTreeMap::<&str, u64>::new();
        hits.iter().for_each(|d| *counts.entry(&d.k).or_default() += 1);
        let mut best: Vec<(&str, u64)> = counts.into_iter().collect();
        best.sort_by_key(|&(k, n)| (std::cmp::Reverse(n), k.to_owned()));
        best.truncate(7);
        let other = hits.len() as u64 - best.iter().map(|b| b.1).sum::<u64>();
        best.sort_unstable();
        let AggPartial::Terms(terms) = &found.aggs[0] else { panic!("terms") };
        let got: Vec<(String, u64)> = terms
            .buckets
            .iter()
            .map(|b| (serde_json::to_value(&b.key).unwrap()["String"].as_str().unwrap().to_owned(), b.doc_count))
            .collect();
        assert_eq!(got, best.iter().map(|&(k, n)| (k.to_owned(), n)).collect::<Vec<_>>());
        assert_eq!(terms.other_doc_count, other);
        for (i, values) in
            [(1, hits.iter().map(|d| d.n).collect::<Vec<i64>>()), (2, hits.iter().flat_map(|d| d.m.clone()).collect())]
        {
            let AggPartial::Stats(stats) = &found.aggs[i] else { panic!("stats") };
            assert_eq!(stats.count, values.len() as u64);
            assert_eq!(stats.sum.value(), values.iter().sum::<i64>() as f64);
            assert_eq!(stats.min, values.iter().min().map(|&v| v as f64));
            assert_eq!(stats.max, values.iter().max().map(|&v| v as f64));
        }
        let mut counts = std::collections::BTreeMap::<i64, u64>::new();
        hits.iter().for_each(|d| *counts.entry((d.n - 3).div_euclid(250)).or_default() += 1);
        let AggPartial::Histogram(histogram) = &found.aggs[3] else { panic!("histogram") };
        let got: Vec<(i64, u64)> = histogram.buckets.iter().map(|b| (b.0, b.1.doc_count)).collect();
        assert_eq!(got, counts.into_iter().collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn hits_in_bulk_are_those_of_a_scan(seed: u64, sizes in prop::collection::vec(1usize..2600, 1..4), shape in 0u8..4,
                                            delete: bool, track: bool, top in 0usize..12) {
            let (shard, docs) = world(seed, &sizes, shape, delete);
            for (query, matches) in queries() {
                let mut request = request(query, top);
                request.track_total_hits = if track { TrackTotalHits::All } else { TrackTotalHits::None };
                for keys in [
                    &[("n", true)][..], &[("n", false)], &[("k", true)], &[("k", false)], &[("m", true)], &[("m", false)],
                    &[("k", false), ("n", true)], &[("n", true), ("m", false)],
                ] {
                    top_of(&shard, &docs, keys, matches, request.clone());
                }
                aggs_of(&shard, &docs, matches, request.clone());
                let filtered = |d: &Doc| d.word;
                if let (true, (filter, _)) = (track, queries().swap_remove(1)) {
                    let mut request = request.clone();
                    request.post_filter = Some(filter);
                    request.sort = vec![key("n", true)];
                    let total = docs.iter().filter(|d| d.live && matches(d) && filtered(d)).count() as u64;
                    prop_assert_eq!(shard.search(&request).unwrap().total, total);
                    aggs_of(&shard, &docs, matches, request);
                }
            }
        }
    }
}

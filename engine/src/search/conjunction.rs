//! Documents that several terms and sets all have, found a block at a time.
//!
//! The rarest term leads. Documents of its block are candidates. Those that cannot win by what the lead scores in them are
//! dropped, where that turns out to pay; the sets, then the other terms, leave those they have. A term that is not much more
//! frequent than the candidates marks its whole block in a small table which the candidates then look into, without a branch;
//! two blocks that are bitmaps are laid over each other; in a rarer case each candidate is searched for. Only what is left is
//! scored, all at once. Terms that need not match come last, the one that can add most first, and each for what can still
//! win; where nothing can win without the first of them, it takes part like one that must.

use std::ops::Range;

use smallvec::SmallVec;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bulk::{BITS_WORDS, LANES, merge};
use crate::search::cursor::{Cursor, TermCursor, cannot_beat, up_to};
use crate::search::sink::Sink;
use crate::segment::cursor::{Bitmap, Stretch, lower_bound};
use crate::store::bitpack::BLOCK_LEN;

/// Documents that a table tells apart: blocks that span more are searched.
const TABLE: usize = 16_384;
/// A table is filled for blocks with at most so many documents per candidate.
const PER_CANDIDATE: usize = 8;
/// Windows are laid over each other where no term is so many times as frequent as the rarest, which has at least as many
/// documents as this.
const WINDOWS_NEAR: u64 = 16;
const WINDOWS_FROM: u64 = 1024;
/// More than the part of a score that is rounded off where parts of it are added in `f32`.
const ROUNDED: f64 = 1e-6;
/// Documents that one bound may span.
const SPAN_MAX: u32 = 1 << 16;

/// Whether a way to skip work has skipped enough lately to be worth its own cost.
#[derive(Default)]
pub(crate) struct Trial {
    rounds: u32,
    tried: u32,
    paid: u32,
}

impl Trial {
    /// Asked before each round: always at first, later if it paid in one of four, else now and then.
    pub(crate) fn worth(&mut self) -> bool {
        self.rounds = self.rounds.wrapping_add(1);
        self.tried < 8 || self.paid * 4 >= self.tried || self.rounds.is_multiple_of(16)
    }

    pub(crate) fn note(&mut self, paid: bool) {
        if self.tried == 32 {
            (self.tried, self.paid) = (16, self.paid / 2);
        }
        self.tried += 1;
        self.paid += u32::from(paid);
    }
}

/// Candidates, ascending, and where each is in the lead's block.
pub(crate) struct Batch {
    pub docs: [DocId; BLOCK_LEN],
    pub places: [u8; BLOCK_LEN],
    pub len: usize,
    /// Where the candidates stand as long as they are written nowhere.
    dense: Option<Stretch>,
}

impl Batch {
    pub(crate) fn new() -> Box<Batch> {
        Box::new(Batch { docs: [0; BLOCK_LEN], places: [0; BLOCK_LEN], len: 0, dense: None })
    }

    /// Starts anew with these documents, of which there may be none.
    #[inline]
    pub(crate) fn fill(&mut self, docs: &[DocId]) {
        self.docs[..docs.len()].copy_from_slice(docs);
        self.restart(docs.len());
    }

    /// Starts anew with the first `len` of the documents that `docs` was given.
    fn restart(&mut self, len: usize) {
        (self.len, self.dense) = (len, None);
        for (i, place) in self.places[..len].iter_mut().enumerate() {
            *place = i as u8;
        }
    }

    /// Adds what `term` scores in the candidates, where `freqs` says by their places how often they have it.
    fn add_scores(&self, term: &TermCursor<'_>, freqs: &[u32], sums: &mut [f64; BLOCK_LEN]) {
        let mut gathered = [0u32; BLOCK_LEN];
        for (to, &place) in gathered.iter_mut().zip(&self.places[..self.len]) {
            *to = freqs.get(place as usize).copied().unwrap_or(0);
        }
        term.add_scores(&self.docs[..self.len], &gathered[..self.len], &mut sums[..self.len]);
    }

    /// Starts anew with these documents, which the first member to look at them may find without writing them out.
    fn fill_dense(&mut self, stretch: Stretch) {
        self.len = stretch.len();
        self.dense = Some(stretch);
    }

    /// Appends what is left of `stretch`.
    fn write(&mut self, stretch: &Stretch, kept: usize) {
        const MASK: usize = BLOCK_LEN - 1;
        self.len = kept;
        stretch.visit(None, |doc| {
            self.docs[self.len & MASK] = doc;
            self.places[self.len & MASK] = stretch.place(doc);
            self.len += 1;
        });
    }

    /// Keeps those that `keep` answers 1 for and drops those it answers 0 for.
    #[inline]
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(DocId) -> usize) {
        let mut kept = 0;
        for i in 0..self.len {
            let (doc, place) = (self.docs[i], self.places[i]);
            self.docs[kept] = doc;
            self.places[kept] = place;
            kept += keep(doc);
        }
        self.len = kept;
    }

    /// Keeps, of the candidates in `range`, those that stand in `docs` where `at` says; moves them down to `kept` and notes
    /// where they were found.
    #[inline(always)]
    fn sift(
        &mut self,
        range: Range<usize>,
        kept: &mut usize,
        found: &mut [u8; BLOCK_LEN],
        docs: &[DocId; BLOCK_LEN],
        at: impl Fn(DocId) -> u8,
    ) {
        const MASK: usize = BLOCK_LEN - 1;
        let mut to = *kept;
        for i in range {
            let (doc, place) = (self.docs[i & MASK], self.places[i & MASK]);
            let at = at(doc) & MASK as u8;
            self.docs[to & MASK] = doc;
            self.places[to & MASK] = place;
            found[to & MASK] = at;
            to += usize::from(docs[at as usize & MASK] == doc);
        }
        *kept = to;
    }

    /// As `sift`, for a block that is a bitmap and candidates that are one.
    #[inline(always)]
    fn sift_dense(&mut self, stretch: &Stretch, kept: &mut usize, found: &mut [u8; BLOCK_LEN], bitmap: &Bitmap) {
        const MASK: usize = BLOCK_LEN - 1;
        let mut to = *kept;
        stretch.visit(Some(bitmap), |doc| {
            self.docs[to & MASK] = doc;
            self.places[to & MASK] = stretch.place(doc);
            found[to & MASK] = bitmap.find(doc).1;
            to += 1;
        });
        *kept = to;
    }

    /// As `sift`, for a block that is a bitmap.
    #[inline(always)]
    fn sift_bits(&mut self, range: Range<usize>, kept: &mut usize, found: &mut [u8; BLOCK_LEN], bitmap: &Bitmap) {
        const MASK: usize = BLOCK_LEN - 1;
        let mut to = *kept;
        for i in range {
            let (doc, place) = (self.docs[i & MASK], self.places[i & MASK]);
            let (has, at) = bitmap.find(doc);
            self.docs[to & MASK] = doc;
            self.places[to & MASK] = place;
            found[to & MASK] = at;
            to += usize::from(has);
        }
        *kept = to;
    }
}

/// A term behind the lead.
pub(crate) struct Member<'a> {
    pub term: TermCursor<'a>,
    scores: bool,
    /// Index in the block of each of its documents, by the low bits of the document. Not cleared: what is found is compared.
    table: Box<[u8; TABLE]>,
    /// Block in the table.
    tabled: usize,
    /// Frequencies for the candidates, by their place.
    freqs: [u32; BLOCK_LEN],
}

impl<'a> Member<'a> {
    pub(crate) fn new(term: TermCursor<'a>, scores: bool) -> Member<'a> {
        Member {
            term,
            scores,
            table: vec![0; TABLE].into_boxed_slice().try_into().expect("its length"),
            tabled: usize::MAX,
            freqs: [0; BLOCK_LEN],
        }
    }

    fn retain(&mut self, batch: &mut Batch) {
        self.retain_if(batch, |_, _, range, _| range.end);
    }

    /// Keeps the candidates that the term has. `check` sees those of one of its blocks: their range in the batch, and where
    /// in the block each is. It may move some down to the start of the range, and answers where those to keep end.
    #[inline]
    pub(crate) fn retain_if(
        &mut self,
        batch: &mut Batch,
        mut check: impl FnMut(&mut TermCursor<'a>, &mut Batch, Range<usize>, &[u8; BLOCK_LEN]) -> usize,
    ) {
        let mut kept = 0;
        if let Some(mut stretch) = batch.dense.take() {
            batch.len = 0;
            while let Some(first) = stretch.doc() {
                if self.term.postings.seek(first) == NO_MORE_DOCS {
                    break;
                }
                let Some(last) = self.term.postings.block_last() else { break };
                let Some(bitmap) = self.term.postings.bitmap() else {
                    batch.write(&stretch, kept);
                    break;
                };
                let (from, mut found) = (kept, [0u8; BLOCK_LEN]);
                batch.sift_dense(&stretch, &mut kept, &mut found, bitmap);
                self.note_freqs(batch, from..kept, &found);
                if kept > from {
                    kept = check(&mut self.term, batch, from..kept, &found);
                }
                batch.len = kept;
                stretch.drop_below(last.saturating_add(1));
            }
        }
        let mut read = kept;
        while read < batch.len {
            if self.term.postings.seek(batch.docs[read]) == NO_MORE_DOCS {
                break;
            }
            let Some(last) = self.term.postings.block_last() else { break };
            let count = up_to(&batch.docs[read..batch.len], last);
            let from = kept;
            let mut found = [0u8; BLOCK_LEN];
            let number = self.term.postings.block_number();
            let ahead = BLOCK_LEN.saturating_sub(self.term.postings.block_index());
            let candidates = read..read + count;
            if let Some(bitmap) = self.term.postings.bitmap() {
                batch.sift_bits(candidates, &mut kept, &mut found, bitmap);
            } else {
                let docs = self.term.postings.whole_block();
                let span = last.wrapping_sub(docs[0]) as usize;
                if self.tabled == number || span < TABLE && ahead < count * PER_CANDIDATE {
                    if self.tabled != number {
                        self.tabled = number;
                        for (i, &doc) in docs.iter().enumerate().take_while(|d| *d.1 <= last) {
                            self.table[doc as usize % TABLE] = i as u8;
                        }
                    }
                    let table = &self.table;
                    batch.sift(candidates, &mut kept, &mut found, docs, |doc| table[doc as usize % TABLE]);
                } else {
                    batch.sift(candidates, &mut kept, &mut found, docs, |doc| lower_bound(docs, doc) as u8);
                }
            }
            self.note_freqs(batch, from..kept, &found);
            if kept > from {
                kept = check(&mut self.term, batch, from..kept, &found);
            }
            read += count;
        }
        batch.len = kept;
    }

    /// Keeps the frequencies of candidates that are `found` in the block.
    #[inline]
    fn note_freqs(&mut self, batch: &Batch, range: Range<usize>, found: &[u8; BLOCK_LEN]) {
        if self.scores && !range.is_empty() {
            let freqs = self.term.postings.block_freqs();
            for i in range {
                self.freqs[batch.places[i] as usize & (BLOCK_LEN - 1)] = freqs[found[i] as usize & (BLOCK_LEN - 1)];
            }
        }
    }
}

/// Terms and sets that must all match. See the module.
pub(crate) struct Conjunction<'a> {
    lead: TermCursor<'a>,
    /// Whether the lead scores.
    lead_scores: bool,
    /// By ascending frequency.
    others: Vec<Member<'a>>,
    /// Neither is a term; columns last.
    sets: SmallVec<[Cursor<'a>; 2]>,
    /// Terms that only add to scores, the one that can add most first.
    optional: Vec<Member<'a>>,
    /// The most that each of those adds in the documents at hand.
    adds: Vec<f64>,
    batch: Box<Batch>,
    /// Those of the batch that an optional term has.
    found: Box<Batch>,
    /// Whether to go window by window with a bitmap of each.
    windows: bool,
    /// Documents before are done; only with scores.
    at: DocId,
    /// Bounds of the other terms' blocks; else their whole lists' bound them.
    block_bounds: Trial,
    /// The lead's scores, before the other terms are looked up.
    lead_first: Trial,
}

impl<'a> Conjunction<'a> {
    /// `terms`, with whether each scores, must not be empty.
    pub(crate) fn new(mut terms: Vec<(TermCursor<'a>, bool)>, sets: SmallVec<[Cursor<'a>; 2]>) -> Conjunction<'a> {
        terms.sort_by_key(|t| t.0.postings.doc_freq());
        let mut terms = terms.into_iter();
        let (lead, lead_scores) = terms.next().expect("not empty");
        let others = terms.map(|(term, scores)| Member::new(term, scores));
        let batch = Batch::new();
        Conjunction {
            lead,
            lead_scores,
            others: others.collect(),
            sets,
            optional: Vec::new(),
            adds: Vec::new(),
            batch,
            found: Batch::new(),
            windows: false,
            at: 0,
            block_bounds: Trial::default(),
            lead_first: Trial::default(),
        }
    }

    /// With terms that score where they match, and need not.
    pub(crate) fn with_optional(mut self, mut terms: Vec<TermCursor<'a>>) -> Conjunction<'a> {
        terms.sort_by(|a, b| b.max.total_cmp(&a.max));
        self.optional = terms.into_iter().map(|term| Member::new(term, true)).collect();
        self.adds = vec![0.0; self.optional.len()];
        self
    }

    /// Whether no document with a score up to `bound` beats `floor`. What is optional is added after the rest was rounded.
    fn cannot_beat(&self, bound: f64, floor: f32) -> bool {
        cannot_beat(if self.optional.is_empty() { bound } else { bound * (1.0 + ROUNDED) }, floor)
    }

    /// For matches without scores, `counting`: bitmaps of windows where that takes less than a look for each candidate.
    pub(crate) fn counting(mut self, counting: bool) -> Conjunction<'a> {
        let docs = |term: &TermCursor<'_>| u64::from(term.postings.doc_freq());
        let lead = docs(&self.lead);
        let sets = self.sets.iter().all(|s| matches!(s, Cursor::All { .. } | Cursor::Set { .. }));
        let near = self.others.last().is_none_or(|o| docs(&o.term) <= lead * WINDOWS_NEAR);
        self.windows = counting && sets && near && lead >= WINDOWS_FROM;
        self
    }

    /// As `Plan::run`.
    pub(crate) fn run<S: Sink>(&mut self, until: DocId, scores: bool, sink: &mut S) -> bool {
        if self.windows {
            return self.run_windows(until, sink);
        }
        loop {
            if sink.full() {
                return false;
            }
            let floor = sink.floor();
            let mut end = until - 1;
            let mut others_bound = None;
            // Whether nothing wins without the first of the optional terms.
            let mut essential = false;
            if scores && floor >= 0.0 {
                let mut most: f64 = self.others.iter().filter(|o| o.scores).map(|o| f64::from(o.term.max)).sum();
                for (add, member) in self.adds.iter_mut().zip(&self.optional) {
                    *add = f64::from(member.term.max);
                    most += *add;
                }
                self.at = self.lead.next_above(self.at.max(self.lead.doc()), f64::from(floor) * (1.0 - ROUNDED) - most);
                let mut at = self.at;
                if at >= until {
                    return at != NO_MORE_DOCS;
                }
                let (last, bound) = self.lead.block(at);
                end = last.min(at.saturating_add(SPAN_MAX));
                let bound = f64::from(bound);
                let mut rest = most;
                let mut hopeless = self.cannot_beat(bound + rest, floor);
                if !hopeless && self.block_bounds.worth() {
                    rest = self.others.iter_mut().filter(|o| o.scores).map(|o| f64::from(o.term.bound(at, end))).sum();
                    for (add, member) in self.adds.iter_mut().zip(&mut self.optional) {
                        *add = f64::from(member.term.bound(at, end));
                        rest += *add;
                    }
                    hopeless = self.cannot_beat(bound + rest, floor);
                    self.block_bounds.note(hopeless);
                }
                if hopeless {
                    self.at = end.saturating_add(1);
                    continue;
                }
                if let Some(add) = self.adds.first() {
                    essential = self.cannot_beat(bound + rest - add, floor);
                }
                if essential {
                    let next = self.optional[0].term.postings.seek(at);
                    // What was found out holds up to the end.
                    self.at = next.clamp(at, end.saturating_add(1));
                    if next > end {
                        continue;
                    }
                    at = self.at;
                }
                if self.lead.postings.seek(at) > end {
                    continue;
                }
                end = end.min(until - 1);
                others_bound = Some(rest);
            }
            let doc = self.lead.doc();
            if doc >= until {
                return doc != NO_MORE_DOCS;
            }
            if others_bound.is_none() {
                let wanted = sink.skip(doc);
                if wanted > doc {
                    self.lead.postings.seek(wanted);
                    continue;
                }
            }
            let drops = others_bound.filter(|_| self.lead_scores && self.lead_first.worth());
            let written = drops.is_some() || !self.sets.is_empty() || self.others.is_empty();
            let count = self.candidates(end, written);
            if let Some(rest) = drops {
                self.drop_weak(count, rest, floor);
                self.lead_first.note(self.batch.len * 2 <= count);
            }
            if essential {
                self.optional[0].retain(&mut self.batch);
            }
            self.retain();
            if scores {
                self.score(essential, floor, sink);
            } else {
                sink.hits(&self.batch.docs[..self.batch.len]);
            }
            self.lead.postings.advance(count);
        }
    }

    /// Without scores: the bitmaps of a window of all terms and sets, laid over each other.
    fn run_windows<S: Sink>(&mut self, until: DocId, sink: &mut S) -> bool {
        loop {
            let doc = self.lead.doc();
            if doc >= until {
                return doc != NO_MORE_DOCS;
            }
            if sink.full() {
                return false;
            }
            let wanted = sink.skip(doc);
            if wanted > doc {
                self.lead.postings.seek(wanted);
                continue;
            }
            let base = doc & !63;
            let mut lanes = [[0; BITS_WORDS]; LANES];
            self.lead.postings.set_bits(base, &mut lanes);
            let mut bits = merge(&lanes);
            for set in &self.sets {
                let Cursor::Set { set, .. } = set else { continue };
                let words = set.words().get((base / 64) as usize..).unwrap_or(&[]);
                bits.iter_mut().zip(words).for_each(|(a, b)| *a &= b);
            }
            for other in &mut self.others {
                let mut lanes = [[0; BITS_WORDS]; LANES];
                other.term.postings.seek(doc);
                other.term.postings.set_bits(base, &mut lanes);
                bits.iter_mut().zip(merge(&lanes)).for_each(|(a, b)| *a &= b);
            }
            sink.set(base, &bits);
        }
    }

    /// The lead's documents up to `end`, `written` out or not; how many.
    fn candidates(&mut self, end: DocId, written: bool) -> usize {
        if !written && let Some(bitmap) = self.lead.postings.bitmap() {
            self.batch.fill_dense(bitmap.stretch(self.lead.doc(), end));
            return self.batch.len;
        }
        let docs = self.lead.postings.block_docs();
        let count = up_to(docs, end);
        self.batch.fill(&docs[..count]);
        count
    }

    /// Drops candidates whose score in the lead is too low whatever the other terms add.
    fn drop_weak(&mut self, count: usize, rest: f64, floor: f32) {
        let from = self.lead.postings.block_index().min(BLOCK_LEN);
        self.lead.postings.block_freqs();
        let freqs = &self.lead.postings.freqs_decoded()[from..];
        let mut keeps = [0u8; BLOCK_LEN];
        let floor = f64::from(floor);
        let least = floor - floor.abs() * ROUNDED - rest;
        self.lead.may_score(&self.batch.docs[..count], freqs, least, &mut keeps);
        let mut keeps = keeps.iter();
        self.batch.retain(|_| usize::from(keeps.next().copied().unwrap_or(0) >> 7));
    }

    fn retain(&mut self) {
        if self.batch.len == 0 {
            return;
        }
        for set in &mut self.sets {
            match set {
                Cursor::All { .. } => {}
                Cursor::Set { set, .. } => self.batch.retain(|doc| usize::from(set.contains(doc))),
                Cursor::Column(column) => {
                    let (mut keeps, mut at) = ([0u8; BLOCK_LEN], 0);
                    column.test(&self.batch.docs[..self.batch.len], |matches| {
                        keeps[at & (BLOCK_LEN - 1)] = u8::from(matches);
                        at += 1;
                    });
                    let mut keeps = keeps.iter();
                    self.batch.retain(|_| usize::from(keeps.next().copied().unwrap_or(0)));
                }
                other => self.batch.retain(|doc| usize::from(other.seek(doc) == doc && other.matches())),
            }
        }
        for other in &mut self.others {
            if self.batch.len == 0 {
                return;
            }
            other.retain(&mut self.batch);
        }
    }

    /// `essential`: all that is left has the first optional term.
    fn score<S: Sink>(&mut self, essential: bool, floor: f32, sink: &mut S) {
        let len = self.batch.len;
        if len == 0 {
            return;
        }
        let mut sums = [0.0f64; BLOCK_LEN];
        let Conjunction { lead, lead_scores, others, batch, .. } = self;
        let mut add = |term: &TermCursor<'_>, freqs: &[u32]| batch.add_scores(term, freqs, &mut sums);
        if *lead_scores {
            let from = lead.postings.block_index().min(BLOCK_LEN);
            lead.postings.block_freqs();
            add(lead, &lead.postings.freqs_decoded()[from..]);
        }
        for other in others.iter().filter(|o| o.scores) {
            add(&other.term, &other.freqs);
        }
        if !self.optional.is_empty() {
            return self.score_optional(&sums, essential, floor, sink);
        }
        let mut floor = floor;
        for (&doc, &sum) in self.batch.docs[..len].iter().zip(&sums) {
            let score = sum as f32;
            if score > floor {
                sink.hit(doc, score);
                floor = sink.floor();
            }
        }
    }

    /// Adds what the optional terms score, from the one that can add most on, and each time leaves out what can no longer
    /// win. `sums` is what the required ones score in the documents of the batch.
    fn score_optional<S: Sink>(&mut self, sums: &[f64; BLOCK_LEN], essential: bool, floor: f32, sink: &mut S) {
        const MASK: usize = BLOCK_LEN - 1;
        // Of each candidate that is left, its index in the batch.
        let mut left: [u8; BLOCK_LEN] = std::array::from_fn(|i| i as u8);
        let mut count = self.batch.len;
        let mut added = [0.0f64; BLOCK_LEN];
        if essential {
            self.batch.add_scores(&self.optional[0].term, &self.optional[0].freqs, &mut added);
        }
        let first = usize::from(essential);
        let mut rest: f64 = self.adds[first..].iter().sum();
        for (member, add) in self.optional[first..].iter_mut().zip(&self.adds[first..]) {
            let mut kept = 0;
            for i in 0..count {
                let at = left[i & MASK] as usize & MASK;
                left[kept & MASK] = at as u8;
                let bound = (sums[at] + added[at] + rest) * (1.0 + ROUNDED);
                kept += usize::from(!cannot_beat(bound, floor));
            }
            count = kept;
            if count == 0 {
                return;
            }
            let (batch, found) = (&self.batch, &mut self.found);
            for (to, &at) in found.docs.iter_mut().zip(&left[..count]) {
                *to = batch.docs[at as usize & MASK];
            }
            found.restart(count);
            member.retain(found);
            let mut scores = [0.0f64; BLOCK_LEN];
            found.add_scores(&member.term, &member.freqs, &mut scores);
            for (&place, score) in found.places[..found.len].iter().zip(scores) {
                added[left[place as usize & MASK] as usize & MASK] += score;
            }
            rest -= add;
        }
        let mut floor = floor;
        for &at in &left[..count] {
            let at = at as usize & MASK;
            let score = sums[at] as f32 + added[at] as f32;
            if score > floor {
                sink.hit(self.batch.docs[at], score);
                floor = sink.floor();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use crate::query::{Bound, MatchKind, Query, QueryKind, TextOptions, Value};
    use crate::search::tests::{Dice, Shard, everything, request};
    use crate::search::{DocAddress, SearchRequest, TrackTotalHits};

    /// Terms, with one in how many documents each is: lists of many blocks, of few, short ones, and ones that differ much.
    const WORDS: [(&str, u64); 7] =
        [("aa", 1), ("bb", 2), ("cc", 3), ("dd", 12), ("ee", 60), ("ff", 400), ("gg", 2500)];

    struct Doc {
        words: Vec<&'static str>,
        keyword: bool,
        number: i64,
        live: bool,
    }

    fn world(seed: u64, sizes: &[usize], delete: bool) -> (Vec<Vec<Doc>>, Shard) {
        let mut dice = Dice(seed | 1);
        let mut deleted = Vec::new();
        let mut docs: Vec<Vec<Doc>> = Vec::new();
        for (s, &size) in sizes.iter().enumerate() {
            let mut segment = Vec::new();
            // Stretches where all words are rarer, so that blocks differ in what they span and in what they score.
            let mut thin = 1;
            for d in 0..size {
                if dice.roll(700) == 0 {
                    thin = 1 + dice.roll(2) * dice.roll(40);
                }
                let mut words = Vec::new();
                for _ in 0..1 + dice.roll(3) * dice.roll(3) {
                    let (word, one_in) = WORDS[dice.roll(WORDS.len() as u64) as usize];
                    if dice.roll(one_in * thin) == 0 {
                        words.push(word);
                    }
                }
                words.resize(words.len() + dice.roll(4) as usize, "zz");
                let live = !(delete && dice.roll(4) == 0);
                if !live {
                    deleted.push((s, d as u32));
                }
                segment.push(Doc { words, keyword: dice.roll(5) < 2, number: dice.roll(1000) as i64, live });
            }
            docs.push(segment);
        }
        let mapping = json!({"properties": {"t": {"type": "text"}, "k": {"type": "keyword"}, "n": {"type": "long"}}});
        let json: Vec<Vec<Json>> = docs
            .iter()
            .map(|s| {
                let doc =
                    |d: &Doc| json!({"t": d.words.join(" "), "k": if d.keyword { "x" } else { "y" }, "n": d.number});
                s.iter().map(doc).collect()
            })
            .collect();
        (docs, Shard::new(&mapping, &json, &deleted))
    }

    fn term(field: &str, value: &str) -> Query {
        QueryKind::Term { field: field.to_owned(), value: Value::String(value.to_owned()), case_insensitive: false }
            .into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        /// Matches are those of a scan; their scores, the sums of what single terms score; the best few, the best of all.
        #[test]
        fn blocks_find_and_rank_what_a_scan_does(
            seed in any::<u64>(), sizes in proptest::collection::vec(1usize..12_000, 1..3), delete: bool,
            queries in proptest::collection::vec(
                (0u8..4, proptest::collection::vec(0usize..WORDS.len(), 1..5), any::<bool>(),
                 proptest::option::of((0i64..1000, 0i64..1000)), 1usize..30), 40),
        ) {
            let (docs, shard) = world(seed, &sizes, delete);
            let single: Vec<BTreeMap<DocAddress, f32>> = WORDS.iter().map(|w| everything(&shard, &term("t", w.0))).collect();
            for (kind, picked, keyword, range, top) in queries {
                let words: Vec<&str> = picked.iter().map(|&i| WORDS[i].0).collect();
                let terms: Vec<Query> = words.iter().map(|w| term("t", w)).collect();
                let phrase = QueryKind::Match {
                    field: "t".to_owned(),
                    text: Value::String(words.join(" ")),
                    kind: MatchKind::Phrase,
                    options: TextOptions::default(),
                };
                let (must, should) = match kind {
                    0 => (terms, Vec::new()),
                    1 => (Vec::new(), terms),
                    3 => (terms[..terms.len().div_ceil(2)].to_vec(), terms[terms.len().div_ceil(2)..].to_vec()),
                    _ => (vec![phrase.into()], Vec::new()),
                };
                let mut filter = Vec::new();
                if keyword {
                    filter.push(term("k", "x"));
                }
                if let Some((a, b)) = range {
                    let bound = |v| Some(Bound { value: Value::Int(v), inclusive: true });
                    let range = QueryKind::Range {
                        field: "n".to_owned(), lower: bound(a.min(b)), upper: bound(a.max(b)), format: None, time_zone: None,
                    };
                    filter.push(range.into());
                }
                let minimum_should_match = (kind == 1).then(|| "1".to_owned());
                let query: Query =
                    QueryKind::Bool { must, filter, should, must_not: Vec::new(), minimum_should_match }.into();
                let matches = |d: &Doc| {
                    d.live
                        && (!keyword || d.keyword)
                        && range.is_none_or(|(a, b)| (a.min(b)..=a.max(b)).contains(&d.number))
                        && match kind {
                            0 => words.iter().all(|w| d.words.contains(w)),
                            1 => words.iter().any(|w| d.words.contains(w)),
                            3 => words[..words.len().div_ceil(2)].iter().all(|w| d.words.contains(w)),
                            _ => d.words.windows(words.len()).any(|w| w == words),
                        }
                };
                let expected: BTreeSet<DocAddress> = docs.iter().enumerate()
                    .flat_map(|(s, docs)| docs.iter().enumerate().filter(|d| matches(d.1)).map(move |(d, _)| DocAddress {
                        segment: s as u32, doc: d as u32,
                    }))
                    .collect();
                let all = everything(&shard, &query);
                prop_assert_eq!(&all.keys().copied().collect::<BTreeSet<_>>(), &expected, "{} {:?}", kind, words);
                if kind != 2 {
                    for (doc, score) in &all {
                        let sum: f64 = picked.iter().filter_map(|&i| single[i].get(doc)).map(|&s| f64::from(s)).sum();
                        prop_assert!((sum as f32 - score).abs() <= score * 1e-6, "{} {}", sum, score);
                    }
                }
                let counted = shard.search(&request(query.clone(), 0)).unwrap();
                prop_assert_eq!(counted.total, expected.len() as u64);
                let mut ranked: Vec<(DocAddress, f32)> = all.into_iter().collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                ranked.truncate(top);
                let pruned = SearchRequest { track_total_hits: TrackTotalHits::None, ..request(query, top) };
                let pruned: Vec<(DocAddress, f32)> =
                    shard.search(&pruned).unwrap().hits.iter().map(|h| (h.doc, h.score)).collect();
                prop_assert_eq!(pruned, ranked, "{} {:?}", kind, words);
            }
        }
    }
}

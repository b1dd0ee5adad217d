//! Terms at positions: documents that have all terms, then their positions.
//!
//! An exact phrase counts the places where each slot has a term at its offset. A sloppy one weighs each match by
//! 1 / (1 + distance), where the distance is how far the terms' positions, less their offsets, lie apart; matches are
//! found as Lucene finds them: the slot that is behind moves on, and a match ends when it passes the next one.

use smallvec::SmallVec;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bm25::{self, Bm25};
use crate::search::cursor::{ALIGN_TRIES, block_score, score_bounds};
use crate::search::sink::Sink;
use crate::segment::bounds::Scale;
use crate::segment::reader::PostingsCursor;

/// One slot: the terms that may be there, and the current document's positions.
pub(crate) struct Slot<'a> {
    pub offset: u32,
    pub terms: SmallVec<[Box<PostingsCursor<'a>>; 1]>,
    /// Terms of the slot, to know slots with a term in common.
    pub keys: Vec<&'a [u8]>,
    pub cost: u64,
    doc: DocId,
    /// Less the offset, so that the same number in every slot is a phrase; never negative when shifted by `SHIFT`.
    positions: Vec<i64>,
    /// The same as written, for exact phrases of single terms.
    places: Vec<u32>,
    at: usize,
}

impl<'a> Slot<'a> {
    /// Stands on the first document. `terms` must not be empty.
    pub(crate) fn new(offset: u32, mut terms: SmallVec<[Box<PostingsCursor<'a>>; 1]>, keys: Vec<&'a [u8]>) -> Slot<'a> {
        let cost = terms.iter().map(|t| u64::from(t.doc_freq())).sum();
        let doc = terms.iter_mut().map(|t| t.next()).min().unwrap_or(NO_MORE_DOCS);
        Slot { offset, terms, keys, cost, doc, positions: Vec::new(), places: Vec::new(), at: 0 }
    }

    #[inline]
    fn next(&mut self) -> DocId {
        if let [only] = &mut self.terms[..] {
            self.doc = only.next();
            return self.doc;
        }
        let current = self.doc;
        self.doc = NO_MORE_DOCS;
        for term in &mut self.terms {
            let doc = if term.doc() == current { term.next() } else { term.doc() };
            self.doc = self.doc.min(doc);
        }
        self.doc
    }

    #[inline]
    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc >= target {
            return self.doc;
        }
        if let [only] = &mut self.terms[..] {
            self.doc = only.seek(target);
            return self.doc;
        }
        self.doc = NO_MORE_DOCS;
        for term in &mut self.terms {
            self.doc = self.doc.min(term.seek(target));
        }
        self.doc
    }

    /// Reads the positions in the current document.
    fn read(&mut self, scratch: &mut Vec<u32>) {
        self.positions.clear();
        self.at = 0;
        let mut sources = 0;
        for term in &mut self.terms {
            if term.doc() == self.doc {
                term.positions(scratch);
                self.positions.extend(scratch.iter().map(|&p| i64::from(p) - i64::from(self.offset)));
                sources += 1;
            }
        }
        if sources > 1 {
            self.positions.sort_unstable();
            self.positions.dedup();
        }
    }
}

/// Takes documents that all slots of a phrase have, passes on those that match.
pub(crate) struct PhraseSink<'p, 'a, S> {
    pub phrase: &'p mut PhraseCursor<'a>,
    pub scores: bool,
    pub sink: &'p mut S,
}

impl<S: Sink> Sink for PhraseSink<'_, '_, S> {
    /// Candidates have no scores.
    #[inline]
    fn floor(&self) -> f32 {
        -1.0
    }

    #[inline]
    fn hit(&mut self, doc: DocId, _: f32) {
        if let Some(score) = self.phrase.check(doc, self.sink.floor()) {
            self.sink.hit(doc, score);
        }
    }

    #[inline]
    fn full(&self) -> bool {
        self.sink.full()
    }

    fn skip(&mut self, doc: DocId) -> DocId {
        let floor = self.sink.floor();
        if !self.scores || floor < 0.0 {
            return self.sink.skip(doc);
        }
        let mut doc = doc;
        while doc != NO_MORE_DOCS {
            let (last, bound) = self.phrase.block(doc);
            if bound > floor {
                break;
            }
            doc = last.saturating_add(1);
        }
        doc
    }
}

pub(crate) struct PhraseCursor<'a> {
    /// Cheapest first.
    slots: Vec<Slot<'a>>,
    slop: u32,
    doc: DocId,
    /// Whether all slots stand on `doc`.
    aligned: bool,
    freq: f32,
    norms: Option<&'a [u8]>,
    bm25: Option<&'a Bm25>,
    /// What makes the rarest slot's bounds ones of scores.
    scale: Scale,
    max: f32,
    scratch: Vec<u32>,
    /// Whether two slots share a term: then a sloppy match must not use one position twice.
    repeats: bool,
}

impl<'a> PhraseCursor<'a> {
    /// `slots` must not be empty.
    pub(crate) fn new(
        mut slots: Vec<Slot<'a>>,
        slop: u32,
        norms: Option<&'a [u8]>,
        bm25: Option<&'a Bm25>,
    ) -> PhraseCursor<'a> {
        let repeats =
            (0..slots.len()).any(|i| slots[..i].iter().any(|s| s.keys.iter().any(|k| slots[i].keys.contains(k))));
        slots.sort_by_key(|s| s.cost);
        // A phrase is at most as frequent as its rarest term.
        let (scale, max) = match (bm25, &mut slots[0].terms[..], slop) {
            (Some(bm25), [only], 0) => score_bounds(only, norms, bm25),
            (bm25, ..) => (Scale::default(), bm25.map_or(0.0, |b| b.weight)),
        };
        let mut cursor = PhraseCursor {
            slots,
            slop,
            doc: 0,
            aligned: false,
            freq: 0.0,
            norms,
            bm25,
            scale,
            max,
            scratch: Vec::new(),
            repeats,
        };
        let first = cursor.slots[0].doc;
        cursor.align(first);
        cursor
    }

    pub(crate) fn doc(&self) -> DocId {
        self.doc
    }

    pub(crate) fn cost(&self) -> u64 {
        self.slots[0].cost
    }

    pub(crate) fn max_score(&self) -> f32 {
        self.max
    }

    /// The block of the rarest slot around `target` (not falling from call to call): its last document, and a bound.
    pub(crate) fn block(&mut self, target: DocId) -> (DocId, f32) {
        let (Some(_), [only], 0) = (self.bm25, &mut self.slots[0].terms[..], self.slop) else {
            return (NO_MORE_DOCS - 1, self.max);
        };
        block_score(only, self.scale, self.max, target)
    }

    /// Bound on scores from `from` (not falling from call to call) to `to`.
    pub(crate) fn bound(&mut self, from: DocId, to: DocId) -> f32 {
        let (mut last, mut bound) = self.block(from);
        while last < to && bound < self.max {
            let (next_last, next) = self.block(last + 1);
            bound = bound.max(next);
            last = next_last;
        }
        bound
    }

    pub(crate) fn next(&mut self) -> DocId {
        let doc = self.slots[0].next();
        self.align(doc)
    }

    pub(crate) fn seek(&mut self, target: DocId) -> DocId {
        if self.doc >= target {
            return self.doc;
        }
        let doc = self.slots[0].seek(target);
        self.align(doc)
    }

    /// To the first document that all slots have, or a false candidate after many tries.
    fn align(&mut self, mut doc: DocId) -> DocId {
        let (lead, others) = self.slots.split_first_mut().expect("not empty");
        let mut tries = 0;
        self.aligned = true;
        'candidate: while doc != NO_MORE_DOCS {
            for other in others.iter_mut() {
                let at = other.seek(doc);
                if at > doc {
                    doc = lead.seek(at);
                    tries += 1;
                    if tries == ALIGN_TRIES {
                        self.aligned = doc == NO_MORE_DOCS;
                        break 'candidate;
                    }
                    continue 'candidate;
                }
            }
            break;
        }
        self.doc = doc;
        doc
    }

    /// Computes the phrase frequency; without a scorer one place is enough.
    pub(crate) fn matches(&mut self) -> bool {
        if !self.aligned {
            return false;
        }
        let first_only = self.bm25.is_none();
        if self.slop == 0 && self.slots.iter().all(|s| s.terms.len() == 1) {
            self.freq = exact_single(&mut self.slots, first_only);
            return self.freq > 0.0;
        }
        for slot in &mut self.slots {
            slot.read(&mut self.scratch);
        }
        self.freq = if self.slop == 0 { exact(&mut self.slots, first_only) } else { self.sloppy(first_only) };
        self.freq > 0.0
    }

    /// Whether `doc`, which all slots should have and which is not before the current one, matches with a score above
    /// `floor`; the score. Positions are read only where the frequencies of the terms allow one.
    pub(crate) fn check(&mut self, doc: DocId, floor: f32) -> Option<f32> {
        self.doc = doc;
        self.aligned = true;
        for slot in &mut self.slots {
            if slot.seek(doc) != doc {
                return None;
            }
        }
        let norm = self.norms.map_or(1, |n| n[doc as usize]);
        if let (Some(bm25), 0, true) = (self.bm25, self.slop, floor >= 0.0) {
            let mut most = u32::MAX;
            for slot in &mut self.slots {
                if let [only] = &mut slot.terms[..] {
                    most = most.min(only.freq());
                }
            }
            if bm25.score(most as f32, norm) <= floor {
                return None;
            }
        }
        if !self.matches() {
            return None;
        }
        let score = self.score();
        (score > floor).then_some(score)
    }

    /// Frequency of the last match.
    pub(crate) fn freq(&self) -> f32 {
        self.freq
    }

    pub(crate) fn score(&mut self) -> f32 {
        let Some(bm25) = self.bm25 else { return 0.0 };
        let norm = self.norms.map_or(1, |n| n[self.doc as usize]);
        bm25::score(bm25.weight, self.freq, bm25.norms.0[norm as usize])
    }

    /// No two slots with a common term stand on one place. `positions` are relative, so places are compared as written.
    fn collides(&self, index: usize) -> Option<usize> {
        let place = |s: &Slot<'_>| s.positions[s.at] + i64::from(s.offset);
        let slot = &self.slots[index];
        (0..self.slots.len()).find(|&other| {
            other != index
                && place(&self.slots[other]) == place(slot)
                && self.slots[other].keys.iter().any(|k| slot.keys.contains(k))
        })
    }

    /// Moves the slot on until no two slots use one place; false at the end.
    fn resolve(&mut self, mut index: usize) -> bool {
        while let Some(other) = self.collides(index) {
            // The one that is less far moves; of equals the one later in the phrase.
            let (a, b) = (&self.slots[index], &self.slots[other]);
            let key = |s: &Slot<'_>| (s.positions[s.at], s.offset);
            index = if key(a) <= key(b) { index } else { other };
            self.slots[index].at += 1;
            if self.slots[index].at >= self.slots[index].positions.len() {
                return false;
            }
        }
        true
    }

    fn sloppy(&mut self, first_only: bool) -> f32 {
        if self.slots.iter().any(|s| s.positions.is_empty()) {
            return 0.0;
        }
        if self.repeats {
            // Slots of one term start on different places.
            for i in 0..self.slots.len() {
                if !self.resolve(i) {
                    return 0.0;
                }
            }
        }
        let value = |s: &Slot<'_>| s.positions[s.at];
        let mut end = self.slots.iter().map(value).max().expect("not empty");
        let key = |s: &Slot<'_>| (s.positions[s.at], s.offset);
        let behind = |slots: &[Slot<'_>]| (0..slots.len()).min_by_key(|&i| key(&slots[i])).expect("not empty");
        let runner_up = |slots: &[Slot<'_>], but: usize| {
            (0..slots.len()).filter(|&i| i != but).map(|i| value(&slots[i])).min().unwrap_or(i64::MAX)
        };
        let mut freq = 0.0f32;
        let mut lead = behind(&self.slots);
        let mut match_length = end - value(&self.slots[lead]);
        let mut next = runner_up(&self.slots, lead);
        loop {
            self.slots[lead].at += 1;
            if self.slots[lead].at >= self.slots[lead].positions.len() {
                break;
            }
            if self.repeats && !self.resolve(lead) {
                break;
            }
            end = end.max(self.slots.iter().map(value).max().expect("not empty"));
            if value(&self.slots[lead]) > next {
                if match_length <= i64::from(self.slop) {
                    freq += 1.0 / (1.0 + match_length as f32);
                    if first_only {
                        return freq;
                    }
                }
                lead = behind(&self.slots);
                match_length = end - value(&self.slots[lead]);
                next = runner_up(&self.slots, lead);
            } else {
                match_length = match_length.min(end - value(&self.slots[lead]));
            }
        }
        if match_length <= i64::from(self.slop) {
            freq += 1.0 / (1.0 + match_length as f32);
        }
        freq
    }
}

/// Places that all slots, of one term each, agree on.
fn exact_single(slots: &mut [Slot<'_>], first_only: bool) -> f32 {
    for slot in &mut *slots {
        slot.at = 0;
        slot.terms[0].positions(&mut slot.places);
    }
    let (lead, others) = slots.split_first_mut().expect("not empty");
    let mut freq = 0.0;
    'place: for &place in &lead.places {
        let Some(start) = place.checked_sub(lead.offset) else { continue };
        for other in others.iter_mut() {
            let wanted = start.saturating_add(other.offset);
            while other.places.get(other.at).is_some_and(|&p| p < wanted) {
                other.at += 1;
            }
            match other.places.get(other.at) {
                None => return freq,
                Some(&p) if p != wanted => continue 'place,
                Some(_) => {}
            }
        }
        freq += 1.0;
        if first_only {
            return freq;
        }
    }
    freq
}

/// Places that all slots agree on.
fn exact(slots: &mut [Slot<'_>], first_only: bool) -> f32 {
    let (lead, others) = slots.split_first_mut().expect("not empty");
    let mut freq = 0.0;
    'place: for &place in &lead.positions {
        for other in others.iter_mut() {
            // Positions of a document are few; a step is cheaper than a search.
            while other.positions.get(other.at).is_some_and(|&p| p < place) {
                other.at += 1;
            }
            match other.positions.get(other.at) {
                None => return freq,
                Some(&p) if p != place => continue 'place,
                Some(_) => {}
            }
        }
        freq += 1.0;
        if first_only {
            return freq;
        }
    }
    freq
}

//! The loops that find a segment's matches: for one term, for terms that must all match, for terms of which any may, and
//! for everything else. Each stops at a given document so that the caller can give way to others, and goes on from there.
//!
//! Where the sink has a floor, a block of postings whose best possible score does not beat it is skipped undecoded. For
//! disjunctions that is MaxScore: terms too weak to beat the floor even together are not walked, only looked up.

use smallvec::SmallVec;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::cursor::{Cursor, TermCursor, cannot_beat};
use crate::search::open::Segment;
use crate::search::sink::Sink;
use crate::search::weight::Weight;

/// Documents of a disjunction's window: its scores stay in the first-level cache.
const WINDOW: u32 = 2048;
/// Windows of pruned disjunctions are at least this long, or their bounds would cost more than they save.
const WINDOW_MIN: u32 = 256;

/// How a segment's matches are found.
pub(crate) enum Plan<'a> {
    Term(TermCursor<'a>),
    And(Vec<TermCursor<'a>>),
    Or(Box<Disjunction<'a>>),
    Any(AnyPlan<'a>),
    Done,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(segment: &Segment<'a>, weight: &'a Weight, scores: bool) -> Plan<'a> {
        let terms = |weights: &'a [Weight]| -> Vec<Option<TermCursor<'a>>> {
            weights.iter().map(|w| if let Weight::Term(t) = w { segment.term(t, scores) } else { None }).collect()
        };
        let all_terms = |weights: &[Weight]| weights.len() > 1 && weights.iter().all(|w| matches!(w, Weight::Term(_)));
        match weight {
            Weight::Term(term) => match segment.term(term, scores) {
                Some(cursor) => Plan::Term(cursor),
                None => Plan::Done,
            },
            Weight::Bool(b)
                if b.filter.is_empty() && b.must_not.is_empty() && b.should.is_empty() && all_terms(&b.must) =>
            {
                Plan::and(terms(&b.must))
            }
            Weight::Bool(b)
                if b.filter.is_empty() && b.must_not.is_empty() && b.must.is_empty() && all_terms(&b.should) =>
            {
                if b.minimum == b.should.len() {
                    Plan::and(terms(&b.should))
                } else if b.minimum <= 1 {
                    let mut terms: Vec<TermCursor<'a>> = terms(&b.should).into_iter().flatten().collect();
                    match terms.len() {
                        0 => Plan::Done,
                        1 => Plan::Term(terms.pop().expect("one")),
                        _ => Plan::Or(Box::new(Disjunction::new(terms))),
                    }
                } else {
                    Plan::any(segment.open(weight, scores))
                }
            }
            _ => Plan::any(segment.open(weight, scores)),
        }
    }

    fn and(terms: Vec<Option<TermCursor<'a>>>) -> Plan<'a> {
        let Some(mut terms) = terms.into_iter().collect::<Option<Vec<_>>>() else { return Plan::Done };
        terms.sort_by_key(|t| t.postings.doc_freq());
        Plan::And(terms)
    }

    fn any(cursor: Cursor<'a>) -> Plan<'a> {
        if cursor.doc() == NO_MORE_DOCS {
            return Plan::Done;
        }
        Plan::Any(AnyPlan { cursor, block: None })
    }

    /// Gives the sink all matches before `until` that it may want; whether there may be more behind. `scores` as when made.
    pub(crate) fn run<S: Sink>(&mut self, until: DocId, scores: bool, sink: &mut S) -> bool {
        match self {
            Plan::Done => false,
            Plan::Term(cursor) if scores => run_term(cursor, until, sink),
            Plan::Term(cursor) => {
                let mut doc = cursor.doc();
                while doc < until && !sink.full() {
                    let wanted = sink.skip(doc);
                    if wanted > doc {
                        doc = cursor.postings.seek(wanted);
                        continue;
                    }
                    sink.hit(doc, 0.0);
                    doc = cursor.postings.next();
                }
                doc != NO_MORE_DOCS
            }
            Plan::And(terms) => run_and(terms, until, scores, sink),
            Plan::Or(or) if scores => or.run(until, sink),
            Plan::Or(or) => or.run_sets(until, sink),
            Plan::Any(any) => any.run(until, scores, sink),
        }
    }
}

fn run_term<S: Sink>(cursor: &mut TermCursor<'_>, until: DocId, sink: &mut S) -> bool {
    while cursor.doc() < until {
        if sink.full() {
            return false;
        }
        let floor = sink.floor();
        if floor < 0.0 {
            // Everything is wanted; ask again after a while.
            let end = (until - 1).min(cursor.doc().saturating_add(WINDOW));
            cursor.scores_until(end, |doc, score| sink.hit(doc, score));
            continue;
        }
        if cursor.max <= floor {
            return false;
        }
        let mut from = cursor.doc();
        let (mut last, mut bound) = cursor.block(from);
        while bound <= floor {
            from = last.saturating_add(1);
            if from >= until {
                break;
            }
            (last, bound) = cursor.block(from);
        }
        if cursor.postings.seek(from) >= until || bound <= floor {
            continue;
        }
        cursor.scores_until(last.min(until - 1), |doc, score| {
            if score > sink.floor() {
                sink.hit(doc, score);
            }
        });
    }
    cursor.doc() != NO_MORE_DOCS
}

fn run_and<S: Sink>(terms: &mut [TermCursor<'_>], until: DocId, scores: bool, sink: &mut S) -> bool {
    let (lead, others) = terms.split_first_mut().expect("not empty");
    let mut doc = lead.doc();
    // Up to here the bounds of the others hold.
    let mut block_last: Option<DocId> = None;
    let mut others_bound = 0.0f64;
    let mut bounds: SmallVec<[f64; 8]> = SmallVec::from_elem(0.0, others.len());
    'candidate: while doc < until {
        let floor = sink.floor();
        let prune = scores && floor >= 0.0;
        if prune && block_last.is_none_or(|last| doc > last) {
            let (mut last, lead_bound) = lead.block(doc);
            last = last.min(doc.saturating_add(1 << 16));
            block_last = Some(last);
            others_bound = 0.0;
            for (bound, other) in bounds.iter_mut().zip(others.iter_mut()) {
                *bound = f64::from(other.bound(doc, last));
                others_bound += *bound;
            }
            if cannot_beat(f64::from(lead_bound) + others_bound, floor) {
                doc = lead.postings.seek(last + 1);
                continue;
            }
        } else if !prune {
            let wanted = sink.skip(doc);
            if wanted > doc {
                doc = lead.postings.seek(wanted);
                continue;
            }
        }
        // The lead's score alone may tell that the others need not be looked up.
        let mut sum = 0.0f64;
        if prune {
            sum = f64::from(lead.score());
            if cannot_beat(sum + others_bound, floor) {
                doc = lead.postings.next();
                continue;
            }
        }
        for other in others.iter_mut() {
            let at = other.postings.seek(doc);
            if at > doc {
                doc = lead.postings.seek(at);
                continue 'candidate;
            }
        }
        if sink.full() {
            return false;
        }
        if scores {
            if !prune {
                sum = f64::from(lead.score());
            }
            for other in others.iter_mut() {
                sum += f64::from(other.score());
            }
            let score = sum as f32;
            if score > floor {
                sink.hit(doc, score);
            }
        } else {
            sink.hit(doc, 0.0);
        }
        doc = lead.postings.next();
    }
    doc != NO_MORE_DOCS
}

/// Terms of which any may match.
pub(crate) struct Disjunction<'a> {
    /// By ascending best score.
    terms: Vec<TermCursor<'a>>,
    /// Documents before are done.
    base: DocId,
    sums: Box<[f64; WINDOW as usize]>,
    bits: [u64; WINDOW as usize / 64],
}

impl<'a> Disjunction<'a> {
    fn new(mut terms: Vec<TermCursor<'a>>) -> Disjunction<'a> {
        terms.sort_by(|a, b| a.max.total_cmp(&b.max));
        Disjunction {
            terms,
            base: 0,
            sums: vec![0.0; WINDOW as usize].into_boxed_slice().try_into().expect("its length"),
            bits: [0; WINDOW as usize / 64],
        }
    }

    fn run<S: Sink>(&mut self, until: DocId, sink: &mut S) -> bool {
        loop {
            if sink.full() {
                return false;
            }
            let floor = sink.floor();
            // Terms that cannot beat the floor even together do not lead to new documents.
            let mut weak_sum = 0.0;
            let weak = if floor < 0.0 {
                0
            } else {
                self.terms
                    .iter()
                    .take_while(|t| {
                        weak_sum += f64::from(t.max);
                        cannot_beat(weak_sum, floor)
                    })
                    .count()
            };
            let base = self.base;
            let first = self.terms[weak..].iter_mut().map(|t| t.postings.seek(base)).min().unwrap_or(NO_MORE_DOCS);
            if first >= until {
                self.base = self.base.max(until.min(first));
                return first != NO_MORE_DOCS;
            }
            let end = if floor < 0.0 { first.saturating_add(WINDOW - 1) } else { self.window_end(weak, first) };
            let end = end.min(until - 1);
            if floor < 0.0 {
                self.accumulate(0, &[], first, end, floor, sink);
            } else {
                self.pruned_window(first, end, floor, sink);
            }
            self.base = end + 1;
        }
    }

    fn window_end(&mut self, weak: usize, first: DocId) -> DocId {
        let end = self.terms[weak..].iter_mut().map(|t| t.block(first).0).min().unwrap_or(first);
        end.clamp(first.saturating_add(WINDOW_MIN - 1), first.saturating_add(WINDOW - 1))
    }

    fn pruned_window<S: Sink>(&mut self, first: DocId, end: DocId, floor: f32, sink: &mut S) {
        let mut bounds: SmallVec<[(f64, usize); 16]> =
            self.terms.iter_mut().enumerate().map(|(i, t)| (f64::from(t.bound(first, end)), i)).collect();
        let total: f64 = bounds.iter().map(|b| b.0).sum();
        if cannot_beat(total, floor) {
            return;
        }
        bounds.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut weak_sum = 0.0;
        let weak = bounds
            .iter()
            .take_while(|b| {
                weak_sum += b.0;
                cannot_beat(weak_sum, floor)
            })
            .count();
        // Strongest of the weak first: (index, sum of its own and all weaker bounds).
        let mut lookups: SmallVec<[(usize, f64); 16]> = SmallVec::new();
        let mut sum = 0.0;
        for &(bound, index) in &bounds[..weak] {
            sum += bound;
            lookups.push((index, sum));
        }
        lookups.reverse();
        if let [(_, only)] = bounds[weak..] {
            self.single(only, &lookups, first, end, floor, sink);
        } else {
            let mask = bounds[weak..].iter().fold(0u128, |m, b| m | 1u128.checked_shl(b.1 as u32).unwrap_or(0));
            // More terms than the mask has bits: all of them are walked.
            if self.terms.len() > 128 {
                self.accumulate(0, &[], first, end, floor, sink);
            } else {
                self.accumulate(!mask, &lookups, first, end, floor, sink);
            }
        }
    }

    /// One term leads, the others are looked up.
    fn single<S: Sink>(
        &mut self,
        lead: usize,
        lookups: &[(usize, f64)],
        first: DocId,
        end: DocId,
        mut floor: f32,
        sink: &mut S,
    ) {
        let mut doc = self.terms[lead].postings.seek(first);
        while doc <= end {
            let score = f64::from(self.terms[lead].score());
            if let Some(score) = look_up(&mut self.terms, lookups, doc, score, floor)
                && score > floor
            {
                sink.hit(doc, score);
                floor = sink.floor().max(floor);
            }
            doc = self.terms[lead].postings.next();
        }
    }

    /// Adds up the scores of the terms that are not in `weak`, then looks the weak ones up for what may still win.
    fn accumulate<S: Sink>(
        &mut self,
        weak: u128,
        lookups: &[(usize, f64)],
        first: DocId,
        end: DocId,
        mut floor: f32,
        sink: &mut S,
    ) {
        let Disjunction { terms, sums, bits, .. } = self;
        for (i, term) in terms.iter_mut().enumerate() {
            if i < 128 && weak >> i & 1 == 1 {
                continue;
            }
            term.postings.seek(first);
            term.scores_until(end, |doc, score| {
                let at = (doc - first) as usize & (WINDOW as usize - 1);
                bits[at / 64] |= 1 << (at % 64);
                sums[at] += f64::from(score);
            });
        }
        for (index, word) in bits[..=((end - first) / 64) as usize].iter_mut().enumerate() {
            let mut word = std::mem::take(word);
            while word != 0 {
                let at = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                let sum = std::mem::take(&mut sums[at]);
                let doc = first + at as u32;
                if let Some(score) = look_up(terms, lookups, doc, sum, floor)
                    && score > floor
                {
                    sink.hit(doc, score);
                    floor = sink.floor();
                }
            }
        }
    }

    /// Without scores: a bitmap of each window.
    fn run_sets<S: Sink>(&mut self, until: DocId, sink: &mut S) -> bool {
        loop {
            if sink.full() {
                return false;
            }
            let first = self.terms.iter().map(TermCursor::doc).min().unwrap_or(NO_MORE_DOCS);
            if first >= until {
                return first != NO_MORE_DOCS;
            }
            let wanted = sink.skip(first);
            if wanted > first {
                self.terms.iter_mut().for_each(|t| {
                    t.postings.seek(wanted);
                });
                continue;
            }
            let start = first & !63;
            let end = (start + WINDOW - 1).min(until - 1);
            for term in &mut self.terms {
                term.docs_until(end, |doc| {
                    let at = (doc - start) as usize & (WINDOW as usize - 1);
                    self.bits[at / 64] |= 1 << (at % 64);
                });
            }
            sink.set(start, &self.bits[..=((end - start) / 64) as usize]);
            self.bits.fill(0);
        }
    }
}

/// Adds the weak terms' scores, as long as the floor may still be beaten.
#[inline]
fn look_up(
    terms: &mut [TermCursor<'_>],
    lookups: &[(usize, f64)],
    doc: DocId,
    mut score: f64,
    floor: f32,
) -> Option<f32> {
    for &(index, rest) in lookups {
        if cannot_beat(score + rest, floor) {
            return None;
        }
        let term = &mut terms[index];
        if term.postings.seek(doc) == doc {
            score += f64::from(term.score());
        }
    }
    Some(score as f32)
}

/// Any cursor, block by block where scores are pruned.
pub(crate) struct AnyPlan<'a> {
    cursor: Cursor<'a>,
    /// Last document of the current block, and the bound on its scores.
    block: Option<(DocId, f64)>,
}

impl AnyPlan<'_> {
    fn run<S: Sink>(&mut self, until: DocId, scores: bool, sink: &mut S) -> bool {
        let cursor = &mut self.cursor;
        let mut doc = cursor.doc();
        while doc < until {
            let floor = sink.floor();
            if scores && floor >= 0.0 {
                let (last, bound) = match self.block {
                    Some(block) if doc <= block.0 => block,
                    _ => {
                        let last = cursor.block_end(doc).max(doc).min(doc.saturating_add(1 << 16));
                        *self.block.insert((last, cursor.bound(doc, last)))
                    }
                };
                if cannot_beat(bound, floor) {
                    doc = cursor.seek(last.saturating_add(1));
                    continue;
                }
            }
            let wanted = sink.skip(doc);
            if wanted > doc {
                doc = cursor.seek(wanted);
                continue;
            }
            if sink.full() {
                return false;
            }
            if cursor.matches() {
                let score = if scores { cursor.score() } else { 0.0 };
                if score > floor {
                    sink.hit(doc, score);
                }
            }
            doc = cursor.next();
        }
        doc != NO_MORE_DOCS
    }
}

//! The loops that find a segment's matches: for one term, for terms that must all match, for terms of which any may, and
//! for everything else. Each stops at a given document so that the caller can give way to others, and goes on from there.
//!
//! Where the sink has a floor, a block of postings whose best possible score does not beat it is skipped undecoded. For
//! disjunctions that is MaxScore: terms too weak to beat the floor even together are not walked, only looked up.

use smallvec::SmallVec;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::conjunction::Conjunction;
use crate::search::cursor::{Cursor, TermCursor, cannot_beat, up_to};
use crate::search::exact_phrase::ExactPhrase;
use crate::search::open::Segment;
use crate::search::phrase::{PhraseCursor, PhraseSink};
use crate::search::sink::Sink;
use crate::search::weight::{BoolWeight, Weight};
use crate::store::bitpack::sign_bits;

/// Documents of a disjunction's window: its scores stay in the first-level cache.
const WINDOW: u32 = 2048;
/// Words of a window of bits, and lanes that they are set in: see `PostingsCursor::set_bits`.
pub(crate) const BITS_WORDS: usize = 64;
pub(crate) const LANES: usize = 4;
/// Windows of pruned disjunctions are at least this long, or their bounds would cost more than they save.
const WINDOW_MIN: u32 = 256;

/// A set leads a conjunction where it has so many times fewer documents than the rarest term.
const SET_LEADS: u64 = 16;

/// How a segment's matches are found.
pub(crate) enum Plan<'a> {
    Term(TermCursor<'a>),
    And(Box<Conjunction<'a>>),
    Or(Box<Disjunction<'a>>),
    Exact(Box<ExactPhrase<'a>>),
    Phrase(Box<PhrasePlan<'a>>),
    Any(AnyPlan<'a>),
    Done,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(segment: &Segment<'a>, weight: &'a Weight, scores: bool) -> Plan<'a> {
        let terms = |weights: &'a [Weight]| -> Vec<Option<TermCursor<'a>>> {
            weights.iter().map(|w| if let Weight::Term(t) = w { segment.term(t, scores) } else { None }).collect()
        };
        let are_terms = |weights: &[Weight]| weights.iter().all(|w| matches!(w, Weight::Term(_)));
        let all_terms = |weights: &[Weight]| weights.len() > 1 && are_terms(weights);
        match weight {
            Weight::Term(term) => match segment.term(term, scores) {
                Some(cursor) => Plan::Term(cursor),
                None => Plan::Done,
            },
            Weight::Constant { inner, .. } if !scores => Plan::new(segment, inner, false),
            Weight::Kept(kept) if segment.evaluated(weight).is_none() => Plan::new(segment, &kept.inner, false),
            Weight::Bool(b) if !scores && b.sole().is_some() => Plan::new(segment, b.sole().expect("asked"), false),
            Weight::Bool(b)
                if b.filter.is_empty() && b.must_not.is_empty() && b.should.is_empty() && all_terms(&b.must) =>
            {
                Plan::and(terms(&b.must), scores)
            }
            Weight::Bool(b)
                if b.filter.is_empty() && b.must_not.is_empty() && b.must.is_empty() && all_terms(&b.should) =>
            {
                if b.minimum == b.should.len() {
                    Plan::and(terms(&b.should), scores)
                } else if b.minimum <= 1 {
                    let mut terms: Vec<TermCursor<'a>> = terms(&b.should).into_iter().flatten().collect();
                    match terms.len() {
                        0 => Plan::Done,
                        1 => Plan::Term(terms.pop().expect("one")),
                        _ => Plan::Or(Box::new(Disjunction::new(terms, scores))),
                    }
                } else {
                    Plan::any(segment.open(weight, scores))
                }
            }
            Weight::Phrase(phrase)
                if phrase.slop == 0 && phrase.slots.len() > 1 && phrase.slots.iter().all(|s| s.terms.len() == 1) =>
            {
                segment.exact_phrase(phrase, scores).map_or(Plan::Done, |p| Plan::Exact(Box::new(p)))
            }
            Weight::Phrase(phrase) if phrase.slots.len() > 1 && phrase.slots.iter().all(|s| s.terms.len() == 1) => {
                let terms = phrase.slots.iter().map(|s| Some((segment.term(&s.terms[0], false)?, false)));
                match (terms.collect::<Option<Vec<_>>>(), segment.phrase(phrase, scores)) {
                    (Some(terms), Some(phrase)) => {
                        let docs = Conjunction::new(terms, SmallVec::new());
                        Plan::Phrase(Box::new(PhrasePlan { docs, phrase }))
                    }
                    _ => Plan::Done,
                }
            }
            Weight::Bool(b)
                if b.must_not.is_empty()
                    && (b.should.is_empty() || b.minimum == 0 && (!scores || are_terms(&b.should)))
                    && b.must.len() + b.filter.len() > 0
                    && b.must
                        .iter()
                        .chain(&b.filter)
                        .all(|w| matches!(w, Weight::Term(_)) || segment.evaluated(w).is_some()) =>
            {
                Plan::filtered(segment, b, scores).unwrap_or_else(|| Plan::any(segment.open(weight, scores)))
            }
            _ => Plan::any(segment.open(weight, scores)),
        }
    }

    fn and(terms: Vec<Option<TermCursor<'a>>>, scores: bool) -> Plan<'a> {
        match terms.into_iter().map(|t| Some((t?, scores))).collect::<Option<Vec<_>>>() {
            Some(terms) => Plan::And(Box::new(Conjunction::new(terms, SmallVec::new()).counting(!scores))),
            None => Plan::Done,
        }
    }

    /// Terms and sets that must all match, if a term should lead.
    fn filtered(segment: &Segment<'a>, weight: &'a BoolWeight, scores: bool) -> Option<Plan<'a>> {
        let mut terms = Vec::new();
        let mut sets: SmallVec<[Cursor<'a>; 2]> = SmallVec::new();
        for (weights, scores) in [(&weight.must, scores), (&weight.filter, false)] {
            for w in weights {
                match w {
                    Weight::Term(t) => match segment.term(t, scores) {
                        Some(term) => terms.push((term, scores)),
                        None => return Some(Plan::Done),
                    },
                    // A set with a score has it for every document; that is left to the cursors.
                    _ if scores => return None,
                    _ => match segment.open(w, false) {
                        Cursor::Empty => return Some(Plan::Done),
                        set => sets.push(set),
                    },
                }
            }
        }
        let rarest = terms.iter().map(|t| u64::from(t.0.postings.doc_freq())).min()?;
        if sets.iter().any(|s| !matches!(s, Cursor::Column(_)) && s.cost() < rarest / SET_LEADS) {
            return None;
        }
        sets.sort_by_key(|s| matches!(s, Cursor::Column(_)));
        let mut optional = Vec::new();
        if scores {
            for w in &weight.should {
                let Weight::Term(t) = w else { return None };
                optional.extend(segment.term(t, true));
            }
        }
        Some(Plan::And(Box::new(Conjunction::new(terms, sets).with_optional(optional).counting(!scores))))
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
                while cursor.doc() < until && !sink.full() {
                    let wanted = sink.skip(cursor.doc());
                    if wanted > cursor.doc() {
                        cursor.postings.seek(wanted);
                        continue;
                    }
                    let docs = cursor.postings.block_docs();
                    let count = up_to(docs, until - 1);
                    sink.hits(&docs[..count]);
                    cursor.postings.advance(count);
                }
                cursor.doc() != NO_MORE_DOCS
            }
            Plan::And(and) => and.run(until, scores, sink),
            Plan::Or(or) if scores => or.run(until, sink),
            Plan::Or(or) => or.run_sets(until, sink),
            Plan::Exact(phrase) => phrase.run(until, sink),
            Plan::Phrase(plan) => {
                let PhrasePlan { docs, phrase } = &mut **plan;
                docs.run(until, false, &mut PhraseSink { phrase, scores, sink })
            }
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
        let from = cursor.next_above(cursor.doc(), f64::from(floor));
        if cursor.postings.seek(from) >= until {
            continue;
        }
        let last = cursor.block(cursor.doc()).0;
        let mut floor = floor;
        cursor.scores_from(last.min(until - 1), f64::from(floor), |doc, score| {
            if score > floor {
                sink.hit(doc, score);
                floor = sink.floor();
            }
        });
    }
    cursor.doc() != NO_MORE_DOCS
}

/// Terms of which any may match.
pub(crate) struct Disjunction<'a> {
    /// By ascending best score.
    terms: Vec<TermCursor<'a>>,
    /// Documents before are done.
    base: DocId,
    /// Only with scores.
    sums: Box<[f64]>,
    /// 255 for each document of the window that matches. To set bits one after another in one word, each would wait for the
    /// one before. Only with scores.
    marks: Box<[u8]>,
    /// Documents of a window that may win, with what is known of their scores.
    likely: Vec<(DocId, f32)>,
}

impl<'a> Disjunction<'a> {
    fn new(mut terms: Vec<TermCursor<'a>>, scores: bool) -> Disjunction<'a> {
        terms.sort_by(|a, b| a.max.total_cmp(&b.max));
        Disjunction {
            terms,
            base: 0,
            sums: if scores { vec![0.0; WINDOW as usize].into() } else { Box::default() },
            marks: if scores { vec![0; WINDOW as usize].into() } else { Box::default() },
            likely: Vec::new(),
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
        let Disjunction { terms, likely, .. } = self;
        let least = needed(floor, lookups.first().map_or(0.0, |l| l.1));
        likely.clear();
        terms[lead].postings.seek(first);
        terms[lead].scores_from(end, least, |doc, score| {
            if f64::from(score) >= least {
                likely.push((doc, score));
            }
        });
        for &(doc, score) in &*likely {
            if let Some(score) = look_up(terms, lookups, doc, f64::from(score), floor)
                && score > floor
            {
                sink.hit(doc, score);
                floor = sink.floor().max(floor);
            }
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
        let Disjunction { terms, sums, marks, .. } = self;
        let sums: &mut [f64; WINDOW as usize] = (&mut **sums).try_into().expect("with scores");
        let marks: &mut [u8; WINDOW as usize] = (&mut **marks).try_into().expect("with scores");
        for (i, term) in terms.iter_mut().enumerate() {
            if i < 128 && weak >> i & 1 == 1 {
                continue;
            }
            term.postings.seek(first);
            term.scores_until(end, |doc, score| {
                let at = (doc - first) as usize & (WINDOW as usize - 1);
                marks[at] = 255;
                sums[at] += f64::from(score);
            });
        }
        let rest = lookups.first().map_or(0.0, |l| l.1);
        let mut least = needed(floor, rest);
        for (index, marks) in marks.as_chunks_mut::<64>().0[..=((end - first) / 64) as usize].iter_mut().enumerate() {
            let mut word = sign_bits(marks);
            if word == 0 {
                continue;
            }
            marks.fill(0);
            while word != 0 {
                let at = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                let sum = std::mem::take(&mut sums[at]);
                if sum < least {
                    continue;
                }
                let doc = first + at as u32;
                if let Some(score) = look_up(terms, lookups, doc, sum, floor)
                    && score > floor
                {
                    sink.hit(doc, score);
                    floor = sink.floor();
                    least = needed(floor, rest);
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
            let base = first & !63;
            let mut lanes = [[0; BITS_WORDS]; LANES];
            for term in &mut self.terms {
                term.postings.set_bits(base, &mut lanes);
            }
            sink.set(base, &merge(&lanes));
        }
    }
}

/// All lanes of a window in one.
#[inline]
pub(crate) fn merge(lanes: &[[u64; BITS_WORDS]; LANES]) -> [u64; BITS_WORDS] {
    std::array::from_fn(|i| lanes.iter().fold(0, |word, lane| word | lane[i]))
}

/// Below this a sum cannot beat `floor` even with `rest` added; see [`cannot_beat`], which is exact.
#[inline]
fn needed(floor: f32, rest: f64) -> f64 {
    if floor < 0.0 { f64::NEG_INFINITY } else { f64::from(floor) * (1.0 - 1e-9) - rest }
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

/// Documents that all slots of a sloppy phrase have, and the phrase to check them for.
pub(crate) struct PhrasePlan<'a> {
    docs: Conjunction<'a>,
    phrase: PhraseCursor<'a>,
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
                if let Cursor::Optional(optional) = cursor {
                    let strong = optional.skip_weak(floor);
                    if strong > doc {
                        doc = strong;
                        continue;
                    }
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
                let score = if scores { cursor.score_above(floor) } else { (0.0 > floor).then_some(0.0) };
                if let Some(score) = score {
                    sink.hit(doc, score);
                }
            }
            doc = cursor.next();
        }
        doc != NO_MORE_DOCS
    }
}

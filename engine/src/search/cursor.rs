//! Walking the matches of a compiled query in one segment, in document order.
//!
//! - A cursor stands on its first document from the start; `NO_MORE_DOCS` is the end.
//! - `next` and `seek` move over *candidates*; [`Cursor::matches`] tells whether the candidate is a match. It is asked at
//!   most once per candidate, and before [`Cursor::score`]. Most kinds have no false candidates ([`Cursor::is_exact`]).
//! - `score` is asked at most once per match.
//!
//! Kinds are an enum, not trait objects: the loops that matter (`bulk.rs`) take terms out of it and call nothing through it.

use std::ops::RangeInclusive;

use smallvec::SmallVec;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bm25::{self, Bm25};
use crate::search::doc_set::DocSet;
use crate::search::leaf::in_ranges;
use crate::search::phrase::PhraseCursor;
use crate::search::synonym::SynonymCursor;
use crate::segment::bounds::Scale;
use crate::segment::reader::{NumberColumn, PostingsCursor};
use crate::store::bitpack::{BLOCK_LEN, sign_bits};

pub(crate) enum Cursor<'a> {
    Empty,
    All { doc: DocId, end: DocId, score: f32 },
    Term(TermCursor<'a>),
    Set { set: &'a DocSet, doc: DocId, cost: u64 },
    List { docs: &'a [DocId], at: usize },
    Column(ColumnCursor<'a>),
    Synonyms(Box<SynonymCursor<'a>>),
    Phrase(Box<PhraseCursor<'a>>),
    And(Box<AndCursor<'a>>),
    Or(Box<OrCursor<'a>>),
    Not(Box<NotCursor<'a>>),
    Optional(Box<OptionalCursor<'a>>),
    Boosting(Box<BoostingCursor<'a>>),
    Constant { inner: Box<Cursor<'a>>, score: f32 },
}

/// Documents that a conjunction tries before it gives the loop around it a turn.
pub(crate) const ALIGN_TRIES: u32 = 1024;

/// The least document of a cursor's children.
fn least(docs: &[DocId]) -> DocId {
    docs.iter().fold(NO_MORE_DOCS, |a, &b| a.min(b))
}

impl<'a> Cursor<'a> {
    pub(crate) fn all(doc_count: u32, score: f32) -> Cursor<'a> {
        if doc_count == 0 { Cursor::Empty } else { Cursor::All { doc: 0, end: doc_count, score } }
    }

    pub(crate) fn set(set: &'a DocSet, cost: u64) -> Cursor<'a> {
        Cursor::Set { set, doc: set.next_from(0), cost }
    }

    /// Current candidate.
    #[inline]
    pub(crate) fn doc(&self) -> DocId {
        match self {
            Cursor::Empty => NO_MORE_DOCS,
            Cursor::All { doc, .. } | Cursor::Set { doc, .. } => *doc,
            Cursor::Term(c) => c.doc(),
            Cursor::List { docs, at } => docs.get(*at).copied().unwrap_or(NO_MORE_DOCS),
            Cursor::Column(c) => c.doc,
            Cursor::Synonyms(c) => c.doc,
            Cursor::Phrase(c) => c.doc(),
            Cursor::And(c) => c.doc,
            Cursor::Or(c) => c.doc,
            Cursor::Not(c) => c.include.doc(),
            Cursor::Optional(c) => c.required.doc(),
            Cursor::Boosting(c) => c.positive.doc(),
            Cursor::Constant { inner, .. } => inner.doc(),
        }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> DocId {
        match self {
            Cursor::Empty => NO_MORE_DOCS,
            Cursor::All { doc, end, .. } => {
                *doc = if *doc < *end - 1 { *doc + 1 } else { NO_MORE_DOCS };
                *doc
            }
            Cursor::Term(c) => c.postings.next(),
            Cursor::Set { set, doc, .. } => {
                *doc = if *doc == NO_MORE_DOCS { NO_MORE_DOCS } else { set.next_from(*doc + 1) };
                *doc
            }
            Cursor::List { docs, at } => {
                *at += usize::from(*at < docs.len());
                docs.get(*at).copied().unwrap_or(NO_MORE_DOCS)
            }
            Cursor::Column(c) => c.seek(c.doc.saturating_add(1)),
            Cursor::Synonyms(c) => c.next(),
            Cursor::Phrase(c) => c.next(),
            Cursor::And(c) => c.next(),
            Cursor::Or(c) => c.next(),
            Cursor::Not(c) => c.include.next(),
            Cursor::Optional(c) => c.required.next(),
            Cursor::Boosting(c) => c.positive.next(),
            Cursor::Constant { inner, .. } => inner.next(),
        }
    }

    /// First candidate >= target; never moves backwards.
    #[inline]
    pub(crate) fn seek(&mut self, target: DocId) -> DocId {
        match self {
            Cursor::Empty => NO_MORE_DOCS,
            Cursor::All { doc, end, .. } => {
                if *doc < target {
                    *doc = if target < *end { target } else { NO_MORE_DOCS };
                }
                *doc
            }
            Cursor::Term(c) => c.postings.seek(target),
            Cursor::Set { set, doc, .. } => {
                if *doc < target {
                    *doc = set.next_from(target);
                }
                *doc
            }
            Cursor::List { docs, at } => {
                *at += docs[*at..].partition_point(|&d| d < target);
                docs.get(*at).copied().unwrap_or(NO_MORE_DOCS)
            }
            Cursor::Column(c) => c.seek(target),
            Cursor::Synonyms(c) => c.seek(target),
            Cursor::Phrase(c) => c.seek(target),
            Cursor::And(c) => c.seek(target),
            Cursor::Or(c) => c.seek(target),
            Cursor::Not(c) => c.include.seek(target),
            Cursor::Optional(c) => c.required.seek(target),
            Cursor::Boosting(c) => c.positive.seek(target),
            Cursor::Constant { inner, .. } => inner.seek(target),
        }
    }

    /// Whether the candidate matches.
    #[inline]
    pub(crate) fn matches(&mut self) -> bool {
        match self {
            Cursor::Empty
            | Cursor::All { .. }
            | Cursor::Term(_)
            | Cursor::Synonyms(_)
            | Cursor::Set { .. }
            | Cursor::List { .. } => true,
            Cursor::Column(c) => c.matches(),
            Cursor::Phrase(c) => c.matches(),
            Cursor::And(c) => c.matches(),
            Cursor::Or(c) => c.matches(),
            Cursor::Not(c) => c.matches(),
            Cursor::Optional(c) => c.required.matches(),
            Cursor::Boosting(c) => c.positive.matches(),
            Cursor::Constant { inner, .. } => inner.matches(),
        }
    }

    /// Whether every candidate matches.
    pub(crate) fn is_exact(&self) -> bool {
        match self {
            Cursor::Empty
            | Cursor::All { .. }
            | Cursor::Term(_)
            | Cursor::Synonyms(_)
            | Cursor::Set { .. }
            | Cursor::List { .. } => true,
            Cursor::Column(_) | Cursor::Phrase(_) | Cursor::Not(_) | Cursor::And(_) => false,
            Cursor::Or(c) => c.exact,
            Cursor::Optional(c) => c.required.is_exact(),
            Cursor::Boosting(c) => c.positive.is_exact(),
            Cursor::Constant { inner, .. } => inner.is_exact(),
        }
    }

    /// Score of the match.
    pub(crate) fn score(&mut self) -> f32 {
        match self {
            Cursor::Empty | Cursor::Set { .. } | Cursor::List { .. } | Cursor::Column(_) => 0.0,
            Cursor::All { score, .. } | Cursor::Constant { score, .. } => *score,
            Cursor::Term(c) => c.score(),
            Cursor::Synonyms(c) => c.score(),
            Cursor::Phrase(c) => c.score(),
            Cursor::And(c) => c.score(),
            Cursor::Or(c) => c.score(),
            Cursor::Not(c) => c.include.score(),
            Cursor::Optional(c) => c.score(),
            Cursor::Boosting(c) => c.score(),
        }
    }

    /// Score of the match if it is above `floor`, or none; it need not be worked out to its end where it is not.
    #[inline]
    pub(crate) fn score_above(&mut self, floor: f32) -> Option<f32> {
        let score = match self {
            Cursor::Optional(c) => c.score_above(floor)?,
            other => other.score(),
        };
        (score > floor).then_some(score)
    }

    /// About how many candidates there are in all.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Cursor::Empty => 0,
            Cursor::All { end, .. } => u64::from(*end),
            Cursor::Term(c) => u64::from(c.postings.doc_freq()),
            Cursor::Set { cost, .. } => *cost,
            Cursor::List { docs, .. } => docs.len() as u64,
            Cursor::Column(c) => u64::from(c.end),
            Cursor::Synonyms(c) => c.cost(),
            Cursor::Phrase(c) => c.cost(),
            Cursor::And(c) => c.children.first().map_or(0, |c| c.0.cost()),
            Cursor::Or(c) => c.children.iter().map(Cursor::cost).sum(),
            Cursor::Not(c) => c.include.cost(),
            Cursor::Optional(c) => c.required.cost(),
            Cursor::Boosting(c) => c.positive.cost(),
            Cursor::Constant { inner, .. } => inner.cost(),
        }
    }

    /// No match scores more.
    pub(crate) fn max_score(&self) -> f64 {
        match self {
            Cursor::Empty | Cursor::Set { .. } | Cursor::List { .. } | Cursor::Column(_) => 0.0,
            Cursor::All { score, .. } | Cursor::Constant { score, .. } => f64::from(*score),
            Cursor::Term(c) => f64::from(c.max),
            Cursor::Synonyms(c) => f64::from(c.max_score()),
            Cursor::Phrase(c) => f64::from(c.max_score()),
            Cursor::And(c) => c.children.iter().filter(|c| c.1).map(|c| c.0.max_score()).sum(),
            Cursor::Or(c) => c.children.iter().map(Cursor::max_score).sum(),
            Cursor::Not(c) => c.include.max_score(),
            Cursor::Optional(c) => c.required.max_score() + c.optional.max_score(),
            Cursor::Boosting(c) => c.positive.max_score() * f64::from(c.factor).max(1.0),
        }
    }
}

/// Block-max pruning: bounds on the scores of a stretch of documents. Documents asked about never go backwards.
impl Cursor<'_> {
    /// A stretch that starts at `from` (the current document or later) and has one cheap bound: its last document.
    pub(crate) fn block_end(&mut self, from: DocId) -> DocId {
        match self {
            Cursor::Term(c) => c.block(from).0,
            Cursor::Phrase(c) => c.block(from).0,
            // The cheapest child that scores has the widest blocks.
            Cursor::And(c) => {
                c.children.iter_mut().filter(|c| c.1).map(|c| c.0.block_end(from)).max().unwrap_or(NO_MORE_DOCS - 1)
            }
            Cursor::Or(c) => c
                .children
                .iter_mut()
                .map(|c| c.block_end(from))
                .min()
                .unwrap_or(NO_MORE_DOCS - 1)
                .max(from.saturating_add(511)),
            Cursor::Not(c) => c.include.block_end(from),
            Cursor::Optional(c) => {
                c.required.block_end(from).min(c.optional.block_end(from)).max(from.saturating_add(511))
            }
            Cursor::Boosting(c) => c.positive.block_end(from),
            _ => NO_MORE_DOCS - 1,
        }
    }

    /// No match from `from` to `to` (both included) scores more.
    pub(crate) fn bound(&mut self, from: DocId, to: DocId) -> f64 {
        match self {
            Cursor::Term(c) => f64::from(c.bound(from, to)),
            Cursor::Phrase(c) => f64::from(c.bound(from, to)),
            Cursor::And(c) => c.children.iter_mut().filter(|c| c.1).map(|c| c.0.bound(from, to)).sum(),
            Cursor::Or(c) => {
                let bounds = c.children.iter_mut().map(|c| c.bound(from, to));
                match c.combine {
                    Combine::Best(0.0) => bounds.fold(0.0, f64::max),
                    // With a tie breaker up to 1 the sum is a bound; above, the tie breaker times the sum.
                    Combine::Best(tie) => bounds.sum::<f64>() * f64::from(tie).max(1.0),
                    Combine::Sum => bounds.sum(),
                }
            }
            Cursor::Not(c) => c.include.bound(from, to),
            Cursor::Optional(c) => {
                let required = if c.scores { c.required.bound(from, to) } else { 0.0 };
                let optional = c.optional.bound(from, to);
                c.bounded = Bounded { docs: from..=to, required, optional };
                required + optional
            }
            Cursor::Boosting(c) => c.positive.bound(from, to) * f64::from(c.factor).max(1.0),
            _ => self.max_score(),
        }
    }
}

/// What the lengths of the documents' fields add to the frequency; as many as documents.
#[inline]
fn lengths_of<'b, const N: usize>(
    norms: Option<&[u8]>,
    table: &[f32; 256],
    docs: &[DocId],
    out: &'b mut [f32; N],
) -> &'b mut [f32] {
    let out = &mut out[..docs.len()];
    match norms {
        Some(norms) => {
            out.iter_mut().zip(docs).for_each(|(length, &doc)| *length = table[norms[doc as usize] as usize]);
        }
        None => out.fill(table[1]),
    }
    out
}

/// 255 where the frequency is at least `share` of the length, else 0.
#[inline]
fn reach(lengths: &[f32], freqs: &[u32], share: f32, keeps: &mut [u8]) {
    for ((keep, &length), &freq) in keeps.iter_mut().zip(lengths).zip(freqs) {
        *keep = if freq as f32 >= length * share { 255 } else { 0 };
    }
}

/// Whether a bound, a sum in some order, cannot beat `floor`: the true score is the same sum in another order.
#[inline]
pub(crate) fn cannot_beat(bound: f64, floor: f32) -> bool {
    (bound * (1.0 + 1e-12)) as f32 <= floor
}

/// A term's postings with what scores them.
pub(crate) struct TermCursor<'a> {
    pub postings: Box<PostingsCursor<'a>>,
    norms: Option<&'a [u8]>,
    table: &'a [f32; 256],
    weight: f32,
    /// What makes bounds of blocks ones of scores.
    scale: Scale,
    /// Frequency and norm of a document that is not good enough any more.
    weak: (u8, u8),
    /// No document scores more; 0 for a term that does not score.
    pub max: f32,
}

/// For terms that do not score.
static NO_TABLE: [f32; 256] = [1.0; 256];

impl<'a> TermCursor<'a> {
    /// Stands on the first document.
    pub(crate) fn new(
        mut postings: Box<PostingsCursor<'a>>,
        norms: Option<&'a [u8]>,
        bm25: Option<&'a Bm25>,
    ) -> TermCursor<'a> {
        postings.next();
        let (scale, max) = bm25.map_or((Scale::default(), 0.0), |b| score_bounds(&mut postings, norms, b));
        TermCursor {
            postings,
            norms,
            table: bm25.map_or(&NO_TABLE, |b| &b.norms.0),
            weight: bm25.map_or(0.0, |b| b.weight),
            scale,
            weak: (0, 0),
            max,
        }
    }

    #[inline]
    pub(crate) fn doc(&self) -> DocId {
        self.postings.doc()
    }

    #[inline]
    pub(crate) fn norm(&self, doc: DocId) -> u8 {
        // Without norms every field counts as one term long.
        self.norms.map_or(1, |n| n[doc as usize])
    }

    #[inline]
    pub(crate) fn score(&mut self) -> f32 {
        let norm = self.table[self.norm(self.postings.doc()) as usize];
        bm25::score(self.weight, self.postings.freq() as f32, norm)
    }

    /// Adds the scores that `freqs` occurrences in `docs`, at most a block of them, have.
    #[inline]
    pub(crate) fn add_scores(&self, docs: &[DocId], freqs: &[u32], sums: &mut [f64]) {
        let mut lengths = [0.0; BLOCK_LEN];
        let lengths = lengths_of(self.norms, self.table, docs, &mut lengths);
        // By itself, so that several are divided at once.
        for ((sum, &length), &freq) in sums.iter_mut().zip(&*lengths).zip(freqs) {
            *sum += f64::from(bm25::score(self.weight, freq as f32, length));
        }
    }

    /// Sets the highest bit of `keeps` of the documents, at most a block of them, that may score `least`, and of few others.
    #[inline]
    pub(crate) fn may_score(&self, docs: &[DocId], freqs: &[u32], least: f64, keeps: &mut [u8]) {
        let mut lengths = [0.0; BLOCK_LEN];
        let lengths = lengths_of(self.norms, self.table, docs, &mut lengths);
        reach(lengths, freqs, self.least_share(least), keeps);
    }

    /// How often a term must be in a field to score `least`, per unit of what the field's length adds to the frequency:
    /// `weight * f / (f + k) >= least` without a division for each. Lower by more than `f32` rounds off.
    fn least_share(&self, least: f64) -> f32 {
        let (weight, least) = (f64::from(self.weight), least - least.abs() * 1e-6);
        if least < weight { (least / (weight - least) * (1.0 - 1e-5)) as f32 } else { f32::INFINITY }
    }

    /// Calls `visit` with each document up to `end` (included) and its score; stands on the first behind it. Block by
    /// block, so that the arithmetic is done on many documents at once.
    #[inline]
    pub(crate) fn scores_until(&mut self, end: DocId, mut visit: impl FnMut(DocId, f32)) {
        let mut scores = [0.0f32; BLOCK_LEN];
        while self.doc() <= end {
            let (docs, freqs) = self.postings.block();
            let count = up_to(docs, end);
            let scores = lengths_of(self.norms, self.table, &docs[..count], &mut scores);
            for (score, &freq) in scores.iter_mut().zip(freqs) {
                *score = bm25::score(self.weight, freq as f32, *score);
            }
            docs.iter().zip(scores).for_each(|(&doc, score)| visit(doc, *score));
            self.postings.advance(count);
        }
    }

    /// Calls `visit` with each document up to `end` (included) that may score at least `least`, and its score; stands on the
    /// first behind `end`. Documents that have the term too seldom, however short their field, cost next to nothing.
    #[inline]
    pub(crate) fn scores_from(&mut self, end: DocId, least: f64, mut visit: impl FnMut(DocId, f32)) {
        if least <= 0.0 {
            return self.scores_until(end, visit);
        }
        let share = self.least_share(least);
        // In the shortest of fields.
        let seldom = (self.table[0] * share) as u32;
        while self.doc() <= end {
            let (docs, freqs) = self.postings.block();
            let count = up_to(docs, end);
            for (docs, freqs) in docs[..count].chunks(64).zip(freqs[..count].chunks(64)) {
                let mut keeps = [0u8; 64];
                if seldom > 1 {
                    keeps.iter_mut().zip(freqs).for_each(|(o, &f)| *o = if f >= seldom { 255 } else { 0 });
                } else {
                    let mut lengths = [0.0; 64];
                    let lengths = lengths_of(self.norms, self.table, docs, &mut lengths);
                    reach(lengths, freqs, share, &mut keeps);
                }
                let mut word = sign_bits(&keeps);
                while word != 0 {
                    let at = word.trailing_zeros() as usize;
                    word &= word - 1;
                    let doc = docs[at & 63];
                    let norm = self.norms.map_or(1, |n| n[doc as usize]);
                    visit(doc, bm25::score(self.weight, freqs[at & 63] as f32, self.table[norm as usize]));
                }
            }
            self.postings.advance(count);
        }
    }

    /// The block around `target`, which must not fall from call to call: its last document, and a bound on scores in it.
    #[inline]
    pub(crate) fn block(&mut self, target: DocId) -> (DocId, f32) {
        block_score(&mut self.postings, self.scale, self.max, target)
    }

    /// Bound on scores from `from` (not falling from call to call) to `to`, both included.
    #[inline]
    pub(crate) fn bound(&mut self, from: DocId, to: DocId) -> f32 {
        match self.postings.range_bound(from, to) {
            Some(bound) => self.scale.score(bound),
            None => self.block(from).1,
        }
    }

    /// The first document from `target` on that is in a block that may have a score above `floor`; `NO_MORE_DOCS` if there
    /// is none. Floors must not fall.
    #[inline]
    pub(crate) fn next_above(&mut self, target: DocId, floor: f64) -> DocId {
        let TermCursor { postings, table, weight, weak, scale, .. } = self;
        postings.next_above(target, scale.at_most(floor), |freq, norm| {
            // Many blocks have the same best document, and often it is just as good as what the floor is of.
            if *weak == (freq, norm) {
                return true;
            }
            let hopeless = f64::from(bm25::score(*weight, f32::from(freq), table[norm as usize])) <= floor;
            if hopeless {
                *weak = (freq, norm);
            }
            hopeless
        })
    }
}

/// The block of `postings` around `target`, which must not fall from call to call: its last document, and a bound on scores in
/// it. `scale` and `max` are those of [`score_bounds`].
#[inline]
pub(crate) fn block_score(postings: &mut PostingsCursor<'_>, scale: Scale, max: f32, target: DocId) -> (DocId, f32) {
    match postings.block_bound(target) {
        Some((last, bound)) => (last, scale.score(bound)),
        // A short list is one block.
        None => match postings.block_last() {
            Some(last) if last >= target => (last, max),
            _ => (NO_MORE_DOCS - 1, 0.0),
        },
    }
}

/// What makes bounds of the postings' blocks ones of scores, and a bound on all scores. Stands on the first document.
pub(crate) fn score_bounds(postings: &mut PostingsCursor<'_>, norms: Option<&[u8]>, bm25: &Bm25) -> (Scale, f32) {
    let scale = Scale::new(bm25.weight, bm25.average_length, postings.bound_average());
    if let Some(bound) = postings.list_bound() {
        return (scale, scale.score(bound));
    }
    // A short list is all there.
    let (docs, freqs) = postings.block();
    let mut best = 0.0f32;
    for (&doc, &freq) in docs.iter().zip(freqs) {
        best = best.max(bm25.score(freq as f32, norms.map_or(1, |n| n[doc as usize])));
    }
    (scale, best)
}

/// How many of `docs` (ascending, the first not behind `end`) are up to `end`.
#[inline]
pub(crate) fn up_to(docs: &[DocId], end: DocId) -> usize {
    match docs.last() {
        Some(&last) if last <= end => docs.len(),
        _ => docs.partition_point(|&d| d <= end),
    }
}

/// Documents whose number is in one of some ranges: every document is a candidate, so it belongs behind another cursor.
pub(crate) struct ColumnCursor<'a> {
    pub column: &'a NumberColumn,
    pub ranges: &'a [RangeInclusive<u64>],
    pub doc: DocId,
    pub end: DocId,
    pub values: Vec<u64>,
}

impl ColumnCursor<'_> {
    /// Calls `keep` for each of `docs`, which ascend, with whether it matches.
    pub(crate) fn test(&mut self, docs: &[DocId], mut keep: impl FnMut(bool)) {
        if self.column.is_single() && self.column.is_full() {
            self.column.gather(docs, &mut self.values);
            if let [only] = self.ranges
                && !only.is_empty()
            {
                let (low, span) = (*only.start(), only.end().wrapping_sub(*only.start()));
                self.values.iter().for_each(|v| keep(v.wrapping_sub(low) <= span));
            } else {
                self.values.iter().for_each(|&v| keep(in_ranges(self.ranges, v)));
            }
            return;
        }
        for &doc in docs {
            self.doc = doc;
            keep(self.matches());
        }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target {
            self.doc = if target < self.end { target } else { NO_MORE_DOCS };
        }
        self.doc
    }

    fn matches(&mut self) -> bool {
        let within = |v: u64| in_ranges(self.ranges, v);
        if self.column.is_single() {
            return self.column.first(self.doc).is_some_and(within);
        }
        self.column.values(self.doc, &mut self.values);
        self.values.iter().any(|&v| within(v))
    }
}

/// Documents that all children have.
pub(crate) struct AndCursor<'a> {
    /// Cheapest first; whether each scores.
    pub children: SmallVec<[(Cursor<'a>, bool); 4]>,
    /// Children with false candidates.
    checks: SmallVec<[usize; 4]>,
    doc: DocId,
    /// Whether all children stand on `doc`.
    aligned: bool,
}

impl<'a> AndCursor<'a> {
    /// `children` must not be empty.
    pub(crate) fn new(mut children: SmallVec<[(Cursor<'a>, bool); 4]>) -> AndCursor<'a> {
        assert!(!children.is_empty());
        // A column has every document as a candidate: last, it is only asked about what the others agree on.
        children.sort_by_key(|c| if matches!(c.0, Cursor::Column(_)) { u64::MAX } else { c.0.cost() });
        let checks = (0..children.len()).filter(|&i| !children[i].0.is_exact()).collect();
        let first = children[0].0.doc();
        let mut and = AndCursor { children, checks, doc: 0, aligned: false };
        and.align(first);
        and
    }

    /// Leapfrog: from the first child's `doc` to the first document that all have, or a false candidate after many
    /// tries, so that no call takes long.
    fn align(&mut self, mut doc: DocId) -> DocId {
        let (lead, others) = self.children.split_first_mut().expect("not empty");
        let mut tries = 0;
        self.aligned = true;
        'candidate: while doc != NO_MORE_DOCS {
            for (other, _) in others.iter_mut() {
                let at = other.seek(doc);
                if at > doc {
                    doc = lead.0.seek(at);
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

    fn next(&mut self) -> DocId {
        let doc = self.children[0].0.next();
        self.align(doc)
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc >= target {
            return self.doc;
        }
        let doc = self.children[0].0.seek(target);
        self.align(doc)
    }

    fn matches(&mut self) -> bool {
        self.aligned && self.checks.iter().all(|&i| self.children[i].0.matches())
    }

    fn score(&mut self) -> f32 {
        // From 0: a sum of nothing, where all clauses are filters, is -0 otherwise.
        self.children.iter_mut().filter(|c| c.1).fold(0.0, |sum, c| sum + f64::from(c.0.score())) as f32
    }
}

/// How an [`OrCursor`] scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Combine {
    Sum,
    /// The best, plus this much of the others.
    Best(f32),
}

/// Documents that at least `minimum` children have.
pub(crate) struct OrCursor<'a> {
    children: Vec<Cursor<'a>>,
    /// Of the children.
    docs: Vec<DocId>,
    /// Which children match the current document, after `matches`.
    hits: Vec<bool>,
    doc: DocId,
    minimum: usize,
    combine: Combine,
    exact: bool,
}

impl<'a> OrCursor<'a> {
    pub(crate) fn new(mut children: Vec<Cursor<'a>>, minimum: usize, combine: Combine) -> OrCursor<'a> {
        children.retain(|c| c.doc() != NO_MORE_DOCS);
        let docs: Vec<DocId> = children.iter().map(Cursor::doc).collect();
        let exact = minimum <= 1 && children.iter().all(Cursor::is_exact);
        let doc = if children.len() < minimum { NO_MORE_DOCS } else { least(&docs) };
        OrCursor { hits: vec![true; docs.len()], doc, docs, children, minimum, combine, exact }
    }

    fn next(&mut self) -> DocId {
        if self.doc != NO_MORE_DOCS {
            for (doc, child) in self.docs.iter_mut().zip(&mut self.children) {
                if *doc == self.doc {
                    *doc = child.next();
                }
            }
            self.doc = least(&self.docs);
        }
        self.doc
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target {
            for (doc, child) in self.docs.iter_mut().zip(&mut self.children) {
                if *doc < target {
                    *doc = child.seek(target);
                }
            }
            self.doc = least(&self.docs);
        }
        self.doc
    }

    fn matches(&mut self) -> bool {
        if self.exact {
            return true;
        }
        let candidates = self.docs.iter().filter(|&&d| d == self.doc).count();
        if candidates < self.minimum {
            return false;
        }
        let mut count = 0;
        for i in 0..self.children.len() {
            self.hits[i] = self.docs[i] == self.doc && self.children[i].matches();
            count += usize::from(self.hits[i]);
        }
        count >= self.minimum.max(1)
    }

    fn score(&mut self) -> f32 {
        let (mut sum, mut best) = (0.0f64, 0.0f32);
        for i in 0..self.children.len() {
            if self.docs[i] == self.doc && self.hits[i] {
                let score = self.children[i].score();
                sum += f64::from(score);
                best = best.max(score);
            }
        }
        match self.combine {
            Combine::Sum => sum as f32,
            Combine::Best(0.0) => best,
            Combine::Best(tie) => (f64::from(best) + (sum - f64::from(best)) * f64::from(tie)) as f32,
        }
    }
}

/// Documents of `include` that `exclude` does not have.
pub(crate) struct NotCursor<'a> {
    pub include: Cursor<'a>,
    pub exclude: Cursor<'a>,
}

impl NotCursor<'_> {
    fn matches(&mut self) -> bool {
        let doc = self.include.doc();
        // The cheaper answer first: whether the exclusion has it as a candidate at all.
        if self.exclude.seek(doc) == doc && self.exclude.matches() {
            return false;
        }
        self.include.matches()
    }
}

/// Documents of `required`, scored higher where `optional` has them.
pub(crate) struct OptionalCursor<'a> {
    pub required: Cursor<'a>,
    /// Whether `required` scores.
    scores: bool,
    optional: Cursor<'a>,
    /// Bounds on all documents.
    all: Bounded,
    /// The bounds that were last asked for.
    bounded: Bounded,
}

/// In these documents neither part of the score is more.
struct Bounded {
    docs: RangeInclusive<DocId>,
    required: f64,
    optional: f64,
}

impl<'a> OptionalCursor<'a> {
    pub(crate) fn new(required: Cursor<'a>, scores: bool, optional: Cursor<'a>) -> OptionalCursor<'a> {
        let required_max = if scores { required.max_score() } else { 0.0 };
        let all = Bounded { docs: 0..=NO_MORE_DOCS, required: required_max, optional: optional.max_score() };
        let bounded = Bounded { docs: 0..=0, ..all };
        OptionalCursor { required, scores, optional, all, bounded }
    }

    fn score(&mut self) -> f32 {
        let required = if self.scores { self.required.score() } else { 0.0 };
        self.add_optional(required)
    }

    fn add_optional(&mut self, required: f32) -> f32 {
        let doc = self.required.doc();
        if self.optional.seek(doc) == doc && self.optional.matches() {
            required + self.optional.score()
        } else {
            required
        }
    }

    #[inline]
    fn bounds(&self, doc: DocId) -> &Bounded {
        if self.bounded.docs.contains(&doc) { &self.bounded } else { &self.all }
    }

    /// The score, unless what is required and the most that can be added to it are not above `floor`.
    #[inline]
    fn score_above(&mut self, floor: f32) -> Option<f32> {
        let required = if self.scores { self.required.score() } else { 0.0 };
        if beyond(required, self.bounds(self.required.doc()).optional) <= floor {
            return None;
        }
        Some(self.add_optional(required))
    }

    /// Moves on to a document that may score above `floor`: where what is required is not enough, to one that `optional`
    /// has too. Or to a false candidate after many tries, so that no call takes long.
    pub(crate) fn skip_weak(&mut self, floor: f32) -> DocId {
        let mut doc = self.required.doc();
        for _ in 0..ALIGN_TRIES {
            let bounds = self.bounds(doc);
            if doc == NO_MORE_DOCS || !cannot_beat(bounds.required, floor) {
                break;
            }
            let behind = bounds.docs.end().saturating_add(1);
            let optional = self.optional.seek(doc);
            if optional == doc {
                break;
            }
            // Documents behind have bounds of their own, unless nothing required is enough anywhere.
            let target = if cannot_beat(self.all.required, floor) { optional } else { optional.min(behind) };
            doc = self.required.seek(target);
        }
        doc
    }
}

/// At least the sum that [`OptionalCursor::score`] makes of `required` and up to `most`, which is rounded twice.
#[inline]
fn beyond(required: f32, most: f64) -> f32 {
    required + (most * (1.0 + 1e-12)) as f32
}

/// Documents of `positive`, scored lower where `negative` has them.
pub(crate) struct BoostingCursor<'a> {
    pub positive: Cursor<'a>,
    pub negative: Cursor<'a>,
    pub factor: f32,
}

impl BoostingCursor<'_> {
    fn score(&mut self) -> f32 {
        let doc = self.positive.doc();
        let score = self.positive.score();
        if self.negative.seek(doc) == doc && self.negative.matches() { score * self.factor } else { score }
    }
}

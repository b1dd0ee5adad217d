//! Opens a compiled query on one segment: weights become cursors.

use smallvec::SmallVec;

use crate::search::bm25::Bm25;
use crate::search::cursor::{
    AndCursor, BoostingCursor, ColumnCursor, Combine, Cursor, NotCursor, OptionalCursor, OrCursor, TermCursor,
};
use crate::search::exact_phrase::{ExactPhrase, Word};
use crate::search::leaf::Evaluated;
use crate::search::phrase::{PhraseCursor, Slot};
use crate::search::synonym::SynonymCursor;
use crate::search::weight::{BoolWeight, Leaf, LeafWeight, PhraseSlot, PhraseWeight, TermWeight, Weight};
use crate::segment::reader::{FieldReader, PostingsCursor, SegmentReader, Want};

/// A segment with the query's leaves evaluated on it.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub ordinal: usize,
    pub reader: &'a SegmentReader,
    pub leaves: &'a [Evaluated],
}

impl<'a> Segment<'a> {
    /// The cursor of `weight`; `scores` tells whether its scores will be asked for.
    pub(crate) fn open(&self, weight: &'a Weight, scores: bool) -> Cursor<'a> {
        match weight {
            Weight::None => Cursor::Empty,
            Weight::All { score } => Cursor::all(self.reader.doc_count(), *score),
            Weight::Term(term) => self.term(term, scores).map_or(Cursor::Empty, Cursor::Term),
            Weight::Synonyms(s) => {
                let terms: Vec<TermCursor<'a>> = s.terms.iter().filter_map(|t| self.term(t, scores)).collect();
                match (terms.len(), s.bm25.as_ref().filter(|_| scores)) {
                    (0, _) => Cursor::Empty,
                    (_, None) => {
                        let terms = terms.into_iter().map(Cursor::Term).collect();
                        Cursor::Or(Box::new(OrCursor::new(terms, 1, Combine::Sum)))
                    }
                    (_, Some(bm25)) => {
                        let norms = self.reader.field(&s.field).and_then(FieldReader::norms);
                        Cursor::Synonyms(Box::new(SynonymCursor::new(terms, norms, bm25)))
                    }
                }
            }
            Weight::Phrase(phrase) => {
                self.phrase(phrase, scores).map_or(Cursor::Empty, |p| Cursor::Phrase(Box::new(p)))
            }
            Weight::Leaf(leaf) => {
                let inner = self.leaf(leaf);
                if scores && inner.doc() != crate::ids::NO_MORE_DOCS {
                    Cursor::Constant { inner: Box::new(inner), score: leaf.score }
                } else {
                    inner
                }
            }
            Weight::Kept(kept) => match &self.leaves[kept.slot] {
                Evaluated::Clauses => self.open(&kept.inner, false),
                docs => self.docs(docs),
            },
            Weight::Bool(weight) => self.bool(weight, scores),
            Weight::DisMax { parts, tie } => {
                let parts = parts.iter().map(|p| self.open(p, scores)).collect();
                Cursor::Or(Box::new(OrCursor::new(parts, 1, Combine::Best(*tie))))
            }
            Weight::Boosting { positive, negative, factor } => {
                let positive = self.open(positive, scores);
                if !scores {
                    return positive;
                }
                let negative = self.open(negative, false);
                Cursor::Boosting(Box::new(BoostingCursor { positive, negative, factor: *factor }))
            }
            Weight::Constant { inner, score } => {
                let inner = self.open(inner, false);
                if scores { Cursor::Constant { inner: Box::new(inner), score: *score } } else { inner }
            }
        }
    }

    /// The postings of a term, if the segment has it.
    pub(crate) fn term(&self, term: &'a TermWeight, scores: bool) -> Option<TermCursor<'a>> {
        let bm25 = term.bm25.as_ref().filter(|_| scores);
        let postings = self.postings(term, if bm25.is_some() { Want::Freqs } else { Want::Docs })?;
        let norms = self.reader.field(&term.field).and_then(FieldReader::norms);
        Some(TermCursor::new(postings, norms, bm25))
    }

    fn postings(&self, term: &'a TermWeight, want: Want) -> Option<Box<PostingsCursor<'a>>> {
        let info = term.infos[self.ordinal].as_ref()?;
        let index = self.reader.field(&term.field)?.terms()?;
        Some(Box::new(index.postings(info, want)))
    }

    pub(crate) fn phrase(&self, phrase: &'a PhraseWeight, scores: bool) -> Option<PhraseCursor<'a>> {
        let mut slots = Vec::with_capacity(phrase.slots.len());
        for slot in &phrase.slots {
            let mut terms: SmallVec<[Box<PostingsCursor<'a>>; 1]> = SmallVec::new();
            let mut keys = Vec::new();
            for term in &slot.terms {
                if let Some(postings) = self.postings(term, Want::Positions) {
                    terms.push(postings);
                    keys.push(&term.term[..]);
                }
            }
            if terms.is_empty() {
                return None;
            }
            slots.push(Slot::new(slot.offset, terms, keys));
        }
        let norms = self.reader.field(&phrase.field).and_then(FieldReader::norms);
        let bm25: Option<&'a Bm25> = phrase.bm25.as_ref().filter(|_| scores);
        (!slots.is_empty()).then(|| PhraseCursor::new(slots, phrase.slop, norms, bm25))
    }

    /// A phrase of single terms without slop, if the segment has all terms.
    pub(crate) fn exact_phrase(&self, phrase: &'a PhraseWeight, scores: bool) -> Option<ExactPhrase<'a>> {
        let word = |slot: &'a PhraseSlot| {
            Some(Word { offset: slot.offset, postings: self.postings(slot.terms.first()?, Want::Positions)? })
        };
        let words = phrase.slots.iter().map(word).collect::<Option<Vec<_>>>()?;
        let norms = self.reader.field(&phrase.field).and_then(FieldReader::norms);
        Some(ExactPhrase::new(words, norms, phrase.bm25.as_ref().filter(|_| scores)))
    }

    /// What was evaluated for `weight`, if it is a leaf or stands in the cache as one.
    pub(crate) fn evaluated(&self, weight: &Weight) -> Option<&'a Evaluated> {
        match weight {
            Weight::Leaf(leaf) => Some(&self.leaves[leaf.slot]),
            Weight::Kept(kept) => Some(&self.leaves[kept.slot]).filter(|e| !matches!(e, Evaluated::Clauses)),
            _ => None,
        }
    }

    fn docs(&self, docs: &'a Evaluated) -> Cursor<'a> {
        match docs {
            Evaluated::Nothing | Evaluated::Column | Evaluated::Clauses => Cursor::Empty,
            Evaluated::Everything => Cursor::all(self.reader.doc_count(), 0.0),
            Evaluated::Set(set, cost) => Cursor::set(set, *cost),
            Evaluated::List(docs) => Cursor::List { docs, at: 0 },
        }
    }

    fn leaf(&self, weight: &'a LeafWeight) -> Cursor<'a> {
        let doc_count = self.reader.doc_count();
        match &self.leaves[weight.slot] {
            Evaluated::Column => {
                let Leaf::Numbers { field, ranges } = &weight.leaf else { return Cursor::Empty };
                let column = self.reader.field(field).and_then(FieldReader::numbers);
                match column {
                    Some(column) if doc_count > 0 => {
                        Cursor::Column(ColumnCursor { column, ranges, doc: 0, end: doc_count, values: Vec::new() })
                    }
                    _ => Cursor::Empty,
                }
            }
            docs => self.docs(docs),
        }
    }

    fn bool(&self, weight: &'a BoolWeight, scores: bool) -> Cursor<'a> {
        let mut required: SmallVec<[(Cursor<'a>, bool); 4]> = SmallVec::new();
        for (weights, scores) in [(&weight.must, scores), (&weight.filter, false)] {
            for w in weights {
                required.push((self.open(w, scores), scores));
            }
        }
        if required.iter().any(|c| c.0.doc() == crate::ids::NO_MORE_DOCS) {
            return Cursor::Empty;
        }
        let mut optional = None;
        if !weight.should.is_empty() && (scores || weight.minimum > 0 || required.is_empty()) {
            let children: Vec<Cursor<'a>> = weight.should.iter().map(|w| self.open(w, scores)).collect();
            let all = children.len();
            if weight.minimum == all && all > 0 {
                // All of them: a conjunction is cheaper.
                required.extend(children.into_iter().map(|c| (c, scores)));
                if required.iter().any(|c| c.0.doc() == crate::ids::NO_MORE_DOCS) {
                    return Cursor::Empty;
                }
            } else if weight.minimum > 0 || required.is_empty() {
                let or = OrCursor::new(children, weight.minimum, Combine::Sum);
                required.push((Cursor::Or(Box::new(or)), scores));
            } else {
                optional = Some(Cursor::Or(Box::new(OrCursor::new(children, 1, Combine::Sum))));
            }
        }
        let mut scored = scores;
        let mut cursor = if required.len() == 1 {
            let (only, scores_it) = required.pop().expect("one");
            scored = scores_it;
            if scores && !scores_it && optional.is_none() {
                Cursor::Constant { inner: Box::new(only), score: 0.0 }
            } else {
                only
            }
        } else if required.is_empty() {
            return Cursor::Empty;
        } else {
            Cursor::And(Box::new(AndCursor::new(required)))
        };
        let excluded: Vec<Cursor<'a>> = weight.must_not.iter().map(|w| self.open(w, false)).collect();
        if !excluded.is_empty() {
            let exclude = match excluded.len() {
                1 => excluded.into_iter().next().expect("one"),
                _ => Cursor::Or(Box::new(OrCursor::new(excluded, 1, Combine::Sum))),
            };
            cursor = Cursor::Not(Box::new(NotCursor { include: cursor, exclude }));
        }
        match optional {
            Some(optional) => Cursor::Optional(Box::new(OptionalCursor::new(cursor, scored, optional))),
            None => cursor,
        }
    }
}

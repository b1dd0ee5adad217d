//! Compiled queries: what the query tree becomes once fields, terms and statistics are known. A [`Weight`] holds for
//! all segments of one searcher; `cursor.rs` opens it on a segment.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use crate::search::automaton::Wildcard;
use crate::search::bm25::Bm25;
use crate::search::regexp::Regexp;
use crate::segment::reader::TermInfo;

/// A compiled query.
#[derive(Debug)]
pub(crate) enum Weight {
    /// Matches nothing.
    None,
    /// Matches everything.
    All { score: f32 },
    /// One term, scored by BM25.
    Term(TermWeight),
    /// Several terms at one position, scored as one.
    Synonyms(SynonymWeight),
    /// Terms at positions.
    Phrase(PhraseWeight),
    /// A set of documents with one score.
    Leaf(LeafWeight),
    /// Clauses.
    Bool(BoolWeight),
    /// The best part, plus `tie` times the others.
    DisMax { parts: Vec<Weight>, tie: f32 },
    /// `positive`, times `factor` where `negative` matches.
    Boosting { positive: Box<Weight>, negative: Box<Weight>, factor: f32 },
    /// What `inner` matches, all with one score.
    Constant { inner: Box<Weight>, score: f32 },
    /// Clauses that only filter, and whose documents may be in the cache.
    Kept(KeptWeight),
}

#[derive(Debug)]
pub(crate) struct KeptWeight {
    pub inner: Box<Weight>,
    /// As of a leaf.
    pub slot: usize,
}

#[derive(Debug)]
pub(crate) struct TermWeight {
    pub field: Arc<str>,
    pub term: Vec<u8>,
    /// By segment.
    pub infos: Vec<Option<TermInfo>>,
    /// None where scores do not matter.
    pub bm25: Option<Bm25>,
}

#[derive(Debug)]
pub(crate) struct SynonymWeight {
    pub field: Arc<str>,
    pub terms: Vec<TermWeight>,
    pub bm25: Option<Bm25>,
}

#[derive(Debug)]
pub(crate) struct PhraseWeight {
    pub field: Arc<str>,
    pub slots: Vec<PhraseSlot>,
    pub slop: u32,
    pub bm25: Option<Bm25>,
}

/// A position of a phrase and the terms that may be there.
#[derive(Debug)]
pub(crate) struct PhraseSlot {
    /// Relative to the first slot.
    pub offset: u32,
    pub terms: Vec<TermWeight>,
}

#[derive(Debug)]
pub(crate) struct BoolWeight {
    pub must: Vec<Weight>,
    pub filter: Vec<Weight>,
    pub should: Vec<Weight>,
    pub must_not: Vec<Weight>,
    /// Of `should`.
    pub minimum: usize,
}

impl BoolWeight {
    /// The clause that alone decides what matches, if there is one; others may add to scores.
    pub(crate) fn sole(&self) -> Option<&Weight> {
        let required = self.must.len() + self.filter.len();
        let mut clauses = self.must.iter().chain(&self.filter);
        match (required, self.should.len()) {
            _ if !self.must_not.is_empty() => None,
            (1, optional) if optional == 0 || self.minimum == 0 => clauses.next(),
            (0, 1) => self.should.first(),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct LeafWeight {
    pub leaf: Leaf,
    pub score: f32,
    /// Lucene's name for it, for explanations.
    pub text: String,
    /// Position among the leaves of the compiled query: where its evaluated set is kept.
    pub slot: usize,
}

/// Sets of documents.
#[derive(Debug)]
pub(crate) enum Leaf {
    /// Any of these terms, sorted.
    Terms { field: Arc<str>, terms: Vec<Vec<u8>> },
    /// Terms that a pattern accepts.
    Pattern { field: Arc<str>, pattern: Pattern },
    /// Terms in byte order.
    TermRange { field: Arc<str>, lower: Bound<Vec<u8>>, upper: Bound<Vec<u8>> },
    /// Any of these value ranges of a number field.
    Numbers { field: Arc<str>, ranges: Vec<RangeInclusive<u64>> },
    /// Has one of these fields.
    Exists { fields: Vec<Arc<str>> },
    /// Documents by `_id`.
    Ids { ids: Vec<String> },
    /// Documents with this `_routing`; none = with any.
    Routing { values: Option<Vec<String>> },
    /// `_seq_no` in the range.
    SeqNo { range: RangeInclusive<i64> },
    /// Documents whose `_id` (no field), or value, hashes to `id` modulo `max`.
    Slice { field: Option<Arc<str>>, id: u32, max: u32 },
}

/// An automaton over terms.
#[derive(Debug)]
pub(crate) enum Pattern {
    Prefix(Vec<u8>),
    Wildcard(Wildcard),
    Regexp(Regexp),
}

impl Weight {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Weight::None)
    }

    /// As Lucene prints it, for explanations.
    pub(crate) fn text(&self) -> String {
        match self {
            Weight::None => "MatchNoDocsQuery(\"\")".to_owned(),
            Weight::All { .. } => "*:*".to_owned(),
            Weight::Term(t) => format!("{}:{}", t.field, String::from_utf8_lossy(&t.term)),
            Weight::Synonyms(s) => {
                let terms: Vec<String> =
                    s.terms.iter().map(|t| format!("{}:{}", s.field, String::from_utf8_lossy(&t.term))).collect();
                format!("Synonym({})", terms.join(" "))
            }
            Weight::Phrase(p) => p.text(),
            Weight::Leaf(leaf) => leaf.text.clone(),
            Weight::Bool(b) => {
                let group = |sign: &str, list: &[Weight]| -> Vec<String> {
                    list.iter()
                        .map(|w| match w {
                            Weight::Bool(_) | Weight::DisMax { .. } => format!("{sign}({})", w.text()),
                            _ => format!("{sign}{}", w.text()),
                        })
                        .collect()
                };
                let mut parts = group("+", &b.must);
                parts.extend(group("#", &b.filter));
                parts.extend(group("", &b.should));
                parts.extend(group("-", &b.must_not));
                let text = parts.join(" ");
                if b.minimum > 1 { format!("({text})~{}", b.minimum) } else { text }
            }
            Weight::DisMax { parts, tie } => {
                let text = parts.iter().map(Weight::text).collect::<Vec<_>>().join(" | ");
                if *tie == 0.0 { format!("({text})") } else { format!("({text})~{tie:?}") }
            }
            Weight::Boosting { positive, negative, factor } => {
                format!(
                    "FunctionScoreQuery({}, scored by boost(queryboost({})^{factor:?}))",
                    positive.text(),
                    negative.text()
                )
            }
            Weight::Constant { inner, .. } => format!("ConstantScore({})", inner.text()),
            Weight::Kept(kept) => kept.inner.text(),
        }
    }
}

impl PhraseWeight {
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}:\"", self.field);
        let mut next = 0;
        for slot in &self.slots {
            for _ in next..slot.offset {
                out.push_str("? ");
            }
            let terms: Vec<_> = slot.terms.iter().map(|t| String::from_utf8_lossy(&t.term)).collect();
            if terms.len() == 1 {
                out.push_str(&terms[0]);
            } else {
                out.push_str(&format!("({})", terms.join(" ")));
            }
            out.push(' ');
            next = slot.offset + 1;
        }
        out.pop();
        out.push('"');
        if self.slop > 0 {
            out.push_str(&format!("~{}", self.slop));
        }
        out
    }
}

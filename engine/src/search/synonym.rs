//! Several terms that count as one: their frequencies add up.

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bm25::{self, Bm25};
use crate::search::cursor::TermCursor;

pub(crate) struct SynonymCursor<'a> {
    terms: Vec<TermCursor<'a>>,
    norms: Option<&'a [u8]>,
    bm25: &'a Bm25,
    pub doc: DocId,
}

impl<'a> SynonymCursor<'a> {
    pub(crate) fn new(terms: Vec<TermCursor<'a>>, norms: Option<&'a [u8]>, bm25: &'a Bm25) -> SynonymCursor<'a> {
        let mut cursor = SynonymCursor { terms, norms, bm25, doc: 0 };
        cursor.settle();
        cursor
    }

    fn settle(&mut self) -> DocId {
        self.doc = self.terms.iter().map(TermCursor::doc).min().unwrap_or(NO_MORE_DOCS);
        self.doc
    }

    pub(crate) fn next(&mut self) -> DocId {
        for term in &mut self.terms {
            if term.doc() == self.doc && self.doc != NO_MORE_DOCS {
                term.postings.next();
            }
        }
        self.settle()
    }

    pub(crate) fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target {
            for term in &mut self.terms {
                term.postings.seek(target);
            }
            self.settle();
        }
        self.doc
    }

    /// Occurrences of any of the terms in the current document.
    pub(crate) fn freq(&mut self) -> f32 {
        let doc = self.doc;
        self.terms.iter_mut().filter(|t| t.doc() == doc).map(|t| t.postings.freq() as f32).sum()
    }

    pub(crate) fn score(&mut self) -> f32 {
        let norm = self.norms.map_or(1, |n| n[self.doc as usize]);
        bm25::score(self.bm25.weight, self.freq(), self.bm25.norms.0[norm as usize])
    }

    pub(crate) fn cost(&self) -> u64 {
        self.terms.iter().map(|t| u64::from(t.postings.doc_freq())).sum()
    }

    /// Frequencies add up, so only the limit of the formula bounds them.
    pub(crate) fn max_score(&self) -> f32 {
        self.bm25.weight
    }
}

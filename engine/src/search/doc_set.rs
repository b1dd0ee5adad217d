//! A set of one segment's documents, as a bitmap.

use crate::ids::{DocId, NO_MORE_DOCS};

/// Bitmap over the documents of one segment: 64 documents a word, document 0 in the lowest bit of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocSet {
    words: Vec<u64>,
    doc_count: u32,
}

impl DocSet {
    /// No document of a segment of `doc_count`.
    #[must_use]
    pub fn empty(doc_count: u32) -> DocSet {
        DocSet { words: vec![0; (doc_count as usize).div_ceil(64)], doc_count }
    }

    /// Every document.
    #[must_use]
    pub fn full(doc_count: u32) -> DocSet {
        let mut set = DocSet { words: vec![u64::MAX; (doc_count as usize).div_ceil(64)], doc_count };
        set.trim();
        set
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.doc_count.is_multiple_of(64)
        {
            *last &= (1 << (self.doc_count % 64)) - 1;
        }
    }

    /// Documents of the segment, in the set or not.
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.doc_count
    }

    /// Whether `doc` is in the set. `doc` must be a document of the segment.
    #[inline]
    #[must_use]
    pub fn contains(&self, doc: DocId) -> bool {
        self.words[(doc / 64) as usize] >> (doc % 64) & 1 == 1
    }

    /// Adds one document.
    #[inline]
    pub fn insert(&mut self, doc: DocId) {
        self.words[(doc / 64) as usize] |= 1 << (doc % 64);
    }

    /// Removes one document.
    #[inline]
    pub fn remove(&mut self, doc: DocId) {
        self.words[(doc / 64) as usize] &= !(1 << (doc % 64));
    }

    /// The first document of the set that is not before `from`; `NO_MORE_DOCS` if there is none.
    #[inline]
    #[must_use]
    pub fn next_from(&self, from: DocId) -> DocId {
        let mut index = (from / 64) as usize;
        let Some(&word) = self.words.get(index) else { return NO_MORE_DOCS };
        let mut word = word & (u64::MAX << (from % 64));
        loop {
            if word != 0 {
                return index as u32 * 64 + word.trailing_zeros();
            }
            index += 1;
            match self.words.get(index) {
                Some(&w) => word = w,
                None => return NO_MORE_DOCS,
            }
        }
    }

    /// How many documents are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// Whether no document is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// The documents, ascending.
    pub fn iter(&self) -> impl Iterator<Item = DocId> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let doc = self.next_from(next);
            (doc != NO_MORE_DOCS).then(|| {
                next = doc + 1;
                doc
            })
        })
    }

    /// Keeps what both sets have.
    pub fn intersect(&mut self, other: &DocSet) {
        assert_eq!(self.doc_count, other.doc_count);
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    /// Keeps what is set in `words` (as `LiveDocs::words`, of the same segment).
    pub fn intersect_words(&mut self, words: &[u64]) {
        assert_eq!(self.words.len(), words.len());
        self.words.iter_mut().zip(words).for_each(|(a, b)| *a &= b);
    }

    /// Adds what `other` has.
    pub fn union(&mut self, other: &DocSet) {
        assert_eq!(self.doc_count, other.doc_count);
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// Becomes everything that it was not.
    pub fn complement(&mut self) {
        self.words.iter_mut().for_each(|w| *w = !*w);
        self.trim();
    }

    /// The bitmap.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The bitmap, to add documents of the segment.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Bytes of memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(count in 1u32..300, a in proptest::collection::vec(any::<u32>(), 0..80), b in proptest::collection::vec(any::<u32>(), 0..80)) {
            let a: BTreeSet<u32> = a.into_iter().map(|d| d % count).collect();
            let b: BTreeSet<u32> = b.into_iter().map(|d| d % count).collect();
            let make = |s: &BTreeSet<u32>| {
                let mut set = DocSet::empty(count);
                s.iter().for_each(|&d| set.insert(d));
                set
            };
            let (sa, sb) = (make(&a), make(&b));
            prop_assert_eq!(sa.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(sa.len() as usize, a.len());
            let mut both = sa.clone();
            both.intersect(&sb);
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), &a & &b);
            let mut any = sa.clone();
            any.union(&sb);
            prop_assert_eq!(any.iter().collect::<BTreeSet<_>>(), &a | &b);
            let mut none = sa.clone();
            none.complement();
            prop_assert_eq!(none.iter().collect::<BTreeSet<_>>(), (0..count).filter(|d| !a.contains(d)).collect::<BTreeSet<_>>());
            prop_assert_eq!(none.len() + sa.len(), DocSet::full(count).len());
        }
    }
}

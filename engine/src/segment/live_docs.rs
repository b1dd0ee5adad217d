//! Which documents of a segment are not deleted.
//!
//! (format doc and file IO belong here, too)

use crate::ids::DocId;

/// A set of live documents; immutable once published. A segment without deletes has none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDocs {
    words: Vec<u64>,
    doc_count: u32,
    deleted_count: u32,
}

impl LiveDocs {
    /// All `doc_count` documents live.
    #[must_use]
    pub fn all(doc_count: u32) -> LiveDocs {
        let mut words = vec![u64::MAX; (doc_count as usize).div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !doc_count.is_multiple_of(64)
        {
            *last = (1 << (doc_count % 64)) - 1;
        }
        LiveDocs { words, doc_count, deleted_count: 0 }
    }

    /// Whether `doc` is live. `doc` must be below the segment's document count.
    #[inline]
    #[must_use]
    pub fn is_live(&self, doc: DocId) -> bool {
        self.words[(doc / 64) as usize] >> (doc % 64) & 1 == 1
    }

    /// Deletes one document; whether it was live.
    pub fn delete(&mut self, doc: DocId) -> bool {
        let word = &mut self.words[(doc / 64) as usize];
        let mask = 1u64 << (doc % 64);
        let was_live = *word & mask != 0;
        *word &= !mask;
        self.deleted_count += u32::from(was_live);
        was_live
    }

    /// How many are deleted.
    #[must_use]
    pub fn deleted_count(&self) -> u32 {
        self.deleted_count
    }

    /// How many are live.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        self.doc_count - self.deleted_count
    }

    /// 64 documents a word, document 0 in the lowest bit of the first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

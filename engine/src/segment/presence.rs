//! Which documents have a value, and how many before one do.
//!
//! ```text
//! words   u64 per 64 documents, document 0 in the lowest bit of the first
//! ranks   u32 per 8 words: set bits before them
//! ```

use bytes::Bytes;

const RANK_WORDS: usize = 8;

/// Appends the set.
pub(crate) fn write(words: &[u64], out: &mut Vec<u8>) {
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
    let mut rank = 0u32;
    for group in words.chunks(RANK_WORDS) {
        out.extend_from_slice(&rank.to_le_bytes());
        rank += group.iter().map(|w| w.count_ones()).sum::<u32>();
    }
}

/// Bytes of a set over `doc_count` documents.
pub(crate) fn len(doc_count: u32) -> usize {
    let words = (doc_count as usize).div_ceil(64);
    words * 8 + words.div_ceil(RANK_WORDS) * 4
}

/// Reads a set in place.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    words: Bytes,
    ranks: Bytes,
}

impl Presence {
    /// `None` unless the length is right.
    pub fn open(bytes: &Bytes, doc_count: u32) -> Option<Presence> {
        if bytes.len() != len(doc_count) {
            return None;
        }
        let words_len = (doc_count as usize).div_ceil(64) * 8;
        Some(Presence { words: bytes.slice(..words_len), ranks: bytes.slice(words_len..) })
    }

    #[inline]
    pub fn word(&self, i: usize) -> u64 {
        u64::from_le_bytes(self.words.as_chunks::<8>().0[i])
    }

    #[inline]
    pub fn contains(&self, doc: u32) -> bool {
        self.word(doc as usize / 64) >> (doc % 64) & 1 == 1
    }

    /// Members below `doc`.
    #[inline]
    pub fn rank(&self, doc: u32) -> u32 {
        let word = doc as usize / 64;
        let group = word / RANK_WORDS;
        let mut rank = u32::from_le_bytes(self.ranks.as_chunks::<4>().0[group]);
        for w in group * RANK_WORDS..word {
            rank = rank.wrapping_add(self.word(w).count_ones());
        }
        rank.wrapping_add((self.word(word) & ((1 << (doc % 64)) - 1)).count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rank_counts_members_below(words in proptest::collection::vec(any::<u64>(), 1..40)) {
            let mut out = vec![];
            write(&words, &mut out);
            let docs = words.len() as u32 * 64;
            prop_assert_eq!(out.len(), len(docs));
            let set = Presence::open(&out.into(), docs).unwrap();
            let mut rank = 0;
            for doc in 0..docs {
                let member = words[doc as usize / 64] >> (doc % 64) & 1 == 1;
                prop_assert_eq!(set.contains(doc), member);
                prop_assert_eq!(set.rank(doc), rank);
                rank += u32::from(member);
            }
        }
    }
}

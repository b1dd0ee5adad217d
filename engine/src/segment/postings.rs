//! Postings: which documents have a term, how often, where; with score bounds for skipping.
//!
//! A list with one document is `varint doc` (its frequency is the term's total). A shorter list than 128 is one tail. Longer:
//!
//! ```text
//! position tail  varint      Positions fields only: offset of the varints behind the last position block
//! bound          u16         of the whole list; see `bounds`
//! last docs      u32 each    last document of each block
//! offsets        u32 each    where the data of each block starts
//! bounds         u16 each    of each block
//! best           u8, u8 each frequency and norm of a document that no other of the block has more or a smaller one of than;
//!                            0, 0 where there is no such document, or its frequency is above 255
//! group bounds   u16 each    of each 32 blocks, where there are more than 32
//! data           blocks of 128 documents, back to back, then a tail of the rest if any
//! ```
//!
//! The tail counts as a block. Offsets count from the start of the data.
//!
//! - Block: [positions field: offset of a position block u32, index in it u8] documents [freqs field: packed freqs].
//! - Documents, whichever is smaller, dense blocks preferred as they need no decoding:
//!   packed differences, or a bitmap: the byte 0xFF, the number of its words u8 (at most 16), and its words u64, the lowest bit
//!   of the first being document `base` rounded down to a multiple of 64, where `base` is the smallest that could be.
//! - Tail: the same position prefix if the list has blocks; then per document: Docs fields `varint delta`; else
//!   `varint delta << 1 | (freq == 1)` and, unless 1, `varint freq`.
//! - `delta` is the document minus the smallest it could be (the one after the document before; 0 at first), so that
//!   neighbours cost nothing. Packed freqs are `freq - 1`.
//! - Packed 128: `exceptions << 5 | width`, the values' low bits (see `store::bitpack`), then per exception: index u8 and
//!   the byte above the low bits. At most 7 exceptions, and fewer for 31 bits, so that 0xFF is not one.
//!
//! Positions are one sequence per term: per document the first, then differences. Blocks of 128 packed, the rest varints.

use smallvec::SmallVec;

use crate::codec::put_varint;
use crate::ids::DocId;
use crate::segment::TermsOption;
use crate::segment::bounds::Shares;
use crate::store::bitpack::{BLOCK_LEN, bits_for, pack, packed_len, unpack};

/// Blocks that share a group bound.
pub(crate) const GROUP: usize = 32;
/// Starts the documents of a block that are a bitmap.
pub(crate) const BITMAP: u8 = 0xff;
/// Words of a bitmap, at most: one document in eight, which takes half as much again as packing.
pub(crate) const BITMAP_WORDS: usize = 16;
/// Bytes before a block that say where its positions are.
pub(crate) const POSITION_PREFIX: usize = 5;
const EXCEPTIONS_MAX: usize = 7;

/// What the dictionary knows of a term; cheap to copy, opens postings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermInfo {
    /// Documents with the term.
    pub doc_freq: u32,
    /// Occurrences (= doc_freq when frequencies are not indexed).
    pub total_term_freq: u64,
    /// Where the postings start; opaque.
    pub(crate) postings: u64,
    /// Where the positions start; opaque.
    pub(crate) positions: u64,
}

/// Packs 128 values below 2^31, with the widest few patched.
pub(crate) fn pack_patched(values: &[u32; BLOCK_LEN], out: &mut Vec<u8>) {
    let mut counts = [0u32; 33];
    for &v in values {
        counts[bits_for(u64::from(v)) as usize] += 1;
    }
    let widest = (0..33).rev().find(|&w| counts[w] > 0).unwrap_or(0);
    debug_assert!(widest < 32);
    let (mut best, mut best_cost) = (widest, packed_len(widest as u8));
    let mut exceptions = 0usize;
    for width in (0..widest).rev() {
        exceptions += counts[width + 1] as usize;
        if exceptions > EXCEPTIONS_MAX || widest - width > 8 {
            break;
        }
        let cost = packed_len(width as u8) + 2 * exceptions;
        if cost < best_cost {
            (best, best_cost) = (width, cost);
        }
    }
    if best == widest {
        out.push(best as u8);
        pack(values, best as u8, out);
        return;
    }
    let mut low = *values;
    let mut patches: SmallVec<[u8; 2 * EXCEPTIONS_MAX]> = SmallVec::new();
    for (i, v) in low.iter_mut().enumerate() {
        if *v >> best != 0 {
            patches.extend_from_slice(&[i as u8, (*v >> best) as u8]);
            *v &= (1 << best) - 1;
        }
    }
    out.push(((patches.len() / 2) << 5 | best) as u8);
    pack(&low, best as u8, out);
    out.extend_from_slice(&patches);
}

/// Bytes of a packed block that starts with this token.
#[inline]
pub(crate) fn patched_len(token: u8) -> usize {
    1 + packed_len(token & 31) + 2 * (token >> 5) as usize
}

/// Unpacks from the front of `input`; the bytes used, or `None` if there are too few.
#[inline]
pub(crate) fn unpack_patched(input: &[u8], out: &mut [u32; BLOCK_LEN]) -> Option<usize> {
    let token = *input.first()?;
    let len = patched_len(token);
    let body = input.get(1..len)?;
    let width = token & 31;
    if !unpack(body, width, out) {
        return None;
    }
    for patch in body[packed_len(width)..].as_chunks::<2>().0 {
        out[(patch[0] & 127) as usize] |= u32::from(patch[1]) << width;
    }
    Some(len)
}

/// Builds one list after another. Memory: the packed bytes of the current list, without positions.
#[derive(Debug)]
pub(crate) struct PostingsWriter {
    option: TermsOption,
    shares: Shares,
    /// As differences.
    docs: [u32; BLOCK_LEN],
    freqs: [u32; BLOCK_LEN],
    norms: [u8; BLOCK_LEN],
    filled: usize,
    next_doc: DocId,
    doc_freq: u32,
    total_term_freq: u64,
    /// The smallest that the first document of the block could be.
    base: DocId,
    lasts: Vec<DocId>,
    offsets: Vec<u32>,
    bounds: Vec<u16>,
    best: Vec<[u8; 2]>,
    data: Vec<u8>,
    positions: [u32; BLOCK_LEN],
    positions_filled: usize,
    positions_start: u64,
    /// Where the positions of the current block of documents begin: offset of the position block, index in it.
    block_positions: (u32, u8),
}

impl PostingsWriter {
    pub fn new(option: TermsOption, shares: Shares) -> PostingsWriter {
        PostingsWriter {
            option,
            shares,
            docs: [0; BLOCK_LEN],
            freqs: [0; BLOCK_LEN],
            norms: [0; BLOCK_LEN],
            filled: 0,
            next_doc: 0,
            doc_freq: 0,
            total_term_freq: 0,
            base: 0,
            lasts: Vec::new(),
            offsets: Vec::new(),
            bounds: Vec::new(),
            best: Vec::new(),
            data: Vec::new(),
            positions: [0; BLOCK_LEN],
            positions_filled: 0,
            positions_start: 0,
            block_positions: (0, 0),
        }
    }

    /// Starts a list; the position stream stands at `positions`.
    pub fn start(&mut self, positions: u64) {
        debug_assert!(self.filled == 0 && self.positions_filled == 0 && self.data.is_empty());
        self.next_doc = 0;
        self.base = 0;
        self.doc_freq = 0;
        self.total_term_freq = 0;
        self.positions_start = positions;
        self.block_positions = (0, 0);
    }

    /// Adds a document, above all before; its `freq` positions (as differences) follow by `push_position`.
    #[inline]
    pub fn push(&mut self, doc: DocId, freq: u32, norm: u8, stream_position: u64) {
        self.start_doc(stream_position);
        self.end_doc(doc, freq, norm);
    }

    /// Makes room for a document that is known only after its positions.
    #[inline]
    pub fn start_doc(&mut self, stream_position: u64) {
        if self.filled == BLOCK_LEN {
            self.end_block(stream_position);
        }
    }

    /// Adds the document, above all before.
    #[inline]
    pub fn end_doc(&mut self, doc: DocId, freq: u32, norm: u8) {
        debug_assert!(doc >= self.next_doc && freq > 0);
        self.docs[self.filled] = doc - self.next_doc;
        self.freqs[self.filled] = freq - 1;
        self.norms[self.filled] = norm;
        self.filled += 1;
        self.next_doc = doc + 1;
        self.doc_freq += 1;
        self.total_term_freq += u64::from(freq);
    }

    /// Adds a position of the current document: the first as it is, then differences.
    #[inline]
    pub fn push_position(&mut self, difference: u32, stream: &mut Vec<u8>) {
        self.positions[self.positions_filled] = difference;
        self.positions_filled += 1;
        if self.positions_filled == BLOCK_LEN {
            pack_patched(&self.positions, stream);
            self.positions_filled = 0;
        }
    }

    fn position_prefix(&mut self) {
        if self.option == TermsOption::Positions {
            self.data.extend_from_slice(&self.block_positions.0.to_le_bytes());
            self.data.push(self.block_positions.1);
        }
    }

    fn end_block(&mut self, stream_position: u64) {
        debug_assert!(self.filled == BLOCK_LEN);
        self.block_head();
        self.position_prefix();
        self.put_docs();
        if self.option >= TermsOption::Freqs {
            pack_patched(&self.freqs, &mut self.data);
        }
        self.filled = 0;
        if self.option == TermsOption::Positions {
            let offset = stream_position - self.positions_start;
            self.block_positions =
                (u32::try_from(offset).expect("positions of a term over 4 GiB"), self.positions_filled as u8);
        }
    }

    /// The documents of a full block, the last of which is before `next_doc`.
    fn put_docs(&mut self) {
        let base = self.base;
        self.base = self.next_doc;
        let start = base & !63;
        let words = ((self.next_doc - 1 - start) / 64) as usize + 1;
        if words > BITMAP_WORDS {
            pack_patched(&self.docs, &mut self.data);
            return;
        }
        let mut bits = [0u64; BITMAP_WORDS];
        let mut next = base;
        for delta in self.docs {
            let doc = next + delta;
            bits[((doc - start) / 64) as usize] |= 1 << (doc % 64);
            next = doc + 1;
        }
        self.data.extend_from_slice(&[BITMAP, words as u8]);
        bits[..words].iter().for_each(|word| self.data.extend_from_slice(&word.to_le_bytes()));
    }

    fn block_head(&mut self) {
        self.lasts.push(self.next_doc - 1);
        self.offsets.push(u32::try_from(self.data.len()).expect("postings of a term over 4 GiB"));
        let (freqs, norms) = (&self.freqs[..self.filled], &self.norms[..self.filled]);
        self.bounds.push(self.shares.bound(freqs, norms));
        let freq = freqs.iter().fold(0, |a, &b| a.max(b));
        let norm = norms.iter().fold(u8::MAX, |a, &b| a.min(b));
        let exists = freqs.iter().zip(norms).any(|(&f, &n)| f == freq && n == norm);
        let freq = u8::try_from(freq + 1).ok().filter(|_| exists);
        self.best.push(freq.map_or([0, 0], |freq| [freq, norm]));
    }

    /// Ends the list: appends it to `stream`, which stands at `position`, and the rest of its positions to theirs.
    pub fn finish(
        &mut self,
        position: u64,
        stream: &mut Vec<u8>,
        positions_position: u64,
        positions: &mut Vec<u8>,
    ) -> TermInfo {
        assert!(self.doc_freq > 0, "a term without documents");
        if self.filled == BLOCK_LEN {
            self.end_block(positions_position);
        }
        let long = !self.lasts.is_empty();
        if self.filled > 0 {
            if long {
                self.block_head();
                self.position_prefix();
            }
            self.write_tail();
        }
        if long {
            if self.option == TermsOption::Positions {
                put_varint(stream, positions_position - self.positions_start);
            }
            let largest = |bounds: &[u16]| bounds.iter().fold(0, |a, &b| a.max(b)).to_le_bytes();
            stream.extend_from_slice(&largest(&self.bounds));
            self.lasts.iter().chain(&self.offsets).for_each(|n| stream.extend_from_slice(&n.to_le_bytes()));
            self.bounds.iter().for_each(|n| stream.extend_from_slice(&n.to_le_bytes()));
            stream.extend_from_slice(self.best.as_flattened());
            if self.bounds.len() > GROUP {
                self.bounds.chunks(GROUP).for_each(|group| stream.extend_from_slice(&largest(group)));
            }
        }
        stream.extend_from_slice(&self.data);
        self.lasts.clear();
        self.offsets.clear();
        self.bounds.clear();
        self.best.clear();
        self.data.clear();
        self.filled = 0;
        for &difference in &self.positions[..self.positions_filled] {
            put_varint(positions, u64::from(difference));
        }
        self.positions_filled = 0;
        TermInfo {
            doc_freq: self.doc_freq,
            total_term_freq: self.total_term_freq,
            postings: position,
            positions: self.positions_start,
        }
    }

    fn write_tail(&mut self) {
        let only_docs = self.option < TermsOption::Freqs || self.doc_freq == 1;
        for i in 0..self.filled {
            let (delta, freq) = (u64::from(self.docs[i]), self.freqs[i] + 1);
            if only_docs {
                put_varint(&mut self.data, delta);
            } else if freq == 1 {
                put_varint(&mut self.data, delta << 1 | 1);
            } else {
                put_varint(&mut self.data, delta << 1);
                put_varint(&mut self.data, u64::from(freq));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn patched_blocks_round_trip(seed in proptest::collection::vec(any::<u32>(), BLOCK_LEN), width in 0u32..=31,
                                     outliers in proptest::collection::vec((0usize..128, 0u32..1 << 31), 0..10)) {
            let mut values = [0u32; BLOCK_LEN];
            for (v, s) in values.iter_mut().zip(&seed) {
                *v = s & ((1u32 << width) - 1);
            }
            for (i, v) in outliers {
                values[i] = v;
            }
            let mut out = vec![];
            pack_patched(&values, &mut out);
            prop_assert_eq!(out.len(), patched_len(out[0]));
            let mut back = [0; BLOCK_LEN];
            prop_assert_eq!(unpack_patched(&out, &mut back), Some(out.len()));
            prop_assert_eq!(back, values);
            for cut in 0..out.len() {
                prop_assert_eq!(unpack_patched(&out[..cut], &mut back), None);
            }
        }
    }

    #[test]
    fn a_few_wide_values_do_not_widen_the_block() {
        let mut values = [1; BLOCK_LEN];
        values[7] = 200;
        values[99] = 130;
        let mut out = vec![];
        pack_patched(&values, &mut out);
        assert_eq!(out.len(), 1 + 16 + 4);
    }
}

//! Postings: which documents have a term, how often, where; with score bounds for skipping.
//!
//! A list with one document is `varint doc` (its frequency is the term's total). A shorter list than 128 is one tail. Longer:
//!
//! ```text
//! impact bytes   varint      length of the per-block impacts below
//! position tail  varint      Positions fields only: offset of the varints behind the last position block
//! impacts        of the whole list
//! skip table     per block 12 bytes: last doc u32, offset of the block's data u32, offset of its impacts u32
//! impacts        of each block, back to back
//! data           blocks of 128 documents, back to back, then a tail of the rest if any
//! ```
//!
//! The tail counts as a block in the skip table. Offsets count from the start of the data and of the per-block impacts.
//!
//! - Block: [positions field: offset of a position block u32, index in it u8] [packed docs] [freqs field: packed freqs].
//! - Tail: the same position prefix if the list has blocks; then per document: Docs fields `varint delta`; else
//!   `varint delta << 1 | (freq == 1)` and, unless 1, `varint freq`.
//! - `delta` is the document minus the smallest it could be (the one after the document before; 0 at first), so that
//!   neighbours cost nothing. Packed freqs are `freq - 1`.
//! - Packed 128: `exceptions << 5 | width`, the values' low bits (see `store::bitpack`), then per exception: index u8 and
//!   the byte above the low bits. At most 7 exceptions.
//! - Impacts: varint pair count; pairs by ascending frequency, each `varint (freq - before) << 1 | more`, and if `more` the byte
//!   `norm - before`, else the norm is the one before plus 1. Before the first: freq 0, norm 0.
//!
//! Positions are one sequence per term: per document the first, then differences. Blocks of 128 packed, the rest varints.

use smallvec::SmallVec;

use crate::codec::put_varint;
use crate::ids::DocId;
use crate::segment::TermsOption;
use crate::segment::dictionary::read_varint;
use crate::store::bitpack::{BLOCK_LEN, bits_for, pack, packed_len, unpack};

/// Bytes of a skip entry.
pub(crate) const SKIP_ENTRY: usize = 12;
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

/// Pairs of (term frequency, norm byte).
pub(crate) type ImpactList = SmallVec<[(u32, u8); 8]>;

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

/// Keeps the pairs that no other dominates, by ascending frequency (and so by ascending norm).
#[derive(Debug)]
pub(crate) struct ImpactCollector {
    /// Largest frequency per norm.
    largest: Box<[u32; 256]>,
}

impl Default for ImpactCollector {
    fn default() -> ImpactCollector {
        ImpactCollector { largest: Box::new([0; 256]) }
    }
}

impl ImpactCollector {
    #[inline]
    pub fn add(&mut self, freq: u32, norm: u8) {
        let largest = &mut self.largest[norm as usize];
        *largest = (*largest).max(freq);
    }

    /// The competitive pairs; starts again from nothing.
    pub fn take(&mut self) -> ImpactList {
        let mut pairs = ImpactList::new();
        let mut above = 0;
        for (norm, largest) in self.largest.iter_mut().enumerate() {
            if *largest > above {
                above = *largest;
                pairs.push((above, norm as u8));
            }
            *largest = 0;
        }
        pairs
    }
}

pub(crate) fn put_impacts(pairs: &[(u32, u8)], out: &mut Vec<u8>) {
    put_varint(out, pairs.len() as u64);
    let (mut freq, mut norm) = (0u32, 0u8);
    for &(f, n) in pairs {
        let more = n.wrapping_sub(norm) != 1;
        put_varint(out, u64::from(f - freq) << 1 | u64::from(more));
        if more {
            out.push(n.wrapping_sub(norm));
        }
        (freq, norm) = (f, n);
    }
}

/// Reads pairs from the front of `bytes`; stops early at damage.
pub(crate) fn read_impacts(bytes: &mut &[u8], out: &mut ImpactList) -> Option<()> {
    out.clear();
    visit_impacts(bytes, |freq, norm| out.push((freq, norm)))
}

/// Calls `visit` with each pair from the front of `bytes`; stops early at damage.
#[inline]
pub(crate) fn visit_impacts(bytes: &mut &[u8], mut visit: impl FnMut(u32, u8)) -> Option<()> {
    let count = read_varint(bytes)?.min(256);
    let (mut freq, mut norm) = (0u32, 0u8);
    for _ in 0..count {
        let code = read_varint(bytes)?;
        freq = freq.saturating_add((code >> 1) as u32);
        norm = if code & 1 == 0 {
            norm.wrapping_add(1)
        } else {
            let (&step, rest) = bytes.split_first()?;
            *bytes = rest;
            norm.wrapping_add(step)
        };
        visit(freq, norm);
    }
    Some(())
}

/// Builds one list after another. Memory: the packed bytes of the current list, without positions.
#[derive(Debug)]
pub(crate) struct PostingsWriter {
    option: TermsOption,
    docs: [u32; BLOCK_LEN],
    freqs: [u32; BLOCK_LEN],
    norms: [u8; BLOCK_LEN],
    filled: usize,
    next_doc: DocId,
    doc_freq: u32,
    total_term_freq: u64,
    skip: Vec<u8>,
    block_impacts: Vec<u8>,
    data: Vec<u8>,
    block_collector: ImpactCollector,
    list_collector: ImpactCollector,
    positions: [u32; BLOCK_LEN],
    positions_filled: usize,
    positions_start: u64,
    /// Where the positions of the current block of documents begin: offset of the position block, index in it.
    block_positions: (u32, u8),
}

impl PostingsWriter {
    pub fn new(option: TermsOption) -> PostingsWriter {
        PostingsWriter {
            option,
            docs: [0; BLOCK_LEN],
            freqs: [0; BLOCK_LEN],
            norms: [0; BLOCK_LEN],
            filled: 0,
            next_doc: 0,
            doc_freq: 0,
            total_term_freq: 0,
            skip: Vec::new(),
            block_impacts: Vec::new(),
            data: Vec::new(),
            block_collector: ImpactCollector::default(),
            list_collector: ImpactCollector::default(),
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
        self.doc_freq = 0;
        self.total_term_freq = 0;
        self.positions_start = positions;
        self.block_positions = (0, 0);
    }

    /// Adds a document, above all before; its `freq` positions (as differences) follow by `push_position`.
    #[inline]
    pub fn push(&mut self, doc: DocId, freq: u32, norm: u8, stream_position: u64) {
        debug_assert!(doc >= self.next_doc && freq > 0);
        if self.filled == BLOCK_LEN {
            self.end_block(stream_position);
        }
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
        self.skip_entry();
        self.position_prefix();
        pack_patched(&self.docs, &mut self.data);
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

    fn skip_entry(&mut self) {
        for i in 0..self.filled {
            self.block_collector.add(self.freqs[i] + 1, self.norms[i]);
        }
        let impacts = self.block_collector.take();
        for &(freq, norm) in &impacts {
            self.list_collector.add(freq, norm);
        }
        self.skip.extend_from_slice(&(self.next_doc - 1).to_le_bytes());
        for len in [self.data.len(), self.block_impacts.len()] {
            self.skip.extend_from_slice(&u32::try_from(len).expect("postings of a term over 4 GiB").to_le_bytes());
        }
        put_impacts(&impacts, &mut self.block_impacts);
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
        let long = !self.skip.is_empty();
        if self.filled > 0 {
            if long {
                self.skip_entry();
                self.position_prefix();
            }
            self.write_tail();
        }
        if long {
            put_varint(stream, self.block_impacts.len() as u64);
            if self.option == TermsOption::Positions {
                put_varint(stream, positions_position - self.positions_start);
            }
            put_impacts(&self.list_collector.take(), stream);
            stream.extend_from_slice(&self.skip);
            stream.extend_from_slice(&self.block_impacts);
        }
        stream.extend_from_slice(&self.data);
        self.skip.clear();
        self.block_impacts.clear();
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

        #[test]
        fn impacts_dominate_everything_and_not_each_other(docs in proptest::collection::vec((1u32..50, 1u8..60), 1..200)) {
            let mut collector = ImpactCollector::default();
            docs.iter().for_each(|&(f, n)| collector.add(f, n));
            let pairs = collector.take();
            for (f, n) in &docs {
                prop_assert!(pairs.iter().any(|(pf, pn)| pf >= f && pn <= n));
            }
            for pair in &pairs {
                prop_assert!(docs.contains(pair));
            }
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
            let mut out = vec![];
            put_impacts(&pairs, &mut out);
            let mut back = ImpactList::new();
            let mut bytes = &out[..];
            prop_assert!(read_impacts(&mut bytes, &mut back).is_some());
            prop_assert_eq!(back, pairs);
            prop_assert!(bytes.is_empty());
            prop_assert!(collector.take().is_empty());
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

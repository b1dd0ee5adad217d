//! Sorted values and their documents: a range index in one dimension.
//!
//! ```text
//! blocks   512 (value, document) pairs each (the last one fewer), ascending, back to back:
//!            bit stream of the values minus the block's smallest;
//!            documents: 128 at a time packed (see `store::bitpack`), the rest as a bit stream
//! index    per block, 24 bytes: smallest value u64, offset of the block u64, count u16, width of values u8,
//!          width of documents u8, first document u32
//! tail     24 bytes: largest value u64, pair count u64, block count u64
//! ```
//!
//! The first document's top bit says that the block's documents ascend and are stored as `document - before - 1` (the first as 0);
//! else as they are. A field that grows with time, or has few values, so costs a few bits a document.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::store::bitpack::{BLOCK_LEN, BitWriter, bits_for, get_bits, pack, packed_len, stream_len, unpack};

const BLOCK: usize = 512;
const ENTRY: usize = 24;
const TAIL: usize = 24;
const ASCENDING: u32 = 1 << 31;

/// Builds the index from pairs in ascending order. Memory: a block and 24 bytes per 512 pairs.
#[derive(Debug, Default)]
pub(crate) struct PointsWriter {
    /// Blocks ready to be written; drained by the owner.
    pub pending: Vec<u8>,
    drained: u64,
    values: Vec<u64>,
    docs: Vec<u32>,
    index: Vec<u8>,
    largest: u64,
    count: u64,
}

impl PointsWriter {
    #[inline]
    pub fn push(&mut self, value: u64, doc: DocId) {
        debug_assert!(self.count == 0 || value >= self.largest);
        self.values.push(value);
        self.docs.push(doc);
        self.largest = value;
        self.count += 1;
        if self.values.len() == BLOCK {
            self.end_block();
        }
    }

    /// Says that `pending` was written and emptied.
    pub fn drained(&mut self, bytes: usize) {
        self.drained += bytes as u64;
    }

    fn end_block(&mut self) {
        let (min, max) = (self.values[0], self.values[self.values.len() - 1]);
        let first_doc = self.docs[0];
        let ascending = self.docs.windows(2).all(|w| w[0] < w[1]);
        if ascending {
            let mut next = first_doc;
            for doc in &mut self.docs {
                let delta = *doc - next;
                next = *doc + 1;
                *doc = delta;
            }
        }
        let value_bits = bits_for(max - min);
        let doc_bits = bits_for(u64::from(self.docs.iter().copied().max().expect("not empty")));
        self.index.extend_from_slice(&min.to_le_bytes());
        self.index.extend_from_slice(&(self.drained + self.pending.len() as u64).to_le_bytes());
        self.index.extend_from_slice(&(self.values.len() as u16).to_le_bytes());
        self.index.extend_from_slice(&[value_bits, doc_bits]);
        self.index.extend_from_slice(&(first_doc | if ascending { ASCENDING } else { 0 }).to_le_bytes());
        let mut stream = BitWriter::new(&mut self.pending);
        self.values.iter().for_each(|v| stream.put(v - min, value_bits));
        stream.finish();
        let (packed, rest) = self.docs.as_chunks::<BLOCK_LEN>();
        packed.iter().for_each(|docs| pack(docs, doc_bits, &mut self.pending));
        let mut stream = BitWriter::new(&mut self.pending);
        rest.iter().for_each(|&d| stream.put(u64::from(d), doc_bits));
        stream.finish();
        self.values.clear();
        self.docs.clear();
    }

    /// Everything that is left.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.values.is_empty() {
            self.end_block();
        }
        let mut out = self.pending;
        out.extend_from_slice(&self.index);
        out.extend_from_slice(&self.largest.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&((self.index.len() / ENTRY) as u64).to_le_bytes());
        out
    }
}

/// Sorted values and their documents: a range index.
#[derive(Clone, Debug)]
pub struct Points {
    blocks: Bytes,
    index: Bytes,
    largest: u64,
    count: u64,
    doc_limit: DocId,
}

struct BlockEntry {
    min: u64,
    offset: usize,
    count: usize,
    value_bits: u8,
    doc_bits: u8,
    first_doc: u32,
    ascending: bool,
}

impl Points {
    pub(crate) fn open(bytes: &Bytes, doc_limit: DocId, what: &str) -> Result<Points> {
        let open = || {
            let tail_at = bytes.len().checked_sub(TAIL)?;
            let number = |i: usize| u64::from_le_bytes(bytes[tail_at..].as_chunks::<8>().0[i]);
            let index_len = usize::try_from(number(2)).ok()?.checked_mul(ENTRY)?;
            let index_at = tail_at.checked_sub(index_len)?;
            if number(1).div_ceil(BLOCK as u64) != number(2) {
                return None;
            }
            let (blocks, index) = (bytes.slice(..index_at), bytes.slice(index_at..tail_at));
            Some(Points { blocks, index, largest: number(0), count: number(1), doc_limit })
        };
        open().ok_or_else(|| Error::corrupt(what, 0, "points do not add up"))
    }

    /// Pairs in the index.
    #[must_use]
    pub fn value_count(&self) -> u64 {
        self.count
    }

    fn block_count(&self) -> usize {
        self.index.len() / ENTRY
    }

    #[inline]
    fn min_of(&self, block: usize) -> u64 {
        u64::from_le_bytes(*self.index.as_chunks::<ENTRY>().0[block].first_chunk().expect("24 bytes"))
    }

    fn entry(&self, block: usize) -> BlockEntry {
        let row = &self.index.as_chunks::<ENTRY>().0[block];
        let first_doc = u32::from_le_bytes([row[20], row[21], row[22], row[23]]);
        let full = if block + 1 < self.block_count() { BLOCK } else { (self.count - 1) as usize % BLOCK + 1 };
        BlockEntry {
            min: self.min_of(block),
            offset: u64::from_le_bytes(row.as_chunks::<8>().0[1]) as usize,
            count: (u16::from_le_bytes([row[16], row[17]]) as usize).min(full),
            value_bits: row[18].min(64),
            doc_bits: row[19].min(32),
            first_doc: first_doc & !ASCENDING,
            ascending: first_doc & ASCENDING != 0,
        }
    }

    /// Blocks that may hold values of the range.
    fn blocks_of(&self, range: &RangeInclusive<u64>) -> std::ops::Range<usize> {
        if range.is_empty() || self.count == 0 || *range.start() > self.largest {
            return 0..0;
        }
        let partition = |below: &dyn Fn(u64) -> bool| {
            let (mut low, mut high) = (0, self.block_count());
            while low < high {
                let middle = low + (high - low) / 2;
                if below(self.min_of(middle)) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        // The block before the first that starts at or above the range can still end in it.
        let first = partition(&|min| min < *range.start()).max(1) - 1;
        let last = partition(&|min| min <= *range.end());
        first..last.max(first)
    }

    /// Upper bound on matching values (exact to a block), without visiting them.
    #[must_use]
    pub fn estimate(&self, range: RangeInclusive<u64>) -> u64 {
        let blocks = self.blocks_of(&range);
        if blocks.is_empty() {
            return 0;
        }
        let start = (blocks.start * BLOCK) as u64;
        ((blocks.end * BLOCK) as u64).min(self.count).saturating_sub(start)
    }

    /// Calls `visit` for each document with a value in the range (a document may come more than once, in any order).
    pub fn visit(&self, range: RangeInclusive<u64>, visit: &mut dyn FnMut(DocId)) {
        let blocks = self.blocks_of(&range);
        let mut docs = Vec::with_capacity(BLOCK);
        for block in blocks.clone() {
            let entry = self.entry(block);
            let next_min = if block + 1 < self.block_count() { self.min_of(block + 1) } else { self.largest };
            let whole = entry.min >= *range.start() && next_min <= *range.end();
            let Some(values) = self.read_docs(&entry, &mut docs) else { return };
            let within = if whole {
                0..docs.len()
            } else {
                let value = |i: usize| {
                    entry.min.saturating_add(get_bits(values, i * entry.value_bits as usize, entry.value_bits))
                };
                let first = partition_point(docs.len(), |i| value(i) < *range.start());
                first..partition_point(docs.len(), |i| value(i) <= *range.end()).max(first)
            };
            for &doc in &docs[within] {
                if doc < self.doc_limit {
                    visit(doc);
                }
            }
        }
    }

    /// All pairs in order, block by block: `visit` gets values and documents of one.
    pub(crate) fn block_pairs(&self, block: usize, values: &mut Vec<u64>, docs: &mut Vec<DocId>) -> Option<()> {
        values.clear();
        docs.clear();
        if block >= self.block_count() {
            return None;
        }
        let entry = self.entry(block);
        let stream = self.read_docs(&entry, docs)?;
        let value = |i| entry.min.saturating_add(get_bits(stream, i * entry.value_bits as usize, entry.value_bits));
        values.extend((0..docs.len()).map(value));
        Some(())
    }

    /// Documents of a block into `docs`; the stream of its values.
    fn read_docs(&self, entry: &BlockEntry, docs: &mut Vec<DocId>) -> Option<&[u8]> {
        docs.clear();
        let mut bytes = self.blocks.get(entry.offset..)?;
        let values = bytes.split_off(..stream_len(entry.count, entry.value_bits))?;
        let mut packed = [0; BLOCK_LEN];
        for _ in 0..entry.count / BLOCK_LEN {
            let block = bytes.split_off(..packed_len(entry.doc_bits))?;
            unpack(block, entry.doc_bits, &mut packed);
            docs.extend_from_slice(&packed);
        }
        for i in 0..entry.count % BLOCK_LEN {
            docs.push(get_bits(bytes, i * entry.doc_bits as usize, entry.doc_bits) as u32);
        }
        if entry.ascending {
            let mut next = entry.first_doc;
            for doc in docs.iter_mut() {
                *doc = doc.wrapping_add(next);
                next = doc.wrapping_add(1);
            }
        }
        Some(values)
    }
}

fn partition_point(len: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn visit_is_a_scan(mut pairs in proptest::collection::vec((0u64..3000, 0u32..5000), 0..3000), shift in 0u32..53,
                           ranges in proptest::collection::vec((0u64..3100, 0u64..3100), 20), by_doc: bool) {
            pairs.iter_mut().for_each(|p| p.0 = if by_doc { u64::from(p.1) / 3 } else { p.0 } << shift);
            pairs.sort_unstable();
            pairs.dedup();
            let mut writer = PointsWriter::default();
            pairs.iter().for_each(|&(v, d)| writer.push(v, d));
            let points = Points::open(&writer.finish().into(), 5000, "t").unwrap();
            for (a, b) in ranges {
                let range = a << shift..=b << shift;
                let mut expected: Vec<u32> = pairs.iter().filter(|p| range.contains(&p.0)).map(|p| p.1).collect();
                let mut found = vec![];
                points.visit(range.clone(), &mut |d| found.push(d));
                let estimate = points.estimate(range);
                prop_assert!(estimate >= found.len() as u64 && estimate <= found.len() as u64 + 2 * BLOCK as u64);
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}

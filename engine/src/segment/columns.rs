//! Columns: the values of a field by document. Numbers as they are, ordinals as numbers below their dictionary's size.
//!
//! ```text
//! streams    a bit stream per block of 1024 documents, back to back
//! presence   only if some document has no value; see `presence`
//! starts     only if some document has two values: for each document with values, in order, the index of its first one;
//!            then the value count; see `linear`
//! table      per block, 40 bytes: min u64, max u64, unit u64, values in the blocks before u64,
//!            (bits << 56 | offset of the stream) u64; a block without values has min > max
//! meta       64 bytes: doc_count u32, flags u32 (1: no document has two values, 2: every document has one), documents
//!            with values u64, value count u64, min u64, max u64, lengths of streams, presence and starts u64 each
//! ```
//!
//! Value `i` of a block is `min + unit * stream[i]`. A column of one constant costs 40 bytes per 1024 documents; but a block
//! of more than 65,536 values has a bit for each, so that no damage makes more values than there are bytes for.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::segment::checks::Checks;
use crate::segment::dictionary::Dictionary;
use crate::segment::linear::{Linear, LinearWriter};
use crate::segment::presence::{self, Presence};
use crate::store::bitpack::{BitWriter, bits_for, gather_bits, get_bits, read_bits};

const BLOCK: u32 = 1024;
const ENTRY: usize = 40;
const META: usize = 64;
const SINGLE: u32 = 1;
const FULL: u32 = 2;
/// Values of a block without a stream.
const UNWRITTEN_MAX: usize = 1 << 16;

/// Builds a column, document after document. Memory: a block, and a few bits per document.
#[derive(Debug)]
pub(crate) struct ColumnWriter {
    /// Streams ready to be written; drained by the owner.
    pub pending: Vec<u8>,
    drained: u64,
    block: Vec<u64>,
    block_start: u64,
    table: Vec<u8>,
    words: Vec<u64>,
    starts: Option<LinearWriter>,
    doc_count: u32,
    present: u64,
    value_count: u64,
    min: u64,
    max: u64,
}

impl ColumnWriter {
    pub fn new() -> ColumnWriter {
        ColumnWriter {
            pending: Vec::new(),
            drained: 0,
            block: Vec::with_capacity(BLOCK as usize),
            block_start: 0,
            table: Vec::new(),
            words: Vec::new(),
            starts: None,
            doc_count: 0,
            present: 0,
            value_count: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    /// The values of the next document, ascending.
    #[inline]
    pub fn push(&mut self, values: &[u64]) {
        debug_assert!(values.is_sorted());
        if self.doc_count.is_multiple_of(64) {
            self.words.push(0);
        }
        if !values.is_empty() {
            self.words[self.doc_count as usize / 64] |= 1 << (self.doc_count % 64);
            if values.len() > 1 && self.starts.is_none() {
                let mut starts = LinearWriter::default();
                (0..self.present).for_each(|i| starts.push(i));
                self.starts = Some(starts);
            }
            if let Some(starts) = &mut self.starts {
                starts.push(self.value_count);
            }
            self.block.extend_from_slice(values);
            self.present += 1;
            self.value_count += values.len() as u64;
        }
        self.doc_count += 1;
        if self.doc_count.is_multiple_of(BLOCK) {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let min = self.block.iter().copied().min().unwrap_or(u64::MAX);
        let max = self.block.iter().copied().max().unwrap_or(0);
        let unit = common_unit(&self.block, min);
        let bits = match self.block.len() {
            0 => 0,
            n => bits_for((max - min) / unit).max(u8::from(n > UNWRITTEN_MAX)),
        };
        let offset = self.drained + self.pending.len() as u64;
        let mut stream = BitWriter::new(&mut self.pending);
        if unit == 1 {
            self.block.iter().for_each(|v| stream.put(v - min, bits));
        } else {
            self.block.iter().for_each(|v| stream.put((v - min) / unit, bits));
        }
        stream.finish();
        for number in [min, max, unit, self.block_start, u64::from(bits) << 56 | offset] {
            self.table.extend_from_slice(&number.to_le_bytes());
        }
        self.block_start += self.block.len() as u64;
        self.block.clear();
        self.min = self.min.min(min);
        self.max = self.max.max(max);
    }

    /// Says that `pending` was written and emptied.
    pub fn drained(&mut self, bytes: usize) {
        self.drained += bytes as u64;
    }

    /// Appends everything that is left to `pending`.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.doc_count.is_multiple_of(BLOCK) {
            self.end_block();
        }
        let streams_len = self.drained + self.pending.len() as u64;
        let mut out = self.pending;
        let single = self.starts.is_none();
        let full = self.present == u64::from(self.doc_count);
        let before = out.len();
        if !full {
            presence::write(&self.words, &mut out);
        }
        let presence_len = out.len() - before;
        if let Some(mut starts) = self.starts {
            starts.push(self.value_count);
            starts.finish(&mut out);
        }
        let starts_len = out.len() - before - presence_len;
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.doc_count.to_le_bytes());
        let flags = if single { SINGLE } else { 0 } | if full { FULL } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        let numbers =
            [self.present, self.value_count, self.min, self.max, streams_len, presence_len as u64, starts_len as u64];
        numbers.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out
    }
}

/// Greatest common divisor of the distances from `min`; 1 if there are none.
fn common_unit(values: &[u64], min: u64) -> u64 {
    let mut unit = 0;
    for v in values {
        let (mut a, mut b) = (unit, v - min);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        unit = a;
        if unit == 1 {
            break;
        }
    }
    unit.max(1)
}

/// Numeric doc values.
#[derive(Clone, Debug)]
pub struct NumberColumn {
    streams: Bytes,
    table: Bytes,
    presence: Option<Presence>,
    starts: Option<Linear>,
    doc_count: u32,
    present: u64,
    value_count: u64,
    min: u64,
    max: u64,
}

/// A block's row of the table.
#[derive(Clone, Copy)]
struct Entry {
    min: u64,
    max: u64,
    unit: u64,
    start: u64,
    bits: u8,
    offset: usize,
}

impl Entry {
    /// Bit at which value `index` of the column begins.
    #[inline]
    fn place(&self, index: u64) -> usize {
        (self.offset * 8).wrapping_add((index.wrapping_sub(self.start) as usize).wrapping_mul(self.bits as usize))
    }
}

impl NumberColumn {
    pub(crate) fn open(bytes: &Bytes, doc_count: u32, what: &str) -> Result<NumberColumn> {
        NumberColumn::open_checked(bytes, doc_count, what)
            .ok_or_else(|| Error::corrupt(what, 0, "column does not add up"))
    }

    fn open_checked(bytes: &Bytes, doc_count: u32, what: &str) -> Option<NumberColumn> {
        let meta_at = bytes.len().checked_sub(META)?;
        let meta = &bytes[meta_at..];
        let flags = u32::from_le_bytes(meta[4..8].try_into().ok()?);
        let number = |i: usize| u64::from_le_bytes(meta.as_chunks::<8>().0[i]);
        let [present, value_count, min, max, streams, presence_len, starts_len] = [1, 2, 3, 4, 5, 6, 7].map(number);
        let table_len = doc_count.div_ceil(BLOCK) as usize * ENTRY;
        let streams = usize::try_from(streams).ok()?;
        let starts_at = streams.checked_add(usize::try_from(presence_len).ok()?)?;
        let table_at = starts_at.checked_add(usize::try_from(starts_len).ok()?)?;
        if table_at.checked_add(table_len)? != meta_at || meta[..4] != doc_count.to_le_bytes() {
            return None;
        }
        let (single, full) = (flags & SINGLE != 0, flags & FULL != 0);
        let presence = if full { None } else { Some(Presence::open(&bytes.slice(streams..starts_at), doc_count)?) };
        let starts = if single {
            None
        } else {
            Some(Linear::open(bytes.slice(starts_at..table_at), &Checks::default(), what).ok()?)
        };
        if present > u64::from(doc_count)
            || (full && present != u64::from(doc_count))
            || (single && value_count != present)
            || starts.as_ref().is_some_and(|s| s.len() as u64 != present + 1)
        {
            return None;
        }
        Some(NumberColumn {
            streams: bytes.slice(..streams),
            table: bytes.slice(table_at..meta_at),
            presence,
            starts,
            doc_count,
            present,
            value_count,
            min,
            max,
        })
    }

    /// Whether no document has two values.
    #[inline]
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.starts.is_none()
    }

    /// Whether every document has a value.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.presence.is_none()
    }

    /// Smallest and largest value of the segment; none if no document has one.
    #[must_use]
    pub fn bounds(&self) -> Option<(u64, u64)> {
        (self.value_count > 0).then_some((self.min, self.max))
    }

    /// Documents with a value.
    #[must_use]
    pub fn present_count(&self) -> u32 {
        self.present as u32
    }

    /// Values of all documents together.
    #[must_use]
    pub fn value_count(&self) -> u64 {
        self.value_count
    }

    /// Whether `doc` has a value.
    #[inline]
    #[must_use]
    pub fn has(&self, doc: DocId) -> bool {
        self.presence.as_ref().is_none_or(|p| p.contains(doc))
    }

    /// 64 documents a word from document `64 * i` on: who has a value.
    #[inline]
    #[must_use]
    pub fn presence_word(&self, i: usize) -> u64 {
        match &self.presence {
            Some(p) => p.word(i),
            None => {
                let rest = (self.doc_count as usize).saturating_sub(i * 64);
                if rest >= 64 { u64::MAX } else { (1 << rest) - 1 }
            }
        }
    }

    #[inline]
    fn entry(&self, block: usize) -> Entry {
        let row = self.table.as_chunks::<ENTRY>().0[block].as_chunks::<8>().0;
        let place = u64::from_le_bytes(row[4]);
        Entry {
            min: u64::from_le_bytes(row[0]),
            max: u64::from_le_bytes(row[1]),
            unit: u64::from_le_bytes(row[2]),
            start: u64::from_le_bytes(row[3]),
            bits: (place >> 56) as u8,
            offset: (place & (u64::MAX >> 8)) as usize,
        }
    }

    #[inline]
    fn value(&self, entry: &Entry, index: u64) -> u64 {
        if entry.bits == 0 {
            return entry.min;
        }
        entry.min.wrapping_add(entry.unit.wrapping_mul(get_bits(&self.streams, entry.place(index), entry.bits)))
    }

    /// Indexes of the values of `doc`.
    #[inline]
    fn value_range(&self, doc: DocId) -> Range<u64> {
        let slot = match &self.presence {
            None => u64::from(doc),
            Some(p) if p.contains(doc) => u64::from(p.rank(doc)),
            Some(_) => return 0..0,
        };
        match &self.starts {
            None => slot..slot + 1,
            Some(starts) if (slot as usize) + 1 < starts.len() => {
                let start = starts.get(slot as usize);
                let end = starts.get(slot as usize + 1);
                start..end.min(start.saturating_add(self.value_count))
            }
            Some(_) => 0..0,
        }
    }

    /// The smallest value of `doc`.
    #[inline]
    #[must_use]
    pub fn first(&self, doc: DocId) -> Option<u64> {
        let range = self.value_range(doc);
        if range.is_empty() {
            return None;
        }
        Some(self.value(&self.entry((doc / BLOCK) as usize), range.start))
    }

    /// Replaces `out` with all values, ascending.
    #[inline]
    pub fn values(&self, doc: DocId, out: &mut Vec<u64>) {
        out.clear();
        let range = self.value_range(doc);
        if range.is_empty() {
            return;
        }
        let entry = self.entry((doc / BLOCK) as usize);
        // A damaged start cannot make more values than there are bytes for.
        let possible = if entry.bits == 0 { UNWRITTEN_MAX as u64 } else { self.streams.len() as u64 * 8 };
        let end = range.end.min(range.start.saturating_add(possible));
        out.extend((range.start..end).map(|i| self.value(&entry, i)));
    }

    /// Replaces `out` with the values of `docs` (consecutive); only for single and full columns.
    pub fn range(&self, docs: Range<DocId>, out: &mut Vec<u64>) {
        out.clear();
        self.range_map(docs, out, |v| v);
    }

    #[inline]
    fn range_map<T: Copy>(&self, docs: Range<DocId>, out: &mut Vec<T>, map: impl Fn(u64) -> T + Copy) {
        assert!(self.is_single() && self.is_full() && docs.end <= self.doc_count);
        out.reserve(docs.len());
        let mut doc = docs.start;
        while doc < docs.end {
            let block = doc / BLOCK;
            let end = docs.end.min((block + 1) * BLOCK);
            let entry = self.entry(block as usize);
            let count = (end - doc) as usize;
            if entry.bits == 0 {
                out.resize(out.len() + count, map(entry.min));
            } else {
                let (min, unit, at) = (entry.min, entry.unit, entry.place(u64::from(doc)));
                if unit == 1 {
                    read_bits(&self.streams, at, entry.bits, count, out, move |v| map(min.wrapping_add(v)));
                } else {
                    read_bits(&self.streams, at, entry.bits, count, out, move |v| {
                        map(min.wrapping_add(unit.wrapping_mul(v)))
                    });
                }
            }
            doc = end;
        }
    }

    /// Replaces `out` with the values of `docs` (ascending, repeats possible); only for single and full columns.
    pub fn gather(&self, docs: &[DocId], out: &mut Vec<u64>) {
        out.clear();
        self.gather_map(docs, out, |v| v);
    }

    #[inline]
    fn gather_map<T: Copy>(&self, mut docs: &[DocId], out: &mut Vec<T>, map: impl Fn(u64) -> T + Copy) {
        assert!(self.is_single() && self.is_full() && docs.last().is_none_or(|&d| d < self.doc_count));
        out.reserve(docs.len());
        while let Some(&first) = docs.first() {
            let block = first / BLOCK;
            let behind = (block + 1) * BLOCK;
            let count = match docs.last() {
                Some(&last) if last < behind => docs.len(),
                _ => count_below(docs, behind),
            };
            let (within, rest) = docs.split_at(count);
            docs = rest;
            let entry = self.entry(block as usize);
            if entry.bits == 0 {
                out.resize(out.len() + count, map(entry.min));
            } else if entry.start == u64::from(block * BLOCK) {
                let (bits, min, unit) = (entry.bits, entry.min, entry.unit);
                let stream = self.streams.get(entry.offset..).unwrap_or(&[]);
                if unit == 1 {
                    gather_bits(stream, bits, within, block * BLOCK, out, move |v| map(min.wrapping_add(v)));
                } else {
                    gather_bits(stream, bits, within, block * BLOCK, out, move |v| {
                        map(min.wrapping_add(unit.wrapping_mul(v)))
                    });
                }
            } else {
                out.extend(within.iter().map(|&doc| map(self.value(&entry, u64::from(doc)))));
            }
        }
    }

    /// The block of consecutive documents around `doc`, its smallest and its largest value (smallest > largest if it has none).
    #[must_use]
    pub fn block_bounds(&self, doc: DocId) -> (Range<DocId>, u64, u64) {
        let block = doc / BLOCK;
        let entry = self.entry(block as usize);
        (block * BLOCK..self.doc_count.min((block + 1) * BLOCK), entry.min, entry.max)
    }
}

/// How many of the ascending `docs` are below `limit`, which most often is not far.
#[inline]
fn count_below(docs: &[DocId], limit: DocId) -> usize {
    let mut below = 0;
    for some in docs.chunks(64) {
        let found = some.iter().map(|&doc| u32::from(doc < limit)).sum::<u32>() as usize;
        below += found;
        if found < some.len() {
            break;
        }
    }
    below
}

/// Terms by ordinal, decoded.
#[derive(Debug, Default)]
pub(crate) struct TermTable {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl TermTable {
    /// The next term.
    pub fn push(&mut self, term: &[u8]) {
        self.bytes.extend_from_slice(term);
        self.ends.push(self.bytes.len() as u32);
    }

    /// A term; empty if there is none.
    #[inline]
    pub fn term(&self, ordinal: usize) -> &[u8] {
        let start = if ordinal == 0 { 0 } else { self.ends.get(ordinal - 1).copied().unwrap_or(0) };
        let end = self.ends.get(ordinal).copied().unwrap_or(start);
        &self.bytes[start as usize..end as usize]
    }
}

/// Terms of a dictionary that is kept decoded, at most, and their bytes.
const TABLE_TERMS: u32 = 4096;
const TABLE_BYTES: usize = 64 << 10;

/// Ordinal doc values and their dictionary.
#[derive(Clone, Debug)]
pub struct OrdinalColumn {
    ordinals: NumberColumn,
    dictionary: Dictionary,
    count: u32,
    /// A small dictionary, once someone asked for it.
    table: Arc<OnceLock<Option<Arc<TermTable>>>>,
}

impl OrdinalColumn {
    pub(crate) fn open(ordinals: NumberColumn, dictionary: Dictionary, what: &str) -> Result<OrdinalColumn> {
        let count = u32::try_from(dictionary.len()).map_err(|_| Error::corrupt(what, 0, "over 2^32 ordinals"))?;
        if ordinals.bounds().is_some_and(|(_, max)| max >= u64::from(count)) {
            return Err(Error::corrupt(what, 0, format!("ordinals beyond a dictionary of {count}")));
        }
        Ok(OrdinalColumn { ordinals, dictionary, count, table: Arc::default() })
    }

    /// Whether no document has two values.
    #[inline]
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.ordinals.is_single()
    }

    /// Whether every document has a value.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ordinals.is_full()
    }

    /// Whether `doc` has a value.
    #[inline]
    #[must_use]
    pub fn has(&self, doc: DocId) -> bool {
        self.ordinals.has(doc)
    }

    /// The ordinals as a column of numbers: blocks, bounds, presence.
    #[must_use]
    pub fn numbers(&self) -> &NumberColumn {
        &self.ordinals
    }

    /// Terms in the dictionary.
    #[inline]
    #[must_use]
    pub fn ordinal_count(&self) -> u32 {
        self.count
    }

    /// All terms, if they are few.
    pub(crate) fn small_dictionary(&self) -> Option<&Arc<TermTable>> {
        if self.count > TABLE_TERMS {
            return None;
        }
        let decode = || {
            let mut table = TermTable::default();
            self.dictionary.visit_ordinals(0, &mut |_, term| {
                table.push(term);
                table.bytes.len() <= TABLE_BYTES
            });
            (table.bytes.len() <= TABLE_BYTES).then(|| Arc::new(table))
        };
        self.table.get_or_init(decode).as_ref()
    }

    /// Smallest ordinal of `doc`.
    #[inline]
    #[must_use]
    pub fn first(&self, doc: DocId) -> Option<u32> {
        // Callers index arrays with ordinals, so damage must not make one too large.
        self.ordinals.first(doc).map(|o| o.min(u64::from(self.count) - 1) as u32)
    }

    /// Replaces `out` with the ordinals of `docs` (consecutive); only for single and full columns.
    pub fn range(&self, docs: Range<DocId>, out: &mut Vec<u32>) {
        let last = self.count.saturating_sub(1);
        out.clear();
        self.ordinals.range_map(docs, out, move |o| (o as u32).min(last));
    }

    /// Replaces `out` with the ordinals of `docs` (ascending, repeats possible); only for single and full columns.
    pub fn gather(&self, docs: &[DocId], out: &mut Vec<u32>) {
        let last = self.count.saturating_sub(1);
        out.clear();
        self.ordinals.gather_map(docs, out, move |o| (o as u32).min(last));
    }

    /// Replaces `out` with all ordinals of `doc`, ascending.
    pub fn values(&self, doc: DocId, out: &mut Vec<u32>) {
        out.clear();
        let range = self.ordinals.value_range(doc);
        if range.is_empty() {
            return;
        }
        let entry = self.ordinals.entry((doc / BLOCK) as usize);
        let end = range.end.min(range.start.saturating_add(u64::from(self.count)));
        let last = u64::from(self.count) - 1;
        out.extend((range.start..end).map(|i| self.ordinals.value(&entry, i).min(last) as u32));
    }

    /// How many ordinals `doc` has.
    #[inline]
    #[must_use]
    pub fn count(&self, doc: DocId) -> u64 {
        let range = self.ordinals.value_range(doc);
        range.end.saturating_sub(range.start)
    }

    /// Replaces `out` with the term of `ordinal`; empty if there is none.
    pub fn term(&self, ordinal: u32, out: &mut Vec<u8>) {
        self.dictionary.term(u64::from(ordinal), out);
    }

    /// `Ok` the ordinal of `term`, or `Err` the ordinal of the first greater one.
    pub fn lookup(&self, term: &[u8]) -> Result<u32, u32> {
        self.dictionary.lookup(term).map(|o| o as u32).map_err(|o| o as u32)
    }

    /// Terms in byte order with their ordinals, from `from` on, as long as `visit` answers true.
    pub fn visit_from(&self, from: u32, visit: &mut dyn FnMut(u32, &[u8]) -> bool) {
        self.dictionary.visit_ordinals(u64::from(from), &mut |ordinal, term| visit(ordinal as u32, term));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn documents_below_a_limit_are_counted(mut docs in proptest::collection::vec(0u32..3000, 0..300), limit in 0u32..3000) {
            docs.sort_unstable();
            proptest::prop_assert_eq!(count_below(&docs, limit), docs.partition_point(|&doc| doc < limit));
        }
    }

    #[test]
    fn a_document_may_have_any_number_of_equal_values() {
        for count in [UNWRITTEN_MAX - 1, UNWRITTEN_MAX, 3 * UNWRITTEN_MAX] {
            let mut writer = ColumnWriter::new();
            writer.push(&vec![7; count]);
            writer.push(&[7]);
            let image = Bytes::from(writer.finish());
            let column = NumberColumn::open(&image, 2, "f").expect("it was written");
            let mut values = Vec::new();
            column.values(0, &mut values);
            assert_eq!(values, vec![7; count]);
            column.values(1, &mut values);
            assert_eq!(values, [7]);
        }
    }
}

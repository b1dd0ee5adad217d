//! Sorted byte strings and what is known of each: terms of an inverted index, values of an ordinal column.
//!
//! Blocks of 32 terms, front-coded; an index of the shortest strings that separate neighbouring blocks. A lookup is a
//! binary search in the index and a search in one block; term number and term convert both ways. Unlike an automaton
//! it is built and merged at the cost of a copy, and no bytes can make a lookup leave its block.
//!
//! The dictionary stream is blocks, see `term_block`, back to back.
//!
//! Index, in the section's tail, for `n = ceil(terms / 32)` blocks:
//!
//! ```text
//! term count u64 | stream address of each block, u64 * n | end of each separator, u32 * n | separators
//! ```
//!
//! Separator `i` is above every term of block `i - 1` and not above any of block `i`; separator 0 is empty.

use std::sync::Arc;

use bytes::Bytes;

use crate::segment::extents::Stream;
use crate::segment::postings::TermInfo;
use crate::segment::term_block::{self, BLOCK, Block, Infos, common_prefix};

/// Keys between two guides.
const GUIDE: usize = 32;

/// Builds a dictionary from terms in ascending order. Memory: a block and the index.
#[derive(Debug)]
pub(crate) struct DictionaryWriter {
    with_infos: bool,
    /// Terms of the current block, back to back.
    terms: Vec<u8>,
    ends: Vec<usize>,
    infos: Vec<TermInfo>,
    /// Last term of the block before.
    previous: Vec<u8>,
    addresses: Vec<u64>,
    separators: Vec<u8>,
    separator_ends: Vec<u32>,
    count: u64,
}

impl DictionaryWriter {
    pub fn new(with_infos: bool) -> DictionaryWriter {
        DictionaryWriter {
            with_infos,
            terms: Vec::new(),
            ends: Vec::with_capacity(BLOCK),
            infos: Vec::with_capacity(BLOCK),
            previous: Vec::new(),
            addresses: Vec::new(),
            separators: Vec::new(),
            separator_ends: Vec::new(),
            count: 0,
        }
    }

    /// Adds a term above all before. `pending` is the dictionary stream's, which stands at `position`.
    pub fn push(&mut self, term: &[u8], info: TermInfo, position: u64, pending: &mut Vec<u8>) {
        if self.ends.len() == BLOCK {
            self.end_block(position, pending);
        }
        if self.ends.is_empty() {
            let shared = common_prefix(&self.previous, term);
            let separator = if self.count == 0 { &[][..] } else { &term[..(shared + 1).min(term.len())] };
            self.separators.extend_from_slice(separator);
            self.separator_ends.push(u32::try_from(self.separators.len()).expect("index of a dictionary over 4 GiB"));
        }
        debug_assert!(self.count == 0 || !self.ends.is_empty() || self.previous.as_slice() < term);
        self.terms.extend_from_slice(term);
        self.ends.push(self.terms.len());
        self.infos.push(info);
        self.count += 1;
    }

    fn end_block(&mut self, position: u64, out: &mut Vec<u8>) {
        if self.ends.is_empty() {
            return;
        }
        self.addresses.push(position);
        let infos: &[TermInfo] = if self.with_infos { &self.infos } else { &[] };
        term_block::write(&self.terms, &self.ends, infos, out);
        let last = self.ends.len().checked_sub(2).map_or(0, |i| self.ends[i]);
        self.previous.clear();
        self.previous.extend_from_slice(&self.terms[last..]);
        self.terms.clear();
        self.ends.clear();
        self.infos.clear();
    }

    /// Ends the last block; afterwards `index` can be written.
    pub fn finish(&mut self, position: u64, pending: &mut Vec<u8>) {
        self.end_block(position, pending);
    }

    /// Appends the index.
    pub fn write_index(&self, out: &mut Vec<u8>) {
        assert_eq!(self.addresses.len(), self.separator_ends.len());
        out.extend_from_slice(&self.count.to_le_bytes());
        self.addresses.iter().for_each(|a| out.extend_from_slice(&a.to_le_bytes()));
        self.separator_ends.iter().for_each(|e| out.extend_from_slice(&e.to_le_bytes()));
        out.extend_from_slice(&self.separators);
    }
}

/// Reads a dictionary in place.
#[derive(Clone, Debug)]
pub(crate) struct Dictionary {
    stream: Stream,
    addresses: Bytes,
    separator_ends: Bytes,
    separators: Bytes,
    /// First eight bytes of each separator: nearly every step of a search looks at nothing else.
    keys: Arc<[u64]>,
    /// Every `GUIDE`th key: half of the steps stay within a few lines of the cache.
    guides: Arc<[u64]>,
    count: u64,
    with_infos: bool,
}

/// The first eight bytes, in an order that is theirs; zeros where there are fewer.
#[inline]
fn key(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(chunk)
        }
    }
}

impl Dictionary {
    /// `None` unless the index has the right size.
    pub fn open(stream: Stream, index: Bytes, with_infos: bool) -> Option<Dictionary> {
        let count = u64::from_le_bytes(*index.first_chunk()?);
        let blocks = usize::try_from(count.div_ceil(BLOCK as u64)).ok()?;
        let ends_at = blocks.checked_mul(8)?.checked_add(8)?;
        let separators_at = blocks.checked_mul(12)?.checked_add(8)?;
        if separators_at > index.len() {
            return None;
        }
        let mut dictionary = Dictionary {
            stream,
            addresses: index.slice(8..ends_at),
            separator_ends: index.slice(ends_at..separators_at),
            separators: index.slice(separators_at..),
            keys: Arc::default(),
            guides: Arc::default(),
            count,
            with_infos,
        };
        dictionary.keys = (0..blocks).map(|block| key(dictionary.separator(block))).collect();
        dictionary.guides = dictionary.keys.iter().copied().step_by(GUIDE).collect();
        Some(dictionary)
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    pub(crate) fn block_count(&self) -> usize {
        self.addresses.len() / 8
    }

    fn separator(&self, block: usize) -> &[u8] {
        let ends = self.separator_ends.as_chunks::<4>().0;
        let start = if block == 0 { 0 } else { u32::from_le_bytes(ends[block - 1]) };
        self.separators.get(start as usize..u32::from_le_bytes(ends[block]) as usize).unwrap_or(&[])
    }

    /// The only block that can hold `term`.
    fn block_of(&self, term: &[u8]) -> usize {
        // Equal keys tell nothing; what is below or above tells all.
        let wanted = key(term);
        let guide = self.guides.partition_point(|&k| k < wanted);
        let from = guide.saturating_sub(1) * GUIDE;
        let to = (guide * GUIDE).min(self.keys.len());
        let mut low = from + self.keys[from..to].partition_point(|&k| k < wanted);
        let mut high = low + self.keys[low..].iter().take_while(|&&k| k == wanted).take(8).count();
        if high == low + 8 {
            high = low + self.keys[low..].partition_point(|&k| k == wanted);
        }
        low = low.saturating_sub(1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.separator(middle) <= term {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The last block from `from` on that can hold `term` or what is above it; cheap if that is near.
    #[inline]
    pub(crate) fn block_from(&self, from: usize, term: &[u8]) -> usize {
        let wanted = key(term);
        let (mut low, mut step) = (from, 1);
        while low + step < self.keys.len() && self.keys[low + step] < wanted {
            low += step;
            step *= 2;
        }
        // The key at `low` is below, unless that is `from`; the one at `high` is not, if there is one.
        let high = (low + step).min(self.keys.len());
        let behind = (low + 1).min(high);
        let mut next = behind + self.keys[behind..high].partition_point(|&k| k < wanted);
        if self.keys.get(next) == Some(&wanted) {
            let mut end = next + self.keys[next..].partition_point(|&k| k == wanted);
            while next < end {
                let middle = next + (end - next) / 2;
                if self.separator(middle) <= term {
                    next = middle + 1;
                } else {
                    end = middle;
                }
            }
        }
        next.saturating_sub(1).max(from)
    }

    #[inline]
    pub(crate) fn block(&self, block: usize) -> Option<Block<'_>> {
        let address = u64::from_le_bytes(*self.addresses.as_chunks::<8>().0.get(block)?);
        let n = (self.count - (block * BLOCK) as u64).min(BLOCK as u64) as usize;
        Block::open(self.stream.at(address), n)
    }

    /// What is known of the terms of a block. None where it is damaged.
    #[inline]
    pub(crate) fn infos<'a>(&self, block: &Block<'a>) -> Option<Infos<'a>> {
        if self.with_infos { block.infos() } else { Some(Infos::NONE) }
    }

    /// The term, if it is there: its number and info.
    pub fn get(&self, term: &[u8]) -> Option<(u64, TermInfo)> {
        let at = self.block_of(term);
        let block = self.block(at)?;
        let i = block.search(term).ok()?;
        Some(((at * BLOCK + i) as u64, self.infos(&block)?.get(i)))
    }

    /// A cursor before the first term that is not below `term`; its next step answers it.
    pub fn seek(&self, term: &[u8]) -> DictionaryCursor<'_> {
        let at = self.block_of(term);
        let mut cursor = self.cursor_at(at);
        cursor.enter();
        if let Some(block) = &cursor.block {
            let (Ok(i) | Err(i)) = block.search(term);
            if let Some(before) = i.checked_sub(1) {
                block.term(before, &mut cursor.term);
            }
            cursor.index = i;
        }
        // A block that is damaged, or not where it should be, may have smaller ones.
        while cursor.peek().is_some_and(|(_, found)| found < term) {
            cursor.consume();
        }
        cursor
    }

    fn cursor_at(&self, block: usize) -> DictionaryCursor<'_> {
        DictionaryCursor {
            dictionary: self,
            next_block: block,
            block: None,
            infos: Infos::NONE,
            index: 0,
            term: Vec::new(),
            peeked: false,
        }
    }

    /// A cursor before the first term.
    pub fn iter(&self) -> DictionaryCursor<'_> {
        self.cursor_at(0)
    }

    /// Replaces `out` with the term of this number; empty if there is none.
    pub fn term(&self, ordinal: u64, out: &mut Vec<u8>) {
        out.clear();
        if ordinal >= self.count {
            return;
        }
        if let Some(block) = self.block((ordinal / BLOCK as u64) as usize) {
            block.term((ordinal % BLOCK as u64) as usize, out);
        }
    }

    /// Terms with their numbers, from number `from` on, as long as `visit` answers true.
    pub fn visit_ordinals(&self, from: u64, visit: &mut dyn FnMut(u64, &[u8]) -> bool) {
        let mut cursor = self.cursor_at((from / BLOCK as u64) as usize);
        while let Some((ordinal, term)) = cursor.peek() {
            if ordinal >= from && !visit(ordinal, term) {
                return;
            }
            cursor.consume();
        }
    }

    /// `Ok` the number of `term`, or `Err` the number of the first greater one.
    pub fn lookup(&self, term: &[u8]) -> Result<u64, u64> {
        let at = self.block_of(term);
        let Some(block) = self.block(at) else { return Err(self.count) };
        let first = (at * BLOCK) as u64;
        block.search(term).map(|i| first + i as u64).map_err(|i| first + i as u64)
    }
}

/// A varint from the front; `None` at the end of the bytes or over 64 bits.
#[inline]
pub(crate) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Walks a dictionary in order.
#[derive(Clone, Debug)]
pub(crate) struct DictionaryCursor<'a> {
    dictionary: &'a Dictionary,
    next_block: usize,
    block: Option<Block<'a>>,
    /// Of `block`.
    infos: Infos<'a>,
    index: usize,
    term: Vec<u8>,
    peeked: bool,
}

impl<'a> DictionaryCursor<'a> {
    /// Goes to the first term of `next_block`.
    fn enter(&mut self) {
        let block = self.dictionary.block(self.next_block);
        let both = block.and_then(|block| Some((block, self.dictionary.infos(&block)?)));
        self.infos = both.map_or(Infos::NONE, |(_, infos)| infos);
        self.block = both.map(|(block, _)| block);
        self.index = 0;
        self.next_block += 1;
    }

    /// The next term and its number, staying before it.
    #[inline]
    pub fn peek(&mut self) -> Option<(u64, &[u8])> {
        if !self.peeked {
            while self.block.as_ref().is_none_or(|b| self.index >= b.len()) {
                if self.next_block >= self.dictionary.block_count() {
                    return None;
                }
                self.enter();
            }
            let Some((shared, suffix)) = self.block.as_ref().and_then(|b| b.entry(self.index)) else {
                self.next_block = self.dictionary.block_count();
                self.block = None;
                return None;
            };
            self.term.truncate(shared);
            self.term.extend_from_slice(suffix);
            self.peeked = true;
        }
        Some((((self.next_block - 1) * BLOCK + self.index) as u64, &self.term))
    }

    /// Steps over the term seen by `peek`; its info.
    #[inline]
    pub fn consume(&mut self) -> TermInfo {
        debug_assert!(self.peeked);
        self.peeked = false;
        let info = self.infos.get(self.index);
        self.index += 1;
        info
    }

    /// The term last peeked.
    #[inline]
    pub fn last_term(&self) -> &[u8] {
        &self.term
    }
}

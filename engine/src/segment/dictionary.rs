//! Sorted byte strings and what is known of each: terms of an inverted index, values of an ordinal column.
//!
//! Blocks of 32 terms, front-coded; an index of the shortest strings that separate neighbouring blocks. A lookup is a
//! binary search in the index and a scan of one block; term number and term convert both ways. Unlike an automaton
//! it is built and merged at the cost of a copy, and no bytes can make a lookup leave its block.
//!
//! Block, in the dictionary stream:
//!
//! ```text
//! with infos only:
//!   postings and positions of the first term, varints
//!   widths of doc_freq - 1, total_term_freq - doc_freq, postings and positions, 4 bytes
//!   bit stream, per term those four; addresses relative to the first term's
//! first term: varint length, bytes
//! each other: shared << 4 | rest as one byte, shared = bytes in common with the term before, rest = bytes that follow;
//!             15 in either half means 15 + a varint, shared's before rest's; then the bytes
//! ```
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

use crate::codec::put_varint;
use crate::segment::extents::Stream;
use crate::segment::postings::TermInfo;
use crate::store::bitpack::{BitWriter, bits_for, get_bits};

/// Terms in a block.
pub(crate) const BLOCK: usize = 32;

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

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
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
        if self.with_infos {
            self.write_infos(out);
        }
        let mut start = 0;
        let mut before: &[u8] = &[];
        for (i, &end) in self.ends.iter().enumerate() {
            let term = &self.terms[start..end];
            if i == 0 {
                put_varint(out, term.len() as u64);
                out.extend_from_slice(term);
            } else {
                debug_assert!(before < term, "terms must ascend");
                let shared = common_prefix(before, term);
                let rest = term.len() - shared;
                out.push((shared.min(15) << 4 | rest.min(15)) as u8);
                if shared >= 15 {
                    put_varint(out, shared as u64 - 15);
                }
                if rest >= 15 {
                    put_varint(out, rest as u64 - 15);
                }
                out.extend_from_slice(&term[shared..]);
            }
            before = term;
            start = end;
        }
        self.previous.clear();
        self.previous.extend_from_slice(before);
        self.terms.clear();
        self.ends.clear();
        self.infos.clear();
    }

    fn write_infos(&self, out: &mut Vec<u8>) {
        let first = self.infos[0];
        put_varint(out, first.postings);
        put_varint(out, first.positions);
        let row = |info: &TermInfo| {
            [
                u64::from(info.doc_freq) - 1,
                info.total_term_freq - u64::from(info.doc_freq),
                info.postings - first.postings,
                info.positions - first.positions,
            ]
        };
        let mut widths = [0u8; 4];
        for info in &self.infos {
            for (width, value) in widths.iter_mut().zip(row(info)) {
                *width = (*width).max(bits_for(value));
            }
        }
        out.extend_from_slice(&widths);
        let mut stream = BitWriter::new(out);
        for info in &self.infos {
            for (width, value) in widths.iter().zip(row(info)) {
                stream.put(value, *width);
            }
        }
        stream.finish();
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

    fn block_count(&self) -> usize {
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

    fn block(&self, block: usize) -> Option<Block<'_>> {
        let address = u64::from_le_bytes(*self.addresses.as_chunks::<8>().0.get(block)?);
        let first_ordinal = (block * BLOCK) as u64;
        let n = (self.count - first_ordinal).min(BLOCK as u64) as usize;
        Block::open(self.stream.at(address), n, first_ordinal, self.with_infos)
    }

    /// The term, if it is there: its number and info.
    pub fn get(&self, term: &[u8]) -> Option<(u64, TermInfo)> {
        let block = self.block(self.block_of(term))?;
        let mut rest = block.terms;
        // Bytes in common between `term` and the entry before. An entry that shares more with its neighbour than that is
        // still below `term`; one that shares less is above it.
        let mut matched = 0;
        for i in 0..block.n {
            let (shared, suffix) = next_entry(&mut rest, i == 0)?;
            if shared > matched {
                continue;
            }
            if shared < matched {
                return None;
            }
            let common = common_prefix(suffix, &term[matched..]);
            matched += common;
            match (suffix.get(common), term.get(matched)) {
                (None, None) => return Some((block.first_ordinal + i as u64, block.info(i))),
                (Some(_), None) => return None,
                (Some(s), Some(t)) if s > t => return None,
                _ => {}
            }
        }
        None
    }

    /// A cursor before the first term that is not below `term`; its next step answers it.
    pub fn seek(&self, term: &[u8]) -> DictionaryCursor<'_> {
        let block = self.block_of(term);
        let mut cursor = self.cursor_at(block);
        while cursor.peek().is_some_and(|(_, found)| found < term) {
            cursor.pass();
        }
        cursor
    }

    fn cursor_at(&self, block: usize) -> DictionaryCursor<'_> {
        DictionaryCursor {
            dictionary: self,
            next_block: block,
            block: None,
            rest: &[],
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
        let Some(block) = self.block((ordinal / BLOCK as u64) as usize) else { return };
        let mut rest = block.terms;
        for i in 0..=(ordinal % BLOCK as u64) as usize {
            let Some((shared, suffix)) = next_entry(&mut rest, i == 0) else { return };
            out.truncate(shared);
            out.extend_from_slice(suffix);
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

    /// Terms that the automaton accepts, in order, as long as `visit` answers true. Cost: the blocks that have terms
    /// which the automaton follows further than to their first dead byte, and a lookup per gap.
    pub fn visit_matching<A: fst::Automaton>(
        &self,
        automaton: &A,
        next_byte: NextByte<'_, A>,
        visit: &mut dyn FnMut(&[u8], TermInfo) -> bool,
    ) {
        let mut cursor = self.iter();
        // State after each byte of `walked`; one more than it has bytes.
        let mut states = vec![automaton.start()];
        let mut walked: Vec<u8> = Vec::new();
        if !automaton.can_match(&states[0]) {
            return;
        }
        // The first `n` bytes of `walked` can lead to no match.
        let mut dead: Option<usize> = None;
        loop {
            if let Some(n) = dead
                && cursor.at_block_end()
            {
                let Some(target) = next_live(automaton, next_byte, &mut states, &walked[..n]) else { return };
                cursor.seek_forward(&target);
                dead = None;
            }
            let Some((_, term)) = cursor.peek() else { return };
            let shared = common_prefix(&walked, term);
            if dead.is_some_and(|n| shared >= n) {
                cursor.pass();
                continue;
            }
            dead = None;
            walked.truncate(shared);
            states.truncate(shared + 1);
            for &byte in &term[shared..] {
                walked.push(byte);
                let state = automaton.accept(&states[states.len() - 1], byte);
                if !automaton.can_match(&state) {
                    dead = Some(walked.len());
                    break;
                }
                states.push(state);
            }
            let last = &states[states.len() - 1];
            if dead.is_some() || !automaton.is_match(automaton.accept_eof(last).as_ref().unwrap_or(last)) {
                cursor.pass();
                continue;
            }
            let info = cursor.consume();
            if !visit(cursor.last_term(), info) {
                return;
            }
        }
    }

    /// `Ok` the number of `term`, or `Err` the number of the first greater one.
    pub fn lookup(&self, term: &[u8]) -> Result<u64, u64> {
        match self.seek(term).peek() {
            Some((ordinal, found)) if found == term => Ok(ordinal),
            Some((ordinal, _)) => Err(ordinal),
            None => Err(self.count),
        }
    }
}

/// The first byte, not below a number up to 256, with which the automaton can match from a state.
pub(crate) type NextByte<'a, A> = &'a dyn Fn(&<A as fst::Automaton>::State, u16) -> Option<u8>;

/// The smallest string above everything that starts with `dead` and from which the automaton can match; `states` are
/// those after each byte of `dead` but the last.
fn next_live<A: fst::Automaton>(
    automaton: &A,
    next_byte: NextByte<'_, A>,
    states: &mut Vec<A::State>,
    dead: &[u8],
) -> Option<Vec<u8>> {
    for depth in (0..dead.len()).rev() {
        states.truncate(depth + 1);
        if let Some(byte) = next_byte(&states[depth], u16::from(dead[depth]) + 1) {
            debug_assert!(automaton.can_match(&automaton.accept(&states[depth], byte)));
            let mut target = dead[..depth].to_vec();
            target.push(byte);
            return Some(target);
        }
    }
    None
}

/// One block, infos and terms apart.
#[derive(Clone, Copy, Debug)]
struct Block<'a> {
    n: usize,
    first_ordinal: u64,
    terms: &'a [u8],
    infos: &'a [u8],
    widths: [u8; 4],
    postings: u64,
    positions: u64,
}

impl<'a> Block<'a> {
    fn open(mut bytes: &'a [u8], n: usize, first_ordinal: u64, with_infos: bool) -> Option<Block<'a>> {
        let (mut postings, mut positions, mut widths, mut infos) = (0, 0, [0; 4], &[][..]);
        if with_infos {
            postings = read_varint(&mut bytes)?;
            positions = read_varint(&mut bytes)?;
            widths = *bytes.split_off_first_chunk()?;
            if widths.iter().any(|&w| w > 64) {
                return None;
            }
            let row: usize = widths.iter().map(|&w| w as usize).sum();
            infos = bytes.split_off(..(n * row).div_ceil(8))?;
        }
        Some(Block { n, first_ordinal, terms: bytes, infos, widths, postings, positions })
    }

    fn info(&self, i: usize) -> TermInfo {
        let row: usize = self.widths.iter().map(|&w| w as usize).sum();
        let mut at = i * row;
        let mut next = |width: u8| {
            let value = get_bits(self.infos, at, width);
            at += width as usize;
            value
        };
        let [doc_freq, more, postings, positions] = self.widths.map(&mut next);
        let doc_freq = (doc_freq.min(u64::from(u32::MAX) - 1) + 1) as u32;
        TermInfo {
            doc_freq,
            total_term_freq: more.saturating_add(u64::from(doc_freq)),
            postings: self.postings.saturating_add(postings),
            positions: self.positions.saturating_add(positions),
        }
    }
}

trait SplitOff<'a> {
    fn split_off_first_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]>;
}

impl<'a> SplitOff<'a> for &'a [u8] {
    fn split_off_first_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.split_first_chunk::<N>()?;
        *self = rest;
        Some(chunk)
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

/// Shared length and suffix of the next entry.
#[inline]
fn next_entry<'a>(rest: &mut &'a [u8], first: bool) -> Option<(usize, &'a [u8])> {
    let (shared, len) = if first {
        (0, read_varint(rest)?)
    } else {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let (mut shared, mut len) = (u64::from(byte >> 4), u64::from(byte & 15));
        if shared == 15 {
            shared = read_varint(rest)?.checked_add(15)?;
        }
        if len == 15 {
            len = read_varint(rest)?.checked_add(15)?;
        }
        (shared, len)
    };
    Some((usize::try_from(shared).ok()?, rest.split_off(..usize::try_from(len).ok()?)?))
}

/// Walks a dictionary in order.
#[derive(Clone, Debug)]
pub(crate) struct DictionaryCursor<'a> {
    dictionary: &'a Dictionary,
    next_block: usize,
    block: Option<Block<'a>>,
    rest: &'a [u8],
    index: usize,
    term: Vec<u8>,
    peeked: bool,
}

impl<'a> DictionaryCursor<'a> {
    /// The next term and its number, staying before it.
    pub fn peek(&mut self) -> Option<(u64, &[u8])> {
        if !self.peeked {
            while self.block.is_none_or(|b| self.index >= b.n) {
                if self.next_block >= self.dictionary.block_count() {
                    return None;
                }
                self.block = self.dictionary.block(self.next_block);
                self.rest = self.block.map_or(&[], |b| b.terms);
                self.index = 0;
                self.next_block += 1;
            }
            let Some((shared, suffix)) = next_entry(&mut self.rest, self.index == 0) else {
                self.next_block = self.dictionary.block_count();
                self.block = None;
                return None;
            };
            self.term.truncate(shared);
            self.term.extend_from_slice(suffix);
            self.peeked = true;
        }
        Some((self.block?.first_ordinal + self.index as u64, &self.term))
    }

    /// Steps over the term seen by `peek`; its info.
    pub fn consume(&mut self) -> TermInfo {
        debug_assert!(self.peeked);
        self.peeked = false;
        let info = self.block.map_or(TermInfo::default(), |b| b.info(self.index));
        self.index += 1;
        info
    }

    /// Passes over the term that was peeked.
    fn pass(&mut self) {
        debug_assert!(self.peeked);
        self.peeked = false;
        self.index += 1;
    }

    /// Whether the next step leaves the block.
    fn at_block_end(&self) -> bool {
        !self.peeked && self.block.is_none_or(|b| self.index >= b.n)
    }

    /// Moves to the first term not below `target`, if that is further on.
    fn seek_forward(&mut self, target: &[u8]) {
        let block = self.dictionary.block_of(target);
        if block >= self.next_block {
            self.next_block = block;
            self.block = None;
            self.peeked = false;
        }
        while self.peek().is_some_and(|(_, found)| found < target) {
            self.pass();
        }
    }

    /// The term last peeked.
    pub fn last_term(&self) -> &[u8] {
        &self.term
    }
}

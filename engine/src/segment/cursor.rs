//! Walking a postings list. The format is documented in `postings`.
//!
//! A cursor trusts no byte: damage ends the list early, and no document at or above the segment's count is ever answered.

use std::cell::OnceCell;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::segment::TermsOption;
use crate::segment::dictionary::read_varint;
use crate::segment::positions::PositionCursor;
use crate::segment::postings::{
    ImpactCollector, ImpactList, POSITION_PREFIX, SKIP_ENTRY, TermInfo, read_impacts, unpack_patched, visit_impacts,
};
use crate::store::bitpack::BLOCK_LEN;

/// What a cursor decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Documents only (filters, counts).
    Docs,
    /// And frequencies.
    Freqs,
    /// And positions.
    Positions,
}

/// Score bounds of a range of documents: pairs of (term frequency, norm byte), no pair dominated by another
/// (a higher frequency and a shorter field dominates). With BM25 any document in the range scores at most the best pair.
/// Ascending in both. The norm is 1 where the field has none.
pub type Impacts<'a> = &'a [(u32, u8)];

/// Norm of documents in a field without norms.
const NO_NORM: u8 = 1;
/// `index` before the first document.
const BEFORE: usize = usize::MAX;

/// What a cursor needs to know of its field and segment.
#[derive(Clone, Copy)]
pub(crate) struct ListContext<'a> {
    pub option: TermsOption,
    pub doc_limit: DocId,
    pub norms: Option<&'a [u8]>,
}

/// Walks a postings list. Starts before the first document.
pub struct PostingsCursor<'a> {
    docs: [u32; BLOCK_LEN],
    freqs: [u32; BLOCK_LEN],
    /// Position of `doc` in `docs`.
    index: usize,
    /// Documents in `docs`.
    len: usize,
    doc: DocId,
    /// Packed frequencies of the block, until someone asks for one.
    packed_freqs: Option<&'a [u8]>,
    context: ListContext<'a>,
    doc_freq: u32,
    total_term_freq: u64,
    /// Empty for a short list.
    skip: &'a [[u8; SKIP_ENTRY]],
    data: &'a [u8],
    /// The block after the one in `docs`.
    next_block: usize,
    block_impacts: &'a [u8],
    list_impacts: OnceCell<ImpactList>,
    shallow_block: usize,
    shallow_impacts: ImpactList,
    shallow_ready: bool,
    /// Largest score in the shallow block, once asked for.
    shallow_max: Option<f32>,
    positions: Option<Box<PositionCursor<'a>>>,
}

impl<'a> PostingsCursor<'a> {
    /// `bytes` start at the list, `position_bytes` at its positions.
    pub(crate) fn new(
        context: ListContext<'a>,
        term: &TermInfo,
        want: Want,
        bytes: &'a [u8],
        position_bytes: &'a [u8],
    ) -> PostingsCursor<'a> {
        let mut cursor = PostingsCursor {
            docs: [0; BLOCK_LEN],
            freqs: [1; BLOCK_LEN],
            index: BEFORE,
            len: 0,
            doc: 0,
            packed_freqs: None,
            context,
            doc_freq: term.doc_freq,
            total_term_freq: term.total_term_freq,
            skip: &[],
            data: bytes,
            next_block: 0,
            block_impacts: &[],
            list_impacts: OnceCell::new(),
            shallow_block: 0,
            shallow_impacts: ImpactList::new(),
            shallow_ready: false,
            shallow_max: None,
            positions: None,
        };
        let mut position_tail = None;
        if term.doc_freq < BLOCK_LEN as u32 {
            cursor.decode_tail(bytes, term.doc_freq as usize, 0);
        } else if let Some(tail) = cursor.open_long(bytes) {
            position_tail = Some(tail);
        } else {
            cursor.skip = &[];
        }
        if want == Want::Positions && context.option == TermsOption::Positions {
            cursor.positions = Some(Box::new(PositionCursor::new(position_bytes, term.total_term_freq, position_tail)));
        }
        cursor
    }

    /// Reads the head of a list with a skip table; the offset of its position tail.
    fn open_long(&mut self, mut bytes: &'a [u8]) -> Option<u64> {
        let impacts_len = usize::try_from(read_varint(&mut bytes)?).ok()?;
        let tail = if self.context.option == TermsOption::Positions { read_varint(&mut bytes)? } else { 0 };
        let mut impacts = ImpactList::new();
        read_impacts(&mut bytes, &mut impacts)?;
        self.list_impacts = OnceCell::from(impacts);
        let skip_len = (self.doc_freq as usize).div_ceil(BLOCK_LEN) * SKIP_ENTRY;
        self.skip = bytes.split_off(..skip_len)?.as_chunks::<SKIP_ENTRY>().0;
        self.block_impacts = bytes.split_off(..impacts_len)?;
        self.data = bytes;
        Some(tail)
    }

    /// Documents in the list.
    #[inline]
    #[must_use]
    pub fn doc_freq(&self) -> u32 {
        self.doc_freq
    }

    /// Whether the list is short: decoded as a whole from the start.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.skip.is_empty()
    }

    /// Current document; `NO_MORE_DOCS` after the end. Unspecified before the first `next` or `seek`.
    #[inline]
    #[must_use]
    pub fn doc(&self) -> DocId {
        self.doc
    }

    /// The next document, or `NO_MORE_DOCS`.
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> DocId {
        let next = self.index.wrapping_add(1);
        if next < self.len {
            self.index = next;
            self.doc = self.docs[next & (BLOCK_LEN - 1)];
            return self.doc;
        }
        self.next_in_new_block()
    }

    fn next_in_new_block(&mut self) -> DocId {
        if self.next_block < self.skip.len() && self.decode_block(self.next_block) {
            self.index = 0;
            self.doc = self.docs[0];
            return self.doc;
        }
        self.end()
    }

    #[cold]
    fn end(&mut self) -> DocId {
        self.len = 0;
        self.index = 0;
        self.next_block = self.skip.len();
        self.doc = NO_MORE_DOCS;
        NO_MORE_DOCS
    }

    /// The decoded block from the current document on: documents and how often each has the term. Empty at the end.
    #[inline]
    pub fn block(&mut self) -> (&[DocId], &[u32]) {
        self.unpack_freqs();
        let rest = self.index.min(self.len)..self.len;
        (&self.docs[rest.clone()], &self.freqs[rest])
    }

    /// The documents of [`PostingsCursor::block`], without a look at the frequencies.
    #[inline]
    pub fn block_docs(&self) -> &[DocId] {
        &self.docs[self.index.min(self.len)..self.len]
    }

    /// All of the decoded block, documents before the current one included; behind its end, `NO_MORE_DOCS`.
    #[inline]
    pub(crate) fn whole_block(&self) -> &[DocId; BLOCK_LEN] {
        &self.docs
    }

    /// Last document of the decoded block; none at the end of the list.
    #[inline]
    pub(crate) fn block_last(&self) -> Option<DocId> {
        self.docs[..self.len].last().copied()
    }

    /// Index of the current document in the decoded block.
    #[inline]
    pub(crate) fn block_index(&self) -> usize {
        self.index
    }

    /// Another number for every decoded block.
    #[inline]
    pub(crate) fn block_number(&self) -> usize {
        self.next_block
    }

    /// Frequencies of all of the decoded block.
    #[inline]
    pub(crate) fn block_freqs(&mut self) -> &[u32; BLOCK_LEN] {
        self.unpack_freqs();
        &self.freqs
    }

    /// The same, once they were asked for.
    #[inline]
    pub(crate) fn freqs_decoded(&self) -> &[u32; BLOCK_LEN] {
        &self.freqs
    }

    /// Moves `count` documents on, at most as many as [`PostingsCursor::block`] gave.
    #[inline]
    pub fn advance(&mut self, count: usize) -> DocId {
        let next = self.index + count;
        if next < self.len {
            self.index = next;
            self.doc = self.docs[next & (BLOCK_LEN - 1)];
            return self.doc;
        }
        self.next_in_new_block()
    }

    /// First document >= target; never moves backwards.
    #[inline]
    pub fn seek(&mut self, target: DocId) -> DocId {
        let from = if self.index == BEFORE {
            0
        } else if self.doc >= target {
            return self.doc;
        } else {
            self.index
        };
        if self.len > 0 && self.docs[self.len - 1] >= target {
            return self.seek_within(from, target);
        }
        self.seek_block(target)
    }

    #[inline]
    fn seek_within(&mut self, from: usize, target: DocId) -> DocId {
        self.index = lower_bound(&self.docs, target).max(from);
        self.doc = self.docs[self.index & (BLOCK_LEN - 1)];
        self.doc
    }

    fn seek_block(&mut self, target: DocId) -> DocId {
        let block = self.block_with(self.next_block, target);
        if block >= self.skip.len() || !self.decode_block(block) {
            return self.end();
        }
        if self.docs[self.len - 1] < target {
            return self.end();
        }
        self.seek_within(0, target)
    }

    #[inline]
    fn skip_field(&self, block: usize, field: usize) -> u32 {
        u32::from_le_bytes(self.skip[block].as_chunks::<4>().0[field])
    }

    /// First block from `from` on whose last document is not below `target`.
    #[inline]
    fn block_with(&self, from: usize, target: DocId) -> usize {
        let n = self.skip.len();
        let (mut low, mut step) = (from, 1);
        while low + step <= n && self.skip_field(low + step - 1, 0) < target {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(n);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.skip_field(middle, 0) < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Fills `docs` from a block of a long list; false at damage.
    fn decode_block(&mut self, block: usize) -> bool {
        let base = if block == 0 { 0 } else { self.skip_field(block - 1, 0).wrapping_add(1) };
        let mut offset = self.skip_field(block, 1) as usize;
        if self.context.option == TermsOption::Positions {
            if let Some(positions) = &mut self.positions {
                let prefix = self.data.get(offset..).and_then(|d| d.first_chunk::<POSITION_PREFIX>());
                let Some([a, b, c, d, index]) = prefix else { return false };
                positions.enter(u32::from_le_bytes([*a, *b, *c, *d]) as usize, *index as usize);
            }
            offset += POSITION_PREFIX;
        }
        let Some(bytes) = self.data.get(offset..) else { return false };
        self.next_block = block + 1;
        let rest = self.doc_freq as usize - block * BLOCK_LEN;
        if rest < BLOCK_LEN {
            return self.decode_tail(bytes, rest, base) > 0;
        }
        let Some(used) = unpack_patched(bytes, &mut self.docs) else { return false };
        add_up(&mut self.docs, base);
        if self.docs.iter().fold(0, |m, &d| m.max(d)) >= self.context.doc_limit {
            return false;
        }
        self.len = BLOCK_LEN;
        if self.context.option >= TermsOption::Freqs {
            self.packed_freqs = Some(&bytes[used..]);
        }
        true
    }

    /// Fills `docs` and `freqs` from a tail; the documents found.
    fn decode_tail(&mut self, mut bytes: &[u8], count: usize, base: DocId) -> usize {
        let only_docs = self.context.option < TermsOption::Freqs || self.doc_freq == 1;
        let mut next = u64::from(base);
        self.len = 0;
        self.packed_freqs = None;
        if only_docs {
            self.freqs[0] = 1;
            if self.doc_freq == 1 && self.context.option >= TermsOption::Freqs {
                self.freqs[0] = self.total_term_freq.min(u64::from(u32::MAX)) as u32;
            }
        }
        while self.len < count {
            let Some(code) = read_varint(&mut bytes) else { break };
            let delta = if only_docs {
                code
            } else {
                let freq = if code & 1 == 1 { Some(1) } else { read_varint(&mut bytes) };
                let Some(freq) = freq else { break };
                self.freqs[self.len] = freq.min(u64::from(u32::MAX)) as u32;
                code >> 1
            };
            let doc = next.saturating_add(delta);
            if doc >= u64::from(self.context.doc_limit) {
                break;
            }
            self.docs[self.len] = doc as u32;
            self.len += 1;
            next = doc + 1;
        }
        // Behind every target, so that searches need not know where the block ends.
        self.docs[self.len..].fill(NO_MORE_DOCS);
        self.len
    }

    #[inline]
    fn unpack_freqs(&mut self) {
        if let Some(packed) = self.packed_freqs.take() {
            if unpack_patched(packed, &mut self.freqs).is_none() {
                self.freqs.fill(0);
            }
            for freq in &mut self.freqs {
                *freq = freq.wrapping_add(1);
            }
        }
    }

    /// How often the term is in the current document; 1 where frequencies are not indexed.
    #[inline]
    pub fn freq(&mut self) -> u32 {
        self.unpack_freqs();
        self.freqs[self.index & (BLOCK_LEN - 1)]
    }

    /// Replaces `out` with the positions in the current document, ascending. Only with `Want::Positions`.
    pub fn positions(&mut self, out: &mut Vec<u32>) {
        out.clear();
        let mut position = 0u32;
        out.extend(self.differences(self.index).iter().map(|&difference| {
            position = position.wrapping_add(difference);
            position
        }));
    }

    /// The positions of the document at `index` of the decoded block: the first, then differences. Only with
    /// `Want::Positions`.
    #[inline]
    pub(crate) fn differences(&mut self, index: usize) -> &[u32] {
        self.unpack_freqs();
        match &mut self.positions {
            Some(positions) if index < self.len => positions.differences(&self.freqs, index),
            _ => &[],
        }
    }

    /// Moves only the skip data to the block that holds `target` (>= current doc): last document of that block and
    /// its impacts. Decodes no postings. Beyond the end: `NO_MORE_DOCS - 1` and no impacts.
    pub fn block_bounds(&mut self, target: DocId) -> (DocId, Impacts<'_>) {
        if self.skip.is_empty() {
            return match self.docs[..self.len].last() {
                Some(&last) if last >= target => (last, self.impacts()),
                _ => (NO_MORE_DOCS - 1, &[]),
            };
        }
        let block = self.shallow_target(target);
        if block != self.shallow_block {
            self.shallow_max = None;
        }
        if block >= self.skip.len() {
            self.shallow_block = block;
            self.shallow_ready = false;
            return (NO_MORE_DOCS - 1, &[]);
        }
        if block != self.shallow_block || !self.shallow_ready {
            let offset = self.skip_field(block, 2) as usize;
            let mut bytes = self.block_impacts.get(offset..).unwrap_or(&[]);
            if read_impacts(&mut bytes, &mut self.shallow_impacts).is_none() {
                self.shallow_impacts.clear();
                self.shallow_impacts.push((u32::MAX, 0));
            }
            self.shallow_block = block;
            self.shallow_ready = true;
        }
        (self.skip_field(block, 0).min(NO_MORE_DOCS - 1), &self.shallow_impacts)
    }

    /// As [`PostingsCursor::block_bounds`] for a long list, with the largest `score` of the impacts in their place; none
    /// for a short list, which is one block. Always to be asked with the same `score`.
    #[inline]
    pub(crate) fn block_max(&mut self, target: DocId, score: impl Fn(u32, u8) -> f32) -> Option<(DocId, f32)> {
        if self.skip.is_empty() {
            return None;
        }
        let at = self.shallow_block;
        let within = at < self.skip.len()
            && self.skip_field(at, 0) >= target
            && (at == 0 || self.skip_field(at - 1, 0) < target);
        if !within || self.shallow_max.is_none() {
            let block = if within { at } else { self.shallow_target(target) };
            self.shallow_block = block;
            self.shallow_ready = false;
            if block >= self.skip.len() {
                self.shallow_max = None;
                return Some((NO_MORE_DOCS - 1, 0.0));
            }
            let mut bytes = self.block_impacts.get(self.skip_field(block, 2) as usize..).unwrap_or(&[]);
            let mut max = 0.0f32;
            let intact = visit_impacts(&mut bytes, |freq, norm| max = max.max(score(freq, norm)));
            self.shallow_max = Some(if intact.is_some() { max } else { score(u32::MAX, 0) });
        }
        let last = self.skip_field(self.shallow_block, 0).min(NO_MORE_DOCS - 1);
        Some((last, self.shallow_max.unwrap_or(0.0)))
    }

    /// The block that has `target`, for skip data. Targets usually ascend; after a `next` behind an earlier one they need not.
    fn shallow_target(&self, target: DocId) -> usize {
        let behind = self.shallow_block > 0 && self.skip_field(self.shallow_block - 1, 0) >= target;
        let from = if behind { self.next_block.saturating_sub(1) } else { self.shallow_block };
        self.block_with(from, target)
    }

    /// Score bounds of the whole list.
    #[must_use]
    pub fn impacts(&self) -> Impacts<'_> {
        // Only a short list gets here without impacts; all its documents are in `docs`.
        self.list_impacts.get_or_init(|| {
            let mut pairs: ImpactList = ImpactList::new();
            let mut collector = (self.len > 8).then(ImpactCollector::default);
            for i in 0..self.len {
                let norm = self.context.norms.map_or(NO_NORM, |n| n[self.docs[i] as usize]);
                let freq = if self.context.option >= TermsOption::Freqs { self.freqs[i] } else { 1 };
                match &mut collector {
                    Some(collector) => collector.add(freq, norm),
                    None => add_pair(&mut pairs, freq, norm),
                }
            }
            collector.map_or(pairs, |mut c| c.take())
        })
    }
}

/// Turns differences into documents: each is how far it is above the smallest it could be, `base` for the first.
#[inline]
fn add_up(docs: &mut [u32; BLOCK_LEN], base: DocId) {
    let mut before = base.wrapping_sub(1);
    // Sums inside a group do not wait for the group before: only one addition in eight is on the critical path.
    for group in docs.as_chunks_mut::<8>().0 {
        let mut sums = group.map(|d| d.wrapping_add(1));
        for step in [1, 2, 4] {
            let shifted = sums;
            for i in step..8 {
                sums[i] = shifted[i].wrapping_add(shifted[i - step]);
            }
        }
        *group = sums.map(|s| s.wrapping_add(before));
        before = group[7];
    }
}

/// How many documents of a block are below `target`. No branches: compared eight at a time.
#[inline]
pub(crate) fn lower_bound(docs: &[DocId; BLOCK_LEN], target: DocId) -> usize {
    docs.iter().map(|&d| u32::from(d < target)).sum::<u32>() as usize
}

/// Adds a pair to a short list of pairs that do not dominate each other.
fn add_pair(pairs: &mut ImpactList, freq: u32, norm: u8) {
    if pairs.iter().any(|&(f, n)| f >= freq && n <= norm) {
        return;
    }
    pairs.retain(|&mut (f, n)| f > freq || n < norm);
    let at = pairs.partition_point(|&(f, _)| f < freq);
    pairs.insert(at, (freq, norm));
}

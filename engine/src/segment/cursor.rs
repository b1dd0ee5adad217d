//! Walking a postings list. The format is documented in `postings`.
//!
//! A cursor trusts no byte: damage ends the list early. Documents ascend whatever the bytes, and none at or above the segment's
//! count is ever answered.

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::segment::TermsOption;
use crate::segment::dictionary::read_varint;
use crate::segment::positions::PositionCursor;
use crate::segment::postings::{BITMAP, BITMAP_WORDS, GROUP, POSITION_PREFIX, TermInfo, unpack_patched};
use crate::store::bitpack::{BLOCK_LEN, indices_of_bits};

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

/// `index` before the first document.
const BEFORE: usize = usize::MAX;

/// What a cursor needs to know of its field and segment.
#[derive(Clone, Copy)]
pub(crate) struct ListContext {
    pub option: TermsOption,
    pub doc_limit: DocId,
    /// Field length that score bounds are made with.
    pub average: f32,
}

/// Tables of a long list; see `postings`.
#[derive(Clone, Copy, Default)]
struct SkipTable<'a> {
    lasts: &'a [[u8; 4]],
    offsets: &'a [[u8; 4]],
    bounds: &'a [[u8; 2]],
    /// Frequency and norm.
    best: &'a [[u8; 2]],
    /// Empty if there is only one group.
    groups: &'a [[u8; 2]],
    /// Bound of the list.
    bound: u16,
}

impl<'a> SkipTable<'a> {
    /// Reads the tables of `blocks` blocks from the front of `bytes`.
    fn read(bytes: &mut &'a [u8], blocks: usize) -> Option<SkipTable<'a>> {
        let bound = u16::from_le_bytes(*bytes.split_off(..2)?.first_chunk()?);
        let lasts = bytes.split_off(..blocks * 4)?.as_chunks().0;
        let offsets = bytes.split_off(..blocks * 4)?.as_chunks().0;
        let bounds = bytes.split_off(..blocks * 2)?.as_chunks().0;
        let best = bytes.split_off(..blocks * 2)?.as_chunks().0;
        let groups = if blocks > GROUP { blocks.div_ceil(GROUP) } else { 0 };
        Some(SkipTable { lasts, offsets, bounds, best, groups: bytes.split_off(..groups * 2)?.as_chunks().0, bound })
    }

    #[inline]
    fn len(&self) -> usize {
        self.lasts.len()
    }

    #[inline]
    fn last(&self, block: usize) -> DocId {
        u32::from_le_bytes(self.lasts[block])
    }

    /// The smallest document that the block may have.
    #[inline]
    fn base(&self, block: usize) -> DocId {
        if block == 0 { 0 } else { self.last(block - 1).wrapping_add(1) }
    }

    #[inline]
    fn bound(&self, block: usize) -> u16 {
        u16::from_le_bytes(self.bounds[block])
    }

    /// First block from `from` on whose last document is not below `target`.
    #[inline]
    fn block_with(&self, from: usize, target: DocId) -> usize {
        let n = self.len();
        let (mut low, mut step) = (from, 1);
        while low + step <= n && self.last(low + step - 1) < target {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(n);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.last(middle) < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// First block from `from` on whose bound is above `floor` and whose best document, where there is one, is not `weak`; as
    /// many as there are blocks, if there is none.
    #[inline]
    fn block_above(&self, from: usize, floor: u16, mut weak: impl FnMut(u8, u8) -> bool) -> usize {
        let mut block = from;
        while block < self.len() {
            let group = block / GROUP;
            let end = ((group + 1) * GROUP).min(self.len());
            if self.groups.get(group).is_some_and(|&b| u16::from_le_bytes(b) <= floor) {
                block = end;
                continue;
            }
            for (bound, &[freq, norm]) in self.bounds[block..end].iter().zip(&self.best[block..end]) {
                if u16::from_le_bytes(*bound) > floor && (freq == 0 || !weak(freq, norm)) {
                    return block;
                }
                block += 1;
            }
        }
        block
    }
}

/// The documents of a dense block: bit 0 of the first word is document `base`.
#[derive(Clone)]
pub(crate) struct Bitmap {
    base: DocId,
    words: [u64; BITMAP_WORDS],
    /// Documents in the words before.
    ranks: [u8; BITMAP_WORDS],
}

impl Bitmap {
    /// Of the documents from `first`, which is one of them, to `end`, by which the block has them in order.
    pub(crate) fn stretch(&self, first: DocId, end: DocId) -> Stretch {
        let mut stretch = Stretch { bitmap: self.clone(), first: self.find(first).1, words: self.words };
        stretch.drop_below(first);
        for (i, word) in stretch.words.iter_mut().enumerate() {
            let behind = (u64::from(end) + 1).saturating_sub(u64::from(self.base) + i as u64 * 64);
            if behind < 64 {
                *word &= (1 << behind) - 1;
            }
        }
        stretch
    }

    /// Whether the block has `doc`, which is in its range, and the index in the block if so.
    #[inline]
    pub(crate) fn find(&self, doc: DocId) -> (bool, u8) {
        let at = doc.wrapping_sub(self.base);
        let word = (at / 64) as usize & (BITMAP_WORDS - 1);
        let bit = 1u64 << (at % 64);
        let before = (self.words[word] & (bit - 1)).count_ones() as u8;
        (self.words[word] & bit != 0, self.ranks[word].wrapping_add(before))
    }

    /// The first document of the block that is not below `target`, which is not above its last, and its index.
    #[inline]
    fn seek(&self, target: DocId) -> Option<(DocId, usize)> {
        let at = target.saturating_sub(self.base);
        let mut index = (at / 64) as usize;
        let mut word = self.words.get(index)? & (u64::MAX << (at % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        let bit = word.trailing_zeros();
        let before = (self.words[index] & ((1u64 << bit) - 1)).count_ones();
        Some((self.base + index as u32 * 64 + bit, (u32::from(self.ranks[index]) + before) as usize))
    }
}

/// Consecutive documents of a dense block.
pub(crate) struct Stretch {
    bitmap: Bitmap,
    /// Index in the block of the first document.
    first: u8,
    /// Documents that are left.
    words: [u64; BITMAP_WORDS],
}

impl Stretch {
    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The first that is left.
    pub(crate) fn doc(&self) -> Option<DocId> {
        let index = self.words.iter().position(|&w| w != 0)?;
        Some(self.bitmap.base + index as u32 * 64 + self.words[index].trailing_zeros())
    }

    /// Leaves those from `doc` on.
    pub(crate) fn drop_below(&mut self, doc: DocId) {
        for (i, word) in self.words.iter_mut().enumerate() {
            let below = u64::from(doc).saturating_sub(u64::from(self.bitmap.base) + i as u64 * 64);
            *word &= u64::MAX.checked_shl(below.min(64) as u32).unwrap_or(0);
        }
    }

    /// Index of one of its documents among those it had at first.
    #[inline]
    pub(crate) fn place(&self, doc: DocId) -> u8 {
        self.bitmap.find(doc).1.wrapping_sub(self.first)
    }

    /// Calls `each` with those that are left and, if `other` is one, in that block.
    #[inline]
    pub(crate) fn visit(&self, other: Option<&Bitmap>, mut each: impl FnMut(DocId)) {
        let mut words = self.words;
        if let Some(other) = other {
            for (i, word) in words.iter_mut().enumerate() {
                // Behind or before it the difference is large.
                let at = self.bitmap.base.wrapping_add(i as u32 * 64).wrapping_sub(other.base) / 64;
                *word &= other.words.get(at as usize).unwrap_or(&0);
            }
        }
        let (docs, count) = documents(self.bitmap.base, &words);
        docs[..count].iter().for_each(|&doc| each(doc));
    }
}

/// The documents of a block's bitmap, which has no more bits than a block has documents, and how many.
#[inline]
fn documents(base: DocId, words: &[u64; BITMAP_WORDS]) -> ([DocId; BLOCK_LEN + 64], usize) {
    let mut docs = [0; BLOCK_LEN + 64];
    let mut count = 0;
    for (i, &word) in words.iter().enumerate() {
        if word != 0 {
            let room = docs[count..].first_chunk_mut().expect("no more than a block has");
            count += indices_of_bits(word, base.wrapping_add(i as u32 * 64), room);
        }
    }
    (docs, count)
}

/// Walks a postings list. Starts before the first document.
pub struct PostingsCursor<'a> {
    docs: [u32; BLOCK_LEN],
    freqs: [u32; BLOCK_LEN],
    /// Position of `doc` in the block.
    index: usize,
    /// Documents in `docs`: none as long as the block is a bitmap that nobody has asked all documents of.
    len: usize,
    doc: DocId,
    /// Documents in the block.
    count: usize,
    /// The last of them.
    last: DocId,
    /// Packed frequencies of the block, until someone asks for one.
    packed_freqs: Option<&'a [u8]>,
    context: ListContext,
    doc_freq: u32,
    total_term_freq: u64,
    /// Empty for a short list.
    skip: SkipTable<'a>,
    data: &'a [u8],
    /// The block after the one in `docs`.
    next_block: usize,
    /// The block that was last asked for a bound.
    shallow_block: usize,
    /// Whether the block is a bitmap: then it is in `bitmap`.
    dense: bool,
    bitmap: Bitmap,
    positions: Option<Box<PositionCursor<'a>>>,
}

impl<'a> PostingsCursor<'a> {
    /// `bytes` start at the list, `position_bytes` at its positions.
    pub(crate) fn new(
        context: ListContext,
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
            count: 0,
            last: 0,
            packed_freqs: None,
            context,
            doc_freq: term.doc_freq,
            total_term_freq: term.total_term_freq,
            skip: SkipTable::default(),
            data: bytes,
            next_block: 0,
            shallow_block: 0,
            dense: false,
            bitmap: Bitmap { base: 0, words: [0; BITMAP_WORDS], ranks: [0; BITMAP_WORDS] },
            positions: None,
        };
        let mut position_tail = None;
        if term.doc_freq < BLOCK_LEN as u32 {
            cursor.decode_tail(bytes, term.doc_freq as usize, 0);
        } else if let Some(tail) = cursor.open_long(bytes) {
            position_tail = Some(tail);
        } else {
            cursor.skip = SkipTable::default();
        }
        if want == Want::Positions && context.option == TermsOption::Positions {
            cursor.positions = Some(Box::new(PositionCursor::new(position_bytes, term.total_term_freq, position_tail)));
        }
        cursor
    }

    /// Reads the head of a list with a skip table; the offset of its position tail.
    fn open_long(&mut self, mut bytes: &'a [u8]) -> Option<u64> {
        let tail = if self.context.option == TermsOption::Positions { read_varint(&mut bytes)? } else { 0 };
        self.skip = SkipTable::read(&mut bytes, (self.doc_freq as usize).div_ceil(BLOCK_LEN))?;
        self.data = bytes;
        Some(tail)
    }

    /// Documents in the list.
    #[inline]
    #[must_use]
    pub fn doc_freq(&self) -> u32 {
        self.doc_freq
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
        self.next_slowly()
    }

    #[inline(never)]
    fn next_slowly(&mut self) -> DocId {
        let next = self.index.wrapping_add(1);
        if next < self.count {
            self.expand();
            self.index = next;
            self.doc = self.docs[next & (BLOCK_LEN - 1)];
            return self.doc;
        }
        self.next_in_new_block()
    }

    fn next_in_new_block(&mut self) -> DocId {
        if self.next_block < self.skip.len() && self.decode_block(self.next_block) {
            self.doc = if self.len > 0 { self.docs[0] } else { self.bitmap.seek(0).map_or(NO_MORE_DOCS, |f| f.0) };
            return self.doc;
        }
        self.end()
    }

    #[cold]
    fn end(&mut self) -> DocId {
        self.len = 0;
        self.count = 0;
        self.dense = false;
        self.index = 0;
        self.next_block = self.skip.len();
        self.doc = NO_MORE_DOCS;
        NO_MORE_DOCS
    }

    /// Writes the documents of a bitmap out.
    fn expand(&mut self) {
        if self.len == self.count {
            return;
        }
        debug_assert!(self.dense && self.count == BLOCK_LEN);
        let (docs, _) = documents(self.bitmap.base, &self.bitmap.words);
        self.docs.copy_from_slice(&docs[..BLOCK_LEN]);
        self.len = self.count;
    }

    /// The decoded block from the current document on: documents and how often each has the term. Empty at the end.
    #[inline]
    pub fn block(&mut self) -> (&[DocId], &[u32]) {
        self.expand();
        self.unpack_freqs();
        let rest = self.index.min(self.len)..self.len;
        (&self.docs[rest.clone()], &self.freqs[rest])
    }

    /// The documents of [`PostingsCursor::block`], without a look at the frequencies.
    #[inline]
    pub fn block_docs(&mut self) -> &[DocId] {
        self.expand();
        &self.docs[self.index.min(self.len)..self.len]
    }

    /// All of the decoded block, documents before the current one included; behind its end, `NO_MORE_DOCS`.
    #[inline]
    pub(crate) fn whole_block(&mut self) -> &[DocId; BLOCK_LEN] {
        self.expand();
        &self.docs
    }

    /// The block as a bitmap, if it is one.
    #[inline]
    pub(crate) fn bitmap(&self) -> Option<&Bitmap> {
        self.dense.then_some(&self.bitmap)
    }

    /// Last document of the decoded block; none at the end of the list.
    #[inline]
    pub(crate) fn block_last(&self) -> Option<DocId> {
        (self.count > 0).then_some(self.last)
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
        if next < self.count {
            self.expand();
            self.index = next;
            self.doc = self.docs[next & (BLOCK_LEN - 1)];
            return self.doc;
        }
        self.next_in_new_block()
    }

    /// First document >= target; never moves backwards.
    #[inline]
    pub fn seek(&mut self, target: DocId) -> DocId {
        if self.index != BEFORE && self.doc >= target {
            return self.doc;
        }
        if self.count > 0 && self.last >= target {
            return self.seek_within_block(target);
        }
        self.seek_block(target)
    }

    /// First document of the block >= target, which is not above its last one.
    #[inline]
    fn seek_within_block(&mut self, target: DocId) -> DocId {
        if self.len == 0 {
            return match self.bitmap.seek(target) {
                Some((doc, index)) => {
                    (self.doc, self.index) = (doc, index);
                    doc
                }
                None => self.end(),
            };
        }
        let from = if self.index == BEFORE { 0 } else { self.index };
        self.index = lower_bound(&self.docs, target).max(from);
        self.doc = self.docs[self.index & (BLOCK_LEN - 1)];
        self.doc
    }

    fn seek_block(&mut self, target: DocId) -> DocId {
        let block = self.skip.block_with(self.next_block, target);
        if block >= self.skip.len() || !self.decode_block(block) || self.last < target {
            return self.end();
        }
        self.seek_within_block(target)
    }

    /// Fills `docs` or `bitmap` from a block of a long list and stands before its first document; false at damage.
    fn decode_block(&mut self, block: usize) -> bool {
        let base = self.skip.base(block);
        let mut offset = u32::from_le_bytes(self.skip.offsets[block]) as usize;
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
        self.index = 0;
        self.dense = false;
        let rest = self.doc_freq as usize - block * BLOCK_LEN;
        if rest < BLOCK_LEN {
            return self.decode_tail(bytes, rest, base) > 0;
        }
        let used = if bytes.first() == Some(&BITMAP) {
            self.len = 0;
            self.dense = true;
            self.read_bitmap(bytes, base)
        } else {
            self.len = BLOCK_LEN;
            unpack_patched(bytes, &mut self.docs).filter(|_| {
                let largest = add_up(&mut self.docs, base);
                self.last = self.docs[BLOCK_LEN - 1];
                let ascending = ascends(bytes[0]) || self.docs.is_sorted_by(|a, b| a < b);
                ascending && largest < self.context.doc_limit
            })
        };
        let Some(used) = used else { return false };
        // Otherwise it could overlap with its neighbours.
        if self.last != self.skip.last(block) {
            return false;
        }
        self.count = BLOCK_LEN;
        if self.context.option >= TermsOption::Freqs {
            self.packed_freqs = Some(&bytes[used..]);
        }
        true
    }

    /// Reads the bitmap of a block that begins at `base` or behind; the bytes used.
    fn read_bitmap(&mut self, bytes: &[u8], base: DocId) -> Option<usize> {
        let count = *bytes.get(1)? as usize;
        let words = bytes.get(2..2 + count * 8)?.as_chunks::<8>().0;
        if count == 0 || count > BITMAP_WORDS {
            return None;
        }
        let bitmap = &mut self.bitmap;
        bitmap.base = base & !63;
        bitmap.words = [0; BITMAP_WORDS];
        let mut sum = 0;
        for (i, word) in words.iter().enumerate() {
            bitmap.words[i] = u64::from_le_bytes(*word);
            bitmap.ranks[i] = sum as u8;
            sum += bitmap.words[i].count_ones();
        }
        let highest = 63 - (bitmap.words[count - 1] | 1).leading_zeros();
        let last = u64::from(bitmap.base) + (count as u64 - 1) * 64 + u64::from(highest);
        let starts_behind = bitmap.words[0] & !(u64::MAX << (base % 64)) == 0;
        let whole = sum == BLOCK_LEN as u32 && starts_behind && bitmap.words[count - 1] != 0;
        if !whole || last >= u64::from(self.context.doc_limit) {
            return None;
        }
        self.last = last as u32;
        Some(2 + count * 8)
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
        self.count = self.len;
        self.last = self.docs[..self.len].last().copied().unwrap_or(0);
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
            Some(positions) if index < self.count => positions.differences(&self.freqs, index),
            _ => &[],
        }
    }

    /// Sets the bits of the documents from the current one on that are in `words`, of which the lowest bit of the first is
    /// document `base`, a multiple of 64 and not behind the current one; stands on the first document behind them. The
    /// documents of one word are spread over the `LANES` lanes: to set bits one after another in one word, each would wait
    /// for the one before.
    pub(crate) fn set_bits<const LANES: usize, const WORDS: usize>(
        &mut self,
        base: DocId,
        words: &mut [[u64; WORDS]; LANES],
    ) {
        const { assert!(WORDS.is_power_of_two() && LANES.is_power_of_two()) };
        let end = base.saturating_add(WORDS as u32 * 64);
        while self.doc < end {
            if self.len == 0 {
                let first = self.doc.saturating_sub(self.bitmap.base) as usize;
                let shift = (self.bitmap.base / 64).wrapping_sub(base / 64) as i32 as isize;
                for (i, &word) in self.bitmap.words.iter().enumerate().skip(first / 64) {
                    let word = if i == first / 64 { word & (u64::MAX << (first % 64)) } else { word };
                    match words[0].get_mut((i as isize + shift) as usize) {
                        Some(to) => *to |= word,
                        None => break,
                    }
                }
                if self.last < end {
                    self.next_in_new_block();
                } else {
                    self.seek_within_block(end);
                }
                continue;
            }
            let docs = &self.docs[self.index.min(self.len)..self.len];
            let count = if self.last < end { docs.len() } else { docs.partition_point(|&d| d < end) };
            for (i, &doc) in docs[..count].iter().enumerate() {
                words[i & (LANES - 1)][(doc.wrapping_sub(base) / 64) as usize & (WORDS - 1)] |= 1 << (doc % 64);
            }
            self.advance(count);
        }
    }

    /// Standing on the first document of a block, sets the bits of all of its documents in a bitmap of the segment, and goes to
    /// the next block; false if there is none.
    pub(crate) fn union_block(&mut self, words: &mut [u64]) -> bool {
        if self.dense && self.len == 0 {
            let words = words.get_mut((self.bitmap.base / 64) as usize..).unwrap_or(&mut []);
            words.iter_mut().zip(&self.bitmap.words).for_each(|(to, word)| *to |= word);
        } else {
            for &doc in &self.docs[..self.len] {
                words[(doc / 64) as usize] |= 1 << (doc % 64);
            }
        }
        self.next_in_new_block() != NO_MORE_DOCS
    }

    /// The average field length that bounds are made with.
    #[inline]
    pub(crate) fn bound_average(&self) -> f32 {
        self.context.average
    }

    /// Bound on what the list's documents score, in the unit of [`bounds`](crate::segment::bounds); none for a short list.
    #[inline]
    pub(crate) fn list_bound(&self) -> Option<u16> {
        (self.skip.len() > 0).then_some(self.skip.bound)
    }

    /// The block that holds `target`, without decoding it: its last document and its bound. Beyond the end:
    /// `NO_MORE_DOCS - 1` and 0. None for a short list, which is one block.
    #[inline]
    pub(crate) fn block_bound(&mut self, target: DocId) -> Option<(DocId, u16)> {
        if self.skip.len() == 0 {
            return None;
        }
        let block = self.shallow_target(target);
        self.shallow_block = block;
        if block >= self.skip.len() {
            return Some((NO_MORE_DOCS - 1, 0));
        }
        Some((self.skip.last(block).min(NO_MORE_DOCS - 1), self.skip.bound(block)))
    }

    /// The first document from `target` on that is in a block with a bound above `floor` and, where one document of the block
    /// is best whatever the average length, a best that is not `weak` by its frequency and norm; `NO_MORE_DOCS` if there is
    /// none. Short lists say `target` up to their last document.
    #[inline]
    pub(crate) fn next_above(&mut self, target: DocId, floor: u16, weak: impl FnMut(u8, u8) -> bool) -> DocId {
        if self.skip.len() == 0 {
            return if self.block_last().is_some_and(|last| last < target) { NO_MORE_DOCS } else { target };
        }
        let here = self.shallow_target(target);
        let block = self.skip.block_above(here, floor, weak);
        self.shallow_block = block;
        if block >= self.skip.len() {
            return NO_MORE_DOCS;
        }
        target.max(self.skip.base(block))
    }

    /// The largest bound of the blocks with documents from `from` to `to`; none for a short list.
    pub(crate) fn range_bound(&mut self, from: DocId, to: DocId) -> Option<u16> {
        let (mut last, mut bound) = self.block_bound(from)?;
        let mut block = self.shallow_block;
        while last < to {
            block += 1;
            if block >= self.skip.len() {
                break;
            }
            last = self.skip.last(block);
            bound = bound.max(self.skip.bound(block));
        }
        Some(bound)
    }

    /// The block that has `target`, for bounds. Targets usually ascend; after a `next` behind an earlier one they need not.
    #[inline]
    fn shallow_target(&self, target: DocId) -> usize {
        let at = self.shallow_block;
        let behind = at > 0 && self.skip.last(at - 1) >= target;
        let from = if behind { self.next_block.saturating_sub(1) } else { at };
        self.skip.block_with(from, target)
    }
}

/// Whether the documents of a packed block that starts with this token ascend if all are below a segment's count: steps of 24
/// bits are too short to pass from there over the end of the numbers to their beginning.
#[inline]
fn ascends(token: u8) -> bool {
    let above = if token >> 5 > 0 { 8 } else { 0 };
    (token & 31) + above <= 24
}

/// Gives the documents of a list that is one tail; see `PostingsCursor::decode_tail`.
#[inline]
pub(crate) fn visit_tail(
    mut bytes: &[u8],
    option: TermsOption,
    doc_freq: u32,
    doc_limit: DocId,
    visit: &mut impl FnMut(DocId),
) {
    let only_docs = option < TermsOption::Freqs || doc_freq == 1;
    let mut next = 0u64;
    for _ in 0..doc_freq {
        let Some(code) = read_varint(&mut bytes) else { return };
        let delta = if only_docs {
            code
        } else {
            if code & 1 == 0 && read_varint(&mut bytes).is_none() {
                return;
            }
            code >> 1
        };
        let doc = next.saturating_add(delta);
        if doc >= u64::from(doc_limit) {
            return;
        }
        visit(doc as DocId);
        next = doc + 1;
    }
}

/// Turns differences into documents: each is how far it is above the smallest it could be, `base` for the first. The
/// largest of them.
#[inline]
fn add_up(docs: &mut [u32; BLOCK_LEN], base: DocId) -> DocId {
    // SAFETY: the whole program is compiled for it.
    #[cfg(target_feature = "avx2")]
    return unsafe { add_up_wide(docs, base) };
    #[cfg(not(target_feature = "avx2"))]
    return add_up_plainly(docs, base);
}

#[cfg(any(test, not(target_feature = "avx2")))]
fn add_up_plainly(docs: &mut [u32; BLOCK_LEN], base: DocId) -> DocId {
    let (mut next, mut largest) = (base, 0);
    for doc in docs {
        *doc = doc.wrapping_add(next);
        next = doc.wrapping_add(1);
        largest = largest.max(*doc);
    }
    largest
}

/// Eight at a time: sums inside a group do not wait for the group before, only its last sum is carried on.
#[cfg(target_feature = "avx2")]
#[target_feature(enable = "avx2")]
fn add_up_wide(docs: &mut [u32; BLOCK_LEN], base: DocId) -> DocId {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_blend_epi32, _mm256_loadu_si256, _mm256_max_epu32,
        _mm256_permutevar8x32_epi32, _mm256_set_epi32, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_si256,
        _mm256_storeu_si256,
    };
    let ones = _mm256_set1_epi32(1);
    let zero = _mm256_setzero_si256();
    let seventh = _mm256_set1_epi32(7);
    let third = _mm256_set_epi32(3, 3, 3, 3, 0, 0, 0, 0);
    let mut carry = _mm256_set1_epi32(base.wrapping_sub(1) as i32);
    let mut largest = zero;
    for group in docs.as_chunks_mut::<8>().0 {
        let at: *mut __m256i = group.as_mut_ptr().cast();
        // SAFETY: `group` is 32 bytes; the load needs no alignment.
        let mut sums = _mm256_add_epi32(unsafe { _mm256_loadu_si256(at) }, ones);
        sums = _mm256_add_epi32(sums, _mm256_slli_si256::<4>(sums));
        sums = _mm256_add_epi32(sums, _mm256_slli_si256::<8>(sums));
        // The lower half's sum goes to the upper half.
        let lower = _mm256_permutevar8x32_epi32(sums, third);
        sums = _mm256_add_epi32(sums, _mm256_blend_epi32::<0b1111_0000>(zero, lower));
        let whole = _mm256_permutevar8x32_epi32(sums, seventh);
        let sums = _mm256_add_epi32(sums, carry);
        carry = _mm256_add_epi32(carry, whole);
        largest = _mm256_max_epu32(largest, sums);
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(at, sums) };
    }
    let mut lanes = [0u32; 8];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), largest) };
    lanes.iter().fold(0, |a, &b| a.max(b))
}

/// How many documents of a block are below `target`. No branches: compared eight at a time.
#[inline]
pub(crate) fn lower_bound(docs: &[DocId; BLOCK_LEN], target: DocId) -> usize {
    docs.iter().map(|&d| u32::from(d < target)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wide_sums_are_plain_sums(seed in proptest::collection::vec(any::<u32>(), BLOCK_LEN), bits in 0u32..32, base: u32) {
            let mut docs = [0; BLOCK_LEN];
            docs.iter_mut().zip(&seed).for_each(|(d, s)| *d = s & ((1u32 << bits) - 1));
            let mut plain = docs;
            prop_assert_eq!(add_up(&mut docs, base), add_up_plainly(&mut plain, base));
            prop_assert_eq!(docs, plain);
        }
    }
}

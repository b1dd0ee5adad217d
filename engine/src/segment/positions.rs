//! Walking the positions of a postings list. The format is documented in `postings`.

use crate::segment::dictionary::read_varint;
use crate::segment::postings::{patched_len, unpack_patched};
use crate::store::bitpack::BLOCK_LEN;
use crate::write::pool::prefetch;

/// Cache lines asked for at once where positions are walked over.
const LINES_AHEAD: usize = 24;

/// No position block has this offset.
const NOWHERE: usize = usize::MAX;

/// Reads the positions of documents of the block that a cursor has decoded, in any order, cheapest in ascending.
pub(super) struct PositionCursor<'a> {
    bytes: &'a [u8],
    total: u64,
    /// Long lists say where the varints begin; in short ones, all of whose positions are in one block of documents, position
    /// blocks are counted.
    tail_at: Option<u64>,
    /// Where positions of the block of documents begin: offset of a position block, index in it.
    start: (usize, usize),
    /// A position block at `start` or behind: how many behind, its offset.
    walked: (usize, usize),
    before: Before,
    /// Whether `before` is of the block of documents.
    summed: bool,
    buffer: [u32; BLOCK_LEN],
    buffered: usize,
    /// Offset of the position block in the buffer.
    buffered_at: usize,
    /// A document's positions from more than one position block.
    joined: Vec<u32>,
}

impl<'a> PositionCursor<'a> {
    pub fn new(bytes: &'a [u8], total: u64, tail_at: Option<u64>) -> PositionCursor<'a> {
        PositionCursor {
            bytes,
            total,
            tail_at,
            start: (0, 0),
            walked: (0, 0),
            before: [[0; 8]; BLOCK_LEN / 8],
            summed: false,
            buffer: [0; BLOCK_LEN],
            buffered: 0,
            buffered_at: NOWHERE,
            joined: Vec::new(),
        }
    }

    /// The cursor has decoded another block of documents; its positions begin in the position block at `offset`, at `index`.
    #[inline]
    pub fn enter(&mut self, offset: usize, index: usize) {
        self.start = (offset, index);
        self.walked = (0, offset);
        self.summed = false;
        prefetch(self.bytes, offset);
    }

    /// The first position of the document at `index` of the block, then differences. `freqs` are those of the block.
    #[inline]
    pub fn differences(&mut self, freqs: &[u32; BLOCK_LEN], index: usize) -> &[u32] {
        if !self.summed {
            self.summed = true;
            sum_up(freqs, &mut self.before);
        }
        let index = index & (BLOCK_LEN - 1);
        let from = self.start.1 + sum_before(&self.before, freqs, index) as usize;
        let count = freqs[index] as usize;
        let (block, at) = (from / BLOCK_LEN, from % BLOCK_LEN);
        if !self.buffer(block) {
            return &[];
        }
        if at + count <= self.buffered {
            return &self.buffer[at..at + count];
        }
        self.join(block, at, count)
    }

    fn join(&mut self, mut block: usize, mut at: usize, mut count: usize) -> &[u32] {
        self.joined.clear();
        loop {
            let ready = self.buffer[..self.buffered].get(at..).unwrap_or(&[]);
            let ready = &ready[..ready.len().min(count)];
            self.joined.extend_from_slice(ready);
            count -= ready.len();
            (block, at) = (block + 1, 0);
            if count == 0 || !self.buffer(block) {
                return &self.joined;
            }
        }
    }

    /// Whether the position block at `walked` is the tail.
    #[inline]
    fn at_tail(&self) -> bool {
        match self.tail_at {
            Some(tail) => self.walked.1 as u64 >= tail,
            None => self.walked.0 as u64 >= self.total / BLOCK_LEN as u64,
        }
    }

    /// Buffers the position block that is so many behind the start, or the tail; false behind the end.
    #[inline]
    fn buffer(&mut self, block: usize) -> bool {
        if block < self.walked.0 {
            self.walked = (0, self.start.0);
        }
        // Each block says where the next is: without this, the memory of one would not be asked for before that of the other.
        for line in 1..((block - self.walked.0) * 3 / 2 + 1).min(LINES_AHEAD) {
            prefetch(self.bytes, self.walked.1 + line * 64);
        }
        while self.walked.0 < block {
            let Some(&token) = self.bytes.get(self.walked.1) else { return false };
            if self.at_tail() {
                return false;
            }
            self.walked = (self.walked.0 + 1, self.walked.1 + patched_len(token));
        }
        self.buffered_at == self.walked.1 || self.refill()
    }

    fn refill(&mut self) -> bool {
        self.buffered_at = NOWHERE;
        self.buffered = 0;
        let Some(mut rest) = self.bytes.get(self.walked.1..) else { return false };
        if self.at_tail() {
            // Behind it is another term's.
            let count = (self.total % BLOCK_LEN as u64) as usize;
            while self.buffered < count {
                let Some(difference) = read_varint(&mut rest) else { break };
                self.buffer[self.buffered] = difference as u32;
                self.buffered += 1;
            }
        } else if unpack_patched(rest, &mut self.buffer).is_some() {
            self.buffered = BLOCK_LEN;
        }
        self.buffered_at = self.walked.1;
        self.buffered > 0
    }
}

/// For each group of 8 values, the sums of its columns in the groups before: cheap to make, and little is left to add up.
type Before = [[u32; 8]; BLOCK_LEN / 8];

/// The first ones of 8, as many as the index says.
const FIRST: [[u32; 8]; 8] = {
    let mut masks = [[0; 8]; 8];
    let mut at = 0;
    while at < 64 {
        masks[at / 8][at % 8] = if at % 8 < at / 8 { u32::MAX } else { 0 };
        at += 1;
    }
    masks
};

#[inline]
fn sum_up(values: &[u32; BLOCK_LEN], before: &mut Before) {
    let mut sums = [0u32; 8];
    for (group, before) in values.as_chunks::<8>().0.iter().zip(before) {
        *before = sums;
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum = sum.wrapping_add(*value);
        }
    }
}

/// Sum of the values before `index`.
#[inline]
fn sum_before(before: &Before, values: &[u32; BLOCK_LEN], index: usize) -> u32 {
    let index = index & (BLOCK_LEN - 1);
    let (group, before) = (&values.as_chunks::<8>().0[index / 8], &before[index / 8]);
    let mask = &FIRST[index % 8];
    let columns: [u32; 8] = std::array::from_fn(|i| before[i].wrapping_add(group[i] & mask[i]));
    let halves: [u32; 4] = std::array::from_fn(|i| columns[i].wrapping_add(columns[i + 4]));
    halves[0].wrapping_add(halves[2]).wrapping_add(halves[1].wrapping_add(halves[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_of_all_values_before(values: [u32; 32], fill: u32) {
            let values: [u32; BLOCK_LEN] = std::array::from_fn(|i| values.get(i * 7 % 50).copied().unwrap_or(fill));
            let mut before = [[0; 8]; BLOCK_LEN / 8];
            sum_up(&values, &mut before);
            for index in 0..BLOCK_LEN {
                let sum = values[..index].iter().fold(0u32, |sum, v| sum.wrapping_add(*v));
                prop_assert_eq!(sum_before(&before, &values, index), sum);
            }
        }
    }
}

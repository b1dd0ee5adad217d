//! Walking the positions of a postings list. The format is documented in `postings`.

use crate::segment::dictionary::read_varint;
use crate::segment::postings::{patched_len, unpack_patched};
use crate::store::bitpack::BLOCK_LEN;

/// Follows a cursor through the position sequence of its term.
pub(super) struct PositionCursor<'a> {
    bytes: &'a [u8],
    total: u64,
    /// Long lists say where the varints begin; in short ones every position is read in order and they are counted.
    tail_at: Option<u64>,
    /// Where positions of the cursor's block of documents begin: offset of a position block, index in it.
    pub block_start: (usize, usize),
    /// Index in the block of the document whose positions come next; none: not in this block yet.
    pub at: Option<usize>,
    buffer: [u32; BLOCK_LEN],
    buffered: usize,
    used: usize,
    /// Offset of the position block after the buffered one.
    next_offset: usize,
    /// Position blocks before it, where they are counted.
    blocks_before: u64,
}

impl<'a> PositionCursor<'a> {
    pub fn new(bytes: &'a [u8], total: u64, tail_at: Option<u64>) -> PositionCursor<'a> {
        PositionCursor {
            bytes,
            total,
            tail_at,
            block_start: (0, 0),
            at: None,
            buffer: [0; BLOCK_LEN],
            buffered: 0,
            used: 0,
            next_offset: 0,
            blocks_before: 0,
        }
    }

    fn at_tail(&self) -> bool {
        match self.tail_at {
            Some(tail) => self.next_offset as u64 >= tail,
            None => self.blocks_before >= self.total / BLOCK_LEN as u64,
        }
    }

    pub fn read(&mut self, freqs: &[u32; BLOCK_LEN], index: usize, out: &mut Vec<u32>) {
        let from = match self.at {
            Some(at) if at <= index => at,
            _ => {
                self.next_offset = self.block_start.0;
                self.blocks_before = 0;
                self.buffered = 0;
                self.used = 0;
                self.skip(self.block_start.1 as u64);
                0
            }
        };
        let before: u64 = freqs[from..index].iter().map(|&f| u64::from(f)).sum();
        self.skip(before);
        let mut position = 0u32;
        let mut wanted = freqs[index] as usize;
        while wanted > 0 {
            if self.used == self.buffered && !self.refill() {
                break;
            }
            let n = wanted.min(self.buffered - self.used);
            out.extend(self.buffer[self.used..self.used + n].iter().map(|&difference| {
                position = position.wrapping_add(difference);
                position
            }));
            self.used += n;
            wanted -= n;
        }
        self.at = Some(index + 1);
    }

    fn skip(&mut self, mut count: u64) {
        loop {
            let ready = (self.buffered - self.used) as u64;
            if count <= ready {
                self.used += count as usize;
                return;
            }
            count -= ready;
            self.used = self.buffered;
            while count >= BLOCK_LEN as u64 && !self.at_tail() {
                let Some(&token) = self.bytes.get(self.next_offset) else { return };
                self.next_offset += patched_len(token);
                self.blocks_before += 1;
                count -= BLOCK_LEN as u64;
            }
            if count > 0 && !self.refill() {
                return;
            }
        }
    }

    /// Buffers the next block or the tail; false at the end.
    fn refill(&mut self) -> bool {
        self.used = 0;
        self.buffered = 0;
        let Some(mut rest) = self.bytes.get(self.next_offset..) else { return false };
        if self.at_tail() {
            let count = (self.total % BLOCK_LEN as u64) as usize;
            let before = rest.len();
            while self.buffered < count {
                let Some(difference) = read_varint(&mut rest) else { break };
                self.buffer[self.buffered] = difference as u32;
                self.buffered += 1;
            }
            self.next_offset += (before - rest.len()).max(1);
            // What follows belongs to another term.
            self.bytes = self.bytes.get(..self.next_offset).unwrap_or(self.bytes);
            return self.buffered > 0;
        }
        let Some(used) = unpack_patched(rest, &mut self.buffer) else { return false };
        self.next_offset += used;
        self.blocks_before += 1;
        self.buffered = BLOCK_LEN;
        true
    }
}

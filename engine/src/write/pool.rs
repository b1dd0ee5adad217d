//! Growing byte lists in one arena: each starts with 8 bytes and continues in ever larger slices.
//!
//! A slice ends in the address of the next one. Appending costs no allocation but that of a 256 KiB block now and then;
//! a list of one entry takes 12 bytes.

const BLOCK_BITS: u32 = 18;
const BLOCK_LEN: usize = 1 << BLOCK_BITS;
/// Bytes of a slice by its position in the list, without the 4 of the link.
const SLICE_LEN: [u16; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];
const LINK: usize = 4;

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: Vec<Box<[u8]>>,
    used: usize,
}

/// Asks the processor to fetch `slice[at]` while it does something else.
#[inline]
pub(crate) fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = slice.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing as far as the program can tell, and the address is that of an item.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

const LEVEL_SHIFT: u32 = 12;

/// Where a list grows: the address of its next byte, above it the bytes left in its slice, and above them the slice's level.
/// One number, so that it stays in a register.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail(u64);

impl Tail {
    #[inline]
    fn new(address: u32, level: u8) -> Tail {
        Tail::from_parts(address, u16::from(level) << LEVEL_SHIFT | SLICE_LEN[level as usize])
    }

    #[inline]
    pub fn from_parts(next: u32, state: u16) -> Tail {
        Tail(u64::from(state) << 32 | u64::from(next))
    }

    /// Where the next byte goes.
    #[inline]
    pub fn next(self) -> u32 {
        self.0 as u32
    }

    /// The rest.
    #[inline]
    pub fn state(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline]
    fn left(self) -> usize {
        (self.state() & ((1 << LEVEL_SHIFT) - 1)) as usize
    }

    #[inline]
    fn level(self) -> u8 {
        (self.state() >> LEVEL_SHIFT) as u8
    }

    /// After so many bytes put into the slice.
    #[inline]
    fn after(self, bytes: u32) -> Tail {
        Tail::from_parts(self.next() + bytes, self.state() - bytes as u16)
    }
}

#[inline]
fn place(address: u32) -> (usize, usize) {
    ((address >> BLOCK_BITS) as usize, address as usize & (BLOCK_LEN - 1))
}

#[inline]
fn level_after(level: u8) -> u8 {
    (level + 1).min(SLICE_LEN.len() as u8 - 1)
}

impl Pool {
    /// The last block counts as far as it is used: the system gives its pages when they are touched.
    pub fn memory_bytes(&self) -> usize {
        self.blocks.len().saturating_sub(1) * BLOCK_LEN + self.used
    }

    /// Asks for the memory at an address.
    #[inline]
    pub fn prefetch(&self, address: u32) {
        let (block, at) = place(address);
        if let Some(block) = self.blocks.get(block) {
            prefetch(block, at);
        }
    }

    fn allocate(&mut self, len: usize) -> u32 {
        if self.blocks.is_empty() || self.used + len > BLOCK_LEN {
            assert!(self.blocks.len() < 1 << (32 - BLOCK_BITS), "an indexing buffer of 4 GiB");
            self.blocks.push(vec![0; BLOCK_LEN].into_boxed_slice());
            self.used = 0;
        }
        let address = (self.blocks.len() - 1) << BLOCK_BITS | self.used;
        self.used += len;
        address as u32
    }

    /// An empty list, from its tail's address on.
    pub fn new_list(&mut self) -> Tail {
        Tail::new(self.allocate(SLICE_LEN[0] as usize + LINK), 0)
    }

    /// Appends a value to the list with this tail; its tail after that.
    #[inline]
    pub fn put_varint(&mut self, tail: Tail, value: u32) -> Tail {
        let (block, at) = place(tail.next());
        if value < 0x80 && tail.left() > 0 {
            self.blocks[block][at] = value as u8;
            tail.after(1)
        } else if value < 0x4000 && tail.left() > 1 {
            self.blocks[block][at..at + 2].copy_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]);
            tail.after(2)
        } else {
            self.put_long(tail, value)
        }
    }

    #[inline(never)]
    fn put_long(&mut self, mut tail: Tail, mut value: u32) -> Tail {
        while value >= 0x80 {
            tail = self.put_byte(tail, value as u8 | 0x80);
            value >>= 7;
        }
        self.put_byte(tail, value as u8)
    }

    #[inline]
    fn put_byte(&mut self, tail: Tail, byte: u8) -> Tail {
        let tail = if tail.left() == 0 { self.extend(tail) } else { tail };
        let (block, at) = place(tail.next());
        self.blocks[block][at] = byte;
        tail.after(1)
    }

    #[cold]
    fn extend(&mut self, tail: Tail) -> Tail {
        let level = level_after(tail.level());
        let address = self.allocate(SLICE_LEN[level as usize] as usize + LINK);
        let (block, at) = place(tail.next());
        self.blocks[block][at..at + LINK].copy_from_slice(&address.to_le_bytes());
        Tail::new(address, level)
    }

    /// Reads a list from its beginning to its tail.
    pub fn read(&self, head: u32, tail: Tail) -> ListReader<'_> {
        let mut reader = ListReader { pool: self, bytes: &[], end: tail.next(), next: 0, level: 0, last: false };
        reader.enter(head);
        reader
    }
}

/// Reads varints until the end of a list.
#[derive(Debug)]
pub(crate) struct ListReader<'a> {
    pool: &'a Pool,
    /// Rest of the slice.
    bytes: &'a [u8],
    end: u32,
    /// Address of the next slice.
    next: u32,
    level: u8,
    last: bool,
}

impl<'a> ListReader<'a> {
    fn enter(&mut self, address: u32) {
        let (block, start) = place(address);
        let block: &'a [u8] = &self.pool.blocks[block];
        let len = SLICE_LEN[self.level as usize] as usize;
        // The end is in this slice, or behind its last byte.
        self.last = address <= self.end && (self.end - address) as usize <= len;
        if self.last {
            self.bytes = &block[start..start + (self.end - address) as usize];
        } else {
            let link = start + len;
            self.bytes = &block[start..link];
            self.next = u32::from_le_bytes(block[link..link + LINK].try_into().expect("4 bytes"));
            // While this slice is read, the next one comes, and where it says what is next.
            self.pool.prefetch(self.next);
            self.pool.prefetch(self.next + u32::from(SLICE_LEN[level_after(self.level) as usize]));
        }
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        loop {
            if let Some((&byte, rest)) = self.bytes.split_first() {
                self.bytes = rest;
                return Some(byte);
            }
            if self.last {
                return None;
            }
            self.follow();
        }
    }

    #[cold]
    fn follow(&mut self) {
        self.level = level_after(self.level);
        self.enter(self.next);
    }

    /// A value of several bytes, or in several slices.
    #[inline(never)]
    fn next_long(&mut self) -> Option<u32> {
        let mut byte = self.byte()?;
        let mut value = u32::from(byte & 0x7f);
        let mut shift = 7;
        while byte >= 0x80 {
            byte = self.byte().expect("a whole varint");
            value |= u32::from(byte & 0x7f) << shift;
            shift += 7;
        }
        Some(value)
    }
}

impl Iterator for ListReader<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        match *self.bytes {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.bytes = rest;
                Some(u32::from(byte))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.bytes = rest;
                Some(u32::from(low & 0x7f) | u32::from(high) << 7)
            }
            _ => self.next_long(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_give_back_what_was_put(puts in proptest::collection::vec((0usize..6, any::<u32>(), 0u32..32), 0..6000)) {
            let mut pool = Pool::default();
            let heads: Vec<Tail> = (0..6).map(|_| pool.new_list()).collect();
            let mut tails = heads.clone();
            let mut model = vec![vec![]; 6];
            for (i, value, shift) in puts {
                let i = if i == 5 { 5 } else { i % 2 };
                tails[i] = pool.put_varint(tails[i], value >> shift);
                model[i].push(value >> shift);
            }
            for ((head, tail), values) in heads.iter().zip(tails).zip(&model) {
                prop_assert_eq!(&pool.read(head.next(), tail).collect::<Vec<_>>(), values);
            }
        }
    }
}

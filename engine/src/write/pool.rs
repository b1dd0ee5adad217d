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

/// Bytes left in a list's slice, and above them the slice's level.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListState(u16);

const LEVEL_SHIFT: u32 = 12;

impl ListState {
    #[inline]
    fn new(level: u8) -> ListState {
        ListState(u16::from(level) << LEVEL_SHIFT | SLICE_LEN[level as usize])
    }

    #[inline]
    fn left(self) -> usize {
        (self.0 & ((1 << LEVEL_SHIFT) - 1)) as usize
    }

    #[inline]
    fn level(self) -> u8 {
        (self.0 >> LEVEL_SHIFT) as u8
    }
}

/// One list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    pub head: u32,
    /// Where the next byte goes.
    pub next: u32,
    pub state: ListState,
}

#[inline]
fn place(address: u32) -> (usize, usize) {
    ((address >> BLOCK_BITS) as usize, address as usize & (BLOCK_LEN - 1))
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

    /// An empty list.
    pub fn new_list(&mut self) -> List {
        let head = self.allocate(SLICE_LEN[0] as usize + LINK);
        List { head, next: head, state: ListState::new(0) }
    }

    #[inline]
    pub fn put_varint(&mut self, list: &mut List, value: u32) {
        if value < 0x80 && list.state.left() > 0 {
            let (block, at) = place(list.next);
            self.blocks[block][at] = value as u8;
            list.next += 1;
            list.state.0 -= 1;
        } else if value < 0x4000 && list.state.left() > 1 {
            let (block, at) = place(list.next);
            self.blocks[block][at..at + 2].copy_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]);
            list.next += 2;
            list.state.0 -= 2;
        } else {
            self.put_long(list, value);
        }
    }

    #[inline(never)]
    fn put_long(&mut self, list: &mut List, mut value: u32) {
        while value >= 0x80 {
            self.put_byte(list, value as u8 | 0x80);
            value >>= 7;
        }
        self.put_byte(list, value as u8);
    }

    #[inline]
    fn put_byte(&mut self, list: &mut List, byte: u8) {
        if list.state.left() == 0 {
            self.extend(list);
        }
        let (block, at) = place(list.next);
        self.blocks[block][at] = byte;
        list.next += 1;
        list.state.0 -= 1;
    }

    #[cold]
    fn extend(&mut self, list: &mut List) {
        let level = (list.state.level() + 1).min(SLICE_LEN.len() as u8 - 1);
        let address = self.allocate(SLICE_LEN[level as usize] as usize + LINK);
        let (block, at) = place(list.next);
        self.blocks[block][at..at + LINK].copy_from_slice(&address.to_le_bytes());
        *list = List { head: list.head, next: address, state: ListState::new(level) };
    }

    /// Reads a list from its beginning.
    pub fn read(&self, list: &List) -> ListReader<'_> {
        let mut reader = ListReader { pool: self, bytes: &[], end: list.next, link: 0, level: 0, last: false };
        reader.enter(list.head);
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
    /// Address of the link behind the slice.
    link: u32,
    level: u8,
    last: bool,
}

impl<'a> ListReader<'a> {
    fn enter(&mut self, address: u32) {
        let (block, start) = place(address);
        let block: &'a [u8] = &self.pool.blocks[block];
        let len = SLICE_LEN[self.level as usize] as usize;
        self.link = address + len as u32;
        // The end is in this slice, or behind its last byte.
        self.last = address <= self.end && (self.end - address) as usize <= len;
        self.bytes =
            if self.last { &block[start..start + (self.end - address) as usize] } else { &block[start..start + len] };
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
        let (block, at) = place(self.link);
        let address = u32::from_le_bytes(self.pool.blocks[block][at..at + LINK].try_into().expect("4 bytes"));
        self.level = (self.level + 1).min(SLICE_LEN.len() as u8 - 1);
        self.enter(address);
    }
}

impl Iterator for ListReader<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_give_back_what_was_put(puts in proptest::collection::vec((0usize..6, any::<u32>(), 0u32..32), 0..6000)) {
            let mut pool = Pool::default();
            let mut lists: Vec<List> = (0..6).map(|_| pool.new_list()).collect();
            let mut model = vec![vec![]; 6];
            for (i, value, shift) in puts {
                let i = if i == 5 { 5 } else { i % 2 };
                pool.put_varint(&mut lists[i], value >> shift);
                model[i].push(value >> shift);
            }
            for (list, values) in lists.iter().zip(&model) {
                prop_assert_eq!(&pool.read(list).collect::<Vec<_>>(), values);
            }
        }
    }
}

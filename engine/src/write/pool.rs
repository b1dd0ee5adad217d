//! Growing byte lists in one arena: each starts with 8 bytes and continues in ever larger slices.
//!
//! A slice ends in the address of the next one. Appending costs no allocation but that of a 64 KiB block now and then;
//! a list of one entry takes 12 bytes.

const BLOCK_LEN: usize = 1 << 16;
/// Bytes of a slice by its position in the list, without the 4 of the link.
const SLICE_LEN: [u16; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];
const LINK: usize = 4;

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: Vec<Box<[u8]>>,
    used: usize,
}

/// One list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    head: u32,
    /// Where the next byte goes.
    next: u32,
    /// Bytes left in the slice.
    left: u16,
    level: u8,
}

impl Pool {
    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_LEN
    }

    fn allocate(&mut self, len: usize) -> u32 {
        if self.blocks.is_empty() || self.used + len > BLOCK_LEN {
            assert!(self.blocks.len() < 1 << 16, "an indexing buffer of 4 GiB");
            self.blocks.push(vec![0; BLOCK_LEN].into_boxed_slice());
            self.used = 0;
        }
        let address = (self.blocks.len() - 1) << 16 | self.used;
        self.used += len;
        address as u32
    }

    /// An empty list.
    pub fn new_list(&mut self) -> List {
        let head = self.allocate(SLICE_LEN[0] as usize + LINK);
        List { head, next: head, left: SLICE_LEN[0], level: 0 }
    }

    #[inline]
    pub fn put_varint(&mut self, list: &mut List, mut value: u32) {
        let mut bytes = [0u8; 5];
        let mut n = 0;
        while value >= 0x80 {
            bytes[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        bytes[n] = value as u8;
        n += 1;
        if n <= list.left as usize {
            let at = (list.next & 0xffff) as usize;
            let block = &mut self.blocks[(list.next >> 16) as usize];
            for (to, from) in block[at..at + n].iter_mut().zip(bytes) {
                *to = from;
            }
            list.next += n as u32;
            list.left -= n as u16;
        } else {
            bytes[..n].iter().for_each(|&b| self.put_byte(list, b));
        }
    }

    fn put_byte(&mut self, list: &mut List, byte: u8) {
        if list.left == 0 {
            let level = (list.level + 1).min(SLICE_LEN.len() as u8 - 1);
            let len = SLICE_LEN[level as usize];
            let address = self.allocate(len as usize + LINK);
            let at = (list.next & 0xffff) as usize;
            self.blocks[(list.next >> 16) as usize][at..at + LINK].copy_from_slice(&address.to_le_bytes());
            *list = List { head: list.head, next: address, left: len, level };
        }
        self.blocks[(list.next >> 16) as usize][(list.next & 0xffff) as usize] = byte;
        list.next += 1;
        list.left -= 1;
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
        let block: &'a [u8] = &self.pool.blocks[(address >> 16) as usize];
        let start = (address & 0xffff) as usize;
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
        let at = (self.link & 0xffff) as usize;
        let block = &self.pool.blocks[(self.link >> 16) as usize];
        let address = u32::from_le_bytes(block[at..at + LINK].try_into().expect("4 bytes"));
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

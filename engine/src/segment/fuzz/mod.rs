//! Fuzz bodies of the structures of a segment, each by itself: no fuzzer need guess the file around it.
//!
//! Every input is a script of choices. By its first byte a body reads bytes as they come, or writes something and reads it back
//! (what comes back must be what was written), or changes some bytes of what it wrote (nothing may panic or go on for ever).

mod columns;
mod dictionary;
mod postings;
mod stored;

pub use columns::fuzz_columns;
pub use dictionary::fuzz_dictionary;
pub use postings::fuzz_postings;
pub use stored::fuzz_stored;

/// Reads an input as choices; zeros behind its end.
#[derive(Clone, Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// Whether none are left.
    #[must_use]
    pub fn done(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// Below `n`, which is above 0: one byte for a small `n`, two for others.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0);
        let wide = if n <= 256 { 0 } else { self.byte() };
        (usize::from(wide) << 8 | usize::from(self.byte())) % n
    }

    /// In `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        // Zeros, the end among them, say no.
        self.byte() as usize * 100 >= (100 - percent) * 256
    }

    /// Any number, small ones in few bytes.
    pub fn number(&mut self) -> u64 {
        let width = (self.byte() % 9).into();
        let mut bytes = [0; 8];
        let given = self.bytes(width);
        bytes[..given.len()].copy_from_slice(given);
        u64::from_le_bytes(bytes)
    }

    /// The next `n`, or as many as there are.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        self.0.split_off(..n.min(self.0.len())).expect("no more than there are")
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Changes one to eight places of `image`.
    pub fn damage(&mut self, image: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let from_end = self.chance(50);
            let at = self.number() as usize % (image.len() + 1);
            let at = if from_end { image.len() - at } else { at };
            match self.byte() {
                0..32 => image.truncate(at),
                32..96 => {
                    let number = self.number().to_le_bytes();
                    let width = number.len().min(image.len() - at);
                    image[at..at + width].copy_from_slice(&number[..width]);
                }
                96..160 if at < image.len() => image[at] ^= 1 << self.below(8),
                _ if at < image.len() => image[at] = self.byte(),
                _ => image.push(self.byte()),
            }
        }
    }
}

/// 64 bits that look random and follow from `n` (splitmix64): many values from few bytes of input.
#[must_use]
pub fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! Hashing whose collisions a client cannot prepare.
//!
//! Whoever knows how a table hashes can send keys that all fall into one place, and make every insertion walk over those
//! before it. So tables whose keys come from clients (ids, terms, values of buckets) hash under a seed.
//!
//! - The engine draws no seed: it comes with the configuration, random in a process, the same again in a simulation.
//! - The order of such a table differs from process to process, so nothing that leaves a table may depend on it.
//! - A seed has no default: a table that forgot it would be open again.
//!
//! `h = fold(length ^ a, b)`; for each 8 bytes `w`: `h = fold(h ^ w, b)`, where the 1 to 8 last bytes are one word (4 to 7:
//! first and last four bytes; 1 to 3: first, middle and last byte); result `fold(h, c)`. It is part of the segment format (the
//! id index), and so never changes within a version. `fold` is a multiplication to 128 bits, its halves xored; `a`, `b` and `c` are drawn from the seed. The last
//! multiplication is for multipliers that were drawn badly: under one alone, some leave similar keys close together.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

/// A map whose keys may come from a client.
pub type SeededMap<K, V> = HashMap<K, V, HashSeed>;
/// A set whose keys may come from a client.
pub type SeededSet<K> = HashSet<K, HashSeed>;

/// What decides where keys fall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed {
    a: u64,
    b: u64,
    c: u64,
}

/// Silent: a seed in a log is a seed known.
impl std::fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashSeed")
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl HashSeed {
    /// From 64 bits that clients do not know.
    #[must_use]
    pub const fn new(seed: u64) -> HashSeed {
        // splitmix64: each state's output is well mixed, and a bijection of the seed.
        const fn draw(seed: u64, step: u64) -> u64 {
            let mut z = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
        // Multipliers with the highest and the lowest bit move every bit of the other factor into both halves.
        const ENDS: u64 = 1 << 63 | 1;
        HashSeed { a: draw(seed, 1), b: draw(seed, 2) | ENDS, c: draw(seed, 3) | ENDS }
    }

    /// 64 well-mixed bits of `bytes`.
    #[inline]
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut h = fold(bytes.len() as u64 ^ self.a, self.b);
        let mut rest = bytes;
        while rest.len() > 8 {
            let (word, after) = rest.split_at(8);
            h = fold(h ^ u64::from_le_bytes(word.try_into().expect("8 bytes")), self.b);
            rest = after;
        }
        let n = rest.len();
        let word = if n == 8 {
            u64::from_le_bytes(rest.try_into().expect("8 bytes"))
        } else if n >= 4 {
            let low = u32::from_le_bytes(rest[..4].try_into().expect("4 bytes"));
            let high = u32::from_le_bytes(rest[n - 4..].try_into().expect("4 bytes"));
            u64::from(low) | u64::from(high) << 32
        } else if n > 0 {
            u64::from(rest[0]) | u64::from(rest[n / 2]) << 8 | u64::from(rest[n - 1]) << 16
        } else {
            0
        };
        fold(fold(h ^ word, self.b), self.c)
    }
}

impl HashSeed {
    /// 64 well-mixed bits of up to eight bytes, as a number with zeros behind them. Not what [`hash`](Self::hash) gives for them.
    #[inline]
    #[must_use]
    pub fn hash_short(&self, bytes: u64, len: usize) -> u64 {
        fold(fold(fold(len as u64 ^ self.a, self.b) ^ bytes, self.b), self.c)
    }
}

impl BuildHasher for HashSeed {
    type Hasher = SeededHasher;

    #[inline]
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher { state: self.a, seed: *self }
    }
}

/// Hashes one key.
pub struct SeededHasher {
    state: u64,
    seed: HashSeed,
}

impl Hasher for SeededHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(self.seed.hash(bytes));
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.state = fold(self.state ^ value, self.seed.b);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.seed.c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 64 groups by the highest bits and 64 by the lowest, the size of the largest.
    fn largest(hashes: impl Iterator<Item = u64>) -> usize {
        let mut groups = [[0usize; 64]; 2];
        for h in hashes {
            groups[0][(h >> 58) as usize] += 1;
            groups[1][(h & 63) as usize] += 1;
        }
        groups.into_iter().flatten().max().unwrap_or(0)
    }

    #[test]
    fn values_are_part_of_the_segment_format() {
        let seed = HashSeed::new(1);
        let all = ["", "a", "abc", "abcd", "abcdefgh", "abcdefghi"].map(|s| seed.hash(s.as_bytes()));
        assert_eq!(all, GOLDEN, "{all:#018x?}");
    }

    const GOLDEN: [u64; 6] = [
        0xf973_2a99_1c92_70d5,
        0x9b69_2795_917e_bf90,
        0x1a49_8f2d_1fb2_2189,
        0x7ded_3e70_ecd8_98eb,
        0xc5c8_4d0b_1f88_ecda,
        0x997f_eae8_6c2e_78bd,
    ];

    #[test]
    fn keys_that_collide_under_a_known_seed_do_not_under_others() {
        // There the state after the first word is known, whatever it is, and a second word equal to it forgets it.
        let known = HashSeed::new(1 << 40);
        let keys: Vec<Vec<u8>> = (0..4096u64)
            .map(|first| {
                let state = fold(fold(24 ^ known.a, known.b) ^ first, known.b);
                [first, state, 7].iter().flat_map(|word| word.to_le_bytes()).collect()
            })
            .collect();
        assert!(keys.iter().all(|key| known.hash(key) == known.hash(&keys[0])), "the attack is understood");
        for seed in 0..64 {
            let seed = HashSeed::new(seed);
            assert!(largest(keys.iter().map(|k| seed.hash(k))) < 128);
        }
    }

    #[test]
    fn structured_keys_spread_over_upper_and_lower_bits_under_every_seed() {
        for seed in 0..64 {
            let seed = HashSeed::new(seed);
            assert!(largest((0..4096u64).map(|n| seed.hash(format!("doc-{n}").as_bytes()))) < 128);
            let short =
                |n: u64| seed.hash_short(u64::from_le_bytes(*format!("{n:08}").as_bytes().first_chunk().unwrap()), 8);
            assert!(largest((0..4096).map(short)) < 128);
            // What a plain multiplication sends to one place: multiples of powers of two.
            for shift in [0, 8, 20, 32, 44, 52] {
                assert!(largest((0..4096u64).map(|n| seed.hash_one((0u32, n << shift)))) < 128, "{shift}");
                assert!(largest((0..4096u64).map(|n| seed.hash_short(n << shift, 8))) < 128, "{shift}");
            }
            assert!(largest((0..4096u32).map(|n| seed.hash_one(f64::from(n).to_bits()))) < 128);
        }
    }

    #[test]
    fn seed_decides_and_repeats() {
        let hash = |seed: u64| HashSeed::new(seed).hash(b"key");
        assert_eq!(hash(1), hash(1));
        let all: std::collections::HashSet<u64> = (0..1000).map(hash).collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(format!("{:?}", HashSeed::new(1)), "HashSeed");
    }
}

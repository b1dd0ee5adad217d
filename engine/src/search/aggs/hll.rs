//! Counting distinct values: exact while they are few, HyperLogLog after that.
//!
//! Up to a threshold the sketch keeps the 64-bit hashes themselves; above it, one register of a byte for each of
//! `2^precision` groups of hashes, and Ertl's improved estimator (2017), which needs no correction tables and is
//! unbiased over the whole range. Equal precision merges exactly: the sketch of a union is the union of sketches.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

const PRECISION_MIN: u8 = 4;
const PRECISION_MAX: u8 = 18;
/// The largest `precision_threshold` that has an effect.
const THRESHOLD_MAX: u32 = 40_000;

/// A set of hashes, of which only the size can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DistinctSketch {
    precision: u8,
    threshold: u32,
    set: Set,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Set {
    Hashes(FxHashSet<u64>),
    Registers(Vec<u8>),
}

impl PartialEq for DistinctSketch {
    fn eq(&self, other: &DistinctSketch) -> bool {
        (self.precision, self.threshold) == (other.precision, other.threshold)
            && match (&self.set, &other.set) {
                (Set::Hashes(a), Set::Hashes(b)) => a == b,
                (Set::Registers(a), Set::Registers(b)) => a == b,
                _ => false,
            }
    }
}

impl DistinctSketch {
    /// Exact up to `threshold` distinct values (`precision_threshold`).
    #[must_use]
    pub fn new(threshold: u32) -> DistinctSketch {
        let threshold = threshold.min(THRESHOLD_MAX);
        // As many bits as a hash table of the threshold's values would take: 3,000 give 2^14 registers.
        let entries = (u64::from(threshold) * 4 / 3 * 4).max(1);
        let precision = (64 - entries.leading_zeros()) as u8;
        let precision = precision.clamp(PRECISION_MIN, PRECISION_MAX);
        DistinctSketch { precision, threshold, set: Set::Hashes(FxHashSet::default()) }
    }

    /// Adds one value by its hash, which must be well mixed.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        match &mut self.set {
            Set::Registers(registers) => insert_register(registers, self.precision, hash),
            Set::Hashes(hashes) => {
                hashes.insert(hash);
                if hashes.len() > self.threshold as usize {
                    self.spill();
                }
            }
        }
    }

    fn spill(&mut self) {
        if let Set::Hashes(hashes) = &self.set {
            let mut registers = vec![0; 1 << self.precision];
            for &hash in hashes {
                insert_register(&mut registers, self.precision, hash);
            }
            self.set = Set::Registers(registers);
        }
    }

    /// Union. Sketches of different precision (which only a damaged message can bring together) are not merged.
    #[must_use]
    pub fn merge(&mut self, other: &DistinctSketch) -> bool {
        if self.precision != other.precision || self.threshold != other.threshold {
            return false;
        }
        if let Set::Registers(registers) = &other.set {
            if registers.len() != 1 << self.precision {
                return false;
            }
            self.spill();
        }
        match (&mut self.set, &other.set) {
            (_, Set::Hashes(hashes)) => hashes.iter().for_each(|&h| self.insert(h)),
            (Set::Registers(own), Set::Registers(theirs)) => {
                own.iter_mut().zip(theirs).for_each(|(a, b)| *a = (*a).max(*b));
            }
            (Set::Hashes(_), Set::Registers(_)) => unreachable!("spilled above"),
        }
        true
    }

    /// How many distinct values.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.set {
            Set::Hashes(hashes) => hashes.len() as u64,
            Set::Registers(registers) => estimate(registers, self.precision).round() as u64,
        }
    }

    /// Memory behind it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.set {
            Set::Hashes(hashes) => hashes.capacity() * 9,
            Set::Registers(registers) => registers.capacity(),
        }
    }
}

fn insert_register(registers: &mut [u8], precision: u8, hash: u64) {
    let group = (hash >> (64 - precision)) as usize;
    // The bit below the hash's own bits stops the count where they end.
    let rank = ((hash << precision) | 1 << (precision - 1)).leading_zeros() as u8 + 1;
    let register = &mut registers[group];
    *register = (*register).max(rank);
}

/// Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6.
fn estimate(registers: &[u8], precision: u8) -> f64 {
    let q = 64 - usize::from(precision);
    let mut counts = vec![0u32; q + 2];
    for &register in registers {
        counts[usize::from(register).min(q + 1)] += 1;
    }
    let m = registers.len() as f64;
    let mut z = m * tau((m - f64::from(counts[q + 1])) / m);
    for k in (1..=q).rev() {
        z = 0.5 * (z + f64::from(counts[k]));
    }
    z += m * sigma(f64::from(counts[0]) / m);
    let alpha = 0.5 / std::f64::consts::LN_2;
    alpha * m * m / z
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        y *= 0.5;
        let before = z;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Mixes a number into a hash.
#[inline]
#[must_use]
pub fn hash_number(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes a term. The same on every node: sketches of several shards meet.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut h = hash_number(bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        h = hash_number(h ^ u64::from_le_bytes(chunk.try_into().expect("8 bytes"))).rotate_left(5);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = hash_number(h ^ u64::from_le_bytes(last));
    }
    hash_number(h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_up_to_the_threshold() {
        let mut s = DistinctSketch::new(3000);
        assert_eq!(s.precision, 14);
        for i in 0..3000u64 {
            s.insert(hash_number(i));
            s.insert(hash_number(i));
        }
        assert_eq!(s.count(), 3000);
    }

    #[test]
    fn estimates_stay_within_two_percent_at_the_default() {
        let mut s = DistinctSketch::new(3000);
        let mut next_check = 3500;
        for i in 0..2_000_000u64 {
            s.insert(hash_bytes(&i.to_le_bytes()));
            if i + 1 == next_check {
                let error = (s.count() as f64 / next_check as f64 - 1.0).abs();
                assert!(error < 0.025, "{next_check}: {error}");
                next_check = next_check * 5 / 3;
            }
        }
    }

    #[test]
    fn small_precision_still_estimates() {
        let mut s = DistinctSketch::new(0);
        assert_eq!(s.precision, 4);
        (0..1000u64).for_each(|i| s.insert(hash_number(i)));
        assert!((300..3000).contains(&s.count()), "{}", s.count());
    }

    proptest! {
        #[test]
        fn merging_any_split_equals_the_whole(values in prop::collection::vec(0u64..500, 0..800),
                                              cut in 0usize..800, threshold in 0u32..300) {
            let sketch = |v: &[u64]| {
                let mut s = DistinctSketch::new(threshold);
                v.iter().for_each(|&v| s.insert(hash_number(v)));
                s
            };
            let cut = cut.min(values.len());
            let (mut a, b) = (sketch(&values[..cut]), sketch(&values[cut..]));
            let mut c = b.clone();
            prop_assert!(a.merge(&b));
            prop_assert!(c.merge(&sketch(&values[..cut])));
            prop_assert_eq!(&a, &sketch(&values));
            prop_assert_eq!(&a, &c);
        }
    }
}

//! Quantiles of a stream: a merging t-digest (Dunning and Ertl), and a log-linear histogram for `hdr`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Centroids in order of their means, small near the ends, so that extreme quantiles stay sharp. Values wait in a
/// buffer and are merged in when it is full. Memory: a few hundred centroids, whatever the number of values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TDigest {
    compression: f64,
    centroids: Vec<Centroid>,
    buffer: Vec<Centroid>,
    min: Option<f64>,
    max: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Centroid {
    mean: f64,
    weight: f64,
}

impl TDigest {
    /// `compression` bounds the centroids; between 10 and 10,000.
    #[must_use]
    pub fn new(compression: f64) -> TDigest {
        let compression = if compression.is_finite() { compression.clamp(10.0, 10_000.0) } else { 100.0 };
        TDigest { compression, centroids: Vec::new(), buffer: Vec::new(), min: None, max: None }
    }

    /// Adds one value; NaN is ignored.
    #[inline]
    pub fn insert(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.min = Some(self.min.map_or(value, |m| m.min(value)));
        self.max = Some(self.max.map_or(value, |m| m.max(value)));
        self.buffer.push(Centroid { mean: value, weight: 1.0 });
        if self.buffer.len() >= self.compression as usize * 5 {
            self.compress();
        }
    }

    /// Adds another digest.
    pub fn merge(&mut self, other: &TDigest) {
        self.min = [self.min, other.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, other.max].into_iter().flatten().reduce(f64::max);
        self.buffer.extend(other.centroids.iter().chain(&other.buffer));
        if self.buffer.len() >= self.compression as usize * 5 {
            self.compress();
        }
    }

    /// Moves the buffer into the centroids.
    pub fn compress(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.buffer);
        all.append(&mut self.centroids);
        all.sort_unstable_by(|a, b| a.mean.total_cmp(&b.mean));
        let total: f64 = all.iter().map(|c| c.weight).sum();
        // While there are few, nothing is lost: every value stays a centroid of its own.
        if all.len() as f64 <= self.compression * 2.0 {
            self.centroids = all;
            return;
        }
        // Four times the part's variance over the compression: under 1 % of all values at the default, and less the
        // nearer the ends.
        let size_max = |q: f64| (4.0 * total * q * (1.0 - q) / self.compression).max(1.0);
        let mut merged: Vec<Centroid> = Vec::with_capacity(self.compression as usize * 2);
        let mut before = 0.0;
        for c in all {
            if let Some(last) = merged.last_mut() {
                let weight = last.weight + c.weight;
                let (low, high) = (before / total, (before + weight) / total);
                if weight <= size_max(low).min(size_max(high.min(1.0))) {
                    last.mean += (c.mean - last.mean) * c.weight / weight;
                    last.weight = weight;
                    continue;
                }
                before += last.weight;
            }
            merged.push(c);
        }
        self.centroids = merged;
    }

    /// Values added.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.centroids.iter().chain(&self.buffer).map(|c| c.weight).sum()
    }

    /// The value below which a part of `q` (0 to 1) of all values lies; none when empty. Call `compress` first.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        debug_assert!(self.buffer.is_empty(), "compressed");
        let (min, max) = (self.min?, self.max?);
        let total = self.count();
        let index = q.clamp(0.0, 1.0) * total;
        // A centroid's weight lies half before and half after its mean.
        let (mut position, mut mean) = (0.0, min);
        let mut before = 0.0;
        for c in &self.centroids {
            let center = before + c.weight / 2.0;
            if index <= center {
                return Some(interpolate(index, position, mean, center, c.mean).clamp(min, max));
            }
            (position, mean) = (center, c.mean);
            before += c.weight;
        }
        Some(interpolate(index, position, mean, total, max).clamp(min, max))
    }

    /// The part (0 to 1) of all values that are not above `value`; none when empty. Call `compress` first.
    #[must_use]
    pub fn rank(&self, value: f64) -> Option<f64> {
        debug_assert!(self.buffer.is_empty(), "compressed");
        let (min, max) = (self.min?, self.max?);
        if value < min {
            return Some(0.0);
        }
        if value >= max {
            return Some(1.0);
        }
        let total = self.count();
        let mut before = 0.0;
        let (mut position, mut mean) = (0.0, min);
        for c in &self.centroids {
            let center = before + c.weight / 2.0;
            if value < c.mean {
                return Some(interpolate(value, mean, position, c.mean, center) / total);
            }
            (position, mean) = (center, c.mean);
            before += c.weight;
        }
        Some(interpolate(value, mean, position, max, total) / total)
    }

    /// Means and weights, ascending. Call `compress` first.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.centroids.iter().map(|c| (c.mean, c.weight))
    }

    /// An empty digest with a value of some weight added; for sketches of sketches.
    pub(crate) fn insert_weighted(&mut self, value: f64, weight: f64) {
        self.min = Some(self.min.map_or(value, |m| m.min(value)));
        self.max = Some(self.max.map_or(value, |m| m.max(value)));
        self.buffer.push(Centroid { mean: value, weight });
    }

    /// Memory behind it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.centroids.capacity() + self.buffer.capacity()) * size_of::<Centroid>()
    }
}

fn interpolate(x: f64, x0: f64, y0: f64, x1: f64, y1: f64) -> f64 {
    if x1 <= x0 { y1 } else { y0 + (y1 - y0) * (x - x0) / (x1 - x0) }
}

/// A histogram with buckets of constant relative width: `digits` significant decimal digits of positive values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hdr {
    /// Bits of the mantissa that buckets tell apart.
    bits: u32,
    /// Bucket (high bits of the double) and count, sorted.
    counts: BTreeMap<u64, u64>,
    total: u64,
    min: Option<f64>,
}

impl Hdr {
    /// `digits`: 0 to 5.
    #[must_use]
    pub fn new(digits: u8) -> Hdr {
        let resolution = 2 * 10u32.pow(u32::from(digits.min(5)));
        let bits = resolution.next_power_of_two().trailing_zeros() - 1;
        Hdr { bits, counts: BTreeMap::new(), total: 0, min: None }
    }

    /// Adds a value; whether it could be (negative ones and NaN cannot).
    pub fn insert(&mut self, value: f64) -> bool {
        if value.is_nan() || value < 0.0 {
            return false;
        }
        *self.counts.entry(value.abs().to_bits() >> (52 - self.bits)).or_insert(0) += 1;
        self.total += 1;
        if value > 0.0 {
            self.min = Some(self.min.map_or(value, |m| m.min(value)));
        }
        true
    }

    /// Adds another histogram; whether both have the same resolution.
    #[must_use]
    pub fn merge(&mut self, other: &Hdr) -> bool {
        if self.bits != other.bits {
            return false;
        }
        for (&bucket, &count) in &other.counts {
            *self.counts.entry(bucket).or_insert(0) += count;
        }
        self.total += other.total;
        self.min = [self.min, other.min].into_iter().flatten().reduce(f64::min);
        true
    }

    fn low(&self, bucket: u64) -> f64 {
        f64::from_bits(bucket << (52 - self.bits))
    }

    /// The largest value that the bucket cannot tell from its others.
    fn high(&self, bucket: u64) -> f64 {
        // Counting is in units of the smallest value's resolution.
        let (_, unit) = self.min.map_or((0, 0.0), |m| {
            let exponent = (m.to_bits() >> 52) as i32 - 1023;
            (exponent, 2f64.powi(exponent - self.bits as i32))
        });
        if bucket == 0 { 0.0 } else { (self.low(bucket + 1) - unit).max(self.low(bucket)) }
    }

    /// The value that a part of `q` (0 to 1) of all values does not exceed; none when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = ((q.clamp(0.0, 1.0) * self.total as f64 + 0.5) as u64).max(1);
        let mut seen = 0;
        for (&bucket, &count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return Some(self.high(bucket));
            }
        }
        None
    }

    /// The part (0 to 1) of all values in the buckets up to that of `value`; none when empty.
    #[must_use]
    pub fn rank(&self, value: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        if value < 0.0 {
            return Some(0.0);
        }
        let last = value.abs().to_bits() >> (52 - self.bits);
        let below: u64 = self.counts.range(..=last).map(|(_, count)| count).sum();
        Some(below as f64 / self.total as f64)
    }

    /// Memory behind it, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counts.len() * 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(values: &[f64], compression: f64) -> TDigest {
        let mut d = TDigest::new(compression);
        values.iter().for_each(|&v| d.insert(v));
        d.compress();
        d
    }

    #[test]
    fn few_values_interpolate_between_neighbours() {
        let d = digest(&[1.0, 51.0, 101.0, 151.0], 100.0);
        for (q, expected) in [(0.01, 1.0), (0.05, 1.0), (0.25, 26.0), (0.5, 76.0), (0.75, 126.0), (0.99, 151.0)] {
            assert_eq!(d.quantile(q), Some(expected), "{q}");
        }
        assert_eq!(TDigest::new(100.0).quantile(0.5), None);
        assert_eq!(d.rank(0.0), Some(0.0));
        assert_eq!(d.rank(151.0), Some(1.0));
    }

    #[test]
    fn hdr_answers_the_end_of_the_bucket() {
        let mut h = Hdr::new(3);
        [1.0, 51.0, 101.0, 151.0].into_iter().for_each(|v| assert!(h.insert(v)));
        for (q, expected) in
            [(0.01, 1.0), (0.25, 1.0), (0.5, 51.030_273_437_5), (0.75, 101.061_523_437_5), (0.99, 151.124_023_437_5)]
        {
            assert_eq!(h.quantile(q), Some(expected), "{q}");
        }
        assert!(!h.insert(-1.0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut d = TDigest::new(100.0);
        for i in 0..200_000u64 {
            d.insert((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64);
        }
        d.compress();
        assert!(d.centroids.len() < 1000, "{}", d.centroids.len());
        assert_eq!(d.count(), 200_000.0);
    }

    proptest! {
        #[test]
        fn quantiles_are_close_in_rank(mut values in prop::collection::vec(-1e6f64..1e6, 1..3000),
                                       cut in 0usize..3000, q in 0.0f64..1.0) {
            let cut = cut.min(values.len());
            let mut d = digest(&values[..cut], 100.0);
            d.merge(&digest(&values[cut..], 100.0));
            d.compress();
            values.sort_by(f64::total_cmp);
            let got = d.quantile(q).unwrap();
            let rank = values.partition_point(|&v| v < got) as f64 / values.len() as f64;
            let slack = 0.02 + 1.0 / values.len() as f64;
            prop_assert!((rank - q).abs() <= slack, "q {} rank {} n {}", q, rank, values.len());
            let back = d.rank(got).unwrap();
            prop_assert!((back - q).abs() <= slack, "q {} back {}", q, back);
        }

        #[test]
        fn hdr_is_within_its_digits(mut values in prop::collection::vec(1e-3f64..1e9, 1..500), q in 0.01f64..1.0) {
            let mut h = Hdr::new(3);
            values.iter().for_each(|&v| assert!(h.insert(v)));
            values.sort_by(f64::total_cmp);
            let wanted = ((q * values.len() as f64 + 0.5) as usize).max(1);
            let exact = values[wanted - 1];
            let got = h.quantile(q).unwrap();
            prop_assert!((got / exact - 1.0).abs() < 1.1e-3, "{} {}", got, exact);
        }
    }
}

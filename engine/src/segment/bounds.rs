//! Score bounds of postings, two bytes each.
//!
//! BM25 multiplies a term's weight with its *share*, `freq / (freq + k1 (1 - b + b length / average))`: between 0 and 1, and
//! the same for every query but for the average field length of the day. Blocks, groups of blocks and whole lists store the
//! largest share of their documents, rounded up to 65,535ths, and the section the average that they were made with.
//!
//! With a larger average every field counts as shorter and shares grow: the part of the denominator that is not the frequency
//! shrinks, at most by the ratio `r` of the averages. So a share of at most `s` becomes one of at most `r s / (1 + (r - 1) s)`,
//! which is near `s` where it matters, close to 1. Averages of segments of one index hardly differ. (Block-max indexes: Ding
//! and Suel, SIGIR 2011.)

use crate::segment::norms::norm_decode;

/// Term frequency saturation of BM25.
pub const K1: f32 = 1.2;
/// Length normalisation of BM25.
pub const B: f32 = 0.75;

/// The bound that stands for a share of 1.
pub(crate) const WHOLE: f32 = 65_535.0;

/// Documents looked at for the average length: it need not be exact.
const SAMPLE: usize = 1 << 16;

/// Computes the bounds of a field's postings.
#[derive(Debug)]
pub(crate) struct Shares {
    /// `k1 (1 - b + b length / average)` per norm byte.
    table: Box<[f32; 256]>,
    average: f32,
}

impl Shares {
    /// For a field with these norms, or none.
    pub fn new(norms: Option<&[u8]>) -> Shares {
        let norms = norms.unwrap_or(&[]);
        let (mut sum, mut count) = (0u64, 0u64);
        for &norm in norms.iter().step_by((norms.len() / SAMPLE).max(1)).filter(|n| **n > 0) {
            sum += u64::from(norm_decode(norm));
            count += 1;
        }
        let average = if count == 0 { 1.0 } else { (sum as f64 / count as f64).max(1.0) as f32 };
        let table = std::array::from_fn(|i| K1 * ((1.0 - B) + B * norm_decode(i as u8) as f32 / average));
        Shares { table: Box::new(table), average }
    }

    /// The average field length that bounds are made with.
    pub fn average(&self) -> f32 {
        self.average
    }

    /// The bound of some documents; `freqs` are less one.
    pub fn bound(&self, freqs: &[u32], norms: &[u8]) -> u16 {
        let shares = freqs.iter().zip(norms).map(|(&freq, &norm)| {
            let freq = freq as f32 + 1.0;
            freq / (freq + self.table[norm as usize])
        });
        round_up(shares.fold(0.0, f32::max))
    }
}

/// Up, and a little more: scores are computed with single precision, by another formula.
fn round_up(share: f32) -> u16 {
    (share * WHOLE + 0.25).ceil().min(WHOLE) as u16
}

/// What makes bounds ones of scores.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    weight: f32,
    /// Of the average length of the query to the one that the bounds were made with; at least 1.
    ratio: f32,
}

impl Scale {
    /// For a term with this weight where the average length is `now`; the bounds were made with `made`.
    pub fn new(weight: f32, now: f32, made: f32) -> Scale {
        Scale { weight, ratio: (now / made).max(1.0) }
    }

    /// No score is above.
    #[inline]
    pub fn score(&self, bound: u16) -> f32 {
        let share = f32::from(bound) * (1.0 / WHOLE);
        self.weight * (self.ratio * share / (1.0 + (self.ratio - 1.0) * share)) * (1.0 + 1e-6)
    }

    /// A bound of at most this much is one of scores that are not above `floor`.
    #[inline]
    pub fn at_most(&self, floor: f64) -> u16 {
        let (share, ratio) = (floor / f64::from(self.weight), f64::from(self.ratio));
        if share.is_nan() || share <= 0.0 {
            return 0;
        }
        if share >= 1.0 {
            return WHOLE as u16;
        }
        // Rounded down, and one less.
        (share / (ratio - (ratio - 1.0) * share) * f64::from(WHOLE) - 1.0).max(0.0) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_score_is_above_its_bound(norms in proptest::collection::vec(1u8..=255, 1..400), freq in 1u32..2000,
                                       now in 1.0f32..2000.0, weight in 0.0f32..50.0) {
            let shares = Shares::new(Some(&norms));
            let scale = Scale::new(weight, now, shares.average());
            for &norm in &norms {
                let quanta = shares.bound(&[freq - 1], &[norm]);
                let bound = scale.score(quanta);
                let k = K1 * ((1.0 - B) + B * norm_decode(norm) as f32 / now);
                let (freq, k) = (freq as f32, k);
                // Both ways to write it.
                prop_assert!(weight - weight / (1.0 + freq * (1.0 / k)) <= bound);
                let score = weight * freq / (freq + k);
                prop_assert!(score <= bound);
                prop_assert!(quanta > scale.at_most(f64::from(score) * 0.999) || score == 0.0);
                prop_assert!(quanta == 0 || scale.score(scale.at_most(f64::from(score))) <= score * (1.0 + 1e-5));
            }
        }
    }

    #[test]
    fn with_the_same_average_a_bound_is_near() {
        let norms = [12u8, 30, 9];
        let shares = Shares::new(Some(&norms));
        let score = 3.0 * 5.0 / (5.0 + shares.table[30]);
        let bound = Scale::new(3.0, shares.average(), shares.average()).score(shares.bound(&[4], &[30]));
        assert!(bound >= score && bound < score * 1.0001);
    }
}

//! Reproducible randomness: the numbers of request `k` follow from the seed and `k` alone, so that any thread can make
//! any request, and makes the same one in every run.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// A generator of its own for every list of numbers.
    pub(super) fn of(parts: &[u64]) -> Random {
        Random(parts.iter().fold(GOLDEN, |state, part| mix(state ^ mix(part.wrapping_add(GOLDEN)))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// In `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `0..n`; off from even by less than `n / 2^64`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// Zipf's law over the ranks `0..n`: rank `r` has weight `(r + 1)^-exponent`. Rejection-inversion (Hörmann and Derflinger
/// 1996): no table, constant time whatever `n` is, exact.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    n: f64,
    exponent: f64,
    top: f64,
    bottom: f64,
    always: f64,
}

impl Zipf {
    /// `n` and `exponent` are above 0.
    pub(super) fn new(n: u64, exponent: f64) -> Zipf {
        assert!(n > 0);
        assert!(exponent > 0.0);
        let mut zipf = Zipf { n: n as f64, exponent, top: 0.0, bottom: 0.0, always: 0.0 };
        zipf.top = zipf.area(1.5) - 1.0;
        zipf.bottom = zipf.area(zipf.n + 0.5);
        zipf.always = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    fn height(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// Integral of `height`.
    fn area(&self, x: f64) -> f64 {
        let e = 1.0 - self.exponent;
        if e.abs() < 1e-9 { x.ln() } else { (x.powf(e) - 1.0) / e }
    }

    fn area_inverse(&self, y: f64) -> f64 {
        let e = 1.0 - self.exponent;
        if e.abs() < 1e-9 { y.exp() } else { (1.0 + y * e).max(0.0).powf(1.0 / e) }
    }

    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.bottom + random.unit() * (self.top - self.bottom);
            let x = self.area_inverse(u);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.always || u >= self.area(k + 0.5) - self.height(k) {
                return k as u64 - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_numbers_and_others_give_others() {
        let draw = |parts: &[u64]| Random::of(parts).next();
        assert_eq!(draw(&[1, 2, 3]), draw(&[1, 2, 3]));
        let all: std::collections::BTreeSet<u64> =
            (0..10).flat_map(|a| (0..100).map(move |b| Random::of(&[a, b]).next())).collect();
        assert_eq!(all.len(), 1000);
        assert_ne!(draw(&[0, 1]), draw(&[1, 0]));
        // Results of one version are compared with those of another: the numbers may not change.
        let mut random = Random::of(&[42]);
        assert_eq!([random.next(), random.next()], [6_143_318_025_178_984_964, 3_111_913_416_427_148_399]);
    }

    #[test]
    fn numbers_are_even() {
        let mut random = Random::of(&[7]);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[random.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (9_600..10_400).contains(c)), "{counts:?}");
        let mean = (0..100_000).map(|_| random.exponential()).sum::<f64>() / 100_000.0;
        assert!((0.98..1.02).contains(&mean), "{mean}");
    }

    #[test]
    fn ranks_follow_zipf() {
        for (n, exponent) in [(1u64, 1.0), (2, 1.0), (1000, 1.0), (1000, 0.5), (1000, 1.3), (50, 3.0)] {
            let zipf = Zipf::new(n, exponent);
            let mut random = Random::of(&[n, exponent.to_bits()]);
            let mut counts = vec![0f64; n as usize];
            let draws = 200_000;
            for _ in 0..draws {
                counts[zipf.draw(&mut random) as usize] += 1.0;
            }
            let whole: f64 = (1..=n).map(|r| (r as f64).powf(-exponent)).sum();
            for rank in [1, 2, 3, 10, 100, 1000].into_iter().filter(|r| *r <= n) {
                let expected = f64::from(draws) * (rank as f64).powf(-exponent) / whole;
                let found = counts[rank as usize - 1];
                // Six standard deviations of the count.
                assert!((found - expected).abs() <= 6.0 * expected.sqrt() + 1.0, "{n} {exponent} {rank}: {found}");
            }
        }
    }
}

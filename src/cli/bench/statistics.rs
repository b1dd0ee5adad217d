//! Whether two sets of measurements differ: rank test and bootstrap, neither of which supposes a distribution.

use super::random::Random;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;
/// Up to so many pairings the rank test counts them all instead of approximating.
const EXACT_MAX: usize = 20;

/// Two-sided p-value of the Mann-Whitney U test: how likely such a difference of ranks is if both came from the same
/// distribution. Exact for small samples without ties, else the normal approximation with corrections for ties and
/// continuity. 1 if a sample is empty.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len(), b.len());
    if n == 0 || m == 0 {
        return 1.0;
    }
    let mut all: Vec<(f64, bool)> = a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut rank_sum, mut ties, mut from) = (0.0, 0.0, 0);
    while from < all.len() {
        let to = from + all[from..].iter().take_while(|x| x.0 == all[from].0).count();
        // Equal values share the mean of their ranks.
        let rank = (from + 1 + to) as f64 / 2.0;
        rank_sum += rank * all[from..to].iter().filter(|x| x.1).count() as f64;
        let t = (to - from) as f64;
        ties += t * t * t - t;
        from = to;
    }
    let u = rank_sum - (n * (n + 1)) as f64 / 2.0;
    if ties == 0.0 && n <= EXACT_MAX && m <= EXACT_MAX {
        let low = u.min((n * m) as f64 - u).round() as usize;
        return (2.0 * exact_at_most(n, m, low)).min(1.0);
    }
    let (nf, mf) = (n as f64, m as f64);
    let whole = nf + mf;
    let variance = nf * mf / 12.0 * ((whole + 1.0) - ties / (whole * (whole - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - nf * mf / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    (2.0 * normal_above(z)).min(1.0)
}

/// Probability that U is at most `u` if all orders are alike: counts the orders.
fn exact_at_most(n: usize, m: usize, u: usize) -> f64 {
    // ways[i][s]: choices of i of the first values of the merged order with sum s, one value after the other.
    let top = n * m;
    let mut ways = vec![vec![0f64; top + 1]; n + 1];
    ways[0][0] = 1.0;
    // The i-th chosen at position p has p - i of the others before it.
    for position in 0..n + m {
        for i in (1..=n.min(position + 1)).rev() {
            let before = position + 1 - i;
            if before > m {
                continue;
            }
            for s in before..=top {
                let more = ways[i - 1][s - before];
                ways[i][s] += more;
            }
        }
    }
    let whole: f64 = ways[n].iter().sum();
    ways[n][..=u.min(top)].iter().sum::<f64>() / whole
}

/// Upper tail of the standard normal distribution (Abramowitz and Stegun 26.2.17; error below 1e-7).
fn normal_above(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly
}

/// Median; 0 of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    median_of(&mut values.to_vec())
}

/// The same, leaving `values` in another order.
fn median_of(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return 0.0;
    }
    let (below, upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::MIN, f64::max);
    f64::midpoint(lower, *upper)
}

/// Interval in which the relative difference of the medians, `b / a - 1`, lies with `confidence`. `block`: neighbours are
/// drawn together, as intervals of one run resemble each other; 1 for independent values.
pub(super) fn difference(a: &[f64], b: &[f64], block: usize, confidence: f64) -> (f64, f64) {
    let mut random = Random::of(&[a.len() as u64, b.len() as u64]);
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample(a, block, &mut random, &mut from_a);
            resample(b, block, &mut random, &mut from_b);
            let (x, y) = (median_of(&mut from_a), median_of(&mut from_b));
            if x == 0.0 { 0.0 } else { y / x - 1.0 }
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |share: f64| found[((RESAMPLES - 1) as f64 * share).round() as usize];
    ((at((1.0 - confidence) / 2.0)), at(f64::midpoint(1.0, confidence)))
}

fn resample(values: &[f64], block: usize, random: &mut Random, out: &mut Vec<f64>) {
    let n = values.len();
    out.clear();
    while out.len() < n {
        let start = random.below(n as u64) as usize;
        for i in 0..block.min(n - out.len()) {
            out.push(values[(start + i) % n]);
        }
    }
}

/// Block length for `n` neighbouring intervals.
pub(super) fn block_length(n: usize) -> usize {
    (n as f64).cbrt().round().max(1.0) as usize
}

/// How many independent values `values`, one after the other in time, are worth: fewer where neighbours resemble each
/// other (first-order autocorrelation).
pub(super) fn effective(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    if values.len() < 3 || square == 0.0 {
        return n;
    }
    let product: f64 = values.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
    let r = (product / square).clamp(0.0, 0.95);
    n * (1.0 - r) / (1.0 + r)
}

/// Every `n`-th or so of `values`, `keep` of them, evenly.
pub(super) fn thinned(values: &[f64], keep: f64) -> Vec<f64> {
    let keep = (keep.floor() as usize).clamp(values.len().min(2), values.len());
    (0..keep).map(|i| values[i * values.len() / keep]).collect()
}

/// p-values corrected for being several (Holm): as many as come in, in their order.
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut out, mut so_far) = (vec![0.0; p.len()], 0f64);
    for (rank, index) in order.into_iter().enumerate() {
        so_far = so_far.max(p[index] * (p.len() - rank) as f64).min(1.0);
        out[index] = so_far;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, by: f64) {
        assert!((found - expected).abs() <= by, "{found}, not {expected}");
    }

    #[test]
    fn small_samples_are_counted_out() {
        // Of 3 and 3 in full order, 1 of 20 choices is as extreme on either side.
        near(mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 0.1, 1e-12);
        near(mann_whitney(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), 0.1, 1e-12);
        // 5 and 5: 2 of 252.
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]);
        near(mann_whitney(&a, &b), 2.0 / 252.0, 1e-12);
        // U = 1 of 3 and 3: 2 of 20 choices at most, doubled.
        near(mann_whitney(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]), 0.2, 1e-12);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    #[test]
    fn large_samples_are_approximated_and_ties_are_shared() {
        let a: Vec<f64> = (0..30).map(f64::from).collect();
        assert!(mann_whitney(&a, &a) > 0.9);
        let b: Vec<f64> = a.iter().map(|x| x + 10.5).collect();
        // Without ties 30 and 30, U = 190: z = (450 - 190 - 0.5) / sqrt(30 * 30 * 61 / 12) = 3.8366.
        near(mann_whitney(&a, &b), 2.0 * normal_above(3.836_6), 2e-6);
        assert_eq!(mann_whitney(&[5.0; 9], &[5.0; 9]), 1.0);
        near(normal_above(1.959_964), 0.025, 1e-6);
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(
            [&[][..], &[7.0], &[9.0, 1.0], &[5.0, 9.0, 1.0], &[4.0, 1.0, 3.0, 2.0]].map(median),
            [0.0, 7.0, 5.0, 5.0, 2.5]
        );
    }

    #[test]
    fn equal_distributions_are_seldom_told_apart() {
        let mut random = Random::of(&[11]);
        let mut draw = |shift: f64| (0..15).map(|_| random.exponential() + shift).collect::<Vec<f64>>();
        let false_alarms = (0..1000).filter(|_| mann_whitney(&draw(0.0), &draw(0.0)) < 0.05).count();
        assert!((20..=80).contains(&false_alarms), "about 50: {false_alarms}");
        let found = (0..200).filter(|_| mann_whitney(&draw(0.0), &draw(2.0)) < 0.05).count();
        assert!(found > 180, "{found}");
    }

    #[test]
    fn the_interval_holds_the_difference() {
        let mut random = Random::of(&[12]);
        let mut held = 0;
        for _ in 0..40 {
            let a: Vec<f64> = (0..40).map(|_| 100.0 + 10.0 * random.unit()).collect();
            let b: Vec<f64> = (0..40).map(|_| 110.0 + 10.0 * random.unit()).collect();
            let (low, high) = difference(&a, &b, 1, 0.95);
            let truth = 115.0 / 105.0 - 1.0;
            held += u32::from(low <= truth && truth <= high);
        }
        assert!((33..=40).contains(&held), "{held}");
    }

    #[test]
    fn neighbours_that_resemble_each_other_count_less() {
        let mut random = Random::of(&[13]);
        let independent: Vec<f64> = (0..300).map(|_| random.unit()).collect();
        assert!(effective(&independent) > 230.0, "{}", effective(&independent));
        let mut walk = 0.0;
        let walked: Vec<f64> = (0..300)
            .map(|_| {
                walk = walk * 0.9 + random.unit();
                walk
            })
            .collect();
        assert!(effective(&walked) < 60.0, "{}", effective(&walked));
        assert_eq!(thinned(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3.2), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn several_tests_are_corrected() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }
}

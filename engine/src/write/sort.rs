//! Sorting in steps of less than a millisecond.

use std::cmp::Ordering;

use crate::pace::Pace;

const RUN: usize = 4096;

/// Sorts, giving way to others after every few thousand items. Stops early, unsorted, if nobody wants the result.
pub(crate) async fn sort_paced<T: Copy, P: Pace>(
    mut items: Vec<T>,
    pace: &P,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) -> Vec<T> {
    for run in items.chunks_mut(RUN) {
        run.sort_unstable_by(&mut compare);
        pace.yield_if_needed().await;
    }
    let mut width = RUN;
    let mut merged = Vec::with_capacity(if items.len() > RUN { items.len() } else { 0 });
    while width < items.len() && !pace.stopped() {
        merged.clear();
        for pair in items.chunks(2 * width) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while !a.is_empty() && !b.is_empty() {
                for _ in 0..RUN {
                    let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first(), b.split_first()) else {
                        break;
                    };
                    if compare(first_b, first_a) == Ordering::Less {
                        merged.push(*first_b);
                        b = rest_b;
                    } else {
                        merged.push(*first_a);
                        a = rest_a;
                    }
                }
                pace.yield_if_needed().await;
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(&mut items, &mut merged);
        width *= 2;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Unpaced;

    #[test]
    fn any_length_is_sorted() {
        let mut state = 1u64;
        for len in [0, 1, RUN - 1, RUN, RUN + 1, 3 * RUN + 5, 7 * RUN] {
            let items: Vec<u64> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state >> 50
                })
                .collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            assert_eq!(futures_lite::future::block_on(sort_paced(items, &Unpaced, Ord::cmp)), expected);
        }
    }
}

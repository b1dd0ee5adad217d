//! Which segments to merge: tiers of similar size, in the terms and with the defaults of Lucene's tiered policy.
//!
//! Segments are allowed to pile up to `segments_per_tier` of each size class, classes growing by that factor from
//! `floor_segment` on. Over the allowance, the most even merge is chosen (its result not much larger than its largest
//! part), small ones and those that drop many deletes first.

use crate::ids::SegmentId;

/// Settings: `index.merge.policy.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct TieredMergePolicy {
    /// Segments of one size class before they are merged.
    pub segments_per_tier: f64,
    /// Segments in one merge.
    pub max_merge_at_once: usize,
    /// Segments in one forced merge.
    pub max_merge_at_once_explicit: usize,
    /// Merges that would give more bytes are not chosen (forced ones are).
    pub max_merged_segment: u64,
    /// Smaller segments count as this large.
    pub floor_segment: u64,
    /// Percent of deleted documents that the whole shard may have.
    pub deletes_pct_allowed: f64,
    /// Percent of deleted documents from which on a segment is rewritten to expunge deletes.
    pub expunge_deletes_allowed: f64,
}

impl Default for TieredMergePolicy {
    fn default() -> TieredMergePolicy {
        TieredMergePolicy {
            segments_per_tier: 10.0,
            max_merge_at_once: 10,
            max_merge_at_once_explicit: 30,
            max_merged_segment: 5 << 30,
            floor_segment: 2 << 20,
            deletes_pct_allowed: 33.0,
            expunge_deletes_allowed: 10.0,
        }
    }
}

/// What the policy knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Name.
    pub id: SegmentId,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Documents, deleted ones included.
    pub doc_count: u32,
    /// Deleted ones.
    pub deleted_count: u32,
    /// Already in a merge.
    pub merging: bool,
}

impl SegmentSize {
    /// Bytes that its live documents would take.
    fn live_bytes(&self) -> u64 {
        let live = u128::from(self.doc_count - self.deleted_count);
        (u128::from(self.size_bytes) * live / u128::from(self.doc_count.max(1))) as u64
    }

    fn deleted_pct(&self) -> f64 {
        100.0 * f64::from(self.deleted_count) / f64::from(self.doc_count.max(1))
    }
}

/// Segments to make one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeCandidate {
    /// Oldest first.
    pub segments: Vec<SegmentId>,
}

impl MergeCandidate {
    fn of(mut segments: Vec<SegmentId>) -> MergeCandidate {
        segments.sort_unstable();
        MergeCandidate { segments }
    }
}

/// A candidate while it is being compared.
struct Scored {
    members: Vec<usize>,
    score: f64,
}

impl TieredMergePolicy {
    /// Merges that are due now; none overlap.
    #[must_use]
    pub fn find_merges(&self, segments: &[SegmentSize]) -> Vec<MergeCandidate> {
        let documents: u64 = segments.iter().map(|s| u64::from(s.doc_count)).sum();
        let deleted: u64 = segments.iter().map(|s| u64::from(s.deleted_count)).sum();
        let giant_running = segments.iter().any(|s| s.merging && s.live_bytes() > self.max_merged_segment / 2);

        let counted = self.counted(segments);
        let mut free: Vec<&SegmentSize> = counted.iter().copied().filter(|s| !s.merging).collect();
        free.sort_by(|a, b| b.live_bytes().cmp(&a.live_bytes()).then(a.id.cmp(&b.id)));
        let allowed = self.allowed_count(&counted);
        let mut pending_deletes = deleted as f64;
        let allowed_deletes = self.deletes_pct_allowed * documents as f64 / 100.0;

        let mut merges = Vec::new();
        while free.len() > allowed || (pending_deletes > allowed_deletes && !free.is_empty()) {
            let due_to_count = free.len() > allowed;
            let Some(best) = self.best_of(&free, due_to_count, giant_running) else { break };
            let mut ids = Vec::with_capacity(best.members.len());
            for &i in best.members.iter().rev() {
                let segment = free.remove(i);
                pending_deletes -= f64::from(segment.deleted_count);
                ids.push(segment.id);
            }
            merges.push(MergeCandidate::of(ids));
        }
        merges
    }

    /// How far merging is behind: segments, as a multiple of what is allowed. Merges begin above 1.
    #[must_use]
    pub fn lag(&self, segments: &[SegmentSize]) -> f64 {
        let counted = self.counted(segments);
        counted.len() as f64 / self.allowed_count(&counted) as f64
    }

    /// All but those too large to be merged, which wait until enough of them is deleted.
    fn counted<'s>(&self, segments: &'s [SegmentSize]) -> Vec<&'s SegmentSize> {
        let documents: u64 = segments.iter().map(|s| u64::from(s.doc_count)).sum();
        let deleted: u64 = segments.iter().map(|s| u64::from(s.deleted_count)).sum();
        let deleted_pct = 100.0 * deleted as f64 / documents.max(1) as f64;
        let waits = |s: &SegmentSize| {
            s.live_bytes() > self.max_merged_segment / 2
                && (deleted_pct <= self.deletes_pct_allowed || s.deleted_pct() <= self.deletes_pct_allowed)
        };
        segments.iter().filter(|s| !waits(s)).collect()
    }

    fn floored(&self, bytes: u64) -> u64 {
        bytes.max(self.floor_segment).max(1)
    }

    /// How many segments the shard may have.
    fn allowed_count(&self, segments: &[&SegmentSize]) -> usize {
        let total: u64 = segments.iter().map(|s| s.live_bytes()).sum();
        let smallest = segments.iter().map(|s| s.live_bytes()).min().unwrap_or(0);
        let factor = (self.max_merge_at_once as f64).min(self.segments_per_tier).max(2.0);
        let (mut left, mut level) = (total as f64, self.floored(smallest) as f64);
        let mut allowed = 0.0;
        loop {
            let in_level = left / level;
            if in_level < self.segments_per_tier || level >= self.max_merged_segment as f64 {
                allowed += in_level.ceil();
                break;
            }
            allowed += self.segments_per_tier;
            left -= self.segments_per_tier * level;
            level = (level * factor).min(self.max_merged_segment as f64);
        }
        allowed.max(self.segments_per_tier) as usize
    }

    /// The best merge of `free` (largest first).
    fn best_of(&self, free: &[&SegmentSize], due_to_count: bool, giant_running: bool) -> Option<Scored> {
        let mut best: Option<Scored> = None;
        for start in 0..free.len() {
            let mut members = Vec::new();
            let (mut bytes, mut before, mut floored) = (0u64, 0u64, 0u64);
            let mut too_large = false;
            for (i, segment) in free.iter().enumerate().skip(start) {
                if members.len() == self.max_merge_at_once {
                    break;
                }
                if bytes.saturating_add(segment.live_bytes()) > self.max_merged_segment && !members.is_empty() {
                    // Smaller ones may still fit.
                    too_large = true;
                    continue;
                }
                members.push(i);
                bytes += segment.live_bytes();
                before += segment.size_bytes;
                floored += self.floored(segment.live_bytes());
            }
            let drops_deletes = members.iter().any(|&i| free[i].deleted_count > 0);
            // One segment alone is worth rewriting only for its deletes.
            if members.len() < 2 && (due_to_count || !drops_deletes) {
                continue;
            }
            if giant_running && bytes > self.max_merged_segment / 2 {
                continue;
            }
            let skew = if too_large {
                1.0 / self.max_merge_at_once as f64
            } else {
                self.floored(free[members[0]].live_bytes()) as f64 / floored as f64
            };
            let kept = bytes as f64 / before.max(1) as f64;
            let score = skew * (bytes as f64).powf(0.05) * kept.powi(2);
            if best.as_ref().is_none_or(|b| score < b.score) {
                best = Some(Scored { members, score });
            }
        }
        best
    }

    /// The next step towards at most `max_count` segments, whatever their size; none when that is reached (or waits for
    /// running merges). A single segment is rewritten if it has deletes and one was asked for.
    #[must_use]
    pub fn find_forced_merges(&self, segments: &[SegmentSize], max_count: usize) -> Vec<MergeCandidate> {
        let max_count = max_count.max(1);
        let mut free: Vec<&SegmentSize> = segments.iter().filter(|s| !s.merging).collect();
        let running = segments.len() - free.len();
        if running == 0 && free.len() == 1 && max_count == 1 && free[0].deleted_count > 0 {
            return vec![MergeCandidate::of(vec![free[0].id])];
        }
        free.sort_by(|a, b| a.live_bytes().cmp(&b.live_bytes()).then(a.id.cmp(&b.id)));
        // A running merge leaves one segment at least.
        let mut count = free.len() + usize::from(running > 0);
        let mut merges = Vec::new();
        while count > max_count && free.len() > 1 {
            let n = (count - max_count + 1).min(self.max_merge_at_once_explicit.max(2)).min(free.len());
            let ids = free.drain(..n).map(|s| s.id).collect();
            merges.push(MergeCandidate::of(ids));
            count -= n - 1;
        }
        merges
    }

    /// Merges that drop the deletes of every segment with more than `expunge_deletes_allowed` percent.
    #[must_use]
    pub fn find_expunge_merges(&self, segments: &[SegmentSize]) -> Vec<MergeCandidate> {
        let mut due: Vec<&SegmentSize> =
            segments.iter().filter(|s| !s.merging && s.deleted_pct() > self.expunge_deletes_allowed).collect();
        due.sort_by(|a, b| b.live_bytes().cmp(&a.live_bytes()).then(a.id.cmp(&b.id)));
        let mut merges: Vec<(u64, Vec<SegmentId>)> = Vec::new();
        for segment in due {
            let bytes = segment.live_bytes();
            let fits = |m: &&mut (u64, Vec<SegmentId>)| {
                m.0 + bytes <= self.max_merged_segment && m.1.len() < self.max_merge_at_once_explicit
            };
            match merges.iter_mut().find(fits) {
                Some(merge) => {
                    merge.0 += bytes;
                    merge.1.push(segment.id);
                }
                None => merges.push((bytes, vec![segment.id])),
            }
        }
        merges.into_iter().map(|(_, ids)| MergeCandidate::of(ids)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1 << 20;

    fn segment(id: u64, size_bytes: u64, deleted_pct: u32) -> SegmentSize {
        SegmentSize { id: SegmentId(id), size_bytes, doc_count: 1000, deleted_count: deleted_pct * 10, merging: false }
    }

    fn ids(merge: &MergeCandidate) -> Vec<u64> {
        merge.segments.iter().map(|s| s.0).collect()
    }

    #[test]
    fn a_full_tier_is_merged_and_no_earlier() {
        let policy = TieredMergePolicy::default();
        let ten: Vec<_> = (0..10).map(|i| segment(i, MB, 0)).collect();
        assert!(policy.find_merges(&ten).is_empty());
        let eleven: Vec<_> = (0..11).map(|i| segment(i, MB, 0)).collect();
        let merges = policy.find_merges(&eleven);
        assert_eq!(merges.len(), 1);
        assert_eq!(merges[0].segments.len(), 10);
    }

    #[test]
    fn lag_is_a_multiple_of_the_allowed_segments() {
        let policy = TieredMergePolicy::default();
        let small = |count| -> Vec<SegmentSize> { (0..count).map(|i| segment(i, MB, 0)).collect() };
        assert_eq!(policy.lag(&small(10)), 1.0);
        assert_eq!(policy.lag(&small(20)), 2.0);
        let mut merging = small(20);
        merging.iter_mut().for_each(|s| s.merging = true);
        assert_eq!(policy.lag(&merging), 2.0, "they are still there");
        let giants: Vec<_> = (0..50).map(|i| segment(i, 5000 * MB, 0)).collect();
        assert_eq!(policy.lag(&giants), 0.0, "nobody could merge them");
    }

    #[test]
    fn even_merges_win_over_a_large_segment_with_small_ones() {
        let mut all = vec![segment(0, 1000 * MB, 0)];
        all.extend((1..31).map(|i| segment(i, 2 * MB, 0)));
        for merge in TieredMergePolicy::default().find_merges(&all) {
            assert!(!ids(&merge).contains(&0), "{merge:?}");
        }
    }

    #[test]
    fn results_stay_below_the_maximum() {
        let policy = TieredMergePolicy { max_merged_segment: 100 * MB, ..TieredMergePolicy::default() };
        let all: Vec<_> = (0..40).map(|i| segment(i, 30 * MB, 0)).collect();
        let merges = policy.find_merges(&all);
        assert!(!merges.is_empty());
        assert!(merges.iter().all(|m| m.segments.len() <= 3));
    }

    #[test]
    fn a_giant_is_merged_only_for_its_deletes() {
        let policy = TieredMergePolicy::default();
        assert!(policy.find_merges(&[segment(0, 4000 * MB, 20)]).is_empty());
        let merges = policy.find_merges(&[segment(0, 4000 * MB, 60)]);
        assert_eq!(merges, vec![MergeCandidate { segments: vec![SegmentId(0)] }]);
    }

    #[test]
    fn force_reaches_the_count_in_steps() {
        let policy = TieredMergePolicy::default();
        for (count, wanted) in [(5, 1), (5, 3), (70, 1), (70, 4), (2, 2), (1, 1)] {
            let mut all: Vec<_> = (0..count).map(|i| segment(i, MB * (i + 1), 0)).collect();
            let mut next_id = count;
            for _ in 0..20 {
                let merges = policy.find_forced_merges(&all, wanted);
                if merges.is_empty() {
                    break;
                }
                for merge in merges {
                    all.retain(|s| !merge.segments.contains(&s.id));
                    all.push(segment(next_id, MB, 0));
                    next_id += 1;
                }
            }
            assert!(all.len() <= wanted, "{count} to {wanted} left {}", all.len());
            assert_eq!(all.len(), wanted.min(count as usize));
        }
        assert_eq!(policy.find_forced_merges(&[segment(3, MB, 1)], 1).len(), 1);
    }

    #[test]
    fn expunge_takes_the_segments_over_the_limit() {
        let all = [segment(0, MB, 50), segment(1, MB, 10), segment(2, 4000 * MB, 11), segment(3, MB, 0)];
        let merges = TieredMergePolicy::default().find_expunge_merges(&all);
        let mut taken: Vec<u64> = merges.iter().flat_map(ids).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 2]);
    }

    proptest! {
        #[test]
        fn merging_until_nothing_is_due_ends_within_the_allowance(sizes in proptest::collection::vec((1u64..3000, 0u32..100, any::<bool>()), 0..150)) {
            let policy = TieredMergePolicy { max_merged_segment: 2000 * MB, ..TieredMergePolicy::default() };
            let mut all: Vec<_> = sizes.iter().zip(0..).map(|((mb, d, m), i)| SegmentSize { merging: *m && i % 5 == 0, ..segment(i, mb * MB, *d) }).collect();
            let merges = policy.find_merges(&all);
            let mut seen = std::collections::HashSet::new();
            for merge in &merges {
                prop_assert!(merge.segments.len() <= policy.max_merge_at_once);
                for id in &merge.segments {
                    prop_assert!(seen.insert(*id));
                    prop_assert!(!all.iter().any(|s| s.id == *id && s.merging));
                }
            }
            all.iter_mut().for_each(|s| s.merging = false);
            let mut next_id = 1000;
            for round in 0..200 {
                let merges = policy.find_merges(&all);
                if merges.is_empty() {
                    return Ok(());
                }
                prop_assert!(round < 199, "never ends");
                for merge in merges {
                    let (gone, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|s| merge.segments.contains(&s.id));
                    all = kept;
                    let bytes = gone.iter().map(SegmentSize::live_bytes).sum();
                    if bytes > 0 {
                        all.push(segment(next_id, bytes, 0));
                    }
                    next_id += 1;
                }
            }
        }
    }
}

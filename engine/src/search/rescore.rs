//! `rescore`: the best hits of a shard, scored again by a query too expensive for all.

use crate::error::Result;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::search::compile::compile;
use crate::search::explain::leaves_of;
use crate::search::open::Segment;
use crate::search::{IndexContext, Rescore, RescoreMode, Searcher, TopHit};

/// Hits that are scored without giving way.
const HITS_PER_TURN: usize = 128;

impl Rescore {
    /// The score of a hit: `second` is the query's, if it matches.
    fn combine(&self, first: f32, second: Option<f32>) -> f32 {
        let first = first * self.query_weight;
        let Some(second) = second.map(|s| s * self.rescore_query_weight) else { return first };
        match self.mode {
            RescoreMode::Avg => (first + second) / 2.0,
            RescoreMode::Max => first.max(second),
            RescoreMode::Min => first.min(second),
            RescoreMode::Total => first + second,
            RescoreMode::Multiply => first * second,
        }
    }
}

/// Scores the window's hits again and sorts them; those behind the window stay behind it. False when it was stopped: then all
/// keep the scores they have.
///
/// # Errors
/// As the query phase.
pub(crate) async fn rescore<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    rescore: &Rescore,
    now_ms: i64,
    hits: &mut [TopHit],
    pace: &P,
) -> Result<bool> {
    let size = rescore.window_size.min(hits.len());
    let window = &mut hits[..size];
    let compiled = compile(&rescore.query, mapping, index, searcher, now_ms, true, pace).await?;
    // Document by document in the order of the index: one cursor a segment goes over them.
    window.sort_by_key(|h| h.doc);
    let mut scores = Vec::with_capacity(size);
    let mut at = 0;
    while at < window.len() {
        let ordinal = window[at].doc.segment as usize;
        let end = at + window[at..].partition_point(|h| h.doc.segment as usize == ordinal);
        let leaves = leaves_of(&compiled, searcher, ordinal, pace).await?;
        let segment = Segment { ordinal, reader: &searcher.segments[ordinal].reader, leaves: &leaves };
        let mut cursor = segment.open(&compiled.weight, true);
        for hits in window[at..end].chunks(HITS_PER_TURN) {
            for hit in hits {
                let matches = cursor.seek(hit.doc.doc) == hit.doc.doc && cursor.matches();
                let second = matches.then(|| cursor.score());
                scores.push(rescore.combine(hit.score, second));
            }
            pace.yield_if_needed().await;
            if pace.stopped() {
                window.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc)));
                return Ok(false);
            }
        }
        at = end;
    }
    window.iter_mut().zip(scores).for_each(|(hit, score)| hit.score = score);
    window.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc)));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::QueryKind;

    #[test]
    fn scores_are_combined_as_asked() {
        let rescore = |mode| Rescore {
            window_size: 10,
            query: QueryKind::MatchAll.into(),
            query_weight: 2.0,
            rescore_query_weight: 3.0,
            mode,
        };
        for (mode, expected) in [
            (RescoreMode::Avg, 4.0),
            (RescoreMode::Max, 6.0),
            (RescoreMode::Min, 2.0),
            (RescoreMode::Total, 8.0),
            (RescoreMode::Multiply, 12.0),
        ] {
            assert_eq!(rescore(mode).combine(1.0, Some(2.0)), expected, "{mode:?}");
            assert_eq!(rescore(mode).combine(1.0, None), 2.0, "{mode:?}");
        }
    }
}

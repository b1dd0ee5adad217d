//! Collecting: batches of matching documents in, one partial result per requested aggregation out.
//!
//! ```text
//! let mut aggs = AggCollector::new(&request.aggs, &mapping, &context)?;
//! for each segment:
//!     let filters = aggs.filters().map(|q| compile it for this segment).collect();
//!     let mut segment = aggs.segment(view, filters);
//!     for each batch of matching live documents, ascending: segment.collect(&docs, scores)?;
//!     segment.finish(pace).await?;        // also when nothing matched
//! let partials = aggs.finish(pace).await?;
//! ```

use crate::error::Result;
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::Query;
use crate::search::SegmentView;
use crate::search::aggs::{AggPartial, AggRequest};

/// Documents of a batch, at most: what keeps a batch's columns in the first-level cache, and a call below a millisecond.
pub const BATCH: usize = 1024;

/// What the shard's aggregations have in common.
#[derive(Clone, Copy, Debug)]
pub struct AggContext {
    /// What `now` means.
    pub now_ms: i64,
    /// Memory the buckets of one request may take on this shard.
    pub bytes_max: usize,
}

/// A compiled filter over one segment.
pub trait SegmentFilter {
    /// Appends to `out` the positions in `docs` (ascending, repeats possible) of those that match. From call to call
    /// documents never go backwards.
    fn matching(&mut self, docs: &[DocId], out: &mut Vec<u32>);
}

/// Collects all aggregations of a request over a shard's segments.
pub struct AggCollector {
    queries: Vec<Query>,
}

/// An [`AggCollector`] at work on one segment.
pub struct SegmentAggs<'a> {
    collector: &'a mut AggCollector,
    view: &'a SegmentView,
    filters: Vec<Box<dyn SegmentFilter + 'a>>,
}

impl AggCollector {
    /// Resolves the requests against a mapping.
    ///
    /// # Errors
    /// Requests that do not fit the fields' types, in Elasticsearch's words.
    pub fn new(requests: &[AggRequest], mapping: &Mapping, context: AggContext) -> Result<AggCollector> {
        let _ = (requests, mapping, context);
        Ok(AggCollector { queries: Vec::new() })
    }

    /// Queries to compile for each segment and to pass to [`AggCollector::segment`] in this order.
    #[must_use]
    pub fn filters(&self) -> &[Query] {
        &self.queries
    }

    /// Whether some aggregation wants scores passed to [`SegmentAggs::collect`].
    #[must_use]
    pub fn needs_scores(&self) -> bool {
        false
    }

    /// Begins a segment; `ordinal` is its position in the searcher. Every segment must come, in order, even those in
    /// which nothing matches.
    pub fn segment<'a>(
        &'a mut self,
        ordinal: u32,
        view: &'a SegmentView,
        filters: Vec<Box<dyn SegmentFilter + 'a>>,
    ) -> SegmentAggs<'a> {
        let _ = ordinal;
        assert!(filters.len() == self.queries.len(), "one filter per query");
        SegmentAggs { collector: self, view, filters }
    }

    /// One partial result per request, in order.
    ///
    /// # Errors
    /// `Stopped` after the deadline.
    pub async fn finish<P: Pace>(self, pace: &P) -> Result<Vec<AggPartial>> {
        pace.yield_if_needed().await;
        Ok(Vec::new())
    }
}

impl SegmentAggs<'_> {
    /// Adds matching documents: live, ascending, at most [`BATCH`] a call, each document once. `scores` in step with
    /// `docs`, if [`AggCollector::needs_scores`].
    ///
    /// # Errors
    /// `Rejected` when the buckets would take more memory than allowed.
    pub fn collect(&mut self, docs: &[DocId], scores: Option<&[f32]>) -> Result<()> {
        let _ = (docs, scores, &self.collector, &self.view, &self.filters);
        Ok(())
    }

    /// Ends the segment: what only the whole segment can tell (all documents for `global`, empty terms, ...).
    ///
    /// # Errors
    /// `Rejected` as in `collect`; `Stopped` after the deadline.
    pub async fn finish<P: Pace>(self, pace: &P) -> Result<()> {
        pace.yield_if_needed().await;
        Ok(())
    }
}

//! Collecting: batches of matching documents in, one partial result per requested aggregation out.
//!
//! ```text
//! let mut aggs = AggCollector::new(&request.aggs, &mapping, context)?;
//! for each segment:
//!     let filters = aggs.filters().iter().map(|q| compile it, for_segment(view)).collect();
//!     let mut segment = aggs.segment(ordinal, view, filters);
//!     for each batch of matching live documents, ascending: segment.collect(&docs, scores)?;
//!     segment.finish(pace).await?;        // also when nothing matched
//! let partials = aggs.finish(pace).await?;
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::budget::{Pool, Taken};
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::Query;
use crate::search::SegmentView;
use crate::search::aggs::leaf::{Leaf, SegmentRef, turn};
use crate::search::aggs::node::Node;
use crate::search::aggs::{AggPartial, AggRequest};
use crate::search::doc_set::DocSet;
use crate::seed::HashSeed;

/// Documents of a batch, at most: what keeps a batch's columns in the first-level cache, and a call below a millisecond.
pub const BATCH: usize = 1024;
/// Steps in which memory is taken.
const STEP: u64 = 64 << 10;

/// What the shard's aggregations have in common.
#[derive(Clone, Debug)]
pub struct AggContext {
    /// What `_index` is.
    pub index: String,
    /// What `now` means.
    pub now_ms: i64,
    /// Where the memory of the buckets is taken from.
    pub memory: Arc<Pool>,
    /// Under which buckets hash.
    pub hash_seed: HashSeed,
}

/// Collects all aggregations of a request over a shard's segments.
pub struct AggCollector {
    nodes: Vec<Node>,
    queries: Vec<Query>,
    /// What the buckets hold.
    held: Taken,
}

/// An [`AggCollector`] at work on one segment.
pub struct SegmentAggs<'a> {
    collector: &'a mut AggCollector,
    leaf: Leaf<'a>,
    /// By aggregation: whether it needs no documents (any more).
    done: Vec<bool>,
}

impl AggCollector {
    /// Resolves the requests against a mapping.
    ///
    /// # Errors
    /// Requests that do not fit the fields' types, in Elasticsearch's words.
    pub fn new(requests: &[AggRequest], mapping: &Mapping, context: AggContext) -> Result<AggCollector> {
        let mut queries = Vec::new();
        let nodes = requests.iter().map(|r| Node::new(r, mapping, &context, &mut queries, 0)).collect::<Result<_>>()?;
        let held = context.memory.take(0).expect("nothing is always there");
        Ok(AggCollector { nodes, queries, held })
    }

    /// Queries to compile for each segment and to pass to [`AggCollector::segment`] in this order.
    #[must_use]
    pub fn filters(&self) -> &[Query] {
        &self.queries
    }

    /// Whether some aggregation wants scores passed to [`SegmentAggs::collect`].
    #[must_use]
    pub fn needs_scores(&self) -> bool {
        self.nodes.iter().any(Node::needs_scores)
    }

    /// Begins a segment; `ordinal` is its position in the searcher. Every segment must come, in order, even those in
    /// which nothing matches.
    pub fn segment<'a>(&'a mut self, ordinal: u32, view: &'a SegmentView, filters: Vec<DocSet>) -> SegmentAggs<'a> {
        let _ = ordinal;
        self.begin(Leaf { segment: SegmentRef::View(view), filters })
    }

    pub(crate) fn begin<'a>(&'a mut self, leaf: Leaf<'a>) -> SegmentAggs<'a> {
        assert!(leaf.filters.len() == self.queries.len(), "one filter per query");
        self.nodes.iter_mut().for_each(|n| n.begin_segment(&leaf));
        // `global` takes its documents at the end.
        let done = self.nodes.iter().map(Node::is_global).collect();
        SegmentAggs { collector: self, leaf, done }
    }

    /// One partial result per request, in order.
    ///
    /// # Errors
    /// `Stopped` after the deadline.
    pub async fn finish<P: Pace>(mut self, pace: &P) -> Result<Vec<AggPartial>> {
        let mut partials = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            partials.push(node.build(0, pace).await?);
        }
        Ok(partials)
    }

    fn check_memory(&mut self) -> Result<()> {
        let bytes: usize = self.nodes.iter_mut().map(Node::bytes).sum();
        // In steps: the pool is shared with other cores, and a bucket more is nothing to tell them about.
        let stepped = (bytes as u64).next_multiple_of(STEP);
        self.held.resize(stepped).map_err(|exhausted| Error::OutOfMemory { purpose: "<agg>", exhausted })
    }
}

impl SegmentAggs<'_> {
    /// Adds matching documents: live, ascending, at most [`BATCH`] a call, each document once. `scores` in step with
    /// `docs`, if [`AggCollector::needs_scores`].
    ///
    /// # Errors
    /// `OutOfMemory` when the buckets would take more memory than allowed.
    pub fn collect(&mut self, docs: &[DocId], scores: Option<&[f32]>) -> Result<()> {
        debug_assert!(docs.windows(2).all(|w| w[0] < w[1]), "ascending");
        debug_assert!(scores.is_none_or(|s| s.len() == docs.len()));
        for (node, _) in self.collector.nodes.iter_mut().zip(&self.done).filter(|(_, done)| !**done) {
            node.collect(&self.leaf, docs, None, 1, scores)?;
        }
        self.collector.check_memory()
    }

    /// Says that every document of the segment will come. What the segment knows without looking at them is taken at once,
    /// and the documents change nothing any more; if that goes for all aggregations, they need not come.
    pub fn collect_whole(&mut self) -> bool {
        if !self.leaf.is_whole() {
            return false;
        }
        for (node, done) in self.collector.nodes.iter_mut().zip(&mut self.done).filter(|(_, done)| !**done) {
            *done = node.collect_whole(&self.leaf);
        }
        self.done.iter().all(|&done| done)
    }

    /// Adds consecutive live documents, as [`SegmentAggs::collect`] would in one batch; no aggregation may want scores.
    ///
    /// # Errors
    /// As [`SegmentAggs::collect`].
    pub fn collect_run(&mut self, docs: Range<DocId>) -> Result<()> {
        debug_assert!(docs.len() <= BATCH);
        let mut list = Vec::new();
        for (node, _) in self.collector.nodes.iter_mut().zip(&self.done).filter(|(_, done)| !**done) {
            if !node.collect_run(&self.leaf, docs.clone()) {
                if list.is_empty() {
                    list.extend(docs.clone());
                }
                node.collect(&self.leaf, &list, None, 1, None)?;
            }
        }
        self.collector.check_memory()
    }

    /// Ends the segment: what only the whole segment can tell (all documents for `global`, empty terms, ...).
    ///
    /// # Errors
    /// `OutOfMemory` as in `collect`; `Stopped` after the deadline.
    pub async fn finish<P: Pace>(self, pace: &P) -> Result<()> {
        let SegmentAggs { collector, leaf, .. } = self;
        if collector.nodes.iter().any(Node::is_global) {
            let mut docs = Vec::with_capacity(BATCH);
            for start in (0..leaf.doc_count()).step_by(BATCH) {
                turn(pace).await?;
                docs.clear();
                docs.extend((start..leaf.doc_count().min(start + BATCH as u32)).filter(|&d| leaf.is_live(d)));
                for node in collector.nodes.iter_mut().filter(|n| n.is_global()) {
                    node.collect(&leaf, &docs, None, 1, None)?;
                }
                collector.check_memory()?;
            }
        }
        for node in &mut collector.nodes {
            node.end_segment(&leaf, pace).await?;
        }
        collector.check_memory()
    }
}

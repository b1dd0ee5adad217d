//! A query compiled for matching alone: aggregations and post filters.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::mapping::Mapping;
use crate::pace::{Pace, Unpaced};
use crate::query::Query;
use crate::search::compile::{Compiled, Compiler};
use crate::search::doc_set::DocSet;
use crate::search::leaf::{self, Evaluated};
use crate::search::open::Segment;
use crate::search::{IndexContext, Searcher, SegmentView};

/// A compiled query without scores; ask it for each segment of the searcher it was compiled for.
pub struct Filter {
    compiled: Compiled,
    searcher: Searcher,
}

/// Compiles `query` for matching. `now_ms` is what `now` in date math means.
///
/// # Errors
/// What the query cannot do with this mapping, in Elasticsearch's words.
pub async fn compile_filter<P: Pace>(
    query: &Query,
    mapping: &Mapping,
    index: &IndexContext,
    searcher: &Searcher,
    now_ms: i64,
    pace: &P,
) -> Result<Filter> {
    let compiler = Compiler::new(mapping, index, searcher, now_ms, None, None).keeping();
    let compiled = compiler.compile_query(query, false, pace).await?;
    compiled.note_uses();
    Ok(Filter { compiled, searcher: searcher.clone() })
}

impl Filter {
    /// The matching documents of a segment; deleted ones may be among them.
    ///
    /// # Errors
    /// The segment is not one of the searcher, or damaged.
    pub fn for_segment(&self, view: &SegmentView) -> Result<DocSet> {
        let ordinal = self
            .searcher
            .segments
            .iter()
            .position(|s| Arc::ptr_eq(&s.reader, &view.reader))
            .ok_or_else(|| Error::illegal_argument("filter compiled for another searcher"))?;
        futures_lite::future::block_on(self.for_ordinal(ordinal, &Unpaced))
    }

    /// The same for the segment at a position of the searcher, giving way to others; incomplete when stopped.
    ///
    /// # Errors
    /// Damage.
    pub async fn for_ordinal<P: Pace>(&self, ordinal: usize, pace: &P) -> Result<DocSet> {
        let view = &self.searcher.segments[ordinal];
        let leaves = leaf::evaluate(&self.compiled, ordinal, view, pace).await?;
        let segment = Segment { ordinal, reader: &view.reader, leaves: &leaves };
        if let Some(Evaluated::Set(set, _)) = segment.evaluated(&self.compiled.weight) {
            return Ok(DocSet::clone(set));
        }
        let mut set = DocSet::empty(view.reader.doc_count());
        leaf::matches(segment.open(&self.compiled.weight, false), pace, |doc| set.insert(doc)).await;
        Ok(set)
    }
}

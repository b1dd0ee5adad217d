//! A query compiled for matching alone: aggregations and post filters.

use crate::error::Result;
use crate::mapping::Mapping;
use crate::query::Query;
use crate::search::doc_set::DocSet;
use crate::search::{IndexContext, Searcher, SegmentView};

/// A compiled query without scores; ask it for each segment of the searcher it was compiled for.
pub struct Filter {}

/// Compiles `query` for matching. `now_ms` is what `now` in date math means.
///
/// # Errors
/// What the query cannot do with this mapping, in Elasticsearch's words.
#[allow(unused_variables, clippy::todo)]
pub fn compile_filter(
    query: &Query,
    mapping: &Mapping,
    index: &IndexContext,
    searcher: &Searcher,
    now_ms: i64,
) -> Result<Filter> {
    todo!()
}

#[allow(unused_variables, clippy::todo)]
impl Filter {
    /// The matching documents of a segment; deleted ones may be among them.
    pub fn for_segment(&self, view: &SegmentView) -> Result<DocSet> {
        todo!()
    }
}

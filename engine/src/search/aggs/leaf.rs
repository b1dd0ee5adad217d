//! A segment as aggregations see it.

use crate::error::{Error, Result};
use crate::pace::Pace;
use crate::search::SegmentView;
use crate::search::aggs::values::{Numbers, Ordinals};
use crate::search::doc_set::DocSet;

/// Gives way to others on the core.
///
/// # Errors
/// `Stopped` after the deadline.
pub(crate) async fn turn<P: Pace>(pace: &P) -> Result<()> {
    if pace.stopped() {
        return Err(Error::Stopped);
    }
    pace.yield_if_needed().await;
    Ok(())
}

/// Columns and compiled filters of one segment.
pub(crate) struct Leaf<'a> {
    pub segment: SegmentRef<'a>,
    /// One per filter of the request, in its order.
    pub filters: Vec<DocSet>,
}

#[derive(Clone, Copy)]
pub(crate) enum SegmentRef<'a> {
    View(&'a SegmentView),
    #[cfg(test)]
    Plain(&'a super::testing::PlainSegment),
}

impl<'a> Leaf<'a> {
    pub fn numbers(&self, field: &str) -> Option<Numbers<'a>> {
        match self.segment {
            SegmentRef::View(view) => view.reader.field(field)?.numbers().map(Numbers::Column),
            #[cfg(test)]
            SegmentRef::Plain(plain) => plain.numbers.get(field).map(Numbers::Plain),
        }
    }

    pub fn ordinals(&self, field: &str) -> Option<Ordinals<'a>> {
        match self.segment {
            SegmentRef::View(view) => view.reader.field(field)?.ordinals().map(Ordinals::Column),
            #[cfg(test)]
            SegmentRef::Plain(plain) => plain.ordinals.get(field).map(Ordinals::Plain),
        }
    }

    pub fn doc_count(&self) -> u32 {
        match self.segment {
            SegmentRef::View(view) => view.reader.doc_count(),
            #[cfg(test)]
            SegmentRef::Plain(plain) => plain.doc_count,
        }
    }

    pub fn is_live(&self, doc: u32) -> bool {
        match self.segment {
            SegmentRef::View(view) => view.live.as_ref().is_none_or(|live| live.is_live(doc)),
            #[cfg(test)]
            SegmentRef::Plain(plain) => !plain.deleted.contains(&doc),
        }
    }
}

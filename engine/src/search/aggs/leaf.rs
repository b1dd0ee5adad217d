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

/// Terms of a dictionary that is walked without a yield.
const DICTIONARY_MAX: u32 = 8192;

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

    /// Replaces `counts` with the documents of each ordinal, if the dictionary knows them for less than counting costs;
    /// whether it does. Deleted documents are in.
    pub fn doc_freqs(&self, field: &str, counts: &mut Vec<u32>) -> bool {
        #[allow(clippy::infallible_destructuring_match)] // tests have a second kind
        let view = match self.segment {
            SegmentRef::View(view) => view,
            #[cfg(test)]
            SegmentRef::Plain(_) => return false,
        };
        let Some(field) = view.reader.field(field) else { return false };
        let (Some(index), Some(column)) = (field.terms(), field.ordinals()) else { return false };
        let terms = column.ordinal_count();
        if index.term_count() != u64::from(terms) || terms > DICTIONARY_MAX.min(view.reader.doc_count() / 4) {
            return false;
        }
        counts.clear();
        index.visit_from(b"", &mut |_, info| {
            counts.push(info.doc_freq);
            true
        });
        counts.len() == terms as usize
            && counts.iter().map(|&n| u64::from(n)).sum::<u64>() == column.numbers().value_count()
    }

    /// Whether no document is deleted.
    pub fn is_whole(&self) -> bool {
        match self.segment {
            SegmentRef::View(view) => view.live.as_ref().is_none_or(|live| live.deleted_count() == 0),
            #[cfg(test)]
            SegmentRef::Plain(plain) => plain.deleted.is_empty(),
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

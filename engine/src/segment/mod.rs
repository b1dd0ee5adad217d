//! Segments: immutable sets of documents, one file each.
//!
//! A segment is written once (from the indexing buffer at refresh, or by a merge) as one byte image that is the same
//! in memory and on disk, and read in place. Deletes live outside, in [`live_docs`].

pub(crate) mod bounds;
pub(crate) mod checks;
pub(crate) mod columns;
pub(crate) mod cursor;
pub(crate) mod dictionary;
pub(crate) mod extents;
pub mod file;
#[doc(hidden)]
pub mod fuzz;
pub(crate) mod ids;
pub(crate) mod inverted;
pub(crate) mod linear;
pub mod live_docs;
#[cfg(test)]
pub(crate) mod model;
pub mod norms;
pub(crate) mod points;
pub(crate) mod positions;
pub(crate) mod postings;
pub(crate) mod presence;
pub mod reader;
pub mod source_dictionary;
pub(crate) mod stored;
pub(crate) mod term_block;
pub(crate) mod term_walk;
#[cfg(test)]
mod tests;
pub(crate) mod train;
pub mod walk;
pub mod writer;

use serde::{Deserialize, Serialize};

use crate::ids::SegmentId;

pub use file::{FieldStats, SegmentMeta, Sink};
pub use writer::Codec;

/// Name of a segment's file, such as `_12.seg`.
#[must_use]
pub fn segment_file_name(id: SegmentId) -> String {
    format!("_{id}.seg")
}

/// The segment that a file is of, if the name is one of a segment's.
#[must_use]
pub fn segment_of_file(name: &str) -> Option<SegmentId> {
    let number = name.strip_prefix('_')?.strip_suffix(".seg")?;
    let id = SegmentId(number.parse().ok()?);
    (segment_file_name(id) == name).then_some(id)
}

/// How a field's terms are indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TermsOption {
    /// No inverted index.
    #[default]
    None,
    /// Which documents have the term.
    Docs,
    /// And how often.
    Freqs,
    /// And where (token positions).
    Positions,
}

/// What column a field has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnKind {
    /// None.
    #[default]
    None,
    /// `u64` values in sortable encoding (see `mapping::number`), ascending within a document, duplicates kept.
    Numbers,
    /// Ordinals into a sorted dictionary of byte strings, ascending within a document, no duplicates.
    Ordinals,
}

/// Everything a segment stores for one field. The same name has the same spec in every segment of an index
/// (fields are only ever added to a mapping).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSpec {
    /// Full path, such as `address.city.keyword`.
    pub name: String,
    /// Inverted index.
    pub terms: TermsOption,
    /// One byte a document: Lucene's `SmallFloat.intToByte4` of the field's token count.
    pub norms: bool,
    /// Column store.
    pub column: ColumnKind,
    /// Range index over the `u64` values of a `Numbers` field.
    pub points: bool,
}

//! Reading a segment in place. CONTRACT STUB: signatures are what search, merge and the engine rely on.

use std::ops::Range;

use crate::error::Result;
use crate::ids::{DocId, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::segment::FieldSpec;
use crate::store::FileBytes;

/// A whole segment. Shared between threads in an `Arc`; all reads borrow from it.
pub struct SegmentReader {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl SegmentReader {
    /// Opens an image or a mapped file: verifies header, footer and table of contents, not yet every block.
    pub fn open(id: SegmentId, bytes: FileBytes) -> Result<SegmentReader> {
        todo!()
    }
    /// Verifies every checksum of the file.
    pub fn verify(&self) -> Result<()> {
        todo!()
    }
    pub fn segment_id(&self) -> SegmentId {
        todo!()
    }
    /// Documents in the segment, deleted ones included.
    pub fn doc_count(&self) -> u32 {
        todo!()
    }
    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn max_seq_no(&self) -> SeqNo {
        todo!()
    }
    pub fn min_seq_no(&self) -> SeqNo {
        todo!()
    }
    pub fn fields(&self) -> &[FieldReader] {
        todo!()
    }
    pub fn field(&self, name: &str) -> Option<&FieldReader> {
        todo!()
    }
    /// The newest document with this `_id` (deleted or not: ask the live docs).
    pub fn lookup_id(&self, id: &[u8]) -> Option<DocId> {
        todo!()
    }
    pub fn id(&self, doc: DocId) -> &str {
        todo!()
    }
    pub fn seq_no(&self, doc: DocId) -> SeqNo {
        todo!()
    }
    pub fn primary_term(&self, doc: DocId) -> PrimaryTerm {
        todo!()
    }
    pub fn version(&self, doc: DocId) -> Version {
        todo!()
    }
    pub fn routing(&self, doc: DocId) -> Option<&str> {
        todo!()
    }
    /// Appends the document's `_source` to `out` (decompresses one block; consecutive docs of one block are cheap
    /// when the same `cache` is passed again).
    pub fn source(&self, doc: DocId, cache: &mut SourceCache, out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }
}

/// The last decompressed `_source` block.
#[derive(Default)]
pub struct SourceCache {}

/// One field of a segment.
pub struct FieldReader {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl FieldReader {
    pub fn spec(&self) -> &FieldSpec {
        todo!()
    }
    /// Documents with at least one term or value of this field (deleted included): BM25's docCount, `exists` shortcuts.
    pub fn doc_count(&self) -> u32 {
        todo!()
    }
    /// Sum of term frequencies of all terms: BM25's sumTotalTermFreq.
    pub fn sum_total_term_freq(&self) -> u64 {
        todo!()
    }
    pub fn sum_doc_freq(&self) -> u64 {
        todo!()
    }
    pub fn terms(&self) -> Option<&InvertedIndex> {
        todo!()
    }
    /// One byte a document, 0 where the document lacks the field.
    pub fn norms(&self) -> Option<&[u8]> {
        todo!()
    }
    pub fn numbers(&self) -> Option<&NumberColumn> {
        todo!()
    }
    pub fn ordinals(&self) -> Option<&OrdinalColumn> {
        todo!()
    }
    pub fn points(&self) -> Option<&Points> {
        todo!()
    }
}

/// Terms of a field and their postings.
pub struct InvertedIndex {}

/// What the dictionary knows of a term; cheap to copy, opens postings.
#[derive(Clone, Copy, Debug)]
pub struct TermInfo {
    /// Documents with the term.
    pub doc_freq: u32,
    /// Occurrences (= doc_freq when frequencies are not indexed).
    pub total_term_freq: u64,
    /// Where the postings start; opaque.
    pub(crate) postings: u64,
    /// Where the positions start; opaque.
    pub(crate) positions: u64,
}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl InvertedIndex {
    pub fn term_count(&self) -> u64 {
        todo!()
    }
    pub fn get(&self, term: &[u8]) -> Option<TermInfo> {
        todo!()
    }
    /// Terms in byte order: from the first one >= `from`, as long as `visit` answers true.
    pub fn visit_from(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
        todo!()
    }
    /// Terms that the automaton accepts, in byte order, as long as `visit` answers true.
    pub fn visit_matching<A: fst::Automaton>(&self, automaton: A, visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
        todo!()
    }
    pub fn postings(&self, term: &TermInfo, want: Want) -> PostingsCursor<'_> {
        todo!()
    }
}

/// What a cursor decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Documents only (filters, counts).
    Docs,
    /// And frequencies.
    Freqs,
    /// And positions.
    Positions,
}

/// Score bounds of a range of documents: pairs of (term frequency, norm byte), no pair dominated by another
/// (a higher frequency and a shorter field dominates). With BM25 any document in the range scores at most the best pair.
pub type Impacts<'a> = &'a [(u32, u8)];

/// Walks a postings list. Starts before the first document.
pub struct PostingsCursor<'a> {
    _a: std::marker::PhantomData<&'a ()>,
}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl PostingsCursor<'_> {
    pub fn doc_freq(&self) -> u32 {
        todo!()
    }
    /// Current document; `NO_MORE_DOCS` after the end. Unspecified before the first `next` or `seek`.
    pub fn doc(&self) -> DocId {
        todo!()
    }
    pub fn next(&mut self) -> DocId {
        todo!()
    }
    /// First document >= target; never moves backwards.
    pub fn seek(&mut self, target: DocId) -> DocId {
        todo!()
    }
    pub fn freq(&mut self) -> u32 {
        todo!()
    }
    /// Replaces `out` with the positions in the current document, ascending.
    pub fn positions(&mut self, out: &mut Vec<u32>) {
        todo!()
    }
    /// Moves only the skip data to the block that holds `target` (>= current doc): last document of that block,
    /// `NO_MORE_DOCS` - 1 or the last doc for the final one, and its impacts. Decodes no postings.
    pub fn block_bounds(&mut self, target: DocId) -> (DocId, Impacts<'_>) {
        todo!()
    }
    /// Score bounds of the whole list.
    pub fn impacts(&self) -> Impacts<'_> {
        todo!()
    }
}

/// Numeric doc values.
pub struct NumberColumn {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl NumberColumn {
    /// Whether no document has two values.
    pub fn is_single(&self) -> bool {
        todo!()
    }
    /// Whether every document has a value.
    pub fn is_full(&self) -> bool {
        todo!()
    }
    /// Smallest and largest value of the segment; none if no document has one.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        todo!()
    }
    /// The smallest value of `doc`.
    pub fn first(&self, doc: DocId) -> Option<u64> {
        todo!()
    }
    /// Replaces `out` with all values, ascending.
    pub fn values(&self, doc: DocId, out: &mut Vec<u64>) {
        todo!()
    }
    /// Bulk read of the first values of `docs` (consecutive); only for single and full columns.
    pub fn range(&self, docs: Range<DocId>, out: &mut Vec<u64>) {
        todo!()
    }
    /// Blocks of consecutive documents with their smallest and largest value, for skipping.
    pub fn block_bounds(&self, doc: DocId) -> (Range<DocId>, u64, u64) {
        todo!()
    }
}

/// Ordinal doc values and their dictionary.
pub struct OrdinalColumn {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl OrdinalColumn {
    pub fn is_single(&self) -> bool {
        todo!()
    }
    pub fn ordinal_count(&self) -> u32 {
        todo!()
    }
    /// Smallest ordinal of `doc`.
    pub fn first(&self, doc: DocId) -> Option<u32> {
        todo!()
    }
    pub fn values(&self, doc: DocId, out: &mut Vec<u32>) {
        todo!()
    }
    /// Replaces `out` with the term of `ordinal`.
    pub fn term(&self, ordinal: u32, out: &mut Vec<u8>) {
        todo!()
    }
    /// `Ok` the ordinal of `term`, or `Err` the ordinal of the first greater one.
    pub fn lookup(&self, term: &[u8]) -> Result<u32, u32> {
        todo!()
    }
}

/// Sorted values and their documents: a range index.
pub struct Points {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl Points {
    /// Upper bound on matching values (exact to a block), without visiting them.
    pub fn estimate(&self, range: std::ops::RangeInclusive<u64>) -> u64 {
        todo!()
    }
    /// Calls `visit` for each document with a value in the range (a document may come more than once, in any order).
    pub fn visit(&self, range: std::ops::RangeInclusive<u64>, visit: &mut dyn FnMut(DocId)) {
        todo!()
    }
}

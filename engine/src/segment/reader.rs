//! Reading a segment in place.
//!
//! `open` verifies the frame and that the lengths inside each section add up. What is read later is bounds-checked where it
//! is read: damage never is a panic or a read out of bounds. What damage does to ids, numbering and sources is found before they
//! are used (`checks.rs`); of indexes and columns it can make an answer wrong until the scrub finds it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::ids::{DocId, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::pace::Pace;
use crate::segment::checks::Checks;
use crate::segment::dictionary::Dictionary;
use crate::segment::file::{FieldStats, Section, SectionKind, SegmentFile, SegmentMeta};
use crate::segment::ids::Ids;
use crate::segment::linear::Linear;
use crate::segment::norms::norm_decode;
use crate::segment::source_dictionary::SourceDictionary;
use crate::segment::stored::Sources;
use crate::segment::{Codec, ColumnKind, FieldSpec, TermsOption};
use crate::store::FileBytes;

pub use crate::segment::checks::damage_found;
pub use crate::segment::columns::{NumberColumn, OrdinalColumn};
pub use crate::segment::cursor::{PostingsCursor, Want};
pub use crate::segment::inverted::InvertedIndex;
pub use crate::segment::points::Points;
pub use crate::segment::postings::TermInfo;
pub use crate::segment::stored::SourceCache;

/// Bytes that are read into memory between two questions to the pace.
const RESIDENT_STEP: usize = 256 << 10;

/// What a document is numbered with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbering {
    /// Its version.
    pub version: Version,
    /// Its sequence number.
    pub seq_no: SeqNo,
    /// The primary term that wrote it.
    pub term: PrimaryTerm,
}

/// A whole segment. Shared between threads in an `Arc`; all reads borrow from it.
pub struct SegmentReader {
    id: SegmentId,
    file: SegmentFile,
    fields: Vec<FieldReader>,
    by_name: FxHashMap<String, usize>,
    ids: Ids,
    seq_nos: Linear,
    primary_terms: Linear,
    versions: Linear,
    routings: Option<Routings>,
    sources: Sources,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentReader({}, {} documents)", self.file.name, self.doc_count())
    }
}

impl SegmentReader {
    /// Opens an image or a mapped file: verifies header, footer and table of contents, not yet every block.
    pub fn open(id: SegmentId, bytes: FileBytes) -> Result<SegmentReader> {
        let file = SegmentFile::open(id, bytes)?;
        let contents = &file.contents;
        let doc_count = contents.doc_count;
        let need = |kind| {
            let found = file.section(&contents.sections, kind);
            found.ok_or_else(|| Error::corrupt(file.name.clone(), 0, format!("no section {kind:?}")))
        };
        let column = |kind| {
            let column = Linear::open(need(kind)?, &file.checks, &file.name)?;
            if column.len() == doc_count as usize {
                Ok(column)
            } else {
                Err(Error::corrupt(
                    file.name.clone(),
                    0,
                    format!("{} values of {kind:?} for {doc_count} documents", column.len()),
                ))
            }
        };
        let checks = || file.checks.clone();
        let index = need(SectionKind::IdIndex)?;
        let ids = Ids::open(&need(SectionKind::Ids)?, index, doc_count, checks(), &file.name)?;
        let seq_nos = column(SectionKind::SeqNos)?;
        let primary_terms = column(SectionKind::PrimaryTerms)?;
        let versions = column(SectionKind::Versions)?;
        let dictionary = match file.section(&contents.sections, SectionKind::SourceDictionary) {
            Some(bytes) => Some(Arc::new(SourceDictionary::open(&bytes, &file.name)?)),
            None => None,
        };
        let sources = need(SectionKind::Sources)?;
        let sources = Sources::open(&sources, contents.codec, dictionary, doc_count, checks(), &file.name)?;
        let routings = match file.section(&contents.sections, SectionKind::Routings) {
            Some(bytes) => {
                file.checks.touch(bytes.get(..4).unwrap_or(&[]))?;
                Some(Routings::open(bytes, &file.name)?)
            }
            None => None,
        };
        let mut fields = Vec::with_capacity(contents.fields.len());
        let mut by_name = FxHashMap::default();
        for entry in &contents.fields {
            by_name.insert(entry.spec.name.clone(), fields.len());
            fields.push(FieldReader::open(&file, &entry.spec, entry.stats, &entry.sections)?);
        }
        Ok(SegmentReader { id, fields, by_name, ids, seq_nos, primary_terms, versions, routings, sources, file })
    }

    /// Reads what searches read of the file into memory, up to `limit` bytes of it: all but the `_source` blocks, which only
    /// fetches read, of the documents they give. The bytes. Waits for the disk; not for a thread that serves.
    ///
    /// # Errors
    /// `Stopped` if the pace says so.
    pub async fn make_resident<P: Pace>(&self, limit: u64, pace: &P) -> Result<u64> {
        let (bytes, sources) = (&self.file.held, self.sources_extent());
        let mut done = 0;
        for part in [0..sources.start, sources.end..bytes.len()] {
            for at in part.clone().step_by(RESIDENT_STEP) {
                pace.yield_if_needed().await;
                if pace.stopped() {
                    return Err(Error::Stopped);
                }
                let step = at..part.end.min(at + RESIDENT_STEP);
                if done + step.len() as u64 > limit {
                    return Ok(done);
                }
                done += step.len() as u64;
                bytes.make_resident(step);
            }
        }
        Ok(done)
    }

    /// Where the `_source` blocks are.
    fn sources_extent(&self) -> Range<usize> {
        let sections = &self.file.contents.sections;
        let sources = sections.iter().find(|s| s.kind == SectionKind::Sources).expect("opened with it");
        sources.offset as usize..(sources.offset + sources.len) as usize
    }

    /// Verifies every checksum of the file.
    pub fn verify(&self) -> Result<()> {
        self.file.verify()
    }

    /// Its name.
    #[must_use]
    pub fn segment_id(&self) -> SegmentId {
        self.id
    }

    /// What a commit point keeps about it.
    #[must_use]
    pub fn meta(&self) -> SegmentMeta {
        SegmentMeta {
            id: self.id,
            size_bytes: self.size_bytes(),
            doc_count: self.doc_count(),
            min_seq_no: self.min_seq_no(),
            max_seq_no: self.max_seq_no(),
            crc: self.file.crc,
        }
    }

    /// All bytes of the file: what recovery copies and the background writer writes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.file.bytes
    }

    /// Bytes of the sections by what they hold; in the inverted index are dictionary, postings and positions.
    #[must_use]
    pub fn section_sizes(&self) -> Vec<(&'static str, u64)> {
        let contents = &self.file.contents;
        let all = contents.sections.iter().chain(contents.fields.iter().flat_map(|f| &f.sections));
        all.map(|s| (s.kind.name(), s.len)).collect()
    }

    /// Bytes of the file by field (none: of all documents) and by what they hold. They add up to the file's size.
    #[must_use]
    pub fn storage(&self) -> Vec<(Option<&str>, &'static str, u64)> {
        let contents = &self.file.contents;
        let mut parts: Vec<(Option<&str>, &'static str, u64)> =
            contents.sections.iter().map(|s| (None, s.kind.name(), s.len)).collect();
        for (entry, field) in contents.fields.iter().zip(&self.fields) {
            let name = Some(entry.spec.name.as_str());
            for section in &entry.sections {
                if section.kind != SectionKind::Inverted {
                    parts.push((name, section.kind.name(), section.len));
                    continue;
                }
                let (postings, positions) = field.terms.as_ref().map_or((0, 0), InvertedIndex::list_bytes);
                parts.push((name, "dictionaries", section.len.saturating_sub(postings + positions)));
                parts.push((name, "postings", postings));
                parts.push((name, "positions", positions));
            }
        }
        let sections: u64 = parts.iter().map(|(_, _, bytes)| bytes).sum();
        parts.push((None, "frames and checksums", self.size_bytes().saturating_sub(sections)));
        parts.retain(|(_, _, bytes)| *bytes > 0);
        parts
    }

    /// Bytes of all documents as clients sent them, deleted ones included.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.sources.raw_len()
    }

    /// How stored rows are compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.file.contents.codec
    }

    /// Documents in the segment, deleted ones included.
    #[inline]
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.file.contents.doc_count
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.file.bytes.len() as u64
    }

    /// Largest sequence number in it.
    #[must_use]
    pub fn max_seq_no(&self) -> SeqNo {
        self.file.contents.max_seq_no
    }

    /// Smallest sequence number in it.
    #[must_use]
    pub fn min_seq_no(&self) -> SeqNo {
        self.file.contents.min_seq_no
    }

    /// All fields, by name.
    #[must_use]
    pub fn fields(&self) -> &[FieldReader] {
        &self.fields
    }

    /// One field, if any document has it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldReader> {
        self.by_name.get(name).map(|&i| &self.fields[i])
    }

    /// The newest document with this `_id` (deleted or not: ask the live docs).
    ///
    /// # Errors
    /// `Corrupt` where what is looked at is not what was written.
    pub fn lookup_id(&self, id: &[u8]) -> Result<Option<DocId>> {
        self.ids.lookup(id)
    }

    /// A document's `_id`; empty if damaged.
    #[must_use]
    pub fn id(&self, doc: DocId) -> &str {
        std::str::from_utf8(self.ids.bytes(doc)).unwrap_or("")
    }

    pub(crate) fn id_bytes(&self, doc: DocId) -> &[u8] {
        self.ids.bytes(doc)
    }

    /// A document's sequence number.
    #[inline]
    #[must_use]
    pub fn seq_no(&self, doc: DocId) -> SeqNo {
        SeqNo(self.seq_nos.get(doc as usize) as i64)
    }

    /// The primary term that wrote it.
    #[inline]
    #[must_use]
    pub fn primary_term(&self, doc: DocId) -> PrimaryTerm {
        PrimaryTerm(self.primary_terms.get(doc as usize))
    }

    /// Its version.
    #[inline]
    #[must_use]
    pub fn version(&self, doc: DocId) -> Version {
        Version(self.versions.get(doc as usize))
    }

    /// What a document is numbered with, as it was written.
    ///
    /// # Errors
    /// `Corrupt` where that is damaged.
    pub fn numbering(&self, doc: DocId) -> Result<Numbering> {
        for column in [&self.seq_nos, &self.primary_terms, &self.versions] {
            column.touch(doc as usize, &self.file.checks)?;
        }
        Ok(Numbering { version: self.version(doc), seq_no: self.seq_no(doc), term: self.primary_term(doc) })
    }

    /// A document's `_id` and its custom routing, if it has one, as they were written.
    ///
    /// # Errors
    /// `Corrupt` where they are damaged.
    pub fn address(&self, doc: DocId) -> Result<(&str, Option<&str>)> {
        let id = std::str::from_utf8(self.ids.verified(doc)?).unwrap_or("");
        let Some(routings) = &self.routings else { return Ok((id, None)) };
        routings.touch(&self.file.checks)?;
        Ok((id, routings.get(doc)))
    }

    /// What damage was found first, reading this segment.
    #[must_use]
    pub fn damage(&self) -> Option<&Error> {
        self.file.checks.damage()
    }

    /// These bytes were made here, and no disk has had them.
    pub(crate) fn trust(&self) {
        self.file.checks.trust();
    }

    /// Its custom routing, if it has one.
    #[must_use]
    pub fn routing(&self, doc: DocId) -> Option<&str> {
        self.routings.as_ref()?.get(doc)
    }

    /// Appends the document's `_source` to `out` (decompresses one block; consecutive docs of one block are cheap
    /// when the same `cache` is passed again).
    pub fn source(&self, doc: DocId, cache: &mut SourceCache, out: &mut Vec<u8>) -> Result<()> {
        assert!(doc < self.doc_count());
        self.sources.get(doc, cache, out)
    }

    /// Appends the document's `_source` to `out`, of a document that comes alone.
    pub fn source_once(&self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        assert!(doc < self.doc_count());
        self.sources.get_one(doc, out)
    }

    /// What `_source` is compressed with, if it is with a dictionary.
    #[must_use]
    pub fn source_dictionary(&self) -> Option<&Arc<SourceDictionary>> {
        self.sources.dictionary()
    }

    /// `_source` rows, for merges.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Blocks under a checksum.
    pub(crate) fn blocks(&self) -> usize {
        self.file.blocks()
    }

    /// Whether `bytes` begin with what was written as a block.
    pub(crate) fn check_block(&self, block: usize, bytes: &[u8]) -> Result<()> {
        self.file.checks.compare(block, bytes)
    }

    /// Verifies one checksum.
    pub(crate) fn verify_block(&self, block: usize) -> Result<()> {
        self.file.checks.verify(block)
    }

    /// Under which the ids hash.
    pub(crate) fn id_seed(&self) -> u64 {
        self.ids.seed()
    }
}

/// Custom routings, of the documents that have one.
///
/// ```text
/// count u32 | documents u32, ascending | end of each routing u32 | routings back to back, UTF-8
/// ```
struct Routings {
    docs: Bytes,
    ends: Bytes,
    blob: Bytes,
}

impl Routings {
    fn open(bytes: Bytes, name: &str) -> Result<Routings> {
        let open = || {
            let count = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
            let (ends_at, blob_at) = (4 + count * 4, 4 + count * 8);
            (blob_at <= bytes.len()).then(|| Routings {
                docs: bytes.slice(4..ends_at),
                ends: bytes.slice(ends_at..blob_at),
                blob: bytes.slice(blob_at..),
            })
        };
        open().ok_or_else(|| Error::corrupt(name, 0, "routings do not add up"))
    }

    /// Makes sure of all of them: they are few.
    fn touch(&self, checks: &Checks) -> Result<()> {
        [&self.docs, &self.ends, &self.blob].into_iter().try_for_each(|part| checks.touch(part))
    }

    fn get(&self, doc: DocId) -> Option<&str> {
        let docs = self.docs.as_chunks::<4>().0;
        let ends = self.ends.as_chunks::<4>().0;
        let i = docs.binary_search_by_key(&doc, |d| u32::from_le_bytes(*d)).ok()?;
        let start = if i == 0 { 0 } else { u32::from_le_bytes(ends[i - 1]) };
        let bytes = self.blob.get(start as usize..u32::from_le_bytes(ends[i]) as usize)?;
        std::str::from_utf8(bytes).ok()
    }
}

/// Collects routings for their section.
#[derive(Debug, Default)]
pub(crate) struct RoutingsWriter {
    docs: Vec<u32>,
    ends: Vec<u32>,
    blob: Vec<u8>,
}

impl RoutingsWriter {
    pub fn push(&mut self, doc: DocId, routing: &str) {
        self.docs.push(doc);
        self.blob.extend_from_slice(routing.as_bytes());
        self.ends.push(u32::try_from(self.blob.len()).expect("routings of a segment over 4 GiB"));
    }

    /// The section; none if no document has a routing.
    pub fn finish(self) -> Option<Vec<u8>> {
        if self.docs.is_empty() {
            return None;
        }
        let mut out = (self.docs.len() as u32).to_le_bytes().to_vec();
        self.docs.iter().chain(&self.ends).for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out.extend_from_slice(&self.blob);
        Some(out)
    }
}

/// One field of a segment.
#[derive(Debug)]
pub struct FieldReader {
    spec: FieldSpec,
    stats: FieldStats,
    terms: Option<InvertedIndex>,
    norms: Option<Bytes>,
    lengths: Option<Linear>,
    numbers: Option<NumberColumn>,
    ordinals: Option<OrdinalColumn>,
    points: Option<Points>,
    dictionary: Option<Dictionary>,
}

impl FieldReader {
    fn open(file: &SegmentFile, spec: &FieldSpec, stats: FieldStats, sections: &[Section]) -> Result<FieldReader> {
        let doc_count = file.contents.doc_count;
        let name = format!("{} [{}]", file.name, spec.name);
        let section = |kind| file.section(sections, kind);
        let missing = |what: &str| Error::corrupt(name.clone(), 0, format!("no {what}"));
        let norms = section(SectionKind::Norms);
        if norms.as_ref().is_some_and(|n| n.len() != doc_count as usize) {
            return Err(missing("norm for every document"));
        }
        let lengths = match section(SectionKind::Lengths) {
            Some(bytes) => Some(Linear::open(bytes, &file.checks, &name)?),
            None => None,
        };
        if lengths.as_ref().is_some_and(|l| l.len() != doc_count as usize) {
            return Err(missing("length of every document"));
        }
        let inverted = match section(SectionKind::Inverted) {
            Some(bytes) => Some(InvertedIndex::open(&bytes, spec.terms, doc_count, &name)?),
            None => None,
        };
        let mut numbers = match section(SectionKind::Column) {
            Some(bytes) => Some(NumberColumn::open(&bytes, doc_count, &name)?),
            None => None,
        };
        let ordinals = match (spec.column, numbers.take()) {
            (ColumnKind::Ordinals, Some(column)) => {
                let dictionary = inverted.as_ref().ok_or_else(|| missing("dictionary"))?.dictionary().clone();
                Some(OrdinalColumn::open(column, dictionary, &name)?)
            }
            (_, column) => {
                numbers = column;
                None
            }
        };
        let points = match section(SectionKind::Points) {
            Some(bytes) => Some(Points::open(&bytes, doc_count, &name)?),
            None => None,
        };
        let dictionary = inverted.as_ref().map(|i| i.dictionary().clone());
        let terms = inverted.filter(|_| spec.terms != TermsOption::None);
        Ok(FieldReader { spec: spec.clone(), stats, terms, norms, lengths, numbers, ordinals, points, dictionary })
    }

    /// Terms of the inverted index or the ordinal column.
    pub(crate) fn dictionary(&self) -> Option<&Dictionary> {
        self.dictionary.as_ref()
    }

    /// What is stored of the field.
    #[must_use]
    pub fn spec(&self) -> &FieldSpec {
        &self.spec
    }

    /// Counts of the field.
    #[must_use]
    pub fn stats(&self) -> FieldStats {
        self.stats
    }

    /// Documents with at least one term or value of this field (deleted included): `exists` shortcuts; without deletes, BM25's
    /// docCount.
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.stats.doc_count
    }

    /// Sum of term frequencies of all terms (of deleted documents, too): without deletes, BM25's sumTotalTermFreq.
    #[must_use]
    pub fn sum_total_term_freq(&self) -> u64 {
        self.stats.sum_total_term_freq
    }

    /// Sum of document frequencies of all terms.
    #[must_use]
    pub fn sum_doc_freq(&self) -> u64 {
        self.stats.sum_doc_freq
    }

    /// Inverted index, if the field has one.
    #[inline]
    #[must_use]
    pub fn terms(&self) -> Option<&InvertedIndex> {
        self.terms.as_ref()
    }

    /// One byte a document, 0 where the document lacks the field.
    #[inline]
    #[must_use]
    pub fn norms(&self) -> Option<&[u8]> {
        self.norms.as_deref()
    }

    /// Occurrences of the field's terms in `doc`: what the document adds to
    /// [`sum_total_term_freq`](FieldReader::sum_total_term_freq). 0 where it lacks the field.
    #[inline]
    #[must_use]
    pub fn occurrences(&self, doc: DocId) -> u64 {
        let known = match (&self.norms, &self.ordinals) {
            (Some(norms), _) => u64::from(norm_decode(norms[doc as usize])),
            (None, Some(ordinals)) => ordinals.count(doc),
            (None, None) => 0,
        };
        known.wrapping_add(self.unknown_occurrences(doc))
    }

    /// Those of them that are not known from the norm or the ordinals, modulo 2^64.
    #[inline]
    pub(crate) fn unknown_occurrences(&self, doc: DocId) -> u64 {
        self.lengths.as_ref().map_or(0, |l| l.get(doc as usize))
    }

    /// Whether there are such.
    pub(crate) fn has_unknown_occurrences(&self) -> bool {
        self.lengths.is_some()
    }

    /// Column of numbers, if that is the field's kind.
    #[inline]
    #[must_use]
    pub fn numbers(&self) -> Option<&NumberColumn> {
        self.numbers.as_ref()
    }

    /// Column of ordinals, if that is the field's kind.
    #[inline]
    #[must_use]
    pub fn ordinals(&self) -> Option<&OrdinalColumn> {
        self.ordinals.as_ref()
    }

    /// Range index, if the field has one.
    #[inline]
    #[must_use]
    pub fn points(&self) -> Option<&Points> {
        self.points.as_ref()
    }
}

//! The indexing buffer: documents since the last refresh, as arenas that only grow, and their way into a segment image.
//!
//! - A document gets the next `DocId`; nothing moves until the freeze.
//! - Adding cannot fail: parsing has refused what can be refused.
//! - A deleted document stays in place and comes out as deleted in the segment's live docs.

use std::sync::Arc;

use crate::analysis::{Analyzer, Scratch, Term};
use crate::document::{ParsedDocument, ParsedValue};
use crate::error::Result;
use crate::ids::{DocId, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::seed::HashSeed;
use crate::segment::file::FieldStats;
use crate::segment::inverted::InvertedWriter;
use crate::segment::live_docs::LiveDocs;
use crate::segment::norms::{norm_decode, norm_encode};
use crate::segment::source_dictionary::SourceDictionary;
use crate::segment::stored::{PackedBlock, Packing};
use crate::segment::train::Samples;
use crate::segment::writer::{Codec, Inherited, PACE_DOCS, Rows, SegmentWriter};
use crate::segment::{ColumnKind, FieldSpec, TermsOption};
use crate::write::pool::Pool;
use crate::write::sort::sort_paced;
use crate::write::sources::BufferedSources;
use crate::write::terms::{TERM_LEN_MAX, TermTable, TokenBatch};

/// Norm of documents in a field without norms, for score bounds.
const NO_NORM: u8 = 1;

/// Documents since the last refresh.
#[derive(Debug)]
pub struct IndexingBuffer {
    seed: HashSeed,
    /// By field id.
    fields: Vec<Option<Box<FieldBuffer>>>,
    pool: Pool,
    rows: BufferedRows,
    scratch: Scratch,
    batch: TokenBatch,
    /// Fields of the document being added.
    touched: Vec<u32>,
    fields_bytes: usize,
    deleted: Option<Vec<DocId>>,
}

/// What every document has.
#[derive(Debug, Default)]
struct BufferedRows {
    ids: Vec<u8>,
    id_ends: Vec<u32>,
    seq_nos: Vec<SeqNo>,
    terms: Vec<PrimaryTerm>,
    versions: Vec<Version>,
    routings: Vec<(DocId, Box<str>)>,
    routing_bytes: usize,
    sources: BufferedSources,
}

/// One field.
#[derive(Debug)]
struct FieldBuffer {
    spec: FieldSpec,
    analyzer: Option<Arc<Analyzer>>,
    gap: u32,
    terms: TermTable,
    norms: Vec<u8>,
    /// Documents with occurrences that are not known from the norm or the ordinals, and how many (modulo 2^64).
    unknown_occurrences: Vec<(DocId, u64)>,
    /// Documents and their values, in order.
    value_docs: Vec<DocId>,
    numbers: Vec<u64>,
    /// Term indexes, for ordinals.
    term_indexes: Vec<u32>,
    doc_count: u32,
    accounted_bytes: usize,
    // Of the document being added:
    doc: Option<DocId>,
    tokens: u32,
    overlaps: u32,
    next_position: u32,
    first_value: usize,
    first_posting: u64,
    has_value: bool,
}

/// One value's tokens on their way into its field.
struct Tokens<'a> {
    terms: &'a mut TermTable,
    batch: &'a mut TokenBatch,
    pool: &'a mut Pool,
    doc: DocId,
    /// What positions count from.
    base: u32,
    last: u32,
    count: u32,
    overlaps: u32,
}

impl<'a> Tokens<'a> {
    fn new(
        terms: &'a mut TermTable,
        batch: &'a mut TokenBatch,
        pool: &'a mut Pool,
        doc: DocId,
        base: u32,
    ) -> Tokens<'a> {
        Tokens { terms, batch, pool, doc, base, last: u32::MAX, count: 0, overlaps: 0 }
    }

    #[inline]
    fn put(&mut self, term: Term<'_>, position: u32) {
        if term.bytes.len() > TERM_LEN_MAX {
            return;
        }
        self.count += 1;
        // A token at the position of the one before does not make the field longer.
        self.overlaps += u32::from(position == self.last);
        self.last = position;
        self.terms.enqueue(self.batch, term, position);
        if self.batch.len() == TokenBatch::LEN {
            self.terms.add_batch(self.batch, self.doc, self.base, self.pool);
        }
    }

    /// How many there were, and how many at the position of the one before.
    fn end(self) -> (u32, u32) {
        self.terms.add_batch(self.batch, self.doc, self.base, self.pool);
        (self.count, self.overlaps)
    }
}

impl FieldBuffer {
    fn new(spec: FieldSpec, analyzer: Option<Arc<Analyzer>>, gap: u32, seed: HashSeed) -> FieldBuffer {
        FieldBuffer {
            terms: TermTable::new(spec.terms, seed),
            spec,
            analyzer,
            gap,
            norms: Vec::new(),
            unknown_occurrences: Vec::new(),
            value_docs: Vec::new(),
            numbers: Vec::new(),
            term_indexes: Vec::new(),
            doc_count: 0,
            accounted_bytes: 0,
            doc: None,
            tokens: 0,
            overlaps: 0,
            next_position: 0,
            first_value: 0,
            first_posting: 0,
            has_value: false,
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<FieldBuffer>()
            + self.terms.memory_bytes()
            + self.norms.len()
            + self.unknown_occurrences.len() * size_of::<(DocId, u64)>()
            + self.value_docs.len() * 4
            + self.numbers.len() * 8
            + self.term_indexes.len() * 4
    }

    fn begin(&mut self, doc: DocId) {
        self.doc = Some(doc);
        self.tokens = 0;
        self.overlaps = 0;
        self.next_position = 0;
        self.first_value = self.value_docs.len();
        self.first_posting = self.terms.postings_count();
        self.has_value = false;
    }

    fn add_text(&mut self, doc: DocId, text: &str, scratch: &mut Scratch, batch: &mut TokenBatch, pool: &mut Pool) {
        let mut tokens = Tokens::new(&mut self.terms, batch, pool, doc, self.next_position);
        let after = match &self.analyzer {
            Some(analyzer) => analyzer.index_terms(text, scratch, &mut |term, position| tokens.put(term, position)),
            None => {
                tokens.put(Term::new(text.as_bytes()), 0);
                1
            }
        };
        let counts = tokens.end();
        self.end_tokens(counts, after);
    }

    /// Ends a value's tokens; `after` is the position after the last.
    fn end_tokens(&mut self, (tokens, overlaps): (u32, u32), after: u32) {
        self.tokens += tokens;
        self.overlaps += overlaps;
        self.next_position = self.next_position.saturating_add(after).saturating_add(self.gap);
    }

    fn add_term(&mut self, doc: DocId, term: &[u8], pool: &mut Pool) {
        if term.len() > TERM_LEN_MAX {
            return;
        }
        let index = self.terms.add(term, doc, self.next_position, pool);
        self.next_position = self.next_position.saturating_add(1).saturating_add(self.gap);
        self.tokens += 1;
        if self.spec.column == ColumnKind::Ordinals {
            self.value_docs.push(doc);
            self.term_indexes.push(index);
        }
    }

    fn add_number(&mut self, doc: DocId, value: u64) {
        self.has_value = true;
        if self.spec.column == ColumnKind::Numbers || self.spec.points {
            self.value_docs.push(doc);
            self.numbers.push(value);
        }
    }

    fn end(&mut self, doc: DocId) {
        self.doc = None;
        if self.tokens > 0 {
            // How often the document's terms occur, as postings will say; see `segment/file.rs` for what is known of it.
            let distinct = self.terms.postings_count() - self.first_posting;
            let occurrences = if self.spec.terms == TermsOption::Docs { distinct } else { u64::from(self.tokens) };
            let mut known = if self.spec.column == ColumnKind::Ordinals { distinct } else { 0 };
            if self.spec.norms {
                let norm = norm_encode(self.tokens - self.overlaps);
                self.norms.resize(doc as usize, 0);
                self.norms.push(norm);
                known = u64::from(norm_decode(norm));
            }
            if self.spec.terms != TermsOption::None && occurrences != known {
                self.unknown_occurrences.push((doc, occurrences.wrapping_sub(known)));
            }
        }
        if self.numbers.len() > self.first_value + 1 {
            self.numbers[self.first_value..].sort_unstable();
        }
        self.doc_count += u32::from(self.has_value || self.tokens > 0);
    }
}

impl IndexingBuffer {
    /// An empty one, whose terms are hashed under `seed`. What becomes of it does not depend on the seed.
    #[must_use]
    pub fn new(seed: HashSeed) -> IndexingBuffer {
        IndexingBuffer {
            seed,
            fields: Vec::new(),
            pool: Pool::default(),
            rows: BufferedRows::default(),
            scratch: Scratch::default(),
            batch: TokenBatch::default(),
            touched: Vec::new(),
            fields_bytes: 0,
            deleted: None,
        }
    }

    /// Adds a document; its position in the segment to come.
    #[allow(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        mapping: &Mapping,
        id: &str,
        routing: Option<&str>,
        seq_no: SeqNo,
        term: PrimaryTerm,
        version: Version,
        source: &[u8],
        parsed: &ParsedDocument,
    ) -> DocId {
        let doc = self.rows.add(id, routing, seq_no, term, version, source);
        for (field, value) in &parsed.values {
            let at = field.0 as usize;
            if self.fields.get(at).is_none_or(Option::is_none) {
                let mapped = mapping.by_id(*field);
                self.add_field(at, &mapped.spec, mapped.analyzer.clone(), mapped.position_increment_gap);
            }
            self.add_value(doc, at, value, &parsed.arena);
        }
        self.end_document(doc);
        doc
    }

    fn add_field(&mut self, at: usize, spec: &FieldSpec, analyzer: Option<Arc<Analyzer>>, gap: u32) {
        if self.fields.len() <= at {
            self.fields.resize_with(at + 1, || None);
        }
        self.fields[at] = Some(Box::new(FieldBuffer::new(spec.clone(), analyzer, gap, self.seed)));
    }

    fn add_value(&mut self, doc: DocId, at: usize, value: &ParsedValue, arena: &[u8]) {
        let field = self.fields[at].as_mut().expect("the field was added");
        if field.doc != Some(doc) {
            field.begin(doc);
            self.touched.push(at as u32);
        }
        let bytes = |range: &std::ops::Range<u32>| &arena[range.start as usize..range.end as usize];
        match value {
            ParsedValue::Text(range) => {
                let text = std::str::from_utf8(bytes(range)).expect("the parser gives UTF-8");
                field.add_text(doc, text, &mut self.scratch, &mut self.batch, &mut self.pool);
            }
            ParsedValue::Term(range) => field.add_term(doc, bytes(range), &mut self.pool),
            ParsedValue::Number(value) => field.add_number(doc, *value),
        }
    }

    fn end_document(&mut self, doc: DocId) {
        for at in self.touched.drain(..) {
            let field = self.fields[at as usize].as_mut().expect("a touched field");
            field.end(doc);
            let bytes = field.memory_bytes();
            self.fields_bytes = self.fields_bytes + bytes - field.accounted_bytes;
            field.accounted_bytes = bytes;
        }
    }

    /// Marks a document as deleted (replaced by a newer one, or gone).
    pub fn delete(&mut self, doc: DocId) {
        assert!(doc < self.doc_count());
        self.deleted.get_or_insert_default().push(doc);
    }

    /// Documents, deleted ones included.
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.rows.seq_nos.len() as u32
    }

    /// Bytes in use. What lists have in reserve, up to as much again, is not touched before it is used, so it takes no memory
    /// yet.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.pool.memory_bytes() + self.batch.memory_bytes() + self.fields_bytes
    }

    /// Appends the `_source` of a document.
    ///
    /// # Errors
    /// `Corrupt` if memory is.
    pub fn source(&self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        self.rows.sources.get(doc, out)
    }

    /// Whether sources wait for a dictionary to be packed with: there are many.
    #[must_use]
    pub fn wants_dictionary(&self) -> bool {
        self.rows.sources.wants_dictionary()
    }

    /// The dictionary to pack sources with, and their codec; none if there is none to be had.
    pub(crate) fn pack_with(&mut self, codec: Codec, dictionary: Option<Arc<SourceDictionary>>) {
        self.rows.sources.pack_with(codec, dictionary);
    }

    /// Length of all sources.
    pub(crate) fn source_len(&self) -> u64 {
        self.rows.sources.source_len()
    }

    /// Some of the sources.
    pub(crate) fn samples(&self) -> Result<Samples> {
        self.rows.sources.samples()
    }

    /// `_id` of a document.
    #[must_use]
    pub fn id(&self, doc: DocId) -> &str {
        std::str::from_utf8(self.rows.id_of(doc)).expect("ids came as text")
    }

    /// Custom routing of a document.
    #[must_use]
    pub fn routing(&self, doc: DocId) -> Option<&str> {
        self.rows.routing_of(doc)
    }

    /// No more documents: what a refresh works on.
    #[must_use]
    pub fn freeze(mut self) -> FrozenBuffer {
        self.rows.sources.seal();
        let deleted = self.deleted.as_ref().map(|docs| {
            let mut live = LiveDocs::all(self.doc_count());
            docs.iter().for_each(|&doc| {
                live.delete(doc);
            });
            live
        });
        FrozenBuffer { buffer: self, live: deleted }
    }
}

impl BufferedRows {
    fn add(
        &mut self,
        id: &str,
        routing: Option<&str>,
        seq_no: SeqNo,
        term: PrimaryTerm,
        version: Version,
        source: &[u8],
    ) -> DocId {
        let doc = self.seq_nos.len() as DocId;
        self.ids.extend_from_slice(id.as_bytes());
        self.id_ends.push(u32::try_from(self.ids.len()).expect("an indexing buffer of 4 GiB"));
        self.seq_nos.push(seq_no);
        self.terms.push(term);
        self.versions.push(version);
        if let Some(routing) = routing {
            self.routing_bytes += routing.len() + size_of::<(DocId, Box<str>)>();
            self.routings.push((doc, routing.into()));
        }
        self.sources.push(source);
        doc
    }

    fn memory_bytes(&self) -> usize {
        self.ids.len() + self.seq_nos.len() * (8 * 3 + 4) + self.routing_bytes + self.sources.memory_bytes()
    }

    fn id_of(&self, doc: DocId) -> &[u8] {
        let start = if doc == 0 { 0 } else { self.id_ends[doc as usize - 1] };
        &self.ids[start as usize..self.id_ends[doc as usize] as usize]
    }

    fn routing_of(&self, doc: DocId) -> Option<&str> {
        let i = self.routings.binary_search_by_key(&doc, |r| r.0).ok()?;
        Some(&self.routings[i].1)
    }
}

impl Rows for &BufferedRows {
    fn id(&self, doc: DocId) -> &[u8] {
        self.id_of(doc)
    }

    fn seq_no(&self, doc: DocId) -> SeqNo {
        self.seq_nos[doc as usize]
    }

    fn primary_term(&self, doc: DocId) -> PrimaryTerm {
        self.terms[doc as usize]
    }

    fn version(&self, doc: DocId) -> Version {
        self.versions[doc as usize]
    }

    fn routing(&self, doc: DocId) -> Option<&str> {
        self.routing_of(doc)
    }

    fn source(&mut self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        self.sources.get(doc, out)
    }

    fn source_len(&self) -> u64 {
        self.sources.source_len()
    }

    fn dictionary(&self) -> Option<&Arc<SourceDictionary>> {
        self.sources.dictionary()
    }

    fn packed_block(&self, doc: DocId) -> Result<Option<(Packing<'_>, PackedBlock<'_>)>> {
        Ok(self.sources.packed_block(doc))
    }
}

/// A buffer that takes no more documents; still answers realtime gets while its segment is built.
#[derive(Debug)]
pub struct FrozenBuffer {
    buffer: IndexingBuffer,
    live: Option<LiveDocs>,
}

impl FrozenBuffer {
    /// Documents, deleted ones included.
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.buffer.doc_count()
    }

    /// Documents not deleted.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        self.live.as_ref().map_or(self.doc_count(), LiveDocs::live_count)
    }

    /// Bytes held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.memory_bytes()
    }

    /// Appends the `_source` of a document.
    ///
    /// # Errors
    /// `Corrupt` if memory is.
    pub fn source(&self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        self.buffer.source(doc, out)
    }

    /// `_id` of a document.
    #[must_use]
    pub fn id(&self, doc: DocId) -> &str {
        self.buffer.id(doc)
    }

    /// Custom routing of a document.
    #[must_use]
    pub fn routing(&self, doc: DocId) -> Option<&str> {
        self.buffer.routing(doc)
    }
}

/// Builds the segment's bytes, the same as its file will have, and the live docs if documents were deleted in the buffer.
/// `dictionaries` are those of the shard's segments: of `_source`, to be used again. Gives way at least every half millisecond.
/// If `pace` says stop, the image is incomplete and does not open.
pub async fn build_image<P: Pace>(
    frozen: &FrozenBuffer,
    id: SegmentId,
    codec: Codec,
    dictionaries: Vec<Arc<SourceDictionary>>,
    pace: &P,
) -> (Vec<u8>, Option<LiveDocs>) {
    // Never moved: copies of a growing image would take its memory twice. What it does not fill is never touched.
    let mut image = Vec::with_capacity(frozen.memory_bytes());
    // A `Vec` takes everything, so the only failure is a stop.
    let _ = write_segment(&frozen.buffer, id, codec, dictionaries, pace, &mut image).await;
    (image, frozen.live.clone())
}

async fn write_segment<P: Pace>(
    buffer: &IndexingBuffer,
    id: SegmentId,
    codec: Codec,
    dictionaries: Vec<Arc<SourceDictionary>>,
    pace: &P,
    image: &mut Vec<u8>,
) -> Result<()> {
    let inherited = Inherited { id_seed: buffer.seed.hash(&id.0.to_le_bytes()), dictionaries };
    let mut writer = SegmentWriter::new(image, id, buffer.doc_count(), codec, inherited, pace).await?;
    writer.rows(&mut &buffer.rows).await?;
    let mut fields: Vec<&FieldBuffer> = buffer.fields.iter().flatten().map(|f| &**f).collect();
    fields.sort_unstable_by(|a, b| a.spec.name.cmp(&b.spec.name));
    for field in fields {
        write_field(field, buffer, &mut writer).await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn write_field<P: Pace>(
    field: &FieldBuffer,
    buffer: &IndexingBuffer,
    writer: &mut SegmentWriter<'_, Vec<u8>, P>,
) -> Result<()> {
    let mut norms = None;
    if field.spec.norms {
        let mut all = field.norms.clone();
        all.resize(buffer.doc_count() as usize, 0);
        writer.norms(&all).await?;
        norms = Some(all);
    }
    let mut stats = FieldStats { doc_count: field.doc_count, ..FieldStats::default() };
    if field.spec.terms != TermsOption::None || field.spec.column == ColumnKind::Ordinals {
        let order = sorted_terms(&field.terms, writer.pace).await;
        (stats.sum_total_term_freq, stats.sum_doc_freq) =
            write_terms(field, &order, norms.as_deref(), &buffer.pool, writer).await?;
        if field.spec.column == ColumnKind::Ordinals {
            let mut ranks = vec![0u32; order.len()];
            order.iter().zip(0..).for_each(|(&term, rank)| ranks[term as usize] = rank);
            let mut next = 0;
            writer
                .column(|doc, out| {
                    while field.value_docs.get(next) == Some(&doc) {
                        out.push(u64::from(ranks[field.term_indexes[next] as usize]));
                        next += 1;
                    }
                    out.sort_unstable();
                    out.dedup();
                })
                .await?;
        }
    }
    if field.spec.column == ColumnKind::Numbers {
        let mut next = 0;
        writer
            .column(|doc, out| {
                while field.value_docs.get(next) == Some(&doc) {
                    out.push(field.numbers[next]);
                    next += 1;
                }
            })
            .await?;
    }
    if field.spec.points {
        let pairs: Vec<(u64, DocId)> = field.numbers.iter().copied().zip(field.value_docs.iter().copied()).collect();
        let pairs = sort_paced(pairs, writer.pace, Ord::cmp).await;
        let mut points = writer.begin_points().await?;
        let mut last = None;
        for chunk in pairs.chunks(PACE_DOCS as usize) {
            for &pair in chunk {
                if last != Some(pair) {
                    points.push(pair.0, pair.1);
                    last = Some(pair);
                }
            }
            writer.drain_points(&mut points).await?;
            writer.give_way().await?;
        }
        writer.end_points(points).await?;
    }
    if !field.unknown_occurrences.is_empty() {
        let mut rest = field.unknown_occurrences.iter().peekable();
        writer.lengths(|doc| rest.next_if(|(of, _)| *of == doc).map_or(0, |(_, unknown)| *unknown)).await?;
    }
    writer.end_field(field.spec.clone(), stats);
    Ok(())
}

async fn sorted_terms<P: Pace>(terms: &TermTable, pace: &P) -> Vec<u32> {
    let keyed: Vec<(u64, u32)> = (0..terms.len() as u32).map(|i| (terms.sort_key(i), i)).collect();
    let sorted = sort_paced(keyed, pace, |a, b| a.0.cmp(&b.0).then_with(|| terms.term(a.1).cmp(terms.term(b.1)))).await;
    sorted.into_iter().map(|(_, i)| i).collect()
}

async fn write_terms<P: Pace>(
    field: &FieldBuffer,
    order: &[u32],
    norms: Option<&[u8]>,
    pool: &Pool,
    writer: &mut SegmentWriter<'_, Vec<u8>, P>,
) -> Result<(u64, u64)> {
    writer.begin_inverted().await?;
    let mut inverted = InvertedWriter::new(field.spec.terms, norms);
    let mut work = 0u32;
    for (at, &term) in order.iter().enumerate() {
        field.terms.prefetch_after(order, at, pool);
        if field.spec.terms == TermsOption::None {
            inverted.push_term(field.terms.term(term));
            work += 1;
        } else {
            inverted.start_term();
            let mut postings = field.terms.postings(term, pool);
            loop {
                inverted.start_doc();
                let Some((doc, freq)) = postings.next(|p| inverted.push_position(p)) else { break };
                inverted.end_doc(doc, freq, norms.map_or(NO_NORM, |n| n[doc as usize]));
                work += freq;
                if work >= 2 * PACE_DOCS {
                    work = 0;
                    inverted.flush_partial(&mut writer.file).await?;
                    writer.give_way().await?;
                }
            }
            inverted.finish_term(field.terms.term(term));
            work += 8;
        }
        inverted.flush(&mut writer.file).await?;
        if work >= 2 * PACE_DOCS {
            work = 0;
            writer.give_way().await?;
        }
    }
    writer.end_inverted(inverted).await
}

/// A way in for tests of the formats, past mapping and analysis.
#[cfg(test)]
pub(crate) mod raw {
    use super::*;

    /// A value of field number `.0`.
    pub(crate) enum RawValue<'a> {
        /// Tokens and positions of one value, and the position after them.
        Tokens(&'a [(&'a str, u32)], u32),
        Term(&'a str),
        Number(u64),
    }

    pub(crate) const GAP: u32 = 100;

    impl IndexingBuffer {
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn add_raw<'a>(
            &mut self,
            specs: &[FieldSpec],
            id: &str,
            routing: Option<&str>,
            (seq_no, term, version): (SeqNo, PrimaryTerm, Version),
            source: &[u8],
            values: impl Iterator<Item = (usize, RawValue<'a>)>,
        ) -> DocId {
            let doc = self.rows.add(id, routing, seq_no, term, version, source);
            for (at, value) in values {
                if self.fields.get(at).is_none_or(Option::is_none) {
                    self.add_field(at, &specs[at], None, GAP);
                }
                match value {
                    RawValue::Number(n) => self.add_value(doc, at, &ParsedValue::Number(n), &[]),
                    RawValue::Term(t) => {
                        self.add_value(doc, at, &ParsedValue::Term(0..t.len() as u32), t.as_bytes());
                    }
                    RawValue::Tokens(tokens, after) => {
                        let field = self.fields[at].as_mut().unwrap();
                        if field.doc != Some(doc) {
                            field.begin(doc);
                            self.touched.push(at as u32);
                        }
                        let base = field.next_position;
                        let mut noted = Tokens::new(&mut field.terms, &mut self.batch, &mut self.pool, doc, base);
                        tokens.iter().for_each(|(t, p)| noted.put(Term::new(t.as_bytes()), *p));
                        let counts = noted.end();
                        field.end_tokens(counts, after);
                    }
                }
            }
            self.end_document(doc);
            doc
        }
    }
}

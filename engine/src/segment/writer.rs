//! Writing a segment, section by section. The indexing buffer and the merger say what is in each document; this says in
//! which order the sections come and gives way to other work in between.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{DocId, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::pace::Pace;
use crate::segment::FieldSpec;
use crate::segment::columns::ColumnWriter;
use crate::segment::file::{Contents, FieldEntry, FieldStats, FileWriter, Section, SectionKind, SegmentMeta, Sink};
use crate::segment::ids::{IdIndexWriter, IdsWriter};
use crate::segment::inverted::InvertedWriter;
use crate::segment::linear::LinearWriter;
use crate::segment::points::PointsWriter;
use crate::segment::reader::RoutingsWriter;
use crate::segment::source_dictionary::{Choice, SourceDictionary};
use crate::segment::stored::{PackedBlock, Packer, Packing, SourceWriter};
use crate::segment::train::Samples;

/// How stored rows are compressed: `index.codec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Small blocks with a dictionary: a get unpacks one or two documents.
    #[default]
    Default = 0,
    /// Larger blocks, harder tried.
    BestCompression = 1,
}

/// Documents handled between two questions whether to yield: far less than a millisecond for anything cheap.
pub(crate) const PACE_DOCS: u32 = 1024;

/// Bytes of `_source` compressed between two such questions.
const PACE_SOURCE_LEN: usize = 16 << 10;
/// Compressed blocks are written when they are so many bytes.
const SOURCES_PENDING: usize = 64 << 10;

/// What every document has.
pub(crate) trait Rows {
    fn id(&self, doc: DocId) -> &[u8];
    fn seq_no(&self, doc: DocId) -> SeqNo;
    fn primary_term(&self, doc: DocId) -> PrimaryTerm;
    fn version(&self, doc: DocId) -> Version;
    fn routing(&self, doc: DocId) -> Option<&str>;
    /// Appends the `_source`.
    fn source(&mut self, doc: DocId, out: &mut Vec<u8>) -> Result<()>;
    /// About the length of all sources.
    fn source_len(&self) -> u64;
    /// The dictionary that must be taken, if some sources are packed with one and the others are to be.
    fn dictionary(&self) -> Option<&Arc<SourceDictionary>> {
        None
    }
    /// The block that begins with `doc`, and how it was made, if there is one with documents alone that are wanted.
    fn packed_block(&self, _doc: DocId) -> Result<Option<(Packing<'_>, PackedBlock<'_>)>> {
        Ok(None)
    }
}

/// What a segment takes over from those around it.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Under which ids hash.
    pub id_seed: u64,
    /// Dictionaries of sources.
    pub dictionaries: Vec<Arc<SourceDictionary>>,
}

/// Writes one segment.
pub(crate) struct SegmentWriter<'s, S, P> {
    pub file: FileWriter<'s, S>,
    pub pace: &'s P,
    contents: Contents,
    sections: Vec<Section>,
    inherited: Inherited,
}

impl<'s, S: Sink, P: Pace> SegmentWriter<'s, S, P> {
    pub async fn new(
        sink: &'s mut S,
        id: SegmentId,
        doc_count: u32,
        codec: Codec,
        inherited: Inherited,
        pace: &'s P,
    ) -> Result<SegmentWriter<'s, S, P>> {
        let contents = Contents {
            doc_count,
            min_seq_no: SeqNo::NONE,
            max_seq_no: SeqNo::NONE,
            codec,
            sections: Vec::new(),
            fields: Vec::new(),
        };
        let file = FileWriter::new(sink, id).await?;
        Ok(SegmentWriter { file, pace, contents, sections: Vec::new(), inherited })
    }

    /// Lets others run; an error when the work is no longer wanted.
    pub async fn give_way(&self) -> Result<()> {
        self.pace.yield_if_needed().await;
        if self.pace.stopped() { Err(Error::Stopped) } else { Ok(()) }
    }

    async fn give_way_at(&self, doc: DocId) -> Result<()> {
        if doc.is_multiple_of(PACE_DOCS) { self.give_way().await } else { Ok(()) }
    }

    /// Ids, sequence numbers, terms, versions, routings, sources.
    pub async fn rows(&mut self, rows: &mut impl Rows) -> Result<()> {
        self.ids(rows).await?;
        let (mut min, mut max) = (i64::MAX, SeqNo::NONE.0);
        self.linear(SectionKind::SeqNos, |doc| {
            let seq_no = rows.seq_no(doc).0;
            (min, max) = (min.min(seq_no), max.max(seq_no));
            seq_no as u64
        })
        .await?;
        if self.contents.doc_count > 0 {
            (self.contents.min_seq_no, self.contents.max_seq_no) = (SeqNo(min), SeqNo(max));
        }
        self.linear(SectionKind::PrimaryTerms, |doc| rows.primary_term(doc).0).await?;
        self.linear(SectionKind::Versions, |doc| rows.version(doc).0).await?;
        let mut routings = RoutingsWriter::default();
        for doc in 0..self.contents.doc_count {
            if let Some(routing) = rows.routing(doc) {
                routings.push(doc, routing);
            }
            self.give_way_at(doc).await?;
        }
        if let Some(bytes) = routings.finish() {
            let section = self.file.section(SectionKind::Routings, &bytes).await?;
            self.contents.sections.push(section);
        }
        self.sources(rows).await
    }

    async fn ids(&mut self, rows: &impl Rows) -> Result<()> {
        let doc_count = self.contents.doc_count;
        let mut ids = IdsWriter::default();
        let mut index = IdIndexWriter::new(doc_count, self.inherited.id_seed);
        let mut pending = Vec::new();
        self.file.begin().await?;
        for doc in 0..doc_count {
            let id = rows.id(doc);
            ids.push(id);
            pending.extend_from_slice(id);
            index.insert(id, doc, |other| rows.id(other) == id);
            self.file.drain(&mut pending).await?;
            self.give_way_at(doc).await?;
        }
        pending.extend_from_slice(&ids.finish());
        self.file.write(&pending).await?;
        self.contents.sections.push(self.file.end(SectionKind::Ids));
        let section = self.file.section(SectionKind::IdIndex, &index.finish()).await?;
        self.contents.sections.push(section);
        Ok(())
    }

    async fn linear(&mut self, kind: SectionKind, mut value: impl FnMut(DocId) -> u64) -> Result<()> {
        let mut column = LinearWriter::default();
        for doc in 0..self.contents.doc_count {
            column.push(value(doc));
            self.give_way_at(doc).await?;
        }
        let mut bytes = Vec::new();
        column.finish(&mut bytes);
        let section = self.file.section(kind, &bytes).await?;
        self.contents.sections.push(section);
        Ok(())
    }

    async fn sources(&mut self, rows: &mut impl Rows) -> Result<()> {
        let dictionary = self.dictionary(rows).await?;
        let packer = Packer::new(self.contents.codec, dictionary);
        if let Some(dictionary) = packer.packing().dictionary {
            let section = self.file.section(SectionKind::SourceDictionary, &dictionary.encode()).await?;
            self.contents.sections.push(section);
        }
        let mut sources = SourceWriter::new(packer);
        let mut source = Vec::new();
        self.file.begin().await?;
        let (mut doc, mut work) = (0, 0);
        while doc < self.contents.doc_count {
            if let Some((packing, block)) = rows.packed_block(doc)?
                && sources.takes(packing, &block)
            {
                sources.push_block(&block);
                doc += block.docs;
                work += 16 + block.bytes.len() / 16;
            } else {
                source.clear();
                rows.source(doc, &mut source)?;
                sources.push(&source);
                doc += 1;
                work += 1 + source.len();
            }
            if sources.pending.len() >= SOURCES_PENDING {
                self.file.write(&sources.pending).await?;
                sources.drained(sources.pending.len());
                sources.pending.clear();
            }
            if work >= PACE_SOURCE_LEN {
                work = 0;
                self.give_way().await?;
            }
        }
        self.file.write(&sources.finish()).await?;
        self.contents.sections.push(self.file.end(SectionKind::Sources));
        Ok(())
    }

    /// What the sources are compressed with.
    async fn dictionary(&self, rows: &mut impl Rows) -> Result<Option<Arc<SourceDictionary>>> {
        if let Some(dictionary) = rows.dictionary() {
            return Ok(Some(dictionary.clone()));
        }
        let known = &self.inherited.dictionaries;
        match SourceDictionary::choose(rows.source_len(), known.iter()) {
            Choice::Nowhere => Ok(None),
            Choice::Taken(dictionary) => Ok(Some(dictionary)),
            Choice::Trained => {
                let mut samples = Samples::default();
                for run in Samples::runs(self.contents.doc_count) {
                    samples.add_run(run, |doc, out| rows.source(doc, out))?;
                    self.give_way().await?;
                }
                let dictionary = samples.dictionary(rows.source_len(), known, self.pace).await;
                self.give_way().await?;
                Ok(dictionary)
            }
        }
    }

    /// One byte for every document.
    pub async fn norms(&mut self, norms: &[u8]) -> Result<()> {
        assert_eq!(norms.len(), self.contents.doc_count as usize);
        let section = self.file.section(SectionKind::Norms, norms).await?;
        self.sections.push(section);
        Ok(())
    }

    /// A column; `values` fills in those of a document, ascending.
    pub async fn column(&mut self, mut values: impl FnMut(DocId, &mut Vec<u64>)) -> Result<()> {
        let mut column = ColumnWriter::new();
        let mut of_doc = Vec::new();
        self.file.begin().await?;
        for doc in 0..self.contents.doc_count {
            of_doc.clear();
            values(doc, &mut of_doc);
            column.push(&of_doc);
            if doc.is_multiple_of(PACE_DOCS) {
                self.file.write(&column.pending).await?;
                column.drained(column.pending.len());
                column.pending.clear();
                self.give_way().await?;
            }
        }
        self.file.write(&column.finish()).await?;
        self.sections.push(self.file.end(SectionKind::Column));
        Ok(())
    }

    /// The occurrences of the field's terms in each document that are not known without this; nothing where there are none.
    pub async fn lengths(&mut self, mut unknown: impl FnMut(DocId) -> u64) -> Result<()> {
        let mut column = LinearWriter::default();
        let mut any = 0;
        for doc in 0..self.contents.doc_count {
            let value = unknown(doc);
            any |= value;
            column.push(value);
            self.give_way_at(doc).await?;
        }
        if any != 0 {
            let mut bytes = Vec::new();
            column.finish(&mut bytes);
            let section = self.file.section(SectionKind::Lengths, &bytes).await?;
            self.sections.push(section);
        }
        Ok(())
    }

    /// Starts an inverted index, to be ended by `end_inverted`.
    pub async fn begin_inverted(&mut self) -> Result<()> {
        self.file.begin().await
    }

    /// Ends an inverted index; its sums of frequencies.
    pub async fn end_inverted(&mut self, inverted: InvertedWriter) -> Result<(u64, u64)> {
        let sums = (inverted.sum_total_term_freq, inverted.sum_doc_freq);
        let section = inverted.finish(&mut self.file).await?;
        self.sections.push(section);
        Ok(sums)
    }

    /// Starts a range index, to be ended by `end_points`.
    pub async fn begin_points(&mut self) -> Result<PointsWriter> {
        self.file.begin().await?;
        Ok(PointsWriter::default())
    }

    /// Writes what is ready.
    pub async fn drain_points(&mut self, points: &mut PointsWriter) -> Result<()> {
        self.file.write(&points.pending).await?;
        points.drained(points.pending.len());
        points.pending.clear();
        Ok(())
    }

    /// Ends a range index.
    pub async fn end_points(&mut self, points: PointsWriter) -> Result<()> {
        self.file.write(&points.finish()).await?;
        self.sections.push(self.file.end(SectionKind::Points));
        Ok(())
    }

    /// Ends a field; fields come in the order of their names.
    pub fn end_field(&mut self, spec: FieldSpec, stats: FieldStats) {
        let sections = std::mem::take(&mut self.sections);
        self.contents.fields.push(FieldEntry { spec, stats, sections });
    }

    /// Checksums, contents, footer.
    pub async fn finish(self) -> Result<SegmentMeta> {
        assert!(self.contents.fields.is_sorted_by(|a, b| a.spec.name < b.spec.name));
        assert!(self.sections.is_empty());
        self.file.finish(&self.contents).await
    }
}

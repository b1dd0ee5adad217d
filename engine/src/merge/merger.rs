//! Several segments into one: column by column and term by term, documents in the order of the sources, deleted ones left out.
//!
//! Memory: one byte per document of one field (norms), four bytes per document of sources with deletes, four per term of
//! an ordinal column, and the postings of one term. The result goes through a [`Sink`] as it is made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::{DocId, NO_MORE_DOCS, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::pace::Pace;
use crate::seed::HashSeed;
use crate::segment::columns::OrdinalColumn;
use crate::segment::file::{DOC_COUNT_MAX, FieldStats, SegmentMeta, Sink};
use crate::segment::inverted::InvertedWriter;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::{FieldReader, SegmentReader, SourceCache, Want};
use crate::segment::stored::{PackedBlock, Packing};
use crate::segment::writer::{Codec, Inherited, PACE_DOCS, Rows, SegmentWriter};
use crate::segment::{ColumnKind, FieldSpec, TermsOption};

/// Norm of documents in a field without norms, for score bounds.
const NO_NORM: u8 = 1;
/// Postings between two questions whether to yield.
const PACE_POSTINGS: u32 = 512;

/// A segment to be merged, with its deletes at the beginning of the merge.
#[derive(Clone, Debug)]
pub struct MergeSource {
    /// The segment.
    pub reader: Arc<SegmentReader>,
    /// Its deletes.
    pub live: Option<Arc<LiveDocs>>,
}

/// Where the documents of one source went.
#[derive(Clone, Debug)]
pub struct DocMap {
    /// New document of the first live one.
    base: DocId,
    doc_count: u32,
    /// New document by old, or `NO_MORE_DOCS`; none if all were live.
    new: Option<Vec<DocId>>,
}

impl DocMap {
    fn new(source: &MergeSource, base: DocId) -> DocMap {
        let doc_count = source.reader.doc_count();
        let new = source.live.as_ref().map(|live| {
            let mut next = base;
            (0..doc_count)
                .map(|doc| {
                    if live.is_live(doc) {
                        next += 1;
                        next - 1
                    } else {
                        NO_MORE_DOCS
                    }
                })
                .collect()
        });
        DocMap { base, doc_count, new }
    }

    /// The new document, unless the old one was deleted.
    #[inline]
    #[must_use]
    pub fn get(&self, old: DocId) -> Option<DocId> {
        assert!(old < self.doc_count);
        match &self.new {
            None => Some(self.base + old),
            Some(new) => Some(new[old as usize]).filter(|&doc| doc != NO_MORE_DOCS),
        }
    }
}

/// What came out of a merge.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The new segment; none, and nothing was written, if no document was live.
    pub meta: Option<SegmentMeta>,
    /// One per source.
    pub maps: Vec<DocMap>,
}

/// The way back: source and document there of each new document.
struct Origins<'a> {
    sources: &'a [MergeSource],
    /// First new document of each source, then their count.
    bases: Vec<DocId>,
    /// Live documents of sources with deletes.
    live: Vec<Option<Vec<DocId>>>,
}

impl<'a> Origins<'a> {
    fn new(sources: &'a [MergeSource]) -> Result<Origins<'a>> {
        let mut bases = vec![0];
        let mut live = Vec::with_capacity(sources.len());
        let mut total = 0u64;
        for source in sources {
            let doc_count = source.reader.doc_count();
            let docs: Option<Vec<DocId>> = source.live.as_ref().map(|l| {
                assert_eq!(l.doc_count(), doc_count);
                (0..doc_count).filter(|&d| l.is_live(d)).collect()
            });
            total += docs.as_ref().map_or(u64::from(doc_count), |d| d.len() as u64);
            if total > u64::from(DOC_COUNT_MAX) {
                return Err(Error::Rejected { reason: format!("a merge of more than {DOC_COUNT_MAX} documents") });
            }
            bases.push(total as DocId);
            live.push(docs);
        }
        Ok(Origins { sources, bases, live })
    }

    fn doc_count(&self) -> u32 {
        self.bases[self.bases.len() - 1]
    }

    #[inline]
    fn locate(&self, doc: DocId) -> (usize, DocId) {
        let source = self.bases.partition_point(|&b| b <= doc) - 1;
        let index = doc - self.bases[source];
        (source, self.live[source].as_ref().map_or(index, |docs| docs[index as usize]))
    }
}

struct MergedRows<'a> {
    origins: &'a Origins<'a>,
    cache: SourceCache,
}

impl MergedRows<'_> {
    fn at(&self, doc: DocId) -> (&SegmentReader, DocId) {
        let (source, old) = self.origins.locate(doc);
        (&self.origins.sources[source].reader, old)
    }
}

impl Rows for MergedRows<'_> {
    fn id(&self, doc: DocId) -> &[u8] {
        let (reader, old) = self.at(doc);
        reader.id_bytes(old)
    }

    fn seq_no(&self, doc: DocId) -> SeqNo {
        let (reader, old) = self.at(doc);
        reader.seq_no(old)
    }

    fn primary_term(&self, doc: DocId) -> PrimaryTerm {
        let (reader, old) = self.at(doc);
        reader.primary_term(old)
    }

    fn version(&self, doc: DocId) -> Version {
        let (reader, old) = self.at(doc);
        reader.version(old)
    }

    fn routing(&self, doc: DocId) -> Option<&str> {
        let (reader, old) = self.at(doc);
        reader.routing(old)
    }

    fn source(&mut self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        let (source, old) = self.origins.locate(doc);
        self.origins.sources[source].reader.source(old, &mut self.cache, out)
    }

    fn source_len(&self) -> u64 {
        let live = |(i, source): (usize, &MergeSource)| {
            let live = u64::from(self.origins.bases[i + 1] - self.origins.bases[i]);
            let (len, docs) = (source.reader.sources().raw_len(), u64::from(source.reader.doc_count().max(1)));
            (u128::from(len) * u128::from(live) / u128::from(docs)) as u64
        };
        self.origins.sources.iter().enumerate().map(live).fold(0, u64::saturating_add)
    }

    fn packed_block(&self, doc: DocId) -> Result<Option<(Packing<'_>, PackedBlock<'_>)>> {
        let (source, old) = self.origins.locate(doc);
        let rows = self.origins.sources[source].reader.sources();
        let Some(block) = rows.packed_block(old)? else { return Ok(None) };
        // Its last document is as far from the first as it was, so none between was deleted.
        let last = (doc - self.origins.bases[source]).saturating_add(block.docs - 1);
        let whole = match &self.origins.live[source] {
            None => true,
            Some(docs) => docs.get(last as usize) == Some(&old.saturating_add(block.docs - 1)),
        };
        Ok(whole.then_some((rows.packing(), block)))
    }
}

/// One field in all sources.
struct MergedField<'a> {
    spec: FieldSpec,
    /// By source.
    readers: Vec<Option<&'a FieldReader>>,
}

/// Merges `sources`, in this order, into a new segment.
///
/// # Errors
/// `Corrupt` if a source is damaged, `Stopped` if the pace says so, and those of the sink. What was written is then no segment.
pub async fn merge<S: Sink, P: Pace>(
    sources: &[MergeSource],
    target: SegmentId,
    codec: Codec,
    sink: &mut S,
    pace: &P,
) -> Result<Merged> {
    let origins = Origins::new(sources)?;
    let maps: Vec<DocMap> = sources.iter().zip(&origins.bases).map(|(s, &base)| DocMap::new(s, base)).collect();
    if origins.doc_count() == 0 {
        return Ok(Merged { meta: None, maps });
    }
    let inherited = Inherited {
        id_seed: HashSeed::new(sources[0].reader.id_seed()).hash(&target.0.to_le_bytes()),
        dictionaries: sources.iter().filter_map(|s| s.reader.source_dictionary().cloned()).collect(),
    };
    let mut writer = SegmentWriter::new(sink, target, origins.doc_count(), codec, inherited, pace).await?;
    // What is damaged must not get a checksum that is right.
    for source in sources {
        for block in 0..source.reader.blocks() {
            source.reader.verify_block(block)?;
            writer.give_way().await?;
        }
    }
    writer.rows(&mut MergedRows { origins: &origins, cache: SourceCache::default() }).await?;
    let mut fields: BTreeMap<&str, MergedField<'_>> = BTreeMap::new();
    for (i, source) in sources.iter().enumerate() {
        for reader in source.reader.fields() {
            let spec = reader.spec();
            let field = fields
                .entry(&spec.name)
                .or_insert_with(|| MergedField { spec: spec.clone(), readers: vec![None; sources.len()] });
            if field.spec != *spec {
                let name = crate::segment::segment_file_name(source.reader.segment_id());
                return Err(Error::corrupt(name, 0, format!("field [{}] is indexed in another way", spec.name)));
            }
            field.readers[i] = Some(reader);
        }
    }
    for (_, field) in fields {
        FieldMerge { field, origins: &origins, maps: &maps, with_value: Vec::new() }.run(&mut writer).await?;
    }
    let meta = writer.finish().await?;
    Ok(Merged { meta: Some(meta), maps })
}

struct FieldMerge<'a> {
    field: MergedField<'a>,
    origins: &'a Origins<'a>,
    maps: &'a [DocMap],
    /// New documents of sources with deletes that have a term or value.
    with_value: Vec<u64>,
}

impl FieldMerge<'_> {
    async fn run<S: Sink, P: Pace>(mut self, writer: &mut SegmentWriter<'_, S, P>) -> Result<()> {
        let doc_count = self.origins.doc_count();
        self.with_value = vec![0; (doc_count as usize).div_ceil(64)];
        let spec = self.field.spec.clone();
        let mut stats = FieldStats::default();
        let mut norms = None;
        if spec.norms {
            let all = self.norms();
            writer.norms(&all).await?;
            norms = Some(all);
        }
        if spec.terms != TermsOption::None || spec.column == ColumnKind::Ordinals {
            let ranks;
            (stats.sum_total_term_freq, stats.sum_doc_freq, ranks) = self.terms(norms.as_deref(), writer).await?;
            if spec.column == ColumnKind::Ordinals {
                self.ordinals(&ranks, writer).await?;
            }
        }
        if spec.column == ColumnKind::Numbers {
            self.numbers(writer).await?;
        }
        if spec.points {
            self.points(writer).await?;
        }
        if self.field.readers.iter().flatten().any(|r| r.has_unknown_occurrences()) {
            writer
                .lengths(|doc| {
                    let (source, old) = self.origins.locate(doc);
                    self.field.readers[source].map_or(0, |r| r.unknown_occurrences(old))
                })
                .await?;
        }
        stats.doc_count = self.with_value.iter().map(|w| w.count_ones()).sum();
        for (reader, map) in self.field.readers.iter().zip(self.maps) {
            if let (Some(reader), None) = (reader, &map.new) {
                stats.doc_count += reader.doc_count();
            }
        }
        writer.end_field(spec, stats);
        Ok(())
    }

    fn norms(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.origins.doc_count() as usize);
        for (i, reader) in self.field.readers.iter().enumerate() {
            let end = self.origins.bases[i + 1] as usize;
            if let Some(norms) = reader.and_then(FieldReader::norms) {
                match &self.origins.live[i] {
                    None => all.extend_from_slice(norms),
                    Some(docs) => all.extend(docs.iter().map(|&d| norms[d as usize])),
                }
            }
            all.resize(end, 0);
        }
        all
    }

    /// The new document of `old`; notes that it has the field.
    #[inline]
    fn map(&mut self, source: usize, old: DocId) -> Option<DocId> {
        let map = &self.maps[source];
        let doc = map.get(old)?;
        if map.new.is_some() {
            self.with_value[doc as usize / 64] |= 1 << (doc % 64);
        }
        Some(doc)
    }

    /// Dictionary and postings; sums of frequencies, and per source the new ordinal of each old one.
    async fn terms<S: Sink, P: Pace>(
        &mut self,
        norms: Option<&[u8]>,
        writer: &mut SegmentWriter<'_, S, P>,
    ) -> Result<(u64, u64, Vec<Vec<u32>>)> {
        let option = self.field.spec.terms;
        let readers = self.field.readers.clone();
        let with_ordinals = self.field.spec.column == ColumnKind::Ordinals;
        let dictionaries: Vec<_> = readers.iter().map(|r| r.and_then(FieldReader::dictionary)).collect();
        let mut ranks: Vec<Vec<u32>> = dictionaries
            .iter()
            .map(|d| vec![0; if with_ordinals { d.map_or(0, |d| d.len() as usize) } else { 0 }])
            .collect();
        let mut used = Vec::new();
        if option == TermsOption::None {
            for (i, reader) in readers.iter().enumerate() {
                used.push(self.used_ordinals(i, reader.and_then(FieldReader::ordinals), writer).await?);
            }
        }
        let mut cursors: Vec<_> = dictionaries.iter().map(|d| d.map(|d| d.iter())).collect();
        let mut heap = BinaryHeap::new();
        for (i, cursor) in cursors.iter_mut().enumerate() {
            if let Some((_, term)) = cursor.as_mut().and_then(|c| c.peek()) {
                heap.push(Reverse((term.to_vec(), i)));
            }
        }
        writer.begin_inverted().await?;
        let mut inverted = InvertedWriter::new(option, norms);
        let (mut term, mut positions) = (Vec::new(), Vec::new());
        let mut group: Vec<(usize, u64)> = Vec::new();
        let (mut next_rank, mut work) = (0u32, 0u32);
        while let Some(Reverse((first, _))) = heap.peek() {
            term.clear();
            term.extend_from_slice(first);
            group.clear();
            let mut found = false;
            while let Some(mut top) = heap.peek_mut()
                && top.0.0 == term
            {
                let i = top.0.1;
                let cursor = cursors[i].as_mut().expect("it gave a term");
                let ordinal = cursor.peek().expect("it gave a term").0;
                let info = cursor.consume();
                group.push((i, ordinal));
                match cursor.peek() {
                    Some((_, next)) => {
                        top.0.0.clear();
                        top.0.0.extend_from_slice(next);
                        drop(top);
                    }
                    None => {
                        PeekMut::pop(top);
                    }
                }
                if option == TermsOption::None {
                    found |= used[i].as_ref().is_none_or(|u| u[ordinal as usize / 64] >> (ordinal % 64) & 1 == 1);
                    continue;
                }
                let index = readers[i].and_then(FieldReader::terms).expect("it gave a term");
                let want = match option {
                    TermsOption::Positions => Want::Positions,
                    TermsOption::Freqs => Want::Freqs,
                    _ => Want::Docs,
                };
                let mut postings = index.postings(&info, want);
                loop {
                    let old = postings.next();
                    if old == NO_MORE_DOCS {
                        break;
                    }
                    work += 1;
                    let Some(doc) = self.map(i, old) else { continue };
                    if !found {
                        inverted.start_term();
                        found = true;
                    }
                    inverted.push(doc, postings.freq().max(1), norms.map_or(NO_NORM, |n| n[doc as usize]));
                    if option == TermsOption::Positions {
                        postings.positions(&mut positions);
                        let mut before = 0;
                        for &position in &positions {
                            inverted.push_position(position.wrapping_sub(before) & i32::MAX as u32);
                            before = position;
                        }
                        work += positions.len() as u32;
                    }
                    if work >= PACE_POSTINGS {
                        work = 0;
                        inverted.flush_partial(&mut writer.file).await?;
                        writer.give_way().await?;
                    }
                }
            }
            if !found {
                continue;
            }
            if option == TermsOption::None {
                inverted.push_term(&term);
            } else {
                inverted.finish_term(&term);
            }
            if with_ordinals {
                group.iter().for_each(|&(i, ordinal)| ranks[i][ordinal as usize] = next_rank);
                next_rank += 1;
            }
            inverted.flush(&mut writer.file).await?;
            work += 8;
            if work >= PACE_POSTINGS {
                work = 0;
                writer.give_way().await?;
            }
        }
        let (total, docs) = writer.end_inverted(inverted).await?;
        Ok((total, docs, ranks))
    }

    /// Which ordinals a live document has; none if all are live.
    async fn used_ordinals<S: Sink, P: Pace>(
        &self,
        source: usize,
        column: Option<&OrdinalColumn>,
        writer: &SegmentWriter<'_, S, P>,
    ) -> Result<Option<Vec<u64>>> {
        let (Some(column), Some(live)) = (column, &self.origins.live[source]) else { return Ok(None) };
        let mut used = vec![0u64; (column.ordinal_count() as usize).div_ceil(64)];
        let mut ordinals = Vec::new();
        for docs in live.chunks(PACE_DOCS as usize) {
            for &doc in docs {
                column.values(doc, &mut ordinals);
                ordinals.iter().for_each(|&o| used[o as usize / 64] |= 1 << (o % 64));
            }
            writer.give_way().await?;
        }
        Ok(Some(used))
    }

    async fn ordinals<S: Sink, P: Pace>(
        &mut self,
        ranks: &[Vec<u32>],
        writer: &mut SegmentWriter<'_, S, P>,
    ) -> Result<()> {
        let mut ordinals = Vec::new();
        writer
            .column(|doc, out| {
                let (source, old) = self.origins.locate(doc);
                let Some(column) = self.field.readers[source].and_then(FieldReader::ordinals) else { return };
                column.values(old, &mut ordinals);
                if !ordinals.is_empty() {
                    self.map(source, old);
                }
                out.extend(ordinals.iter().map(|&o| u64::from(ranks[source][o as usize])));
                if !out.is_sorted() {
                    out.sort_unstable();
                }
            })
            .await
    }

    async fn numbers<S: Sink, P: Pace>(&mut self, writer: &mut SegmentWriter<'_, S, P>) -> Result<()> {
        writer
            .column(|doc, out| {
                let (source, old) = self.origins.locate(doc);
                let Some(column) = self.field.readers[source].and_then(FieldReader::numbers) else { return };
                column.values(old, out);
                if !out.is_empty() {
                    self.map(source, old);
                }
                if !out.is_sorted() {
                    out.sort_unstable();
                }
            })
            .await
    }

    async fn points<S: Sink, P: Pace>(&mut self, writer: &mut SegmentWriter<'_, S, P>) -> Result<()> {
        struct Walk {
            block: usize,
            next: usize,
            values: Vec<u64>,
            docs: Vec<DocId>,
        }
        let mut walks: Vec<Walk> = (0..self.field.readers.len())
            .map(|_| Walk { block: 0, next: 0, values: Vec::new(), docs: Vec::new() })
            .collect();
        let mut heap: BinaryHeap<Reverse<(u64, DocId, usize)>> = BinaryHeap::new();
        for (i, walk) in walks.iter_mut().enumerate() {
            heap.extend(self.next_point(i, &mut walk.block, &mut walk.next, (&mut walk.values, &mut walk.docs)));
        }
        let mut points = writer.begin_points().await?;
        let mut largest = 0;
        let mut work = 0u32;
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((value, doc, i)) = *top;
            let walk = &mut walks[i];
            match self.next_point(i, &mut walk.block, &mut walk.next, (&mut walk.values, &mut walk.docs)) {
                Some(next) => {
                    *top = next;
                    drop(top);
                }
                None => {
                    PeekMut::pop(top);
                }
            }
            // Damage must not make the result unsorted.
            largest = value.max(largest);
            points.push(largest, doc);
            work += 1;
            if work.is_multiple_of(PACE_DOCS) {
                writer.drain_points(&mut points).await?;
                writer.give_way().await?;
            }
        }
        writer.end_points(points).await
    }

    /// The next live pair of a source.
    fn next_point(
        &mut self,
        source: usize,
        block: &mut usize,
        next: &mut usize,
        (values, docs): (&mut Vec<u64>, &mut Vec<DocId>),
    ) -> Option<Reverse<(u64, DocId, usize)>> {
        let points = self.field.readers[source]?.points()?;
        loop {
            if *next >= docs.len() {
                points.block_pairs(*block, values, docs)?;
                *block += 1;
                *next = 0;
            }
            while *next < docs.len() {
                let (value, old) = (values[*next], docs[*next]);
                *next += 1;
                if old < self.maps[source].doc_count
                    && let Some(doc) = self.map(source, old)
                {
                    return Some(Reverse((value, doc, source)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Unpaced;
    use crate::segment::file::CHECKED_LEN;
    use crate::segment::model::{ModelDoc, Random, build, build_beside, check, open, random_docs};
    use crate::store::FileBytes;
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    fn check_merge(seed: u64, counts: &[usize]) {
        let mut r = Random(seed);
        let mut sources = Vec::new();
        let mut models: Vec<Vec<ModelDoc>> = Vec::new();
        for (i, &count) in counts.iter().enumerate() {
            let mut docs = random_docs(&mut r, count, i as i64 * 10_000);
            if r.chance(30) {
                docs.iter_mut().for_each(|d| d.deleted = false);
            }
            if r.chance(10) {
                docs.iter_mut().for_each(|d| d.deleted = true);
            }
            let (image, live) = build(&docs, i as u64 + 1, Codec::Default);
            sources.push(MergeSource { reader: open(image, i as u64 + 1), live: live.map(Arc::new) });
            models.push(docs);
        }
        let mut image = Vec::new();
        let merged = block_on(merge(&sources, SegmentId(99), Codec::Default, &mut image, &Unpaced)).unwrap();
        let mut kept = Vec::new();
        for (docs, map) in models.iter().zip(&merged.maps) {
            for (old, doc) in docs.iter().enumerate() {
                let expected = (!doc.deleted).then_some(kept.len() as u32);
                assert_eq!(map.get(old as u32), expected);
                if !doc.deleted {
                    kept.push(doc.clone());
                }
            }
        }
        assert_eq!(merged.meta.is_some(), !kept.is_empty());
        if let Some(meta) = merged.meta {
            assert_eq!(meta.size_bytes, image.len() as u64);
            let reader = open(image, 99);
            assert_eq!(reader.meta(), meta);
            check(&reader, &kept, &mut r);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn merged_is_what_a_rebuild_would_be(seed in any::<u64>(), counts in proptest::collection::vec(1usize..120, 1..7)) {
            check_merge(seed, &counts);
        }
    }

    #[test]
    fn large_merges_keep_blocks_skips_and_positions_right() {
        check_merge(5, &[900, 1300, 40]);
        check_merge(6, &[2100]);
    }

    /// Documents with sources of about a kilobyte, alike.
    fn wordy(r: &mut Random, count: usize, first: i64) -> Vec<ModelDoc> {
        let mut docs = random_docs(r, count, first);
        for doc in &mut docs {
            let words: Vec<String> = (0..150).map(|_| format!("word{}", r.below(400) * r.below(30))).collect();
            doc.source = format!("{{\"id\": \"{}\", \"text\": \"{}\"}}", doc.id, words.join(" ")).into_bytes();
            doc.deleted = false;
        }
        docs
    }

    fn merged(sources: &[&Arc<SegmentReader>], live: Option<LiveDocs>, codec: Codec) -> Arc<SegmentReader> {
        let mut live = live.map(Arc::new);
        let source = |reader: &&Arc<SegmentReader>| MergeSource { reader: (*reader).clone(), live: live.take() };
        let sources: Vec<MergeSource> = sources.iter().map(source).collect();
        let (mut image, mut again) = (Vec::new(), Vec::new());
        block_on(merge(&sources, SegmentId(99), codec, &mut image, &Unpaced)).unwrap();
        block_on(merge(&sources, SegmentId(99), codec, &mut again, &Unpaced)).unwrap();
        assert!(image == again, "the same input gives the same bytes");
        open(image, 99)
    }

    #[test]
    fn dictionary_goes_from_segment_to_segment_and_merges_train_one_where_there_is_none() {
        let mut r = Random(3);
        let [large, small, tiny] = [(1200, 0), (600, 10_000), (5, 20_000)].map(|(n, first)| wordy(&mut r, n, first));
        let first = open(build(&large, 1, Codec::Default).0, 1);
        let dictionary = first.source_dictionary().expect("trained");
        assert_eq!(*build(&large, 1, Codec::Default).0, **first.bytes());
        let second = open(build_beside(&[&first], &large, 2, Codec::Default).0, 2);
        assert_eq!(second.source_dictionary(), Some(dictionary));
        let third = open(build_beside(&[&first], &tiny, 3, Codec::Default).0, 3);
        assert_eq!(third.source_dictionary(), None);
        for reader in [&first, &second] {
            check(reader, &large, &mut r);
            assert!(reader.sources().raw_len() > 2 * reader.bytes().len() as u64 / 3);
        }

        for codec in [Codec::Default, Codec::BestCompression] {
            let mut live = LiveDocs::all(large.len() as u32);
            (0..large.len() as u32).filter(|doc| doc % 17 == 3 || (300..400).contains(doc)).for_each(|doc| {
                live.delete(doc);
            });
            let kept = large.iter().enumerate().filter(|(doc, _)| live.is_live(*doc as u32)).map(|(_, d)| d);
            let kept: Vec<ModelDoc> = kept.chain(&tiny).chain(&large).cloned().collect();
            let all = merged(&[&first, &third, &second], Some(live), codec);
            assert_eq!(all.source_dictionary(), Some(dictionary));
            check(&all, &kept, &mut r);
        }

        let halves = [4, 5].map(|id| open(build(&small, id, Codec::Default).0, id));
        assert!(halves.iter().all(|s| s.source_dictionary().is_none()));
        let both = merged(&[&halves[0], &halves[1]], None, Codec::Default);
        assert!(both.source_dictionary().is_some_and(|d| d != dictionary));
        check(&both, &[small.clone(), small].concat(), &mut r);
    }

    #[test]
    fn what_is_damaged_is_not_merged_under_new_checksums() {
        let docs = wordy(&mut Random(3), 3000, 0);
        let (image, _) = build(&docs, 1, Codec::Default);
        let checked = (open(image.clone(), 1).blocks() - 1) * CHECKED_LEN;
        let mut opened = 0;
        for at in (100..checked).step_by(checked / 20) {
            let mut bad = image.clone();
            bad[at] ^= 1;
            let Ok(reader) = SegmentReader::open(SegmentId(1), FileBytes::new(bad)) else { continue };
            opened += 1;
            let source = MergeSource { reader: Arc::new(reader), live: None };
            let merged = block_on(merge(&[source], SegmentId(2), Codec::Default, &mut Vec::new(), &Unpaced));
            assert!(matches!(merged, Err(Error::Corrupt { .. })), "{at}");
        }
        assert!(opened > 5, "{opened}");
    }

    #[test]
    fn nothing_live_gives_no_segment() {
        let mut docs = random_docs(&mut Random(1), 3, 0);
        docs.iter_mut().for_each(|d| d.deleted = true);
        let (image, live) = build(&docs, 1, Codec::Default);
        let source = MergeSource { reader: open(image, 1), live: live.map(Arc::new) };
        let mut out = Vec::new();
        let merged = block_on(merge(&[source], SegmentId(2), Codec::Default, &mut out, &Unpaced)).unwrap();
        assert!(merged.meta.is_none() && out.is_empty());
    }
}

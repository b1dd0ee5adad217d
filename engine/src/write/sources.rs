//! The `_source` of buffered documents: the newest as they came, older ones packed as their segment will have them.
//!
//! A buffer that fills holds far more `_source` than anybody asks for before it is a segment. What is beyond the last
//! [`WINDOW`] bytes is therefore compressed while it fills, into the very blocks that the segment takes over. The same memory
//! then makes larger, that is fewer, segments, and a freeze has less to do. Blocks need the shard's dictionary; until there is
//! one everything stays as it came. Each document added packs at most [`PACKED_PER_DOCUMENT`], so nobody waits for a backlog.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::segment::Codec;
use crate::segment::source_dictionary::SourceDictionary;
use crate::segment::stored::{PackedBlock, Packer, Packing, unpack_one};
use crate::segment::train::Samples;

/// Bytes of sources that stay as they came; few for tests.
const WINDOW: usize = if cfg!(test) { 128 << 10 } else { 8 << 20 };
/// More than come, so that what came before there was a dictionary is caught up with.
const PACKED_PER_DOCUMENT: usize = 3;
const CHUNK_LEN: usize = 1 << 16;

/// Sources by document. See the module.
#[derive(Debug, Default)]
pub(crate) struct BufferedSources {
    /// Of all documents.
    source_len: u64,
    /// Documents before this are in blocks.
    packed_docs: DocId,
    /// Where each of the others is.
    places: VecDeque<Place>,
    chunks: Chunks,
    packed: Option<Packed>,
    /// There is no dictionary to be had.
    unpackable: bool,
}

/// Blocks, and what makes more of them.
struct Packed {
    codec: Codec,
    dictionary: Arc<SourceDictionary>,
    /// None when no more documents come.
    packer: Option<Packer>,
    blocks: Vec<Block>,
    chunks: Chunks,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} blocks, {:?})", self.blocks.len(), self.dictionary)
    }
}

#[derive(Debug)]
struct Block {
    first_doc: DocId,
    raw_len: u64,
    place: Place,
}

/// Bytes in a chunk.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: u32,
    offset: u32,
    len: u32,
}

/// Bytes that come at the end and go from the front, and are never moved.
#[derive(Debug, Default)]
struct Chunks {
    chunks: VecDeque<Vec<u8>>,
    /// How many chunks are gone.
    gone: u32,
    bytes: usize,
}

impl Chunks {
    /// Has `write` append bytes, at most `bound`.
    fn append(&mut self, bound: usize, write: impl FnOnce(&mut Vec<u8>)) -> Place {
        if self.chunks.back().is_none_or(|c| c.capacity() - c.len() < bound) {
            let chunk = Vec::with_capacity(CHUNK_LEN.max(bound));
            self.bytes += chunk.capacity();
            self.chunks.push_back(chunk);
        }
        let chunk = self.gone + self.chunks.len() as u32 - 1;
        let last = self.chunks.back_mut().expect("one has room");
        let start = last.len();
        write(last);
        Place { chunk, offset: start as u32, len: (last.len() - start) as u32 }
    }

    fn get(&self, place: Place) -> &[u8] {
        let start = place.offset as usize;
        &self.chunks[(place.chunk - self.gone) as usize][start..start + place.len as usize]
    }

    /// Frees the chunks before this one.
    fn free_before(&mut self, chunk: u32) {
        while self.gone < chunk {
            let gone = self.chunks.pop_front().expect("a later chunk is there");
            self.bytes -= gone.capacity();
            self.gone += 1;
        }
    }
}

impl BufferedSources {
    /// Adds the source of the next document.
    pub fn push(&mut self, source: &[u8]) {
        self.places.push_back(self.chunks.append(source.len(), |chunk| chunk.extend_from_slice(source)));
        self.source_len += source.len() as u64;
        for _ in 0..PACKED_PER_DOCUMENT {
            if self.chunks.bytes <= WINDOW || !self.pack_next() {
                break;
            }
        }
    }

    /// Packs the next document; false if that cannot be.
    fn pack_next(&mut self) -> bool {
        let Some(packed) = &mut self.packed else { return false };
        let Some(packer) = &mut packed.packer else { return false };
        let Some(&place) = self.places.get(packer.docs()) else { return false };
        if !packer.push(self.chunks.get(place)) {
            return true;
        }
        // Only now are they found in the block.
        let docs = packer.docs();
        let mut raw_len = 0;
        let place = packed.chunks.append(packer.bound(), |chunk| raw_len = packer.end_block(chunk));
        packed.blocks.push(Block { first_doc: self.packed_docs, raw_len, place });
        self.packed_docs += docs as DocId;
        self.places.drain(..docs);
        if let Some(first) = self.places.front() {
            self.chunks.free_before(first.chunk);
        }
        true
    }

    /// Appends the source of a document.
    ///
    /// # Errors
    /// `Corrupt` if memory is.
    pub fn get(&self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        if let Some(as_it_came) = doc.checked_sub(self.packed_docs) {
            out.extend_from_slice(self.chunks.get(self.places[as_it_came as usize]));
            return Ok(());
        }
        let packed = self.packed.as_ref().expect("documents are packed");
        let at = packed.blocks.partition_point(|b| b.first_doc <= doc) - 1;
        let block = self.block(packed, at);
        let index = (doc - packed.blocks[at].first_doc) as usize;
        unpack_one(&block, Some(&packed.dictionary), index, out)
            .map_err(|reason| Error::corrupt("indexing buffer", 0, format!("source block {at}: {reason}")))
    }

    fn block<'a>(&self, packed: &'a Packed, at: usize) -> PackedBlock<'a> {
        let end = packed.blocks.get(at + 1).map_or(self.packed_docs, |next| next.first_doc);
        let block = &packed.blocks[at];
        PackedBlock { docs: end - block.first_doc, raw_len: block.raw_len, bytes: packed.chunks.get(block.place) }
    }

    /// The block that begins with `doc`, if there is one, and how it is made.
    pub fn packed_block(&self, doc: DocId) -> Option<(Packing<'_>, PackedBlock<'_>)> {
        let packed = self.packed.as_ref()?;
        let at = packed.blocks.binary_search_by_key(&doc, |b| b.first_doc).ok()?;
        let packing = Packing { codec: packed.codec, dictionary: Some(&packed.dictionary) };
        Some((packing, self.block(packed, at)))
    }

    /// What blocks are packed with.
    pub fn dictionary(&self) -> Option<&Arc<SourceDictionary>> {
        self.packed.as_ref().map(|p| &p.dictionary)
    }

    /// Some of them, to learn a dictionary from.
    pub fn samples(&self) -> Result<Samples> {
        let mut samples = Samples::default();
        for run in Samples::runs(self.packed_docs + self.places.len() as DocId) {
            samples.add_run(run, |doc, out| self.get(doc, out))?;
        }
        Ok(samples)
    }

    /// Whether only a dictionary is missing to pack.
    pub fn wants_dictionary(&self) -> bool {
        self.chunks.bytes > WINDOW && self.packed.is_none() && !self.unpackable
    }

    /// Packs with this dictionary from now on; without one, or if it is of no use, never.
    pub fn pack_with(&mut self, codec: Codec, dictionary: Option<Arc<SourceDictionary>>) {
        self.unpackable = true;
        let Some(dictionary) = dictionary else { return };
        let packer = Packer::new(codec, Some(dictionary.clone()));
        if packer.packing().dictionary.is_some() {
            let (blocks, chunks) = Default::default();
            self.packed = Some(Packed { codec, dictionary, packer: Some(packer), blocks, chunks });
        }
    }

    /// No more documents come.
    pub fn seal(&mut self) {
        if let Some(packed) = &mut self.packed {
            packed.packer = None;
        }
    }

    /// Length of all documents.
    pub fn source_len(&self) -> u64 {
        self.source_len
    }

    /// Bytes in use, but for zstd's tables.
    pub fn memory_bytes(&self) -> usize {
        let packed = |p: &Packed| p.chunks.bytes + p.blocks.len() * size_of::<Block>();
        self.chunks.bytes + self.places.len() * size_of::<Place>() + self.packed.as_ref().map_or(0, packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::checks::Checks;
    use crate::segment::stored::tests::document;
    use crate::segment::stored::{SourceCache, SourceWriter, Sources};
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    /// As a segment takes them.
    fn segment(sources: &BufferedSources, codec: Codec, documents: &[Vec<u8>]) -> (Sources, usize) {
        let mut writer = SourceWriter::new(Packer::new(codec, sources.dictionary().cloned()));
        let (mut doc, mut taken) = (0, 0);
        while doc < documents.len() {
            match sources.packed_block(doc as DocId).filter(|(packing, block)| writer.takes(*packing, block)) {
                Some((_, block)) => {
                    writer.push_block(&block);
                    doc += block.docs as usize;
                    taken += block.docs as usize;
                }
                None => {
                    let mut source = Vec::new();
                    sources.get(doc as DocId, &mut source).unwrap();
                    writer.push(&source);
                    doc += 1;
                }
            }
        }
        let dictionary = sources.dictionary().cloned();
        let bytes = writer.finish().into();
        (Sources::open(&bytes, codec, dictionary, documents.len() as u32, Checks::default(), "t").unwrap(), taken)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn documents_come_back_from_buffer_and_segment(
            lens in proptest::collection::vec(prop_oneof![8 => 0usize..900, 1 => 0usize..20_000], 0..1500),
            late in 0usize..400, best: bool, other_codec: bool,
        ) {
            let codec = if best { Codec::BestCompression } else { Codec::Default };
            let documents: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, len)| document(n, *len)).collect();
            let mut sources = BufferedSources::default();
            let mut wanted_at = None;
            for (n, document) in documents.iter().enumerate() {
                sources.push(document);
                if sources.wants_dictionary() {
                    // Training takes its time.
                    if n >= *wanted_at.get_or_insert(n) + late {
                        let learn = async {
                            let samples = sources.samples().unwrap();
                            samples.dictionary(sources.source_len(), &[], &crate::pace::Unpaced).await
                        };
                        let dictionary = block_on(learn);
                        sources.pack_with(codec, dictionary);
                        prop_assert!(!sources.wants_dictionary());
                    }
                }
                for doc in [n, n / 2, n.saturating_sub(200)] {
                    let mut out = b"x".to_vec();
                    sources.get(doc as DocId, &mut out).unwrap();
                    prop_assert_eq!(&out[1..], &documents[doc]);
                }
            }
            let total: usize = documents.iter().map(Vec::len).sum();
            prop_assert_eq!(sources.source_len(), total as u64);
            let unpacked: usize = documents[sources.packed_docs as usize..].iter().map(Vec::len).sum();
            // Once it has begun and caught up, not much more than the window is left.
            let begun = wanted_at.map_or(documents.len(), |at| at + late);
            if sources.packed.is_some() && documents.len() > begun + begun {
                prop_assert!(unpacked <= 2 * WINDOW + (64 << 10), "{} of {}", unpacked, total);
                prop_assert!(sources.memory_bytes() < total, "{} for {}", sources.memory_bytes(), total);
            }
            sources.seal();
            let codec = if other_codec { Codec::BestCompression } else { codec };
            let (rows, taken) = segment(&sources, codec, &documents);
            let alike = sources.packed.as_ref().is_some_and(|p| p.codec == codec);
            prop_assert_eq!(taken, if alike { sources.packed_docs as usize } else { 0 });
            prop_assert_eq!(rows.raw_len(), total as u64);
            let mut cache = SourceCache::default();
            for (doc, expected) in documents.iter().enumerate() {
                let mut out = Vec::new();
                rows.get(doc as DocId, &mut cache, &mut out).unwrap();
                prop_assert_eq!(&out, expected);
            }
        }
    }

    #[test]
    fn nothing_is_packed_without_a_dictionary() {
        let mut sources = BufferedSources::default();
        (0..WINDOW / 500).for_each(|n| sources.push(&document(n, 1000)));
        assert!(sources.wants_dictionary());
        sources.pack_with(Codec::Default, None);
        assert!(!sources.wants_dictionary() && sources.packed_block(0).is_none());
        let broken = SourceDictionary::new(7, [&[0x37, 0xa4, 0x30, 0xec][..], &[0xff; 60]].concat());
        sources.pack_with(Codec::Default, Some(Arc::new(broken)));
        sources.push(b"{}");
        assert!(sources.dictionary().is_none() && sources.packed_block(0).is_none());
    }
}

//! `_source` rows in compressed blocks.
//!
//! ```text
//! blocks    per block: varint length of each document; the documents back to back, as a zstd frame without its magic
//! index     first document of each block, then the document count; see `linear`
//! offsets   of each block, then the end of the last; see `linear`
//! tail      24 bytes: length of all documents u64, length of index u64, length of offsets u64
//! ```
//!
//! A block is closed by the document that makes it long enough, so no document spans blocks, or by its 256th:
//!
//! | codec | with the segment's dictionary | without |
//! |---|---|---|
//! | default | 512 bytes, level 1 | 4 KiB, level 1 |
//! | best compression | 16 KiB, level 6 | 64 KiB, level 6 |
//!
//! A get unpacks one block, unless its thread remembers it. With a dictionary (see `source_dictionary`) a block of two documents is smaller than one of dozens
//! without; only small segments have none, and those are soon merged. A merge takes a block over as it is when the
//! dictionary is the same and none of its documents is deleted, unless it is a short one: those are packed anew.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use zstd::zstd_safe::{CCtx, DCtx, compress_bound, get_error_name};

use crate::codec::put_varint;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::segment::Codec;
use crate::segment::checks::Checks;
use crate::segment::dictionary::read_varint;
use crate::segment::linear::{Linear, LinearWriter};
use crate::segment::source_dictionary::SourceDictionary;

/// No block unpacks to more: a request body is far smaller.
const RAW_LEN_MAX: u64 = 1 << 30;
/// Bytes that zstd makes of one, at most: 128 KiB of a block of 4.
const EXPANSION_MAX: u64 = 32 << 10;
const BLOCK_DOCS_MAX: usize = 256;
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
const TAIL_LEN: usize = 24;
/// Looks for a document's block along a line, before the search by halves.
const LINEAR_LOOKS: u32 = 6;

/// Bytes that close a block, and the level.
fn parameters(codec: Codec, with_dictionary: bool) -> (usize, i32) {
    match (codec, with_dictionary) {
        (Codec::Default, true) => (512, 1),
        (Codec::Default, false) => (4 << 10, 1),
        (Codec::BestCompression, true) => (16 << 10, 6),
        (Codec::BestCompression, false) => (64 << 10, 6),
    }
}

/// How blocks are made: those made alike can stand in one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Packing<'a> {
    pub codec: Codec,
    pub dictionary: Option<&'a SourceDictionary>,
}

/// A block as it lies in a segment.
#[derive(Debug)]
pub(crate) struct PackedBlock<'a> {
    /// Documents in it.
    pub docs: u32,
    pub raw_len: u64,
    /// Lengths and frame.
    pub bytes: &'a [u8],
}

/// Makes blocks of documents, one after the other. Memory: a block and zstd's tables.
pub(crate) struct Packer {
    raw: Vec<u8>,
    lengths: Vec<u8>,
    docs: usize,
    codec: Codec,
    dictionary: Option<Arc<SourceDictionary>>,
    block_len: usize,
    level: i32,
    context: CCtx<'static>,
    frame: Vec<u8>,
}

impl Packer {
    /// A dictionary that cannot be used is none: look at [`packing`](Self::packing) after.
    pub fn new(codec: Codec, dictionary: Option<Arc<SourceDictionary>>) -> Packer {
        let (_, level) = parameters(codec, true);
        let dictionary = dictionary.filter(|d| d.encoder(codec, level).is_some() && d.decoder().is_some());
        let (block_len, level) = parameters(codec, dictionary.is_some());
        Packer {
            raw: Vec::new(),
            lengths: Vec::new(),
            docs: 0,
            codec,
            dictionary,
            block_len,
            level,
            context: CCtx::create(),
            frame: Vec::new(),
        }
    }

    /// How.
    pub fn packing(&self) -> Packing<'_> {
        Packing { codec: self.codec, dictionary: self.dictionary.as_deref() }
    }

    /// Documents in the block to come.
    pub fn docs(&self) -> usize {
        self.docs
    }

    /// Adds the next document; whether the block should end with it.
    pub fn push(&mut self, source: &[u8]) -> bool {
        self.raw.extend_from_slice(source);
        put_varint(&mut self.lengths, source.len() as u64);
        self.docs += 1;
        self.raw.len() >= self.block_len || self.docs == BLOCK_DOCS_MAX
    }

    /// Whether so many bytes in so many documents are a long block.
    fn long(&self, len: usize, docs: usize) -> bool {
        len >= self.block_len / 2 || docs >= BLOCK_DOCS_MAX / 2
    }

    /// The most bytes that the block so far takes.
    pub fn bound(&self) -> usize {
        self.lengths.len() + compress_bound(self.raw.len())
    }

    /// Appends the block of the documents so far to `out`, and begins the next; bytes of its documents.
    pub fn end_block(&mut self, out: &mut Vec<u8>) -> u64 {
        out.extend_from_slice(&self.lengths);
        self.frame.clear();
        self.frame.reserve(compress_bound(self.raw.len()));
        match self.dictionary.as_ref().and_then(|d| d.encoder(self.codec, self.level)) {
            Some(encoder) => self.context.compress_using_cdict(&mut self.frame, &self.raw, encoder),
            None => self.context.compress(&mut self.frame, &self.raw, self.level),
        }
        .expect("room for the worst case");
        let frame = self.frame.strip_prefix(&MAGIC).expect("a frame begins with the magic");
        out.extend_from_slice(frame);
        let raw_len = self.raw.len() as u64;
        self.raw.clear();
        self.lengths.clear();
        self.docs = 0;
        raw_len
    }
}

/// Builds the rows. Memory: a block, and a few bits per document.
pub(crate) struct SourceWriter {
    /// Blocks ready to be written; drained by the owner.
    pub pending: Vec<u8>,
    drained: u64,
    docs: u64,
    raw_len: u64,
    first_docs: LinearWriter,
    offsets: LinearWriter,
    packer: Packer,
}

impl SourceWriter {
    pub fn new(packer: Packer) -> SourceWriter {
        SourceWriter {
            pending: Vec::new(),
            drained: 0,
            docs: 0,
            raw_len: 0,
            first_docs: LinearWriter::default(),
            offsets: LinearWriter::default(),
            packer,
        }
    }

    /// Adds the next document; whether a block was compressed.
    pub fn push(&mut self, source: &[u8]) -> bool {
        if self.packer.docs() == 0 {
            self.first_docs.push(self.docs);
        }
        self.docs += 1;
        let full = self.packer.push(source);
        if full {
            self.end_block();
        }
        full
    }

    /// Whether a block made like this can come next as it is: blocks stay long.
    pub fn takes(&self, packing: Packing<'_>, block: &PackedBlock<'_>) -> bool {
        let packer = &self.packer;
        packing == packer.packing()
            && (packer.docs == 0 || packer.long(packer.raw.len(), packer.docs))
            && packer.long(block.raw_len as usize, block.docs as usize)
    }

    /// Adds the documents of a block that [`takes`](Self::takes) allowed.
    pub fn push_block(&mut self, block: &PackedBlock<'_>) {
        if self.packer.docs() > 0 {
            self.end_block();
        }
        self.first_docs.push(self.docs);
        self.offsets.push(self.drained + self.pending.len() as u64);
        self.pending.extend_from_slice(block.bytes);
        self.docs += u64::from(block.docs);
        self.raw_len += block.raw_len;
    }

    fn end_block(&mut self) {
        self.offsets.push(self.drained + self.pending.len() as u64);
        self.raw_len += self.packer.end_block(&mut self.pending);
    }

    /// Says that `pending` was written and emptied.
    pub fn drained(&mut self, bytes: usize) {
        self.drained += bytes as u64;
    }

    /// Everything that is left.
    pub fn finish(mut self) -> Vec<u8> {
        if self.packer.docs() > 0 {
            self.end_block();
        }
        self.first_docs.push(self.docs);
        self.offsets.push(self.drained + self.pending.len() as u64);
        let mut out = self.pending;
        let start = out.len();
        self.first_docs.finish(&mut out);
        let index_len = out.len() - start;
        self.offsets.finish(&mut out);
        let offsets_len = out.len() - start - index_len;
        for number in [self.raw_len, index_len as u64, offsets_len as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }
}

/// The last decompressed `_source` block.
#[derive(Debug, Default)]
pub struct SourceCache {
    /// Whose ([`Sources::number`]) and which block.
    key: Option<(u64, usize)>,
    raw: Vec<u8>,
    /// Ends of the documents in `raw`.
    ends: Vec<usize>,
}

impl SourceCache {
    fn document(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.raw.get(start..end)
    }

    fn forget_huge(&mut self) {
        if self.raw.capacity() > KEPT_LEN_MAX {
            *self = SourceCache::default();
        }
    }
}

/// Blocks that a thread remembers of those it has unpacked for documents that came alone: what is asked for often is not
/// unpacked every time. Each has one place, by its number.
const REMEMBERED: usize = 64;

/// What decompressing needs and nobody keeps, and the remembered blocks.
struct Scratch {
    context: DCtx<'static>,
    frame: Vec<u8>,
    remembered: [SourceCache; REMEMBERED],
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        work(scratch.get_or_insert_with(|| Scratch {
            context: DCtx::create(),
            frame: MAGIC.to_vec(),
            remembered: std::array::from_fn(|_| SourceCache::default()),
        }))
    })
}

/// Bytes of a buffer that is kept for the next block; that of a huge one is not. All remembered blocks together take at most
/// 2 MiB a thread.
const KEPT_LEN_MAX: usize = 32 << 10;

/// Reads rows.
pub(crate) struct Sources {
    /// Nothing else in this process has it, ever.
    number: u64,
    blocks: Bytes,
    first_docs: Linear,
    offsets: Linear,
    raw_len: u64,
    codec: Codec,
    dictionary: Option<Arc<SourceDictionary>>,
    checks: Checks,
    name: String,
}

impl Sources {
    pub fn open(
        bytes: &Bytes,
        codec: Codec,
        dictionary: Option<Arc<SourceDictionary>>,
        doc_count: u32,
        checks: Checks,
        name: &str,
    ) -> Result<Sources> {
        let corrupt = || Error::corrupt(name, 0, "source blocks do not add up");
        let tail_at = bytes.len().checked_sub(TAIL_LEN).ok_or_else(corrupt)?;
        checks.touch(&bytes[tail_at..])?;
        let number = |i: usize| u64::from_le_bytes(bytes[tail_at + 8 * i..][..8].try_into().expect("8 bytes"));
        let offsets_at = tail_at.checked_sub(number(2) as usize).ok_or_else(corrupt)?;
        let index_at = offsets_at.checked_sub(number(1) as usize).ok_or_else(corrupt)?;
        let first_docs = Linear::open(bytes.slice(index_at..offsets_at), &checks, name)?;
        let offsets = Linear::open(bytes.slice(offsets_at..tail_at), &checks, name)?;
        let n = first_docs.len();
        if n == 0 || offsets.len() != n || first_docs.get(n - 1) != u64::from(doc_count) {
            return Err(corrupt());
        }
        let blocks = bytes.slice(..index_at);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Sources {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            blocks,
            first_docs,
            offsets,
            raw_len: number(0),
            codec,
            dictionary,
            checks,
            name: name.to_owned(),
        })
    }

    /// Length of all documents.
    pub fn raw_len(&self) -> u64 {
        self.raw_len
    }

    /// What the blocks are compressed with.
    pub fn dictionary(&self) -> Option<&Arc<SourceDictionary>> {
        self.dictionary.as_ref()
    }

    /// How the blocks were made.
    pub fn packing(&self) -> Packing<'_> {
        Packing { codec: self.codec, dictionary: self.dictionary.as_deref() }
    }

    /// The last block that begins with `doc` or before it. Blocks have about as many documents each, so the first looks go
    /// where the line through the ends says (four of them find one among 190,000); then halves are left.
    fn block_of(&self, doc: DocId) -> Result<usize> {
        let doc = u64::from(doc);
        let (mut low, mut high) = (0, self.first_docs.len() - 1);
        self.first_docs.touch(high, &self.checks)?;
        let (mut low_doc, mut high_doc) = (0, self.first_docs.get(high));
        let mut looks = 0;
        while low + 1 < high {
            let middle = if looks < LINEAR_LOOKS && low_doc <= doc && doc < high_doc {
                let guess = (doc - low_doc).wrapping_mul((high - low) as u64) / (high_doc - low_doc);
                low.saturating_add(guess as usize).clamp(low + 1, high - 1)
            } else {
                low + (high - low) / 2
            };
            looks += 1;
            self.first_docs.touch(middle, &self.checks)?;
            let first = self.first_docs.get(middle);
            if first <= doc {
                (low, low_doc) = (middle, first);
            } else {
                (high, high_doc) = (middle, first);
            }
        }
        Ok(low)
    }

    /// Appends a document's row to `out`. The block stays in `cache` for its other documents.
    pub fn get(&self, doc: DocId, cache: &mut SourceCache, out: &mut Vec<u8>) -> Result<()> {
        let block = self.block_of(doc)?;
        if cache.key != Some((self.number, block)) {
            with_scratch(|scratch| self.load(block, &mut scratch.context, &mut scratch.frame, cache))?;
        }
        self.copy(doc, block, cache, out)
    }

    /// Appends a document's row to `out`; for one that comes alone.
    pub fn get_one(&self, doc: DocId, out: &mut Vec<u8>) -> Result<()> {
        let block = self.block_of(doc)?;
        with_scratch(|Scratch { context, frame, remembered }| {
            let cache = &mut remembered[block.wrapping_add(self.number as usize) % REMEMBERED];
            if cache.key != Some((self.number, block)) {
                self.load(block, context, frame, cache)?;
            }
            self.copy(doc, block, cache, out)?;
            cache.forget_huge();
            Ok(())
        })
    }

    fn copy(&self, doc: DocId, block: usize, cache: &SourceCache, out: &mut Vec<u8>) -> Result<()> {
        let index = u64::from(doc).wrapping_sub(self.first_docs.get(block)) as usize;
        let document = cache.document(index).ok_or_else(|| self.corrupt(block, "document beyond its block"))?;
        out.extend_from_slice(document);
        Ok(())
    }

    fn corrupt(&self, block: usize, reason: &str) -> Error {
        Error::corrupt(self.name.clone(), self.offsets.get(block), format!("source block {block}: {reason}"))
    }

    /// Documents of a block, and its bytes.
    fn block(&self, block: usize) -> Result<(u64, &[u8])> {
        for edge in [block, block + 1] {
            self.offsets.touch(edge, &self.checks)?;
            self.first_docs.touch(edge, &self.checks)?;
        }
        let (start, end) = (self.offsets.get(block) as usize, self.offsets.get(block + 1) as usize);
        let bytes = self.blocks.get(start..end).ok_or_else(|| self.corrupt(block, "out of bounds"))?;
        self.checks.touch(bytes)?;
        Ok((self.first_docs.get(block + 1).wrapping_sub(self.first_docs.get(block)), bytes))
    }

    /// The block that begins with `doc`, if one does.
    pub fn packed_block(&self, doc: DocId) -> Result<Option<PackedBlock<'_>>> {
        let block = self.block_of(doc)?;
        if self.first_docs.get(block) != u64::from(doc) {
            return Ok(None);
        }
        let (docs, bytes) = self.block(block)?;
        let left = self.first_docs.get(self.first_docs.len() - 1).saturating_sub(u64::from(doc));
        if !(1..=left).contains(&docs) {
            return Err(self.corrupt(block, "impossible number of documents"));
        }
        let (raw_len, _) = lengths(docs, bytes, |_| {}).map_err(|reason| self.corrupt(block, reason))?;
        Ok(Some(PackedBlock { docs: docs as u32, raw_len, bytes }))
    }

    fn load(&self, block: usize, context: &mut DCtx<'_>, frame: &mut Vec<u8>, cache: &mut SourceCache) -> Result<()> {
        cache.key = None;
        let (docs, bytes) = self.block(block)?;
        let unpacked = unpack(docs, bytes, self.dictionary.as_deref(), context, frame, cache);
        unpacked.map_err(|reason| self.corrupt(block, reason))?;
        cache.key = Some((self.number, block));
        Ok(())
    }
}

/// Reads the lengths of a block's documents, and gives their ends to `each`; their sum, and the frame.
fn lengths(docs: u64, mut bytes: &[u8], mut each: impl FnMut(usize)) -> Result<(u64, &[u8]), &'static str> {
    let mut sum = 0u64;
    for _ in 0..docs {
        let len = read_varint(&mut bytes).ok_or("too few lengths")?;
        sum = sum.checked_add(len).filter(|&s| s <= RAW_LEN_MAX).ok_or("impossible length")?;
        each(sum as usize);
    }
    if sum > (bytes.len() as u64).saturating_mul(EXPANSION_MAX) {
        return Err("impossible length");
    }
    Ok((sum, bytes))
}

/// Fills the cache with a block; or what is wrong with that.
fn unpack(
    docs: u64,
    bytes: &[u8],
    dictionary: Option<&SourceDictionary>,
    context: &mut DCtx<'_>,
    frame: &mut Vec<u8>,
    cache: &mut SourceCache,
) -> Result<(), &'static str> {
    cache.ends.clear();
    let (raw_len, compressed) = lengths(docs, bytes, |end| cache.ends.push(end))?;
    let raw_len = raw_len as usize;
    frame.truncate(MAGIC.len());
    frame.extend_from_slice(compressed);
    cache.raw.clear();
    // Not filled: what a wrong length reserves too much is never touched.
    cache.raw.try_reserve_exact(raw_len).map_err(|_| "no memory for it")?;
    let unpacked = match dictionary {
        None => context.decompress(&mut cache.raw, frame),
        Some(dictionary) => {
            let decoder = dictionary.decoder().ok_or("its dictionary is none")?;
            context.decompress_using_ddict(&mut cache.raw, frame, decoder)
        }
    };
    if frame.capacity() > KEPT_LEN_MAX {
        *frame = MAGIC.to_vec();
    }
    match unpacked {
        Ok(n) if n == raw_len => Ok(()),
        Ok(_) => Err("not as long as it says"),
        Err(code) => Err(get_error_name(code)),
    }
}

/// Appends document `index` of a block that is in no segment yet.
pub(crate) fn unpack_one(
    block: &PackedBlock<'_>,
    dictionary: Option<&SourceDictionary>,
    index: usize,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    with_scratch(|Scratch { context, frame, .. }| {
        let cache = &mut SourceCache::default();
        unpack(u64::from(block.docs), block.bytes, dictionary, context, frame, cache)?;
        out.extend_from_slice(cache.document(index).ok_or("document beyond its block")?);
        Ok(())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::segment::train::Samples;
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    pub(crate) fn document(n: usize, len: usize) -> Vec<u8> {
        let mut out = format!("{{\"n\": {n}, \"what all documents have in common\": \"").into_bytes();
        (0..len).for_each(|i| out.push(b'a' + (n * 31 + i * i * 7) as u8 % 20));
        out
    }

    fn dictionary(salt: usize) -> Arc<SourceDictionary> {
        let mut samples = Samples::default();
        for run in 0..100 {
            let add = |doc, out: &mut Vec<u8>| {
                out.extend_from_slice(&document(salt + doc as usize, 50));
                Ok(())
            };
            samples.add_run(run * 20..run * 20 + 20, add).unwrap();
        }
        let content = block_on(samples.train(&crate::pace::Unpaced)).unwrap();
        Arc::new(SourceDictionary::new(1, content))
    }

    fn open(bytes: Vec<u8>, codec: Codec, dictionary: Option<Arc<SourceDictionary>>, docs: usize) -> Sources {
        Sources::open(&bytes.into(), codec, dictionary, docs as u32, Checks::default(), "t").unwrap()
    }

    fn pack(documents: &[Vec<u8>], codec: Codec, dictionary: Option<&Arc<SourceDictionary>>) -> Sources {
        let mut writer = SourceWriter::new(Packer::new(codec, dictionary.cloned()));
        documents.iter().for_each(|d| {
            writer.push(d);
        });
        open(writer.finish(), codec, dictionary.cloned(), documents.len())
    }

    fn check(rows: &Sources, documents: &[Vec<u8>]) {
        assert_eq!(rows.raw_len(), documents.iter().map(|d| d.len() as u64).sum::<u64>());
        let mut cache = SourceCache::default();
        for (doc, expected) in documents.iter().enumerate() {
            let mut out = b"x".to_vec();
            rows.get(doc as u32, &mut cache, &mut out).unwrap();
            rows.get_one(doc as u32, &mut out).unwrap();
            assert_eq!(out, [b"x", &expected[..], &expected[..]].concat());
        }
    }

    fn documents() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let len = prop_oneof![4 => 0usize..60, 2 => 0usize..3000, 1 => 0usize..40_000];
        let lens =
            prop_oneof![4 => proptest::collection::vec(len, 0..120), 1 => proptest::collection::vec(Just(0usize), 600)];
        lens.prop_map(|lens| {
            lens.into_iter().enumerate().map(|(n, len)| if len == 0 { Vec::new() } else { document(n, len) }).collect()
        })
    }

    fn codecs() -> impl Strategy<Value = Codec> {
        prop_oneof![3 => Just(Codec::Default), 1 => Just(Codec::BestCompression)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rows_come_back(documents in documents(), codec in codecs(), with: bool) {
            let dictionary = with.then(|| dictionary(0));
            check(&pack(&documents, codec, dictionary.as_ref()), &documents);
        }

        #[test]
        fn blocks_taken_over_are_the_documents_written_anew(
            a in documents(), b in documents(), codec in codecs(), with: bool, deleted in proptest::collection::vec(0u8..30, 600),
        ) {
            let dictionary = with.then(|| dictionary(0));
            let sources = [pack(&a, codec, dictionary.as_ref()), pack(&b, codec, dictionary.as_ref())];
            let mut writer = SourceWriter::new(Packer::new(codec, dictionary.clone()));
            let (mut expected, mut taken) = (Vec::new(), 0);
            for (rows, documents) in sources.iter().zip([&a, &b]) {
                let live = |doc: usize| deleted[doc] != 0;
                let mut doc = 0;
                while doc < documents.len() {
                    if let Some(block) = rows.packed_block(doc as u32).unwrap()
                        && (doc..doc + block.docs as usize).all(live)
                        && writer.takes(rows.packing(), &block)
                    {
                        writer.push_block(&block);
                        expected.extend_from_slice(&documents[doc..doc + block.docs as usize]);
                        doc += block.docs as usize;
                        taken += block.docs;
                        continue;
                    }
                    if live(doc) {
                        writer.push(&documents[doc]);
                        expected.push(documents[doc].clone());
                    }
                    doc += 1;
                }
            }
            let rows = open(writer.finish(), codec, dictionary.clone(), expected.len());
            check(&rows, &expected);
            let total: usize = expected.iter().map(Vec::len).sum();
            let blocks = rows.first_docs.len() - 1;
            let (block_len, _) = parameters(codec, with);
            // Each is at least half as long as it should be, but for one between two taken over, and the last of all.
            prop_assert!(blocks <= 4 * total / block_len + expected.len() / (BLOCK_DOCS_MAX / 4) + 3, "{} of {}", blocks, total);
            prop_assert!(taken as usize <= expected.len());
        }

        #[test]
        fn damage_is_an_error_or_another_document(documents in documents(), seed in any::<u64>(), with: bool) {
            let dictionary = with.then(|| dictionary(0));
            let mut writer = SourceWriter::new(Packer::new(Codec::Default, dictionary.clone()));
            documents.iter().for_each(|d| { writer.push(d); });
            let image = writer.finish();
            let mut r = crate::segment::model::Random(seed);
            for _ in 0..30 {
                let mut bad = image.clone();
                for _ in 0..1 + r.below(4) {
                    let at = r.below(image.len() as u64) as usize;
                    bad[at] = r.below(256) as u8;
                }
                let Ok(rows) = Sources::open(&bad.into(), Codec::Default, dictionary.clone(), documents.len() as u32, Checks::default(), "t") else { continue };
                let mut out = Vec::new();
                for doc in 0..documents.len() as u32 {
                    let _ = rows.get_one(doc, &mut out);
                    let _ = rows.get(doc, &mut SourceCache::default(), &mut out);
                    let _ = rows.packed_block(doc);
                    out.clear();
                }
            }
        }
    }

    #[test]
    fn blocks_of_another_dictionary_or_codec_are_not_taken_over() {
        let documents: Vec<Vec<u8>> = (0..100).map(|n| document(n, 500)).collect();
        let (one, two) = (dictionary(0), dictionary(5000));
        assert_ne!(one, two);
        let takes = |from: (Codec, Option<&Arc<SourceDictionary>>), to: (Codec, Option<&Arc<SourceDictionary>>)| {
            let rows = pack(&documents, from.0, from.1);
            SourceWriter::new(Packer::new(to.0, to.1.cloned()))
                .takes(rows.packing(), &rows.packed_block(0).unwrap().unwrap())
        };
        use Codec::{BestCompression, Default};
        assert!(takes((Default, Some(&one)), (Default, Some(&dictionary(0)))));
        assert!(takes((Default, None), (Default, None)));
        assert!(!takes((Default, Some(&one)), (Default, Some(&two))));
        assert!(!takes((Default, Some(&one)), (Default, None)));
        assert!(!takes((Default, None), (Default, Some(&one))));
        assert!(!takes((Default, Some(&one)), (BestCompression, Some(&one))));
    }

    #[test]
    fn rows_read_with_another_dictionary_or_none_are_an_error_or_wrong_but_no_panic() {
        let documents: Vec<Vec<u8>> = (0..50).map(|n| document(n, 500)).collect();
        let mut writer = SourceWriter::new(Packer::new(Codec::Default, Some(dictionary(0))));
        documents.iter().for_each(|d| {
            writer.push(d);
        });
        let image = writer.finish();
        let broken = SourceDictionary::new(7, [&[0x37, 0xa4, 0x30, 0xec][..], &[0xff; 60]].concat());
        for other in [None, Some(dictionary(5000)), Some(Arc::new(broken))] {
            let rows = open(image.clone(), Codec::Default, other, documents.len());
            let right = (0..50).filter(|&doc| {
                let mut out = Vec::new();
                rows.get_one(doc, &mut out).is_ok() && out == documents[doc as usize]
            });
            assert_eq!(right.count(), 0);
        }
    }
}

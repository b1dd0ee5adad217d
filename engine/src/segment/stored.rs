//! `_source` rows in compressed blocks.
//!
//! ```text
//! blocks    per block: varint raw length; varint length of each document; the documents back to back, compressed
//! index     first document of each block, then the document count; see `linear`
//! offsets   of each block, then the end of the last; see `linear`
//! tail      16 bytes: length of index u64, length of offsets u64
//! ```
//!
//! A block is closed by the document that makes it 32 KiB (LZ4) or 64 KiB (zstd), so no document spans blocks.
//! LZ4 blocks have no frame; zstd ones are one frame.

use bytes::Bytes;

use crate::codec::put_varint;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::segment::Codec;
use crate::segment::dictionary::read_varint;
use crate::segment::linear::{Linear, LinearWriter};

const LZ4_BLOCK: usize = 32 << 10;
const ZSTD_BLOCK: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 3;
/// No block unpacks to more: a request body is far smaller.
const RAW_LEN_MAX: usize = 1 << 30;

/// Builds the rows. Memory: a block, and a few bits per document.
pub(crate) struct SourceWriter {
    /// Blocks ready to be written; drained by the owner.
    pub pending: Vec<u8>,
    drained: u64,
    raw: Vec<u8>,
    lengths: Vec<u8>,
    docs: u64,
    first_docs: LinearWriter,
    offsets: LinearWriter,
    block_len: usize,
    lz4_table: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl SourceWriter {
    pub fn new(codec: Codec) -> SourceWriter {
        let zstd = match codec {
            Codec::Default => None,
            Codec::BestCompression => Some(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("a valid level")),
        };
        SourceWriter {
            pending: Vec::new(),
            drained: 0,
            raw: Vec::new(),
            lengths: Vec::new(),
            docs: 0,
            first_docs: LinearWriter::default(),
            offsets: LinearWriter::default(),
            block_len: if zstd.is_some() { ZSTD_BLOCK } else { LZ4_BLOCK },
            lz4_table: Vec::new(),
            zstd,
        }
    }

    /// Adds the next document; whether a block was compressed.
    pub fn push(&mut self, source: &[u8]) -> bool {
        if self.lengths.is_empty() {
            self.first_docs.push(self.docs);
        }
        self.raw.extend_from_slice(source);
        put_varint(&mut self.lengths, source.len() as u64);
        self.docs += 1;
        let full = self.raw.len() >= self.block_len;
        if full {
            self.end_block();
        }
        full
    }

    fn end_block(&mut self) {
        self.offsets.push(self.drained + self.pending.len() as u64);
        put_varint(&mut self.pending, self.raw.len() as u64);
        self.pending.extend_from_slice(&self.lengths);
        match &mut self.zstd {
            None => {
                let bound = lz4_flex::block::get_maximum_output_size(self.raw.len());
                self.lz4_table.resize(bound, 0);
                let n =
                    lz4_flex::block::compress_into(&self.raw, &mut self.lz4_table).expect("room for the worst case");
                self.pending.extend_from_slice(&self.lz4_table[..n]);
            }
            Some(zstd) => {
                let block = zstd.compress(&self.raw).expect("memory to memory");
                self.pending.extend_from_slice(&block);
            }
        }
        self.raw.clear();
        self.lengths.clear();
    }

    /// Says that `pending` was written and emptied.
    pub fn drained(&mut self, bytes: usize) {
        self.drained += bytes as u64;
    }

    /// Everything that is left.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.lengths.is_empty() {
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
        out.extend_from_slice(&(index_len as u64).to_le_bytes());
        out.extend_from_slice(&(offsets_len as u64).to_le_bytes());
        out
    }
}

/// The last decompressed `_source` block.
#[derive(Debug, Default)]
pub struct SourceCache {
    /// Which segment's (address of its sections) and which block.
    key: Option<(usize, usize)>,
    raw: Vec<u8>,
    /// Ends of the documents in `raw`.
    ends: Vec<usize>,
    zstd: Option<ZstdDecoder>,
}

struct ZstdDecoder(zstd::bulk::Decompressor<'static>);

impl std::fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ZstdDecoder")
    }
}

/// Reads rows.
pub(crate) struct Sources {
    blocks: Bytes,
    first_docs: Linear,
    offsets: Linear,
    codec: Codec,
    name: String,
}

impl Sources {
    pub fn open(bytes: &Bytes, codec: Codec, doc_count: u32, name: &str) -> Result<Sources> {
        let corrupt = || Error::corrupt(name, 0, "source blocks do not add up");
        let tail_at = bytes.len().checked_sub(16).ok_or_else(corrupt)?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        let offsets_at = tail_at.checked_sub(number(tail_at + 8)).ok_or_else(corrupt)?;
        let index_at = offsets_at.checked_sub(number(tail_at)).ok_or_else(corrupt)?;
        let first_docs = Linear::open(bytes.slice(index_at..offsets_at), name)?;
        let offsets = Linear::open(bytes.slice(offsets_at..tail_at), name)?;
        let n = first_docs.len();
        if n == 0 || offsets.len() != n || first_docs.get(n - 1) != u64::from(doc_count) {
            return Err(corrupt());
        }
        Ok(Sources { blocks: bytes.slice(..index_at), first_docs, offsets, codec, name: name.to_owned() })
    }

    fn block_of(&self, doc: DocId) -> usize {
        let (mut low, mut high) = (0, self.first_docs.len() - 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.first_docs.get(middle) <= u64::from(doc) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Appends a document's row to `out`.
    pub fn get(&self, doc: DocId, cache: &mut SourceCache, out: &mut Vec<u8>) -> Result<()> {
        let block = self.block_of(doc);
        let key = (self.blocks.as_ptr() as usize, block);
        if cache.key != Some(key) {
            cache.key = None;
            self.load(block, cache)?;
            cache.key = Some(key);
        }
        let index = u64::from(doc).wrapping_sub(self.first_docs.get(block)) as usize;
        let Some(&end) = cache.ends.get(index) else {
            return Err(self.corrupt(block, "document beyond its block"));
        };
        let start = if index == 0 { 0 } else { cache.ends[index - 1] };
        out.extend_from_slice(&cache.raw[start..end]);
        Ok(())
    }

    fn corrupt(&self, block: usize, reason: &str) -> Error {
        Error::corrupt(self.name.clone(), self.offsets.get(block), format!("source block {block}: {reason}"))
    }

    fn load(&self, block: usize, cache: &mut SourceCache) -> Result<()> {
        let bad = |reason: &str| self.corrupt(block, reason);
        let (start, end) = (self.offsets.get(block) as usize, self.offsets.get(block + 1) as usize);
        let mut bytes = self.blocks.get(start..end).ok_or_else(|| bad("out of bounds"))?;
        let raw_len = read_varint(&mut bytes).ok_or_else(|| bad("no length"))?;
        let docs = self.first_docs.get(block + 1).wrapping_sub(self.first_docs.get(block));
        cache.ends.clear();
        let mut sum = 0u64;
        for _ in 0..docs {
            let len = read_varint(&mut bytes).ok_or_else(|| bad("too few lengths"))?;
            sum = sum.checked_add(len).filter(|&s| s <= raw_len).ok_or_else(|| bad("lengths beyond its end"))?;
            cache.ends.push(sum as usize);
        }
        // LZ4 makes at most 255 bytes of one.
        let raw_len_max = match self.codec {
            Codec::Default => RAW_LEN_MAX.min(bytes.len().saturating_mul(255)),
            Codec::BestCompression => RAW_LEN_MAX,
        };
        if sum != raw_len || raw_len > raw_len_max as u64 {
            return Err(bad("impossible length"));
        }
        let raw_len = raw_len as usize;
        cache.raw.clear();
        cache.raw.try_reserve_exact(raw_len).map_err(|_| bad("no memory for it"))?;
        cache.raw.resize(raw_len, 0);
        let n = match self.codec {
            Codec::Default => {
                lz4_flex::block::decompress_into(bytes, &mut cache.raw).map_err(|e| bad(&e.to_string()))?
            }
            Codec::BestCompression => {
                let decoder = match &mut cache.zstd {
                    Some(decoder) => decoder,
                    none => none.insert(ZstdDecoder(zstd::bulk::Decompressor::new().map_err(|e| bad(&e.to_string()))?)),
                };
                decoder.0.decompress_to_buffer(bytes, &mut cache.raw[..]).map_err(|e| bad(&e.to_string()))?
            }
        };
        if n != raw_len { Err(bad("shorter than it says")) } else { Ok(()) }
    }
}

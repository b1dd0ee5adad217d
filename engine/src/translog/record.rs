//! The bytes of a translog file, version 1.
//!
//! A translog is a series of files `translog-N.tlog`, one a generation. All integers are little-endian. A file is a
//! whole number of 4096-byte blocks and never changes its size: it is filled with zeros (or with a previous generation's
//! data, when recycled) before its first use, so that a sync of it has no metadata to write.
//!
//! ```text
//! block 0: file header
//!  0  magic        8 bytes  "RDXTLOG" 0
//!  8  version      u32      1
//! 12  block size   u32      4096
//! 16  uuid         16 bytes the translog's
//! 32  generation   u64      N
//! 40  capacity     u64      bytes in the file, this block included
//! 48  checksum     u32      crc32 of bytes 0..48; the rest of the block is 0
//!
//! from block 1: batches, each at the start of a block, padded with zeros to the end of its last one
//!  0  checksum     u32      keyed crc32 of bytes 4..40
//!  4  body check   u32      keyed crc32 of the body
//!  8  length       u32      bytes in the body
//! 12  count        u32      operations in it
//! 16  number       u64      1 for the translog's first batch; +1 from batch to batch, across files
//! 24  min seq no   i64      lowest sequence number in it; -1 if count is 0
//! 32  max seq no   i64      highest
//! 40  body                  per operation: varint length, then its encoding (`op.rs`)
//! ```
//!
//! **Keys.** The batches of one generation are checksummed with the CRC register started at
//! `key = crc32(uuid) + generation (mod 2^32)`. Two different keys give different checksums for *every* content (CRC is a
//! bijection of the start value), and files are recycled only within one uuid, so what an earlier generation left in
//! a recycled file is never valid, not merely improbable.
//!
//! **Batches.** A batch is what one sync made durable; it is valid as a whole or not at all. Batch `n + 1` is
//! only written after batch `n` was synced, and no acknowledgement precedes the sync. So in a crash only the newest batch can be
//! damaged, none of it was acknowledged, and a valid header of batch `n + 1` proves that `n` was intact
//! once. A batch without operations (a *seal*) is written for that proof alone.
//!
//! A batch without operations whose lowest sequence number is -2 is an *end*: the translog was closed in order, and neither
//! after it nor in the generations up to the one that stands in place of the highest sequence number anything was written.
//! It saves the next start from looking.
//!
//! **Reading.** Batches of a file are read from block 1 while the number is the expected one and both checksums match.
//! A generation is complete if it holds all numbers below the first one of the next generation (that first batch's
//! header suffices). What follows there is ignored: a write of a dead process may land late, but its number has been
//! given again in the generation begun by the recovery. In the newest generation, what follows the last valid batch `n` is a
//! torn tail, unless some later block has a valid header with a number over `n + 1`: then `n + 1` was
//! durable and is damaged, and the file is corrupt there. After an end nothing is looked for.
//!
//! **What a crash leaves.** A file gets its name only after zeros and header are synced, and is used only after the
//! directory is. So: a `.tmp` file (removed), a prepared file without batches (recycled), a newest batch whole, torn or
//! missing. A recovery syncs every file before it reads it, so that it never acts on bytes
//! that a later power loss could take back; and it never appends to a file it found, but begins a new generation.
//!
//! Example: uuid 16 times `ab`, generation 7 (key `79802309`); the first batch holds only the delete of "a" of `op.rs`:
//!
//! ```text
//! 0000  52 44 58 54 4c 4f 47 00  01 00 00 00  00 10 00 00  ab .. ab  07 00 00 00 00 00 00 00
//! 0028  00 00 01 00 00 00 00 00  f6 e6 42 96  00 ..
//! 1000  9f be 2a 64  1f 0e f1 f0  1c 00 00 00  01 00 00 00  01 00 00 00 00 00 00 00
//! 1018  02 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00
//! 1028  1b  02 02 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 01 61  00 ..
//! ```

use crate::codec::{Reader, crc32, put_varint};
use crate::error::{Error, Result};
use crate::ids::{Generation, SeqNo};
use crate::op::Operation;
use crate::store::BLOCK;

const MAGIC: &[u8; 8] = b"RDXTLOG\0";
const VERSION: u32 = 1;
/// Bytes of a batch before its body.
pub(super) const BATCH_HEADER: usize = 40;
/// Lowest sequence number of an end.
const END: SeqNo = SeqNo(-2);
/// Largest encoded operation.
pub(super) const OPERATION_MAX: usize = 1 << 30;

/// Names the history a translog file belongs to.
pub type Uuid = [u8; 16];

/// The start of the CRC register for one generation's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Key {
    pub(super) fn new(uuid: &Uuid, generation: Generation) -> Key {
        Key(crc32(uuid).wrapping_add(generation.0 as u32))
    }

    fn hasher(self) -> crc32fast::Hasher {
        crc32fast::Hasher::new_with_initial(self.0)
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Block 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) uuid: Uuid,
    pub(super) generation: Generation,
    pub(super) capacity: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(self.capacity.is_multiple_of(BLOCK as u64) && self.capacity >= 2 * BLOCK as u64);
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.generation.0.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.extend_from_slice(&crc32(&out).to_le_bytes());
        out.resize(BLOCK, 0);
        out
    }

    pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<FileHeader> {
        let mut r = Reader::new(file, bytes);
        let magic = r.take(8)?;
        if magic != MAGIC {
            return Err(Error::corrupt(file, 0, "not a translog file"));
        }
        let version = r.u32()?;
        if version != VERSION {
            return Err(Error::corrupt(file, 8, format!("version {version}, only {VERSION} is known")));
        }
        let block = r.u32()?;
        let uuid = r.take(16)?.try_into().expect("16 bytes");
        let generation = Generation(r.u64()?);
        let capacity = r.u64()?;
        let (expected, found) = (crc32(&bytes[..48]), r.u32()?);
        if expected != found {
            return Err(Error::corrupt(file, 48, format!("checksum {found:08x}, expected {expected:08x}")));
        }
        if block != BLOCK as u32 || !capacity.is_multiple_of(BLOCK as u64) || capacity < 2 * BLOCK as u64 {
            return Err(Error::corrupt(file, 12, format!("block size {block}, capacity {capacity}")));
        }
        Ok(FileHeader { uuid, generation, capacity })
    }
}

/// The first 40 bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) body_crc: u32,
    pub(super) length: u32,
    pub(super) count: u32,
    pub(super) number: u64,
    pub(super) min_seq_no: SeqNo,
    pub(super) max_seq_no: SeqNo,
}

impl BatchHeader {
    pub(super) fn encode(&self, key: Key) -> [u8; BATCH_HEADER] {
        let mut out = [0; BATCH_HEADER];
        out[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.min_seq_no.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.max_seq_no.0.to_le_bytes());
        let checksum = key.crc(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, if there is a valid one.
    pub(super) fn decode(bytes: &[u8], key: Key) -> Option<BatchHeader> {
        let bytes = bytes.get(..BATCH_HEADER)?;
        let mut r = Reader::new("batch", bytes);
        let checksum = r.u32().ok()?;
        let header = BatchHeader {
            body_crc: r.u32().ok()?,
            length: r.u32().ok()?,
            count: r.u32().ok()?,
            number: r.u64().ok()?,
            min_seq_no: SeqNo(r.u64().ok()? as i64),
            max_seq_no: SeqNo(r.u64().ok()? as i64),
        };
        (header.number > 0 && checksum == key.crc(&bytes[4..])).then_some(header)
    }

    /// The header that `bytes` would be if it fitted `body`; for the fuzzer.
    pub(super) fn repaired(bytes: &[u8], body: &[u8], key: Key) -> BatchHeader {
        let int = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        BatchHeader {
            body_crc: key.crc(body),
            length: body.len() as u32,
            count: int(12) as u32,
            number: int(16),
            min_seq_no: SeqNo(int(24) as i64),
            max_seq_no: SeqNo(int(32) as i64),
        }
    }

    /// Of an end: the last generation that is known to hold nothing more.
    pub(super) fn ends(&self) -> Option<Generation> {
        let ends = self.count == 0 && self.length == 0 && self.min_seq_no == END && self.max_seq_no.0 >= 0;
        ends.then_some(Generation(self.max_seq_no.0 as u64))
    }

    /// Whether `body` is the body this header was written with.
    pub(super) fn matches(&self, body: &[u8], key: Key) -> bool {
        body.len() == self.length as usize && key.crc(body) == self.body_crc
    }

    /// Bytes from the start of this batch to the start of the next.
    pub(super) fn footprint(&self) -> u64 {
        footprint(self.length as usize)
    }
}

/// Whole blocks for a batch with a body of `length` bytes.
pub(super) fn footprint(length: usize) -> u64 {
    ((BATCH_HEADER + length).div_ceil(BLOCK) * BLOCK) as u64
}

/// Bytes that an operation of `size` bytes adds to a body.
pub(super) fn record_size(size: usize) -> usize {
    let varint = (usize::BITS - (size | 1).leading_zeros()).div_ceil(7) as usize;
    varint + size
}

/// A batch being filled. The checksum is computed as operations come, so that closing it is cheap.
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    hasher: crc32fast::Hasher,
    key: Key,
    number: u64,
    count: u32,
    min_seq_no: SeqNo,
    max_seq_no: SeqNo,
}

impl BatchBuilder {
    pub(super) fn new(key: Key, number: u64) -> BatchBuilder {
        assert!(number > 0);
        BatchBuilder {
            bytes: vec![0; BATCH_HEADER],
            hasher: key.hasher(),
            key,
            number,
            count: 0,
            min_seq_no: SeqNo::NONE,
            max_seq_no: SeqNo::NONE,
        }
    }

    pub(super) fn push(&mut self, seq_no: SeqNo, encoded: &[u8]) {
        assert!(seq_no.0 >= 0, "operation without a sequence number");
        let start = self.bytes.len();
        put_varint(&mut self.bytes, encoded.len() as u64);
        self.bytes.extend_from_slice(encoded);
        self.hasher.update(&self.bytes[start..]);
        self.min_seq_no = if self.count == 0 { seq_no } else { self.min_seq_no.min(seq_no) };
        self.max_seq_no = self.max_seq_no.max(seq_no);
        self.count += 1;
    }

    /// Makes it an end; it must be empty.
    pub(super) fn end(&mut self, generation: Generation) {
        assert!(self.count == 0, "an end has no operations");
        self.min_seq_no = END;
        self.max_seq_no = SeqNo(generation.0 as i64);
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in the body so far.
    pub(super) fn length(&self) -> usize {
        self.bytes.len() - BATCH_HEADER
    }

    pub(super) fn footprint(&self) -> u64 {
        footprint(self.length())
    }

    /// Header, body and padding.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let header = BatchHeader {
            body_crc: self.hasher.finalize(),
            length: u32::try_from(self.bytes.len() - BATCH_HEADER).expect("bounded by the capacity of a generation"),
            count: self.count,
            number: self.number,
            min_seq_no: self.min_seq_no,
            max_seq_no: self.max_seq_no,
        };
        self.bytes[..BATCH_HEADER].copy_from_slice(&header.encode(self.key));
        self.bytes.resize(header.footprint() as usize, 0);
        self.bytes
    }
}

/// The operations of a checked body, as ranges of it. An error names an offset inside the body: the writer was wrong.
pub(super) fn parse_body(header: &BatchHeader, body: &[u8]) -> Result<Vec<(u32, u32)>> {
    if header.ends().is_some() {
        return Ok(Vec::new());
    }
    let mut r = Reader::new("batch", body);
    let mut records = Vec::with_capacity((header.count as usize).min(body.len()));
    let (mut min, mut max) = (i64::MAX, SeqNo::NONE.0);
    while r.remaining() > 0 {
        let encoded = r.bytes()?;
        let operation = Operation::decode(encoded)?;
        min = min.min(operation.seq_no.0);
        max = max.max(operation.seq_no.0);
        let end = r.position();
        records.push(((end - encoded.len()) as u32, end as u32));
    }
    let min = if records.is_empty() { SeqNo::NONE.0 } else { min };
    if records.len() != header.count as usize || min != header.min_seq_no.0 || max != header.max_seq_no.0 {
        return Err(r.corrupt(format!(
            "{} operations with seq_no {min}..={max}, the header says {} with {}..={}",
            records.len(),
            header.count,
            header.min_seq_no,
            header.max_seq_no
        )));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{PrimaryTerm, Version};
    use crate::op::OperationKind;

    fn delete_a() -> Vec<u8> {
        let mut out = Vec::new();
        let kind = OperationKind::Delete { id: "a", version: Version(3) };
        Operation { seq_no: SeqNo(2), term: PrimaryTerm(1), kind }.encode(&mut out);
        out
    }

    #[test]
    fn version_1_bytes_are_these() {
        let uuid = [0xab; 16];
        let header = FileHeader { uuid, generation: Generation(7), capacity: 1 << 16 }.encode();
        let mut want = b"RDXTLOG\0\x01\0\0\0\0\x10\0\0".to_vec();
        want.extend_from_slice(&[0xab; 16]);
        want.extend_from_slice(b"\x07\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0");
        want.extend_from_slice(&[0xf6, 0xe6, 0x42, 0x96]);
        want.resize(BLOCK, 0);
        assert_eq!(header, want);

        let key = Key::new(&uuid, Generation(7));
        let mut batch = BatchBuilder::new(key, 1);
        batch.push(SeqNo(2), &delete_a());
        let batch = batch.finish();
        let mut want = vec![0x9f, 0xbe, 0x2a, 0x64, 0x1f, 0x0e, 0xf1, 0xf0];
        want.extend_from_slice(b"\x1c\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x1b");
        want.extend_from_slice(&delete_a());
        want.resize(BLOCK, 0);
        assert_eq!(key, Key(0x79802309));
        assert_eq!(batch, want);
    }

    #[test]
    fn zeros_are_no_batch_under_any_key() {
        for key in [0, 1, 0xffff_ffff, 0x1234_5678] {
            assert_eq!(BatchHeader::decode(&[0; BLOCK], Key(key)), None);
        }
    }

    proptest! {
        #[test]
        fn another_generation_never_validates(g in any::<u64>(), distance in 1u32.., body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (a, b) = (Key::new(&[5; 16], Generation(g)), Key::new(&[5; 16], Generation(g.wrapping_add(u64::from(distance)))));
            let header = BatchHeader { body_crc: a.crc(&body), length: body.len() as u32, count: 1, number: 1,
                min_seq_no: SeqNo(0), max_seq_no: SeqNo(0) };
            let bytes = header.encode(a);
            prop_assert_eq!(BatchHeader::decode(&bytes, a), Some(header));
            prop_assert_eq!(BatchHeader::decode(&bytes, b), None);
            prop_assert!(header.matches(&body, a));
            prop_assert!(!header.matches(&body, b));
        }

        #[test]
        fn every_bit_of_a_header_counts(bit in 0usize..52 * 8, batch_bit in 0usize..BATCH_HEADER * 8) {
            let mut bytes = FileHeader { uuid: [1; 16], generation: Generation(1), capacity: 8192 }.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FileHeader::decode("f", &bytes).is_err());
            let key = Key(77);
            let mut bytes = BatchHeader { body_crc: 1, length: 2, count: 3, number: 4, min_seq_no: SeqNo(5), max_seq_no: SeqNo(6) }.encode(key);
            bytes[batch_bit / 8] ^= 1 << (batch_bit % 8);
            prop_assert_eq!(BatchHeader::decode(&bytes, key), None);
        }

        #[test]
        fn record_size_is_what_push_adds(size in 0usize..70_000) {
            let mut batch = BatchBuilder::new(Key(1), 1);
            batch.push(SeqNo(0), &vec![7; size]);
            prop_assert_eq!(batch.length(), record_size(size));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = FileHeader::decode("f", &bytes);
            let _ = BatchHeader::decode(&bytes, Key(1));
            let header = BatchHeader { body_crc: 0, length: bytes.len() as u32, count: 1, number: 1, min_seq_no: SeqNo(0), max_seq_no: SeqNo(0) };
            let _ = parse_body(&header, &bytes);
        }
    }
}

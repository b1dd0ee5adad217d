//! Layouts of the messages that are sent often. Operations travel in them as they stand in the translog (`engine/src/op.rs`).
//!
//! Integers are little-endian, allocation ids big-endian as their name shows them. -1 is no checkpoint, -2 is not stated.
//! A message must end where its layout ends.
//!
//! ```text
//! Replicate (0302; 0304 without operations)               ReplicateAck, the answer
//!  0  primary term       u64                                0  persisted local checkpoint  i64
//!  8  allocation id      16 bytes, the copy meant           8  global checkpoint           i64, as known there
//! 24  global checkpoint  i64
//! 32  term max seq_no    i64, or -2: its highest number when its term began
//! 40  mapping version    u64, that the primary parsed with
//! 48  shard              u32
//! 52  index uuid         u8 n, n bytes
//!     operations
//!
//! operations: count u32, and each u32 n, n bytes
//!
//! FileChunkRequest (0401)                                 FileChunk, the answer
//!  0  session            u64                                0  offset    u64
//!  8  offset             u64                                8  checksum  u32, CRC-32 of the bytes as they were read
//! 16  size               u32, at most so many bytes        12  file      u8 n, n bytes
//! 20  file               u8 n, n bytes                         bytes     the rest
//!
//! OperationsRequest (0402)                                OperationsBatch, the answer
//!  0  session            u64                                0  next              i64, where to ask on; -1: that was all
//!  8  from               i64                                8  global checkpoint i64
//! 16  size               u32, about so many bytes          16  term max seq_no   i64, or -2
//!                                                          24  mapping version   u64
//!                                                          32  operations
//! ```
//!
//! Example: the answer of a copy that has made operations up to 5 durable and knows that all copies have 3:
//!
//! ```text
//! 05 00 00 00 00 00 00 00  03 00 00 00 00 00 00 00
//! ```

use bytes::Bytes;
use ringdex_engine::ids::{PrimaryTerm, SeqNo};

use super::Payload;
use super::reader::{Malformed, Reader, put_short_text};
use crate::cluster::ids::AllocationId;

/// Operations up to this size are copied beside their length, larger ones are sent from where they are.
const COPY_BYTES_MAX: usize = 2 << 10;

/// What a primary sends to a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// Names the index.
    pub index_uuid: String,
    /// Which shard of it.
    pub shard: u32,
    /// The copy that is meant; another one on the same node refuses.
    pub allocation_id: AllocationId,
    /// The term of the primary that sends; a copy that knows a higher one refuses.
    pub primary_term: PrimaryTerm,
    /// What every in-sync copy has.
    pub global_checkpoint: SeqNo,
    /// The highest sequence number the primary had when its term began; none when not stated.
    pub term_max_seq_no: Option<SeqNo>,
    /// The mapping that the operations were parsed with.
    pub mapping_version: u64,
    /// Encoded operations.
    pub operations: Vec<Bytes>,
}

/// What the copy answers, once the operations are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicateAck {
    /// It has every operation up to here, durably.
    pub local_checkpoint: SeqNo,
    /// The global checkpoint that its disk knows: if it fails and comes back, it asks for what follows.
    pub global_checkpoint: SeqNo,
}

/// Asks for a piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChunkRequest {
    /// Names the recovery, at its source.
    pub session: u64,
    /// Of the source's list.
    pub file: String,
    /// Where the piece begins.
    pub offset: u64,
    /// Longest piece wanted.
    pub size: u32,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChunk {
    /// Which one.
    pub file: String,
    /// Where the piece begins.
    pub offset: u64,
    /// The piece.
    pub bytes: Bytes,
}

/// Asks for operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationsRequest {
    /// Names the recovery, at its source.
    pub session: u64,
    /// The first that is wanted.
    pub from: SeqNo,
    /// About so many bytes of them; at least one operation comes.
    pub size: u32,
}

/// Operations of a shard's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationsBatch {
    /// Where the next batch begins; none when there are no more.
    pub next: Option<SeqNo>,
    /// What every in-sync copy has.
    pub global_checkpoint: SeqNo,
    /// As in [`Replicate`].
    pub term_max_seq_no: Option<SeqNo>,
    /// As in [`Replicate`].
    pub mapping_version: u64,
    /// Encoded operations.
    pub operations: Vec<Bytes>,
}

impl Replicate {
    /// As sent. Large operations are not copied.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = Vec::with_capacity(128 + staged_bytes(&self.operations));
        out.extend_from_slice(&self.primary_term.0.to_le_bytes());
        out.extend_from_slice(&self.allocation_id.0.to_be_bytes());
        out.extend_from_slice(&self.global_checkpoint.0.to_le_bytes());
        out.extend_from_slice(&or_unassigned(self.term_max_seq_no).to_le_bytes());
        out.extend_from_slice(&self.mapping_version.to_le_bytes());
        out.extend_from_slice(&self.shard.to_le_bytes());
        put_short_text(&mut out, &self.index_uuid);
        with_operations(out, &self.operations)
    }

    /// As received. Operations share the payload's memory.
    pub fn decode(payload: Bytes) -> Result<Replicate, Malformed> {
        let mut reader = Reader::new("replicate", payload);
        let replicate = Replicate {
            primary_term: PrimaryTerm(reader.u64()?),
            allocation_id: AllocationId(reader.u128()?.swap_bytes()),
            global_checkpoint: checkpoint(&mut reader)?,
            term_max_seq_no: unassigned(&mut reader)?,
            mapping_version: reader.u64()?,
            shard: reader.u32()?,
            index_uuid: reader.short_text()?,
            operations: operations(&mut reader)?,
        };
        reader.finish()?;
        Ok(replicate)
    }
}

impl ReplicateAck {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = self.local_checkpoint.0.to_le_bytes().to_vec();
        out.extend_from_slice(&self.global_checkpoint.0.to_le_bytes());
        Payload::from(out)
    }

    /// As received.
    pub fn decode(payload: Bytes) -> Result<ReplicateAck, Malformed> {
        let mut reader = Reader::new("replicate ack", payload);
        let (local_checkpoint, global_checkpoint) = (checkpoint(&mut reader)?, checkpoint(&mut reader)?);
        reader.finish()?;
        Ok(ReplicateAck { local_checkpoint, global_checkpoint })
    }
}

impl FileChunkRequest {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = self.session.to_le_bytes().to_vec();
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        put_short_text(&mut out, &self.file);
        Payload::from(out)
    }

    /// As received.
    pub fn decode(payload: Bytes) -> Result<FileChunkRequest, Malformed> {
        let mut reader = Reader::new("file chunk request", payload);
        let (session, offset, size) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let file = reader.short_text()?;
        reader.finish()?;
        Ok(FileChunkRequest { session, file, offset, size })
    }
}

impl FileChunk {
    /// As sent; the bytes are not copied.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = self.offset.to_le_bytes().to_vec();
        out.extend_from_slice(&crc32fast::hash(&self.bytes).to_le_bytes());
        put_short_text(&mut out, &self.file);
        let mut payload = Payload::from(out);
        payload.push(self.bytes.clone());
        payload
    }

    /// As received, with its checksum checked.
    pub fn decode(payload: Bytes) -> Result<FileChunk, Malformed> {
        let mut reader = Reader::new("file chunk", payload);
        let (offset, stated) = (reader.u64()?, reader.u32()?);
        let file = reader.short_text()?;
        let bytes = reader.rest();
        let computed = crc32fast::hash(&bytes);
        if stated != computed {
            let size = bytes.len();
            return Err(Malformed(format!(
                "{file}: checksum mismatch of {size} bytes at offset {offset}: stated {stated:08x}, computed {computed:08x}"
            )));
        }
        Ok(FileChunk { file, offset, bytes })
    }
}

impl OperationsRequest {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = self.session.to_le_bytes().to_vec();
        out.extend_from_slice(&self.from.0.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        Payload::from(out)
    }

    /// As received.
    pub fn decode(payload: Bytes) -> Result<OperationsRequest, Malformed> {
        let mut reader = Reader::new("operations request", payload);
        let (session, from, size) = (reader.u64()?, seq_no(&mut reader, 0)?, reader.u32()?);
        reader.finish()?;
        Ok(OperationsRequest { session, from, size })
    }
}

impl OperationsBatch {
    /// As sent. Large operations are not copied.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = Vec::with_capacity(64 + staged_bytes(&self.operations));
        out.extend_from_slice(&self.next.unwrap_or(SeqNo::NONE).0.to_le_bytes());
        out.extend_from_slice(&self.global_checkpoint.0.to_le_bytes());
        out.extend_from_slice(&or_unassigned(self.term_max_seq_no).to_le_bytes());
        out.extend_from_slice(&self.mapping_version.to_le_bytes());
        with_operations(out, &self.operations)
    }

    /// As received. Operations share the payload's memory.
    pub fn decode(payload: Bytes) -> Result<OperationsBatch, Malformed> {
        let mut reader = Reader::new("operations batch", payload);
        let batch = OperationsBatch {
            next: Some(checkpoint(&mut reader)?).filter(|next| *next != SeqNo::NONE),
            global_checkpoint: checkpoint(&mut reader)?,
            term_max_seq_no: unassigned(&mut reader)?,
            mapping_version: reader.u64()?,
            operations: operations(&mut reader)?,
        };
        reader.finish()?;
        Ok(batch)
    }
}

fn or_unassigned(seq_no: Option<SeqNo>) -> i64 {
    seq_no.unwrap_or(SeqNo::UNASSIGNED).0
}

fn seq_no(reader: &mut Reader, least: i64) -> Result<SeqNo, Malformed> {
    match reader.i64()? {
        n if n >= least => Ok(SeqNo(n)),
        n => Err(reader.malformed(format_args!("sequence number {n}"))),
    }
}

/// -1 is one, too.
fn checkpoint(reader: &mut Reader) -> Result<SeqNo, Malformed> {
    seq_no(reader, SeqNo::NONE.0)
}

fn unassigned(reader: &mut Reader) -> Result<Option<SeqNo>, Malformed> {
    seq_no(reader, SeqNo::UNASSIGNED.0).map(|n| Some(n).filter(|n| *n != SeqNo::UNASSIGNED))
}

/// What [`with_operations`] copies, at least.
fn staged_bytes(operations: &[Bytes]) -> usize {
    4 + operations.iter().map(|op| 4 + if op.len() > COPY_BYTES_MAX { 0 } else { op.len() }).sum::<usize>()
}

/// `out` and the operations.
fn with_operations(mut out: Vec<u8>, operations: &[Bytes]) -> Payload {
    let mut payload = Payload::new();
    out.extend_from_slice(&(operations.len() as u32).to_le_bytes());
    for operation in operations {
        out.extend_from_slice(&(operation.len() as u32).to_le_bytes());
        if operation.len() > COPY_BYTES_MAX {
            payload.push(std::mem::take(&mut out));
            payload.push(operation.clone());
        } else {
            out.extend_from_slice(operation);
        }
    }
    payload.push(out);
    payload
}

fn operations(reader: &mut Reader) -> Result<Vec<Bytes>, Malformed> {
    let count = reader.u32()? as usize;
    // Each has a length, so that a count of more than that is not true.
    if count > reader.remaining() / 4 {
        return Err(reader.malformed(format_args!("{count} operations in {} bytes", reader.remaining())));
    }
    (0..count).map(|_| reader.bytes()).collect()
}

/// What is accepted encodes to the same bytes.
pub(super) fn fuzz(which: u8, bytes: Bytes) {
    let again = match which {
        0 => Replicate::decode(bytes.clone()).map(|m| m.encode()),
        1 => ReplicateAck::decode(bytes.clone()).map(|m| m.encode()),
        2 => FileChunkRequest::decode(bytes.clone()).map(|m| m.encode()),
        3 => OperationsBatch::decode(bytes.clone()).map(|m| m.encode()),
        _ => {
            let _ = FileChunk::decode(bytes.clone());
            OperationsRequest::decode(bytes.clone()).map(|m| m.encode())
        }
    };
    if let Ok(again) = again {
        assert_eq!(again.into_bytes(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replicate() -> Replicate {
        Replicate {
            index_uuid: "uuid".into(),
            shard: 3,
            allocation_id: AllocationId(1),
            primary_term: PrimaryTerm(2),
            global_checkpoint: SeqNo::NONE,
            term_max_seq_no: None,
            mapping_version: 4,
            operations: vec![Bytes::from_static(b"ab"), Bytes::new()],
        }
    }

    #[test]
    fn replicate_has_the_documented_bytes() {
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend_from_slice(&[0xff; 8]);
        expected.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        expected.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        expected.extend_from_slice(b"\x04uuid\x02\0\0\0\x02\0\0\0ab\0\0\0\0");
        let bytes = replicate().encode().into_bytes();
        assert_eq!(bytes, expected);
        assert_eq!(Replicate::decode(bytes.clone()), Ok(replicate()));
        for cut in 0..bytes.len() {
            assert!(Replicate::decode(bytes.slice(..cut)).is_err(), "{cut}");
        }
        expected.push(0);
        assert!(Replicate::decode(expected.into()).is_err());
    }

    #[test]
    fn the_other_messages_have_the_documented_bytes() {
        fn check(payload: Payload, expected: &[u8]) -> Bytes {
            let bytes = payload.into_bytes();
            assert_eq!(bytes, expected);
            bytes
        }
        let ack = ReplicateAck { local_checkpoint: SeqNo(5), global_checkpoint: SeqNo(3) };
        let bytes = check(ack.encode(), &[5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ReplicateAck::decode(bytes), Ok(ack));

        let request = FileChunkRequest { session: 1, file: "f".into(), offset: 2, size: 3 };
        let bytes = check(request.encode(), b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\x01f");
        assert_eq!(FileChunkRequest::decode(bytes), Ok(request));

        let chunk = FileChunk { file: "f".into(), offset: 2, bytes: Bytes::from_static(b"123456789") };
        // The check value of CRC-32.
        let bytes = check(chunk.encode(), b"\x02\0\0\0\0\0\0\0\x26\x39\xf4\xcb\x01f123456789");
        assert_eq!(FileChunk::decode(bytes.clone()), Ok(chunk));
        let mut wrong = bytes.to_vec();
        wrong[20] ^= 1;
        assert!(FileChunk::decode(wrong.into()).unwrap_err().0.starts_with("f: checksum mismatch"));

        let request = OperationsRequest { session: 1, from: SeqNo(2), size: 3 };
        let bytes = check(request.encode(), b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0");
        assert_eq!(OperationsRequest::decode(bytes), Ok(request));

        let batch = OperationsBatch {
            next: Some(SeqNo(9)),
            global_checkpoint: SeqNo(7),
            term_max_seq_no: Some(SeqNo::NONE),
            mapping_version: 1,
            operations: vec![Bytes::from_static(b"x")],
        };
        let expected = b"\x09\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0x";
        let bytes = check(batch.encode(), expected);
        assert_eq!(OperationsBatch::decode(bytes), Ok(batch));
    }

    #[test]
    fn large_operations_are_not_copied_on_either_side() {
        let large = Bytes::from(vec![7; COPY_BYTES_MAX + 1]);
        let message =
            Replicate { operations: vec![large.clone(), Bytes::from_static(b"s"), large.clone()], ..replicate() };
        let payload = message.encode();
        assert_eq!(payload.pieces().filter(|piece| piece.as_ptr() == large.as_ptr()).count(), 2);
        let bytes = payload.into_bytes();
        let back = Replicate::decode(bytes.clone()).unwrap();
        assert!(bytes.as_ptr_range().contains(&back.operations[2].as_ptr()));
        assert_eq!(back, message);
    }

    #[test]
    fn a_count_that_cannot_be_true_takes_no_memory() {
        let mut bytes = Replicate { operations: Vec::new(), ..replicate() }.encode().into_bytes().to_vec();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Replicate::decode(bytes.into()).unwrap_err().0.contains("4294967295 operations in 0 bytes"));
    }

    proptest! {
        #[test]
        fn messages_come_back(
            sizes in prop::collection::vec(prop_oneof![0usize..50, 2_000usize..3_000], 0..20),
            numbers in any::<(u64, u128, u32, u64)>(),
            checkpoints in (-1i64..i64::MAX, -1i64..i64::MAX),
            uuid in ".{0,60}",
        ) {
            let operations: Vec<Bytes> = sizes.iter().map(|n| Bytes::from(vec![*n as u8; *n])).collect();
            let message = Replicate {
                index_uuid: uuid,
                shard: numbers.2,
                allocation_id: AllocationId(numbers.1),
                primary_term: PrimaryTerm(numbers.0),
                global_checkpoint: SeqNo(checkpoints.0),
                term_max_seq_no: Some(SeqNo(checkpoints.1)),
                mapping_version: numbers.3,
                operations,
            };
            prop_assert_eq!(Replicate::decode(message.encode().into_bytes()), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_are_an_answer_or_an_error(data in prop::collection::vec(any::<u8>(), 0..120)) {
            crate::wire::message::fuzz_message(&data);
        }

        #[test]
        fn flipped_bytes_are_an_answer_or_an_error(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut data = replicate().encode().into_bytes().to_vec();
            let at = at.index(data.len());
            data[at] = to;
            fuzz(0, data.into());
        }
    }
}

//! Reading batches back: one file from its start ([`Walk`]), and operations across files ([`OperationReader`]).

use std::collections::VecDeque;
use std::rc::Rc;

use super::ranges::SeqNoRanges;
use super::record::{BATCH_HEADER, BatchHeader, Key, parse_body};
use crate::error::{Error, Result};
use crate::ids::{Generation, SeqNo};
use crate::op::Operation;
use crate::store::{BLOCK, Directory, File};

/// Bytes asked of the disk at least.
const READ_AHEAD: usize = 256 << 10;

/// What is at an offset where a batch may begin.
pub(super) enum Found {
    /// A valid batch and its operations.
    Batch(BatchHeader, Batch),
    /// A valid header whose body is not what was written with it.
    Torn,
    /// No valid header.
    Nothing,
}

/// Reads batches of one file, in any order, through a window of bytes.
pub(super) struct BatchFile<F> {
    file: Rc<F>,
    name: Rc<str>,
    key: Key,
    capacity: u64,
    window_start: u64,
    window: Vec<u8>,
}

impl<F: File> BatchFile<F> {
    pub(super) fn new(file: Rc<F>, name: Rc<str>, key: Key, capacity: u64) -> BatchFile<F> {
        BatchFile { file, name, key, capacity, window_start: 0, window: Vec::new() }
    }

    /// Up to `len` bytes at `offset`, fewer at the end of the file.
    async fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let end = (offset + len as u64).min(self.capacity);
        if offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let ahead = len.max(READ_AHEAD).min(self.capacity.saturating_sub(offset) as usize);
            self.window = self.file.read_at(offset, ahead).await?;
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        let end = (start + len).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }

    pub(super) async fn header_at(&mut self, offset: u64) -> Result<Option<BatchHeader>> {
        let key = self.key;
        Ok(BatchHeader::decode(self.bytes(offset, BATCH_HEADER).await?, key))
    }

    pub(super) async fn batch_at(&mut self, offset: u64) -> Result<Found> {
        let key = self.key;
        let Some(header) = self.header_at(offset).await? else {
            return Ok(Found::Nothing);
        };
        if offset + header.footprint() > self.capacity {
            return Ok(Found::Torn);
        }
        let bytes = self.bytes(offset, BATCH_HEADER + header.length as usize).await?;
        let body = &bytes[BATCH_HEADER.min(bytes.len())..];
        if !header.matches(body, key) {
            return Ok(Found::Torn);
        }
        match parse_body(&header, body) {
            Ok(records) => Ok(Found::Batch(header, Batch { body: body.to_vec(), records, number: header.number })),
            Err(e) => Err(Error::corrupt(&*self.name, offset, format!("checksum is right but content is not: {e}"))),
        }
    }

    /// The first valid header at or after `offset` with a number over `number`.
    pub(super) async fn header_after(&mut self, offset: u64, number: u64) -> Result<Option<(u64, BatchHeader)>> {
        let mut at = offset;
        while at < self.capacity {
            if let Some(header) = self.header_at(at).await?
                && header.number > number
            {
                return Ok(Some((at, header)));
            }
            at += BLOCK as u64;
        }
        Ok(None)
    }
}

/// The valid batches at the start of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Offset after the last.
    pub(super) end: u64,
    /// Number after the last.
    pub(super) next_number: u64,
    pub(super) operations: u64,
    pub(super) seq_nos: SeqNoRanges,
    /// Whether the last one is a seal.
    pub(super) sealed: bool,
    /// If it is an end, what it says.
    pub(super) ends: Option<Generation>,
}

impl Walk {
    /// Reads batches `first` up to (not including) `limit`, as far as they are valid.
    pub(super) async fn over<F: File>(file: &mut BatchFile<F>, first: u64, limit: Option<u64>) -> Result<Walk> {
        let mut walk = Walk { end: BLOCK as u64, next_number: first, ..Walk::default() };
        while limit.is_none_or(|limit| walk.next_number < limit) && walk.end < file.capacity {
            match file.batch_at(walk.end).await? {
                Found::Batch(header, batch) if header.number == walk.next_number => {
                    walk.end += header.footprint();
                    walk.next_number += 1;
                    walk.operations += u64::from(header.count);
                    walk.sealed = header.count == 0;
                    walk.ends = header.ends();
                    for (_, operation) in batch.operations() {
                        walk.seq_nos.insert(operation.seq_no);
                    }
                }
                _ => break,
            }
        }
        Ok(walk)
    }
}

/// A durable stretch of one file.
pub(super) struct Part<F> {
    pub(super) file: BatchFile<F>,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) number: u64,
    /// Lowest and highest sequence number that counts here.
    pub(super) within: (SeqNo, SeqNo),
}

/// Reads operations back, one durable batch at a time. What it reads is fixed when it is made.
pub struct OperationReader<D: Directory> {
    parts: VecDeque<Part<D::File>>,
    from_number: u64,
    from: SeqNo,
    to: SeqNo,
}

impl<D: Directory> OperationReader<D> {
    pub(super) fn new(parts: VecDeque<Part<D::File>>, from_number: u64, from: SeqNo, to: SeqNo) -> Self {
        OperationReader { parts, from_number, from, to }
    }

    pub(super) fn newest_first(&mut self) {
        self.parts.make_contiguous().reverse();
    }

    /// The next batch with operations that were asked for, or none after the last. What was durable and cannot be
    /// read now is `Error::Corrupt`.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(part) = self.parts.front_mut() {
            if part.offset >= part.end {
                self.parts.pop_front();
                continue;
            }
            let (offset, number) = (part.offset, part.number);
            let (from, to) = (self.from.max(part.within.0), self.to.min(part.within.1));
            let name = part.file.name.clone();
            let damaged = |reason: String| Error::corrupt(&*name, offset, reason);
            let header = part.file.header_at(offset).await?;
            let Some(header) = header.filter(|h| h.number == number) else {
                return Err(damaged(format!("no header of batch {number}")));
            };
            let wanted =
                number >= self.from_number && header.count > 0 && header.min_seq_no <= to && header.max_seq_no >= from;
            part.offset += header.footprint();
            part.number += 1;
            if !wanted {
                continue;
            }
            let Found::Batch(_, mut batch) = part.file.batch_at(offset).await? else {
                return Err(damaged(format!("batch {number} does not match its checksum")));
            };
            batch.keep(from, to);
            if !batch.records.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// The operations of one batch that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    body: Vec<u8>,
    records: Vec<(u32, u32)>,
    number: u64,
}

impl Batch {
    /// Encoded operations and what they decode to, in order.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = (&[u8], Operation<'_>)> {
        self.records.iter().map(|&(start, end)| {
            let encoded = &self.body[start as usize..end as usize];
            (encoded, Operation::decode(encoded).expect("decoded when the batch was read"))
        })
    }

    /// The batch's number in the translog.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    fn keep(&mut self, from: SeqNo, to: SeqNo) {
        let body = &self.body;
        self.records.retain(|&(start, end)| {
            let seq_no =
                Operation::decode(&body[start as usize..end as usize]).expect("decoded when it was read").seq_no;
            from <= seq_no && seq_no <= to
        });
    }
}

/// Opens `data` as a translog file, and reads what is in it: must answer a value or an error, whatever the bytes. For the
/// fuzzer, which does not guess checksums: with an odd first byte the file header is put right, and with the second bit set
/// the checksums of every batch header and body, too.
#[doc(hidden)]
pub fn fuzz_translog_read(data: &[u8]) {
    use super::record::{FileHeader, footprint};
    use super::{Options, Position, Translog};
    use crate::ids::Generation;
    use crate::store::sim::SimDirectory;

    let Some((&mode, data)) = data.split_first() else { return };
    let (uuid, generation) = ([7; 16], Generation(3));
    let mut file = data.to_vec();
    if mode & 1 == 1 {
        file.resize((BLOCK + data.len().min(1 << 20)).next_multiple_of(BLOCK).max(2 * BLOCK), 0);
        file.copy_within(..data.len().min(1 << 20), BLOCK);
        let capacity = file.len() as u64;
        file[..BLOCK].copy_from_slice(&FileHeader { uuid, generation, capacity }.encode());
        let key = Key::new(&uuid, generation);
        let mut at = BLOCK;
        while mode & 2 == 2 && at + BATCH_HEADER <= file.len() {
            let length = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("4 bytes")) as usize % (1 << 14);
            let end = (at + BATCH_HEADER + length).min(file.len());
            let body = file[at + BATCH_HEADER..end].to_vec();
            let mut header = BatchHeader::repaired(&file[at..at + BATCH_HEADER], &body, key);
            header.number %= 8;
            file[at..at + BATCH_HEADER].copy_from_slice(&header.encode(key));
            at += footprint(length) as usize;
        }
    }
    let directory = SimDirectory::new(0);
    directory.put("translog-3.tlog", &file);
    futures_lite::future::block_on(async {
        let options = Options { first_size: 2 * BLOCK as u64, ..Options::default() };
        let from = Position { generation, batch: 1 };
        if let Ok(translog) = Translog::open(directory, uuid, from, options).await {
            let mut reader = translog.replay();
            while let Some(batch) = reader.next().await.expect("what a recovery accepted can be read") {
                for (encoded, operation) in batch.operations() {
                    let mut again = Vec::new();
                    operation.encode(&mut again);
                    assert!(again.len() <= encoded.len(), "an encoding is the shortest one");
                }
            }
        }
    });
}

//! Several byte streams written through each other into one section, so that a segment of any size is written in one
//! pass with bounded memory while each stream stays dense.
//!
//! A stream is a logical address space cut into extents, each contiguous in the section. Nothing that is read as one piece
//! crosses the end of an extent.
//!
//! ```text
//! 0   extent count  u32
//! 4   per extent, 24 bytes, in logical order: logical start u64, place in the section u64, length u64
//! ```

use bytes::Bytes;

use crate::error::Result;
use crate::segment::file::{FileWriter, Sink};

/// An extent is ended when it has grown this long.
const EXTENT_LEN: usize = 1 << 20;
const ENTRY: usize = 24;

/// Collects one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    /// Bytes not in the file yet; append here.
    pub pending: Vec<u8>,
    extents: Vec<(u64, u64, u64)>,
    written: u64,
    /// Whether the last extent is still growing (its piece is not complete).
    open: bool,
}

impl StreamWriter {
    /// Logical address of the next byte.
    #[inline]
    pub fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Between two pieces: writes an extent if there is enough for one, or `all` there is.
    pub async fn flush<S: Sink>(&mut self, file: &mut FileWriter<'_, S>, all: bool) -> Result<()> {
        if self.pending.len() >= EXTENT_LEN || self.open || (all && !self.pending.is_empty()) {
            self.write_pending(file).await?;
            self.open = false;
        }
        Ok(())
    }

    /// Inside a piece: writes early when much is waiting. No other stream may be flushed until the piece is complete.
    pub async fn flush_partial<S: Sink>(&mut self, file: &mut FileWriter<'_, S>) -> Result<()> {
        if self.pending.len() >= EXTENT_LEN {
            self.write_pending(file).await?;
            self.open = true;
        }
        Ok(())
    }

    async fn write_pending<S: Sink>(&mut self, file: &mut FileWriter<'_, S>) -> Result<()> {
        let len = self.pending.len() as u64;
        match self.extents.last_mut() {
            Some(last) if self.open => {
                debug_assert_eq!(last.1 + last.2, file.section_position());
                last.2 += len;
            }
            _ => self.extents.push((self.written, file.section_position(), len)),
        }
        file.write(&self.pending).await?;
        self.written += len;
        self.pending.clear();
        Ok(())
    }

    /// Appends the extent table; everything must have been flushed.
    pub fn finish(&self, out: &mut Vec<u8>) {
        assert!(self.pending.is_empty());
        out.extend_from_slice(&(self.extents.len() as u32).to_le_bytes());
        for &(logical, place, len) in &self.extents {
            out.extend_from_slice(&logical.to_le_bytes());
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
    }
}

/// Reads one stream in place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    section: Bytes,
    extents: Vec<(u64, u64, u64)>,
}

impl Stream {
    /// `table` is an extent table; `None` unless it fits the section.
    pub fn open(section: &Bytes, table: &[u8]) -> Option<Stream> {
        let (count, entries) = table.split_first_chunk::<4>()?;
        let entries = entries.as_chunks::<ENTRY>().0;
        if entries.len() != u32::from_le_bytes(*count) as usize {
            return None;
        }
        let mut extents = Vec::with_capacity(entries.len());
        let mut next = 0u64;
        for entry in entries {
            let [logical, place, len] = [0, 1, 2].map(|i| u64::from_le_bytes(entry.as_chunks::<8>().0[i]));
            if logical != next || place.checked_add(len)? > section.len() as u64 {
                return None;
            }
            next = logical.checked_add(len)?;
            extents.push((logical, place, len));
        }
        Some(Stream { section: section.clone(), extents })
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.extents.iter().map(|e| e.2).sum()
    }

    /// From a logical address to the end of its extent; empty if there is nothing.
    #[inline]
    pub fn at(&self, address: u64) -> &[u8] {
        let i = match self.extents.len() {
            0 => return &[],
            1 => 0,
            _ => self.extents.partition_point(|e| e.0 <= address).max(1) - 1,
        };
        let (logical, place, len) = self.extents[i];
        let within = address.wrapping_sub(logical);
        if within >= len {
            return &[];
        }
        &self.section[(place + within) as usize..(place + len) as usize]
    }
}

//! Where a merge writes: a file, in aligned chunks, as fast as a throttle lets it.

use crate::error::Result;
use crate::segment::Sink;
use crate::store::{BLOCK, File};

/// Bytes of one write.
const CHUNK: usize = 1 << 20;

/// Holds writes back to a budget.
#[allow(async_fn_in_trait)]
pub trait Throttle {
    /// Called before `bytes` are written; waits until they fit the budget.
    async fn admit(&self, bytes: usize);
}

/// No budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unthrottled;

impl Throttle for Unthrottled {
    async fn admit(&self, _bytes: usize) {}
}

/// Writes a new file from its beginning. Memory: one chunk.
pub struct FileSink<F, T> {
    file: F,
    throttle: T,
    pending: Vec<u8>,
    offset: u64,
}

impl<F: File, T: Throttle> FileSink<F, T> {
    /// `file` is empty.
    pub fn new(file: F, throttle: T) -> FileSink<F, T> {
        FileSink { file, throttle, pending: Vec::with_capacity(CHUNK), offset: 0 }
    }

    /// Writes the rest, cuts the file to its length and syncs it. The directory entry is the caller's to sync.
    ///
    /// # Errors
    /// Those of the file; its content is then unknown, and it is removed.
    pub async fn finish(mut self) -> Result<F> {
        let len = self.offset + self.pending.len() as u64;
        if !self.pending.is_empty() {
            self.pending.resize(self.pending.len().next_multiple_of(BLOCK), 0);
            self.throttle.admit(self.pending.len()).await;
            self.file.write_at(self.offset, &self.pending).await?;
        }
        self.file.truncate(len).await?;
        self.file.sync().await?;
        Ok(self.file)
    }
}

impl<F: File, T: Throttle> Sink for FileSink<F, T> {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(CHUNK - self.pending.len());
            self.pending.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.pending.len() == CHUNK {
                self.throttle.admit(CHUNK).await;
                self.file.write_at(self.offset, &self.pending).await?;
                self.offset += CHUNK as u64;
                self.pending.clear();
            }
        }
        Ok(())
    }
}

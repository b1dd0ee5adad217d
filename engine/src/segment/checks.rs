//! Verifying what is read, when it is first read.
//!
//! A segment file is opened without looking at most of it. What says which documents there are (ids, numbering, sources) is held
//! against the block checksums when it is first needed, so that no write is planned on, and no client given, what a disk has
//! made of it. Afterwards that costs a bit test. Indexes and columns are verified by merges, recoveries and the scrub.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::codec::crc32;
use crate::error::{Error, Result};
use crate::segment::file::CHECKED_LEN;
use crate::store::FileBytes;

/// How often damage was found by anybody in this process: who has seen this many need not look again.
static FOUND: AtomicU64 = AtomicU64::new(0);

/// How often reading a segment has found damage, in this process.
#[must_use]
pub fn damage_found() -> u64 {
    FOUND.load(Ordering::Relaxed)
}

/// Which blocks of a file are known to be what was written. Cheap to clone. The default has nothing to check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks(Option<Arc<Blocks>>);

#[derive(Debug)]
struct Blocks {
    name: String,
    file: Bytes,
    held: FileBytes,
    body_len: usize,
    /// A bit each.
    verified: Box<[AtomicU64]>,
    damage: OnceLock<Error>,
}

impl Checks {
    /// Of a file whose checksums, which begin at `body_len`, are right.
    pub fn new(name: &str, file: Bytes, held: FileBytes, body_len: u64) -> Checks {
        let body_len = body_len as usize;
        let words = body_len.div_ceil(CHECKED_LEN).div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Checks(Some(Arc::new(Blocks {
            name: name.to_owned(),
            file,
            held,
            body_len,
            verified,
            damage: OnceLock::new(),
        })))
    }

    /// Makes sure that these bytes of the file are what was written.
    ///
    /// # Errors
    /// `Corrupt`.
    #[inline]
    pub fn touch(&self, bytes: &[u8]) -> Result<()> {
        let Some(blocks) = &self.0 else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        let at = (bytes.as_ptr() as usize).wrapping_sub(blocks.file.as_ptr() as usize);
        debug_assert!(at < blocks.body_len, "bytes of another file");
        for block in at / CHECKED_LEN..=(at + bytes.len() - 1) / CHECKED_LEN {
            let Some(word) = blocks.verified.get(block / 64) else { break };
            if word.load(Ordering::Relaxed) & 1 << (block % 64) == 0 {
                self.verify(block)?;
            }
        }
        Ok(())
    }

    /// Verifies one block.
    ///
    /// # Errors
    /// `Corrupt`.
    #[cold]
    pub fn verify(&self, block: usize) -> Result<()> {
        let Some(blocks) = &self.0 else { return Ok(()) };
        // In one piece: neither page by page nor with all that the kernel reads ahead.
        blocks.held.read_ahead(block * CHECKED_LEN..blocks.body_len.min((block + 1) * CHECKED_LEN));
        let bytes = &blocks.file[block * CHECKED_LEN..];
        if let Err(e) = self.compare(block, bytes) {
            blocks.damage.get_or_init(|| e.clone());
            FOUND.fetch_add(1, Ordering::Relaxed);
            return Err(e);
        }
        if let Some(word) = blocks.verified.get(block / 64) {
            word.fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether `bytes` begin with what was written as this block.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn compare(&self, block: usize, bytes: &[u8]) -> Result<()> {
        let Some(blocks) = &self.0 else { return Ok(()) };
        let len = CHECKED_LEN.min(blocks.body_len - block * CHECKED_LEN).min(bytes.len());
        super::file::compare_block(&blocks.name, &blocks.file[blocks.body_len..], block, crc32(&bytes[..len]))
    }

    /// These bytes have just been written and nowhere else yet.
    pub fn trust(&self) {
        self.0.iter().flat_map(|blocks| &*blocks.verified).for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
    }

    /// The first damage found.
    pub fn damage(&self) -> Option<&Error> {
        self.0.as_ref()?.damage.get()
    }
}

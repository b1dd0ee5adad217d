//! A directory that keeps account of what goes through it, by what it is for.
//!
//! Mapped files are read by the kernel as pages are touched; that is nobody's call, and not in the account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::{Directory, File, FileBytes};
use crate::error::Result;
use crate::segment::segment_of_file;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The operation log.
    Translog,
    /// Segments that refreshes made.
    Segments,
    /// Segments that merges made.
    Merges,
    /// Commit points, live docs, and what else is small.
    Other,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 4] = [Purpose::Translog, Purpose::Segments, Purpose::Merges, Purpose::Other];

    /// As statistics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Translog => "translog",
            Purpose::Segments => "segments",
            Purpose::Merges => "merges",
            Purpose::Other => "other",
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    read: AtomicU64,
    syncs: AtomicU64,
}

/// What was done for one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Calls that wrote.
    pub writes: u64,
    /// Bytes they wrote, whole blocks.
    pub written_bytes: u64,
    /// Calls that read.
    pub reads: u64,
    /// Bytes they read.
    pub read_bytes: u64,
    /// Files made durable.
    pub syncs: u64,
}

impl Flow {
    /// Adds another's.
    pub fn add(&mut self, other: &Flow) {
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.syncs += other.syncs;
    }
}

/// The account of one shard, kept by every thread that works on its files.
#[derive(Debug, Default)]
pub struct Ledger {
    purposes: [Counts; 4],
    directory_syncs: AtomicU64,
}

impl Ledger {
    /// What was done for a purpose so far.
    #[must_use]
    pub fn flow(&self, purpose: Purpose) -> Flow {
        let counts = &self.purposes[purpose as usize];
        Flow {
            writes: counts.writes.load(Relaxed),
            written_bytes: counts.written.load(Relaxed),
            reads: counts.reads.load(Relaxed),
            read_bytes: counts.read.load(Relaxed),
            syncs: counts.syncs.load(Relaxed),
        }
    }

    /// Times a directory was made durable.
    #[must_use]
    pub fn directory_syncs(&self) -> u64 {
        self.directory_syncs.load(Relaxed)
    }
}

/// A directory whose account is kept.
#[derive(Clone, Debug)]
pub struct Ledgered<D> {
    inner: D,
    ledger: Arc<Ledger>,
    segments_for: Purpose,
}

impl<D: Directory> Ledgered<D> {
    /// Keeps `ledger` of what goes through `inner`; segments written are counted under `segments_for`.
    pub fn new(inner: D, ledger: Arc<Ledger>, segments_for: Purpose) -> Ledgered<D> {
        Ledgered { inner, ledger, segments_for }
    }

    /// What is behind it.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn file(&self, name: &str, inner: D::File) -> LedgeredFile<D::File> {
        let purpose = match () {
            () if name.starts_with("translog") => Purpose::Translog,
            () if segment_of_file(name).is_some() => self.segments_for,
            () => Purpose::Other,
        };
        LedgeredFile { inner, ledger: Arc::clone(&self.ledger), purpose }
    }
}

impl<D: Directory> Directory for Ledgered<D> {
    type File = LedgeredFile<D::File>;

    fn ledger(&self) -> Option<&Arc<Ledger>> {
        Some(&self.ledger)
    }

    async fn create(&self, name: &str, size: u64) -> Result<Self::File> {
        Ok(self.file(name, self.inner.create(name, size).await?))
    }

    async fn open(&self, name: &str) -> Result<Self::File> {
        Ok(self.file(name, self.inner.open(name).await?))
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.inner.read(name).await
    }

    async fn map_with<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(FileBytes) -> T + Send + 'static,
    ) -> Result<T> {
        self.inner.map_with(name, work).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name).await
    }

    async fn list(&self) -> Result<Vec<(String, u64)>> {
        self.inner.list().await
    }

    async fn sync(&self) -> Result<()> {
        self.ledger.directory_syncs.fetch_add(1, Relaxed);
        self.inner.sync().await
    }
}

/// An open file whose account is kept.
#[derive(Debug)]
pub struct LedgeredFile<F> {
    inner: F,
    ledger: Arc<Ledger>,
    purpose: Purpose,
}

impl<F> LedgeredFile<F> {
    fn counts(&self) -> &Counts {
        &self.ledger.purposes[self.purpose as usize]
    }
}

impl<F: File> File for LedgeredFile<F> {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.write_at(offset, data).await?;
        self.counts().writes.fetch_add(1, Relaxed);
        self.counts().written.fetch_add(data.len() as u64, Relaxed);
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let read = self.inner.read_at(offset, len).await?;
        self.counts().reads.fetch_add(1, Relaxed);
        self.counts().read.fetch_add(read.len() as u64, Relaxed);
        Ok(read)
    }

    async fn sync(&self) -> Result<()> {
        self.counts().syncs.fetch_add(1, Relaxed);
        self.inner.sync().await
    }

    async fn truncate(&self, size: u64) -> Result<()> {
        self.inner.truncate(size).await
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    async fn close(self) -> Result<()> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::store::sim::SimDirectory;
    use crate::store::{BLOCK, write_file};

    #[test]
    fn everything_is_counted_under_what_it_is_for() {
        block_on(async {
            let ledger = Arc::<Ledger>::default();
            let shard = Ledgered::new(SimDirectory::new(1), Arc::clone(&ledger), Purpose::Segments);
            let merges = Ledgered::new(shard.inner().clone(), Arc::clone(&ledger), Purpose::Merges);
            write_file(&shard, "_1.seg", &[1; 5000]).await.unwrap();
            write_file(&merges, "_2.seg", &[1; 9000]).await.unwrap();
            write_file(&shard, "commit-1", b"x").await.unwrap();
            let log = shard.create("translog-1.tlog", 0).await.unwrap();
            log.write_at(0, &[0; BLOCK]).await.unwrap();
            log.sync().await.unwrap();
            log.sync().await.unwrap();
            assert_eq!(log.read_at(10, 100).await.unwrap().len(), 100);
            shard.sync().await.unwrap();
            let block = BLOCK as u64;
            let written = Purpose::ALL.map(|p| ledger.flow(p).written_bytes);
            assert_eq!(written, [block, 2 * block, 3 * block, block]);
            assert_eq!(
                ledger.flow(Purpose::Translog),
                Flow { writes: 1, written_bytes: block, reads: 1, read_bytes: 100, syncs: 2 }
            );
            assert_eq!(ledger.directory_syncs(), 1);
            assert!(shard.ledger().is_some() && shard.inner().ledger().is_none());
        });
    }

    #[test]
    fn keeps_the_contract() {
        let directory = Ledgered::new(SimDirectory::new(2), Arc::default(), Purpose::Segments);
        block_on(crate::store::conformance::check(directory));
    }
}

//! A directory that counts what is written, by what it is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringdex_engine::error::Result;
use ringdex_engine::segment::segment_of_file;
use ringdex_engine::store::{Directory, File, FileBytes};
use serde_json::{Map, Value, json};

/// Bytes written so far, shared by every thread that writes to one shard.
#[derive(Default)]
pub struct Written {
    segments: AtomicU64,
    merges: AtomicU64,
    translog: AtomicU64,
    other: AtomicU64,
}

impl Written {
    /// Figures beside an index of this size.
    pub fn figures(&self, index_bytes: u64) -> Map<String, Value> {
        let (segments, merges) = (self.segments.load(Relaxed), self.merges.load(Relaxed));
        let (translog, other) = (self.translog.load(Relaxed), self.other.load(Relaxed));
        let times = |bytes: u64| bytes as f64 / index_bytes.max(1) as f64;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let figures = json!({
            "segments_mb": mb(segments), "merges_mb": mb(merges), "translog_mb": mb(translog), "other_mb": mb(other),
            "write_amplification": times(segments + merges + translog + other),
            "write_amplification_index": times(segments + merges + other),
        });
        let Value::Object(figures) = figures else { unreachable!("an object was made") };
        figures
    }
}

/// Counts into `written` what goes through it.
#[derive(Clone)]
pub struct Counted<D> {
    pub inner: D,
    pub written: Arc<Written>,
    /// Segments written through this one come from merges.
    pub merges: bool,
}

/// An open file of one.
pub struct CountedFile<F> {
    inner: F,
    written: Arc<Written>,
    of: fn(&Written) -> &AtomicU64,
}

impl<D: Directory> Counted<D> {
    fn file(&self, name: &str, inner: D::File) -> CountedFile<D::File> {
        let of: fn(&Written) -> &AtomicU64 = match () {
            () if name.starts_with("translog") => |w| &w.translog,
            () if segment_of_file(name).is_none() => |w| &w.other,
            () if self.merges => |w| &w.merges,
            () => |w| &w.segments,
        };
        CountedFile { inner, written: self.written.clone(), of }
    }
}

impl<D: Directory> Directory for Counted<D> {
    type File = CountedFile<D::File>;

    async fn create(&self, name: &str, size: u64) -> Result<Self::File> {
        Ok(self.file(name, self.inner.create(name, size).await?))
    }

    async fn open(&self, name: &str) -> Result<Self::File> {
        Ok(self.file(name, self.inner.open(name).await?))
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.inner.read(name).await
    }

    async fn map(&self, name: &str) -> Result<FileBytes> {
        self.inner.map(name).await
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
        self.inner.sync().await
    }
}

impl<F: File> File for CountedFile<F> {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        (self.of)(&self.written).fetch_add(data.len() as u64, Relaxed);
        self.inner.write_at(offset, data).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.read_at(offset, len).await
    }

    async fn sync(&self) -> Result<()> {
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

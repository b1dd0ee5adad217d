//! Files of one shard, behind traits: io_uring in production ([`dma`]), a seeded simulated disk in tests ([`sim`]).
//!
//! Contract of every implementation (POSIX minimum; the simulated disk gives no more than this):
//! - `write_at` is durable only after a later [`File::sync`] of that file has returned.
//! - creating, renaming and removing are durable only after a later [`Directory::sync`].
//! - there is no order between files, and an unsynced write can be torn at any 512-byte boundary.
//! - after a failed `sync` the content of the file is unknown; it is never synced again.

use std::future::Future;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, Result};

pub mod bitpack;
#[cfg(test)]
mod conformance;
#[cfg(feature = "glommio")]
pub mod dma;
pub mod ledger;
pub mod sim;

/// Offsets and lengths of [`File::write_at`] are multiples of this (direct I/O).
pub const BLOCK: usize = 4096;

/// Immutable bytes of a whole file, shared between threads: an image in memory or a mapped file.
#[derive(Clone)]
pub struct FileBytes(Arc<dyn Holder>);

/// What the bytes of a file are held by.
pub trait Holder: Send + Sync + 'static {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// Reads a part into memory, and waits for the disk: whoever uses it soon after need not.
    fn make_resident(&self, _part: Range<usize>) {}

    /// Begins to read a part that is about to be used.
    fn read_ahead(&self, _part: Range<usize>) {}
}

struct InMemory<T>(T);

impl<T: AsRef<[u8]> + Send + Sync + 'static> Holder for InMemory<T> {
    fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl FileBytes {
    /// Wraps any owner of bytes that are in memory.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> FileBytes {
        FileBytes::held(Arc::new(InMemory(owner)))
    }

    /// Wraps a holder of bytes.
    pub fn held(holder: Arc<impl Holder>) -> FileBytes {
        FileBytes(holder)
    }

    /// Reads a part into memory, and waits for the disk; not for a thread that serves.
    pub fn make_resident(&self, part: Range<usize>) {
        self.0.make_resident(part);
    }

    /// Begins to read a part that is about to be used; waits for nothing.
    pub fn read_ahead(&self, part: Range<usize>) {
        self.0.read_ahead(part);
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileBytes({} bytes)", self.len())
    }
}

/// One directory of files: a shard's, or the node's own. Names have no separators.
pub trait Directory: Clone + 'static {
    /// An open file.
    type File: File;

    /// Makes a new file for writing, in place of any of that name (whose holders keep the old one). `size` bytes are
    /// allocated: the file begins with that length, all zeros; truncate it at the end if less was written. A file of
    /// known size is written at twice the speed of a growing one.
    fn create(&self, name: &str, size: u64) -> impl Future<Output = Result<Self::File>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> impl Future<Output = Result<Self::File>>;

    /// Reads a whole (small) file into memory. `Error::NotFound` when it does not exist.
    fn read(&self, name: &str) -> impl Future<Output = Result<Vec<u8>>>;

    /// Maps a whole immutable file and runs `work` on it where waiting for the disk holds nobody up: a page is read when it is
    /// touched. Only after its last write has completed and only for files never written again.
    fn map_with<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(FileBytes) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>>;

    /// Maps a whole immutable file, of which nothing is read.
    fn map(&self, name: &str) -> impl Future<Output = Result<FileBytes>> {
        self.map_with(name, |bytes| bytes)
    }

    /// The same, of a file that will be used at once: it is in memory when this returns.
    fn map_resident(&self, name: &str) -> impl Future<Output = Result<FileBytes>> {
        self.map_with(name, |bytes| {
            bytes.make_resident(0..bytes.len());
            bytes
        })
    }

    /// Atomically gives `from` the name `to`, replacing it.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<()>>;

    /// Removes a file; mapped or open ones stay readable until dropped.
    fn remove(&self, name: &str) -> impl Future<Output = Result<()>>;

    /// Names and sizes in bytes of all files, sorted by name.
    fn list(&self) -> impl Future<Output = Result<Vec<(String, u64)>>>;

    /// Makes all creations, renames and removals so far durable.
    fn sync(&self) -> impl Future<Output = Result<()>>;

    /// Held by an engine as long as it lives: where it is noted, two that work on the same files are found out.
    fn claim(&self) -> Option<Rc<()>> {
        None
    }

    /// The account of what is read and written here, if one is kept.
    fn ledger(&self) -> Option<&Arc<ledger::Ledger>> {
        None
    }
}

/// An open file. All offsets in bytes.
pub trait File: 'static {
    /// Writes all of `data` at `offset`; both are multiples of [`BLOCK`]. A short write is an error.
    /// Running out of space is `Error::DiskFull`.
    fn write_at(&self, offset: u64, data: &[u8]) -> impl Future<Output = Result<()>>;

    /// Reads up to `len` bytes at `offset`, fewer only at the end of the file. Any alignment.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = Result<Vec<u8>>>;

    /// Makes the content and the length durable (fdatasync).
    fn sync(&self) -> impl Future<Output = Result<()>>;

    /// Cuts or extends (with zeros) to `size` bytes.
    fn truncate(&self, size: u64) -> impl Future<Output = Result<()>>;

    /// Bytes in the file now.
    fn size(&self) -> impl Future<Output = Result<u64>>;

    /// Closes; dropping without closing is allowed and may block.
    fn close(self) -> impl Future<Output = Result<()>>;
}

/// Writes a small file so that after any crash either the old or the new content is there:
/// `name.tmp`, sync, rename, directory sync.
pub async fn replace_file<D: Directory>(directory: &D, name: &str, content: &[u8]) -> Result<()> {
    let tmp = format!("{name}.tmp");
    write_file(directory, &tmp, content).await?;
    directory.rename(&tmp, name).await?;
    directory.sync().await
}

/// Creates a file with `content`, syncs and closes it. The directory entry is not synced. When there is no space, what was
/// written is removed again: half a file would keep the space from others.
pub async fn write_file<D: Directory>(directory: &D, name: &str, content: &[u8]) -> Result<()> {
    let written = write_padded(directory, name, content).await;
    if let Err(Error::DiskFull { .. }) = written {
        let _ = directory.remove(name).await;
    }
    written
}

async fn write_padded<D: Directory>(directory: &D, name: &str, content: &[u8]) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    let padded_size = content.len().div_ceil(BLOCK) * BLOCK;
    let file = directory.create(name, padded_size as u64).await?;
    for (i, chunk) in content.chunks(CHUNK).enumerate() {
        let offset = (i * CHUNK) as u64;
        if chunk.len().is_multiple_of(BLOCK) {
            file.write_at(offset, chunk).await?;
        } else {
            let mut padded = chunk.to_vec();
            padded.resize(chunk.len().div_ceil(BLOCK) * BLOCK, 0);
            file.write_at(offset, &padded).await?;
        }
    }
    file.truncate(content.len() as u64).await?;
    file.sync().await?;
    file.close().await
}

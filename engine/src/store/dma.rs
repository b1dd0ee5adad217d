//! Files through glommio: direct I/O (`O_DIRECT`) by io_uring, every written length checked.
//!
//! - Writes copy into DMA buffers of at most 1 MiB; a short write is continued, which brings out its reason.
//! - Calls that would block (rename, remove, list, map) run in the executor's blocking pool.
//! - Before anything else, every executor thread must call [`iopoll_guard`].

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glommio::GlommioError;
use glommio::io::{DmaFile as Dma, OpenOptions};

use super::{BLOCK, Directory, File, FileBytes, Holder};
use crate::error::{Error, Result};

/// Bytes of one request to the kernel.
const CHUNK: usize = 1 << 20;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// A directory of the file system; clones are cheap.
#[derive(Clone, Debug)]
pub struct DmaDirectory {
    path: Rc<Path>,
}

/// An open file.
pub struct DmaFile {
    file: Dma,
    name: String,
}

/// Opens a non-empty file in `directory` (made at need, `iopoll-guard`, one block), and closes it.
///
/// glommio finds out whether a device can poll by reading the first file that an executor thread opens on it. If that
/// file is empty, the read ends at once and counts as success: from then on all direct I/O of the thread goes through a
/// polling ring, which spins, or which devices without poll queues refuse (`EOPNOTSUPP`). So every executor thread
/// calls this for every data path before it opens anything else there. It is also where a file
/// system without direct I/O, or a kernel without io_uring, shows itself.
pub async fn iopoll_guard(directory: &Path) -> Result<()> {
    let path = directory.join("iopoll-guard");
    let dir = directory.to_owned();
    blocking("iopoll-guard: create", move || {
        std::fs::create_dir_all(&dir)?;
        let path = dir.join("iopoll-guard");
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == BLOCK as u64) {
            return Ok(());
        }
        // Renamed into place: several threads may do this at once, and none may see an empty file.
        let tmp = dir.join(format!("iopoll-guard.{:?}.tmp", std::thread::current().id()));
        std::fs::write(&tmp, [b'\n'; BLOCK])?;
        std::fs::File::open(&tmp)?.sync_all()?;
        std::fs::rename(&tmp, &path)
    })
    .await?;
    let file = Dma::open(&path).await.map_err(|e| open_error("iopoll-guard", "open", &e))?;
    let read = file.read_at_aligned(0, BLOCK).await.map_err(|e| error("iopoll-guard", "direct read", &e))?;
    if read.len() != BLOCK {
        return Err(Error::Io {
            context: "iopoll-guard: direct read".to_owned(),
            reason: format!("{} of {BLOCK} bytes", read.len()),
        });
    }
    file.close().await.map_err(|e| error("iopoll-guard", "close", &e))
}

impl DmaDirectory {
    /// Opens `path`, making it (and its parents) if it does not exist. The caller syncs the parent if the
    /// directory itself must survive.
    pub async fn open(path: impl Into<PathBuf>) -> Result<DmaDirectory> {
        let path: PathBuf = path.into();
        let create = path.clone();
        blocking(&path.to_string_lossy(), move || std::fs::create_dir_all(create)).await?;
        Ok(DmaDirectory { path: path.into() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        assert!(!name.is_empty() && !name.contains('/'), "file name {name:?}");
        self.path.join(name)
    }
}

impl Directory for DmaDirectory {
    type File = DmaFile;

    async fn create(&self, name: &str, size: u64) -> Result<DmaFile> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = match options.dma_open(&path).await {
            // Never truncated in place: the old file may be mapped.
            Err(e) if e.raw_os_error() == Some(EEXIST) => {
                self.remove(name).await?;
                options.dma_open(&path).await
            }
            other => other,
        };
        let file = file.map_err(|e| open_error(name, "create", &e))?;
        if size > 0
            && let Err(e) = file.pre_allocate(size, false).await
        {
            // What it got counts as used while the file is open, even after the caller has removed it.
            let _ = file.close().await;
            return Err(error(name, "allocate", &e));
        }
        Ok(DmaFile { file, name: name.to_owned() })
    }

    async fn open(&self, name: &str) -> Result<DmaFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.dma_open(self.file(name)).await.map_err(|e| open_error(name, "open", &e))?;
        Ok(DmaFile { file, name: name.to_owned() })
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        blocking(&format!("{name}: read"), move || std::fs::read(path)).await
    }

    async fn map_with<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(FileBytes) -> T + Send + 'static,
    ) -> Result<T> {
        let path = self.file(name);
        let mapped = move || {
            let Some(map) = map(&path)? else { return Ok(work(FileBytes::new(Vec::new()))) };
            // What looks into a file here and there wants these pages, not the megabytes that the kernel reads ahead.
            let mapped = Arc::new(Mapped(map));
            let _ = mapped.0.advise(memmap2::Advice::Random);
            let done = work(FileBytes::held(Arc::clone(&mapped)));
            let _ = mapped.0.advise(memmap2::Advice::Normal);
            Ok(done)
        };
        blocking(&format!("{name}: map"), mapped).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (old, new) = (self.file(from), self.file(to));
        blocking(&format!("{from}: rename to {to}"), move || std::fs::rename(old, new)).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        blocking(&format!("{name}: remove"), move || std::fs::remove_file(path)).await
    }

    async fn list(&self) -> Result<Vec<(String, u64)>> {
        let path = self.path.to_path_buf();
        blocking("list", move || {
            let mut files = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_file() {
                    files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
                }
            }
            files.sort();
            Ok(files)
        })
        .await
    }

    async fn sync(&self) -> Result<()> {
        let path = self.path.to_path_buf();
        blocking("directory: sync", move || std::fs::File::open(path)?.sync_all()).await
    }
}

/// Maps a whole file under the contract of `Directory::map`.
/// None: there is nothing in it.
fn map(path: &Path) -> std::io::Result<Option<memmap2::Mmap>> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the contract of `Directory::map`: the file is complete and is never written, truncated or extended
    // again (`create` makes a new file instead of truncating, `remove` leaves the mapping whole).
    unsafe { memmap2::Mmap::map(&file) }.map(Some)
}

struct Mapped(memmap2::Mmap);

impl Holder for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn make_resident(&self, part: Range<usize>) {
        let _ = self.0.advise(memmap2::Advice::Normal);
        // Linux 5.14. An older one reads each page when it is touched, as it does one that has been dropped since.
        let _ = self.0.advise_range(memmap2::Advice::PopulateRead, part.start, part.len());
    }

    fn read_ahead(&self, part: Range<usize>) {
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, part.start, part.len());
    }
}

impl File for DmaFile {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        assert!(offset.is_multiple_of(BLOCK as u64), "{}: write at {offset}", self.name);
        assert!(data.len().is_multiple_of(BLOCK), "{}: write of {} bytes", self.name, data.len());
        let mut done = 0;
        while done < data.len() {
            let chunk = &data[done..data.len().min(done + CHUNK)];
            let mut buffer = self.file.alloc_dma_buffer(chunk.len());
            let room = buffer.as_bytes_mut();
            room[..chunk.len()].copy_from_slice(chunk);
            room[chunk.len()..].fill(0);
            assert!(room.len() == chunk.len());
            let position = offset + done as u64;
            let written = self.file.write_at(buffer, position).await.map_err(|e| error(&self.name, "write", &e))?;
            // A short write comes from a full disk, a quota or a limit; the next one says which.
            if written == 0 || !written.is_multiple_of(BLOCK) && written != chunk.len() {
                return Err(Error::Io {
                    context: format!("{}: write", self.name),
                    reason: format!("{written} of {} bytes written at {position}", chunk.len()),
                });
            }
            done += written;
        }
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        // Aligned by hand: glommio's own unaligned read answers too many bytes at the end of a file.
        let mut out = Vec::new();
        let end = offset.saturating_add(len as u64);
        let mut position = offset;
        while position < end {
            let start = position / BLOCK as u64 * BLOCK as u64;
            let size = ((end - start).min(CHUNK as u64) as usize).next_multiple_of(BLOCK);
            let read = self.file.read_at_aligned(start, size).await.map_err(|e| error(&self.name, "read", &e))?;
            let skip = (position - start) as usize;
            if read.len() <= skip {
                break;
            }
            let take = (read.len() - skip).min((end - position) as usize);
            out.extend_from_slice(&read[skip..skip + take]);
            position += take as u64;
            if read.len() < size {
                break;
            }
        }
        Ok(out)
    }

    async fn sync(&self) -> Result<()> {
        self.file.fdatasync().await.map_err(|e| error(&self.name, "sync", &e))
    }

    async fn truncate(&self, size: u64) -> Result<()> {
        self.file.truncate(size).await.map_err(|e| error(&self.name, "truncate", &e))
    }

    async fn size(&self) -> Result<u64> {
        // glommio's `file_size` asks by path and fails after a rename; fstat of an open file does not block.
        // SAFETY: the descriptor is open while `self.file` lives, and `ManuallyDrop` leaves closing it to `self.file`.
        let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(self.file.as_raw_fd()) });
        match file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) => Err(io_error(&format!("{}: stat", self.name), &e)),
        }
    }

    async fn close(self) -> Result<()> {
        self.file.close().await.map_err(|e| error(&self.name, "close", &e))
    }
}

/// Runs `work` in the executor's blocking pool. A panic there would hang the caller for ever, so it becomes an error.
async fn blocking<T: Send + 'static>(
    context: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let guarded = move || catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(io::Error::other("panicked")));
    glommio::executor().spawn_blocking(guarded).await.map_err(|e| io_error(context, &e))
}

fn io_error(context: &str, e: &io::Error) -> Error {
    classify(context, e.raw_os_error(), e.to_string())
}

fn error(name: &str, operation: &str, e: &GlommioError<()>) -> Error {
    classify(&format!("{name}: {operation}"), e.raw_os_error(), e.to_string())
}

fn open_error(name: &str, operation: &str, e: &GlommioError<()>) -> Error {
    if e.raw_os_error() == Some(EINVAL) {
        return Error::Io {
            context: format!("{name}: {operation}"),
            reason: "the file system refuses direct I/O (O_DIRECT); put the data directory on ext4, XFS or another \
                     that has it"
                .to_owned(),
        };
    }
    error(name, operation, e)
}

fn classify(context: &str, errno: Option<i32>, reason: String) -> Error {
    match errno {
        Some(ENOSPC | EDQUOT) => Error::DiskFull { reason: format!("{context}: {reason}") },
        Some(ENOENT) => Error::NotFound { file: context.split(':').next().unwrap_or(context).to_owned() },
        _ => Error::Io { context: context.to_owned(), reason },
    }
}

/// Runs `test` in an executor, with a directory on the file system of the build (`/tmp` may be in memory).
#[cfg(test)]
pub(crate) fn on_disk<F: Future<Output = ()> + 'static>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    std::fs::create_dir_all(&target).unwrap();
    let dir = tempfile::tempdir_in(target).unwrap();
    let path = dir.path().to_owned();
    glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .io_memory(1 << 20)
        .spawn(move || async move {
            iopoll_guard(&path).await.unwrap();
            test(path).await;
        })
        .unwrap()
        .join()
        .unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn keeps_the_contract() {
        on_disk(async |path: PathBuf| {
            let directory = DmaDirectory::open(path.join("shard")).await.unwrap();
            conformance::check(directory).await;
        });
    }

    #[test]
    fn guard_may_run_on_every_start() {
        on_disk(async |path: PathBuf| {
            for _ in 0..3 {
                iopoll_guard(&path).await.unwrap();
            }
            assert_eq!(std::fs::metadata(path.join("iopoll-guard")).unwrap().len(), BLOCK as u64);
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "no litter");
        });
    }

    #[test]
    fn errors_are_told_by_what_the_caller_can_do() {
        let is = |errno| classify("a.seg: write", Some(errno), "x".to_owned());
        assert!(matches!(is(ENOSPC), Error::DiskFull { .. }));
        assert!(matches!(is(EDQUOT), Error::DiskFull { .. }));
        assert_eq!(is(ENOENT), Error::NotFound { file: "a.seg".to_owned() });
        assert!(is(5).fails_shard());
    }
}

//! One copy made of another's files: the files of a commit, held and read at the source; a directory filled at the target.
//!
//! The target fetches what it does not have into files called `recovery-NAME`, checks each, and makes it durable. Nothing of
//! the old copy is touched until all are there. Then `recovery.install` is written, which decides: from then on the directory
//! is the new copy, and whoever opens it finishes the work, however often it is interrupted:
//!
//! 1. the files get their names, those of the old copy (commits, segments, live docs, translog) are removed;
//! 2. the directory is synced; 3. `recovery.install` is removed, and the directory synced again.
//!
//! So a crash leaves the old copy, or the new one. File `recovery.install`, version 1 (integers little-endian):
//!
//! ```text
//!  0  magic     8 bytes  "RDXINST" 0
//!  8  version   u32      1
//! 12  length    u32      bytes in the body
//! 16  checksum  u32      crc32 of bytes 0..16 and the body
//! 20  body               varint count; per file: varint length and bytes of its name, varint size, u32 checksum
//! ```
//!
//! The checksum of a commit is the crc32 of its bytes. Of a segment and of live docs it is the one at the end, which covers
//! all others in it (`segment/file.rs`, `segment/live_docs.rs`): so damage of the source's disk is found, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::poll_once;

use crate::codec::{Reader, crc32, put_bytes, put_varint};
use crate::commit::{CommitPoint, live_docs_file, parse_name};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::flush::segment_of_any_file;
use crate::ids::{Generation, SeqNo};
use crate::segment::file::{BlockChecksums, FOOTER_LEN};
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::segment::{segment_file_name, segment_of_file};
use crate::store::{BLOCK, Directory, File, FileBytes, replace_file};

const MAGIC: &[u8; 8] = b"RDXINST\0";
const VERSION: u32 = 1;
const HEADER: usize = 20;
const MARKER: &str = "recovery.install";
const PREFIX: &str = "recovery-";
/// Pieces of a file that are being written at a time.
const WRITES: usize = 4;
/// Complete files that are being made durable and checked while the next are fetched.
const FINISHING: usize = 4;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFile {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// See the module.
    pub checksum: u32,
}

/// The newest commit of a copy, as files. While it lives, they stay, whatever is flushed and merged, and so does the
/// history above the commit's local checkpoint.
pub struct CommitSnapshot<D: Directory> {
    directory: D,
    commit: CommitPoint,
    files: Vec<CommitFile>,
    pin: Pin,
    /// The file that was read last: chunks of one follow each other.
    open: RefCell<Option<(String, Rc<D::File>)>>,
}

/// Keeps a commit while it lives.
struct Pin {
    generation: Generation,
    pins: Rc<RefCell<BTreeMap<Generation, usize>>>,
}

impl Pin {
    fn new(generation: Generation, pins: &Rc<RefCell<BTreeMap<Generation, usize>>>) -> Pin {
        *pins.borrow_mut().entry(generation).or_default() += 1;
        Pin { generation, pins: pins.clone() }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.borrow_mut();
        let count = pins.get_mut(&self.generation).expect("pinned");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.generation);
        }
    }
}

impl<D: Directory> Engine<D> {
    /// Holds the newest commit and lists its files. Flush first to have less history to send.
    ///
    /// # Errors
    /// Those of reading the small ones of them.
    pub async fn snapshot_files(&self) -> Result<CommitSnapshot<D>> {
        let (commit, pin) = {
            let state = self.state.borrow();
            let commit = state.copy.commits.last().expect("an open shard has a commit").clone();
            let pin = Pin::new(commit.generation, &state.copy.pins);
            (commit, pin)
        };
        let mut files: Vec<CommitFile> = commit
            .segments
            .iter()
            .map(|s| CommitFile { name: s.file.clone(), size: s.size, checksum: s.crc })
            .collect();
        for name in commit.segments.iter().filter_map(|s| s.live_docs_file()).chain([commit.file_name()]) {
            let content = FileBytes::new(self.directory.read(&name).await?);
            let size = content.len() as u64;
            let checksum = checksum(&name, &name, content)?;
            files.push(CommitFile { name, size, checksum });
        }
        Ok(CommitSnapshot { directory: self.directory.clone(), commit, files, pin, open: RefCell::default() })
    }
}

impl<D: Directory> CommitSnapshot<D> {
    /// All files; the commit itself is the last.
    #[must_use]
    pub fn files(&self) -> &[CommitFile] {
        &self.files
    }

    /// Every operation up to here is in them.
    #[must_use]
    pub fn local_checkpoint(&self) -> SeqNo {
        self.commit.local_checkpoint
    }

    /// None above this is. A target must get every operation from the local checkpoint up to here before it is a copy.
    #[must_use]
    pub fn max_seq_no(&self) -> SeqNo {
        self.commit.max_seq_no
    }

    /// Which commit it is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.pin.generation
    }

    /// Up to `len` bytes of a file, fewer only at its end.
    ///
    /// # Errors
    /// `NotFound` for a file that is not of the commit.
    pub async fn read(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        if !self.files.iter().any(|f| f.name == name) {
            return Err(Error::NotFound { file: name.to_owned() });
        }
        let cached = self.open.borrow().as_ref().filter(|(open, _)| open == name).map(|(_, file)| file.clone());
        let file = match cached {
            Some(file) => file,
            None => {
                let file = Rc::new(self.directory.open(name).await?);
                *self.open.borrow_mut() = Some((name.to_owned(), file.clone()));
                file
            }
        };
        file.read_at(offset, len).await
    }
}

/// A directory that is being made a copy of another's commit. No engine may be open in it.
pub struct RecoveryTarget<D: Directory> {
    directory: D,
    shard_uuid: [u8; 16],
    files: Vec<TargetFile<D::File>>,
    /// By place in `files`.
    finishing: VecDeque<(usize, Work)>,
}

/// Something that the disk does.
type Work = std::pin::Pin<Box<dyn Future<Output = Result<()>>>>;

struct TargetFile<F> {
    wanted: CommitFile,
    fetched: Fetched<F>,
}

enum Fetched<F> {
    /// Nothing of it.
    No,
    /// The beginning.
    Some(Growing<F>),
    /// All of it; it is being made durable and checked.
    Finishing,
    /// Durable under its temporary name.
    All,
    /// The old copy has it.
    Here,
}

/// A file of which the beginning is there.
struct Growing<F> {
    file: Rc<F>,
    /// Bytes that are written, or about to be.
    written: u64,
    /// What follows them, less than a block.
    tail: Vec<u8>,
    /// All of both.
    hashed: BlockChecksums,
    writes: VecDeque<Work>,
}

impl<F: File> Growing<F> {
    fn len(&self) -> u64 {
        self.written + self.tail.len() as u64
    }

    /// Takes the next bytes; with the last ones the rest of the last block is zeros.
    async fn push(&mut self, mut bytes: Bytes, last: bool) -> Result<()> {
        self.hashed.update(&bytes);
        // Whole blocks go as they are; only what is left over is put together with what comes next.
        if self.tail.is_empty() {
            let whole = bytes.split_to(bytes.len() / BLOCK * BLOCK);
            self.write(whole).await?;
        }
        self.tail.extend_from_slice(&bytes);
        if last {
            self.tail.resize(self.tail.len().next_multiple_of(BLOCK), 0);
        }
        let rest = self.tail.split_off(self.tail.len() / BLOCK * BLOCK);
        let whole = std::mem::replace(&mut self.tail, rest);
        self.write(whole.into()).await
    }

    /// Begins to write whole blocks. Waits until few writes are left, not for this one.
    async fn write(&mut self, blocks: Bytes) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let (file, at) = (Rc::clone(&self.file), self.written);
        self.written += blocks.len() as u64;
        let mut write: Work = Box::pin(async move { file.write_at(at, &blocks).await });
        match poll_once(&mut write).await {
            Some(written) => written?,
            None => self.writes.push_back(write),
        }
        while self.writes.len() > WRITES {
            self.writes.pop_front().expect("there are some").await?;
        }
        Ok(())
    }

    /// Waits for its writes, makes it durable and holds it against `wanted`.
    async fn finish<D: Directory>(self, directory: D, wanted: CommitFile) -> Result<()> {
        for write in self.writes {
            write.await?;
        }
        let (file, name, size) = (self.file, &wanted.name, wanted.size);
        file.truncate(size).await?;
        file.sync().await?;
        let found = checksum_of_hashed(&*file, name, size, &self.hashed).await;
        if let Some(file) = Rc::into_inner(file) {
            file.close().await?;
        }
        compare(&temporary(name), found?, &wanted)?;
        // What opening the copy will read of it is in memory then, while others are still on their way.
        if let Some(id) = segment_of_file(name) {
            directory.map_with(&temporary(name), move |bytes| SegmentReader::open(id, bytes).map(drop)).await??;
        }
        Ok(())
    }
}

fn temporary(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn wrong(name: &str, reason: impl Into<String>) -> Error {
    Error::corrupt(name, 0, reason)
}

/// Whether a commit may name such a file.
fn is_commit_file(name: &str) -> bool {
    let segment = || segment_of_file(name).is_some_and(|id| segment_file_name(id) == name);
    let live = || {
        let (id, generation) = name.strip_suffix(".live")?.split_once('-')?;
        let (id, generation) = (crate::ids::SegmentId(id.parse().ok()?), Generation(generation.parse().ok()?));
        Some(live_docs_file(id, generation) == name)
    };
    parse_name(name).is_some() || segment() || live() == Some(true)
}

impl<D: Directory> RecoveryTarget<D> {
    /// Looks which of the source's files are here already (by their content), and forgets an earlier attempt.
    ///
    /// # Errors
    /// `Corrupt` for a list that no commit can have; errors of the disk.
    pub async fn begin(directory: D, shard_uuid: [u8; 16], files: Vec<CommitFile>) -> Result<RecoveryTarget<D>> {
        match finish_install(&directory).await {
            // What was begun can never be finished. It ends when this one is installed.
            Err(Error::Corrupt { .. }) | Ok(()) => {}
            Err(e) => return Err(e),
        }
        remove_unfinished(&directory).await?;
        let mut names = BTreeSet::new();
        for file in &files {
            if !is_commit_file(&file.name) || !names.insert(&file.name) {
                return Err(wrong(&file.name, "is not a file of a commit, or is listed twice"));
            }
        }
        if names.iter().filter(|name| parse_name(name).is_some()).count() != 1 {
            return Err(wrong(MARKER, "not one commit among the files of the source"));
        }
        let here: BTreeMap<String, u64> = directory.list().await?.into_iter().collect();
        let mut target = Vec::with_capacity(files.len());
        for wanted in files {
            let mut fetched = Fetched::No;
            if here.get(&wanted.name) == Some(&wanted.size) && check(&directory, &wanted).await.is_ok() {
                let file = directory.open(&wanted.name).await?;
                file.sync().await?;
                file.close().await?;
                fetched = Fetched::Here;
            }
            target.push(TargetFile { wanted, fetched });
        }
        Ok(RecoveryTarget { directory, shard_uuid, files: target, finishing: VecDeque::new() })
    }

    /// What is still to be fetched: each file, and from which offset on.
    pub fn missing(&self) -> impl Iterator<Item = (&CommitFile, u64)> {
        self.files.iter().filter_map(|f| match &f.fetched {
            Fetched::No => Some((&f.wanted, 0)),
            Fetched::Some(growing) => Some((&f.wanted, growing.len())),
            Fetched::Finishing | Fetched::All | Fetched::Here => None,
        })
    }

    /// Bytes of files that the old copy had.
    #[must_use]
    pub fn reused_bytes(&self) -> u64 {
        self.files.iter().filter(|f| matches!(f.fetched, Fetched::Here)).map(|f| f.wanted.size).sum()
    }

    /// Takes the next bytes of a file: each begins where the last one ended. After its last bytes a file is made durable and
    /// checked, while others are fetched; an empty file is complete with no bytes at offset 0.
    ///
    /// # Errors
    /// `Corrupt` when they do not follow, or when a file that was complete is not what was listed: that one is to be fetched
    /// again, and what came is lost. `DiskFull`; `Io`.
    pub async fn write(&mut self, name: &str, offset: u64, bytes: Bytes) -> Result<()> {
        self.go_on().await?;
        let Some(number) = self.files.iter().position(|f| f.wanted.name == name) else {
            return Err(wrong(name, "is not to be fetched"));
        };
        let target = &mut self.files[number];
        let size = target.wanted.size;
        let mut growing = match std::mem::replace(&mut target.fetched, Fetched::No) {
            Fetched::No => {
                let file = self.directory.create(&temporary(name), size.next_multiple_of(BLOCK as u64)).await?;
                let (tail, hashed, writes) = Default::default();
                Growing { file: Rc::new(file), written: 0, tail, hashed, writes }
            }
            Fetched::Some(growing) => growing,
            done => {
                target.fetched = done;
                return Err(wrong(name, "is here already"));
            }
        };
        let end = growing.len();
        if offset != end || bytes.len() as u64 > size - end {
            target.fetched = Fetched::Some(growing);
            let reason = format!("{} bytes at {offset} of {size} came, expected at {end}", bytes.len());
            return Err(wrong(name, reason));
        }
        let last = end + bytes.len() as u64 == size;
        growing.push(bytes, last).await?;
        if last {
            target.fetched = Fetched::Finishing;
            self.finishing.push_back((number, Box::pin(growing.finish(self.directory.clone(), target.wanted.clone()))));
        } else {
            target.fetched = Fetched::Some(growing);
        }
        Ok(())
    }

    /// What is finishing goes on; too much of it is waited for.
    async fn go_on(&mut self) -> Result<()> {
        while self.finishing.len() > FINISHING {
            self.finish_oldest().await?;
        }
        let mut still = VecDeque::new();
        while let Some((number, mut work)) = self.finishing.pop_front() {
            match poll_once(&mut work).await {
                None => still.push_back((number, work)),
                Some(finished) => {
                    if let Err(e) = self.finished(number, finished) {
                        still.append(&mut self.finishing);
                        self.finishing = still;
                        return Err(e);
                    }
                }
            }
        }
        self.finishing = still;
        Ok(())
    }

    async fn finish_oldest(&mut self) -> Result<()> {
        let Some((number, work)) = self.finishing.pop_front() else { return Ok(()) };
        let finished = work.await;
        self.finished(number, finished)
    }

    fn finished(&mut self, number: usize, finished: Result<()>) -> Result<()> {
        self.files[number].fetched = if finished.is_ok() { Fetched::All } else { Fetched::No };
        finished
    }

    /// Waits until every file that is complete is durable and checked.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub async fn settle(&mut self) -> Result<()> {
        while !self.finishing.is_empty() {
            self.finish_oldest().await?;
        }
        Ok(())
    }

    /// Makes the directory the new copy. All files must have been fetched. When this returns (or if it is interrupted after
    /// its point of decision) opening the directory opens the new copy; before, the old one.
    ///
    /// # Errors
    /// `Corrupt` when the files are not those of one commit of this shard; errors of the disk.
    pub async fn install(mut self) -> Result<()> {
        self.settle().await?;
        if let Some((file, from)) = self.missing().next() {
            return Err(wrong(&file.name, format!("is to be fetched from {from} on")));
        }
        let commit =
            self.files.iter().find(|f| parse_name(&f.wanted.name).is_some()).expect("checked at the beginning");
        let name = &commit.wanted.name;
        let at = if matches!(commit.fetched, Fetched::Here) { name.clone() } else { temporary(name) };
        let commit = CommitPoint::decode(name, &self.directory.read(&at).await?)?;
        if commit.shard_uuid != self.shard_uuid {
            return Err(wrong(name, "belongs to another shard"));
        }
        let names: BTreeSet<String> = self.files.iter().map(|f| f.wanted.name.clone()).collect();
        if commit.referenced_files() != names {
            return Err(wrong(name, "names other files than the source listed"));
        }
        let files: Vec<CommitFile> = self.files.iter().map(|f| f.wanted.clone()).collect();
        // The temporary names must be durable before anything relies on them.
        self.directory.sync().await?;
        replace_file(&self.directory, MARKER, &encode(&files)).await?;
        finish_install(&self.directory).await
    }

    /// Gives up; the old copy stays.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn abandon(self) -> Result<()> {
        remove_unfinished(&self.directory).await
    }
}

/// The checksum of a file whose bytes were hashed on their way into it. Little of it is read.
async fn checksum_of_hashed(file: &impl File, name: &str, size: u64, hashed: &BlockChecksums) -> Result<u32> {
    let Some(id) = segment_of_file(name) else {
        return checksum(name, name, FileBytes::new(file.read_at(0, size as usize).await?));
    };
    if size < FOOTER_LEN as u64 {
        return Err(wrong(name, format!("{size} bytes are too few for a segment")));
    }
    let footer = file.read_at(size - FOOTER_LEN as u64, FOOTER_LEN).await?;
    let tail_at = BlockChecksums::tail_at(id, &footer, size)?;
    let tail = file.read_at(tail_at, (size - tail_at) as usize).await?;
    hashed.verify(id, &tail, size)
}

/// That the file of this name has the content of `wanted`. Others get a turn while a large one is read.
async fn check<D: Directory>(directory: &D, wanted: &CommitFile) -> Result<()> {
    let name = &wanted.name;
    let bytes = directory.map_resident(name).await?;
    if bytes.len() as u64 != wanted.size {
        return Err(wrong(name, format!("{} bytes, expected {}", bytes.len(), wanted.size)));
    }
    let Some(id) = segment_of_file(name) else { return compare(name, checksum(name, name, bytes)?, wanted) };
    let reader = SegmentReader::open(id, bytes)?;
    for block in 0..reader.blocks() {
        reader.verify_block(block)?;
        futures_lite::future::yield_now().await;
    }
    compare(name, reader.meta().crc, wanted)
}

fn compare(name: &str, found: u32, wanted: &CommitFile) -> Result<()> {
    if found != wanted.checksum {
        return Err(wrong(name, format!("checksum {found:08x}, expected {:08x}", wanted.checksum)));
    }
    Ok(())
}

/// That of a file in a commit that is no segment, see the module; `at` is where it is now, `name` what it is called in the commit.
fn checksum(at: &str, name: &str, bytes: FileBytes) -> Result<u32> {
    if parse_name(name).is_some() { Ok(crc32(&bytes)) } else { LiveDocs::checksum(at, &bytes) }
}

/// Removes what an attempt has fetched that did not come to its decision.
pub(crate) async fn remove_unfinished<D: Directory>(directory: &D) -> Result<()> {
    let mut removed = false;
    for (name, _) in directory.list().await? {
        if name.starts_with(PREFIX) || name.strip_suffix(".tmp") == Some(MARKER) {
            directory.remove(&name).await?;
            removed = true;
        }
    }
    if removed { directory.sync().await } else { Ok(()) }
}

/// If a decision was made to install a copy: installs it. Whoever opens a shard begins with this.
pub(crate) async fn finish_install<D: Directory>(directory: &D) -> Result<()> {
    let marker = match directory.read(MARKER).await {
        Ok(bytes) => bytes,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(e) => return Err(e),
    };
    // It is read: it must not vanish again before what it says is done.
    directory.sync().await?;
    let files = decode(&marker)?;
    let here: BTreeMap<String, u64> = directory.list().await?.into_iter().collect();
    for file in &files {
        let temporary = temporary(&file.name);
        let size = match here.get(&temporary) {
            Some(size) => {
                directory.rename(&temporary, &file.name).await?;
                Some(size)
            }
            None => here.get(&file.name),
        };
        if size != Some(&file.size) {
            return Err(wrong(&file.name, format!("{size:?} bytes, expected {}", file.size)));
        }
    }
    for (name, _) in directory.list().await? {
        let ours = parse_name(&name).is_some()
            || name.strip_suffix(".tmp").is_some_and(|n| parse_name(n).is_some())
            || segment_of_any_file(&name).is_some()
            || name.starts_with("translog-")
            || name.starts_with(PREFIX);
        if ours && !files.iter().any(|f| f.name == name) {
            directory.remove(&name).await?;
        }
    }
    directory.sync().await?;
    directory.remove(MARKER).await?;
    directory.sync().await
}

fn encode(files: &[CommitFile]) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, files.len() as u64);
    for file in files {
        put_bytes(&mut body, file.name.as_bytes());
        put_varint(&mut body, file.size);
        body.extend_from_slice(&file.checksum.to_le_bytes());
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = crc32(&[&out[..], &body].concat());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<CommitFile>> {
    let mut r = Reader::new(MARKER, bytes);
    if r.take(8)? != MAGIC {
        return Err(wrong(MARKER, "not a list of files to install"));
    }
    let version = r.u32()?;
    if version != VERSION {
        return Err(Error::corrupt(MARKER, 8, format!("version {version}, only {VERSION} is known")));
    }
    let (length, checksum) = (r.u32()? as usize, r.u32()?);
    let body = r.take(length)?;
    r.finish()?;
    let found = crc32(&[&bytes[..16], body].concat());
    if found != checksum {
        return Err(Error::corrupt(MARKER, 16, format!("checksum {checksum:08x}, expected {found:08x}")));
    }
    let mut r = Reader::new(MARKER, body);
    let count = r.varint()?;
    let mut files = Vec::new();
    for _ in 0..count {
        let name = r.str()?.to_owned();
        if !is_commit_file(&name) {
            return Err(wrong(MARKER, format!("[{name}] is not a file of a commit")));
        }
        files.push(CommitFile { name, size: r.varint()?, checksum: r.u32()? });
    }
    r.finish()?;
    debug_assert_eq!(HEADER + body.len(), bytes.len());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::replica::tests::{Bytes, Copy, Documents, UUID, model, operation};
    use crate::store::sim::{SimDirectory, Stop};

    fn operations(count: i64, salt: u8) -> Vec<Bytes> {
        (0..count).map(|n| operation(n, 1, (n as u8).wrapping_mul(37).wrapping_add(salt))).collect()
    }

    /// A copy with these operations, in some segments with deletes, the last few only in the translog.
    fn source(disk: SimDirectory, operations: &[Bytes]) -> Copy {
        let copy = Copy::open(disk).unwrap();
        for (i, bytes) in operations.iter().enumerate() {
            copy.apply(bytes).unwrap();
            match i % 16 {
                5 | 12 => drop(copy.refresh().unwrap()),
                9 => drop(copy.flush().unwrap()),
                14 => copy.merge().unwrap(),
                _ => {}
            }
        }
        copy.sync().unwrap();
        copy
    }

    /// All of a recovery by files. Bytes fetched.
    fn recover(source: &CommitSnapshot<SimDirectory>, disk: &SimDirectory, chunk: usize) -> Result<u64> {
        block_on(async {
            let mut target = RecoveryTarget::begin(disk.clone(), UUID, source.files().to_vec()).await?;
            let mut fetched = 0;
            loop {
                let Some((name, offset)) = target.missing().next().map(|(f, offset)| (f.name.clone(), offset)) else {
                    break;
                };
                let bytes = source.read(&name, offset, chunk).await?;
                fetched += bytes.len() as u64;
                target.write(&name, offset, bytes.into()).await?;
            }
            target.install().await?;
            Ok(fetched)
        })
    }

    fn committed(source: &CommitSnapshot<SimDirectory>, operations: &[Bytes]) -> Documents {
        model(operations[..=source.max_seq_no().0 as usize].iter())
    }

    #[test]
    fn a_commit_can_be_copied_while_the_source_goes_on() {
        let all = operations(75, 0);
        let source = source(SimDirectory::new(1), &all[..60]);
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        let first = block_on(snapshot.read(&snapshot.files()[0].name, 0, 100)).unwrap();
        for bytes in &all[60..] {
            source.apply(bytes).unwrap();
        }
        source.flush().unwrap();
        source.merge().unwrap();
        source.flush().unwrap();
        source.flush().unwrap();
        assert_eq!(block_on(snapshot.read(&snapshot.files()[0].name, 0, 100)).unwrap(), first);
        let disk = SimDirectory::new(2);
        recover(&snapshot, &disk, 1000).unwrap();
        let target = Copy::open(disk).unwrap();
        assert_eq!(target.checked_documents(), committed(&snapshot, &all));
        // And the history above it is still there.
        let history = source.history(snapshot.local_checkpoint().0 + 1);
        assert_eq!(history, all[snapshot.local_checkpoint().0 as usize + 1..]);
        for bytes in &history {
            target.apply(bytes).unwrap();
        }
        assert_eq!(target.digest(), source.digest());
        assert_eq!(target.engine.local_checkpoint(), SeqNo(74));
        let target = target.restart(true);
        assert_eq!(target.checked_documents().len() as u64, source.digest().documents);
        // Nobody reads it any more: the next flush removes what only it needed.
        let held = source.disk.list_names();
        drop(snapshot);
        source.engine.set_global_checkpoint(SeqNo(74));
        source.flush().unwrap();
        assert!(source.disk.list_names().len() < held.len());
    }

    #[test]
    fn what_the_old_copy_has_is_not_fetched_again() {
        let all = operations(60, 0);
        let source = source(SimDirectory::new(1), &all);
        source.flush().unwrap();
        let disk = SimDirectory::new(2);
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        let size: u64 = snapshot.files().iter().map(|f| f.size).sum();
        assert_eq!(recover(&snapshot, &disk, 4096).unwrap(), size);
        assert_eq!(recover(&snapshot, &disk, 4096).unwrap(), 0);
        let segment = snapshot.files().iter().find(|f| f.name.ends_with(".seg")).unwrap();
        disk.flip(&segment.name, segment.size / 2, 3);
        assert_eq!(recover(&snapshot, &disk, 4096).unwrap(), segment.size, "damage is seen");
        assert_eq!(Copy::open(disk).unwrap().checked_documents(), model(all.iter()));
    }

    #[test]
    fn other_deletes_under_the_same_name_are_fetched() {
        // Five documents, then one of them deleted: everything but which one is the same.
        let history = |deleted: u8| {
            let mut all: Vec<Bytes> = (0..5).map(|n| operation(n, 1, 15 + n as u8)).collect();
            all.push(operation(5, 1, 5 + deleted));
            all
        };
        let copy = |disk: SimDirectory, deleted: u8| {
            let copy = Copy::open(disk).unwrap();
            for (i, bytes) in history(deleted).iter().enumerate() {
                copy.apply(bytes).unwrap();
                if i >= 4 {
                    copy.flush().unwrap();
                }
            }
            copy
        };
        let disk = SimDirectory::new(2);
        drop(copy(disk.clone(), 1));
        let source = copy(SimDirectory::new(1), 3);
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        let (mut live, mut segments) = (0, 0);
        let here: BTreeMap<String, u64> = block_on(disk.list()).unwrap().into_iter().collect();
        for file in snapshot.files() {
            let same_size = here.get(&file.name) == Some(&file.size);
            live += usize::from(same_size && file.name.ends_with(".live"));
            segments += usize::from(same_size && file.name.ends_with(".seg"));
        }
        assert_eq!((live, segments), (1, 1), "{:?} and {here:?}", snapshot.files());
        recover(&snapshot, &disk, 4096).unwrap();
        assert_eq!(Copy::open(disk).unwrap().checked_documents(), model(history(3).iter()));
    }

    #[test]
    fn damage_on_the_way_and_at_the_source_is_found() {
        let source = source(SimDirectory::new(1), &operations(60, 0));
        source.flush().unwrap();
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        for file in snapshot.files() {
            let bytes = block_on(snapshot.read(&file.name, 0, 1 << 20)).unwrap();
            for at in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 4;
                block_on(async {
                    let disk = SimDirectory::new(2);
                    let mut target = RecoveryTarget::begin(disk, UUID, snapshot.files().to_vec()).await.unwrap();
                    let rest = bytes[1..].to_vec().into();
                    assert!(target.write(&file.name, 1, rest).await.is_err(), "bytes that do not follow");
                    target.write(&file.name, 0, damaged.into()).await.unwrap();
                    assert!(target.settle().await.is_err(), "{} at {at}", file.name);
                    target.write(&file.name, 0, bytes.clone().into()).await.unwrap();
                    assert!(target.install().await.is_err(), "others are missing");
                });
            }
        }
    }

    #[test]
    fn a_crash_at_every_step_leaves_the_old_copy_or_the_new_one() {
        let (new, old) = (operations(60, 0), operations(45, 11));
        let source = source(SimDirectory::new(1), &new);
        source.flush().unwrap();
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        let news = committed(&snapshot, &new);
        for (stop, power) in [(Stop::Before, true), (Stop::After, true), (Stop::After, false)] {
            let mut seen = [0, 0];
            for n in 1.. {
                let disk = SimDirectory::new(n);
                // Other contents under the same names, and a longer translog.
                let before = self::source(disk.clone(), &old);
                drop(before);
                disk.fail_after(n, stop);
                let stopped = recover(&snapshot, &disk, 3000).is_err();
                if power {
                    disk.crash();
                }
                disk.restart();
                // The opening may crash, too.
                disk.fail_after(1 + n % 9, stop);
                if Copy::open(disk.clone()).is_err() {
                    disk.crash();
                }
                disk.restart();
                let copy = Copy::open(disk.clone()).unwrap();
                let found = copy.checked_documents();
                let is_new = copy.engine.max_seq_no() == snapshot.max_seq_no();
                assert_eq!(found, if is_new { news.clone() } else { model(old.iter()) }, "step {n}, new {is_new}");
                assert!(is_new || stopped, "installed means installed");
                seen[usize::from(is_new)] += 1;
                drop(copy);
                recover(&snapshot, &disk, 8192).unwrap();
                let copy = Copy::open(disk.clone()).unwrap().restart(true);
                assert_eq!(copy.checked_documents(), news);
                // It is a whole shard: it goes on.
                copy.apply(&operation(61, 2, 24)).unwrap();
                copy.apply(&operation(60, 2, 23)).unwrap();
                copy.flush().unwrap();
                assert_eq!(copy.restart(true).engine.local_checkpoint(), SeqNo(61));
                if !stopped {
                    break;
                }
            }
            assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
        }
    }

    #[test]
    fn operations_that_are_in_the_files_are_kept_as_history() {
        let all = operations(60, 0);
        let source = source(SimDirectory::new(1), &all);
        source.flush().unwrap();
        let disk = SimDirectory::new(2);
        recover(&block_on(source.engine.snapshot_files()).unwrap(), &disk, 4096).unwrap();
        let target = Copy::open(disk).unwrap();
        target.engine.set_global_checkpoint(SeqNo(49));
        assert_eq!(target.engine.history_from(), SeqNo(60), "files are no history");
        for bytes in &all[50..] {
            target.apply(bytes).unwrap();
        }
        assert_eq!(target.engine.history_from(), SeqNo(50));
        assert_eq!(target.history(50), all[50..]);
        target.sync().unwrap();
        let target = target.restart(true);
        assert_eq!((target.history(50), target.checked_documents()), (all[50..].to_vec(), model(all.iter())));
        assert_eq!(target.engine.local_checkpoint(), SeqNo(59));
    }

    #[test]
    fn an_install_that_cannot_be_finished_is_replaced_by_the_next() {
        let all = operations(60, 0);
        let source = source(SimDirectory::new(1), &all);
        source.flush().unwrap();
        let snapshot = block_on(source.engine.snapshot_files()).unwrap();
        let disk = SimDirectory::new(2);
        disk.put(MARKER, &encode(snapshot.files()));
        assert!(Copy::open(disk.clone()).is_err(), "half a copy is none");
        recover(&snapshot, &disk, 4096).unwrap();
        assert_eq!(Copy::open(disk).unwrap().checked_documents(), model(all.iter()));
    }

    #[test]
    fn lists_that_no_commit_has_are_refused() {
        let file = |name: &str| CommitFile { name: name.to_owned(), size: 0, checksum: 0 };
        for names in [&["commit-1", "commit-2"][..], &["_1.seg"], &["commit-1", "_1.seg", "_1.seg"], &["commit-1", "x"]]
        {
            let files = names.iter().map(|name| file(name)).collect();
            assert!(block_on(RecoveryTarget::begin(SimDirectory::new(1), UUID, files)).is_err(), "{names:?}");
        }
        for name in ["commit-01", "../commit-1", "translog-1.tlog", "1-x.live", "01-1.live", "recovery-_1.seg"] {
            assert!(!is_commit_file(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), fix in any::<bool>()) {
            let mut bytes = bytes;
            if fix {
                let mut whole = encode(&[]);
                whole.truncate(HEADER);
                whole[12..16].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
                let checksum = crc32(&[&whole[..16], &bytes].concat());
                whole[16..20].copy_from_slice(&checksum.to_le_bytes());
                whole.extend_from_slice(&bytes);
                bytes = whole;
            }
            if let Ok(files) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&files)).unwrap(), files);
            }
        }
    }

    impl SimDirectory {
        fn list_names(&self) -> Vec<String> {
            block_on(self.list()).unwrap().into_iter().map(|(name, _)| name).collect()
        }
    }

    #[test]
    fn version_1_bytes_are_these() {
        let files = [CommitFile { name: "_1.seg".into(), size: 300, checksum: 0x0102_0304 }];
        let hex: String = encode(&files).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "524458494e535400010000000e0000001800110a01065f312e736567ac0204030201");
        assert_eq!(decode(&encode(&files)).unwrap(), files);
    }
}

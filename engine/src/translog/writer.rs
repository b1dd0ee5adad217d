//! Making translog files ready, and writing batches into them.

use std::rc::Rc;

use super::ranges::SeqNoRanges;
use super::record::{FileHeader, Key, Uuid};
use super::recover::Name;
use super::wait::WaitList;
use crate::error::{Error, Result};
use crate::ids::{Generation, SeqNo};
use crate::store::{BLOCK, Directory, File};

/// Bytes of one write while zero-filling.
const FILL: usize = 1 << 20;

/// One file of the translog, in use or prepared.
pub(super) struct GenerationFile<F> {
    pub(super) generation: Generation,
    pub(super) file: Rc<F>,
    pub(super) name: Rc<str>,
    pub(super) key: Key,
    pub(super) capacity: u64,
    /// Number of the first batch, from its first operation on.
    pub(super) first_number: Option<u64>,
    /// Where the batch being filled begins, or the next one would.
    pub(super) tail: u64,
    /// Up to here batches are durable.
    pub(super) durable_end: u64,
    /// Appended operations, durable or not.
    pub(super) operations: u64,
    /// The sequence numbers of those that count.
    pub(super) seq_nos: SeqNoRanges,
    /// Which do not count.
    pub(super) voided: Voided,
    /// The highest of those that may be restored.
    pub(super) suspended_max: Option<SeqNo>,
}

/// What a roll-back has taken out of the generations before it: see [`Translog::roll_back`](super::Translog::roll_back).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voided {
    /// Operations up to here count.
    pub above: SeqNo,
    /// Operations above that and up to here may be restored; what is higher never happened.
    pub suspended_to: SeqNo,
}

impl Voided {
    /// Nothing was taken out.
    pub const NOTHING: Voided = Voided { above: SeqNo(i64::MAX), suspended_to: SeqNo(i64::MAX) };

    pub(super) fn and(self, other: Voided) -> Voided {
        Voided { above: self.above.min(other.above), suspended_to: self.suspended_to.min(other.suspended_to) }
    }
}

impl<F> GenerationFile<F> {
    pub(super) fn empty(file: Rc<F>, generation: Generation, uuid: &Uuid, capacity: u64) -> GenerationFile<F> {
        GenerationFile {
            generation,
            file,
            name: Name::Generation(generation).text().into(),
            key: Key::new(uuid, generation),
            capacity,
            first_number: None,
            tail: BLOCK as u64,
            durable_end: BLOCK as u64,
            operations: 0,
            seq_nos: SeqNoRanges::default(),
            voided: Voided::NOTHING,
            suspended_max: None,
        }
    }

    /// The highest sequence number that counts.
    pub(super) fn max_seq_no(&self) -> Option<SeqNo> {
        self.seq_nos.max()
    }

    /// Operations are taken out of it.
    pub(super) fn void(&mut self, voided: Voided) {
        self.voided = self.voided.and(voided);
        let max = self.max_seq_no().max(self.suspended_max).map(|max| max.min(self.voided.suspended_to));
        self.suspended_max = max.filter(|max| *max > self.voided.above);
        self.seq_nos.cut_above(self.voided.above);
    }

    /// Whether a batch of `footprint` bytes may begin at the tail.
    pub(super) fn fits(&self, footprint: u64) -> bool {
        self.tail + footprint <= self.capacity
    }
}

/// A file that may be written again: zero-filled once, full of an older generation's data.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) capacity: u64,
}

/// What [`prepare`] may come to.
pub(super) enum Prepared<F> {
    /// The file has its name, durably.
    Ready(GenerationFile<F>),
    /// There was no space. The spare, if one was given, is still one.
    Full(Error, Option<Spare>),
}

/// Makes `translog-N.tlog`: zeros (or a spare) and the file header synced, then the name, then the directory.
/// Errors other than a full disk are final.
pub(super) async fn prepare<D: Directory>(
    directory: &D,
    uuid: &Uuid,
    generation: Generation,
    capacity: u64,
    spare: Option<Spare>,
) -> Result<Prepared<D::File>> {
    let name = Name::Generation(generation).text();
    let capacity = spare.as_ref().map_or(capacity, |s| s.capacity);
    let header = FileHeader { uuid: *uuid, generation, capacity }.encode();
    let (source, file) = match &spare {
        Some(spare) => {
            let file = directory.open(&spare.name).await?;
            file.write_at(0, &header).await.map_err(no_longer_full)?;
            file.sync().await.map_err(no_longer_full)?;
            (spare.name.clone(), file)
        }
        None => {
            let tmp = Name::Temporary(generation).text();
            match fill(directory, &tmp, capacity, header).await {
                Ok(file) => (tmp, file),
                Err(e @ Error::DiskFull { .. }) => {
                    match directory.remove(&tmp).await {
                        Ok(()) | Err(Error::NotFound { .. }) => {}
                        Err(e) => return Err(e),
                    }
                    return Ok(Prepared::Full(e, None));
                }
                Err(e) => return Err(e),
            }
        }
    };
    match directory.rename(&source, &name).await {
        Ok(()) => {}
        Err(e @ Error::DiskFull { .. }) => {
            if spare.is_none() {
                directory.remove(&source).await?;
            }
            return Ok(Prepared::Full(e, spare));
        }
        Err(e) => return Err(e),
    }
    directory.sync().await.map_err(no_longer_full)?;
    Ok(Prepared::Ready(GenerationFile::empty(Rc::new(file), generation, uuid, capacity)))
}

async fn fill<D: Directory>(directory: &D, name: &str, capacity: u64, header: Vec<u8>) -> Result<D::File> {
    let file = directory.create(name, capacity).await?;
    let mut chunk = header;
    let mut offset = 0;
    while offset < capacity {
        let size = (capacity - offset).min(FILL as u64) as usize;
        chunk.resize(size, 0);
        file.write_at(offset, &chunk).await?;
        if offset == 0 {
            chunk.fill(0);
        }
        offset += size as u64;
    }
    file.sync().await?;
    Ok(file)
}

/// Writes one finished batch and makes it durable.
pub(super) async fn write_batch<F: File>(file: &F, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
    // The handle was opened under an earlier name.
    let renamed = |e: Error, operation: &str| match no_longer_full(e) {
        Error::Io { reason, .. } => Error::Io { context: format!("{name}: {operation} at {offset}"), reason },
        other => other,
    };
    file.write_at(offset, bytes).await.map_err(|e| renamed(e, "write"))?;
    file.sync().await.map_err(|e| renamed(e, "sync"))
}

/// In space that has been allocated and written before, a full disk is an I/O error like any other: it leaves unknown bytes.
fn no_longer_full(e: Error) -> Error {
    match e {
        Error::DiskFull { reason } => Error::Io { context: "write into allocated space".to_owned(), reason },
        other => other,
    }
}

/// Fails the translog when dropped armed: a sync whose end nobody saw.
pub(super) struct Abandoned<'a>(pub(super) Option<&'a dyn Fn()>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(f) = self.0 {
            f();
        }
    }
}

/// Tasks waiting for the translog, by what for.
#[derive(Default)]
pub(super) struct Waiting {
    /// For a batch to be durable, by its last operation's ordinal.
    pub(super) synced: WaitList,
    /// For the sync in flight to end.
    pub(super) sync_end: WaitList,
    /// For something to sync.
    pub(super) appended: WaitList,
    /// For the preparation in progress to end.
    pub(super) prepared: WaitList,
}

impl Waiting {
    /// Everyone.
    pub(super) fn all(&mut self) -> Vec<std::task::Waker> {
        let mut wakers = self.synced.take_all();
        wakers.extend(self.sync_end.take_all());
        wakers.extend(self.appended.take_all());
        wakers.extend(self.prepared.take_all());
        wakers
    }
}

//! Opening a translog: what is complete, what is torn, what is damage. The rules are in [`super::record`].

use std::collections::VecDeque;
use std::rc::Rc;

use super::Position;
use super::reader::{BatchFile, Walk};
use super::record::{FileHeader, Key, Uuid};
use super::writer::{GenerationFile, Spare};
use crate::error::{Error, Result};
use crate::ids::Generation;
use crate::store::{BLOCK, Directory, File};

/// The names of translog files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// In use, or prepared.
    Generation(Generation),
    /// Being zero-filled.
    Temporary(Generation),
    /// To be written again.
    Spare(Generation),
}

impl Name {
    pub(super) fn text(self) -> String {
        match self {
            Name::Generation(g) => format!("translog-{g}.tlog"),
            Name::Temporary(g) => format!("translog-{g}.tmp"),
            Name::Spare(g) => format!("translog-{g}.free"),
        }
    }

    /// Reverses [`Name::text`] exactly; none for any other file.
    pub(super) fn parse(text: &str) -> Option<Name> {
        let (number, extension) = text.strip_prefix("translog-")?.split_once('.')?;
        let generation = Generation(number.parse().ok()?);
        let name = match extension {
            "tlog" => Name::Generation(generation),
            "tmp" => Name::Temporary(generation),
            "free" => Name::Spare(generation),
            _ => return None,
        };
        (name.text() == text).then_some(name)
    }

    pub(super) fn generation(self) -> Generation {
        match self {
            Name::Generation(g) | Name::Temporary(g) | Name::Spare(g) => g,
        }
    }
}

/// What is on the disk, and usable.
pub(super) struct Recovered<F> {
    /// Complete generations, ascending; the last one's torn tail is cut off by its `durable_end`.
    pub(super) kept: VecDeque<GenerationFile<F>>,
    /// Number for the next batch.
    pub(super) next_number: u64,
    /// No file has had this number or a higher one.
    pub(super) next_generation: Generation,
    /// Whether the last batch is a seal, or there is none.
    pub(super) sealed: bool,
    /// Whether it is an end.
    pub(super) ended: bool,
    /// Files to be written again.
    pub(super) spares: Vec<Spare>,
    /// Files to be removed once nothing can need them.
    pub(super) unneeded: Vec<String>,
}

/// Names of the translog files in `directory`, by generation.
pub(super) async fn list<D: Directory>(directory: &D) -> Result<Vec<(Name, u64)>> {
    let mut files: Vec<(Name, u64)> =
        directory.list().await?.iter().filter_map(|(text, size)| Some((Name::parse(text)?, *size))).collect();
    files.sort_by_key(|(name, _)| name.generation());
    Ok(files)
}

/// One `.tlog` file of the translog's own.
struct Candidate<F> {
    generation: Generation,
    name: Rc<str>,
    file: Rc<F>,
    capacity: u64,
    key: Key,
    /// Number of its first batch, by the header alone.
    first: Option<u64>,
}

impl<F: File> Candidate<F> {
    fn batches(&self) -> BatchFile<F> {
        BatchFile::new(self.file.clone(), self.name.clone(), self.key, self.capacity)
    }

    fn keep(&self, uuid: &Uuid, first: u64, walk: &Walk) -> GenerationFile<F> {
        GenerationFile {
            first_number: Some(first),
            tail: walk.end,
            durable_end: walk.end,
            operations: walk.operations,
            seq_nos: walk.seq_nos.clone(),
            ..GenerationFile::empty(self.file.clone(), self.generation, uuid, self.capacity)
        }
    }
}

/// Finds every complete batch from `from` on, and as many generations before as are whole.
/// Changes nothing but durability: it syncs each file before reading it, so that what it has read cannot be lost later.
/// (Their names are durable: a file gets batches only after the directory sync that follows its naming.)
pub(super) async fn recover<D: Directory>(directory: &D, uuid: &Uuid, from: Position) -> Result<Recovered<D::File>> {
    let files = list(directory).await?;
    let last_generation = files.iter().map(|(name, _)| name.generation()).max().unwrap_or_default();
    let mut recovered = Recovered {
        kept: VecDeque::new(),
        next_number: from.batch,
        next_generation: Generation(last_generation.max(from.generation).0 + 1),
        sealed: true,
        ended: false,
        spares: Vec::new(),
        unneeded: Vec::new(),
    };
    let (mut history, mut needed) = (Vec::new(), Vec::new());
    for (name, size) in files {
        let generation = match name {
            Name::Generation(generation) => generation,
            Name::Spare(_) if size >= 2 * BLOCK as u64 && size.is_multiple_of(BLOCK as u64) => {
                recovered.spares.push(Spare { name: name.text(), capacity: size });
                continue;
            }
            Name::Spare(_) | Name::Temporary(_) => {
                recovered.unneeded.push(name.text());
                continue;
            }
        };
        match open(directory, uuid, generation, size).await {
            Ok(Some(candidate)) if generation >= from.generation => needed.push(candidate),
            Ok(Some(candidate)) => history.push(candidate),
            // Of another translog in the same directory: never recycled, its key may be ours.
            Ok(None) => recovered.unneeded.push(name.text()),
            // Below the commit a damaged file only ends the history that can be kept.
            Err(Error::Corrupt { .. }) if generation < from.generation => {
                let older = history.drain(..).map(|c: Candidate<D::File>| c.name.to_string());
                recovered.unneeded.extend(older);
                recovered.unneeded.push(name.text());
            }
            Err(e) => return Err(e),
        }
    }
    read_needed(uuid, from, needed, &mut recovered).await?;
    let oldest = recovered.kept.front().and_then(|g| g.first_number).unwrap_or(from.batch);
    read_history(uuid, oldest, history, &mut recovered).await?;
    Ok(recovered)
}

async fn open<D: Directory>(
    directory: &D,
    uuid: &Uuid,
    generation: Generation,
    size: u64,
) -> Result<Option<Candidate<D::File>>> {
    let name: Rc<str> = Name::Generation(generation).text().into();
    let file = directory.open(&name).await?;
    file.sync().await?;
    let header = FileHeader::decode(&name, &file.read_at(0, BLOCK).await?)?;
    if header.uuid != *uuid {
        return Ok(None);
    }
    if header.generation != generation || header.capacity != size {
        return Err(Error::corrupt(
            &*name,
            32,
            format!("header of generation {} with {} bytes, in a file of {size}", header.generation, header.capacity),
        ));
    }
    let mut candidate = Candidate {
        generation,
        name,
        file: Rc::new(file),
        capacity: size,
        key: Key::new(uuid, generation),
        first: None,
    };
    candidate.first = candidate.batches().header_at(BLOCK as u64).await?.map(|h| h.number);
    Ok(Some(candidate))
}

/// Generations that the commit lacks: every one must be complete, but for the newest one's torn tail.
async fn read_needed<F: File>(
    uuid: &Uuid,
    from: Position,
    candidates: Vec<Candidate<F>>,
    recovered: &mut Recovered<F>,
) -> Result<()> {
    let (used, unused): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|candidate| candidate.first.is_some());
    let mut ends = None;
    let mut expected = None;
    for (i, candidate) in used.iter().enumerate() {
        let first = candidate.first.expect("used");
        let limit = used.get(i + 1).map(|next| next.first.expect("used"));
        if expected.is_none() && first > from.batch || expected.is_some_and(|e| e != first) {
            let before = expected.unwrap_or(from.batch);
            return Err(Error::corrupt(
                &*candidate.name,
                BLOCK as u64,
                format!("begins with batch {first}, but batch {before} is in no file"),
            ));
        }
        let mut batches = candidate.batches();
        let walk = Walk::over(&mut batches, first, limit).await?;
        let damaged = |proof: String| {
            Error::corrupt(
                &*candidate.name,
                walk.end,
                format!("batch {} was durable ({proof}) and is damaged", walk.next_number),
            )
        };
        match limit {
            // The next file's number is checked against this one's in its own turn.
            Some(limit) if walk.next_number < limit => {
                return Err(damaged(format!("{} begins with {limit}", used[i + 1].name)));
            }
            Some(_) => {}
            None if walk.ends.is_some() => ends = walk.ends,
            None => {
                if let Some((offset, header)) = batches.header_after(walk.end, walk.next_number).await? {
                    return Err(damaged(format!("batch {} is at {offset}", header.number)));
                }
            }
        }
        expected = Some(walk.next_number);
        if walk.next_number > first {
            recovered.sealed = walk.sealed;
            recovered.kept.push_back(candidate.keep(uuid, first, &walk));
        } else {
            recovered.spares.push(Spare { name: candidate.name.to_string(), capacity: candidate.capacity });
        }
    }
    recovered.ended = ends.is_some();
    for candidate in unused {
        // Prepared and never used, or its first batch is torn (then nothing follows).
        let known = ends.is_some_and(|last| candidate.generation <= last);
        if !known && let Some((offset, header)) = candidate.batches().header_after(BLOCK as u64, 0).await? {
            let reason = format!("no batch here, but batch {} at {offset}", header.number);
            return Err(Error::corrupt(&*candidate.name, BLOCK as u64, reason));
        }
        recovered.spares.push(Spare { name: candidate.name.to_string(), capacity: candidate.capacity });
    }
    recovered.next_number = expected.unwrap_or(0).max(from.batch);
    Ok(())
}

/// Generations below the commit, newest first, as long as they join up.
async fn read_history<F: File>(
    uuid: &Uuid,
    mut limit: u64,
    candidates: Vec<Candidate<F>>,
    recovered: &mut Recovered<F>,
) -> Result<()> {
    let mut whole = true;
    for candidate in candidates.into_iter().rev() {
        if let Some(first) = candidate.first.filter(|&first| whole && first < limit) {
            let walk = match Walk::over(&mut candidate.batches(), first, Some(limit)).await {
                Ok(walk) => walk,
                Err(Error::Corrupt { .. }) => Walk::default(),
                Err(e) => return Err(e),
            };
            if walk.next_number == limit {
                recovered.kept.push_front(candidate.keep(uuid, first, &walk));
                limit = first;
                continue;
            }
            whole = false;
        }
        recovered.spares.push(Spare { name: candidate.name.to_string(), capacity: candidate.capacity });
    }
    Ok(())
}

//! `LiveVersionMap`: the last change of every document that searches cannot see yet, and tombstones of recent deletes.
//!
//! Invariants:
//! - a document changed since the last refresh is in the map; so a document that is not in the map is in the segments,
//!   with the deletes of the published searcher, exactly as it was last changed.
//! - two halves: `current` belongs to the buffer being filled, `old` to the buffer being refreshed. `old` goes away when
//!   its segment is published. A newer entry in `current` hides one in `old`.
//! - tombstones outlive their half for [`TOMBSTONE_MS`] so that versions go on, and in any case as long as an operation
//!   before them may still arrive, so that late operations stay late.

use crate::ids::{DocId, PrimaryTerm, SeqNo, Version};
use crate::seed::{HashSeed, SeededMap};
use crate::write::plan::Current;

/// `index.gc_deletes`: how long the version of a deleted document is remembered, in milliseconds.
pub const TOMBSTONE_MS: i64 = 60_000;

/// Estimated bytes of one entry besides its id.
const ENTRY_BYTES: usize = 80;

/// Where the last change of a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the buffer that this half belongs to.
    Buffer(DocId),
    /// Deleted at this time (milliseconds since 1970).
    Deleted(i64),
}

/// The last change of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Version after the change.
    pub version: Version,
    /// Its place in history.
    pub seq_no: SeqNo,
    /// Its term.
    pub term: PrimaryTerm,
    /// Where the document is.
    pub place: Place,
}

impl Entry {
    /// What planning needs of it.
    #[must_use]
    pub fn current(&self) -> Current {
        Current {
            version: self.version,
            seq_no: self.seq_no,
            term: self.term,
            deleted: matches!(self.place, Place::Deleted(_)),
        }
    }
}

/// An entry and the half it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the half of the buffer being filled.
    Current(Entry),
    /// In the half of the buffer being refreshed.
    Old(Entry),
    /// A tombstone from before the last refresh.
    Tombstone(Entry),
}

impl Found {
    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        match self {
            Found::Current(e) | Found::Old(e) | Found::Tombstone(e) => e,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct LiveVersionMap {
    current: SeededMap<Box<str>, Entry>,
    old: SeededMap<Box<str>, Entry>,
    tombstones: SeededMap<Box<str>, Entry>,
    id_bytes: usize,
    /// Those of tombstones among `id_bytes`.
    tombstone_id_bytes: usize,
}

impl LiveVersionMap {
    /// Remembers nothing yet; ids are hashed under `seed`.
    #[must_use]
    pub fn new(seed: HashSeed) -> LiveVersionMap {
        let empty = || SeededMap::with_hasher(seed);
        LiveVersionMap { current: empty(), old: empty(), tombstones: empty(), id_bytes: 0, tombstone_id_bytes: 0 }
    }

    /// The last change of `id`, if it is remembered.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Found> {
        if let Some(e) = self.current.get(id) {
            return Some(Found::Current(*e));
        }
        if let Some(e) = self.old.get(id) {
            return Some(Found::Old(*e));
        }
        self.tombstones.get(id).map(|e| Found::Tombstone(*e))
    }

    /// Records a change made in the buffer being filled.
    pub fn put(&mut self, id: &str, entry: Entry) {
        match self.current.get_mut(id) {
            Some(slot) => *slot = entry,
            None => {
                self.id_bytes += id.len();
                self.current.insert(id.into(), entry);
            }
        }
    }

    /// A refresh begins: what is current belongs to the frozen buffer from now on.
    pub fn begin_refresh(&mut self) {
        assert!(self.old.is_empty(), "one refresh at a time");
        std::mem::swap(&mut self.old, &mut self.current);
    }

    /// The frozen buffer's segment is published: its half goes, tombstones younger than [`TOMBSTONE_MS`] or above
    /// `checkpoint` (up to which every operation has arrived) stay.
    pub fn end_refresh(&mut self, now_ms: i64, checkpoint: SeqNo) {
        let empty = SeededMap::with_hasher(*self.old.hasher());
        let old = std::mem::replace(&mut self.old, empty);
        self.tombstones.retain(|id, e| !old.contains_key(id) && !expired(e, now_ms, checkpoint));
        for (id, entry) in old {
            if matches!(entry.place, Place::Deleted(_)) && !expired(&entry, now_ms, checkpoint) {
                self.tombstones.insert(id, entry);
            }
        }
        self.tombstone_id_bytes = self.tombstones.keys().map(|id| id.len()).sum();
        self.id_bytes = self.current.keys().map(|id| id.len()).sum::<usize>() + self.tombstone_id_bytes;
    }

    /// Estimated memory in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (self.current.len() + self.old.len() + self.tombstones.len()) * ENTRY_BYTES + self.id_bytes
    }

    /// Those of tombstones among them: no refresh frees these, only time does.
    #[must_use]
    pub fn tombstone_bytes(&self) -> usize {
        self.tombstones.len() * ENTRY_BYTES + self.tombstone_id_bytes
    }

    /// Documents remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current.len() + self.old.len() + self.tombstones.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn expired(entry: &Entry, now_ms: i64, checkpoint: SeqNo) -> bool {
    entry.seq_no <= checkpoint && matches!(entry.place, Place::Deleted(at) if now_ms - at > TOMBSTONE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64, place: Place) -> Entry {
        Entry { version: Version(version), seq_no: SeqNo(version as i64), term: PrimaryTerm(1), place }
    }

    #[test]
    fn newer_half_hides_older_half() {
        let mut map = LiveVersionMap::new(HashSeed::new(1));
        map.put("a", entry(1, Place::Buffer(0)));
        map.begin_refresh();
        assert_eq!(map.get("a"), Some(Found::Old(entry(1, Place::Buffer(0)))));
        map.put("a", entry(2, Place::Buffer(0)));
        assert_eq!(map.get("a"), Some(Found::Current(entry(2, Place::Buffer(0)))));
        map.end_refresh(0, SeqNo(9));
        assert_eq!(map.get("a"), Some(Found::Current(entry(2, Place::Buffer(0)))));
        map.begin_refresh();
        map.end_refresh(0, SeqNo(9));
        assert_eq!(map.get("a"), None);
        assert!(map.is_empty());
    }

    #[test]
    fn tombstones_outlive_the_refresh_and_then_expire() {
        let mut map = LiveVersionMap::new(HashSeed::new(1));
        map.put("a", entry(2, Place::Deleted(1_000)));
        map.begin_refresh();
        map.end_refresh(2_000, SeqNo(9));
        assert_eq!(map.get("a"), Some(Found::Tombstone(entry(2, Place::Deleted(1_000)))));
        map.begin_refresh();
        map.end_refresh(1_000 + TOMBSTONE_MS, SeqNo(9));
        assert!(map.get("a").is_some());
        map.begin_refresh();
        map.end_refresh(1_001 + TOMBSTONE_MS, SeqNo(1));
        assert!(map.get("a").is_some(), "an operation before the delete may still arrive");
        map.begin_refresh();
        map.end_refresh(1_001 + TOMBSTONE_MS, SeqNo(2));
        assert_eq!(map.get("a"), None);
    }

    #[test]
    fn a_document_put_again_loses_its_tombstone() {
        let mut map = LiveVersionMap::new(HashSeed::new(1));
        map.put("a", entry(2, Place::Deleted(0)));
        map.begin_refresh();
        map.end_refresh(0, SeqNo(9));
        map.put("a", entry(3, Place::Buffer(0)));
        map.begin_refresh();
        map.end_refresh(0, SeqNo(9));
        assert_eq!(map.get("a"), None, "it is in the segments now; an old tombstone must not hide it");
    }
}

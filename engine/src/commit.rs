//! Commit points: the file that says which segments are the shard, and from where the translog is replayed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::ids::{Generation, SegmentId, SeqNo};
use crate::store::Directory;
use crate::translog::Position;

/// What one commit contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// Names the file; grows with every commit of this copy.
    pub generation: Generation,
    /// The shard copy's history; random, given by the caller.
    pub shard_uuid: [u8; 16],
    /// All segments, oldest first.
    pub segments: Vec<CommittedSegment>,
    /// Every operation up to here is in the segments.
    pub local_checkpoint: SeqNo,
    /// No operation above this is in the segments.
    pub max_seq_no: SeqNo,
    /// Highest client time stamp of auto-generated ids seen, for the append-only optimisation; -1 for none.
    pub max_unsafe_auto_id_timestamp: i64,
    /// The translog this commit goes with.
    pub translog_uuid: [u8; 16],
    /// Where its replay begins.
    pub translog_position: Position,
    /// Facts of the layers above (history uuid, force-merge uuid, sync id, ...), opaque here.
    pub user_data: BTreeMap<String, String>,
}

/// One segment of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedSegment {
    /// Its id.
    pub id: SegmentId,
    /// Its file.
    pub file: String,
    /// Bytes in the file.
    pub size: u64,
    /// CRC-32 of the file.
    pub crc: u32,
    /// Documents, deleted ones included.
    pub doc_count: u32,
    /// Deleted documents, as of `live_docs`.
    pub deleted_count: u32,
    /// Which live-docs file belongs to it; none when nothing was deleted.
    pub live_docs: Option<Generation>,
    /// Lowest sequence number in it.
    pub min_seq_no: SeqNo,
    /// Highest.
    pub max_seq_no: SeqNo,
}

impl CommitPoint {
    /// The file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("commit-{}", self.generation)
    }

    /// Makes this commit durable. The segment and live-docs files must be synced already; their directory entries need
    /// not be. When this returns, older commits and files only they reference may be removed.
    pub async fn write<D: Directory>(&self, directory: &D) -> Result<()> {
        let _ = directory;
        unimplemented!()
    }

    /// The newest commit, or none in a directory that never had one. Damage is `Error::Corrupt`.
    pub async fn load_newest<D: Directory>(directory: &D) -> Result<Option<CommitPoint>> {
        let _ = directory;
        unimplemented!()
    }

    /// Removes commit files older than this one (and half-written ones). Call after [`CommitPoint::write`].
    pub async fn remove_older<D: Directory>(&self, directory: &D) -> Result<()> {
        let _ = directory;
        unimplemented!()
    }

    /// Files that must be kept for this commit: itself, segments, live docs (named by
    /// [`live_docs_file`](CommittedSegment::live_docs_file)). Translog files are the translog's business.
    #[must_use]
    pub fn referenced_files(&self) -> BTreeSet<String> {
        unimplemented!()
    }
}

impl CommittedSegment {
    /// `<segment id>-<generation>.live`, if there are deletes.
    #[must_use]
    pub fn live_docs_file(&self) -> Option<String> {
        self.live_docs.map(|g| live_docs_file(self.id, g))
    }
}

/// The name of a live-docs file.
#[must_use]
pub fn live_docs_file(segment: SegmentId, generation: Generation) -> String {
    format!("{segment}-{generation}.live")
}

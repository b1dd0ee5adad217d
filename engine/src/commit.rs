//! Commit points: the file that says which segments are the shard, and from where the translog is replayed.
//!
//! File `commit-N`, version 1 (integers little-endian):
//!
//! ```text
//!  0  magic     8 bytes  "RDXCMIT" 0
//!  8  version   u32      1
//! 12  length    u32      bytes in the body
//! 16  checksum  u32      crc32 of bytes 0..16 and the body
//! 20  zeros     12 bytes
//! 32  body               rkyv 0.8 archive (little-endian, aligned, 32-bit offsets) of `Body`, root at its end
//! ```
//!
//! Valid when the file ends with the body, the checksum matches, the archive passes bytecheck, and its generation is the
//! file name's. The archived types are private to this file and change only with the version.
//!
//! **Writing**: the directory is synced (the files a commit names must have durable names before it exists), then
//! `commit-N.tmp` is written and synced, renamed, and the directory synced again. So a file called `commit-N` was complete
//! when it got that name: an invalid one is damage and never a crash, and it is not passed over in favour of an older one,
//! whose segments and translog may be gone. What a crash leaves is a `.tmp` file, which is ignored and removed,
//! or two commits, of which the newer counts: its content is durable, and reading it first makes its name so.

use std::collections::{BTreeMap, BTreeSet};

use rkyv::{Archive, Deserialize, Serialize};

use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::ids::{Generation, SegmentId, SeqNo};
use crate::store::{Directory, replace_file};
use crate::translog::Position;

const MAGIC: &[u8; 8] = b"RDXCMIT\0";
const VERSION: u32 = 1;
const HEADER: usize = 32;

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
        file_name(self.generation)
    }

    /// Makes this commit durable. The segment and live-docs files must be synced already; their directory entries need
    /// not be. When this returns, older commits and files only they reference may be removed.
    pub async fn write<D: Directory>(&self, directory: &D) -> Result<()> {
        self.check();
        directory.sync().await?;
        replace_file(directory, &self.file_name(), &self.encode()).await
    }

    /// The newest commit, or none in a directory that never had one. Damage is `Error::Corrupt`. What it returns is durable, and
    /// the name of every file in the directory is, too.
    pub async fn load_newest<D: Directory>(directory: &D) -> Result<Option<CommitPoint>> {
        directory.sync().await?;
        let newest = list(directory).await?.into_iter().max();
        match newest {
            Some(generation) => {
                let name = file_name(generation);
                CommitPoint::decode(&name, &directory.read(&name).await?).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The older commits that are there, whole, and of which every segment and live-docs file is there, ascending.
    pub async fn load_older<D: Directory>(&self, directory: &D) -> Result<Vec<CommitPoint>> {
        let files: BTreeMap<String, u64> = directory.list().await?.into_iter().collect();
        let mut generations: Vec<Generation> = files.keys().filter_map(|name| parse_name(name)).collect();
        generations.sort_unstable();
        let mut commits = Vec::new();
        for generation in generations.into_iter().filter(|g| *g < self.generation) {
            let name = file_name(generation);
            // One that was being removed when the power went may have come back alone: it is of no use, and no damage.
            let Ok(commit) = CommitPoint::decode(&name, &directory.read(&name).await?) else { continue };
            let sizes = commit.segments.iter().all(|s| files.get(&s.file) == Some(&s.size));
            if sizes
                && commit.shard_uuid == self.shard_uuid
                && commit.referenced_files().iter().all(|f| files.contains_key(f))
            {
                commits.push(commit);
            }
        }
        Ok(commits)
    }

    /// Removes commit files older than this one, and half-written ones. Call after [`CommitPoint::write`]. A crash may
    /// bring them back; then the next call removes them.
    pub async fn remove_older<D: Directory>(&self, directory: &D) -> Result<()> {
        for (name, _) in directory.list().await? {
            let half_written = name.strip_suffix(".tmp").is_some_and(|n| parse_name(n).is_some());
            if half_written || parse_name(&name).is_some_and(|g| g < self.generation) {
                directory.remove(&name).await?;
            }
        }
        Ok(())
    }

    /// Files that must be kept for this commit: itself, segments, live docs (named by
    /// [`live_docs_file`](CommittedSegment::live_docs_file)). Translog files are the translog's business.
    #[must_use]
    pub fn referenced_files(&self) -> BTreeSet<String> {
        let segments = self.segments.iter().flat_map(|s| [Some(s.file.clone()), s.live_docs_file()]);
        segments.flatten().chain([self.file_name()]).collect()
    }

    fn check(&self) {
        assert!(self.local_checkpoint >= SeqNo::NONE && self.max_seq_no >= self.local_checkpoint);
        assert!(self.translog_position.batch > 0);
        for s in &self.segments {
            assert!(s.deleted_count <= s.doc_count);
            assert!((s.deleted_count > 0) <= s.live_docs.is_some(), "{}: deletes without a live-docs file", s.file);
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&Body::from(self)).expect("memory is the only limit");
        let mut out = Vec::with_capacity(HEADER + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u32::try_from(body.len()).expect("a commit under 4 GiB").to_le_bytes());
        let checksum = checksum(&out, &body);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.resize(HEADER, 0);
        out.extend_from_slice(&body);
        out
    }

    /// Reads the bytes of the file `name`.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<CommitPoint> {
        let corrupt = |offset: u64, reason: String| Error::corrupt(name, offset, reason);
        let mut r = Reader::new(name, bytes);
        if r.take(8)? != MAGIC {
            return Err(corrupt(0, "not a commit point".to_owned()));
        }
        let version = r.u32()?;
        if version != VERSION {
            return Err(corrupt(8, format!("version {version}, only {VERSION} is known")));
        }
        let length = r.u32()?;
        let found = r.u32()?;
        let zeros = r.take(12)?;
        let body = r.take(length as usize)?;
        r.finish()?;
        let expected = checksum(&bytes[..16], body);
        if found != expected || zeros != [0; 12] {
            return Err(corrupt(16, format!("checksum {found:08x}, expected {expected:08x}")));
        }
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(body.len());
        aligned.extend_from_slice(body);
        let body = rkyv::from_bytes::<Body, rkyv::rancor::Error>(&aligned)
            .map_err(|e| corrupt(HEADER as u64, format!("checksum is right but content is not: {e}")))?;
        let commit = CommitPoint::from(body);
        if parse_name(name).is_some_and(|g| g != commit.generation) {
            return Err(corrupt(HEADER as u64, format!("is commit {}", commit.generation)));
        }
        Ok(commit)
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

/// For the fuzzer: must answer a value or an error, whatever the bytes; a value encodes to bytes that say the same.
/// Bytes after an odd first one are taken as a body, with a header put before them.
#[doc(hidden)]
pub fn fuzz_commit_load(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    if mode & 1 == 1 {
        bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        let checksum = checksum(&bytes, data);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(data);
    }
    if let Ok(commit) = CommitPoint::decode("fuzz", &bytes) {
        assert_eq!(CommitPoint::decode("fuzz", &commit.encode()), Ok(commit));
    }
}

fn file_name(generation: Generation) -> String {
    format!("commit-{generation}")
}

pub(crate) fn parse_name(name: &str) -> Option<Generation> {
    let generation = Generation(name.strip_prefix("commit-")?.parse().ok()?);
    (file_name(generation) == name).then_some(generation)
}

async fn list<D: Directory>(directory: &D) -> Result<Vec<Generation>> {
    Ok(directory.list().await?.iter().filter_map(|(name, _)| parse_name(name)).collect())
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// What is archived in version 1.
#[derive(Archive, Serialize, Deserialize)]
struct Body {
    generation: u64,
    shard_uuid: [u8; 16],
    segments: Vec<Segment>,
    local_checkpoint: i64,
    max_seq_no: i64,
    max_unsafe_auto_id_timestamp: i64,
    translog_uuid: [u8; 16],
    translog_generation: u64,
    translog_batch: u64,
    user_data: Vec<(String, String)>,
}

#[derive(Archive, Serialize, Deserialize)]
struct Segment {
    id: u64,
    file: String,
    size: u64,
    crc: u32,
    doc_count: u32,
    deleted_count: u32,
    live_docs: Option<u64>,
    min_seq_no: i64,
    max_seq_no: i64,
}

impl From<&CommitPoint> for Body {
    fn from(c: &CommitPoint) -> Body {
        let segments = c.segments.iter().map(|s| Segment {
            id: s.id.0,
            file: s.file.clone(),
            size: s.size,
            crc: s.crc,
            doc_count: s.doc_count,
            deleted_count: s.deleted_count,
            live_docs: s.live_docs.map(|g| g.0),
            min_seq_no: s.min_seq_no.0,
            max_seq_no: s.max_seq_no.0,
        });
        Body {
            generation: c.generation.0,
            shard_uuid: c.shard_uuid,
            segments: segments.collect(),
            local_checkpoint: c.local_checkpoint.0,
            max_seq_no: c.max_seq_no.0,
            max_unsafe_auto_id_timestamp: c.max_unsafe_auto_id_timestamp,
            translog_uuid: c.translog_uuid,
            translog_generation: c.translog_position.generation.0,
            translog_batch: c.translog_position.batch,
            user_data: c.user_data.clone().into_iter().collect(),
        }
    }
}

impl From<Body> for CommitPoint {
    fn from(b: Body) -> CommitPoint {
        let segments = b.segments.into_iter().map(|s| CommittedSegment {
            id: SegmentId(s.id),
            file: s.file,
            size: s.size,
            crc: s.crc,
            doc_count: s.doc_count,
            deleted_count: s.deleted_count,
            live_docs: s.live_docs.map(Generation),
            min_seq_no: SeqNo(s.min_seq_no),
            max_seq_no: SeqNo(s.max_seq_no),
        });
        CommitPoint {
            generation: Generation(b.generation),
            shard_uuid: b.shard_uuid,
            segments: segments.collect(),
            local_checkpoint: SeqNo(b.local_checkpoint),
            max_seq_no: SeqNo(b.max_seq_no),
            max_unsafe_auto_id_timestamp: b.max_unsafe_auto_id_timestamp,
            translog_uuid: b.translog_uuid,
            translog_position: Position { generation: Generation(b.translog_generation), batch: b.translog_batch },
            user_data: b.user_data.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::store::sim::{SimDirectory, Stop};
    use crate::store::write_file;

    /// Commit `n`: segments 1 to `n`, every other one with deletes.
    fn commit(n: u64) -> CommitPoint {
        let segments = (1..=n).map(|i| CommittedSegment {
            id: SegmentId(i),
            file: format!("{i}.seg"),
            size: i * 1000,
            crc: i as u32 * 77,
            doc_count: 10,
            deleted_count: i as u32 % 2,
            live_docs: (i % 2 == 1).then_some(Generation(n)),
            min_seq_no: SeqNo(i as i64 * 10),
            max_seq_no: SeqNo(i as i64 * 10 + 9),
        });
        CommitPoint {
            generation: Generation(n),
            shard_uuid: [1; 16],
            segments: segments.collect(),
            local_checkpoint: SeqNo(n as i64 * 10),
            max_seq_no: SeqNo(n as i64 * 10 + 9),
            max_unsafe_auto_id_timestamp: -1,
            translog_uuid: [2; 16],
            translog_position: Position { generation: Generation(n), batch: n * 3 },
            user_data: [("history_uuid".to_owned(), "h".to_owned())].into(),
        }
    }

    async fn write_files(d: &SimDirectory, c: &CommitPoint) -> Result<()> {
        for name in c.referenced_files() {
            if name != c.file_name() && d.content(&name).is_none() {
                write_file(d, &name, name.as_bytes()).await?;
            }
        }
        Ok(())
    }

    #[test]
    fn version_1_bytes_are_these() {
        let mut c = commit(1);
        c.segments[0].file = "a-long-file-name.seg".to_owned();
        let bytes = c.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(CommitPoint::decode("commit-1", &bytes), Ok(c));
    }

    const GOLDEN: &str = concat!(
        "524458434d49540001000000e0000000a85570e9000000000000000000000000612d6c6f6e672d66696c652d6e616d652e73",
        "656700000000010000000000000094000000e0ffffffe8030000000000004d0000000a000000010000000000000001000000",
        "0000000001000000000000000a000000000000001300000000000000686973746f72795f757569648c000000f4ffffff68ff",
        "ffffffffffff0000000001000000000000000101010101010101010101010101010180ffffff010000000a00000000000000",
        "1300000000000000ffffffffffffffff020202020202020202020202020202020100000000000000030000000000000094ff",
        "ffff01000000",
    );

    #[test]
    fn newest_commit_is_loaded_and_older_ones_go() {
        block_on(async {
            let d = SimDirectory::new(1);
            assert_eq!(CommitPoint::load_newest(&d).await, Ok(None));
            // 10 is newer than 9, whatever the order of names.
            for n in [9, 10] {
                commit(n).write(&d).await.unwrap();
            }
            write_file(&d, "commit-11.tmp", b"half").await.unwrap();
            write_file(&d, "commit-x", b"not ours").await.unwrap();
            assert_eq!(CommitPoint::load_newest(&d).await, Ok(Some(commit(10))));
            commit(10).remove_older(&d).await.unwrap();
            let names: Vec<String> = d.list().await.unwrap().into_iter().map(|(n, _)| n).collect();
            assert_eq!(names, ["commit-10", "commit-x"]);
        });
    }

    #[test]
    fn referenced_files_are_all_that_a_commit_needs() {
        let want = ["1-3.live", "1.seg", "2.seg", "3-3.live", "3.seg", "commit-3"];
        assert_eq!(commit(3).referenced_files().into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn damaged_newest_commit_is_corruption_not_an_older_commit() {
        block_on(async {
            let d = SimDirectory::new(1);
            commit(1).write(&d).await.unwrap();
            commit(2).write(&d).await.unwrap();
            d.flip("commit-2", 40, 1);
            assert!(
                matches!(CommitPoint::load_newest(&d).await, Err(Error::Corrupt { file, .. }) if file == "commit-2")
            );
        });
    }

    #[test]
    fn commit_under_another_name_is_corruption() {
        assert!(CommitPoint::decode("commit-2", &commit(1).encode()).is_err());
    }

    #[test]
    fn every_bit_counts_and_every_byte_is_there() {
        let bytes = commit(2).encode();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << bit;
                assert!(CommitPoint::decode("commit-2", &damaged).is_err(), "bit {bit} of byte {i}");
            }
            assert!(CommitPoint::decode("commit-2", &bytes[..i]).is_err());
        }
        assert!(CommitPoint::decode("commit-2", &[bytes, vec![0]].concat()).is_err());
    }

    /// Writes commits 1 to 4, each with its files, dropping what is not needed any more. Stops at step `n`; whether it did.
    fn crash_at(seed: u64, n: u64, stop: Stop, power: bool) -> bool {
        let d = SimDirectory::new(seed);
        block_on(async {
            let mut acknowledged = None;
            d.fail_after(n, stop);
            let run = async {
                for i in 1..=4 {
                    let c = commit(i);
                    write_files(&d, &c).await?;
                    c.write(&d).await?;
                    acknowledged = Some(i);
                    c.remove_older(&d).await?;
                    for (name, _) in d.list().await? {
                        if !c.referenced_files().contains(&name) {
                            d.remove(&name).await?;
                        }
                    }
                }
                Ok::<(), Error>(())
            };
            let stopped = run.await.is_err();
            if power {
                d.crash();
            }
            d.restart();
            let loaded = CommitPoint::load_newest(&d).await.unwrap();
            let generation = loaded.as_ref().map(|c| c.generation.0);
            assert!(generation >= acknowledged, "{acknowledged:?} acknowledged, {generation:?} found");
            if let Some(c) = loaded {
                assert_eq!(c, commit(c.generation.0));
                // What recovery relies on must survive the next power loss, too.
                d.crash();
                d.restart();
                assert_eq!(CommitPoint::load_newest(&d).await.unwrap().as_ref(), Some(&c));
                for name in c.referenced_files() {
                    assert!(d.content(&name).is_some_and(|b| name == c.file_name() || b == name.as_bytes()), "{name}");
                }
            }
            stopped
        })
    }

    #[test]
    fn acknowledged_commit_and_its_files_survive_a_crash_at_every_step() {
        for seed in 0..20 {
            for stop in [Stop::Before, Stop::After] {
                for power in [true, false] {
                    let mut n = 1;
                    while crash_at(seed * 1000 + n, n, stop, power) {
                        n += 1;
                    }
                    assert!(n > 60, "{n} steps");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_commit_load(&bytes);
        }

        #[test]
        fn damaged_bodies_never_panic(at in 0usize..1000, byte in any::<u8>(), cut in 0usize..50) {
            let mut body = commit(3).encode().split_off(HEADER);
            let at = at % body.len();
            body[at] = byte;
            body.truncate(body.len() - cut);
            fuzz_commit_load(&[&[1], &body[..]].concat());
        }
    }
}

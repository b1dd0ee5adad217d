//! What a node must remember of itself and of the cluster: its id and the last accepted cluster state, in two slots.
//!
//! Files `state-0` and `state-1` in the data directory, each longer than what it holds; a save overwrites the older one in
//! place. Little endian:
//!
//! ```text
//! 0   magic     8 bytes  "rdxmeta\0"
//! 8   format    u32      2
//! 12  checksum  u32      crc32 of everything from offset 16 to the end of the body
//! 16  sequence  u64      counts saves, from 1; the valid slot with the greater one is the state
//! 24  length    u64      bytes of body
//! 32  body               JSON: {"node_id": "...", "state": ClusterState}
//! ..  rest               means nothing: zeros, or what is left of a longer state
//! ```
//!
//! A slot is valid if magic, format, length (no more than the rest of the file) and checksum fit. In format 1, which is read
//! and no longer written, the file ends with the body. JSON because it is small, seldom written, and can be read with any
//! tool when something has gone wrong.
//!
//! A save writes the slot that does not hold the present state, and syncs it. A crash before the sync has ended leaves that
//! slot torn (not valid) or whole; the other slot is not touched, so the state is either the old or the new one. Whoever
//! was told "saved" finds that state or a later one. Opening syncs both slots before it reads them: what has been found
//! cannot be lost by the next save's crash. Transient settings are not kept.
//!
//! On a full disk: blocks that have been written once are written again, so a save needs none. Both slots have at least
//! twice the length of the state and a block. A save that would break this makes both slots larger first (`state-N.tmp`
//! written and synced, renamed, directory synced: the content of a slot is never at stake), and when there is no space goes
//! into that reserve. Updates that make a state longer are refused before (`reserve`); what the cluster decides, which nobody
//! can refuse, finds room. So a node starts, takes part in elections, and deletes indices, on a full disk.
//!
//! A new node saves twice, so that from then on both slots are there. Neither slot = a new node. A slot that cannot be
//! read beside a valid one is a save that was cut short, and reported. Slots that are there and none can be read are
//! damage, and the node does not start, for it would think itself empty.

use ringdex_engine::store::{BLOCK, Directory, File, write_file};
use ringdex_engine::{Error, Result};
use ringdex_net::cluster::state::ClusterState;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"rdxmeta\0";
const FORMAT: u32 = 2;
/// Ends with its body.
const FORMAT_EXACT: u32 = 1;
const HEADER: usize = 32;
const SLOTS: [&str; 2] = ["state-0", "state-1"];
/// The smallest slot.
const CAPACITY_MIN: u64 = 64 << 10;
/// A state that is longer by no more than this has no more in it: a number has got another digit.
const DIGITS: u64 = 16;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Persisted {
    /// 22 characters, URL-safe; the node's for ever.
    pub node_id: String,
    /// The term this node has voted in last, if that is not the state's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub current_term: u64,
    /// Last accepted state.
    pub state: ClusterState,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The two slots.
#[derive(Debug)]
pub struct MetaStore<D> {
    directory: D,
    sequence: u64,
    /// The slot that holds the present state.
    slot: usize,
    /// Bytes of header and body of the present state; 0 = there is none.
    length: u64,
    /// Whole blocks of each slot; 0 = it is not there.
    capacity: [u64; 2],
}

/// What was found at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The state; none = a new node.
    pub persisted: Option<Persisted>,
    /// Counts saves.
    pub sequence: u64,
    /// Slots that could not be read, and why.
    pub unreadable: Vec<String>,
}

impl<D: Directory> MetaStore<D> {
    /// Reads the newest valid slot.
    pub async fn open(directory: D) -> Result<(MetaStore<D>, Loaded)> {
        for slot in SLOTS {
            match directory.open(slot).await {
                Ok(file) => {
                    file.sync().await?;
                    file.close().await?;
                }
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        directory.sync().await?;
        let found = load(&directory).await?;
        let Found { loaded, slot, length, capacity } = found;
        Ok((MetaStore { directory, sequence: loaded.sequence, slot, length, capacity }, loaded))
    }

    /// Makes `persisted` the state that the next start finds, on a full disk in the reserve. After [`Error::DiskFull`] nothing
    /// has changed. After any other error it is unknown which of the two states that is; the store must not be used again.
    pub async fn save(&mut self, persisted: &Persisted) -> Result<()> {
        let bytes = encode(self.sequence + 1, persisted)?;
        let length = bytes.len() as u64;
        let wanted = 2 * length + BLOCK as u64;
        let slot = 1 - self.slot;
        // A slot that is not there yet is no reason to make the other one again.
        let grown =
            if self.length > 0 && self.capacity[self.slot] < wanted { self.grow_present(length).await } else { Ok(()) };
        let written = match grown {
            Ok(()) if self.capacity[slot] >= wanted => self.overwrite(slot, bytes).await,
            Ok(()) => match self.replace(slot, bytes.clone(), length).await {
                Err(Error::DiskFull { .. }) if length <= self.capacity[slot] => self.overwrite(slot, bytes).await,
                other => other,
            },
            Err(Error::DiskFull { .. }) if length <= self.capacity[slot] => self.overwrite(slot, bytes).await,
            Err(e) => Err(e),
        };
        written?;
        self.sequence += 1;
        self.slot = slot;
        self.length = length;
        Ok(())
    }

    /// Sees to it that [`save`](Self::save) of `persisted` leaves the reserve as it is: to be asked before a state is decided on
    /// that may be refused. After [`Error::DiskFull`] nothing has changed.
    pub async fn reserve(&mut self, persisted: &Persisted) -> Result<()> {
        let length = encode(self.sequence + 1, persisted)?.len() as u64;
        if self.length == 0 || length <= self.length + DIGITS {
            return Ok(());
        }
        let wanted = 2 * length + BLOCK as u64;
        if self.capacity[self.slot] < wanted {
            self.grow_present(length).await?;
        }
        if self.capacity[1 - self.slot] < wanted {
            // Whatever is in it is older. As long as it is, the present state may be there twice.
            let mut present = self.directory.read(SLOTS[self.slot]).await?;
            present.truncate(self.length as usize);
            self.replace(1 - self.slot, present, length).await?;
        }
        Ok(())
    }

    /// Gives the slot of the present state a larger file with the same content.
    async fn grow_present(&mut self, length: u64) -> Result<()> {
        let mut present = self.directory.read(SLOTS[self.slot]).await?;
        present.truncate(self.length as usize);
        self.replace(self.slot, present, length).await
    }

    /// Writes a slot as a new file, large enough for a state of `length` bytes to grow in.
    async fn replace(&mut self, slot: usize, mut bytes: Vec<u8>, length: u64) -> Result<()> {
        let capacity = (4 * length).max(CAPACITY_MIN).next_multiple_of(BLOCK as u64);
        bytes.resize(capacity as usize, 0);
        let name = format!("{}.tmp", SLOTS[slot]);
        write_file(&self.directory, &name, &bytes).await?;
        if let Err(e) = self.directory.rename(&name, SLOTS[slot]).await {
            let _ = self.directory.remove(&name).await;
            return Err(e);
        }
        self.directory.sync().await.map_err(no_longer_full)?;
        self.capacity[slot] = capacity;
        Ok(())
    }

    /// Writes a slot in the blocks it has.
    async fn overwrite(&self, slot: usize, mut bytes: Vec<u8>) -> Result<()> {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        assert!(bytes.len() as u64 <= self.capacity[slot], "a state longer than its slot");
        let file = self.directory.open(SLOTS[slot]).await?;
        file.write_at(0, &bytes).await.map_err(no_longer_full)?;
        file.sync().await.map_err(no_longer_full)?;
        file.close().await
    }
}

/// Where blocks are overwritten, or a name may or may not be durable, a full disk is an I/O error like any other.
fn no_longer_full(e: Error) -> Error {
    match e {
        Error::DiskFull { reason } => Error::Io { context: "cluster state".to_owned(), reason },
        other => other,
    }
}

/// Reads the newest valid slot, changing nothing; for `check`.
pub async fn inspect<D: Directory>(directory: &D) -> Result<Loaded> {
    Ok(load(directory).await?.loaded)
}

struct Found {
    loaded: Loaded,
    slot: usize,
    length: u64,
    capacity: [u64; 2],
}

async fn load<D: Directory>(directory: &D) -> Result<Found> {
    let loaded = Loaded { persisted: None, sequence: 0, unreadable: Vec::new() };
    let mut found = Found { loaded, slot: 1, length: 0, capacity: [0; 2] };
    let mut there = 0;
    for (slot, name) in SLOTS.iter().enumerate() {
        let bytes = match directory.read(name).await {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. }) => continue,
            Err(e) => return Err(e),
        };
        there += 1;
        found.capacity[slot] = (bytes.len() / BLOCK * BLOCK) as u64;
        match decode(name, &bytes) {
            Ok(valid) if valid.sequence > found.loaded.sequence => {
                (found.slot, found.length) = (slot, valid.length);
                found.loaded.sequence = valid.sequence;
                found.loaded.persisted = Some(valid.persisted);
            }
            Ok(_) => {}
            Err(e) => found.loaded.unreadable.push(e.to_string()),
        }
    }
    if found.loaded.persisted.is_none() && there > 0 {
        return Err(Error::corrupt(SLOTS.join(", "), 0, found.loaded.unreadable.join("; ")));
    }
    Ok(found)
}

/// A valid slot.
#[derive(Debug, PartialEq)]
struct Valid {
    sequence: u64,
    /// Bytes of header and body.
    length: u64,
    persisted: Persisted,
}

fn encode(sequence: u64, persisted: &Persisted) -> Result<Vec<u8>> {
    let mut kept = persisted.clone();
    kept.state.transient_settings.clear();
    let mut out = vec![0; HEADER];
    serde_json::to_writer(&mut out, &kept)
        .map_err(|e| Error::Io { context: "cluster state".into(), reason: e.to_string() })?;
    seal(&mut out, sequence);
    Ok(out)
}

/// Writes the header of what follows it.
fn seal(out: &mut [u8], sequence: u64) {
    let length = (out.len() - HEADER) as u64;
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    out[16..24].copy_from_slice(&sequence.to_le_bytes());
    out[24..32].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&out[16..]);
    out[12..16].copy_from_slice(&checksum.to_le_bytes());
}

fn decode(name: &str, bytes: &[u8]) -> Result<Valid> {
    let bad = |offset, reason: String| Error::corrupt(name, offset, reason);
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(bad(0, format!("{} bytes, a header has {HEADER}", bytes.len())));
    };
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if &header[..8] != MAGIC {
        return Err(bad(0, "not a cluster state".into()));
    }
    let (format, length) = (u32_at(8), u64_at(24));
    if format != FORMAT && format != FORMAT_EXACT {
        return Err(bad(8, format!("format {format}, this version reads {FORMAT_EXACT} and {FORMAT}")));
    }
    let rest = body.len() as u64;
    if length > rest || format == FORMAT_EXACT && length != rest {
        return Err(bad(24, format!("length {length} with {rest} bytes there")));
    }
    let end = HEADER + length as usize;
    let checksum = crc32fast::hash(&bytes[16..end]);
    if u32_at(12) != checksum {
        return Err(bad(12, format!("checksum {:08x}, computed {checksum:08x}", u32_at(12))));
    }
    let sequence = u64_at(16);
    if sequence == 0 {
        return Err(bad(16, "sequence 0".into()));
    }
    let persisted = serde_json::from_slice(&bytes[HEADER..end]).map_err(|e| bad(HEADER as u64, e.to_string()))?;
    Ok(Valid { sequence, length: end as u64, persisted })
}

/// For the fuzzer: a value or an error, whatever the bytes; a value encodes to what is read the same. With an odd first byte
/// the rest is taken as a body, with a header put before it.
#[doc(hidden)]
pub fn fuzz_metastore_load(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    if mode & 1 == 1 {
        bytes = vec![0; HEADER];
        bytes.extend_from_slice(data);
        seal(&mut bytes, 1);
    }
    if let Ok(Valid { sequence, mut persisted, .. }) = decode("fuzz", &bytes) {
        persisted.state.transient_settings.clear();
        let mut again = encode(sequence, &persisted).expect("what was read can be written");
        let length = again.len() as u64;
        again.resize(again.len().next_multiple_of(BLOCK), 0xff);
        assert_eq!(decode("fuzz", &again), Ok(Valid { sequence, length, persisted }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use proptest::prelude::*;
    use ringdex_engine::store::sim::{SimDirectory, Step, Stop};
    use serde_json::json;

    fn persisted(version: u64) -> Persisted {
        let mut state = ClusterState { version, cluster_name: "c".into(), ..ClusterState::default() };
        state.persistent_settings.insert("a.b".into(), json!("x".repeat(version as usize * 700 % 9000)));
        Persisted { node_id: "n".into(), state, ..Persisted::default() }
    }

    fn golden(format: u32) -> Vec<u8> {
        let body = r#"{"node_id":"abc","state":{"version":0,"state_uuid":"","cluster_uuid":"","cluster_name":"","term":0,"indices":{},"templates":{},"index_templates":{},"component_templates":{},"persistent_settings":{},"transient_settings":{},"custom":{}}}"#;
        let mut counted = 3u64.to_le_bytes().to_vec();
        counted.extend((body.len() as u64).to_le_bytes());
        counted.extend(body.as_bytes());
        let mut bytes = b"rdxmeta\0".to_vec();
        bytes.extend(format.to_le_bytes());
        bytes.extend(crc32fast::hash(&counted).to_le_bytes());
        bytes.extend(counted);
        bytes
    }

    #[test]
    fn golden_bytes_of_format_2_and_what_follows_them_means_nothing() {
        let persisted = Persisted { node_id: "abc".into(), ..Persisted::default() };
        let mut bytes = encode(3, &persisted).unwrap();
        assert_eq!(bytes, golden(2));
        let valid = || Valid { sequence: 3, length: golden(2).len() as u64, persisted: persisted.clone() };
        assert_eq!(decode("x", &bytes), Ok(valid()));
        bytes.extend(b"what was longer");
        assert_eq!(decode("x", &bytes), Ok(valid()));
    }

    #[test]
    fn format_1_is_read_and_ends_with_its_body() {
        let mut bytes = golden(1);
        assert_eq!(decode("x", &bytes).unwrap().sequence, 3);
        bytes.push(0);
        assert!(decode("x", &bytes).is_err());
        block_on(async {
            let disk = SimDirectory::new(1);
            disk.put("state-1", &golden(1));
            let (mut store, loaded) = MetaStore::open(disk.clone()).await.unwrap();
            assert_eq!((loaded.sequence, loaded.persisted.unwrap().node_id.as_str()), (3, "abc"));
            for version in 1..4 {
                store.save(&persisted(version)).await.unwrap();
            }
            let (_, loaded) = MetaStore::open(disk.clone()).await.unwrap();
            assert_eq!((loaded.sequence, loaded.persisted), (6, Some(persisted(3))));
            assert_eq!(disk.list().await.unwrap().len(), 2, "no litter");
        });
    }

    #[test]
    fn transient_settings_do_not_survive_and_persistent_ones_do() {
        block_on(async {
            let disk = SimDirectory::new(1);
            let (mut store, loaded) = MetaStore::open(disk.clone()).await.unwrap();
            assert_eq!(loaded, Loaded { persisted: None, sequence: 0, unreadable: vec![] });
            let mut value = persisted(1);
            value.state.transient_settings.insert("t".into(), json!(1));
            store.save(&value).await.unwrap();
            let (_, loaded) = MetaStore::open(disk).await.unwrap();
            assert_eq!(loaded.persisted, Some(persisted(1)));
        });
    }

    #[test]
    fn two_damaged_slots_are_not_an_empty_node() {
        block_on(async {
            let disk = SimDirectory::new(1);
            let (mut store, _) = MetaStore::open(disk.clone()).await.unwrap();
            store.save(&persisted(1)).await.unwrap();
            store.save(&persisted(2)).await.unwrap();
            write_file(&disk, "state-0", b"rdxmeta\0 and then nothing of use").await.unwrap();
            let (_, loaded) = MetaStore::open(disk.clone()).await.unwrap();
            assert_eq!(loaded.unreadable.len(), 1);
            assert!(loaded.persisted.is_some());
            write_file(&disk, "state-1", b"").await.unwrap();
            assert!(matches!(MetaStore::open(disk.clone()).await, Err(Error::Corrupt { .. })));
            disk.remove("state-0").await.unwrap();
            assert!(matches!(MetaStore::open(disk).await, Err(Error::Corrupt { .. })), "nor is one");
        });
    }

    /// A node that has started, with `state` of `versions` saves.
    async fn saved(disk: &SimDirectory, versions: u64) -> MetaStore<SimDirectory> {
        let (mut store, _) = MetaStore::open(disk.clone()).await.unwrap();
        for version in [1].into_iter().chain(1..=versions) {
            store.save(&persisted(version)).await.unwrap();
        }
        store
    }

    /// Bytes of settings, for a state of any length.
    fn long(version: u64, bytes: usize) -> Persisted {
        let mut value = persisted(version);
        value.state.persistent_settings.insert("a.b".into(), json!("x".repeat(bytes)));
        value
    }

    #[test]
    fn a_save_needs_no_new_block_and_touches_one_slot() {
        block_on(async {
            let disk = SimDirectory::new(1);
            let mut store = saved(&disk, 1).await;
            disk.limit_space(Some(0));
            for version in 2..40 {
                let before = SLOTS.map(|slot| disk.content(slot).unwrap());
                disk.clear_trace();
                // As long as any other: the length of what others make of it is not the point here.
                store.save(&long(version, 700)).await.unwrap();
                let steps = disk.trace();
                let Step::Write(slot, 0, BLOCK) = &steps[0] else { panic!("{steps:?}") };
                assert_eq!(steps[1..], [Step::Sync(slot.clone())]);
                let touched: Vec<bool> =
                    SLOTS.iter().zip(&before).map(|(slot, old)| disk.content(slot).unwrap() != *old).collect();
                assert_eq!(touched.iter().filter(|t| **t).count(), 1);
            }
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_without_a_trace_and_fits_when_there_is_space() {
        block_on(async {
            let disk = SimDirectory::new(1);
            let mut store = saved(&disk, 1).await;
            // Space for one larger slot is not enough.
            for spare in [0, 5 << 20] {
                disk.limit_space(Some(disk.used_space() + spare));
                let refused = store.save(&long(2, 1 << 20)).await;
                assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
                assert_eq!(disk.list().await.unwrap().len(), 2, "no litter");
                let (_, loaded) = MetaStore::open(disk.clone()).await.unwrap();
                assert_eq!(loaded.persisted, Some(persisted(1)));
            }
            disk.limit_space(None);
            store.save(&long(2, 1 << 20)).await.unwrap();
            let (_, loaded) = MetaStore::open(disk).await.unwrap();
            assert_eq!(loaded.persisted, Some(long(2, 1 << 20)));
        });
    }

    #[test]
    fn the_reserve_is_for_what_cannot_be_refused() {
        block_on(async {
            let disk = SimDirectory::new(1);
            let mut store = saved(&disk, 1).await;
            disk.limit_space(Some(0));
            let mut bytes = 700;
            while store.reserve(&long(2, bytes)).await.is_ok() {
                store.save(&long(2, bytes)).await.unwrap();
                bytes += 100;
            }
            assert!(bytes > 20_000, "refused at {bytes}");
            store.reserve(&long(2, bytes - 99)).await.unwrap();
            store.save(&long(2, bytes - 99)).await.unwrap();
            // A start, again and again, each with terms that are longer.
            for start in 0..20 {
                let (mut store, loaded) = MetaStore::open(disk.clone()).await.unwrap();
                let expected = if start == 0 { bytes - 99 } else { bytes + start * 1000 - 1000 };
                assert_eq!(loaded.persisted, Some(long(2, expected)));
                store.save(&long(2, bytes + start * 1000)).await.unwrap();
            }
            // And an index is deleted.
            let (mut store, _) = MetaStore::open(disk.clone()).await.unwrap();
            store.save(&long(2, bytes)).await.unwrap();
            let refused = store.reserve(&long(2, bytes + 100)).await;
            assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
            let (_, loaded) = MetaStore::open(disk).await.unwrap();
            assert_eq!(loaded.persisted, Some(long(2, bytes)));
        });
    }

    /// Saves of these lengths; the machine (or only the process) stops at step `n`. What is found is the last state that was
    /// reported saved, or the one after it; and it goes on from there, through another crash. Whether it stopped.
    fn crash_at(seed: u64, n: u64, stop: Stop, power: bool, lengths: &[usize]) -> bool {
        block_on(async {
            let disk = SimDirectory::new(seed);
            disk.fail_after(n, stop);
            let mut acknowledged = 0;
            let run = async {
                let (mut store, _) = MetaStore::open(disk.clone()).await?;
                for (i, bytes) in lengths.iter().enumerate() {
                    store.save(&long(i as u64 + 1, *bytes)).await?;
                    acknowledged = i + 1;
                }
                Ok::<(), Error>(())
            };
            let stopped = run.await.is_err();
            for again in 0..3 {
                if power || again > 0 {
                    disk.crash();
                }
                disk.restart();
                let (mut store, loaded) = MetaStore::open(disk.clone()).await.unwrap();
                let found = loaded.persisted.as_ref().map_or(0, |p| p.state.version as usize);
                assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} after {acknowledged}");
                if found > 0 && again == 0 {
                    assert_eq!(loaded.persisted, Some(long(found as u64, lengths[found - 1])));
                }
                acknowledged = found;
                // Two saves, of which the second is cut short: nothing that was found may depend on what was not durable.
                if again == 0 {
                    disk.fail_after(1 + seed % 3, Stop::After);
                }
                if store.save(&long(found as u64 + 1, 100)).await.is_ok() {
                    acknowledged = found + 1;
                }
            }
            stopped
        })
    }

    #[test]
    fn a_crash_at_any_step_loses_no_saved_state() {
        let lengths = [0, 0, 9_000, 40_000, 41_000, 5_000, 100];
        for seed in 0..3 {
            for stop in [Stop::Before, Stop::After] {
                for power in [true, false] {
                    let mut n = 1;
                    while crash_at(seed * 1000 + n, n, stop, power, &lengths) {
                        n += 1;
                    }
                    assert!(n > 25, "{n} steps");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_crash_loses_no_saved_state(
            seed: u64,
            step in 1u64..60,
            after: bool,
            power: bool,
            lengths in proptest::collection::vec(0usize..60_000, 1..10),
        ) {
            crash_at(seed, step, if after { Stop::After } else { Stop::Before }, power, &lengths);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pass(bytes: Vec<u8>, flip in 0usize..4096, bit in 0u8..8) {
            let _ = decode("x", &bytes);
            let mut good = encode(7, &persisted(3)).unwrap();
            let at = flip % good.len();
            good[at] ^= 1 << bit;
            // Every bit counts, the format number too.
            prop_assert!(decode("x", &good).is_err());
            let cut = flip % good.len();
            prop_assert!(decode("x", &good[..cut]).is_err());
        }
    }
}

//! What a node must remember of itself and of the cluster: its id and the last accepted cluster state, in two slots.
//!
//! Files `state-0` and `state-1` in the data directory; the older one is replaced by each save. Little endian:
//!
//! ```text
//! 0   magic     8 bytes  "rdxmeta\0"
//! 8   format    u32      1
//! 12  checksum  u32      crc32 of everything from offset 16 to the end of the body
//! 16  sequence  u64      counts saves, from 1; the valid slot with the greater one is the state
//! 24  length    u64      bytes of body
//! 32  body               JSON: {"node_id": "...", "state": ClusterState}
//! ```
//!
//! The file ends with the body. A slot is valid if magic, format, length (exactly the rest of the file) and checksum fit.
//! JSON because it is small, seldom written, and can be read with any tool when something has gone wrong.
//!
//! A save writes the slot that does not hold the present state, syncs it, then syncs the directory. A crash before the
//! last sync leaves that slot torn, missing, or complete; the other slot is not touched, so the state is either the old or
//! the new one. Whoever was told "saved" finds that state or a later one. Transient settings are not kept.
//!
//! A new node saves twice, so that from then on both slots are whole. No whole slot and one missing is thus a new node
//! whose first save was cut short. A slot that cannot be read
//! beside a valid one is a save that was cut short, and reported; slots of which none can be read are damage, and the node does not start, for it would think itself empty.

use ringdex_engine::store::{Directory, write_file};
use ringdex_engine::{Error, Result};
use ringdex_net::cluster::state::ClusterState;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"rdxmeta\0";
const FORMAT: u32 = 1;
const HEADER: usize = 32;
const SLOTS: [&str; 2] = ["state-0", "state-1"];

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Persisted {
    /// 22 characters, URL-safe; the node's for ever.
    pub node_id: String,
    /// Last accepted state.
    pub state: ClusterState,
}

/// The two slots.
#[derive(Debug)]
pub struct MetaStore<D> {
    directory: D,
    sequence: u64,
    /// The slot that holds the present state.
    slot: usize,
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
        let (loaded, slot) = load(&directory).await?;
        Ok((MetaStore { directory, sequence: loaded.sequence, slot }, loaded))
    }

    /// Makes `persisted` the state that the next start finds. After an error it is unknown which of the two states that is;
    /// the store must not be used again.
    pub async fn save(&mut self, persisted: &Persisted) -> Result<()> {
        let slot = 1 - self.slot;
        let sequence = self.sequence + 1;
        write_file(&self.directory, SLOTS[slot], &encode(sequence, persisted)?).await?;
        self.directory.sync().await?;
        self.sequence = sequence;
        self.slot = slot;
        Ok(())
    }
}

/// Reads the newest valid slot, changing nothing; for `check`.
pub async fn inspect<D: Directory>(directory: &D) -> Result<Loaded> {
    Ok(load(directory).await?.0)
}

async fn load<D: Directory>(directory: &D) -> Result<(Loaded, usize)> {
    let mut newest: Option<(u64, Persisted, usize)> = None;
    let mut unreadable = Vec::new();
    for (slot, name) in SLOTS.iter().enumerate() {
        let bytes = match directory.read(name).await {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. }) => continue,
            Err(e) => return Err(e),
        };
        match decode(name, &bytes) {
            Ok((sequence, persisted)) if newest.as_ref().is_none_or(|(s, ..)| sequence > *s) => {
                newest = Some((sequence, persisted, slot));
            }
            Ok(_) => {}
            Err(e) => unreadable.push(e.to_string()),
        }
    }
    match newest {
        Some((sequence, persisted, slot)) => Ok((Loaded { persisted: Some(persisted), sequence, unreadable }, slot)),
        // The very first save was cut short: nobody was told of it. A second slot exists only after a whole first one.
        None if unreadable.len() < SLOTS.len() => Ok((Loaded { persisted: None, sequence: 0, unreadable }, 1)),
        None => Err(Error::corrupt(SLOTS.join(", "), 0, unreadable.join("; "))),
    }
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

fn decode(name: &str, bytes: &[u8]) -> Result<(u64, Persisted)> {
    let bad = |offset, reason: String| Error::corrupt(name, offset, reason);
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(bad(0, format!("{} bytes, a header has {HEADER}", bytes.len())));
    };
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if &header[..8] != MAGIC {
        return Err(bad(0, "not a cluster state".into()));
    }
    if u32_at(8) != FORMAT {
        return Err(bad(8, format!("format {}, this version reads {FORMAT}", u32_at(8))));
    }
    if u64_at(24) != body.len() as u64 {
        return Err(bad(24, format!("length {} with {} bytes there", u64_at(24), body.len())));
    }
    let checksum = crc32fast::hash(&bytes[16..]);
    if u32_at(12) != checksum {
        return Err(bad(12, format!("checksum {:08x}, computed {checksum:08x}", u32_at(12))));
    }
    let persisted = serde_json::from_slice(body).map_err(|e| bad(HEADER as u64, e.to_string()))?;
    Ok((u64_at(16), persisted))
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
    if let Ok((sequence, mut persisted)) = decode("fuzz", &bytes) {
        persisted.state.transient_settings.clear();
        let again = encode(sequence, &persisted).expect("what was read can be written");
        assert_eq!(decode("fuzz", &again), Ok((sequence, persisted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use proptest::prelude::*;
    use ringdex_engine::store::sim::{SimDirectory, Stop};
    use serde_json::json;

    fn persisted(version: u64) -> Persisted {
        let mut state = ClusterState { version, cluster_name: "c".into(), ..ClusterState::default() };
        state.persistent_settings.insert("a.b".into(), json!("x".repeat(version as usize * 700 % 9000)));
        Persisted { node_id: "n".into(), state }
    }

    #[test]
    fn golden_bytes_of_format_1() {
        let bytes = encode(3, &Persisted { node_id: "abc".into(), state: ClusterState::default() }).unwrap();
        let body = r#"{"node_id":"abc","state":{"version":0,"state_uuid":"","cluster_uuid":"","cluster_name":"","term":0,"indices":{},"templates":{},"index_templates":{},"component_templates":{},"persistent_settings":{},"transient_settings":{},"custom":{}}}"#;
        let mut expected = b"rdxmeta\0\x01\0\0\0".to_vec();
        expected.extend(crc32fast::hash(&bytes[16..]).to_le_bytes());
        expected.extend(3u64.to_le_bytes());
        expected.extend((body.len() as u64).to_le_bytes());
        expected.extend(body.as_bytes());
        assert_eq!(bytes, expected);
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
            assert!(matches!(MetaStore::open(disk).await, Err(Error::Corrupt { .. })));
        });
    }

    proptest! {
        /// Save, save, ... and the power goes at some step: what is found is the last state that was reported saved, or
        /// the one after it.
        #[test]
        fn a_crash_loses_no_saved_state(seed: u64, saves in 2u64..8, step in 1u64..10, after: bool) {
            block_on(async {
                let disk = SimDirectory::new(seed);
                let (mut store, _) = MetaStore::open(disk.clone()).await.unwrap();
                for version in 1..=saves {
                    store.save(&persisted(version)).await.unwrap();
                }
                disk.fail_after(step, if after { Stop::After } else { Stop::Before });
                let finished = store.save(&persisted(saves + 1)).await.is_ok();
                disk.crash();
                disk.restart();
                let (mut store, loaded) = MetaStore::open(disk.clone()).await.unwrap();
                let found = loaded.persisted.unwrap().state.version;
                if finished {
                    assert_eq!(found, saves + 1);
                } else {
                    assert!(found == saves || found == saves + 1, "{found} after {saves}");
                }
                // And it goes on from there.
                store.save(&persisted(found + 1)).await.unwrap();
                let (_, loaded) = MetaStore::open(disk).await.unwrap();
                assert_eq!(loaded.persisted.unwrap().state.version, found + 1);
            });
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

//! The name of a shard copy, in its directory: file `allocation`, 32 bytes, little endian.
//!
//! ```text
//! 0   magic     8 bytes  "rdxalloc"
//! 8   format    u32      1
//! 12  checksum  u32      crc32 of the id
//! 16  id        16 bytes big endian, as it is shown
//! ```
//!
//! Written and synced before the copy tells anybody that it is there, and before a copy that is made anew touches files of an
//! older one: files with a name that the cluster does not count among its in-sync copies never become a primary. Written to
//! `allocation.tmp` and renamed; a crash leaves the old name, or the new one. A directory with a commit and no name is of a
//! node from before there were clusters.

use ringdex_engine::store::{Directory, replace_file};
use ringdex_engine::{Error, Result};
use ringdex_net::cluster::allocation::ANY_COPY;
use ringdex_net::cluster::ids::AllocationId;

const NAME: &str = "allocation";
const MAGIC: &[u8; 8] = b"rdxalloc";
const FORMAT: u32 = 1;
const BYTES: usize = 32;

/// Names the copy in `directory`; nothing is written if that is its name already.
pub async fn write<D: Directory>(directory: &D, id: AllocationId) -> Result<()> {
    if matches!(read(directory).await, Ok(Some(known)) if known == id) {
        return Ok(());
    }
    replace_file(directory, NAME, &encode(id)).await
}

/// The name of the copy in `directory`; [`ANY_COPY`] if it has none, none if there is no copy.
pub async fn read<D: Directory>(directory: &D) -> Result<Option<AllocationId>> {
    match directory.read(NAME).await {
        Ok(bytes) => decode(&bytes).map(Some),
        Err(Error::NotFound { .. }) => {
            let files = directory.list().await?;
            Ok(files.iter().any(|(name, _)| name.starts_with("commit-")).then_some(ANY_COPY))
        }
        Err(e) => Err(e),
    }
}

fn encode(id: AllocationId) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    out[16..].copy_from_slice(&id.0.to_be_bytes());
    let checksum = crc32fast::hash(&out[16..]);
    out[12..16].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<AllocationId> {
    let bad = |offset, reason: &str| Error::corrupt(NAME, offset, reason);
    // The file may end with padding of its last block.
    let Some(bytes) = bytes.get(..BYTES) else { return Err(bad(0, "shorter than a name")) };
    let (head, id) = bytes.split_at(16);
    if &head[..8] != MAGIC {
        return Err(bad(0, "no name of a copy"));
    }
    if head[8..12] != FORMAT.to_le_bytes() {
        return Err(bad(8, "unknown format"));
    }
    if head[12..16] != crc32fast::hash(id).to_le_bytes() {
        return Err(bad(12, "checksum mismatch"));
    }
    let mut value = [0; 16];
    value.copy_from_slice(id);
    Ok(AllocationId(u128::from_be_bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_documented_bytes_and_comes_back() {
        let id = AllocationId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let bytes = encode(id);
        assert_eq!(&bytes[..12], b"rdxalloc\x01\0\0\0");
        assert_eq!(bytes[16..], (1..=16).collect::<Vec<u8>>()[..]);
        assert_eq!(decode(&bytes).unwrap(), id);
        for flipped in 0..BYTES {
            let mut damaged = bytes;
            damaged[flipped] ^= 1;
            assert!(decode(&damaged).is_err(), "byte {flipped}");
        }
        assert!(decode(&bytes[..31]).is_err());
    }
}

//! The dictionary that a segment's `_source` blocks are compressed with: what documents of the shard have in common, so that
//! a block of one or two documents is as small as one of dozens, and a get unpacks little.
//!
//! ```text
//! 0   crc32    u32   of the rest
//! 4   seen     u64   bytes of `_source` that it was chosen from
//! 12  content        in zstd's format, with dictionary id 0
//! ```
//!
//! A shard has one dictionary at a time. The first segment of `SOURCE_LEN_MIN` bytes of `_source` trains it, later ones
//! take it over from the segments there are, so merges copy blocks as they are. A segment with `SEEN_GROWTH` times as much
//! `_source` as the dictionary has seen trains a new one: documents may have changed, and that often it costs nothing.
//! Smaller segments go without.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zstd::zstd_safe::{CDict, DDict};

use crate::codec::crc32;
use crate::error::{Error, Result};
use crate::segment::Codec;

/// Less `_source` does not pay for a dictionary.
pub(crate) const SOURCE_LEN_MIN: u64 = 1 << 20;
/// When a dictionary is trained anew.
const SEEN_GROWTH: u64 = 64;
const HEADER_LEN: usize = 12;

/// See the module. Digested once, by whoever is first to read or to write with it.
pub struct SourceDictionary {
    /// Bytes of `_source` it was chosen from.
    seen: u64,
    content: Bytes,
    decoder: OnceLock<Option<DDict<'static>>>,
    encoders: [OnceLock<Option<CDict<'static>>>; 2],
}

impl std::fmt::Debug for SourceDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceDictionary({} bytes of {} seen)", self.content.len(), self.seen)
    }
}

impl PartialEq for SourceDictionary {
    fn eq(&self, other: &SourceDictionary) -> bool {
        // Asked for every block that is taken over: mostly of one and the same.
        std::ptr::eq(self, other) || self.content == other.content
    }
}

/// Where a segment's dictionary comes from.
#[derive(Debug)]
pub(crate) enum Choice {
    /// There is too little `_source` for one.
    Nowhere,
    Taken(Arc<SourceDictionary>),
    Trained,
}

impl SourceDictionary {
    pub(crate) fn new(seen: u64, content: Vec<u8>) -> SourceDictionary {
        SourceDictionary::of(seen, content.into())
    }

    fn of(seen: u64, content: Bytes) -> SourceDictionary {
        SourceDictionary { seen, content, decoder: OnceLock::new(), encoders: Default::default() }
    }

    pub(crate) fn open(section: &Bytes, name: &str) -> Result<SourceDictionary> {
        let corrupt = |reason: &str| Error::corrupt(name, 0, format!("dictionary of sources: {reason}"));
        let (header, content) = section.split_first_chunk::<HEADER_LEN>().ok_or_else(|| corrupt("too short"))?;
        let crc = u32::from_le_bytes(*header.first_chunk().expect("12 bytes"));
        if crc32(&section[4..]) != crc {
            return Err(corrupt("checksum mismatch"));
        }
        let seen = u64::from_le_bytes(header[4..].try_into().expect("8 bytes"));
        Ok(SourceDictionary::of(seen, section.slice_ref(content)))
    }

    /// The section.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&self.seen.to_le_bytes());
        out.extend_from_slice(&self.content);
        let crc = crc32(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// For reading; none if zstd does not know the content as a dictionary.
    pub(crate) fn decoder(&self) -> Option<&DDict<'static>> {
        self.decoder.get_or_init(|| DDict::try_create(&self.content)).as_ref()
    }

    /// For writing.
    pub(crate) fn encoder(&self, codec: Codec, level: i32) -> Option<&CDict<'static>> {
        self.encoders[codec as usize].get_or_init(|| CDict::try_create(&self.content, level)).as_ref()
    }

    /// What a segment with `source_len` bytes of `_source` uses, of the dictionaries around it.
    pub(crate) fn choose<'a>(source_len: u64, known: impl Iterator<Item = &'a Arc<SourceDictionary>>) -> Choice {
        if source_len < SOURCE_LEN_MIN {
            return Choice::Nowhere;
        }
        match SourceDictionary::best(known) {
            Some(best) if source_len / SEEN_GROWTH < best.seen => Choice::Taken(best.clone()),
            _ => Choice::Trained,
        }
    }

    /// The one that has seen most, the first of several.
    pub(crate) fn best<'a>(
        known: impl Iterator<Item = &'a Arc<SourceDictionary>>,
    ) -> Option<&'a Arc<SourceDictionary>> {
        known.reduce(|best, next| if next.seen > best.seen { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_keeps_its_dictionary_until_there_is_far_more_to_see() {
        let small = Arc::new(SourceDictionary::new(SOURCE_LEN_MIN, vec![1]));
        let large = Arc::new(SourceDictionary::new(SOURCE_LEN_MIN * 2, vec![2]));
        let choose = |len: u64, known: &[&Arc<SourceDictionary>]| SourceDictionary::choose(len, known.iter().copied());
        assert!(matches!(choose(SOURCE_LEN_MIN - 1, &[&small]), Choice::Nowhere));
        assert!(matches!(choose(SOURCE_LEN_MIN, &[]), Choice::Trained));
        assert!(matches!(choose(SOURCE_LEN_MIN, &[&small, &large]), Choice::Taken(d) if d == large));
        assert!(matches!(choose(SOURCE_LEN_MIN * 64 - 1, &[&small]), Choice::Taken(d) if d == small));
        assert!(matches!(choose(SOURCE_LEN_MIN * 64, &[&small]), Choice::Trained));
        assert!(matches!(choose(SOURCE_LEN_MIN * 64, &[&small, &large]), Choice::Taken(d) if d == large));
    }

    #[test]
    fn damage_is_noticed_when_it_is_opened_or_digested() {
        let section = SourceDictionary::new(7, b"any bytes are a dictionary of content".to_vec()).encode();
        let whole = SourceDictionary::open(&section.clone().into(), "t").unwrap();
        assert!(whole.seen == 7 && whole.decoder().is_some() && whole.encoder(Codec::Default, 1).is_some());
        for at in 0..section.len() {
            let mut bad = section.clone();
            bad[at] ^= 4;
            assert!(SourceDictionary::open(&bad.into(), "t").is_err(), "{at}");
            assert!(SourceDictionary::open(&section[..at].to_vec().into(), "t").is_err(), "{at}");
        }
        // zstd's magic, and then no tables.
        let claims = SourceDictionary::new(7, [&[0x37, 0xa4, 0x30, 0xec][..], &[0xff; 60]].concat());
        assert!(claims.decoder().is_none() && claims.encoder(Codec::Default, 1).is_none());
    }
}

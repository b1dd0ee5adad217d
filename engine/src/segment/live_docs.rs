//! Which documents of a segment are not deleted.
//!
//! One file per segment and generation, `N-G.live`, written whole before the commit point that names it:
//!
//! ```text
//! 0    magic          8 bytes  "RDXLIV\r\n"
//! 8    version        u32      1
//! 12   doc count      u32      of the segment
//! 16   segment id     u64
//! 24   generation     u64
//! 32   deleted count  u32
//! 36   deleted docs            roaring bitmap in its portable serialization
//! L-4  crc32          u32      of everything before
//! ```
//!
//! Valid when the crc matches, segment and generation are those of the name, and the bitmap has that many documents, all
//! below the doc count. A crash leaves a file that no commit point names.

use roaring::RoaringBitmap;

use crate::codec::{Reader, crc32};
use crate::error::Result;
use crate::ids::{DocId, Generation, SegmentId};

const MAGIC: &[u8; 8] = b"RDXLIV\r\n";
const VERSION: u32 = 1;

/// A set of live documents; immutable once published. A segment without deletes has none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveDocs {
    words: Vec<u64>,
    doc_count: u32,
    deleted_count: u32,
}

impl LiveDocs {
    /// All `doc_count` documents live.
    #[must_use]
    pub fn all(doc_count: u32) -> LiveDocs {
        let mut words = vec![u64::MAX; (doc_count as usize).div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !doc_count.is_multiple_of(64)
        {
            *last = (1 << (doc_count % 64)) - 1;
        }
        LiveDocs { words, doc_count, deleted_count: 0 }
    }

    /// Whether `doc` is live. `doc` must be below the segment's document count.
    #[inline]
    #[must_use]
    pub fn is_live(&self, doc: DocId) -> bool {
        self.words[(doc / 64) as usize] >> (doc % 64) & 1 == 1
    }

    /// Deletes one document; whether it was live.
    pub fn delete(&mut self, doc: DocId) -> bool {
        let word = &mut self.words[(doc / 64) as usize];
        let mask = 1u64 << (doc % 64);
        let was_live = *word & mask != 0;
        *word &= !mask;
        self.deleted_count += u32::from(was_live);
        was_live
    }

    /// How many are deleted.
    #[must_use]
    pub fn deleted_count(&self) -> u32 {
        self.deleted_count
    }

    /// How many are live.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        self.doc_count - self.deleted_count
    }

    /// 64 documents a word, document 0 in the lowest bit of the first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Documents in the segment.
    #[must_use]
    pub fn doc_count(&self) -> u32 {
        self.doc_count
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self, segment: SegmentId, generation: Generation) -> Vec<u8> {
        let deleted = RoaringBitmap::from_sorted_iter(self.deleted()).expect("ascending");
        assert_eq!(deleted.len(), u64::from(self.deleted_count));
        let mut out = Vec::with_capacity(40 + deleted.serialized_size());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.doc_count.to_le_bytes());
        out.extend_from_slice(&segment.0.to_le_bytes());
        out.extend_from_slice(&generation.0.to_le_bytes());
        out.extend_from_slice(&self.deleted_count.to_le_bytes());
        deleted.serialize_into(&mut out).expect("a Vec takes everything");
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// What tells a file from others of its name: the crc32 at its end. (A crc32 of the whole file would not: over bytes and
    /// their own crc32 it is the same for all.)
    ///
    /// # Errors
    /// `Corrupt` when it is not that of the bytes before it.
    pub fn checksum(file: &str, bytes: &[u8]) -> Result<u32> {
        let r = Reader::new(file, bytes);
        if bytes.len() < 40 {
            return Err(r.corrupt(format!("{} bytes are too few", bytes.len())));
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        let (expected, actual) = (u32::from_le_bytes(crc.try_into().expect("4 bytes")), crc32(body));
        if actual != expected {
            return Err(r.corrupt(format!("checksum {expected:08x} expected, {actual:08x} found")));
        }
        Ok(actual)
    }

    /// Reads a file's bytes; `file` is for error texts, the rest is what they must be about.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(
        file: &str,
        bytes: &[u8],
        segment: SegmentId,
        generation: Generation,
        doc_count: u32,
    ) -> Result<LiveDocs> {
        let mut r = Reader::new(file, bytes);
        LiveDocs::checksum(file, bytes)?;
        if r.take(8)? != MAGIC || r.u32()? != VERSION {
            return Err(r.corrupt("not a live-docs file of version 1"));
        }
        let (docs, of_segment, of_generation, deleted_count) = (r.u32()?, r.u64()?, r.u64()?, r.u32()?);
        if (docs, of_segment, of_generation) != (doc_count, segment.0, generation.0) {
            return Err(r.corrupt(format!(
                "segment {segment} generation {generation} with {doc_count} documents expected, \
                 {of_segment} generation {of_generation} with {docs} found"
            )));
        }
        let bitmap = r.take(r.remaining() - 4)?;
        let deleted = RoaringBitmap::deserialize_from(bitmap).map_err(|e| r.corrupt(e.to_string()))?;
        if deleted.len() != u64::from(deleted_count) || deleted.max().is_some_and(|doc| doc >= doc_count) {
            return Err(r.corrupt("deleted documents do not add up"));
        }
        let mut live = LiveDocs::all(doc_count);
        for doc in deleted {
            live.delete(doc);
        }
        Ok(live)
    }

    /// Deleted documents, ascending.
    pub fn deleted(&self) -> impl Iterator<Item = DocId> {
        let last = self.doc_count;
        self.words.iter().zip((0u32..).step_by(64)).flat_map(move |(&word, first)| {
            let mut rest = !word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64 && first + bit < last).then(|| first + bit)
            })
        })
    }
}

/// For the fuzzer: a value or an error, whatever the bytes; a value encodes to what is read the same. With an odd first byte
/// the checksum is put right.
#[doc(hidden)]
pub fn fuzz_live_docs(data: &[u8]) {
    let Some((&mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if let Some(end) = bytes.len().checked_sub(4)
        && mode & 1 == 1
    {
        let crc = crc32(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
    }
    let (segment, generation) = (SegmentId(1), Generation(1));
    let decode = |bytes: &[u8]| LiveDocs::decode("fuzz", bytes, segment, generation, 100);
    if let Ok(live) = decode(&bytes) {
        assert_eq!(live.deleted().count(), live.deleted_count() as usize);
        assert_eq!(decode(&live.encode(segment, generation)), Ok(live));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_reverses_encode(docs in 1u32..300, deletes in proptest::collection::vec(any::<u32>(), 0..300), flip in any::<u32>()) {
            let mut live = LiveDocs::all(docs);
            deletes.iter().for_each(|d| { live.delete(d % docs); });
            prop_assert_eq!(live.live_count(), (0..docs).filter(|&d| live.is_live(d)).count() as u32);
            let mut bytes = live.encode(SegmentId(7), Generation(2));
            let read = |b: &[u8], docs| LiveDocs::decode("_7_2.liv", b, SegmentId(7), Generation(2), docs);
            prop_assert_eq!(read(&bytes, docs).unwrap(), live);
            prop_assert!(read(&bytes, docs + 1).is_err());
            prop_assert!(read(&bytes[..bytes.len() - 1], docs).is_err());
            let at = flip as usize % bytes.len();
            bytes[at] ^= 1;
            prop_assert!(read(&bytes, docs).is_err());
        }

        #[test]
        fn arbitrary_bytes_with_a_right_checksum_never_panic(mut bitmap in proptest::collection::vec(any::<u8>(), 0..100), count in 0u32..4) {
            let mut bytes = LiveDocs::all(100).encode(SegmentId(7), Generation(2));
            bytes.truncate(32);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.append(&mut bitmap);
            let crc = crc32(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = LiveDocs::decode("t", &bytes, SegmentId(7), Generation(2), 100);
        }
    }
}

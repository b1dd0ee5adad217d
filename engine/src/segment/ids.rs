//! Document ids: by document, and the way back.
//!
//! Ids section:
//!
//! ```text
//! blob      ids back to back, UTF-8
//! offsets   of each id, then the end of the last; see `linear`
//! tail      8 bytes: length of the offsets u64
//! ```
//!
//! Id index section, an open-addressing table:
//!
//! ```text
//! 0   seed u64
//! 8   slots u32 each: 0 empty, else fingerprint << b | document + 1, where b is the bits of the document count
//! ```
//!
//! With `h = HashSeed::new(seed).hash(id)` (see `seed`; no client knows the seed, so none can choose ids that meet) an id is looked for from slot `(h * slots) >> 64` on, upwards and around, until an empty slot.
//! The fingerprint is the low bits of `h`; only where it matches are the id's bytes compared. A quarter of the
//! slots stays empty. If one id came twice, the slot has the later document.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::seed::HashSeed;
use crate::segment::checks::Checks;
use crate::segment::linear::{Linear, LinearWriter};
use crate::store::bitpack::bits_for;

/// Builds the index. Memory: 6 bytes per document.
#[derive(Debug)]
pub(crate) struct IdIndexWriter {
    seed: u64,
    hash: HashSeed,
    slots: Vec<u32>,
    doc_bits: u32,
}

fn doc_bits(doc_count: u32) -> u32 {
    u32::from(bits_for(u64::from(doc_count)))
}

#[inline]
fn fingerprint(hash: u64, doc_bits: u32) -> u32 {
    (hash as u32).checked_shl(doc_bits).unwrap_or(0)
}

#[inline]
fn home(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

impl IdIndexWriter {
    pub fn new(doc_count: u32, seed: u64) -> IdIndexWriter {
        let slots = if doc_count == 0 { 0 } else { doc_count as usize / 3 * 4 + 4 };
        IdIndexWriter { seed, hash: HashSeed::new(seed), slots: vec![0; slots], doc_bits: doc_bits(doc_count) }
    }

    /// Adds an id. `same` compares it with that of an earlier document.
    pub fn insert(&mut self, id: &[u8], doc: DocId, mut same: impl FnMut(DocId) -> bool) {
        let hash = self.hash.hash(id);
        let tag = fingerprint(hash, self.doc_bits);
        let mask = (1u32 << self.doc_bits) - 1;
        let mut slot = home(hash, self.slots.len());
        loop {
            let found = self.slots[slot];
            if found == 0 || (found & !mask == tag && same((found & mask) - 1)) {
                self.slots[slot] = tag | (doc + 1);
                return;
            }
            slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 };
        }
    }

    /// The section.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.slots.len() * 4);
        out.extend_from_slice(&self.seed.to_le_bytes());
        self.slots.iter().for_each(|s| out.extend_from_slice(&s.to_le_bytes()));
        out
    }
}

/// Builds the ids section behind its blob.
#[derive(Debug, Default)]
pub(crate) struct IdsWriter {
    offsets: LinearWriter,
    end: u64,
}

impl IdsWriter {
    /// Notes the next id, whose bytes the owner writes.
    pub fn push(&mut self, id: &[u8]) {
        self.offsets.push(self.end);
        self.end += id.len() as u64;
    }

    /// What follows the blob.
    pub fn finish(mut self) -> Vec<u8> {
        self.offsets.push(self.end);
        let mut out = Vec::new();
        self.offsets.finish(&mut out);
        let len = out.len() as u64;
        out.extend_from_slice(&len.to_le_bytes());
        out
    }
}

/// Reads ids in place.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    blob: Bytes,
    offsets: Linear,
    seed: u64,
    hash: HashSeed,
    slots: Bytes,
    doc_bits: u32,
    checks: Checks,
}

impl Ids {
    pub fn open(ids: &Bytes, index: Bytes, doc_count: u32, checks: Checks, name: &str) -> Result<Ids> {
        let corrupt = || Error::corrupt(name, 0, "ids do not add up");
        let tail_at = ids.len().checked_sub(8).ok_or_else(corrupt)?;
        checks.touch(&ids[tail_at..])?;
        checks.touch(index.get(..8).unwrap_or(&[]))?;
        let offsets_len = u64::from_le_bytes(ids[tail_at..].try_into().expect("8 bytes")) as usize;
        let offsets_at = tail_at.checked_sub(offsets_len).ok_or_else(corrupt)?;
        let offsets = Linear::open(ids.slice(offsets_at..tail_at), &checks, name)?;
        let (seed, slots) = index.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let enough_slots = slots.len() / 4 > doc_count as usize || doc_count == 0;
        if offsets.len() != doc_count as usize + 1 || !enough_slots || !slots.len().is_multiple_of(4) {
            return Err(corrupt());
        }
        let seed = u64::from_le_bytes(*seed);
        let (blob, slots) = (ids.slice(..offsets_at), index.slice_ref(slots));
        Ok(Ids { blob, offsets, seed, hash: HashSeed::new(seed), slots, doc_bits: doc_bits(doc_count), checks })
    }

    /// Under which the index hashes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bytes of a document's id.
    #[inline]
    pub fn bytes(&self, doc: DocId) -> &[u8] {
        let (start, end) = (self.offsets.get(doc as usize), self.offsets.get(doc as usize + 1));
        self.blob.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// As [`bytes`](Self::bytes), of what was written.
    pub fn verified(&self, doc: DocId) -> Result<&[u8]> {
        self.offsets.touch(doc as usize, &self.checks)?;
        self.offsets.touch(doc as usize + 1, &self.checks)?;
        let bytes = self.bytes(doc);
        self.checks.touch(bytes)?;
        Ok(bytes)
    }

    /// The document with this id; the last if there are several.
    ///
    /// # Errors
    /// `Corrupt` where what is looked at is not what was written.
    pub fn lookup(&self, id: &[u8]) -> Result<Option<DocId>> {
        let slots = self.slots.as_chunks::<4>().0;
        if slots.is_empty() {
            return Ok(None);
        }
        let hash = self.hash.hash(id);
        let tag = fingerprint(hash, self.doc_bits);
        let mask = (1u32 << self.doc_bits) - 1;
        let mut slot = home(hash, slots.len());
        // Bounded by the table, should damage have filled it.
        for _ in 0..slots.len() {
            self.checks.touch(&slots[slot])?;
            let found = u32::from_le_bytes(slots[slot]);
            if found == 0 {
                return Ok(None);
            }
            if found & !mask == tag {
                let doc = (found & mask).wrapping_sub(1);
                if (doc as usize) < self.offsets.len() - 1 && self.verified(doc)? == id {
                    return Ok(Some(doc));
                }
            }
            slot = if slot + 1 == slots.len() { 0 } else { slot + 1 };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn lookup_finds_the_last_document_of_each_id(ids in proptest::collection::vec("[a-d]{1,5}", 0..300), others in proptest::collection::vec("[a-e]{1,5}", 50), seed in any::<u64>()) {
            let mut writer = IdsWriter::default();
            let mut index = IdIndexWriter::new(ids.len() as u32, seed);
            let mut blob = vec![];
            let mut model = HashMap::new();
            for (doc, id) in ids.iter().enumerate() {
                writer.push(id.as_bytes());
                blob.extend_from_slice(id.as_bytes());
                index.insert(id.as_bytes(), doc as u32, |d| ids[d as usize] == *id);
                model.insert(id.clone(), doc as u32);
            }
            blob.extend_from_slice(&writer.finish());
            let read = Ids::open(&blob.into(), index.finish().into(), ids.len() as u32, Checks::default(), "t").unwrap();
            for (doc, id) in ids.iter().enumerate() {
                prop_assert_eq!(read.bytes(doc as u32), id.as_bytes());
                prop_assert_eq!(read.lookup(id.as_bytes()).unwrap(), Some(model[id]));
            }
            for id in others {
                prop_assert_eq!(read.lookup(id.as_bytes()).unwrap(), model.get(&id).copied());
            }
        }
    }
}

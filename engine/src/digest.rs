//! What a copy holds, in one number: to compare copies with.

use crate::engine::Engine;
use crate::error::Result;
use crate::ids::SeqNo;
use crate::pace::Pace;
use crate::segment::stored::SourceCache;
use crate::store::Directory;

/// Of every live document: id, routing, sequence number, term, version and source. Two copies with the same documents have
/// the same, whatever their segments are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Live documents.
    pub documents: u64,
    /// Sum of a hash of each. Not for enemies: a check, no proof.
    pub sum: u64,
    /// Nothing above this is in it.
    pub max_seq_no: SeqNo,
}

impl<D: Directory> Engine<D> {
    /// Of what searches see now (refresh first). Reads every document.
    ///
    /// # Errors
    /// `Corrupt` when stored bytes are damaged.
    pub async fn digest<P: Pace>(&self, pace: &P) -> Result<Digest> {
        let mut digest = Digest { max_seq_no: self.state.borrow().visible_max, ..Digest::default() };
        let searcher = self.searcher();
        let (mut source, mut cache) = (Vec::new(), SourceCache::default());
        for view in searcher.segments.iter() {
            let reader = &view.reader;
            for doc in 0..reader.doc_count() {
                pace.yield_if_needed().await;
                if view.live.as_ref().is_some_and(|live| !live.is_live(doc)) {
                    continue;
                }
                source.clear();
                reader.source(doc, &mut cache, &mut source)?;
                let mut hash = fold(1, reader.id(doc).as_bytes());
                hash = fold(hash, reader.routing(doc).unwrap_or_default().as_bytes());
                for number in [reader.seq_no(doc).0 as u64, reader.primary_term(doc).0, reader.version(doc).0] {
                    hash = mix(hash ^ number);
                }
                digest.sum = digest.sum.wrapping_add(fold(hash, &source));
                digest.documents += 1;
            }
            cache = SourceCache::default();
        }
        Ok(digest)
    }
}

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash ^ bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}

/// splitmix64's.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

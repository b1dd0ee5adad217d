//! Choosing a dictionary from sampled documents.
//!
//! After Liao, Petri, Moffat and Wirth ("Effective construction of relative Lempel-Ziv dictionaries", 2016), as zstd's own
//! trainers do it: count how often each string of 8 bytes occurs; cut the samples into as many equal parts as pieces fit into
//! the dictionary; of each part take the piece whose different strings occur most often, and forget those strings. The best
//! piece comes last, where it is cheapest to refer to. zstd then adds tables of symbol frequencies.
//!
//! The same samples give the same dictionary. One pass with a fixed piece length is a twentieth of the work of zstd's search
//! for a length, and can give way to others; measured, it is no worse.

use std::sync::Arc;

use zstd::zstd_safe::zstd_sys;

use crate::error::Result;
use crate::ids::DocId;
use crate::pace::Pace;
use crate::segment::source_dictionary::SourceDictionary;

/// Bytes of content.
const CONTENT_LEN: usize = 32 << 10;
/// Bytes sampled.
const SAMPLES_LEN: usize = 1 << 20;
/// Places that samples are taken from, some documents at each.
const RUNS: u32 = 128;
const RUN_LEN: usize = SAMPLES_LEN / RUNS as usize;
/// Bytes of one piece of the content.
const PIECE_LEN: usize = 200;
const STRING_LEN: usize = 8;
/// Strings in a piece.
const PIECE_STRINGS: usize = PIECE_LEN - STRING_LEN + 1;
/// Bits of a string's place in the counts.
const COUNT_BITS: u32 = 18;
/// Strings between two questions whether to yield.
const PACE_STRINGS: usize = 1024;
/// What the tables are counted from: documents, and bytes of each.
const TABLE_SAMPLES_LEN: usize = 96 << 10;
const TABLE_SAMPLE_LEN_MAX: usize = 4 << 10;
/// For the tables; other levels do well with them.
const LEVEL: i32 = 1;
/// Room for zstd's header and tables.
const TABLES_LEN_MAX: usize = 1 << 10;

/// Documents to learn from. Memory: 1 MiB.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Samples {
    /// Where each run of documents starts, ascending.
    pub fn runs(doc_count: u32) -> impl Iterator<Item = std::ops::Range<DocId>> {
        let start = move |run: u32| (u64::from(run) * u64::from(doc_count) / u64::from(RUNS)) as DocId;
        (0..RUNS).map(move |run| start(run)..start(run + 1)).filter(|run| !run.is_empty())
    }

    /// Adds the first documents of a run; `source` appends that of each.
    pub fn add_run(
        &mut self,
        run: std::ops::Range<DocId>,
        mut source: impl FnMut(DocId, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let end = self.bytes.len() + RUN_LEN;
        for doc in run {
            source(doc, &mut self.bytes)?;
            self.bytes.truncate(end);
            self.ends.push(self.bytes.len());
            if self.bytes.len() == end {
                break;
            }
        }
        Ok(())
    }

    fn documents(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// A dictionary for `source_len` bytes of sources like these; the best of the known ones if the samples do not give one.
    pub async fn dictionary<P: Pace>(
        &self,
        source_len: u64,
        known: &[Arc<SourceDictionary>],
        pace: &P,
    ) -> Option<Arc<SourceDictionary>> {
        let trained = self.train(pace).await.map(|content| Arc::new(SourceDictionary::new(source_len, content)));
        trained.or_else(|| SourceDictionary::best(known.iter()).cloned())
    }

    /// The content of one; none if the samples do not give it, or the pace says stop.
    pub async fn train<P: Pace>(&self, pace: &P) -> Option<Vec<u8>> {
        let content = self.content(pace).await?;
        let step = (self.bytes.len() / TABLE_SAMPLES_LEN).max(1);
        let chosen = self.documents().step_by(step).map(|d| &d[..d.len().min(TABLE_SAMPLE_LEN_MAX)]);
        let (mut bytes, mut sizes) = (Vec::new(), Vec::new());
        for document in chosen.filter(|d| !d.is_empty()) {
            if bytes.len() + document.len() <= TABLE_SAMPLES_LEN * 2 {
                bytes.extend_from_slice(document);
                sizes.push(document.len());
            }
        }
        with_tables(&content, &bytes, &sizes)
    }

    async fn content<P: Pace>(&self, pace: &P) -> Option<Vec<u8>> {
        let strings = self.bytes.len().checked_sub(STRING_LEN - 1)?;
        let parts = CONTENT_LEN / PIECE_LEN;
        let part_len = strings / parts;
        if part_len < PIECE_STRINGS {
            return None;
        }
        let place = |at: usize| {
            let string = u64::from_le_bytes(self.bytes[at..at + STRING_LEN].try_into().expect("8 bytes"));
            (string.wrapping_mul(0xcf1b_bcdc_b7a5_6463) >> (64 - COUNT_BITS)) as usize
        };
        let mut counts = vec![0u32; 1 << COUNT_BITS];
        for at in 0..strings {
            counts[place(at)] += 1;
            if at.is_multiple_of(PACE_STRINGS) {
                pace.yield_if_needed().await;
                if pace.stopped() {
                    return None;
                }
            }
        }
        // How often each string is in the piece looked at.
        let mut within = vec![0u8; 1 << COUNT_BITS];
        let mut pieces = Vec::with_capacity(parts);
        for part in 0..parts {
            let (start, end) = (part * part_len, (part + 1) * part_len);
            let (mut score, mut best, mut best_at) = (0u64, 0u64, start);
            for at in start..end {
                let new = place(at);
                if within[new] == 0 {
                    score += u64::from(counts[new]);
                }
                within[new] += 1;
                if at - start >= PIECE_STRINGS {
                    let old = place(at - PIECE_STRINGS);
                    within[old] -= 1;
                    if within[old] == 0 {
                        score -= u64::from(counts[old]);
                    }
                }
                if score > best {
                    (best, best_at) = (score, (at + 1).saturating_sub(PIECE_STRINGS).max(start));
                }
            }
            (end - PIECE_STRINGS..end).for_each(|at| within[place(at)] = 0);
            (best_at..(best_at + PIECE_STRINGS).min(strings)).for_each(|at| counts[place(at)] = 0);
            pieces.push((best, best_at));
            pace.yield_if_needed().await;
            if pace.stopped() {
                return None;
            }
        }
        pieces.sort_unstable();
        let mut content = Vec::with_capacity(CONTENT_LEN);
        for (_, at) in pieces.into_iter().filter(|p| p.0 > 0) {
            content.extend_from_slice(&self.bytes[at..(at + PIECE_LEN).min(self.bytes.len())]);
        }
        Some(content)
    }
}

/// The content behind zstd's header and the tables that fit the samples, which lie back to back.
fn with_tables(content: &[u8], samples: &[u8], sizes: &[usize]) -> Option<Vec<u8>> {
    assert_eq!(sizes.iter().sum::<usize>(), samples.len());
    let mut out = vec![0u8; content.len() + TABLES_LEN_MAX];
    let parameters = zstd_sys::ZDICT_params_t { compressionLevel: LEVEL, notificationLevel: 0, dictID: 1 };
    // SAFETY: each pointer is that of a slice that outlives the call, with the slice's length beside it, and the sizes add up
    // to the length of the samples. The call writes to `out` alone, keeps no pointer, and says how many bytes it wrote.
    let written = unsafe {
        zstd_sys::ZDICT_finalizeDictionary(
            out.as_mut_ptr().cast(),
            out.len(),
            content.as_ptr().cast(),
            content.len(),
            samples.as_ptr().cast(),
            sizes.as_ptr(),
            u32::try_from(sizes.len()).ok()?,
            parameters,
        )
    };
    // SAFETY: looks at a number.
    let failed = unsafe { zstd_sys::ZDICT_isError(written) } != 0;
    if failed || written < 8 {
        return None;
    }
    out.truncate(written);
    // No id: frames would repeat it.
    out[4..8].fill(0);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Unpaced;
    use crate::segment::model::Random;
    use futures_lite::future::block_on;
    use zstd::zstd_safe::{CCtx, DCtx};

    fn documents(count: u64, seed: u64) -> Vec<Vec<u8>> {
        let mut r = Random(seed);
        let mut word = || format!("w{}", r.below(300) * r.below(40));
        (0..count)
            .map(|n| {
                let words: Vec<String> = (0..20).map(|_| word()).collect();
                format!("{{\"number\": {n}, \"a name that comes every time\": \"{}\"}}", words.join(" ")).into_bytes()
            })
            .collect()
    }

    fn train(documents: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut samples = Samples::default();
        for run in Samples::runs(documents.len() as u32) {
            let add = |doc, out: &mut Vec<u8>| {
                out.extend_from_slice(&documents[doc as usize]);
                Ok(())
            };
            samples.add_run(run, add).unwrap();
        }
        assert!(samples.bytes.len() <= SAMPLES_LEN);
        block_on(samples.train(&Unpaced))
    }

    #[test]
    fn dictionary_takes_a_third_off_small_documents_and_is_the_same_each_time() {
        let content = train(&documents(8000, 1)).unwrap();
        assert_eq!(content, train(&documents(8000, 1)).unwrap());
        assert!((CONTENT_LEN / 2..CONTENT_LEN + TABLES_LEN_MAX).contains(&content.len()), "{}", content.len());
        let dictionary = SourceDictionary::new(1, content);
        let (mut plain, mut small, mut bytes, mut back) = (0, 0, Vec::with_capacity(1000), Vec::with_capacity(1000));
        for document in documents(100, 2) {
            plain += CCtx::create().compress(&mut bytes, &document, 1).unwrap();
            let encoder = dictionary.encoder(crate::segment::Codec::Default, 1).unwrap();
            small += CCtx::create().compress_using_cdict(&mut bytes, &document, encoder).unwrap();
            DCtx::create().decompress_using_ddict(&mut back, &bytes, dictionary.decoder().unwrap()).unwrap();
            assert_eq!(back, document);
        }
        assert!(small * 3 < plain * 2, "{small} {plain}");
    }

    #[test]
    fn samples_that_teach_nothing_give_no_dictionary_or_one_that_works() {
        assert_eq!(train(&[]), None);
        assert_eq!(train(&documents(10, 1)), None);
        let mut r = Random(5);
        let noise: Vec<u8> = (0..40_000).map(|_| r.below(256) as u8).collect();
        for odd in
            [vec![Vec::new(); 5000], vec![b"{}".to_vec(); 50_000], vec![noise; 200], vec![vec![b'x'; 2_000_000]; 2]]
        {
            if let Some(content) = train(&odd) {
                assert!(SourceDictionary::new(1, content).decoder().is_some());
            }
        }
    }
}

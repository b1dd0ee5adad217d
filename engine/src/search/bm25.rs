//! BM25 with Lucene 8's arithmetic and Elasticsearch 7's factor: scores equal theirs to the last bit in most cases.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::segment::bounds::{B, K1};
/// The field length that a norm byte stands for (the reverse of Lucene's `SmallFloat.intToByte4`).
pub use crate::segment::norms::norm_decode as decode_length;

/// A field's statistics over all live documents of a searcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldStats {
    /// Documents with the field.
    pub doc_count: u64,
    /// Occurrences of all its terms.
    pub sum_total_term_freq: u64,
}

impl FieldStats {
    /// Average field length.
    #[must_use]
    pub fn average_length(&self) -> f32 {
        (self.sum_total_term_freq as f64 / self.doc_count.max(1) as f64) as f32
    }
}

/// `k1 * (1 - b + b * length / average)` for every norm byte of a field.
#[derive(Clone, Debug)]
pub struct NormTable(pub [f32; 256]);

impl NormTable {
    /// The table for a field with this average length.
    #[must_use]
    pub fn new(average_length: f32) -> NormTable {
        NormTable(std::array::from_fn(|i| K1 * ((1.0 - B) + B * decode_length(i as u8) as f32 / average_length)))
    }
}

/// How much a term that `doc_freq` of `doc_count` documents have tells.
#[must_use]
pub fn idf(doc_freq: u64, doc_count: u64) -> f32 {
    (1.0 + (doc_count as f64 - doc_freq as f64 + 0.5) / (doc_freq as f64 + 0.5)).ln() as f32
}

/// Scores occurrences of one term or phrase.
#[derive(Clone, Debug)]
pub struct Bm25 {
    /// boost * 2.2 * idf.
    pub weight: f32,
    /// The query's boost, without the factor.
    pub boost: f32,
    /// Sum of the terms' idf.
    pub idf: f32,
    /// (documents with the term, documents with the field) for each term: for explanations.
    pub terms: Vec<(u64, u64)>,
    /// Average field length.
    pub average_length: f32,
    /// Per norm byte.
    pub norms: Arc<NormTable>,
}

impl Bm25 {
    /// Scorer for terms with these document frequencies in a field with these statistics.
    #[must_use]
    pub fn new(boost: f32, stats: FieldStats, doc_freqs: &[u64], norms: Arc<NormTable>) -> Bm25 {
        let sum: f64 = doc_freqs.iter().map(|&df| f64::from(idf(df, stats.doc_count))).sum();
        let idf = sum as f32;
        Bm25 {
            weight: boost * (1.0 + K1) * idf,
            boost,
            idf,
            terms: doc_freqs.iter().map(|&df| (df, stats.doc_count)).collect(),
            average_length: stats.average_length(),
            norms,
        }
    }

    /// Score of `freq` occurrences in a field of this length.
    #[inline]
    #[must_use]
    pub fn score(&self, freq: f32, norm: u8) -> f32 {
        score(self.weight, freq, self.norms.0[norm as usize])
    }
}

/// Monotonic in `freq` and in `norm`, which is what bounds rest on.
#[inline]
#[must_use]
pub fn score(weight: f32, freq: f32, norm: f32) -> f32 {
    let freq = f64::from(freq);
    weight * (freq / (freq + f64::from(norm))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_decode_as_lucene_does() {
        assert_eq!(decode_length(0), 0);
        assert_eq!(decode_length(39), 39);
        assert_eq!(decode_length(40), 40);
        assert_eq!(decode_length(41), 42);
        assert_eq!(decode_length(48), 56);
        assert_eq!(decode_length(255), 2_013_265_944);
        assert!((1..=255u8).all(|b| decode_length(b) > decode_length(b - 1)));
    }

    #[test]
    fn one_document_with_the_term_scores_as_in_elasticsearch() {
        let stats = FieldStats { doc_count: 1, sum_total_term_freq: 1 };
        let bm25 = Bm25::new(1.0, stats, &[1], Arc::new(NormTable::new(stats.average_length())));
        assert_eq!(bm25.score(1.0, 1).to_string(), "0.2876821");
    }

    #[test]
    fn score_never_falls_with_frequency_and_never_rises_with_length() {
        let table = NormTable::new(17.3);
        for norm in 0..255usize {
            for freq in 1..60 {
                let s = score(3.7, freq as f32, table.0[norm]);
                assert!(score(3.7, (freq + 1) as f32, table.0[norm]) >= s);
                assert!(score(3.7, freq as f32, table.0[norm + 1]) <= s);
            }
        }
    }
}

//! Statistics over more than one shard, so that all of them score alike (`dfs_query_then_fetch`).
//!
//! Each shard compiles the query and notes what it looked up; the sum goes along with the search to all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::Query;
use crate::search::bm25::FieldStats;
use crate::search::compile::Compiler;
use crate::search::{IndexContext, Searcher};

/// What scoring asks about the fields and terms of one query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    fields: BTreeMap<String, FieldTerms>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FieldTerms {
    stats: FieldStats,
    doc_freqs: Vec<(Vec<u8>, u64)>,
}

impl Statistics {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Statistics) {
        for (field, theirs) in &other.fields {
            let ours = self.fields.entry(field.clone()).or_default();
            ours.stats.doc_count += theirs.stats.doc_count;
            ours.stats.sum_total_term_freq += theirs.stats.sum_total_term_freq;
            for (term, doc_freq) in &theirs.doc_freqs {
                match ours.doc_freqs.binary_search_by(|(known, _)| known.cmp(term)) {
                    Ok(at) => ours.doc_freqs[at].1 += doc_freq,
                    Err(at) => ours.doc_freqs.insert(at, (term.clone(), *doc_freq)),
                }
            }
        }
    }

    /// A field's, if the query asked about it.
    #[must_use]
    pub fn field(&self, field: &str) -> Option<FieldStats> {
        self.fields.get(field).map(|f| f.stats)
    }

    /// Documents with the term, if the query asked about it.
    #[must_use]
    pub fn doc_freq(&self, field: &str, term: &[u8]) -> Option<u64> {
        let known = &self.fields.get(field)?.doc_freqs;
        known.binary_search_by(|(t, _)| t.as_slice().cmp(term)).ok().map(|at| known[at].1)
    }

    pub(crate) fn note(&mut self, field: &str, stats: FieldStats, term: &[u8], doc_freq: u64) {
        let terms = self.fields.entry(field.to_owned()).or_default();
        terms.stats = stats;
        match terms.doc_freqs.binary_search_by(|(known, _)| known.as_slice().cmp(term)) {
            // A query is compiled once more when something was still to be counted.
            Ok(at) => terms.doc_freqs[at].1 = doc_freq,
            Err(at) => terms.doc_freqs.insert(at, (term.to_vec(), doc_freq)),
        }
    }
}

/// This shard's part for a query.
///
/// # Errors
/// As a search with it.
pub async fn statistics<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    query: &Query,
    now_ms: i64,
    pace: &P,
) -> Result<Statistics> {
    let noted = RefCell::default();
    Compiler::new(mapping, index, searcher, now_ms, None, Some(&noted)).compile_query(query, true, pace).await?;
    Ok(noted.into_inner())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pace::Unpaced;
    use crate::query::{MatchKind, MultiMatchKind, QueryKind, TextOptions, Value as Text};
    use crate::search::SearchRequest;
    use crate::search::tests::{Shard, request};

    #[test]
    fn two_shards_score_as_one_that_has_all() {
        let mapping = json!({"properties": {"t": {"type": "text"}, "u": {"type": "text"}, "k": {"type": "keyword"}}});
        let words = ["red", "green", "blue", "red green", "red red blue", "green grey", "blue blue", "dark red"];
        let docs: Vec<Value> =
            (0..40).map(|i| json!({"t": words[i * 3 % 8], "u": words[i % 5], "k": words[i % 3]})).collect();
        // Not by halves: one shard lacks terms that the other has.
        let (some, others): (Vec<Value>, Vec<Value>) = docs.iter().cloned().partition(|d| d["t"] == "red");
        let all = Shard::new(&mapping, &[docs], &[]);
        let parts = [Shard::new(&mapping, &[some], &[]), Shard::new(&mapping, &[others], &[])];
        let matched = |field: &str, text: &str, kind, options| QueryKind::Match {
            field: field.to_owned(),
            text: Text::String(text.to_owned()),
            kind,
            options,
        };
        let plain = TextOptions::default;
        let queries = [
            matched("t", "red green dark", MatchKind::Terms, plain()),
            matched("t", "red green", MatchKind::Phrase, plain()),
            matched("k", "red", MatchKind::Terms, plain()),
            QueryKind::Bool {
                must: vec![matched("u", "blue", MatchKind::Terms, plain()).into()],
                filter: Vec::new(),
                should: vec![matched("t", "grey red", MatchKind::Terms, plain()).into()],
                must_not: Vec::new(),
                minimum_should_match: None,
            },
            QueryKind::MultiMatch {
                fields: vec![("t".to_owned(), 1.0), ("u".to_owned(), 2.0)],
                text: Text::String("red blue".to_owned()),
                kind: MultiMatchKind::CrossFields,
                options: plain(),
                tie_breaker: None,
            },
        ];
        for kind in queries {
            let query = Query::from(kind);
            let mut sum = Statistics::default();
            for part in &parts {
                sum.add(
                    &futures_lite::future::block_on(statistics(
                        &part.searcher,
                        &part.mapping,
                        &part.index,
                        &query,
                        0,
                        &Unpaced,
                    ))
                    .unwrap(),
                );
            }
            let scores = |shard: &Shard, statistics| {
                let result = shard.search(&SearchRequest { statistics, ..request(query.clone(), 100) }).unwrap();
                result.hits.iter().map(|h| h.score).collect::<Vec<f32>>()
            };
            let mut merged: Vec<f32> = parts.iter().flat_map(|p| scores(p, Some(sum.clone()))).collect();
            merged.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(merged, scores(&all, None), "{query:?}");
            let own: Vec<f32> = parts.iter().flat_map(|p| scores(p, None)).collect();
            assert_ne!(own, merged, "{query:?}: the shards' own statistics would do as well");
        }
    }

    #[test]
    fn shards_add_up() {
        let stats = |doc_count| FieldStats { doc_count, sum_total_term_freq: 10 * doc_count };
        let mut all = Statistics::default();
        all.note("text", stats(3), b"b", 2);
        all.note("text", stats(3), b"b", 2);
        let mut other = Statistics::default();
        other.note("text", stats(5), b"a", 1);
        other.note("text", stats(5), b"b", 4);
        other.note("title", stats(1), b"b", 1);
        all.add(&other);
        assert_eq!(all.field("text"), Some(stats(8)));
        assert_eq!(all.field("title"), Some(stats(1)));
        assert_eq!(all.field("other"), None);
        assert_eq!(all.doc_freq("text", b"a"), Some(1));
        assert_eq!(all.doc_freq("text", b"b"), Some(6));
        assert_eq!(all.doc_freq("text", b"c"), None);
    }
}

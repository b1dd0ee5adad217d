//! Search over an immutable set of segments: requests, results, and the modules that turn one into the other.

pub mod aggs;
pub mod automaton;
pub mod bm25;
mod bulk;
mod collect;
mod compile;
mod compile_text;
mod conjunction;
#[cfg(test)]
mod copies;
mod cursor;
pub mod describe;
pub(crate) mod determinized;
pub mod doc_set;
mod exact_phrase;
pub mod execute;
mod expand;
pub mod explain;
mod feed;
pub mod fetch;
pub mod filter;
pub mod filter_cache;
mod filter_key;
mod leaf;
pub mod live_counts;
mod lower;
pub mod min_should_match;
mod open;
mod phrase;
pub mod query_string;
pub mod regexp;
mod rescore;
pub mod simple_query_string;
mod sink;
mod sort;
pub mod source_filter;
pub mod statistics;
mod synonym;
#[cfg(test)]
pub(crate) mod tests;
mod weight;

pub use execute::{count, query};
pub use explain::{Explanation, explain};
pub use fetch::fetch;
pub use filter::{Filter, compile_filter};
pub use filter_cache::{FilterCache, FilterCacheStats};
pub use live_counts::LiveCounts;

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::analysis::AnalyzerRegistry;
use crate::budget::Pool;
use crate::ids::{DocId, PrimaryTerm, SeqNo, Version};
use crate::query::{Query, Value};
use crate::seed::HashSeed;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;

/// One segment as a searcher sees it.
#[derive(Clone)]
pub struct SegmentView {
    /// The immutable part.
    pub reader: Arc<SegmentReader>,
    /// Its deletes, if any, at the time of the refresh.
    pub live: Option<Arc<LiveDocs>>,
}

/// An immutable point in time of a shard. Cheap to clone; keeps its segments' files alive.
#[derive(Clone, Default)]
pub struct Searcher {
    /// In order of creation.
    pub segments: Arc<Vec<SegmentView>>,
}

impl Searcher {
    /// The live document with this `_id`.
    ///
    /// # Errors
    /// `Corrupt` when the stored bytes are damaged.
    pub fn find_id(&self, id: &str) -> crate::error::Result<Option<DocAddress>> {
        for (segment, view) in self.segments.iter().enumerate().rev() {
            if let Some(doc) = view.reader.lookup_id(id.as_bytes())?
                && view.live.as_ref().is_none_or(|live| live.is_live(doc))
            {
                return Ok(Some(DocAddress { segment: segment as u32, doc }));
            }
        }
        Ok(None)
    }
}

/// A document of a searcher: segment position and document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocAddress {
    /// Index into `Searcher::segments`.
    pub segment: u32,
    /// Document in it.
    pub doc: DocId,
}

/// What a search needs to know of its index beside the mapping.
#[derive(Clone, Debug)]
pub struct IndexContext {
    /// What `_index` matches and errors name.
    pub index: String,
    /// For queries that name an analyzer.
    pub analyzers: Arc<AnalyzerRegistry>,
    /// `index.query.default_field`; `*` = all text and keyword fields.
    pub default_fields: Vec<String>,
    /// Clauses a query may have (1024).
    pub max_clause_count: usize,
    /// `index.max_terms_count` (65,536).
    pub max_terms_count: usize,
    /// `index.max_regex_length` (1,000).
    pub max_regex_length: usize,
    /// Where aggregations take their memory from.
    pub memory: Arc<Pool>,
    /// Under which the buckets of aggregations hash; see `seed`.
    pub hash_seed: HashSeed,
    /// Documents of filters that were used before; none = every search finds them anew.
    pub filter_cache: Option<Rc<FilterCache>>,
    /// What deleted documents hold of terms that were scored before; none = every search counts anew.
    pub live_counts: Option<Rc<LiveCounts>>,
}

impl Default for IndexContext {
    fn default() -> IndexContext {
        IndexContext {
            index: String::new(),
            analyzers: Arc::default(),
            default_fields: vec!["*".to_owned()],
            max_clause_count: 1024,
            max_terms_count: 65_536,
            max_regex_length: 1000,
            memory: Pool::new("request", 256 << 20),
            // For tests and benches: whoever faces clients has one of its own.
            hash_seed: HashSeed::new(0),
            filter_cache: None,
            live_counts: None,
        }
    }
}

/// How many hits to count exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrackTotalHits {
    /// All.
    All,
    /// Up to this many; then "gte" (10,000 by default).
    Limit(u64),
    /// None: no total in the answer.
    None,
}

/// One sort key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SortKey {
    /// What to sort by.
    pub by: SortBy,
    /// Descending.
    pub descending: bool,
}

/// What to sort by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SortBy {
    /// `_score`
    Score,
    /// `_doc`: index order
    Doc,
    /// A field's column.
    Field {
        /// Path.
        field: String,
        /// Which of several values: min, max, sum, avg, median; none = min ascending, max descending.
        mode: Option<SortMode>,
        /// Where documents without a value go.
        missing: Missing,
        /// Type to assume where the field is not mapped; without it that is an error.
        unmapped_type: Option<String>,
        /// Format of date values in the answer.
        format: Option<String>,
    },
}

/// Which of several values counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SortMode {
    Min,
    Max,
    Sum,
    Avg,
    Median,
}

/// Where documents without a value go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Missing {
    /// `_last` (default)
    Last,
    /// `_first`
    First,
    /// As if they had this.
    Value(Value),
}

/// A value that a hit was sorted by, comparable across shards (numbers by value, strings by bytes) and shown to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SortValue {
    /// No value.
    Null,
    /// Integers, dates (ms), booleans (0/1).
    Int(i64),
    /// unsigned_long.
    UInt(u64),
    /// Floats, scores.
    Float(f64),
    /// Keywords, ips as text; dates when a format was asked for.
    String(String),
}

/// The query phase: which documents, in which order, how many, and what about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    /// What matches; none = all.
    pub query: Option<Query>,
    /// Applied to hits, not to aggregations.
    pub post_filter: Option<Query>,
    /// Hits wanted from this shard: from + size.
    pub top: usize,
    /// Empty = by score.
    pub sort: Vec<SortKey>,
    /// Sort values of the last hit of the page before; then `top` is the page size.
    pub search_after: Option<Vec<SortValue>>,
    /// Exact count wanted.
    pub track_total_hits: TrackTotalHits,
    /// Compute scores although sorting by fields.
    pub track_scores: bool,
    /// Queries that change the scores of the best hits, one after the other.
    pub rescore: Vec<Rescore>,
    /// Drop hits scoring less.
    pub min_score: Option<f32>,
    /// Stop after this many matching documents.
    pub terminate_after: Option<u64>,
    /// Aggregations.
    pub aggs: Vec<aggs::AggRequest>,
    /// Milliseconds since 1970 that `now` in date math means; the same for all shards of a request.
    pub now_ms: i64,
    /// Statistics of all shards to score by; none = the shard's own.
    pub statistics: Option<statistics::Statistics>,
}

/// A query that changes the scores of the best hits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rescore {
    /// How many of the best hits of each shard (10).
    pub window_size: usize,
    /// What is scored.
    pub query: Query,
    /// Factor of the score so far.
    pub query_weight: f32,
    /// Factor of the new score.
    pub rescore_query_weight: f32,
    /// How the two become one, where both are there.
    pub mode: RescoreMode,
}

/// How two scores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RescoreMode {
    Avg,
    Max,
    Min,
    Total,
    Multiply,
}

/// A hit of the query phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopHit {
    /// Where it is, in the searcher that answered.
    pub doc: DocAddress,
    /// Score; NaN when none was computed.
    pub score: f32,
    /// One per sort key; empty when sorted by score alone.
    pub sort: Vec<SortValue>,
}

/// What a shard answers to the query phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryResult {
    /// Best first; at most `top`.
    pub hits: Vec<TopHit>,
    /// Matching documents counted.
    pub total: u64,
    /// Whether `total` is exact (else a lower bound).
    pub total_exact: bool,
    /// Best score seen; none when no scores or no hits.
    pub max_score: Option<f32>,
    /// The deadline passed; the rest is what was found until then.
    pub timed_out: bool,
    /// `terminate_after` took effect.
    pub terminated_early: bool,
    /// Partial aggregations, one per requested one, in order.
    pub aggs: Vec<aggs::AggPartial>,
}

/// Which parts of `_source` to give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceFilter {
    /// Give no source at all.
    pub disabled: bool,
    /// Paths with `*` to keep; empty = all.
    pub includes: Vec<String>,
    /// Paths with `*` to drop.
    pub excludes: Vec<String>,
}

/// A field asked for in `docvalue_fields` or `fields`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldRequest {
    /// Path or pattern.
    pub field: String,
    /// Date format and the like.
    pub format: Option<String>,
}

/// The fetch phase: what to give of each hit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// `_source`.
    pub source: SourceFilter,
    /// From columns.
    pub docvalue_fields: Vec<FieldRequest>,
    /// From `_source`, formatted by the mapping.
    pub fields: Vec<FieldRequest>,
    /// Fields that the mapping stores; may have patterns.
    pub stored_fields: Vec<String>,
    /// `version: true`.
    pub version: bool,
    /// `seq_no_primary_term: true`.
    pub seq_no_primary_term: bool,
    /// `explain: true`.
    pub explain: bool,
    /// The query, for explain and matched_queries.
    pub query: Option<Query>,
}

/// What the fetch phase gives of a hit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchedHit {
    /// `_id`.
    pub id: String,
    /// `_routing`.
    pub routing: Option<String>,
    /// Filtered `_source` (JSON bytes); none when disabled.
    pub source: Option<Vec<u8>>,
    /// `_version`.
    pub version: Option<Version>,
    /// `_seq_no` and `_primary_term`.
    pub seq_no: Option<(SeqNo, PrimaryTerm)>,
    /// `fields`: path to array of values.
    pub fields: Option<serde_json::Map<String, serde_json::Value>>,
    /// `_explanation`.
    pub explanation: Option<serde_json::Value>,
    /// Names of the named queries it matched.
    pub matched_queries: Vec<String>,
    /// `_ignored`.
    pub ignored: Vec<String>,
}

/// Fuzzing: a text, and after a zero byte a term. Every grammar reads the text; patterns that compile run over the term.
pub fn fuzz_query_text(data: &[u8]) {
    let mut parts = data.splitn(2, |&b| b == 0);
    let (text, term) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    for and in [false, true] {
        let _ = query_string::parse(text, and);
        let _ = simple_query_string::parse(text, and, simple_query_string::flags::ALL);
    }
    let _ = min_should_match::minimum_should_match(text, 7);
    for case_insensitive in [false, true] {
        if let Ok(regexp) = regexp::Regexp::new(text, case_insensitive, 1000) {
            automaton::accepts(&regexp, term);
        }
        automaton::accepts(&automaton::Wildcard::new(text, case_insensitive), term);
    }
    let fuzzy = automaton::Fuzzy::new(text, 2, 1, true);
    assert_eq!(fuzzy.distance(term).is_some(), automaton::accepts(&fuzzy, term));
}

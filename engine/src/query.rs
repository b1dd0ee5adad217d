//! The typed query tree, as the DSL gives it. `search` compiles it against a mapping and a searcher.
//!
//! Values stay as the client wrote them ([`Value`]); the mapping encodes them when the query is compiled, so that
//! errors name the field and its type.

use serde::{Deserialize, Serialize};

/// A JSON scalar in a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// true, false
    Bool(bool),
    /// Fits 64 bits signed.
    Int(i64),
    /// Above `i64::MAX`.
    UInt(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
}

/// A query and what every query can carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// What matches.
    pub kind: QueryKind,
    /// Multiplies the score.
    pub boost: f32,
    /// `_name`: reported in `matched_queries`.
    pub name: Option<String>,
}

impl From<QueryKind> for Query {
    fn from(kind: QueryKind) -> Query {
        Query { kind, boost: 1.0, name: None }
    }
}

/// `and` or `or`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Any term.
    #[default]
    Or,
    /// Every term.
    And,
}

/// How far a fuzzy term may be from the indexed one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fuzziness {
    /// Edits: none = AUTO (`auto_low`, `auto_high`).
    pub edits: Option<u8>,
    /// AUTO: below this length exact.
    pub auto_low: u32,
    /// AUTO: from this length two edits.
    pub auto_high: u32,
    /// Leading characters that must be equal.
    pub prefix_length: u32,
    /// Terms tried at most (50).
    pub max_expansions: u32,
    /// Whether a swap of neighbours is one edit.
    pub transpositions: bool,
}

/// What analysis of a full-text query may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextOptions {
    /// Overrides the field's search analyzer.
    pub analyzer: Option<String>,
    /// How terms combine.
    pub operator: Operator,
    /// `minimum_should_match`, as written.
    pub minimum_should_match: Option<String>,
    /// Fuzzy terms.
    pub fuzziness: Option<Fuzziness>,
    /// Phrase slop.
    pub slop: u32,
    /// Terms a trailing prefix may become (50).
    pub max_expansions: Option<u32>,
    /// Text without terms matches all documents, not none.
    pub zero_terms_all: bool,
    /// Type errors match nothing and are not reported.
    pub lenient: bool,
}

/// The kinds of `match` text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchKind {
    /// `match`
    #[default]
    Terms,
    /// `match_phrase`
    Phrase,
    /// `match_phrase_prefix`
    PhrasePrefix,
    /// `match_bool_prefix`
    BoolPrefix,
}

/// `multi_match` types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MultiMatchKind {
    /// dis_max over fields.
    #[default]
    BestFields,
    /// bool should over fields.
    MostFields,
    /// Term-centric: fields as one.
    CrossFields,
    /// best_fields with phrases.
    Phrase,
    /// best_fields with phrase prefixes.
    PhrasePrefix,
    /// best_fields with bool prefixes.
    BoolPrefix,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// As the client wrote it (date math included).
    pub value: Value,
    /// gte/lte against gt/lt.
    pub inclusive: bool,
}

/// What matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are the DSL's
pub enum QueryKind {
    MatchAll,
    MatchNone,
    Match {
        field: String,
        text: Value,
        kind: MatchKind,
        options: TextOptions,
    },
    /// `fields` may have patterns; empty = `index.query.default_field` = all text and keyword fields. Second: boost.
    MultiMatch {
        fields: Vec<(String, f32)>,
        text: Value,
        kind: MultiMatchKind,
        options: TextOptions,
        tie_breaker: Option<f32>,
    },
    Term {
        field: String,
        value: Value,
        case_insensitive: bool,
    },
    Terms {
        field: String,
        values: Vec<Value>,
    },
    /// One of `max` parts of the documents: by the hash of `_id`, or of a field's value.
    Slice {
        field: String,
        id: u32,
        max: u32,
    },
    Range {
        field: String,
        lower: Option<Bound>,
        upper: Option<Bound>,
        format: Option<String>,
        time_zone: Option<String>,
    },
    Exists {
        field: String,
    },
    Ids {
        values: Vec<String>,
    },
    Prefix {
        field: String,
        value: String,
        case_insensitive: bool,
    },
    Wildcard {
        field: String,
        value: String,
        case_insensitive: bool,
    },
    Regexp {
        field: String,
        value: String,
        case_insensitive: bool,
        max_determinized_states: u32,
    },
    Fuzzy {
        field: String,
        value: Value,
        fuzziness: Fuzziness,
    },
    Bool {
        must: Vec<Query>,
        filter: Vec<Query>,
        should: Vec<Query>,
        must_not: Vec<Query>,
        minimum_should_match: Option<String>,
    },
    ConstantScore {
        filter: Box<Query>,
    },
    DisMax {
        queries: Vec<Query>,
        tie_breaker: f32,
    },
    Boosting {
        positive: Box<Query>,
        negative: Box<Query>,
        negative_boost: f32,
    },
    QueryString(QueryString),
    SimpleQueryString {
        query: String,
        fields: Vec<(String, f32)>,
        options: TextOptions,
        flags: u32,
        analyze_wildcard: bool,
    },
}

/// `query_string` and `q=`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryString {
    /// The text in Lucene's query grammar.
    pub query: String,
    /// Fields with boosts; empty = `default_field` or all.
    pub fields: Vec<(String, f32)>,
    /// `default_field` / `df`.
    pub default_field: Option<String>,
    /// Analysis options; `operator` is `default_operator`.
    pub options: TextOptions,
    /// Whether `*abc` is allowed (true).
    pub allow_leading_wildcard: bool,
    /// Analyze wildcard terms.
    pub analyze_wildcard: bool,
    /// How fields combine.
    pub kind: MultiMatchKind,
    /// Tie breaker of best_fields.
    pub tie_breaker: Option<f32>,
    /// Slop of quoted phrases without their own.
    pub phrase_slop: u32,
}

//! Query tree + mapping + statistics of all segments = [`Weight`].

use std::cell::{Cell, RefCell};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::mapping::encode::{Encoded, RangeBounds};
use crate::mapping::{FieldMapping, FieldType, Mapping};
use crate::pace::Pace;
use crate::query::{Query, QueryKind, Value};
use crate::search::automaton::Wildcard;
use crate::search::bm25::{Bm25, FieldStats, NormTable};
use crate::search::expand::{Expansions, Expression, Near, Word};
use crate::search::filter_cache::QueryFilters;
use crate::search::filter_key::FilterKey;
use crate::search::live_counts::{Asked, Deleted};
use crate::search::min_should_match::minimum_should_match;
use crate::search::regexp::Regexp;
use crate::search::statistics::Statistics;
use crate::search::weight::{BoolWeight, KeptWeight, Leaf, LeafWeight, Pattern, TermWeight, Weight};
use crate::search::{IndexContext, Searcher};
use crate::segment::TermsOption;
use crate::segment::reader::TermInfo;

/// Queries inside one another.
const DEPTH_MAX: usize = 200;

/// A query compiled for a searcher.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub weight: Weight,
    /// Leaves to evaluate on each segment.
    pub slots: usize,
    /// Those that may be cached.
    pub filters: Option<QueryFilters>,
}

/// What compiling needs; one per query.
pub(crate) struct Compiler<'a> {
    pub mapping: &'a Mapping,
    pub index: &'a IndexContext,
    pub searcher: &'a Searcher,
    pub now_ms: i64,
    /// Statistics of all shards to score by, if known.
    global: Option<&'a Statistics>,
    /// Takes down what is looked up.
    noted: Option<&'a RefCell<Statistics>>,
    stats: RefCell<FxHashMap<String, (FieldStats, Arc<NormTable>)>>,
    /// Whether any document is deleted; with the number that the searcher has where counts are kept.
    deletes: Option<u64>,
    slots: Cell<usize>,
    /// By slot; only with a cache.
    filters: RefCell<Vec<Option<FilterKey>>>,
    /// Whether clauses that only filter are looked up in the cache as a whole, too.
    keeping: Cell<bool>,
    depth: Cell<usize>,
    /// What takes long is made beside compiling, not in it.
    expansions: Option<Expansions>,
}

/// Compiles a query. `scores` tells whether scores will be asked for.
///
/// # Errors
/// `query_shard_exception` and its like, in Elasticsearch's words.
pub(crate) async fn compile<P: Pace>(
    query: &Query,
    mapping: &Mapping,
    index: &IndexContext,
    searcher: &Searcher,
    now_ms: i64,
    scores: bool,
    pace: &P,
) -> Result<Compiled> {
    Compiler::new(mapping, index, searcher, now_ms, None, None).compile_query(query, scores, pace).await
}

/// A value as the text that a term or an error shows.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::UInt(u) => u.to_string(),
        Value::Float(f) => serde_json::Number::from_f64(*f).map_or_else(|| f.to_string(), |n| n.to_string()),
        Value::String(s) => s.clone(),
    }
}

/// Whether the field's terms are strings.
pub(crate) fn is_string(field: &FieldMapping) -> bool {
    matches!(field.kind, FieldType::Text | FieldType::Keyword)
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(
        mapping: &'a Mapping,
        index: &'a IndexContext,
        searcher: &'a Searcher,
        now_ms: i64,
        global: Option<&'a Statistics>,
        noted: Option<&'a RefCell<Statistics>>,
    ) -> Compiler<'a> {
        Compiler {
            mapping,
            index,
            searcher,
            now_ms,
            global,
            noted,
            stats: RefCell::default(),
            deletes: None,
            slots: Cell::new(0),
            filters: RefCell::default(),
            keeping: Cell::new(false),
            depth: Cell::new(0),
            expansions: None,
        }
    }

    /// For searches: filters made of several clauses go to the cache, too.
    pub(crate) fn keeping(self) -> Compiler<'a> {
        self.keeping.set(self.index.filter_cache.is_some());
        self
    }

    /// The whole query; what takes long gives way. When stopped, parts of it may find nothing.
    pub(crate) async fn compile_query<P: Pace>(mut self, query: &Query, scores: bool, pace: &P) -> Result<Compiled> {
        self.expansions = Some(Expansions::default());
        let counts = self.index.live_counts.as_deref();
        if scores && self.searcher.segments.iter().any(|s| s.deletes().is_some()) {
            self.deletes = Some(counts.map_or(0, |counts| counts.number(self.searcher)));
        }
        loop {
            let compiled = self.compile_once(query, scores)?;
            let expansions = self.expansions.as_ref().expect("just set");
            if !expansions.lacks() || pace.stopped() {
                return Ok(compiled);
            }
            expansions.make(self.searcher, counts, pace).await;
            self.slots.set(0);
            self.stats.take();
        }
    }

    /// The terms near a word; none when they are still to be found.
    pub(crate) fn near(&self, word: Word) -> Option<Rc<[Near]>> {
        self.expansions.as_ref().expect("a query is being compiled").near(word)
    }

    fn regexp(&self, wanted: &Expression) -> Result<Pattern> {
        let expansions = self.expansions.as_ref().expect("a query is being compiled");
        match expansions.regexp(wanted) {
            Some(Some(made)) => Ok(Pattern::Regexp(made)),
            Some(None) => Ok(Pattern::Regexp(Regexp::new(&wanted.text, wanted.case_insensitive, wanted.states_max)?)),
            // Only for now.
            None => Ok(Pattern::Prefix(Vec::new())),
        }
    }

    fn compile_once(&self, query: &Query, scores: bool) -> Result<Compiled> {
        let weight = self.compile(query, 1.0, scores).map_err(|e| match e {
            Error::Request { kind, reason } if !matches!(kind, "query_shard_exception" | "parsing_exception") => {
                Error::request("query_shard_exception", format!("failed to create query: {reason}"))
            }
            Error::Parse(e) => Error::request("query_shard_exception", format!("failed to create query: {}", e.reason)),
            e => e,
        })?;
        let cache = self.index.filter_cache.as_ref();
        let filters = cache.map(|cache| QueryFilters::new(cache, self.filters.take(), self.searcher));
        Ok(Compiled { weight, slots: self.slots.get(), filters })
    }
}

impl Compiled {
    /// A search uses the query: its filters have been used once more.
    pub(crate) fn note_uses(&self) {
        if let Some(filters) = &self.filters {
            filters.note_uses();
        }
    }
}

impl Compiler<'_> {
    /// Statistics of a field over all live documents, of all shards if known, and its norm table.
    pub(crate) fn stats(&self, field: &str) -> (FieldStats, Arc<NormTable>) {
        if let Some(known) = self.stats.borrow().get(field) {
            return known.clone();
        }
        let stats = self.global.and_then(|g| g.field(field)).unwrap_or_else(|| {
            let mut stats = FieldStats::default();
            for segment in self.searcher.segments.iter() {
                if let Some(field) = segment.reader.field(field) {
                    stats.doc_count += u64::from(field.doc_count());
                    stats.sum_total_term_freq += field.sum_total_term_freq();
                }
            }
            if self.deletes.is_some() {
                let deleted = self.deleted(field, None, &[]);
                stats.doc_count = stats.doc_count.saturating_sub(deleted.docs);
                stats.sum_total_term_freq = stats.sum_total_term_freq.saturating_sub(deleted.occurrences);
            }
            stats
        });
        let known = (stats, Arc::new(NormTable::new(stats.average_length().max(f32::MIN_POSITIVE))));
        self.stats.borrow_mut().insert(field.to_owned(), known.clone());
        known
    }

    /// A BM25 scorer for terms of `field`.
    pub(crate) fn bm25(&self, field: &str, boost: f32, doc_freqs: &[u64]) -> Bm25 {
        let (stats, norms) = self.stats(field);
        let capped: Vec<u64> = doc_freqs.iter().map(|&df| df.min(stats.doc_count)).collect();
        Bm25::new(boost, stats, &capped, norms)
    }

    /// Live documents with the term as scores have it: of all shards, if known.
    pub(crate) fn scored_doc_freq(&self, term: &TermWeight) -> u64 {
        let all = self.global.and_then(|g| g.doc_freq(&term.field, &term.term));
        all.unwrap_or_else(|| self.live_doc_freq(term))
    }

    /// Live documents with the term.
    fn live_doc_freq(&self, term: &TermWeight) -> u64 {
        let all = term.doc_freq();
        if self.deletes.is_none() || all == 0 {
            return all;
        }
        all.saturating_sub(self.deleted(&term.field, Some(&term.term), &term.infos).docs)
    }

    /// What deleted documents hold of a term or of a field. Where it is lacking: nothing, for now.
    fn deleted(&self, field: &str, term: Option<&[u8]>, infos: &[Option<TermInfo>]) -> Deleted {
        let kept = self.index.live_counts.as_ref().zip(self.deletes);
        kept.and_then(|(counts, searcher)| counts.get(field, term, searcher)).unwrap_or_else(|| {
            let expansions = self.expansions.as_ref().expect("a query is being compiled");
            let asked = Asked { field: field.into(), term: term.map(<[u8]>::to_vec) };
            expansions.deleted(asked, infos).unwrap_or_default()
        })
    }

    /// Looks a term up in every segment; no scorer yet.
    pub(crate) fn lookup(&self, field: &Arc<str>, term: &[u8]) -> TermWeight {
        let infos = self
            .searcher
            .segments
            .iter()
            .map(|s| s.reader.field(field).and_then(|f| f.terms()).and_then(|t| t.get(term)))
            .collect();
        self.found(field, term.to_vec(), infos)
    }

    /// A term that was looked up, by segment.
    pub(crate) fn found(&self, field: &Arc<str>, term: Vec<u8>, infos: Vec<Option<TermInfo>>) -> TermWeight {
        let weight = TermWeight { field: Arc::clone(field), term, infos, bm25: None };
        if let Some(noted) = self.noted {
            noted.borrow_mut().note(field, self.stats(field).0, &weight.term, self.live_doc_freq(&weight));
        }
        weight
    }

    /// A scored (or not) term.
    pub(crate) fn term(&self, field: &Arc<str>, term: &[u8], boost: f32, scores: bool) -> Weight {
        let mut weight = self.lookup(field, term);
        if weight.doc_freq() == 0 {
            // Kept for explanations, and cheap: every segment answers "not here".
            return Weight::Term(weight);
        }
        if scores {
            weight.bm25 = Some(self.bm25(field, boost, &[self.scored_doc_freq(&weight)]));
        }
        Weight::Term(weight)
    }

    pub(crate) fn leaf(&self, leaf: Leaf, score: f32, text: String) -> Weight {
        let slot = self.slots.get();
        self.slots.set(slot + 1);
        if let Some(cache) = &self.index.filter_cache {
            self.filters.borrow_mut().push(cache.key(&leaf));
        }
        Weight::Leaf(LeafWeight { leaf, score, text, slot })
    }

    pub(crate) fn unmapped(&self) -> Weight {
        Weight::None
    }

    /// Counts clauses against the limit.
    pub(crate) fn check_clauses(&self, count: usize) -> Result<()> {
        if count > self.index.max_clause_count {
            return Err(Error::request(
                "too_many_clauses",
                format!("maxClauseCount is set to {}", self.index.max_clause_count),
            ));
        }
        Ok(())
    }

    pub(crate) fn compile(&self, query: &Query, boost: f32, scores: bool) -> Result<Weight> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(Error::illegal_argument(format!("queries are nested deeper than {DEPTH_MAX}")));
        }
        self.depth.set(self.depth.get() + 1);
        let weight = self.compile_kind(&query.kind, boost * query.boost, scores);
        self.depth.set(self.depth.get() - 1);
        weight
    }

    /// A clause that only filters.
    fn compile_filter(&self, query: &Query) -> Result<Weight> {
        // What is inside a filter that is kept is not kept by itself.
        let keeping = self.keeping.replace(false);
        let compiled = self.compile(query, 1.0, false);
        self.keeping.set(keeping);
        let weight = compiled?;
        let Some(cache) = self.index.filter_cache.as_ref().filter(|_| keeping) else { return Ok(weight) };
        let Some(key) = cache.key_of_clauses(&weight) else { return Ok(weight) };
        let slot = self.slots.get();
        self.slots.set(slot + 1);
        self.filters.borrow_mut().push(Some(key));
        Ok(Weight::Kept(KeptWeight { inner: Box::new(weight), slot }))
    }

    fn compile_filters(&self, queries: &[Query]) -> Result<Vec<Weight>> {
        queries.iter().map(|q| self.compile_filter(q)).collect()
    }

    fn compile_all(&self, queries: &[Query], boost: f32, scores: bool) -> Result<Vec<Weight>> {
        queries.iter().map(|q| self.compile(q, boost, scores)).collect()
    }

    fn compile_kind(&self, kind: &QueryKind, boost: f32, scores: bool) -> Result<Weight> {
        match kind {
            QueryKind::MatchAll => Ok(Weight::All { score: boost }),
            QueryKind::MatchNone => Ok(Weight::None),
            QueryKind::Match { field, text, kind, options } => {
                self.match_query(field, text, *kind, options, boost, scores)
            }
            QueryKind::MultiMatch { fields, text, kind, options, tie_breaker } => {
                self.multi_match(fields, text, *kind, options, *tie_breaker, boost, scores)
            }
            QueryKind::Term { field, value, case_insensitive } => {
                self.term_query(field, value, *case_insensitive, boost, scores)
            }
            QueryKind::Terms { field, values } => self.terms_query(field, values, boost),
            QueryKind::Range { field, lower, upper, format, time_zone } => {
                self.range_query(field, lower.as_ref(), upper.as_ref(), format.as_deref(), time_zone.as_deref(), boost)
            }
            QueryKind::Slice { field, id, max } => {
                let text = format!("TermsSliceQuery[field={field}, id={id}, max={max}]");
                if field == "_id" || field == "_uid" {
                    return Ok(self.leaf(Leaf::Slice { field: None, id: *id, max: *max }, boost, text));
                }
                let mapped = self
                    .mapping
                    .field(field)
                    .ok_or_else(|| Error::illegal_argument(format!("field {field} not found")))?;
                if mapped.spec.column != crate::segment::ColumnKind::Numbers {
                    return Err(Error::illegal_argument(format!("cannot load numeric doc values on {field}")));
                }
                let field = Some(mapped.path.as_str().into());
                Ok(self.leaf(Leaf::Slice { field, id: *id, max: *max }, boost, text))
            }
            QueryKind::Exists { field } if field == "_source" => {
                Err(Error::request("query_shard_exception", "The _source field is not searchable"))
            }
            QueryKind::Exists { field } => Ok(self.exists_query(field, boost)),
            QueryKind::Ids { values } => {
                Ok(self.leaf(Leaf::Ids { ids: values.clone() }, boost, format!("_id:({})", values.join(" "))))
            }
            QueryKind::Prefix { field, value, case_insensitive } => {
                self.pattern_query(field, value, "prefix", boost, |value| {
                    Ok(if *case_insensitive {
                        Pattern::Wildcard(Wildcard::prefix(value, true))
                    } else {
                        Pattern::Prefix(value.as_bytes().to_vec())
                    })
                })
            }
            QueryKind::Wildcard { field, value, case_insensitive } => {
                self.pattern_query(field, value, "wildcard", boost, |value| {
                    Ok(Pattern::Wildcard(Wildcard::new(value, *case_insensitive)))
                })
            }
            QueryKind::Regexp { field, value, case_insensitive, max_determinized_states } => {
                let (length, max) = (value.chars().count(), self.index.max_regex_length);
                if length > max {
                    return Err(Error::illegal_argument(format!(
                        "The length of regex [{length}] used in the Regexp Query request has exceeded the allowed maximum of [{max}]. This maximum can be set by changing the [index.max_regex_length] index level setting."
                    )));
                }
                self.pattern_query(field, value, "regexp", boost, |value| {
                    self.regexp(&Expression {
                        text: value.to_owned(),
                        case_insensitive: *case_insensitive,
                        states_max: *max_determinized_states,
                    })
                })
            }
            QueryKind::Fuzzy { field, value, fuzziness } => {
                let Some(mapped) = self.mapping.field(field) else { return Ok(self.unmapped()) };
                if !is_string(mapped) {
                    return Err(Error::illegal_argument(format!(
                        "Can only use fuzzy queries on keyword and text fields - not on [{field}] which is of type [{}]",
                        mapped.type_name
                    )));
                }
                self.check_indexed(mapped)?;
                let term = match mapped.encode_term(value, self.now_ms)? {
                    Encoded::Term(term) => term,
                    _ => value_text(value).into_bytes(),
                };
                let field: Arc<str> = mapped.path.as_str().into();
                self.fuzzy(&field, &String::from_utf8_lossy(&term), fuzziness, boost, scores)
            }
            QueryKind::Bool { must, filter, should, must_not, minimum_should_match } => {
                self.bool_query(must, filter, should, must_not, minimum_should_match.as_deref(), boost, scores)
            }
            QueryKind::ConstantScore { filter } => {
                let inner = self.compile_filter(filter)?;
                Ok(if inner.is_none() {
                    Weight::None
                } else {
                    Weight::Constant { inner: Box::new(inner), score: boost }
                })
            }
            QueryKind::DisMax { queries, tie_breaker } => {
                self.check_clauses(queries.len())?;
                let mut parts = self.compile_all(queries, boost, scores)?;
                Ok(match parts.len() {
                    0 => Weight::None,
                    1 => parts.pop().expect("one"),
                    _ => Weight::DisMax { parts, tie: *tie_breaker },
                })
            }
            QueryKind::Boosting { positive, negative, negative_boost } => {
                if *negative_boost < 0.0 {
                    return Err(Error::illegal_argument(
                        "[boosting] query requires 'negative_boost' to be set to be a positive value'",
                    ));
                }
                Ok(Weight::Boosting {
                    positive: Box::new(self.compile(positive, boost, scores)?),
                    negative: Box::new(self.compile(negative, 1.0, false)?),
                    factor: *negative_boost,
                })
            }
            QueryKind::QueryString(query) => {
                let lowered = self.lower_query_string(query)?;
                self.compile(&lowered, boost, scores)
            }
            QueryKind::SimpleQueryString { query, fields, options, flags, analyze_wildcard: _ } => {
                let lowered = self.lower_simple_query_string(query, fields, options, *flags)?;
                self.compile(&lowered, boost, scores)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn bool_query(
        &self,
        must: &[Query],
        filter: &[Query],
        should: &[Query],
        must_not: &[Query],
        minimum: Option<&str>,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let clauses = must.len() + filter.len() + should.len() + must_not.len();
        if clauses == 0 {
            return Ok(Weight::All { score: boost });
        }
        self.check_clauses(clauses)?;
        let given = minimum.map(|m| minimum_should_match(m, should.len())).transpose()?;
        if given.is_some_and(|given| given > should.len()) {
            return Ok(Weight::None);
        }
        let required = !must.is_empty() || !filter.is_empty();
        let mut weight = BoolWeight {
            must: self.compile_all(must, boost, scores)?,
            filter: self.compile_filters(filter)?,
            should: self.compile_all(should, boost, scores)?,
            must_not: self.compile_filters(must_not)?,
            minimum: 0,
        };
        if !should.is_empty() {
            weight.minimum = given.unwrap_or(0).max(usize::from(!required));
        } else if !required {
            // Only exclusions: everything else, and it scores nothing.
            weight.filter.push(Weight::All { score: 0.0 });
        }
        if weight.must.iter().chain(&weight.filter).any(Weight::is_none) {
            return Ok(Weight::None);
        }
        weight.must_not.retain(|w| !w.is_none());
        // Optional clauses that match nothing leave the count they are counted against as it is.
        if weight.minimum <= 1 {
            weight.should.retain(|w| !w.is_none());
            if weight.minimum == 1 && weight.should.is_empty() {
                return Ok(Weight::None);
            }
        }
        Ok(weight.simplified())
    }

    fn check_indexed(&self, field: &FieldMapping) -> Result<()> {
        if !field.indexed || (field.spec.terms == TermsOption::None && !field.spec.points) {
            return Err(Error::illegal_argument(format!(
                "Cannot search on field [{}] since it is not indexed.",
                field.path
            )));
        }
        Ok(())
    }

    pub(crate) fn term_query(
        &self,
        field: &str,
        value: &Value,
        case_insensitive: bool,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        if let Some(weight) = self.metadata_terms(field, std::slice::from_ref(value), boost)? {
            return Ok(weight);
        }
        let Some(mapped) = self.mapping.field(field) else { return Ok(self.unmapped()) };
        self.check_indexed(mapped)?;
        let path: Arc<str> = mapped.path.as_str().into();
        let boost = boost * mapped.boost;
        let text = || format!("{path}:{}", value_text(value));
        Ok(match mapped.encode_term(value, self.now_ms)? {
            Encoded::Nothing => Weight::None,
            Encoded::Term(term) if case_insensitive => {
                let pattern = Pattern::Wildcard(Wildcard::exact(&String::from_utf8_lossy(&term), true));
                self.leaf(Leaf::Pattern { field: Arc::clone(&path), pattern }, boost, text())
            }
            Encoded::Term(term) if is_string(mapped) => self.term(&path, &term, boost, scores),
            Encoded::Term(term) => {
                self.leaf(Leaf::Terms { field: Arc::clone(&path), terms: vec![term] }, boost, text())
            }
            Encoded::Terms(range) => {
                let (lower, upper) = range.into_inner();
                let leaf = Leaf::TermRange {
                    field: Arc::clone(&path),
                    lower: Bound::Included(lower),
                    upper: Bound::Included(upper),
                };
                self.leaf(leaf, boost, text())
            }
            Encoded::Number(n) => {
                self.leaf(Leaf::Numbers { field: Arc::clone(&path), ranges: vec![n..=n] }, boost, text())
            }
            Encoded::Numbers(range) => {
                self.leaf(Leaf::Numbers { field: Arc::clone(&path), ranges: vec![range] }, boost, text())
            }
        })
    }

    fn terms_query(&self, field: &str, values: &[Value], boost: f32) -> Result<Weight> {
        let max = self.index.max_terms_count;
        if values.len() > max {
            return Err(Error::illegal_argument(format!(
                "The number of terms [{}] used in the Terms Query request has exceeded the allowed maximum of [{max}]. This maximum can be set by changing the [index.max_terms_count] index level setting.",
                values.len()
            )));
        }
        if values.is_empty() {
            return Ok(Weight::None);
        }
        if let Some(weight) = self.metadata_terms(field, values, boost)? {
            return Ok(weight);
        }
        let Some(mapped) = self.mapping.field(field) else { return Ok(self.unmapped()) };
        self.check_indexed(mapped)?;
        let path: Arc<str> = mapped.path.as_str().into();
        let (mut terms, mut numbers, mut term_ranges) = (Vec::new(), Vec::new(), Vec::new());
        for value in values {
            match mapped.encode_term(value, self.now_ms)? {
                Encoded::Nothing => {}
                Encoded::Term(term) => terms.push(term),
                Encoded::Terms(range) => term_ranges.push(range),
                Encoded::Number(n) => numbers.push(n..=n),
                Encoded::Numbers(range) => numbers.push(range),
            }
        }
        let text = format!("{path}:({})", values.iter().map(value_text).collect::<Vec<_>>().join(" "));
        let mut parts = Vec::new();
        if !terms.is_empty() {
            terms.sort_unstable();
            terms.dedup();
            parts.push(self.leaf(Leaf::Terms { field: Arc::clone(&path), terms }, boost, text.clone()));
        }
        if !numbers.is_empty() {
            parts.push(self.leaf(
                Leaf::Numbers { field: Arc::clone(&path), ranges: join_ranges(numbers) },
                boost,
                text.clone(),
            ));
        }
        for range in term_ranges {
            let (lower, upper) = range.into_inner();
            let leaf = Leaf::TermRange {
                field: Arc::clone(&path),
                lower: Bound::Included(lower),
                upper: Bound::Included(upper),
            };
            parts.push(self.leaf(leaf, boost, text.clone()));
        }
        Ok(match parts.len() {
            0 => Weight::None,
            1 => parts.pop().expect("one"),
            _ => {
                let any = BoolWeight { must: vec![], filter: vec![], should: parts, must_not: vec![], minimum: 1 };
                Weight::Constant { inner: Box::new(Weight::Bool(any)), score: boost }
            }
        })
    }

    fn range_query(
        &self,
        field: &str,
        lower: Option<&crate::query::Bound>,
        upper: Option<&crate::query::Bound>,
        format: Option<&str>,
        time_zone: Option<&str>,
        boost: f32,
    ) -> Result<Weight> {
        if field == "_seq_no" {
            let end = |b: &crate::query::Bound| {
                value_text(&b.value).parse::<i64>().map_err(|_| {
                    Error::request("number_format_exception", format!("For input string: \"{}\"", value_text(&b.value)))
                })
            };
            let low = lower.map(|b| end(b).map(|v| v.saturating_add(i64::from(!b.inclusive)))).transpose()?;
            let high = upper.map(|b| end(b).map(|v| v.saturating_sub(i64::from(!b.inclusive)))).transpose()?;
            let range = low.unwrap_or(i64::MIN)..=high.unwrap_or(i64::MAX);
            return Ok(self.leaf(Leaf::SeqNo { range: range.clone() }, boost, format!("_seq_no:{range:?}")));
        }
        let Some(mapped) = self.mapping.field(field) else { return Ok(self.unmapped()) };
        self.check_indexed(mapped)?;
        if lower.is_none() && upper.is_none() {
            return Ok(self.exists_query(field, boost));
        }
        let path: Arc<str> = mapped.path.as_str().into();
        let boost = boost * mapped.boost;
        let show = |b: Option<&crate::query::Bound>| b.map_or_else(|| "*".to_owned(), |b| value_text(&b.value));
        let text = format!(
            "{path}:{}{} TO {}{}",
            if lower.is_none_or(|b| b.inclusive) { '[' } else { '{' },
            show(lower),
            show(upper),
            if upper.is_none_or(|b| b.inclusive) { ']' } else { '}' },
        );
        Ok(match mapped.encode_range(lower, upper, format, time_zone, self.now_ms)? {
            RangeBounds::Nothing => Weight::None,
            RangeBounds::Numbers(range) => self.leaf(Leaf::Numbers { field: path, ranges: vec![range] }, boost, text),
            RangeBounds::Terms(lower, upper) => self.leaf(Leaf::TermRange { field: path, lower, upper }, boost, text),
        })
    }

    pub(crate) fn exists_query(&self, field: &str, boost: f32) -> Weight {
        match field {
            "_id" | "_index" | "_type" | "_seq_no" | "_version" | "_primary_term" => {
                return Weight::All { score: boost };
            }
            "_routing" => {
                return self.leaf(
                    Leaf::Routing { values: None },
                    boost,
                    "DocValuesFieldExistsQuery [field=_routing]".to_owned(),
                );
            }
            _ => {}
        }
        let mut mapped: Vec<&Arc<FieldMapping>> = Vec::new();
        if field == "_ignored" {
            mapped.push(self.mapping.ignored());
        } else if let Some(one) = self.mapping.field(field) {
            mapped.push(one);
        } else if field.contains('*') {
            mapped = self.mapping.matching(field);
        } else if self.mapping.is_object(field) {
            mapped = self.mapping.matching(&format!("{field}.*"));
        }
        let (mut direct, mut named) = (Vec::new(), Vec::new());
        for one in mapped {
            if one.in_field_names {
                named.push(one.path.as_bytes().to_vec());
            } else {
                direct.push(Arc::from(one.path.as_str()));
            }
        }
        let text = format!("DocValuesFieldExistsQuery [field={field}]");
        let mut parts = Vec::new();
        if !direct.is_empty() {
            parts.push(self.leaf(Leaf::Exists { fields: direct }, boost, text.clone()));
        }
        if !named.is_empty() {
            named.sort_unstable();
            let names: Arc<str> = self.mapping.field_names().path.as_str().into();
            parts.push(self.leaf(Leaf::Terms { field: names, terms: named }, boost, text));
        }
        match parts.len() {
            0 => Weight::None,
            1 => parts.pop().expect("one"),
            _ => {
                let any = BoolWeight { must: vec![], filter: vec![], should: parts, must_not: vec![], minimum: 1 };
                Weight::Constant { inner: Box::new(Weight::Bool(any)), score: boost }
            }
        }
    }

    /// `term` and `terms` on fields that are not in the mapping but always there.
    fn metadata_terms(&self, field: &str, values: &[Value], boost: f32) -> Result<Option<Weight>> {
        let texts = || values.iter().map(value_text).collect::<Vec<_>>();
        let all_if = |yes: bool| if yes { Weight::All { score: boost } } else { Weight::None };
        Ok(Some(match field {
            "_id" => {
                let ids = texts();
                let text = format!("_id:({})", ids.join(" "));
                self.leaf(Leaf::Ids { ids }, boost, text)
            }
            "_index" => all_if(texts().iter().any(|t| Wildcard::new(t, false).matches(&self.index.index))),
            "_type" => all_if(texts().iter().any(|t| t == "_doc")),
            "_routing" => {
                let values = texts();
                let text = format!("_routing:({})", values.join(" "));
                self.leaf(Leaf::Routing { values: Some(values) }, boost, text)
            }
            "_field_names" => {
                let parts: Vec<Weight> = texts().iter().map(|t| self.exists_query(t, boost)).collect();
                let any = BoolWeight { must: vec![], filter: vec![], should: parts, must_not: vec![], minimum: 1 };
                Weight::Constant { inner: Box::new(Weight::Bool(any)), score: boost }
            }
            "_ignored" => {
                let mut terms: Vec<Vec<u8>> = texts().into_iter().map(String::into_bytes).collect();
                terms.sort_unstable();
                let path: Arc<str> = self.mapping.ignored().path.as_str().into();
                self.leaf(Leaf::Terms { field: path, terms }, boost, "_ignored".to_owned())
            }
            "_seq_no" => {
                let mut parts = Vec::new();
                for text in texts() {
                    let n: i64 = text.parse().map_err(|_| {
                        Error::request("number_format_exception", format!("For input string: \"{text}\""))
                    })?;
                    parts.push(self.leaf(Leaf::SeqNo { range: n..=n }, boost, format!("_seq_no:{n}")));
                }
                let any = BoolWeight { must: vec![], filter: vec![], should: parts, must_not: vec![], minimum: 1 };
                Weight::Constant { inner: Box::new(Weight::Bool(any)), score: boost }
            }
            _ => return Ok(None),
        }))
    }

    fn pattern_query(
        &self,
        field: &str,
        value: &str,
        what: &str,
        boost: f32,
        make: impl FnOnce(&str) -> Result<Pattern>,
    ) -> Result<Weight> {
        if field == "_index" {
            let matches = match make(value)? {
                Pattern::Prefix(p) => self.index.index.as_bytes().starts_with(&p),
                Pattern::Wildcard(w) => w.matches(&self.index.index),
                Pattern::Regexp(r) => crate::search::automaton::accepts(&r, self.index.index.as_bytes()),
            };
            return Ok(if matches { Weight::All { score: boost } } else { Weight::None });
        }
        if matches!(field, "_id" | "_routing") {
            return Err(Error::request(
                "query_shard_exception",
                format!(
                    "Can only use {what} queries on keyword, text and wildcard fields - not on [{field}] which is of type [{field}]"
                ),
            ));
        }
        let mapped = if field == "_ignored" { Some(self.mapping.ignored()) } else { self.mapping.field(field) };
        let Some(mapped) = mapped else { return Ok(self.unmapped()) };
        if !is_string(mapped) && field != "_ignored" {
            let kinds = if what == "regexp" { "keyword and text fields" } else { "keyword, text and wildcard fields" };
            return Err(Error::request(
                "query_shard_exception",
                format!(
                    "Can only use {what} queries on {kinds} - not on [{field}] which is of type [{}]",
                    mapped.type_name
                ),
            ));
        }
        self.check_indexed(mapped)?;
        let value = self.normalize_pattern(mapped, value, what == "regexp");
        let path: Arc<str> = mapped.path.as_str().into();
        let text = match what {
            "prefix" => format!("{path}:{value}*"),
            "regexp" => format!("{path}:/{value}/"),
            _ => format!("{path}:{value}"),
        };
        let pattern = make(&value)?;
        if matches!(&pattern, Pattern::Wildcard(w) if w.matches_everything()) {
            return Ok(self.exists_query(field, boost * mapped.boost));
        }
        Ok(self.leaf(Leaf::Pattern { field: path, pattern }, boost * mapped.boost, text))
    }

    /// A keyword's normalizer applies to the text of a pattern, its operators left alone.
    fn normalize_pattern(&self, field: &FieldMapping, value: &str, regexp: bool) -> String {
        let (FieldType::Keyword, Some(normalizer), false) = (&field.kind, &field.search_analyzer, regexp) else {
            return value.to_owned();
        };
        let mut out = String::new();
        let mut literal = String::new();
        let flush = |literal: &mut String, out: &mut String| {
            if !literal.is_empty() {
                let mut normal = None;
                normalizer.tokens(literal, &mut |t| normal = Some(t.term.to_owned()));
                out.push_str(normal.as_deref().unwrap_or(literal));
                literal.clear();
            }
        };
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' | '?' => {
                    flush(&mut literal, &mut out);
                    out.push(c);
                }
                '\\' => {
                    flush(&mut literal, &mut out);
                    out.push(c);
                    out.extend(chars.next());
                }
                c => literal.push(c),
            }
        }
        flush(&mut literal, &mut out);
        out
    }
}

/// Sorts ranges and joins those that touch.
fn join_ranges(mut ranges: Vec<std::ops::RangeInclusive<u64>>) -> Vec<std::ops::RangeInclusive<u64>> {
    ranges.sort_unstable_by_key(|r| *r.start());
    let mut out: Vec<std::ops::RangeInclusive<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => out.push(range),
        }
    }
    out
}

impl TermWeight {
    /// Documents with the term in all segments, deleted ones included.
    pub(crate) fn doc_freq(&self) -> u64 {
        self.infos.iter().flatten().map(|i| u64::from(i.doc_freq)).sum()
    }
}

impl BoolWeight {
    /// A single clause that decides everything stands for itself.
    pub(crate) fn simplified(mut self) -> Weight {
        if self.filter.is_empty() && self.must_not.is_empty() {
            if self.must.len() == 1 && self.should.is_empty() {
                return self.must.pop().expect("one");
            }
            if self.must.is_empty() && self.should.len() == 1 && self.minimum <= 1 {
                return self.should.pop().expect("one");
            }
        }
        Weight::Bool(self)
    }
}

//! Compiles full-text queries: analysis, then terms, phrases, prefixes and fuzzy terms, in one field or several.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analysis::Analyzer;
use crate::error::{Error, Result};
use crate::mapping::{FieldMapping, FieldType};
use crate::query::{Fuzziness, MatchKind, MultiMatchKind, Operator, TextOptions, Value};
use crate::search::bm25::Bm25;
use crate::search::compile::{Compiler, is_string, value_text};
use crate::search::expand::{Near, Word};
use crate::search::min_should_match::minimum_should_match;
use crate::search::weight::{BoolWeight, Leaf, Pattern, PhraseSlot, PhraseWeight, SynonymWeight, TermWeight, Weight};
use crate::segment::TermsOption;

/// `max_expansions` where the query says nothing.
const EXPANSIONS: u32 = 50;

/// Terms of a text, by position.
type Positions = BTreeMap<u32, Vec<String>>;

/// Name of an analyzer, the analyzer, and the fields (with boosts) that it analyzes.
type FieldGroup = (String, Option<Arc<Analyzer>>, Vec<(Arc<str>, f32)>);

impl Compiler<'_> {
    pub(crate) fn match_query(
        &self,
        field: &str,
        text: &Value,
        kind: MatchKind,
        options: &TextOptions,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let result = self.match_query_strict(field, text, kind, options, boost, scores);
        if options.lenient && matches!(result, Err(Error::Request { .. } | Error::Parse(_))) {
            return Ok(Weight::None);
        }
        result
    }

    fn match_query_strict(
        &self,
        field: &str,
        text: &Value,
        kind: MatchKind,
        options: &TextOptions,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let Some(mapped) = self.mapping.field(field) else {
            // Metadata fields, or none at all.
            return self.term_query(field, text, false, boost, scores);
        };
        if !is_string(mapped) {
            let only = |what: &str| {
                Error::illegal_argument(format!(
                    "Can only use {what} queries on text fields - not on [{field}] which is of type [{}]",
                    mapped.type_name
                ))
            };
            return match kind {
                MatchKind::PhrasePrefix => Err(only("phrase prefix")),
                _ if matches!(mapped.kind, FieldType::Binary | FieldType::GeoPoint | FieldType::Opaque(_)) => {
                    Err(only(if kind == MatchKind::Phrase { "phrase" } else { "text" }))
                }
                _ => self.term_query(field, text, false, boost, scores),
            };
        }
        if mapped.spec.terms == TermsOption::None {
            return Err(Error::illegal_argument(format!("Cannot search on field [{field}] since it is not indexed.")));
        }
        let quoted =
            mapped.search_quote_analyzer.as_ref().filter(|_| kind == MatchKind::Phrase && options.analyzer.is_none());
        let analyzer = match quoted {
            Some(analyzer) => Some(Arc::clone(analyzer)),
            None => self.analyzer_for(mapped, options)?,
        };
        let text = value_text(text);
        let positions = analyze(analyzer.as_deref(), &text);
        self.analyzed(mapped, positions, kind, options, boost * mapped.boost, scores)
    }

    /// The analyzer of the query, else of the field; none = the text as it is.
    fn analyzer_for(&self, field: &FieldMapping, options: &TextOptions) -> Result<Option<Arc<Analyzer>>> {
        match &options.analyzer {
            Some(name) => {
                self.index.analyzers.analyzer(name).map(Some).ok_or_else(|| {
                    Error::request("query_shard_exception", format!("[match] analyzer [{name}] not found"))
                })
            }
            None => Ok(field.search_analyzer.clone().or_else(|| field.analyzer.clone())),
        }
    }

    fn analyzed(
        &self,
        field: &FieldMapping,
        positions: Positions,
        kind: MatchKind,
        options: &TextOptions,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let path: Arc<str> = field.path.as_str().into();
        if positions.is_empty() {
            return Ok(if options.zero_terms_all { Weight::All { score: boost } } else { Weight::None });
        }
        match kind {
            MatchKind::Phrase => self.phrase(field, &path, positions, options.slop, boost, scores),
            MatchKind::PhrasePrefix => self.phrase_prefix(field, &path, positions, options, boost, scores),
            MatchKind::Terms | MatchKind::BoolPrefix => {
                let last = positions.len() - 1;
                let mut clauses = Vec::with_capacity(positions.len());
                for (i, (_, terms)) in positions.into_iter().enumerate() {
                    if kind == MatchKind::BoolPrefix && i == last {
                        for term in terms {
                            let text = format!("{path}:{term}*");
                            let leaf =
                                Leaf::Pattern { field: Arc::clone(&path), pattern: Pattern::Prefix(term.into_bytes()) };
                            clauses.push(self.leaf(leaf, boost, text));
                        }
                    } else {
                        clauses.push(self.position(&path, &terms, options, boost, scores)?);
                    }
                }
                self.combine(clauses, options)
            }
        }
    }

    /// The terms at one position.
    fn position(
        &self,
        path: &Arc<str>,
        terms: &[String],
        options: &TextOptions,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        match terms {
            [term] => match &options.fuzziness {
                Some(fuzziness) => self.fuzzy(path, term, fuzziness, boost, scores),
                None => Ok(self.term(path, term.as_bytes(), boost, scores)),
            },
            _ => {
                let terms: Vec<TermWeight> = terms.iter().map(|t| self.lookup(path, t.as_bytes())).collect();
                let here = terms.iter().map(TermWeight::doc_freq).max().unwrap_or(0);
                let bm25 = (scores && here > 0).then(|| {
                    let doc_freq = terms.iter().map(|t| self.scored_doc_freq(t)).max().unwrap_or(0);
                    self.bm25(path, boost, &[doc_freq])
                });
                let mut weight = SynonymWeight { field: Arc::clone(path), terms, bm25 };
                if let Some(bm25) = &weight.bm25 {
                    weight.terms.iter_mut().for_each(|t| t.bm25 = Some(bm25.clone()));
                }
                Ok(Weight::Synonyms(weight))
            }
        }
    }

    /// Clauses of a text as `operator` and `minimum_should_match` say.
    fn combine(&self, mut clauses: Vec<Weight>, options: &TextOptions) -> Result<Weight> {
        self.check_clauses(clauses.len())?;
        if clauses.len() == 1 {
            return Ok(clauses.pop().expect("one"));
        }
        let mut weight = BoolWeight { must: vec![], filter: vec![], should: vec![], must_not: vec![], minimum: 0 };
        match options.operator {
            Operator::And => {
                if clauses.iter().any(Weight::is_none) {
                    return Ok(Weight::None);
                }
                weight.must = clauses;
            }
            Operator::Or => {
                weight.minimum = match &options.minimum_should_match {
                    Some(spec) => minimum_should_match(spec, clauses.len())?.max(1),
                    None => 1,
                };
                if weight.minimum > clauses.len() {
                    return Ok(Weight::None);
                }
                weight.should = clauses;
            }
        }
        Ok(Weight::Bool(weight))
    }

    fn check_positions(&self, field: &FieldMapping) -> Result<()> {
        if field.spec.terms == TermsOption::Positions {
            return Ok(());
        }
        if field.kind == FieldType::Keyword {
            return Err(Error::illegal_argument(format!(
                "Can only use phrase queries on text fields - not on [{}] which is of type [keyword]",
                field.path
            )));
        }
        Err(Error::request(
            "illegal_state_exception",
            format!("field:[{}] was indexed without position data; cannot run PhraseQuery", field.path),
        ))
    }

    fn phrase(
        &self,
        field: &FieldMapping,
        path: &Arc<str>,
        positions: Positions,
        slop: u32,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        if positions.len() == 1 {
            let terms = positions.into_values().next().expect("one");
            return self.position(path, &terms, &TextOptions::default(), boost, scores);
        }
        self.check_positions(field)?;
        let first = *positions.keys().next().expect("not empty");
        let slots = positions
            .into_iter()
            .map(|(position, terms)| PhraseSlot {
                offset: position - first,
                terms: terms.iter().map(|t| self.lookup(path, t.as_bytes())).collect(),
            })
            .collect();
        Ok(self.phrase_of(path, slots, slop, boost, scores))
    }

    fn phrase_of(&self, path: &Arc<str>, slots: Vec<PhraseSlot>, slop: u32, boost: f32, scores: bool) -> Weight {
        if slots.iter().any(|s| s.terms.iter().all(|t| t.doc_freq() == 0)) {
            return Weight::None;
        }
        let bm25: Option<Bm25> = scores.then(|| {
            let terms = slots.iter().flat_map(|s| s.terms.iter());
            let freqs: Vec<u64> = terms.map(|t| self.scored_doc_freq(t)).filter(|&df| df > 0).collect();
            self.bm25(path, boost, &freqs)
        });
        Weight::Phrase(PhraseWeight { field: Arc::clone(path), slots, slop, bm25 })
    }

    fn phrase_prefix(
        &self,
        field: &FieldMapping,
        path: &Arc<str>,
        mut positions: Positions,
        options: &TextOptions,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        if field.kind != FieldType::Text {
            return Err(Error::illegal_argument(format!(
                "Can only use phrase prefix queries on text fields - not on [{}] which is of type [{}]",
                field.path, field.type_name
            )));
        }
        let (last_at, last) = positions.pop_last().expect("not empty");
        let max = options.max_expansions.unwrap_or(EXPANSIONS) as usize;
        let mut expanded: Vec<Vec<u8>> = Vec::new();
        for prefix in &last {
            for segment in self.searcher.segments.iter() {
                let Some(index) = segment.reader.field(path).and_then(|f| f.terms()) else { continue };
                let mut left = max;
                index.visit_from(prefix.as_bytes(), &mut |term, info| {
                    let fits = term.starts_with(prefix.as_bytes());
                    // Terms of deleted documents alone are gone after a merge: they take no room from others before it.
                    if fits && segment.has_live(path, &info) {
                        expanded.push(term.to_vec());
                        left = left.saturating_sub(1);
                    }
                    fits && left > 0
                });
            }
        }
        expanded.sort_unstable();
        expanded.dedup();
        expanded.truncate(max.max(1));
        if expanded.is_empty() {
            return Ok(Weight::None);
        }
        if positions.is_empty() {
            // The prefix alone: any of its terms.
            let should = expanded.iter().map(|t| self.term(path, t, boost, scores)).collect();
            return Ok(BoolWeight { must: vec![], filter: vec![], should, must_not: vec![], minimum: 1 }.simplified());
        }
        self.check_positions(field)?;
        let first = *positions.keys().next().expect("not empty");
        let mut slots: Vec<PhraseSlot> = positions
            .into_iter()
            .map(|(position, terms)| PhraseSlot {
                offset: position - first,
                terms: terms.iter().map(|t| self.lookup(path, t.as_bytes())).collect(),
            })
            .collect();
        slots.push(PhraseSlot {
            offset: last_at - first,
            terms: expanded.iter().map(|t| self.lookup(path, t)).collect(),
        });
        Ok(self.phrase_of(path, slots, options.slop, boost, scores))
    }

    /// The best terms near `term`, each with less weight the farther it is, all as rare as the most frequent of them.
    pub(crate) fn fuzzy(
        &self,
        path: &Arc<str>,
        term: &str,
        fuzziness: &Fuzziness,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let length = term.chars().count() as u32;
        let edits = match fuzziness.edits {
            Some(edits) => edits.min(2),
            None if length < fuzziness.auto_low => 0,
            None if length < fuzziness.auto_high => 1,
            None => 2,
        };
        if edits == 0 || fuzziness.max_expansions == 0 {
            return Ok(self.term(path, term.as_bytes(), boost, scores));
        }
        let word = Word {
            path: Arc::clone(path),
            term: term.to_owned(),
            edits,
            prefix: fuzziness.prefix_length,
            transpositions: fuzziness.transpositions,
        };
        let Some(near) = self.near(word) else { return Ok(Weight::None) };
        let terms_max = (fuzziness.max_expansions as usize).min(self.index.max_clause_count);
        let segments = self.searcher.segments.len();
        let mut terms: Vec<(f32, TermWeight)> = Vec::new();
        let live = |found: &Near| self.searcher.segments[found.ordinal].has_live(path, &found.info);
        let by_term = near.chunk_by(|a, b| a.term == b.term).filter(|same| same.iter().any(live));
        for same in by_term.take(terms_max) {
            let mut infos = vec![None; segments];
            same.iter().for_each(|found| infos[found.ordinal] = Some(found.info));
            terms.push((same[0].closeness, self.found(path, same[0].term.clone(), infos)));
        }
        if terms.iter().all(|(_, t)| t.doc_freq() == 0) {
            return Ok(Weight::None);
        }
        if scores {
            let doc_freq = terms.iter().map(|(_, t)| self.scored_doc_freq(t)).max().unwrap_or(0);
            for (closeness, term) in &mut terms {
                term.bm25 = Some(self.bm25(path, boost * *closeness, &[doc_freq]));
            }
        }
        let should = terms.into_iter().map(|(_, t)| Weight::Term(t)).collect();
        Ok(BoolWeight { must: vec![], filter: vec![], should, must_not: vec![], minimum: 1 }.simplified())
    }

    /// Fields with boosts: patterns become the fields they match.
    pub(crate) fn expand_fields(&self, fields: &[(String, f32)]) -> Result<Vec<(String, f32)>> {
        let mut out: Vec<(String, f32)> = Vec::new();
        for (name, boost) in fields {
            if !name.contains('*') {
                out.push((name.clone(), *boost));
                continue;
            }
            for field in self.mapping.matching(name) {
                let searchable = !matches!(
                    field.kind,
                    FieldType::Binary | FieldType::GeoPoint | FieldType::Boolean | FieldType::Opaque(_)
                ) && (field.spec.terms != TermsOption::None || field.spec.points);
                if searchable && !field.path.starts_with('_') {
                    out.push((field.path.clone(), *boost));
                }
            }
        }
        let max = self.index.max_clause_count;
        if out.len() > max {
            return Err(Error::illegal_argument(format!(
                "field expansion matches too many fields, limit: {max}, got: {}",
                out.len()
            )));
        }
        Ok(out)
    }

    /// The fields of a query that names none.
    pub(crate) fn default_fields(&self) -> Vec<(String, f32)> {
        self.index
            .default_fields
            .iter()
            .map(|f| match f.rsplit_once('^') {
                Some((name, boost)) => (name.to_owned(), boost.parse().unwrap_or(1.0)),
                None => (f.clone(), 1.0),
            })
            .collect()
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn multi_match(
        &self,
        fields: &[(String, f32)],
        text: &Value,
        kind: MultiMatchKind,
        options: &TextOptions,
        tie_breaker: Option<f32>,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let mut options = options.clone();
        let given = if fields.is_empty() {
            let fields = self.default_fields();
            options.lenient |= fields.iter().any(|f| f.0 == "*");
            fields
        } else {
            options.lenient |= fields.iter().any(|f| f.0 == "*");
            fields.to_vec()
        };
        let expanded = self.expand_fields(&given)?;
        let (match_kind, tie) = match kind {
            MultiMatchKind::BestFields => (MatchKind::Terms, 0.0),
            MultiMatchKind::MostFields => (MatchKind::Terms, 1.0),
            MultiMatchKind::CrossFields => {
                return self.cross_fields(&expanded, text, &options, tie_breaker.unwrap_or(0.0), boost, scores);
            }
            MultiMatchKind::Phrase => (MatchKind::Phrase, 0.0),
            MultiMatchKind::PhrasePrefix => (MatchKind::PhrasePrefix, 0.0),
            MultiMatchKind::BoolPrefix => (MatchKind::BoolPrefix, 1.0),
        };
        let mut parts = Vec::with_capacity(expanded.len());
        for (field, field_boost) in &expanded {
            let part = self.match_query(field, text, match_kind, &options, boost * field_boost, scores)?;
            if !part.is_none() {
                parts.push(part);
            }
        }
        Ok(match parts.len() {
            0 => Weight::None,
            1 => parts.pop().expect("one"),
            _ => Weight::DisMax { parts, tie: tie_breaker.unwrap_or(tie) },
        })
    }

    /// Fields with one analyzer are searched as one field: each term in any of them, as rare as where it is most frequent.
    fn cross_fields(
        &self,
        fields: &[(String, f32)],
        text: &Value,
        options: &TextOptions,
        tie: f32,
        boost: f32,
        scores: bool,
    ) -> Result<Weight> {
        let mut groups: Vec<FieldGroup> = Vec::new();
        let mut parts = Vec::new();
        for (name, field_boost) in fields {
            match self.mapping.field(name) {
                Some(field) if is_string(field) && field.spec.terms != TermsOption::None => {
                    let analyzer = self.analyzer_for(field, options)?;
                    let key = analyzer.as_ref().map_or(String::new(), |a| a.name().to_owned());
                    let entry = (Arc::from(field.path.as_str()), field_boost * field.boost);
                    match groups.iter_mut().find(|g| g.0 == key) {
                        Some(group) => group.2.push(entry),
                        None => groups.push((key, analyzer, vec![entry])),
                    }
                }
                _ => {
                    let part = self.match_query(name, text, MatchKind::Terms, options, boost * field_boost, scores)?;
                    if !part.is_none() {
                        parts.push(part);
                    }
                }
            }
        }
        for (_, analyzer, group) in groups {
            let mut clauses = Vec::new();
            for terms in analyze(analyzer.as_deref(), &value_text(text)).into_values() {
                let mut any: Vec<(TermWeight, f32)> = Vec::new();
                for term in &terms {
                    any.extend(group.iter().map(|(field, b)| (self.lookup(field, term.as_bytes()), *b)));
                }
                clauses.push(self.blended(any, tie, boost, scores));
            }
            if clauses.is_empty() {
                if options.zero_terms_all {
                    parts.push(Weight::All { score: boost });
                }
                continue;
            }
            let part = self.combine(clauses, options)?;
            if !part.is_none() {
                parts.push(part);
            }
        }
        Ok(match parts.len() {
            0 => Weight::None,
            1 => parts.pop().expect("one"),
            _ => Weight::DisMax { parts, tie },
        })
    }

    fn blended(&self, mut terms: Vec<(TermWeight, f32)>, tie: f32, boost: f32, scores: bool) -> Weight {
        terms.retain(|t| t.0.doc_freq() > 0);
        let frequency = |t: &TermWeight| if scores { self.scored_doc_freq(t) } else { t.doc_freq() };
        terms.sort_by_cached_key(|t| std::cmp::Reverse(frequency(&t.0)));
        let Some(first) = terms.first() else { return Weight::None };
        // All count as frequent as the most frequent, with a little more for each step down so that order is kept.
        let mut before = frequency(&first.0);
        let mut blended = before;
        let parts: Vec<Weight> = terms
            .into_iter()
            .map(|(mut term, field_boost)| {
                let doc_freq = frequency(&term);
                if before > doc_freq {
                    blended += 1;
                }
                before = doc_freq;
                if scores {
                    term.bm25 = Some(self.bm25(&term.field, boost * field_boost, &[blended]));
                }
                Weight::Term(term)
            })
            .collect();
        if parts.len() == 1 {
            return parts.into_iter().next().expect("one");
        }
        Weight::DisMax { parts, tie }
    }
}

/// Terms of `text` by position; without an analyzer the text is one term.
fn analyze(analyzer: Option<&Analyzer>, text: &str) -> Positions {
    let mut positions = Positions::new();
    match analyzer {
        Some(analyzer) => analyzer.tokens(text, &mut |token| {
            let terms = positions.entry(token.position).or_default();
            if !terms.iter().any(|t| t == token.term) {
                terms.push(token.term.to_owned());
            }
        }),
        None => {
            positions.insert(0, vec![text.to_owned()]);
        }
    }
    positions
}

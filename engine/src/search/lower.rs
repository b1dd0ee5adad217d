//! Turns parsed `query_string` and `simple_query_string` texts into queries of the ordinary kinds.

use crate::analysis::Analyzer;
use crate::error::{Error, Result};
use crate::query::{Bound, Fuzziness, MultiMatchKind, Operator, Query, QueryKind, QueryString, TextOptions, Value};
use crate::search::compile::Compiler;
use crate::search::query_string::{self, Expr, Leaf, Occur};
use crate::search::simple_query_string;

/// `max_determinized_states` of regular expressions in a query string.
const REGEXP_STATES: u32 = 10_000;

/// What is the same for all leaves of one text.
struct Lowering<'a> {
    fields: Vec<(String, f32)>,
    options: &'a TextOptions,
    lenient: bool,
    kind: MultiMatchKind,
    tie_breaker: Option<f32>,
    phrase_slop: u32,
    leading_wildcard: bool,
}

impl Compiler<'_> {
    pub(crate) fn lower_query_string(&self, query: &QueryString) -> Result<Query> {
        let fields = match (&query.fields[..], &query.default_field) {
            ([], Some(field)) => vec![(field.clone(), 1.0)],
            ([], None) => self.default_fields(),
            (fields, _) => fields.to_vec(),
        };
        let and = query.options.operator == Operator::And;
        let parsed = query_string::parse(&query.query, and)
            .map_err(|_| Error::request("query_shard_exception", format!("Failed to parse query [{}]", query.query)))?;
        let Some(expr) = parsed else { return Ok(QueryKind::MatchNone.into()) };
        let lowering = Lowering {
            lenient: query.options.lenient || fields.iter().any(|f| f.0 == "*"),
            fields,
            options: &query.options,
            kind: query.kind,
            tie_breaker: query.tie_breaker,
            phrase_slop: query.phrase_slop,
            leading_wildcard: query.allow_leading_wildcard,
        };
        let lowered = self.lower(&expr, &lowering)?;
        Ok(with_minimum(lowered, query.options.minimum_should_match.as_deref()))
    }

    pub(crate) fn lower_simple_query_string(
        &self,
        text: &str,
        fields: &[(String, f32)],
        options: &TextOptions,
        flags: u32,
    ) -> Result<Query> {
        let fields = if fields.is_empty() { self.default_fields() } else { fields.to_vec() };
        let and = options.operator == Operator::And;
        let Some(expr) = simple_query_string::parse(text, and, flags) else { return Ok(QueryKind::MatchNone.into()) };
        let lowering = Lowering {
            lenient: options.lenient || fields.iter().any(|f| f.0 == "*"),
            fields,
            options,
            kind: MultiMatchKind::BestFields,
            // Every field counts, as clauses of their own.
            tie_breaker: Some(1.0),
            phrase_slop: 0,
            leading_wildcard: true,
        };
        let lowered = self.lower(&expr, &lowering)?;
        Ok(with_minimum(lowered, options.minimum_should_match.as_deref()))
    }

    /// Recursion is as deep as the parser let groups be.
    fn lower(&self, expr: &Expr, lowering: &Lowering<'_>) -> Result<Query> {
        match expr {
            Expr::Bool(clauses, boost) => {
                let (mut must, mut should, mut must_not) = (Vec::new(), Vec::new(), Vec::new());
                for (occur, clause) in clauses {
                    let clause = self.lower(clause, lowering)?;
                    match occur {
                        Occur::Must => must.push(clause),
                        Occur::Should => should.push(clause),
                        Occur::MustNot => must_not.push(clause),
                    }
                }
                let kind = QueryKind::Bool { must, filter: Vec::new(), should, must_not, minimum_should_match: None };
                Ok(Query { kind, boost: *boost, name: None })
            }
            Expr::Leaf(field, leaf, boost) => {
                let fields = match field {
                    Some(field) => vec![(field.clone(), 1.0)],
                    None => lowering.fields.clone(),
                };
                let mut query = self.lower_leaf(&fields, leaf, lowering)?;
                query.boost *= boost;
                Ok(query)
            }
        }
    }

    fn lower_leaf(&self, fields: &[(String, f32)], leaf: &Leaf, lowering: &Lowering<'_>) -> Result<Query> {
        let mut options = TextOptions {
            lenient: lowering.lenient || fields.iter().any(|f| f.0.contains('*')),
            // Counted at the top, not in every leaf.
            minimum_should_match: None,
            fuzziness: None,
            ..lowering.options.clone()
        };
        let texts = |text: &str, kind: MultiMatchKind, options: TextOptions| -> Query {
            QueryKind::MultiMatch {
                fields: fields.to_vec(),
                text: Value::String(text.to_owned()),
                kind,
                options,
                tie_breaker: lowering.tie_breaker,
            }
            .into()
        };
        Ok(match leaf {
            Leaf::All => QueryKind::MatchAll.into(),
            Leaf::Text(text) => texts(text, lowering.kind, options),
            Leaf::Phrase(text, slop) => {
                options.slop = slop.unwrap_or(lowering.phrase_slop);
                texts(text, MultiMatchKind::Phrase, options)
            }
            Leaf::Fuzzy(text, edits) => {
                let base = lowering.options.fuzziness.clone().unwrap_or(Fuzziness {
                    edits: None,
                    auto_low: 3,
                    auto_high: 6,
                    prefix_length: 0,
                    max_expansions: 50,
                    transpositions: true,
                });
                options.fuzziness = Some(match edits {
                    Some(edits) => Fuzziness { edits: Some(edits.clamp(0.0, 2.0) as u8), ..base },
                    None => base,
                });
                texts(text, lowering.kind, options)
            }
            Leaf::Prefix(text) => self.each_field(fields, lowering, |field, analyzer| QueryKind::Prefix {
                field,
                value: fold(analyzer, text),
                case_insensitive: false,
            })?,
            Leaf::Wildcard(pattern) => {
                if !lowering.leading_wildcard && pattern.starts_with(['*', '?']) {
                    return Err(Error::request(
                        "query_shard_exception",
                        format!(
                            "Failed to parse query [{pattern}]: '*' or '?' not allowed as first character in WildcardQuery"
                        ),
                    ));
                }
                self.each_field(fields, lowering, |field, analyzer| QueryKind::Wildcard {
                    field,
                    value: fold(analyzer, pattern),
                    case_insensitive: false,
                })?
            }
            Leaf::Regexp(pattern) => {
                // Said here, because a field that refuses a pattern may be left out, and this is not the field's fault.
                let (length, max) = (pattern.chars().count(), self.index.max_regex_length);
                if length > max {
                    return Err(Error::illegal_argument(format!(
                        "The length of regex [{length}] used in the [query_string] has exceeded the allowed maximum of [{max}]. This maximum can be set by changing the [index.max_regex_length] index level setting."
                    )));
                }
                self.each_field(fields, lowering, |field, analyzer| QueryKind::Regexp {
                    field,
                    value: fold(analyzer, pattern),
                    case_insensitive: false,
                    max_determinized_states: REGEXP_STATES,
                })?
            }
            Leaf::Range(lower, upper) => {
                let bound = |end: &Option<(String, bool)>| {
                    end.as_ref()
                        .map(|(text, inclusive)| Bound { value: Value::String(text.clone()), inclusive: *inclusive })
                };
                self.each_field(fields, lowering, |field, _| QueryKind::Range {
                    field,
                    lower: bound(lower),
                    upper: bound(upper),
                    format: None,
                    time_zone: None,
                })?
            }
            Leaf::Exists => self.each_field(fields, lowering, |field, _| QueryKind::Exists { field })?,
        })
    }

    /// One query a field, the best counts. Leniently, a field that refuses the query is left out.
    fn each_field(
        &self,
        fields: &[(String, f32)],
        lowering: &Lowering<'_>,
        make: impl Fn(String, Option<&Analyzer>) -> QueryKind,
    ) -> Result<Query> {
        let many = lowering.lenient || fields.iter().any(|f| f.0.contains('*'));
        let mut queries = Vec::new();
        for (field, boost) in self.expand_fields(fields)? {
            let analyzer = self.mapping.field(&field).and_then(|f| f.search_analyzer.as_deref());
            let query = Query { kind: make(field, analyzer), boost, name: None };
            if many && matches!(self.compile(&query, 1.0, false), Err(Error::Request { .. } | Error::Parse(_))) {
                continue;
            }
            queries.push(query);
        }
        Ok(match queries.len() {
            0 => QueryKind::MatchNone.into(),
            1 => queries.pop().expect("one"),
            _ => QueryKind::DisMax { queries, tie_breaker: 0.0 }.into(),
        })
    }
}

/// A pattern with the letters of its analyzer: lower case if that is what the analyzer makes of upper case.
fn fold(analyzer: Option<&Analyzer>, pattern: &str) -> String {
    let mut lowers = false;
    if let Some(analyzer) = analyzer {
        analyzer.tokens("Zz", &mut |token| lowers |= token.term == "zz");
    }
    if !lowers {
        return pattern.to_owned();
    }
    pattern.to_lowercase()
}

/// `minimum_should_match` applies to the clauses of the whole text.
fn with_minimum(mut query: Query, minimum: Option<&str>) -> Query {
    if let Some(minimum) = minimum {
        match &mut query.kind {
            QueryKind::Bool { should, minimum_should_match, .. } if !should.is_empty() => {
                *minimum_should_match = Some(minimum.to_owned());
            }
            QueryKind::MultiMatch { options, .. } => options.minimum_should_match = Some(minimum.to_owned()),
            _ => {}
        }
    }
    query
}

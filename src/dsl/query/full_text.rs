//! Queries whose text is analyzed or parsed: `match` and its kin, `multi_match`, `query_string`.

use ringdex_engine::query::{MatchKind, MultiMatchKind, QueryKind, QueryString, TextOptions};
use serde_json::{Map, Value};

use super::{Common, one_field, unsupported};
use crate::dsl::text::{FuzzyParts, fields, minimum_should_match, operator, zero_terms};
use crate::dsl::value::{count, flag, float, int, is_value, parsing, required_text, scalar, text, token};
use crate::dsl::{DslError, DslResult};

pub(super) fn matching(
    map: &Map<String, Value>,
    query: &str,
    kind: MatchKind,
    common: &mut Common,
) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, query)?;
    let mut options = TextOptions::default();
    let mut fuzzy = FuzzyParts::default();
    let mut query_text = None;
    match below {
        Value::Object(body) => {
            for (key, value) in body {
                if common.take(key, value)? {
                    continue;
                }
                if !is_value(value) {
                    return Err(parsing(format!("[{query}] unknown token [{}] after [{key}]", token(value))));
                }
                match (key.as_str(), kind) {
                    ("query", _) => query_text = scalar(value),
                    ("analyzer", _) => options.analyzer = text(value)?,
                    ("slop", MatchKind::Phrase | MatchKind::PhrasePrefix) => {
                        options.slop = count(value, "No negative slop allowed.")?;
                    }
                    ("zero_terms_query", MatchKind::Terms | MatchKind::Phrase | MatchKind::PhrasePrefix) => {
                        options.zero_terms_all = zero_terms(value)?;
                    }
                    ("max_expansions", MatchKind::PhrasePrefix) => {
                        let n = count(value, "No negative maxExpansions allowed.")?;
                        options.max_expansions = Some(n);
                    }
                    ("operator", MatchKind::Terms | MatchKind::BoolPrefix) => options.operator = operator(value)?,
                    ("minimum_should_match", MatchKind::Terms | MatchKind::BoolPrefix) => {
                        options.minimum_should_match = minimum_should_match(value)?;
                    }
                    ("fuzziness", MatchKind::Terms | MatchKind::BoolPrefix) => fuzzy.fuzziness(value)?,
                    ("prefix_length", MatchKind::Terms | MatchKind::BoolPrefix) => fuzzy.prefix_length(value)?,
                    ("max_expansions", MatchKind::Terms | MatchKind::BoolPrefix) => {
                        options.max_expansions = Some(fuzzy.max_expansions(value)?);
                    }
                    ("fuzzy_transpositions", MatchKind::Terms | MatchKind::BoolPrefix) => {
                        fuzzy.transpositions(value)?;
                    }
                    ("fuzzy_rewrite", MatchKind::Terms | MatchKind::BoolPrefix) => rewrite(value)?,
                    ("lenient", MatchKind::Terms) => options.lenient = flag(value)?,
                    ("cutoff_frequency", MatchKind::Terms) => {
                        float(value)?;
                    }
                    ("auto_generate_synonyms_phrase_query", MatchKind::Terms) => {
                        flag(value)?;
                    }
                    _ => return Err(unsupported(query, key)),
                }
            }
        }
        Value::Array(_) => return Err(parsing(format!("[{query}] unknown token [START_ARRAY] after [{field}]"))),
        value => query_text = scalar(value),
    }
    let Some(query_text) = query_text else {
        return Err(DslError::illegal_argument(format!("[{query}] requires query value")));
    };
    fuzzy.finish(&mut options);
    Ok(QueryKind::Match { field: field.to_owned(), text: query_text, kind, options })
}

/// Rewrite methods change how a multi-term query is run, not what it matches; the names are checked.
pub(super) fn rewrite(value: &Value) -> DslResult<()> {
    let Some(method) = text(value)? else { return Ok(()) };
    let base = method.trim_end_matches(|c: char| c.is_ascii_digit());
    match base {
        "constant_score"
        | "scoring_boolean"
        | "constant_score_boolean"
        | "constant_score_filter"
        | "top_terms_"
        | "top_terms_boost_"
        | "top_terms_blended_freqs_" => Ok(()),
        _ => Err(DslError::illegal_argument(format!("Failed to parse rewrite_method [{method}]"))),
    }
}

fn multi_match_kind(given: &str) -> Option<MultiMatchKind> {
    Some(match given {
        "best_fields" | "boolean" => MultiMatchKind::BestFields,
        "most_fields" => MultiMatchKind::MostFields,
        "cross_fields" => MultiMatchKind::CrossFields,
        "phrase" => MultiMatchKind::Phrase,
        "phrase_prefix" => MultiMatchKind::PhrasePrefix,
        "bool_prefix" => MultiMatchKind::BoolPrefix,
        _ => return None,
    })
}

pub(super) fn multi_match(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut options = TextOptions::default();
    let mut fuzzy = FuzzyParts::default();
    let mut query_text = None;
    let mut names = Vec::new();
    let mut kind = MultiMatchKind::BestFields;
    let mut tie_breaker = None;
    let mut cutoff_given = false;
    for (key, value) in map {
        if key == "fields" {
            names = fields(value, "multi_match")?;
            continue;
        }
        if common.take(key, value)? {
            continue;
        }
        if !is_value(value) {
            return Err(parsing(format!("[multi_match] unknown token [{}] after [{key}]", token(value))));
        }
        match key.as_str() {
            "query" => query_text = scalar(value),
            "type" => {
                let given = required_text(value)?;
                kind = multi_match_kind(&given).ok_or_else(|| {
                    parsing(format!("failed to parse [multi_match] query type [{given}]. unknown type."))
                })?;
            }
            "analyzer" => options.analyzer = text(value)?,
            "slop" => options.slop = count(value, "No negative slop allowed.")?,
            "fuzziness" => fuzzy.fuzziness(value)?,
            "prefix_length" => fuzzy.prefix_length(value)?,
            "max_expansions" => options.max_expansions = Some(fuzzy.max_expansions(value)?),
            "operator" => options.operator = operator(value)?,
            "minimum_should_match" => options.minimum_should_match = minimum_should_match(value)?,
            "fuzzy_rewrite" => rewrite(value)?,
            "tie_breaker" => tie_breaker = Some(float(value)?),
            "cutoff_frequency" => {
                float(value)?;
                cutoff_given = true;
            }
            "lenient" => options.lenient = flag(value)?,
            "zero_terms_query" => options.zero_terms_all = zero_terms(value)?,
            "auto_generate_synonyms_phrase_query" => {
                flag(value)?;
            }
            "fuzzy_transpositions" => fuzzy.transpositions(value)?,
            _ => return Err(unsupported("multi_match", key)),
        }
    }
    let Some(query_text) = query_text else {
        return Err(parsing("No text specified for multi_match query"));
    };
    if fuzzy.given {
        let refused = match kind {
            MultiMatchKind::CrossFields => Some("cross_fields"),
            MultiMatchKind::Phrase => Some("phrase"),
            MultiMatchKind::PhrasePrefix => Some("phrase_prefix"),
            _ => None,
        };
        if let Some(kind) = refused {
            return Err(parsing(format!("Fuzziness not allowed for type [{kind}]")));
        }
    }
    if kind == MultiMatchKind::BoolPrefix && options.slop != 0 {
        return Err(parsing("[slop] not allowed for type [bool_prefix]"));
    }
    if kind == MultiMatchKind::BoolPrefix && cutoff_given {
        return Err(parsing("[cutoff_frequency] not allowed for type [bool_prefix]"));
    }
    fuzzy.finish(&mut options);
    Ok(QueryKind::MultiMatch { fields: names, text: query_text, kind, options, tie_breaker })
}

pub(super) fn query_string(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    const NAME: &str = "query_string";
    let mut q = QueryString { allow_leading_wildcard: true, ..QueryString::default() };
    // The fuzziness that `word~` takes when it names none.
    let mut fuzzy = FuzzyParts { given: true, ..FuzzyParts::default() };
    let mut query_text = None;
    let mut escape = false;
    for (key, value) in map {
        if key == "fields" {
            q.fields = fields(value, NAME)?;
            continue;
        }
        if !is_value(value) {
            return Err(parsing(format!("[{NAME}] unknown token [{}] after [{key}]", token(value))));
        }
        match key.as_str() {
            "query" => query_text = text(value)?,
            "default_field" => q.default_field = text(value)?,
            "default_operator" => q.options.operator = operator(value)?,
            "analyzer" => q.options.analyzer = text(value)?,
            // Quoted phrases use the same analyzer as words here.
            "quote_analyzer" | "quote_field_suffix" | "time_zone" => {
                text(value)?;
            }
            "allow_leading_wildcard" => q.allow_leading_wildcard = flag(value)?,
            "enable_position_increments" | "auto_generate_synonyms_phrase_query" => {
                flag(value)?;
            }
            "max_determinized_states" => {
                int(value)?;
            }
            "escape" => escape = flag(value)?,
            "fuzzy_prefix_length" => fuzzy.prefix_length(value)?,
            "fuzzy_max_expansions" => {
                fuzzy.max_expansions(value)?;
            }
            "fuzzy_rewrite" | "rewrite" => rewrite(value)?,
            "fuzzy_transpositions" => fuzzy.transpositions(value)?,
            "fuzziness" => fuzzy.fuzziness(value)?,
            "phrase_slop" => q.phrase_slop = count(value, "No negative slop allowed.")?,
            "tie_breaker" => q.tie_breaker = Some(float(value)?),
            "analyze_wildcard" => q.analyze_wildcard = flag(value)?,
            "minimum_should_match" => q.options.minimum_should_match = minimum_should_match(value)?,
            "lenient" => q.options.lenient = flag(value)?,
            "type" => {
                let given = required_text(value)?;
                q.kind = multi_match_kind(&given).ok_or_else(|| {
                    parsing(format!("failed to parse [multi_match] query type [{given}]. unknown type."))
                })?;
            }
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported(NAME, key)),
        }
    }
    let Some(query_text) = query_text else {
        return Err(parsing("[query_string] must be provided with a [query]"));
    };
    if q.default_field.is_some() && !q.fields.is_empty() {
        return Err(DslError::illegal_argument("cannot use [fields] parameter in conjunction with [default_field]"));
    }
    q.query = if escape { escaped(&query_text) } else { query_text };
    fuzzy.finish(&mut q.options);
    Ok(QueryKind::QueryString(q))
}

/// A text with a backslash before every operator of the query grammar.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if "\\+-!():^[]\"{}~*?|&/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub(super) fn simple_query_string(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    const NAME: &str = "simple_query_string";
    let mut options = TextOptions::default();
    let mut fuzzy = FuzzyParts { given: true, ..FuzzyParts::default() };
    let mut names = Vec::new();
    let mut flags = u32::MAX;
    let mut analyze_wildcard = false;
    let mut query_text = None;
    for (key, value) in map {
        if key == "fields" {
            names = fields(value, NAME)?;
            continue;
        }
        if !is_value(value) {
            return Err(parsing(format!("[{NAME}] unsupported field [{key}]")));
        }
        match key.as_str() {
            "query" => query_text = text(value)?,
            "analyzer" => options.analyzer = text(value)?,
            "default_operator" => options.operator = operator(value)?,
            "flags" => flags = simple_flags(value)?,
            "lenient" => options.lenient = flag(value)?,
            "analyze_wildcard" => analyze_wildcard = flag(value)?,
            "minimum_should_match" => options.minimum_should_match = minimum_should_match(value)?,
            "quote_field_suffix" => {
                text(value)?;
            }
            "auto_generate_synonyms_phrase_query" => {
                flag(value)?;
            }
            "fuzzy_prefix_length" => fuzzy.prefix_length(value)?,
            "fuzzy_max_expansions" => {
                fuzzy.max_expansions(value)?;
            }
            "fuzzy_transpositions" => fuzzy.transpositions(value)?,
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported(NAME, key)),
        }
    }
    let Some(query) = query_text else {
        return Err(parsing("[simple_query_string] query text missing"));
    };
    fuzzy.finish(&mut options);
    Ok(QueryKind::SimpleQueryString { query, fields: names, options, flags, analyze_wildcard })
}

fn simple_flags(value: &Value) -> DslResult<u32> {
    if value.is_number() {
        let bits = int(value)?;
        return Ok(if bits < 0 { u32::MAX } else { bits as u32 });
    }
    let mut bits = 0;
    for name in required_text(value)?.split('|').map(str::trim).filter(|f| !f.is_empty()) {
        bits |= match name.to_ascii_uppercase().as_str() {
            "ALL" => return Ok(u32::MAX),
            "NONE" => return Ok(0),
            "AND" => 1,
            "NOT" => 1 << 1,
            "OR" => 1 << 2,
            "PREFIX" => 1 << 3,
            "PHRASE" => 1 << 4,
            "PRECEDENCE" => 1 << 5,
            "ESCAPE" => 1 << 6,
            "WHITESPACE" => 1 << 7,
            "FUZZY" => 1 << 8,
            "NEAR" | "SLOP" => 1 << 9,
            _ => return Err(DslError::illegal_argument(format!("Unknown simple_query_string flag [{name}]"))),
        };
    }
    Ok(bits)
}

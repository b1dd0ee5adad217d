//! The query DSL: JSON to [`Query`].
//!
//! Every query reads its own keys and refuses the others. Compound queries nest at most [`DEPTH_MAX`] deep.

use ringdex_engine::query::{
    Bound, MatchKind, MultiMatchKind, Query, QueryKind, QueryString, TextOptions, Value as Scalar,
};
use serde_json::{Map, Value};

use super::suggest::suggest;
use super::text::{FuzzyParts, fields, minimum_should_match, operator, zero_terms};
use super::value::{
    count, failed_field, flag, float, int, is_value, object, parsing, required_text, scalar, strings, text, token,
    x_content,
};
use super::{DslError, DslResult};

/// Queries inside one another.
pub const DEPTH_MAX: usize = 30;

const NAMES: [&str; 23] = [
    "bool",
    "boosting",
    "constant_score",
    "dis_max",
    "exists",
    "fuzzy",
    "ids",
    "match",
    "match_all",
    "match_bool_prefix",
    "match_none",
    "match_phrase",
    "match_phrase_prefix",
    "multi_match",
    "prefix",
    "query_string",
    "range",
    "regexp",
    "simple_query_string",
    "term",
    "terms",
    "wildcard",
    "wrapper",
];

/// Reads one query, `{"match": {...}}`.
pub fn parse_query(json: &Value) -> DslResult<Query> {
    query(json, 0)
}

fn query(json: &Value, depth: usize) -> DslResult<Query> {
    let Some(outer) = object(json) else {
        return Err(parsing("[_na] query malformed, must start with start_object"));
    };
    if depth > DEPTH_MAX {
        return Err(DslError::illegal_argument(format!(
            "The nested depth of the query exceeds the maximum nested depth for bool queries set in \
             [indices.query.bool.max_nested_depth]: [{DEPTH_MAX}]"
        )));
    }
    let mut members = outer.iter();
    let Some((name, body)) = members.next() else {
        return Err(DslError::illegal_argument("query malformed, empty clause found"));
    };
    let Some(map) = object(body) else {
        return Err(parsing(format!("[{name}] query malformed, no start_object after query name")));
    };
    let mut common = Common { boost: 1.0, name: None };
    let kind = match name.as_str() {
        "match_all" => {
            declared(map, "match_all", &[], &mut common)?;
            QueryKind::MatchAll
        }
        "match_none" => {
            declared(map, "match_none", &[], &mut common)?;
            QueryKind::MatchNone
        }
        "match" => matching(map, "match", MatchKind::Terms, &mut common)?,
        "match_phrase" => matching(map, "match_phrase", MatchKind::Phrase, &mut common)?,
        "match_phrase_prefix" => matching(map, "match_phrase_prefix", MatchKind::PhrasePrefix, &mut common)?,
        "match_bool_prefix" => matching(map, "match_bool_prefix", MatchKind::BoolPrefix, &mut common)?,
        "multi_match" => multi_match(map, &mut common)?,
        "term" => term(map, &mut common)?,
        "terms" => terms(map, &mut common)?,
        "range" => range(map, &mut common)?,
        "exists" => exists(map, &mut common)?,
        "ids" => ids(map, &mut common)?,
        "prefix" | "wildcard" => pattern(map, name, &mut common)?,
        "regexp" => regexp(map, &mut common)?,
        "fuzzy" => fuzzy(map, &mut common)?,
        "bool" => boolean(map, depth, &mut common)?,
        "constant_score" => constant_score(map, depth, &mut common)?,
        "dis_max" => dis_max(map, depth, &mut common)?,
        "boosting" => boosting(map, depth, &mut common)?,
        "query_string" => query_string(map, &mut common)?,
        "simple_query_string" => simple_query_string(map, &mut common)?,
        "wrapper" => {
            let inner = wrapper(map, depth)?;
            closing(name, members.next())?;
            return Ok(inner);
        }
        _ => {
            let error = parsing(format!("unknown query [{name}]{}", suggest(name, &NAMES)));
            return Err(error.because(DslError::new(
                400,
                "named_object_not_found_exception",
                format!("unknown field [{name}]"),
            )));
        }
    };
    closing(name, members.next())?;
    if common.boost < 0.0 {
        return Err(DslError::illegal_argument(format!(
            "negative [boost] are not allowed in [{name}], use a value between 0 and 1 to deboost"
        )));
    }
    Ok(Query { kind, boost: common.boost, name: common.name })
}

/// A query object has one member.
fn closing(name: &str, next: Option<(&String, &Value)>) -> DslResult<()> {
    if next.is_some() {
        return Err(parsing(format!("[{name}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]")));
    }
    Ok(())
}

/// What every query can carry.
struct Common {
    boost: f32,
    name: Option<String>,
}

impl Common {
    /// Whether the key was one of these.
    fn take(&mut self, key: &str, value: &Value) -> DslResult<bool> {
        match key {
            "boost" => self.boost = float(value)?,
            "_name" => self.name = text(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn unsupported(query: &str, key: &str) -> DslError {
    parsing(format!("[{query}] query does not support [{key}]"))
}

/// For queries whose objects Elasticsearch declares: an unknown key gets suggestions.
fn undeclared(parser: &str, key: &str, known: &[&str]) -> DslError {
    let mut candidates = known.to_vec();
    candidates.extend(["boost", "_name"]);
    x_content(format!("[{parser}] unknown field [{key}]{}", suggest(key, &candidates)))
}

fn declared(map: &Map<String, Value>, parser: &str, known: &[&str], common: &mut Common) -> DslResult<()> {
    for (key, value) in map {
        if !common.take(key, value)? && !known.contains(&key.as_str()) {
            return Err(undeclared(parser, key, known));
        }
    }
    Ok(())
}

/// The one field of a query that looks at one: its name and what is below it.
fn one_field<'a>(map: &'a Map<String, Value>, query: &str) -> DslResult<(&'a str, &'a Value)> {
    let mut members = map.iter();
    let Some((field, value)) = members.next() else {
        return Err(DslError::illegal_argument(match query {
            "term" | "fuzzy" | "prefix" | "wildcard" | "regexp" => "field name is null or empty".to_owned(),
            _ => format!("[{query}] requires fieldName"),
        }));
    };
    if let Some((second, _)) = members.next() {
        return Err(parsing(format!(
            "[{query}] query doesn't support multiple fields, found [{field}] and [{second}]"
        )));
    }
    Ok((field, value))
}

fn matching(map: &Map<String, Value>, query: &str, kind: MatchKind, common: &mut Common) -> DslResult<QueryKind> {
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
fn rewrite(value: &Value) -> DslResult<()> {
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

fn multi_match(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
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

fn term(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    if map.values().any(Value::is_array) {
        return Err(parsing("[term] query does not support array of values"));
    }
    let (field, below) = one_field(map, "term")?;
    let mut case_insensitive = false;
    let mut value = None;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" | "term" => value = scalar(given),
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("term", key)),
                }
            }
        }
        given => value = scalar(given),
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    Ok(QueryKind::Term { field: field.to_owned(), value, case_insensitive })
}

fn terms(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut found: Option<QueryKind> = None;
    for (key, given) in map {
        match given {
            Value::Array(items) => {
                if found.is_some() {
                    return Err(parsing("[terms] query does not support multiple fields"));
                }
                let values = items
                    .iter()
                    .map(|v| scalar(v).ok_or_else(|| parsing("No value specified for terms query")))
                    .collect::<DslResult<Vec<_>>>()?;
                found = Some(QueryKind::Terms { field: key.clone(), values });
            }
            Value::Object(_) => {
                if found.is_some() {
                    return Err(parsing("[terms] query does not support more than one field. Already got: [terms]"));
                }
                return Err(parsing(format!("[terms] query does not support a document lookup for [{key}]")));
            }
            value => {
                if !common.take(key, value)? {
                    return Err(unsupported("terms", key));
                }
            }
        }
    }
    found.ok_or_else(|| {
        parsing("[terms] query requires a field name, followed by array of terms or a document lookup specification")
    })
}

fn range(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut found: Option<(&String, &Map<String, Value>)> = None;
    for (key, given) in map {
        match given {
            Value::Object(body) => {
                if let Some((first, _)) = found {
                    return Err(parsing(format!(
                        "[range] query doesn't support multiple fields, found [{first}] and [{key}]"
                    )));
                }
                found = Some((key, body));
            }
            value if is_value(value) && common.take(key, value)? => {}
            _ => return Err(unsupported("range", key)),
        }
    }
    let Some((field, body)) = found else { return Err(DslError::illegal_argument("field name is null or empty")) };
    let (mut lower, mut upper, mut include_lower, mut include_upper) = (None, None, true, true);
    let (mut format, mut time_zone) = (None, None);
    for (key, value) in body {
        if matches!(value, Value::Array(_) | Value::Object(_)) {
            return Err(unsupported("range", key));
        }
        match key.as_str() {
            "from" => lower = scalar(value),
            "to" => upper = scalar(value),
            "include_lower" => include_lower = flag(value)?,
            "include_upper" => include_upper = flag(value)?,
            "gt" => (lower, include_lower) = (scalar(value), false),
            "gte" | "ge" => (lower, include_lower) = (scalar(value), true),
            "lt" => (upper, include_upper) = (scalar(value), false),
            "lte" | "le" => (upper, include_upper) = (scalar(value), true),
            "format" => format = text(value)?,
            "time_zone" => time_zone = text(value)?,
            // Which range fields match; on single values all three are the same.
            "relation" => match required_text(value)?.to_ascii_lowercase().as_str() {
                "intersects" | "within" | "contains" => {}
                "disjoint" => {
                    return Err(DslError::illegal_argument("[range] query does not support relation [disjoint]"));
                }
                other => {
                    return Err(DslError::illegal_argument(format!("{other} is not a valid relation")));
                }
            },
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported("range", key)),
        }
    }
    let bound = |value: Option<Scalar>, inclusive| value.map(|value| Bound { value, inclusive });
    Ok(QueryKind::Range {
        field: field.clone(),
        lower: bound(lower, include_lower),
        upper: bound(upper, include_upper),
        format,
        time_zone,
    })
}

fn exists(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut field = None;
    for (key, value) in map {
        if !is_value(value) {
            return Err(parsing(format!("[exists] unknown token [{}] after [{key}]", token(value))));
        }
        match key.as_str() {
            "field" => field = text(value)?,
            _ if common.take(key, value)? => {}
            _ => return Err(unsupported("exists", key)),
        }
    }
    match field {
        Some(field) if !field.is_empty() => Ok(QueryKind::Exists { field }),
        Some(_) => Err(DslError::illegal_argument("field name is null or empty")),
        None => Err(parsing("[exists] must be provided with a [field]")),
    }
}

fn ids(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let mut values = None;
    for (key, value) in map {
        match key.as_str() {
            "values" => values = Some(strings(value).map_err(|e| failed_field("ids", "values", e))?),
            // Types are gone since 7; the key is still taken.
            "type" | "types" | "_type" => {}
            _ if common.take(key, value)? => {}
            _ => return Err(undeclared("ids", key, &["values", "type"])),
        }
    }
    let values = values.ok_or_else(|| DslError::illegal_argument("Required [values]"))?;
    Ok(QueryKind::Ids { values })
}

/// `prefix` and `wildcard`.
fn pattern(map: &Map<String, Value>, query: &str, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, query)?;
    let mut value = None;
    let mut case_insensitive = false;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" => value = text(given)?,
                    key if key == query => value = text(given)?,
                    "rewrite" => rewrite(given)?,
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported(query, key)),
                }
            }
        }
        given => value = text(given)?,
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    let field = field.to_owned();
    Ok(match query {
        "prefix" => QueryKind::Prefix { field, value, case_insensitive },
        _ => QueryKind::Wildcard { field, value, case_insensitive },
    })
}

fn regexp(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, "regexp")?;
    let mut value = None;
    let mut case_insensitive = false;
    let mut max_determinized_states = 10_000;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                match key.as_str() {
                    "value" => value = text(given)?,
                    "flags" => regexp_flags(&required_text(given)?)?,
                    "flags_value" => {
                        int(given)?;
                    }
                    "max_determinized_states" => {
                        max_determinized_states = count(given, "[max_determinized_states] must not be negative")?;
                    }
                    "rewrite" => rewrite(given)?,
                    "case_insensitive" => case_insensitive = flag(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("regexp", key)),
                }
            }
        }
        given => value = text(given)?,
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("value cannot be null")) };
    Ok(QueryKind::Regexp { field: field.to_owned(), value, case_insensitive, max_determinized_states })
}

/// The optional operators are always on; the names are checked.
fn regexp_flags(flags: &str) -> DslResult<()> {
    for flag in flags.split('|').filter(|f| !f.is_empty()) {
        match flag.to_ascii_uppercase().as_str() {
            "INTERSECTION" | "COMPLEMENT" | "EMPTY" | "ANYSTRING" | "INTERVAL" | "NONE" | "ALL" => {}
            upper => {
                return Err(DslError::illegal_argument(format!(
                    "No enum constant org.elasticsearch.index.query.RegexpFlag.{upper}"
                )));
            }
        }
    }
    Ok(())
}

fn fuzzy(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
    let (field, below) = one_field(map, "fuzzy")?;
    let mut parts = FuzzyParts::default();
    let mut value = None;
    match below {
        Value::Object(body) => {
            for (key, given) in body {
                if !is_value(given) {
                    return Err(parsing(format!("[fuzzy] unexpected token [{}] after [{key}]", token(given))));
                }
                match key.as_str() {
                    "value" | "term" => value = scalar(given),
                    "fuzziness" => parts.fuzziness(given)?,
                    "prefix_length" => parts.prefix_length(given)?,
                    "max_expansions" => {
                        parts.max_expansions(given)?;
                    }
                    "transpositions" => parts.transpositions(given)?,
                    "rewrite" => rewrite(given)?,
                    _ if common.take(key, given)? => {}
                    _ => return Err(unsupported("fuzzy", key)),
                }
            }
        }
        given => value = scalar(given),
    }
    let Some(value) = value else { return Err(DslError::illegal_argument("query value cannot be null")) };
    Ok(QueryKind::Fuzzy { field: field.to_owned(), value, fuzziness: parts.value })
}

/// One query, a list of them, or null.
fn clauses(json: &Value, depth: usize, into: &mut Vec<Query>) -> DslResult<()> {
    match json {
        Value::Null => {}
        Value::Array(items) => {
            for item in items.iter().filter(|i| !i.is_null()) {
                into.push(query(item, depth + 1)?);
            }
        }
        one => into.push(query(one, depth + 1)?),
    }
    Ok(())
}

fn boolean(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
    const KNOWN: [&str; 6] = ["must", "filter", "should", "must_not", "minimum_should_match", "adjust_pure_negative"];
    let (mut must, mut filter, mut should, mut must_not) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut minimum = None;
    for (key, value) in map {
        let list = match key.as_str() {
            "must" => &mut must,
            "filter" => &mut filter,
            "should" => &mut should,
            "must_not" | "mustNot" => &mut must_not,
            "minimum_should_match" => {
                minimum = minimum_should_match(value).map_err(|e| failed_field("bool", key, e))?;
                continue;
            }
            "adjust_pure_negative" => {
                flag(value).map_err(|e| failed_field("bool", key, e))?;
                continue;
            }
            _ if common.take(key, value)? => continue,
            _ => return Err(undeclared("bool", key, &KNOWN)),
        };
        if !matches!(value, Value::Null | Value::Array(_) | Value::Object(_)) {
            return Err(x_content(format!("[bool] {key} doesn't support values of type: {}", token(value))));
        }
        clauses(value, depth, list).map_err(|e| failed_field("bool", key, e))?;
    }
    Ok(QueryKind::Bool { must, filter, should, must_not, minimum_should_match: minimum })
}

fn constant_score(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
    let mut filter = None;
    for (key, value) in map {
        match (key.as_str(), value) {
            (_, Value::Array(_)) => return Err(parsing("unexpected token [START_ARRAY]")),
            ("filter", Value::Object(_)) => {
                if filter.is_some() {
                    return Err(parsing("[constant_score] accepts only one 'filter' element."));
                }
                filter = Some(query(value, depth + 1)?);
            }
            _ if is_value(value) && common.take(key, value)? => {}
            _ => return Err(unsupported("constant_score", key)),
        }
    }
    let filter = filter.ok_or_else(|| parsing("[constant_score] requires a 'filter' element"))?;
    Ok(QueryKind::ConstantScore { filter: Box::new(filter) })
}

fn dis_max(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
    let mut queries = Vec::new();
    let mut tie_breaker = 0.0;
    for (key, value) in map {
        match key.as_str() {
            "queries" if !is_value(value) => clauses(value, depth, &mut queries)?,
            "tie_breaker" => tie_breaker = float(value)?,
            _ if is_value(value) && common.take(key, value)? => {}
            _ => return Err(unsupported("dis_max", key)),
        }
    }
    if queries.is_empty() {
        return Err(parsing("[dis_max] requires 'queries' field with at least one clause"));
    }
    Ok(QueryKind::DisMax { queries, tie_breaker })
}

fn boosting(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
    let (mut positive, mut negative, mut negative_boost) = (None, None, -1.0);
    for (key, value) in map {
        match (key.as_str(), value) {
            ("positive", Value::Object(_)) => positive = Some(query(value, depth + 1)?),
            ("negative", Value::Object(_)) => negative = Some(query(value, depth + 1)?),
            ("negative_boost", _) => negative_boost = float(value)?,
            _ if is_value(value) && common.take(key, value)? => {}
            _ => return Err(unsupported("boosting", key)),
        }
    }
    let positive = positive.ok_or_else(|| parsing("[boosting] query requires 'positive' query to be set'"))?;
    let negative = negative.ok_or_else(|| parsing("[boosting] query requires 'negative' query to be set'"))?;
    if negative_boost.is_nan() || negative_boost < 0.0 {
        return Err(parsing("[boosting] query requires 'negative_boost' to be set to be a positive value'"));
    }
    Ok(QueryKind::Boosting { positive: Box::new(positive), negative: Box::new(negative), negative_boost })
}

fn query_string(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
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

fn simple_query_string(map: &Map<String, Value>, common: &mut Common) -> DslResult<QueryKind> {
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

/// A query as base64 of its JSON.
fn wrapper(map: &Map<String, Value>, depth: usize) -> DslResult<Query> {
    use base64::Engine as _;
    let mut members = map.iter();
    let Some((key, value)) = members.next() else {
        return Err(parsing("[wrapper] query malformed"));
    };
    if key != "query" {
        return Err(parsing(format!("[wrapper] query malformed, expected `query` but was [{key}]")));
    }
    if members.next().is_some() {
        return Err(parsing("[wrapper] malformed query, expected [END_OBJECT] but found [FIELD_NAME]"));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(required_text(value)?).map_err(|e| {
        DslError::new(400, "json_parse_exception", format!("Failed to decode VALUE_STRING as base64: {e}"))
    })?;
    let inner: Value = serde_json::from_slice(&bytes).map_err(|e| crate::rest::params::json_error(&e, &bytes))?;
    query(&inner, depth + 1)
}

#[cfg(test)]
mod tests;

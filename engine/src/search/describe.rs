//! Queries as people read them: what kind, about what, and what they are made of.

use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::{Bound, MatchKind, Query, QueryKind};
use crate::search::compile::{compile, value_text};
use crate::search::{IndexContext, Searcher};

/// Compiles a query and forgets it: for those who want to know what that costs.
///
/// # Errors
/// Those of the query phase.
pub async fn compile_only<P: Pace>(
    query: &Query,
    mapping: &Mapping,
    index: &IndexContext,
    searcher: &Searcher,
    now_ms: i64,
    scores: bool,
    pace: &P,
) -> crate::error::Result<()> {
    compile(query, mapping, index, searcher, now_ms, scores, pace).await.map(drop)
}

/// The kind, as profiles name it.
#[must_use]
pub fn kind(query: &Query) -> &'static str {
    match &query.kind {
        QueryKind::MatchAll => "MatchAllDocsQuery",
        QueryKind::MatchNone => "MatchNoDocsQuery",
        QueryKind::Match { kind: MatchKind::Terms, .. } => "MatchQuery",
        QueryKind::Match { kind: MatchKind::Phrase, .. } => "PhraseQuery",
        QueryKind::Match { kind: MatchKind::PhrasePrefix, .. } => "MultiPhrasePrefixQuery",
        QueryKind::Match { kind: MatchKind::BoolPrefix, .. } => "MatchBoolPrefixQuery",
        QueryKind::MultiMatch { .. } => "MultiMatchQuery",
        QueryKind::Term { .. } => "TermQuery",
        QueryKind::Terms { .. } => "TermInSetQuery",
        QueryKind::Slice { .. } => "SliceQuery",
        QueryKind::Range { .. } => "RangeQuery",
        QueryKind::Exists { .. } => "ExistsQuery",
        QueryKind::Ids { .. } => "IdsQuery",
        QueryKind::Prefix { .. } => "PrefixQuery",
        QueryKind::Wildcard { .. } => "WildcardQuery",
        QueryKind::Regexp { .. } => "RegexpQuery",
        QueryKind::Fuzzy { .. } => "FuzzyQuery",
        QueryKind::Bool { .. } => "BooleanQuery",
        QueryKind::ConstantScore { .. } => "ConstantScoreQuery",
        QueryKind::DisMax { .. } => "DisjunctionMaxQuery",
        QueryKind::Boosting { .. } => "BoostingQuery",
        QueryKind::QueryString(_) => "QueryStringQuery",
        QueryKind::SimpleQueryString { .. } => "SimpleQueryStringQuery",
    }
}

/// What it asks for, in the manner of Lucene's query grammar.
#[must_use]
pub fn description(query: &Query) -> String {
    let list = |queries: &[Query], sign: &str| -> Vec<String> {
        queries.iter().map(|q| format!("{sign}{}", nested(q))).collect()
    };
    let text = match &query.kind {
        QueryKind::MatchAll => "*:*".to_owned(),
        QueryKind::MatchNone => "-*:*".to_owned(),
        QueryKind::Match { field, text, kind: MatchKind::Phrase, .. } => format!("{field}:\"{}\"", value_text(text)),
        QueryKind::Match { field, text, kind: MatchKind::PhrasePrefix, .. } => {
            format!("{field}:\"{}*\"", value_text(text))
        }
        QueryKind::Match { field, text, kind: MatchKind::BoolPrefix, .. } => format!("{field}:({}*)", value_text(text)),
        QueryKind::Match { field, text, .. } => format!("{field}:({})", value_text(text)),
        QueryKind::MultiMatch { fields, text, .. } => {
            let fields: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}:({})", fields.join(","), value_text(text))
        }
        QueryKind::Term { field, value, .. } => format!("{field}:{}", value_text(value)),
        QueryKind::Terms { field, values } => {
            let shown: Vec<String> = values.iter().take(8).map(value_text).collect();
            format!("{field}:({}{})", shown.join(" "), if values.len() > 8 { " ..." } else { "" })
        }
        QueryKind::Slice { field, id, max } => format!("slice [{id}] of [{max}] by [{field}]"),
        QueryKind::Range { field, lower, upper, .. } => format!("{field}:{}", range(lower.as_ref(), upper.as_ref())),
        QueryKind::Exists { field } => format!("{field}:*"),
        QueryKind::Ids { values } => format!("_id:({})", values.join(" ")),
        QueryKind::Prefix { field, value, .. } => format!("{field}:{value}*"),
        QueryKind::Wildcard { field, value, .. } => format!("{field}:{value}"),
        QueryKind::Regexp { field, value, .. } => format!("{field}:/{value}/"),
        QueryKind::Fuzzy { field, value, .. } => format!("{field}:{}~", value_text(value)),
        QueryKind::Bool { must, filter, should, must_not, minimum_should_match } => {
            let parts = [list(must, "+"), list(filter, "#"), list(should, ""), list(must_not, "-")].concat();
            let least = minimum_should_match.as_ref().map(|least| format!("~{least}")).unwrap_or_default();
            format!("{}{least}", parts.join(" "))
        }
        QueryKind::ConstantScore { filter } => format!("ConstantScore({})", description(filter)),
        QueryKind::DisMax { queries, tie_breaker } => {
            let tie = if *tie_breaker > 0.0 { format!("~{tie_breaker}") } else { String::new() };
            format!("({}){tie}", list(queries, "").join(" | "))
        }
        QueryKind::Boosting { positive, negative, .. } => format!("{}/{}", nested(positive), nested(negative)),
        QueryKind::QueryString(q) => q.query.clone(),
        QueryKind::SimpleQueryString { query, .. } => query.clone(),
    };
    if query.boost == 1.0 { text } else { format!("({text})^{}", query.boost) }
}

fn nested(query: &Query) -> String {
    let text = description(query);
    if matches!(query.kind, QueryKind::Bool { .. }) { format!("({text})") } else { text }
}

fn range(lower: Option<&Bound>, upper: Option<&Bound>) -> String {
    let from =
        lower.map_or("[*".to_owned(), |b| format!("{}{}", if b.inclusive { '[' } else { '{' }, value_text(&b.value)));
    let to =
        upper.map_or("*]".to_owned(), |b| format!("{}{}", value_text(&b.value), if b.inclusive { ']' } else { '}' }));
    format!("{from} TO {to}")
}

/// The queries it is made of, and whether their scores count.
#[must_use]
pub fn children(query: &Query, scores: bool) -> Vec<(&Query, bool)> {
    fn all(queries: &[Query], scores: bool) -> Vec<(&Query, bool)> {
        queries.iter().map(|q| (q, scores)).collect()
    }
    match &query.kind {
        QueryKind::Bool { must, filter, should, must_not, .. } => {
            [all(must, scores), all(filter, false), all(should, scores), all(must_not, false)].concat()
        }
        QueryKind::ConstantScore { filter } => vec![(&**filter, false)],
        QueryKind::DisMax { queries, .. } => all(queries, scores),
        QueryKind::Boosting { positive, negative, .. } => vec![(&**positive, scores), (&**negative, false)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Value;

    fn term(field: &str, value: i64) -> Query {
        QueryKind::Term { field: field.into(), value: Value::Int(value), case_insensitive: false }.into()
    }

    #[test]
    fn a_tree_reads_like_lucenes() {
        let inner = Query { boost: 2.0, ..term("b", 2) };
        let nested = QueryKind::Bool {
            must: Vec::new(),
            filter: Vec::new(),
            should: vec![inner, term("c", 3)],
            must_not: Vec::new(),
            minimum_should_match: Some("1".into()),
        };
        let bound = Bound { value: Value::Int(5), inclusive: false };
        let range =
            QueryKind::Range { field: "n".into(), lower: Some(bound), upper: None, format: None, time_zone: None };
        let query: Query = QueryKind::Bool {
            must: vec![term("a", 1), nested.into()],
            filter: vec![range.into()],
            should: Vec::new(),
            must_not: vec![QueryKind::MatchAll.into()],
            minimum_should_match: None,
        }
        .into();
        assert_eq!(description(&query), "+a:1 +((b:2)^2 c:3~1) #n:{5 TO *] -*:*");
        assert_eq!(kind(&query), "BooleanQuery");
        let scored: Vec<bool> = children(&query, true).iter().map(|(_, scores)| *scores).collect();
        assert_eq!(scored, [true, true, false, false]);
    }
}

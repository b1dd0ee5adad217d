//! Queries made of queries.

use ringdex_engine::query::{Query, QueryKind};
use serde_json::{Map, Value};

use super::{Common, query, undeclared, unsupported};
use crate::dsl::DslResult;
use crate::dsl::text::minimum_should_match;
use crate::dsl::value::{failed_field, flag, float, is_value, parsing, token, x_content};

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

pub(super) fn boolean(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
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

pub(super) fn constant_score(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
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

pub(super) fn dis_max(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
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

pub(super) fn boosting(map: &Map<String, Value>, depth: usize, common: &mut Common) -> DslResult<QueryKind> {
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

//! Parameters of aggregations that compute numbers.

use ringdex_engine::search::aggs::{AggKind, PercentileMethod, TopHitsRequest, ValuesSource};
use serde_json::{Map, Value};

use super::{Params, bad, number, parsing, token};
use crate::dsl::DslResult;
use crate::dsl::search::parse_search;

pub(in crate::dsl) fn numbers(p: &mut Params<'_>, key: &'static str) -> DslResult<Option<Vec<f64>>> {
    if let Some(null @ Value::Null) = p.map.get(key) {
        return Err(p.wrong(key, null));
    }
    let Some(list) = p.list(key)? else { return Ok(None) };
    let mut values: Vec<f64> =
        list.iter().map(|v| number(v).ok_or_else(|| p.wrong(key, v))).collect::<DslResult<_>>()?;
    values.sort_by(f64::total_cmp);
    Ok(Some(values))
}

/// An option of a percentile method; null is no number.
fn method_number(p: &Params<'_>, options: &Value, key: &str, default: f64) -> DslResult<f64> {
    match options.get(key) {
        None => Ok(default),
        Some(value) => number(value).ok_or_else(|| p.wrong(key, value)),
    }
}

pub(super) fn method(p: &mut Params<'_>) -> DslResult<PercentileMethod> {
    if let Some(hdr) = p.get("hdr") {
        let digits = method_number(p, hdr, "number_of_significant_value_digits", 3.0)?;
        if !(0.0..=5.0).contains(&digits) {
            return Err(bad("[numberOfSignificantValueDigits] must be between 0 and 5"));
        }
        return Ok(PercentileMethod::Hdr { digits: digits as u8 });
    }
    let compression = match p.get("tdigest") {
        None => 100.0,
        Some(options) => method_number(p, options, "compression", 100.0)?,
    };
    if compression < 0.0 {
        return Err(bad(format!("[compression] must be greater than or equal to 0. Found [{compression:?}]")));
    }
    Ok(PercentileMethod::TDigest { compression })
}

pub(super) fn weighted_avg(p: &mut Params<'_>) -> DslResult<AggKind> {
    let mut part = |key: &'static str| -> DslResult<ValuesSource> {
        let name = p.name;
        let Some(Value::Object(map)) = p.get(key) else {
            return Err(bad(format!("Required [{key}] in [{name}]")));
        };
        let mut inner = Params { name, kind: "weighted_avg", map, known: Vec::new() };
        let source = inner.source()?;
        inner.finish()?;
        Ok(source)
    };
    let (value, weight) = (part("value")?, part("weight")?);
    p.get("value_type");
    Ok(AggKind::WeightedAvg { value, weight, format: p.text("format")? })
}

/// The parameters are those of a search that has no query.
pub(super) fn top_hits(name: &str, map: &Map<String, Value>) -> DslResult<AggKind> {
    const KEYS: [&str; 12] = [
        "from",
        "size",
        "sort",
        "_source",
        "version",
        "seq_no_primary_term",
        "explain",
        "track_scores",
        "stored_fields",
        "docvalue_fields",
        "fields",
        "highlight",
    ];
    if let Some((key, value)) = map.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return Err(parsing(format!("Unknown key for a {} in [{name}]: [{key}].", token(value))));
    }
    if map.contains_key("highlight") || map.get("explain") == Some(&Value::Bool(true)) {
        return Err(bad(format!("[highlight] and [explain] are not supported in aggregation [{name}]")));
    }
    let body = parse_search(&Value::Object(map.clone()))?;
    Ok(AggKind::TopHits(Box::new(TopHitsRequest {
        from: body.from,
        size: if map.contains_key("size") { body.size } else { 3 },
        sort: body.request.sort,
        track_scores: body.request.track_scores,
        fetch: body.fetch,
    })))
}

//! Pipeline aggregations: computed from the answer of other aggregations, once all shards are merged.
//!
//! They work on rendered buckets: what a path leads to is what the client sees there, and a number that the answer
//! shows as null is a gap.

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::search::aggs::finalize::{double_json, metric_value, put_value};
use crate::search::aggs::format::{Printer, ValueFormat, java_double};
use crate::search::aggs::partial::StatsPartial;
use crate::search::aggs::path::type_name;
use crate::search::aggs::{AggKind, AggRequest, Metric, PipelineKind, PipelineRequest, ValuesSource};

type Object = Map<String, Json>;

/// The result under a name, with or without the type that `typed_keys` puts before it.
fn find<'a>(object: &'a Object, name: &str) -> Option<&'a Object> {
    let found = object.get(name).or_else(|| {
        object.iter().find(|(key, _)| key.split_once('#').is_some_and(|(_, plain)| plain == name)).map(|(_, v)| v)
    });
    found?.as_object()
}

/// `a>b.c` and `a>b[c]` as a, b, c.
fn steps(path: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut parts = path.split('>').map(str::trim).peekable();
    while let Some(part) = parts.next() {
        if let Some(open) = part.find('[')
            && part.ends_with(']')
        {
            out.extend([&part[..open], &part[open + 1..part.len() - 1]]);
        } else if let (None, Some((name, property))) = (parts.peek(), part.rsplit_once('.')) {
            out.extend([name, property]);
        } else {
            out.push(part);
        }
    }
    out
}

/// What a request's result is called where it cannot be used as a number.
fn class_of(kind: &AggKind, result: &Object) -> &'static str {
    match kind {
        AggKind::Terms(_) => {
            let key = result.get("buckets").and_then(Json::as_array).and_then(|b| b.first()).and_then(|b| b.get("key"));
            match key {
                None => "UnmappedTerms",
                Some(Json::Number(n)) if n.is_f64() => "DoubleTerms",
                Some(Json::Number(_)) => "LongTerms",
                Some(_) => "StringTerms",
            }
        }
        AggKind::Histogram(_) => "InternalHistogram",
        AggKind::DateHistogram(_) => "InternalDateHistogram",
        AggKind::Range(r) if r.date => "InternalDateRange",
        AggKind::Range(_) => "InternalRange",
        AggKind::IpRange(_) => "InternalBinaryRange",
        AggKind::Filters(_) => "InternalFilters",
        AggKind::Filter { .. } => "InternalFilter",
        AggKind::Missing { .. } => "InternalMissing",
        AggKind::Global => "InternalGlobal",
        AggKind::Composite(_) => "InternalComposite",
        AggKind::TopHits(_) => "InternalTopHits",
        _ => "InternalAggregation",
    }
}

fn unusable(what: &str) -> Error {
    Error::request(
        "aggregation_execution_exception",
        format!(
            "buckets_path must reference either a number value or a single value numeric metric aggregation, {what}"
        ),
    )
}

/// A number, or NaN where there is none.
fn number(value: Option<&Json>) -> f64 {
    value.and_then(Json::as_f64).unwrap_or(f64::NAN)
}

/// The number at the end of a path below a bucket. As deep as the path is long.
fn property(bucket: &Object, requests: &[AggRequest], path: &[&str]) -> Result<f64> {
    let [name, rest @ ..] = path else { return Ok(f64::NAN) };
    if rest.is_empty() && *name == "_count" {
        return Ok(number(bucket.get("doc_count")));
    }
    if rest.is_empty() && *name == "_key" {
        return Ok(number(bucket.get("key")));
    }
    let Some(request) = requests.iter().find(|r| r.name == *name) else {
        return Err(Error::request(
            "invalid_aggregation_path_exception",
            format!("Cannot find an aggregation named [{name}]"),
        ));
    };
    // A pipeline gives nothing to some buckets.
    let Some(result) = find(bucket, name) else { return Ok(f64::NAN) };
    match &request.kind {
        AggKind::Filter { .. } | AggKind::Missing { .. } | AggKind::Global if !rest.is_empty() => {
            property(result, &request.subs, rest)
        }
        AggKind::Metric { metric: Metric::Stats | Metric::ExtendedStats { .. }, .. } => match rest {
            [one] => Ok(match *one {
                "std_upper" => number(result.get("std_deviation_bounds").and_then(|b| b.get("upper"))),
                "std_lower" => number(result.get("std_deviation_bounds").and_then(|b| b.get("lower"))),
                other => number(result.get(other)),
            }),
            _ => Err(several(name)),
        },
        AggKind::Percentiles { .. } | AggKind::PercentileRanks { .. } => match rest {
            [one] => {
                let Ok(at) = one.parse::<f64>() else { return Err(several(name)) };
                Ok(match result.get("values") {
                    Some(Json::Object(values)) => number(values.get(&java_double(at))),
                    Some(Json::Array(values)) => {
                        let found = values.iter().find(|v| v.get("key").and_then(Json::as_f64) == Some(at));
                        number(found.and_then(|v| v.get("value")))
                    }
                    _ => f64::NAN,
                })
            }
            _ => Err(several(name)),
        },
        AggKind::Pipeline(_) => match rest {
            [] => Ok(number(result.get("value"))),
            [property, ..] => Ok(number(result.get(*property))),
        },
        kind if !kind.takes_subs() && !matches!(kind, AggKind::TopHits(_)) => Ok(number(result.get("value"))),
        _ if rest == ["_bucket_count"] => {
            let count = match result.get("buckets") {
                Some(Json::Array(list)) => list.len(),
                Some(Json::Object(map)) => map.len(),
                _ => 0,
            };
            Ok(count as f64)
        }
        kind => {
            if let [key, rest @ ..] = rest
                && let Some(key) = key.strip_prefix('\'').and_then(|k| k.strip_suffix('\''))
            {
                return match buckets_of(result).into_iter().find(|(k, _)| k == key) {
                    Some((_, bucket)) => property(bucket, &request.subs, rest),
                    None => Ok(f64::NAN),
                };
            }
            let class = if rest.is_empty() { class_of(kind, result) } else { "Object[]" };
            Err(unusable(&format!("got: [{class}] at aggregation [{name}]")))
        }
    }
}

fn several(name: &str) -> Error {
    unusable(&format!("but [{name}] contains multiple values. Please specify which to use."))
}

/// The number that a bucket gives to a pipeline; NaN for a gap that is left out.
fn value_of(pipeline: &PipelineRequest, bucket: &Object, requests: &[AggRequest], path: &[&str]) -> Result<f64> {
    let value = property(bucket, requests, path)?;
    let counts = path.last().is_some_and(|last| matches!(*last, "_count" | "_key" | "_bucket_count"));
    let empty = !counts && bucket.get("doc_count").and_then(Json::as_u64) == Some(0);
    if !value.is_finite() || empty {
        return Ok(if pipeline.insert_zeros { 0.0 } else { f64::NAN });
    }
    Ok(value)
}

/// Buckets with their keys as text.
fn buckets_of(result: &Object) -> Vec<(String, &Object)> {
    match result.get("buckets") {
        Some(Json::Array(list)) => list
            .iter()
            .filter_map(Json::as_object)
            .map(|bucket| {
                let key = match bucket.get("key_as_string").or_else(|| bucket.get("key")) {
                    Some(Json::String(text)) => text.clone(),
                    Some(Json::Number(n)) if n.is_f64() => java_double(n.as_f64().unwrap_or(f64::NAN)),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                (key, bucket)
            })
            .collect(),
        Some(Json::Object(map)) => {
            map.iter().filter_map(|(key, bucket)| Some((key.clone(), bucket.as_object()?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Pipelines of one level in an order in which each finds what it reads; those in a circle come last.
fn ordered(requests: &[AggRequest], parent: bool) -> Vec<(&AggRequest, &PipelineRequest)> {
    let mut waiting: Vec<(&AggRequest, &PipelineRequest)> = requests
        .iter()
        .filter_map(|r| match &r.kind {
            AggKind::Pipeline(p) if p.kind.is_parent() == parent => Some((r, p)),
            _ => None,
        })
        .collect();
    let mut out = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let free = waiting.iter().position(|(_, p)| {
            !p.paths().iter().any(|path| {
                let first = steps(path)[0];
                waiting.iter().any(|(other, _)| other.name == first)
            })
        });
        out.push(waiting.remove(free.unwrap_or(0)));
    }
    out
}

fn printer(pipeline: &PipelineRequest) -> Result<Printer> {
    pipeline.format.as_ref().map_or(Ok(Printer::Raw), |f| ValueFormat::Decimal(f.clone()).printer())
}

fn result_name(request: &AggRequest, pipeline: &PipelineRequest, typed_keys: bool) -> String {
    if !typed_keys {
        return request.name.clone();
    }
    let kind = match pipeline.kind {
        PipelineKind::MaxBucket | PipelineKind::MinBucket => "bucket_metric_value",
        PipelineKind::StatsBucket => "stats_bucket",
        PipelineKind::ExtendedStatsBucket { .. } => "extended_stats_bucket",
        PipelineKind::PercentilesBucket { .. } => "percentiles_bucket",
        PipelineKind::Derivative { .. } => "derivative",
        _ => "simple_value",
    };
    format!("{kind}#{}", request.name)
}

fn begin(request: &AggRequest) -> Object {
    let mut object = Map::new();
    if let Some(meta) = &request.meta {
        object.insert("meta".to_owned(), meta.clone());
    }
    object
}

/// Adds what the pipelines beside other aggregations make of their buckets: `max_bucket`, `avg_bucket`, ...
pub(crate) fn siblings(requests: &[AggRequest], out: &mut Object, typed_keys: bool) -> Result<()> {
    for (request, pipeline) in ordered(requests, false) {
        let path = steps(&pipeline.path);
        let Some(of) = requests.iter().find(|r| r.name == path[0]) else {
            return Err(Error::illegal_argument(format!(
                "buckets_path aggregation does not exist for aggregation [{}]: {}",
                request.name, pipeline.path
            )));
        };
        let mut values: Vec<(String, f64)> = Vec::new();
        for (key, bucket) in find(out, path[0]).map(buckets_of).unwrap_or_default() {
            let value = value_of(pipeline, bucket, &of.subs, &path[1..])?;
            if !value.is_nan() {
                values.push((key, value));
            }
        }
        let mut object = begin(request);
        summarise(pipeline, values, &mut object)?;
        out.insert(result_name(request, pipeline, typed_keys), Json::Object(object));
    }
    Ok(())
}

fn summarise(pipeline: &PipelineRequest, values: Vec<(String, f64)>, out: &mut Object) -> Result<()> {
    let printer = printer(pipeline)?;
    let mut stats = StatsPartial {
        format: pipeline.format.as_ref().map_or(ValueFormat::Raw, |f| ValueFormat::Decimal(f.clone())),
        ..StatsPartial::default()
    };
    for (_, value) in &values {
        stats.add(*value);
    }
    let metric = |metric: Metric, out: &mut Object| {
        let kind = AggKind::Metric { metric, source: ValuesSource::default() };
        metric_value(metric, &stats, &kind, out)
    };
    match &pipeline.kind {
        PipelineKind::MaxBucket | PipelineKind::MinBucket => {
            let max = matches!(pipeline.kind, PipelineKind::MaxBucket);
            let best = values.iter().map(|v| v.1).reduce(|a, b| if max { a.max(b) } else { a.min(b) });
            put_value(out, "value", best, &printer);
            let keys: Vec<&str> = values.iter().filter(|v| Some(v.1) == best).map(|v| v.0.as_str()).collect();
            out.insert("keys".to_owned(), json!(keys));
        }
        PipelineKind::AvgBucket => metric(Metric::Avg, out)?,
        PipelineKind::SumBucket => metric(Metric::Sum, out)?,
        PipelineKind::StatsBucket => metric(Metric::Stats, out)?,
        PipelineKind::ExtendedStatsBucket { sigma } => metric(Metric::ExtendedStats { sigma: *sigma }, out)?,
        PipelineKind::PercentilesBucket { percents, keyed } => {
            let mut sorted: Vec<f64> = values.into_iter().map(|v| v.1).collect();
            sorted.sort_by(f64::total_cmp);
            // The nearest of the values, not something between two.
            let at = |percent: f64| {
                let last = sorted.len().checked_sub(1)?;
                sorted.get((percent / 100.0 * last as f64).round() as usize).copied()
            };
            let shown = if *keyed {
                let mut object = Map::new();
                for &percent in percents {
                    put_value(&mut object, &java_double(percent), at(percent), &printer);
                }
                Json::Object(object)
            } else {
                let one = |&percent: &f64| {
                    let mut object = Map::new();
                    object.insert("key".to_owned(), double_json(percent));
                    put_value(&mut object, "value", at(percent), &printer);
                    Json::Object(object)
                };
                Json::Array(percents.iter().map(one).collect())
            };
            out.insert("values".to_owned(), shown);
        }
        _ => unreachable!("a parent pipeline has buckets of its own"),
    }
    Ok(())
}

/// Adds to each bucket what the pipelines inside make of it and those before it, and lets `bucket_sort` choose.
pub(crate) fn parents(requests: &[AggRequest], buckets: &mut Vec<(String, Object)>, typed_keys: bool) -> Result<()> {
    for (request, pipeline) in ordered(requests, true) {
        if let PipelineKind::BucketSort { sort, from, size } = &pipeline.kind {
            bucket_sort(pipeline, requests, sort, *from, *size, buckets)?;
            continue;
        }
        let path = steps(&pipeline.path);
        let printer = printer(pipeline)?;
        let name = result_name(request, pipeline, typed_keys);
        let mut sum = 0.0;
        let mut before: Vec<(f64, f64)> = Vec::new();
        for (_, bucket) in buckets.iter_mut() {
            let value = value_of(pipeline, bucket, requests, &path)?;
            let key = number(bucket.get("key"));
            let mut object = begin(request);
            let shown = |v: f64| Some(v).filter(|v| v.is_finite());
            match &pipeline.kind {
                PipelineKind::CumulativeSum => {
                    sum += if value.is_finite() { value } else { 0.0 };
                    put_value(&mut object, "value", Some(sum), &printer);
                }
                PipelineKind::Derivative { unit_ms } => {
                    let Some((last_key, last)) = before.last().copied() else {
                        before.push((key, value));
                        continue;
                    };
                    put_value(&mut object, "value", shown(value - last), &printer);
                    if let Some(unit) = unit_ms {
                        let normal = (value - last) / ((key - last_key) / *unit as f64);
                        put_value(&mut object, "normalized_value", shown(normal), &printer);
                    }
                    before.push((key, value));
                }
                PipelineKind::SerialDiff { lag } => {
                    before.push((key, value));
                    let Some((_, last)) = before.len().checked_sub(lag + 1).map(|at| before[at]) else { continue };
                    if !(value - last).is_finite() {
                        continue;
                    }
                    put_value(&mut object, "value", Some(value - last), &printer);
                }
                _ => unreachable!("{} stands beside what it reads", type_name(&request.kind)),
            }
            bucket.insert(name.clone(), Json::Object(object));
        }
    }
    Ok(())
}

fn bucket_sort(
    pipeline: &PipelineRequest,
    requests: &[AggRequest],
    sort: &[(String, bool)],
    from: usize,
    size: Option<usize>,
    buckets: &mut Vec<(String, Object)>,
) -> Result<()> {
    if !sort.is_empty() {
        let mut ranked = Vec::with_capacity(buckets.len());
        for (key, bucket) in buckets.drain(..) {
            let mut values = Vec::with_capacity(sort.len());
            let mut texts = Vec::with_capacity(sort.len());
            for (path, _) in sort {
                let text = (path == "_key").then(|| bucket.get("key").and_then(Json::as_str)).flatten();
                texts.push(text.map(str::to_owned));
                values.push(value_of(pipeline, &bucket, requests, &steps(path))?);
            }
            // A bucket with nothing to be sorted by is left out.
            if values.iter().any(|v| !v.is_nan()) || texts.iter().any(Option::is_some) {
                ranked.push((values, texts, (key, bucket)));
            }
        }
        ranked.sort_by(|a, b| {
            for (i, (_, ascending)) in sort.iter().enumerate() {
                let order = match (&a.1[i], &b.1[i]) {
                    (Some(x), Some(y)) if *ascending => x.cmp(y),
                    (Some(x), Some(y)) => y.cmp(x),
                    _ => super::path::compare_values(a.0[i], b.0[i], *ascending),
                };
                if order.is_ne() {
                    return order;
                }
            }
            std::cmp::Ordering::Equal
        });
        buckets.extend(ranked.into_iter().map(|r| r.2));
    }
    buckets.drain(..from.min(buckets.len()));
    buckets.truncate(size.unwrap_or(usize::MAX));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agg(name: &str, kind: AggKind, subs: Vec<AggRequest>) -> AggRequest {
        AggRequest { name: name.to_owned(), kind, subs, meta: None }
    }

    fn metric(name: &str, metric: Metric) -> AggRequest {
        agg(name, AggKind::Metric { metric, source: ValuesSource::field("n") }, Vec::new())
    }

    fn pipeline(name: &str, kind: PipelineKind, path: &str) -> AggRequest {
        let request = PipelineRequest { kind, path: path.to_owned(), insert_zeros: false, format: None };
        agg(name, AggKind::Pipeline(request), Vec::new())
    }

    fn terms(name: &str, subs: Vec<AggRequest>) -> AggRequest {
        agg(name, AggKind::Terms(crate::search::aggs::TermsRequest::new(ValuesSource::field("k"))), subs)
    }

    fn answer() -> Object {
        let Json::Object(map) = json!({"t": {"buckets": [
            {"key": "a", "doc_count": 2, "m": {"value": 3.0}},
            {"key": "b", "doc_count": 0, "m": {"value": 0.0}},
            {"key": "c", "doc_count": 1, "m": {"value": null}},
            {"key": "d", "doc_count": 1, "m": {"value": 5.0}}
        ]}}) else {
            unreachable!()
        };
        map
    }

    #[test]
    fn siblings_leave_gaps_out() {
        let requests = [
            terms("t", vec![metric("m", Metric::Sum)]),
            pipeline("max", PipelineKind::MaxBucket, "t>m"),
            pipeline("avg", PipelineKind::AvgBucket, "t>m.value"),
            pipeline("count", PipelineKind::SumBucket, "t>_count"),
            pipeline("p", PipelineKind::PercentilesBucket { percents: vec![50.0], keyed: true }, "t.m"),
        ];
        let mut out = answer();
        siblings(&requests, &mut out, false).unwrap();
        assert_eq!(out["max"], json!({"value": 5.0, "keys": ["d"]}));
        assert_eq!(out["avg"], json!({"value": 4.0}));
        assert_eq!(out["count"], json!({"value": 4.0}));
        assert_eq!(out["p"], json!({"values": {"50.0": 5.0}}));
    }

    #[test]
    fn paths_that_lead_to_no_number_are_named() {
        let requests = |path: &str| {
            let inner = terms("t2", Vec::new());
            [terms("t", vec![inner, metric("s", Metric::Stats)]), pipeline("x", PipelineKind::MaxBucket, path)]
        };
        let reason = |path: &str| {
            let Json::Object(mut out) = json!({"t": {"buckets": [
                {"key": 1, "doc_count": 1, "t2": {"buckets": [{"key": 1, "doc_count": 1}]}, "s": {"min": 1.0}}
            ]}}) else {
                unreachable!()
            };
            siblings(&requests(path), &mut out, false).unwrap_err().to_string()
        };
        assert!(reason("t>t2").ends_with("got: [LongTerms] at aggregation [t2]"), "{}", reason("t>t2"));
        assert!(reason("t>t2>m").ends_with("got: [Object[]] at aggregation [t2]"), "{}", reason("t>t2>m"));
        assert!(reason("t>s").contains("but [s] contains multiple values"), "{}", reason("t>s"));
    }

    #[test]
    fn parents_go_from_bucket_to_bucket_and_may_read_each_other() {
        let requests = [
            pipeline("second", PipelineKind::Derivative { unit_ms: None }, "first"),
            pipeline("first", PipelineKind::Derivative { unit_ms: Some(2) }, "m"),
            pipeline("sum", PipelineKind::CumulativeSum, "m"),
            pipeline("diff", PipelineKind::SerialDiff { lag: 2 }, "m"),
            metric("m", Metric::Max),
        ];
        let mut buckets: Vec<(String, Object)> = [(0, 1.0), (4, 5.0), (8, 6.0)]
            .iter()
            .map(|(key, value)| {
                let Json::Object(map) = json!({"key": key, "doc_count": 1, "m": {"value": value}}) else {
                    unreachable!()
                };
                (key.to_string(), map)
            })
            .collect();
        parents(&requests, &mut buckets, false).unwrap();
        let at = |i: usize, name: &str| buckets[i].1.get(name).cloned();
        assert_eq!((at(0, "first"), at(0, "second")), (None, None));
        assert_eq!(at(1, "first"), Some(json!({"value": 4.0, "normalized_value": 2.0})));
        assert_eq!(at(2, "second"), Some(json!({"value": -3.0})));
        assert_eq!(at(2, "sum"), Some(json!({"value": 12.0})));
        assert_eq!((at(1, "diff"), at(2, "diff")), (None, Some(json!({"value": 5.0}))));
    }

    #[test]
    fn buckets_are_sorted_and_cut() {
        let sort = vec![("m".to_owned(), false)];
        let requests =
            [metric("m", Metric::Max), pipeline("s", PipelineKind::BucketSort { sort, from: 1, size: Some(2) }, "")];
        let mut buckets: Vec<(String, Object)> = [Some(1.0), None, Some(4.0), Some(2.0), Some(3.0)]
            .iter()
            .map(|value| {
                let Json::Object(map) = json!({"doc_count": 1, "m": {"value": value}}) else { unreachable!() };
                (format!("{value:?}"), map)
            })
            .collect();
        parents(&requests, &mut buckets, false).unwrap();
        let keys: Vec<&str> = buckets.iter().map(|b| b.0.as_str()).collect();
        assert_eq!(keys, ["Some(3.0)", "Some(2.0)"]);
    }
}

//! Pipeline aggregations in a search body, and where they may stand.

use ringdex_engine::search::aggs::{AggKind, AggRequest, PipelineKind, PipelineRequest};
use serde_json::Value;

use super::aggs::{Params, bad, date_unit_ms, number, numbers, parsing};
use super::{DslError, DslResult};

/// Reads the parameters of a pipeline; none if `kind` names no pipeline.
pub(super) fn parse(p: &mut Params<'_>) -> DslResult<Option<AggKind>> {
    let kind = match p.kind {
        "max_bucket" => PipelineKind::MaxBucket,
        "min_bucket" => PipelineKind::MinBucket,
        "avg_bucket" => PipelineKind::AvgBucket,
        "sum_bucket" => PipelineKind::SumBucket,
        "stats_bucket" => PipelineKind::StatsBucket,
        "extended_stats_bucket" => {
            let sigma = p.number("sigma")?.unwrap_or(2.0);
            if sigma < 0.0 {
                return Err(bad("sigma must be a non-negative double"));
            }
            PipelineKind::ExtendedStatsBucket { sigma }
        }
        "percentiles_bucket" => {
            let percents = numbers(p, "percents")?.unwrap_or_else(|| vec![1., 5., 25., 50., 75., 95., 99.]);
            if percents.iter().any(|n| !(0.0..=100.0).contains(n)) {
                return Err(bad("percents must only contain non-null doubles from 0.0-100.0 inclusive"));
            }
            PipelineKind::PercentilesBucket { percents, keyed: p.flag("keyed")?.unwrap_or(true) }
        }
        "derivative" => {
            let unit_ms = p.text("unit")?.map(|text| date_unit_ms(&text)).transpose()?;
            PipelineKind::Derivative { unit_ms }
        }
        "cumulative_sum" => PipelineKind::CumulativeSum,
        "serial_diff" => {
            let lag = p.whole("lag")?.unwrap_or(1);
            match usize::try_from(lag) {
                Ok(lag) if lag > 0 => PipelineKind::SerialDiff { lag },
                _ => {
                    return Err(parsing(format!(
                        "Lag must be a positive, non-zero integer.  Value supplied was{lag} in [{}].",
                        p.name
                    )));
                }
            }
        }
        "bucket_sort" => bucket_sort(p)?,
        _ => return Ok(None),
    };
    let insert_zeros = match p.text("gap_policy")?.as_deref() {
        None | Some("skip") => false,
        Some("insert_zeros") => true,
        Some(other) => {
            return Err(parsing(format!("Invalid gap policy: [{other}], accepted values: [insert_zeros, skip]")));
        }
    };
    if matches!(kind, PipelineKind::BucketSort { .. }) {
        return Ok(Some(AggKind::Pipeline(PipelineRequest { kind, path: String::new(), insert_zeros, format: None })));
    }
    let path = match p.get("buckets_path") {
        Some(Value::String(path)) => path.clone(),
        Some(Value::Array(list)) if list.len() == 1 && list[0].is_string() => {
            list[0].as_str().unwrap_or_default().to_owned()
        }
        Some(value) => return Err(p.wrong("buckets_path", value)),
        None => {
            return Err(bad(format!("Required [buckets_path] for the [{}] aggregation [{}]", p.kind, p.name)));
        }
    };
    Ok(Some(AggKind::Pipeline(PipelineRequest { kind, path, insert_zeros, format: p.text("format")? })))
}

fn bucket_sort(p: &mut Params<'_>) -> DslResult<PipelineKind> {
    let one = |value: &Value, out: &mut Vec<(String, bool)>| -> DslResult<()> {
        match value {
            Value::String(path) => out.push((path.clone(), true)),
            Value::Object(map) => {
                for (path, order) in map {
                    let order = order.get("order").unwrap_or(order);
                    out.push((path.clone(), order.as_str().is_none_or(|o| !o.eq_ignore_ascii_case("desc"))));
                }
            }
            _ => {
                return Err(bad(
                    "malformed sort format, within the sort array, an object, or an actual string are allowed",
                ));
            }
        }
        Ok(())
    };
    let mut sort = Vec::new();
    match p.get("sort") {
        None => {}
        Some(Value::Array(list)) => list.iter().try_for_each(|v| one(v, &mut sort))?,
        Some(value) => one(value, &mut sort)?,
    }
    let whole = |value: Option<&Value>| value.and_then(number).map(|n| n as i64);
    let from = whole(p.get("from")).unwrap_or(0);
    let from = usize::try_from(from).map_err(|_| bad(format!("[from] must be a non-negative integer: [{from}]")))?;
    let size = match whole(p.get("size")) {
        None => None,
        Some(n) if n > 0 => Some(n as usize),
        Some(n) => return Err(bad(format!("[size] must be a positive integer: [{n}]"))),
    };
    if sort.is_empty() && size.is_none() && from == 0 {
        let problem = format!(
            "[{}] is configured to perform nothing. Please set either of [sort, size, from] to use bucket_sort",
            p.name
        );
        return Err(DslError::validation(&[problem]));
    }
    Ok(PipelineKind::BucketSort { sort, from, size })
}

/// Whether the pipelines of a level stand where they can work. `parent`: the aggregation around them.
pub(super) fn check_places(requests: &[AggRequest], parent: Option<&AggKind>) -> DslResult<()> {
    let mut problems = Vec::new();
    for request in requests {
        let AggKind::Pipeline(pipeline) = &request.kind else { continue };
        let name = &request.name;
        let kind = match pipeline.kind {
            PipelineKind::Derivative { .. } => "derivative",
            PipelineKind::CumulativeSum => "cumulative_sum",
            PipelineKind::SerialDiff { .. } => "serial_diff",
            PipelineKind::BucketSort { .. } => "bucket_sort",
            _ => {
                let first = pipeline.path.split(['>', '[']).next().unwrap_or("").trim();
                let known = requests
                    .iter()
                    .any(|r| r.name == first || first.rsplit_once('.').is_some_and(|(n, _)| r.name == n));
                if !known {
                    problems.push(format!(
                        "buckets_path aggregation does not exist for aggregation [{name}]: {}",
                        pipeline.path
                    ));
                }
                continue;
            }
        };
        let sequential = matches!(parent, Some(AggKind::Histogram(_) | AggKind::DateHistogram(_)));
        match (kind, parent) {
            ("bucket_sort", None) => {
                problems.push(format!("{kind} aggregation [{name}] must be declared inside of another aggregation"));
            }
            ("bucket_sort", Some(_)) => {}
            (_, None) => {
                problems.push(format!("{kind} aggregation [{name}] must be declared inside of another aggregation"))
            }
            (_, Some(_)) if !sequential => problems.push(format!(
                "{kind} aggregation [{name}] must have a histogram, date_histogram or auto_date_histogram as parent"
            )),
            _ => {}
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(DslError::validation(&problems)) }
}

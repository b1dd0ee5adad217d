//! Paths to metrics below a bucket, such as `only_new>price.avg`, and what they lead to.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::search::aggs::partial::{AggPartial, BucketPartial};
use crate::search::aggs::{AggKind, AggRequest, Metric, PipelineKind};

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    pub name: &'a str,
    /// `avg` in `price.avg` and `price[avg]`.
    pub property: Option<&'a str>,
}

/// The first step, and the path after it.
pub(crate) fn split(path: &str) -> (Step<'_>, &str) {
    let (step, after) = path.split_once('>').unwrap_or((path, ""));
    let step = step.trim();
    if let Some(open) = step.find('[')
        && step.ends_with(']')
    {
        return (Step { name: &step[..open], property: Some(&step[open + 1..step.len() - 1]) }, after);
    }
    match step.rsplit_once('.') {
        // Only the last step has a property.
        Some((name, property)) if after.is_empty() => (Step { name, property: Some(property) }, after),
        _ => (Step { name: step, property: None }, after),
    }
}

/// Checks that `path` leads to one number in each bucket.
pub(crate) fn validate(path: &str, subs: &[AggRequest]) -> Result<()> {
    let failed = |reason: String| {
        Err(Error::request(
            "aggregation_execution_exception",
            format!("Invalid aggregation order path [{path}]. {reason}"),
        ))
    };
    let (mut subs, mut rest) = (subs, path);
    loop {
        let (step, after) = split(rest);
        let found = subs.iter().find(|s| s.name == step.name && !matches!(s.kind, AggKind::Pipeline(_)));
        let Some(request) = found else {
            return failed(format!(
                "The provided aggregation [{}] either does not exist, or is a pipeline aggregation and cannot be used \
                 to sort the buckets.",
                step.name
            ));
        };
        let single = matches!(request.kind, AggKind::Filter { .. } | AggKind::Missing { .. } | AggKind::Global);
        if single && !after.is_empty() {
            (subs, rest) = (&request.subs, after);
            continue;
        }
        if !single && (request.kind.takes_subs() || !after.is_empty() || matches!(request.kind, AggKind::TopHits(_))) {
            return failed(
                "Buckets can only be sorted on a sub-aggregator path that is built out of zero or more single-bucket \
                 aggregations within the path and a final single-bucket or a metrics aggregation at the path end."
                    .to_owned(),
            );
        }
        let many = matches!(
            request.kind,
            AggKind::Metric { metric: Metric::Stats | Metric::ExtendedStats { .. }, .. }
                | AggKind::Percentiles { .. }
                | AggKind::PercentileRanks { .. }
        );
        return match step.property {
            None if many => failed(format!(
                "When ordering on a multi-value metrics aggregation a metric name must be specified: [{}].",
                step.name
            )),
            Some(property) if !many && !matches!(property, "value" | "doc_count" | "_count") => failed(format!(
                "Ordering on a single-value metrics aggregation can only be done on its value. Either drop the key \
                 (a la \"{name}\") or change it to \"value\" (a la \"{name}.value\")",
                name = step.name
            )),
            _ => Ok(()),
        };
    }
}

/// Order of two values; NaN comes last in either direction.
pub(crate) fn compare_values(a: f64, b: f64, ascending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if ascending => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        _ => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
    }
}

/// A metric's value as buckets are ordered by it.
pub(crate) fn stats_value(kind: &AggKind, partial: &AggPartial, property: Option<&str>) -> f64 {
    match (partial, kind) {
        (AggPartial::Stats(s), AggKind::WeightedAvg { .. }) => s.sum.value() / s.squares.value(),
        (AggPartial::Stats(s), AggKind::Metric { metric, .. }) => {
            let (count, sum) = (s.count as f64, s.sum.value());
            let variance = |count_less: f64| {
                let v = (s.squares.value() - sum * sum / count) / (count - count_less);
                if v < 0.0 { 0.0 } else { v }
            };
            let wanted = match (metric, property) {
                (Metric::Stats | Metric::ExtendedStats { .. }, Some(property)) => property,
                (Metric::Avg, _) => "avg",
                (Metric::Min, _) => "min",
                (Metric::Max, _) => "max",
                (Metric::Sum, _) => "sum",
                (Metric::ValueCount, _) => "count",
                _ => "",
            };
            let sigma = if let Metric::ExtendedStats { sigma } = metric { *sigma } else { 2.0 };
            match wanted {
                "avg" => sum / count,
                "min" => s.min.unwrap_or(f64::INFINITY),
                "max" => s.max.unwrap_or(f64::NEG_INFINITY),
                "sum" => sum,
                "count" => count,
                "sum_of_squares" => s.squares.value(),
                "variance" | "variance_population" => variance(0.0),
                "variance_sampling" => variance(1.0),
                "std_deviation" | "std_deviation_population" => variance(0.0).sqrt(),
                "std_deviation_sampling" => variance(1.0).sqrt(),
                "std_upper" => sum / count + sigma * variance(0.0).sqrt(),
                "std_lower" => sum / count - sigma * variance(0.0).sqrt(),
                _ => f64::NAN,
            }
        }
        (AggPartial::Distinct(sketch), _) => sketch.count() as f64,
        (AggPartial::Digest { digest, .. }, AggKind::MedianAbsoluteDeviation { .. }) => {
            super::finalize::median_absolute_deviation(digest).unwrap_or(f64::NAN)
        }
        (AggPartial::Digest { digest, .. }, kind) => {
            let Some(at) = property.and_then(|p| p.parse::<f64>().ok()) else { return f64::NAN };
            let value = match kind {
                AggKind::PercentileRanks { .. } => digest.rank(at).map(|r| r * 100.0),
                _ => digest.quantile(at / 100.0),
            };
            value.unwrap_or(f64::NAN)
        }
        (AggPartial::Hdr { histogram, .. }, kind) => {
            let Some(at) = property.and_then(|p| p.parse::<f64>().ok()) else { return f64::NAN };
            let value = match kind {
                AggKind::PercentileRanks { .. } => histogram.rank(at).map(|r| r * 100.0),
                _ => histogram.quantile(at / 100.0),
            };
            value.unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// The value at the end of a path below a bucket.
pub(crate) fn value_at(path: &str, requests: &[AggRequest], subs: &[AggPartial]) -> f64 {
    let (mut requests, mut subs, mut rest) = (requests, subs, path);
    loop {
        let (step, after) = split(rest);
        let Some(at) = requests.iter().position(|r| r.name == step.name) else { return f64::NAN };
        let Some(partial) = subs.get(at) else { return f64::NAN };
        match partial {
            AggPartial::Fixed { buckets, .. } => {
                let [BucketPartial { doc_count, subs: below }] = buckets.as_slice() else { return f64::NAN };
                if after.is_empty() {
                    return *doc_count as f64;
                }
                (requests, subs, rest) = (&requests[at].subs, below, after);
            }
            partial => return stats_value(&requests[at].kind, partial, step.property),
        }
    }
}

/// The aggregation's type as requests name it.
pub fn type_name(kind: &AggKind) -> &'static str {
    match kind {
        AggKind::Metric { metric, .. } => match metric {
            Metric::Avg => "avg",
            Metric::Min => "min",
            Metric::Max => "max",
            Metric::Sum => "sum",
            Metric::Stats => "stats",
            Metric::ExtendedStats { .. } => "extended_stats",
            Metric::ValueCount => "value_count",
        },
        AggKind::WeightedAvg { .. } => "weighted_avg",
        AggKind::Cardinality { .. } => "cardinality",
        AggKind::Percentiles { .. } => "percentiles",
        AggKind::PercentileRanks { .. } => "percentile_ranks",
        AggKind::MedianAbsoluteDeviation { .. } => "median_absolute_deviation",
        AggKind::TopHits(_) => "top_hits",
        AggKind::Terms(t) if t.rare.is_some() => "rare_terms",
        AggKind::Terms(_) => "terms",
        AggKind::Filter { .. } => "filter",
        AggKind::Filters(_) => "filters",
        AggKind::Missing { .. } => "missing",
        AggKind::Global => "global",
        AggKind::Range(r) if r.date => "date_range",
        AggKind::Range(_) => "range",
        AggKind::IpRange(_) => "ip_range",
        AggKind::Histogram(_) => "histogram",
        AggKind::DateHistogram(_) => "date_histogram",
        AggKind::Composite(_) => "composite",
        AggKind::Pipeline(p) => match p.kind {
            PipelineKind::MaxBucket => "max_bucket",
            PipelineKind::MinBucket => "min_bucket",
            PipelineKind::AvgBucket => "avg_bucket",
            PipelineKind::SumBucket => "sum_bucket",
            PipelineKind::StatsBucket => "stats_bucket",
            PipelineKind::ExtendedStatsBucket { .. } => "extended_stats_bucket",
            PipelineKind::PercentilesBucket { .. } => "percentiles_bucket",
            PipelineKind::Derivative { .. } => "derivative",
            PipelineKind::CumulativeSum => "cumulative_sum",
            PipelineKind::SerialDiff { .. } => "serial_diff",
            PipelineKind::BucketSort { .. } => "bucket_sort",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_steps() {
        let step = |name, property| Step { name, property };
        assert_eq!(split("price"), (step("price", None), ""));
        assert_eq!(split("price.avg"), (step("price", Some("avg")), ""));
        assert_eq!(split("price[99.9]"), (step("price", Some("99.9")), ""));
        assert_eq!(split("new.ones>price.value"), (step("new.ones", None), "price.value"));
    }
}

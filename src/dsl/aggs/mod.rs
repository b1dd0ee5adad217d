//! Aggregations in a search body.

mod bucket;
mod interval;
mod metric;

use ringdex_engine::query::Value as Scalar;
use ringdex_engine::search::aggs::{AggKind, AggRequest, DEPTH_MAX, Metric, ValuesSource};
use serde_json::{Map, Value};

use super::query::parse_query;
use super::{DslError, DslResult, composite, pipeline, token};
use bucket::{filters, ip_ranges, ranges, rare_terms, terms};
use interval::{date_histogram, histogram};
pub(super) use interval::{date_interval, date_unit_ms, offset_ms};
pub(super) use metric::numbers;
use metric::{method, top_hits, weighted_avg};

/// Reads `{"name": {"type": {...}, "aggs": {...}, "meta": {...}}, ...}`.
///
/// # Errors
/// What is wrong with it, in Elasticsearch's words.
pub fn parse_aggs(json: &Value) -> Result<Vec<AggRequest>, DslError> {
    let requests = level(json, 0)?;
    pipeline::check_places(&requests, None)?;
    Ok(requests)
}

pub(super) fn parsing(reason: impl Into<String>) -> DslError {
    DslError::new(400, "parsing_exception", reason)
}

pub(super) fn bad(reason: impl Into<String>) -> DslError {
    DslError::illegal_argument(reason)
}

fn level(json: &Value, depth: usize) -> DslResult<Vec<AggRequest>> {
    let Some(map) = json.as_object() else {
        return Err(parsing("Expected [START_OBJECT] under [aggs]"));
    };
    if depth >= DEPTH_MAX {
        return Err(bad(format!("aggregations nest deeper than [{DEPTH_MAX}]")));
    }
    map.iter().map(|(name, body)| one(name, body, depth)).collect()
}

fn one(name: &str, body: &Value, depth: usize) -> DslResult<AggRequest> {
    if name.is_empty() || name.contains(['[', ']', '>']) {
        return Err(parsing(format!(
            "Invalid aggregation name [{name}]. Aggregation names can contain any character except '[', ']', and '>'"
        )));
    }
    let Some(map) = body.as_object() else {
        return Err(parsing(format!(
            "Aggregation definition for [{name} starts with a [{}], expected a [START_OBJECT].",
            token(body)
        )));
    };
    let (mut kind, mut subs, mut meta) = (None, Vec::new(), None);
    for (key, value) in map {
        match key.as_str() {
            "meta" if value.is_object() => meta = Some(value.clone()),
            "aggs" | "aggregations" => subs = level(value, depth + 1)?,
            other => {
                if let Some((first, _)) = &kind {
                    return Err(parsing(format!(
                        "Found two aggregation type definitions in [{name}]: [{first}] and [{other}]"
                    )));
                }
                let Some(params) = value.as_object() else {
                    return Err(parsing(format!(
                        "Expected [START_OBJECT] under [{other}], but got a [{}] in [{name}]",
                        token(value)
                    )));
                };
                kind = Some((other.to_owned(), parse_kind(name, other, params)?));
            }
        }
    }
    let Some((_, kind)) = kind else {
        return Err(parsing(format!("Missing definition for aggregation [{name}]")));
    };
    pipeline::check_places(&subs, Some(&kind))?;
    Ok(AggRequest { name: name.to_owned(), kind, subs, meta })
}

/// The parameters of one aggregation. What nobody asks for is refused at the end.
pub(super) struct Params<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub map: &'a Map<String, Value>,
    pub known: Vec<&'static str>,
}

impl<'a> Params<'a> {
    /// A parameter; null is as good as none.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub fn wrong(&self, key: &str, value: &Value) -> DslError {
        DslError::new(
            400,
            "x_content_parse_exception",
            format!("[{}] {key} doesn't support values of type: {}", self.kind, token(value)),
        )
    }

    pub fn scalar(&mut self, key: &'static str) -> DslResult<Option<Scalar>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => scalar(value).map(Some).ok_or_else(|| self.wrong(key, value)),
        }
    }

    pub fn text(&mut self, key: &'static str) -> DslResult<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(value.to_string())),
            Some(value) => Err(self.wrong(key, value)),
        }
    }

    pub fn number(&mut self, key: &'static str) -> DslResult<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => number(value).map(Some).ok_or_else(|| self.wrong(key, value)),
        }
    }

    pub fn whole(&mut self, key: &'static str) -> DslResult<Option<i64>> {
        Ok(self.number(key)?.map(|n| n as i64))
    }

    pub fn flag(&mut self, key: &'static str) -> DslResult<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(Value::String(s)) if s == "true" || s == "false" => Ok(Some(s == "true")),
            Some(value) => Err(self.wrong(key, value)),
        }
    }

    pub fn list(&mut self, key: &'static str) -> DslResult<Option<&'a Vec<Value>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(value) => Err(self.wrong(key, value)),
        }
    }

    /// Where values come from.
    pub fn source(&mut self) -> DslResult<ValuesSource> {
        if self.get("script").is_some() {
            return Err(bad(format!("scripts are not supported in aggregation [{}]", self.name)));
        }
        let Some(field) = self.text("field")? else {
            return Err(bad("Required one of fields [field, script], but none were specified. "));
        };
        Ok(ValuesSource {
            field,
            missing: self.scalar("missing")?,
            format: self.text("format")?,
            time_zone: self.text("time_zone")?.or(None),
            value_type: self.text("value_type")?.or(self.text("valueType")?),
        })
    }

    pub fn min_doc_count(&mut self, default: u64) -> DslResult<u64> {
        match self.whole("min_doc_count")? {
            None => Ok(default),
            Some(n) => u64::try_from(n).map_err(|_| {
                bad(format!("[minDocCount] must be greater than or equal to 0. Found [{n}] in [{}]", self.name))
            }),
        }
    }

    /// Fails on parameters that nobody asked for.
    pub fn finish(self) -> DslResult<()> {
        match self.map.keys().find(|k| !self.known.iter().any(|known| known == k)) {
            None => Ok(()),
            Some(key) => {
                Err(DslError::new(400, "x_content_parse_exception", format!("[{}] unknown field [{key}]", self.kind)))
            }
        }
    }
}

pub(super) fn scalar(value: &Value) -> Option<Scalar> {
    Some(match value {
        Value::Bool(b) => Scalar::Bool(*b),
        Value::String(s) => Scalar::String(s.clone()),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Scalar::Int(i),
            (_, Some(u)) => Scalar::UInt(u),
            _ => Scalar::Float(n.as_f64()?),
        },
        _ => return None,
    })
}

pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
    .filter(|n: &f64| n.is_finite())
}

fn parse_kind(name: &str, kind: &str, map: &Map<String, Value>) -> DslResult<AggKind> {
    // A filter's body is a query, and nothing else.
    if kind == "filter" {
        return Ok(AggKind::Filter { query: parse_query(&Value::Object(map.clone()))? });
    }
    let mut p = Params { name, kind, map, known: Vec::new() };
    let metric = |p: &mut Params<'_>, metric| Ok(AggKind::Metric { metric, source: p.source()? });
    let parsed = match kind {
        "avg" => metric(&mut p, Metric::Avg),
        "min" => metric(&mut p, Metric::Min),
        "max" => metric(&mut p, Metric::Max),
        "sum" => metric(&mut p, Metric::Sum),
        "stats" => metric(&mut p, Metric::Stats),
        "value_count" => metric(&mut p, Metric::ValueCount),
        "extended_stats" => {
            let sigma = p.number("sigma")?.unwrap_or(2.0);
            if sigma < 0.0 {
                return Err(bad(format!("[sigma] must be greater than or equal to 0. Found [{sigma:?}] in [{name}]")));
            }
            metric(&mut p, Metric::ExtendedStats { sigma })
        }
        "weighted_avg" => weighted_avg(&mut p),
        "cardinality" => {
            let threshold = p.whole("precision_threshold")?.unwrap_or(3000);
            let precision_threshold = u32::try_from(threshold.min(i64::from(u32::MAX))).map_err(|_| {
                bad(format!("[precisionThreshold] must be greater than or equal to 0. Found [{threshold}] in [{name}]"))
            })?;
            p.get("rehash");
            Ok(AggKind::Cardinality { source: p.source()?, precision_threshold })
        }
        "percentiles" => {
            let percents = numbers(&mut p, "percents")?.unwrap_or_else(|| vec![1., 5., 25., 50., 75., 95., 99.]);
            if percents.is_empty() {
                return Err(bad("[percents] must not be an empty array: [percentiles]"));
            }
            if let Some(wrong) = percents.iter().find(|n| !(0.0..=100.0).contains(*n)) {
                return Err(bad(format!("percent must be in [0,100], got [{wrong:?}]: [{name}]")));
            }
            let (method, keyed) = (method(&mut p)?, p.flag("keyed")?.unwrap_or(true));
            Ok(AggKind::Percentiles { source: p.source()?, percents, keyed, method })
        }
        "percentile_ranks" => {
            let values = numbers(&mut p, "values")?.filter(|v| !v.is_empty());
            let values = values.ok_or_else(|| bad(format!("[values] must not be an empty array: [{name}]")))?;
            let (method, keyed) = (method(&mut p)?, p.flag("keyed")?.unwrap_or(true));
            Ok(AggKind::PercentileRanks { source: p.source()?, values, keyed, method })
        }
        "median_absolute_deviation" => {
            let compression = p.number("compression")?.unwrap_or(1000.0);
            if compression <= 0.0 {
                return Err(bad(format!("[compression] must be greater than 0. Found [{compression:?}] in [{name}]")));
            }
            Ok(AggKind::MedianAbsoluteDeviation { source: p.source()?, compression })
        }
        "terms" => terms(&mut p),
        "rare_terms" => rare_terms(&mut p),
        "top_hits" => return top_hits(name, map),
        "composite" => composite::parse(&mut p),
        "filters" => filters(&mut p),
        "missing" => Ok(AggKind::Missing { source: p.source()? }),
        "global" => Ok(AggKind::Global),
        "range" | "date_range" => ranges(&mut p, kind == "date_range"),
        "ip_range" => ip_ranges(&mut p),
        "histogram" => histogram(&mut p),
        "date_histogram" => date_histogram(&mut p),
        _ => pipeline::parse(&mut p)?.ok_or_else(|| parsing(format!("Unknown aggregation type [{kind}]"))),
    }?;
    p.finish()?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use ringdex_engine::search::aggs::resolve::print_ip;
    use ringdex_engine::search::aggs::{BucketOrder, CalendarUnit, DateInterval, OrderBy, TermSet, TermsRequest};
    use serde_json::json;

    use super::bucket::mask_ends;
    use super::*;

    fn ok(json: Value) -> AggRequest {
        parse_aggs(&json!({"a": json})).unwrap().remove(0)
    }

    fn refuse(json: Value, expected: &str) {
        let error = parse_aggs(&json!({"a": json})).unwrap_err();
        assert!(error.reason.contains(expected), "{}", error.reason);
    }

    #[test]
    fn defaults_are_filled_in() {
        let AggKind::Terms(terms) = ok(json!({"terms": {"field": "k"}})).kind else { panic!() };
        assert_eq!(terms, TermsRequest::new(ValuesSource::field("k")));
        assert_eq!(terms.shard_size(), 25);
        let AggKind::Cardinality { precision_threshold, .. } = ok(json!({"cardinality": {"field": "k"}})).kind else {
            panic!()
        };
        assert_eq!(precision_threshold, 3000);
    }

    #[test]
    fn trees_have_subs_and_meta() {
        let got = ok(json!({
            "meta": {"x": 1},
            "filter": {"term": {"k": "v"}},
            "aggs": {"b": {"avg": {"field": "n", "missing": 1}}, "c": {"missing": {"field": "n"}}}
        }));
        assert_eq!(got.meta, Some(json!({"x": 1})));
        let names: Vec<&str> = got.subs.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert!(matches!(got.kind, AggKind::Filter { .. }));
    }

    #[test]
    fn orders_and_sets_are_read() {
        let AggKind::Terms(terms) = ok(json!({"terms": {
            "field": "k", "order": [{"m.avg": "asc"}, {"_count": "desc"}], "include": "a.*",
            "exclude": ["x", 1]
        }}))
        .kind
        else {
            panic!()
        };
        assert_eq!(terms.order[0], BucketOrder { by: OrderBy::Path("m.avg".to_owned()), ascending: true });
        assert_eq!(terms.include, Some(TermSet::Regex("a.*".to_owned())));
        assert_eq!(terms.exclude, Some(TermSet::Values(vec![Scalar::String("x".to_owned()), Scalar::Int(1)])));
    }

    #[test]
    fn intervals_are_calendar_or_fixed() {
        let interval = |json: Value| match ok(json!({"date_histogram": json})).kind {
            AggKind::DateHistogram(h) => (h.interval, h.offset_ms),
            _ => panic!(),
        };
        assert_eq!(
            interval(json!({"field": "t", "calendar_interval": "1M", "offset": "+6h"})),
            (DateInterval::Calendar(CalendarUnit::Month), 21_600_000)
        );
        assert_eq!(
            interval(json!({"field": "t", "fixed_interval": "90m", "offset": "-1d"})),
            (DateInterval::Fixed(5_400_000), -86_400_000)
        );
        assert_eq!(interval(json!({"field": "t", "interval": "2d"})).0, DateInterval::Fixed(172_800_000));
        refuse(json!({"date_histogram": {"field": "t", "calendar_interval": "2d"}}), "could not be parsed");
        refuse(json!({"date_histogram": {"field": "t", "fixed_interval": "0s"}}), "Zero or negative");
        refuse(json!({"date_histogram": {"field": "t"}}), "Invalid interval specified");
    }

    #[test]
    fn masks_become_ranges() {
        let AggKind::IpRange(r) = ok(json!({"ip_range": {"field": "ip", "ranges": [
            {"mask": "::/24"}, {"mask": "192.168.0.0/16"}, {"from": null, "to": "10.0.0.1"}
        ]}}))
        .kind
        else {
            panic!()
        };
        assert_eq!((r.ranges[0].from, r.ranges[0].to.map(print_ip)), (None, Some("0:100::".to_owned())));
        assert_eq!(r.ranges[1].from.map(print_ip).as_deref(), Some("192.168.0.0"));
        assert_eq!(r.ranges[1].to.map(print_ip).as_deref(), Some("192.169.0.0"));
        assert_eq!(r.ranges[1].key.as_deref(), Some("192.168.0.0/16"));
        assert!(mask_ends("::/0").unwrap() == (None, None));
        refuse(json!({"ip_range": {"field": "ip", "ranges": [{"mask": "1.2.3.4/33"}]}}), "Expected");
    }

    #[test]
    fn mistakes_are_refused() {
        refuse(json!({"nope": {}}), "Unknown aggregation type [nope]");
        refuse(json!({"terms": {"size": 1}}), "Required one of fields [field, script], but none were specified");
        refuse(json!({"terms": {"field": "k", "sise": 1}}), "[terms] unknown field [sise]");
        refuse(json!({"terms": {"field": "k", "size": 0}}), "[size] must be greater than 0. Found [0] in [a]");
        refuse(json!({"avg": {"field": "k"}, "sum": {"field": "k"}}), "Found two aggregation type definitions in [a]");
        refuse(json!({"aggs": {}}), "Missing definition for aggregation [a]");
        refuse(json!({"filters": {}}), "[filters] cannot be empty");
        refuse(json!({"filters": {"filters": []}}), "[filters] cannot be empty");
        refuse(
            json!({"cardinality": {"field": "k", "precision_threshold": -1}}),
            "[precisionThreshold] must be greater than or equal to 0. Found [-1] in [a]",
        );
        assert!(parse_aggs(&json!({"a>b": {"global": {}}})).unwrap_err().reason.contains("Invalid aggregation name"));
        let mut deep = json!({"global": {}});
        for _ in 0..200 {
            deep = json!({"global": {}, "aggs": {"x": deep}});
        }
        refuse(deep, "nest deeper");
    }
}

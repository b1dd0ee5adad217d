//! Aggregations in a search body.

use ringdex_engine::query::Value as Scalar;
use ringdex_engine::search::aggs::resolve::{parse_ip, print_ip};
use ringdex_engine::search::aggs::{
    AggKind, AggRequest, Bounds, BucketOrder, CalendarUnit, DEPTH_MAX, DateHistogramRequest, DateInterval,
    FiltersRequest, HistogramRequest, IpRange, IpRangeRequest, Metric, OrderBy, PercentileMethod, Range, RangeRequest,
    TermSet, TermsRequest, TopHitsRequest, ValuesSource,
};
use serde_json::{Map, Value};

use super::query::parse_query;
use super::search::parse_search;
use super::{DslError, DslResult};
use super::{composite, pipeline};

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

fn token(value: &Value) -> &'static str {
    match value {
        Value::Null => "VALUE_NULL",
        Value::Bool(_) => "VALUE_BOOLEAN",
        Value::Number(_) => "VALUE_NUMBER",
        Value::String(_) => "VALUE_STRING",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    }
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

pub(super) fn numbers(p: &mut Params<'_>, key: &'static str) -> DslResult<Option<Vec<f64>>> {
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

fn method(p: &mut Params<'_>) -> DslResult<PercentileMethod> {
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

fn weighted_avg(p: &mut Params<'_>) -> DslResult<AggKind> {
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

/// `{"_count": "desc"}` or a list of such.
fn order(p: &mut Params<'_>, default: BucketOrder) -> DslResult<Vec<BucketOrder>> {
    let one = |value: &Value| -> DslResult<BucketOrder> {
        let Some((key, direction)) = value.as_object().filter(|m| m.len() == 1).and_then(|m| m.iter().next()) else {
            return Err(parsing(format!("Must specify at least one field for [order]; got [{}]", token(value))));
        };
        let ascending = match direction.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("asc") => true,
            Some("desc") => false,
            _ => return Err(parsing(format!("Unknown order direction [{}]", direction.as_str().unwrap_or_default()))),
        };
        let by = match key.as_str() {
            "_count" => OrderBy::Count,
            "_key" | "_term" | "_time" => OrderBy::Key,
            path => OrderBy::Path(path.to_owned()),
        };
        Ok(BucketOrder { by, ascending })
    };
    Ok(match p.get("order") {
        None => vec![default],
        Some(Value::Array(list)) => list.iter().map(one).collect::<DslResult<_>>()?,
        Some(value) => vec![one(value)?],
    })
}

fn by_key() -> BucketOrder {
    BucketOrder { by: OrderBy::Key, ascending: true }
}

fn terms(p: &mut Params<'_>) -> DslResult<AggKind> {
    let name = p.name;
    let above_zero = |value: Option<i64>, what: &str| match value {
        None => Ok(None),
        Some(n) if n > 0 => Ok(Some(n as usize)),
        Some(n) => Err(bad(format!("[{what}] must be greater than 0. Found [{n}] in [{name}]"))),
    };
    let size = above_zero(p.whole("size")?, "size")?.unwrap_or(10);
    let shard_size = above_zero(p.whole("shard_size")?.filter(|&n| n != -1), "shardSize")?;
    let shard_min_doc_count = p.whole("shard_min_doc_count")?.unwrap_or(0).max(0) as u64;
    let by_count = BucketOrder { by: OrderBy::Count, ascending: false };
    let request = TermsRequest {
        size,
        shard_size,
        min_doc_count: p.min_doc_count(1)?,
        shard_min_doc_count,
        order: order(p, by_count)?,
        include: term_set(p, "include")?,
        exclude: term_set(p, "exclude")?,
        show_term_doc_count_error: p.flag("show_term_doc_count_error")?.unwrap_or(false),
        rare: None,
        source: p.source()?,
    };
    // How to compute is the engine's business.
    p.get("execution_hint");
    p.get("collect_mode");
    Ok(AggKind::Terms(request))
}

/// The parameters are those of a search that has no query.
fn top_hits(name: &str, map: &Map<String, Value>) -> DslResult<AggKind> {
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

fn rare_terms(p: &mut Params<'_>) -> DslResult<AggKind> {
    let most = p.whole("max_doc_count")?.unwrap_or(1);
    if most <= 0 {
        return Err(bad(format!("[max_doc_count] must be greater than 0. Found [{most}] in [{}]", p.name)));
    }
    if most > 100 {
        return Err(bad(format!("[max_doc_count] must be smaller than 100in [{}]", p.name)));
    }
    let precision = p.number("precision")?.unwrap_or(0.001);
    if precision < 0.00001 {
        return Err(bad("[precision] must be greater than 0.00001"));
    }
    Ok(AggKind::Terms(TermsRequest {
        size: usize::MAX,
        order: vec![BucketOrder { by: OrderBy::Count, ascending: true }],
        include: term_set(p, "include")?,
        exclude: term_set(p, "exclude")?,
        rare: Some(most as u64),
        ..TermsRequest::new(p.source()?)
    }))
}

fn term_set(p: &mut Params<'_>, key: &'static str) -> DslResult<Option<TermSet>> {
    Ok(Some(match p.get(key) {
        None => return Ok(None),
        Some(Value::String(pattern)) => TermSet::Regex(pattern.clone()),
        Some(Value::Array(list)) => {
            TermSet::Values(list.iter().map(|v| scalar(v).ok_or_else(|| p.wrong(key, v))).collect::<DslResult<_>>()?)
        }
        Some(Value::Object(map)) if key == "include" => {
            let part = |name: &str| {
                map.get(name)
                    .and_then(Value::as_u64)
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| bad(format!("Missing [{name}] parameter for partition-based include")))
            };
            let (partition, partition_count) = (part("partition")?, part("num_partitions")?);
            if partition >= partition_count {
                return Err(bad("partition must be less than num_partitions in partition-based include"));
            }
            TermSet::Partition { partition, partition_count }
        }
        Some(value) => return Err(p.wrong(key, value)),
    }))
}

fn filters(p: &mut Params<'_>) -> DslResult<AggKind> {
    let empty = || bad("[filters] cannot be empty");
    let (filters, keyed) = match p.get("filters") {
        Some(Value::Object(map)) => {
            let named = map.iter().map(|(name, q)| Ok((name.clone(), parse_query(q)?)));
            (named.collect::<DslResult<Vec<_>>>()?, true)
        }
        Some(Value::Array(list)) => {
            let anonymous = list.iter().map(|q| Ok((String::new(), parse_query(q)?)));
            (anonymous.collect::<DslResult<Vec<_>>>()?, false)
        }
        None => return Err(empty()),
        Some(value) => return Err(p.wrong("filters", value)),
    };
    if filters.is_empty() {
        return Err(empty());
    }
    let wanted = p.flag("other_bucket")?;
    let key = p.text("other_bucket_key")?;
    // A name asks for the bucket, unless it is refused outright.
    let other = wanted.unwrap_or(key.is_some());
    let other_bucket_key = other.then(|| key.unwrap_or_else(|| "_other_".to_owned()));
    Ok(AggKind::Filters(FiltersRequest { filters, keyed, other_bucket_key }))
}

fn ranges(p: &mut Params<'_>, date: bool) -> DslResult<AggKind> {
    let name = p.name;
    let list = p.list("ranges")?.filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| bad(format!("No [ranges] specified for the [{name}] aggregation")))?;
    let mut ranges = Vec::with_capacity(list.len());
    for range in list {
        let Some(map) = range.as_object() else { return Err(p.wrong("ranges", range)) };
        let mut r = Params { name, kind: "range", map, known: Vec::new() };
        ranges.push(Range { key: r.text("key")?, from: r.scalar("from")?, to: r.scalar("to")? });
        r.finish()?;
    }
    let keyed = p.flag("keyed")?.unwrap_or(false);
    Ok(AggKind::Range(RangeRequest { source: p.source()?, ranges, keyed, date }))
}

fn ip_ranges(p: &mut Params<'_>) -> DslResult<AggKind> {
    let name = p.name;
    let list = p.list("ranges")?.filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| bad(format!("No [ranges] specified for the [{name}] aggregation")))?;
    let mut ranges = Vec::with_capacity(list.len());
    for range in list {
        let Some(map) = range.as_object() else { return Err(p.wrong("ranges", range)) };
        let mut r = Params { name, kind: "ip_range", map, known: Vec::new() };
        let key = r.text("key")?;
        let ip = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                parse_ip(&text).map(Some).ok_or_else(|| bad(format!("'{text}' is not an IP string literal.")))
            }
        };
        let (from, to) = (ip(r.text("from")?)?, ip(r.text("to")?)?);
        let range = match r.text("mask")? {
            None => IpRange { key, from, to },
            Some(mask) => {
                if from.is_some() || to.is_some() {
                    return Err(bad("[mask] cannot be combined with [from] or [to]"));
                }
                let (from, to) = mask_ends(&mask)?;
                IpRange { key: Some(key.unwrap_or(mask)), from, to }
            }
        };
        r.finish()?;
        ranges.push(range);
    }
    let keyed = p.flag("keyed")?.unwrap_or(false);
    Ok(AggKind::IpRange(IpRangeRequest { source: p.source()?, ranges, keyed }))
}

type IpEnds = (Option<[u8; 16]>, Option<[u8; 16]>);

/// First address of a CIDR block, and the first beyond; open where the block reaches the end of all addresses.
fn mask_ends(mask: &str) -> DslResult<IpEnds> {
    let wrong = || bad(format!("Expected [ip/prefix] but was [{mask}]"));
    let (text, length) = mask.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(text).ok_or_else(|| bad(format!("'{text}' is not an IP string literal.")))?;
    let length: u32 = length.parse().map_err(|_| wrong())?;
    let v4 = !text.contains(':');
    let bits = if v4 { length.checked_add(96) } else { Some(length) }.filter(|&b| b <= 128).ok_or_else(wrong)?;
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    let first = u128::from_be_bytes(address) & !host;
    let beyond = (first | host).checked_add(1).map(u128::to_be_bytes);
    let from = Some(first.to_be_bytes()).filter(|_| first != 0);
    debug_assert!(from.is_none_or(|f| !print_ip(f).is_empty()));
    Ok((from, beyond))
}

fn bounds<T>(
    p: &mut Params<'_>,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> DslResult<Option<Bounds<T>>> {
    let Some(value) = p.get(key) else { return Ok(None) };
    let Some(map) = value.as_object() else { return Err(p.wrong(key, value)) };
    let end = |name: &str| match map.get(name).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(v) => read(v).map(Some).ok_or_else(|| p.wrong(name, v)),
    };
    Ok(Some(Bounds { min: end("min")?, max: end("max")? }))
}

fn histogram(p: &mut Params<'_>) -> DslResult<AggKind> {
    let interval = p.number("interval")?.filter(|&i| i > 0.0);
    let interval = interval.ok_or_else(|| bad("[interval] must be >0 for histogram aggregation"))?;
    let extended_bounds = bounds(p, "extended_bounds", number)?;
    if let Some(Bounds { min: Some(min), max: Some(max) }) = extended_bounds
        && min > max
    {
        return Err(bad(format!(
            "[extended_bounds.min][{min:?}] cannot be greater than [extended_bounds.max][{max:?}] for histogram aggregation [{}]",
            p.name
        )));
    }
    Ok(AggKind::Histogram(HistogramRequest {
        interval,
        offset: p.number("offset")?.unwrap_or(0.0),
        min_doc_count: p.min_doc_count(0)?,
        extended_bounds,
        hard_bounds: bounds(p, "hard_bounds", number)?,
        order: order(p, by_key())?,
        keyed: p.flag("keyed")?.unwrap_or(false),
        source: p.source()?,
    }))
}

fn date_histogram(p: &mut Params<'_>) -> DslResult<AggKind> {
    let interval = date_interval(p)?;
    let offset_ms = offset_ms(p)?;
    Ok(AggKind::DateHistogram(DateHistogramRequest {
        interval,
        offset_ms,
        min_doc_count: p.min_doc_count(0)?,
        extended_bounds: bounds(p, "extended_bounds", scalar)?,
        hard_bounds: bounds(p, "hard_bounds", scalar)?,
        order: order(p, by_key())?,
        keyed: p.flag("keyed")?.unwrap_or(false),
        source: p.source()?,
    }))
}

/// How much later than usual buckets of time begin.
pub(super) fn offset_ms(p: &mut Params<'_>) -> DslResult<i64> {
    Ok(match p.get("offset") {
        None => 0,
        Some(Value::String(text)) => {
            let (sign, rest) = match text.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, text.strip_prefix('+').unwrap_or(text)),
            };
            sign * fixed_ms(rest, "offset")?
        }
        Some(value) => number(value).ok_or_else(|| p.wrong("offset", value))? as i64,
    })
}

/// A unit of time, by name or as so much time.
pub(super) fn date_unit_ms(text: &str) -> DslResult<i64> {
    const DAY: i64 = 86_400_000;
    Ok(match calendar_unit(text) {
        Some(CalendarUnit::Second) => 1000,
        Some(CalendarUnit::Minute) => 60_000,
        Some(CalendarUnit::Hour) => 3_600_000,
        Some(CalendarUnit::Day) => DAY,
        Some(CalendarUnit::Week) => 7 * DAY,
        // As long as they are on average.
        Some(CalendarUnit::Month) => 2_629_746_000,
        Some(CalendarUnit::Quarter) => 7_889_238_000,
        Some(CalendarUnit::Year) => 31_556_952_000,
        None => match fixed_ms(text, "unit")? {
            0 => return Err(bad("[unit] must be above 0")),
            ms => ms,
        },
    })
}

pub(super) fn date_interval(p: &mut Params<'_>) -> DslResult<DateInterval> {
    let (calendar, fixed, legacy) = (p.text("calendar_interval")?, p.text("fixed_interval")?, p.text("interval")?);
    match (calendar, fixed, legacy) {
        (Some(text), None, None) => calendar_unit(&text)
            .map(DateInterval::Calendar)
            .ok_or_else(|| bad(format!("The supplied interval [{text}] could not be parsed as a calendar interval."))),
        (None, Some(text), None) => fixed_ms(&text, "fixed_interval").map(DateInterval::Fixed).and_then(positive),
        (None, None, Some(text)) => match calendar_unit(&text) {
            Some(unit) => Ok(DateInterval::Calendar(unit)),
            None => fixed_ms(&text, "interval").map(DateInterval::Fixed).and_then(positive),
        },
        (None, None, None) => Err(bad("Invalid interval specified, must be non-null and non-empty")),
        (Some(_), Some(_), None) => {
            Err(bad("Cannot use [fixed_interval] with [calendar_interval] configuration option."))
        }
        _ => Err(bad("Cannot use [interval] with [fixed_interval] or [calendar_interval] configuration options.")),
    }
}

fn positive(interval: DateInterval) -> DslResult<DateInterval> {
    match interval {
        DateInterval::Fixed(ms) if ms <= 0 => Err(bad("Zero or negative time interval not supported")),
        other => Ok(other),
    }
}

fn calendar_unit(text: &str) -> Option<CalendarUnit> {
    Some(match text {
        "second" | "1s" => CalendarUnit::Second,
        "minute" | "1m" => CalendarUnit::Minute,
        "hour" | "1h" => CalendarUnit::Hour,
        "day" | "1d" => CalendarUnit::Day,
        "week" | "1w" => CalendarUnit::Week,
        "month" | "1M" => CalendarUnit::Month,
        "quarter" | "1q" => CalendarUnit::Quarter,
        "year" | "1y" => CalendarUnit::Year,
        _ => return None,
    })
}

/// `90s`, `1.5h`, `30d`; a bare number has no unit and is refused, except zero.
fn fixed_ms(text: &str, setting: &str) -> DslResult<i64> {
    let wrong = || {
        bad(format!(
            "failed to parse setting [{setting}] with value [{text}] as a time value: unit is missing or unrecognized"
        ))
    };
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        "" if digits == "0" => 0.0,
        _ => return Err(wrong()),
    };
    let count: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let ms = count * unit_ms;
    // What no date can be away from another: 200,000 years.
    if !(0.0..=6.3e15).contains(&ms) { Err(wrong()) } else { Ok(ms as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

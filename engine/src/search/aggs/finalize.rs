//! From partial results to the `aggregations` object of an answer.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::mapping::date::Zone;
use crate::search::aggs::composite::KeyPart;
use crate::search::aggs::format::{Printer, ValueFormat, parse_zone};
use crate::search::aggs::partial::{
    AggPartial, BucketPartial, CompositePartial, HistogramPartial, RangePartial, StatsPartial, TermBucket, TermKey,
    TermsKind, TermsPartial,
};
use crate::search::aggs::resolve::print_ip;
use crate::search::aggs::rounding::Rounding;
use crate::search::aggs::tdigest::TDigest;
use crate::search::aggs::values::Number;
use crate::search::aggs::{
    AggKind, AggRequest, BUCKETS_MAX, BucketOrder, CompositeRequest, DEPTH_MAX, DateHistogramRequest, FiltersRequest,
    HistogramRequest, Metric, OrderBy, TermsRequest, path, pipeline,
};

/// How to render.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// `typed_keys`: names carry their type, such as `sterms#colours`.
    pub typed_keys: bool,
    /// `search.max_buckets`.
    pub buckets_max: u64,
    /// `rest_total_hits_as_int`
    pub total_as_int: bool,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions { typed_keys: false, buckets_max: BUCKETS_MAX, total_as_int: false }
    }
}

/// Merges what shards gave, one list of partials a shard, into one list.
///
/// # Errors
/// Results of different requests, which only a faulty peer can send.
pub fn merge_shards(mut shards: Vec<Vec<AggPartial>>) -> Result<Vec<AggPartial>> {
    // Pairwise, so that a bucket is copied as often as the tree is high, not once a shard.
    while shards.len() > 1 {
        let mut merged = Vec::with_capacity(shards.len().div_ceil(2));
        let mut left = shards.into_iter();
        while let Some(mut a) = left.next() {
            if let Some(b) = left.next() {
                if a.len() != b.len() {
                    return Err(Error::request(
                        "aggregation_execution_exception",
                        "shards gave different numbers of aggregations",
                    ));
                }
                a.iter_mut().zip(b).try_for_each(|(a, b)| a.merge(b))?;
            }
            merged.push(a);
        }
        shards = merged;
    }
    Ok(shards.pop().unwrap_or_default())
}

/// Renders the answer. `shards` has each shard's partials as its collector gave them, one per request, in order.
/// Partials carry the formats they need, so no mapping is asked. Without shards there is nothing to render: empty.
///
/// # Errors
/// `too_many_buckets_exception` (status 503); `aggregation_execution_exception` where shards disagree on a type.
pub fn finalize(
    shards: Vec<Vec<AggPartial>>,
    requests: &[AggRequest],
    options: &RenderOptions,
) -> Result<Map<String, Json>> {
    let partials = merge_shards(shards)?;
    let mut out = Map::new();
    if !partials.is_empty() {
        let mut render = Render { options, buckets: 0 };
        render.aggs(requests, partials, &mut out, 0)?;
    }
    Ok(out)
}

struct Render<'a> {
    options: &'a RenderOptions,
    buckets: u64,
}

/// What a kind's result cannot be.
fn mismatch(request: &AggRequest) -> Error {
    Error::request(
        "aggregation_execution_exception",
        format!("a shard gave another kind of result for aggregation [{}]", request.name),
    )
}

impl Render<'_> {
    fn consume(&mut self, buckets: u64) -> Result<()> {
        self.buckets += buckets;
        let limit = self.options.buckets_max;
        if self.buckets > limit {
            return Err(Error::request(
                "too_many_buckets_exception",
                format!(
                    "Trying to create too many buckets. Must be less than or equal to: [{limit}] but was [{}]. This \
                     limit can be set by changing the [search.max_buckets] cluster level setting.",
                    self.buckets
                ),
            ));
        }
        Ok(())
    }

    fn aggs(
        &mut self,
        requests: &[AggRequest],
        partials: Vec<AggPartial>,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        if requests.len() != partials.len() || depth > DEPTH_MAX {
            return Err(Error::request("aggregation_execution_exception", "a shard gave results of another request"));
        }
        let mut pipelines = false;
        for (request, partial) in requests.iter().zip(partials) {
            if matches!(request.kind, AggKind::Pipeline(_)) {
                pipelines = true;
                continue;
            }
            let name = if self.options.typed_keys {
                format!("{}#{}", typed_name(&request.kind, &partial), request.name)
            } else {
                request.name.clone()
            };
            let mut object = Map::new();
            if let Some(meta) = &request.meta {
                object.insert("meta".to_owned(), meta.clone());
            }
            self.agg(request, partial, &mut object, depth)?;
            out.insert(name, Json::Object(object));
        }
        if pipelines {
            pipeline::siblings(requests, out, self.options.typed_keys)?;
        }
        Ok(())
    }

    fn agg(
        &mut self,
        request: &AggRequest,
        partial: AggPartial,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        match (&request.kind, partial) {
            (AggKind::Metric { metric, .. }, AggPartial::Stats(stats)) => {
                metric_value(*metric, &stats, &request.kind, out)?;
            }
            (kind @ AggKind::WeightedAvg { .. }, AggPartial::Stats(stats)) => {
                let printer = stats.format.printer()?;
                let value = path::stats_value(kind, &AggPartial::Stats(stats), None);
                put_value(out, "value", Some(value).filter(|v| !v.is_nan()), &printer);
            }
            (AggKind::Cardinality { .. }, AggPartial::Distinct(sketch)) => {
                out.insert("value".to_owned(), json!(sketch.count()));
            }
            (
                kind @ (AggKind::Percentiles { .. } | AggKind::PercentileRanks { .. }),
                partial @ (AggPartial::Digest { .. } | AggPartial::Hdr { .. }),
            ) => quantiles(kind, partial, out)?,
            (AggKind::MedianAbsoluteDeviation { .. }, AggPartial::Digest { mut digest, format }) => {
                digest.compress();
                put_value(out, "value", median_absolute_deviation(&digest), &format.printer()?);
            }
            (AggKind::Terms(terms), AggPartial::Terms(partial)) => {
                self.terms(request, terms, partial, out, depth)?;
            }
            (AggKind::TopHits(top), AggPartial::TopHits(partial)) => {
                out.insert("hits".to_owned(), partial.render(top, self.options.total_as_int));
            }
            (AggKind::Composite(c), AggPartial::Composite(partial)) => {
                self.composite(request, c, partial, out, depth)?;
            }
            (AggKind::Histogram(h), AggPartial::Histogram(partial)) => {
                self.histogram(request, h, partial, out, depth)?;
            }
            (AggKind::DateHistogram(h), AggPartial::Histogram(partial)) => {
                self.date_histogram(request, h, partial, out, depth)?;
            }
            (AggKind::Filters(filters), AggPartial::Fixed { buckets, .. }) => {
                self.filters(request, filters, buckets, out, depth)?;
            }
            (AggKind::Range(r), AggPartial::Fixed { buckets, ranges, format }) => {
                self.ranges(request, r.keyed, buckets, ranges, &format.printer()?, out, depth)?;
            }
            (AggKind::IpRange(r), AggPartial::Fixed { buckets, ranges, .. }) => {
                self.ranges(request, r.keyed, buckets, ranges, &Printer::Raw, out, depth)?;
            }
            (
                AggKind::Filter { .. } | AggKind::Missing { .. } | AggKind::Global,
                AggPartial::Fixed { mut buckets, .. },
            ) => {
                let bucket = buckets.pop().filter(|_| buckets.is_empty()).ok_or_else(|| mismatch(request))?;
                out.insert("doc_count".to_owned(), json!(bucket.doc_count));
                self.aggs(&request.subs, bucket.subs, out, depth + 1)?;
            }
            _ => return Err(mismatch(request)),
        }
        Ok(())
    }

    fn filters(
        &mut self,
        request: &AggRequest,
        filters: &FiltersRequest,
        buckets: Vec<BucketPartial>,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        let other = filters.other_bucket_key.as_ref();
        if buckets.len() != filters.filters.len() + usize::from(other.is_some()) {
            return Err(mismatch(request));
        }
        self.consume(buckets.len() as u64)?;
        let names = filters.filters.iter().map(|(name, _)| name).chain(other);
        let mut rendered = Vec::with_capacity(buckets.len());
        for (name, bucket) in names.zip(buckets) {
            let mut object = Map::new();
            object.insert("doc_count".to_owned(), json!(bucket.doc_count));
            self.aggs(&request.subs, bucket.subs, &mut object, depth + 1)?;
            rendered.push((name.clone(), object));
        }
        self.put_buckets(request, rendered, filters.keyed, out)
    }

    #[allow(clippy::too_many_arguments)]
    fn ranges(
        &mut self,
        request: &AggRequest,
        keyed: bool,
        buckets: Vec<BucketPartial>,
        ranges: Vec<RangePartial>,
        printer: &Printer,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        if buckets.len() != ranges.len() {
            return Err(mismatch(request));
        }
        self.consume(buckets.len() as u64)?;
        let mut rendered = Vec::with_capacity(buckets.len());
        for (bucket, range) in buckets.into_iter().zip(ranges) {
            let mut object = Map::new();
            if !keyed {
                object.insert("key".to_owned(), json!(range.key));
            }
            for (name, end, ip) in [("from", range.from, range.ip_from), ("to", range.to, range.ip_to)] {
                if let Some(end) = end.filter(|v| v.is_finite()) {
                    put_value(&mut object, name, Some(end), printer);
                }
                if let Some(ip) = ip {
                    object.insert(name.to_owned(), json!(ip));
                }
            }
            object.insert("doc_count".to_owned(), json!(bucket.doc_count));
            self.aggs(&request.subs, bucket.subs, &mut object, depth + 1)?;
            rendered.push((range.key, object));
        }
        self.put_buckets(request, rendered, keyed, out)
    }

    fn terms(
        &mut self,
        request: &AggRequest,
        terms: &TermsRequest,
        partial: TermsPartial,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        if partial.kind == TermsKind::Conflict {
            return Err(Error::request(
                "aggregation_execution_exception",
                format!(
                    "Merging/Reducing the aggregations failed when computing the aggregation [{}] because the field \
                     you gave in the aggregation query existed as two different types in two different indices",
                    request.name
                ),
            ));
        }
        let mut other = partial.other_doc_count;
        let mut buckets = partial.buckets;
        buckets.retain(|b| b.doc_count >= terms.min_doc_count && terms.rare.is_none_or(|most| b.doc_count <= most));
        let mut ranked: Vec<(Vec<f64>, TermBucket)> =
            buckets.into_iter().map(|b| (order_values(&terms.order, &request.subs, &b.subs), b)).collect();
        ranked.sort_by(|a, b| {
            compare_buckets(&terms.order, (&a.0, a.1.doc_count), (&b.0, b.1.doc_count), &|| a.1.key.order(&b.1.key))
        });
        other += ranked.iter().skip(terms.size).map(|(_, b)| b.doc_count).sum::<u64>();
        ranked.truncate(terms.size);
        self.consume(ranked.len() as u64)?;
        let printer = partial.format.printer()?;
        let show = |error: Option<u64>| error.map_or(json!(-1), |e| json!(e));
        // A single shard's counts are exact, unless its order says nothing of what it left out.
        let error = if partial.shards > 1 { partial.error } else { partial.error.map(|_| 0) };
        if terms.rare.is_none() {
            out.insert("doc_count_error_upper_bound".to_owned(), show(error));
            out.insert("sum_other_doc_count".to_owned(), json!(other));
        }
        let mut rendered = Vec::with_capacity(ranked.len());
        for (_, bucket) in ranked {
            let mut object = Map::new();
            match bucket.key {
                TermKey::String(text) => object.insert("key".to_owned(), Json::String(text)),
                TermKey::Ip(ip) => object.insert("key".to_owned(), Json::String(print_ip(ip))),
                TermKey::Number(number) => {
                    object.insert("key".to_owned(), number_json(number));
                    if !printer.is_raw() {
                        object.insert("key_as_string".to_owned(), Json::String(printer.print(number)));
                    }
                    None
                }
            };
            object.insert("doc_count".to_owned(), json!(bucket.doc_count));
            if terms.show_term_doc_count_error {
                let own = partial.error.map(|e| e.saturating_sub(bucket.error_known));
                object.insert("doc_count_error_upper_bound".to_owned(), show(own));
            }
            self.aggs(&request.subs, bucket.subs, &mut object, depth + 1)?;
            rendered.push((String::new(), object));
        }
        self.put_buckets(request, rendered, false, out)
    }

    /// The buckets, as their pipelines leave them.
    fn put_buckets(
        &self,
        request: &AggRequest,
        mut buckets: Vec<(String, Map<String, Json>)>,
        keyed: bool,
        out: &mut Map<String, Json>,
    ) -> Result<()> {
        if request.subs.iter().any(|s| matches!(s.kind, AggKind::Pipeline(_))) {
            pipeline::parents(&request.subs, &mut buckets, self.options.typed_keys)?;
        }
        put_buckets(out, buckets, keyed);
        Ok(())
    }

    fn composite(
        &mut self,
        request: &AggRequest,
        composite: &CompositeRequest,
        partial: CompositePartial,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        if partial.formats.len() != composite.sources.len() {
            return Err(mismatch(request));
        }
        let mut printers = Vec::with_capacity(composite.sources.len());
        for (source, format) in composite.sources.iter().zip(&partial.formats) {
            // A date is shown as such only where a format is asked for.
            let raw = matches!(format, ValueFormat::Date { .. }) && source.source.format.is_none();
            printers.push(if raw { Printer::Raw } else { format.printer()? });
        }
        let mut buckets = partial.buckets;
        buckets.truncate(composite.size);
        self.consume(buckets.len() as u64)?;
        let mut rendered = Vec::with_capacity(buckets.len());
        for (parts, bucket) in buckets {
            if parts.len() != printers.len() {
                return Err(mismatch(request));
            }
            let mut key = Map::new();
            for ((part, source), printer) in parts.into_iter().zip(&composite.sources).zip(&printers) {
                let value = match part {
                    KeyPart::Null => Json::Null,
                    KeyPart::Number(Number::Long(n)) if matches!(printer, Printer::Boolean) => Json::Bool(n != 0),
                    KeyPart::Number(n) if printer.is_raw() => number_json(n),
                    KeyPart::Number(n) => Json::String(printer.print(n)),
                    KeyPart::Bytes(bytes) => Json::String(String::from_utf8_lossy(&bytes).into_owned()),
                    KeyPart::Ip(bytes) => match <[u8; 16]>::try_from(&*bytes) {
                        Ok(ip) => Json::String(print_ip(ip)),
                        Err(_) => return Err(mismatch(request)),
                    },
                };
                key.insert(source.name.clone(), value);
            }
            let mut object = Map::new();
            object.insert("key".to_owned(), Json::Object(key));
            object.insert("doc_count".to_owned(), json!(bucket.doc_count));
            self.aggs(&request.subs, bucket.subs, &mut object, depth + 1)?;
            rendered.push((String::new(), object));
        }
        if let Some((_, last)) = rendered.last() {
            out.insert("after_key".to_owned(), last["key"].clone());
        }
        self.put_buckets(request, rendered, false, out)
    }

    fn histogram(
        &mut self,
        request: &AggRequest,
        h: &HistogramRequest,
        partial: HistogramPartial,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        let printer = partial.format.printer()?;
        let buckets = self.fill(partial, h.min_doc_count, &|key| key.checked_add(1))?;
        let key = |index: i64| index as f64 * h.interval + h.offset;
        let show = |index: i64| (json!(key(index)), printer.print_f64(key(index)));
        self.histogram_buckets(request, &h.order, h.keyed, buckets, &printer, &show, out, depth)
    }

    fn date_histogram(
        &mut self,
        request: &AggRequest,
        h: &DateHistogramRequest,
        partial: HistogramPartial,
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        let zone = h.source.time_zone.as_deref().map_or(Ok(Zone::Utc), parse_zone)?;
        let rounding = Rounding::new(h.interval, zone, h.offset_ms);
        let printer = partial.format.printer()?;
        let buckets = self.fill(partial, h.min_doc_count, &|key| Some(rounding.next(key)))?;
        let show = |key: i64| (json!(key), printer.print(Number::Long(key)));
        self.histogram_buckets(request, &h.order, h.keyed, buckets, &printer, &show, out, depth)
    }

    /// Adds buckets without documents, up to the extended bounds, and drops those with too few.
    fn fill(
        &mut self,
        partial: HistogramPartial,
        min_doc_count: u64,
        next: &dyn Fn(i64) -> Option<i64>,
    ) -> Result<Vec<(i64, BucketPartial)>> {
        let HistogramPartial { mut buckets, bounds, empty, .. } = partial;
        if min_doc_count > 0 {
            buckets.retain(|(_, b)| b.doc_count >= min_doc_count);
            self.consume(buckets.len() as u64)?;
            return Ok(buckets);
        }
        let (low, high) = bounds.unwrap_or((None, None));
        let first = buckets.first().map(|b| b.0);
        let last = buckets.last().map(|b| b.0);
        let (first, last) = match (first.or(low), last.or(high)) {
            (Some(first), Some(last)) => (low.map_or(first, |l| l.min(first)), high.map_or(last, |h| h.max(last))),
            _ => return Ok(buckets),
        };
        let mut filled = Vec::with_capacity(buckets.len());
        let mut rest = buckets.into_iter().peekable();
        let mut key = Some(first);
        while let Some(at) = key.filter(|&k| k <= last) {
            self.consume(1)?;
            // A bucket that is not on the grid (clocks changed between two shards' rules) still comes in its place.
            match rest.peek() {
                Some((found, _)) if *found <= at => {
                    let bucket = rest.next().expect("peeked");
                    key = if bucket.0 == at { next(at) } else { Some(at) };
                    filled.push(bucket);
                }
                _ => {
                    filled.push((at, BucketPartial { doc_count: 0, subs: empty.clone() }));
                    key = next(at);
                }
            }
        }
        filled.extend(rest);
        Ok(filled)
    }

    #[allow(clippy::too_many_arguments)]
    fn histogram_buckets(
        &mut self,
        request: &AggRequest,
        order: &[BucketOrder],
        keyed: bool,
        buckets: Vec<(i64, BucketPartial)>,
        printer: &Printer,
        show: &dyn Fn(i64) -> (Json, String),
        out: &mut Map<String, Json>,
        depth: usize,
    ) -> Result<()> {
        let mut ranked: Vec<(Vec<f64>, (i64, BucketPartial))> =
            buckets.into_iter().map(|b| (order_values(order, &request.subs, &b.1.subs), b)).collect();
        ranked.sort_by(|a, b| {
            compare_buckets(order, (&a.0, a.1.1.doc_count), (&b.0, b.1.1.doc_count), &|| a.1.0.cmp(&b.1.0))
        });
        let mut rendered = Vec::with_capacity(ranked.len());
        for (_, (key, bucket)) in ranked {
            let (key, text) = show(key);
            let mut object = Map::new();
            if !printer.is_raw() {
                object.insert("key_as_string".to_owned(), json!(text));
            }
            object.insert("key".to_owned(), key);
            object.insert("doc_count".to_owned(), json!(bucket.doc_count));
            self.aggs(&request.subs, bucket.subs, &mut object, depth + 1)?;
            rendered.push((text, object));
        }
        self.put_buckets(request, rendered, keyed, out)
    }
}

fn put_buckets(out: &mut Map<String, Json>, buckets: Vec<(String, Map<String, Json>)>, keyed: bool) {
    let value = if keyed {
        Json::Object(buckets.into_iter().map(|(name, object)| (name, Json::Object(object))).collect())
    } else {
        Json::Array(buckets.into_iter().map(|(_, object)| Json::Object(object)).collect())
    };
    out.insert("buckets".to_owned(), value);
}

/// The values of the order's paths, NaN for its other keys.
fn order_values(order: &[BucketOrder], requests: &[AggRequest], subs: &[AggPartial]) -> Vec<f64> {
    if !order.iter().any(|o| matches!(o.by, OrderBy::Path(_))) {
        return Vec::new();
    }
    order
        .iter()
        .map(|o| match &o.by {
            OrderBy::Path(text) => path::value_at(text, requests, subs),
            _ => f64::NAN,
        })
        .collect()
}

fn compare_buckets(order: &[BucketOrder], a: (&[f64], u64), b: (&[f64], u64), keys: &dyn Fn() -> Ordering) -> Ordering {
    for (i, o) in order.iter().enumerate() {
        let ordering = match &o.by {
            OrderBy::Path(_) => path::compare_values(a.0[i], b.0[i], o.ascending),
            by => {
                let ordering = if *by == OrderBy::Count { a.1.cmp(&b.1) } else { keys() };
                if o.ascending { ordering } else { ordering.reverse() }
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    keys()
}

fn number_json(number: Number) -> Json {
    match number {
        Number::Long(v) => json!(v),
        Number::Unsigned(v) => json!(v),
        Number::Double(v) => double_json(v),
    }
}

/// A double; what JSON has no number for becomes text, as in Elasticsearch.
pub(crate) fn double_json(value: f64) -> Json {
    serde_json::Number::from_f64(value).map_or_else(|| Json::String(super::format::java_double(value)), Json::Number)
}

/// `name` and, where the field has a format, `name_as_string`.
pub(crate) fn put_value(out: &mut Map<String, Json>, name: &str, value: Option<f64>, printer: &Printer) {
    out.insert(name.to_owned(), value.map_or(Json::Null, double_json));
    if let Some(value) = value
        && !printer.is_raw()
    {
        out.insert(format!("{name}_as_string"), Json::String(printer.print_f64(value)));
    }
}

pub(crate) fn metric_value(
    metric: Metric,
    stats: &StatsPartial,
    kind: &AggKind,
    out: &mut Map<String, Json>,
) -> Result<()> {
    let printer = stats.format.printer()?;
    let some = stats.count > 0;
    let partial = AggPartial::Stats(stats.clone());
    let of = |property: &str| Some(path::stats_value(kind, &partial, Some(property))).filter(|_| some);
    match metric {
        Metric::Avg => put_value(out, "value", of("avg"), &printer),
        Metric::Min => put_value(out, "value", stats.min, &printer),
        Metric::Max => put_value(out, "value", stats.max, &printer),
        Metric::Sum => put_value(out, "value", Some(stats.sum.value()), &printer),
        Metric::ValueCount => {
            out.insert("value".to_owned(), json!(stats.count));
        }
        Metric::Stats | Metric::ExtendedStats { .. } => {
            let main = [("min", stats.min), ("max", stats.max), ("avg", of("avg")), ("sum", Some(stats.sum.value()))];
            out.insert("count".to_owned(), json!(stats.count));
            for (name, value) in main {
                out.insert(name.to_owned(), value.map_or(Json::Null, double_json));
            }
            if some && !printer.is_raw() {
                for (name, value) in main {
                    out.insert(format!("{name}_as_string"), json!(printer.print_f64(value.unwrap_or(f64::NAN))));
                }
            }
        }
    }
    if let Metric::ExtendedStats { sigma } = metric {
        const DEVIATIONS: [&str; 7] = [
            "sum_of_squares",
            "variance",
            "variance_population",
            "variance_sampling",
            "std_deviation",
            "std_deviation_population",
            "std_deviation_sampling",
        ];
        let json_of = |v: Option<f64>| v.map_or(Json::Null, double_json);
        for name in DEVIATIONS {
            out.insert(name.to_owned(), json_of(of(name)));
        }
        let bound = |deviation: &str, sign: f64| Some(of("avg")? + sign * sigma * of(deviation)?);
        let (population, sampling) = ("std_deviation_population", "std_deviation_sampling");
        let bounds = [
            ("upper", bound(population, 1.0)),
            ("lower", bound(population, -1.0)),
            ("upper_population", bound(population, 1.0)),
            ("lower_population", bound(population, -1.0)),
            ("upper_sampling", bound(sampling, 1.0)),
            ("lower_sampling", bound(sampling, -1.0)),
        ];
        let object = bounds.iter().map(|(name, v)| ((*name).to_owned(), json_of(*v))).collect();
        out.insert("std_deviation_bounds".to_owned(), Json::Object(object));
        if some && !printer.is_raw() {
            for name in DEVIATIONS {
                out.insert(format!("{name}_as_string"), json!(printer.print_f64(of(name).unwrap_or(f64::NAN))));
            }
            let object = bounds
                .iter()
                .map(|(name, v)| ((*name).to_owned(), json!(printer.print_f64(v.unwrap_or(f64::NAN)))))
                .collect();
            out.insert("std_deviation_bounds_as_string".to_owned(), Json::Object(object));
        }
    }
    Ok(())
}

fn quantiles(kind: &AggKind, partial: AggPartial, out: &mut Map<String, Json>) -> Result<()> {
    let (asked, keyed) = match kind {
        AggKind::Percentiles { percents, keyed, .. } => (percents, *keyed),
        AggKind::PercentileRanks { values, keyed, .. } => (values, *keyed),
        _ => unreachable!("asked for percentiles only"),
    };
    let ranks = matches!(kind, AggKind::PercentileRanks { .. });
    let (values, format): (Vec<Option<f64>>, _) = match partial {
        AggPartial::Digest { mut digest, format } => {
            digest.compress();
            let value = |&x: &f64| {
                if ranks { digest.rank(x).map(|r| r * 100.0) } else { digest.quantile(x / 100.0) }
            };
            (asked.iter().map(value).collect(), format)
        }
        AggPartial::Hdr { histogram, format } => {
            let value = |&x: &f64| {
                if ranks { histogram.rank(x).map(|r| r * 100.0) } else { histogram.quantile(x / 100.0) }
            };
            (asked.iter().map(value).collect(), format)
        }
        _ => unreachable!("checked by the caller"),
    };
    let printer = format.printer()?;
    let named = asked.iter().zip(values);
    let rendered = if keyed {
        let mut object = Map::new();
        for (at, value) in named {
            put_value(&mut object, &super::format::java_double(*at), value, &printer);
        }
        Json::Object(object)
    } else {
        let one = |(at, value): (&f64, Option<f64>)| {
            let mut object = Map::new();
            object.insert("key".to_owned(), double_json(*at));
            put_value(&mut object, "value", value, &printer);
            Json::Object(object)
        };
        Json::Array(named.map(one).collect())
    };
    out.insert("values".to_owned(), rendered);
    Ok(())
}

/// Median distance from the median; none when empty.
pub(crate) fn median_absolute_deviation(digest: &TDigest) -> Option<f64> {
    let mut digest = digest.clone();
    digest.compress();
    let median = digest.quantile(0.5)?;
    let mut distances = TDigest::new(10_000.0);
    for (mean, weight) in digest.weighted() {
        distances.insert_weighted((mean - median).abs(), weight);
    }
    distances.compress();
    distances.quantile(0.5)
}

/// The type that `typed_keys` puts before the name.
fn typed_name(kind: &AggKind, partial: &AggPartial) -> &'static str {
    match (kind, partial) {
        (AggKind::Terms(request), AggPartial::Terms(t)) if request.rare.is_some() => match t.kind {
            TermsKind::Unmapped | TermsKind::Conflict => "umrareterms",
            TermsKind::String => "srareterms",
            TermsKind::Long | TermsKind::Double => "lrareterms",
        },
        (AggKind::Terms(_), AggPartial::Terms(t)) => match t.kind {
            TermsKind::Unmapped | TermsKind::Conflict => "umterms",
            TermsKind::String => "sterms",
            TermsKind::Long => "lterms",
            TermsKind::Double => "dterms",
        },
        (AggKind::Percentiles { .. }, AggPartial::Hdr { .. }) => "hdr_percentiles",
        (AggKind::Percentiles { .. }, _) => "tdigest_percentiles",
        (AggKind::PercentileRanks { .. }, AggPartial::Hdr { .. }) => "hdr_percentile_ranks",
        (AggKind::PercentileRanks { .. }, _) => "tdigest_percentile_ranks",
        (kind, _) => path::type_name(kind),
    }
}

//! Aggregations against a naive model: random documents in random segments and shards, random requests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_lite::future::block_on;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::leaf::{Leaf, SegmentRef};
use super::values::{ReadNumbers, ReadOrdinals};
use super::*;
use crate::analysis::AnalyzerRegistry;
use crate::budget::Pool;
use crate::ids::DocId;
use crate::mapping::{Mapping, number};
use crate::pace::Unpaced;
use crate::query::{Query, QueryKind, Value};
use crate::search::doc_set::DocSet;
use crate::seed::HashSeed;

/// A number column without a segment.
#[derive(Default)]
pub(crate) struct PlainNumbers {
    pub docs: Vec<Vec<u64>>,
}

impl PlainNumbers {
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let all = || self.docs.iter().flatten().copied();
        Some((all().min()?, all().max()?))
    }
}

impl ReadNumbers for PlainNumbers {
    fn is_single(&self) -> bool {
        self.docs.iter().all(|d| d.len() <= 1)
    }
    fn is_full(&self) -> bool {
        self.docs.iter().all(|d| !d.is_empty())
    }
    fn first(&self, doc: DocId) -> Option<u64> {
        self.docs[doc as usize].first().copied()
    }
    fn values(&self, doc: DocId, out: &mut Vec<u64>) {
        out.clone_from(&self.docs[doc as usize]);
    }
    fn range(&self, docs: std::ops::Range<DocId>, out: &mut Vec<u64>) {
        assert!(self.is_single() && self.is_full());
        out.clear();
        out.extend(self.docs[docs.start as usize..docs.end as usize].iter().map(|d| d[0]));
    }
    fn gather(&self, docs: &[DocId], out: &mut Vec<u64>) {
        assert!(self.is_single() && self.is_full());
        out.clear();
        out.extend(docs.iter().map(|&d| self.docs[d as usize][0]));
    }
}

/// An ordinal column without a segment.
#[derive(Default)]
pub(crate) struct PlainOrdinals {
    pub terms: Vec<Vec<u8>>,
    pub docs: Vec<Vec<u32>>,
}

impl PlainOrdinals {
    pub fn new(docs: Vec<Vec<Vec<u8>>>) -> PlainOrdinals {
        let terms: Vec<Vec<u8>> = docs.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let ordinal = |t: &Vec<u8>| terms.binary_search(t).unwrap() as u32;
        let docs = docs.iter().map(|d| d.iter().map(ordinal).collect::<BTreeSet<_>>().into_iter().collect()).collect();
        PlainOrdinals { terms, docs }
    }
    pub fn ordinal_count(&self) -> u32 {
        self.terms.len() as u32
    }
    pub fn term(&self, ordinal: u32, out: &mut Vec<u8>) {
        out.clone_from(&self.terms[ordinal as usize]);
    }
}

impl ReadOrdinals for PlainOrdinals {
    fn is_full(&self) -> bool {
        self.docs.iter().all(|d| !d.is_empty())
    }
    fn range(&self, docs: std::ops::Range<DocId>, out: &mut Vec<u32>) {
        self.gather(&docs.collect::<Vec<_>>(), out);
    }
    fn gather(&self, docs: &[DocId], out: &mut Vec<u32>) {
        assert!(self.is_single() && self.is_full());
        out.clear();
        out.extend(docs.iter().map(|&d| self.docs[d as usize][0]));
    }
    fn is_single(&self) -> bool {
        self.docs.iter().all(|d| d.len() <= 1)
    }
    fn first(&self, doc: DocId) -> Option<u32> {
        self.docs[doc as usize].first().copied()
    }
    fn values(&self, doc: DocId, out: &mut Vec<u32>) {
        out.clone_from(&self.docs[doc as usize]);
    }
    fn first_from(&self, term: &[u8]) -> u32 {
        self.terms.partition_point(|t| t.as_slice() < term) as u32
    }
}

/// A segment that is nothing but columns.
#[derive(Default)]
pub(crate) struct PlainSegment {
    pub doc_count: u32,
    pub numbers: HashMap<String, PlainNumbers>,
    pub ordinals: HashMap<String, PlainOrdinals>,
    pub deleted: HashSet<u32>,
}

/// A document of the model.
#[derive(Clone, Debug, Default)]
struct Doc {
    n: Vec<i64>,
    d: Option<f64>,
    k: Vec<&'static str>,
    t: i64,
    deleted: bool,
    matches: bool,
}

const TERMS: [&str; 6] = ["red", "green", "blue", "", "grün", "redder"];

fn any_doc() -> impl Strategy<Value = Doc> {
    (
        prop::collection::vec(-20i64..20, 0..3),
        prop::option::of((-40i64..40).prop_map(|v| v as f64 / 4.0)),
        prop::collection::btree_set(prop::sample::select(TERMS.to_vec()), 0..3),
        1_570_000_000i64..1_610_000_000,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(mut n, d, k, t, deleted, matches)| {
            n.sort_unstable();
            Doc { n, d, k: k.into_iter().collect(), t: t * 1000, deleted, matches }
        })
}

fn mapping() -> Mapping {
    let json = json!({"properties": {
        "n": {"type": "long"}, "d": {"type": "double"}, "k": {"type": "keyword"}, "t": {"type": "date"},
        "ip": {"type": "ip"}, "flag": {"type": "boolean"}, "text": {"type": "text"}
    }});
    Mapping::parse(&json, &AnalyzerRegistry::default()).unwrap()
}

fn segment(docs: &[Doc]) -> PlainSegment {
    let numbers = |f: &dyn Fn(&Doc) -> Vec<u64>| PlainNumbers { docs: docs.iter().map(f).collect() };
    let k = docs.iter().map(|d| d.k.iter().map(|k| k.as_bytes().to_vec()).collect()).collect();
    PlainSegment {
        doc_count: docs.len() as u32,
        numbers: HashMap::from([
            ("n".to_owned(), numbers(&|d| d.n.iter().map(|&v| number::from_i64(v)).collect())),
            ("d".to_owned(), numbers(&|d| d.d.iter().map(|&v| number::from_f64(v)).collect())),
            ("t".to_owned(), numbers(&|d| vec![number::from_i64(d.t)])),
        ]),
        ordinals: HashMap::from([("k".to_owned(), PlainOrdinals::new(k))]),
        deleted: (0..docs.len() as u32).filter(|&i| docs[i as usize].deleted).collect(),
    }
}

fn context(bytes: u64) -> AggContext {
    let memory = Pool::new("request", bytes);
    AggContext { index: String::new(), now_ms: 1_600_000_000_000, memory, hash_seed: HashSeed::new(1) }
}

/// The only query of the model: a term of `k`.
fn has(term: &str) -> Query {
    QueryKind::Term { field: "k".to_owned(), value: Value::String(term.to_owned()), case_insensitive: false }.into()
}

fn accepts(query: &Query, doc: &Doc) -> bool {
    match &query.kind {
        QueryKind::Term { value: Value::String(term), .. } => doc.k.contains(&term.as_str()),
        _ => unreachable!(),
    }
}

/// Runs the requests on one shard.
fn shard(requests: &[AggRequest], segments: &[Vec<Doc>]) -> Vec<AggPartial> {
    let mut collector = AggCollector::new(requests, &mapping(), context(1 << 26)).unwrap();
    for docs in segments {
        let plain = segment(docs);
        let filters: Vec<DocSet> = collector
            .filters()
            .iter()
            .map(|q| {
                let mut set = DocSet::empty(docs.len() as u32);
                docs.iter().enumerate().filter(|(_, d)| accepts(q, d)).for_each(|(i, _)| set.insert(i as u32));
                set
            })
            .collect();
        let mut leaf = collector.begin(Leaf { segment: SegmentRef::Plain(&plain), filters });
        let hits: Vec<u32> =
            (0..docs.len() as u32).filter(|&i| docs[i as usize].matches && !docs[i as usize].deleted).collect();
        for batch in hits.chunks(7) {
            leaf.collect(batch, None).unwrap();
        }
        block_on(leaf.finish(&Unpaced)).unwrap();
    }
    let partials = block_on(collector.finish(&Unpaced)).unwrap();
    // As it would come from another node.
    let wire = serde_json::to_vec(&partials).unwrap();
    let back: Vec<AggPartial> = serde_json::from_slice(&wire).unwrap();
    assert_eq!(back, partials);
    back
}

fn run(requests: &[AggRequest], shards: &[Vec<Vec<Doc>>]) -> Json {
    let partials = shards.iter().map(|s| shard(requests, s)).collect();
    Json::Object(finalize(partials, requests, &RenderOptions::default()).unwrap())
}

// The model: every definition again, in the simplest words.

fn values(doc: &Doc, field: &str) -> Vec<f64> {
    match field {
        "n" => doc.n.iter().map(|&v| v as f64).collect(),
        "d" => doc.d.into_iter().collect(),
        "t" => vec![doc.t as f64],
        _ => Vec::new(),
    }
}

fn with_missing(source: &ValuesSource, doc: &Doc) -> Vec<f64> {
    let found = values(doc, &source.field);
    match &source.missing {
        Some(Value::Int(v)) if found.is_empty() => vec![*v as f64],
        _ => found,
    }
}

fn model(requests: &[AggRequest], docs: &[&Doc], all: &[&Doc]) -> Json {
    Json::Object(requests.iter().map(|r| (r.name.clone(), model_one(r, docs, all))).collect())
}

fn bucket(request: &AggRequest, key: Json, docs: &[&Doc], all: &[&Doc]) -> Json {
    let mut out = match model(&request.subs, docs, all) {
        Json::Object(map) => map,
        _ => unreachable!(),
    };
    if !key.is_null() {
        out.insert("key".to_owned(), key);
    }
    out.insert("doc_count".to_owned(), json!(docs.len()));
    Json::Object(out)
}

fn grouped<'a, K: Ord>(docs: &[&'a Doc], keys: impl Fn(&Doc) -> Vec<K>) -> BTreeMap<K, Vec<&'a Doc>> {
    let mut groups: BTreeMap<K, Vec<&'a Doc>> = BTreeMap::new();
    for &doc in docs {
        for key in keys(doc).into_iter().collect::<BTreeSet<K>>() {
            groups.entry(key).or_default().push(doc);
        }
    }
    groups
}

fn stats(values: &[f64]) -> (f64, f64, f64, f64) {
    let sum: f64 = values.iter().sum();
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (sum, sum / values.len() as f64, min, max)
}

fn model_one(request: &AggRequest, docs: &[&Doc], all: &[&Doc]) -> Json {
    match &request.kind {
        AggKind::Metric { metric, source } => {
            let v: Vec<f64> = docs.iter().flat_map(|d| with_missing(source, d)).collect();
            let some = |x: f64| if v.is_empty() { Json::Null } else { json!(x) };
            let (sum, avg, min, max) = stats(&v);
            match metric {
                Metric::Avg => json!({"value": some(avg)}),
                Metric::Min => json!({"value": some(min)}),
                Metric::Max => json!({"value": some(max)}),
                Metric::Sum => json!({"value": sum}),
                Metric::ValueCount => json!({"value": v.len()}),
                Metric::Stats => {
                    json!({"count": v.len(), "min": some(min), "max": some(max), "avg": some(avg), "sum": sum})
                }
                Metric::ExtendedStats { .. } => unreachable!(),
            }
        }
        AggKind::Cardinality { source, .. } => {
            let n = if source.field == "k" {
                docs.iter().flat_map(|d| d.k.clone()).collect::<HashSet<_>>().len()
            } else {
                docs.iter().flat_map(|d| values(d, &source.field)).map(f64::to_bits).collect::<HashSet<_>>().len()
            };
            json!({"value": n})
        }
        AggKind::Terms(terms) => {
            let mut buckets: Vec<(Json, Vec<&Doc>)> = if terms.source.field == "k" {
                let keys = |d: &Doc| d.k.iter().map(|k| (*k).to_owned()).collect::<Vec<String>>();
                let mut groups = grouped(docs, keys);
                if terms.min_doc_count == 0 {
                    all.iter().flat_map(|d| keys(d)).for_each(|k| {
                        groups.entry(k).or_default();
                    });
                }
                groups.into_iter().map(|(k, d)| (json!(k), d)).collect()
            } else {
                let missing =
                    |d: &Doc| with_missing(&terms.source, d).into_iter().map(|v| v as i64).collect::<Vec<i64>>();
                grouped(docs, missing).into_iter().map(|(k, d)| (json!(k), d)).collect()
            };
            if let Some(TermSet::Values(list)) = &terms.exclude {
                buckets.retain(|(k, _)| !list.iter().any(|v| matches!(v, Value::String(s) if k == s)));
            }
            buckets.retain(|(_, d)| d.len() as u64 >= terms.min_doc_count);
            let order = &terms.order[0];
            // Buckets come in order of keys, and the sort is stable: ties stay by key, ascending.
            match &order.by {
                OrderBy::Key if !order.ascending => buckets.reverse(),
                OrderBy::Key => {}
                OrderBy::Count if order.ascending => buckets.sort_by_key(|(_, d)| d.len()),
                OrderBy::Count => buckets.sort_by_key(|(_, d)| std::cmp::Reverse(d.len())),
                OrderBy::Path(path) => {
                    assert_eq!(path, "s.sum");
                    let sum = |d: &[&Doc]| d.iter().flat_map(|d| values(d, "d")).sum::<f64>();
                    buckets.sort_by(|a, b| {
                        let o = sum(&a.1).partial_cmp(&sum(&b.1)).unwrap();
                        if order.ascending { o } else { o.reverse() }
                    });
                }
            }
            let other: usize = buckets.iter().skip(terms.size).map(|(_, d)| d.len()).sum();
            buckets.truncate(terms.size);
            json!({
                "doc_count_error_upper_bound": 0, "sum_other_doc_count": other,
                "buckets": buckets.into_iter().map(|(k, d)| bucket(request, k, &d, all)).collect::<Vec<_>>()
            })
        }
        AggKind::Filter { query } => {
            let kept: Vec<&Doc> = docs.iter().copied().filter(|d| accepts(query, d)).collect();
            bucket(request, Json::Null, &kept, all)
        }
        AggKind::Filters(f) => {
            let mut out = Map::new();
            for (name, query) in &f.filters {
                let kept: Vec<&Doc> = docs.iter().copied().filter(|d| accepts(query, d)).collect();
                out.insert(name.clone(), bucket(request, Json::Null, &kept, all));
            }
            let rest: Vec<&Doc> =
                docs.iter().copied().filter(|d| !f.filters.iter().any(|(_, q)| accepts(q, d))).collect();
            out.insert("rest".to_owned(), bucket(request, Json::Null, &rest, all));
            json!({"buckets": out})
        }
        AggKind::Missing { source } => {
            let kept: Vec<&Doc> = docs
                .iter()
                .copied()
                .filter(|d| if source.field == "k" { d.k.is_empty() } else { values(d, &source.field).is_empty() })
                .collect();
            bucket(request, Json::Null, &kept, all)
        }
        AggKind::Global => {
            let live: Vec<&Doc> = all.iter().copied().filter(|d| !d.deleted).collect();
            bucket(request, Json::Null, &live, all)
        }
        AggKind::Range(r) => {
            let of = |v: &Option<Value>| match v {
                Some(Value::Float(f)) => Some(*f),
                _ => None,
            };
            let buckets: Vec<Json> = r
                .ranges
                .iter()
                .map(|range| {
                    let (from, to) = (of(&range.from), of(&range.to));
                    let inside = |v: &f64| from.is_none_or(|f| *v >= f) && to.is_none_or(|t| *v < t);
                    let kept: Vec<&Doc> =
                        docs.iter().copied().filter(|d| values(d, &r.source.field).iter().any(inside)).collect();
                    let show = |v: Option<f64>| v.map_or("*".to_owned(), |v| format!("{v:?}"));
                    let mut b = bucket(request, json!(format!("{}-{}", show(from), show(to))), &kept, all);
                    let object = b.as_object_mut().unwrap();
                    from.map(|v| object.insert("from".to_owned(), json!(v)));
                    to.map(|v| object.insert("to".to_owned(), json!(v)));
                    b
                })
                .collect();
            json!({"buckets": buckets})
        }
        AggKind::Histogram(h) => {
            let key = |v: f64| ((v - h.offset) / h.interval).floor() as i64;
            let mut groups = grouped(docs, |d| with_missing(&h.source, d).into_iter().map(key).collect::<Vec<i64>>());
            if let Some(Bounds { min: Some(min), max: Some(max) }) = h.hard_bounds {
                groups.retain(|k, _| (min..=max).contains(&(*k as f64 * h.interval + h.offset)));
            }
            if h.min_doc_count == 0 {
                let mut ends: Vec<i64> = groups.keys().copied().collect();
                if let Some(Bounds { min: Some(min), max: Some(max) }) = h.extended_bounds {
                    ends.extend([key(min), key(max)]);
                }
                if let (Some(&first), Some(&last)) = (ends.iter().min(), ends.iter().max()) {
                    (first..=last).for_each(|k| {
                        groups.entry(k).or_default();
                    });
                }
            }
            groups.retain(|_, d| d.len() as u64 >= h.min_doc_count);
            let buckets: Vec<Json> = groups
                .into_iter()
                .map(|(k, d)| {
                    // Terms without documents are not listed below a bucket that no document made.
                    let all = if d.is_empty() { &[] } else { all };
                    bucket(request, json!(k as f64 * h.interval + h.offset), &d, all)
                })
                .collect();
            json!({"buckets": buckets})
        }
        AggKind::DateHistogram(h) => {
            let zone = TimeZone::get(h.source.time_zone.as_deref().unwrap()).unwrap();
            let start = |t: f64| {
                let day = jiff::Timestamp::from_millisecond(t as i64).unwrap().to_zoned(zone.clone());
                let day = day.start_of_day().unwrap();
                let day = match h.interval {
                    DateInterval::Calendar(CalendarUnit::Month) => day.first_of_month().unwrap(),
                    DateInterval::Calendar(CalendarUnit::Day) => day,
                    _ => unreachable!(),
                };
                day.timestamp().as_millisecond()
            };
            let groups = grouped(docs, |d| vec![start(d.t as f64)]);
            let buckets: Vec<Json> = groups.into_iter().map(|(k, d)| bucket(request, json!(k), &d, all)).collect();
            json!({"buckets": buckets})
        }
        _ => unreachable!("not in the model"),
    }
}

/// Numbers may differ in the last digits; texts that the model leaves out are not compared.
fn same(got: &Json, expected: &Json) -> bool {
    match (got, expected) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            let extra = a.keys().filter(|k| !b.contains_key(*k) && !k.ends_with("_as_string")).count();
            extra == 0 && b.iter().all(|(k, v)| a.get(k).is_some_and(|a| same(a, v)))
        }
        (a, b) => a == b,
    }
}

fn agg(name: &str, kind: AggKind, subs: Vec<AggRequest>) -> AggRequest {
    AggRequest { name: name.to_owned(), kind, subs, meta: None }
}

fn metric(name: &str, metric: Metric, field: &str) -> AggRequest {
    agg(name, AggKind::Metric { metric, source: ValuesSource::field(field) }, Vec::new())
}

fn any_leaf() -> impl Strategy<Value = AggRequest> {
    let metrics = vec![Metric::Avg, Metric::Min, Metric::Max, Metric::Sum, Metric::Stats, Metric::ValueCount];
    prop_oneof![
        (prop::sample::select(metrics), prop::sample::select(vec!["n", "d", "t", "none"]), any::<bool>()).prop_map(
            |(m, field, missing)| {
                let missing = (missing && field != "none").then_some(Value::Int(3));
                let source = ValuesSource {
                    missing,
                    format: (field == "t").then(|| "epoch_millis".to_owned()),
                    ..ValuesSource::field(field)
                };
                agg("m", AggKind::Metric { metric: m, source }, Vec::new())
            }
        ),
        prop::sample::select(vec!["n", "d", "k", "none"]).prop_map(|field| {
            agg("c", AggKind::Cardinality { source: ValuesSource::field(field), precision_threshold: 3000 }, Vec::new())
        }),
    ]
}

fn any_bucket_kind() -> impl Strategy<Value = AggKind> {
    let order = prop::sample::select(vec![
        BucketOrder { by: OrderBy::Count, ascending: false },
        BucketOrder { by: OrderBy::Key, ascending: true },
        BucketOrder { by: OrderBy::Key, ascending: false },
        BucketOrder { by: OrderBy::Path("s.sum".to_owned()), ascending: true },
        BucketOrder { by: OrderBy::Path("s.sum".to_owned()), ascending: false },
    ]);
    prop_oneof![
        4 => (prop::sample::select(vec!["k", "n"]), order, 1usize..8, 0u64..3, any::<bool>(), any::<bool>()).prop_map(
            |(field, order, size, min_doc_count, missing, exclude)| {
                // The model knows no empty buckets of numbers.
                let min_doc_count = if field == "n" { min_doc_count.max(1) } else { min_doc_count };
                let missing = (missing && field == "n").then_some(Value::Int(7));
                let exclude = (exclude && field == "k").then(|| {
                    TermSet::Values(vec![Value::String("red".to_owned()), Value::String("none".to_owned())])
                });
                AggKind::Terms(TermsRequest {
                    size, min_doc_count, shard_size: Some(1000), order: vec![order], exclude,
                    ..TermsRequest::new(ValuesSource { missing, ..ValuesSource::field(field) })
                })
            }
        ),
        1 => Just(AggKind::Filter { query: has("red") }),
        1 => Just(AggKind::Filters(FiltersRequest {
            filters: vec![("r".to_owned(), has("red")), ("g".to_owned(), has("grün"))],
            keyed: true,
            other_bucket_key: Some("rest".to_owned()),
        })),
        1 => prop::sample::select(vec!["k", "n", "d", "none"])
            .prop_map(|f| AggKind::Missing { source: ValuesSource::field(f) }),
        2 => prop::sample::select(vec!["n", "d"]).prop_map(|f| {
            let range = |from: Option<f64>, to: Option<f64>| Range {
                key: None, from: from.map(Value::Float), to: to.map(Value::Float),
            };
            AggKind::Range(RangeRequest {
                source: ValuesSource::field(f),
                ranges: vec![
                    range(None, Some(-5.0)), range(None, None), range(Some(-7.5), Some(2.0)),
                    range(Some(-7.5), Some(9.0)), range(Some(2.0), None),
                ],
                keyed: false, date: false,
            })
        }),
        2 => (prop::sample::select(vec!["n", "d"]), prop::sample::select(vec![1.0, 2.5, 10.0]), 0u64..2,
              any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(f, interval, min_doc_count, extended, hard, missing)| {
            AggKind::Histogram(HistogramRequest {
                source: ValuesSource { missing: missing.then_some(Value::Int(50)), ..ValuesSource::field(f) },
                interval, offset: 0.5, min_doc_count,
                extended_bounds: extended.then_some(Bounds { min: Some(-12.0), max: Some(13.0) }),
                hard_bounds: hard.then_some(Bounds { min: Some(-15.0), max: Some(15.0) }),
                order: vec![BucketOrder { by: OrderBy::Key, ascending: true }],
                keyed: false,
            })
        }),
        2 => (prop::sample::select(vec![CalendarUnit::Day, CalendarUnit::Month]),
              prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo"])).prop_map(|(unit, zone)| {
            AggKind::DateHistogram(DateHistogramRequest {
                source: ValuesSource { time_zone: Some(zone.to_owned()), ..ValuesSource::field("t") },
                interval: DateInterval::Calendar(unit), offset_ms: 0, min_doc_count: 1,
                extended_bounds: None, hard_bounds: None,
                order: vec![BucketOrder { by: OrderBy::Key, ascending: true }],
                keyed: false,
            })
        }),
    ]
}

fn any_request() -> impl Strategy<Value = AggRequest> {
    let leaf = any_leaf().boxed();
    let level = |inside: BoxedStrategy<AggRequest>| {
        (any_bucket_kind(), prop::option::of(inside)).prop_map(|(kind, sub)| {
            let mut subs = vec![metric("s", Metric::Stats, "d")];
            subs.extend(sub);
            agg("b", kind, subs)
        })
    };
    let one = prop_oneof![leaf.clone(), level(leaf)].boxed();
    let two = prop_oneof![one.clone(), level(one)].boxed();
    prop_oneof![4 => two.clone(), 1 => two.prop_map(|r| agg("g", AggKind::Global, vec![r]))]
}

fn lists_empty_terms(request: &AggRequest) -> bool {
    matches!(&request.kind, AggKind::Terms(terms) if terms.min_doc_count == 0)
        || request.subs.iter().any(lists_empty_terms)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_split_into_shards_and_segments_gives_the_models_answer(
        docs in prop::collection::vec(any_doc(), 0..60),
        cuts in prop::collection::vec(0usize..60, 0..6),
        request in any_request(),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(docs.len())).collect();
        cuts.extend([0, docs.len()]);
        cuts.sort_unstable();
        let segments: Vec<Vec<Doc>> = cuts.windows(2).map(|w| docs[w[0]..w[1]].to_vec()).collect();
        let all: Vec<&Doc> = docs.iter().collect();
        let hits: Vec<&Doc> = docs.iter().filter(|d| d.matches && !d.deleted).collect();
        let requests = [request];
        let expected = model(&requests, &hits, &all);
        let mut splits = vec![vec![segments.clone()], vec![vec![docs.clone()]]];
        // A term without documents is listed in the buckets of shards that have the term and the bucket around it, so then
        // the answer depends on which shard has what.
        if !requests.iter().any(|r| r.subs.iter().any(lists_empty_terms)) {
            splits.push(segments.iter().map(|s| vec![s.clone()]).collect());
        }
        for shards in splits {
            let got = run(&requests, &shards);
            prop_assert!(same(&got, &expected), "{}\n{}", got, expected);
        }
    }
}

proptest! {
    /// Runs of documents give the very partial results, to the last bit of a sum, that their batches give.
    #[test]
    fn runs_are_batches(
        values in prop::collection::vec((-40i64..40, any::<i32>(), 0usize..6), 1..80),
        steady: bool, shift in 0u32..24,
        request in prop_oneof![any_leaf(), any_bucket_kind().prop_map(|kind| agg("b", kind, Vec::new()))],
    ) {
        let docs: Vec<Doc> = values.iter().map(|&(n, d, k)| {
            let d = f64::from(d >> shift) / 7.0 + 1e8;
            Doc { n: vec![if steady { 7 } else { n }], d: Some(d), k: vec![TERMS[k]], t: n * 86_400_000, ..Doc::default() }
        }).collect();
        let by_path = |r: &AggRequest| matches!(&r.kind, AggKind::Terms(t) if t.order.iter().any(|o| matches!(o.by, OrderBy::Path(_))));
        let histogram = |r: &AggRequest| matches!(&r.kind, AggKind::Histogram(h) if h.source.field == "d" && h.extended_bounds.is_some());
        prop_assume!(!by_path(&request) && !histogram(&request));
        let requests = [request];
        let partials = |runs: bool| {
            let mut collector = AggCollector::new(&requests, &mapping(), context(1 << 26)).unwrap();
            for docs in docs.chunks(33) {
                let plain = segment(docs);
                let filters = vec![DocSet::full(docs.len() as u32); collector.filters().len()];
                let mut leaf = collector.begin(Leaf { segment: SegmentRef::Plain(&plain), filters });
                let all: Vec<u32> = (0..docs.len() as u32).collect();
                for batch in all.chunks(11) {
                    if runs {
                        leaf.collect_run(batch[0]..batch[0] + batch.len() as u32).unwrap();
                    } else {
                        leaf.collect(batch, None).unwrap();
                    }
                }
                block_on(leaf.finish(&Unpaced)).unwrap();
            }
            block_on(collector.finish(&Unpaced)).unwrap()
        };
        prop_assert_eq!(partials(true), partials(false));
    }
}

fn docs_of(n: &[i64]) -> Vec<Doc> {
    n.iter().map(|&v| Doc { n: vec![v], t: v * 86_400_000, matches: true, ..Doc::default() }).collect()
}

fn answer(request: AggRequest, docs: Vec<Doc>) -> Json {
    let name = request.name.clone();
    run(&[request], &[vec![docs]])[&name].take()
}

#[test]
fn empty_metrics_answer_null() {
    let a = |m| answer(metric("m", m, "n"), Vec::new());
    assert_eq!(a(Metric::Avg), json!({"value": null}));
    assert_eq!(a(Metric::Sum), json!({"value": 0.0}));
    assert_eq!(a(Metric::Stats), json!({"count": 0, "min": null, "max": null, "avg": null, "sum": 0.0}));
    let extended = a(Metric::ExtendedStats { sigma: 2.0 });
    assert_eq!(extended["variance"], Json::Null);
    assert_eq!(extended["std_deviation_bounds"]["upper_sampling"], Json::Null);
}

#[test]
fn extended_stats_have_both_deviations() {
    let got = answer(metric("m", Metric::ExtendedStats { sigma: 2.0 }, "n"), docs_of(&[1, 2, 3, 4]));
    assert_eq!(got["sum_of_squares"], json!(30.0));
    assert_eq!(got["variance"], json!(1.25));
    assert!((got["variance_sampling"].as_f64().unwrap() - 5.0 / 3.0).abs() < 1e-12);
    assert!((got["std_deviation_bounds"]["upper"].as_f64().unwrap() - (2.5 + 2.0 * 1.25f64.sqrt())).abs() < 1e-12);
    let one = answer(metric("m", Metric::ExtendedStats { sigma: 2.0 }, "n"), docs_of(&[1]));
    assert_eq!(one["variance_sampling"], json!("NaN"));
}

#[test]
fn dates_come_with_text() {
    let got = answer(metric("m", Metric::Max, "t"), docs_of(&[1, 16_000]));
    assert_eq!(got, json!({"value": 1_382_400_000_000.0, "value_as_string": "2013-10-22T00:00:00.000Z"}));
}

#[test]
fn percentiles_are_keyed_or_not() {
    let source = ValuesSource::field("n");
    let method = PercentileMethod::TDigest { compression: 100.0 };
    let ask = |keyed| {
        let kind = AggKind::Percentiles { source: source.clone(), percents: vec![25.0, 50.0], keyed, method };
        answer(agg("p", kind, Vec::new()), docs_of(&[1, 51, 101, 151]))
    };
    assert_eq!(ask(true), json!({"values": {"25.0": 26.0, "50.0": 76.0}}));
    assert_eq!(ask(false), json!({"values": [{"key": 25.0, "value": 26.0}, {"key": 50.0, "value": 76.0}]}));
    let kind = AggKind::MedianAbsoluteDeviation { source: ValuesSource::field("n"), compression: 1000.0 };
    assert_eq!(answer(agg("p", kind, Vec::new()), docs_of(&[100, 200, 300])), json!({"value": 100.0}));
}

#[test]
fn keyed_histograms_are_named_by_text() {
    let kind = AggKind::Histogram(HistogramRequest {
        source: ValuesSource { format: Some("Value is ##0.0".to_owned()), ..ValuesSource::field("n") },
        interval: 50.0,
        offset: 0.0,
        min_doc_count: 0,
        extended_bounds: None,
        hard_bounds: None,
        order: vec![BucketOrder { by: OrderBy::Key, ascending: true }],
        keyed: true,
    });
    assert_eq!(
        answer(agg("h", kind, Vec::new()), docs_of(&[1, 101])),
        json!({"buckets": {
            "Value is 0.0": {"key_as_string": "Value is 0.0", "key": 0.0, "doc_count": 1},
            "Value is 50.0": {"key_as_string": "Value is 50.0", "key": 50.0, "doc_count": 0},
            "Value is 100.0": {"key_as_string": "Value is 100.0", "key": 100.0, "doc_count": 1}
        }})
    );
}

#[test]
fn a_term_left_out_by_a_shard_is_an_error_bound() {
    let docs = |terms: &[(&'static str, usize)]| -> Vec<Vec<Doc>> {
        let one =
            |&(k, count): &(&'static str, usize)| vec![Doc { k: vec![k], matches: true, ..Doc::default() }; count];
        vec![terms.iter().flat_map(one).collect()]
    };
    let shards = [docs(&[("a", 10), ("b", 4), ("c", 3)]), docs(&[("a", 5), ("c", 6), ("b", 1)])];
    let request = AggKind::Terms(TermsRequest {
        size: 2,
        shard_size: Some(2),
        show_term_doc_count_error: true,
        ..TermsRequest::new(ValuesSource::field("k"))
    });
    let got = run(&[agg("t", request, Vec::new())], &shards);
    // The first shard may have up to 4 more of what it left out, the second up to 5.
    assert_eq!(
        got["t"],
        json!({
            "doc_count_error_upper_bound": 9, "sum_other_doc_count": 8,
            "buckets": [
                {"key": "a", "doc_count": 15, "doc_count_error_upper_bound": 0},
                {"key": "c", "doc_count": 6, "doc_count_error_upper_bound": 4}
            ]
        })
    );
}

#[test]
fn too_many_buckets_are_refused() {
    let requests = [agg("t", AggKind::Terms(TermsRequest::new(ValuesSource::field("n"))), Vec::new())];
    let partials = || vec![shard(&requests, &[docs_of(&[1, 2, 3, 4])])];
    let options = RenderOptions { buckets_max: 3, ..RenderOptions::default() };
    let error = finalize(partials(), &requests, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Trying to create too many buckets. Must be less than or equal to: [3] but was [4]. This limit can be set by \
         changing the [search.max_buckets] cluster level setting."
    );
    assert!(finalize(partials(), &requests, &RenderOptions { buckets_max: 4, ..options }).is_ok());
}

#[test]
fn memory_is_bounded() {
    let requests = [agg("t", AggKind::Terms(TermsRequest::new(ValuesSource::field("n"))), Vec::new())];
    let mut collector = AggCollector::new(&requests, &mapping(), context(100_000)).unwrap();
    let plain = segment(&docs_of(&(0..10_000).collect::<Vec<i64>>()));
    let mut leaf = collector.begin(Leaf { segment: SegmentRef::Plain(&plain), filters: Vec::new() });
    let docs: Vec<u32> = (0..10_000).collect();
    let failed = docs.chunks(BATCH).find_map(|batch| leaf.collect(batch, None).err());
    assert!(matches!(failed, Some(crate::Error::OutOfMemory { .. })));
}

#[test]
fn requests_that_fit_no_field_are_refused() {
    let refuse =
        |request: AggRequest| AggCollector::new(&[request], &mapping(), context(1 << 26)).err().unwrap().to_string();
    assert_eq!(
        refuse(metric("m", Metric::Avg, "k")),
        "Field [k] of type [keyword] is not supported for aggregation [avg]"
    );
    assert!(refuse(metric("m", Metric::Avg, "text")).starts_with("Text fields are not optimised"));
    let mut deep = metric("m", Metric::Avg, "n");
    for _ in 0..40 {
        deep = agg("d", AggKind::Missing { source: ValuesSource::field("n") }, vec![deep]);
    }
    assert!(refuse(deep).contains("nest deeper"));
    let order = vec![BucketOrder { by: OrderBy::Path("nope".to_owned()), ascending: true }];
    let terms = TermsRequest { order, ..TermsRequest::new(ValuesSource::field("k")) };
    assert!(refuse(agg("t", AggKind::Terms(terms), Vec::new())).starts_with("Invalid aggregation order path [nope]"));
}

#[test]
fn typed_keys_tell_the_type() {
    let requests = [
        agg("a", AggKind::Terms(TermsRequest::new(ValuesSource::field("k"))), Vec::new()),
        agg("b", AggKind::Terms(TermsRequest::new(ValuesSource::field("n"))), Vec::new()),
        agg("c", AggKind::Terms(TermsRequest::new(ValuesSource::field("d"))), Vec::new()),
        agg("d", AggKind::Terms(TermsRequest::new(ValuesSource::field("none"))), Vec::new()),
        metric("e", Metric::ExtendedStats { sigma: 2.0 }, "n"),
    ];
    let options = RenderOptions { typed_keys: true, ..RenderOptions::default() };
    let got = finalize(vec![shard(&requests, &[docs_of(&[1])])], &requests, &options).unwrap();
    let names: Vec<&str> = got.keys().map(String::as_str).collect();
    assert_eq!(names, ["sterms#a", "lterms#b", "dterms#c", "umterms#d", "extended_stats#e"]);
}

#[test]
fn ip_ranges_sort_and_name_themselves() {
    let ip = |s: &str| resolve::parse_ip(s).unwrap();
    let docs = ["::1", "192.168.0.1", "192.168.0.7"].map(|s| vec![ip(s).to_vec()]).to_vec();
    let plain = PlainSegment {
        doc_count: 3,
        ordinals: HashMap::from([("ip".to_owned(), PlainOrdinals::new(docs))]),
        ..PlainSegment::default()
    };
    let range = |from: Option<&str>, to: Option<&str>| IpRange { key: None, from: from.map(ip), to: to.map(ip) };
    let kind = AggKind::IpRange(IpRangeRequest {
        source: ValuesSource::field("ip"),
        ranges: vec![
            range(Some("192.169.0.0"), None),
            range(None, Some("192.168.0.0")),
            range(Some("192.168.0.0"), Some("192.169.0.0")),
        ],
        keyed: false,
    });
    let requests = [
        agg("r", kind, Vec::new()),
        agg("t", AggKind::Terms(TermsRequest::new(ValuesSource::field("ip"))), Vec::new()),
    ];
    let mut collector = AggCollector::new(&requests, &mapping(), context(1 << 26)).unwrap();
    let mut leaf = collector.begin(Leaf { segment: SegmentRef::Plain(&plain), filters: Vec::new() });
    leaf.collect(&[0, 1, 2], None).unwrap();
    block_on(leaf.finish(&Unpaced)).unwrap();
    let partials = block_on(collector.finish(&Unpaced)).unwrap();
    let got = finalize(vec![partials], &requests, &RenderOptions::default()).unwrap();
    assert_eq!(
        got["r"]["buckets"],
        json!([
            {"key": "*-192.168.0.0", "to": "192.168.0.0", "doc_count": 1},
            {"key": "192.168.0.0-192.169.0.0", "from": "192.168.0.0", "to": "192.169.0.0", "doc_count": 2},
            {"key": "192.169.0.0-*", "from": "192.169.0.0", "doc_count": 0}
        ])
    );
    assert_eq!(got["t"]["buckets"][0], json!({"key": "::1", "doc_count": 1}));
}

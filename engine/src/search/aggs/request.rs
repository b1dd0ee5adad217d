//! What a client asks for. Names and defaults are Elasticsearch's; the DSL fills defaults in, so that a shard never
//! guesses.

use serde::{Deserialize, Serialize};

use crate::query::{Query, Value};
use crate::search::{FetchRequest, SortKey};

/// Aggregations may nest this deep; the DSL refuses more, and so does the collector.
pub const DEPTH_MAX: usize = 32;

/// `search.max_buckets`, unless the cluster says otherwise.
pub const BUCKETS_MAX: u64 = 65_535;

/// One requested aggregation with its sub-aggregations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggRequest {
    /// Name in request and answer.
    pub name: String,
    /// What to compute.
    pub kind: AggKind,
    /// Inside each bucket.
    pub subs: Vec<AggRequest>,
    /// `meta`, given back as it came.
    pub meta: Option<serde_json::Value>,
}

/// Where values come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValuesSource {
    /// Path.
    pub field: String,
    /// What documents without a value count as; none = they are left out.
    pub missing: Option<Value>,
    /// How keys and values are shown (`key_as_string`, `value_as_string`); none = the field's own format.
    pub format: Option<String>,
    /// `time_zone` of dates: where days begin, and how they are shown.
    pub time_zone: Option<String>,
    /// Type to assume where the field is not mapped: `long`, `double`, `date`, `string`, `ip`, `boolean`.
    pub value_type: Option<String>,
}

impl ValuesSource {
    /// The values of a field, nothing special.
    #[must_use]
    pub fn field(path: &str) -> ValuesSource {
        ValuesSource { field: path.to_string(), ..ValuesSource::default() }
    }
}

/// What to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggKind {
    /// `avg`, `min`, `max`, `sum`, `stats`, `extended_stats`, `value_count`.
    Metric {
        /// Which of them.
        metric: Metric,
        /// Of what.
        source: ValuesSource,
    },
    /// `weighted_avg`.
    WeightedAvg {
        /// Of what.
        value: ValuesSource,
        /// How much each counts.
        weight: ValuesSource,
        /// Format of the value.
        format: Option<String>,
    },
    /// `cardinality`.
    Cardinality {
        /// Of what.
        source: ValuesSource,
        /// Exact up to about here (3,000; at most 40,000).
        precision_threshold: u32,
    },
    /// `percentiles`.
    Percentiles {
        /// Of what.
        source: ValuesSource,
        /// Which; ascending.
        percents: Vec<f64>,
        /// Object or array.
        keyed: bool,
        /// How to sketch.
        method: PercentileMethod,
    },
    /// `percentile_ranks`.
    PercentileRanks {
        /// Of what.
        source: ValuesSource,
        /// Ranks of these values; ascending.
        values: Vec<f64>,
        /// Object or array.
        keyed: bool,
        /// How to sketch.
        method: PercentileMethod,
    },
    /// `median_absolute_deviation`.
    MedianAbsoluteDeviation {
        /// Of what.
        source: ValuesSource,
        /// t-digest compression (1,000).
        compression: f64,
    },
    /// `top_hits`.
    TopHits(Box<TopHitsRequest>),
    /// `terms`.
    Terms(TermsRequest),
    /// `filter`.
    Filter {
        /// What matches.
        query: Query,
    },
    /// `filters`.
    Filters(FiltersRequest),
    /// `missing`: documents without a value.
    Missing {
        /// Of this field.
        source: ValuesSource,
    },
    /// `global`: all documents, whatever the query.
    Global,
    /// `range` and `date_range`.
    Range(RangeRequest),
    /// `ip_range`.
    IpRange(IpRangeRequest),
    /// `histogram`.
    Histogram(HistogramRequest),
    /// `date_histogram`.
    DateHistogram(DateHistogramRequest),
    /// `composite`.
    Composite(CompositeRequest),
    /// What is computed from other aggregations' answers; shards do nothing for it.
    Pipeline(PipelineRequest),
}

/// Metrics that a few running sums compute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are the DSL's
pub enum Metric {
    Avg,
    Min,
    Max,
    Sum,
    Stats,
    ExtendedStats {
        /// Width of the deviation bounds (2.0).
        sigma: f64,
    },
    ValueCount,
}

/// How percentiles are sketched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PercentileMethod {
    /// `tdigest`
    TDigest {
        /// Centroids kept (100).
        compression: f64,
    },
    /// `hdr`
    Hdr {
        /// `number_of_significant_value_digits`: 0 to 5 (3).
        digits: u8,
    },
}

/// `top_hits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopHitsRequest {
    /// Hits to skip.
    pub from: usize,
    /// Hits to give (3).
    pub size: usize,
    /// Empty = by score.
    pub sort: Vec<SortKey>,
    /// Scores although sorting by fields.
    pub track_scores: bool,
    /// What to give of each.
    pub fetch: FetchRequest,
}

/// One key that buckets are ordered by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketOrder {
    /// By what.
    pub by: OrderBy,
    /// Smallest first.
    pub ascending: bool,
}

/// What buckets are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderBy {
    /// `_count`
    Count,
    /// `_key`
    Key,
    /// A metric below each bucket, such as `price_stats.avg` or `only_new>price.value`.
    Path(String),
}

/// `terms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermsRequest {
    /// Of what.
    pub source: ValuesSource,
    /// Buckets wanted (10).
    pub size: usize,
    /// Buckets each shard gives; none = `size * 1.5 + 10`, or `size` when ordered by key.
    pub shard_size: Option<usize>,
    /// Documents a bucket must have (1).
    pub min_doc_count: u64,
    /// Documents a bucket must have on a shard (0).
    pub shard_min_doc_count: u64,
    /// Count descending by default. Ties are broken by key ascending.
    pub order: Vec<BucketOrder>,
    /// Keys to keep.
    pub include: Option<TermSet>,
    /// Keys to drop.
    pub exclude: Option<TermSet>,
    /// Give the error of each bucket, too.
    pub show_term_doc_count_error: bool,
    /// `rare_terms`: terms with at most so many documents, the rarest first. Shards give all their terms.
    pub rare: Option<u64>,
}

/// Keys that `include` and `exclude` name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TermSet {
    /// Exactly these.
    Values(Vec<Value>),
    /// Those that a Lucene regular expression accepts.
    Regex(String),
    /// Those whose hash falls into one of several partitions.
    Partition {
        /// Which, from 0.
        partition: u32,
        /// Of how many.
        partition_count: u32,
    },
}

/// `filters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FiltersRequest {
    /// Names (empty when anonymous) and queries.
    pub filters: Vec<(String, Query)>,
    /// Named in an object, or anonymous in an array.
    pub keyed: bool,
    /// Name of the bucket of documents that no filter accepts.
    pub other_bucket_key: Option<String>,
}

/// `range` and `date_range`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// Of what.
    pub source: ValuesSource,
    /// From (included) to (excluded).
    pub ranges: Vec<Range>,
    /// Object or array.
    pub keyed: bool,
    /// `date_range`: ends may be date math, and are shown as dates even where the field is not mapped.
    pub date: bool,
}

/// One range. Ends stay as the client wrote them; a shard reads them by its mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Name; none = made from the ends.
    pub key: Option<String>,
    /// First value; none = open.
    pub from: Option<Value>,
    /// First value beyond; none = open.
    pub to: Option<Value>,
}

/// `ip_range`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpRangeRequest {
    /// Of what.
    pub source: ValuesSource,
    /// Ranges.
    pub ranges: Vec<IpRange>,
    /// Object or array.
    pub keyed: bool,
}

/// One range of addresses, as 16 bytes each (IPv4 mapped into IPv6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpRange {
    /// Name; none = made from the ends.
    pub key: Option<String>,
    /// First address; none = open.
    pub from: Option<[u8; 16]>,
    /// First address beyond; none = open.
    pub to: Option<[u8; 16]>,
}

/// Smallest and largest bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds<T> {
    /// None = open.
    pub min: Option<T>,
    /// None = open.
    pub max: Option<T>,
}

/// `histogram`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramRequest {
    /// Of what.
    pub source: ValuesSource,
    /// Width of a bucket, above 0.
    pub interval: f64,
    /// Where buckets begin, modulo the interval.
    pub offset: f64,
    /// Documents a bucket must have (0).
    pub min_doc_count: u64,
    /// Buckets to give although empty.
    pub extended_bounds: Option<Bounds<f64>>,
    /// Buckets outside are left out.
    pub hard_bounds: Option<Bounds<f64>>,
    /// Key ascending by default.
    pub order: Vec<BucketOrder>,
    /// Object or array.
    pub keyed: bool,
}

/// A calendar's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CalendarUnit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// Width of a bucket of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DateInterval {
    /// `calendar_interval`: as long as the calendar says.
    Calendar(CalendarUnit),
    /// `fixed_interval`: milliseconds, above 0.
    Fixed(i64),
}

/// `date_histogram`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DateHistogramRequest {
    /// Of what.
    pub source: ValuesSource,
    /// Width of a bucket.
    pub interval: DateInterval,
    /// Milliseconds that buckets begin later.
    pub offset_ms: i64,
    /// Documents a bucket must have (0).
    pub min_doc_count: u64,
    /// Buckets to give although empty; dates or date math.
    pub extended_bounds: Option<Bounds<Value>>,
    /// Buckets outside are left out.
    pub hard_bounds: Option<Bounds<Value>>,
    /// Key ascending by default.
    pub order: Vec<BucketOrder>,
    /// Object or array.
    pub keyed: bool,
}

/// `composite`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompositeRequest {
    /// What keys are made of.
    pub sources: Vec<CompositeSource>,
    /// Buckets of a page (10).
    pub size: usize,
    /// Key of the last bucket of the page before, in the order of the sources.
    pub after: Option<Vec<Option<Value>>>,
}

/// One part of a composite key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompositeSource {
    /// Its name in the key.
    pub name: String,
    /// How values become keys.
    pub kind: CompositeKind,
    /// Of what.
    pub source: ValuesSource,
    /// Smallest first.
    pub ascending: bool,
    /// Documents without a value have the key null; otherwise they are left out.
    pub missing_bucket: bool,
}

/// How values become parts of a composite key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CompositeKind {
    /// As they are.
    Terms,
    /// Rounded down to the interval.
    Histogram {
        /// Width.
        interval: f64,
    },
    /// Rounded down to a date.
    DateHistogram {
        /// Width.
        interval: DateInterval,
        /// Milliseconds that buckets begin later.
        offset_ms: i64,
    },
}

/// A pipeline aggregation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineRequest {
    /// What to compute.
    pub kind: PipelineKind,
    /// `buckets_path`; empty of `bucket_sort`.
    pub path: String,
    /// `gap_policy`: a bucket without a value counts as zero, and is not passed over.
    pub insert_zeros: bool,
    /// How values are shown.
    pub format: Option<String>,
}

/// What a pipeline computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are the DSL's
pub enum PipelineKind {
    MaxBucket,
    MinBucket,
    AvgBucket,
    SumBucket,
    StatsBucket,
    ExtendedStatsBucket {
        sigma: f64,
    },
    PercentilesBucket {
        percents: Vec<f64>,
        keyed: bool,
    },
    Derivative {
        unit_ms: Option<i64>,
    },
    CumulativeSum,
    SerialDiff {
        lag: usize,
    },
    /// Paths with whether they ascend.
    BucketSort {
        sort: Vec<(String, bool)>,
        from: usize,
        size: Option<usize>,
    },
}

impl PipelineKind {
    /// Whether it stands inside the aggregation whose buckets it works on, and not beside it.
    #[must_use]
    pub fn is_parent(&self) -> bool {
        matches!(
            self,
            PipelineKind::Derivative { .. }
                | PipelineKind::CumulativeSum
                | PipelineKind::SerialDiff { .. }
                | PipelineKind::BucketSort { .. }
        )
    }
}

impl PipelineRequest {
    /// Every path it reads.
    #[must_use]
    pub fn paths(&self) -> Vec<&str> {
        match &self.kind {
            PipelineKind::BucketSort { sort, .. } => sort.iter().map(|(path, _)| path.as_str()).collect(),
            _ => vec![&self.path],
        }
    }
}

impl TermsRequest {
    /// Terms of a field with all defaults.
    #[must_use]
    pub fn new(source: ValuesSource) -> TermsRequest {
        TermsRequest {
            source,
            size: 10,
            shard_size: None,
            min_doc_count: 1,
            shard_min_doc_count: 0,
            order: vec![BucketOrder { by: OrderBy::Count, ascending: false }],
            include: None,
            exclude: None,
            show_term_doc_count_error: false,
            rare: None,
        }
    }

    /// Buckets a shard gives.
    #[must_use]
    pub fn shard_size(&self) -> usize {
        if self.rare.is_some() {
            return usize::MAX;
        }
        let by_key = matches!(self.order.first(), Some(BucketOrder { by: OrderBy::Key, .. }));
        let wanted = match self.shard_size {
            Some(n) => n,
            None if by_key => self.size,
            None => (self.size as f64 * 1.5 + 10.0).min(f64::from(i32::MAX)) as usize,
        };
        wanted.max(self.size)
    }
}

impl AggKind {
    /// The queries of `filter` and `filters`, in order; one compiled filter a segment is wanted for each.
    #[must_use]
    pub fn queries(&self) -> Vec<&Query> {
        match self {
            AggKind::Filter { query } => vec![query],
            AggKind::Filters(f) => f.filters.iter().map(|(_, q)| q).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it has buckets, and so may have sub-aggregations.
    #[must_use]
    pub fn takes_subs(&self) -> bool {
        matches!(
            self,
            AggKind::Terms(_)
                | AggKind::Filter { .. }
                | AggKind::Filters(_)
                | AggKind::Missing { .. }
                | AggKind::Global
                | AggKind::Range(_)
                | AggKind::IpRange(_)
                | AggKind::Histogram(_)
                | AggKind::DateHistogram(_)
                | AggKind::Composite(_)
        )
    }
}

//! Partial results: what a shard knows, mergeable in any order and grouping.
//!
//! Buckets are kept sorted by key, so that merging two shards is one pass. Formats travel along: the node that renders
//! the answer need not have the index's mapping.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::search::aggs::composite::{self, KeyPart};
use crate::search::aggs::format::ValueFormat;
use crate::search::aggs::hll::DistinctSketch;
use crate::search::aggs::tdigest::{Hdr, TDigest};
use crate::search::aggs::top_hits::TopHitsPartial;
use crate::search::aggs::values::Number;

/// A shard's part of one aggregation; `merge` adds another shard's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggPartial {
    /// Of `avg`, `min`, `max`, `sum`, `stats`, `extended_stats`, `value_count`, `weighted_avg`.
    Stats(StatsPartial),
    /// Of `cardinality`.
    Distinct(DistinctSketch),
    /// Of percentiles by t-digest, and of `median_absolute_deviation`.
    Digest {
        /// The values.
        digest: TDigest,
        /// How they are shown.
        format: ValueFormat,
    },
    /// Of percentiles by histogram.
    Hdr {
        /// The values.
        histogram: Hdr,
        /// How they are shown.
        format: ValueFormat,
    },
    /// Of aggregations whose buckets the request fixes: `filter`, `filters`, `missing`, `global`, ranges.
    Fixed {
        /// In the request's order; ranges sorted by their ends.
        buckets: Vec<BucketPartial>,
        /// Of ranges: their ends as this index understands them.
        ranges: Vec<RangePartial>,
        /// How the ends are shown.
        format: ValueFormat,
    },
    /// Of `terms`.
    Terms(TermsPartial),
    /// Of `histogram` and `date_histogram`.
    Histogram(HistogramPartial),
    /// Of `composite`.
    Composite(CompositePartial),
    /// Of `top_hits`.
    TopHits(TopHitsPartial),
    /// Of pipelines, which shards do not compute.
    Pipeline,
}

/// Running sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsPartial {
    /// Values.
    pub count: u64,
    /// Their sum (of `weighted_avg`: weighted).
    pub sum: CompensatedSum,
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// Sum of squares (of `weighted_avg`: of weights).
    pub squares: CompensatedSum,
    /// How values are shown.
    pub format: ValueFormat,
}

/// A sum with the rounding errors it made, after Kahan and Neumaier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompensatedSum {
    sum: f64,
    error: f64,
}

impl CompensatedSum {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        (self.sum, self.error) = CompensatedSum::step(self.sum, self.error, value);
    }

    /// Sum and error after one more value: no branch, so that many sums can go side by side.
    #[inline(always)]
    pub(crate) fn step(before: f64, error: f64, value: f64) -> (f64, f64) {
        let sum = before + value;
        let (large, small) = if before.abs() >= value.abs() { (before, value) } else { (value, before) };
        (sum, error + ((large - sum) + small))
    }

    pub(crate) fn from_parts(sum: f64, error: f64) -> CompensatedSum {
        CompensatedSum { sum, error }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: CompensatedSum) {
        self.add(other.sum);
        self.error += other.error;
    }

    /// The sum. Once infinite, the error terms mean nothing.
    #[must_use]
    pub fn value(self) -> f64 {
        if self.sum.is_finite() { self.sum + self.error } else { self.sum }
    }
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketPartial {
    /// Documents in it.
    pub doc_count: u64,
    /// Sub-aggregations, in the request's order.
    pub subs: Vec<AggPartial>,
}

/// Ends of a range and its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangePartial {
    /// Its name.
    pub key: String,
    /// First value.
    pub from: Option<f64>,
    /// First value beyond.
    pub to: Option<f64>,
    /// First address, of `ip_range`.
    pub ip_from: Option<String>,
    /// First address beyond.
    pub ip_to: Option<String>,
}

/// The key of a bucket of `terms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TermKey {
    /// Keywords.
    String(String),
    /// Addresses, 16 bytes.
    Ip([u8; 16]),
    /// Numbers, dates, booleans.
    Number(Number),
}

impl TermKey {
    /// The order of keys, in which buckets are kept.
    #[must_use]
    pub fn order(&self, other: &TermKey) -> Ordering {
        match (self, other) {
            (TermKey::String(a), TermKey::String(b)) => a.cmp(b),
            (TermKey::Ip(a), TermKey::Ip(b)) => a.cmp(b),
            (TermKey::Number(Number::Long(a)), TermKey::Number(Number::Long(b))) => a.cmp(b),
            (TermKey::Number(Number::Unsigned(a)), TermKey::Number(Number::Unsigned(b))) => a.cmp(b),
            (TermKey::Number(a), TermKey::Number(b)) => a.to_f64().total_cmp(&b.to_f64()),
            (a, b) => a.class().cmp(&b.class()),
        }
    }

    fn class(&self) -> u8 {
        match self {
            TermKey::String(_) => 0,
            TermKey::Ip(_) => 1,
            TermKey::Number(_) => 2,
        }
    }
}

/// What the keys of `terms` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TermsKind {
    /// The field is not mapped.
    #[default]
    Unmapped,
    /// Strings and addresses.
    String,
    /// Integers, dates, booleans.
    Long,
    /// Floating-point numbers.
    Double,
    /// Shards disagree: rendering answers an error.
    Conflict,
}

/// Of `terms`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TermsPartial {
    /// What keys are.
    pub kind: TermsKind,
    /// How keys are shown.
    pub format: ValueFormat,
    /// Sorted by key.
    pub buckets: Vec<TermBucket>,
    /// Documents in buckets that shards left out.
    pub other_doc_count: u64,
    /// Documents that a term can have more than is known, over all shards; none = no bound.
    pub error: Option<u64>,
    /// Shards in this.
    pub shards: u32,
}

/// One term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermBucket {
    /// Key.
    pub key: TermKey,
    /// Documents.
    pub doc_count: u64,
    /// The part of `TermsPartial::error` that comes from shards which did give this term, and so is none of its own.
    pub error_known: u64,
    /// Sub-aggregations, in the request's order.
    pub subs: Vec<AggPartial>,
}

/// Of `histogram` and `date_histogram`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramPartial {
    /// Sorted by key: number of intervals from the offset, or milliseconds since 1970.
    pub buckets: Vec<(i64, BucketPartial)>,
    /// How keys are shown.
    pub format: ValueFormat,
    /// Extended bounds as this index understands them, as keys.
    pub bounds: Option<(Option<i64>, Option<i64>)>,
    /// Sub-aggregations of a bucket without documents.
    pub empty: Vec<AggPartial>,
}

/// Of `composite`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompositePartial {
    /// Sorted by key, in the directions of the sources.
    pub buckets: Vec<(Vec<KeyPart>, BucketPartial)>,
    /// Directions of the sources.
    pub ascending: Vec<bool>,
    /// How each source's values are shown.
    pub formats: Vec<ValueFormat>,
}

impl CompositePartial {
    fn merge(&mut self, other: CompositePartial) -> Result<()> {
        if self.formats.len() != other.formats.len() {
            return Err(mismatch());
        }
        self.formats.iter_mut().zip(other.formats).for_each(|(a, b)| prefer(a, b));
        let ascending = &self.ascending;
        merge_sorted(
            &mut self.buckets,
            other.buckets,
            |a, b| composite::compare(&a.0, &b.0, ascending),
            |a, b| a.1.merge(b.1),
        )
    }
}

impl StatsPartial {
    /// Adds one value.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add(value * value);
        self.min = Some(self.min.map_or(value, |m| m.min(value)));
        self.max = Some(self.max.map_or(value, |m| m.max(value)));
    }

    fn merge(&mut self, other: StatsPartial) {
        self.count += other.count;
        self.sum.merge(other.sum);
        self.squares.merge(other.squares);
        self.min = [self.min, other.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, other.max].into_iter().flatten().reduce(f64::max);
        prefer(&mut self.format, other.format);
    }
}

/// The format of a shard that has the field is better than none. Of two, either: ordered, so that merging commutes.
fn prefer(own: &mut ValueFormat, other: ValueFormat) {
    let rank = |f: &ValueFormat| match f {
        ValueFormat::Raw => 0,
        ValueFormat::Boolean => 1,
        ValueFormat::Date { .. } => 2,
        ValueFormat::Decimal(_) => 3,
    };
    if rank(&other) > rank(own) {
        *own = other;
    }
}

fn mismatch() -> Error {
    Error::request("aggregation_execution_exception", "shards gave different kinds of results for one aggregation")
}

fn merge_all(own: &mut [AggPartial], other: Vec<AggPartial>) -> Result<()> {
    if own.len() != other.len() {
        return Err(mismatch());
    }
    own.iter_mut().zip(other).try_for_each(|(a, b)| a.merge(b))
}

impl BucketPartial {
    fn merge(&mut self, other: BucketPartial) -> Result<()> {
        self.doc_count += other.doc_count;
        merge_all(&mut self.subs, other.subs)
    }
}

/// Merges two lists sorted by key.
fn merge_sorted<T>(
    own: &mut Vec<T>,
    other: Vec<T>,
    order: impl Fn(&T, &T) -> Ordering,
    mut merge: impl FnMut(&mut T, T) -> Result<()>,
) -> Result<()> {
    if other.is_empty() {
        return Ok(());
    }
    let mut left = std::mem::take(own).into_iter().peekable();
    let mut right = other.into_iter().peekable();
    own.reserve(left.len().max(right.len()));
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => order(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(()),
        };
        own.extend(match next {
            Ordering::Less => left.next(),
            Ordering::Greater => right.next(),
            Ordering::Equal => {
                let (mut a, b) = (left.next().expect("peeked"), right.next().expect("peeked"));
                merge(&mut a, b)?;
                Some(a)
            }
        });
    }
}

impl TermsPartial {
    fn merge(&mut self, mut other: TermsPartial) -> Result<()> {
        if self.kind != other.kind && self.kind != TermsKind::Unmapped && other.kind != TermsKind::Unmapped {
            let kinds = [self.kind, other.kind];
            if kinds.contains(&TermsKind::String) || kinds.contains(&TermsKind::Conflict) {
                self.kind = TermsKind::Conflict;
                self.buckets.clear();
                return Ok(());
            }
            // One index has integers, the other doubles.
            self.make_doubles();
            other.make_doubles();
        }
        self.kind = self.kind.max(other.kind);
        prefer(&mut self.format, other.format);
        self.other_doc_count += other.other_doc_count;
        self.error = self.error.zip(other.error).map(|(a, b)| a + b);
        self.shards += other.shards;
        merge_sorted(
            &mut self.buckets,
            other.buckets,
            |a, b| a.key.order(&b.key),
            |a, b| {
                a.doc_count += b.doc_count;
                a.error_known += b.error_known;
                merge_all(&mut a.subs, b.subs)
            },
        )
    }

    fn make_doubles(&mut self) {
        self.kind = TermsKind::Double;
        for bucket in &mut self.buckets {
            if let TermKey::Number(n) = bucket.key {
                bucket.key = TermKey::Number(Number::Double(n.to_f64()));
            }
        }
    }
}

impl HistogramPartial {
    fn merge(&mut self, other: HistogramPartial) -> Result<()> {
        prefer(&mut self.format, other.format);
        self.bounds = self.bounds.max(other.bounds);
        if self.empty.is_empty() {
            self.empty = other.empty;
        }
        merge_sorted(&mut self.buckets, other.buckets, |a, b| a.0.cmp(&b.0), |a, b| a.1.merge(b.1))
    }
}

impl AggPartial {
    /// Adds another shard's part. Associative and commutative (up to the rounding of floating-point sums, and sketches'
    /// estimates).
    ///
    /// # Errors
    /// Results of different requests, which only a faulty peer can send.
    pub fn merge(&mut self, other: AggPartial) -> Result<()> {
        match (self, other) {
            (AggPartial::Stats(a), AggPartial::Stats(b)) => a.merge(b),
            (AggPartial::Distinct(a), AggPartial::Distinct(b)) => {
                if !a.merge(&b) {
                    return Err(mismatch());
                }
            }
            (AggPartial::Digest { digest: a, format }, AggPartial::Digest { digest: b, format: other }) => {
                a.merge(&b);
                prefer(format, other);
            }
            (AggPartial::Hdr { histogram: a, format }, AggPartial::Hdr { histogram: b, format: other }) => {
                if !a.merge(&b) {
                    return Err(mismatch());
                }
                prefer(format, other);
            }
            (AggPartial::Fixed { buckets: a, format, .. }, AggPartial::Fixed { buckets: b, format: other, .. }) => {
                if a.len() != b.len() {
                    return Err(mismatch());
                }
                prefer(format, other);
                a.iter_mut().zip(b).try_for_each(|(a, b)| a.merge(b))?;
            }
            (AggPartial::Terms(a), AggPartial::Terms(b)) => a.merge(b)?,
            (AggPartial::Histogram(a), AggPartial::Histogram(b)) => a.merge(b)?,
            (AggPartial::Composite(a), AggPartial::Composite(b)) => a.merge(b)?,
            (AggPartial::TopHits(a), AggPartial::TopHits(b)) => a.merge(b),
            (AggPartial::Pipeline, AggPartial::Pipeline) => {}
            _ => return Err(mismatch()),
        }
        Ok(())
    }
}

//! `histogram` and `date_histogram`: values to intervals.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::mapping::number;
use crate::search::aggs::buckets::BucketTable;
use crate::search::aggs::format::{ValueFormat, parse_zone};
use crate::search::aggs::leaf::Leaf;
use crate::search::aggs::metric::owner;
use crate::search::aggs::resolve::{Resolved, Source, date_ms};
use crate::search::aggs::rounding::{PreparedRounding, Rounding};
use crate::search::aggs::values::{Batch, NumberKind};
use crate::search::aggs::{AggContext, Bounds, DateHistogramRequest, HistogramRequest};
use crate::seed::HashSeed;

/// Buckets that a segment's values can fall into, at most, for a direct table.
const SLOTS_MAX: i64 = 1 << 16;
const NO_BUCKET: u32 = u32::MAX;

/// How values become keys.
enum Keys {
    /// Number of intervals from the offset.
    Intervals { interval: f64, offset: f64 },
    /// Start of a bucket of time.
    Dates(Box<PreparedRounding>),
}

/// Collects buckets; see `node.rs` for what comes of them.
pub(crate) struct HistogramNode {
    pub values: Resolved,
    pub table: BucketTable,
    /// Of dates.
    rounding: Option<Rounding>,
    /// Extended bounds, as keys.
    pub bounds: Option<(Option<i64>, Option<i64>)>,
    /// Empty buckets are wanted.
    pub min_doc_count: u64,
    /// Values outside are left out: first value, and last value.
    hard: Option<(f64, f64)>,
    keys: Keys,
    /// Of this segment, while all documents go to owner 0 and keys are few: bucket number by key less `base`.
    slots: Vec<u32>,
    /// With `slots`: documents by key less `base` that the table does not have yet.
    pending: Vec<u32>,
    base: i64,
    raw: Batch<u64>,
    doubles: Vec<f64>,
}

impl HistogramNode {
    pub fn numeric(request: &HistogramRequest, values: Resolved, context: &AggContext) -> Result<HistogramNode> {
        if !(request.interval > 0.0 && request.interval.is_finite()) {
            return Err(Error::illegal_argument("[interval] must be >0 for histogram aggregation"));
        }
        let (interval, offset) = (request.interval, request.offset);
        let key = |v: f64| interval_of(v, interval, offset);
        let bounds = request.extended_bounds.as_ref().map(|b| (b.min.map(key), b.max.map(key)));
        let hard = request.hard_bounds.as_ref().map(|b| {
            // Buckets count whole: a bucket is inside when its first value is.
            (b.min.unwrap_or(f64::NEG_INFINITY), b.max.unwrap_or(f64::INFINITY))
        });
        check_hard(
            request.hard_bounds.as_ref().map(|b| (b.min, b.max)),
            request.extended_bounds.as_ref().map(|b| (b.min, b.max)),
        )?;
        Ok(HistogramNode::with(
            values,
            None,
            bounds,
            hard,
            request.min_doc_count,
            Keys::Intervals { interval, offset },
            context.hash_seed,
        ))
    }

    pub fn dates(request: &DateHistogramRequest, values: Resolved, context: &AggContext) -> Result<HistogramNode> {
        if let crate::search::aggs::DateInterval::Fixed(ms) = request.interval
            && ms <= 0
        {
            return Err(Error::illegal_argument("Zero or negative time interval not supported"));
        }
        let zone = parse_zone(request.source.time_zone.as_deref().unwrap_or("UTC"))?;
        let rounding = Rounding::new(request.interval, zone, request.offset_ms);
        let ends = |bounds: &Option<Bounds<crate::query::Value>>| -> Result<Option<(Option<i64>, Option<i64>)>> {
            let Some(bounds) = bounds else { return Ok(None) };
            let ms =
                |v: &Option<crate::query::Value>| v.as_ref().map(|v| date_ms(v, &values.format, context)).transpose();
            Ok(Some((ms(&bounds.min)?, ms(&bounds.max)?)))
        };
        let extended = ends(&request.extended_bounds)?;
        let hard = ends(&request.hard_bounds)?;
        let double = |b: Option<(Option<i64>, Option<i64>)>| b.map(|(a, b)| (a.map(|v| v as f64), b.map(|v| v as f64)));
        check_hard(double(hard), double(extended))?;
        let bounds = extended.map(|(min, max)| (min.map(|v| rounding.round(v)), max.map(|v| rounding.round(v))));
        let hard = hard
            .map(|(min, max)| (min.map_or(f64::NEG_INFINITY, |v| v as f64), max.map_or(f64::INFINITY, |v| v as f64)));
        let keys = Keys::Dates(Box::new(rounding.prepare(1, 0)));
        Ok(HistogramNode::with(values, Some(rounding), bounds, hard, request.min_doc_count, keys, context.hash_seed))
    }

    fn with(
        values: Resolved,
        rounding: Option<Rounding>,
        bounds: Option<(Option<i64>, Option<i64>)>,
        hard: Option<(f64, f64)>,
        min_doc_count: u64,
        keys: Keys,
        seed: HashSeed,
    ) -> HistogramNode {
        HistogramNode {
            values,
            table: BucketTable::new(seed),
            rounding,
            bounds,
            min_doc_count,
            hard,
            keys,
            slots: Vec::new(),
            pending: Vec::new(),
            base: 0,
            raw: Batch::default(),
            doubles: Vec::new(),
        }
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        self.end_segment();
        self.slots.clear();
        let Source::Numbers { field, kind, missing } = &self.values.source else { return };
        let Some((mut min, mut max)) = leaf.numbers(field).and_then(|c| c.bounds()).or(missing.map(|m| (m, m))) else {
            return;
        };
        if let Some(missing) = *missing {
            (min, max) = (min.min(missing), max.max(missing));
        }
        match (&self.rounding, &self.keys) {
            (Some(rounding), _) => {
                self.keys = Keys::Dates(Box::new(rounding.prepare(kind.to_i64(min), kind.to_i64(max))));
            }
            (None, Keys::Intervals { interval, offset }) => {
                let first = interval_of(kind.to_f64(min), *interval, *offset);
                let last = interval_of(kind.to_f64(max), *interval, *offset);
                if last.saturating_sub(first) < SLOTS_MAX {
                    self.base = first;
                    self.slots.resize((last - first) as usize + 1, NO_BUCKET);
                    self.pending.resize(self.slots.len(), 0);
                }
            }
            (None, Keys::Dates(_)) => unreachable!("dates have a rounding"),
        }
    }

    /// Gives the table what only waits to be counted.
    pub fn end_segment(&mut self) {
        for (slot, docs) in self.pending.drain(..).enumerate() {
            if docs > 0 {
                let number = self.table.number(0, number::from_i64(self.base + slot as i64));
                self.table.count(number, u64::from(docs));
            }
        }
    }

    /// Consecutive documents to owner 0; whether each has exactly one value.
    pub fn collect_run(&mut self, leaf: &Leaf<'_>, docs: Range<DocId>) -> bool {
        let Source::Numbers { field, kind, .. } = &self.values.source else { return false };
        let kind = *kind;
        let column = leaf.numbers(field);
        let Some((min, max)) = column.and_then(|c| c.run_bounds(&docs)) else { return false };
        let (first, last) = (self.key_of(kind, min), self.key_of(kind, max));
        if first == last {
            // Keys do not fall where values rise: all have this one.
            if self.is_inside(first) {
                let number = self.table.number(0, number::from_i64(first));
                self.table.count(number, docs.len() as u64);
            }
            return true;
        }
        if !self.counts_slots() || !self.raw.read_run(column, docs) {
            return false;
        }
        self.count_slots(kind);
        true
    }

    #[inline]
    fn key_of(&self, kind: NumberKind, raw: u64) -> i64 {
        match &self.keys {
            Keys::Intervals { interval, offset } => interval_of(kind.to_f64(raw), *interval, *offset),
            Keys::Dates(rounding) => rounding.round(kind.to_i64(raw)),
        }
    }

    /// Whether hard bounds let a bucket be.
    fn is_inside(&self, key: i64) -> bool {
        let value = match &self.keys {
            Keys::Intervals { interval, offset } => key as f64 * interval + offset,
            Keys::Dates(_) => key as f64,
        };
        self.hard.is_none_or(|(min, max)| value >= min && value <= max)
    }

    /// Whether counting single values of owner 0 is a matter of arithmetic.
    fn counts_slots(&self) -> bool {
        !self.pending.is_empty() && self.hard.is_none() && matches!(self.keys, Keys::Intervals { .. })
    }

    /// Counts the values read, one a document.
    fn count_slots(&mut self, kind: NumberKind) {
        let Keys::Intervals { interval, offset } = self.keys else { unreachable!("counts_slots was asked") };
        kind.to_f64s(&self.raw.values, &mut self.doubles);
        self.doubles.iter_mut().for_each(|v| *v = interval_number(*v, interval, offset));
        for &v in &self.doubles {
            if let Some(docs) = self.pending.get_mut((v as i64).wrapping_sub(self.base) as usize) {
                *docs += 1;
            }
        }
    }

    /// Assigns buckets. With `emit`, appends position in `docs` and bucket number.
    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        mut emit: Option<&mut Vec<(u32, u32)>>,
    ) {
        let Source::Numbers { field, kind, missing } = &self.values.source else { return };
        let kind = *kind;
        self.raw.read(leaf.numbers(field), docs, *missing);
        if owners.is_none() && emit.is_none() && self.raw.at.is_empty() && self.counts_slots() {
            self.count_slots(kind);
            return;
        }
        if matches!(self.keys, Keys::Intervals { .. }) {
            kind.to_f64s(&self.raw.values, &mut self.doubles);
        }
        let mut before = None;
        for i in 0..self.raw.values.len() {
            let position = self.raw.position(i);
            let (key, value) = match &self.keys {
                Keys::Intervals { interval, offset } => {
                    let key = interval_of(self.doubles[i], *interval, *offset);
                    (key, key as f64 * interval + offset)
                }
                Keys::Dates(rounding) => {
                    let key = rounding.round(kind.to_i64(self.raw.values[i]));
                    (key, key as f64)
                }
            };
            // A document counts once in a bucket, however many of its values fall into it.
            if before.replace((position, key)) == Some((position, key)) {
                continue;
            }
            if let Some((min, max)) = self.hard
                && (value < min || value > max)
            {
                continue;
            }
            let number = match owners {
                None if !self.slots.is_empty() => {
                    let slot = &mut self.slots[(key - self.base) as usize];
                    if *slot == NO_BUCKET {
                        *slot = self.table.number(0, number::from_i64(key));
                    }
                    *slot
                }
                _ => self.table.number(owner(owners, position) as u32, number::from_i64(key)),
            };
            self.table.count(number, 1);
            if let Some(emit) = &mut emit {
                emit.push((position as u32, number));
            }
        }
    }

    /// A bucket's key.
    pub fn key(&self, number: u32) -> i64 {
        number::to_i64(self.table.key(number))
    }

    pub fn format(&self) -> ValueFormat {
        self.values.format.clone()
    }

    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + (self.slots.capacity() + self.pending.capacity()) * 4
            + self.raw.bytes()
            + self.doubles.capacity() * 8
    }
}

/// Hard bounds must hold the extended ones.
fn check_hard(hard: Option<(Option<f64>, Option<f64>)>, extended: Option<(Option<f64>, Option<f64>)>) -> Result<()> {
    let (Some((hard_min, hard_max)), Some((min, max))) = (hard, extended) else { return Ok(()) };
    let show = |v: Option<f64>| v.map_or_else(|| "null".to_owned(), super::format::java_double);
    let below = |a: Option<f64>, b: Option<f64>| matches!((a, b), (Some(a), Some(b)) if a < b);
    if below(max, min) || below(min, hard_min) || below(hard_max, max) {
        return Err(Error::illegal_argument(format!(
            "Extended bounds have to be inside hard bounds, hard bounds: [{}--{}], extended bounds: [{}--{}]",
            show(hard_min),
            show(hard_max),
            show(min),
            show(max)
        )));
    }
    Ok(())
}

/// Number of the interval that a value falls into.
#[inline]
pub(crate) fn interval_of(value: f64, interval: f64, offset: f64) -> i64 {
    interval_number(value, interval, offset) as i64
}

#[inline]
fn interval_number(value: f64, interval: f64, offset: f64) -> f64 {
    ((value - offset) / interval).floor()
}

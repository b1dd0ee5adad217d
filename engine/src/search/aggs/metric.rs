//! Metrics: columns of running sums, one row a bucket.

use std::ops::Range;

use crate::error::Result;
use crate::ids::DocId;
use crate::pace::Pace;
use crate::search::aggs::Metric;
use crate::search::aggs::format::ValueFormat;
use crate::search::aggs::hll::{DistinctSketch, hash_bytes, hash_number};
use crate::search::aggs::leaf::{Leaf, turn};
use crate::search::aggs::partial::{AggPartial, CompensatedSum, StatsPartial};
use crate::search::aggs::resolve::{Resolved, Source};
use crate::search::aggs::tdigest::{Hdr, TDigest};
use crate::search::aggs::values::{Batch, NumberKind};

/// `avg`, `min`, `max`, `sum`, `stats`, `extended_stats`, `value_count`. Columns that the metric does not need stay
/// empty.
pub(crate) struct StatsNode {
    wants: Wants,
    values: Resolved,
    counts: Vec<u64>,
    sums: Vec<CompensatedSum>,
    squares: Vec<CompensatedSum>,
    mins: Vec<f64>,
    maxs: Vec<f64>,
    raw: Batch<u64>,
    ordinals: Batch<u32>,
    doubles: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Wants {
    sum: bool,
    min: bool,
    max: bool,
    squares: bool,
}

impl StatsNode {
    pub fn new(metric: Metric, values: Resolved) -> StatsNode {
        let all = matches!(metric, Metric::Stats | Metric::ExtendedStats { .. });
        StatsNode {
            wants: Wants {
                sum: all || matches!(metric, Metric::Avg | Metric::Sum),
                min: all || metric == Metric::Min,
                max: all || metric == Metric::Max,
                squares: matches!(metric, Metric::ExtendedStats { .. }),
            },
            values,
            counts: Vec::new(),
            sums: Vec::new(),
            squares: Vec::new(),
            mins: Vec::new(),
            maxs: Vec::new(),
            raw: Batch::default(),
            ordinals: Batch::default(),
            doubles: Vec::new(),
        }
    }

    fn grow(&mut self, owners: usize) {
        if self.counts.len() >= owners {
            return;
        }
        self.counts.resize(owners, 0);
        if self.wants.sum {
            self.sums.resize(owners, CompensatedSum::default());
        }
        if self.wants.squares {
            self.squares.resize(owners, CompensatedSum::default());
        }
        if self.wants.min {
            self.mins.resize(owners, f64::INFINITY);
        }
        if self.wants.max {
            self.maxs.resize(owners, f64::NEG_INFINITY);
        }
    }

    pub fn collect(&mut self, leaf: &Leaf<'_>, docs: &[DocId], owners: Option<&[u32]>, owner_count: usize) {
        self.grow(owner_count);
        match &self.values.source {
            Source::Unmapped => {}
            Source::Terms { field, missing, .. } => {
                let missing = missing.as_ref().map(|_| 0);
                self.ordinals.read(leaf.ordinals(field), docs, missing);
                for i in 0..self.ordinals.values.len() {
                    self.counts[owner(owners, self.ordinals.position(i))] += 1;
                }
            }
            Source::Numbers { field, kind, missing } => {
                self.raw.read(leaf.numbers(field), docs, *missing);
                match owners {
                    None => self.add_all(*kind),
                    Some(owners) => self.add_each(*kind, owners),
                }
            }
        }
    }

    /// Consecutive documents to bucket 0; whether each has exactly one value.
    pub fn collect_run(&mut self, leaf: &Leaf<'_>, docs: Range<DocId>) -> bool {
        let Source::Numbers { field, kind, .. } = &self.values.source else { return false };
        let kind = *kind;
        let column = leaf.numbers(field);
        if !(self.wants.sum || self.wants.squares || self.wants.min || self.wants.max)
            && column.is_some_and(|c| c.run_bounds(&docs).is_some())
        {
            self.grow(1);
            self.counts[0] += docs.len() as u64;
            return true;
        }
        if !self.raw.read_run(column, docs) {
            return false;
        }
        self.grow(1);
        self.add_all(kind);
        true
    }

    /// All values to bucket 0.
    fn add_all(&mut self, kind: NumberKind) {
        self.counts[0] += self.raw.values.len() as u64;
        let wants = self.wants;
        if !(wants.sum || wants.squares) {
            // The encoding keeps the order: only the extremes need decoding.
            if let (true, Some(&min)) = (wants.min, self.raw.values.iter().min()) {
                self.mins[0] = self.mins[0].min(kind.to_f64(min));
            }
            if let (true, Some(&max)) = (wants.max, self.raw.values.iter().max()) {
                self.maxs[0] = self.maxs[0].max(kind.to_f64(max));
            }
            return;
        }
        kind.to_f64s(&self.raw.values, &mut self.doubles);
        if wants.sum {
            add_lanes(&mut self.sums[0], &self.doubles, |v| v);
        }
        if wants.squares {
            add_lanes(&mut self.squares[0], &self.doubles, |v| v * v);
        }
        if wants.min {
            self.mins[0] = extreme(self.mins[0], &self.doubles, |v, best| v < best);
        }
        if wants.max {
            self.maxs[0] = extreme(self.maxs[0], &self.doubles, |v, best| v > best);
        }
    }

    fn add_each(&mut self, kind: NumberKind, owners: &[u32]) {
        kind.to_f64s(&self.raw.values, &mut self.doubles);
        let wants = self.wants;
        for (i, &value) in self.doubles.iter().enumerate() {
            let owner = owners[self.raw.position(i)] as usize;
            self.counts[owner] += 1;
            if wants.sum {
                self.sums[owner].add(value);
            }
            if wants.squares {
                self.squares[owner].add(value * value);
            }
            if wants.min {
                self.mins[owner] = self.mins[owner].min(value);
            }
            if wants.max {
                self.maxs[owner] = self.maxs[owner].max(value);
            }
        }
    }

    pub fn build(&self, owner: u32) -> AggPartial {
        let at = owner as usize;
        let count = self.counts.get(at).copied().unwrap_or(0);
        AggPartial::Stats(StatsPartial {
            count,
            sum: self.sums.get(at).copied().unwrap_or_default(),
            squares: self.squares.get(at).copied().unwrap_or_default(),
            min: self.mins.get(at).copied().filter(|_| count > 0),
            max: self.maxs.get(at).copied().filter(|_| count > 0),
            format: self.values.format.clone(),
        })
    }

    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 8
            + (self.sums.capacity() + self.squares.capacity()) * 16
            + (self.mins.capacity() + self.maxs.capacity()) * 8
    }
}

/// Owner of the document at a position of the batch.
#[inline]
pub(crate) fn owner(owners: Option<&[u32]>, position: usize) -> usize {
    owners.map_or(0, |o| o[position] as usize)
}

/// Values side by side: as many as two registers hold.
const LANES: usize = 8;

/// A compensated sum waits for each addition before the next; eight side by side do not.
fn add_lanes(sum: &mut CompensatedSum, values: &[f64], map: impl Fn(f64) -> f64) {
    let mut sums = [0.0f64; LANES];
    let mut errors = [0.0f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            (sums[lane], errors[lane]) = CompensatedSum::step(sums[lane], errors[lane], map(chunk[lane]));
        }
    }
    for &value in rest {
        sum.add(map(value));
    }
    for lane in 0..LANES {
        sum.merge(CompensatedSum::from_parts(sums[lane], errors[lane]));
    }
}

/// The best of `first` and the values.
fn extreme(first: f64, values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut lanes = [first; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if better(chunk[lane], lanes[lane]) { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(first, |best, &v| if better(v, best) { v } else { best })
}

/// `weighted_avg`: one weight a document, several values possible.
pub(crate) struct WeightedNode {
    value: Resolved,
    weight: Resolved,
    format: ValueFormat,
    counts: Vec<u64>,
    sums: Vec<CompensatedSum>,
    weights: Vec<CompensatedSum>,
    raw: Batch<u64>,
    raw_weights: Batch<u64>,
}

impl WeightedNode {
    pub fn new(value: Resolved, weight: Resolved, format: ValueFormat) -> WeightedNode {
        WeightedNode {
            value,
            weight,
            format,
            counts: Vec::new(),
            sums: Vec::new(),
            weights: Vec::new(),
            raw: Batch::default(),
            raw_weights: Batch::default(),
        }
    }

    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        owner_count: usize,
    ) -> Result<()> {
        if self.counts.len() < owner_count {
            self.counts.resize(owner_count, 0);
            self.sums.resize(owner_count, CompensatedSum::default());
            self.weights.resize(owner_count, CompensatedSum::default());
        }
        let (
            Source::Numbers { field, kind, missing },
            Source::Numbers { field: weight_field, kind: weight_kind, missing: weight_missing },
        ) = (&self.value.source, &self.weight.source)
        else {
            return Ok(());
        };
        self.raw.read(leaf.numbers(field), docs, *missing);
        self.raw_weights.read(leaf.numbers(weight_field), docs, *weight_missing);
        let mut w = 0;
        for (i, &value) in self.raw.values.iter().enumerate() {
            let position = self.raw.position(i);
            while w < self.raw_weights.values.len() && self.raw_weights.position(w) < position {
                w += 1;
            }
            if w >= self.raw_weights.values.len() || self.raw_weights.position(w) != position {
                continue;
            }
            if w + 1 < self.raw_weights.values.len() && self.raw_weights.position(w + 1) == position {
                return Err(crate::Error::request(
                    "aggregation_execution_exception",
                    "Encountered more than one weight for a single document. Use a script to combine multiple \
                     weights-per-doc into a single value.",
                ));
            }
            let weight = weight_kind.to_f64(self.raw_weights.values[w]);
            let at = owner(owners, position);
            self.counts[at] += 1;
            self.sums[at].add(kind.to_f64(value) * weight);
            self.weights[at].add(weight);
        }
        Ok(())
    }

    pub fn build(&self, owner: u32) -> AggPartial {
        let at = owner as usize;
        AggPartial::Stats(StatsPartial {
            count: self.counts.get(at).copied().unwrap_or(0),
            sum: self.sums.get(at).copied().unwrap_or_default(),
            squares: self.weights.get(at).copied().unwrap_or_default(),
            min: None,
            max: None,
            format: self.format.clone(),
        })
    }

    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 40
    }
}

/// `cardinality`.
pub(crate) struct DistinctNode {
    source: Source,
    threshold: u32,
    sketches: Vec<Option<Box<DistinctSketch>>>,
    raw: Batch<u64>,
    ordinals: Batch<u32>,
    /// Of this segment: whether bucket 0 has seen an ordinal; used when all documents go there.
    seen: Vec<u64>,
    /// Of this segment: hashes of ordinals, 0 = not computed.
    hashes: Vec<u64>,
    /// Memory of the sketches when last summed up, and inserts since.
    sketch_bytes: usize,
    inserts: usize,
}

impl DistinctNode {
    pub fn new(source: Source, threshold: u32) -> DistinctNode {
        DistinctNode {
            source,
            threshold,
            sketches: Vec::new(),
            raw: Batch::default(),
            ordinals: Batch::default(),
            seen: Vec::new(),
            hashes: Vec::new(),
            sketch_bytes: 0,
            inserts: 0,
        }
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        self.seen.clear();
        self.hashes.clear();
        if let Source::Terms { field, .. } = &self.source
            && let Some(column) = leaf.ordinals(field)
        {
            self.seen.resize((column.ordinal_count() as usize).div_ceil(64) + 1, 0);
        }
    }

    pub fn collect(&mut self, leaf: &Leaf<'_>, docs: &[DocId], owners: Option<&[u32]>, owner_count: usize) {
        if self.sketches.len() < owner_count {
            self.sketches.resize_with(owner_count, || None);
        }
        let threshold = self.threshold;
        let fresh = || Box::new(DistinctSketch::new(threshold));
        match &self.source {
            Source::Unmapped => {}
            Source::Numbers { field, kind, missing } => {
                self.raw.read(leaf.numbers(field), docs, *missing);
                for (i, &value) in self.raw.values.iter().enumerate() {
                    let at = owner(owners, self.raw.position(i));
                    // Indices of one request may differ in type: equal numbers must hash alike.
                    let hash = match *kind {
                        NumberKind::Unsigned if value > i64::MAX as u64 => hash_number(value),
                        kind if kind.is_floating() => hash_number(kind.to_f64(value).to_bits()),
                        kind => hash_number(kind.to_i64(value) as u64),
                    };
                    self.sketches[at].get_or_insert_with(fresh).insert(hash);
                }
                self.inserts += self.raw.values.len();
            }
            Source::Terms { field, missing, .. } => {
                let column = leaf.ordinals(field);
                let absent = column.map_or(0, |c| c.ordinal_count());
                self.ordinals.read(column, docs, missing.as_ref().map(|_| absent));
                if owners.is_none() {
                    self.seen.resize(self.seen.len().max(absent as usize / 64 + 1), 0);
                    for &ordinal in &self.ordinals.values {
                        self.seen[(ordinal / 64) as usize] |= 1 << (ordinal % 64);
                    }
                    return;
                }
                self.hashes.resize(absent as usize + 1, 0);
                let mut term = Vec::new();
                for (i, &ordinal) in self.ordinals.values.iter().enumerate() {
                    let hash = &mut self.hashes[ordinal as usize];
                    if *hash == 0 {
                        match column {
                            Some(c) if ordinal < absent => c.term(ordinal, &mut term),
                            _ => missing.as_deref().unwrap_or_default().clone_into(&mut term),
                        }
                        *hash = hash_bytes(&term);
                    }
                    let at = owner(owners, self.ordinals.position(i));
                    self.sketches[at].get_or_insert_with(fresh).insert(*hash);
                }
                self.inserts += self.ordinals.values.len();
            }
        }
    }

    /// Adds the terms that bucket 0 has seen: each is hashed once a segment.
    ///
    /// # Errors
    /// `Stopped` after the deadline.
    pub async fn end_segment<P: Pace>(&mut self, leaf: &Leaf<'_>, pace: &P) -> Result<()> {
        let Source::Terms { field, missing, .. } = &self.source else { return Ok(()) };
        if self.seen.iter().all(|&w| w == 0) {
            return Ok(());
        }
        let column = leaf.ordinals(field);
        let absent = column.map_or(0, |c| c.ordinal_count());
        if self.sketches.is_empty() {
            self.sketches.push(None);
        }
        let threshold = self.threshold;
        let sketch = self.sketches[0].get_or_insert_with(|| Box::new(DistinctSketch::new(threshold)));
        let mut term = Vec::new();
        for (i, word) in self.seen.iter_mut().enumerate() {
            if i % 64 == 63 {
                turn(pace).await?;
            }
            while *word != 0 {
                let ordinal = i as u32 * 64 + word.trailing_zeros();
                *word &= *word - 1;
                match column {
                    Some(c) if ordinal < absent => c.term(ordinal, &mut term),
                    _ => missing.as_deref().unwrap_or_default().clone_into(&mut term),
                }
                sketch.insert(hash_bytes(&term));
            }
        }
        Ok(())
    }

    pub fn build(&self, owner: u32) -> AggPartial {
        AggPartial::Distinct(match self.sketches.get(owner as usize) {
            Some(Some(sketch)) => (**sketch).clone(),
            _ => DistinctSketch::new(self.threshold),
        })
    }

    pub fn value(&self, owner: u32) -> f64 {
        self.sketches.get(owner as usize).and_then(|s| s.as_ref()).map_or(0.0, |s| s.count() as f64)
    }

    pub fn bytes(&mut self) -> usize {
        // Summing up is linear in buckets: do it when enough was inserted to pay for it.
        if self.inserts >= self.sketches.len() {
            self.inserts = 0;
            self.sketch_bytes = self.sketches.iter().flatten().map(|s| s.bytes() + 64).sum();
        }
        self.sketch_bytes + self.sketches.capacity() * 8 + self.hashes.capacity() * 8 + self.seen.capacity() * 8
    }
}

/// `percentiles`, `percentile_ranks`, `median_absolute_deviation`.
pub(crate) struct QuantileNode {
    values: Resolved,
    method: QuantileMethod,
    digests: Vec<Option<Box<TDigest>>>,
    histograms: Vec<Option<Box<Hdr>>>,
    raw: Batch<u64>,
    doubles: Vec<f64>,
    sketch_bytes: usize,
    inserts: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum QuantileMethod {
    Digest(f64),
    Hdr(u8),
}

impl QuantileNode {
    pub fn new(values: Resolved, method: QuantileMethod) -> QuantileNode {
        QuantileNode {
            values,
            method,
            digests: Vec::new(),
            histograms: Vec::new(),
            raw: Batch::default(),
            doubles: Vec::new(),
            sketch_bytes: 0,
            inserts: 0,
        }
    }

    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        owner_count: usize,
    ) -> Result<()> {
        let Source::Numbers { field, kind, missing } = &self.values.source else { return Ok(()) };
        self.raw.read(leaf.numbers(field), docs, *missing);
        kind.to_f64s(&self.raw.values, &mut self.doubles);
        self.inserts += self.doubles.len();
        match self.method {
            QuantileMethod::Digest(compression) => {
                if self.digests.len() < owner_count {
                    self.digests.resize_with(owner_count, || None);
                }
                for (i, &value) in self.doubles.iter().enumerate() {
                    self.digests[owner(owners, self.raw.position(i))]
                        .get_or_insert_with(|| Box::new(TDigest::new(compression)))
                        .insert(value);
                }
            }
            QuantileMethod::Hdr(digits) => {
                if self.histograms.len() < owner_count {
                    self.histograms.resize_with(owner_count, || None);
                }
                for (i, &value) in self.doubles.iter().enumerate() {
                    let histogram = self.histograms[owner(owners, self.raw.position(i))]
                        .get_or_insert_with(|| Box::new(Hdr::new(digits)));
                    if !histogram.insert(value) {
                        return Err(crate::Error::request(
                            "array_index_out_of_bounds_exception",
                            format!("Negative value [{value}] cannot be recorded by the hdr method"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    pub fn build(&self, owner: u32) -> AggPartial {
        let at = owner as usize;
        let format = self.values.format.clone();
        match self.method {
            QuantileMethod::Digest(compression) => {
                let mut digest =
                    self.digests.get(at).and_then(Clone::clone).map_or_else(|| TDigest::new(compression), |d| *d);
                digest.compress();
                AggPartial::Digest { digest, format }
            }
            QuantileMethod::Hdr(digits) => {
                let histogram = self.histograms.get(at).and_then(Clone::clone).map_or_else(|| Hdr::new(digits), |h| *h);
                AggPartial::Hdr { histogram, format }
            }
        }
    }

    pub fn bytes(&mut self) -> usize {
        if self.inserts >= self.digests.len() + self.histograms.len() {
            self.inserts = 0;
            self.sketch_bytes = self.digests.iter().flatten().map(|d| d.bytes() + 80).sum::<usize>()
                + self.histograms.iter().flatten().map(|h| h.bytes() + 80).sum::<usize>();
        }
        self.sketch_bytes + (self.digests.capacity() + self.histograms.capacity()) * 8
    }
}

//! The tree of aggregations at work.
//!
//! A batch goes through the tree level by level: a node reads its column for all documents of the batch, assigns each
//! (document, value) a bucket number, and hands (documents, bucket numbers) to its sub-aggregations, for which those
//! numbers are the owners. `owners: None` says that all documents belong to owner 0: the root's fast path.

use std::cmp::Ordering;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::Query;
use crate::search::aggs::composite::CompositeNode;
use crate::search::aggs::fixed::FixedNode;
use crate::search::aggs::format::ValueFormat;
use crate::search::aggs::histogram::HistogramNode;
use crate::search::aggs::leaf::{Leaf, turn};
use crate::search::aggs::metric::{DistinctNode, QuantileMethod, QuantileNode, StatsNode, WeightedNode};
use crate::search::aggs::partial::{
    AggPartial, BucketPartial, CompositePartial, HistogramPartial, TermBucket, TermsPartial,
};
use crate::search::aggs::path;
use crate::search::aggs::resolve::{Wants, resolve};
use crate::search::aggs::terms::TermsNode;
use crate::search::aggs::top_hits::TopHitsNode;
use crate::search::aggs::{AggContext, AggKind, AggRequest, DEPTH_MAX, OrderBy, PercentileMethod};
use crate::seed::SeededSet;

/// The owner that no document belongs to: its buckets are empty.
pub(crate) const NOBODY: u32 = u32::MAX;

/// One aggregation at work.
pub(crate) struct Node {
    request: AggRequest,
    body: Body,
    subs: Vec<Node>,
    emit: Vec<(u32, u32)>,
    sub_docs: Vec<DocId>,
    sub_owners: Vec<u32>,
    sub_scores: Vec<f32>,
}

enum Body {
    Stats(StatsNode),
    Weighted(WeightedNode),
    Distinct(DistinctNode),
    Quantile(QuantileNode),
    Terms(Box<TermsNode>),
    Fixed(FixedNode),
    Histogram(Box<HistogramNode>),
    Composite(Box<CompositeNode>),
    TopHits(Box<TopHitsNode>),
    /// Nothing to do on a shard.
    Pipeline,
}

/// Work of `finish` that yields; boxed, because it follows the tree.
type Building<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

impl Node {
    pub fn new(
        request: &AggRequest,
        mapping: &Mapping,
        context: &AggContext,
        queries: &mut Vec<Query>,
        depth: usize,
    ) -> Result<Node> {
        if depth >= DEPTH_MAX {
            return Err(Error::illegal_argument(format!("aggregations nest deeper than [{DEPTH_MAX}]")));
        }
        let name = &request.name;
        let number = |source, agg| resolve(source, Wants::Numbers, agg, mapping, context);
        let any = |source, agg| resolve(source, Wants::Any, agg, mapping, context);
        let quantile = |source, agg, method: &PercentileMethod| -> Result<Body> {
            let method = match *method {
                PercentileMethod::TDigest { compression } => QuantileMethod::Digest(compression),
                PercentileMethod::Hdr { digits } => QuantileMethod::Hdr(digits),
            };
            Ok(Body::Quantile(QuantileNode::new(number(source, agg)?, method)))
        };
        let first_filter = queries.len();
        queries.extend(request.kind.queries().into_iter().cloned());
        let body = match &request.kind {
            AggKind::Metric { metric, source } => {
                let agg = path::type_name(&request.kind);
                let values = match metric {
                    crate::search::aggs::Metric::ValueCount => any(source, agg)?,
                    _ => number(source, agg)?,
                };
                Body::Stats(StatsNode::new(*metric, values))
            }
            AggKind::WeightedAvg { value, weight, format } => {
                let (value, weight) = (number(value, "weighted_avg")?, number(weight, "weighted_avg")?);
                let format = format.as_ref().map_or(value.format.clone(), |f| ValueFormat::Decimal(f.clone()));
                Body::Weighted(WeightedNode::new(value, weight, format))
            }
            AggKind::Cardinality { source, precision_threshold } => {
                Body::Distinct(DistinctNode::new(any(source, "cardinality")?.source, *precision_threshold))
            }
            AggKind::Percentiles { source, method, .. } => quantile(source, "percentiles", method)?,
            AggKind::PercentileRanks { source, method, .. } => quantile(source, "percentile_ranks", method)?,
            AggKind::MedianAbsoluteDeviation { source, compression } => {
                let method = PercentileMethod::TDigest { compression: *compression };
                quantile(source, "median_absolute_deviation", &method)?
            }
            AggKind::Terms(terms) => {
                if terms.size == 0 {
                    return Err(Error::illegal_argument(format!(
                        "[size] must be greater than 0. Found [0] in [{name}]"
                    )));
                }
                let values = any(&terms.source, "terms")?;
                for order in &terms.order {
                    if let OrderBy::Path(text) = &order.by {
                        path::validate(text, &request.subs)?;
                    }
                }
                Body::Terms(Box::new(TermsNode::new(terms, values, name, context)?))
            }
            AggKind::Filter { .. } => Body::Fixed(FixedNode::filters(first_filter, 1, false)),
            AggKind::Filters(f) => {
                Body::Fixed(FixedNode::filters(first_filter, f.filters.len(), f.other_bucket_key.is_some()))
            }
            AggKind::Missing { source } => Body::Fixed(FixedNode::missing(any(source, "missing")?.source)),
            AggKind::Global => {
                if depth > 0 {
                    return Err(Error::request(
                        "aggregation_execution_exception",
                        format!(
                            "Aggregation [{name}] cannot have a global sub-aggregation [global]. Global aggregations can \
                             only be defined as top level aggregations"
                        ),
                    ));
                }
                Body::Fixed(FixedNode::global())
            }
            AggKind::Range(range) => {
                let (wants, agg) = if range.date { (Wants::Dates, "date_range") } else { (Wants::Numbers, "range") };
                let values = resolve(&range.source, wants, agg, mapping, context)?;
                Body::Fixed(FixedNode::ranges(range, values, context)?)
            }
            AggKind::IpRange(range) => {
                let values = resolve(&range.source, Wants::Ips, "ip_range", mapping, context)?;
                Body::Fixed(FixedNode::ips(range, values))
            }
            AggKind::Histogram(h) => {
                Body::Histogram(Box::new(HistogramNode::numeric(h, number(&h.source, "histogram")?, context)?))
            }
            AggKind::DateHistogram(h) => {
                let values = resolve(&h.source, Wants::Dates, "date_histogram", mapping, context)?;
                Body::Histogram(Box::new(HistogramNode::dates(h, values, context)?))
            }
            AggKind::Composite(composite) => {
                if depth > 0 {
                    return Err(Error::illegal_argument(
                        "[composite] aggregation cannot be used with a parentAggregation",
                    ));
                }
                Body::Composite(Box::new(CompositeNode::new(composite, mapping, context)?))
            }
            AggKind::Pipeline(_) => Body::Pipeline,
            AggKind::TopHits(top) => Body::TopHits(Box::new(TopHitsNode::new(top, mapping, context)?)),
        };
        if !request.subs.is_empty() && !request.kind.takes_subs() {
            return Err(Error::request(
                "aggregation_initialization_exception",
                format!(
                    "Aggregator [{name}] of type [{}] cannot accept sub-aggregations",
                    path::type_name(&request.kind)
                ),
            ));
        }
        let subs = request
            .subs
            .iter()
            .map(|sub| Node::new(sub, mapping, context, queries, depth + 1))
            .collect::<Result<_>>()?;
        let request = AggRequest { subs: Vec::new(), ..request.clone() };
        Ok(Node {
            request,
            body,
            subs,
            emit: Vec::new(),
            sub_docs: Vec::new(),
            sub_owners: Vec::new(),
            sub_scores: Vec::new(),
        })
    }

    pub fn is_global(&self) -> bool {
        matches!(self.request.kind, AggKind::Global)
    }

    /// Whether this node or one below wants scores.
    pub fn needs_scores(&self) -> bool {
        matches!(&self.body, Body::TopHits(n) if n.needs_scores()) || self.subs.iter().any(Node::needs_scores)
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        match &mut self.body {
            Body::Distinct(n) => n.begin_segment(leaf),
            Body::Terms(n) => n.begin_segment(leaf),
            Body::Fixed(n) => n.begin_segment(leaf),
            Body::Histogram(n) => n.begin_segment(leaf),
            Body::Composite(n) => n.begin_segment(leaf),
            Body::TopHits(n) => n.begin_segment(leaf),
            Body::Stats(_) | Body::Weighted(_) | Body::Quantile(_) | Body::Pipeline => {}
        }
        self.subs.iter_mut().for_each(|s| s.begin_segment(leaf));
    }

    /// Adds all documents of the segment to owner 0, if that needs no look at them; whether it was so.
    pub fn collect_whole(&mut self, leaf: &Leaf<'_>) -> bool {
        match &mut self.body {
            Body::Terms(n) if self.subs.is_empty() => n.collect_whole(leaf),
            _ => false,
        }
    }

    /// Adds consecutive documents, all to owner 0, if that is cheaper than one by one; whether it was.
    pub fn collect_run(&mut self, leaf: &Leaf<'_>, docs: Range<DocId>) -> bool {
        if !self.subs.is_empty() {
            return false;
        }
        match &mut self.body {
            Body::Stats(n) => n.collect_run(leaf, docs),
            Body::Terms(n) => n.collect_run(leaf, docs),
            Body::Histogram(n) => n.collect_run(leaf, docs),
            _ => false,
        }
    }

    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        owner_count: usize,
        scores: Option<&[f32]>,
    ) -> Result<()> {
        debug_assert!(owners.is_none_or(|o| o.len() == docs.len()));
        if docs.is_empty() {
            return Ok(());
        }
        self.emit.clear();
        let has_subs = !self.subs.is_empty();
        let bucket_count = match &mut self.body {
            Body::Stats(n) => {
                n.collect(leaf, docs, owners, owner_count);
                0
            }
            Body::Weighted(n) => {
                n.collect(leaf, docs, owners, owner_count)?;
                0
            }
            Body::Distinct(n) => {
                n.collect(leaf, docs, owners, owner_count);
                0
            }
            Body::Quantile(n) => {
                n.collect(leaf, docs, owners, owner_count)?;
                0
            }
            Body::Terms(n) => {
                n.collect(leaf, docs, owners, has_subs.then_some(&mut self.emit));
                n.table.len()
            }
            Body::Histogram(n) => {
                n.collect(leaf, docs, owners, has_subs.then_some(&mut self.emit));
                n.table.len()
            }
            Body::Composite(n) => {
                n.collect(leaf, docs, &mut self.emit);
                n.bucket_count()
            }
            Body::TopHits(n) => {
                n.collect(leaf, docs, owners, owner_count, scores);
                0
            }
            Body::Pipeline => 0,
            Body::Fixed(n) => {
                n.collect(leaf, docs, owners, owner_count, &mut self.emit);
                owner_count * n.width
            }
        };
        if !has_subs || self.emit.is_empty() {
            return Ok(());
        }
        self.sub_docs.clear();
        self.sub_owners.clear();
        self.sub_scores.clear();
        for &(position, number) in &self.emit {
            self.sub_docs.push(docs[position as usize]);
            self.sub_owners.push(number);
        }
        if let Some(scores) = scores {
            self.sub_scores.extend(self.emit.iter().map(|&(position, _)| scores[position as usize]));
        }
        let sub_scores = scores.map(|_| &self.sub_scores[..]);
        for sub in &mut self.subs {
            sub.collect(leaf, &self.sub_docs, Some(&self.sub_owners), bucket_count, sub_scores)?;
        }
        Ok(())
    }

    pub fn end_segment<'a, P: Pace>(&'a mut self, leaf: &'a Leaf<'_>, pace: &'a P) -> Building<'a, ()> {
        Box::pin(async move {
            match &mut self.body {
                Body::Distinct(n) => n.end_segment(leaf, pace).await?,
                Body::Terms(n) => n.end_segment(leaf, pace).await?,
                Body::Histogram(n) => n.end_segment(),
                _ => {}
            }
            for sub in &mut self.subs {
                sub.end_segment(leaf, pace).await?;
            }
            Ok(())
        })
    }

    /// Memory of this node and those below, about.
    pub fn bytes(&mut self) -> usize {
        let own = match &mut self.body {
            Body::Stats(n) => n.bytes(),
            Body::Weighted(n) => n.bytes(),
            Body::Distinct(n) => n.bytes(),
            Body::Quantile(n) => n.bytes(),
            Body::Terms(n) => n.bytes(),
            Body::Fixed(n) => n.bytes(),
            Body::Histogram(n) => n.bytes(),
            Body::Composite(n) => n.bytes(),
            Body::TopHits(n) => n.bytes(),
            Body::Pipeline => 0,
        };
        own + self.emit.capacity() * 16 + self.subs.iter_mut().map(Node::bytes).sum::<usize>()
    }

    /// The partial result of an owner.
    pub fn build<'a, P: Pace>(&'a mut self, owner: u32, pace: &'a P) -> Building<'a, AggPartial> {
        Box::pin(async move {
            match &mut self.body {
                Body::Stats(n) => return Ok(n.build(owner)),
                Body::Weighted(n) => return Ok(n.build(owner)),
                Body::Distinct(n) => return Ok(n.build(owner)),
                Body::Quantile(n) => return Ok(n.build(owner)),
                Body::Fixed(n) => {
                    let (width, ranges, format) = (n.width, n.ranges.clone(), n.format.clone());
                    let counts: Vec<u64> = (0..width).map(|i| n.doc_count(fixed_number(owner, width, i))).collect();
                    let mut buckets = Vec::with_capacity(width);
                    for (i, doc_count) in counts.into_iter().enumerate() {
                        let number = u32::try_from(fixed_number(owner, width, i)).unwrap_or(NOBODY);
                        buckets.push(BucketPartial { doc_count, subs: self.build_subs(number, pace).await? });
                    }
                    return Ok(AggPartial::Fixed { buckets, ranges, format });
                }
                Body::TopHits(n) => return n.build(owner),
                Body::Pipeline => return Ok(AggPartial::Pipeline),
                Body::Terms(_) | Body::Histogram(_) | Body::Composite(_) => {}
            }
            turn(pace).await?;
            if matches!(self.body, Body::Composite(_)) {
                return self.build_composite(pace).await;
            }
            if matches!(self.body, Body::Terms(_)) {
                self.build_terms(owner, pace).await
            } else {
                self.build_histogram(owner, pace).await
            }
        })
    }

    async fn build_subs<P: Pace>(&mut self, owner: u32, pace: &P) -> Result<Vec<AggPartial>> {
        let mut built = Vec::with_capacity(self.subs.len());
        for sub in &mut self.subs {
            built.push(sub.build(owner, pace).await?);
        }
        Ok(built)
    }

    async fn build_composite<P: Pace>(&mut self, pace: &P) -> Result<AggPartial> {
        let Body::Composite(n) = &self.body else { unreachable!("asked by build") };
        let mut partial = CompositePartial { buckets: Vec::new(), ascending: n.ascending(), formats: n.formats() };
        for (i, (key, number, doc_count)) in n.page().into_iter().enumerate() {
            if i % 256 == 255 {
                turn(pace).await?;
            }
            partial.buckets.push((key, BucketPartial { doc_count, subs: self.build_subs(number, pace).await? }));
        }
        Ok(AggPartial::Composite(partial))
    }

    async fn build_histogram<P: Pace>(&mut self, owner: u32, pace: &P) -> Result<AggPartial> {
        let Body::Histogram(n) = &mut self.body else { unreachable!("asked by build") };
        let mut numbers = n.table.of_owner(owner);
        let mut partial = HistogramPartial { format: n.format(), bounds: n.bounds, ..HistogramPartial::default() };
        let wants_empty = n.min_doc_count == 0;
        numbers.sort_unstable_by_key(|&number| n.key(number));
        for (i, number) in numbers.into_iter().enumerate() {
            if i % 256 == 255 {
                turn(pace).await?;
            }
            let Body::Histogram(n) = &self.body else { unreachable!("checked above") };
            let (key, doc_count) = (n.key(number), n.table.doc_count(number));
            partial.buckets.push((key, BucketPartial { doc_count, subs: self.build_subs(number, pace).await? }));
        }
        if wants_empty {
            partial.empty = self.build_subs(NOBODY, pace).await?;
        }
        Ok(AggPartial::Histogram(partial))
    }

    async fn build_terms<P: Pace>(&mut self, owner: u32, pace: &P) -> Result<AggPartial> {
        let Body::Terms(n) = &mut self.body else { unreachable!("asked by build") };
        if owner == 0 && n.has_counted() {
            let built = n.build_counted(pace).await?;
            let shard_size = n.request.shard_size();
            let (kind, format) = (n.kind(), n.format());
            let error = self.error(built.terms.iter().map(|t| t.1), built.left_out, shard_size);
            let given: u64 = built.terms.iter().map(|t| t.1).sum();
            let bucket =
                |(key, doc_count)| TermBucket { key, doc_count, error_known: error.unwrap_or(0), subs: Vec::new() };
            return Ok(AggPartial::Terms(TermsPartial {
                kind,
                format,
                shards: 1,
                error,
                other_doc_count: built.all_docs - given,
                buckets: built.terms.into_iter().map(bucket).collect(),
            }));
        }
        let shard_size = n.request.shard_size();
        let of_owner = n.table.of_owner(owner);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut all_docs = 0;
        let mut left_out = false;
        for (i, &number) in of_owner.iter().enumerate() {
            let Body::Terms(n) = &self.body else { unreachable!("checked above") };
            let doc_count = n.table.doc_count(number);
            all_docs += doc_count;
            if doc_count >= n.request.shard_min_doc_count {
                candidates.push(Candidate { key: n.table.key(number), number, doc_count });
            }
            // Keeping twice as many as wanted makes selection linear.
            if candidates.len() >= shard_size.saturating_mul(2).max(1024) {
                left_out |= self.select(&mut candidates, shard_size);
            }
            if i % 1024 == 1023 {
                turn(pace).await?;
            }
        }
        self.add_empty(&of_owner, owner, &mut candidates, pace).await?;
        left_out |= self.select(&mut candidates, shard_size);
        let Body::Terms(n) = &self.body else { unreachable!("checked above") };
        candidates.sort_unstable_by(|a, b| n.compare_keys(a.key, b.key));
        let mut partial =
            TermsPartial { kind: n.kind(), format: n.format(), shards: 1, error: Some(0), ..TermsPartial::default() };
        let error = self.error(candidates.iter().map(|c| c.doc_count), left_out, shard_size);
        partial.error = error;
        for (i, candidate) in candidates.into_iter().enumerate() {
            if i % 256 == 255 {
                turn(pace).await?;
            }
            all_docs -= candidate.doc_count;
            let Body::Terms(n) = &self.body else { unreachable!("checked above") };
            let key = n.key(candidate.key);
            let subs = self.build_subs(candidate.number, pace).await?;
            partial.buckets.push(TermBucket {
                key,
                doc_count: candidate.doc_count,
                error_known: error.unwrap_or(0),
                subs,
            });
        }
        partial.other_doc_count = all_docs;
        Ok(AggPartial::Terms(partial))
    }

    /// What a term that this shard did not give can have here, at most.
    fn error(&self, chosen: impl ExactSizeIterator<Item = u64>, left_out: bool, shard_size: usize) -> Option<u64> {
        let Body::Terms(n) = &self.body else { unreachable!("terms only") };
        let first = n.request.order.first();
        let by_key = matches!(first.map(|o| &o.by), Some(OrderBy::Key));
        if by_key || (chosen.len() < shard_size && !left_out) {
            return Some(0);
        }
        match first {
            Some(order) if order.by == OrderBy::Count && !order.ascending => Some(chosen.min().unwrap_or(0)),
            None => Some(chosen.min().unwrap_or(0)),
            Some(_) => None,
        }
    }

    /// With `min_doc_count: 0`, terms of the field that no matching document has.
    async fn add_empty<P: Pace>(
        &self,
        found: &[u32],
        owner: u32,
        candidates: &mut Vec<Candidate>,
        pace: &P,
    ) -> Result<()> {
        let Body::Terms(n) = &self.body else { unreachable!("terms only") };
        if n.request.min_doc_count > 0 || n.request.shard_min_doc_count > 0 || owner == NOBODY {
            return Ok(());
        }
        let mut wanted = SeededSet::with_hasher(*n.all_numbers.hasher());
        wanted.extend(found.iter().map(|&number| n.table.key(number)));
        let keys = (0..n.terms.len() as u64).chain(n.all_numbers.iter().copied());
        for (i, key) in keys.enumerate() {
            if i % 1024 == 1023 {
                turn(pace).await?;
                self.select(candidates, n.request.shard_size());
            }
            if !wanted.contains(&key) {
                candidates.push(Candidate { key, number: NOBODY, doc_count: 0 });
            }
        }
        Ok(())
    }

    /// Keeps the best `size`; whether any had to go.
    fn select(&self, candidates: &mut Vec<Candidate>, size: usize) -> bool {
        if candidates.len() <= size {
            return false;
        }
        candidates.select_nth_unstable_by(size, |a, b| self.compare(a, b));
        candidates.truncate(size);
        true
    }

    fn compare(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let Body::Terms(n) = &self.body else { unreachable!("terms only") };
        for order in &n.request.order {
            let ordering = match &order.by {
                OrderBy::Count => a.doc_count.cmp(&b.doc_count),
                OrderBy::Key => n.compare_keys(a.key, b.key),
                OrderBy::Path(text) => {
                    let value = |c: &Candidate| self.value_at(c.number, text);
                    let ordering = path::compare_values(value(a), value(b), order.ascending);
                    if ordering != Ordering::Equal {
                        return ordering;
                    }
                    continue;
                }
            };
            let ordering = if order.ascending { ordering } else { ordering.reverse() };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        n.compare_keys(a.key, b.key)
    }

    /// The value at the end of a path below one of this node's buckets.
    fn value_at(&self, bucket: u32, text: &str) -> f64 {
        let (mut nodes, mut bucket, mut rest) = (&self.subs, bucket, text);
        loop {
            let (step, after) = path::split(rest);
            let Some(node) = nodes.iter().find(|n| n.request.name == step.name) else { return f64::NAN };
            match &node.body {
                Body::Fixed(n) if n.width == 1 => {
                    if after.is_empty() {
                        return n.doc_count(fixed_number(bucket, 1, 0)) as f64;
                    }
                    (nodes, rest) = (&node.subs, after);
                    bucket = if bucket == NOBODY { NOBODY } else { fixed_number(bucket, 1, 0) as u32 };
                }
                Body::Stats(n) => return path::stats_value(&node.request.kind, &n.build(bucket), step.property),
                Body::Weighted(n) => return path::stats_value(&node.request.kind, &n.build(bucket), step.property),
                Body::Distinct(n) => return n.value(bucket),
                Body::Quantile(n) => return path::stats_value(&node.request.kind, &n.build(bucket), step.property),
                _ => return f64::NAN,
            }
        }
    }
}

/// A bucket that may be among the best.
struct Candidate {
    key: u64,
    number: u32,
    doc_count: u64,
}

fn fixed_number(owner: u32, width: usize, slot: usize) -> usize {
    if owner == NOBODY { usize::MAX } else { owner as usize * width + slot }
}

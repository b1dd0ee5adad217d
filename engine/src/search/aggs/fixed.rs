//! Aggregations whose buckets the request fixes: `filter`, `filters`, `missing`, `global`, `range`, `date_range`,
//! `ip_range`. With `k` buckets, bucket `i` of owner `o` has the number `o * k + i`.

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::search::aggs::format::{Printer, ValueFormat};
use crate::search::aggs::leaf::Leaf;
use crate::search::aggs::metric::owner;
use crate::search::aggs::partial::RangePartial;
use crate::search::aggs::resolve::{Resolved, Source, as_f64, date_ms, print_ip};
use crate::search::aggs::values::Batch;
use crate::search::aggs::{AggContext, IpRangeRequest, RangeRequest};

/// Collects buckets; see `node.rs` for what comes of them.
pub(crate) struct FixedNode {
    assign: Assign,
    /// Buckets of an owner.
    pub width: usize,
    counts: Vec<u64>,
    pub ranges: Vec<RangePartial>,
    pub format: ValueFormat,
    raw: Batch<u64>,
    ordinals: Batch<u32>,
}

/// First address of a range, and the first beyond; none = open.
type IpEnds = (Option<[u8; 16]>, Option<[u8; 16]>);

enum Assign {
    /// Every document: `global`, whose documents come apart from those of the query.
    All,
    /// Compiled filters from the first on; one more bucket for documents that none accepts, if `other`.
    Filters { first: usize, count: usize, other: bool },
    /// Documents without a value.
    Missing(Source),
    /// By value. The largest `to` of all ranges up to here tells where to stop looking.
    Ranges { source: Source, ends: Vec<(f64, f64)>, to_max: Vec<f64> },
    /// By address: ends, and for this segment the ordinals between them.
    Ips { source: Source, ends: Vec<IpEnds>, ordinals: Vec<(u32, u32)> },
}

impl FixedNode {
    fn with(assign: Assign, width: usize) -> FixedNode {
        FixedNode {
            assign,
            width,
            counts: Vec::new(),
            ranges: Vec::new(),
            format: ValueFormat::Raw,
            raw: Batch::default(),
            ordinals: Batch::default(),
        }
    }

    pub fn global() -> FixedNode {
        FixedNode::with(Assign::All, 1)
    }

    /// `first` is the position of the first filter among the request's.
    pub fn filters(first: usize, count: usize, other: bool) -> FixedNode {
        FixedNode::with(Assign::Filters { first, count, other }, count + usize::from(other))
    }

    pub fn missing(source: Source) -> FixedNode {
        FixedNode::with(Assign::Missing(source), 1)
    }

    pub fn ranges(request: &RangeRequest, values: Resolved, context: &AggContext) -> Result<FixedNode> {
        let dates = request.date || matches!(values.format, ValueFormat::Date { .. });
        let printer = values.format.printer()?;
        let mut ranges = Vec::with_capacity(request.ranges.len());
        for range in &request.ranges {
            let end = |value: &Option<crate::query::Value>| -> Result<Option<f64>> {
                let Some(value) = value else { return Ok(None) };
                if dates {
                    return Ok(Some(date_ms(value, &values.format, context)? as f64));
                }
                as_f64(value).map(Some).ok_or_else(|| {
                    let text = crate::search::aggs::resolve::text_of(value);
                    Error::request("number_format_exception", format!("For input string: \"{text}\""))
                })
            };
            let (from, to) = (end(&range.from)?, end(&range.to)?);
            let key = range.key.clone().unwrap_or_else(|| range_key(from, to, &printer));
            ranges.push(RangePartial { key, from, to, ip_from: None, ip_to: None });
        }
        let low = |r: &RangePartial| r.from.unwrap_or(f64::NEG_INFINITY);
        let high = |r: &RangePartial| r.to.unwrap_or(f64::INFINITY);
        ranges.sort_by(|a, b| low(a).total_cmp(&low(b)).then(high(a).total_cmp(&high(b))));
        let ends: Vec<(f64, f64)> = ranges.iter().map(|r| (low(r), high(r))).collect();
        let to_max = ends
            .iter()
            .scan(f64::NEG_INFINITY, |max, &(_, to)| {
                *max = max.max(to);
                Some(*max)
            })
            .collect();
        let mut node = FixedNode::with(Assign::Ranges { source: values.source, ends, to_max }, ranges.len());
        node.ranges = ranges;
        node.format = values.format;
        Ok(node)
    }

    pub fn ips(request: &IpRangeRequest, values: Resolved) -> FixedNode {
        let mut sorted = request.ranges.clone();
        // An open end is before (or after) every address.
        sorted.sort_by(|a, b| a.from.cmp(&b.from).then_with(|| (a.to.is_none(), a.to).cmp(&(b.to.is_none(), b.to))));
        let ranges: Vec<RangePartial> = sorted
            .iter()
            .map(|r| {
                let (ip_from, ip_to) = (r.from.map(print_ip), r.to.map(print_ip));
                let text = |ip: &Option<String>| ip.clone().unwrap_or_else(|| "*".to_owned());
                let key = r.key.clone().unwrap_or_else(|| format!("{}-{}", text(&ip_from), text(&ip_to)));
                RangePartial { key, from: None, to: None, ip_from, ip_to }
            })
            .collect();
        let ends = sorted.iter().map(|r| (r.from, r.to)).collect();
        let mut node = FixedNode::with(Assign::Ips { source: values.source, ends, ordinals: Vec::new() }, ranges.len());
        node.ranges = ranges;
        node
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        let Assign::Ips { source: Source::Terms { field, .. }, ends, ordinals } = &mut self.assign else { return };
        ordinals.clear();
        if let Some(column) = leaf.ordinals(field) {
            let at = |ip: [u8; 16]| column.first_from(&ip);
            ordinals.extend(ends.iter().map(|(from, to)| (from.map_or(0, at), to.map_or(column.ordinal_count(), at))));
        }
    }

    /// Assigns buckets; appends position in `docs` and bucket number, in order of positions.
    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        owner_count: usize,
        emit: &mut Vec<(u32, u32)>,
    ) {
        let width = self.width;
        self.counts.resize(self.counts.len().max(owner_count * width), 0);
        let number = |position: usize, slot: usize| (position as u32, (owner(owners, position) * width + slot) as u32);
        match &self.assign {
            Assign::All => emit.extend((0..docs.len()).map(|position| number(position, 0))),
            Assign::Filters { first, count, other } => {
                let filters = &leaf.filters[*first..first + count];
                for (position, &doc) in docs.iter().enumerate() {
                    let before = emit.len();
                    emit.extend(
                        filters.iter().enumerate().filter(|(_, f)| f.contains(doc)).map(|(i, _)| number(position, i)),
                    );
                    if *other && emit.len() == before {
                        emit.push(number(position, *count));
                    }
                }
            }
            Assign::Missing(source) => {
                let mut absent = |has: &mut dyn Iterator<Item = usize>| {
                    let mut next = 0;
                    for position in has {
                        emit.extend((next..position).map(|p| number(p, 0)));
                        next = next.max(position + 1);
                    }
                    emit.extend((next..docs.len()).map(|p| number(p, 0)));
                };
                match source {
                    Source::Unmapped => absent(&mut std::iter::empty()),
                    Source::Numbers { field, missing, .. } => {
                        self.raw.read(leaf.numbers(field), docs, *missing);
                        absent(&mut (0..self.raw.values.len()).map(|i| self.raw.position(i)));
                    }
                    Source::Terms { field, missing, .. } => {
                        self.ordinals.read(leaf.ordinals(field), docs, missing.as_ref().map(|_| 0));
                        absent(&mut (0..self.ordinals.values.len()).map(|i| self.ordinals.position(i)));
                    }
                }
            }
            Assign::Ranges { source, ends, to_max } => {
                let Source::Numbers { field, kind, missing } = source else { return };
                self.raw.read(leaf.numbers(field), docs, *missing);
                // The last document that each range has counted: one document counts once.
                let mut counted = vec![usize::MAX; width];
                for i in 0..self.raw.values.len() {
                    let (position, value) = (self.raw.position(i), kind.to_f64(self.raw.values[i]));
                    let beyond = ends.partition_point(|&(from, _)| from <= value);
                    for slot in (0..beyond).rev() {
                        if to_max[slot] <= value {
                            break;
                        }
                        if value < ends[slot].1 && counted[slot] != position {
                            counted[slot] = position;
                            emit.push(number(position, slot));
                        }
                    }
                }
            }
            Assign::Ips { source, ends, ordinals } => {
                let Source::Terms { field, missing, .. } = source else { return };
                let column = leaf.ordinals(field);
                let absent = column.map_or(0, |c| c.ordinal_count());
                self.ordinals.read(column, docs, missing.as_ref().map(|_| absent));
                let mut counted = vec![usize::MAX; width];
                for i in 0..self.ordinals.values.len() {
                    let (position, ordinal) = (self.ordinals.position(i), self.ordinals.values[i]);
                    for slot in 0..width {
                        let inside = if ordinal < absent {
                            ordinals.get(slot).is_some_and(|&(from, to)| from <= ordinal && ordinal < to)
                        } else {
                            let ip = missing.as_deref().unwrap_or_default();
                            let (from, to) = &ends[slot];
                            from.is_none_or(|f| f[..] <= *ip) && to.is_none_or(|t| *ip < t[..])
                        };
                        if inside && counted[slot] != position {
                            counted[slot] = position;
                            emit.push(number(position, slot));
                        }
                    }
                }
            }
        }
        for &(_, number) in &*emit {
            self.counts[number as usize] += 1;
        }
    }

    pub fn doc_count(&self, number: usize) -> u64 {
        self.counts.get(number).copied().unwrap_or(0)
    }

    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 8 + self.raw.bytes() + self.ordinals.bytes()
    }
}

fn range_key(from: Option<f64>, to: Option<f64>, printer: &Printer) -> String {
    let text = |end: Option<f64>| end.map_or_else(|| "*".to_owned(), |v| printer.print_f64(v));
    format!("{}-{}", text(from), text(to))
}

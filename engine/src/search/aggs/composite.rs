//! `composite`: buckets by tuples of values, page by page in the order of the tuples.
//!
//! Only the first `size` tuples after the page before can be in the answer, so a shard keeps no others: a document
//! whose tuple comes after all of a full page is passed over.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::query::Value;
use crate::search::aggs::format::{ValueFormat, parse_zone};
use crate::search::aggs::histogram::interval_of;
use crate::search::aggs::leaf::Leaf;
use crate::search::aggs::resolve::{Resolved, Source, Wants, encode, parse_ip, resolve, text_of};
use crate::search::aggs::rounding::Rounding;
use crate::search::aggs::values::{Batch, Number};
use crate::search::aggs::{AggContext, CompositeKind, CompositeRequest};

/// One value of a tuple.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeyPart {
    /// No value (`missing_bucket`).
    Null,
    /// Numbers, dates (milliseconds), booleans.
    Number(Number),
    /// Strings.
    Bytes(Arc<[u8]>),
    /// Addresses, 16 bytes.
    Ip(Arc<[u8]>),
}

impl KeyPart {
    fn order(&self, other: &KeyPart) -> Ordering {
        let class = |part: &KeyPart| match part {
            KeyPart::Null => 0,
            KeyPart::Number(_) => 1,
            KeyPart::Bytes(_) => 2,
            KeyPart::Ip(_) => 3,
        };
        match (self, other) {
            (KeyPart::Number(Number::Long(a)), KeyPart::Number(Number::Long(b))) => a.cmp(b),
            (KeyPart::Number(Number::Unsigned(a)), KeyPart::Number(Number::Unsigned(b))) => a.cmp(b),
            (KeyPart::Number(a), KeyPart::Number(b)) => a.to_f64().total_cmp(&b.to_f64()),
            (KeyPart::Bytes(a), KeyPart::Bytes(b)) | (KeyPart::Ip(a), KeyPart::Ip(b)) => a.cmp(b),
            (a, b) => class(a).cmp(&class(b)),
        }
    }
}

/// A value with the direction of its source.
#[derive(Clone, Debug)]
struct Directed {
    part: KeyPart,
    ascending: bool,
}

impl Ord for Directed {
    fn cmp(&self, other: &Directed) -> Ordering {
        let order = self.part.order(&other.part);
        if self.ascending { order } else { order.reverse() }
    }
}

impl PartialOrd for Directed {
    fn partial_cmp(&self, other: &Directed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Directed {
    fn eq(&self, other: &Directed) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Directed {}

/// Order of two tuples, by the directions of their sources.
pub(crate) fn compare(a: &[KeyPart], b: &[KeyPart], ascending: &[bool]) -> Ordering {
    for ((a, b), ascending) in a.iter().zip(b).zip(ascending) {
        let order = a.order(b);
        if order != Ordering::Equal {
            return if *ascending { order } else { order.reverse() };
        }
    }
    Ordering::Equal
}

struct Column {
    values: Resolved,
    kind: ColumnKeys,
    ascending: bool,
    missing_bucket: bool,
    /// Of this segment: terms met so far.
    terms: Vec<Option<Arc<[u8]>>>,
    numbers: Batch<u64>,
    ordinals: Batch<u32>,
}

enum ColumnKeys {
    Plain,
    Intervals(f64),
    Dates(Rounding),
}

/// Collects buckets; see `node.rs` for what comes of them.
pub(crate) struct CompositeNode {
    columns: Vec<Column>,
    size: usize,
    after: Option<Vec<Directed>>,
    /// Tuples of the page, and their bucket numbers.
    page: BTreeMap<Vec<Directed>, u32>,
    counts: Vec<u64>,
    bytes: usize,
}

impl CompositeNode {
    pub fn new(request: &CompositeRequest, mapping: &Mapping, context: &AggContext) -> Result<CompositeNode> {
        let mut columns = Vec::with_capacity(request.sources.len());
        for source in &request.sources {
            let (wants, kind) = match &source.kind {
                CompositeKind::Terms => (Wants::Any, ColumnKeys::Plain),
                CompositeKind::Histogram { interval } => (Wants::Numbers, ColumnKeys::Intervals(*interval)),
                CompositeKind::DateHistogram { interval, offset_ms } => {
                    let zone = parse_zone(source.source.time_zone.as_deref().unwrap_or("UTC"))?;
                    (Wants::Dates, ColumnKeys::Dates(Rounding::new(*interval, zone, *offset_ms)))
                }
            };
            columns.push(Column {
                values: resolve(&source.source, wants, "composite", mapping, context)?,
                kind,
                ascending: source.ascending,
                missing_bucket: source.missing_bucket,
                terms: Vec::new(),
                numbers: Batch::default(),
                ordinals: Batch::default(),
            });
        }
        let after = match &request.after {
            None => None,
            Some(values) => {
                let mut after = Vec::with_capacity(values.len());
                for (value, column) in values.iter().zip(&columns) {
                    after
                        .push(Directed { part: column.part_of(value.as_ref(), context)?, ascending: column.ascending });
                }
                Some(after)
            }
        };
        Ok(CompositeNode { columns, size: request.size, after, page: BTreeMap::new(), counts: Vec::new(), bytes: 0 })
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        for column in &mut self.columns {
            column.terms.clear();
            if let Source::Terms { field, .. } = &column.values.source {
                let count = leaf.ordinals(field).map_or(0, |c| c.ordinal_count());
                column.terms.resize(count as usize + 1, None);
            }
        }
    }

    /// Assigns buckets, and appends position in `docs` and bucket number to `emit`.
    pub fn collect(&mut self, leaf: &Leaf<'_>, docs: &[DocId], emit: &mut Vec<(u32, u32)>) {
        for column in &mut self.columns {
            column.read(leaf, docs);
        }
        // Where each column's values of the next document begin.
        let mut starts = vec![0; self.columns.len()];
        let mut parts: Vec<Vec<Directed>> = self.columns.iter().map(|_| Vec::new()).collect();
        for position in 0..docs.len() {
            let mut some = true;
            for ((column, start), parts) in self.columns.iter_mut().zip(&mut starts).zip(&mut parts) {
                parts.clear();
                column.parts(leaf, position, start, parts);
                some &= !parts.is_empty();
            }
            if some {
                self.tuples(&parts, position as u32, emit);
            }
        }
    }

    /// Every combination of the values of one document.
    fn tuples(&mut self, parts: &[Vec<Directed>], position: u32, emit: &mut Vec<(u32, u32)>) {
        let mut at = vec![0; parts.len()];
        loop {
            let tuple: Vec<Directed> = at.iter().zip(parts).map(|(&i, p)| p[i].clone()).collect();
            self.tuple(tuple, position, emit);
            // The next combination, as an odometer turns.
            let mut wheel = parts.len();
            loop {
                if wheel == 0 {
                    return;
                }
                wheel -= 1;
                at[wheel] += 1;
                if at[wheel] < parts[wheel].len() {
                    break;
                }
                at[wheel] = 0;
            }
        }
    }

    fn tuple(&mut self, tuple: Vec<Directed>, position: u32, emit: &mut Vec<(u32, u32)>) {
        if self.after.as_ref().is_some_and(|after| tuple <= *after) {
            return;
        }
        let number = match self.page.get(&tuple) {
            Some(&number) => number,
            None => {
                if self.page.len() >= self.size {
                    match self.page.last_key_value() {
                        Some((worst, _)) if tuple < *worst => drop(self.page.pop_last()),
                        _ => return,
                    }
                }
                let number = self.counts.len() as u32;
                self.counts.push(0);
                self.bytes += 64 + tuple.len() * 56;
                self.page.insert(tuple, number);
                number
            }
        };
        self.counts[number as usize] += 1;
        emit.push((position, number));
    }

    pub fn bucket_count(&self) -> usize {
        self.counts.len()
    }

    /// The page: tuples in order, bucket numbers, documents.
    pub fn page(&self) -> Vec<(Vec<KeyPart>, u32, u64)> {
        self.page
            .iter()
            .map(|(tuple, &number)| {
                (tuple.iter().map(|d| d.part.clone()).collect(), number, self.counts[number as usize])
            })
            .collect()
    }

    pub fn formats(&self) -> Vec<ValueFormat> {
        self.columns.iter().map(|c| c.values.format.clone()).collect()
    }

    pub fn ascending(&self) -> Vec<bool> {
        self.columns.iter().map(|c| c.ascending).collect()
    }

    pub fn bytes(&self) -> usize {
        let columns: usize =
            self.columns.iter().map(|c| c.terms.capacity() * 16 + c.numbers.bytes() + c.ordinals.bytes()).sum();
        self.bytes + self.counts.capacity() * 8 + columns
    }
}

impl Column {
    fn read(&mut self, leaf: &Leaf<'_>, docs: &[DocId]) {
        match &self.values.source {
            Source::Unmapped => {}
            Source::Numbers { field, missing, .. } => self.numbers.read(leaf.numbers(field), docs, *missing),
            Source::Terms { field, missing, .. } => {
                let absent = self.terms.len() as u32 - 1;
                self.ordinals.read(leaf.ordinals(field), docs, missing.as_ref().map(|_| absent));
            }
        }
    }

    /// The key parts of the document at `position`, each once. Values come in the order of documents; `start` is where
    /// those of this one begin.
    fn parts(&mut self, leaf: &Leaf<'_>, position: usize, start: &mut usize, out: &mut Vec<Directed>) {
        let ascending = self.ascending;
        let mut push = |part: KeyPart| {
            // Values of a document ascend, so equal keys are neighbours.
            if out.last().is_none_or(|last: &Directed| last.part != part) {
                out.push(Directed { part, ascending });
            }
        };
        match &self.values.source {
            Source::Unmapped => {}
            Source::Numbers { kind, .. } => {
                while *start < self.numbers.values.len() && self.numbers.position(*start) == position {
                    let raw = self.numbers.values[*start];
                    *start += 1;
                    push(KeyPart::Number(match &self.kind {
                        ColumnKeys::Plain => kind.key(raw),
                        ColumnKeys::Intervals(interval) => {
                            Number::Double(interval_of(kind.to_f64(raw), *interval, 0.0) as f64 * interval)
                        }
                        ColumnKeys::Dates(rounding) => Number::Long(rounding.round(kind.to_i64(raw))),
                    }));
                }
            }
            Source::Terms { field, ip, missing } => {
                while *start < self.ordinals.values.len() && self.ordinals.position(*start) == position {
                    let ordinal = self.ordinals.values[*start] as usize;
                    *start += 1;
                    let last = self.terms.len() - 1;
                    let term = self.terms[ordinal].get_or_insert_with(|| {
                        let mut term = Vec::new();
                        if ordinal < last {
                            leaf.ordinals(field).expect("it gave the ordinal").term(ordinal as u32, &mut term);
                        } else {
                            missing.as_deref().unwrap_or_default().clone_into(&mut term);
                        }
                        term.into()
                    });
                    push(if *ip { KeyPart::Ip(term.clone()) } else { KeyPart::Bytes(term.clone()) });
                }
            }
        }
        if out.is_empty() && self.missing_bucket {
            out.push(Directed { part: KeyPart::Null, ascending });
        }
    }

    /// A value of `after`.
    fn part_of(&self, value: Option<&Value>, context: &AggContext) -> Result<KeyPart> {
        let Some(value) = value else { return Ok(KeyPart::Null) };
        Ok(match (&self.values.source, &self.kind) {
            (_, ColumnKeys::Intervals(_)) => {
                let number = text_of(value).parse::<f64>().map_err(|_| {
                    Error::request("number_format_exception", format!("For input string: \"{}\"", text_of(value)))
                })?;
                KeyPart::Number(Number::Double(number))
            }
            (Source::Numbers { kind, .. }, _) => {
                let raw = encode(value, *kind, &self.values.format, context)?;
                KeyPart::Number(kind.key(raw))
            }
            (Source::Terms { ip: true, .. }, _) => {
                let text = text_of(value);
                let ip = parse_ip(&text)
                    .ok_or_else(|| Error::illegal_argument(format!("'{text}' is not an IP string literal.")))?;
                KeyPart::Ip(ip.to_vec().into())
            }
            _ => KeyPart::Bytes(text_of(value).into_bytes().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_ordered_by_the_directions_of_their_sources() {
        let tuple = |n: i64, s: &str| vec![KeyPart::Number(Number::Long(n)), KeyPart::Bytes(s.as_bytes().into())];
        assert_eq!(compare(&tuple(1, "b"), &tuple(1, "a"), &[true, true]), Ordering::Greater);
        assert_eq!(compare(&tuple(1, "b"), &tuple(1, "a"), &[true, false]), Ordering::Less);
        assert_eq!(compare(&tuple(2, "a"), &tuple(1, "b"), &[false, true]), Ordering::Less);
        let null = vec![KeyPart::Null, KeyPart::Null];
        assert_eq!(compare(&null, &tuple(i64::MIN, ""), &[true, true]), Ordering::Less);
        assert_eq!(compare(&null, &tuple(i64::MIN, ""), &[false, true]), Ordering::Greater);
    }

    fn number(n: i64) -> Vec<Directed> {
        vec![Directed { part: KeyPart::Number(Number::Long(n)), ascending: true }]
    }

    #[test]
    fn a_full_page_keeps_the_first_tuples_whatever_their_order() {
        let mut node = CompositeNode {
            columns: Vec::new(),
            size: 2,
            after: Some(number(1)),
            page: BTreeMap::new(),
            counts: Vec::new(),
            bytes: 0,
        };
        let mut emit = Vec::new();
        for (position, n) in [9, 5, 1, 3, 5, 7, 3, 0].into_iter().enumerate() {
            node.tuple(number(n), position as u32, &mut emit);
        }
        let page: Vec<(KeyPart, u64)> = node.page().into_iter().map(|(mut k, _, n)| (k.remove(0), n)).collect();
        assert_eq!(page, [(KeyPart::Number(Number::Long(3)), 2), (KeyPart::Number(Number::Long(5)), 2)]);
    }
}

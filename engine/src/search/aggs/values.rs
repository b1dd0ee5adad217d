//! Values of a batch of documents, read from columns in bulk.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::DocId;
use crate::mapping::{FieldType, number};
use crate::segment::columns::TermTable;
use crate::segment::reader::{NumberColumn, OrdinalColumn};

/// How the `u64`s of a number column read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NumberKind {
    /// Signed integers.
    Long,
    /// Unsigned integers.
    Unsigned,
    /// 0 and 1.
    Boolean,
    /// Doubles.
    Double,
    /// Floats.
    Float,
    /// Half floats.
    HalfFloat,
    /// Longs divided by the factor.
    Scaled(f64),
    /// Milliseconds since 1970.
    Date,
    /// Nanoseconds since 1970; read as milliseconds.
    DateNanos,
}

/// A bucket's key: a number as aggregations see it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Number {
    /// Integers, dates, booleans.
    Long(i64),
    /// Above `i64::MAX` possible.
    Unsigned(u64),
    /// All others.
    Double(f64),
}

impl NumberKind {
    /// Of a field; none when its column has no numbers.
    #[must_use]
    pub fn of(kind: &FieldType) -> Option<NumberKind> {
        Some(match kind {
            FieldType::Long | FieldType::Integer | FieldType::Short | FieldType::Byte => NumberKind::Long,
            FieldType::UnsignedLong => NumberKind::Unsigned,
            FieldType::Double => NumberKind::Double,
            FieldType::Float => NumberKind::Float,
            FieldType::HalfFloat => NumberKind::HalfFloat,
            FieldType::ScaledFloat { scaling_factor } => NumberKind::Scaled(*scaling_factor),
            FieldType::Date => NumberKind::Date,
            FieldType::DateNanos => NumberKind::DateNanos,
            FieldType::Boolean => NumberKind::Boolean,
            _ => return None,
        })
    }

    /// Whether keys are doubles.
    #[must_use]
    pub fn is_floating(self) -> bool {
        matches!(self, NumberKind::Double | NumberKind::Float | NumberKind::HalfFloat | NumberKind::Scaled(_))
    }

    /// Whether values are dates.
    #[must_use]
    pub fn is_date(self) -> bool {
        matches!(self, NumberKind::Date | NumberKind::DateNanos)
    }

    /// One value as a double; dates in milliseconds.
    #[must_use]
    pub fn to_f64(self, raw: u64) -> f64 {
        match self {
            NumberKind::Long | NumberKind::Date => number::to_i64(raw) as f64,
            NumberKind::DateNanos => number::to_i64(raw).div_euclid(1_000_000) as f64,
            NumberKind::Unsigned | NumberKind::Boolean => raw as f64,
            NumberKind::Double => number::to_f64(raw),
            NumberKind::Float => f64::from(number::to_f32(raw)),
            NumberKind::HalfFloat => f64::from(number::to_f16(raw)),
            NumberKind::Scaled(factor) => number::to_i64(raw) as f64 / factor,
        }
    }

    /// Many values as doubles, replacing `out`. The kind is asked once, so that each loop is straight.
    pub fn to_f64s(self, raw: &[u64], out: &mut Vec<f64>) {
        out.clear();
        match self {
            NumberKind::Long | NumberKind::Date => out.extend(raw.iter().map(|&v| number::to_i64(v) as f64)),
            NumberKind::Unsigned | NumberKind::Boolean => out.extend(raw.iter().map(|&v| v as f64)),
            NumberKind::Double => out.extend(raw.iter().map(|&v| number::to_f64(v))),
            NumberKind::Float => out.extend(raw.iter().map(|&v| f64::from(number::to_f32(v)))),
            other => out.extend(raw.iter().map(|&v| other.to_f64(v))),
        }
    }

    /// A value as the integer it is (dates in milliseconds); floating kinds are cut.
    #[must_use]
    pub fn to_i64(self, raw: u64) -> i64 {
        match self {
            NumberKind::Long | NumberKind::Date => number::to_i64(raw),
            NumberKind::DateNanos => number::to_i64(raw).div_euclid(1_000_000),
            NumberKind::Unsigned | NumberKind::Boolean => i64::try_from(raw).unwrap_or(i64::MAX),
            other => other.to_f64(raw) as i64,
        }
    }

    /// A value as a bucket's key.
    #[must_use]
    pub fn key(self, raw: u64) -> Number {
        match self {
            NumberKind::Unsigned if raw > i64::MAX as u64 => Number::Unsigned(raw),
            kind if kind.is_floating() => Number::Double(kind.to_f64(raw)),
            kind => Number::Long(kind.to_i64(raw)),
        }
    }
}

impl Number {
    /// As a double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Long(v) => v as f64,
            Number::Unsigned(v) => v as f64,
            Number::Double(v) => v,
        }
    }
}

/// What a number column can do; twice implemented, so that tests need no segment.
pub(crate) trait ReadNumbers {
    fn is_single(&self) -> bool;
    fn is_full(&self) -> bool;
    fn first(&self, doc: DocId) -> Option<u64>;
    fn values(&self, doc: DocId, out: &mut Vec<u64>);
    fn range(&self, docs: Range<DocId>, out: &mut Vec<u64>);
    fn gather(&self, docs: &[DocId], out: &mut Vec<u64>);
}

impl ReadNumbers for NumberColumn {
    fn is_single(&self) -> bool {
        self.is_single()
    }
    fn is_full(&self) -> bool {
        self.is_full()
    }
    fn first(&self, doc: DocId) -> Option<u64> {
        self.first(doc)
    }
    fn values(&self, doc: DocId, out: &mut Vec<u64>) {
        self.values(doc, out);
    }
    fn range(&self, docs: Range<DocId>, out: &mut Vec<u64>) {
        self.range(docs, out);
    }
    fn gather(&self, docs: &[DocId], out: &mut Vec<u64>) {
        self.gather(docs, out);
    }
}

/// What an ordinal column can do.
pub(crate) trait ReadOrdinals {
    fn is_single(&self) -> bool;
    fn is_full(&self) -> bool;
    fn range(&self, docs: Range<DocId>, out: &mut Vec<u32>);
    fn gather(&self, docs: &[DocId], out: &mut Vec<u32>);
    fn first(&self, doc: DocId) -> Option<u32>;
    fn values(&self, doc: DocId, out: &mut Vec<u32>);
    fn first_from(&self, term: &[u8]) -> u32;
}

impl ReadOrdinals for OrdinalColumn {
    fn is_single(&self) -> bool {
        self.is_single()
    }
    fn is_full(&self) -> bool {
        self.is_full()
    }
    fn range(&self, docs: Range<DocId>, out: &mut Vec<u32>) {
        self.range(docs, out);
    }
    fn gather(&self, docs: &[DocId], out: &mut Vec<u32>) {
        self.gather(docs, out);
    }
    fn first(&self, doc: DocId) -> Option<u32> {
        self.first(doc)
    }
    fn values(&self, doc: DocId, out: &mut Vec<u32>) {
        self.values(doc, out);
    }
    fn first_from(&self, term: &[u8]) -> u32 {
        self.lookup(term).unwrap_or_else(|next| next)
    }
}

/// A number column of a segment.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    Column(&'a NumberColumn),
    #[cfg(test)]
    Plain(&'a super::testing::PlainNumbers),
}

/// An ordinal column of a segment.
#[derive(Clone, Copy)]
pub(crate) enum Ordinals<'a> {
    Column(&'a OrdinalColumn),
    #[cfg(test)]
    Plain(&'a super::testing::PlainOrdinals),
}

/// Values of a batch, flat, in document order and ascending within a document.
#[derive(Default)]
pub(crate) struct Batch<T> {
    pub values: Vec<T>,
    /// For each value the position of its document in the batch. Empty when every document has exactly one value.
    pub at: Vec<u32>,
    scratch: Vec<T>,
}

impl<T: Copy> Batch<T> {
    /// Position in the batch of the document of value `i`.
    #[inline]
    pub fn position(&self, i: usize) -> usize {
        if self.at.is_empty() { i } else { self.at[i] as usize }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.at.clear();
    }

    fn push(&mut self, at: usize, value: T) {
        self.at.push(at as u32);
        self.values.push(value);
    }

    /// Every document once with the same value.
    fn fill(&mut self, docs: usize, value: T) {
        self.clear();
        self.values.resize(docs, value);
    }

    pub fn bytes(&self) -> usize {
        (self.values.capacity() + self.scratch.capacity()) * size_of::<T>() + self.at.capacity() * 4
    }
}

impl Batch<u64> {
    /// Reads the values of `docs` (ascending, repeats possible); documents without one have `missing`, if given.
    pub fn read(&mut self, column: Option<Numbers<'_>>, docs: &[DocId], missing: Option<u64>) {
        match column {
            Some(Numbers::Column(c)) => self.read_from(c, docs, missing),
            #[cfg(test)]
            Some(Numbers::Plain(c)) => self.read_from(c, docs, missing),
            None => match missing {
                Some(value) => self.fill(docs.len(), value),
                None => self.clear(),
            },
        }
    }

    fn read_from<C: ReadNumbers>(&mut self, column: &C, docs: &[DocId], missing: Option<u64>) {
        self.clear();
        let (Some(&first), Some(&last)) = (docs.first(), docs.last()) else { return };
        if column.is_single() && column.is_full() {
            if (last - first) as usize + 1 == docs.len() && strictly_ascending(docs) {
                column.range(first..last + 1, &mut self.values);
            } else {
                column.gather(docs, &mut self.values);
            }
        } else if column.is_single() {
            for (at, &doc) in docs.iter().enumerate() {
                if let Some(value) = column.first(doc).or(missing) {
                    self.push(at, value);
                }
            }
        } else {
            let mut scratch = std::mem::take(&mut self.scratch);
            for (at, &doc) in docs.iter().enumerate() {
                column.values(doc, &mut scratch);
                for &value in &scratch {
                    self.push(at, value);
                }
                if let Some(value) = missing
                    && scratch.is_empty()
                {
                    self.push(at, value);
                }
            }
            self.scratch = scratch;
        }
    }
}

/// No document of an ascending list repeats.
fn strictly_ascending(docs: &[DocId]) -> bool {
    docs.windows(2).all(|w| w[0] < w[1])
}

impl Batch<u32> {
    /// Reads the ordinals of `docs`; documents without one have `missing`, if given.
    pub fn read(&mut self, column: Option<Ordinals<'_>>, docs: &[DocId], missing: Option<u32>) {
        match column {
            Some(Ordinals::Column(c)) => self.read_from(c, docs, missing),
            #[cfg(test)]
            Some(Ordinals::Plain(c)) => self.read_from(c, docs, missing),
            None => match missing {
                Some(value) => self.fill(docs.len(), value),
                None => self.clear(),
            },
        }
    }

    fn read_from<C: ReadOrdinals>(&mut self, column: &C, docs: &[DocId], missing: Option<u32>) {
        self.clear();
        let (Some(&first), Some(&last)) = (docs.first(), docs.last()) else { return };
        if column.is_single() && column.is_full() {
            if (last - first) as usize + 1 == docs.len() && strictly_ascending(docs) {
                column.range(first..last + 1, &mut self.values);
            } else {
                column.gather(docs, &mut self.values);
            }
        } else if column.is_single() {
            for (at, &doc) in docs.iter().enumerate() {
                if let Some(value) = column.first(doc).or(missing) {
                    self.push(at, value);
                }
            }
        } else {
            let mut scratch = std::mem::take(&mut self.scratch);
            for (at, &doc) in docs.iter().enumerate() {
                column.values(doc, &mut scratch);
                for &value in &scratch {
                    self.push(at, value);
                }
                if let Some(value) = missing
                    && scratch.is_empty()
                {
                    self.push(at, value);
                }
            }
            self.scratch = scratch;
        }
    }
}

impl Batch<u64> {
    /// Reads consecutive documents, if each of them has exactly one value; whether that is so.
    pub fn read_run(&mut self, column: Option<Numbers<'_>>, docs: Range<DocId>) -> bool {
        fn read<C: ReadNumbers>(batch: &mut Batch<u64>, column: &C, docs: Range<DocId>) -> bool {
            let plain = column.is_single() && column.is_full();
            if plain {
                batch.at.clear();
                column.range(docs, &mut batch.values);
            }
            plain
        }
        match column {
            Some(Numbers::Column(c)) => read(self, c, docs),
            #[cfg(test)]
            Some(Numbers::Plain(c)) => read(self, c, docs),
            None => false,
        }
    }
}

impl Batch<u32> {
    /// As for numbers.
    pub fn read_run(&mut self, column: Option<Ordinals<'_>>, docs: Range<DocId>) -> bool {
        fn read<C: ReadOrdinals>(batch: &mut Batch<u32>, column: &C, docs: Range<DocId>) -> bool {
            let plain = column.is_single() && column.is_full();
            if plain {
                batch.at.clear();
                column.range(docs, &mut batch.values);
            }
            plain
        }
        match column {
            Some(Ordinals::Column(c)) => read(self, c, docs),
            #[cfg(test)]
            Some(Ordinals::Plain(c)) => read(self, c, docs),
            None => false,
        }
    }
}

impl Numbers<'_> {
    /// Bounds on the values of consecutive documents, if each has exactly one and bounds cost nothing.
    pub fn run_bounds(self, docs: &Range<DocId>) -> Option<(u64, u64)> {
        match self {
            Numbers::Column(c) if c.is_single() && c.is_full() => {
                let (block, min, max) = c.block_bounds(docs.start);
                (block.end >= docs.end).then_some((min, max))
            }
            Numbers::Column(_) => None,
            #[cfg(test)]
            Numbers::Plain(c) if c.is_single() && c.is_full() => {
                let values = || c.docs[docs.start as usize..docs.end as usize].iter().flatten().copied();
                Some((values().min()?, values().max()?))
            }
            #[cfg(test)]
            Numbers::Plain(_) => None,
        }
    }

    pub fn bounds(self) -> Option<(u64, u64)> {
        match self {
            Numbers::Column(c) => c.bounds(),
            #[cfg(test)]
            Numbers::Plain(c) => c.bounds(),
        }
    }
}

impl Ordinals<'_> {
    /// The one ordinal that each of these consecutive documents has, if that costs nothing to know.
    pub fn run_constant(self, docs: &Range<DocId>) -> Option<u32> {
        match self {
            Ordinals::Column(c) if c.is_single() && c.is_full() => {
                let (block, min, max) = c.numbers().block_bounds(docs.start);
                (min == max && block.end >= docs.end).then_some(min.min(u64::from(c.ordinal_count()) - 1) as u32)
            }
            Ordinals::Column(_) => None,
            #[cfg(test)]
            Ordinals::Plain(_) => None,
        }
    }

    /// All terms, if they are few.
    pub fn small_dictionary(self) -> Option<Arc<TermTable>> {
        match self {
            Ordinals::Column(c) => c.small_dictionary().cloned(),
            #[cfg(test)]
            Ordinals::Plain(c) => {
                let mut table = TermTable::default();
                c.terms.iter().for_each(|t| table.push(t));
                Some(Arc::new(table))
            }
        }
    }

    pub fn ordinal_count(self) -> u32 {
        match self {
            Ordinals::Column(c) => c.ordinal_count(),
            #[cfg(test)]
            Ordinals::Plain(c) => c.ordinal_count(),
        }
    }

    pub fn term(self, ordinal: u32, out: &mut Vec<u8>) {
        match self {
            Ordinals::Column(c) => c.term(ordinal, out),
            #[cfg(test)]
            Ordinals::Plain(c) => c.term(ordinal, out),
        }
    }
    /// Ordinal of the first term that is not before `term`.
    pub fn first_from(self, term: &[u8]) -> u32 {
        match self {
            Ordinals::Column(c) => c.first_from(term),
            #[cfg(test)]
            Ordinals::Plain(c) => c.first_from(term),
        }
    }
}

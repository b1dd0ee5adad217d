//! Sort keys: from a request to something comparable, segment by segment.
//!
//! Numbers compare as their sortable `u64`, complemented when descending, so that less is better; a missing value is a
//! number like any other (the largest or smallest of the type, as in Elasticsearch). Strings compare within a segment as
//! ordinals of its dictionary, and across segments as bytes.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::mapping::encode::RangeBounds;
use crate::mapping::{FieldMapping, FieldType, Mapping, number};
use crate::query::{self, Value};
use crate::search::{Missing, SortBy, SortKey, SortMode, SortValue};
use crate::segment::ColumnKind;
use crate::segment::reader::{NumberColumn, OrdinalColumn, SegmentReader};

/// A hit's value for one key. Less is better for numbers; strings as `Direction` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Number(u64),
    /// None = missing.
    Bytes(Option<Arc<[u8]>>),
}

pub(crate) type Keys = SmallVec<[Key; 2]>;

/// How a field's numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Class {
    Signed,
    Unsigned,
    Bool,
    F64,
    F32,
    F16,
    Scaled(f64),
}

impl Class {
    fn of(kind: &FieldType) -> Class {
        match kind {
            FieldType::UnsignedLong | FieldType::GeoPoint => Class::Unsigned,
            FieldType::Boolean => Class::Bool,
            FieldType::Double => Class::F64,
            FieldType::Float => Class::F32,
            FieldType::HalfFloat => Class::F16,
            FieldType::ScaledFloat { scaling_factor } => Class::Scaled(*scaling_factor),
            _ => Class::Signed,
        }
    }

    /// Sortable form of the value that stands for "after (or before) all others".
    fn extreme(self, largest: bool) -> u64 {
        match (self, largest) {
            (Class::F64, true) => number::from_f64(f64::INFINITY),
            (Class::F64, false) => number::from_f64(f64::NEG_INFINITY),
            (Class::F32, true) => number::from_f32(f32::INFINITY),
            (Class::F32, false) => number::from_f32(f32::NEG_INFINITY),
            (Class::F16, true) => number::from_f16_bits(0x7c00),
            (Class::F16, false) => number::from_f16_bits(0xfc00),
            (_, true) => u64::MAX,
            (_, false) => 0,
        }
    }

    fn to_f64(self, sortable: u64) -> f64 {
        match self {
            Class::Signed => number::to_i64(sortable) as f64,
            Class::Unsigned | Class::Bool => sortable as f64,
            Class::F64 => number::to_f64(sortable),
            Class::F32 => f64::from(number::to_f32(sortable)),
            Class::F16 => f64::from(number::to_f16(sortable)),
            Class::Scaled(factor) => number::to_i64(sortable) as f64 / factor,
        }
    }

    fn sortable(self, value: f64) -> u64 {
        match self {
            Class::Signed => number::from_i64(value.round() as i64),
            Class::Unsigned | Class::Bool => value.round() as u64,
            Class::F64 => number::from_f64(value),
            Class::F32 => number::from_f32(value as f32),
            Class::F16 => number::from_f16_bits(number::f32_to_f16(value as f32)),
            Class::Scaled(factor) => {
                if value.is_infinite() {
                    if value > 0.0 { u64::MAX } else { 0 }
                } else {
                    number::from_i64((value * factor).round() as i64)
                }
            }
        }
    }

    fn value(self, sortable: u64) -> SortValue {
        match self {
            Class::Signed => SortValue::Int(number::to_i64(sortable)),
            Class::Unsigned => SortValue::UInt(sortable),
            Class::Bool => match sortable {
                u64::MAX => SortValue::Int(i64::MAX),
                n => SortValue::Int(n as i64),
            },
            Class::Scaled(_) if sortable == u64::MAX => SortValue::Float(f64::INFINITY),
            Class::Scaled(_) if sortable == 0 => SortValue::Float(f64::NEG_INFINITY),
            _ => SortValue::Float(self.to_f64(sortable)),
        }
    }
}

#[derive(Debug)]
enum Source {
    Score,
    Doc,
    /// `_seq_no` and `_id` are not columns.
    SeqNo,
    Id,
    Number {
        field: Option<Arc<FieldMapping>>,
        class: Class,
        mode: SortMode,
        missing: u64,
        format: Option<String>,
    },
    Bytes {
        field: Option<Arc<FieldMapping>>,
        max: bool,
        missing: MissingBytes,
    },
}

#[derive(Clone, Debug)]
enum MissingBytes {
    Last,
    First,
    As(Arc<[u8]>),
}

#[derive(Debug)]
struct PlannedKey {
    source: Source,
    descending: bool,
}

/// The sort of a request, resolved against a mapping.
#[derive(Debug)]
pub(crate) struct SortPlan {
    keys: Vec<PlannedKey>,
}

impl SortPlan {
    /// Resolves sort keys.
    ///
    /// # Errors
    /// Fields that cannot be sorted by, in Elasticsearch's words.
    pub(crate) fn new(keys: &[SortKey], mapping: &Mapping, now_ms: i64) -> Result<SortPlan> {
        let keys = keys
            .iter()
            .map(|key| {
                let source = match &key.by {
                    SortBy::Score => Source::Score,
                    SortBy::Doc => Source::Doc,
                    SortBy::Field { field, .. } if field == "_seq_no" => Source::SeqNo,
                    SortBy::Field { field, .. } if field == "_id" => Source::Id,
                    SortBy::Field { field, mode, missing, unmapped_type, format } => plan_field(
                        field,
                        *mode,
                        missing,
                        unmapped_type.as_deref(),
                        format.as_ref(),
                        key.descending,
                        mapping,
                        now_ms,
                    )?,
                };
                Ok(PlannedKey { source, descending: key.descending })
            })
            .collect::<Result<_>>()?;
        Ok(SortPlan { keys })
    }

    pub(crate) fn needs_scores(&self) -> bool {
        self.keys.iter().any(|k| matches!(k.source, Source::Score))
    }

    /// Better is `Less`. Equal keys leave the order of the documents.
    pub(crate) fn compare(&self, a: &[Key], b: &[Key]) -> Ordering {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let order = self.compare_one(i, a, b);
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    fn compare_one(&self, index: usize, a: &Key, b: &Key) -> Ordering {
        match (a, b) {
            (Key::Number(a), Key::Number(b)) => a.cmp(b),
            (Key::Bytes(Some(a)), Key::Bytes(Some(b))) => {
                if self.keys[index].descending {
                    b.cmp(a)
                } else {
                    a.cmp(b)
                }
            }
            (Key::Bytes(None), Key::Bytes(None)) => Ordering::Equal,
            (Key::Bytes(a), Key::Bytes(_)) => {
                let first = matches!(self.keys[index].source, Source::Bytes { missing: MissingBytes::First, .. });
                if a.is_none() == first { Ordering::Less } else { Ordering::Greater }
            }
            // Keys of one position are of one kind.
            (Key::Number(_), Key::Bytes(_)) => Ordering::Less,
            (Key::Bytes(_), Key::Number(_)) => Ordering::Greater,
        }
    }

    /// What the client sees.
    pub(crate) fn values(&self, keys: &[Key]) -> Result<Vec<SortValue>> {
        self.keys
            .iter()
            .zip(keys)
            .map(|(planned, key)| {
                let flip = if planned.descending { u64::MAX } else { 0 };
                Ok(match (&planned.source, key) {
                    (Source::Score, Key::Number(n)) => SortValue::Float(f64::from(number::to_f32(n ^ flip))),
                    (Source::Doc | Source::SeqNo, Key::Number(n)) => SortValue::Int((n ^ flip) as i64),
                    (Source::Number { field, class, format, .. }, Key::Number(n)) => {
                        let sortable = n ^ flip;
                        match (field, format) {
                            (Some(field), Some(format)) if sortable != u64::MAX && sortable != 0 => {
                                match field.render_number(sortable, Some(format))? {
                                    serde_json::Value::String(text) => SortValue::String(text),
                                    _ => class.value(sortable),
                                }
                            }
                            _ => class.value(sortable),
                        }
                    }
                    (Source::Id, Key::Bytes(Some(bytes))) => {
                        SortValue::String(String::from_utf8_lossy(bytes).into_owned())
                    }
                    (Source::Bytes { field, .. }, Key::Bytes(Some(bytes))) => {
                        let rendered = field.as_ref().map(|f| f.render_term(bytes));
                        match rendered {
                            Some(serde_json::Value::String(text)) => SortValue::String(text),
                            _ => SortValue::String(String::from_utf8_lossy(bytes).into_owned()),
                        }
                    }
                    _ => SortValue::Null,
                })
            })
            .collect()
    }

    /// Keys of `search_after`.
    ///
    /// # Errors
    /// Wrong number or kind of values.
    pub(crate) fn after(&self, values: &[SortValue], now_ms: i64) -> Result<Keys> {
        if values.len() != self.keys.len() {
            return Err(Error::illegal_argument(format!(
                "search_after has {} value(s) but sort has {}.",
                values.len(),
                self.keys.len()
            )));
        }
        self.keys.iter().zip(values).map(|(planned, value)| planned.after(value, now_ms)).collect()
    }

    /// Readers of the keys in a segment whose first document is `doc_base` in the shard.
    pub(crate) fn open<'a>(&'a self, reader: &'a SegmentReader, doc_base: u32) -> Vec<KeyReader<'a>> {
        self.keys
            .iter()
            .map(|planned| {
                let flip = if planned.descending { u64::MAX } else { 0 };
                match &planned.source {
                    Source::Score => KeyReader::Score { flip },
                    Source::Doc => KeyReader::Doc { base: doc_base, flip },
                    Source::SeqNo => KeyReader::SeqNo { reader, flip },
                    Source::Id => KeyReader::Id { reader, flip },
                    Source::Number { field, class, mode, missing, .. } => KeyReader::Number {
                        column: field.as_ref().and_then(|f| reader.field(&f.path)).and_then(|f| f.numbers()),
                        class: *class,
                        mode: *mode,
                        missing: *missing,
                        flip,
                        doc_count: reader.doc_count(),
                    },
                    Source::Bytes { field, max, missing } => KeyReader::Bytes {
                        column: field.as_ref().and_then(|f| reader.field(&f.path)).and_then(|f| f.ordinals()),
                        max: *max,
                        descending: planned.descending,
                        missing: match missing {
                            MissingBytes::As(bytes) => Some(Arc::clone(bytes)),
                            _ => None,
                        },
                        missing_first: matches!(missing, MissingBytes::First),
                        doc_count: reader.doc_count(),
                    },
                }
            })
            .collect()
    }
}

impl PlannedKey {
    fn after(&self, value: &SortValue, now_ms: i64) -> Result<Key> {
        let flip = if self.descending { u64::MAX } else { 0 };
        let wrong =
            |what: &str| Error::illegal_argument(format!("Failed to parse search_after value for field [{what}]."));
        let number = match &self.source {
            Source::Score => match value {
                SortValue::Float(f) => number::from_f32(*f as f32),
                SortValue::Int(i) => number::from_f32(*i as f32),
                SortValue::String(s) => number::from_f32(s.parse().map_err(|_| wrong("_score"))?),
                _ => return Err(wrong("_score")),
            },
            Source::Doc | Source::SeqNo => match value {
                SortValue::Int(i) => *i as u64,
                SortValue::String(s) => s.parse().map_err(|_| wrong("_doc"))?,
                _ => return Err(wrong("_doc")),
            },
            Source::Number { field, class, missing, format, .. } => match value {
                SortValue::Null => *missing,
                SortValue::Int(i) => match class {
                    Class::Signed => number::from_i64(*i),
                    Class::Unsigned | Class::Bool if *i == i64::MAX => u64::MAX,
                    Class::Unsigned | Class::Bool => u64::try_from(*i).unwrap_or(0),
                    _ => class.sortable(*i as f64),
                },
                SortValue::UInt(u) => match class {
                    Class::Unsigned | Class::Bool => *u,
                    Class::Signed => u64::MAX,
                    _ => class.sortable(*u as f64),
                },
                SortValue::Float(f) => class.sortable(*f),
                SortValue::String(text) => match text.as_str() {
                    "Infinity" => class.extreme(true),
                    "-Infinity" => class.extreme(false),
                    _ => {
                        let path = field.as_ref().map_or("", |f| &f.path);
                        let field = field.as_ref().ok_or_else(|| wrong(path))?;
                        let bound = query::Bound { value: Value::String(text.clone()), inclusive: true };
                        match field.encode_range(Some(&bound), None, format.as_deref(), None, now_ms)? {
                            RangeBounds::Numbers(range) => *range.start(),
                            _ => return Err(wrong(path)),
                        }
                    }
                },
            },
            Source::Id => {
                return match value {
                    SortValue::String(id) => Ok(Key::Bytes(Some(id.as_bytes().into()))),
                    _ => Err(wrong("_id")),
                };
            }
            Source::Bytes { field, .. } => {
                return Ok(Key::Bytes(match value {
                    SortValue::Null => None,
                    SortValue::String(text) => {
                        let encoded = field
                            .as_ref()
                            .filter(|f| f.kind == FieldType::Ip)
                            .map(|f| f.encode_term(&Value::String(text.clone()), now_ms))
                            .transpose()?;
                        match encoded {
                            Some(crate::mapping::encode::Encoded::Term(term)) => Some(term.into()),
                            _ => Some(text.as_bytes().into()),
                        }
                    }
                    SortValue::Int(i) => Some(i.to_string().as_bytes().into()),
                    SortValue::UInt(u) => Some(u.to_string().as_bytes().into()),
                    SortValue::Float(f) => Some(f.to_string().as_bytes().into()),
                }));
            }
        };
        Ok(Key::Number(number ^ flip))
    }
}

/// Why a field without a column cannot be sorted by or given from one.
pub(crate) fn no_column(name: &str, field: &FieldMapping) -> Error {
    if field.kind == FieldType::Text {
        return Error::illegal_argument(format!(
            "Text fields are not optimised for operations that require per-document field data like aggregations and sorting, so these operations are disabled by default. Please use a keyword field instead. Alternatively, set fielddata=true on [{name}] in order to load field data by uninverting the inverted index. Note that this can use significant memory."
        ));
    }
    Error::illegal_argument(format!(
        "Can't load fielddata on [{name}] because fielddata is unsupported on fields of type [{}]. Use doc values instead.",
        field.type_name
    ))
}

#[allow(clippy::too_many_arguments)]
fn plan_field(
    name: &str,
    mode: Option<SortMode>,
    missing: &Missing,
    unmapped_type: Option<&str>,
    format: Option<&String>,
    descending: bool,
    mapping: &Mapping,
    now_ms: i64,
) -> Result<Source> {
    let field = if name == "_ignored" { Some(mapping.ignored()) } else { mapping.field(name) };
    let Some(field) = field else {
        let Some(kind) = unmapped_type else {
            return Err(Error::request(
                "query_shard_exception",
                format!("No mapping found for [{name}] in order to sort on"),
            ));
        };
        return Ok(match kind {
            "keyword" | "ip" | "text" | "wildcard" | "constant_keyword" => Source::Bytes {
                field: None,
                max: descending,
                missing: if *missing == Missing::First { MissingBytes::First } else { MissingBytes::Last },
            },
            kind => {
                let class = match kind {
                    "double" | "scaled_float" => Class::F64,
                    "float" => Class::F32,
                    "half_float" => Class::F16,
                    "unsigned_long" => Class::Unsigned,
                    _ => Class::Signed,
                };
                let last = !matches!(missing, Missing::First);
                Source::Number {
                    field: None,
                    class,
                    mode: SortMode::Min,
                    missing: class.extreme(last != descending),
                    format: None,
                }
            }
        });
    };
    match field.spec.column {
        ColumnKind::Numbers => {
            let class = Class::of(&field.kind);
            let missing = match missing {
                Missing::Last => class.extreme(!descending),
                Missing::First => class.extreme(descending),
                Missing::Value(value) => {
                    let bound = query::Bound { value: value.clone(), inclusive: true };
                    match field.encode_range(Some(&bound), None, format.map(String::as_str), None, now_ms)? {
                        RangeBounds::Numbers(range) => *range.start(),
                        _ => class.extreme(!descending),
                    }
                }
            };
            let mode = mode.unwrap_or(if descending { SortMode::Max } else { SortMode::Min });
            Ok(Source::Number { field: Some(Arc::clone(field)), class, mode, missing, format: format.cloned() })
        }
        ColumnKind::Ordinals => {
            let max = match mode {
                None => descending,
                Some(SortMode::Min) => false,
                Some(SortMode::Max) => true,
                Some(_) => {
                    return Err(Error::illegal_argument("we only support MIN and MAX on this type of value"));
                }
            };
            let missing = match missing {
                Missing::Last => MissingBytes::Last,
                Missing::First => MissingBytes::First,
                Missing::Value(value) => match field.encode_term(value, now_ms)? {
                    crate::mapping::encode::Encoded::Term(term) => MissingBytes::As(term.into()),
                    _ => MissingBytes::Last,
                },
            };
            Ok(Source::Bytes { field: Some(Arc::clone(field)), max, missing })
        }
        ColumnKind::None => Err(no_column(name, field)),
    }
}

/// Reads one key of a segment's documents.
pub(crate) enum KeyReader<'a> {
    Score {
        flip: u64,
    },
    Doc {
        base: u32,
        flip: u64,
    },
    SeqNo {
        reader: &'a SegmentReader,
        flip: u64,
    },
    Id {
        reader: &'a SegmentReader,
        flip: u64,
    },
    Number {
        column: Option<&'a NumberColumn>,
        class: Class,
        mode: SortMode,
        missing: u64,
        flip: u64,
        doc_count: u32,
    },
    Bytes {
        column: Option<&'a OrdinalColumn>,
        max: bool,
        descending: bool,
        missing: Option<Arc<[u8]>>,
        missing_first: bool,
        doc_count: u32,
    },
}

/// Documents of a segment, ascending.
#[derive(Clone, Debug)]
pub(crate) enum Docs<'a> {
    Run(Range<DocId>),
    List(&'a [DocId]),
}

impl KeyReader<'_> {
    /// A number that orders this segment's documents: less is better. Comparable with [`KeyReader::rank_of`].
    #[inline]
    pub(crate) fn rank(&self, doc: DocId, score: f32, scratch: &mut Vec<u64>) -> u64 {
        match self {
            KeyReader::Score { flip } => number::from_f32(score) ^ flip,
            KeyReader::Doc { base, flip } => u64::from(base + doc) ^ flip,
            KeyReader::SeqNo { reader, flip } => reader.seq_no(doc).0 as u64 ^ flip,
            KeyReader::Id { reader, flip } => id_rank(reader.id(doc).as_bytes()) ^ flip,
            KeyReader::Number { column, class, mode, missing, flip, .. } => {
                let value = column.and_then(|c| match mode {
                    SortMode::Min => c.first(doc),
                    _ if c.is_single() => c.first(doc),
                    _ => pick(c, doc, *class, *mode, scratch),
                });
                value.unwrap_or(*missing) ^ flip
            }
            KeyReader::Bytes { column, max, descending, missing, missing_first, .. } => {
                let Some(column) = column else {
                    return match missing {
                        Some(_) => MIDDLE,
                        None if *missing_first => 0,
                        None => u64::MAX,
                    };
                };
                match (pick_ordinal(column, doc, *max), missing) {
                    (Some(ordinal), _) => ordinal_rank(u64::from(ordinal) * 2 + 2, *descending),
                    (None, Some(bytes)) => bytes_rank(column, bytes, *descending),
                    (None, None) => {
                        if *missing_first {
                            0
                        } else {
                            u64::MAX
                        }
                    }
                }
            }
        }
    }

    /// The rank in this segment of a key from any segment. Strings that the segment does not have stand between those it has.
    pub(crate) fn rank_of(&self, key: &Key) -> u64 {
        match (self, key) {
            (_, Key::Number(n)) => *n,
            (KeyReader::Id { flip, .. }, Key::Bytes(Some(id))) => id_rank(id) ^ flip,
            (KeyReader::Bytes { column: Some(column), descending, .. }, Key::Bytes(Some(bytes))) => {
                bytes_rank(column, bytes, *descending)
            }
            // No document of the segment has a value: all are before or after, or as the stand-in is.
            (KeyReader::Bytes { missing, descending, .. }, Key::Bytes(Some(bytes))) => match missing {
                None => MIDDLE,
                Some(all) => {
                    let order = if *descending { bytes.cmp(all) } else { all.cmp(bytes) };
                    match order {
                        Ordering::Less => MIDDLE + 1,
                        Ordering::Equal => MIDDLE,
                        Ordering::Greater => MIDDLE - 1,
                    }
                }
            },
            (KeyReader::Bytes { missing_first, .. }, _) => {
                if *missing_first {
                    0
                } else {
                    u64::MAX
                }
            }
            _ => 0,
        }
    }

    /// The key itself. Equal ranks need not be equal keys: strings between two of the segment's have one rank.
    pub(crate) fn key(&self, doc: DocId, score: f32, scratch: &mut Vec<u64>) -> Key {
        match self {
            KeyReader::Bytes { column, max, missing, .. } => {
                let Some(column) = column else { return Key::Bytes(missing.clone()) };
                Key::Bytes(match pick_ordinal(column, doc, *max) {
                    Some(ordinal) => {
                        let mut term = Vec::new();
                        column.term(ordinal, &mut term);
                        Some(term.into())
                    }
                    None => missing.clone(),
                })
            }
            KeyReader::Id { reader, .. } => Key::Bytes(Some(reader.id(doc).as_bytes().into())),
            _ => Key::Number(self.rank(doc, score, scratch)),
        }
    }

    /// Whether the segment's column ends before `doc`.
    pub(crate) fn at_end(&self, doc: DocId) -> bool {
        match self {
            KeyReader::Number { doc_count, .. } | KeyReader::Bytes { doc_count, .. } => doc >= *doc_count,
            _ => false,
        }
    }

    /// Whether a document's key is `rank` and nothing more: other documents of this rank have the same.
    #[inline]
    pub(crate) fn decides(&self, rank: u64) -> bool {
        match self {
            KeyReader::Id { .. } => false,
            // Odd: between two of the segment's strings.
            KeyReader::Bytes { column: Some(_), .. } => rank.is_multiple_of(2) || rank == u64::MAX,
            _ => true,
        }
    }

    /// Whether ranks of many documents cost next to nothing, and blocks of them have bounds.
    pub(crate) fn is_bulk(&self) -> bool {
        match self {
            KeyReader::Number { column: Some(column), .. } => column.is_single() && column.is_full(),
            KeyReader::Bytes { column: Some(column), .. } => column.is_single() && column.is_full(),
            _ => false,
        }
    }

    /// Replaces `ranks` with those of `docs`; only if [`KeyReader::is_bulk`].
    pub(crate) fn ranks(&self, docs: Docs<'_>, ordinals: &mut Vec<u32>, ranks: &mut Vec<u64>) {
        match self {
            KeyReader::Number { column: Some(column), flip, .. } => {
                match docs {
                    Docs::Run(run) => column.range(run, ranks),
                    Docs::List(list) => column.gather(list, ranks),
                }
                if *flip != 0 {
                    ranks.iter_mut().for_each(|r| *r ^= flip);
                }
            }
            KeyReader::Bytes { column: Some(column), descending, .. } => {
                match docs {
                    Docs::Run(run) => column.range(run, ordinals),
                    Docs::List(list) => column.gather(list, ordinals),
                }
                ranks.clear();
                ranks.extend(ordinals.iter().map(|&o| ordinal_rank(u64::from(o) * 2 + 2, *descending)));
            }
            _ => unreachable!("not read in bulk"),
        }
    }

    /// A stretch of documents from `doc` on (its end is excluded) and the best rank that any of them can have.
    pub(crate) fn best_rank(&self, doc: DocId) -> Option<(DocId, u64)> {
        match self {
            KeyReader::Number { column: Some(column), mode, missing, flip, .. }
                if matches!(mode, SortMode::Min | SortMode::Max) || column.is_single() =>
            {
                let (docs, min, max) = column.block_bounds(doc);
                let mut best = if min > max {
                    missing ^ flip
                } else if *flip == 0 {
                    min
                } else {
                    max ^ flip
                };
                if !column.is_full() {
                    best = best.min(missing ^ flip);
                }
                Some((docs.end, best))
            }
            KeyReader::Bytes { column: Some(column), descending, missing, missing_first, .. }
                if missing.is_none() || column.is_full() =>
            {
                let (docs, min, max) = column.numbers().block_bounds(doc);
                let absent = if *missing_first { 0 } else { u64::MAX };
                let mut best = if min > max {
                    absent
                } else {
                    ordinal_rank(if *descending { max } else { min }.min(u64::from(u32::MAX)) * 2 + 2, *descending)
                };
                if !column.is_full() {
                    best = best.min(absent);
                }
                Some((docs.end, best))
            }
            // Documents only get worse.
            KeyReader::Doc { base, flip: 0 } => Some((crate::ids::NO_MORE_DOCS, u64::from(base + doc))),
            _ => None,
        }
    }
}

/// The first eight bytes: ids with equal ranks are compared whole.
fn id_rank(id: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = id.len().min(8);
    first[..length].copy_from_slice(&id[..length]);
    u64::from_be_bytes(first)
}

/// The rank of all documents where a segment has no column.
const MIDDLE: u64 = u64::MAX / 2;

fn pick_ordinal(column: &OrdinalColumn, doc: DocId, max: bool) -> Option<u32> {
    if !max || column.is_single() {
        return column.first(doc);
    }
    let mut ordinals = Vec::new();
    column.values(doc, &mut ordinals);
    ordinals.last().copied()
}

fn ordinal_rank(rank: u64, descending: bool) -> u64 {
    // 0 and the largest are for missing values.
    if descending { u64::MAX - 1 - rank } else { rank }
}

fn bytes_rank(column: &OrdinalColumn, bytes: &[u8], descending: bool) -> u64 {
    let rank = match column.lookup(bytes) {
        Ok(ordinal) => u64::from(ordinal) * 2 + 2,
        Err(next) => u64::from(next) * 2 + 1,
    };
    ordinal_rank(rank, descending)
}

fn pick(column: &NumberColumn, doc: DocId, class: Class, mode: SortMode, values: &mut Vec<u64>) -> Option<u64> {
    column.values(doc, values);
    let (first, last) = (*values.first()?, *values.last()?);
    Some(match mode {
        SortMode::Min => first,
        SortMode::Max => last,
        _ if values.len() == 1 => first,
        SortMode::Sum if class == Class::Signed => {
            number::from_i64(values.iter().fold(0i64, |sum, &v| sum.wrapping_add(number::to_i64(v))))
        }
        SortMode::Sum => class.sortable(values.iter().map(|&v| class.to_f64(v)).sum()),
        SortMode::Avg => {
            let sum: f64 = values.iter().map(|&v| class.to_f64(v)).sum();
            class.sortable(sum / values.len() as f64)
        }
        SortMode::Median => {
            let middle = values.len() / 2;
            if values.len() % 2 == 1 {
                values[middle]
            } else {
                class.sortable((class.to_f64(values[middle - 1]) + class.to_f64(values[middle])) / 2.0)
            }
        }
    })
}

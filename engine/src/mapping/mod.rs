//! Mappings: which fields an index has and how each is indexed. CONTRACT STUB: owners fill in, names stay.

pub mod date;
pub mod encode;
pub mod number;

use std::sync::Arc;

use crate::analysis::{Analyzer, AnalyzerRegistry};
use crate::error::{ParseError, Result};
use crate::segment::FieldSpec;

/// A field's position in its mapping's field list. Stable: a mapping update only appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u32);

/// A compiled mapping: immutable, shared by `Arc`; an update makes a new one.
#[derive(Debug, Default)]
pub struct Mapping {}

/// A field's Elasticsearch type, with what changes its encoding.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldType {
    /// Analyzed text.
    Text,
    /// Exact strings.
    Keyword,
    /// 64-, 32-, 16-, 8-bit signed integers.
    Long,
    /// 32 bits.
    Integer,
    /// 16 bits.
    Short,
    /// 8 bits.
    Byte,
    /// 64 bits unsigned.
    UnsignedLong,
    /// IEEE double.
    Double,
    /// IEEE single.
    Float,
    /// IEEE half.
    HalfFloat,
    /// A double times the factor, rounded, as a long.
    ScaledFloat {
        /// Multiplier.
        scaling_factor: f64,
    },
    /// Milliseconds since 1970, with its formats.
    Date,
    /// Nanoseconds since 1970.
    DateNanos,
    /// false, true.
    Boolean,
    /// IPv4 or IPv6 as 16 bytes.
    Ip,
    /// Base64, kept in `_source` only.
    Binary,
    /// A point; kept as one column for now.
    GeoPoint,
    /// A type we accept and keep in `_source` but cannot search yet.
    Opaque(String),
}

/// One concrete (leaf) field or multi-field.
#[derive(Debug)]
pub struct FieldMapping {
    /// Position.
    pub id: FieldId,
    /// Full path.
    pub path: String,
    /// Type.
    pub kind: FieldType,
    /// What the segments store for it.
    pub spec: FieldSpec,
    /// For text: index and search analyzers. For keyword: a normalizer, if any, in both.
    pub analyzer: Option<Arc<Analyzer>>,
    /// Used on query text.
    pub search_analyzer: Option<Arc<Analyzer>>,
    /// Positions between two values of one document (100).
    pub position_increment_gap: u32,
    /// Date formats or other format string (`strict_date_optional_time||epoch_millis`).
    pub format: Option<String>,
    /// Field-level boost from the mapping (deprecated in 7, still accepted).
    pub boost: f32,
}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl Mapping {
    /// Compiles `{"properties":{...}, "dynamic":..., "_source":..., ...}`. `registry` knows the index's analyzers.
    pub fn parse(json: &serde_json::Value, registry: &AnalyzerRegistry) -> Result<Mapping, ParseError> {
        todo!()
    }
    /// Adds what `update` has; refuses conflicting changes in Elasticsearch's words. Field ids stay.
    pub fn merge(&self, update: &serde_json::Value, registry: &AnalyzerRegistry) -> Result<Mapping, ParseError> {
        todo!()
    }
    /// As `GET /index/_mapping` shows it.
    pub fn to_json(&self) -> serde_json::Value {
        todo!()
    }
    pub fn fields(&self) -> &[Arc<FieldMapping>] {
        todo!()
    }
    pub fn by_id(&self, id: FieldId) -> &FieldMapping {
        todo!()
    }
    /// The hidden `_field_names` field: terms are the paths of fields that have neither column nor norms, which is
    /// how `exists` finds their documents.
    pub fn field_names(&self) -> &Arc<FieldMapping> {
        todo!()
    }
    /// The hidden `_ignored` field: paths of values left out of the index, as terms and as an ordinal column.
    pub fn ignored(&self) -> &Arc<FieldMapping> {
        todo!()
    }
    /// By full path; `alias` fields resolved.
    pub fn field(&self, path: &str) -> Option<&Arc<FieldMapping>> {
        todo!()
    }
    /// All concrete fields whose path matches a pattern with `*`.
    pub fn matching(&self, pattern: &str) -> Vec<&Arc<FieldMapping>> {
        todo!()
    }
    /// Whether `path` is an object (has fields below it).
    pub fn is_object(&self, path: &str) -> bool {
        todo!()
    }
    pub fn routing_required(&self) -> bool {
        todo!()
    }
    pub fn source_enabled(&self) -> bool {
        todo!()
    }
}

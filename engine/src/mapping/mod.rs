//! Mappings: which fields an index has and how each is indexed.
//!
//! `definition.rs` is the mapping as written (parse, merge, show), `compile.rs` makes from it the flat list of fields
//! and the tree that documents are parsed along; `encode.rs` and the files below it say how values are encoded.
//!
//! Invariants of a [`Mapping`]:
//! - `fields()[id.0]` is the field with that id; an update keeps every id and appends new ones.
//! - Fields 0 and 1 are the hidden `_ignored` and `_field_names`.
//! - Every concrete path (multi-fields included) is one field; an alias or an object is none.

mod compile;
pub mod date;
pub mod decimal_format;
mod definition;
pub mod dynamic;
pub mod encode;
pub mod geo;
pub mod ip;
pub mod number;
mod params;
pub mod scalar;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::analysis::{Analyzer, AnalyzerRegistry};
use crate::error::{ParseError, Result};
use crate::segment::FieldSpec;

pub(crate) use compile::{Leaf, Node, NodeKind, ROOT, is_metadata};
pub(crate) use definition::{Dynamic, split_path};
pub(crate) use dynamic::DynamicType;
pub(crate) use params::java_text;

/// A field's position in its mapping's field list. Stable: a mapping update only appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u32);

/// A compiled mapping: immutable, shared by `Arc`; an update makes a new one.
#[derive(Debug)]
pub struct Mapping {
    root: definition::Root,
    fields: Vec<Arc<FieldMapping>>,
    /// Concrete fields and resolved aliases.
    by_path: FxHashMap<Box<str>, FieldId>,
    /// Object paths and whether they are nested.
    objects: FxHashMap<Box<str>, bool>,
    nodes: Vec<Node>,
    dynamic_dates: Vec<Arc<date::DateFormat>>,
}

/// Limits of `index.mapping.*`, with their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `index.mapping.total_fields.limit`: fields, objects, multi-fields and aliases.
    pub total_fields: usize,
    /// `index.mapping.depth.limit`: levels, the root being one.
    pub depth: usize,
    /// `index.mapping.field_name_length.limit`: UTF-16 units of one name.
    pub field_name_length: usize,
    /// `index.mapping.nested_fields.limit`: nested objects.
    pub nested_fields: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { total_fields: 1000, depth: 20, field_name_length: usize::MAX, nested_fields: 50 }
    }
}

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

impl FieldType {
    /// Whether values are numbers a client would call so (dates and booleans are not).
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || self.is_float() || *self == FieldType::UnsignedLong
    }

    /// Signed integers.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        matches!(self, FieldType::Long | FieldType::Integer | FieldType::Short | FieldType::Byte)
    }

    /// Floating point, scaled ones included.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self, FieldType::Double | FieldType::Float | FieldType::HalfFloat | FieldType::ScaledFloat { .. })
    }

    /// `date` and `date_nanos`.
    #[must_use]
    pub fn is_date(&self) -> bool {
        matches!(self, FieldType::Date | FieldType::DateNanos)
    }
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
    /// The type's name as the mapping has it (`wildcard` is a `Keyword` here).
    pub type_name: String,
    /// `_ignored` and `_field_names`: not for clients.
    pub hidden: bool,
    /// `index`: whether queries may look for values.
    pub indexed: bool,
    /// Analyzer of quoted phrases; none = the search analyzer.
    pub search_quote_analyzer: Option<Arc<Analyzer>>,
    /// Whether text may be sorted and aggregated on (no: refused).
    pub fielddata: bool,
    /// Whether documents with a value have this path in `_field_names`.
    pub in_field_names: bool,
    /// `store`: searches may ask for it by `stored_fields`.
    pub stored: bool,
    /// A multi-field's parent (`title` of `title.raw`).
    pub multi_field_of: Option<FieldId>,
    /// The compiled `format` of a date.
    pub(crate) date_format: Option<Arc<date::DateFormat>>,
    pub(crate) ignore_above: u32,
    pub(crate) ignore_malformed: bool,
    pub(crate) coerce: bool,
    pub(crate) ignore_z_value: bool,
    /// What `null` stands for.
    pub(crate) null_value: Option<serde_json::Value>,
}

impl Default for Mapping {
    fn default() -> Mapping {
        Mapping::empty()
    }
}

impl Mapping {
    /// A mapping without fields.
    #[must_use]
    pub fn empty() -> Mapping {
        compile::compile(definition::Root::default(), None, None).expect("nothing to refuse")
    }

    /// Compiles `{"properties":{...}, "dynamic":..., "_source":..., ...}`. `registry` knows the index's analyzers.
    ///
    /// # Errors
    /// In Elasticsearch's words.
    pub fn parse(json: &serde_json::Value, registry: &AnalyzerRegistry) -> Result<Mapping, ParseError> {
        Mapping::parse_with(json, registry, &Limits::default())
    }

    /// The same with limits other than the default ones.
    ///
    /// # Errors
    /// In Elasticsearch's words.
    pub fn parse_with(
        json: &serde_json::Value,
        registry: &AnalyzerRegistry,
        limits: &Limits,
    ) -> Result<Mapping, ParseError> {
        let root = definition::Root::parse(json)?;
        compile::check_limits(&root, limits)?;
        compile::compile(root, None, Some(registry))
    }

    /// Adds what `update` has; refuses conflicting changes in Elasticsearch's words. Field ids stay.
    ///
    /// # Errors
    /// In Elasticsearch's words.
    pub fn merge(&self, update: &serde_json::Value, registry: &AnalyzerRegistry) -> Result<Mapping, ParseError> {
        self.merge_with(update, registry, &Limits::default())
    }

    /// The same with limits other than the default ones.
    ///
    /// # Errors
    /// In Elasticsearch's words.
    pub fn merge_with(
        &self,
        update: &serde_json::Value,
        registry: &AnalyzerRegistry,
        limits: &Limits,
    ) -> Result<Mapping, ParseError> {
        let update = definition::Root::parse(update)?;
        let mut root = self.root.clone();
        root.merge(&update)?;
        // A limit that was lowered later does not refuse what adds nothing.
        if root != self.root {
            compile::check_limits(&root, limits)?;
        }
        compile::compile(root, Some(self), Some(registry))
    }

    /// What counts towards `index.mapping.total_fields.limit`.
    #[must_use]
    pub fn total_fields(&self) -> usize {
        compile::total_fields(&self.root)
    }

    /// As `GET /index/_mapping` shows it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.root.to_json()
    }

    /// All fields by id, the hidden ones included.
    #[must_use]
    pub fn fields(&self) -> &[Arc<FieldMapping>] {
        &self.fields
    }

    /// A field of this mapping.
    #[must_use]
    pub fn by_id(&self, id: FieldId) -> &FieldMapping {
        &self.fields[id.0 as usize]
    }

    /// The hidden `_field_names` field: terms are the paths of fields that have neither column nor norms, which is
    /// how `exists` finds their documents.
    #[must_use]
    pub fn field_names(&self) -> &Arc<FieldMapping> {
        &self.fields[compile::FIELD_NAMES.0 as usize]
    }

    /// The hidden `_ignored` field: paths of values left out of the index, as terms and as an ordinal column.
    #[must_use]
    pub fn ignored(&self) -> &Arc<FieldMapping> {
        &self.fields[compile::IGNORED.0 as usize]
    }

    /// By full path; `alias` fields resolved.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&Arc<FieldMapping>> {
        self.by_path.get(path).map(|id| &self.fields[id.0 as usize])
    }

    /// All concrete fields whose path matches a pattern with `*`, in order of id; hidden ones only by their own name.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> Vec<&Arc<FieldMapping>> {
        if !pattern.contains('*') {
            return self.field(pattern).into_iter().collect();
        }
        self.fields.iter().filter(|f| !f.hidden && dynamic::wildcard(pattern, &f.path)).collect()
    }

    /// The same with the path each field was found by: aliases have their own names.
    #[must_use]
    pub fn matching_paths(&self, pattern: &str) -> Vec<(&str, &Arc<FieldMapping>)> {
        let mut found: Vec<(&str, &Arc<FieldMapping>)> = self
            .by_path
            .iter()
            .map(|(path, id)| (&**path, &self.fields[id.0 as usize]))
            .filter(|(path, field)| *path == pattern || (!field.hidden && dynamic::wildcard(pattern, path)))
            .collect();
        found.sort_unstable_by_key(|(path, _)| *path);
        found
    }

    /// Whether `path` is an object (has fields below it).
    #[must_use]
    pub fn is_object(&self, path: &str) -> bool {
        self.objects.contains_key(path)
    }

    /// Whether `path` is a `nested` object. (Its fields are indexed as those of a plain object.)
    #[must_use]
    pub fn is_nested(&self, path: &str) -> bool {
        self.objects.get(path) == Some(&true)
    }

    /// `_routing.required`
    #[must_use]
    pub fn routing_required(&self) -> bool {
        self.root.routing_required.unwrap_or(false)
    }

    /// `_source.enabled`
    #[must_use]
    pub fn source_enabled(&self) -> bool {
        self.root.source.as_ref().is_none_or(|s| s.enabled)
    }

    /// `_source.includes` and `_source.excludes`: what of a document is stored; both empty = all.
    #[must_use]
    pub fn source_filter(&self) -> (&[String], &[String]) {
        self.root.source.as_ref().map_or((&[], &[]), |s| (&s.includes, &s.excludes))
    }

    pub(crate) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn numeric_detection(&self) -> bool {
        self.root.numeric_detection.unwrap_or(false)
    }

    /// The format, of those that dynamic mapping tries, that reads `text`.
    pub(crate) fn detect_date(&self, text: &str) -> Option<&str> {
        if !self.root.date_detection.unwrap_or(true) {
            return None;
        }
        self.dynamic_dates.iter().find(|format| format.parse(text).is_some()).map(|format| format.text())
    }

    /// The mapping a dynamic template gives to a field nobody mapped.
    pub(crate) fn template_mapping(&self, path: &str, name: &str, kind: DynamicType) -> Option<serde_json::Value> {
        let templates = self.root.dynamic_templates.as_deref().unwrap_or_default();
        templates.iter().find(|t| t.matches(path, name, kind)).map(|t| t.mapping_for(name, kind))
    }
}

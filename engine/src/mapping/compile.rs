//! From the written mapping to what is used on every document and query: the flat field list, and a tree of nodes
//! with hashed children that documents are parsed along.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;
use smallvec::SmallVec;

use super::date::{self, DateFormat};
use super::definition::{Dynamic, Field, Object, Property, Root};
use super::{FieldId, FieldMapping, FieldType, Limits, Mapping, scalar};
use crate::analysis::{Analyzer, AnalyzerRegistry};
use crate::error::ParseError;
use crate::segment::{ColumnKind, FieldSpec, TermsOption};

/// The root object's node.
pub(crate) const ROOT: u32 = 0;
pub(super) const IGNORED: FieldId = FieldId(0);
pub(super) const FIELD_NAMES: FieldId = FieldId(1);

/// Formats that `dynamic_date_formats` has by default.
const DYNAMIC_DATES: [&str; 2] = [date::DEFAULT_FORMAT, "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis"];

/// One name of the tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub path: Box<str>,
    pub kind: NodeKind,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Object { children: FxHashMap<Box<str>, u32>, dynamic: Dynamic, enabled: bool },
    Leaf(Leaf),
    Alias,
}

/// A field that documents may have.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub field: FieldId,
    /// Its multi-fields, to any depth.
    pub multi_fields: SmallVec<[FieldId; 2]>,
    /// Target paths.
    pub copy_to: Vec<Box<str>>,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError::new("mapper_parsing_exception", reason))
}

/// Counts and measures against `index.mapping.*`.
pub(super) fn check_limits(root: &Root, limits: &Limits) -> Result<(), ParseError> {
    struct Count {
        total: usize,
        nested: usize,
    }
    fn field(name: &str, field: &Field, limits: &Limits, count: &mut Count) -> Result<(), ParseError> {
        count.total += 1;
        check_name(name, limits)?;
        field
            .fields
            .iter()
            .try_for_each(|(name, inner)| self::check_limits_field(name, inner, limits, &mut count.total))
    }
    fn object(inside: &Object, path: &str, depth: usize, limits: &Limits, count: &mut Count) -> Result<(), ParseError> {
        for (name, property) in &inside.properties {
            match property {
                Property::Field(inner) => field(name, inner, limits, count)?,
                Property::Object(inner) => {
                    count.total += 1;
                    count.nested += usize::from(inner.nested);
                    check_name(name, limits)?;
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    if depth > limits.depth {
                        return Err(ParseError::new(
                            "illegal_argument_exception",
                            format!(
                                "Limit of mapping depth [{}] has been exceeded due to object field [{path}]",
                                limits.depth
                            ),
                        ));
                    }
                    object(inner, &path, depth + 1, limits, count)?;
                }
            }
        }
        Ok(())
    }
    let mut count = Count { total: 0, nested: 0 };
    object(&root.object, "", 2, limits, &mut count)?;
    debug_assert_eq!(count.total, total_fields(root));
    let exceeded = |what: &str, limit: usize| {
        Err(ParseError::new("illegal_argument_exception", format!("Limit of {what} [{limit}] has been exceeded")))
    };
    if count.total > limits.total_fields {
        return exceeded("total fields", limits.total_fields);
    }
    if count.nested > limits.nested_fields {
        return exceeded("nested fields", limits.nested_fields);
    }
    Ok(())
}

/// What counts towards `index.mapping.total_fields.limit`: fields, fields of fields, objects.
pub(super) fn total_fields(root: &Root) -> usize {
    fn field(inner: &Field) -> usize {
        1 + inner.fields.values().map(field).sum::<usize>()
    }
    fn object(inside: &Object) -> usize {
        let count = |property: &Property| match property {
            Property::Field(inner) => field(inner),
            Property::Object(inner) => 1 + object(inner),
        };
        inside.properties.values().map(count).sum()
    }
    object(&root.object)
}

fn check_limits_field(name: &str, field: &Field, limits: &Limits, total: &mut usize) -> Result<(), ParseError> {
    *total += 1;
    check_name(name, limits)?;
    field.fields.iter().try_for_each(|(name, inner)| check_limits_field(name, inner, limits, total))
}

fn check_name(name: &str, limits: &Limits) -> Result<(), ParseError> {
    if name.len() > limits.field_name_length && name.encode_utf16().count() > limits.field_name_length {
        let reason =
            format!("Field name [{name}] is longer than the limit of [{}] characters", limits.field_name_length);
        return Err(ParseError::new("illegal_argument_exception", reason));
    }
    Ok(())
}

/// Compiles a mapping; `before` gives the ids that stay. Without a registry there must be no field with an analyzer.
pub(super) fn compile(
    root: Root,
    before: Option<&Mapping>,
    registry: Option<&AnalyzerRegistry>,
) -> Result<Mapping, ParseError> {
    let mut compiler = Compiler {
        before,
        registry,
        mapping: Mapping {
            root: Root::default(),
            fields: before.map_or_else(hidden_fields, |before| before.fields.clone()),
            by_path: FxHashMap::default(),
            objects: FxHashMap::default(),
            nodes: Vec::new(),
            dynamic_dates: Vec::new(),
        },
        aliases: Vec::new(),
    };
    for field in [IGNORED, FIELD_NAMES] {
        let path = compiler.mapping.fields[field.0 as usize].path.clone().into_boxed_str();
        compiler.mapping.by_path.insert(path, field);
    }
    compiler.object(&root.object, "", Dynamic::True)?;
    compiler.resolve_aliases()?;
    let mut mapping = compiler.mapping;
    let formats: Vec<&str> = match &root.dynamic_date_formats {
        Some(formats) => formats.iter().map(String::as_str).collect(),
        None => DYNAMIC_DATES.to_vec(),
    };
    for format in formats {
        let format = DateFormat::new(format).map_err(|why| ParseError::new("mapper_parsing_exception", why))?;
        mapping.dynamic_dates.push(Arc::new(format));
    }
    mapping.root = root;
    Ok(mapping)
}

fn hidden_fields() -> Vec<Arc<FieldMapping>> {
    let hidden = |id, path: &str, column| {
        Arc::new(FieldMapping {
            id,
            path: path.to_owned(),
            kind: FieldType::Keyword,
            spec: FieldSpec { name: path.to_owned(), terms: TermsOption::Docs, norms: false, column, points: false },
            analyzer: None,
            search_analyzer: None,
            position_increment_gap: 0,
            format: None,
            boost: 1.0,
            type_name: path.to_owned(),
            hidden: true,
            indexed: true,
            search_quote_analyzer: None,
            fielddata: false,
            in_field_names: false,
            stored: false,
            multi_field_of: None,
            date_format: None,
            ignore_above: u32::MAX,
            ignore_malformed: false,
            coerce: true,
            ignore_z_value: true,
            null_value: None,
        })
    };
    vec![hidden(IGNORED, "_ignored", ColumnKind::Ordinals), hidden(FIELD_NAMES, "_field_names", ColumnKind::None)]
}

struct Compiler<'a> {
    before: Option<&'a Mapping>,
    registry: Option<&'a AnalyzerRegistry>,
    mapping: Mapping,
    /// Alias path and target.
    aliases: Vec<(String, String)>,
}

impl Compiler<'_> {
    fn object(&mut self, object: &Object, path: &str, inherited: Dynamic) -> Result<u32, ParseError> {
        let index = self.mapping.nodes.len() as u32;
        let dynamic = object.dynamic.unwrap_or(inherited);
        let enabled = object.enabled.unwrap_or(true);
        // The root is "_doc" where errors name it, and no path for look-ups.
        let shown = if index == ROOT { "_doc" } else { path };
        self.mapping.nodes.push(Node { path: shown.into(), kind: NodeKind::Alias });
        if index != ROOT {
            self.mapping.objects.insert(path.into(), object.nested);
        }
        let mut children = FxHashMap::default();
        for (name, property) in &object.properties {
            let child_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if path.is_empty() && is_metadata(name) {
                return refuse(format!("Field [{name}] is defined more than once"));
            }
            let child = match property {
                Property::Object(inner) => self.object(inner, &child_path, dynamic)?,
                Property::Field(field) => self.leaf(field, &child_path)?,
            };
            children.insert(name.clone().into_boxed_str(), child);
        }
        self.mapping.nodes[index as usize].kind = NodeKind::Object { children, dynamic, enabled };
        Ok(index)
    }

    fn leaf(&mut self, field: &Field, path: &str) -> Result<u32, ParseError> {
        let kind = if field.type_name == "alias" {
            self.aliases.push((path.to_owned(), field.text("path", "").to_owned()));
            NodeKind::Alias
        } else {
            let id = self.field(field, path, None)?;
            let mut multi_fields = SmallVec::new();
            self.multi_fields(field, path, id, &mut multi_fields)?;
            let copy_to = field.copy_to.iter().map(|target| target.clone().into_boxed_str()).collect();
            NodeKind::Leaf(Leaf { field: id, multi_fields, copy_to })
        };
        let index = self.mapping.nodes.len() as u32;
        self.mapping.nodes.push(Node { path: path.into(), kind });
        Ok(index)
    }

    fn multi_fields(
        &mut self,
        field: &Field,
        path: &str,
        parent: FieldId,
        out: &mut SmallVec<[FieldId; 2]>,
    ) -> Result<(), ParseError> {
        for (name, inner) in &field.fields {
            let path = format!("{path}.{name}");
            let id = self.field(inner, &path, Some(parent))?;
            out.push(id);
            self.multi_fields(inner, &path, id, out)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, path: &str, parent: Option<FieldId>) -> Result<FieldId, ParseError> {
        let old = self.before.and_then(|before| before.by_path.get(path).copied());
        // A path that was an alias has no id of its own.
        let old = old.filter(|id| self.mapping.fields[id.0 as usize].path == path);
        let id = old.unwrap_or(FieldId(self.mapping.fields.len() as u32));
        let mut compiled = self.compile_field(field, path, id, parent)?;
        match old {
            Some(_) => {
                let slot = &mut self.mapping.fields[id.0 as usize];
                // Segments of an index agree on what they store of a field, so norms stay until the index is gone.
                compiled.spec.clone_from(&slot.spec);
                compiled.in_field_names = slot.in_field_names;
                *slot = Arc::new(compiled);
            }
            None => self.mapping.fields.push(Arc::new(compiled)),
        }
        self.mapping.by_path.insert(path.into(), id);
        Ok(id)
    }

    fn analyzer(&self, field: &Field, param: &str, path: &str) -> Result<Option<Arc<Analyzer>>, ParseError> {
        let (Some(name), Some(registry)) = (field.params.get(param).and_then(Value::as_str), self.registry) else {
            return Ok(None);
        };
        match registry.analyzer(name) {
            Some(analyzer) => Ok(Some(analyzer)),
            None => refuse(format!("analyzer [{name}] not found for field [{path}]")),
        }
    }

    fn compile_field(
        &self,
        field: &Field,
        path: &str,
        id: FieldId,
        parent: Option<FieldId>,
    ) -> Result<FieldMapping, ParseError> {
        let type_name = field.type_name.as_str();
        let indexed = field.flag("index", true);
        let doc_values = field.flag("doc_values", true);
        let mut spec = FieldSpec { name: path.to_owned(), ..FieldSpec::default() };
        let mut compiled_format = None;
        let (mut analyzer, mut search_analyzer, mut search_quote_analyzer) = (None, None, None);
        let numbers = |spec: &mut FieldSpec| {
            spec.column = if doc_values { ColumnKind::Numbers } else { ColumnKind::None };
            spec.points = indexed;
        };
        let kind = match type_name {
            "text" | "search_as_you_type" => {
                if indexed {
                    spec.terms = match field.text("index_options", "positions") {
                        "docs" => TermsOption::Docs,
                        "freqs" => TermsOption::Freqs,
                        _ => TermsOption::Positions,
                    };
                    spec.norms = field.flag("norms", true);
                }
                let named = |name: &str| self.registry.and_then(|r| r.analyzer(name));
                analyzer = self.analyzer(field, "analyzer", path)?;
                search_analyzer = match self.analyzer(field, "search_analyzer", path)? {
                    Some(found) => Some(found),
                    None => analyzer.clone().or_else(|| named("default_search")),
                };
                analyzer = analyzer.or_else(|| named("default")).or_else(|| named("standard"));
                search_analyzer = search_analyzer.or_else(|| analyzer.clone());
                search_quote_analyzer = self.analyzer(field, "search_quote_analyzer", path)?;
                FieldType::Text
            }
            "keyword" | "wildcard" => {
                if indexed {
                    spec.terms = match field.text("index_options", "docs") {
                        "freqs" => TermsOption::Freqs,
                        _ => TermsOption::Docs,
                    };
                    spec.norms = field.flag("norms", false);
                }
                spec.column = if doc_values { ColumnKind::Ordinals } else { ColumnKind::None };
                if let (Some(name), Some(registry)) =
                    (field.params.get("normalizer").and_then(Value::as_str), self.registry)
                {
                    let Some(normalizer) = registry.normalizer(name) else {
                        return refuse(format!("normalizer [{name}] not found for field [{path}]"));
                    };
                    analyzer = Some(normalizer);
                    search_analyzer.clone_from(&analyzer);
                }
                FieldType::Keyword
            }
            "ip" => {
                spec.terms = if indexed { TermsOption::Docs } else { TermsOption::None };
                spec.column = if doc_values { ColumnKind::Ordinals } else { ColumnKind::None };
                FieldType::Ip
            }
            "date" | "date_nanos" => {
                numbers(&mut spec);
                let default = if type_name == "date" { date::DEFAULT_FORMAT } else { date::DEFAULT_NANOS_FORMAT };
                let format = field.text("format", default);
                compiled_format = match DateFormat::new(format) {
                    Ok(format) => Some(Arc::new(format)),
                    Err(why) => return refuse(format!("Error parsing [format] on field [{path}]: {why}")),
                };
                if type_name == "date" { FieldType::Date } else { FieldType::DateNanos }
            }
            "binary" => FieldType::Binary,
            "geo_point" => {
                spec.column = if doc_values { ColumnKind::Numbers } else { ColumnKind::None };
                FieldType::GeoPoint
            }
            other => match number_type(other, field) {
                Some(kind) => {
                    numbers(&mut spec);
                    kind
                }
                None => FieldType::Opaque(other.to_owned()),
            },
        };
        let has_something = match kind {
            FieldType::Opaque(_) => true,
            FieldType::Binary => field.flag("doc_values", false) || field.flag("store", false),
            FieldType::GeoPoint => indexed,
            _ => spec.terms != TermsOption::None || spec.points,
        };
        let in_field_names = has_something && spec.column == ColumnKind::None && !spec.norms;
        let compiled = FieldMapping {
            id,
            path: path.to_owned(),
            kind,
            in_field_names,
            stored: field.flag("store", false),
            analyzer,
            search_analyzer,
            search_quote_analyzer,
            position_increment_gap: field
                .params
                .get("position_increment_gap")
                .and_then(Value::as_u64)
                .map_or(100, |gap| gap as u32),
            format: compiled_format.as_ref().map(|f| f.text().to_owned()),
            boost: field.params.get("boost").and_then(Value::as_f64).map_or(1.0, |b| b as f32),
            type_name: type_name.to_owned(),
            hidden: false,
            indexed: indexed && type_name != "binary",
            fielddata: field.flag("fielddata", false),
            multi_field_of: parent,
            date_format: compiled_format,
            ignore_above: field.params.get("ignore_above").and_then(Value::as_u64).map_or(u32::MAX, |n| n as u32),
            ignore_malformed: field.flag("ignore_malformed", false),
            coerce: field.flag("coerce", true),
            ignore_z_value: field.flag("ignore_z_value", true),
            null_value: field.params.get("null_value").filter(|v| !v.is_null()).cloned(),
            spec,
        };
        if let Some(null_value) = &compiled.null_value
            && let Err(why) = scalar::check_null_value(&compiled, null_value)
        {
            let mut error = ParseError::new(
                "mapper_parsing_exception",
                format!("Error parsing [null_value] on field [{path}]: {}", why.reason),
            );
            error.caused_by = Some(Box::new(why));
            return Err(error);
        }
        Ok(compiled)
    }

    fn resolve_aliases(&mut self) -> Result<(), ParseError> {
        for (path, target) in std::mem::take(&mut self.aliases) {
            let invalid =
                |why: &str| refuse(format!("Invalid [path] value [{target}] for field alias [{path}]: {why}"));
            if target == path {
                return invalid("an alias cannot refer to itself.");
            }
            match self.mapping.by_path.get(target.as_str()) {
                // Aliases come into the map one by one, so a found path that is not the field's own is an alias.
                Some(id) if self.mapping.fields[id.0 as usize].path != target => {
                    return invalid("an alias cannot refer to another alias.");
                }
                Some(id) if !self.mapping.fields[id.0 as usize].hidden => {
                    let id = *id;
                    self.mapping.by_path.insert(path.into_boxed_str(), id);
                }
                _ => return invalid("an alias must refer to an existing field in the mappings."),
            }
        }
        Ok(())
    }
}

fn number_type(name: &str, field: &Field) -> Option<FieldType> {
    Some(match name {
        "long" => FieldType::Long,
        "integer" => FieldType::Integer,
        "short" => FieldType::Short,
        "byte" => FieldType::Byte,
        "unsigned_long" => FieldType::UnsignedLong,
        "double" => FieldType::Double,
        "float" => FieldType::Float,
        "half_float" => FieldType::HalfFloat,
        "boolean" => FieldType::Boolean,
        "scaled_float" => FieldType::ScaledFloat { scaling_factor: field.params.get("scaling_factor")?.as_f64()? },
        _ => return None,
    })
}

/// Names that documents and mappings may not use for fields of their own.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(
        name,
        "_id"
            | "_index"
            | "_type"
            | "_routing"
            | "_source"
            | "_seq_no"
            | "_version"
            | "_field_names"
            | "_ignored"
            | "_nested_path"
            | "_tier"
    )
}

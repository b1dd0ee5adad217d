//! Which parameters each field type takes, their defaults, and which of them an update may change.

use serde_json::Value;

use crate::error::ParseError;

/// What a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    /// Kept as written.
    Any,
}

/// Whether an update may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Never,
    Always,
    /// From true to false only.
    TurnOff,
}

/// One parameter of one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Default,
    pub update: Update,
}

/// The value of a parameter that is not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Default {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'static str),
}

impl Default {
    pub(super) fn to_json(self) -> Value {
        match self {
            Default::None => Value::Null,
            Default::Bool(b) => b.into(),
            Default::Int(n) => n.into(),
            Default::Float(x) => x.into(),
            Default::Text(t) => t.into(),
        }
    }
}

const fn param(name: &'static str, kind: Kind, default: Default, update: Update) -> Param {
    Param { name, kind, default, update }
}

const INDEX: Param = param("index", Kind::Bool, Default::Bool(true), Update::Never);
const DOC_VALUES: Param = param("doc_values", Kind::Bool, Default::Bool(true), Update::Never);
const STORE: Param = param("store", Kind::Bool, Default::Bool(false), Update::Never);
const BOOST: Param = param("boost", Kind::Float, Default::Float(1.0), Update::Always);
const NULL_VALUE: Param = param("null_value", Kind::Any, Default::None, Update::Never);
const IGNORE_MALFORMED: Param = param("ignore_malformed", Kind::Bool, Default::Bool(false), Update::Always);
const COERCE: Param = param("coerce", Kind::Bool, Default::Bool(true), Update::Always);
const SIMILARITY: Param = param("similarity", Kind::Text, Default::Text("BM25"), Update::Never);
const ORDINALS: Param = param("eager_global_ordinals", Kind::Bool, Default::Bool(false), Update::Always);
const META: Param = param("meta", Kind::Any, Default::None, Update::Always);
const IGNORE_ABOVE: Param = param("ignore_above", Kind::Int, Default::Int(i32::MAX as i64), Update::Always);

const TEXT: &[Param] = &[
    META,
    INDEX,
    STORE,
    SIMILARITY,
    BOOST,
    ORDINALS,
    param("analyzer", Kind::Text, Default::Text("default"), Update::Never),
    param("search_analyzer", Kind::Text, Default::Text("default"), Update::Always),
    param("search_quote_analyzer", Kind::Text, Default::Text("default"), Update::Always),
    param("norms", Kind::Bool, Default::Bool(true), Update::TurnOff),
    param("index_options", Kind::Text, Default::Text("positions"), Update::Never),
    param("position_increment_gap", Kind::Int, Default::Int(100), Update::Never),
    param("term_vector", Kind::Text, Default::Text("no"), Update::Never),
    param("fielddata", Kind::Bool, Default::Bool(false), Update::Always),
    param("fielddata_frequency_filter", Kind::Any, Default::None, Update::Always),
    param("index_prefixes", Kind::Any, Default::None, Update::Never),
    param("index_phrases", Kind::Bool, Default::Bool(false), Update::Never),
    // Of search_as_you_type, which is text here.
    param("max_shingle_size", Kind::Int, Default::Int(3), Update::Never),
];
const KEYWORD: &[Param] = &[
    META,
    INDEX,
    DOC_VALUES,
    STORE,
    SIMILARITY,
    BOOST,
    ORDINALS,
    NULL_VALUE,
    IGNORE_ABOVE,
    param("norms", Kind::Bool, Default::Bool(false), Update::TurnOff),
    param("index_options", Kind::Text, Default::Text("docs"), Update::Never),
    param("normalizer", Kind::Text, Default::None, Update::Never),
    param("split_queries_on_whitespace", Kind::Bool, Default::Bool(false), Update::Always),
];
const WILDCARD: &[Param] = &[META, NULL_VALUE, IGNORE_ABOVE];
const NUMBER: &[Param] = &[META, INDEX, DOC_VALUES, STORE, BOOST, NULL_VALUE, IGNORE_MALFORMED, COERCE];
const SCALED_FLOAT: &[Param] = &[
    META,
    INDEX,
    DOC_VALUES,
    STORE,
    BOOST,
    NULL_VALUE,
    IGNORE_MALFORMED,
    COERCE,
    param("scaling_factor", Kind::Float, Default::None, Update::Never),
];
const UNSIGNED_LONG: &[Param] = &[META, INDEX, DOC_VALUES, STORE, NULL_VALUE, IGNORE_MALFORMED];
const DATE: &[Param] = &[
    META,
    INDEX,
    DOC_VALUES,
    STORE,
    BOOST,
    NULL_VALUE,
    IGNORE_MALFORMED,
    param("format", Kind::Text, Default::Text(super::date::DEFAULT_FORMAT), Update::Never),
    param("locale", Kind::Text, Default::Text(""), Update::Never),
];
const DATE_NANOS: &[Param] = &[
    META,
    INDEX,
    DOC_VALUES,
    STORE,
    BOOST,
    NULL_VALUE,
    IGNORE_MALFORMED,
    param("format", Kind::Text, Default::Text(super::date::DEFAULT_NANOS_FORMAT), Update::Never),
    param("locale", Kind::Text, Default::Text(""), Update::Never),
];
const BOOLEAN: &[Param] = &[META, INDEX, DOC_VALUES, STORE, BOOST, NULL_VALUE];
const IP: &[Param] = &[META, INDEX, DOC_VALUES, STORE, BOOST, NULL_VALUE, IGNORE_MALFORMED];
const BINARY: &[Param] = &[META, STORE, param("doc_values", Kind::Bool, Default::Bool(false), Update::Never)];
const GEO_POINT: &[Param] = &[
    META,
    INDEX,
    DOC_VALUES,
    STORE,
    NULL_VALUE,
    IGNORE_MALFORMED,
    param("ignore_z_value", Kind::Bool, Default::Bool(true), Update::Always),
];
const ALIAS: &[Param] = &[param("path", Kind::Text, Default::None, Update::Always)];

/// Types that are kept in `_source` and whose parameters are kept as written.
const OPAQUE: &[&str] = &[
    "annotated_text",
    "completion",
    "constant_keyword",
    "date_range",
    "dense_vector",
    "double_range",
    "flattened",
    "float_range",
    "geo_shape",
    "histogram",
    "integer_range",
    "ip_range",
    "join",
    "long_range",
    "murmur3",
    "percolator",
    "point",
    "rank_feature",
    "rank_features",
    "shape",
    "sparse_vector",
    "token_count",
    "version",
];

/// A type's parameters: `Some(None)` for a type that takes any, none for no type at all.
#[allow(clippy::option_option)]
pub(super) fn of_type(type_name: &str) -> Option<Option<&'static [Param]>> {
    Some(Some(match type_name {
        "text" | "search_as_you_type" => TEXT,
        "keyword" => KEYWORD,
        "wildcard" => WILDCARD,
        "long" | "integer" | "short" | "byte" | "double" | "float" | "half_float" => NUMBER,
        "scaled_float" => SCALED_FLOAT,
        "unsigned_long" => UNSIGNED_LONG,
        "date" => DATE,
        "date_nanos" => DATE_NANOS,
        "boolean" => BOOLEAN,
        "ip" => IP,
        "binary" => BINARY,
        "geo_point" => GEO_POINT,
        "alias" => ALIAS,
        other if OPAQUE.contains(&other) => return Some(None),
        _ => return None,
    }))
}

/// A parameter's value in its canonical form.
pub(super) fn canonical(param: &Param, field: &str, value: &Value) -> Result<Value, ParseError> {
    let refuse = |what: &str| {
        Err(ParseError::new(
            "mapper_parsing_exception",
            format!("Failed to parse value [{}] of [{}] on field [{field}]: {what}", java_text(value), param.name),
        ))
    };
    match (param.kind, value) {
        (Kind::Any, _) | (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::String(_)) => Ok(value.clone()),
        (Kind::Text, Value::Bool(_) | Value::Number(_)) => Ok(java_text(value).into()),
        (Kind::Bool, Value::String(s)) if s == "true" => Ok(true.into()),
        (Kind::Bool, Value::String(s)) if s == "false" => Ok(false.into()),
        (Kind::Bool, _) => Err(ParseError::new(
            "mapper_parsing_exception",
            format!("Failed to parse value [{}] as only [true] or [false] are allowed.", java_text(value)),
        )),
        (Kind::Int, _) => {
            let number = match value {
                Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|x| x as i64)),
                Value::String(s) => s.trim().parse().ok(),
                _ => None,
            };
            match number.filter(|n| i32::try_from(*n).is_ok()) {
                Some(n) => Ok(n.into()),
                None => refuse("not an integer"),
            }
        }
        (Kind::Float, _) => {
            let number = match value {
                Value::Number(n) => n.as_f64(),
                Value::String(s) => s.trim().parse().ok(),
                _ => None,
            };
            match number.filter(|n| n.is_finite()) {
                Some(n) => Ok(n.into()),
                None => refuse("not a number"),
            }
        }
        (Kind::Text, Value::Null) => refuse("must not be null"),
        (Kind::Text, _) => refuse("not a text"),
    }
}

/// A JSON value as Java prints maps and lists, which is how errors show it: `{a=1, b=[x, y]}`.
pub(crate) fn java_text(value: &Value) -> String {
    let mut out = String::new();
    write_java(value, &mut out);
    out
}

// Values come out of serde_json, which limits their depth.
fn write_java(value: &Value, out: &mut String) {
    match value {
        Value::String(s) => out.push_str(s),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_java(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                out.push_str(key);
                out.push('=');
                write_java(item, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

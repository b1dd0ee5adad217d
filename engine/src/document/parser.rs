//! Walks a document along the mapping's tree. A known name costs one hash look-up; nothing is allocated once warm.

use std::borrow::Cow;
use std::ops::Range;

use super::dynamic::{Update, not_an_object};
use super::json::{DEPTH_MAX, Json, Next};
use super::keys::Keys;
use super::{ParsedDocument, ParsedValue};
use crate::analysis::{self, TERM_BYTES_MAX};
use crate::error::ParseError;
use crate::mapping::geo;
use crate::mapping::scalar::{self, Scalar};
use crate::mapping::{
    Dynamic, DynamicType, FieldMapping, FieldType, Leaf, Mapping, NodeKind, ROOT, is_metadata, split_path,
};

/// Memory kept from document to document.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By node: the serial of the object that last had it.
    seen: Vec<u32>,
    /// By field: the serial of the document that last had it (fields in `_field_names`).
    fields_seen: Vec<u32>,
    serial: u32,
    keys: Keys,
    text: String,
    analysis: analysis::Scratch,
}

pub(super) fn parse(mapping: &Mapping, id: &str, source: &[u8], out: &mut ParsedDocument) -> Result<(), ParseError> {
    if source.is_empty() {
        return Err(ParseError::new("mapper_parsing_exception", "failed to parse, document is empty"));
    }
    let failed = || ParseError::new("mapper_parsing_exception", "failed to parse");
    if source.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(failed().because(
            "not_x_content_exception",
            "Compressor detection can only be called on some xcontent bytes or compressed xcontent bytes",
        ));
    }
    let text = std::str::from_utf8(source).map_err(|e| {
        let byte = source[e.valid_up_to()];
        failed().because("json_parse_exception", format!("Invalid UTF-8 start byte 0x{byte:x}"))
    })?;
    let mut scratch = std::mem::take(&mut out.scratch);
    if scratch.serial > u32::MAX / 2 {
        scratch = Scratch::default();
    }
    scratch.keys.clear();
    scratch.seen.resize(mapping.node_count().max(scratch.seen.len()), 0);
    scratch.fields_seen.resize(mapping.fields().len().max(scratch.fields_seen.len()), 0);
    scratch.serial += 1;
    let document = scratch.serial;
    let mut parser =
        Parser { mapping, id, json: Json::new(text), out, scratch, document, update: Update::default(), shared: None };
    let result = parser.document();
    let Parser { scratch, update, .. } = parser;
    out.scratch = scratch;
    match result {
        Ok(()) => {
            out.mapping_update = (!update.is_empty()).then(|| update.into_fragment(mapping));
            Ok(())
        }
        Err(error) if error.kind.starts_with("json_") => {
            let mut outer = failed();
            outer.caused_by = Some(Box::new(error));
            Err(outer)
        }
        Err(error) => Err(error),
    }
}

struct Parser<'a> {
    mapping: &'a Mapping,
    id: &'a str,
    json: Json<'a>,
    out: &'a mut ParsedDocument,
    scratch: Scratch,
    document: u32,
    update: Update,
    /// Where in the arena the value at hand is already, if it is.
    shared: Option<Range<u32>>,
}

type Parsed = Result<(), ParseError>;

impl<'a> Parser<'a> {
    fn document(&mut self) -> Parsed {
        self.json.peek()?;
        match &self.mapping.node(ROOT).kind {
            NodeKind::Object { enabled: false, .. } => self.skip(0)?,
            _ => self.object(ROOT, 1)?,
        }
        if self.json.at_end() {
            return Ok(());
        }
        let token = match self.json.peek()? {
            Next::Object => "START_OBJECT",
            Next::Array => "START_ARRAY",
            Next::String => "VALUE_STRING",
            Next::Number => "VALUE_NUMBER",
            Next::True | Next::False => "VALUE_BOOLEAN",
            Next::Null => "VALUE_NULL",
        };
        Err(wrapped(
            "illegal_argument_exception",
            format!("Malformed content, found extra data after parsing: {token}"),
        ))
    }

    fn duplicate(&self, key: &str) -> ParseError {
        self.json.error(format_args!("Duplicate field '{key}'"))
    }

    fn deeper(&self, level: usize) -> Result<usize, ParseError> {
        if level >= DEPTH_MAX { Err(self.json.too_deep()) } else { Ok(level + 1) }
    }

    /// An object that the mapping has, from its brace on. `level` is its own, 1 for the root.
    fn object(&mut self, node: u32, level: usize) -> Parsed {
        let mapping = self.mapping;
        let NodeKind::Object { children, .. } = &mapping.node(node).kind else { unreachable!("only for objects") };
        self.json.open();
        self.scratch.serial += 1;
        let serial = self.scratch.serial;
        self.scratch.keys.enter(level);
        let mut buffer = String::new();
        let mut first = true;
        while let Some(key) = self.json.key(first, &mut buffer)? {
            first = false;
            match children.get(key) {
                Some(child) => {
                    let seen = &mut self.scratch.seen[*child as usize];
                    if *seen == serial {
                        return Err(self.duplicate(key));
                    }
                    *seen = serial;
                    self.property(*child, level)?;
                }
                None => self.unknown(node, key, level)?,
            }
        }
        self.scratch.keys.leave(level);
        Ok(())
    }

    /// The value of a name that the mapping has, inside an object at `level`.
    fn property(&mut self, node: u32, level: usize) -> Parsed {
        let mapping = self.mapping;
        let path = &mapping.node(node).path;
        match &mapping.node(node).kind {
            NodeKind::Object { enabled: false, .. } => self.skip(level),
            NodeKind::Object { .. } => match self.json.peek()? {
                Next::Object => {
                    let level = self.deeper(level)?;
                    self.object(node, level)
                }
                Next::Array => self.array(level, |this, level| this.property(node, level)),
                Next::Null => self.json.word("null"),
                _ => Err(ParseError::new(
                    "mapper_parsing_exception",
                    format!(
                        "object mapping for [{path}] tried to parse field [{}] as object, but found a concrete value",
                        last_name(path)
                    ),
                )),
            },
            NodeKind::Leaf(leaf) => self.leaf(leaf, level),
            NodeKind::Alias => {
                Err(wrapped("illegal_argument_exception", format!("Cannot write to a field alias [{path}].")))
            }
        }
    }

    /// Every element of an array, given the level inside it.
    fn array(&mut self, level: usize, mut each: impl FnMut(&mut Self, usize) -> Parsed) -> Parsed {
        let level = self.deeper(level)?;
        self.json.open();
        let mut first = true;
        while self.json.element(first)? {
            first = false;
            each(self, level)?;
        }
        Ok(())
    }

    /// Reads over a value that is not indexed; its objects may not have duplicate keys either.
    fn skip(&mut self, level: usize) -> Parsed {
        let mut buffer = std::mem::take(&mut self.scratch.text);
        let keys = &mut self.scratch.keys;
        let result = self.json.skip(level, &mut buffer, |inner, first, key, json| {
            if first {
                keys.enter(level + inner);
            }
            if keys.insert(level + inner, key) {
                Ok(())
            } else {
                Err(json.error(format_args!("Duplicate field '{key}'")))
            }
        });
        self.scratch.keys.leave(level + 1);
        self.scratch.text = buffer;
        result
    }

    // Values of known fields.

    fn leaf(&mut self, leaf: &'a Leaf, level: usize) -> Parsed {
        let field = self.mapping.by_id(leaf.field);
        match (self.json.peek()?, &field.kind) {
            (Next::Object | Next::Array, FieldType::GeoPoint) => return self.geo_point(leaf, field, level),
            (Next::Object | Next::Array, FieldType::Opaque(_)) => {
                self.name_field(field)?;
                return self.skip(level);
            }
            (Next::Array, _) => return self.array(level, |this, level| this.leaf(leaf, level)),
            (Next::Object, _) => return Err(self.object_as_value(field, level)),
            (Next::Null, _) => {
                self.json.word("null")?;
                self.shared = None;
                return self.all_fields(leaf, None);
            }
            _ => {}
        }
        let mut buffer = std::mem::take(&mut self.scratch.text);
        let value = self.scalar(&mut buffer)?;
        self.shared = None;
        let result = self.all_fields(leaf, Some(value));
        self.scratch.text = buffer;
        result
    }

    fn scalar<'b>(&mut self, buffer: &'b mut String) -> Result<Scalar<'b>, ParseError>
    where
        'a: 'b,
    {
        Ok(match self.json.peek()? {
            Next::String => Scalar::Text(self.json.string(buffer)?),
            Next::Number => Scalar::Number(self.json.number()?),
            Next::True => {
                self.json.word("true")?;
                Scalar::Bool(true)
            }
            Next::False => {
                self.json.word("false")?;
                Scalar::Bool(false)
            }
            Next::Object | Next::Array | Next::Null => unreachable!("only for scalars"),
        })
    }

    /// A value for a field, its multi-fields, and what it is copied to.
    fn all_fields(&mut self, leaf: &'a Leaf, value: Option<Scalar<'_>>) -> Parsed {
        self.one_field_with_multi(leaf, value)?;
        for target in &leaf.copy_to {
            self.copy(target, value)?;
        }
        Ok(())
    }

    fn one_field_with_multi(&mut self, leaf: &Leaf, value: Option<Scalar<'_>>) -> Parsed {
        self.index(self.mapping.by_id(leaf.field), value)?;
        for id in &leaf.multi_fields {
            self.index(self.mapping.by_id(*id), value)?;
        }
        Ok(())
    }

    fn copy(&mut self, target: &'a str, value: Option<Scalar<'_>>) -> Parsed {
        let mapping = self.mapping;
        let mut node = ROOT;
        let mut from = 0;
        loop {
            let end = target[from..].find('.').map_or(target.len(), |at| from + at);
            match &mapping.node(node).kind {
                NodeKind::Object { children, dynamic, enabled } => match children.get(&target[from..end]) {
                    _ if !enabled => return Ok(()),
                    Some(child) => node = *child,
                    None => {
                        return match (dynamic, value) {
                            (Dynamic::False, _) | (_, None) => Ok(()),
                            (Dynamic::Strict, _) => Err(strict(&mapping.node(node).path, &target[from..end])),
                            (Dynamic::True, Some(value)) => self.dynamic_scalar(target, value),
                        };
                    }
                },
                _ => return Err(not_an_object(target, &target[..from.saturating_sub(1)], "field")),
            }
            if end == target.len() {
                break;
            }
            from = end + 1;
        }
        match &mapping.node(node).kind {
            NodeKind::Leaf(leaf) => self.one_field_with_multi(leaf, value),
            NodeKind::Alias => {
                Err(wrapped("illegal_argument_exception", format!("Cannot copy to a field alias [{target}].")))
            }
            NodeKind::Object { .. } if value.is_none() => Ok(()),
            NodeKind::Object { .. } => Err(ParseError::new(
                "mapper_parsing_exception",
                format!(
                    "object mapping for [{target}] tried to parse field [{}] as object, but found a concrete value",
                    last_name(target)
                ),
            )),
        }
    }

    /// One value of one field; none is null.
    fn index(&mut self, field: &'a FieldMapping, value: Option<Scalar<'_>>) -> Parsed {
        let number_text;
        let mut stands_for_null = false;
        let value = match (value, &field.null_value) {
            (Some(value), _) => value,
            (None, None) => return Ok(()),
            (None, Some(null_value)) => {
                stands_for_null = true;
                match null_value {
                    serde_json::Value::String(text) => Scalar::Text(text),
                    serde_json::Value::Bool(b) => Scalar::Bool(*b),
                    other => {
                        number_text = other.to_string();
                        Scalar::Number(&number_text)
                    }
                }
            }
        };
        match &field.kind {
            FieldType::Text => {
                if field.indexed {
                    let text = value.text();
                    self.check_long_text(field, text)?;
                    let range = self.put_text(text.as_bytes(), stands_for_null)?;
                    self.out.values.push((field.id, ParsedValue::Text(range)));
                }
            }
            FieldType::Keyword => {
                let text = value.text();
                // Java counts UTF-16 units.
                if text.len() > field.ignore_above as usize && text.encode_utf16().count() > field.ignore_above as usize
                {
                    return self.ignore(field);
                }
                match field.normalize(text) {
                    Cow::Borrowed(text) => {
                        self.check_term(field, text.as_bytes())?;
                        let range = self.put_text(text.as_bytes(), stands_for_null)?;
                        self.out.values.push((field.id, ParsedValue::Term(range)));
                    }
                    Cow::Owned(text) => {
                        self.check_term(field, text.as_bytes())?;
                        let range = self.put(text.as_bytes())?;
                        self.out.values.push((field.id, ParsedValue::Term(range)));
                    }
                }
            }
            FieldType::Ip => match scalar::encode_ip(value) {
                Ok(address) => {
                    let range = self.put(&address)?;
                    self.out.values.push((field.id, ParsedValue::Term(range)));
                }
                Err(why) => return self.malformed(field, value.text(), why),
            },
            FieldType::Binary => match value {
                Scalar::Text(_) => {}
                _ => {
                    let why = ParseError::new(
                        "json_parse_exception",
                        "Current token not VALUE_STRING, can not access as binary",
                    );
                    return Err(self.field_error(field, value.text(), why));
                }
            },
            FieldType::Opaque(_) => {}
            _ => match scalar::encode_number(field, value) {
                Ok(Some(number)) => self.out.values.push((field.id, ParsedValue::Number(number))),
                // An empty text is as good as null.
                Ok(None) if stands_for_null || field.null_value.is_none() => return Ok(()),
                Ok(None) => return self.index(field, None),
                Err(why) => return self.malformed(field, value.text(), why),
            },
        }
        self.name_field(field)
    }

    /// Puts the field's path in `_field_names`, once a document, if that is how `exists` finds it.
    fn name_field(&mut self, field: &FieldMapping) -> Parsed {
        let seen = &mut self.scratch.fields_seen[field.id.0 as usize];
        if field.in_field_names && *seen != self.document {
            *seen = self.document;
            let range = self.put(field.path.as_bytes())?;
            self.out.values.push((self.mapping.field_names().id, ParsedValue::Term(range)));
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<Range<u32>, ParseError> {
        let start = self.out.arena.len();
        let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(start + bytes.len())) else {
            return Err(wrapped("illegal_argument_exception", "the document's values exceed 4 GiB"));
        };
        self.out.arena.extend_from_slice(bytes);
        Ok(from..to)
    }

    /// The same for the text at hand, which several fields share. A null value is no such text.
    fn put_text(&mut self, text: &[u8], stands_for_null: bool) -> Result<Range<u32>, ParseError> {
        if stands_for_null {
            return self.put(text);
        }
        match self.shared.clone() {
            Some(range) => Ok(range),
            None => {
                let range = self.put(text)?;
                self.shared = Some(range.clone());
                Ok(range)
            }
        }
    }

    fn ignore(&mut self, field: &FieldMapping) -> Parsed {
        if !self.out.ignored.contains(&field.path) {
            self.out.ignored.push(field.path.clone());
            let range = self.put(field.path.as_bytes())?;
            self.out.values.push((self.mapping.ignored().id, ParsedValue::Term(range)));
        }
        Ok(())
    }

    fn malformed(&mut self, field: &FieldMapping, shown: &str, why: ParseError) -> Parsed {
        if field.ignore_malformed {
            return self.ignore(field);
        }
        Err(self.field_error(field, shown, why))
    }

    fn field_error(&self, field: &FieldMapping, shown: &str, why: ParseError) -> ParseError {
        let mut error = ParseError::new(
            "mapper_parsing_exception",
            format!(
                "failed to parse field [{}] of type [{}] in document with id '{}'. Preview of field's value: '{shown}'",
                field.path, field.type_name, self.id
            ),
        );
        error.caused_by = Some(Box::new(why));
        error
    }

    /// An object where a value should be. Reads over it, for its picture in the error.
    fn object_as_value(&mut self, field: &FieldMapping, level: usize) -> ParseError {
        let start = self.json.position();
        let (line, column) = self.json.line_column(start);
        if let Err(error) = self.skip(level) {
            return error;
        }
        let text = self.json.slice(start, self.json.position());
        let shown = serde_json::from_str(text).map_or_else(|_| text.to_owned(), |v| crate::mapping::java_text(&v));
        let why = if field.kind.is_numeric() || field.kind == FieldType::Boolean {
            ParseError::new(
                "json_parse_exception",
                "Current token (START_OBJECT) not numeric, can not use numeric value accessors",
            )
        } else {
            ParseError::new("illegal_state_exception", format!("Can't get text on a START_OBJECT at {line}:{column}"))
        };
        self.field_error(field, &shown, why)
    }

    fn check_term(&self, field: &FieldMapping, term: &[u8]) -> Parsed {
        if term.len() <= TERM_BYTES_MAX {
            return Ok(());
        }
        let prefix: Vec<String> = term[..30].iter().map(|b| (*b as i8).to_string()).collect();
        let length = term.len();
        Err(ParseError::new(
            "illegal_argument_exception",
            format!(
                "Document contains at least one immense term in field=\"{}\" (whose UTF8 encoding is longer than the \
                 max length {TERM_BYTES_MAX}), all of which were skipped.  Please correct the analyzer to not produce \
                 such terms.  The prefix of the first immense term is: '[{}]...', original message: bytes can be at \
                 most {TERM_BYTES_MAX} in length; got {length}",
                field.path,
                prefix.join(", ")
            ),
        )
        .because(
            "max_bytes_length_exceeded_exception",
            format!("bytes can be at most {TERM_BYTES_MAX} in length; got {length}"),
        ))
    }

    /// Where the analyzer could make an immense term of a text of this length, its terms are looked at.
    fn check_long_text(&mut self, field: &FieldMapping, text: &str) -> Parsed {
        let Some(analyzer) = &field.analyzer else { return self.check_term(field, text.as_bytes()) };
        if !analyzer.may_be_immense(text.len()) {
            return Ok(());
        }
        let mut immense = None;
        analyzer.terms(text, &mut self.scratch.analysis, &mut |term, _| {
            if term.len() > TERM_BYTES_MAX && immense.is_none() {
                immense = Some(term.to_owned());
            }
        });
        immense.map_or(Ok(()), |term| self.check_term(field, term.as_bytes()))
    }

    // Points.

    /// An object `{lat, lon}`, an array `[lon, lat]`, or an array of points in any form.
    fn geo_point(&mut self, leaf: &'a Leaf, field: &'a FieldMapping, level: usize) -> Parsed {
        let start = self.json.position();
        let before = self.json.clone();
        // The value as a small tree, once it is known to be well-formed and not too deep.
        self.skip(level)?;
        let text = self.json.slice(start, self.json.position());
        let is_array = text.starts_with('[');
        if is_array {
            // An array is one point if it starts with a number.
            let mut json = Json::new(text);
            json.open();
            if !(json.element(true)? && json.peek()? == Next::Number) {
                let after = std::mem::replace(&mut self.json, before);
                self.array(level, |this, level| this.leaf(leaf, level))?;
                debug_assert_eq!(self.json.position(), after.position());
                return Ok(());
            }
        }
        let tree: serde_json::Value =
            serde_json::from_str(text).map_err(|_| self.json.error("a number is out of range"))?;
        match geo::parse_json(&tree, field.ignore_z_value).and_then(|point| point.checked(&field.path)) {
            Ok(point) => {
                self.out.values.push((field.id, ParsedValue::Number(geo::pack(point))));
                self.name_field(field)
            }
            Err(why) => {
                let shown = crate::mapping::java_text(&tree);
                self.malformed(field, &shown, ParseError::new("parse_exception", why))
            }
        }
    }

    // Fields nobody mapped.

    /// A name that the object `node` has no child for.
    fn unknown(&mut self, node: u32, key: &str, level: usize) -> Parsed {
        if !self.scratch.keys.insert(level, key) {
            return Err(self.duplicate(key));
        }
        if node == ROOT && is_metadata(key) {
            return Err(ParseError::new(
                "mapper_parsing_exception",
                format!(
                    "Field [{key}] is a metadata field and cannot be added inside a document. Use the index API \
                     request parameters."
                ),
            ));
        }
        let mapping = self.mapping;
        let mut parent = node;
        for part in split_path(key).map_err(|why| wrapped("illegal_argument_exception", why))? {
            match &mapping.node(parent).kind {
                NodeKind::Object { enabled: false, .. } => return self.skip(level),
                NodeKind::Object { children, dynamic, .. } => match children.get(part) {
                    Some(child) => parent = *child,
                    None => {
                        let parent_path = &mapping.node(parent).path;
                        return match dynamic {
                            Dynamic::False => self.skip(level),
                            Dynamic::Strict => Err(strict(parent_path, part)),
                            Dynamic::True => {
                                let object = if node == ROOT { "" } else { &*mapping.node(node).path };
                                let path = join(object, key);
                                self.dynamic(&path, level)
                            }
                        };
                    }
                },
                _ if self.json.peek()? == Next::Null => return self.json.word("null"),
                NodeKind::Leaf(leaf) => {
                    let found = mapping.by_id(leaf.field);
                    let object = if node == ROOT { "" } else { &*mapping.node(node).path };
                    return Err(not_an_object(&join(object, key), &found.path, &found.type_name));
                }
                NodeKind::Alias => {
                    return Err(not_an_object(key, &mapping.node(parent).path, "alias"));
                }
            }
        }
        self.property(parent, level)
    }

    /// A value that dynamic mapping gives a field.
    fn dynamic(&mut self, path: &str, level: usize) -> Parsed {
        match self.json.peek()? {
            Next::Null => self.json.word("null"),
            Next::Array => {
                self.update.parents(self.mapping, path)?;
                self.array(level, |this, level| this.dynamic(path, level))
            }
            Next::Object => {
                if !self.update.object(self.mapping, path)? {
                    return self.skip(level);
                }
                let level = self.deeper(level)?;
                self.json.open();
                self.scratch.keys.enter(level);
                let mut buffer = String::new();
                let mut first = true;
                while let Some(key) = self.json.key(first, &mut buffer)? {
                    first = false;
                    if !self.scratch.keys.insert(level, key) {
                        return Err(self.duplicate(key));
                    }
                    split_path(key).map_err(|why| wrapped("illegal_argument_exception", why))?;
                    let path = join(path, key);
                    self.dynamic(&path, level)?;
                }
                self.scratch.keys.leave(level);
                Ok(())
            }
            _ => {
                let mut buffer = String::new();
                let value = self.scalar(&mut buffer)?;
                self.dynamic_scalar(path, value)
            }
        }
    }

    fn dynamic_scalar(&mut self, path: &str, value: Scalar<'_>) -> Parsed {
        let mut format = None;
        let kind = match value {
            Scalar::Bool(_) => DynamicType::Boolean,
            Scalar::Number(text) if text.contains(['.', 'e', 'E']) => DynamicType::Double,
            Scalar::Number(_) => DynamicType::Long,
            Scalar::Text(text) => {
                let is_long = text.parse::<i64>().is_ok();
                // Texts that are numbers are never dates: formats such as epoch_millis would take them all.
                let is_double = is_long || scalar::parse_double(text).is_ok();
                match () {
                    () if is_long && self.mapping.numeric_detection() => DynamicType::Long,
                    () if is_double && self.mapping.numeric_detection() => DynamicType::Double,
                    () if !is_double => match self.mapping.detect_date(text) {
                        Some(found) => {
                            format = (found != crate::mapping::date::DEFAULT_FORMAT).then_some(found);
                            DynamicType::Date
                        }
                        None => DynamicType::String,
                    },
                    () => DynamicType::String,
                }
            }
        };
        self.update.leaf(self.mapping, path, kind, format)
    }
}

fn wrapped(kind: &'static str, reason: impl Into<String>) -> ParseError {
    ParseError::new("mapper_parsing_exception", "failed to parse").because(kind, reason)
}

fn strict(parent: &str, name: &str) -> ParseError {
    ParseError::new(
        "strict_dynamic_mapping_exception",
        format!("mapping set to strict, dynamic introduction of [{name}] within [{parent}] is not allowed"),
    )
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

//! A mapping as it is written: a tree of objects and fields. Parsed from JSON, merged, and shown again; the compiled
//! form is made from it in `compile.rs`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::dynamic::Template;
use super::params::{self, Update, java_text};
use crate::error::ParseError;

/// Depth of the tree that is read at all; `index.mapping.depth.limit` (20) is checked on what was read.
const READ_DEPTH_MAX: usize = 100;

/// What an object does with fields it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dynamic {
    /// Maps them.
    #[default]
    True,
    /// Keeps them in `_source` only.
    False,
    /// Refuses the document.
    Strict,
}

/// The whole mapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Root {
    pub object: Object,
    pub date_detection: Option<bool>,
    pub numeric_detection: Option<bool>,
    pub dynamic_date_formats: Option<Vec<String>>,
    pub dynamic_templates: Option<Vec<Template>>,
    pub source: Option<Source>,
    pub routing_required: Option<bool>,
    pub meta: Option<Value>,
}

/// `_source`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub enabled: bool,
    pub includes: Vec<String>,
    pub excludes: Vec<String>,
}

/// An object or nested field, or the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    pub dynamic: Option<Dynamic>,
    /// None where it is not said: an update then leaves it.
    pub enabled: Option<bool>,
    pub nested: bool,
    /// `include_in_parent`, `include_in_root`
    pub include: [bool; 2],
    pub properties: BTreeMap<String, Property>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Property {
    Object(Object),
    Field(Field),
}

/// A field, a multi-field or an alias.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Field {
    pub type_name: String,
    /// Canonical values that differ from the default.
    pub params: BTreeMap<String, Value>,
    pub copy_to: Vec<String>,
    pub fields: BTreeMap<String, Field>,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError::new("mapper_parsing_exception", reason))
}

fn conflict<T>(reason: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError::new("illegal_argument_exception", reason))
}

fn boolean(value: &Value, name: &str) -> Result<bool, ParseError> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::String(s) if s == "true" => Ok(true),
        Value::String(s) if s == "false" => Ok(false),
        other => Err(ParseError::new("mapper_parsing_exception", format!("Could not convert [{name}] to boolean"))
            .because(
                "illegal_argument_exception",
                format!("Failed to parse value [{}] as only [true] or [false] are allowed.", java_text(other)),
            )),
    }
}

fn dynamic(value: &Value, name: &str) -> Result<Dynamic, ParseError> {
    if value.as_str().is_some_and(|s| s.eq_ignore_ascii_case("strict")) {
        return Ok(Dynamic::Strict);
    }
    Ok(if boolean(value, name)? { Dynamic::True } else { Dynamic::False })
}

/// A text or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(s) => Some(s.split(',').map(|s| s.trim().to_owned()).collect()),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// What no part of the mapping wanted, as Elasticsearch lists it.
fn unsupported(what: &str, rest: &[(&String, &Value)]) -> Result<(), ParseError> {
    if rest.is_empty() {
        return Ok(());
    }
    let list: String = rest.iter().map(|(key, value)| format!(" [{key} : {}]", java_text(value))).collect();
    refuse(format!("{what} has unsupported parameters: {list}"))
}

impl Root {
    /// Reads `{"properties":..., "dynamic":..., "_source":..., ...}`.
    pub(super) fn parse(json: &Value) -> Result<Root, ParseError> {
        let empty = Map::new();
        let map = match json {
            Value::Object(map) => map,
            Value::Null => &empty,
            other => return refuse(format!("Expected map for mapping but got [{}]", java_text(other))),
        };
        let mut root = Root::default();
        let mut rest = Vec::new();
        for (key, value) in map {
            match key.as_str() {
                "properties" => properties(value, "_doc", &mut root.object.properties, 0)?,
                "dynamic" => root.object.dynamic = Some(dynamic(value, "_doc.dynamic")?),
                "enabled" => root.object.enabled = Some(boolean(value, "_doc.enabled")?),
                "date_detection" => root.date_detection = Some(boolean(value, "date_detection")?),
                "numeric_detection" => root.numeric_detection = Some(boolean(value, "numeric_detection")?),
                "dynamic_date_formats" | "date_formats" => root.dynamic_date_formats = Some(date_formats(value)?),
                "dynamic_templates" => root.dynamic_templates = Some(templates(value)?),
                "_source" => root.source = Some(Source::parse(value)?),
                "_routing" => {
                    let Value::Object(entries) = value else {
                        return refuse("Expected map for property [_routing]");
                    };
                    let mut rest = Vec::new();
                    for (key, value) in entries {
                        match key.as_str() {
                            "required" => root.routing_required = Some(boolean(value, "required")?),
                            _ => rest.push((key, value)),
                        }
                    }
                    unsupported("Mapping definition for [_routing]", &rest)?;
                }
                "_meta" if value.is_object() => root.meta = Some(value.clone()),
                // Deprecated in 7: `_field_names` can no longer be switched off to any effect.
                "_field_names" if value.is_object() => {}
                "type" if value == "object" => {}
                _ => rest.push((key, value)),
            }
        }
        unsupported("Root mapping definition", &rest)?;
        Ok(root)
    }

    /// Adds `update`'s fields and settings.
    pub(super) fn merge(&mut self, update: &Root) -> Result<(), ParseError> {
        if let (Some(old), Some(new)) = (&self.source, &update.source)
            && old != new
        {
            return conflict(old.conflict(new));
        } else if let (None, Some(new)) = (&self.source, &update.source)
            && *new != Source::default()
        {
            return conflict(Source::default().conflict(new));
        }
        if let Some(new) = update.routing_required {
            let old = self.routing_required.unwrap_or(false);
            if old != new {
                return conflict(format!(
                    "Mapper for [_routing] conflicts with existing mapper:\n\tCannot update parameter [required] from \
                     [{old}] to [{new}]"
                ));
            }
        }
        self.object.merge(&update.object, "_doc", "")?;
        fn set<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        set(&mut self.date_detection, &update.date_detection);
        set(&mut self.numeric_detection, &update.numeric_detection);
        set(&mut self.dynamic_date_formats, &update.dynamic_date_formats);
        set(&mut self.meta, &update.meta);
        if let Some(new) = &update.dynamic_templates {
            // Templates of the same name are replaced in their place; new ones come last.
            let templates = self.dynamic_templates.get_or_insert_default();
            for template in new {
                match templates.iter_mut().find(|old| old.name == template.name) {
                    Some(old) => *old = template.clone(),
                    None => templates.push(template.clone()),
                }
            }
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        let mut out = Map::new();
        if let Some(meta) = &self.meta {
            out.insert("_meta".into(), meta.clone());
        }
        if self.routing_required == Some(true) {
            out.insert("_routing".into(), json!({"required": true}));
        }
        if let Some(source) = self.source.as_ref().filter(|s| **s != Source::default()) {
            let mut entry = Map::new();
            if !source.enabled {
                entry.insert("enabled".into(), false.into());
            }
            for (key, list) in [("includes", &source.includes), ("excludes", &source.excludes)] {
                if !list.is_empty() {
                    entry.insert(key.into(), json!(list));
                }
            }
            out.insert("_source".into(), entry.into());
        }
        if let Some(dynamic) = self.object.dynamic {
            out.insert("dynamic".into(), dynamic.name().into());
        }
        if self.object.enabled == Some(false) {
            out.insert("enabled".into(), false.into());
        }
        if let Some(formats) = &self.dynamic_date_formats {
            out.insert("dynamic_date_formats".into(), json!(formats));
        }
        if let Some(templates) = self.dynamic_templates.as_ref().filter(|t| !t.is_empty()) {
            out.insert("dynamic_templates".into(), templates.iter().map(Template::to_json).collect());
        }
        if let Some(on) = self.date_detection {
            out.insert("date_detection".into(), on.into());
        }
        if let Some(on) = self.numeric_detection {
            out.insert("numeric_detection".into(), on.into());
        }
        self.object.put_properties(&mut out);
        out.into()
    }
}

impl std::default::Default for Source {
    fn default() -> Source {
        Source { enabled: true, includes: Vec::new(), excludes: Vec::new() }
    }
}

impl Source {
    fn parse(value: &Value) -> Result<Source, ParseError> {
        let Value::Object(entries) = value else {
            return refuse("Expected map for property [_source]");
        };
        let mut source = Source::default();
        let mut rest = Vec::new();
        for (key, value) in entries {
            match key.as_str() {
                "enabled" => source.enabled = boolean(value, "enabled")?,
                "includes" | "excludes" => {
                    let list = texts(value).map_or_else(|| refuse(format!("[{key}] must be a list of texts")), Ok)?;
                    *(if key == "includes" { &mut source.includes } else { &mut source.excludes }) = list;
                }
                _ => rest.push((key, value)),
            }
        }
        unsupported("Mapping definition for [_source]", &rest)?;
        Ok(source)
    }

    fn conflict(&self, new: &Source) -> String {
        let mut text = "Mapper for [_source] conflicts with existing mapper:".to_owned();
        let list = |l: &[String]| format!("[{}]", l.join(", "));
        for (name, old, new) in [
            ("enabled", self.enabled.to_string(), new.enabled.to_string()),
            ("includes", list(&self.includes), list(&new.includes)),
            ("excludes", list(&self.excludes), list(&new.excludes)),
        ] {
            if old != new {
                text += &format!("\n\tCannot update parameter [{name}] from [{old}] to [{new}]");
            }
        }
        text
    }
}

impl Dynamic {
    fn name(self) -> &'static str {
        match self {
            Dynamic::True => "true",
            Dynamic::False => "false",
            Dynamic::Strict => "strict",
        }
    }
}

fn date_formats(value: &Value) -> Result<Vec<String>, ParseError> {
    let formats = match value {
        Value::String(s) => vec![s.clone()],
        Value::Array(items) => items.iter().map(|i| i.as_str().unwrap_or("").to_owned()).collect(),
        other => return refuse(format!("Invalid format: [{}]: expected string value", java_text(other))),
    };
    for format in &formats {
        if let Err(why) = super::date::DateFormat::new(format) {
            return refuse(why);
        }
    }
    Ok(formats.into_iter().filter(|f| f != "none").collect())
}

fn templates(value: &Value) -> Result<Vec<Template>, ParseError> {
    let Value::Array(items) = value else {
        return refuse("Dynamic template syntax error. An array of named objects is expected.");
    };
    items
        .iter()
        .map(|item| match item.as_object().map(|o| (o.len(), o.iter().next())) {
            Some((1, Some((name, definition)))) => Template::parse(name, definition),
            _ => refuse("A dynamic template must be defined with a name"),
        })
        .collect()
}

/// Reads a `properties` object into `out`.
fn properties(
    value: &Value,
    owner: &str,
    out: &mut BTreeMap<String, Property>,
    depth: usize,
) -> Result<(), ParseError> {
    if depth > READ_DEPTH_MAX {
        return refuse(format!("mapping is nested deeper than {READ_DEPTH_MAX} levels"));
    }
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Array(items) if items.is_empty() => return Ok(()),
        Value::Null => return Ok(()),
        _ => {
            return refuse(format!(
                "Expected map for property [properties] on field [{owner}] but got a {}",
                class(value)
            ));
        }
    };
    for (name, definition) in entries {
        let Value::Object(definition) = definition else {
            if definition.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            return refuse(format!(
                "Expected map for property [fields] on field [{name}] but got a {}",
                class(definition)
            ));
        };
        // Dots in a name are objects on the way.
        let parts = split_path(name).map_err(|why| ParseError::new("illegal_argument_exception", why))?;
        let (leaf, parents) = parts.split_last().expect("a path has parts");
        let mut target = &mut *out;
        if parents.len() + depth > READ_DEPTH_MAX {
            return refuse(format!("mapping is nested deeper than {READ_DEPTH_MAX} levels"));
        }
        for parent in parents {
            let entry = target.entry((*parent).to_owned()).or_insert_with(|| Property::Object(Object::default()));
            target = match entry {
                Property::Object(object) => &mut object.properties,
                Property::Field(_) => {
                    return conflict(format!("can't merge a non object mapping [{parent}] with an object mapping"));
                }
            };
        }
        let property = property(name, definition, depth + parts.len())?;
        match target.entry((*leaf).to_owned()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(property);
            }
            // `{"a.b":..., "a":{...}}`: both say something about `a`.
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().merge(&property, name)?,
        }
    }
    Ok(())
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "java.lang.String",
        Value::Bool(_) => "java.lang.Boolean",
        Value::Array(_) => "java.util.ArrayList",
        Value::Null => "null",
        Value::Number(n) if n.is_f64() => "java.lang.Double",
        Value::Number(_) => "java.lang.Integer",
        Value::Object(_) => "java.util.LinkedHashMap",
    }
}

/// A field's path as the names of its objects and itself.
pub(crate) fn split_path(path: &str) -> Result<Vec<&str>, String> {
    if path.is_empty() {
        return Err("field name cannot be an empty string".to_owned());
    }
    if !path.contains('.') {
        return Ok(vec![path]);
    }
    let parts: Vec<&str> = path.split('.').collect();
    for part in &parts {
        if part.is_empty() {
            return Err(format!(
                "object field starting or ending with a [.] makes object resolution ambiguous: [{path}]"
            ));
        }
        if part.trim().is_empty() {
            return Err(format!("object field cannot contain only whitespace: ['{path}']"));
        }
    }
    Ok(parts)
}

fn property(name: &str, definition: &Map<String, Value>, depth: usize) -> Result<Property, ParseError> {
    let type_name = match definition.get("type") {
        Some(Value::String(t)) => t.as_str(),
        Some(other) => return refuse(format!("No handler for type [{}] declared on field [{name}]", java_text(other))),
        None if definition.contains_key("properties") => "object",
        None if definition.len() == 1 && definition.contains_key("enabled") => "object",
        None => return refuse(format!("No type specified for field [{name}]")),
    };
    match type_name {
        "object" | "nested" => Object::parse(name, definition, type_name == "nested", depth).map(Property::Object),
        _ => Field::parse(name, type_name, definition, false, depth).map(Property::Field),
    }
}

impl Object {
    fn parse(name: &str, definition: &Map<String, Value>, nested: bool, depth: usize) -> Result<Object, ParseError> {
        let mut object = Object { nested, ..Object::default() };
        let mut rest = Vec::new();
        for (key, value) in definition {
            match key.as_str() {
                "type" => {}
                "properties" => properties(value, name, &mut object.properties, depth)?,
                "dynamic" => object.dynamic = Some(dynamic(value, &format!("{name}.dynamic"))?),
                "enabled" => object.enabled = Some(boolean(value, &format!("{name}.enabled"))?),
                "include_in_parent" if nested => object.include[0] = boolean(value, "include_in_parent")?,
                "include_in_root" if nested => object.include[1] = boolean(value, "include_in_root")?,
                _ => rest.push((key, value)),
            }
        }
        unsupported(&format!("Mapping definition for [{name}]"), &rest)?;
        Ok(object)
    }

    /// `path` ends with a dot, or is empty at the root.
    fn merge(&mut self, update: &Object, name: &str, path: &str) -> Result<(), ParseError> {
        if self.nested != update.nested {
            let (from, to) = if self.nested { ("nested", "non-nested") } else { ("non-nested", "nested") };
            return conflict(format!("object mapping [{name}] can't be changed from {from} to {to}"));
        }
        if let Some(enabled) = update.enabled
            && enabled != self.enabled.unwrap_or(true)
        {
            return Err(ParseError::new(
                "mapper_exception",
                format!("the [enabled] parameter can't be updated for the object mapping [{name}]"),
            ));
        }
        if update.dynamic.is_some() {
            self.dynamic = update.dynamic;
        }
        for (key, property) in &update.properties {
            match self.properties.get_mut(key) {
                Some(old) => old.merge(property, &format!("{path}{key}"))?,
                None => {
                    self.properties.insert(key.clone(), property.clone());
                }
            }
        }
        Ok(())
    }

    fn put_properties(&self, out: &mut Map<String, Value>) {
        if !self.properties.is_empty() {
            let properties: Map<String, Value> =
                self.properties.iter().map(|(name, property)| (name.clone(), property.to_json())).collect();
            out.insert("properties".into(), properties.into());
        }
    }
}

impl Property {
    fn merge(&mut self, update: &Property, path: &str) -> Result<(), ParseError> {
        match (self, update) {
            (Property::Object(old), Property::Object(new)) => old.merge(new, path, &format!("{path}.")),
            (Property::Field(old), Property::Field(new)) => old.merge(new, path),
            (Property::Object(_), Property::Field(_)) => {
                conflict(format!("can't merge a non object mapping [{path}] with an object mapping"))
            }
            (Property::Field(old), Property::Object(_)) => {
                conflict(format!("mapper [{path}] cannot be changed from type [{}] to [ObjectMapper]", old.type_name))
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Property::Field(field) => field.to_json(),
            Property::Object(object) => {
                let mut out = Map::new();
                if object.nested {
                    out.insert("type".into(), "nested".into());
                    for (key, on) in ["include_in_parent", "include_in_root"].into_iter().zip(object.include) {
                        if on {
                            out.insert(key.into(), true.into());
                        }
                    }
                } else if object.properties.is_empty() {
                    out.insert("type".into(), "object".into());
                }
                if let Some(dynamic) = object.dynamic {
                    out.insert("dynamic".into(), dynamic.name().into());
                }
                if object.enabled == Some(false) {
                    out.insert("enabled".into(), false.into());
                }
                object.put_properties(&mut out);
                out.into()
            }
        }
    }
}

impl Field {
    fn parse(
        name: &str,
        type_name: &str,
        definition: &Map<String, Value>,
        is_multi_field: bool,
        depth: usize,
    ) -> Result<Field, ParseError> {
        if depth > READ_DEPTH_MAX {
            return refuse(format!("mapping is nested deeper than {READ_DEPTH_MAX} levels"));
        }
        let Some(known) = params::of_type(type_name) else {
            return refuse(format!("No handler for type [{type_name}] declared on field [{name}]"));
        };
        let mut field = Field { type_name: type_name.to_owned(), ..Field::default() };
        let mut rest = Vec::new();
        for (key, value) in definition {
            let param = known.and_then(|known| known.iter().find(|p| p.name == key));
            match key.as_str() {
                "type" => {}
                "fields" if type_name != "alias" => {
                    let Value::Object(entries) = value else {
                        if value.as_array().is_some_and(Vec::is_empty) {
                            continue;
                        }
                        return refuse(format!(
                            "expected map for property [fields] on field [{name}] but got a {}",
                            class(value)
                        ));
                    };
                    for (sub, definition) in entries {
                        if sub.contains('.') || sub.is_empty() {
                            return refuse(format!(
                                "Field name [{sub}] which is a multi field of [{name}] cannot contain '.'"
                            ));
                        }
                        let Value::Object(definition) = definition else {
                            return refuse(format!(
                                "illegal field [{sub}], only fields can be specified inside fields"
                            ));
                        };
                        let Some(type_name) = definition.get("type").and_then(Value::as_str) else {
                            return refuse(format!("no type specified for property [{sub}]"));
                        };
                        if matches!(type_name, "object" | "nested") {
                            return refuse(format!("Type [{type_name}] cannot be used in multi field"));
                        }
                        if type_name == "alias" {
                            return refuse("Type [alias] cannot be used in multi field");
                        }
                        let inner = Field::parse(sub, type_name, definition, true, depth + 1)?;
                        field.fields.insert(sub.clone(), inner);
                    }
                }
                "copy_to" if type_name != "alias" => {
                    if is_multi_field {
                        return refuse(format!(
                            "copy_to in multi fields is not allowed. Found the copy_to in field [{name}] which is \
                             within a multi field."
                        ));
                    }
                    field.copy_to = match value {
                        Value::Array(_) | Value::String(_) => {
                            let list = match value {
                                Value::String(s) => Some(vec![s.clone()]),
                                _ => texts(value),
                            };
                            list.map_or_else(|| refuse("[copy_to] must be a list of field names"), Ok)?
                        }
                        _ => return refuse("[copy_to] must be a list of field names"),
                    };
                    for target in &field.copy_to {
                        split_path(target).map_err(|why| ParseError::new("mapper_parsing_exception", why))?;
                    }
                }
                _ => match (param, known) {
                    (Some(param), _) => {
                        let value = params::canonical(param, name, value)?;
                        if value != param.default.to_json() {
                            field.params.insert(key.clone(), value);
                        }
                    }
                    (None, None) => {
                        field.params.insert(key.clone(), value.clone());
                    }
                    (None, Some(_)) => rest.push((key, value)),
                },
            }
        }
        if type_name == "text" {
            unsupported(&format!("Mapping definition for [{name}]"), &rest)?;
        } else if let Some((key, _)) = rest.first() {
            return refuse(format!("unknown parameter [{key}] on mapper [{name}] of type [{type_name}]"));
        }
        field.check(name)?;
        Ok(field)
    }

    /// What can be wrong with a field by itself.
    fn check(&self, name: &str) -> Result<(), ParseError> {
        match self.type_name.as_str() {
            "scaled_float" => match self.params.get("scaling_factor").and_then(Value::as_f64) {
                None => return refuse("Field [scaling_factor] is required"),
                Some(factor) if factor <= 0.0 => {
                    return refuse(format!("[scaling_factor] must be a positive number, got [{factor:?}]"));
                }
                Some(_) => {}
            },
            "alias" if !self.params.contains_key("path") => {
                return refuse(format!("The [path] property must be specified for field [{name}]."));
            }
            "text" => {
                let has = |param: &str| self.params.contains_key(param);
                if !has("analyzer") && has("search_analyzer") {
                    return refuse(format!("analyzer on field [{name}] must be set when search_analyzer is set"));
                }
                let options = self.text("index_options", "positions");
                if !matches!(options, "docs" | "freqs" | "positions" | "offsets") {
                    return refuse(format!(
                        "Unknown value [{options}] for field [index_options] - accepted values are [positions, docs, \
                         freqs, offsets]"
                    ));
                }
            }
            "keyword" => {
                let options = self.text("index_options", "docs");
                if !matches!(options, "docs" | "freqs") {
                    return refuse(format!(
                        "Unknown value [{options}] for field [index_options] - accepted values are [docs, freqs]"
                    ));
                }
            }
            _ => {}
        }
        for (param, min) in [("position_increment_gap", 0), ("ignore_above", 0)] {
            if let Some(value) = self.params.get(param).and_then(Value::as_i64)
                && value < min
            {
                return refuse(format!("[{param}] must be positive, got [{value}]"));
            }
        }
        Ok(())
    }

    fn merge(&mut self, update: &Field, path: &str) -> Result<(), ParseError> {
        if self.type_name != update.type_name {
            return conflict(format!(
                "mapper [{path}] cannot be changed from type [{}] to [{}]",
                self.type_name, update.type_name
            ));
        }
        let known = params::of_type(&self.type_name).expect("known types only");
        let mut conflicts = String::new();
        let mut check = |name: &str, update_rule: Update, old: Value, new: Value| {
            let allowed = match update_rule {
                Update::Always => true,
                Update::Never => false,
                Update::TurnOff => new == false,
            };
            if old != new && !allowed {
                conflicts += &format!(
                    "\n\tCannot update parameter [{name}] from [{}] to [{}]",
                    java_text(&old),
                    java_text(&new)
                );
            }
        };
        match known {
            Some(known) => {
                for param in known {
                    let value = |field: &Field| {
                        field.params.get(param.name).cloned().unwrap_or_else(|| param.default.to_json())
                    };
                    check(param.name, param.update, value(self), value(update));
                }
            }
            None => {
                for name in self.params.keys().chain(update.params.keys().filter(|k| !self.params.contains_key(*k))) {
                    let value = |field: &Field| field.params.get(name).cloned().unwrap_or(Value::Null);
                    let rule = if name == "meta" { Update::Always } else { Update::Never };
                    check(name, rule, value(self), value(update));
                }
            }
        }
        if !conflicts.is_empty() {
            return conflict(format!("Mapper for [{path}] conflicts with existing mapper:{conflicts}"));
        }
        self.params.clone_from(&update.params);
        self.copy_to.clone_from(&update.copy_to);
        for (name, field) in &update.fields {
            match self.fields.get_mut(name) {
                Some(old) => old.merge(field, &format!("{path}.{name}"))?,
                None => {
                    self.fields.insert(name.clone(), field.clone());
                }
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("type".into(), self.type_name.clone().into());
        for (key, value) in &self.params {
            out.insert(key.clone(), value.clone());
        }
        match self.copy_to.as_slice() {
            [] => {}
            targets => {
                out.insert("copy_to".into(), json!(targets));
            }
        }
        if !self.fields.is_empty() {
            let fields: Map<String, Value> =
                self.fields.iter().map(|(name, field)| (name.clone(), field.to_json())).collect();
            out.insert("fields".into(), fields.into());
        }
        out.into()
    }

    pub(super) fn flag(&self, param: &str, default: bool) -> bool {
        self.params.get(param).and_then(Value::as_bool).unwrap_or(default)
    }

    pub(super) fn text<'a>(&'a self, param: &str, default: &'a str) -> &'a str {
        self.params.get(param).and_then(Value::as_str).unwrap_or(default)
    }
}

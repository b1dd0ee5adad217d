//! The mapping update a document asks for: fields nobody mapped, collected as paths and shown as a fragment.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::ParseError;
use crate::mapping::{DynamicType, Mapping};

/// New fields and objects by path.
#[derive(Debug, Default)]
pub(super) struct Update {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    is_object: bool,
    mapping: Value,
}

fn conflict(reason: String) -> ParseError {
    ParseError::new("illegal_argument_exception", reason)
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl Update {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a field; a second value of the field must ask for the same mapping.
    pub(super) fn leaf(
        &mut self,
        mapping: &Mapping,
        path: &str,
        kind: DynamicType,
        date_format: Option<&str>,
    ) -> Result<(), ParseError> {
        let name = last_name(path);
        let mut wanted = mapping.template_mapping(path, name, kind).unwrap_or_else(|| match kind {
            DynamicType::String => {
                json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
            }
            DynamicType::Double => json!({"type": "float"}),
            DynamicType::Long => json!({"type": "long"}),
            DynamicType::Boolean => json!({"type": "boolean"}),
            DynamicType::Date => json!({"type": "date"}),
            DynamicType::Object => json!({"type": "object"}),
        });
        if let (Some(format), Some(entries)) = (date_format, wanted.as_object_mut())
            && entries.get("type").is_some_and(|t| t == "date")
            && !entries.contains_key("format")
        {
            entries.insert("format".to_owned(), format.into());
        }
        self.parents(mapping, path)?;
        let type_of = |mapping: &Value| mapping["type"].as_str().unwrap_or("object").to_owned();
        match self.entries.get(path) {
            Some(old) if old.is_object => {
                return Err(conflict(format!("can't merge a non object mapping [{path}] with an object mapping")));
            }
            Some(old) if old.mapping == wanted => return Ok(()),
            Some(old) => {
                let (from, to) = (type_of(&old.mapping), type_of(&wanted));
                return Err(conflict(if from == to {
                    let text = |mapping: &Value| mapping["format"].as_str().unwrap_or("").to_owned();
                    format!(
                        "Mapper for [{path}] conflicts with existing mapper:\n\tCannot update parameter [format] from \
                         [{}] to [{}]",
                        text(&old.mapping),
                        text(&wanted)
                    )
                } else {
                    format!("mapper [{path}] cannot be changed from type [{from}] to [{to}]")
                }));
            }
            None => {}
        }
        self.entries.insert(path.to_owned(), Entry { is_object: false, mapping: wanted });
        Ok(())
    }

    /// Adds an object. False: a template says more about it than that it is one, so what is inside waits until the
    /// mapping has it.
    pub(super) fn object(&mut self, mapping: &Mapping, path: &str) -> Result<bool, ParseError> {
        self.parents(mapping, path)?;
        self.one_object(mapping, path)
    }

    fn one_object(&mut self, mapping: &Mapping, path: &str) -> Result<bool, ParseError> {
        let is_plain = |mapping: &Value| {
            mapping.as_object().is_some_and(|m| m.len() == 1 && (m["type"] == "object" || m["type"] == "nested"))
        };
        match self.entries.get(path) {
            Some(old) if !old.is_object => Err(conflict(format!(
                "mapper [{path}] cannot be changed from type [{}] to [ObjectMapper]",
                old.mapping["type"].as_str().unwrap_or("object")
            ))),
            Some(old) => Ok(is_plain(&old.mapping)),
            None => {
                let wanted = mapping
                    .template_mapping(path, last_name(path), DynamicType::Object)
                    .unwrap_or_else(|| json!({"type": "object"}));
                let plain = wanted.as_object().is_some_and(|m| m.contains_key("type")) && is_plain(&wanted);
                self.entries.insert(path.to_owned(), Entry { is_object: true, mapping: wanted });
                Ok(plain)
            }
        }
    }

    /// The objects on the way to `path`, as far as the mapping lacks them.
    pub(super) fn parents(&mut self, mapping: &Mapping, path: &str) -> Result<(), ParseError> {
        for (at, _) in path.match_indices('.') {
            let parent = &path[..at];
            if mapping.is_object(parent) {
                continue;
            }
            if let Some(Entry { is_object: false, mapping }) = self.entries.get(parent) {
                return Err(not_an_object(path, parent, mapping["type"].as_str().unwrap_or("object")));
            }
            self.one_object(mapping, parent)?;
        }
        Ok(())
    }

    /// The fragment `{"properties":{...}}`.
    pub(super) fn into_fragment(self, mapping: &Mapping) -> Value {
        let mut root = Map::new();
        // In order of paths, objects come before what is in them.
        for (path, entry) in self.entries {
            let mut target = &mut root;
            let mut from = 0;
            for (at, _) in path.match_indices('.') {
                let parent = properties(target)
                    .entry(&path[from..at])
                    .or_insert_with(|| {
                        let is_nested = mapping.is_nested(&path[..at]);
                        json!({"type": if is_nested { "nested" } else { "object" }})
                    })
                    .as_object_mut();
                target = parent.expect("fragments are objects");
                from = at + 1;
            }
            properties(target).insert(path[from..].to_owned(), entry.mapping);
        }
        root.into()
    }
}

fn properties(object: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let properties = object.entry("properties").or_insert_with(|| Map::new().into());
    if !properties.is_object() {
        *properties = Map::new().into(); // a template's own nonsense; the merge would refuse it
    }
    properties.as_object_mut().expect("just made sure")
}

/// A field below one that is no object.
pub(super) fn not_an_object(path: &str, parent: &str, type_name: &str) -> ParseError {
    ParseError::new(
        "mapper_parsing_exception",
        format!(
            "Could not dynamically add mapping for field [{path}]. Existing mapping for [{parent}] must be of type \
             object but found [{type_name}]."
        ),
    )
}

//! Dynamic templates: how fields that nobody mapped are mapped.

use serde_json::{Map, Value, json};

use super::params::java_text;
use crate::error::ParseError;

/// One entry of `dynamic_templates`.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub name: String,
    definition: Map<String, Value>,
    mapping: Value,
    match_mapping_type: Option<String>,
    names: Vec<Condition>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.name == other.name && self.definition == other.definition
    }
}

#[derive(Clone, Debug)]
struct Condition {
    /// Against the whole path, or the last name.
    whole_path: bool,
    negated: bool,
    pattern: NamePattern,
}

#[derive(Clone, Debug)]
enum NamePattern {
    Simple(String),
    Regex(regex::Regex),
}

/// The JSON kinds templates tell apart, and the type each gets without a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DynamicType {
    /// An object.
    Object,
    /// A text.
    String,
    /// A whole number.
    Long,
    /// Any other number.
    Double,
    /// true, false.
    Boolean,
    /// A text that is a date.
    Date,
}

impl DynamicType {
    fn name(self) -> &'static str {
        match self {
            DynamicType::Object => "object",
            DynamicType::String => "string",
            DynamicType::Long => "long",
            DynamicType::Double => "double",
            DynamicType::Boolean => "boolean",
            DynamicType::Date => "date",
        }
    }

    /// The field type `{dynamic_type}` stands for, and a template without a type gives.
    pub(super) fn default_type(self) -> &'static str {
        match self {
            DynamicType::String => "text",
            DynamicType::Double => "float",
            other => other.name(),
        }
    }
}

fn refuse<T>(reason: String) -> Result<T, ParseError> {
    Err(ParseError::new("mapper_parsing_exception", reason))
}

impl Template {
    pub(super) fn parse(name: &str, definition: &Value) -> Result<Template, ParseError> {
        let Value::Object(definition) = definition else {
            return refuse(format!("Dynamic template [{name}] must be an object"));
        };
        let mut template = Template {
            name: name.to_owned(),
            definition: definition.clone(),
            mapping: Value::Null,
            match_mapping_type: None,
            names: Vec::new(),
        };
        let regex = definition.get("match_pattern").is_some_and(|p| p == "regex");
        for (key, value) in definition {
            match key.as_str() {
                "mapping" if value.is_object() => template.mapping = value.clone(),
                "match_mapping_type" => {
                    let kind = java_text(value);
                    let known = ["object", "string", "long", "double", "boolean", "date", "binary", "*"];
                    if !known.contains(&kind.as_str()) {
                        return refuse(format!(
                            "No field type matched on [{kind}], possible values are [object, string, long, double, \
                             boolean, date, binary]"
                        ));
                    }
                    template.match_mapping_type = Some(kind);
                }
                "match" | "unmatch" | "path_match" | "path_unmatch" => {
                    let text = java_text(value);
                    let pattern = if regex && !key.starts_with("path") {
                        match regex::Regex::new(&format!("^(?:{text})$")) {
                            Ok(regex) => NamePattern::Regex(regex),
                            Err(_) => {
                                return refuse(format!(
                                    "Pattern [{text}] of type [REGEX] is invalid. Cannot create dynamic template \
                                     [{name}]."
                                ));
                            }
                        }
                    } else {
                        NamePattern::Simple(text)
                    };
                    let whole_path = key.starts_with("path");
                    template.names.push(Condition { whole_path, negated: key.contains("unmatch"), pattern });
                }
                "match_pattern" => match value.as_str() {
                    Some("simple" | "regex") => {}
                    _ => return refuse(format!("No matching pattern matched on [{}]", java_text(value))),
                },
                _ => return refuse(format!("Illegal dynamic template parameter: [{key}]")),
            }
        }
        if template.mapping.is_null() {
            return refuse("template must have mapping set".to_owned());
        }
        if template.match_mapping_type.is_none() && template.names.iter().all(|c| c.negated) {
            return refuse("template must have match, path_match or match_mapping_type set".to_owned());
        }
        Ok(template)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ (self.name.as_str()): self.definition })
    }

    pub(super) fn matches(&self, path: &str, name: &str, kind: DynamicType) -> bool {
        let kind_fits = match self.match_mapping_type.as_deref() {
            None | Some("*") => true,
            Some(wanted) => wanted == kind.name(),
        };
        kind_fits
            && self.names.iter().all(|condition| {
                let text = if condition.whole_path { path } else { name };
                let fits = match &condition.pattern {
                    NamePattern::Simple(pattern) => wildcard(pattern, text),
                    NamePattern::Regex(regex) => regex.is_match(text),
                };
                fits != condition.negated
            })
    }

    /// The mapping for a field, with `{name}` and `{dynamic_type}` filled in.
    pub(super) fn mapping_for(&self, name: &str, kind: DynamicType) -> Value {
        let mut mapping = fill(&self.mapping, name, kind.default_type());
        if let Value::Object(entries) = &mut mapping
            && !entries.contains_key("type")
        {
            entries.insert("type".into(), kind.default_type().into());
        }
        mapping
    }
}

// The template's mapping came out of serde_json, which limits its depth.
fn fill(value: &Value, name: &str, dynamic_type: &str) -> Value {
    let text = |t: &str| {
        t.replace("{name}", name).replace("{dynamic_type}", dynamic_type).replace("{dynamicType}", dynamic_type)
    };
    match value {
        Value::String(t) => text(t).into(),
        Value::Array(items) => items.iter().map(|item| fill(item, name, dynamic_type)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, item)| (text(key), fill(item, name, dynamic_type))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any characters. Time: pattern times text at worst.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star_at, matched)) = star {
            p = star_at + 1;
            t = matched + 1;
            star = Some((star_at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            ("*.name", "a.b.name", true),
            ("a*b*c", "abbbxc", true),
            ("a", "ab", false),
            ("", "", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_template_matches_by_type_name_and_path() {
        let template = |json| Template::parse("t", &json);
        let ints =
            template(json!({"match_mapping_type": "long", "match": "i_*", "unmatch": "*_x", "mapping": {}})).unwrap();
        assert!(ints.matches("o.i_a", "i_a", DynamicType::Long));
        assert!(!ints.matches("o.i_a", "i_a", DynamicType::Double));
        assert!(!ints.matches("o.i_x", "i_x", DynamicType::Long));
        assert!(!ints.matches("i_.a", "a", DynamicType::Long));
        let path =
            template(json!({"path_match": "o.*", "mapping": {"copy_to": "all_{name}", "type": "{dynamic_type}"}}));
        let path = path.unwrap();
        assert!(path.matches("o.i", "i", DynamicType::String));
        assert_eq!(path.mapping_for("i", DynamicType::String), json!({"copy_to": "all_i", "type": "text"}));
        let regex = template(json!({"match": "^p\\d+$", "match_pattern": "regex", "mapping": {}})).unwrap();
        assert!(regex.matches("p12", "p12", DynamicType::Boolean) && !regex.matches("p", "p", DynamicType::Boolean));
        assert!(template(json!({"mapping": {}})).is_err());
        assert!(template(json!({"match": "*"})).is_err());
        assert!(template(json!({"match": "(", "match_pattern": "regex", "mapping": {}})).is_err());
    }
}

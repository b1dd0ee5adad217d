//! Index templates: the legacy kind, composable ones and their components.

use std::collections::BTreeMap;

use ringdex_net::cluster::state::{AliasMetadata, ClusterState};
use serde_json::{Map, Value};

use super::{alias, settings, value};
use crate::rest::filter::glob;
use crate::rest::params::strings;

/// What templates give a new index.
#[derive(Clone, Debug, Default)]
pub struct Composed {
    /// Normalised settings.
    pub settings: Map<String, Value>,
    /// Untyped mapping.
    pub mapping: Value,
    /// Aliases.
    pub aliases: BTreeMap<String, AliasMetadata>,
}

impl Composed {
    /// Puts one template body (`settings`, `mappings`, `aliases`; all checked when stored) on top.
    pub fn add(&mut self, body: &Value) {
        if let Ok(more) = settings::normalise(body.get("settings").unwrap_or(&Value::Null)) {
            self.settings.extend(more);
        }
        if let Some(mapping) = body.get("mappings").filter(|m| m.is_object()) {
            if self.mapping.is_object() {
                value::merge(&mut self.mapping, mapping);
            } else {
                self.mapping = mapping.clone();
            }
        }
        if let Some(Value::Object(map)) = body.get("aliases") {
            for (name, body) in map {
                if let Ok(alias) = alias::parse(body) {
                    self.aliases.insert(name.clone(), alias);
                }
            }
        }
    }
}

/// Whether one of a template's patterns matches.
#[must_use]
pub fn matches(template: &Value, index: &str) -> bool {
    strings(template.get("index_patterns").unwrap_or(&Value::Null)).iter().any(|p| glob(p, index))
}

/// A number member of a template.
#[must_use]
pub fn number(template: &Value, key: &str) -> i64 {
    template.get(key).and_then(|v| v.as_i64().or_else(|| v.as_str().and_then(|s| s.parse().ok()))).unwrap_or(0)
}

/// The composable template for an index name: the matching one of highest priority.
#[must_use]
pub fn best<'a>(state: &'a ClusterState, index: &str, hidden: bool) -> Option<(&'a str, &'a Value)> {
    state
        .index_templates
        .iter()
        .filter(|(_, t)| matches(t, index) && !(hidden && is_global(t)))
        .max_by_key(|(_, t)| number(t, "priority"))
        .map(|(name, t)| (name.as_str(), t.as_ref()))
}

fn is_global(template: &Value) -> bool {
    strings(template.get("index_patterns").unwrap_or(&Value::Null)).iter().any(|p| p == "*")
}

/// All templates that apply to a new index, put together. A composable template keeps the legacy ones out.
#[must_use]
pub fn compose(state: &ClusterState, index: &str, hidden: bool) -> Composed {
    if let Some((_, template)) = best(state, index, hidden) {
        return compose_index_template(state, template);
    }
    let mut legacy: Vec<(&String, &Value)> = state
        .templates
        .iter()
        .filter(|(_, t)| matches(t, index) && !(hidden && is_global(t)))
        .map(|(n, t)| (n, t.as_ref()))
        .collect();
    legacy.sort_by_key(|(_, t)| number(t, "order"));
    let mut out = Composed::default();
    for (_, template) in legacy {
        out.add(template);
    }
    out
}

/// A composable template with its components.
#[must_use]
pub fn compose_index_template(state: &ClusterState, template: &Value) -> Composed {
    let mut out = Composed::default();
    for component in strings(template.get("composed_of").unwrap_or(&Value::Null)) {
        if let Some(body) = state.component_templates.get(&component).and_then(|c| c.get("template")) {
            out.add(body);
        }
    }
    if let Some(body) = template.get("template") {
        out.add(body);
    }
    out
}

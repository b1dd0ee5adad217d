//! Aliases: reading, adding, removing.

use std::sync::Arc;

use ringdex_net::cluster::state::{AliasMetadata, ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::name::check_alias_name;
use crate::error::{ApiError, ApiResult};
use crate::rest::params::{boolean, parse_exception, text};

/// Reads the body of an alias: `{"filter":..., "routing":..., "is_write_index":...}`.
pub fn parse(value: &Value) -> ApiResult<AliasMetadata> {
    let mut alias = AliasMetadata::default();
    let Value::Object(map) = value else {
        return if value.is_null() { Ok(alias) } else { Err(parse_exception("alias body must be an object")) };
    };
    for (key, value) in map {
        match key.as_str() {
            "filter" => alias.filter = (!value.is_null()).then(|| value.clone()),
            "routing" => {
                alias.index_routing = Some(text(value));
                alias.search_routing = Some(text(value));
            }
            "index_routing" | "indexRouting" | "index-routing" => alias.index_routing = Some(text(value)),
            "search_routing" | "searchRouting" | "search-routing" => alias.search_routing = Some(text(value)),
            "is_write_index" => alias.is_write_index = Some(boolean(value)?),
            "is_hidden" => alias.is_hidden = Some(boolean(value)?),
            other => return Err(parse_exception(format!("Unknown field [{other}] in alias"))),
        }
    }
    if let Some(routing) = &alias.index_routing
        && routing.contains(',')
    {
        return Err(ApiError::illegal_argument("alias has several index routing values associated with it".to_owned()));
    }
    Ok(alias)
}

/// As answers show it.
#[must_use]
pub fn shown(alias: &AliasMetadata) -> Value {
    let mut out = Map::new();
    if let Some(filter) = &alias.filter {
        out.insert("filter".into(), filter.clone());
    }
    if let Some(routing) = &alias.index_routing {
        out.insert("index_routing".into(), routing.clone().into());
    }
    if let Some(routing) = &alias.search_routing {
        out.insert("search_routing".into(), routing.clone().into());
    }
    if let Some(write) = alias.is_write_index {
        out.insert("is_write_index".into(), write.into());
    }
    if let Some(hidden) = alias.is_hidden {
        out.insert("is_hidden".into(), hidden.into());
    }
    Value::Object(out)
}

/// All aliases of an index, as answers show them.
#[must_use]
pub fn all_shown(index: &IndexMetadata) -> Value {
    Value::Object(index.aliases.iter().map(|(name, alias)| (name.clone(), shown(alias))).collect())
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds or replaces `alias` on `index`.
    Add {
        /// Index.
        index: String,
        /// Alias name.
        name: String,
        /// What it carries.
        alias: AliasMetadata,
    },
    /// Removes it.
    Remove {
        /// Index.
        index: String,
        /// Alias name.
        name: String,
    },
    /// Removes the index itself.
    RemoveIndex {
        /// Index.
        index: String,
    },
}

/// Applies changes in order, all or none.
pub fn apply(state: &ClusterState, changes: &[Change]) -> ApiResult<Option<ClusterState>> {
    let mut next = state.clone();
    // Removing indices comes first, so that an alias may take a removed index's name.
    for change in changes {
        if let Change::RemoveIndex { index } = change
            && next.indices.remove(index).is_none()
        {
            return Err(ApiError::index_not_found(index));
        }
    }
    for change in changes {
        match change {
            Change::Add { index, name, alias } => {
                check_alias_name(name)?;
                if next.indices.contains_key(name) {
                    return Err(ApiError::new(
                        400,
                        "invalid_alias_name_exception",
                        format!("Invalid alias name [{name}]: an index or data stream exists with the same name as the alias"),
                    )
                    .with("index_uuid", next.indices[name].uuid.clone())
                    .with("index", name.clone()));
                }
                let Some(known) = next.indices.get(index) else { return Err(ApiError::index_not_found(index)) };
                if known.aliases.get(name) == Some(alias) {
                    continue;
                }
                let mut changed = (**known).clone();
                changed.aliases.insert(name.clone(), alias.clone());
                changed.aliases_version += 1;
                next.indices.insert(index.clone(), Arc::new(changed));
            }
            Change::Remove { index, name } => {
                let Some(known) = next.indices.get(index) else { return Err(ApiError::index_not_found(index)) };
                let mut changed = (**known).clone();
                if changed.aliases.remove(name).is_some() {
                    changed.aliases_version += 1;
                    next.indices.insert(index.clone(), Arc::new(changed));
                }
            }
            Change::RemoveIndex { .. } => {}
        }
    }
    check_consistent(&next)?;
    Ok((next != *state).then_some(next))
}

/// At most one write index an alias; hidden on all of its indices or on none.
pub fn check_consistent(state: &ClusterState) -> ApiResult<()> {
    let mut write_indices: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    let mut hidden: std::collections::BTreeMap<&str, bool> = Default::default();
    for index in state.indices.values() {
        for (name, alias) in &index.aliases {
            if alias.is_write_index == Some(true) {
                write_indices.entry(name).or_default().push(&index.name);
            }
            let is_hidden = alias.is_hidden == Some(true);
            if *hidden.entry(name).or_insert(is_hidden) != is_hidden {
                return Err(ApiError::new(
                    500,
                    "illegal_state_exception",
                    format!(
                        "alias [{name}] has is_hidden set to true on some indices but not on others; alias must have the same is_hidden setting on all indices"
                    ),
                ));
            }
        }
    }
    for (name, indices) in write_indices {
        if indices.len() > 1 {
            return Err(ApiError::new(
                500,
                "illegal_state_exception",
                format!("alias [{name}] has more than one write index [{}]", indices.join(",")),
            ));
        }
    }
    Ok(())
}

/// 404 for alias names that no index has.
#[must_use]
pub fn missing(names: &[String]) -> ApiError {
    ApiError::new(404, "aliases_not_found_exception", format!("aliases [{}] missing", names.join(",")))
        .with("resource.type", "aliases")
        .with("resource.id", names.join(","))
}

/// `{"error":"alias [x] missing","status":404}` with the part that was found.
#[must_use]
pub fn missing_with(names: &[String], found: Map<String, Value>) -> Value {
    let text = if names.len() == 1 {
        format!("alias [{}] missing", names[0])
    } else {
        format!("aliases [{}] missing", names.join(","))
    };
    let mut out = Map::new();
    out.insert("error".into(), json!(text));
    out.insert("status".into(), json!(404));
    out.extend(found);
    Value::Object(out)
}

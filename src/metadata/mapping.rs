//! Changing mappings.

use std::sync::Arc;

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::mapping::{Limits, Mapping};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::settings;
use crate::error::{ApiError, ApiResult};

/// For mappings that have been accepted before.
pub const NO_LIMITS: Limits =
    Limits { total_fields: usize::MAX, depth: usize::MAX, field_name_length: usize::MAX, nested_fields: usize::MAX };

/// `index.mapping.*` of an index's settings.
#[must_use]
pub fn limits(settings: &Map<String, Value>) -> Limits {
    let mut limits = Limits::default();
    for (name, limit) in [
        ("total_fields", &mut limits.total_fields),
        ("depth", &mut limits.depth),
        ("field_name_length", &mut limits.field_name_length),
        ("nested_fields", &mut limits.nested_fields),
    ] {
        let value = settings.get(&format!("index.mapping.{name}.limit")).and_then(Value::as_str);
        if let Some(value) = value.and_then(|v| v.parse::<u64>().ok()) {
            *limit = usize::try_from(value).unwrap_or(usize::MAX);
        }
    }
    limits
}

/// `index.mapping.total_fields.limit`.
pub fn check_total_fields(mapping: &Mapping, settings: &Map<String, Value>) -> ApiResult<()> {
    let limit = limits(settings).total_fields;
    if mapping.total_fields() <= limit {
        return Ok(());
    }
    Err(ApiError::illegal_argument(format!("Limit of total fields [{limit}] has been exceeded")))
}

/// Merges a mapping into an index; `None` when it adds nothing. Conflicts are refused in Elasticsearch's words.
pub fn put(index: &IndexMetadata, update: &Value) -> ApiResult<Option<IndexMetadata>> {
    let registry = AnalyzerRegistry::new(&settings::analysis(&index.settings)).map_err(ApiError::from)?;
    // What is there already was accepted under the limits of its time.
    let known = Mapping::parse_with(&index.mapping, &registry, &NO_LIMITS).map_err(ApiError::from)?;
    let rest = Limits { total_fields: usize::MAX, ..limits(&index.settings) };
    let merged = known.merge_with(update, &registry, &rest).map_err(ApiError::from)?;
    let json = merged.to_json();
    let json = if json.is_null() { json!({}) } else { json };
    // A limit that was lowered later does not refuse what adds nothing.
    if json == index.mapping {
        return Ok(None);
    }
    check_total_fields(&merged, &index.settings)?;
    let mut next = index.clone();
    next.mapping = json;
    next.mapping_version += 1;
    Ok(Some(next))
}

/// Merges a mapping into several indices of a state, all or none. An index that is gone, or is another one of the same
/// name by now, is `index_not_found_exception`.
pub fn put_all(state: &ClusterState, indices: &[(String, String)], update: &Value) -> ApiResult<Option<ClusterState>> {
    let mut next: Option<ClusterState> = None;
    for (name, uuid) in indices {
        let index =
            state.indices.get(name).filter(|i| i.uuid == *uuid).ok_or_else(|| ApiError::index_not_found(name))?;
        if let Some(changed) = put(index, update)? {
            next.get_or_insert_with(|| state.clone()).indices.insert(name.clone(), Arc::new(changed));
        }
    }
    Ok(next)
}

//! Creating an index: checks, templates, and the new entry of the cluster state.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::mapping::{Limits, Mapping};
use ringdex_net::cluster::state::{AliasMetadata, ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::settings::{self, as_u32};
use super::{alias, limit, name, template, value};
use crate::coordinate::routing::routing_num_shards;
use crate::error::{ApiError, ApiResult};

/// What the creator of an index asks for.
#[derive(Clone, Debug, Default)]
pub struct CreateIndex {
    /// Name.
    pub name: String,
    /// As the client wrote it (date math), if different.
    pub provided_name: Option<String>,
    /// Normalised settings.
    pub settings: Map<String, Value>,
    /// Untyped mapping; `null` or `{}` when there is none.
    pub mapping: Value,
    /// Aliases.
    pub aliases: BTreeMap<String, AliasMetadata>,
    /// New uuid.
    pub uuid: String,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// Leave templates out (resizing).
    pub without_templates: bool,
}

/// Takes the body apart: `settings`, `mappings`, `aliases`.
pub fn parse_body(
    body: &Value,
    typed: bool,
) -> ApiResult<(Map<String, Value>, Value, BTreeMap<String, AliasMetadata>)> {
    let mut parsed = (Map::new(), Value::Null, BTreeMap::new());
    let body = match body {
        Value::Null => return Ok(parsed),
        Value::Object(map) => map,
        _ => return Err(ApiError::new(400, "parse_exception", "request body is required to be an object")),
    };
    // A body without any of the three words is the settings themselves.
    if !body.is_empty() && !body.keys().any(|k| matches!(k.as_str(), "settings" | "mappings" | "aliases")) {
        let unknown = body.keys().next().expect("not empty");
        return Err(ApiError::new(400, "parse_exception", format!("unknown key [{unknown}] for create index")));
    }
    for (key, value) in body {
        match key.as_str() {
            "settings" => {
                if !value.is_object() && !value.is_null() {
                    return Err(ApiError::new(400, "parse_exception", "key [settings] must be an object"));
                }
                parsed.0 = settings::normalise(value)?;
            }
            "mappings" => parsed.1 = untyped_mapping(value, typed)?,
            "aliases" => {
                let Value::Object(map) = value else {
                    return Err(ApiError::new(400, "parse_exception", "key [aliases] must be an object"));
                };
                for (alias_name, body) in map {
                    parsed.2.insert(alias_name.clone(), alias::parse(body)?);
                }
            }
            other => {
                return Err(ApiError::new(400, "parse_exception", format!("unknown key [{other}] for create index")));
            }
        }
    }
    Ok(parsed)
}

/// Keys that a mapping itself may have; anything else at its root is a type name.
const ROOT_KEYS: [&str; 14] = [
    "properties",
    "dynamic",
    "dynamic_templates",
    "dynamic_date_formats",
    "date_detection",
    "numeric_detection",
    "_source",
    "_routing",
    "_meta",
    "_field_names",
    "_size",
    "_data_stream_timestamp",
    "runtime",
    "_all",
];

/// Takes the type name away, if one is allowed.
pub fn untyped_mapping(mapping: &Value, typed: bool) -> ApiResult<Value> {
    let map = match mapping {
        Value::Null => return Ok(Value::Null),
        Value::String(text) => return untyped_mapping(&crate::rest::params::parse_json(text.as_bytes())?, typed),
        Value::Object(map) => map,
        _ => return Err(ApiError::new(400, "parse_exception", "key [mappings] must be an object")),
    };
    let single = match map.iter().next() {
        Some((key, inner)) if map.len() == 1 && inner.is_object() && !ROOT_KEYS.contains(&key.as_str()) => {
            Some((key, inner))
        }
        _ => None,
    };
    if typed {
        return match single {
            Some((_, inner)) => Ok(inner.clone()),
            None if map.is_empty() => Ok(json!({})),
            None => {
                Err(ApiError::illegal_argument("A mapping with a type name is needed when include_type_name is true"))
            }
        };
    }
    match single {
        Some((key, _)) => Err(ApiError::illegal_argument(format!(
            "The mapping definition cannot be nested under a type [{key}] unless include_type_name is set to true."
        ))),
        None => Ok(mapping.clone()),
    }
}

/// Creates an index from a request, with the templates that match its name.
pub fn create(state: &ClusterState, request: &CreateIndex) -> ApiResult<(ClusterState, Arc<IndexMetadata>)> {
    name::check_index_name(&request.name)?;
    name::check_free(state, &request.name)?;
    settings::check(&request.settings, request.without_templates)?;
    let from = if request.without_templates {
        template::Composed::default()
    } else {
        template::compose(state, &request.name, settings::is_hidden(&request.settings))
    };
    let index = build(state, request, from)?;
    let mut next = state.clone();
    let index = Arc::new(index);
    next.indices.insert(index.name.clone(), index.clone());
    for alias_name in index.aliases.keys() {
        name::check_alias_name(alias_name)?;
        if next.indices.contains_key(alias_name) {
            return Err(ApiError::new(
                400,
                "invalid_alias_name_exception",
                format!(
                    "Invalid alias name [{alias_name}]: an index or data stream exists with the same name as the alias"
                ),
            )
            .with("index_uuid", "_na_")
            .with("index", alias_name.clone()));
        }
    }
    alias::check_consistent(&next)?;
    limit::check(state, &next)?;
    Ok((next, index))
}

/// Puts template and request together into a checked index.
pub fn build(state: &ClusterState, request: &CreateIndex, from: template::Composed) -> ApiResult<IndexMetadata> {
    let mut all = from.settings;
    for (key, value) in &request.settings {
        if value.is_null() {
            all.shift_remove(key);
        } else {
            all.insert(key.clone(), value.clone());
        }
    }
    all.retain(|_, value| !value.is_null());
    settings::check(&all, true)?;
    let cluster_default = |name: &str| state.setting(name).and_then(as_u32);
    let shards = all.get("index.number_of_shards").and_then(as_u32).unwrap_or(1);
    let replicas = all
        .get("index.number_of_replicas")
        .and_then(as_u32)
        .or_else(|| cluster_default("cluster.default_number_of_replicas"))
        .unwrap_or(1);
    let routing_shards = match all.get("index.number_of_routing_shards").and_then(as_u32) {
        Some(n) if n < shards => {
            return Err(ApiError::illegal_argument(format!(
                "index.number_of_routing_shards [{n}] must be >= index.number_of_shards [{shards}]"
            )));
        }
        Some(n) if n % shards != 0 => {
            return Err(ApiError::illegal_argument(format!(
                "the number of source shards [{shards}] must be a factor of [{n}]"
            )));
        }
        Some(n) => n,
        None => routing_num_shards(shards),
    };
    if let Some(size) = all.get("index.routing_partition_size").and_then(as_u32)
        && size > 1
        && size >= shards
    {
        return Err(ApiError::illegal_argument(format!(
            "partition size [{size}] should be a positive number less than the number of shards [{shards}] for [{}]",
            request.name
        )));
    }
    all.insert("index.number_of_shards".into(), shards.to_string().into());
    all.insert("index.number_of_replicas".into(), replicas.to_string().into());
    all.insert("index.creation_date".into(), request.now_ms.to_string().into());
    all.insert("index.uuid".into(), request.uuid.clone().into());
    all.insert("index.version.created".into(), "7100299".into());
    let provided = request.provided_name.as_ref().unwrap_or(&request.name);
    all.insert("index.provided_name".into(), provided.clone().into());

    let mut mapping = if from.mapping.is_null() { json!({}) } else { from.mapping };
    if request.mapping.is_object() {
        value::merge(&mut mapping, &request.mapping);
    }
    let mapping = compile_mapping(&mapping, &all)?;
    let mut aliases = from.aliases;
    aliases.extend(request.aliases.clone());
    Ok(IndexMetadata {
        name: request.name.clone(),
        uuid: request.uuid.clone(),
        open: true,
        creation_date: request.now_ms,
        number_of_shards: shards,
        number_of_replicas: replicas,
        routing_num_shards: routing_shards,
        settings: all,
        mapping,
        mapping_version: 1,
        settings_version: 1,
        aliases_version: 1,
        aliases,
        primary_terms: vec![1; shards as usize],
        in_sync: Vec::new(),
    })
}

/// Checks a mapping, of an index or of a template, against the analyzers; answers its normal form.
pub fn compile_mapping(mapping: &Value, all: &Map<String, Value>) -> ApiResult<Value> {
    let registry = AnalyzerRegistry::new(&settings::analysis(all)).map_err(ApiError::from)?;
    if mapping.as_object().is_none_or(Map::is_empty) {
        return Ok(json!({}));
    }
    // Too many fields are not an error of parsing.
    let limits = Limits { total_fields: usize::MAX, ..super::mapping::limits(all) };
    let parsed = Mapping::parse_with(mapping, &registry, &limits).map_err(failed_to_parse)?;
    super::mapping::check_total_fields(&parsed, all)?;
    Ok(parsed.to_json())
}

/// Mapping errors at creation are wrapped: `Failed to parse mapping [_doc]: ...`.
fn failed_to_parse(error: ringdex_engine::error::ParseError) -> ApiError {
    let inner = ApiError::from(error);
    if inner.kind == "mapper_parsing_exception" {
        let mut outer =
            ApiError::new(400, "mapper_parsing_exception", format!("Failed to parse mapping [_doc]: {}", inner.reason));
        outer.root_causes = vec![inner.clone()];
        return outer.because(inner);
    }
    inner
}

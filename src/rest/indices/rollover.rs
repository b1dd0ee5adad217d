//! `_rollover` and `_resolve`.

use std::sync::Arc;

use ringdex_net::cluster::state::{AliasMetadata, ClusterState, IndexMetadata};
use serde_json::{Map, Value, json};

use super::lifecycle::wait_for_active;
use super::stats::gather_primaries;
use crate::backend::SharedBackend;
use crate::coordinate::ids;
use crate::error::{ApiError, ApiResult};
use crate::metadata::create::{self, CreateIndex};
use crate::metadata::name;
use crate::metadata::resolve::{IndicesOptions, date_math, is_alias, is_hidden, resolve_write};
use crate::rest::filter::glob;
use crate::rest::params::{self, active_shards, flag, indices_options, parse_bytes, parse_time, time};
use crate::rest::request::{Request, Response};

/// The name after `logs-000001`.
fn next_name(old: &str) -> ApiResult<String> {
    let digits = old.len() - old.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = old.split_at(old.len() - digits);
    match number.parse::<u64>() {
        Ok(number) if stem.ends_with('-') => Ok(format!("{stem}{:06}", number + 1)),
        _ => Err(ApiError::illegal_argument(format!("index name [{old}] does not match pattern '^.*-\\d+$'"))),
    }
}

/// `POST /{alias}/_rollover[/{new_index}]`
pub async fn rollover(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let alias = request.param("index").unwrap_or("").to_owned();
    let typed = flag(&request, "include_type_name", false)?;
    let dry_run = flag(&request, "dry_run", false)?;
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let state = backend.state();
    if state.indices.contains_key(&alias) || !is_alias(&state, &alias) {
        return Err(ApiError::illegal_argument(if state.indices.contains_key(&alias) {
            "rollover target is a [concrete index] but one of [alias,data_stream] was expected".to_owned()
        } else {
            format!("rollover target [{alias}] does not exist")
        }));
    }
    let members: Vec<&Arc<IndexMetadata>> = state.indices_of_alias(&alias).collect();
    let explicit_write = members.iter().any(|i| i.aliases[&alias].is_write_index == Some(true));
    if members.len() > 1 && !explicit_write {
        return Err(ApiError::illegal_argument(format!("rollover target [{alias}] does not point to a write index")));
    }
    let old = resolve_write(&state, &alias, backend.now_ms())?;
    let mut conditions = Map::new();
    let mut create_body = Map::new();
    if let Value::Object(map) = &body {
        for (key, value) in map {
            match key.as_str() {
                "conditions" => conditions = params::object(value, "conditions")?.clone(),
                "settings" | "mappings" | "aliases" => {
                    create_body.insert(key.clone(), value.clone());
                }
                other => {
                    return Err(ApiError::new(
                        400,
                        "x_content_parse_exception",
                        format!("[1:2] [rollover] unknown field [{other}]"),
                    ));
                }
            }
        }
    }
    let (settings, mapping, aliases) = create::parse_body(&Value::Object(create_body), typed).map_err(|cause| {
        ApiError::new(400, "x_content_parse_exception", "[1:2] [rollover] failed to parse field [mappings]")
            .because(cause)
    })?;
    let new_name = match request.param("new_index") {
        Some(name) => date_math(name, backend.now_ms())?,
        None => match old.settings.get("index.provided_name").and_then(Value::as_str).filter(|p| p.starts_with('<')) {
            Some(provided) => {
                let inner = provided.trim_end_matches('>');
                date_math(&format!("{}>", next_name(inner)?), backend.now_ms())?
            }
            None => next_name(&old.name)?,
        },
    };
    name::check_index_name(&new_name)?;
    name::check_free(&state, &new_name)?;
    let met = check_conditions(backend, &old, &conditions).await?;
    let any = met.is_empty() || met.values().any(|v| *v == true);
    let rolls = any && !dry_run;
    let mut out = json!({
        "acknowledged": rolls,
        "shards_acknowledged": false,
        "old_index": old.name,
        "new_index": new_name,
        "rolled_over": rolls,
        "dry_run": dry_run,
        "conditions": met,
    });
    if rolls {
        let wanted = CreateIndex {
            name: new_name.clone(),
            settings,
            mapping,
            aliases,
            uuid: ids::uuid(backend.as_ref()),
            now_ms: backend.now_ms(),
            ..CreateIndex::default()
        };
        let old_name = old.name.clone();
        let state = backend
            .update_state(
                "rollover",
                Box::new(move |state| switch(state, &wanted, &alias, &old_name, explicit_write).map(Some)),
            )
            .await?;
        let timeout = time(&request, "timeout")?.unwrap_or(30_000);
        if let Some(index) = state.indices.get(&new_name) {
            let active = active_shards(&request)?;
            out["shards_acknowledged"] = wait_for_active(backend, index, active, timeout).await?.into();
        }
    }
    Ok(Response::ok(out))
}

/// Creates the new index and moves the alias (or its write flag) to it, in one step.
fn switch(
    state: &ClusterState,
    wanted: &CreateIndex,
    alias: &str,
    old: &str,
    explicit_write: bool,
) -> ApiResult<ClusterState> {
    let mut without = state.clone();
    let mut changed = (**state.indices.get(old).ok_or_else(|| ApiError::index_not_found(old))?).clone();
    let meta = changed.aliases.get(alias).cloned().unwrap_or_default();
    if explicit_write {
        changed.aliases.insert(alias.to_owned(), AliasMetadata { is_write_index: Some(false), ..meta.clone() });
    } else {
        changed.aliases.remove(alias);
    }
    changed.aliases_version += 1;
    without.indices.insert(old.to_owned(), Arc::new(changed));
    let mut wanted = wanted.clone();
    let is_write_index = if explicit_write { Some(true) } else { meta.is_write_index };
    wanted.aliases.insert(alias.to_owned(), AliasMetadata { is_write_index, ..meta });
    create::create(&without, &wanted).map(|(next, _)| next)
}

/// Each condition as `[max_docs: 2]`, and whether it holds.
async fn check_conditions(
    backend: &SharedBackend,
    index: &Arc<IndexMetadata>,
    conditions: &Map<String, Value>,
) -> ApiResult<Map<String, Value>> {
    let (shards, _) = gather_primaries(backend, std::slice::from_ref(index)).await;
    let docs: u64 = shards.iter().map(|(.., s)| s.docs_count).sum();
    let bytes: u64 = shards.iter().map(|(.., s)| s.store_size_bytes).sum();
    let mut out = Map::new();
    for (key, value) in conditions {
        let text = params::text(value);
        let met = match key.as_str() {
            "max_docs" => {
                let most: u64 = text
                    .parse()
                    .map_err(|_| ApiError::illegal_argument(format!("[max_docs] must be a number but was [{text}]")))?;
                docs >= most
            }
            "max_age" => backend.now_ms() - index.creation_date >= parse_time(&text, "max_age")?,
            "max_size" => bytes as i64 >= parse_bytes(&text, "max_size")?,
            other => {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [conditions] unknown field [{other}]"),
                ));
            }
        };
        out.insert(format!("[{key}: {text}]"), met.into());
    }
    Ok(out)
}

/// `GET /_resolve/index/{name}`
pub async fn resolve_index(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN)?;
    let state = backend.state();
    let names = params::list(&request, "name").unwrap_or_default();
    let mut indices = Vec::new();
    let mut aliases: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for index in state.indices.values() {
        let by_state = if index.open { options.expand_open } else { options.expand_closed };
        let visible = !is_hidden(index) || options.expand_hidden;
        let named = names.iter().any(|n| *n == index.name || (by_state && visible && glob(n, &index.name)));
        if named {
            let mut attributes = vec![if index.open { "open" } else { "closed" }];
            if is_hidden(index) {
                attributes.insert(0, "hidden");
            }
            let mut one = json!({ "name": index.name });
            if !index.aliases.is_empty() {
                one["aliases"] = index.aliases.keys().cloned().collect::<Vec<_>>().into();
            }
            one["attributes"] = attributes.into();
            indices.push(one);
        }
        for alias in index.aliases.keys() {
            if names.iter().any(|n| glob(n, alias)) {
                aliases.entry(alias.clone()).or_default().push(index.name.clone());
            }
        }
    }
    if indices.is_empty()
        && aliases.is_empty()
        && !options.ignore_unavailable
        && let Some(plain) = names.iter().find(|n| !n.contains('*'))
    {
        return Err(ApiError::index_not_found(plain));
    }
    let aliases: Vec<Value> =
        aliases.into_iter().map(|(name, indices)| json!({ "name": name, "indices": indices })).collect();
    Ok(Response::ok(json!({ "indices": indices, "aliases": aliases, "data_streams": [] })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_end_are_counted_up() {
        assert_eq!(next_name("logs-000001").unwrap(), "logs-000002");
        assert_eq!(next_name("logs-9").unwrap(), "logs-000010");
        assert!(next_name("logs").is_err());
        assert!(next_name("logs1").is_err());
    }
}

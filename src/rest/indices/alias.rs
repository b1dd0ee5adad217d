//! `_alias` and `_aliases`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::acknowledged;
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::alias::{self, Change};
use crate::metadata::name::check_alias_name;
use crate::metadata::resolve::{IndicesOptions, resolve};
use crate::rest::filter::glob;
use crate::rest::params::{self, boolean, indices_options, strings};
use crate::rest::request::{Request, Response};

/// `GET [/{index}]/_alias[/{name}]`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions { expand_hidden: true, ..IndicesOptions::OPEN_CLOSED })?;
    let names = params::list(&request, "name");
    let state = backend.state();
    let mut indices = resolve(&state, &params::indices(&request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let wanted = Wanted::new(names.as_deref().unwrap_or(&[]));
    let mut out = Map::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for index in &indices {
        let mut shown = Map::new();
        for (name, meta) in &index.aliases {
            if wanted.takes(name) {
                seen.insert(name.clone());
                shown.insert(name.clone(), alias::shown(meta));
            }
        }
        if !shown.is_empty() || names.is_none() || names.as_ref().is_some_and(|n| n.len() == 1 && n[0] == "_all") {
            out.insert(index.name.clone(), json!({ "aliases": shown }));
        }
    }
    let missing: Vec<String> = wanted.missing(&seen);
    if missing.is_empty() {
        return Ok(Response::ok(Value::Object(out)));
    }
    Ok(Response::json(404, alias::missing_with(&missing, out)))
}

/// Alias names as `GET _alias` reads them: wildcards, and exclusions after the first wildcard.
struct Wanted<'a> {
    names: &'a [String],
    first_wildcard: usize,
}

impl<'a> Wanted<'a> {
    fn new(names: &'a [String]) -> Wanted<'a> {
        let first_wildcard = names.iter().position(|n| n.contains('*')).unwrap_or(names.len());
        Wanted { names, first_wildcard }
    }

    /// A leading `-` excludes once a wildcard has been seen (or, with a wildcard in itself, anywhere but first).
    fn excludes(&self, at: usize) -> Option<&'a str> {
        let pattern = self.names[at].strip_prefix('-')?;
        (at > self.first_wildcard || (pattern.contains('*') && at > 0)).then_some(pattern)
    }

    fn takes(&self, alias: &str) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let mut taken = false;
        for (at, name) in self.names.iter().enumerate() {
            match self.excludes(at) {
                Some(pattern) => taken &= !glob(pattern, alias),
                None if name == "_all" => taken = true,
                None => taken |= glob(name, alias),
            }
        }
        taken
    }

    fn missing(&self, seen: &BTreeSet<String>) -> Vec<String> {
        let mut out = BTreeSet::new();
        for (at, name) in self.names.iter().enumerate() {
            if self.excludes(at).is_some() || name.contains('*') || name == "_all" || seen.contains(name) {
                continue;
            }
            // A name excluded later on is not missed.
            let excluded = (at + 1..self.names.len()).any(|later| self.excludes(later).is_some_and(|p| glob(p, name)));
            if !excluded {
                out.insert(name.clone());
            }
        }
        out.into_iter().collect()
    }
}

/// `HEAD [/{index}]/_alias/{name}`
pub async fn exists(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let answer = get(backend, request).await;
    Ok(match answer {
        Ok(response) => Response::empty(response.status),
        Err(error) => Response::empty(error.status),
    })
}

/// `PUT|POST /{index}/_alias/{name}`
pub async fn put(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut indices = params::indices(&request);
    let mut names: Vec<String> = request.param("name").map(|n| vec![n.to_owned()]).unwrap_or_default();
    let mut inner = Map::new();
    if let Value::Object(map) = &body {
        for (key, value) in map {
            match key.as_str() {
                "index" => indices = params::split_list(&params::text(value)),
                "alias" => names = vec![params::text(value)],
                _ => {
                    inner.insert(key.clone(), value.clone());
                }
            }
        }
    }
    let meta = alias_meta(&Value::Object(inner))?;
    let options = IndicesOptions::OPEN_CLOSED;
    let targets = resolve(&backend.state(), &indices, options, backend.now_ms())?;
    let mut changes = Vec::new();
    for name in &names {
        check_alias_name(name)?;
        for index in &targets {
            changes.push(Change::Add { index: index.name.clone(), name: name.clone(), alias: meta.clone() });
        }
    }
    run(backend, changes).await
}

/// `DELETE /{index}/_alias/{name}`
pub async fn delete(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let names = params::list(&request, "name").unwrap_or_default();
    let state = backend.state();
    let targets = resolve(&state, &params::indices(&request), IndicesOptions::OPEN_CLOSED, backend.now_ms())?;
    let mut changes = Vec::new();
    for index in &targets {
        for name in index.aliases.keys() {
            if names.iter().any(|n| n == "_all" || glob(n, name)) {
                changes.push(Change::Remove { index: index.name.clone(), name: name.clone() });
            }
        }
    }
    if changes.is_empty() && !names.iter().any(|n| n == "_all") {
        return Err(alias::missing(&names));
    }
    run(backend, changes).await
}

/// `POST /_aliases`
pub async fn update(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::required_json(&mut request).await?;
    let actions = match body.get("actions") {
        Some(Value::Array(actions)) => actions,
        _ => return Err(params::parse_exception("[aliases] expects an array of actions")),
    };
    for key in params::object(&body, "aliases body")?.keys() {
        if key != "actions" {
            return Err(ApiError::new(
                400,
                "x_content_parse_exception",
                format!("[1:2] [aliases] unknown field [{key}]"),
            ));
        }
    }
    if actions.is_empty() {
        return Err(ApiError::illegal_argument("No action specified"));
    }
    let state = backend.state();
    let mut changes = Vec::new();
    for action in actions {
        let Value::Object(map) = action else {
            return Err(params::parse_exception("[aliases] an action must be an object"));
        };
        let Some((verb, inner)) = map.iter().next().filter(|_| map.len() == 1) else {
            return Err(ApiError::illegal_argument("Too many operations declared on operation entry"));
        };
        changes.extend(action_changes(backend, &state, verb, inner)?);
    }
    run(backend, changes).await
}

fn action_changes(
    backend: &SharedBackend,
    state: &ringdex_net::cluster::state::ClusterState,
    verb: &str,
    inner: &Value,
) -> ApiResult<Vec<Change>> {
    if !matches!(verb, "add" | "remove" | "remove_index") {
        return Err(ApiError::new(
            400,
            "x_content_parse_exception",
            format!("[1:2] [alias_action] unknown field [{verb}]"),
        ));
    }
    let map = params::object(inner, verb)?;
    let mut indices = Vec::new();
    let mut aliases = Vec::new();
    let mut must_exist = None;
    let mut rest = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "index" => indices.push(params::text(value)),
            "indices" => indices.extend(strings(value)),
            "alias" => aliases.push(params::text(value)),
            "aliases" => aliases.extend(strings(value)),
            "must_exist" => must_exist = Some(boolean(value)?),
            _ => {
                rest.insert(key.clone(), value.clone());
            }
        }
    }
    if map.contains_key("index") && map.contains_key("indices") {
        return Err(ApiError::illegal_argument("Only one of [index] and [indices] is supported"));
    }
    if indices.is_empty() {
        return Err(ApiError::illegal_argument("One of [index] or [indices] is required"));
    }
    if verb == "remove_index" {
        if !aliases.is_empty() || !rest.is_empty() {
            return Err(ApiError::new(400, "x_content_parse_exception", "[remove_index] unknown field [alias]"));
        }
        let targets = resolve(state, &indices, IndicesOptions::DELETE, backend.now_ms())?;
        return Ok(targets.into_iter().map(|i| Change::RemoveIndex { index: i.name.clone() }).collect());
    }
    if aliases.is_empty() || aliases.iter().any(String::is_empty) {
        return Err(ApiError::illegal_argument("One of [alias] or [aliases] is required"));
    }
    let targets = resolve(state, &indices, IndicesOptions::DELETE, backend.now_ms())?;
    let mut changes = Vec::new();
    if verb == "add" {
        let meta = alias_meta(&Value::Object(rest))?;
        for name in &aliases {
            check_alias_name(name)?;
            for index in &targets {
                changes.push(Change::Add { index: index.name.clone(), name: name.clone(), alias: meta.clone() });
            }
        }
        return Ok(changes);
    }
    for index in &targets {
        for name in index.aliases.keys() {
            if aliases.iter().any(|n| n == "_all" || glob(n, name)) {
                changes.push(Change::Remove { index: index.name.clone(), name: name.clone() });
            }
        }
    }
    if changes.is_empty() && must_exist != Some(false) {
        return Err(alias::missing(&aliases));
    }
    Ok(changes)
}

/// Specific routings win over the general one, whatever their order.
fn alias_meta(value: &Value) -> ApiResult<ringdex_net::cluster::state::AliasMetadata> {
    let mut meta = alias::parse(value)?;
    if let Some(own) = value.get("index_routing") {
        meta.index_routing = Some(params::text(own));
    }
    if let Some(own) = value.get("search_routing") {
        meta.search_routing = Some(params::text(own));
    }
    Ok(meta)
}

async fn run(backend: &SharedBackend, changes: Vec<Change>) -> ApiResult<Response> {
    if !changes.is_empty() {
        backend.update_state("index-aliases", Box::new(move |state| alias::apply(state, &changes))).await?;
    }
    Ok(acknowledged())
}

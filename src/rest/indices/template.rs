//! `_template`, `_index_template`, `_component_template`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::state::ClusterState;
use serde_json::{Map, Value, json};

use super::acknowledged;
use crate::backend::SharedBackend;
use crate::coordinate::ids;
use crate::error::{ApiError, ApiResult};
use crate::metadata::create::{CreateIndex, build, compile_mapping, untyped_mapping};
use crate::metadata::template::{self, Composed};
use crate::metadata::{alias, name, settings, value};
use crate::rest::filter::glob;
use crate::rest::http::warning;
use crate::rest::params::{self, flag, parse_exception, strings};
use crate::rest::request::{Request, Response};

/// Which family of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Legacy,
    Index,
    Component,
}

impl Family {
    fn of(self, state: &ClusterState) -> &BTreeMap<String, Arc<Value>> {
        match self {
            Family::Legacy => &state.templates,
            Family::Index => &state.index_templates,
            Family::Component => &state.component_templates,
        }
    }

    fn of_mut(self, state: &mut ClusterState) -> &mut BTreeMap<String, Arc<Value>> {
        match self {
            Family::Legacy => &mut state.templates,
            Family::Index => &mut state.index_templates,
            Family::Component => &mut state.component_templates,
        }
    }
}

fn invalid(name: &str, why: &str) -> ApiError {
    ApiError::new(
        400,
        "invalid_index_template_exception",
        format!("index_template [{name}] invalid, cause [Validation Failed: 1: {why};]"),
    )
}

fn check_name(name: &str) -> ApiResult<()> {
    let why = if name.is_empty() {
        "name is missing"
    } else if name.contains(' ') {
        "name must not contain a space"
    } else if name.contains(',') {
        "name must not contain a ','"
    } else if name.contains('#') {
        "name must not contain a '#'"
    } else if name.starts_with('_') {
        "name must not start with '_'"
    } else if name.chars().any(char::is_uppercase) {
        "name must be lower cased"
    } else {
        return Ok(());
    };
    Err(invalid(name, why))
}

/// Checks and normalises `settings`, `mappings`, `aliases` of a template body.
fn normal_body(body: &Value, typed: bool) -> ApiResult<Map<String, Value>> {
    let mut out = Map::new();
    let body = params::object(body, "template")?;
    for (key, value) in body {
        match key.as_str() {
            "settings" => {
                let flat = settings::normalise(value)?;
                settings::check(&flat, false)?;
                out.insert("settings".into(), value::nest(&flat));
            }
            "mappings" => {
                let mapping = untyped_mapping(value, typed)?;
                out.insert("mappings".into(), if mapping.is_null() { json!({}) } else { mapping });
            }
            "aliases" => {
                let mut aliases = Map::new();
                for (alias_name, body) in params::object(value, "aliases")? {
                    name::check_alias_name(alias_name)?;
                    aliases.insert(alias_name.clone(), alias::shown(&alias::parse(body)?));
                }
                out.insert("aliases".into(), Value::Object(aliases));
            }
            other => return Err(parse_exception(format!("unknown key [{other}] in the template "))),
        }
    }
    Ok(out)
}

/// Checks that a mapping compiles with the settings it comes with.
fn check_compiles(parts: &Composed) -> ApiResult<()> {
    settings::check(&parts.settings, true)?;
    if parts.mapping.is_object() {
        compile_mapping(&parts.mapping, &parts.settings)?;
    }
    Ok(())
}

/// `PUT|POST /_template/{name}`
pub async fn put_legacy(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let template_name = request.param("name").unwrap_or("").to_owned();
    let typed = flag(&request, "include_type_name", false)?;
    let create = flag(&request, "create", false)?;
    let body = params::required_json(&mut request).await?;
    let body = params::object(&body, "template")?;
    let mut parts = Map::new();
    let mut patterns = Vec::new();
    let mut out = Map::new();
    out.insert("order".into(), params::int(&request, "order")?.unwrap_or(0).into());
    for (key, value) in body {
        match key.as_str() {
            "index_patterns" => patterns = strings(value),
            "template" => patterns = strings(value),
            "order" => {
                let order = value.as_i64().or_else(|| value.as_str().and_then(|s| s.parse().ok()));
                let order = order.ok_or_else(|| {
                    ApiError::illegal_argument(format!("Failed to parse order [{}]", params::text(value)))
                })?;
                out.insert("order".into(), order.into());
            }
            "version" => {
                if !value.is_i64() {
                    return Err(ApiError::illegal_argument("Malformed [version] value, should be an integer"));
                }
                out.insert("version".into(), value.clone());
            }
            "settings" | "mappings" | "aliases" => {
                parts.insert(key.clone(), value.clone());
            }
            other => {
                return Err(ApiError::new(400, "parse_exception", format!("unknown key [{other}] in the template ")));
            }
        }
    }
    if patterns.is_empty() {
        return Err(ApiError::validation(&["index patterns are missing".to_owned()]));
    }
    check_name(&template_name)?;
    check_patterns(&template_name, &patterns)?;
    out.insert("index_patterns".into(), json!(patterns));
    let parts = normal_body(&Value::Object(parts), typed)?;
    let mut composed = Composed::default();
    composed.add(&Value::Object(parts.clone()));
    check_compiles(&composed)?;
    for key in ["settings", "mappings", "aliases"] {
        out.insert(key.into(), parts.get(key).cloned().unwrap_or_else(|| json!({})));
    }
    let mut response = acknowledged();
    let deprecated = request.param("include_type_name").is_some();
    store(backend, Family::Legacy, template_name, Value::Object(out), create).await?;
    if deprecated {
        response.headers.push(warning("[types removal] Specifying include_type_name in put index template requests is deprecated. The parameter will be removed in the next major version."));
    }
    Ok(response)
}

fn check_patterns(template_name: &str, patterns: &[String]) -> ApiResult<()> {
    for pattern in patterns {
        let why = if pattern.contains(' ') {
            "must not contain a space".to_owned()
        } else if pattern.contains(',') {
            "must not contain a ','".to_owned()
        } else if pattern.contains('#') {
            "must not contain a '#'".to_owned()
        } else if pattern.contains(':') {
            "must not contain a ':'".to_owned()
        } else if pattern.starts_with('_') {
            "must not start with '_'".to_owned()
        } else {
            continue;
        };
        return Err(invalid(template_name, &format!("index_pattern [{pattern}] {why}")));
    }
    Ok(())
}

async fn store(backend: &SharedBackend, family: Family, name: String, body: Value, create: bool) -> ApiResult<()> {
    backend
        .update_state(
            "put-template",
            Box::new(move |state| {
                let known = family.of(state).get(&name);
                if create && known.is_some() {
                    let what = match family {
                        Family::Legacy => "index_template",
                        Family::Index => "index template",
                        Family::Component => "component template",
                    };
                    return Err(ApiError::illegal_argument(format!("{what} [{name}] already exists")));
                }
                if known.is_some_and(|k| **k == body) {
                    return Ok(None);
                }
                if family == Family::Component && known.is_some() {
                    check_users_of_component(state, &name, &body)?;
                }
                let mut next = state.clone();
                family.of_mut(&mut next).insert(name.clone(), Arc::new(body.clone()));
                Ok(Some(next))
            }),
        )
        .await
        .map(|_| ())
}

/// A changed component must still compile in every template that uses it.
fn check_users_of_component(state: &ClusterState, component: &str, body: &Value) -> ApiResult<()> {
    let mut next = state.clone();
    next.component_templates.insert(component.to_owned(), Arc::new(body.clone()));
    for (name, template) in &next.index_templates {
        if strings(template.get("composed_of").unwrap_or(&Value::Null)).iter().any(|c| c == component) {
            check_compiles(&template::compose_index_template(&next, template)).map_err(|cause| {
                ApiError::illegal_argument(format!(
                    "updating component template [{component}] results in invalid composable template [{name}] after templates are merged"
                ))
                .because(cause)
            })?;
        }
    }
    Ok(())
}

/// Templates whose names match; 404 for a plain name that is not there.
fn matching(state: &ClusterState, family: Family, names: Option<&str>) -> Vec<(String, Arc<Value>)> {
    let all = family.of(state);
    let Some(names) = names.filter(|n| !n.is_empty()) else {
        return all.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    };
    let patterns = params::split_list(names);
    all.iter().filter(|(n, _)| patterns.iter().any(|p| glob(p, n))).map(|(n, t)| (n.clone(), t.clone())).collect()
}

fn missing(family: Family, name: &str) -> ApiError {
    let what = match family {
        Family::Legacy | Family::Index => "index template matching",
        Family::Component => "component template matching",
    };
    ApiError::new(404, "resource_not_found_exception", format!("{what} [{name}] not found"))
}

fn show_settings(template: &Value, flat: bool) -> Value {
    let mut shown = template.clone();
    if flat
        && let Some(settings) = shown.get_mut("settings")
        && let Ok(own) = settings::normalise(settings)
    {
        *settings = settings::shown(&own, true);
    }
    shown
}

/// `GET /_template[/{name}]`
pub async fn get_legacy(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let flat = flag(&request, "flat_settings", false)?;
    let typed = flag(&request, "include_type_name", false)?;
    let state = backend.state();
    let found = matching(&state, Family::Legacy, request.param("name"));
    let plain = request.param("name").is_some_and(|n| !n.contains('*'));
    let status = if found.is_empty() && plain { 404 } else { 200 };
    let mut out = Map::new();
    for (name, template) in found {
        let mut shown = show_settings(&template, flat);
        if typed && shown["mappings"].as_object().is_some_and(|m| !m.is_empty()) {
            shown["mappings"] = json!({ "_doc": shown["mappings"] });
        }
        out.insert(name, shown);
    }
    let mut response = Response::json(status, Value::Object(out));
    if request.param("include_type_name").is_some() {
        response.headers.push(warning("[types removal] Specifying include_type_name in get index template requests is deprecated. The parameter will be removed in the next major version."));
    }
    Ok(response)
}

async fn remove(backend: &SharedBackend, request: &Request, family: Family) -> ApiResult<Response> {
    let name = request.param("name").unwrap_or("").to_owned();
    backend
        .update_state(
            "remove-template",
            Box::new(move |state| {
                let patterns = params::split_list(&name);
                let doomed: Vec<String> =
                    family.of(state).keys().filter(|n| patterns.iter().any(|p| glob(p, n))).cloned().collect();
                if doomed.is_empty() {
                    if patterns.iter().all(|p| p == "*" || (family != Family::Legacy && p.contains('*'))) {
                        return Ok(None);
                    }
                    return Err(match family {
                        Family::Legacy => ApiError::new(
                            404,
                            "index_template_missing_exception",
                            format!("index_template [{name}] missing"),
                        ),
                        _ => ApiError::new(
                            404,
                            "index_template_missing_exception",
                            format!("index_template [{name}] missing"),
                        ),
                    });
                }
                if family == Family::Component {
                    let users: Vec<&String> = state
                        .index_templates
                        .iter()
                        .filter(|(_, t)| {
                            strings(t.get("composed_of").unwrap_or(&Value::Null)).iter().any(|c| doomed.contains(c))
                        })
                        .map(|(n, _)| n)
                        .collect();
                    if !users.is_empty() {
                        let users: Vec<&str> = users.iter().map(|s| s.as_str()).collect();
                        return Err(ApiError::illegal_argument(format!(
                            "component templates [{}] cannot be removed as they are still in use by index templates [{}]",
                            doomed.join(","),
                            users.join(",")
                        )));
                    }
                }
                let mut next = state.clone();
                for name in doomed {
                    family.of_mut(&mut next).remove(&name);
                }
                Ok(Some(next))
            }),
        )
        .await?;
    Ok(acknowledged())
}

/// `DELETE /_template/{name}`
pub async fn delete_legacy(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    remove(backend, &request, Family::Legacy).await
}

/// `DELETE /_index_template/{name}`
pub async fn delete_index(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    remove(backend, &request, Family::Index).await
}

/// `DELETE /_component_template/{name}`
pub async fn delete_component(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    remove(backend, &request, Family::Component).await
}

/// Reads the body of a composable template.
fn parse_index_template(name: &str, body: &Value) -> ApiResult<Value> {
    let mut out = Map::new();
    for (key, value) in params::object(body, "index_template")? {
        match key.as_str() {
            "index_patterns" => {
                out.insert(key.clone(), json!(strings(value)));
            }
            "template" => {
                out.insert(key.clone(), Value::Object(normal_body(value, false)?));
            }
            "composed_of" => {
                out.insert(key.clone(), json!(strings(value)));
            }
            "priority" | "version" => {
                let number = value.as_i64().or_else(|| value.as_str().and_then(|s| s.parse().ok()));
                out.insert(key.clone(), number.map_or(Value::Null, Value::from));
            }
            "_meta" | "data_stream" => {
                out.insert(key.clone(), value.clone());
            }
            other => {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [index_template] unknown field [{other}]"),
                ));
            }
        }
    }
    let Some(patterns) = out.get("index_patterns").map(strings) else {
        return Err(ApiError::illegal_argument("Required [index_patterns]"));
    };
    if patterns.is_empty() {
        return Err(ApiError::validation(&["index patterns must be specified".to_owned()]));
    }
    if template::number(body, "priority") < 0 {
        return Err(ApiError::validation(&["index template priority must be >= 0".to_owned()]));
    }
    check_name(name)?;
    check_patterns(name, &patterns)?;
    out.entry("composed_of".to_owned()).or_insert_with(|| json!([]));
    Ok(Value::Object(out))
}

/// Checks a composable template against the state it goes into.
fn check_index_template(state: &ClusterState, name: &str, template: &Value) -> ApiResult<()> {
    let absent: Vec<String> =
        strings(&template["composed_of"]).into_iter().filter(|c| !state.component_templates.contains_key(c)).collect();
    if !absent.is_empty() {
        return Err(ApiError::new(
            400,
            "invalid_index_template_exception",
            format!(
                "index_template [{name}] invalid, cause [index template [{name}] specifies component templates [{}] that do not exist]",
                absent.join(", ")
            ),
        ));
    }
    let same: Vec<(&String, &Arc<Value>)> = state
        .index_templates
        .iter()
        .filter(|(other, t)| {
            other.as_str() != name
                && template::number(t, "priority") == template::number(template, "priority")
                && overlap(&strings(&t["index_patterns"]), &strings(&template["index_patterns"]))
        })
        .collect();
    if !same.is_empty() {
        let names: Vec<&str> = same.iter().map(|(n, _)| n.as_str()).collect();
        let detail: Vec<String> =
            same.iter().map(|(n, t)| format!("{n} => [{}]", strings(&t["index_patterns"]).join(", "))).collect();
        return Err(ApiError::illegal_argument(format!(
            "index template [{name}] has index patterns [{}] matching patterns from existing templates [{}] with patterns ({}) that have the same priority [{}], multiple index templates may not match during index creation, please use a different priority",
            strings(&template["index_patterns"]).join(", "),
            names.join(","),
            detail.join(","),
            template::number(template, "priority")
        )));
    }
    check_compiles(&template::compose_index_template(state, template)).map_err(|cause| {
        ApiError::illegal_argument(format!("composable template [{name}] template after composition is invalid"))
            .because(cause)
    })
}

/// Whether some name could match patterns of both lists.
fn overlap(a: &[String], b: &[String]) -> bool {
    a.iter().any(|x| b.iter().any(|y| patterns_meet(x.as_bytes(), y.as_bytes(), 0)))
}

fn patterns_meet(a: &[u8], b: &[u8], depth: usize) -> bool {
    if depth > 512 {
        return true;
    }
    match (a.first(), b.first()) {
        (None, None) => true,
        (Some(b'*'), _) if a.len() == 1 => true,
        (_, Some(b'*')) if b.len() == 1 => true,
        (Some(b'*'), _) => {
            patterns_meet(&a[1..], b, depth + 1) || (!b.is_empty() && patterns_meet(a, &b[1..], depth + 1))
        }
        (_, Some(b'*')) => {
            patterns_meet(a, &b[1..], depth + 1) || (!a.is_empty() && patterns_meet(&a[1..], b, depth + 1))
        }
        (Some(x), Some(y)) => x == y && patterns_meet(&a[1..], &b[1..], depth + 1),
        _ => false,
    }
}

/// Legacy templates that a composable one will keep out.
fn shadowed<'a>(state: &'a ClusterState, template: &Value) -> Vec<(&'a String, Vec<String>)> {
    let patterns = strings(&template["index_patterns"]);
    state
        .templates
        .iter()
        .map(|(n, t)| (n, strings(&t["index_patterns"])))
        .filter(|(_, other)| overlap(other, &patterns))
        .collect()
}

/// `PUT|POST /_index_template/{name}`
pub async fn put_index(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let template_name = request.param("name").unwrap_or("").to_owned();
    let create = flag(&request, "create", false)?;
    let body = params::required_json(&mut request).await?;
    let template = parse_index_template(&template_name, &body)?;
    let state = backend.state();
    check_index_template(&state, &template_name, &template)?;
    let mut response = acknowledged();
    let others = shadowed(&state, &template);
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|(n, _)| n.as_str()).collect();
        let detail: Vec<String> = others.iter().map(|(n, p)| format!("{n} => [{}]", p.join(", "))).collect();
        response.headers.push(warning(&format!(
            "index template [{template_name}] has index patterns [{}] matching patterns from existing older templates [{}] with patterns ({}); this template [{template_name}] will take precedence during new index creation",
            strings(&template["index_patterns"]).join(", "),
            names.join(","),
            detail.join(",")
        )));
    }
    store(backend, Family::Index, template_name, template, create).await?;
    Ok(response)
}

/// `GET /_index_template[/{name}]`
pub async fn get_index(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    list(backend, &request, Family::Index, "index_templates", "index_template").await
}

/// `GET /_component_template[/{name}]`
pub async fn get_component(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    list(backend, &request, Family::Component, "component_templates", "component_template").await
}

async fn list(
    backend: &SharedBackend,
    request: &Request,
    family: Family,
    plural: &str,
    singular: &str,
) -> ApiResult<Response> {
    let flat = flag(request, "flat_settings", false)?;
    let state = backend.state();
    let name = request.param("name");
    let found = matching(&state, family, name);
    if let Some(name) = name
        && found.is_empty()
        && !name.contains('*')
    {
        return Err(missing(family, name));
    }
    let items: Vec<Value> = found
        .into_iter()
        .map(|(name, template)| {
            let mut shown = (*template).clone();
            if let Some(inner) = shown.get_mut("template") {
                *inner = show_settings(inner, flat);
            }
            json!({ "name": name, singular: shown })
        })
        .collect();
    Ok(Response::ok(json!({ plural: items })))
}

/// `PUT|POST /_component_template/{name}`
pub async fn put_component(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let template_name = request.param("name").unwrap_or("").to_owned();
    let create = flag(&request, "create", false)?;
    let body = params::required_json(&mut request).await?;
    let mut out = Map::new();
    for (key, value) in params::object(&body, "component_template")? {
        match key.as_str() {
            "template" => {
                let body = normal_body(value, false)?;
                let mut composed = Composed::default();
                composed.add(&Value::Object(body.clone()));
                check_compiles(&composed)?;
                out.insert(key.clone(), Value::Object(body));
            }
            "version" | "_meta" => {
                out.insert(key.clone(), value.clone());
            }
            other => {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [component_template] unknown field [{other}]"),
                ));
            }
        }
    }
    if !out.contains_key("template") {
        return Err(ApiError::illegal_argument("Required [template]"));
    }
    check_name(&template_name)?;
    store(backend, Family::Component, template_name, Value::Object(out), create).await?;
    Ok(acknowledged())
}

/// `POST /_index_template/_simulate_index/{name}`
pub async fn simulate_index(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let index_name = request.param("name").unwrap_or("").to_owned();
    let body = params::body_json(&mut request).await?;
    let mut state = (*backend.state()).clone();
    if let Some(body) = body {
        let template_name =
            format!("simulate_index_template_{}", ids::uuid(backend.as_ref()).to_lowercase().replace(['_', '-'], ""));
        let template = parse_index_template(&template_name, &body)?;
        check_index_template(&state, &template_name, &template)?;
        state.index_templates.insert(template_name, Arc::new(template));
    }
    let Some((winner, template)) = template::best(&state, &index_name, false) else {
        return Ok(Response::ok(json!({})));
    };
    let overlapping = overlapping_for(&state, &index_name, winner);
    simulated(backend, &state, template, overlapping, Some(&index_name))
}

/// `POST /_index_template/_simulate[/{name}]`
pub async fn simulate(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let name = request.param("name").map(str::to_owned);
    let body = params::body_json(&mut request).await?;
    let state = backend.state();
    let (name, template) = match (name, body) {
        (None, None) => {
            return Err(ApiError::validation(&["a template name or body is required to simulate".to_owned()]));
        }
        (Some(name), None) => {
            let template = state.index_templates.get(&name).cloned().ok_or_else(|| {
                ApiError::illegal_argument(format!("unable to simulate template [{name}] that does not exist"))
            })?;
            (name, (*template).clone())
        }
        (name, Some(body)) => {
            let name = name.unwrap_or_else(|| "simulate_template".to_owned());
            let template = parse_index_template(&name, &body)?;
            check_index_template(&state, &name, &template)?;
            (name, template)
        }
    };
    let patterns = strings(&template["index_patterns"]);
    let mut overlapping = Vec::new();
    for (other, t) in &state.templates {
        if overlap(&strings(&t["index_patterns"]), &patterns) {
            overlapping.push(json!({ "name": other, "index_patterns": t["index_patterns"] }));
        }
    }
    for (other, t) in &state.index_templates {
        if *other != name && overlap(&strings(&t["index_patterns"]), &patterns) {
            overlapping.push(json!({ "name": other, "index_patterns": t["index_patterns"] }));
        }
    }
    simulated(backend, &state, &template, overlapping, None)
}

fn overlapping_for(state: &ClusterState, index: &str, winner: &str) -> Vec<Value> {
    let mut out = Vec::new();
    for (name, t) in &state.templates {
        if template::matches(t, index) {
            out.push(json!({ "name": name, "index_patterns": t["index_patterns"] }));
        }
    }
    for (name, t) in &state.index_templates {
        if name != winner && template::matches(t, index) {
            out.push(json!({ "name": name, "index_patterns": t["index_patterns"] }));
        }
    }
    out
}

fn simulated(
    backend: &SharedBackend,
    state: &ClusterState,
    template: &Value,
    overlapping: Vec<Value>,
    index: Option<&str>,
) -> ApiResult<Response> {
    let composed = template::compose_index_template(state, template);
    let settings = composed.settings.clone();
    let request = CreateIndex {
        name: index.unwrap_or("simulate").to_owned(),
        uuid: ids::uuid(backend.as_ref()),
        now_ms: backend.now_ms(),
        ..CreateIndex::default()
    };
    let built = build(state, &request, composed)?;
    Ok(Response::ok(json!({
        "template": {
            "settings": settings::shown(&settings, false),
            "mappings": built.mapping,
            "aliases": alias::all_shown(&built),
        },
        "overlapping": overlapping,
    })))
}

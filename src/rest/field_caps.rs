//! `_field_caps`: what fields of several indices can do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::filter::glob;
use super::params::{self, flag, indices_options, strings};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::search::{SearchPlan, Target, search};
use crate::dsl::{SearchBody, parse_query};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{IndicesOptions, resolve};
use ringdex_engine::search::TrackTotalHits;

/// What a field can do in one index.
#[derive(Clone, Debug, PartialEq)]
struct Capability {
    kind: String,
    searchable: bool,
    aggregatable: bool,
    meta: Map<String, Value>,
}

/// Name, type, searchable, aggregatable.
const METADATA: &[(&str, &str, bool, bool)] = &[
    ("_field_names", "_field_names", true, false),
    ("_id", "_id", true, true),
    ("_ignored", "_ignored", true, false),
    ("_index", "_index", true, true),
    ("_routing", "_routing", true, false),
    ("_seq_no", "_seq_no", true, true),
    ("_source", "_source", false, false),
    ("_type", "_type", true, true),
    ("_version", "_version", false, true),
];

/// All fields of a mapping with what they can do; objects too.
fn capabilities(mapping: &Value) -> BTreeMap<String, Capability> {
    let mut out = BTreeMap::new();
    let mut aliases = Vec::new();
    walk(mapping.get("properties"), "", 0, &mut out, &mut aliases);
    for (path, target) in aliases {
        if let Some(own) = out.get(&target).cloned() {
            out.insert(path, own);
        }
    }
    for (name, kind, searchable, aggregatable) in METADATA {
        let (kind, meta) = ((*kind).to_owned(), Map::new());
        out.insert((*name).to_owned(), Capability { kind, searchable: *searchable, aggregatable: *aggregatable, meta });
    }
    out
}

fn walk(
    properties: Option<&Value>,
    prefix: &str,
    depth: usize,
    out: &mut BTreeMap<String, Capability>,
    aliases: &mut Vec<(String, String)>,
) {
    let Some(Value::Object(properties)) = properties else { return };
    if depth > 50 {
        return;
    }
    for (name, field) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let kind = field.get("type").and_then(Value::as_str).unwrap_or("object");
        let on = |key: &str, default: bool| field.get(key).map_or(default, |v| *v == true || v == "true");
        let (searchable, aggregatable) = match kind {
            "object" | "nested" => (false, false),
            "alias" => {
                if let Some(target) = field.get("path").and_then(Value::as_str) {
                    aliases.push((path.clone(), target.to_owned()));
                }
                continue;
            }
            "text" => (on("index", true), on("fielddata", false)),
            "binary" => (false, on("doc_values", false)),
            "search_as_you_type" | "annotated_text" => (on("index", true), false),
            _ => (on("index", true), on("doc_values", true)),
        };
        let meta = field.get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
        out.insert(path.clone(), Capability { kind: kind.to_owned(), searchable, aggregatable, meta });
        walk(field.get("properties"), &path, depth + 1, out, aliases);
        walk(field.get("fields"), &path, depth + 1, out, aliases);
    }
}

/// `GET|POST [/{index}]/_field_caps`
pub async fn field_caps(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut patterns = params::list(&request, "fields").unwrap_or_default();
    let mut filter = None;
    if let Value::Object(map) = &body {
        for (key, value) in map {
            match key.as_str() {
                "fields" => patterns = strings(value),
                "index_filter" => filter = Some(parse_query(value)?),
                other => {
                    return Err(ApiError::new(
                        400,
                        "x_content_parse_exception",
                        format!("[1:2] [field_caps_request] unknown field [{other}]"),
                    ));
                }
            }
        }
    }
    if patterns.is_empty() {
        return Err(ApiError::validation(&["no fields specified".to_owned()]));
    }
    let include_unmapped = flag(&request, "include_unmapped", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let mut indices = resolve(&backend.state(), &params::indices(&request), options, backend.now_ms())?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(filter) = filter {
        let mut kept = Vec::new();
        for index in indices {
            let targets = (0..index.number_of_shards)
                .map(|shard| Target {
                    index: index.clone(),
                    shard,
                    filter: None,
                    boost: 1.0,
                    context: None,
                    after: None,
                    slice: None,
                })
                .collect();
            let mut own = SearchBody::default();
            own.request.query = Some(filter.clone());
            own.request.top = 0;
            own.request.now_ms = backend.now_ms();
            own.request.terminate_after = Some(1);
            own.request.track_total_hits = TrackTotalHits::Limit(1);
            let plan = SearchPlan {
                request: own.request,
                fetch: own.fetch,
                from: 0,
                size: 0,
                deadline_ms: None,
                keep_alive_ms: None,
                request_cache: None,
                targets,
            };
            if search(backend, &plan).await?.total.is_some_and(|(n, _)| n > 0) {
                kept.push(index);
            }
        }
        indices = kept;
    }
    let per_index: Vec<(String, BTreeMap<String, Capability>)> = indices
        .iter()
        .map(|index| {
            let mut all = capabilities(&index.mapping);
            all.retain(|field, _| patterns.iter().any(|p| glob(p, field)));
            (index.name.clone(), all)
        })
        .collect();
    let names: Vec<&String> = per_index.iter().map(|(name, _)| name).collect();
    Ok(Response::ok(json!({ "indices": names, "fields": merged(&per_index, include_unmapped) })))
}

fn merged(per_index: &[(String, BTreeMap<String, Capability>)], include_unmapped: bool) -> Value {
    let mut by_field: BTreeMap<&str, BTreeMap<&str, Vec<(&str, &Capability)>>> = BTreeMap::new();
    for (index, fields) in per_index {
        for (field, capability) in fields {
            by_field.entry(field).or_default().entry(&capability.kind).or_default().push((index, capability));
        }
    }
    let mut out = Map::new();
    for (field, kinds) in by_field {
        let mapped: BTreeSet<&str> = kinds.values().flatten().map(|(index, _)| *index).collect();
        let unmapped: Vec<&str> = per_index.iter().map(|(n, _)| n.as_str()).filter(|n| !mapped.contains(n)).collect();
        let several = kinds.len() > 1 || (include_unmapped && !unmapped.is_empty());
        let mut shown = Map::new();
        for (kind, list) in kinds {
            let searchable = list.iter().all(|(_, c)| c.searchable);
            let aggregatable = list.iter().all(|(_, c)| c.aggregatable);
            let lacking = |has: fn(&Capability) -> bool| -> Vec<&str> {
                list.iter().filter(|(_, c)| !has(c)).map(|(n, _)| *n).collect()
            };
            let mut one = json!({ "type": kind, "searchable": searchable, "aggregatable": aggregatable });
            if several {
                one["indices"] = list.iter().map(|(n, _)| *n).collect::<Vec<_>>().into();
            }
            let without = lacking(|c| c.searchable);
            if !without.is_empty() && without.len() < list.len() {
                one["non_searchable_indices"] = without.into();
            }
            let without = lacking(|c| c.aggregatable);
            if !without.is_empty() && without.len() < list.len() {
                one["non_aggregatable_indices"] = without.into();
            }
            let mut meta: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for (key, value) in list.iter().flat_map(|(_, c)| &c.meta) {
                meta.entry(key).or_default().insert(params::text(value));
            }
            if !meta.is_empty() {
                one["meta"] = json!(meta);
            }
            shown.insert(kind.to_owned(), one);
        }
        if include_unmapped && !unmapped.is_empty() {
            shown.insert(
                "unmapped".into(),
                json!({ "type": "unmapped", "searchable": false, "aggregatable": false, "indices": unmapped }),
            );
        }
        out.insert(field.to_owned(), Value::Object(shown));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_a_field_are_told_apart() {
        let per_index = vec![
            ("a".to_owned(), capabilities(&json!({"properties": {"x": {"type": "long"}, "t": {"type": "text"}}}))),
            ("b".to_owned(), capabilities(&json!({"properties": {"x": {"type": "long", "index": false}}}))),
            (
                "c".to_owned(),
                capabilities(
                    &json!({"properties": {"x": {"type": "keyword"}, "o": {"properties": {"y": {"type": "ip"}}}}}),
                ),
            ),
        ];
        let got = merged(&per_index, true);
        assert_eq!(
            got["x"]["long"],
            json!({"type": "long", "searchable": false, "aggregatable": true, "indices": ["a", "b"], "non_searchable_indices": ["b"]})
        );
        assert_eq!(got["x"]["keyword"]["indices"], json!(["c"]));
        assert_eq!(got["t"]["text"]["aggregatable"], false);
        assert_eq!(got["t"]["unmapped"]["indices"], json!(["b", "c"]));
        assert_eq!(got["o.y"]["ip"]["searchable"], true);
        assert_eq!(got["o"]["object"]["searchable"], false);
        let got = merged(&per_index, false);
        assert!(got["t"].get("unmapped").is_none() && got["t"]["text"].get("indices").is_none());
    }
}

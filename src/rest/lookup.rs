//! `terms` queries whose values stand in a document: they are fetched before the search goes to its shards.

use serde_json::{Map, Value};

use super::params::text;
use crate::backend::SharedBackend;
use crate::coordinate::routing::shard_of;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::resolve_single;
use crate::rest::indices::lifecycle::shard_id;
use crate::shard::message::{GetRequest, ShardRequest, ShardResponse, VersionMatch};

/// Queries nest less than this; the parser refuses deeper ones.
const DEPTH_MAX: usize = 100;

/// Where a lookup stands in a body (`query.bool.must.0.terms.user`), and what it asks for.
struct Lookup {
    pointer: String,
    index: String,
    id: String,
    path: String,
    routing: Option<String>,
}

/// The body with values in place of lookups; none when it has no lookups.
pub async fn resolve(backend: &SharedBackend, body: &Value) -> ApiResult<Option<Value>> {
    let mut lookups = Vec::new();
    find(body, &mut String::new(), 0, &mut lookups);
    if lookups.is_empty() {
        return Ok(None);
    }
    let mut resolved = body.clone();
    for lookup in lookups {
        let values = fetch(backend, &lookup).await?;
        if let Some(slot) = resolved.pointer_mut(&lookup.pointer) {
            *slot = Value::Array(values);
        }
    }
    Ok(Some(resolved))
}

fn find(value: &Value, pointer: &mut String, depth: usize, out: &mut Vec<Lookup>) {
    if depth > DEPTH_MAX {
        return;
    }
    let step = |pointer: &mut String, key: &str| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        length
    };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let length = step(pointer, key);
                match inner {
                    Value::Object(terms) if key == "terms" => {
                        for (field, spec) in terms {
                            if let Value::Object(spec) = spec {
                                let length = step(pointer, field);
                                out.extend(read(pointer, spec));
                                pointer.truncate(length);
                            }
                        }
                    }
                    _ => find(inner, pointer, depth + 1, out),
                }
                pointer.truncate(length);
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                let length = step(pointer, &i.to_string());
                find(inner, pointer, depth + 1, out);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// An object with `index`, `id` and `path` is a lookup; anything else is left for the parser to judge.
fn read(pointer: &str, spec: &Map<String, Value>) -> Option<Lookup> {
    if spec.keys().any(|k| !matches!(k.as_str(), "index" | "type" | "id" | "path" | "routing")) {
        return None;
    }
    Some(Lookup {
        pointer: pointer.to_owned(),
        index: spec.get("index").map(text)?,
        id: spec.get("id").map(text)?,
        path: spec.get("path").map(text)?,
        routing: spec.get("routing").map(text),
    })
}

async fn fetch(backend: &SharedBackend, lookup: &Lookup) -> ApiResult<Vec<Value>> {
    let index = resolve_single(&backend.state(), &lookup.index, backend.now_ms())?;
    let shard = shard_of(&index, &lookup.id, lookup.routing.as_deref());
    let get = GetRequest {
        id: lookup.id.clone(),
        routing: lookup.routing.clone(),
        realtime: true,
        refresh: false,
        version: VersionMatch::Any,
        source: Default::default(),
        stored_fields: Vec::new(),
    };
    let answer = backend.shard(&shard_id(&index, shard), ShardRequest::Get(vec![get])).await?;
    let ShardResponse::Get(mut results) = answer else {
        return Err(ApiError::new(500, "illegal_state_exception", "a get was answered by something else"));
    };
    let Some(result) = results.pop() else { return Ok(Vec::new()) };
    let Some(source) = result?.source else { return Ok(Vec::new()) };
    let source: Value = super::params::parse_json(&source)?;
    let mut values = Vec::new();
    let path: Vec<&str> = lookup.path.split('.').collect();
    collect(&source, &path, &mut values);
    Ok(values)
}

/// All scalars at a path, through lists.
fn collect(value: &Value, path: &[&str], out: &mut Vec<Value>) {
    match (value, path.split_first()) {
        (Value::Array(list), _) => list.iter().for_each(|v| collect(v, path, out)),
        (Value::Object(map), Some((head, rest))) => {
            if let Some(inner) = map.get(*head) {
                collect(inner, rest, out);
            }
        }
        (Value::Null | Value::Object(_), None) => {}
        (scalar, None) => out.push(scalar.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lookups_are_found_wherever_they_stand() {
        let body = json!({"query": {"bool": {"must": [
            {"terms": {"user": {"index": "u", "id": "1", "path": "a.b"}}},
            {"terms": {"user": ["x"]}},
        ]}}, "aggs": {"t": {"terms": {"field": "x", "order": {"_key": "asc"}}}}});
        let mut found = Vec::new();
        find(&body, &mut String::new(), 0, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pointer, "/query/bool/must/0/terms/user");
        let mut values = Vec::new();
        collect(&json!({"a": [{"b": 1}, {"b": [2, 3]}]}), &["a", "b"], &mut values);
        assert_eq!(values, [json!(1), json!(2), json!(3)]);
    }
}

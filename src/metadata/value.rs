//! Settings and mappings as JSON trees: flatten, nest, merge.

use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// Settings nest less than this.
const DEPTH_MAX: usize = 50;

/// `{"a":{"b":1},"c.d":true}` as `a.b` to `"1"`, `c.d` to `"true"`; nulls stay, lists become lists of strings.
pub fn flatten(value: &Value) -> ApiResult<Map<String, Value>> {
    let mut out = Map::new();
    match value {
        Value::Null => {}
        Value::Object(map) => walk(map, "", 0, &mut out)?,
        _ => return Err(ApiError::new(400, "parse_exception", "malformed settings: expected an object")),
    }
    Ok(out)
}

fn walk(map: &Map<String, Value>, prefix: &str, depth: usize, out: &mut Map<String, Value>) -> ApiResult<()> {
    if depth > DEPTH_MAX {
        return Err(ApiError::new(400, "parse_exception", "settings are nested too deeply"));
    }
    for (key, value) in map {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => walk(inner, &key, depth + 1, out)?,
            Value::Array(list) if list.iter().any(Value::is_object) => {
                for (i, item) in list.iter().enumerate() {
                    let key = format!("{key}.{i}");
                    match item {
                        Value::Object(inner) => walk(inner, &key, depth + 1, out)?,
                        other => {
                            out.insert(key, scalar(other));
                        }
                    }
                }
            }
            Value::Array(list) => {
                out.insert(key, Value::Array(list.iter().map(scalar).collect()));
            }
            other => {
                out.insert(key, scalar(other));
            }
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(s) => Value::String(s.clone()),
        other => Value::String(other.to_string()),
    }
}

/// The reverse of [`flatten`]. A key that is also a prefix of another keeps its dots.
#[must_use]
pub fn nest(flat: &Map<String, Value>) -> Value {
    let mut root = Map::new();
    let mut keys: Vec<&String> = flat.keys().collect();
    keys.sort();
    for key in keys {
        let value = flat[key].clone();
        let mut node = &mut root;
        let mut rest = key.as_str();
        loop {
            let Some((head, tail)) = rest.split_once('.') else {
                node.insert(rest.to_owned(), value);
                break;
            };
            if matches!(node.get(head), Some(Value::Object(_)) | None) {
                let next = node.entry(head.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(next) = next else { unreachable!("checked above") };
                node = next;
                rest = tail;
            } else {
                node.insert(rest.to_owned(), value);
                break;
            }
        }
    }
    Value::Object(root)
}

/// Puts `over` on top of `base`: objects merge member by member, anything else replaces.
pub fn merge(base: &mut Value, over: &Value) {
    merge_at(base, over, 0);
}

fn merge_at(base: &mut Value, over: &Value, depth: usize) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) if depth < 128 => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(known) => merge_at(known, value, depth + 1),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nest_reverses_flatten() {
        let flat = flatten(&json!({"index": {"number_of_shards": 1, "a.b": true}, "l": [1, "x"], "n": null})).unwrap();
        assert_eq!(
            Value::Object(flat.clone()),
            json!({"index.number_of_shards": "1", "index.a.b": "true", "l": ["1", "x"], "n": null})
        );
        assert_eq!(
            nest(&flat),
            json!({"index": {"number_of_shards": "1", "a": {"b": "true"}}, "l": ["1", "x"], "n": null})
        );
    }

    #[test]
    fn a_prefix_that_is_a_value_keeps_the_dots() {
        let flat = flatten(&json!({"a": 1, "a.b": 2})).unwrap();
        assert_eq!(nest(&flat), json!({"a": "1", "a.b": "2"}));
    }
}

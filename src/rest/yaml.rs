//! `format=yaml`: a JSON tree as YAML text.

use serde_json::Value;

/// YAML in block style; strings are always quoted, so that none is taken for something else.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::from("---\n");
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        scalar => {
            inline(scalar, &mut out);
            out.push('\n');
        }
    }
    out
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn pad(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pad(depth, out);
                out.push_str(&plain_key(key));
                out.push(':');
                member(value, depth, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                pad(depth, out);
                out.push('-');
                if is_block(value) {
                    // The first member stands on the dash's line, the others below it.
                    let mut inner = String::new();
                    block(value, depth + 1, &mut inner);
                    out.push(' ');
                    out.push_str(inner.trim_start_matches(' '));
                } else {
                    out.push(' ');
                    inline(value, out);
                    out.push('\n');
                }
            }
        }
        scalar => inline(scalar, out),
    }
}

fn member(value: &Value, depth: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        block(value, depth + usize::from(value.is_object()), out);
    } else {
        out.push(' ');
        inline(value, out);
        out.push('\n');
    }
}

fn plain_key(key: &str) -> String {
    let plain = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !matches!(key, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}

fn inline(value: &Value, out: &mut String) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nests_objects_and_lists() {
        let got = to_yaml(&json!({"a": [{"b": 1, "c": [1, 2]}, "x"], "1": {}, "d": {"e": null}}));
        assert_eq!(got, "---\na:\n- b: 1\n  c:\n  - 1\n  - 2\n- \"x\"\n\"1\": {}\nd:\n  e: null\n");
    }
}

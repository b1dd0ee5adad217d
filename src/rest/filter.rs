//! `filter_path`: which parts of an answer a client wants.

use serde_json::Value;

/// Compiled `filter_path`: paths to keep and, with a leading `-`, to drop.
#[derive(Debug, Default)]
pub struct PathFilter {
    includes: Vec<Vec<String>>,
    excludes: Vec<Vec<String>>,
}

/// Answers nest less than this; a deeper part is kept or dropped whole.
const DEPTH_MAX: usize = 200;

impl PathFilter {
    /// Reads a comma-separated list; none when it names no path.
    #[must_use]
    pub fn parse(list: &str) -> Option<PathFilter> {
        let mut filter = PathFilter::default();
        for path in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            match path.strip_prefix('-') {
                Some(path) => filter.excludes.push(segments(path)),
                None => filter.includes.push(segments(path)),
            }
        }
        (!filter.includes.is_empty() || !filter.excludes.is_empty()).then_some(filter)
    }

    /// What is left of `value`.
    #[must_use]
    pub fn apply(&self, value: Value) -> Value {
        let empty = if value.is_array() { Value::Array(Vec::new()) } else { Value::Object(serde_json::Map::new()) };
        let mut value = Some(value);
        if !self.excludes.is_empty() {
            let active: Vec<&[String]> = self.excludes.iter().map(Vec::as_slice).collect();
            value = value.and_then(|v| exclude(v, &active, 0));
        }
        if !self.includes.is_empty() {
            let active: Vec<&[String]> = self.includes.iter().map(Vec::as_slice).collect();
            value = value.and_then(|v| include(v, &active, 0));
        }
        value.unwrap_or(empty)
    }
}

/// Splits at dots that no backslash protects.
fn segments(path: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'.') => {
                chars.next();
                out.last_mut().expect("never empty").push('.');
            }
            '.' => out.push(String::new()),
            c => out.last_mut().expect("never empty").push(c),
        }
    }
    out
}

/// Whether `text` matches `pattern`, where `*` stands for any characters.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        if i < p.len() && p[i] == b'*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && p[i] == t[j] {
            i += 1;
            j += 1;
        } else if let Some((si, sj)) = star {
            i = si + 1;
            j = sj + 1;
            star = Some((si, sj + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|b| *b == b'*')
}

/// Paths still to be matched below `key`; `true` when one ended there.
fn step<'a>(active: &[&'a [String]], key: &str) -> (Vec<&'a [String]>, bool) {
    let mut below = Vec::new();
    let mut ended = false;
    for path in active {
        let Some(first) = path.first() else { continue };
        if first == "**" {
            below.push(*path);
            // `**` also stands for no level at all.
            let (more, end) = step(&[&path[1..]], key);
            below.extend(more);
            ended |= end || path.len() == 1;
        } else if glob(first, key) {
            if path.len() == 1 {
                ended = true;
            } else {
                below.push(&path[1..]);
            }
        }
    }
    (below, ended)
}

fn include(value: Value, active: &[&[String]], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    match value {
        Value::Object(map) => {
            let kept: serde_json::Map<String, Value> = map
                .into_iter()
                .filter_map(|(key, value)| {
                    let (below, ended) = step(active, &key);
                    if ended {
                        return Some((key, value));
                    }
                    if below.is_empty() {
                        return None;
                    }
                    include(value, &below, depth + 1).map(|v| (key, v))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(list) => {
            let kept: Vec<Value> = list.into_iter().filter_map(|v| include(v, active, depth + 1)).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

fn exclude(value: Value, active: &[&[String]], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return Some(value);
    }
    match value {
        Value::Object(map) => {
            let was_empty = map.is_empty();
            let kept: serde_json::Map<String, Value> = map
                .into_iter()
                .filter_map(|(key, value)| {
                    let (below, ended) = step(active, &key);
                    if ended {
                        return None;
                    }
                    if below.is_empty() {
                        return Some((key, value));
                    }
                    exclude(value, &below, depth + 1).map(|v| (key, v))
                })
                .collect();
            (was_empty || !kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(list) => {
            let was_empty = list.is_empty();
            let kept: Vec<Value> = list.into_iter().filter_map(|v| exclude(v, active, depth + 1)).collect();
            (was_empty || !kept.is_empty()).then_some(Value::Array(kept))
        }
        scalar => Some(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(filter: &str, want: Value) {
        let value = json!({
            "took": 1,
            "hits": {"total": 2, "hits": [{"_id": "1", "_source": {"a": 1, "b": 2}}, {"_id": "2", "_source": {"a": 3}}]},
            "nodes": {"n1": {"http": {"port": 1}}, "n2": {"jvm": {}}},
        });
        assert_eq!(PathFilter::parse(filter).unwrap().apply(value), want, "{filter}");
    }

    #[test]
    fn keeps_and_drops_paths() {
        check("took", json!({"took": 1}));
        check("took,hits.total", json!({"took": 1, "hits": {"total": 2}}));
        check("hits.hits._id", json!({"hits": {"hits": [{"_id": "1"}, {"_id": "2"}]}}));
        check("h*.hits._so*.b", json!({"hits": {"hits": [{"_source": {"b": 2}}]}}));
        check("**.b", json!({"hits": {"hits": [{"_source": {"b": 2}}]}}));
        check("nodes.*.http", json!({"nodes": {"n1": {"http": {"port": 1}}}}));
        check("none", json!({}));
        check("-hits,-nodes", json!({"took": 1}));
        check("hits.hits.*,-**._source", json!({"hits": {"hits": [{"_id": "1"}, {"_id": "2"}]}}));
    }

    #[test]
    fn globs_match_whole_texts() {
        assert!(glob("a*c*", "abc") && glob("*", "") && glob("a", "a") && glob("*b*", "abc"));
        assert!(!glob("a*c", "abd") && !glob("", "a") && !glob("a", "ab"));
    }
}

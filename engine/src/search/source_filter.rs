//! Parts of a `_source`, by paths with `*`: `GET`, searches, updates and `_source.includes` of a mapping.
//!
//! The bytes are walked once, without a tree: values are copied as they stand, in their order. Rules, as in
//! Elasticsearch: a path includes what is below it; an exclusion wins; an array is like its elements; an object that
//! is not itself included stays only if something in it does.

use std::borrow::Cow;

use super::SourceFilter;
use crate::document::json::{DEPTH_MAX, Json, Next};
use crate::error::{Error, ParseError, Result};
use crate::mapping::dynamic::wildcard;

/// A filter made ready for many documents.
#[derive(Clone, Debug, Default)]
pub struct SourcePaths {
    includes: Vec<String>,
    excludes: Vec<String>,
}

impl SourcePaths {
    /// Patterns to keep (none = all) and to drop.
    #[must_use]
    pub fn new(includes: &[String], excludes: &[String]) -> SourcePaths {
        // `a.*` means what is in `a`; a lone `*` means everything, which is no filter.
        let includes = if includes.iter().any(|p| p == "*") { Vec::new() } else { includes.to_vec() };
        SourcePaths { includes, excludes: excludes.to_vec() }
    }

    /// Whether every document stays as it is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.includes.is_empty() && self.excludes.is_empty()
    }

    fn excluded(&self, path: &str) -> bool {
        self.excludes.iter().any(|pattern| wildcard(pattern, path))
    }

    fn included(&self, path: &str) -> bool {
        self.includes.is_empty() || self.includes.iter().any(|pattern| wildcard(pattern, path))
    }

    /// Whether something below `path` may be included although `path` is not.
    fn may_include_below(&self, path: &str) -> bool {
        self.includes.iter().any(|pattern| may_match_below(pattern, path))
    }

    fn may_exclude_below(&self, path: &str) -> bool {
        self.excludes.iter().any(|pattern| may_match_below(pattern, path))
    }
}

/// Whether `pattern` may match `path` + `.` + something. Exact for patterns without `*`, else no false "no".
fn may_match_below(pattern: &str, path: &str) -> bool {
    let literal = pattern.split('*').next().unwrap_or("");
    if literal.len() > path.len() {
        literal.starts_with(path) && literal.as_bytes()[path.len()] == b'.'
    } else {
        literal.len() < pattern.len() && path.starts_with(literal)
    }
}

/// The wanted part of a document: the very bytes if nothing is filtered. Whether `_source` is wanted at all
/// (`disabled`) is the caller's question.
///
/// # Errors
/// `source` is no JSON object.
pub fn filter<'a>(source: &'a [u8], filter: &SourceFilter) -> Result<Cow<'a, [u8]>> {
    let paths = SourcePaths::new(&filter.includes, &filter.excludes);
    if paths.is_everything() {
        return Ok(Cow::Borrowed(source));
    }
    let mut out = Vec::with_capacity(source.len());
    filter_source(source, &paths, &mut out)?;
    Ok(Cow::Owned(out))
}

/// Appends the wanted part of a document to `out`. On an error `out` is as before.
///
/// # Errors
/// `source` is no JSON object.
pub fn filter_source(source: &[u8], paths: &SourcePaths, out: &mut Vec<u8>) -> Result<()> {
    if paths.is_everything() {
        out.extend_from_slice(source);
        return Ok(());
    }
    let text = std::str::from_utf8(source).map_err(|_| not_json("not UTF-8"))?;
    let before = out.len();
    let mut walk = Walk { json: Json::new(text), paths, path: String::new(), buffer: String::new(), out };
    let result = match walk.json.peek() {
        Ok(Next::Object) => walk.object(paths.includes.is_empty(), 1).map(drop),
        Ok(_) => Err(ParseError::new("json_parse_exception", "not an object")),
        Err(error) => Err(error),
    };
    result.map_err(|error| {
        out.truncate(before);
        not_json(&error.reason)
    })
}

fn not_json(why: &str) -> Error {
    Error::request("parse_exception", format!("failed to parse _source: {why}"))
}

struct Walk<'a, 'o> {
    json: Json<'a>,
    paths: &'a SourcePaths,
    path: String,
    buffer: String,
    out: &'o mut Vec<u8>,
}

impl Walk<'_, '_> {
    /// Writes an object's wanted members, braces in any case; answers whether there were some. `inside`: the object
    /// or one above it is included.
    fn object(&mut self, inside: bool, depth: usize) -> Result<bool, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.json.too_deep());
        }
        self.json.open();
        self.out.push(b'{');
        let path_length = self.path.len();
        let mut buffer = String::new();
        let (mut first, mut any) = (true, false);
        while let Some((key, raw)) = self.json.key_raw(first, &mut buffer)? {
            first = false;
            if path_length > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
            any |= self.member(raw, any, inside, depth)?;
            self.path.truncate(path_length);
        }
        self.out.push(b'}');
        Ok(any)
    }

    /// One member: comma, key and value if it is wanted.
    fn member(&mut self, raw_key: &str, comma: bool, inside: bool, depth: usize) -> Result<bool, ParseError> {
        if self.paths.excluded(&self.path) {
            self.skip(depth)?;
            return Ok(false);
        }
        let inside = inside || self.paths.included(&self.path);
        if !inside && !self.paths.may_include_below(&self.path) {
            self.skip(depth)?;
            return Ok(false);
        }
        let before = self.out.len();
        if comma {
            self.out.push(b',');
        }
        self.out.extend_from_slice(raw_key.as_bytes());
        self.out.push(b':');
        let wanted = self.value(inside, depth)? || inside;
        if !wanted {
            self.out.truncate(before);
        }
        Ok(wanted)
    }

    fn skip(&mut self, depth: usize) -> Result<(), ParseError> {
        self.json.skip(depth, &mut self.buffer, |_, _, _, _| Ok(()))
    }

    /// Writes what is wanted of a value; answers whether that is more than an empty object or array.
    fn value(&mut self, inside: bool, depth: usize) -> Result<bool, ParseError> {
        let kind = self.json.peek()?;
        let start = self.json.position();
        if inside && !self.paths.may_exclude_below(&self.path) {
            self.skip(depth)?;
            let text = self.json.slice(start, self.json.position());
            self.out.extend_from_slice(text.as_bytes());
            return Ok(true);
        }
        match kind {
            Next::Object => self.object(inside, depth + 1),
            Next::Array => {
                if depth >= DEPTH_MAX {
                    return Err(self.json.too_deep());
                }
                self.json.open();
                self.out.push(b'[');
                let (mut first, mut any) = (true, false);
                while self.json.element(first)? {
                    first = false;
                    let before = self.out.len();
                    if any {
                        self.out.push(b',');
                    }
                    // What becomes empty goes, even in an included array.
                    if self.value(inside, depth + 1)? {
                        any = true;
                    } else {
                        self.out.truncate(before);
                    }
                }
                self.out.push(b']');
                Ok(any)
            }
            _ => {
                self.skip(depth)?;
                if inside {
                    let text = self.json.slice(start, self.json.position());
                    self.out.extend_from_slice(text.as_bytes());
                }
                Ok(inside)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn filtered(source: &str, includes: &[&str], excludes: &[&str]) -> String {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let filter = SourceFilter { disabled: false, includes: list(includes), excludes: list(excludes) };
        String::from_utf8(super::filter(source.as_bytes(), &filter).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn paths_keep_and_drop() {
        let source =
            r#"{"a": 1.50, "b": {"c": [1,  2], "d": {"e": null}}, "l": [{"x": 1, "y": 2}, 5, {"y": 3}], "é\n": {}}"#;
        let check = |includes: &[&str], excludes: &[&str], expected: &str| {
            assert_eq!(filtered(source, includes, excludes), expected, "{includes:?} {excludes:?}");
        };
        check(&[], &[], source);
        check(&["*"], &[], source);
        check(&["a"], &[], r#"{"a":1.50}"#);
        check(&["b"], &[], r#"{"b":{"c": [1,  2], "d": {"e": null}}}"#);
        check(&["b.c", "a"], &[], r#"{"a":1.50,"b":{"c":[1,  2]}}"#);
        check(&["b.*"], &["*.e"], r#"{"b":{"c":[1,2],"d":{}}}"#);
        check(&["*.e"], &[], r#"{"b":{"d":{"e":null}}}"#);
        check(&[], &["b", "l", "é\n"], r#"{"a":1.50}"#);
        check(&["l.x"], &[], r#"{"l":[{"x":1}]}"#);
        check(&["l"], &["l.x"], r#"{"l":[{"y":2},5,{"y":3}]}"#);
        check(&["l"], &["l.y"], r#"{"l":[{"x":1},5]}"#);
        check(&["é*"], &[], r#"{"é\n":{}}"#);
        check(&["nope", "aa", "b.cc"], &[], "{}");
    }

    #[test]
    fn without_a_filter_bytes_are_borrowed_and_garbage_is_told_with_one() {
        let untouched = super::filter(b" {\"a\" : 1.0} ", &SourceFilter::default()).unwrap();
        assert!(matches!(untouched, Cow::Borrowed(b" {\"a\" : 1.0} ")));
        let paths = SourcePaths::new(&["a".to_owned()], &[]);
        for bad in ["", "[]", "{\"a\":", "{\"a\" 1}", "\u{0}"] {
            let mut out = b"before".to_vec();
            assert!(filter_source(bad.as_bytes(), &paths, &mut out).is_err(), "{bad}");
            assert_eq!(out, b"before");
        }
    }

    /// The same by a tree.
    fn model(value: &Map<String, Value>, path: &str, inside: bool, paths: &SourcePaths) -> Map<String, Value> {
        fn list(items: &[Value], path: &str, inside: bool, paths: &SourcePaths) -> Vec<Value> {
            let mut out = Vec::new();
            for item in items {
                match item {
                    Value::Object(map) => {
                        let kept = model(map, path, inside, paths);
                        if !kept.is_empty() {
                            out.push(kept.into());
                        }
                    }
                    Value::Array(items) => {
                        let kept = list(items, path, inside, paths);
                        if !kept.is_empty() {
                            out.push(kept.into());
                        }
                    }
                    other if inside => out.push(other.clone()),
                    _ => {}
                }
            }
            out
        }
        let mut out = Map::new();
        for (key, value) in value {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if paths.excluded(&path) {
                continue;
            }
            let inside = inside || paths.included(&path);
            match value {
                Value::Object(map) => {
                    let kept = model(map, &path, inside, paths);
                    if inside || !kept.is_empty() {
                        out.insert(key.clone(), kept.into());
                    }
                }
                Value::Array(items) => {
                    let kept = list(items, &path, inside, paths);
                    if inside || !kept.is_empty() {
                        out.insert(key.clone(), kept.into());
                    }
                }
                other if inside => {
                    out.insert(key.clone(), other.clone());
                }
                _ => {}
            }
        }
        out
    }

    /// Without empty objects and arrays inside arrays: copying a part unchanged keeps them, walking it does not.
    fn any_value() -> impl Strategy<Value = Value> {
        any::<i8>().prop_map(|n| json!(n)).prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
                prop::collection::btree_map("[ab]{1,2}", inner, 1..4)
                    .prop_map(|m| m.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree(value in prop::collection::btree_map("[ab]{1,2}", any_value(), 0..4),
                              includes in prop::collection::vec("[ab*]{1,2}(\\.[ab*]{1,2}){0,2}", 0..3),
                              excludes in prop::collection::vec("[ab*]{1,2}(\\.[ab*]{1,2}){0,2}", 0..2)) {
            let map: Map<String, Value> = value.into_iter().collect();
            let paths = SourcePaths::new(&includes, &excludes);
            let expected = model(&map, "", paths.includes.is_empty(), &paths);
            let mut out = Vec::new();
            filter_source(Value::from(map).to_string().as_bytes(), &paths, &mut out).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), Value::from(expected).to_string());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[{}\\[\\]:,\"a0-9]{0,60}") {
            let paths = SourcePaths::new(&["a".to_owned(), "*.b".to_owned()], &["a.*".to_owned()]);
            let _ = filter_source(&bytes, &paths, &mut Vec::new());
            let _ = filter_source(format!("{{{text}}}").as_bytes(), &paths, &mut Vec::new());
        }
    }
}

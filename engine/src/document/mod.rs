//! JSON `_source` + [`Mapping`] -> the flat list of values to index, without a JSON tree.

mod dynamic;
pub(crate) mod json;
mod keys;
mod parser;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::error::ParseError;
use crate::mapping::{FieldId, Mapping};

/// One document's values, flat, reused from document to document (no allocation once warm). `parse` validates
/// everything that can be refused, so that adding the result to the indexing buffer cannot fail.
#[derive(Debug, Default)]
pub struct ParsedDocument {
    /// In document order; several values of one field are separate entries. The hidden fields `_ignored` and
    /// `_field_names` are among them.
    pub values: Vec<(FieldId, ParsedValue)>,
    /// What `Text` and `Term` ranges point into. Ranges of a field and its multi-fields may be the same.
    pub arena: Vec<u8>,
    /// Fields that dynamic mapping wants to add, as a mapping fragment `{"properties":{...}}`; when this is `Some`
    /// the mapping must be updated first and the document parsed again, until it is `None` (an object that a dynamic
    /// template maps takes a round of its own). `values` is then incomplete.
    pub mapping_update: Option<serde_json::Value>,
    /// Paths of values left out (ignore_malformed, ignore_above): the `_ignored` field.
    pub ignored: Vec<String>,
    scratch: parser::Scratch,
}

/// A value to index. Encodings are those of `mapping::encode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedValue {
    /// Full text, UTF-8 in the arena: to be analyzed with the field's index analyzer.
    Text(Range<u32>),
    /// An exact term in the arena (keyword, ip, ...): inverted index and ordinals as the field's spec says.
    Term(Range<u32>),
    /// A number in sortable encoding: column and points as the field's spec says.
    Number(u64),
}

impl ParsedDocument {
    /// Empties it for the next document, keeping its memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.arena.clear();
        self.mapping_update = None;
        self.ignored.clear();
    }

    /// The bytes of a `Text` or `Term`; a number has none.
    #[must_use]
    pub fn bytes(&self, value: &ParsedValue) -> Option<&[u8]> {
        match value {
            ParsedValue::Text(range) | ParsedValue::Term(range) => {
                Some(&self.arena[range.start as usize..range.end as usize])
            }
            ParsedValue::Number(_) => None,
        }
    }
}

/// Parses one document into `out`, which is cleared first.
///
/// # Errors
/// `mapper_parsing_exception` and friends, in Elasticsearch's words.
pub fn parse(mapping: &Mapping, id: &str, source: &[u8], out: &mut ParsedDocument) -> Result<(), ParseError> {
    out.clear();
    parser::parse(mapping, id, source, out)
}

/// Fuzzing: a mapping, an update of it and a document, separated by zero bytes. Whatever parses must keep its
/// promises: shown mappings read back the same, ids stay, and a document's own mapping update suffices for it.
pub fn fuzz(data: &[u8], registry: &crate::analysis::AnalyzerRegistry) {
    let mut parts = data.splitn(3, |b| *b == 0);
    let (first, second, third) = (parts.next(), parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let mut mapping = Mapping::parse(&json(first.unwrap_or(&[])), registry).unwrap_or_default();
    if let Ok(merged) = mapping.merge(&json(second), registry) {
        for field in mapping.fields() {
            assert!(merged.by_id(field.id).path == field.path);
        }
        mapping = merged;
    }
    let again = Mapping::parse(&mapping.to_json(), registry).expect("what is shown can be read");
    assert!(again.to_json() == mapping.to_json());
    let mut out = ParsedDocument::default();
    for _ in 0..32 {
        if parse(&mapping, "fuzz", third, &mut out).is_err() {
            return;
        }
        let Some(update) = &out.mapping_update else { return };
        match mapping.merge(update, registry) {
            Ok(merged) => mapping = merged,
            Err(_) => return,
        }
    }
    panic!("a document wants a mapping update again and again");
}

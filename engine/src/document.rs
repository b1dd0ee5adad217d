//! JSON `_source` + [`Mapping`] -> the flat list of values to index, without a JSON tree.

use std::ops::Range;

use crate::error::ParseError;
use crate::mapping::{FieldId, Mapping};

/// One document's values, flat, reused from document to document (no allocation once warm). `parse` validates
/// everything that can be refused, so that adding the result to the indexing buffer cannot fail.
#[derive(Debug, Default)]
pub struct ParsedDocument {
    /// In document order; several values of one field are separate entries.
    pub values: Vec<(FieldId, ParsedValue)>,
    /// What `Text` and `Term` ranges point into.
    pub arena: Vec<u8>,
    /// Fields that dynamic mapping wants to add, as a mapping fragment `{"properties":{...}}`; when this is `Some`
    /// the mapping must be updated first and the document parsed again.
    pub mapping_update: Option<serde_json::Value>,
    /// Paths of values left out (ignore_malformed, ignore_above): the `_ignored` field.
    pub ignored: Vec<String>,
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
}

/// Parses one document. CONTRACT STUB.
///
/// # Errors
/// `mapper_parsing_exception` and friends, in Elasticsearch's words.
#[allow(clippy::todo, unused_variables)]
pub fn parse(mapping: &Mapping, id: &str, source: &[u8], out: &mut ParsedDocument) -> Result<(), ParseError> {
    todo!()
}

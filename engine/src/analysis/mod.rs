//! Analysis: text to terms. CONTRACT STUB: owners fill in, names stay.

use std::sync::Arc;

use crate::error::Error;

/// Character filters, a tokenizer, token filters. Immutable, shared between threads.
pub struct Analyzer {}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Analyzer")
    }
}

/// One token, as handed to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The term, after all filters.
    pub term: &'a str,
    /// Position: the first token of a text is 0 (a leading stop word leaves a gap).
    pub position: u32,
    /// Positions it spans (1, more for some synonyms).
    pub position_length: u32,
    /// Offset of its first character in the original text, in UTF-16 units as Elasticsearch counts.
    pub start_offset: u32,
    /// Offset after its last character.
    pub end_offset: u32,
    /// `<ALPHANUM>`, `<NUM>`, `word`, ...
    pub kind: &'static str,
}

/// Reusable memory of an analysis run.
#[derive(Debug, Default)]
pub struct Scratch {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl Analyzer {
    /// Calls `visit` for each token with (term, position) only: the indexing path, no per-token allocation,
    /// ASCII fast paths. Returns the position after the last token (where the next value starts before its gap).
    pub fn terms(&self, text: &str, scratch: &mut Scratch, visit: &mut dyn FnMut(&str, u32)) -> u32 {
        todo!()
    }
    /// The same with everything known about each token: `_analyze`, highlighting, query building.
    pub fn tokens(&self, text: &str, visit: &mut dyn FnMut(Token<'_>)) {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
}

/// The analyzers of one index: built-in ones and those of `settings.analysis`.
#[derive(Debug, Default)]
pub struct AnalyzerRegistry {}

#[allow(unused_variables, missing_docs, clippy::todo)]
impl AnalyzerRegistry {
    /// From the index's `analysis` settings (the object under `settings.analysis`, may be null).
    pub fn new(analysis: &serde_json::Value) -> Result<AnalyzerRegistry, Error> {
        todo!()
    }
    pub fn analyzer(&self, name: &str) -> Option<Arc<Analyzer>> {
        todo!()
    }
    pub fn normalizer(&self, name: &str) -> Option<Arc<Analyzer>> {
        todo!()
    }
    /// For `_analyze` bodies: tokenizer, filter and char_filter given by name or definition.
    pub fn custom(
        &self,
        tokenizer: Option<&serde_json::Value>,
        filters: &[serde_json::Value],
        char_filters: &[serde_json::Value],
    ) -> Result<Arc<Analyzer>, Error> {
        todo!()
    }
}

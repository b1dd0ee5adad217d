//! The search request language: JSON bodies and URL parameters to the engine's requests.
//!
//! Unknown names are refused in Elasticsearch's words, never ignored: a client that mistypes a filter must not get
//! unfiltered hits. Recursion is bounded, so no body can exhaust a stack.

pub mod aggs;
mod composite;
mod pipeline;
pub mod query;
pub mod search;
pub mod sort;
mod suggest;
mod text;
pub(crate) mod value;

pub use query::parse_query;
pub use search::{SearchBody, parse_search};
pub(crate) use value::token;

/// What is wrong with a body: Elasticsearch's exception, ready for the client.
pub type DslError = crate::error::ApiError;

/// Results of this module.
pub type DslResult<T> = Result<T, DslError>;

/// Arbitrary bytes as a search body, as a query and as aggregations: whatever they are, an answer and no panic.
pub fn fuzz_query_dsl(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let _ = parse_query(&json);
    let _ = parse_search(&json);
    let _ = sort::parse_sort(&json);
}

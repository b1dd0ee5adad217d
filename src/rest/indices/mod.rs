//! Indices: their life, mappings, settings, aliases, templates, upkeep.

pub mod alias;
pub mod analyze;
pub mod copies;
pub mod lifecycle;
pub mod mapping;
pub mod recovery;
pub mod resize;
pub mod rollover;
pub mod settings;
pub mod stats;
pub mod template;
pub mod upkeep;

use serde_json::{Value, json};

use super::request::Response;

/// `{"acknowledged": true}`
#[must_use]
pub fn acknowledged() -> Response {
    Response::ok(json!({ "acknowledged": true }))
}

/// `{"total": .., "successful": .., "failed": ..}` of a request to many shards.
#[must_use]
pub fn shards_header(total: usize, successful: usize, failures: Vec<Value>) -> Value {
    let mut header = json!({ "total": total, "successful": successful, "failed": failures.len() });
    if !failures.is_empty() {
        header["failures"] = Value::Array(failures);
    }
    header
}

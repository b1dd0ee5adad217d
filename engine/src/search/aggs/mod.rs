//! Aggregations: requests, collectors, mergeable partial results. CONTRACT STUB.

use serde::{Deserialize, Serialize};

/// One requested aggregation with its sub-aggregations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggRequest {
    /// Name in request and answer.
    pub name: String,
    /// What to compute.
    pub kind: AggKind,
    /// Inside each bucket.
    pub subs: Vec<AggRequest>,
    /// `meta`, given back as it came.
    pub meta: Option<serde_json::Value>,
}

/// What to compute. The owner adds the kinds with their parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggKind {
    /// Smallest value of a field.
    Min {
        /// Path.
        field: String,
    },
}

/// A shard's part of one aggregation; `merge` adds another shard's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggPartial {
    /// Of `Min`.
    Min(Option<f64>),
}

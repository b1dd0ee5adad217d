//! Partial results: what a shard knows, mergeable in any order and grouping.

use serde::{Deserialize, Serialize};

/// A shard's part of one aggregation; `merge` adds another shard's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggPartial {
    /// The shard had nothing to say.
    Empty,
}

impl AggPartial {
    /// Adds another shard's part. Associative and commutative (up to the rounding of floating-point sums).
    pub fn merge(&mut self, other: AggPartial) {
        let _ = other;
    }
}

//! From a query's values to what the index holds, and back to what a client reads. `document.rs` uses the same
//! encodings for what it indexes; numbers are those of [`number`](super::number), ips are 16 bytes (IPv4 as
//! `::ffff:a.b.c.d`), booleans are 0 and 1, keywords are their normalized UTF-8.

use std::ops::{Bound, RangeInclusive};

use super::FieldMapping;
use crate::error::Result;
use crate::query;

/// What a `term` looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// One term of the inverted index (or of the ordinal column).
    Term(Vec<u8>),
    /// Terms from first to last, both included: a CIDR block.
    Terms(RangeInclusive<Vec<u8>>),
    /// One value of a number column.
    Number(u64),
    /// Numbers from first to last, both included: a date with parts left out.
    Numbers(RangeInclusive<u64>),
    /// No document can have it, such as 1.5 in a `long`.
    Nothing,
}

/// What a `range` looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum RangeBounds {
    /// Numbers, both ends included.
    Numbers(RangeInclusive<u64>),
    /// Terms.
    Terms(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// No value lies between the ends.
    Nothing,
}

#[allow(unused_variables, clippy::todo)]
impl FieldMapping {
    /// What a `term` (or one of `terms`) means in this field. Text is not analyzed, a keyword is normalized.
    ///
    /// # Errors
    /// `query_shard_exception` in Elasticsearch's words.
    pub fn encode_term(&self, value: &query::Value, now_ms: i64) -> Result<Encoded> {
        todo!()
    }

    /// What a `range` means in this field. Dates take `format`, `time_zone` and date math, rounded by the ends'
    /// inclusiveness as Elasticsearch does.
    ///
    /// # Errors
    /// `query_shard_exception` in Elasticsearch's words.
    pub fn encode_range(
        &self,
        lower: Option<&query::Bound>,
        upper: Option<&query::Bound>,
        format: Option<&str>,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<RangeBounds> {
        todo!()
    }

    /// A value of this field's number column as `docvalue_fields`, bucket keys and `fields` show it: dates as text
    /// in `format` or the field's own, booleans as such, floats as doubles.
    ///
    /// # Errors
    /// A format that is not one.
    pub fn render_number(&self, sortable: u64, format: Option<&str>) -> Result<serde_json::Value> {
        todo!()
    }

    /// A term of this field's ordinal column (or inverted index) as a client reads it.
    #[must_use]
    pub fn render_term(&self, term: &[u8]) -> serde_json::Value {
        todo!()
    }

    /// A number column's value as a double: what metrics compute with (dates in milliseconds, booleans 0 and 1).
    #[must_use]
    pub fn number_to_f64(&self, sortable: u64) -> f64 {
        todo!()
    }
}

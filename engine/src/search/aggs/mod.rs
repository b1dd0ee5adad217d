//! Aggregations: requests, collectors, mergeable partial results, answers.
//!
//! A shard's [`AggCollector`] turns batches of documents into [`AggPartial`]s, the coordinating node merges those of
//! all shards in any order, and [`finalize()`] renders the answer. A tree of aggregations is a tree of nodes; a node
//! keeps the state of all its buckets in columns indexed by bucket number, never an object per bucket.

mod buckets;
pub mod collect;
pub mod composite;
pub mod finalize;
mod fixed;
pub mod format;
mod histogram;
pub mod hll;
mod leaf;
mod metric;
mod node;
pub mod partial;
mod path;
mod pipeline;
pub mod request;
pub mod resolve;
pub mod rounding;
pub mod tdigest;
mod terms;
#[cfg(test)]
mod testing;
pub mod top_hits;
pub mod values;

pub use collect::{AggCollector, AggContext, BATCH, SegmentAggs};
pub use finalize::{RenderOptions, finalize, merge_shards};
pub use partial::AggPartial;
pub use path::type_name;
pub use request::*;

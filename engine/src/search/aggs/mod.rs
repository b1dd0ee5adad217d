//! Aggregations: requests, collectors, mergeable partial results, answers.
//!
//! A shard's [`AggCollector`] turns batches of documents into [`AggPartial`]s, the coordinating node merges those of
//! all shards in any order, and [`finalize`] renders the answer. A tree of aggregations is a tree of nodes; a node
//! keeps the state of all its buckets in columns indexed by bucket number, never an object per bucket.

pub mod collect;
pub mod finalize;
pub mod partial;
pub mod request;

pub use collect::{AggCollector, AggContext, BATCH, SegmentAggs, SegmentFilter};
pub use finalize::{RenderOptions, finalize};
pub use partial::AggPartial;
pub use request::*;

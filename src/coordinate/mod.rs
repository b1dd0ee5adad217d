//! Between REST and the shards: which shard has a document, splitting writes, gathering searches.

pub mod ids;
pub mod join;
pub mod routing;
pub mod search;
pub mod write;

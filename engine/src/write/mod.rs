//! The write path before the segment: version conflicts, the live version map, checkpoints, the indexing buffer.

pub mod buffer;
pub mod local_checkpoint;
pub mod plan;
pub(crate) mod pool;
pub(crate) mod sort;
pub(crate) mod sources;
pub(crate) mod terms;
pub mod version_map;

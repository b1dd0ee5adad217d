//! The write path before the segment: version conflicts, the live version map, checkpoints, the indexing buffer.

pub mod local_checkpoint;
pub mod plan;
pub mod version_map;

//! One shard on one core: its messages, its loop.

pub mod message;

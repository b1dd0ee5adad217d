#![doc = include_str!("../README.md")]

pub mod analysis;
pub mod budget;
pub mod codec;
pub mod commit;
pub mod copy;
pub mod digest;
pub mod document;
pub mod engine;
pub mod error;
pub mod flush;
pub mod history;
pub mod ids;
pub mod lru;
pub mod mapping;
pub mod merge;
pub mod merging;
pub mod op;
pub mod pace;
pub mod query;
pub mod recover;
pub mod refresh;
pub mod replica;
pub mod scrub;
pub mod search;
pub mod seed;
pub mod segment;
pub mod store;
pub mod translog;
pub mod write;

pub use error::{Error, Result};

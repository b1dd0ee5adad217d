//! The ringdex server: REST, coordination and the node around the engine.

#![forbid(unsafe_code)]

pub mod backend;
#[cfg(feature = "glommio")]
pub mod cli;
pub mod config;
pub mod coordinate;
pub mod dsl;
pub mod error;
pub mod io;
pub mod memory;
pub mod mesh;
pub mod metadata;
pub mod metastore;
pub mod node;
pub mod rest;
#[cfg(feature = "glommio")]
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod stats;
pub mod tasks;

//! Everything between nodes, and between client and node.
//!
//! `net` knows no REST path and no query DSL; from `engine` it takes only ids, operations and codecs.

#![forbid(unsafe_code)]

pub mod cluster;
#[cfg(feature = "glommio")]
pub mod http;

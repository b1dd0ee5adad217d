#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod cluster;
#[cfg(feature = "glommio")]
pub mod http;
pub mod transport;
pub mod wire;

//! What all nodes agree on.

pub mod state;

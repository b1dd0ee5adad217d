//! The cluster state as REST sees and changes it: pure functions.

pub mod alias;
pub mod block;
pub mod create;
pub mod limit;
pub mod mapping;
pub mod name;
pub mod resolve;
pub mod settings;
pub mod template;
pub mod value;

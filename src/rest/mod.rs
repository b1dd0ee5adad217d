//! The REST API: requests in, answers out; no sockets here.

pub mod bulk;
pub mod by_query;
pub mod cat;
pub mod cluster;
pub mod document;
pub mod field_caps;
pub mod filter;
pub mod fuzz;
pub mod http;
pub mod indices;
pub mod latency;
mod lookup;
pub mod ndjson;
pub mod nodes;
pub mod params;
pub mod passed;
pub mod pretty;
pub mod raw;
pub mod request;
pub mod root;
pub mod router;
pub mod routes;
pub mod search;
pub mod storage;
pub mod table;
pub mod tasks;
#[cfg(test)]
pub(crate) mod testing;
pub mod uri;
pub mod yaml;

//! The REST API: requests in, answers out; no sockets here.

pub mod request;

//! The ringdex server.

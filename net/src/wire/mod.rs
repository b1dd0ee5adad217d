//! What nodes say to each other, as bytes: frames, the handshake before them, the table of messages, and the layouts of those
//! messages that are sent often. Nothing here knows a socket.

pub mod codec;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod payload;
pub mod reader;
pub mod replicate;

pub use message::{Lane, MessageKind, RemoteError};
pub use payload::Payload;

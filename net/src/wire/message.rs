//! The table of messages between nodes, and the answer that a request failed.
//!
//! A number means the same for ever; a message that changes incompatibly gets a new one, or the protocol version grows.
//!
//! Layout of a [`RemoteError`], the payload of every answer with the error flag (integers little-endian):
//!
//! ```text
//! 0  status  u16   as HTTP
//! 2  kind    u8 n, n bytes    `type` of the error, as in REST answers
//!    reason  u32 n, n bytes
//!    body    the rest         JSON of the whole error, or nothing
//! ```

use std::fmt;

use bytes::Bytes;

use super::Payload;
use super::reader::{Malformed, Reader, put_short_text};

/// Traffic that must not wait for other traffic has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Elections, publication, fault detection, requests to the master: between coordination threads.
    Cluster = 0,
    /// Documents on their way to a shard, and replication: between cores.
    Write = 1,
    /// Reads of shards, and requests passed on to other nodes: between cores.
    Search = 2,
    /// Files and histories of shards: between cores.
    Recovery = 3,
}

impl Lane {
    /// All of them.
    pub const ALL: [Lane; 4] = [Lane::Cluster, Lane::Write, Lane::Search, Lane::Recovery];

    /// The lane with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

/// Properties of a kind.
const COLD: u8 = 1;
const ABORTABLE: u8 = 2;
const HOT: u8 = 0;

macro_rules! messages {
    ($($number:literal $name:ident $lane:ident [$($property:ident)+] $path:literal $payload:literal;)*) => {
        /// What a message is. `request -> answer`; "serde" payloads are those of [`codec`](super::codec).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum MessageKind {
            $(#[doc = concat!($path, ": ", $payload, ".")] $name = $number,)*
        }

        impl MessageKind {
            /// The whole table, by number.
            pub const ALL: &[MessageKind] = &[$(MessageKind::$name),*];

            /// The kind with this number, if this version knows it.
            #[must_use]
            pub fn from_number(number: u16) -> Option<MessageKind> {
                match number {
                    $($number => Some(MessageKind::$name),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(MessageKind::$name => stringify!($name),)*
                }
            }

            /// The lane it travels on.
            #[must_use]
            pub fn lane(self) -> Lane {
                match self {
                    $(MessageKind::$name => Lane::$lane,)*
                }
            }

            fn properties(self) -> u8 {
                match self {
                    $(MessageKind::$name => $($property)|+,)*
                }
            }
        }
    };
}

messages! {
    // The connection's own: never delivered, on any lane.
    0x0001 Alive              Cluster  [HOT]              "either end"          "nothing else to say, one-way, empty";
    0x0002 Cancel             Cluster  [HOT]              "asker -> asked"      "nobody waits for the request with this id, one-way, empty";
    0x0003 Leaving            Cluster  [HOT]              "asked -> asker"      "this node shuts down: ask nothing more, and close when all is answered, one-way, empty";
    // Forming a cluster.
    0x0100 Peers              Cluster  [COLD]             "any -> any"          "serde: the node that asks -> the node that answers";
    0x0101 Coordination       Cluster  [COLD]             "any -> any"          "serde: one of the messages of cluster/messages.rs, one-way";
    0x0103 Publish            Cluster  [COLD]             "master -> any"       "serde: a cluster state, whole or what changed, one-way";
    // What only the master changes.
    0x0200 MetadataUpdate     Cluster  [COLD]             "any -> master"       "serde: new metadata and the metadata_version it was made from -> version, or conflict";
    0x0201 ShardStarted       Cluster  [COLD]             "copy -> master"      "serde: this copy has recovered -> done";
    0x0202 ShardFailed        Cluster  [COLD]             "primary -> master"   "serde: fail this copy (a primary says: and take it out of the in-sync set) -> committed";
    // Shards.
    0x0300 ShardWrite         Write    [HOT]              "any -> primary"      "operations of a bulk for one shard -> their outcomes";
    0x0301 ShardRead          Search   [HOT ABORTABLE]    "any -> copy"         "get, query, fetch and others -> answer";
    0x0302 Replicate          Write    [HOT]              "primary -> replica"  "replicate.rs: Replicate -> ReplicateAck";
    0x0304 GlobalCheckpointSync Write  [HOT]              "primary -> replica"  "replicate.rs: Replicate without operations -> ReplicateAck";
    // Recovery, driven by the target.
    0x0400 RecoveryStart      Recovery [COLD]             "target -> source"    "serde: what I have -> operations from here, or these files";
    0x0401 RecoveryFileChunk  Recovery [HOT]              "target -> source"    "replicate.rs: FileChunkRequest -> FileChunk";
    0x0402 RecoveryOperations Recovery [HOT]              "target -> source"    "replicate.rs: OperationsRequest -> OperationsBatch";
    0x0403 RecoveryFinalize   Recovery [COLD]             "target -> source"    "serde: my checkpoint -> global checkpoint";
    0x0404 RecoveryEnd        Recovery [COLD]             "target -> source"    "serde: release what you hold for me -> done";
    // Nodes.
    0x0500 Rest               Search   [COLD ABORTABLE]   "any -> any"          "serde: method, path, body -> status, body";
    0x0501 Ping               Cluster  [HOT]              "any -> any"          "any bytes -> the same, by the transport itself";
    0x0502 StoredCopies       Cluster  [COLD]             "master -> data"      "serde: shards -> the copies of them on your disk";
}

impl MessageKind {
    /// The number in the frame.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Sent rarely: worth compressing when large.
    #[must_use]
    pub fn is_cold(self) -> bool {
        self.properties() & COLD != 0
    }

    /// The far end is told, and stops, when nobody waits for the answer any more.
    #[must_use]
    pub fn is_abortable(self) -> bool {
        self.properties() & ABORTABLE != 0
    }

    /// Not for handlers.
    #[must_use]
    pub fn is_of_connection(self) -> bool {
        matches!(self, MessageKind::Alive | MessageKind::Cancel | MessageKind::Leaving | MessageKind::Ping)
    }
}

/// Why the far end could not do what it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteError {
    /// As in an HTTP answer.
    pub status: u16,
    /// `type` of the error, such as `index_not_found_exception`.
    pub kind: String,
    /// What is wrong.
    pub reason: String,
    /// JSON of the whole error where the two lines above do not say all; opaque here.
    pub body: Bytes,
}

impl RemoteError {
    /// Without a body.
    #[must_use]
    pub fn new(status: u16, kind: &str, reason: impl Into<String>) -> RemoteError {
        RemoteError { status, kind: kind.to_owned(), reason: reason.into(), body: Bytes::new() }
    }

    /// What is said of bytes that are no message.
    #[must_use]
    pub fn malformed(reason: impl fmt::Display) -> RemoteError {
        RemoteError::new(400, "illegal_argument_exception", reason.to_string())
    }

    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let mut out = self.status.to_le_bytes().to_vec();
        put_short_text(&mut out, &self.kind);
        out.extend_from_slice(&(self.reason.len() as u32).to_le_bytes());
        out.extend_from_slice(self.reason.as_bytes());
        let mut payload = Payload::from(out);
        payload.push(self.body.clone());
        payload
    }

    /// As received.
    pub fn decode(bytes: Bytes) -> Result<RemoteError, Malformed> {
        let mut reader = Reader::new("remote error", bytes);
        let status = reader.u16()?;
        let kind = reader.short_text()?;
        let length = reader.u32()? as usize;
        let reason = reader.text(length)?;
        Ok(RemoteError { status, kind, reason, body: reader.rest() })
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.kind, self.reason)
    }
}

impl std::error::Error for RemoteError {}

impl From<Malformed> for RemoteError {
    fn from(malformed: Malformed) -> RemoteError {
        RemoteError::malformed(malformed)
    }
}

/// Every decoder of a hand-laid-out message on arbitrary bytes: what is accepted encodes to the same again. The first byte chooses.
pub fn fuzz_message(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match which % 8 {
        0 => {
            if let Ok(error) = RemoteError::decode(bytes.clone()) {
                assert_eq!(error.encode().into_bytes(), bytes);
            }
        }
        1 => super::handshake::fuzz(&bytes),
        2 => super::codec::fuzz(&bytes),
        _ => super::replicate::fuzz(which % 8 - 3, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_to_kinds_and_back() {
        assert!(MessageKind::ALL.windows(2).all(|two| two[0].number() < two[1].number()), "in order, none twice");
        for kind in MessageKind::ALL {
            assert_eq!(MessageKind::from_number(kind.number()), Some(*kind));
        }
        let known = (0..=u16::MAX).filter(|n| MessageKind::from_number(*n).is_some()).count();
        assert_eq!(known, MessageKind::ALL.len());
        assert!(Lane::ALL.iter().all(|lane| Lane::from_number(*lane as u8) == Some(*lane)));
        assert_eq!(Lane::from_number(4), None);
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../README.md");
        for kind in MessageKind::ALL {
            let line = format!("| `{:04x}` | `{}` |", kind.number(), kind.name());
            assert!(readme.contains(&line), "{line}");
        }
    }

    #[test]
    fn an_error_has_the_documented_bytes_and_comes_back() {
        let error =
            RemoteError { body: Bytes::from_static(b"{}"), ..RemoteError::new(404, "not_found", "no such thing") };
        let bytes = error.encode().into_bytes();
        assert_eq!(bytes.as_ref(), b"\x94\x01\x09not_found\x0d\0\0\0no such thing{}");
        assert_eq!(RemoteError::decode(bytes.clone()), Ok(error));
        for cut in 0..bytes.len() - 2 {
            assert!(RemoteError::decode(bytes.slice(..cut)).is_err(), "{cut}");
        }
    }
}

//! The handshake: what the two ends of a new connection say to each other before any frame.
//!
//! The dialing end sends a hello and waits; the accepting end answers with a welcome, after which both speak frames in the
//! version it names, or with a refusal, after which it closes. These three never change their first 12 bytes and their type,
//! so that any two versions understand at least why they do not understand each other.
//!
//! Integers are little-endian; a text is a u8 length and as many bytes of UTF-8.
//!
//! ```text
//!  0  magic     4 bytes  `rdxw`
//!  4  length    u32      bytes from offset 12 to the end, at most 4096
//!  8  checksum  u32      CRC-32 of bytes 4..8 and of bytes 12..end
//! 12  type      u8       1 hello  2 welcome  3 refusal
//!
//! hello     lane u8, version_min u16, version_max u16, expected node u8 (0 or 1) and 16 bytes if 1, identity
//! welcome   version u16, identity
//! refusal   reason u8 (1 version  2 cluster name  3 cluster uuid  4 another node  5 not allowed  6 busy), u16 n, n bytes
//! identity  node 16 bytes (big-endian, as its name shows it), texts: ephemeral id, node name, cluster name,
//!           cluster uuid (empty: not known yet), transport address
//! ```
//!
//! Bytes behind what is documented are skipped: a later version may add some.
//! The version of a connection is the highest that both ends have.

use std::fmt;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::message::Lane;
use super::reader::{Malformed, Reader, put_short_text};
use crate::cluster::ids::NodeId;

/// Versions of the protocol that this build speaks, from and to.
pub const VERSIONS: (u16, u16) = (1, 1);

const MAGIC: &[u8; 4] = b"rdxw";
/// Bytes that say how long a message is.
pub const HEADER_BYTES: usize = 12;
/// Longest message, without header.
const LENGTH_MAX: usize = 4096;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;

/// Who an end is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name for ever.
    pub node: NodeId,
    /// New at each start.
    pub ephemeral_id: String,
    /// `node.name`
    pub name: String,
    /// `cluster.name`
    pub cluster_name: String,
    /// Of the cluster it has been part of, if any.
    pub cluster_uuid: Option<String>,
    /// Where others reach it: `address:port`.
    pub address: String,
}

/// What the dialing end says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub lane: Lane,
    /// Protocol versions it speaks, from and to.
    pub versions: (u16, u16),
    /// Who it wants to talk to, if only the address is not enough.
    pub expected: Option<NodeId>,
    /// Who it is.
    pub identity: Identity,
}

/// What the accepting end answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Frames may follow.
    Welcome {
        /// The version of the connection.
        version: u16,
        /// Who the accepting end is.
        identity: Identity,
    },
    /// The connection is closed.
    Refused(Refusal),
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: RefusalReason,
    /// For people.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusalReason {
    /// No protocol version that both have.
    Version = 1,
    /// Another `cluster.name`.
    ClusterName = 2,
    /// The same name, but not the same cluster.
    ClusterUuid = 3,
    /// Not the node that was expected.
    WrongNode = 4,
    /// Who dials may not.
    NotAllowed = 5,
    /// Too many connections, or shutting down.
    Busy = 6,
}

/// What the accepting end makes of a hello: the connection's version, or why there is none.
pub fn judge(hello: &Hello, own: &Identity, versions: (u16, u16)) -> Result<u16, Refusal> {
    let refuse = |reason, text| Err(Refusal { reason, text });
    let version = hello.versions.1.min(versions.1);
    if version < hello.versions.0.max(versions.0) {
        let ((min, max), (own_min, own_max)) = (hello.versions, versions);
        let text =
            format!("protocol versions [{min}] to [{max}] are not among [{own_min}] to [{own_max}] of node {own}");
        return refuse(RefusalReason::Version, text);
    }
    check_cluster(&hello.identity, own)?;
    match hello.expected {
        Some(expected) if expected != own.node => {
            refuse(RefusalReason::WrongNode, format!("expected node [{expected}], but this is node {own}"))
        }
        _ => Ok(version),
    }
}

/// What the dialing end makes of a welcome: it does not rely on the far end's checks.
pub fn check_welcome(hello: &Hello, version: u16, remote: &Identity) -> Result<(), Refusal> {
    if version < hello.versions.0 || version > hello.versions.1 {
        let text = format!("node {remote} chose protocol version [{version}], which was not offered");
        return Err(Refusal { reason: RefusalReason::Version, text });
    }
    check_cluster(remote, &hello.identity)?;
    match hello.expected {
        Some(expected) if expected != remote.node => {
            let text = format!("expected node [{expected}], but found node {remote}");
            Err(Refusal { reason: RefusalReason::WrongNode, text })
        }
        _ => Ok(()),
    }
}

fn check_cluster(remote: &Identity, own: &Identity) -> Result<(), Refusal> {
    if remote.cluster_name != own.cluster_name {
        let text = format!(
            "node {remote} is of cluster [{}], while node {own} is of cluster [{}]",
            remote.cluster_name, own.cluster_name
        );
        return Err(Refusal { reason: RefusalReason::ClusterName, text });
    }
    if let (Some(theirs), Some(ours)) = (&remote.cluster_uuid, &own.cluster_uuid)
        && theirs != ours
    {
        let text = format!("node {remote} has cluster uuid [{theirs}], while node {own} has [{ours}]");
        return Err(Refusal { reason: RefusalReason::ClusterUuid, text });
    }
    Ok(())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}{{{}}}{{{}}}", self.name, self.node, self.address)
    }
}

impl Hello {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(HELLO);
        out.push(self.lane as u8);
        out.extend_from_slice(&self.versions.0.to_le_bytes());
        out.extend_from_slice(&self.versions.1.to_le_bytes());
        out.push(u8::from(self.expected.is_some()));
        if let Some(node) = self.expected {
            out.extend_from_slice(&node.0.to_be_bytes());
        }
        self.identity.encode(&mut out);
        finish(out)
    }

    /// A hello at the beginning of `bytes`; `None` while some of it is missing.
    pub fn decode(bytes: &[u8]) -> Result<Option<Hello>, Malformed> {
        let Some((kind, mut reader)) = open(bytes)? else { return Ok(None) };
        if kind != HELLO {
            return Err(reader.malformed(format_args!("type {kind} instead of a hello")));
        }
        let lane = reader.u8()?;
        let lane = Lane::from_number(lane).ok_or_else(|| reader.malformed(format_args!("unknown lane {lane}")))?;
        let versions = (reader.u16()?, reader.u16()?);
        let expected = match reader.u8()? {
            0 => None,
            1 => Some(node(&mut reader)?),
            other => return Err(reader.malformed(format_args!("{other} instead of 0 or 1"))),
        };
        Ok(Some(Hello { lane, versions, expected, identity: Identity::decode(&mut reader)? }))
    }
}

impl Reply {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Welcome { version, identity } => {
                let mut out = begin(WELCOME);
                out.extend_from_slice(&version.to_le_bytes());
                identity.encode(&mut out);
                finish(out)
            }
            Reply::Refused(refusal) => {
                let mut out = begin(REFUSAL);
                out.push(refusal.reason as u8);
                let mut end = refusal.text.len().min(LENGTH_MAX / 2);
                while !refusal.text.is_char_boundary(end) {
                    end -= 1;
                }
                out.extend_from_slice(&(end as u16).to_le_bytes());
                out.extend_from_slice(&refusal.text.as_bytes()[..end]);
                finish(out)
            }
        }
    }

    /// A reply at the beginning of `bytes`, and its size; `None` while some of it is missing.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
        let Some((kind, mut reader)) = open(bytes)? else { return Ok(None) };
        let size = HEADER_BYTES + 1 + reader.remaining();
        let reply = match kind {
            WELCOME => Reply::Welcome { version: reader.u16()?, identity: Identity::decode(&mut reader)? },
            REFUSAL => {
                use RefusalReason::{Busy, ClusterName, ClusterUuid, NotAllowed, Version, WrongNode};
                let number = reader.u8()?;
                let known = [Version, ClusterName, ClusterUuid, WrongNode, NotAllowed, Busy];
                let reason = known.into_iter().find(|reason| *reason as u8 == number);
                let reason = reason.ok_or_else(|| reader.malformed(format_args!("unknown refusal {number}")))?;
                let length = reader.u16()?;
                Reply::Refused(Refusal { reason, text: reader.text(usize::from(length))? })
            }
            other => return Err(reader.malformed(format_args!("type {other} instead of a reply"))),
        };
        Ok(Some((reply, size)))
    }
}

impl Identity {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.node.0.to_be_bytes());
        let uuid = self.cluster_uuid.as_deref().unwrap_or_default();
        for text in [&self.ephemeral_id, &self.name, &self.cluster_name, uuid, &self.address] {
            put_short_text(out, text);
        }
    }

    fn decode(reader: &mut Reader) -> Result<Identity, Malformed> {
        Ok(Identity {
            node: node(reader)?,
            ephemeral_id: reader.short_text()?,
            name: reader.short_text()?,
            cluster_name: reader.short_text()?,
            cluster_uuid: Some(reader.short_text()?).filter(|uuid| !uuid.is_empty()),
            address: reader.short_text()?,
        })
    }
}

fn node(reader: &mut Reader) -> Result<NodeId, Malformed> {
    Ok(NodeId(reader.u128()?.swap_bytes()))
}

fn begin(kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(MAGIC);
    out.resize(HEADER_BYTES, 0);
    out.push(kind);
    out
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let length = out.len() - HEADER_BYTES;
    assert!(length <= LENGTH_MAX, "texts are short");
    out[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    let checksum = checksum(&out);
    out[8..12].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn checksum(message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&message[4..8]);
    hasher.update(&message[HEADER_BYTES..]);
    hasher.finalize()
}

/// The size of the message that `bytes` begins with, once its length is there. No other protocol has one.
pub fn size(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let seen = bytes.len().min(MAGIC.len());
    if bytes[..seen] != MAGIC[..seen] {
        return Err(Malformed("the far end does not speak this protocol".to_owned()));
    }
    let Some(mut length) = bytes.get(4..8) else { return Ok(None) };
    match length.get_u32_le() as usize {
        length if length == 0 || length > LENGTH_MAX => Err(Malformed(format!("handshake of {length} bytes"))),
        length => Ok(Some(HEADER_BYTES + length)),
    }
}

/// The type of the message that `bytes` begins with, and what follows the type.
fn open(bytes: &[u8]) -> Result<Option<(u8, Reader)>, Malformed> {
    let Some(message) = size(bytes)?.and_then(|size| bytes.get(..size)) else { return Ok(None) };
    let stated = (&message[8..HEADER_BYTES]).get_u32_le();
    let computed = checksum(message);
    if stated != computed {
        return Err(Malformed(format!("handshake checksum mismatch: stated {stated:08x}, computed {computed:08x}")));
    }
    let body = Bytes::copy_from_slice(&message[HEADER_BYTES + 1..]);
    Ok(Some((message[HEADER_BYTES], Reader::new("handshake", body))))
}

/// The body of a handshake message, put behind a header that is right.
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = (Hello::decode(bytes), Reply::decode(bytes));
    if bytes.is_empty() || bytes.len() > LENGTH_MAX {
        return;
    }
    let mut message = begin(0);
    message.truncate(HEADER_BYTES);
    message.extend_from_slice(bytes);
    let message = finish(message);
    if let Ok(Some(hello)) = Hello::decode(&message) {
        assert_eq!(Hello::decode(&hello.encode()), Ok(Some(hello)));
    }
    if let Ok(Some((reply, size))) = Reply::decode(&message) {
        assert_eq!(size, message.len());
        // A text may be longer here than what is ever sent.
        let again = reply.encode();
        let whole = matches!(&reply, Reply::Refused(refusal) if refusal.text.len() > LENGTH_MAX / 2);
        assert!(whole || Reply::decode(&again) == Ok(Some((reply, again.len()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: u128) -> Identity {
        Identity {
            node: NodeId(node),
            ephemeral_id: "e1".into(),
            name: format!("n{node}"),
            cluster_name: "docs".into(),
            cluster_uuid: None,
            address: "127.0.0.1:9300".into(),
        }
    }

    fn hello() -> Hello {
        Hello { lane: Lane::Write, versions: (1, 3), expected: Some(NodeId(2)), identity: identity(1) }
    }

    #[test]
    fn a_hello_has_the_documented_bytes() {
        let mut hello = hello();
        hello.identity =
            Identity { name: "a".into(), cluster_name: "c".into(), address: "h:1".into(), ..hello.identity };
        let bytes = hello.encode();
        let mut expected = b"rdxw".to_vec();
        expected.extend_from_slice(&51u32.to_le_bytes());
        expected.extend_from_slice(&bytes[8..12]);
        expected.extend_from_slice(&[1, 1, 1, 0, 3, 0, 1]);
        expected.extend_from_slice(&2u128.to_be_bytes());
        expected.extend_from_slice(&1u128.to_be_bytes());
        expected.extend_from_slice(b"\x02e1\x01a\x01c\x00\x03h:1");
        assert_eq!(bytes, expected);
        assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), 0x2ab6_a49b);
    }

    #[test]
    fn messages_come_back_and_wait_for_their_end() {
        let bytes = hello().encode();
        for cut in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(Hello::decode(&bytes), Ok(Some(hello())));
        assert_eq!(size(&bytes), Ok(Some(bytes.len())));
        let refusal = Refusal { reason: RefusalReason::Busy, text: "too many".repeat(1000) };
        for reply in [
            Reply::Welcome { version: 2, identity: Identity { cluster_uuid: Some("u".into()), ..identity(9) } },
            Reply::Refused(Refusal { text: "no".into(), ..refusal.clone() }),
        ] {
            let mut bytes = reply.encode();
            let size = bytes.len();
            bytes.extend_from_slice(b"frames");
            assert_eq!(Reply::decode(&bytes), Ok(Some((reply, size))));
        }
        let cut = Reply::decode(&Reply::Refused(refusal).encode()).unwrap().unwrap().0;
        assert!(matches!(cut, Reply::Refused(refusal) if refusal.text.len() == LENGTH_MAX / 2));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = hello().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Hello::decode(&bad), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn what_is_another_protocol_is_known_at_its_first_byte() {
        assert!(Hello::decode(b"GET / HTTP/1.1").is_err());
        assert!(Hello::decode(b"G").is_err());
        assert!(Hello::decode(&Reply::Welcome { version: 1, identity: identity(1) }.encode()).is_err());
        assert!(Reply::decode(&hello().encode()).is_err());
    }

    #[test]
    fn the_highest_version_of_both_is_taken() {
        let own = identity(2);
        let with = |versions| judge(&Hello { versions, ..hello() }, &own, (2, 4)).map_err(|refusal| refusal.reason);
        assert_eq!(with((1, 3)), Ok(3));
        assert_eq!(with((1, 9)), Ok(4));
        assert_eq!(with((4, 9)), Ok(4));
        assert_eq!(with((1, 1)), Err(RefusalReason::Version));
        assert_eq!(with((5, 9)), Err(RefusalReason::Version));
        assert_eq!(with((9, 1)), Err(RefusalReason::Version));
    }

    #[test]
    fn strangers_are_refused_by_either_end() {
        let (hello, own) = (hello(), identity(2));
        let uuid = |uuid: &str| Some(uuid.to_owned());
        let check = |change: fn(&mut Identity), reason| {
            let mut other = identity(2);
            change(&mut other);
            assert_eq!(judge(&hello, &other, (1, 1)).map_err(|refusal| refusal.reason), Err(reason));
            let welcomed = check_welcome(&hello, 1, &other).map_err(|refusal| refusal.reason);
            assert_eq!(welcomed, Err(reason));
        };
        check(|other| other.cluster_name = "logs".into(), RefusalReason::ClusterName);
        check(|other| other.node = NodeId(3), RefusalReason::WrongNode);
        assert_eq!(judge(&hello, &own, (1, 1)), Ok(1));
        assert_eq!(check_welcome(&hello, 1, &own), Ok(()));
        assert!(check_welcome(&hello, 4, &own).is_err());

        let known = Hello { identity: Identity { cluster_uuid: uuid("a"), ..identity(1) }, ..hello.clone() };
        assert_eq!(judge(&known, &own, (1, 1)), Ok(1), "one end does not know yet");
        assert_eq!(judge(&known, &Identity { cluster_uuid: uuid("a"), ..own.clone() }, (1, 1)), Ok(1));
        let other = judge(&known, &Identity { cluster_uuid: uuid("b"), ..own }, (1, 1));
        assert_eq!(other.map_err(|refusal| refusal.reason), Err(RefusalReason::ClusterUuid));
    }
}

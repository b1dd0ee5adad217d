//! One operation of a shard's history, and its single binary encoding.
//!
//! Encoded once: a translog takes these bytes as they are.
//!
//! ```text
//! 0  kind      u8       1 index, 2 delete, 3 no-op
//! 1  seq_no    u64 le   position in the shard's history
//! 9  term      u64 le   primary term that assigned it
//! 17 version   u64 le   (0 in a no-op)
//! 25 id        varint length, bytes (in a no-op: the reason)
//!    routing   varint length + 1, bytes; 0 = none          (index only)
//!    source    varint length, bytes                         (index only)
//! ```
//!
//! Valid when every length fits, id and routing are UTF-8, and nothing follows.
//! Example: delete of "a", seq_no 2, term 1, version 3:
//! `02 0200000000000000 0100000000000000 0300000000000000 01 61`.

use crate::codec::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::ids::{PrimaryTerm, SeqNo, Version};

/// An operation, borrowing its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Position in the shard's history.
    pub seq_no: SeqNo,
    /// Primary term that assigned it.
    pub term: PrimaryTerm,
    /// What it does.
    pub kind: OperationKind<'a>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind<'a> {
    /// Puts a whole document in place of whatever had the id.
    Index {
        /// Document id, 1 to 512 bytes.
        id: &'a str,
        /// The document's version after this operation.
        version: Version,
        /// Custom routing value, if the client gave one.
        routing: Option<&'a str>,
        /// The document as the client sent it.
        source: &'a [u8],
    },
    /// Removes a document.
    Delete {
        /// Document id.
        id: &'a str,
        /// Version of the deletion.
        version: Version,
    },
    /// Fills a sequence number for which no operation survives.
    NoOp {
        /// Why.
        reason: &'a str,
    },
}

const INDEX: u8 = 1;
const DELETE: u8 = 2;
const NO_OP: u8 = 3;

impl<'a> Operation<'a> {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, version) = match self.kind {
            OperationKind::Index { version, .. } => (INDEX, version.0),
            OperationKind::Delete { version, .. } => (DELETE, version.0),
            OperationKind::NoOp { .. } => (NO_OP, 0),
        };
        out.push(kind);
        out.extend_from_slice(&(self.seq_no.0 as u64).to_le_bytes());
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        match self.kind {
            OperationKind::Index { id, routing, source, .. } => {
                put_bytes(out, id.as_bytes());
                match routing {
                    None => put_varint(out, 0),
                    Some(r) => {
                        put_varint(out, r.len() as u64 + 1);
                        out.extend_from_slice(r.as_bytes());
                    }
                }
                put_bytes(out, source);
            }
            OperationKind::Delete { id, .. } => put_bytes(out, id.as_bytes()),
            OperationKind::NoOp { reason } => put_bytes(out, reason.as_bytes()),
        }
    }

    /// Reads one operation that fills `bytes`. Errors name the offset inside `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Operation<'a>> {
        let mut r = Reader::new("operation", bytes);
        let kind = r.u8()?;
        let seq_no = r.u64()? as i64;
        let term = PrimaryTerm(r.u64()?);
        let version = Version(r.u64()?);
        if seq_no < 0 {
            return Err(r.corrupt(format!("negative sequence number {seq_no}")));
        }
        let kind = match kind {
            INDEX => {
                let id = r.str()?;
                let routing = match r.varint()? {
                    0 => None,
                    n => Some(r.utf8((n - 1) as usize)?),
                };
                OperationKind::Index { id, version, routing, source: r.bytes()? }
            }
            DELETE => OperationKind::Delete { id: r.str()?, version },
            NO_OP => OperationKind::NoOp { reason: r.str()? },
            other => return Err(Error::corrupt("operation", 0, format!("unknown operation kind {other}"))),
        };
        r.finish()?;
        Ok(Operation { seq_no: SeqNo(seq_no), term, kind })
    }

    /// The document the operation is about; none for a no-op.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        match self.kind {
            OperationKind::Index { id, .. } | OperationKind::Delete { id, .. } => Some(id),
            OperationKind::NoOp { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documented_example_is_the_encoding() {
        let op = Operation {
            seq_no: SeqNo(2),
            term: PrimaryTerm(1),
            kind: OperationKind::Delete { id: "a", version: Version(3) },
        };
        let mut out = Vec::new();
        op.encode(&mut out);
        let mut want = vec![2u8];
        want.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, b'a']);
        assert_eq!(out, want);
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(id in "\\PC{1,40}", routing in proptest::option::of("\\PC{0,9}"),
                                  source in proptest::collection::vec(any::<u8>(), 0..300), seq in 0i64.., v in any::<u64>()) {
            for kind in [
                OperationKind::Index { id: &id, version: Version(v), routing: routing.as_deref(), source: &source },
                OperationKind::Delete { id: &id, version: Version(v) },
                OperationKind::NoOp { reason: &id },
            ] {
                let op = Operation { seq_no: SeqNo(seq), term: PrimaryTerm(7), kind };
                let mut out = Vec::new();
                op.encode(&mut out);
                prop_assert_eq!(Operation::decode(&out).unwrap(), op);
                for cut in 0..out.len() {
                    prop_assert!(Operation::decode(&out[..cut]).is_err());
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Operation::decode(&bytes);
        }
    }
}

//! Bytes of a message in several pieces, so that large ones need not be joined to be sent.

use bytes::{Bytes, BytesMut};

/// The bytes of one message: pieces that count as one after the other. Most have one.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Payload {
    /// No bytes.
    #[must_use]
    pub const fn new() -> Payload {
        Payload { first: Bytes::new(), rest: Vec::new() }
    }

    /// Adds a piece behind the others.
    pub fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if piece.is_empty() {
        } else if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.push(piece);
        }
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }

    /// No bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All bytes in one piece; copies only if there are several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut joined = BytesMut::with_capacity(self.len());
        self.pieces().for_each(|piece| joined.extend_from_slice(piece));
        joined.freeze()
    }
}

impl From<Bytes> for Payload {
    fn from(first: Bytes) -> Payload {
        Payload { first, rest: Vec::new() }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::from(Bytes::from(bytes))
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Payload {
        Payload::from(Bytes::from_static(bytes))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.len() == other.len() && self.pieces().flatten().eq(other.pieces().flatten())
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_count_as_one_after_the_other() {
        let mut payload = Payload::new();
        assert!(payload.is_empty());
        for piece in ["", "ab", "", "c", "def"] {
            payload.push(piece);
        }
        assert_eq!(payload.len(), 6);
        assert_eq!(payload, Payload::from(b"abcdef".as_slice()));
        assert_eq!(payload.into_bytes(), "abcdef");
    }
}

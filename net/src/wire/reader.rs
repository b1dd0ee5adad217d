//! Reading hand-laid-out messages: little-endian integers, and bytes that share the message's memory.

use std::fmt;

use bytes::Bytes;

/// Why bytes are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads from the front; every step checks bounds.
#[derive(Debug)]
pub struct Reader {
    what: &'static str,
    bytes: Bytes,
    size: usize,
}

impl Reader {
    /// `what` is only for error texts.
    #[must_use]
    pub fn new(what: &'static str, bytes: Bytes) -> Reader {
        Reader { what, size: bytes.len(), bytes }
    }

    /// An error at the current offset.
    #[must_use]
    pub fn malformed(&self, reason: impl fmt::Display) -> Malformed {
        Malformed(format!("{} at offset {}: {reason}", self.what, self.size - self.bytes.len()))
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `n` bytes, not copied.
    pub fn take(&mut self, n: usize) -> Result<Bytes, Malformed> {
        if n > self.bytes.len() {
            return Err(self.malformed(format_args!("{n} bytes expected, {} left", self.bytes.len())));
        }
        Ok(self.bytes.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes.get(..N).and_then(|b| <[u8; N]>::try_from(b).ok());
        let Some(array) = bytes else {
            return Err(self.malformed(format_args!("{N} bytes expected, {} left", self.bytes.len())));
        };
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    /// A u8 length and as much text.
    pub fn short_text(&mut self) -> Result<String, Malformed> {
        let length = self.u8()?;
        self.text(usize::from(length))
    }

    /// A u32 length and as many bytes, not copied.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// `n` bytes of UTF-8.
    pub fn text(&mut self, n: usize) -> Result<String, Malformed> {
        let bytes = self.take(n)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(e) => Err(self.malformed(e)),
        }
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.bytes.len() {
            0 => Ok(()),
            n => Err(self.malformed(format_args!("{n} bytes too many"))),
        }
    }
}

/// Appends a u8 length and the text. Longer text loses its end, at a character.
pub(super) fn put_short_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

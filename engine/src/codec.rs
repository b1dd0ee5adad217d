//! Little-endian integers, varints, length-prefixed bytes, checksums: appending, and a bounds-checked [`Reader`].

use crate::error::{Error, Result};

/// CRC-32 (IEEE 802.3) of `bytes`: the checksum of every file and frame.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Appends a LEB128 varint: 7 bits a byte, low bits first, high bit set on all but the last; 1 to 10 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Maps signed to unsigned so that small magnitudes stay small: 0, -1, 1, -2 become 0, 1, 2, 3.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The reverse of [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads from the front of a slice; every step checks bounds, and errors name file and offset.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    file: &'a str,
    all: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// `file` is only for error texts.
    #[must_use]
    pub fn new(file: &'a str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { file, all: bytes, position: 0 }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.all.len() - self.position
    }

    /// A corruption error at the current offset.
    pub fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.file, self.position as u64, reason)
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.remaining() {
            return Err(self.corrupt(format!("{n} bytes expected, {} left", self.remaining())));
        }
        let slice = &self.all[self.position..self.position + n];
        self.position += n;
        Ok(slice)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("2 bytes")))
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("4 bytes")))
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes")))
    }

    /// A LEB128 varint.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(self.corrupt("varint over 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.corrupt("varint over 10 bytes"))
    }

    /// A varint length and as many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.varint()?;
        self.take(usize::try_from(n).map_err(|_| self.corrupt("length over address space"))?)
    }

    /// `n` bytes of UTF-8.
    pub fn utf8(&mut self, n: usize) -> Result<&'a str> {
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map_err(|e| self.corrupt(format!("not UTF-8: {e}")))
    }

    /// A varint length and as many bytes of UTF-8.
    pub fn str(&mut self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|e| self.corrupt(format!("not UTF-8: {e}")))
    }

    /// Fails unless everything was read.
    pub fn finish(&self) -> Result<()> {
        if self.remaining() > 0 {
            return Err(self.corrupt(format!("{} bytes after the end", self.remaining())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varint_round_trips(v in any::<u64>(), s in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            put_varint(&mut out, zigzag(s));
            let mut r = Reader::new("t", &out);
            prop_assert_eq!(r.varint().unwrap(), v);
            prop_assert_eq!(unzigzag(r.varint().unwrap()), s);
            prop_assert!(r.finish().is_ok());
        }
    }
}

//! A packed sequence of `u64`, close to a straight line piece by piece: sequence numbers, versions, offsets.
//!
//! ```text
//! blocks   bit streams of 1024 values each (the last one shorter), back to back
//! table    per block, 24 bytes: base u64, slope i64, (bits << 56 | offset of the stream) u64
//! tail     value count u64, bytes of all streams u64
//! ```
//!
//! Value `i` of a block is `base + (slope * i >> 20) + stream[i]`, modulo 2^64. A constant or evenly growing sequence has
//! streams of width 0. Writers may choose any slope that works; this one takes the line from first to last value.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::segment::checks::Checks;
use crate::store::bitpack::{BitWriter, bits_for, get_bits};

const BLOCK: usize = 1024;
const ENTRY: usize = 24;
const FRACTION: u32 = 20;

/// Collects a sequence. Memory: one block, and the packed rest.
#[derive(Debug, Default)]
pub(crate) struct LinearWriter {
    block: Vec<u64>,
    streams: Vec<u8>,
    table: Vec<u8>,
    count: u64,
}

impl LinearWriter {
    #[inline]
    pub fn push(&mut self, value: u64) {
        self.block.push(value);
        if self.block.len() == BLOCK {
            self.end_block();
        }
    }

    #[cold]
    fn end_block(&mut self) {
        let n = self.block.len();
        let (first, last) = (self.block[0], self.block[n - 1]);
        let rise = last.wrapping_sub(first) as i64;
        let slope = match rise.checked_mul(1 << FRACTION) {
            Some(scaled) if n > 1 => scaled / (n as i64 - 1),
            _ => 0,
        };
        let mut residuals = std::mem::take(&mut self.block);
        let (base, bits) = fit(&mut residuals, slope);
        let offset = self.streams.len() as u64;
        self.table.extend_from_slice(&base.to_le_bytes());
        self.table.extend_from_slice(&slope.to_le_bytes());
        self.table.extend_from_slice(&(u64::from(bits) << 56 | offset).to_le_bytes());
        let mut stream = BitWriter::new(&mut self.streams);
        for &r in &residuals {
            stream.put(r, bits);
        }
        stream.finish();
        self.count += n as u64;
        residuals.clear();
        self.block = residuals;
    }

    /// Appends the whole sequence.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if !self.block.is_empty() {
            self.end_block();
        }
        out.extend_from_slice(&self.streams);
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&(self.streams.len() as u64).to_le_bytes());
    }
}

#[inline]
fn line(slope: i64, i: usize) -> u64 {
    (slope.wrapping_mul(i as i64) >> FRACTION) as u64
}

/// Turns values into distances above the line; its base and the width of the largest distance.
fn fit(values: &mut [u64], slope: i64) -> (u64, u8) {
    for (i, v) in values.iter_mut().enumerate() {
        *v = v.wrapping_sub(line(slope, i));
    }
    // Distances to the first value, signed, so that a line through it is found even if it wraps.
    let first = values[0];
    let low = values.iter().map(|v| v.wrapping_sub(first) as i64).min().expect("not empty");
    let base = first.wrapping_add(low as u64);
    let high = values.iter().map(|v| v.wrapping_sub(base)).max().expect("not empty");
    for v in values.iter_mut() {
        *v = v.wrapping_sub(base);
    }
    (base, bits_for(high))
}

/// Reads a sequence in place.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    bytes: Bytes,
    table_at: usize,
    count: usize,
}

impl Linear {
    /// `bytes` are exactly one sequence.
    pub fn open(bytes: Bytes, checks: &Checks, what: &str) -> Result<Linear> {
        let corrupt = |reason: &str| Error::corrupt(what, 0, reason);
        let tail_at = bytes.len().checked_sub(16).ok_or_else(|| corrupt("sequence too short"))?;
        checks.touch(&bytes[tail_at..])?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (count, streams_len) = (number(tail_at), number(tail_at + 8));
        let table_len = count.div_ceil(BLOCK as u64).checked_mul(ENTRY as u64);
        if table_len.and_then(|t| t.checked_add(streams_len)) != Some(tail_at as u64) {
            return Err(corrupt("lengths of a sequence do not add up"));
        }
        Ok(Linear { bytes, table_at: streams_len as usize, count: count as usize })
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Makes sure that value `i`, which must be below `len`, is as it was written.
    #[inline]
    pub fn touch(&self, i: usize, checks: &Checks) -> Result<()> {
        assert!(i < self.count);
        let (block, within) = (i / BLOCK, i % BLOCK);
        let at = self.table_at + block * ENTRY;
        checks.touch(&self.bytes[at..at + ENTRY])?;
        let place = u64::from_le_bytes(self.bytes[at + 16..at + ENTRY].try_into().expect("8 bytes"));
        let (bits, offset) = ((place >> 56) as usize, (place & (u64::MAX >> 8)) as usize);
        let (start, end) = (offset + within * bits / 8, offset + ((within + 1) * bits).div_ceil(8));
        checks.touch(self.bytes.get(start..end.min(self.table_at)).unwrap_or(&[]))
    }

    /// Value `i`, which must be below `len`.
    #[inline]
    pub fn get(&self, i: usize) -> u64 {
        assert!(i < self.count);
        let (block, within) = (i / BLOCK, i % BLOCK);
        let at = self.table_at + block * ENTRY;
        let entry: &[u8; ENTRY] = self.bytes[at..at + ENTRY].try_into().expect("24 bytes");
        let words = entry.as_chunks::<8>().0;
        let (base, slope) = (u64::from_le_bytes(words[0]), i64::from_le_bytes(words[1]));
        let place = u64::from_le_bytes(words[2]);
        let bits = ((place >> 56) as u8).min(64);
        let value = base.wrapping_add(line(slope, within));
        if bits == 0 {
            return value;
        }
        let offset = (place & (u64::MAX >> 8)) as usize;
        value.wrapping_add(get_bits(&self.bytes[..self.table_at], offset * 8 + within * bits as usize, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(values: &[u64]) -> Vec<u8> {
        let mut w = LinearWriter::default();
        values.iter().for_each(|&v| w.push(v));
        let mut out = vec![];
        w.finish(&mut out);
        out
    }

    fn check(values: &[u64]) {
        let l = Linear::open(packed(values).into(), &Checks::default(), "t").unwrap();
        assert_eq!(l.len(), values.len());
        let back: Vec<u64> = (0..l.len()).map(|i| l.get(i)).collect();
        assert_eq!(back, values);
    }

    #[test]
    fn even_steps_take_no_bits() {
        let values: Vec<u64> = (0..5000).map(|i| 77 + i * 13).collect();
        check(&values);
        assert_eq!(packed(&values).len(), 5 * 24 + 16);
        assert_eq!(packed(&[9; 5000]).len(), 5 * 24 + 16);
    }

    proptest! {
        #[test]
        fn any_sequence_round_trips(mut values in proptest::collection::vec(any::<u64>(), 0..2200), shift in 0u32..64, ascending: bool) {
            values.iter_mut().for_each(|v| *v >>= shift);
            if ascending {
                values.sort_unstable();
            }
            check(&values);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), fix: bool) {
            if fix && bytes.len() >= 40 {
                let tail = bytes.len() - 16;
                bytes[tail..tail + 8].copy_from_slice(&9u64.to_le_bytes());
                bytes[tail + 8..].copy_from_slice(&(tail as u64 - 24).to_le_bytes());
            }
            if let Ok(l) = Linear::open(bytes.into(), &Checks::default(), "t") {
                for i in 0..l.len().min(5000) {
                    l.get(i);
                }
            }
        }
    }
}

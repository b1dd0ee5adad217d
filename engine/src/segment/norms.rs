//! Field lengths in one byte, with Lucene's `SmallFloat.intToByte4` table, so that BM25 scores are the same.
//!
//! Exact up to 40, then four significant bits: 40, 42, 44, ... 56, 60, ...

/// Values stored as they are; above, four significant bits of the rest.
const FREE: u32 = 24;

/// Length to byte, rounding down. Never decreases as the length grows.
#[inline]
#[must_use]
pub fn norm_encode(length: u32) -> u8 {
    let length = length.min(i32::MAX as u32);
    if length < FREE { length as u8 } else { (FREE + to_float4(length - FREE)) as u8 }
}

/// Byte to the smallest length that has it.
#[inline]
#[must_use]
pub fn norm_decode(norm: u8) -> u32 {
    let norm = u32::from(norm);
    if norm < FREE { norm } else { FREE + from_float4(norm - FREE) }
}

/// Three bits of mantissa behind an implicit one, the exponent above.
fn to_float4(value: u32) -> u32 {
    let bits = 32 - value.leading_zeros();
    if bits < 4 {
        return value;
    }
    let shift = bits - 4;
    (value >> shift & 7) | (shift + 1) << 3
}

fn from_float4(value: u32) -> u32 {
    match value >> 3 {
        0 => value,
        exponent => (value & 7 | 8) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_a_round_trip() {
        for norm in 0..=255u8 {
            assert_eq!(norm_encode(norm_decode(norm)), norm);
        }
        assert_eq!(norm_encode(u32::MAX), 255);
    }

    #[test]
    fn table_is_lucenes() {
        for exact in 0..=40 {
            assert_eq!(norm_decode(norm_encode(exact)), exact);
        }
        // Known points of Lucene's length table.
        let points = [(41, 40), (43, 42), (55, 54), (57, 56), (100, 96), (1000, 984), (100_000, 98_328)];
        for (length, stored) in points {
            assert_eq!(norm_decode(norm_encode(length)), stored, "length {length}");
        }
        assert_eq!(norm_decode(255), 2_013_265_944);
    }

    #[test]
    fn longer_never_gets_a_smaller_byte() {
        let mut last = 0;
        for length in 0..200_000 {
            let norm = norm_encode(length);
            assert!(norm >= last && norm_decode(norm) <= length);
            last = norm;
        }
    }
}

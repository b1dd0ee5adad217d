//! The hash of terms and ids. Part of the segment format (the id index), so it never changes within a version.
//!
//! `h = fold(len ^ A, B)`; for each 8 bytes `w`: `h = fold(h ^ w, B)`; the 1 to 8 last bytes are one word `w` (4 to 7:
//! first and last four bytes; 1 to 3: first, middle and last byte); result `fold(h ^ w, C)`. `fold(a, b)` is the upper
//! half of the 128-bit product xored with the lower.

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;
const C: u64 = 0xa076_1d64_78bd_642f;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// 64 well-mixed bits of `bytes`.
#[inline]
#[must_use]
pub fn hash64(bytes: &[u8]) -> u64 {
    let mut h = fold(bytes.len() as u64 ^ A, B);
    let mut rest = bytes;
    while rest.len() > 8 {
        let (word, after) = rest.split_at(8);
        h = fold(h ^ u64::from_le_bytes(word.try_into().expect("8 bytes")), B);
        rest = after;
    }
    let n = rest.len();
    let word = if n == 8 {
        u64::from_le_bytes(rest.try_into().expect("8 bytes"))
    } else if n >= 4 {
        let low = u32::from_le_bytes(rest[..4].try_into().expect("4 bytes"));
        let high = u32::from_le_bytes(rest[n - 4..].try_into().expect("4 bytes"));
        u64::from(low) | u64::from(high) << 32
    } else if n > 0 {
        u64::from(rest[0]) | u64::from(rest[n / 2]) << 8 | u64::from(rest[n - 1]) << 16
    } else {
        0
    };
    fold(h ^ word, C)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_part_of_the_format() {
        let all: Vec<u64> =
            ["", "a", "abc", "abcd", "abcdefgh", "abcdefghi"].iter().map(|s| hash64(s.as_bytes())).collect();
        assert_eq!(all, GOLDEN);
    }

    const GOLDEN: [u64; 6] = [
        0x4b24_d35c_ba4a_63b0,
        0x114c_3737_6cfe_4ced,
        0x2053_0ead_f103_8a05,
        0xd334_4095_316f_4898,
        0xa888_ee20_918d_230d,
        0x0eda_b453_f1d0_f32c,
    ];

    #[test]
    fn similar_keys_spread_over_upper_and_lower_bits() {
        let mut upper = std::collections::HashSet::new();
        let mut lower = std::collections::HashSet::new();
        for i in 0..10_000 {
            let h = hash64(format!("doc-{i}").as_bytes());
            upper.insert(h >> 40);
            lower.insert(h & 0xff_ffff);
        }
        assert!(upper.len() > 9_980 && lower.len() > 9_980, "{} {}", upper.len(), lower.len());
    }
}

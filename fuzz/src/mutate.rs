//! Small changes of an input, decided by a seed: what a fuzzer does first, for a replay that needs none.

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % (n.max(1) as u64)) as usize
    }
}

/// Tokens that parsers trip over.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b",",
    b":",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"9223372036854775807",
    b"18446744073709551616",
    b"NaN",
    b"true",
    b"*",
    b"?",
    b"(",
    b")",
    b"~",
    b"^",
    b"/",
    b"%",
    b"%00",
    b"..",
    b"_all",
    b"now/d",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"",
];

/// `input`, changed in one to four places; `other` lends pieces.
#[must_use]
pub fn mutated(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let span = random.below((out.len() - at).min(64) + 1);
        match random.below(8) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => out[at] = random.bits() as u8,
            2 => out.truncate(at),
            3 => drop(out.drain(at..at + span)),
            4 => {
                let piece = out[at..at + span].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            5 => {
                let from = random.below(other.len());
                let piece = &other[from.min(other.len())..(from + 64).min(other.len())];
                out.splice(at..at + span, piece.iter().copied());
            }
            6 => {
                // The ends of a little-endian number's range.
                let value = [0, u64::MAX, u64::MAX >> 1, 1 << 31, 1][random.below(5)].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(out.len() - at);
                out[at..at + width].copy_from_slice(&value[..width]);
            }
            _ => drop(out.splice(at..at + span, TOKENS[random.below(TOKENS.len())].iter().copied())),
        }
    }
    out
}

//! Bit packing: blocks of 128 integers in four interleaved lanes, and plain bit streams with random access.
//!
//! A packed block of width `b` is `16 * b` bytes: `b` rows of four little-endian `u32` words. Value `i` lives in lane
//! `i % 4`, at bit `(i / 4) * b` of that lane's words, low bits first. One row is one 128-bit register, so that
//! shifting four lanes is one instruction and no shuffles are needed.
//!
//! A bit stream holds value `i` of width `w` (0 to 64) in bits `i * w ..`, counted from the lowest bit of byte 0.

/// Values in a packed block.
pub const BLOCK_LEN: usize = 128;

/// Widths up to this fit a window of eight bytes wherever they start in a byte.
const WINDOW_BITS: u8 = 57;
/// The same of four bytes.
const NARROW_BITS: u8 = 25;
/// Values that are gathered at once.
const TOGETHER: usize = 32;

/// Bits needed for `value`: 0 for 0, 64 at most.
#[inline]
#[must_use]
pub fn bits_for(value: u64) -> u8 {
    (64 - value.leading_zeros()) as u8
}

/// Bytes of a packed block of this width.
#[inline]
#[must_use]
pub fn packed_len(bits: u8) -> usize {
    16 * bits as usize
}

/// Appends a block; every value must fit `bits`, at most 32.
pub fn pack(values: &[u32; BLOCK_LEN], bits: u8, out: &mut Vec<u8>) {
    debug_assert!(bits <= 32 && values.iter().all(|&v| bits_for(u64::from(v)) <= bits));
    let mut rows = [[0u32; 4]; 32];
    let width = bits as usize;
    if width == 0 {
        return;
    }
    let mut bit = 0usize;
    for quad in values.as_chunks::<4>().0 {
        let (row, shift) = (bit / 32, bit % 32);
        for lane in 0..4 {
            rows[row][lane] |= quad[lane] << shift;
        }
        if shift + width > 32 {
            for lane in 0..4 {
                rows[row + 1][lane] |= quad[lane] >> (32 - shift);
            }
        }
        bit += width;
    }
    for row in &rows[..width] {
        for word in row {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// Unpacks a block from the front of `input`; false, leaving `out` unspecified, if it is too short or `bits` over 32.
#[inline]
pub fn unpack(input: &[u8], bits: u8, out: &mut [u32; BLOCK_LEN]) -> bool {
    macro_rules! widths {
        ($($b:literal)*) => {
            match bits {
                0 => out.fill(0),
                $($b => unpack_width::<$b>(&input[..16 * $b], out),)*
                _ => return false,
            }
        };
    }
    if input.len() < packed_len(bits) {
        return false;
    }
    widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    true
}

/// One width, unrolled so that every shift is a constant and four lanes become one vector instruction.
#[inline(never)]
fn unpack_width<const B: usize>(input: &[u8], out: &mut [u32; BLOCK_LEN]) {
    let rows: &[[u8; 16]] = input.as_chunks::<16>().0;
    let rows: &[[u8; 16]; B] = rows.try_into().expect("length was checked");
    macro_rules! quads {
        ($($i:literal)*) => {
            $(quad::<B, $i>(rows, out);)*
        };
    }
    quads!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
}

#[inline(always)]
fn quad<const B: usize, const I: usize>(rows: &[[u8; 16]; B], out: &mut [u32; BLOCK_LEN]) {
    let (row, shift) = (I * B / 32, I * B % 32);
    let mask = u32::MAX >> (32 - B);
    let low = lanes(&rows[row]);
    let mut quad = low.map(|w| w >> shift);
    if shift + B > 32 {
        let high = lanes(&rows[(row + 1).min(B - 1)]);
        for lane in 0..4 {
            quad[lane] |= high[lane] << ((32 - shift) % 32);
        }
    }
    for lane in 0..4 {
        out[I * 4 + lane] = quad[lane] & mask;
    }
}

#[inline(always)]
fn lanes(row: &[u8; 16]) -> [u32; 4] {
    let words = row.as_chunks::<4>().0;
    [
        u32::from_le_bytes(words[0]),
        u32::from_le_bytes(words[1]),
        u32::from_le_bytes(words[2]),
        u32::from_le_bytes(words[3]),
    ]
}

/// The highest bit of each byte, as one word.
#[inline]
#[must_use]
pub fn sign_bits(bytes: &[u8; 64]) -> u64 {
    // SAFETY: the whole program is compiled for it.
    #[cfg(target_feature = "avx2")]
    return unsafe { sign_bits_wide(bytes) };
    #[cfg(not(target_feature = "avx2"))]
    return sign_bits_plainly(bytes);
}

#[cfg(any(test, not(target_feature = "avx2")))]
fn sign_bits_plainly(bytes: &[u8; 64]) -> u64 {
    bytes.iter().enumerate().fold(0, |word, (i, &byte)| word | u64::from(byte >> 7) << i)
}

#[cfg(target_feature = "avx2")]
#[target_feature(enable = "avx2")]
#[inline]
fn sign_bits_wide(bytes: &[u8; 64]) -> u64 {
    use std::arch::x86_64::{_mm256_loadu_si256, _mm256_movemask_epi8};
    let [low, high] = bytes.as_chunks::<32>().0 else { unreachable!("two halves") };
    // SAFETY: 32 bytes each; the load needs no alignment.
    let bits = |half: &[u8; 32]| unsafe { _mm256_movemask_epi8(_mm256_loadu_si256(half.as_ptr().cast())) } as u32;
    u64::from(bits(low)) | u64::from(bits(high)) << 32
}

/// Which bits of a byte are set, ascending; zeros behind them.
static BITS_OF_BYTE: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                all[byte][count] = bit as u8;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

/// Writes which bits of a word are set, ascending and each plus `base`, to the front of `out`; how many. What is behind them
/// in `out` is lost. Without a branch: takes as long for one bit as for all.
#[inline]
pub fn indices_of_bits(word: u64, base: u32, out: &mut [u32; 64]) -> usize {
    let mut count = 0;
    let mut base = base;
    for byte in word.to_le_bytes() {
        // No more than eight bits of each byte before: there is room for eight.
        let room = &mut out[count..count + 8];
        room.iter_mut()
            .zip(&BITS_OF_BYTE[byte as usize])
            .for_each(|(to, &bit)| *to = base.wrapping_add(u32::from(bit)));
        count += byte.count_ones() as usize;
        base = base.wrapping_add(8);
    }
    count
}

/// Writes a bit stream, value by value.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    /// Appends to `out`, starting at a byte.
    pub fn new(out: &'a mut Vec<u8>) -> BitWriter<'a> {
        BitWriter { out, pending: 0, pending_bits: 0 }
    }

    /// Appends one value, which must fit.
    #[inline]
    pub fn put(&mut self, value: u64, bits: u8) {
        debug_assert!(bits <= 64 && bits_for(value) <= bits);
        let bits = u32::from(bits);
        self.pending |= value.checked_shl(self.pending_bits).unwrap_or(0);
        let total = self.pending_bits + bits;
        if total < 64 {
            self.pending_bits = total;
        } else {
            self.out.extend_from_slice(&self.pending.to_le_bytes());
            let used = 64 - self.pending_bits;
            self.pending = value.checked_shr(used).unwrap_or(0);
            self.pending_bits = total - 64;
        }
    }

    /// Fills the last byte with zeros.
    pub fn finish(self) {
        let bytes = self.pending_bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Bytes of a bit stream of `count` values.
#[inline]
#[must_use]
pub fn stream_len(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Reads `bits` bits at bit `position` of a stream; zeros beyond its end.
#[inline]
#[must_use]
pub fn get_bits(stream: &[u8], position: usize, bits: u8) -> u64 {
    let (byte, shift) = (position / 8, position % 8);
    if bits == 0 {
        return 0;
    }
    let Some(window) = stream.get(byte..byte + 8) else { return get_bits_at_end(stream, byte, shift, bits) };
    let low = u64::from_le_bytes(window.try_into().expect("8 bytes")) >> shift;
    // A width of damaged bytes may be above 64; without a shift all there can be is in the window.
    if shift > 0 && shift + bits as usize > 64 {
        let high = stream.get(byte + 8).copied().unwrap_or(0);
        return (low | u64::from(high) << (64 - shift)) & (u64::MAX >> (64 - bits.min(64)));
    }
    low & (u64::MAX >> (64 - bits.min(64)))
}

/// Appends `map` of `count` values of a stream, the first at bit `position`; zeros beyond its end.
#[inline]
pub fn read_bits<T>(
    stream: &[u8],
    position: usize,
    bits: u8,
    count: usize,
    out: &mut Vec<T>,
    mut map: impl FnMut(u64) -> T,
) {
    out.reserve(count);
    let mut at = position;
    let mut left = count;
    if (1..=WINDOW_BITS).contains(&bits) {
        // Values whose window of eight bytes is inside the stream need no other look at its end.
        let whole = match (stream.len().checked_sub(8)).map(|last| last * 8 + 7) {
            Some(last) if at <= last => ((last - at) / bits as usize + 1).min(count),
            _ => 0,
        };
        let mask = u64::MAX >> (64 - bits);
        out.extend((0..whole).map(|i| {
            let bit = at + i * bits as usize;
            // SAFETY: `i < whole`, so that `bit <= last` and `bit / 8 + 8 <= stream.len()`.
            let window = unsafe { stream.as_ptr().add(bit / 8).cast::<[u8; 8]>().read() };
            map(u64::from_le_bytes(window) >> (bit % 8) & mask)
        }));
        at += whole * bits as usize;
        left -= whole;
    }
    for _ in 0..left {
        out.push(map(get_bits(stream, at, bits)));
        at = at.saturating_add(bits as usize);
    }
}

/// Appends `map` of the values of a stream that stand at `places` (ascending) less `from`; zeros beyond its end.
#[inline]
pub fn gather_bits<T>(stream: &[u8], bits: u8, places: &[u32], from: u32, out: &mut Vec<T>, map: impl Fn(u64) -> T) {
    let bit_of = |place: u32| u64::from(place.wrapping_sub(from)) * u64::from(bits);
    let last = places.last().map_or(0, |&place| bit_of(place));
    let last_byte = (last / 8) as usize;
    let mut places = places;
    if (1..=NARROW_BITS).contains(&bits) && last <= u64::from(u32::MAX) && last_byte + 4 <= stream.len() {
        // Where values lie and what of a window they are is found for many at once; only the windows are fetched one by one.
        let (many, rest) = places.as_chunks::<TOGETHER>();
        let mask = u32::MAX >> (32 - bits);
        for many in many {
            let (mut at, mut windows) = ([0u32; TOGETHER], [0u32; TOGETHER]);
            for (at, place) in at.iter_mut().zip(many) {
                *at = place.wrapping_sub(from).wrapping_mul(u32::from(bits));
            }
            for (window, bit) in windows.iter_mut().zip(&at) {
                // Ascending is a promise; a broken one costs a wrong value, not a wrong address.
                let byte = (bit / 8).min(last_byte as u32) as usize;
                // SAFETY: `byte + 4 <= last_byte + 4 <= stream.len()`.
                *window = u32::from_le_bytes(unsafe { stream.as_ptr().add(byte).cast::<[u8; 4]>().read() });
            }
            for (window, bit) in windows.iter_mut().zip(&at) {
                *window = *window >> (bit % 8) & mask;
            }
            out.extend(windows.iter().map(|&value| map(u64::from(value))));
        }
        places = rest;
    }
    if (1..=WINDOW_BITS).contains(&bits) && last_byte + 8 <= stream.len() {
        let mask = u64::MAX >> (64 - bits);
        // Everything by value: what is written might be behind a reference.
        out.extend(places.iter().map(move |&place| {
            let bit = bit_of(place);
            let byte = ((bit / 8) as usize).min(last_byte);
            // SAFETY: `byte + 8 <= last_byte + 8 <= stream.len()`.
            let window = unsafe { stream.as_ptr().add(byte).cast::<[u8; 8]>().read() };
            map(u64::from_le_bytes(window) >> (bit % 8) & mask)
        }));
    } else {
        out.extend(places.iter().map(move |&place| map(get_bits(stream, bit_of(place) as usize, bits))));
    }
}

#[cold]
fn get_bits_at_end(stream: &[u8], byte: usize, shift: usize, bits: u8) -> u64 {
    let mut window = [0u8; 16];
    let rest = stream.get(byte..).unwrap_or(&[]);
    let n = rest.len().min(16);
    window[..n].copy_from_slice(&rest[..n]);
    (u128::from_le_bytes(window) >> shift) as u64 & (u64::MAX >> (64 - bits.min(64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The format, bit by bit.
    fn unpack_by_definition(input: &[u8], bits: u8) -> Vec<u32> {
        let bit_of = |lane: usize, bit: usize| {
            let byte = bit / 32 * 16 + lane * 4 + bit % 32 / 8;
            u32::from(input[byte] >> (bit % 8) & 1)
        };
        (0..BLOCK_LEN)
            .map(|i| (0..bits as usize).map(|b| bit_of(i % 4, i / 4 * bits as usize + b) << b).sum())
            .collect()
    }

    proptest! {
        #[test]
        fn blocks_follow_the_definition(seed in proptest::collection::vec(any::<u32>(), BLOCK_LEN), bits in 0u8..=32) {
            let mut values = [0u32; BLOCK_LEN];
            for (v, s) in values.iter_mut().zip(&seed) {
                *v = if bits == 0 { 0 } else { s >> (32 - bits) };
            }
            let mut out = vec![];
            pack(&values, bits, &mut out);
            prop_assert_eq!(out.len(), packed_len(bits));
            prop_assert_eq!(unpack_by_definition(&out, bits), values.to_vec());
            let mut back = [7u32; BLOCK_LEN];
            prop_assert!(unpack(&out, bits, &mut back));
            prop_assert_eq!(back, values);
            if bits > 0 {
                prop_assert!(!unpack(&out[1..], bits, &mut back));
            }
        }

        #[test]
        fn streams_give_back_every_value(values in proptest::collection::vec(any::<u64>(), 0..200), bits in 0u8..=64, pad in 0usize..9) {
            let values: Vec<u64> = values.iter().map(|v| if bits == 0 { 0 } else { v >> (64 - bits) }).collect();
            let mut out = vec![];
            let mut w = BitWriter::new(&mut out);
            values.iter().for_each(|&v| w.put(v, bits));
            w.finish();
            prop_assert_eq!(out.len(), stream_len(values.len(), bits));
            out.resize(out.len() + pad, 0xff);
            for (i, &v) in values.iter().enumerate() {
                prop_assert_eq!(get_bits(&out, i * bits as usize, bits), v);
            }
            let _ = get_bits(&out, usize::MAX / 2, bits);
            for from in [0, values.len() / 3, values.len()] {
                let mut read = vec![7];
                read_bits(&out, from * bits as usize, bits, values.len() - from, &mut read, |v| v);
                prop_assert_eq!(&read[1..], &values[from..]);
            }
            let some: Vec<u32> = (0..values.len() as u32).filter(|i| i % 3 != 1).collect();
            for from in [0, 9] {
                let places: Vec<u32> = some.iter().map(|i| i + from).collect();
                let mut read = vec![];
                gather_bits(&out, bits, &places, from, &mut read, |v| v);
                prop_assert_eq!(read, some.iter().map(|&i| values[i as usize]).collect::<Vec<_>>());
            }
            let mut beyond = vec![];
            read_bits(&out, usize::MAX - 5, bits, 3, &mut beyond, |v| v);
            read_bits(&out, out.len() * 8 + 3, bits, 3, &mut beyond, |v| v);
            prop_assert_eq!(beyond, vec![0; 6]);
        }
    }

    proptest! {
        #[test]
        fn indices_are_those_of_set_bits(word: u64, mask: u64, base: u32) {
            for word in [word, word & mask, 0, u64::MAX] {
                let mut out = [7; 64];
                let count = indices_of_bits(word, base, &mut out);
                let want: Vec<u32> = (0..64).filter(|i| word >> i & 1 == 1).map(|i| base.wrapping_add(i)).collect();
                prop_assert_eq!(&out[..count], &want);
            }
        }

        #[test]
        fn sign_bits_are_those_of_each_byte(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let bytes = <[u8; 64]>::try_from(bytes).unwrap();
            prop_assert_eq!(sign_bits(&bytes), sign_bits_plainly(&bytes));
        }
    }

    #[test]
    fn widths_over_64_count_as_64() {
        let stream = [0xff; 40];
        for position in 0..64 {
            assert_eq!(get_bits(&stream, position, 255), u64::MAX);
        }
    }

    #[test]
    fn widths_over_32_are_refused() {
        assert!(!unpack(&[0; 4096], 33, &mut [0; BLOCK_LEN]));
    }
}

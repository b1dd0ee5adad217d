//! A block of a term dictionary: up to 32 sorted terms and what is known of each.
//!
//! ```text
//! form      u8        bytes of an end: 1, 2 or 4
//! shared    u8 * n    bytes in common with the term before, or 255 where there are more; 0 for the first
//! ends      form * n  where the suffix of each term ends, counted from the first suffix
//! suffixes            what follows the shared bytes, back to back
//! with infos only:
//!   postings and positions of the first term, varints
//!   widths of doc_freq - 1, total_term_freq - doc_freq, postings and positions, 4 bytes
//!   bit stream, per term those four; addresses relative to the first term's
//! ```
//!
//! Whoever knows how many bytes of a term led nowhere finds the next one that differs in them with one comparison of
//! `shared`, whatever the number of terms between, and looks at none of those.

use crate::codec::put_varint;
use crate::segment::dictionary::read_varint;
use crate::segment::postings::TermInfo;
use crate::store::bitpack::{BitWriter, bits_for, get_bits};

/// Terms in a block.
pub(crate) const BLOCK: usize = 32;

/// What `shared` counts to.
const SHARED_MAX: usize = 255;

#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Appends a block of these terms, of which each ends where `ends` says; `infos` as many or none.
pub(crate) fn write(terms: &[u8], ends: &[usize], infos: &[TermInfo], out: &mut Vec<u8>) {
    assert!(!ends.is_empty() && ends.len() <= BLOCK);
    let start_of = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
    let term = |i: usize| &terms[start_of(i)..ends[i]];
    let mut shared = [0; BLOCK];
    for (i, shared) in shared.iter_mut().enumerate().take(ends.len()).skip(1) {
        debug_assert!(term(i - 1) < term(i), "terms must ascend");
        *shared = common_prefix(term(i - 1), term(i)).min(SHARED_MAX) as u8;
    }
    let suffix = |i: usize| &term(i)[shared[i] as usize..];
    let total: usize = (0..ends.len()).map(|i| suffix(i).len()).sum();
    let form = match total {
        0..0x100 => 1,
        0x100..0x1_0000 => 2,
        _ => 4,
    };
    out.push(form as u8);
    out.extend_from_slice(&shared[..ends.len()]);
    let mut end = 0;
    for i in 0..ends.len() {
        end += suffix(i).len();
        let end = u32::try_from(end).expect("32 terms of over 4 GiB");
        out.extend_from_slice(&end.to_le_bytes()[..form]);
    }
    (0..ends.len()).for_each(|i| out.extend_from_slice(suffix(i)));
    if !infos.is_empty() {
        assert_eq!(infos.len(), ends.len());
        write_infos(infos, out);
    }
}

fn write_infos(infos: &[TermInfo], out: &mut Vec<u8>) {
    let first = infos[0];
    put_varint(out, first.postings);
    put_varint(out, first.positions);
    let row = |info: &TermInfo| {
        [
            u64::from(info.doc_freq) - 1,
            info.total_term_freq - u64::from(info.doc_freq),
            info.postings - first.postings,
            info.positions - first.positions,
        ]
    };
    let mut widths = [0u8; 4];
    for info in infos {
        for (width, value) in widths.iter_mut().zip(row(info)) {
            *width = (*width).max(bits_for(value));
        }
    }
    out.extend_from_slice(&widths);
    let mut stream = BitWriter::new(out);
    for info in infos {
        for (width, value) in widths.iter().zip(row(info)) {
            stream.put(value, *width);
        }
    }
    stream.finish();
}

/// A term that is looked for, with eight bytes to be read from anywhere in it.
struct Wanted<'a> {
    bytes: &'a [u8],
    /// The first of them, and zeros.
    padded: [u8; Wanted::PADDED],
}

impl<'a> Wanted<'a> {
    const PADDED: usize = 40;

    #[inline(always)]
    fn new(bytes: &'a [u8]) -> Wanted<'a> {
        let mut padded = [0; Wanted::PADDED];
        let len = bytes.len().min(Wanted::PADDED);
        padded[..len].copy_from_slice(&bytes[..len]);
        Wanted { bytes, padded }
    }

    /// Bytes from `at` on that are those of `suffix`; `more` begins with it.
    #[inline(always)]
    fn common(&self, at: usize, suffix: &[u8], more: &[u8]) -> usize {
        let rest = self.bytes.len().saturating_sub(at);
        if let (Some(a), Some(b)) =
            (more.first_chunk::<8>(), self.padded.get(at..).and_then(|padded| padded.first_chunk::<8>()))
        {
            let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
            let most = suffix.len().min(rest);
            let common = (differ.trailing_zeros() / 8) as usize;
            if common < 8 || most <= 8 {
                return common.min(most);
            }
        }
        common_prefix(suffix, self.bytes.get(at..).unwrap_or(&[]))
    }
}

/// A block in place. Trusts no byte: a damaged block has fewer or other terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    n: usize,
    form: u8,
    shared: [u8; BLOCK],
    ends: &'a [u8],
    /// And all that follows.
    suffixes: &'a [u8],
}

impl<'a> Block<'a> {
    /// `bytes` start with a block of `n` terms.
    #[inline]
    pub fn open(bytes: &'a [u8], n: usize) -> Option<Block<'a>> {
        let (&form, rest) = bytes.split_first()?;
        if !matches!(form, 1 | 2 | 4) || n == 0 || n > BLOCK {
            return None;
        }
        let shared = match rest.first_chunk::<BLOCK>() {
            Some(chunk) => *chunk,
            None => {
                let mut shared = [0; BLOCK];
                shared[..n].copy_from_slice(rest.get(..n)?);
                shared
            }
        };
        let (ends, suffixes) = rest.get(n..)?.split_at_checked(n * form as usize)?;
        Some(Block { n, form, shared, ends, suffixes })
    }

    /// Terms in the block.
    #[inline]
    pub fn len(&self) -> usize {
        self.n
    }

    #[inline]
    fn end(&self, i: usize) -> usize {
        match self.form {
            1 => self.ends[i] as usize,
            2 => u16::from_le_bytes(self.ends.as_chunks().0[i]) as usize,
            _ => u32::from_le_bytes(self.ends.as_chunks().0[i]) as usize,
        }
    }

    /// Bytes that term `i` shares with the one before, and those that follow. None where the block is damaged.
    #[inline(always)]
    pub fn entry(&self, i: usize) -> Option<(usize, &'a [u8])> {
        if i == 0 {
            return Some((0, self.suffixes.get(..self.end(0))?));
        }
        Some((self.shared[i] as usize, self.suffixes.get(self.end(i - 1)..self.end(i))?))
    }

    /// The last byte of term `i`.
    #[inline]
    pub fn last_byte(&self, i: usize) -> Option<u8> {
        self.suffixes.get(self.end(i).checked_sub(1)?).copied()
    }

    /// The first term behind `i` that shares at most `bytes` with the one before it; `len` if there is none. For a number
    /// above what is counted, any term may be one.
    #[inline]
    pub fn next_sharing_at_most(&self, bytes: usize, i: usize) -> usize {
        let behind = !(u32::MAX >> (31 - i as u32));
        let found = (at_most(&self.shared, bytes.min(SHARED_MAX) as u8) & behind).trailing_zeros() as usize;
        found.min(self.n)
    }

    /// `Ok` the index of a term, or `Err` that of the first greater one.
    #[inline]
    pub fn search(&self, term: &[u8]) -> Result<usize, usize> {
        let term = &Wanted::new(term);
        match self.form {
            1 => self.search_by(term, |i| self.ends[i] as usize),
            2 => self.search_by(term, |i| u16::from_le_bytes(self.ends.as_chunks().0[i]) as usize),
            _ => self.search_by(term, |i| u32::from_le_bytes(self.ends.as_chunks().0[i]) as usize),
        }
    }

    #[inline(always)]
    fn search_by(&self, term: &Wanted<'_>, end: impl Fn(usize) -> usize) -> Result<usize, usize> {
        let (mut i, mut shared, mut start) = (0, 0, 0);
        loop {
            let Some(suffix) = self.suffixes.get(start..end(i)) else { return Err(self.n) };
            let common = term.common(shared, suffix, &self.suffixes[start..]);
            match (suffix.get(common), term.bytes.get(shared + common)) {
                (None, None) => return Ok(i),
                (Some(_), None) => return Err(i),
                (Some(s), Some(t)) if s > t => return Err(i),
                _ => {}
            }
            // What shares more with the term before than that has in common with the wanted is still below it; what shares
            // less is above.
            let matched = shared + common;
            i = self.next_sharing_at_most(matched, i);
            if i == self.n {
                return Err(i);
            }
            shared = self.shared[i] as usize;
            if shared < matched.min(SHARED_MAX) {
                return Err(i);
            }
            start = end(i - 1);
        }
    }

    /// Replaces `out` with term `i`.
    pub fn term(&self, i: usize, out: &mut Vec<u8>) {
        out.clear();
        let Some((mut missing, suffix)) = self.entry(i) else { return };
        out.resize(missing, 0);
        out.extend_from_slice(suffix);
        let mut at = i;
        while missing > 0 && at > 0 {
            // The last term before that shares less had the last of the missing bytes.
            let before = at_most(&self.shared, (missing - 1) as u8) | 1;
            at = 31 - (before & (u32::MAX >> (32 - at as u32))).leading_zeros() as usize;
            let Some((shared, suffix)) = self.entry(at) else { return };
            let len = (missing - shared).min(suffix.len());
            out[shared..shared + len].copy_from_slice(&suffix[..len]);
            missing = shared;
        }
    }

    /// What is known of the terms, in a block with infos.
    #[inline]
    pub fn infos(&self) -> Option<Infos<'a>> {
        let mut bytes = self.suffixes.get(self.end(self.n - 1)..)?;
        let postings = read_varint(&mut bytes)?;
        let positions = read_varint(&mut bytes)?;
        let (&widths, bits) = bytes.split_first_chunk::<4>()?;
        let row: usize = widths.iter().map(|&w| w as usize).sum();
        if widths.iter().any(|&w| w > 64) {
            return None;
        }
        let bits = bits.get(..(self.n * row).div_ceil(8))?;
        Some(Infos { bits, widths, row, postings, positions })
    }
}

/// What is known of a block's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Infos<'a> {
    bits: &'a [u8],
    widths: [u8; 4],
    row: usize,
    postings: u64,
    positions: u64,
}

impl Infos<'_> {
    /// Of terms without infos: each has one document.
    pub const NONE: Infos<'static> = Infos { bits: &[], widths: [0; 4], row: 0, postings: 0, positions: 0 };

    #[inline]
    pub fn get(&self, i: usize) -> TermInfo {
        let [a, b, c, d] = self.widths;
        let at = i * self.row;
        let [doc_freq, more, postings, positions] = match self.bits.get(at / 8..).and_then(|b| b.first_chunk::<8>()) {
            // Nearly all rows are within one load.
            Some(chunk) if self.row <= 56 => {
                let row = u64::from_le_bytes(*chunk) >> (at % 8);
                let mut from = 0;
                [a, b, c, d].map(|width| {
                    let value = row >> from & !(u64::MAX << width);
                    from += width;
                    value
                })
            }
            _ => {
                let mut at = at;
                [a, b, c, d].map(|width| {
                    let value = get_bits(self.bits, at, width);
                    at += width as usize;
                    value
                })
            }
        };
        let doc_freq = (doc_freq.min(u64::from(u32::MAX) - 1) + 1) as u32;
        TermInfo {
            doc_freq,
            total_term_freq: more.saturating_add(u64::from(doc_freq)),
            postings: self.postings.saturating_add(postings),
            positions: self.positions.saturating_add(positions),
        }
    }
}

/// Which bytes are not above `bound`: a bit each.
#[inline]
fn at_most(bytes: &[u8; BLOCK], bound: u8) -> u32 {
    // SAFETY: the whole program is compiled for it.
    #[cfg(target_feature = "avx2")]
    return unsafe { at_most_wide(bytes, bound) };
    #[cfg(not(target_feature = "avx2"))]
    return at_most_plainly(bytes, bound);
}

#[cfg(any(test, not(target_feature = "avx2")))]
fn at_most_plainly(bytes: &[u8; BLOCK], bound: u8) -> u32 {
    bytes.iter().enumerate().fold(0, |bits, (i, &byte)| bits | u32::from(byte <= bound) << i)
}

#[cfg(target_feature = "avx2")]
#[target_feature(enable = "avx2")]
#[inline]
fn at_most_wide(bytes: &[u8; BLOCK], bound: u8) -> u32 {
    use std::arch::x86_64::{
        _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
    };
    // SAFETY: 32 bytes; the load needs no alignment.
    let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    let bound = _mm256_set1_epi8(bound as i8);
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(bytes, bound), bytes)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Short ones that share much, and some that share more than is counted or take wide ends.
    fn terms() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        let short = proptest::collection::vec(b'a'..b'd', 0..6);
        let long =
            (250usize..260, proptest::collection::vec(b'a'..b'c', 0..4), 0usize..2).prop_map(|(n, tail, more)| {
                let mut term = vec![b'a'; n];
                term.extend(tail);
                term.extend(vec![b'z'; more * 3000]);
                term
            });
        proptest::collection::btree_set(prop_oneof![4 => short, 1 => long], 1..=BLOCK)
    }

    proptest! {
        #[test]
        fn wide_comparisons_are_plain_comparisons(bytes: [u8; BLOCK], bound: u8) {
            prop_assert_eq!(at_most(&bytes, bound), at_most_plainly(&bytes, bound));
        }

        #[test]
        fn answers_like_a_sorted_set(terms in terms(), probes in terms(), base in 0u64..1 << 40) {
            let (mut flat, mut ends, mut infos) = (Vec::new(), Vec::new(), Vec::new());
            for (i, term) in (0u64..).zip(&terms) {
                flat.extend_from_slice(term);
                ends.push(flat.len());
                let doc_freq = 1 + i as u32 * 3;
                let total_term_freq = u64::from(doc_freq) + i;
                infos.push(TermInfo { doc_freq, total_term_freq, postings: base + i * i, positions: base / 2 + i });
            }
            let mut bytes = Vec::new();
            write(&flat, &ends, &infos, &mut bytes);
            let block = Block::open(&bytes, terms.len()).unwrap();
            let mut found = Vec::new();
            for (i, term) in terms.iter().enumerate() {
                block.term(i, &mut found);
                prop_assert_eq!(&found, term);
                prop_assert_eq!(block.infos().unwrap().get(i), infos[i]);
                prop_assert!(term.is_empty() || block.last_byte(i) == term.last().copied());
            }
            for probe in probes.iter().chain(&terms) {
                let below = terms.range::<Vec<u8>, _>(..probe).count();
                let expected = if terms.contains(probe) { Ok(below) } else { Err(below) };
                prop_assert_eq!(block.search(probe), expected);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..200), n in 0usize..40, probe in proptest::collection::vec(0u8..6, 0..9)) {
            let Some(block) = Block::open(&bytes, n) else { return Ok(()) };
            let mut out = Vec::new();
            for i in 0..n {
                let _ = (block.entry(i), block.last_byte(i));
                block.term(i, &mut out);
                if let Some(infos) = block.infos() {
                    let _ = infos.get(i);
                }
            }
            let (Ok(at) | Err(at)) = block.search(&probe);
            prop_assert!(at <= n);
        }
    }
}

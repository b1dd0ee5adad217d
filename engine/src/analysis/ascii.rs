//! The standard tokenizer's words in lower case, eight bytes at a time: what most analyzers do to most of most texts.
//!
//! Only words that ASCII letters and digits alone decide are found here. The tokenizer cuts every other one, and the filter
//! changes its case, so the terms are theirs.

use super::standard;
use super::token::Word;
use super::word_break::*;
use super::words::WordFilter;
use super::{HEAD, Term};

/// Longer words are the tokenizer's.
const WORD_LEN_MAX: usize = 256;

/// A letter or a digit.
const WORD: u8 = 1;
/// No token starts with it.
const APART: u8 = 2;
/// Ends a word, whatever follows.
const ENDS: u8 = 4;
/// Ends a word unless a letter or digit follows.
const MIDDLE: u8 = 8;

const STEPS: [u8; 256] = {
    let mut steps = [0; 256];
    let mut b = 0;
    while b < 128 {
        steps[b] = match ASCII[b] & CLASS {
            ALETTER | NUMERIC => WORD,
            EXTEND_NUM_LET => 0,
            MID_LETTER | MID_NUM | MID_NUM_LET | SINGLE_QUOTE => MIDDLE | APART,
            // They may start a keycap.
            _ if b == b'#' as usize || b == b'*' as usize => ENDS,
            _ => ENDS | APART,
        };
        b += 1;
    }
    steps
};

/// Calls `emit` for each token.
#[inline]
pub(super) fn lowercase_words(text: &str, max: usize, buf: &mut String, emit: &mut impl FnMut(Term<'_>)) {
    let bytes = text.as_bytes();
    let mut long = [0; WORD_LEN_MAX];
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        let step = STEPS[first as usize];
        if step & APART != 0 {
            at += 1;
            continue;
        }
        if step & WORD != 0
            && let Some((head, len)) = word_at(bytes, at, &mut long)
            && len <= max
            && ends_at(bytes, at + len)
        {
            let short = head.to_le_bytes();
            emit(Term { bytes: if len <= HEAD { &short[..len] } else { &long[..len] }, head });
            at += len;
            continue;
        }
        let (end, kind) = standard::token(text, at, max);
        if !kind.is_empty() {
            lowercase(&text[at..end], kind, buf, emit);
        }
        at = end;
    }
}

#[inline(never)]
fn lowercase(token: &str, kind: &'static str, buf: &mut String, emit: &mut impl FnMut(Term<'_>)) {
    let mut word = Word::new(token, buf, kind);
    if WordFilter::Lowercase.apply(&mut word) {
        emit(Term::new(word.as_str().as_bytes()));
    }
}

/// The run of letters and digits at `at`, in lower case: its head and length, and all of it in `long` if there is more than
/// the head. None if it does not fit.
#[inline]
fn word_at(bytes: &[u8], at: usize, long: &mut [u8; WORD_LEN_MAX]) -> Option<(u64, usize)> {
    let (head, mut len) = lower_run(chunk(bytes, at));
    if len < 8 {
        return Some((head & ((1 << (8 * len)) - 1), len));
    }
    long[..8].copy_from_slice(&head.to_le_bytes());
    loop {
        let (next, run) = lower_run(chunk(bytes, at + len));
        long.get_mut(len..len + 8)?.copy_from_slice(&next.to_le_bytes());
        len += run;
        if run < 8 {
            return Some((head, len));
        }
    }
}

/// Whether a word ends before `at`, as far as ASCII alone decides.
#[inline]
fn ends_at(bytes: &[u8], at: usize) -> bool {
    let Some(&after) = bytes.get(at) else { return true };
    let step = STEPS[after as usize];
    let apart = |b: &u8| b.is_ascii() && STEPS[*b as usize] & WORD == 0;
    step & ENDS != 0 || (step & MIDDLE != 0 && bytes.get(at + 1).is_none_or(apart))
}

/// Eight bytes from `at`, zeros behind the end.
#[inline]
fn chunk(bytes: &[u8], at: usize) -> u64 {
    let rest = &bytes[at..];
    match rest.first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => rest.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)),
    }
}

/// Eight characters with ASCII's capitals in lower case, and how many letters and digits they start with.
#[inline]
fn lower_run(bytes: u64) -> (u64, usize) {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // In each byte's highest bit, whether it is at least so much: no sum is above 255.
    let at_least = |low: u64, limit: u8| low + ONES * u64::from(0x80 - limit);
    let low = bytes & !HIGH;
    let folded = low | (ONES * 0x20);
    let letters = at_least(folded, b'a') & !at_least(folded, b'z' + 1) & !bytes & HIGH;
    let digits = at_least(low, b'0') & !at_least(low, b'9' + 1) & !bytes & HIGH;
    let run = (!(letters | digits) & HIGH).trailing_zeros() / 8;
    (bytes | letters >> 2, run as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fast(text: &str, max: usize) -> Vec<String> {
        let mut out = Vec::new();
        lowercase_words(text, max, &mut String::new(), &mut |term| {
            assert_eq!(term.head, Term::new(term.bytes).head, "{:?}", term.bytes);
            out.push(String::from_utf8(term.bytes.to_vec()).unwrap());
        });
        out
    }

    fn slow(text: &str, max: usize) -> Vec<String> {
        let (mut out, mut buf) = (Vec::new(), String::new());
        standard::tokenize(text, max, &mut |token| {
            let mut word = Word::new(token.text, &mut buf, token.kind);
            assert!(WordFilter::Lowercase.apply(&mut word));
            out.push(word.as_str().to_owned());
        });
        out
    }

    #[test]
    fn runs_of_any_byte_are_known() {
        for b in 0..=255u8 {
            for at in 0..8 {
                let mut bytes = *b"aZ09mN5z";
                bytes[at] = b;
                let (lower, run) = lower_run(u64::from_le_bytes(bytes));
                let expected = if b.is_ascii_alphanumeric() { 8 } else { at };
                assert_eq!(run, expected, "{b} at {at}");
                assert_eq!(lower.to_le_bytes(), bytes.map(|b| b.to_ascii_lowercase()));
            }
        }
    }

    #[test]
    fn words_of_any_length_are_whole() {
        for len in 0..600 {
            for tail in ["", " ", ".", ".x", "é", "_", " and"] {
                let text = format!("{}{tail}", "aB3dEfGhIj".repeat(60).split_at(len).0);
                for max in [255, 1000] {
                    assert_eq!(fast(&text, max), slow(&text, max), "{len} {tail:?} {max}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn terms_are_those_of_tokenizer_and_filter(
            text in "[a-cA-C1-3_'.,:;#* \"é\u{130}\u{300}\u{200d}\u{fe0f}\u{20e3}א字]{0,60}", max in 1usize..20,
        ) {
            prop_assert_eq!(fast(&text, max), slow(&text, max));
        }

        #[test]
        fn plain_texts_too(text in "([a-zA-Z0-9]{1,20}[ .,'_-]{1,2}){0,12}", max in 1usize..300) {
            prop_assert_eq!(fast(&text, max), slow(&text, max));
        }
    }
}

//! The tokenizers beside the standard one.

use super::pattern::Pattern;
use super::standard;
use super::token::Raw;

const WORD: &str = "word";

/// Cuts a text into tokens.
#[derive(Debug)]
pub(super) enum Tokenizer {
    /// UAX #29.
    Standard { max_token_length: usize },
    /// Runs without white space.
    Whitespace { max_token_length: usize },
    /// The whole text.
    Keyword,
    /// Runs of letters.
    Letter,
    /// Runs of letters, in lower case.
    Lowercase,
    /// What is between matches (no group), or a group of each match.
    Pattern { pattern: Pattern, group: Option<usize> },
    /// All pieces of some lengths, or those at the start of a word.
    Ngram { min: usize, max: usize, chars: TokenChars, edge: bool },
    /// A path and its ancestors.
    PathHierarchy { delimiter: char, replacement: char, skip: usize, reverse: bool },
    /// Cuts at some characters.
    CharGroup { chars: TokenChars, max_token_length: usize },
}

/// A set of characters by class; of a tokenizer that keeps them or cuts at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenChars {
    /// Every character belongs.
    pub all: bool,
    pub letter: bool,
    pub digit: bool,
    pub whitespace: bool,
    pub punctuation: bool,
    pub symbol: bool,
    pub custom: Vec<char>,
}

impl TokenChars {
    fn contains(&self, c: char) -> bool {
        self.all
            || (self.letter && is_letter(c))
            || (self.digit && is_digit(c))
            || (self.whitespace && is_whitespace(c))
            || (self.punctuation && super::pattern::is_punctuation(c))
            || (self.symbol && super::pattern::is_symbol(c))
            || self.custom.contains(&c)
    }
}

/// White space as Java has it: Unicode separators but not the no-break ones, and some controls.
pub(super) fn is_whitespace(c: char) -> bool {
    match c {
        '\u{9}'..='\u{d}' | '\u{1c}'..='\u{20}' => true,
        '\u{85}' | '\u{a0}' | '\u{2007}' | '\u{202f}' => false,
        _ => c.is_whitespace(),
    }
}

/// General category L.
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { c.is_alphabetic() && super::pattern::is_letter(c) }
}

/// General category Nd.
pub(super) fn is_digit(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { c.is_numeric() && super::pattern::is_decimal(c) }
}

impl Tokenizer {
    /// Calls `emit` for each token.
    pub(super) fn run(&self, text: &str, emit: &mut impl FnMut(Raw<'_>)) {
        match self {
            Tokenizer::Standard { max_token_length } => standard::tokenize(text, *max_token_length, emit),
            Tokenizer::Whitespace { max_token_length } => runs(text, *max_token_length, |c| !is_whitespace(c), emit),
            Tokenizer::Keyword => {
                if !text.is_empty() {
                    emit(Raw::new(text, 0, text.len(), WORD));
                }
            }
            Tokenizer::Letter => runs(text, 255, is_letter, emit),
            Tokenizer::Lowercase => {
                let mut lower = String::new();
                runs(text, 255, is_letter, &mut |t| {
                    lower.clear();
                    lower.extend(t.text.chars().map(super::case::lower));
                    emit(Raw { text: &lower, ..t });
                });
            }
            Tokenizer::Pattern { pattern, group } => by_pattern(text, pattern, *group, emit),
            Tokenizer::Ngram { min, max, chars, edge } => ngrams(text, *min, *max, chars, *edge, emit),
            Tokenizer::PathHierarchy { delimiter, replacement, skip, reverse: false } => {
                paths(text, *delimiter, *replacement, *skip, emit);
            }
            Tokenizer::PathHierarchy { delimiter, replacement, skip, reverse: true } => {
                paths_reversed(text, *delimiter, *replacement, *skip, emit);
            }
            Tokenizer::CharGroup { chars, max_token_length } => {
                runs(text, *max_token_length, |c| !chars.contains(c), emit);
            }
        }
    }
}

/// Runs of characters that belong; a run longer than `max` UTF-16 units is cut there.
fn runs(text: &str, max: usize, belongs: impl Fn(char) -> bool, emit: &mut impl FnMut(Raw<'_>)) {
    let (mut start, mut units) = (None, 0);
    for (i, c) in text.char_indices() {
        if belongs(c) {
            let from = *start.get_or_insert(i);
            units += c.len_utf16();
            if units >= max {
                let end = i + c.len_utf8();
                emit(Raw::new(&text[from..end], from, end, WORD));
                (start, units) = (None, 0);
            }
        } else if let Some(from) = start.take() {
            emit(Raw::new(&text[from..i], from, i, WORD));
            units = 0;
        }
    }
    if let Some(from) = start {
        emit(Raw::new(&text[from..], from, text.len(), WORD));
    }
}

fn by_pattern(text: &str, pattern: &Pattern, group: Option<usize>, emit: &mut impl FnMut(Raw<'_>)) {
    let mut piece = |from: usize, to: usize| {
        if from < to {
            emit(Raw::new(&text[from..to], from, to, WORD));
        }
    };
    match group {
        Some(group) => pattern.for_each_group(text, group, &mut piece),
        None => {
            let mut from = 0;
            pattern.for_each_group(text, 0, &mut |start, end| {
                piece(from, start);
                from = end;
            });
            piece(from, text.len());
        }
    }
}

fn ngrams(text: &str, min: usize, max: usize, chars: &TokenChars, edge: bool, emit: &mut impl FnMut(Raw<'_>)) {
    let mut at_edge = true;
    for (start, first) in text.char_indices() {
        if !chars.contains(first) {
            at_edge = true;
            continue;
        }
        if edge && !at_edge {
            continue;
        }
        at_edge = false;
        let mut end = start;
        for (n, c) in text[start..].chars().take(max).enumerate() {
            if !chars.contains(c) {
                break;
            }
            end += c.len_utf8();
            if n + 1 >= min {
                emit(Raw::new(&text[start..end], start, end, WORD));
            }
        }
    }
}

fn replaced<'a>(piece: &'a str, delimiter: char, replacement: char, buf: &'a mut String) -> &'a str {
    if delimiter == replacement {
        return piece;
    }
    buf.clear();
    buf.extend(piece.chars().map(|c| if c == delimiter { replacement } else { c }));
    buf
}

/// `/a/b` gives `/a`, `/a/b`, all at one position.
fn paths(text: &str, delimiter: char, replacement: char, skip: usize, emit: &mut impl FnMut(Raw<'_>)) {
    // The parts begin at the delimiters; a text that does not begin with one has a part before the first.
    let mut begins: Vec<usize> = text.match_indices(delimiter).map(|(i, _)| i).collect();
    if begins.first() != Some(&0) {
        begins.insert(0, 0);
    }
    if text.is_empty() {
        return;
    }
    let Some(&from) = begins.get(skip) else { return };
    let mut buf = String::new();
    for (n, _) in begins.iter().enumerate().skip(skip) {
        let end = begins.get(n + 1).copied().unwrap_or(text.len());
        let term = replaced(&text[from..end], delimiter, replacement, &mut buf);
        emit(Raw { text: term, start: from, end, kind: WORD, increment: u32::from(n == skip) });
    }
}

/// `a.b.c` gives `a.b.c`, `b.c`, `c`, all at one position.
fn paths_reversed(text: &str, delimiter: char, replacement: char, skip: usize, emit: &mut impl FnMut(Raw<'_>)) {
    if text.is_empty() {
        return;
    }
    let mut begins: Vec<usize> =
        std::iter::once(0).chain(text.match_indices(delimiter).map(|(i, _)| i + delimiter.len_utf8())).collect();
    if begins.last() != Some(&text.len()) {
        begins.push(text.len());
    }
    // The last `skip` parts, with the delimiter before what is dropped, end the tokens earlier.
    let parts = begins.len() - 1;
    if parts <= skip {
        return;
    }
    let end = begins[parts - skip];
    let mut buf = String::new();
    for (n, &start) in begins[..parts - skip].iter().enumerate() {
        let term = replaced(&text[start..end], delimiter, replacement, &mut buf);
        emit(Raw { text: term, start, end, kind: WORD, increment: u32::from(n == 0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokenizer: &Tokenizer, text: &str, expected: &[&str]) {
        let mut got = Vec::new();
        tokenizer.run(text, &mut |t| got.push(t.text.to_owned()));
        assert_eq!(got, expected, "{tokenizer:?} on {text:?}");
    }

    #[test]
    fn runs_are_cut_at_their_longest() {
        let t = Tokenizer::Whitespace { max_token_length: 3 };
        check(&t, "ab abcd\u{a0}e f", &["ab", "abc", "d\u{a0}e", "f"]);
        check(&Tokenizer::Lowercase, "Ab3Ćd", &["ab", "ćd"]);
        check(&Tokenizer::Keyword, "", &[]);
    }

    #[test]
    fn paths_grow() {
        let t = |skip, reverse| Tokenizer::PathHierarchy { delimiter: '/', replacement: '/', skip, reverse };
        check(&t(0, false), "/a/b", &["/a", "/a/b"]);
        check(&t(0, false), "a/b/", &["a", "a/b", "a/b/"]);
        check(&t(1, false), "/a/b/c", &["/b", "/b/c"]);
        check(&t(0, true), "a/b/c", &["a/b/c", "b/c", "c"]);
        check(&t(1, true), "a/b/c", &["a/b/", "b/"]);
    }

    #[test]
    fn ngrams_keep_to_their_characters() {
        let chars = TokenChars { letter: true, ..TokenChars::default() };
        let t = Tokenizer::Ngram { min: 1, max: 2, chars: chars.clone(), edge: false };
        check(&t, "ab-c", &["a", "ab", "b", "c"]);
        let t = Tokenizer::Ngram { min: 1, max: 2, chars, edge: true };
        check(&t, "abc-de", &["a", "ab", "d", "de"]);
    }
}

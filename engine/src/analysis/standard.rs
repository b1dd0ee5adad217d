//! The standard tokenizer: words by Unicode's UAX #29 as Lucene's grammar tailors it.
//!
//! A word is a run that the word-break rules keep together and that has a letter, digit or Katakana in it. Han and
//! Hiragana characters are words of their own, South-East Asian runs stay whole, emoji sequences are tokens. The
//! longest match wins; a word longer than the window of `max_token_length` UTF-16 units is cut where the window ends.

use super::token::Raw;
use super::word_break::*;

pub(super) const ALPHANUM: &str = "<ALPHANUM>";
pub(super) const NUM: &str = "<NUM>";
const SOUTHEAST_ASIAN: &str = "<SOUTHEAST_ASIAN>";
const IDEOGRAPHIC: &str = "<IDEOGRAPHIC>";
const HIRAGANA_KIND: &str = "<HIRAGANA>";
const KATAKANA_KIND: &str = "<KATAKANA>";
const HANGUL_KIND: &str = "<HANGUL>";
const EMOJI_KIND: &str = "<EMOJI>";

/// Calls `emit` for each token of `text`.
pub(super) fn tokenize(text: &str, max_token_length: usize, emit: &mut impl FnMut(Raw<'_>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if b < 0x80
            && !matches!(ASCII[b as usize] & CLASS, ALETTER | NUMERIC | EXTEND_NUM_LET)
            && b != b'#'
            && b != b'*'
        {
            at += 1;
            continue;
        }
        let (end, kind) = token(text, at, max_token_length);
        if !kind.is_empty() {
            emit(Raw::new(&text[at..end], at, end, kind));
        }
        at = end;
    }
}

/// The token that starts at `at`, or the end of what to skip with an empty kind.
#[inline]
pub(super) fn token(text: &str, at: usize, max: usize) -> (usize, &'static str) {
    ascii_word(text.as_bytes(), at, max).unwrap_or_else(|| token_at(text, at, max))
}

/// The token at `at` if ASCII characters alone decide where it ends: (end, kind), kind empty where no token starts.
#[inline]
fn ascii_word(bytes: &[u8], at: usize, max: usize) -> Option<(usize, &'static str)> {
    let window = &bytes[..bytes.len().min(at + max)];
    let class = |i: usize| -> Option<u8> {
        match window.get(i) {
            None => Some(OTHER),
            Some(&b) if b < 0x80 => Some(ASCII[b as usize] & CLASS),
            Some(_) => None,
        }
    };
    let (mut letters, mut digits) = (false, false);
    let mut last = OTHER;
    let mut i = at;
    loop {
        let c = class(i)?;
        match c {
            ALETTER => letters = true,
            NUMERIC => digits = true,
            EXTEND_NUM_LET => {}
            MID_LETTER | MID_NUM | MID_NUM_LET | SINGLE_QUOTE => {
                let joins = match last {
                    ALETTER => c != MID_NUM,
                    NUMERIC => c != MID_LETTER,
                    _ => false,
                };
                if !joins || class(i + 1)? != last {
                    break;
                }
                i += 1;
            }
            _ => break,
        }
        if c == ALETTER || c == NUMERIC || c == EXTEND_NUM_LET {
            last = c;
        }
        i += 1;
    }
    match (letters, digits) {
        (true, _) => Some((i, ALPHANUM)),
        (false, true) => Some((i, NUM)),
        // Underscores alone; where the window ends in them, a later window may have more.
        _ if i > at => Some((if i == at + max { at + 1 } else { i }, "")),
        // # and *, unless a keycap may follow.
        _ => class(at + 1).map(|_| (at + 1, "")),
    }
}

/// Characters with their classes, up to the end of the window.
#[derive(Clone, Copy)]
struct Scan<'a> {
    text: &'a str,
    at: usize,
    units_left: usize,
}

impl Scan<'_> {
    #[inline]
    fn peek(&self) -> Option<(char, u8)> {
        let c = self.text[self.at..].chars().next()?;
        (c.len_utf16() <= self.units_left).then(|| (c, properties(c)))
    }

    fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
        self.units_left -= c.len_utf16();
    }

    fn class(&self) -> u8 {
        self.peek().map_or(OTHER, |(_, p)| p & CLASS)
    }

    fn extends(&mut self) {
        while let Some((c, p)) = self.peek()
            && matches!(p & CLASS, EXTEND | ZWJ)
        {
            self.bump(c);
        }
    }

    /// As `extends`, but presentation selectors and a ZWJ that joins another emoji are left.
    fn emoji_extends(&mut self) {
        while let Some((c, p)) = self.peek()
            && matches!(p & CLASS, EXTEND | ZWJ)
            && !matches!(c, '\u{fe0e}' | '\u{fe0f}')
        {
            // Tags and keycaps end a sequence of their own.
            if matches!(c, '\u{e0020}'..='\u{e007f}' | '\u{20e3}') {
                break;
            }
            if p & CLASS == ZWJ {
                let mut after = *self;
                after.bump(c);
                if after.emoji_element() {
                    break;
                }
            }
            self.bump(c);
        }
    }

    /// An emoji character, with its presentation selector, or a base with a modifier; leading joiners allowed.
    fn emoji_element(&mut self) -> bool {
        let start = *self;
        while let Some((c, p)) = self.peek()
            && p & CLASS == ZWJ
        {
            self.bump(c);
        }
        match self.peek() {
            Some((c, p)) if p & CLASS == EMOJI_MODIFIER => {
                self.bump(c);
                self.emoji_extends();
                true
            }
            Some((c, p)) if p & EMOJI != 0 => {
                self.bump(c);
                self.emoji_extends();
                match self.peek() {
                    Some((m, q)) if q & CLASS == EMOJI_MODIFIER && p & EMOJI_BASE != 0 => {
                        self.bump(m);
                        self.emoji_extends();
                    }
                    Some((m @ '\u{fe0f}', _)) => self.bump(m),
                    _ => {}
                }
                true
            }
            _ => {
                *self = start;
                false
            }
        }
    }

    fn emoji(mut self) -> Option<usize> {
        let (first, p) = self.peek()?;
        if p & CLASS == REGIONAL {
            self.bump(first);
            self.extends();
            let (second, _) = self.peek().filter(|(_, p)| p & CLASS == REGIONAL)?;
            self.bump(second);
            self.extends();
            return Some(self.at);
        }
        if matches!(first, '0'..='9' | '#' | '*') {
            self.bump(first);
            self.emoji_extends();
            if let Some((c @ '\u{fe0f}', _)) = self.peek() {
                self.bump(c);
            }
            let (c, _) = self.peek().filter(|(c, _)| *c == '\u{20e3}')?;
            self.bump(c);
            self.emoji_extends();
            return Some(self.at);
        }
        if !self.emoji_element() {
            return None;
        }
        let mut tags = self;
        let mut any = false;
        while let Some((c @ '\u{e0020}'..='\u{e007e}', _)) = tags.peek() {
            tags.bump(c);
            any = true;
        }
        if any && let Some((c @ '\u{e007f}', _)) = tags.peek() {
            tags.bump(c);
            return Some(tags.at);
        }
        loop {
            let mut next = self;
            match next.peek() {
                Some((c, p)) if p & CLASS == ZWJ => next.bump(c),
                _ => return Some(self.at),
            }
            if !next.emoji_element() {
                return Some(self.at);
            }
            self = next;
        }
    }

    /// A word by the rules WB5 to WB13b: its end and kind.
    fn word(mut self) -> Option<(usize, &'static str)> {
        let (mut letters, mut digits, mut katakana, mut hangul, mut glue) = (false, false, false, false, false);
        let mut last = OTHER;
        while let Some((c, p)) = self.peek() {
            let class = p & CLASS;
            let letter = matches!(last, ALETTER | HEBREW | HANGUL);
            match class {
                ALETTER | HEBREW | HANGUL | NUMERIC if last == KATAKANA => break,
                KATAKANA if letter || last == NUMERIC => break,
                ALETTER | HEBREW => letters = true,
                HANGUL => hangul = true,
                NUMERIC => digits = true,
                KATAKANA => katakana = true,
                EXTEND_NUM_LET => glue = true,
                MID_LETTER | MID_NUM | MID_NUM_LET | SINGLE_QUOTE | DOUBLE_QUOTE => {
                    let mut after = self;
                    after.bump(c);
                    after.extends();
                    let next = after.class();
                    let joins = match last {
                        HEBREW if class == DOUBLE_QUOTE => next == HEBREW,
                        ALETTER | HEBREW | HANGUL => {
                            matches!(class, MID_LETTER | MID_NUM_LET | SINGLE_QUOTE)
                                && matches!(next, ALETTER | HEBREW | HANGUL)
                        }
                        NUMERIC => matches!(class, MID_NUM | MID_NUM_LET | SINGLE_QUOTE) && next == NUMERIC,
                        _ => false,
                    };
                    if joins {
                        self = after;
                        glue = glue || last != NUMERIC;
                        continue;
                    }
                    if last == HEBREW && class == SINGLE_QUOTE {
                        self = after;
                        // The quote belongs to the word (WB7a) and what follows it is judged afresh.
                        glue = true;
                        if matches!(next, NUMERIC | EXTEND_NUM_LET) {
                            last = HEBREW;
                            continue;
                        }
                    }
                    break;
                }
                _ => break,
            }
            self.bump(c);
            self.extends();
            last = class;
        }
        let kind = match (letters, hangul, digits, katakana) {
            (false, false, false, false) => return None,
            (false, false, true, false) => NUM,
            (false, true, false, false) if !glue => HANGUL_KIND,
            (false, false, false, true) if !glue => KATAKANA_KIND,
            _ => ALPHANUM,
        };
        Some((self.at, kind))
    }

    fn complex(mut self) -> usize {
        while let Some((c, p)) = self.peek()
            && (p & COMPLEX != 0 || matches!(p & CLASS, EXTEND | ZWJ))
        {
            self.bump(c);
        }
        self.at
    }
}

/// The same, whatever it has.
fn token_at(text: &str, at: usize, max: usize) -> (usize, &'static str) {
    let scan = Scan { text, at, units_left: max };
    let Some((first, p)) = scan.peek() else {
        // A window of one unit and a character of two: the character is a token by itself.
        let c = text[at..].chars().next().expect("at is inside the text");
        return (at + c.len_utf8(), "");
    };
    let class = p & CLASS;
    let mut best = (at, "");
    let may_be_emoji = p & EMOJI != 0
        || matches!(class, REGIONAL | EMOJI_MODIFIER | ZWJ)
        || (class == NUMERIC && first.is_ascii())
        || matches!(first, '#' | '*');
    if may_be_emoji && let Some(end) = scan.emoji() {
        best = (end, EMOJI_KIND);
    }
    if matches!(class, ALETTER | HEBREW | HANGUL | NUMERIC | KATAKANA | EXTEND_NUM_LET)
        && let Some((end, kind)) = scan.word()
        && end > best.0
    {
        best = (end, kind);
    }
    if p & COMPLEX != 0 {
        let end = scan.complex();
        if end > best.0 {
            best = (end, SOUTHEAST_ASIAN);
        }
    }
    if best.1.is_empty() && matches!(class, HAN | HIRAGANA) {
        let mut one = scan;
        one.bump(first);
        one.extends();
        best = (one.at, if class == HAN { IDEOGRAPHIC } else { HIRAGANA_KIND });
    }
    if best.1.is_empty() {
        best.0 = at + first.len_utf8();
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str, max: usize) -> Vec<(String, usize, usize, &'static str)> {
        let mut out = Vec::new();
        tokenize(text, max, &mut |t| out.push((t.text.to_owned(), t.start, t.end, t.kind)));
        out
    }

    fn slow(text: &str, max: usize) -> Vec<(String, usize, usize, &'static str)> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let (end, kind) = token_at(text, at, max);
            if !kind.is_empty() {
                out.push((text[at..end].to_owned(), at, end, kind));
            }
            at = end;
        }
        out
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let got = tokens(text, 255);
        let got: Vec<_> = got.iter().map(|t| (t.0.as_str(), t.3)).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn words_and_numbers() {
        check(
            "The 2 QUICK, can't o'neil's 3.14 1,000 a.b a1_b2 _ __x",
            &[
                ("The", ALPHANUM),
                ("2", NUM),
                ("QUICK", ALPHANUM),
                ("can't", ALPHANUM),
                ("o'neil's", ALPHANUM),
                ("3.14", NUM),
                ("1,000", NUM),
                ("a.b", ALPHANUM),
                ("a1_b2", ALPHANUM),
                ("__x", ALPHANUM),
            ],
        );
    }

    #[test]
    fn underscores_that_fill_a_window_go_with_what_follows() {
        assert_eq!(tokens("__1", 2), [("_1".to_owned(), 1, 3, NUM)]);
        assert_eq!(tokens("___", 2), []);
    }

    #[test]
    fn scripts() {
        check(
            "漢字 ひら カタカナ 한국 ไทย",
            &[
                ("漢", IDEOGRAPHIC),
                ("字", IDEOGRAPHIC),
                ("ひ", HIRAGANA_KIND),
                ("ら", HIRAGANA_KIND),
                ("カタカナ", KATAKANA_KIND),
                ("한국", HANGUL_KIND),
                ("ไทย", SOUTHEAST_ASIAN),
            ],
        );
    }

    #[test]
    fn emoji_sequences_are_tokens() {
        check("👨‍👩‍👧 🇩🇪 1️⃣ 👍🏽", &[("👨‍👩‍👧", EMOJI_KIND), ("🇩🇪", EMOJI_KIND), ("1️⃣", EMOJI_KIND), ("👍🏽", EMOJI_KIND)]);
    }

    #[test]
    fn long_words_are_cut_at_the_window() {
        let text = "a".repeat(600);
        let lengths: Vec<usize> = tokens(&text, 255).iter().map(|t| t.0.len()).collect();
        assert_eq!(lengths, [255, 255, 90]);
        let text = "é".repeat(300);
        assert_eq!(tokens(&text, 255)[0].0.chars().count(), 255);
    }

    /// Lines such as `÷ 0061 × 0308 ÷`: every segment with a letter, digit or ideograph must be a token.
    fn check_unicode_test(file: &str) -> usize {
        let is_word =
            |c: char| matches!(properties(c) & CLASS, ALETTER | HEBREW | HANGUL | NUMERIC | KATAKANA | HAN | HIRAGANA);
        let mut count = 0;
        for line in file.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let segment = |s: &str| -> String {
                let hex = s.split(['×', ' ']).filter(|h| !h.is_empty());
                hex.map(|h| char::from_u32(u32::from_str_radix(h, 16).unwrap()).unwrap()).collect()
            };
            // Lucene's grammar leaves the emoji after a letter's joiner a token of its own; plain UAX #29 joins them.
            if line.contains("200D × 1F6D1") || line.contains("200D × 2701") {
                continue;
            }
            let segments: Vec<String> = line.split('÷').map(segment).collect();
            let expected: Vec<&String> = segments.iter().filter(|s| s.chars().any(is_word)).collect();
            let got = tokens(&segments.concat(), 255);
            let got: Vec<&String> = got.iter().map(|t| &t.0).filter(|t| t.chars().any(is_word)).collect();
            assert_eq!(got, expected, "{line}");
            count += 1;
        }
        count
    }

    #[test]
    fn unicode_word_break_sample() {
        assert!(check_unicode_test(include_str!("../../tests/data/word-break-sample.txt")) > 200);
    }

    /// By hand, with `WORD_BREAK_TEST` naming Unicode's file.
    #[test]
    #[ignore = "needs the whole of WordBreakTest.txt"]
    fn unicode_word_break_all() {
        let path = std::env::var("WORD_BREAK_TEST").unwrap();
        println!("{} lines", check_unicode_test(&std::fs::read_to_string(path).unwrap()));
    }

    proptest! {
        #[test]
        fn ascii_fast_path_equals_slow(text in "[a-c1-3_'.,:;#* \"é\u{300}\u{200d}\u{fe0f}\u{20e3}א]{0,40}", max in 1usize..12) {
            prop_assert_eq!(tokens(&text, max), slow(&text, max));
        }

        #[test]
        fn any_text_gives_ordered_slices(text in "\\PC{0,60}", max in 1usize..300) {
            let mut at = 0;
            for (term, start, end, _) in tokens(&text, max) {
                prop_assert!(start >= at && end > start);
                prop_assert_eq!(&text[start..end], term.as_str());
                at = end;
            }
        }
    }
}

//! Porter's stemmer of 1980, with the two later departures of its author (`bli`, `logi`) that Lucene has too.

use smallvec::SmallVec;

use super::token::Word;

/// A letter the stemmer can look at: bytes of ASCII words, characters of others.
trait Letter: Copy + PartialEq {
    fn ascii(b: u8) -> Self;
    fn is(self, b: u8) -> bool;
}

impl Letter for u8 {
    fn ascii(b: u8) -> u8 {
        b
    }
    fn is(self, b: u8) -> bool {
        self == b
    }
}

impl Letter for char {
    fn ascii(b: u8) -> char {
        b as char
    }
    fn is(self, b: u8) -> bool {
        self == b as char
    }
}

/// Replaces the term by its stem.
pub(super) fn stem_word(word: &mut Word<'_, '_>) {
    let term = word.as_str();
    if term.is_ascii() {
        let mut letters: SmallVec<[u8; 64]> = SmallVec::from_slice(term.as_bytes());
        let length = stem(&mut letters);
        if letters[..length] == term.as_bytes()[..length] {
            word.slice(0, length);
        } else {
            let buf = word.make_mut();
            buf.clear();
            buf.extend(letters[..length].iter().map(|&b| b as char));
        }
    } else {
        let mut letters: SmallVec<[char; 64]> = term.chars().collect();
        let length = stem(&mut letters);
        let buf = word.make_mut();
        buf.clear();
        buf.extend(&letters[..length]);
    }
}

/// Stems in place; returns the length of the stem. No step makes a word longer than it came.
fn stem<L: Letter>(letters: &mut [L]) -> usize {
    if letters.len() < 3 {
        return letters.len();
    }
    let mut w = Stem { end: letters.len(), letters, stem: 0 };
    w.step1a();
    w.step1b();
    w.step1c();
    w.step2();
    w.step3();
    w.step4();
    w.step5();
    w.end
}

struct Stem<'a, L> {
    letters: &'a mut [L],
    /// Length of the word as it is now.
    end: usize,
    /// Length of what is before the suffix that `ends` found.
    stem: usize,
}

impl<L: Letter> Stem<'_, L> {
    fn consonant(&self, i: usize) -> bool {
        let c = self.letters[i];
        if c.is(b'a') || c.is(b'e') || c.is(b'i') || c.is(b'o') || c.is(b'u') {
            return false;
        }
        if c.is(b'y') {
            // Runs of y alternate; count back instead of recursing.
            let mut run = 1;
            while run <= i && self.letters[i - run].is(b'y') {
                run += 1;
            }
            let first_is_consonant = run > i || !self.consonant(i - run);
            return first_is_consonant == (run % 2 == 1);
        }
        true
    }

    /// Vowel-consonant sequences before the suffix.
    fn measure(&self) -> usize {
        let mut count = 0;
        let mut vowel_before = false;
        for (i, c) in self.letters[..self.stem].iter().enumerate() {
            // As `consonant`, carried forward so that a long run of y costs no more than other letters.
            let consonant = if c.is(b'y') { i == 0 || vowel_before } else { self.consonant(i) };
            count += usize::from(consonant && vowel_before);
            vowel_before = !consonant;
        }
        count
    }

    fn vowel_in_stem(&self) -> bool {
        (0..self.stem).any(|i| !self.consonant(i))
    }

    fn double_consonant(&self, end: usize) -> bool {
        end >= 2 && self.letters[end - 1] == self.letters[end - 2] && self.consonant(end - 1)
    }

    /// consonant-vowel-consonant at the end, the last not w, x or y.
    fn cvc(&self, end: usize) -> bool {
        if end < 3 || !self.consonant(end - 1) || self.consonant(end - 2) || !self.consonant(end - 3) {
            return false;
        }
        let last = self.letters[end - 1];
        !(last.is(b'w') || last.is(b'x') || last.is(b'y'))
    }

    fn ends(&mut self, suffix: &str) -> bool {
        let n = suffix.len();
        if n > self.end {
            return false;
        }
        let at = self.end - n;
        let found = self.letters[at..self.end].iter().zip(suffix.bytes()).all(|(l, b)| l.is(b));
        if found {
            self.stem = at;
        }
        found
    }

    fn set(&mut self, suffix: &str) {
        for (i, b) in suffix.bytes().enumerate() {
            self.letters[self.stem + i] = L::ascii(b);
        }
        self.end = self.stem + suffix.len();
    }

    fn last(&self) -> L {
        self.letters[self.end - 1]
    }

    fn step1a(&mut self) {
        if !self.last().is(b's') {
            return;
        }
        if self.ends("sses") {
            self.end -= 2;
        } else if self.ends("ies") {
            self.set("i");
        } else if !self.letters[self.end - 2].is(b's') {
            self.end -= 1;
        }
    }

    fn step1b(&mut self) {
        if self.ends("eed") {
            if self.measure() > 0 {
                self.end -= 1;
            }
            return;
        }
        if !((self.ends("ed") || self.ends("ing")) && self.vowel_in_stem()) {
            return;
        }
        self.end = self.stem;
        if self.ends("at") {
            self.set("ate");
        } else if self.ends("bl") {
            self.set("ble");
        } else if self.ends("iz") {
            self.set("ize");
        } else if self.double_consonant(self.end) {
            let c = self.last();
            if !(c.is(b'l') || c.is(b's') || c.is(b'z')) {
                self.end -= 1;
            }
        } else {
            self.stem = self.end;
            if self.measure() == 1 && self.cvc(self.end) {
                self.set("e");
            }
        }
    }

    fn step1c(&mut self) {
        if self.ends("y") && self.vowel_in_stem() {
            self.letters[self.end - 1] = L::ascii(b'i');
        }
    }

    /// The first suffix that fits decides; it is replaced if something is left before it.
    fn replace(&mut self, rules: &[(&str, &str)]) {
        for (suffix, by) in rules {
            if self.ends(suffix) {
                if self.measure() > 0 {
                    self.set(by);
                }
                return;
            }
        }
    }

    fn step2(&mut self) {
        self.replace(&[
            ("ational", "ate"),
            ("tional", "tion"),
            ("enci", "ence"),
            ("anci", "ance"),
            ("izer", "ize"),
            ("bli", "ble"),
            ("alli", "al"),
            ("entli", "ent"),
            ("eli", "e"),
            ("ousli", "ous"),
            ("ization", "ize"),
            ("ation", "ate"),
            ("ator", "ate"),
            ("alism", "al"),
            ("iveness", "ive"),
            ("fulness", "ful"),
            ("ousness", "ous"),
            ("aliti", "al"),
            ("iviti", "ive"),
            ("biliti", "ble"),
            ("logi", "log"),
        ]);
    }

    fn step3(&mut self) {
        self.replace(&[
            ("icate", "ic"),
            ("ative", ""),
            ("alize", "al"),
            ("iciti", "ic"),
            ("ical", "ic"),
            ("ful", ""),
            ("ness", ""),
        ]);
    }

    fn step4(&mut self) {
        const SUFFIXES: [&str; 18] = [
            "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ou", "ism", "ate", "iti",
            "ous", "ive", "ize",
        ];
        let found = SUFFIXES.iter().any(|s| self.ends(s))
            || (self.ends("ion")
                && self.stem > 0
                && (self.letters[self.stem - 1].is(b's') || self.letters[self.stem - 1].is(b't')));
        if found && self.measure() > 1 {
            self.end = self.stem;
        }
    }

    fn step5(&mut self) {
        if self.last().is(b'e') {
            self.stem = self.end - 1;
            let m = self.measure();
            if m > 1 || (m == 1 && !self.cvc(self.end - 1)) {
                self.end -= 1;
            }
        }
        self.stem = self.end;
        if self.last().is(b'l') && self.double_consonant(self.end) && self.measure() > 1 {
            self.end -= 1;
        }
    }
}

/// Plurals and third persons only (Harman's S stemmer).
pub(super) fn minimal_stem(word: &mut Word<'_, '_>) {
    let term = word.as_str();
    let length = term.chars().count();
    if length < 3 || !term.ends_with('s') {
        return;
    }
    let mut before = term.chars().rev().skip(1);
    let (second, third) = (before.next(), before.next());
    match second {
        Some('u' | 's') => {}
        Some('e') => {
            if length > 3 && third == Some('i') && !matches!(before.next(), Some('a' | 'e')) {
                let buf = word.make_mut();
                buf.truncate(buf.len() - 3);
                buf.push('y');
                return;
            }
            if matches!(third, Some('i' | 'a' | 'o' | 'e')) {
                return;
            }
            let n = term.len() - 1;
            word.slice(0, n);
        }
        _ => {
            let n = term.len() - 1;
            word.slice(0, n);
        }
    }
}

/// Drops a trailing 's, whatever its apostrophe.
pub(super) fn drop_possessive(word: &mut Word<'_, '_>) {
    let term = word.as_str();
    let Some(rest) = term.strip_suffix(['s', 'S']) else { return };
    let Some(rest) = rest.strip_suffix(['\'', '\u{2019}', '\u{ff07}']) else { return };
    let n = rest.len();
    word.slice(0, n);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn porter(term: &str) -> String {
        let mut buf = String::new();
        let mut w = Word::new(term, &mut buf, "word");
        stem_word(&mut w);
        w.as_str().to_owned()
    }

    #[test]
    fn porters_own_examples() {
        for (word, stem) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "ti"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("vietnamization", "vietnam"),
            ("triplicate", "triplic"),
            ("electrical", "electr"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("controll", "control"),
            ("archaeology", "archaeolog"),
            ("is", "is"),
            ("syzygy", "syzygi"),
            ("cafés", "café"),
        ] {
            assert_eq!(porter(word), stem, "{word}");
        }
    }

    #[test]
    fn sampled_vocabulary_stems_as_published() {
        let sample = include_str!("../../tests/data/porter-sample.tsv");
        let mut count = 0;
        for line in sample.lines().filter(|l| !l.starts_with('#')) {
            let (word, stem) = line.split_once('\t').expect("two columns");
            assert_eq!(porter(word), stem, "{word}");
            count += 1;
        }
        assert!(count > 500);
    }

    #[test]
    fn minimal_and_possessive() {
        let run = |f: fn(&mut Word<'_, '_>), term: &str| {
            let mut buf = String::new();
            let mut w = Word::new(term, &mut buf, "word");
            f(&mut w);
            w.as_str().to_owned()
        };
        for (word, stem) in
            [("queries", "query"), ("dogs", "dog"), ("bus", "bus"), ("class", "class"), ("shoes", "shoes")]
        {
            assert_eq!(run(minimal_stem, word), stem);
        }
        assert_eq!(run(drop_possessive, "John's"), "John");
        assert_eq!(run(drop_possessive, "John’S"), "John");
        assert_eq!(run(drop_possessive, "johns"), "johns");
    }

    proptest! {
        #[test]
        fn bytes_and_characters_stem_alike(term in "[a-eilnorstuyz]{0,12}(ing|ed|y|ies|ation|ll|e|s)?") {
            let mut bytes = term.clone().into_bytes();
            let mut chars: Vec<char> = term.chars().collect();
            let (a, b) = (stem(&mut bytes), stem(&mut chars));
            prop_assert_eq!(String::from_utf8(bytes[..a].to_vec()).unwrap(), chars[..b].iter().collect::<String>());
        }

        #[test]
        fn any_word_stems_to_something_no_longer(term in "\\PC{0,20}") {
            prop_assert!(porter(&term).chars().count() <= term.chars().count());
        }
    }
}

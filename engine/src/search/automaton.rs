//! Automata over the bytes of terms: wildcards and edit distance. They work on characters and take UTF-8 byte by byte.
//!
//! Both are simulated: a state is the set of pattern positions (wildcard), or sets of positions in the word by edits, or two
//! rows of the distance table where the word is long (fuzzy), so no pattern can blow them up. A dictionary is walked with
//! what `determinized` keeps of them.

use fst::Automaton;
use smallvec::SmallVec;

use crate::search::determinized::{ByteAutomaton, ByteClasses, Kept};

/// Bytes of a character seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partial {
    value: u32,
    missing: u8,
}

impl Partial {
    /// `Some(Some(c))` when `byte` completes a character, `Some(None)` when more bytes are due, `None` when it is not UTF-8.
    #[inline]
    pub fn push(&mut self, byte: u8) -> Option<Option<char>> {
        if self.missing == 0 {
            let (value, missing) = match byte {
                0x00..=0x7f => return Some(Some(byte as char)),
                0xc2..=0xdf => (byte & 0x1f, 1),
                0xe0..=0xef => (byte & 0x0f, 2),
                0xf0..=0xf4 => (byte & 0x07, 3),
                _ => return None,
            };
            *self = Partial { value: u32::from(value), missing };
            return Some(None);
        }
        if byte & 0xc0 != 0x80 {
            return None;
        }
        self.value = self.value << 6 | u32::from(byte & 0x3f);
        self.missing -= 1;
        if self.missing > 0 {
            return Some(None);
        }
        char::from_u32(std::mem::take(&mut self.value)).map(Some)
    }

    /// Whether a character is incomplete.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.missing > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    AnyChar,
    AnyString,
}

/// `*` any characters, `?` one character, `\` takes the next literally.
#[derive(Clone, Debug)]
pub struct Wildcard {
    pieces: Vec<Piece>,
    case_insensitive: bool,
    known: Kept<WildcardState>,
}

impl Wildcard {
    /// Reads a pattern.
    #[must_use]
    pub fn new(pattern: &str, case_insensitive: bool) -> Wildcard {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' if pieces.last() == Some(&Piece::AnyString) => continue,
                '*' => Piece::AnyString,
                '?' => Piece::AnyChar,
                '\\' => Piece::Char(chars.next().unwrap_or('\\')),
                c => Piece::Char(c),
            });
        }
        Wildcard { pieces, case_insensitive, known: Kept::default() }
    }

    /// A text as it is, and anything after it.
    #[must_use]
    pub fn prefix(text: &str, case_insensitive: bool) -> Wildcard {
        let mut pieces: Vec<Piece> = text.chars().map(Piece::Char).collect();
        pieces.push(Piece::AnyString);
        Wildcard { pieces, case_insensitive, known: Kept::default() }
    }

    /// A text as it is.
    #[must_use]
    pub fn exact(text: &str, case_insensitive: bool) -> Wildcard {
        Wildcard { pieces: text.chars().map(Piece::Char).collect(), case_insensitive, known: Kept::default() }
    }

    /// Whether the whole of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        accepts(self, text.as_bytes())
    }

    /// Whether it is a single `*`.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.pieces == [Piece::AnyString]
    }

    /// Adds position `at` and what can be reached from it without a character.
    fn add(&self, set: &mut [u64], mut at: usize) {
        loop {
            set[at / 64] |= 1 << (at % 64);
            if self.pieces.get(at) != Some(&Piece::AnyString) {
                return;
            }
            at += 1;
        }
    }

    /// The characters that are told apart from others.
    pub(crate) fn chars(&self) -> impl Iterator<Item = char> + '_ {
        let chars = self.pieces.iter().filter_map(|p| if let Piece::Char(c) = p { Some(*c) } else { None });
        let both = self.case_insensitive;
        chars.flat_map(move |c| {
            [c, if both { c.to_ascii_uppercase() } else { c }, if both { c.to_ascii_lowercase() } else { c }]
        })
    }

    fn words(&self) -> usize {
        self.pieces.len() / 64 + 1
    }

    /// The positions of a pattern of less than 64 pieces that `c` leads to from these.
    fn step_word(&self, from: u64, c: char) -> u64 {
        let (mut stars, mut takes) = (0u64, 0u64);
        for (i, piece) in self.pieces.iter().enumerate() {
            let (star, take) = match piece {
                Piece::AnyString => (true, false),
                Piece::AnyChar => (false, true),
                Piece::Char(p) => (false, *p == c || self.case_insensitive && p.eq_ignore_ascii_case(&c)),
            };
            stars |= u64::from(star) << i;
            takes |= u64::from(take) << i;
        }
        let to = (from & takes) << 1 | from & stars;
        // No two stars are neighbours.
        to | (to & stars) << 1
    }
}

/// Which pattern positions the characters so far can have led to; empty = none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WildcardState {
    set: SmallVec<[u64; 2]>,
    partial: Partial,
}

impl Automaton for Wildcard {
    type State = WildcardState;

    fn start(&self) -> WildcardState {
        let mut set = SmallVec::from_elem(0, self.words());
        self.add(&mut set, 0);
        WildcardState { set, partial: Partial::default() }
    }

    fn is_match(&self, state: &WildcardState) -> bool {
        let last = self.pieces.len();
        !state.set.is_empty() && !state.partial.pending() && state.set[last / 64] >> (last % 64) & 1 == 1
    }

    fn can_match(&self, state: &WildcardState) -> bool {
        state.set.iter().any(|&w| w != 0)
    }

    fn accept(&self, state: &WildcardState, byte: u8) -> WildcardState {
        let mut partial = state.partial;
        let c = match partial.push(byte) {
            None => return WildcardState { set: SmallVec::new(), partial },
            Some(None) => return WildcardState { set: state.set.clone(), partial },
            Some(Some(c)) => c,
        };
        if let [from] = state.set[..] {
            return WildcardState { set: SmallVec::from_slice(&[self.step_word(from, c)]), partial };
        }
        let mut set: SmallVec<[u64; 2]> = SmallVec::from_elem(0, self.words());
        for (index, &word) in state.set.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let at = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                match self.pieces.get(at) {
                    Some(Piece::AnyString) => self.add(&mut set, at),
                    Some(Piece::AnyChar) => self.add(&mut set, at + 1),
                    Some(Piece::Char(p)) if *p == c || self.case_insensitive && p.eq_ignore_ascii_case(&c) => {
                        self.add(&mut set, at + 1);
                    }
                    _ => {}
                }
            }
        }
        WildcardState { set, partial }
    }
}

impl ByteAutomaton for Wildcard {
    fn classes(&self) -> ByteClasses {
        ByteClasses::telling_apart(self.chars())
    }

    fn kept(&self) -> Option<&Kept<WildcardState>> {
        Some(&self.known)
    }

    fn ending(&self) -> Option<u8> {
        // Without a star nothing is open.
        if !self.pieces.contains(&Piece::AnyString) {
            return None;
        }
        match *self.pieces.last()? {
            Piece::Char(c) if self.case_insensitive && c.is_ascii_alphabetic() => None,
            Piece::Char(c) => c.encode_utf8(&mut [0; 4]).bytes().last(),
            Piece::AnyChar | Piece::AnyString => None,
        }
    }

    fn is_open(&self, state: &WildcardState) -> bool {
        // Who stands there can always stay.
        let stars = self.pieces.iter().enumerate().filter(|(_, piece)| **piece == Piece::AnyString);
        stars.into_iter().any(|(at, _)| state.set.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1))
    }
}

/// Terms at most `max_edits` insertions, deletions, substitutions (and swaps of neighbours) away from a word.
#[derive(Clone, Debug)]
pub struct Fuzzy {
    word: Vec<char>,
    prefix: usize,
    max_edits: u8,
    transpositions: bool,
}

impl Fuzzy {
    /// `prefix` leading characters must be equal.
    #[must_use]
    pub fn new(word: &str, max_edits: u8, prefix: u32, transpositions: bool) -> Fuzzy {
        Fuzzy { word: word.chars().collect(), prefix: prefix as usize, max_edits, transpositions }
    }

    /// Edits between the word and `term`; none if more than the maximum.
    #[must_use]
    pub fn distance(&self, term: &[u8]) -> Option<u8> {
        let mut state = self.start();
        for &b in term {
            state = self.accept(&state, b);
        }
        if !self.is_match(&state) {
            return None;
        }
        match &state.at {
            Position::Sets(sets) => {
                sets.reached.iter().zip(0..).find(|(set, _)| *set >> self.word.len() & 1 == 1).map(|f| f.1)
            }
            Position::Rows(rows) => rows.row.last().copied(),
        }
    }

    fn is_short(&self) -> bool {
        self.word.len() < 64 && self.max_edits as usize <= SETS_EDITS
    }

    /// Positions from which edits are allowed.
    fn editable(&self) -> u64 {
        u64::MAX.checked_shl(u32::try_from(self.prefix).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

/// Edits that are counted with sets of positions.
const SETS_EDITS: usize = 2;

/// What the characters so far can have led to. Equal where all that follows is equal, so that a word has few states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuzzyState {
    at: Position,
    partial: Partial,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Position {
    Sets(Sets),
    Rows(Box<Rows>),
}

/// For a word of less than 64 characters: bit `i` stands for its first `i` characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sets {
    /// What is reached with no edit, with at most one, with at most two.
    reached: [u64; SETS_EDITS + 1],
    /// Where the last character was the one after the next of the word: the next one may follow now, and the swap made an edit
    /// of those before. With one edit, with two.
    swapped: [u64; SETS_EDITS],
}

impl Sets {
    fn start(fuzzy: &Fuzzy) -> Sets {
        let mut reached = [0; SETS_EDITS + 1];
        reached[0] = 1;
        for e in 1..=fuzzy.max_edits as usize {
            reached[e] = reached[e - 1] | (reached[e - 1] & fuzzy.editable()) << 1;
        }
        Sets { reached, swapped: [0; SETS_EDITS] }.within(fuzzy)
    }

    fn within(mut self, fuzzy: &Fuzzy) -> Sets {
        let all = u64::MAX >> (63 - fuzzy.word.len());
        self.reached.iter_mut().for_each(|set| *set &= all);
        self
    }

    fn accept(&self, fuzzy: &Fuzzy, c: char) -> Sets {
        let editable = fuzzy.editable();
        let equal = fuzzy.word.iter().zip(0..).fold(0u64, |set, (&w, i)| set | u64::from(w == c) << i);
        let mut next = Sets { reached: [0; SETS_EDITS + 1], swapped: [0; SETS_EDITS] };
        next.reached[0] = (self.reached[0] & equal) << 1;
        for e in 1..=fuzzy.max_edits as usize {
            let before = self.reached[e - 1] & editable;
            let (inserted, replaced, left_out) = (before, before << 1, (next.reached[e - 1] & editable) << 1);
            let swapped = (self.swapped[e - 1] & equal) << 2;
            next.reached[e] = (self.reached[e] & equal) << 1 | inserted | replaced | left_out | swapped;
            if fuzzy.transpositions {
                // Of two equal characters a swap is none.
                next.swapped[e - 1] = before & equal >> 1 & !equal;
            }
        }
        next.within(fuzzy)
    }
}

/// The distances of the characters so far to every prefix of the word, and the row before for swaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Rows {
    row: SmallVec<[u8; 24]>,
    before: SmallVec<[u8; 24]>,
    /// The last character, if the word has it.
    last: char,
    /// Characters so far, up to the prefix.
    seen: usize,
}

impl Rows {
    fn start(fuzzy: &Fuzzy) -> Rows {
        let cap = fuzzy.max_edits + 1;
        let row = (0..=fuzzy.word.len()).map(|i| u8::try_from(i).unwrap_or(cap).min(cap)).collect();
        Rows { row, before: SmallVec::new(), last: '\0', seen: 0 }
    }

    fn accept(&self, fuzzy: &Fuzzy, c: char) -> Rows {
        let mut next = Rows { row: SmallVec::new(), before: SmallVec::new(), ..*self };
        if self.row.is_empty() || self.seen < fuzzy.prefix && fuzzy.word.get(self.seen) != Some(&c) {
            return next;
        }
        next.seen = (self.seen + 1).min(fuzzy.prefix);
        let swaps = fuzzy.transpositions && fuzzy.word.contains(&c);
        next.last = if swaps { c } else { '\0' };
        let cap = fuzzy.max_edits + 1;
        next.row.push((self.row[0] + 1).min(cap));
        for (i, &w) in fuzzy.word.iter().enumerate() {
            let mut d = (self.row[i] + u8::from(w != c)).min(next.row[i] + 1).min(self.row[i + 1] + 1);
            if i > 0 && !self.before.is_empty() && w == self.last && fuzzy.word[i - 1] == c {
                d = d.min(self.before[i - 1] + 1);
            }
            next.row.push(d.min(cap));
        }
        // Only a swap looks back, and only to where it may still be within the limit.
        if swaps && self.row.iter().any(|&d| d < fuzzy.max_edits) {
            next.before = self.row.clone();
        } else {
            next.last = '\0';
        }
        next
    }
}

impl Automaton for Fuzzy {
    type State = FuzzyState;

    fn start(&self) -> FuzzyState {
        let at = if self.is_short() {
            Position::Sets(Sets::start(self))
        } else {
            Position::Rows(Box::new(Rows::start(self)))
        };
        FuzzyState { at, partial: Partial::default() }
    }

    fn is_match(&self, state: &FuzzyState) -> bool {
        !state.partial.pending()
            && match &state.at {
                Position::Sets(sets) => sets.reached[self.max_edits as usize] >> self.word.len() & 1 == 1,
                Position::Rows(rows) => rows.row.last().is_some_and(|&d| d <= self.max_edits),
            }
    }

    fn can_match(&self, state: &FuzzyState) -> bool {
        match &state.at {
            Position::Sets(sets) => sets.reached[self.max_edits as usize] != 0,
            Position::Rows(rows) => rows.row.iter().any(|&d| d <= self.max_edits),
        }
    }

    fn accept(&self, state: &FuzzyState, byte: u8) -> FuzzyState {
        let mut partial = state.partial;
        let at = match (partial.push(byte), &state.at) {
            (Some(None), at) => at.clone(),
            (Some(Some(c)), Position::Sets(sets)) => Position::Sets(sets.accept(self, c)),
            (Some(Some(c)), Position::Rows(rows)) => Position::Rows(Box::new(rows.accept(self, c))),
            // Not UTF-8: nothing is reached.
            (None, _) => {
                partial = Partial::default();
                if self.is_short() {
                    Position::Sets(Sets { reached: [0; SETS_EDITS + 1], swapped: [0; SETS_EDITS] })
                } else {
                    Position::Rows(Box::default())
                }
            }
        };
        FuzzyState { at, partial }
    }
}

impl ByteAutomaton for Fuzzy {
    fn classes(&self) -> ByteClasses {
        ByteClasses::telling_apart(self.word.iter().copied())
    }
}

/// Runs an automaton over a whole term.
pub fn accepts<A: Automaton>(automaton: &A, term: &[u8]) -> bool {
    let mut state = automaton.start();
    for &b in term {
        state = automaton.accept(&state, b);
    }
    automaton.is_match(&state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive_wildcard(p: &[char], t: &[char]) -> bool {
        match (p.first(), t.first()) {
            (None, None) => true,
            (Some('*'), _) => naive_wildcard(&p[1..], t) || !t.is_empty() && naive_wildcard(p, &t[1..]),
            (Some('?'), Some(_)) => naive_wildcard(&p[1..], &t[1..]),
            (Some(a), Some(b)) if a == b => naive_wildcard(&p[1..], &t[1..]),
            _ => false,
        }
    }

    /// Optimal string alignment.
    fn naive_distance(a: &[char], b: &[char], swaps: bool) -> usize {
        let mut d = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                d[i][j] = match (i, j) {
                    (0, j) => j,
                    (i, 0) => i,
                    _ => {
                        let mut m = (d[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                            .min(d[i - 1][j] + 1)
                            .min(d[i][j - 1] + 1);
                        if swaps && i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                            m = m.min(d[i - 2][j - 2] + 1);
                        }
                        m
                    }
                };
            }
        }
        d[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn wildcards_match_as_the_definition(p in "[ab?*é]{0,8}", t in "[abé]{0,8}") {
            let (pc, tc): (Vec<char>, Vec<char>) = (p.chars().collect(), t.chars().collect());
            prop_assert_eq!(accepts(&Wildcard::new(&p, false), t.as_bytes()), naive_wildcard(&pc, &tc));
        }

        #[test]
        fn long_wildcards_match_as_short_ones(p in "[ab?*é]{0,8}", t in "[abé]{0,8}") {
            let x = "x".repeat(70);
            let long = Wildcard::new(&(x.clone() + &p), false);
            prop_assert_eq!(accepts(&long, (x + &t).as_bytes()), accepts(&Wildcard::new(&p, false), t.as_bytes()));
        }

        #[test]
        fn fuzzy_matches_as_the_definition(w in "[abé]{0,7}", t in "[abé]{0,7}", k in 0u8..3, swaps: bool) {
            let (wc, tc): (Vec<char>, Vec<char>) = (w.chars().collect(), t.chars().collect());
            let d = naive_distance(&wc, &tc, swaps);
            let expected = (d <= k as usize).then_some(d as u8);
            prop_assert_eq!(Fuzzy::new(&w, k, 0, swaps).distance(t.as_bytes()), expected);
        }

        #[test]
        fn equal_prefixes_leave_the_rest_to_edit(w in "[abé]{0,7}", t in "[abé]{0,7}", k in 0u8..3, prefix in 0usize..5, swaps: bool) {
            let (wc, tc): (Vec<char>, Vec<char>) = (w.chars().collect(), t.chars().collect());
            let prefix = prefix.min(wc.len());
            let same = tc.len() >= prefix && tc[..prefix] == wc[..prefix];
            let d = if same { naive_distance(&wc[prefix..], &tc[prefix..], swaps) } else { usize::MAX };
            let expected = (d <= k as usize).then_some(d as u8);
            prop_assert_eq!(Fuzzy::new(&w, k, prefix as u32, swaps).distance(t.as_bytes()), expected);
        }

        #[test]
        fn sets_and_rows_agree(w in "[abé]{0,9}", tail in "[abé]{0,5}", t in "[abé]{0,9}", k in 0u8..3, prefix in 0u32..4, swaps: bool) {
            // So long that rows are kept, and so that what is added is equal.
            let (long, same) = (Fuzzy::new(&(w.clone() + &"x".repeat(64) + &tail), k, prefix, swaps), "x".repeat(64) + &tail);
            let expected = if w.chars().count() < prefix as usize { None } else { Fuzzy::new(&w, k, prefix, swaps).distance(t.as_bytes()) };
            if w.chars().count() >= prefix as usize {
                prop_assert_eq!(long.distance((t + &same).as_bytes()), expected);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(p in any::<String>(), t in proptest::collection::vec(any::<u8>(), 0..20)) {
            accepts(&Wildcard::new(&p, true), &t);
            accepts(&Wildcard::prefix(&p, true), &t);
            let _ = Fuzzy::new(&p, 2, 1, true).distance(&t);
            let _ = Fuzzy::new(&p.repeat(9), 2, 1, true).distance(&[p.as_bytes(), &t].concat());
        }
    }

    #[test]
    fn escapes_and_case() {
        assert!(accepts(&Wildcard::new(r"a\*b", false), b"a*b"));
        assert!(!accepts(&Wildcard::new(r"a\*b", false), b"axb"));
        assert!(accepts(&Wildcard::new("AB*", true), b"abc"));
        assert!(accepts(&Wildcard::prefix("a*", false), b"a*c"));
        assert!(!accepts(&Wildcard::prefix("a*", false), b"abc"));
        assert!(Wildcard::new("**", false).matches_everything());
        assert_eq!(Fuzzy::new("abcd", 2, 2, true).distance(b"xbcd"), None);
        assert_eq!(Fuzzy::new("abcd", 2, 2, true).distance(b"abdc"), Some(1));
    }
}

//! Determinizes an automaton as far as it is walked.
//!
//! The first step from a state with a byte asks the automaton; every later one is a look into a table. A dictionary takes the
//! same few hundred steps millions of times. Bytes that the automaton does not tell apart share a column. Tables are bounded:
//! states found after that are stepped by the automaton itself.

use std::cell::Cell;
use std::hash::Hash;

use fst::Automaton;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::segment::term_walk::Walk;

/// Entries of the table, and states, at most.
const TABLE_MAX: usize = 1 << 19;
const STATES_MAX: usize = 4096;

/// Steps that are not to a state of the table: nobody has taken it yet; nothing can match behind it; the table was full.
const UNKNOWN: u32 = u32::MAX;
const DEAD: u32 = u32::MAX - 1;
const OWN: u32 = u32::MAX - 2;

/// An automaton that knows something about bytes.
pub(crate) trait ByteAutomaton: Automaton<State: Clone + Eq + Hash> {
    /// Bytes that are one to it.
    fn classes(&self) -> ByteClasses;

    /// Where what is known of it is kept, if it is.
    fn kept(&self) -> Option<&Kept<Self::State>> {
        None
    }

    /// The byte that everything which matches ends with, if there is such a byte.
    fn ending(&self) -> Option<u8> {
        None
    }

    /// Whether something can match behind any valid continuation.
    fn is_open(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }
}

/// Bytes that an automaton over characters does not tell apart.
#[derive(Clone, Debug)]
pub(crate) struct ByteClasses {
    /// Class of each byte.
    of: [u8; 256],
    /// By class: a byte that stands for all, and which they are.
    classes: Vec<(u8, [u64; 4])>,
}

/// Bytes that are in no valid text.
fn is_invalid(byte: usize) -> bool {
    matches!(byte, 0xc0 | 0xc1 | 0xf5..)
}

impl ByteClasses {
    /// From the byte that stands for each.
    fn new(stand_ins: &[u8; 256]) -> ByteClasses {
        let mut classes: Vec<(u8, [u64; 4])> = Vec::with_capacity(32);
        let mut class_of = [None; 256];
        let of = std::array::from_fn(|byte| {
            let stand_in = stand_ins[byte];
            let class = *class_of[stand_in as usize].get_or_insert_with(|| {
                classes.push((stand_in, [0; 4]));
                (classes.len() - 1) as u8
            });
            classes[class as usize].1[byte / 64] |= 1 << (byte % 64);
            class
        });
        ByteClasses { of, classes }
    }

    /// Every byte is one of its own.
    #[cfg(test)]
    pub(crate) fn all() -> ByteClasses {
        ByteClasses::new(&std::array::from_fn(|b| b as u8))
    }

    /// For an automaton that tells these characters apart, and takes all others alike. Holds for valid UTF-8.
    pub(crate) fn telling_apart(chars: impl Iterator<Item = char>) -> ByteClasses {
        let mut used = [false; 256];
        for c in chars {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| used[b as usize] = true);
        }
        let mut classes = std::array::from_fn(|b| if is_invalid(b) { 0xff } else { b as u8 });
        // Single characters, bytes within one (by what they may follow), first bytes of two, three and four. Stand-ins of the
        // last two are ones behind which every byte makes a character, and none that is shorter otherwise.
        for (kind, stand_ins) in [
            (0x00..=0x7f, 0x00..=0x7f),
            (0x80..=0x8f, 0x80..=0x8f),
            (0x90..=0x9f, 0x90..=0x9f),
            (0xa0..=0xbf, 0xa0..=0xbf),
            (0xc2..=0xdf, 0xc2..=0xdf),
            (0xe0..=0xef, 0xe1..=0xec),
            (0xf0..=0xf4, 0xf1..=0xf3u8),
        ] {
            let mut stand_ins = stand_ins;
            if let Some(stand_in) = stand_ins.find(|&b| !used[b as usize]) {
                kind.filter(|&b| !used[b as usize]).for_each(|b| classes[b as usize] = stand_in);
            }
        }
        ByteClasses::new(&classes)
    }

    /// For an automaton to which all characters from one of these to the next are alike. Holds for valid UTF-8.
    pub(crate) fn between(starts: impl Iterator<Item = char>) -> ByteClasses {
        // A byte of such a character is one of its own; between two of those, all lead to the same side of every start.
        let mut used = [false; 256];
        for c in starts {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| used[b as usize] = true);
        }
        let mut classes = [0; 256];
        for byte in 0..256 {
            let first_of_kind =
                matches!(byte, 0 | 0x80 | 0x90 | 0xa0 | 0xc2 | 0xe0 | 0xe1 | 0xed | 0xee | 0xf0 | 0xf1 | 0xf4);
            classes[byte] = match byte {
                _ if is_invalid(byte) => 0xff,
                _ if first_of_kind || used[byte] || used[byte - 1] => byte as u8,
                _ => classes[byte - 1],
            };
        }
        ByteClasses::new(&classes)
    }
}

/// What is known of an automaton. Kept with it, so that the next segment finds it.
struct Known<S> {
    classes: ByteClasses,
    ending: Option<u8>,
    ids: FxHashMap<S, u32>,
    states: Vec<State<S>>,
    /// A row of `1 << shift` entries for each state, which are where the next row begins.
    table: Vec<u32>,
    shift: u32,
}

/// Room for what is known of an automaton, between two walks. A copy begins empty.
pub(crate) struct Kept<S>(Cell<Option<Box<Known<S>>>>);

impl<S> Default for Kept<S> {
    fn default() -> Kept<S> {
        Kept(Cell::default())
    }
}

impl<S> Clone for Kept<S> {
    fn clone(&self) -> Kept<S> {
        Kept::default()
    }
}

impl<S> std::fmt::Debug for Kept<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Part of no pattern.
        f.write_str("_")
    }
}

struct State<S> {
    state: S,
    is_match: bool,
    is_open: bool,
    /// Bytes with which it can match, once asked for.
    live: Option<[u64; 4]>,
}

/// See the module.
pub(crate) struct Determinized<'a, A: ByteAutomaton> {
    automaton: &'a A,
    known: Box<Known<A::State>>,
    /// Where the row of the state behind each byte begins, as long as they have one.
    rows: Vec<u32>,
    /// The states after those.
    own: Vec<A::State>,
}

impl<'a, A: ByteAutomaton> Determinized<'a, A> {
    pub(crate) fn new(automaton: &'a A) -> Determinized<'a, A> {
        let known = automaton.kept().and_then(|kept| kept.0.take());
        let known = known.unwrap_or_else(|| {
            let classes = automaton.classes();
            let shift = classes.classes.len().next_power_of_two().trailing_zeros();
            Box::new(Known {
                classes,
                ending: automaton.ending(),
                ids: FxHashMap::with_capacity_and_hasher(48, FxBuildHasher),
                states: Vec::new(),
                table: Vec::with_capacity(16 << shift),
                shift,
            })
        });
        Determinized { automaton, known, rows: Vec::new(), own: Vec::new() }
    }

    /// Leaves what is known with the automaton, if that has room for it.
    pub(crate) fn keep(self) {
        if let Some(kept) = self.automaton.kept() {
            kept.0.set(Some(self.known));
        }
    }

    /// The row of a state; `DEAD`, or `OWN` if the table is full.
    fn row_of(&mut self, state: A::State) -> u32 {
        if !self.automaton.can_match(&state) {
            return DEAD;
        }
        if let Some(&row) = self.known.ids.get(&state) {
            return row;
        }
        let row = self.known.table.len();
        if self.known.states.len() == STATES_MAX || row + (1 << self.known.shift) > TABLE_MAX {
            return OWN;
        }
        self.known.table.resize(row + (1 << self.known.shift), UNKNOWN);
        self.known.ids.insert(state.clone(), row as u32);
        let (is_match, is_open) = (self.automaton.is_match(&state), self.automaton.is_open(&state));
        self.known.states.push(State { state, is_match, is_open, live: None });
        row as u32
    }

    /// Where a step with a class of bytes goes from a row.
    #[inline]
    fn next(&mut self, row: u32, class: u8) -> u32 {
        let next = self.known.table[row as usize + class as usize];
        if next == UNKNOWN { self.find_next(row, class) } else { next }
    }

    #[cold]
    fn find_next(&mut self, row: u32, class: u8) -> u32 {
        let stand_in = self.known.classes.classes[class as usize].0;
        let next = self.automaton.accept(&self.known.states[(row >> self.known.shift) as usize].state, stand_in);
        let next = self.row_of(next);
        self.known.table[row as usize + class as usize] = next;
        next
    }

    fn push_own(&mut self, state: A::State) -> bool {
        let live = self.automaton.can_match(&state);
        if live {
            self.own.push(state);
        }
        live
    }

    #[cold]
    fn step_own(&mut self, byte: u8) -> bool {
        let stand_in = self.known.classes.classes[self.known.classes.of[byte as usize] as usize].0;
        let next = match (self.own.last(), self.rows.last()) {
            (Some(state), _) => self.automaton.accept(state, stand_in),
            (None, Some(&row)) => {
                self.automaton.accept(&self.known.states[(row >> self.known.shift) as usize].state, stand_in)
            }
            (None, None) => unreachable!("it was started"),
        };
        self.push_own(next)
    }

    fn state(&self) -> &State<A::State> {
        &self.known.states[(self.rows[self.rows.len() - 1] >> self.known.shift) as usize]
    }

    /// Bytes with which it can match from the last row.
    fn live(&mut self) -> [u64; 4] {
        if let Some(live) = self.state().live {
            return live;
        }
        let row = self.rows[self.rows.len() - 1];
        let mut live = [0; 4];
        for class in 0..self.known.classes.classes.len() {
            if self.next(row, class as u8) != DEAD {
                live.iter_mut().zip(self.known.classes.classes[class].1).for_each(|(word, bits)| *word |= bits);
            }
        }
        self.known.states[(row >> self.known.shift) as usize].live = Some(live);
        live
    }
}

impl<A: ByteAutomaton> Walk for Determinized<'_, A> {
    fn start(&mut self) -> bool {
        self.rows.clear();
        self.own.clear();
        match self.row_of(self.automaton.start()) {
            DEAD => false,
            OWN => self.push_own(self.automaton.start()),
            row => {
                self.rows.push(row);
                true
            }
        }
    }

    #[inline]
    fn step(&mut self, byte: u8) -> bool {
        if !self.own.is_empty() {
            return self.step_own(byte);
        }
        match self.next(self.rows[self.rows.len() - 1], self.known.classes.of[byte as usize]) {
            DEAD => false,
            OWN => self.step_own(byte),
            row => {
                self.rows.push(row);
                true
            }
        }
    }

    #[inline]
    fn truncate(&mut self, depth: usize) {
        if !self.own.is_empty() {
            self.own.truncate((depth + 1).saturating_sub(self.rows.len()));
        }
        self.rows.truncate(depth + 1);
    }

    #[inline]
    fn is_match(&self) -> bool {
        match self.own.last() {
            Some(state) => self.automaton.is_match(state),
            None => self.state().is_match,
        }
    }

    fn next_byte(&mut self, from: u16) -> Option<u8> {
        if let Some(state) = self.own.last() {
            let stand_in = |byte: u8| self.known.classes.classes[self.known.classes.of[byte as usize] as usize].0;
            let can_match = |byte: &u8| self.automaton.can_match(&self.automaton.accept(state, stand_in(*byte)));
            return (from..256).map(|b| b as u8).find(can_match);
        }
        let live = self.live();
        let mut word = (from / 64) as usize;
        let mut bits = live.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *live.get(word)?;
        }
        Some((word as u32 * 64 + bits.trailing_zeros()) as u8)
    }

    #[inline]
    fn ending(&self) -> Option<u8> {
        self.known.ending
    }

    fn is_open(&self, depth: usize) -> bool {
        match self.rows.get(depth) {
            Some(row) => self.known.states[(row >> self.known.shift) as usize].is_open,
            None => self.own.get(depth - self.rows.len()).is_some_and(|state| self.automaton.is_open(state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::automaton::{Fuzzy, Wildcard, accepts};
    use crate::search::regexp::Regexp;
    use proptest::prelude::*;

    /// Counts up: more states than are kept.
    struct Endless;

    impl Automaton for Endless {
        type State = u64;

        fn start(&self) -> u64 {
            0
        }

        fn is_match(&self, state: &u64) -> bool {
            state.is_multiple_of(7)
        }

        fn accept(&self, state: &u64, byte: u8) -> u64 {
            state.wrapping_mul(2) + u64::from(byte & 1)
        }
    }

    impl ByteAutomaton for Endless {
        fn classes(&self) -> ByteClasses {
            ByteClasses::all()
        }
    }

    /// Whether a walk takes the whole term and where it stands is a match.
    fn takes(walk: &mut impl Walk, term: &[u8]) -> bool {
        assert!(walk.start());
        term.iter().all(|&byte| walk.step(byte)) && walk.is_match()
    }

    #[test]
    fn bytes_stand_for_their_own_kind_only() {
        let classes = ByteClasses::telling_apart("aé\u{1061}😀".chars());
        let stand_in = |byte: usize| classes.classes[classes.of[byte] as usize].0;
        for byte in 0..256 {
            let len = |b: u8| match b {
                0..0x80 => 1,
                0x80..0xc0 => 0,
                0xc0 | 0xc1 | 0xf5.. => 9,
                b => b.leading_ones(),
            };
            assert_eq!(len(byte as u8), len(stand_in(byte)), "{byte:x}");
            let members = &classes.classes[classes.of[byte] as usize].1;
            assert!(members[byte / 64] >> (byte % 64) & 1 == 1);
        }
        assert_ne!(stand_in(b'b' as usize), b'a');
        assert_ne!(stand_in(0xe2), 0xe1);
        assert_eq!((stand_in(b'a' as usize), stand_in(0xe1)), (b'a', 0xe1));
    }

    proptest! {
        #[test]
        fn accepts_what_the_automaton_accepts(word in "[Aabé\u{1061}\u{820}😀]{0,7}", pattern in "[Aab?*é\u{1061}\u{820}]{0,8}",
                                              expression in "([Aab.]|\\[éa-ࠠ\\]|é\\*|\\.\\*|\\[a-z\\]|\\[😀-😄\\]|\\[\\^ࠠ\\]){0,6}",
                                              edits in 0u8..3, prefix in 0u32..3, swaps: bool,
                                              terms in proptest::collection::vec("[Aabcéè\u{1061}\u{820}\u{861}\u{874}\u{7ff}😀😁]{0,9}", 1..60)) {
            let (fuzzy, wildcard) = (Fuzzy::new(&word, edits, prefix, swaps), Wildcard::new(&pattern, false));
            let regexp = Regexp::new(&expression, false, 1000).unwrap();
            let (mut quick_fuzzy, mut quick_wildcard) = (Determinized::new(&fuzzy), Determinized::new(&wildcard));
            let mut quick_regexp = Determinized::new(&regexp);
            for term in &terms {
                prop_assert_eq!(takes(&mut quick_fuzzy, term.as_bytes()), accepts(&fuzzy, term.as_bytes()));
                prop_assert_eq!(takes(&mut quick_wildcard, term.as_bytes()), accepts(&wildcard, term.as_bytes()));
                prop_assert_eq!(takes(&mut quick_regexp, term.as_bytes()), accepts(&regexp, term.as_bytes()));
                // The next byte with which a match is possible, after a part of the term.
                let (mut slow, mut taken) = (fuzzy.start(), 0);
                prop_assert!(quick_fuzzy.start());
                for &byte in term.as_bytes().iter().take(2) {
                    slow = fuzzy.accept(&slow, byte);
                    taken += usize::from(quick_fuzzy.step(byte));
                }
                if taken < 2.min(term.len()) {
                    continue;
                }
                for from in [0u16, 97, 98, 0xc3, 256] {
                    let next = quick_fuzzy.next_byte(from);
                    let ascii = (from..128).map(|b| b as u8).find(|&b| fuzzy.can_match(&fuzzy.accept(&slow, b)));
                    prop_assert!(ascii.is_none_or(|b| next == Some(b)));
                    prop_assert!(next.is_none_or(|b| u16::from(b) >= from && quick_fuzzy.step(b)));
                    quick_fuzzy.truncate(taken);
                }
            }
        }

        #[test]
        fn too_many_states_are_not_kept(terms in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..200)) {
            let mut quick = Determinized::new(&Endless);
            for term in &terms {
                prop_assert_eq!(takes(&mut quick, term), accepts(&Endless, term));
                // Back to where the states may be in the table, and on.
                let half = term.len() / 2;
                quick.truncate(half);
                prop_assert!(term[half..].iter().all(|&byte| quick.step(byte)));
                prop_assert_eq!(quick.is_match(), accepts(&Endless, term));
                prop_assert_eq!(quick.next_byte(200), Some(200));
            }
            prop_assert!(quick.known.states.len() <= STATES_MAX && quick.known.table.len() <= TABLE_MAX);
        }
    }
}

//! Determinizes an automaton as far as it is walked.
//!
//! The first step from a state with a byte asks the automaton; every later one is a look into a table. A dictionary takes the
//! same few hundred steps millions of times. Tables are bounded: states found after that are stepped by the automaton itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use fst::Automaton;

use crate::segment::reader::{InvertedIndex, TermInfo};

/// States with a table of 1 KiB each.
const STATES_MAX: usize = 2048;
/// A step that nobody has taken yet.
const UNKNOWN: u32 = u32::MAX;

/// Bytes that an automaton over characters does not tell apart: a stand-in for each.
pub(crate) struct ByteClasses([u8; 256]);

impl ByteClasses {
    /// Every byte is one of its own.
    pub(crate) fn all() -> ByteClasses {
        ByteClasses(std::array::from_fn(|b| b as u8))
    }

    /// For an automaton that tells these characters apart, and takes all others alike. Holds for valid UTF-8.
    pub(crate) fn telling_apart(chars: impl Iterator<Item = char>) -> ByteClasses {
        let mut used = [false; 256];
        for c in chars {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| used[b as usize] = true);
        }
        let ByteClasses(mut classes) = ByteClasses::all();
        // Single characters, bytes within one, first bytes of two, three and four. Stand-ins of the last two are ones behind
        // which every byte makes a character, and none that is shorter otherwise.
        for (kind, stand_ins) in [
            (0x00..=0x7f, 0x00..=0x7f),
            (0x80..=0xbf, 0x80..=0xbf),
            (0xc2..=0xdf, 0xc2..=0xdf),
            (0xe0..=0xef, 0xe1..=0xec),
            (0xf0..=0xf4, 0xf1..=0xf3u8),
        ] {
            let mut stand_ins = stand_ins;
            if let Some(stand_in) = stand_ins.find(|&b| !used[b as usize]) {
                kind.filter(|&b| !used[b as usize]).for_each(|b| classes[b as usize] = stand_in);
            }
        }
        ByteClasses(classes)
    }
}

/// See the module.
pub(crate) struct Determinized<'a, A: Automaton> {
    automaton: &'a A,
    classes: ByteClasses,
    known: RefCell<Known<A::State>>,
}

struct Known<S> {
    ids: HashMap<S, u32>,
    states: Vec<Entry<S>>,
}

struct Entry<S> {
    state: S,
    can_match: bool,
    is_match: bool,
    next: Box<[u32; 256]>,
    /// Bytes with which it can match, once asked for.
    live: Option<[u64; 4]>,
}

/// A state: its number, or itself where there are too many.
#[derive(Clone)]
pub(crate) enum State<S> {
    Numbered(u32),
    Own(S),
}

impl<'a, A: Automaton> Determinized<'a, A>
where
    A::State: Clone + Eq + Hash,
{
    pub(crate) fn new(automaton: &'a A, classes: ByteClasses) -> Determinized<'a, A> {
        Determinized { automaton, classes, known: RefCell::new(Known { ids: HashMap::new(), states: Vec::new() }) }
    }

    /// Terms that are accepted, in byte order, as long as `visit` answers true.
    pub(crate) fn visit(&self, index: &InvertedIndex, visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
        index.visit_stepping(self, &|state, from| self.next_byte(state, from), visit);
    }

    /// The first byte, not below `from`, with which the automaton can match.
    fn next_byte(&self, state: &State<A::State>, from: u16) -> Option<u8> {
        let can_match = |byte: u8| self.can_match(&self.accept(state, byte));
        let State::Numbered(id) = state else { return (from..256).map(|b| b as u8).find(|&b| can_match(b)) };
        let live = self.known.borrow().states[*id as usize].live;
        let live = live.unwrap_or_else(|| {
            let mut live = [0; 4];
            for byte in 0..=255u8 {
                // A stand-in is not always the first of its class, but a step is taken only once.
                live[byte as usize / 64] |= u64::from(can_match(byte)) << (byte % 64);
            }
            self.known.borrow_mut().states[*id as usize].live = Some(live);
            live
        });
        let mut word = (from / 64) as usize;
        let mut bits = live.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *live.get(word)?;
        }
        Some((word as u32 * 64 + bits.trailing_zeros()) as u8)
    }

    fn number(&self, known: &mut Known<A::State>, state: A::State) -> State<A::State> {
        if let Some(&id) = known.ids.get(&state) {
            return State::Numbered(id);
        }
        if known.states.len() == STATES_MAX {
            return State::Own(state);
        }
        let id = known.states.len() as u32;
        known.ids.insert(state.clone(), id);
        known.states.push(Entry {
            can_match: self.automaton.can_match(&state),
            is_match: self.automaton.is_match(&state),
            next: Box::new([UNKNOWN; 256]),
            live: None,
            state,
        });
        State::Numbered(id)
    }

    #[cold]
    fn step(&self, id: u32, byte: u8) -> State<A::State> {
        let mut known = self.known.borrow_mut();
        let next = self.automaton.accept(&known.states[id as usize].state, byte);
        let next = self.number(&mut known, next);
        if let State::Numbered(to) = next {
            known.states[id as usize].next[byte as usize] = to;
        }
        next
    }
}

impl<A: Automaton> Automaton for Determinized<'_, A>
where
    A::State: Clone + Eq + Hash,
{
    type State = State<A::State>;

    fn start(&self) -> Self::State {
        self.number(&mut self.known.borrow_mut(), self.automaton.start())
    }

    #[inline]
    fn is_match(&self, state: &Self::State) -> bool {
        match state {
            State::Numbered(id) => self.known.borrow().states[*id as usize].is_match,
            State::Own(state) => self.automaton.is_match(state),
        }
    }

    #[inline]
    fn can_match(&self, state: &Self::State) -> bool {
        match state {
            State::Numbered(id) => self.known.borrow().states[*id as usize].can_match,
            State::Own(state) => self.automaton.can_match(state),
        }
    }

    #[inline]
    fn accept(&self, state: &Self::State, byte: u8) -> Self::State {
        let byte = self.classes.0[byte as usize];
        match state {
            State::Numbered(id) => {
                let next = self.known.borrow().states[*id as usize].next[byte as usize];
                if next == UNKNOWN { self.step(*id, byte) } else { State::Numbered(next) }
            }
            State::Own(state) => {
                let next = self.automaton.accept(state, byte);
                self.number(&mut self.known.borrow_mut(), next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::automaton::{Fuzzy, Wildcard, accepts};
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
            state * 2 + u64::from(byte & 1)
        }
    }

    fn quick<A: Automaton>(automaton: &A, chars: impl Iterator<Item = char>) -> Determinized<'_, A>
    where
        A::State: Clone + Eq + Hash,
    {
        Determinized::new(automaton, ByteClasses::telling_apart(chars))
    }

    #[test]
    fn bytes_stand_for_their_own_kind_only() {
        let classes = ByteClasses::telling_apart("aé\u{1061}😀".chars()).0;
        for (byte, class) in classes.iter().enumerate() {
            let len = |b: u8| match b {
                0..0x80 => 1,
                0x80..0xc0 => 0,
                b => b.leading_ones(),
            };
            assert_eq!(len(byte as u8), len(*class), "{byte:x}");
        }
        assert_ne!(classes[b'b' as usize], b'a');
        assert_ne!(classes[0xe2], 0xe1);
        assert_eq!((classes[b'a' as usize], classes[0xe1]), (b'a', 0xe1));
    }

    proptest! {
        #[test]
        fn accepts_what_the_automaton_accepts(word in "[abé\u{1061}😀]{0,7}", pattern in "[ab?*é\u{1061}]{0,8}", edits in 0u8..3, prefix in 0u32..3,
                                              swaps: bool, terms in proptest::collection::vec("[abcéè\u{1061}\u{861}😀😁]{0,9}", 1..60)) {
            let (fuzzy, wildcard) = (Fuzzy::new(&word, edits, prefix, swaps), Wildcard::new(&pattern, false));
            let (quick_fuzzy, quick_wildcard) = (quick(&fuzzy, fuzzy.chars()), quick(&wildcard, wildcard.chars()));
            for term in &terms {
                prop_assert_eq!(accepts(&quick_fuzzy, term.as_bytes()), accepts(&fuzzy, term.as_bytes()));
                prop_assert_eq!(accepts(&quick_wildcard, term.as_bytes()), accepts(&wildcard, term.as_bytes()));
                // The next byte with which a match is possible, after a part of the term.
                let (mut slow, mut state) = (fuzzy.start(), quick_fuzzy.start());
                for &byte in term.as_bytes().iter().take(2) {
                    (slow, state) = (fuzzy.accept(&slow, byte), quick_fuzzy.accept(&state, byte));
                }
                for from in [0u16, 97, 98, 0xc3, 256] {
                    let next = quick_fuzzy.next_byte(&state, from);
                    let ascii = (from..128).map(|b| b as u8).find(|&b| fuzzy.can_match(&fuzzy.accept(&slow, b)));
                    prop_assert!(ascii.is_none_or(|b| next == Some(b)));
                }
            }
        }

        #[test]
        fn too_many_states_are_not_kept(terms in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..200)) {
            let quick = Determinized::new(&Endless, ByteClasses::all());
            for term in &terms {
                prop_assert_eq!(accepts(&quick, term), accepts(&Endless, term));
            }
            prop_assert!(quick.known.borrow().states.len() <= STATES_MAX);
        }
    }
}

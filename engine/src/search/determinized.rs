//! Determinizes an automaton as far as it is walked.
//!
//! The first step from a state with a byte asks the automaton; every later one is a look into a table. A dictionary takes the
//! same few hundred steps millions of times. Tables are bounded: states found after that are stepped by the automaton itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use fst::Automaton;

/// States with a table of 1 KiB each.
const STATES_MAX: usize = 2048;
/// A step that nobody has taken yet.
const UNKNOWN: u32 = u32::MAX;

/// See the module.
pub(crate) struct Determinized<'a, A: Automaton> {
    automaton: &'a A,
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
    pub(crate) fn new(automaton: &'a A) -> Determinized<'a, A> {
        Determinized { automaton, known: RefCell::new(Known { ids: HashMap::new(), states: Vec::new() }) }
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

    proptest! {
        #[test]
        fn accepts_what_the_automaton_accepts(word in "[abé]{0,7}", pattern in "[ab?*é]{0,8}", edits in 0u8..3, prefix in 0u32..3,
                                              swaps: bool, terms in proptest::collection::vec("[abcé]{0,9}", 1..60)) {
            let (fuzzy, wildcard) = (Fuzzy::new(&word, edits, prefix, swaps), Wildcard::new(&pattern, false));
            let (quick_fuzzy, quick_wildcard) = (Determinized::new(&fuzzy), Determinized::new(&wildcard));
            for term in &terms {
                prop_assert_eq!(accepts(&quick_fuzzy, term.as_bytes()), accepts(&fuzzy, term.as_bytes()));
                prop_assert_eq!(accepts(&quick_wildcard, term.as_bytes()), accepts(&wildcard, term.as_bytes()));
            }
        }

        #[test]
        fn too_many_states_are_not_kept(terms in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..200)) {
            let quick = Determinized::new(&Endless);
            for term in &terms {
                prop_assert_eq!(accepts(&quick, term), accepts(&Endless, term));
            }
            prop_assert!(quick.known.borrow().states.len() <= STATES_MAX);
        }
    }
}

//! Walks the terms of a dictionary that an automaton accepts.
//!
//! A term is followed byte by byte until nothing can match behind its bytes; the terms that share those bytes are passed with
//! one comparison, and the blocks that have nothing else with a search among the separators for the smallest string that can
//! still match. Where every string can match and all end with one byte, only that byte is looked at first.

use crate::segment::dictionary::Dictionary;
use crate::segment::postings::TermInfo;
use crate::segment::term_block::{Block, Infos, common_prefix};

/// A string is made as long as this, at most, to be looked for: so many bytes of a separator are compared at once.
const TARGET_LEN: usize = 8;

/// An automaton that stands behind some bytes and remembers all states before.
pub(crate) trait Walk {
    /// Stands behind no byte; false if nothing can match.
    fn start(&mut self) -> bool;

    /// One byte on. False, and nothing has changed, if then nothing can match.
    fn step(&mut self, byte: u8) -> bool;

    /// Back to behind the first `depth` bytes.
    fn truncate(&mut self, depth: usize);

    /// Whether the bytes match as they are.
    fn is_match(&self) -> bool;

    /// The first byte, not below a number up to 256, that `step` takes.
    fn next_byte(&mut self, from: u16) -> Option<u8>;

    /// The byte that everything which matches ends with, if there is such a byte.
    fn ending(&self) -> Option<u8> {
        None
    }

    /// Whether something can match behind any valid continuation of the first `depth` bytes.
    fn is_open(&self, depth: usize) -> bool {
        let _ = depth;
        false
    }
}

/// Where a walk through a dictionary is. Not bound to the automaton, so that it can wait between two blocks.
pub(crate) struct TermWalk<'a> {
    dictionary: &'a Dictionary,
    next_block: usize,
    started: bool,
    /// The bytes that the automaton stands behind.
    walked: Vec<u8>,
    /// Every term that begins with so many bytes of `walked` needs only the right ending; `walked` has no more.
    open: Option<usize>,
    term: Vec<u8>,
}

impl<'a> TermWalk<'a> {
    pub fn new(dictionary: &'a Dictionary) -> TermWalk<'a> {
        TermWalk { dictionary, next_block: 0, started: false, walked: Vec::new(), open: None, term: Vec::new() }
    }

    /// Visits terms in byte order, in up to so many blocks; whether there may be more. `visit` answers whether to go on.
    pub fn run(&mut self, walk: &mut impl Walk, blocks: usize, visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) -> bool {
        if !self.started {
            self.started = true;
            if !walk.start() {
                self.next_block = self.dictionary.block_count();
            } else {
                self.lengthen(walk);
                self.next_block = self.dictionary.block_from(0, &self.walked);
            }
        }
        for _ in 0..blocks {
            if self.next_block >= self.dictionary.block_count() {
                return false;
            }
            let Some(block) = self.dictionary.block(self.next_block) else { return false };
            self.next_block += 1;
            if !self.block(&block, walk, visit) {
                self.next_block = self.dictionary.block_count();
                return false;
            }
        }
        true
    }

    /// Adds the smallest bytes that can match behind `walked`, until it does.
    fn lengthen(&mut self, walk: &mut impl Walk) {
        while self.walked.len() < TARGET_LEN && !walk.is_match() {
            let Some(byte) = walk.next_byte(0).filter(|&b| walk.step(b)) else { return };
            self.walked.push(byte);
        }
    }

    /// Goes to the next string behind `walked` (from that byte on) that can match; false if there is none.
    fn advance(&mut self, walk: &mut impl Walk, mut from: u16) -> bool {
        loop {
            if let Some(byte) = walk.next_byte(from)
                && walk.step(byte)
            {
                self.walked.push(byte);
                self.lengthen(walk);
                return true;
            }
            let Some(last) = self.walked.pop() else { return false };
            walk.truncate(self.walked.len());
            from = u16::from(last) + 1;
        }
    }

    /// Visits a block and decides which is next; false if there is none, or no more are wanted.
    fn block(
        &mut self,
        block: &Block<'_>,
        walk: &mut impl Walk,
        visit: &mut dyn FnMut(&[u8], TermInfo) -> bool,
    ) -> bool {
        let Some((_, first)) = block.entry(0) else { return false };
        let mut infos = None;
        let dictionary = self.dictionary;
        let mut info = |i| {
            let infos: Option<Infos<'_>> = *infos.get_or_insert_with(|| dictionary.infos(block));
            infos.map(|infos| infos.get(i))
        };
        let mut i = 0;
        let mut shared = common_prefix(&self.walked, first);
        if self.open.is_some_and(|depth| shared >= depth) {
            i = match self.visit_open(block, 0, walk, &mut info, visit) {
                Some(i) => i,
                None => return false,
            };
            if i == block.len() {
                return true;
            }
            shared = block.entry(i).map_or(0, |e| e.0).min(self.walked.len());
        }
        self.open = None;
        let mut suffix = &first[if i == 0 { shared } else { 0 }..];
        loop {
            if i > 0 {
                match block.entry(i) {
                    Some((_, bytes)) => suffix = bytes,
                    None => return false,
                }
            }
            self.walked.truncate(shared);
            walk.truncate(shared);
            let mut dead = None;
            for &byte in suffix {
                if !walk.step(byte) {
                    dead = Some(byte);
                    break;
                }
                self.walked.push(byte);
            }
            if dead.is_none() && walk.is_match() && !info(i).is_some_and(|info| visit(&self.walked, info)) {
                return false;
            }
            if walk.ending().is_some() && walk.is_open(self.walked.len()) {
                let depth = (0..self.walked.len()).find(|&d| walk.is_open(d)).unwrap_or(self.walked.len());
                self.walked.truncate(depth);
                walk.truncate(depth);
                self.open = Some(depth);
                match self.visit_open(block, i + 1, walk, &mut info, visit) {
                    Some(next) if next == block.len() => return true,
                    Some(next) => i = next,
                    None => return false,
                }
                self.open = None;
            } else {
                i = block.next_sharing_at_most(self.walked.len(), i);
                if i == block.len() {
                    if !self.advance(walk, dead.map_or(0, |byte| u16::from(byte) + 1)) {
                        return false;
                    }
                    self.next_block = self.dictionary.block_from(self.next_block, &self.walked);
                    return true;
                }
            }
            shared = block.entry(i).map_or(0, |e| e.0).min(self.walked.len());
        }
    }

    /// Visits terms from `i` on that begin with the open bytes; the index behind them, or none if no more are wanted.
    fn visit_open(
        &mut self,
        block: &Block<'_>,
        mut i: usize,
        walk: &mut impl Walk,
        info: &mut impl FnMut(usize) -> Option<TermInfo>,
        visit: &mut dyn FnMut(&[u8], TermInfo) -> bool,
    ) -> Option<usize> {
        let depth = self.walked.len();
        debug_assert!(self.open == Some(depth));
        let ending = walk.ending();
        // What shares less begins with something else.
        let end = match depth.checked_sub(1) {
            Some(less) if i == 0 => block.next_sharing_at_most(less, 0),
            Some(less) => block.next_sharing_at_most(less, i - 1),
            None => block.len(),
        };
        while i < end {
            if block.last_byte(i) == ending {
                block.term(i, &mut self.term);
                walk.truncate(depth);
                let rest = self.term.get(depth..).unwrap_or(&[]);
                if rest.iter().all(|&b| walk.step(b)) && walk.is_match() {
                    let info = info(i)?;
                    if !visit(&self.term, info) {
                        return None;
                    }
                }
            }
            i += 1;
        }
        walk.truncate(depth);
        Some(end)
    }
}

/// Any automaton, its states kept as they are.
pub(crate) struct Plain<'a, A: fst::Automaton> {
    automaton: &'a A,
    states: Vec<A::State>,
}

impl<'a, A: fst::Automaton> Plain<'a, A> {
    pub fn new(automaton: &'a A) -> Plain<'a, A> {
        Plain { automaton, states: Vec::new() }
    }

    fn last(&self) -> &A::State {
        self.states.last().expect("it was started")
    }
}

impl<A: fst::Automaton> Walk for Plain<'_, A> {
    fn start(&mut self) -> bool {
        self.states.clear();
        self.states.push(self.automaton.start());
        self.automaton.can_match(self.last())
    }

    fn step(&mut self, byte: u8) -> bool {
        let next = self.automaton.accept(self.last(), byte);
        let live = self.automaton.can_match(&next);
        if live {
            self.states.push(next);
        }
        live
    }

    fn truncate(&mut self, depth: usize) {
        self.states.truncate(depth + 1);
    }

    fn is_match(&self) -> bool {
        let last = self.last();
        self.automaton.is_match(self.automaton.accept_eof(last).as_ref().unwrap_or(last))
    }

    fn next_byte(&mut self, from: u16) -> Option<u8> {
        let can = |&byte: &u8| self.automaton.can_match(&self.automaton.accept(self.last(), byte));
        (from..256).map(|b| b as u8).find(can)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::automaton::{Fuzzy, Wildcard, accepts};
    use crate::search::determinized::{ByteAutomaton, Determinized};
    use crate::search::regexp::Regexp;
    use crate::segment::dictionary::DictionaryWriter;
    use crate::segment::extents::Stream;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dictionary(terms: &BTreeSet<String>) -> Dictionary {
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        let mut writer = DictionaryWriter::new(true);
        for (i, term) in (1..).zip(terms) {
            let info = TermInfo { doc_freq: i, total_term_freq: u64::from(i), ..TermInfo::default() };
            writer.push(term.as_bytes(), info, bytes.len() as u64, &mut bytes);
        }
        writer.finish(bytes.len() as u64, &mut bytes);
        writer.write_index(&mut index);
        let mut table = 1u32.to_le_bytes().to_vec();
        [0, 0, bytes.len() as u64].iter().for_each(|n| table.extend_from_slice(&n.to_le_bytes()));
        Dictionary::open(Stream::open(&bytes.into(), &table).unwrap(), index.into(), true).unwrap()
    }

    /// All that a walk visits, in turns of so many blocks.
    fn visited(dictionary: &Dictionary, walk: &mut impl Walk, blocks: usize) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut visit = |term: &[u8], info: TermInfo| {
            found.push((String::from_utf8(term.to_vec()).unwrap(), info.doc_freq));
            true
        };
        let mut terms = TermWalk::new(dictionary);
        while terms.run(walk, blocks, &mut visit) {}
        found
    }

    fn check<A: ByteAutomaton>(terms: &BTreeSet<String>, dictionary: &Dictionary, automaton: &A) {
        let all = (1..).zip(terms).map(|(i, term)| (term.clone(), i));
        let expected: Vec<(String, u32)> = all.filter(|(term, _)| accepts(automaton, term.as_bytes())).collect();
        let mut walk = Determinized::new(automaton);
        assert_eq!(visited(dictionary, &mut walk, 1), expected);
        // Again, with the states that are known by now.
        assert_eq!(visited(dictionary, &mut walk, usize::MAX), expected);
        walk.keep();
        let mut walk = Determinized::new(automaton);
        assert_eq!(visited(dictionary, &mut walk, 2), expected);
        assert_eq!(visited(dictionary, &mut Plain::new(automaton), 3), expected);
        let mut seen = 0;
        TermWalk::new(dictionary).run(&mut walk, usize::MAX, &mut |_, _| {
            seen += 1;
            seen < 2
        });
        assert_eq!(seen, expected.len().min(2));
    }

    proptest! {
        #[test]
        fn terms_are_those_that_are_accepted(
            terms in proptest::collection::btree_set(prop_oneof![
                8 => "[abcé]{0,7}",
                4 => "[a-e]{2}(x{9,12}|y{3}|z)[ab\u{820}😀]{0,4}",
                1 => "a{253,258}[abc]{0,3}",
            ], 0..400),
            word in "[abcdé\u{820}]{0,7}", edits in 0u8..3, prefix in 0u32..3, swaps: bool,
            pattern in "[ab?*é]{0,8}", ignoring_case: bool, literal in "(aa|ab|a{250})?[*?]{0,2}[abxé]{0,3}",
            expression in "([abx]|\\.\\*|a\\+|\\[\\^b\\]|\\[é-😀\\]|\\(ab\\|bc\\)){0,5}",
        ) {
            let dictionary = dictionary(&terms);
            check(&terms, &dictionary, &Fuzzy::new(&word, edits, prefix, swaps));
            check(&terms, &dictionary, &Wildcard::new(&pattern, ignoring_case));
            check(&terms, &dictionary, &Wildcard::new(&literal, ignoring_case));
            if let Some(some) = terms.iter().nth(terms.len() / 2) {
                check(&terms, &dictionary, &Fuzzy::new(some, edits, prefix, swaps));
                check(&terms, &dictionary, &Wildcard::prefix(some, false));
                check(&terms, &dictionary, &Wildcard::exact(some, true));
            }
            check(&terms, &dictionary, &Regexp::new(&expression, false, 1000).unwrap());
        }
    }
}

//! What takes long about compiling a query: the terms near a word, which are looked for in whole dictionaries, the tables of
//! regular expressions, and what deleted documents hold of the terms to be scored. To compile does not wait, so that these are
//! made beside it: a query is compiled, what it lacked is noted and then made, giving way to others, and the query is compiled
//! once more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pace::Pace;
use crate::search::Searcher;
use crate::search::automaton::Fuzzy;
use crate::search::determinized::Determinized;
use crate::search::leaf::{BLOCKS_PER_TURN, turn};
use crate::search::live_counts::{Asked, Deleted, LiveCounts, count};
use crate::search::regexp::Regexp;
use crate::segment::reader::TermInfo;

/// Fuzzy candidates looked at before the best are taken.
const CANDIDATES_MAX: usize = 100_000;
/// Regular expressions that are compiled in passing: most queries have no more.
const REGEXPS_IN_PASSING: u32 = 4;

/// A fuzzy term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word {
    pub path: Arc<str>,
    pub term: String,
    pub edits: u8,
    pub prefix: u32,
    pub transpositions: bool,
}

/// A regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expression {
    pub text: String,
    pub case_insensitive: bool,
    pub states_max: u32,
}

/// A term that is near a word, in one segment.
pub(crate) struct Near {
    pub term: Vec<u8>,
    pub closeness: f32,
    /// Of the segment.
    pub ordinal: usize,
    pub info: TermInfo,
}

/// What has been made for a query, and what it lacked.
#[derive(Default)]
pub(crate) struct Expansions {
    near: RefCell<FxHashMap<Word, Rc<[Near]>>>,
    /// None where it does not compile: whoever needs it finds out why.
    regexps: RefCell<FxHashMap<Expression, Option<Regexp>>>,
    deleted: RefCell<FxHashMap<Asked, Deleted>>,
    words_lacking: RefCell<Vec<Word>>,
    /// With where each term is in the segments.
    deleted_lacking: RefCell<Vec<(Asked, Vec<Option<TermInfo>>)>>,
    regexps_lacking: RefCell<Vec<Expression>>,
    in_passing: Cell<u32>,
}

impl Expansions {
    /// The terms near a word; none when they are lacking.
    pub fn near(&self, word: Word) -> Option<Rc<[Near]>> {
        let known = self.near.borrow().get(&word).cloned();
        if known.is_none() {
            self.words_lacking.borrow_mut().push(word);
        }
        known
    }

    /// A regular expression; none when it is lacking, and none inside when it is for the caller to compile.
    pub fn regexp(&self, wanted: &Expression) -> Option<Option<Regexp>> {
        if let Some(known) = self.regexps.borrow().get(wanted) {
            return Some(known.clone());
        }
        let count = self.in_passing.get();
        if count < REGEXPS_IN_PASSING {
            self.in_passing.set(count + 1);
            return Some(None);
        }
        self.regexps_lacking.borrow_mut().push(wanted.clone());
        None
    }

    /// What deleted documents hold of a term, which is in the segments where `infos` say, or of a field; none when it is
    /// lacking.
    pub fn deleted(&self, asked: Asked, infos: &[Option<TermInfo>]) -> Option<Deleted> {
        let known = self.deleted.borrow().get(&asked).copied();
        if known.is_none() {
            self.deleted_lacking.borrow_mut().push((asked, infos.to_vec()));
        }
        known
    }

    /// Whether anything was lacking.
    pub fn lacks(&self) -> bool {
        !self.words_lacking.borrow().is_empty()
            || !self.regexps_lacking.borrow().is_empty()
            || !self.deleted_lacking.borrow().is_empty()
    }

    /// Makes what was lacking, until stopped.
    pub async fn make<P: Pace>(&self, searcher: &Searcher, counts: Option<&LiveCounts>, pace: &P) {
        for (asked, infos) in self.deleted_lacking.take() {
            if self.deleted.borrow().contains_key(&asked) {
                continue;
            }
            let Some(deleted) = count(counts, searcher, &asked, &infos, pace).await else { return };
            self.deleted.borrow_mut().insert(asked, deleted);
        }
        let (words, expressions) = (self.words_lacking.take(), self.regexps_lacking.take());
        for word in words {
            if self.near.borrow().contains_key(&word) {
                continue;
            }
            let near = near(&word, searcher, pace).await;
            if pace.stopped() {
                return;
            }
            self.near.borrow_mut().insert(word, near.into());
        }
        for wanted in expressions {
            if turn(pace).await {
                return;
            }
            if !self.regexps.borrow().contains_key(&wanted) {
                let made = Regexp::new(&wanted.text, wanted.case_insensitive, wanted.states_max).ok();
                self.regexps.borrow_mut().insert(wanted, made);
            }
        }
        self.in_passing.set(0);
    }
}

/// The terms near a word, of all segments, the closest first; not all when stopped.
pub(crate) async fn near<P: Pace>(word: &Word, searcher: &Searcher, pace: &P) -> Vec<Near> {
    let length = word.term.chars().count() as u32;
    let automaton = Fuzzy::new(&word.term, word.edits, word.prefix, word.transpositions);
    // One table of states for all segments.
    let mut states = Determinized::new(&automaton);
    let mut near: Vec<Near> = Vec::new();
    for (ordinal, segment) in searcher.segments.iter().enumerate() {
        let Some(index) = segment.reader.field(&word.path).and_then(|f| f.terms()) else { continue };
        let mut visit = |found: &[u8], info: TermInfo| {
            if let Some(distance) = automaton.distance(found) {
                // Bytes that do not begin a character are not counted.
                let chars = found.iter().filter(|&&b| b & 0xc0 != 0x80).count() as u32;
                let shorter = length.min(chars).max(1);
                let closeness = if distance == 0 { 1.0 } else { 1.0 - f32::from(distance) / shorter as f32 };
                if closeness > 0.0 {
                    near.push(Near { term: found.to_vec(), closeness, ordinal, info });
                }
            }
            near.len() < CANDIDATES_MAX
        };
        let mut walk = index.walk();
        while walk.run(&mut states, BLOCKS_PER_TURN, &mut visit) {
            if turn(pace).await {
                return near;
            }
        }
        if turn(pace).await {
            break;
        }
    }
    near.sort_by(|a, b| b.closeness.total_cmp(&a.closeness).then_with(|| a.term.cmp(&b.term)));
    near
}

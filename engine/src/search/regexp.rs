//! Lucene's regular expressions as a byte automaton.
//!
//! Syntax (anchored at both ends): `.` `?` `*` `+` `{n}` `{n,}` `{n,m}` `|` `[a-z]` `[^a-z]` `(...)` `"literal"` `\x`,
//! and the optional operators `~` (not), `&` (and), `@` (anything), `#` (nothing), `<1-100>` (numbers).
//!
//! Matching is by derivatives: the derivative of an expression by a character is the expression of what may follow.
//! "And" and "not" come for free. Expressions are interned, so that each distinct derivative is one state; all states
//! are found when the pattern is compiled, up to a limit.

use std::collections::hash_map::Entry;

use fst::Automaton;
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::search::automaton::Partial;
use crate::search::determinized::{ByteAutomaton, ByteClasses, Kept};

/// Parentheses, quantifiers and complements inside one another.
const DEPTH_MAX: usize = 200;
/// Work (interned nodes and derivatives computed) allowed for each state of the limit, and at most in all.
const WORK_MAX: usize = 400_000;

type Id = u32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    /// No text.
    Nothing,
    /// The empty text.
    Empty,
    /// One character of these ranges, sorted and apart.
    Class(Vec<(u32, u32)>),
    Concat(Id, Id),
    /// Sorted, at least two.
    Or(Vec<Id>),
    /// Sorted, at least two.
    And(Vec<Id>),
    Not(Id),
    /// min to max times; `u32::MAX` = any.
    Repeat(Id, u32, u32),
}

const NOTHING: Id = 0;
const EMPTY: Id = 1;

#[derive(Default)]
struct Arena {
    nodes: Vec<Node>,
    nullable: Vec<bool>,
    ids: FxHashMap<Node, Id>,
    derivatives: FxHashMap<(Id, u32), Id>,
    work: usize,
    work_max: usize,
}

/// Too many states.
struct TooComplex;

impl Arena {
    fn new(work_max: usize) -> Arena {
        let mut arena = Arena { work_max, ..Arena::default() };
        for node in [Node::Nothing, Node::Empty] {
            let _ = arena.intern(node);
        }
        arena
    }

    fn intern(&mut self, node: Node) -> Result<Id, TooComplex> {
        let next = self.nodes.len() as Id;
        match self.ids.entry(node) {
            Entry::Occupied(e) => Ok(*e.get()),
            Entry::Vacant(e) => {
                let node = e.key().clone();
                self.work += match &node {
                    Node::Or(parts) | Node::And(parts) => parts.len(),
                    _ => 1,
                };
                if self.work > self.work_max {
                    return Err(TooComplex);
                }
                e.insert(next);
                let is = |id: &Id| self.nullable[*id as usize];
                let nullable = match &node {
                    Node::Nothing | Node::Class(_) => false,
                    Node::Empty => true,
                    Node::Concat(a, b) => is(a) && is(b),
                    Node::Or(parts) => parts.iter().any(is),
                    Node::And(parts) => parts.iter().all(is),
                    Node::Not(a) => !is(a),
                    Node::Repeat(a, min, _) => *min == 0 || is(a),
                };
                self.nullable.push(nullable);
                self.nodes.push(node);
                Ok(next)
            }
        }
    }

    fn class(&mut self, mut ranges: Vec<(u32, u32)>) -> Result<Id, TooComplex> {
        ranges.retain(|r| r.0 <= r.1);
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (lo, hi) in ranges {
            match merged.last_mut() {
                Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
                _ => merged.push((lo, hi)),
            }
        }
        if merged.is_empty() { Ok(NOTHING) } else { self.intern(Node::Class(merged)) }
    }

    fn concat(&mut self, a: Id, b: Id) -> Result<Id, TooComplex> {
        if a == NOTHING || b == NOTHING {
            return Ok(NOTHING);
        }
        if a == EMPTY {
            return Ok(b);
        }
        if b == EMPTY {
            return Ok(a);
        }
        // Right-leaning, so that equal sequences are one node.
        if let Node::Concat(x, y) = self.nodes[a as usize] {
            let mut parts = vec![x];
            let mut rest = y;
            while let Node::Concat(x, y) = self.nodes[rest as usize] {
                parts.push(x);
                rest = y;
            }
            let mut all = self.intern(Node::Concat(rest, b))?;
            for part in parts.into_iter().rev() {
                self.work += 1;
                all = self.intern(Node::Concat(part, all))?;
            }
            return Ok(all);
        }
        self.intern(Node::Concat(a, b))
    }

    fn or(&mut self, parts: impl IntoIterator<Item = Id>) -> Result<Id, TooComplex> {
        let mut flat = Vec::new();
        for part in parts {
            match &self.nodes[part as usize] {
                Node::Or(inner) => flat.extend_from_slice(inner),
                _ => flat.push(part),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        flat.retain(|&p| p != NOTHING);
        if flat.iter().any(|&p| self.is_everything(p)) {
            return self.everything();
        }
        match flat[..] {
            [] => Ok(NOTHING),
            [one] => Ok(one),
            _ => self.intern(Node::Or(flat)),
        }
    }

    fn and(&mut self, parts: impl IntoIterator<Item = Id>) -> Result<Id, TooComplex> {
        let mut flat = Vec::new();
        for part in parts {
            match &self.nodes[part as usize] {
                Node::And(inner) => flat.extend_from_slice(inner),
                _ => flat.push(part),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        flat.retain(|&p| !self.is_everything(p));
        if flat.contains(&NOTHING) {
            return Ok(NOTHING);
        }
        match flat[..] {
            [] => self.everything(),
            [one] => Ok(one),
            _ => self.intern(Node::And(flat)),
        }
    }

    fn everything(&mut self) -> Result<Id, TooComplex> {
        self.intern(Node::Not(NOTHING))
    }

    fn is_everything(&self, id: Id) -> bool {
        self.nodes[id as usize] == Node::Not(NOTHING)
    }

    fn not(&mut self, a: Id) -> Result<Id, TooComplex> {
        match self.nodes[a as usize] {
            Node::Not(inner) => Ok(inner),
            _ => self.intern(Node::Not(a)),
        }
    }

    fn repeat(&mut self, a: Id, min: u32, max: u32) -> Result<Id, TooComplex> {
        if max == 0 || a == EMPTY {
            return Ok(EMPTY);
        }
        if a == NOTHING {
            return Ok(if min == 0 { EMPTY } else { NOTHING });
        }
        if (min, max) == (1, 1) {
            return Ok(a);
        }
        if matches!(self.nodes[a as usize], Node::Repeat(_, 0, u32::MAX)) && max >= 1 {
            return Ok(a);
        }
        self.intern(Node::Repeat(a, min, max))
    }

    /// What may follow after `c`, which stands for its whole equivalence class. Recursion is as deep as the pattern.
    fn derive(&mut self, id: Id, c: u32) -> Result<Id, TooComplex> {
        if let Some(&known) = self.derivatives.get(&(id, c)) {
            return Ok(known);
        }
        self.work += 1;
        if self.work > self.work_max {
            return Err(TooComplex);
        }
        let result = match self.nodes[id as usize].clone() {
            Node::Nothing | Node::Empty => NOTHING,
            Node::Class(ranges) => {
                let at = ranges.partition_point(|r| r.1 < c);
                if ranges.get(at).is_some_and(|r| r.0 <= c) { EMPTY } else { NOTHING }
            }
            Node::Concat(mut a, mut b) => {
                // A long concatenation is a loop, not a recursion: it may be as long as the pattern.
                let mut parts = Vec::new();
                loop {
                    let d = self.derive(a, c)?;
                    parts.push(self.concat(d, b)?);
                    if !self.nullable[a as usize] {
                        break;
                    }
                    match self.nodes[b as usize] {
                        Node::Concat(x, y) => (a, b) = (x, y),
                        _ => {
                            parts.push(self.derive(b, c)?);
                            break;
                        }
                    }
                }
                self.or(parts)?
            }
            Node::Or(parts) => {
                let parts: Vec<Id> = parts.into_iter().map(|p| self.derive(p, c)).collect::<Result<_, _>>()?;
                self.or(parts)?
            }
            Node::And(parts) => {
                let parts: Vec<Id> = parts.into_iter().map(|p| self.derive(p, c)).collect::<Result<_, _>>()?;
                self.and(parts)?
            }
            Node::Not(a) => {
                let d = self.derive(a, c)?;
                self.not(d)?
            }
            Node::Repeat(a, min, max) => {
                let d = self.derive(a, c)?;
                // With a nullable body any of the `min` rounds may be empty.
                let min = if self.nullable[a as usize] { 0 } else { min.saturating_sub(1) };
                let max = if max == u32::MAX { max } else { max - 1 };
                let rest = self.repeat(a, min, max)?;
                self.concat(d, rest)?
            }
        };
        self.derivatives.insert((id, c), result);
        Ok(result)
    }
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    pattern: &'a str,
    case_insensitive: bool,
    arena: Arena,
    depth: usize,
}

enum Failure {
    Syntax(String),
    TooComplex,
}

impl From<TooComplex> for Failure {
    fn from(_: TooComplex) -> Failure {
        Failure::TooComplex
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }

    fn syntax<T>(&self, message: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Syntax(message.into()))
    }

    fn union(&mut self) -> Result<Id, Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Failure::TooComplex);
        }
        let mut parts = vec![self.intersection()?];
        while self.take('|') {
            parts.push(self.intersection()?);
        }
        self.depth -= 1;
        Ok(self.arena.or(parts)?)
    }

    fn intersection(&mut self) -> Result<Id, Failure> {
        let mut parts = vec![self.sequence()?];
        while self.take('&') {
            parts.push(self.sequence()?);
        }
        Ok(self.arena.and(parts)?)
    }

    fn sequence(&mut self) -> Result<Id, Failure> {
        let mut parts = Vec::new();
        while self.peek().is_some_and(|c| !matches!(c, ')' | '|' | '&')) {
            parts.push(self.repetition()?);
        }
        if parts.is_empty() {
            // An operand that is missing is an error, except for the empty pattern itself.
            return match self.peek() {
                None if self.chars.is_empty() => Ok(EMPTY),
                None => self.syntax("unexpected end-of-string"),
                Some(c) => self.syntax(format!("unexpected '{c}' at position {}", self.at)),
            };
        }
        let mut all = EMPTY;
        for part in parts.into_iter().rev() {
            all = self.arena.concat(part, all)?;
        }
        Ok(all)
    }

    fn repetition(&mut self) -> Result<Id, Failure> {
        let mut id = self.complement()?;
        loop {
            id = match self.peek() {
                Some('?') => {
                    self.at += 1;
                    self.arena.repeat(id, 0, 1)?
                }
                Some('*') => {
                    self.at += 1;
                    self.arena.repeat(id, 0, u32::MAX)?
                }
                Some('+') => {
                    self.at += 1;
                    self.arena.repeat(id, 1, u32::MAX)?
                }
                Some('{') => {
                    self.at += 1;
                    let Some(min) = self.number() else {
                        return self.syntax(format!("integer expected at position {}", self.at));
                    };
                    let max = if self.take(',') { self.number().unwrap_or(u32::MAX) } else { min };
                    if !self.take('}') {
                        return self.syntax(format!("expected '}}' at position {}", self.at));
                    }
                    if min > max {
                        return self.syntax(format!("invalid repetition range(out of order): {min}..{max}"));
                    }
                    self.arena.repeat(id, min, max)?
                }
                _ => return Ok(id),
            }
        }
    }

    fn number(&mut self) -> Option<u32> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        text.parse().ok().filter(|&n| n < u32::MAX)
    }

    fn complement(&mut self) -> Result<Id, Failure> {
        let mut negated = false;
        while self.take('~') {
            negated = !negated;
        }
        let id = self.atom()?;
        Ok(if negated { self.arena.not(id)? } else { id })
    }

    fn one(&mut self, c: char) -> Result<Id, Failure> {
        let mut ranges = vec![(c as u32, c as u32)];
        if self.case_insensitive {
            for other in [c.to_ascii_lowercase(), c.to_ascii_uppercase()] {
                ranges.push((other as u32, other as u32));
            }
        }
        Ok(self.arena.class(ranges)?)
    }

    fn atom(&mut self) -> Result<Id, Failure> {
        let Some(c) = self.peek() else { return self.syntax("unexpected end-of-string") };
        self.at += 1;
        match c {
            '.' => Ok(self.arena.class(vec![(0, 0x10_ffff)])?),
            '#' => Ok(NOTHING),
            '@' => Ok(self.arena.everything()?),
            '(' => {
                if self.take(')') {
                    return Ok(EMPTY);
                }
                let id = self.union()?;
                if !self.take(')') {
                    return self.syntax(format!("expected ')' at position {}", self.at));
                }
                Ok(id)
            }
            '[' => self.class(),
            '"' => {
                let start = self.at;
                while self.peek().is_some_and(|c| c != '"') {
                    self.at += 1;
                }
                let text = self.chars[start..self.at].to_vec();
                if !self.take('"') {
                    return self.syntax(format!("expected '\"' at position {}", self.at));
                }
                let mut all = EMPTY;
                for c in text.into_iter().rev() {
                    let one = self.one(c)?;
                    all = self.arena.concat(one, all)?;
                }
                Ok(all)
            }
            '<' => self.interval(),
            '\\' => {
                let Some(c) = self.peek() else { return self.syntax("unexpected end-of-string") };
                self.at += 1;
                self.one(c)
            }
            c => self.one(c),
        }
    }

    fn class(&mut self) -> Result<Id, Failure> {
        let negated = self.take('^');
        let mut ranges = Vec::new();
        loop {
            let lo = self.class_char()?;
            let hi = if self.take('-') { self.class_char()? } else { lo };
            if lo > hi {
                return self.syntax(format!("invalid range: from ({}) cannot be > to ({})", lo as u32, hi as u32));
            }
            ranges.push((lo as u32, hi as u32));
            if self.case_insensitive && lo == hi {
                for c in [lo.to_ascii_lowercase(), lo.to_ascii_uppercase()] {
                    ranges.push((c as u32, c as u32));
                }
            }
            if self.take(']') {
                break;
            }
            if self.peek().is_none() {
                return self.syntax(format!("expected ']' at position {}", self.at));
            }
        }
        if !negated {
            return Ok(self.arena.class(ranges)?);
        }
        ranges.sort_unstable();
        let mut rest = Vec::new();
        let mut from = 0u32;
        for (lo, hi) in ranges {
            if lo > from {
                rest.push((from, lo - 1));
            }
            from = from.max(hi + 1);
        }
        rest.push((from, 0x10_ffff));
        Ok(self.arena.class(rest)?)
    }

    fn class_char(&mut self) -> Result<char, Failure> {
        self.take('\\');
        let Some(c) = self.peek() else { return self.syntax("unexpected end-of-string") };
        self.at += 1;
        Ok(c)
    }

    /// `<3-17>`: decimal numbers; with bounds of equal length, padded to it.
    fn interval(&mut self) -> Result<Id, Failure> {
        let start = self.at;
        while self.peek().is_some_and(|c| c != '>') {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if !self.take('>') {
            return self.syntax(format!("expected '>' at position {}", self.at));
        }
        let bounds = text.split_once('-').and_then(|(a, b)| {
            let digits = |s: &str| !s.is_empty() && s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
            (digits(a) && digits(b)).then(|| (a.to_owned(), b.to_owned()))
        });
        let Some((a, b)) = bounds else {
            return self.syntax(format!("interval syntax error at position {}", self.at - 1));
        };
        let width = if a.len() == b.len() { a.len() } else { 0 };
        let (a, b): (u32, u32) = (a.parse().expect("digits"), b.parse().expect("digits"));
        let (lo, hi) = (a.min(b), a.max(b));
        let mut all = Vec::new();
        let lengths = if width > 0 { width..=width } else { lo.to_string().len()..=hi.to_string().len() };
        for length in lengths {
            let shortest = if length == 1 || width > 0 { 0 } else { 10u32.pow(length as u32 - 1) };
            let longest = 10u32.pow(length as u32) - 1;
            let (from, to) = (lo.max(shortest), hi.min(longest));
            if from <= to {
                all.push(self.digits(from, to, length as u32)?);
            }
        }
        let id = self.arena.or(all)?;
        if width > 0 {
            return Ok(id);
        }
        // Bounds of different length: leading zeros are free.
        let zero = self.one('0')?;
        let zeros = self.arena.repeat(zero, 0, u32::MAX)?;
        Ok(self.arena.concat(zeros, id)?)
    }

    /// Numbers from `lo` to `hi` in exactly `length` digits.
    fn digits(&mut self, lo: u32, hi: u32, length: u32) -> Result<Id, Failure> {
        let class = |p: &mut Self, a: u32, b: u32| -> Result<Id, Failure> {
            Ok(p.arena.class(vec![('0' as u32 + a, '0' as u32 + b)])?)
        };
        if length == 0 {
            return Ok(EMPTY);
        }
        let unit = 10u32.pow(length - 1);
        if lo == 0 && hi == unit * 10 - 1 {
            let any = class(self, 0, 9)?;
            return Ok(self.arena.repeat(any, length, length)?);
        }
        let (a, b) = (lo / unit, hi / unit);
        let mut parts = Vec::new();
        if a == b {
            let rest = self.digits(lo % unit, hi % unit, length - 1)?;
            let first = class(self, a, a)?;
            return Ok(self.arena.concat(first, rest)?);
        }
        for (from, to, low, high) in
            [(a, a, lo % unit, unit - 1), (a + 1, b.wrapping_sub(1), 0, unit - 1), (b, b, 0, hi % unit)]
        {
            if from <= to {
                let rest = self.digits(low, high, length - 1)?;
                let first = class(self, from, to)?;
                parts.push(self.arena.concat(first, rest)?);
            }
        }
        Ok(self.arena.or(parts)?)
    }
}

/// A compiled pattern: a table from state and character class to state.
#[derive(Clone, Debug)]
pub struct Regexp {
    /// First character of each class but the first (which starts at 0).
    starts: Vec<u32>,
    /// `states * classes` entries; state 0 is dead.
    table: Vec<u32>,
    accepting: Vec<bool>,
    /// The state before any character.
    first: u32,
    known: Kept<(u32, Partial)>,
}

impl Regexp {
    /// Bytes of memory.
    pub(crate) fn size_bytes(&self) -> usize {
        (self.starts.len() + self.table.len()) * 4 + self.accepting.len()
    }

    /// Everything that tells it from others.
    pub(crate) fn parts(&self, visit: &mut dyn FnMut(u32)) {
        [self.starts.len() as u32, self.accepting.len() as u32, self.first].into_iter().for_each(&mut *visit);
        self.starts.iter().chain(&self.table).copied().for_each(&mut *visit);
        self.accepting.iter().for_each(|a| visit(u32::from(*a)));
    }

    /// Compiles a pattern.
    ///
    /// # Errors
    /// Syntax, or more than `states_max` states.
    pub fn new(pattern: &str, case_insensitive: bool, states_max: u32) -> Result<Regexp> {
        let mut parser = Parser {
            chars: pattern.chars().collect(),
            at: 0,
            pattern,
            case_insensitive,
            arena: Arena::new(WORK_MAX.min((states_max as usize).saturating_mul(64).max(4096))),
            depth: 0,
        };
        let result = parser.union().and_then(|id| match parser.peek() {
            None => Ok(id),
            Some(_) => parser.syntax(format!("end-of-string expected at position {}", parser.at)),
        });
        let result = result.and_then(|id| Regexp::explore(&mut parser.arena, id, states_max).map_err(Failure::from));
        result.map_err(|failure| match failure {
            Failure::Syntax(message) => Error::illegal_argument(message),
            Failure::TooComplex => Error::request(
                "too_complex_to_determinize_exception",
                format!("Determinizing [{}] would result in more than {states_max} states.", parser.pattern),
            ),
        })
    }

    fn explore(arena: &mut Arena, id: Id, states_max: u32) -> Result<Regexp, TooComplex> {
        let mut starts: Vec<u32> = arena
            .nodes
            .iter()
            .filter_map(|n| if let Node::Class(ranges) = n { Some(ranges) } else { None })
            .flatten()
            .flat_map(|&(lo, hi)| [lo, hi + 1])
            .filter(|&c| c > 0 && c <= 0x10_ffff)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let mut states = vec![NOTHING];
        let mut index: FxHashMap<Id, u32> = FxHashMap::default();
        index.insert(NOTHING, 0);
        let mut table = vec![0; starts.len() + 1];
        let first = if id == NOTHING { 0 } else { 1 };
        if id != NOTHING {
            states.push(id);
            index.insert(id, 1);
        }
        let mut at = 1;
        while at < states.len() {
            for class in 0..=starts.len() {
                let c = if class == 0 { 0 } else { starts[class - 1] };
                let next = arena.derive(states[at], c)?;
                let state = *index.entry(next).or_insert_with(|| {
                    states.push(next);
                    states.len() as u32 - 1
                });
                if states.len() > states_max as usize + 1 {
                    return Err(TooComplex);
                }
                table.push(state);
            }
            at += 1;
        }
        let accepting = states.iter().map(|&s| arena.nullable[s as usize]).collect();
        Ok(Regexp { starts, table, accepting, first, known: Kept::default() })
    }
}

impl Automaton for Regexp {
    type State = (u32, Partial);

    fn start(&self) -> (u32, Partial) {
        (self.first, Partial::default())
    }

    fn is_match(&self, &(state, partial): &(u32, Partial)) -> bool {
        self.accepting[state as usize] && !partial.pending()
    }

    fn can_match(&self, &(state, _): &(u32, Partial)) -> bool {
        state != 0
    }

    fn accept(&self, &(state, mut partial): &(u32, Partial), byte: u8) -> (u32, Partial) {
        match partial.push(byte) {
            None => (0, Partial::default()),
            Some(None) => (state, partial),
            Some(Some(c)) => {
                let class = self.starts.partition_point(|&s| s <= c as u32);
                (self.table[state as usize * (self.starts.len() + 1) + class], partial)
            }
        }
    }
}

impl ByteAutomaton for Regexp {
    fn kept(&self) -> Option<&Kept<(u32, Partial)>> {
        Some(&self.known)
    }

    fn classes(&self) -> ByteClasses {
        // Between the surrogates nothing can begin: what does, begins behind them.
        ByteClasses::between(self.starts.iter().map(|&c| char::from_u32(c).unwrap_or('\u{e000}')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::automaton::accepts;
    use proptest::prelude::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let regexp = Regexp::new(pattern, false, 10_000).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for text in yes {
            assert!(accepts(&regexp, text.as_bytes()), "{pattern} takes {text}");
        }
        for text in no {
            assert!(!accepts(&regexp, text.as_bytes()), "{pattern} refuses {text}");
        }
    }

    #[test]
    fn lucene_syntax() {
        check("ab.", &["abc", "abé"], &["ab", "abcd"]);
        check("a(b|cd)*e?", &["a", "abcd", "acdbe"], &["ace", "e"]);
        check("a{2,3}", &["aa", "aaa"], &["a", "aaaa"]);
        check("(ab){2}", &["abab"], &["ab", "ababab"]);
        check("a{2,}", &["aa", "aaaaa"], &["a"]);
        check("[a-cx]", &["b", "x"], &["d", "-"]);
        check("[^a-c]+", &["dé"], &["da", ""]);
        check("\"a.b\"", &["a.b"], &["axb"]);
        check(r"a\.b", &["a.b"], &["axb"]);
        check("ab~cd", &["abd", "abxd", "ab12d"], &["abcd"]);
        check("aaa.+&.+bbb", &["aaabbb", "aaaxbbb"], &["aaa", "bbb"]);
        check("@&~(abc.+)", &["x", "abc", ""], &["abcd"]);
        check("foo<1-100>", &["foo1", "foo80", "foo100", "foo007"], &["foo0", "foo101", "foo"]);
        check("foo<01-20>", &["foo01", "foo20"], &["foo1", "foo21", "foo001"]);
        check("#", &[], &["", "a"]);
        check("()", &[""], &["a"]);
        check("", &[""], &["a"]);
        check("(a?){3}b", &["b", "aaab"], &["aaaab"]);
    }

    #[test]
    fn case_can_be_ignored() {
        let r = Regexp::new("aB[c]", true, 100).unwrap();
        assert!(accepts(&r, b"AbC") && !accepts(&r, b"abd"));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for p in ["a|", "(a", "a)", "[a", "a{x}", "a{3,1}", "\"a", "<1-", "<a-b>", "a&", "\\", "[z-a]"] {
            assert!(Regexp::new(p, false, 10_000).is_err(), "{p}");
        }
    }

    #[test]
    fn explosions_are_refused() {
        for p in [
            "(.*a){1}.{40}".to_owned() + "(a|b)*a(a|b){20}",
            "(a|b)*a(a|b){14}".to_owned(),
            "(".repeat(1000),
            "((a{1000}){1000}){1000}b".to_owned(),
        ] {
            assert!(Regexp::new(&p, false, 10_000).is_err(), "{p}");
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just(".".to_owned()),
            Just("[ab]".to_owned()),
            Just("[^a]".to_owned())
        ];
        leaf.prop_recursive(4, 12, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
                inner.clone().prop_map(|a| format!("({a})*")),
                inner.clone().prop_map(|a| format!("({a})?")),
                (inner, 0u32..3, 0u32..3).prop_map(|(a, n, m)| format!("({a}){{{n},{}}}", n + m)),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_another_engine(p in pattern(), t in "[abc]{0,6}") {
            let ours = Regexp::new(&p, false, 10_000).unwrap();
            let theirs = regex::Regex::new(&format!("^(?:{p})$")).unwrap();
            prop_assert_eq!(accepts(&ours, t.as_bytes()), theirs.is_match(&t), "{} {}", p, t);
        }

        #[test]
        fn arbitrary_patterns_never_panic(p in "[ab(){}\\[\\]<>|&~@#\".*+?0-9,^\\\\é-]{0,24}", t in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(r) = Regexp::new(&p, false, 1000) {
                accepts(&r, &t);
            }
        }
    }
}

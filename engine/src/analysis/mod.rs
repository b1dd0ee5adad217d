//! Analysis: text to terms.
//!
//! ```text
//! text -> char filters -> tokenizer -> filters of one word -> filters of the whole list -> terms
//!         (html_strip)    (standard)   (lowercase, stop,      (shingle, synonym,
//!                                       porter_stem)           ngram; none in most)
//! ```
//!
//! The indexing path calls [`Analyzer::terms`]: tokens stream through the filters that look at one word alone, and a
//! word is copied only when a filter changes it. Filters that see several tokens work on a list whose memory is reused.
//!
//! Terms are part of the index format: the same text must give the same terms in every version.

mod ascii;
mod bound;
mod case;
mod char_filter;
mod definition;
mod folding;
mod lists;
mod pattern;
mod porter;
mod registry;
mod standard;
mod stop_words;
mod synonym;
mod token;
mod tokenizer;
mod word_break;
mod words;

pub use bound::TERM_BYTES_MAX;
use char_filter::{CharFilter, Corrections};
use lists::ListFilter;
pub use registry::AnalyzerRegistry;
use token::{Entry, TokenList, Utf16, Word};
use tokenizer::Tokenizer;
use words::WordFilter;

/// Character filters, a tokenizer, token filters. Immutable, shared between threads.
pub struct Analyzer {
    name: String,
    char_filters: Vec<CharFilter>,
    tokenizer: Tokenizer,
    /// Applied while tokens stream.
    words: Vec<WordFilter>,
    /// Applied to the list of all tokens; empty in most analyzers.
    lists: Vec<Step>,
    position_increment_gap: u32,
    /// See `bound`.
    safe_bytes: usize,
}

/// A filter after the first one that needs the whole list.
enum Step {
    Word(WordFilter),
    List(ListFilter),
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Analyzer({})", self.name)
    }
}

/// One token, as handed to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The term, after all filters.
    pub term: &'a str,
    /// Position: the first token of a text is 0 (a leading stop word leaves a gap).
    pub position: u32,
    /// Positions it spans (1, more for some synonyms).
    pub position_length: u32,
    /// Offset of its first character in the original text, in UTF-16 units as Elasticsearch counts.
    pub start_offset: u32,
    /// Offset after its last character.
    pub end_offset: u32,
    /// `<ALPHANUM>`, `<NUM>`, `word`, ...
    pub kind: &'static str,
}

/// Bytes of a term's head.
pub(crate) const HEAD: usize = 8;

/// A term as the index takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term<'a> {
    pub bytes: &'a [u8],
    /// The first bytes as a little-endian number, zeros behind the end.
    pub head: u64,
}

impl<'a> Term<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Term<'a> {
        Term { bytes, head: head_of(bytes) }
    }
}

#[inline]
fn head_of(term: &[u8]) -> u64 {
    if let Some(first) = term.first_chunk::<HEAD>() {
        return u64::from_le_bytes(*first);
    }
    let n = term.len();
    if let (Some(low), Some(high)) = (term.first_chunk::<4>(), term.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << ((n - 4) * 8)
    } else if n > 0 {
        u64::from(term[0]) | u64::from(term[n / 2]) << (n / 2 * 8) | u64::from(term[n - 1]) << ((n - 1) * 8)
    } else {
        0
    }
}

/// Reusable memory of an analysis run.
#[derive(Debug, Default)]
pub struct Scratch {
    word: String,
    list: TokenList,
}

impl Analyzer {
    fn new(name: &str, char_filters: Vec<CharFilter>, tokenizer: Tokenizer, filters: Vec<Step>) -> Analyzer {
        let mut words = Vec::new();
        let mut lists = Vec::new();
        for step in filters {
            match step {
                Step::Word(w) if lists.is_empty() => words.push(w),
                other => lists.push(other),
            }
        }
        let (name, position_increment_gap) = (name.to_owned(), 100);
        let safe_bytes = 0;
        let analyzer = Analyzer { name, char_filters, tokenizer, words, lists, position_increment_gap, safe_bytes };
        Analyzer { safe_bytes: analyzer.safe_bytes(), ..analyzer }
    }

    /// Calls `visit` for each token with (term, position) only, without an allocation per token. Returns the position after
    /// the last token (where the next value starts before its gap).
    pub fn terms(&self, text: &str, scratch: &mut Scratch, visit: &mut dyn FnMut(&str, u32)) -> u32 {
        self.run(text, false, scratch, &mut |t| visit(t.term, t.position))
    }

    /// The same for the index, with a way of its own for plain words.
    #[inline]
    pub(crate) fn index_terms(&self, text: &str, scratch: &mut Scratch, visit: &mut impl FnMut(Term<'_>, u32)) -> u32 {
        if let (Tokenizer::Standard { max_token_length }, [WordFilter::Lowercase], [], []) =
            (&self.tokenizer, &*self.words, &*self.lists, &*self.char_filters)
        {
            let mut position = 0;
            ascii::lowercase_words(text, *max_token_length, &mut scratch.word, &mut |term| {
                visit(term, position);
                position += 1;
            });
            return position;
        }
        self.run(text, false, scratch, &mut |t| visit(Term::new(t.term.as_bytes()), t.position))
    }

    /// The same with everything known about each token: `_analyze`, highlighting, query building.
    pub fn tokens(&self, text: &str, visit: &mut dyn FnMut(Token<'_>)) {
        self.run(text, true, &mut Scratch::default(), &mut |t| visit(t));
    }

    /// As the settings or the mapping name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `position_increment_gap` of the analyzer: positions between two values of one document.
    pub fn position_increment_gap(&self) -> u32 {
        self.position_increment_gap
    }

    /// The text as one normalized term: what a keyword field's normalizer makes of a value, and what multi-term
    /// queries (prefix, wildcard) make of their text: character filters and the filters that may not split or drop.
    pub fn normalize(&self, text: &str) -> String {
        let mut filtered = None;
        for f in &self.char_filters {
            if f.normalizes() {
                filtered = Some(f.apply(filtered.as_deref().unwrap_or(text)).0);
            }
        }
        let mut buf = String::new();
        let mut word = Word::new(filtered.as_deref().unwrap_or(text), &mut buf, "word");
        let later = self.lists.iter().filter_map(|s| match s {
            Step::Word(w) => Some(w),
            Step::List(_) => None,
        });
        for f in self.words.iter().chain(later).filter(|f| f.normalizes()) {
            f.apply(&mut word);
        }
        word.as_str().to_owned()
    }

    fn run(&self, text: &str, offsets: bool, scratch: &mut Scratch, visit: &mut dyn FnMut(Token<'_>)) -> u32 {
        if self.char_filters.is_empty() {
            return self.run_filtered(text, &[], offsets, scratch, visit);
        }
        let mut corrections = Vec::with_capacity(self.char_filters.len());
        let mut filtered = String::new();
        for (n, f) in self.char_filters.iter().enumerate() {
            let (out, correction) = f.apply(if n == 0 { text } else { &filtered });
            filtered = out;
            corrections.push(correction);
        }
        self.run_filtered(&filtered, &corrections, offsets, scratch, visit)
    }

    fn run_filtered(
        &self,
        text: &str,
        corrections: &[Corrections],
        offsets: bool,
        scratch: &mut Scratch,
        visit: &mut dyn FnMut(Token<'_>),
    ) -> u32 {
        let Scratch { word: buf, list } = scratch;
        let mut units = Utf16::new(if offsets { text } else { "" });
        let mut place = |start: usize, end: usize| {
            if !offsets {
                return (0, 0);
            }
            let correct = |at: u32| corrections.iter().rev().fold(at, |at, c| c.correct(at));
            (correct(units.at(start)), correct(units.at(end)))
        };
        // Positions before the next token; the first token of a text is at 0.
        let mut pending = 0u32;
        let mut next = 0u32;
        if self.lists.is_empty() {
            self.tokenizer.run(text, &mut |raw| {
                let mut word = Word::new(raw.text, buf, raw.kind);
                pending += raw.increment;
                if !self.words.iter().all(|f| f.apply(&mut word)) {
                    return;
                }
                // An increment of 0 puts a token on the one before.
                let position = (next + pending).saturating_sub(1);
                let (start_offset, end_offset) = place(raw.start, raw.end);
                visit(Token {
                    term: word.as_str(),
                    position,
                    position_length: 1,
                    start_offset,
                    end_offset,
                    kind: word.kind,
                });
                next = position + 1;
                pending = 0;
            });
            return next + pending;
        }
        list.clear();
        self.tokenizer.run(text, &mut |raw| {
            let mut word = Word::new(raw.text, buf, raw.kind);
            pending += raw.increment;
            if !self.words.iter().all(|f| f.apply(&mut word)) {
                return;
            }
            let (start, end) = place(raw.start, raw.end);
            let (at, len) = list.store(word.as_str());
            list.entries.push(Entry {
                at,
                len,
                increment: pending,
                position_length: 1,
                start,
                end,
                kind: word.kind,
                keyword: word.keyword,
            });
            pending = 0;
        });
        list.trailing = pending;
        list.text_end = place(text.len(), text.len()).1;
        for step in &self.lists {
            match step {
                Step::List(f) => f.apply(list),
                Step::Word(f) => lists::each_word(list, f, buf),
            }
        }
        for e in &list.entries {
            let position = (next + e.increment).saturating_sub(1);
            visit(Token {
                term: list.text(e),
                position,
                position_length: e.position_length,
                start_offset: e.start,
                end_offset: e.end,
                kind: e.kind,
            });
            next = position + 1;
        }
        next + list.trailing
    }
}

#[cfg(test)]
mod tests;

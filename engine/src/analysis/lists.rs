//! Filters that make several tokens of one, or one of several: they see the list of all tokens.

use rustc_hash::FxHashSet;

use super::folding;
use super::synonym::Synonyms;
use super::token::{Entry, TokenList, Word};
use super::words::WordFilter;

/// A filter of the whole list.
#[derive(Debug)]
pub(super) enum ListFilter {
    /// The folded word, and the original on its position if it differs.
    FoldingPreserved,
    /// All pieces of some lengths.
    Ngram { min: usize, max: usize, preserve_original: bool },
    /// The beginnings of some lengths.
    EdgeNgram { min: usize, max: usize, preserve_original: bool, back: bool },
    /// Word n-grams.
    Shingle(Shingle),
    /// No term twice.
    Unique { only_on_same_position: bool },
    /// No term twice on a position.
    RemoveDuplicates,
    /// The first so many tokens.
    Limit(usize),
    /// Every token twice, the first not to be stemmed.
    KeywordRepeat,
    /// Other words for words.
    Synonym(Synonyms),
    /// Pairs of neighbouring CJK characters.
    CjkBigram { output_unigrams: bool },
}

/// `shingle`
#[derive(Debug)]
pub(super) struct Shingle {
    pub min: usize,
    pub max: usize,
    pub output_unigrams: bool,
    pub output_unigrams_if_no_shingles: bool,
    pub separator: String,
    pub filler: String,
}

impl ListFilter {
    pub(super) fn apply(&self, list: &mut TokenList) {
        match self {
            ListFilter::FoldingPreserved => list.rewrite(|list, e, out| {
                let folded = (!list.text(&e).is_ascii()).then(|| folding::fold(list.text(&e)));
                match folded.filter(|f| f != list.text(&e)) {
                    None => out.push(e),
                    Some(folded) => {
                        let (at, len) = list.store(&folded);
                        out.push(Entry { at, len, ..e });
                        out.push(Entry { increment: 0, ..e });
                    }
                }
            }),
            ListFilter::Ngram { min, max, preserve_original } => ngrams(list, *min, *max, *preserve_original),
            ListFilter::EdgeNgram { min, max, preserve_original, back } => {
                edge_ngrams(list, *min, *max, *preserve_original, *back);
            }
            ListFilter::Shingle(shingle) => shingle.apply(list),
            ListFilter::Unique { only_on_same_position } => unique(list, *only_on_same_position, false),
            ListFilter::RemoveDuplicates => unique(list, true, true),
            ListFilter::Limit(count) => {
                if list.entries.len() > *count {
                    list.entries.truncate(*count);
                    list.trailing = 0;
                }
            }
            ListFilter::KeywordRepeat => list.rewrite(|_, e, out| {
                out.push(Entry { keyword: true, ..e });
                out.push(Entry { keyword: false, increment: 0, ..e });
            }),
            ListFilter::Synonym(synonyms) => synonyms.apply(list),
            ListFilter::CjkBigram { output_unigrams } => cjk_bigrams(list, *output_unigrams),
        }
    }
}

/// Applies a filter of single words to every token of the list.
pub(super) fn each_word(list: &mut TokenList, filter: &WordFilter, buf: &mut String) {
    let mut pending = 0;
    list.rewrite(|list, mut e, out| {
        let (kept, changed, slice) = {
            let mut word = Word::new(list.text(&e), buf, e.kind);
            word.keyword = e.keyword;
            let kept = filter.apply(&mut word);
            e.keyword = word.keyword;
            e.kind = word.kind;
            // A word that was only shortened still lies in the arena.
            let slice = (!word.is_changed()).then(|| {
                let base = list.text(&e).as_ptr() as usize;
                (word.as_str().as_ptr() as usize - base, word.as_str().len())
            });
            (kept, word.is_changed(), slice)
        };
        if !kept {
            pending += e.increment;
            return;
        }
        if changed {
            (e.at, e.len) = list.store(buf);
        } else if let Some((from, len)) = slice {
            e.at += from as u32;
            e.len = len as u32;
        }
        e.increment += std::mem::take(&mut pending);
        out.push(e);
    });
    list.trailing += pending;
}

/// Byte offsets of all character boundaries, the end included.
fn boundaries(text: &str, into: &mut Vec<u32>) {
    into.clear();
    into.extend(text.char_indices().map(|(i, _)| i as u32));
    into.push(text.len() as u32);
}

fn ngrams(list: &mut TokenList, min: usize, max: usize, preserve_original: bool) {
    let mut at = Vec::new();
    let mut pending = 0;
    list.rewrite(|list, e, out| {
        boundaries(list.text(&e), &mut at);
        let count = at.len() - 1;
        pending += e.increment;
        if preserve_original && count < min {
            out.push(Entry { increment: std::mem::take(&mut pending), ..e });
            return;
        }
        for from in 0..count {
            for n in min..=max.min(count - from) {
                out.push(Entry {
                    at: e.at + at[from],
                    len: at[from + n] - at[from],
                    increment: std::mem::take(&mut pending),
                    ..e
                });
            }
        }
        if preserve_original && count > max {
            out.push(Entry { increment: std::mem::take(&mut pending), ..e });
        }
    });
    list.trailing += pending;
}

fn edge_ngrams(list: &mut TokenList, min: usize, max: usize, preserve_original: bool, back: bool) {
    let mut at = Vec::new();
    let mut pending = 0;
    list.rewrite(|list, e, out| {
        boundaries(list.text(&e), &mut at);
        let count = at.len() - 1;
        pending += e.increment;
        if preserve_original && count < min {
            out.push(Entry { increment: std::mem::take(&mut pending), ..e });
            return;
        }
        for n in min..=max.min(count) {
            let (from, to) = if back { (at[count - n], at[count]) } else { (0, at[n]) };
            let increment = std::mem::take(&mut pending);
            out.push(Entry { at: e.at + from, len: to - from, increment, ..e });
        }
        if preserve_original && count > max {
            out.push(Entry { increment: std::mem::take(&mut pending), ..e });
        }
    });
    list.trailing += pending;
}

/// `keep_positions`: the positions of dropped tokens are not lost (they had none: increment 0).
fn unique(list: &mut TokenList, same_position: bool, keep_positions: bool) {
    let mut seen: FxHashSet<String> = FxHashSet::default();
    list.rewrite(|list, e, out| {
        if same_position && e.increment > 0 {
            seen.clear();
        }
        let term = list.text(&e);
        if seen.contains(term) {
            debug_assert!(!keep_positions || e.increment == 0);
        } else {
            seen.insert(term.to_owned());
            out.push(e);
        }
    });
}

impl Shingle {
    fn apply(&self, list: &mut TokenList) {
        // Gaps become filler tokens, at most as many as a shingle can hold beside one word.
        let (filler_at, filler_len) = list.store(&self.filler);
        let mut slots: Vec<(Entry, bool)> = Vec::with_capacity(list.entries.len());
        let fill = |slots: &mut Vec<(Entry, bool)>, gap: u32, like: Entry, offset: u32| {
            for _ in 0..(gap as usize).min(self.max - 1) {
                slots.push((Entry { at: filler_at, len: filler_len, start: offset, end: offset, ..like }, true));
            }
        };
        for e in &list.entries {
            fill(&mut slots, e.increment.saturating_sub(1), *e, e.start);
            slots.push((*e, false));
        }
        if let Some((last, _)) = slots.last().copied() {
            fill(&mut slots, list.trailing, last, list.text_end.max(last.end));
        }
        let shingles_possible = slots.len() >= self.min;
        let unigrams = self.output_unigrams || (self.output_unigrams_if_no_shingles && !shingles_possible);
        let mut out = Vec::new();
        for i in 0..slots.len() {
            let mut first_here = true;
            let mut push = |mut e: Entry| {
                e.increment = u32::from(std::mem::take(&mut first_here));
                out.push(e);
            };
            if unigrams && !slots[i].1 {
                push(Entry { position_length: 1, ..slots[i].0 });
            }
            for n in self.min..=self.max {
                let Some(window) = slots.get(i..i + n) else { break };
                if window.iter().all(|s| s.1) {
                    continue;
                }
                let (at, len) = list.store_with(|arena| {
                    for (k, (e, _)) in window.iter().enumerate() {
                        if k > 0 {
                            arena.push_str(&self.separator);
                        }
                        arena.extend_from_within(e.at as usize..(e.at + e.len) as usize);
                    }
                });
                let position_length = if self.output_unigrams { n } else { n - self.min + 1 } as u32;
                push(Entry { at, len, position_length, end: window[n - 1].0.end, kind: "shingle", ..window[0].0 });
            }
        }
        list.entries = out;
    }
}

/// Pairs of neighbouring Han, Hiragana, Katakana and Hangul characters; one that stands alone stays.
fn cjk_bigrams(list: &mut TokenList, output_unigrams: bool) {
    let is_cjk = |kind: &str| matches!(kind, "<IDEOGRAPHIC>" | "<HIRAGANA>" | "<KATAKANA>" | "<HANGUL>");
    let entries = std::mem::take(&mut list.entries);
    let mut out = Vec::with_capacity(entries.len());
    let mut i = 0;
    while i < entries.len() {
        if !is_cjk(entries[i].kind) {
            out.push(entries[i]);
            i += 1;
            continue;
        }
        // Characters of tokens that touch one another: (place, length, start, end).
        let first_increment = entries[i].increment;
        let mut run: Vec<(u32, u32, u32, u32)> = Vec::new();
        let mut alone = entries[i];
        loop {
            let e = entries[i];
            let mut offset = e.start;
            for (at, c) in list.text(&e).char_indices() {
                let units = c.len_utf16() as u32;
                run.push((e.at + at as u32, c.len_utf8() as u32, offset, offset + units));
                offset += units;
            }
            alone = Entry { kind: e.kind, ..alone };
            i += 1;
            if i >= entries.len() || !is_cjk(entries[i].kind) || entries[i].start != e.end {
                break;
            }
        }
        let mut increment = first_increment;
        if run.len() == 1 {
            out.push(Entry { increment, kind: "<SINGLE>", ..alone });
            continue;
        }
        for (n, pair) in run.windows(2).enumerate() {
            let unigram = |c: (u32, u32, u32, u32), increment| Entry {
                at: c.0,
                len: c.1,
                start: c.2,
                end: c.3,
                increment,
                kind: "<SINGLE>",
                position_length: 1,
                keyword: false,
            };
            if output_unigrams {
                out.push(unigram(pair[0], increment));
                increment = 0;
            }
            let (at, len) = list.store_with(|arena| {
                for c in pair {
                    arena.extend_from_within(c.0 as usize..(c.0 + c.1) as usize);
                }
            });
            out.push(Entry {
                at,
                len,
                start: pair[0].2,
                end: pair[1].3,
                increment,
                kind: "<DOUBLE>",
                position_length: if output_unigrams { 2 } else { 1 },
                keyword: false,
            });
            increment = 1;
            if output_unigrams && n + 2 == run.len() {
                out.push(unigram(pair[1], 1));
            }
        }
    }
    list.entries = out;
}

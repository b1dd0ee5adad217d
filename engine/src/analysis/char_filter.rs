//! Character filters: text to text before tokens are cut, with a way back for offsets.

use super::pattern::{Pattern, Replacement};
use super::token::utf16_len;

mod entities;
mod html;

/// Changes the text before it is cut into tokens.
#[derive(Debug)]
pub(super) enum CharFilter {
    /// Drops tags, decodes entities.
    HtmlStrip { escaped_tags: Vec<String> },
    /// Replaces strings, the longest that matches first.
    Mapping(Mappings),
    /// Replaces matches.
    PatternReplace { pattern: Pattern, replacement: Replacement },
}

/// Offsets of a filtered text back to what it was made from, in UTF-16 units.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    /// From this offset of the filtered text on, add this; ascending.
    steps: Vec<(u32, i64)>,
}

impl Corrections {
    pub(super) fn correct(&self, at: u32) -> u32 {
        let n = self.steps.partition_point(|s| s.0 <= at);
        let add = if n == 0 { 0 } else { self.steps[n - 1].1 };
        u32::try_from(i64::from(at) + add).unwrap_or(0)
    }

    fn total(&self) -> i64 {
        self.steps.last().map_or(0, |s| s.1)
    }

    fn push(&mut self, at: u32, add: i64) {
        match self.steps.last_mut() {
            Some(last) if last.0 == at => last.1 = add,
            Some(last) => {
                debug_assert!(last.0 < at);
                self.steps.push((at, add));
            }
            None => self.steps.push((at, add)),
        }
    }
}

/// The filtered text while it is built.
#[derive(Default)]
struct Output {
    text: String,
    units: u32,
    corrections: Corrections,
}

impl Output {
    fn keep(&mut self, text: &str) {
        self.text.push_str(text);
        self.units += utf16_len(text) as u32;
    }

    /// Puts `by` where `length` units of the input were.
    fn replace(&mut self, length: usize, by: &str) {
        let new = utf16_len(by);
        let before = self.corrections.total();
        if new < length {
            // The difference lies at the end of what was replaced.
            self.corrections.push(self.units + new as u32, before + (length - new) as i64);
        } else {
            // Every unit more than there was points at the end of what was replaced.
            for i in length..new {
                self.corrections.push(self.units + i as u32, before - (i - length) as i64 - 1);
            }
        }
        self.keep(by);
    }
}

impl CharFilter {
    /// The filtered text and the way back.
    pub(super) fn apply(&self, text: &str) -> (String, Corrections) {
        let mut out = Output { text: String::with_capacity(text.len()), ..Output::default() };
        match self {
            CharFilter::HtmlStrip { escaped_tags } => html::strip(text, escaped_tags, &mut out),
            CharFilter::Mapping(mappings) => {
                let mut from = 0;
                while let Some((start, end, by)) = mappings.find(text, from) {
                    out.keep(&text[from..start]);
                    out.replace(utf16_len(&text[start..end]), by);
                    from = end;
                }
                out.keep(&text[from..]);
            }
            CharFilter::PatternReplace { pattern, replacement } => {
                let mut from = 0;
                pattern.for_each_replacement(text, replacement, false, &mut |start, end, by| {
                    out.keep(&text[from..start]);
                    out.replace(utf16_len(&text[start..end]), by);
                    from = end;
                });
                out.keep(&text[from..]);
            }
        }
        (out.text, out.corrections)
    }

    /// Whether normalizers may use it.
    pub(super) fn normalizes(&self) -> bool {
        !matches!(self, CharFilter::HtmlStrip { .. })
    }
}

/// Strings and their replacements, for the longest match.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// By first character, longest first.
    by_first: rustc_hash::FxHashMap<char, Vec<(String, String)>>,
}

impl Mappings {
    pub(super) fn new(rules: Vec<(String, String)>) -> Mappings {
        let mut by_first: rustc_hash::FxHashMap<char, Vec<(String, String)>> = rustc_hash::FxHashMap::default();
        for (from, to) in rules {
            if let Some(first) = from.chars().next() {
                by_first.entry(first).or_default().push((from, to));
            }
        }
        for list in by_first.values_mut() {
            list.sort_by_key(|r| std::cmp::Reverse(r.0.len()));
        }
        Mappings { by_first }
    }

    /// How many times longer a text can become.
    pub(super) fn growth(&self) -> usize {
        self.by_first.values().flatten().map(|(from, to)| to.len().div_ceil(from.len())).max().unwrap_or(1).max(1)
    }

    fn find<'a>(&'a self, text: &str, from: usize) -> Option<(usize, usize, &'a str)> {
        text[from..].char_indices().find_map(|(i, c)| {
            let start = from + i;
            let rule = self.by_first.get(&c)?.iter().find(|r| text[start..].starts_with(r.0.as_str()))?;
            Some((start, start + rule.0.len(), rule.1.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(rules: &[(&str, &str)]) -> CharFilter {
        CharFilter::Mapping(Mappings::new(rules.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()))
    }

    #[test]
    fn the_longest_mapping_wins() {
        let (text, _) = mapping(&[("a", "1"), ("ab", "2"), ("ﬃ", "ffi")]).apply("abac oﬃce");
        assert_eq!(text, "21c office");
    }

    #[test]
    fn offsets_after_a_shorter_replacement_are_shifted() {
        let (text, c) = mapping(&[("&amp;", "&")]).apply("a &amp; b");
        assert_eq!(text, "a & b");
        assert_eq!((0..=5).map(|i| c.correct(i)).collect::<Vec<_>>(), [0, 1, 2, 7, 8, 9]);
    }

    #[test]
    fn offsets_inside_a_longer_replacement_stay_at_its_end() {
        let (text, c) = mapping(&[("ﬃ", "ffi")]).apply("oﬃce");
        assert_eq!(text, "office");
        assert_eq!((0..=6).map(|i| c.correct(i)).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 3, 4]);
    }
}

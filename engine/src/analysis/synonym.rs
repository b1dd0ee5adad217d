//! `synonym` and `synonym_graph`: rules in Solr's format, the longest match first.
//!
//! A rule's words go through the tokenizer and the filters that stand before this one, so that they look like the
//! tokens they meet. `synonym_graph` gives every multi-word synonym a path of its own (position lengths say where it
//! ends); `synonym` lays the words over the positions that follow, as an index without position lengths needs it.

use rustc_hash::FxHashMap;

use super::Analyzer;
use super::token::{Entry, TokenList};
use crate::error::{Error, Result};

/// Most words a rule's side can have.
const WORDS_MAX: usize = 64;

/// The rules of one filter.
#[derive(Debug, Default)]
pub(super) struct Synonyms {
    /// By the words that match; the words of a key are joined by a NUL.
    rules: FxHashMap<String, Rule>,
    /// By first word: the longest match that begins with it.
    longest: FxHashMap<String, usize>,
    graph: bool,
}

#[derive(Debug, Default)]
struct Rule {
    outputs: Vec<Vec<String>>,
    keep: bool,
}

impl Synonyms {
    /// Bytes of the longest word that a rule brings.
    pub(super) fn longest_output(&self) -> usize {
        self.rules.values().flat_map(|rule| rule.outputs.iter().flatten()).map(String::len).max().unwrap_or(0)
    }

    /// Reads rules such as `a, b => c` and `a, b c`. `expand`: equivalent words stand for each other, else all become
    /// the first. `lenient`: rules that analysis makes nothing of are left out.
    pub(super) fn parse(
        lines: &[String],
        expand: bool,
        lenient: bool,
        graph: bool,
        analyzer: &Analyzer,
    ) -> Result<Synonyms> {
        let mut synonyms = Synonyms { graph, ..Synonyms::default() };
        for (n, line) in lines.iter().enumerate() {
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if let Err(reason) = synonyms.rule(text, expand, lenient, analyzer) {
                return Err(Error::illegal_argument(format!(
                    "failed to build synonyms: Invalid synonym rule at line {}: {reason}",
                    n + 1
                )));
            }
        }
        Ok(synonyms)
    }

    fn rule(&mut self, text: &str, expand: bool, lenient: bool, analyzer: &Analyzer) -> Result<(), String> {
        let sides = split(text, "=>");
        let words = |side: &str| -> Result<Vec<Vec<String>>, String> {
            let mut all = Vec::new();
            for term in split(side, ",") {
                match analyzed(&unescape(term.trim()), analyzer) {
                    Ok(words) => all.push(words),
                    Err(_) if lenient => {}
                    Err(reason) => return Err(reason),
                }
            }
            Ok(all)
        };
        match sides.as_slice() {
            [one] => {
                let terms = words(one)?;
                if expand {
                    for (i, from) in terms.iter().enumerate() {
                        for (_, to) in terms.iter().enumerate().filter(|(j, _)| *j != i) {
                            self.add(from, to, true);
                        }
                    }
                } else if let Some((first, _)) = terms.split_first() {
                    for from in &terms {
                        self.add(from, first, false);
                    }
                }
            }
            [from, to] => {
                let to = words(to)?;
                for from in words(from)? {
                    for to in &to {
                        self.add(&from, to, false);
                    }
                }
            }
            _ => return Err("more than one explicit mapping specified on the same line".to_owned()),
        }
        Ok(())
    }

    fn add(&mut self, from: &[String], to: &[String], keep: bool) {
        let rule = self.rules.entry(from.join("\0")).or_default();
        rule.keep |= keep;
        if !rule.outputs.iter().any(|o| o == to) {
            rule.outputs.push(to.to_vec());
        }
        let longest = self.longest.entry(from[0].clone()).or_default();
        *longest = (*longest).max(from.len());
    }

    /// The longest match at the beginning of `entries`: its length and rule.
    fn find(&self, list: &TokenList, entries: &[Entry]) -> Option<(usize, &Rule)> {
        let longest = *self.longest.get(list.text(&entries[0]))?;
        let mut key = String::new();
        let mut found = None;
        for (n, e) in entries.iter().take(longest).enumerate() {
            if n > 0 {
                // A gap, or several tokens on a position, ends what can match.
                if e.increment != 1 {
                    break;
                }
                key.push('\0');
            }
            key.push_str(list.text(e));
            if let Some(rule) = self.rules.get(&key) {
                found = Some((n + 1, rule));
            }
        }
        found
    }

    pub(super) fn apply(&self, list: &mut TokenList) {
        let entries = std::mem::take(&mut list.entries);
        // Tokens with their positions; what a synonym lays over later positions is sorted in at the end.
        let mut placed: Vec<(u32, Entry)> = Vec::with_capacity(entries.len());
        let mut next = 0u32;
        let mut i = 0;
        while i < entries.len() {
            let position = (next + entries[i].increment).saturating_sub(1);
            let Some((length, rule)) = self.find(list, &entries[i..]) else {
                placed.push((position, entries[i]));
                next = position + 1;
                i += 1;
                continue;
            };
            let matched = &entries[i..i + length];
            let positions = if self.graph {
                graph(list, matched, rule, position, &mut placed)
            } else {
                flat(list, matched, rule, position, &mut placed)
            };
            next = position + positions;
            i += length;
        }
        placed.sort_by_key(|p| p.0);
        let mut after = 0;
        list.entries = placed
            .into_iter()
            .map(|(position, e)| {
                let increment = position + 1 - after;
                after = position + 1;
                Entry { increment, ..e }
            })
            .collect();
    }
}

fn synonym(list: &mut TokenList, term: &str, matched: &[Entry], position_length: u32) -> Entry {
    let (at, len) = list.store(term);
    let (start, end) = (matched[0].start, matched[matched.len() - 1].end);
    Entry { at, len, start, end, position_length, kind: "SYNONYM", keyword: false, increment: 1 }
}

/// The words one after another from the position of the match on; returns the positions that the match takes.
fn flat(list: &mut TokenList, matched: &[Entry], rule: &Rule, at: u32, placed: &mut Vec<(u32, Entry)>) -> u32 {
    if rule.keep {
        placed.extend(matched.iter().enumerate().map(|(k, e)| (at + k as u32, *e)));
    }
    for output in &rule.outputs {
        for (k, term) in output.iter().enumerate() {
            let last = k + 1 == output.len();
            let length = if last && rule.keep { matched.len() } else { 1 };
            let mut e = synonym(list, term, matched, length as u32);
            if !last {
                e.end = matched[k.min(matched.len() - 1)].end;
            }
            placed.push((at + k as u32, e));
        }
    }
    if rule.keep { matched.len() as u32 } else { 1 }
}

/// Every synonym a path from the first position to the last; returns the positions between them.
fn graph(list: &mut TokenList, matched: &[Entry], rule: &Rule, at: u32, placed: &mut Vec<(u32, Entry)>) -> u32 {
    let inner: usize = rule.outputs.iter().map(|o| o.len() - 1).sum();
    let end = 1 + (inner + if rule.keep { matched.len() - 1 } else { 0 }) as u32;
    // Nodes between the first and the last are dealt out path by path.
    let mut node = 0u32;
    let mut step = |k: usize, length: usize| {
        let from = if k == 0 { 0 } else { node };
        let to = if k + 1 == length {
            end
        } else {
            node += 1;
            node
        };
        (from, to)
    };
    for output in &rule.outputs {
        for (k, term) in output.iter().enumerate() {
            let (from, to) = step(k, output.len());
            placed.push((at + from, synonym(list, term, matched, to - from)));
        }
    }
    if rule.keep {
        for (k, e) in matched.iter().enumerate() {
            let (from, to) = step(k, matched.len());
            placed.push((at + from, Entry { position_length: to - from, ..*e }));
        }
    }
    end
}

/// Splits at a separator that no backslash stands before.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at..].starts_with(separator.as_bytes()) {
            parts.push(&text[from..at]);
            at += separator.len();
            from = at;
        } else {
            at += 1;
        }
    }
    parts.push(&text[from..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// The words that analysis makes of a rule's term, which must follow each other.
fn analyzed(term: &str, analyzer: &Analyzer) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut bad = None;
    analyzer.tokens(term, &mut |t| {
        if t.position as usize != words.len() {
            bad.get_or_insert_with(|| {
                format!("term: {term} analyzed to a token ({}) with position increment != 1", t.term)
            });
        }
        words.push(t.term.to_owned());
    });
    if let Some(reason) = bad {
        return Err(reason);
    }
    if words.is_empty() {
        return Err(format!("term: {term} was completely eliminated by analyzer"));
    }
    if words.len() > WORDS_MAX {
        return Err(format!("term: {} has more than {WORDS_MAX} words", words[0]));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::AnalyzerRegistry;

    fn tokens(kind: &str, rules: &[&str], text: &str) -> Vec<(String, u32, u32)> {
        let registry = AnalyzerRegistry::new(&json!({
            "filter": {"syn": {"type": kind, "synonyms": rules}},
            "analyzer": {"a": {"tokenizer": "standard", "filter": ["lowercase", "syn"]}}
        }))
        .unwrap();
        let mut out = Vec::new();
        let analyzer = registry.analyzer("a").unwrap();
        analyzer.tokens(text, &mut |t| out.push((t.term.to_owned(), t.position, t.position_length)));
        out
    }

    fn check(kind: &str, rules: &[&str], text: &str, expected: &[(&str, u32, u32)]) {
        let got = tokens(kind, rules, text);
        let got: Vec<_> = got.iter().map(|t| (t.0.as_str(), t.1, t.2)).collect();
        assert_eq!(got, expected, "{kind} {rules:?} on {text:?}");
    }

    #[test]
    fn equivalent_words_stand_together() {
        for kind in ["synonym", "synonym_graph"] {
            let mut got = tokens(kind, &["TV, Telly"], "my tv set");
            got.sort_by_key(|t| (t.1, t.0.clone()));
            let got: Vec<_> = got.iter().map(|t| (t.0.as_str(), t.1)).collect();
            assert_eq!(got, [("my", 0), ("telly", 1), ("tv", 1), ("set", 2)]);
        }
    }

    #[test]
    fn mappings_replace_and_the_longest_wins() {
        let rules = ["sea biscuit => seabiscuit", "sea => ocean"];
        check("synonym", &rules, "sea biscuit sea", &[("seabiscuit", 0, 1), ("ocean", 1, 1)]);
    }

    #[test]
    fn a_graph_has_paths() {
        check(
            "synonym_graph",
            &["wifi, wireless network"],
            "wifi router",
            &[("wireless", 0, 1), ("wifi", 0, 2), ("network", 1, 1), ("router", 2, 1)],
        );
        check(
            "synonym",
            &["wifi, wireless network"],
            "wifi router",
            &[("wifi", 0, 1), ("wireless", 0, 1), ("network", 1, 1), ("router", 1, 1)],
        );
    }

    #[test]
    fn bad_rules_are_errors() {
        let build = |rule: &str| {
            AnalyzerRegistry::new(&json!({
                "filter": {"syn": {"type": "synonym", "synonyms": [rule]}},
                "analyzer": {"a": {"tokenizer": "standard", "filter": ["syn"]}}
            }))
            .map(|_| ())
        };
        assert!(build("a => b => c").is_err());
        assert!(build("a, -").is_err());
        assert!(build("a\\,b, c").is_ok());
        assert!(build("a\\").is_ok());
    }
}

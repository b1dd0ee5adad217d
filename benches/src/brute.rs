//! What a job's answer must be, by a scan of the whole corpus: no index, and nothing of the engine but its analyzer.
//!
//! Scores are Lucene 8's BM25 in its own order of operations: idf and the sum over clauses in doubles, the rest in floats,
//! lengths as their norm byte has them.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use ringdex_engine::analysis::AnalyzerRegistry;

use crate::corpus::{Lines, Passage};
use crate::job::{FUZZY_EXPANSIONS, Job};

const K1: f32 = 1.2;
const B: f32 = 0.75;
/// No word of the query.
const NONE: u8 = u8::MAX;

/// The corpus as columns.
pub struct Corpus {
    /// Every word of every body, as a number.
    tokens: Vec<u32>,
    /// Where each body ends in `tokens`.
    ends: Vec<usize>,
    words: Vec<String>,
    numbers: HashMap<String, u32>,
    /// `k1 * (1 - b + b * length / average)` of each document.
    lengths: Vec<f32>,
    /// Documents with any word.
    with_words: u64,
    pub packages: Vec<String>,
    pub dirs: Vec<String>,
    pub ts: Vec<i64>,
    pub pop: Vec<f64>,
}

/// The lengths that norm bytes stand for, after Lucene's `SmallFloat`: up to 40 exact, then eight to each power of two.
fn norm_lengths() -> Vec<u32> {
    let steps = (0..232u32).map(|j| if j < 8 { j } else { (8 + j % 8) << (j / 8 - 1) });
    (0..24).chain(steps.map(|s| 24 + s)).collect()
}

/// A length as its norm byte has it.
fn quantised(length: u32, table: &[u32]) -> u32 {
    table[table.partition_point(|&l| l <= length) - 1]
}

fn idf(doc_freq: u64, docs: u64) -> f32 {
    let (n, df) = (docs as f64, doc_freq as f64);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln() as f32
}

fn bm25(boost: f32, idf: f32, freq: u32, length: f32) -> f32 {
    let weight = boost * (1.0 + K1) * idf;
    let freq = f64::from(freq);
    weight * (freq / (freq + f64::from(length))) as f32
}

/// Documents that have some of the query's words, and how often each.
struct Rows {
    docs: Vec<u32>,
    freqs: Vec<u32>,
    width: usize,
}

impl Rows {
    fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.docs.iter().copied().zip(self.freqs.chunks_exact(self.width))
    }

    fn doc_freq(&self, word: usize) -> u64 {
        self.iter().filter(|(_, freqs)| freqs[word] > 0).count() as u64
    }
}

impl Corpus {
    pub fn read(path: &Path) -> Result<Corpus, Box<dyn Error>> {
        let analyzer = AnalyzerRegistry::default().analyzer("standard").ok_or("no standard analyzer")?;
        let mut corpus = Corpus {
            tokens: Vec::new(),
            ends: Vec::new(),
            words: Vec::new(),
            numbers: HashMap::new(),
            lengths: Vec::new(),
            with_words: 0,
            packages: Vec::new(),
            dirs: Vec::new(),
            ts: Vec::new(),
            pop: Vec::new(),
        };
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            let passage: Passage<'_> = serde_json::from_slice(line)?;
            let begin = corpus.tokens.len();
            let mut in_order = true;
            analyzer.tokens(&passage.body, &mut |token| {
                in_order &= token.position as usize == corpus.tokens.len() - begin;
                let number = match corpus.numbers.get(token.term) {
                    Some(&number) => number,
                    None => {
                        let number = corpus.words.len() as u32;
                        corpus.words.push(token.term.to_owned());
                        corpus.numbers.insert(token.term.to_owned(), number);
                        number
                    }
                };
                corpus.tokens.push(number);
            });
            if !in_order {
                return Err("the analyzer leaves gaps, which a scan does not know".into());
            }
            corpus.ends.push(corpus.tokens.len());
            corpus.packages.push(passage.pkg.into_owned());
            corpus.dirs.push(passage.dir.into_owned());
            corpus.ts.push(passage.ts);
            corpus.pop.push(passage.pop);
        }
        let lengths: Vec<u32> = (0..corpus.ends.len() as u32).map(|doc| corpus.body(doc).len() as u32).collect();
        corpus.with_words = lengths.iter().filter(|&&l| l > 0).count() as u64;
        let average = (corpus.tokens.len() as f64 / corpus.with_words as f64) as f32;
        let table = norm_lengths();
        let norm = |length: u32| K1 * ((1.0 - B) + B * quantised(length, &table) as f32 / average);
        corpus.lengths = lengths.into_iter().map(norm).collect();
        Ok(corpus)
    }

    pub fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    fn body(&self, doc: u32) -> &[u32] {
        let begin = if doc == 0 { 0 } else { self.ends[doc as usize - 1] };
        &self.tokens[begin..self.ends[doc as usize]]
    }

    /// Documents that match a job, ascending, with their scores.
    pub fn matches(&self, job: &Job) -> Result<Vec<(u32, f32)>, String> {
        let words: Vec<&str> = job.words();
        Ok(match job.kind.as_str() {
            "and" => self.all_of(&words),
            "or" => self.any_of(&words),
            "mixed" => self.mixed(&words, &job.args[1].split(' ').collect::<Vec<_>>()),
            "phrase" => self.phrase(&words),
            "range" => {
                let number = |at: usize| job.args[at].parse::<i64>().map_err(|e| e.to_string());
                let (from, to) = (number(1)?, number(2)?);
                let mut found = self.any_of(&words);
                found.retain(|(doc, _)| (from..to).contains(&self.ts[*doc as usize]));
                found
            }
            "filt" => {
                let mut found = self.any_of(&words);
                found.retain(|(doc, _)| self.packages[*doc as usize] == job.args[1]);
                found
            }
            "prefix" => self.constant(|word| word.starts_with(&job.args[0])),
            "wild" => {
                let pattern: Vec<char> = job.args[0].chars().collect();
                self.constant(|word| glob(&pattern, &word.chars().collect::<Vec<_>>()))
            }
            "fuzzy" => {
                let number = |at: usize| job.args[at].parse::<usize>().map_err(|e| e.to_string());
                self.fuzzy(&job.args[0], number(1)?, number(2)?)
            }
            "term" | "agg_pkg" | "agg_dir" | "hist" | "stats" | "sort" | "sort_pkg" => match job.args[0].as_str() {
                "*" => (0..self.len()).map(|doc| (doc, 1.0)).collect(),
                _ => self.any_of(&words),
            },
            kind => return Err(format!("unknown kind {kind}")),
        })
    }

    /// How often each of `words` is in the documents that have any of them.
    fn rows(&self, words: &[&str]) -> Rows {
        assert!(words.len() < NONE as usize, "slots are bytes");
        let mut slots = vec![NONE; self.words.len()];
        for (slot, word) in words.iter().enumerate() {
            if let Some(&number) = self.numbers.get(*word) {
                slots[number as usize] = slot as u8;
            }
        }
        let mut rows = Rows { docs: Vec::new(), freqs: Vec::new(), width: words.len() };
        let mut freqs = vec![0u32; words.len()];
        for doc in 0..self.len() {
            let mut any = false;
            for &token in self.body(doc) {
                let slot = slots[token as usize];
                if slot != NONE {
                    freqs[slot as usize] += 1;
                    any = true;
                }
            }
            if any {
                rows.docs.push(doc);
                rows.freqs.extend_from_slice(&freqs);
                freqs.fill(0);
            }
        }
        rows
    }

    /// Score of each word in each row, given the boosts and document frequencies to score by.
    fn sum(&self, doc: u32, freqs: &[u32], idfs: &[f32], boosts: &[f32]) -> f32 {
        let length = self.lengths[doc as usize];
        let scores = freqs.iter().zip(idfs).zip(boosts).filter(|((freq, _), _)| **freq > 0);
        scores.map(|((&freq, &idf), &boost)| f64::from(bm25(boost, idf, freq, length))).sum::<f64>() as f32
    }

    fn idfs(&self, rows: &Rows) -> Vec<f32> {
        (0..rows.width).map(|word| idf(rows.doc_freq(word), self.with_words)).collect()
    }

    fn any_of(&self, words: &[&str]) -> Vec<(u32, f32)> {
        let rows = self.rows(words);
        let (idfs, boosts) = (self.idfs(&rows), vec![1.0; words.len()]);
        rows.iter().map(|(doc, freqs)| (doc, self.sum(doc, freqs, &idfs, &boosts))).collect()
    }

    fn all_of(&self, words: &[&str]) -> Vec<(u32, f32)> {
        let rows = self.rows(words);
        let (idfs, boosts) = (self.idfs(&rows), vec![1.0; words.len()]);
        let all = rows.iter().filter(|(_, freqs)| freqs.iter().all(|&f| f > 0));
        all.map(|(doc, freqs)| (doc, self.sum(doc, freqs, &idfs, &boosts))).collect()
    }

    /// Words that must be there, and words that add to the score: two sums, each a float, then one.
    fn mixed(&self, must: &[&str], should: &[&str]) -> Vec<(u32, f32)> {
        let words: Vec<&str> = must.iter().chain(should).copied().collect();
        let distinct = (1..words.len()).all(|i| !words[..i].contains(&words[i]));
        if !distinct {
            // A word in both: each part by itself.
            let optional: HashMap<u32, f32> = self.any_of(should).into_iter().collect();
            let required = self.all_of(must).into_iter();
            return required.map(|(doc, score)| (doc, score + optional.get(&doc).copied().unwrap_or(0.0))).collect();
        }
        let rows = self.rows(&words);
        let (idfs, boosts) = (self.idfs(&rows), vec![1.0; words.len()]);
        let (n, mut found) = (must.len(), Vec::new());
        for (doc, freqs) in rows.iter().filter(|(_, freqs)| freqs[..n].iter().all(|&f| f > 0)) {
            let required = self.sum(doc, &freqs[..n], &idfs[..n], &boosts[..n]);
            found.push((doc, required + self.sum(doc, &freqs[n..], &idfs[n..], &boosts[n..])));
        }
        found
    }

    fn phrase(&self, words: &[&str]) -> Vec<(u32, f32)> {
        let rows = self.rows(words);
        let sum: f64 = self.idfs(&rows).iter().map(|&i| f64::from(i)).sum();
        let numbers: Option<Vec<u32>> = words.iter().map(|w| self.numbers.get(*w).copied()).collect();
        let Some(numbers) = numbers else { return Vec::new() };
        let count = |doc: u32| self.body(doc).windows(numbers.len()).filter(|w| *w == numbers).count() as u32;
        let counted = rows.docs.iter().map(|&doc| (doc, count(doc))).filter(|(_, freq)| *freq > 0);
        counted.map(|(doc, freq)| (doc, bm25(1.0, sum as f32, freq, self.lengths[doc as usize]))).collect()
    }

    /// Documents with any word that `wanted` accepts, scored alike.
    fn constant(&self, wanted: impl Fn(&str) -> bool) -> Vec<(u32, f32)> {
        let wanted: Vec<bool> = self.words.iter().map(|w| wanted(w)).collect();
        let has = |doc: &u32| self.body(*doc).iter().any(|&t| wanted[t as usize]);
        (0..self.len()).filter(has).map(|doc| (doc, 1.0)).collect()
    }

    /// The best words within so many edits, each weighed by how near it is, all as frequent as the most frequent of them.
    fn fuzzy(&self, word: &str, edits: usize, prefix: usize) -> Vec<(u32, f32)> {
        let typed: Vec<char> = word.chars().collect();
        let mut near: Vec<(f32, &str)> = Vec::new();
        for candidate in &self.words {
            let other: Vec<char> = candidate.chars().collect();
            if other.len() < prefix || typed.len() < prefix || other[..prefix] != typed[..prefix] {
                continue;
            }
            let distance = distance(&typed[prefix..], &other[prefix..]);
            if distance <= edits {
                let shorter = typed.len().min(other.len()) as f32;
                near.push((if distance == 0 { 1.0 } else { 1.0 - distance as f32 / shorter }, candidate));
            }
        }
        near.retain(|(closeness, _)| *closeness > 0.0);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        near.truncate(FUZZY_EXPANSIONS as usize);
        if near.is_empty() {
            return Vec::new();
        }
        let (boosts, words): (Vec<f32>, Vec<&str>) = near.into_iter().unzip();
        let rows = self.rows(&words);
        let doc_freq = (0..words.len()).map(|w| rows.doc_freq(w)).max().unwrap_or(0);
        let idfs = vec![idf(doc_freq, self.with_words); words.len()];
        rows.iter().map(|(doc, freqs)| (doc, self.sum(doc, freqs, &idfs, &boosts))).collect()
    }
}

/// Whether a pattern of `*` (any letters) and `?` (one letter) is all of a word.
fn glob(pattern: &[char], word: &[char]) -> bool {
    match pattern.split_first() {
        None => word.is_empty(),
        Some(('*', rest)) => (0..=word.len()).any(|skip| glob(rest, &word[skip..])),
        Some((c, rest)) => word.split_first().is_some_and(|(w, left)| (*c == '?' || c == w) && glob(rest, left)),
    }
}

/// Letters to insert, remove, replace or swap with a neighbour; no letter is touched twice.
fn distance(a: &[char], b: &[char]) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i.max(j);
                continue;
            }
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_quantised_as_lucene_does() {
        let table = norm_lengths();
        assert_eq!(table.len(), 256);
        for (length, stored) in [(0, 0), (7, 7), (40, 40), (41, 40), (43, 42), (57, 56), (1000, 984), (100_000, 98_328)]
        {
            assert_eq!(quantised(length, &table), stored, "length {length}");
        }
    }

    #[test]
    fn edits_count_swaps_as_one() {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        for (a, b, n) in
            [("word", "word", 0), ("word", "wrod", 1), ("word", "ward", 1), ("word", "wordy", 1), ("ca", "abc", 3)]
        {
            assert_eq!(distance(&chars(a), &chars(b)), n, "{a} {b}");
        }
    }

    #[test]
    fn patterns_match_whole_words() {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        for (pattern, word, is) in
            [("a*c", "abbc", true), ("a*c", "ac", true), ("a?c", "ac", false), ("*b", "abc", false)]
        {
            assert_eq!(glob(&chars(pattern), &chars(word)), is, "{pattern} {word}");
        }
    }
}

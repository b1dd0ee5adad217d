//! Draws queries from a corpus: word sequences that occur in the text, run as intersection, union and phrase, words by
//! how frequent they are, and patterns that match some. The same corpus, options and seed give the same file.
//!
//! `basic` are the kinds that every peer's harness knows; `more` are the others, in groups of their own.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, ValueEnum};

use crate::corpus::{Lines, Passage};
use crate::job::Draw;

/// Which kinds.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Part {
    Basic,
    More,
    All,
}

#[derive(Args)]
pub struct Options {
    /// Queries of a group; of the dear ones a third
    #[arg(long, default_value_t = 150)]
    pub n: usize,
    /// Draws other queries
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Which kinds
    #[arg(long, value_enum, default_value = "all")]
    pub part: Part,
}

/// What is drawn from.
struct Words {
    docs: u64,
    doc_freq: HashMap<String, u64>,
    /// Words of some documents, in order.
    sample: Vec<Vec<String>>,
    /// In more than one of fifty documents; in more than one of a thousand; in at least ten.
    frequent: Vec<String>,
    middle: Vec<String>,
    rare: Vec<String>,
    packages: Vec<String>,
    dates: (i64, i64),
}

/// Letters only, so that every engine's analysis leaves it alone.
fn is_plain(word: &str) -> bool {
    (2..=20).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase())
}

impl Words {
    fn read(corpus: &Path, draw: &mut Draw) -> Result<Words, Box<dyn Error>> {
        let mut words = Words {
            docs: 0,
            doc_freq: HashMap::new(),
            sample: Vec::new(),
            frequent: Vec::new(),
            middle: Vec::new(),
            rare: Vec::new(),
            packages: Vec::new(),
            dates: (i64::MAX, i64::MIN),
        };
        let mut packages = std::collections::BTreeSet::new();
        let mut lines = Lines::open(corpus)?;
        while let Some(line) = lines.next()? {
            let passage: Passage<'_> = serde_json::from_slice(line)?;
            words.docs += 1;
            words.dates = (words.dates.0.min(passage.ts), words.dates.1.max(passage.ts));
            if !packages.contains(passage.pkg.as_ref()) {
                packages.insert(passage.pkg.to_string());
            }
            let body = passage.body.to_ascii_lowercase();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let tokens: Vec<&str> = body.split(|c| !is_part(c)).filter(|w| !w.is_empty()).collect();
            let mut distinct = tokens.clone();
            distinct.sort_unstable();
            distinct.dedup();
            for word in distinct {
                match words.doc_freq.get_mut(word) {
                    Some(n) => *n += 1,
                    None => drop(words.doc_freq.insert(word.to_owned(), 1)),
                }
            }
            if draw.below(50) == 0 {
                words.sample.push(tokens.into_iter().map(str::to_owned).collect());
            }
        }
        words.packages = packages.into_iter().collect();
        let mut plain: Vec<(&String, u64)> =
            words.doc_freq.iter().filter(|(w, _)| is_plain(w)).map(|(w, &n)| (w, n)).collect();
        plain.sort_unstable();
        for (word, n) in plain {
            match n {
                _ if n * 50 >= words.docs => words.frequent.push(word.clone()),
                _ if n * 1000 >= words.docs => words.middle.push(word.clone()),
                10.. => words.rare.push(word.clone()),
                _ => {}
            }
        }
        Ok(words)
    }

    /// Sequences of `length` different words that stand in the text like this, at least one of them not too frequent.
    fn sequences(&self, length: usize, n: usize, draw: &mut Draw) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for _ in 0..n * 1000 {
            if found.len() == n {
                break;
            }
            let tokens = draw.of(&self.sample);
            if tokens.len() < length + 2 {
                continue;
            }
            let at = draw.below((tokens.len() - length) as u64) as usize;
            let words = &tokens[at..at + length];
            let freq = |w: &String| self.doc_freq[w];
            let different = (1..length).all(|i| !words[..i].contains(&words[i]));
            let fits = words.iter().all(|w| is_plain(w) && freq(w) >= 5);
            if different && fits && words.iter().any(|w| freq(w) * 20 < self.docs) {
                let text = words.join(" ");
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
        found
    }
}

/// The file being written.
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, group: &str, kind: &str, collect: &str, args: &[&str]) {
        writeln!(self.text, "{group}\t{kind}\t{collect}\t{}", args.join("\t")).expect("memory takes what is written");
    }

    fn both(&mut self, group: &str, kind: &str, args: &[&str]) {
        self.line(group, kind, "top10", args);
        self.line(group, kind, "count", args);
    }
}

pub fn write(corpus: &Path, path: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let words = Words::read(corpus, &mut Draw::seeded(options.seed))?;
    let mut out = Out { text: String::new() };
    if options.part != Part::More {
        basic(&words, options.n, &mut Draw::seeded(options.seed + 1), &mut out);
    }
    if options.part != Part::Basic {
        more(&words, options.n, &mut Draw::seeded(options.seed + 2), &mut out);
    }
    std::fs::write(path, &out.text)?;
    println!("{} queries of {} documents", out.text.lines().count(), words.docs);
    Ok(())
}

fn basic(words: &Words, n: usize, draw: &mut Draw, out: &mut Out) {
    for (group, band) in [("term_hi", &words.frequent), ("term_mid", &words.middle), ("term_lo", &words.rare)] {
        for word in draw.some(band, n) {
            out.both(group, "term", &[&word]);
        }
    }
    for (length, and, or, phrase) in [(2, "and2", "or2", "phrase2"), (3, "and3", "or3", "phrase3")] {
        for text in words.sequences(length, n, draw) {
            out.both(and, "and", &[&text]);
            out.both(or, "or", &[&text]);
            out.both(phrase, "phrase", &[&text]);
        }
    }
    for _ in 0..n {
        out.both("and_hh", "and", &[&draw.some(&words.frequent, 2).join(" ")]);
    }
    for _ in 0..n {
        let mut five = draw.some(&words.frequent, 2);
        five.extend(draw.some(&words.middle, 2));
        five.push(draw.of(&words.rare).clone());
        out.both("or5", "or", &[&five.join(" ")]);
    }
    let tenth = (words.dates.1 - words.dates.0) / 10;
    for _ in 0..n {
        let from = words.dates.0 + draw.below((9 * tenth).max(1) as u64) as i64;
        let word = draw.of(&words.frequent);
        out.both("range", "range", &[word, &from.to_string(), &(from + tenth).to_string()]);
    }
    for _ in 0..n {
        let word = draw.of(&words.frequent);
        out.both("filt", "filt", &[word, draw.of::<String>(&words.packages)]);
    }
    for kind in ["agg_pkg", "agg_dir", "hist", "stats", "sort"] {
        whole_and_words(words, kind, n, draw, out);
    }
}

/// A kind over all documents, and over those of some frequent words.
fn whole_and_words(words: &Words, kind: &str, n: usize, draw: &mut Draw, out: &mut Out) {
    out.line(&format!("{kind}_all"), kind, "agg", &["*"]);
    for word in draw.some(&words.frequent, (n / 3).max(10)) {
        out.line(kind, kind, "agg", &[&word]);
    }
}

fn more(words: &Words, n: usize, draw: &mut Draw, out: &mut Out) {
    let few = (n / 3).max(10);
    // One word that must be there, two that may; and the other way round.
    for _ in 0..n {
        let (must, should) = (draw.of(&words.frequent), [draw.of(&words.middle), draw.of(&words.frequent)]);
        out.both("mixed12", "mixed", &[must, &should.map(String::as_str).join(" ")]);
    }
    for text in words.sequences(2, n, draw) {
        out.both("mixed21", "mixed", &[&text, draw.of::<String>(&words.frequent)]);
    }
    for (group, length) in [("prefix3", 3), ("prefix5", 5)] {
        for word in long(&words.middle, length + 2, few, draw) {
            out.both(group, "prefix", &[&word[..length]]);
        }
    }
    for word in long(&words.middle, 7, few, draw) {
        out.both("wild_mid", "wild", &[&format!("{}*{}", &word[..3], &word[word.len() - 2..])]);
    }
    for word in long(&words.middle, 6, few, draw) {
        let at = 1 + draw.below(word.len() as u64 - 2) as usize;
        out.both("wild_one", "wild", &[&format!("{}?{}", &word[..at], &word[at + 1..])]);
    }
    // Every word of the dictionary is looked at: a few of these take as long as all the others.
    for word in long(&words.middle, 7, few.div_ceil(5), draw) {
        out.both("wild_lead", "wild", &[&format!("*{}", &word[word.len() - 4..])]);
    }
    for (group, edits, prefix) in [("fuzzy1", 1, 0), ("fuzzy1p", 1, 1), ("fuzzy2", 2, 0), ("fuzzy2p", 2, 1)] {
        for word in long(&words.middle, 4 + 2 * edits, few, draw) {
            // As somebody mistypes it: one letter is another.
            let at = 1 + draw.below(word.len() as u64 - 1) as usize;
            let letter = char::from(b'a' + draw.below(26) as u8);
            let typed = format!("{}{letter}{}", &word[..at], &word[at + 1..]);
            out.both(group, "fuzzy", &[&typed, &edits.to_string(), &prefix.to_string()]);
        }
    }
    for word in draw.some(&words.frequent, n) {
        out.line("term_hi", "term", "top1000", &[&word]);
    }
    for text in words.sequences(2, n, draw) {
        out.line("and2", "and", "top1000", &[&text]);
        out.line("or2", "or", "top1000", &[&text]);
    }
    for _ in 0..n {
        let two = draw.some(&words.frequent, 2).join(" ");
        out.line("and_hh", "and", "top1000", &[&two]);
        out.line("or_hh", "or", "top1000", &[&two]);
    }
    whole_and_words(words, "sort_pkg", n, draw, out);
}

/// Words of at least so many letters.
fn long(from: &[String], letters: usize, n: usize, draw: &mut Draw) -> Vec<String> {
    let fit: Vec<String> = from.iter().filter(|w| w.len() >= letters).cloned().collect();
    draw.some(&fit, n)
}

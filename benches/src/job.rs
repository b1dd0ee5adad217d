//! The job, the same for every engine: a corpus of passages and a file of queries.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

/// Milliseconds of a week.
pub const WEEK_MS: i64 = 604_800_000;

/// Terms that a fuzzy query becomes at most, as Elasticsearch has it.
pub const FUZZY_EXPANSIONS: u32 = 50;

#[derive(Args, Clone)]
pub struct IndexOptions {
    /// Memory of the indexing buffer, MB
    #[arg(long, default_value_t = 256)]
    pub heap_mb: usize,
    /// Make searchable every so many milliseconds; 0 = once, at the end
    #[arg(long, default_value_t = 0)]
    pub refresh_ms: u64,
    /// Documents between two syncs of the translog
    #[arg(long, default_value_t = 1000)]
    pub bulk: u64,
    /// Stop after so many documents
    #[arg(long, default_value_t = u64::MAX)]
    pub limit: u64,
    /// Merge to one segment at the end
    #[arg(long)]
    pub force_merge: bool,
    /// Leave segments as they were flushed
    #[arg(long)]
    pub no_merge: bool,
}

impl Default for IndexOptions {
    /// As on the command line.
    fn default() -> IndexOptions {
        IndexOptions { heap_mb: 256, refresh_ms: 0, bulk: 1000, limit: u64::MAX, force_merge: false, no_merge: false }
    }
}

impl IndexOptions {
    /// What results are reported under.
    pub fn op(&self) -> &'static str {
        if self.refresh_ms > 0 { "nrt" } else { "index" }
    }
}

#[derive(Args)]
pub struct MergeOptions {
    /// Segments to make one of
    #[arg(long, default_value_t = 8)]
    pub segments: u64,
    /// Documents in each
    #[arg(long, default_value_t = 40_000)]
    pub docs: u64,
}

impl MergeOptions {
    /// How the segments are made.
    pub fn unmerged(&self) -> IndexOptions {
        IndexOptions { heap_mb: 1024, no_merge: true, ..IndexOptions::default() }
    }
}

#[derive(Args)]
pub struct ScaleOptions {
    /// Numbers of cores to compare; results are against the first
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub cores: Vec<usize>,
    /// Rounds, of which the best counts
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    #[command(flatten)]
    pub index: IndexOptions,
}

#[derive(Args)]
pub struct QueryOptions {
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    pub reps: usize,
    /// Seconds of warm-up
    #[arg(long, default_value_t = 5.0)]
    pub warm_s: f64,
    /// Only groups that start with this
    #[arg(long, default_value = "")]
    pub only: String,
    /// Let the engine keep the documents of repeated filters; its peers' caches are off
    #[arg(long)]
    pub filter_cache: bool,
}

/// Fields of the corpus.
pub fn mapping() -> Value {
    json!({"properties": {
        "id": {"type": "keyword", "index": false, "doc_values": false},
        "title": {"type": "text"}, "body": {"type": "text"},
        "pkg": {"type": "keyword"}, "dir": {"type": "keyword"},
        "words": {"type": "integer"}, "bytes": {"type": "integer"}, "pop": {"type": "double"},
        "ts": {"type": "date", "format": "epoch_millis"},
    }})
}

/// One line of the query file: `group kind collect arguments...`, tabs between.
pub struct Job {
    pub group: String,
    pub kind: String,
    pub collect: String,
    pub args: Vec<String>,
}

impl Job {
    /// What results are reported under.
    pub fn key(&self) -> String {
        format!("{}.{}", self.group, self.collect)
    }

    pub fn words(&self) -> Vec<&str> {
        self.args[0].split(' ').collect()
    }
}

/// The jobs of all files whose group starts with `only`.
pub fn load(paths: &[PathBuf], only: &str) -> std::io::Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for path in paths {
        jobs.extend(read(path)?);
    }
    jobs.retain(|j: &Job| j.group.starts_with(only));
    Ok(jobs)
}

fn read(path: &Path) -> std::io::Result<Vec<Job>> {
    let text = std::fs::read_to_string(path)?;
    let jobs = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|line| {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || columns.next().expect("group, kind, collect, arguments");
        Job { group: next(), kind: next(), collect: next(), args: columns.collect() }
    });
    Ok(jobs.collect())
}

/// A reproducible series of numbers below `n`.
pub struct Draw(u64);

impl Draw {
    pub fn new() -> Draw {
        Draw(88_172_645_463_325_252)
    }

    /// Another series for another seed.
    pub fn seeded(seed: u64) -> Draw {
        let mut draw = Draw(88_172_645_463_325_252 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..8).for_each(|_| draw.0 = draw.below(u64::MAX));
        draw
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// One of `from`.
    pub fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// `n` different ones of `from`, or all.
    pub fn some<T: Clone>(&mut self, from: &[T], n: usize) -> Vec<T> {
        let mut left: Vec<usize> = (0..from.len()).collect();
        let drawn = (0..n.min(from.len())).map(|_| left.swap_remove(self.below(left.len() as u64) as usize));
        drawn.map(|i| from[i].clone()).collect()
    }
}

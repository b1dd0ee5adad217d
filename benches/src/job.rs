//! The job, the same for every engine: a corpus of passages and a file of queries.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

/// Milliseconds of a week.
pub const WEEK_MS: i64 = 604_800_000;

#[derive(Args)]
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

pub fn load(path: &Path, only: &str) -> std::io::Result<Vec<Job>> {
    let text = std::fs::read_to_string(path)?;
    let jobs = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|line| {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || columns.next().expect("group, kind, collect, arguments");
        Job { group: next(), kind: next(), collect: next(), args: columns.collect() }
    });
    Ok(jobs.filter(|j| j.group.starts_with(only)).collect())
}

/// A reproducible series of numbers below `n`.
pub struct Draw(u64);

impl Draw {
    pub fn new() -> Draw {
        Draw(88_172_645_463_325_252)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

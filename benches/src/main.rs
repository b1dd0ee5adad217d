//! Measures the engine on one core, with tantivy beside it in the same build (`--features tantivy`).
//!
//! ```text
//! bench index ENGINE CORPUS.ndjson DIR     documents per CPU second, size
//! bench query ENGINE DIR QUERIES.tsv       latency by query group, and the hits, which must agree
//! bench get ENGINE DIR                     random documents by id, source included
//! ```
//!
//! Each prints one JSON object. ENGINE is `ringdex` or `tantivy`. See README.md beside this folder for corpus and queries.

#![forbid(unsafe_code)]

mod job;
mod ours;
mod report;
#[cfg(feature = "tantivy")]
mod theirs;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Who does the work.
#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Ringdex,
    Tantivy,
}

#[derive(Subcommand)]
enum Command {
    /// Index a corpus
    Index {
        engine: Peer,
        corpus: PathBuf,
        dir: PathBuf,
        #[command(flatten)]
        options: job::IndexOptions,
    },
    /// Run queries, warm
    Query {
        engine: Peer,
        dir: PathBuf,
        queries: PathBuf,
        #[command(flatten)]
        options: job::QueryOptions,
    },
    /// Get documents by id
    Get {
        engine: Peer,
        dir: PathBuf,
        /// Documents to get
        #[arg(long, default_value_t = 20_000)]
        count: u64,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Index { engine: Peer::Ringdex, corpus, dir, options } => ours::index(&corpus, &dir, &options),
        Command::Query { engine: Peer::Ringdex, dir, queries, options } => ours::query(&dir, &queries, &options),
        Command::Get { engine: Peer::Ringdex, dir, count } => ours::get(&dir, count),
        #[cfg(feature = "tantivy")]
        Command::Index { engine: Peer::Tantivy, corpus, dir, options } => theirs::index(&corpus, &dir, &options),
        #[cfg(feature = "tantivy")]
        Command::Query { engine: Peer::Tantivy, dir, queries, options } => theirs::query(&dir, &queries, &options),
        #[cfg(feature = "tantivy")]
        Command::Get { engine: Peer::Tantivy, dir, count } => theirs::get(&dir, count),
        #[cfg(not(feature = "tantivy"))]
        _ => Err("built without tantivy: add --features tantivy".into()),
    }
}

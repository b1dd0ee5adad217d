//! Measures the engine, with tantivy beside it in the same build (`--features tantivy`), and checks what it answers.
//!
//! ```text
//! bench compare CORPUS QUERIES DIR         the whole job, in turns, as a table of ratios
//! bench verify CORPUS QUERIES DIR          answers against a scan of the corpus
//! bench index|query|get|merge|scale ...    one piece of it, as one JSON object
//! bench queries CORPUS OUT.tsv             draws queries from a corpus
//! bench bare ADDRESS                       an HTTP server that answers a constant (`--features bare`)
//! bench table DIR, bench plot DIR OUT.svg  what `compare` has measured, again
//! ```
//!
//! See README.md beside this folder.

#![forbid(unsafe_code)]

#[cfg(feature = "bare")]
mod bare;
mod brute;
mod compare;
mod corpus;
mod job;
mod ours;
mod plot;
mod process;
mod queries;
mod report;
mod results;
mod table;
#[cfg(feature = "tantivy")]
mod theirs;
mod verify;

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
        #[arg(required = true)]
        queries: Vec<PathBuf>,
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
    /// Merge equal segments to one
    Merge {
        engine: Peer,
        corpus: PathBuf,
        dir: PathBuf,
        #[command(flatten)]
        options: job::MergeOptions,
    },
    /// Index on several cores, one shard a core
    Scale {
        corpus: PathBuf,
        dir: PathBuf,
        #[command(flatten)]
        options: job::ScaleOptions,
    },
    /// Draw queries from a corpus
    Queries {
        corpus: PathBuf,
        out: PathBuf,
        #[command(flatten)]
        options: queries::Options,
    },
    /// Check answers against a scan of the corpus; fails on a difference
    Verify {
        corpus: PathBuf,
        queries: PathBuf,
        /// An index of the corpus by ringdex; made if it is not there
        dir: PathBuf,
        /// More queries
        #[arg(long)]
        more: Vec<PathBuf>,
        /// Queries of each group
        #[arg(long, default_value_t = 20)]
        per_group: usize,
        /// Only groups that start with this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Measure everything in turns and print the table of ratios
    Compare {
        corpus: PathBuf,
        queries: PathBuf,
        /// Where indexes and results (JSON lines, an engine and an op each) are kept
        dir: PathBuf,
        #[command(flatten)]
        options: compare::Options,
    },
    /// Print the table of what `compare` has measured
    Table {
        dir: PathBuf,
        #[command(flatten)]
        options: compare::TableOptions,
    },
    /// Answer every HTTP request with a constant, until killed
    #[cfg(feature = "bare")]
    Bare { address: std::net::SocketAddr },
    /// Draw the ratios of what `compare` has measured
    Plot {
        dir: PathBuf,
        out: PathBuf,
        /// Lucene's results: files of JSON lines
        #[arg(long)]
        lucene: Vec<PathBuf>,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Index { engine: Peer::Ringdex, corpus, dir, options } => ours::index::index(&corpus, &dir, &options),
        Command::Query { engine: Peer::Ringdex, dir, queries, options } => {
            ours::search::query(&dir, &queries, &options)
        }
        Command::Get { engine: Peer::Ringdex, dir, count } => ours::search::get(&dir, count),
        Command::Merge { engine: Peer::Ringdex, corpus, dir, options } => ours::index::merge(&corpus, &dir, &options),
        #[cfg(feature = "tantivy")]
        Command::Index { engine: Peer::Tantivy, corpus, dir, options } => theirs::index::index(&corpus, &dir, &options),
        #[cfg(feature = "tantivy")]
        Command::Query { engine: Peer::Tantivy, dir, queries, options } => {
            theirs::search::query(&dir, &queries, &options)
        }
        #[cfg(feature = "tantivy")]
        Command::Get { engine: Peer::Tantivy, dir, count } => theirs::search::get(&dir, count),
        #[cfg(feature = "tantivy")]
        Command::Merge { engine: Peer::Tantivy, corpus, dir, options } => theirs::index::merge(&corpus, &dir, &options),
        #[cfg(not(feature = "tantivy"))]
        Command::Index { .. } | Command::Query { .. } | Command::Get { .. } | Command::Merge { .. } => {
            Err("built without tantivy: add --features tantivy".into())
        }
        Command::Scale { corpus, dir, options } => ours::scale::scale(&corpus, &dir, &options),
        Command::Queries { corpus, out, options } => queries::write(&corpus, &out, &options),
        Command::Verify { corpus, queries, dir, mut more, per_group, only } => {
            more.insert(0, queries);
            verify::verify(&corpus, &more, &dir, per_group, &only)
        }
        Command::Compare { corpus, queries, dir, options } => compare::compare(&corpus, &queries, &dir, &options),
        Command::Table { dir, options } => compare::table(&dir, &options),
        #[cfg(feature = "bare")]
        Command::Bare { address } => Ok(bare::serve(address)?),
        Command::Plot { dir, out, lucene } => plot::write(&results::Results::read(&dir, &lucene)?, &out),
    }
}

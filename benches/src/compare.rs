//! The whole job side by side: each piece in a process of its own, the engines in turns, round by round.
//!
//! Children inherit the caller's cores (`taskset -c 1 bench compare ...`); only `scale` takes its own.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::results::Results;
use crate::{plot, table};

const BEGIN: &str = "<!-- figures: written by `bench compare --write` -->";
const END: &str = "<!-- end of figures -->";

#[derive(Args)]
pub struct TableOptions {
    /// Lucene's results: files of JSON lines as its harness prints them
    #[arg(long)]
    pub lucene: Vec<PathBuf>,
    /// Write the report into this Markdown file, between its marks, and the plot beside it
    #[arg(long)]
    pub write: Option<PathBuf>,
}

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub report: TableOptions,
    /// Rounds; the report has medians
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// More queries, reported by themselves
    #[arg(long)]
    pub more: Option<PathBuf>,
    /// Pieces to run, in this order
    #[arg(long, value_delimiter = ',', default_value = "index,nrt,query,more,get,merge,scale")]
    pub ops: Vec<String>,
    /// Keep the rounds that are there and add to them
    #[arg(long)]
    pub append: bool,
    /// Measured repetitions of each query in a round
    #[arg(long, default_value_t = 3)]
    pub reps: usize,
    /// Seconds of warm-up of queries
    #[arg(long, default_value_t = 5.0)]
    pub warm_s: f64,
}

/// Paths as a child is given them.
struct Job<'a> {
    corpus: &'a Path,
    queries: &'a Path,
    dir: &'a Path,
    options: &'a Options,
}

pub fn compare(corpus: &Path, queries: &Path, dir: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let job = Job { corpus, queries, dir, options };
    let engines: &[&str] = if cfg!(feature = "tantivy") { &["ringdex", "tantivy"] } else { &["ringdex"] };
    for engine in engines {
        for op in options.ops.iter().filter(|_| !options.append) {
            let _ = std::fs::remove_file(results_file(dir, engine, op));
        }
        if !options.ops.iter().any(|op| op == "index") && !job.index_dir(engine).exists() {
            job.child(engine, "index")?;
        }
    }
    for round in 1..=options.rounds {
        for op in &options.ops {
            for engine in engines {
                eprintln!("round {round} of {}: {op} {engine}", options.rounds);
                let Some(line) = job.child(engine, op)? else { continue };
                let path = results_file(dir, engine, op);
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
                file.write_all(line.as_bytes())?;
            }
        }
    }
    table(dir, &options.report)
}

/// The report of what is there.
pub fn table(dir: &Path, options: &TableOptions) -> Result<(), Box<dyn Error>> {
    let results = Results::read(dir, &options.lucene)?;
    let report = table::render(&results);
    print!("{report}");
    if let Some(path) = &options.write {
        let svg = path.with_extension("svg");
        plot::write(&results, &svg)?;
        let picture = svg.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let figures = format!("{}\n![Ratio of every query group]({picture})\n\n{report}", machine());
        std::fs::write(path, put(&std::fs::read_to_string(path).unwrap_or_default(), &figures))?;
    }
    Ok(())
}

fn results_file(dir: &Path, engine: &str, op: &str) -> PathBuf {
    dir.join(format!("{engine}.{op}.jsonl"))
}

impl Job<'_> {
    fn index_dir(&self, engine: &str) -> PathBuf {
        self.dir.join(format!("ix-{engine}"))
    }

    /// Runs one piece; its line of JSON. None where there is nothing to do.
    fn child(&self, engine: &str, op: &str) -> Result<Option<String>, Box<dyn Error>> {
        let (index, scratch) = (self.index_dir(engine), self.dir.join("scratch"));
        let (reps, warm_s) = (self.options.reps.to_string(), self.options.warm_s.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        match op {
            "index" => command.args(["index", engine]).args([self.corpus, &index]),
            "nrt" => command.args(["index", engine]).args([self.corpus, &scratch]).args(["--refresh-ms", "1000"]),
            "query" => command.args(["query", engine]).args([&index, self.queries]),
            "more" => match &self.options.more {
                Some(more) => command.args(["query", engine]).args([&index, more]),
                None => return Ok(None),
            },
            "get" => command.args(["get", engine]).arg(&index),
            "merge" => command.args(["merge", engine]).args([self.corpus, &scratch]),
            "scale" if engine == "ringdex" => {
                command.arg("scale").args([self.corpus, &scratch]).args(["--rounds", "1"])
            }
            "scale" => return Ok(None),
            _ => return Err(format!("no such piece: {op}").into()),
        };
        if matches!(op, "query" | "more") {
            command.args(["--reps", &reps, "--warm-s", &warm_s]);
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)?;
        }
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().find(|l| l.starts_with('{'));
        match line {
            Some(line) if output.status.success() => Ok(Some(format!("{line}\n"))),
            _ => Err(format!("{op} {engine}: {}", output.status).into()),
        }
    }
}

/// `text` with `figures` between the marks; they are put behind it if it has none.
fn put(text: &str, figures: &str) -> String {
    let marked = format!("{BEGIN}\n{figures}\n{END}");
    match (text.find(BEGIN), text.find(END)) {
        (Some(begin), Some(end)) if begin < end => format!("{}{marked}{}", &text[..begin], &text[end + END.len()..]),
        _ => format!("{}\n\n{marked}\n", text.trim_end()),
    }
}

/// What the figures were measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':'));
        line.map_or("unknown".to_owned(), |(_, v)| v.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let gb = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1_000_000;
    let mut out = String::new();
    let _ = writeln!(out, "### Machine\n");
    let _ = writeln!(
        out,
        "{}, {cores} cores, {gb} GB, Linux {}.",
        value(&cpu, "model name"),
        read("/proc/sys/kernel/osrelease").trim()
    );
    if let Ok(git) = Command::new("git").args(["log", "-1", "--format=%h of %cs"]).output()
        && git.status.success()
    {
        let _ = writeln!(out, "ringdex at {}.", String::from_utf8_lossy(&git.stdout).trim());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_replaced_and_the_rest_of_the_file_stays() {
        let once = put("# Results\nwords\n", "one");
        let twice = put(&format!("{once}after\n"), "two");
        assert!(twice.starts_with("# Results\nwords\n") && twice.ends_with("after\n"), "{twice}");
        assert!(twice.contains("two") && !twice.contains("one"), "{twice}");
    }
}

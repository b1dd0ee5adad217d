//! What was measured: JSON lines in files `ENGINE.OP.jsonl`, a line a round, and Lucene's as its harness prints them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Who is compared: us first.
pub const ENGINES: [&str; 3] = ["ringdex", "tantivy", "lucene"];

/// All rounds of all engines.
#[derive(Default)]
pub struct Results {
    /// By engine and op.
    rounds: BTreeMap<(String, String), Vec<Value>>,
}

/// A query group of one of the query files.
pub struct Group {
    pub name: String,
    pub mean_us: [Option<f64>; 3],
    pub p99_us: [Option<f64>; 3],
    pub hits: [Option<f64>; 3],
    pub queries: u64,
    /// Ratios against the better peer.
    pub mean_ratio: Option<f64>,
    /// Of the mean of each query's best run: what other work on the machine disturbs least.
    pub best_ratio: Option<f64>,
    pub p99_ratio: Option<f64>,
}

/// Of several ratios, each as important as the others.
pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0);
    for ratio in ratios {
        sum += ratio.ln();
        n += 1;
    }
    (n > 0).then(|| (sum / f64::from(n)).exp())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n.is_multiple_of(2) => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

impl Results {
    /// Everything in `dir`, and Lucene's files.
    pub fn read(dir: &Path, lucene: &[PathBuf]) -> Result<Results, Box<dyn Error>> {
        let mut results = Results::default();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let parts: Vec<&str> = name.split('.').collect();
            if let [engine, op, "jsonl"] = parts[..] {
                for line in lines(&path)? {
                    results.add(engine, op, line);
                }
            }
        }
        for path in lucene {
            for line in lines(path)? {
                // Its harness calls both `index`.
                let nrt = line["refreshes"].as_u64().unwrap_or(0) > 0;
                let op = if nrt { "nrt".to_owned() } else { line["op"].as_str().unwrap_or_default().to_owned() };
                results.add("lucene", &op, line);
            }
        }
        Ok(results)
    }

    fn add(&mut self, engine: &str, op: &str, line: Value) {
        self.rounds.entry((engine.to_owned(), op.to_owned())).or_default().push(line);
    }

    /// Rounds of an engine.
    pub fn count(&self, engine: &str, op: &str) -> usize {
        self.all(engine, op).len()
    }

    fn all(&self, engine: &str, op: &str) -> &[Value] {
        self.rounds.get(&(engine.to_owned(), op.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The median over the rounds of what `pointer` names.
    pub fn figure(&self, engine: &str, op: &str, pointer: &str) -> Option<f64> {
        median(self.all(engine, op).iter().filter_map(|r| r.pointer(pointer)?.as_f64()).collect())
    }

    /// The median over the rounds of ours over the better peer's of the same round: what the machine does meanwhile it does to
    /// both. A peer that had fewer rounds counts with its median.
    pub fn ratio(&self, ops: [&str; 3], pointer: &str, better: fn(f64, f64) -> f64) -> Option<f64> {
        let rounds = [0, 1, 2].map(|e| -> Vec<Option<f64>> {
            self.all(ENGINES[e], ops[e]).iter().map(|r| r.pointer(pointer)?.as_f64()).collect()
        });
        let medians = rounds.each_ref().map(|r| median(r.iter().flatten().copied().collect()));
        let ratio = |i: usize| {
            let peers = (1..3).filter_map(|e| rounds[e].get(i).copied().flatten().or(medians[e]));
            Some(rounds[0][i]? / peers.reduce(better)?)
        };
        median((0..rounds[0].len()).filter_map(ratio).collect())
    }

    /// The same of every engine.
    pub fn figures(&self, op: &str, pointer: &str) -> [Option<f64>; 3] {
        ENGINES.map(|engine| self.figure(engine, op, pointer))
    }

    /// Our query groups of an op (`query`, `more`), and the peers' of the same names. Lucene's harness has one op for both.
    pub fn groups(&self, op: &str) -> Vec<Group> {
        let ours = self.all(ENGINES[0], op).iter().filter_map(|r| r["groups"].as_object());
        let names: BTreeSet<&String> = ours.flat_map(|g| g.keys()).collect();
        let group = |name: &String| {
            let ops = [op, op, "query"];
            let pointer = |what: &str| format!("/groups/{name}/{what}");
            let figures = |what: &str| [0, 1, 2].map(|e| self.figure(ENGINES[e], ops[e], &pointer(what)));
            let ratio = |what: &str| self.ratio(ops, &pointer(what), f64::min);
            Group {
                name: name.clone(),
                mean_us: figures("mean_us"),
                p99_us: figures("p99_us"),
                hits: figures("hits"),
                queries: figures("queries")[0].unwrap_or(0.0) as u64,
                mean_ratio: ratio("mean_us"),
                best_ratio: ratio("best_mean_us"),
                p99_ratio: ratio("p99_us"),
            }
        };
        names.into_iter().map(group).collect()
    }
}

/// The JSON objects of a file; what else a program printed is no matter.
fn lines(path: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let objects = text.lines().filter(|l| l.starts_with('{'));
    Ok(objects.map(serde_json::from_str).collect::<Result<_, _>>().map_err(|e| format!("{}: {e}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_medians_and_ratios_are_of_the_same_round_against_the_better_peer() {
        let mut results = Results::default();
        for (ours, theirs) in [(30.0, 40.0), (10.0, 20.0), (20.0, 100.0)] {
            results.add("ringdex", "query", json!({"groups": {"a": {"mean_us": ours, "queries": 7}}}));
            results.add("tantivy", "query", json!({"groups": {"a": {"mean_us": theirs}}}));
        }
        results.add("lucene", "query", json!({"groups": {"a": {"mean_us": 50.0}}}));
        let groups = results.groups("query");
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].mean_us, [Some(20.0), Some(40.0), Some(50.0)]);
        // 30 / 40, 10 / 20, 20 / 50.
        assert_eq!(groups[0].mean_ratio, Some(0.5));
        assert_eq!(groups[0].p99_ratio, None);
    }

    #[test]
    fn twice_and_half_are_one() {
        let mean = geometric_mean([2.0, 0.5].into_iter()).unwrap();
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(std::iter::empty()), None);
    }
}

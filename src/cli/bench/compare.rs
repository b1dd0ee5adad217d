//! `ringdex bench compare`: is B faster than A?
//!
//! A sample is a run where both sides have at least [`RUNS_MIN`] of them: then what differs from run to run is in the
//! verdict. With fewer, a sample is an interval of a run, thinned by how much neighbours resemble each other; such a verdict
//! holds for these runs only. A difference counts when the rank test (corrected for the number of comparisons), the
//! bootstrapped interval, and the least difference that matters all say so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

use super::results::{Operation, Results, Summary};
use super::statistics::{block_length, difference, effective, holm, mann_whitney, median, thinned};
use super::table::{aligned, ms};

/// Runs on both sides from which on runs are the samples: 4 and 4 in full order have p = 0.029.
const RUNS_MIN: usize = 4;

pub(super) const HELP: &str = "\
A and B are result files, directories with result.json in them or in directories within them, or several of these with
commas between. At least four runs a side make a verdict about the servers; fewer compare the intervals of these runs.

Compared are p50 and p99 of the latency and the throughput of every operation that both have.

Exit code: 0, with --gate 1 if something is slower, 2 it could not be done.

Examples:
  ringdex bench compare before after
  ringdex bench compare a1,a2,a3,a4 b1,b2,b3,b4 --gate --least 3";

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Results before
    #[arg(value_name = "A")]
    a: String,
    /// Results after
    #[arg(value_name = "B")]
    b: String,
    /// Confidence, per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0)]
    confidence: f64,
    /// Differences below this are none, per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    least: f64,
    /// Exit with 1 if something is slower
    #[arg(long)]
    gate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    P50,
    P99,
    Throughput,
}

impl Metric {
    const ALL: [Metric; 3] = [Metric::P50, Metric::P99, Metric::Throughput];

    fn name(self) -> &'static str {
        match self {
            Metric::P50 => "p50 ms",
            Metric::P99 => "p99 ms",
            Metric::Throughput => "achieved/s",
        }
    }

    fn of_run(self, operation: &Operation) -> f64 {
        let Summary { p50_us, p99_us, .. } = operation.latency;
        match self {
            Metric::P50 => p50_us,
            Metric::P99 => p99_us,
            Metric::Throughput => operation.achieved_per_s,
        }
    }

    /// Of the whole intervals; short ones at the end say little.
    fn of_intervals(self, operation: &Operation) -> Vec<f64> {
        let longest = operation.intervals.iter().map(|i| i.seconds).fold(0.0, f64::max);
        let whole = operation.intervals.iter().filter(|i| i.seconds > longest * 0.9 && i.seconds > 0.0);
        match self {
            Metric::P50 => whole.filter(|i| i.arrived > 0).map(|i| i.p50_us).collect(),
            Metric::P99 => whole.filter(|i| i.arrived > 0).map(|i| i.p99_us).collect(),
            Metric::Throughput => whole.map(|i| i.arrived as f64 / i.seconds).collect(),
        }
    }

    fn shown(self, value: f64) -> String {
        if self == Metric::Throughput { format!("{value:.1}") } else { ms(value) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Faster,
    Slower,
    Same,
    TooFew,
}

/// One metric of one operation.
#[derive(Debug)]
struct Comparison {
    run: String,
    operation: String,
    metric: Metric,
    a: f64,
    b: f64,
    samples: (usize, usize),
    /// Relative difference of B, with its interval.
    change: (f64, f64, f64),
    p: f64,
    verdict: Verdict,
}

pub(super) fn run(args: &CompareArgs) -> Result<i32, String> {
    if !(50.0..100.0).contains(&args.confidence) || !(0.0..1000.0).contains(&args.least) {
        return Err("--confidence: 50 to 100; --least: 0 or more".into());
    }
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let compared = compare(&a, &b, args.confidence / 100.0, args.least / 100.0);
    if compared.is_empty() {
        return Err("the two have no operation of the same phase in common".into());
    }
    print!("{}", table(&compared));
    if a.len().min(b.len()) < RUNS_MIN {
        println!(
            "\nA has {} and B {} runs: this compares their intervals. For a verdict that holds for other runs, too, give at \
             least {RUNS_MIN} of each.",
            a.len(),
            b.len()
        );
    }
    for (what, fact) in [("workloads", workload_of as fn(&Results) -> String), ("machines", machine_of)] {
        if distinct(&a, fact) != distinct(&b, fact) {
            println!("The {what} of A and B are not the same.");
        }
    }
    let slower = compared.iter().any(|c| c.verdict == Verdict::Slower);
    Ok(i32::from(args.gate && slower))
}

fn distinct(results: &[Results], fact: fn(&Results) -> String) -> BTreeSet<String> {
    results.iter().map(fact).collect()
}

fn workload_of(results: &Results) -> String {
    results.workload.clone()
}

fn machine_of(results: &Results) -> String {
    let get = |key: &str| results.machine.get(key).map_or("", String::as_str);
    format!("{} {}", get("cpu"), get("cpus"))
}

fn read(list: &str) -> Result<Vec<Results>, String> {
    let mut found = Vec::new();
    for name in list.split(',').filter(|n| !n.is_empty()) {
        let path = Path::new(name);
        let mut files = if path.is_dir() { result_files(path)? } else { vec![path.to_owned()] };
        files.sort();
        if files.is_empty() {
            return Err(format!("[{name}]: no result.json in it"));
        }
        for file in files {
            found.push(Results::read(&file)?);
        }
    }
    if found.is_empty() { Err("no results named".into()) } else { Ok(found) }
}

fn result_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let own = directory.join("result.json");
    if own.is_file() {
        return Ok(vec![own]);
    }
    let wrong = |e: std::io::Error| format!("[{}]: {e}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path().join("result.json");
        if file.is_file() {
            files.push(file);
        }
    }
    Ok(files)
}

fn compare(a: &[Results], b: &[Results], confidence: f64, least: f64) -> Vec<Comparison> {
    // What both have: in the order of A.
    let mut keys: Vec<(String, String)> = Vec::new();
    let (in_a, in_b) = (operations(a), operations(b));
    for results in a {
        for run in &results.runs {
            for operation in &run.operations {
                let key = (run.title(), operation.name.clone());
                if in_b.contains_key(&key) && !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
    }
    let mut compared = Vec::new();
    for key in keys {
        for metric in Metric::ALL {
            compared.push(one(&key, metric, &in_a[&key], &in_b[&key], confidence));
        }
    }
    let corrected = holm(&compared.iter().map(|c| c.p).collect::<Vec<_>>());
    for (comparison, p) in compared.iter_mut().zip(corrected) {
        comparison.p = p;
        comparison.verdict = comparison.judged(confidence, least);
    }
    compared
}

fn operations(results: &[Results]) -> BTreeMap<(String, String), Vec<&Operation>> {
    let mut found: BTreeMap<(String, String), Vec<&Operation>> = BTreeMap::new();
    for run in results.iter().flat_map(|r| &r.runs) {
        for operation in &run.operations {
            found.entry((run.title(), operation.name.clone())).or_default().push(operation);
        }
    }
    found
}

fn one(key: &(String, String), metric: Metric, a: &[&Operation], b: &[&Operation], confidence: f64) -> Comparison {
    let of_runs = |side: &[&Operation]| side.iter().map(|o| metric.of_run(o)).collect::<Vec<f64>>();
    let by_runs = a.len() >= RUNS_MIN && b.len() >= RUNS_MIN;
    let (x, y, block) = if by_runs {
        (of_runs(a), of_runs(b), 1)
    } else {
        let all = |side: &[&Operation]| side.iter().flat_map(|o| metric.of_intervals(o)).collect::<Vec<f64>>();
        let (x, y) = (all(a), all(b));
        let block = block_length(x.len().min(y.len()));
        (x, y, block)
    };
    let (p, change) = if x.len().min(y.len()) < RUNS_MIN {
        (1.0, (0.0, 0.0))
    } else if by_runs {
        (mann_whitney(&x, &y), difference(&x, &y, block, confidence))
    } else {
        let (x2, y2) = (thinned(&x, effective(&x)), thinned(&y, effective(&y)));
        (mann_whitney(&x2, &y2), difference(&x, &y, block, confidence))
    };
    let (median_a, median_b) = (median(&x), median(&y));
    let relative = if median_a == 0.0 { 0.0 } else { median_b / median_a - 1.0 };
    Comparison {
        run: key.0.clone(),
        operation: key.1.clone(),
        metric,
        // The whole runs' figures are what people know from the tables.
        a: median(&of_runs(a)),
        b: median(&of_runs(b)),
        samples: (x.len(), y.len()),
        change: (relative, change.0, change.1),
        p,
        verdict: Verdict::TooFew,
    }
}

impl Comparison {
    fn judged(&self, confidence: f64, least: f64) -> Verdict {
        let (change, low, high) = self.change;
        if self.samples.0.min(self.samples.1) < RUNS_MIN {
            return Verdict::TooFew;
        }
        let apart = low > 0.0 || high < 0.0;
        if self.p > 1.0 - confidence || !apart || change.abs() < least {
            return Verdict::Same;
        }
        let more_is_faster = self.metric == Metric::Throughput;
        if (change > 0.0) == more_is_faster { Verdict::Faster } else { Verdict::Slower }
    }
}

fn table(compared: &[Comparison]) -> String {
    let head = "phase,operation,metric,A,B,change,interval,p,samples,B is";
    let mut rows: Vec<Vec<String>> = vec![head.split(',').map(str::to_owned).collect()];
    for c in compared {
        let percent = |x: f64| format!("{:+.1} %", x * 100.0);
        rows.push(vec![
            c.run.clone(),
            c.operation.clone(),
            c.metric.name().to_owned(),
            c.metric.shown(c.a),
            c.metric.shown(c.b),
            percent(c.change.0),
            format!("{} to {}", percent(c.change.1), percent(c.change.2)),
            format!("{:.3}", c.p),
            format!("{}/{}", c.samples.0, c.samples.1),
            match c.verdict {
                Verdict::Faster => "faster",
                Verdict::Slower => "slower",
                Verdict::Same => "no different",
                Verdict::TooFew => "unknown: too few samples",
            }
            .to_owned(),
        ]);
    }
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::record::Measured;
    use super::super::results::{Interval, Run, VERSION};
    use super::*;

    /// A run of `n` intervals whose p50 is about `p50_us`.
    fn results(p50_us: f64, n: u32, seed: u64) -> Results {
        let mut random = Random::of(&[seed]);
        let intervals: Vec<Interval> = (0..n)
            .map(|i| {
                let p50_us = p50_us * (0.95 + 0.1 * random.unit());
                Interval {
                    at_s: f64::from(i),
                    seconds: 1.0,
                    arrived: 100,
                    failed: 0,
                    p50_us,
                    p90_us: p50_us * 2.0,
                    p99_us: p50_us * 3.0,
                    max_us: p50_us * 9.0,
                }
            })
            .collect();
        let mut operation = Operation::of("get", &Measured::default(), f64::from(n), intervals);
        operation.latency.p50_us = p50_us * (0.98 + 0.04 * random.unit());
        operation.latency.p99_us = operation.latency.p50_us * 3.0;
        operation.achieved_per_s = 100.0;
        let run = Run {
            phase: "p".into(),
            kind: "open".into(),
            step: None,
            rate: Some(100.0),
            connections: 1,
            threads: 1,
            cores: Vec::new(),
            warmup_s: 0.0,
            seconds: f64::from(n),
            lag: Summary::default(),
            samples: Vec::new(),
            operations: vec![operation],
        };
        Results {
            ringdex_bench: VERSION,
            workload_name: "w".into(),
            started: String::new(),
            url: String::new(),
            server: serde_json::Value::Null,
            machine: BTreeMap::new(),
            command: String::new(),
            seed: 1,
            interval_s: 1.0,
            workload: String::new(),
            runs: vec![run],
            ramps: Vec::new(),
        }
    }

    fn verdicts(a: &[Results], b: &[Results]) -> Vec<Verdict> {
        compare(a, b, 0.95, 0.02).iter().map(|c| c.verdict).collect()
    }

    #[test]
    fn a_clear_difference_is_found_and_its_direction_too() {
        let (slow, fast) = ([results(1000.0, 60, 1)], [results(800.0, 60, 2)]);
        assert_eq!(verdicts(&slow, &fast), [Verdict::Faster, Verdict::Faster, Verdict::Same]);
        assert_eq!(verdicts(&fast, &slow), [Verdict::Slower, Verdict::Slower, Verdict::Same]);
    }

    #[test]
    fn the_same_is_no_different_and_small_differences_do_not_count() {
        assert_eq!(verdicts(&[results(1000.0, 60, 3)], &[results(1000.0, 60, 4)]), [Verdict::Same; 3]);
        assert_eq!(verdicts(&[results(1000.0, 600, 3)], &[results(1010.0, 600, 4)]), [Verdict::Same; 3]);
    }

    #[test]
    fn runs_are_the_samples_when_there_are_enough() {
        let side = |p50: f64, seed: u64| (0..6).map(|i| results(p50, 10, seed + i)).collect::<Vec<_>>();
        let compared = compare(&side(1000.0, 10), &side(1200.0, 20), 0.95, 0.02);
        assert_eq!(compared[0].samples, (6, 6));
        assert_eq!(compared[0].verdict, Verdict::Slower);
        assert!(compared[0].change.1 > 0.1 && compared[0].change.2 < 0.3, "{:?}", compared[0]);
    }

    #[test]
    fn too_little_is_said_to_be() {
        assert_eq!(verdicts(&[results(1000.0, 3, 1)], &[results(10.0, 3, 2)]), [Verdict::TooFew; 3]);
    }

    #[test]
    fn files_are_found_below_a_directory_and_others_refused() {
        let place = tempfile::tempdir().unwrap();
        for name in ["r1", "r2"] {
            let dir = place.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("result.json"), serde_json::to_vec(&results(1.0, 2, 1)).unwrap()).unwrap();
        }
        let whole = place.path().to_str().unwrap();
        assert_eq!(read(whole).unwrap().len(), 2);
        assert_eq!(read(&format!("{whole}/r1,{whole}/r2/result.json")).unwrap().len(), 2);
        assert!(read(&format!("{whole}/r3")).is_err());
        let other = Results { ringdex_bench: 99, ..results(1.0, 2, 1) };
        std::fs::write(place.path().join("r1/result.json"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert!(read(whole).unwrap_err().contains("version 99"));
    }
}

//! `ringdex bench prove`: the load generator against a stub whose delays are known.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::drive::{Bench, simple};
use super::plan::Plan;
use super::results::{Run, Summary};
use super::schedule::Arrivals;
use super::stub::{Behaviour, Stub};
use super::table::{self, aligned, ms};
use super::worker::Pace;
use super::workload::Workload;

/// Off by more, and the generator is not proven.
const ERROR_MAX: f64 = 0.02;

pub(super) const HELP: &str = "\
A stub server on one CPU answers every request after a delay: 4 ms for 98 of 100, 20 ms for most others, 60 ms for 2 of 1,000,
all mixed. The load generator on another CPU sends at a constant rate. What it reports has to be what the delays are.

A machine with other work on these CPUs delays both; then lag and the stub's own figures show it.

Exit code: 0 p50, p99 and p99.9 are within 2 %, 1 they are not, 2 it could not be done.

Examples:
  ringdex bench prove --cores 0,1
  ringdex bench prove --cores 2,3 --rate 50000 --duration 30s";

#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    /// Two CPUs: the stub's, the generator's
    #[arg(long, value_name = "A,B", default_value = "0,1")]
    cores: String,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rate: u32,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::workload::parse_duration)]
    duration: Duration,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 512)]
    connections: usize,
}

/// 98 % of 4 ms, 1.8 % of 20 ms, 0.2 % of 60 ms, mixed: neighbours are seldom both slow.
fn delays() -> Vec<Duration> {
    let delay = |i: u64| match i * 617 % 1000 {
        0..980 => 4,
        980..998 => 20,
        _ => 60,
    };
    (0..1000).map(|i| Duration::from_millis(delay(i))).collect()
}

/// Quantiles of [`delays`], microseconds.
const KNOWN: [(&str, f64); 3] = [("p50", 4_000.0), ("p99", 20_000.0), ("p99.9", 60_000.0)];

pub(super) fn run(args: &ProveArgs) -> Result<i32, String> {
    let cores = crate::config::cpu_list(&args.cores)?;
    let [stub_core, own_core] = cores[..] else { return Err("--cores: two CPUs".into()) };
    if args.rate == 0 || args.connections == 0 || args.duration.is_zero() {
        return Err("--rate, --connections, --duration: above 0".into());
    }
    let stub = Stub::start(Behaviour { delays: delays(), stalls: Vec::new(), core: Some(stub_core) })?;
    let run = load(stub.address(), own_core, args);
    let inside = Summary::of(&stub.stop()?);
    let run = run?;
    print!("{}", table::of_run(&run));
    let all = &run.operations[0];
    let found = [all.latency.p50_us, all.latency.p99_us, all.latency.p99_9_us];
    let stubs = [inside.p50_us, inside.p99_us, inside.p99_9_us];
    let lags = [run.lag.p50_us, run.lag.p99_us, run.lag.p99_9_us];
    let mut rows = vec![["", "known ms", "in the stub", "reported", "error", "own lag"].map(str::to_owned).to_vec()];
    let mut worst = 0f64;
    for (i, (name, known)) in KNOWN.into_iter().enumerate() {
        let error = found[i] / known - 1.0;
        worst = worst.max(error.abs());
        let mut row = vec![name.to_owned()];
        row.extend([known, stubs[i], found[i]].map(ms));
        row.extend([format!("{:+.2} %", error * 100.0), ms(lags[i])]);
        rows.push(row);
    }
    println!("\n{}", aligned(&rows));
    let kept_up = all.failed == 0 && all.achieved_per_s > 0.99 * f64::from(args.rate);
    let proven = kept_up && worst <= ERROR_MAX;
    println!(
        "{:.0} of {} requests a second, {} failed, off by {:.2} % at most: {}",
        all.achieved_per_s,
        args.rate,
        all.failed,
        worst * 100.0,
        if proven { "proven" } else { "not proven" }
    );
    Ok(i32::from(!proven))
}

fn load(address: SocketAddr, core: usize, args: &ProveArgs) -> Result<Run, String> {
    let text = "[operation.delayed]\nkind = 'raw'\nmethod = 'GET'\npath = '/'\n\
                [[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n";
    let workload = Workload::parse(text, false)?;
    let plan = Arc::new(Plan::new(&workload, None, Path::new("."), "stub")?);
    let mix = plan.mix(None)?;
    let bench = Bench {
        plan,
        address,
        threads: 1,
        cores: vec![core],
        timeout: workload.timeout,
        interval: workload.interval,
        quiet: false,
        stop: Arc::default(),
    };
    let pace = Pace::Open { arrivals: Arrivals::Constant, rate: f64::from(args.rate) };
    let mut spec = simple(pace, args.connections, args.duration, mix);
    spec.warmup = Duration::from_secs(1);
    bench.run(&spec, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_quantiles_are_those_of_the_delays() {
        let mut sorted = delays();
        sorted.sort();
        let at = |q: f64| sorted[(q * sorted.len() as f64).ceil() as usize - 1].as_micros() as f64;
        assert_eq!(KNOWN.map(|(_, us)| us), [at(0.5), at(0.99), at(0.999)]);
    }
}

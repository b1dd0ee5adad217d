//! Runs phases: starts the threads, gathers what they record, makes results of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::hlog::Hlog;
use super::plan::{Mix, Plan};
use super::record::Record;
use super::results::{Interval, Operation, Ramp, Run, Summary, quantile_us};
use super::schedule::Arrivals;
use super::worker::{Job, Pace, Report, Worker};
use super::workload::{PhaseSpec, RampSpec};

/// Connections of an open loop, unless the phase says.
const CONNECTIONS: usize = 64;
/// Steps of a ramp.
const STEPS_MAX: usize = 1000;
/// Priority of the thread that gathers: the threads that time come first.
const GATHER_NICE: i32 = 10;

/// What all runs share.
pub(super) struct Bench {
    pub(super) plan: Arc<Plan>,
    pub(super) address: SocketAddr,
    pub(super) threads: usize,
    /// One for each thread, or none.
    pub(super) cores: Vec<usize>,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    pub(super) quiet: bool,
    /// Ctrl-C.
    pub(super) stop: Arc<AtomicBool>,
}

/// One run: a phase, or a step of a ramp.
pub(super) struct RunSpec {
    pub(super) phase: String,
    pub(super) step: Option<f64>,
    pub(super) number: u64,
    pub(super) mix: Mix,
    pub(super) pace: Pace,
    pub(super) connections: usize,
    pub(super) warmup: Duration,
    pub(super) duration: Option<Duration>,
    pub(super) requests: Option<u64>,
}

pub(super) type Log = Hlog<BufWriter<File>>;

impl Bench {
    /// Runs a phase. Numbers of runs follow `number`.
    pub(super) fn phase(
        &self,
        phase: &PhaseSpec,
        number: &mut u64,
        mut log: Option<&mut Log>,
    ) -> Result<(Vec<Run>, Option<Ramp>), String> {
        let mix = self.plan.mix(phase.mix.as_ref())?;
        let arrivals = phase.arrivals.unwrap_or_default();
        let spec = |step: Option<f64>, number: u64| RunSpec {
            phase: phase.name.clone(),
            step,
            number,
            mix: mix.clone(),
            pace: match (step.or(phase.rate), phase.clients) {
                (Some(rate), _) => Pace::Open { arrivals, rate },
                (None, _) => Pace::Closed { think: phase.think.unwrap_or_default(), poisson: phase.think_poisson },
            },
            connections: phase.clients.or(phase.connections).unwrap_or(CONNECTIONS),
            warmup: phase.warmup,
            duration: phase.duration,
            requests: phase.requests,
        };
        let mut runs = Vec::new();
        let Some(ramp) = &phase.ramp else {
            *number += 1;
            runs.push(self.run(&spec(None, *number), log)?);
            return Ok((runs, None));
        };
        let (mut knee, mut broke) = (None, None);
        for rate in steps(ramp) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            *number += 1;
            let run = self.run(&spec(Some(rate), *number), log.as_deref_mut())?;
            let verdict = within(ramp, &run.operations[0]);
            runs.push(run);
            match verdict {
                Ok(()) => knee = Some(rate),
                Err(why) => {
                    broke = Some(format!("at {rate:.0}/s {why}"));
                    break;
                }
            }
        }
        Ok((runs, Some(Ramp { phase: phase.name.clone(), knee, broke })))
    }

    /// Runs to the end and measures.
    pub(super) fn run(&self, spec: &RunSpec, log: Option<&mut Log>) -> Result<Run, String> {
        // A thread without a connection could never send its share.
        let threads = self.threads.min(spec.connections).max(1);
        let job = Arc::new(Job {
            plan: Arc::clone(&self.plan),
            mix: spec.mix.clone(),
            run: spec.number,
            pace: spec.pace,
            address: self.address,
            timeout: self.timeout,
            warmup: spec.warmup,
            duration: spec.duration,
            requests: spec.requests,
            interval: self.interval,
            threads,
            connections: spec.connections,
            connected: Barrier::new(threads),
            start: OnceLock::new(),
            stop: Arc::clone(&self.stop),
        });
        let (reports_to, reports) = mpsc::channel();
        let gathered = std::thread::scope(|scope| {
            let mut spares = Vec::new();
            for thread in 0..threads {
                let (spare_to, spare) = mpsc::channel();
                spares.push(spare_to);
                let (job, reports, core) = (&job, reports_to.clone(), self.cores.get(thread).copied());
                let body = move || Worker::run(job, thread, core, &reports, spare);
                let name = format!("bench-{thread}");
                std::thread::Builder::new().name(name).spawn_scoped(scope, body).map_err(|e| e.to_string())?;
            }
            drop(reports_to);
            let gather = Gather::new(self, spec, threads, log);
            let handle = scope.spawn(move || {
                let _ = rustix::process::setpriority_process(None, GATHER_NICE);
                gather.all(&reports, &spares)
            });
            handle.join().map_err(|_| "the gathering thread panicked".to_owned())?
        })?;
        Ok(gathered.result(self, spec, threads))
    }
}

/// Rates of a ramp's steps; the last is `to`.
fn steps(ramp: &RampSpec) -> Vec<f64> {
    let mut rates = vec![ramp.from];
    while rates.len() < STEPS_MAX {
        let last = rates[rates.len() - 1];
        if last >= ramp.to {
            break;
        }
        let next = ramp.step.map_or_else(|| last * ramp.factor.unwrap_or(1.25), |step| last + step);
        // Nearly `to` is `to`.
        rates.push(if next > ramp.to * 0.999 { ramp.to } else { next });
    }
    rates
}

/// Whether a step kept the bounds; otherwise what it did.
fn within(ramp: &RampSpec, all: &Operation) -> Result<(), String> {
    let share = if all.intended_per_s > 0.0 { all.achieved_per_s / all.intended_per_s } else { 0.0 };
    if share < ramp.achieved_min {
        return Err(format!("{:.1} % of the requests were answered in time", share * 100.0));
    }
    match ramp.p99_max {
        Some(max) if all.latency.p99_us > max.as_secs_f64() * 1e6 => {
            Err(format!("p99 was {:.1} ms", all.latency.p99_us / 1e3))
        }
        _ => Ok(()),
    }
}

/// What the threads of a run told.
struct Gather<'a> {
    spec: &'a RunSpec,
    names: Vec<String>,
    used: Vec<usize>,
    log: Option<&'a mut Log>,
    interval: Duration,
    bar: ProgressBar,
    /// Intervals that some thread may still add to.
    open: BTreeMap<u64, Record>,
    /// Last interval each thread is done with; `u64::MAX` when it has ended.
    done: Vec<Option<u64>>,
    ended_ns: u64,
    begun: SystemTime,
    total: Record,
    /// Of all together, then of each operation.
    rows: Vec<Vec<Interval>>,
}

impl<'a> Gather<'a> {
    fn new(bench: &Bench, spec: &'a RunSpec, threads: usize, log: Option<&'a mut Log>) -> Gather<'a> {
        let names: Vec<String> = bench.plan.operations.iter().map(|o| o.name.clone()).collect();
        let bar = match spec.duration {
            Some(d) => ProgressBar::new((spec.warmup + d).as_millis() as u64),
            None => ProgressBar::new_spinner(),
        };
        if bench.quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix} {bar:20} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(match spec.step {
            Some(rate) => format!("{} {rate:.0}/s", spec.phase),
            None => spec.phase.clone(),
        });
        bar.set_message("starting");
        Gather {
            used: spec.mix.used(),
            total: Record::new(names.len()),
            rows: vec![Vec::new(); names.len() + 1],
            names,
            spec,
            log,
            interval: bench.interval,
            bar,
            open: BTreeMap::new(),
            done: vec![None; threads],
            ended_ns: 0,
            begun: SystemTime::now(),
        }
    }

    fn all(
        mut self,
        reports: &mpsc::Receiver<Report>,
        spares: &[mpsc::Sender<Box<Record>>],
    ) -> Result<Gather<'a>, String> {
        let mut failed = None;
        while let Ok(report) = reports.recv() {
            match report {
                Report::Interval { thread, number, mut record } => {
                    let size = self.names.len();
                    self.open.entry(number).or_insert_with(|| Record::new(size)).add(&record);
                    record.clear();
                    // Its memory goes back; a thread that has ended does not mind.
                    let _ = spares[thread].send(record);
                    self.done[thread] = Some(number);
                }
                Report::Ended { thread, at_ns } => {
                    self.done[thread] = Some(u64::MAX);
                    self.ended_ns = self.ended_ns.max(at_ns);
                }
                Report::Failed(e) => failed = Some(e),
            }
            self.close()?;
        }
        self.bar.finish_and_clear();
        match failed {
            Some(e) => Err(e),
            None => Ok(self),
        }
    }

    /// Closes the intervals that every thread is done with.
    fn close(&mut self) -> Result<(), String> {
        let Some(done) = self.done.iter().copied().min().flatten() else { return Ok(()) };
        while let Some(entry) = self.open.first_entry() {
            if *entry.key() > done {
                break;
            }
            let (number, record) = entry.remove_entry();
            self.row(number, &record)?;
            self.total.add(&record);
        }
        Ok(())
    }

    fn row(&mut self, number: u64, record: &Record) -> Result<(), String> {
        let length = self.interval.as_secs_f64();
        let at = number as f64 * length;
        let warmup = self.spec.warmup.as_secs_f64();
        let end = if self.ended_ns > 0 { self.ended_ns as f64 / 1e9 - warmup } else { f64::MAX };
        let end = self.spec.duration.map_or(end, |d| end.min(d.as_secs_f64()).max(at));
        let seconds = length.min(end - at).max(0.0);
        let all = record.all();
        self.rows[0].push(Interval::of(&all, at, seconds));
        let from = self.begun + self.spec.warmup + Duration::from_secs_f64(at);
        for index in &self.used {
            let measured = &record.operations[*index];
            self.rows[index + 1].push(Interval::of(measured, at, seconds));
            if let Some(log) = &mut self.log {
                log.write(&self.names[*index], from, self.interval, &measured.latency)?;
            }
        }
        let failed: u64 = self.total.operations.iter().map(|o| o.failed).sum::<u64>() + all.failed;
        let rate = all.arrived as f64 / seconds.max(length / 10.0);
        let intended = match self.spec.pace {
            Pace::Open { rate, .. } => format!(" of {rate:.0}"),
            Pace::Closed { .. } => String::new(),
        };
        let (p50, p99) = (quantile_us(&all.latency, 0.5) / 1e3, quantile_us(&all.latency, 0.99) / 1e3);
        self.bar.set_position(((at + length + warmup) * 1e3) as u64);
        self.bar.set_message(format!("{rate:.0}{intended}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {failed} failed"));
        Ok(())
    }

    fn result(mut self, bench: &Bench, spec: &RunSpec, threads: usize) -> Run {
        let warmup_s = spec.warmup.as_secs_f64();
        let ended = (self.ended_ns as f64 / 1e9 - warmup_s).max(0.0);
        // Stopped early, it is as long as it was.
        let seconds = spec.duration.map_or(ended, |d| d.as_secs_f64().min(ended.max(1e-3)));
        let mut operations = Vec::new();
        if self.used.len() > 1 {
            operations.push(Operation::of("all", &self.total.all(), seconds, std::mem::take(&mut self.rows[0])));
        }
        for index in &self.used {
            let rows = std::mem::take(&mut self.rows[index + 1]);
            operations.push(Operation::of(&self.names[*index], &self.total.operations[*index], seconds, rows));
        }
        Run {
            phase: spec.phase.clone(),
            kind: if matches!(spec.pace, Pace::Open { .. }) { "open" } else { "closed" }.to_owned(),
            step: spec.step,
            rate: match spec.pace {
                Pace::Open { rate, .. } => Some(rate),
                Pace::Closed { .. } => None,
            },
            connections: spec.connections,
            threads,
            cores: bench.cores.iter().take(threads).copied().collect(),
            warmup_s,
            seconds,
            lag: Summary::of(&self.total.lag),
            samples: self.total.samples.clone(),
            operations,
        }
    }
}

/// A run without a workload file, against a server that answers anything.
pub(super) fn simple(pace: Pace, connections: usize, duration: Duration, mix: Mix) -> RunSpec {
    RunSpec {
        phase: match pace {
            Pace::Open { arrivals: Arrivals::Constant, .. } => "constant",
            Pace::Open { .. } => "poisson",
            Pace::Closed { .. } => "closed",
        }
        .to_owned(),
        step: None,
        number: 1,
        mix,
        pace,
        connections,
        warmup: Duration::ZERO,
        duration: Some(duration),
        requests: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Behaviour, Stub};
    use super::super::workload::Workload;
    use super::*;
    use std::path::Path;

    /// A bench of one operation against `address`.
    fn bench(address: SocketAddr, threads: usize, extra: &str) -> Bench {
        let text = format!(
            "{extra}\n[operation.root]\nkind = 'raw'\nmethod = 'GET'\npath = '/'\n\
             [[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n"
        );
        let workload = Workload::parse(&text, false).unwrap();
        Bench {
            plan: Arc::new(Plan::new(&workload, None, Path::new("."), "stub").unwrap()),
            address,
            threads,
            cores: Vec::new(),
            timeout: workload.timeout,
            interval: workload.interval,
            quiet: true,
            stop: Arc::default(),
        }
    }

    fn run(behaviour: Behaviour, threads: usize, pace: Pace, connections: usize, seconds: f64) -> (Run, Summary) {
        let stub = Stub::start(behaviour).unwrap();
        let bench = bench(stub.address(), threads, "interval = '100ms'");
        let mix = bench.plan.mix(None).unwrap();
        let run = bench.run(&simple(pace, connections, Duration::from_secs_f64(seconds), mix), None).unwrap();
        (run, Summary::of(&stub.stop().unwrap()))
    }

    const CONSTANT: Arrivals = Arrivals::Constant;

    /// 98 % of the answers after 200 ms, 1.5 % after 500 ms, 0.5 % after 900 ms, well mixed.
    fn delays() -> Vec<Duration> {
        let delay = |i: u64| match i * 617 % 1000 {
            0..980 => 200,
            980..995 => 500,
            _ => 900,
        };
        (0..1000).map(|i| Duration::from_millis(delay(i))).collect()
    }

    #[test]
    fn percentiles_are_those_of_known_delays() {
        // Other work on the machine can delay us for a while, but hardly three times; a wrong percentile stays wrong.
        let mut last = String::new();
        for _ in 0..3 {
            let behaviour = Behaviour { delays: delays(), stalls: Vec::new(), core: None };
            let pace = Pace::Open { arrivals: CONSTANT, rate: 500.0 };
            let (run, known) = run(behaviour, 2, pace, 500, 4.0);
            let found = &run.operations[0];
            assert_eq!((found.requests, found.failed), (2000, 0));
            let near = |found: f64, expected: f64| (found / expected - 1.0).abs() <= 0.02;
            let l = &found.latency;
            let known_is_nominal =
                near(known.p50_us, 200e3) && near(known.p99_us, 500e3) && near(known.p99_9_us, 900e3);
            if known_is_nominal
                && near(l.p50_us, known.p50_us)
                && near(l.p99_us, known.p99_us)
                && near(l.p99_9_us, known.p99_9_us)
            {
                // Of the last 200 ms nothing is answered within the window.
                let arrived: u64 = found.intervals.iter().map(|i| i.arrived).sum();
                assert!((1800..=1900).contains(&arrived), "{arrived}");
                return;
            }
            last = format!("{:?}, known {known:?}, lag {:?}", found.latency, run.lag);
        }
        panic!("{last}");
    }

    #[test]
    fn an_open_loop_shows_a_stall_to_all_who_had_to_wait_and_a_closed_loop_does_not() {
        let stall = (Duration::from_millis(800), Duration::from_millis(1800));
        let behaviour = Behaviour { delays: vec![Duration::from_millis(1)], stalls: vec![stall], core: None };
        let pace = Pace::Open { arrivals: CONSTANT, rate: 200.0 };
        // One connection: all but one of the requests in the stall could not even be sent.
        let (open, _) = run(behaviour.clone(), 1, pace, 1, 3.0);
        let open = &open.operations[0];
        // A third of the requests was due in the stall of a second, evenly: the worst hundredth waited for at least 970 ms.
        assert!(open.latency.p99_us > 900e3, "{:?}", open.latency);
        assert!(open.latency.p90_us > 600e3, "{:?}", open.latency);
        // From when they were sent, one was slow.
        assert!(open.service.p99_us < 500e3, "{:?}", open.service);
        let (closed, _) = run(behaviour, 1, Pace::Closed { think: Duration::ZERO, poisson: false }, 1, 3.0);
        let closed = &closed.operations[0];
        assert!(closed.requests > 200, "{}", closed.requests);
        assert!(closed.latency.p99_us < 500e3, "{:?}", closed.latency);
        assert!(closed.latency.max_us > 900e3, "{:?}", closed.latency);
    }

    #[test]
    fn what_is_not_answered_in_time_is_a_timeout_and_counts() {
        let behaviour = Behaviour { delays: vec![Duration::from_secs(60)], stalls: Vec::new(), core: None };
        let stub = Stub::start(behaviour).unwrap();
        let bench = bench(stub.address(), 1, "timeout = '300ms'");
        let mix = bench.plan.mix(None).unwrap();
        let pace = Pace::Open { arrivals: CONSTANT, rate: 100.0 };
        let run = bench.run(&simple(pace, 4, Duration::from_millis(500), mix), None).unwrap();
        let found = &run.operations[0];
        assert_eq!((found.requests, found.failed, found.errors["timeout"]), (50, 50, 50));
        // To the three digits of a histogram.
        assert!(found.latency.min_us >= 299.5e3, "{:?}", found.latency);
        assert_eq!((found.service.count, found.achieved_per_s), (0, 0.0));
        stub.stop().unwrap();
    }

    #[test]
    fn think_time_paces_clients() {
        let behaviour = Behaviour { delays: vec![Duration::from_millis(50)], stalls: Vec::new(), core: None };
        let pace = Pace::Closed { think: Duration::from_millis(50), poisson: false };
        let (run, _) = run(behaviour, 2, pace, 4, 2.0);
        // Four clients, a request each 100 ms at most.
        let requests = run.operations[0].requests;
        assert!((40..=84).contains(&requests), "{requests}");
    }

    #[test]
    fn nobody_there_is_said_before_anything_is_measured() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let bench = bench(free, 2, "");
        let mix = bench.plan.mix(None).unwrap();
        let pace = Pace::Open { arrivals: CONSTANT, rate: 100.0 };
        let error = bench.run(&simple(pace, 4, Duration::from_secs(1), mix), None).err().unwrap();
        assert!(error.contains("no connection to"), "{error}");
    }

    #[test]
    fn a_server_that_dies_is_counted_and_the_run_ends() {
        let behaviour = Behaviour { delays: vec![Duration::from_millis(1)], stalls: Vec::new(), core: None };
        let stub = Stub::start(behaviour).unwrap();
        let bench = bench(stub.address(), 1, "");
        let mix = bench.plan.mix(None).unwrap();
        let pace = Pace::Open { arrivals: CONSTANT, rate: 100.0 };
        let spec = simple(pace, 4, Duration::from_secs(2), mix);
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| bench.run(&spec, None));
            std::thread::sleep(Duration::from_millis(700));
            stub.stop().unwrap();
            run.join().unwrap().unwrap()
        });
        let found = &run.operations[0];
        assert_eq!(found.requests, 200);
        assert!(found.errors.get("connect").is_some_and(|n| *n > 50), "{:?}", found.errors);
        assert_eq!(found.latency.count + found.failed, 200, "{:?}", found.errors);
    }

    #[test]
    fn steps_of_a_ramp_end_at_its_top() {
        let ramp = |text: &str| toml::from_str::<RampSpec>(text).unwrap();
        assert_eq!(steps(&ramp("from = 100\nto = 350\nstep = 100")), [100.0, 200.0, 300.0, 350.0]);
        assert_eq!(steps(&ramp("from = 100\nto = 400\nfactor = 2")), [100.0, 200.0, 400.0]);
        assert_eq!(steps(&ramp("from = 100\nto = 100")), [100.0]);
    }

    #[test]
    fn a_ramp_finds_the_knee() {
        // One connection and 50 ms a request: 20 a second and no more.
        let behaviour = Behaviour { delays: vec![Duration::from_millis(50)], stalls: Vec::new(), core: None };
        let stub = Stub::start(behaviour).unwrap();
        let bench = bench(stub.address(), 1, "");
        let phase = "name = 'p'\nduration = '2s'\nconnections = 1\narrivals = 'constant'\n\
                     [ramp]\nfrom = 5\nto = 1000\nfactor = 8\nachieved_min = 0.8";
        let (runs, ramp) = bench.phase(&toml::from_str(phase).unwrap(), &mut 0, None).unwrap();
        let ramp = ramp.unwrap();
        assert_eq!((runs.len(), ramp.knee), (2, Some(5.0)), "{ramp:?}");
        assert!(ramp.broke.unwrap().contains("at 40/s"));
        stub.stop().unwrap();
    }
}

//! `ringdex bench run`: a workload file against a server.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::data::Data;
use super::drive::Bench;
use super::hlog::Hlog;
use super::page;
use super::plan::Plan;
use super::results::{Results, VERSION};
use super::table;
use super::workload::{SetupStep, Workload, parse_duration};

pub(super) const HELP: &str = "\
A workload file (TOML, or JSON of the same shape) says what to send and when:

  index = \"bench\"
  [data]
  file = \"cities.ndjson.gz\"              # or builtin = \"accounts\"
  [source.row]                           # values for templates: rows, integers, list, values, words, fresh;
  kind = \"rows\"                          #   uniform, sequential or zipf
  order = \"zipf\"
  [operation.get]                        # index, update, get, delete, search, aggregate, bulk, raw
  kind = \"get\"
  id = \"{{row._id}}\"
  weight = 4
  [operation.search]
  kind = \"search\"
  body = '{\"query\": {\"match\": {\"name\": \"{{row.name}}\"}}}'
  [[setup]]
  load = 500                             # the data into the index, in bulks of 500
  [[phase]]
  name = \"steady\"
  rate = 2000                            # open loop; clients = 8: closed loop; [phase.ramp]: steps of rate
  warmup = \"5s\"
  duration = \"60s\"

`ringdex bench format` describes every key; ready files are in benches/workloads.

Latency counts from the moment a request was due, service time from when it was sent. In an open loop a request that
finds every connection busy waits, and that is latency. Failures are counted by kind and are not in the percentiles, except timeouts,
which count with the time they took.

The directory of --out gets result.json, latency.hlog (HdrHistogram's interval log) and report.html.

Exit code: 0 done, 1 requests failed, 2 it could not be done.";

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Workload file, TOML or JSON
    #[arg(value_name = "FILE")]
    workload: PathBuf,
    /// Server; HTTP without TLS
    #[arg(long, default_value = "http://127.0.0.1:9200", env = "RINGDEX_URL")]
    url: String,
    /// CPUs for the threads that send, one each; they poll without pause [default: one thread, on any]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Threads that send, when no cores are named
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), conflicts_with = "cores")]
    threads: u16,
    /// Only these phases
    #[arg(long, value_name = "NAME")]
    phase: Vec<String>,
    /// Instead of the file's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Requests a second, instead of the rate of every phase that has one
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Clients, instead of those of every phase that has them
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
    /// Duration of every phase, instead of its own
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Warm-up of every phase, instead of its own
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Leave the setup of the file out
    #[arg(long)]
    no_setup: bool,
    /// Directory for the results [default: bench-NAME-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// No progress line
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &RunArgs) -> Result<i32, String> {
    let (mut workload, text) = Workload::read(&args.workload)?;
    args.apply(&mut workload)?;
    let base = args.workload.parent().unwrap_or(Path::new("."));
    let data = workload.data.as_ref().map(|file| Data::read(file, base)).transpose()?.map(Arc::new);
    let (address, host) = resolve(&args.url)?;
    let plan = Arc::new(Plan::new(&workload, data.as_ref(), base, &host)?);
    let cores = match &args.cores {
        Some(list) => crate::config::cpu_list(list)?,
        None => Vec::new(),
    };
    // Before minutes are spent: can the results be kept?
    let name = args.workload.file_stem().map_or_else(|| "workload".into(), |s| s.to_string_lossy().into_owned());
    let started = jiff::Timestamp::now();
    let out = args.out.clone().unwrap_or_else(|| format!("bench-{name}-{}", started.strftime("%Y%m%dT%H%M%S")).into());
    std::fs::create_dir_all(&out).map_err(|e| format!("[{}]: {e}", out.display()))?;
    let mut log = Hlog::create(&out.join("latency.hlog"))?;

    let setup = Setup::new(&args.url, &workload);
    let server = setup.server()?;
    if !args.no_setup {
        setup.all(&workload, data.as_deref())?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let bench = Bench {
        plan,
        address,
        threads: if cores.is_empty() { usize::from(args.threads) } else { cores.len() },
        cores,
        timeout: workload.timeout,
        interval: workload.interval,
        quiet: args.quiet,
        stop,
    };
    let (mut runs, mut ramps, mut number) = (Vec::new(), Vec::new(), 0);
    for phase in &workload.phase {
        if bench.stop.load(Ordering::Relaxed) {
            break;
        }
        let done = bench.phase(phase, &mut number, Some(&mut log)).map_err(|e| format!("phase [{}]: {e}", phase.name));
        let (made, ramp) = done?;
        for run in &made {
            print!("{}", table::of_run(run));
        }
        if let Some(ramp) = &ramp {
            println!("{}", table::of_ramp(ramp));
        }
        runs.extend(made);
        ramps.extend(ramp);
    }
    log.finish()?;
    let results = Results {
        ringdex_bench: VERSION,
        workload_name: name,
        started: started.to_string(),
        url: args.url.clone(),
        server,
        machine: machine(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        seed: workload.seed,
        interval_s: workload.interval.as_secs_f64(),
        workload: text,
        runs,
        ramps,
    };
    write(&out, &results)?;
    println!("\nResults in {}", out.display());
    Ok(i32::from(results.runs.iter().flat_map(|r| &r.operations).any(|o| !o.errors.is_empty())))
}

/// The files of a directory of results.
fn write(out: &Path, results: &Results) -> Result<(), String> {
    let json = serde_json::to_vec_pretty(results).map_err(|e| e.to_string())?;
    let page = page::render(results)?.into_bytes();
    for (name, bytes) in [("result.json", json), ("report.html", page)] {
        let path = out.join(name);
        std::fs::write(&path, bytes).map_err(|e| format!("[{}]: {e}", path.display()))?;
    }
    Ok(())
}

impl RunArgs {
    /// What the command line says instead of the file.
    fn apply(&self, workload: &mut Workload) -> Result<(), String> {
        if let Some(seed) = self.seed {
            workload.seed = seed;
        }
        for name in &self.phase {
            if !workload.phase.iter().any(|p| p.name == *name) {
                return Err(format!("--phase {name}: the file has no such phase"));
            }
        }
        if !self.phase.is_empty() {
            workload.phase.retain(|p| self.phase.contains(&p.name));
        }
        for phase in &mut workload.phase {
            phase.rate = phase.rate.map(|rate| self.rate.unwrap_or(rate));
            phase.clients = phase.clients.map(|clients| self.clients.unwrap_or(clients));
            if let Some(duration) = self.duration {
                (phase.duration, phase.requests) = (Some(duration), None);
            }
            phase.warmup = self.warmup.unwrap_or(phase.warmup);
        }
        workload.check()
    }
}

/// The address behind `http://HOST[:PORT]`, and what to call it.
fn resolve(url: &str) -> Result<(SocketAddr, String), String> {
    let host = url.strip_prefix("http://").ok_or_else(|| format!("[{url}]: only http://HOST:PORT"))?;
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', '?']) {
        return Err(format!("[{url}]: only http://HOST:PORT; paths and headers go into the workload"));
    }
    let full = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut found = full.to_socket_addrs().map_err(|e| format!("[{url}]: {e}"))?;
    Ok((found.next().ok_or_else(|| format!("[{url}]: no address"))?, host.to_owned()))
}

/// Ends the phase in work at the first SIGINT or SIGTERM: results so far are kept. At the second the process goes.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), String> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(stop)).map_err(|e| e.to_string())?;
        signal_hook::flag::register(signal, Arc::clone(stop)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What results depend on besides the server.
fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, m)| m.trim().to_owned()));
    BTreeMap::from([
        ("cpu".to_owned(), model.unwrap_or_default()),
        ("cpus".to_owned(), crate::config::allowed_cpus().len().to_string()),
        ("memory_bytes".to_owned(), crate::config::machine_memory().to_string()),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load_before".to_owned(), read("/proc/loadavg").trim().to_owned()),
        ("ringdex".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

/// Requests outside of the measurement.
struct Setup {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(String, String)>,
}

impl Setup {
    fn new(url: &str, workload: &Workload) -> Setup {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(300)))
            .allow_non_standard_methods(true)
            .build();
        let headers = workload.headers.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        Setup { agent: config.into(), base: url.trim_end_matches('/').to_owned(), headers }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
        let url = format!("{}{path}", self.base);
        let bulk = path.split('?').next().is_some_and(|p| p.ends_with("_bulk"));
        let kind = if bulk { "application/x-ndjson" } else { "application/json" };
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if !body.is_empty() {
            request = request.header("content-type", kind);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(body.to_owned()).map_err(|e| format!("{method} {url}: {e}"))?;
        let mut response = self.agent.run(request).map_err(|e| format!("{method} {url}: {e}"))?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string();
        Ok((status, text.map_err(|e| format!("{method} {url}: {e}"))?))
    }

    /// What the server says of itself; not every one says something.
    fn server(&self) -> Result<Value, String> {
        let (status, text) = self.ask("GET", "/", "")?;
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(if status == 200 {
            serde_json::json!({"name": said["name"], "version": said["version"]})
        } else {
            Value::Null
        })
    }

    fn all(&self, workload: &Workload, data: Option<&Data>) -> Result<(), String> {
        for (i, step) in workload.setup.iter().enumerate() {
            self.step(step, workload, data).map_err(|e| format!("setup {}: {e}", i + 1))?;
        }
        Ok(())
    }

    fn step(&self, step: &SetupStep, workload: &Workload, data: Option<&Data>) -> Result<(), String> {
        if let Some(batch) = step.load {
            let data = data.ok_or("load needs [data]")?;
            for from in (0..data.len()).step_by(batch) {
                let body = data.bulk(from..(from + batch).min(data.len()));
                let (status, text) = self.ask("POST", &format!("/{}/_bulk", workload.index), &body)?;
                let start: String = text.chars().take(500).collect();
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                if status != 200 || answer["errors"] != false {
                    return Err(format!("bulk: {status} {start}"));
                }
            }
            return Ok(());
        }
        let (Some(method), Some(path)) = (&step.method, &step.path) else { return Err("no request".into()) };
        let path = path.replace("{{index}}", &workload.index);
        let (status, text) = self.ask(method, &path, step.body.as_deref().unwrap_or_default())?;
        if !(200..300).contains(&status) && !step.expect.contains(&status) {
            return Err(format!("{method} {path}: {status} {}", text.chars().take(500).collect::<String>()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_a_host_and_a_port() {
        let (address, host) = resolve("http://127.0.0.1:9200/").unwrap();
        assert_eq!((address.to_string(), host.as_str()), ("127.0.0.1:9200".into(), "127.0.0.1:9200"));
        assert_eq!(resolve("http://127.0.0.1").unwrap().0.port(), 80);
        assert_eq!(resolve("http://[::1]:9").unwrap().0.to_string(), "[::1]:9");
        for url in ["https://127.0.0.1:9200", "127.0.0.1:9200", "http://127.0.0.1:9200/x", "http://u:p@127.0.0.1:1"] {
            assert!(resolve(url).is_err(), "{url}");
        }
    }
}

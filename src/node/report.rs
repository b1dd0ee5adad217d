//! Statistics of a node: gathered from its cores, shown as JSON and as Prometheus text.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::machine_memory;
use crate::memory::NodeMemory;
use crate::stats::Snapshot;

/// HTTP counters of a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct HttpCounters {
    pub connections: u64,
    pub connections_total: u64,
    pub connections_refused: u64,
    pub connections_timed_out: u64,
    pub connections_moved: u64,
    pub requests: u64,
    pub requests_total: u64,
}

/// What one core tells.
#[derive(Clone, Debug, Default)]
pub struct CoreReport {
    /// Latency by stage.
    pub latency: Snapshot,
    /// HTTP.
    pub http: HttpCounters,
    /// Shards on it.
    pub shards: u64,
    /// Messages waiting for it.
    pub mailbox: u64,
    /// Calls to other cores it waits for.
    pub open_calls: u64,
}

/// What the node tells.
pub struct NodeReport {
    cores: Vec<(usize, CoreReport)>,
    latency: Snapshot,
    http: HttpCounters,
    indices: usize,
    memory: Arc<NodeMemory>,
    process: Process,
}

/// This process, as the kernel sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    resident_bytes: u64,
    virtual_bytes: u64,
    cpu_ms: u64,
    descriptors: u64,
    descriptors_max: u64,
}

impl Process {
    fn read() -> Process {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let statm = text("/proc/self/statm");
        let mut pages = statm.split(' ').map(|n| n.trim().parse::<u64>().unwrap_or(0));
        let page = rustix::param::page_size() as u64;
        let virtual_bytes = pages.next().unwrap_or(0) * page;
        let resident_bytes = pages.next().unwrap_or(0) * page;
        // Fields after the command, which may hold spaces: utime and stime are the 12th and 13th.
        let stat = text("/proc/self/stat");
        let ticks: u64 = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum())
            .unwrap_or(0);
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Process {
            resident_bytes,
            virtual_bytes,
            cpu_ms: ticks * 1000 / per_second,
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64),
            descriptors_max: limit.current.unwrap_or(u64::MAX),
        }
    }
}

impl NodeReport {
    /// Adds the cores up.
    #[must_use]
    pub fn new(cores: Vec<(usize, CoreReport)>, indices: usize, memory: &Arc<NodeMemory>) -> NodeReport {
        let mut latency = Snapshot::default();
        let mut http = HttpCounters::default();
        for (_, core) in &cores {
            latency.add(&core.latency);
            http.connections += core.http.connections;
            http.connections_total += core.http.connections_total;
            http.connections_refused += core.http.connections_refused;
            http.connections_timed_out += core.http.connections_timed_out;
            http.connections_moved += core.http.connections_moved;
            http.requests += core.http.requests;
            http.requests_total += core.http.requests_total;
        }
        NodeReport { cores, latency, http, indices, memory: Arc::clone(memory), process: Process::read() }
    }

    /// The sections of `_nodes/stats` that the node itself knows.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let process = &self.process;
        let total = machine_memory();
        let cores: Vec<Value> = self
            .cores
            .iter()
            .map(|(number, core)| {
                json!({
                    "core": number,
                    "shards": core.shards,
                    "mailbox": core.mailbox,
                    "open_calls": core.open_calls,
                    "connections": core.http.connections,
                    "requests": core.http.requests_total,
                })
            })
            .collect();
        json!({
            "process": {
                "open_file_descriptors": process.descriptors,
                "max_file_descriptors": process.descriptors_max,
                "cpu": { "total_in_millis": process.cpu_ms },
                "mem": {
                    "resident_in_bytes": process.resident_bytes,
                    "total_virtual_in_bytes": process.virtual_bytes,
                },
            },
            "os": { "mem": { "total_in_bytes": total } },
            "http": {
                "current_open": self.http.connections,
                "total_opened": self.http.connections_total,
                "refused": self.http.connections_refused,
                "timed_out": self.http.connections_timed_out,
                "moved": self.http.connections_moved,
                "requests": self.http.requests_total,
                "requests_in_flight": self.http.requests,
            },
            "cores": cores,
            "latency": self.latency.to_json(),
        })
    }

    /// The same for Prometheus.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        let mut single = |kind: &str, name: &str, help: &str, value: f64| {
            let _ = writeln!(out, "# HELP ringdex_{name} {help}\n# TYPE ringdex_{name} {kind}\nringdex_{name} {value}");
        };
        let (http, process) = (&self.http, &self.process);
        single("gauge", "http_connections", "Open HTTP connections.", http.connections as f64);
        single("counter", "http_connections_total", "HTTP connections ever.", http.connections_total as f64);
        single(
            "counter",
            "http_connections_refused_total",
            "Connections over the limit.",
            http.connections_refused as f64,
        );
        single(
            "counter",
            "http_connections_timed_out_total",
            "Connections that stalled.",
            http.connections_timed_out as f64,
        );
        let moved = http.connections_moved as f64;
        single("counter", "http_connections_moved_total", "Connections that went on on another core.", moved);
        single("gauge", "http_requests", "Requests in work.", http.requests as f64);
        single("counter", "http_requests_total", "Requests ever.", http.requests_total as f64);
        single("gauge", "indices", "Indices in the cluster state.", self.indices as f64);
        single("gauge", "memory_limit_bytes", "Memory budget.", self.memory.total as f64);
        single("gauge", "resident_memory_bytes", "Resident memory.", process.resident_bytes as f64);
        single("counter", "cpu_seconds_total", "CPU time.", process.cpu_ms as f64 / 1000.0);
        single("gauge", "open_fds", "Open file descriptors.", process.descriptors as f64);
        for (name, help) in [("core_shards", "Shards on the core."), ("core_mailbox", "Messages waiting for the core.")]
        {
            let _ = writeln!(out, "# HELP ringdex_{name} {help}\n# TYPE ringdex_{name} gauge");
            for (number, core) in &self.cores {
                let value = if name == "core_shards" { core.shards } else { core.mailbox };
                let _ = writeln!(out, "ringdex_{name}{{core=\"{number}\"}} {value}");
            }
        }
        let memory = &self.memory;
        let caches = [&memory.filter_cache, &memory.request_cache];
        let pools = [&memory.requests, &memory.writes, &memory.search, &memory.merges].into_iter().chain(caches);
        let mut parts: Vec<_> = pools.map(|p| (p.name(), p.limit(), p.used())).collect();
        parts.push(("indexing", memory.indexing.limit(), memory.indexing.used()));
        for (name, help) in [("limit", "Part of the memory budget."), ("used", "Bytes of it in use.")] {
            let _ = writeln!(
                out,
                "# HELP ringdex_memory_part_{name}_bytes {help}\n# TYPE ringdex_memory_part_{name}_bytes gauge"
            );
            for (part, limit, used) in &parts {
                let value = if name == "limit" { limit } else { used };
                let _ = writeln!(out, "ringdex_memory_part_{name}_bytes{{part=\"{part}\"}} {value}");
            }
        }
        self.latency.prometheus(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_added_up_and_every_line_is_prometheus() {
        let core = |n| CoreReport {
            http: HttpCounters { connections: n, requests_total: 10 * n, ..HttpCounters::default() },
            shards: n,
            ..CoreReport::default()
        };
        let report = NodeReport::new(vec![(0, core(1)), (1, core(2))], 5, &NodeMemory::new(1 << 30));
        let json = report.to_json();
        assert_eq!(json["http"]["current_open"], 3);
        assert_eq!(json["http"]["requests"], 30);
        assert_eq!(json["cores"][1]["shards"], 2);
        assert!(json["process"]["mem"]["resident_in_bytes"].as_u64() > Some(0));
        assert!(json["process"]["open_file_descriptors"].as_u64() > Some(2));
        let text = report.prometheus();
        assert!(text.contains("ringdex_http_requests_total 30\n"));
        assert!(text.contains("ringdex_core_shards{core=\"1\"} 2\n"));
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').expect("name and value");
            value.parse::<f64>().expect("a number");
        }
    }
}

//! What a node says of its machine and its process.

use serde_json::Value;

use crate::backend::SharedBackend;

/// Figures of the machine, from `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes free.
    pub memory_free: u64,
    /// Bytes of this process in memory.
    pub resident: u64,
    /// Bytes of those that are no file's.
    pub anonymous: u64,
    /// Bytes of its address space.
    pub virtual_size: u64,
    /// Load over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Open files.
    pub open_files: u64,
    /// Bytes of the data directory's file system.
    pub disk_total: u64,
    /// Bytes available there.
    pub disk_available: u64,
    /// CPU milliseconds this process has used.
    pub cpu_ms: u64,
}

impl Machine {
    /// Reads them; what cannot be read is 0.
    #[must_use]
    pub fn read(data: &std::path::Path) -> Machine {
        let mut machine = Machine::default();
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        for line in text("/proc/meminfo").lines() {
            let kib = || line.split_ascii_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024;
            if line.starts_with("MemTotal:") {
                machine.memory_total = kib();
            } else if line.starts_with("MemAvailable:") {
                machine.memory_free = kib();
            }
        }
        for (slot, word) in machine.load.iter_mut().zip(text("/proc/loadavg").split_ascii_whitespace()) {
            *slot = word.parse().unwrap_or(0.0);
        }
        let pages: Vec<u64> =
            text("/proc/self/statm").split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        machine.virtual_size = pages.first().copied().unwrap_or(0) * 4096;
        machine.resident = pages.get(1).copied().unwrap_or(0) * 4096;
        machine.anonymous = machine.resident.saturating_sub(pages.get(2).copied().unwrap_or(0) * 4096);
        let stat = text("/proc/self/stat");
        let after: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        let ticks = |at: usize| after.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        machine.cpu_ms = (ticks(11) + ticks(12)) * 10;
        machine.open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
        if let Ok(fs) = rustix::fs::statvfs(data) {
            machine.disk_total = fs.f_blocks * fs.f_frsize;
            machine.disk_available = fs.f_bavail * fs.f_frsize;
        }
        machine
    }

    /// Percentage of memory in use.
    #[must_use]
    pub fn memory_percent(&self) -> u64 {
        (self.memory_total - self.memory_free.min(self.memory_total)) * 100 / self.memory_total.max(1)
    }
}

/// Figures of a node, of whichever.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // the names say it
pub struct Figures {
    pub disk_total: u64,
    pub disk_available: u64,
    pub heap_used: u64,
    pub heap_max: u64,
    pub memory_total: u64,
    pub memory_free: u64,
    pub open_files: u64,
    pub files_max: u64,
    pub cpu_percent: u64,
    pub load: [f64; 3],
    pub uptime_ms: u64,
}

impl Figures {
    /// Of this node.
    #[must_use]
    pub fn own(backend: &SharedBackend) -> Figures {
        let machine = Machine::read(&backend.config().data);
        Figures {
            disk_total: machine.disk_total,
            disk_available: machine.disk_available.min(machine.disk_total),
            heap_used: machine.resident,
            heap_max: backend.config().memory,
            memory_total: machine.memory_total,
            memory_free: machine.memory_free.min(machine.memory_total),
            open_files: machine.open_files,
            files_max: max_files(),
            cpu_percent: cpu_percent(&machine, backend.node().cores),
            load: machine.load,
            uptime_ms: (backend.now_ms() - backend.node().start_ms).max(0) as u64,
        }
    }

    /// From a node's statistics of `os`, `process`, `jvm` and `fs`.
    #[must_use]
    pub fn told(stats: &Value) -> Figures {
        let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let load = |of: &str| stats["os"]["cpu"]["load_average"][of].as_f64().unwrap_or(0.0);
        Figures {
            disk_total: number("/fs/total/total_in_bytes"),
            disk_available: number("/fs/total/available_in_bytes"),
            heap_used: number("/jvm/mem/heap_used_in_bytes"),
            heap_max: number("/jvm/mem/heap_max_in_bytes"),
            memory_total: number("/os/mem/total_in_bytes"),
            memory_free: number("/os/mem/free_in_bytes"),
            open_files: number("/process/open_file_descriptors"),
            files_max: number("/process/max_file_descriptors"),
            cpu_percent: number("/os/cpu/percent"),
            load: ["1m", "5m", "15m"].map(load),
            uptime_ms: number("/jvm/uptime_in_millis"),
        }
    }

    /// Bytes of the disk in use.
    #[must_use]
    pub fn disk_used(&self) -> u64 {
        self.disk_total.saturating_sub(self.disk_available)
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.memory_total.saturating_sub(self.memory_free)
    }
}

/// The machine's load as a percentage of its cores.
#[must_use]
pub fn cpu_percent(machine: &Machine, cores: usize) -> u64 {
    ((machine.load[0] * 100.0 / cores.max(1) as f64) as u64).min(100)
}

/// The limit of open files.
#[must_use]
pub fn max_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

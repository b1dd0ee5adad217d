//! What this process has taken of the machine: time, memory, writes.

use std::time::Instant;

/// CPU seconds of the process so far, all threads.
pub fn cpu_s() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// A stopwatch of both clocks.
pub struct Watch(Instant, f64);

impl Watch {
    pub fn start() -> Watch {
        Watch(Instant::now(), cpu_s())
    }

    pub fn wall_s(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    pub fn cpu_s(&self) -> f64 {
        cpu_s() - self.1
    }
}

/// The number behind `name:` in a file of `/proc/self`; 0 where there is none.
fn number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Highest resident memory so far, mapped files included, MB.
pub fn peak_rss_mb() -> u64 {
    number("/proc/self/status", "VmHWM") / 1024
}

/// Resident memory beyond mapped files now, MB.
pub fn anonymous_mb() -> u64 {
    (number("/proc/self/status", "RssAnon") + number("/proc/self/status", "RssShmem")) / 1024
}

/// How often the scheduler took the core away, all threads that still run: other work on the core while something was timed.
pub fn preemptions() -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .map(|task| number(&task.path().join("status").to_string_lossy(), "nonvoluntary_ctxt_switches"))
        .sum()
}

/// Bytes that write calls were given so far (the page cache's included, io_uring's not).
#[cfg(feature = "tantivy")]
pub fn written_bytes() -> u64 {
    number("/proc/self/io", "wchar")
}

/// Bytes that the process has caused to be written to the disk so far, as the kernel counts them.
pub fn disk_bytes() -> u64 {
    number("/proc/self/io", "write_bytes")
}

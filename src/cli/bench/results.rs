//! Results of a bench, as its JSON file has them. Times are microseconds, rates are per second.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::record::Measured;

/// Version of the file's shape; another is refused.
pub(super) const VERSION: u32 = 1;

/// One invocation of the bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Results {
    /// [`VERSION`].
    pub(super) ringdex_bench: u32,
    pub(super) workload_name: String,
    /// When it began, RFC 3339.
    pub(super) started: String,
    pub(super) url: String,
    /// What the server says of itself: `version` and `name` of `GET /`.
    pub(super) server: serde_json::Value,
    pub(super) machine: BTreeMap<String, String>,
    pub(super) command: String,
    pub(super) seed: u64,
    pub(super) interval_s: f64,
    /// The workload file, whole.
    pub(super) workload: String,
    pub(super) runs: Vec<Run>,
    pub(super) ramps: Vec<Ramp>,
}

/// A phase, or a step of a ramp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) phase: String,
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    pub(super) kind: String,
    /// Step of a ramp: its rate. Otherwise none.
    pub(super) step: Option<f64>,
    /// Intended, of an open loop.
    pub(super) rate: Option<f64>,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) cores: Vec<usize>,
    pub(super) warmup_s: f64,
    /// Of the measured window.
    pub(super) seconds: f64,
    /// How much later than possible requests were sent: the load generator's own share.
    pub(super) lag: Summary,
    /// First error messages.
    pub(super) samples: Vec<String>,
    /// All together first, if there are several.
    pub(super) operations: Vec<Operation>,
}

/// One operation of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) name: String,
    /// Requests due in the window.
    pub(super) requests: u64,
    pub(super) intended_per_s: f64,
    /// Successes that arrived within the window.
    pub(super) achieved_per_s: f64,
    pub(super) documents_per_s: f64,
    /// Requests that failed.
    pub(super) failed: u64,
    /// By kind; of bulks also documents that were refused.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the intended send time.
    pub(super) latency: Summary,
    /// From the actual send time.
    pub(super) service: Summary,
    pub(super) intervals: Vec<Interval>,
    /// All latencies in nanoseconds: HdrHistogram V2, deflated, base64.
    pub(super) latency_histogram: String,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) mean_us: f64,
    pub(super) min_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) p99_99_us: f64,
    pub(super) max_us: f64,
}

/// An interval, by when answers arrived.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Interval {
    /// Since the begin of the measured window.
    pub(super) at_s: f64,
    /// Shorter than others at the end.
    pub(super) seconds: f64,
    pub(super) arrived: u64,
    pub(super) failed: u64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// What a ramp found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ramp {
    pub(super) phase: String,
    /// The highest rate within the bounds.
    pub(super) knee: Option<f64>,
    /// Why the next step was beyond them; none if every step was within.
    pub(super) broke: Option<String>,
}

/// Value at a quantile, µs.
pub(super) fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1e3 }
}

impl Summary {
    pub(super) fn of(histogram: &Histogram<u64>) -> Summary {
        if histogram.is_empty() {
            return Summary::default();
        }
        Summary {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            min_us: histogram.min() as f64 / 1e3,
            p50_us: quantile_us(histogram, 0.5),
            p90_us: quantile_us(histogram, 0.9),
            p99_us: quantile_us(histogram, 0.99),
            p99_9_us: quantile_us(histogram, 0.999),
            p99_99_us: quantile_us(histogram, 0.9999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

impl Operation {
    pub(super) fn of(name: &str, measured: &Measured, seconds: f64, intervals: Vec<Interval>) -> Operation {
        let per_s = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Operation {
            name: name.to_owned(),
            requests: measured.intended,
            intended_per_s: per_s(measured.intended),
            achieved_per_s: per_s(measured.arrived),
            documents_per_s: per_s(measured.documents_arrived),
            failed: measured.failed,
            errors: measured.errors.iter().map(|(failure, count)| (failure.to_string(), *count)).collect(),
            latency: Summary::of(&measured.latency),
            service: Summary::of(&measured.service),
            intervals,
            latency_histogram: packed(&measured.latency),
        }
    }

    /// The latencies; an error if the file was tampered with.
    pub(super) fn histogram(&self) -> Result<Histogram<u64>, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("operation [{}]: latency_histogram: {e}", self.name);
        let bytes = STANDARD.decode(&self.latency_histogram).map_err(|e| wrong(&e))?;
        Deserializer::new().deserialize(&mut &bytes[..]).map_err(|e| wrong(&format!("{e:?}")))
    }
}

impl Interval {
    pub(super) fn of(measured: &Measured, at_s: f64, seconds: f64) -> Interval {
        Interval {
            at_s,
            seconds,
            arrived: measured.arrived,
            failed: measured.failed,
            p50_us: quantile_us(&measured.latency, 0.5),
            p90_us: quantile_us(&measured.latency, 0.9),
            p99_us: quantile_us(&measured.latency, 0.99),
            max_us: measured.latency.max() as f64 / 1e3,
        }
    }
}

fn packed(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Into memory, of a histogram that is small: this does not fail.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a histogram in memory");
    STANDARD.encode(bytes)
}

impl Results {
    /// Reads a result file.
    pub(super) fn read(path: &std::path::Path) -> Result<Results, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("[{}]: {e}", path.display());
        let bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
        let results: Results = serde_json::from_slice(&bytes).map_err(|e| wrong(&e))?;
        if results.ringdex_bench != VERSION {
            return Err(wrong(&format!("version {}, not {VERSION}", results.ringdex_bench)));
        }
        Ok(results)
    }
}

impl Run {
    /// As people call it.
    pub(super) fn title(&self) -> String {
        match self.step {
            Some(rate) => format!("{} at {rate:.0}/s", self.phase),
            None => self.phase.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_file() {
        let mut measured = Measured::default();
        for ms in 1..=1000u64 {
            measured.latency.saturating_record(ms * 1_000_000);
        }
        let operation = Operation::of("x", &measured, 10.0, Vec::new());
        let text = serde_json::to_string(&operation).unwrap();
        let back: Operation = serde_json::from_str(&text).unwrap();
        let histogram = back.histogram().unwrap();
        assert_eq!(Summary::of(&histogram), operation.latency);
        assert!((operation.latency.p99_us / 990_000.0 - 1.0).abs() < 0.001, "{:?}", operation.latency);
        assert!(Operation { latency_histogram: "AAAA".into(), ..back }.histogram().is_err());
    }
}

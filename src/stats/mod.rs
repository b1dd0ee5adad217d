//! Latency of every stage, as whole histograms, one set per thread: recording takes no lock and no allocation.
//!
//! A thread is a core here, so the set lives in a thread local: anything that runs on a core calls [`record`] without
//! being handed anything. Reading gathers a [`Snapshot`] from every core (a message to each) and adds them up.

pub mod hot;
pub mod interval;
pub mod timeline;

use std::cell::RefCell;
use std::fmt::Write;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use interval::{Marks, Reading};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Nanoseconds a histogram can hold; longer is counted as this.
const LONGEST_NS: u64 = 3_600_000_000_000;

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Where time goes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Stage {
            $($(#[$doc])* $variant,)*
        }

        impl Stage {
            /// All of them.
            pub const ALL: &[Stage] = &[$(Stage::$variant,)*];

            /// As statistics name it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Stage::$variant => $name,)*
                }
            }
        }
    };
}

stages! {
    /// First byte of a request to the end of its head.
    HttpParse => "http_parse",
    /// A request as a whole, from the end of its head until its answer is ready.
    Request => "request",
    /// Finding what answers a request, and checking its parameters.
    Route => "route",
    /// Waiting for the pieces of a request's body.
    Body => "body",
    /// Understanding a request, sending its parts to shards, putting answers together: what is not a stage of its own.
    Coordinate => "coordinate",
    /// A message from one core until another starts on it.
    CoreHop => "core_hop",
    /// In a shard's queue: from the call until the shard starts on it.
    Queue => "queue",
    /// Parsing a document along the mapping.
    Parse => "parse",
    /// Planning a write, appending it to the translog's batch and analyzing it into the indexing buffer.
    Buffer => "buffer",
    /// Waiting for the batch to be durable.
    SyncWait => "fsync_wait",
    /// Waiting for the other copies to have it.
    Replicate => "replicate",
    /// Waiting to become visible (`refresh=wait_for`).
    RefreshWait => "refresh_wait",
    /// A refresh.
    Refresh => "refresh",
    /// A flush.
    Flush => "flush",
    /// A merge.
    Merge => "merge",
    /// A get.
    Get => "get",
    /// Query phase of one shard.
    Query => "query",
    /// Fetch phase of one shard.
    Fetch => "fetch",
    /// Putting the results of shards together.
    Reduce => "merge_result",
    /// Making the bytes of an answer.
    Serialise => "serialise",
    /// Handing an answer to the socket.
    WriteSocket => "write_socket",
    /// Persisting and publishing a cluster state.
    StateUpdate => "state_update",
}

/// Histograms of all stages, each made when its stage first happens.
#[derive(Debug)]
pub struct StageSet(Vec<Option<Box<Histogram<u64>>>>);

impl Default for StageSet {
    fn default() -> StageSet {
        StageSet(vec![None; Stage::ALL.len()])
    }
}

impl StageSet {
    /// Notes that `stage` took so long.
    pub fn record(&mut self, stage: Stage, ns: u64) {
        self.0[stage as usize].get_or_insert_with(|| Box::new(histogram())).saturating_record(ns.max(1));
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { stages: self.0.iter().map(|h| h.as_deref().cloned()).collect() }
    }
}

thread_local! {
    static CORE: RefCell<StageSet> = RefCell::default();
    static MARKS: RefCell<Marks> = RefCell::default();
}

fn histogram() -> Histogram<u64> {
    // Two digits: under 1 % off, 20 KiB each at most.
    Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("the bounds are constants")
}

/// Notes that `stage` took so long on this core.
pub fn record(stage: Stage, ns: u64) {
    CORE.with_borrow_mut(|core| core.record(stage, ns));
    timeline::note(stage, ns);
}

/// Notes that `stage` began at `since` and ends now.
pub fn record_since(stage: Stage, since: Instant) {
    record(stage, u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

/// Everything recorded on this core so far.
#[must_use]
pub fn snapshot() -> Snapshot {
    CORE.with_borrow(StageSet::snapshot)
}

/// What this core has recorded since the reading's begin.
#[must_use]
pub fn read(reading: &Reading) -> Snapshot {
    MARKS.with_borrow_mut(|marks| marks.read(snapshot(), reading))
}

/// Histograms of one core, or of several added up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Option<Bytes>>", into = "Vec<Option<Bytes>>")]
pub struct Snapshot {
    stages: Vec<Option<Histogram<u64>>>,
}

/// On the way to another node a histogram is what HdrHistogram's own serialisation makes of it.
impl From<Snapshot> for Vec<Option<Bytes>> {
    fn from(snapshot: Snapshot) -> Vec<Option<Bytes>> {
        let encode = |histogram: &Histogram<u64>| {
            let mut out = Vec::new();
            V2Serializer::new().serialize(histogram, &mut out).expect("a vector takes what is written");
            Bytes::from(out)
        };
        snapshot.stages.iter().map(|stage| stage.as_ref().map(encode)).collect()
    }
}

impl TryFrom<Vec<Option<Bytes>>> for Snapshot {
    type Error = String;

    fn try_from(stages: Vec<Option<Bytes>>) -> Result<Snapshot, String> {
        if stages.len() != Stage::ALL.len() {
            return Err(format!("{} stages, not {}", stages.len(), Stage::ALL.len()));
        }
        let decode = |bytes: Bytes| -> Result<Histogram<u64>, String> {
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).map_err(|e| e.to_string())?;
            let mut own = histogram();
            own.add(&read).map_err(|e| e.to_string())?;
            Ok(own)
        };
        let stages = stages.into_iter().map(|stage| stage.map(decode).transpose()).collect::<Result<_, _>>()?;
        Ok(Snapshot { stages })
    }
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot { stages: vec![None; Stage::ALL.len()] }
    }
}

impl Snapshot {
    /// Adds another core's.
    pub fn add(&mut self, other: &Snapshot) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_with(histogram).add(theirs).expect("all histograms have the same bounds");
            }
        }
    }

    /// What came after `before`, an earlier snapshot of the same histograms.
    #[must_use]
    pub fn since(mut self, before: Option<&Snapshot>) -> Snapshot {
        let Some(before) = before else { return self };
        for (mine, theirs) in self.stages.iter_mut().zip(&before.stages) {
            if let (Some(now), Some(before)) = (mine.as_mut(), theirs) {
                now.subtract(before).expect("a histogram only grows, within the same bounds");
                if now.is_empty() {
                    *mine = None;
                }
            }
        }
        self
    }

    /// `{"query":"HISTFAAAA..."}`: each stage's whole histogram, nanoseconds, as HdrHistogram's compressed V2 in base64.
    /// Those of several nodes can be added.
    #[must_use]
    pub fn to_hdr(&self) -> Value {
        let mut out = Map::new();
        for stage in Stage::ALL {
            let Some(h) = self.stage(*stage) else { continue };
            let mut bytes = Vec::new();
            V2DeflateSerializer::new().serialize(h, &mut bytes).expect("memory takes everything");
            out.insert(stage.name().into(), BASE64_STANDARD.encode(bytes).into());
        }
        Value::Object(out)
    }

    /// The histogram of a stage, if it ever happened.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<&Histogram<u64>> {
        self.stages[stage as usize].as_ref()
    }

    /// `{"query":{"count":..,"p50_us":..,...},...}`
    #[must_use]
    pub fn to_json(&self) -> Value {
        let us = |ns: u64| (ns as f64 / 1000.0 * 10.0).round() / 10.0;
        let mut out = Map::new();
        for stage in Stage::ALL {
            let Some(h) = self.stage(*stage) else { continue };
            let at = |quantile: f64| us(h.value_at_quantile(quantile));
            out.insert(
                stage.name().into(),
                json!({
                    "count": h.len(),
                    "mean_us": us(h.mean() as u64),
                    "p50_us": at(0.5),
                    "p90_us": at(0.9),
                    "p99_us": at(0.99),
                    "p99_9_us": at(0.999),
                    "p99_99_us": at(0.9999),
                    "max_us": us(h.max()),
                }),
            );
        }
        Value::Object(out)
    }

    /// Prometheus histograms, in seconds, with buckets at powers of two from a microsecond on.
    pub fn prometheus(&self, out: &mut String) {
        let name = "ringdex_stage_seconds";
        let _ = writeln!(out, "# HELP {name} Time spent per stage.\n# TYPE {name} histogram");
        for stage in Stage::ALL {
            let Some(h) = self.stage(*stage) else { continue };
            let stage = stage.name();
            let mut bound_ns = 1000;
            while bound_ns < LONGEST_NS / 32 {
                let count = h.count_between(0, bound_ns);
                let _ = writeln!(out, "{name}_bucket{{stage=\"{stage}\",le=\"{}\"}} {count}", bound_ns as f64 / 1e9);
                bound_ns *= 2;
            }
            let _ = writeln!(out, "{name}_bucket{{stage=\"{stage}\",le=\"+Inf\"}} {}", h.len());
            let _ = writeln!(out, "{name}_sum{{stage=\"{stage}\"}} {}", h.mean() * h.len() as f64 / 1e9);
            let _ = writeln!(out, "{name}_count{{stage=\"{stage}\"}} {}", h.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_core(values: std::ops::Range<u64>) -> Snapshot {
        std::thread::spawn(move || {
            values.for_each(|v| record(Stage::Query, v * 1000));
            snapshot()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn cores_add_up_to_what_one_core_would_have_seen() {
        let whole = on_a_core(1..1001);
        let mut sum = on_a_core(1..301);
        sum.add(&on_a_core(301..1001));
        sum.add(&Snapshot::default());
        assert_eq!(sum.to_json(), whole.to_json());
        let h = sum.stage(Stage::Query).unwrap();
        assert_eq!(h.len(), 1000);
        let p50 = h.value_at_quantile(0.5) as f64;
        assert!((p50 / 500_000.0 - 1.0).abs() < 0.01, "{p50}");
        assert!(sum.stage(Stage::Fetch).is_none());
    }

    #[test]
    fn prometheus_buckets_count_up_to_the_total() {
        let mut text = String::new();
        on_a_core(1..101).prometheus(&mut text);
        let counts: Vec<u64> = text
            .lines()
            .filter(|l| l.contains("_bucket{stage=\"query\""))
            .map(|l| l.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(counts.is_sorted(), "{counts:?}");
        assert_eq!(counts.last(), Some(&100));
        assert!(text.contains("ringdex_stage_seconds_count{stage=\"query\"} 100"));
    }

    #[test]
    fn absurd_times_are_clamped() {
        let snapshot = std::thread::spawn(|| {
            record(Stage::Get, 0);
            record(Stage::Get, u64::MAX);
            snapshot()
        })
        .join()
        .unwrap();
        assert_eq!(snapshot.stage(Stage::Get).unwrap().len(), 2);
    }
}

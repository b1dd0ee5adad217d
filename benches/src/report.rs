//! Times, and what is printed of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::job::{IndexOptions, Job, MergeOptions};
use crate::process::{self, Watch};

/// Bytes of the files in a directory that `wanted` accepts.
pub fn size_of(dir: &Path, wanted: impl Fn(&str) -> bool) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

/// What indexing took.
pub struct Indexed {
    pub docs: u64,
    pub input_bytes: u64,
    pub index_bytes: u64,
    pub refreshes: u64,
    pub segments: usize,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub more: Map<String, Value>,
}

impl Indexed {
    pub fn print(self, engine: &str, options: &IndexOptions) {
        let mut out = json!({
            "engine": engine, "op": options.op(), "docs": self.docs, "mb": self.input_bytes as f64 / 1e6,
            "wall_s": self.wall_s, "cpu_s": self.cpu_s,
            "docs_per_s": self.docs as f64 / self.wall_s, "docs_per_cpu_s": self.docs as f64 / self.cpu_s,
            "mb_per_cpu_s": self.input_bytes as f64 / 1e6 / self.cpu_s,
            "index_over_input": self.index_bytes as f64 / self.input_bytes as f64,
            "refreshes": self.refreshes, "segments": self.segments, "peak_rss_mb": process::peak_rss_mb(),
        });
        out.as_object_mut().expect("an object").extend(self.more);
        println!("{out}");
    }
}

/// What a merge of equal segments took.
pub struct Merged {
    pub docs: u64,
    pub input_bytes: u64,
    pub segment_bytes: u64,
    pub merged_bytes: u64,
    pub wall_s: f64,
    pub cpu_s: f64,
}

impl Merged {
    pub fn print(self, engine: &str, options: &MergeOptions) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{}",
            json!({
                "engine": engine, "op": "merge", "segments": options.segments, "docs": self.docs,
                "mb": mb(self.input_bytes), "segment_mb": mb(self.segment_bytes), "merged_mb": mb(self.merged_bytes),
                "wall_s": self.wall_s, "cpu_s": self.cpu_s,
                "docs_per_s": self.docs as f64 / self.wall_s, "docs_per_cpu_s": self.docs as f64 / self.cpu_s,
                "mb_per_cpu_s": mb(self.input_bytes) / self.cpu_s, "segment_mb_per_cpu_s": mb(self.segment_bytes) / self.cpu_s,
            })
        );
    }
}

/// What queries took.
pub struct Measured {
    groups: Value,
    wall_s: f64,
    cpu_s: f64,
    anonymous_mb: u64,
    preemptions: u64,
}

impl Measured {
    pub fn print(self, engine: &str, segments: usize) {
        println!(
            "{}",
            json!({"engine": engine, "op": "query", "segments": segments, "wall_s": self.wall_s, "cpu_s": self.cpu_s,
                "anonymous_mb": self.anonymous_mb, "preemptions": self.preemptions, "groups": self.groups})
        );
    }
}

/// Runs every query: some seconds warm, then measured rounds. `run` answers the hits.
pub fn measure(jobs: &[Job], reps: usize, warm_s: f64, mut run: impl FnMut(usize) -> u64) -> Measured {
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < warm_s {
        for i in 0..jobs.len() {
            run(i);
        }
    }
    let (watch, preemptions, mut anonymous_mb) = (Watch::start(), process::preemptions(), process::anonymous_mb());
    let mut times = vec![Vec::with_capacity(reps); jobs.len()];
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for rep in 0..reps {
        for (i, job) in jobs.iter().enumerate() {
            let began = Instant::now();
            let found = run(i);
            times[i].push(began.elapsed());
            if rep == 0 {
                *hits.entry(job.key()).or_default() += found;
            }
        }
        anonymous_mb = anonymous_mb.max(process::anonymous_mb());
    }
    let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
    let preemptions = process::preemptions() - preemptions;
    let mut groups: BTreeMap<String, Vec<&Vec<Duration>>> = BTreeMap::new();
    for (job, times) in jobs.iter().zip(&times) {
        groups.entry(job.key()).or_default().push(times);
    }
    let groups = groups.into_iter().map(|(key, queries)| {
        let mut all: Vec<f64> = queries.iter().flat_map(|q| q.iter().map(|t| t.as_secs_f64() * 1e6)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = |p: f64| round(all[((all.len() as f64 * p) as usize).min(all.len() - 1)]);
        let best = queries.iter().map(|q| q.iter().min().expect("a round").as_secs_f64() * 1e6).sum::<f64>();
        let figures = json!({
            "queries": queries.len(), "mean_us": round(all.iter().sum::<f64>() / all.len() as f64),
            "best_mean_us": round(best / queries.len() as f64),
            "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "hits": hits[&key],
        });
        (key, figures)
    });
    Measured { groups: Value::Object(groups.collect()), wall_s, cpu_s, anonymous_mb, preemptions }
}

/// Figures of gets.
pub fn gets(engine: &str, mut times: Vec<Duration>, bytes: u64) {
    times.sort_unstable();
    let us = |t: Duration| round(t.as_secs_f64() * 1e6);
    let at = |p: f64| us(times[((times.len() as f64 * p) as usize).min(times.len() - 1)]);
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    println!(
        "{}",
        json!({"engine": engine, "op": "get", "n": times.len(), "mean_us": us(mean), "p50_us": at(0.5), "p99_us": at(0.99), "bytes": bytes})
    );
}

fn round(us: f64) -> f64 {
    (us * 100.0).round() / 100.0
}

//! Indexing on several cores: one executor a core, one shard an executor, documents dealt out in turn.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use glommio::Placement;
use serde_json::json;

use super::index::Shard;
use super::{ENGINE, Outcome, executor};
use crate::corpus::Lines;
use crate::job::{IndexOptions, ScaleOptions};
use crate::process::Watch;

/// The corpus in memory, so that no core waits for another's file.
struct Held {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Held {
    fn read(corpus: &Path, limit: u64) -> std::io::Result<Held> {
        let mut lines = Lines::open(corpus)?;
        let mut held = Held { text: Vec::new(), ends: vec![0] };
        while (held.len() as u64) < limit {
            let Some(line) = lines.next()? else { break };
            held.text.extend_from_slice(line);
            held.ends.push(held.text.len());
        }
        Ok(held)
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn line(&self, i: usize) -> &[u8] {
        &self.text[self.ends[i]..self.ends[i + 1]]
    }
}

/// Indexes all documents on `cores` cores; seconds on the wall until every shard has committed.
fn fill(held: &Arc<Held>, dir: &Path, cores: usize, options: &IndexOptions) -> Result<f64, String> {
    let start = Arc::new(Barrier::new(cores));
    let threads: Vec<_> = (0..cores)
        .map(|core| {
            let (held, start, options) = (held.clone(), start.clone(), options.clone());
            let dir = dir.join(format!("shard-{core}"));
            std::thread::spawn(move || {
                let filled = executor(Placement::Fixed(core), async {
                    let mut shard = Shard::create(&dir, &options).await?;
                    start.wait();
                    let began = Instant::now();
                    for i in (core..held.len()).step_by(cores) {
                        shard.put(held.line(i)).await?;
                    }
                    shard.finish().await?;
                    Ok::<f64, super::Failure>(began.elapsed().as_secs_f64())
                });
                filled.and_then(|f| f).map_err(|e| e.to_string())
            })
        })
        .collect();
    let mut slowest = 0.0f64;
    for thread in threads {
        slowest = slowest.max(thread.join().map_err(|_| "a core panicked")??);
    }
    Ok(slowest)
}

pub fn scale(corpus: &Path, dir: &Path, options: &ScaleOptions) -> Outcome {
    let held = Arc::new(Held::read(corpus, options.index.limit)?);
    let mut best: Vec<(usize, f64, f64)> = Vec::new();
    // The numbers of cores take turns, so that other work on the machine falls on all alike.
    for _ in 0..options.rounds {
        for &cores in &options.cores {
            let watch = Watch::start();
            let wall_s = fill(&held, dir, cores, &options.index)?;
            let cpu_s = watch.cpu_s();
            std::fs::remove_dir_all(dir)?;
            match best.iter_mut().find(|b| b.0 == cores) {
                Some(known) => (known.1, known.2) = (known.1.min(wall_s), known.2.min(cpu_s)),
                None => best.push((cores, wall_s, cpu_s)),
            }
        }
    }
    let docs = held.len() as f64;
    let runs: Vec<_> = best
        .iter()
        .map(|(cores, wall_s, cpu_s)| {
            json!({"cores": cores, "wall_s": wall_s, "cpu_s": cpu_s, "docs_per_s": docs / wall_s, "docs_per_cpu_s": docs / cpu_s,
                "busy": cpu_s / wall_s / *cores as f64, "times_first": best[0].1 / wall_s, "cpu_over_first": cpu_s / best[0].2})
        })
        .collect();
    println!(
        "{}",
        json!({"engine": ENGINE, "op": "scale", "docs": held.len(), "rounds": options.rounds, "runs": runs})
    );
    Ok(())
}

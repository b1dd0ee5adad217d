//! Merges beside indexing: on a thread of their own, one at a time, as a shard's maintenance thread does them.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ringdex_engine::ids::SegmentId;
use ringdex_engine::merge::merger::Merged;
use ringdex_engine::merge::policy::{MergeCandidate, TieredMergePolicy};
use ringdex_engine::merging::MergeJob;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::store::Directory;
use ringdex_engine::store::ledger::{Ledger, Purpose};
use serde_json::{Map, Value, json};

use super::{Outcome, ShardEngine, directory, on_executor};

/// A merge that has begun.
struct Running {
    target: SegmentId,
    name: String,
    live: Vec<Option<Arc<LiveDocs>>>,
    input_bytes: u64,
    began: Instant,
}

/// The thread, and what merges did.
pub struct Merges {
    jobs: Sender<MergeJob>,
    results: Receiver<Result<Merged, String>>,
    running: Option<Running>,
    /// The policy is asked.
    wanted: bool,
    count: u64,
    input_bytes: u64,
    time: Duration,
}

impl Merges {
    /// Starts the thread. It inherits the core of its maker.
    pub fn start(path: &Path, written: &Arc<Ledger>, wanted: bool) -> Merges {
        let (jobs, waiting) = channel::<MergeJob>();
        let (done, results) = channel();
        let (path, written) = (path.to_owned(), written.clone());
        std::thread::spawn(move || {
            for job in waiting {
                let merged = on_executor(async {
                    let directory = directory(&path, &written, Purpose::Merges).await?;
                    Ok::<Merged, Box<dyn std::error::Error>>(job.run(&directory, &Unpaced).await?)
                });
                let merged = merged.and_then(|m| m).map_err(|e| e.to_string());
                if done.send(merged).is_err() {
                    return;
                }
            }
        });
        Merges { jobs, results, running: None, wanted, count: 0, input_bytes: 0, time: Duration::ZERO }
    }

    /// Swaps in what is done, and begins what the policy wants next. Never waits for a merge.
    pub async fn turn(&mut self, engine: &ShardEngine) -> Outcome {
        if self.running.is_some() {
            let Ok(merged) = self.results.try_recv() else { return Ok(()) };
            self.swap_in(engine, merged).await?;
        }
        if !self.wanted {
            return Ok(());
        }
        if let Some(candidate) = TieredMergePolicy::default().find_merges(&engine.segment_sizes()).first() {
            self.begin(engine, candidate);
        }
        Ok(())
    }

    /// Everything that the policy wants.
    pub async fn settle(&mut self, engine: &ShardEngine) -> Outcome {
        self.finish(engine).await?;
        loop {
            self.turn(engine).await?;
            if self.running.is_none() {
                return Ok(());
            }
            self.finish(engine).await?;
        }
    }

    /// One merge, from its choice to its place in the shard.
    pub async fn run(&mut self, engine: &ShardEngine, candidate: &MergeCandidate) -> Outcome {
        self.finish(engine).await?;
        self.begin(engine, candidate);
        self.finish(engine).await
    }

    fn begin(&mut self, engine: &ShardEngine, candidate: &MergeCandidate) {
        let Some(job) = engine.begin_merge(candidate) else { return };
        self.running = Some(Running {
            target: job.target,
            name: job.name.clone(),
            live: job.sources.iter().map(|s| s.live.clone()).collect(),
            input_bytes: job.input_bytes,
            began: Instant::now(),
        });
        self.jobs.send(job).expect("the thread lives as long as this");
    }

    /// Waits for the running merge, if there is one.
    async fn finish(&mut self, engine: &ShardEngine) -> Outcome {
        if self.running.is_none() {
            return Ok(());
        }
        let merged = self.results.recv()?;
        self.swap_in(engine, merged).await
    }

    async fn swap_in(&mut self, engine: &ShardEngine, merged: Result<Merged, String>) -> Outcome {
        let running = self.running.take().expect("only a running merge has a result");
        let merged = merged?;
        let bytes = match merged.meta {
            Some(_) => Some(engine.directory().map(&running.name).await?),
            None => None,
        };
        engine.finish_merge(running.target, &running.live, &merged.maps, bytes).await?;
        self.count += 1;
        self.input_bytes += running.input_bytes;
        self.time += running.began.elapsed();
        Ok(())
    }

    pub fn figures(&self) -> Map<String, Value> {
        let mut figures = Map::new();
        figures.insert("merges".to_owned(), json!(self.count));
        figures.insert("merge_input_mb".to_owned(), json!(self.input_bytes as f64 / 1e6));
        figures.insert("merge_wall_s".to_owned(), json!(self.time.as_secs_f64()));
        figures
    }
}

//! Indexing as a shard does it: translog synced per bulk request, refreshes, images, merges beside it, a commit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::engine::IndexOperation;
use ringdex_engine::ids::PrimaryTerm;
use ringdex_engine::mapping::Mapping;
use ringdex_engine::merge::policy::{MergeCandidate, TieredMergePolicy};
use ringdex_engine::pace::Unpaced;
use ringdex_engine::store::ledger::{Ledger, Purpose};
use ringdex_engine::write::plan::Condition;
use serde_json::{Map, Value, json};

use super::merging::Merges;
use super::{ENGINE, Failure, Outcome, ShardEngine, mapping, now_ms, on_executor, open};
use crate::corpus::Lines;
use crate::job::{IndexOptions, MergeOptions};
use crate::process::{self, Watch};
use crate::report::{self, Indexed, Merged};

/// A shard being filled.
pub struct Shard {
    pub engine: ShardEngine,
    mapping: Mapping,
    merges: Merges,
    written: Arc<Ledger>,
    options: IndexOptions,
    parsed: ParsedDocument,
    docs: u64,
    refreshes: u64,
    refreshed: Instant,
    refresh_time: Duration,
    image_time: Duration,
    anonymous_mb: u64,
}

impl Shard {
    /// An empty one, in place of what `dir` has.
    pub async fn create(dir: &Path, options: &IndexOptions) -> Result<Shard, Failure> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let written = Arc::<Ledger>::default();
        Ok(Shard {
            engine: open(dir, &written).await?,
            mapping: mapping()?,
            merges: Merges::start(dir, &written, !options.no_merge),
            written,
            options: options.clone(),
            parsed: ParsedDocument::default(),
            docs: 0,
            refreshes: 0,
            refreshed: Instant::now(),
            refresh_time: Duration::ZERO,
            image_time: Duration::ZERO,
            anonymous_mb: 0,
        })
    }

    /// Indexes a document; its id is the number of those before it. Syncs, refreshes and merges as they fall due.
    pub async fn put(&mut self, source: &[u8]) -> Outcome {
        let id = self.docs.to_string();
        document::parse(&self.mapping, &id, source, &mut self.parsed)?;
        self.engine.translog().reserve(source.len() + 64).await?;
        let operation =
            IndexOperation { id: &id, routing: None, source, condition: Condition::Any, create: false, auto_id: false };
        self.engine.index(&self.mapping, &self.parsed, &operation, PrimaryTerm(1))?;
        self.docs += 1;
        if self.docs.is_multiple_of(self.options.bulk) {
            self.engine.sync().await?;
            if self.engine.translog().wants_next() {
                self.engine.translog().prepare_next().await?;
            }
            if self.engine.wants_packing() {
                self.engine.prepare_packing(&Unpaced).await?;
            }
            self.anonymous_mb = self.anonymous_mb.max(process::anonymous_mb());
            self.merges.turn(&self.engine).await?;
        }
        let interval = Duration::from_millis(self.options.refresh_ms);
        let due = !interval.is_zero() && self.docs.is_multiple_of(64) && self.refreshed.elapsed() >= interval;
        if due || self.engine.buffer_bytes() >= self.options.heap_mb << 20 {
            self.refresh().await?;
        }
        Ok(())
    }

    /// Makes everything so far searchable, and makes sure that it is.
    pub async fn refresh(&mut self) -> Outcome {
        self.anonymous_mb = self.anonymous_mb.max(process::anonymous_mb());
        let began = Instant::now();
        self.engine.refresh(now_ms(), &Unpaced).await?;
        self.refreshed = Instant::now();
        self.refresh_time += began.elapsed();
        self.check_visible()?;
        let began = Instant::now();
        self.engine.write_images().await?;
        self.image_time += began.elapsed();
        self.refreshes += 1;
        self.merges.turn(&self.engine).await
    }

    /// A searcher opened now finds every document, the last one by its id, too.
    fn check_visible(&self) -> Outcome {
        let searcher = self.engine.searcher();
        let live = searcher.segments.iter().map(|s| s.live.as_ref().map_or(s.reader.doc_count(), |l| l.live_count()));
        let visible: u64 = live.map(u64::from).sum();
        let last = self.docs.checked_sub(1).map_or(Ok(None), |id| searcher.find_id(&id.to_string()))?;
        if visible != self.docs || last.is_none() && self.docs > 0 {
            return Err(format!("{visible} of {} documents are searchable after a refresh", self.docs).into());
        }
        Ok(())
    }

    /// Commits, does the merges that are due, and commits their results.
    pub async fn finish(&mut self) -> Outcome {
        self.engine.flush(false, now_ms(), &Unpaced).await?;
        self.merges.settle(&self.engine).await?;
        if self.options.force_merge {
            let policy = TieredMergePolicy::default();
            while let Some(candidate) = policy.find_forced_merges(&self.engine.segment_sizes(), 1).first() {
                self.merges.run(&self.engine, candidate).await?;
            }
        }
        self.engine.flush(true, now_ms(), &Unpaced).await?;
        self.check_visible()
    }
}

pub fn index(corpus: &Path, dir: &Path, options: &IndexOptions) -> Outcome {
    on_executor(async {
        let mut lines = Lines::open(corpus)?;
        let mut shard = Shard::create(dir, options).await?;
        let (watch, disk, preemptions) = (Watch::start(), process::disk_bytes(), process::preemptions());
        while shard.docs < options.limit {
            let Some(source) = lines.next()? else { break };
            shard.put(source).await?;
        }
        shard.finish().await?;
        let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
        let index_bytes = report::size_of(dir, |name| name.ends_with(".seg") || name.starts_with("commit"))?;
        let mut more = Map::new();
        more.insert("refresh_wall_s".to_owned(), json!(shard.refresh_time.as_secs_f64()));
        more.insert("image_wall_s".to_owned(), json!(shard.image_time.as_secs_f64()));
        more.insert("disk_mb".to_owned(), json!((process::disk_bytes() - disk) as f64 / 1e6));
        more.insert("peak_anonymous_mb".to_owned(), json!(shard.anonymous_mb));
        more.insert("preemptions".to_owned(), json!(process::preemptions() - preemptions));
        more.extend(shard.merges.figures());
        more.extend(figures(&shard.written, index_bytes));
        let segments = shard.engine.segment_sizes().len();
        let (docs, refreshes) = (shard.docs, shard.refreshes);
        Indexed { docs, input_bytes: lines.bytes, index_bytes, refreshes, segments, wall_s, cpu_s, more }
            .print(ENGINE, options);
        Ok(())
    })?
}

/// Equal segments, then one merge of them to one, timed with the commit that shows it.
pub fn merge(corpus: &Path, dir: &Path, options: &MergeOptions) -> Outcome {
    on_executor(async {
        let mut lines = Lines::open(corpus)?;
        let mut shard = Shard::create(dir, &options.unmerged()).await?;
        for _ in 0..options.segments {
            for _ in 0..options.docs {
                let Some(source) = lines.next()? else { return Err("the corpus has too few documents".into()) };
                shard.put(source).await?;
            }
            shard.refresh().await?;
            shard.engine.flush(false, now_ms(), &Unpaced).await?;
        }
        let sizes = shard.engine.segment_sizes();
        assert!(sizes.len() as u64 == options.segments, "one segment per flush");
        let candidate = MergeCandidate { segments: sizes.iter().map(|s| s.id).collect() };
        let segment_bytes = sizes.iter().map(|s| s.size_bytes).sum();
        let watch = Watch::start();
        shard.merges.run(&shard.engine, &candidate).await?;
        shard.engine.flush(true, now_ms(), &Unpaced).await?;
        let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
        shard.check_visible()?;
        assert!(shard.engine.segment_sizes().len() == 1, "one segment is left");
        let merged_bytes = shard.engine.segment_sizes()[0].size_bytes;
        Merged { docs: shard.docs, input_bytes: lines.bytes, segment_bytes, merged_bytes, wall_s, cpu_s }
            .print(ENGINE, options);
        Ok(())
    })?
}

/// What was written, beside an index of this size.
fn figures(written: &Ledger, index_bytes: u64) -> Map<String, Value> {
    let bytes = |purpose| written.flow(purpose).written_bytes;
    let (segments, merges) = (bytes(Purpose::Segments), bytes(Purpose::Merges));
    let (translog, other) = (bytes(Purpose::Translog), bytes(Purpose::Other));
    let times = |bytes: u64| bytes as f64 / index_bytes.max(1) as f64;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let figures = json!({
        "segments_mb": mb(segments), "merges_mb": mb(merges), "translog_mb": mb(translog), "other_mb": mb(other),
        "write_amplification": times(segments + merges + translog + other),
        "write_amplification_index": times(segments + merges + other),
    });
    let Value::Object(figures) = figures else { unreachable!("an object was made") };
    figures
}

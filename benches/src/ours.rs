//! The job done by the engine, as a shard does it: translog synced per bulk request, refreshes, images, merges, a commit.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::engine::{Engine, EngineConfig, IndexOperation};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::merge::policy::{MergeCandidate, TieredMergePolicy};
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Bound, MatchKind, Query, QueryKind, TextOptions, Value};
use ringdex_engine::search::aggs::{AggKind, AggRequest, HistogramRequest, Metric, TermsRequest, ValuesSource};
use ringdex_engine::search::{IndexContext, Missing, SearchRequest, SortBy, SortKey, TrackTotalHits, execute};
use ringdex_engine::seed::HashSeed;
use ringdex_engine::store::Directory;
use ringdex_engine::store::dma::DmaDirectory;
use ringdex_engine::write::plan::Condition;
use serde_json::{Map, json};

use crate::job::{self, Draw, IndexOptions, Job, QueryOptions, WEEK_MS};
use crate::report::{self, Indexed, Watch};

type Outcome = Result<(), Box<dyn Error>>;

const ENGINE: &str = "ringdex";
const TERM: ringdex_engine::ids::PrimaryTerm = ringdex_engine::ids::PrimaryTerm(1);

/// Runs `job` on an executor of this thread, which a heartbeat keeps from sleeping on runnable tasks.
fn on_executor<T>(job: impl Future<Output = T>) -> Result<T, Box<dyn Error>> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).make()?;
    Ok(executor.run(async {
        for beat in [5, 50] {
            glommio::spawn_local(async move {
                loop {
                    glommio::timer::sleep(Duration::from_millis(beat)).await;
                }
            })
            .detach();
        }
        job.await
    }))
}

fn mapping() -> Result<Mapping, Box<dyn Error>> {
    Ok(Mapping::parse(&job::mapping(), &AnalyzerRegistry::default())?)
}

async fn open(dir: &Path) -> Result<Engine<DmaDirectory>, Box<dyn Error>> {
    let directory = DmaDirectory::open(dir).await?;
    let config = EngineConfig {
        shard_uuid: [7; 16],
        codec: Default::default(),
        translog_generation_bytes: 64 << 20,
        hash_seed: HashSeed::new(1),
    };
    Ok(Engine::open(directory, config).await?)
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// What merges did.
#[derive(Default)]
struct Merges {
    count: u64,
    bytes: u64,
    time: Duration,
}

impl Merges {
    async fn run(&mut self, engine: &Engine<DmaDirectory>, candidate: &MergeCandidate) -> Outcome {
        let Some(job) = engine.begin_merge(candidate) else { return Ok(()) };
        let began = Instant::now();
        let live: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
        let merged = job.run(engine.directory()).await?;
        let bytes = match merged.meta {
            Some(_) => Some(engine.directory().map(&job.name).await?),
            None => None,
        };
        engine.finish_merge(job.target, &live, &merged.maps, bytes).await?;
        self.count += 1;
        self.bytes += job.input_bytes;
        self.time += began.elapsed();
        Ok(())
    }

    /// Everything that the policy wants.
    async fn settle(&mut self, engine: &Engine<DmaDirectory>) -> Outcome {
        let policy = TieredMergePolicy::default();
        while let Some(candidate) = policy.find_merges(&engine.segment_sizes()).first() {
            self.run(engine, candidate).await?;
        }
        Ok(())
    }
}

pub fn index(corpus: &Path, dir: &Path, options: &IndexOptions) -> Outcome {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    on_executor(async {
        let mapping = mapping()?;
        let mut lines = BufReader::with_capacity(1 << 20, File::open(corpus)?);
        let engine = open(dir).await?;
        let watch = Watch::start();
        let (mut parsed, mut line) = (ParsedDocument::default(), Vec::new());
        let (mut docs, mut input_bytes, mut refreshes) = (0u64, 0u64, 0u64);
        let mut merges = Merges::default();
        let mut last_refresh = Instant::now();
        while docs < options.limit {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            input_bytes += line.len() as u64;
            let source = line.trim_ascii_end();
            let id = docs.to_string();
            document::parse(&mapping, &id, source, &mut parsed)?;
            engine.translog().reserve(source.len() + 64).await?;
            let operation = IndexOperation {
                id: &id,
                routing: None,
                source,
                condition: Condition::Any,
                create: false,
                auto_id: false,
            };
            engine.index(&mapping, &parsed, &operation, TERM)?;
            docs += 1;
            if docs.is_multiple_of(options.bulk) {
                engine.sync().await?;
                if engine.translog().wants_next() {
                    engine.translog().prepare_next().await?;
                }
            }
            let due = options.refresh_ms > 0
                && docs.is_multiple_of(64)
                && last_refresh.elapsed() >= Duration::from_millis(options.refresh_ms);
            if due || engine.buffer_bytes() >= options.heap_mb << 20 {
                engine.refresh(now_ms(), &Unpaced).await?;
                engine.write_images().await?;
                refreshes += 1;
                merges.settle(&engine).await?;
                last_refresh = Instant::now();
            }
        }
        engine.flush(false, now_ms(), &Unpaced).await?;
        let commit_s = watch.wall_s();
        merges.settle(&engine).await?;
        if options.force_merge {
            let policy = TieredMergePolicy::default();
            while let Some(candidate) = policy.find_forced_merges(&engine.segment_sizes(), 1).first() {
                merges.run(&engine, candidate).await?;
            }
        }
        engine.flush(true, now_ms(), &Unpaced).await?;
        let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
        let mut more = Map::new();
        more.insert("merges".to_owned(), json!(merges.count));
        more.insert("merge_mb".to_owned(), json!(merges.bytes / 1_000_000));
        more.insert("merge_s".to_owned(), json!(merges.time.as_secs_f64()));
        let segments = engine.segment_sizes().len();
        let index_bytes = report::size_of(dir, |name| !name.starts_with("translog"))?;
        Indexed { docs, input_bytes, index_bytes, refreshes, segments, commit_s, wall_s, cpu_s, more }.print(ENGINE);
        Ok(())
    })?
}

pub fn query(dir: &Path, queries: &Path, options: &QueryOptions) -> Outcome {
    let jobs = job::load(queries, &options.only)?;
    let mapping = mapping()?;
    let requests: Vec<SearchRequest> = jobs.iter().map(request).collect();
    on_executor(async {
        let engine = open(dir).await?;
        let searcher = engine.searcher();
        let context = IndexContext::default();
        let watch = Watch::start();
        let groups = report::measure(&jobs, options.reps, options.warm_s, |i| {
            let found = execute::query(&searcher, &mapping, &context, &requests[i], &Unpaced);
            let found = now(found).expect("a query of the job");
            match jobs[i].collect.as_str() {
                "count" => found.total,
                "agg" if !found.aggs.is_empty() => found.aggs.len() as u64,
                _ => found.hits.len() as u64,
            }
        });
        println!(
            "{}",
            json!({"engine": ENGINE, "op": "query", "segments": searcher.segments.len(), "wall_s": watch.wall_s(),
                "cpu_s": watch.cpu_s(), "groups": groups})
        );
        Ok(())
    })?
}

fn term(field: &str, value: &str) -> Query {
    let value = Value::String(value.to_owned());
    Query::from(QueryKind::Term { field: field.to_owned(), value, case_insensitive: false })
}

fn boolean(must: Vec<Query>, filter: Vec<Query>, should: Vec<Query>) -> Query {
    Query::from(QueryKind::Bool { must, filter, should, must_not: Vec::new(), minimum_should_match: None })
}

/// What a job is for the engine, as the DSL would give it.
fn request(job: &Job) -> SearchRequest {
    let words = || job.words().into_iter().map(|w| term("body", w)).collect::<Vec<Query>>();
    let base = || match job.args[0].as_str() {
        "*" => Query::from(QueryKind::MatchAll),
        word => term("body", word),
    };
    let number = |at: usize| Value::Int(job.args[at].parse().expect("a date"));
    let (mut sort, mut agg) = (Vec::new(), None);
    // Ten by count, as tantivy's defaults.
    let terms = |field: &str| AggKind::Terms(TermsRequest::new(ValuesSource::field(field)));
    let query = match job.kind.as_str() {
        "term" => base(),
        "and" => boolean(words(), Vec::new(), Vec::new()),
        "or" => boolean(Vec::new(), Vec::new(), words()),
        "phrase" => Query::from(QueryKind::Match {
            field: "body".to_owned(),
            text: Value::String(job.args[0].clone()),
            kind: MatchKind::Phrase,
            options: TextOptions::default(),
        }),
        "range" => {
            let range = QueryKind::Range {
                field: "ts".to_owned(),
                lower: Some(Bound { value: number(1), inclusive: true }),
                upper: Some(Bound { value: number(2), inclusive: false }),
                format: None,
                time_zone: None,
            };
            boolean(vec![base()], vec![range.into()], Vec::new())
        }
        "filt" => boolean(vec![base()], vec![term("pkg", &job.args[1])], Vec::new()),
        "agg_pkg" => {
            agg = Some(terms("pkg"));
            base()
        }
        "agg_dir" => {
            agg = Some(terms("dir"));
            base()
        }
        "hist" => {
            agg = Some(AggKind::Histogram(HistogramRequest {
                source: ValuesSource::field("ts"),
                interval: WEEK_MS as f64,
                offset: 0.0,
                min_doc_count: 0,
                extended_bounds: None,
                hard_bounds: None,
                order: Vec::new(),
                keyed: false,
            }));
            base()
        }
        "stats" => {
            agg = Some(AggKind::Metric { metric: Metric::Stats, source: ValuesSource::field("pop") });
            base()
        }
        "sort" => {
            let by = SortBy::Field {
                field: "ts".to_owned(),
                mode: None,
                missing: Missing::Last,
                unmapped_type: None,
                format: None,
            };
            sort.push(SortKey { by, descending: true });
            base()
        }
        kind => panic!("unknown kind {kind}"),
    };
    SearchRequest {
        query: Some(query),
        post_filter: None,
        top: match job.collect.as_str() {
            "top10" => 10,
            "top1000" => 1000,
            "agg" if agg.is_none() => 10,
            _ => 0,
        },
        sort,
        search_after: None,
        track_total_hits: if job.collect == "count" { TrackTotalHits::All } else { TrackTotalHits::None },
        track_scores: false,
        rescore: Vec::new(),
        min_score: None,
        terminate_after: None,
        aggs: agg
            .into_iter()
            .map(|kind| AggRequest { name: "a".to_owned(), kind, subs: Vec::new(), meta: None })
            .collect(),
        now_ms: 0,
        statistics: None,
    }
}

pub fn get(dir: &Path, count: u64) -> Outcome {
    on_executor(async {
        let engine = open(dir).await?;
        let docs: u64 = engine.segment_sizes().iter().map(|s| u64::from(s.doc_count)).sum();
        let (mut times, mut bytes) = (Vec::with_capacity(count as usize), 0);
        for pass in 0..2 {
            let mut draw = Draw::new();
            for _ in 0..count {
                let id = draw.below(docs).to_string();
                let began = Instant::now();
                let found = engine.get(&id)?.ok_or("a document is missing")?;
                if pass == 1 {
                    times.push(began.elapsed());
                    bytes += found.source.len() as u64;
                }
            }
        }
        report::gets(ENGINE, times, bytes);
        Ok(())
    })?
}

/// The value of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

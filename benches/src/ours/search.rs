//! Queries and gets, and what a line of the query file is for the engine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ringdex_engine::budget::Pool;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Bound, Fuzziness, MatchKind, Query, QueryKind, TextOptions, Value};
use ringdex_engine::search::aggs::{AggKind, AggRequest, HistogramRequest, Metric, TermsRequest, ValuesSource};
use ringdex_engine::search::{
    FilterCache, IndexContext, Missing, SearchRequest, SortBy, SortKey, TrackTotalHits, execute,
};
use ringdex_engine::seed::HashSeed;

use super::{ENGINE, Outcome, mapping, on_executor, open};
use crate::job::{self, Draw, FUZZY_EXPANSIONS, Job, QueryOptions, WEEK_MS};
use crate::report;

pub fn query(dir: &Path, queries: &[PathBuf], options: &QueryOptions) -> Outcome {
    let jobs = job::load(queries, &options.only)?;
    let mapping = mapping()?;
    let requests: Vec<SearchRequest> = jobs.iter().map(request).collect();
    on_executor(async {
        let engine = open(dir, &Default::default()).await?;
        let searcher = engine.searcher();
        let cache = || FilterCache::new(Pool::new("filter_cache", 256 << 20), 10_000, HashSeed::new(0));
        let context = IndexContext { filter_cache: options.filter_cache.then(cache), ..IndexContext::default() };
        let measured = report::measure(&jobs, options.reps, options.warm_s, |i| {
            let found = execute::query(&searcher, &mapping, &context, &requests[i], &Unpaced);
            let found = now(found).expect("a query of the job");
            match jobs[i].collect.as_str() {
                "count" => found.total,
                "agg" if !found.aggs.is_empty() => found.aggs.len() as u64,
                _ => found.hits.len() as u64,
            }
        });
        measured.print(ENGINE, searcher.segments.len());
        if let Some(cache) = &context.filter_cache {
            eprintln!("{cache:?}");
        }
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
pub fn request(job: &Job) -> SearchRequest {
    let words = || job.words().into_iter().map(|w| term("body", w)).collect::<Vec<Query>>();
    let base = || match job.args[0].as_str() {
        "*" => Query::from(QueryKind::MatchAll),
        word => term("body", word),
    };
    let number = |at: usize| Value::Int(job.args[at].parse().expect("a date"));
    let by = |field: &str, descending: bool| {
        let field = field.to_owned();
        let by = SortBy::Field { field, mode: None, missing: Missing::Last, unmapped_type: None, format: None };
        SortKey { by, descending }
    };
    let (mut sort, mut agg) = (Vec::new(), None);
    // Ten by count, as tantivy's defaults.
    let terms = |field: &str| AggKind::Terms(TermsRequest::new(ValuesSource::field(field)));
    let query = match job.kind.as_str() {
        "term" => base(),
        "and" => boolean(words(), Vec::new(), Vec::new()),
        "or" => boolean(Vec::new(), Vec::new(), words()),
        "mixed" => {
            let should = job.args[1].split(' ').map(|w| term("body", w)).collect();
            boolean(words(), Vec::new(), should)
        }
        "prefix" => {
            let (field, value) = ("body".to_owned(), job.args[0].clone());
            QueryKind::Prefix { field, value, case_insensitive: false }.into()
        }
        "wild" => {
            let (field, value) = ("body".to_owned(), job.args[0].clone());
            QueryKind::Wildcard { field, value, case_insensitive: false }.into()
        }
        "fuzzy" => {
            let fuzziness = Fuzziness {
                edits: Some(job.args[1].parse().expect("edits")),
                auto_low: 3,
                auto_high: 6,
                prefix_length: job.args[2].parse().expect("a length"),
                max_expansions: FUZZY_EXPANSIONS,
                transpositions: true,
            };
            QueryKind::Fuzzy { field: "body".to_owned(), value: Value::String(job.args[0].clone()), fuzziness }.into()
        }
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
            sort.push(by("ts", true));
            base()
        }
        "sort_pkg" => {
            sort.push(by("pkg", false));
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
        let engine = open(dir, &Default::default()).await?;
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
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

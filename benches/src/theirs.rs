//! The job done by tantivy: the same analysis as near as its default tokenizer gets, `_source` stored, columns for what is
//! sorted and aggregated.

use std::borrow::Cow;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, json};
use tantivy::aggregation::{AggregationCollector, agg_req::Aggregations};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{AllQuery, BooleanQuery, ConstScoreQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value as _,
};
use tantivy::{DocSet, Index, IndexReader, IndexWriter, Order, ReloadPolicy, TERMINATED, TantivyDocument, Term};

use crate::job::{self, Draw, IndexOptions, Job, QueryOptions, WEEK_MS};
use crate::report::{self, Indexed, Watch};

type Outcome = Result<(), Box<dyn Error>>;

const ENGINE: &str = "tantivy";

/// One passage.
#[derive(Deserialize)]
struct Passage<'a> {
    #[serde(borrow)]
    title: Cow<'a, str>,
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow)]
    pkg: Cow<'a, str>,
    #[serde(borrow)]
    dir: Cow<'a, str>,
    words: i64,
    bytes: i64,
    pop: f64,
    ts: i64,
}

fn schema() -> Schema {
    let mut schema = Schema::builder();
    let text = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(text);
    let exact = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let exact = TextOptions::default().set_indexing_options(exact);
    schema.add_text_field("id", exact.clone());
    schema.add_text_field("title", text.clone());
    schema.add_text_field("body", text);
    schema.add_text_field("pkg", exact.clone().set_fast("raw"));
    schema.add_text_field("dir", exact.set_fast("raw"));
    for name in ["words", "bytes", "ts"] {
        schema.add_i64_field(name, INDEXED | FAST);
    }
    schema.add_f64_field("pop", INDEXED | FAST);
    schema.add_bytes_field("_source", STORED);
    schema.build()
}

pub fn index(corpus: &Path, dir: &Path, options: &IndexOptions) -> Outcome {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let schema = schema();
    let field = |name: &str| schema.get_field(name);
    let (id, title, body, pkg, directory) =
        (field("id")?, field("title")?, field("body")?, field("pkg")?, field("dir")?);
    let (words, size, pop, ts, source) =
        (field("words")?, field("bytes")?, field("pop")?, field("ts")?, field("_source")?);
    let index = Index::create_in_dir(dir, schema.clone())?;
    let mut writer: IndexWriter = index.writer_with_num_threads(1, options.heap_mb << 20)?;
    let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
    let mut lines = BufReader::with_capacity(1 << 20, File::open(corpus)?);
    let mut line = Vec::new();
    let watch = Watch::start();
    let (mut docs, mut input_bytes, mut refreshes) = (0u64, 0u64, 0u64);
    let mut last_refresh = Instant::now();
    while docs < options.limit {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        input_bytes += line.len() as u64;
        let json = line.trim_ascii_end();
        let passage: Passage<'_> = serde_json::from_slice(json)?;
        let mut document = TantivyDocument::new();
        document.add_text(id, docs.to_string());
        document.add_text(title, &passage.title);
        document.add_text(body, &passage.body);
        document.add_text(pkg, &passage.pkg);
        document.add_text(directory, &passage.dir);
        document.add_i64(words, passage.words);
        document.add_i64(size, passage.bytes);
        document.add_f64(pop, passage.pop);
        document.add_i64(ts, passage.ts);
        document.add_bytes(source, json);
        writer.add_document(document)?;
        docs += 1;
        let due = options.refresh_ms > 0
            && docs.is_multiple_of(64)
            && last_refresh.elapsed() >= Duration::from_millis(options.refresh_ms);
        if due {
            writer.commit()?;
            reader.reload()?;
            refreshes += 1;
            last_refresh = Instant::now();
        }
    }
    writer.commit()?;
    let commit_s = watch.wall_s();
    writer.wait_merging_threads()?;
    if options.force_merge {
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 32 << 20)?;
        writer.merge(&index.searchable_segment_ids()?).wait()?;
        writer.wait_merging_threads()?;
    }
    let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
    let writer: IndexWriter = index.writer_with_num_threads(1, 32 << 20)?;
    writer.garbage_collect_files().wait()?;
    let segments = index.searchable_segments()?.len();
    let index_bytes = report::size_of(dir, |_| true)?;
    Indexed { docs, input_bytes, index_bytes, refreshes, segments, commit_s, wall_s, cpu_s, more: Map::new() }
        .print(ENGINE);
    Ok(())
}

struct Fields {
    body: Field,
    pkg: Field,
    ts: Field,
}

/// What a job is for tantivy.
enum Search {
    Top(Box<dyn Query>, usize),
    Count(Box<dyn Query>),
    Aggregate(Box<dyn Query>, Aggregations),
    Sort(Box<dyn Query>),
}

impl Fields {
    fn term(&self, word: &str, option: IndexRecordOption) -> Box<dyn Query> {
        Box::new(TermQuery::new(Term::from_field_text(self.body, word), option))
    }

    fn search(&self, job: &Job) -> Result<Search, Box<dyn Error>> {
        let scored = job.collect.starts_with("top");
        let option = if scored { IndexRecordOption::WithFreqs } else { IndexRecordOption::Basic };
        let words = job.words();
        let terms = |occur: Occur| words.iter().map(|w| (occur, self.term(w, option))).collect::<Vec<_>>();
        let base = || -> Box<dyn Query> {
            if job.args[0] == "*" { Box::new(AllQuery) } else { self.term(words[0], IndexRecordOption::Basic) }
        };
        let filtered = |filter: Box<dyn Query>| -> Box<dyn Query> {
            let filter = Box::new(ConstScoreQuery::new(filter, 0.0));
            Box::new(BooleanQuery::new(vec![(Occur::Must, self.term(words[0], option)), (Occur::Must, filter)]))
        };
        let aggregate = |json: serde_json::Value| -> Result<Search, Box<dyn Error>> {
            Ok(Search::Aggregate(base(), serde_json::from_value(json!({ "a": json }))?))
        };
        let query: Box<dyn Query> = match job.kind.as_str() {
            "term" => self.term(words[0], option),
            "and" => Box::new(BooleanQuery::new(terms(Occur::Must))),
            "or" => Box::new(BooleanQuery::new(terms(Occur::Should))),
            "phrase" => Box::new(PhraseQuery::new(words.iter().map(|w| Term::from_field_text(self.body, w)).collect())),
            "range" => {
                let date = |at: usize| Ok::<_, Box<dyn Error>>(Term::from_field_i64(self.ts, job.args[at].parse()?));
                filtered(Box::new(RangeQuery::new(Bound::Included(date(1)?), Bound::Excluded(date(2)?))))
            }
            "filt" => {
                let pkg = Term::from_field_text(self.pkg, &job.args[1]);
                filtered(Box::new(TermQuery::new(pkg, IndexRecordOption::Basic)))
            }
            "agg_pkg" => return aggregate(json!({"terms": {"field": "pkg", "size": 10}})),
            "agg_dir" => return aggregate(json!({"terms": {"field": "dir", "size": 10}})),
            "hist" => return aggregate(json!({"histogram": {"field": "ts", "interval": WEEK_MS}})),
            "stats" => return aggregate(json!({"stats": {"field": "pop"}})),
            "sort" => return Ok(Search::Sort(base())),
            kind => return Err(format!("unknown kind {kind}").into()),
        };
        Ok(match job.collect.as_str() {
            "top10" => Search::Top(query, 10),
            "top1000" => Search::Top(query, 1000),
            _ => Search::Count(query),
        })
    }
}

pub fn query(dir: &Path, queries: &Path, options: &QueryOptions) -> Outcome {
    let jobs = job::load(queries, &options.only)?;
    let index = Index::open_in_dir(dir)?;
    let schema = index.schema();
    let fields = Fields { body: schema.get_field("body")?, pkg: schema.get_field("pkg")?, ts: schema.get_field("ts")? };
    let searches = jobs.iter().map(|job| fields.search(job)).collect::<Result<Vec<Search>, _>>()?;
    let searcher = index.reader()?.searcher();
    let watch = Watch::start();
    let groups = report::measure(&jobs, options.reps, options.warm_s, |i| {
        let found = match &searches[i] {
            Search::Top(query, n) => {
                searcher.search(query, &TopDocs::with_limit(*n).order_by_score()).map(|hits| hits.len() as u64)
            }
            Search::Count(query) => searcher.search(query, &Count).map(|n| n as u64),
            Search::Aggregate(query, aggs) => {
                let collector = AggregationCollector::from_aggs(aggs.clone(), Default::default());
                searcher.search(query, &collector).map(|found| found.0.len() as u64)
            }
            Search::Sort(query) => {
                let top = TopDocs::with_limit(10).order_by_fast_field::<i64>("ts", Order::Desc);
                searcher.search(query, &top).map(|hits| hits.len() as u64)
            }
        };
        found.expect("a query of the job")
    });
    println!(
        "{}",
        json!({"engine": ENGINE, "op": "query", "segments": searcher.segment_readers().len(), "wall_s": watch.wall_s(),
            "cpu_s": watch.cpu_s(), "groups": groups})
    );
    Ok(())
}

pub fn get(dir: &Path, count: u64) -> Outcome {
    let index = Index::open_in_dir(dir)?;
    let schema = index.schema();
    let (id, source) = (schema.get_field("id")?, schema.get_field("_source")?);
    let searcher = index.reader()?.searcher();
    let stores = searcher
        .segment_readers()
        .iter()
        .map(|s| Ok((s.inverted_index(id)?, s.get_store_reader(100)?)))
        .collect::<tantivy::Result<Vec<_>>>()?;
    let docs = searcher.num_docs();
    let (mut times, mut bytes) = (Vec::with_capacity(count as usize), 0);
    for pass in 0..2 {
        let mut draw = Draw::new();
        for _ in 0..count {
            let key = draw.below(docs).to_string();
            let began = Instant::now();
            let term = Term::from_field_text(id, &key);
            let mut found = 0;
            for (inverted, store) in &stores {
                let Some(postings) = inverted.read_postings(&term, IndexRecordOption::Basic)? else { continue };
                if postings.doc() != TERMINATED {
                    let document: TantivyDocument = store.get(postings.doc())?;
                    found = document.get_first(source).and_then(|v| v.as_bytes()).map_or(0, <[u8]>::len);
                    break;
                }
            }
            if pass == 1 {
                times.push(began.elapsed());
                bytes += found as u64;
            }
        }
    }
    report::gets(ENGINE, times, bytes);
    Ok(())
}

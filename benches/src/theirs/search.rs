//! Queries and gets, and what a line of the query file is for tantivy.
//!
//! Not quite the same: `fuzzy` has no prefix that must be equal, does not stop at fifty terms and scores every match alike,
//! where Elasticsearch weighs near terms; `prefix` and `wild` are regular expressions, scored alike by both.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use tantivy::aggregation::{AggregationCollector, agg_req::Aggregations};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{
    AllQuery, BooleanQuery, ConstScoreQuery, FuzzyTermQuery, Occur, PhraseQuery, Query, RangeQuery, RegexQuery,
    TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption, Value as _};
use tantivy::{DocSet, Index, Order, TERMINATED, TantivyDocument, Term};

use super::{ENGINE, Failure, Outcome};
use crate::job::{self, Draw, Job, QueryOptions, WEEK_MS};
use crate::report;

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
    Newest(Box<dyn Query>),
    ByPackage(Box<dyn Query>),
}

impl Fields {
    fn term(&self, word: &str, option: IndexRecordOption) -> Box<dyn Query> {
        Box::new(TermQuery::new(Term::from_field_text(self.body, word), option))
    }

    fn search(&self, job: &Job) -> Result<Search, Failure> {
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
        let aggregate = |json: serde_json::Value| -> Result<Search, Failure> {
            Ok(Search::Aggregate(base(), serde_json::from_value(json!({ "a": json }))?))
        };
        let query: Box<dyn Query> = match job.kind.as_str() {
            "term" => self.term(words[0], option),
            "and" => Box::new(BooleanQuery::new(terms(Occur::Must))),
            "or" => Box::new(BooleanQuery::new(terms(Occur::Should))),
            "phrase" => Box::new(PhraseQuery::new(words.iter().map(|w| Term::from_field_text(self.body, w)).collect())),
            "range" => {
                let date = |at: usize| Ok::<_, Failure>(Term::from_field_i64(self.ts, job.args[at].parse()?));
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
            "mixed" => {
                let mut clauses = terms(Occur::Must);
                clauses.extend(job.args[1].split(' ').map(|w| (Occur::Should, self.term(w, option))));
                Box::new(BooleanQuery::new(clauses))
            }
            "prefix" => Box::new(RegexQuery::from_pattern(&format!("{}.*", job.args[0]), self.body)?),
            "wild" => {
                let pattern = job.args[0].replace('*', ".*").replace('?', ".");
                Box::new(RegexQuery::from_pattern(&pattern, self.body)?)
            }
            "fuzzy" => Box::new(FuzzyTermQuery::new(
                Term::from_field_text(self.body, &job.args[0]),
                job.args[1].parse()?,
                true,
            )),
            "sort" => return Ok(Search::Newest(base())),
            "sort_pkg" => return Ok(Search::ByPackage(base())),
            kind => return Err(format!("unknown kind {kind}").into()),
        };
        Ok(match job.collect.as_str() {
            "top10" => Search::Top(query, 10),
            "top1000" => Search::Top(query, 1000),
            _ => Search::Count(query),
        })
    }
}

pub fn query(dir: &Path, queries: &[PathBuf], options: &QueryOptions) -> Outcome {
    let jobs = job::load(queries, &options.only)?;
    let index = Index::open_in_dir(dir)?;
    let schema = index.schema();
    let fields = Fields { body: schema.get_field("body")?, pkg: schema.get_field("pkg")?, ts: schema.get_field("ts")? };
    let searches = jobs.iter().map(|job| fields.search(job)).collect::<Result<Vec<Search>, _>>()?;
    let searcher = index.reader()?.searcher();
    let measured = report::measure(&jobs, options.reps, options.warm_s, |i| {
        let found = match &searches[i] {
            Search::Top(query, n) => {
                searcher.search(query, &TopDocs::with_limit(*n).order_by_score()).map(|hits| hits.len() as u64)
            }
            Search::Count(query) => searcher.search(query, &Count).map(|n| n as u64),
            Search::Aggregate(query, aggs) => {
                let collector = AggregationCollector::from_aggs(aggs.clone(), Default::default());
                searcher.search(query, &collector).map(|found| found.0.len() as u64)
            }
            Search::Newest(query) => {
                let top = TopDocs::with_limit(10).order_by_fast_field::<i64>("ts", Order::Desc);
                searcher.search(query, &top).map(|hits| hits.len() as u64)
            }
            Search::ByPackage(query) => {
                let top = TopDocs::with_limit(10).order_by_string_fast_field("pkg", Order::Asc);
                searcher.search(query, &top).map(|hits| hits.len() as u64)
            }
        };
        found.expect("a query of the job")
    });
    measured.print(ENGINE, searcher.segment_readers().len());
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

//! The engine's answers against those of a scan: counts, the best documents with their scores to the last bit, buckets,
//! and sorted order, ties included.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};

use ringdex_engine::pace::Unpaced;
use ringdex_engine::search::aggs::AggPartial;
use ringdex_engine::search::aggs::partial::TermKey;
use ringdex_engine::search::{IndexContext, QueryResult, Searcher, execute};
use serde_json::json;

use crate::brute::Corpus;
use crate::job::{self, Job, WEEK_MS};
use crate::ours;

/// Buckets that a shard gives of a `terms` of ten.
const SHARD_BUCKETS: usize = 25;

/// Where the index has each document of the corpus.
struct Places {
    /// Document of the corpus by segment and document in it.
    docs: Vec<Vec<u32>>,
    /// Position in index order by document of the corpus.
    positions: Vec<u32>,
}

impl Places {
    /// Every document must be there, once.
    fn of(searcher: &Searcher, count: u32) -> Result<Places, Box<dyn Error>> {
        let mut places = Places { docs: Vec::new(), positions: vec![u32::MAX; count as usize] };
        let mut position = 0;
        for view in searcher.segments.iter() {
            let mut docs = Vec::new();
            for doc in 0..view.reader.doc_count() {
                let id: u32 = view.reader.id(doc).parse()?;
                let place = places.positions.get_mut(id as usize).ok_or("a document that the corpus does not have")?;
                if *place != u32::MAX {
                    return Err(format!("document {id} is there twice").into());
                }
                *place = position;
                position += 1;
                docs.push(id);
            }
            places.docs.push(docs);
        }
        if position != count {
            return Err(format!("the index has {position} documents, the corpus {count}").into());
        }
        Ok(places)
    }
}

/// Runs the check. An error if anything differs.
pub fn verify(
    corpus: &Path,
    queries: &[PathBuf],
    dir: &Path,
    per_group: usize,
    only: &str,
) -> Result<(), Box<dyn Error>> {
    if !dir.exists() {
        ours::index::index(corpus, dir, &Default::default())?;
    }
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut jobs = job::load(queries, only)?;
    jobs.retain(|job| {
        let n = taken.entry(job.key()).or_default();
        *n += 1;
        *n <= per_group
    });
    let truth = Corpus::read(corpus)?;
    let mapping = ours::mapping()?;
    ours::on_executor(async {
        let engine = ours::open(dir, &Default::default()).await?;
        let searcher = engine.searcher();
        let places = Places::of(&searcher, truth.len())?;
        let context = IndexContext::default();
        let mut checked: BTreeMap<String, u64> = BTreeMap::new();
        let mut differences = 0u64;
        // The same matches serve every way to collect them.
        let mut scanned: HashMap<String, Vec<(u32, f32)>> = HashMap::new();
        jobs.sort_by_key(|job| (job.kind.clone(), job.args.clone()));
        for job in &jobs {
            let key = format!("{} {}", job.kind, job.args.join("\t"));
            if !scanned.contains_key(&key) {
                scanned.clear();
                scanned.insert(key.clone(), truth.matches(job)?);
            }
            let found = ours::search::now(execute::query(
                &searcher,
                &mapping,
                &context,
                &ours::search::request(job),
                &Unpaced,
            ))?;
            if let Err(difference) = check(job, &found, &scanned[&key], &truth, &places) {
                differences += 1;
                eprintln!("{} {}: {difference}", job.key(), job.args.join(" | "));
            }
            *checked.entry(job.key()).or_default() += 1;
        }
        println!(
            "{}",
            json!({"engine": "ringdex", "op": "verify", "docs": truth.len(), "segments": searcher.segments.len(),
                "queries": jobs.len(), "differences": differences, "groups": checked})
        );
        if differences > 0 { Err(format!("{differences} answers differ").into()) } else { Ok(()) }
    })?
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} and not {wanted:?}")) }
}

fn check(job: &Job, found: &QueryResult, truth: &[(u32, f32)], corpus: &Corpus, places: &Places) -> Result<(), String> {
    let hits: Vec<u32> = found.hits.iter().map(|h| places.docs[h.doc.segment as usize][h.doc.doc as usize]).collect();
    let position = |doc: u32| places.positions[doc as usize];
    let docs = || truth.iter().map(|(doc, _)| *doc);
    match (job.collect.as_str(), job.kind.as_str()) {
        ("count", _) => same("count", (found.total, found.total_exact), (truth.len() as u64, true)),
        ("agg", "agg_pkg") => check_terms(found, docs().map(|d| corpus.packages[d as usize].as_str())),
        ("agg", "agg_dir") => check_terms(found, docs().map(|d| corpus.dirs[d as usize].as_str())),
        ("agg", "hist") => {
            let mut wanted: BTreeMap<i64, u64> = BTreeMap::new();
            docs().for_each(|d| *wanted.entry(corpus.ts[d as usize].div_euclid(WEEK_MS)).or_default() += 1);
            let [AggPartial::Histogram(histogram)] = &found.aggs[..] else { return Err("no histogram".to_owned()) };
            let buckets: Vec<(i64, u64)> = histogram.buckets.iter().map(|(key, b)| (*key, b.doc_count)).collect();
            same("buckets", buckets, wanted.into_iter().collect())
        }
        ("agg", "stats") => {
            let values: Vec<f64> = docs().map(|d| corpus.pop[d as usize]).collect();
            let [AggPartial::Stats(stats)] = &found.aggs[..] else { return Err("no stats".to_owned()) };
            same("count", stats.count, values.len() as u64)?;
            same("min", stats.min, values.iter().copied().reduce(f64::min))?;
            same("max", stats.max, values.iter().copied().reduce(f64::max))?;
            // Values are positive, so a plain sum is right to the number of them times the last bit.
            let (sum, wanted) = (stats.sum.value(), values.iter().sum::<f64>());
            let off = (sum - wanted).abs() / wanted.abs().max(1.0);
            if off < 1e-10 { Ok(()) } else { Err(format!("sum: {sum} and not {wanted}")) }
        }
        ("agg", "sort") => {
            let mut wanted: Vec<u32> = docs().collect();
            wanted.sort_unstable_by_key(|&d| (std::cmp::Reverse(corpus.ts[d as usize]), position(d)));
            wanted.truncate(10);
            same("order", hits, wanted)
        }
        ("agg", "sort_pkg") => {
            let mut wanted: Vec<u32> = docs().collect();
            wanted.sort_unstable_by_key(|&d| (corpus.packages[d as usize].as_str(), position(d)));
            wanted.truncate(10);
            same("order", hits, wanted)
        }
        ("top10" | "top1000", _) => {
            let top = if job.collect == "top10" { 10 } else { 1000 };
            let mut wanted: Vec<(u32, f32)> = truth.to_vec();
            wanted.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(position(a.0).cmp(&position(b.0))));
            wanted.truncate(top);
            let found: Vec<(u32, f32)> = hits.into_iter().zip(found.hits.iter().map(|h| h.score)).collect();
            same("hits", found.len(), wanted.len())?;
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                same(
                    &format!("hit {i}"),
                    (found.0, found.1.to_bits(), found.1),
                    (wanted.0, wanted.1.to_bits(), wanted.1),
                )?;
            }
            Ok(())
        }
        (collect, kind) => Err(format!("nobody knows how to check {collect} of {kind}")),
    }
}

/// The most frequent keys with their exact counts, and how many documents are in the others.
fn check_terms<'a>(found: &QueryResult, keys: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    let mut wanted: Vec<(&str, u64)> = counts.into_iter().collect();
    wanted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let others: u64 = wanted.iter().skip(SHARD_BUCKETS).map(|w| w.1).sum();
    wanted.truncate(SHARD_BUCKETS);
    wanted.sort_unstable();
    let [AggPartial::Terms(terms)] = &found.aggs[..] else { return Err("no terms".to_owned()) };
    let mut buckets = Vec::new();
    for bucket in &terms.buckets {
        let TermKey::String(key) = &bucket.key else { return Err(format!("key {:?}", bucket.key)) };
        buckets.push((key.as_str(), bucket.doc_count));
    }
    same("buckets", buckets, wanted)?;
    same("other documents", terms.other_doc_count, others)
}

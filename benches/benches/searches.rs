//! Searches of one segment of 50,000 documents in memory; with the feature `tantivy`, the same ones there, under the same names.

mod fixture;
#[cfg(feature = "tantivy")]
mod peer;

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{Fields, HOSTS, all_of, documents, mapping, request, search, searcher, segment, term};
use ringdex_engine::query::{MatchKind, Query, QueryKind, TextOptions, Value};
use ringdex_engine::search::aggs::{AggKind, AggPartial, AggRequest, TermsRequest, ValuesSource};
use ringdex_engine::search::{IndexContext, Missing, SearchRequest, SortBy, SortKey, SortValue};

const DOCS: u64 = 50_000;
const TOP: usize = 10;
/// In two of five documents, and in one of sixteen.
const WORDS: [&str; 2] = ["word10", "word100"];
/// Side by side in one of eight documents.
const PHRASE: [&str; 2] = ["word1", "word2"];

/// What is looked for in `body`.
#[derive(Clone, Copy)]
enum Wanted {
    Term(&'static str),
    All([&'static str; 2]),
    Any([&'static str; 2]),
    Phrase([&'static str; 2]),
}

const WANTED: [(Wanted, &str); 4] = [
    (Wanted::Term(WORDS[0]), "term"),
    (Wanted::All(WORDS), "and-2"),
    (Wanted::Any(WORDS), "or-2"),
    (Wanted::Phrase(PHRASE), "phrase-2"),
];

impl Wanted {
    fn query(self) -> Query {
        match self {
            Wanted::Term(word) => term("body", word),
            Wanted::All(words) => all_of(words.map(|word| term("body", word)).into(), Vec::new()),
            Wanted::Any(words) => {
                let (must, should) = (Vec::new(), words.map(|word| term("body", word)).into());
                let (filter, must_not) = (Vec::new(), Vec::new());
                QueryKind::Bool { must, filter, should, must_not, minimum_should_match: None }.into()
            }
            Wanted::Phrase(words) => {
                let (field, text) = ("body".to_owned(), Value::String(words.join(" ")));
                QueryKind::Match { field, text, kind: MatchKind::Phrase, options: TextOptions::default() }.into()
            }
        }
    }

    /// By looking at the text.
    fn matches(self, document: &Fields) -> bool {
        let body: Vec<&str> = document.body.split(' ').collect();
        match self {
            Wanted::Term(word) => body.contains(&word),
            Wanted::All(words) => words.iter().all(|word| body.contains(word)),
            Wanted::Any(words) => words.iter().any(|word| body.contains(word)),
            Wanted::Phrase(words) => body.windows(2).any(|two| two == words),
        }
    }
}

/// What a scan of the documents gives.
struct Expected {
    /// Documents that match each of `WANTED`.
    matches: [u64; WANTED.len()],
    /// Documents of the most frequent host.
    most: u64,
    newest: Vec<i64>,
}

impl Expected {
    fn of(documents: &[Fields]) -> Expected {
        let count = |wanted: Wanted| documents.iter().filter(|d| wanted.matches(d)).count() as u64;
        let mut hosts = BTreeMap::new();
        documents.iter().for_each(|d| *hosts.entry(&d.host).or_default() += 1);
        let mut newest: Vec<i64> = documents.iter().map(|d| d.date).collect();
        newest.sort_unstable_by_key(|date| -date);
        newest.truncate(TOP);
        assert!(hosts.len() as u64 == HOSTS, "every host is drawn");
        Expected { matches: WANTED.map(|(w, _)| count(w)), most: *hosts.values().max().expect("a host"), newest }
    }
}

fn searches(c: &mut Criterion) {
    let documents: Vec<_> = documents(DOCS).map(|source| Fields::of(&source)).collect();
    let expected = Expected::of(&documents);
    ours(c, &expected);
    #[cfg(feature = "tantivy")]
    peer::searches(c, &documents, &expected);
}

fn ours(c: &mut Criterion, expected: &Expected) {
    let searcher = searcher(segment(0..DOCS).into());
    let (mapping, context) = (mapping(), IndexContext::default());
    let search = |request: &SearchRequest| search(&searcher, &mapping, &context, request);
    let mut group = c.benchmark_group("search");
    for ((wanted, name), matches) in WANTED.into_iter().zip(expected.matches) {
        assert!(search(&request(wanted.query(), 0)).total == matches, "{name}: every match is counted");
        let request = request(wanted.query(), TOP);
        assert!(search(&request).hits.len() == TOP, "{name}: there are enough hits");
        group.bench_function(format!("{name}/top-10"), |b| b.iter(|| search(&request)));
    }

    let everything = || request(QueryKind::MatchAll.into(), 0);
    let kind = AggKind::Terms(TermsRequest::new(ValuesSource::field("host")));
    let aggs = vec![AggRequest { name: "hosts".to_owned(), kind, subs: Vec::new(), meta: None }];
    let request = SearchRequest { aggs, ..everything() };
    let found = search(&request);
    let [AggPartial::Terms(terms)] = &found.aggs[..] else { panic!("another aggregation") };
    let counts = || terms.buckets.iter().map(|bucket| bucket.doc_count);
    assert!(counts().max() == Some(expected.most), "the most frequent host is found");
    assert!(counts().sum::<u64>() + terms.other_doc_count == DOCS, "every document is counted");
    group.bench_function("terms-aggregation/all", |b| b.iter(|| search(&request)));

    let (field, missing) = ("date".to_owned(), Missing::Last);
    let by = SortBy::Field { field, mode: None, missing, unmapped_type: None, format: None };
    let request = SearchRequest {
        sort: vec![SortKey { by, descending: true }],
        ..fixture::request(QueryKind::MatchAll.into(), TOP)
    };
    let newest: Vec<_> = expected.newest.iter().map(|&date| vec![SortValue::Int(date)]).collect();
    assert!(search(&request).hits.into_iter().map(|hit| hit.sort).eq(newest), "the newest documents are found");
    group.bench_function("sort-by-date/top-10", |b| b.iter(|| search(&request)));
    group.finish();
}

criterion_group!(benches, searches);
criterion_main!(benches);

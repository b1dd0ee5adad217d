//! Walking and intersecting postings lists of a segment of 200,000 documents.

mod fixture;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{mapping, now, segment};
use ringdex_engine::ids::NO_MORE_DOCS;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Query, QueryKind, Value};
use ringdex_engine::search::{IndexContext, SearchRequest, Searcher, SegmentView, TrackTotalHits, execute};
use ringdex_engine::segment::reader::Want;

const DOCS: u64 = 200_000;

fn request(words: &[&str], top: usize) -> SearchRequest {
    let term = |word: &&str| {
        let (field, value) = ("tag".to_owned(), Value::String((*word).to_owned()));
        Query::from(QueryKind::Term { field, value, case_insensitive: false })
    };
    let must = words.iter().map(term).collect();
    let (filter, should, must_not) = (Vec::new(), Vec::new(), Vec::new());
    SearchRequest {
        query: Some(QueryKind::Bool { must, filter, should, must_not, minimum_should_match: None }.into()),
        post_filter: None,
        top,
        sort: Vec::new(),
        search_after: None,
        track_total_hits: if top == 0 { TrackTotalHits::All } else { TrackTotalHits::None },
        track_scores: false,
        rescore: Vec::new(),
        min_score: None,
        terminate_after: None,
        aggs: Vec::new(),
        now_ms: 0,
        statistics: None,
    }
}

fn postings(c: &mut Criterion) {
    let reader = Arc::new(segment(DOCS));
    let index = reader.field("tag").and_then(|f| f.terms()).expect("an indexed field");
    for (term, shape) in [("half", "dense"), ("hundredth", "sparse")] {
        let info = index.get(term.as_bytes()).expect("a frequent term");
        let mut group = c.benchmark_group("postings");
        group.throughput(Throughput::Elements(u64::from(info.doc_freq)));
        for (want, name) in [(Want::Docs, "decode"), (Want::Freqs, "decode_freqs")] {
            group.bench_function(format!("{name}/{shape}"), |b| {
                b.iter(|| {
                    let mut cursor = index.postings(&info, want);
                    let (mut walked, mut sum) = (0, 0u64);
                    while cursor.next() != NO_MORE_DOCS {
                        walked += 1;
                        sum += u64::from(cursor.doc()) + if want == Want::Freqs { u64::from(cursor.freq()) } else { 0 };
                    }
                    assert!(walked == info.doc_freq, "every document is met");
                    black_box(sum)
                });
            });
        }
        group.bench_function(format!("seek/{shape}"), |b| {
            b.iter(|| {
                let mut cursor = index.postings(&info, Want::Docs);
                let mut target = 0;
                while cursor.seek(target) != NO_MORE_DOCS {
                    target = cursor.doc() + 997;
                }
                black_box(target)
            });
        });
        group.finish();
    }

    let view = SegmentView { reader: reader.clone(), live: None };
    let searcher = Searcher { segments: Arc::new(vec![view]) };
    let (mapping, context) = (mapping(), IndexContext::default());
    let mut group = c.benchmark_group("intersection");
    for (words, shape) in [(["half", "tenth"], "dense"), (["half", "hundredth"], "skewed")] {
        for (top, name) in [(0, "count"), (10, "top10")] {
            let request = request(&words, top);
            group.bench_function(format!("{name}/{shape}"), |b| {
                b.iter(|| now(execute::query(&searcher, &mapping, &context, &request, &Unpaced)).expect("a query"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, postings);
criterion_main!(benches);

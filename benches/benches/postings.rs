//! Walking and intersecting postings lists of a segment of 200,000 documents.

mod fixture;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{all_of, mapping, request, search, searcher, segment, term};
use ringdex_engine::ids::NO_MORE_DOCS;
use ringdex_engine::search::IndexContext;
use ringdex_engine::segment::reader::Want;

const DOCS: u64 = 200_000;

fn postings(c: &mut Criterion) {
    let reader = Arc::new(segment(0..DOCS));
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

    let (searcher, mapping, context) = (searcher(reader.clone()), mapping(), IndexContext::default());
    let mut group = c.benchmark_group("intersection");
    for (words, shape) in [(["half", "tenth"], "dense"), (["half", "hundredth"], "skewed")] {
        for (top, name) in [(0, "count"), (10, "top10")] {
            let terms = words.iter().map(|word| term("tag", word)).collect();
            let request = request(all_of(terms, Vec::new()), top);
            group.bench_function(format!("{name}/{shape}"), |b| {
                b.iter(|| search(&searcher, &mapping, &context, &request));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, postings);
criterion_main!(benches);

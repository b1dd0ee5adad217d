//! The structures of a segment, and making one.

mod fixture;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{
    Draw, Fields, NUMBERS, all_of, buffer, documents, image, mapping, now, open, request, searcher, segment, term,
};
use ringdex_engine::ids::SegmentId;
use ringdex_engine::mapping::Mapping;
use ringdex_engine::merge::merger::{MergeSource, merge};
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Bound, Query, QueryKind, Value};
use ringdex_engine::search::IndexContext;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::segment::reader::SegmentReader;

const DOCS: u64 = 50_000;
/// What one iteration looks up.
const DRAWN: usize = 1_000;

fn fields(c: &mut Criterion) {
    let reader = Arc::new(segment(0..DOCS));
    dictionary(c, &reader);
    column(c, &reader, &mapping());
}

fn dictionary(c: &mut Criterion, reader: &SegmentReader) {
    let index = reader.field("body").and_then(|f| f.terms()).expect("an indexed field");
    let mut terms = Vec::new();
    index.visit_from(b"", &mut |term, _| {
        terms.push(term.to_vec());
        true
    });
    assert!(terms.len() as u64 == index.term_count() && terms.is_sorted(), "every term is met");

    let mut draw = Draw::new();
    let present: Vec<_> = (0..DRAWN).map(|_| terms[draw.below(terms.len() as u64) as usize].clone()).collect();
    let absent: Vec<_> = present.iter().map(|term| [term, &b"x"[..]].concat()).collect();
    let mut group = c.benchmark_group("dictionary");
    group.throughput(Throughput::Elements(DRAWN as u64));
    for (words, found, shape) in [(&present, DRAWN, "present"), (&absent, 0, "absent")] {
        let lookup = || words.iter().filter(|word| index.get(word).is_some()).count();
        assert!(lookup() == found, "{shape} words are {shape}");
        group.bench_function(format!("lookup/{shape}"), |b| b.iter(lookup));
    }
    let prefix = b"word12";
    let scan = || {
        let (mut met, mut docs) = (0, 0);
        index.visit_from(prefix, &mut |term, info| {
            let within = term.starts_with(prefix);
            met += u64::from(within);
            docs += if within { u64::from(info.doc_freq) } else { 0 };
            within
        });
        (met, docs)
    };
    let expected = terms.iter().filter(|term| term.starts_with(prefix)).count() as u64;
    assert!(expected > 0 && scan().0 == expected, "every term with the prefix is met");
    group.throughput(Throughput::Elements(expected));
    group.bench_function("scan/prefix", |b| b.iter(scan));
    group.finish();
}

fn column(c: &mut Criterion, reader: &Arc<SegmentReader>, mapping: &Mapping) {
    let column = reader.field("number").and_then(|f| f.numbers()).expect("a column");
    let field = mapping.field("number").expect("a field");
    let documents: Vec<_> = documents(DOCS).map(|source| Fields::of(&source)).collect();
    let mut values = Vec::new();
    column.range(0..DOCS as u32, &mut values);
    let read = values.iter().map(|&value| field.number_to_i64(value));
    assert!(read.eq(documents.iter().map(|d| d.number)), "the column has what the documents say");

    let mut group = c.benchmark_group("column");
    group.throughput(Throughput::Elements(DOCS));
    group.bench_function("read/sequential", |b| {
        b.iter(|| {
            column.range(0..DOCS as u32, &mut values);
            black_box(&values).len()
        });
    });
    let mut draw = Draw::new();
    let drawn: Vec<_> = (0..DRAWN).map(|_| draw.below(DOCS) as u32).collect();
    let sum = || drawn.iter().map(|&doc| field.number_to_i64(column.first(doc).unwrap_or(0))).sum::<i64>();
    assert!(
        sum() == drawn.iter().map(|&doc| documents[doc as usize].number).sum::<i64>(),
        "documents have their values"
    );
    group.throughput(Throughput::Elements(DRAWN as u64));
    group.bench_function("read/random", |b| b.iter(sum));
    group.finish();

    // Alone, a range is read off the points; beside a rare term its documents are looked up in the column.
    let limit = (NUMBERS / 10) as i64;
    let range = || -> Query {
        let (field, upper) = ("number".to_owned(), Some(Bound { value: Value::Int(limit), inclusive: false }));
        QueryKind::Range { field, lower: None, upper, format: None, time_zone: None }.into()
    };
    let (searcher, context) = (searcher(reader.clone()), IndexContext::default());
    let rare = all_of(vec![term("tag", "hundredth")], vec![range()]);
    for (query, word, name) in [(rare, "hundredth", "column"), (range(), "", "points")] {
        let (request, expected) =
            (request(query, 0), documents.iter().filter(|d| d.number < limit && d.tag.contains(word)));
        let search = || fixture::search(&searcher, mapping, &context, &request).total;
        assert!(search() == expected.count() as u64, "what is in the range is found");
        c.bench_function(&format!("{name}/range/10-percent"), |b| b.iter(search));
    }
}

fn segments(c: &mut Criterion) {
    const HALF: u64 = 10_000;
    let mut group = c.benchmark_group("segment");
    group.sample_size(10);

    let frozen = buffer(0..HALF);
    assert!(u64::from(open(image(&frozen)).doc_count()) == HALF, "every document is written");
    group.throughput(Throughput::Elements(HALF));
    group.bench_function("write/10k-documents", |b| b.iter(|| image(black_box(&frozen))));

    let sources = [0..HALF, HALF..2 * HALF].map(|docs| MergeSource { reader: Arc::new(segment(docs)), live: None });
    let merged = || {
        let mut image = Vec::new();
        now(merge(&sources, SegmentId(1), Default::default(), &mut image, &Unpaced)).expect("a merge");
        image
    };
    let both = open(merged());
    let ids = [0, 2 * HALF - 1].map(|id| both.lookup_id(id.to_string().as_bytes()));
    assert!(ids == [Some(0), Some(2 * HALF as u32 - 1)], "both segments are in the one");
    group.throughput(Throughput::Elements(2 * HALF));
    group.bench_function("merge/2x10k", |b| b.iter(merged));
    group.finish();
}

fn live_docs(c: &mut Criterion) {
    const DOCS: u32 = 1_000_000;
    let mut live = LiveDocs::all(DOCS);
    (0..DOCS).step_by(100).for_each(|doc| assert!(live.delete(doc), "it was there"));
    let mut group = c.benchmark_group("live-docs");
    group.throughput(Throughput::Elements(u64::from(DOCS)));
    let scan = || (0..DOCS).filter(|&doc| live.is_live(doc)).count();
    assert!(scan() == live.live_count() as usize, "what is not deleted is live");
    group.bench_function("scan/live", |b| b.iter(scan));
    let scan = || live.deleted().count();
    assert!(scan() == live.deleted_count() as usize, "what is deleted is met");
    group.bench_function("scan/deleted", |b| b.iter(scan));
    group.finish();
}

criterion_group!(benches, fields, segments, live_docs);
criterion_main!(benches);

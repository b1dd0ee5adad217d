//! Single documents: `_source` out of a segment, an operation into the translog's bytes, a text into terms.

mod fixture;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fixture::{Draw, document, mapping, segment, text};
use ringdex_engine::analysis::{AnalyzerRegistry, Scratch};
use ringdex_engine::document::{self as documents, ParsedDocument};
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::op::{Operation, OperationKind};

const DOCS: u64 = 50_000;

fn stored(c: &mut Criterion) {
    let reader = segment(0..DOCS);
    let mut draw = Draw::new();
    let mut source = Vec::new();
    c.bench_function("stored/get/random", |b| {
        b.iter_batched(
            || draw.below(DOCS),
            |doc| {
                source.clear();
                reader.source_once(doc as u32, &mut source).expect("a source");
                black_box(source.len())
            },
            BatchSize::SmallInput,
        );
    });
    let mut draw = Draw::new();
    c.bench_function("ids/lookup/random", |b| {
        b.iter_batched(
            || draw.below(DOCS).to_string(),
            |id| black_box(reader.lookup_id(id.as_bytes())),
            BatchSize::SmallInput,
        );
    });
}

fn translog(c: &mut Criterion) {
    let source = document(&mut Draw::new());
    let kind = OperationKind::Index { id: "12345", version: Version(1), routing: None, source: source.as_bytes() };
    let operation = Operation { seq_no: SeqNo(7), term: PrimaryTerm(1), kind };
    let mut group = c.benchmark_group("translog");
    group.throughput(Throughput::Bytes(source.len() as u64));
    let mut out = Vec::new();
    group.bench_function("encode/document", |b| {
        b.iter(|| {
            out.clear();
            operation.encode(&mut out);
            black_box(out.len())
        });
    });
    group.finish();
}

fn analysis(c: &mut Criterion) {
    let analyzer = AnalyzerRegistry::default().analyzer("standard").expect("the standard analyzer");
    let ascii = text(&mut Draw::new(), 200);
    let umlauts = ascii.replace('o', "ö");
    let mut group = c.benchmark_group("analysis");
    for (text, shape) in [(&ascii, "ascii"), (&umlauts, "unicode")] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut scratch = Scratch::default();
        group.bench_function(format!("standard/{shape}"), |b| {
            b.iter(|| {
                let mut bytes = 0;
                analyzer.terms(text, &mut scratch, &mut |term, _| bytes += term.len());
                black_box(bytes)
            });
        });
    }
    group.finish();
    let (mapping, source) = (mapping(), document(&mut Draw::new()));
    let mut parsed = ParsedDocument::default();
    let mut group = c.benchmark_group("document");
    group.throughput(Throughput::Bytes(source.len() as u64));
    group.bench_function("parse/flat", |b| {
        b.iter(|| documents::parse(&mapping, "1", source.as_bytes(), &mut parsed).expect("a document"));
    });
    group.finish();
}

criterion_group!(benches, stored, translog, analysis);
criterion_main!(benches);

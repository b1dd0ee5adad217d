//! The best ten of 100,000 documents in four segments, some of them deleted: what it costs that scores count live documents
//! alone. `kept` is what a search costs that was made before, `refreshed` the same after a refresh with a few more deletes, and
//! `anew` the first of all.

mod fixture;

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{all_of, buffer, mapping, now, request, search, term};
use ringdex_engine::budget::Pool;
use ringdex_engine::ids::SegmentId;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::{IndexContext, LiveCounts, Searcher, SegmentView};
use ringdex_engine::seed::HashSeed;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::segment::reader::SegmentReader;
use ringdex_engine::store::FileBytes;
use ringdex_engine::write::buffer::build_image;

const SEGMENTS: u64 = 4;
const DOCS: u64 = 25_000;
const TOP: usize = 10;
/// Documents of each segment that are deleted from one refresh to the next.
const MORE: u32 = 25;
/// In two of five documents, in one of sixteen, and in one of 250.
const WORDS: [&str; 3] = ["word10", "word100", "word2000"];

fn any_of(should: Vec<Query>) -> Query {
    let (must, filter, must_not) = (Vec::new(), Vec::new(), Vec::new());
    QueryKind::Bool { must, filter, should, must_not, minimum_should_match: None }.into()
}

fn open(id: u64) -> Arc<SegmentReader> {
    let frozen = buffer(id * DOCS..(id + 1) * DOCS);
    let (image, _) = now(build_image(&frozen, SegmentId(id), Default::default(), Vec::new(), &Unpaced));
    Arc::new(SegmentReader::open(SegmentId(id), FileBytes::new(image)).expect("a segment"))
}

fn deletes(c: &mut Criterion) {
    let readers: Vec<Arc<SegmentReader>> = (0..SEGMENTS).map(open).collect();
    let mapping = mapping();
    let mut group = c.benchmark_group("deletes");
    for percent in [0, 5, 30] {
        let live = |reader: &Arc<SegmentReader>| {
            let mut live = LiveDocs::all(reader.doc_count());
            for doc in (0..reader.doc_count()).filter(|doc| doc * 37 % 100 < percent) {
                live.delete(doc);
            }
            (percent > 0).then(|| Arc::new(live))
        };
        let views = readers.iter().map(|reader| SegmentView { reader: Arc::clone(reader), live: live(reader) });
        let searcher = Searcher { segments: Arc::new(views.collect()) };
        let mut views = (*searcher.segments).clone();
        for live in views.iter_mut().filter_map(|view| view.live.as_mut()) {
            (0..MORE).for_each(|n| {
                Arc::make_mut(live).delete(n * 307 + 50);
            });
        }
        let refreshed = Searcher { segments: Arc::new(views) };
        let counts = LiveCounts::new(Pool::new("live_counts", 16 << 20), HashSeed::new(1));
        let context = IndexContext { live_counts: Some(counts.clone()), ..IndexContext::default() };
        let words = || WORDS.map(|word| term("body", word));
        let two = || words()[..2].to_vec();
        for (name, query) in [
            ("term", term("body", WORDS[0])),
            ("term-rare", term("body", WORDS[2])),
            ("and-2", all_of(two(), Vec::new())),
            ("or-2", any_of(two())),
            ("or-3", any_of(words().into())),
        ] {
            let request = request(query, TOP);
            let run = || search(&searcher, &mapping, &context, &request);
            assert!(run().hits.len() == TOP, "{name}: there are enough hits");
            group.bench_function(format!("{name}/{percent}-percent/kept"), |b| b.iter(run));
            if percent > 0 {
                group.bench_function(format!("{name}/{percent}-percent/refreshed"), |b| {
                    let mut searchers = [&searcher, &refreshed].into_iter().cycle();
                    b.iter(|| search(searchers.next().expect("endless"), &mapping, &context, &request));
                });
                group.bench_function(format!("{name}/{percent}-percent/anew"), |b| {
                    b.iter(|| {
                        counts.clear();
                        run()
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, deletes);
criterion_main!(benches);

//! Runs a file of queries over a file of documents and prints the ranking, for comparing with another engine's.
//!
//! `relevance DOCS.ndjson QUERIES.tsv [SEGMENTS [ANALYZER [TOP]]]`: documents are `{"_id": ..., "text": ...}`, queries
//! `id<TAB>text`. Output: query, rank, document, score, hits; times go to standard error.

use std::sync::Arc;
use std::time::Instant;

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::ids::{PrimaryTerm, SegmentId, SeqNo, Version};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{MatchKind, QueryKind, TextOptions, Value};
use ringdex_engine::search::{IndexContext, SearchRequest, Searcher, SegmentView, TrackTotalHits, query};
use ringdex_engine::seed::HashSeed;
use ringdex_engine::segment::Codec;
use ringdex_engine::segment::reader::SegmentReader;
use ringdex_engine::store::FileBytes;
use ringdex_engine::write::buffer::{IndexingBuffer, build_image};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, docs, queries, rest @ ..] = &args[..] else {
        return Err("DOCS.ndjson QUERIES.tsv [SEGMENTS [ANALYZER]]".into());
    };
    let segments: usize = rest.first().map_or(Ok(1), |n| n.parse())?;
    let analyzer = rest.get(1).map_or("standard", |a| a.as_str());
    let top: usize = rest.get(2).map_or(Ok(20), |n| n.parse())?;
    let registry = Arc::new(AnalyzerRegistry::new(&serde_json::Value::Null)?);
    let mapping = serde_json::json!({"dynamic": false, "properties": {"text": {"type": "text", "analyzer": analyzer}}});
    let mapping = Mapping::parse(&mapping, &registry)?;
    let docs = std::fs::read_to_string(docs)?;
    let lines: Vec<&str> = docs.lines().collect();
    let begin = Instant::now();
    let mut views = Vec::new();
    let mut parsed = ParsedDocument::default();
    for (i, part) in lines.chunks(lines.len().div_ceil(segments)).enumerate() {
        let mut buffer = IndexingBuffer::new(HashSeed::new(1));
        for line in part {
            let json: serde_json::Value = serde_json::from_str(line)?;
            let source = serde_json::json!({ "text": json["text"] }).to_string();
            let id = json["_id"].as_str().unwrap_or_default();
            document::parse(&mapping, id, source.as_bytes(), &mut parsed)?;
            let (seq_no, term, version) = (SeqNo(i as i64), PrimaryTerm(1), Version(1));
            buffer.add(&mapping, id, None, seq_no, term, version, source.as_bytes(), &parsed);
        }
        let segment = SegmentId(i as u64 + 1);
        let frozen = buffer.freeze();
        let (image, _) =
            futures_lite::future::block_on(build_image(&frozen, segment, Codec::default(), Vec::new(), &Unpaced));
        let reader = SegmentReader::open(segment, FileBytes::new(image))?;
        views.push(SegmentView { reader: Arc::new(reader), live: None });
    }
    eprintln!("indexed {} documents in {:?}", lines.len(), begin.elapsed());
    let searcher = Searcher { segments: Arc::new(views) };
    let index = IndexContext { analyzers: registry, ..IndexContext::default() };
    let begin = Instant::now();
    let mut count = 0;
    for line in std::fs::read_to_string(queries)?.lines() {
        let Some((id, text)) = line.split_once('\t') else { continue };
        let kind = QueryKind::Match {
            field: "text".to_owned(),
            text: Value::String(text.to_owned()),
            kind: MatchKind::Terms,
            options: TextOptions::default(),
        };
        let request = SearchRequest {
            query: Some(kind.into()),
            post_filter: None,
            top,
            sort: Vec::new(),
            search_after: None,
            track_total_hits: TrackTotalHits::All,
            track_scores: false,
            rescore: Vec::new(),
            min_score: None,
            terminate_after: None,
            aggs: Vec::new(),
            now_ms: 0,
            statistics: None,
        };
        let run = |request: &SearchRequest| {
            futures_lite::future::block_on(query(&searcher, &mapping, &index, request, &Unpaced))
        };
        let exact = run(&request)?;
        // With nothing to count the loops skip what cannot win; the hits must be the same.
        let pruned = run(&SearchRequest { track_total_hits: TrackTotalHits::None, ..request.clone() })?;
        assert_eq!(exact.hits, pruned.hits, "pruning changed the hits of {id}");
        for (rank, hit) in exact.hits.iter().enumerate() {
            let doc = searcher.segments[hit.doc.segment as usize].reader.id(hit.doc.doc);
            println!("{id}\t{}\t{doc}\t{}\t{}", rank + 1, hit.score, exact.total);
        }
        count += 2;
    }
    eprintln!("{count} searches in {:?}", begin.elapsed());
    Ok(())
}

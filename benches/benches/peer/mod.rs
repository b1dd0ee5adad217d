//! The same documents and searches in tantivy.

use criterion::Criterion;
use serde_json::json;
use tantivy::aggregation::AggregationCollector;
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{AllQuery, BooleanQuery, Occur, PhraseQuery, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{Index, Order, Searcher, TantivyDocument, Term};

use crate::fixture::Fields;
use crate::{Expected, TOP, WANTED, Wanted};

pub fn searches(c: &mut Criterion, documents: &[Fields], expected: &Expected) {
    let (searcher, body) = index(documents);
    assert!(searcher.segment_readers().len() == 1, "it is one segment, too");
    let mut group = c.benchmark_group("search");
    for ((wanted, name), matches) in WANTED.into_iter().zip(expected.matches) {
        let (query, top) = (query(wanted, body), TopDocs::with_limit(TOP).order_by_score());
        assert!(searcher.search(&query, &Count).expect("a count") as u64 == matches, "{name}: every match is counted");
        let search = || searcher.search(&query, &top).expect("a search");
        assert!(search().len() == TOP, "{name}: there are enough hits");
        group.bench_function(format!("{name}/top-10/tantivy"), |b| b.iter(search));
    }

    let hosts: Aggregations =
        serde_json::from_value(json!({"hosts": {"terms": {"field": "host", "size": 10}}})).expect("a request");
    let collector = AggregationCollector::from_aggs(hosts, Default::default());
    let search = || searcher.search(&AllQuery, &collector).expect("a search");
    let found = serde_json::to_value(search()).expect("JSON");
    assert!(found["hosts"]["buckets"][0]["doc_count"] == expected.most, "the most frequent host is found");
    group.bench_function("terms-aggregation/all/tantivy", |b| b.iter(search));

    let newest = TopDocs::with_limit(TOP).order_by_fast_field::<i64>("date", Order::Desc);
    let search = || searcher.search(&AllQuery, &newest).expect("a search");
    let dates = search().into_iter().map(|(date, _)| date);
    assert!(dates.eq(expected.newest.iter().map(|&date| Some(date))), "the newest documents are found");
    group.bench_function("sort-by-date/top-10/tantivy", |b| b.iter(search));
    group.finish();
}

fn index(documents: &[Fields]) -> (Searcher, Field) {
    let mut schema = Schema::builder();
    let text = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let body = schema.add_text_field("body", TextOptions::default().set_indexing_options(text));
    let host = schema.add_text_field("host", TextOptions::default().set_fast("raw"));
    let date = schema.add_i64_field("date", INDEXED | FAST);
    let index = Index::create_in_ram(schema.build());
    let mut writer = index.writer_with_num_threads(1, 512 << 20).expect("a writer");
    for fields in documents {
        let mut document = TantivyDocument::new();
        document.add_text(body, &fields.body);
        document.add_text(host, &fields.host);
        document.add_i64(date, fields.date);
        writer.add_document(document).expect("a document");
    }
    writer.commit().expect("a commit");
    (index.reader().expect("a reader").searcher(), body)
}

fn query(wanted: Wanted, body: Field) -> Box<dyn Query> {
    let term = |word| Term::from_field_text(body, word);
    let clause = |occur, word| -> (Occur, Box<dyn Query>) {
        (occur, Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)))
    };
    match wanted {
        Wanted::Term(word) => clause(Occur::Must, word).1,
        Wanted::All(words) => Box::new(BooleanQuery::new(words.map(|word| clause(Occur::Must, word)).into())),
        Wanted::Any(words) => Box::new(BooleanQuery::new(words.map(|word| clause(Occur::Should, word)).into())),
        Wanted::Phrase(words) => Box::new(PhraseQuery::new(words.map(term).into())),
    }
}

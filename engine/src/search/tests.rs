//! Random documents and queries against a scan that knows nothing of indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::analysis::AnalyzerRegistry;
use crate::document::{self, ParsedDocument};
use crate::ids::{PrimaryTerm, SegmentId, SeqNo, Version};
use crate::mapping::Mapping;
use crate::pace::{StopAfter, Unpaced};
use crate::query::{Bound, Fuzziness, MatchKind, Operator, Query, QueryKind, QueryString, TextOptions, Value};
use crate::search::bm25::{FieldStats, NormTable, decode_length, idf, score};
use crate::search::min_should_match::minimum_should_match;
use crate::search::*;
use crate::seed::HashSeed;
use crate::segment::Codec;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::write::buffer::{IndexingBuffer, build_image};

/// A searcher over documents, one list a segment; those named in `deleted` (segment, document) are.
pub(crate) struct Shard {
    pub mapping: Mapping,
    pub index: IndexContext,
    pub searcher: Searcher,
}

impl Shard {
    pub(crate) fn new(mapping: &Json, segments: &[Vec<Json>], deleted: &[(usize, u32)]) -> Shard {
        let registry = Arc::new(AnalyzerRegistry::new(&Json::Null).unwrap());
        let mapping = Mapping::parse(mapping, &registry).unwrap();
        let mut views = Vec::new();
        let mut parsed = ParsedDocument::default();
        let mut seq_no = 0;
        for (ordinal, docs) in segments.iter().enumerate() {
            let mut buffer = IndexingBuffer::new(HashSeed::new(1));
            for doc in docs {
                let id = seq_no.to_string();
                let source = doc.to_string();
                document::parse(&mapping, &id, source.as_bytes(), &mut parsed).unwrap();
                assert!(parsed.mapping_update.is_none(), "the mapping has all fields");
                let at = (SeqNo(seq_no), PrimaryTerm(1), Version(1));
                buffer.add(&mapping, &id, None, at.0, at.1, at.2, source.as_bytes(), &parsed);
                seq_no += 1;
            }
            let segment = SegmentId(ordinal as u64 + 1);
            let frozen = buffer.freeze();
            let (image, _) =
                futures_lite::future::block_on(build_image(&frozen, segment, Codec::default(), Vec::new(), &Unpaced));
            let reader = SegmentReader::open(segment, crate::store::FileBytes::new(image)).unwrap();
            let mut live = LiveDocs::all(reader.doc_count());
            deleted.iter().filter(|d| d.0 == ordinal).for_each(|d| {
                live.delete(d.1);
            });
            let live = (live.deleted_count() > 0).then(|| Arc::new(live));
            views.push(SegmentView { reader: Arc::new(reader), live });
        }
        let index = IndexContext { index: "test".to_owned(), analyzers: registry, ..IndexContext::default() };
        Shard { mapping, index, searcher: Searcher { segments: Arc::new(views) } }
    }

    pub(crate) fn search(&self, request: &SearchRequest) -> crate::error::Result<QueryResult> {
        futures_lite::future::block_on(query(&self.searcher, &self.mapping, &self.index, request, &Unpaced))
    }

    fn explain(&self, query: &Query, doc: DocAddress) -> Explanation {
        let run = explain(&self.searcher, &self.mapping, &self.index, query, 0, doc, &Unpaced);
        futures_lite::future::block_on(run).unwrap()
    }
}

/// All matches, with their scores.
pub(crate) fn everything(shard: &Shard, query: &Query) -> BTreeMap<DocAddress, f32> {
    let result = shard.search(&request(query.clone(), 1 << 16)).unwrap();
    assert_eq!(result.total, result.hits.len() as u64);
    result.hits.iter().map(|h| (h.doc, h.score)).collect()
}

pub(crate) fn request(query: Query, top: usize) -> SearchRequest {
    SearchRequest {
        query: Some(query),
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
    }
}

fn mapping() -> Json {
    json!({"properties": {
        "t": {"type": "text"},
        "u": {"type": "text"},
        "k": {"type": "keyword"},
        "n": {"type": "long"},
        "d": {"type": "double"},
    }})
}

/// Small, fast, and the same everywhere.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// Words 0.. with falling frequency.
    pub(crate) fn word(&mut self, words: u64) -> String {
        let w = (self.roll(words) * self.roll(words) / words).min(self.roll(words));
        format!("{}w{w}", (b'a' + (w % 3) as u8) as char)
    }
}

/// A document as the oracle sees it.
#[derive(Clone, Debug, Default)]
struct Doc {
    t: Vec<String>,
    u: Vec<String>,
    k: Vec<String>,
    n: Vec<i64>,
    d: Vec<f64>,
    live: bool,
}

impl Doc {
    fn json(&self) -> Json {
        let mut out = serde_json::Map::new();
        if !self.t.is_empty() {
            out.insert("t".to_owned(), json!(self.t.join(" ")));
        }
        if !self.u.is_empty() {
            out.insert("u".to_owned(), json!(self.u.join(" ")));
        }
        out.insert("k".to_owned(), json!(self.k));
        out.insert("n".to_owned(), json!(self.n));
        out.insert("d".to_owned(), json!(self.d));
        Json::Object(out)
    }

    fn text(&self, field: &str) -> &[String] {
        if field == "t" { &self.t } else { &self.u }
    }
}

struct World {
    docs: Vec<Vec<Doc>>,
    shard: Shard,
}

fn world(seed: u64, sizes: &[usize], delete: bool) -> World {
    let mut dice = Dice(seed | 1);
    let mut docs = Vec::new();
    let mut deleted = Vec::new();
    for (s, &size) in sizes.iter().enumerate() {
        let mut segment = Vec::new();
        for d in 0..size {
            let length = dice.roll(12) * dice.roll(3);
            let mut doc = Doc { live: true, ..Doc::default() };
            doc.t = (0..length).map(|_| dice.word(30)).collect();
            doc.u = (0..dice.roll(4)).map(|_| dice.word(10)).collect();
            doc.k = (0..dice.roll(3)).map(|_| dice.word(20)).collect();
            doc.n = (0..dice.roll(3)).map(|_| dice.roll(1000) as i64 - 500).collect();
            doc.d = (0..dice.roll(2)).map(|_| dice.roll(50) as f64 / 4.0).collect();
            if delete && dice.roll(5) == 0 {
                doc.live = false;
                deleted.push((s, d as u32));
            }
            segment.push(doc);
        }
        docs.push(segment);
    }
    let json: Vec<Vec<Json>> = docs.iter().map(|s| s.iter().map(Doc::json).collect()).collect();
    World { shard: Shard::new(&mapping(), &json, &deleted), docs }
}

fn encode_length(length: usize) -> u32 {
    (0..=255u8).map(decode_length).take_while(|&l| l as usize <= length).last().unwrap()
}

impl World {
    fn all(&self) -> impl Iterator<Item = &Doc> {
        self.docs.iter().flatten()
    }

    /// Those that statistics count.
    fn live(&self) -> impl Iterator<Item = &Doc> {
        self.all().filter(|d| d.live)
    }

    /// BM25 of occurrences in a field, by the formula.
    fn bm25(&self, field: &str, doc_freqs: &[usize], freq: f32, length: usize, boost: f32) -> f32 {
        let with: Vec<usize> = self.live().map(|d| d.text(field).len()).filter(|&l| l > 0).collect();
        let stats = FieldStats { doc_count: with.len() as u64, sum_total_term_freq: with.iter().sum::<usize>() as u64 };
        let norm = 1.2f32 * ((1.0 - 0.75) + 0.75 * encode_length(length) as f32 / stats.average_length());
        let idf: f64 = doc_freqs.iter().map(|&df| f64::from(idf(df as u64, stats.doc_count))).sum();
        score(boost * 2.2 * idf as f32, freq, norm)
    }

    fn term_score(&self, field: &str, term: &str, doc: &Doc, boost: f32) -> Option<f32> {
        let words = doc.text(field);
        let freq = words.iter().filter(|w| *w == term).count();
        let df = self.live().filter(|d| d.text(field).iter().any(|w| w == term)).count();
        (freq > 0).then(|| self.bm25(field, &[df], freq as f32, words.len(), boost))
    }

    /// The score of `doc`, if it matches.
    fn eval(&self, query: &Query, doc: &Doc, boost: f32) -> Option<f32> {
        let boost = boost * query.boost;
        let constant = |yes: bool| yes.then_some(boost);
        match &query.kind {
            QueryKind::MatchAll => Some(boost),
            QueryKind::MatchNone => None,
            QueryKind::Match { field, text: Value::String(text), kind: MatchKind::Terms, options } => {
                let words: Vec<&str> = text.split(' ').collect();
                let scores: Vec<f32> = words.iter().filter_map(|w| self.term_score(field, w, doc, boost)).collect();
                let needed = match (&options.minimum_should_match, options.operator) {
                    (_, Operator::And) => words.len(),
                    // One word is no bool query.
                    (Some(m), _) if words.len() > 1 => minimum_should_match(m, words.len()).unwrap().max(1),
                    (Some(_), _) => 1,
                    (None, _) => 1,
                };
                let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
                (scores.len() >= needed).then_some(sum as f32)
            }
            QueryKind::Match { field, text: Value::String(text), kind: MatchKind::Phrase, .. } => {
                let phrase: Vec<&str> = text.split(' ').collect();
                let words = doc.text(field);
                let freq = words.windows(phrase.len()).filter(|w| *w == &phrase[..]).count();
                if freq == 0 {
                    return None;
                }
                let df = |t: &str| self.live().filter(|d| d.text(field).iter().any(|w| w == t)).count();
                let dfs: Vec<usize> = phrase.iter().map(|t| df(t)).collect();
                Some(self.bm25(field, &dfs, freq as f32, words.len(), boost))
            }
            QueryKind::Term { field, value: Value::String(word), .. } => self.term_score(field, word, doc, boost),
            QueryKind::Terms { values, .. } => constant(values.iter().any(|v| match v {
                Value::String(s) => doc.k.contains(s),
                _ => false,
            })),
            QueryKind::Prefix { value, .. } => constant(doc.k.iter().any(|k| k.starts_with(value))),
            QueryKind::Wildcard { value, .. } => {
                let pattern = crate::search::automaton::Wildcard::new(value, false);
                constant(doc.k.iter().any(|k| pattern.matches(k)))
            }
            QueryKind::Range { lower, upper, .. } => {
                let within = |n: i64| {
                    lower.as_ref().is_none_or(|b| match b.value {
                        Value::Int(v) => {
                            if b.inclusive {
                                n >= v
                            } else {
                                n > v
                            }
                        }
                        _ => unreachable!(),
                    }) && upper.as_ref().is_none_or(|b| match b.value {
                        Value::Int(v) => {
                            if b.inclusive {
                                n <= v
                            } else {
                                n < v
                            }
                        }
                        _ => unreachable!(),
                    })
                };
                constant(doc.n.iter().any(|&n| within(n)))
            }
            QueryKind::Exists { field } => constant(match field.as_str() {
                "t" | "u" => !doc.text(field).is_empty(),
                "k" => !doc.k.is_empty(),
                _ => !doc.n.is_empty(),
            }),
            QueryKind::ConstantScore { filter } => constant(self.eval(filter, doc, 1.0).is_some()),
            QueryKind::DisMax { queries, tie_breaker } => {
                let scores: Vec<f32> = queries.iter().filter_map(|q| self.eval(q, doc, boost)).collect();
                let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
                (!scores.is_empty())
                    .then(|| (f64::from(best) + (sum - f64::from(best)) * f64::from(*tie_breaker)) as f32)
            }
            QueryKind::Bool { must, filter, should, must_not, minimum_should_match: minimum } => {
                if must.len() + filter.len() + should.len() + must_not.len() == 0 {
                    return Some(boost);
                }
                let mut sum = 0.0f64;
                for q in must {
                    sum += f64::from(self.eval(q, doc, boost)?);
                }
                if filter.iter().any(|q| self.eval(q, doc, boost).is_none())
                    || must_not.iter().any(|q| self.eval(q, doc, boost).is_some())
                {
                    return None;
                }
                let scores: Vec<f32> = should.iter().filter_map(|q| self.eval(q, doc, boost)).collect();
                let required = !must.is_empty() || !filter.is_empty();
                let given = minimum.as_ref().map_or(0, |m| minimum_should_match(m, should.len()).unwrap());
                let needed = given.max(usize::from(!required && !should.is_empty()));
                sum += scores.iter().map(|&s| f64::from(s)).sum::<f64>();
                (scores.len() >= needed).then_some(sum as f32)
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn expected(&self, query: &Query) -> Vec<(DocAddress, f32)> {
        let mut out = Vec::new();
        for (s, segment) in self.docs.iter().enumerate() {
            for (d, doc) in segment.iter().enumerate().filter(|d| d.1.live) {
                if let Some(score) = self.eval(query, doc, 1.0) {
                    out.push((DocAddress { segment: s as u32, doc: d as u32 }, score));
                }
            }
        }
        out
    }
}

fn options() -> impl Strategy<Value = TextOptions> {
    prop_oneof![
        3 => Just(TextOptions::default()),
        1 => Just(TextOptions { operator: Operator::And, ..TextOptions::default() }),
        1 => Just(TextOptions { minimum_should_match: Some("2".to_owned()), ..TextOptions::default() }),
        1 => Just(TextOptions { minimum_should_match: Some("-25%".to_owned()), ..TextOptions::default() }),
    ]
}

fn word(words: u64) -> impl Strategy<Value = String> {
    (0..words).prop_map(|w| format!("{}w{w}", (b'a' + (w % 3) as u8) as char))
}

fn term(field: &str, value: String) -> QueryKind {
    QueryKind::Term { field: field.to_owned(), value: Value::String(value), case_insensitive: false }
}

fn leaf() -> impl Strategy<Value = QueryKind> {
    let words = proptest::collection::btree_set(word(32), 1..5);
    let bound = || proptest::option::of((-600i64..600, any::<bool>()));
    let bounds = |b: Option<(i64, bool)>| b.map(|(v, inclusive)| Bound { value: Value::Int(v), inclusive });
    prop_oneof![
        4 => (words, options()).prop_map(|(w, options)| QueryKind::Match {
            field: "t".to_owned(),
            text: Value::String(w.into_iter().collect::<Vec<_>>().join(" ")),
            kind: MatchKind::Terms,
            options,
        }),
        2 => proptest::collection::vec(word(12), 2..4).prop_map(|w| QueryKind::Match {
            field: "t".to_owned(),
            text: Value::String(w.join(" ")),
            kind: MatchKind::Phrase,
            options: TextOptions::default(),
        }),
        1 => word(10).prop_map(|w| QueryKind::Match {
            field: "u".to_owned(),
            text: Value::String(w),
            kind: MatchKind::Terms,
            options: TextOptions::default(),
        }),
        2 => word(32).prop_map(|w| term("t", w)),
        1 => proptest::collection::vec(word(20), 1..4).prop_map(|w| QueryKind::Terms {
            field: "k".to_owned(),
            values: w.into_iter().map(Value::String).collect(),
        }),
        1 => "[abc]w1?".prop_map(|value| QueryKind::Prefix { field: "k".to_owned(), value, case_insensitive: false }),
        1 => "[abc*]w?[?*1]".prop_map(|value| QueryKind::Wildcard { field: "k".to_owned(), value, case_insensitive: false }),
        2 => (bound(), bound()).prop_map(move |(a, b)| QueryKind::Range {
            field: "n".to_owned(),
            lower: bounds(a),
            upper: bounds(b),
            format: None,
            time_zone: None,
        }),
        1 => prop_oneof![Just("t"), Just("u"), Just("k"), Just("n")].prop_map(|f| QueryKind::Exists { field: f.to_owned() }),
        1 => Just(QueryKind::MatchAll),
    ]
}

fn query_tree() -> impl Strategy<Value = Query> {
    let boosted = |kind: QueryKind, boost: u8| Query { kind, boost: f32::from(boost) / 2.0, name: None };
    let leaf = (leaf(), 1u8..5).prop_map(move |(k, b)| boosted(k, b));
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let some = || proptest::collection::vec(inner.clone(), 0..3);
        let minimum = proptest::option::weighted(0.3, prop_oneof![Just("1"), Just("2"), Just("50%")]);
        prop_oneof![
            3 => (some(), some(), some(), some(), minimum, 1u8..4).prop_map(move |(must, filter, should, must_not, m, b)| {
                boosted(QueryKind::Bool { must, filter, should, must_not, minimum_should_match: m.map(str::to_owned) }, b)
            }),
            1 => inner.clone().prop_map(|q| QueryKind::ConstantScore { filter: Box::new(q) }.into()),
            1 => (proptest::collection::vec(inner.clone(), 1..4), 0u8..3).prop_map(|(queries, t)| {
                QueryKind::DisMax { queries, tie_breaker: f32::from(t) / 2.0 }.into()
            }),
        ]
    })
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1e-3)
}

/// The hits are those that a scan finds, best first, whatever was pruned.
fn check_by_score(world: &World, query: &Query, top: usize, track: TrackTotalHits) -> Result<(), TestCaseError> {
    let mut expected = world.expected(query);
    let total = expected.len() as u64;
    let result = world.shard.search(&SearchRequest { track_total_hits: track, ..request(query.clone(), top) }).unwrap();
    match track {
        TrackTotalHits::All => prop_assert_eq!((result.total, result.total_exact), (total, true)),
        TrackTotalHits::Limit(n) if total <= n => prop_assert_eq!((result.total, result.total_exact), (total, true)),
        TrackTotalHits::Limit(n) => prop_assert_eq!((result.total, result.total_exact), (n, false)),
        TrackTotalHits::None => {}
    }
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    prop_assert_eq!(result.hits.len(), top.min(expected.len()));
    let by_doc: std::collections::HashMap<DocAddress, f32> = expected.iter().copied().collect();
    for (i, hit) in result.hits.iter().enumerate() {
        prop_assert!(close(hit.score, expected[i].1), "{i}: {} is not {}", hit.score, expected[i].1);
        let own = by_doc.get(&hit.doc).copied();
        prop_assert!(own.is_some_and(|own| close(own, hit.score)), "{:?} {} {own:?}", hit.doc, hit.score);
    }
    for pair in result.hits.windows(2) {
        prop_assert!(pair[0].score > pair[1].score || pair[0].score == pair[1].score && pair[0].doc < pair[1].doc);
    }
    if let (Some(first), Some(max)) = (result.hits.first(), result.max_score) {
        prop_assert_eq!(first.score, max);
    }
    Ok(())
}

fn track() -> impl Strategy<Value = TrackTotalHits> {
    prop_oneof![Just(TrackTotalHits::All), Just(TrackTotalHits::None), (0u64..200).prop_map(TrackTotalHits::Limit)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_scan_finds(
        seed in any::<u64>(), sizes in proptest::collection::vec(1usize..900, 1..4), delete: bool,
        queries in proptest::collection::vec((query_tree(), 0usize..12, track()), 30),
    ) {
        let world = world(seed, &sizes, delete);
        for (query, top, track) in queries {
            check_by_score(&world, &query, top, track)?;
        }
    }

    #[test]
    fn the_total_of_one_term_is_that_of_a_scan(
        seed in any::<u64>(), sizes in proptest::collection::vec(1usize..900, 1..4), delete: bool,
        terms in proptest::collection::vec((word(40), track()), 12),
    ) {
        let world = world(seed, &sizes, delete);
        for (word, track) in terms {
            check_by_score(&world, &term("t", word.clone()).into(), 0, track)?;
            let one = QueryKind::Terms { field: "k".to_owned(), values: vec![Value::String(word.clone())] };
            let expected = world.expected(&one.into()).len() as u64;
            prop_assert_eq!(world.shard.search(&request(term("k", word).into(), 0)).unwrap().total, expected);
        }
    }

    #[test]
    fn required_frequent_and_optional_rare_words_rank_as_a_scan_does(
        seed in any::<u64>(), sizes in proptest::collection::vec(1usize..900, 1..3), delete: bool,
        queries in proptest::collection::vec((word(4), 1u8..9, proptest::collection::vec(word(32), 1..4), 1usize..12), 15),
    ) {
        let world = world(seed, &sizes, delete);
        let words = |words: Vec<String>, boost: u8| {
            let text = Value::String(words.join(" "));
            let options = TextOptions::default();
            let kind = QueryKind::Match { field: "t".to_owned(), text, kind: MatchKind::Terms, options };
            Query { kind, boost: f32::from(boost) / 4.0, name: None }
        };
        for (required, boost, optional, top) in queries {
            let query = QueryKind::Bool {
                must: vec![words(vec![required], boost)],
                filter: Vec::new(),
                should: vec![words(optional, 4)],
                must_not: Vec::new(),
                minimum_should_match: None,
            };
            check_by_score(&world, &query.into(), top, TrackTotalHits::None)?;
        }
    }

    #[test]
    fn sorts_and_pages_as_a_scan_does(
        seed in any::<u64>(), sizes in proptest::collection::vec(1usize..300, 1..4), delete: bool,
        queries in proptest::collection::vec((query_tree(), 1usize..20, track(), sort_keys()), 12),
    ) {
        let world = world(seed, &sizes, delete);
        for (query, top, track, sort) in queries {
            let mut expected = world.expected(&query);
            expected.sort_by(|a, b| {
                sort.iter().map(|k| world.compare(k, a, b)).find(|o| o.is_ne()).unwrap_or_else(|| a.0.cmp(&b.0))
            });
            // Page by page, with a last key that makes all different.
            let mut got = Vec::new();
            let mut after = None;
            loop {
                let mut keys = sort.clone();
                keys.push(SortKey { by: SortBy::Doc, descending: false });
                let r = SearchRequest {
                    sort: keys, search_after: after.take(), track_total_hits: track, ..request(query.clone(), top)
                };
                let page = world.shard.search(&r).unwrap();
                got.extend(page.hits.iter().map(|h| h.doc));
                match page.hits.last() {
                    Some(last) if page.hits.len() == top => after = Some(last.sort.clone()),
                    _ => break,
                }
            }
            prop_assert_eq!(&got, &expected.iter().map(|e| e.0).collect::<Vec<_>>());
            // At once, ties left to the order of the documents.
            let r = SearchRequest { sort: sort.clone(), track_total_hits: track, ..request(query.clone(), top) };
            let at_once: Vec<DocAddress> = world.shard.search(&r).unwrap().hits.iter().map(|h| h.doc).collect();
            prop_assert_eq!(&at_once[..], &got[..top.min(got.len())]);
        }
    }

    #[test]
    fn explanations_equal_scores(seed in any::<u64>(), queries in proptest::collection::vec(query_tree(), 10)) {
        let world = world(seed, &[60, 40], false);
        for query in queries {
            let result = world.shard.search(&request(query.clone(), 100)).unwrap();
            for hit in &result.hits {
                let e = world.shard.explain(&query, hit.doc);
                prop_assert!(e.matches && close(e.value, hit.score), "{} {e:?}", hit.score);
            }
            let matching: std::collections::HashSet<DocAddress> = result.hits.iter().map(|h| h.doc).collect();
            for doc in (0..60).map(|doc| DocAddress { segment: 0, doc }).filter(|d| !matching.contains(d)) {
                prop_assert!(!world.shard.explain(&query, doc).matches);
            }
        }
    }
}

fn sort_keys() -> impl Strategy<Value = Vec<SortKey>> {
    let field = |f: &str, missing: Missing| SortBy::Field {
        field: f.to_owned(),
        mode: None,
        missing,
        unmapped_type: None,
        format: None,
    };
    let by = prop_oneof![
        (prop_oneof![Just("n"), Just("k"), Just("d")], any::<bool>())
            .prop_map(move |(f, first)| field(f, if first { Missing::First } else { Missing::Last })),
        Just(SortBy::Doc),
        Just(field("_id", Missing::Last)),
    ];
    proptest::collection::vec((by, any::<bool>()).prop_map(|(by, descending)| SortKey { by, descending }), 1..3)
}

impl World {
    fn compare(&self, key: &SortKey, a: &(DocAddress, f32), b: &(DocAddress, f32)) -> std::cmp::Ordering {
        let doc = |d: &(DocAddress, f32)| &self.docs[d.0.segment as usize][d.0.doc as usize];
        let (x, y) = (doc(a), doc(b));
        let ordered = |o: std::cmp::Ordering| if key.descending { o.reverse() } else { o };
        let SortBy::Field { field, missing, .. } = &key.by else { return ordered(a.0.cmp(&b.0)) };
        // Missing stays on its side whatever the direction.
        let place = |has: bool| match (has, missing) {
            (true, _) => 1,
            (false, Missing::First) => 0,
            (false, _) => 2,
        };
        fn pick<T: PartialOrd + Clone>(values: &[T], descending: bool) -> Option<T> {
            let mut sorted = values.to_vec();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            if descending { sorted.last().cloned() } else { sorted.first().cloned() }
        }
        macro_rules! by {
            ($f:ident) => {{
                let (p, q) = (pick(&x.$f, key.descending), pick(&y.$f, key.descending));
                place(p.is_some()).cmp(&place(q.is_some())).then_with(|| ordered(p.partial_cmp(&q).unwrap()))
            }};
        }
        match field.as_str() {
            "n" => by!(n),
            "d" => by!(d),
            "_id" => {
                let id = |d: &(DocAddress, f32)| {
                    let before: usize = self.docs[..d.0.segment as usize].iter().map(Vec::len).sum();
                    (before + d.0.doc as usize).to_string()
                };
                ordered(id(a).cmp(&id(b)))
            }
            _ => by!(k),
        }
    }
}

fn texts(texts: &[&str]) -> Shard {
    let docs: Vec<Json> = texts.iter().map(|t| json!({ "t": t, "k": t })).collect();
    Shard::new(&mapping(), &[docs], &[])
}

fn docs_of(shard: &Shard, kind: QueryKind) -> Vec<u32> {
    let mut docs: Vec<u32> = shard.search(&request(kind.into(), 100)).unwrap().hits.iter().map(|h| h.doc.doc).collect();
    docs.sort_unstable();
    docs
}

fn phrase(text: &str, slop: u32, kind: MatchKind) -> QueryKind {
    let options = TextOptions { slop, ..TextOptions::default() };
    QueryKind::Match { field: "t".to_owned(), text: Value::String(text.to_owned()), kind, options }
}

#[test]
fn phrases_may_be_sloppy_and_open_ended() {
    let shard = texts(&["quick brown fox", "brown quick fox", "quick red brown fox", "quick fox brown bear"]);
    assert_eq!(docs_of(&shard, phrase("quick brown", 0, MatchKind::Phrase)), [0]);
    assert_eq!(docs_of(&shard, phrase("quick brown", 1, MatchKind::Phrase)), [0, 2, 3]);
    assert_eq!(docs_of(&shard, phrase("quick brown", 2, MatchKind::Phrase)), [0, 1, 2, 3]);
    assert_eq!(docs_of(&shard, phrase("quick br", 0, MatchKind::PhrasePrefix)), [0]);
    assert_eq!(docs_of(&shard, phrase("brown b", 0, MatchKind::PhrasePrefix)), [3]);
    assert_eq!(docs_of(&shard, phrase("bea", 0, MatchKind::PhrasePrefix)), [3]);
    assert_eq!(docs_of(&shard, phrase("red qui", 0, MatchKind::BoolPrefix)), [0, 1, 2, 3]);
}

#[test]
fn filters_alone_score_plus_zero() {
    let shard = texts(&["quick brown fox", "brown quick fox", "quick red fox"]);
    let options = TextOptions { operator: Operator::And, ..TextOptions::default() };
    let text = Value::String("quick brown".to_owned());
    let both = QueryKind::Match { field: "t".to_owned(), text, kind: MatchKind::Terms, options };
    let exists = QueryKind::Exists { field: "k".to_owned() };
    let kind = QueryKind::Bool {
        must: Vec::new(),
        filter: vec![both.into(), exists.into()],
        should: Vec::new(),
        must_not: Vec::new(),
        minimum_should_match: None,
    };
    let hits = shard.search(&request(kind.into(), 10)).unwrap().hits;
    assert_eq!(hits.iter().map(|h| (h.doc.doc, h.score.to_bits())).collect::<Vec<_>>(), [(0, 0), (1, 0)]);
}

#[test]
fn sloppy_phrases_weigh_by_distance() {
    let shard = texts(&["a b", "a x b", "a x x b", "b a"]);
    let hits = shard.search(&request(phrase("a b", 4, MatchKind::Phrase).into(), 10)).unwrap().hits;
    let order: Vec<u32> = hits.iter().map(|h| h.doc.doc).collect();
    // "a x b" is one longer than "b a", which is two off: 1/2 of a match in 3 words against 1/3 in 2.
    assert_eq!(order[0], 0);
    assert_eq!(order.len(), 4);
    let repeated = texts(&["a b a", "a a", "a"]);
    assert_eq!(docs_of(&repeated, phrase("a a", 2, MatchKind::Phrase)), [0, 1]);
}

#[test]
fn fuzzy_terms_score_by_closeness() {
    let shard = texts(&["roam", "foam", "roams", "rome", "xxxx"]);
    let fuzziness = Fuzziness {
        edits: Some(1),
        auto_low: 3,
        auto_high: 6,
        prefix_length: 0,
        max_expansions: 50,
        transpositions: true,
    };
    let options = TextOptions { fuzziness: Some(fuzziness), ..TextOptions::default() };
    let kind = QueryKind::Match {
        field: "t".to_owned(),
        text: Value::String("roam".to_owned()),
        kind: MatchKind::Terms,
        options,
    };
    let hits = shard.search(&request(kind.into(), 10)).unwrap().hits;
    assert_eq!(hits.iter().map(|h| h.doc.doc).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(hits[0].score > hits[1].score);
    assert!(close(hits[1].score, hits[0].score * 0.75));
}

#[test]
fn query_strings_become_queries() {
    let shard = texts(&["quick brown fox", "lazy dog", "quick dog", "Foo-Bar"]);
    let check = |text: &str, expected: &[u32]| {
        let query = QueryString {
            query: text.to_owned(),
            default_field: Some("t".to_owned()),
            allow_leading_wildcard: true,
            ..QueryString::default()
        };
        assert_eq!(docs_of(&shard, QueryKind::QueryString(query)), expected, "{text}");
    };
    check("quick", &[0, 2]);
    check("quick dog", &[0, 1, 2]);
    check("quick AND dog", &[2]);
    check("+quick -dog", &[0]);
    check("\"brown fox\"", &[0]);
    check("qui*", &[0, 2]);
    check("QUI*", &[0, 2]);
    check("d?g", &[1, 2]);
    check("/do./", &[1, 2]);
    check("quikc~", &[0, 2]);
    check("(lazy OR brown) AND (dog OR fox)", &[0, 1]);
    check("k:Foo\\-Bar", &[3]);
    check("_exists_:t", &[0, 1, 2, 3]);
    check("k:[l TO m]", &[1]);
    check("*:*", &[0, 1, 2, 3]);
}

#[test]
fn wrong_requests_are_told_in_known_words() {
    let shard = texts(&["a"]);
    let refused = |r: SearchRequest| match shard.search(&r).unwrap_err() {
        crate::error::Error::Request { kind, reason } => (kind, reason),
        e => panic!("{e}"),
    };
    let prefix = QueryKind::Prefix { field: "n".to_owned(), value: "1".to_owned(), case_insensitive: false };
    assert_eq!(
        refused(request(prefix.into(), 1)),
        (
            "query_shard_exception",
            "Can only use prefix queries on keyword, text and wildcard fields - not on [n] which is of type [long]"
                .to_owned()
        )
    );
    let field = |f: &str| SortBy::Field {
        field: f.to_owned(),
        mode: None,
        missing: Missing::Last,
        unmapped_type: None,
        format: None,
    };
    let sorted = |f: &str| SearchRequest {
        sort: vec![SortKey { by: field(f), descending: false }],
        ..request(QueryKind::MatchAll.into(), 1)
    };
    assert_eq!(
        refused(sorted("nope")),
        ("query_shard_exception", "No mapping found for [nope] in order to sort on".to_owned())
    );
    assert!(refused(sorted("t")).1.starts_with("Text fields are not optimised for operations"));
    let unmapped = QueryKind::Term { field: "nope".to_owned(), value: Value::Int(1), case_insensitive: false };
    assert_eq!(docs_of(&shard, unmapped), [] as [u32; 0]);
}

#[test]
fn early_ends_are_told() {
    let world = world(7, &[300, 300], false);
    let all = || request(QueryKind::MatchAll.into(), 5);
    let r = world.shard.search(&SearchRequest { terminate_after: Some(10), ..all() }).unwrap();
    assert_eq!((r.total, r.terminated_early), (10, true));
    let r = world.shard.search(&SearchRequest { terminate_after: Some(1000), ..all() }).unwrap();
    assert_eq!((r.total, r.terminated_early), (600, false));
    let r = world.shard.search(&SearchRequest { min_score: Some(1.5), ..all() }).unwrap();
    assert_eq!((r.total, r.hits.len()), (0, 0));
    let filter = QueryKind::Exists { field: "n".to_owned() };
    let with_n = world.all().filter(|d| !d.n.is_empty()).count() as u64;
    let r = world.shard.search(&SearchRequest { post_filter: Some(filter.into()), ..all() }).unwrap();
    assert_eq!((r.total, r.total_exact), (with_n, true));
}

#[test]
fn a_deadline_gives_what_was_found() {
    let world = world(3, &[200, 200, 200], false);
    let r = request(QueryKind::MatchAll.into(), 5);
    let r = SearchRequest { min_score: Some(0.5), ..r };
    let pace = StopAfter(std::cell::Cell::new(3));
    let shard = &world.shard;
    let run = query(&shard.searcher, &shard.mapping, &shard.index, &r, &pace);
    let result = futures_lite::future::block_on(run).unwrap();
    assert!(result.timed_out && result.total < 600 && !result.hits.is_empty());
}

/// Patterns and words of every kind, some of which the documents must not match.
fn demanding() -> SearchRequest {
    let field = || "k".to_owned();
    let regexp = |value: &str| -> Query {
        QueryKind::Regexp {
            field: field(),
            value: value.to_owned(),
            case_insensitive: false,
            max_determinized_states: 1000,
        }
        .into()
    };
    let fuzziness = Fuzziness {
        edits: Some(2),
        auto_low: 3,
        auto_high: 6,
        prefix_length: 0,
        max_expansions: 50,
        transpositions: true,
    };
    let fuzzy = |word: &str| -> Query {
        QueryKind::Fuzzy { field: field(), value: Value::String(word.to_owned()), fuzziness: fuzziness.clone() }.into()
    };
    let wildcard = |value: &str| -> Query {
        QueryKind::Wildcard { field: field(), value: value.to_owned(), case_insensitive: false }.into()
    };
    let values = (0..30).map(|n| Value::String(format!("w{n}w"))).collect();
    let should = ["w1w", "w22", "x3w"].map(fuzzy).into_iter().chain((0..9).map(|n| regexp(&format!(".*{n}.*"))));
    let query = QueryKind::Bool {
        must: Vec::new(),
        filter: Vec::new(),
        should: should.chain([QueryKind::Terms { field: field(), values }.into()]).collect(),
        must_not: vec![regexp("w.*77.*"), wildcard("*8*w"), fuzzy("w33w")],
        minimum_should_match: Some("1".to_owned()),
    };
    let post_filter = QueryKind::Bool {
        must: Vec::new(),
        filter: Vec::new(),
        should: Vec::new(),
        must_not: vec![regexp(".*5w"), wildcard("w6*")],
        minimum_should_match: None,
    };
    SearchRequest { post_filter: Some(post_filter.into()), ..request(query.into(), 1000) }
}

#[test]
fn a_search_that_is_stopped_anywhere_tells_nothing_that_is_not_so() {
    let docs = |from: u32| (from..from + 60).map(|n| json!({"k": format!("w{n}w")})).collect::<Vec<_>>();
    let shard = Shard::new(&mapping(), &[docs(0), docs(60), docs(120)], &[]);
    let plain = SearchRequest { post_filter: None, ..demanding() };
    let again = |window_size| Rescore {
        window_size,
        query: plain.query.clone().expect("it has one"),
        query_weight: 1.0,
        rescore_query_weight: 1.0,
        mode: RescoreMode::Total,
    };
    let rescored = SearchRequest { rescore: vec![again(50)], ..plain.clone() };
    for request in [plain, demanding(), rescored] {
        let whole: Vec<DocAddress> = shard.search(&request).unwrap().hits.iter().map(|hit| hit.doc).collect();
        assert!(whole.len() > 50);
        let mut stopped = 0;
        for asks in 1.. {
            let pace = StopAfter(std::cell::Cell::new(asks));
            let run = query(&shard.searcher, &shard.mapping, &shard.index, &request, &pace);
            let result = futures_lite::future::block_on(run).unwrap();
            assert!(result.hits.iter().all(|hit| whole.contains(&hit.doc)), "after {asks} questions");
            if !result.timed_out {
                assert_eq!(result.hits.iter().map(|hit| hit.doc).collect::<Vec<_>>(), whole);
                break;
            }
            stopped += 1;
        }
        // Words, expressions and leaves of three segments: each is a place to stop.
        assert!(stopped > 60, "there are only {stopped} places to stop");
    }
}

/// `NormTable` is what the scorers use; the oracle computes norms by itself.
#[test]
fn norm_table_is_the_formula() {
    let table = NormTable::new(7.5);
    assert_eq!(table.0[10], 1.2 * (0.25 + 0.75 * 10.0 / 7.5));
}

//! Random documents and random queries: what the engine answers is what a scan over all documents finds.
//!
//! An input is a script. Queries come first, then what happens to the shard before they run: documents indexed, replaced and
//! deleted, refreshes, commits, merges. The scan knows nothing of indexes; it takes from the engine only which
//! documents its segments have and compares that with what it did itself.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures_lite::future::block_on;
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::engine::{Engine, EngineConfig, IndexOperation};
use ringdex_engine::ids::{PrimaryTerm, SeqNo};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::merge::policy::MergeCandidate;
use ringdex_engine::pace::Unpaced;
use ringdex_engine::query::{Bound, MatchKind, Operator, Query, QueryKind, TextOptions, Value};
use ringdex_engine::search::aggs::partial::TermKey;
use ringdex_engine::search::aggs::{AggKind, AggPartial, AggRequest, Metric, TermsRequest, ValuesSource};
use ringdex_engine::search::bm25::{self, FieldStats};
use ringdex_engine::search::{
    DocAddress, IndexContext, Missing, QueryResult, SearchRequest, Searcher, SortBy, SortKey, SortValue,
    TrackTotalHits, query,
};
use ringdex_engine::seed::HashSeed;
use ringdex_engine::segment::Codec;
use ringdex_engine::segment::fuzz::{Choices, scatter};
use ringdex_engine::segment::norms::{norm_decode, norm_encode};
use ringdex_engine::segment::reader::SourceCache;
use ringdex_engine::store::Directory;
use ringdex_engine::store::sim::SimDirectory;
use ringdex_engine::write::plan::Condition;
use serde_json::json;

const QUERIES_MAX: usize = 6;
const OPERATIONS_MAX: usize = 1500;
const DEPTH_MAX: usize = 3;
/// Words of texts and of keywords.
const WORDS: usize = 24;
const TERM: PrimaryTerm = PrimaryTerm(1);

/// See the module.
pub fn body(data: &[u8]) {
    let mut c = Choices(data);
    let requests: Vec<Ask> = (0..1 + c.below(QUERIES_MAX)).map(|_| Ask::read(&mut c)).collect();
    block_on(async {
        let mut shard = Shard::open(&mut c).await;
        while !c.done() && shard.versions.len() < OPERATIONS_MAX {
            shard.step(&mut c).await;
        }
        shard.engine.refresh(0, &Unpaced).await.expect("refreshed");
        let world = World::of(&shard);
        for request in &requests {
            world.check(request).await;
        }
    });
}

fn word(n: u8) -> String {
    format!("{}{}", char::from(b'a' + n % 4), n / 4)
}

/// A document as the scan sees it.
#[derive(Clone, Debug, Default)]
struct Doc {
    id: u32,
    /// Words of `t`, in order.
    text: Vec<u8>,
    /// Words of `k`, ascending.
    keywords: Vec<u8>,
    /// Values of `n`, ascending.
    numbers: Vec<i64>,
}

impl Doc {
    fn source(&self) -> String {
        let mut out = String::from("{");
        if !self.text.is_empty() {
            let words: Vec<String> = self.text.iter().map(|&w| word(w)).collect();
            out.push_str(&format!("\"t\": \"{}\", ", words.join(" ")));
        }
        let words: Vec<String> = self.keywords.iter().rev().map(|&w| format!("\"{}\"", word(w))).collect();
        out.push_str(&format!("\"k\": [{}], \"n\": {:?}}}", words.join(","), self.numbers));
        out
    }
}

thread_local! {
    static MAPPING: Rc<Mapping> = {
        let fields = json!({"properties": {"t": {"type": "text"}, "k": {"type": "keyword"}, "n": {"type": "long"}}});
        Rc::new(Mapping::parse(&fields, &AnalyzerRegistry::default()).expect("a mapping"))
    };
    static INDEX: IndexContext = IndexContext { index: "i".to_owned(), ..IndexContext::default() };
}

struct Shard {
    engine: Engine<SimDirectory>,
    mapping: Rc<Mapping>,
    parsed: ParsedDocument,
    /// By sequence number; none for deletes.
    versions: Vec<Option<Doc>>,
    /// The last of each id.
    live: BTreeMap<u32, usize>,
    next_id: u32,
}

impl Shard {
    async fn open(c: &mut Choices<'_>) -> Shard {
        let codec = if c.chance(20) { Codec::BestCompression } else { Codec::Default };
        let seed = HashSeed::new(c.byte().into());
        let config = EngineConfig { shard_uuid: [7; 16], codec, translog_generation_bytes: 1 << 20, hash_seed: seed };
        Shard {
            engine: Engine::open(SimDirectory::new(1), config).await.expect("an empty disk"),
            mapping: MAPPING.with(Rc::clone),
            parsed: ParsedDocument::default(),
            versions: Vec::new(),
            live: BTreeMap::new(),
            next_id: 0,
        }
    }

    async fn step(&mut self, c: &mut Choices<'_>) {
        match c.byte() {
            0..160 => self.documents(c).await,
            160..185 => {
                for _ in 0..1 + c.below(40) {
                    let id = c.number() as u32 % (self.next_id + 1);
                    self.engine.translog().reserve(64).await.expect("space");
                    self.engine.delete(&id.to_string(), Condition::Any, TERM, 0).expect("deleted");
                    self.live.remove(&id);
                    self.versions.push(None);
                }
            }
            185..225 => drop(self.engine.refresh(0, &Unpaced).await.expect("refreshed")),
            225..235 => drop(self.engine.flush(c.chance(50), 0, &Unpaced).await.expect("flushed")),
            _ => self.merge(c).await,
        }
        self.engine.sync().await.expect("synced");
    }

    /// A run of documents, new ones and at times new versions of old ones.
    async fn documents(&mut self, c: &mut Choices<'_>) {
        let count = 1 + c.below(32) * if c.chance(20) { 20 } else { 1 };
        let (lengths, skew, odd) = (c.below(40) as u64, c.byte(), c.number());
        let (again, words, spread) = (u64::from(c.byte()), 1 + c.below(WORDS) as u64, 1 + c.number() % 5000);
        for i in 0..count.min(OPERATIONS_MAX - self.versions.len()) {
            let mut random = Dice(scatter(odd ^ (i as u64) << 32));
            let id = if random.below(1024) < again {
                random.below(u64::from(self.next_id) + 1) as u32
            } else {
                self.next_id
            };
            self.next_id = self.next_id.max(id + 1);
            let one = |random: &mut Dice| {
                let w = random.below(words);
                (if skew & 1 == 0 { w } else { w * random.below(words) / words }) as u8
            };
            let length = random.below(lengths + 1);
            let mut doc = Doc { id, text: (0..length).map(|_| one(&mut random)).collect(), ..Doc::default() };
            let few = 1 + u64::from(skew >> 1 & 3);
            doc.keywords = (0..random.below(few + 1)).map(|_| one(&mut random)).collect();
            doc.keywords.sort_unstable();
            doc.keywords.dedup();
            let numbers = if skew & 64 == 0 { 1 } else { random.below(few + 1) };
            doc.numbers = (0..numbers).map(|_| random.below(spread) as i64 - (spread / 3) as i64).collect();
            doc.numbers.sort_unstable();
            self.put(doc).await;
            if i % 256 == 255 {
                self.engine.sync().await.expect("synced");
            }
        }
    }

    async fn put(&mut self, doc: Doc) {
        let (id, source) = (doc.id.to_string(), doc.source());
        self.engine.translog().reserve(source.len() + 64).await.expect("space");
        document::parse(&self.mapping, &id, source.as_bytes(), &mut self.parsed).expect("a document");
        let operation = IndexOperation {
            id: &id,
            routing: None,
            source: source.as_bytes(),
            condition: Condition::Any,
            create: false,
            auto_id: false,
        };
        let applied = self.engine.index(&self.mapping, &self.parsed, &operation, TERM).expect("indexed");
        assert_eq!(applied.seq_no, SeqNo(self.versions.len() as i64));
        let existed = self.live.insert(doc.id, self.versions.len()).is_some();
        assert_eq!(applied.existed, existed);
        self.versions.push(Some(doc));
    }

    /// Some neighbouring segments become one, at times while documents come and go.
    async fn merge(&mut self, c: &mut Choices<'_>) {
        let sizes = self.engine.segment_sizes();
        if sizes.is_empty() {
            return;
        }
        let from = c.below(sizes.len());
        let count = 1 + c.below(sizes.len() - from);
        let candidate = MergeCandidate { segments: sizes[from..from + count].iter().map(|s| s.id).collect() };
        let job = self.engine.begin_merge(&candidate).expect("all are free");
        let merged = job.run(self.engine.directory(), &ringdex_engine::pace::Unpaced).await.expect("merged");
        if c.chance(30) {
            self.documents(c).await;
            self.engine.refresh(0, &Unpaced).await.expect("refreshed");
        }
        let bytes = match merged.meta {
            Some(_) => Some(self.engine.directory().map(&job.name).await.expect("it was written")),
            None => None,
        };
        let before: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
        self.engine.finish_merge(job.target, &before, &merged.maps, bytes).await.expect("swapped in");
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = scatter(self.0);
        (self.0 >> 8) % n.max(1)
    }
}

/// What matches, in the words of the scan.
#[derive(Clone, Debug)]
enum Node {
    All,
    /// Words of `t`, and how many must be there.
    Match(Vec<u8>, usize),
    Phrase(Vec<u8>),
    /// In `t`, scored.
    Text(u8),
    /// In `k`, scored as a field without norms.
    Keyword(u8),
    Keywords(Vec<u8>),
    Number(i64),
    /// From, to, both included.
    Range(Option<i64>, Option<i64>),
    /// Words of `k` or `t` that begin with a letter and perhaps a digit.
    Prefix(bool, String),
    Exists(usize),
    Constant(Box<Asked>),
    Bool {
        must: Vec<Asked>,
        filter: Vec<Asked>,
        should: Vec<Asked>,
        must_not: Vec<Asked>,
        minimum: Option<usize>,
    },
    Max(Vec<Asked>, f32),
}

#[derive(Clone, Debug)]
struct Asked {
    node: Node,
    boost: f32,
}

const FIELDS: [&str; 3] = ["t", "k", "n"];

impl Asked {
    fn read(c: &mut Choices<'_>, depth: usize) -> Asked {
        let boost = if c.chance(20) { c.below(6) as f32 / 2.0 } else { 1.0 };
        Asked { node: Node::read(c, depth), boost }
    }

    fn query(&self) -> Query {
        Query { boost: self.boost, ..Query::from(self.node.query()) }
    }
}

fn words(c: &mut Choices<'_>, count: usize) -> Vec<u8> {
    (0..1 + c.below(count)).map(|_| c.below(WORDS) as u8).collect()
}

impl Node {
    fn read(c: &mut Choices<'_>, depth: usize) -> Node {
        let some = |c: &mut Choices<'_>| (0..c.below(4)).map(|_| Asked::read(c, depth - 1)).collect();
        match c.below(if depth > 0 { 22 } else { 14 }) {
            0..3 => {
                let mut words = words(c, 5);
                words.sort_unstable();
                words.dedup();
                let needed = 1 + c.below(words.len());
                let needed = if c.chance(30) { words.len() } else { needed.min(2) };
                Node::Match(words, needed)
            }
            3 | 4 => Node::Phrase([words(c, 3), words(c, 1)].concat()),
            5 => Node::Text(c.below(WORDS) as u8),
            6 => Node::Keyword(c.below(WORDS) as u8),
            7 => Node::Keywords(words(c, 4)),
            8 => Node::Number(c.number() as i64 % 5000 - 1000),
            9 | 10 => {
                let mut end = || c.chance(80).then(|| c.number() as i64 % 5000 - 1000);
                Node::Range(end(), end())
            }
            11 => {
                let all = word(c.below(WORDS) as u8);
                Node::Prefix(c.chance(50), all[..if c.chance(50) { 1 } else { all.len() }].to_owned())
            }
            12 => Node::Exists(c.below(3)),
            13 => Node::All,
            14 => Node::Constant(Box::new(Asked::read(c, depth - 1))),
            15 => {
                let queries = (0..1 + c.below(3)).map(|_| Asked::read(c, depth - 1)).collect();
                Node::Max(queries, c.below(3) as f32 / 2.0)
            }
            _ => {
                let (must, filter, should, must_not) = (some(c), some(c), some(c), some(c));
                let must_not = if c.chance(40) { must_not } else { Vec::new() };
                let minimum = c.chance(30).then(|| c.below(3));
                Node::Bool { must, filter, should, must_not, minimum }
            }
        }
    }

    fn query(&self) -> QueryKind {
        let text = |w: &[u8]| Value::String(w.iter().map(|&w| word(w)).collect::<Vec<_>>().join(" "));
        let all = |asked: &[Asked]| asked.iter().map(Asked::query).collect();
        let matched =
            |words: &[u8], kind, options| QueryKind::Match { field: "t".into(), text: text(words), kind, options };
        let term = |field: &str, value| QueryKind::Term { field: field.into(), value, case_insensitive: false };
        let bound = |b: &Option<i64>| b.map(|value| Bound { value: Value::Int(value), inclusive: true });
        match self {
            Node::All => QueryKind::MatchAll,
            Node::Match(words, needed) => {
                let and = *needed == words.len();
                let options = TextOptions {
                    operator: if and { Operator::And } else { Operator::Or },
                    minimum_should_match: (!and && *needed > 1).then(|| needed.to_string()),
                    ..TextOptions::default()
                };
                matched(words, MatchKind::Terms, options)
            }
            Node::Phrase(words) => matched(words, MatchKind::Phrase, TextOptions::default()),
            Node::Text(w) => term("t", Value::String(word(*w))),
            Node::Keyword(w) => term("k", Value::String(word(*w))),
            Node::Number(n) => term("n", Value::Int(*n)),
            Node::Keywords(words) => {
                let values = words.iter().map(|&w| Value::String(word(w))).collect();
                QueryKind::Terms { field: "k".into(), values }
            }
            Node::Range(lower, upper) => QueryKind::Range {
                field: "n".into(),
                lower: bound(lower),
                upper: bound(upper),
                format: None,
                time_zone: None,
            },
            Node::Prefix(of_text, value) => QueryKind::Prefix {
                field: if *of_text { "t" } else { "k" }.into(),
                value: value.clone(),
                case_insensitive: false,
            },
            Node::Exists(field) => QueryKind::Exists { field: FIELDS[*field].into() },
            Node::Constant(inner) => QueryKind::ConstantScore { filter: Box::new(inner.query()) },
            Node::Max(queries, tie_breaker) => QueryKind::DisMax { queries: all(queries), tie_breaker: *tie_breaker },
            Node::Bool { must, filter, should, must_not, minimum } => QueryKind::Bool {
                must: all(must),
                filter: all(filter),
                should: all(should),
                must_not: all(must_not),
                minimum_should_match: minimum.map(|m| m.to_string()),
            },
        }
    }
}

/// A request.
#[derive(Debug)]
struct Ask {
    query: Asked,
    top: usize,
    total: TrackTotalHits,
    /// By `n`: descending, and those without a value first.
    sort: Option<(bool, bool)>,
    aggs: bool,
}

impl Ask {
    fn read(c: &mut Choices<'_>) -> Ask {
        let total = match c.below(3) {
            0 => TrackTotalHits::All,
            1 => TrackTotalHits::None,
            _ => TrackTotalHits::Limit(c.below(256) as u64),
        };
        let sort = c.chance(30).then(|| (c.chance(50), c.chance(50)));
        Ask { top: 1 + c.below(50), total, sort, aggs: c.chance(30), query: Asked::read(c, DEPTH_MAX) }
    }

    fn request(&self) -> SearchRequest {
        let by_n = |(descending, first): (bool, bool)| {
            let missing = if first { Missing::First } else { Missing::Last };
            let by = SortBy::Field { field: "n".into(), mode: None, missing, unmapped_type: None, format: None };
            SortKey { by, descending }
        };
        let agg = |kind| AggRequest { name: "a".to_owned(), kind, subs: Vec::new(), meta: None };
        let terms = TermsRequest {
            source: ValuesSource::field("k"),
            size: 1000,
            shard_size: Some(1000),
            min_doc_count: 1,
            shard_min_doc_count: 0,
            order: Vec::new(),
            include: None,
            exclude: None,
            show_term_doc_count_error: false,
            rare: None,
        };
        let stats = AggKind::Metric { metric: Metric::Stats, source: ValuesSource::field("n") };
        SearchRequest {
            query: Some(self.query.query()),
            post_filter: None,
            top: self.top,
            sort: self.sort.map(by_n).into_iter().collect(),
            search_after: None,
            track_total_hits: self.total,
            track_scores: false,
            rescore: Vec::new(),
            min_score: None,
            terminate_after: None,
            aggs: if self.aggs { vec![agg(AggKind::Terms(terms)), agg(stats)] } else { Vec::new() },
            now_ms: 0,
            statistics: None,
        }
    }
}

/// A field's statistics, and documents by word.
#[derive(Default)]
struct Counts {
    stats: FieldStats,
    doc_freqs: [u64; WORDS],
}

/// What the segments have.
struct World<'a> {
    shard: &'a Shard,
    searcher: Searcher,
    /// Live ones, in index order.
    live: Vec<(DocAddress, &'a Doc)>,
    text: Counts,
    keywords: Counts,
}

impl<'a> World<'a> {
    /// Looks at every document of every segment; live are exactly the last versions.
    fn of(shard: &'a Shard) -> World<'a> {
        let searcher = shard.engine.searcher();
        let mut world =
            World { shard, searcher, live: Vec::new(), text: Counts::default(), keywords: Counts::default() };
        let mut found = BTreeMap::new();
        let mut cache = SourceCache::default();
        let mut source = Vec::new();
        for (segment, view) in world.searcher.segments.iter().enumerate() {
            for doc in 0..view.reader.doc_count() {
                let seq_no = view.reader.seq_no(doc).0 as usize;
                let model = shard.versions[seq_no].as_ref().expect("not a delete");
                assert_eq!(view.reader.id(doc), model.id.to_string());
                source.clear();
                view.reader.source(doc, &mut cache, &mut source).expect("it was written");
                assert_eq!(source, model.source().into_bytes());
                if view.live.as_ref().is_none_or(|live| live.is_live(doc)) {
                    world.text.add(&model.text);
                    world.keywords.add(&model.keywords);
                    world.live.push((DocAddress { segment: segment as u32, doc }, model));
                    assert_eq!(found.insert(model.id, seq_no), None, "two live versions of {}", model.id);
                }
            }
        }
        assert_eq!(found, shard.live);
        world
    }

    /// The score of `doc`, if it matches.
    fn score(&self, asked: &Asked, doc: &Doc, boost: f32) -> Option<f32> {
        let boost = boost * asked.boost;
        let constant = |yes: bool| yes.then_some(boost);
        match &asked.node {
            Node::All => Some(boost),
            Node::Text(w) => self.text.score(&[*w], occurrences(&doc.text, &[*w]), doc.text.len(), boost),
            Node::Keyword(w) => self.keywords.score(&[*w], usize::from(doc.keywords.contains(w)), 1, boost),
            Node::Phrase(words) => self.text.score(words, occurrences(&doc.text, words), doc.text.len(), boost),
            Node::Match(words, needed) => {
                let one = |w: &u8| self.text.score(&[*w], occurrences(&doc.text, &[*w]), doc.text.len(), boost);
                let scores: Vec<f32> = words.iter().filter_map(one).collect();
                (scores.len() >= *needed).then(|| sum(&scores))
            }
            Node::Keywords(words) => constant(words.iter().any(|w| doc.keywords.contains(w))),
            Node::Number(n) => constant(doc.numbers.contains(n)),
            Node::Range(lower, upper) => {
                let within = |n: &i64| lower.is_none_or(|l| *n >= l) && upper.is_none_or(|u| *n <= u);
                constant(doc.numbers.iter().any(within))
            }
            Node::Prefix(of_text, value) => {
                let words = if *of_text { &doc.text } else { &doc.keywords };
                constant(words.iter().any(|&w| word(w).starts_with(value)))
            }
            Node::Exists(field) => constant(match field {
                0 => !doc.text.is_empty(),
                1 => !doc.keywords.is_empty(),
                _ => !doc.numbers.is_empty(),
            }),
            Node::Constant(inner) => constant(self.score(inner, doc, 1.0).is_some()),
            Node::Max(queries, tie_breaker) => {
                let scores: Vec<f32> = queries.iter().filter_map(|q| self.score(q, doc, boost)).collect();
                let best = scores.iter().copied().reduce(f32::max)?;
                let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
                Some((f64::from(best) + (sum - f64::from(best)) * f64::from(*tie_breaker)) as f32)
            }
            Node::Bool { must, filter, should, must_not, minimum } => {
                if must.len() + filter.len() + should.len() + must_not.len() == 0 {
                    return Some(boost);
                }
                let mut scores = must.iter().map(|q| self.score(q, doc, boost)).collect::<Option<Vec<f32>>>()?;
                if filter.iter().any(|q| self.score(q, doc, boost).is_none())
                    || must_not.iter().any(|q| self.score(q, doc, boost).is_some())
                {
                    return None;
                }
                let optional: Vec<f32> = should.iter().filter_map(|q| self.score(q, doc, boost)).collect();
                let required = !must.is_empty() || !filter.is_empty();
                let needed = minimum.unwrap_or(0).max(usize::from(!required && !should.is_empty()));
                if optional.len() < needed {
                    return None;
                }
                // Rounded as Lucene does: what must match in double precision, what may in double precision, both together
                // in single precision; where some of the optional clauses are needed, they count as one that must match.
                Some(match needed {
                    0 => sum(&scores) + sum(&optional),
                    n if n == should.len() || !required => {
                        scores.extend_from_slice(&optional);
                        sum(&scores)
                    }
                    _ => {
                        scores.push(sum(&optional));
                        sum(&scores)
                    }
                })
            }
        }
    }

    async fn check(&self, ask: &Ask) {
        let index = INDEX.with(Clone::clone);
        let answer = query(&self.searcher, &self.shard.mapping, &index, &ask.request(), &Unpaced).await;
        let answer = answer.unwrap_or_else(|e| panic!("{e}: {ask:?}"));
        let scored =
            |&(at, doc): &(DocAddress, &'a Doc)| self.score(&ask.query, doc, 1.0).map(|score| (at, doc, score));
        let mut expected: Vec<(DocAddress, &Doc, f32)> = self.live.iter().filter_map(scored).collect();
        let total = expected.len() as u64;
        let shown = || format!("{ask:?}\nof {} documents, {total} expected, got {answer:?}", self.live.len());
        match ask.total {
            TrackTotalHits::All => assert_eq!((answer.total, answer.total_exact), (total, true), "{}", shown()),
            TrackTotalHits::Limit(n) => {
                assert_eq!((answer.total, answer.total_exact), (total.min(n), total <= n), "{}", shown());
            }
            TrackTotalHits::None => {}
        }
        assert_eq!(answer.hits.len(), ask.top.min(expected.len()), "{}", shown());
        if ask.aggs {
            check_aggregations(&answer, expected.iter().map(|e| e.1), &shown);
        }
        match ask.sort {
            None => expected.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0))),
            Some((descending, first)) => {
                let key = |doc: &Doc| {
                    let value = if descending { doc.numbers.last() } else { doc.numbers.first() };
                    let place = match value {
                        Some(_) => 1,
                        None => 2 * u8::from(!first),
                    };
                    (place, value.map(|&v| if descending { -v } else { v }))
                };
                expected.sort_by_key(|e| (key(e.1), e.0));
            }
        }
        for (hit, (at, doc, score)) in answer.hits.iter().zip(&expected) {
            assert_eq!(hit.doc, *at, "{} should score {score}, {}", doc.source(), shown());
            match ask.sort {
                None => assert_eq!(hit.score.to_bits(), score.to_bits(), "{score}: {} {}", doc.source(), shown()),
                Some((descending, first)) => {
                    let value = if descending { doc.numbers.last() } else { doc.numbers.first() };
                    // Without one a document sorts as the end of the range that it is to be at.
                    let missing = if first == descending { i64::MAX } else { i64::MIN };
                    assert_eq!(hit.sort, [SortValue::Int(value.copied().unwrap_or(missing))], "{}", shown());
                }
            }
        }
        if ask.sort.is_none() {
            assert_eq!(answer.max_score, expected.first().map(|e| e.2), "{}", shown());
        }
    }
}

/// Documents per keyword, and what is known of the numbers.
fn check_aggregations<'a>(answer: &QueryResult, docs: impl Iterator<Item = &'a Doc>, shown: &dyn Fn() -> String) {
    let (mut buckets, mut numbers) = (BTreeMap::new(), Vec::new());
    for doc in docs {
        doc.keywords.iter().for_each(|&w| *buckets.entry(word(w)).or_insert(0) += 1);
        numbers.extend_from_slice(&doc.numbers);
    }
    let [AggPartial::Terms(terms), AggPartial::Stats(stats)] = &answer.aggs[..] else { panic!("{}", shown()) };
    let found = terms.buckets.iter().map(|bucket| match &bucket.key {
        TermKey::String(key) => (key.clone(), bucket.doc_count),
        _ => panic!("{}", shown()),
    });
    assert!(found.eq(buckets), "{}", shown());
    assert_eq!(terms.other_doc_count, 0);
    let end = |value: Option<&i64>| value.map(|&v| v as f64);
    assert_eq!(stats.count, numbers.len() as u64, "{}", shown());
    assert_eq!(stats.sum.value(), numbers.iter().sum::<i64>() as f64, "{}", shown());
    assert_eq!((stats.min, stats.max), (end(numbers.iter().min()), end(numbers.iter().max())), "{}", shown());
}

fn sum(scores: &[f32]) -> f32 {
    // From 0, for a sum of nothing is -0 otherwise.
    scores.iter().fold(0.0, |sum, &s| sum + f64::from(s)) as f32
}

fn occurrences(words: &[u8], phrase: &[u8]) -> usize {
    words.windows(phrase.len()).filter(|w| *w == phrase).count()
}

impl Counts {
    fn add(&mut self, words: &[u8]) {
        self.stats.doc_count += u64::from(!words.is_empty());
        self.stats.sum_total_term_freq += words.len() as u64;
        for (w, count) in (0..).zip(&mut self.doc_freqs) {
            *count += u64::from(words.contains(&w));
        }
    }

    /// BM25 of occurrences of words next to each other, by the formula.
    fn score(&self, words: &[u8], freq: usize, length: usize, boost: f32) -> Option<f32> {
        if freq == 0 {
            return None;
        }
        let length = norm_decode(norm_encode(length as u32)) as f32;
        let norm = 1.2f32 * ((1.0 - 0.75) + 0.75 * length / self.stats.average_length());
        let idf = words.iter().map(|&w| f64::from(bm25::idf(self.doc_freqs[w as usize], self.stats.doc_count)));
        Some(bm25::score(boost * 2.2 * idf.sum::<f64>() as f32, freq as f32, norm))
    }
}

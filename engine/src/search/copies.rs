//! Copies of a shard: the same operations, each with refreshes, flushes and merges of its own, one recovered from another's
//! files. All of them must give the same hits the same scores, to the last bit.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::analysis::AnalyzerRegistry;
use crate::budget::Pool;
use crate::copy::RecoveryTarget;
use crate::document::{self, ParsedDocument};
use crate::engine::{Engine, EngineConfig, IndexOperation};
use crate::ids::{PrimaryTerm, SegmentId};
use crate::mapping::Mapping;
use crate::merge::policy::MergeCandidate;
use crate::pace::Unpaced;
use crate::query::{Fuzziness, MatchKind, MultiMatchKind, Operator, Query, QueryKind, TextOptions, Value};
use crate::search::bm25::{Bm25, FieldStats, NormTable};
use crate::search::statistics::statistics;
use crate::search::tests::{Dice, request};
use crate::search::{IndexContext, LiveCounts, Searcher, query};
use crate::seed::HashSeed;
use crate::segment::Codec;
use crate::segment::norms::norm_encode;
use crate::store::Directory;
use crate::store::sim::SimDirectory;
use crate::write::plan::Condition;

const UUID: [u8; 16] = [9; 16];
/// Text fields: with positions, with overlapping tokens, without norms, documents only; then keywords of all kinds.
const TEXTS: [&str; 4] = ["t", "s", "v", "w"];
const KEYWORDS: [&str; 4] = ["k", "kf", "kn", "kd"];

fn registry() -> Arc<AnalyzerRegistry> {
    let settings = json!({
        "analyzer": {"alike": {"type": "custom", "tokenizer": "standard", "filter": ["alike"]}},
        "filter": {"alike": {"type": "synonym", "synonyms": ["aw0, bw1, cw2", "bw4, aw3"]}},
    });
    Arc::new(AnalyzerRegistry::new(&settings).unwrap())
}

fn mapping(registry: &AnalyzerRegistry) -> Mapping {
    let fields = json!({"properties": {
        "t": {"type": "text"},
        "s": {"type": "text", "analyzer": "alike"},
        "v": {"type": "text", "norms": false},
        "w": {"type": "text", "index_options": "docs"},
        "k": {"type": "keyword"},
        "kf": {"type": "keyword", "index_options": "freqs"},
        "kn": {"type": "keyword", "norms": true},
        "kd": {"type": "keyword", "doc_values": false},
    }});
    Mapping::parse(&fields, registry).unwrap()
}

fn source(dice: &mut Dice) -> Json {
    let mut out = serde_json::Map::new();
    for field in TEXTS {
        // Some longer than norms tell exactly.
        let length = if dice.roll(6) == 0 { 40 + dice.roll(90) } else { dice.roll(9) };
        if length > 0 {
            let words: Vec<String> = (0..length).map(|_| dice.word(12)).collect();
            out.insert(field.to_owned(), json!(words.join(" ")));
        }
    }
    for field in KEYWORDS {
        let words: Vec<String> = (0..dice.roll(4)).map(|_| dice.word(6)).collect();
        out.insert(field.to_owned(), json!(words));
    }
    Json::Object(out)
}

struct Copy {
    engine: Engine<SimDirectory>,
    mapping: Mapping,
    index: IndexContext,
    dice: Dice,
}

impl Copy {
    fn open(disk: SimDirectory, registry: &Arc<AnalyzerRegistry>, seed: u64, room: Option<u64>) -> Copy {
        let config = EngineConfig {
            shard_uuid: UUID,
            codec: Codec::Default,
            translog_generation_bytes: 1 << 20,
            hash_seed: HashSeed::new(seed),
        };
        let counts = room.map(|room| LiveCounts::new(Pool::new("live_counts", room), HashSeed::new(seed)));
        let engine = block_on(Engine::open(disk, config)).unwrap();
        let mapping = mapping(registry);
        let mut replay = engine.replay();
        while let Some(batch) = block_on(replay.next()).unwrap() {
            assert_eq!(batch.operations().count(), 0, "all of it was flushed");
        }
        drop(replay);
        let index = IndexContext { analyzers: Arc::clone(registry), live_counts: counts, ..IndexContext::default() };
        Copy { engine, mapping, index, dice: Dice(seed | 1) }
    }

    fn put(&self, id: &str, source: &Json) {
        let source = source.to_string();
        block_on(self.engine.translog().reserve(source.len() + 64)).unwrap();
        let mut parsed = ParsedDocument::default();
        document::parse(&self.mapping, id, source.as_bytes(), &mut parsed).unwrap();
        let (source, condition) = (source.as_bytes(), Condition::Any);
        let operation = IndexOperation { id, routing: None, source, condition, create: false, auto_id: false };
        self.engine.index(&self.mapping, &parsed, &operation, PrimaryTerm(1)).unwrap();
    }

    fn delete(&self, id: &str) {
        block_on(self.engine.translog().reserve(64)).unwrap();
        self.engine.delete(id, Condition::Any, PrimaryTerm(1), 0).unwrap();
    }

    fn refresh(&self) {
        block_on(self.engine.sync()).unwrap();
        block_on(self.engine.refresh(0, &Unpaced)).unwrap();
        if let Some(counts) = &self.index.live_counts {
            counts.retain(&self.engine.searcher());
        }
    }

    fn flush(&self) {
        block_on(self.engine.sync()).unwrap();
        block_on(self.engine.flush(true, 0, &Unpaced)).unwrap();
    }

    /// Merges segments, those that `chosen` says.
    fn merge(&self, mut chosen: impl FnMut() -> bool) {
        self.flush();
        let sizes = self.engine.segment_sizes();
        let segments: Vec<SegmentId> = sizes.iter().map(|s| s.id).filter(|_| chosen()).collect();
        let Some(job) = self.engine.begin_merge(&MergeCandidate { segments }) else { return };
        let merged = block_on(job.run(self.engine.directory(), &crate::pace::Unpaced)).unwrap();
        let bytes = merged.meta.as_ref().map(|_| block_on(self.engine.directory().map(&job.name)).unwrap());
        let before: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
        block_on(self.engine.finish_merge(job.target, &before, &merged.maps, bytes)).unwrap();
    }

    /// Whatever this copy does of itself after an operation.
    fn live(&mut self) {
        match self.dice.roll(24) {
            0..4 => self.refresh(),
            4 => self.flush(),
            5 => {
                let mut dice = Dice(self.dice.roll(1 << 40) | 1);
                self.merge(|| dice.roll(2) == 0);
            }
            _ => {}
        }
    }

    /// Another copy of the files this one has.
    fn recovered(&self, registry: &Arc<AnalyzerRegistry>, seed: u64, room: Option<u64>) -> Copy {
        self.flush();
        let disk = SimDirectory::new(seed);
        block_on(async {
            let snapshot = self.engine.snapshot_files().await.unwrap();
            let mut target = RecoveryTarget::begin(disk.clone(), UUID, snapshot.files().to_vec()).await.unwrap();
            loop {
                let next = target.missing().next().map(|(f, offset)| (f.name.clone(), offset));
                let Some((name, offset)) = next else { break };
                let bytes = snapshot.read(&name, offset, 1 << 20).await.unwrap();
                target.write(&name, offset, bytes.into()).await.unwrap();
            }
            target.install().await.unwrap();
        });
        Copy::open(disk, registry, seed, room)
    }

    /// Ids and bits of scores of all hits in the order of the ids, then of the scores of the best few.
    fn hits(&self, searcher: &Searcher, query_of: &Query) -> (Vec<(String, u32)>, Vec<u32>) {
        let run =
            |top| block_on(query(searcher, &self.mapping, &self.index, &request(query_of.clone(), top), &Unpaced));
        let id = |doc: crate::search::DocAddress| searcher.segments[doc.segment as usize].reader.id(doc.doc).to_owned();
        let mut all: Vec<(String, u32)> =
            run(1 << 16).unwrap().hits.iter().map(|h| (id(h.doc), h.score.to_bits())).collect();
        let mut best: Vec<u32> = all.iter().map(|h| h.1).collect();
        best.sort_unstable_by_key(|bits| std::cmp::Reverse(*bits));
        best.truncate(4);
        let pruned: Vec<u32> = run(4).unwrap().hits.iter().map(|h| h.score.to_bits()).collect();
        assert_eq!(pruned, best, "{query_of:?}: bounds hold");
        all.sort();
        (all, pruned)
    }
}

/// One of each kind that scores.
fn queries(dice: &mut Dice) -> Vec<Query> {
    let mut words = |n: u64| (0..n).map(|_| dice.word(12)).collect::<Vec<_>>().join(" ");
    let matched = |field: &str, text: String, kind, options| {
        Query::from(QueryKind::Match { field: field.to_owned(), text: Value::String(text), kind, options })
    };
    let plain = TextOptions::default;
    let and = || TextOptions { operator: Operator::And, ..plain() };
    let fuzzy = || Fuzziness {
        edits: Some(1),
        auto_low: 3,
        auto_high: 6,
        max_expansions: 2,
        prefix_length: 0,
        transpositions: true,
    };
    let mut out = Vec::new();
    for field in TEXTS {
        out.push(matched(field, words(1), MatchKind::Terms, plain()));
        out.push(matched(field, words(3), MatchKind::Terms, plain()));
        out.push(matched(field, words(2), MatchKind::Terms, and()));
        out.push(matched(
            field,
            words(3),
            MatchKind::Terms,
            TextOptions { minimum_should_match: Some("2".into()), ..plain() },
        ));
        out.push(matched(field, words(1), MatchKind::Terms, TextOptions { fuzziness: Some(fuzzy()), ..plain() }));
        if field != "w" {
            out.push(matched(field, words(2), MatchKind::Phrase, plain()));
            out.push(matched(field, words(2), MatchKind::Phrase, TextOptions { slop: 3, ..plain() }));
            let prefixed = format!("{} a", words(1));
            let few = TextOptions { max_expansions: Some(2), ..plain() };
            out.push(matched(field, prefixed, MatchKind::PhrasePrefix, few));
        }
        out.push(matched(field, format!("{} b", words(1)), MatchKind::BoolPrefix, plain()));
    }
    for field in KEYWORDS {
        out.push(matched(field, words(1), MatchKind::Terms, plain()));
    }
    let both = |kind| QueryKind::MultiMatch {
        fields: vec![("t".to_owned(), 1.0), ("v".to_owned(), 2.5), ("k".to_owned(), 0.5)],
        text: Value::String("aw0 bw1 cw2".to_owned()),
        kind,
        options: plain(),
        tie_breaker: Some(0.3),
    };
    out.extend(
        [MultiMatchKind::CrossFields, MultiMatchKind::BestFields, MultiMatchKind::MostFields].map(|k| both(k).into()),
    );
    for _ in 0..3 {
        let mut clause = |n: usize| -> Vec<Query> {
            let one = |dice: &mut Dice| Query {
                boost: 0.1 + dice.roll(90) as f32 / 7.0,
                ..out[dice.roll(out.len() as u64) as usize].clone()
            };
            (0..n).map(|_| one(dice)).collect()
        };
        let (must, should, filter, must_not) = (clause(1), clause(2), clause(1), clause(1));
        let bools = |must, should, filter, must_not| {
            Query::from(QueryKind::Bool { must, filter, should, must_not, minimum_should_match: None })
        };
        let more = [
            bools(must.clone(), should.clone(), vec![], vec![]),
            bools(vec![], should.clone(), vec![], must_not),
            bools(vec![], should.clone(), filter, vec![]),
            QueryKind::DisMax { queries: should, tie_breaker: 0.4 }.into(),
        ];
        out.extend(more);
    }
    out
}

/// Documents as they are, by id.
type Model = BTreeMap<String, Json>;

/// Statistics counted anew: of a term, documents; of its field, documents and occurrences.
fn recount(model: &Model, mapping: &Mapping, field: &str, term: &str) -> (u64, u64, u64) {
    let mapped = mapping.field(field).unwrap();
    let (mut doc_freq, mut docs, mut sum) = (0, 0, 0);
    for source in model.values() {
        let mut terms: Vec<String> = Vec::new();
        match &source[field] {
            Json::String(text) => {
                let analyzer = mapped.analyzer.as_ref().unwrap();
                analyzer.tokens(text, &mut |token| terms.push(token.term.to_owned()));
            }
            Json::Array(values) => terms.extend(values.iter().map(|v| v.as_str().unwrap().to_owned())),
            _ => {}
        }
        let distinct: BTreeSet<&String> = terms.iter().collect();
        doc_freq += u64::from(terms.iter().any(|t| t == term));
        docs += u64::from(!terms.is_empty());
        sum += if matches!(field, "w" | "k" | "kn" | "kd") { distinct.len() } else { terms.len() } as u64;
    }
    (doc_freq, docs, sum)
}

fn check_statistics(copy: &Copy, model: &Model, word: &str) {
    for field in TEXTS.iter().chain(&KEYWORDS) {
        let kind = QueryKind::Term {
            field: (*field).to_owned(),
            value: Value::String(word.to_owned()),
            case_insensitive: false,
        };
        let searcher = copy.engine.searcher();
        let found = block_on(statistics(&searcher, &copy.mapping, &copy.index, &kind.into(), 0, &Unpaced)).unwrap();
        let stats = found.field(field).unwrap();
        let got = (found.doc_freq(field, word.as_bytes()).unwrap(), stats.doc_count, stats.sum_total_term_freq);
        assert_eq!(got, recount(model, &copy.mapping, field, word), "{field}: {word}");
    }
}

/// The formula on what was counted anew gives the very scores.
fn check_scores(copy: &Copy, model: &Model, word: &str) {
    let (doc_freq, doc_count, sum_total_term_freq) = recount(model, &copy.mapping, "t", word);
    let stats = FieldStats { doc_count, sum_total_term_freq };
    let bm25 =
        Bm25::new(1.0, stats, &[doc_freq], Arc::new(NormTable::new(stats.average_length().max(f32::MIN_POSITIVE))));
    let expected = model.iter().filter_map(|(id, source)| {
        let words: Vec<&str> = source["t"].as_str()?.split(' ').collect();
        let freq = words.iter().filter(|w| **w == word).count();
        (freq > 0).then(|| (id.clone(), bm25.score(freq as f32, norm_encode(words.len() as u32)).to_bits()))
    });
    let kind =
        QueryKind::Term { field: "t".to_owned(), value: Value::String(word.to_owned()), case_insensitive: false };
    assert_eq!(copy.hits(&copy.engine.searcher(), &kind.into()).0, expected.collect::<Vec<_>>(), "{word}");
}

fn check_history(seed: u64, steps: usize, ids: u64) {
    let registry = registry();
    let mut dice = Dice(seed | 1);
    let open = |n: u64, room| Copy::open(SimDirectory::new(n), &registry, seed ^ (n << 32), room);
    let mut copies = vec![open(1, Some(1 << 24)), open(2, None), open(3, Some(3000))];
    let recover_at = dice.roll(steps as u64) as usize;
    let mut model = Model::new();
    let mut held: Option<(Searcher, Vec<(Query, (Vec<(String, u32)>, Vec<u32>))>)> = None;
    for step in 0..steps {
        let id = dice.roll(ids).to_string();
        if dice.roll(4) == 0 {
            copies.iter().for_each(|copy| copy.delete(&id));
            model.remove(&id);
        } else {
            let source = source(&mut dice);
            copies.iter().for_each(|copy| copy.put(&id, &source));
            model.insert(id, source);
        }
        copies.iter_mut().for_each(Copy::live);
        if step == recover_at {
            let more = copies[dice.roll(3) as usize].recovered(&registry, seed ^ 77, Some(1 << 24));
            copies.push(more);
        }
        if step + 1 == steps || dice.roll(steps as u64 / 5) == 0 {
            copies.iter().for_each(Copy::refresh);
            if step + 1 == steps {
                copies[1].merge(|| true);
                assert!(copies[1].engine.segments().iter().all(|s| s.deleted_count == 0));
            }
            let word = dice.word(12);
            for copy in &copies {
                check_statistics(copy, &model, &word);
                check_scores(copy, &model, &word);
            }
            let mut results = Vec::new();
            for query in queries(&mut dice) {
                let found: Vec<_> = copies.iter().map(|copy| copy.hits(&copy.engine.searcher(), &query)).collect();
                assert!(found.iter().all(|f| *f == found[0]), "{query:?}:\n{found:#?}");
                assert_eq!(copies[0].hits(&copies[0].engine.searcher(), &query), found[0], "asked again");
                results.push((query, found.into_iter().next().unwrap()));
            }
            // A point in time of before scores as it did.
            for (searcher, before) in held.iter() {
                for (query, result) in before {
                    assert_eq!(copies[0].hits(searcher, query), *result, "{query:?}");
                }
            }
            if held.is_none() || dice.roll(2) == 0 {
                held = Some((copies[0].engine.searcher(), results));
            }
        }
    }
    let pools: Vec<Rc<LiveCounts>> = copies.iter().filter_map(|c| c.index.live_counts.clone()).collect();
    drop(held);
    pools.iter().for_each(|counts| {
        counts.clear();
        assert_eq!(counts.bytes(), 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn every_copy_scores_alike(seed in any::<u64>(), steps in 5usize..150, ids in prop_oneof![Just(8u64), Just(40), Just(150)]) {
        check_history(seed, steps, ids);
    }
}

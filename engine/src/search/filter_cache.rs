//! Documents that filters match, kept from one search to the next: of each filter and segment a set. Sets are of the
//! immutable segment, and deletes are applied on top, so that a set is right for as long as its segment lives.
//!
//! - A filter is kept once it was used so often among the last 256 uses (`filter_key.rs` says how often), and on
//!   segments that are large by themselves and for their shard: small ones are searched fast and merged away soon.
//! - The least recently used go when there are too many, or no memory. The memory is shared with other shards: each gives
//!   up its own, and [`FilterCache::sweep`] gives up what an idle one would hold for ever.
//! - One shard, one core: no locks, nothing borrowed while others have their turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::budget::Pool;
use crate::ids::SegmentId;
use crate::lru::Lru;
use crate::search::Searcher;
use crate::search::doc_set::DocSet;
use crate::search::filter_key::FilterKey;
use crate::search::leaf::Evaluated;
use crate::search::weight::{Leaf, Weight};
use crate::seed::HashSeed;
use crate::segment::reader::SegmentReader;

/// Uses of filters that are remembered.
const HISTORY: usize = 256;
/// Bytes of an entry beside its key and its documents.
const ENTRY_BYTES: u64 = 256;

/// Which filters and segments are worth an entry.
#[derive(Clone, Copy, Debug)]
struct Policy {
    segment_docs_min: u64,
    /// A segment has at least one of so many of the shard's documents.
    segment_part_max: u64,
    /// Uses that are enough whatever the filter; none = as the filter says.
    uses_needed: Option<usize>,
}

/// See the module.
pub struct FilterCache {
    policy: Policy,
    seed: HashSeed,
    sets: RefCell<Lru<(SegmentId, FilterKey), Evaluated>>,
    history: RefCell<History>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// The last uses of filters, by hash.
struct History {
    hashes: Box<[u64; HISTORY]>,
    next: usize,
}

/// Counters and sizes of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCacheStats {
    /// Memory in use.
    pub bytes: u64,
    /// Look-ups that found the documents.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Sets there are.
    pub entries: u64,
    /// Sets there were, in all.
    pub kept_ever: u64,
}

impl FilterCache {
    /// An empty cache of at most `entries_max` sets that takes its memory from `pool`. Filters come from clients, so they hash
    /// under `seed`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, entries_max: usize, seed: HashSeed) -> Rc<FilterCache> {
        let policy = Policy { segment_docs_min: 10_000, segment_part_max: 33, uses_needed: None };
        FilterCache::with_policy(policy, pool, entries_max, seed)
    }

    /// For tests: every filter on every segment, from its first use on.
    #[cfg(test)]
    pub(crate) fn of_everything(pool: Arc<Pool>, entries_max: usize) -> Rc<FilterCache> {
        let policy = Policy { segment_docs_min: 0, segment_part_max: u64::MAX, uses_needed: Some(1) };
        FilterCache::with_policy(policy, pool, entries_max, HashSeed::new(1))
    }

    fn with_policy(policy: Policy, pool: Arc<Pool>, entries_max: usize, seed: HashSeed) -> Rc<FilterCache> {
        Rc::new(FilterCache {
            policy,
            seed,
            sets: RefCell::new(Lru::new(pool, entries_max, seed)),
            history: RefCell::new(History { hashes: Box::new([0; HISTORY]), next: 0 }),
            hits: Cell::new(0),
            misses: Cell::new(0),
        })
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> FilterCacheStats {
        let sets = self.sets.borrow();
        FilterCacheStats {
            bytes: sets.bytes(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            entries: sets.len() as u64,
            kept_ever: sets.kept_ever(),
        }
    }

    /// Forgets all documents; counters and uses stay.
    pub fn clear(&self) {
        self.sets.borrow_mut().retain(|_| false);
    }

    /// Forgets segments that `searcher` no longer has.
    pub fn retain(&self, searcher: &Searcher) {
        let alive: FxHashSet<SegmentId> = searcher.segments.iter().map(|s| s.reader.segment_id()).collect();
        self.sets.borrow_mut().retain(|(segment, _)| alive.contains(segment));
    }

    /// To be called now and then: while memory is short, what was not used since the call before goes.
    pub fn sweep(&self) {
        self.sets.borrow_mut().sweep();
    }

    pub(crate) fn key(&self, leaf: &Leaf) -> Option<FilterKey> {
        FilterKey::new(leaf, self.seed)
    }

    /// The key of clauses that filter as a whole.
    pub(crate) fn key_of_clauses(&self, weight: &Weight) -> Option<FilterKey> {
        FilterKey::of_clauses(weight, self.seed)
    }

    /// Remembers that a search uses the filter.
    pub(crate) fn note_use(&self, key: &FilterKey) {
        let history = &mut *self.history.borrow_mut();
        history.hashes[history.next] = key.hash;
        history.next = (history.next + 1) % HISTORY;
    }

    /// Whether filters are looked up on a segment of a shard of so many documents.
    pub(crate) fn is_for(&self, segment: &SegmentReader, shard_docs: u64) -> bool {
        let docs = u64::from(segment.doc_count());
        docs >= self.policy.segment_docs_min && docs.saturating_mul(self.policy.segment_part_max) >= shard_docs
    }

    /// The filter's documents in a segment, if they are known.
    pub(crate) fn get(&self, segment: SegmentId, key: &FilterKey) -> Option<Evaluated> {
        let found = self.sets.borrow_mut().get(&(segment, key.clone())).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    /// Whether the filter was used so often that its documents should be kept.
    pub(crate) fn wants(&self, key: &FilterKey) -> bool {
        let needed = self.policy.uses_needed.unwrap_or(key.uses_needed);
        self.history.borrow().hashes.iter().filter(|h| **h == key.hash).count() >= needed
    }

    /// Keeps the filter's documents, all of them, if there is memory or others can give way.
    pub(crate) fn keep(&self, segment: SegmentId, key: &FilterKey, docs: &Evaluated) {
        assert!(!matches!(docs, Evaluated::Column | Evaluated::Clauses), "not a set of documents");
        let bytes = docs.size_bytes() + key.bytes.len() as u64 + ENTRY_BYTES;
        self.sets.borrow_mut().insert((segment, key.clone()), docs.clone(), bytes);
    }
}

impl std::fmt::Debug for FilterCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

impl Evaluated {
    fn size_bytes(&self) -> u64 {
        match self {
            Evaluated::Nothing | Evaluated::Everything | Evaluated::Column | Evaluated::Clauses => 0,
            Evaluated::Set(set, _) => (size_of::<DocSet>() + set.size_bytes()) as u64,
            Evaluated::List(docs) => (docs.capacity() * 4) as u64,
        }
    }
}

/// The filters of one compiled query, by slot.
#[derive(Debug)]
pub(crate) struct QueryFilters {
    cache: Rc<FilterCache>,
    keys: Vec<Option<FilterKey>>,
    shard_docs: u64,
}

impl QueryFilters {
    pub(crate) fn new(cache: &Rc<FilterCache>, keys: Vec<Option<FilterKey>>, searcher: &Searcher) -> QueryFilters {
        let shard_docs = searcher.segments.iter().map(|s| u64::from(s.reader.doc_count())).sum();
        QueryFilters { cache: Rc::clone(cache), keys, shard_docs }
    }

    /// Remembers the use of each.
    pub(crate) fn note_uses(&self) {
        self.keys.iter().flatten().for_each(|key| self.cache.note_use(key));
    }

    /// The filter in a slot, and its cache, where they go with this segment.
    pub(crate) fn on(&self, slot: usize, segment: &SegmentReader) -> Option<(&FilterCache, &FilterKey)> {
        let key = self.keys.get(slot)?.as_ref()?;
        self.cache.is_for(segment, self.shard_docs).then_some((&*self.cache, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::AnalyzerRegistry;
    use crate::document::{self, ParsedDocument};
    use crate::engine::{Engine, EngineConfig, IndexOperation};
    use crate::ids::PrimaryTerm;
    use crate::mapping::Mapping;
    use crate::merge::policy::MergeCandidate;
    use crate::pace::{Pace, StopAfter, Unpaced};
    use crate::query::{Bound, Query, QueryKind, Value};
    use crate::search::tests::request;
    use crate::search::{IndexContext, SearchRequest, query};
    use crate::segment::Codec;
    use crate::store::Directory;
    use crate::store::sim::SimDirectory;
    use crate::write::plan::Condition;
    use futures_lite::future::block_on;
    use proptest::prelude::*;
    use serde_json::json;

    const TERM: PrimaryTerm = PrimaryTerm(1);

    struct Shard {
        engine: Engine<SimDirectory>,
        mapping: Mapping,
        parsed: ParsedDocument,
    }

    impl Shard {
        fn new() -> Shard {
            let fields = json!({"properties": {
                "t": {"type": "text"}, "k": {"type": "keyword"}, "n": {"type": "long"}, "b": {"type": "boolean"},
            }});
            let config = EngineConfig {
                shard_uuid: [7; 16],
                codec: Codec::Default,
                translog_generation_bytes: 1 << 20,
                hash_seed: HashSeed::new(3),
            };
            Shard {
                engine: block_on(Engine::open(SimDirectory::new(1), config)).unwrap(),
                mapping: Mapping::parse(&fields, &AnalyzerRegistry::default()).unwrap(),
                parsed: ParsedDocument::default(),
            }
        }

        fn put(&mut self, id: u32, n: i64) {
            let (id, word) = (id.to_string(), ["ab", "ac", "bc", "bd"][n.rem_euclid(4) as usize]);
            let source = match n % 7 {
                0 => json!({"t": "x y", "k": word}),
                m => json!({"t": if m < 3 { "x x" } else { "y" }, "k": [word, "z"], "n": n, "b": m == 4}),
            };
            let source = source.to_string();
            block_on(self.engine.translog().reserve(source.len() + 64)).unwrap();
            self.parsed.clear();
            document::parse(&self.mapping, &id, source.as_bytes(), &mut self.parsed).unwrap();
            let operation = IndexOperation {
                id: &id,
                routing: None,
                source: source.as_bytes(),
                condition: Condition::Any,
                create: false,
                auto_id: false,
            };
            self.engine.index(&self.mapping, &self.parsed, &operation, TERM).unwrap();
        }

        fn delete(&self, id: u32) {
            block_on(self.engine.translog().reserve(64)).unwrap();
            self.engine.delete(&id.to_string(), Condition::Any, TERM, 0).unwrap();
        }

        fn refresh(&self) {
            block_on(self.engine.sync()).unwrap();
            block_on(self.engine.refresh(0, &Unpaced)).unwrap();
        }

        fn merge(&self) {
            self.refresh();
            let segments: Vec<SegmentId> = self.engine.segment_sizes().iter().map(|s| s.id).collect();
            if segments.is_empty() {
                return;
            }
            let job = self.engine.begin_merge(&MergeCandidate { segments }).unwrap();
            let merged = block_on(job.run(self.engine.directory(), &crate::pace::Unpaced)).unwrap();
            let bytes = merged.meta.as_ref().map(|_| block_on(self.engine.directory().map(&job.name)).unwrap());
            let before: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
            block_on(self.engine.finish_merge(job.target, &before, &merged.maps, bytes)).unwrap();
        }

        /// What a search finds, as text: scores that were not computed are not equal to themselves.
        fn search<P: Pace>(&self, request: &SearchRequest, cache: Option<&Rc<FilterCache>>, pace: &P) -> String {
            let context = IndexContext { filter_cache: cache.cloned(), ..IndexContext::default() };
            let found = block_on(query(&self.engine.searcher(), &self.mapping, &context, request, pace)).unwrap();
            format!("{found:?}")
        }
    }

    fn range(from: i64, to: i64) -> Query {
        let bound = |value| Some(Bound { value: Value::Int(value), inclusive: true });
        let (field, lower, upper) = ("n".to_owned(), bound(from), bound(to));
        Query::from(QueryKind::Range { field, lower, upper, format: None, time_zone: None })
    }

    fn term(field: &str, value: Value) -> Query {
        Query::from(QueryKind::Term { field: field.to_owned(), value, case_insensitive: false })
    }

    fn boolean(must: Vec<Query>, filter: Vec<Query>, must_not: Vec<Query>) -> Query {
        Query::from(QueryKind::Bool { must, filter, should: Vec::new(), must_not, minimum_should_match: None })
    }

    /// One of each kind of filter, alone and beside terms.
    fn requests(a: i64, b: i64) -> Vec<SearchRequest> {
        let x = || term("t", Value::String("x".into()));
        let words = || {
            Query::from(QueryKind::Terms {
                field: "k".into(),
                values: vec![Value::String("ab".into()), Value::String("bd".into())],
            })
        };
        let prefix =
            || Query::from(QueryKind::Prefix { field: "k".into(), value: "a".into(), case_insensitive: false });
        let slice = || Query::from(QueryKind::Slice { field: "_id".into(), id: 1, max: 3 });
        let either = || {
            Query::from(QueryKind::Bool {
                must: Vec::new(),
                filter: Vec::new(),
                should: vec![range(a, a + 9), words(), term("t", Value::String("y".into()))],
                must_not: Vec::new(),
                minimum_should_match: None,
            })
        };
        let nested = || boolean(vec![x()], vec![either()], vec![range(b, b + 20)]);
        let queries = vec![
            boolean(vec![x()], vec![either()], vec![]),
            boolean(vec![x()], vec![either(), range(a, b)], vec![nested()]),
            boolean(vec![], vec![nested()], vec![]),
            Query::from(QueryKind::ConstantScore { filter: Box::new(either()) }),
            nested(),
            range(a, b),
            range(b - 100, a),
            boolean(vec![x()], vec![range(a, b)], vec![]),
            boolean(vec![x(), prefix()], vec![words()], vec![range(a, a + 3)]),
            boolean(vec![], vec![range(a, b), words()], vec![slice()]),
            boolean(vec![Query::from(QueryKind::Exists { field: "n".into() })], vec![slice()], vec![]),
            boolean(vec![x()], vec![term("b", Value::Bool(true))], vec![]),
            Query::from(QueryKind::ConstantScore { filter: Box::new(range(a, b)) }),
        ];
        let mut out: Vec<SearchRequest> = Vec::new();
        for one in queries {
            out.push(request(one.clone(), 10));
            out.push(request(one.clone(), 0));
            out.push(SearchRequest { post_filter: Some(range(a - 2, b)), ..request(one, 5) });
        }
        out
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<(u32, i64)>),
        Delete(Vec<u32>),
        Refresh,
        Merge,
        Search(i64, i64),
        Clear,
        Sweep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => proptest::collection::vec((0u32..200, -50i64..150), 1..120).prop_map(Step::Put),
            2 => proptest::collection::vec(0u32..200, 1..30).prop_map(Step::Delete),
            3 => Just(Step::Refresh),
            1 => Just(Step::Merge),
            5 => (0i64..6, 0i64..6).prop_map(|(a, b)| Step::Search(a * 10, b * 10)),
            1 => Just(Step::Clear),
            1 => Just(Step::Sweep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Whatever is written, deleted, refreshed and merged between, and however little room there is.
        #[test]
        fn searches_find_with_the_cache_what_they_find_without(
            steps in proptest::collection::vec(step(), 1..40),
            room in prop_oneof![Just(0u64), Just(2_000), Just(1 << 20)],
            entries_max in prop_oneof![Just(3usize), Just(10_000)],
        ) {
            let mut shard = Shard::new();
            let pool = Pool::new("filter_cache", room);
            let cache = FilterCache::of_everything(Arc::clone(&pool), entries_max);
            for step in steps {
                match step {
                    Step::Put(docs) => docs.into_iter().for_each(|(id, n)| shard.put(id, n)),
                    Step::Delete(ids) => ids.into_iter().for_each(|id| shard.delete(id)),
                    Step::Refresh => {
                        shard.refresh();
                        cache.retain(&shard.engine.searcher());
                    }
                    Step::Merge => shard.merge(),
                    Step::Search(a, b) => for one in requests(a, a + b) {
                        prop_assert_eq!(shard.search(&one, Some(&cache), &Unpaced), shard.search(&one, None, &Unpaced));
                        cache.sets.borrow().check();
                    },
                    Step::Clear => cache.clear(),
                    Step::Sweep => cache.sweep(),
                }
                cache.sets.borrow().check();
            }
            drop(cache);
            prop_assert_eq!(pool.used(), 0);
        }
    }

    fn filled(docs: i64) -> Shard {
        let mut shard = Shard::new();
        (0..docs).for_each(|n| shard.put(n as u32, n));
        shard.refresh();
        shard
    }

    fn counts(cache: &FilterCache) -> (u64, u64, u64) {
        let stats = cache.stats();
        (stats.hits, stats.misses, stats.entries)
    }

    #[test]
    fn a_range_is_kept_at_its_second_use_and_a_set_of_one_term_at_its_fifth() {
        let shard = filled(10_000);
        let cache = FilterCache::new(Pool::new("filter_cache", 1 << 20), 10_000, HashSeed::new(1));
        let search = |q: Query| shard.search(&request(q, 10), Some(&cache), &Unpaced);
        for (round, want) in [(1, (0, 1, 0)), (2, (0, 2, 1)), (3, (1, 2, 1)), (4, (2, 2, 1))] {
            search(range(5, 700));
            assert_eq!(counts(&cache), want, "round {round}");
        }
        for round in 1..=6 {
            let values = vec![Value::String("ab".into())];
            search(Query::from(QueryKind::Terms { field: "k".into(), values }));
            assert_eq!(cache.stats().entries, 1 + u64::from(round >= 5), "round {round}");
        }
        let before = cache.stats();
        for _ in 0..10 {
            search(term("t", Value::String("x".into())));
            search(Query::from(QueryKind::MatchAll));
            search(Query::from(QueryKind::Ids { values: vec!["1".into()] }));
        }
        assert_eq!(cache.stats(), before, "terms, everything and ids are not for the cache");
    }

    #[test]
    fn clauses_are_kept_as_a_whole_and_then_their_parts_are_not_asked_for() {
        let shard = filled(10_000);
        let cache = FilterCache::new(Pool::new("filter_cache", 1 << 20), 10_000, HashSeed::new(1));
        let should = vec![range(5, 700), term("t", Value::String("y".into()))];
        let (must, filter, must_not) = (Vec::new(), Vec::new(), Vec::new());
        let either = Query::from(QueryKind::Bool { must, filter, should, must_not, minimum_should_match: None });
        let query = boolean(vec![term("t", Value::String("x".into()))], vec![either], vec![]);
        let without = shard.search(&request(query.clone(), 100), None, &Unpaced);
        // The range is kept at its second use, and the whole at its fourth; from then on only the whole is asked for.
        for (round, want) in
            [(1, (0, 2, 0)), (2, (0, 4, 1)), (3, (1, 5, 1)), (4, (2, 6, 2)), (5, (3, 6, 2)), (6, (4, 6, 2))]
        {
            assert_eq!(shard.search(&request(query.clone(), 100), Some(&cache), &Unpaced), without);
            assert_eq!(counts(&cache), want, "round {round}");
        }
    }

    #[test]
    fn uses_that_are_long_ago_do_not_count() {
        let shard = filled(10_000);
        let cache = FilterCache::new(Pool::new("filter_cache", 1 << 20), 10_000, HashSeed::new(1));
        let search = |from| shard.search(&request(range(from, from + 1), 1), Some(&cache), &Unpaced);
        for other in 0..HISTORY as i64 * 2 {
            search(other);
        }
        assert_eq!(cache.stats().entries, 0, "each was used once");
        search(0);
        assert_eq!(cache.stats().entries, 0);
        search(0);
        assert_eq!(cache.stats().entries, 1);
    }

    #[test]
    fn small_segments_are_left_alone() {
        let mut shard = filled(9_999);
        let cache = FilterCache::new(Pool::new("filter_cache", 1 << 20), 10_000, HashSeed::new(1));
        for _ in 0..3 {
            shard.search(&request(range(5, 700), 10), Some(&cache), &Unpaced);
        }
        assert_eq!(cache.stats(), FilterCacheStats::default());
        shard.put(10_000, 1);
        shard.merge();
        shard.search(&request(range(5, 700), 10), Some(&cache), &Unpaced);
        assert_eq!(counts(&cache), (0, 1, 1), "it has been used before");
        assert!(!cache.is_for(&shard.engine.searcher().segments[0].reader, 340_000), "less than 3 % of the shard");
    }

    #[test]
    fn filters_of_merged_segments_are_forgotten() {
        let shard = filled(100);
        let pool = Pool::new("filter_cache", 1 << 20);
        let cache = FilterCache::of_everything(Arc::clone(&pool), 10_000);
        shard.search(&request(range(5, 70), 10), Some(&cache), &Unpaced);
        cache.retain(&shard.engine.searcher());
        assert_eq!(cache.stats().entries, 1);
        shard.merge();
        cache.retain(&shard.engine.searcher());
        assert_eq!((cache.stats().entries, cache.stats().kept_ever, pool.used()), (0, 1, 0));
    }

    #[test]
    fn the_least_recently_used_makes_room_and_a_full_node_makes_idle_shards_give_up_theirs() {
        let shard = filled(1000);
        let pool = Pool::new("filter_cache", 2000);
        let cache = FilterCache::of_everything(Arc::clone(&pool), 2);
        let search = |from: i64| shard.search(&request(range(from, from + 500), 10), Some(&cache), &Unpaced);
        search(0);
        search(1);
        search(0);
        search(2);
        let before = cache.stats();
        search(0);
        assert_eq!(cache.stats().hits, before.hits + 1, "used again, so not the one to go");
        let other = FilterCache::of_everything(Arc::clone(&pool), 100);
        cache.sweep();
        assert_eq!(cache.stats().entries, 2, "used since the beginning");
        let held = pool.take(pool.limit() - pool.used()).unwrap();
        shard.search(&request(range(9, 600), 10), Some(&other), &Unpaced);
        assert_eq!(other.stats().entries, 0, "no room");
        cache.sweep();
        assert_eq!(cache.stats().entries, 0, "nobody used them since");
        shard.search(&request(range(9, 600), 10), Some(&other), &Unpaced);
        assert_eq!(other.stats().entries, 1);
        drop(held);
    }

    #[test]
    fn what_a_deadline_cut_off_is_not_kept() {
        let shard = filled(3000);
        let one = request(range(5, 2000), 10);
        let whole = shard.search(&one, None, &Unpaced);
        for questions in 1..40 {
            let cache = FilterCache::of_everything(Pool::new("filter_cache", 1 << 20), 10_000);
            shard.search(&one, Some(&cache), &StopAfter(Cell::new(questions)));
            assert_eq!(shard.search(&one, Some(&cache), &Unpaced), whole, "stopped at question {questions}");
        }
    }
}

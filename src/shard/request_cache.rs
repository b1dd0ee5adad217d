//! Answers of a shard to searches that come again, such as those that a dashboard sends every few seconds.
//!
//! - An answer belongs to one state of the shard: to a searcher and the mapping and settings it was searched with. A refresh
//!   that changes something, a merge, and new metadata make all answers go.
//! - The key is the whole request, in words that leave nothing out, but for the time: a request that may ask for `now` is
//!   never kept.
//! - Also not kept: what a deadline cut off, searches of a point in time, requests that are scored with the statistics of
//!   other shards, and answers that are too long ([`ANSWER_BYTES_MAX`]) to be copied in one go.

use std::fmt::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use ringdex_engine::budget::Pool;
use ringdex_engine::lru::Lru;
use ringdex_engine::search::{QueryResult, SearchRequest, Searcher, SegmentView};
use ringdex_engine::seed::HashSeed;

/// Longer answers are not kept.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Longer requests are not kept.
const KEY_BYTES_MAX: usize = 64 << 10;
/// Bytes of an entry beside its key and its answer.
const ENTRY_BYTES: u64 = 256;

/// See the module.
pub struct RequestCache {
    answers: Lru<Rc<str>, Rc<QueryResult>>,
    /// What the answers were found in. Alive or not, its address is no other's.
    segments: Weak<Vec<SegmentView>>,
    /// Counts changes of mapping and settings.
    epoch: u64,
    hits: u64,
    misses: u64,
}

/// A request that may be answered from the cache.
#[derive(Clone, Debug)]
pub struct Key {
    text: Rc<str>,
    epoch: u64,
}

/// Counters and sizes of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCacheStats {
    /// Memory in use.
    pub bytes: u64,
    /// Answers given.
    pub hits: u64,
    /// Searches that had to be done.
    pub misses: u64,
    /// Answers that went for lack of room.
    pub evictions: u64,
}

impl RequestCache {
    /// An empty cache that takes its memory from `pool`. Requests come from clients, so they hash under `seed`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, seed: HashSeed) -> RequestCache {
        RequestCache { answers: Lru::new(pool, usize::MAX, seed), segments: Weak::new(), epoch: 0, hits: 0, misses: 0 }
    }

    /// The key of a request, if its answer may be kept. To be asked before the search begins, in the state that it sees.
    #[must_use]
    pub fn key(&self, request: &SearchRequest) -> Option<Key> {
        if request.statistics.is_some() {
            return None;
        }
        let timeless = SearchRequest { now_ms: 0, ..request.clone() };
        let mut text = Bounded { text: String::new(), bytes_max: KEY_BYTES_MAX };
        write!(text, "{timeless:?}").ok()?;
        (!may_ask_for_now(&text.text)).then(|| Key { text: text.text.into(), epoch: self.epoch })
    }

    /// The answer, if it is known.
    pub fn get(&mut self, key: &Key, searcher: &Searcher) -> Option<QueryResult> {
        let current = Arc::as_ptr(&searcher.segments);
        if self.segments.as_ptr() != current {
            self.clear();
            self.segments = Arc::downgrade(&searcher.segments);
        }
        let found = self.answers.get(&key.text).map(|answer| QueryResult::clone(answer));
        *(if found.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        found
    }

    /// Keeps an answer, unless the shard has changed since the search began.
    pub fn put(&mut self, key: Key, searcher: &Searcher, answer: &QueryResult) {
        if answer.timed_out || key.epoch != self.epoch || self.segments.as_ptr() != Arc::as_ptr(&searcher.segments) {
            return;
        }
        let mut length = Length(0);
        if write!(length, "{answer:?}").is_ok() {
            let bytes = length.0 as u64 + key.text.len() as u64 + ENTRY_BYTES;
            self.answers.insert(key.text, Rc::new(answer.clone()), bytes);
        }
    }

    /// Forgets all answers.
    pub fn clear(&mut self) {
        self.answers.retain(|_| false);
    }

    /// Mapping or settings have changed.
    pub fn changed(&mut self) {
        self.epoch += 1;
        self.clear();
    }

    /// To be called now and then: while memory is short, what was not used since the call before goes.
    pub fn sweep(&mut self) {
        self.answers.sweep();
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> RequestCacheStats {
        RequestCacheStats {
            bytes: self.answers.bytes(),
            hits: self.hits,
            misses: self.misses,
            evictions: self.answers.evicted(),
        }
    }
}

/// Whether a request (its debug text) may have date math with `now` in it. Yes for a few that have not.
fn may_ask_for_now(text: &str) -> bool {
    // The word may be escaped, letter by letter, in the syntax of query strings.
    let escaped = text.contains('\\');
    if escaped && text.contains("\\\\u") {
        return true;
    }
    let plain = if escaped { text.replace('\\', "") } else { String::new() };
    let plain = if escaped { &plain } else { text };
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    plain.match_indices("now").any(|(at, word)| {
        let before = plain[..at].chars().next_back().is_some_and(in_word);
        let after = plain[at + word.len()..].chars().next().is_some_and(in_word);
        // Between escapes nothing is said of where words begin; the name of the field of the time is known.
        if escaped { !plain[at..].starts_with("now_ms: 0,") } else { !before && !after }
    })
}

/// Text of a limited length.
struct Bounded {
    text: String,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.text.len() + s.len() > self.bytes_max {
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}

/// How long a text is, up to a limit. An answer in words is longer than in memory, but for its smallest parts.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 += s.len();
        if self.0 > ANSWER_BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdex_engine::query::{Query, QueryKind, Value};
    use ringdex_engine::search::TrackTotalHits;
    use ringdex_engine::search::statistics::Statistics;

    fn request(text: &str) -> SearchRequest {
        let query = QueryKind::Term { field: "f".into(), value: Value::String(text.into()), case_insensitive: false };
        SearchRequest {
            query: Some(Query::from(query)),
            post_filter: None,
            top: 0,
            sort: Vec::new(),
            search_after: None,
            track_total_hits: TrackTotalHits::All,
            track_scores: false,
            rescore: Vec::new(),
            min_score: None,
            terminate_after: None,
            aggs: Vec::new(),
            now_ms: 5,
            statistics: None,
        }
    }

    fn cache(bytes: u64) -> RequestCache {
        RequestCache::new(Pool::new("request_cache", bytes), HashSeed::new(1))
    }

    fn searcher() -> Searcher {
        Searcher { segments: Arc::default() }
    }

    fn answer(total: u64) -> QueryResult {
        QueryResult { total, ..QueryResult::default() }
    }

    #[test]
    fn a_request_that_may_ask_for_now_has_no_key_whatever_it_is_written_like() {
        let cache = cache(1 << 20);
        for text in [
            "now",
            "now-1d/d",
            "now/d",
            "d:[now-1d TO *]",
            "d:>now\\-1d",
            "d:n\\ow",
            "d:\\u006eow",
            "a\nnow",
            "a \\\"now",
            "2020||+1d now||",
        ] {
            assert!(cache.key(&request(text)).is_none(), "{text}");
        }
        for text in ["", "know how", "snow", "nowhere", "Now", "known_now", "C:\\\\dir", "a \"phrase\"", "tab\t", "é"]
        {
            assert!(cache.key(&request(text)).is_some(), "{text}");
        }
        let scored = SearchRequest { statistics: Some(Statistics::default()), ..request("a") };
        assert!(cache.key(&scored).is_none(), "scored with the statistics of other shards");
        assert!(cache.key(&request(&"x".repeat(KEY_BYTES_MAX))).is_none(), "too long");
    }

    #[test]
    fn an_answer_is_for_one_request_at_any_time() {
        let (mut cache, searcher) = (cache(1 << 20), searcher());
        let key = cache.key(&request("a")).unwrap();
        assert_eq!(cache.get(&key, &searcher), None);
        cache.put(key, &searcher, &answer(1));
        let later = SearchRequest { now_ms: 6, ..request("a") };
        assert_eq!(cache.get(&cache.key(&later).unwrap(), &searcher), Some(answer(1)));
        // Their JSON would be the same.
        for other in [
            request("b"),
            SearchRequest { top: 1, ..request("a") },
            SearchRequest { min_score: Some(f32::INFINITY), ..request("a") },
            SearchRequest { min_score: Some(0.0), ..request("a") },
            SearchRequest { min_score: Some(-0.0), ..request("a") },
        ] {
            let key = cache.key(&other).unwrap();
            assert_eq!(cache.get(&key, &searcher), None, "{other:?}");
            cache.put(key, &searcher, &answer(2));
        }
        assert_eq!((cache.stats().hits, cache.stats().misses), (1, 6));
    }

    #[test]
    fn answers_of_another_state_are_forgotten_and_late_ones_not_kept() {
        let (mut cache, first, second) = (cache(1 << 20), searcher(), searcher());
        let key = cache.key(&request("a")).unwrap();
        cache.get(&key, &first);
        cache.put(key.clone(), &first, &answer(1));
        assert_eq!(cache.get(&key, &second), None, "refreshed");
        assert_eq!(cache.stats().bytes, 0);
        cache.put(key.clone(), &first, &answer(1));
        assert_eq!(cache.get(&key, &second), None, "found before the refresh");
        cache.changed();
        cache.put(key.clone(), &second, &answer(2));
        assert_eq!(cache.get(&key, &second), None, "found with the settings before");
        let key = cache.key(&request("a")).unwrap();
        cache.put(key.clone(), &second, &QueryResult { timed_out: true, ..answer(3) });
        assert_eq!(cache.get(&key, &second), None, "cut off");
        cache.put(key.clone(), &second, &answer(3));
        assert_eq!(cache.get(&key, &second), Some(answer(3)));
        assert_eq!(cache.stats().evictions, 0);
        cache.clear();
        assert_eq!((cache.get(&key, &second), cache.stats().bytes), (None, 0));
    }

    #[test]
    fn the_least_recently_used_answers_make_room() {
        let (mut cache, searcher) = (cache(4000), searcher());
        let keys: Vec<Key> = (0..20).map(|n| cache.key(&request(&n.to_string())).unwrap()).collect();
        cache.get(&keys[0], &searcher);
        for (n, key) in keys.iter().enumerate() {
            cache.put(key.clone(), &searcher, &answer(n as u64));
            assert_eq!(cache.get(&keys[0], &searcher), Some(answer(0)), "always the last used");
        }
        let stats = cache.stats();
        assert!(stats.evictions > 10 && stats.bytes <= 4000, "{stats:?}");
        assert_eq!(cache.get(&keys[19], &searcher), Some(answer(19)));
        assert_eq!(cache.get(&keys[1], &searcher), None);
    }
}

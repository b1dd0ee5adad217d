//! Slow logs: queries, fetches and writes that took longer than the index's thresholds (`index.search.slowlog.*`,
//! `index.indexing.slowlog.*`), one line each, under Elasticsearch's logger names.

use std::fmt::Display;
use std::time::Duration;

use ringdex_engine::search::{SearchRequest, describe};
use tracing::Level;

use super::message::ShardId;

/// Most severe first.
const LEVELS: [(&str, Level); 4] =
    [("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG), ("trace", Level::TRACE)];

/// From which time on a thing is logged, by level; none = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thresholds([Option<Duration>; 4]);

impl Thresholds {
    fn of(prefix: &str, time: impl Fn(&str) -> Option<i64>) -> Thresholds {
        Thresholds(LEVELS.map(|(level, _)| {
            let ms = time(&format!("{prefix}.{level}"))?;
            u64::try_from(ms).ok().map(Duration::from_millis)
        }))
    }

    /// The most severe level that `took` reaches, if `least` lets it through.
    fn level(&self, took: Duration, least: Level) -> Option<Level> {
        let at = self.0.iter().position(|threshold| threshold.is_some_and(|t| took >= t))?;
        // A more severe level is the smaller one.
        Some(LEVELS[at].1).filter(|level| *level <= least)
    }
}

/// An index's thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowLog {
    query: Thresholds,
    fetch: Thresholds,
    index: Thresholds,
    search_level: Level,
    index_level: Level,
    /// Characters of a document's source that are shown.
    source: usize,
}

impl SlowLog {
    /// Reads the flat settings of an index: `text` gives a setting as it was written, `time` one in milliseconds.
    pub fn of(text: impl Fn(&str) -> Option<String>, time: impl Fn(&str) -> Option<i64>) -> SlowLog {
        let level = |key: &str| text(key).and_then(|t| t.parse().ok()).unwrap_or(Level::TRACE);
        SlowLog {
            query: Thresholds::of("index.search.slowlog.threshold.query", &time),
            fetch: Thresholds::of("index.search.slowlog.threshold.fetch", &time),
            index: Thresholds::of("index.indexing.slowlog.threshold.index", &time),
            search_level: level("index.search.slowlog.level"),
            index_level: level("index.indexing.slowlog.level"),
            source: match text("index.indexing.slowlog.source").as_deref() {
                Some("true") => usize::MAX,
                Some("false") => 0,
                Some(n) => n.parse().unwrap_or(1000),
                None => 1000,
            },
        }
    }

    /// A query phase has ended.
    pub fn query(&self, id: &ShardId, took_ns: u64, request: &SearchRequest, total: u64) {
        let took = Duration::from_nanos(took_ns);
        if let Some(level) = self.query.level(took, self.search_level) {
            let source = request.query.as_ref().map_or_else(|| "*:*".to_owned(), describe::description);
            let text = format!("{}, total_hits[{total} hits], source[{source}]", head(id, took));
            emit("query", level, &text);
        }
    }

    /// A fetch phase has ended.
    pub fn fetch(&self, id: &ShardId, took_ns: u64, hits: usize) {
        let took = Duration::from_nanos(took_ns);
        if let Some(level) = self.fetch.level(took, self.search_level) {
            emit("fetch", level, &format!("{}, fetched[{hits} hits]", head(id, took)));
        }
    }

    /// A document has been indexed.
    pub fn index(&self, id: &ShardId, took_ns: u64, document: &str, routing: Option<&str>, source: &[u8]) {
        let took = Duration::from_nanos(took_ns);
        if let Some(level) = self.index.level(took, self.index_level) {
            let shown: String = String::from_utf8_lossy(source).chars().take(self.source).collect();
            let routing = routing.unwrap_or_default();
            let text = format!("{}, type[_doc], id[{document}], routing[{routing}], source[{shown}]", head(id, took));
            emit("index", level, &text);
        }
    }
}

fn head(id: &ShardId, took: Duration) -> String {
    format!("[{}][{}] took[{took:.1?}], took_millis[{}]", id.index, id.shard, took.as_millis())
}

/// Levels and targets have to be known when this is compiled.
fn emit(what: &str, level: Level, text: &impl Display) {
    macro_rules! line {
        ($target:literal) => {
            match level {
                Level::ERROR | Level::WARN => tracing::warn!(target: $target, "{text}"),
                Level::INFO => tracing::info!(target: $target, "{text}"),
                Level::DEBUG => tracing::debug!(target: $target, "{text}"),
                Level::TRACE => tracing::trace!(target: $target, "{text}"),
            }
        };
    }
    match what {
        "query" => line!("index.search.slowlog.query"),
        "fetch" => line!("index.search.slowlog.fetch"),
        _ => line!("index.indexing.slowlog.index"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_threshold_that_is_reached_counts() {
        let time = |key: &str| match key {
            "index.search.slowlog.threshold.query.warn" => Some(1000),
            "index.search.slowlog.threshold.query.info" => Some(-1),
            "index.search.slowlog.threshold.query.trace" => Some(0),
            "index.search.slowlog.threshold.query.debug" => Some(100),
            _ => None,
        };
        let log = SlowLog::of(|_| None, time);
        let level = |ms| log.query.level(Duration::from_millis(ms), log.search_level);
        assert_eq!(level(2000), Some(Level::WARN));
        assert_eq!(level(500), Some(Level::DEBUG));
        assert_eq!(level(0), Some(Level::TRACE));
        assert_eq!(log.fetch.level(Duration::from_secs(9), Level::TRACE), None);
        assert_eq!(log.query.level(Duration::from_millis(500), Level::INFO), None, "the logger's own level");
        let text = |key: &str| (key == "index.search.slowlog.level").then(|| "INFO".to_owned());
        assert_eq!(SlowLog::of(text, time).search_level, Level::INFO);
    }
}

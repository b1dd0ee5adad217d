//! What a shard needs of its index's settings, parsed once per change.

use std::time::Duration;

use ringdex_engine::merge::policy::TieredMergePolicy;
use ringdex_engine::segment::writer::Codec;
use ringdex_net::cluster::state::IndexMetadata;
use serde_json::Value;

use super::slowlog::SlowLog;

/// Parsed settings; anything missing or unreadable has its default (the REST layer refuses unreadable ones).
#[derive(Clone, Debug, PartialEq)]
pub struct ShardSettings {
    /// `index.translog.durability`: answers wait for the sync (`request`) or not (`async`).
    pub sync_each_request: bool,
    /// `index.translog.sync_interval`
    pub sync_interval: Duration,
    /// `index.translog.flush_threshold_size` in bytes.
    pub flush_threshold_bytes: u64,
    /// `index.translog.generation_threshold_size` in bytes.
    pub translog_generation_bytes: u64,
    /// `index.refresh_interval`; none = only on demand.
    pub refresh_interval: Option<Duration>,
    /// The interval was set by the user: refresh also when nobody searches.
    pub refresh_explicit: bool,
    /// `index.search.idle.after`
    pub search_idle_after: Duration,
    /// `index.max_refresh_listeners`
    pub max_refresh_listeners: usize,
    /// `index.codec`
    pub codec: Codec,
    /// `index.max_result_window`
    pub max_result_window: u64,
    /// `index.blocks.write` or `read_only`.
    pub write_block: Option<&'static str>,
    /// `index.queries.cache.enabled`, as when the shard was opened.
    pub filter_cache: bool,
    /// `index.requests.cache.enable`
    pub request_cache: bool,
    /// What is slow.
    pub slow_log: SlowLog,
    /// Merge policy.
    pub merge: TieredMergePolicy,
}

impl ShardSettings {
    /// Reads the flat settings of an index.
    #[must_use]
    pub fn of(index: &IndexMetadata) -> ShardSettings {
        let text = |key: &str| match index.settings.get(key) {
            Some(Value::String(s)) => Some(s.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            Some(Value::Bool(b)) => Some(b.to_string()),
            _ => None,
        };
        let time = |key: &str, default: u64| {
            text(key)
                .and_then(|t| parse_duration_ms(&t))
                .map_or(Duration::from_millis(default), |ms| Duration::from_millis(ms.max(0) as u64))
        };
        let bytes = |key: &str, default: u64| text(key).and_then(|t| parse_bytes(&t)).unwrap_or(default);
        let refresh = text("index.refresh_interval");
        let refresh_ms = refresh.as_deref().and_then(parse_duration_ms).unwrap_or(1_000);
        let flag = |key: &str| text(key).as_deref() == Some("true");
        let defaults = TieredMergePolicy::default();
        let number = |key: &str, default: f64| text(key).and_then(|t| t.parse().ok()).unwrap_or(default);
        let merge = TieredMergePolicy {
            segments_per_tier: number("index.merge.policy.segments_per_tier", defaults.segments_per_tier),
            max_merge_at_once: number("index.merge.policy.max_merge_at_once", defaults.max_merge_at_once as f64)
                as usize,
            max_merged_segment: bytes("index.merge.policy.max_merged_segment", defaults.max_merged_segment),
            floor_segment: bytes("index.merge.policy.floor_segment", defaults.floor_segment),
            deletes_pct_allowed: number("index.merge.policy.deletes_pct_allowed", defaults.deletes_pct_allowed),
            ..defaults
        };
        ShardSettings {
            sync_each_request: text("index.translog.durability").is_none_or(|d| !d.eq_ignore_ascii_case("async")),
            sync_interval: time("index.translog.sync_interval", 5_000).max(Duration::from_millis(100)),
            flush_threshold_bytes: bytes("index.translog.flush_threshold_size", 512 << 20),
            translog_generation_bytes: bytes("index.translog.generation_threshold_size", 64 << 20).max(64 << 10),
            refresh_interval: (refresh_ms >= 0).then(|| Duration::from_millis(refresh_ms.max(10) as u64)),
            refresh_explicit: refresh.is_some(),
            search_idle_after: time("index.search.idle.after", 30_000),
            max_refresh_listeners: text("index.max_refresh_listeners").and_then(|t| t.parse().ok()).unwrap_or(1_000),
            codec: match text("index.codec").as_deref() {
                Some("best_compression") => Codec::BestCompression,
                _ => Codec::Default,
            },
            max_result_window: text("index.max_result_window").and_then(|t| t.parse().ok()).unwrap_or(10_000),
            write_block: if flag("index.blocks.read_only") {
                Some("index read-only (api)")
            } else if flag("index.blocks.write") {
                Some("index write (api)")
            } else if flag("index.blocks.read_only_allow_delete") {
                Some("disk usage exceeded flood-stage watermark, index has read-only-allow-delete block")
            } else {
                None
            },
            filter_cache: text("index.queries.cache.enabled").as_deref() != Some("false"),
            request_cache: text("index.requests.cache.enable").as_deref() != Some("false"),
            slow_log: SlowLog::of(text, |key| text(key).as_deref().and_then(parse_duration_ms)),
            merge,
        }
    }
}

/// `1s`, `100ms`, `5m`, `-1`, `0`: milliseconds.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if text == "-1" || text == "0" {
        return text.parse().ok();
    }
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().ok()?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "nanos" => 1e-6,
        "micros" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        _ => return None,
    };
    Some((number * unit) as i64)
}

/// `512mb`, `5gb`, `100b`, `1024`: bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().ok()?;
    let unit = match unit {
        "" | "b" => 1u64,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        "p" | "pb" => 1 << 50,
        _ => return None,
    };
    (number >= 0.0).then_some((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_elasticsearchs() {
        for (text, want) in [
            ("1s", Some(1_000)),
            ("250ms", Some(250)),
            ("-1", Some(-1)),
            ("1.5m", Some(90_000)),
            ("5", None),
            ("x", None),
        ] {
            assert_eq!(parse_duration_ms(text), want, "{text}");
        }
        for (text, want) in
            [("512mb", Some(512 << 20)), ("1KB", Some(1024)), ("7", Some(7)), ("-1", None), ("1q", None)]
        {
            assert_eq!(parse_bytes(text), want, "{text}");
        }
    }
}

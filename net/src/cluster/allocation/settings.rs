//! The settings that allocation follows, read once for each reroute.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata, host_of};

/// Which allocations `...routing.allocation.enable` lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enable {
    All,
    Primaries,
    NewPrimaries,
    None,
}

impl Enable {
    fn parse(text: &str) -> Option<Enable> {
        Some(match text.to_ascii_lowercase().as_str() {
            "all" => Enable::All,
            "primaries" => Enable::Primaries,
            "new_primaries" => Enable::NewPrimaries,
            "none" => Enable::None,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Enable::All => "all",
            Enable::Primaries => "primaries",
            Enable::NewPrimaries => "new_primaries",
            Enable::None => "none",
        }
    }
}

/// Which moves `...routing.rebalance.enable` lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    All,
    Primaries,
    Replicas,
    None,
}

impl Rebalance {
    fn parse(text: &str) -> Option<Rebalance> {
        Some(match text.to_ascii_lowercase().as_str() {
            "all" => Rebalance::All,
            "primaries" => Rebalance::Primaries,
            "replicas" => Rebalance::Replicas,
            "none" => Rebalance::None,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Rebalance::All => "all",
            Rebalance::Primaries => "primaries",
            Rebalance::Replicas => "replicas",
            Rebalance::None => "none",
        }
    }
}

/// When the cluster is well enough for moves that only balance it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllowRebalance {
    Always,
    PrimariesActive,
    AllActive,
}

impl AllowRebalance {
    pub(super) fn name(self) -> &'static str {
        match self {
            AllowRebalance::Always => "always",
            AllowRebalance::PrimariesActive => "indices_primaries_active",
            AllowRebalance::AllActive => "indices_all_active",
        }
    }
}

/// How full a disk may be: by the share in use, or by the bytes that are free.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Watermark {
    Percent(f64),
    FreeBytes(u64),
}

impl Watermark {
    fn parse(text: &str) -> Option<Watermark> {
        let text = text.trim();
        if let Some(number) = text.strip_suffix('%') {
            return number.trim().parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Watermark::Percent);
        }
        // A bare ratio such as `0.85` is a share; all else is a size.
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Some(Watermark::Percent(ratio * 100.0)),
            _ => bytes(text).map(Watermark::FreeBytes),
        }
    }

    /// Whether a disk with so much free of so much is beyond the mark.
    pub(super) fn is_passed(&self, free: u64, total: u64) -> bool {
        match *self {
            Watermark::Percent(used) => total > 0 && free as f64 * 100.0 / (total as f64) < 100.0 - used,
            Watermark::FreeBytes(least) => free < least,
        }
    }
}

impl std::fmt::Display for Watermark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Watermark::Percent(used) => write!(f, "{used}%"),
            Watermark::FreeBytes(bytes) => f.write_str(&show_bytes(*bytes)),
        }
    }
}

/// One of `include`, `exclude`, `require`: attribute to patterns.
pub(super) type Filter = BTreeMap<String, Vec<String>>;

/// Node filters of one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    pub(super) require: Filter,
    pub(super) include: Filter,
    pub(super) exclude: Filter,
}

impl Filters {
    fn read(prefix: &str, get: impl Fn(&mut dyn FnMut(&str, &Value))) -> Filters {
        let mut filters = Filters::default();
        get(&mut |key, value| {
            let Some(rest) = key.strip_prefix(prefix) else { return };
            let Some((kind, attribute)) = rest.split_once('.') else { return };
            let filter = match kind {
                "require" => &mut filters.require,
                "include" => &mut filters.include,
                "exclude" => &mut filters.exclude,
                _ => return,
            };
            let values = list(value);
            if !values.is_empty() {
                filter.insert(attribute.to_owned(), values);
            }
        });
        filters
    }

    pub(super) fn is_empty(&self) -> bool {
        self.require.is_empty() && self.include.is_empty() && self.exclude.is_empty()
    }
}

/// Whether a node is meant by any attribute (`all` false) or by every one of them.
pub(super) fn node_matches(filter: &Filter, node: &DiscoveryNode, all: bool) -> bool {
    let mut results = filter.iter().map(|(attribute, patterns)| {
        let host = host_of(&node.transport_address);
        let own: &[&str] = match attribute.as_str() {
            "_name" => &[node.name.as_str()],
            "_id" => &[&node.id.to_string()],
            "_ip" | "_host_ip" | "_publish_ip" | "_host" => &[host],
            other => match node.attributes.get(other) {
                Some(value) => &[value.as_str()],
                None => &[],
            },
        };
        patterns.iter().any(|pattern| own.iter().any(|value| wildcard(pattern, value)))
    });
    if all { results.all(|r| r) } else { results.any(|r| r) }
}

/// `*` stands for any text.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// `attr:"a OR b"`, as decisions show a filter.
pub(super) fn show_filter(filter: &Filter, all: bool) -> String {
    let parts: Vec<String> = filter.iter().map(|(k, v)| format!("{k}:\"{}\"", v.join(" OR "))).collect();
    parts.join(if all { "," } else { " OR " })
}

/// Settings of the whole cluster.
#[derive(Clone, Debug)]
pub(super) struct ClusterSettings {
    pub(super) enable: Enable,
    pub(super) rebalance: Rebalance,
    pub(super) allow_rebalance: AllowRebalance,
    pub(super) concurrent_rebalance: i64,
    pub(super) incoming_recoveries: i64,
    pub(super) outgoing_recoveries: i64,
    pub(super) initial_primaries: i64,
    pub(super) same_host: bool,
    pub(super) shards_per_node: i64,
    pub(super) filters: Filters,
    pub(super) awareness: Vec<String>,
    pub(super) forced_awareness: BTreeMap<String, BTreeSet<String>>,
    pub(super) shard_factor: f64,
    pub(super) index_factor: f64,
    pub(super) threshold: f64,
    pub(super) disk_enabled: bool,
    pub(super) disk_single_node: bool,
    pub(super) low: Watermark,
    pub(super) high: Watermark,
    pub(super) flood: Watermark,
}

impl ClusterSettings {
    pub(super) fn of(state: &ClusterState) -> ClusterSettings {
        let get = |name: &str| state.setting(name).and_then(text);
        let int = |name: &str, default: i64| get(name).and_then(|t| t.trim().parse().ok()).unwrap_or(default);
        let float = |name: &str, default: f64| {
            get(name)
                .and_then(|t| t.trim().parse().ok())
                .filter(|f: &f64| f.is_finite() && *f >= 0.0)
                .unwrap_or(default)
        };
        let flag = |name: &str, default: bool| get(name).map_or(default, |t| t == "true");
        let mark = |name: &str, default: f64| {
            get(name).and_then(|t| Watermark::parse(&t)).unwrap_or(Watermark::Percent(default))
        };
        let each = |visit: &mut dyn FnMut(&str, &Value)| {
            for (key, value) in &state.persistent_settings {
                if !state.transient_settings.contains_key(key) {
                    visit(key, value);
                }
            }
            state.transient_settings.iter().for_each(|(key, value)| visit(key, value));
        };
        let mut forced_awareness = BTreeMap::new();
        each(&mut |key, value| {
            let attribute = key
                .strip_prefix("cluster.routing.allocation.awareness.force.")
                .and_then(|rest| rest.strip_suffix(".values"));
            if let Some(attribute) = attribute {
                forced_awareness.insert(attribute.to_owned(), list(value).into_iter().collect());
            }
        });
        let concurrent = int("cluster.routing.allocation.node_concurrent_recoveries", 2);
        let balance = |name: &str, default| float(&format!("cluster.routing.allocation.balance.{name}"), default);
        ClusterSettings {
            enable: get("cluster.routing.allocation.enable").and_then(|t| Enable::parse(&t)).unwrap_or(Enable::All),
            rebalance: get("cluster.routing.rebalance.enable")
                .and_then(|t| Rebalance::parse(&t))
                .unwrap_or(Rebalance::All),
            allow_rebalance: match get("cluster.routing.allocation.allow_rebalance").as_deref() {
                Some("always") => AllowRebalance::Always,
                Some("indices_primaries_active") => AllowRebalance::PrimariesActive,
                _ => AllowRebalance::AllActive,
            },
            concurrent_rebalance: int("cluster.routing.allocation.cluster_concurrent_rebalance", 2),
            incoming_recoveries: int("cluster.routing.allocation.node_concurrent_incoming_recoveries", concurrent),
            outgoing_recoveries: int("cluster.routing.allocation.node_concurrent_outgoing_recoveries", concurrent),
            initial_primaries: int("cluster.routing.allocation.node_initial_primaries_recoveries", 4),
            same_host: flag("cluster.routing.allocation.same_shard.host", false),
            shards_per_node: int("cluster.routing.allocation.total_shards_per_node", -1),
            filters: Filters::read("cluster.routing.allocation.", each),
            awareness: state.setting("cluster.routing.allocation.awareness.attributes").map(list).unwrap_or_default(),
            forced_awareness,
            shard_factor: balance("shard", 0.45),
            index_factor: balance("index", 0.55),
            // Below 1 a move could make two nodes change places for ever.
            threshold: balance("threshold", 1.0).max(1.0),
            disk_enabled: flag("cluster.routing.allocation.disk.threshold_enabled", true),
            disk_single_node: flag("cluster.routing.allocation.disk.watermark.enable_for_single_data_node", false),
            low: mark("cluster.routing.allocation.disk.watermark.low", 85.0),
            high: mark("cluster.routing.allocation.disk.watermark.high", 90.0),
            flood: mark("cluster.routing.allocation.disk.watermark.flood_stage", 95.0),
        }
    }
}

/// Settings of one index.
#[derive(Clone, Debug)]
pub(super) struct IndexSettings {
    pub(super) enable: Option<Enable>,
    pub(super) rebalance: Option<Rebalance>,
    pub(super) shards_per_node: i64,
    pub(super) max_retries: u32,
    pub(super) priority: i64,
    pub(super) filters: Filters,
}

impl IndexSettings {
    pub(super) fn of(index: &IndexMetadata) -> IndexSettings {
        let get = |name: &str| index.settings.get(name).and_then(text);
        let int = |name: &str| get(name).and_then(|t| t.trim().parse::<i64>().ok());
        IndexSettings {
            enable: get("index.routing.allocation.enable").and_then(|t| Enable::parse(&t)),
            rebalance: get("index.routing.rebalance.enable").and_then(|t| Rebalance::parse(&t)),
            shards_per_node: int("index.routing.allocation.total_shards_per_node").unwrap_or(-1),
            max_retries: int("index.allocation.max_retries").and_then(|n| n.try_into().ok()).unwrap_or(5),
            priority: int("index.priority").unwrap_or(1),
            filters: Filters::read("index.routing.allocation.", |visit| {
                index.settings.iter().for_each(|(key, value)| visit(key, value));
            }),
        }
    }
}

/// `index.unassigned.node_left.delayed_timeout`
pub(super) fn delayed_timeout_ms(index: &IndexMetadata) -> i64 {
    let set = index.settings.get("index.unassigned.node_left.delayed_timeout").and_then(text);
    set.and_then(|t| duration_ms(&t)).unwrap_or(60_000).max(0)
}

/// `index.auto_expand_replicas`: least and most replicas; the most is none for `all`.
pub(super) fn auto_expand(settings: &Map<String, Value>) -> Option<(u32, Option<u32>)> {
    let set = settings.get("index.auto_expand_replicas").and_then(text)?;
    let (least, most) = set.split_once('-')?;
    let most = if most == "all" { None } else { Some(most.parse().ok()?) };
    Some((least.parse().ok()?, most))
}

/// A setting as text, whichever way it was written.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(text).collect(),
        other => {
            let all = text(other).unwrap_or_default();
            all.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
        }
    }
}

/// `30s`, `1m`, `-1`
fn duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let units =
        [("nanos", 0), ("micros", 0), ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.trim().parse::<f64>()
        {
            return Some((number * f64::from(factor)) as i64);
        }
    }
    text.parse().ok()
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let units = [
        ("kb", 10),
        ("mb", 20),
        ("gb", 30),
        ("tb", 40),
        ("pb", 50),
        ("k", 10),
        ("m", 20),
        ("g", 30),
        ("t", 40),
        ("p", 50),
        ("b", 0),
    ];
    for (unit, shift) in units {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.trim().parse::<f64>()
        {
            return Some((number * (1u64 << shift) as f64) as u64);
        }
    }
    text.parse().ok()
}

/// `1.5gb`
pub(super) fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("pb", 50), ("tb", 40), ("gb", 30), ("mb", 20), ("kb", 10)] {
        if bytes >= 1 << shift {
            let tenths = (bytes as f64 / (1u64 << shift) as f64 * 10.0).floor() / 10.0;
            return format!("{tenths}{unit}");
        }
    }
    format!("{bytes}b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abd", false),
            ("*", "", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*b*", "abc", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_watermark_is_a_share_in_use_or_bytes_that_are_free() {
        let check = |text: &str, free: u64, total: u64, passed: bool| {
            assert_eq!(Watermark::parse(text).unwrap().is_passed(free, total), passed, "{text} {free}/{total}");
        };
        check("85%", 15, 100, false);
        check("85%", 14, 100, true);
        check("0.85", 14, 100, true);
        check("1kb", 1023, 4096, true);
        check("1kb", 1024, 4096, false);
        assert_eq!(Watermark::parse("much"), None);
        assert_eq!(Watermark::parse("185%"), None);
    }

    #[test]
    fn times_and_sizes_are_read_in_all_units() {
        for (text, ms) in [("1m", 60_000), ("30s", 30_000), ("0", 0), ("500ms", 500), ("-1", -1), ("1.5h", 5_400_000)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        assert_eq!(bytes("1.5gb"), Some(3 << 29));
        assert_eq!(show_bytes(3 << 29), "1.5gb");
    }
}

//! Index settings: which there are, what they may be, which can change while the index is open.

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::{Map, Value};

use super::value::{flatten, nest};
use crate::error::{ApiError, ApiResult};
use crate::rest::filter::glob;
use crate::rest::params::{parse_active_shards, parse_bytes, parse_time};
use crate::rest::router::similar_above;

/// What a setting's value may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    /// Smallest and largest.
    Int(i64, i64),
    Float(f64),
    /// Smallest, in milliseconds.
    Time(i64),
    Bytes,
    Text,
    List,
    Choice(&'static [&'static str]),
    ActiveShards,
    AutoExpand,
}

/// When a setting may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// At creation, or while the index is closed.
    Static,
    /// At creation only.
    Final,
    /// Any time.
    Dynamic,
    /// Set by the system; a user may not.
    Private,
}

use Kind::{ActiveShards, AutoExpand, Bool, Bytes, Choice, Float, Int, List, Text, Time};
use Scope::{Dynamic, Final, Private, Static};

const INT_MAX: i64 = i32::MAX as i64;

/// Name without `index.`, kind, scope, default as `include_defaults` shows it (`~` = not shown).
#[rustfmt::skip]
const KNOWN: &[(&str, Kind, Scope, &str)] = &[
    ("number_of_shards", Int(1, 1024), Final, "1"),
    ("number_of_replicas", Int(0, INT_MAX), Dynamic, "1"),
    ("number_of_routing_shards", Int(1, INT_MAX), Final, "~"),
    ("routing_partition_size", Int(1, INT_MAX), Final, "1"),
    ("auto_expand_replicas", AutoExpand, Dynamic, "false"),
    ("refresh_interval", Time(-1), Dynamic, "1s"),
    ("max_result_window", Int(1, INT_MAX), Dynamic, "10000"),
    ("max_inner_result_window", Int(1, INT_MAX), Dynamic, "100"),
    ("max_rescore_window", Int(1, INT_MAX), Dynamic, "10000"),
    ("max_docvalue_fields_search", Int(0, INT_MAX), Dynamic, "100"),
    ("max_script_fields", Int(0, INT_MAX), Dynamic, "32"),
    ("max_ngram_diff", Int(0, INT_MAX), Dynamic, "1"),
    ("max_shingle_diff", Int(0, INT_MAX), Dynamic, "3"),
    ("max_refresh_listeners", Int(0, INT_MAX), Dynamic, "1000"),
    ("max_terms_count", Int(1, INT_MAX), Dynamic, "65536"),
    ("max_regex_length", Int(1, INT_MAX), Dynamic, "1000"),
    ("max_slices_per_scroll", Int(1, INT_MAX), Dynamic, "1024"),
    ("max_adjacency_matrix_filters", Int(2, INT_MAX), Dynamic, "100"),
    ("highlight.max_analyzed_offset", Int(1, INT_MAX), Dynamic, "1000000"),
    ("analyze.max_token_count", Int(1, INT_MAX), Dynamic, "10000"),
    ("query.default_field", List, Dynamic, "*"),
    ("query.parse.allow_unmapped_fields", Bool, Static, "true"),
    ("query_string.lenient", Bool, Static, "false"),
    ("queries.cache.enabled", Bool, Static, "true"),
    ("requests.cache.enable", Bool, Dynamic, "true"),
    ("hidden", Bool, Dynamic, "false"),
    ("priority", Int(0, INT_MAX), Dynamic, "1"),
    ("codec", Choice(&["default", "best_compression", "lucene_default"]), Static, "default"),
    ("mode", Text, Static, "~"),
    ("data_path", Text, Final, "~"),
    ("shard.check_on_startup", Choice(&["true", "false", "checksum", "fix"]), Static, "false"),
    ("soft_deletes.enabled", Bool, Final, "true"),
    ("soft_deletes.retention.operations", Int(0, i64::MAX), Dynamic, "0"),
    ("soft_deletes.retention_lease.period", Time(0), Dynamic, "12h"),
    ("load_fixed_bitset_filters_eagerly", Bool, Static, "true"),
    ("gc_deletes", Time(-1), Dynamic, "60s"),
    ("optimize_auto_generated_id", Bool, Dynamic, "true"),
    ("flush_after_merge", Bytes, Dynamic, "512mb"),
    ("force_memory_term_dictionary", Bool, Dynamic, "false"),
    ("fielddata.cache", Choice(&["node", "none"]), Static, "node"),
    ("format", Int(0, INT_MAX), Static, "0"),
    ("compound_format", Text, Dynamic, "0.1"),
    ("compound_on_flush", Bool, Dynamic, "true"),
    ("final_pipeline", Text, Dynamic, "_none"),
    ("default_pipeline", Text, Dynamic, "_none"),
    ("percolator.map_unmapped_fields_as_text", Bool, Static, "false"),
    ("allocation.max_retries", Int(0, INT_MAX), Dynamic, "5"),
    ("allocation.existing_shards_allocator", Text, Static, "gateway_allocator"),
    ("routing.allocation.enable", Choice(&["all", "primaries", "new_primaries", "none"]), Dynamic, "all"),
    ("routing.allocation.total_shards_per_node", Int(-1, INT_MAX), Dynamic, "-1"),
    ("routing.rebalance.enable", Choice(&["all", "primaries", "replicas", "none"]), Dynamic, "all"),
    ("unassigned.node_left.delayed_timeout", Time(0), Dynamic, "1m"),
    ("write.wait_for_active_shards", ActiveShards, Dynamic, "1"),
    ("translog.durability", Choice(&["request", "async"]), Dynamic, "REQUEST"),
    ("translog.sync_interval", Time(100), Dynamic, "5s"),
    ("translog.flush_threshold_size", Bytes, Dynamic, "512mb"),
    ("translog.generation_threshold_size", Bytes, Dynamic, "64mb"),
    ("translog.retention.age", Time(-1), Dynamic, "-1"),
    ("translog.retention.size", Bytes, Dynamic, "-1"),
    ("translog.retention.total_files", Int(0, INT_MAX), Dynamic, "100"),
    ("merge.scheduler.max_thread_count", Int(1, INT_MAX), Dynamic, "1"),
    ("merge.scheduler.max_merge_count", Int(1, INT_MAX), Dynamic, "6"),
    ("merge.scheduler.auto_throttle", Bool, Dynamic, "true"),
    ("merge.policy.expunge_deletes_allowed", Float(0.0), Dynamic, "10.0"),
    ("merge.policy.floor_segment", Bytes, Dynamic, "2mb"),
    ("merge.policy.max_merge_at_once", Int(2, INT_MAX), Dynamic, "10"),
    ("merge.policy.max_merge_at_once_explicit", Int(2, INT_MAX), Dynamic, "30"),
    ("merge.policy.max_merged_segment", Bytes, Dynamic, "5gb"),
    ("merge.policy.segments_per_tier", Float(2.0), Dynamic, "10.0"),
    ("merge.policy.deletes_pct_allowed", Float(20.0), Dynamic, "33.0"),
    ("merge.policy.reclaim_deletes_weight", Float(0.0), Dynamic, "2.0"),
    ("merge.log_deletes", Bool, Dynamic, "~"),
    ("mapping.total_fields.limit", Int(0, i64::MAX), Dynamic, "1000"),
    ("mapping.depth.limit", Int(1, i64::MAX), Dynamic, "20"),
    ("mapping.nested_fields.limit", Int(0, i64::MAX), Dynamic, "50"),
    ("mapping.nested_objects.limit", Int(0, i64::MAX), Dynamic, "10000"),
    ("mapping.field_name_length.limit", Int(1, i64::MAX), Dynamic, "9223372036854775807"),
    ("mapping.ignore_malformed", Bool, Static, "false"),
    ("mapping.coerce", Bool, Static, "true"),
    ("mapping.dimension_fields.limit", Int(0, i64::MAX), Dynamic, "~"),
    ("mapper.dynamic", Bool, Dynamic, "~"),
    ("blocks.read_only", Bool, Dynamic, "false"),
    ("blocks.read", Bool, Dynamic, "false"),
    ("blocks.write", Bool, Dynamic, "false"),
    ("blocks.metadata", Bool, Dynamic, "false"),
    ("blocks.read_only_allow_delete", Bool, Dynamic, "false"),
    ("search.idle.after", Time(0), Dynamic, "30s"),
    ("search.throttled", Bool, Private, "false"),
    ("search.slowlog.level", Choice(&["trace", "debug", "info", "warn"]), Dynamic, "TRACE"),
    ("search.slowlog.threshold.query.warn", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.query.info", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.query.debug", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.query.trace", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.fetch.warn", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.fetch.info", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.fetch.debug", Time(-1), Dynamic, "-1"),
    ("search.slowlog.threshold.fetch.trace", Time(-1), Dynamic, "-1"),
    ("indexing.slowlog.level", Choice(&["trace", "debug", "info", "warn"]), Dynamic, "TRACE"),
    ("indexing.slowlog.reformat", Bool, Dynamic, "true"),
    ("indexing.slowlog.source", Text, Dynamic, "1000"),
    ("indexing.slowlog.threshold.index.warn", Time(-1), Dynamic, "-1"),
    ("indexing.slowlog.threshold.index.info", Time(-1), Dynamic, "-1"),
    ("indexing.slowlog.threshold.index.debug", Time(-1), Dynamic, "-1"),
    ("indexing.slowlog.threshold.index.trace", Time(-1), Dynamic, "-1"),
    ("store.type", Text, Static, "~"),
    ("store.fs.fs_lock", Choice(&["native", "simple"]), Static, "native"),
    ("store.preload", List, Static, "~"),
    ("store.stats_refresh_interval", Time(-1), Static, "10s"),
    ("store.hybrid.mmap.extensions", List, Static, "~"),
    ("warmer.enabled", Bool, Dynamic, "true"),
    ("verified_before_close", Bool, Private, "false"),
    ("frozen", Bool, Private, "~"),
    ("provided_name", Text, Private, "~"),
    ("creation_date", Int(-1, i64::MAX), Private, "~"),
    ("uuid", Text, Private, "~"),
    ("version.created", Text, Private, "~"),
    ("version.upgraded", Text, Private, "~"),
    ("resize.source.uuid", Text, Private, "~"),
    ("resize.source.name", Text, Private, "~"),
    ("history.uuid", Text, Private, "~"),
    ("sort.field", List, Final, "~"),
    ("sort.order", List, Final, "~"),
    ("sort.mode", List, Final, "~"),
    ("sort.missing", List, Final, "~"),
];

/// Groups whose names users make.
const GROUPS: &[(&str, Scope)] = &[
    ("analysis.", Static),
    ("similarity.", Static),
    ("routing.allocation.include.", Dynamic),
    ("routing.allocation.exclude.", Dynamic),
    ("routing.allocation.require.", Dynamic),
    ("routing.allocation.initial_recovery.", Private),
    ("lifecycle.", Dynamic),
    ("codec.", Static),
];

fn find(name: &str) -> Option<(Kind, Scope)> {
    let short = name.strip_prefix("index.")?;
    if let Some((_, kind, scope, _)) = KNOWN.iter().find(|(known, ..)| *known == short) {
        return Some((*kind, *scope));
    }
    GROUPS
        .iter()
        .find(|(group, _)| short.len() > group.len() && short.starts_with(group))
        .map(|(_, scope)| (Text, *scope))
}

/// Flattens and gives every name its `index.` prefix.
pub fn normalise(settings: &Value) -> ApiResult<Map<String, Value>> {
    let flat = flatten(settings)?;
    Ok(flat
        .into_iter()
        .map(|(key, value)| if key.starts_with("index.") { (key, value) } else { (format!("index.{key}"), value) })
        .collect())
}

fn unknown(name: &str, archived_hint: bool) -> ApiError {
    let names: Vec<String> = KNOWN.iter().map(|(known, ..)| format!("index.{known}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let alike = similar_above(0.7, name, &names);
    let hint = match alike.as_slice() {
        [] if archived_hint => " please check that any required plugins are installed, or check the breaking changes documentation for removed settings".to_owned(),
        [] => String::new(),
        [one] => format!(" did you mean [{one}]?"),
        many => format!(" did you mean any of [{}]?", many.iter().take(5).copied().collect::<Vec<_>>().join(", ")),
    };
    ApiError::illegal_argument(format!("unknown setting [{name}]{hint}"))
}

/// Checks names and values; nulls (resets) are fine.
pub fn check(settings: &Map<String, Value>, private_allowed: bool) -> ApiResult<()> {
    for (name, value) in settings {
        // A wildcard with null resets a group.
        if value.is_null() && name.contains('*') {
            continue;
        }
        let Some((kind, scope)) = find(name) else { return Err(unknown(name, true)) };
        if scope == Private && !private_allowed {
            return Err(ApiError::new(
                400,
                "validation_exception",
                format!("Validation Failed: 1: private index setting [{name}] can not be set explicitly;"),
            ));
        }
        if !value.is_null() {
            check_value(name, kind, value)?;
        }
    }
    Ok(())
}

fn check_value(name: &str, kind: Kind, value: &Value) -> ApiResult<()> {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Array(_) if matches!(kind, List | Text) => return Ok(()),
        other => other.to_string(),
    };
    let fail =
        |why: &str| ApiError::illegal_argument(format!("Failed to parse value [{text}] for setting [{name}]{why}"));
    match kind {
        Bool => match text.as_str() {
            "true" | "false" => Ok(()),
            _ => Err(ApiError::illegal_argument(format!(
                "Failed to parse value [{text}] as only [true] or [false] are allowed."
            ))),
        },
        Int(min, max) => {
            let number: i64 = text.trim().parse().map_err(|_| {
                fail("").because(ApiError::new(400, "number_format_exception", format!("For input string: \"{text}\"")))
            })?;
            if number < min {
                return Err(fail(&format!(" must be >= {min}")));
            }
            if number > max {
                return Err(fail(&format!(" must be <= {max}")));
            }
            Ok(())
        }
        Float(min) => {
            let number: f64 = text.trim().parse().map_err(|_| fail(""))?;
            if number < min { Err(fail(&format!(" must be >= {min:?}"))) } else { Ok(()) }
        }
        Time(min) => {
            let ms = parse_time(&text, name)?;
            if ms < min {
                let shown = if min < 0 { "-1".to_owned() } else { format!("{min}ms") };
                return Err(ApiError::illegal_argument(format!(
                    "failed to parse value [{text}] for setting [{name}], must be >= [{shown}]"
                )));
            }
            Ok(())
        }
        Bytes => parse_bytes(&text, name).map(|_| ()),
        Choice(words) => {
            if words.iter().any(|w| w.eq_ignore_ascii_case(&text)) {
                Ok(())
            } else if name == "index.codec" {
                Err(ApiError::illegal_argument(format!(
                    "unknown value for [index.codec] must be one of [default, lz4, best_compression, zlib] but was: {text}"
                )))
            } else {
                Err(ApiError::illegal_argument(format!("No enum constant for [{name}] with value [{text}]")))
            }
        }
        ActiveShards => parse_active_shards(&text).map(|_| ()),
        AutoExpand => {
            let fine = text == "false"
                || text.split_once('-').is_some_and(|(low, high)| {
                    low.parse::<u32>().is_ok() && (high == "all" || high.parse::<u32>().is_ok())
                });
            if fine {
                Ok(())
            } else {
                Err(ApiError::illegal_argument(format!(
                    "failed to parse [index.auto_expand_replicas] from value: [{text}] at index -1"
                )))
            }
        }
        Text | List => Ok(()),
    }
}

/// Applies a settings update to one index; `None` when nothing changes.
pub fn update(
    index: &IndexMetadata,
    changes: &Map<String, Value>,
    preserve_existing: bool,
) -> ApiResult<Option<IndexMetadata>> {
    check(changes, false)?;
    let mut static_names: Vec<&str> = Vec::new();
    for name in changes.keys() {
        match find(name).map(|(_, scope)| scope) {
            Some(Final) => {
                return Err(if index.open {
                    non_dynamic(&[name.as_str()], index)
                } else {
                    ApiError::illegal_argument(format!("final {} setting [{name}], not updateable", index.name))
                });
            }
            Some(Static) if index.open => static_names.push(name),
            _ => {}
        }
    }
    if !static_names.is_empty() {
        return Err(non_dynamic(&static_names, index));
    }
    let mut next = index.clone();
    for (name, value) in changes {
        if value.is_null() {
            if name.contains('*') {
                next.settings.retain(|known, _| {
                    !(glob(name, known)
                        && find(known).is_some_and(|(_, s)| s == Dynamic || (s == Static && !index.open)))
                });
            } else if name != "index.number_of_replicas" {
                next.settings.shift_remove(name);
            } else {
                next.settings.insert(name.clone(), "1".into());
            }
        } else if !(preserve_existing && next.settings.contains_key(name)) {
            next.settings.insert(name.clone(), value.clone());
        }
    }
    if let Some(replicas) = next.settings.get("index.number_of_replicas").and_then(as_u32) {
        next.number_of_replicas = replicas;
    } else {
        next.number_of_replicas = 1;
        next.settings.insert("index.number_of_replicas".into(), "1".into());
    }
    if next.settings == index.settings {
        return Ok(None);
    }
    next.settings_version += 1;
    Ok(Some(next))
}

fn non_dynamic(names: &[&str], index: &IndexMetadata) -> ApiError {
    ApiError::illegal_argument(format!(
        "Can't update non dynamic settings [[{}]] for open indices [[{}/{}]]",
        names.join(", "),
        index.name,
        index.uuid
    ))
}

/// A setting's value as a number.
#[must_use]
pub fn as_u32(value: &Value) -> Option<u32> {
    match value {
        Value::String(s) => s.trim().parse().ok(),
        Value::Number(n) => n.as_u64().and_then(|n| n.try_into().ok()),
        _ => None,
    }
}

/// One explicit setting of an index, else its default (empty when there is none).
#[must_use]
pub fn get<'a>(index: &'a IndexMetadata, name: &str) -> &'a str {
    if let Some(Value::String(text)) = index.settings.get(name) {
        return text;
    }
    let short = name.strip_prefix("index.").unwrap_or(name);
    KNOWN
        .iter()
        .find(|(known, ..)| *known == short)
        .map_or("", |(.., default)| if *default == "~" { "" } else { default })
}

/// Whether a boolean setting is on.
#[must_use]
pub fn is_on(index: &IndexMetadata, name: &str) -> bool {
    get(index, name) == "true"
}

/// Whether normalised settings make an index hidden.
#[must_use]
pub fn is_hidden(settings: &Map<String, Value>) -> bool {
    settings.get("index.hidden").and_then(Value::as_str) == Some("true")
}

/// Defaults of everything the index does not set itself, flat.
#[must_use]
pub fn defaults(index: &IndexMetadata) -> Map<String, Value> {
    KNOWN
        .iter()
        .filter(|(.., default)| *default != "~")
        .map(|(name, .., default)| (format!("index.{name}"), Value::from(*default)))
        .filter(|(name, _)| !index.settings.contains_key(name))
        .collect()
}

/// Settings as an answer shows them.
#[must_use]
pub fn shown(settings: &Map<String, Value>, flat: bool) -> Value {
    if flat {
        let mut keys: Vec<&String> = settings.keys().collect();
        keys.sort();
        return Value::Object(keys.into_iter().map(|k| (k.clone(), settings[k].clone())).collect());
    }
    nest(settings)
}

/// With `human`: dates and versions as people read them, beside the numbers.
#[must_use]
pub fn humanised(settings: &Map<String, Value>) -> Map<String, Value> {
    let mut out = settings.clone();
    if let Some(ms) = settings.get("index.creation_date").and_then(Value::as_str).and_then(|s| s.parse().ok()) {
        out.insert("index.creation_date_string".into(), crate::rest::cluster::iso(ms).into());
    }
    if settings.contains_key("index.version.created") {
        out.insert("index.version.created_string".into(), crate::rest::http::VERSION.into());
    }
    out
}

/// The `analysis` object of an index's settings, as the analyzer registry takes it.
#[must_use]
pub fn analysis(settings: &Map<String, Value>) -> Value {
    let own: Map<String, Value> = settings
        .iter()
        .filter_map(|(k, v)| k.strip_prefix("index.analysis.").map(|k| (k.to_owned(), v.clone())))
        .collect();
    if own.is_empty() { Value::Null } else { nest(&own) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_text(settings: Value) -> String {
        normalise(&settings).and_then(|s| check(&s, false)).map_err(|e| e.reason).err().unwrap_or_default()
    }

    #[test]
    fn wrong_settings_are_refused_in_the_known_words() {
        assert_eq!(
            check_text(json!({"foo_bar_baz": 1})),
            "unknown setting [index.foo_bar_baz] please check that any required plugins are installed, or check the breaking changes documentation for removed settings"
        );
        assert_eq!(
            check_text(json!({"number_of_replica": 1})),
            "unknown setting [index.number_of_replica] did you mean [index.number_of_replicas]?"
        );
        assert_eq!(
            check_text(json!({"index": {"number_of_shards": 0}})),
            "Failed to parse value [0] for setting [index.number_of_shards] must be >= 1"
        );
        assert_eq!(
            check_text(json!({"number_of_replicas": "x"})),
            "Failed to parse value [x] for setting [index.number_of_replicas]"
        );
        assert_eq!(
            check_text(json!({"refresh_interval": "10"})),
            "failed to parse setting [index.refresh_interval] with value [10] as a time value: unit is missing or unrecognized"
        );
        assert_eq!(check_text(json!({"refresh_interval": "-1", "analysis": {"analyzer": {"a": {"type": "x"}}}})), "");
    }
}

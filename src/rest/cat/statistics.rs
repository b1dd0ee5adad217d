//! The statistics that tables of indices and of shards have in common.

use crate::rest::table::Cell;
use crate::shard::message::ShardStats;

/// Hands `$columns` the columns that come first, then all statistics as `(name, [aliases], text)` in Elasticsearch's order:
/// the common ones, with those of one table where they belong (after the query cache, before the warmers, at the end).
macro_rules! statistics {
    ($columns:ident, [$($first:expr),* $(,)?], [$($cache:tt)*], [$($sequence:tt)*], [$($last:tt)*]) => {
        $columns![
            [$($first),*]
            ("completion.size", ["cs", "completionSize"], "size of completion"),
            ("fielddata.memory_size", ["fm", "fielddataMemory"], "used fielddata cache"),
            ("fielddata.evictions", ["fe", "fielddataEvictions"], "fielddata evictions"),
            ("query_cache.memory_size", ["qcm", "queryCacheMemory"], "used query cache"),
            ("query_cache.evictions", ["qce", "queryCacheEvictions"], "query cache evictions"),
            $($cache)*
            ("flush.total", ["ft", "flushTotal"], "number of flushes"),
            ("flush.total_time", ["ftt", "flushTotalTime"], "time spent in flush"),
            ("get.current", ["gc", "getCurrent"], "number of current get ops"),
            ("get.time", ["gti", "getTime"], "time spent in get"),
            ("get.total", ["gto", "getTotal"], "number of get ops"),
            ("get.exists_time", ["geti", "getExistsTime"], "time spent in successful gets"),
            ("get.exists_total", ["geto", "getExistsTotal"], "number of successful gets"),
            ("get.missing_time", ["gmti", "getMissingTime"], "time spent in failed gets"),
            ("get.missing_total", ["gmto", "getMissingTotal"], "number of failed gets"),
            ("indexing.delete_current", ["idc", "indexingDeleteCurrent"], "number of current deletions"),
            ("indexing.delete_time", ["idti", "indexingDeleteTime"], "time spent in deletions"),
            ("indexing.delete_total", ["idto", "indexingDeleteTotal"], "number of delete ops"),
            ("indexing.index_current", ["iic", "indexingIndexCurrent"], "number of current indexing ops"),
            ("indexing.index_time", ["iiti", "indexingIndexTime"], "time spent in indexing"),
            ("indexing.index_total", ["iito", "indexingIndexTotal"], "number of indexing ops"),
            ("indexing.index_failed", ["iif", "indexingIndexFailed"], "number of failed indexing ops"),
            ("merges.current", ["mc", "mergesCurrent"], "number of current merges"),
            ("merges.current_docs", ["mcd", "mergesCurrentDocs"], "number of current merging docs"),
            ("merges.current_size", ["mcs", "mergesCurrentSize"], "size of current merges"),
            ("merges.total", ["mt", "mergesTotal"], "number of completed merge ops"),
            ("merges.total_docs", ["mtd", "mergesTotalDocs"], "docs merged"),
            ("merges.total_size", ["mts", "mergesTotalSize"], "size merged"),
            ("merges.total_time", ["mtt", "mergesTotalTime"], "time spent in merges"),
            ("refresh.total", ["rto", "refreshTotal"], "total refreshes"),
            ("refresh.time", ["rti", "refreshTime"], "time spent in refreshes"),
            ("refresh.external_total", ["rto", "refreshTotal"], "total external refreshes"),
            ("refresh.external_time", ["rti", "refreshTime"], "time spent in external refreshes"),
            ("refresh.listeners", ["rli", "refreshListeners"], "number of pending refresh listeners"),
            ("search.fetch_current", ["sfc", "searchFetchCurrent"], "current fetch phase ops"),
            ("search.fetch_time", ["sfti", "searchFetchTime"], "time spent in fetch phase"),
            ("search.fetch_total", ["sfto", "searchFetchTotal"], "total fetch ops"),
            ("search.open_contexts", ["so", "searchOpenContexts"], "open search contexts"),
            ("search.query_current", ["sqc", "searchQueryCurrent"], "current query phase ops"),
            ("search.query_time", ["sqti", "searchQueryTime"], "time spent in query phase"),
            ("search.query_total", ["sqto", "searchQueryTotal"], "total query phase ops"),
            ("search.scroll_current", ["scc", "searchScrollCurrent"], "open scroll contexts"),
            ("search.scroll_time", ["scti", "searchScrollTime"], "time scroll contexts held open"),
            ("search.scroll_total", ["scto", "searchScrollTotal"], "completed scroll contexts"),
            ("segments.count", ["sc", "segmentsCount"], "number of segments"),
            ("segments.memory", ["sm", "segmentsMemory"], "memory used by segments"),
            ("segments.index_writer_memory", ["siwm", "segmentsIndexWriterMemory"], "memory used by index writer"),
            ("segments.version_map_memory", ["svmm", "segmentsVersionMapMemory"], "memory used by version map"),
            ("segments.fixed_bitset_memory", ["sfbm", "fixedBitsetMemory"], "memory used by fixed bit sets for nested object field types and export type filters for types referred in _parent fields"),
            $($sequence)*
            ("warmer.current", ["wc", "warmerCurrent"], "current warmer ops"),
            ("warmer.total", ["wto", "warmerTotal"], "total warmer ops"),
            ("warmer.total_time", ["wtt", "warmerTotalTime"], "time spent in warmers"),
            $($last)*
        ]
    };
}

/// One statistic by its column's name.
#[must_use]
pub fn stat_cell(name: &str, s: &ShardStats) -> Cell {
    let millis = |ms: u64| Cell::Nanos(ms.saturating_mul(1_000_000));
    match name {
        "core" => u64::from(s.core).into(),
        "docs" | "docs.count" => s.docs_count.into(),
        "docs.deleted" => s.docs_deleted.into(),
        "store" | "store.size" => Cell::Bytes(s.store_size_bytes),
        "completion.size" | "fielddata.memory_size" | "merges.current_size" | "segments.fixed_bitset_memory" => {
            Cell::Bytes(0)
        }
        "query_cache.memory_size" => Cell::Bytes(s.query_cache_size_bytes),
        "query_cache.evictions" => (s.query_cache_entries_ever - s.query_cache_entries).into(),
        "request_cache.memory_size" => Cell::Bytes(s.request_cache_size_bytes),
        "request_cache.evictions" => s.request_cache_evictions.into(),
        "request_cache.hit_count" => s.request_cache_hits.into(),
        "request_cache.miss_count" => s.request_cache_misses.into(),
        "flush.total" => s.flush_total.into(),
        "flush.total_time" => millis(s.flush_time_ms),
        "get.time" | "get.exists_time" => millis(s.get_time_ms),
        "get.total" => s.get_total.into(),
        "get.exists_total" => s.get_exists_total.into(),
        "get.missing_total" => s.get_missing_total.into(),
        "indexing.delete_time" => millis(s.delete_time_ms),
        "indexing.delete_total" => s.delete_total.into(),
        "indexing.index_time" => millis(s.index_time_ms),
        "indexing.index_total" => s.index_total.into(),
        "indexing.index_failed" => s.index_failed.into(),
        "merges.current" => s.merges_current.into(),
        "merges.total" => s.merges_total.into(),
        "merges.total_docs" => s.merges_docs.into(),
        "merges.total_size" => Cell::Bytes(s.merges_size_bytes),
        "merges.total_time" => millis(s.merges_time_ms),
        "refresh.total" => s.refresh_total.into(),
        "refresh.time" | "refresh.external_time" => millis(s.refresh_time_ms),
        "refresh.external_total" => s.refresh_external_total.into(),
        "refresh.listeners" => s.refresh_listeners.into(),
        "search.fetch_time" => millis(s.fetch_time_ms),
        "search.fetch_total" => s.fetch_total.into(),
        "search.open_contexts" => s.open_contexts.into(),
        "search.query_time" => millis(s.query_time_ms),
        "search.query_total" => s.query_total.into(),
        "segments.count" => s.segments_count.into(),
        "segments.memory" => Cell::Bytes(s.segments_memory_bytes),
        "segments.index_writer_memory" => Cell::Bytes(s.index_writer_memory_bytes),
        "segments.version_map_memory" => Cell::Bytes(s.version_map_memory_bytes),
        "seq_no.max" => Cell::Int(s.max_seq_no),
        "seq_no.local_checkpoint" => Cell::Int(s.local_checkpoint),
        "seq_no.global_checkpoint" => Cell::Int(s.global_checkpoint),
        "memory.total" => {
            Cell::Bytes(s.segments_memory_bytes + s.index_writer_memory_bytes + s.version_map_memory_bytes)
        }
        time if time.ends_with("time") => Cell::Nanos(0),
        _ => Cell::Int(0),
    }
}

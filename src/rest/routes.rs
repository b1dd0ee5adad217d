//! The table of routes.

use super::request::Method::{Delete, Get, Post, Put};
use super::router::Route;
use super::{
    bulk, by_query, cat, cluster, document, field_caps, indices, latency, nodes, root, search, storage, tasks,
};
use crate::tasks::actions;

/// Parameters of APIs that take index expressions.
const INDICES: &str = "ignore_unavailable allow_no_indices expand_wildcards ignore_throttled";
/// Of APIs the master answers.
pub(super) const MASTER: &str = "timeout master_timeout cluster_manager_timeout local";
/// Of writes of documents. `consistency` and `durability` are ours.
const WRITE: &str = "refresh routing timeout wait_for_active_shards version version_type if_seq_no if_primary_term \
                     pipeline require_alias op_type consistency durability parent";
/// Of reads of documents.
const READ: &str = "stored_fields preference realtime refresh routing version version_type _source _source_includes \
                    _source_excludes _source_include _source_exclude";
/// Of anything that answers with parts of `_source`.
const SOURCE: &str = "_source _source_includes _source_excludes";

macro_rules! route {
    ([$($method:ident),+] $path:literal, $handler:path, [$($params:expr),*] $(, body = $body:literal)? $(, deprecated = $text:literal)?) => {{
        #[allow(unused_mut, unused_assignments)]
        let mut route = Route {
            methods: &[$($method),+],
            path: $path,
            params: &[$($params),*],
            handler: |backend, request| Box::pin($handler(backend, request)),
            action: actions::of(stringify!($handler), $path),
            body: true,
            deprecated: None,
        };
        $(route.body = $body;)?
        $(route.deprecated = Some($text);)?
        route
    }};
}

/// All routes.
#[must_use]
pub fn all() -> Vec<Route> {
    let mut routes = Vec::with_capacity(256);
    routes.extend(root_routes());
    routes.extend(document_routes());
    routes.extend(index_routes());
    routes.extend(cluster_routes());
    routes.extend(search_routes());
    routes.extend(cat_routes());
    routes
}

fn root_routes() -> Vec<Route> {
    vec![route!([Get] "/", root::info, [], body = false)]
}

fn document_routes() -> Vec<Route> {
    vec![
        route!([Put, Post] "/{index}/_doc/{id}", document::index, [WRITE]),
        route!([Post] "/{index}/_doc", document::index, [WRITE]),
        route!([Put, Post] "/{index}/_create/{id}", document::create, [WRITE]),
        route!([Get] "/{index}/_doc/{id}", document::get, [READ], body = false),
        route!([Delete] "/{index}/_doc/{id}", document::delete, [WRITE], body = false),
        route!([Get] "/{index}/_source/{id}", document::get_source, [READ], body = false),
        route!([Post] "/{index}/_update/{id}", document::update, [WRITE, SOURCE, "retry_on_conflict doc_as_upsert lang"]),
        route!([Get, Post] "/_mget", document::mget, [READ]),
        route!([Get, Post] "/{index}/_mget", document::mget, [READ]),
        route!([Post, Put] "/_bulk", bulk::bulk, [WRITE, SOURCE, "type"]),
        route!([Post, Put] "/{index}/_bulk", bulk::bulk, [WRITE, SOURCE, "type"]),
        // With a type name in the path.
        route!([Post, Put] "/{index}/{type}/_bulk", bulk::bulk, [WRITE, SOURCE],
            deprecated = "[types removal] Specifying types in bulk requests is deprecated."),
        route!([Get, Post] "/{index}/{type}/_mget", document::mget, [READ],
            deprecated = "[types removal] Specifying types in multi get requests is deprecated."),
        route!([Put, Post] "/{index}/{type}/{id}", document::index, [WRITE],
            deprecated = "[types removal] Specifying types in document index requests is deprecated, use the typeless endpoints instead (/{index}/_doc/{id}, /{index}/_doc, or /{index}/_create/{id})."),
        route!([Post] "/{index}/{type}", document::index, [WRITE],
            deprecated = "[types removal] Specifying types in document index requests is deprecated, use the typeless endpoints instead (/{index}/_doc/{id}, /{index}/_doc, or /{index}/_create/{id})."),
        route!([Put, Post] "/{index}/{type}/{id}/_create", document::create, [WRITE],
            deprecated = "[types removal] Specifying types in document index requests is deprecated, use the typeless endpoints instead (/{index}/_doc/{id}, /{index}/_doc, or /{index}/_create/{id})."),
        route!([Get] "/{index}/{type}/{id}", document::get, [READ], body = false,
            deprecated = "[types removal] Specifying types in document get requests is deprecated, use the /{index}/_doc/{id} endpoint instead."),
        route!([Delete] "/{index}/{type}/{id}", document::delete, [WRITE], body = false,
            deprecated = "[types removal] Specifying types in document index requests is deprecated, use the /{index}/_doc/{id} endpoint instead."),
        route!([Get] "/{index}/{type}/{id}/_source", document::get_source, [READ], body = false,
            deprecated = "[types removal] Specifying types in get_source and exist_sourcerequests is deprecated."),
        route!([Post] "/{index}/{type}/{id}/_update", document::update, [WRITE, SOURCE, "retry_on_conflict doc_as_upsert lang"],
            deprecated = "[types removal] Specifying types in document update requests is deprecated, use the endpoint /{index}/_update/{id} instead."),
    ]
}

fn index_routes() -> Vec<Route> {
    use indices::{alias, analyze, lifecycle, mapping, recovery, resize, rollover, settings, stats, template, upkeep};
    const TYPED: &str = "include_type_name";
    const TEMPLATE: &str = "create cause order flat_settings";
    const STATS: &str = "metric completion_fields fielddata_fields fields groups level types \
                         include_segment_file_sizes include_unloaded_segments forbid_closed_indices";
    vec![
        route!([Put] "/{index}", lifecycle::create, [MASTER, TYPED, "wait_for_active_shards"]),
        route!([Delete] "/{index}", lifecycle::delete, [MASTER, INDICES], body = false),
        route!([Get] "/{index}", lifecycle::get, [MASTER, INDICES, TYPED, "flat_settings include_defaults"], body = false),
        route!([Post] "/{index}/_open", upkeep::open, [MASTER, INDICES, "wait_for_active_shards"]),
        route!([Post] "/_open", upkeep::open, [MASTER, INDICES, "wait_for_active_shards"]),
        route!([Post] "/{index}/_close", upkeep::close, [MASTER, INDICES, "wait_for_active_shards"]),
        route!([Post] "/_close", upkeep::close, [MASTER, INDICES, "wait_for_active_shards"]),
        // Mappings.
        route!([Get] "/_mapping", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Get] "/_mappings", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Get] "/{index}/_mapping", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Get] "/{index}/_mappings", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Get] "/_mapping/{type}", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Get] "/{index}/_mapping/{type}", mapping::get, [MASTER, INDICES, TYPED], body = false),
        route!([Put, Post] "/{index}/_mapping", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/{index}/_mappings", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/{index}/{type}/_mapping", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/{index}/{type}/_mappings", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/{index}/_mapping/{type}", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/{index}/_mappings/{type}", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/_mapping/{type}", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Put, Post] "/_mappings/{type}", mapping::put, [MASTER, INDICES, TYPED, "write_index_only"]),
        route!([Get] "/_mapping/field/{fields}", mapping::get_field, [MASTER, INDICES, TYPED, "include_defaults"], body = false),
        route!([Get] "/{index}/_mapping/field/{fields}", mapping::get_field, [MASTER, INDICES, TYPED, "include_defaults"], body = false),
        route!([Get] "/_mapping/{type}/field/{fields}", mapping::get_field, [MASTER, INDICES, TYPED, "include_defaults"], body = false),
        route!([Get] "/{index}/_mapping/{type}/field/{fields}", mapping::get_field, [MASTER, INDICES, TYPED, "include_defaults"], body = false),
        // Settings.
        route!([Get] "/_settings", settings::get, [MASTER, INDICES, "flat_settings include_defaults"], body = false),
        route!([Get] "/_settings/{name}", settings::get, [MASTER, INDICES, "flat_settings include_defaults"], body = false),
        route!([Get] "/{index}/_settings", settings::get, [MASTER, INDICES, "flat_settings include_defaults"], body = false),
        route!([Get] "/{index}/_settings/{name}", settings::get, [MASTER, INDICES, "flat_settings include_defaults"], body = false),
        route!([Put] "/_settings", settings::put, [MASTER, INDICES, "preserve_existing flat_settings"]),
        route!([Put] "/{index}/_settings", settings::put, [MASTER, INDICES, "preserve_existing flat_settings"]),
        route!([Put] "/{index}/_block/{block}", settings::add_block, [MASTER, INDICES], body = false),
        // Aliases.
        route!([Post] "/_aliases", alias::update, [MASTER]),
        route!([Get] "/_alias", alias::get, [MASTER, INDICES], body = false),
        route!([Get] "/_aliases", alias::get, [MASTER, INDICES], body = false),
        route!([Get] "/_alias/{name}", alias::get, [MASTER, INDICES], body = false),
        route!([Get] "/{index}/_alias", alias::get, [MASTER, INDICES], body = false),
        route!([Get] "/{index}/_alias/{name}", alias::get, [MASTER, INDICES], body = false),
        route!([Put, Post] "/{index}/_alias/{name}", alias::put, [MASTER]),
        route!([Put, Post] "/{index}/_aliases/{name}", alias::put, [MASTER]),
        route!([Put, Post] "/_alias/{name}", alias::put, [MASTER]),
        route!([Put, Post] "/_aliases/{name}", alias::put, [MASTER]),
        route!([Put] "/{index}/_alias", alias::put, [MASTER]),
        route!([Put] "/{index}/_aliases", alias::put, [MASTER]),
        route!([Put] "/_alias", alias::put, [MASTER]),
        route!([Delete] "/{index}/_alias/{name}", alias::delete, [MASTER], body = false),
        route!([Delete] "/{index}/_aliases/{name}", alias::delete, [MASTER], body = false),
        // Templates.
        route!([Put, Post] "/_template/{name}", template::put_legacy, [MASTER, TEMPLATE, TYPED]),
        route!([Get] "/_template", template::get_legacy, [MASTER, TEMPLATE, TYPED], body = false),
        route!([Get] "/_template/{name}", template::get_legacy, [MASTER, TEMPLATE, TYPED], body = false),
        route!([Delete] "/_template/{name}", template::delete_legacy, [MASTER], body = false),
        route!([Put, Post] "/_index_template/{name}", template::put_index, [MASTER, TEMPLATE]),
        route!([Get] "/_index_template", template::get_index, [MASTER, TEMPLATE], body = false),
        route!([Get] "/_index_template/{name}", template::get_index, [MASTER, TEMPLATE], body = false),
        route!([Delete] "/_index_template/{name}", template::delete_index, [MASTER], body = false),
        route!([Post] "/_index_template/_simulate_index/{name}", template::simulate_index, [MASTER, TEMPLATE]),
        route!([Post] "/_index_template/_simulate", template::simulate, [MASTER, TEMPLATE]),
        route!([Post] "/_index_template/_simulate/{name}", template::simulate, [MASTER, TEMPLATE]),
        route!([Put, Post] "/_component_template/{name}", template::put_component, [MASTER, TEMPLATE]),
        route!([Get] "/_component_template", template::get_component, [MASTER, TEMPLATE], body = false),
        route!([Get] "/_component_template/{name}", template::get_component, [MASTER, TEMPLATE], body = false),
        route!([Delete] "/_component_template/{name}", template::delete_component, [MASTER], body = false),
        // Upkeep.
        route!([Post, Get] "/_refresh", upkeep::refresh, [INDICES, "force"]),
        route!([Post, Get] "/{index}/_refresh", upkeep::refresh, [INDICES, "force"]),
        route!([Post, Get] "/_flush", upkeep::flush, [INDICES, "force wait_if_ongoing wait_for_ongoing"]),
        route!([Post, Get] "/{index}/_flush", upkeep::flush, [INDICES, "force wait_if_ongoing wait_for_ongoing"]),
        route!([Post, Get] "/_flush/synced", upkeep::flush_synced, [INDICES]),
        route!([Post, Get] "/{index}/_flush/synced", upkeep::flush_synced, [INDICES]),
        route!([Post] "/_forcemerge", upkeep::force_merge, [INDICES, "flush max_num_segments only_expunge_deletes"], body = false),
        route!([Post] "/{index}/_forcemerge", upkeep::force_merge, [INDICES, "flush max_num_segments only_expunge_deletes"], body = false),
        route!([Post] "/_optimize", upkeep::force_merge, [INDICES, "flush max_num_segments only_expunge_deletes wait_for_merge"], body = false),
        route!([Post] "/{index}/_optimize", upkeep::force_merge, [INDICES, "flush max_num_segments only_expunge_deletes wait_for_merge"], body = false),
        route!([Post] "/_cache/clear", upkeep::clear_cache, [INDICES, "fielddata fields query request index"]),
        route!([Post] "/{index}/_cache/clear", upkeep::clear_cache, [INDICES, "fielddata fields query request"]),
        route!([Post] "/_upgrade", upkeep::upgrade, [INDICES, "wait_for_completion only_ancient_segments"]),
        route!([Post] "/{index}/_upgrade", upkeep::upgrade, [INDICES, "wait_for_completion only_ancient_segments"]),
        route!([Get] "/_upgrade", upkeep::get_upgrade, [INDICES]),
        route!([Get] "/{index}/_upgrade", upkeep::get_upgrade, [INDICES]),
        route!([Get, Post] "/_analyze", analyze::analyze, ["index"]),
        route!([Get, Post] "/{index}/_analyze", analyze::analyze, []),
        route!([Post] "/{index}/_rollover", rollover::rollover, [MASTER, TYPED, "dry_run wait_for_active_shards"]),
        route!([Post] "/{index}/_rollover/{new_index}", rollover::rollover, [MASTER, TYPED, "dry_run wait_for_active_shards"]),
        route!([Put, Post] "/{index}/_clone/{target}", resize::clone, [MASTER, "wait_for_active_shards copy_settings"]),
        route!([Put, Post] "/{index}/_shrink/{target}", resize::shrink, [MASTER, "wait_for_active_shards copy_settings"]),
        route!([Put, Post] "/{index}/_split/{target}", resize::split, [MASTER, "wait_for_active_shards copy_settings"]),
        route!([Get] "/_resolve/index/{name}", rollover::resolve_index, [INDICES], body = false),
        // Statistics.
        route!([Get] "/_stats", stats::stats, [INDICES, STATS], body = false),
        route!([Get] "/_stats/{metric}", stats::stats, [INDICES, STATS], body = false),
        route!([Get] "/{index}/_stats", stats::stats, [INDICES, STATS], body = false),
        route!([Get] "/{index}/_stats/{metric}", stats::stats, [INDICES, STATS], body = false),
        route!([Get] "/_segments", stats::segments, [INDICES, "verbose"], body = false),
        route!([Get] "/{index}/_segments", stats::segments, [INDICES, "verbose"], body = false),
        route!([Get] "/_recovery", recovery::recovery, [INDICES, "detailed active_only"], body = false),
        route!([Get] "/{index}/_recovery", recovery::recovery, [INDICES, "detailed active_only"], body = false),
        route!([Get] "/_shard_stores", recovery::shard_stores, [INDICES, "status"], body = false),
        route!([Get] "/{index}/_shard_stores", recovery::shard_stores, [INDICES, "status"], body = false),
    ]
}

fn cluster_routes() -> Vec<Route> {
    const HEALTH: &str = "level wait_for_active_shards wait_for_nodes wait_for_events wait_for_no_relocating_shards \
                          wait_for_no_initializing_shards wait_for_status wait_for_relocating_shards";
    const STATS: &str = "metric index_metric completion_fields fielddata_fields fields groups level types \
                         include_segment_file_sizes flat_settings";
    vec![
        route!([Get] "/_cluster/health", cluster::health, [MASTER, INDICES, HEALTH], body = false),
        route!([Get] "/_cluster/health/{index}", cluster::health, [MASTER, INDICES, HEALTH], body = false),
        route!([Get] "/_cluster/state", cluster::state, [MASTER, INDICES, "flat_settings wait_for_metadata_version wait_for_timeout"], body = false),
        route!([Get] "/_cluster/state/{metric}", cluster::state, [MASTER, INDICES, "flat_settings wait_for_metadata_version wait_for_timeout"], body = false),
        route!([Get] "/_cluster/state/{metric}/{index}", cluster::state, [MASTER, INDICES, "flat_settings wait_for_metadata_version wait_for_timeout"], body = false),
        route!([Get] "/_cluster/settings", cluster::get_settings, [MASTER, "flat_settings include_defaults"], body = false),
        route!([Put] "/_cluster/settings", cluster::put_settings, [MASTER, "flat_settings"]),
        route!([Get] "/_cluster/pending_tasks", cluster::pending_tasks, [MASTER], body = false),
        route!([Get] "/_remote/info", cluster::remote_info, [], body = false),
        route!([Post] "/_cluster/reroute", cluster::reroute, [MASTER, "dry_run explain retry_failed metric"]),
        route!([Get, Post] "/_cluster/allocation/explain", cluster::allocation_explain, ["include_yes_decisions include_disk_info"]),
        route!([Post] "/_cluster/voting_config_exclusions", cluster::add_voting_exclusions, [MASTER, "node_ids node_names"]),
        route!([Delete] "/_cluster/voting_config_exclusions", cluster::clear_voting_exclusions, [MASTER, "wait_for_removal"]),
        route!([Get] "/_cluster/stats", nodes::cluster_stats, [STATS, "timeout"], body = false),
        route!([Get] "/_cluster/stats/nodes/{node_id}", nodes::cluster_stats, [STATS, "timeout"], body = false),
        // Nodes.
        route!([Get] "/_nodes", nodes::info, ["flat_settings timeout"], body = false),
        route!([Get] "/_nodes/{node_id}", nodes::info, ["flat_settings timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/{metric}", nodes::info, ["flat_settings timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/info/{metric}", nodes::info, ["flat_settings timeout"], body = false),
        route!([Get] "/_nodes/stats", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/stats/{metric}", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/stats/{metric}/{index_metric}", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/stats", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/stats/{metric}", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/stats/{metric}/{index_metric}", nodes::stats, [STATS, "timeout"], body = false),
        route!([Get] "/_nodes/usage", nodes::usage, ["timeout"], body = false),
        route!([Get] "/_nodes/usage/{metric}", nodes::usage, ["timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/usage", nodes::usage, ["timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/usage/{metric}", nodes::usage, ["timeout"], body = false),
        route!([Get] "/_nodes/hot_threads", nodes::hot_threads, ["interval snapshots threads ignore_idle_threads type timeout"], body = false),
        route!([Get] "/_nodes/{node_id}/hot_threads", nodes::hot_threads, ["interval snapshots threads ignore_idle_threads type timeout"], body = false),
        route!([Post] "/_nodes/reload_secure_settings", nodes::reload_secure_settings, ["timeout"]),
        route!([Post] "/_nodes/{node_id}/reload_secure_settings", nodes::reload_secure_settings, ["timeout"]),
        // Tasks and measurements.
        route!([Get] "/_tasks", tasks::list, ["nodes actions detailed parent_task_id wait_for_completion group_by timeout"], body = false),
        route!([Get] "/_tasks/{task_id}", tasks::get, ["wait_for_completion timeout"], body = false),
        route!([Post] "/_tasks/_cancel", tasks::cancel, ["nodes actions parent_task_id wait_for_completion group_by timeout"]),
        route!([Post] "/_tasks/{task_id}/_cancel", tasks::cancel, ["nodes actions parent_task_id wait_for_completion group_by timeout"]),
        route!([Get] "/_storage", storage::storage, [INDICES], body = false),
        route!([Get] "/{index}/_storage", storage::storage, [INDICES], body = false),
        route!([Get] "/_latency", latency::node, ["nodes interval hdr"], body = false),
        route!([Post] "/_latency/_reset", latency::reset, ["nodes"], body = false),
        route!([Get] "/_latency/{index}", latency::indices, [INDICES, "interval hdr"], body = false),
        route!([Get] "/_latency/{index}/{shard}", latency::indices, [INDICES, "interval hdr"], body = false),
        route!([Get] "/metrics", nodes::metrics, [], body = false),
        route!([Get] "/_prometheus/metrics", nodes::metrics, [], body = false),
    ]
}

fn search_routes() -> Vec<Route> {
    const QUERY: &str = "q analyzer analyze_wildcard default_operator df lenient preference routing";
    const SEARCH: &str = "ccs_minimize_roundtrips min_seq_no explain stored_fields docvalue_fields from scroll search_type size sort \
                          terminate_after stats suggest_field suggest_mode suggest_size suggest_text timeout track_scores \
                          track_total_hits allow_partial_search_results typed_keys version seq_no_primary_term request_cache \
                          batched_reduce_size max_concurrent_shard_requests pre_filter_shard_size rest_total_hits_as_int \
                          _source_include _source_exclude min_score";
    const BY_QUERY: &str = "from conflicts scroll search_type search_timeout size max_docs sort terminate_after stats version \
                            version_type request_cache refresh timeout wait_for_active_shards scroll_size wait_for_completion \
                            requests_per_second slices pipeline require_alias _source _source_includes _source_excludes";
    const MSEARCH: &str = "search_type max_concurrent_searches typed_keys pre_filter_shard_size \
                           max_concurrent_shard_requests rest_total_hits_as_int ccs_minimize_roundtrips";
    vec![
        route!([Get, Post] "/_search", search::search, [INDICES, QUERY, SEARCH, SOURCE]),
        route!([Get, Post] "/{index}/_search", search::search, [INDICES, QUERY, SEARCH, SOURCE]),
        route!([Get, Post] "/{index}/{type}/_search", search::search, [INDICES, QUERY, SEARCH, SOURCE]),
        route!([Get, Post] "/_search/scroll", search::scroll, ["scroll scroll_id rest_total_hits_as_int"]),
        route!([Get, Post] "/_search/scroll/{scroll_id}", search::scroll, ["scroll rest_total_hits_as_int"]),
        route!([Delete] "/_search/scroll", search::clear_scroll, ["scroll_id"]),
        route!([Delete] "/_search/scroll/{scroll_id}", search::clear_scroll, []),
        route!([Post] "/{index}/_pit", search::open_pit, [INDICES, "keep_alive preference routing"]),
        route!([Delete] "/_pit", search::close_pit, []),
        route!([Post] "/{index}/_search/point_in_time", search::open_pit, [INDICES, "keep_alive preference routing allow_partial_pit_creation"]),
        route!([Delete] "/_search/point_in_time", search::close_pit, []),
        route!([Get, Post] "/_count", search::count, [INDICES, QUERY, "min_score terminate_after"]),
        route!([Get, Post] "/{index}/_count", search::count, [INDICES, QUERY, "min_score terminate_after"]),
        route!([Get, Post] "/{index}/{type}/_count", search::count, [INDICES, QUERY, "min_score terminate_after"],
            deprecated = "[types removal] Specifying types in count requests is deprecated."),
        route!([Get, Post] "/_msearch", search::msearch, [INDICES, MSEARCH]),
        route!([Get, Post] "/{index}/_msearch", search::msearch, [INDICES, MSEARCH]),
        route!([Get, Post] "/{index}/{type}/_msearch", search::msearch, [INDICES, MSEARCH],
            deprecated = "[types removal] Specifying types in multi search requests is deprecated."),
        route!([Get, Post] "/_validate/query", search::validate, [INDICES, QUERY, "explain rewrite all_shards"]),
        route!([Get, Post] "/{index}/_validate/query", search::validate, [INDICES, QUERY, "explain rewrite all_shards"]),
        route!([Get, Post] "/{index}/{type}/_validate/query", search::validate, [INDICES, QUERY, "explain rewrite all_shards"],
            deprecated = "[types removal] Specifying types in validate query requests is deprecated."),
        route!([Get, Post] "/{index}/_explain/{id}", search::explain, [QUERY, SOURCE, "stored_fields"]),
        route!([Get, Post] "/{index}/{type}/{id}/_explain", search::explain, [QUERY, SOURCE, "stored_fields"],
            deprecated = "[types removal] Specifying a type in explain requests is deprecated."),
        route!([Get, Post] "/_field_caps", field_caps::field_caps, [INDICES, "fields include_unmapped"]),
        route!([Get, Post] "/{index}/_field_caps", field_caps::field_caps, [INDICES, "fields include_unmapped"]),
        route!([Post] "/{index}/_delete_by_query", by_query::delete, [INDICES, QUERY, BY_QUERY]),
        route!([Post] "/{index}/_update_by_query", by_query::update, [INDICES, QUERY, BY_QUERY]),
        route!([Post] "/_reindex", by_query::reindex, [BY_QUERY]),
        route!([Post] "/_reindex/{task_id}/_rethrottle", by_query::rethrottle, ["requests_per_second group_by"]),
        route!([Post] "/_update_by_query/{task_id}/_rethrottle", by_query::rethrottle, ["requests_per_second group_by"]),
        route!([Post] "/_delete_by_query/{task_id}/_rethrottle", by_query::rethrottle, ["requests_per_second group_by"]),
        route!([Get, Post] "/_search_shards", search::search_shards, [INDICES, "preference routing local"]),
        route!([Get, Post] "/{index}/_search_shards", search::search_shards, [INDICES, "preference routing local"]),
    ]
}

fn cat_routes() -> Vec<Route> {
    use cat::{indices, nodes, shards};
    const TABLE: &str = "h help s v bytes time size ts local master_timeout cluster_manager_timeout pri expand_wildcards \
                         include_unloaded_segments";
    vec![
        route!([Get] "/_cat", cat::help, ["help s"], body = false),
        route!([Get] "/_cat/aliases", indices::aliases, [TABLE], body = false),
        route!([Get] "/_cat/aliases/{name}", indices::aliases, [TABLE], body = false),
        route!([Get] "/_cat/allocation", shards::allocation, [TABLE], body = false),
        route!([Get] "/_cat/allocation/{node_id}", shards::allocation, [TABLE], body = false),
        route!([Get] "/_cat/count", indices::count, [TABLE], body = false),
        route!([Get] "/_cat/count/{index}", indices::count, [TABLE], body = false),
        route!([Get] "/_cat/fielddata", shards::fielddata, [TABLE, "fields"], body = false),
        route!([Get] "/_cat/fielddata/{fields}", shards::fielddata, [TABLE], body = false),
        route!([Get] "/_cat/health", indices::health, [TABLE], body = false),
        route!([Get] "/_cat/indices", indices::indices, [TABLE, "health"], body = false),
        route!([Get] "/_cat/indices/{index}", indices::indices, [TABLE, "health"], body = false),
        route!([Get] "/_cat/master", nodes::master, [TABLE], body = false),
        route!([Get] "/_cat/nodeattrs", nodes::attributes, [TABLE], body = false),
        route!([Get] "/_cat/nodes", nodes::nodes, [TABLE, "full_id"], body = false),
        route!([Get] "/_cat/pending_tasks", nodes::pending_tasks, [TABLE], body = false),
        route!([Get] "/_cat/plugins", nodes::plugins, [TABLE], body = false),
        route!([Get] "/_cat/recovery", shards::recovery, [TABLE, INDICES, "active_only detailed index"], body = false),
        route!([Get] "/_cat/recovery/{index}", shards::recovery, [TABLE, INDICES, "active_only detailed"], body = false),
        route!([Get] "/_cat/repositories", nodes::repositories, [TABLE], body = false),
        route!([Get] "/_cat/segments", shards::segments, [TABLE, INDICES], body = false),
        route!([Get] "/_cat/segments/{index}", shards::segments, [TABLE, INDICES], body = false),
        route!([Get] "/_cat/shards", shards::shards, [TABLE], body = false),
        route!([Get] "/_cat/shards/{index}", shards::shards, [TABLE], body = false),
        route!([Get] "/_cat/snapshots", nodes::snapshots, [TABLE, "ignore_unavailable"], body = false),
        route!([Get] "/_cat/snapshots/{repository}", nodes::snapshots, [TABLE, "ignore_unavailable"], body = false),
        route!([Get] "/_cat/tasks", nodes::tasks, [TABLE, "nodes actions detailed parent_task_id"], body = false),
        route!([Get] "/_cat/templates", indices::templates, [TABLE], body = false),
        route!([Get] "/_cat/templates/{name}", indices::templates, [TABLE], body = false),
        route!([Get] "/_cat/thread_pool", nodes::thread_pool, [TABLE], body = false),
        route!([Get] "/_cat/thread_pool/{thread_pool_patterns}", nodes::thread_pool, [TABLE], body = false),
    ]
}

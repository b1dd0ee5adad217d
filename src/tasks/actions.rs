//! Elasticsearch's names of what each route does.

/// What a request does, and what becomes of it when it is cancelled.
#[derive(Debug, PartialEq, Eq)]
pub struct Action {
    /// `indices:data/read/search`
    pub name: &'static str,
    /// What cancelling does.
    pub cancel: Cancel,
}

/// What cancelling a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It cannot be cancelled: what it changes is finished.
    No,
    /// Its work is dropped where it waits.
    Drop,
    /// It ends by itself, with what it has.
    Ends,
}

macro_rules! actions {
    ($($handler:literal => $name:literal $($cancel:ident)?,)*) => {
        /// By handler, as the table of routes writes it.
        static ACTIONS: &[(&str, Action)] = &[
            $(($handler, Action { name: $name, cancel: actions!(@ $($cancel)?) }),)*
        ];
    };
    (@) => { Cancel::No };
    (@ $cancel:ident) => { Cancel::$cancel };
}

actions! {
    "root::info" => "cluster:monitor/main",
    "document::index" => "indices:data/write/index",
    "document::create" => "indices:data/write/index",
    "document::get" => "indices:data/read/get",
    "document::get_source" => "indices:data/read/get",
    "document::delete" => "indices:data/write/delete",
    "document::update" => "indices:data/write/update",
    "document::mget" => "indices:data/read/mget",
    "bulk::bulk" => "indices:data/write/bulk",
    "search::search" => "indices:data/read/search" Drop,
    "search::msearch" => "indices:data/read/msearch" Drop,
    "search::count" => "indices:data/read/search" Drop,
    "search::scroll" => "indices:data/read/scroll" Drop,
    "search::clear_scroll" => "indices:data/read/scroll/clear",
    "search::open_pit" => "indices:data/read/open_point_in_time",
    "search::close_pit" => "indices:data/read/close_point_in_time",
    "search::validate" => "indices:admin/validate/query" Drop,
    "search::explain" => "indices:data/read/explain" Drop,
    "search::search_shards" => "indices:admin/shards/search_shards",
    "field_caps::field_caps" => "indices:data/read/field_caps",
    "by_query::delete" => "indices:data/write/delete/byquery" Ends,
    "by_query::update" => "indices:data/write/update/byquery" Ends,
    "by_query::reindex" => "indices:data/write/reindex" Ends,
    "by_query::rethrottle" => "cluster:admin/reindex/rethrottle",
    "lifecycle::create" => "indices:admin/create",
    "lifecycle::delete" => "indices:admin/delete",
    "lifecycle::get" => "indices:admin/get",
    "upkeep::open" => "indices:admin/open",
    "upkeep::close" => "indices:admin/close",
    "upkeep::refresh" => "indices:admin/refresh",
    "upkeep::flush" => "indices:admin/flush",
    "upkeep::flush_synced" => "indices:admin/synced_flush",
    "upkeep::force_merge" => "indices:admin/forcemerge",
    "upkeep::clear_cache" => "indices:admin/cache/clear",
    "upkeep::upgrade" => "indices:admin/upgrade",
    "upkeep::get_upgrade" => "indices:monitor/upgrade",
    "mapping::get" => "indices:admin/mappings/get",
    "mapping::put" => "indices:admin/mapping/put",
    "mapping::get_field" => "indices:admin/mappings/fields/get",
    "settings::get" => "indices:monitor/settings/get",
    "settings::put" => "indices:admin/settings/update",
    "settings::add_block" => "indices:admin/block/add",
    "alias::update" => "indices:admin/aliases",
    "alias::put" => "indices:admin/aliases",
    "alias::delete" => "indices:admin/aliases",
    "alias::get" => "indices:admin/aliases/get",
    "template::put_legacy" => "indices:admin/template/put",
    "template::get_legacy" => "indices:admin/template/get",
    "template::delete_legacy" => "indices:admin/template/delete",
    "template::put_index" => "indices:admin/index_template/put",
    "template::get_index" => "indices:admin/index_template/get",
    "template::delete_index" => "indices:admin/index_template/delete",
    "template::simulate_index" => "indices:admin/index_template/simulate_index",
    "template::simulate" => "indices:admin/index_template/simulate",
    "template::put_component" => "cluster:admin/component_template/put",
    "template::get_component" => "cluster:admin/component_template/get",
    "template::delete_component" => "cluster:admin/component_template/delete",
    "analyze::analyze" => "indices:admin/analyze",
    "rollover::rollover" => "indices:admin/rollover",
    "rollover::resolve_index" => "indices:admin/resolve/index",
    "resize::clone" => "indices:admin/resize",
    "resize::shrink" => "indices:admin/resize",
    "resize::split" => "indices:admin/resize",
    "stats::stats" => "indices:monitor/stats",
    "stats::segments" => "indices:monitor/segments",
    "recovery::recovery" => "indices:monitor/recovery",
    "recovery::shard_stores" => "indices:monitor/shard_stores",
    "cluster::health" => "cluster:monitor/health",
    "cluster::state" => "cluster:monitor/state",
    "cluster::get_settings" => "cluster:monitor/state",
    "cluster::put_settings" => "cluster:admin/settings/update",
    "cluster::pending_tasks" => "cluster:monitor/task",
    "cluster::remote_info" => "cluster:monitor/remote/info",
    "cluster::reroute" => "cluster:admin/reroute",
    "cluster::allocation_explain" => "cluster:monitor/allocation/explain",
    "cluster::add_voting_exclusions" => "cluster:admin/voting_config/add_exclusions",
    "cluster::clear_voting_exclusions" => "cluster:admin/voting_config/clear_exclusions",
    "nodes::cluster_stats" => "cluster:monitor/stats",
    "nodes::info" => "cluster:monitor/nodes/info",
    "nodes::stats" => "cluster:monitor/nodes/stats",
    "nodes::usage" => "cluster:monitor/nodes/usage",
    "nodes::hot_threads" => "cluster:monitor/nodes/hot_threads",
    "nodes::reload_secure_settings" => "cluster:admin/nodes/reload_secure_settings",
    "nodes::metrics" => "cluster:monitor/metrics",
    "tasks::list" => "cluster:monitor/tasks/lists" Drop,
    "tasks::get" => "cluster:monitor/task/get" Drop,
    "tasks::cancel" => "cluster:admin/tasks/cancel",
    "storage::storage" => "cluster:monitor/storage",
    "latency::node" => "cluster:monitor/latency",
    "latency::indices" => "cluster:monitor/latency",
    "latency::reset" => "cluster:admin/latency/reset",
}

static CAT: Action = Action { name: "cluster:monitor/cat", cancel: Cancel::No };
static CAT_TASKS: Action = Action { name: "cluster:monitor/tasks/lists", cancel: Cancel::No };

/// The action of a route by its handler and path.
///
/// # Panics
/// If the table above lacks it; the table of routes is built once, at the start.
#[must_use]
pub fn of(handler: &str, path: &str) -> &'static Action {
    if path.starts_with("/_cat") {
        return if path == "/_cat/tasks" { &CAT_TASKS } else { &CAT };
    }
    let known = ACTIONS.iter().find(|(name, _)| *name == handler);
    &known.unwrap_or_else(|| panic!("the handler [{handler}] of [{path}] has no action")).1
}

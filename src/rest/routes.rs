//! The table of routes.

use super::request::Method::{Delete, Get, Post, Put};
use super::router::Route;
use super::{bulk, document, indices, root};

/// Parameters of APIs that take index expressions.
const INDICES: &str = "ignore_unavailable allow_no_indices expand_wildcards ignore_throttled";
/// Of APIs the master answers.
const MASTER: &str = "timeout master_timeout cluster_manager_timeout local";
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
    vec![
        route!([Put] "/{index}", indices::lifecycle::create, [MASTER, "include_type_name wait_for_active_shards"]),
        route!([Delete] "/{index}", indices::lifecycle::delete, [MASTER, INDICES], body = false),
        route!([Get] "/{index}", indices::lifecycle::get, [MASTER, INDICES, "include_type_name flat_settings include_defaults"], body = false),
    ]
}

//! From method and path to a handler; what every request has in common is checked here.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;

use super::http::{MediaType, RenderOptions, Rendered, media_type, render, warning};
use super::request::{Body, Method, Request, Response};
use super::{passed, routes};
use crate::backend::{LocalFuture, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::NoMaster;
use crate::stats::{self, Stage, hot};
use crate::tasks::Action;

/// What answers a request.
pub type Handler = for<'a> fn(&'a SharedBackend, Request) -> LocalFuture<'a, ApiResult<Response>>;

/// One route. Path parts in braces become parameters, as if they stood in the query string.
pub struct Route {
    /// Methods; HEAD comes with GET.
    pub methods: &'static [Method],
    /// `/{index}/_doc/{id}`
    pub path: &'static str,
    /// Parameters it knows beside the common ones: groups of space-separated names.
    pub params: &'static [&'static str],
    /// What answers.
    pub handler: Handler,
    /// What that is called in lists of tasks.
    pub action: &'static Action,
    /// Whether a body makes sense.
    pub body: bool,
    /// Text of a deprecation warning.
    pub deprecated: Option<&'static str>,
}

/// Parameters that every route takes. `ignore` is a client-side word that some send.
const COMMON: &[&str] = &["pretty", "human", "error_trace", "source", "source_content_type", "filter_path", "format"];

#[derive(Default)]
struct Node {
    literal: HashMap<&'static str, Node>,
    wildcard: Option<Box<Node>>,
    routes: Vec<usize>,
}

struct Router {
    routes: Vec<Route>,
    root: Node,
}

impl Router {
    fn new(routes: Vec<Route>) -> Router {
        let mut root = Node::default();
        for (at, route) in routes.iter().enumerate() {
            let mut node = &mut root;
            for segment in route.path.split('/').filter(|s| !s.is_empty()) {
                node = if segment.starts_with('{') {
                    node.wildcard.get_or_insert_default()
                } else {
                    node.literal.entry(segment).or_default()
                };
            }
            node.routes.push(at);
        }
        Router { routes, root }
    }

    /// All routes whose path matches, the most literal first.
    fn matching(&self, segments: &[String]) -> Vec<usize> {
        fn walk(node: &Node, rest: &[String], out: &mut Vec<usize>) {
            let Some((first, rest)) = rest.split_first() else {
                out.extend(&node.routes);
                return;
            };
            if let Some(next) = node.literal.get(first.as_str()) {
                walk(next, rest, out);
            }
            if let Some(next) = &node.wildcard {
                walk(next, rest, out);
            }
        }
        let mut out = Vec::new();
        // No route is longer; a path of thousands of segments is refused without a walk.
        let Some((first, rest)) = segments.split_first().filter(|_| segments.len() <= 8) else {
            if segments.is_empty() {
                out.extend(&self.root.routes);
            }
            return out;
        };
        // What begins like an API is one, with a method or an end it may not have, and never an index of that name.
        match self.root.literal.get(first.as_str()) {
            Some(api) if first.starts_with('_') => walk(api, rest, &mut out),
            _ => walk(&self.root, segments, &mut out),
        }
        out
    }
}

fn router() -> &'static Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| Router::new(routes::all()))
}

/// Answers one request, whatever it is.
pub async fn handle(backend: &SharedBackend, request: Request) -> Rendered {
    let options = RenderOptions::of(&request);
    let opaque = request.header("x-opaque-id").map(str::to_owned);
    let trace = request.param("error_trace").is_some_and(|v| v != "false");
    let response = match dispatch(backend, request).await {
        Ok(response) => response,
        Err(mut error) => {
            if trace && error.status >= 400 {
                let text = format!("{error}");
                error.extra.insert("stack_trace".into(), text.into());
            }
            if error.kind.is_empty() {
                Response::json(error.status, json!({ "error": error.reason, "status": error.status }))
            } else {
                error.into()
            }
        }
    };
    let began = Instant::now();
    let mut rendered = render(response, &options);
    stats::record_since(Stage::Serialise, began);
    rendered.headers.push(("X-Elastic-Product".into(), "Elasticsearch".into()));
    if let Some(opaque) = opaque {
        rendered.headers.push(("X-Opaque-Id".into(), opaque.into()));
    }
    rendered
}

async fn dispatch(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let begun = Instant::now();
    request.segments.retain(|s| !s.is_empty());
    let router = router();
    let matching = router.matching(&request.segments);
    let serves = |at: &usize, method: Method| router.routes[*at].methods.contains(&method);
    let found = matching
        .iter()
        .find(|at| serves(at, request.method))
        .or_else(|| matching.iter().find(|at| request.method == Method::Head && serves(at, Method::Get)));
    let Some(&at) = found else {
        return Ok(no_handler(&request, &matching, router));
    };
    let route = &router.routes[at];
    check_content_type(&request)?;
    let uri_segments = route.path.split('/').filter(|s| !s.is_empty());
    let mut parts = Vec::new();
    for (pattern, segment) in uri_segments.zip(&request.segments) {
        if let Some(name) = pattern.strip_prefix('{') {
            parts.push((name.trim_end_matches('}').to_owned(), segment.clone()));
        }
    }
    // A type is any name, but what begins so was meant as the name of an API: it must not become a document.
    if let Some((_, kind)) = parts.iter().find(|(n, k)| n == "type" && k.starts_with('_') && k != "_doc" && k != "_all")
    {
        return Err(ApiError::new(
            400,
            "invalid_type_name_exception",
            format!("Document mapping type name can't start with '_', found: [{kind}]"),
        ));
    }
    check_params(&request, route)?;
    request.params.extend(parts);
    let empty = matches!(&request.body, Body::Full(b) if b.is_empty());
    if empty
        && route.body
        && let Some(source) = request.param("source")
    {
        request.body = Body::Full(Bytes::copy_from_slice(source.as_bytes()));
    } else if !empty && !route.body {
        return Err(ApiError::illegal_argument(format!(
            "request [{} {}] does not support having a body",
            method_name(request.method),
            path_of(&request)
        )));
    }
    stats::record_since(Stage::Route, begun);
    hot::handles(route.path);
    let opaque = request.header("x-opaque-id").map(str::to_owned);
    let task = backend.tasks().begin(route.action, begun, request.path.clone(), opaque);
    request.task = Some(Rc::clone(&task));
    let work = async {
        if !backend.has_master() {
            without_master(backend, route, &request).await?;
        }
        (route.handler)(backend, request).await
    };
    let mut response = task.run(work).await;
    if let Some(text) = route.deprecated {
        let header = warning(text);
        match &mut response {
            Ok(response) => response.headers.push(header),
            Err(error) => error.headers.push(header),
        }
    }
    response
}

/// What may not be done without a master waits for one, or is refused.
async fn without_master(backend: &SharedBackend, route: &Route, request: &Request) -> ApiResult<()> {
    if passed::is_passed_on(request) {
        return Ok(());
    }
    let changes = !matches!(request.method, Method::Get | Method::Head);
    if changes && route.params.contains(&routes::MASTER) {
        return passed::until_master(backend, passed::master_timeout(request)?).await;
    }
    // Writes wait where they are routed to.
    let action = route.action.name;
    let data = action.starts_with("indices:") && !action.starts_with("indices:data/write/");
    if data && NoMaster::of(&backend.state()) == NoMaster::All {
        return Err(NoMaster::error());
    }
    Ok(())
}

/// 405 with the methods that would do, or 400 when nothing matches.
fn no_handler(request: &Request, matching: &[usize], router: &Router) -> Response {
    let method = method_name(request.method);
    if matching.is_empty() {
        if request.method == Method::Options {
            return Response::empty(200);
        }
        let text = format!("no handler found for uri [{}] and method [{method}]", uri_of(request));
        return Response::json(400, json!({ "error": text }));
    }
    let mut allowed: Vec<&str> = Vec::new();
    for at in matching {
        for m in router.routes[*at].methods {
            let names: &[&str] = if *m == Method::Get { &["GET", "HEAD"] } else { &[method_name(*m)] };
            for name in names {
                if !allowed.contains(name) {
                    allowed.push(name);
                }
            }
        }
    }
    let mut response = if request.method == Method::Options {
        Response::text("")
    } else {
        let text = format!(
            "Incorrect HTTP method for uri [{}] and method [{method}], allowed: [{}]",
            uri_of(request),
            allowed.join(", ")
        );
        Response::json(405, json!({ "error": text, "status": 405 }))
    };
    response.headers.push(("Allow".into(), allowed.join(",")));
    response
}

fn check_content_type(request: &Request) -> ApiResult<()> {
    if matches!(&request.body, Body::Full(b) if b.is_empty()) {
        return Ok(());
    }
    let (given, text) = match request.header("content-type") {
        None | Some("") => (None, "Content-Type header is missing".to_owned()),
        Some(header) => (media_type(header), format!("Content-Type header [{header}] is not supported")),
    };
    match given {
        Some(MediaType::Json | MediaType::NdJson | MediaType::Yaml) => Ok(()),
        None => Err(bare_error(406, text)),
    }
}

/// An error whose body is `{"error": text, "status": status}`.
#[must_use]
pub fn bare_error(status: u16, text: String) -> ApiError {
    ApiError::new(status, "", text)
}

fn check_params(request: &Request, route: &Route) -> ApiResult<()> {
    let known = || {
        COMMON
            .iter()
            .copied()
            .chain(route.params.iter().flat_map(|group| group.split_ascii_whitespace()))
            .chain(route.path.split('/').filter_map(|s| s.strip_prefix('{')).map(|s| s.trim_end_matches('}')))
    };
    let mut unknown: Vec<&str> =
        request.params.iter().map(|(n, _)| n.as_str()).filter(|n| known().all(|k| k != *n)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort_unstable();
    unknown.dedup();
    let candidates: Vec<&str> = known().collect();
    Err(ApiError::illegal_argument(unrecognized(
        &format!("request [{}] contains unrecognized parameter", path_of(request)),
        &unknown,
        &candidates,
    )))
}

/// `...: [foo] -> did you mean [bar]?`, in Elasticsearch's words.
#[must_use]
pub fn unrecognized(start: &str, unknown: &[&str], candidates: &[&str]) -> String {
    let mut text = format!("{start}{}: ", if unknown.len() > 1 { "s" } else { "" });
    for (i, name) in unknown.iter().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("[{name}]"));
        match similar(name, candidates).as_slice() {
            [] => {}
            [one] => text.push_str(&format!(" -> did you mean [{one}]?")),
            many => text.push_str(&format!(" -> did you mean any of [{}]?", many.join(", "))),
        }
    }
    text
}

/// Candidates more than half alike, the most alike first.
#[must_use]
pub fn similar<'a>(name: &str, candidates: &[&'a str]) -> Vec<&'a str> {
    similar_above(0.5, name, candidates)
}

/// Candidates more alike than `least`, the most alike first.
#[must_use]
pub fn similar_above<'a>(least: f32, name: &str, candidates: &[&'a str]) -> Vec<&'a str> {
    let mut scored: Vec<(f32, &str)> =
        candidates.iter().map(|c| (likeness(name, c), *c)).filter(|(score, _)| *score > least).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup();
    scored.into_iter().map(|(_, c)| c).collect()
}

/// 1 - edits / length of the longer text.
fn likeness(a: &str, b: &str) -> f32 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(200).collect(), b.chars().take(200).collect());
    if a.is_empty() || b.is_empty() {
        return if a.len() == b.len() { 1.0 } else { 0.0 };
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    1.0 - row[b.len()] as f32 / a.len().max(b.len()) as f32
}

/// The name of a method.
#[must_use]
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
    }
}

fn path_of(request: &Request) -> &str {
    request.path.split('?').next().unwrap_or("")
}

fn uri_of(request: &Request) -> String {
    if request.path.contains('?') || request.params.is_empty() {
        return request.path.clone();
    }
    let query: Vec<String> =
        request.params.iter().map(|(n, v)| if v.is_empty() { n.clone() } else { format!("{n}={v}") }).collect();
    format!("{}?{}", request.path, query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_segments_win_over_parts() {
        let router = router();
        let first = |path: &str| {
            let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
            router.matching(&segments).first().map(|at| router.routes[*at].path)
        };
        assert_eq!(first("/_cluster/health"), Some("/_cluster/health"));
        assert_eq!(first("/_cluster/health/i"), Some("/_cluster/health/{index}"));
        assert_eq!(first("/_aliases"), Some("/_aliases"));
        assert_eq!(first("/i/_doc/1"), Some("/{index}/_doc/{id}"));
        assert_eq!(first("/i/t/1"), Some("/{index}/{type}/{id}"));
        assert_eq!(first("/"), Some("/"));
        assert_eq!(first("/a/b/c/d/e/f"), None);
    }

    #[test]
    fn name_of_an_api_is_never_an_index() {
        let router = router();
        let paths = |path: &str| -> Vec<&str> {
            let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
            router.matching(&segments).iter().map(|at| router.routes[*at].path).collect()
        };
        assert_eq!(paths("/_cluster/health"), ["/_cluster/health"]);
        assert_eq!(paths("/_bulk"), ["/_bulk"]);
        assert_eq!(paths("/_cluster/nothing"), [""; 0]);
        assert_eq!(paths("/_cluster/nothing/at/all"), [""; 0]);
        // One that is not an API is for the index to refuse, and `_all` is all of them.
        assert!(paths("/_nothing/_search").contains(&"/{index}/_search"));
        assert!(paths("/_all/_search").contains(&"/{index}/_search"));
        assert!(paths("/_all").contains(&"/{index}"));
        // `metrics` is an API and may be an index.
        assert!(paths("/metrics/_search").contains(&"/{index}/_search"));
        assert_eq!(paths("/metrics").len(), 4);
    }

    #[test]
    fn suggestions_are_the_similar_names() {
        assert_eq!(
            unrecognized("request [/x] contains unrecognized parameter", &["rutting"], &["routing", "refresh"]),
            "request [/x] contains unrecognized parameter: [rutting] -> did you mean [routing]?"
        );
        assert_eq!(
            unrecognized("request [/x] contains unrecognized parameter", &["a", "zzzz"], &["routing"]),
            "request [/x] contains unrecognized parameters: [a], [zzzz]"
        );
    }
}

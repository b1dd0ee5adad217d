//! Requests against a whole node: router, handlers, coordination, shards and the engine, over a simulated machine.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringdex::backend::{LocalFuture, NodeInfo, SharedBackend};
use ringdex::config::Config;
use ringdex::error::{ApiError, ApiResult};
use ringdex::io::{Lane, NodeIo};
use ringdex::mesh::Desk;
use ringdex::metastore::MetaStore;
use ringdex::node::{Core, Found, Shared, start_master};
use ringdex::rest::http::Rendered;
use ringdex::rest::request::{Body, BodyStream, Method, Request};
use ringdex::rest::{router, uri};
use ringdex::sim::SimWorld;

const REQUESTS_MAX: usize = 24;
/// What Elasticsearch 7.10 refuses with status 500.
const REFUSALS: [&[u8]; 2] =
    [b"\"type\":\"unsupported_operation_exception\"", b"\"type\":\"aggregation_execution_exception\""];

/// Requests, separated by zero bytes: a line `METHOD /path?query`, and the body after it. No answer may be an internal
/// error, and after all of them the node must still answer.
pub fn body(data: &[u8]) {
    let world = SimWorld::new(data.len() as u64);
    world.block_on(async {
        let core = start(&world).await.expect("an empty node starts");
        let node: SharedBackend = core.clone();
        for text in data.split(|&b| b == 0).take(REQUESTS_MAX) {
            let Some(request) = request(text) else { continue };
            let answer = router::handle(&node, request).await;
            check(&answer, text);
        }
        let after = router::handle(&node, request(b"GET /_cluster/health").expect("a request")).await;
        assert_eq!(after.status, 200);
        // Shards and core hold each other: closed, both can go.
        core.close().await;
    });
    world.drop_tasks();
}

fn check(answer: &Rendered, text: &[u8]) {
    let shown = || format!("{}\n-> {}", String::from_utf8_lossy(text), String::from_utf8_lossy(&answer.body));
    // A panic in a shard or a core comes out as 500, too.
    let refused = REFUSALS.iter().any(|refusal| answer.body.windows(refusal.len()).any(|w| w == *refusal));
    let fine = (200..500).contains(&answer.status) || matches!(answer.status, 501 | 503) || refused;
    assert!(fine, "{} {}", answer.status, shown());
    for (name, value) in &answer.headers {
        let clean = |s: &str| s.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f));
        assert!(clean(name) && clean(value), "header {name}: {value:?} {}", shown());
    }
    let json = answer.content_type.as_deref().is_some_and(|t| t.starts_with("application/json"));
    if json && !answer.body.is_empty() {
        assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok(), "not JSON: {}", shown());
    }
}

/// As the HTTP server would make it; none where that refuses the text itself.
fn request(text: &[u8]) -> Option<Request> {
    let line_end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
    let line = std::str::from_utf8(&text[..line_end]).ok()?;
    let body = text.get(line_end + 1..).unwrap_or_default();
    let (method, target) = line.split_once(' ')?;
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Patch,
    };
    if !target.starts_with('/') || target.bytes().any(|b| b.is_ascii_control()) {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Request {
        method,
        segments: path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(|s| uri::decode(s, false))
            .collect::<Result<_, _>>()
            .ok()?,
        path: path.to_owned(),
        params: uri::query_params(query).ok()?,
        headers: vec![("content-type", "application/json".to_owned())],
        body: if body.is_empty() {
            Body::Full(Bytes::new())
        } else {
            Body::Stream(Box::new(Pieces(Bytes::copy_from_slice(body))))
        },
        task: None,
    })
}

/// A body that arrives in pieces of 100 bytes.
struct Pieces(Bytes);

impl BodyStream for Pieces {
    fn next(&mut self) -> LocalFuture<'_, ApiResult<Option<Bytes>>> {
        let piece = self.0.split_to(self.0.len().min(100));
        Box::pin(async move { Ok::<_, ApiError>(Some(piece).filter(|p| !p.is_empty())) })
    }
}

/// A node of one core, without indices.
async fn start(world: &SimWorld) -> ApiResult<Rc<Core<SimWorld>>> {
    let (store, loaded) = MetaStore::open(world.disk(Path::new("/data"))).await?;
    let info =
        NodeInfo { name: "n".to_owned(), id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), cores: 1, ..NodeInfo::default() };
    let shared = Shared::new(info, Config { data: "/data".into(), ..Config::default() }, 1);
    let desk = || {
        let desk = Desk::new();
        world.spawn(Lane::Write, Box::pin(Rc::clone(&desk).serve()));
        desk
    };
    let core = Core::new(world.clone(), 0, Arc::clone(&shared), desk());
    let (mailbox, state, io) = (Arc::clone(&shared.cores[0]), Rc::clone(&core), world.clone());
    let serve = async move { mailbox.serve(state, 1000, |lane, task| io.spawn(lane, task)).await };
    world.spawn(Lane::Search, Box::pin(serve));
    let master =
        start_master(world.clone(), Arc::clone(&shared), desk(), store, loaded, Found::default(), None).await?;
    let (mailbox, io) = (Arc::clone(&shared.master), world.clone());
    let serve = async move { mailbox.serve(master, 1000, |lane, task| io.spawn(lane, task)).await };
    world.spawn(Lane::Write, Box::pin(serve));
    Ok(core)
}

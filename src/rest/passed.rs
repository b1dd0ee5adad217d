//! Requests that a node passes on to another: what only the elected master knows, and what every node says of itself.
//!
//! Only what `PassedOn::is_for` lists is answered, and what has been passed on is not passed on again, so that two nodes that
//! take each other for the master refuse instead of asking each other for ever.

use bytes::Bytes;
use ringdex_net::cluster::ids::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nodes::{KnownNode, known_nodes, means_node};
use super::params;
use super::request::{Body, Method, Request, Response};
use super::router;
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::error::{ApiError, ApiResult};

/// How long a node may take to speak of itself.
pub(super) const NODE_WAIT_MS: u64 = 5_000;
/// How long the master may take.
pub(super) const MASTER_WAIT_MS: u64 = 60_000;
/// Between two looks for a master.
const MASTER_LOOK_MS: u64 = 20;
/// Marks a request that was passed on. No client can send it: what comes by HTTP is in lower case.
const MARK: &str = "Passed-On";
/// Parameters that are for the node which answers the client.
const OF_THE_ANSWER: [&str; 6] = ["pretty", "filter_path", "format", "error_trace", "source", "source_content_type"];
/// What says that a request has not reached a node that leads.
const NO_LEADER: [&str; 3] = ["not_master_exception", "connect_transport_exception", "node_not_connected_exception"];

/// A request on its way to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOn {
    post: bool,
    segments: Vec<String>,
    params: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What the other node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// As in HTTP.
    pub status: u16,
    /// JSON, or text where that is what was asked for.
    pub body: Vec<u8>,
}

/// Whom a request may be passed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Anyone,
    TheMaster,
}

impl PassedOn {
    /// `GET /a/b/c`
    pub(super) fn get(path: &[&str], params: Vec<(String, String)>) -> PassedOn {
        let segments = path.iter().map(|part| (*part).to_owned()).collect();
        PassedOn { post: false, segments, params, body: Vec::new() }
    }

    /// `POST /a/b/c`
    pub(super) fn post(path: &[&str], params: Vec<(String, String)>) -> PassedOn {
        PassedOn { post: true, ..PassedOn::get(path, params) }
    }

    /// A request as it came. What stands in its path is left out of the parameters.
    pub(super) async fn of(request: &mut Request) -> ApiResult<PassedOn> {
        let mut params = request.params.clone();
        let in_path = |name: &str| ["index", "metric", "task_id"].contains(&name);
        params.retain(|(name, _)| !in_path(name) && !OF_THE_ANSWER.contains(&name.as_str()));
        Ok(PassedOn {
            post: request.method == Method::Post,
            segments: request.segments.clone(),
            params,
            body: request.body.collect().await?.to_vec(),
        })
    }

    /// Whom it may be for; none if it is not for passing on.
    fn is_for(&self) -> Option<For> {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match (self.post, segments.as_slice()) {
            (false, ["_nodes", "_local", ..] | ["_tasks"] | ["_tasks", _] | ["_latency"]) => Some(For::Anyone),
            (true, ["_nodes", "_local", "reload_secure_settings"] | ["_latency", "_reset"]) => Some(For::Anyone),
            (true, ["_tasks", "_cancel"] | ["_tasks", _, "_cancel"] | [_, _, "_rethrottle"]) => Some(For::Anyone),
            (_, ["_cluster", "allocation", "explain"]) | (true, ["_cluster", "reroute"]) => Some(For::TheMaster),
            (false, ["_cluster", "health", ..] | ["_cluster", "pending_tasks"]) => Some(For::TheMaster),
            (false, ["_shard_stores"] | [_, "_shard_stores"]) => Some(For::TheMaster),
            (false, ["_recovery"] | [_, "_recovery"]) => Some(For::TheMaster),
            _ => None,
        }
    }
}

impl Answered {
    /// The body, which is JSON.
    pub(super) fn json(&self) -> ApiResult<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|e| ApiError::new(500, "transport_serialization_exception", e.to_string()))
    }
}

/// Whether this node is the elected master.
fn leads(backend: &SharedBackend) -> bool {
    backend.has_master() && backend.state().master.is_some_and(|master| master.to_string() == backend.node().id)
}

/// Whether a request was passed on by another node.
pub(super) fn is_passed_on(request: &Request) -> bool {
    request.header(MARK).is_some()
}

/// Answers what another node has passed on.
pub async fn answer(backend: &SharedBackend, call: PassedOn) -> ApiResult<Answered> {
    let path = format!("/{}", call.segments.join("/"));
    match call.is_for() {
        Some(For::Anyone) => {}
        Some(For::TheMaster) if leads(backend) => {}
        Some(For::TheMaster) => {
            return Err(ApiError::new(503, "not_master_exception", "this node is not the master"));
        }
        None => return Err(ApiError::illegal_argument(format!("[{path}] is not passed on between nodes"))),
    }
    let json = ("content-type", "application/json".to_owned());
    let request = Request {
        method: if call.post { Method::Post } else { Method::Get },
        segments: call.segments,
        path,
        params: call.params,
        headers: vec![(MARK, String::new()), json],
        body: Body::Full(Bytes::from(call.body)),
        task: None,
    };
    let rendered = router::handle(backend, request).await;
    Ok(Answered { status: rendered.status, body: rendered.body.to_vec() })
}

/// The answer when nobody leads.
pub(crate) fn master_not_discovered() -> ApiError {
    ApiError::new(503, "master_not_discovered_exception", "")
}

/// Waits for a master.
pub(crate) async fn until_master(backend: &SharedBackend, wait_ms: i64) -> ApiResult<()> {
    let start = backend.monotonic_ns();
    while !backend.has_master() || backend.state().master.is_none() {
        if (backend.monotonic_ns() - start) / 1_000_000 >= wait_ms.max(0) as u64 {
            return Err(master_not_discovered());
        }
        backend.sleep_ms(MASTER_LOOK_MS).await;
    }
    Ok(())
}

/// `master_timeout`
pub(super) fn master_timeout(request: &Request) -> ApiResult<i64> {
    let given = match params::time(request, "master_timeout")? {
        None => params::time(request, "cluster_manager_timeout")?,
        given => given,
    };
    Ok(given.map_or(30_000, |ms| if ms < 0 { i64::MAX } else { ms }))
}

/// The answer of the elected master, if that is another node; none = this one is to answer. Waits `find_ms` for a master, and
/// `wait_ms` for its answer.
pub(super) async fn by_master(
    backend: &SharedBackend,
    request: &mut Request,
    find_ms: i64,
    wait_ms: u64,
) -> ApiResult<Option<Response>> {
    if is_passed_on(request) {
        return Ok(None);
    }
    let start = backend.monotonic_ns();
    let left = || find_ms.saturating_sub(((backend.monotonic_ns() - start) / 1_000_000) as i64);
    until_master(backend, find_ms).await?;
    if leads(backend) {
        return Ok(None);
    }
    let call = PassedOn::of(request).await?;
    loop {
        until_master(backend, left()).await?;
        if leads(backend) {
            request.body = Body::Full(Bytes::from(call.body));
            return Ok(None);
        }
        let Some(master) = backend.state().master else { continue };
        match backend.ask_node(master, call.clone(), wait_ms).await {
            Ok(answered) => return Ok(Some(Response::json(answered.status, answered.json()?))),
            Err(error) => {
                // What changes nothing may be asked twice.
                let lost = error.kind == "node_disconnected_exception" && !call.post;
                if !lost && !NO_LEADER.contains(&error.kind.as_str()) {
                    return Err(error);
                }
                if left() <= 0 {
                    return Err(master_not_discovered().because(error));
                }
                backend.sleep_ms(MASTER_LOOK_MS).await;
            }
        }
    }
}

/// Asks all other nodes that an expression means; of what was passed on, nobody.
pub(super) async fn ask_others(
    backend: &SharedBackend,
    request: &Request,
    expression: Option<&str>,
    call: &PassedOn,
    wait_ms: u64,
) -> Vec<(KnownNode, ApiResult<Answered>)> {
    if is_passed_on(request) {
        return Vec::new();
    }
    let mut asked: Vec<LocalFuture<'_, (KnownNode, ApiResult<Answered>)>> = Vec::new();
    for node in known_nodes(backend).into_iter().filter(|node| !node.local && means_node(node, expression)) {
        let Ok(id) = node.id.parse::<NodeId>() else { continue };
        let call = call.clone();
        asked.push(Box::pin(async move { (node, backend.ask_node(id, call, wait_ms).await) }));
    }
    join::all(asked).await
}

/// What other nodes say of themselves.
#[derive(Debug, Default)]
pub struct Others {
    /// By node id.
    pub nodes: Map<String, Value>,
    /// Those that said nothing.
    pub failures: Vec<Value>,
}

/// Why a node is not in an answer.
pub(super) fn failed_node(id: &str, cause: ApiError) -> Value {
    let failure = ApiError::new(500, "failed_node_exception", format!("Failed node [{id}]"));
    failure.with("node_id", id).because(cause).to_cause()
}

/// Asks all other nodes that an expression means `GET /_nodes/_local/{what}`; of what was passed on, nobody.
pub(super) async fn others(
    backend: &SharedBackend,
    request: &Request,
    expression: Option<&str>,
    what: &[&str],
) -> Others {
    let path: Vec<&str> = ["_nodes", "_local"].iter().chain(what).copied().collect();
    let mut params = request.params.clone();
    params.retain(|(name, _)| ["level", "human", "flat_settings"].contains(&name.as_str()));
    gather(backend, request, expression, &PassedOn::get(&path, params)).await
}

/// Asks all other nodes that an expression means for an answer with `nodes`, of which their own part is taken.
pub(super) async fn gather(
    backend: &SharedBackend,
    request: &Request,
    expression: Option<&str>,
    call: &PassedOn,
) -> Others {
    let mut out = Others::default();
    for (node, told) in ask_others(backend, request, expression, call, NODE_WAIT_MS).await {
        let own = told.and_then(|answered| match answered.json()?["nodes"].get_mut(&node.id) {
            Some(own) if answered.status == 200 => Ok(own.take()),
            _ => {
                let reason = format!("the node answered [{}]", answered.status);
                Err(ApiError::new(500, "illegal_state_exception", reason))
            }
        });
        match own {
            Ok(own) => drop(out.nodes.insert(node.id, own)),
            Err(cause) => out.failures.push(failed_node(&node.id, cause)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::testing::FakeNode;

    #[test]
    fn only_what_is_listed_is_passed_on() {
        let backend = FakeNode::new();
        let told = |post: bool, path: &str| {
            let segments = path.split('/').map(str::to_owned).collect();
            let call = PassedOn { post, segments, params: Vec::new(), body: Vec::new() };
            futures_lite::future::block_on(answer(&backend, call)).map(|answered| answered.status)
        };
        assert_eq!(told(false, "_nodes/_local/stats/fs").unwrap(), 200);
        assert_eq!(told(true, "_cluster/reroute").unwrap(), 200);
        for (post, path) in [
            (false, "_nodes/stats"),
            (true, "_nodes/_local"),
            (false, "_cluster/reroute"),
            (true, "_bulk"),
            (false, "i/_search"),
            (false, ""),
        ] {
            assert_eq!(told(post, path).unwrap_err().kind, "illegal_argument_exception", "{path}");
        }
        let unelected = FakeNode::unelected();
        let call =
            PassedOn { post: true, segments: vec!["_cluster".into(), "reroute".into()], params: vec![], body: vec![] };
        let refused = futures_lite::future::block_on(answer(&unelected, call));
        assert_eq!(refused.unwrap_err().kind, "not_master_exception");
    }
}

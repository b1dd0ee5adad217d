//! `_tasks`: what the nodes are doing, the results of what they did in the background, and how to stop it.
//!
//! Every node speaks of its own tasks. Whoever is asked asks the others; a task id says which node to ask.

use std::collections::BTreeMap;

use futures_lite::future::zip;
use ringdex_net::cluster::ids::NodeId;
use serde_json::{Map, Value, json};

use super::nodes::{KnownNode, known_nodes, this_node};
use super::params::{self, flag};
use super::passed::{Answered, NODE_WAIT_MS, PassedOn, ask_others, failed_node, is_passed_on};
use super::request::{Method, Request, Response};
use crate::backend::SharedBackend;
use crate::coordinate::write::{ClientKind, ClientOp, WriteOptions, write};
use crate::coordinate::{ids, routing};
use crate::error::{ApiError, ApiResult};
use crate::metadata::create::{CreateIndex, create, parse_body};
use crate::rest::indices::lifecycle::shard_id;
use crate::shard::message::{GetRequest, RefreshPolicy, ShardRequest, ShardResponse, VersionMatch};
use crate::tasks::{Ask, BY_USER, Filter, TaskInfo};

/// Where results of tasks are kept.
pub const RESULTS: &str = ".tasks";
/// How long a task is waited for, unless the request says.
const WAIT_MS: i64 = 30_000;
/// How often it is looked at then, at most.
const LOOK_MS: u64 = 50;

/// The task ids of a request: `node:number`.
fn parse_id(text: &str) -> ApiResult<(&str, u64)> {
    let malformed = || ApiError::illegal_argument(format!("malformed task id {text}"));
    let (node, number) = text.rsplit_once(':').ok_or_else(malformed)?;
    let number: i64 = number.parse().map_err(|_| malformed())?;
    // No task has a negative number.
    Ok((node, u64::try_from(number).unwrap_or(0)))
}

/// The number in a task id if it is of this node.
fn own_number(backend: &SharedBackend, text: &str) -> ApiResult<Option<u64>> {
    let (node, number) = parse_id(text)?;
    Ok((node == backend.node().id).then_some(number))
}

/// What the parameters `actions` and `parent_task_id` leave; none if they leave nothing on this node.
fn filter_of(backend: &SharedBackend, request: &Request) -> ApiResult<Option<Filter>> {
    let actions = params::list(request, "actions").unwrap_or_default();
    let mut filter = Filter { actions, ..Filter::default() };
    if let Some(parent) = request.param("parent_task_id").filter(|id| !id.is_empty() && *id != "unset") {
        let Some(number) = own_number(backend, parent)? else { return Ok(None) };
        filter.parent = Some(number);
    }
    Ok(this_node(backend, request.param("nodes")).map(|_| filter))
}

/// The node that a task id is of, if that is another one of the cluster.
fn other_node(backend: &SharedBackend, request: &Request, text: &str) -> ApiResult<Option<NodeId>> {
    let (node, _) = parse_id(text)?;
    let known = |node: &str| known_nodes(backend).into_iter().any(|known| !known.local && known.id == node);
    Ok(if is_passed_on(request) || !known(node) { None } else { node.parse().ok() })
}

/// What the node of a task answers.
async fn passed_on(backend: &SharedBackend, request: &mut Request, node: NodeId) -> ApiResult<Response> {
    let wait_ms = wait_until(backend, request)?.saturating_sub(backend.now_ms()).max(0) as u64 + NODE_WAIT_MS;
    let call = PassedOn::of(request).await?;
    let answered = backend.ask_node(node, call, wait_ms).await?;
    Ok(Response::json(answered.status, answered.json()?))
}

/// Tasks by node, as they are shown so, and what went wrong.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) nodes: Map<String, Value>,
    failures: Vec<Value>,
}

impl Listed {
    /// With those of this node.
    fn own(backend: &SharedBackend, tasks: &[TaskInfo], failures: Vec<Value>, detailed: bool) -> Listed {
        let mut nodes = Map::new();
        if let Some(known) = this_node(backend, None).filter(|_| !tasks.is_empty()) {
            let tasks: Map<String, Value> =
                tasks.iter().map(|task| (task.id(&known.id), task.to_json(&known.id, detailed))).collect();
            let shown = json!({
                "name": known.name, "transport_address": known.transport_address, "host": known.host,
                "ip": known.transport_address, "roles": known.roles, "tasks": tasks,
            });
            nodes.insert(known.id, shown);
        }
        Listed { nodes, failures }
    }

    /// Adds what others have answered.
    fn add(&mut self, others: Vec<(KnownNode, ApiResult<Answered>)>) {
        for (node, answered) in others {
            match answered.and_then(|answered| answered.json()) {
                Ok(mut told) => {
                    if let Some(nodes) = told["nodes"].as_object_mut() {
                        self.nodes.append(nodes);
                    }
                    if let Some(failures) = told["node_failures"].as_array_mut() {
                        self.failures.append(failures);
                    }
                }
                Err(cause) => self.failures.push(failed_node(&node.id, cause)),
            }
        }
    }

    /// All of them, with their ids.
    pub(super) fn tasks(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.nodes.values().filter_map(|node| node["tasks"].as_object()).flatten()
    }

    /// As `group_by` wants it.
    fn grouped(self, request: &Request) -> ApiResult<Response> {
        let mut out = Map::new();
        if !self.failures.is_empty() {
            out.insert("node_failures".into(), self.failures.clone().into());
        }
        match request.param("group_by").unwrap_or("nodes") {
            "nodes" => {
                out.insert("nodes".into(), self.nodes.into());
            }
            "parents" => {
                let all: BTreeMap<&String, &Value> = self.tasks().collect();
                let parent = |task: &Value| task["parent_task_id"].as_str().map(str::to_owned);
                // Parts have no parts.
                let roots = all.iter().filter(|(_, task)| !parent(task).is_some_and(|id| all.contains_key(&id)));
                let with_parts = |(id, task): (&&String, &&Value)| {
                    let mut root = Value::clone(task);
                    let own = |task: &&&Value| parent(task).as_ref() == Some(*id);
                    let parts: Vec<Value> = all.values().filter(own).map(|task| Value::clone(task)).collect();
                    if !parts.is_empty() {
                        root["children"] = parts.into();
                    }
                    (String::clone(id), root)
                };
                out.insert("tasks".into(), Value::Object(roots.map(with_parts).collect()));
            }
            "none" => {
                out.insert("tasks".into(), self.tasks().map(|(_, task)| task.clone()).collect());
            }
            other => {
                return Err(ApiError::illegal_argument(format!(
                    "[group_by] must be one of [nodes], [parents] or [none] but was [{other}]"
                )));
            }
        }
        Ok(Response::ok(Value::Object(out)))
    }
}

/// A request about many tasks, as other nodes are asked.
fn of_all(request: &Request, path: &[&str], detailed: bool) -> PassedOn {
    let names = ["actions", "parent_task_id", "wait_for_completion", "timeout"];
    let mut params: Vec<(String, String)> =
        request.params.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect();
    params.push(("detailed".into(), detailed.to_string()));
    match request.method {
        Method::Post => {
            params.retain(|(name, _)| name != "detailed");
            PassedOn::post(path, params)
        }
        _ => PassedOn::get(path, params),
    }
}

/// The tasks that a list is asked for, of all nodes that it is asked of.
pub(super) async fn listed(backend: &SharedBackend, request: &Request, detailed: bool) -> ApiResult<Listed> {
    let until_ms = match flag(request, "wait_for_completion", false)? {
        true => Some(wait_until(backend, request)?),
        false => None,
    };
    let wait_ms = until_ms.map_or(0, |until| until.saturating_sub(backend.now_ms()).max(0) as u64) + NODE_WAIT_MS;
    let call = of_all(request, &["_tasks"], detailed);
    let others = ask_others(backend, request, request.param("nodes"), &call, wait_ms);
    let own = async {
        let mut tasks = match filter_of(backend, request)? {
            Some(filter) => backend.ask_tasks(Ask::List(filter)).await?,
            None => Vec::new(),
        };
        let mut failures = Vec::new();
        if let Some(until_ms) = until_ms {
            let own = request.task.as_ref().map(|task| task.number());
            // Lists that wait do not wait for each other.
            let action = request.task.as_ref().map(|task| task.info().action);
            for task in tasks.iter_mut().filter(|t| Some(t.number) != own && Some(t.action) != action) {
                let (last, gone) = until_gone(backend, task.clone(), until_ms).await?;
                *task = last;
                if !gone {
                    failures.push(node_failure(backend, late(backend, task)));
                    break;
                }
            }
        }
        ApiResult::Ok(Listed::own(backend, &tasks, failures, detailed))
    };
    let (others, own) = zip(others, own).await;
    let mut listed = own?;
    listed.add(others);
    Ok(listed)
}

/// Until when a request waits.
fn wait_until(backend: &SharedBackend, request: &Request) -> ApiResult<i64> {
    Ok(backend.now_ms().saturating_add(params::time(request, "timeout")?.filter(|ms| *ms >= 0).unwrap_or(WAIT_MS)))
}

/// Waits until a task is gone; its last state, and whether it is gone.
async fn until_gone(backend: &SharedBackend, mut last: TaskInfo, until_ms: i64) -> ApiResult<(TaskInfo, bool)> {
    let mut pause = 1;
    loop {
        let filter = Filter { number: Some(last.number), ..Filter::default() };
        match backend.ask_tasks(Ask::List(filter)).await?.pop() {
            None => return Ok((last, true)),
            Some(now) => last = now,
        }
        if backend.now_ms() >= until_ms {
            return Ok((last, false));
        }
        backend.sleep_ms(pause).await;
        pause = (pause * 2).min(LOOK_MS);
    }
}

fn late(backend: &SharedBackend, task: &TaskInfo) -> ApiError {
    let reason = format!("Timed out waiting for completion of [{}]", task.id(&backend.node().id));
    ApiError::new(500, "timeout_exception", reason)
}

fn node_failure(backend: &SharedBackend, cause: ApiError) -> Value {
    failed_node(&backend.node().id, cause)
}

/// `GET /_tasks`
pub async fn list(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let detailed = flag(&request, "detailed", false)?;
    listed(backend, &request, detailed).await?.grouped(&request)
}

/// `GET /_tasks/{task_id}`
pub async fn get(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let id = &request.param("task_id").unwrap_or("").to_owned();
    let (node, _) = parse_id(id)?;
    let mut running = None;
    if let Some(other) = other_node(backend, &request, id)? {
        match passed_on(backend, &mut request, other).await {
            Ok(answer) => return Ok(answer),
            // What it has done may be known all the same.
            Err(error) => {
                return match stored(backend, id).await? {
                    Some(stored) => Ok(Response::ok(stored)),
                    None => Err(error),
                };
            }
        }
    }
    if let Some(number) = own_number(backend, id)? {
        let filter = Filter { number: Some(number), ..Filter::default() };
        running = backend.ask_tasks(Ask::List(filter)).await?.pop();
    }
    let mut completed = false;
    if let Some(task) = &mut running
        && flag(&request, "wait_for_completion", false)?
    {
        let (last, gone) = until_gone(backend, task.clone(), wait_until(backend, &request)?).await?;
        *task = last;
        if !gone {
            return Err(late(backend, task));
        }
        completed = true;
    }
    if (completed || running.is_none())
        && let Some(stored) = stored(backend, id).await?
    {
        return Ok(Response::ok(stored));
    }
    match running {
        Some(task) => {
            Ok(Response::ok(json!({ "completed": completed, "task": task.to_json(&backend.node().id, true) })))
        }
        None if node == backend.node().id => {
            Err(missing(format!("task [{id}] isn't running and hasn't stored its results")))
        }
        None => Err(missing(format!(
            "task [{id}] belongs to the node [{node}] which isn't part of the cluster and there is no record of the task"
        ))),
    }
}

fn missing(reason: String) -> ApiError {
    ApiError::new(404, "resource_not_found_exception", reason)
}

/// `POST /_tasks[/{task_id}]/_cancel`
pub async fn cancel(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let mut failures = Vec::new();
    let mut tasks = Vec::new();
    let mut others = Vec::new();
    let waits = flag(&request, "wait_for_completion", false)?;
    let until_ms = wait_until(backend, &request)?;
    match &request.param("task_id").map(str::to_owned) {
        None => {
            let wait_ms =
                NODE_WAIT_MS + if waits { until_ms.saturating_sub(backend.now_ms()).max(0) as u64 } else { 0 };
            let call = of_all(&request, &["_tasks", "_cancel"], false);
            others = ask_others(backend, &request, request.param("nodes"), &call, wait_ms).await;
            if let Some(filter) = filter_of(backend, &request)? {
                tasks = backend.ask_tasks(Ask::Cancel(filter, BY_USER.to_owned())).await?;
            }
        }
        Some(id) => {
            if let Some(other) = other_node(backend, &request, id)? {
                return passed_on(backend, &mut request, other).await;
            }
            let Some(number) = own_number(backend, id)? else {
                return Err(missing(format!("task [{id}] is not found")));
            };
            let filter = Filter { number: Some(number), ..Filter::default() };
            tasks = backend.ask_tasks(Ask::Cancel(filter.clone(), BY_USER.to_owned())).await?;
            if tasks.is_empty() {
                let cause = match backend.ask_tasks(Ask::List(filter)).await?.is_empty() {
                    true => missing(format!("task [{id}] is not found")),
                    false => ApiError::illegal_argument(format!("task [{id}] doesn't support cancellation")),
                };
                failures.push(node_failure(backend, cause));
            }
        }
    }
    if waits {
        for task in &tasks {
            until_gone(backend, task.clone(), until_ms).await?;
        }
    }
    let mut listed = Listed::own(backend, &tasks, failures, false);
    listed.add(others);
    listed.grouped(&request)
}

/// Changes documents a second of a by-query operation.
pub(super) async fn rethrottle(backend: &SharedBackend, request: &mut Request, rate: f32) -> ApiResult<Response> {
    let id = &request.param("task_id").unwrap_or("").to_owned();
    if let Some(other) = other_node(backend, request, id)? {
        return passed_on(backend, request, other).await;
    }
    let Some(number) = own_number(backend, id)? else {
        return Err(missing(format!("task [{id}] is missing")));
    };
    let tasks = backend.ask_tasks(Ask::Rethrottle(number, rate)).await?;
    let mut failures = Vec::new();
    if tasks.is_empty() {
        let filter = Filter { number: Some(number), ..Filter::default() };
        let cause = match backend.ask_tasks(Ask::List(filter)).await?.is_empty() {
            true => missing(format!("task [{id}] is missing")),
            false => missing(format!("task [{id}] doesn't support this operation")),
        };
        failures.push(node_failure(backend, cause));
    }
    Listed::own(backend, &tasks, failures, true).grouped(request)
}

/// What a task left in the index.
async fn stored(backend: &SharedBackend, id: &str) -> ApiResult<Option<Value>> {
    let state = backend.state();
    let Some(index) = state.indices.get(RESULTS).filter(|index| index.open) else { return Ok(None) };
    let get = GetRequest {
        id: id.to_owned(),
        routing: None,
        realtime: true,
        refresh: false,
        version: VersionMatch::Any,
        source: Default::default(),
        stored_fields: Vec::new(),
    };
    let shard = shard_id(index, routing::shard_of(index, id, None));
    let ShardResponse::Get(mut results) = backend.shard(&shard, ShardRequest::Get(vec![get])).await? else {
        return Err(ApiError::new(500, "illegal_state_exception", "a get was answered by something else"));
    };
    let Some(found) = results.pop() else { return Ok(None) };
    found?.source.map(|source| params::parse_json(&source)).transpose()
}

/// Keeps what became of a task: `{"completed":true,"task":...,"response":...}`, or `error`.
pub(super) async fn store(backend: &SharedBackend, task: &TaskInfo, outcome: &ApiResult<Value>) -> ApiResult<()> {
    let node = &backend.node().id;
    create_results(backend).await?;
    let mut document = json!({ "completed": true, "task": task.to_json(node, true) });
    match outcome {
        Ok(response) => document["response"] = response.clone(),
        Err(error) => document["error"] = error.to_cause(),
    }
    let op = ClientOp {
        index: RESULTS.to_owned(),
        id: Some(task.id(node)),
        routing: None,
        condition: VersionMatch::Any,
        kind: ClientKind::Index { source: document.to_string().into(), create: false },
        require_alias: false,
        pipeline: None,
    };
    let options = WriteOptions { refresh: RefreshPolicy::None, timeout_ms: 60_000, ..WriteOptions::default() };
    write(backend, vec![op], &options).await.into_iter().try_for_each(|written| written.result.map(drop))
}

async fn create_results(backend: &SharedBackend) -> ApiResult<()> {
    if backend.state().indices.contains_key(RESULTS) {
        return Ok(());
    }
    let opaque = || json!({ "type": "object", "enabled": false });
    let body = json!({
        "settings": { "index": {
            "number_of_shards": 1, "number_of_replicas": 0, "auto_expand_replicas": "0-1", "priority": i32::MAX,
        } },
        "mappings": { "dynamic": "strict", "_meta": { "version": super::http::VERSION }, "properties": {
            "completed": { "type": "boolean" },
            "task": { "properties": {
                "action": { "type": "keyword" },
                "cancellable": { "type": "boolean" },
                "cancelled": { "type": "boolean" },
                "id": { "type": "long" },
                "parent_task_id": { "type": "keyword" },
                "node": { "type": "keyword" },
                "running_time_in_nanos": { "type": "long" },
                "start_time_in_millis": { "type": "long" },
                "type": { "type": "keyword" },
                "status": opaque(),
                "description": { "type": "text" },
                "headers": opaque(),
            } },
            "response": opaque(),
            "error": opaque(),
        } },
    });
    let (settings, mapping, aliases) = parse_body(&body, false)?;
    let request = CreateIndex {
        name: RESULTS.to_owned(),
        settings,
        mapping,
        aliases,
        uuid: ids::uuid(backend.as_ref()),
        now_ms: backend.now_ms(),
        without_templates: true,
        ..CreateIndex::default()
    };
    let update = Box::new(move |state: &ringdex_net::cluster::state::ClusterState| {
        if state.indices.contains_key(RESULTS) {
            return Ok(None);
        }
        create(state, &request).map(|(next, _)| Some(next))
    });
    backend.update_state(&format!("create-index [{RESULTS}]"), update).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::testing::{FakeNode, call, call_raw};

    #[test]
    fn lists_show_who_asked_and_keep_to_what_is_asked_for() {
        let node = FakeNode::new();
        let own = &node.node().id;
        let rendered = call_raw(&node, "GET /_tasks?detailed&group_by=none", "", &[("x-opaque-id", "me")]);
        let list: Value = serde_json::from_slice(&rendered.body).expect("JSON");
        let [task] = &list["tasks"].as_array().expect("tasks")[..] else { panic!("{list}") };
        assert_eq!(task["action"], "cluster:monitor/tasks/lists");
        assert_eq!(task["headers"], json!({ "X-Opaque-Id": "me" }));
        assert_eq!(
            (&task["type"], &task["cancellable"], &task["node"]),
            (&json!("transport"), &json!(true), &json!(own))
        );
        for (path, count) in [
            ("/_tasks?actions=*search", 0),
            ("/_tasks?actions=cluster:*,*search", 1),
            ("/_tasks?nodes=other", 0),
            (&format!("/_tasks?parent_task_id={own}:1"), 0),
            ("/_tasks?parent_task_id=other:1", 0),
            ("/_tasks?wait_for_completion&timeout=1s", 1),
        ] {
            let (status, list) = call(&node, &format!("GET {path}"), "");
            assert_eq!(status, 200, "{list}");
            let tasks = list["nodes"][own]["tasks"].as_object().map_or(0, Map::len);
            assert_eq!(tasks, count, "{path}: {list}");
        }
        assert_eq!(call(&node, "GET /_tasks?group_by=parents", "").1["tasks"].as_object().map(Map::len), Some(1));
        assert_eq!(call(&node, "GET /_tasks?group_by=x", "").0, 400);
        // The table is the same list, and nothing stays in it.
        let table = String::from_utf8(call_raw(&node, "GET /_cat/tasks", "", &[]).body.to_vec()).expect("text");
        assert_eq!(table.lines().count(), 1, "{table}");
    }

    /// A node that has another one beside it, and the id of that one.
    fn beside_another() -> (SharedBackend, String) {
        use crate::rest::testing::member;
        use ringdex_net::cluster::state::ClusterState;
        let node = FakeNode::new();
        let other = NodeId(2);
        let join = move |state: &ClusterState| {
            let mut next = state.clone();
            next.nodes.insert(other, member(other).into());
            Ok(Some(next))
        };
        futures_lite::future::block_on(node.update_state("test", Box::new(join))).expect("a state");
        (node, other.to_string())
    }

    #[test]
    fn every_node_tells_its_tasks_and_is_asked_for_those_it_has() {
        let (node, other) = beside_another();
        let own = node.node().id.clone();
        for (path, nodes) in [
            ("/_tasks", vec![&own, &other]),
            ("/_tasks?nodes=n2", vec![&other]),
            ("/_tasks?nodes=_local&detailed", vec![&own]),
            ("/_tasks?wait_for_completion&timeout=1s", vec![&own, &other]),
            ("/_tasks?actions=*search", vec![]),
        ] {
            let (_, list) = call(&node, &format!("GET {path}"), "");
            assert_eq!(list["nodes"].as_object().expect("nodes").keys().collect::<Vec<_>>(), nodes, "{path}");
            assert_eq!(list["node_failures"], Value::Null);
        }
        let (_, list) = call(&node, "GET /_tasks?group_by=none&detailed", "");
        let nodes: Vec<&Value> = list["tasks"].as_array().expect("tasks").iter().map(|task| &task["node"]).collect();
        assert_eq!(nodes, [&json!(own), &json!(other)]);
        assert_eq!(call(&node, "GET /_tasks?group_by=parents", "").1["tasks"].as_object().map(Map::len), Some(2));
        let (_, rows) = call(&node, "GET /_cat/tasks?format=json&h=node,action", "");
        let row = |name: &str| json!({ "node": name, "action": "cluster:monitor/tasks/lists" });
        assert_eq!(rows, json!([row("n1"), row("n2")]));
        // What the other node says of a task of its own.
        let (status, error) = call(&node, &format!("GET /_tasks/{other}:77"), "");
        assert_eq!(status, 404);
        let reason = format!("task [{other}:77] isn't running and hasn't stored its results");
        assert_eq!(error["error"]["reason"], reason);
        let (_, answer) = call(&node, &format!("POST /_tasks/{other}:77/_cancel"), "");
        assert_eq!(answer["node_failures"][0]["node_id"], other);
        let (_, answer) = call(&node, &format!("POST /_reindex/{other}:77/_rethrottle?requests_per_second=2"), "");
        assert_eq!(answer["node_failures"][0]["node_id"], other);
        let (status, error) = call(&node, "GET /_tasks/nobody:77", "");
        let reason = error["error"]["reason"].as_str().expect("a reason");
        assert!(status == 404 && reason.contains("which isn't part of the cluster"), "{reason}");
        assert_eq!(call(&node, "POST /_tasks/_cancel?actions=*search", ""), (200, json!({ "nodes": {} })));
    }

    #[test]
    fn figures_of_nodes_are_of_all_that_are_named() {
        let (node, other) = beside_another();
        let own = node.node().id.clone();
        let (_, told) = call(&node, "GET /_latency", "");
        assert_eq!(told["nodes"].as_object().expect("nodes").keys().collect::<Vec<_>>(), [&other, &own]);
        assert_eq!(told["nodes"][&other]["name"], "n2");
        let (_, told) = call(&node, "GET /_latency?nodes=n2&interval=me&hdr=true", "");
        assert_eq!(told["_nodes"], json!({ "total": 1, "successful": 1, "failed": 0 }));
        assert_eq!(call(&node, "POST /_latency/_reset", "").1["_nodes"]["total"], 2);
        let (_, told) = call(&node, "POST /_nodes/reload_secure_settings", "");
        assert_eq!(told["nodes"], json!({ &other: { "name": "n2" }, &own: { "name": "n1" } }));
        assert_eq!(call(&node, "POST /_nodes/n2/reload_secure_settings", "").1["_nodes"]["total"], 1);
        let text = |path: &str| String::from_utf8(call_raw(&node, path, "", &[]).body.to_vec()).expect("text");
        let (all, one) = (text("GET /_nodes/hot_threads"), text("GET /_nodes/n2/hot_threads?threads=1"));
        assert!(all.contains("::: {n1}") && all.contains("::: {n2}"), "{all}");
        assert!(!one.contains("::: {n1}") && one.contains("::: {n2}"), "{one}");
        let (_, rows) = call(&node, "GET /_cat/thread_pool/write?format=json&h=node_name,name,pid", "");
        let pid = std::process::id().to_string();
        let row = |name: &str| json!({ "node_name": name, "name": "write", "pid": pid });
        assert_eq!(rows, json!([row("n1"), row("n2")]));
        let (_, rows) = call(&node, "GET /_cat/nodes?format=json&h=name,pid", "");
        assert_eq!(rows[1], json!({ "name": "n2", "pid": pid }));
    }

    #[test]
    fn what_is_not_running_cannot_be_asked_cancelled_or_slowed() {
        let node = FakeNode::new();
        let own = &node.node().id;
        let (status, error) = call(&node, &format!("GET /_tasks/{own}:77"), "");
        assert_eq!((status, &error["error"]["type"]), (404, &json!("resource_not_found_exception")));
        let reason = format!("task [{own}:77] isn't running and hasn't stored its results");
        assert_eq!(error["error"]["reason"], reason);
        assert_eq!(call(&node, &format!("GET /_tasks/{own}"), "").0, 400);
        for (path, reason) in [
            (format!("/_tasks/{own}:77/_cancel"), "is not found"),
            (format!("/_reindex/{own}:77/_rethrottle?requests_per_second=2"), "is missing"),
        ] {
            let (status, answer) = call(&node, &format!("POST {path}"), "");
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["node_failures"][0]["caused_by"]["reason"], format!("task [{own}:77] {reason}"));
        }
        assert_eq!(call(&node, &format!("POST /_reindex/{own}:77/_rethrottle"), "").0, 400);
        assert_eq!(call(&node, "POST /_tasks/_cancel?actions=*search", ""), (200, json!({ "nodes": {} })));
    }

    #[test]
    fn results_of_background_tasks_are_kept_good_and_bad() {
        let node = FakeNode::new();
        for id in 0..5 {
            call(&node, &format!("PUT /i/_doc/{id}"), "{\"a\": 1}");
        }
        let began =
            call(&node, "POST /i/_delete_by_query?wait_for_completion=false", "{\"query\": {\"match_all\": {}}}");
        let (200, Value::Object(answer)) = began else { panic!("{began:?}") };
        assert_eq!(answer.len(), 1);
        let (status, task) = call(&node, &format!("GET /_tasks/{}", answer["task"].as_str().expect("an id")), "");
        assert_eq!((status, &task["completed"]), (200, &json!(true)), "{task}");
        assert_eq!(task["task"]["action"], "indices:data/write/delete/byquery");
        assert_eq!(task["task"]["description"], "delete-by-query [i]");
        for of in [&task["response"], &task["task"]["status"]] {
            assert_eq!((&of["total"], &of["deleted"], &of["batches"]), (&json!(5), &json!(5), &json!(1)), "{of}");
        }
        assert_eq!(task["response"]["failures"], json!([]));
        // An error, too: a source that is also the destination is found before, one of documents without source only on the way.
        let (status, _) = call(
            &node,
            "POST /_reindex?wait_for_completion=false",
            "{\"source\": {\"index\": \"i\"}, \"dest\": {\"index\": \"i\"}}",
        );
        assert_eq!(status, 400);
        assert_eq!(call(&node, "GET /.tasks", "").1[".tasks"]["mappings"]["dynamic"], "strict");
    }
}

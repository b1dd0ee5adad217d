//! `_tasks`: what this node is doing, the results of what it did in the background, and how to stop it.

use serde_json::{Map, Value, json};

use super::nodes::{ROLES, means_this_node};
use super::params::{self, flag};
use super::request::{Request, Response};
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
    Ok(means_this_node(backend, request.param("nodes")).then_some(filter))
}

/// The tasks that a list is asked for.
pub(super) async fn wanted(backend: &SharedBackend, request: &Request) -> ApiResult<Vec<TaskInfo>> {
    match filter_of(backend, request)? {
        Some(filter) => backend.ask_tasks(Ask::List(filter)).await,
        None => Ok(Vec::new()),
    }
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
    let node = &backend.node().id;
    let failure = ApiError::new(500, "failed_node_exception", format!("Failed node [{node}]"));
    failure.with("node_id", node.as_str()).because(cause).to_cause()
}

/// Tasks as `group_by` wants them.
fn grouped(
    backend: &SharedBackend,
    request: &Request,
    tasks: &[TaskInfo],
    failures: Vec<Value>,
    detailed: bool,
) -> ApiResult<Response> {
    let node = backend.node();
    let mut out = Map::new();
    if !failures.is_empty() {
        out.insert("node_failures".into(), failures.into());
    }
    let shown = |task: &TaskInfo| task.to_json(&node.id, detailed);
    match request.param("group_by").unwrap_or("nodes") {
        "nodes" => {
            let by_id: Map<String, Value> = tasks.iter().map(|t| (t.id(&node.id), shown(t))).collect();
            let nodes = if by_id.is_empty() {
                json!({})
            } else {
                json!({ node.id.clone(): {
                    "name": node.name, "transport_address": node.transport_address, "host": node.host,
                    "ip": node.transport_address, "roles": ROLES, "tasks": by_id,
                } })
            };
            out.insert("nodes".into(), nodes);
        }
        "parents" => {
            let is_listed = |number: u64| tasks.iter().any(|t| t.number == number);
            // Parts have no parts.
            let roots = tasks.iter().filter(|t| !t.parent.is_some_and(is_listed));
            let with_parts = |task: &TaskInfo| {
                let mut root = shown(task);
                let parts: Vec<Value> = tasks.iter().filter(|t| t.parent == Some(task.number)).map(shown).collect();
                if !parts.is_empty() {
                    root["children"] = parts.into();
                }
                (task.id(&node.id), root)
            };
            out.insert("tasks".into(), Value::Object(roots.map(with_parts).collect()));
        }
        "none" => {
            out.insert("tasks".into(), tasks.iter().map(shown).collect());
        }
        other => {
            return Err(ApiError::illegal_argument(format!(
                "[group_by] must be one of [nodes], [parents] or [none] but was [{other}]"
            )));
        }
    }
    Ok(Response::ok(Value::Object(out)))
}

/// `GET /_tasks`
pub async fn list(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let detailed = flag(&request, "detailed", false)?;
    let mut tasks = wanted(backend, &request).await?;
    let mut failures = Vec::new();
    if flag(&request, "wait_for_completion", false)? {
        let until_ms = wait_until(backend, &request)?;
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
    grouped(backend, &request, &tasks, failures, detailed)
}

/// `GET /_tasks/{task_id}`
pub async fn get(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let id = request.param("task_id").unwrap_or("");
    let (node, _) = parse_id(id)?;
    let mut running = None;
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
pub async fn cancel(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut failures = Vec::new();
    let mut tasks = Vec::new();
    match request.param("task_id") {
        None => {
            if let Some(filter) = filter_of(backend, &request)? {
                tasks = backend.ask_tasks(Ask::Cancel(filter, BY_USER.to_owned())).await?;
            }
        }
        Some(id) => {
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
    if flag(&request, "wait_for_completion", false)? {
        let until_ms = wait_until(backend, &request)?;
        for task in &tasks {
            until_gone(backend, task.clone(), until_ms).await?;
        }
    }
    grouped(backend, &request, &tasks, failures, false)
}

/// Changes documents a second of a by-query operation.
pub(super) async fn rethrottle(backend: &SharedBackend, request: &Request, rate: f32) -> ApiResult<Response> {
    let id = request.param("task_id").unwrap_or("");
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
    grouped(backend, request, &tasks, failures, true)
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
        let rendered = call_raw(&node, "GET /_tasks?detailed&group_by=none", "", &[("x-opaque-id", "me")]);
        let list: Value = serde_json::from_slice(&rendered.body).expect("JSON");
        let [own] = &list["tasks"].as_array().expect("tasks")[..] else { panic!("{list}") };
        assert_eq!(own["action"], "cluster:monitor/tasks/lists");
        assert_eq!(own["headers"], json!({ "X-Opaque-Id": "me" }));
        assert_eq!(
            (&own["type"], &own["cancellable"], &own["node"]),
            (&json!("transport"), &json!(true), &json!("nodeid"))
        );
        for (path, count) in [
            ("/_tasks?actions=*search", 0),
            ("/_tasks?actions=cluster:*,*search", 1),
            ("/_tasks?nodes=other", 0),
            ("/_tasks?parent_task_id=nodeid:1", 0),
            ("/_tasks?parent_task_id=other:1", 0),
            ("/_tasks?wait_for_completion&timeout=1s", 1),
        ] {
            let (status, list) = call(&node, &format!("GET {path}"), "");
            assert_eq!(status, 200, "{list}");
            let tasks = list["nodes"]["nodeid"]["tasks"].as_object().map_or(0, Map::len);
            assert_eq!(tasks, count, "{path}: {list}");
        }
        assert_eq!(call(&node, "GET /_tasks?group_by=parents", "").1["tasks"].as_object().map(Map::len), Some(1));
        assert_eq!(call(&node, "GET /_tasks?group_by=x", "").0, 400);
        // The table is the same list, and nothing stays in it.
        let table = String::from_utf8(call_raw(&node, "GET /_cat/tasks", "", &[]).body.to_vec()).expect("text");
        assert_eq!(table.lines().count(), 1, "{table}");
    }

    #[test]
    fn what_is_not_running_cannot_be_asked_cancelled_or_slowed() {
        let node = FakeNode::new();
        let (status, error) = call(&node, "GET /_tasks/nodeid:77", "");
        assert_eq!((status, &error["error"]["type"]), (404, &json!("resource_not_found_exception")));
        assert_eq!(error["error"]["reason"], "task [nodeid:77] isn't running and hasn't stored its results");
        assert_eq!(call(&node, "GET /_tasks/nodeid", "").0, 400);
        for (path, reason) in [
            ("/_tasks/nodeid:77/_cancel", "task [nodeid:77] is not found"),
            ("/_reindex/nodeid:77/_rethrottle?requests_per_second=2", "task [nodeid:77] is missing"),
        ] {
            let (status, answer) = call(&node, &format!("POST {path}"), "");
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["node_failures"][0]["caused_by"]["reason"], reason);
        }
        assert_eq!(call(&node, "POST /_reindex/nodeid:77/_rethrottle", "").0, 400);
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

//! What a node is doing: listed, waited for, slowed down, cancelled, and remembered over a restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Client, Server, fresh_directory};
use crate::slow;

const DOCS: u64 = 240;

fn fill(client: &Client, index: &str) {
    let settings = json!({"settings": {"number_of_shards": 3, "number_of_replicas": 0, "refresh_interval": "-1"}});
    assert_eq!(client.ask("PUT", &format!("/{index}"), Some(&settings)).0, 200);
    let lines: String = (0..DOCS).map(|n| format!("{{\"index\":{{\"_id\":\"{n}\"}}}}\n{{\"n\":{n}}}\n")).collect();
    let (status, answer) =
        client.try_ask("POST", &format!("/{index}/_bulk?refresh=true"), Some(&lines)).expect("an answer");
    assert_eq!((status, &answer["errors"]), (200, &json!(false)));
}

fn task(client: &Client, id: &str, params: &str) -> Value {
    let (status, task) = client.ask("GET", &format!("/_tasks/{id}?{params}"), None);
    assert_eq!(status, 200, "{task}");
    task
}

/// Starts an operation in the background; its task.
fn begin(client: &Client, path: &str) -> String {
    let (status, begun) = client.ask("POST", path, Some(&json!({"query": {"match_all": {}}})));
    assert_eq!(status, 200, "{begun}");
    begun["task"].as_str().unwrap_or_else(|| panic!("no task in {begun}")).to_owned()
}

/// The state of a running task once it is as wanted.
fn once(client: &Client, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let task = task(client, id, "");
        if wanted(&task["task"]["status"]) {
            return task;
        }
        assert!(Instant::now() < until, "it never came to that: {task}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn slices_go_over_every_document_once_and_are_summed() {
    let server = Server::start_with(&fresh_directory("slices"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    fill(&client, "s");
    for (slices, count) in [("auto", 3), ("5", 5), ("2", 2)] {
        let path = format!("/s/_update_by_query?refresh=true&scroll_size=7&slices={slices}");
        let (status, answer) = client.ask("POST", &path, None);
        assert_eq!(status, 200, "{answer}");
        let parts = answer["slices"].as_array().expect("slices");
        assert_eq!(parts.len(), count);
        for key in ["total", "updated", "batches"] {
            let sum: u64 = parts.iter().map(|part| part[key].as_u64().expect("a number")).sum();
            assert_eq!(answer[key], sum, "{key}: {answer}");
        }
        assert_eq!((&answer["updated"], &answer["version_conflicts"]), (&json!(DOCS), &json!(0)));
        assert!(parts.iter().zip(0..).all(|(part, id)| part["slice_id"] == id), "{answer}");
    }
    // Three rounds: every document was written three more times.
    let (_, found) = client.ask("POST", "/s/_search", Some(&json!({"version": true, "size": DOCS})));
    let hits = found["hits"]["hits"].as_array().expect("hits");
    assert!(hits.len() as u64 == DOCS && hits.iter().all(|hit| hit["_version"] == 4), "{found}");
    // A share of the limit for each slice, and one slice by hand.
    let (_, some) = client.ask("POST", "/s/_update_by_query?slices=3&max_docs=30&refresh=true", None);
    assert_eq!(some["updated"], 30, "{some}");
    let parts: Vec<u64> = (0..4)
        .map(|id| {
            let body = json!({"query": {"match_all": {}}, "slice": {"id": id, "max": 4}});
            let (status, answer) = client.ask("POST", "/s/_delete_by_query?refresh=true", Some(&body));
            assert_eq!(status, 200, "{answer}");
            answer["deleted"].as_u64().expect("a number")
        })
        .collect();
    assert!(parts.iter().sum::<u64>() == DOCS && parts.iter().all(|part| *part > 0), "{parts:?}");
}

#[test]
fn background_work_is_watched_slowed_cancelled_and_remembered() {
    let mut server = Server::start_with(&fresh_directory("tasks"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    fill(&client, "b");
    // So slow that the second batch comes next year.
    let slow = begin(
        &client,
        "/b/_update_by_query?wait_for_completion=false&refresh=true&scroll_size=20&requests_per_second=0.000001",
    );
    let seen = once(&client, &slow, |status| status["updated"] == 20 && status["throttled_until_millis"] != 0);
    assert_eq!(seen["completed"], false);
    assert_eq!((&seen["task"]["status"]["total"], &seen["task"]["status"]["batches"]), (&json!(DOCS), &json!(1)));
    assert_eq!(seen["task"]["description"], "update-by-query [b]");
    let (_, list) = client.ask("GET", "/_tasks?actions=*byquery&detailed", None);
    let nodes = list["nodes"].as_object().expect("nodes");
    assert!(nodes.values().all(|node| node["tasks"].get(&slow).is_some()) && nodes.len() == 1, "{list}");
    // It is waited for no longer than was said.
    let (status, late) = client.ask("GET", &format!("/_tasks/{slow}?wait_for_completion&timeout=20ms"), None);
    assert_eq!((status, &late["error"]["type"]), (500, &json!("timeout_exception")));
    let (status, answer) =
        client.ask("POST", &format!("/_update_by_query/{slow}/_rethrottle?requests_per_second=-1"), None);
    assert_eq!(status, 200, "{answer}");
    let done = task(&client, &slow, "wait_for_completion");
    assert_eq!((&done["completed"], &done["response"]["updated"]), (&json!(true), &json!(DOCS)), "{done}");
    assert!(done["response"]["throttled_millis"].as_u64() > Some(0), "{done}");
    // Slices are parts of their task; cancelling it cancels them, and what they have done counts.
    let sliced = begin(
        &client,
        "/b/_delete_by_query?wait_for_completion=false&scroll_size=10&requests_per_second=0.000003&slices=3&conflicts=proceed",
    );
    once(&client, &sliced, |status| status["batches"] == 3);
    let (_, parents) = client.ask("GET", "/_tasks?actions=*byquery&group_by=parents", None);
    let parts = parents["tasks"][&sliced]["children"].as_array().unwrap_or_else(|| panic!("no parts in {parents}"));
    assert!(parts.len() == 3 && parts.iter().all(|part| part["parent_task_id"] == *sliced), "{parents}");
    let (_, answer) = client.ask("POST", &format!("/_tasks/{sliced}/_cancel"), None);
    assert!(answer["nodes"].as_object().is_some_and(|nodes| nodes.len() == 1), "{answer}");
    let cancelled = task(&client, &sliced, "wait_for_completion");
    let response = &cancelled["response"];
    assert_eq!((&response["canceled"], &response["deleted"]), (&json!("by user request"), &json!(30)), "{cancelled}");
    assert!(
        response["slices"].as_array().is_some_and(|slices| slices.iter().all(|s| s["deleted"] == 10)),
        "{response}"
    );
    // Nothing is left running, and what was kept outlives the process.
    let (_, list) = client.ask("GET", "/_tasks?actions=*byquery", None);
    assert_eq!(list, json!({"nodes": {}}));
    server.kill();
    server.restart();
    assert_eq!(task(&client, &slow, ""), done);
    assert_eq!(task(&client, &sliced, "wait_for_completion"), cancelled);
}

#[test]
fn a_cancelled_search_stops_and_says_so() {
    let server = Server::start_with(&fresh_directory("cancel"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    slow::fill(&client);
    let asking = client.clone();
    let search = std::thread::spawn(move || asking.ask("POST", "/slow/_search", Some(&slow::query())));
    let until = Instant::now() + Duration::from_secs(15);
    let id = loop {
        let (_, list) = client.ask("GET", "/_tasks?actions=indices:data/read/search&group_by=none&detailed", None);
        if let Some(task) = list["tasks"].get(0) {
            assert!(task["description"].as_str().is_some_and(|d| d.starts_with("indices[slow], types[], ")), "{task}");
            assert_eq!(task["cancellable"], true);
            break format!("{}:{}", task["node"].as_str().expect("a node"), task["id"]);
        }
        assert!(Instant::now() < until && !search.is_finished(), "the search was never seen");
    };
    let (status, answer) = client.ask("POST", "/_tasks/_cancel?actions=*data/read/search", None);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.to_string().contains(&id), "{id} is not in {answer}");
    let (status, error) = search.join().expect("an answer");
    assert_eq!((status, &error["error"]["type"]), (400, &json!("task_cancelled_exception")), "{error}");
    assert_eq!(error["error"]["reason"], "cancelled task with reason: by user request");
    let (_, list) = client.ask("GET", "/_tasks?actions=indices:data/read/search", None);
    assert_eq!(list, json!({"nodes": {}}));
}

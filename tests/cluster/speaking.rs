//! What is asked of one node about others: tasks, queues, recoveries.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::nodes::{Cluster, PATIENCE};

fn rate(cluster: &Cluster, value: &str) {
    let body = json!({ "transient": { "indices.recovery.max_bytes_per_sec": value } });
    assert_eq!(cluster.nodes[0].ask("PUT", "/_cluster/settings", Some(&body)).0, 200);
}

/// Some megabytes that nothing makes smaller.
fn fill(cluster: &Cluster) {
    let mapping = json!({
        "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
        "mappings": { "properties": { "noise": { "type": "object", "enabled": false } } },
    });
    assert_eq!(cluster.nodes[0].ask("PUT", "/big", Some(&mapping)).0, 200);
    let mut seed = 1u64;
    for id in 0..160 {
        let mut noise = String::new();
        while noise.len() < 32 << 10 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.push_str(&format!("{:x}", seed >> 8));
        }
        let body = json!({ "noise": { "is": noise } });
        assert_eq!(cluster.nodes[id % 3].ask("PUT", &format!("/big/_doc/{id}"), Some(&body)).0, 201);
    }
    assert_eq!(cluster.nodes[0].ask("POST", "/big/_flush", None).0, 200);
}

#[test]
fn a_recovery_is_held_back_shown_and_let_go() {
    let cluster = Cluster::formed("recovery-rate", 3);
    fill(&cluster);
    rate(&cluster, "200kb");
    let body = json!({ "number_of_replicas": 1 });
    assert_eq!(cluster.nodes[1].ask("PUT", "/big/_settings", Some(&body)).0, 200);
    let number = |of: &Value, path: &str| of.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    // Every node shows it.
    for node in &cluster.nodes {
        let one = cluster.wait("files to come", PATIENCE, || {
            let (_, recovery) = node.ask("GET", "/big/_recovery?active_only=true", None);
            let one = recovery["big"]["shards"][0].clone();
            let some = one["stage"] == "INDEX" && number(&one, "/index/size/recovered_in_bytes") > 0;
            some.then_some(one)
        });
        let (came, total) =
            (number(&one, "/index/size/recovered_in_bytes"), number(&one, "/index/size/total_in_bytes"));
        assert!(came < total && total > 1 << 20, "{one}");
        assert_eq!((&one["type"], &one["primary"]), (&json!("PEER"), &json!(false)));
        assert_ne!(one["source"]["name"], one["target"]["name"]);
        let (_, health) = node.ask("GET", "/_cluster/health", None);
        assert_eq!((&health["status"], &health["initializing_shards"]), (&json!("yellow"), &json!(1)));
    }
    let (_, rows) = cluster.nodes[2].ask("GET", "/_cat/recovery?active_only=true&format=json", None);
    assert_eq!((&rows[0]["stage"], rows.as_array().map(Vec::len)), (&json!("index"), Some(1)), "{rows}");
    rate(&cluster, "-1");
    let query = "/_cluster/health?wait_for_status=green&wait_for_no_initializing_shards=true&timeout=30s";
    let began = Instant::now();
    assert_eq!(cluster.nodes[2].ask("GET", query, None).0, 200);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(cluster.nodes[1].ask("GET", "/_recovery?active_only=true", None).1, json!({}));
    let (_, done) = cluster.nodes[1].ask("GET", "/big/_recovery", None);
    let copies = done["big"]["shards"].as_array().expect("copies");
    let peer = copies.iter().find(|copy| copy["type"] == "PEER").expect("a copy of a copy");
    assert_eq!((&peer["stage"], &peer["index"]["files"]["percent"]), (&json!("DONE"), &json!("100.0%")));
    assert!(number(peer, "/index/target_throttle_time_in_millis") > 0, "{peer}");
}

#[test]
fn any_node_tells_of_all_and_cancels_the_tasks_of_others() {
    let cluster = Cluster::formed("speaking", 3);
    let master = cluster.wait_joined();
    cluster.create(0, "docs", 0);
    for id in 0..40 {
        assert_eq!(cluster.nodes[0].ask("PUT", &format!("/docs/_doc/{id}"), Some(&json!({ "n": id }))).0, 201);
    }
    let (a, b) = ((master + 1) % 3, (master + 2) % 3);
    let slow = "/docs/_update_by_query?wait_for_completion=false&requests_per_second=1&scroll_size=2&conflicts=proceed";
    assert_eq!(cluster.nodes[0].ask("POST", "/docs/_refresh", None).0, 200);
    let (_, begun) = cluster.nodes[a].ask("POST", slow, None);
    let id = begun["task"].as_str().expect("a task").to_owned();
    // Seen, slowed and stopped from another node.
    let (status, task) = cluster.nodes[b].ask("GET", &format!("/_tasks/{id}"), None);
    assert_eq!((status, &task["completed"]), (200, &json!(false)), "{task}");
    let (_, list) = cluster.nodes[b].ask("GET", "/_tasks?actions=*byquery&group_by=none", None);
    assert_eq!(list["tasks"].as_array().map(Vec::len), Some(1), "{list}");
    let (_, slowed) =
        cluster.nodes[b].ask("POST", &format!("/_update_by_query/{id}/_rethrottle?requests_per_second=2"), None);
    assert_eq!(slowed["nodes"].as_object().map(serde_json::Map::len), Some(1), "{slowed}");
    let (_, gone) = cluster.nodes[b].ask("POST", &format!("/_tasks/{id}/_cancel?wait_for_completion=true"), None);
    assert_eq!(gone["node_failures"], Value::Null, "{gone}");
    cluster.wait("the result", PATIENCE, || {
        let (status, task) = cluster.nodes[b].ask("GET", &format!("/_tasks/{id}"), None);
        (status == 200 && task["completed"] == true && task["response"]["canceled"] == "by user request").then_some(())
    });
    let (_, rows) = cluster.nodes[b].ask("GET", "/_cat/nodes?format=json&h=name,pid", None);
    let pids: std::collections::BTreeSet<&str> =
        rows.as_array().expect("rows").iter().map(|row| row["pid"].as_str().expect("a pid")).collect();
    assert_eq!(pids.len(), 3, "{rows}");
    let (_, told) = cluster.nodes[b].ask("GET", "/_latency", None);
    assert_eq!(told["_nodes"]["successful"], 3, "{told}");
    for node in &cluster.nodes {
        assert_eq!(node.ask("GET", "/_cluster/pending_tasks", None), (200, json!({ "tasks": [] })));
        let (status, health) = node.ask("GET", "/_cluster/health?wait_for_events=languid&wait_for_nodes=ge(3)", None);
        assert_eq!((status, &health["number_of_pending_tasks"]), (200, &json!(0)));
        assert_eq!(node.ask("GET", "/_cluster/health?wait_for_nodes=4&timeout=50ms", None).0, 408);
    }
}

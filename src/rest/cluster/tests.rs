//! What is shown of a cluster.

use ringdex_net::cluster::allocation::node_joined;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::{ClusterState, Role};
use serde_json::{Value, json};

use crate::backend::{PendingUpdate, Priority, SharedBackend};
use crate::rest::testing::{FakeNode, OWN, call, call_raw, copies_started, member};

const OTHER: NodeId = NodeId(2);

fn change(backend: &SharedBackend, update: impl Fn(&ClusterState) -> ClusterState + Send + 'static) {
    let update = move |state: &ClusterState| Ok(Some(update(state)));
    futures_lite::future::block_on(backend.update_state("test", Box::new(update))).unwrap();
}

/// An index with two shards of two copies on one node.
fn lone() -> SharedBackend {
    let backend = FakeNode::new();
    let settings = r#"{"settings":{"number_of_shards":2,"number_of_replicas":1}}"#;
    assert_eq!(call(&backend, "PUT /i", settings).0, 200);
    backend
}

fn join_other(backend: &SharedBackend) {
    change(backend, |state| node_joined(state, member(OTHER)));
}

/// The same when another node has joined, and leads; the copies there recover until [`others_start`].
fn pair() -> SharedBackend {
    let backend = lone();
    join_other(&backend);
    change(&backend, |state| ClusterState { master: Some(OTHER), ..state.clone() });
    backend
}

fn others_start(backend: &SharedBackend) {
    change(backend, |state| copies_started(state, |node| node != OWN));
}

fn health(backend: &SharedBackend, query: &str) -> (u16, Value) {
    call(backend, &format!("GET /_cluster/health?{query}"), "")
}

#[test]
fn health_counts_what_the_routing_has() {
    let backend = pair();
    let (_, before) = health(&backend, "");
    assert_eq!(before["status"], "yellow");
    let counts = ["number_of_nodes", "active_shards", "initializing_shards", "unassigned_shards"];
    assert_eq!(counts.map(|name| &before[name]), [2, 2, 2, 0]);
    others_start(&backend);
    let (status, after) =
        health(&backend, "wait_for_status=green&wait_for_nodes=2&wait_for_active_shards=4&level=shards");
    assert_eq!((status, &after["timed_out"]), (200, &json!(false)));
    assert_eq!((&after["active_shards"], &after["active_primary_shards"]), (&json!(4), &json!(2)));
    assert_eq!(after["indices"]["i"]["shards"]["1"]["active_shards"], 2);
    let (status, timed_out) = health(&backend, "wait_for_nodes=3&timeout=1ms");
    assert_eq!((status, &timed_out["timed_out"]), (408, &json!(true)));
}

#[test]
fn the_state_shows_nodes_routing_and_in_sync_copies() {
    let backend = pair();
    others_start(&backend);
    let (_, state) = call(&backend, "GET /_cluster/state", "");
    let (one, two) = (OWN.to_string(), OTHER.to_string());
    assert_eq!(state["master_node"], two);
    assert_eq!(state["nodes"][&one]["name"], "n1");
    let copies = state["routing_table"]["indices"]["i"]["shards"]["0"].as_array().unwrap();
    assert_eq!(copies.len(), 2);
    assert!(copies.iter().all(|copy| copy["state"] == "STARTED"));
    let mut in_sync: Vec<&Value> = copies.iter().map(|copy| &copy["allocation_id"]["id"]).collect();
    in_sync.sort_by_key(|id| id.as_str().map(str::to_owned));
    let mut known = state["metadata"]["indices"]["i"]["in_sync_allocations"]["0"].as_array().unwrap().clone();
    known.sort_by_key(|id| id.as_str().map(str::to_owned));
    assert_eq!(json!(in_sync), json!(known));
    assert_eq!(state["routing_nodes"]["nodes"][&one].as_array().unwrap().len(), 2);
    let (_, rows) = call(&backend, "GET /_cat/shards?format=json&h=shard,prirep,state,node", "");
    let mut nodes: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["n1", "n1", "n2", "n2"]);
    let (_, rows) = call(&backend, "GET /_cat/nodes?format=json&h=name,master,node.role", "");
    assert_eq!(
        rows,
        json!([{ "name": "n1", "master": "-", "node.role": "dimr" }, { "name": "n2", "master": "*", "node.role": "dimr" }])
    );
    let (_, rows) = call(&backend, "GET /_cat/master?format=json&h=node", "");
    assert_eq!(rows, json!([{ "node": "n2" }]));
    let (_, rows) = call(&backend, "GET /_cat/allocation?format=json&h=shards,node", "");
    assert_eq!(rows, json!([{ "shards": "2", "node": "n1" }, { "shards": "2", "node": "n2" }]));
    let (_, nodes) = call(&backend, "GET /_nodes/_master", "");
    assert_eq!((&nodes["_nodes"]["total"], &nodes["nodes"][&two]["name"]), (&json!(1), &json!("n2")));
}

#[test]
fn a_copy_without_a_place_is_explained_and_a_copy_is_moved() {
    let backend = lone();
    let (status, found) = call(&backend, "GET /_cluster/allocation/explain", "");
    assert_eq!((status, &found["current_state"], &found["can_allocate"]), (200, &json!("unassigned"), &json!("no")));
    assert_eq!(found["node_allocation_decisions"][0]["deciders"][0]["decider"], "same_shard");
    assert_eq!(call(&backend, "PUT /i/_settings", r#"{"number_of_replicas":0}"#).0, 200);
    let by_hand = r#"{"persistent":{"cluster.routing.rebalance.enable":"none"}}"#;
    assert_eq!(call(&backend, "PUT /_cluster/settings", by_hand).0, 200);
    join_other(&backend);
    let (status, error) = call(&backend, "GET /_cluster/allocation/explain", "");
    assert_eq!((status, &error["error"]["type"]), (400, &json!("illegal_argument_exception")));
    let (_, found) = call(&backend, "GET /_cluster/allocation/explain", r#"{"index":"i","shard":0,"primary":true}"#);
    assert_eq!((&found["can_remain_on_current_node"], &found["current_node"]["name"]), (&json!("yes"), &json!("n1")));
    let command = r#"{"commands":[{"move":{"index":"i","shard":0,"from_node":"n1","to_node":"n2"}}]}"#;
    let (_, dry) = call(&backend, "POST /_cluster/reroute?dry_run=true&explain=true", command);
    assert_eq!(dry["state"]["routing_table"]["indices"]["i"]["shards"]["0"][0]["state"], "RELOCATING");
    assert_eq!(dry["explanations"][0]["command"], "move");
    assert_eq!(health(&backend, "").1["relocating_shards"], 0);
    let (status, _) = call(&backend, "POST /_cluster/reroute", command);
    assert_eq!(status, 200);
    assert_eq!(health(&backend, "wait_for_no_relocating_shards=true&timeout=1ms").0, 408);
    let wrong = r#"{"commands":[{"cancel":{"index":"i","shard":1,"node":"n2"}}]}"#;
    let (status, error) = call(&backend, "POST /_cluster/reroute", wrong);
    assert_eq!(status, 400);
    let reason = error["error"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("[cancel_allocation] can't cancel 1, failed to find it on node {n2}"), "{reason}");
}

#[test]
fn a_lone_node_is_a_cluster_of_one() {
    let backend = lone();
    let own = &backend.node().id;
    let (status, found) = health(&backend, "wait_for_nodes=1&wait_for_status=yellow&level=shards");
    assert_eq!((status, &found["status"]), (200, &json!("yellow")));
    let counts = ["number_of_nodes", "number_of_data_nodes", "active_primary_shards", "unassigned_shards"];
    assert_eq!(counts.map(|name| &found[name]), [1, 1, 2, 2]);
    assert_eq!(found["indices"]["i"]["shards"]["1"]["primary_active"], true);
    let in_sync = || {
        let (_, state) = call(&backend, "GET /_cluster/state", "");
        assert_eq!(state["master_node"], json!(own));
        assert_eq!(state["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), [own]);
        assert_eq!(state["routing_nodes"]["nodes"][own].as_array().unwrap().len(), 2);
        let copies = &state["routing_table"]["indices"]["i"]["shards"]["0"];
        assert_eq!((&copies[0]["state"], &copies[0]["node"]), (&json!("STARTED"), &json!(own)));
        assert_eq!((&copies[1]["state"], &copies[1]["node"]), (&json!("UNASSIGNED"), &Value::Null));
        let known = state["metadata"]["indices"]["i"]["in_sync_allocations"]["0"].clone();
        assert_eq!(known, json!([copies[0]["allocation_id"]["id"]]));
        known
    };
    let before = in_sync();
    let (_, rows) = call(&backend, "GET /_cat/shards?format=json&h=prirep,state,node,ur", "");
    let primary = json!({ "prirep": "p", "state": "STARTED", "node": "n1", "ur": null });
    let replica = json!({ "prirep": "r", "state": "UNASSIGNED", "node": null, "ur": "INDEX_CREATED" });
    assert_eq!(rows, json!([primary, replica, primary, replica]));
    let (_, rows) = call(&backend, "GET /_cat/allocation?format=json&h=shards,node", "");
    assert_eq!(rows, json!([{ "shards": "2", "node": "n1" }, { "shards": "2", "node": "UNASSIGNED" }]));
    let (_, rows) = call(&backend, "GET /_cat/recovery?format=json&h=index,shard,stage,target_node", "");
    assert_eq!(rows[1], json!({ "index": "i", "shard": "1", "stage": "done", "target_node": "n1" }));
    // The copies of a closed index are found again.
    assert_eq!(call(&backend, "POST /i/_close", "").0, 200);
    assert_eq!(health(&backend, "").1["active_primary_shards"], 2);
    assert_eq!(call(&backend, "POST /i/_open", "").0, 200);
    assert_eq!(in_sync(), before);
}

#[test]
fn before_an_election_there_is_nobody() {
    let backend = FakeNode::unelected();
    let (_, state) = call(&backend, "GET /_cluster/state", "");
    assert_eq!((&state["master_node"], &state["nodes"]), (&Value::Null, &json!({})));
    assert_eq!(state["routing_nodes"], json!({ "unassigned": [], "nodes": {} }));
    let nobody = json!({ "type": "master_not_discovered_exception", "reason": null });
    for line in ["GET /_cluster/health?timeout=1ms", "GET /_cluster/pending_tasks", "PUT /i?master_timeout=1s"] {
        let (status, error) = call(&backend, line, "");
        assert_eq!((status, &error["error"]["root_cause"][0]), (503, &nobody), "{line}");
    }
    let (_, found) = health(&backend, "local=true&timeout=1ms");
    assert_eq!((&found["number_of_nodes"], &found["number_of_data_nodes"]), (&json!(0), &json!(0)));
    for path in ["nodes", "master", "shards", "allocation", "recovery"] {
        assert_eq!(call(&backend, &format!("GET /_cat/{path}?format=json"), ""), (200, json!([])), "{path}");
    }
    assert_eq!(call(&backend, "GET /_nodes", "").1["nodes"], json!({}));
    assert_eq!(call(&backend, "GET /_cluster/allocation/explain", "").0, 503);
    assert_eq!(call_raw(&backend, "POST /_cluster/reroute?dry_run", "", &[]).status, 503);
}

/// Without a master, with such a block.
fn headless(block: &str) -> SharedBackend {
    let backend = lone();
    call(&backend, "PUT /i/_doc/1", "{}");
    let body = json!({ "persistent": { "cluster.no_master_block": block } }).to_string();
    assert_eq!(call(&backend, "PUT /_cluster/settings", &body).0, 200);
    change(&backend, |state| ClusterState { master: None, ..state.clone() });
    backend
}

#[test]
fn without_a_master_reads_go_on_and_metadata_waits_unless_everything_is_blocked() {
    for block in ["write", "metadata_write"] {
        let backend = headless(block);
        assert_eq!(call(&backend, "GET /i/_doc/1", "").0, 200);
        assert_eq!(call(&backend, "GET /i/_search", "").1["hits"]["total"]["value"], 1);
        assert_eq!(call(&backend, "GET /i/_mapping", "").0, 200);
    }
    let backend = headless("all");
    for line in ["GET /i/_doc/1", "POST /i/_search", "GET /i/_mapping", "POST /i/_refresh"] {
        let (status, error) = call(&backend, line, "");
        let error = (&error["error"]["type"], &error["error"]["reason"]);
        let blocked = json!("blocked by: [SERVICE_UNAVAILABLE/2/no master];");
        assert_eq!((status, error), (503, (&json!("cluster_block_exception"), &blocked)), "{line}");
    }
    let (_, state) = call(&backend, "GET /_cluster/state/blocks,master_node", "");
    assert_eq!(state["master_node"], Value::Null);
    let block = &state["blocks"]["global"]["2"];
    assert_eq!((&block["description"], block["levels"].as_array().map(Vec::len)), (&json!("no master"), Some(4)));
    for line in ["PUT /new?master_timeout=1s", "DELETE /i?master_timeout=1s", "PUT /i/_settings?master_timeout=1s"] {
        let start = backend.now_ms();
        let (status, error) = call(&backend, line, "");
        assert_eq!((status, &error["error"]["type"]), (503, &json!("master_not_discovered_exception")), "{line}");
        assert!((1000..1100).contains(&(backend.now_ms() - start)), "{line}");
    }
    // An index that a write would make.
    let start = backend.now_ms();
    let (status, error) = call(&backend, "PUT /new/_doc/1?timeout=2s", "{}");
    assert_eq!((status, &error["error"]["type"]), (503, &json!("master_not_discovered_exception")));
    assert!((2000..2100).contains(&(backend.now_ms() - start)));
    let wrong = r#"{"transient":{"cluster.no_master_block":"some"}}"#;
    let (status, error) = call(&lone(), "PUT /_cluster/settings", wrong);
    assert_eq!((status, &error["error"]["type"]), (400, &json!("illegal_argument_exception")));
}

#[test]
fn the_queue_of_the_master_is_shown_counted_and_waited_for() {
    let update = |number, priority, source: &str, executing| PendingUpdate {
        number,
        priority,
        source: source.into(),
        executing,
        waited_ms: 0,
    };
    let busy = || {
        FakeNode::busy(vec![
            (1000, update(101, Priority::Urgent, "create-index [a]", true)),
            (2000, update(102, Priority::High, "put-mapping", false)),
        ])
    };
    let backend = busy();
    futures_lite::future::block_on(backend.sleep_ms(86));
    let (_, pending) = call(&backend, "GET /_cluster/pending_tasks", "");
    let first = json!({
        "insert_order": 101, "priority": "URGENT", "source": "create-index [a]", "executing": true,
        "time_in_queue_millis": 86, "time_in_queue": "86ms",
    });
    assert_eq!((&pending["tasks"][0], pending["tasks"].as_array().map(Vec::len)), (&first, Some(2)));
    let (_, rows) = call(&backend, "GET /_cat/pending_tasks?format=json", "");
    assert_eq!(
        rows[1],
        json!({ "insertOrder": "102", "timeInQueue": "86ms", "priority": "HIGH", "source": "put-mapping" })
    );
    let (_, rows) = call(&backend, "GET /_cat/health?format=json&h=pending_tasks,max_task_wait_time", "");
    assert_eq!(rows, json!([{ "pending_tasks": "2", "max_task_wait_time": "86ms" }]));
    // What is less urgent is not waited for.
    for (query, status, took_ms, left) in [
        ("", 200, 0, 2),
        ("wait_for_events=immediate", 200, 0, 2),
        ("wait_for_events=urgent", 200, 1000, 1),
        ("wait_for_events=languid", 200, 2000, 0),
        ("wait_for_events=LANGUID&timeout=1500ms", 408, 1500, 1),
    ] {
        let backend = busy();
        let start = backend.now_ms();
        let (got, found) = health(&backend, query);
        assert_eq!((got, &found["timed_out"]), (status, &json!(status == 408)), "{query}");
        assert_eq!(backend.now_ms() - start, took_ms, "{query}");
        let longest = if left > 0 { took_ms } else { 0 };
        assert_eq!(
            (&found["number_of_pending_tasks"], &found["task_max_waiting_in_queue_millis"]),
            (&json!(left), &json!(longest)),
            "{query}"
        );
    }
    assert_eq!(health(&busy(), "wait_for_events=soon").0, 400);
}

#[test]
fn nodes_are_waited_for_in_every_notation() {
    let backend = pair();
    for (text, met) in [
        ("2", true),
        ("3", false),
        (">=2", true),
        (">=3", false),
        ("<=2", true),
        ("<=1", false),
        (">1", true),
        (">2", false),
        ("<3", true),
        ("<2", false),
        ("ge(2)", true),
        ("ge(3)", false),
        ("le(1)", false),
        ("gt(1)", true),
        ("lt(2)", false),
    ] {
        let (status, found) = health(&backend, &format!("wait_for_nodes={text}&timeout=1ms"));
        assert_eq!((status, &found["timed_out"]), (if met { 200 } else { 408 }, &json!(!met)), "{text}");
    }
    assert_eq!(health(&backend, "wait_for_nodes=many").0, 400);
    assert_eq!(health(&backend, "wait_for_no_initializing_shards=true&timeout=1ms").0, 408);
    assert_eq!(health(&backend, "wait_for_active_shards=all&timeout=1ms").0, 408);
    assert_eq!(health(&backend, "wait_for_active_shards=2&timeout=1ms").0, 200);
    others_start(&backend);
    let all = "wait_for_no_initializing_shards=true&wait_for_active_shards=all&wait_for_no_relocating_shards=true";
    assert_eq!(health(&backend, all).0, 200);
}

/// `prirep` and node of every copy that is listed.
fn copies_of(index: &Value) -> Vec<(bool, String)> {
    let groups = index["shards"].as_object().unwrap().values().flat_map(|group| group.as_array().unwrap());
    let mut copies: Vec<(bool, String)> = groups
        .map(|copy| (copy["routing"]["primary"] == true, copy["routing"]["node"].as_str().unwrap().to_owned()))
        .collect();
    copies.sort();
    copies
}

#[test]
fn statistics_are_of_every_copy() {
    let backend = pair();
    call(&backend, "PUT /i/_doc/1", "{}");
    let header = |path: &str| call(&backend, path, "").1["_shards"].clone();
    assert_eq!(header("GET /i/_stats"), json!({ "total": 4, "successful": 2, "failed": 0 }));
    others_start(&backend);
    let (_, stats) = call(&backend, "GET /i/_stats?level=shards", "");
    assert_eq!(stats["_shards"], json!({ "total": 4, "successful": 4, "failed": 0 }));
    assert_eq!(
        (&stats["_all"]["primaries"]["docs"]["count"], &stats["_all"]["total"]["docs"]["count"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(stats["indices"]["i"]["total"]["docs"]["count"], 2);
    let (one, two) = (OWN.to_string(), OTHER.to_string());
    let expected = [(false, two.clone()), (false, two.clone()), (true, one.clone()), (true, one.clone())];
    assert_eq!(copies_of(&stats["indices"]["i"]), expected);
    assert_eq!(
        stats["indices"]["i"]["shards"]["0"][1]["routing"],
        json!({ "state": "STARTED", "primary": false, "node": two, "relocating_node": null })
    );
    let (_, segments) = call(&backend, "GET /i/_segments", "");
    assert_eq!(segments["_shards"], json!({ "total": 4, "successful": 4, "failed": 0 }));
    assert_eq!(copies_of(&segments["indices"]["i"]), expected);
    for work in ["_refresh", "_flush", "_forcemerge", "_cache/clear"] {
        assert_eq!(header(&format!("POST /i/{work}")), json!({ "total": 4, "successful": 4, "failed": 0 }), "{work}");
    }
    let (_, rows) = call(&backend, "GET /_cat/indices?format=json&h=docs.count,pri.get.total,health", "");
    assert_eq!(rows, json!([{ "docs.count": "1", "pri.get.total": "0", "health": "green" }]));
    let (_, nodes) = call(&backend, "GET /_nodes/_local/stats/indices", "");
    assert_eq!(nodes["nodes"][&one]["indices"]["docs"]["count"], 1);
}

#[test]
fn a_copy_that_does_not_answer_is_a_failure() {
    let backend = pair();
    others_start(&backend);
    change(&backend, |state| {
        let mut next = state.clone();
        let mut silent = member(OTHER);
        silent.transport_address.clear();
        next.nodes.insert(OTHER, silent.into());
        next
    });
    for line in ["GET /i/_stats", "GET /i/_segments", "POST /i/_flush"] {
        let (_, answer) = call(&backend, line, "");
        let shards = &answer["_shards"];
        assert_eq!(
            (&shards["total"], &shards["successful"], &shards["failed"]),
            (&json!(4), &json!(2), &json!(2)),
            "{line}"
        );
        assert_eq!(shards["failures"][0]["status"], "SERVICE_UNAVAILABLE");
        assert_eq!(shards["failures"][0]["reason"]["type"], "node_not_connected_exception");
    }
}

#[test]
fn recoveries_and_stores_are_shown_where_they_are() {
    let backend = pair();
    let stores = |query: &str| call(&backend, &format!("GET /_shard_stores?{query}"), "").1["indices"].clone();
    let statuses = ["status=green", "status=yellow", ""].map(|query| stores(query).as_object().unwrap().len());
    assert_eq!(statuses, [0, 1, 1]);
    others_start(&backend);
    assert_eq!(stores(""), json!({}));
    let (one, two) = (OWN.to_string(), OTHER.to_string());
    let (_, state) = call(&backend, "GET /_cluster/state/routing_table", "");
    let routed = &state["routing_table"]["indices"]["i"]["shards"]["1"];
    let shown = stores("status=green");
    let shown = &shown["i"]["shards"]["1"]["stores"];
    assert_eq!(shown[0][&one]["name"], "n1");
    assert_eq!(shown[1][&two]["transport_address"], "10.0.0.2:9300");
    for (at, word) in [(0, "primary"), (1, "replica")] {
        assert_eq!(
            (&shown[at]["allocation_id"], &shown[at]["allocation"]),
            (&routed[at]["allocation_id"]["id"], &json!(word))
        );
    }
    let (_, recovery) = call(&backend, "GET /_recovery", "");
    let mut targets: Vec<(bool, &str, &str)> = recovery["i"]["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (one["primary"] == true, one["target"]["name"].as_str().unwrap(), one["target"]["ip"].as_str().unwrap())
        })
        .collect();
    targets.sort_unstable();
    let (ours, theirs) = ((true, "n1", "10.0.0.1"), (false, "n2", "10.0.0.2"));
    assert_eq!(targets, [theirs, theirs, ours, ours]);
    assert_eq!(call(&backend, "GET /_recovery?active_only=true", "").1, json!({}));
}

#[test]
fn what_recovers_is_listed_from_its_beginning() {
    let backend = pair();
    let one = json!({ "type": "PEER", "stage": "INIT", "primary": false, "target": "n2", "total": -1 });
    let (_, recovery) = call(&backend, "GET /i/_recovery?active_only=true", "");
    let shown: Vec<Value> = recovery["i"]["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| {
            assert!(of.get("stop_time_in_millis").is_none());
            json!({
                "type": of["type"], "stage": of["stage"], "primary": of["primary"], "target": of["target"]["name"],
                "total": of["translog"]["total"],
            })
        })
        .collect();
    assert_eq!(shown, [one.clone(), one]);
    let (_, rows) = call(&backend, "GET /_cat/recovery?active_only=true&format=json&h=index,shard,stage,bp", "");
    let row = |shard: &str| json!({ "index": "i", "shard": shard, "stage": "init", "bp": "0.0%" });
    assert_eq!(rows, json!([row("0"), row("1")]));
    assert_eq!(call(&backend, "GET /_recovery", "").1["i"]["shards"].as_array().map(Vec::len), Some(4));
    // A closed index is where it was; the master, which is the other node, knows its disks.
    others_start(&backend);
    call(&backend, "POST /i/_close", "");
    change(&backend, |state| ClusterState { master: Some(OWN), ..state.clone() });
    let (_, rows) = call(&backend, "GET /_cat/recovery?format=json&h=shard,stage,type,target_node", "");
    let row = |shard: &str| json!({ "shard": shard, "stage": "done", "type": "existing_store", "target_node": "n1" });
    assert_eq!(rows, json!([row("0"), row("1")]));
}

#[test]
fn writes_wait_for_as_many_copies_as_they_want() {
    let backend = pair();
    let settings = r#"{"settings":{"number_of_replicas":2}}"#;
    assert_eq!(call(&backend, "PUT /r", settings).0, 200);
    // Some wait for others.
    (0..3).for_each(|_| others_start(&backend));
    let write = |query: &str| {
        let start = backend.now_ms();
        let (status, answer) = call(&backend, &format!("PUT /r/_doc/1?{query}"), "{}");
        let reason = answer["error"]["reason"].as_str().unwrap_or_default().to_owned();
        (status / 100, reason, backend.now_ms() - start)
    };
    let refused = |count: &str, timeout: &str| {
        format!(
            "[r][0] Not enough active copies to meet shard count of [{count}] (have 2, needed 3). Timeout: [{timeout}], \
             request: [BulkShardRequest [[r][0]] containing [index {{[r][_doc][1]}}]]"
        )
    };
    assert_eq!(write("wait_for_active_shards=3&timeout=1s"), (5, refused("3", "1s"), 1000));
    assert_eq!(write("wait_for_active_shards=all&timeout=1500ms"), (5, refused("ALL", "1500ms"), 1500));
    assert_eq!(write("consistency=all"), (5, refused("ALL", "1m"), 60_000));
    for query in ["wait_for_active_shards=2", "wait_for_active_shards=0", "consistency=quorum", "consistency=one", ""] {
        assert_eq!(write(query), (2, String::new(), 0), "{query}");
    }
    assert_eq!(write("consistency=most").0, 4);
    assert_eq!(write("timeout=30").0, 4, "a unit is needed");
    // What the index says counts for those who say nothing.
    call(&backend, "PUT /r/_settings", r#"{"index.write.wait_for_active_shards":"all"}"#);
    assert_eq!((write("timeout=1s").0, write("consistency=one&timeout=1s").0), (5, 2));
    // With two copies one is enough; with three, two are needed.
    let lone = lone();
    assert_eq!(call(&lone, "PUT /i/_doc/1?consistency=quorum", "{}").0, 201);
    call(&lone, "PUT /i/_settings", r#"{"number_of_replicas":2}"#);
    let (status, error) = call(&lone, "PUT /i/_doc/1?consistency=quorum&timeout=3s", "{}");
    assert_eq!(status, 503);
    assert!(error["error"]["reason"].as_str().unwrap().contains("(have 1, needed 2). Timeout: [3s]"), "{error}");
}

#[test]
fn a_cluster_has_no_more_copies_than_its_nodes_may_have() {
    let backend = FakeNode::new();
    let put = |line: &str, body: &str| {
        let (status, answer) = call(&backend, line, body);
        assert!(status == 200 || answer["error"]["type"] == "validation_exception", "{answer}");
        answer["error"]["reason"].as_str().map(str::to_owned)
    };
    let refused = |more: u32, now: u32| {
        Some(format!(
            "Validation Failed: 1: this action would add [{more}] total shards, but this cluster currently has [{now}]/[3] \
             maximum shards open;"
        ))
    };
    assert_eq!(put("PUT /_cluster/settings", r#"{"transient":{"cluster.max_shards_per_node":3}}"#), None);
    assert_eq!(put("PUT /a", ""), None);
    assert_eq!(put("PUT /b", ""), refused(2, 2));
    assert_eq!(put("PUT /a/_settings", r#"{"number_of_replicas":2}"#), None);
    assert_eq!(put("PUT /a/_settings", r#"{"number_of_replicas":3}"#), refused(1, 3));
    assert_eq!(put("POST /a/_close", ""), None);
    assert_eq!(put("PUT /b", ""), None);
    assert_eq!(put("POST /a/_open", ""), refused(3, 2));
    // A write makes no index then, either.
    let (status, error) = call(&backend, "PUT /c/_doc/1", "{}");
    assert_eq!((status, &error["error"]["type"]), (400, &json!("validation_exception")));
    // Another node brings room.
    join_other(&backend);
    assert_eq!(put("POST /a/_open", ""), None);
}

#[test]
fn nodes_without_a_vote_are_known_by_id_and_name() {
    let backend = pair();
    assert_eq!(call(&backend, "POST /_cluster/voting_config_exclusions?node_names=n2,gone", "").0, 200);
    let excluded = || {
        let (_, state) = call(&backend, "GET /_cluster/state/metadata", "");
        state["metadata"]["cluster_coordination"]["voting_config_exclusions"].clone()
    };
    let (two, none) = (OTHER.to_string(), json!({ "node_id": "_absent_", "node_name": "gone" }));
    assert_eq!(excluded(), json!([{ "node_id": two, "node_name": "n2" }, none]));
    let (status, error) = call(&backend, "DELETE /_cluster/voting_config_exclusions?timeout=1s", "");
    assert_eq!((status, &error["error"]["type"]), (500, &json!("timeout_exception")), "it is still there");
    assert_eq!(call(&backend, "DELETE /_cluster/voting_config_exclusions?wait_for_removal=false", "").0, 200);
    assert_eq!(excluded(), json!([]));
    call(&backend, &format!("POST /_cluster/voting_config_exclusions?node_ids={two}"), "");
    assert_eq!(excluded(), json!([{ "node_id": two, "node_name": "n2" }]));
}

#[test]
fn a_copy_left_on_a_disk_is_an_unused_store() {
    let backend = lone();
    join_other(&backend);
    others_start(&backend);
    // It goes elsewhere; the files stay.
    change(&backend, |state| {
        let mut next = state.clone();
        for routing in next.routing.values_mut() {
            for copy in std::sync::Arc::make_mut(routing).shards.iter_mut().flatten() {
                if copy.node == Some(OWN) {
                    copy.node = Some(NodeId(3));
                }
            }
        }
        next.nodes.insert(NodeId(3), member(NodeId(3)).into());
        next
    });
    let (_, answer) = call(&backend, "GET /_shard_stores?status=all", "");
    let stores = answer["indices"]["i"]["shards"]["0"]["stores"].as_array().unwrap();
    let words: Vec<&Value> = stores.iter().map(|store| &store["allocation"]).collect();
    assert_eq!(words, ["primary", "replica", "unused"]);
    assert_eq!(stores[2][OWN.to_string()]["name"], "n1");
}

#[test]
fn a_search_could_go_to_every_copy_in_service() {
    let backend = pair();
    let shards = |query: &str| call(&backend, &format!("GET /i/_search_shards?{query}"), "").1;
    let states = |found: &Value| -> Vec<String> {
        let copies = found["shards"][0].as_array().unwrap().iter();
        copies.map(|copy| format!("{} {}", copy["node"].as_str().unwrap(), copy["state"].as_str().unwrap())).collect()
    };
    let (one, two) = (OWN.to_string(), OTHER.to_string());
    let recovering = shards("");
    assert_eq!(states(&recovering), [format!("{one} STARTED"), format!("{two} INITIALIZING")]);
    assert_eq!(recovering["shards"][0][1]["recovery_source"]["type"], "PEER");
    others_start(&backend);
    let found = shards("");
    assert_eq!(found["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), [&one, &two]);
    assert_eq!(found["shards"].as_array().unwrap().len(), 2);
    assert_ne!(found["shards"][0][0]["allocation_id"]["id"], found["shards"][0][1]["allocation_id"]["id"]);
    assert_eq!(states(&shards("preference=_prefer_nodes:n2"))[0], format!("{two} STARTED"));
    assert_eq!(states(&shards("preference=_local"))[0], format!("{one} STARTED"));
    let only = shards(&format!("preference=_only_nodes:{two}"));
    assert_eq!((states(&only), only["nodes"][&two]["name"].as_str()), (vec![format!("{two} STARTED")], Some("n2")));
    assert_eq!(only["nodes"].as_object().unwrap().len(), 1);
}

#[test]
fn nodes_are_counted_by_what_they_do() {
    let backend = pair();
    others_start(&backend);
    change(&backend, |state| {
        let mut next = state.clone();
        let mut voter = member(NodeId(3));
        voter.roles = [Role::Master].into();
        next.nodes.insert(voter.id, voter.into());
        let mut own = member(OWN);
        own.roles = [Role::Data].into();
        next.nodes.insert(OWN, own.into());
        next
    });
    let (_, rows) = call(&backend, "GET /_cat/health?format=json&h=status,nt,nd,shards,pri,relo,unassign,asp", "");
    let row = json!({
        "status": "green", "nt": "3", "nd": "2", "shards": "4", "pri": "2", "relo": "0", "unassign": "0", "asp": "100.0%",
    });
    assert_eq!(rows, json!([row]));
    let (_, stats) = call(&backend, "GET /_cluster/stats", "");
    assert_eq!(stats["_nodes"]["total"], 3);
    let counts = &stats["nodes"]["count"];
    assert_eq!(
        (&counts["total"], &counts["data"], &counts["master"], &counts["ingest"]),
        (&json!(3), &json!(2), &json!(2), &json!(1))
    );
    let shards = &stats["indices"]["shards"];
    assert_eq!((&shards["total"], &shards["primaries"], &shards["replication"]), (&json!(4), &json!(2), &json!(1.0)));
    assert_eq!(shards["index"]["shards"], json!({ "min": 4, "max": 4, "avg": 4.0 }));
    let one = OWN.to_string();
    let (_, nodes) = call(&backend, "GET /_nodes", "");
    assert_eq!(nodes["nodes"][&one]["roles"], json!(["data"]));
    assert_eq!((&nodes["nodes"][&one]["host"], &nodes["nodes"][&one]["ip"]), (&json!("10.0.0.1"), &json!("10.0.0.1")));
    for path in ["/_nodes/_local/stats", "/_tasks"] {
        let (_, nodes) = call(&backend, &format!("GET {path}"), "");
        let own = &nodes["nodes"][&one];
        assert_eq!(
            (&own["roles"], &own["host"], &own["ip"]),
            (&json!(["data"]), &json!("10.0.0.1"), &json!("10.0.0.1:9300")),
            "{path}"
        );
    }
}

#[test]
fn nodes_speak_of_themselves_and_the_silent_ones_are_failures() {
    let backend = pair();
    let (one, two) = (OWN.to_string(), OTHER.to_string());
    for path in
        ["/_nodes", "/_nodes/http", "/_nodes/stats", "/_nodes/stats/indices/docs?level=indices", "/_nodes/usage"]
    {
        let (_, told) = call(&backend, &format!("GET {path}"), "");
        assert_eq!(told["_nodes"], json!({ "total": 2, "successful": 2, "failed": 0 }), "{path}");
        assert_eq!(told["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), [&one, &two], "{path}");
    }
    let (_, told) = call(&backend, "GET /_nodes/n2/stats/os,fs", "");
    assert_eq!(told["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), [&two]);
    assert!(told["nodes"][&two]["os"]["mem"]["total_in_bytes"].as_u64() > Some(0));
    assert_eq!(told["nodes"][&two]["jvm"], Value::Null);
    let (_, rows) = call(&backend, "GET /_cat/nodes?format=json&h=name,ram.max", "");
    assert!(rows[1]["ram.max"].is_string(), "{rows}");
    // The master, which is the other, is asked.
    let (_, stores) = call(&backend, "GET /i/_shard_stores?status=all", "");
    assert_eq!(stores["indices"]["i"]["shards"]["0"]["stores"].as_array().unwrap().len(), 2);
    let (status, found) =
        call(&backend, "GET /_cluster/allocation/explain", r#"{"index":"i","shard":0,"primary":true}"#);
    assert_eq!((status, &found["current_node"]["name"]), (200, &json!("n1")));
    assert_eq!(call(&backend, "POST /_cluster/reroute?dry_run", "").0, 200);
    change(&backend, |state| {
        let mut next = state.clone();
        let mut silent = member(OTHER);
        silent.transport_address.clear();
        next.nodes.insert(OTHER, silent.into());
        next
    });
    let (_, told) = call(&backend, "GET /_nodes/stats", "");
    let header = &told["_nodes"];
    assert_eq!((&header["total"], &header["successful"], &header["failed"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(
        (&header["failures"][0]["type"], &header["failures"][0]["node_id"]),
        (&json!("failed_node_exception"), &json!(two))
    );
    let (_, rows) = call(&backend, "GET /_cat/nodes?format=json&h=name,ram.max", "");
    assert_eq!(rows[1], json!({ "name": "n2", "ram.max": null }));
    assert_eq!(call(&backend, "GET /_cluster/allocation/explain", "").0, 503);
}

//! Nodes find each other, agree, lose each other and come back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::nodes::{Cluster, PATIENCE};

#[test]
fn nodes_started_in_any_order_form_one_cluster() {
    let mut cluster = Cluster::new("order", 3);
    for n in [2, 0, 1] {
        cluster.start(n);
        std::thread::sleep(Duration::from_millis(300));
    }
    cluster.wait_joined();
    let ids: Vec<_> = cluster.nodes.iter().map(|node| node.ask("GET", "/", None).1["cluster_uuid"].clone()).collect();
    assert!(ids[0].as_str().is_some_and(|id| id.len() > 10 && id != "_na_"), "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn what_one_node_answered_every_node_knows() {
    let cluster = Cluster::formed("metadata", 3);
    let master = cluster.wait_joined();
    for (n, node) in cluster.nodes.iter().enumerate() {
        let index = format!("i{n}");
        cluster.create(n, &index, 0);
        let mapping = json!({"properties": {"word": {"type": "keyword"}}});
        assert_eq!(node.ask("PUT", &format!("/{index}/_mapping"), Some(&mapping)).0, 200);
        for other in &cluster.nodes {
            let (status, answer) = other.ask("GET", &format!("/{index}"), None);
            assert_eq!(status, 200, "{} does not know what {} has answered: {answer}", other.name, node.name);
            assert_eq!(answer[&index]["mappings"], mapping);
        }
    }
    let versions: Vec<_> = (0..3).map(|n| cluster.state(n).expect("a state")["version"].clone()).collect();
    assert!(versions.iter().all(|v| *v == versions[master]), "{versions:?}");
}

#[test]
fn any_node_answers_the_same() {
    let cluster = Cluster::formed("same", 3);
    let settings = json!({"settings": {"number_of_shards": 3, "number_of_replicas": 0}});
    assert_eq!(cluster.nodes[0].ask("PUT", "/docs", Some(&settings)).0, 200);
    for id in 0..60 {
        let path = format!("/docs/_doc/{id}");
        let answer = cluster.nodes[id % 3].ask("PUT", &path, Some(&json!({"n": id, "text": format!("word {id}")})));
        assert_eq!(answer.0, 201, "{}", answer.1);
        let answers: Vec<_> = cluster.nodes.iter().map(|node| node.ask("GET", &path, None)).collect();
        assert_eq!(answers[0].0, 200);
        assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    }
    assert_eq!(cluster.nodes[1].ask("POST", "/docs/_refresh", None).0, 200);
    let query = json!({"query": {"match": {"text": "word"}}, "size": 100, "sort": ["n"]});
    let found: Vec<_> =
        cluster.nodes.iter().map(|node| node.ask("POST", "/docs/_search", Some(&query)).1["hits"].clone()).collect();
    assert_eq!(found[0]["total"]["value"], 60);
    assert!(found.iter().all(|f| *f == found[0]));
    let holders: std::collections::BTreeSet<_> = {
        let state = cluster.state(0).expect("a state");
        (0..3)
            .map(|s| state["routing_table"]["indices"]["docs"]["shards"][s.to_string()][0]["node"].to_string())
            .collect()
    };
    assert_eq!(holders.len(), 3, "three shards are spread over three nodes: {holders:?}");
    let (_, pinned) = cluster.nodes[1].ask("GET", "/_cat/shards/docs?format=json&h=shard,node,core&s=shard", None);
    for row in pinned.as_array().expect("rows") {
        assert_eq!(row["core"], "0", "each node has one: {pinned}");
    }
}

#[test]
fn a_killed_master_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::formed("master", 3);
    let old = cluster.wait_joined();
    cluster.create(old, "before", 0);
    let begun = Instant::now();
    cluster.nodes[old].kill();
    let survivor = cluster.running()[0];
    let new = cluster.wait("another master", PATIENCE, || cluster.master_seen_by(survivor).filter(|m| *m != old));
    let elected = begun.elapsed();
    cluster.create(survivor, "after", 0);
    eprintln!("figure: new master after {elected:?}, index made after {:?}", begun.elapsed());
    assert!(elected < Duration::from_secs(3), "a new master took {elected:?}");
    assert_ne!(new, old);
    cluster.wait_joined();
    cluster.start(old);
    assert_eq!(cluster.wait_joined(), new, "the new master stays");
    assert_eq!(cluster.nodes[old].ask("GET", "/after", None).0, 200);
}

#[test]
fn a_minority_takes_no_writes_and_answers_searches() {
    let mut cluster = Cluster::formed("minority", 3);
    for n in 0..3 {
        cluster.create(0, &format!("i{n}"), 0);
    }
    let homes: Vec<usize> =
        (0..3).map(|n| cluster.wait("a primary", PATIENCE, || cluster.primary(0, &format!("i{n}")))).collect();
    let survivor = homes[0];
    assert_eq!(cluster.nodes[survivor].ask("PUT", "/i0/_doc/1?refresh=true", Some(&json!({"a": 1}))).0, 201);
    for n in (0..3).filter(|n| *n != survivor) {
        cluster.nodes[n].kill();
    }
    let node = &cluster.nodes[survivor];
    cluster.wait("the loss to be noticed", PATIENCE, || {
        let answer = node.ask("PUT", "/i0/_doc/1?timeout=500ms", Some(&json!({"a": 2})));
        (answer.0 == 503).then_some(())
    });
    let (status, answer) = node.ask("PUT", "/i0/_doc/2?timeout=500ms", Some(&json!({"a": 2})));
    assert_eq!((status, &answer["error"]["type"]), (503, &json!("cluster_block_exception")), "{answer}");
    let (status, answer) = node.ask("PUT", "/new?master_timeout=500ms&timeout=500ms", None);
    assert_eq!(status, 503, "{answer}");
    let kind = answer["error"]["type"].as_str().unwrap_or_default();
    assert!(["master_not_discovered_exception", "cluster_block_exception"].contains(&kind), "{answer}");
    let (status, found) = node.ask("GET", "/i0/_search", None);
    assert_eq!((status, &found["hits"]["total"]["value"]), (200, &json!(1)), "{found}");
    assert_eq!(node.ask("GET", "/i0/_doc/1", None).0, 200);

    // A majority again: writes go on, and what was refused was not done.
    let back = (0..3).find(|n| *n != survivor).expect("another");
    cluster.start(back);
    cluster.wait_joined();
    assert_eq!(cluster.nodes[survivor].ask("GET", "/i0/_doc/2", None).0, 404);
    assert_eq!(cluster.nodes[back].ask("PUT", "/i0/_doc/2", Some(&json!({"a": 3}))).0, 201);
}

#[test]
fn a_frozen_master_is_replaced_and_follows_once_thawed() {
    let mut cluster = Cluster::formed("frozen", 3);
    let old = cluster.wait_joined();
    cluster.nodes[old].freeze();
    let begun = Instant::now();
    let survivor = cluster.running()[0];
    let new = cluster.wait("another master", PATIENCE, || cluster.master_seen_by(survivor).filter(|m| *m != old));
    eprintln!("figure: frozen master replaced after {:?}", begun.elapsed());
    cluster.wait_joined();
    cluster.create(survivor, "meanwhile", 0);
    let term = |cluster: &Cluster| {
        let state = cluster.state(survivor).expect("a state");
        state["metadata"]["cluster_coordination"]["term"].as_u64()
    };
    let before = term(&cluster);
    cluster.nodes[old].thaw();
    let after = cluster.wait_joined();
    // If the other of the two stood as well, its call for votes waited for the frozen node too, which may vote for it now. Then
    // only an election in a later term makes it a voter again, and anyone may win that.
    assert!(after == new || term(&cluster) > before, "the new master stays, term {before:?}");
    assert_eq!(cluster.nodes[old].ask("GET", "/meanwhile", None).0, 200);
}

#[test]
fn a_master_whose_nodes_are_frozen_steps_down_and_answers_reads_of_its_own() {
    let mut cluster = Cluster::formed("deaf", 3);
    let master = cluster.wait_joined();
    cluster.create(master, "docs", 2);
    cluster.wait_health(master, "green");
    assert_eq!(cluster.nodes[master].ask("PUT", "/docs/_doc/1?refresh=true", Some(&json!({"a": 1}))).0, 201);
    // Their connections stay open, and one is missed before the other.
    let others = [(master + 1) % 3, (master + 2) % 3];
    cluster.nodes[others[0]].freeze();
    std::thread::sleep(Duration::from_millis(400));
    cluster.nodes[others[1]].freeze();
    let begun = Instant::now();
    let node = &cluster.nodes[master];
    cluster.wait("the master to step down", Duration::from_secs(15), || {
        let state = cluster.state(master).ok()?;
        (state["master_node"].is_null() && state["blocks"]["global"]["2"]["retryable"] == true).then_some(())
    });
    eprintln!("figure: stepped down after {:?}", begun.elapsed());
    for (method, path) in [
        ("GET", "/_cluster/health?timeout=100ms"),
        ("GET", "/_cluster/pending_tasks?master_timeout=100ms"),
        ("PUT", "/new?master_timeout=100ms"),
        ("DELETE", "/docs?master_timeout=100ms"),
    ] {
        let (status, answer) = node.ask(method, path, None);
        let kind = &answer["error"]["type"];
        assert_eq!((status, kind), (503, &json!("master_not_discovered_exception")), "{path}: {answer}");
    }
    let (status, answer) = node.ask("PUT", "/docs/_doc/1?timeout=100ms", Some(&json!({"a": 2})));
    assert_eq!((status, &answer["error"]["type"]), (503, &json!("cluster_block_exception")), "{answer}");
    let (status, found) = node.ask("GET", "/docs/_search?preference=_local", None);
    assert_eq!((status, &found["hits"]["total"]["value"]), (200, &json!(1)), "{found}");
    others.iter().for_each(|n| cluster.nodes[*n].thaw());
    cluster.wait_joined();
    cluster.wait_health(master, "green");
}

//! The filter cache and the request cache, as a client sees them.

use serde_json::{Value, json};

use crate::process::{Client, Server, fresh_directory};

/// Enough for a segment whose filters are kept.
const DOCS: u64 = 10_500;

fn index(client: &Client, name: &str, settings: Value) {
    let mut settings = settings;
    settings["number_of_shards"] = 1.into();
    settings["number_of_replicas"] = 0.into();
    settings["refresh_interval"] = "-1".into();
    let properties = json!({"n": {"type": "long"}, "at": {"type": "date"}});
    let body = json!({"settings": settings, "mappings": {"properties": properties}});
    let (status, answer) = client.ask("PUT", &format!("/{name}"), Some(&body));
    assert_eq!(status, 200, "{answer}");
    // A number of four digits is a year.
    let at = 1_600_000_000_000u64;
    let line = |n| format!("{{\"index\":{{\"_id\":\"{n}\"}}}}\n{{\"n\":{n},\"at\":{}}}\n", at + n);
    let lines: String = (0..DOCS).map(line).collect();
    let (status, answer) = client.try_ask("POST", &format!("/{name}/_bulk"), Some(&lines)).expect("an answer");
    assert_eq!((status, &answer["errors"]), (200, &json!(false)));
    one_segment(client, name);
}

/// Everything that was written is in one segment, and searched.
fn one_segment(client: &Client, name: &str) {
    for path in ["_refresh", "_forcemerge?max_num_segments=1", "_refresh"] {
        let (status, answer) = client.ask("POST", &format!("/{name}/{path}"), None);
        assert_eq!(status, 200, "{answer}");
    }
}

fn total(client: &Client, path: &str, body: &Value) -> u64 {
    let (status, answer) = client.ask("POST", path, Some(body));
    assert_eq!((status, &answer["_shards"]["failed"]), (200, &json!(0)), "{answer}");
    answer["hits"]["total"]["value"].as_u64().expect("a total")
}

fn stats(client: &Client, name: &str, group: &str) -> Value {
    let (status, answer) = client.ask("GET", &format!("/{name}/_stats/{group}"), None);
    assert_eq!(status, 200, "{answer}");
    answer["indices"][name]["primaries"][group].clone()
}

fn numbers(stats: &Value, names: [&str; 3]) -> [u64; 3] {
    names.map(|name| stats[name].as_u64().unwrap_or_else(|| panic!("{name} of {stats}")))
}

fn filters(client: &Client, name: &str) -> [u64; 3] {
    let stats = stats(client, name, "query_cache");
    assert_eq!(stats["total_count"], stats["hit_count"].as_u64().unwrap() + stats["miss_count"].as_u64().unwrap());
    assert_eq!(stats["evictions"], stats["cache_count"].as_u64().unwrap() - stats["cache_size"].as_u64().unwrap());
    assert_eq!(stats["memory_size_in_bytes"] == 0, stats["cache_size"] == 0, "{stats}");
    numbers(&stats, ["hit_count", "miss_count", "cache_size"])
}

fn answers(client: &Client, name: &str) -> [u64; 3] {
    numbers(&stats(client, name, "request_cache"), ["hit_count", "miss_count", "evictions"])
}

#[test]
fn caches_count_what_they_do_and_forget_what_they_are_told_to() {
    let server = Server::start(&fresh_directory("caches"));
    let client = server.client();
    index(&client, "on", json!({}));
    index(&client, "off", json!({"queries.cache.enabled": false, "requests.cache.enable": false}));

    // A range is kept at its second use.
    let range = json!({"query": {"bool": {"filter": {"range": {"n": {"gte": 100, "lt": 1100}}}}}});
    for name in ["on", "off"] {
        for _ in 0..4 {
            assert_eq!(total(&client, &format!("/{name}/_search"), &range), 1000);
        }
    }
    assert_eq!(filters(&client, "on"), [2, 2, 1]);
    assert_eq!(filters(&client, "off"), [0, 0, 0]);
    let (_, nodes) = client.ask("GET", "/_nodes/stats/indices", None);
    let node = nodes["nodes"].as_object().and_then(|n| n.values().next()).expect("a node");
    assert_eq!(node["indices"]["query_cache"]["hit_count"], 2);
    let (_, cat) = client.ask("GET", "/_cat/indices/on?format=json&bytes=b&h=qcm,rchc,rcmc", None);
    assert_ne!(cat[0]["qcm"], "0", "{cat}");

    // Deletes are seen through what is kept.
    assert_eq!(client.ask("DELETE", "/on/_doc/100?refresh=true", None).0, 200);
    assert_eq!(total(&client, "/on/_search", &range), 999);
    assert_eq!(filters(&client, "on"), [3, 2, 1]);

    // Cleared, it has to be found again; it was used often enough to be kept at once.
    for (what, left) in [("request=true", 1), ("fielddata=true", 1), ("query=true", 0)] {
        let (status, cleared) = client.ask("POST", &format!("/on/_cache/clear?{what}"), None);
        assert_eq!((status, &cleared["_shards"]["failed"]), (200, &json!(0)), "{cleared}");
        assert_eq!(filters(&client, "on")[2], left, "{what}");
    }
    assert_eq!(total(&client, "/on/_search", &range), 999);
    assert_eq!(filters(&client, "on"), [3, 3, 1]);
    // A merge makes another segment, and the filter of the old one is forgotten.
    one_segment(&client, "on");
    assert_eq!(filters(&client, "on"), [3, 3, 0]);

    // Without hits, answers are kept; any change that is visible makes them go.
    let bare = json!({"size": 0, "aggs": {"s": {"sum": {"field": "n"}}}, "query": range["query"]});
    let before = answers(&client, "on");
    for _ in 0..3 {
        assert_eq!(total(&client, "/on/_search", &bare), 999);
        assert_eq!(total(&client, "/off/_search", &bare), 1000);
    }
    assert_eq!(answers(&client, "on"), [before[0] + 2, before[1] + 1, 0]);
    assert_eq!(answers(&client, "off"), [0, 0, 0]);
    assert_eq!(total(&client, "/off/_search?request_cache=true", &bare), 1000);
    assert_eq!(total(&client, "/off/_search?request_cache=true", &bare), 1000);
    assert_eq!(answers(&client, "off"), [1, 1, 0], "the request decides");
    let hits = answers(&client, "on")[0];
    assert_eq!(client.ask("DELETE", "/on/_doc/101", None).0, 200);
    assert_eq!(client.ask("POST", "/off/_refresh", None).0, 200);
    assert_eq!(total(&client, "/on/_search", &bare), 999, "not visible yet");
    assert_eq!(answers(&client, "on")[0], hits + 1);
    assert_eq!(client.ask("POST", "/on/_refresh", None).0, 200);
    assert_eq!(total(&client, "/on/_search", &bare), 998);
    assert_eq!(answers(&client, "on")[0], hits + 1);
    let (status, _) = client.ask("POST", "/_cache/clear", None);
    assert_eq!(status, 200);
    assert_eq!(total(&client, "/on/_search", &bare), 998);
    assert_eq!(answers(&client, "on")[0], hits + 1, "cleared");
    assert_eq!(stats(&client, "on", "query_cache")["cache_size"], 1, "the filter was found again");

    // The request decides, too, that it wants no answer from before, or one with hits.
    let counted = answers(&client, "on");
    for _ in 0..2 {
        assert_eq!(total(&client, "/on/_search?request_cache=false", &bare), 998);
        assert_eq!(total(&client, "/on/_search", &json!({"query": {"match_all": {}}})), 10_000);
        assert_eq!(
            total(&client, "/on/_search", &json!({"size": 0, "query": {"range": {"at": {"lt": "now"}}}})),
            10_000
        );
    }
    assert_eq!(answers(&client, "on"), counted);
    for _ in 0..2 {
        let (_, answer) = client.ask("POST", "/on/_search?request_cache=true&size=2&sort=n:desc", None);
        let ids: Vec<&Value> = answer["hits"]["hits"].as_array().unwrap().iter().map(|h| &h["_id"]).collect();
        assert_eq!(ids, ["10499", "10498"]);
    }
    assert_eq!(answers(&client, "on"), [counted[0] + 1, counted[1] + 1, 0]);

    // A setting counts from when it is made.
    let setting = json!({"index.requests.cache.enable": false});
    assert_eq!(client.ask("PUT", "/on/_settings", Some(&setting)).0, 200);
    let counted = answers(&client, "on");
    assert_eq!(total(&client, "/on/_search", &bare), 998);
    assert_eq!(answers(&client, "on"), counted);
}

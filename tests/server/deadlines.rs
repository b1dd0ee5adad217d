//! A search ends at its deadline, whatever it does, and when its client leaves.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Client, Server, fresh_directory};
use crate::slow;

/// What a busy machine may add to a time limit.
const SLACK: Duration = Duration::from_secs(12);

fn timed(client: &Client, path: &str, body: &Value) -> Value {
    let began = Instant::now();
    let (status, answer) = client.ask("POST", path, Some(body));
    assert!(began.elapsed() < SLACK, "{path} took {:?}", began.elapsed());
    assert_eq!((status, &answer["_shards"]["failed"]), (200, &json!(0)), "{answer}");
    answer
}

fn with(extra: &Value) -> Value {
    let mut body = slow::query();
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

#[test]
fn every_phase_ends_at_the_deadline_with_what_it_has() {
    let server = Server::start_with(&fresh_directory("deadlines"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    slow::fill(&client);
    let slow_part = slow::query()["query"].clone();
    let all = json!({"match_all": {}});
    for extra in [
        json!({"timeout": "30ms"}),
        json!({"timeout": "30ms", "size": 0}),
        json!({"timeout": "30ms", "sort": [{"n": "desc"}]}),
        json!({"timeout": "30ms", "query": {"bool": {"must_not": slow_part}}}),
        json!({"timeout": "30ms", "query": all, "post_filter": slow_part}),
        json!({"timeout": "30ms", "query": all, "aggs": {"f": {"filters": {"filters": {"slow": slow_part}}}}}),
        json!({"timeout": "30ms", "aggs": {"t": {"terms": {"field": "k", "size": 10000}}}}),
        json!({"timeout": "300ms", "query": all,
               "rescore": {"window_size": 10000, "query": {"rescore_query": slow_part}}}),
    ] {
        let answer = timed(&client, "/slow/_search", &with(&extra));
        assert_eq!(answer["timed_out"], true, "{extra}: {answer}");
        // What must be left out was not found in full, so that nothing is told of the segment.
        if extra["query"]["bool"].is_object() {
            assert_eq!(answer["hits"]["total"]["value"], 0, "{answer}");
        }
    }
    // The same budget when none is given but one is set; and nobody waits for a partial answer he does not want.
    let setting = json!({"transient": {"search.default_search_timeout": "30ms"}});
    assert_eq!(client.ask("PUT", "/_cluster/settings", Some(&setting)).0, 200);
    assert_eq!(timed(&client, "/slow/_search", &slow::query())["timed_out"], true);
    assert_eq!(timed(&client, "/slow/_search?scroll=1m", &slow::query())["timed_out"], true);
    let (status, _) = client.ask("POST", "/slow/_search?allow_partial_search_results=false", Some(&slow::query()));
    assert_eq!(status, 504);
    let setting = json!({"transient": {"search.default_search_timeout": null}});
    assert_eq!(client.ask("PUT", "/_cluster/settings", Some(&setting)).0, 200);
    // What is found in time is fetched and told in full.
    let answer = timed(&client, "/slow/_search", &json!({"timeout": "1m", "size": 100, "query": all}));
    assert_eq!((&answer["timed_out"], &answer["hits"]["total"]["value"]), (&json!(false), &json!(10000)), "{answer}");
    assert_eq!(answer["hits"]["hits"].as_array().map(Vec::len), Some(100));
    // A list of terms that names nothing, and one bucket a document.
    let words: Vec<String> = (0..60_000).map(|n| format!("no such word {n}")).collect();
    timed(&client, "/slow/_search", &json!({"timeout": "30ms", "query": {"terms": {"k": words}}}));
    let buckets =
        json!({"t": {"terms": {"field": "k", "size": 24000}, "aggs": {"c": {"cardinality": {"field": "n"}}}}});
    timed(&client, "/slow/_search", &json!({"timeout": "30ms", "size": 0, "aggs": buckets}));
}

#[test]
fn work_stops_on_all_shards_when_its_client_leaves() {
    let server = Server::start_with(&fresh_directory("leaving"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    slow::fill(&client);
    std::thread::sleep(Duration::from_secs(1));
    let second = || {
        let before = server.cpu_ticks();
        std::thread::sleep(Duration::from_secs(1));
        server.cpu_ticks() - before
    };
    let idle = second();
    let body = slow::query().to_string();
    let mut searches: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("a connection")).collect();
    for search in &mut searches {
        write!(
            search,
            "POST /slow/_search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
    }
    let running = |count: usize| {
        let until = Instant::now() + SLACK;
        loop {
            let (_, list) = client.ask("GET", "/_tasks?actions=*data/read/search&group_by=none", None);
            if list["tasks"].as_array().map(Vec::len) == Some(count) {
                return;
            }
            assert!(Instant::now() < until, "not {count} searches: {list}");
        }
    };
    running(2);
    drop(searches);
    running(0);
    // Other processes may hold the server up, never push it on: one quiet second is proof, and a search goes on for many.
    let seconds: Vec<u64> = (0..15).map(|_| second()).take_while(|ticks| *ticks > 3 * idle + 8).collect();
    assert!(seconds.len() < 15, "the server goes on: {seconds:?} ticks a second, {idle} when idle");
    // The contexts and cores are free.
    assert_eq!(client.ask("POST", "/slow/_search", Some(&json!({"size": 1}))).0, 200);
}

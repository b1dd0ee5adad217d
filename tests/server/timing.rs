//! What a request says it spent its time on, and what the stages add up to.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};

use crate::process::{Client, Server, fresh_directory};

const DOCS: usize = 2000;

/// The parts of an answer's `timing`, after checking that they add up.
fn parts(answer: &Value) -> serde_json::Map<String, Value> {
    let timing = &answer["timing"];
    let took = timing["took_us"].as_f64().unwrap_or_else(|| panic!("no timing in {answer}"));
    let stages = timing["stages"].as_object().expect("stages").clone();
    let sum: f64 = stages.values().map(|us| us.as_f64().expect("a number")).sum();
    // Each part is rounded to a tenth of a microsecond.
    assert!((sum - took).abs() <= 0.1 * stages.len() as f64, "{sum} of {took}: {timing}");
    for row in timing["waterfall"].as_array().expect("rows") {
        assert!(row["start_us"].as_f64() >= Some(0.0) && row["self_us"].as_f64() <= row["took_us"].as_f64(), "{row}");
    }
    stages
}

/// Shares of their time that requests account for; a moment without the processor may fall between two stages.
fn mostly_accounted(mut ask: impl FnMut() -> Value) {
    let mut shares: Vec<f64> = (0..21).map(|_| ask()["timing"]["accounted"].as_f64().expect("a share")).collect();
    shares.sort_by(f64::total_cmp);
    assert!(shares[10] >= 0.98, "half of the requests account for less than 98 %: {shares:?}");
}

fn fill(client: &Client) {
    let settings = json!({"settings": {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "-1"}});
    assert_eq!(client.ask("PUT", "/t", Some(&settings)).0, 200);
    let mut bulk = String::new();
    for i in 0..DOCS {
        bulk += &format!("{{\"index\":{{\"_id\":\"{i}\"}}}}\n{{\"n\":{i},\"text\":\"word{} common\"}}\n", i % 97);
    }
    let (status, answer) =
        client.try_ask("POST", "/t/_bulk?refresh=true&profile=timing", Some(&bulk)).expect("an answer");
    assert!(status == 200 && answer["errors"] == false, "{answer}");
    let stages = parts(&answer);
    for stage in ["route", "body", "coordinate", "parse", "buffer", "fsync_wait", "refresh", "queue"] {
        assert!(stages[stage].as_f64() > Some(0.0), "{stage}: {stages:?}");
    }
    let rows = answer["timing"]["waterfall"].as_array().expect("rows");
    for shard in ["t[0]", "t[1]"] {
        assert!(
            rows.iter()
                .any(|row| row["stage"] == "buffer" && row["shard"] == shard && row["count"].as_u64() > Some(100))
        );
    }
}

#[test]
fn parts_of_reads_and_writes_add_up_to_their_time() {
    let server = Server::start_with(&fresh_directory("timing"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    fill(&client);
    let query = json!({"query": {"match": {"text": "common"}}, "aggs": {"n": {"avg": {"field": "n"}}}});
    let search = || client.ask("POST", "/t/_search?profile=timing", Some(&query)).1;
    let stages = parts(&search());
    for stage in ["http_parse", "route", "coordinate", "query", "fetch", "merge_result", "serialise"] {
        assert!(stages.contains_key(stage), "{stage}: {stages:?}");
    }
    // One of the two shards is on another core than the connection.
    assert!(stages["core_hop"].as_f64() > Some(0.0), "{stages:?}");
    mostly_accounted(search);
    mostly_accounted(|| client.ask("GET", "/t/_doc/17?profile=timing", None).1);
    mostly_accounted(|| client.ask("PUT", "/t/_doc/17?profile=timing", Some(&json!({"n": 1}))).1);
    let profiled = json!({"profile": true, "aggs": {"n": {"avg": {"field": "n"}}}, "query": {"bool": {
        "must": {"match": {"text": "common"}}, "filter": {"range": {"n": {"gte": 100, "lt": 300}}}}}});
    let (_, answer) = client.ask("POST", "/t/_search", Some(&profiled));
    let shards = answer["profile"]["shards"].as_array().expect("shards");
    assert_eq!(shards.len(), 2, "{answer}");
    for shard in shards {
        let root = &shard["searches"][0]["query"][0];
        assert_eq!(root["type"], "BooleanQuery");
        assert_eq!(root["description"], "+text:(common) #n:[100 TO 300}");
        assert!(root["time_in_nanos"].as_u64() > Some(0) && root["children"].as_array().map(Vec::len) == Some(2));
        assert_eq!(shard["aggregations"][0]["type"], "avg");
    }
    let matched = |part: &dyn Fn(&Value) -> u64| shards.iter().map(part).sum::<u64>();
    assert_eq!(matched(&|s| s["searches"][0]["query"][0]["matched"].as_u64().unwrap_or(0)), 200);
    assert_eq!(matched(&|s| s["searches"][0]["query"][0]["children"][0]["matched"].as_u64().unwrap_or(0)), DOCS as u64);
    let (_, plain) = client.ask("GET", "/t/_doc/17", None);
    assert!(plain.get("timing").is_none());
    let (status, refused) = client.ask("GET", "/t/_doc/17?profile=everything", None);
    assert!(status == 400 && refused["error"]["reason"].as_str().is_some_and(|r| r.contains("[profile]")), "{refused}");
}

#[test]
fn latency_is_read_by_core_by_shard_and_since_the_last_look() {
    let server = Server::start_with(&fresh_directory("latency"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    fill(&client);
    let latency = |path: &str| {
        let (status, answer) = client.ask("GET", path, None);
        assert_eq!(status, 200, "{answer}");
        // Of the only node, if it is about nodes.
        answer["nodes"].as_object().and_then(|nodes| nodes.values().next()).cloned().unwrap_or(answer)
    };
    let count = |of: &Value, stage: &str| of["stages"][stage]["count"].as_u64().unwrap_or(0);
    let of_index = &latency("/_latency/t?hdr=true")["indices"]["t"];
    let shards = of_index["shards"].as_object().expect("shards");
    assert_eq!(shards.len(), 2);
    assert_eq!(shards.values().map(|shard| count(shard, "buffer")).sum::<u64>(), DOCS as u64);
    assert_eq!(count(of_index, "buffer"), DOCS as u64);
    assert_ne!(shards["0"]["core"], shards["1"]["core"]);
    assert_eq!(latency("/_latency/t/1")["indices"]["t"]["shards"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(client.ask("GET", "/_latency/t/7", None).0, 404);

    let whole = latency("/_latency");
    let cores = whole["cores"].as_array().expect("cores");
    assert_eq!(cores.iter().map(|core| count(core, "buffer")).sum::<u64>(), count(&whole, "buffer"));
    assert!(count(&whole, "write_socket") > 0 && count(&whole, "http_parse") > 0, "{whole}");

    let bytes =
        base64::prelude::BASE64_STANDARD.decode(of_index["hdr"]["buffer"].as_str().expect("base64")).expect("base64");
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).expect("HdrHistogram's encoding");
    assert_eq!(histogram.len(), DOCS as u64);
    let p99 = of_index["stages"]["buffer"]["p99_us"].as_f64().expect("a number");
    assert!((histogram.value_at_quantile(0.99) as f64 / 1000.0 - p99).abs() <= 0.06, "{p99}");

    assert!(count(&latency("/_latency?interval=me"), "buffer") >= DOCS as u64);
    assert_eq!(count(&latency("/_latency?interval=me"), "buffer"), 0);
    assert_eq!(client.ask("PUT", "/t/_doc/x", Some(&json!({"n": 1}))).0, 201);
    assert_eq!(count(&latency("/_latency?interval=me"), "buffer"), 1);
    assert_eq!(client.ask("POST", "/_latency/_reset", None).0, 200);
    assert_eq!(count(&latency("/_latency"), "buffer"), 0);
    assert_eq!(count(&latency("/_latency/t")["indices"]["t"], "buffer"), 0);
    assert_eq!(client.ask("GET", "/_latency?interval=", None).0, 400);
    let (_, stats) = client.ask("GET", "/_nodes/stats/latency", None);
    let node = stats["nodes"].as_object().and_then(|nodes| nodes.values().next()).expect("a node");
    assert!(node["latency"]["stages"].is_object() && node.get("indices").is_none(), "{node}");
}

#[test]
fn a_search_sees_the_write_it_names_without_a_refresh() {
    let server = Server::start(&fresh_directory("visible"));
    let client = server.client();
    let settings = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}});
    assert_eq!(client.ask("PUT", "/v", Some(&settings)).0, 200);
    let all = |path: &str| {
        let (status, answer) = client.ask("GET", path, None);
        (status, answer["hits"]["total"]["value"].as_u64(), answer)
    };
    for n in 0..20u64 {
        let (_, written) = client.ask("POST", "/v/_doc", Some(&json!({"n": n})));
        let seq_no = written["_seq_no"].as_u64().expect("a number");
        assert_eq!(all(&format!("/v/_search?min_seq_no={seq_no}")).1, Some(n + 1));
        assert_eq!(all(&format!("/v/_search?min_seq_no=0:{seq_no}")).1, Some(n + 1));
    }
    let (status, _, answer) = all("/v/_search?min_seq_no=1000&timeout=50ms");
    assert!(status == 503 && answer["error"]["type"] == "timeout_exception", "{answer}");
    assert_eq!(all("/v/_search?min_seq_no=x").0, 400);
    assert_eq!(client.ask("PUT", "/w/_doc/1?refresh=wait_for", Some(&json!({"n": 1}))).0, 201);
    assert_eq!(all("/v,w/_search?min_seq_no=1").0, 400);
    let (_, kept) = client.ask("PUT", "/v/_doc/k?durability=request", Some(&json!({"n": 0})));
    assert_eq!(kept["durability"]["fsynced_copies"], 1, "{kept}");
    assert!(kept["durability"]["log_position"].as_str().is_some_and(|p| p.contains(':')), "{kept}");
    let (_, plain) = client.ask("PUT", "/v/_doc/k", Some(&json!({"n": 0})));
    assert!(plain.get("durability").is_none(), "{plain}");
    assert_eq!(client.ask("PUT", "/v/_doc/k?durability=some", Some(&json!({"n": 0}))).0, 400);
    // A setting of an hour does not make anyone wait so long.
    let began = std::time::Instant::now();
    let (status, _) = client.ask("PUT", "/v/_settings", Some(&json!({"index": {"refresh_interval": "1h"}})));
    assert_eq!(status, 200);
    for n in 0..50 {
        assert_eq!(client.ask("PUT", &format!("/v/_doc/{n}?refresh=wait_for"), Some(&json!({"n": n}))).0, 201);
        assert_eq!(all("/v/_search?size=0").1, Some(22 + n));
    }
    assert!(began.elapsed().as_secs() < 60);
}

#[test]
fn storage_adds_up_and_agrees_with_the_kernel() {
    let server = Server::start_with(&fresh_directory("storage"), &[("RINGDEX_CORES", "2")]);
    let client = server.client();
    fill(&client);
    assert_eq!(client.ask("POST", "/t/_flush", None).0, 200);
    let (status, answer) = client.ask("GET", "/t/_storage", None);
    assert_eq!(status, 200, "{answer}");
    let t = &answer["indices"]["t"];
    let number = |of: &Value| of.as_u64().unwrap_or_else(|| panic!("a number in {answer}"));
    assert_eq!(number(&t["documents"]), DOCS as u64);
    let fields = t["fields"].as_object().expect("fields");
    assert!(["n", "text"].iter().all(|f| fields.contains_key(*f)), "{t}");
    assert!(number(&t["fields"]["text"]["postings_in_bytes"]) > 0 && number(&t["fields"]["n"]["columns_in_bytes"]) > 0);
    let of_fields: u64 = fields.values().map(|f| number(&f["total_in_bytes"])).sum();
    assert_eq!(of_fields + number(&t["of_all_documents"]["total_in_bytes"]), number(&t["segments_in_bytes"]));
    assert_eq!(t["structures"]["total_in_bytes"], t["segments_in_bytes"]);
    let shards = t["shards"].as_object().expect("shards");
    assert_eq!(shards.values().map(|s| number(&s["store_in_bytes"])).sum::<u64>(), number(&t["store_in_bytes"]));
    assert!(number(&t["syncs"]["files"]) > 0 && t["syncs"]["per_operation"].as_f64() < Some(1.0), "{t}");
    assert!(t["amplification"]["write"].as_f64() > Some(0.1), "{t}");
    // What the node's own state and the guards of its data path take is not an index's.
    let (ours, kernels) =
        (number(&t["io"]["total"]["written_in_bytes"]), number(&answer["process"]["written_in_bytes"]));
    assert!(ours <= kernels, "{ours} of {kernels}");
    for n in 0..200 {
        assert_eq!(client.ask("PUT", &format!("/t/_doc/k{n}"), Some(&json!({"text": "x".repeat(10_000)}))).0, 201);
    }
    let (_, after) = client.ask("GET", "/t/_storage", None);
    let ours = number(&after["indices"]["t"]["io"]["total"]["written_in_bytes"]) - ours;
    let kernels = number(&after["process"]["written_in_bytes"]) - kernels;
    assert!(ours > 2_000_000 && ours.abs_diff(kernels) * 50 <= kernels, "ledger {ours}, kernel {kernels}");
}

#[test]
fn what_takes_longer_than_its_threshold_is_in_the_slow_log() {
    let server = Server::start_with(&fresh_directory("slow"), &[("RINGDEX_LOG", "warn")]);
    let client = server.client();
    let settings = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0,
        "index.search.slowlog.threshold.query.debug": "0ms", "index.search.slowlog.threshold.query.warn": "1h",
        "index.search.slowlog.threshold.fetch.trace": "0ms",
        "index.indexing.slowlog.threshold.index.info": "0ms", "index.indexing.slowlog.source": "9"}});
    assert_eq!(client.ask("PUT", "/s", Some(&settings)).0, 200);
    assert_eq!(client.ask("PUT", "/s/_doc/one?refresh=true", Some(&json!({"long": "x".repeat(100)}))).0, 201);
    let query = json!({"query": {"term": {"long": "x"}}});
    assert_eq!(client.ask("POST", "/s/_search", Some(&query)).0, 200);
    assert_eq!(client.ask("POST", "/s/_search", Some(&json!({}))).0, 200);
    let wait = |text: &str, times: usize| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while server.logged(text) < times {
            assert!(std::time::Instant::now() < until, "[{text}] is not in the log {times} times");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    wait("DEBUG index.search.slowlog.query: [s][0] took[", 2);
    wait("total_hits[0 hits], source[long:x]", 1);
    wait("TRACE index.search.slowlog.fetch: [s][0] took[", 1);
    wait("INFO index.indexing.slowlog.index: [s][0] took[", 1);
    wait("id[one], routing[], source[{\"long\":\"]", 1);
    let off = json!({"index.search.slowlog.threshold.query.debug": "-1", "index.search.slowlog.level": "info"});
    assert_eq!(client.ask("PUT", "/s/_settings", Some(&off)).0, 200);
    let before = server.logged("slowlog.query");
    assert_eq!(client.ask("POST", "/s/_search", Some(&query)).0, 200);
    assert_eq!(client.ask("PUT", "/s/_doc/two", Some(&json!({"n": 1}))).0, 201);
    wait("id[two]", 1);
    assert_eq!(server.logged("slowlog.query"), before);
    let (status, hot) = client.ask("GET", "/_nodes/hot_threads", None);
    let hot = hot.as_str().expect("text");
    assert!(status == 200 && hot.contains("core 0:") && hot.contains("since the start"), "{hot}");
}

//! A search that takes far longer than any test wants to wait.

use serde_json::{Value, json};

use crate::process::Client;

const DOCS: u64 = 60_000;
/// Patterns, each of which is compared with every term of the index.
const PATTERNS: u64 = 200;

/// 24 hexadecimal digits that look random.
fn word(n: u64) -> String {
    let mix = |x: u64| (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31);
    format!("{:016x}{:08x}", mix(n + 1), mix(n + 99) >> 32)
}

/// The index `slow`, on two shards, of two segments each.
pub fn fill(client: &Client) {
    let settings = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "-1"},
        "mappings": {"properties": {"k": {"type": "keyword"}, "n": {"type": "long"}}},
    });
    assert_eq!(client.ask("PUT", "/slow", Some(&settings)).0, 200);
    for part in 0..2 {
        let docs = part * DOCS / 2..(part + 1) * DOCS / 2;
        let lines: String =
            docs.map(|n| format!("{{\"index\":{{}}}}\n{{\"k\":\"{}\",\"n\":{n}}}\n", word(n))).collect();
        let (status, answer) = client.try_ask("POST", "/slow/_bulk?refresh=true", Some(&lines)).expect("an answer");
        assert_eq!((status, &answer["errors"]), (200, &json!(false)));
    }
}

/// Different patterns without a beginning.
pub fn query() -> Value {
    let patterns = (0..PATTERNS).map(|n| {
        let digits: Vec<char> = format!("{:03x}", n * 19 % 4096).chars().collect();
        let [a, b, c] = digits[..] else { panic!("{n} has three digits") };
        json!({"regexp": {"k": format!(".*{a}.*{b}[0-7]{{3}}.*{c}.*[{a}-f].*")}})
    });
    json!({"query": {"bool": {"should": patterns.collect::<Vec<_>>()}}, "track_total_hits": true})
}

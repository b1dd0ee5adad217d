//! SIGKILL in the middle of a mixed load: every acknowledged write is there afterwards, once, with its version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Client, Server, fresh_directory};

const CLIENTS: usize = 8;
const KILLS: u64 = 20;
const SYNC_INTERVAL: Duration = Duration::from_millis(200);
/// What a busy machine may add to an interval.
const SLACK: Duration = Duration::from_millis(300);
const INDICES: [&str; 2] = ["a", "b"];

/// What an operation left of a document; `n` names the operation.
#[derive(Clone, Debug)]
struct Change {
    seq_no: i64,
    version: u64,
    /// None = deleted.
    n: Option<u64>,
    at: Instant,
}

/// One client's documents: its own, so that it knows their history.
#[derive(Default)]
struct History {
    /// By (index, id), acknowledged changes in order.
    acked: BTreeMap<(usize, String), Vec<Change>>,
    /// Sent without an answer since the last check: what the document would be.
    maybe: BTreeMap<(usize, String), Vec<Option<u64>>>,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// One request, its answer noted.
fn one_request(client: &Client, me: usize, n: &mut u64, dice: &mut Dice, history: &mut History) -> Result<(), String> {
    let which = dice.roll(INDICES.len() as u64) as usize;
    let index = INDICES[which];
    let id = format!("c{me}-{}", dice.roll(25));
    *n += 1;
    let key = (which, id.clone());
    let body = json!({"n": *n, "text": format!("document number {n} of client {me}")}).to_string();
    match dice.roll(10) {
        0 => send(client, history, &key, None, "DELETE", &format!("/{index}/_doc/{id}"), None),
        1 => {
            let doc = json!({"doc": {"n": *n}, "doc_as_upsert": true}).to_string();
            send(client, history, &key, Some(*n), "POST", &format!("/{index}/_update/{id}"), Some(&doc))
        }
        2 => {
            let last = history.acked.get(&key).and_then(|h| h.last()).filter(|c| c.n.is_some()).map_or(0, |c| c.seq_no);
            let term =
                client.try_ask("GET", &format!("/{index}/_doc/{id}"), None)?.1["_primary_term"].as_u64().unwrap_or(1);
            let path = format!("/{index}/_doc/{id}?if_seq_no={last}&if_primary_term={term}");
            send(client, history, &key, Some(*n), "PUT", &path, Some(&body))
        }
        3 => send(client, history, &key, Some(*n), "PUT", &format!("/{index}/_create/{id}"), Some(&body)),
        4 | 5 => bulk(client, me, n, dice, history, which),
        _ => send(client, history, &key, Some(*n), "PUT", &format!("/{index}/_doc/{id}"), Some(&body)),
    }
}

fn send(
    client: &Client,
    history: &mut History,
    key: &(usize, String),
    n: Option<u64>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Result<(), String> {
    match client.try_ask(method, path, body) {
        Ok((status @ (200 | 201 | 404), answer)) if answer["_seq_no"].is_i64() => {
            assert!(status != 404 || n.is_none(), "{method} {path}: {answer}");
            note(history, key, &answer, n);
            Ok(())
        }
        Ok((409, _)) => Ok(()),
        Ok((status, answer)) => panic!("{method} {path}: {status} {answer}"),
        Err(e) => {
            history.maybe.entry(key.clone()).or_default().push(n);
            Err(e)
        }
    }
}

fn bulk(
    client: &Client,
    me: usize,
    n: &mut u64,
    dice: &mut Dice,
    history: &mut History,
    which: usize,
) -> Result<(), String> {
    let mut lines = String::new();
    let mut sent = Vec::new();
    let first = dice.roll(25);
    for i in 0..5 {
        *n += 1;
        let id = format!("c{me}-{}", (first + i) % 25);
        if dice.roll(5) == 0 {
            lines += &format!("{}\n", json!({"delete": {"_id": id}}));
            sent.push((id, None, "delete"));
        } else {
            lines += &format!("{}\n{}\n", json!({"index": {"_id": id}}), json!({"n": *n, "text": "bulk"}));
            sent.push((id, Some(*n), "index"));
        }
    }
    match client.try_ask("POST", &format!("/{}/_bulk", INDICES[which]), Some(&lines)) {
        Ok((200, answer)) => {
            for (i, (id, n, kind)) in sent.into_iter().enumerate() {
                let item = &answer["items"][i][kind];
                assert!(item["error"].is_null(), "{item}");
                note(history, &(which, id), item, n);
            }
            Ok(())
        }
        Ok((status, answer)) => panic!("bulk: {status} {answer}"),
        Err(e) => {
            for (id, n, _) in sent {
                history.maybe.entry((which, id)).or_default().push(n);
            }
            Err(e)
        }
    }
}

fn note(history: &mut History, key: &(usize, String), answer: &Value, n: Option<u64>) {
    if answer["result"] == "noop" {
        return;
    }
    let change = Change {
        seq_no: answer["_seq_no"].as_i64().expect("a sequence number"),
        version: answer["_version"].as_u64().expect("a version"),
        n,
        at: Instant::now(),
    };
    let changes = history.acked.entry(key.clone()).or_default();
    if let Some(last) = changes.last() {
        assert!(change.seq_no > last.seq_no, "history of {key:?} goes back: {last:?}, then {change:?}");
    }
    changes.push(change);
}

/// Compares every document with its history. `lost_since`: writes acknowledged earlier than this must be there; later
/// ones may be missing, but only as a suffix of each shard's history.
fn check(server: &Server, histories: &mut [History], lost_since: Option<Instant>) -> u64 {
    let client = server.client();
    let mut checked = 0;
    for (which, index) in INDICES.iter().enumerate() {
        let (status, stats) = client.ask("GET", &format!("/{index}/_stats?level=shards"), None);
        assert_eq!(status, 200, "{stats}");
        let max_seq_no =
            stats["indices"][index]["shards"]["0"][0]["seq_no"]["max_seq_no"].as_i64().expect("max_seq_no");
        assert_eq!(client.ask("POST", &format!("/{index}/_refresh"), None).0, 200);
        let (_, found) =
            client.ask("POST", &format!("/{index}/_search"), Some(&json!({"size": 10_000, "version": true})));
        let mut searched: BTreeMap<String, Value> = BTreeMap::new();
        for hit in found["hits"]["hits"].as_array().expect("hits") {
            let id = hit["_id"].as_str().expect("an id").to_owned();
            assert!(searched.insert(id.clone(), hit.clone()).is_none(), "[{id}] is found twice");
        }
        assert_eq!(found["hits"]["total"]["value"].as_u64(), Some(searched.len() as u64));
        for history in histories.iter_mut() {
            let keys: Vec<_> =
                history.acked.keys().chain(history.maybe.keys()).filter(|k| k.0 == which).cloned().collect();
            for key in keys {
                checked += 1;
                let (status, got) = client.ask("GET", &format!("/{index}/_doc/{}", key.1), None);
                assert!(status == 200 || status == 404, "{got}");
                let n = got["_source"]["n"].as_u64();
                let hit = searched.get(&key.1);
                assert_eq!(
                    hit.map(|h| &h["_source"]),
                    (status == 200).then(|| &got["_source"]),
                    "{key:?}: get and search differ"
                );
                let changes = history.acked.entry(key.clone()).or_default();
                for lost in changes.iter().filter(|c| c.seq_no > max_seq_no) {
                    let allowed = lost_since.is_some_and(|since| lost.at >= since);
                    assert!(allowed, "{key:?}: acknowledged {lost:?} is lost; the shard ends at {max_seq_no}");
                }
                changes.retain(|c| c.seq_no <= max_seq_no);
                let same = match changes.last() {
                    Some(last) => n == last.n && (n.is_none() || got["_version"].as_u64() == Some(last.version)),
                    None => n.is_none(),
                };
                let may_be = history.maybe.get(&key).is_some_and(|states| states.contains(&n));
                assert!(
                    same || may_be,
                    "{key:?}: last {:?}, may be {:?}, found {got}",
                    changes.last(),
                    history.maybe.get(&key)
                );
                if !same {
                    // What happened without an answer is known now.
                    changes.retain(|c| got["_seq_no"].as_i64().is_some_and(|s| c.seq_no < s));
                    if let (Some(seq_no), Some(version)) = (got["_seq_no"].as_i64(), got["_version"].as_u64()) {
                        changes.push(Change { seq_no, version, n, at: Instant::now() });
                    }
                }
            }
            history.maybe.retain(|k, _| k.0 != which);
        }
    }
    checked
}

fn kill_again_and_again(durability: &str) {
    let data = fresh_directory(&format!("kill-{durability}"));
    let mut server = Server::start(&data);
    for index in INDICES {
        let settings = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0,
            "index.translog.durability": durability, "index.translog.sync_interval": "200ms", "index.translog.flush_threshold_size": "1mb"}});
        let (status, answer) = server.client().ask("PUT", &format!("/{index}"), Some(&settings));
        assert_eq!(status, 200, "{answer}");
    }
    let mut histories: Vec<History> = (0..CLIENTS).map(|_| History::default()).collect();
    let mut dice = Dice(0x5eed ^ durability.len() as u64);
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let stop = AtomicBool::new(false);
        let mut killed_at = Instant::now();
        let url = server.url.clone();
        let before: usize = histories.iter().flat_map(|h| h.acked.values()).map(Vec::len).sum();
        std::thread::scope(|scope| {
            for (me, history) in histories.iter_mut().enumerate() {
                let (stop, url) = (&stop, &url);
                let mut dice = Dice(1 + kill * 1_000 + me as u64 * 7);
                scope.spawn(move || {
                    let client = Client::new(url);
                    let mut n = kill * 1_000_000 + me as u64 * 100_000;
                    while !stop.load(Ordering::Relaxed) {
                        if one_request(&client, me, &mut n, &mut dice, history).is_err() {
                            break;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(60 + dice.roll(500)));
            // An asynchronous translog may lose what is younger than its interval; the sync itself takes a while, too.
            killed_at = Instant::now();
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server.restart();
        let after: usize = histories.iter().flat_map(|h| h.acked.values()).map(Vec::len).sum();
        acknowledged += after - before;
        let lost_since =
            (durability == "async").then(|| killed_at.checked_sub(SYNC_INTERVAL + SLACK).unwrap_or(killed_at));
        let checked = check(&server, &mut histories, lost_since);
        assert!(checked > 0);
    }
    assert!(acknowledged > 200, "the load was too small to prove anything: {acknowledged} acknowledged");
    drop(server);
    std::fs::remove_dir_all(&data).expect("the data directory can go");
}

#[test]
fn no_acknowledged_write_is_lost_with_durability_request() {
    kill_again_and_again("request");
}

#[test]
fn only_a_young_suffix_is_lost_with_durability_async() {
    kill_again_and_again("async");
}

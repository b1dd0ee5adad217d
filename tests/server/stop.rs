//! Ending a server in order, and starting one where another is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::process::{Client, Server, command, free_port, fresh_directory};

const CLIENTS: u64 = 4;
/// A busy machine takes a while to commit; a server that waits for something that never comes takes for ever.
const STOP_BOUND: Duration = Duration::from_secs(30);

#[test]
fn sigterm_under_load_loses_nothing_and_leaves_nothing_to_replay() {
    let data = fresh_directory("stop");
    let mut server = Server::start(&data);
    let body = json!({"settings": {"number_of_shards": 2, "number_of_replicas": 0}});
    assert_eq!(server.client().ask("PUT", "/load", Some(&body)).0, 200);
    let acknowledged: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let url = server.url.clone();
    let code = std::thread::scope(|scope| {
        for me in 0..CLIENTS {
            let (url, acknowledged) = (&url, &acknowledged);
            scope.spawn(move || {
                let client = Client::new(url);
                for n in 0_u64.. {
                    let id = format!("{me}-{}", n % 50);
                    let body = json!({"n": n}).to_string();
                    match client.try_ask("PUT", &format!("/load/_doc/{id}"), Some(&body)) {
                        Ok((200 | 201, _)) => drop(acknowledged.lock().expect("no panic").insert(id, n)),
                        // Turned away, or nobody there: both are no acknowledgement.
                        Ok((503, _)) | Err(_) => return,
                        Ok((status, answer)) => panic!("{status} {answer}"),
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        server.terminate(STOP_BOUND)
    });
    assert_eq!(code, Some(0), "exit code of a server that was asked to stop");
    let acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(acknowledged.len() >= CLIENTS as usize, "too little load: {}", acknowledged.len());

    server.restart();
    let client = server.client();
    let (status, recovery) = client.ask("GET", "/load/_recovery", None);
    assert_eq!(status, 200, "{recovery}");
    let shards = recovery["load"]["shards"].as_array().expect("shards");
    assert_eq!(shards.len(), 2, "{recovery}");
    for shard in shards {
        assert_eq!(shard["translog"]["recovered"], 0, "an orderly stop leaves no operation to replay: {shard}");
    }
    for (id, n) in &acknowledged {
        let (status, got) = client.ask("GET", &format!("/load/_doc/{id}"), None);
        let found = got["_source"]["n"].as_u64();
        // The last write of a client may be in without its answer having arrived.
        assert!(status == 200 && found.is_some_and(|m| m >= *n), "[{id}]: {n} acknowledged, found {got}");
    }
    drop(server);
    std::fs::remove_dir_all(&data).expect("it can go");
}

#[test]
fn a_second_server_on_the_same_data_or_port_says_what_to_do() {
    let (data, other) = (fresh_directory("first"), fresh_directory("second"));
    let server = Server::start(&data);
    let check = |data: &std::path::Path, port: u16, expected: &[&str]| {
        let out = command(data, port).output().expect("it starts and ends");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        for part in expected {
            assert!(text.contains(part), "[{part}] is missing: {text}");
        }
    };
    let holder = format!("pid {}", server.pid());
    check(&data, free_port(), &["is in use by another node", &holder, "stop it", "--data DIR"]);
    let port = server.port.to_string();
    check(&other, server.port, &["another process listens there", &port, "--http ADDRESS:PORT"]);
    assert_eq!(server.client().ask("GET", "/", None).0, 200, "the first one did not notice");
    drop(server);
    // What held the data is gone with the process, however it ended.
    drop(Server::start(&data));
    std::fs::remove_dir_all(&data).expect("it can go");
    std::fs::remove_dir_all(&other).expect("it can go");
}

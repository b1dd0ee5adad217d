//! `ringdex demo` from start to end.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::process::{fresh_directory, signal};

#[test]
fn the_demo_shows_requests_checks_their_answers_and_leaves_nothing() {
    let place = fresh_directory("demo-once");
    // Held here, or else by somebody else: either way the demo has to do without.
    let _held = TcpListener::bind("127.0.0.1:9200");
    let out = Command::new(env!("CARGO_BIN_EXE_ringdex"))
        .args(["demo", "--once"])
        .env("TMPDIR", &place)
        .output()
        .expect("the demo runs");
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{text}\n{errors}", out.status);
    assert!(text.contains("127.0.0.1:9200 is taken"), "{text}");
    assert_eq!(text.matches("$ curl").count(), 7, "{text}");
    for fact in ["Loaded 1000 accounts", "19 accounts", "Mill Lane", "TX  30 accounts", "version 2", "409 "] {
        assert!(text.contains(fact), "[{fact}] is missing in:\n{text}");
    }
    assert_eq!(std::fs::read_dir(&place).expect("the place is there").count(), 0, "the demo left something behind");
    std::fs::remove_dir_all(&place).expect("it can go");
}

#[test]
fn the_demo_shows_the_same_on_three_nodes() {
    let place = fresh_directory("demo-nodes");
    let out = Command::new(env!("CARGO_BIN_EXE_ringdex"))
        .args(["demo", "--once", "--nodes", "3"])
        .env("TMPDIR", &place)
        .output()
        .expect("the demo runs");
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{text}\n{errors}", out.status);
    assert_eq!(text.matches("$ curl").count(), 7, "{text}");
    assert_eq!(std::fs::read_dir(&place).expect("the place is there").count(), 0, "the demo left something behind");
    std::fs::remove_dir_all(&place).expect("it can go");
}

#[test]
fn the_demo_serves_on_until_ctrl_c() {
    let place = fresh_directory("demo-on");
    let _held = TcpListener::bind("127.0.0.1:9200");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringdex"))
        .arg("demo")
        .env("TMPDIR", &place)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let pasted = lines.find(|line| line.contains("_search?q=")).expect("a command to try");
    let url = pasted.trim().trim_start_matches("curl '").trim_end_matches('\'');
    lines.find(|line| line.contains("Ctrl-C")).expect("a word on how to end it");
    let mut found = String::new();
    let answer = ureq::get(url).call().expect("the server still answers");
    answer.into_body().into_reader().read_to_string(&mut found).expect("an answer");
    assert!(found.contains("Amber"), "{found}");
    signal(child.id(), "INT");
    let status = child.wait().expect("the demo ends");
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read_dir(&place).expect("the place is there").count(), 0, "the demo left something behind");
    std::fs::remove_dir_all(&place).expect("it can go");
}

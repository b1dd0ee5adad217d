//! `ringdex bench` against a real server, and its ready workload files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::{Server, fresh_directory};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringdex")).arg("bench").args(arguments).output().expect("the bench runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn workload(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workloads").join(name)
}

#[test]
fn the_mixed_workload_runs_and_its_results_can_be_compared() {
    let place = fresh_directory("bench");
    let server = Server::start(&place.join("data"));
    let file = workload("mixed.toml");
    let run = |out: &Path| {
        let out = out.to_str().expect("UTF-8");
        let file = file.to_str().expect("UTF-8");
        // Slow enough for a debug build on a busy machine.
        let fixed = ["run", file, "--quiet", "--url", &server.url, "--out", out];
        bench(&[&fixed[..], &["--duration", "2s", "--warmup", "300ms", "--rate", "60", "--clients", "2"]].concat())
    };
    let (a, b) = (place.join("a"), place.join("b"));
    for out in [&a, &b] {
        let output = run(out);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        for word in ["steady: open loop, 60/s", "clients: closed loop, 2 clients", "p99.99", "aggregate"] {
            assert!(text(&output).contains(word), "[{word}] is missing in {}", text(&output));
        }
    }
    let bytes = std::fs::read(a.join("result.json")).expect("results");
    let results: Value = serde_json::from_slice(&bytes).expect("JSON");
    let steady = &results["runs"][0];
    let all = &steady["operations"][0];
    assert_eq!((&steady["phase"], &all["name"]), (&"steady".into(), &"all".into()));
    // A Poisson stream of 60/s over 2 s, seeded: 120 give or take five deviations.
    let requests = all["requests"].as_u64().expect("a count");
    assert!((65..=175).contains(&requests), "{requests}");
    assert_eq!((&all["latency"]["count"], &all["failed"]), (&requests.into(), &0.into()));
    let sum: u64 = steady["operations"].as_array().expect("operations")[1..]
        .iter()
        .map(|o| o["requests"].as_u64().expect("a count"))
        .sum();
    assert_eq!(sum, requests);
    let log = std::fs::read_to_string(a.join("latency.hlog")).expect("a log");
    assert!(log.starts_with("#[Histogram log format version 1.3]") && log.contains("Tag=get,"), "{log}");
    let page = std::fs::read_to_string(a.join("report.html")).expect("a report");
    assert!(page.contains("<svg") && !page.contains("http-equiv") && !page.contains("src="), "self-contained");

    // The same seed: the same requests.
    let again: Value = serde_json::from_slice(&std::fs::read(b.join("result.json")).expect("results")).expect("JSON");
    assert_eq!(again["runs"][0]["operations"][0]["requests"], all["requests"]);

    let output = bench(&["compare", a.to_str().expect("UTF-8"), b.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("B is"), "{}", text(&output));
    drop(server);
    std::fs::remove_dir_all(&place).expect("it can go");
}

#[test]
fn failures_are_counted_and_tell_the_exit_code() {
    let place = fresh_directory("bench-failures");
    let server = Server::start(&place.join("data"));
    let file = place.join("w.toml");
    let text_of = "interval = '200ms'\n[operation.missing]\nkind = 'get'\nid = '1'\n\
                   [operation.broken]\nkind = 'bulk'\ndocuments = 2\nid = '1'\naction = 'update'\nbody = '{\"doc\":{}}'\n\
                   [[phase]]\nname = 'p'\nclients = 1\nrequests = 40\n";
    std::fs::write(&file, text_of).expect("a workload");
    let out = place.join("out");
    let file = file.to_str().expect("UTF-8");
    let output = bench(&["run", file, "-q", "--url", &server.url, "--out", out.to_str().expect("UTF-8")]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("missing: status 404: ") && shown.contains("broken: bulk item 404: "), "{shown}");
    assert!(shown.contains("document_missing_exception"), "an example of an error: {shown}");
    drop(server);
    std::fs::remove_dir_all(&place).expect("it can go");
}

#[test]
fn every_ready_workload_is_valid_and_a_wrong_one_is_refused_before_anything_is_sent() {
    let place = fresh_directory("bench-files");
    let out = place.join("out");
    let refused = |file: &Path| {
        // Nobody listens there.
        let file = file.to_str().expect("UTF-8");
        bench(&["run", file, "-q", "--url", "http://127.0.0.1:1", "--out", out.to_str().expect("UTF-8")])
    };
    for entry in std::fs::read_dir(workload("")).expect("workloads") {
        let path = entry.expect("an entry").path();
        let output = refused(&path);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains("GET http://127.0.0.1:1/"), "{}: {}", path.display(), text(&output));
    }
    let wrong = place.join("wrong.toml");
    std::fs::write(&wrong, "[[phase]]\nname = 'p'\nspeed = 9\n").expect("a file");
    let output = refused(&wrong);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("unknown field `speed`"), "{}", text(&output));
    std::fs::remove_dir_all(&place).expect("it can go");
}

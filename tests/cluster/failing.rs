//! Nodes fail under load: nothing acknowledged is lost, and the cluster goes on soon.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::history::{self, Outcome, Reads, Rule, Violation};
use crate::http::Client;
use crate::nodes::{Cluster, PATIENCE};
use crate::workload::{Plan, Report, Workload};

pub const INDEX: &str = "docs";

pub fn plan(cluster: &Cluster) -> Plan {
    Plan {
        index: INDEX.into(),
        nodes: cluster.nodes.iter().map(|node| node.http).collect(),
        clients: 4,
        documents: 8,
        timeout: Duration::from_secs(4),
        pause: Duration::from_millis(5),
        read_parameters: "",
    }
}

/// A formed cluster with an index of one shard and two copies, both there.
pub fn replicated(test: &str, nodes: usize) -> Cluster {
    let cluster = Cluster::formed(test, nodes);
    cluster.create(0, INDEX, 1);
    cluster.wait_health(0, "green");
    cluster
}

/// Waits for writes to be acknowledged that began now.
fn wait_written(cluster: &Cluster, load: &Workload, more: u64) {
    let before = load.written();
    cluster.wait("writes", PATIENCE, || (load.written() >= before + more).then_some(()));
}

/// Everything that is wrong with what clients were told.
pub fn judge(report: &Report) -> Vec<Violation> {
    eprintln!("figure: {}", report.summary());
    history::check(&report.history, Reads::AnyCopy)
}

/// Takes out what an older state explains that began in one of the times given: reads, and refusals of conditions. A node
/// that does not know yet that it was replaced gives such answers. Nothing excuses a write.
pub fn excuse_stale(wrong: &mut Vec<Violation>, times: &[(u64, u64)]) -> usize {
    let within = |begin: u64| times.iter().any(|(from, to)| (*from..*to).contains(&begin));
    let old = [Rule::StaleRead, Rule::LostDocument, Rule::FalseConflict];
    wrong.extract_if(.., |v| old.contains(&v.rule) && within(v.op.begin)).count()
}

/// Every document as node `n` answers.
fn documents(address: SocketAddr, count: u32) -> BTreeMap<u32, Value> {
    let mut client = Client::new(address, PATIENCE);
    let read = |document: u32| {
        let (_, mut answer) = client.ask("GET", &format!("/{INDEX}/_doc/d{document}"), None).expect("an answer");
        assert!(answer["found"].is_boolean(), "{answer}");
        (document, answer.take())
    };
    (0..count).map(read).collect()
}

/// Kills whoever has the primary, one after the other: each copy has to answer the same.
pub fn compare_copies(cluster: &mut Cluster, documents_count: u32) {
    let mut expected = None;
    for _ in 0..2 {
        let any = cluster.running()[0];
        cluster.wait_health(any, "green");
        let primary = cluster.primary(any, INDEX).expect("a primary");
        let got = documents(cluster.nodes[any].http, documents_count);
        if let Some(expected) = &expected {
            assert_eq!(*expected, got, "another copy answers otherwise");
        }
        expected = Some(got);
        cluster.nodes[primary].kill();
        let any = cluster.running()[0];
        cluster.wait("another primary", PATIENCE, || cluster.primary(any, INDEX).filter(|p| *p != primary));
        let got = documents(cluster.nodes[any].http, documents_count);
        assert_eq!(expected.as_ref(), Some(&got), "the copy that took over answers otherwise");
        cluster.start(primary);
        cluster.wait_joined();
    }
}

#[test]
fn a_killed_primary_is_replaced_without_loss() {
    let mut cluster = replicated("primary", 3);
    let load = Workload::start(plan(&cluster));
    wait_written(&cluster, &load, 100);
    let primary = cluster.primary(0, INDEX).expect("a primary");
    let begun = Instant::now();
    cluster.nodes[primary].kill();
    let survivor = cluster.running()[0];
    cluster.wait("another primary", PATIENCE, || cluster.primary(survivor, INDEX).filter(|p| *p != primary));
    let promoted = begun.elapsed();
    wait_written(&cluster, &load, 1);
    eprintln!("figure: promoted after {promoted:?}, first write after {:?}", begun.elapsed());
    wait_written(&cluster, &load, 100);
    cluster.start(primary);
    cluster.wait_joined();
    cluster.wait_health(survivor, "green");
    wait_written(&cluster, &load, 100);
    let report = load.finish(cluster.nodes[survivor].http);
    let wrong = judge(&report);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let terms: Vec<u64> = report
        .history
        .iter()
        .filter_map(|op| match op.outcome {
            Outcome::Done((term, _)) => Some(term),
            _ => None,
        })
        .collect();
    assert_eq!((terms.iter().min(), terms.iter().max()), (Some(&1), Some(&2)));
    let gap = Duration::from_nanos(history::longest_gap(&report.history));
    assert!(gap < Duration::from_secs(5), "nothing was written for {gap:?}");
    compare_copies(&mut cluster, 8);
}

#[test]
fn a_frozen_primary_is_replaced_without_loss() {
    let mut cluster = replicated("frozen-primary", 3);
    let load = Workload::start(plan(&cluster));
    wait_written(&cluster, &load, 100);
    let primary = cluster.primary(0, INDEX).expect("a primary");
    cluster.nodes[primary].freeze();
    let frozen = load.now();
    let survivor = cluster.running()[0];
    cluster.wait("another primary", PATIENCE, || cluster.primary(survivor, INDEX).filter(|p| *p != primary));
    wait_written(&cluster, &load, 100);
    cluster.nodes[primary].thaw();
    cluster.wait_joined();
    cluster.wait_health(survivor, "green");
    let healed = load.now();
    wait_written(&cluster, &load, 100);
    let report = load.finish(cluster.nodes[survivor].http);
    let mut wrong = judge(&report);
    // A primary that slept through its replacement may answer a read before it hears of it.
    let stale = excuse_stale(&mut wrong, &[(frozen, healed)]);
    eprintln!("figure: {stale} stale reads from the thawed primary");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_rolling_restart_fails_no_request() {
    let mut cluster = replicated("rolling", 3);
    // Nobody hangs here; but a node may take long to start on a busy machine, and its socket already listens.
    let load = Workload::start(Plan { timeout: Duration::from_secs(30), ..plan(&cluster) });
    for n in 0..3 {
        wait_written(&cluster, &load, 50);
        assert_eq!(cluster.nodes[n].stop(), 0);
        let other = cluster.running()[0];
        wait_written(&cluster, &load, 20);
        cluster.start(n);
        cluster.wait_joined();
        cluster.wait_health(other, "green");
    }
    let report = load.finish(cluster.nodes[0].http);
    let wrong = judge(&report);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(report.strange.is_empty(), "{:?}", report.strange);
    // A request may cross with the closing of the kept connection that it is sent on: once per client and stop at most.
    let crossed = report.count(|o| *o == Outcome::Unknown);
    assert!(crossed <= 3, "{crossed} requests without an answer");
}

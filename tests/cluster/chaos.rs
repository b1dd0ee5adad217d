//! Random failures of nodes and network under load, for as long as asked.
//!
//! `RINGDEX_CHAOS_SECONDS=600`; `RINGDEX_CHAOS_SEED=n` for another order of them, `RINGDEX_CHAOS_DEFAULTS=1` for the default
//! time-outs of fault detection (a silent node is then missed after half a minute). The network is cut where namespaces can be
//! made: on Linux, as root.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::calls::Dice;
use crate::failing::{INDEX, compare_copies, excuse_stale, judge, plan};
use crate::history::{Op, Reads, check, longest_gap};
use crate::network::Network;
use crate::nodes::{Cluster, PATIENCE};
use crate::workload::{Plan, Workload};

const DOCUMENTS: u32 = 96;

/// For how long; none = not at all.
fn asked() -> Option<Duration> {
    let seconds = std::env::var("RINGDEX_CHAOS_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("RINGDEX_CHAOS_SECONDS is a number")))
}

fn seed() -> u64 {
    std::env::var("RINGDEX_CHAOS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Stop,
    Freeze,
    /// Nothing reaches it, and nothing of it reaches others.
    CutOff,
    /// Nothing of it reaches others.
    Mute,
    /// Nothing of others reaches it.
    Deaf,
    /// What it sends to one of the others is lost.
    OneLink,
}

impl Fault {
    const PROCESS: &[Fault] = &[Fault::Kill, Fault::Kill, Fault::Stop, Fault::Freeze];
    const ALL: &[Fault] = &[
        Fault::Kill,
        Fault::Kill,
        Fault::Stop,
        Fault::Freeze,
        Fault::CutOff,
        Fault::Mute,
        Fault::Deaf,
        Fault::OneLink,
    ];

    fn happen(self, cluster: &mut Cluster, network: Option<&Network>, victim: usize) {
        let others: Vec<usize> = (0..3).filter(|n| *n != victim).collect();
        let cut = |from, to| network.expect("a network to cut").cut(from, to);
        match self {
            Fault::Kill => cluster.nodes[victim].kill(),
            Fault::Stop => assert_eq!(cluster.nodes[victim].stop(), 0),
            Fault::Freeze => cluster.nodes[victim].freeze(),
            Fault::OneLink => cut(victim, others[0]),
            Fault::CutOff | Fault::Mute | Fault::Deaf => {
                for other in others {
                    if self != Fault::Deaf {
                        cut(victim, other);
                    }
                    if self != Fault::Mute {
                        cut(other, victim);
                    }
                }
            }
        }
    }

    fn end(self, cluster: &mut Cluster, network: Option<&Network>, victim: usize) {
        match self {
            Fault::Kill | Fault::Stop => cluster.start(victim),
            Fault::Freeze => cluster.nodes[victim].thaw(),
            Fault::CutOff | Fault::Mute | Fault::Deaf | Fault::OneLink => network.expect("a network").heal(),
        }
    }

    /// Whether the node lives on and may not know yet that it was replaced.
    fn is_hidden(self) -> bool {
        !matches!(self, Fault::Kill | Fault::Stop)
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let Some(length) = asked() else { return eprintln!("skipped: RINGDEX_CHAOS_SECONDS is not set") };
    let network = Network::new(3).inspect_err(|why| eprintln!("no network namespaces here: {why}")).ok();
    let mut cluster = match &network {
        Some(network) => Cluster::at("chaos", network.places()),
        None => Cluster::new("chaos", 3),
    };
    if std::env::var("RINGDEX_CHAOS_DEFAULTS").is_ok() {
        cluster.use_default_time_outs();
    }
    (0..3).for_each(|n| cluster.start(n));
    cluster.wait_joined();
    cluster.ignore_disks();
    cluster.create(0, INDEX, 1);
    cluster.wait_health(0, "green");
    let faults = if network.is_some() { Fault::ALL } else { Fault::PROCESS };
    let mut dice = Dice::new(seed());
    let load = Workload::start(Plan { clients: 24, documents: DOCUMENTS, pause: Duration::ZERO, ..plan(&cluster) });
    let begun = Instant::now();
    let mut rounds: Vec<(Fault, u64, u64)> = Vec::new();
    while begun.elapsed() < length {
        let victim = rounds.len() % 3;
        std::thread::sleep(Duration::from_millis(200 + dice.roll(1500)));
        let fault = faults[dice.roll(faults.len() as u64) as usize];
        eprintln!("round {}: {} {fault:?}", rounds.len() + 1, cluster.nodes[victim].name);
        let (from, before) = (load.now(), load.written());
        fault.happen(&mut cluster, network.as_ref(), victim);
        cluster.wait("writes to go on", PATIENCE, || (load.written() > before + 50).then_some(()));
        std::thread::sleep(Duration::from_millis(dice.roll(6000)));
        fault.end(&mut cluster, network.as_ref(), victim);
        // Copies that were not made again could all be lost next.
        cluster.wait_joined();
        cluster.wait_health(cluster.running()[0], "green");
        rounds.push((fault, from, load.now()));
    }
    let took = begun.elapsed().as_secs_f64();
    eprintln!("figure: {} failures, {:.0} writes/s", rounds.len(), load.written() as f64 / took);
    let report = load.finish(cluster.nodes[0].http);
    let mut slowest: BTreeMap<Fault, (usize, u64)> = BTreeMap::new();
    for (fault, from, to) in &rounds {
        let meanwhile: Vec<Op> = report.history.iter().filter(|op| (*from..*to).contains(&op.end)).copied().collect();
        let (count, most) = slowest.entry(*fault).or_default();
        (*count, *most) = (*count + 1, (*most).max(longest_gap(&meanwhile)));
    }
    for (fault, (count, most)) in slowest {
        eprintln!("figure: {fault:?}: {count} times, no write for {} ms at most", most / 1_000_000);
    }
    let mut wrong = judge(&report);
    let hidden: Vec<(u64, u64)> = rounds.iter().filter(|r| r.0.is_hidden()).map(|(_, from, to)| (*from, *to)).collect();
    let stale = excuse_stale(&mut wrong, &hidden);
    let of_any = check(&report.history, Reads::Acknowledged).len();
    eprintln!(
        "figure: {stale} stale answers around nodes that were replaced without hearing of it; of any copy: {of_any}"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    compare_copies(&mut cluster, DOCUMENTS);
}

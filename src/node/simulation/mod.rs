//! Whole nodes in one process: the production driver, REST layer, shards and engine over a simulated clock, network and disks,
//! from one seed.
//!
//! A run: three nodes form a cluster; clients write, read, compare-and-set, delete and send bulks through the REST layer of all of
//! them while one node after the other suffers a [`Fault`](faults::Fault). Then all heals, and:
//! - what clients were told of each document can be explained by one order of its writes (`tests/cluster/history.rs`): no
//!   acknowledged write is lost, no two have one place, conditions held and refusals were right;
//! - every copy of a shard has come back, has the same content, and shows it to searches;
//! - every node answers for all of them.
//!
//! A failing run names its seed; `RINGDEX_SEED=n` runs that one (with `RUST_LOG=debug` it tells what happens), `RINGDEX_SEEDS=n`
//! so many, beginning with `RINGDEX_SEEDS_FROM=n`.

#[path = "../../../tests/cluster/calls.rs"]
mod calls;
mod checks;
mod faults;
#[allow(dead_code, reason = "some of it is for real processes")]
#[path = "../../../tests/cluster/history.rs"]
mod history;
mod network;
mod workload;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::history::{Call, Condition, Op, Outcome, Version};
use self::network::{End, Network, Way, address, id};
use super::tests::{index, put, shard};
use super::*;
use crate::backend::Backend;
use crate::io::Lane;
use crate::mesh::Desk;
use crate::metastore::MetaStore;
use crate::shard::message::{ShardRequest, ShardResponse};
use crate::sim::SimWorld;

const NODES: usize = 3;

/// How long a call of a healthy disk takes at most.
const BASE_LATENCY: Duration = Duration::from_millis(2);

struct Run {
    world: SimWorld,
    network: Rc<Network>,
    /// Of the index that is written to.
    shards: u32,
    /// Of each shard, primary included.
    copies: usize,
    cores: RefCell<BTreeMap<usize, Rc<Core<SimWorld>>>>,
    history: RefCell<Vec<Op>>,
    /// The highest version of each document that a client was told.
    newest: RefCell<HashMap<u32, Version>>,
    /// From when to when a node may have been asked that had not heard of the newest state.
    hidden: RefCell<Vec<(u64, u64)>>,
    values: Cell<u64>,
    quiet: Cell<bool>,
    clients: Cell<usize>,
}

fn data(node: usize) -> PathBuf {
    PathBuf::from(format!("/n{node}"))
}

impl Run {
    async fn start(self: &Rc<Self>, node: usize) {
        let io = self.world.machine(node as u32 + 1);
        let (store, loaded) = MetaStore::open(io.disk(&data(node))).await.expect("the store opens");
        let name = format!("n{node}");
        let info = NodeInfo {
            name: name.clone(),
            id: id(node).to_string(),
            ephemeral_id: io.random().to_string(),
            transport_address: address(node).to_string(),
            cores: 1,
            ..NodeInfo::default()
        };
        let config = Config {
            data: data(node),
            name,
            transport: Some(address(node)),
            seed_hosts: (0..NODES).map(address).collect(),
            initial_master_nodes: (0..NODES).map(|n| format!("n{n}")).collect(),
            ..Config::default()
        };
        let shared = Shared::new(info, config, 1);
        let desk = || {
            let desk = Desk::new();
            io.spawn(Lane::Write, Box::pin(Rc::clone(&desk).serve()));
            desk
        };
        let way = || Rc::new(Way { network: Rc::clone(&self.network), from: node, io: io.clone() });
        let core = Core::new(io.clone(), 0, Arc::clone(&shared), desk());
        core.set_transport(way());
        let (mailbox, state, spawner) = (Arc::clone(&shared.cores[0]), Rc::clone(&core), io.clone());
        let serve = async move { mailbox.serve(state, 1000, |lane, task| spawner.spawn(lane, task)).await };
        io.spawn(Lane::Search, Box::pin(serve));
        let started =
            start_master(io.clone(), Arc::clone(&shared), desk(), store, loaded, Found::default(), Some(way()));
        let master = started.await.expect("the node starts");
        let end =
            End { cluster: Rc::new(ClusterCalls(Rc::clone(&master))), core: Rc::new(CoreCalls(Rc::clone(&core))) };
        let spawner = io.clone();
        let serve =
            async move { Arc::clone(&shared.master).serve(master, 1000, |lane, task| spawner.spawn(lane, task)).await };
        io.spawn(Lane::Write, Box::pin(serve));
        self.network.ends.borrow_mut().insert(node, end);
        self.cores.borrow_mut().insert(node, core);
    }

    fn kill(&self, node: usize, power: bool) {
        self.network.ends.borrow_mut().remove(&node);
        self.network.observers.borrow_mut().remove(&node);
        *self.network.lives.borrow_mut().entry(node).or_default() += 1;
        // What clients wait for through it stays unanswered: nobody holds the core any more but they.
        let core = self.cores.borrow_mut().remove(&node);
        self.world.machine(node as u32 + 1).crash_machine(&data(node), power);
        if let Some(core) = core {
            core.abandon();
        }
        self.network.hang_up(node);
    }

    /// Everything holds everything else: lets go of it all.
    fn end(&self) {
        self.network.ends.borrow_mut().clear();
        self.network.observers.borrow_mut().clear();
        self.world.drop_tasks();
        self.cores.take().into_values().for_each(|core| core.abandon());
    }

    /// Some clients ask and write until [`end_clients`](Self::end_clients).
    fn begin_clients(self: &Rc<Self>) {
        for _ in 0..4 {
            self.world.spawn(Lane::Write, Box::pin(Rc::clone(self).client()));
        }
    }

    async fn end_clients(&self) {
        self.quiet.set(true);
        while self.clients.get() > 0 {
            self.world.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has shard 0 moved from one node to another.
    async fn move_copy(&self, from: usize, to: usize) {
        let command = serde_json::json!({"commands": [{"move": {
            "index": "a", "shard": 0, "from_node": format!("n{from}"), "to_node": format!("n{to}"),
        }}]});
        let (status, answer) = self.ask(to, "POST /_cluster/reroute", &command.to_string()).await.expect("it answers");
        assert_eq!(status, 200, "{answer}");
    }

    /// Writes a document.
    async fn put(&self, node: usize, document: u32) -> Outcome {
        self.one(node, document, Call::Write { value: Some(self.next_value()), condition: Condition::None }).await
    }
}

/// Three nodes, and what is to become an index on them.
fn run(seed: u64, shards: u32, copies: usize) -> Rc<Run> {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().try_init();
    }
    let world = SimWorld::new(seed);
    for node in 0..NODES {
        world.set_latency(&data(node), BASE_LATENCY);
    }
    let network = Network::new(world.clone());
    Rc::new(Run {
        world,
        network,
        shards,
        copies,
        cores: RefCell::default(),
        history: RefCell::default(),
        newest: RefCell::default(),
        hidden: RefCell::default(),
        values: Cell::new(0),
        quiet: Cell::new(false),
        clients: Cell::new(0),
    })
}

async fn form(run: &Rc<Run>) {
    for node in 0..NODES {
        run.start(node).await;
    }
    let mut replicated = IndexMetadata::clone(&index("a", 1, run.shards));
    replicated.number_of_replicas = run.copies as u32 - 1;
    replicated.settings.insert("index.unassigned.node_left.delayed_timeout".into(), "0ms".into());
    let replicated = Arc::new(replicated);
    loop {
        let core = run.cores.borrow()[&0].clone();
        if core.is_recovered() && core.update_state("create", put(Arc::clone(&replicated))).await.is_ok() {
            break;
        }
        run.world.sleep(Duration::from_millis(200)).await;
    }
    assert!(run.settled().await, "the cluster does not form");
}

fn simulate(seed: u64) -> u64 {
    let run = run(seed, 1 + u32::from(seed % 3 == 1), if seed.is_multiple_of(2) { 3 } else { 2 });
    let world = run.world.clone();
    world.block_on(async {
        form(&run).await;
        run.begin_clients();
        run.suffer().await;
        tracing::info!(ms = world.monotonic_ns() / 1_000_000, "all heals");
        run.end_clients().await;
        assert!(run.settled().await, "seed {seed}: not all copies came back: {:#?}", run.describe());
        world.sleep(Duration::from_secs(5)).await;
        assert!(run.settled().await, "seed {seed}: a copy has gone again: {:#?}", run.describe());
        tracing::info!(ms = world.monotonic_ns() / 1_000_000, "checks");
        run.check(seed).await;
    });
    run.end();
    world.random()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whole_nodes_lose_nothing_under_faults() {
    if let Some(seed) = setting("RINGDEX_SEED") {
        simulate(seed);
        return;
    }
    let seeds = setting("RINGDEX_SEEDS").unwrap_or(12);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let first = setting("RINGDEX_SEEDS_FROM").unwrap_or(0);
    let (next, end) = (AtomicU64::new(first), first + seeds);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // A few tell enough.
                if seed >= end || failed.lock().expect("nobody panics with it").len() >= 5 {
                    return;
                }
                if catch_unwind(|| simulate(seed)).is_err() {
                    eprintln!("RINGDEX_SEED={seed} replays what has failed");
                    failed.lock().expect("nobody panics with it").push(seed);
                }
            }
        };
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

#[test]
fn a_seed_replays() {
    assert_eq!(simulate(3), simulate(3));
}

/// A node loses power after the others have committed and freed what they could: it lacks nothing that they have not kept.
#[test]
fn a_copy_that_lost_power_catches_up_by_operations() {
    let run = run(5, 1, 3);
    run.world.block_on(async {
        form(&run).await;
        let home = 0;
        let core = run.cores.borrow()[&home].clone();
        let state = core.state();
        let copies = state.routing["uuid-a"].copies(0);
        let node = copies.iter().find(|copy| !copy.primary && copy.node != Some(id(0))).and_then(|copy| copy.node);
        let replica = (0..NODES).find(|n| Some(id(*n)) == node).expect("a node has it");
        let flush = |node| core.copy(&shard("a", 0), node, ShardRequest::Flush { force: false, wait_if_ongoing: true });
        for round in 0..3 {
            for document in 0..20 {
                assert!(matches!(run.put(home, document).await, Outcome::Done(_)), "it is written");
            }
            run.world.sleep(Duration::from_secs(2)).await;
            for other in (0..NODES).filter(|other| *other != replica || round == 0) {
                flush(id(other)).await.expect("it commits");
            }
        }
        run.kill(replica, true);
        for document in 0..20 {
            while !matches!(run.put(home, document).await, Outcome::Done(_)) {}
        }
        run.start(replica).await;
        assert!(run.settled().await, "it does not come back");
        let Ok(ShardResponse::Stats(stats)) = core.copy(&shard("a", 0), id(replica), ShardRequest::Stats).await else {
            panic!("no statistics");
        };
        let made = stats.recovery.expect("it was made from its primary");
        assert_eq!(made.files_total, 0, "{made:?}");
        assert!(made.operations >= 20, "{made:?}");
    });
}

#[test]
fn a_copy_that_moves_leaves_nothing_behind() {
    let run = run(7, 1, 2);
    run.world.block_on(async {
        form(&run).await;
        for document in 0..8 {
            assert!(matches!(run.put(0, document).await, Outcome::Done(_)), "it is written");
        }
        let state = run.cores.borrow()[&0].state();
        let on = |node: usize| state.routing["uuid-a"].on_node(0, id(node)).is_some();
        let from = (0..NODES).find(|node| on(*node)).expect("a node has it");
        let to = (0..NODES).find(|node| !on(*node)).expect("a node is free");
        let files = |node| run.world.disks(&data(node).join("indices/uuid-a/0")).len();
        assert_eq!((files(from), files(to)), (1, 0));
        run.move_copy(from, to).await;
        for _ in 0..100 {
            run.world.sleep(Duration::from_millis(100)).await;
            if files(from) == 0 {
                break;
            }
        }
        assert!(run.settled().await, "it does not arrive: {:#?}", run.describe());
        assert_eq!((files(from), files(to)), (0, 1));
        for document in 0..8 {
            assert!(matches!(run.one(from, document, Call::Read).await, Outcome::Found(..)));
        }
    });
    run.end();
}

/// A replica is to go back for a new primary, and has a flush to end first, when that primary dies.
#[test]
fn a_copy_that_is_promoted_while_it_goes_back_keeps_what_it_acknowledges() {
    for seed in 0..12 {
        let run = run(seed, 1, 2);
        let world = run.world.clone();
        world.block_on(async {
            form(&run).await;
            run.begin_clients();
            world.sleep(Duration::from_millis(500)).await;
            let node_of = |primary: bool| {
                let state = run.cores.borrow()[&0].state();
                let copy = state.routing["uuid-a"].copies(0).iter().find(|copy| copy.primary == primary).cloned();
                (0..NODES).find(|n| copy.as_ref().and_then(|copy| copy.node) == Some(id(*n))).expect("it is there")
            };
            let (from, replica) = (node_of(true), node_of(false));
            let to = 3 - from - replica;
            world.set_latency(&data(replica), Duration::from_millis(4 + seed * 3));
            let flushing = Rc::new(Cell::new(true));
            let (core, go_on) = (run.cores.borrow()[&replica].clone(), Rc::clone(&flushing));
            world.spawn(
                Lane::Write,
                Box::pin(async move {
                    while go_on.get() {
                        let flush = ShardRequest::Flush { force: true, wait_if_ongoing: true };
                        let _ = core.copy(&shard("a", 0), id(replica), flush).await;
                    }
                }),
            );
            run.move_copy(from, to).await;
            let arrived = |node: usize| {
                let state = run.cores.borrow()[&node].state();
                let copy = state.routing["uuid-a"].on_node(0, id(to)).cloned();
                copy.is_some_and(|copy| copy.primary && copy.active())
            };
            while !arrived(to) || !arrived(replica) {
                world.sleep(Duration::from_millis(1)).await;
            }
            world.sleep(Duration::from_millis(2 + seed)).await;
            run.kill(to, false);
            world.sleep(Duration::from_millis(1_500)).await;
            flushing.set(false);
            world.set_latency(&data(replica), BASE_LATENCY);
            run.start(to).await;
            run.end_clients().await;
            assert!(run.settled().await, "seed {seed}: not all copies came back: {:#?}", run.describe());
            run.check(seed).await;
        });
        run.end();
    }
}

#[test]
fn no_read_misses_what_was_acknowledged_while_copies_move() {
    for seed in 0..10 {
        let run = run(seed, 1, 2);
        let world = run.world.clone();
        world.block_on(async {
            form(&run).await;
            run.begin_clients();
            for _ in 0..6 {
                assert!(run.settled().await, "it does not arrive: {:#?}", run.describe());
                let state = run.cores.borrow()[&0].state();
                let on = |node: usize| state.routing["uuid-a"].on_node(0, id(node)).is_some();
                let to = (0..NODES).find(|node| !on(*node)).expect("a node is free");
                let from = (to + 1 + world.random() as usize % 2) % NODES;
                // It hears late that it has no copy any longer.
                run.network.slow.set(Some(from));
                run.move_copy(from, to).await;
                world.sleep(Duration::from_millis(1_000)).await;
                run.network.heal();
            }
            run.end_clients().await;
            assert!(run.settled().await, "it does not arrive: {:#?}", run.describe());
            run.check(seed).await;
        });
        run.end();
    }
}

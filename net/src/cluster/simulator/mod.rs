//! Clusters of coordinators in one thread: invented clock, network and disks, all decided by a seed.
//!
//! A run has three parts. In the first everything goes wrong: messages are lost, doubled, late and out of order, links are cut one
//! way or both, with and without the connection breaking, nodes crash and lose what was not synced, some start again at once, the
//! voting configuration changes at will. Then all faults end: within ten seconds there is a leader that commits three states,
//! and soon after all nodes follow it. In the last part nothing happens, and nothing must change.
//!
//! `RINGDEX_SEEDS=n` runs n seeds instead of a few, `RINGDEX_SEED=n` one of them with a trace of all that happens.

mod checkers;
mod runs;
pub(super) mod value;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{Hash, Hasher};
use std::mem::{discriminant, take};
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::coordinator::{Config, Coordinator, Effect, Event, Mode, Persisted};
use super::election::Random;
use super::ids::NodeId;
use super::liveness::CheckConfig;
use super::messages::Message;
use super::quorum::is_quorum;
use super::state::{DiscoveryNode, Role, VotingConfig};
use super::value::{Position, StateValue};
use checkers::Checkers;
use value::{Tiny, Value};

/// How hard it goes.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    name: &'static str,
    /// How long faults last.
    chaos_ms: u64,
    /// Between two faults, at most.
    fault_every_ms: u64,
    /// Messages lost and doubled, at most, in percent.
    loss: u64,
    doubled: u64,
    /// How late a message may be, now and then.
    late_ms: u64,
    /// Whether voting configurations change at will.
    any_config: bool,
    /// Whether timeouts are Elasticsearch's, rather than short ones.
    default_timeouts: bool,
    /// Until three states are committed, once faults have ended.
    recovers_in_ms: u64,
}

const MILD: Profile = Profile {
    name: "mild",
    chaos_ms: 12_000,
    fault_every_ms: 1_500,
    loss: 2,
    doubled: 2,
    late_ms: 50,
    any_config: false,
    default_timeouts: false,
    recovers_in_ms: 10_000,
};

const HARSH: Profile = Profile {
    name: "harsh",
    chaos_ms: 8_000,
    fault_every_ms: 300,
    loss: 25,
    doubled: 25,
    late_ms: 1_000,
    any_config: true,
    default_timeouts: false,
    recovers_in_ms: 10_000,
};

/// With the timeouts of production, in which a peer that is silent is given half a minute.
const PATIENT: Profile = Profile {
    name: "patient",
    chaos_ms: 60_000,
    fault_every_ms: 8_000,
    default_timeouts: true,
    recovers_in_ms: 100_000,
    ..MILD
};

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of all that happened, in order.
    hash: u64,
    messages: u64,
    commits: usize,
    terms: u64,
    /// From the end of faults to the third commit.
    recovered_ms: u64,
}

enum What {
    Deliver { to: usize, from: NodeId, message: Message<Value> },
    Connected { node: usize, life: u32, peer: usize },
    Disconnected { node: usize, life: u32, peer: usize },
    Synced { node: usize, life: u32 },
    Applied { node: usize, life: u32, position: Position },
    Wake { node: usize, life: u32 },
    Start { node: usize },
    Crash { node: usize, life: u32 },
    Client,
    Fault,
}

struct Item {
    at: (u64, u64),
    what: What,
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.at == other.at
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

struct Write {
    ticket: u64,
    term: u64,
    state: Option<Value>,
}

struct Node {
    info: Arc<DiscoveryNode>,
    life: u32,
    machine: Option<Coordinator<Value>>,
    disk: Persisted<Value>,
    /// Effects behind the write in work.
    queue: VecDeque<Effect<Value>>,
    write: Option<Write>,
    wake_at: Option<u64>,
}

struct World {
    profile: Profile,
    random: Random,
    now: u64,
    items: BinaryHeap<Reverse<Item>>,
    sequence: u64,
    nodes: Vec<Node>,
    /// Messages from one to another get lost.
    cut: Vec<Vec<bool>>,
    loss: u64,
    doubled: u64,
    late_ms: u64,
    late_percent: u64,
    reconfigures: bool,
    initial_masters: usize,
    /// Bound of the first delay of an election.
    stands_within_ms: u64,
    healed: bool,
    /// No more updates.
    quiet: bool,
    checks_machines: bool,
    checkers: Checkers,
    hash: FxHasher,
    trace: bool,
    messages: u64,
    effects: Vec<Effect<Value>>,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u128 + 1)
}

fn index(id: NodeId) -> usize {
    id.0 as usize - 1
}

impl World {
    fn new(seed: u64, profile: Profile, trace: bool) -> World {
        let mut random = Random::new(seed);
        let voters = 3 + random.below(3) as usize;
        let data = usize::from(random.below(3) == 0);
        let nodes = (0..voters + data).map(|n| Node::new(n, n < voters)).collect::<Vec<_>>();
        let count = nodes.len();
        let mut world = World {
            profile,
            now: 0,
            items: BinaryHeap::new(),
            sequence: 0,
            nodes,
            cut: vec![vec![false; count]; count],
            loss: random.below(profile.loss + 1),
            doubled: random.below(profile.doubled + 1),
            late_ms: 1 + random.below(profile.late_ms),
            late_percent: if profile.any_config { 10 + random.below(40) } else { 10 },
            reconfigures: !profile.any_config || random.below(2) == 0,
            initial_masters: 1 + random.below(voters as u64) as usize,
            stands_within_ms: if profile.any_config && random.below(2) == 0 { 8 } else { 100 },
            healed: false,
            quiet: false,
            checks_machines: true,
            checkers: Checkers::default(),
            hash: FxHasher::default(),
            trace,
            messages: 0,
            effects: Vec::new(),
            random,
        };
        for node in 0..count {
            let late = if world.random.below(4) == 0 { world.random.below(profile.chaos_ms) } else { 0 };
            let delay = late + world.random.below(500);
            world.at(delay, What::Start { node });
        }
        world.at(100, What::Client);
        let first = world.random.below(profile.fault_every_ms);
        world.at(first, What::Fault);
        world
    }

    fn at(&mut self, delay: u64, what: What) {
        self.sequence += 1;
        self.items.push(Reverse(Item { at: (self.now + delay, self.sequence), what }));
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Runs until `end`, or until `done`.
    fn run_until(&mut self, end: u64, done: impl Fn(&World) -> bool) {
        while !done(self) && self.items.peek().is_some_and(|Reverse(item)| item.at.0 <= end) {
            let Some(Reverse(item)) = self.items.pop() else { return };
            self.now = item.at.0;
            item.at.0.hash(&mut self.hash);
            discriminant(&item.what).hash(&mut self.hash);
            self.happen(item.what);
        }
        if !done(self) {
            self.now = self.now.max(end);
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { to, from, message } => self.step(to, Event::Message { from, message }),
            What::Connected { node, life, peer } => {
                let reachable = self.nodes[peer].machine.is_some() && !self.cut[node][peer] && !self.cut[peer][node];
                if self.nodes[node].life == life && reachable {
                    let info = Arc::clone(&self.nodes[peer].info);
                    self.step(node, Event::PeerConnected(info));
                }
            }
            What::Disconnected { node, life, peer } => {
                if self.nodes[node].life == life {
                    self.step(node, Event::PeerDisconnected(id(peer)));
                }
            }
            What::Synced { node, life } => {
                if self.nodes[node].life == life {
                    self.synced(node);
                }
            }
            What::Applied { node, life, position } => {
                if self.nodes[node].life == life {
                    self.step(node, Event::Applied(position));
                }
            }
            What::Wake { node, life } => {
                // One that is wanted no more comes, too: then there is another.
                if self.nodes[node].life == life && self.nodes[node].wake_at.is_some_and(|at| at <= self.now) {
                    self.nodes[node].wake_at = None;
                    self.step(node, Event::Tick);
                }
            }
            What::Start { node } => self.start(node),
            What::Crash { node, life } => {
                if self.nodes[node].life == life && !self.healed {
                    self.crash(node);
                    let delay = 1 + self.random.below(5);
                    self.at(delay, What::Start { node });
                }
            }
            What::Client => self.client(),
            What::Fault => self.fault(),
        }
    }

    fn step(&mut self, n: usize, event: Event<Value>) {
        let node = &mut self.nodes[n];
        let Some(machine) = &mut node.machine else { return };
        n.hash(&mut self.hash);
        discriminant(&event).hash(&mut self.hash);
        if self.trace {
            println!("{:>6} {} {:?} <- {event:?}", self.now, n + 1, machine.mode());
        }
        let mut effects = take(&mut self.effects);
        machine.step(self.now, event, &mut effects);
        if self.checks_machines {
            machine.check();
        }
        (machine.term(), machine.mode() as u8, effects.len()).hash(&mut self.hash);
        let deadline = machine.deadline().map(|at| at.max(self.now));
        if self.trace {
            effects.iter().for_each(|effect| println!("       {} -> {effect:?}", n + 1));
        }
        node.queue.extend(effects.drain(..));
        self.effects = effects;
        if deadline.is_some() && deadline < node.wake_at.or(Some(u64::MAX)) {
            let life = node.life;
            // Not at this very moment again: a clock goes on.
            let delay = deadline.map_or(0, |at| at - self.now).max(1);
            node.wake_at = Some(self.now + delay);
            self.at(delay, What::Wake { node: n, life });
        }
        self.drain(n);
    }

    /// Carries out effects up to a write.
    fn drain(&mut self, n: usize) {
        while self.nodes[n].write.is_none() {
            let Some(effect) = self.nodes[n].queue.pop_front() else { return };
            let (from, life) = (id(n), self.nodes[n].life);
            match effect {
                Effect::Persist { ticket, term, state } => {
                    if let Some(state) = state.as_ref().filter(|state| state.master == Some(from)) {
                        self.checkers.published(state);
                        // Leaders fall where it hurts: what they published is with others, and not on their own disk.
                        let first = state.position.term > state.parent.term;
                        if self.profile.any_config && self.percent(if first { 10 } else { 1 }) {
                            self.at(0, What::Crash { node: n, life });
                        }
                    }
                    self.nodes[n].write = Some(Write { ticket, term, state });
                    let slow = self.percent(5) && !self.healed;
                    let delay = 1 + self.random.below(if slow { 300 } else { 5 });
                    self.at(delay, What::Synced { node: n, life });
                }
                Effect::Send { to, message } => {
                    self.checkers.sent(from, to, &message);
                    self.send(n, to, message);
                }
                Effect::Publish { to, state, base } => {
                    self.checkers.published(&state);
                    // What a driver does: a diff that does not fit is answered.
                    let fits = |base: Value| {
                        let last = self.nodes[index(to)].machine.as_ref().map(|machine| machine.last_accepted().uuid);
                        last == Some(base.uuid)
                    };
                    if base.is_none_or(fits) {
                        self.send(n, to, Message::PublishRequest { state });
                    } else {
                        self.send(index(to), from, Message::NeedFull { position: state.position() });
                    }
                }
                Effect::Connect { address } => {
                    let peer: usize = address.parse().expect("an address");
                    let delay = 1 + self.random.below(20);
                    self.at(delay, What::Connected { node: n, life, peer });
                }
                Effect::Commit(state) => {
                    self.checkers.applied(from, &state);
                    let delay = 1 + self.random.below(20);
                    self.at(delay, What::Applied { node: n, life, position: state.position() });
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message<Value>) {
        let to = index(to);
        assert!(to < self.nodes.len(), "{from} tells {to}, who is nobody");
        self.messages += 1;
        discriminant(&message).hash(&mut self.hash);
        if self.cut[from][to] || self.percent(self.loss) {
            return;
        }
        let copies = 1 + u64::from(self.percent(self.doubled));
        for _ in 1..copies {
            let delay = self.delay();
            self.at(delay, What::Deliver { to, from: id(from), message: message.clone() });
        }
        let delay = self.delay();
        self.at(delay, What::Deliver { to, from: id(from), message });
    }

    fn delay(&mut self) -> u64 {
        let late = self.percent(self.late_percent);
        1 + self.random.below(if late { self.late_ms } else { 10 })
    }

    fn synced(&mut self, n: usize) {
        let Some(Write { ticket, .. }) = self.settle(n) else { return };
        self.step(n, Event::Persisted(ticket));
    }

    /// The write in work is on disk.
    fn settle(&mut self, n: usize) -> Option<Write> {
        let node = &mut self.nodes[n];
        let write = node.write.take()?;
        if planted!(NoSync) {
            return Some(write);
        }
        node.disk.current_term = write.term;
        if let Some(state) = &write.state {
            node.disk.last_accepted = state.clone();
            self.checkers.durable(id(n), state);
        }
        Some(write)
    }

    fn start(&mut self, n: usize) {
        if self.nodes[n].machine.is_some() {
            return;
        }
        let life = self.nodes[n].life;
        let node = &mut self.nodes[n];
        let mut info = DiscoveryNode::clone(&node.info);
        info.ephemeral_id = life.to_string();
        node.info = Arc::new(info);
        let mut config = Config::new(Arc::clone(&node.info));
        config.seeds = (0..self.cut.len()).map(|n| n.to_string()).collect();
        config.initial_masters = (0..self.initial_masters).map(|n| format!("n{n}")).collect();
        config.reconfigures = self.reconfigures;
        config.election.initial_timeout_ms = self.stands_within_ms;
        if !self.profile.default_timeouts {
            config.follower_check = CheckConfig { interval_ms: 300, timeout_ms: 500, retries: 2 };
            config.leader_check = config.follower_check;
            config.find_peers_interval_ms = 300;
            config.publish_timeout_ms = 2_000;
            config.follower_lag_timeout_ms = 3_000;
        }
        self.checkers.restarted(id(n));
        let seed = self.random.draw();
        let node = &mut self.nodes[n];
        let hook = Box::new(|state: Value, _: &_| state);
        node.machine = Some(Coordinator::new(config, node.disk.clone(), hook, self.now, seed));
        self.step(n, Event::Tick);
    }

    fn crash(&mut self, n: usize) {
        if self.nodes[n].machine.is_none() {
            return;
        }
        if self.trace {
            println!("{:>6} {} crashes", self.now, n + 1);
        }
        // What was being written may have arrived.
        if self.percent(50) {
            self.settle(n);
        }
        let node = &mut self.nodes[n];
        node.life += 1;
        (node.machine, node.write, node.wake_at) = (None, None, None);
        node.queue.clear();
        if self.percent(70) {
            (0..self.nodes.len()).for_each(|peer| self.disconnect(peer, n));
        }
    }

    /// A node is told that its connection broke.
    fn disconnect(&mut self, node: usize, peer: usize) {
        let delay = self.random.below(50);
        let life = self.nodes[node].life;
        self.at(delay, What::Disconnected { node, life, peer });
    }

    fn fault(&mut self) {
        if self.healed {
            return;
        }
        let next = 1 + self.random.below(self.profile.fault_every_ms);
        self.at(next, What::Fault);
        let count = self.nodes.len() as u64;
        let n = self.random.below(count) as usize;
        match self.random.below(if self.profile.any_config { 12 } else { 10 }) {
            0 | 1 => {
                self.crash(n);
                let at_once = self.profile.any_config && self.percent(50);
                let most = if at_once { 5 } else { 3_000 };
                let delay = self.random.below(most);
                self.at(delay, What::Start { node: n });
            }
            2 => {
                for n in 0..count as usize {
                    if self.percent(60) {
                        self.crash(n);
                        let delay = self.random.below(1_000);
                        self.at(delay, What::Start { node: n });
                    }
                }
            }
            3 => self.split(|a, b| (a == n) != (b == n)),
            4 => self.split(|a, b| a == n && b != n),
            5 => self.split(|a, b| b == n && a != n),
            6 => {
                let side = self.random.draw();
                self.split(|a, b| (side >> a) & 1 != (side >> b) & 1);
            }
            7 => {
                let peer = self.random.below(count) as usize;
                self.split(|a, b| a == n && b == peer && a != b);
            }
            8 => {
                let peer = self.random.below(count) as usize;
                self.disconnect(n, peer);
                self.disconnect(peer, n);
            }
            // The others believe that the leader is gone; it does not hear of it.
            10 | 11 => {
                let leads = |node: &Node| node.machine.as_ref().is_some_and(|machine| machine.mode() == Mode::Leader);
                let gone = self.nodes.iter().position(leads).unwrap_or(n);
                (0..self.nodes.len()).filter(|n| *n != gone).for_each(|n| self.disconnect(n, gone));
            }
            _ => self.cut.iter_mut().for_each(|row| row.fill(false)),
        }
    }

    /// Cuts these links and no others; sometimes the connections break.
    fn split(&mut self, cut: impl Fn(usize, usize) -> bool) {
        let told = self.percent(50);
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                self.cut[a][b] = cut(a, b);
                if told && self.cut[a][b] {
                    self.disconnect(a, b);
                    self.disconnect(b, a);
                }
            }
        }
    }

    fn client(&mut self) {
        let next = if self.healed { 100 } else { 20 + self.random.below(200) };
        self.at(next, What::Client);
        if self.quiet {
            return;
        }
        for n in 0..self.nodes.len() {
            let Some(machine) = &self.nodes[n].machine else { continue };
            if !machine.accepts_updates() {
                continue;
            }
            let mut value = machine.last_accepted().clone();
            let base = value.position();
            if !self.healed {
                self.vary(&mut value);
            }
            self.sequence += 1;
            self.step(n, Event::Update { id: self.sequence, base, value });
        }
    }

    /// What an operator may do.
    fn vary(&mut self, value: &mut Value) {
        let voters = self.nodes.iter().filter(|node| node.info.is_master_eligible()).count();
        let some = |random: &mut Random| -> VotingConfig {
            let picked = random.draw();
            (0..voters).filter(|n| (picked >> n) & 1 == 1).map(id).collect()
        };
        let what = self.random.below(10);
        if what == 0 {
            let excluded = some(&mut self.random);
            Arc::make_mut(value).exclusions = if excluded.len() * 2 < voters { excluded } else { VotingConfig::new() };
        } else if what < 4 && self.profile.any_config {
            let config = some(&mut self.random);
            if !config.is_empty() {
                Arc::make_mut(value).accepted = config;
            }
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        (self.loss, self.doubled, self.late_ms) = (0, 0, 20);
        self.cut.iter_mut().for_each(|row| row.fill(false));
        for node in 0..self.nodes.len() {
            self.at(0, What::Start { node });
        }
    }

    /// A node that the leader can do without does not hear it any more, but all others.
    fn deafen(&mut self) {
        let Some(leader) = self.leader() else { return };
        let me = leader.leader().map_or(0, index);
        let config = leader.last_accepted().last_committed_config().clone();
        let spare = |n: &usize| {
            let others = (0..self.nodes.len()).filter(|other| other != n).map(id).collect();
            *n != me && is_quorum(&others, &config)
        };
        let spare: Vec<usize> = (0..self.nodes.len()).filter(spare).collect();
        if !spare.is_empty() {
            let deaf = spare[self.random.below(spare.len() as u64) as usize];
            self.cut[me][deaf] = true;
        }
    }

    fn leader(&self) -> Option<&Coordinator<Value>> {
        self.nodes.iter().filter_map(|node| node.machine.as_ref()).find(|machine| machine.is_established())
    }

    /// Whether all nodes follow one leader that has nothing left to do.
    fn is_settled(&self) -> bool {
        self.all_follow() && self.leader().is_some_and(Coordinator::is_at_rest)
    }

    /// Whether all nodes are members and follow one leader.
    fn all_follow(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let members = leader.committed().map_or(0, |state| state.nodes().len());
        let follows = |node: &Node| {
            let machine = node.machine.as_ref();
            let listed = leader.last_accepted().nodes().get(&node.info.id) == Some(&node.info);
            listed
                && machine.is_some_and(|m| m.has_master() && m.leader() == leader.leader() && m.term() == leader.term())
        };
        members == self.nodes.len() && self.nodes.iter().all(follows)
    }
}

impl Node {
    fn new(n: usize, votes: bool) -> Node {
        let info = DiscoveryNode {
            id: id(n),
            name: format!("n{n}"),
            ephemeral_id: String::new(),
            transport_address: n.to_string(),
            http_address: String::new(),
            roles: [if votes { Role::Master } else { Role::Data }].into(),
            attributes: BTreeMap::new(),
            cores: 1,
        };
        let last_accepted = Arc::new(Tiny { auto_shrink: true, ..Tiny::default() });
        Node {
            info: Arc::new(info),
            life: 0,
            machine: None,
            disk: Persisted { current_term: 0, last_accepted },
            queue: VecDeque::new(),
            write: None,
            wake_at: None,
        }
    }
}

/// One run. Panics where something is wrong.
fn run(seed: u64, profile: Profile, checks_machines: bool, trace: bool) -> Outcome {
    let mut world = World::new(seed, profile, trace);
    world.checks_machines = checks_machines;
    world.run_until(profile.chaos_ms, |_| false);
    let healed_at = world.now;
    world.heal();
    let goal = world.checkers.commits() + 3;
    // What was lost before may still count as a failed check.
    let echo_ms = if profile.default_timeouts { 12_000 } else { 1_500 };
    world.run_until(healed_at + profile.recovers_in_ms, |world| {
        world.checkers.commits() >= goal && world.leader().is_some()
    });
    let recovered_ms = world.now - healed_at;
    assert!(
        world.checkers.commits() >= goal,
        "Recovers: no three commits within {recovered_ms} ms after faults have ended"
    );
    world.run_until(healed_at + echo_ms, |_| false);
    world.run_until(healed_at + 2 * profile.recovers_in_ms, World::is_settled);
    assert!(world.is_settled(), "Settles: not all nodes follow one leader that is at rest");
    let term = world.leader().map(Coordinator::term);
    world.run_until(world.now + 3_000, |_| false);
    let same = world.leader().map(Coordinator::term) == term;
    assert!(same && world.all_follow(), "StaysSettled: an election for no reason");
    // Without updates a node that does not hear the leader falls behind by nothing that would keep others from electing it.
    world.quiet = true;
    world.run_until(world.now + 200, |_| false);
    world.deafen();
    world.run_until(world.now + 4_000, |_| false);
    assert!(world.leader().map(Coordinator::term) == term, "StaysSettled: a deaf node brought about an election");
    world.quiet = false;
    world.cut.iter_mut().for_each(|row| row.fill(false));
    let healed_at = world.now;
    world.run_until(healed_at + profile.recovers_in_ms, World::is_settled);
    assert!(world.is_settled(), "Settles: a deaf node that hears again does not come back");
    assert!(
        world.leader().map(Coordinator::term) == term,
        "StaysSettled: a node that came back brought about an election"
    );
    let modes =
        |mode| world.nodes.iter().filter(|node| node.machine.as_ref().is_some_and(|m| m.mode() == mode)).count();
    assert_eq!((modes(Mode::Leader), modes(Mode::Candidate)), (1, 0));
    Outcome {
        hash: world.hash.finish(),
        messages: world.messages,
        commits: world.checkers.commits(),
        terms: term.unwrap_or_default(),
        recovered_ms,
    }
}

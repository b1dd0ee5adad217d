//! One coordinator among peers that say anything at any time, on a disk that is as slow as it likes and may be cut off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::coordinator::{Config, Coordinator, Effect, Event, Mode, Persisted};
use super::super::ids::NodeId;
use super::super::messages::{Join, Message, Progress};
use super::super::state::{ClusterState, DiscoveryNode, Role, VotingConfig};
use super::super::value::{Position, StateValue};
use super::{Input, STEPS_MAX};

type State = Arc<ClusterState>;

const NODES: u8 = 5;

/// Arbitrary bytes as events: whatever comes, the machine keeps its invariants, its term and versions never go back, and no two
/// states that it publishes are alike in term and version.
///
/// Peers may lie, but a peer cannot show this node a state of its own term that it never published: such a state takes the place
/// of what honest peers guarantee, and is not made here.
///
/// # Panics
/// When an invariant is broken.
pub fn fuzz_coordination(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            return;
        }
        world.happen(&mut input);
    }
}

impl Input<'_> {
    fn position(&mut self, near: Position) -> Position {
        Position { term: self.number(near.term), version: self.number(near.version) }
    }

    fn node(&mut self) -> NodeId {
        NodeId(u128::from(1 + self.below(NODES)))
    }

    fn config(&mut self) -> VotingConfig {
        let picked = self.byte();
        (0..NODES).filter(|n| (picked >> n) & 1 == 1).map(|n| NodeId(u128::from(n) + 1)).collect()
    }
}

fn node(id: NodeId, life: u8) -> Arc<DiscoveryNode> {
    Arc::new(DiscoveryNode {
        id,
        name: format!("n{}", id.0),
        ephemeral_id: life.to_string(),
        transport_address: format!("10.0.0.{}:9300", id.0),
        http_address: String::new(),
        roles: if id.0 < u128::from(NODES) { [Role::Master].into() } else { [Role::Data].into() },
        attributes: BTreeMap::new(),
        cores: 1,
    })
}

struct World {
    machine: Coordinator<State>,
    config: Config,
    now: u64,
    life: u8,
    disk: (u64, State),
    /// Effects that wait for the disk, the first of them a write if there is any.
    queue: VecDeque<Effect<State>>,
    effects: Vec<Effect<State>>,
    /// What left this node as its own publication, by term and version.
    published: BTreeMap<Position, State>,
    committed: Position,
    updates: u64,
}

const ME: NodeId = NodeId(1);

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let mut config = Config::new(node(ME, 0));
        config.seeds = vec!["10.0.0.2:9300".into()];
        config.initial_masters = (0..input.below(4)).map(|n| format!("n{}", n + 1)).collect();
        let disk = (0, State::default());
        World {
            machine: machine(&config, &disk, 0),
            config,
            now: 0,
            life: 0,
            disk,
            queue: VecDeque::new(),
            effects: Vec::new(),
            published: BTreeMap::new(),
            committed: Position::default(),
            updates: 0,
        }
    }

    fn happen(&mut self, input: &mut Input<'_>) {
        let last = self.machine.last_accepted().clone();
        let term = self.machine.term();
        match input.below(16) {
            0 => {
                self.now += u64::from(input.byte()) * 50;
                self.step(Event::Tick);
            }
            1 => {
                let peer = node(input.node(), input.below(2));
                self.step(Event::PeerConnected(peer));
            }
            2 => {
                let peer = input.node();
                self.step(Event::PeerDisconnected(peer));
            }
            3 | 4 => self.sync(),
            5 => {
                let position = input.position(self.committed);
                self.step(Event::Applied(position));
            }
            6 => {
                let mut value = last.clone();
                if input.below(4) == 0 {
                    value.set_configs(last.last_committed_config().clone(), input.config());
                }
                let base = if input.below(8) == 0 { input.position(last.position()) } else { last.position() };
                self.updates += 1;
                self.step(Event::Update { id: self.updates, base, value });
            }
            7 => self.restart(input),
            8 if input.below(16) == 0 => self.step(Event::Stop),
            _ => {
                let from = input.node();
                if let Some(message) = self.message(from, term, &last, input) {
                    self.step(Event::Message { from, message });
                }
            }
        }
    }

    fn message(&self, from: NodeId, term: u64, last: &State, input: &mut Input<'_>) -> Option<Message<State>> {
        let near = last.position();
        Some(match input.below(16) {
            0 => Message::PeersRequest {
                node: node(from, input.below(2)),
                peers: vec![node(input.node(), 0)],
                term: input.number(term),
            },
            1 => Message::PeersResponse {
                leader: (input.below(2) == 0).then(|| node(input.node(), 0)),
                peers: vec![node(input.node(), 0)],
                term: input.number(term),
            },
            2 => Message::PreVote { term: input.number(term) },
            3 => Message::PreVoteResponse {
                term: input.number(term),
                last_accepted: input.position(near),
                granted: input.below(4) > 0,
            },
            4 => Message::StartJoin { term: input.number(term), candidate: input.node() },
            5 | 6 => {
                let vote = Join { term: input.number(term), last_accepted: input.position(near) };
                let vote = (input.below(4) > 0).then_some(vote);
                Message::JoinRequest { node: node(from, input.below(2)), term: input.number(term), vote, cluster: None }
            }
            7 | 8 => {
                let mut state = last.clone();
                let position = input.position(near);
                state.stamp(position, from, u128::from(input.byte()));
                state.set_configs(input.config(), input.config());
                state.set_nodes([ME, from].map(|id| (id, node(id, 0))).into());
                Message::PublishRequest { state }
            }
            9 | 10 => {
                let vote = Join { term: input.number(term), last_accepted: input.position(near) };
                let vote = (input.below(4) == 0).then_some(vote);
                Message::PublishResponse { position: input.position(near), vote }
            }
            11 => Message::NeedFull { position: input.position(near) },
            12 => Message::Commit { position: input.position(near) },
            13 => Message::Applied { position: input.position(near) },
            14 if input.below(2) == 0 => Message::FollowerCheck { number: input.number(1), term: input.number(term) },
            14 => Message::LeaderCheck { number: input.number(1), term: input.number(term) },
            _ if input.below(2) == 0 => {
                let progress = Progress {
                    accepted: input.position(near),
                    committed: input.position(near),
                    applied: input.position(near),
                };
                Message::FollowerCheckResponse {
                    number: input.number(1),
                    term: input.number(term),
                    ok: input.below(4) > 0,
                    progress,
                }
            }
            _ => Message::LeaderCheckResponse {
                number: input.number(1),
                term: input.number(term),
                ok: input.below(2) == 0,
            },
        })
    }

    fn step(&mut self, event: Event<State>) {
        let before = (self.machine.term(), self.machine.last_accepted().position());
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(self.now, event, &mut effects);
        self.machine.check();
        let after = (self.machine.term(), self.machine.last_accepted().position());
        assert!(before <= after, "from {before:?} back to {after:?}");
        assert!(self.machine.deadline().is_none_or(|at| at < u64::MAX), "nothing is ever done again");
        self.queue.extend(effects.drain(..));
        self.effects = effects;
        self.carry_out();
    }

    /// What may leave: all that is before the next write.
    fn carry_out(&mut self) {
        while !matches!(self.queue.front(), None | Some(Effect::Persist { .. })) {
            match self.queue.pop_front() {
                Some(Effect::Send { to, message: Message::PublishResponse { position, vote } }) => {
                    assert!(
                        to != ME && self.disk.1.position() >= position,
                        "{position} is answered before it is on disk"
                    );
                    assert!(vote.is_none_or(|vote| vote.term <= self.disk.0), "a vote before its term is on disk");
                }
                Some(Effect::Send { to, message: Message::JoinRequest { vote: Some(vote), .. } }) => {
                    assert!(to != ME && vote.term <= self.disk.0, "a vote before its term is on disk");
                }
                Some(Effect::Publish { state, .. }) => {
                    assert_eq!(state.master, Some(ME), "another's state");
                    let first = self.published.entry(state.position()).or_insert_with(|| state.clone());
                    assert_eq!(first.state_uuid, state.state_uuid, "two states at {}", state.position());
                }
                Some(Effect::Commit(state)) => {
                    let at = state.position();
                    assert!(self.committed < at, "from {} back to {at}", self.committed);
                    self.committed = at;
                }
                _ => {}
            }
        }
    }

    fn sync(&mut self) {
        let Some(Effect::Persist { ticket, term, state }) = self.queue.pop_front() else { return };
        assert!(term >= self.disk.0, "term {term} after {}", self.disk.0);
        self.disk.0 = term;
        self.disk.1 = state.unwrap_or_else(|| self.disk.1.clone());
        self.step(Event::Persisted(ticket));
    }

    /// Loses what is not on disk.
    fn restart(&mut self, input: &mut Input<'_>) {
        self.life = self.life.wrapping_add(1);
        self.queue.clear();
        self.config.node = node(ME, self.life);
        self.committed = Position::default();
        self.machine = machine(&self.config, &self.disk, u64::from(input.byte()));
        self.machine.check();
        assert!(self.machine.mode() == Mode::Candidate && self.machine.committed().is_none());
        self.step(Event::Tick);
    }
}

fn machine(config: &Config, disk: &(u64, State), seed: u64) -> Coordinator<State> {
    let persisted = Persisted { current_term: disk.0, last_accepted: disk.1.clone() };
    Coordinator::new(config.clone(), persisted, Box::new(|state, _| state), 0, seed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_events_break_no_invariant(data in prop::collection::vec(any::<u8>(), 0..3000)) {
            fuzz_coordination(&data);
        }
    }
}

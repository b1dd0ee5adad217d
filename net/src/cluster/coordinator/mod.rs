//! A node's part in the cluster as one machine: finds the others, elects, publishes, notices who is gone.
//!
//! ```text
//!             votes of a quorum                 a leader's publication or check
//! Candidate -------------------> Leader      Candidate -----------------------> Follower
//!     ^                             |            ^                                  |
//!     +--- later term, no quorum ---+            +--- later term, leader is gone ---+
//! ```
//!
//! The driver's part:
//!
//! - `Send`, `Publish`: best effort, in order per peer. A `Publish` with a base may travel as a diff. A receiver whose
//!   `last_accepted` is not that base answers `NeedFull` itself. A diff carries both voting configurations and
//!   `cluster_uuid_committed` in full, whatever the base has: they also change by commits that a peer may have missed.
//! - `Connect`: a cluster lane to this address. Once the handshake has told who is there (same cluster name), `PeerConnected`;
//!   when it breaks, `PeerDisconnected`. A connection to oneself is dropped silently.
//! - `Commit`: hand the state to the node, then `Applied`. Later states may come before; states may be skipped.
//! - Writes are blocked unless [`Coordinator::has_master`].
//! - Updates: one at a time, made from [`Coordinator::last_accepted`], when [`Coordinator::accepts_updates`].

mod candidate;
mod follower;
mod leader;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::coordination::{CoordinationState, Rejected};
use super::discovery::Peers;
use super::election::{Election, ElectionConfig, Random};
use super::ids::NodeId;
use super::liveness::{CheckConfig, Checks, Followers};
use super::messages::{Join, Message, Progress};
use super::publication::{Applying, Publication};
use super::state::DiscoveryNode;
use super::value::{Position, StateValue};

/// Terms and versions above this come from no honest peer.
const COUNT_MAX: u64 = 1 << 62;

/// Settings of a coordinator; the defaults are Elasticsearch's.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node, in this life.
    pub node: Arc<DiscoveryNode>,
    /// `discovery.seed_hosts`: addresses.
    pub seeds: Vec<String>,
    /// `cluster.initial_master_nodes`: names or addresses. Empty: this node waits to be taken into a cluster.
    pub initial_masters: Vec<String>,
    /// `cluster.election.*`
    pub election: ElectionConfig,
    /// `cluster.fault_detection.follower_check.*`
    pub follower_check: CheckConfig,
    /// `cluster.fault_detection.leader_check.*`
    pub leader_check: CheckConfig,
    /// `discovery.find_peers_interval`
    pub find_peers_interval_ms: u64,
    /// `cluster.publish.timeout`
    pub publish_timeout_ms: u64,
    /// `cluster.follower_lag.timeout`
    pub follower_lag_timeout_ms: u64,
    /// Whether the voting configuration follows the nodes. Off only where a test changes it.
    pub reconfigures: bool,
}

impl Config {
    /// The defaults.
    pub fn new(node: Arc<DiscoveryNode>) -> Config {
        Config {
            node,
            seeds: Vec::new(),
            initial_masters: Vec::new(),
            election: ElectionConfig::default(),
            follower_check: CheckConfig::default(),
            leader_check: CheckConfig::default(),
            find_peers_interval_ms: 1_000,
            publish_timeout_ms: 30_000,
            follower_lag_timeout_ms: 90_000,
            reconfigures: true,
        }
    }
}

/// What a node's disk holds of all this.
#[derive(Clone, Debug)]
pub struct Persisted<S> {
    /// `currentTerm`
    pub current_term: u64,
    /// The last accepted state; before the first, a state of version 0 without configurations.
    pub last_accepted: S,
}

/// Which nodes come and go in a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeChanges {
    /// It is the first of this master's term.
    pub elected: bool,
    /// New members. A node that was started anew is in both lists: what it held in its earlier life is gone.
    pub joined: Vec<NodeId>,
    /// Members no more.
    pub left: Vec<NodeId>,
}

/// Completes a state in which nodes come or go (already in `nodes`): routing, the cluster's name. Runs on the leader, before the
/// state is published; term, version, master and configurations are set after it.
pub type OnNodesChanged<S> = Box<dyn FnMut(S, &NodeChanges) -> S>;

/// What a node is to the cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Looks for a leader, or to become one.
    Candidate,
    /// Publishes.
    Leader,
    /// Accepts what the leader publishes.
    Follower,
}

/// What happens to a coordinator.
#[derive(Clone, Debug)]
pub enum Event<S> {
    /// Time has passed.
    Tick,
    /// A peer says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Message<S>,
    },
    /// A cluster lane to this node is open.
    PeerConnected(Arc<DiscoveryNode>),
    /// The cluster lane to this node broke.
    PeerDisconnected(NodeId),
    /// All `Persist` effects up to this ticket are durable.
    Persisted(u64),
    /// The node works with this committed state.
    Applied(Position),
    /// A new state is wanted.
    Update {
        /// Names the update in the answers.
        id: u64,
        /// The state it was made from.
        base: Position,
        /// Its nodes, term, version and master are the coordinator's to set; so are the configurations, unless they change.
        value: S,
    },
    /// `discovery.seed_hosts` changed.
    Seeds(Vec<String>),
    /// The node goes away in order: hands over, and says no more.
    Stop,
}

/// Why an update is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateRejected {
    /// This node does not lead, or has not published in its term yet.
    NotLeader,
    /// Another state is being published.
    Busy,
    /// The state it was made from is not the last one.
    Stale,
}

/// What a driver is to do, in order.
#[derive(Clone, Debug)]
pub enum Effect<S> {
    /// Make durable, then say `Persisted`. Nothing after it happens before.
    Persist {
        /// Increases.
        ticket: u64,
        /// The current term.
        term: u64,
        /// The last accepted state, if it changed.
        state: Option<S>,
    },
    /// Tell a peer.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: Message<S>,
    },
    /// Send a `PublishRequest`.
    Publish {
        /// Whom.
        to: NodeId,
        /// The state.
        state: S,
        /// What the peer was sent last: a diff from it may do.
        base: Option<S>,
    },
    /// Open a cluster lane.
    Connect {
        /// `host:port`
        address: String,
    },
    /// A committed state, to be worked with.
    Commit(S),
    /// There is no leader.
    BecameCandidate {
        /// The current term.
        term: u64,
    },
    /// This node leads. Its first publication is under way.
    BecameLeader {
        /// The current term.
        term: u64,
    },
    /// Another node leads.
    BecameFollower {
        /// The current term.
        term: u64,
        /// Who.
        leader: NodeId,
    },
    /// A committed state is applied by all members, or waited for no longer.
    PublicationDone {
        /// The update.
        id: Option<u64>,
        /// Of the state.
        version: u64,
        /// Members not known to work with it.
        unapplied: Vec<NodeId>,
    },
    /// A state was not committed by this leader. A later leader may still do so.
    PublicationFailed {
        /// The update.
        id: Option<u64>,
        /// Of the state.
        version: u64,
    },
    /// An update is not published.
    UpdateRejected {
        /// The update.
        id: u64,
        /// Why.
        why: UpdateRejected,
    },
    /// A leader does not take this node in.
    JoinRefused {
        /// Who refused.
        by: NodeId,
        /// Why.
        reason: String,
    },
    /// A message was not acted on, for the log.
    Reject {
        /// Whose.
        from: NodeId,
        /// Why.
        why: Rejected,
    },
}

/// What this node says to itself once its disk has it.
#[derive(Clone, Copy, Debug)]
enum Own {
    Vote(Join),
    Accepted(Position),
}

/// The machine. See the module.
///
/// - A leader has won the election of the current term; nobody else believes to have.
/// - Only a leader has a publication, followers and members to be; only a candidate stands for election.
/// - What this node says of itself to itself (its vote, its acceptance) waits for its disk like what it says to others.
pub struct Coordinator<S> {
    config: Config,
    state: CoordinationState<S>,
    on_nodes_changed: OnNodesChanged<S>,
    random: Random,
    now: u64,
    stopped: bool,

    mode: Mode,
    leader: Option<NodeId>,
    /// The highest term heard of.
    max_term_seen: u64,
    /// The newest state known to be committed, in this life.
    committed: Option<S>,
    applied: Position,
    /// The last vote and whom it was for.
    last_join: Option<(NodeId, Join)>,
    ticket: u64,
    own: VecDeque<(u64, Own)>,
    peers: Peers,

    // candidate
    election: Election,
    next_join_at: u64,

    // candidate and leader
    joining: BTreeMap<NodeId, Arc<DiscoveryNode>>,

    // follower
    leader_checks: Checks,

    // leader
    followers: Followers,
    leaving: BTreeMap<NodeId, &'static str>,
    publication: Option<Publication>,
    applying: Vec<Applying>,
}

impl<S: StateValue> Coordinator<S> {
    /// A node that has just started, as a candidate. The first step may be a `Tick` at once.
    pub fn new(
        config: Config,
        persisted: Persisted<S>,
        on_nodes_changed: OnNodesChanged<S>,
        now: u64,
        seed: u64,
    ) -> Coordinator<S> {
        let state = CoordinationState::new(persisted.current_term, persisted.last_accepted);
        Coordinator {
            peers: Peers::new(config.seeds.clone(), now),
            max_term_seen: state.current_term(),
            leader_checks: Checks::new(now),
            config,
            state,
            on_nodes_changed,
            random: Random::new(seed),
            now,
            stopped: false,
            mode: Mode::Candidate,
            leader: None,
            committed: None,
            applied: Position::default(),
            last_join: None,
            ticket: 0,
            own: VecDeque::new(),
            election: Election::default(),
            next_join_at: now,
            joining: BTreeMap::new(),
            followers: Followers::new(),
            leaving: BTreeMap::new(),
            publication: None,
            applying: Vec::new(),
        }
    }

    /// One event; see the contract of machines.
    ///
    /// # Panics
    /// If `out` still holds effects of an earlier step.
    pub fn step(&mut self, now: u64, event: Event<S>, out: &mut Vec<Effect<S>>) {
        assert!(out.is_empty(), "effects of an earlier step were not taken");
        if self.stopped {
            return;
        }
        self.now = self.now.max(now);
        let (before, idle) = (self.mode, matches!(event, Event::Tick));
        match event {
            Event::Tick => {}
            Event::Message { from, message } => self.on_message(from, message, out),
            Event::PeerConnected(node) => self.on_peer_connected(node, out),
            Event::PeerDisconnected(node) => self.on_peer_disconnected(node, out),
            Event::Persisted(ticket) => self.on_persisted(ticket, out),
            Event::Applied(position) => self.on_applied(position, out),
            Event::Update { id, base, value } => self.on_update(id, base, value, out),
            Event::Seeds(seeds) => {
                self.peers.set_seeds(seeds);
                self.peers.next_at = self.now;
            }
            Event::Stop => return self.stop(out),
        }
        match self.mode {
            Mode::Candidate => self.candidate_due(out),
            Mode::Leader => self.leader_due(out),
            Mode::Follower => self.follower_due(out),
        }
        // Else a driver would step for ever.
        let nothing_done = idle && out.is_empty() && self.mode == before;
        debug_assert!(!nothing_done || self.deadline().is_none_or(|at| at > self.now), "what is due is not done");
    }

    /// When to step with `Tick`.
    pub fn deadline(&self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        match self.mode {
            Mode::Candidate => {
                Some(self.election.deadline().map_or(self.peers.next_at, |at| at.min(self.peers.next_at)))
            }
            Mode::Follower => Some(self.leader_checks.deadline(&self.config.leader_check)),
            Mode::Leader => self.leader_deadline(),
        }
    }

    /// Asserts the invariants.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check(&self) {
        self.state.check();
        let me = self.me();
        assert!((self.mode == Mode::Leader) == self.state.election_won(), "{:?} but elected or not", self.mode);
        match self.mode {
            Mode::Candidate => assert!(self.leader.is_none(), "a candidate that follows"),
            Mode::Leader => assert!(self.leader == Some(me), "a leader that follows"),
            Mode::Follower => assert!(self.leader.is_some_and(|leader| leader != me), "a follower of nobody"),
        }
        if self.mode != Mode::Leader {
            assert!(self.publication.is_none() && self.applying.is_empty(), "a publication without a leader");
            assert!(self.followers.is_empty() && self.leaving.is_empty(), "followers without a leader");
        }
        assert!(self.mode == Mode::Candidate || !self.election.is_scheduled(), "an election beside a leader");
        assert!(self.max_term_seen >= self.term(), "the own term was not seen");
        if let Some(publication) = &self.publication {
            assert!(
                publication.position == self.state.last_accepted().position(),
                "the leader has not what it publishes"
            );
        }
    }

    /// What this node is to the cluster.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.state.current_term()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The last accepted state: what an update is made from, and the base of diffs.
    pub fn last_accepted(&self) -> &S {
        self.state.last_accepted()
    }

    /// The newest state known to be committed, in this life.
    pub fn committed(&self) -> Option<&S> {
        self.committed.as_ref()
    }

    /// What the node works with, as it said.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Whether there is a master whose state of this term is committed here: else `no_master_block` is in force.
    pub fn has_master(&self) -> bool {
        self.leader.is_some() && self.committed_position().term == self.term()
    }

    /// Whether this node leads and has committed a state in its term.
    pub fn is_established(&self) -> bool {
        self.mode == Mode::Leader && self.committed_position().term == self.term()
    }

    /// Whether an update would be published at once.
    pub fn accepts_updates(&self) -> bool {
        self.is_established() && self.publication.is_none()
    }

    /// Whether nothing is left to do for a leader: no publication, no member to take in or to let go, no change of the voting
    /// configuration, no hand-over, no later term to win.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.accepts_updates()
            && self.max_term_seen == self.term()
            && !self.nodes_change()
            && !self.wants_reconfiguration()
            && self.last_accepted().last_accepted_config() == self.last_accepted().last_committed_config()
            && self.last_accepted().last_committed_config().contains(&self.me())
    }

    /// What is known of a node: a peer, or a member of the last accepted state.
    pub fn node(&self, id: NodeId) -> Option<&Arc<DiscoveryNode>> {
        self.peers.get(id).or_else(|| self.last_accepted().nodes().get(&id))
    }

    /// Nodes with an open cluster lane.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<DiscoveryNode>> {
        self.peers.all()
    }

    fn me(&self) -> NodeId {
        self.config.node.id
    }

    fn committed_position(&self) -> Position {
        self.committed.as_ref().map_or(Position::default(), S::position)
    }

    fn progress(&self) -> Progress {
        let accepted = self.last_accepted().position();
        Progress { accepted, committed: self.committed_position(), applied: self.applied }
    }

    fn on_message(&mut self, from: NodeId, message: Message<S>, out: &mut Vec<Effect<S>>) {
        if from == self.me() {
            return;
        }
        match message {
            Message::PeersRequest { node, peers, term } => self.on_peers_request(from, &node, &peers, term, out),
            Message::PeersResponse { leader, peers, term } => self.on_peers_response(leader, &peers, term, out),
            Message::PreVote { term } => self.on_pre_vote(from, term, out),
            Message::PreVoteResponse { term, last_accepted, granted } => {
                self.on_pre_vote_response(from, term, last_accepted, granted, out);
            }
            Message::StartJoin { term, candidate } => {
                if self.config.node.is_master_eligible() && term <= COUNT_MAX {
                    self.ensure_term(candidate, term, true, out);
                }
            }
            Message::JoinRequest { node, term, vote, cluster } => {
                self.on_join_request(from, node, term, vote, cluster.as_deref(), out);
            }
            Message::JoinRefused { reason } => out.push(Effect::JoinRefused { by: from, reason }),
            Message::PublishRequest { state } => self.on_publish_request(from, state, out),
            Message::PublishResponse { position, vote } => self.on_publish_response(from, position, vote, out),
            Message::NeedFull { position } => self.on_need_full(from, position, out),
            Message::Commit { position } => self.on_commit(from, position, out),
            Message::Applied { position } => self.on_applied_by(from, position, out),
            Message::FollowerCheck { number, term } => self.on_follower_check(from, number, term, out),
            Message::FollowerCheckResponse { number, term, ok, progress } => {
                self.on_follower_check_response(from, number, term, ok, progress, out);
            }
            Message::LeaderCheck { number, term } => self.on_leader_check(from, number, term, out),
            Message::LeaderCheckResponse { number, term, ok } => {
                self.on_leader_check_response(from, number, term, ok, out)
            }
        }
    }

    fn on_peer_connected(&mut self, node: Arc<DiscoveryNode>, out: &mut Vec<Effect<S>>) {
        if node.id == self.me() {
            return;
        }
        let id = node.id;
        self.peers.connect(node);
        match self.mode {
            Mode::Candidate => {
                self.ask_for_peers(id, out);
                self.peers_changed(out);
            }
            Mode::Leader => {
                if let Some(follower) = self.followers.get_mut(&id) {
                    follower.sent = None;
                }
                self.hurry_check(id);
            }
            Mode::Follower => {}
        }
    }

    fn on_peer_disconnected(&mut self, node: NodeId, out: &mut Vec<Effect<S>>) {
        let was_connected = self.peers.disconnect(node);
        match self.mode {
            // A member that a new leader never reached counts, too.
            Mode::Leader => self.follower_failed(node, "disconnected"),
            _ if !was_connected => {}
            Mode::Candidate => self.peers_changed(out),
            Mode::Follower if self.leader == Some(node) => self.become_candidate(out),
            Mode::Follower => {}
        }
    }

    fn on_persisted(&mut self, ticket: u64, out: &mut Vec<Effect<S>>) {
        let me = self.me();
        while self.own.front().is_some_and(|(awaits, _)| *awaits <= ticket) {
            let Some((_, own)) = self.own.pop_front() else { return };
            match own {
                Own::Vote(join) if self.mode == Mode::Candidate => self.count_vote(me, join, out),
                Own::Accepted(position) if self.mode == Mode::Leader => self.count_acceptance(me, position, out),
                _ => {} // of an election or a publication that is over
            }
        }
    }

    /// Something durable changed.
    fn persist(&mut self, state_changed: bool, out: &mut Vec<Effect<S>>) {
        self.ticket += 1;
        let (ticket, term) = (self.ticket, self.term());
        let state = state_changed.then(|| self.last_accepted().clone());
        // Two writes with nothing between them are one.
        if let Some(Effect::Persist { ticket: last, term: last_term, state: last_state }) = out.last_mut() {
            (*last, *last_term) = (ticket, term);
            *last_state = state.or_else(|| last_state.take());
        } else {
            out.push(Effect::Persist { ticket, term, state });
        }
    }

    /// A term that a message came with: it is not lost sight of, and not believed without bounds.
    fn see_term(&mut self, term: u64) {
        if term <= COUNT_MAX {
            self.max_term_seen = self.max_term_seen.max(term);
        }
    }

    /// `HandleStartJoin`, if `term` is later: leaves for it, voting for `candidate`.
    fn ensure_term(&mut self, candidate: NodeId, term: u64, send: bool, out: &mut Vec<Effect<S>>) -> bool {
        if term <= self.term() && !(planted!(StartJoinOfSameTerm) && term == self.term()) {
            return false;
        }
        if self.mode == Mode::Candidate {
            self.election.end_round();
        } else {
            self.become_candidate(out);
        }
        let Ok(join) = self.state.handle_start_join(term) else { return false };
        self.max_term_seen = self.max_term_seen.max(term);
        self.last_join = Some((candidate, join));
        self.persist(false, out);
        if candidate == self.me() {
            self.own.push_back((self.ticket, Own::Vote(join)));
        } else if send {
            self.send_join(candidate, out);
        }
        true
    }

    fn send_join(&mut self, to: NodeId, out: &mut Vec<Effect<S>>) {
        self.next_join_at = self.now + self.config.find_peers_interval_ms;
        let vote = self.vote_for(to);
        let cluster = self.last_accepted().committed_cluster().map(str::to_owned);
        let (node, term) = (Arc::clone(&self.config.node), self.term());
        out.push(Effect::Send { to, message: Message::JoinRequest { node, term, vote, cluster } });
    }

    /// The vote of this term, if it was for `node`.
    fn vote_for(&self, node: NodeId) -> Option<Join> {
        let (candidate, join) = self.last_join?;
        let mine = candidate == node && join.term == self.term() && self.config.node.is_master_eligible();
        mine.then_some(join)
    }

    fn become_candidate(&mut self, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Leader {
            self.state.step_down();
            self.end_publications(out);
            self.followers.clear();
            self.leaving.clear();
        }
        self.mode = Mode::Candidate;
        self.leader = None;
        self.joining.clear();
        self.election.stop();
        self.peers.next_at = self.now;
        self.next_join_at = self.now;
        out.push(Effect::BecameCandidate { term: self.term() });
    }

    fn stop(&mut self, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Leader && !self.abdicate(out) {
            self.become_candidate(out);
        }
        self.stopped = true;
    }
}

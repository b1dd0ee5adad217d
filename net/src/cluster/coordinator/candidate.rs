//! Looking for a leader, or becoming one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::discovery;
use super::super::liveness::Follower;
use super::{COUNT_MAX, Coordinator, DiscoveryNode, Effect, Join, Message, Mode, NodeId, Position, StateValue};

/// Nodes that wait to become members; what is beyond asks again.
const JOINING_MAX: usize = 10_000;

impl<S: StateValue> Coordinator<S> {
    pub(super) fn candidate_due(&mut self, out: &mut Vec<Effect<S>>) {
        if self.now >= self.peers.next_at {
            self.find_peers(out);
        }
        if self.election.deadline().is_some_and(|at| self.now >= at) {
            self.stand_for_election(out);
        }
    }

    fn find_peers(&mut self, out: &mut Vec<Effect<S>>) {
        self.peers.next_at = self.now + self.config.find_peers_interval_ms;
        let members = self.last_accepted().nodes().values().filter(|node| node.is_master_eligible());
        for address in self.peers.addresses(&self.config.node, members) {
            out.push(Effect::Connect { address });
        }
        for to in self.peers.all().map(|node| node.id).collect::<Vec<_>>() {
            self.ask_for_peers(to, out);
        }
        self.peers_changed(out);
    }

    pub(super) fn ask_for_peers(&mut self, to: NodeId, out: &mut Vec<Effect<S>>) {
        let peers = self.peers.voters().filter(|node| node.id != to).cloned().collect();
        let (node, term) = (Arc::clone(&self.config.node), self.term());
        out.push(Effect::Send { to, message: Message::PeersRequest { node, peers, term } });
    }

    pub(super) fn on_peers_request(
        &mut self,
        from: NodeId,
        node: &Arc<DiscoveryNode>,
        theirs: &[Arc<DiscoveryNode>],
        term: u64,
        out: &mut Vec<Effect<S>>,
    ) {
        if node.id != from {
            return;
        }
        if node.is_master_eligible() {
            self.see_term(term);
        }
        self.hear_of(node, out);
        let mut peers = Vec::new();
        let leader = match self.mode {
            Mode::Leader => Some(Arc::clone(&self.config.node)),
            Mode::Follower => self.leader.and_then(|leader| self.node(leader)).cloned(),
            Mode::Candidate => {
                theirs.iter().for_each(|node| self.hear_of(node, out));
                peers.extend(self.peers.voters().filter(|node| node.id != from).cloned());
                None
            }
        };
        let term = self.term();
        out.push(Effect::Send { to: from, message: Message::PeersResponse { leader, peers, term } });
    }

    pub(super) fn on_peers_response(
        &mut self,
        leader: Option<Arc<DiscoveryNode>>,
        theirs: &[Arc<DiscoveryNode>],
        term: u64,
        out: &mut Vec<Effect<S>>,
    ) {
        self.see_term(term);
        if self.mode != Mode::Candidate {
            return;
        }
        theirs.iter().for_each(|node| self.hear_of(node, out));
        let Some(leader) = leader.filter(|leader| leader.id != self.me()) else { return };
        self.hear_of(&leader, out);
        if !self.peers.is_connected(leader.id) || term > COUNT_MAX {
            return;
        }
        if !self.ensure_term(leader.id, term, true, out) && self.now >= self.next_join_at {
            self.send_join(leader.id, out);
        }
    }

    fn hear_of(&mut self, node: &Arc<DiscoveryNode>, out: &mut Vec<Effect<S>>) {
        if node.id != self.me() && self.peers.hear_of(node) {
            out.push(Effect::Connect { address: node.transport_address.clone() });
        }
    }

    /// Stands for election while the nodes that can be reached could elect this one.
    pub(super) fn peers_changed(&mut self, out: &mut Vec<Effect<S>>) {
        self.bootstrap(out);
        if !self.can_be_elected() {
            self.election.stop();
        } else if !self.election.is_scheduled() {
            let alone = self.state.is_election_quorum(&BTreeSet::from([self.me()]));
            self.election.schedule(self.now, &self.config.election, alone, &mut self.random);
        }
    }

    /// Whether it may vote, is in the voting configuration, holds the newest state or not: any master-eligible node stands. One
    /// outside of the configuration may be the only one that holds a state newer than the voters'.
    fn can_be_elected(&self) -> bool {
        if !self.config.node.is_master_eligible() {
            return false;
        }
        if planted!(OnlyVotersStand) && !self.last_accepted().last_accepted_config().contains(&self.me()) {
            return false;
        }
        let mut votes: BTreeSet<NodeId> = self.peers.voters().map(|node| node.id).collect();
        votes.insert(self.me());
        self.state.is_election_quorum(&votes)
    }

    fn bootstrap(&mut self, out: &mut Vec<Effect<S>>) {
        if self.config.initial_masters.is_empty()
            || !self.last_accepted().last_accepted_config().is_empty()
            || !self.config.node.is_master_eligible()
        {
            return;
        }
        let config = discovery::initial_config(&self.config.initial_masters, &self.config.node, &self.peers);
        if config.is_some_and(|config| self.state.set_initial_config(config).is_ok()) {
            self.persist(true, out);
        }
    }

    fn stand_for_election(&mut self, out: &mut Vec<Effect<S>>) {
        let alone = self.state.is_election_quorum(&BTreeSet::from([self.me()]));
        self.election.schedule(self.now, &self.config.election, alone, &mut self.random);
        self.election.begin_round(self.me());
        if alone {
            return self.start_election(out);
        }
        let term = self.term();
        for node in self.peers.voters() {
            out.push(Effect::Send { to: node.id, message: Message::PreVote { term } });
        }
    }

    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: u64, out: &mut Vec<Effect<S>>) {
        self.see_term(term);
        // The leader itself may ask: then it leads no more.
        let granted = match self.mode {
            Mode::Candidate => true,
            Mode::Follower => self.leader == Some(from) || planted!(PreVoteIgnoresLeader),
            Mode::Leader => planted!(PreVoteIgnoresLeader),
        };
        let (term, last_accepted) = (self.term(), self.last_accepted().position());
        out.push(Effect::Send { to: from, message: Message::PreVoteResponse { term, last_accepted, granted } });
    }

    pub(super) fn on_pre_vote_response(
        &mut self,
        from: NodeId,
        term: u64,
        last_accepted: Position,
        granted: bool,
        out: &mut Vec<Effect<S>>,
    ) {
        self.see_term(term);
        let ahead = last_accepted > self.last_accepted().position();
        if self.mode != Mode::Candidate || !granted || ahead {
            return;
        }
        let Some(votes) = self.election.grant(from) else { return };
        if self.state.is_election_quorum(votes) {
            self.start_election(out);
        }
    }

    /// Asks for votes in a new term, also as a leader whose term is not the latest any more.
    pub(super) fn start_election(&mut self, out: &mut Vec<Effect<S>>) {
        let (candidate, term) = (self.me(), self.max_term_seen.max(self.term()) + 1);
        let voters: Vec<NodeId> = self.peers.voters().map(|node| node.id).collect();
        self.ensure_term(candidate, term, true, out);
        for to in voters {
            out.push(Effect::Send { to, message: Message::StartJoin { term, candidate } });
        }
    }

    pub(super) fn on_join_request(
        &mut self,
        from: NodeId,
        node: Arc<DiscoveryNode>,
        term: u64,
        vote: Option<Join>,
        cluster: Option<&str>,
        out: &mut Vec<Effect<S>>,
    ) {
        if node.id != from || self.mode == Mode::Follower {
            return;
        }
        if let (Some(theirs), Some(ours)) = (cluster, self.last_accepted().committed_cluster())
            && theirs != ours
        {
            let reason = format!("the node belongs to the cluster [{theirs}], this is the cluster [{ours}]");
            return out.push(Effect::Send { to: from, message: Message::JoinRefused { reason } });
        }
        self.see_term(term);
        self.hear_of(&node, out);
        if self.joining.len() < JOINING_MAX || self.joining.contains_key(&from) {
            self.joining.insert(from, node);
        }
        if let Some(vote) = vote {
            self.count_vote(from, vote, out);
        }
        self.hurry_check(from);
    }

    /// `HandleJoinRequest`
    pub(super) fn count_vote(&mut self, from: NodeId, vote: Join, out: &mut Vec<Effect<S>>) {
        match self.state.handle_join(from, vote) {
            Ok(true) => self.become_leader(out),
            Ok(false) => {}
            Err(why) => out.push(Effect::Reject { from, why }),
        }
    }

    fn become_leader(&mut self, out: &mut Vec<Effect<S>>) {
        self.mode = Mode::Leader;
        self.leader = Some(self.me());
        self.election.stop();
        self.peers.forget_known();
        let first_check = self.now + self.config.follower_check.interval_ms;
        let members = self.state.last_accepted().nodes().keys().filter(|id| **id != self.config.node.id);
        self.followers = members.map(|id| (*id, Follower::new(first_check))).collect();
        out.push(Effect::BecameLeader { term: self.term() });
    }
}

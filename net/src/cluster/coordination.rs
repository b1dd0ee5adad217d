//! The heart of agreement: the actions of Elasticsearch's published ZenWithTerms model, one function each, by their names.
//!
//! | model | here |
//! |---|---|
//! | `HandleStartJoin` | [`CoordinationState::handle_start_join`] |
//! | `HandleJoinRequest` | [`CoordinationState::handle_join`] |
//! | `ClientRequest` | [`CoordinationState::handle_client_value`] |
//! | `HandlePublishRequest` | [`CoordinationState::handle_publish_request`] |
//! | `HandlePublishResponse` | [`CoordinationState::handle_publish_response`] |
//! | `HandleCommitRequest` | [`CoordinationState::handle_commit`] |
//! | `RestartNode` | [`CoordinationState::restart`], [`CoordinationState::step_down`] |
//!
//! `currentTerm` and the last accepted state (with both configurations in it) are durable; whoever drives this writes them
//! before a message that tells of them leaves. The rest is forgotten in a restart.
//!
//! What is not in the model maps onto it: a leader that steps down takes the action `RestartNode`, which forgets its votes and
//! closes the door to late ones; a node that hears of a later term takes `HandleStartJoin`; pre-votes change nothing here.

use std::collections::BTreeSet;
use std::fmt;

use super::ids::NodeId;
use super::messages::Join;
use super::quorum::{is_joint_quorum, is_quorum};
use super::state::VotingConfig;
use super::value::{Position, StateValue};

/// Why an action is not enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Of an earlier term than the current one, or, where it must be this term, of another.
    Term {
        /// The message's.
        found: u64,
        /// Ours.
        current: u64,
    },
    /// No term was started since this process began, or since the node stepped down.
    NoTermStarted,
    /// The voter has accepted a later state.
    VoterIsAhead(Position),
    /// There is no voting configuration yet.
    NotBootstrapped,
    /// There is one already.
    AlreadyBootstrapped,
    /// The election is not won.
    NotElected,
    /// The last publication is not accepted here yet.
    PublicationInProgress,
    /// Not the version that is expected.
    Version(Position),
    /// The last change of the voting configuration is not committed yet.
    Reconfiguring,
    /// No quorum of the new voting configuration has voted for this leader.
    NoQuorumOfJoins,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Term { found, current } => write!(f, "term {found} does not match current term {current}"),
            Rejected::NoTermStarted => write!(f, "no term was started since the last restart"),
            Rejected::VoterIsAhead(at) => write!(f, "the voter has accepted {at}"),
            Rejected::NotBootstrapped => write!(f, "there is no voting configuration yet"),
            Rejected::AlreadyBootstrapped => write!(f, "there is a voting configuration already"),
            Rejected::NotElected => write!(f, "the election is not won"),
            Rejected::PublicationInProgress => write!(f, "the last publication is not accepted yet"),
            Rejected::Version(at) => write!(f, "{at} is not expected"),
            Rejected::Reconfiguring => write!(f, "the last reconfiguration is not committed yet"),
            Rejected::NoQuorumOfJoins => write!(f, "no quorum of the new configuration has voted"),
        }
    }
}

/// One node's part in the agreement.
///
/// - The last accepted term is never above the current term.
/// - Votes are held only in a term that was started in this life, and belong to it.
/// - The election is won exactly while the votes are a quorum of both configurations.
/// - Only who has won publishes, one state after the other, each a version after the last.
#[derive(Clone, Debug)]
pub struct CoordinationState<S> {
    current_term: u64,
    last_accepted: S,
    join_votes: BTreeSet<NodeId>,
    /// `allowElection`
    started_join_since_restart: bool,
    election_won: bool,
    /// `publishVersion`
    last_published_version: u64,
    last_published_config: VotingConfig,
    publish_votes: BTreeSet<NodeId>,
    /// Votes that came, for a planted bug that counts them.
    #[cfg(test)]
    joins_counted: usize,
}

impl<S: StateValue> CoordinationState<S> {
    /// A node that starts with what its disk holds.
    pub fn new(current_term: u64, last_accepted: S) -> CoordinationState<S> {
        CoordinationState {
            current_term: current_term.max(last_accepted.position().term),
            last_published_config: last_accepted.last_accepted_config().clone(),
            last_accepted,
            join_votes: BTreeSet::new(),
            started_join_since_restart: planted!(NoJoinGuardAfterRestart),
            election_won: false,
            last_published_version: 0,
            publish_votes: BTreeSet::new(),
            #[cfg(test)]
            joins_counted: 0,
        }
    }

    /// `currentTerm`
    pub fn current_term(&self) -> u64 {
        self.current_term
    }

    /// `lastAcceptedValue`, with term, version and configurations.
    pub fn last_accepted(&self) -> &S {
        &self.last_accepted
    }

    /// `electionWon`
    pub fn election_won(&self) -> bool {
        self.election_won
    }

    /// `joinVotes`
    pub fn join_votes(&self) -> &BTreeSet<NodeId> {
        &self.join_votes
    }

    /// `publishVotes`
    pub fn publish_votes(&self) -> &BTreeSet<NodeId> {
        &self.publish_votes
    }

    /// Whether these nodes could elect a master whose last accepted state is ours: `ElectionWon`.
    pub fn is_election_quorum(&self, votes: &BTreeSet<NodeId>) -> bool {
        is_joint_quorum(votes, self.last_accepted.last_committed_config(), self.last_accepted.last_accepted_config())
    }

    /// Whether these nodes can commit the state that was published last.
    pub fn is_publish_quorum(&self, votes: &BTreeSet<NodeId>) -> bool {
        is_joint_quorum(votes, self.last_accepted.last_committed_config(), &self.last_published_config)
    }

    /// `Init`: the first configuration of a cluster, given once by its operator. To be made durable.
    pub fn set_initial_config(&mut self, config: VotingConfig) -> Result<(), Rejected> {
        if !self.last_accepted.last_accepted_config().is_empty() {
            return Err(Rejected::AlreadyBootstrapped);
        }
        assert!(!self.election_won, "a node without configuration was elected");
        self.last_accepted.set_configs(config.clone(), config.clone());
        self.last_published_config = config;
        Ok(())
    }

    /// Leaves for a later term. The vote is for the one node that this term was started for. To be made durable.
    pub fn handle_start_join(&mut self, term: u64) -> Result<Join, Rejected> {
        if term <= self.current_term && !(planted!(StartJoinOfSameTerm) && term == self.current_term) {
            return Err(Rejected::Term { found: term, current: self.current_term });
        }
        self.restart();
        self.current_term = term;
        self.started_join_since_restart = true;
        Ok(Join { term, last_accepted: self.last_accepted.position() })
    }

    /// Counts a vote. Whether it is the one that wins the election.
    pub fn handle_join(&mut self, from: NodeId, join: Join) -> Result<bool, Rejected> {
        if join.term != self.current_term {
            return Err(Rejected::Term { found: join.term, current: self.current_term });
        }
        if !self.started_join_since_restart {
            return Err(Rejected::NoTermStarted);
        }
        if join.last_accepted > self.last_accepted.position() && !planted!(VoteForOlderState) {
            return Err(Rejected::VoterIsAhead(join.last_accepted));
        }
        if self.last_accepted.last_accepted_config().is_empty() {
            return Err(Rejected::NotBootstrapped);
        }
        let won_before = self.election_won;
        self.join_votes.insert(from);
        self.election_won = self.is_election_quorum(&self.join_votes);
        #[cfg(test)]
        {
            self.joins_counted += 1;
            let half = self.last_accepted.last_accepted_config().len() / 2;
            self.election_won |= planted!(JoinCountedTwice) && self.joins_counted > half;
        }
        let wins = self.election_won && !won_before;
        if wins {
            self.last_published_version = self.last_accepted.position().version;
        }
        Ok(wins)
    }

    /// Whether the configuration may change to `config` in the next publication.
    pub fn may_reconfigure(&self, config: &VotingConfig) -> Result<(), Rejected> {
        let accepted = self.last_accepted.last_accepted_config();
        let settled = accepted == self.last_accepted.last_committed_config();
        let settled = settled || planted!(ReconfigureWhileReconfiguring);
        if config != accepted && !settled {
            return Err(Rejected::Reconfiguring);
        }
        let excused = planted!(ReconfigureWithoutJoins, JoinCountedTwice);
        if !excused && !is_quorum(&self.join_votes, config) {
            return Err(Rejected::NoQuorumOfJoins);
        }
        Ok(())
    }

    /// The version that is published next.
    pub fn next_position(&self) -> Position {
        let step = if planted!(VersionNotIncreased) { 0 } else { 1 };
        Position { term: self.current_term, version: self.last_published_version + step }
    }

    /// Begins to publish a state. The caller sends it.
    pub fn handle_client_value(&mut self, state: &S) -> Result<(), Rejected> {
        if !self.election_won {
            return Err(Rejected::NotElected);
        }
        if self.last_published_version != self.last_accepted.position().version && !planted!(VersionNotIncreased) {
            return Err(Rejected::PublicationInProgress);
        }
        if state.position() != self.next_position() {
            return Err(Rejected::Version(state.position()));
        }
        self.may_reconfigure(state.last_accepted_config())?;
        assert!(
            state.last_committed_config() == self.last_accepted.last_committed_config(),
            "only a commit changes the committed configuration"
        );
        self.last_published_version = state.position().version;
        self.last_published_config.clone_from(state.last_accepted_config());
        self.publish_votes.clear();
        Ok(())
    }

    /// Accepts a state. To be made durable.
    pub fn handle_publish_request(&mut self, state: S) -> Result<(), Rejected> {
        let at = state.position();
        let of_old_term = at.term < self.current_term && planted!(PublicationOfOldTermAccepted);
        if at.term != self.current_term && !of_old_term {
            return Err(Rejected::Term { found: at.term, current: self.current_term });
        }
        let last = self.last_accepted.position();
        let excused = planted!(OlderVersionAccepted, VersionNotIncreased);
        if at.term == last.term && at.version <= last.version && !excused {
            return Err(Rejected::Version(at));
        }
        self.last_accepted = state;
        if planted!(AcceptedConfigTakenForCommitted) {
            self.last_accepted.mark_committed();
        }
        Ok(())
    }

    /// Counts that a node has accepted what was published. Whether it is committed thereby, or was before.
    pub fn handle_publish_response(&mut self, from: NodeId, position: Position) -> Result<bool, Rejected> {
        if !self.election_won {
            return Err(Rejected::NotElected);
        }
        if position.term != self.current_term {
            return Err(Rejected::Term { found: position.term, current: self.current_term });
        }
        if position.version != self.last_published_version && !planted!(AnswerToOlderPublicationCounts) {
            return Err(Rejected::Version(position));
        }
        self.publish_votes.insert(from);
        if planted!(CommitBeforeQuorum) && self.publish_votes.len() * 2 >= self.last_published_config.len() {
            return Ok(true);
        }
        Ok(self.is_publish_quorum(&self.publish_votes))
    }

    /// Learns that the state accepted last is committed. Whether that changed what must be durable.
    pub fn handle_commit(&mut self, position: Position) -> Result<bool, Rejected> {
        let last = self.last_accepted.position();
        if position.term != self.current_term {
            return Err(Rejected::Term { found: position.term, current: self.current_term });
        }
        if position != last {
            return Err(Rejected::Version(position));
        }
        Ok(self.last_accepted.mark_committed())
    }

    /// Forgets what a restart forgets. A term that was led is thereby over for this node: votes that come late are not counted
    /// before another term is started.
    pub fn restart(&mut self) {
        self.join_votes.clear();
        self.started_join_since_restart = false;
        self.election_won = false;
        self.last_published_version = 0;
        self.last_published_config.clone_from(self.last_accepted.last_accepted_config());
        self.publish_votes.clear();
        #[cfg(test)]
        {
            self.joins_counted = 0;
        }
    }

    /// What a leader does that no longer wants to be one: `RestartNode`.
    pub fn step_down(&mut self) {
        self.restart();
    }

    /// `SingleNodeInvariant`
    pub fn check(&self) {
        let last = self.last_accepted.position();
        assert!(last.term <= self.current_term, "SingleNodeInvariant: accepted {last} in term {}", self.current_term);
        assert!(
            self.election_won == self.is_election_quorum(&self.join_votes),
            "SingleNodeInvariant: the election's outcome is not its votes'"
        );
        if self.election_won {
            assert!(
                self.last_published_version >= last.version,
                "SingleNodeInvariant: accepted {last} beyond what was published"
            );
            assert!(self.started_join_since_restart, "SingleNodeInvariant: elected in a term that was not started");
        } else {
            assert!(self.last_published_version == 0, "SingleNodeInvariant: published without being elected");
            assert!(
                self.publish_votes.is_empty(),
                "SingleNodeInvariant: answers to a publication without being elected"
            );
        }
        assert!(
            self.join_votes.is_empty() || self.started_join_since_restart,
            "SingleNodeInvariant: votes in a term that was not started"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::simulator::value::{Tiny, Value};
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const D: NodeId = NodeId(4);

    fn at(term: u64, version: u64) -> Position {
        Position { term, version }
    }

    fn vote(term: u64, last_accepted: Position) -> Join {
        Join { term, last_accepted }
    }

    /// A state with one configuration, committed.
    fn state(position: Position, config: &[NodeId]) -> Value {
        let config: VotingConfig = config.iter().copied().collect();
        Arc::new(Tiny { position, committed: config.clone(), accepted: config, ..Tiny::default() })
    }

    /// A node of three voters that has accepted `last` and is in the term after it.
    fn node(last: Position) -> CoordinationState<Value> {
        let mut node = CoordinationState::new(last.term, state(last, &[A, B, C]));
        let join = node.handle_start_join(last.term + 1).expect("a later term");
        assert_eq!(join, vote(last.term + 1, last));
        node
    }

    /// The same, elected.
    fn leader(last: Position) -> CoordinationState<Value> {
        let mut leader = node(last);
        assert_eq!(leader.handle_join(A, vote(last.term + 1, last)), Ok(false), "one of three");
        assert_eq!(leader.handle_join(B, vote(last.term + 1, at(0, 0))), Ok(true), "two of three");
        assert_eq!(leader.handle_join(C, vote(last.term + 1, last)), Ok(false), "won before");
        leader.check();
        leader
    }

    /// What a leader publishes next, with another configuration if asked.
    fn next(leader: &CoordinationState<Value>, config: Option<&[NodeId]>) -> Value {
        let mut state = leader.last_accepted().clone();
        let tiny = Arc::make_mut(&mut state);
        tiny.position = leader.next_position();
        if let Some(config) = config {
            tiny.accepted = config.iter().copied().collect();
        }
        state
    }

    /// Publishes on the leader alone.
    fn publish(leader: &mut CoordinationState<Value>, config: Option<&[NodeId]>) -> Position {
        let state = next(leader, config);
        assert_eq!(leader.handle_client_value(&state), Ok(()));
        assert_eq!(leader.handle_publish_request(state.clone()), Ok(()));
        leader.check();
        state.position()
    }

    #[test]
    fn a_term_is_started_once_and_forgets_the_one_before() {
        let mut node = leader(at(4, 7));
        assert_eq!(node.handle_start_join(5), Err(Rejected::Term { found: 5, current: 5 }));
        assert_eq!(node.handle_start_join(3), Err(Rejected::Term { found: 3, current: 5 }));
        assert!(node.election_won());
        assert_eq!(node.handle_start_join(9), Ok(vote(9, at(4, 7))));
        assert!(!node.election_won() && node.join_votes().is_empty() && node.current_term() == 9);
        node.check();
    }

    #[test]
    fn votes_of_other_terms_and_of_voters_ahead_do_not_count() {
        let mut node = node(at(4, 7));
        for term in [4, 6] {
            assert_eq!(node.handle_join(B, vote(term, at(4, 7))), Err(Rejected::Term { found: term, current: 5 }));
        }
        for ahead in [at(4, 8), at(5, 1)] {
            assert_eq!(node.handle_join(B, vote(5, ahead)), Err(Rejected::VoterIsAhead(ahead)));
        }
        assert!(node.join_votes().is_empty());
        assert_eq!(node.handle_join(B, vote(5, at(3, 99))), Ok(false), "an older term, whatever its version");
    }

    #[test]
    fn a_voter_has_one_voice() {
        let mut node = node(at(4, 7));
        for _ in 0..3 {
            assert_eq!(node.handle_join(B, vote(5, at(4, 7))), Ok(false));
        }
        assert_eq!(node.handle_join(D, vote(5, at(4, 7))), Ok(false), "no voter");
        assert!(!node.election_won());
    }

    #[test]
    fn without_a_configuration_nobody_is_elected_and_it_is_set_once() {
        let mut node = CoordinationState::new(0, Value::default());
        node.handle_start_join(1).expect("a later term");
        assert_eq!(node.handle_join(A, vote(1, at(0, 0))), Err(Rejected::NotBootstrapped));
        assert_eq!(node.set_initial_config([A].into()), Ok(()));
        assert_eq!(node.set_initial_config([B].into()), Err(Rejected::AlreadyBootstrapped));
        assert_eq!(node.handle_join(A, vote(1, at(0, 0))), Ok(true));
        node.check();
    }

    #[test]
    fn votes_of_a_term_that_was_led_before_a_restart_do_not_count() {
        // It published version 8 to others and fell before it had it itself: elected again, it would publish another 8.
        let mut node = CoordinationState::new(5, state(at(4, 7), &[A, B, C]));
        for voter in [A, B, C] {
            assert_eq!(node.handle_join(voter, vote(5, at(4, 7))), Err(Rejected::NoTermStarted));
        }
        assert!(!node.election_won());
        node.handle_start_join(6).expect("a later term");
        assert_eq!(node.handle_join(B, vote(6, at(4, 7))), Ok(false));
    }

    #[test]
    fn votes_that_come_after_a_leader_stepped_down_do_not_elect_it_again_in_its_term() {
        let mut leader = leader(at(4, 7));
        let published = next(&leader, None);
        assert_eq!(leader.handle_client_value(&published), Ok(()));
        leader.step_down();
        leader.check();
        for voter in [A, B, C] {
            assert_eq!(leader.handle_join(voter, vote(5, at(4, 7))), Err(Rejected::NoTermStarted));
        }
        assert!(!leader.election_won());
        assert_eq!(leader.handle_client_value(&published), Err(Rejected::NotElected), "version 8 of term 5 twice");
    }

    #[test]
    fn only_who_is_elected_publishes_one_state_at_a_time_with_the_next_version() {
        let mut candidate = node(at(4, 7));
        let early = state(at(5, 8), &[A, B, C]);
        assert_eq!(candidate.handle_client_value(&early), Err(Rejected::NotElected));

        let mut leader = leader(at(4, 7));
        for wrong in [at(4, 8), at(6, 8), at(5, 7), at(5, 9)] {
            let refused = leader.handle_client_value(&state(wrong, &[A, B, C]));
            assert_eq!(refused, Err(Rejected::Version(wrong)));
        }
        let first = next(&leader, None);
        assert_eq!(leader.handle_client_value(&first), Ok(()));
        assert_eq!(leader.handle_client_value(&first), Err(Rejected::PublicationInProgress));
        assert_eq!(leader.handle_publish_request(first), Ok(()));
        assert_eq!(publish(&mut leader, None), at(5, 9));
    }

    #[test]
    fn the_configuration_changes_one_at_a_time_to_nodes_that_voted() {
        let mut leader = leader(at(4, 7));
        let strangers = next(&leader, Some(&[A, D]));
        assert_eq!(leader.handle_client_value(&strangers), Err(Rejected::NoQuorumOfJoins));
        let position = publish(&mut leader, Some(&[A, B]));
        let again = next(&leader, Some(&[A]));
        assert_eq!(leader.handle_client_value(&again), Err(Rejected::Reconfiguring));
        assert_eq!(leader.handle_commit(position), Ok(true), "the configuration is committed, too");
        assert_eq!(publish(&mut leader, Some(&[A])), at(5, 9));
    }

    #[test]
    fn states_of_other_terms_and_old_versions_are_not_accepted() {
        let mut node = node(at(4, 7));
        for term in [4, 6] {
            let refused = node.handle_publish_request(state(at(term, 8), &[A, B, C]));
            assert_eq!(refused, Err(Rejected::Term { found: term, current: 5 }));
        }
        assert_eq!(
            node.handle_publish_request(state(at(5, 3), &[A])),
            Ok(()),
            "a later term replaces a higher version"
        );
        for version in [2, 3] {
            let refused = node.handle_publish_request(state(at(5, version), &[A]));
            assert_eq!(refused, Err(Rejected::Version(at(5, version))));
        }
        assert_eq!(node.last_accepted().position(), at(5, 3));
    }

    #[test]
    fn a_state_is_committed_by_a_quorum_of_both_configurations() {
        let mut leader = leader(at(4, 7));
        let position = publish(&mut leader, Some(&[C]));
        assert_eq!(leader.handle_publish_response(A, position), Ok(false));
        assert_eq!(leader.handle_publish_response(B, position), Ok(false), "of the old one only");
        assert_eq!(leader.handle_publish_response(B, position), Ok(false), "counted once");
        assert_eq!(leader.handle_publish_response(C, position), Ok(true));
        leader.check();
    }

    #[test]
    fn answers_to_other_publications_do_not_count() {
        let mut candidate = node(at(4, 7));
        assert_eq!(candidate.handle_publish_response(B, at(5, 8)), Err(Rejected::NotElected));
        let mut leader = leader(at(4, 7));
        let first = publish(&mut leader, None);
        let second = publish(&mut leader, None);
        assert_eq!(leader.handle_publish_response(B, first), Err(Rejected::Version(first)));
        let old = at(4, second.version);
        assert_eq!(leader.handle_publish_response(B, old), Err(Rejected::Term { found: 4, current: 5 }));
        assert!(leader.publish_votes().is_empty());
    }

    #[test]
    fn commits_of_anything_but_the_state_accepted_last_are_refused() {
        let mut node = node(at(4, 7));
        assert_eq!(node.handle_commit(at(4, 7)), Err(Rejected::Term { found: 4, current: 5 }));
        assert_eq!(node.handle_commit(at(5, 7)), Err(Rejected::Version(at(5, 7))));
        assert_eq!(node.handle_publish_request(state(at(5, 8), &[A, B, C])), Ok(()));
        assert_eq!(node.handle_commit(at(5, 9)), Err(Rejected::Version(at(5, 9))));
        assert_eq!(node.handle_commit(at(5, 8)), Ok(false), "the configurations were the same");
    }

    #[test]
    fn what_is_on_disk_outlives_a_restart_and_nothing_else() {
        let mut before = leader(at(4, 7));
        publish(&mut before, None);
        let after = CoordinationState::new(before.current_term(), before.last_accepted().clone());
        assert_eq!((after.current_term(), after.last_accepted().position()), (5, at(5, 8)));
        assert!(!after.election_won() && after.join_votes().is_empty() && after.publish_votes().is_empty());
        after.check();
    }
}

//! What must hold of everything the nodes say and do, by the names of the ZenWithTerms model.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::super::ids::NodeId;
use super::super::messages::Message;
use super::super::quorum::is_quorum;
use super::super::value::{Position, StateValue};
use super::value::{Tiny, Value};

/// All that was said, as far as it matters.
#[derive(Default)]
pub struct Checkers {
    published: BTreeMap<Position, Value>,
    master_of_term: FxHashMap<u64, NodeId>,
    votes: FxHashMap<(NodeId, u64), NodeId>,
    /// Who has a state on disk.
    accepted: FxHashMap<Position, BTreeSet<NodeId>>,
    /// The committed states and all they descend from, by version.
    chain: BTreeMap<u64, Position>,
    committed: BTreeSet<Position>,
    /// The last state committed in a node's present life.
    applied: FxHashMap<NodeId, Position>,
}

impl Checkers {
    /// Committed states.
    pub fn commits(&self) -> usize {
        self.committed.len()
    }

    /// A node begins a new life.
    pub fn restarted(&mut self, node: NodeId) {
        self.applied.remove(&node);
    }

    /// A node's message leaves.
    pub fn sent(&mut self, from: NodeId, to: NodeId, message: &Message<Value>) {
        match message {
            Message::StartJoin { term, candidate } if *candidate == from => self.voted(from, *term, from),
            Message::JoinRequest { vote: Some(join), .. } => self.voted(from, join.term, to),
            Message::PublishResponse { vote, position } => {
                if let Some(join) = vote {
                    self.voted(from, join.term, to);
                }
                let accepted = self.accepted.get(position).is_some_and(|nodes| nodes.contains(&from));
                assert!(accepted, "AcceptedIsDurable: {from} answers {position} before it has it");
            }
            Message::Commit { position } => {
                let master = self.master_of_term.get(&position.term);
                assert_eq!(master, Some(&from), "OneMasterPerTerm: {from} commits {position}");
                self.commit(*position);
            }
            _ => {}
        }
    }

    /// A vote is given for good.
    fn voted(&mut self, from: NodeId, term: u64, to: NodeId) {
        let first = *self.votes.entry((from, term)).or_insert(to);
        assert_eq!(first, to, "OneVotePerTerm: {from} votes twice in term {term}");
    }

    /// A state leaves its master, for another node or the own disk.
    pub fn published(&mut self, state: &Value) {
        let at = state.position();
        let master = state.master.expect("published by somebody");
        let of_term = *self.master_of_term.entry(at.term).or_insert(master);
        assert_eq!(of_term, master, "OneMasterPerTerm: two publish in term {}", at.term);
        if let Some(other) = self.published.get(&at) {
            let same = other.uuid == state.uuid && other.parent == state.parent && other.accepted == state.accepted;
            assert!(same, "LogMatching: two states at {at}: {other:?} and {state:?}");
            return;
        }
        let Tiny { parent, .. } = **state;
        assert!(
            parent.term <= at.term && parent.version < at.version,
            "DescendantRelationIsStrictlyOrdered: {state:?}"
        );
        self.published.insert(at, state.clone());
        if let Some((_, tip)) = self.chain.last_key_value() {
            let newer = at.term >= tip.term && at.version > tip.version;
            assert!(
                !newer || self.descends(at, *tip),
                "NewerOpsBasedOnOlderCommittedOps: {at} does not descend from {tip}"
            );
        }
    }

    /// Whether `later` was made from `earlier`, directly or not.
    fn descends(&self, later: Position, earlier: Position) -> bool {
        let mut at = later;
        while at.version > earlier.version {
            let Some(state) = self.published.get(&at) else { return false };
            at = state.parent;
        }
        at == earlier
    }

    /// A state is on a node's disk.
    pub fn durable(&mut self, node: NodeId, state: &Value) {
        self.accepted.entry(state.position()).or_default().insert(node);
    }

    /// A state is handed to a node as committed.
    pub fn applied(&mut self, node: NodeId, state: &Value) {
        let at = state.position();
        assert!(self.published.get(&at).is_some_and(|s| s.uuid == state.uuid), "committed what nobody published: {at}");
        let last = self.applied.insert(node, at);
        assert!(last.is_none_or(|last| last < at), "{node} goes back from {last:?} to {at}");
        self.commit(at);
    }

    fn commit(&mut self, at: Position) {
        if self.committed.contains(&at) {
            return;
        }
        let state = self.published.get(&at).unwrap_or_else(|| panic!("committed what nobody published: {at}"));
        let nobody = BTreeSet::new();
        let holders = self.accepted.get(&at).unwrap_or(&nobody);
        let quorum = is_quorum(holders, &state.accepted) && is_quorum(holders, &state.committed);
        assert!(quorum, "CommitHasQuorum: {at} is on {holders:?}, of {:?} and {:?}", state.committed, state.accepted);
        // The committed states are one chain: this one is on it, or extends it.
        let tip = self.chain.last_key_value().map(|(_, tip)| *tip).unwrap_or_default();
        if at.version > tip.version {
            let mut ancestor = at;
            while ancestor.version > tip.version {
                self.chain.insert(ancestor.version, ancestor);
                ancestor = self.published.get(&ancestor).map(|state| state.parent).unwrap_or_default();
            }
            assert_eq!(ancestor, tip, "CommittedValuesDescendantsFromCommittedValues: {at} beside {tip}");
        }
        assert_eq!(
            self.chain.get(&at.version),
            Some(&at),
            "CommittedValuesDescendantsFromCommittedValues: {at} beside {tip}"
        );
        if let Some(previous) = self.committed.range(..at).next_back()
            && let config = &self.published[previous].accepted
        {
            assert!(
                is_quorum(holders, config),
                "CommitHasQuorumVsPreviousCommittedConfiguration: {at} is on {holders:?}, {previous} has {config:?}"
            );
        }
        let later = self.published.range(Position { term: at.term + 1, version: 0 }..);
        for (newer, _) in later.filter(|(newer, _)| newer.version > at.version) {
            assert!(self.descends(*newer, at), "NewerOpsBasedOnOlderCommittedOps: {newer} does not descend from {at}");
        }
        self.committed.insert(at);
    }
}

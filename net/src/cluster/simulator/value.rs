//! A small value to agree on, with what the checkers need to know of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ids::NodeId;
use super::super::state::VotingConfig;
use super::super::value::{Nodes, Position, StateValue};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tiny {
    pub position: Position,
    /// Where the state stood that this one was made from.
    pub parent: Position,
    /// No two publications have the same.
    pub uuid: u128,
    pub master: Option<NodeId>,
    pub committed: VotingConfig,
    pub accepted: VotingConfig,
    pub nodes: Nodes,
    pub exclusions: BTreeSet<NodeId>,
    pub auto_shrink: bool,
}

pub type Value = Arc<Tiny>;

impl StateValue for Value {
    fn position(&self) -> Position {
        self.position
    }

    fn last_committed_config(&self) -> &VotingConfig {
        &self.committed
    }

    fn last_accepted_config(&self) -> &VotingConfig {
        &self.accepted
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn voting_exclusions(&self) -> BTreeSet<NodeId> {
        self.exclusions.clone()
    }

    fn auto_shrink(&self) -> bool {
        self.auto_shrink
    }

    fn committed_cluster(&self) -> Option<&str> {
        None
    }

    fn stamp(&mut self, position: Position, master: NodeId, uuid: u128) {
        let state = Arc::make_mut(self);
        state.parent = state.position;
        (state.position, state.master, state.uuid) = (position, Some(master), uuid);
    }

    fn set_nodes(&mut self, nodes: Nodes) {
        Arc::make_mut(self).nodes = nodes;
    }

    fn set_configs(&mut self, committed: VotingConfig, accepted: VotingConfig) {
        let state = Arc::make_mut(self);
        (state.committed, state.accepted) = (committed, accepted);
    }

    fn mark_committed(&mut self) -> bool {
        let changes = self.committed != self.accepted;
        if changes {
            let state = Arc::make_mut(self);
            state.committed.clone_from(&state.accepted);
        }
        changes
    }
}

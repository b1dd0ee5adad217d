//! One state on its way from the leader to the others.
//!
//! ```text
//! leader                          member
//!   PublishRequest --------------> accept, sync
//!   (quorum?) <------------------- PublishResponse
//!   Commit ----------------------> hand to the node
//!   (all?)    <------------------- Applied
//! ```
//!
//! At most one state is not committed at a time. Waiting until the members work with a committed state holds up no other
//! publication; it ends with the last of them, or with the publish timeout.

use std::collections::BTreeSet;

use super::ids::NodeId;
use super::value::Position;

/// A state that is published and not committed.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The update that asked for it; none for the leader's own.
    pub id: Option<u64>,
    /// Of the state.
    pub position: Position,
    /// When the leader gives up.
    pub deadline: u64,
    /// Members in a later term: they will never accept it.
    pub refused: BTreeSet<NodeId>,
}

/// A committed state that not all members are known to work with.
#[derive(Clone, Debug)]
pub struct Applying {
    /// The update that asked for it.
    pub id: Option<u64>,
    /// Of the state.
    pub version: u64,
    /// When the leader waits no longer.
    pub deadline: u64,
    /// Members that have not answered.
    pub missing: BTreeSet<NodeId>,
    /// Members that failed before they answered.
    pub failed: BTreeSet<NodeId>,
}

impl Applying {
    /// A member is not waited for any longer.
    pub fn give_up(&mut self, node: NodeId) {
        if self.missing.remove(&node) {
            self.failed.insert(node);
        }
    }
}

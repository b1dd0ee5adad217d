//! Which node gets which copy: plain functions from cluster state to cluster state.
//!
//! ```text
//!  news (node joined, left; copy started, failed; index created, ...) -> transition.rs   what is so now
//!                                                                             |
//!                                              reroute: assign.rs, balance.rs v          what is to be done about it
//!                                              deciders.rs, disk.rs say what may be
//! ```
//!
//! Pure and deterministic: the time, the randomness and what the nodes report come in as [`AllocationInputs`].
//!
//! - A primary with data is only ever made from a copy in the in-sync set, on a live node. If there is none, it stays missing, and
//!   says so; only a command that accepts the loss of data makes it from something else.
//! - Replicas come after their primary, first to nodes that still have files of the shard.
//! - A copy moves only if it must not stay, or if the cluster gains: repeated reroutes come to rest.

mod assign;
mod backoff;
mod balance;
mod check;
pub mod command;
mod deciders;
mod disk;
mod draft;
pub mod explain;
mod model;
mod settings;
mod transition;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use check::check;
pub use deciders::{Decision, Verdict};
pub use disk::READ_ONLY_ALLOW_DELETE;
pub use draft::ANY_COPY;
pub use transition::*;

use crate::cluster::ids::{AllocationId, NodeId};
use crate::cluster::state::ClusterState;
use model::Model;

/// What the driver knows and the state does not say.
#[derive(Clone, Debug, Default)]
pub struct AllocationInputs {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// Fresh randomness for each call: names of new copies come from it.
    pub seed: u128,
    /// The copies on the disk of each data node that has reported, by index uuid and shard. A node that is missing here has not
    /// reported yet, and copies that may be on it wait; one that cannot report is entered with nothing. A copy without a name (from
    /// before there were clusters) is [`ANY_COPY`].
    pub stored_copies: BTreeMap<NodeId, BTreeMap<(String, u32), AllocationId>>,
    /// Disks of the nodes, as far as known.
    pub disks: BTreeMap<NodeId, DiskUsage>,
    /// Bytes of the shards, as far as known, by index uuid and shard.
    pub shard_sizes: BTreeMap<(String, u32), u64>,
}

/// How full a node's disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of it.
    pub total: u64,
    /// Bytes that are free.
    pub available: u64,
}

/// What a reroute comes to.
#[derive(Clone, Debug, Default)]
pub struct Rerouted {
    /// The new state; none if there is nothing to do.
    pub state: Option<ClusterState>,
    /// When to reroute again though nothing has happened (milliseconds since 1970): a delay or a pause ends then.
    pub wake_up_ms: Option<i64>,
}

/// Gives missing copies a place, moves those that must not stay, and balances.
#[must_use]
pub fn reroute(state: &ClusterState, inputs: &AllocationInputs) -> Rerouted {
    // Copies on nodes that are gone without notice: not to be left as if they were there.
    let used = state.routing.values().flat_map(|index| index.shards.iter().flatten()).filter_map(|copy| copy.node);
    let gone: BTreeSet<NodeId> =
        used.filter(|node| !state.nodes.get(node).is_some_and(|node| node.is_data())).collect();
    let without;
    let base = if gone.is_empty() {
        state
    } else {
        without = copies_lost(state, &gone, inputs.now_ms);
        &without
    };
    let mut model = Model::new(base, inputs);
    let wake_up_ms = reroute_model(&mut model);
    let state = model.draft.finish().or_else(|| (!gone.is_empty()).then(|| base.clone()));
    Rerouted { state, wake_up_ms }
}

fn reroute_model(model: &mut Model<'_>) -> Option<i64> {
    assign::auto_expand(model);
    disk::flood(model);
    let mut wake = WakeUp(None);
    assign::assign(model, &mut wake);
    balance::evacuate(model, &mut wake);
    balance::balance(model, &mut wake);
    wake.0
}

/// The earliest of some times in the future.
pub(crate) struct WakeUp(Option<i64>);

impl WakeUp {
    fn at(&mut self, ms: i64) {
        self.0 = Some(self.0.map_or(ms, |old| old.min(ms)));
    }
}

fn copies_lost(state: &ClusterState, gone: &BTreeSet<NodeId>, now_ms: i64) -> ClusterState {
    let nodes = state.nodes.clone();
    let mut next = nodes_left(state, gone, now_ms);
    next.nodes = nodes;
    next
}

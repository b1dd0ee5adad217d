//! Why a copy is where it is, or nowhere: `_cluster/allocation/explain`.

use super::AllocationInputs;
use super::assign::{self, Place};
use super::deciders::{self, Decision, Question, Verdict};
use super::model::Model;
use super::settings;
use crate::cluster::ids::{AllocationId, NodeId};
use crate::cluster::routing::{AllocationStatus, CopyState, RecoverySource, ShardRouting, UnassignedReason};
use crate::cluster::state::ClusterState;

/// What is to be said about a copy.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The copy.
    pub copy: ShardRouting,
    /// What would become of it now.
    pub outlook: Outlook,
    /// What each data node would be for it; of an assigned copy all but its own.
    pub nodes: Vec<NodeOutlook>,
}

/// What would become of a copy now.
#[derive(Clone, Debug)]
pub enum Outlook {
    /// It is missing.
    Missing {
        /// `yes`, `no`, `throttled`, `awaiting_info`, `allocation_delayed`, `no_valid_shard_copy`
        can_allocate: &'static str,
        /// That, in a sentence.
        explanation: String,
        /// The node that it would go to.
        target: Option<NodeId>,
        /// `index.unassigned.node_left.delayed_timeout`, and what remains of it, if it waits for that.
        delay_ms: Option<(i64, i64)>,
    },
    /// It recovers or moves.
    Busy {
        /// That, in a sentence.
        explanation: String,
    },
    /// It must not stay.
    Leaves {
        /// Why it must not.
        can_remain: Vec<Decision>,
        /// `yes`, `no`, `throttled`
        can_move: &'static str,
        /// That, in a sentence.
        explanation: &'static str,
        /// The node that it would go to.
        target: Option<NodeId>,
    },
    /// It may stay.
    Stays {
        /// Whether copies may move to balance the cluster.
        can_rebalance: Verdict,
        /// Why not.
        cluster: Vec<Decision>,
        /// `yes`, `no`, `throttled`
        to_other: &'static str,
        /// That, in a sentence.
        explanation: String,
        /// The node that it would go to.
        target: Option<NodeId>,
    },
}

/// What a node would be for a copy.
#[derive(Clone, Debug)]
pub struct NodeOutlook {
    /// The node.
    pub node: NodeId,
    /// `yes`, `no`, `throttled`, `worse_balance`
    pub decision: &'static str,
    /// Of a primary with data: the copy on its disk (none if there is none), and whether it is in sync.
    pub store: Option<Option<(AllocationId, bool)>>,
    /// Place among the nodes by weight, from 1; none where balance plays no part.
    pub weight_ranking: Option<u32>,
    /// What the deciders said, yes included.
    pub deciders: Vec<Decision>,
}

/// A missing copy to explain if none is named: a primary if possible, else a replica.
#[must_use]
pub fn first_missing(state: &ClusterState) -> Option<(String, u32, bool)> {
    let missing = |primary: bool| {
        state.indices.values().find_map(|index| {
            let routing = state.routing.get(&index.uuid)?;
            let shard = routing.shards.iter().position(|group| {
                group.iter().any(|copy| copy.primary == primary && copy.state == CopyState::Unassigned)
            })?;
            Some((index.name.clone(), shard as u32, primary))
        })
    };
    missing(true).or_else(|| missing(false))
}

/// Explains the primary of a shard, or a replica: on `node` if one is named, else preferably one that is missing. None if there is none.
#[must_use]
pub fn explain(
    state: &ClusterState,
    inputs: &AllocationInputs,
    index: &str,
    shard: u32,
    primary: bool,
    node: Option<NodeId>,
) -> Option<Explanation> {
    let model = Model::new(state, inputs);
    let index = model.find(&state.indices.get(index)?.uuid)?;
    let copy = model
        .group(index, shard)
        .iter()
        .filter(|copy| copy.primary == primary && !copy.relocation_target())
        .filter(|copy| node.is_none() || copy.node == node)
        .min_by_key(|copy| copy.state)?
        .clone();
    let (outlook, nodes) = match copy.state {
        CopyState::Unassigned => missing(&model, index, shard, &copy),
        CopyState::Initializing => {
            let node = copy.node.map(|id| id.to_string()).unwrap_or_default();
            let explanation = format!(
                "the shard is in the process of initializing on node [{node}], wait until initialization has completed"
            );
            (Outlook::Busy { explanation }, Vec::new())
        }
        CopyState::Relocating => {
            let name = |id: Option<NodeId>| id.map(|id| id.to_string()).unwrap_or_default();
            let explanation = format!(
                "the shard is in the process of relocating from node [{}] to node [{}], wait until relocation has completed",
                name(copy.node),
                name(copy.relocating_node)
            );
            (Outlook::Busy { explanation }, Vec::new())
        }
        CopyState::Started => started(&model, index, shard, &copy),
    };
    Some(Explanation { copy, outlook, nodes })
}

fn missing(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting) -> (Outlook, Vec<NodeOutlook>) {
    let with_data = copy.recovery_source == RecoverySource::ExistingStore;
    let mut nodes = outlooks(model, index, shard, copy, None);
    if with_data {
        let in_sync = assign::in_sync_nodes(model, index, shard, copy);
        for node in &mut nodes {
            let key = (model.indices[index].uuid.clone(), shard);
            let stored = model.inputs.stored_copies.get(&node.node).and_then(|copies| copies.get(&key)).copied();
            let good =
                |id: AllocationId| in_sync.iter().any(|&(at, own)| model.nodes[at].node.id == node.node && own == id);
            node.store = Some(stored.map(|id| (id, good(id))));
            node.weight_ranking = None;
            if !stored.is_some_and(good) {
                node.decision = "no";
                node.deciders.clear();
            }
        }
    }
    let place = match copy.recovery_source {
        RecoverySource::ExistingStore => assign::place_existing(model, index, shard, copy),
        RecoverySource::EmptyStore => assign::place_anywhere(model, index, shard, copy),
        RecoverySource::Peer => assign::place_replica(model, index, shard, copy),
    };
    let (status, target) = match place {
        Place::On(node, _) => (None, Some(model.nodes[node].node.id)),
        Place::Later(status, _) | Place::None(status) => (Some(status), None),
    };
    let info = copy.unassigned.as_ref();
    let waits = info.is_some_and(|info| info.reason == UnassignedReason::NodeLeft && info.delayed_until_ms.is_some());
    let delay_ms = (waits && status == Some(AllocationStatus::DelayedAllocation)).then(|| {
        let delay = settings::delayed_timeout_ms(&model.indices[index].meta);
        let until = info.map_or(0, |info| info.at_ms.saturating_add(delay));
        (delay, (until - model.inputs.now_ms).max(0))
    });
    let (can_allocate, explanation) = match status {
        None => ("yes", "can allocate the shard".to_owned()),
        Some(AllocationStatus::DecidersThrottled) => ("throttled", "allocation temporarily throttled".to_owned()),
        Some(AllocationStatus::FetchingShardData) => (
            "awaiting_info",
            "cannot allocate because information about existing shard data is still being retrieved from some of the nodes"
                .to_owned(),
        ),
        Some(AllocationStatus::DelayedAllocation) => {
            let remaining = delay_ms.map_or(0, |(_, remaining)| remaining);
            let despite = if nodes.iter().any(|node| node.decision == "yes") {
                ", despite being allowed to allocate the shard to at least one other node"
            } else {
                ""
            };
            let text = format!(
                "cannot allocate because the cluster is still waiting {} for the departed node holding a replica to rejoin{despite}",
                show_duration(remaining)
            );
            ("allocation_delayed", text)
        }
        Some(AllocationStatus::NoValidShardCopy) => {
            let stale = nodes.iter().any(|node| node.store.flatten().is_some());
            let text = if stale {
                "cannot allocate because all found copies of the shard are either stale or corrupt"
            } else {
                "cannot allocate because a previous copy of the primary shard existed but can no longer be found on the nodes in \
                 the cluster"
            };
            ("no_valid_shard_copy", text.to_owned())
        }
        Some(AllocationStatus::NoAttempt | AllocationStatus::DecidersNo) => {
            let text = if with_data {
                "cannot allocate because allocation is not permitted to any of the nodes that hold an in-sync shard copy"
            } else {
                "cannot allocate because allocation is not permitted to any of the nodes"
            };
            ("no", text.to_owned())
        }
    };
    (Outlook::Missing { can_allocate, explanation, target, delay_ms }, nodes)
}

fn started(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting) -> (Outlook, Vec<NodeOutlook>) {
    let own = copy.node.and_then(|id| model.at.get(&id)).copied();
    let mut nodes = outlooks(model, index, shard, copy, own);
    let first = |nodes: &[NodeOutlook], decision: &str| nodes.iter().find(|n| n.decision == decision).map(|n| n.node);
    let Some(own) = own else {
        return (Outlook::Busy { explanation: "its node is about to leave".to_owned() }, nodes);
    };
    let remain = deciders::can_remain(model, &Question { index, shard, copy, node: own }, true);
    if remain.verdict() != Verdict::Yes {
        let (target, waits) = (first(&nodes, "yes"), first(&nodes, "throttled"));
        let (can_move, explanation) = match (target, waits) {
            (Some(_), _) => ("yes", "shard cannot remain on this node and is force-moved to another node"),
            (None, Some(_)) => {
                ("throttled", "shard cannot remain on this node but moving it to another node is temporarily throttled")
            }
            (None, None) => {
                ("no", "cannot move shard to another node, even though it is not allowed to remain on its current node")
            }
        };
        return (Outlook::Leaves { can_remain: remain.list, can_move, explanation, target }, nodes);
    }
    let rebalance = deciders::can_rebalance(model, index, shard, copy, true);
    let verdict = rebalance.verdict();
    let weight = model.weight(index, own);
    for node in nodes.iter_mut().filter(|node| node.decision != "no") {
        let gains = model
            .at
            .get(&node.node)
            .is_some_and(|&at| weight - model.weight(index, at) > model.settings.threshold + 0.001);
        if !gains {
            node.decision = "worse_balance";
        }
    }
    let (yes, later) = (first(&nodes, "yes"), first(&nodes, "throttled"));
    let (to_other, explanation, target) = match verdict {
        Verdict::No => {
            let even = if yes.is_some() {
                ", even though there is at least one node on which the shard can be allocated"
            } else {
                ""
            };
            ("no", format!("rebalancing is not allowed{even}"), None)
        }
        Verdict::Throttle => ("throttled", "rebalancing is throttled".to_owned(), None),
        Verdict::Yes if yes.is_some() => ("yes", "can rebalance shard".to_owned(), yes),
        Verdict::Yes if later.is_some() => ("throttled", "shard rebalancing throttled".to_owned(), None),
        Verdict::Yes => (
            "no",
            "cannot rebalance as no target node exists that can both allocate this shard and improve the cluster balance"
                .to_owned(),
            None,
        ),
    };
    let cluster = rebalance.list.into_iter().filter(|decision| decision.verdict != Verdict::Yes).collect();
    (Outlook::Stays { can_rebalance: verdict, cluster, to_other, explanation, target }, nodes)
}

/// All data nodes but one, the lightest first.
fn outlooks(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting, own: Option<usize>) -> Vec<NodeOutlook> {
    let mut order: Vec<usize> = (0..model.nodes.len()).filter(|&node| Some(node) != own).collect();
    order.sort_by(|&a, &b| model.weight(index, a).total_cmp(&model.weight(index, b)).then(a.cmp(&b)));
    let outlook = |(rank, node): (usize, usize)| {
        let decisions = deciders::can_allocate(model, &Question { index, shard, copy, node }, true);
        NodeOutlook {
            node: model.nodes[node].node.id,
            decision: match decisions.verdict() {
                Verdict::Yes => "yes",
                Verdict::Throttle => "throttled",
                Verdict::No => "no",
            },
            store: None,
            weight_ranking: Some(rank as u32 + 1),
            deciders: decisions.list,
        }
    };
    order.into_iter().enumerate().map(outlook).collect()
}

/// `59.3s`
fn show_duration(ms: i64) -> String {
    let (unit, size) = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find(|(_, size)| ms >= *size)
        .unwrap_or(("ms", 1));
    let tenths = ms * 10 / size;
    if tenths % 10 == 0 { format!("{}{unit}", tenths / 10) } else { format!("{}.{}{unit}", tenths / 10, tenths % 10) }
}

//! Allocation by hand: `_cluster/reroute`.

use super::deciders::{self, Decision, Question, Verdict, show_copy};
use super::draft::ANY_COPY;
use super::model::Model;
use super::{AllocationInputs, reroute_model};
use crate::cluster::ids::NodeId;
use crate::cluster::routing::{CopyState, RecoverySource, ShardRouting, UnassignedInfo, UnassignedReason};
use crate::cluster::state::{ClusterState, DiscoveryNode, host_of};

/// What somebody wants done with one copy. Nodes are named by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Name of the index.
    pub index: String,
    /// The shard.
    pub shard: u32,
    /// The node: of a move where it starts, else where the copy is or is to be.
    pub node: String,
    /// What is wanted.
    pub verb: Verb,
}

/// The kinds of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Moves a started copy.
    Move {
        /// Where to.
        to: String,
    },
    /// Drops a copy, or ends a move; the copy is allocated anew.
    Cancel {
        /// Also if it is the primary.
        allow_primary: bool,
    },
    /// Allocates a missing replica.
    AllocateReplica,
    /// Makes a primary of a copy that lacks operations.
    AllocateStalePrimary {
        /// Those operations are given up.
        accept_data_loss: bool,
    },
    /// Makes a primary with nothing in it.
    AllocateEmptyPrimary {
        /// What the shard had is given up.
        accept_data_loss: bool,
    },
}

impl Verb {
    /// Its name in requests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Move { .. } => "move",
            Verb::Cancel { .. } => "cancel",
            Verb::AllocateReplica => "allocate_replica",
            Verb::AllocateStalePrimary { .. } => "allocate_stale_primary",
            Verb::AllocateEmptyPrimary { .. } => "allocate_empty_primary",
        }
    }
}

/// What commands come to.
#[derive(Clone, Debug, Default)]
pub struct Commanded {
    /// The new state; none if nothing changed.
    pub state: Option<ClusterState>,
    /// When to reroute again (milliseconds since 1970).
    pub wake_up_ms: Option<i64>,
    /// For each command, what the deciders, or the command itself, said.
    pub explanations: Vec<Vec<Decision>>,
}

/// Executes commands in order, then reroutes. The first that cannot be executed ends it with a message, unless `explain` is set: then
/// it is left out, and its explanation says why. `retry_failed` lets copies that wait after failures try again at once.
pub fn reroute_by_hand(
    state: &ClusterState,
    inputs: &AllocationInputs,
    commands: &[Command],
    explain: bool,
    retry_failed: bool,
) -> Result<Commanded, String> {
    let mut model = Model::new(state, inputs);
    let mut explanations = Vec::new();
    model.by_hand = true;
    for command in commands {
        match execute(&mut model, command) {
            Ok(decisions) => explanations.push(decisions),
            Err(Refused::Command(message)) => return Err(message),
            Err(Refused::Step { message, decisions }) if explain => {
                let own = Decision { decider: decider_name(&command.verb), verdict: Verdict::No, explanation: message };
                explanations.push(if decisions.is_empty() { vec![own] } else { decisions });
            }
            Err(Refused::Step { message, .. }) => {
                let name = command.verb.name();
                let name = if matches!(command.verb, Verb::Move { .. } | Verb::Cancel { .. }) {
                    format!("{name}_allocation")
                } else {
                    name.to_owned()
                };
                return Err(format!("[{name}] {message}"));
            }
        }
    }
    model.by_hand = false;
    if retry_failed {
        forget_failures(&mut model);
    }
    let wake_up_ms = reroute_model(&mut model);
    Ok(Commanded { state: model.draft.finish(), wake_up_ms, explanations })
}

enum Refused {
    /// The command makes no sense at all.
    Command(String),
    /// It makes sense, but not now.
    Step { message: String, decisions: Vec<Decision> },
}

fn step(message: String) -> Refused {
    Refused::Step { message, decisions: Vec::new() }
}

fn not_on(verb: &str, shard: u32, node: &DiscoveryNode) -> Refused {
    step(format!("can't {verb} {shard}, failed to find it on node {}", show_node(node)))
}

fn decider_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Move { .. } => "move_allocation_command",
        Verb::Cancel { .. } => "cancel_allocation_command",
        Verb::AllocateReplica => "allocate_replica (allocation command)",
        Verb::AllocateStalePrimary { .. } => "allocate_stale_primary (allocation command)",
        Verb::AllocateEmptyPrimary { .. } => "allocate_empty_primary (allocation command)",
    }
}

fn forget_failures(model: &mut Model<'_>) {
    for index in 0..model.indices.len() {
        for shard in 0..model.indices[index].meta.number_of_shards {
            for at in 0..model.group(index, shard).len() {
                model.edit_info(index, shard, at, |info| info.failed_allocations = 0);
            }
        }
    }
}

fn execute(model: &mut Model<'_>, command: &Command) -> Result<Vec<Decision>, Refused> {
    let unknown = || Refused::Command(format!("no such index [{}]", command.index));
    let uuid = model.draft.state.indices.get(&command.index).ok_or_else(unknown)?.uuid.clone();
    let index = model.find(&uuid).ok_or_else(unknown)?;
    let node = resolve(model, &command.node)?;
    if command.shard >= model.indices[index].meta.number_of_shards {
        return Err(match &command.verb {
            Verb::Move { .. } => not_on("move", command.shard, &node),
            Verb::Cancel { .. } => not_on("cancel", command.shard, &node),
            _ => step(format!("no such shard [{}] in index [{}]", command.shard, command.index)),
        });
    }
    match &command.verb {
        Verb::Move { to } => {
            let to = resolve(model, to)?;
            move_copy(model, command, index, &node, &to)
        }
        Verb::Cancel { allow_primary } => cancel(model, command, index, &node, *allow_primary),
        Verb::AllocateReplica => allocate_replica(model, command, index, &node),
        Verb::AllocateStalePrimary { accept_data_loss } => {
            allocate_primary(model, command, index, &node, *accept_data_loss, RecoverySource::ExistingStore)
        }
        Verb::AllocateEmptyPrimary { accept_data_loss } => {
            allocate_primary(model, command, index, &node, *accept_data_loss, RecoverySource::EmptyStore)
        }
    }
}

fn resolve(model: &Model<'_>, text: &str) -> Result<DiscoveryNode, Refused> {
    let nodes = &model.draft.state.nodes;
    let by_id = text.parse::<NodeId>().ok().and_then(|id| nodes.get(&id));
    let found = by_id.or_else(|| nodes.values().find(|node| node.name == text));
    found
        .map(|node| (**node).clone())
        .ok_or_else(|| Refused::Command(format!("failed to resolve [{text}], no matching nodes")))
}

fn data_node(model: &Model<'_>, node: &DiscoveryNode) -> Result<usize, Refused> {
    let at = model.at.get(&node.id).copied();
    at.ok_or_else(|| step(format!("allocation can only be done on data nodes, not [{}]", node.id)))
}

/// `{name}{id}{ephemeral id}{host}{address}{roles}`
pub(super) fn show_node(node: &DiscoveryNode) -> String {
    let roles: String = node.roles.iter().map(|role| role.letter()).collect();
    let host = host_of(&node.transport_address);
    format!(
        "{{{}}}{{{}}}{{{}}}{{{host}}}{{{}}}{{{roles}}}",
        node.name, node.id, node.ephemeral_id, node.transport_address
    )
}

fn show(decisions: &[Decision]) -> String {
    decisions.iter().map(|d| format!("[{}({})]", d.verdict.name(), d.explanation)).collect()
}

fn find_on(model: &Model<'_>, index: usize, shard: u32, node: NodeId) -> Option<(usize, ShardRouting)> {
    let group = model.group(index, shard);
    let at = group.iter().position(|copy| copy.node == Some(node))?;
    Some((at, group[at].clone()))
}

fn move_copy(
    model: &mut Model<'_>,
    command: &Command,
    index: usize,
    from: &DiscoveryNode,
    to: &DiscoveryNode,
) -> Result<Vec<Decision>, Refused> {
    let shard = command.shard;
    let Some((at, copy)) = find_on(model, index, shard, from.id) else {
        return Err(not_on("move", shard, from));
    };
    if copy.state != CopyState::Started {
        return Err(step(format!("can't move {shard}, shard is not started (state = {}]", copy.state.name())));
    }
    let node = data_node(model, to)?;
    let decisions = deciders::can_allocate(model, &Question { index, shard, copy: &copy, node }, true);
    if decisions.verdict() == Verdict::No {
        let reason = show(&decisions.list);
        let message = format!(
            "can't move {shard}, from {}, to {}, since its not allowed, reason: {reason}",
            show_node(from),
            show_node(to)
        );
        return Err(Refused::Step { message, decisions: decisions.list });
    }
    model.relocate(index, shard, at, node);
    Ok(decisions.list)
}

fn cancel(
    model: &mut Model<'_>,
    command: &Command,
    index: usize,
    node: &DiscoveryNode,
    allow_primary: bool,
) -> Result<Vec<Decision>, Refused> {
    let (shard, shown) = (command.shard, show_node(node));
    let Some((_, copy)) = find_on(model, index, shard, node.id) else {
        return Err(not_on("cancel", shard, node));
    };
    let moves = copy.relocating_node.is_some();
    if copy.primary && !allow_primary && !moves {
        let state = copy.state.name().to_ascii_lowercase();
        return Err(step(format!("can't cancel {shard} on node {shown}, shard is primary and {state}")));
    }
    let mut info = UnassignedInfo::new(UnassignedReason::RerouteCancelled, model.inputs.now_ms);
    info.last_node = copy.node;
    // A copy that moves stays where it is: it is the move that is cancelled.
    let target = model.group(index, shard).iter().find(|c| c.relocation_target() && c.relocating_node == copy.node);
    let id = match target {
        Some(target) if copy.state == CopyState::Relocating => target.allocation_id,
        _ => copy.allocation_id,
    };
    if let Some(id) = id {
        model.change(index, shard, |draft, uuid, shard| draft.lose(uuid, shard, id, info));
    }
    Ok(vec![Decision {
        decider: "cancel_allocation_command",
        verdict: Verdict::Yes,
        explanation: format!("shard {shard} on node {shown} can be cancelled"),
    }])
}

fn allocate_replica(
    model: &mut Model<'_>,
    command: &Command,
    index: usize,
    node: &DiscoveryNode,
) -> Result<Vec<Decision>, Refused> {
    let (name, shard) = (&command.index, command.shard);
    let at_node = data_node(model, node)?;
    if !model.primary(index, shard).is_some_and(ShardRouting::active) {
        return Err(step(format!(
            "trying to allocate a replica shard [{name}][{shard}], while corresponding primary shard is still unassigned"
        )));
    }
    let group = model.group(index, shard);
    let Some(at) = group.iter().position(|copy| !copy.primary && copy.state == CopyState::Unassigned) else {
        return Err(step(format!(
            "all copies of [{name}][{shard}] are already assigned. Use the move allocation command instead"
        )));
    };
    let copy = group[at].clone();
    let decisions = deciders::can_allocate(model, &Question { index, shard, copy: &copy, node: at_node }, true);
    if decisions.verdict() == Verdict::No {
        let reason = show(&decisions.list);
        let message =
            format!("allocation of [{name}][{shard}] on node {} is not allowed, reason: {reason}", show_node(node));
        return Err(Refused::Step { message, decisions: decisions.list });
    }
    let id = model.fresh_id();
    model.initialize(index, shard, at, at_node, id);
    Ok(decisions.list)
}

fn allocate_primary(
    model: &mut Model<'_>,
    command: &Command,
    index: usize,
    node: &DiscoveryNode,
    accept_data_loss: bool,
    source: RecoverySource,
) -> Result<Vec<Decision>, Refused> {
    let (name, shard) = (&command.index, command.shard);
    let at_node = data_node(model, node)?;
    let group = model.group(index, shard);
    let at = group.iter().position(|copy| copy.primary && copy.state == CopyState::Unassigned);
    let Some(at) = at else {
        return Err(step(format!("primary [{name}][{shard}] is already assigned")));
    };
    let was_never_there = group[at].recovery_source == RecoverySource::EmptyStore;
    if source == RecoverySource::ExistingStore && was_never_there {
        return Err(step(format!(
            "trying to allocate an existing primary shard [{name}][{shard}], while no such shard has ever been active"
        )));
    }
    if !accept_data_loss && !was_never_there {
        return Err(step(format!(
            "allocating an empty primary for [{name}][{shard}] can result in data loss. Please confirm by setting the \
             accept_data_loss parameter to true"
        )));
    }
    let id = if source == RecoverySource::ExistingStore {
        let key = (model.indices[index].uuid.clone(), shard);
        let stored = model.inputs.stored_copies.get(&node.id).and_then(|copies| copies.get(&key)).copied();
        let Some(stored) = stored else {
            return Err(step(format!("no data of shard [{name}][{shard}] has been found on node {}", show_node(node))));
        };
        stored
    } else {
        ANY_COPY
    };
    let id = if id == ANY_COPY { model.fresh_id() } else { id };
    model.change(index, shard, |draft, uuid, shard| {
        if let Some(copy) = draft.edit_group(uuid, shard).and_then(|group| group.get_mut(at)) {
            copy.recovery_source = source;
            if let Some(info) = &mut copy.unassigned {
                info.failed_allocations = 0;
            }
        }
    });
    model.initialize(index, shard, at, at_node, id);
    Ok(vec![Decision {
        decider: decider_name(&command.verb),
        verdict: Verdict::Yes,
        explanation: "ignore deciders".to_owned(),
    }])
}

/// `[i][0], node[...], [P], s[STARTED], a[id=...]`
#[must_use]
pub fn describe_copy(index: &str, shard: u32, copy: &ShardRouting) -> String {
    show_copy(index, shard, copy)
}

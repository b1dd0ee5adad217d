//! What is always so of a cluster state.

use std::collections::BTreeSet;

use super::draft::ANY_COPY;
use crate::cluster::routing::{CopyState, ShardRouting};
use crate::cluster::state::{ClusterState, IndexMetadata};

/// The invariants of nodes, routing and in-sync sets; the first that is broken, in words.
pub fn check(state: &ClusterState) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    for (uuid, routing) in &state.routing {
        let index = state.index_by_uuid(uuid).ok_or_else(|| format!("[{uuid}] is routed but is no index"))?;
        if !index.open {
            return Err(format!("[{}] is closed but routed", index.name));
        }
        if routing.shards.len() != index.number_of_shards as usize {
            return Err(format!("[{}] has {} groups of copies", index.name, routing.shards.len()));
        }
        for (shard, group) in routing.shards.iter().enumerate() {
            let shard = shard as u32;
            check_group(state, index, shard, group).map_err(|what| format!("[{}][{shard}]: {what}", index.name))?;
            for id in group.iter().filter_map(|copy| copy.allocation_id) {
                if !ids.insert(id) {
                    return Err(format!("[{}][{shard}]: {id} is used twice", index.name));
                }
            }
        }
    }
    Ok(())
}

fn check_group(state: &ClusterState, index: &IndexMetadata, shard: u32, group: &[ShardRouting]) -> Result<(), String> {
    let whole: Vec<&ShardRouting> = group.iter().filter(|copy| !copy.relocation_target()).collect();
    if whole.len() != index.number_of_replicas as usize + 1 {
        return Err(format!("{} copies for {} replicas", whole.len(), index.number_of_replicas));
    }
    if whole.iter().filter(|copy| copy.primary).count() != 1 || !group[0].primary || group[0].relocation_target() {
        return Err("not one primary, the first".to_owned());
    }
    if index.primary_term(shard) < 1 {
        return Err("primary term 0".to_owned());
    }
    let in_sync = index.in_sync_of(shard);
    let mut nodes = BTreeSet::new();
    for copy in group {
        check_copy(state, group, copy)?;
        if copy.node.is_some_and(|node| !nodes.insert(node)) {
            return Err(format!("two copies on {:?}", copy.node));
        }
        if copy.active() && !copy.allocation_id.is_some_and(|id| in_sync.contains(&id) && id != ANY_COPY) {
            return Err(format!("{:?} is active but not in sync", copy.allocation_id));
        }
        if !copy.primary && copy.state != CopyState::Unassigned && !group[0].active() {
            return Err("a replica without an active primary".to_owned());
        }
    }
    if group[0].active() && in_sync.contains(&ANY_COPY) {
        return Err("any copy would do though there is a primary".to_owned());
    }
    Ok(())
}

fn check_copy(state: &ClusterState, group: &[ShardRouting], copy: &ShardRouting) -> Result<(), String> {
    let assigned = copy.state != CopyState::Unassigned;
    if copy.node.is_some() != assigned || copy.allocation_id.is_some() != assigned {
        return Err(format!("{copy:?} is half assigned"));
    }
    if let Some(node) = copy.node
        && !state.nodes.get(&node).is_some_and(|node| node.is_data())
    {
        return Err(format!("a copy on {node}, which is no data node"));
    }
    if !assigned && copy.unassigned.is_none() {
        return Err("unassigned without a reason".to_owned());
    }
    let twin = group.iter().filter(|other| {
        other.node == copy.relocating_node && other.relocating_node == copy.node && other.primary == copy.primary
    });
    let twins = match copy.state {
        CopyState::Relocating => twin.filter(|other| other.relocation_target()).count(),
        CopyState::Initializing if copy.relocating_node.is_some() => {
            twin.filter(|other| other.state == CopyState::Relocating).count()
        }
        _ if copy.relocating_node.is_some() => return Err(format!("{copy:?} goes nowhere")),
        _ => return Ok(()),
    };
    if twins == 1 { Ok(()) } else { Err(format!("{copy:?} has {twins} other ends")) }
}

/// What no step may do to the one before: the second half of the invariants.
#[cfg(test)]
pub(super) fn check_step(old: &ClusterState, new: &ClusterState) -> Result<(), String> {
    for index in new.indices.values() {
        let Some(before) = old.index_by_uuid(&index.uuid) else { continue };
        for shard in 0..index.number_of_shards {
            let place = format!("[{}][{shard}]", index.name);
            if index.primary_term(shard) < before.primary_term(shard) {
                return Err(format!("{place}: the primary term fell"));
            }
            if index.in_sync_of(shard).is_empty() && !before.in_sync_of(shard).is_empty() {
                return Err(format!("{place}: the in-sync set was emptied"));
            }
            let primary = |state: &ClusterState| {
                let routing = state.routing.get(&index.uuid)?;
                routing.primary(shard).filter(|p| p.state != CopyState::Unassigned)?.allocation_id
            };
            let (was, is) = (primary(old), primary(new));
            if was != is && was.is_some() && is.is_some() && index.primary_term(shard) <= before.primary_term(shard) {
                return Err(format!("{place}: another primary in the same term"));
            }
        }
        if new.metadata_version == old.metadata_version && **before != **index {
            return Err(format!("[{}] changed in the same version of the metadata", index.name));
        }
    }
    Ok(())
}

//! Places for missing copies.

use super::WakeUp;
use super::backoff::retry_at_ms;
use super::deciders::{self, Question, Verdict};
use super::draft::ANY_COPY;
use super::model::Model;
use super::settings;
use crate::cluster::ids::AllocationId;
use crate::cluster::routing::{AllocationStatus, CopyState, RecoverySource, ShardRouting, UnassignedReason};

/// `index.auto_expand_replicas`: as many replicas as there are nodes for.
pub(super) fn auto_expand(model: &mut Model<'_>) {
    for index in 0..model.indices.len() {
        let meta = &model.indices[index].meta;
        let Some((least, most)) = settings::auto_expand(&meta.settings) else { continue };
        let nodes = (0..model.nodes.len()).filter(|&node| deciders::passes_filters(model, index, node)).count();
        if nodes == 0 {
            continue;
        }
        let most = most.unwrap_or(u32::MAX);
        let wanted = (nodes as u32 - 1).clamp(least.min(most), most);
        if wanted == meta.number_of_replicas {
            continue;
        }
        let (uuid, shards, now_ms) = (model.indices[index].uuid.clone(), meta.number_of_shards, model.inputs.now_ms);
        if let Some(meta) = model.draft.edit_index(&uuid) {
            meta.number_of_replicas = wanted;
            meta.settings.insert("index.number_of_replicas".to_owned(), wanted.to_string().into());
            meta.settings_version += 1;
        }
        for shard in 0..shards {
            model.change(index, shard, |draft, uuid, shard| {
                draft.fit_replicas(uuid, shard, now_ms, UnassignedReason::ReplicaAdded);
            });
        }
    }
}

/// Gives each missing copy a place, if there is one now: primaries of all indices first.
pub(super) fn assign(model: &mut Model<'_>, wake: &mut WakeUp) {
    for primaries in [true, false] {
        for index in 0..model.indices.len() {
            for shard in 0..model.indices[index].meta.number_of_shards {
                assign_group(model, wake, index, shard, primaries);
            }
        }
    }
}

fn assign_group(model: &mut Model<'_>, wake: &mut WakeUp, index: usize, shard: u32, primaries: bool) {
    for at in 0..model.group(index, shard).len() {
        let copy = &model.group(index, shard)[at];
        if copy.state != CopyState::Unassigned || copy.primary != primaries {
            continue;
        }
        settle_delay(model, wake, index, shard, at);
        let copy = model.group(index, shard)[at].clone();
        let waits = retry_pause(model, index, &copy);
        let place = match copy.recovery_source {
            RecoverySource::ExistingStore => place_existing(model, index, shard, &copy),
            RecoverySource::EmptyStore => place_anywhere(model, index, shard, &copy),
            RecoverySource::Peer => place_replica(model, index, shard, &copy),
        };
        match place {
            Place::On(node, id) => {
                let id = id.unwrap_or_else(|| model.fresh_id());
                model.initialize(index, shard, at, node, id);
            }
            Place::Later(status, node) => {
                if let Some(node) = node {
                    model.reserve(index, node);
                }
                note(model, index, shard, at, primaries, status);
            }
            Place::None(status) => {
                // What only waits for a pause to end is not hopeless.
                match waits {
                    Some(until) => wake.at(until),
                    None => {
                        model.hopeless.0 += 1;
                        model.hopeless.1 += i64::from(primaries);
                    }
                }
                note(model, index, shard, at, primaries, status);
            }
        }
    }
}

/// What an attempt came to is kept of primaries alone: of replicas it would change with every reroute, and help nobody.
fn note(model: &mut Model<'_>, index: usize, shard: u32, at: usize, primary: bool, status: AllocationStatus) {
    if primary {
        model.edit_info(index, shard, at, |info| info.last_status = status);
    }
}

/// Where a copy can go now.
pub(super) enum Place {
    /// There; under that name if it has one already.
    On(usize, Option<AllocationId>),
    /// Nowhere now, but later; there, if it is known.
    Later(AllocationStatus, Option<usize>),
    /// Nowhere.
    None(AllocationStatus),
}

/// The delay follows the setting as it is now, and ends in time.
fn settle_delay(model: &mut Model<'_>, wake: &mut WakeUp, index: usize, shard: u32, at: usize) {
    let now_ms = model.inputs.now_ms;
    let Some(info) = model.group(index, shard)[at].unassigned.as_ref() else { return };
    if info.delayed_until_ms.is_none() {
        return;
    }
    let until = info.at_ms.saturating_add(settings::delayed_timeout_ms(&model.indices[index].meta));
    let until = (until > now_ms).then_some(until);
    if let Some(until) = until {
        wake.at(until);
    }
    model.edit_info(index, shard, at, |info| info.delayed_until_ms = until);
}

fn retry_pause(model: &Model<'_>, index: usize, copy: &ShardRouting) -> Option<i64> {
    let most = model.indices[index].settings.max_retries;
    let until = retry_at_ms(copy.unassigned.as_ref()?, most, false)?;
    (until > model.inputs.now_ms).then_some(until)
}

/// A primary with data: on a node that has a copy which is in sync, and nowhere else.
pub(super) fn place_existing(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting) -> Place {
    let found = in_sync_nodes(model, index, shard, copy);
    if found.is_empty() {
        let unheard = model.nodes.iter().any(|node| !node.reported);
        return if unheard {
            Place::Later(AllocationStatus::FetchingShardData, None)
        } else {
            Place::None(AllocationStatus::NoValidShardCopy)
        };
    }
    // What merely advises against a node does not keep data from being available.
    let (mut throttled, mut forced) = (None, None);
    for (node, id) in found {
        let decisions = deciders::can_allocate(model, &Question { index, shard, copy, node }, false);
        let id = Some(id).filter(|id| *id != ANY_COPY);
        match decisions.verdict() {
            Verdict::Yes => return Place::On(node, id),
            Verdict::Throttle => throttled = throttled.or(Some(node)),
            Verdict::No if !decisions.firm => forced = forced.or(Some((node, id))),
            Verdict::No => {}
        }
    }
    match (throttled, forced) {
        (Some(node), _) => Place::Later(AllocationStatus::DecidersThrottled, Some(node)),
        (None, Some((node, id))) => Place::On(node, id),
        (None, None) => Place::None(AllocationStatus::DecidersNo),
    }
}

/// Nodes with a copy that may become primary, the likeliest first.
pub(super) fn in_sync_nodes(
    model: &Model<'_>,
    index: usize,
    shard: u32,
    copy: &ShardRouting,
) -> Vec<(usize, AllocationId)> {
    let in_sync = model.draft.in_sync(&model.indices[index].uuid, shard);
    let mut found: Vec<(usize, AllocationId)> =
        stored(model, index, shard).filter(|(_, id)| in_sync.contains(id) || in_sync.contains(&ANY_COPY)).collect();
    let last = copy.unassigned.as_ref().and_then(|info| info.last_node);
    found.sort_by_key(|&(node, _)| (Some(model.nodes[node].node.id) != last, model.nodes[node].shards, node));
    found
}

fn stored<'m>(model: &'m Model<'_>, index: usize, shard: u32) -> impl Iterator<Item = (usize, AllocationId)> + 'm {
    let key = (model.indices[index].uuid.clone(), shard);
    model.nodes.iter().enumerate().filter_map(move |(at, node)| {
        let id = model.inputs.stored_copies.get(&node.node.id)?.get(&key)?;
        Some((at, *id))
    })
}

/// A replica: where files of it are still, then anywhere.
pub(super) fn place_replica(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting) -> Place {
    if !model.primary(index, shard).is_some_and(ShardRouting::active) {
        return Place::None(AllocationStatus::DecidersNo);
    }
    let info = copy.unassigned.as_ref();
    let is_new = info.is_none_or(|info| info.reason == UnassignedReason::IndexCreated);
    if !is_new && !model.by_hand && model.nodes.iter().any(|node| !node.reported) {
        return Place::Later(AllocationStatus::FetchingShardData, None);
    }
    let in_sync = model.draft.in_sync(&model.indices[index].uuid, shard);
    let last = info.and_then(|info| info.last_node);
    let mut found: Vec<(usize, AllocationId)> = stored(model, index, shard).collect();
    found.sort_by_key(|&(node, id)| {
        let own = &model.nodes[node];
        (!in_sync.contains(&id), Some(own.node.id) != last, own.shards, node)
    });
    let mut busy = None;
    for (node, _) in found {
        match deciders::can_allocate(model, &Question { index, shard, copy, node }, false).verdict() {
            Verdict::Yes => return Place::On(node, None),
            Verdict::Throttle => busy = busy.or(Some(node)),
            Verdict::No => {}
        }
    }
    if let Some(node) = busy {
        return Place::Later(AllocationStatus::DecidersThrottled, Some(node));
    }
    if info.is_some_and(|info| info.delayed_until_ms.is_some_and(|until| until > model.inputs.now_ms)) {
        return Place::Later(AllocationStatus::DelayedAllocation, None);
    }
    place_anywhere(model, index, shard, copy)
}

/// The node that has least, of those that may have it.
pub(super) fn place_anywhere(model: &Model<'_>, index: usize, shard: u32, copy: &ShardRouting) -> Place {
    let count = model.nodes.len();
    let mut best: Option<(f64, Verdict, usize, usize)> = None;
    for node in 0..count {
        let verdict = deciders::can_allocate(model, &Question { index, shard, copy, node }, false).verdict();
        if verdict == Verdict::No {
            continue;
        }
        let weight = model.weight(index, node);
        // Among equals the shards of an index go round.
        let turn = (node + count - shard as usize % count) % count;
        let better = best.is_none_or(
            |(w, v, t, _)| {
                if (weight - w).abs() > 1e-6 { weight < w } else { (verdict, turn) < (v, t) }
            },
        );
        if better {
            best = Some((weight, verdict, turn, node));
        }
    }
    match best {
        None => Place::None(AllocationStatus::DecidersNo),
        Some((_, Verdict::Yes, _, node)) => Place::On(node, None),
        Some((.., node)) => Place::Later(AllocationStatus::DecidersThrottled, Some(node)),
    }
}

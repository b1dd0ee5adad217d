//! Moves: away from where a copy must not stay, and towards an even load.
//!
//! The weight of a node for an index is `shard * (its copies - average) + index * (its copies of the index - average)`, the factors
//! scaled to a sum of 1. A move of one copy lessens the difference of two nodes by 2 and is made only where the difference is above the
//! threshold (at least 1): the sum of squares falls with every move, so balancing ends.

use super::WakeUp;
use super::backoff::retry_at_ms;
use super::deciders::{self, Question, Verdict};
use super::model::Model;
use crate::cluster::routing::CopyState;

/// Moves copies that must not stay where they are.
pub(super) fn evacuate(model: &mut Model<'_>, wake: &mut WakeUp) {
    for index in 0..model.indices.len() {
        for shard in 0..model.indices[index].meta.number_of_shards {
            for at in 0..model.group(index, shard).len() {
                let copy = &model.group(index, shard)[at];
                let from = copy.node.and_then(|node| model.at.get(&node)).copied();
                let (CopyState::Started, Some(from)) = (copy.state, from) else { continue };
                let question = Question { index, shard, copy, node: from };
                if deciders::can_remain(model, &question, false).verdict() == Verdict::Yes {
                    continue;
                }
                let mut nodes: Vec<usize> = (0..model.nodes.len()).filter(|&node| node != from).collect();
                nodes.sort_by(|&a, &b| model.weight(index, a).total_cmp(&model.weight(index, b)));
                let to = nodes.into_iter().find(|&node| {
                    let question = Question { node, ..question };
                    deciders::can_allocate(model, &question, false).verdict() == Verdict::Yes
                });
                match to {
                    Some(to) => model.relocate(index, shard, at, to),
                    None => note_pause(model, wake, index, shard, at),
                }
            }
        }
    }
}

/// Moves copies from nodes that have much to nodes that have little.
pub(super) fn balance(model: &mut Model<'_>, wake: &mut WakeUp) {
    if model.nodes.len() < 2 {
        return;
    }
    for index in by_imbalance(model) {
        while deciders::cluster_can_rebalance(model, false).verdict() == Verdict::Yes {
            let Some((shard, at, to)) = gain(model, wake, index) else { break };
            model.relocate(index, shard, at, to);
        }
    }
}

/// The most uneven index first.
fn by_imbalance(model: &Model<'_>) -> Vec<usize> {
    let mut order: Vec<(f64, usize)> = (0..model.indices.len())
        .map(|index| {
            let weights = weights(model, index);
            let spread = weights.last().map_or(0.0, |most| most.0) - weights.first().map_or(0.0, |least| least.0);
            (spread, index)
        })
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, index)| index).collect()
}

/// The nodes by their weight for an index, the lightest first.
fn weights(model: &Model<'_>, index: usize) -> Vec<(f64, usize)> {
    let count = model.nodes.len().max(1) as f64;
    let shards: i64 = model.nodes.iter().map(|n| n.shards).sum();
    let own: i64 = model.nodes.iter().map(|n| n.of(index)).sum();
    let mut weights: Vec<(f64, usize)> = (0..model.nodes.len())
        .map(|node| (model.weight_above(index, node, shards as f64 / count, own as f64 / count), node))
        .collect();
    weights.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    weights
}

/// The move that gains most: which copy of a shard goes to which node.
fn gain(model: &Model<'_>, wake: &mut WakeUp, index: usize) -> Option<(u32, usize, usize)> {
    let weights = weights(model, index);
    // Rounding must not make a difference of exactly the threshold worth a move.
    let threshold = model.settings.threshold + 0.001;
    for &(high, from) in weights.iter().rev() {
        if model.nodes[from].of(index) == 0 {
            continue;
        }
        for &(low, to) in &weights {
            if high - low <= threshold {
                break;
            }
            if let Some((shard, at)) = movable(model, wake, index, from, to) {
                return Some((shard, at, to));
            }
        }
    }
    None
}

/// A copy of an index that may go from one node to another.
fn movable(model: &Model<'_>, wake: &mut WakeUp, index: usize, from: usize, to: usize) -> Option<(u32, usize)> {
    let source = model.nodes[from].node.id;
    for shard in (0..model.indices[index].meta.number_of_shards).rev() {
        let group = model.group(index, shard);
        let Some(at) = group.iter().position(|c| c.state == CopyState::Started && c.node == Some(source)) else {
            continue;
        };
        let copy = &group[at];
        if deciders::can_rebalance(model, index, shard, copy, false).verdict() != Verdict::Yes {
            continue;
        }
        if deciders::can_allocate(model, &Question { index, shard, copy, node: to }, false).verdict() == Verdict::Yes {
            return Some((shard, at));
        }
        note_pause(model, wake, index, shard, at);
    }
    None
}

/// A move that failed is tried again after a pause.
fn note_pause(model: &Model<'_>, wake: &mut WakeUp, index: usize, shard: u32, at: usize) {
    let info = model.group(index, shard)[at].unassigned.as_ref();
    let most = model.indices[index].settings.max_retries;
    if let Some(until) = info.and_then(|info| retry_at_ms(info, most, true))
        && until > model.inputs.now_ms
    {
        wake.at(until);
    }
}

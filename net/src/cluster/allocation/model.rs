//! The cluster as allocation sees it: the draft of the new state, with counts per node that follow each change.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::draft::Draft;
use super::settings::{ClusterSettings, IndexSettings};
use super::{AllocationInputs, DiskUsage};
use crate::cluster::ids::{AllocationId, NodeId};
use crate::cluster::routing::{CopyState, ShardRouting, UnassignedInfo};
use crate::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata};

/// An index with routing.
pub(super) struct IndexModel {
    pub(super) uuid: String,
    pub(super) meta: Arc<IndexMetadata>,
    pub(super) settings: IndexSettings,
}

/// A data node and what is on it. A copy that moves counts where it goes to.
pub(super) struct NodeModel {
    pub(super) node: Arc<DiscoveryNode>,
    pub(super) shards: i64,
    pub(super) per_index: FxHashMap<usize, i64>,
    pub(super) incoming: i64,
    pub(super) outgoing: i64,
    pub(super) initial_primaries: i64,
    pub(super) incoming_bytes: u64,
    pub(super) leaving_bytes: u64,
    pub(super) disk: Option<DiskUsage>,
    pub(super) reported: bool,
}

/// Copies in the whole cluster that keep it from being balanced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) relocating: i64,
    pub(super) unassigned: i64,
    pub(super) unassigned_primaries: i64,
    pub(super) inactive: i64,
    pub(super) inactive_primaries: i64,
}

pub(super) struct Model<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) inputs: &'a AllocationInputs,
    pub(super) settings: ClusterSettings,
    /// In the order in which they are allocated: `index.priority`, then the newest, then by name.
    pub(super) indices: Vec<IndexModel>,
    /// By id.
    pub(super) nodes: Vec<NodeModel>,
    pub(super) at: FxHashMap<NodeId, usize>,
    pub(super) totals: Totals,
    /// Allocation is asked for by hand: what is disabled or delayed is allowed.
    pub(super) by_hand: bool,
    /// Missing copies that no node takes whatever else happens: they do not keep the rest from being balanced.
    pub(super) hopeless: (i64, i64),
    issued: u64,
}

impl<'a> Model<'a> {
    pub(super) fn new(state: &'a ClusterState, inputs: &'a AllocationInputs) -> Model<'a> {
        Model::of(Draft::of(state), inputs)
    }

    pub(super) fn of(draft: Draft<'a>, inputs: &'a AllocationInputs) -> Model<'a> {
        let state = &draft.state;
        let nodes: Vec<NodeModel> = state
            .nodes
            .values()
            .filter(|node| node.is_data())
            .map(|node| NodeModel {
                node: node.clone(),
                shards: 0,
                per_index: FxHashMap::default(),
                incoming: 0,
                outgoing: 0,
                initial_primaries: 0,
                incoming_bytes: 0,
                leaving_bytes: 0,
                disk: inputs.disks.get(&node.id).copied(),
                reported: inputs.stored_copies.contains_key(&node.id),
            })
            .collect();
        let mut indices: Vec<IndexModel> = state
            .indices
            .values()
            .filter(|index| state.routing.contains_key(&index.uuid))
            .map(|index| IndexModel {
                uuid: index.uuid.clone(),
                meta: index.clone(),
                settings: IndexSettings::of(index),
            })
            .collect();
        indices.sort_by(|a, b| {
            let key = |i: &IndexModel| (-i.settings.priority, -i.meta.creation_date);
            key(a).cmp(&key(b)).then_with(|| b.meta.name.cmp(&a.meta.name))
        });
        let mut model = Model {
            at: nodes.iter().enumerate().map(|(at, n)| (n.node.id, at)).collect(),
            settings: ClusterSettings::of(state),
            draft,
            inputs,
            indices,
            nodes,
            totals: Totals::default(),
            by_hand: false,
            hopeless: (0, 0),
            issued: 0,
        };
        for index in 0..model.indices.len() {
            for shard in 0..model.indices[index].meta.number_of_shards {
                model.count(index, shard, 1);
            }
        }
        model
    }

    pub(super) fn group(&self, index: usize, shard: u32) -> &[ShardRouting] {
        self.draft.group(&self.indices[index].uuid, shard)
    }

    pub(super) fn primary(&self, index: usize, shard: u32) -> Option<&ShardRouting> {
        self.group(index, shard).iter().find(|copy| copy.primary && !copy.relocation_target())
    }

    pub(super) fn find(&self, uuid: &str) -> Option<usize> {
        self.indices.iter().position(|index| index.uuid == uuid)
    }

    /// Changes a group, and the counts with it.
    pub(super) fn change<T>(
        &mut self,
        index: usize,
        shard: u32,
        change: impl FnOnce(&mut Draft<'a>, &str, u32) -> T,
    ) -> T {
        self.count(index, shard, -1);
        let out = change(&mut self.draft, &self.indices[index].uuid, shard);
        self.count(index, shard, 1);
        if let Some(meta) = self.draft.index(&self.indices[index].uuid) {
            self.indices[index].meta = meta.clone();
        }
        out
    }

    pub(super) fn initialize(&mut self, index: usize, shard: u32, at: usize, node: usize, id: AllocationId) {
        let node = self.nodes[node].node.id;
        self.change(index, shard, |draft, uuid, shard| draft.initialize(uuid, shard, at, node, id));
    }

    pub(super) fn relocate(&mut self, index: usize, shard: u32, at: usize, node: usize) {
        let (node, id) = (self.nodes[node].node.id, self.fresh_id());
        self.change(index, shard, |draft, uuid, shard| draft.relocate(uuid, shard, at, node, id));
    }

    /// Edits why a copy is unassigned, if that makes a difference.
    pub(super) fn edit_info(&mut self, index: usize, shard: u32, at: usize, edit: impl FnOnce(&mut UnassignedInfo)) {
        let Some(old) = self.group(index, shard).get(at).and_then(|copy| copy.unassigned.clone()) else { return };
        let mut new = old.clone();
        edit(&mut new);
        if new != old
            && let Some(group) = self.draft.edit_group(&self.indices[index].uuid, shard)
        {
            group[at].unassigned = Some(new);
        }
    }

    /// What keeps the cluster from being balanced.
    pub(super) fn blocking(&self) -> Totals {
        let mut totals = self.totals;
        totals.unassigned -= self.hopeless.0;
        totals.unassigned_primaries -= self.hopeless.1;
        totals
    }

    /// A copy that has no place yet is counted where it will go to, so that the next ones look elsewhere.
    pub(super) fn reserve(&mut self, index: usize, node: usize) {
        self.nodes[node].shards += 1;
        *self.nodes[node].per_index.entry(index).or_default() += 1;
    }

    /// A name for a new copy: the driver's randomness, mixed with a count.
    pub(super) fn fresh_id(&mut self) -> AllocationId {
        self.issued += 1;
        let [high, low] = [(self.inputs.seed >> 64) as u64, self.inputs.seed as u64];
        let a = mix(high ^ mix(self.issued));
        let b = mix(low.wrapping_add(mix(self.issued ^ 0x5851_f42d_4c95_7f2d)));
        AllocationId((u128::from(a) << 64 | u128::from(b)).max(1))
    }

    pub(super) fn size_of(&self, index: usize, shard: u32) -> u64 {
        // The key is built only when there are sizes at all.
        if self.inputs.shard_sizes.is_empty() {
            return 0;
        }
        self.inputs.shard_sizes.get(&(self.indices[index].uuid.clone(), shard)).copied().unwrap_or(0)
    }

    /// How much a node has, more or less than its share, of all shards and of this index.
    pub(super) fn weight(&self, index: usize, node: usize) -> f64 {
        let nodes = self.nodes.len().max(1) as f64;
        let all: i64 = self.nodes.iter().map(|n| n.shards).sum();
        let own: i64 = self.nodes.iter().map(|n| n.of(index)).sum();
        self.weight_above(index, node, all as f64 / nodes, own as f64 / nodes)
    }

    pub(super) fn weight_above(&self, index: usize, node: usize, shards: f64, own: f64) -> f64 {
        let (a, b) = (self.settings.shard_factor, self.settings.index_factor);
        let sum = a + b;
        if sum <= 0.0 {
            return 0.0;
        }
        let node = &self.nodes[node];
        a / sum * (node.shards as f64 - shards) + b / sum * (node.of(index) as f64 - own)
    }

    fn count(&mut self, index: usize, shard: u32, sign: i64) {
        let size = self.size_of(index, shard);
        let Model { draft, at, nodes, totals, indices, .. } = self;
        let group = draft.group(&indices[index].uuid, shard);
        let source = group.iter().find(|c| c.primary && c.active()).and_then(|c| c.node);
        for copy in group {
            match copy.state {
                CopyState::Unassigned => {
                    totals.unassigned += sign;
                    totals.unassigned_primaries += sign * i64::from(copy.primary);
                }
                CopyState::Initializing if !copy.relocation_target() => {
                    totals.inactive += sign;
                    totals.inactive_primaries += sign * i64::from(copy.primary);
                }
                CopyState::Relocating => totals.relocating += sign,
                CopyState::Initializing | CopyState::Started => {}
            }
            if copy.state == CopyState::Initializing
                && (!copy.primary || copy.relocation_target())
                && let Some(&from) = source.as_ref().and_then(|node| at.get(node))
            {
                nodes[from].outgoing += sign;
            }
            let Some(&own) = copy.node.as_ref().and_then(|node| at.get(node)) else { continue };
            let node = &mut nodes[own];
            if copy.state == CopyState::Relocating {
                node.leaving_bytes = add(node.leaving_bytes, size, sign);
                continue;
            }
            node.shards += sign;
            *node.per_index.entry(index).or_default() += sign;
            if copy.state == CopyState::Initializing {
                if copy.primary && !copy.relocation_target() {
                    node.initial_primaries += sign;
                } else {
                    node.incoming += sign;
                    node.incoming_bytes = add(node.incoming_bytes, size, sign);
                }
            }
        }
    }
}

impl NodeModel {
    /// Copies of one index.
    pub(super) fn of(&self, index: usize) -> i64 {
        self.per_index.get(&index).copied().unwrap_or(0)
    }
}

fn add(value: u64, amount: u64, sign: i64) -> u64 {
    if sign < 0 { value.saturating_sub(amount) } else { value.saturating_add(amount) }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

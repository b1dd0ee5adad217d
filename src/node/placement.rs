//! Which core each shard of this node lives on: a pure function of the cluster state and of where shards are already.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use rustc_hash::FxHasher;

/// The core of every shard copy on this node, by index uuid and shard number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement(BTreeMap<Arc<str>, Vec<Option<u32>>>);

impl Placement {
    /// The core of a shard; none if the node has no copy of it.
    #[must_use]
    pub fn core(&self, uuid: &str, shard: u32) -> Option<usize> {
        Some((*self.0.get(uuid)?.get(shard as usize)?)? as usize)
    }

    /// Places the copies that the routing of `state` has on node `local` on `cores` cores; all shards of an index that has no
    /// routing. Those that are placed already stay: moving one means closing it. New ones go where the fewest shards of
    /// their index are, then where the fewest shards are. Ties are broken by a hash, so that a restart comes to the same result
    /// whatever the number of indices, and differently for each copy, so that nodes that share a machine do not all have
    /// theirs on the same core.
    #[must_use]
    pub fn next(&self, state: &ClusterState, local: Option<NodeId>, cores: usize) -> Placement {
        assert!(cores > 0);
        let mut indices: Vec<&Arc<IndexMetadata>> = state.indices.values().collect();
        indices.sort_by(|a, b| (a.creation_date, &a.uuid).cmp(&(b.creation_date, &b.uuid)));
        let here = |index: &IndexMetadata, shard: u32| match (state.routing.get(&index.uuid), local) {
            (Some(routing), Some(local)) => routing.on_node(shard, local).is_some(),
            _ => true,
        };
        let rank = |index: &IndexMetadata, shard: u32| {
            let copies = state.routing.get(&index.uuid).map_or(&[][..], |routing| routing.copies(shard));
            copies.iter().position(|copy| copy.node == local).unwrap_or(0)
        };
        let mut load = vec![0u32; cores];
        let mut placed: Vec<Vec<Option<u32>>> = Vec::with_capacity(indices.len());
        for index in &indices {
            let old = |shard| self.core(&index.uuid, shard).filter(|_| here(index, shard)).map(|core| core as u32);
            let kept: Vec<Option<u32>> = (0..index.number_of_shards).map(old).collect();
            kept.iter().flatten().for_each(|core| load[*core as usize] += 1);
            placed.push(kept);
        }
        for (index, placed) in indices.iter().zip(&mut placed) {
            let mut own = vec![0u32; cores];
            placed.iter().flatten().for_each(|core| own[*core as usize] += 1);
            for shard in 0..index.number_of_shards {
                let slot = &mut placed[shard as usize];
                if slot.is_none() && here(index, shard) {
                    let first = (hash(&index.uuid, shard) as usize).wrapping_add(rank(index, shard)) % cores;
                    let best = (0..cores)
                        .min_by_key(|core| (own[*core], load[*core], (core + cores - first) % cores))
                        .expect("there is a core");
                    own[best] += 1;
                    load[best] += 1;
                    *slot = Some(best as u32);
                }
            }
        }
        Placement(indices.iter().map(|index| index.uuid.as_str().into()).zip(placed).collect())
    }
}

fn hash(uuid: &str, shard: u32) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = FxHasher::default();
    (uuid, shard).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::index;
    use proptest::prelude::*;
    use ringdex_net::cluster::routing::{
        CopyState, IndexRouting, RecoverySource, ShardRouting, UnassignedInfo, UnassignedReason,
    };

    fn state(shards: &[u32]) -> ClusterState {
        let mut state = ClusterState::default();
        for (n, count) in shards.iter().enumerate() {
            let name = format!("i{n}");
            state.indices.insert(name.clone(), index(&name, n as i64 / 2, *count));
        }
        state
    }

    #[test]
    fn copies_of_a_shard_are_on_different_cores_of_their_nodes() {
        let copy = |node: u128, primary: bool| {
            let info = UnassignedInfo::new(UnassignedReason::IndexCreated, 0);
            let (state, node) = (CopyState::Started, Some(NodeId(node)));
            ShardRouting { state, node, ..ShardRouting::unassigned(primary, RecoverySource::Peer, info) }
        };
        for shards in 1..5 {
            let mut state = state(&[shards]);
            let index = state.indices["i0"].uuid.clone();
            let both = vec![copy(1, true), copy(2, false)];
            state.routing.insert(index.clone(), IndexRouting { shards: vec![both; shards as usize] }.into());
            let core = |node: u128, shard| Placement::default().next(&state, Some(NodeId(node)), 2).core(&index, shard);
            let apart = (0..shards).filter(|shard| core(1, *shard) != core(2, *shard)).count();
            assert_eq!(apart, shards as usize);
        }
    }

    proptest! {
        #[test]
        fn shards_are_spread_and_stay(shards in proptest::collection::vec(1u32..9, 1..12), cores in 1usize..9, dropped in 0usize..12) {
            let whole = state(&shards);
            let first = Placement::default().next(&whole, None, cores);
            prop_assert_eq!(&Placement::default().next(&whole, None, cores), &first, "the same again");
            let mut load = vec![0u32; cores];
            for index in whole.indices.values() {
                let mut own = vec![0u32; cores];
                for shard in 0..index.number_of_shards {
                    let core = first.core(&index.uuid, shard).unwrap();
                    own[core] += 1;
                    load[core] += 1;
                }
                prop_assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1, "one index is spread: {own:?}");
                prop_assert_eq!(first.core(&index.uuid, index.number_of_shards), None);
            }
            prop_assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 2, "{load:?}");
            let mut fewer = whole.clone();
            fewer.indices.remove(&format!("i{dropped}"));
            fewer.indices.insert("new".into(), index("new", 99, 3));
            let second = first.next(&fewer, None, cores);
            for index in fewer.indices.values().filter(|i| i.name != "new") {
                for shard in 0..index.number_of_shards {
                    prop_assert_eq!(first.core(&index.uuid, shard), second.core(&index.uuid, shard), "nothing moves");
                }
            }
            prop_assert!(second.core("uuid-new", 2).is_some());
            let gone = format!("uuid-i{dropped}");
            prop_assert_eq!(second.core(&gone, 0), None);
        }
    }
}

//! What differs between two cluster states: what the master sends to nodes that have the state before.
//!
//! By index, shard, node, template, document; of an index where only in-sync sets and primary terms changed, only those. Serialised as
//! it stands; every field is always there, so that formats without field names can carry it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{AllocationId, NodeId};
use super::routing::{IndexRouting, ShardRouting};
use super::state::{ClusterState, DiscoveryNode, IndexMetadata, VotingConfig};

/// Makes the state it was made for from the state it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// `state_uuid` of the state that it applies to.
    pub from_uuid: String,
    /// `version` of the state that it applies to.
    pub from_version: u64,
    head: Head,
    nodes: MapDiff<NodeId, Arc<DiscoveryNode>>,
    routing: MapDiff<String, RoutingChange>,
    indices: MapDiff<String, IndexChange>,
    templates: MapDiff<String, Arc<Value>>,
    index_templates: MapDiff<String, Arc<Value>>,
    component_templates: MapDiff<String, Arc<Value>>,
    persistent_settings: Option<Map<String, Value>>,
    transient_settings: Option<Map<String, Value>>,
    custom: MapDiff<String, MapDiff<String, Arc<Value>>>,
}

/// The small fields, always sent. A node that missed the commit of the old state has other configurations in it, under the same
/// `state_uuid`: so these are among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    version: u64,
    state_uuid: String,
    cluster_uuid: String,
    cluster_uuid_committed: bool,
    cluster_name: String,
    term: u64,
    metadata_version: u64,
    master: Option<NodeId>,
    last_committed_config: VotingConfig,
    last_accepted_config: VotingConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MapDiff<K: Ord, C> {
    removed: BTreeSet<K>,
    changed: BTreeMap<K, C>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum RoutingChange {
    Whole(Arc<IndexRouting>),
    Shards(BTreeMap<u32, Vec<ShardRouting>>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum IndexChange {
    Whole(Arc<IndexMetadata>),
    Copies { primary_terms: BTreeMap<u32, u64>, in_sync: BTreeMap<u32, BTreeSet<AllocationId>> },
}

/// The diff was not made for this state: ask for the whole one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongBase {
    /// What the diff needs.
    pub expected: (u64, String),
    /// What there is.
    pub found: (u64, String),
    /// What of it is missing, if versions agree.
    pub missing: Option<String>,
}

impl fmt::Display for WrongBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((version, uuid), (own_version, own_uuid)) = (&self.expected, &self.found);
        write!(f, "diff is for version [{version}] with uuid [{uuid}], not for [{own_version}] with [{own_uuid}]")?;
        self.missing.as_ref().map_or(Ok(()), |what| write!(f, ": no {what}"))
    }
}

impl std::error::Error for WrongBase {}

impl Diff {
    /// What makes `new` of `old`. Parts that the two share cost one comparison of pointers each.
    #[must_use]
    pub fn between(old: &ClusterState, new: &ClusterState) -> Diff {
        // All fields by name: a new one must not be forgotten here.
        let ClusterState {
            version,
            state_uuid,
            cluster_uuid,
            cluster_uuid_committed,
            cluster_name,
            term,
            metadata_version,
            master,
            nodes,
            routing,
            last_committed_config,
            last_accepted_config,
            indices,
            templates,
            index_templates,
            component_templates,
            persistent_settings,
            transient_settings,
            custom,
        } = new;
        let head = Head {
            version: *version,
            state_uuid: state_uuid.clone(),
            cluster_uuid: cluster_uuid.clone(),
            cluster_uuid_committed: *cluster_uuid_committed,
            cluster_name: cluster_name.clone(),
            term: *term,
            metadata_version: *metadata_version,
            master: *master,
            last_committed_config: last_committed_config.clone(),
            last_accepted_config: last_accepted_config.clone(),
        };
        Diff {
            from_uuid: old.state_uuid.clone(),
            from_version: old.version,
            head,
            nodes: between_arcs(&old.nodes, nodes),
            routing: between_maps(&old.routing, routing, routing_change),
            indices: between_maps(&old.indices, indices, index_change),
            templates: between_arcs(&old.templates, templates),
            index_templates: between_arcs(&old.index_templates, index_templates),
            component_templates: between_arcs(&old.component_templates, component_templates),
            persistent_settings: changed(&old.persistent_settings, persistent_settings),
            transient_settings: changed(&old.transient_settings, transient_settings),
            custom: between_maps(&old.custom, custom, |old, new| {
                let none = BTreeMap::new();
                let is_new = old.is_none();
                let diff = between_arcs(old.unwrap_or(&none), new);
                (is_new || !diff.is_empty()).then_some(diff)
            }),
        }
    }

    /// The version that comes out.
    #[must_use]
    pub fn to_version(&self) -> u64 {
        self.head.version
    }

    /// The term of the master that made what comes out.
    #[must_use]
    pub fn to_term(&self) -> u64 {
        self.head.term
    }
}

/// The state that a diff was made for, from the state that it was made from.
pub fn apply(old: &ClusterState, diff: &Diff) -> Result<ClusterState, WrongBase> {
    let wrong = |missing: Option<String>| WrongBase {
        expected: (diff.from_version, diff.from_uuid.clone()),
        found: (old.version, old.state_uuid.clone()),
        missing,
    };
    if old.version != diff.from_version || old.state_uuid != diff.from_uuid {
        return Err(wrong(None));
    }
    let head = &diff.head;
    let set =
        |value: &Option<Map<String, Value>>, old: &Map<String, Value>| value.clone().unwrap_or_else(|| old.clone());
    Ok(ClusterState {
        version: head.version,
        state_uuid: head.state_uuid.clone(),
        cluster_uuid: head.cluster_uuid.clone(),
        cluster_uuid_committed: head.cluster_uuid_committed,
        cluster_name: head.cluster_name.clone(),
        term: head.term,
        metadata_version: head.metadata_version,
        master: head.master,
        nodes: apply_arcs(&old.nodes, &diff.nodes),
        routing: apply_map(&old.routing, &diff.routing, |key, old, change| match change {
            RoutingChange::Whole(routing) => Ok(routing.clone()),
            RoutingChange::Shards(shards) => {
                let mut routing = old.map(|old| (**old).clone()).ok_or_else(|| format!("routing of [{key}]"))?;
                for (&shard, group) in shards {
                    let place = routing.shards.get_mut(shard as usize);
                    *place.ok_or_else(|| format!("shard [{shard}] of [{key}]"))? = group.clone();
                }
                Ok(Arc::new(routing))
            }
        })
        .map_err(|what| wrong(Some(what)))?,
        last_committed_config: head.last_committed_config.clone(),
        last_accepted_config: head.last_accepted_config.clone(),
        indices: apply_map(&old.indices, &diff.indices, |key, old, change| match change {
            IndexChange::Whole(index) => Ok(index.clone()),
            IndexChange::Copies { primary_terms, in_sync } => {
                let mut index = old.map(|old| (**old).clone()).ok_or_else(|| format!("index [{key}]"))?;
                for (&shard, &term) in primary_terms {
                    let place = index.primary_terms.get_mut(shard as usize);
                    *place.ok_or_else(|| format!("primary term of [{key}][{shard}]"))? = term;
                }
                for (&shard, ids) in in_sync {
                    let place = index.in_sync.get_mut(shard as usize);
                    *place.ok_or_else(|| format!("in-sync set of [{key}][{shard}]"))? = ids.clone();
                }
                Ok(Arc::new(index))
            }
        })
        .map_err(|what| wrong(Some(what)))?,
        templates: apply_arcs(&old.templates, &diff.templates),
        index_templates: apply_arcs(&old.index_templates, &diff.index_templates),
        component_templates: apply_arcs(&old.component_templates, &diff.component_templates),
        persistent_settings: set(&diff.persistent_settings, &old.persistent_settings),
        transient_settings: set(&diff.transient_settings, &old.transient_settings),
        custom: apply_map(&old.custom, &diff.custom, |_, old, change| {
            let none = BTreeMap::new();
            Ok(apply_arcs(old.unwrap_or(&none), change))
        })
        .map_err(|what| wrong(Some(what)))?,
    })
}

impl<K: Ord, C> MapDiff<K, C> {
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.changed.is_empty()
    }
}

fn changed<T: Clone + PartialEq>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}

/// `change` says what makes the new value of the old one, which may be missing; none if they are equal.
fn between_maps<K: Ord + Clone, V, C>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    change: impl Fn(Option<&V>, &V) -> Option<C>,
) -> MapDiff<K, C> {
    MapDiff {
        removed: old.keys().filter(|key| !new.contains_key(key)).cloned().collect(),
        changed: new.iter().filter_map(|(key, value)| Some((key.clone(), change(old.get(key), value)?))).collect(),
    }
}

fn between_arcs<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
) -> MapDiff<K, Arc<V>> {
    between_maps(old, new, |old, new| (!old.is_some_and(|old| same(old, new))).then(|| new.clone()))
}

fn same<V: PartialEq>(old: &Arc<V>, new: &Arc<V>) -> bool {
    Arc::ptr_eq(old, new) || old == new
}

fn routing_change(old: Option<&Arc<IndexRouting>>, new: &Arc<IndexRouting>) -> Option<RoutingChange> {
    let old = match old {
        Some(old) if same(old, new) => return None,
        Some(old) if old.shards.len() == new.shards.len() => old,
        _ => return Some(RoutingChange::Whole(new.clone())),
    };
    let pairs = old.shards.iter().zip(&new.shards).enumerate();
    Some(RoutingChange::Shards(
        pairs.filter(|(_, (old, new))| old != new).map(|(shard, (_, new))| (shard as u32, new.clone())).collect(),
    ))
}

fn index_change(old: Option<&Arc<IndexMetadata>>, new: &Arc<IndexMetadata>) -> Option<IndexChange> {
    let Some(old) = old else { return Some(IndexChange::Whole(new.clone())) };
    if same(old, new) {
        return None;
    }
    if !differs_in_copies_alone(old, new) {
        return Some(IndexChange::Whole(new.clone()));
    }
    let terms = old.primary_terms.iter().zip(&new.primary_terms).enumerate();
    let sets = old.in_sync.iter().zip(&new.in_sync).enumerate();
    Some(IndexChange::Copies {
        primary_terms: terms.filter(|(_, (a, b))| a != b).map(|(shard, (_, b))| (shard as u32, *b)).collect(),
        in_sync: sets.filter(|(_, (a, b))| a != b).map(|(shard, (_, b))| (shard as u32, b.clone())).collect(),
    })
}

fn differs_in_copies_alone(old: &IndexMetadata, new: &IndexMetadata) -> bool {
    let IndexMetadata {
        name,
        uuid,
        open,
        creation_date,
        number_of_shards,
        number_of_replicas,
        routing_num_shards,
        settings,
        mapping,
        mapping_version,
        settings_version,
        aliases_version,
        aliases,
        primary_terms,
        in_sync,
    } = new;
    old.primary_terms.len() == primary_terms.len()
        && old.in_sync.len() == in_sync.len()
        && old.name == *name
        && old.uuid == *uuid
        && old.open == *open
        && old.creation_date == *creation_date
        && old.number_of_shards == *number_of_shards
        && old.number_of_replicas == *number_of_replicas
        && old.routing_num_shards == *routing_num_shards
        && old.mapping_version == *mapping_version
        && old.settings_version == *settings_version
        && old.aliases_version == *aliases_version
        && old.settings == *settings
        && old.aliases == *aliases
        && old.mapping == *mapping
}

fn apply_map<K: Ord + Clone, V: Clone, C>(
    old: &BTreeMap<K, V>,
    diff: &MapDiff<K, C>,
    change: impl Fn(&K, Option<&V>, &C) -> Result<V, String>,
) -> Result<BTreeMap<K, V>, String> {
    let mut new = old.clone();
    for key in &diff.removed {
        new.remove(key);
    }
    for (key, value) in &diff.changed {
        new.insert(key.clone(), change(key, old.get(key), value)?);
    }
    Ok(new)
}

fn apply_arcs<K: Ord + Clone, V>(old: &BTreeMap<K, Arc<V>>, diff: &MapDiff<K, Arc<V>>) -> BTreeMap<K, Arc<V>> {
    let mut new = old.clone();
    new.retain(|key, _| !diff.removed.contains(key));
    new.extend(diff.changed.iter().map(|(key, value)| (key.clone(), value.clone())));
    new
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cluster::allocation::fixture;
    use crate::cluster::routing::{RecoverySource, UnassignedInfo, UnassignedReason};

    /// A state from small numbers, so that two of them have much in common.
    fn state(parts: Vec<(u8, u8)>) -> impl Fn() -> ClusterState {
        move || {
            let mut state = ClusterState { cluster_name: "c".into(), ..ClusterState::default() };
            for &(what, n) in &parts {
                let name = format!("x{}", n % 3);
                let value = Arc::new(json!({ "n": n }));
                match what % 12 {
                    0 => drop(state.nodes.insert(NodeId(u128::from(n % 4)), Arc::new(fixture::node(u128::from(n))))),
                    1 => state.master = Some(NodeId(u128::from(n))),
                    2 => drop(state.last_committed_config.insert(NodeId(u128::from(n)))),
                    3 => drop(state.last_accepted_config.insert(NodeId(u128::from(n)))),
                    4 => drop(state.templates.insert(name, value)),
                    5 => drop(state.index_templates.insert(name, value)),
                    6 => drop(state.component_templates.insert(name, value)),
                    7 => drop(state.persistent_settings.insert(name, n.into())),
                    8 => drop(state.transient_settings.insert(name, n.into())),
                    9 => {
                        let section = state.custom.entry(format!("s{}", n % 2)).or_default();
                        if n > 9 {
                            section.insert(name, value);
                        }
                    }
                    10 => {
                        let mut index = fixture::index(&name, 3, 1);
                        index.in_sync = vec![BTreeSet::from([AllocationId(u128::from(n))]); 3];
                        index.primary_terms[usize::from(n) % 3] += u64::from(n % 5);
                        index.open = n < 200;
                        state.indices.insert(name, Arc::new(index));
                    }
                    _ => {
                        let info = UnassignedInfo::new(UnassignedReason::IndexCreated, n.into());
                        let copy = ShardRouting::unassigned(true, RecoverySource::EmptyStore, info);
                        let routing = state.routing.entry(name).or_default();
                        let routing = Arc::make_mut(routing);
                        routing.shards.resize(usize::from(n % 2) + 2, Vec::new());
                        routing.shards[usize::from(n) % 2].push(copy);
                    }
                }
                state.version += u64::from(n);
                state.state_uuid = format!("uuid-{}", state.version);
            }
            state
        }
    }

    fn parts() -> impl Strategy<Value = Vec<(u8, u8)>> {
        proptest::collection::vec(any::<(u8, u8)>(), 0..40)
    }

    proptest! {
        #[test]
        fn a_diff_makes_the_new_state_of_the_old(a in parts(), b in parts()) {
            let (a, b) = (state(a)(), state(b)());
            let diff = Diff::between(&a, &b);
            prop_assert_eq!(&apply(&a, &diff).unwrap(), &b);
            let text = serde_json::to_string(&diff).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Diff>(&text).unwrap(), &diff);
            let bytes = rmp_serde::to_vec(&diff).unwrap();
            prop_assert_eq!(&apply(&a, &rmp_serde::from_slice(&bytes).unwrap()).unwrap(), &b);
            if a.version != b.version {
                prop_assert!(apply(&b, &diff).is_err());
            }
        }

        #[test]
        fn a_diff_for_another_state_is_refused_without_a_panic(a in parts(), b in parts(), c in parts()) {
            let mut other = state(c)();
            let diff = Diff::between(&state(a)(), &state(b)());
            let is_base = (other.version, &other.state_uuid) == (diff.from_version, &diff.from_uuid);
            prop_assert!(apply(&other, &diff).is_err() || is_base);
            // Even if it claims to be for this one.
            (other.version, other.state_uuid) = (diff.from_version, diff.from_uuid.clone());
            drop(apply(&other, &diff));
        }
    }

    #[test]
    fn a_node_that_missed_a_commit_has_the_new_state_all_the_same() {
        let accepted = ClusterState { last_accepted_config: [NodeId(1)].into(), ..ClusterState::default() };
        let mut committed = ClusterState { last_committed_config: [NodeId(1)].into(), ..accepted.clone() };
        committed.cluster_uuid_committed = true;
        let next = ClusterState { version: 1, ..committed.clone() };
        assert_eq!(apply(&accepted, &Diff::between(&committed, &next)).as_ref(), Ok(&next));
    }

    #[test]
    fn the_diff_of_a_small_change_is_small() {
        let mut state = ClusterState::default();
        for i in 0..200 {
            let mut index = fixture::index(&format!("index-{i}"), 5, 1);
            index.mapping = json!({ "properties": { "a".repeat(1000): {} } });
            index.in_sync = vec![BTreeSet::new(); 5];
            state.indices.insert(index.name.clone(), Arc::new(index));
        }
        let state = crate::cluster::allocation::follow_metadata(&state, 0);
        let mut next = state.clone();
        next.version += 1;
        let uuid = state.indices["index-7"].uuid.clone();
        Arc::make_mut(next.routing.get_mut(&uuid).unwrap()).shards[3][0].primary = false;
        let index = Arc::make_mut(next.indices.get_mut("index-7").unwrap());
        index.primary_terms[3] = 9;
        index.in_sync[3].insert(AllocationId(4));
        let diff = Diff::between(&state, &next);
        assert_eq!(apply(&state, &diff).unwrap(), next);
        let size = rmp_serde::to_vec(&diff).unwrap().len();
        assert!(size < 500, "{size}");
    }
}

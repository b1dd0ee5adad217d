//! What the nodes agree on, as far as agreeing needs to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::ids::NodeId;
use super::state::{ClusterState, DiscoveryNode, VotingConfig};

/// Where a state stands: the term of the master that published it, then its version. Later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Counts elections.
    pub term: u64,
    /// Counts publications.
    pub version: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} version {}", self.term, self.version)
    }
}

/// The nodes of a cluster by their ids.
pub type Nodes = BTreeMap<NodeId, Arc<DiscoveryNode>>;

/// A value the nodes agree on. Cheap to clone: it is behind an `Arc`, and copied where it is changed.
pub trait StateValue: Clone {
    /// Term and version.
    fn position(&self) -> Position;
    /// Voting configuration of the newest state that is known to be committed: `currentConfiguration`.
    fn last_committed_config(&self) -> &VotingConfig;
    /// Voting configuration that this state brings: `lastAcceptedConfiguration`.
    fn last_accepted_config(&self) -> &VotingConfig;
    /// The nodes of the cluster.
    fn nodes(&self) -> &Nodes;
    /// Nodes that shall not vote.
    fn voting_exclusions(&self) -> BTreeSet<NodeId>;
    /// Whether the voting configuration follows the number of nodes downwards.
    fn auto_shrink(&self) -> bool;
    /// The name of the cluster, once a state with it is known to be committed.
    fn committed_cluster(&self) -> Option<&str>;

    /// Becomes the state that `master` publishes at `position`; `uuid` names it.
    fn stamp(&mut self, position: Position, master: NodeId, uuid: u128);
    /// Replaces the nodes.
    fn set_nodes(&mut self, nodes: Nodes);
    /// Replaces both voting configurations.
    fn set_configs(&mut self, committed: VotingConfig, accepted: VotingConfig);
    /// `currentConfiguration' = lastAcceptedConfiguration`, and the cluster's name is final. Whether that changed anything.
    fn mark_committed(&mut self) -> bool;
}

/// The section of [`ClusterState::custom`] that holds voting exclusions, by `id/name`.
const EXCLUSIONS: &str = "voting_config_exclusions";

impl StateValue for Arc<ClusterState> {
    fn position(&self) -> Position {
        Position { term: self.term, version: self.version }
    }

    fn last_committed_config(&self) -> &VotingConfig {
        &self.last_committed_config
    }

    fn last_accepted_config(&self) -> &VotingConfig {
        &self.last_accepted_config
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// By id, or by name where the node of that name was not there when it was excluded.
    fn voting_exclusions(&self) -> BTreeSet<NodeId> {
        let Some(entries) = self.custom.get(EXCLUSIONS) else { return BTreeSet::new() };
        let by_id = entries.values().filter_map(|entry| entry["node_id"].as_str()?.parse().ok());
        let named = |name: &str| self.nodes.values().find(|node| node.name == name).map(|node| node.id);
        let by_name = entries.values().filter(|entry| entry["node_id"].as_str().is_none_or(|id| id == "_absent_"));
        by_id.chain(by_name.filter_map(|entry| named(entry["node_name"].as_str()?))).collect()
    }

    fn auto_shrink(&self) -> bool {
        let value = self.setting("cluster.auto_shrink_voting_configuration");
        value.is_none_or(|value| value.as_bool() != Some(false) && value.as_str() != Some("false"))
    }

    fn committed_cluster(&self) -> Option<&str> {
        self.cluster_uuid_committed.then_some(&*self.cluster_uuid)
    }

    fn stamp(&mut self, position: Position, master: NodeId, uuid: u128) {
        let state = Arc::make_mut(self);
        (state.term, state.version, state.master) = (position.term, position.version, Some(master));
        state.state_uuid = URL_SAFE_NO_PAD.encode(uuid.to_be_bytes());
    }

    fn set_nodes(&mut self, nodes: Nodes) {
        Arc::make_mut(self).nodes = nodes;
    }

    fn set_configs(&mut self, committed: VotingConfig, accepted: VotingConfig) {
        let state = Arc::make_mut(self);
        (state.last_committed_config, state.last_accepted_config) = (committed, accepted);
    }

    fn mark_committed(&mut self) -> bool {
        let named = self.cluster_uuid_committed || self.cluster_uuid.is_empty();
        if named && self.last_committed_config == self.last_accepted_config {
            return false;
        }
        let state = Arc::make_mut(self);
        state.cluster_uuid_committed = !state.cluster_uuid.is_empty();
        state.last_committed_config.clone_from(&state.last_accepted_config);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_terms_come_after_later_versions() {
        let at = |term, version| Position { term, version };
        assert!(at(1, 9) < at(2, 1));
        assert!(at(2, 1) < at(2, 2));
    }

    #[test]
    fn exclusions_are_found_by_id_and_by_name() {
        let (by_id, named) = (NodeId(7), NodeId(8));
        let mut state = ClusterState::default();
        let node = DiscoveryNode {
            id: named,
            name: "late".into(),
            ephemeral_id: String::new(),
            transport_address: String::new(),
            http_address: String::new(),
            roles: BTreeSet::new(),
            attributes: BTreeMap::new(),
            cores: 1,
        };
        state.nodes.insert(named, Arc::new(node));
        let entries = state.custom.entry(EXCLUSIONS.into()).or_default();
        entries.insert("a".into(), Arc::new(json!({"node_id": by_id.to_string(), "node_name": "_absent_"})));
        entries.insert("b".into(), Arc::new(json!({"node_id": "_absent_", "node_name": "late"})));
        entries.insert("c".into(), Arc::new(json!({"node_id": "no id", "node_name": "gone"})));
        assert_eq!(Arc::new(state).voting_exclusions(), BTreeSet::from([by_id, named]));
    }

    #[test]
    fn a_committed_state_is_marked_once() {
        let mut state = Arc::new(ClusterState { cluster_uuid: "u".into(), ..ClusterState::default() });
        state.set_configs(VotingConfig::from([NodeId(1)]), VotingConfig::from([NodeId(2)]));
        assert_eq!(state.committed_cluster(), None);
        assert!(state.mark_committed());
        assert_eq!(state.last_committed_config(), &VotingConfig::from([NodeId(2)]));
        assert_eq!(state.committed_cluster(), Some("u"));
        assert!(!state.mark_committed());
    }
}

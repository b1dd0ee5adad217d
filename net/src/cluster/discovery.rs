//! Finding the others, and the first configuration of a new cluster.
//!
//! A candidate asks the nodes at its seed addresses, those of the last state it accepted, and those that others tell of, once
//! per interval: whom they know and who leads. The first voting configuration is made once in the life of a cluster, by a node
//! that has found more than half of those that `cluster.initial_master_nodes` names, itself among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::NodeId;
use super::state::{DiscoveryNode, VotingConfig};

/// Nodes heard of that are remembered; what is beyond is heard of again.
const KNOWN_MAX: usize = 1_000;

/// The nodes that can be reached, and where there may be more.
#[derive(Clone, Debug)]
pub struct Peers {
    seeds: Vec<String>,
    connected: BTreeMap<NodeId, Arc<DiscoveryNode>>,
    known: BTreeMap<NodeId, Arc<DiscoveryNode>>,
    /// When to ask again, while this node looks for others.
    pub next_at: u64,
}

impl Peers {
    /// Nobody yet but addresses.
    pub fn new(seeds: Vec<String>, now: u64) -> Peers {
        Peers { seeds, connected: BTreeMap::new(), known: BTreeMap::new(), next_at: now }
    }

    /// Where to look from now on.
    pub fn set_seeds(&mut self, seeds: Vec<String>) {
        self.seeds = seeds;
    }

    /// A connection is there. The node may be another than the last at its address, or a new life of one.
    pub fn connect(&mut self, node: Arc<DiscoveryNode>) {
        self.known.remove(&node.id);
        self.connected.insert(node.id, node);
    }

    /// A connection is gone. Whether it was there.
    pub fn disconnect(&mut self, node: NodeId) -> bool {
        self.connected.remove(&node).is_some()
    }

    /// Whether a node can be reached.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.connected.contains_key(&node)
    }

    /// A node that is connected or was heard of.
    pub fn get(&self, node: NodeId) -> Option<&Arc<DiscoveryNode>> {
        self.connected.get(&node).or_else(|| self.known.get(&node))
    }

    /// The nodes that can be reached and may vote.
    pub fn voters(&self) -> impl Iterator<Item = &Arc<DiscoveryNode>> {
        self.connected.values().filter(|node| node.is_master_eligible())
    }

    /// All nodes that can be reached.
    pub fn all(&self) -> impl Iterator<Item = &Arc<DiscoveryNode>> {
        self.connected.values()
    }

    /// Remembers a node that was told of. Whether it is to be connected to.
    pub fn hear_of(&mut self, node: &Arc<DiscoveryNode>) -> bool {
        if self.is_connected(node.id) {
            return false;
        }
        if self.known.len() < KNOWN_MAX || self.known.contains_key(&node.id) {
            self.known.insert(node.id, Arc::clone(node));
        }
        true
    }

    /// The addresses to try: seeds, nodes heard of, and `more`, without those that are connected or this node's own.
    pub fn addresses<'a>(
        &'a self,
        own: &DiscoveryNode,
        more: impl Iterator<Item = &'a Arc<DiscoveryNode>>,
    ) -> Vec<String> {
        let told = self.known.values().chain(more).filter(|node| node.id != own.id && !self.is_connected(node.id));
        let told = told.map(|node| &node.transport_address);
        let mut all: Vec<&String> = self.seeds.iter().chain(told).collect();
        let connected = |address: &String| self.connected.values().any(|node| node.transport_address == *address);
        all.retain(|address| **address != own.transport_address && !connected(address));
        all.sort();
        all.dedup();
        all.into_iter().cloned().collect()
    }

    /// Forgets who was only heard of.
    pub fn forget_known(&mut self) {
        self.known.clear();
    }
}

/// The first voting configuration, once enough of `initial` (names or addresses) are found: a voter for each entry, with ids that no
/// node has in the place of those not found, so that a majority is a majority of all.
#[must_use]
pub fn initial_config(initial: &[String], own: &Arc<DiscoveryNode>, peers: &Peers) -> Option<VotingConfig> {
    let mut found = BTreeMap::new();
    for node in peers.voters().chain([own]) {
        let names = |entry: &&String| **entry == node.name || **entry == node.transport_address;
        for entry in initial.iter().filter(names) {
            if found.insert(entry, node.id).is_some_and(|other| other != node.id) {
                return None; // two nodes of one name: which is meant is not known
            }
        }
    }
    let entries: std::collections::BTreeSet<&String> = initial.iter().collect();
    let known: VotingConfig = found.values().copied().collect();
    if !known.contains(&own.id) || found.len() * 2 <= entries.len() || known.len() < found.len() {
        return None;
    }
    Some(entries.iter().map(|entry| found.get(*entry).copied().unwrap_or_else(|| nobody(entry))).collect())
}

/// An id for a voter that is not found (FNV-1a of its name).
fn nobody(name: &str) -> NodeId {
    let hash = |h: u128, byte: u8| (h ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    NodeId(name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, hash))
}

#[cfg(test)]
mod tests {
    use super::super::state::Role;
    use super::*;

    fn node(n: u128) -> Arc<DiscoveryNode> {
        Arc::new(DiscoveryNode {
            id: NodeId(n),
            name: format!("n{n}"),
            ephemeral_id: String::new(),
            transport_address: format!("10.0.0.{n}:9300"),
            http_address: String::new(),
            roles: [Role::Master].into(),
            attributes: BTreeMap::new(),
            cores: 1,
        })
    }

    fn check(initial: &[&str], connected: &[u128], expected: Option<&[u128]>) {
        let mut peers = Peers::new(vec![], 0);
        connected.iter().for_each(|n| peers.connect(node(*n)));
        let initial: Vec<String> = initial.iter().map(|s| (*s).to_owned()).collect();
        let config = initial_config(&initial, &node(1), &peers);
        let found = config.as_ref().map(|c| c.iter().map(|id| id.0).filter(|id| *id < 100).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{initial:?} {connected:?}");
        assert!(config.is_none_or(|c| c.len() == initial.len()));
    }

    #[test]
    fn a_cluster_begins_when_more_than_half_are_found() {
        check(&["n1"], &[], Some(&[1]));
        check(&["n1", "n2", "n3"], &[], None);
        check(&["n1", "n2", "n3"], &[2], Some(&[1, 2]));
        check(&["n1", "n2"], &[3], None);
        check(&["n1", "10.0.0.2:9300", "n3"], &[2, 3, 4], Some(&[1, 2, 3]));
        check(&[], &[2, 3], None);
    }

    #[test]
    fn only_who_is_named_begins_it() {
        check(&["n2", "n3", "n4"], &[2, 3, 4], None);
    }

    #[test]
    fn a_node_named_twice_is_one() {
        check(&["n1", "10.0.0.1:9300", "n3"], &[2], None);
    }

    #[test]
    fn connected_addresses_are_not_tried_again() {
        let mut peers = Peers::new(vec!["10.0.0.1:9300".into(), "10.0.0.2:9300".into(), "10.0.0.3:9300".into()], 0);
        peers.connect(node(2));
        assert!(peers.hear_of(&node(4)));
        assert!(!peers.hear_of(&node(2)));
        let (last, own) = ([node(1), node(5), node(4)], node(1));
        assert_eq!(peers.addresses(&own, last.iter()), ["10.0.0.3:9300", "10.0.0.4:9300", "10.0.0.5:9300"]);
    }
}

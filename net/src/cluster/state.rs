//! The cluster state: one immutable value, changed only by the elected master, shared by `Arc`.
//!
//! Mappings, settings and template bodies are JSON values here: `net` neither reads nor checks them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{AllocationId, NodeId};
use super::routing::RoutingTable;

/// The nodes whose majority elects a master and commits a state.
pub type VotingConfig = BTreeSet<NodeId>;

/// Everything the nodes agree on. A new version is a new value that shares unchanged parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Counts published states.
    pub version: u64,
    /// Names this very state.
    pub state_uuid: String,
    /// Names the cluster for ever.
    pub cluster_uuid: String,
    /// Whether a state with this name of the cluster is known to be committed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_uuid_committed: bool,
    /// Display name.
    pub cluster_name: String,
    /// The master's term.
    pub term: u64,
    /// Counts changes of everything but nodes, routing and what belongs to the election.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata_version: u64,
    /// The master that published this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<NodeId>,
    /// Nodes of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<NodeId, Arc<DiscoveryNode>>,
    /// Where the shard copies are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routing: RoutingTable,
    /// Voting configuration of the newest state that is known to be committed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub last_committed_config: VotingConfig,
    /// Voting configuration that this state brings.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub last_accepted_config: VotingConfig,
    /// Indices by name.
    pub indices: BTreeMap<String, Arc<IndexMetadata>>,
    /// Legacy index templates (`_template`) by name.
    pub templates: BTreeMap<String, Arc<Value>>,
    /// Composable index templates (`_index_template`) by name.
    pub index_templates: BTreeMap<String, Arc<Value>>,
    /// Component templates (`_component_template`) by name.
    pub component_templates: BTreeMap<String, Arc<Value>>,
    /// Cluster settings that survive a full restart, flat: `a.b.c` to value.
    pub persistent_settings: Map<String, Value>,
    /// Cluster settings that do not.
    pub transient_settings: Map<String, Value>,
    /// Any other named documents (pipelines, scripts, ...), by section and name.
    pub custom: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
}

/// One index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexMetadata {
    /// Name.
    pub name: String,
    /// Names this very index; an index deleted and created again gets another. 22 characters, URL-safe.
    pub uuid: String,
    /// Open or closed.
    pub open: bool,
    /// Milliseconds since 1970.
    pub creation_date: i64,
    /// Primary shards; fixed.
    pub number_of_shards: u32,
    /// Copies of each; dynamic.
    pub number_of_replicas: u32,
    /// The modulus of routing; a multiple of `number_of_shards` so that splits are possible.
    pub routing_num_shards: u32,
    /// All explicit settings, flat, with the `index.` prefix, values as strings (lists as arrays), as `_settings` shows them.
    pub settings: Map<String, Value>,
    /// The mapping, as `_mapping` shows it: `{"properties": ...}`; `{}` when empty.
    pub mapping: Value,
    /// Counts mapping changes, from 1.
    pub mapping_version: u64,
    /// Counts settings changes, from 1.
    pub settings_version: u64,
    /// Counts alias changes, from 1.
    pub aliases_version: u64,
    /// Aliases by name.
    pub aliases: BTreeMap<String, AliasMetadata>,
    /// Primary term of each shard; starts at 1, grows when the primary starts anew elsewhere.
    pub primary_terms: Vec<u64>,
    /// Of each shard, the copies that hold every acknowledged operation: only they may become primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<BTreeSet<AllocationId>>,
}

impl IndexMetadata {
    /// The copies of a shard that may become primary; none in an index made before clusters, or before its primary started.
    #[must_use]
    pub fn in_sync_of(&self, shard: u32) -> &BTreeSet<AllocationId> {
        static NONE: BTreeSet<AllocationId> = BTreeSet::new();
        self.in_sync.get(shard as usize).unwrap_or(&NONE)
    }

    /// The primary term of a shard.
    #[must_use]
    pub fn primary_term(&self, shard: u32) -> u64 {
        self.primary_terms.get(shard as usize).copied().unwrap_or(1)
    }
}

/// A node, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryNode {
    /// Its name for ever.
    pub id: NodeId,
    /// `node.name`
    pub name: String,
    /// New at each start.
    pub ephemeral_id: String,
    /// Where other nodes reach it: `address:port`.
    pub transport_address: String,
    /// Where clients reach it.
    pub http_address: String,
    /// What it does.
    pub roles: BTreeSet<Role>,
    /// `node.attr.*`
    pub attributes: BTreeMap<String, String>,
    /// Cores that shards are pinned to.
    pub cores: u32,
}

impl DiscoveryNode {
    /// Whether it may vote and be elected.
    #[must_use]
    pub fn is_master_eligible(&self) -> bool {
        self.roles.contains(&Role::Master)
    }

    /// Whether it holds shards.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.roles.contains(&Role::Data)
    }
}

/// The address without its port.
#[must_use]
pub fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host.trim_start_matches('[').trim_end_matches(']'))
}

/// What a node does (`node.roles`); a node without roles only coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Votes, and may be elected.
    Master,
    /// Holds shards.
    Data,
    /// Runs pipelines.
    Ingest,
}

impl Role {
    /// As `_cat/nodes` shows it.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Role::Master => 'm',
            Role::Data => 'd',
            Role::Ingest => 'i',
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Data => "data",
            Role::Ingest => "ingest",
        }
    }
}

/// One alias of an index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AliasMetadata {
    /// Query that limits what is seen through the alias.
    pub filter: Option<Value>,
    /// Routing for indexing.
    pub index_routing: Option<String>,
    /// Routing for searching.
    pub search_routing: Option<String>,
    /// Whether writes through the alias go here.
    pub is_write_index: Option<bool>,
    /// Whether wildcards skip it.
    pub is_hidden: Option<bool>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl ClusterState {
    /// The indices that carry `alias`.
    pub fn indices_of_alias<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = &'a Arc<IndexMetadata>> + 'a {
        self.indices.values().filter(move |index| index.aliases.contains_key(alias))
    }

    /// A cluster setting that somebody has set: the transient one hides the persistent one.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.transient_settings.get(key).or_else(|| self.persistent_settings.get(key))
    }

    /// The index of this uuid.
    #[must_use]
    pub fn index_by_uuid(&self, uuid: &str) -> Option<&Arc<IndexMetadata>> {
        self.indices.values().find(|index| index.uuid == uuid)
    }
}

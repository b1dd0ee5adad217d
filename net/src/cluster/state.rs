//! The cluster state: one immutable value, changed only by the elected master, shared by `Arc`.
//!
//! Mappings, settings and template bodies are JSON values here: `net` neither reads nor checks them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything the nodes agree on. A new version is a new value that shares unchanged parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Counts published states.
    pub version: u64,
    /// Names this very state.
    pub state_uuid: String,
    /// Names the cluster for ever.
    pub cluster_uuid: String,
    /// Display name.
    pub cluster_name: String,
    /// The master's term.
    pub term: u64,
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

impl ClusterState {
    /// The indices that carry `alias`.
    pub fn indices_of_alias<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = &'a Arc<IndexMetadata>> + 'a {
        self.indices.values().filter(move |index| index.aliases.contains_key(alias))
    }
}

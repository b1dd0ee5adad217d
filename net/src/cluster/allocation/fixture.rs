//! Nodes and indices for tests.

use std::collections::BTreeMap;

use serde_json::Map;

use crate::cluster::ids::NodeId;
use crate::cluster::state::{DiscoveryNode, IndexMetadata, Role};

pub(crate) fn node(n: u128) -> DiscoveryNode {
    DiscoveryNode {
        id: NodeId(n),
        name: format!("n{n}"),
        ephemeral_id: String::new(),
        transport_address: format!("10.0.0.{n}:9300"),
        http_address: format!("10.0.0.{n}:9200"),
        roles: [Role::Master, Role::Data].into(),
        attributes: BTreeMap::from([("zone".to_owned(), format!("z{}", n % 2))]),
        cores: 1,
    }
}

pub(crate) fn index(name: &str, shards: u32, replicas: u32) -> IndexMetadata {
    IndexMetadata {
        name: name.to_owned(),
        uuid: format!("u-{name}"),
        open: true,
        creation_date: 0,
        number_of_shards: shards,
        number_of_replicas: replicas,
        routing_num_shards: 1024,
        settings: Map::new(),
        mapping: serde_json::json!({}),
        mapping_version: 1,
        settings_version: 1,
        aliases_version: 1,
        aliases: BTreeMap::new(),
        primary_terms: vec![1; shards as usize],
        in_sync: Vec::new(),
    }
}

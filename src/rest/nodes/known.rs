//! The nodes of the cluster, and expressions that mean some of them.

use ringdex_net::cluster::state::{DiscoveryNode, host_of};

use crate::backend::SharedBackend;
use crate::rest::filter::glob;

/// Names of roles, sorted as the original sorts them.
const ROLES: [&str; 4] = ["data", "ingest", "master", "remote_cluster_client"];

/// A node, as expressions and tables name it.
pub struct KnownNode {
    /// 22 characters.
    pub id: String,
    /// `node.name`
    pub name: String,
    /// Its address without a port.
    pub host: String,
    /// `address:port` for other nodes.
    pub transport_address: String,
    /// `address:port` for clients.
    pub http_address: String,
    /// Names of its roles, sorted.
    pub roles: Vec<&'static str>,
    /// `node.attr.*`
    pub attributes: Vec<(String, String)>,
    /// Whether it is this node.
    pub local: bool,
    /// Whether it is the master.
    pub master: bool,
}

impl KnownNode {
    /// `dimr`
    #[must_use]
    pub fn role_letters(&self) -> String {
        if self.roles.is_empty() { "-".to_owned() } else { self.roles.iter().map(|role| &role[..1]).collect() }
    }
}

/// The nodes of the cluster.
pub fn known_nodes(backend: &SharedBackend) -> Vec<KnownNode> {
    let (own, state) = (&backend.node().id, backend.state());
    let known = |node: &DiscoveryNode| {
        let mut roles: Vec<&'static str> = node.roles.iter().map(|role| role.name()).collect();
        roles.sort_unstable();
        if roles.len() == ROLES.len() - 1 {
            // A node with the roles that are the default is a remote cluster client too.
            roles.push("remote_cluster_client");
        }
        let id = node.id.to_string();
        KnownNode {
            local: id == *own,
            id,
            name: node.name.clone(),
            host: host_of(&node.transport_address).to_owned(),
            transport_address: node.transport_address.clone(),
            http_address: node.http_address.clone(),
            roles,
            attributes: node.attributes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            master: backend.has_master() && state.master == Some(node.id),
        }
    };
    state.nodes.values().map(|node| known(node)).collect()
}

/// Whether a node expression (`_local`, `_master`, names, ids, `data:true`, ...) means a node.
pub fn means_node(node: &KnownNode, expression: Option<&str>) -> bool {
    let Some(list) = expression.filter(|e| !e.is_empty()) else { return true };
    let mut included = false;
    for item in list.split(',') {
        included = match item {
            "_all" | "*" => true,
            "_local" => included | node.local,
            "_master" => included | node.master,
            other => match other.split_once(':') {
                Some((role, value)) if ROLES.contains(&role) || role == "coordinating_only" => {
                    let has =
                        if role == "coordinating_only" { node.roles.is_empty() } else { node.roles.contains(&role) };
                    match value {
                        "true" => included | has,
                        "false" => included & !has,
                        _ => included,
                    }
                }
                Some((attribute, pattern)) => {
                    included | node.attributes.iter().any(|(n, v)| glob(attribute, n) && glob(pattern, v))
                }
                None => included | glob(other, &node.name) || other == node.id || glob(other, &node.host),
            },
        };
    }
    included
}

/// This node, if a node expression means it; none while it is in no cluster.
pub fn this_node(backend: &SharedBackend, expression: Option<&str>) -> Option<KnownNode> {
    known_nodes(backend).into_iter().find(|node| node.local && means_node(node, expression))
}

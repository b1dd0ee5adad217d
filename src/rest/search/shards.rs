//! `_search_shards`: where a search would go.

use std::collections::BTreeSet;

use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::routing::ShardRouting;
use ringdex_net::cluster::state::ClusterState;
use serde_json::{Map, Value, json};

use super::targets_of;
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::{self, IndicesOptions};
use crate::rest::cluster::{copy_shown, node_shown};
use crate::rest::params::{self, indices_options};
use crate::rest::request::{Request, Response};

/// `GET|POST [/{index}]/_search_shards`
pub async fn search_shards(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets_of(backend, &state, &request, options)?;
    let names = resolve::resolve_names(&state, &params::indices(&request), options, backend.now_ms())?;
    let mut indices = Map::new();
    for target in &list {
        let mut shown = Map::new();
        let through: Vec<&String> = names.iter().filter(|n| target.index.aliases.contains_key(*n)).collect();
        if !through.is_empty() {
            shown.insert("aliases".into(), json!(through));
            if target.filter.is_some()
                && let Some(filter) = through.iter().find_map(|n| target.index.aliases[*n].filter.clone())
            {
                shown.insert("filter".into(), filter);
            }
        }
        indices.insert(target.index.name.clone(), Value::Object(shown));
    }
    let preferred = Preferred::of(backend, &state, request.param("preference").unwrap_or(""));
    let mut used = BTreeSet::new();
    let mut shards = Vec::new();
    for target in &list {
        let mut copies = searchable(&state, &target.index.uuid, target.shard);
        preferred.order(&mut copies);
        used.extend(copies.iter().filter_map(|copy| copy.node));
        let shown: Vec<Value> = copies.iter().map(|copy| copy_shown(&target.index, target.shard, copy)).collect();
        shards.push(Value::Array(shown));
    }
    let nodes = state.nodes.iter().filter(|(id, _)| used.contains(id));
    let nodes: Map<String, Value> = nodes.map(|(id, node)| (id.to_string(), node_shown(node))).collect();
    Ok(Response::ok(json!({ "nodes": nodes, "indices": indices, "shards": shards })))
}

/// The copies that a search may go to: those in service, then those that will be.
fn searchable<'a>(state: &'a ClusterState, uuid: &str, shard: u32) -> Vec<&'a ShardRouting> {
    let group = state.routing.get(uuid).map_or(&[][..], |routing| routing.copies(shard));
    let mut copies: Vec<&ShardRouting> = group.iter().filter(|copy| copy.node.is_some()).collect();
    copies.sort_by_key(|copy| !copy.active());
    copies
}

/// The nodes that `preference` names.
struct Preferred {
    nodes: BTreeSet<NodeId>,
    /// No others will do.
    only: bool,
}

impl Preferred {
    fn of(backend: &SharedBackend, state: &ClusterState, preference: &str) -> Preferred {
        // What comes after the bar is a preference among the shards that are named before it.
        let preference = match preference.split_once('|') {
            Some((shards, rest)) if shards.starts_with("_shards:") => rest,
            _ => preference,
        };
        let named = |list: &str| {
            let means = |id: &NodeId, name: &str| list.split(',').any(|word| word == name || word == id.to_string());
            state.nodes.values().filter(|node| means(&node.id, &node.name)).map(|node| node.id).collect()
        };
        let own = || backend.node().id.parse().into_iter().collect();
        match preference.split_once(':').unwrap_or((preference, "")) {
            ("_local", _) => Preferred { nodes: own(), only: false },
            ("_only_local", _) => Preferred { nodes: own(), only: true },
            ("_prefer_nodes", list) => Preferred { nodes: named(list), only: false },
            ("_only_nodes", list) => Preferred { nodes: named(list), only: true },
            _ => Preferred { nodes: BTreeSet::new(), only: false },
        }
    }

    fn order(&self, copies: &mut Vec<&ShardRouting>) {
        let is_preferred = |copy: &&ShardRouting| copy.node.is_some_and(|node| self.nodes.contains(&node));
        if self.only {
            copies.retain(is_preferred);
        }
        copies.sort_by_key(|copy| (!copy.active(), !is_preferred(copy)));
    }
}

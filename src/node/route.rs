//! Which copy of a shard a request goes to: the state says where copies are, experience says how fast they answer.
//!
//! - What changes documents, and what is asked about the shard as such, goes to the primary.
//! - A request of a context (scroll, point in time, fetch) goes to the copy that holds it: the upper half of the context's
//!   number is a tag of the node.
//! - Everything else is read from any active copy: in turn among those that answer about equally fast (within a factor of
//!   two, counting what they are still busy with), after the idea of C3 (Suresh et al., NSDI 2015). A copy that is passed over is
//!   slowly thought better of, so that it gets another try.

use std::cell::{Cell, RefCell};

use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::state::ClusterState;
use rustc_hash::FxHashMap;

use crate::shard::message::{ShardId, ShardRequest};

/// Weight of the newest response time in the moving average.
const NEWEST: f64 = 0.3;
/// What is left of a slower copy's average whenever it is passed over.
const FORGIVEN: f64 = 0.95;
/// Differences below this (nanoseconds) are noise.
const NOISE_NS: f64 = 200_000.0;
/// Choices for which a node that did not answer comes last.
const SHUNNED: u32 = 100;
/// Setting that makes reads go round without regard to speed.
const ADAPTIVE: &str = "cluster.routing.use_adaptive_replica_selection";

/// What kind of copy a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The primary.
    Primary,
    /// Any active one.
    Any,
    /// The one on the node with this tag.
    Tagged(u32),
}

/// The half of a context's number that says on which node it is.
#[must_use]
pub fn tag(node: NodeId) -> u32 {
    (node.0 >> 96) as u32 ^ node.0 as u32
}

/// What kind of copy `request` needs.
#[must_use]
pub fn want(request: &ShardRequest) -> Want {
    let of = |context: Option<u64>| match context {
        Some(context) if context >> 32 != 0 => Want::Tagged((context >> 32) as u32),
        _ => Want::Any,
    };
    match request {
        ShardRequest::Search(search) => of(search.context),
        ShardRequest::Statistics { context, .. } | ShardRequest::Profile { context, .. } => of(*context),
        ShardRequest::Fetch { context, .. } | ShardRequest::Note { context, .. } | ShardRequest::Free { context } => {
            of(Some(*context))
        }
        ShardRequest::Get(_) | ShardRequest::Explain { .. } | ShardRequest::Open { .. } => Want::Any,
        _ => Want::Primary,
    }
}

/// How a node has answered.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    /// Moving average, nanoseconds; 0 = never asked.
    average_ns: f64,
    outstanding: u32,
    /// Choices for which it still comes last, because it did not answer.
    shunned: u32,
}

impl Speed {
    fn rank(self) -> f64 {
        (self.average_ns + NOISE_NS) * f64::from(1 + self.outstanding).powi(3)
    }
}

/// Chooses copies; one per core.
#[derive(Debug, Default)]
pub struct Router {
    turn: Cell<usize>,
    speeds: RefCell<FxHashMap<NodeId, Speed>>,
}

impl Router {
    /// The nodes to try, in order; empty if no copy can serve.
    #[must_use]
    pub fn candidates(&self, state: &ClusterState, id: &ShardId, want: Want) -> Vec<NodeId> {
        let Some(routing) = state.routing.get(&*id.uuid) else { return Vec::new() };
        let active = routing.copies(id.shard).iter().filter(|copy| copy.active());
        let mut nodes: Vec<NodeId> = match want {
            Want::Primary => active.filter(|copy| copy.primary).filter_map(|copy| copy.node).collect(),
            Want::Any => active.filter_map(|copy| copy.node).collect(),
            Want::Tagged(wanted) => {
                return state.nodes.keys().copied().filter(|node| tag(*node) == wanted).collect();
            }
        };
        if nodes.len() > 1 {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            nodes.sort_unstable();
            let count = nodes.len();
            nodes.rotate_left(turn % count);
            let setting = state.setting(ADAPTIVE);
            if setting.is_none_or(|value| value != "false" && value != false) {
                self.fastest_first(&mut nodes);
            }
            self.silent_last(&mut nodes);
        }
        nodes
    }

    /// Moves those that are much slower than the fastest behind the others; the order among the others stays.
    fn fastest_first(&self, nodes: &mut [NodeId]) {
        let mut speeds = self.speeds.borrow_mut();
        let rank = |node: &NodeId| speeds.get(node).copied().unwrap_or_default().rank();
        let best = nodes.iter().map(rank).fold(f64::INFINITY, f64::min);
        nodes.sort_by(|a, b| {
            let slow = |node: &NodeId| if rank(node) <= 2.0 * best { 0.0 } else { rank(node) };
            slow(a).total_cmp(&slow(b))
        });
        for passed in &nodes[1..] {
            if let Some(speed) = speeds.get_mut(passed)
                && speed.rank() > 2.0 * best
            {
                speed.average_ns *= FORGIVEN;
            }
        }
    }

    /// Moves those that did not answer behind the others: each try may take as long as a connection may.
    fn silent_last(&self, nodes: &mut [NodeId]) {
        let mut speeds = self.speeds.borrow_mut();
        let mut silent = |node: &NodeId| match speeds.get_mut(node) {
            Some(speed) if speed.shunned > 0 => {
                speed.shunned -= 1;
                true
            }
            _ => false,
        };
        nodes.sort_by_cached_key(|node| silent(node));
    }

    /// A request to `node` was not answered at all.
    pub fn silent(&self, node: NodeId) {
        self.speeds.borrow_mut().entry(node).or_default().shunned = SHUNNED;
    }

    /// A request to `node` begins.
    pub fn begun(&self, node: NodeId) {
        self.speeds.borrow_mut().entry(node).or_default().outstanding += 1;
    }

    /// It has been answered after `ns`, or (none) has not.
    pub fn ended(&self, node: NodeId, ns: Option<u64>) {
        let mut speeds = self.speeds.borrow_mut();
        let speed = speeds.entry(node).or_default();
        speed.outstanding = speed.outstanding.saturating_sub(1);
        if let Some(ns) = ns {
            speed.shunned = 0;
            let first = speed.average_ns == 0.0;
            speed.average_ns = if first { ns as f64 } else { speed.average_ns * (1.0 - NEWEST) + ns as f64 * NEWEST };
        }
    }

    /// Forgets nodes that are gone.
    pub fn retain(&self, state: &ClusterState) {
        self.speeds.borrow_mut().retain(|node, _| state.nodes.contains_key(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use ringdex_net::cluster::ids::AllocationId;
    use ringdex_net::cluster::routing::{CopyState, IndexRouting, ShardRouting};

    fn copy(node: u128, primary: bool, state: CopyState) -> ShardRouting {
        ShardRouting {
            primary,
            state,
            node: (state != CopyState::Unassigned).then_some(NodeId(node)),
            allocation_id: Some(AllocationId(node)),
            relocating_node: None,
            unassigned: None,
            recovery_source: Default::default(),
        }
    }

    fn state(copies: Vec<ShardRouting>) -> (ClusterState, ShardId) {
        let mut state = ClusterState::default();
        state.routing.insert("u".into(), Arc::new(IndexRouting { shards: vec![copies] }));
        (state, ShardId { index: "i".into(), uuid: "u".into(), shard: 0 })
    }

    #[test]
    fn only_the_active_primary_takes_writes() {
        let (state, id) = state(vec![copy(1, true, CopyState::Started), copy(2, false, CopyState::Started)]);
        assert_eq!(Router::default().candidates(&state, &id, Want::Primary), [NodeId(1)]);
        let (state, id) =
            self::state(vec![copy(1, true, CopyState::Initializing), copy(2, false, CopyState::Unassigned)]);
        assert!(Router::default().candidates(&state, &id, Want::Primary).is_empty());
        assert!(Router::default().candidates(&state, &id, Want::Any).is_empty());
    }

    #[test]
    fn reads_go_round_evenly() {
        let copies = (1..=3).map(|n| copy(n, n == 1, CopyState::Started)).collect();
        let (state, id) = state(copies);
        let router = Router::default();
        let mut counts = [0; 4];
        for _ in 0..3000 {
            counts[router.candidates(&state, &id, Want::Any)[0].0 as usize] += 1;
        }
        assert_eq!(counts, [0, 1000, 1000, 1000]);
    }

    #[test]
    fn a_slow_copy_is_passed_over_and_tried_again() {
        let copies = (1..=3).map(|n| copy(n, n == 1, CopyState::Started)).collect();
        let (state, id) = state(copies);
        let router = Router::default();
        let mut slow = 0;
        for _ in 0..3000 {
            let node = router.candidates(&state, &id, Want::Any)[0];
            router.begun(node);
            slow += u32::from(node == NodeId(2));
            router.ended(node, Some(if node == NodeId(2) { 50_000_000 } else { 500_000 }));
        }
        assert!((1..300).contains(&slow), "{slow} of 3000 went to the slow copy");
    }

    #[test]
    fn a_node_that_does_not_answer_comes_last_for_a_while() {
        let copies = (1..=3).map(|n| copy(n, n == 1, CopyState::Started)).collect();
        let (mut state, id) = state(copies);
        state.transient_settings.insert(ADAPTIVE.into(), "false".into());
        let router = Router::default();
        router.silent(NodeId(2));
        for _ in 0..SHUNNED {
            assert_eq!(router.candidates(&state, &id, Want::Any)[2], NodeId(2));
        }
        let first = |router: &Router| (0..9).any(|_| router.candidates(&state, &id, Want::Any)[0] == NodeId(2));
        assert!(first(&router), "it is tried again");
        router.silent(NodeId(2));
        assert!(!first(&router));
        router.begun(NodeId(2));
        router.ended(NodeId(2), Some(1_000_000));
        assert!(first(&router), "it has answered");
    }

    #[test]
    fn a_context_leads_back_to_its_node() {
        let (mut state, id) = state(vec![copy(1, true, CopyState::Started)]);
        let node = NodeId(7 << 96 | 9);
        let known = ringdex_net::cluster::state::DiscoveryNode {
            id: node,
            name: "n".into(),
            ephemeral_id: "e".into(),
            transport_address: "127.0.0.1:1".into(),
            http_address: "127.0.0.1:2".into(),
            roles: Default::default(),
            attributes: Default::default(),
            cores: 1,
        };
        state.nodes.insert(node, Arc::new(known));
        let context = u64::from(tag(node)) << 32 | 5;
        let wanted = want(&ShardRequest::Free { context });
        assert_eq!(Router::default().candidates(&state, &id, wanted), [node]);
    }
}

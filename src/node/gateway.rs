//! `gateway.*`: after all nodes were down, how long the master waits for nodes before it gives copies their places.
//!
//! A cluster that starts whole has its copies where they were. The first node that leads need not make copies anew that others
//! bring a moment later.

use std::cell::Cell;

use ringdex_net::cluster::routing::ShardRouting;
use ringdex_net::cluster::state::ClusterState;

use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::rest::params::parse_time;

/// Without a setting, how long nodes that are expected are waited for.
const WAIT_MS: i64 = 300_000;

/// How many of each kind: all that vote or have data, those that have data, those that vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nodes {
    any: Option<u64>,
    data: Option<u64>,
    master: Option<u64>,
}

impl Nodes {
    fn read(config: &Config, word: &str) -> ApiResult<Nodes> {
        let get = |name: &str| {
            let key = format!("gateway.{word}_{name}");
            let Some(text) = config.setting(&key) else { return Ok(None) };
            match text.parse::<i64>() {
                Ok(-1) => Ok(None),
                Ok(n) if n >= 0 => Ok(Some(n as u64)),
                _ => Err(ApiError::illegal_argument(format!("Failed to parse value [{text}] for setting [{key}]"))),
            }
        };
        Ok(Nodes { any: get("nodes")?, data: get("data_nodes")?, master: get("master_nodes")? })
    }

    /// Whether a state has them all.
    fn are_in(&self, state: &ClusterState) -> bool {
        let nodes = || state.nodes.values();
        let any = nodes().filter(|node| node.is_data() || node.is_master_eligible()).count() as u64;
        let data = nodes().filter(|node| node.is_data()).count() as u64;
        let master = nodes().filter(|node| node.is_master_eligible()).count() as u64;
        [(self.any, any), (self.data, data), (self.master, master)]
            .iter()
            .all(|(wanted, are)| wanted.is_none_or(|wanted| *are >= wanted))
    }
}

/// Whether copies get their places yet. Once they do, they do as long as any is in service.
#[derive(Debug, Default)]
pub struct Gateway {
    /// Nothing happens without these.
    least: Nodes,
    /// With these it happens at once.
    expected: Nodes,
    /// Else so much later (milliseconds).
    after_ms: i64,
    /// Milliseconds since 1970 when enough nodes were first there.
    since: Cell<Option<i64>>,
    open: Cell<bool>,
}

impl Gateway {
    /// As a node's settings have it.
    ///
    /// # Errors
    /// `illegal_argument_exception` for what is no number or time.
    pub fn new(config: &Config) -> ApiResult<Gateway> {
        let (least, expected) = (Nodes::read(config, "recover_after")?, Nodes::read(config, "expected")?);
        let after_ms = match config.setting("gateway.recover_after_time") {
            Some(text) => parse_time(text, "gateway.recover_after_time")?,
            None if expected == Nodes::default() => 0,
            None => WAIT_MS,
        };
        Ok(Gateway { least, expected, after_ms, ..Gateway::default() })
    }

    /// A new master begins anew.
    pub fn elected(&self) {
        self.since.set(None);
        self.open.set(false);
    }

    /// None if copies may get their places; else when to look again at the latest, if time alone changes it.
    pub fn holds(&self, state: &ClusterState, now_ms: i64) -> Option<Option<i64>> {
        let mut copies = state.routing.values().flat_map(|index| index.shards.iter().flatten());
        if self.open.get() || state.indices.is_empty() || copies.any(ShardRouting::active) {
            self.open.set(true);
            return None;
        }
        if !self.least.are_in(state) {
            self.since.set(None);
            return Some(None);
        }
        let since = self.since.get().unwrap_or(now_ms);
        self.since.set(Some(since));
        let due = since.saturating_add(self.after_ms);
        let expects = self.expected != Nodes::default();
        if expects && self.expected.are_in(state) || now_ms >= due {
            self.open.set(true);
            return None;
        }
        Some(Some(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::index;
    use crate::rest::testing::member;
    use ringdex_net::cluster::allocation::{follow_metadata, node_joined};
    use ringdex_net::cluster::ids::NodeId;
    use ringdex_net::cluster::state::Role;

    fn gateway(settings: &[(&str, &str)]) -> Gateway {
        let other = settings.iter().map(|(key, value)| (format!("gateway.{key}"), (*value).to_owned())).collect();
        Gateway::new(&Config { other, ..Config::default() }).unwrap()
    }

    /// An index that has no copy in service, and so many nodes, of which the first has no data.
    fn state(nodes: u128) -> ClusterState {
        let mut state = ClusterState::default();
        state.indices.insert("i".into(), index("i", 1, 1));
        for n in 1..=nodes {
            let mut node = member(NodeId(n));
            if n == 1 {
                node.roles = [Role::Master].into();
            }
            state = node_joined(&state, node);
        }
        follow_metadata(&state, 0)
    }

    #[test]
    fn without_settings_nothing_is_waited_for() {
        assert_eq!(gateway(&[]).holds(&state(1), 5), None);
    }

    #[test]
    fn expected_nodes_are_waited_for_until_the_time_is_over() {
        let gateway = gateway(&[("expected_data_nodes", "2"), ("recover_after_time", "10s")]);
        assert_eq!(gateway.holds(&state(2), 1_000), Some(Some(11_000)));
        assert_eq!(gateway.holds(&state(2), 10_999), Some(Some(11_000)), "the first look counts");
        assert_eq!(gateway.holds(&state(3), 5_000), None, "all are there");
        assert_eq!(gateway.holds(&state(1), 6_000), None, "once is for ever");
        gateway.elected();
        assert_eq!(gateway.holds(&state(2), 20_000), Some(Some(30_000)));
        assert_eq!(gateway.holds(&state(2), 30_000), None);
        assert_eq!(self::gateway(&[("expected_nodes", "3")]).holds(&state(2), 0), Some(Some(WAIT_MS)));
        assert_eq!(self::gateway(&[("expected_nodes", "2")]).holds(&state(2), 0), None);
    }

    #[test]
    fn without_the_least_nodes_time_does_not_count() {
        let gateway = gateway(&[("recover_after_data_nodes", "2"), ("recover_after_time", "10s")]);
        assert_eq!(gateway.holds(&state(2), 1_000), Some(None));
        assert_eq!(gateway.holds(&state(3), 50_000), Some(Some(60_000)));
        assert_eq!(gateway.holds(&state(2), 70_000), Some(None));
        assert_eq!(gateway.holds(&state(3), 80_000), Some(Some(90_000)));
        let gateway = self::gateway(&[("recover_after_master_nodes", "1")]);
        assert_eq!(gateway.holds(&state(1), 0), None);
    }

    #[test]
    fn a_cluster_that_works_is_not_held_up_and_nonsense_is_refused() {
        let mut working = state(2);
        let routing = std::sync::Arc::make_mut(working.routing.values_mut().next().unwrap());
        routing.shards[0][0].state = ringdex_net::cluster::routing::CopyState::Started;
        assert_eq!(gateway(&[("expected_nodes", "5")]).holds(&working, 0), None);
        let wrong = |key: &str, value: &str| {
            let other = vec![(format!("gateway.{key}"), value.to_owned())];
            Gateway::new(&Config { other, ..Config::default() }).is_err()
        };
        assert!(
            wrong("expected_nodes", "many") && wrong("recover_after_nodes", "-2") && wrong("recover_after_time", "5")
        );
    }
}

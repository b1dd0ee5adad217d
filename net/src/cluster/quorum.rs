//! Majorities, and which nodes should vote.

use std::collections::BTreeSet;

use super::ids::NodeId;
use super::state::VotingConfig;

/// `IsQuorum`: more than half of the configuration. An empty configuration has no quorum.
#[must_use]
pub fn is_quorum(votes: &BTreeSet<NodeId>, config: &VotingConfig) -> bool {
    votes.intersection(config).count() * 2 > config.len()
}

/// A majority of the old and of the new configuration. While one replaces the other, neither alone decides.
#[must_use]
pub fn is_joint_quorum(votes: &BTreeSet<NodeId>, committed: &VotingConfig, accepted: &VotingConfig) -> bool {
    (is_quorum(votes, committed) || planted!(QuorumOnlyInNewConfiguration)) && is_quorum(votes, accepted)
}

/// What the wanted configuration depends on.
#[derive(Clone, Copy, Debug)]
pub struct Reconfigure<'a> {
    /// Nodes that may vote and answer.
    pub live: &'a BTreeSet<NodeId>,
    /// Nodes that shall not vote (`_cluster/voting_config_exclusions`).
    pub excluded: &'a BTreeSet<NodeId>,
    /// The elected master.
    pub master: NodeId,
    /// The configuration in force.
    pub current: &'a VotingConfig,
    /// `cluster.auto_shrink_voting_configuration`
    pub auto_shrink: bool,
}

impl Reconfigure<'_> {
    /// The configuration that survives the most failures: live nodes before others, the master first of them, those that
    /// vote already before new ones; an odd number of them where nobody is excluded; never fewer than three if it once was three. Excluded nodes go.
    /// The current one where the live nodes would not be a quorum of the better one.
    #[must_use]
    pub fn wanted(&self) -> VotingConfig {
        let mut candidates: Vec<NodeId> =
            self.live.union(self.current).copied().filter(|node| !self.excluded.contains(node)).collect();
        candidates.sort_by_key(|node| {
            let live = self.live.contains(node);
            (!live, *node != self.master, !self.current.contains(node), *node)
        });
        let live = candidates.iter().filter(|node| self.live.contains(node)).count();
        let live_odd = if live % 2 == 0 { live.saturating_sub(1) } else { live };
        let size = if self.auto_shrink {
            live_odd.max(if self.current.len() < 3 { 1 } else { 3 })
        } else {
            live_odd.max(self.current.difference(self.excluded).count())
        };
        let wanted: VotingConfig = candidates.into_iter().take(size).collect();
        if is_quorum(self.live, &wanted) { wanted } else { self.current.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(ids: &str) -> BTreeSet<NodeId> {
        ids.bytes().map(|b| NodeId(u128::from(b))).collect()
    }

    fn check(live: &str, excluded: &str, master: &str, current: &str, expected: &str) {
        let (live, excluded, current) = (set(live), set(excluded), set(current));
        let master = NodeId(u128::from(master.as_bytes()[0]));
        let inputs = Reconfigure { live: &live, excluded: &excluded, master, current: &current, auto_shrink: true };
        assert_eq!(inputs.wanted(), set(expected), "{inputs:?}");
    }

    #[test]
    fn more_than_half_is_a_quorum() {
        assert!(is_quorum(&set("ab"), &set("abc")));
        assert!(!is_quorum(&set("ab"), &set("abcd")));
        assert!(is_quorum(&set("a"), &set("a")));
        assert!(!is_quorum(&set("xyz"), &set("abc")), "strangers do not count");
        assert!(!is_quorum(&set("abc"), &set("")), "nobody decides for nobody");
        assert!(!is_joint_quorum(&set("ab"), &set("abc"), &set("cde")));
        assert!(!is_joint_quorum(&set("cd"), &set("abc"), &set("cde")));
        assert!(is_joint_quorum(&set("acd"), &set("abc"), &set("cde")));
    }

    #[test]
    fn the_configuration_is_odd_and_grows_with_the_cluster() {
        check("a", "", "a", "a", "a");
        check("ab", "", "a", "a", "a");
        check("abc", "", "a", "a", "abc");
        check("abcd", "", "a", "abc", "abc");
        check("abcde", "", "a", "abc", "abcde");
    }

    #[test]
    fn it_shrinks_to_three_and_not_below() {
        check("abc", "", "a", "abcde", "abc");
        check("ab", "", "a", "abc", "abc");
        check("abd", "", "a", "abc", "abd");
        check("ab", "", "b", "abcde", "abc");
    }

    #[test]
    fn the_master_is_kept() {
        check("abcd", "", "d", "abc", "abd");
        check("ab", "", "b", "a", "b");
    }

    #[test]
    fn excluded_nodes_go_even_the_master() {
        check("abc", "c", "a", "abc", "ab");
        check("abcd", "c", "a", "abc", "abd");
        check("abcd", "a", "a", "abc", "bcd");
    }

    #[test]
    fn without_shrinking_the_size_stays() {
        let (live, excluded, current) = (set("abc"), set(""), set("abcde"));
        let master = NodeId(u128::from(b'a'));
        let inputs = Reconfigure { live: &live, excluded: &excluded, master, current: &current, auto_shrink: false };
        assert_eq!(inputs.wanted(), set("abcde"));
    }

    fn nodes(max: u128) -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((0..max).prop_map(NodeId), 0..8)
    }

    proptest! {
        #[test]
        fn the_live_nodes_can_elect_in_whatever_is_newly_wanted(
            live in nodes(8), excluded in nodes(8), current in nodes(8), master in 0u128..8, auto_shrink: bool,
        ) {
            let inputs = Reconfigure {
                live: &live, excluded: &excluded, master: NodeId(master), current: &current, auto_shrink
            };
            let wanted = inputs.wanted();
            if wanted != current {
                prop_assert!(is_quorum(&live, &wanted));
                prop_assert!(wanted.is_disjoint(&excluded));
                prop_assert!(!live.contains(&NodeId(master)) || excluded.contains(&NodeId(master)) || wanted.contains(&NodeId(master)));
            }
        }
    }
}

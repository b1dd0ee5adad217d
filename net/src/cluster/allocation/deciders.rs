//! The deciders: each says of one copy and one node yes, throttle, or no, in Elasticsearch's words.

use std::net::IpAddr;

use super::backoff::{retry_at_ms, show_info};
use super::disk;
use super::model::Model;
use super::settings::{AllowRebalance, Enable, Rebalance, node_matches, show_filter};
use crate::cluster::routing::{CopyState, RecoverySource, ShardRouting};
use crate::cluster::state::host_of;

/// How a decider decides; the worst of all counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing against it.
    Yes,
    /// Later.
    Throttle,
    /// Not unless something changes.
    No,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Yes => "YES",
            Verdict::Throttle => "THROTTLE",
            Verdict::No => "NO",
        }
    }
}

/// What one decider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Name of the decider.
    pub decider: &'static str,
    /// What it said.
    pub verdict: Verdict,
    /// Why.
    pub explanation: String,
}

/// Gathers decisions. Texts are made only if somebody wants to read them.
pub(super) struct Decisions {
    explain: bool,
    verdict: Verdict,
    /// A decider said no that even a primary with data has to obey.
    pub(super) firm: bool,
    pub(super) list: Vec<Decision>,
}

impl Decisions {
    pub(super) fn new(explain: bool) -> Decisions {
        Decisions { explain, verdict: Verdict::Yes, firm: false, list: Vec::new() }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn add(&mut self, decider: &'static str, verdict: Verdict, text: impl FnOnce() -> String) {
        if verdict == Verdict::No && matches!(decider, MAX_RETRY | REPLICA_AFTER_PRIMARY | ENABLE | SAME_SHARD) {
            self.firm = true;
        }
        self.verdict = self.verdict.max(verdict);
        if self.explain {
            self.list.push(Decision { decider, verdict, explanation: text() });
        }
    }
}

const MAX_RETRY: &str = "max_retry";
const REPLICA_AFTER_PRIMARY: &str = "replica_after_primary_active";
const ENABLE: &str = "enable";
const SAME_SHARD: &str = "same_shard";

/// A copy, which may go to, or stay on, a node.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) index: usize,
    pub(super) shard: u32,
    pub(super) copy: &'a ShardRouting,
    pub(super) node: usize,
}

type Decider = fn(&Model<'_>, &Question<'_>, &mut Decisions);

const ALLOCATE: [Decider; 9] = [
    max_retry,
    replica_after_primary_active,
    enable,
    filter,
    same_shard,
    disk::can_allocate,
    throttling,
    shards_limit_allocate,
    awareness_allocate,
];

const REMAIN: [Decider; 4] = [filter, disk::can_remain, shards_limit_remain, awareness_remain];

/// Whether a copy may be allocated, or moved, to a node.
pub(super) fn can_allocate(model: &Model<'_>, question: &Question<'_>, explain: bool) -> Decisions {
    ask(&ALLOCATE, model, question, explain)
}

/// Whether a copy may stay where it is.
pub(super) fn can_remain(model: &Model<'_>, question: &Question<'_>, explain: bool) -> Decisions {
    ask(&REMAIN, model, question, explain)
}

fn ask(deciders: &[Decider], model: &Model<'_>, question: &Question<'_>, explain: bool) -> Decisions {
    let mut out = Decisions::new(explain);
    for decider in deciders {
        decider(model, question, &mut out);
        if out.firm && !explain {
            break;
        }
    }
    out
}

/// Whether a copy may move only to balance the cluster.
pub(super) fn can_rebalance(
    model: &Model<'_>,
    index: usize,
    shard: u32,
    copy: &ShardRouting,
    explain: bool,
) -> Decisions {
    let mut out = cluster_can_rebalance(model, explain);
    let whole = model.group(index, shard).iter().all(|copy| copy.active() || copy.relocation_target());
    if whole {
        out.add("rebalance_only_when_active", Verdict::Yes, || {
            "rebalancing is allowed as all replicas are active in the cluster".to_owned()
        });
    } else {
        out.add("rebalance_only_when_active", Verdict::No, || {
            "rebalancing is not allowed until all replicas in the cluster are active".to_owned()
        });
    }
    let own = model.indices[index].settings.rebalance;
    let enabled = own.unwrap_or(model.settings.rebalance);
    let allowed = match enabled {
        Rebalance::All => true,
        Rebalance::None => false,
        Rebalance::Primaries => copy.primary,
        Rebalance::Replicas => !copy.primary,
    };
    out.add(ENABLE, if allowed { Verdict::Yes } else { Verdict::No }, || {
        let setting = match own {
            Some(own) => format!("index setting [index.routing.rebalance.enable={}]", own.name()),
            None => format!("cluster setting [cluster.routing.rebalance.enable={}]", enabled.name()),
        };
        match (enabled, allowed) {
            (Rebalance::All, _) => "all rebalancing is allowed".to_owned(),
            (Rebalance::None, _) => format!("no rebalancing is allowed due to {setting}"),
            (Rebalance::Primaries, true) => "primary rebalancing is allowed".to_owned(),
            (Rebalance::Primaries, false) => format!("replica rebalancing is forbidden due to {setting}"),
            (Rebalance::Replicas, true) => "replica rebalancing is allowed".to_owned(),
            (Rebalance::Replicas, false) => format!("primary rebalancing is forbidden due to {setting}"),
        }
    });
    out
}

/// Whether the cluster is well enough for copies to move only to balance it.
pub(super) fn cluster_can_rebalance(model: &Model<'_>, explain: bool) -> Decisions {
    let mut out = Decisions::new(explain);
    let totals = model.blocking();
    let allow = model.settings.allow_rebalance;
    let no = |what: &str| {
        format!(
            "the cluster has {what} and cluster setting [cluster.routing.allocation.allow_rebalance] is set to [{}]",
            allow.name()
        )
    };
    let yes = |out: &mut Decisions, text: &str| out.add("cluster_rebalance", Verdict::Yes, || text.to_owned());
    let (name, verdict) = ("cluster_rebalance", Verdict::No);
    match allow {
        AllowRebalance::Always => yes(&mut out, "all shards are active"),
        AllowRebalance::PrimariesActive if totals.unassigned_primaries > 0 => {
            out.add(name, verdict, || no("unassigned primary shards"));
        }
        AllowRebalance::PrimariesActive if totals.inactive_primaries > 0 => {
            out.add(name, verdict, || no("inactive primary shards"));
        }
        AllowRebalance::PrimariesActive => yes(&mut out, "all primary shards are active"),
        AllowRebalance::AllActive if totals.unassigned > 0 => out.add(name, verdict, || no("unassigned shards")),
        AllowRebalance::AllActive if totals.inactive > 0 => out.add(name, verdict, || no("inactive shards")),
        AllowRebalance::AllActive => yes(&mut out, "all shards are active"),
    }
    let (limit, now) = (model.settings.concurrent_rebalance, totals.relocating);
    if limit < 0 {
        out.add("concurrent_rebalance", Verdict::Yes, || "unlimited concurrent rebalances are allowed".to_owned());
    } else if now >= limit {
        out.add("concurrent_rebalance", Verdict::Throttle, || {
            format!(
                "reached the limit of concurrently rebalancing shards [{now}], cluster setting \
                 [cluster.routing.allocation.cluster_concurrent_rebalance={limit}]"
            )
        });
    } else {
        out.add("concurrent_rebalance", Verdict::Yes, || {
            format!("below threshold [{limit}] for concurrent rebalances, current rebalance shard count [{now}]")
        });
    }
    out
}

fn max_retry(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    let most = model.indices[q.index].settings.max_retries;
    let info = q.copy.unassigned.as_ref().filter(|info| info.failed_allocations > 0);
    let Some(info) = info else {
        return out.add(MAX_RETRY, Verdict::Yes, || "shard has no previous failures".to_owned());
    };
    let failures = info.failed_allocations;
    match retry_at_ms(info, most, q.copy.state != CopyState::Unassigned) {
        Some(at) if at > model.inputs.now_ms && !model.by_hand => out.add(MAX_RETRY, Verdict::No, || {
            format!(
                "shard has exceeded the maximum number of retries [{most}] on failed allocation attempts - it is tried again \
                 after a while, manually call [/_cluster/reroute?retry_failed=true] to retry at once, [{}]",
                show_info(info)
            )
        }),
        _ => out.add(MAX_RETRY, Verdict::Yes, || {
            format!("shard has failed allocating [{failures}] times but [{most}] retries are allowed")
        }),
    }
}

fn replica_after_primary_active(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    if q.copy.primary {
        out.add(REPLICA_AFTER_PRIMARY, Verdict::Yes, || "shard is primary and can be allocated".to_owned());
    } else if model.primary(q.index, q.shard).is_some_and(ShardRouting::active) {
        out.add(REPLICA_AFTER_PRIMARY, Verdict::Yes, || "primary shard for this replica is already active".to_owned());
    } else {
        out.add(REPLICA_AFTER_PRIMARY, Verdict::No, || "primary shard for this replica is not yet active".to_owned());
    }
}

fn enable(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    if model.by_hand {
        return out.add(ENABLE, Verdict::Yes, || {
            "explicitly ignoring any disabling of allocation due to manual allocation commands via the reroute API"
                .to_owned()
        });
    }
    let own = model.indices[q.index].settings.enable;
    let enabled = own.unwrap_or(model.settings.enable);
    let is_new = q.copy.primary && !q.copy.active() && q.copy.recovery_source != RecoverySource::ExistingStore;
    let allowed = match enabled {
        Enable::All => true,
        Enable::None => false,
        Enable::NewPrimaries => is_new,
        Enable::Primaries => q.copy.primary,
    };
    out.add(ENABLE, if allowed { Verdict::Yes } else { Verdict::No }, || {
        let setting = match own {
            Some(own) => format!("index setting [index.routing.allocation.enable={}]", own.name()),
            None => format!("cluster setting [cluster.routing.allocation.enable={}]", enabled.name()),
        };
        match (enabled, allowed) {
            (Enable::All, _) => "all allocations are allowed".to_owned(),
            (Enable::None, _) => format!("no allocations are allowed due to {setting}"),
            (Enable::NewPrimaries, true) => "new primary allocations are allowed".to_owned(),
            (Enable::NewPrimaries, false) => format!("non-new primary allocations are forbidden due to {setting}"),
            (Enable::Primaries, true) => "primary allocations are allowed".to_owned(),
            (Enable::Primaries, false) => format!("replica allocations are forbidden due to {setting}"),
        }
    });
}

/// Whether the filters of the cluster and the index let copies of an index be on a node.
pub(super) fn passes_filters(model: &Model<'_>, index: usize, node: usize) -> bool {
    filter_refusal(model, index, node, false).is_none()
}

fn filter_refusal(model: &Model<'_>, index: usize, node: usize, explain: bool) -> Option<String> {
    let node = &model.nodes[node].node;
    let text = |text: &dyn Fn() -> String| Some(if explain { text() } else { String::new() });
    for (filters, level) in [(&model.settings.filters, "cluster"), (&model.indices[index].settings.filters, "index")] {
        if filters.is_empty() {
            continue;
        }
        if !filters.require.is_empty() && !node_matches(&filters.require, node, true) {
            return text(&|| {
                format!(
                    "node does not match {level} setting [{level}.routing.allocation.require] filters [{}]",
                    show_filter(&filters.require, true)
                )
            });
        }
        if !filters.include.is_empty() && !node_matches(&filters.include, node, false) {
            // Without "match" for the cluster: so it is in the words that clients know.
            let verb = if level == "index" { "does not match" } else { "does not" };
            return text(&|| {
                format!(
                    "node {verb} {level} setting [{level}.routing.allocation.include] filters [{}]",
                    show_filter(&filters.include, false)
                )
            });
        }
        if !filters.exclude.is_empty() && node_matches(&filters.exclude, node, false) {
            return text(&|| {
                format!(
                    "node matches {level} setting [{level}.routing.allocation.exclude] filters [{}]",
                    show_filter(&filters.exclude, false)
                )
            });
        }
    }
    None
}

fn filter(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    match filter_refusal(model, q.index, q.node, out.explain) {
        Some(text) => out.add("filter", Verdict::No, || text),
        None => out.add("filter", Verdict::Yes, || "node passes include/exclude/require filters".to_owned()),
    }
}

fn same_shard(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    let node = &model.nodes[q.node].node;
    let name = &model.indices[q.index].meta.name;
    let group = model.group(q.index, q.shard);
    if let Some(copy) = group.iter().find(|copy| copy.node == Some(node.id)) {
        let own = copy.allocation_id == q.copy.allocation_id;
        return out.add(SAME_SHARD, Verdict::No, || {
            let what = if own { "this shard" } else { "a copy of this shard" };
            format!("{what} is already allocated to this node [{}]", show_copy(name, q.shard, copy))
        });
    }
    if model.settings.same_host {
        let host = host_of(&node.transport_address);
        let twin = group.iter().filter(|copy| copy.allocation_id != q.copy.allocation_id).find_map(|copy| {
            let other = &model.nodes[*model.at.get(&copy.node?)?].node;
            (host_of(&other.transport_address) == host).then_some(other)
        });
        return match twin {
            Some(twin) => out.add(SAME_SHARD, Verdict::No, || {
                let kind = if host.parse::<IpAddr>().is_ok() { "address" } else { "name" };
                format!(
                    "a copy of this shard is already allocated to host {kind} [{host}], on node [{}], and \
                     [cluster.routing.allocation.same_shard.host] is [true] which forbids more than one node on this host from \
                     holding a copy of this shard",
                    twin.id
                )
            }),
            None => out.add(SAME_SHARD, Verdict::Yes, || {
                "none of the nodes on this host hold a copy of this shard".to_owned()
            }),
        };
    }
    out.add(SAME_SHARD, Verdict::Yes, || "this node does not hold a copy of this shard".to_owned());
}

fn throttling(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    const NAME: &str = "throttling";
    let node = &model.nodes[q.node];
    let settings = &model.settings;
    if q.copy.primary && q.copy.state == CopyState::Unassigned {
        let (now, limit) = (node.initial_primaries, settings.initial_primaries);
        return if now >= limit {
            out.add(NAME, Verdict::Throttle, || {
                format!(
                    "reached the limit of ongoing initial primary recoveries [{now}], cluster setting \
                     [cluster.routing.allocation.node_initial_primaries_recoveries={limit}]"
                )
            })
        } else {
            out.add(NAME, Verdict::Yes, || format!("below primary recovery limit of [{limit}]"))
        };
    }
    let also = "(can also be set via [cluster.routing.allocation.node_concurrent_recoveries])";
    let (incoming, limit) = (node.incoming, settings.incoming_recoveries);
    if incoming >= limit {
        return out.add(NAME, Verdict::Throttle, || {
            format!(
                "reached the limit of incoming shard recoveries [{incoming}], cluster setting \
                 [cluster.routing.allocation.node_concurrent_incoming_recoveries={limit}] {also}"
            )
        });
    }
    let source = model.primary(q.index, q.shard).filter(|primary| primary.active()).and_then(|primary| primary.node);
    let Some(source) = source.and_then(|id| model.at.get(&id)).map(|&at| &model.nodes[at]) else {
        return out.add(NAME, Verdict::No, || "primary shard for this replica is not yet active".to_owned());
    };
    let (outgoing, most) = (source.outgoing, settings.outgoing_recoveries);
    if outgoing >= most {
        return out.add(NAME, Verdict::Throttle, || {
            format!(
                "reached the limit of outgoing shard recoveries [{outgoing}] on the node [{}] which holds the primary, cluster \
                 setting [cluster.routing.allocation.node_concurrent_outgoing_recoveries={most}] {also}",
                source.node.id
            )
        });
    }
    out.add(NAME, Verdict::Yes, || {
        format!("below shard recovery limit of outgoing: [{outgoing} < {most}] incoming: [{incoming} < {limit}]")
    });
}

fn shards_limit_allocate(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    shards_limit(model, q, out, |count, limit| count >= limit);
}

fn shards_limit_remain(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    shards_limit(model, q, out, |count, limit| count > limit);
}

fn shards_limit(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions, over: impl Fn(i64, i64) -> bool) {
    const NAME: &str = "shards_limit";
    let (cluster, index) = (model.settings.shards_per_node, model.indices[q.index].settings.shards_per_node);
    let node = &model.nodes[q.node];
    let (count, own) = (node.shards, node.of(q.index));
    if cluster <= 0 && index <= 0 {
        return out.add(NAME, Verdict::Yes, || {
            format!("total shard limits are disabled: [index: {index}, cluster: {cluster}] <= 0")
        });
    }
    if cluster > 0 && over(count, cluster) {
        return out.add(NAME, Verdict::No, || {
            format!(
                "too many shards [{count}] allocated to this node, cluster setting \
                 [cluster.routing.allocation.total_shards_per_node={cluster}]"
            )
        });
    }
    if index > 0 && over(own, index) {
        return out.add(NAME, Verdict::No, || {
            format!(
                "too many shards [{own}] allocated to this node for index [{}], index setting \
                 [index.routing.allocation.total_shards_per_node={index}]",
                model.indices[q.index].meta.name
            )
        });
    }
    out.add(NAME, Verdict::Yes, || {
        format!(
            "the shard count [{count}] for this node is under the index limit [{index}] and cluster level node limit [{cluster}]"
        )
    });
}

fn awareness_allocate(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    awareness(model, q, out, true);
}

fn awareness_remain(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    awareness(model, q, out, false);
}

fn awareness(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions, moves: bool) {
    const NAME: &str = "awareness";
    let settings = &model.settings;
    if settings.awareness.is_empty() {
        return out.add(NAME, Verdict::Yes, || {
            "allocation awareness is not enabled, set cluster setting \
             [cluster.routing.allocation.awareness.attributes] to enable it"
                .to_owned()
        });
    }
    let node = &model.nodes[q.node].node;
    let copies = i64::from(model.indices[q.index].meta.number_of_replicas) + 1;
    for attribute in &settings.awareness {
        let Some(value) = node.attributes.get(attribute) else {
            return out.add(NAME, Verdict::No, || {
                format!(
                    "node does not contain the awareness attribute [{attribute}]; required attributes cluster setting \
                     [cluster.routing.allocation.awareness.attributes={}]",
                    settings.awareness.join(",")
                )
            });
        };
        let value_of = |at: usize| model.nodes[at].node.attributes.get(attribute);
        let mut here = 0;
        for copy in model.group(q.index, q.shard) {
            // The copy itself leaves the node where it is.
            let leaves = moves && copy.allocation_id.is_some() && copy.allocation_id == q.copy.allocation_id;
            let Some(&at) = copy.node.as_ref().and_then(|id| model.at.get(id)) else { continue };
            if copy.state != CopyState::Relocating && !leaves && value_of(at) == Some(value) {
                here += 1;
            }
        }
        here += i64::from(moves);
        let mut values: std::collections::BTreeSet<&String> = (0..model.nodes.len()).filter_map(value_of).collect();
        if let Some(forced) = settings.forced_awareness.get(attribute) {
            values.extend(forced);
        }
        let most = (copies + values.len() as i64 - 1) / values.len().max(1) as i64;
        if here > most {
            return out.add(NAME, Verdict::No, || {
                format!(
                    "there are too many copies of the shard allocated to nodes with attribute [{attribute}], there are \
                     [{copies}] total configured shard copies for this shard id and [{}] total attribute values, expected the \
                     allocated shard count per attribute [{here}] to be less than or equal to the upper bound of the required \
                     number of shards per attribute [{most}]",
                    values.len()
                )
            });
        }
    }
    out.add(NAME, Verdict::Yes, || "node meets all awareness attribute requirements".to_owned());
}

/// For deciders in other files.
pub(super) fn decide(out: &mut Decisions, name: &'static str, verdict: Verdict, text: impl FnOnce() -> String) {
    out.add(name, verdict, text);
}

/// `[i][0], node[...], [P], s[STARTED], a[id=...]`
pub(super) fn show_copy(index: &str, shard: u32, copy: &ShardRouting) -> String {
    let mut out = format!("[{index}][{shard}], node[");
    match copy.node {
        Some(node) => out.push_str(&node.to_string()),
        None => out.push_str("null"),
    }
    out.push_str("], ");
    if let Some(node) = copy.relocating_node {
        out.push_str(&format!("relocating [{node}], "));
    }
    out.push_str(if copy.primary { "[P]" } else { "[R]" });
    if matches!(copy.state, CopyState::Unassigned | CopyState::Initializing) {
        let text = match copy.recovery_source {
            RecoverySource::Peer => "peer recovery",
            RecoverySource::ExistingStore => "existing store recovery; bootstrap_history_uuid=false",
            RecoverySource::EmptyStore => "new shard recovery",
        };
        out.push_str(&format!(", recovery_source[{text}]"));
    }
    out.push_str(&format!(", s[{}]", copy.state.name()));
    if let Some(id) = copy.allocation_id {
        out.push_str(&format!(", a[id={id}]"));
    }
    if let Some(info) = copy.unassigned.as_ref().filter(|_| !copy.active()) {
        out.push_str(&format!(", {}", show_info(info)));
    }
    out
}

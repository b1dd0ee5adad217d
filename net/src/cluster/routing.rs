//! Where the copies of every shard are.
//!
//! ```text
//! Unassigned --allocate--> Initializing --recovered--> Started --relocate--> Relocating --target started--> (gone)
//!      ^                        |                         |                     |
//!      +------ failed, node left, cancelled --------------+---------------------+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{AllocationId, NodeId};

/// The copies of all open indices' shards, by index uuid.
pub type RoutingTable = BTreeMap<String, Arc<IndexRouting>>;

/// The copies of one index: by shard number, the primary first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRouting {
    /// One list per shard.
    pub shards: Vec<Vec<ShardRouting>>,
}

/// One copy of a shard, or the place where one is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRouting {
    /// Whether it takes the writes.
    pub primary: bool,
    /// Where it is in its life.
    pub state: CopyState,
    /// The node it is on; none when unassigned.
    pub node: Option<NodeId>,
    /// Its name; none when unassigned.
    pub allocation_id: Option<AllocationId>,
    /// The other end of a move: of a relocating copy the node it goes to, of its target the node it comes from.
    pub relocating_node: Option<NodeId>,
    /// Why it is, or was until it started, not there.
    pub unassigned: Option<UnassignedInfo>,
    /// What it is, or will be, made from; says nothing once it has started.
    #[serde(default)]
    pub recovery_source: RecoverySource,
}

/// What a copy begins with. Only `EmptyStore` may make a shard where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecoverySource {
    /// The primary gives its content, files or operations.
    #[default]
    Peer,
    /// The files on the node's disk, which must be there.
    ExistingStore,
    /// Nothing: a new shard, or one given up by hand; files that are there are removed first.
    EmptyStore,
}

impl RecoverySource {
    /// Elasticsearch's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RecoverySource::Peer => "PEER",
            RecoverySource::ExistingStore => "EXISTING_STORE",
            RecoverySource::EmptyStore => "EMPTY_STORE",
        }
    }
}

/// Life of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CopyState {
    /// On no node.
    Unassigned,
    /// Recovering.
    Initializing,
    /// In service.
    Started,
    /// In service, while its content goes to another node.
    Relocating,
}

/// Why a copy is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnassignedInfo {
    /// In Elasticsearch's words.
    pub reason: UnassignedReason,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// More about it.
    pub details: Option<String>,
    /// Allocations that failed in a row.
    pub failed_allocations: u32,
    /// Not to be allocated elsewhere before this (milliseconds since 1970): its node may come back.
    pub delayed_until_ms: Option<i64>,
    /// The node it was on last, which may have its files still.
    pub last_node: Option<NodeId>,
    /// What the last attempt to allocate it came to.
    #[serde(default)]
    pub last_status: AllocationStatus,
}

impl UnassignedInfo {
    /// A copy that is missing since `at_ms`.
    #[must_use]
    pub fn new(reason: UnassignedReason, at_ms: i64) -> UnassignedInfo {
        UnassignedInfo {
            reason,
            at_ms,
            details: None,
            failed_allocations: 0,
            delayed_until_ms: None,
            last_node: None,
            last_status: AllocationStatus::NoAttempt,
        }
    }
}

/// Why a copy was not allocated, as `last_allocation_status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationStatus {
    /// Nothing has been tried.
    #[default]
    NoAttempt,
    /// No node allows it.
    #[serde(rename = "no")]
    DecidersNo,
    /// No live node has a copy that may become primary.
    NoValidShardCopy,
    /// Nodes that allow it are busy with recoveries.
    #[serde(rename = "throttled")]
    DecidersThrottled,
    /// Some node has not said yet which copies it has.
    #[serde(rename = "awaiting_info")]
    FetchingShardData,
    /// Its node may come back.
    #[serde(rename = "allocation_delayed")]
    DelayedAllocation,
}

impl AllocationStatus {
    /// Elasticsearch's word for it in `last_allocation_status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AllocationStatus::NoAttempt => "no_attempt",
            AllocationStatus::DecidersNo => "no",
            AllocationStatus::NoValidShardCopy => "no_valid_shard_copy",
            AllocationStatus::DecidersThrottled => "throttled",
            AllocationStatus::FetchingShardData => "awaiting_info",
            AllocationStatus::DelayedAllocation => "allocation_delayed",
        }
    }
}

/// Names of `unassigned.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // the names are Elasticsearch's
pub enum UnassignedReason {
    IndexCreated,
    ClusterRecovered,
    IndexReopened,
    DanglingIndexImported,
    ReplicaAdded,
    AllocationFailed,
    NodeLeft,
    RerouteCancelled,
    Reinitialized,
    ReallocatedReplica,
    PrimaryFailed,
    ManualAllocation,
}

impl UnassignedReason {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            UnassignedReason::IndexCreated => "INDEX_CREATED",
            UnassignedReason::ClusterRecovered => "CLUSTER_RECOVERED",
            UnassignedReason::IndexReopened => "INDEX_REOPENED",
            UnassignedReason::DanglingIndexImported => "DANGLING_INDEX_IMPORTED",
            UnassignedReason::ReplicaAdded => "REPLICA_ADDED",
            UnassignedReason::AllocationFailed => "ALLOCATION_FAILED",
            UnassignedReason::NodeLeft => "NODE_LEFT",
            UnassignedReason::RerouteCancelled => "REROUTE_CANCELLED",
            UnassignedReason::Reinitialized => "REINITIALIZED",
            UnassignedReason::ReallocatedReplica => "REALLOCATED_REPLICA",
            UnassignedReason::PrimaryFailed => "PRIMARY_FAILED",
            UnassignedReason::ManualAllocation => "MANUAL_ALLOCATION",
        }
    }
}

impl CopyState {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CopyState::Unassigned => "UNASSIGNED",
            CopyState::Initializing => "INITIALIZING",
            CopyState::Started => "STARTED",
            CopyState::Relocating => "RELOCATING",
        }
    }
}

impl ShardRouting {
    /// A place where a copy is missing.
    #[must_use]
    pub fn unassigned(primary: bool, recovery_source: RecoverySource, info: UnassignedInfo) -> ShardRouting {
        ShardRouting {
            primary,
            state: CopyState::Unassigned,
            node: None,
            allocation_id: None,
            relocating_node: None,
            unassigned: Some(info),
            recovery_source,
        }
    }

    /// In service.
    #[must_use]
    pub fn active(&self) -> bool {
        matches!(self.state, CopyState::Started | CopyState::Relocating)
    }

    /// Recovering as the target of a move.
    #[must_use]
    pub fn relocation_target(&self) -> bool {
        self.state == CopyState::Initializing && self.relocating_node.is_some()
    }
}

impl IndexRouting {
    /// The copies of a shard.
    #[must_use]
    pub fn copies(&self, shard: u32) -> &[ShardRouting] {
        self.shards.get(shard as usize).map_or(&[], Vec::as_slice)
    }

    /// The primary of a shard, whatever its state.
    #[must_use]
    pub fn primary(&self, shard: u32) -> Option<&ShardRouting> {
        self.copies(shard).iter().find(|copy| copy.primary && !copy.relocation_target())
    }

    /// The copy of a shard that a node has.
    #[must_use]
    pub fn on_node(&self, shard: u32, node: NodeId) -> Option<&ShardRouting> {
        self.copies(shard).iter().find(|copy| copy.node == Some(node))
    }
}

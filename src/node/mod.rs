//! A node: cores that own shards, and a master that owns the cluster state.
//!
//! ```text
//! Core 0 .. n-1   HTTP connections, REST, its shards         <-- mesh -->  each other
//! Master          the cluster state: update, persist, publish  <-- mesh -->  every core
//! ```
//!
//! - A change of the state runs on the master, one after the other; those that wait are taken together, so that one save
//!   and one publication serve all of them.
//! - Nothing is published before it is saved, and nobody is answered before every core has applied it.
//! - A core opens, changes and closes exactly the shards that `placement.rs` puts on it; no other code does.
//! - An index's directory is removed after the state without it is saved, and only then; it is remembered as deleted
//!   (`index-graveyard`), so that a start after a crash finishes the removal. Directories of unknown indices are reported and
//!   never touched.
//!
//! [`Core`] and [`Master`] know time, tasks and files only through `NodeIo`: `start` runs them over glommio, tests over a
//! simulated machine.

mod calls;
mod core;
mod driver;
mod gateway;
#[cfg(feature = "glommio")]
mod http;
mod master;
mod pace;
mod peer;
mod placement;
mod queue;
mod remote;
mod report;
mod route;
#[cfg(test)]
mod simulation;
#[cfg(feature = "glommio")]
mod start;
#[cfg(test)]
mod tests;
#[cfg(feature = "glommio")]
mod visits;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::mapping::Mapping;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata};
use rustc_hash::FxHashMap;

pub use self::calls::{ClusterCalls, CopyNews};
pub use self::core::Core;
pub use self::master::{Found, GRAVEYARD, Master, start_master};
pub use self::placement::Placement;
pub use self::remote::CoreCalls;
pub use self::report::HttpCounters;
#[cfg(feature = "glommio")]
pub use self::start::{Node, run, serve_until_stopped, stop_signals};
use crate::backend::{CompiledIndex, NodeInfo, ShardHealth};
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::memory::NodeMemory;
use crate::mesh::Mailbox;
use crate::metadata;

/// A cluster state with everything derived from it, as the master hands it to the cores.
#[derive(Debug, Default)]
pub struct Published {
    /// The state.
    pub state: Arc<ClusterState>,
    /// Compiled mappings by index uuid. Compiled once, on the master, so that field ids are the same on all cores.
    pub compiled: BTreeMap<String, Compiled>,
    /// Which core has which shard.
    pub placement: Placement,
}

/// A compiled index and what it was compiled from.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Mapping version it was compiled from.
    pub mapping_version: u64,
    /// Settings version it was compiled from.
    pub settings_version: u64,
    /// Mapping and analyzers.
    pub index: CompiledIndex,
}

impl Compiled {
    /// Compiles `index`. Fields that `previous` knows keep their ids: what is in a shard's buffer refers to them.
    pub fn next(index: &IndexMetadata, previous: Option<&Compiled>) -> ApiResult<Compiled> {
        let (mapping_version, settings_version) = (index.mapping_version, index.settings_version);
        let same_settings = previous.filter(|p| p.settings_version == settings_version);
        if let Some(previous) = same_settings
            && previous.mapping_version == mapping_version
        {
            return Ok(previous.clone());
        }
        let analyzers = match same_settings {
            Some(previous) => Arc::clone(&previous.index.analyzers),
            None => Arc::new(AnalyzerRegistry::new(&metadata::settings::analysis(&index.settings))?),
        };
        let mapping = match previous {
            Some(previous) => previous.index.mapping.merge(&index.mapping, &analyzers)?,
            None => Mapping::parse(&index.mapping, &analyzers)?,
        };
        let index = CompiledIndex { mapping: Arc::new(mapping), analyzers };
        Ok(Compiled { mapping_version, settings_version, index })
    }
}

/// A shard's key: index uuid and number.
pub type ShardKey = (Arc<str>, u32);

/// What all threads of a node share. All of it is read-only, atomic, or seldom written.
pub struct Shared<I: NodeIo> {
    /// Facts about the node.
    pub info: NodeInfo,
    /// Its settings.
    pub config: Config,
    /// Its memory budget.
    pub memory: Arc<NodeMemory>,
    /// One per core.
    pub cores: Vec<Arc<Mailbox<Core<I>>>>,
    /// The master's.
    pub master: Arc<Mailbox<Master<I>>>,
    /// State of the shard copies. A lock, since health is asked seldom and changes seldom; no request takes it.
    health: RwLock<FxHashMap<ShardKey, ShardHealth>>,
    /// This node's name among nodes.
    pub local: Option<NodeId>,
    recovered: AtomicBool,
    /// Whether a master is known: without one, writes are refused.
    has_master: AtomicBool,
    /// How fast recoveries bring files to this node.
    pub(crate) recovery_pace: pace::Pace,
    /// The copies on this node's disk.
    stored: RwLock<BTreeMap<(String, u32), AllocationId>>,
}

impl<I: NodeIo> Shared<I> {
    /// For `cores` cores.
    #[must_use]
    pub fn new(info: NodeInfo, config: Config, cores: usize) -> Arc<Shared<I>> {
        let mailbox = crate::mesh::MAILBOX_MESSAGES_MAX;
        let local = info.id.parse().ok();
        Arc::new(Shared {
            info,
            memory: NodeMemory::new(config.memory),
            config,
            cores: (0..cores).map(|_| Mailbox::new(mailbox)).collect(),
            master: Mailbox::new(mailbox),
            health: RwLock::default(),
            local,
            recovered: AtomicBool::new(false),
            has_master: AtomicBool::new(false),
            recovery_pace: pace::Pace::default(),
            stored: RwLock::default(),
        })
    }

    /// Whether the cluster state has been loaded and applied.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// Whether a master is known.
    #[must_use]
    pub fn has_master(&self) -> bool {
        self.has_master.load(Ordering::Acquire)
    }

    /// The copies on this node's disk, by index uuid and shard.
    #[must_use]
    pub fn stored_copies(&self) -> BTreeMap<(String, u32), AllocationId> {
        self.stored.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Notes that a copy is on the disk, or (none) is not any more.
    pub fn note_stored(&self, uuid: &str, shard: u32, copy: Option<AllocationId>) {
        let mut stored = self.stored.write().unwrap_or_else(|e| e.into_inner());
        match copy {
            Some(copy) => stored.insert((uuid.to_owned(), shard), copy),
            None => stored.remove(&(uuid.to_owned(), shard)),
        };
    }

    /// This node, as others see it.
    #[must_use]
    pub fn discovery_node(&self, local: NodeId) -> DiscoveryNode {
        DiscoveryNode {
            id: local,
            name: self.info.name.clone(),
            ephemeral_id: self.info.ephemeral_id.clone(),
            transport_address: self.info.transport_address.clone(),
            http_address: self.info.http_address.clone(),
            roles: self.config.roles.clone(),
            attributes: self.info.attributes.iter().cloned().collect(),
            cores: self.info.cores as u32,
        }
    }

    fn health(&self, key: &ShardKey) -> ShardHealth {
        // A poisoned lock holds a whole map all the same: nothing here panics between two changes.
        let health = self.health.read().unwrap_or_else(|e| e.into_inner());
        health.get(key).cloned().unwrap_or(ShardHealth::Missing)
    }

    fn set_health(&self, key: &ShardKey, state: ShardHealth) {
        let mut health = self.health.write().unwrap_or_else(|e| e.into_inner());
        match state {
            ShardHealth::Missing => drop(health.remove(key)),
            state => drop(health.insert(key.clone(), state)),
        }
    }

    /// Directory of a whole index.
    fn index_path(&self, uuid: &str) -> std::path::PathBuf {
        self.config.data.join("indices").join(uuid)
    }

    /// Directory of a shard.
    fn shard_path(&self, key: &ShardKey) -> std::path::PathBuf {
        self.index_path(&key.0).join(key.1.to_string())
    }
}

/// The answer while there is no cluster state yet.
#[must_use]
pub fn not_recovered() -> ApiError {
    ApiError::new(
        503,
        "cluster_block_exception",
        "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];",
    )
}

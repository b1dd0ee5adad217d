//! `index.blocks.*`: what an index refuses, and in which words.

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};

use super::settings::is_on;
use crate::error::{ApiError, ApiResult};

/// What a request does to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Reads documents.
    Read,
    /// Changes documents.
    Write,
    /// Reads settings and mappings.
    MetadataRead,
    /// Changes settings or mappings.
    MetadataWrite,
    /// Removes the index, or only changes its settings: allowed under `read_only_allow_delete`.
    MetadataDelete,
}

/// Setting, number and text of each block, status, and what it stops.
type Block = (&'static str, &'static str, u16, &'static [Level]);

const BLOCKS: &[Block] = &[
    (
        "index.blocks.read_only",
        "FORBIDDEN/5/index read-only (api)",
        403,
        &[Level::Write, Level::MetadataWrite, Level::MetadataDelete],
    ),
    ("index.blocks.read", "FORBIDDEN/7/index read (api)", 403, &[Level::Read]),
    ("index.blocks.write", "FORBIDDEN/8/index write (api)", 403, &[Level::Write]),
    (
        "index.blocks.metadata",
        "FORBIDDEN/9/index metadata (api)",
        403,
        &[Level::MetadataRead, Level::MetadataWrite, Level::MetadataDelete],
    ),
    (
        "index.blocks.read_only_allow_delete",
        "TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block",
        429,
        &[Level::Write, Level::MetadataWrite],
    ),
];

/// Refuses when the index or the cluster is blocked for `level`.
pub fn check(state: &ClusterState, index: &IndexMetadata, level: Level) -> ApiResult<()> {
    check_cluster(state, level)?;
    let mut texts = Vec::new();
    let mut status = 429;
    for (setting, text, code, levels) in BLOCKS {
        if levels.contains(&level) && is_on(index, setting) {
            texts.push(format!("[{text}];"));
            status = status.min(*code);
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        status,
        "cluster_block_exception",
        format!("index [{}] blocked by: {}", index.name, texts.join("")),
    )
    .with("index_uuid", index.uuid.clone())
    .with("index", index.name.clone()))
}

/// What is refused while there is no master (`cluster.no_master_block`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoMaster {
    /// Changes of metadata: nobody can make them.
    MetadataWrite,
    /// Changes of documents too: what is written could be on the losing side.
    Write,
    /// Reads too.
    All,
}

impl NoMaster {
    /// Words of the setting.
    pub const WORDS: [&str; 3] = ["write", "metadata_write", "all"];

    /// As the settings of the last known state have it.
    #[must_use]
    pub fn of(state: &ClusterState) -> NoMaster {
        match cluster_setting(state, "cluster.no_master_block") {
            Some("all") => NoMaster::All,
            Some("metadata_write") => NoMaster::MetadataWrite,
            _ => NoMaster::Write,
        }
    }

    /// As `_cluster/state` shows it.
    #[must_use]
    pub fn levels(self) -> &'static [&'static str] {
        match self {
            NoMaster::MetadataWrite => &["metadata_write"],
            NoMaster::Write => &["write", "metadata_write"],
            NoMaster::All => &["read", "write", "metadata_read", "metadata_write"],
        }
    }

    /// The refusal.
    #[must_use]
    pub fn error() -> ApiError {
        ApiError::new(503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];")
    }
}

fn cluster_setting<'a>(state: &'a ClusterState, name: &str) -> Option<&'a str> {
    state.setting(name)?.as_str()
}

/// Refuses when the whole cluster is blocked for `level`.
pub fn check_cluster(state: &ClusterState, level: Level) -> ApiResult<()> {
    if !matches!(level, Level::Write | Level::MetadataWrite | Level::MetadataDelete) {
        return Ok(());
    }
    let on = |name: &str| cluster_setting(state, name) == Some("true");
    if on("cluster.blocks.read_only") {
        return Err(ApiError::new(
            403,
            "cluster_block_exception",
            "blocked by: [FORBIDDEN/6/cluster read-only (api)];",
        ));
    }
    if on("cluster.blocks.read_only_allow_delete") && level != Level::MetadataDelete {
        return Err(ApiError::new(
            403,
            "cluster_block_exception",
            "blocked by: [FORBIDDEN/13/cluster read-only / allow delete (api)];",
        ));
    }
    Ok(())
}

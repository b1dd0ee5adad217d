//! Settings of a node: defaults, file, environment, flags; later ones win.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a node is started with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Data directory.
    pub data: PathBuf,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Cores to use (CPU numbers).
    pub cores: Vec<usize>,
    /// Memory budget in bytes.
    pub memory: u64,
    /// Node name.
    pub name: String,
    /// Cluster name.
    pub cluster_name: String,
    /// `path.repo`
    pub path_repo: Vec<PathBuf>,
    /// `node.attr.*`
    pub attributes: Vec<(String, String)>,
    /// `http.max_content_length` in bytes.
    pub max_content_length: usize,
    /// Any further settings from the file, flat.
    pub other: Vec<(String, String)>,
}

//! Settings of a node: defaults, file, environment, flags; later ones win.
//!
//! | key | environment | flag | default |
//! |---|---|---|---|
//! | `path.data` | `RINGDEX_DATA` | `--data` | `./data` |
//! | `http` (or `http.host` and `http.port`) | `RINGDEX_HTTP` | `--http` | `127.0.0.1:9200` |
//! | `cores` | `RINGDEX_CORES` | `--cores` | every CPU we may run on |
//! | `memory` | `RINGDEX_MEMORY` | `--memory` | half of the machine's (or container's) |
//! | `node.name` | `RINGDEX_NAME` | `--name` | host name |
//! | `cluster.name` | `RINGDEX_CLUSTER_NAME` | | `elasticsearch` |
//! | `transport` (or `transport.host` and `transport.port`) | `RINGDEX_TRANSPORT` | `--transport` | none: a cluster of one node |
//! | `discovery.seed_hosts` | `RINGDEX_SEED_HOSTS` | `--seed-hosts` | none |
//! | `cluster.initial_master_nodes` (names; only for the very first start) | `RINGDEX_INITIAL_MASTER_NODES` | `--initial-master-nodes` | this node, if there are no seed hosts |
//! | `node.roles` | `RINGDEX_ROLES` | `--roles` | `master,data,ingest` |
//! | `path.repo` | `RINGDEX_PATH_REPO` (comma-separated) | | none |
//! | `node.attr.NAME` | `RINGDEX_NODE_ATTR_NAME` | | none |
//! | `http.max_content_length` | `RINGDEX_HTTP_MAX_CONTENT_LENGTH` | | `100mb` |
//! | `http.read_timeout` (of a request's head; between pieces of a body) | `RINGDEX_HTTP_READ_TIMEOUT` | | `30s`, `60s` |
//! | `http.spin` (microseconds a core looks for the next request of a prompt client before it sleeps; `0`: never) | `RINGDEX_HTTP_SPIN` | | `50us` |
//!
//! Any other key is kept as it is. An environment variable `RINGDEX_A_B` sets `a.b`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringdex_net::cluster::liveness::CheckConfig;
use ringdex_net::cluster::state::Role;

use crate::error::{ApiError, ApiResult};
use crate::rest::params::parse_time;

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
    /// `http.read_timeout`: for the head of a request, and between two pieces of its body.
    pub read_timeout: Option<Duration>,
    /// Where other nodes reach this one; none = a cluster of one node.
    pub transport: Option<SocketAddr>,
    /// Addresses to look for other nodes at.
    pub seed_hosts: Vec<SocketAddr>,
    /// Names of the nodes that vote first, when there is no cluster yet.
    pub initial_master_nodes: Vec<String>,
    /// What the node does.
    pub roles: BTreeSet<Role>,
    /// Any further settings from the file, flat.
    pub other: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data: "data".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 9200)),
            cores: vec![0],
            memory: 1 << 30,
            name: "node".into(),
            cluster_name: "elasticsearch".into(),
            path_repo: Vec::new(),
            attributes: Vec::new(),
            max_content_length: 100 << 20,
            read_timeout: None,
            transport: None,
            seed_hosts: Vec::new(),
            initial_master_nodes: Vec::new(),
            roles: [Role::Master, Role::Data, Role::Ingest].into(),
            other: Vec::new(),
        }
    }
}

/// Settings of one layer, flat: key to value; lists are comma-separated.
pub type Layer = BTreeMap<String, String>;

const KNOWN: &[&str] = &[
    "path.data",
    "http",
    "http.host",
    "http.port",
    "cores",
    "memory",
    "node.name",
    "cluster.name",
    "path.repo",
    "http.max_content_length",
    "http.read_timeout",
    "transport",
    "transport.host",
    "transport.port",
    "discovery.seed_hosts",
    "cluster.initial_master_nodes",
    "node.roles",
];

/// The environment's short names.
const SHORT: &[(&str, &str)] = &[
    ("data", "path.data"),
    ("name", "node.name"),
    ("seed_hosts", "discovery.seed_hosts"),
    ("initial_master_nodes", "cluster.initial_master_nodes"),
    ("roles", "node.roles"),
];

/// Variables that are the command line's, not settings.
const NOT_SETTINGS: &[&str] = &["config", "log", "log_format", "url"];

impl Config {
    /// Puts layers over the defaults of this machine, later ones over earlier ones.
    pub fn from_layers(layers: &[Layer]) -> Result<Config, String> {
        let mut all = Layer::new();
        for layer in layers {
            // A later `http` overrides an earlier port, and the other way round.
            if layer.contains_key("http") {
                all.remove("http.host");
                all.remove("http.port");
            }
            if layer.contains_key("transport") {
                all.remove("transport.host");
                all.remove("transport.port");
            }
            all.extend(layer.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let bad = |key: &str, value: &str, why: String| format!("setting [{key}] is [{value}]: {why}");
        let mut config =
            Config { cores: allowed_cpus(), memory: machine_memory() / 2, name: host_name(), ..Config::default() };
        let (mut host, mut port) = (None, None);
        let (mut transport_host, mut transport_port) = (None, None);
        for (key, value) in all {
            let fail = |why: String| bad(&key, &value, why);
            match key.as_str() {
                "path.data" => config.data = value.into(),
                "http" => config.http = address(&value, HTTP_PORT).map_err(fail)?,
                "transport" => config.transport = Some(address(&value, TRANSPORT_PORT).map_err(fail)?),
                "transport.host" => transport_host = Some(value),
                "transport.port" => transport_port = Some(value),
                "discovery.seed_hosts" => {
                    let seeds: Result<_, String> = list(&value).map(|seed| address(seed, TRANSPORT_PORT)).collect();
                    config.seed_hosts = seeds.map_err(fail)?;
                }
                "cluster.initial_master_nodes" => {
                    config.initial_master_nodes = list(&value).map(str::to_owned).collect();
                }
                "node.roles" => config.roles = roles(&value).map_err(fail)?,
                "http.host" => host = Some(value),
                "http.port" => port = Some(value),
                "cores" => config.cores = cores(&value, &allowed_cpus()).map_err(fail)?,
                "memory" => config.memory = size(&value, machine_memory()).map_err(fail)?,
                "node.name" => config.name = value,
                "cluster.name" => config.cluster_name = value,
                "path.repo" => config.path_repo = list(&value).map(PathBuf::from).collect(),
                "http.max_content_length" => {
                    let bytes = size(&value, machine_memory()).map_err(fail)?;
                    config.max_content_length = usize::try_from(bytes).map_err(|e| fail(e.to_string()))?;
                }
                "http.read_timeout" => {
                    let ms = parse_time(&value, &key).map_err(|e| fail(e.reason))?;
                    // As in Elasticsearch, 0 is the default again.
                    config.read_timeout = u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
                }
                _ => match key.strip_prefix("node.attr.") {
                    Some(name) => config.attributes.push((name.to_owned(), value)),
                    None => config.other.push((key, value)),
                },
            }
        }
        if let Some(host) = host {
            config.http.set_ip(address(&format!("{host}:0"), HTTP_PORT).map_err(|e| bad("http.host", &host, e))?.ip());
        }
        if let Some(port) = port {
            config.http.set_port(port.parse().map_err(|_| bad("http.port", &port, "not a port".into()))?);
        }
        if let Some(host) = transport_host {
            let bound = address(&host, TRANSPORT_PORT).map_err(|e| bad("transport.host", &host, e))?;
            config.transport.get_or_insert(bound).set_ip(bound.ip());
        }
        if let Some(port) = transport_port {
            let parsed = port.parse().map_err(|_| bad("transport.port", &port, "not a port".into()))?;
            config.transport.get_or_insert(SocketAddr::from(([127, 0, 0, 1], parsed))).set_port(parsed);
        }
        if config.transport.is_none() && !(config.seed_hosts.is_empty() && config.initial_master_nodes.is_empty()) {
            return Err(
                "a node that has seed hosts or initial master nodes needs [transport], where others reach it".into()
            );
        }
        if config.name.is_empty() || config.cluster_name.is_empty() || config.cluster_name.contains(':') {
            return Err("names of nodes and clusters must not be empty, those of clusters have no [:]".into());
        }
        const MEMORY_MIN: u64 = 64 << 20;
        if config.memory < MEMORY_MIN {
            return Err(bad("memory", &config.memory.to_string(), format!("at least {MEMORY_MIN} bytes are needed")));
        }
        Ok(config)
    }

    /// `cluster.fault_detection.*`: how often nodes look after each other, and what they take for a failure.
    pub fn fault_detection(&self, follower: &mut CheckConfig, leader: &mut CheckConfig) -> ApiResult<()> {
        for (name, check) in [("follower_check", follower), ("leader_check", leader)] {
            let key = |part: &str| format!("cluster.fault_detection.{name}.{part}");
            for (part, ms) in [("interval", &mut check.interval_ms), ("timeout", &mut check.timeout_ms)] {
                if let Some(value) = self.setting(&key(part)) {
                    *ms = u64::try_from(parse_time(value, &key(part))?).unwrap_or(0).max(1);
                }
            }
            if let Some(value) = self.setting(&key("retry_count")) {
                let wrong = || ApiError::illegal_argument(format!("[{}] is [{value}]: at least 1", key("retry_count")));
                check.retries = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
            }
        }
        Ok(())
    }

    /// A further setting by name.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.other.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// A TOML file; tables and dotted keys come to the same.
pub fn file_layer(path: &Path) -> Result<Layer, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read [{}]: {e}", path.display()))?;
    toml_layer(&text).map_err(|e| format!("[{}]: {e}", path.display()))
}

fn toml_layer(text: &str) -> Result<Layer, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut layer = Layer::new();
    for (key, value) in &table {
        flatten(key, value, &mut layer)?;
    }
    for (short, key) in SHORT {
        if let Some(value) = layer.remove(*short) {
            layer.insert((*key).to_owned(), value);
        }
    }
    Ok(layer)
}

fn flatten(key: &str, value: &toml::Value, out: &mut Layer) -> Result<(), String> {
    match value {
        toml::Value::Table(table) => {
            for (inner, value) in table {
                flatten(&format!("{key}.{inner}"), value, out)?;
            }
        }
        toml::Value::Array(values) => {
            let texts: Result<Vec<String>, String> = values.iter().map(|v| scalar(key, v)).collect();
            out.insert(key.to_owned(), texts?.join(","));
        }
        value => {
            out.insert(key.to_owned(), scalar(key, value)?);
        }
    }
    Ok(())
}

fn scalar(key: &str, value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(s) => Ok(s.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
        _ => Err(format!("setting [{key}] is no text, number, boolean or list of those")),
    }
}

/// Settings among environment variables.
pub fn environment_layer(variables: impl Iterator<Item = (String, String)>) -> Layer {
    let mut layer = Layer::new();
    for (name, value) in variables {
        let Some(name) = name.strip_prefix("RINGDEX_") else { continue };
        let name = name.to_lowercase();
        if NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let short = SHORT.iter().find(|(short, _)| *short == name).map(|(_, key)| *key);
        let known = short.or_else(|| KNOWN.iter().copied().find(|key| key.replace('.', "_") == name));
        let key = match (known, name.strip_prefix("node_attr_")) {
            (Some(key), _) => key.to_owned(),
            (None, Some(attribute)) => format!("node.attr.{attribute}"),
            (None, None) => name.replace('_', "."),
        };
        layer.insert(key, value);
    }
    layer
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty())
}

const HTTP_PORT: u16 = 9200;
const TRANSPORT_PORT: u16 = 9300;

fn roles(text: &str) -> Result<BTreeSet<Role>, String> {
    let one = |name: &str| match name {
        "master" => Ok(Role::Master),
        "data" | "data_content" | "data_hot" | "data_warm" | "data_cold" => Ok(Role::Data),
        "ingest" => Ok(Role::Ingest),
        other => Err(format!("unknown role [{other}]; there are master, data and ingest")),
    };
    list(text).map(one).collect()
}

fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::from((ip, port)));
    }
    let named = if text.contains(':') { text.to_owned() } else { format!("{text}:{port}") };
    let mut found = named.to_socket_addrs().map_err(|e| format!("not ADDRESS:PORT: {e}"))?;
    found.next().ok_or_else(|| "no such address".to_owned())
}

/// `4`: the first four CPUs we may use. `0,2-5`: those.
fn cores(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let shown = || allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if let Ok(count) = text.trim().parse::<usize>() {
        if count == 0 || count > allowed.len() {
            return Err(format!("between 1 and {} cores can be used (CPUs {})", allowed.len(), shown()));
        }
        return Ok(allowed[..count].to_vec());
    }
    let mut cores = Vec::new();
    for part in list(text) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let parse = |s: &str| s.trim().parse::<usize>().map_err(|_| format!("[{part}] is no CPU or range of CPUs"));
        let (from, to) = (parse(from)?, parse(to)?);
        if to < from || to - from > 4096 {
            return Err(format!("[{part}] is no range of CPUs"));
        }
        cores.extend(from..=to);
    }
    cores.sort_unstable();
    cores.dedup();
    match cores.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(cpu) => Err(format!("CPU {cpu} is not among those this process may use ({})", shown())),
        None if cores.is_empty() => Err("no cores".into()),
        None => Ok(cores),
    }
}

/// CPUs of a list such as `1` or `0,2-5`; a single number is a CPU, not a count.
pub fn cpu_list(text: &str) -> Result<Vec<usize>, String> {
    cores(&format!("{text},"), &allowed_cpus())
}

/// `512mb`, `2g`, `1.5gb`, `50%` of `whole`, plain bytes. Units are powers of 1 024, as Elasticsearch's.
pub fn size(text: &str, whole: u64) -> Result<u64, String> {
    let text = text.trim().to_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "not a size such as 512mb, 2g or 50%".to_owned())?;
    let factor = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024f64.powi(2),
        "g" | "gb" | "gib" => 1024f64.powi(3),
        "t" | "tb" | "tib" => 1024f64.powi(4),
        "%" => whole as f64 / 100.0,
        unit => return Err(format!("unknown unit [{unit}]")),
    };
    Ok((number * factor) as u64)
}

/// CPUs this process may run on, in order.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// Bytes of memory of this machine, or of the container we are in.
#[must_use]
pub fn machine_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo")
        .and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:").map(str::to_owned))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        })
        .map_or(2 << 30, |kib| kib * 1024);
    let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    total.min(limit.unwrap_or(u64::MAX))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn environment(pairs: &[(&str, &str)]) -> Layer {
        environment_layer(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn later_layers_win() {
        let file = toml_layer("data = '/file'\nname = 'f'\n[http]\nport = 1\n[cluster]\nname = 'c'\n").unwrap();
        let env = environment(&[("RINGDEX_NAME", "e"), ("RINGDEX_HTTP", "0.0.0.0:2"), ("PATH", "/bin")]);
        let flags = layer(&[("node.name", "flag")]);
        let config = Config::from_layers(&[file, env, flags]).unwrap();
        assert_eq!(config.data, Path::new("/file"));
        assert_eq!(config.name, "flag");
        assert_eq!(config.cluster_name, "c");
        assert_eq!(config.http.to_string(), "0.0.0.0:2");
        assert!(!config.cores.is_empty() && config.memory > 0);
    }

    #[test]
    fn keys_of_elasticsearch_are_understood() {
        let file = toml_layer(
            "path.repo = ['/a', '/b']\nnode.attr.rack = 'r1'\n'http.host' = '127.0.0.2'\nhttp.port = 9999\n\
             http.max_content_length = '1kb'\nreindex.remote.whitelist = ['x:1']\n",
        )
        .unwrap();
        let env = environment(&[("RINGDEX_NODE_ATTR_TESTATTR", "test"), ("RINGDEX_CONFIG", "x"), ("RINGDEX_A_B", "c")]);
        let config = Config::from_layers(&[file, env]).unwrap();
        assert_eq!(config.path_repo, [Path::new("/a"), Path::new("/b")]);
        assert_eq!(config.attributes, [("rack".into(), "r1".into()), ("testattr".into(), "test".into())]);
        assert_eq!(config.http.to_string(), "127.0.0.2:9999");
        assert_eq!(config.max_content_length, 1024);
        assert_eq!(config.other, [("a.b".into(), "c".into()), ("reindex.remote.whitelist".into(), "x:1".into())]);
        let env = environment(&[("RINGDEX_PATH_REPO", "/x, /y"), ("RINGDEX_HTTP_MAX_CONTENT_LENGTH", "2mb")]);
        let config = Config::from_layers(&[env]).unwrap();
        assert_eq!((config.path_repo.len(), config.max_content_length), (2, 2 << 20));
    }

    #[test]
    fn a_node_of_a_cluster_is_described_by_four_settings() {
        let env = environment(&[
            ("RINGDEX_TRANSPORT", "127.0.0.1:9301"),
            ("RINGDEX_SEED_HOSTS", "127.0.0.1:9302, 127.0.0.2"),
            ("RINGDEX_INITIAL_MASTER_NODES", "a,b"),
            ("RINGDEX_ROLES", "master"),
        ]);
        let config = Config::from_layers(&[env]).unwrap();
        assert_eq!(config.transport, Some("127.0.0.1:9301".parse().unwrap()));
        let seeds: Vec<String> = config.seed_hosts.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["127.0.0.1:9302", "127.0.0.2:9300"]);
        assert_eq!(config.initial_master_nodes, ["a", "b"]);
        assert_eq!(config.roles, [Role::Master].into());
        let file = toml_layer("node.roles = []\ntransport.port = 9305\n").unwrap();
        let config = Config::from_layers(&[file]).unwrap();
        assert_eq!((config.roles.len(), config.transport), (0, Some("127.0.0.1:9305".parse().unwrap())));
        assert!(Config::from_layers(&[layer(&[("node.roles", "boss")])]).unwrap_err().contains("[boss]"));
        let nowhere = Config::from_layers(&[layer(&[("discovery.seed_hosts", "127.0.0.1:1")])]).unwrap_err();
        assert!(nowhere.contains("[transport]"), "{nowhere}");
    }

    #[test]
    fn cores_are_counted_or_listed() {
        let allowed = [0, 1, 2, 5, 6];
        let check = |text: &str, expected: Option<&[usize]>| {
            assert_eq!(cores(text, &allowed).ok().as_deref(), expected, "{text}");
        };
        check("2", Some(&[0, 1]));
        check("5-6,1", Some(&[1, 5, 6]));
        check("0,0", Some(&[0]));
        check("0", None);
        check("6", None);
        check("3,4", None);
        check("2-1", None);
        check("0-99999999999", None);
        check(",", None);
        check("all", None);
    }

    #[test]
    fn sizes_have_units() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text, 1000).ok(), expected, "{text}");
        check("100mb", Some(100 << 20));
        check("1.5KB", Some(1536));
        check("7", Some(7));
        check("2g", Some(2 << 30));
        check("50%", Some(500));
        check("", None);
        check("g", None);
        check("5parsec", None);
    }

    #[test]
    fn wrong_settings_are_named() {
        let config = Config::from_layers(&[environment(&[("RINGDEX_HTTP_READ_TIMEOUT", "1500ms")])]).unwrap();
        assert_eq!(config.read_timeout, Some(Duration::from_millis(1500)));
        assert!(Config::from_layers(&[layer(&[("http.read_timeout", "soon")])]).is_err());
        let error = Config::from_layers(&[layer(&[("http.port", "many")])]).unwrap_err();
        assert!(error.contains("[http.port]") && error.contains("[many]"), "{error}");
        assert!(Config::from_layers(&[layer(&[("memory", "1mb")])]).is_err());
        assert!(toml_layer("a = ").is_err());
        assert!(toml_layer("[a]\nb = [[1]]").is_err());
    }
}

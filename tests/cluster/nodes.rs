//! Real servers that form a cluster on loopback: started, killed, frozen, thawed and asked.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Client, Lost};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A silent node is noticed after about three intervals and time-outs: 3 to 4 seconds.
const FAULT_DETECTION: &str = "\
[cluster.fault_detection.follower_check]
interval = '300ms'
timeout = '1s'
retry_count = 3
[cluster.fault_detection.leader_check]
interval = '300ms'
timeout = '1s'
retry_count = 3
";

/// One node; killed when dropped.
pub struct Node {
    pub name: String,
    pub http: SocketAddr,
    pub transport: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    frozen: bool,
    /// Words before the server's command, such as `ip netns exec NAME`.
    wrapper: Vec<String>,
}

/// Nodes that know of each other. One cluster at a time on a machine.
pub struct Cluster {
    pub nodes: Vec<Node>,
    directory: PathBuf,
    voters: String,
    seeds: String,
    _alone: File,
}

impl Cluster {
    /// Nodes `n1`, `n2`, ..., none of them started.
    pub fn new(test: &str, count: usize) -> Cluster {
        static CLUSTERS: AtomicU8 = AtomicU8::new(0);
        // Addresses of our own: fixed ports are free on them, and no client's port can be one of them.
        let (pid, cluster) = (std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let address = |n: usize, port: u16| {
            let ip = [127, (16 + (pid >> 8) % 200) as u8, pid as u8, cluster.wrapping_mul(8).wrapping_add(n as u8 + 1)];
            SocketAddr::from((ip, port))
        };
        Cluster::at(test, (0..count).map(|n| (address(n, 9200), address(n, 9300), Vec::new())).collect())
    }

    /// The same with given addresses for HTTP and transport, and words before the command.
    pub fn at(test: &str, places: Vec<(SocketAddr, SocketAddr, Vec<String>)>) -> Cluster {
        let alone = alone();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory for the test");
        std::fs::write(directory.join("ringdex.toml"), FAULT_DETECTION).expect("a settings file");
        let joined = |texts: Vec<String>| texts.join(",");
        let voters = joined((1..=places.len()).map(|n| format!("n{n}")).collect());
        let seeds = joined(places.iter().map(|(_, transport, _)| transport.to_string()).collect());
        let nodes = places
            .into_iter()
            .enumerate()
            .map(|(n, (http, transport, wrapper))| {
                let name = format!("n{}", n + 1);
                let (data, log) = (directory.join(&name), directory.join(format!("{name}.log")));
                Node { name, http, transport, data, log, child: None, frozen: false, wrapper }
            })
            .collect();
        Cluster { nodes, directory, voters, seeds, _alone: alone }
    }

    /// For nodes that are started from now on: a silent node is noticed after half a minute.
    pub fn use_default_time_outs(&self) {
        std::fs::write(self.directory.join("ringdex.toml"), "").expect("a settings file");
    }

    /// A cluster of `count` nodes with a master that everyone knows.
    pub fn formed(test: &str, count: usize) -> Cluster {
        let mut cluster = Cluster::new(test, count);
        (0..count).for_each(|n| cluster.start(n));
        cluster.wait_joined();
        cluster.ignore_disks();
        cluster
    }

    /// Lets copies go anywhere, however full the disk of the machine that tests run on is.
    pub fn ignore_disks(&self) {
        let settings = json!({"persistent": {"cluster.routing.allocation.disk.threshold_enabled": false}});
        let (status, answer) = self.nodes[0].ask("PUT", "/_cluster/settings", Some(&settings));
        assert_eq!(status, 200, "{answer}");
    }

    /// Starts a node that does not run, on whatever data it has.
    pub fn start(&mut self, n: usize) {
        let settings = self.directory.join("ringdex.toml");
        let node = &mut self.nodes[n];
        assert!(node.child.is_none(), "{} runs", node.name);
        let log = File::options().create(true).append(true).open(&node.log).expect("a log");
        let server = env!("CARGO_BIN_EXE_ringdex").to_owned();
        let cpus = ringdex::config::allowed_cpus();
        let words: Vec<String> = node.wrapper.iter().cloned().chain([server]).collect();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("serve")
            .args([Path::new("--data"), &node.data, Path::new("--config"), &settings])
            .args(["--http", &node.http.to_string(), "--transport", &node.transport.to_string()])
            .args(["--seed-hosts", &self.seeds, "--initial-master-nodes", &self.voters, "--name", &node.name])
            // With a comma it is a CPU, not a count.
            .args(["--cores", &format!("{},", cpus[n % cpus.len()]), "--memory", "256mb"])
            .env("RINGDEX_LOG", std::env::var("RINGDEX_LOG").unwrap_or("info".into()))
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the server starts");
        node.child = Some(child);
    }

    /// Waits until every running node sees all running nodes and the same master; its number.
    pub fn wait_joined(&self) -> usize {
        let running = self.running();
        self.wait("nodes to join", PATIENCE, || {
            let mut masters = Vec::new();
            for &n in &running {
                let state = self.state(n).ok()?;
                let nodes = state["nodes"].as_object()?;
                masters.push(nodes.get(state["master_node"].as_str()?)?["name"].as_str()?.to_owned());
                if nodes.len() != running.len() {
                    return None;
                }
            }
            masters.dedup();
            if masters.len() == 1 { self.nodes.iter().position(|node| node.name == masters[0]) } else { None }
        })
    }

    /// Who node `n` says is the master.
    pub fn master_seen_by(&self, n: usize) -> Option<usize> {
        let state = self.state(n).ok()?;
        let name = state["nodes"].get(state["master_node"].as_str()?)?["name"].as_str()?;
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The cluster state as node `n` has applied it.
    pub fn state(&self, n: usize) -> Result<Value, Lost> {
        match self.nodes[n].client(Duration::from_secs(5)).ask("GET", "/_cluster/state?local=true", None)? {
            (200, state) => Ok(state),
            (status, other) => Err(Lost::NotSent(format!("{status} {other}"))),
        }
    }

    /// Waits for a colour as node `n` sees it.
    pub fn wait_health(&self, n: usize, wanted: &str) -> Value {
        let mut last = Value::Null;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok((_, health)) = self.nodes[n].client(Duration::from_secs(5)).ask("GET", "/_cluster/health", None) {
                if health["status"] == wanted && health["initializing_shards"] == 0 && health["relocating_shards"] == 0
                {
                    return health;
                }
                last = health;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let explained = self.nodes[n].client(PATIENCE).ask("GET", "/_cluster/allocation/explain", None);
        let shards = self.nodes[n].client(PATIENCE).ask("GET", "/_cat/shards", None);
        panic!("not {wanted}: {last}\n{shards:?}\n{explained:?}");
    }

    /// Where the primary of the first shard of `index` is, with its term.
    pub fn primary(&self, n: usize, index: &str) -> Option<usize> {
        let state = self.state(n).ok()?;
        let copies = state["routing_table"]["indices"][index]["shards"]["0"].as_array()?;
        let primary = copies.iter().find(|copy| copy["primary"] == true && copy["state"] == "STARTED")?;
        let name = state["nodes"].get(primary["node"].as_str()?)?["name"].as_str()?;
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Numbers of the nodes that run and are not frozen.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].child.is_some() && !self.nodes[*n].frozen).collect()
    }

    /// Asks until there is an answer of `Some`.
    pub fn wait<T>(&self, what: &str, bound: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + bound;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < until, "waited {bound:?} for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An index of one shard with `replicas` copies, made on node `n`.
    pub fn create(&self, n: usize, index: &str, replicas: usize) {
        let settings = json!({"settings": {"number_of_shards": 1, "number_of_replicas": replicas}});
        let answer = self.nodes[n].ask("PUT", &format!("/{index}"), Some(&settings));
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
}

impl Node {
    pub fn client(&self, timeout: Duration) -> Client {
        Client::new(self.http, timeout)
    }

    /// Status and answer; none is a failure of the test.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = self.client(PATIENCE).ask(method, path, body);
        answer.unwrap_or_else(|e| panic!("{} {method} {path}: {e:?}", self.name))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.frozen = false;
        child.kill().expect("SIGKILL");
        child.wait().expect("the process is gone");
    }

    /// SIGTERM; the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} did not stop", self.name);
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        self.signal("STOP");
        self.frozen = true;
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.signal("CONT");
        self.frozen = false;
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill(1) is there");
        assert!(sent.success(), "kill -{name} {pid}: {sent}");
    }

    /// The end of what the node has written.
    fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let running: Vec<bool> = self.nodes.iter().map(Node::runs).collect();
        self.nodes.iter_mut().for_each(Node::kill);
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
            return;
        }
        for (node, ran) in self.nodes.iter().zip(running) {
            eprintln!("--- {} ({}):\n{}", node.name, if ran { "ran" } else { "down" }, node.log_tail(60));
        }
        eprintln!("--- data and logs are in {}", self.directory.display());
    }
}

/// Held by the one cluster that runs, whichever process it belongs to.
fn alone() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.lock");
    let file = File::create(path).expect("a lock file");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
    file
}

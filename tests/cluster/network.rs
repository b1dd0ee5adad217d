//! A network that drops what one node sends to another, silently and one way if asked; for long runs, as root.
//!
//! ```text
//! here (clients) -- bridge -- veth -- namespace of n1
//!                        \--- veth -- namespace of n2 ...
//! ```
//!
//! What n1 sends to n2 is dropped by telling n1 an Ethernet address for n2 that nobody has: no packet filter is needed, and
//! neither side hears of it.

use std::net::SocketAddr;
use std::process::Command;

const NOBODY: &str = "02:00:00:00:00:01";

/// Namespaces on a bridge; gone when dropped.
pub struct Network {
    tag: String,
    net: u8,
    count: usize,
}

fn ip(words: &str) -> Result<(), String> {
    let done = Command::new("ip").args(words.split(' ')).output().map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}

impl Network {
    pub fn new(count: usize) -> Result<Network, String> {
        let pid = std::process::id();
        let network = Network { tag: format!("rx{}", pid % 100_000), net: (pid % 250) as u8, count };
        let (tag, net) = (&network.tag, network.net);
        ip(&format!("link add {tag}b type bridge"))?;
        ip(&format!("addr add 10.77.{net}.254/24 dev {tag}b"))?;
        ip(&format!("link set {tag}b up"))?;
        for n in 0..count {
            ip(&format!("netns add {tag}n{n}"))?;
            ip(&format!("link add {tag}v{n} type veth peer name eth0 netns {tag}n{n}"))?;
            ip(&format!("link set {tag}v{n} master {tag}b"))?;
            ip(&format!("link set {tag}v{n} up"))?;
            ip(&format!("-n {tag}n{n} link set lo up"))?;
            ip(&format!("-n {tag}n{n} addr add {}/24 dev eth0", network.address(n)))?;
            ip(&format!("-n {tag}n{n} link set eth0 up"))?;
        }
        Ok(network)
    }

    fn address(&self, n: usize) -> String {
        format!("10.77.{}.{}", self.net, n + 1)
    }

    /// Where nodes listen, and how they are started in their namespaces.
    pub fn places(&self) -> Vec<(SocketAddr, SocketAddr, Vec<String>)> {
        let at = |n: usize, port: u16| format!("{}:{port}", self.address(n)).parse().expect("an address");
        let wrapper = |n: usize| format!("ip netns exec {}n{n}", self.tag).split(' ').map(str::to_owned).collect();
        (0..self.count).map(|n| (at(n, 9200), at(n, 9300), wrapper(n))).collect()
    }

    /// What `from` sends to `to` is lost from now on.
    pub fn cut(&self, from: usize, to: usize) {
        let (tag, to) = (&self.tag, self.address(to));
        ip(&format!("-n {tag}n{from} neigh replace {to} lladdr {NOBODY} dev eth0 nud permanent")).expect("a cut");
    }

    pub fn heal(&self) {
        for from in 0..self.count {
            for to in (0..self.count).filter(|to| *to != from) {
                let (tag, to) = (&self.tag, self.address(to));
                // There may be nothing to delete.
                let _ = ip(&format!("-n {tag}n{from} neigh del {to} dev eth0"));
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for n in 0..self.count {
            let _ = ip(&format!("netns del {}n{n}", self.tag));
        }
        let _ = ip(&format!("link del {}b", self.tag));
    }
}

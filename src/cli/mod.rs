//! The command line: `ringdex serve`, `demo`, `load`, `bench`, `check`.

mod bench;
mod check;
mod demo;
mod load;
mod log;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Layer};

/// A search engine and document store that speaks the Elasticsearch REST API.
#[derive(Debug, Parser)]
#[command(name = "ringdex", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: log::LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringdex demo                                       a server with 1,000 documents in it, and requests to try
  ringdex serve                                      a node on 127.0.0.1:9200, data in ./data
  ringdex load cities.ndjson.gz --index cities       documents into it, one per line
  curl 'localhost:9200/cities/_search?q=name:paris&pretty'
  ringdex bench run benches/workloads/mixed.toml     load test: latency percentiles, throughput, plots
  ringdex check data                                 verify every checksum of a stopped node's data";

const SERVE_HELP: &str = "\
Settings come from defaults, then the file, then the environment, then flags; later ones win.

  flag        environment                       file (TOML)               default
  --data      RINGDEX_DATA                      path.data = \"DIR\"         ./data
  --http      RINGDEX_HTTP                      http = \"ADDR:PORT\"        127.0.0.1:9200
  --cores     RINGDEX_CORES                     cores = 4                 every CPU we may use
  --memory    RINGDEX_MEMORY                    memory = \"8gb\"            half of the machine's
  --name      RINGDEX_NAME                      node.name = \"n1\"          host name
  --transport               RINGDEX_TRANSPORT             transport = \"ADDR:PORT\"             none: a cluster of one node
  --seed-hosts              RINGDEX_SEED_HOSTS            discovery.seed_hosts = [...]        none
  --initial-master-nodes    RINGDEX_INITIAL_MASTER_NODES  cluster.initial_master_nodes        this node, without seed hosts
  --roles                   RINGDEX_ROLES                 node.roles = [\"master\", \"data\"]     master,data,ingest
              RINGDEX_CLUSTER_NAME              cluster.name = \"c\"        elasticsearch
              RINGDEX_PATH_REPO=/a,/b           path.repo = [\"/a\", \"/b\"]  none
              RINGDEX_NODE_ATTR_RACK=r1         node.attr.rack = \"r1\"     none
              RINGDEX_HTTP_MAX_CONTENT_LENGTH   http.max_content_length   100mb
              RINGDEX_HTTP_READ_TIMEOUT         http.read_timeout         30s a head, 60s a piece of a body
  --log       RINGDEX_LOG                                                 info

Memory: the budget is divided into request bodies (1/8: a longer body is refused), writes in work (1/8), indexing buffers
and segments not yet in a file (1/5), aggregations (3/20), merges (1/20), caches of filters (1/10) and of answers (1/100),
and the rest. A full part makes clients wait or answers 429; a full cache forgets what was not used for longest. Mapped files and the page cache come on top; the kernel takes them back when it needs them.

Examples:
  ringdex serve --http 0.0.0.0:9200 --data /var/lib/ringdex
  ringdex serve --cores 0,2-5 --memory 16gb
  RINGDEX_NODE_ATTR_RACK=r1 ringdex serve --config ringdex.toml

SIGTERM or SIGINT stops the node: requests in work finish, every shard commits, exit code 0.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Start a server of its own, load a sample into it, and show it at work
    Demo(demo::DemoArgs),
    /// Stream documents from a file into an index
    Load(load::LoadArgs),
    /// Measure a server under load: latencies from the intended send time, throughput, saturation
    Bench(bench::BenchArgs),
    /// Verify the data directory of a stopped node: every checksum, commit, log and the cluster state
    Check(check::CheckArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where the data is [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where HTTP listens [default: 127.0.0.1:9200]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// How many cores, or which CPUs [default: every CPU we may use]
    #[arg(long, value_name = "N|LIST")]
    cores: Option<String>,
    /// Memory budget, such as 8gb or 50% [default: half of the machine's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Name of the node [default: host name]
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// Where other nodes reach this one [default: none, a cluster of one node]
    #[arg(long, value_name = "ADDR:PORT")]
    transport: Option<String>,
    /// Where to look for other nodes
    #[arg(long, value_name = "LIST")]
    seed_hosts: Option<String>,
    /// Names of the nodes that vote first; only when the cluster is new
    #[arg(long, value_name = "LIST")]
    initial_master_nodes: Option<String>,
    /// What the node does: master, data, ingest; empty = it only coordinates
    #[arg(long, value_name = "LIST")]
    roles: Option<String>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", env = "RINGDEX_CONFIG")]
    config: Option<PathBuf>,
}

impl ServeArgs {
    fn layer(&self) -> Layer {
        let data = self.data.as_ref().map(|path| path.to_string_lossy().into_owned());
        let flags = [
            ("path.data", &data),
            ("http", &self.http),
            ("cores", &self.cores),
            ("memory", &self.memory),
            ("node.name", &self.name),
            ("transport", &self.transport),
            ("discovery.seed_hosts", &self.seed_hosts),
            ("cluster.initial_master_nodes", &self.initial_master_nodes),
            ("node.roles", &self.roles),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
    }

    fn config(&self) -> Result<Config, String> {
        let mut layers = Vec::new();
        if let Some(path) = &self.config {
            layers.push(config::file_layer(path)?);
        }
        layers.push(config::environment_layer(std::env::vars()));
        layers.push(self.layer());
        Config::from_layers(&layers)
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Between the lines of the demo there is room for warnings only.
    let level = if matches!(cli.command, Command::Demo(_)) { "warn" } else { "info" };
    if let Err(e) = log::start(&cli.log, level) {
        eprintln!("ringdex: {e}");
        return ExitCode::from(2);
    }
    let ran = match &cli.command {
        Command::Serve(args) => args.config().and_then(crate::node::run),
        Command::Demo(args) => demo::run(args),
        Command::Load(args) => load::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
    };
    match ran {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(e) => {
            eprintln!("ringdex: {e}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_settings() {
        let cli = Cli::parse_from(["ringdex", "serve", "--http", "127.0.0.1:1", "--data", "d", "--cores", "1"]);
        let Command::Serve(args) = &cli.command else { panic!("serve") };
        let config = Config::from_layers(&[args.layer()]).unwrap();
        assert_eq!((config.http.port(), config.cores.len()), (1, 1));
        assert_eq!(config.data, PathBuf::from("d"));
    }

    #[test]
    fn help_names_every_setting_the_environment_has() {
        let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        for name in
            ["RINGDEX_DATA", "RINGDEX_HTTP", "RINGDEX_CORES", "RINGDEX_MEMORY", "RINGDEX_NAME", "RINGDEX_PATH_REPO"]
        {
            assert!(help.contains(name), "{name}");
        }
    }
}

//! `ringdex demo`: a server of its own, real documents, and requests whose answers are checked.
//!
//! The documents are the bank accounts of Elasticsearch's getting-started pages (`accounts.ndjson`, Apache-2.0). What an
//! answer should be is computed by a scan of that file, so that the demo cannot praise a wrong answer.

use std::fmt::Write as _;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{self, Config, Layer};
use crate::node::{self, Node};

const ACCOUNTS: &str = include_str!("accounts.ndjson");
const ACCOUNTS_INDEX: &str = "accounts";
/// A thousand documents need no more.
const CORES_MAX: usize = 4;
const READY_WAIT: Duration = Duration::from_secs(30);
/// Of each node of several.
const MEMORY_MIN: u64 = 128 << 20;
const STOP_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Starts a server with its data in a fresh directory below the system's temporary one (TMPDIR), which is removed at the end;
loads 1,000 bank accounts through HTTP; sends requests to it, each shown as the curl command that does the same; compares
every answer with a scan of the file; serves on until Ctrl-C.

The server listens on 127.0.0.1:9200 (or RINGDEX_HTTP); if that is taken, on a free port.

Exit code: 0 every answer was as expected, 1 one was not, 2 it could not be done.")]
pub(super) struct DemoArgs {
    /// End after the requests instead of serving on
    #[arg(long)]
    once: bool,
    /// How many nodes; further ones are processes of their own, to be killed by whoever likes to see what happens
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
}

/// Why a demo ended early.
#[derive(Debug)]
enum Failure {
    /// An answer was not as expected.
    Wrong(String),
    /// No answer, no terminal, no disk.
    Broken(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Broken(error.to_string())
    }
}

/// A directory that goes when the demo does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("ringdex-demo-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|e| format!("cannot create [{}]: {e}; choose another place with TMPDIR=DIR", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("ringdex: cannot remove [{}]: {e}", self.0.display());
        }
    }
}

pub(super) fn run(args: &DemoArgs) -> Result<i32, String> {
    // Before anything is left behind by a Ctrl-C.
    let mut signals = node::stop_signals()?;
    let scratch = Scratch::new()?;
    let (mut config, taken) = configure(&scratch.0)?;
    let others = Others::start(&mut config, args.nodes, &scratch.0)?;
    let node = Node::start(config)?;
    let address = node.address();
    let mut out = std::io::stdout();
    let shown = introduce(&mut out, address, taken, &scratch.0)
        .and_then(|()| tour(&mut out, &mut Http::new(address), args.nodes))
        .and_then(|()| if args.once { Ok(()) } else { invite(&mut out, address, &scratch.0, &others) });
    let code = match shown {
        Ok(()) if args.once => i32::from(!node.stop()),
        Ok(()) => node::serve_until_stopped(node, &mut signals),
        Err(failure) => {
            node.stop();
            match failure {
                Failure::Wrong(text) => {
                    eprintln!("ringdex: not as expected: {text}");
                    1
                }
                Failure::Broken(text) => return Err(text),
            }
        }
    };
    drop(others);
    drop(scratch);
    Ok(code)
}

/// Nodes besides the one in this process; they stop when dropped.
struct Others(Vec<(SocketAddr, Child)>);

impl Others {
    /// Starts them, and tells the first, not yet started, of them.
    fn start(config: &mut Config, nodes: u16, data: &Path) -> Result<Others, String> {
        let mut others = Others(Vec::new());
        if nodes == 1 {
            return Ok(others);
        }
        let transports: Vec<SocketAddr> = (0..nodes).map(|_| free_address()).collect::<Result<_, _>>()?;
        let names: Vec<String> = (1..=nodes).map(|n| format!("n{n}")).collect();
        let seeds: Vec<String> = transports.iter().map(ToString::to_string).collect();
        let (voters, seeds_text) = (names.join(","), seeds.join(","));
        let cpus = config::allowed_cpus();
        // The nodes share what one would have.
        config.memory = (config.memory / u64::from(nodes)).max(MEMORY_MIN);
        config.cores = vec![cpus[0]];
        config.name.clone_from(&names[0]);
        config.transport = Some(transports[0]);
        config.seed_hosts.clone_from(&transports);
        config.initial_master_nodes.clone_from(&names);
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        for n in 1..usize::from(nodes) {
            let near = SocketAddr::new(config.http.ip(), config.http.port().saturating_add(n as u16));
            let http = if config.http.port() != 0 && TcpListener::bind(near).is_ok() { near } else { free_address()? };
            let child = Command::new(&program)
                .arg("serve")
                .args(["--data", &data.join(&names[n]).to_string_lossy(), "--http", &http.to_string()])
                .args(["--transport", &seeds[n], "--seed-hosts", &seeds_text, "--initial-master-nodes", &voters])
                // With a comma it is a CPU, not a count.
                .args(["--name", &names[n], "--cores", &format!("{},", cpus[n % cpus.len()])])
                .args(["--memory", &config.memory.to_string(), "--log", "error"])
                .stdout(Stdio::null())
                .spawn()
                .map_err(|e| format!("cannot start [{}]: {e}", program.display()))?;
            others.0.push((http, child));
        }
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for (_, child) in &self.0 {
            // A Ctrl-C at the terminal has reached them, too; some may be gone.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let until = Instant::now() + STOP_WAIT;
        for (_, child) in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address nobody listened on a moment ago.
fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(|e| e.to_string())
}

/// The settings of a node on `data`, and the address that it should have had but that was taken.
fn configure(data: &Path) -> Result<(Config, Option<SocketAddr>), String> {
    let data = data.join("n1");
    let place = Layer::from([("path.data".to_owned(), data.to_string_lossy().into_owned())]);
    let mut config = Config::from_layers(&[config::environment_layer(std::env::vars()), place])?;
    config.cores.truncate(CORES_MAX);
    let wanted = config.http;
    let taken = TcpListener::bind(wanted).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse);
    if taken {
        config.http.set_port(0);
    }
    Ok((config, taken.then_some(wanted)))
}

fn introduce(out: &mut impl Write, address: SocketAddr, taken: Option<SocketAddr>, data: &Path) -> Result<(), Failure> {
    if let Some(taken) = taken {
        writeln!(out, "{taken} is taken, so a free port it is.")?;
    }
    writeln!(out, "Server on http://{address}, data in {} (removed at the end)", data.display())?;
    Ok(())
}

fn invite(out: &mut impl Write, address: SocketAddr, data: &Path, others: &Others) -> Result<(), Failure> {
    if !others.0.is_empty() {
        let list = |of: &dyn Fn(&(SocketAddr, Child)) -> String| others.0.iter().map(of).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "\n{} nodes hold two copies of the accounts; any node answers. The others are on {} (processes {}).\n\
             Kill one with kill -9 and look again:\n\n  \
             curl 'http://{address}/_cat/nodes?v'\n  \
             curl 'http://{address}/_cat/shards/{ACCOUNTS_INDEX}?v'",
            others.0.len() + 1,
            list(&|(http, _)| format!("http://{http}")),
            list(&|(_, child)| child.id().to_string()),
        )?;
    }
    writeln!(
        out,
        "\nAll answers are as a scan of the file has them. Now you:\n\n  \
         curl 'http://{address}/{ACCOUNTS_INDEX}/_search?q=city:brogan&pretty'\n  \
         curl 'http://{address}/_cat/indices?v'\n\n\
         Serving on; Ctrl-C stops the server and removes {}",
        data.display()
    )?;
    out.flush()?;
    Ok(())
}

/// Something that answers requests: status and body.
trait Ask {
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Value), String>;
    /// What a command line puts before the path.
    fn base(&self) -> String;
}

struct Http {
    agent: ureq::Agent,
    address: SocketAddr,
}

impl Http {
    fn new(address: SocketAddr) -> Http {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .allow_non_standard_methods(true)
            .build();
        Http { agent: config.into(), address }
    }
}

impl Ask for Http {
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Value), String> {
        let url = format!("http://{}{path}", self.address);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("content-type", content_type(path))
            .body(body.to_owned())
            .map_err(|e| e.to_string())?;
        let mut response = self.agent.run(request).map_err(|e| format!("{method} {url}: {e}"))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| format!("{method} {url}: {e}"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn content_type(path: &str) -> &'static str {
    if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" }
}

/// The fields the demo asks for.
#[derive(Deserialize)]
struct Account<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    address: &'a str,
    balance: f64,
    age: u32,
    state: &'a str,
}

impl Account<'_> {
    fn words(&self) -> Vec<String> {
        self.address.split_whitespace().map(str::to_lowercase).collect()
    }
}

/// Loads the sample, asks, compares.
fn tour(out: &mut impl Write, server: &mut impl Ask, nodes: u16) -> Result<(), Failure> {
    let accounts: Vec<Account<'_>> = ACCOUNTS.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    ready(server, nodes)?;
    load(out, server, accounts.len())?;
    words(out, server, &accounts)?;
    filters(out, server, &accounts)?;
    phrase(out, server, &accounts)?;
    averages(out, server, &accounts)?;
    concurrency(out, server)
}

/// Waits for all nodes and the cluster state; before it everything is answered with 503.
fn ready(server: &mut impl Ask, nodes: u16) -> Result<(), Failure> {
    let until = Instant::now() + READY_WAIT;
    let path = format!("/_cluster/health?wait_for_nodes={nodes}&timeout=30s");
    loop {
        let (status, answer) = server.ask("GET", &path, "").map_err(Failure::Broken)?;
        match status {
            200 => return Ok(()),
            503 if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            _ => return Err(Failure::Broken(format!("the server does not get ready: {status} {answer}"))),
        }
    }
}

fn load(out: &mut impl Write, server: &mut impl Ask, count: usize) -> Result<(), Failure> {
    let mut body = Vec::new();
    for line in ACCOUNTS.lines() {
        body.extend(super::load::bulk_lines(line.as_bytes(), None).map_err(Failure::Broken)?);
    }
    let body = String::from_utf8(body).map_err(|e| Failure::Broken(e.to_string()))?;
    let path = format!("/{ACCOUNTS_INDEX}/_bulk?refresh");
    let begun = Instant::now();
    let (status, answer) = server.ask("POST", &path, &body).map_err(Failure::Broken)?;
    let took = begun.elapsed();
    expect("bulk status", &status, &200)?;
    expect("bulk errors", &answer["errors"], &json!(false))?;
    let (_, counted) = server.ask("GET", &format!("/{ACCOUNTS_INDEX}/_count"), "").map_err(Failure::Broken)?;
    expect("documents after loading", &counted["count"], &json!(count))?;
    writeln!(out, "Loaded {count} accounts in {} ms: written, synced to the disk, and searchable.", took.as_millis())?;
    Ok(())
}

fn words(out: &mut impl Write, server: &mut impl Ask, accounts: &[Account<'_>]) -> Result<(), Failure> {
    title(out, "Accounts with \"mill\" or \"lane\" in their address, best first")?;
    let body = json!({"query": {"match": {"address": "mill lane"}}, "size": 3});
    let answer = show(out, server, "POST", &format!("/{ACCOUNTS_INDEX}/_search"), Some(&body), 200)?;
    let mut text = format!("{} accounts", total(&answer));
    for hit in hits(&answer) {
        let (score, source) = (hit["_score"].as_f64().unwrap_or_default(), &hit["_source"]);
        let _ = write!(text, "\n{score:>9.4}  {}", person(source));
    }
    reply(out, &text)?;
    let (expected, best): (Vec<_>, Vec<_>) = {
        let has = |a: &&Account<'_>, word: &str| a.words().iter().any(|w| w == word);
        let either: Vec<_> = accounts.iter().filter(|a| has(a, "mill") || has(a, "lane")).collect();
        let both = either.iter().copied().filter(|a| has(a, "mill") && has(a, "lane")).map(|a| a.id).collect();
        (either, both)
    };
    expect("hits of [mill lane]", &total(&answer), &expected.len())?;
    let first = hits(&answer).first().and_then(|h| h["_id"].as_str()).unwrap_or_default();
    expect("the best hit has both words", &best.contains(&first), &true)
}

fn filters(out: &mut impl Write, server: &mut impl Ask, accounts: &[Account<'_>]) -> Result<(), Failure> {
    title(out, "Forty-year-olds outside Idaho with 20,000 to 30,000 in their account, richest first")?;
    let body = json!({
        "query": {"bool": {
            "must": [{"match": {"age": 40}}],
            "must_not": [{"match": {"state": "ID"}}],
            "filter": [{"range": {"balance": {"gte": 20000, "lt": 30000}}}]}},
        "sort": [{"balance": "desc"}], "size": 3});
    let answer = show(out, server, "POST", &format!("/{ACCOUNTS_INDEX}/_search"), Some(&body), 200)?;
    let mut text = format!("{} accounts", total(&answer));
    for hit in hits(&answer) {
        let _ = write!(text, "\n{:>9}  {}", hit["_source"]["balance"], person(&hit["_source"]));
    }
    reply(out, &text)?;
    let mut expected: Vec<_> = accounts
        .iter()
        .filter(|a| a.age == 40 && a.state != "ID" && (20_000.0..30_000.0).contains(&a.balance))
        .collect();
    expected.sort_by(|a, b| b.balance.total_cmp(&a.balance));
    expect("hits of the filters", &total(&answer), &expected.len())?;
    let found: Vec<_> = hits(&answer).iter().filter_map(|h| h["_source"]["balance"].as_f64()).collect();
    let richest: Vec<_> = expected.iter().take(3).map(|a| a.balance).collect();
    expect("the richest of them", &found, &richest)
}

fn phrase(out: &mut impl Write, server: &mut impl Ask, accounts: &[Account<'_>]) -> Result<(), Failure> {
    title(out, "\"mill lane\", the words side by side")?;
    let body = json!({"query": {"match_phrase": {"address": "mill lane"}}});
    let answer = show(out, server, "POST", &format!("/{ACCOUNTS_INDEX}/_search"), Some(&body), 200)?;
    let mut text = format!("{} account{}", total(&answer), if total(&answer) == 1 { "" } else { "s" });
    for hit in hits(&answer) {
        let _ = write!(text, "\n{}", person(&hit["_source"]));
    }
    reply(out, &text)?;
    let mut found: Vec<_> = hits(&answer).iter().filter_map(|h| h["_id"].as_str()).collect();
    found.sort_unstable();
    let mut expected: Vec<_> =
        accounts.iter().filter(|a| a.words().windows(2).any(|w| w == ["mill", "lane"])).map(|a| a.id).collect();
    expected.sort_unstable();
    expect("accounts with the phrase", &found, &expected)
}

fn averages(out: &mut impl Write, server: &mut impl Ask, accounts: &[Account<'_>]) -> Result<(), Failure> {
    title(out, "The states with most accounts, and what is in one on average")?;
    let body = json!({"size": 0, "aggs": {"states": {
        "terms": {"field": "state.keyword", "size": 3},
        "aggs": {"balance": {"avg": {"field": "balance"}}}}}});
    let answer = show(out, server, "POST", &format!("/{ACCOUNTS_INDEX}/_search"), Some(&body), 200)?;
    let buckets = answer["aggregations"]["states"]["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<(&str, u64, f64)> = buckets
        .iter()
        .map(|b| {
            let average = b["balance"]["value"].as_f64().unwrap_or(f64::NAN);
            (b["key"].as_str().unwrap_or_default(), b["doc_count"].as_u64().unwrap_or_default(), average)
        })
        .collect();
    let lines: Vec<String> = rows.iter().map(|(s, n, avg)| format!("{s}  {n} accounts, {avg:.2} on average")).collect();
    reply(out, &lines.join("\n"))?;

    let mut states: std::collections::BTreeMap<&str, (u64, f64)> = std::collections::BTreeMap::new();
    for account in accounts {
        let entry = states.entry(account.state).or_default();
        *entry = (entry.0 + 1, entry.1 + account.balance);
    }
    let mut expected: Vec<_> = states.iter().map(|(state, (n, sum))| (*state, *n, sum / *n as f64)).collect();
    // The most first, equals by name. The sort is stable and the map is in order.
    expected.sort_by_key(|(_, n, _)| std::cmp::Reverse(*n));
    expected.truncate(3);
    let counts = |rows: &[(&str, u64, f64)]| rows.iter().map(|(s, n, _)| format!("{s}: {n}")).collect::<Vec<_>>();
    expect("the largest states", &counts(&rows), &counts(&expected))?;
    let close = rows.iter().zip(&expected).all(|(a, b)| (a.2 - b.2).abs() < 1e-6);
    expect("their averages are those of the file", &close, &true)
}

fn concurrency(out: &mut impl Write, server: &mut impl Ask) -> Result<(), Failure> {
    title(out, "One account by its id, visible as soon as it is written")?;
    let path = format!("/{ACCOUNTS_INDEX}/_doc/1");
    let got = show(out, server, "GET", &path, None, 200)?;
    let (seq_no, term, version) = (&got["_seq_no"], &got["_primary_term"], &got["_version"]);
    reply(out, &format!("version {version}, sequence number {seq_no}: {}", person(&got["_source"])))?;
    expect("version of a document written once", version, &json!(1))?;
    let mut expected: Value = ACCOUNTS.lines().next().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
    expected.as_object_mut().map(|o| o.remove("_id"));
    expect("document 1", &got["_source"], &expected)?;

    title(out, "Change it only if nobody else has")?;
    let mut source = got["_source"].clone();
    source["balance"] = json!(40_000);
    let path = format!("{path}?if_seq_no={seq_no}&if_primary_term={term}");
    let answer = show(out, server, "PUT", &path, Some(&source), 200)?;
    reply(out, &format!("{}, now version {}", answer["result"].as_str().unwrap_or_default(), answer["_version"]))?;
    expect("version after the change", &answer["_version"], &json!(2))?;

    title(out, "The same again: somebody has, so it is refused")?;
    let answer = show(out, server, "PUT", &path, Some(&source), 409)?;
    reply(out, &format!("409 {}", answer["error"]["reason"].as_str().unwrap_or_default()))?;
    expect("kind of refusal", &answer["error"]["type"], &json!("version_conflict_engine_exception"))
}

fn title(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    Ok(writeln!(out, "\n# {text}")?)
}

/// Prints a request as a command line, sends it, and insists on the status of the answer.
fn show(
    out: &mut impl Write,
    server: &mut impl Ask,
    method: &str,
    path: &str,
    body: Option<&Value>,
    status: u16,
) -> Result<Value, Failure> {
    writeln!(out, "{}", command(&server.base(), method, path, body))?;
    let text = body.map(Value::to_string).unwrap_or_default();
    let (got, answer) = server.ask(method, path, &text).map_err(Failure::Broken)?;
    if got != status {
        return Err(Failure::Wrong(format!("{method} {path}: status {status} expected, got {got}: {answer}")));
    }
    Ok(answer)
}

/// The curl command that sends a request. Our bodies have no quotation mark that would end it.
fn command(base: &str, method: &str, path: &str, body: Option<&Value>) -> String {
    let method = match (method, body) {
        ("GET", None) | ("POST", Some(_)) => String::new(),
        (method, _) => format!(" -X{method}"),
    };
    let mut command = format!("$ curl{method} '{base}{path}'");
    if let Some(body) = body {
        let body = body.to_string().replace('\'', "\\u0027");
        let _ = write!(command, " -H 'content-type: {}' \\\n    -d '{body}'", content_type(path));
    }
    command
}

fn reply(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    for line in text.lines() {
        writeln!(out, "  -> {line}")?;
    }
    Ok(())
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), Failure> {
    if got == expected {
        return Ok(());
    }
    Err(Failure::Wrong(format!("{what}: {expected:?} expected, got {got:?}")))
}

fn hits(answer: &Value) -> &[Value] {
    answer["hits"]["hits"].as_array().map_or(&[], Vec::as_slice)
}

fn total(answer: &Value) -> usize {
    answer["hits"]["total"]["value"].as_u64().map_or(0, |n| n as usize)
}

fn person(source: &Value) -> String {
    let text = |name: &str| source[name].as_str().unwrap_or("?");
    format!(
        "{} {}, {}, {} {}, {}",
        text("firstname"),
        text("lastname"),
        source["age"],
        text("address"),
        text("city"),
        text("state")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers like a server that knows the accounts, but with the given member wrong.
    struct Liar {
        path: &'static str,
        answer: Value,
    }

    impl Ask for Liar {
        fn ask(&mut self, _: &str, path: &str, _: &str) -> Result<(u16, Value), String> {
            Ok(match path {
                _ if path.contains(self.path) => (200, self.answer.clone()),
                _ if path.contains("_bulk") => (200, json!({"errors": false})),
                _ if path.contains("_count") => (200, json!({"count": 1000})),
                _ => (200, json!({})),
            })
        }

        fn base(&self) -> String {
            "http://h:1".into()
        }
    }

    #[test]
    fn a_wrong_answer_is_named() {
        let check = |path: &'static str, answer: Value, expected: &str| {
            let told = tour(&mut Vec::new(), &mut Liar { path, answer }, 1);
            let Err(Failure::Wrong(text)) = told else { panic!("{path}: {told:?}") };
            assert!(text.contains(expected), "{text}");
        };
        check("_bulk", json!({"errors": true}), "bulk errors");
        check("_count", json!({"count": 999}), "1000");
        check(
            "_search",
            json!({"hits": {"total": {"value": 7}, "hits": []}}),
            "hits of [mill lane]: 19 expected, got 7",
        );
        let hits = json!({"hits": {"total": {"value": 19}, "hits": [{"_id": "1", "_source": {}}]}});
        check("_search", hits, "both words");
    }

    #[test]
    fn every_line_of_the_sample_is_an_account_with_an_id() {
        let ids: std::collections::BTreeSet<String> = ACCOUNTS
            .lines()
            .map(|line| serde_json::from_str::<Account<'_>>(line).expect("an account").id.to_owned())
            .collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(command("http://h:1", "GET", "/a", None), "$ curl 'http://h:1/a'");
        let body = json!({"q": "it's"});
        let pasted = command("http://h:1", "PUT", "/a", Some(&body));
        assert_eq!(
            pasted,
            "$ curl -XPUT 'http://h:1/a' -H 'content-type: application/json' \\\n    -d '{\"q\":\"it\\u0027s\"}'"
        );
    }
}

//! Starting, killing and asking a server process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    pub port: u16,
    data: PathBuf,
    settings: Vec<(String, String)>,
    /// What this process has written to its standard error.
    log: Arc<Mutex<Vec<String>>>,
}

/// An empty directory for one test, on a real filesystem.
pub fn fresh_directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a directory for the test");
    path
}

/// A port nobody listened on a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// The command that serves `data` on `port`.
pub fn command(data: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringdex"));
    command
        .arg("serve")
        .args(["--data", data.to_str().expect("a path of UTF-8")])
        .args(["--http", &format!("127.0.0.1:{port}")])
        .args(["--log", "warn"]);
    command
}

impl Server {
    /// Starts a server on `data` and waits until it answers with all its shards started.
    pub fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    /// The same with settings, named as in the environment.
    pub fn start_with(data: &Path, settings: &[(&str, &str)]) -> Server {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Server::start_on(data, free_port(), settings)
    }

    fn start_on(data: &Path, port: u16, settings: Vec<(String, String)>) -> Server {
        let mut child = command(data, port)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("server: {line}");
                lines.lock().expect("nobody panics with it").push(line);
            }
        });
        let mut server =
            Server { child, url: format!("http://127.0.0.1:{port}"), port, data: data.to_owned(), settings, log };
        server.wait_ready();
        server
    }

    fn wait_ready(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        let client = Client::new(&self.url);
        let mut last = Err("nothing asked".to_owned());
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                panic!("the server ended by itself: {status}");
            }
            last = client.try_ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", None);
            if let Ok((200, health)) = &last
                && health["status"] != "red"
                && health["timed_out"] == false
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let shards = client.try_ask("GET", "/_cat/shards?format=json&h=index,state,unassigned.details", None);
        panic!("the server did not get ready in a minute; health: {last:?}; shards: {shards:?}");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the process is gone");
    }

    /// Starts a killed server again on the same data and port.
    pub fn restart(&mut self) {
        let (data, port, settings) = (self.data.clone(), self.port, self.settings.clone());
        *self = Server::start_on(&data, port, settings);
    }

    /// SIGTERM; the exit code, or none if it has not ended within `bound`.
    pub fn terminate(&mut self, bound: Duration) -> Option<i32> {
        signal(self.pid(), "TERM");
        let until = Instant::now() + bound;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of a line of `/proc/PID/status`, such as `VmRSS`.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).expect("a known line");
        found.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Processor time it has used, in clock ticks (of 10 ms).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the server runs");
        let after_name = stat.rsplit(')').next().expect("a last part");
        // `utime` and `stime`: fields 14 and 15 of the line, whose third follows the name.
        after_name.split_ascii_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// How many lines of its log have `text` in them.
    pub fn logged(&self, text: &str) -> usize {
        self.log.lock().expect("nobody panics with it").iter().filter(|line| line.contains(text)).count()
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, named as for kill(1).
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill(1) is there");
    assert!(sent.success(), "kill -{name} {pid}: {sent}");
}

/// A keep-alive HTTP client.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    pub fn new(url: &str) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .allow_non_standard_methods(true)
            .build();
        Client { agent: config.into(), url: url.to_owned() }
    }

    /// Status and JSON body, or why there was no answer.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<(u16, Value), String> {
        let content_type = if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", content_type)
            .body(body.unwrap_or("").to_owned())
            .map_err(|e| e.to_string())?;
        let mut response = self.agent.run(request).map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, json))
    }

    /// The same; no answer is a failure of the test.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let text = body.map(Value::to_string);
        self.try_ask(method, path, text.as_deref()).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }
}

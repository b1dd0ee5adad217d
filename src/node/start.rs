//! A node over glommio: its threads, started and stopped in order.
//!
//! ```text
//! lock the data directory, bind the port      (refusals name the remedy)
//! coordination, per core a serving and two maintenance executors
//! HTTP accepts (503 until the state is there), the state is loaded and published, shards recover
//! ```
//!
//! Stopping: no new connections, requests in work finish within a bound, shards commit, executors end.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringdex_net::http::{Acceptor, AcceptorHandle, Connections, Cores, Limits, Moving, Neighbours};
use ringdex_net::transport::{self, Admission, Identity, Listener, ListenerHandle, Own, Peers, Sessions, Transport};
use ringdex_net::wire::Lane as WireLane;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::http::{Api, Bodies};
use super::report::HttpCounters;
use super::{ClusterCalls, Core, CoreCalls, Found, Shared, start_master};
use crate::backend::NodeInfo;
use crate::config::Config;
use crate::io::{Claim, Lane, NodeIo};
use crate::mesh::{CallError, Desk, MAILBOX_MESSAGES_MAX, Mailbox};
use crate::metastore::MetaStore;
use crate::runtime::checks::{self, DataLock};
use crate::runtime::{self, Executor, GlommioIo, Maintainers, Maintenance, Role};

/// How long requests in work may take after a stop was asked for.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// How long answers to other nodes may take then.
const LINK_WAIT: Duration = Duration::from_secs(5);
/// How long the executors may take to be up.
const UP_WAIT: Duration = Duration::from_secs(60);

type Sockets = Mailbox<Connections<Api>>;
type CoreSessions = Mailbox<Sessions<CoreCalls<GlommioIo>>>;
type ClusterSessions = Mailbox<Sessions<ClusterCalls<GlommioIo>>>;
/// What every executor is told when the node's id is known.
type Known = (Arc<Shared<GlommioIo>>, Option<Own>);

/// A running node.
pub struct Node {
    pub(super) shared: Arc<Shared<GlommioIo>>,
    acceptor: AcceptorHandle,
    listener: Option<ListenerHandle>,
    links: Links,
    sockets: Vec<Arc<Sockets>>,
    maintenance: Vec<Maintainers>,
    serving: Vec<Executor>,
    side: Vec<Executor>,
    address: SocketAddr,
    // Last: dropped, and so released, when nothing uses the directory any more.
    _lock: DataLock,
}

impl Node {
    /// Starts a node and returns when it answers HTTP; its shards may still be recovering.
    pub fn start(mut config: Config) -> Result<Node, String> {
        let begun = Instant::now();
        let lock = checks::lock_data(&config.data)?;
        config.data = config.data.canonicalize().map_err(|e| format!("[{}]: {e}", config.data.display()))?;
        for warning in checks::raise_limits()? {
            tracing::warn!("{warning}");
        }
        let acceptor = Acceptor::bind(config.http).map_err(|e| checks::bind_refused(config.http, &e))?;
        let address = acceptor.address();
        let listener = match config.transport {
            None => None,
            Some(at) => Some(Listener::bind(at).map_err(|e| checks::bind_refused(at, &e))?),
        };
        let transport_address = listener.as_ref().map(Listener::address);
        let found = on_disk(&config.data)?;

        let cpus = config.cores.clone();
        let data = config.data.clone();
        // What every executor shows, known when the node's id has been read; meanwhile they are made.
        let (shared_in, shared_out): (Vec<_>, Vec<_>) = (0..=cpus.len()).map(|_| mpsc::channel()).unzip();
        let info = node_info(&config, address, transport_address, cpus.len());
        let links = Links {
            cores: cpus.iter().map(|_| Mailbox::new(MAILBOX_MESSAGES_MAX)).collect(),
            cluster: Mailbox::new(MAILBOX_MESSAGES_MAX),
        };
        let cluster_links = Arc::clone(&links.cluster);
        let starting = Starting { begun, config, info, found };
        let (up_in, up_out) = mpsc::channel::<Result<(), String>>();
        let maintenance: Vec<Maintainers> = cpus.iter().map(|_| Maintainers::new(MAILBOX_MESSAGES_MAX)).collect();
        let sockets: Vec<Arc<Sockets>> = cpus.iter().map(|_| Mailbox::new(MAILBOX_MESSAGES_MAX)).collect();

        let http_spin = spin(&starting.config, "http.spin", Limits::default().spin)?;
        let spin = spin(&starting.config, "spin", Duration::ZERO)?;
        let mut side = Vec::new();
        let go = Mailbox::new(1);
        let (cores, going) = (cpus.len(), Arc::clone(&go));
        side.push(thread("coordination", Role::Coordination, &data, &up_in, move |up| {
            coordinate(starting, shared_in, going, cluster_links, up)
        })?);
        let maintainers =
            cpus.iter().copied().enumerate().flat_map(|core| Maintainers::CLAIMS.map(|claim| (core, claim)));
        for ((number, cpu), claim) in maintainers {
            let mailbox = Arc::clone(maintenance[number].mailbox(claim));
            let role = Role::Maintenance { cpu, claim };
            let name = match claim {
                Claim::Spare => "maintain",
                Claim::Percent(_) => "catch-up",
            };
            side.push(thread(&format!("{name}-{number}"), role, &data, &up_in, move |up| async move {
                let io = GlommioIo::new(begun, None);
                let _ = up.send(Ok(()));
                runtime::serve_mailbox(mailbox, Rc::new(Maintenance), &io).await;
                Ok(())
            })?);
        }
        let mut serving = Vec::new();
        let loads = Cores::new(cpus.len());
        let mut shared_out = shared_out.into_iter();
        let shared = shared_out.next().expect("one more than cores");
        for ((number, cpu), shared) in cpus.iter().copied().enumerate().zip(shared_out) {
            let seat = Seat {
                number,
                begun,
                shared,
                sockets: sockets.clone(),
                loads: Arc::clone(&loads),
                links: Arc::clone(&links.cores[number]),
                maintenance: maintenance[number].clone(),
                http_spin,
            };
            let role = Role::Serving { cpu, spin };
            serving.push(thread(&format!("core-{number}"), role, &data, &up_in, move |up| serve(seat, up))?);
        }
        // Coordination, and the executors of each core.
        let all_up = || {
            for _ in 0..=(1 + Maintainers::CLAIMS.len()) * cores {
                up_out.recv_timeout(UP_WAIT).map_err(|_| "an executor did not start in time".to_owned())??;
            }
            shared.recv_timeout(UP_WAIT).map_err(|_| "the coordination thread did not start".to_owned())
        };
        let (shared, own) = all_up().inspect_err(|_| {
            // Those that are up end.
            maintenance.iter().for_each(|m| m.close());
            sockets.iter().for_each(|m| m.close());
            links.close();
        })?;
        let acceptor = deal(acceptor, sockets.clone())?;
        let listener = match (listener, own) {
            (Some(listener), Some(own)) => Some(listen(listener, own, &links)?),
            _ => None,
        };
        // The state is published only now, when every core listens.
        go.close();
        Ok(Node { shared, acceptor, listener, links, sockets, maintenance, serving, side, address, _lock: lock })
    }

    /// Where HTTP is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.info.id
    }

    /// Whether the cluster state has been loaded and published.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.shared.is_recovered()
    }

    /// Whether an executor has ended by itself: the node is no use any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.serving.iter().chain(&self.side).any(Executor::is_finished)
    }

    /// Finishes requests in work, commits every shard, ends. False if something was cut off or had failed.
    pub fn stop(mut self) -> bool {
        self.acceptor.stop();
        let mut clean =
            on_each(&self.sockets, DRAIN_WAIT + Duration::from_secs(5), |connections: Rc<Connections<Api>>, done| {
                Box::pin(async move {
                    let _ = done.send(connections.drain(DRAIN_WAIT).await);
                })
            });
        clean &= on_each(&[Arc::clone(&self.shared.master)], DRAIN_WAIT, |master, done| {
            Box::pin(async move {
                master.stop();
                let _ = done.send(true);
            })
        });
        clean &= on_each(&self.shared.cores, Duration::from_secs(600), |core, done| {
            Box::pin(async move {
                core.close().await;
                let _ = done.send(true);
            })
        });
        if let Some(listener) = &mut self.listener {
            listener.stop();
            // First the master hears that this node is gone, so that other copies take over.
            on_each(std::slice::from_ref(&self.links.cluster), LINK_WAIT, |sessions, done| {
                Box::pin(async move {
                    let _ = done.send(sessions.drain(Duration::from_millis(50)).await);
                })
            });
            // Other nodes hear what became of their requests, and that there is nothing more to ask for here.
            clean &= on_each(&self.links.cores, LINK_WAIT + Duration::from_secs(1), |sessions, done| {
                Box::pin(async move {
                    let _ = done.send(sessions.drain(LINK_WAIT).await);
                })
            });
        }
        self.links.close();
        self.sockets.iter().for_each(|m| m.close());
        self.shared.cores.iter().for_each(|m| m.close());
        for executor in std::mem::take(&mut self.serving) {
            clean &= ended(executor);
        }
        self.shared.master.close();
        self.maintenance.iter().for_each(|m| m.close());
        for executor in std::mem::take(&mut self.side) {
            clean &= ended(executor);
        }
        clean
    }
}

/// Where connections from other nodes go.
struct Links {
    cores: Vec<Arc<CoreSessions>>,
    cluster: Arc<ClusterSessions>,
}

impl Links {
    fn close(&self) {
        self.cores.iter().for_each(|links| links.close());
        self.cluster.close();
    }
}

/// Hands connections from other nodes out: the cluster's to coordination, others to the cores in turn.
fn listen(listener: Listener, own: Own, links: &Links) -> Result<ListenerHandle, String> {
    let admission = if listener.address().ip().is_loopback() { Admission::Loopback } else { Admission::Any };
    let (cores, cluster) = (links.cores.clone(), Arc::clone(&links.cluster));
    let mut next = 0;
    let start = listener.start(own, admission, move |accepted| {
        if accepted.lane == WireLane::Cluster {
            let _ = cluster.post(Lane::Search, move |sessions| Box::pin(sessions.serve(accepted)));
        } else {
            let core = &cores[next % cores.len()];
            next += 1;
            let _ = core.post(Lane::Search, move |sessions| Box::pin(sessions.serve(accepted)));
        }
    });
    start.map_err(|e| format!("cannot start the listener for other nodes: {e}"))
}

/// Who this node says it is.
fn identity(shared: &Shared<GlommioIo>) -> Option<Identity> {
    shared.config.transport?;
    Some(Identity {
        node: shared.local?,
        ephemeral_id: shared.info.ephemeral_id.clone(),
        name: shared.info.name.clone(),
        cluster_name: shared.config.cluster_name.clone(),
        cluster_uuid: None,
        address: shared.info.transport_address.clone(),
    })
}

fn ended(executor: Executor) -> bool {
    match executor.join() {
        Ok(()) => true,
        Err(e) => {
            tracing::error!(error = %e, "an executor had failed");
            false
        }
    }
}

/// Posts `job` to each mailbox and waits for all to be done.
fn on_each<S: 'static>(
    mailboxes: &[Arc<Mailbox<S>>],
    bound: Duration,
    job: impl Fn(Rc<S>, mpsc::Sender<bool>) -> crate::backend::LocalFuture<'static, ()> + Copy + Send + 'static,
) -> bool {
    let (tx, rx) = mpsc::channel();
    for mailbox in mailboxes {
        loop {
            let done = tx.clone();
            match mailbox.post(Lane::Search, move |state| job(state, done)) {
                Err(CallError::Full) => std::thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
    }
    drop(tx);
    let deadline = Instant::now() + bound;
    let mut clean = true;
    for _ in mailboxes {
        match rx.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(done) => clean &= done,
            Err(_) => return false,
        }
    }
    clean
}

/// Starts an executor whose body reports through `up` when it is ready; a failure reports itself.
fn thread<F>(
    name: &str,
    role: Role,
    data: &Path,
    up: &mpsc::Sender<Result<(), String>>,
    body: impl FnOnce(mpsc::Sender<Result<(), String>>) -> F + Send + 'static,
) -> Result<Executor, String>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let (up, failed) = (up.clone(), up.clone());
    runtime::start(name, role, data, move |started| {
        if let Err(e) = started {
            let _ = failed.send(Err(e));
            return None;
        }
        Some(body(up))
    })
    .map_err(|e| format!("cannot start a thread: {e}"))
}

struct Starting {
    begun: Instant,
    config: Config,
    info: NodeInfo,
    found: Found,
}

/// The coordination executor.
async fn coordinate(
    starting: Starting,
    shared_in: Vec<mpsc::Sender<Known>>,
    go: Arc<Mailbox<()>>,
    links: Arc<ClusterSessions>,
    up: mpsc::Sender<Result<(), String>>,
) -> Result<(), String> {
    let Starting { begun, config, mut info, found } = starting;
    let desk = Desk::new();
    glommio::spawn_local(Rc::clone(&desk).serve()).detach();
    let io = GlommioIo::new(begun, None);
    let fail = |e: String| {
        let _ = up.send(Err(e.clone()));
        e
    };
    let directory = io.directory(&config.data).await.map_err(|e| fail(e.to_string()))?;
    let opened = MetaStore::open(directory.clone()).await;
    let (store, loaded) = opened.map_err(|e| {
        fail(format!("the cluster state cannot be read: {e}; restore the data directory from a backup, or start with an empty one"))
    })?;
    info.id = loaded.persisted.as_ref().map_or_else(|| random_id(&io), |p| p.node_id.clone());
    let cores = info.cores;
    let is_new = loaded.persisted.is_none();
    let shared = Shared::new(info, config, cores);
    let own = identity(&shared).map(Own::new);
    for waiting in shared_in {
        let _ = waiting.send((Arc::clone(&shared), own.clone()));
    }
    let _ = up.send(Ok(()));
    // Closed when everyone is up.
    go.serve(Rc::new(()), 1, |_, _| {}).await;
    let transport = own.map(|own| Rc::new(Peers::new(own, transport::Limits::default())) as Rc<dyn Transport>);
    let master = start_master(io.clone(), Arc::clone(&shared), desk, store, loaded, found, transport).await;
    let master = master.map_err(|e| e.to_string())?;
    tracing::info!(
        pid = std::process::id(),
        node = shared.info.name,
        id = shared.info.id,
        http = shared.info.http_address,
        data = %shared.config.data.display(),
        cores,
        new = is_new,
        ms = begun.elapsed().as_millis() as u64,
        "started"
    );
    let sessions = Sessions::new(ClusterCalls(Rc::clone(&master)), transport::Limits::default());
    io.spawn(Lane::Background, Box::pin(Rc::clone(&sessions).sweep()));
    let spawner = io.clone();
    let linking = async move { links.serve(sessions, usize::MAX, |lane, task| spawner.spawn(lane, task)).await };
    io.spawn(Lane::Search, Box::pin(linking));
    let probing = shared.config.data.clone();
    let probe_io = io.clone();
    io.spawn(
        Lane::Background,
        Box::pin(async move {
            let probed = match probe_io.directory(&probing).await {
                Ok(directory) => checks::sync_probe(&directory).await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            match probed {
                Ok(us) if us > 10_000 => {
                    tracing::warn!(p50_us = us, "a durable write takes long here; acknowledged writes will be slow");
                }
                Ok(us) => tracing::info!(p50_us = us, "write and sync of one block"),
                Err(e) => tracing::warn!(error = %e, "the sync probe failed"),
            }
        }),
    );
    runtime::serve_mailbox(Arc::clone(&shared.master), master, &io).await;
    Ok(())
}

struct Seat {
    number: usize,
    begun: Instant,
    shared: mpsc::Receiver<Known>,
    /// Of all cores.
    sockets: Vec<Arc<Sockets>>,
    loads: Arc<Cores>,
    links: Arc<CoreSessions>,
    maintenance: Maintainers,
    http_spin: Duration,
}

/// A serving executor.
async fn serve(seat: Seat, up: mpsc::Sender<Result<(), String>>) -> Result<(), String> {
    let desk = Desk::new();
    glommio::spawn_local(Rc::clone(&desk).serve()).detach();
    let io = GlommioIo::new(seat.begun, Some((Rc::clone(&desk), seat.maintenance)));
    // Nothing else is on this executor yet. An error of coordination has been reported, and ends this one, too.
    let (shared, own) = seat.shared.recv_timeout(UP_WAIT).map_err(|_| "coordination did not start".to_owned())?;
    let core = Core::new(io.clone(), seat.number, Arc::clone(&shared), desk);
    if let Some(own) = own {
        core.set_transport(Rc::new(Peers::new(own, transport::Limits::default())));
    }
    let calls = Sessions::new(CoreCalls(Rc::clone(&core)), transport::Limits::default());
    io.spawn(Lane::Background, Box::pin(Rc::clone(&calls).sweep()));
    let (spawner, links) = (io.clone(), seat.links);
    let linking = async move { links.serve(calls, usize::MAX, |lane, task| spawner.spawn(lane, task)).await };
    io.spawn(Lane::Search, Box::pin(linking));
    let config = &shared.config;
    let default = Limits::default();
    let limits = Limits {
        body_bytes_max: shared.memory.body_bytes_max(config.max_content_length as u64),
        header_timeout: config.read_timeout.unwrap_or(default.header_timeout),
        body_timeout: config.read_timeout.unwrap_or(default.body_timeout),
        spin: seat.http_spin,
        ..default
    };
    let sockets = Arc::clone(&seat.sockets[seat.number]);
    let neighbours = neighbours(seat.number, seat.loads, seat.sockets);
    let bodies = Rc::new(Bodies::of(&shared.memory.requests));
    let connections = Connections::new(Api::new(Rc::clone(&core)), limits, bodies, neighbours);
    let counted = Rc::clone(&connections);
    core.set_http_counters(move || {
        let c = counted.counters();
        HttpCounters {
            connections: c.connections,
            connections_total: c.connections_total,
            connections_refused: c.connections_refused,
            connections_timed_out: c.connections_timed_out,
            connections_moved: c.connections_moved,
            requests: c.requests,
            requests_total: c.requests_total,
        }
    });
    io.spawn(Lane::Background, Box::pin(Rc::clone(&connections).sweep()));
    let spawner = io.clone();
    // Connections bound themselves; a job of this mailbox is a whole connection.
    let accepting = async move { sockets.serve(connections, usize::MAX, |lane, task| spawner.spawn(lane, task)).await };
    io.spawn(Lane::Search, Box::pin(accepting));
    let _ = up.send(Ok(()));
    runtime::serve_mailbox(Arc::clone(&shared.cores[seat.number]), core, &io).await;
    Ok(())
}

/// The other cores, as a core's connections reach them; none if there are none.
fn neighbours(own: usize, cores: Arc<Cores>, sockets: Vec<Arc<Sockets>>) -> Option<Neighbours> {
    let hand = move |core: usize, moving: Moving| {
        let to: &Arc<Sockets> = &sockets[core];
        // Refused, the connection would be lost; acceptor and other cores cannot fill the rest before this one is in.
        if to.is_closed() || to.len() > MAILBOX_MESSAGES_MAX / 2 {
            return Err(moving);
        }
        let _ = to.post(Lane::Search, move |connections| Box::pin(connections.resume(moving)));
        Ok(())
    };
    (cores.count() > 1).then(|| Neighbours { own, cores, hand: Box::new(hand) })
}

/// Deals connections out to the cores in turn.
fn deal(acceptor: Acceptor, sockets: Vec<Arc<Sockets>>) -> Result<AcceptorHandle, String> {
    let mut next = 0;
    let start = acceptor.start(move |socket, peer| {
        let core = &sockets[next % sockets.len()];
        next += 1;
        // A core whose mailbox is full of new connections drops this one: the client sees it closed.
        let _ = core.post(Lane::Search, move |connections| Box::pin(connections.serve(socket, peer)));
    });
    start.map_err(|e| format!("cannot start the acceptor: {e}"))
}

fn node_info(config: &Config, address: SocketAddr, transport: Option<SocketAddr>, cores: usize) -> NodeInfo {
    // What others should connect to: a wildcard is no address.
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    NodeInfo {
        name: config.name.clone(),
        id: String::new(),
        ephemeral_id: ephemeral_id(),
        http_address: format!("{shown}:{}", address.port()),
        transport_address: transport.map_or_else(|| format!("{shown}:9300"), |at| at.to_string()),
        host,
        cores,
        start_ms: runtime::now_ms(),
        attributes: config.attributes.clone(),
    }
}

fn random_id(io: &GlommioIo) -> String {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&io.random().to_le_bytes());
    bytes[8..].copy_from_slice(&io.random().to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ephemeral_id() -> String {
    use std::hash::BuildHasher;
    let key = std::collections::hash_map::RandomState::new();
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&key.hash_one(1).to_le_bytes());
    bytes[8..].copy_from_slice(&key.hash_one(2).to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Microseconds to spin before sleeping. `spin`: a core, for anything; pays when the machine is ours alone. `http.spin`: at a
/// connection whose next request has been coming at once.
fn spin(config: &Config, key: &str, default: Duration) -> Result<Duration, String> {
    let Some(text) = config.setting(key) else { return Ok(default) };
    let us =
        text.trim_end_matches("us").parse().map_err(|_| format!("setting [{key}] is [{text}]: not microseconds"))?;
    Ok(Duration::from_micros(us))
}

fn on_disk(data: &Path) -> Result<Found, String> {
    let mut found = Found { indices: directories(&data.join("indices"))?, shards: Some(Vec::new()) };
    for uuid in &found.indices {
        let shards = directories(&data.join("indices").join(uuid))?.into_iter().filter_map(|name| name.parse().ok());
        found.shards.get_or_insert_default().extend(shards.map(|shard| (uuid.clone(), shard)));
    }
    Ok(found)
}

/// The names of directories in `path`; none if it is not there.
fn directories(path: &Path) -> Result<Vec<String>, String> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| format!("cannot list [{}]: {e}", path.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| format!("cannot list [{}]: {e}", path.display()))?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// SIGTERM and SIGINT, from now on gathered here instead of ending the process.
pub fn stop_signals() -> Result<Signals, String> {
    Signals::new([SIGINT, SIGTERM]).map_err(|e| e.to_string())
}

/// Lets `node` work until one of `signals`, then stops it. The exit code.
pub fn serve_until_stopped(node: Node, signals: &mut Signals) -> i32 {
    loop {
        if let Some(signal) = signals.pending().next() {
            tracing::info!(signal, "stopping");
            break;
        }
        if node.is_broken() {
            tracing::error!("an executor has ended; stopping");
            node.stop();
            return 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let clean = node.stop();
    tracing::info!(clean, "stopped");
    i32::from(!clean)
}

/// Runs a node until SIGTERM or SIGINT. The exit code.
pub fn run(config: Config) -> Result<i32, String> {
    let mut signals = stop_signals()?;
    Ok(serve_until_stopped(Node::start(config)?, &mut signals))
}

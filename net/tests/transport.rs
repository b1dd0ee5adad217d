//! Requests between two executors over real sockets: what arrives, what fails, and how.
#![cfg(feature = "glommio")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::transport::{
    Admission, Handler, Identity, Lane, Limits, Listener, LocalFuture, MessageKind, Own, Payload, PeerAddress,
    PeerEvent, Peers, RemoteError, SessionCounters, Sessions, Transport, TransportError,
};
use ringdex_net::wire::frame::{Decoder, Encoder, Flags, Header};
use ringdex_net::wire::handshake::{self, Hello, Reply, VERSIONS};

const MINUTE: Duration = Duration::from_secs(60);

/// What the handler of a node has seen and done.
#[derive(Default)]
struct Seen {
    /// Payloads of one-way messages.
    told: Mutex<Vec<Bytes>>,
    /// Requests handed over, of any kind.
    handed: AtomicUsize,
    /// Requests that wait for `go`.
    waiting: AtomicUsize,
    waiting_most: AtomicUsize,
    /// Futures that were dropped before their end.
    dropped: AtomicUsize,
    go: AtomicBool,
}

struct Answers(Arc<Seen>);

struct CountDrop(Arc<Seen>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Answers {
    fn handle(&self, from: NodeId, kind: MessageKind, payload: Bytes) -> LocalFuture<Result<Payload, RemoteError>> {
        assert_eq!(from, NodeId(1));
        let seen = Arc::clone(&self.0);
        seen.handed.fetch_add(1, Ordering::SeqCst);
        match kind {
            MessageKind::Peers => panic!("told to"),
            MessageKind::Publish => seen.told.lock().unwrap().push(payload.clone()),
            _ => {}
        }
        Box::pin(async move {
            match kind {
                MessageKind::ShardFailed => {
                    glommio::executor().yield_task_queue_now().await;
                    panic!("told to, later")
                }
                MessageKind::StoredCopies => {
                    let error = RemoteError::new(404, "index_not_found_exception", "no such index [x]");
                    Err(RemoteError { body: Bytes::from_static(b"{\"index\":\"x\"}"), ..error })
                }
                // Until told.
                MessageKind::GlobalCheckpointSync => {
                    let now = seen.waiting.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.waiting_most.fetch_max(now, Ordering::SeqCst);
                    while !seen.go.load(Ordering::SeqCst) {
                        glommio::timer::sleep(Duration::from_millis(2)).await;
                    }
                    seen.waiting.fetch_sub(1, Ordering::SeqCst);
                    Ok(Payload::new())
                }
                MessageKind::ShardRead => {
                    let _dropped = CountDrop(seen);
                    std::future::pending().await
                }
                _ => Ok(payload.into()),
            }
        })
    }
}

fn identity(node: u128) -> Identity {
    Identity {
        node: NodeId(node),
        ephemeral_id: format!("e{node}"),
        name: format!("n{node}"),
        cluster_name: "docs".into(),
        cluster_uuid: None,
        address: String::new(),
    }
}

/// A node that answers, on a thread of its own.
struct Node {
    address: SocketAddr,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    /// How long what is asked may take after that, in milliseconds.
    drain_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<SessionCounters>>,
}

impl Node {
    fn start(limits: Limits) -> Node {
        Node::start_at("127.0.0.1:0".parse().unwrap(), identity(2), limits)
    }

    fn start_at(address: SocketAddr, identity: Identity, limits: Limits) -> Node {
        let listener = Listener::bind(address).unwrap();
        let address = listener.address();
        let (socket_in, socket_out) = mpsc::channel();
        let own = Own::new(identity);
        let mut handle = listener.start(own, Admission::Loopback, move |a| drop(socket_in.send(a))).unwrap();
        let (seen, stop, drain_ms): (Arc<Seen>, Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (answers, stopping, bound) = (Answers(Arc::clone(&seen)), Arc::clone(&stop), Arc::clone(&drain_ms));
        let thread = std::thread::spawn(move || {
            on_executor(move || async move {
                let sessions = Sessions::new(answers, limits);
                glommio::spawn_local(Rc::clone(&sessions).sweep()).detach();
                while !stopping.load(Ordering::SeqCst) {
                    while let Ok(accepted) = socket_out.try_recv() {
                        glommio::spawn_local(Rc::clone(&sessions).serve(accepted)).detach();
                    }
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                }
                handle.stop();
                let counters = sessions.counters();
                sessions.drain(Duration::from_millis(bound.load(Ordering::SeqCst))).await;
                glommio::timer::sleep(Duration::from_millis(5)).await;
                counters
            })
        });
        Node { address, seen, stop, drain_ms, thread: Some(thread) }
    }

    fn peer(&self) -> PeerAddress {
        PeerAddress { node: Some(NodeId(2)), address: self.address }
    }

    fn stop(&mut self) -> SessionCounters {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn on_executor<T: Send + 'static, F: Future<Output = T> + 'static>(body: impl FnOnce() -> F + Send + 'static) -> T {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .preempt_timer(Duration::from_millis(2))
        .spawn(move || async move {
            // Without it an executor may sleep beside tasks that could run.
            let beat = async {
                loop {
                    glommio::timer::sleep(Duration::from_millis(5)).await;
                }
            };
            glommio::spawn_local(beat).detach();
            body().await
        })
        .unwrap();
    executor.join().unwrap()
}

/// Runs `body` as node 1.
fn asking<T: Send + 'static, F: Future<Output = T> + 'static>(
    limits: Limits,
    body: impl FnOnce(Rc<Peers>) -> F + Send + 'static,
) -> T {
    on_executor(move || async move { body(Rc::new(Peers::new(Own::new(identity(1)), limits))).await })
}

fn events(peers: &Peers) -> Rc<RefCell<Vec<PeerEvent>>> {
    let events: Rc<RefCell<Vec<PeerEvent>>> = Rc::default();
    let seen = Rc::clone(&events);
    peers.observe(Rc::new(move |event| seen.borrow_mut().push(event)));
    events
}

async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + MINUTE;
    while !what() {
        assert!(Instant::now() < deadline, "it does not happen");
        glommio::timer::sleep(Duration::from_millis(2)).await;
    }
}

async fn echo(peers: &Peers, to: &PeerAddress, payload: &'static [u8]) -> Result<Bytes, TransportError> {
    peers.request(to, Lane::Write, MessageKind::ShardWrite, payload.into(), MINUTE).await
}

/// Asks until there is an answer: a connection that was of no use is not made anew at once.
async fn again(peers: &Peers, to: &PeerAddress) {
    let deadline = Instant::now() + MINUTE;
    while let Err(error) = echo(peers, to, b"again").await {
        assert!(error.was_not_sent() && Instant::now() < deadline, "{error}");
        glommio::timer::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_request_is_answered() {
    let node = Node::start(Limits::default());
    let to = node.peer();
    asking(Limits::default(), move |peers| async move {
        assert_eq!(echo(&peers, &to, b"hello").await, Ok(Bytes::from_static(b"hello")));
        assert_eq!(echo(&peers, &to, b"").await, Ok(Bytes::new()));
        let ping = peers.request(&to, Lane::Cluster, MessageKind::Ping, Payload::from(b"p".as_slice()), MINUTE).await;
        assert_eq!(ping, Ok(Bytes::from_static(b"p")));
        assert_eq!(peers.identify(&to, Lane::Write, MINUTE).await, Ok(identity(2)));
        let mut pieces = Payload::from(b"one ".as_slice());
        pieces.push(vec![b'2'; 5000]);
        pieces.push(" three");
        let answer = peers.request(&to, Lane::Write, MessageKind::Replicate, pieces.clone(), MINUTE).await;
        assert_eq!(answer, Ok(pieces.into_bytes()));
        assert_eq!((peers.counters().connections_total, peers.open()), (2, 2), "one for each lane");
    });
}

#[test]
fn failures_and_panics_are_answers() {
    let node = Node::start(Limits::default());
    let to = node.peer();
    asking(Limits::default(), move |peers| async move {
        let ask = |kind| {
            let answer = peers.request(&to, Lane::Cluster, kind, Payload::new(), MINUTE);
            async {
                match answer.await {
                    Err(TransportError::Remote(error)) => error,
                    other => panic!("{other:?}"),
                }
            }
        };
        let missing = ask(MessageKind::StoredCopies).await;
        assert_eq!((missing.status, missing.kind.as_str()), (404, "index_not_found_exception"));
        assert_eq!((missing.reason.as_str(), missing.body.as_ref()), ("no such index [x]", &b"{\"index\":\"x\"}"[..]));
        for (kind, text) in [(MessageKind::Peers, "told to"), (MessageKind::ShardFailed, "told to, later")] {
            let panic = ask(kind).await;
            assert_eq!((panic.status, panic.reason), (500, format!("a handler panicked: {text}")));
        }
        assert_eq!(peers.counters().connections_total, 1, "the connection went on");
    });
}

#[test]
fn ten_thousand_requests_on_one_connection_each_get_their_own_answer() {
    let mut node = Node::start(Limits::default());
    let to = node.peer();
    asking(Limits::default(), move |peers| async move {
        let bytes = |i: u32| i.to_le_bytes().repeat(1 + i as usize % 100);
        let answers: Vec<_> = (0..10_000u32)
            .map(|i| peers.request(&to, Lane::Write, MessageKind::ShardWrite, bytes(i).into(), MINUTE))
            .collect();
        for (i, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap(), bytes(i as u32));
        }
    });
    let counters = node.stop();
    assert_eq!((counters.connections_total, counters.requests_total, counters.requests), (1, 10_000, 0));
}

#[test]
fn large_payloads_pass_and_too_large_ones_are_refused_here() {
    let node = Node::start(Limits::default());
    let to = node.peer();
    let limits = Limits { payload_bytes_max: 48 << 20, ..Limits::default() };
    asking(limits, move |peers| async move {
        let large: Vec<u8> = (0..40u32 << 20).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let large = Bytes::from(large);
        let answer = peers.request(&to, Lane::Recovery, MessageKind::RecoveryFileChunk, large.clone().into(), MINUTE);
        let small = peers.request(&to, Lane::Recovery, MessageKind::Replicate, Payload::from(b"s".as_slice()), MINUTE);
        assert_eq!(answer.await.unwrap(), large);
        assert_eq!(small.await.unwrap(), "s");
        let too_large = Payload::from(vec![0; (48 << 20) + 1]);
        let refused = peers.request(&to, Lane::Recovery, MessageKind::Replicate, too_large, MINUTE).await;
        assert!(matches!(refused, Err(TransportError::Rejected(_))), "{refused:?}");
    });
}

#[test]
fn large_rare_messages_are_compressed_on_the_way_and_nobody_notices() {
    let node = Node::start(Limits::default());
    let proxy = Proxy::start(node.address, None);
    let to = PeerAddress { address: proxy.address, ..node.peer() };
    let state = asking(Limits::default(), move |peers| async move {
        let state = Bytes::from(b"{\"properties\":{}}".repeat(100_000));
        let answer = peers.request(&to, Lane::Cluster, MessageKind::MetadataUpdate, state.clone().into(), MINUTE).await;
        assert_eq!(answer.unwrap(), state);
        state.len()
    });
    let (there, back) = (proxy.passed[0].load(Ordering::SeqCst), proxy.passed[1].load(Ordering::SeqCst));
    assert!(there < state / 10 && back < state / 10, "{there} {back} of {state}");
}

#[test]
fn one_way_messages_arrive_in_order_also_those_sent_while_connecting() {
    let node = Node::start(Limits::default());
    let (to, seen) = (node.peer(), Arc::clone(&node.seen));
    asking(Limits::default(), move |peers| async move {
        let payload = |i: u32| vec![i as u8; if i.is_multiple_of(50) { 20_000 } else { 3 }];
        for i in 0..500 {
            peers.notify(&to, Lane::Cluster, MessageKind::Publish, payload(i).into());
            if i == 250 {
                assert_eq!(peers.open(), 0, "not connected yet");
                peers.identify(&to, Lane::Cluster, MINUTE).await.unwrap();
            }
        }
        until(|| seen.told.lock().unwrap().len() == 500).await;
        for (i, told) in seen.told.lock().unwrap().iter().enumerate() {
            assert_eq!(*told, payload(i as u32), "{i}");
        }
    });
}

#[test]
fn a_request_without_answer_times_out_and_the_connection_goes_on() {
    let node = Node::start(Limits::default());
    let (to, seen) = (node.peer(), Arc::clone(&node.seen));
    asking(Limits::default(), move |peers| async move {
        let timeout = Duration::from_millis(80);
        let began = Instant::now();
        let long = peers.request(&to, Lane::Write, MessageKind::GlobalCheckpointSync, Payload::new(), MINUTE);
        let short = peers.request(&to, Lane::Write, MessageKind::GlobalCheckpointSync, Payload::new(), timeout);
        assert_eq!(short.await, Err(TransportError::Timeout));
        assert!(began.elapsed() >= timeout);
        assert_eq!(echo(&peers, &to, b"still there").await, Ok(Bytes::from_static(b"still there")));
        seen.go.store(true, Ordering::SeqCst);
        assert_eq!(long.await, Ok(Bytes::new()), "a later deadline stands");
        until(|| peers.counters().answers_late == 1).await;
        assert_eq!((peers.counters().requests_timed_out, peers.counters().connections_total), (1, 1));
    });
}

#[test]
fn an_abandoned_read_is_dropped_at_the_far_end() {
    let node = Node::start(Limits::default());
    let (to, seen) = (node.peer(), Arc::clone(&node.seen));
    asking(Limits::default(), move |peers| async move {
        let read = || peers.request(&to, Lane::Search, MessageKind::ShardRead, Payload::new(), MINUTE);
        // Before it has left: it never arrives.
        drop(read());
        peers.identify(&to, Lane::Search, MINUTE).await.unwrap();
        let abandoned = read();
        until(|| seen.handed.load(Ordering::SeqCst) == 1).await;
        drop(abandoned);
        until(|| seen.dropped.load(Ordering::SeqCst) == 1).await;
        // What times out is not waited for, either.
        let late = peers.request(&to, Lane::Search, MessageKind::ShardRead, Payload::new(), Duration::from_millis(30));
        assert_eq!(late.await, Err(TransportError::Timeout));
        until(|| seen.dropped.load(Ordering::SeqCst) == 2).await;
        assert_eq!(seen.handed.load(Ordering::SeqCst), 2);
        // Neither is one whose asking side has gone.
        let last = read();
        until(|| seen.handed.load(Ordering::SeqCst) == 3).await;
        drop(peers);
        until(|| seen.dropped.load(Ordering::SeqCst) == 3).await;
        assert!(matches!(last.await, Err(TransportError::Closed(_))));
    });
}

#[test]
fn a_connection_that_ends_fails_what_is_under_way_at_once() {
    let mut node = Node::start(Limits::default());
    let (to, seen) = (node.peer(), Arc::clone(&node.seen));
    let (stop_in, stop_out) = mpsc::channel();
    let stopper = std::thread::spawn(move || {
        stop_out.recv().unwrap();
        node.stop();
    });
    asking(Limits::default(), move |peers| async move {
        let events = events(&peers);
        peers.identify(&to, Lane::Cluster, MINUTE).await.unwrap();
        assert_eq!(*events.borrow(), [PeerEvent::Connected(NodeId(2))]);
        let waiting: Vec<_> = (0..10)
            .map(|_| peers.request(&to, Lane::Write, MessageKind::GlobalCheckpointSync, Payload::new(), MINUTE))
            .collect();
        until(|| seen.handed.load(Ordering::SeqCst) == 10).await;
        stop_in.send(()).unwrap();
        for waiting in waiting {
            let failed = waiting.await;
            assert!(matches!(failed, Err(TransportError::Closed(_))), "{failed:?}");
        }
        until(|| events.borrow().len() == 2).await;
        assert_eq!(events.borrow()[1], PeerEvent::Disconnected(NodeId(2)));
        until(|| peers.open() == 0).await;
        // Nobody listens there now.
        let refused = echo(&peers, &to, b"x").await.unwrap_err();
        assert!(matches!(&refused, TransportError::NotConnected(_)), "{refused:?}");
        // And for a moment nobody asks again.
        let failed = peers.counters().connections_failed;
        assert_eq!(echo(&peers, &to, b"x").await, Err(refused));
        assert_eq!(peers.counters().connections_failed, failed);
    });
    stopper.join().unwrap();
}

#[test]
fn a_node_that_shuts_down_answers_what_crosses_with_the_news() {
    // The moment between two requests is short: several tries.
    for _ in 0..10 {
        let mut node = Node::start(Limits::default());
        node.drain_ms.store(10_000, Ordering::SeqCst);
        let to = node.peer();
        let (stop_in, stop_out) = mpsc::channel();
        let stopper = std::thread::spawn(move || {
            stop_out.recv().unwrap();
            let begun = Instant::now();
            node.stop();
            begun.elapsed()
        });
        asking(Limits::default(), move |peers| async move {
            let events = events(&peers);
            peers.identify(&to, Lane::Cluster, MINUTE).await.unwrap();
            let (lost, answered): (Rc<RefCell<Vec<_>>>, Rc<Cell<u32>>) = Default::default();
            let ask = || {
                let (peers, lost, answered) = (Rc::clone(&peers), Rc::clone(&lost), Rc::clone(&answered));
                glommio::spawn_local(async move {
                    loop {
                        match echo(&peers, &to, b"x").await {
                            Ok(_) => answered.set(answered.get() + 1),
                            Err(error) => return lost.borrow_mut().push(error),
                        }
                    }
                })
            };
            let asking: Vec<_> = (0..3).map(|_| ask()).collect();
            until(|| answered.get() > 100).await;
            stop_in.send(()).unwrap();
            for asking in asking {
                asking.await;
            }
            assert!(lost.borrow().iter().all(TransportError::was_not_sent), "{lost:?}");
            // The end that asks closes.
            until(|| peers.open() == 0).await;
            assert_eq!(events.borrow().last(), Some(&PeerEvent::Disconnected(NodeId(2))));
        });
        assert!(stopper.join().unwrap() < Duration::from_secs(1), "nobody needs the time there is");
    }
}

#[test]
fn a_node_that_comes_back_is_found_again_also_elsewhere() {
    let mut node = Node::start(Limits::default());
    let to = node.peer();
    let (command_in, command_out) = mpsc::channel::<bool>();
    let (done_in, done_out) = mpsc::channel();
    let operator = std::thread::spawn(move || {
        let mut next = None;
        while let Ok(elsewhere) = command_out.recv() {
            node.stop();
            let address = if elsewhere { "127.0.0.1:0".parse().unwrap() } else { node.address };
            node = Node::start_at(address, identity(2), Limits::default());
            done_in.send(node.address).unwrap();
            next = Some(());
        }
        next
    });
    let limits = Limits { rest: (Duration::from_millis(5), Duration::from_millis(20)), ..Limits::default() };
    asking(limits, move |peers| async move {
        let mut to = to;
        for elsewhere in [false, true] {
            assert!(echo(&peers, &to, b"before").await.is_ok());
            command_in.send(elsewhere).unwrap();
            until(|| peers.open() == 0).await;
            let moved = Cell::new(None);
            until(|| {
                moved.set(done_out.try_recv().ok());
                moved.get().is_some()
            })
            .await;
            to.address = moved.get().unwrap();
            again(&peers, &to).await;
        }
        // Told to let go, it connects anew with the next request.
        let made = peers.counters().connections_total;
        peers.disconnect(NodeId(2));
        until(|| peers.open() == 0).await;
        assert!(echo(&peers, &to, b"again").await.is_ok());
        assert_eq!(peers.counters().connections_total, made + 1);
    });
    operator.join().unwrap();
}

#[test]
fn nodes_that_do_not_belong_together_refuse_each_other_and_say_why() {
    let node = Node::start(Limits::default());
    let stranger = Node::start_at(
        "127.0.0.1:0".parse().unwrap(),
        Identity { cluster_name: "logs".into(), ..identity(3) },
        Limits::default(),
    );
    let (to, stranger_at) = (node.peer(), stranger.address);
    asking(Limits::default(), move |peers| async move {
        let why = |to: PeerAddress| {
            let asked = peers.identify(&to, Lane::Cluster, MINUTE);
            async {
                match asked.await {
                    Err(TransportError::NotConnected(why)) => why,
                    other => panic!("{other:?}"),
                }
            }
        };
        let other = why(PeerAddress { node: Some(NodeId(9)), ..to }).await;
        assert!(other.contains("expected node [AAAAAAAAAAAAAAAAAAAACQ]"), "{other}");
        let logs = why(PeerAddress { node: None, address: stranger_at }).await;
        assert!(logs.contains("of cluster [logs]") && logs.contains("of cluster [docs]"), "{logs}");
        // Without a name, whoever is there will do.
        let whoever = PeerAddress { node: None, ..to };
        assert_eq!(peers.identify(&whoever, Lane::Cluster, MINUTE).await, Ok(identity(2)));
    });
}

#[test]
fn a_far_end_that_does_not_keep_up_is_not_given_more_and_loses_nothing() {
    let limits = Limits { handling_max: 3, ..Limits::default() };
    let mut node = Node::start(limits);
    let (to, seen) = (node.peer(), Arc::clone(&node.seen));
    let limits = Limits { queue_bytes_max: 4 << 20, ..Limits::default() };
    let accepted = asking(limits, move |peers| async move {
        peers.identify(&to, Lane::Write, MINUTE).await.unwrap();
        let mut waiting = Vec::new();
        // Some go to the far end, some into the kernel's buffers, then some into the queue.
        let refused = loop {
            assert!(waiting.len() < 200, "200 MiB go nowhere");
            let payload = Payload::from(vec![1; 1 << 20]);
            let mut answer = peers.request(&to, Lane::Write, MessageKind::GlobalCheckpointSync, payload, MINUTE);
            match futures_lite::future::poll_once(&mut answer).await {
                None => waiting.push(answer),
                Some(answer) => break answer,
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        };
        assert!(matches!(refused, Err(TransportError::Rejected(_))), "{refused:?}");
        peers.notify(&to, Lane::Write, MessageKind::Publish, Payload::from(vec![1; 1 << 20]));
        assert_eq!((peers.counters().requests_rejected, peers.counters().notices_lost), (1, 1));
        assert!(waiting.len() >= 3);
        until(|| seen.waiting.load(Ordering::SeqCst) == 3).await;
        // Other lanes are not held up.
        let other = peers.request(&to, Lane::Search, MessageKind::Rest, Payload::from(b"o".as_slice()), MINUTE);
        assert_eq!(other.await.unwrap(), "o");
        assert_eq!(seen.handed.load(Ordering::SeqCst), 4);
        seen.go.store(true, Ordering::SeqCst);
        let accepted = waiting.len();
        for answer in waiting {
            assert_eq!(answer.await, Ok(Bytes::new()));
        }
        assert!(echo(&peers, &to, b"room again").await.is_ok());
        accepted
    });
    assert_eq!(node.seen.waiting_most.load(Ordering::SeqCst), 3);
    assert!(node.seen.told.lock().unwrap().is_empty());
    let counters = node.stop();
    assert_eq!(counters.requests_total as usize, accepted + 2);
    assert!(counters.throttled_total > 0);
}

#[test]
fn an_idle_connection_stays_and_a_dead_one_is_given_up() {
    let limits = Limits {
        alive_interval: Duration::from_millis(20),
        alive_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    // One that shakes hands and then says nothing.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_at = dead.local_addr().unwrap();
    let undertaker = std::thread::spawn(move || {
        let (mut socket, _) = dead.accept().unwrap();
        let mut hello = [0; 4096];
        assert!(socket.read(&mut hello).unwrap() > 0);
        socket.write_all(&Reply::Welcome { version: 1, identity: identity(7) }.encode()).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    });
    let node = Node::start(limits.clone());
    let to = node.peer();
    asking(limits, move |peers| async move {
        let events = events(&peers);
        peers.identify(&to, Lane::Cluster, MINUTE).await.unwrap();
        let began = Instant::now();
        let dead = PeerAddress { node: Some(NodeId(7)), address: dead_at };
        let lost = peers.request(&dead, Lane::Cluster, MessageKind::StoredCopies, Payload::new(), MINUTE).await;
        assert!(matches!(&lost, Err(TransportError::Closed(why)) if why.contains("nothing was heard")), "{lost:?}");
        assert!(began.elapsed() >= Duration::from_millis(400));
        until(|| began.elapsed() > Duration::from_millis(1200)).await;
        let (two, seven) = (NodeId(2), NodeId(7));
        assert_eq!(
            *events.borrow(),
            [PeerEvent::Connected(two), PeerEvent::Connected(seven), PeerEvent::Disconnected(seven)]
        );
        assert_eq!(peers.open(), 1);
    });
    undertaker.join().unwrap();
}

#[test]
fn a_connection_made_to_look_who_is_there_goes_when_it_is_not_used_and_is_no_event() {
    let node = Node::start(Limits::default());
    let to = PeerAddress { node: None, ..node.peer() };
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    asking(limits, move |peers| async move {
        let events = events(&peers);
        assert_eq!(peers.identify(&to, Lane::Cluster, MINUTE).await, Ok(identity(2)));
        assert_eq!(peers.open(), 1);
        until(|| peers.open() == 0).await;
        assert!(events.borrow().is_empty());
        assert_eq!(peers.identify(&to, Lane::Cluster, MINUTE).await, Ok(identity(2)));
    });
}

#[test]
fn a_corrupted_byte_ends_the_connection_and_nothing_is_delivered() {
    // Of the request behind the handshake: its length, its checksum, its kind, its id, its payload; and of the answer.
    for (direction, offset) in [(0, 0), (0, 6), (0, 8), (0, 15), (0, 25), (0, 60), (1, 1), (1, 13), (1, 40)] {
        let node = Node::start(Limits::default());
        let proxy = Proxy::start(node.address, Some((direction, offset)));
        let to = PeerAddress { address: proxy.address, ..node.peer() };
        let seen = Arc::clone(&node.seen);
        asking(Limits::default(), move |peers| async move {
            peers.identify(&to, Lane::Write, MINUTE).await.unwrap();
            let ask = || {
                let payload = Payload::from(vec![5; 100]);
                peers.request(&to, Lane::Write, MessageKind::ShardWrite, payload, Duration::from_millis(500))
            };
            let (first, second) = (ask(), ask());
            for answer in [first.await, second.await] {
                // A length that grew waits for bytes that do not come.
                assert!(
                    matches!(answer, Err(TransportError::Closed(_) | TransportError::Timeout)),
                    "{direction} {offset} {answer:?}"
                );
            }
            let handed = seen.handed.load(Ordering::SeqCst);
            assert_eq!(handed, if direction == 0 { 0 } else { 2 }, "{direction} {offset}");
            peers.disconnect(NodeId(2));
            until(|| peers.open() == 0).await;
            again(&peers, &to).await;
        });
    }
}

#[test]
fn messages_of_a_newer_node_are_answered_with_an_error() {
    let node = Node::start(Limits::default());
    let mut socket = TcpStream::connect(node.address).unwrap();
    let hello = Hello { lane: Lane::Write, versions: (VERSIONS.0, 99), expected: None, identity: identity(1) };
    socket.write_all(&hello.encode()).unwrap();
    let mut reply = vec![0; handshake::HEADER_BYTES];
    socket.read_exact(&mut reply).unwrap();
    let size = handshake::size(&reply).unwrap().unwrap();
    reply.resize(size, 0);
    socket.read_exact(&mut reply[handshake::HEADER_BYTES..]).unwrap();
    assert!(matches!(Reply::decode(&reply), Ok(Some((Reply::Welcome { version, .. }, _))) if version == VERSIONS.1));

    let mut encoder = Encoder::default();
    encoder.push(&Header { kind: 0x7777, flags: Flags::REQUEST, id: 5 }, &Payload::new());
    encoder.push(&Header { kind: 0x7777, flags: Flags::ONE_WAY, id: 6 }, &Payload::new());
    encoder.push(&Header { kind: 0x0300, flags: Flags::REQUEST, id: 7 }, &Payload::from(b"known".as_slice()));
    let n = socket.write_vectored(&encoder.slices()).unwrap();
    encoder.advance(n);
    assert!(encoder.is_empty());
    let mut decoder = Decoder::new(1 << 20);
    let mut frames = Vec::new();
    let mut some = [0; 1024];
    while frames.len() < 2 {
        let n = socket.read(&mut some).unwrap();
        assert!(n > 0);
        decoder.room().extend_from_slice(&some[..n]);
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
    }
    assert_eq!((frames[0].header.id, frames[0].header.flags), (5, Flags::FAILURE));
    let error = RemoteError::decode(frames[0].payload.clone()).unwrap();
    assert_eq!((error.status, error.reason.as_str()), (400, "unknown message [0x7777]"));
    assert_eq!((frames[1].header.id, frames[1].payload.as_ref()), (7, &b"known"[..]));
}

/// Passes bytes on, and may change one: of the first connection, in one direction, at an offset behind the handshake.
struct Proxy {
    address: SocketAddr,
    passed: [Arc<AtomicUsize>; 2],
}

impl Proxy {
    fn start(target: SocketAddr, flip: Option<(usize, usize)>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let passed: [Arc<AtomicUsize>; 2] = Default::default();
        let counts = passed.clone();
        // Ends with the process: the test ends before it.
        std::thread::spawn(move || {
            for (n, near) in listener.incoming().enumerate() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(target)) else { return };
                let ends =
                    [(&near, &far), (&far, &near)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()));
                for (direction, (from, to)) in ends.into_iter().enumerate() {
                    let at = flip.filter(|(which, _)| n == 0 && *which == direction).map(|(_, offset)| offset);
                    let count = Arc::clone(&counts[direction]);
                    std::thread::spawn(move || pass(from, to, at, &count));
                }
            }
        });
        Proxy { address, passed }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, flip: Option<usize>, count: &AtomicUsize) {
    let mut bytes = vec![0; 64 << 10];
    let mut handshake = Vec::new();
    let mut at = 0;
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        let some = &mut bytes[..n];
        // The handshake passes as it is.
        let size = handshake::size(&handshake).unwrap();
        if size.is_none_or(|size| handshake.len() < size) {
            handshake.extend_from_slice(some);
            let size = handshake::size(&handshake).unwrap().unwrap();
            assert_eq!(handshake.len(), size, "handshakes come in one piece here, and alone");
        } else {
            count.fetch_add(n, Ordering::SeqCst);
            if let Some(offset) = flip.filter(|offset| (at..at + n).contains(offset)) {
                some[offset - at] ^= 1;
            }
            at += n;
        }
        if to.write_all(some).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(std::net::Shutdown::Both), from.shutdown(std::net::Shutdown::Both));
}

//! The HTTP server over real sockets: what a well-behaved, a slow, and a hostile client get.
#![cfg(feature = "glommio")]

use std::cell::Cell;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use ringdex_net::http::{
    Acceptor, BodyError, Budget, Connections, Cores, Handler, Limits, Moving, Neighbours, Refusal, Request, Response,
    WorkedOn,
};
use socket2::Socket;

/// Echoes: method, path and the body's length and sum.
struct Echo {
    dropped: Arc<AtomicU64>,
    started: Arc<AtomicU64>,
    core: usize,
}

struct CountDrop(Arc<AtomicU64>, Cell<bool>);
impl Drop for CountDrop {
    fn drop(&mut self) {
        if self.1.get() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn text(status: u16, body: impl Into<Bytes>) -> Response {
    Response {
        status,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: body.into(),
        ..Response::default()
    }
}

impl Handler for Echo {
    fn handle(&self, mut request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        let (dropped, started, core) = (Arc::clone(&self.dropped), Arc::clone(&self.started), self.core);
        Box::pin(async move {
            let path = request.uri.path().to_owned();
            match path.as_str() {
                "/big" => return text(200, vec![b'x'; 100_000]),
                "/length" => return Response { length: Some(77), ..text(200, "") },
                "/huge" => return text(200, vec![b'x'; 64 << 20]),
                "/panic" => panic!("told to"),
                "/ignore" => return text(400, "not read"),
                "/slow" => {
                    let cut = CountDrop(dropped, Cell::new(true));
                    started.fetch_add(1, Ordering::SeqCst);
                    glommio::timer::sleep(Duration::from_millis(400)).await;
                    cut.1.set(false);
                    return text(200, "slow");
                }
                "/forever" => {
                    let _cut = CountDrop(dropped, Cell::new(true));
                    started.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            let (mut size, mut sum) = (0usize, 0u64);
            if let Some(body) = &mut request.body {
                loop {
                    match body.next().await {
                        Ok(None) => break,
                        Ok(Some(piece)) => {
                            assert!(!piece.is_empty());
                            size += piece.len();
                            sum += piece.iter().map(|b| u64::from(*b)).sum::<u64>();
                        }
                        Err(e @ BodyError::TooLong { .. }) => return text(413, e.to_string()),
                        Err(e @ BodyError::OutOfMemory { .. }) => return text(429, e.to_string()),
                        Err(e) => return text(400, e.to_string()),
                    }
                }
            }
            if let Some(work) = path.strip_prefix("/work/") {
                let worked_on = WorkedOn::One(work.parse().unwrap());
                return Response { worked_on, ..text(200, format!("{core} {size} {sum}")) };
            }
            text(200, format!("{} {path} {size} {sum}", request.method))
        })
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        let status = match refusal {
            Refusal::BodyTooLong { .. } => 413,
            Refusal::Panic(_) => 500,
            Refusal::Expectation(_) => 417,
            _ => 400,
        };
        text(status, format!("{refusal:?}"))
    }
}

struct Server {
    address: SocketAddr,
    dropped: Arc<AtomicU64>,
    started: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    drained: mpsc::Receiver<bool>,
}

/// So many bytes for all bodies of a server.
struct BodyBytes {
    limit: u64,
    used: Cell<u64>,
}

impl Budget for BodyBytes {
    fn take(&self, bytes: u64) -> Result<(), BodyError> {
        let wanted = self.used.get() + bytes;
        if wanted > self.limit {
            return Err(BodyError::OutOfMemory { wanted, limit: self.limit });
        }
        self.used.set(wanted);
        Ok(())
    }

    fn give(&self, bytes: u64) {
        self.used.set(self.used.get().checked_sub(bytes).expect("no more is given back than was taken"));
    }
}

fn server(limits: Limits) -> Server {
    server_of(limits, 1 << 30)
}

fn server_of(limits: Limits, body_bytes: u64) -> Server {
    server_with(1, limits, body_bytes)
}

/// What an executor of a server is given to do.
enum Connection {
    New(Socket, SocketAddr),
    Moving(Moving),
}

/// Of `count` executors, the first of which gets every new connection.
fn server_with(count: usize, limits: Limits, body_bytes: u64) -> Server {
    let acceptor = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = acceptor.address();
    let (dropped, started, stop) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
    let (connections_in, connections_out): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel()).unzip();
    let (drained_in, drained) = mpsc::channel();
    let first = connections_in[0].clone();
    let handle = acceptor.start(move |socket, peer| {
        let _ = first.send(Connection::New(socket, peer));
    });
    let mut handle = Some(handle.unwrap());
    let cores = Cores::new(count);
    for (core, coming) in connections_out.into_iter().enumerate() {
        let echo = Echo { dropped: Arc::clone(&dropped), started: Arc::clone(&started), core };
        let (stopping, drained, mut handle, limits) =
            (Arc::clone(&stop), drained_in.clone(), handle.take(), limits.clone());
        let (cores, all) = (Arc::clone(&cores), connections_in.clone());
        let serve = move || async move {
            let budget = std::rc::Rc::new(BodyBytes { limit: body_bytes, used: Cell::new(0) });
            let hand = Box::new(move |to: usize, moving| {
                all[to].send(Connection::Moving(moving)).unwrap();
                Ok(())
            });
            let neighbours = Neighbours { own: core, cores, hand };
            let connections = Connections::new(echo, limits, budget, (count > 1).then_some(neighbours));
            glommio::spawn_local(std::rc::Rc::clone(&connections).sweep()).detach();
            while !stopping.load(Ordering::SeqCst) {
                while let Ok(connection) = coming.try_recv() {
                    let connections = std::rc::Rc::clone(&connections);
                    match connection {
                        Connection::New(socket, peer) => glommio::spawn_local(connections.serve(socket, peer)).detach(),
                        Connection::Moving(moving) => glommio::spawn_local(connections.resume(moving)).detach(),
                    };
                }
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            if let Some(handle) = &mut handle {
                handle.stop();
            }
            drained.send(connections.drain(Duration::from_secs(2)).await).unwrap();
        };
        LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(1 << 20)
            .preempt_timer(Duration::from_millis(2))
            .spawn(serve)
            .unwrap();
    }
    Server { address, dropped, started, stop, drained }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &Server) -> Client {
        let socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.set_nodelay(true).unwrap();
        Client(BufReader::new(socket))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let mut line = String::new();
        if self.0.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().trim().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                return Some((status, headers));
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().expect("an answer");
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |v| v.parse().unwrap());
        answer.body = vec![0; length];
        self.0.read_exact(&mut answer.body).unwrap();
        answer
    }

    fn closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.0.read(&mut byte), Ok(0))
            || self.0.get_ref().take_error().is_ok_and(|e| e.is_some())
            || matches!(self.0.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_connection_carries_many_requests_in_order() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\nPOST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcGET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /c HTTP/1.1\r\nhost: x\r\n\r\n");
    let bodies: Vec<_> = (0..4).map(|_| String::from_utf8(client.answer().body).unwrap()).collect();
    assert_eq!(bodies, ["GET /a 0 0", "POST /b 3 294", "slow", "GET /c 0 0"]);
    client.send("OPTIONS /o HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(client.answer().body, b"OPTIONS /o 0 0");
    assert!(client.closed());
}

#[test]
fn a_connection_goes_to_the_core_of_its_work_and_loses_nothing() {
    let server = server_with(2, Limits::default(), 1 << 30);
    let mut client = Client::new(&server);
    // Requests without a pause, cut anywhere: it leaves with parts of the next ones read.
    let ask = |client: &mut Client, work: usize, count: usize| {
        let all: Vec<u8> = (0..count)
            .flat_map(|n| {
                let body = "a".repeat(n % 700);
                format!("POST /work/{work} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    .into_bytes()
            })
            .collect();
        let mut socket = client.0.get_ref().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            for (n, piece) in all.chunks(997).enumerate() {
                socket.write_all(piece).unwrap();
                if n % 16 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut cores = Vec::new();
        for n in 0..count {
            let body = String::from_utf8(client.answer().body).unwrap();
            let (core, rest) = body.split_once(' ').unwrap();
            assert_eq!(rest, format!("{} {}", n % 700, 97 * (n % 700)));
            cores.push(core.parse::<usize>().unwrap());
        }
        sending.join().unwrap();
        cores
    };
    // A few connections may go in a tick, so it may take until the next one.
    let follows = |client: &mut Client, work: usize| {
        until("the connection moves", || *ask(client, work, 300).last().unwrap() == work);
        assert_eq!(ask(client, work, 300), vec![work; 300]);
    };
    for work in [1, 0, 1] {
        follows(&mut client, work);
    }
    // Another one stays where its work is, and one that says it closes is closed, not moved.
    let mut other = Client::new(&server);
    assert_eq!(ask(&mut other, 0, 300), vec![0; 300]);
    std::thread::sleep(Duration::from_millis(600));
    ask(&mut other, 1, 15);
    other.send("GET /work/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(other.answer().body, b"0 0 0");
    assert!(other.closed());
    server.stop.store(true, Ordering::SeqCst);
    assert!(client.closed());
    assert!(server.drained.recv().unwrap() && server.drained.recv().unwrap());
}

#[test]
fn a_prompt_client_keeps_nobody_else_waiting() {
    // A look as long as this would be noticed by everybody who had to wait for its end.
    let server = server(Limits { spin: Duration::from_secs(60), ..Limits::default() });
    let mut prompt = Client::new(&server);
    let ask = |client: &mut Client, n: usize| {
        client.send(format!(
            "GET /{n} HTTP/1.1\r\nhost: x\r\n\r\nPOST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na"
        ));
        client.send("bc");
        assert_eq!(client.answer().body, format!("GET /{n} 0 0").as_bytes());
        assert_eq!(client.answer().body, format!("POST /{n} 3 294").as_bytes());
    };
    for n in 0..500 {
        ask(&mut prompt, n);
    }
    // The first is silent now, and perhaps being looked at.
    let mut other = Client::new(&server);
    ask(&mut other, 0);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| (0..500).for_each(|n| ask(&mut prompt, n)));
        (0..50).for_each(|n| ask(&mut other, n));
        busy.join().unwrap();
    });
    server.stop.store(true, Ordering::SeqCst);
    assert!(prompt.closed() && other.closed());
    assert!(server.drained.recv().unwrap());
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("HEAD /big HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n");
    let (status, headers) = client.head().unwrap();
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-length".into(), "100000".into())), "{headers:?}");
    assert_eq!(client.answer().body, b"GET /next 0 0");
    client.send("HEAD /length HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n");
    let (_, headers) = client.head().unwrap();
    assert!(headers.contains(&("content-length".into(), "77".into())), "{headers:?}");
    assert_eq!(client.answer().body, b"GET /next 0 0");
}

#[test]
fn chunked_and_gzipped_bodies_are_decoded() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answer().body, b"POST /c 5 495");
    let plain = vec![1u8; 3_000_000];
    let packed = gzip(&plain);
    client.send(format!(
        "POST /z HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    ));
    client.send(&packed);
    assert_eq!(client.answer().body, b"POST /z 3000000 3000000");
    client.send(format!(
        "POST /z HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len() - 4
    ));
    client.send(&packed[..packed.len() - 4]);
    assert_eq!(client.answer().status, 400);
    client.send("GET /after HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.answer().body, b"GET /after 0 0");
}

#[test]
fn large_answers_are_compressed_when_accepted() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("GET /big HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip, deflate\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, vec![b'x'; 100_000]);
    client.send("GET /small HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(client.answer().header("content-encoding"), None);
    client.send("GET /big HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.answer().body.len(), 100_000);
}

#[test]
fn bodies_over_the_limit_answer_413() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n");
    client.send(vec![b'a'; 1001]);
    assert_eq!(client.answer().status, 413);
    // Decoded size counts, whatever was sent.
    let mut client = Client::new(&server);
    let bomb = gzip(&vec![0; 50_000_000]);
    client.send(format!(
        "POST /x HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len().min(900)
    ));
    client.send(&bomb[..bomb.len().min(900)]);
    assert_eq!(client.answer().status, 413);
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n");
    client.send(vec![b'a'; 1001]);
    client.send("\r\n0\r\n\r\n");
    assert_eq!(client.answer().status, 413);
}

#[test]
fn declared_length_over_the_limit_is_refused_before_any_of_the_body() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut client = Client::new(&server);
        let begun = Instant::now();
        client.send(format!("POST /x HTTP/1.1\r\nhost: x\r\n{expect}content-length: {}\r\n\r\n", 4_u64 << 30));
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{expect}");
        assert!(client.closed(), "its side is closed with the answer");
        assert!(begun.elapsed() < Duration::from_secs(3), "{expect}: {:?}", begun.elapsed());
    }
}

#[test]
fn chunked_body_over_the_limit_is_refused_when_it_passes_it() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n");
    client.send(vec![b'a'; 1001]);
    client.send("\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(client.closed());
}

#[test]
fn client_that_sends_first_and_reads_later_sees_its_refusal() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    for _ in 0..5 {
        let mut client = Client::new(&server);
        client.send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n");
        client.send(vec![b'a'; 9_000_000]);
        assert_eq!(client.answer().status, 413);
        assert!(client.closed());
    }
}

#[test]
fn client_that_keeps_sending_after_its_refusal_is_cut_off() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    let mut client = Client::new(&server);
    client.send(format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 4_u64 << 30));
    let piece = vec![b'a'; 1 << 20];
    let sent = (0..200).take_while(|_| client.0.get_mut().write_all(&piece).is_ok()).count();
    assert!((16..100).contains(&sent), "cut off after {sent} MiB");

    // Slowly: the time is bounded, not only the bytes.
    let mut client = Client::new(&server);
    client.send(format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 4_u64 << 30));
    until("a client that trickles is cut off", || client.0.get_mut().write_all(b"a").is_err());
}

#[test]
fn bytes_in_flight_are_bounded_and_given_back() {
    let server = server_of(Limits::default(), 1000);
    let mut client = Client::new(&server);
    for _ in 0..3 {
        client.send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n");
        client.send(vec![b'a'; 1001]);
        assert_eq!(client.answer().status, 429);
        client.send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
        client.send(vec![b'a'; 1000]);
        assert_eq!(client.answer().status, 200);
    }
    // A length that is announced is taken before the first byte comes; what is not announced, as it comes.
    client.send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n");
    assert_eq!(client.answer().status, 429);
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n");
    client.send(vec![b'a'; 1001]);
    client.send("\r\n0\r\n\r\n");
    assert_eq!(client.answer().status, 429);
}

#[test]
fn continue_is_sent_only_when_the_body_is_wanted() {
    let server = server(Limits { body_bytes_max: 1000, ..Limits::default() });
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.head().unwrap().0, 100);
    client.send("abc");
    assert_eq!(client.answer().body, b"POST /x 3 294");
    let mut client = Client::new(&server);
    client.send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    let mut client = Client::new(&server);
    client.send("GET /x HTTP/1.1\r\nhost: x\r\nexpect: a pony\r\n\r\n");
    assert_eq!(client.answer().status, 417);
}

#[test]
fn long_lines_and_headers_answer_400_and_absurd_ones_do_not_reach_us() {
    let server = server(Limits::default());
    let check = |request: String, statuses: &[u16]| {
        let mut client = Client::new(&server);
        // An absurd head is answered, or cut off, before it is all sent.
        let _ = client.0.get_mut().write_all(request.as_bytes());
        let status = client.head().map_or(0, |(status, _)| status);
        assert!(statuses.contains(&status), "{status} for {}", request.get(..40).unwrap_or(&request));
    };
    let path = |n: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(n));
    // "GET /" and " HTTP/1.1" take 14 bytes.
    check(path(4096 - 14), &[200]);
    check(path(4097 - 14), &[400]);
    check(format!("GET / HTTP/1.1\r\nhost: x\r\nh: {}\r\n\r\n", "a".repeat(9000)), &[400]);
    check(path(100_000), &[400, 414, 0]);
    check(format!("GET / HTTP/1.1\r\nhost: x\r\nh: {}\r\n\r\n", "a".repeat(1 << 20)), &[400, 431, 0]);
    check("NONSENSE\u{1}\r\n\r\n".into(), &[400]);
    check("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd".into(), &[400]);
    // Smuggling: a request with both framings must not leave bytes that are read as the next request.
    let mut client = Client::new(&server);
    client.send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n");
    let first = client.answer();
    assert!(first.status == 400 || first.body == b"POST /a 0 0", "{}", first.status);
}

#[test]
fn an_unread_body_does_not_cost_the_client_its_answer() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send(format!("POST /ignore HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 5 << 20));
    client.send(vec![b'a'; 5 << 20]);
    assert_eq!(client.answer().body, b"not read");
    client.send("GET /next HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.answer().body, b"GET /next 0 0");
}

#[test]
fn a_panic_answers_500_and_harms_nobody() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.answer().status, 500);
    assert_eq!(client.answer().body, b"GET /next 0 0");
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let server = server(Limits::default());
    let mut client = Client::new(&server);
    client.send("GET /forever HTTP/1.1\r\nhost: x\r\n\r\n");
    until("started", || server.started.load(Ordering::SeqCst) == 1);
    assert_eq!(server.dropped.load(Ordering::SeqCst), 0);
    drop(client);
    until("dropped", || server.dropped.load(Ordering::SeqCst) == 1);
}

#[test]
fn stalled_clients_are_closed() {
    let second = Duration::from_secs(1);
    let limits = Limits {
        header_timeout: second,
        body_timeout: second,
        write_timeout: second,
        idle_timeout: second,
        ..Limits::default()
    };
    let server = server(limits);
    let mut head = Client::new(&server);
    head.send("GET / HTT");
    let mut body = Client::new(&server);
    body.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc");
    let mut idle = Client::new(&server);
    idle.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    // Never reads its 64 MiB.
    let mut write = Client::new(&server);
    write.send("GET /huge HTTP/1.1\r\nhost: x\r\n\r\n");
    // A slow handler is no stall of the client's.
    let mut slow = Client::new(&server);
    slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(slow.answer().body, b"slow");
    assert!(head.closed());
    assert!(body.closed());
    assert!(idle.closed());
    let mut got = Vec::new();
    assert!(write.0.read_to_end(&mut got).is_err() || got.len() < 64 << 20);
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let server = server(Limits { connections_max: 2, ..Limits::default() });
    let mut kept: Vec<_> = (0..2).map(|_| Client::new(&server)).collect();
    for client in &mut kept {
        client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    assert!(Client::new(&server).closed());
    kept.pop();
    until("a place gets free", || {
        let mut client = Client::new(&server);
        client.0.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").is_ok() && client.head().is_some()
    });
}

#[test]
fn a_busy_client_is_told_to_close_before_it_is_hung_up_on() {
    let server = server(Limits { linger: Duration::from_secs(60), ..Limits::default() });
    let mut busy = Client::new(&server);
    let mut ask = || {
        busy.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        busy.answer()
    };
    assert_eq!(ask().status, 200);
    server.stop.store(true, Ordering::SeqCst);
    loop {
        let answer = ask();
        assert_eq!(answer.status, 200);
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    assert!(busy.closed());
    assert!(server.drained.recv().unwrap());
}

#[test]
fn draining_finishes_what_is_in_work_and_closes_the_rest() {
    let server = server(Limits::default());
    let mut idle = Client::new(&server);
    idle.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    let mut busy = Client::new(&server);
    busy.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    until("started", || server.started.load(Ordering::SeqCst) == 1);
    server.stop.store(true, Ordering::SeqCst);
    let answer = busy.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(busy.closed());
    assert!(idle.closed());
    assert!(server.drained.recv().unwrap());
}

//! A server whose delays are known: what the load generator is checked against.
//!
//! Request `n` (in order of arrival) is answered `delays[n % len]` after it was read, and nothing is answered during a
//! stall. The stub also records how long every request was really in it, so that its own lateness is not taken for the
//! generator's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::record::histogram;
use super::worker::pin;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const LISTENER: u64 = u64::MAX;

/// How the stub behaves.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    pub(super) delays: Vec<Duration>,
    /// From, to: after the first request; ascending.
    pub(super) stalls: Vec<(Duration, Duration)>,
    /// A CPU of its own, where it polls without pause.
    pub(super) core: Option<usize>,
}

/// A running stub.
pub(super) struct Stub {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Histogram<u64>, String>>,
}

impl Stub {
    pub(super) fn start(behaviour: Behaviour) -> Result<Stub, String> {
        assert!(!behaviour.delays.is_empty());
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("stub".to_owned())
            .spawn(move || serve(&listener, &behaviour, &stopped))
            .map_err(|e| e.to_string())?;
        Ok(Stub { address, stop, thread })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; how long requests were in it.
    pub(super) fn stop(self) -> Result<Histogram<u64>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the stub panicked".to_owned())?
    }
}

struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

fn serve(listener: &TcpListener, behaviour: &Behaviour, stop: &AtomicBool) -> Result<Histogram<u64>, String> {
    if let Some(core) = behaviour.core {
        pin(core)?;
    }
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let text = |e: rustix::io::Errno| format!("stub: {e}");
    let epoll: OwnedFd = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(text)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).map_err(text)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut waiting: BinaryHeap<Reverse<(Instant, u64, usize, Instant)>> = BinaryHeap::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    let mut times = histogram();
    let (mut count, mut first) = (0u64, None);
    while !stop.load(Ordering::Relaxed) {
        while let Some(Reverse((due, _, index, came))) = waiting.peek().copied() {
            if due > Instant::now() {
                break;
            }
            waiting.pop();
            // An answer of a hundred bytes fits any socket's buffer; a client that is gone is forgotten.
            let sent = clients[index].as_mut().is_some_and(|c| c.socket.write_all(ANSWER).is_ok());
            if sent {
                times.saturating_record(came.elapsed().as_nanos() as u64);
            }
        }
        let pause = match (behaviour.core, waiting.peek()) {
            (Some(_), _) => Duration::ZERO,
            (None, Some(Reverse((due, ..)))) => due.saturating_duration_since(Instant::now()),
            (None, None) => Duration::from_millis(20),
        };
        let pause = pause.min(Duration::from_millis(20));
        let timeout = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(text(e)),
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
                    ready.map_err(|e| format!("stub: {e}"))?;
                    let token = epoll::EventData::new_u64(clients.len() as u64);
                    epoll::add(&epoll, &socket, token, epoll::EventFlags::IN).map_err(text)?;
                    clients.push(Some(Client { socket, input: Vec::new() }));
                }
                continue;
            }
            let index = event.data.u64() as usize;
            let Some(client) = &mut clients[index] else { continue };
            let Ok(requests) = client.requests() else {
                clients[index] = None;
                continue;
            };
            let now = Instant::now();
            for _ in 0..requests {
                let start = *first.get_or_insert(now);
                let mut due = now + behaviour.delays[(count % behaviour.delays.len() as u64) as usize];
                for (from, to) in &behaviour.stalls {
                    if due >= start + *from && due < start + *to {
                        due = start + *to;
                    }
                }
                waiting.push(Reverse((due, count, index, now)));
                count += 1;
            }
        }
    }
    Ok(times)
}

impl Client {
    /// Reads; how many requests are complete with that. An error when the client is gone.
    fn requests(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(e) => return Err(e),
        }
        let mut complete = 0;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            let parsed = request.parse(&self.input).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let httparse::Status::Complete(head) = parsed else { return Ok(complete) };
            let length = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse::<usize>().ok()).unwrap_or(0);
            if self.input.len() < head + length {
                return Ok(complete);
            }
            self.input.drain(..head + length);
            complete += 1;
        }
    }
}

//! The listener: one thread that accepts connections from other nodes, shakes hands, and hands them out by lane.
//!
//! It owns no executor: whoever connects and says nothing, or the wrong thing, is seen by this thread only.
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | connections that have not said hello | 256 | closed at once |
//! | time to say it | 10 s | closed |

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::peers::Own;
use crate::wire::Lane;
use crate::wire::handshake::{self, Hello, Identity, Refusal, RefusalReason, Reply, VERSIONS};

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// Connections whose hello has not come.
const PENDING_MAX: usize = 256;
/// How long it may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after a failed accept: out of descriptors, it would fail again at once.
const REST: Duration = Duration::from_millis(10);
const EINVAL: i32 = 22;

/// Who may connect, by address; what a handshake says is asked after that.
#[derive(Clone, Debug, Default)]
pub enum Admission {
    /// Only this machine.
    #[default]
    Loopback,
    /// This machine, and addresses that begin like one of these, in so many bits.
    Networks(Vec<(IpAddr, u8)>),
    /// Everybody.
    Any,
}

impl Admission {
    /// Whether `address` may.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Admission::Any => true,
            _ if address.is_loopback() => true,
            Admission::Loopback => false,
            Admission::Networks(networks) => networks.iter().any(|(network, bits)| {
                let (a, b, width) = match (address, network.to_canonical()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
                    (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
                    _ => return false,
                };
                (a ^ b).checked_shr(width - u32::from(*bits).min(width)).unwrap_or(0) == 0
            }),
        }
    }
}

/// A connection after its handshake, for an executor to serve.
#[derive(Debug)]
pub struct Accepted {
    /// Does not block.
    pub socket: Socket,
    /// Who is at the other end, as it says.
    pub identity: Identity,
    /// What the connection is for.
    pub lane: Lane,
    /// The protocol version of both ends.
    pub version: u16,
    /// Where the other end is.
    pub peer: SocketAddr,
}

/// A bound listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds and listens. Port 0 takes any free one. A second node on the port fails.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let address =
            socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("listening socket without an address"))?;
        Ok(Listener { socket: socket.into(), address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts accepting. `deliver` gets every connection that may be, on the listener's thread; it must not block. Those of
    /// [`Lane::Cluster`] belong on the coordination thread, the others on the cores in turn.
    pub fn start(
        self,
        own: Own,
        admission: Admission,
        deliver: impl FnMut(Accepted) + Send + 'static,
    ) -> io::Result<ListenerHandle> {
        let stopper = Socket::from(self.socket.try_clone()?);
        let mut door = Door { own, admission, deliver, pending: Vec::new() };
        let thread = std::thread::Builder::new().name("transport".into()).spawn(move || {
            while let Ok(true) = door.turn(&self.socket).inspect_err(|e| tracing::error!(error = %e, "cannot listen")) {
            }
        })?;
        Ok(ListenerHandle { stopper, thread: Some(thread) })
    }
}

/// Stops the listener when told to, or when dropped.
pub struct ListenerHandle {
    stopper: Socket,
    thread: Option<JoinHandle<()>>,
}

impl ListenerHandle {
    /// Stops accepting; returns when no more connections will be delivered.
    pub fn stop(&mut self) {
        let _ = self.stopper.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Who stands before the door.
struct Door<D> {
    own: Own,
    admission: Admission,
    deliver: D,
    pending: Vec<Pending>,
}

/// A connection whose hello has not come.
struct Pending {
    socket: TcpStream,
    peer: SocketAddr,
    bytes: Vec<u8>,
    until: Instant,
}

impl<D: FnMut(Accepted)> Door<D> {
    /// Waits for something, and does it. False when the listener was stopped.
    fn turn(&mut self, listener: &TcpListener) -> io::Result<bool> {
        let now = Instant::now();
        self.pending.retain(|pending| pending.until > now);
        let first = self.pending.iter().map(|pending| pending.until).min();
        let timeout = first.map(|until| {
            let wait = until - now;
            Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() }
        });
        let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
        polled.extend(self.pending.iter().map(|pending| PollFd::new(&pending.socket, PollFlags::IN)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        let waiting: Vec<Pending> = self.pending.drain(..).collect();
        for (pending, ready) in waiting.into_iter().zip(&ready[1..]) {
            match ready {
                true => self.listen_to(pending),
                false => self.pending.push(pending),
            }
        }
        if ready[0] { self.accept(listener) } else { Ok(true) }
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<bool> {
        match listener.accept() {
            Ok((socket, peer)) => {
                if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_err() {
                } else if self.pending.len() >= PENDING_MAX {
                    tracing::warn!(%peer, "too many connections say nothing");
                } else if !self.admission.admits(peer.ip()) {
                    tracing::warn!(%peer, "a connection that is not allowed");
                    let text = format!("[{}] may not connect to this node", peer.ip());
                    refuse(socket, Refusal { reason: RefusalReason::NotAllowed, text });
                } else {
                    let until = Instant::now() + HELLO_TIMEOUT;
                    self.pending.push(Pending { socket, peer, bytes: Vec::new(), until });
                }
            }
            // What `shutdown` of a listening socket makes of an accept.
            Err(e) if e.raw_os_error() == Some(EINVAL) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept connections");
                std::thread::sleep(REST);
            }
        }
        Ok(true)
    }

    fn listen_to(&mut self, mut pending: Pending) {
        let mut some = [0; 512];
        match (&pending.socket).read(&mut some) {
            Ok(0) => return,
            Ok(n) => pending.bytes.extend_from_slice(&some[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
        let peer = pending.peer;
        match Hello::decode(&pending.bytes) {
            Ok(None) => self.pending.push(pending),
            // Who does not wait for the reply does not follow the protocol.
            Ok(Some(_)) if handshake::size(&pending.bytes) != Ok(Some(pending.bytes.len())) => {
                tracing::warn!(%peer, "bytes behind a hello");
            }
            Ok(Some(hello)) => {
                let own = self.own.get();
                match handshake::judge(&hello, &own, VERSIONS) {
                    Ok(version) => {
                        let welcome = Reply::Welcome { version, identity: own }.encode();
                        // It fits: nothing else was sent on this connection.
                        if (&pending.socket).write(&welcome).is_ok_and(|n| n == welcome.len()) {
                            let Hello { lane, identity, .. } = hello;
                            (self.deliver)(Accepted { socket: pending.socket.into(), identity, lane, version, peer });
                        }
                    }
                    Err(refusal) => {
                        tracing::warn!(%peer, reason = %refusal, "a node is refused");
                        refuse(pending.socket, refusal);
                    }
                }
            }
            Err(e) => tracing::warn!(%peer, error = %e, "a connection that is not from a node"),
        }
    }
}

fn refuse(socket: TcpStream, refusal: Refusal) {
    let _ = (&socket).write(&Reply::Refused(refusal).encode());
    // What the other end has sent meanwhile would answer it with a reset, which may overtake the refusal.
    let _ = socket.shutdown(Shutdown::Write);
    let _ = (&socket).read(&mut [0; 4096]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ids::NodeId;
    use std::sync::mpsc;

    fn identity(node: u128) -> Identity {
        Identity {
            node: NodeId(node),
            ephemeral_id: "e".into(),
            name: format!("n{node}"),
            cluster_name: "docs".into(),
            cluster_uuid: None,
            address: "127.0.0.1:1".into(),
        }
    }

    fn hello() -> Hello {
        Hello { lane: Lane::Recovery, versions: VERSIONS, expected: None, identity: identity(1) }
    }

    struct Started {
        address: SocketAddr,
        accepted: mpsc::Receiver<Accepted>,
        handle: ListenerHandle,
    }

    fn start(admission: Admission) -> Started {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address();
        let (tx, accepted) = mpsc::channel();
        let handle = listener.start(Own::new(identity(2)), admission, move |a| drop(tx.send(a))).unwrap();
        Started { address, accepted, handle }
    }

    /// What comes back until the far end closes or has welcomed.
    fn reply(socket: &mut TcpStream) -> Option<Reply> {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = Vec::new();
        let mut some = [0; 100];
        loop {
            if let Some((reply, _)) = Reply::decode(&bytes).unwrap() {
                return Some(reply);
            }
            match socket.read(&mut some).unwrap_or(0) {
                0 => return None,
                n => bytes.extend_from_slice(&some[..n]),
            }
        }
    }

    #[test]
    fn a_hello_in_pieces_is_welcomed_and_handed_out() {
        let started = start(Admission::Loopback);
        let mut socket = TcpStream::connect(started.address).unwrap();
        let mut silent = TcpStream::connect(started.address).unwrap();
        for piece in hello().encode().chunks(10) {
            socket.set_nodelay(true).unwrap();
            socket.write_all(piece).unwrap();
        }
        assert_eq!(reply(&mut socket), Some(Reply::Welcome { version: 1, identity: identity(2) }));
        let accepted = started.accepted.recv().unwrap();
        assert_eq!((accepted.lane, accepted.identity), (Lane::Recovery, identity(1)));
        assert_eq!(accepted.peer, socket.local_addr().unwrap());
        // Another one that has not said anything yet does not stand in the way.
        silent.write_all(&hello().encode()).unwrap();
        assert!(matches!(reply(&mut silent), Some(Reply::Welcome { .. })));
    }

    #[test]
    fn who_does_not_belong_here_is_told_why() {
        let started = start(Admission::Loopback);
        let check = |hello: Hello, reason: RefusalReason| {
            let mut socket = TcpStream::connect(started.address).unwrap();
            socket.write_all(&hello.encode()).unwrap();
            match reply(&mut socket) {
                Some(Reply::Refused(refusal)) => assert_eq!(refusal.reason, reason, "{refusal}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0, "closed");
        };
        check(Hello { versions: (7, 9), ..hello() }, RefusalReason::Version);
        check(Hello { expected: Some(NodeId(3)), ..hello() }, RefusalReason::WrongNode);
        let other = Identity { cluster_name: "logs".into(), ..identity(1) };
        check(Hello { identity: other, ..hello() }, RefusalReason::ClusterName);
        assert!(started.accepted.try_recv().is_err());
    }

    #[test]
    fn other_protocols_and_the_impatient_are_hung_up_on() {
        let started = start(Admission::Loopback);
        for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), [hello().encode(), b"frame".to_vec()].concat()] {
            let mut socket = TcpStream::connect(started.address).unwrap();
            socket.write_all(&bytes).unwrap();
            assert_eq!(reply(&mut socket), None);
        }
        assert!(started.accepted.try_recv().is_err());
    }

    #[test]
    fn stop_ends_the_thread_and_frees_the_port() {
        let mut started = start(Admission::Any);
        assert!(Listener::bind(started.address).is_err(), "a second node on the port");
        started.handle.stop();
        assert!(TcpStream::connect(started.address).is_err());
        Listener::bind(started.address).unwrap();
    }

    #[test]
    fn addresses_are_admitted_by_their_beginning() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let networks = Admission::Networks(vec![(ip("10.1.0.0"), 16), (ip("fd00::"), 8), (ip("192.0.2.7"), 32)]);
        for (address, admitted) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.255.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(networks.admits(ip(address)), admitted, "{address}");
        }
        assert!(Admission::Networks(vec![(ip("0.0.0.0"), 0)]).admits(ip("8.8.8.8")));
        assert!(!Admission::Networks(vec![(ip("0.0.0.0"), 0)]).admits(ip("2001:db8::1")));
        assert!(!Admission::Loopback.admits(ip("10.1.0.1")));
    }
}

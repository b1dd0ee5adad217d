//! The acceptor: one thread that owns the listening socket and deals connections out.
//!
//! The listener is a plain one (no `SO_REUSEPORT`), so that a second node on the port fails to bind.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;
/// Rest after a failed accept: out of descriptors, it would fail again at once.
const REST: Duration = Duration::from_millis(10);

/// A bound listening socket.
pub struct Acceptor {
    socket: Socket,
    address: SocketAddr,
}

impl Acceptor {
    /// Binds and listens. Port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> io::Result<Acceptor> {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // Lets a restarted node take the port while old connections linger; a live listener still refuses us.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let address =
            socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("listening socket without an address"))?;
        Ok(Acceptor { socket, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts accepting. `deliver` gets every connection, on the acceptor's thread; it must not block for long.
    pub fn start(self, mut deliver: impl FnMut(Socket, SocketAddr) + Send + 'static) -> io::Result<AcceptorHandle> {
        let stopper = self.socket.try_clone()?;
        let thread = std::thread::Builder::new().name("accept".into()).spawn(move || {
            let mut warned: Option<Instant> = None;
            loop {
                match self.socket.accept() {
                    Ok((socket, peer)) => {
                        let Some(peer) = peer.as_socket() else { continue };
                        // A connection reset before we saw it fails here; it is nobody's problem.
                        if socket.set_nodelay(true).is_ok() {
                            deliver(socket, peer);
                        }
                    }
                    // What `shutdown` of a listening socket makes of a waiting accept.
                    Err(e) if e.raw_os_error() == Some(EINVAL) => return,
                    Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                            tracing::warn!(error = %e, "cannot accept connections");
                            warned = Some(Instant::now());
                        }
                        std::thread::sleep(REST);
                    }
                }
            }
        })?;
        Ok(AcceptorHandle { stopper, thread: Some(thread) })
    }
}

const EINVAL: i32 = 22;

/// Stops the acceptor when told to, or when dropped.
pub struct AcceptorHandle {
    stopper: Socket,
    thread: Option<JoinHandle<()>>,
}

impl AcceptorHandle {
    /// Stops accepting; returns when no more connections will be delivered.
    pub fn stop(&mut self) {
        let _ = self.stopper.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for AcceptorHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::sync::mpsc;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn second_listener_on_a_port_is_refused() {
        let first = Acceptor::bind(any()).unwrap();
        let second = Acceptor::bind(first.address());
        assert_eq!(second.err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn stop_ends_a_waiting_accept_and_frees_the_port() {
        let acceptor = Acceptor::bind(any()).unwrap();
        let address = acceptor.address();
        let (tx, rx) = mpsc::channel();
        let mut handle = acceptor.start(move |socket, peer| tx.send((socket, peer)).unwrap()).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_socket, peer) = rx.recv().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        handle.stop();
        assert!(TcpStream::connect(address).is_err());
        drop(client);
        Acceptor::bind(address).unwrap();
    }
}

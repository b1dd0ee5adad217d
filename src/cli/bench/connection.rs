//! One HTTP/1.1 connection that never blocks: a request at a time, then its answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::answer::{Head, Parser};

/// A connection, in one of the states of [`State`].
#[derive(Default)]
pub(super) struct Connection {
    socket: Option<TcpStream>,
    state: State,
    out: Vec<u8>,
    written: usize,
    /// epoll also tells when there is room to write.
    wants_room: bool,
    bodiless: bool,
    parser: Parser,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Down,
    Connecting,
    Idle,
    Busy,
}

/// What an event brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing that matters outside.
    None,
    Connected,
    /// The answer is complete; its body is [`Connection::body`] until the next request.
    Answer(Head),
    /// The connection is down. Busy ones lose their request.
    Lost(&'static str),
}

impl Connection {
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn body(&self) -> &[u8] {
        self.parser.body()
    }

    /// Begins to connect; `token` comes back with its events.
    pub(super) fn connect(&mut self, address: SocketAddr, epoll: &OwnedFd, token: u64) -> io::Result<()> {
        self.close();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        epoll::add(epoll, &socket, EventData::new_u64(token), EventFlags::IN | EventFlags::OUT)?;
        self.wants_room = true;
        self.socket = Some(socket);
        self.state = State::Connecting;
        Ok(())
    }

    pub(super) fn close(&mut self) {
        // Closing it takes it out of epoll, too: there is no second descriptor.
        self.socket = None;
        self.state = State::Down;
    }

    /// Sends a request; takes its bytes and leaves memory to be used again. Only on an idle connection.
    pub(super) fn send(
        &mut self,
        request: &mut Vec<u8>,
        bodiless: bool,
        epoll: &OwnedFd,
        token: u64,
    ) -> Result<(), &'static str> {
        assert_eq!(self.state, State::Idle);
        std::mem::swap(&mut self.out, request);
        (self.written, self.bodiless, self.state) = (0, bodiless, State::Busy);
        self.parser.reset();
        self.flush(epoll, token)
    }

    fn flush(&mut self, epoll: &OwnedFd, token: u64) -> Result<(), &'static str> {
        let Some(socket) = &mut self.socket else { return Err("no connection") };
        while self.written < self.out.len() {
            match socket.write(&self.out[self.written..]) {
                Ok(0) => return Err("the connection takes no more"),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err("the connection broke"),
            }
        }
        let wants = self.written < self.out.len();
        if wants != self.wants_room {
            self.wants_room = wants;
            let flags = if wants { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, socket.as_fd(), EventData::new_u64(token), flags).map_err(|_| "epoll failed")?;
        }
        Ok(())
    }

    /// Does what epoll says can be done.
    pub(super) fn ready(&mut self, flags: EventFlags, scratch: &mut [u8], epoll: &OwnedFd, token: u64) -> Event {
        let event = self.try_ready(flags, scratch, epoll, token).unwrap_or_else(Event::Lost);
        if matches!(event, Event::Lost(_)) {
            self.close();
        }
        event
    }

    fn try_ready(
        &mut self,
        flags: EventFlags,
        scratch: &mut [u8],
        epoll: &OwnedFd,
        token: u64,
    ) -> Result<Event, &'static str> {
        let Some(socket) = &mut self.socket else { return Ok(Event::None) };
        if self.state == State::Connecting {
            match rustix::net::sockopt::socket_error(&*socket) {
                Ok(Ok(())) => {}
                _ => return Err("cannot connect"),
            }
            if !flags.contains(EventFlags::OUT) {
                return Ok(Event::None);
            }
            self.state = State::Idle;
            (self.written, self.wants_room) = (self.out.len(), true);
            self.flush(epoll, token)?;
            return Ok(Event::Connected);
        }
        if flags.contains(EventFlags::OUT) && self.state == State::Busy {
            self.flush(epoll, token)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(Event::None);
        }
        let Some(socket) = &mut self.socket else { return Ok(Event::None) };
        loop {
            let n = match socket.read(scratch) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Event::None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err("the connection broke"),
            };
            if self.state != State::Busy {
                return Err(if n == 0 { "closed while idle" } else { "bytes that nobody asked for" });
            }
            if n == 0 {
                return match self.parser.end() {
                    Some(head) => Ok(self.answered(head)),
                    None if self.parser.begun() => Err("closed within the answer"),
                    None => Err("closed without an answer"),
                };
            }
            if let Some(head) = self.parser.feed(&scratch[..n], self.bodiless)? {
                return Ok(self.answered(head));
            }
            if n < scratch.len() {
                return Ok(Event::None);
            }
        }
    }

    fn answered(&mut self, head: Head) -> Event {
        // An answer before the whole request is out leaves the connection in the middle of it.
        if head.keeps && self.written == self.out.len() {
            self.state = State::Idle;
        } else {
            self.close();
        }
        Event::Answer(head)
    }
}

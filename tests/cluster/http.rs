//! A client of one connection that knows what became of a request.
//!
//! A library's client may send a request again by itself when a kept connection turns out closed; then a write could happen
//! twice and a history would be wrong. This one never does, and tells "was not sent" from "nobody knows".

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Not a byte of the request has left.
    NotSent(String),
    /// It may have been carried out.
    Unknown(String),
}

/// A keep-alive connection to one address, opened when needed.
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: SocketAddr, timeout: Duration) -> Client {
        Client { address, timeout, connection: None }
    }

    /// Status and JSON body (or the text, where it is none).
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Lost> {
        let mut connection = match self.kept() {
            Some(kept) => kept,
            None => self.connect().map_err(|e| Lost::NotSent(format!("{}: {e}", self.address)))?,
        };
        let text = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            self.address,
            text.len()
        );
        let unknown = |e: std::io::Error| Lost::Unknown(format!("{}: {e}", self.address));
        connection.get_mut().write_all(head.as_bytes()).map_err(unknown)?;
        let (status, body) = read_answer(&mut connection).map_err(unknown)?;
        self.connection = Some(connection);
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
        Ok((status, json))
    }

    /// The open connection, unless the server has closed it meanwhile.
    fn kept(&mut self) -> Option<BufReader<TcpStream>> {
        let kept = self.connection.take()?;
        let stream = kept.get_ref();
        stream.set_nonblocking(true).ok()?;
        let idle = matches!(stream.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).ok()?;
        idle.then_some(kept)
    }

    fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

fn read_answer(from: &mut impl BufRead) -> std::io::Result<(u16, Vec<u8>)> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no status line"))?;
    let mut length = None;
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let mut body = vec![0; length.ok_or_else(|| bad("no length of the body"))?];
    from.read_exact(&mut body)?;
    Ok((status, body))
}

//! HTTP/1.1 answers from bytes as they arrive, without a socket: heads by httparse, then a body by length, by chunks, or
//! until the connection closes.

/// Bytes of a head; beyond it the answer is refused.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body; beyond it the answer is refused.
const BODY_BYTES_MAX: usize = 256 << 20;
const HEADERS_MAX: usize = 64;

/// What a head said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The connection can take another request afterwards.
    pub(super) keeps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    UntilClose,
}

/// Parses one answer after the other; never two at once, as requests are not pipelined.
pub(super) struct Parser {
    input: Vec<u8>,
    at: usize,
    body: Vec<u8>,
    state: State,
    head: Head,
}

impl Default for Parser {
    fn default() -> Parser {
        let head = Head { status: 0, keeps: true };
        Parser { input: Vec::new(), at: 0, body: Vec::new(), state: State::Head, head }
    }
}

impl Parser {
    /// Forgets the last answer; keeps its memory unless it was large.
    pub(super) fn reset(&mut self) {
        self.input.clear();
        self.body.clear();
        self.input.shrink_to(1 << 20);
        self.body.shrink_to(1 << 20);
        (self.at, self.state) = (0, State::Head);
    }

    /// The body, complete when [`Parser::feed`] or [`Parser::end`] said so.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Some of the answer has arrived.
    pub(super) fn begun(&self) -> bool {
        self.state != State::Head || !self.input.is_empty()
    }

    /// Takes bytes; an answer when they complete it. `bodiless`: the request was a HEAD.
    pub(super) fn feed(&mut self, bytes: &[u8], bodiless: bool) -> Result<Option<Head>, &'static str> {
        self.input.extend_from_slice(bytes);
        loop {
            let rest = &self.input[self.at..];
            match self.state {
                State::Head => {
                    let Some((length, head, state)) = parse_head(rest, bodiless)? else { return Ok(None) };
                    self.at += length;
                    // 100-continue and its like come before the answer.
                    if head.status >= 200 {
                        (self.head, self.state) = (head, state);
                    }
                }
                State::Length(missing) | State::Chunk(missing) => {
                    let n = missing.min(rest.len());
                    if self.body.len() + n > BODY_BYTES_MAX {
                        return Err("a body of more than 256 MiB");
                    }
                    self.body.extend_from_slice(&rest[..n]);
                    self.at += n;
                    let chunk = matches!(self.state, State::Chunk(_));
                    if n < missing {
                        self.state = if chunk { State::Chunk(missing - n) } else { State::Length(missing - n) };
                        self.drop_consumed();
                        return Ok(None);
                    }
                    if !chunk {
                        return self.complete();
                    }
                    self.state = State::ChunkEnd;
                }
                State::ChunkEnd => {
                    if rest.len() < 2 {
                        return Ok(None);
                    }
                    if &rest[..2] != b"\r\n" {
                        return Err("a chunk without its line end");
                    }
                    self.at += 2;
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => match httparse::parse_chunk_size(rest).map_err(|_| "a bad chunk size")? {
                    httparse::Status::Partial if rest.len() > 1024 => return Err("a bad chunk size"),
                    httparse::Status::Partial => return Ok(None),
                    httparse::Status::Complete((length, size)) => {
                        self.at += length;
                        let size = usize::try_from(size).map_err(|_| "a bad chunk size")?;
                        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                    }
                },
                State::Trailer => {
                    // Trailer lines are skipped; an empty line ends them.
                    let Some(end) = rest.windows(2).position(|w| w == b"\r\n") else {
                        return if rest.len() > HEAD_BYTES_MAX { Err("a trailer too long") } else { Ok(None) };
                    };
                    self.at += end + 2;
                    if end == 0 {
                        return self.complete();
                    }
                }
                State::UntilClose => {
                    if self.body.len() + rest.len() > BODY_BYTES_MAX {
                        return Err("a body of more than 256 MiB");
                    }
                    self.body.extend_from_slice(rest);
                    self.at = self.input.len();
                    self.drop_consumed();
                    return Ok(None);
                }
            }
        }
    }

    /// The connection was closed: that can complete an answer.
    pub(super) fn end(&mut self) -> Option<Head> {
        (self.state == State::UntilClose).then_some(Head { keeps: false, ..self.head })
    }

    fn complete(&self) -> Result<Option<Head>, &'static str> {
        if self.at < self.input.len() { Err("bytes after the end of an answer") } else { Ok(Some(self.head)) }
    }

    fn drop_consumed(&mut self) {
        self.input.drain(..self.at);
        self.at = 0;
    }
}

/// Length of the head, what it says, and how its body comes; none while it is incomplete.
fn parse_head(bytes: &[u8], bodiless: bool) -> Result<Option<(usize, Head, State)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes).map_err(|_| "not an HTTP/1 answer")? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => return Err("a head too long"),
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    let mut keeps = response.version == Some(1);
    let (mut declared, mut chunked) = (None, false);
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let parsed = std::str::from_utf8(value).ok().and_then(|v| v.parse::<usize>().ok());
            declared = Some(parsed.ok_or("a bad content-length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer encoding other than chunked");
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            let has = |word: &[u8]| value.split(|b| *b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word));
            keeps = (keeps && !has(b"close")) || has(b"keep-alive");
        }
    }
    let state = if bodiless || status == 204 || status == 304 {
        State::Length(0)
    } else if chunked {
        State::ChunkSize
    } else {
        declared.map_or(State::UntilClose, State::Length)
    };
    Ok(Some((length, Head { status, keeps }, state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses `text`, in pieces of `step` bytes.
    fn parse(text: &str, step: usize, bodiless: bool) -> Result<Option<(Head, String)>, &'static str> {
        let mut parser = Parser::default();
        for piece in text.as_bytes().chunks(step) {
            if let Some(head) = parser.feed(piece, bodiless)? {
                return Ok(Some((head, String::from_utf8(parser.body().to_vec()).unwrap())));
            }
        }
        Ok(parser.end().map(|head| (head, String::from_utf8(parser.body().to_vec()).unwrap())))
    }

    fn check(text: &str, status: u16, keeps: bool, body: &str) {
        for step in [1, 2, 3, 7, 1000] {
            let (head, found) = parse(text, step, false).unwrap().unwrap_or_else(|| panic!("{step}: {text}"));
            assert_eq!((head, found.as_str()), (Head { status, keeps }, body), "{step}: {text}");
        }
    }

    #[test]
    fn answers_are_parsed_however_they_are_cut() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, true, "hello");
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", 200, false, "");
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, true, "");
        check(
            "HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nA: b\r\n\r\n",
            201,
            true,
            "wikipedia",
        );
        check("HTTP/1.0 429 No\r\n\r\nuntil the end", 429, false, "until the end");
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, true, "{}");
    }

    #[test]
    fn a_head_request_is_answered_without_a_body() {
        let (head, body) = parse("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", 5, true).unwrap().unwrap();
        assert_eq!((head.status, body.as_str()), (200, ""));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
        ] {
            assert!(parse(text, 1000, false).is_err(), "{text}");
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", 3, false), Ok(None));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..9) {
            let mut parser = Parser::default();
            for prefix in [&b""[..], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"] {
                parser.reset();
                let _ = parser.feed(prefix, false);
                for piece in bytes.chunks(step) {
                    if parser.feed(piece, false).is_err() {
                        break;
                    }
                }
                let _ = parser.end();
            }
        }
    }
}

//! What a client should not send: every piece of it gets a clear answer, changes nothing, and leaves nothing behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Server, fresh_directory};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
/// Deep enough for any stack, if somebody descends.
const DEEP: usize = 100_000;
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// One answer on a raw connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// Reads one answer; none if the connection ends first.
fn receive(stream: &mut TcpStream) -> Option<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return None,
            Err(e) => panic!("no answer: {e}; so far {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).expect("a head of ASCII").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Answer { status, head, body })
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut out =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
    out.extend_from_slice(body);
    out
}

/// Sends bytes on a connection of their own. What cannot be written any more has been refused before.
fn send(server: &Server, bytes: &[u8]) -> Option<Answer> {
    let mut stream = connect(server);
    let _ = stream.write_all(bytes);
    receive(&mut stream)
}

fn ask(server: &Server, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
    let bytes = request(method, path, &format!("content-type: {kind}\r\n"), body);
    send(server, &bytes).unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

/// Insists on an answer in Elasticsearch's shape with `status`, and on `part` in it.
fn refused(answer: &Answer, what: &str, status: u16, part: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    let start: String = text.chars().take(600).collect();
    assert_eq!(answer.status, status, "{what}: {start}");
    assert!(answer.head.contains("content-type: application/json"), "{what}: {}", answer.head);
    let json = answer.json();
    let error = &json["error"];
    let shaped = error["type"].is_string() && error["reason"].is_string() && error["root_cause"].is_array();
    assert!(shaped || error.is_string(), "{what}: {start}");
    assert!(error.is_string() || json["status"] == status, "{what}: {start}");
    assert!(text.contains(part), "{what}: [{part}] is missing: {start}");
    assert!(text.len() < 16 << 10, "{what}: an error of {} bytes", text.len());
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> Vec<u8> {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)).into_bytes()
}

/// What there is: indices, and documents in them.
fn contents(server: &Server) -> Value {
    let client = server.client();
    assert_eq!(client.ask("POST", "/_refresh", None).0, 200);
    let (status, indices) = client.ask("GET", "/_cat/indices?format=json&h=index,docs.count&s=index", None);
    assert_eq!(status, 200, "{indices}");
    let (status, mapping) = client.ask("GET", "/_mapping", None);
    assert_eq!(status, 200, "{mapping}");
    json!([indices, mapping])
}

fn malformed_bodies(server: &Server) {
    let docs: &[(&[u8], &str)] = &[
        (b"", "parse"),
        (b"{", ""),
        (b"{\"n\":1", ""),
        (b"{\"n\":}", ""),
        (b"[]", ""),
        (b"7", ""),
        (b"{\"n\":1}}", ""),
        (b"{\"n\":\"one\"}", "failed to parse field [n] of type [long]"),
        (b"{\"n\":1e400}", ""),
        (b"{\"n\":1000000000000000000000000000000}", ""),
        (b"{\"n\":{\"a\":1}}", "failed to parse"),
        (b"{\"d\":\"not a date\"}", "failed to parse field [d] of type [date]"),
        (b"{\"t\":\"\xff\xfe\"}", ""),
        (b"{\"t\":\"\x00\"}", ""),
        (b"{\"t\":\"\\ud800\"}", ""),
        (b"\x00\x00\x00", ""),
    ];
    for (body, part) in docs {
        let what = format!("document {}", String::from_utf8_lossy(body));
        refused(&ask(server, "PUT", "/i/_doc/bad", JSON, body), &what, 400, part);
    }
    let bulks: &[(&[u8], &str)] = &[
        (b"", "request body is required"),
        (b"\n", "no requests added"),
        (b"{\"index\":{}}\n{\"n\":1}", "must be terminated by a newline"),
        (b"{\"index\":{\n", ""),
        (b"{\"oops\":{}}\n{}\n", "Malformed action/metadata line [1]"),
        (b"[]\n", "Malformed action/metadata line [1]"),
        (b"{\"index\":{\"_id\":[1]}}\n{}\n", "Malformed action/metadata line [1]"),
        (b"{\"index\":{\"_id\":\"\xff\"}}\n{}\n", ""),
        (b"\x00\n", ""),
    ];
    for (body, part) in bulks {
        let what = format!("bulk {}", String::from_utf8_lossy(body));
        refused(&ask(server, "POST", "/i/_bulk", NDJSON, body), &what, 400, part);
    }
    let searches: &[(&str, &str)] = &[
        ("{", ""),
        ("[]", ""),
        (r#"{"query":7}"#, ""),
        (r#"{"query":{"mtach":{"t":"x"}}}"#, "did you mean [match]"),
        (r#"{"query":{"match":{"t":"x"},"term":{"t":"x"}}}"#, ""),
        (r#"{"size":-1}"#, ""),
        (r#"{"size":1e400}"#, ""),
        (r#"{"size":1000000000000000000000000000000}"#, ""),
        (r#"{"from":10000,"size":10}"#, "Result window is too large"),
        (r#"{"query":{"range":{"n":{"gte":"x"}}}}"#, ""),
        (r#"{"aggs":{"a":{"terms":{"field":"n","size":0}}}}"#, ""),
        (r#"{"aggs":{"a":{"nothing":{}}}}"#, ""),
        (r#"{"sort":{"n":{"order":"sideways"}}}"#, ""),
        (r#"{"query":{"regexp":{"t":"["}}}"#, ""),
        (r#"{"query":{"query_string":{"query":"(("}}}"#, ""),
    ];
    for (body, part) in searches {
        refused(&ask(server, "POST", "/i/_search", JSON, body.as_bytes()), body, 400, part);
    }
    refused(&ask(server, "PUT", "/i/_doc/bad", "text/plain", b"{}"), "text/plain", 406, "text/plain");
}

fn deep_bodies(server: &Server) {
    let check = |what: &str, method: &str, path: &str, kind: &str, body: &[u8]| {
        refused(&ask(server, method, path, kind, body), what, 400, "");
    };
    check("objects", "PUT", "/i/_doc/bad", JSON, &nested("{\"a\":", "1", "}", DEEP));
    check("arrays", "PUT", "/i/_doc/bad", JSON, &[b"{\"a\":".as_slice(), &nested("[", "", "]", DEEP), b"}"].concat());
    check(
        "an action line",
        "POST",
        "/i/_bulk",
        NDJSON,
        &[nested("{\"index\":", "1", "}", DEEP), b"\n{}\n".to_vec()].concat(),
    );
    check("an update", "POST", "/i/_update/1", JSON, &nested("{\"doc\":", "1", "}", DEEP));
    check("a mapping", "PUT", "/i/_mapping", JSON, &nested("{\"properties\":{\"a\":", "{}", "}}", DEEP));
    check("settings", "PUT", "/new", JSON, &nested("{\"settings\":", "{}", "}", DEEP));
    let bool_query = nested("{\"bool\":{\"must\":", "{\"match_all\":{}}", "}}", DEEP);
    check("a query", "POST", "/i/_search", JSON, &[b"{\"query\":".as_slice(), &bool_query, b"}"].concat());
    let aggs = nested("{\"aggs\":{\"a\":{\"global\":{},\"aggs\":{\"a\":", "{}", "}}}}", DEEP);
    check("aggregations", "POST", "/i/_search", JSON, &aggs);
    let parentheses = String::from_utf8(nested("(", "x", ")", DEEP)).expect("ASCII");
    for kind in ["query_string", "simple_query_string"] {
        let body = json!({"query": {kind: {"query": parentheses, "fields": ["t"]}}}).to_string();
        let answer = ask(server, "POST", "/i/_search", JSON, body.as_bytes());
        // The simple one forgives everything that is not short of a stack.
        assert!(answer.status == 400 || kind == "simple_query_string" && answer.status == 200, "{kind}: {answer:?}");
    }
    let body = json!({"query": {"regexp": {"t": parentheses}}}).to_string();
    check("a regular expression", "POST", "/i/_search", JSON, body.as_bytes());
    // A bulk item fails alone.
    let line = [b"{\"index\":{\"_id\":\"bad\"}}\n".as_slice(), &nested("{\"a\":", "1", "}", DEEP), b"\n"].concat();
    let answer = ask(server, "POST", "/i/_bulk", NDJSON, &line);
    let item = &answer.json()["items"][0]["index"];
    assert_eq!((answer.status, item["status"].as_u64()), (200, Some(400)), "{answer:?}");
}

fn paths(server: &Server) {
    let long = "x".repeat(256);
    let names = [
        "..",
        ".",
        "%2e%2e",
        "%2E",
        "a%2fb",
        "..%2f..%2fetc",
        "_x",
        "-x",
        "+x",
        "Abc",
        "a%5Cb",
        "a%20b",
        "a%22b",
        "a%3Cb",
        "a%2Cb%2C..",
        "a%00b",
        "%ff%fe",
        "%c3%28",
        "a%",
        "a%zz",
        &long,
    ];
    for name in names {
        refused(&ask(server, "PUT", &format!("/{name}"), JSON, b""), name, 400, "");
        let answer = ask(server, "PUT", &format!("/{name}/_doc/1"), JSON, b"{\"n\":1}");
        assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
    }
    let id = "x".repeat(513);
    refused(&ask(server, "PUT", &format!("/i/_doc/{id}"), JSON, b"{}"), "an id of 513 bytes", 400, "id");
    refused(&ask(server, "PUT", "/i/_doc/%ff", JSON, b"{}"), "an id that is no UTF-8", 400, "UTF-8");
    refused(&ask(server, "GET", "/i/_search?q=%ff", JSON, b""), "a query that is no UTF-8", 400, "UTF-8");
    refused(&ask(server, "GET", &format!("/{}", "a/".repeat(1000)), JSON, b""), "many segments", 400, "no handler");
    refused(&ask(server, "GET", "/i/_search?rutting=1", JSON, b""), "a parameter", 400, "did you mean [routing]");
    refused(&ask(server, "PUT", "/i/_doc/1?refesh=true", JSON, b"{}"), "a parameter", 400, "did you mean [refresh]");
    refused(&ask(server, "GET", "/i/_search?size=1e400", JSON, b""), "a number", 400, "size");
    let line = ask(server, "GET", &format!("/{}", "y".repeat(5000)), JSON, b"");
    refused(&line, "a long line", 400, "4096");
    for (method, path, allowed) in
        [("DELETE", "/i/_search", "post"), ("DELETE", "/i/_count", "get"), ("PATCH", "/i/_doc/1", "put")]
    {
        let answer = ask(server, method, path, JSON, b"");
        refused(&answer, path, 405, "Incorrect HTTP method");
        let allow = answer.head.lines().find_map(|l| l.strip_prefix("allow: ")).expect("an Allow header").to_owned();
        assert!(allow.contains(allowed), "{method} {path}: {allow}");
    }
    assert_eq!(ask(server, "BREW", "/i", JSON, b"").status, 405);
}

/// Bytes that are not quite HTTP: refused, or read as the one thing they say.
fn framing(server: &Server) {
    let malformed: &[&[u8]] = &[
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: 1e3\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n{}",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n{}",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /i/_doc HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /i/_doc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n8000000000000001\r\n{}",
    ];
    for bytes in malformed {
        let shown = String::from_utf8_lossy(bytes);
        match send(server, bytes) {
            Some(answer) => assert!((400..500).contains(&answer.status) || answer.status == 505, "{shown}: {answer:?}"),
            // Where a body's framing breaks there is no telling where an answer would belong.
            None => assert!(shown.contains("HTTP/1.1\r\nhost: x\r\ncontent-type"), "{shown}: closed without an answer"),
        }
    }
    // Both lengths: the chunks count, and what follows them is the next request, never part of this body.
    let both = b"POST /i/_search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\
        transfer-encoding: chunked\r\n\r\n0\r\n\r\nDELETE /i HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nexpect: nothing\r\n\r\n";
    let mut stream = connect(server);
    stream.write_all(both).expect("it takes bytes");
    let first = receive(&mut stream).expect("an answer");
    assert!(first.status == 200 || first.status == 400, "{first:?}");
    if first.status == 200 {
        assert!(receive(&mut stream).is_none_or(|second| second.status == 417), "the next request was not read as one");
    }

    let many: Vec<u8> = (0..20).flat_map(|n| request("GET", &format!("/i/_doc/none-{n}"), "", b"")).collect();
    let mut stream = connect(server);
    stream.write_all(&many).expect("it takes bytes");
    for n in 0..20 {
        let answer = receive(&mut stream).expect("an answer to each");
        assert_eq!((answer.status, answer.json()["_id"].as_str()), (404, Some(format!("none-{n}").as_str())));
    }
}

fn large_bodies(server: &Server) {
    // Said in advance: refused before any of it comes, whether or not the client waits to be told to send it.
    let head = "PUT /i/_doc/bad HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let before = server.memory("VmHWM");
    for expect in ["", "expect: 100-continue\r\n"] {
        let begun = Instant::now();
        let bytes = format!("{head}{expect}content-length: {}\r\n\r\n", 4_u64 << 30).into_bytes();
        refused(&send(server, &bytes).expect("an answer"), "4 GiB, none of it sent", 413, "content_too_long");
        assert!(begun.elapsed() < Duration::from_secs(1), "answered after {:?}", begun.elapsed());
    }
    // Sent all the same: a part is read, so that the client gets to see the answer.
    let mut declared = format!("{head}content-length: {}\r\n\r\n", 4_u64 << 30).into_bytes();
    declared.resize(declared.len() + (8 << 20), b' ');
    refused(&send(server, &declared).expect("an answer"), "4 GiB, declared", 413, "content_too_long");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 20, "refusing a declared length took {grown} bytes");

    // Not said: refused when it is too much.
    let mut stream = connect(server);
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).expect("it takes a head");
    let piece = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    // Until it stops reading: it drains some, so that we see the answer.
    let sent = (0..140).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent >= 100, "refused after {sent} MiB");
    if let Some(answer) = receive(&mut stream) {
        refused(&answer, "140 MiB in chunks", 413, "content_too_long");
    }

    // A few hundred kilobytes that want to be 400 MB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    (0..400).for_each(|_| bomb.write_all(&zeros).expect("memory"));
    let bomb = bomb.finish().expect("memory");
    assert!(bomb.len() < 4 << 20);
    let bytes = request("PUT", "/i/_doc/bad", "content-type: application/json\r\ncontent-encoding: gzip\r\n", &bomb);
    refused(&send(server, &bytes).expect("an answer"), "a gzip bomb", 413, "content_too_long");
    let bytes =
        request("PUT", "/i/_doc/bad", "content-type: application/json\r\ncontent-encoding: gzip\r\n", b"not gzip");
    refused(&send(server, &bytes).expect("an answer"), "no gzip", 400, "");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 400 << 20, "bodies over the limit of 100 MiB took {grown} bytes");
}

/// Clients that stall are cut off after the time limit and not before; others do not notice.
fn slow_clients(server: &Server) {
    let begun = Instant::now();
    let mut slow = connect(server);
    let mut silent_body = connect(server);
    silent_body
        .write_all(
            b"PUT /i/_doc/bad HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        )
        .expect("it takes a head");
    let mut cut = None;
    for byte in b"GET / HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat_n(&b'x', 200)) {
        if slow.write_all(&[*byte]).is_err() {
            cut = Some(begun.elapsed());
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let cut = cut.expect("a byte every 100 ms for 20 s is too slow");
    assert!(cut >= READ_TIMEOUT && cut < READ_TIMEOUT + Duration::from_secs(10), "cut off after {cut:?}");
    let mut rest = Vec::new();
    let _ = silent_body.read_to_end(&mut rest);
    assert!(begun.elapsed() >= READ_TIMEOUT, "a body that stops is waited for");
    assert_eq!(ask(server, "GET", "/", JSON, b"").status, 200);

    // Half closed: nobody waits for the answer.
    for _ in 0..50 {
        let mut half = connect(server);
        half.write_all(&request("POST", "/i/_search", "content-type: application/json\r\n", b"{}"))
            .expect("it takes bytes");
        half.shutdown(Shutdown::Write).expect("a half can be closed");
        let _ = half.read_to_end(&mut rest);
        let mut torn = connect(server);
        torn.write_all(b"PUT /i/_doc/bad HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"n\":1")
            .expect("it takes bytes");
        drop(torn);
    }
}

fn settled_descriptors(server: &Server, at_most: usize) -> usize {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let now = server.descriptors();
        if now <= at_most || Instant::now() > until {
            return now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn bad_input_is_refused_and_leaves_nothing_behind() {
    let data = fresh_directory("bad-input");
    let server = Server::start_with(&data, &[("RINGDEX_HTTP_READ_TIMEOUT", "2s")]);
    let index = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {"n": {"type": "long"}, "d": {"type": "date"}, "t": {"type": "text"}}}});
    assert_eq!(server.client().ask("PUT", "/i", Some(&index)).0, 200);
    for id in 0..3 {
        let doc = json!({"n": id, "t": "some text"});
        assert_eq!(server.client().ask("PUT", &format!("/i/_doc/{id}"), Some(&doc)).0, 201);
    }
    let before = contents(&server);
    let descriptors = server.descriptors();
    let mut memory = Vec::new();
    // What one round leaves may be caches; what each round leaves is a leak.
    for _ in 0..7 {
        malformed_bodies(&server);
        deep_bodies(&server);
        paths(&server);
        framing(&server);
        large_bodies(&server);
        memory.push(server.memory("VmRSS"));
    }
    slow_clients(&server);
    assert_eq!(contents(&server), before, "something was written");
    let after = settled_descriptors(&server, descriptors + 2);
    assert!(after <= descriptors + 2, "{descriptors} descriptors before, {after} after");
    let grown = memory.windows(2).skip(1).map(|two| two[1].saturating_sub(two[0])).min();
    assert!(grown < Some(16 << 20), "memory grows with every round: {memory:?}");
    drop(server);
    std::fs::remove_dir_all(&data).expect("it can go");
}

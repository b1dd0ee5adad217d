//! `ringdex load`: streams a file of documents into an index of any server with the bulk API.
//!
//! ```text
//! reader thread: lines -> batches    bounded queue    N clients: POST _bulk, retry what answered 429
//! ```

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// Bytes of a bulk request, whatever `--batch` says.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Times a document or request is tried again before it counts as failed.
const TRIES_MAX: u32 = 12;
/// Errors that are printed one by one.
const ERRORS_SHOWN: usize = 20;
/// CSV rows that decide whether a column is numeric.
const CSV_SAMPLE: usize = 1000;

#[derive(Debug, Args)]
#[command(after_help = "\
A line's `_id` member becomes the document's id and is left out of its source. With --id FIELD the id is taken from that
field, which stays. CSV needs a header line; columns whose first rows are all numbers are sent as numbers.

Examples:
  ringdex load cities.ndjson.gz --index cities --mapping cities.json
  ringdex load people.csv --index people --id email --clients 8
  zcat *.gz | ringdex load - --index logs

Exit code: 0 every document is in, 1 some were refused, 2 it could not be done.")]
pub(super) struct LoadArgs {
    /// NDJSON or CSV, possibly gzipped; - for NDJSON from the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Index to load into
    #[arg(long)]
    index: String,
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:9200", env = "RINGDEX_URL")]
    url: String,
    /// Field to take ids from
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// Documents per bulk request
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Bulk requests at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Create the index first, with this body: settings and mappings, or mappings alone
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
}

/// One bulk request: action and source lines in turn.
#[derive(Default)]
struct Batch {
    /// Both lines of each document.
    documents: Vec<Vec<u8>>,
    /// Line numbers in the file.
    lines: Vec<u64>,
    bytes: usize,
}

#[derive(Default)]
struct Totals {
    done: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    stop: AtomicBool,
    errors: Mutex<Vec<String>>,
}

impl Totals {
    fn fail(&self, count: u64, error: impl FnOnce() -> String) {
        self.failed.fetch_add(count, Ordering::Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(|e| e.into_inner());
        if errors.len() < ERRORS_SHOWN {
            errors.push(error());
        }
    }
}

pub(super) fn run(args: &LoadArgs) -> Result<i32, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(300)))
        .build()
        .into();
    let base = args.url.trim_end_matches('/').to_owned();
    let index = encode(&args.index);
    if let Some(path) = &args.mapping {
        create_index(&agent, &format!("{base}/{index}"), path)?;
    }
    let (input, size) = open(&args.file)?;
    let bar = progress(size);
    let read = Arc::new(AtomicU64::new(0));
    let lines = documents(args, Counted { inner: input, read: Arc::clone(&read) })?;
    let totals = Arc::new(Totals::default());
    let begun = Instant::now();
    let url = format!("{base}/{index}/_bulk");

    std::thread::scope(|scope| {
        let (tx, rx) = mpsc::sync_channel::<Batch>(args.clients as usize);
        let rx = Arc::new(Mutex::new(rx));
        for _ in 0..args.clients {
            let (rx, totals, agent, url) = (Arc::clone(&rx), Arc::clone(&totals), agent.clone(), url.clone());
            scope.spawn(move || {
                loop {
                    // Held only while waiting for the next batch.
                    let next = rx.lock().unwrap_or_else(|e| e.into_inner()).recv();
                    let Ok(batch) = next else { return };
                    send(&agent, &url, batch, &totals);
                }
            });
        }
        let fed = feed(lines, args.batch as usize, &tx, &totals, || {
            let done = totals.done.load(Ordering::Relaxed);
            bar.set_position(read.load(Ordering::Relaxed));
            let rate = done as f64 / begun.elapsed().as_secs_f64().max(1e-9);
            bar.set_message(format!("{done} documents, {rate:.0}/s"));
        });
        drop(tx);
        fed
    })?;

    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let (done, failed) = (totals.done.load(Ordering::Relaxed), totals.failed.load(Ordering::Relaxed));
    let errors = totals.errors.lock().unwrap_or_else(|e| e.into_inner());
    for error in errors.iter() {
        eprintln!("{error}");
    }
    if failed as usize > errors.len() {
        eprintln!("... and {} more", failed as usize - errors.len());
    }
    println!(
        "{done} documents in {seconds:.1} s ({:.0}/s), {failed} failed, {} tried again",
        done as f64 / seconds.max(1e-9),
        totals.retried.load(Ordering::Relaxed)
    );
    if totals.stop.load(Ordering::Relaxed) {
        return Err("the server cannot be reached; stopped".into());
    }
    Ok(i32::from(failed > 0))
}

type Line = Result<(u64, Vec<u8>), String>;

/// Gathers documents into batches until the input ends.
fn feed(
    lines: impl Iterator<Item = Line>,
    batch_documents: usize,
    to: &mpsc::SyncSender<Batch>,
    totals: &Totals,
    mut tick: impl FnMut(),
) -> Result<(), String> {
    let mut batch = Batch::default();
    for line in lines {
        if totals.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        match line {
            Ok((number, document)) => {
                batch.bytes += document.len();
                batch.documents.push(document);
                batch.lines.push(number);
            }
            Err(e) => totals.fail(1, || e),
        }
        if batch.documents.len() >= batch_documents || batch.bytes >= BATCH_BYTES_MAX {
            tick();
            let _ = to.send(std::mem::take(&mut batch));
        }
    }
    if !batch.documents.is_empty() {
        let _ = to.send(batch);
    }
    tick();
    Ok(())
}

#[derive(Deserialize)]
struct BulkAnswer<'a> {
    #[serde(default)]
    errors: bool,
    #[serde(borrow, default)]
    items: Vec<std::collections::BTreeMap<Cow<'a, str>, BulkItem<'a>>>,
}

#[derive(Deserialize)]
struct BulkItem<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Sends a batch until every document is in or refused for good.
fn send(agent: &ureq::Agent, url: &str, mut batch: Batch, totals: &Totals) {
    for attempt in 0..=TRIES_MAX {
        if totals.stop.load(Ordering::Relaxed) {
            return;
        }
        if attempt > 0 {
            totals.retried.fetch_add(batch.documents.len() as u64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50 << attempt.min(7)));
        }
        let last = attempt == TRIES_MAX;
        let count = batch.documents.len() as u64;
        let body = batch.documents.concat();
        let answered =
            agent.post(url).header("content-type", "application/x-ndjson").send(&body[..]).and_then(|mut r| {
                let status = r.status().as_u16();
                r.body_mut().with_config().limit(u64::MAX).read_to_vec().map(|body| (status, body))
            });
        let (status, answer) = match answered {
            Ok(answered) => answered,
            Err(e) if last || attempt >= 5 => {
                totals.fail(count, || format!("{url}: {e}"));
                totals.stop.store(true, Ordering::Relaxed);
                return;
            }
            Err(_) => continue,
        };
        if matches!(status, 429 | 502 | 503) && !last {
            continue;
        }
        if status >= 300 {
            totals.fail(count, || format!("{url}: {status} {}", clip(&String::from_utf8_lossy(&answer))));
            return;
        }
        let Ok(parsed) = serde_json::from_slice::<BulkAnswer<'_>>(&answer) else {
            totals.fail(count, || format!("{url}: not a bulk answer: {}", clip(&String::from_utf8_lossy(&answer))));
            return;
        };
        if !parsed.errors {
            totals.done.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let mut again = Batch::default();
        let items = parsed.items.iter().map(|item| item.values().next());
        for ((document, line), item) in batch.documents.into_iter().zip(batch.lines).zip(items) {
            match item {
                Some(item) if item.status < 300 => drop(totals.done.fetch_add(1, Ordering::Relaxed)),
                Some(item) if matches!(item.status, 429 | 503) && !last => {
                    again.documents.push(document);
                    again.lines.push(line);
                }
                Some(item) => totals
                    .fail(1, || format!("line {line}: {} {}", item.status, clip(item.error.map_or("", RawValue::get)))),
                None => totals.fail(1, || format!("line {line}: no answer")),
            }
        }
        if again.documents.is_empty() {
            return;
        }
        batch = again;
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(500) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

fn create_index(agent: &ureq::Agent, url: &str, path: &Path) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|e| format!("[{}]: {e}", path.display()))?;
    let body: serde_json::Value = serde_json::from_slice(&text).map_err(|e| format!("[{}]: {e}", path.display()))?;
    let whole = body.get("mappings").is_some() || body.get("settings").is_some() || body.get("aliases").is_some();
    let body = if whole { body } else { serde_json::json!({ "mappings": body }) };
    let sent = agent.put(url).header("content-type", "application/json").send(body.to_string());
    let mut response = sent.map_err(|e| format!("{url}: {e}"))?;
    let status = response.status().as_u16();
    let answer = response.body_mut().read_to_string().unwrap_or_default();
    match status {
        200 => Ok(()),
        // There already: documents are added to it.
        400 if answer.contains("resource_already_exists_exception") => Ok(()),
        _ => Err(format!("cannot create the index: {status} {}", clip(&answer))),
    }
}

/// The input, and its size if it has one.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), String> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let file = std::fs::File::open(path).map_err(|e| format!("[{}]: {e}", path.display()))?;
    let size = file.metadata().ok().map(|m| m.len());
    Ok((Box::new(file), size))
}

/// Counts bytes as they are read, before they are decoded.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn progress(size: Option<u64>) -> ProgressBar {
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::new_spinner(),
    };
    let shape = "{bar:30} {bytes}/{total_bytes} {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Documents of the input as bulk lines, with their line numbers.
fn documents<'a>(
    args: &'a LoadArgs,
    input: impl Read + Send + 'a,
) -> Result<Box<dyn Iterator<Item = Line> + 'a>, String> {
    let mut input: Box<dyn BufRead + 'a> = Box::new(BufReader::with_capacity(1 << 20, input));
    let start = input.fill_buf().map_err(|e| e.to_string())?;
    if start.starts_with(&[0x1f, 0x8b]) {
        input = Box::new(BufReader::with_capacity(1 << 20, flate2::bufread::MultiGzDecoder::new(input)));
    }
    let name = args.file.to_string_lossy();
    if name.trim_end_matches(".gz").ends_with(".csv") {
        return csv_documents(input, args.id.as_deref());
    }
    let mut number = 0;
    let mut line = Vec::new();
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            line.clear();
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => {
                    number = u64::MAX;
                    let error = format!("cannot read on: {e}");
                    input = Box::new(std::io::empty());
                    return Some(Err(error));
                }
            }
            number += 1;
            let text = line.trim_ascii();
            if !text.is_empty() {
                let made = bulk_lines(text, args.id.as_deref());
                return Some(made.map(|d| (number, d)).map_err(|e| format!("line {number}: {e}")));
            }
        }
    })))
}

/// Members of an object in order, their values as written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    members.push((name.0, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The two lines of one document.
pub(super) fn bulk_lines(line: &[u8], id_field: Option<&str>) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(line.len() + 64);
    // Most documents have neither: they go out as they are.
    if id_field.is_none() && !line.windows(5).any(|w| w == b"\"_id\"") {
        if line.first() != Some(&b'{') {
            return Err("not a JSON object".into());
        }
        out.extend_from_slice(b"{\"index\":{}}\n");
        out.extend_from_slice(line);
        out.push(b'\n');
        return Ok(out);
    }
    let members: Members<'_> = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let find = |name: &str| members.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let id = match id_field {
        Some(field) => Some(find(field).ok_or_else(|| format!("no field [{field}]"))?),
        None => find("_id"),
    };
    action(&mut out, id.map(id_text).transpose()?.as_deref());
    out.push(b'{');
    let mut first = true;
    for (name, value) in members.0.iter().filter(|(name, _)| name != "_id") {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let _ = serde_json::to_writer(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.extend_from_slice(b"}\n");
    Ok(out)
}

fn action(out: &mut Vec<u8>, id: Option<&str>) {
    match id {
        None => out.extend_from_slice(b"{\"index\":{}}\n"),
        Some(id) => {
            out.extend_from_slice(b"{\"index\":{\"_id\":");
            let _ = serde_json::to_writer(&mut *out, id);
            out.extend_from_slice(b"}}\n");
        }
    }
}

/// An id from a string, number or boolean.
fn id_text(value: &RawValue) -> Result<String, String> {
    match serde_json::from_str(value.get()) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(value.get().to_owned()),
        _ => Err(format!("{} cannot be an id", clip(value.get()))),
    }
}

fn csv_documents<'a>(
    input: Box<dyn BufRead + 'a>,
    id_field: Option<&str>,
) -> Result<Box<dyn Iterator<Item = Line> + 'a>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(input);
    let header: Vec<String> = reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    let id_column = match id_field.or_else(|| header.iter().any(|h| h == "_id").then_some("_id")) {
        Some(field) => Some(header.iter().position(|h| h == field).ok_or_else(|| format!("no column [{field}]"))?),
        None => None,
    };
    let mut records = reader.into_records();
    let sample: Vec<_> = records.by_ref().take(CSV_SAMPLE).collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| {
            let mut values = sample.iter().flatten().filter_map(|r| r.get(column)).filter(|v| !v.is_empty()).peekable();
            values.peek().is_some() && values.all(is_json_number)
        })
        .collect();
    Ok(Box::new(sample.into_iter().chain(records).map(move |record| {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut out = Vec::new();
        action(&mut out, id_column.and_then(|c| record.get(c)).filter(|id| !id.is_empty()));
        out.push(b'{');
        let mut first = true;
        for (column, value) in record.iter().enumerate() {
            if value.is_empty() || header[column] == "_id" {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            let _ = serde_json::to_writer(&mut out, &header[column]);
            out.push(b':');
            if numeric[column] && is_json_number(value) {
                let _ = out.write_all(value.as_bytes());
            } else {
                let _ = serde_json::to_writer(&mut out, value);
            }
        }
        out.extend_from_slice(b"}\n");
        Ok((line, out))
    })))
}

fn is_json_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// An index name in a path.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(line: &str, id: Option<&str>) -> Result<String, String> {
        bulk_lines(line.as_bytes(), id).map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn ids_are_taken_out_and_the_rest_stays_as_written() {
        let check = |line: &str, id: Option<&str>, expected: &str| assert_eq!(lines(line, id).unwrap(), expected);
        check(r#"{"a": 1.50}"#, None, "{\"index\":{}}\n{\"a\": 1.50}\n");
        check(
            r#"{"_id":"x\"y","a": 1.50, "b":[1, {"_id":2}]}"#,
            None,
            "{\"index\":{\"_id\":\"x\\\"y\"}}\n{\"a\":1.50,\"b\":[1, {\"_id\":2}]}\n",
        );
        check(r#"{"a":"_id","_id":17}"#, None, "{\"index\":{\"_id\":\"17\"}}\n{\"a\":\"_id\"}\n");
        check(r#"{"k":5,"a":"é"}"#, Some("k"), "{\"index\":{\"_id\":\"5\"}}\n{\"k\":5,\"a\":\"é\"}\n");
        check(r#"{"a":{"_id":1}}"#, None, "{\"index\":{}}\n{\"a\":{\"_id\":1}}\n");
    }

    #[test]
    fn lines_that_are_no_documents_are_errors() {
        assert!(lines("[1]", None).is_err());
        assert!(lines("{\"a\":1}", Some("k")).is_err());
        assert!(lines("{\"_id\":{}}", None).is_err());
        assert!(lines("{\"_id\":1", None).is_err());
    }

    #[test]
    fn csv_columns_are_typed_by_their_values() {
        let text = "id,zip,n,empty,t\n1,02134,1.5,,a\n2,10115,-3,,\"b,\"\"c\"\n";
        let made: Vec<String> = csv_documents(Box::new(text.as_bytes()), Some("id"))
            .unwrap()
            .map(|l| String::from_utf8(l.unwrap().1).unwrap())
            .collect();
        assert_eq!(
            made,
            [
                "{\"index\":{\"_id\":\"1\"}}\n{\"id\":1,\"zip\":\"02134\",\"n\":1.5,\"t\":\"a\"}\n",
                "{\"index\":{\"_id\":\"2\"}}\n{\"id\":2,\"zip\":\"10115\",\"n\":-3,\"t\":\"b,\\\"c\"}\n",
            ]
        );
        assert!(csv_documents(Box::new("a\n1\n".as_bytes()), Some("id")).is_err());
        let ragged: Vec<_> = csv_documents(Box::new("a,b\n1\n2,3\n".as_bytes()), None).unwrap().collect();
        assert!(ragged[0].is_err() && ragged[1].is_ok());
    }

    /// A server that answers what a script says, one connection after the other.
    fn scripted(answers: Vec<(u16, &'static str)>) -> (String, mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            while let Ok((socket, _)) = listener.accept() {
                let mut reader = BufReader::new(socket);
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                        let lower = line.to_lowercase();
                        if let Some(value) = lower.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    if length == 0 {
                        break;
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    tx.send(String::from_utf8(body).unwrap()).unwrap();
                    let Some((status, text)) = answers.next() else { return };
                    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", text.len());
                    reader.get_mut().write_all(format!("{head}{text}").as_bytes()).unwrap();
                }
            }
        });
        (url, rx)
    }

    #[test]
    fn only_what_was_rejected_is_sent_again() {
        let some = r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":429,"error":{}}},{"index":{"status":400,"error":{"type":"mapper_parsing_exception"}}}]}"#;
        let (url, bodies) = scripted(vec![(429, "{}"), (200, some), (200, r#"{"errors":false,"items":[]}"#)]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.ndjson");
        std::fs::write(&file, "{\"n\":1}\n\n{\"n\":2}\n{\"n\":3}").unwrap();
        let args = LoadArgs { file, index: "i".into(), url, id: None, batch: 10, clients: 1, mapping: None };
        assert_eq!(run(&args), Ok(1));
        let bodies: Vec<String> = bodies.try_iter().collect();
        assert_eq!(bodies[0], bodies[1]);
        assert_eq!(bodies[0].lines().count(), 6);
        assert_eq!(bodies[2], "{\"index\":{}}\n{\"n\":2}\n");
    }
}

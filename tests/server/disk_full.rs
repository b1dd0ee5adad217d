//! A real filesystem runs full under a server, and gets space again.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::{Client, Server, fresh_directory};

const IMAGE_BYTES: u64 = 64 << 20;
/// More than what the test then writes: when it goes there is space for merges of all that, too.
const FILLER_BYTES: usize = 40 << 20;
/// Documents in a bulk: few syncs, for disks where they are slow.
const BULK: u64 = 20;
/// Writes resume this soon after there is space again.
const RESUME_BOUND: Duration = Duration::from_secs(15);
/// Only so that a test that never ends does end: a slow disk takes its time.
const FILL_BOUND: Duration = Duration::from_secs(300);
/// The disk counts as full when nothing has been accepted for so long.
const SETTLED: Duration = Duration::from_secs(2);

/// An ext4 filesystem in a file.
struct Disk {
    place: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Or why there can be none here.
    fn new(name: &str) -> Result<Disk, String> {
        let place = fresh_directory(name);
        let (image, mount) = (place.join("image"), place.join("mount"));
        std::fs::create_dir(&mount).map_err(|e| e.to_string())?;
        std::fs::File::create(&image).and_then(|f| f.set_len(IMAGE_BYTES)).map_err(|e| e.to_string())?;
        let disk = Disk { place, mount };
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), &image])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &disk.mount])?;
        Ok(disk)
    }

    /// Takes the last block.
    fn top_up(&self) {
        let rest = std::fs::File::options().create(true).append(true).open(self.rest());
        // No space for a name, even.
        let Ok(mut rest) = rest else { return };
        while rest.write_all(&[7; 4096]).is_ok() {}
        let _ = rest.sync_all();
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    fn rest(&self) -> PathBuf {
        self.mount.join("rest")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.mount]).or_else(|_| run("umount", &["-l".as_ref(), &self.mount]));
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

fn run(program: &str, args: &[&Path]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}

/// Text that does not compress away.
fn text(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:x} ")
    };
    (0..240).map(|_| word()).collect()
}

/// What the client knows: which documents were acknowledged.
#[derive(Default)]
struct Written {
    acked: BTreeSet<u64>,
    next: u64,
}

impl Written {
    /// Writes the next documents in one request. How many were refused; a refusal must be one that says why.
    fn bulk(&mut self, client: &Client, count: u64) -> usize {
        let mut body = String::new();
        for n in self.next..self.next + count {
            body += &json!({"index": {"_id": n.to_string()}}).to_string();
            body += "\n";
            body += &json!({"n": n, "text": text(n)}).to_string();
            body += "\n";
        }
        let answer = client.try_ask("POST", "/full/_bulk", Some(&body));
        let (status, answer) = answer.unwrap_or_else(|e| panic!("no answer to a bulk: {e}"));
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap_or_else(|| panic!("no items: {answer}"));
        assert_eq!(items.len() as u64, count, "{answer}");
        let mut refused = 0;
        for (n, item) in (self.next..).zip(items) {
            let item = &item["index"];
            match item["status"].as_u64() {
                Some(201) => drop(self.acked.insert(n)),
                Some(429) => {
                    assert_eq!(item["error"]["type"], "cluster_block_exception", "{item}");
                    refused += 1;
                }
                _ => panic!("document {n}: {item}"),
            }
        }
        self.next += count;
        refused
    }

    /// Fills the disk to its last block, until nothing is accepted any more.
    fn fill(&mut self, disk: &Disk, client: &Client) {
        let until = Instant::now() + FILL_BOUND;
        while self.bulk(client, BULK) == 0 {
            assert!(self.next * 4096 < 2 * IMAGE_BYTES, "a disk of {IMAGE_BYTES} bytes took twice as much");
            assert!(Instant::now() < until, "after {} documents the disk is not full", self.next);
        }
        let mut accepted = Instant::now();
        while accepted.elapsed() < SETTLED {
            assert!(Instant::now() < until, "the disk does not stay full");
            disk.top_up();
            // A merge that runs gives space back when it is given up.
            if self.bulk(client, 1) == 0 || merging(client) {
                accepted = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Exactly what was acknowledged is there.
    fn check(&self, client: &Client) {
        let (status, answer) = client.ask("POST", "/full/_refresh", None);
        assert_eq!(status, 200, "{answer}");
        let (status, found) = client.ask("GET", "/full/_count", None);
        assert_eq!((status, found["count"].as_u64()), (200, Some(self.acked.len() as u64)), "{found}");
        let all = json!({"size": 0, "track_total_hits": true, "query": {"match_all": {}},
            "aggs": {"sum": {"sum": {"field": "n"}}, "max": {"max": {"field": "n"}}}});
        let (status, found) = client.ask("POST", "/full/_search", Some(&all));
        assert_eq!(status, 200, "{found}");
        assert_eq!(found["aggregations"]["max"]["value"].as_f64(), self.acked.last().map(|n| *n as f64));
        assert_eq!(found["aggregations"]["sum"]["value"].as_f64(), Some(self.acked.iter().sum::<u64>() as f64));
        for n in self.acked.iter().step_by(97).chain(self.acked.last()) {
            let (status, got) = client.ask("GET", &format!("/full/_doc/{n}"), None);
            assert_eq!(status, 200, "{got}");
            assert_eq!(got["_source"]["text"].as_str(), Some(text(*n).as_str()), "document {n}");
        }
        for n in (0..self.next).filter(|n| !self.acked.contains(n)).take(50) {
            let (status, got) = client.ask("GET", &format!("/full/_doc/{n}"), None);
            assert_eq!(status, 404, "refused, and there: {got}");
        }
    }
}

fn index_directories(disk: &Disk) -> usize {
    std::fs::read_dir(disk.mount.join("data/indices")).expect("there are indices").count()
}

/// On a full disk nothing is begun that cannot be finished.
fn nothing_is_half_done(disk: &Disk, client: &Client) {
    let directories = index_directories(disk);
    disk.top_up();
    let (status, answer) = client.ask("PUT", "/more", Some(&json!({"settings": {"number_of_replicas": 0}})));
    assert_eq!((status, &answer["error"]["type"]), (429, &json!("cluster_block_exception")), "{answer}");
    assert_eq!(client.ask("HEAD", "/more", None).0, 404);
    assert_eq!(client.ask("GET", "/_cluster/health", None).1["status"], "green");
    assert_eq!(index_directories(disk), directories);

    let (_, before) = client.ask("GET", "/full/_mapping", None);
    let document = json!({"no_room_for_this": 1, "text": text(1) + &text(2)});
    let (status, answer) = client.ask("PUT", "/full/_doc/new-field", Some(&document));
    assert_eq!((status, &answer["error"]["type"]), (429, &json!("cluster_block_exception")), "{answer}");
    assert_eq!(client.ask("GET", "/full/_mapping", None).1, before, "a refused document brought no field");

    // Too much for what the state has in reserve.
    let fields: serde_json::Map<_, _> = (0..900).map(|n| (format!("f{n:0100}"), json!({"type": "long"}))).collect();
    let (status, answer) = client.ask("PUT", "/full/_mapping", Some(&json!({"properties": fields})));
    assert_eq!((status, &answer["error"]["type"]), (429, &json!("cluster_block_exception")), "{answer}");
    assert_eq!(client.ask("GET", "/full/_mapping", None).1, before, "a refused mapping");
}

fn merging(client: &Client) -> bool {
    let (status, stats) = client.ask("GET", "/full/_stats/merge", None);
    assert_eq!(status, 200, "{stats}");
    stats["_all"]["primaries"]["merges"]["current"].as_u64() != Some(0)
}

/// Upkeep that finds no space pauses, whatever is asked meanwhile, and says so once.
fn is_calm(server: &Server, client: &Client, written: &mut Written) {
    let before = server.logged("put off") + server.logged("given up");
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(written.bulk(client, 1), 1, "accepted on a full disk");
        let (status, answer) = client.ask("POST", "/full/_refresh", None);
        assert_eq!(status, 200, "{answer}");
        asked += 1;
    }
    let lines = server.logged("put off") + server.logged("given up") - before;
    assert!(lines <= 2, "{lines} lines about {asked} refused writes");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_and_loses_nothing() {
    let disk = match Disk::new("disk-full") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no small filesystem can be mounted here: {why}"),
    };
    std::fs::write(disk.filler(), vec![7; FILLER_BYTES]).expect("space for the filler");
    let mut server = Server::start(&disk.mount.join("data"));
    let client = server.client();
    let body = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0,
        "index.translog.flush_threshold_size": "2mb"}});
    for name in ["full", "spare"] {
        let (status, answer) = client.ask("PUT", &format!("/{name}"), Some(&body));
        assert_eq!(status, 200, "{answer}");
    }

    let mut written = Written::default();
    written.fill(&disk, &client);
    assert!(written.acked.len() > 500, "refused after {} documents", written.acked.len());
    written.check(&client);
    is_calm(&server, &client, &mut written);
    nothing_is_half_done(&disk, &client);

    // Killed on the full disk, twice: it starts, answers, and refuses what it has no space for.
    for _ in 0..2 {
        server.kill();
        disk.top_up();
        server.restart();
        let client = server.client();
        written.check(&client);
        written.fill(&disk, &client);
        written.check(&client);
        nothing_is_half_done(&disk, &client);
    }

    let client = server.client();
    let (status, answer) = client.ask("DELETE", "/spare", None);
    assert_eq!(status, 200, "an index can be deleted: {answer}");
    for file in [disk.rest(), disk.filler()] {
        std::fs::remove_file(&file).expect("a filler can go");
    }
    let freed = Instant::now();
    while written.bulk(&client, 1) != 0 {
        assert!(freed.elapsed() < RESUME_BOUND, "writes do not resume");
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("writes resumed after {:?}", freed.elapsed());
    for _ in 0..10 {
        assert_eq!(written.bulk(&client, BULK), 0, "refused with space there");
    }
    let (status, answer) = client.ask("PUT", "/more", Some(&body));
    assert_eq!((status, &answer["shards_acknowledged"]), (200, &json!(true)), "{answer}");
    written.check(&client);
    server.kill();
    server.restart();
    written.check(&server.client());

    drop(server);
}

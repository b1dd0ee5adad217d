//! A real filesystem runs full under a server, and gets space again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::{Client, Server, fresh_directory};

const IMAGE_BYTES: u64 = 64 << 20;
const FILLER_BYTES: usize = 16 << 20;
/// Writes resume this soon after there is space again.
const RESUME_BOUND: Duration = Duration::from_secs(15);

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

/// Writes documents from `from` on until one is refused. The first number that was, and the answer.
fn fill(client: &Client, from: u64) -> (u64, u16, serde_json::Value) {
    // More than the disk holds.
    for n in from..from + 2 * IMAGE_BYTES / 4096 {
        let (status, answer) = put(client, n);
        if status != 201 {
            return (n, status, answer);
        }
    }
    panic!("a disk of {IMAGE_BYTES} bytes took more than twice as much");
}

fn put(client: &Client, n: u64) -> (u16, serde_json::Value) {
    client.ask("PUT", &format!("/full/_doc/{n}"), Some(&json!({"n": n, "text": text(n)})))
}

fn all_there(client: &Client, count: u64) {
    assert_eq!(client.ask("POST", "/full/_refresh", None).0, 200);
    let (status, found) = client.ask("GET", "/full/_count", None);
    assert_eq!((status, found["count"].as_u64()), (200, Some(count)), "{found}");
    let all = json!({"size": 0, "track_total_hits": true, "query": {"match_all": {}},
        "aggs": {"sum": {"sum": {"field": "n"}}, "max": {"max": {"field": "n"}}}});
    let (status, found) = client.ask("POST", "/full/_search", Some(&all));
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["aggregations"]["max"]["value"].as_f64(), Some((count - 1) as f64));
    assert_eq!(found["aggregations"]["sum"]["value"].as_f64(), Some((count * (count - 1) / 2) as f64));
    for n in (0..count).step_by(97).chain([count - 1]) {
        let (status, got) = client.ask("GET", &format!("/full/_doc/{n}"), None);
        assert_eq!(status, 200, "{got}");
        assert_eq!(got["_source"]["text"].as_str(), Some(text(n).as_str()), "document {n}");
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_and_loses_nothing() {
    let disk = match Disk::new("disk-full") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no small filesystem can be mounted here: {why}"),
    };
    let filler = disk.mount.join("filler");
    std::fs::write(&filler, vec![7; FILLER_BYTES]).expect("space for the filler");
    let mut server = Server::start(&disk.mount.join("data"));
    let client = server.client();
    let body = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0,
        "index.translog.flush_threshold_size": "2mb"}});
    let (status, answer) = client.ask("PUT", "/full", Some(&body));
    assert_eq!(status, 200, "{answer}");

    let (count, status, answer) = fill(&client, 0);
    assert!(count > 500, "refused after {count} documents: {answer}");
    assert_eq!(status, 429, "{answer}");
    assert_eq!(answer["error"]["type"], "cluster_block_exception", "{answer}");
    all_there(&client, count);
    assert_eq!(client.ask("GET", &format!("/full/_doc/{count}"), None).0, 404, "a refused document is not there");

    std::fs::remove_file(&filler).expect("the filler can go");
    let freed = Instant::now();
    while put(&client, count).0 != 201 {
        assert!(freed.elapsed() < RESUME_BOUND, "writes do not resume: {:?}", put(&client, count));
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut count = count + 1;
    for _ in 0..200 {
        let (status, answer) = put(&client, count);
        assert_eq!(status, 201, "{answer}");
        count += 1;
    }
    all_there(&client, count);
    server.kill();
    server.restart();
    all_there(&server.client(), count);

    drop(server);
}

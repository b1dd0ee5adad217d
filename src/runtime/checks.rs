//! What a node needs of its machine, checked at start; every refusal names the remedy.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Instant;

use ringdex_engine::store::{BLOCK, Directory, File as _};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Locked memory glommio wants per process before it starts at all.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Descriptors below which we warn.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// The lock on a data directory; released when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Locks `data` for this process. The file says who holds it.
pub fn lock_data(data: &Path) -> Result<DataLock, String> {
    let shown = data.display();
    std::fs::create_dir_all(data)
        .map_err(|e| format!("cannot create the data directory [{shown}]: {e}; choose another with --data DIR"))?;
    let path = data.join("node.lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(|e| {
        format!(
            "cannot open [{}]: {e}; the data directory must be writable by the user that runs ringdex",
            path.display()
        )
    })?;
    if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            return Err(format!("cannot lock [{}]: {e}; the file system must support flock", path.display()));
        }
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let holder = holder.lines().next().unwrap_or_default().to_owned();
        return Err(format!(
            "the data directory [{shown}] is in use by another node ({holder}); stop it, or give this one its own with --data DIR"
        ));
    }
    // A whole block: readers that use direct I/O find something to read.
    let mut text = format!("pid {}\n", std::process::id()).into_bytes();
    text.resize(BLOCK, b'\n');
    let written = file.rewind().and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all());
    written.map_err(|e| format!("cannot write [{}]: {e}", path.display()))?;
    Ok(DataLock { _file: file })
}

/// Raises the limits on descriptors and locked memory as far as we may. Warnings come back.
pub fn raise_limits() -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let descriptors = raise(Resource::Nofile);
    if descriptors.is_some_and(|n| n < DESCRIPTORS_WANTED) {
        warnings.push(format!(
            "only {} file descriptors are allowed; raise the hard limit to {DESCRIPTORS_WANTED} (ulimit -Hn, LimitNOFILE= in the systemd unit, --ulimit nofile for containers)",
            descriptors.unwrap_or_default()
        ));
    }
    let memlock = raise(Resource::Memlock);
    match memlock {
        Some(n) if n < MEMLOCK_BYTES_MIN => Err(format!(
            "only {n} bytes of locked memory are allowed, io_uring needs {MEMLOCK_BYTES_MIN}; raise it (ulimit -l 8192, LimitMEMLOCK=8M in the systemd unit, --ulimit memlock=-1 for containers)"
        )),
        _ => Ok(warnings),
    }
}

/// Sets the soft limit to the hard one; gives what holds now (`None` = unlimited).
fn raise(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    if limit.current != limit.maximum {
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(resource).current
}

/// Words for an executor that could not be made.
#[must_use]
pub fn executor_refused(error: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let disabled = read("/proc/sys/kernel/io_uring_disabled");
    let status = read("/proc/self/status");
    let seccomp = status.lines().find_map(|l| l.strip_prefix("Seccomp:")).map_or("", str::trim).to_owned();
    format!("cannot set up io_uring: {error}; {}", io_uring_remedy(error, disabled.trim(), &seccomp))
}

fn io_uring_remedy(error: &str, disabled: &str, seccomp: &str) -> &'static str {
    if error.contains("MemLock") || error.contains("ENOMEM") || error.contains("os error 12") {
        "raise the limit on locked memory (ulimit -l 8192, LimitMEMLOCK=8M in the systemd unit, --ulimit memlock=-1 for containers)"
    } else if disabled == "2" {
        "the kernel has it switched off: sysctl -w kernel.io_uring_disabled=0"
    } else if disabled == "1" {
        "the kernel allows it to a group only: sysctl -w kernel.io_uring_disabled=0, or run as a member of the group in kernel.io_uring_group"
    } else if error.contains("os error 38") || error.contains("ENOSYS") {
        "the kernel is too old or built without it: Linux 5.8 or newer is needed"
    } else if seccomp == "2" {
        "a seccomp filter is in force, as in default containers: run with --security-opt seccomp=unconfined, or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    } else {
        "Linux 5.8 or newer with io_uring allowed is needed"
    }
}

/// Words for a port that could not be bound.
#[must_use]
pub fn bind_refused(address: std::net::SocketAddr, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another with --http ADDRESS:PORT"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; choose another with --http ADDRESS:PORT"
        }
        std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        _ => "choose another with --http ADDRESS:PORT",
    };
    format!("cannot listen on [{address}]: {error}; {remedy}")
}

/// Writes and syncs a block a hundred times; the median in microseconds. Tells what an acknowledged write costs here.
pub async fn sync_probe<D: Directory>(directory: &D) -> ringdex_engine::Result<u64> {
    const ROUNDS: usize = 100;
    const NAME: &str = "sync-probe";
    let file = match directory.create(NAME, BLOCK as u64).await {
        Ok(file) => file,
        Err(e) => {
            let _ = directory.remove(NAME).await;
            return Err(e);
        }
    };
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        file.write_at(0, &[round as u8; BLOCK]).await?;
        file.sync().await?;
        times.push(begun.elapsed());
    }
    file.close().await?;
    directory.remove(NAME).await?;
    times.sort();
    Ok(u64::try_from(times[ROUNDS / 2].as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        let lock = lock_data(&data).unwrap();
        let refused = lock_data(&data).unwrap_err();
        assert!(refused.contains(&format!("pid {}", std::process::id())) && refused.contains("--data"), "{refused}");
        assert!(std::fs::metadata(data.join("node.lock")).unwrap().len() >= 512);
        drop(lock);
        lock_data(&data).unwrap();
    }

    #[test]
    fn every_refusal_of_io_uring_has_its_remedy() {
        let check = |error: &str, disabled: &str, seccomp: &str, expected: &str| {
            let remedy = io_uring_remedy(error, disabled, seccomp);
            assert!(remedy.contains(expected), "{error}: {remedy}");
        };
        check("MemLockLimit(65536/524288)", "0", "0", "ulimit -l");
        check("Operation not permitted (os error 1)", "2", "0", "io_uring_disabled=0");
        check("Operation not permitted (os error 1)", "1", "2", "io_uring_group");
        check("Operation not permitted (os error 1)", "0", "2", "seccomp");
        check("Function not implemented (os error 38)", "", "2", "5.8");
        check("something else", "0", "0", "5.8");
    }
}

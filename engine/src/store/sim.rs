//! A seeded disk in memory that keeps no promise a real one may break.
//!
//! It gives the POSIX minimum of the contract in [`super`], and no more. Every file has durable bytes and a list of
//! writes and truncations that no sync has covered; the directory has durable entries and a list of entry changes.
//! [`SimDirectory::crash`] keeps a random, legal part of what was not synced: of each write all, nothing, or some of its
//! 512-byte sectors, whatever the order they were made in; of each entry change all or nothing. Everything else is
//! injected: a stop at the n-th step, an I/O error at the n-th write or sync, a full disk, flipped bits.
//!
//! The same seed and the same calls give the same disk. No clock, no threads, no real I/O.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::{BLOCK, Directory, File, FileBytes};
use crate::error::{Error, Result};

/// What a device writes whole or not at all.
pub const SECTOR: usize = 512;

/// One change of the disk's state, in the order they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Directory::create`].
    Create(String),
    /// [`File::write_at`]: file, offset, length.
    Write(String, u64, usize),
    /// [`File::truncate`]: file, size.
    Truncate(String, u64),
    /// [`File::sync`].
    Sync(String),
    /// [`Directory::rename`].
    Rename(String, String),
    /// [`Directory::remove`].
    Remove(String),
    /// [`Directory::sync`].
    SyncDirectory,
}

/// Where in a step [`SimDirectory::fail_after`] stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The step does nothing.
    Before,
    /// The step is done, but its caller sees an error.
    After,
}

/// A simulated directory; clones share one disk.
#[derive(Clone)]
pub struct SimDirectory {
    disk: Rc<RefCell<Disk>>,
}

/// An open file of a [`SimDirectory`].
pub struct SimFile {
    disk: Rc<RefCell<Disk>>,
    inode: usize,
    /// The disk's epoch at opening: handles do not outlive a crash.
    epoch: u64,
    /// Name at opening, for error texts.
    name: String,
}

enum Change {
    Write { offset: u64, data: Rc<[u8]> },
    Truncate(u64),
}

#[derive(Default)]
struct Inode {
    /// What survives anything.
    durable: Vec<u8>,
    /// What a reader sees.
    current: Vec<u8>,
    /// From `durable` to `current`, unless a failed sync has lost some.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum EntryChange {
    Add(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

struct Disk {
    random: Random,
    inodes: Vec<Inode>,
    entries: BTreeMap<String, usize>,
    durable_entries: BTreeMap<String, usize>,
    pending_entries: Vec<EntryChange>,
    trace: Vec<Step>,
    steps: u64,
    stop: Option<(u64, Stop)>,
    stopped: bool,
    epoch: u64,
    space: Option<u64>,
    writes_until_error: Option<u64>,
    syncs_until_error: Option<u64>,
    yielding: bool,
    latency: Option<Latency>,
    /// Who works with the files.
    claims: Vec<Weak<()>>,
    claimed_twice: bool,
}

/// Makes what a call waits for before it acts.
pub type Latency = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

impl SimDirectory {
    /// An empty disk without limits or faults.
    #[must_use]
    pub fn new(seed: u64) -> SimDirectory {
        SimDirectory {
            disk: Rc::new(RefCell::new(Disk {
                random: Random(seed ^ 0x9e37_79b9_7f4a_7c15),
                inodes: Vec::new(),
                entries: BTreeMap::new(),
                durable_entries: BTreeMap::new(),
                pending_entries: Vec::new(),
                trace: Vec::new(),
                steps: 0,
                stop: None,
                stopped: false,
                epoch: 0,
                space: None,
                writes_until_error: None,
                syncs_until_error: None,
                yielding: false,
                latency: None,
                claims: Vec::new(),
                claimed_twice: false,
            })),
        }
    }

    /// Whether two engines ever worked with the files at the same time.
    #[must_use]
    pub fn was_claimed_twice(&self) -> bool {
        self.disk.borrow().claimed_twice
    }

    /// Mutating steps so far: writes, truncations, syncs, creations, renames, removals, directory syncs.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.disk.borrow().steps
    }

    /// Stops the machine at the `n`-th mutating step from now (1 is the next): that call and all later ones fail until
    /// [`restart`](Self::restart).
    pub fn fail_after(&self, n: u64, stop: Stop) {
        assert!(n >= 1);
        let mut disk = self.disk.borrow_mut();
        disk.stop = Some((disk.steps + n, stop));
    }

    /// Whether [`fail_after`](Self::fail_after) has struck, or a crash has not been followed by a restart.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.disk.borrow().stopped
    }

    /// Loses power: a random legal part of what was not synced survives. Open files are dead; all calls fail until
    /// [`restart`](Self::restart).
    pub fn crash(&self) {
        let disk = &mut *self.disk.borrow_mut();
        disk.stopped = true;
        disk.epoch += 1;
        disk.claims.clear();
        for change in std::mem::take(&mut disk.pending_entries) {
            if disk.random.one_in(2) {
                apply_entry(&mut disk.durable_entries, &change);
            }
        }
        disk.entries = disk.durable_entries.clone();
        for inode in &mut disk.inodes {
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    Change::Truncate(size) if disk.random.one_in(2) => resize(&mut inode.durable, size),
                    Change::Truncate(_) => {}
                    Change::Write { offset, data } => match disk.random.below(3) {
                        0 => {}
                        1 => write_into(&mut inode.durable, offset, &data),
                        _ => {
                            for (i, sector) in data.chunks(SECTOR).enumerate() {
                                if disk.random.one_in(2) {
                                    write_into(&mut inode.durable, offset + (i * SECTOR) as u64, sector);
                                }
                            }
                        }
                    },
                }
            }
            inode.current.clone_from(&inode.durable);
        }
        // What no name leads to is gone.
        let linked: Vec<usize> = disk.entries.values().copied().collect();
        for (i, inode) in disk.inodes.iter_mut().enumerate() {
            if !linked.contains(&i) {
                *inode = Inode::default();
            }
        }
    }

    /// Starts the process again: after a [`crash`](Self::crash), or (without one) after the process alone was killed,
    /// which loses nothing written. Open files are dead; the stop and injected errors are disarmed.
    pub fn restart(&self) {
        let mut disk = self.disk.borrow_mut();
        disk.stopped = false;
        disk.stop = None;
        disk.writes_until_error = None;
        disk.syncs_until_error = None;
        disk.epoch += 1;
    }

    /// Limits the space for all files; `None` lifts the limit. What is there stays, whatever the limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.disk.borrow_mut().space = bytes;
    }

    /// Space taken by all files.
    #[must_use]
    pub fn used_space(&self) -> u64 {
        self.disk.borrow().used()
    }

    /// The `n`-th write from now (1 is the next) fails; nothing of it is written.
    pub fn fail_write(&self, n: u64) {
        assert!(n >= 1);
        self.disk.borrow_mut().writes_until_error = Some(n);
    }

    /// The `n`-th file or directory sync from now (1 is the next) fails. What it should have made durable may
    /// never become so, even if a later sync succeeds.
    pub fn fail_sync(&self, n: u64) {
        assert!(n >= 1);
        self.disk.borrow_mut().syncs_until_error = Some(n);
    }

    /// Flips one bit of a file, durably.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        let disk = &mut *self.disk.borrow_mut();
        let inode = &mut disk.inodes[disk.entries[name]];
        inode.current[offset as usize] ^= 1 << bit;
        if let Some(byte) = inode.durable.get_mut(offset as usize) {
            *byte ^= 1 << bit;
        }
    }

    /// What a reader would see of a file, without its being an access; none if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk.borrow();
        disk.entries.get(name).map(|&i| disk.inodes[i].current.clone())
    }

    /// Puts a file in place, durably: for golden files and damaged ones.
    pub fn put(&self, name: &str, content: &[u8]) {
        let disk = &mut *self.disk.borrow_mut();
        disk.inodes.push(Inode { durable: content.to_vec(), current: content.to_vec(), pending: Vec::new() });
        let inode = disk.inodes.len() - 1;
        disk.entries.insert(name.to_owned(), inode);
        disk.durable_entries.insert(name.to_owned(), inode);
    }

    /// The mutating steps so far.
    #[must_use]
    pub fn trace(&self) -> Vec<Step> {
        self.disk.borrow().trace.clone()
    }

    /// Forgets the trace (the count of steps goes on).
    pub fn clear_trace(&self) {
        self.disk.borrow_mut().trace.clear();
    }

    /// Whether every call lets other tasks run once before it acts; off at first, so that futures are ready at once.
    pub fn set_yielding(&self, yielding: bool) {
        self.disk.borrow_mut().yielding = yielding;
    }

    /// What every call waits for before it acts: the clock is the caller's.
    pub fn set_latency(&self, latency: Option<Latency>) {
        self.disk.borrow_mut().latency = latency;
    }

    async fn turn(&self) {
        turn(&self.disk).await;
    }
}

async fn turn(disk: &Rc<RefCell<Disk>>) {
    let (yielding, latency) = {
        let disk = disk.borrow();
        (disk.yielding, disk.latency.clone())
    };
    YieldOnce(!yielding).await;
    if let Some(latency) = latency {
        latency().await;
    }
}

impl Directory for SimDirectory {
    type File = SimFile;

    async fn create(&self, name: &str, size: u64) -> Result<SimFile> {
        check_name(name);
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        let finish = disk.step(Step::Create(name.to_owned()))?;
        disk.check_space(size, name)?;
        let mut inode = Inode::default();
        if size > 0 {
            resize(&mut inode.current, size);
            inode.pending.push(Change::Truncate(size));
        }
        disk.inodes.push(inode);
        let inode = disk.inodes.len() - 1;
        disk.change_entry(EntryChange::Add(name.to_owned(), inode));
        finish.map(|()| SimFile { disk: self.disk.clone(), inode, epoch: disk.epoch, name: name.to_owned() })
    }

    async fn open(&self, name: &str) -> Result<SimFile> {
        self.turn().await;
        let disk = self.disk.borrow();
        let inode = disk.lookup(name)?;
        Ok(SimFile { disk: self.disk.clone(), inode, epoch: disk.epoch, name: name.to_owned() })
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.turn().await;
        let disk = self.disk.borrow();
        Ok(disk.inodes[disk.lookup(name)?].current.clone())
    }

    async fn map_with<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(FileBytes) -> T + Send + 'static,
    ) -> Result<T> {
        Ok(work(FileBytes::new(self.read(name).await?)))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        check_name(to);
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        let inode = disk.lookup(from)?;
        let finish = disk.step(Step::Rename(from.to_owned(), to.to_owned()))?;
        disk.change_entry(EntryChange::Rename(from.to_owned(), to.to_owned(), inode));
        finish
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        disk.lookup(name)?;
        let finish = disk.step(Step::Remove(name.to_owned()))?;
        disk.change_entry(EntryChange::Remove(name.to_owned()));
        finish
    }

    fn claim(&self) -> Option<Rc<()>> {
        let disk = &mut *self.disk.borrow_mut();
        disk.claims.retain(|claim| claim.strong_count() > 0);
        disk.claimed_twice |= !disk.claims.is_empty();
        let claim = Rc::new(());
        disk.claims.push(Rc::downgrade(&claim));
        Some(claim)
    }

    async fn list(&self) -> Result<Vec<(String, u64)>> {
        self.turn().await;
        let disk = self.disk.borrow();
        disk.running("list")?;
        Ok(disk.entries.iter().map(|(name, &i)| (name.clone(), disk.inodes[i].current.len() as u64)).collect())
    }

    async fn sync(&self) -> Result<()> {
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        let finish = disk.step(Step::SyncDirectory)?;
        let pending = std::mem::take(&mut disk.pending_entries);
        let failed = strikes(&mut disk.syncs_until_error);
        for change in pending {
            if !failed {
                apply_entry(&mut disk.durable_entries, &change);
            } else if disk.random.one_in(2) {
                disk.pending_entries.push(change);
            }
        }
        if failed {
            return Err(io("directory: sync", "injected error"));
        }
        finish
    }
}

impl SimFile {
    async fn turn(&self) {
        turn(&self.disk).await;
    }
}

impl File for SimFile {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        assert!(offset.is_multiple_of(BLOCK as u64), "{}: write at {offset}", self.name);
        assert!(data.len().is_multiple_of(BLOCK), "{}: write of {} bytes", self.name, data.len());
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        disk.alive(self)?;
        let finish = disk.step(Step::Write(self.name.clone(), offset, data.len()))?;
        if strikes(&mut disk.writes_until_error) {
            return Err(io(format!("{}: write", self.name), "injected error"));
        }
        let end = offset + data.len() as u64;
        disk.check_space(end.saturating_sub(disk.inodes[self.inode].current.len() as u64), &self.name)?;
        let inode = &mut disk.inodes[self.inode];
        write_into(&mut inode.current, offset, data);
        inode.pending.push(Change::Write { offset, data: data.into() });
        finish
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.turn().await;
        let disk = self.disk.borrow();
        disk.alive(self)?;
        let current = &disk.inodes[self.inode].current;
        let start = (offset as usize).min(current.len());
        Ok(current[start..start.saturating_add(len).min(current.len())].to_vec())
    }

    async fn sync(&self) -> Result<()> {
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        disk.alive(self)?;
        let finish = disk.step(Step::Sync(self.name.clone()))?;
        let failed = strikes(&mut disk.syncs_until_error);
        let inode = &mut disk.inodes[self.inode];
        for change in std::mem::take(&mut inode.pending) {
            if failed {
                // The kernel marks pages clean after a failed sync: they may stay readable and never reach the disk.
                if disk.random.one_in(2) {
                    inode.pending.push(change);
                }
                continue;
            }
            match change {
                Change::Write { offset, data } => write_into(&mut inode.durable, offset, &data),
                Change::Truncate(size) => resize(&mut inode.durable, size),
            }
        }
        if failed {
            return Err(io(format!("{}: sync", self.name), "injected error"));
        }
        finish
    }

    async fn truncate(&self, size: u64) -> Result<()> {
        self.turn().await;
        let disk = &mut *self.disk.borrow_mut();
        disk.alive(self)?;
        let finish = disk.step(Step::Truncate(self.name.clone(), size))?;
        disk.check_space(size.saturating_sub(disk.inodes[self.inode].current.len() as u64), &self.name)?;
        let inode = &mut disk.inodes[self.inode];
        resize(&mut inode.current, size);
        inode.pending.push(Change::Truncate(size));
        finish
    }

    async fn size(&self) -> Result<u64> {
        self.turn().await;
        let disk = self.disk.borrow();
        disk.alive(self)?;
        Ok(disk.inodes[self.inode].current.len() as u64)
    }

    async fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Disk {
    fn running(&self, what: &str) -> Result<()> {
        if self.stopped { Err(io(what, "the simulated machine is stopped")) } else { Ok(()) }
    }

    fn alive(&self, file: &SimFile) -> Result<()> {
        self.running(&file.name)?;
        if file.epoch == self.epoch { Ok(()) } else { Err(io(&file.name, "opened before a crash or restart")) }
    }

    fn lookup(&self, name: &str) -> Result<usize> {
        self.running(name)?;
        self.entries.get(name).copied().ok_or_else(|| Error::NotFound { file: name.to_owned() })
    }

    /// Counts a step. The outer error: the step must not happen. The inner one: it happens, but its caller must not see that.
    fn step(&mut self, step: Step) -> Result<Result<()>> {
        self.running("step")?;
        self.steps += 1;
        let strikes = self.stop.is_some_and(|(at, _)| self.steps >= at);
        if !strikes {
            self.trace.push(step);
            return Ok(Ok(()));
        }
        self.stopped = true;
        let error = Err(io(format!("{step:?}"), "the simulated machine stops here"));
        if self.stop.is_some_and(|(_, stop)| stop == Stop::Before) {
            return error.map(Ok);
        }
        self.trace.push(step);
        Ok(error)
    }

    fn change_entry(&mut self, change: EntryChange) {
        apply_entry(&mut self.entries, &change);
        self.pending_entries.push(change);
    }

    fn used(&self) -> u64 {
        self.entries.values().map(|&i| self.inodes[i].current.len() as u64).sum()
    }

    fn check_space(&self, more: u64, name: &str) -> Result<()> {
        match self.space {
            Some(space) if more > 0 && self.used() + more > space => {
                Err(Error::DiskFull { reason: format!("{name}: no space for {more} bytes") })
            }
            _ => Ok(()),
        }
    }
}

fn apply_entry(entries: &mut BTreeMap<String, usize>, change: &EntryChange) {
    match change {
        EntryChange::Add(name, inode) => {
            entries.insert(name.clone(), *inode);
        }
        EntryChange::Remove(name) => {
            entries.remove(name);
        }
        EntryChange::Rename(from, to, inode) => {
            if entries.get(from) == Some(inode) {
                entries.remove(from);
            }
            entries.insert(to.clone(), *inode);
        }
    }
}

fn write_into(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = offset as usize;
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

fn strikes(countdown: &mut Option<u64>) -> bool {
    if let Some(n) = countdown {
        *n -= 1;
        if *n == 0 {
            *countdown = None;
            return true;
        }
    }
    false
}

fn io(context: impl Into<String>, reason: &str) -> Error {
    Error::Io { context: context.into(), reason: reason.to_owned() }
}

fn check_name(name: &str) {
    assert!(!name.is_empty() && !name.contains('/'), "file name {name:?}");
}

/// SplitMix64: enough randomness for faults, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Cuts, or makes longer with zeros; those of a new file cost nothing until they are touched.
fn resize(bytes: &mut Vec<u8>, size: u64) {
    match bytes.len() {
        0 => *bytes = vec![0; size as usize],
        _ => bytes.resize(size as usize, 0),
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    /// Crashes after `f` with many seeds and returns the distinct results of `see`.
    fn outcomes<T: Ord>(f: impl AsyncFn(&SimDirectory), see: impl Fn(&SimDirectory) -> T) -> Vec<T> {
        let mut seen: Vec<T> = (0..200)
            .map(|seed| {
                let d = SimDirectory::new(seed);
                block_on(f(&d));
                d.crash();
                d.restart();
                see(&d)
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }

    #[test]
    fn synced_file_with_synced_entry_survives() {
        let seen = outcomes(
            async |d| {
                let f = d.create("a", 0).await.unwrap();
                f.write_at(0, &[7; BLOCK]).await.unwrap();
                f.sync().await.unwrap();
                d.sync().await.unwrap();
            },
            |d| d.content("a"),
        );
        assert_eq!(seen, [Some(vec![7; BLOCK])]);
    }

    #[test]
    fn entry_without_directory_sync_may_vanish() {
        let seen = outcomes(
            async |d| {
                let f = d.create("a", 0).await.unwrap();
                f.write_at(0, &[7; BLOCK]).await.unwrap();
                f.sync().await.unwrap();
            },
            |d| d.content("a"),
        );
        assert_eq!(seen, [None, Some(vec![7; BLOCK])]);
    }

    #[test]
    fn unsynced_write_survives_in_any_part_of_whole_sectors() {
        let seen = outcomes(
            async |d| {
                let f = d.create("a", 0).await.unwrap();
                f.write_at(0, &[1; BLOCK]).await.unwrap();
                f.sync().await.unwrap();
                d.sync().await.unwrap();
                f.write_at(0, &[2; BLOCK]).await.unwrap();
            },
            |d| {
                d.content("a").unwrap().chunks(SECTOR).map(|s| (s[0], s.iter().all(|b| *b == s[0]))).collect::<Vec<_>>()
            },
        );
        assert!(seen.len() > 20, "{} outcomes", seen.len());
        assert!(seen.iter().flatten().all(|(b, whole)| *whole && (*b == 1 || *b == 2)));
        assert!(seen.iter().any(|s| s.iter().all(|(b, _)| *b == 1)));
        assert!(seen.iter().any(|s| s.iter().all(|(b, _)| *b == 2)));
    }

    #[test]
    fn files_are_not_ordered_among_each_other() {
        let seen = outcomes(
            async |d| {
                for name in ["a", "b"] {
                    let f = d.create(name, 0).await.unwrap();
                    d.sync().await.unwrap();
                    f.write_at(0, &[1; BLOCK]).await.unwrap();
                }
            },
            |d| (d.content("a").unwrap().len(), d.content("b").unwrap().len()),
        );
        assert!(seen.contains(&(0, BLOCK)), "the later write alone");
    }

    #[test]
    fn rename_is_old_or_new_and_never_both() {
        let seen = outcomes(
            async |d| {
                d.put("old", b"x");
                d.rename("old", "new").await.unwrap();
            },
            |d| (d.content("old").is_some(), d.content("new").is_some()),
        );
        assert_eq!(seen, [(false, true), (true, false)]);
    }

    #[test]
    fn failed_sync_loses_data_even_if_a_later_one_succeeds() {
        let seen = outcomes(
            async |d| {
                let f = d.create("a", 0).await.unwrap();
                d.sync().await.unwrap();
                f.write_at(0, &[7; BLOCK]).await.unwrap();
                d.fail_sync(1);
                assert!(matches!(f.sync().await, Err(Error::Io { .. })));
                assert_eq!(f.read_at(0, 1).await.unwrap(), [7]);
                f.sync().await.unwrap();
            },
            |d| d.content("a").unwrap().len(),
        );
        assert_eq!(seen, [0, BLOCK]);
    }

    #[test]
    fn full_disk_refuses_growth_but_not_overwriting() {
        block_on(async {
            let d = SimDirectory::new(1);
            d.limit_space(Some(2 * BLOCK as u64));
            let f = d.create("a", 0).await.unwrap();
            f.write_at(0, &[1; 2 * BLOCK]).await.unwrap();
            assert!(matches!(f.write_at(2 * BLOCK as u64, &[1; BLOCK]).await, Err(Error::DiskFull { .. })));
            f.write_at(BLOCK as u64, &[2; BLOCK]).await.unwrap();
            assert!(matches!(d.create("b", 1).await, Err(Error::DiskFull { .. })));
            d.remove("a").await.unwrap();
            d.create("b", 1).await.unwrap();
        });
    }

    #[test]
    fn stop_fails_everything_until_restart_and_kills_handles() {
        for (stop, survives) in [(Stop::Before, false), (Stop::After, true)] {
            block_on(async {
                let d = SimDirectory::new(1);
                let f = d.create("a", 0).await.unwrap();
                d.fail_after(2, stop);
                f.write_at(0, &[1; BLOCK]).await.unwrap();
                assert!(f.write_at(BLOCK as u64, &[2; BLOCK]).await.is_err());
                assert!(d.stopped());
                assert!(f.read_at(0, 1).await.is_err());
                assert!(d.list().await.is_err());
                d.restart();
                assert!(f.read_at(0, 1).await.is_err(), "handles do not outlive the process");
                assert_eq!(d.content("a").unwrap().len(), if survives { 2 * BLOCK } else { BLOCK });
                assert_eq!(d.trace().len(), if survives { 3 } else { 2 });
            });
        }
    }

    #[test]
    fn same_seed_same_disk() {
        let run = |seed| {
            let d = SimDirectory::new(seed);
            block_on(async {
                let f = d.create("a", 0).await.unwrap();
                d.sync().await.unwrap();
                f.write_at(0, &[3; 16 * BLOCK]).await.unwrap();
            });
            d.crash();
            d.content("a")
        };
        assert_eq!(run(5), run(5));
        assert!((0..20).any(|s| run(s) != run(5)));
    }

    #[test]
    fn yielding_disk_lets_others_run() {
        let d = SimDirectory::new(0);
        d.set_yielding(true);
        let mut polls = 0;
        block_on(async {
            let mut create = std::pin::pin!(d.create("a", 0));
            std::future::poll_fn(|cx| {
                polls += 1;
                create.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        assert_eq!(polls, 2);
    }
}

//! What every [`Directory`] must do; run against each implementation.

use super::sim::SimDirectory;
use super::{BLOCK, Directory, File, replace_file, write_file};
use crate::error::Error;

/// Expects an empty directory.
pub(super) async fn check<D: Directory>(d: D) {
    files_hold_what_was_written(&d).await;
    reads_are_of_any_alignment(&d).await;
    truncation_cuts_and_extends_with_zeros(&d).await;
    allocated_files_begin_as_zeros(&d).await;
    creating_again_leaves_the_old_file_to_its_holders(&d).await;
    names_move_and_vanish(&d).await;
    open_files_survive_rename_and_removal(&d).await;
    small_files_are_replaced_whole(&d).await;
    missing_files_are_not_found(&d).await;
}

/// `size` bytes, different at every offset and for every seed.
fn pattern(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|i| (i / 7 + i / 4096 * 31) as u8 ^ seed).collect()
}

async fn names<D: Directory>(d: &D) -> Vec<String> {
    d.list().await.unwrap().into_iter().map(|(name, _)| name).collect()
}

async fn clear<D: Directory>(d: &D) {
    for name in names(d).await {
        d.remove(&name).await.unwrap();
    }
}

async fn files_hold_what_was_written<D: Directory>(d: &D) {
    // Over one request of the direct implementation, and not a multiple of it.
    let bytes = pattern((1 << 20) + 3 * BLOCK, 1);
    let f = d.create("big", 0).await.unwrap();
    assert_eq!(f.size().await.unwrap(), 0);
    f.write_at(0, &bytes).await.unwrap();
    f.write_at(BLOCK as u64, &pattern(BLOCK, 9)).await.unwrap();
    f.sync().await.unwrap();
    let mut want = bytes;
    want[BLOCK..2 * BLOCK].copy_from_slice(&pattern(BLOCK, 9));
    assert!(f.read_at(0, want.len() + 5).await.unwrap() == want);
    f.close().await.unwrap();
    d.sync().await.unwrap();
    assert!(d.read("big").await.unwrap() == want);
    assert!(*d.map("big").await.unwrap() == *want);
    assert!(d.open("big").await.unwrap().read_at(0, want.len()).await.unwrap() == want);
    assert_eq!(d.list().await.unwrap(), [("big".to_owned(), want.len() as u64)]);
    clear(d).await;
}

async fn reads_are_of_any_alignment<D: Directory>(d: &D) {
    let bytes = pattern(2 * BLOCK + 100, 2);
    write_file(d, "f", &bytes).await.unwrap();
    let f = d.open("f").await.unwrap();
    let edges = [0, 1, 511, 513, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, bytes.len() - 1, bytes.len()];
    for start in edges {
        for len in [0, 1, 99, 101, 512, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let want = &bytes[start..bytes.len().min(start + len)];
            assert!(f.read_at(start as u64, len).await.unwrap() == want, "{len} bytes at {start}");
        }
    }
    assert_eq!(f.read_at(1 << 40, 10).await.unwrap(), [0u8; 0]);
    f.close().await.unwrap();
    clear(d).await;
}

async fn truncation_cuts_and_extends_with_zeros<D: Directory>(d: &D) {
    let f = d.create("f", 0).await.unwrap();
    f.write_at(0, &pattern(2 * BLOCK, 3)).await.unwrap();
    f.truncate(10).await.unwrap();
    assert_eq!(f.size().await.unwrap(), 10);
    f.truncate(2 * BLOCK as u64).await.unwrap();
    f.sync().await.unwrap();
    let mut want = pattern(2 * BLOCK, 3);
    want[10..].fill(0);
    assert!(f.read_at(0, 3 * BLOCK).await.unwrap() == want);
    f.truncate(0).await.unwrap();
    f.close().await.unwrap();
    assert_eq!(d.map("f").await.unwrap().len(), 0);
    clear(d).await;
}

async fn allocated_files_begin_as_zeros<D: Directory>(d: &D) {
    let f = d.create("f", 100 * BLOCK as u64).await.unwrap();
    assert_eq!(f.size().await.unwrap(), 100 * BLOCK as u64);
    f.write_at(0, &pattern(BLOCK, 4)).await.unwrap();
    assert!(f.read_at(BLOCK as u64, 1 << 20).await.unwrap() == vec![0; 99 * BLOCK]);
    f.truncate(100).await.unwrap();
    f.close().await.unwrap();
    assert!(d.read("f").await.unwrap() == pattern(BLOCK, 4)[..100]);
    clear(d).await;
}

async fn creating_again_leaves_the_old_file_to_its_holders<D: Directory>(d: &D) {
    write_file(d, "f", b"old").await.unwrap();
    let held = d.map("f").await.unwrap();
    let opened = d.open("f").await.unwrap();
    write_file(d, "f", b"newer").await.unwrap();
    assert_eq!(*held, *b"old");
    assert_eq!(opened.read_at(0, 10).await.unwrap(), b"old");
    assert_eq!(d.read("f").await.unwrap(), b"newer");
    clear(d).await;
}

async fn names_move_and_vanish<D: Directory>(d: &D) {
    for (name, content) in [("b", b"1"), ("a", b"2"), ("c", b"3")] {
        write_file(d, name, content).await.unwrap();
    }
    assert_eq!(names(d).await, ["a", "b", "c"], "sorted");
    d.rename("a", "c").await.unwrap();
    d.sync().await.unwrap();
    assert_eq!(names(d).await, ["b", "c"]);
    assert_eq!(d.read("c").await.unwrap(), b"2", "a rename replaces");
    let held = d.map("b").await.unwrap();
    d.remove("b").await.unwrap();
    assert_eq!(*held, *b"1");
    assert_eq!(names(d).await, ["c"]);
    clear(d).await;
}

async fn open_files_survive_rename_and_removal<D: Directory>(d: &D) {
    let f = d.create("f", 0).await.unwrap();
    d.rename("f", "g").await.unwrap();
    f.write_at(0, &pattern(BLOCK, 5)).await.unwrap();
    f.sync().await.unwrap();
    assert_eq!(f.size().await.unwrap(), BLOCK as u64);
    assert!(d.read("g").await.unwrap() == pattern(BLOCK, 5));
    d.remove("g").await.unwrap();
    assert_eq!(f.size().await.unwrap(), BLOCK as u64);
    assert!(f.read_at(0, BLOCK).await.unwrap() == pattern(BLOCK, 5));
    f.close().await.unwrap();
    assert!(names(d).await.is_empty());
}

async fn small_files_are_replaced_whole<D: Directory>(d: &D) {
    for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, (1 << 20) + 1] {
        replace_file(d, "state", &pattern(size, 6)).await.unwrap();
        assert!(d.read("state").await.unwrap() == pattern(size, 6), "{size} bytes");
        assert_eq!(names(d).await, ["state"]);
    }
    clear(d).await;
}

async fn missing_files_are_not_found<D: Directory>(d: &D) {
    let missing = Error::NotFound { file: "no".to_owned() };
    assert_eq!(d.open("no").await.map(drop).unwrap_err(), missing);
    assert_eq!(d.read("no").await.unwrap_err(), missing);
    assert_eq!(d.map("no").await.map(drop).unwrap_err(), missing);
    assert_eq!(d.remove("no").await.unwrap_err(), missing);
    assert_eq!(d.rename("no", "yes").await.unwrap_err(), missing);
}

#[test]
fn simulated_disk_keeps_the_contract() {
    for yielding in [false, true] {
        let d = SimDirectory::new(1);
        d.set_yielding(yielding);
        futures_lite::future::block_on(check(d));
    }
}

//! A shard keeps to the node's memory budget, whatever is written and however seldom it refreshes.

use ringdex::memory::NodeMemory;
use ringdex::shard::message::RefreshPolicy;
use serde_json::json;

use crate::harness::{Harness, put};

#[test]
fn buffers_and_images_stay_within_their_part_while_much_more_is_written() {
    let mut harness = Harness::new(7, json!({"index.refresh_interval": "-1"}));
    // A fifth for indexing: 1 MiB. What is written takes several times that.
    harness.memory = NodeMemory::new(5 << 20);
    harness.open().expect("an empty disk opens");
    let text = "many different words ".repeat(50);
    let limit = harness.memory.indexing.limit();
    for request in 0..60 {
        let ops = (0..50).map(|i| put(&format!("{}", request * 50 + i), json!({"n": i, "t": text}))).collect();
        harness.write(ops, RefreshPolicy::None);
        let used = harness.memory.indexing.used();
        // An operation is let in below the limit, and may then end above it.
        assert!(used < limit + (128 << 10), "request {request}: {used} of {limit}");
    }
    assert_eq!(harness.acked.len(), 3000, "every write was taken in the end");
    harness.check();
    harness.crash();
    assert_eq!(harness.memory.indexing.used(), 0, "a shard that is gone holds nothing");
    harness.open().expect("opens after a crash");
    assert!(harness.memory.indexing.used() < limit, "a recovery keeps to the part, too");
    harness.check();
}

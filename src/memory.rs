//! The node's memory budget (`--memory`): one number, divided, and every part enforced where memory is taken.
//!
//! | part | share | what counts | when there is no more |
//! |---|---|---|---|
//! | requests | 1/8 | request bodies, from their announced length on, until they are answered | a body longer than the whole part: 413; otherwise 429 `circuit_breaking_exception` of `in_flight_requests` |
//! | writes | 1/8 | operations of writes with their bookkeeping, until they are answered | 429 `es_rejected_execution_exception` |
//! | indexing | 1/5 | indexing buffers, version maps, segment images until a file has them | the fullest shards refresh early; then writes wait |
//! | search | 3/20 | buckets of aggregations | 429 `circuit_breaking_exception` of `request` |
//! | filter cache | 1/10 | documents of filters that come again | the least recently used of the shard go |
//! | request cache | 1/100 | answers of shards to searches without hits | the least recently used of the shard go |
//! | merges | 1/20 | what running merges hold | a merge waits until others have ended |
//! | rest | 6/25 | executors, connections, cluster state, answers, slack of the allocator | |
//!
//! Files that are mapped (segments) and the page cache are the kernel's and not in the budget: it takes them back when it
//! needs them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringdex_engine::budget::{Exhausted, Pool};
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// Bytes that bookkeeping of one operation of a write takes beside its id, routing and source: the item as parsed, as placed,
/// its result, and its part of the answer.
pub const OPERATION_BYTES: u64 = 1024;

/// The budget of a node, shared by its cores.
#[derive(Debug)]
pub struct NodeMemory {
    /// All of it.
    pub total: u64,
    /// Bodies.
    pub requests: Arc<Pool>,
    /// Operations of writes.
    pub writes: Arc<Pool>,
    /// Buffers of shards.
    pub indexing: Arc<Indexing>,
    /// Aggregations.
    pub search: Arc<Pool>,
    /// Documents of filters (`indices.queries.cache.size`).
    pub filter_cache: Arc<Pool>,
    /// Answers of shards (`indices.requests.cache.size`).
    pub request_cache: Arc<Pool>,
    /// Merges.
    pub merges: Arc<Pool>,
}

impl NodeMemory {
    /// Divides `total` bytes.
    #[must_use]
    pub fn new(total: u64) -> Arc<NodeMemory> {
        Arc::new(NodeMemory {
            total,
            requests: Pool::new("in_flight_requests", total / 8),
            writes: Pool::new("indexing_pressure", total / 8),
            indexing: Arc::new(Indexing { limit: total / 5, ..Indexing::default() }),
            search: Pool::new("request", total / 20 * 3),
            filter_cache: Pool::new("filter_cache", total / 10),
            request_cache: Pool::new("request_cache", total / 100),
            merges: Pool::new("merges", total / 20),
        })
    }

    /// The longest body that is read at all: one that is longer than the part for bodies would be refused for ever.
    #[must_use]
    pub fn body_bytes_max(&self, configured: u64) -> u64 {
        configured.min(self.requests.limit())
    }

    /// `indexing_pressure` of `_nodes/stats`.
    #[must_use]
    pub fn indexing_pressure(&self) -> Value {
        let writes = &self.writes;
        let mut total = pressure(writes.taken_ever());
        for (key, rejections) in [
            ("coordinating_rejections", writes.refused()),
            ("primary_rejections", self.indexing.refused.load(Ordering::Relaxed)),
            ("replica_rejections", 0),
        ] {
            total.insert(key.to_owned(), rejections.into());
        }
        json!({ "memory": {
            "current": pressure(writes.used()), "total": total, "limit_in_bytes": writes.limit(),
        } })
    }

    /// `breakers` of `_nodes/stats`. The sizes are those in use now; `parent` is all of the process's own memory.
    #[must_use]
    pub fn breakers(&self, anonymous: u64) -> Value {
        let one = |limit: u64, used: u64, tripped: u64| {
            json!({
                "limit_size_in_bytes": limit,
                "limit_size": human_bytes(limit),
                "estimated_size_in_bytes": used,
                "estimated_size": human_bytes(used),
                "overhead": 1.0,
                "tripped": tripped,
            })
        };
        let pool = |pool: &Pool| one(pool.limit(), pool.used(), pool.refused());
        json!({
            "request": pool(&self.search),
            "fielddata": one(0, 0, 0),
            "in_flight_requests": pool(&self.requests),
            "accounting": one(self.indexing.limit, self.indexing.used(), self.indexing.refused.load(Ordering::Relaxed)),
            "parent": one(self.total, anonymous, 0),
        })
    }
}

/// The members of `indexing_pressure` for so many bytes: every copy of a shard is here, so all of them are coordinating ones.
fn pressure(bytes: u64) -> Map<String, Value> {
    let members = [
        ("combined_coordinating_and_primary_in_bytes", bytes),
        ("coordinating_in_bytes", bytes),
        ("primary_in_bytes", 0),
        ("replica_in_bytes", 0),
        ("all_in_bytes", bytes),
    ];
    members.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// What shards hold of documents that no file has yet.
///
/// When half of it is in use, the shards that hold at least the average refresh; what a refresh makes of a buffer takes
/// about as much again until it is written. When all of it is in use, writes wait.
#[derive(Debug, Default)]
pub struct Indexing {
    limit: u64,
    used: AtomicU64,
    /// Shards that hold anything.
    shards: AtomicU64,
    stalls: AtomicU64,
    refused: AtomicU64,
}

impl Indexing {
    /// Bytes there are.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How often a write waited.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}

/// One shard's part in [`Indexing`].
#[derive(Debug)]
pub struct ShardBuffer {
    node: Arc<Indexing>,
    bytes: Cell<u64>,
}

/// Changes of a shard's buffer that are not told to the others.
const REPORT_BYTES: u64 = 32 << 10;

impl ShardBuffer {
    /// Of a shard that holds nothing.
    #[must_use]
    pub fn new(node: Arc<Indexing>) -> ShardBuffer {
        ShardBuffer { node, bytes: Cell::new(0) }
    }

    /// Notes what the shard holds.
    pub fn set(&self, bytes: u64) {
        let before = self.bytes.get();
        // The last bytes are told exactly: an empty shard must not count as one that holds something.
        if before.abs_diff(bytes) < REPORT_BYTES && (before == 0) == (bytes == 0) {
            return;
        }
        self.bytes.set(bytes);
        if bytes >= before {
            self.node.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.node.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        match (before, bytes) {
            (0, 1..) => drop(self.node.shards.fetch_add(1, Ordering::Relaxed)),
            (1.., 0) => drop(self.node.shards.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// Whether this shard should refresh so that others have room.
    #[must_use]
    pub fn wants_refresh(&self) -> bool {
        let (used, own) = (self.node.used(), self.bytes.get());
        own > 0 && used >= self.node.limit / 2 && own * self.node.shards.load(Ordering::Relaxed).max(1) >= used
    }

    /// Whether writes must wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.node.used() >= self.node.limit
    }

    /// Counts a wait.
    pub fn note_stall(&self) {
        self.node.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// The refusal of an operation that has waited for long.
    #[must_use]
    pub fn refuse(&self) -> ApiError {
        self.node.refused.fetch_add(1, Ordering::Relaxed);
        let reason = format!(
            "rejected execution of primary operation [indexing_buffer_bytes={}, max_indexing_buffer_bytes={}]",
            self.node.used(),
            self.node.limit
        );
        ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1")
    }
}

impl Drop for ShardBuffer {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// 429 `circuit_breaking_exception` for `purpose`, as Elasticsearch words it.
#[must_use]
pub fn circuit_breaking(purpose: &str, exhausted: Exhausted) -> ApiError {
    let Exhausted { pool, wanted, limit } = exhausted;
    let reason = format!(
        "[{pool}] Data too large, data for [{purpose}] would be [{wanted}/{}], which is larger than the limit of [{limit}/{}]",
        human_bytes(wanted),
        human_bytes(limit)
    );
    ApiError::new(429, "circuit_breaking_exception", reason)
        .with("bytes_wanted", wanted)
        .with("bytes_limit", limit)
        .with("durability", "TRANSIENT")
        .header("Retry-After", "1")
}

/// 429 for a write of `bytes` that does not fit beside those in work.
#[must_use]
pub fn too_many_writes(bytes: u64, exhausted: Exhausted) -> ApiError {
    let Exhausted { wanted, limit, .. } = exhausted;
    let current = wanted.saturating_sub(bytes);
    let reason = format!(
        "rejected execution of coordinating operation [coordinating_and_primary_bytes={current}, replica_bytes=0, \
         all_bytes={current}, coordinating_operation_bytes={bytes}, max_coordinating_and_primary_bytes={limit}]"
    );
    ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1")
}

/// A size as Elasticsearch prints it: the largest unit, at most one digit after the point.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    for (unit, size) in [("pb", 1u64 << 50), ("tb", 1 << 40), ("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes >= size {
            let tenths = (bytes as f64 * 10.0 / size as f64).floor() as u64;
            return if tenths.is_multiple_of(10) {
                format!("{}{unit}", tenths / 10)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes}b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_and_the_rest_are_the_whole() {
        for total in [64 << 20, 128 << 20, 3 << 30, 1 << 40] {
            let memory = NodeMemory::new(total);
            let pools = [&memory.requests, &memory.writes, &memory.search, &memory.merges];
            let caches = memory.filter_cache.limit() + memory.request_cache.limit();
            let parts = pools.iter().map(|p| p.limit()).sum::<u64>() + memory.indexing.limit() + caches;
            assert!(parts <= total * 76 / 100, "{parts} of {total}");
            assert!(parts >= total * 75 / 100, "{parts} of {total}");
        }
        let small = NodeMemory::new(128 << 20);
        assert_eq!(small.body_bytes_max(100 << 20), 16 << 20, "a longer body could never be taken");
        assert_eq!(NodeMemory::new(8 << 30).body_bytes_max(100 << 20), 100 << 20);
    }

    fn shards(limit: u64, n: usize) -> (Arc<Indexing>, Vec<ShardBuffer>) {
        let node = Arc::new(Indexing { limit, ..Indexing::default() });
        let shards = (0..n).map(|_| ShardBuffer::new(Arc::clone(&node))).collect();
        (node, shards)
    }

    #[test]
    fn the_fullest_shards_make_room_and_small_ones_are_left_alone() {
        const MB: u64 = 1 << 20;
        let (node, shards) = shards(100 * MB, 10);
        shards[0].set(40 * MB);
        assert!(!shards[0].wants_refresh(), "half of it is for everyone to fill");
        for small in &shards[1..] {
            small.set(2 * MB);
        }
        assert_eq!(node.used(), 58 * MB);
        let wants: Vec<bool> = shards.iter().map(ShardBuffer::wants_refresh).collect();
        assert!(wants[0] && !wants[1..].contains(&true), "{wants:?}");
        shards[0].set(90 * MB);
        assert!(shards.iter().all(ShardBuffer::is_full));
        shards[0].set(0);
        assert!(!shards[1].is_full() && !shards[1].wants_refresh());
        assert!(!shards[0].wants_refresh(), "what holds nothing has nothing to give");
        drop(shards);
        assert_eq!((node.used(), node.shards.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn somebody_always_makes_room_when_half_is_in_use() {
        for sizes in [vec![50u64], vec![17, 17, 17], vec![1, 2, 3, 44], vec![10, 10, 10, 10, 10], vec![0, 0, 51]] {
            let (_, shards) = shards(100 << 20, sizes.len());
            shards.iter().zip(&sizes).for_each(|(shard, size)| shard.set(size << 20));
            assert!(shards.iter().any(ShardBuffer::wants_refresh), "{sizes:?}");
        }
    }

    #[test]
    fn small_changes_are_not_told_but_the_first_and_last_byte_are() {
        let (node, shards) = shards(100 << 20, 1);
        shards[0].set(10);
        assert_eq!((node.used(), node.shards.load(Ordering::Relaxed)), (10, 1));
        shards[0].set(1000);
        assert_eq!(node.used(), 10);
        shards[0].set(REPORT_BYTES + 10);
        assert_eq!(node.used(), REPORT_BYTES + 10);
        shards[0].set(0);
        assert_eq!((node.used(), node.shards.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn refusals_have_the_known_shape() {
        let exhausted = Exhausted { pool: "request", wanted: 2_097_152, limit: 1_572_864 };
        let body = circuit_breaking("<agg>", exhausted).to_body();
        assert_eq!(
            body,
            json!({
                "error": {
                    "root_cause": [{
                        "type": "circuit_breaking_exception",
                        "reason": "[request] Data too large, data for [<agg>] would be [2097152/2mb], which is larger than the limit of [1572864/1.5mb]",
                        "bytes_wanted": 2_097_152,
                        "bytes_limit": 1_572_864,
                        "durability": "TRANSIENT",
                    }],
                    "type": "circuit_breaking_exception",
                    "reason": "[request] Data too large, data for [<agg>] would be [2097152/2mb], which is larger than the limit of [1572864/1.5mb]",
                    "bytes_wanted": 2_097_152,
                    "bytes_limit": 1_572_864,
                    "durability": "TRANSIENT",
                },
                "status": 429,
            })
        );
        let refused = too_many_writes(60, Exhausted { pool: "indexing_pressure", wanted: 110, limit: 100 });
        assert_eq!((refused.status, refused.kind.as_str()), (429, "es_rejected_execution_exception"));
        assert_eq!(
            refused.reason,
            "rejected execution of coordinating operation [coordinating_and_primary_bytes=50, replica_bytes=0, all_bytes=50, coordinating_operation_bytes=60, max_coordinating_and_primary_bytes=100]"
        );
    }
}

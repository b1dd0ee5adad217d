//! What a shard is asked and what it answers: the only way to it, from any core (and, later, from any node).

use std::sync::Arc;

use bytes::Bytes;
use ringdex_engine::engine::Storage;
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::search::{FetchRequest, FetchedHit, QueryResult, SearchRequest, SourceFilter, TopHit};
use ringdex_engine::store::ledger::{Flow, Purpose};
use ringdex_engine::translog::Location;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::stats::Snapshot;
use crate::stats::interval::Reading;

/// A shard of an index. The uuid, not the name: a recreated index is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// The index's name, for texts.
    pub index: Arc<str>,
    /// The index's uuid.
    pub uuid: Arc<str>,
    /// Number of the shard, from 0.
    pub shard: u32,
}

/// A request to one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ShardRequest {
    /// Writes, in order. Answered when durable as asked (and visible, if asked).
    Write(WriteRequest),
    /// Realtime (or not) gets, in order.
    Get(Vec<GetRequest>),
    /// Query phase, and fetch phase too when `fetch` is given (a search of a single shard).
    Search(SearchShardRequest),
    /// Fetch phase of a search that left its context open.
    Fetch {
        /// From [`SearchShardResponse::context`]; freed by this request.
        context: u64,
        /// Which hits, best first.
        hits: Vec<TopHit>,
        /// What of them.
        fetch: Arc<FetchRequest>,
        /// The search's deadline, in milliseconds since 1970: what comes later may be left out.
        deadline_ms: Option<i64>,
    },
    /// Keeps the present point in time (scroll, PIT): answered with `Opened`; it goes when not used for `keep_alive_ms`.
    Open {
        /// Milliseconds.
        keep_alive_ms: i64,
    },
    /// What the owner of a kept context wants remembered with it (where a scroll stands); gives back what was there.
    Note {
        /// Context.
        context: u64,
        /// Replaces the note; none = only read it.
        note: Option<Bytes>,
    },
    /// Frees contexts that will not be fetched from.
    Free {
        /// Context.
        context: u64,
    },
    /// What scoring a query asks of this shard's terms, to be added up with the other shards'.
    Statistics {
        /// The query.
        query: Arc<ringdex_engine::query::Query>,
        /// Point in time, as a search has it.
        context: Option<u64>,
        /// Now, for date math.
        now_ms: i64,
    },
    /// `_explain` and the like: the score of one document.
    Explain {
        /// Document.
        id: String,
        /// Query.
        query: Arc<ringdex_engine::query::Query>,
        /// Now, for date math.
        now_ms: i64,
    },
    /// Answered when everything up to a sequence number is visible to searches, which is then soon.
    Visible {
        /// Last operation to be seen.
        seq_no: SeqNo,
        /// Milliseconds since 1970 after which waiting is given up.
        until_ms: i64,
    },
    /// Makes everything written so far visible.
    Refresh,
    /// Commits: segments durable, translog trimmed.
    Flush {
        /// Even if nothing was written.
        force: bool,
        /// Wait for a running flush; otherwise that is an error.
        wait_if_ongoing: bool,
    },
    /// Merges down.
    ForceMerge {
        /// At most so many segments after it; none = what the policy says.
        max_segments: Option<u32>,
        /// Only segments with many deletes.
        only_expunge_deletes: bool,
        /// Flush afterwards.
        flush: bool,
    },
    /// How long its stages took.
    Latency(Reading),
    /// Forgets what the caches hold.
    ClearCache {
        /// Documents of filters.
        query: bool,
        /// Answers to searches.
        request: bool,
    },
    /// What each part of a query and each aggregation costs.
    Profile {
        /// The search.
        query: Arc<SearchRequest>,
        /// Point in time, as the search has it.
        context: Option<u64>,
        /// The search's deadline, in milliseconds since 1970.
        deadline_ms: Option<i64>,
    },
    /// What its bytes are, and what was written for them.
    Storage,
    /// Counters and sizes.
    Stats,
    /// The list of segments.
    Segments,
    /// How far a copy that is being made is. Its core answers: there is no shard yet.
    Recovery,
}

impl ShardRequest {
    /// Whether it is to see every acknowledged write (that has been refreshed, for searches): not what a context keeps.
    #[must_use]
    pub fn reads_newest(&self) -> bool {
        match self {
            ShardRequest::Get(_) | ShardRequest::Open { .. } | ShardRequest::Explain { .. } => true,
            ShardRequest::Search(search) => search.context.is_none(),
            ShardRequest::Statistics { context, .. } => context.is_none(),
            _ => false,
        }
    }
}

/// An answer of one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
pub enum ShardResponse {
    /// One result per operation.
    Write(WriteResponse),
    /// One result per get.
    Get(Vec<Result<GetResult, ApiError>>),
    /// Query phase.
    Search(SearchShardResponse),
    /// Fetch phase, in the order asked.
    Fetch(Vec<FetchedHit>),
    /// A new context.
    Opened {
        /// Its id.
        context: u64,
    },
    /// Statistics of fields and terms.
    TermStatistics(ringdex_engine::search::statistics::Statistics),
    /// The note of a context, as it was before the request.
    Note(Bytes),
    /// Explanation tree, and whether it matched; none = no such document.
    Explain(Option<(bool, serde_json::Value)>),
    /// Done.
    Done,
    /// Latencies, and the core they were measured on.
    Latency {
        /// Number of the core.
        core: u32,
        /// Histograms of the stages that happen in a shard.
        snapshot: Snapshot,
    },
    /// A profile, as answers show it.
    Profile(Box<serde_json::Value>),
    /// See [`ShardStorage`].
    Storage(Box<ShardStorage>),
    /// Counters.
    Stats(Box<ShardStats>),
    /// Segments.
    Segments(Vec<SegmentStats>),
    /// A recovery.
    Recovery(Box<PeerRecovery>),
}

/// What a shard keeps on disk, and what it did for that since it was opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShardStorage {
    /// Its segments.
    pub segments: Storage,
    /// Its translog files.
    pub translog_bytes: u64,
    /// Operations acknowledged.
    pub operations: u64,
    /// Bytes of documents in them, as clients sent them.
    pub source_bytes: u64,
    /// Reads, writes and syncs, if an account is kept.
    pub flows: Vec<(Purpose, Flow)>,
    /// Times the directory was made durable.
    pub directory_syncs: u64,
}

/// When written documents must be visible before the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshPolicy {
    /// With the next refresh.
    #[default]
    None,
    /// Refresh now (`refresh=true`).
    Immediate,
    /// Answer after the next refresh (`refresh=wait_for`).
    WaitFor,
}

/// Operations of one request for one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRequest {
    /// In the client's order.
    pub ops: Vec<WriteOp>,
    /// Visibility.
    pub refresh: RefreshPolicy,
    /// Overrides `index.translog.durability` for this request (`Some(true)`: wait for the sync).
    pub wait_for_sync: Option<bool>,
    /// How long it waits for a primary, in milliseconds.
    pub timeout_ms: u64,
}

/// Optimistic concurrency conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionMatch {
    /// Whatever is there.
    #[default]
    Any,
    /// `if_seq_no` and `if_primary_term`.
    SeqNo(SeqNo, PrimaryTerm),
    /// The typed path's internal `?version=N`: equal.
    Internal(Version),
    /// `version_type=external`: greater than the stored one; becomes the version.
    External(Version),
    /// `version_type=external_gte`.
    ExternalGte(Version),
}

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteOp {
    /// Document id (the coordinator makes automatic ones).
    pub id: String,
    /// Custom routing.
    pub routing: Option<String>,
    /// Condition.
    pub condition: VersionMatch,
    /// What to do.
    pub kind: WriteKind,
}

/// What to do with a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WriteKind {
    /// Put.
    Index {
        /// The document.
        source: Bytes,
        /// `op_type=create`: it must not exist.
        create: bool,
        /// The id was made by us, so that nothing with it can exist (no lookup needed).
        auto_id: bool,
    },
    /// Remove.
    Delete,
    /// Read, change, put; on this shard, atomically.
    Update(Box<UpdateOp>),
}

/// `_update`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateOp {
    /// Partial document (JSON object) to merge in.
    pub doc: Option<Bytes>,
    /// Document to put when there is none.
    pub upsert: Option<Bytes>,
    /// Use `doc` as `upsert`.
    pub doc_as_upsert: bool,
    /// Changing nothing is a no-op (default true).
    pub detect_noop: bool,
    /// Tries after conflicts.
    pub retry_on_conflict: u32,
    /// Give the new `_source` back, filtered so.
    pub source: Option<SourceFilter>,
}

/// Results of a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteResponse {
    /// One per operation, in order.
    pub items: Vec<Result<WriteResult, ApiError>>,
    /// The request made the shard refresh.
    pub forced_refresh: bool,
    /// Everything the request changed is durable here.
    pub fsynced: bool,
    /// Copies that have it, this one included.
    pub copies: u32,
}

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOutcome {
    /// A new document.
    Created,
    /// A document replaced.
    Updated,
    /// A document removed.
    Deleted,
    /// Nothing there to remove.
    NotFound,
    /// An update that changed nothing.
    Noop,
}

/// Result of one operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteResult {
    /// What happened.
    pub outcome: WriteOutcome,
    /// Version after it.
    pub version: Version,
    /// Its place in history (of the last change, for a no-op).
    pub seq_no: SeqNo,
    /// Primary term of that.
    pub term: PrimaryTerm,
    /// The new source, if an update asked for it.
    pub get: Option<GetResult>,
    /// Its place in the translog of the copy that answers; none if nothing was changed.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// One get.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetRequest {
    /// Document id.
    pub id: String,
    /// Routing, only to check `_routing.required` at the coordinator.
    pub routing: Option<String>,
    /// See unrefreshed writes (default true).
    pub realtime: bool,
    /// Refresh first.
    pub refresh: bool,
    /// Expected version, if any.
    pub version: VersionMatch,
    /// `_source` wanted.
    pub source: SourceFilter,
    /// `stored_fields` wanted.
    pub stored_fields: Vec<String>,
}

/// Result of one get.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GetResult {
    /// Whether the document exists; everything else is only there if so.
    pub found: bool,
    /// Version.
    pub version: Version,
    /// Place in history.
    pub seq_no: SeqNo,
    /// Primary term.
    pub term: PrimaryTerm,
    /// Routing.
    pub routing: Option<String>,
    /// Filtered source as JSON bytes; none when disabled.
    pub source: Option<Bytes>,
    /// `stored_fields`, as `fields` in the answer.
    pub fields: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Query phase on one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchShardRequest {
    /// What to find.
    pub query: Arc<SearchRequest>,
    /// Fetch the hits at once (when the search has only this shard): from and what.
    pub fetch: Option<(usize, Arc<FetchRequest>)>,
    /// Stop at this time (milliseconds since 1970), with what was found.
    pub deadline_ms: Option<i64>,
    /// Search in this point in time (from `Open`) and not in the newest; it stays open. Unknown: 404
    /// `search_context_missing_exception`.
    pub context: Option<u64>,
    /// New life time of that context.
    pub keep_alive_ms: Option<i64>,
    /// Whether the answer may come from the request cache (`request_cache`); none = as the index says, if no hits are wanted.
    pub request_cache: Option<bool>,
}

/// Query phase result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchShardResponse {
    /// Hits and partial aggregations.
    pub result: QueryResult,
    /// Fetched hits, if fetch was asked for (`result.hits[from..]`).
    pub fetched: Vec<FetchedHit>,
    /// Context to fetch from, kept for a while; 0 when fetched at once or without hits.
    pub context: u64,
}

/// Counters and sizes of a shard copy. Sums over shards make index and node statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of `_stats`
pub struct ShardStats {
    pub docs_count: u64,
    pub docs_deleted: u64,
    pub store_size_bytes: u64,
    pub index_total: u64,
    pub index_time_ms: u64,
    pub index_failed: u64,
    pub delete_total: u64,
    pub delete_time_ms: u64,
    pub noop_update_total: u64,
    pub get_total: u64,
    pub get_time_ms: u64,
    pub get_exists_total: u64,
    pub get_missing_total: u64,
    pub query_total: u64,
    pub query_time_ms: u64,
    pub fetch_total: u64,
    pub fetch_time_ms: u64,
    pub open_contexts: u64,
    pub query_cache_size_bytes: u64,
    pub query_cache_hits: u64,
    pub query_cache_misses: u64,
    pub query_cache_entries: u64,
    pub query_cache_entries_ever: u64,
    pub request_cache_size_bytes: u64,
    pub request_cache_hits: u64,
    pub request_cache_misses: u64,
    pub request_cache_evictions: u64,
    pub merges_current: u64,
    pub merges_total: u64,
    pub merges_time_ms: u64,
    pub merges_docs: u64,
    pub merges_size_bytes: u64,
    pub refresh_total: u64,
    pub refresh_time_ms: u64,
    pub refresh_external_total: u64,
    pub refresh_listeners: u64,
    pub flush_total: u64,
    pub flush_periodic: u64,
    pub flush_time_ms: u64,
    pub segments_count: u64,
    pub segments_memory_bytes: u64,
    pub index_writer_memory_bytes: u64,
    pub version_map_memory_bytes: u64,
    pub translog_operations: u64,
    pub translog_size_bytes: u64,
    pub translog_uncommitted_operations: u64,
    pub translog_uncommitted_size_bytes: u64,
    pub translog_syncs: u64,
    pub recovered_operations: u64,
    pub max_seq_no: i64,
    pub local_checkpoint: i64,
    pub global_checkpoint: i64,
    pub commit_generation: u64,
    pub commit_id: String,
    /// The core the shard lives on.
    pub core: u32,
    /// How this copy was made from its primary, if it was.
    pub recovery: Option<Box<PeerRecovery>>,
}

/// What a recovery is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of `_recovery`
pub enum RecoveryStage {
    #[default]
    Init,
    Index,
    Translog,
    Finalize,
    Done,
}

impl RecoveryStage {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RecoveryStage::Init => "INIT",
            RecoveryStage::Index => "INDEX",
            RecoveryStage::Translog => "TRANSLOG",
            RecoveryStage::Finalize => "FINALIZE",
            RecoveryStage::Done => "DONE",
        }
    }
}

/// How a copy was made from its primary, or how far that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecovery {
    /// Name of the node it was made from.
    pub source_node: String,
    /// Where that listens for other nodes.
    pub source_address: String,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// The same.
    pub stop_ms: i64,
    /// What it is at.
    pub stage: RecoveryStage,
    /// Files of the commit it was made from; 0 if operations were enough.
    pub files_total: u64,
    /// Those of them that were not here already.
    pub files_missing: u64,
    /// Those of them that have come.
    pub files_fetched: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Those of them that were not here already.
    pub bytes_missing: u64,
    /// Those of them that have come.
    pub bytes_fetched: u64,
    /// Milliseconds that it held back (`indices.recovery.max_bytes_per_sec`).
    pub throttled_ms: u64,
    /// When its files were in place, milliseconds since 1970; 0 before.
    pub files_at_ms: i64,
    /// Operations that came.
    pub operations: u64,
}

/// One segment of a shard copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of `_segments`
pub struct SegmentStats {
    pub name: String,
    pub generation: u64,
    pub docs_count: u64,
    pub docs_deleted: u64,
    pub size_bytes: u64,
    pub memory_bytes: u64,
    pub committed: bool,
    pub searchable: bool,
}

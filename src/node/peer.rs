//! Copies that talk to each other across nodes: replication, and recovery of one copy from another.
//!
//! Messages come to any core of a node; the one that has the shard answers them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_engine::copy::RecoveryTarget;
use ringdex_engine::ids::SeqNo;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::wire::replicate::{
    FileChunk, FileChunkRequest, OperationsBatch, OperationsRequest, Replicate, ReplicateAck,
};
use ringdex_net::wire::{MessageKind, Payload, RemoteError};
use serde::{Deserialize, Serialize};

use super::ShardKey;
use super::core::Core;
use super::remote::{decode, encode, to_remote};
use crate::coordinate::join::Ordered;
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::rest::params::{self, parse_bytes};
use crate::shard::message::{PeerRecovery, RecoveryStage};
use crate::shard::recovery::commit_file;
use crate::shard::signal::Watermark;
use crate::shard::{Fetch, Fetched, Joined, Shard, ShardSpec, Source, shard_uuid};

/// How long a copy may take for a batch of operations before it is taken for lost.
const REPLICATE_WAIT: Duration = Duration::from_secs(60);
/// How long the other end of a recovery may take for one step.
const STEP_WAIT: Duration = Duration::from_secs(120);
/// A recovery that is not used for so long is given up by its source.
const SOURCE_IDLE: Duration = Duration::from_secs(300);
/// Pieces of files.
const CHUNK_BYTES: u32 = 1 << 20;
/// Pieces of a file on their way at a time.
const CHUNKS_AHEAD: usize = 4;
/// Operations of one answer.
const BATCH_BYTES: u32 = 1 << 20;
/// Bytes a second that recoveries may bring to a node, and how many that are by default.
const RATE: &str = "indices.recovery.max_bytes_per_sec";
const RATE_DEFAULT: i64 = 40 << 20;
/// A pause that keeps the rate is not longer: the other end must not give up meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Where in a session's number its core is.
const CORE_SHIFT: u32 = 48;

/// A target asks to be made.
#[derive(Debug, Serialize, Deserialize)]
struct Start {
    uuid: String,
    shard: u32,
    target: AllocationId,
    /// Everything up to here is there, and nothing else.
    has: Option<i64>,
}

/// A source's first answer.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    session: u64,
    fetch: Fetch,
}

/// A target's last word.
#[derive(Debug, Serialize, Deserialize)]
struct Finish {
    session: u64,
    local: i64,
}

fn gone() -> ApiError {
    ApiError::new(404, "recovery_not_found_exception", "there is no such recovery here")
}

fn not_wanted() -> ApiError {
    ApiError::new(503, "recovery_failed_exception", "this copy is not wanted here any more")
}

fn delayed(key: &ShardKey, reason: &str) -> ApiError {
    ApiError::new(503, "delay_recovery_exception", format!("[{}][{}] {reason}", key.0, key.1))
}

fn malformed(e: impl std::fmt::Display) -> ApiError {
    ApiError::new(400, "transport_serialization_exception", e.to_string())
}

impl<I: NodeIo> Core<I> {
    /// Sends operations to a copy on another node.
    pub(super) async fn replicate_to(&self, node: NodeId, message: Replicate) -> ApiResult<ReplicateAck> {
        let kind =
            if message.operations.is_empty() { MessageKind::GlobalCheckpointSync } else { MessageKind::Replicate };
        let answer = self.request(node, kind, message.encode(), REPLICATE_WAIT).await?;
        ReplicateAck::decode(answer).map_err(malformed)
    }

    pub(super) async fn request(
        &self,
        node: NodeId,
        kind: MessageKind,
        payload: Payload,
        wait: Duration,
    ) -> ApiResult<Bytes> {
        self.ask(&self.state_now(), node, kind, payload, wait).await.map_err(|refused| refused.error)
    }

    /// Answers what another node's copy or recovery asks.
    pub(super) async fn answer_peer(self: Rc<Self>, kind: MessageKind, payload: Bytes) -> Result<Payload, RemoteError> {
        self.peer_call(kind, payload).await.map_err(|e| to_remote(&e))
    }

    async fn peer_call(self: &Rc<Self>, kind: MessageKind, payload: Bytes) -> ApiResult<Payload> {
        match kind {
            MessageKind::Replicate | MessageKind::GlobalCheckpointSync => {
                let message = Replicate::decode(payload).map_err(malformed)?;
                let key: ShardKey = (message.index_uuid.as_str().into(), message.shard);
                let ack =
                    self.on_core_of(&key, move |core, key| async move { core.take_replicated(&key, message).await });
                Ok(ack.await?.encode())
            }
            MessageKind::RecoveryStart => {
                let start: Start = decode(&payload)?;
                let key: ShardKey = (start.uuid.as_str().into(), start.shard);
                let begun = self.on_core_of(&key, move |core, key| async move { core.begin_source(&key, start).await });
                encode(&begun.await?)
            }
            MessageKind::RecoveryFileChunk => {
                let asked = FileChunkRequest::decode(payload).map_err(malformed)?;
                let chunk = self.on_core(asked.session, move |core| async move {
                    let source = core.source(asked.session)?;
                    let bytes = source.chunk(&asked.file, asked.offset, asked.size).await?;
                    Ok(FileChunk { file: asked.file, offset: asked.offset, bytes: bytes.into() })
                });
                Ok(chunk.await?.encode())
            }
            MessageKind::RecoveryOperations => {
                let asked = OperationsRequest::decode(payload).map_err(malformed)?;
                let batch = self.on_core(asked.session, move |core| async move {
                    let source = core.source(asked.session)?;
                    Ok(source.operations(asked.size).await?.0)
                });
                Ok(batch.await?.encode())
            }
            MessageKind::RecoveryFinalize => {
                let finish: Finish = decode(&payload)?;
                let joined = self.on_core(finish.session, move |core| async move {
                    let source = core.source(finish.session)?;
                    let joined = source.join(SeqNo(finish.local)).await;
                    core.sources.borrow_mut().remove(&finish.session);
                    joined
                });
                encode(&joined.await?)
            }
            MessageKind::RecoveryEnd => {
                let session: u64 = decode(&payload)?;
                let done = self.on_core(session, move |core| async move {
                    core.sources.borrow_mut().remove(&session);
                    Ok(())
                });
                encode(&done.await?)
            }
            other => Err(malformed(format!("[{}] is not for this lane", other.name()))),
        }
    }

    /// Runs `work` on the core that has the shard.
    async fn on_core_of<T: Send + 'static, F>(
        self: &Rc<Self>,
        key: &ShardKey,
        work: impl FnOnce(Rc<Core<I>>, ShardKey) -> F + Send + 'static,
    ) -> ApiResult<T>
    where
        F: Future<Output = ApiResult<T>> + 'static,
    {
        let nowhere = || {
            let reason = format!("[{}][{}] is not on this node", key.0, key.1);
            ApiError::new(404, "shard_not_found_exception", reason)
        };
        let number = self.core_of(key).ok_or_else(nowhere)?;
        let key = (Arc::clone(&key.0), key.1);
        self.on_number(number, move |core| work(core, key)).await
    }

    /// Runs `work` on the core that a session is on.
    async fn on_core<T: Send + 'static, F>(
        self: &Rc<Self>,
        session: u64,
        work: impl FnOnce(Rc<Core<I>>) -> F + Send + 'static,
    ) -> ApiResult<T>
    where
        F: Future<Output = ApiResult<T>> + 'static,
    {
        self.on_number((session >> CORE_SHIFT) as usize, work).await
    }

    async fn on_number<T: Send + 'static, F>(
        self: &Rc<Self>,
        number: usize,
        work: impl FnOnce(Rc<Core<I>>) -> F + Send + 'static,
    ) -> ApiResult<T>
    where
        F: Future<Output = ApiResult<T>> + 'static,
    {
        if number == self.number() {
            return work(Rc::clone(self)).await;
        }
        let to = self.shared().cores.get(number).ok_or_else(gone)?;
        let call = self.desk.call(to, Lane::Write, move |core| Box::pin(work(core)));
        call.await.map_err(ApiError::from)?
    }

    async fn take_replicated(&self, key: &ShardKey, message: Replicate) -> ApiResult<ReplicateAck> {
        let none = || {
            let reason = format!("[{}][{}] takes no operations here", key.0, key.1);
            ApiError::new(503, "shard_not_found_exception", reason)
        };
        self.follower(key).ok_or_else(none)?.replicate(message).await
    }

    async fn begin_source(&self, key: &ShardKey, start: Start) -> ApiResult<Started> {
        let none = || {
            let reason = format!("[{}][{}] has not started here", key.0, key.1);
            ApiError::new(503, "delay_recovery_exception", reason)
        };
        let shard = self.started(key).ok_or_else(none)?;
        let (source, fetch) = Source::begin(shard, start.target, start.has.map(SeqNo)).await?;
        if source.is_over(SOURCE_IDLE) {
            return Err(none());
        }
        let session = (self.number() as u64) << CORE_SHIFT | (self.io.random() >> (64 - CORE_SHIFT));
        self.end_sources();
        let mut sources = self.sources.borrow_mut();
        // A copy that begins anew has lost what it had begun.
        sources.retain(|_, earlier| !earlier.is_same_recovery(&source));
        sources.insert(session, source);
        Ok(Started { session, fetch })
    }

    /// Lets go of recoveries that nobody goes on with: they hold their shard and its files.
    pub(super) fn end_sources(&self) {
        self.sources.borrow_mut().retain(|_, source| !source.is_over(SOURCE_IDLE));
    }

    fn source(&self, session: u64) -> ApiResult<Rc<Source<I>>> {
        self.sources.borrow().get(&session).cloned().ok_or_else(gone)
    }

    /// One step of a recovery at its source; none is waited for when the recovery was given up.
    async fn step(&self, node: NodeId, kind: MessageKind, payload: Payload, given_up: &Watermark) -> ApiResult<Bytes> {
        let over = async {
            given_up.reached(1).await;
            Err(not_wanted())
        };
        futures_lite::future::or(over, self.request(node, kind, payload, STEP_WAIT)).await
    }

    /// Makes the copy of `key` on this node from its primary. If that fails, nothing is open afterwards.
    pub(super) async fn recover_from_peer(
        &self,
        key: &ShardKey,
        spec: ShardSpec,
        given_up: &Watermark,
    ) -> ApiResult<Rc<Shard<I>>> {
        let mut open = None;
        let made = self.make_from_peer(key, spec, given_up, &mut open).await;
        match (made, open) {
            (Ok(()), Some(shard)) => Ok(shard),
            (Ok(()), None) => Err(not_wanted()),
            (Err(e), open) => {
                self.join(key, None);
                if let Some(shard) = open {
                    shard.close(false).await;
                    self.until_dropped(shard).await;
                }
                Err(e)
            }
        }
    }

    /// What is open is in `open`, also when this fails.
    async fn make_from_peer(
        &self,
        key: &ShardKey,
        spec: ShardSpec,
        given_up: &Watermark,
        open: &mut Option<Rc<Shard<I>>>,
    ) -> ApiResult<()> {
        let state = self.state_now();
        let primary =
            state.routing.get(&*key.0).and_then(|routing| routing.primary(key.1)).filter(|copy| copy.active());
        let node = primary.and_then(|copy| copy.node).ok_or_else(|| delayed(key, "has no active primary"))?;
        let target = spec.copy.as_ref().and_then(|copy| copy.routing.allocation_id).unwrap_or(AllocationId(0));
        let opened = if self.damaged.borrow().contains(key) {
            Err(ApiError::new(500, "shard_failed_exception", "files of this copy were found to be damaged"))
        } else {
            Shard::open(self.io.clone(), spec.clone(), self.this()).await
        };
        *open = match opened {
            Ok(shard) => Some(shard),
            Err(e) => {
                tracing::info!(uuid = %key.0, shard = key.1, error = %e, "what is on the disk is of no use; the copy is made anew");
                None
            }
        };
        let base = open.as_ref().and_then(|shard| shard.recovery_base());
        let start = Start { uuid: key.0.to_string(), shard: key.1, target, has: base.map(|seq_no| seq_no.0) };
        let answer = self.step(node, MessageKind::RecoveryStart, encode(&start)?, given_up).await?;
        let Started { session, fetch } = decode(&answer)?;
        let began = self.io.monotonic_ns();
        let source = state.nodes.get(&node);
        // Its beginning is known.
        let progress = self.progress(key);
        {
            let mut made = progress.borrow_mut();
            made.source_node = source.map_or_else(String::new, |node| node.name.clone());
            made.source_address = source.map_or_else(String::new, |node| node.transport_address.clone());
            made.stage = RecoveryStage::Index;
        }
        // The primary is there, and this becomes another copy than the one that it may have been.
        self.name_directory(key, target).await?;
        let from = match &fetch {
            Fetch::Operations(from) => {
                if let (Some(shard), Some(base)) = (&*open, base)
                    && !shard.take_back_to(base).await?
                {
                    return Err(delayed(key, "cannot go back to where this copy is known to be right"));
                }
                *from
            }
            Fetch::Files { files, from } => {
                if let Some(old) = open.take() {
                    old.close(false).await;
                    self.until_dropped(old).await;
                }
                let directory = self.io.directory(&spec.path).await?;
                let files: Vec<_> = files.iter().map(commit_file).collect();
                {
                    let mut made = progress.borrow_mut();
                    made.files_total = files.len() as u64;
                    made.bytes_total = files.iter().map(|file| file.size).sum();
                }
                let mut copy = RecoveryTarget::begin(directory, shard_uuid(&spec.id), files).await?;
                let since = |from: u64| (self.io.monotonic_ns() - from) / 1_000;
                tracing::debug!(us = since(began), "recovery: what is here is known");
                self.fetch_files(node, session, &mut copy, &progress, given_up).await?;
                tracing::debug!(us = since(began), "recovery: all files are here");
                copy.install().await?;
                tracing::debug!(us = since(began), "recovery: they are installed");
                self.damaged.borrow_mut().remove(key);
                self.name_directory(key, target).await?;
                *from
            }
        };
        let shard = match open {
            Some(shard) => shard,
            None => open.insert(Shard::open(self.io.clone(), spec, self.this()).await?),
        };
        if given_up.has_reached(1) {
            return Err(not_wanted());
        }
        self.join(key, Some(shard));
        tracing::debug!(us = (self.io.monotonic_ns() - began) / 1_000, "recovery: the copy is open");
        progress.borrow_mut().files_at_ms = self.io.now_ms();
        progress.borrow_mut().stage = RecoveryStage::Translog;
        let joined = self.fetch_operations(node, session, from, shard, &progress, given_up).await?;
        let mut made = progress.borrow().clone();
        (made.stage, made.stop_ms) = (RecoveryStage::Done, self.io.now_ms());
        let (operations, fetched_bytes) = (made.operations, made.bytes_fetched);
        shard.joined(joined, made);
        let ms = (self.io.monotonic_ns() - began) / 1_000_000;
        tracing::info!(uuid = %key.0, shard = key.1, %target, from, operations, fetched_bytes, ms, "a copy was made from its primary");
        Ok(())
    }

    async fn fetch_files(
        &self,
        node: NodeId,
        session: u64,
        made: &mut RecoveryTarget<I::Directory>,
        progress: &RefCell<PeerRecovery>,
        given_up: &Watermark,
    ) -> ApiResult<()> {
        let missing: Vec<(String, u64, u64)> =
            made.missing().map(|(file, offset)| (file.name.clone(), offset, file.size)).collect();
        progress.borrow_mut().files_missing = missing.len() as u64;
        progress.borrow_mut().bytes_missing = missing.iter().map(|(_, offset, size)| size - offset).sum();
        let mut pieces = missing.iter().flat_map(|(name, offset, size)| {
            // An empty file is one piece, too.
            let ends = (size - offset).div_ceil(u64::from(CHUNK_BYTES)).max(1);
            (0..ends).map(move |n| (name, offset + n * u64::from(CHUNK_BYTES), n + 1 == ends))
        });
        // Some pieces are asked for ahead, also of the next file, so that disk, wire and disk work at the same time.
        let mut asked = Ordered::default();
        loop {
            while asked.pending() < CHUNKS_AHEAD
                && let Some((name, offset, last)) = pieces.next()
            {
                let request = FileChunkRequest { session, file: name.clone(), offset, size: CHUNK_BYTES };
                let answer = self.step(node, MessageKind::RecoveryFileChunk, request.encode(), given_up);
                asked.push(Box::pin(async move { (answer.await, name, offset, last) }));
            }
            let Some((answer, name, offset, last)) = asked.next().await else { return Ok(()) };
            let chunk = FileChunk::decode(answer?).map_err(malformed)?;
            let bytes = chunk.bytes.len() as u64;
            made.write(name, offset, chunk.bytes).await?;
            progress.borrow_mut().bytes_fetched += bytes;
            progress.borrow_mut().files_fetched += u64::from(last);
            let pause = self.shared().recovery_pace.take(bytes, self.recovery_rate(), self.io.monotonic_ns());
            if pause > 0 {
                let pause = pause.min(PAUSE_MAX.as_nanos() as u64);
                futures_lite::future::or(given_up.reached(1), self.io.sleep(Duration::from_nanos(pause))).await;
                progress.borrow_mut().throttled_ms += pause / 1_000_000;
            }
        }
    }

    /// Bytes a second that recoveries may bring to this node; none = as many as come.
    fn recovery_rate(&self) -> Option<u64> {
        let state = self.state_now();
        let rate =
            state.setting(RATE).and_then(|value| parse_bytes(&params::text(value), RATE).ok()).unwrap_or(RATE_DEFAULT);
        u64::try_from(rate).ok().filter(|rate| *rate > 0)
    }

    async fn fetch_operations(
        &self,
        node: NodeId,
        session: u64,
        from: i64,
        shard: &Rc<Shard<I>>,
        progress: &RefCell<PeerRecovery>,
        given_up: &Watermark,
    ) -> ApiResult<Joined> {
        let mut state = Fetched::More;
        while state == Fetched::More {
            let request = OperationsRequest { session, from: SeqNo(from), size: BATCH_BYTES };
            let answer = self.step(node, MessageKind::RecoveryOperations, request.encode(), given_up).await?;
            let batch = OperationsBatch::decode(answer).map_err(malformed)?;
            shard.take_recovered(&batch).await?;
            progress.borrow_mut().operations += batch.operations.len() as u64;
            if batch.next.is_none() {
                state = Fetched::All;
            }
        }
        progress.borrow_mut().stage = RecoveryStage::Finalize;
        let local = shard.settle_recovery().await?.0;
        let finish = encode(&Finish { session, local })?;
        let answer = self.step(node, MessageKind::RecoveryFinalize, finish, given_up).await?;
        decode(&answer)
    }

    /// Waits until nobody holds the shard any more: its files are about to be replaced.
    async fn until_dropped(&self, shard: Rc<Shard<I>>) {
        while Rc::strong_count(&shard) > 1 {
            self.io.sleep(Duration::from_millis(2)).await;
        }
    }
}

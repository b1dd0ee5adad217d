//! Writes: parse, plan, log, buffer, then one wait for the sync that covers them all.

use std::rc::Rc;
use std::time::Duration;

use ringdex_engine::document::ParsedDocument;
use ringdex_engine::engine::{Applied, GetDocument, IndexOperation};
use ringdex_engine::error::Error;
use ringdex_engine::ids::{SeqNo, Version};
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_engine::pace::Pace;
use ringdex_engine::search::source_filter;
use ringdex_engine::translog::Location;
use ringdex_engine::write::plan::Condition;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::shard::message::{
    GetResult, RefreshPolicy, UpdateOp, VersionMatch, WriteKind, WriteOp, WriteOutcome, WriteRequest, WriteResponse,
    WriteResult,
};
use crate::shard::{BUFFER_WAIT, Shard, add};
use crate::stats::Stage;

/// What the translog needs beside id, routing and source: framing and the fixed part of an operation, rounded up.
const OPERATION_OVERHEAD: usize = 128;

/// Bytes of operations that other copies are sent at a time: they work on a part of a large request while this copy goes on. Small in
/// tests, so that simulated requests come in parts, too.
const PART_BYTES: usize = if cfg!(test) { 256 } else { 64 << 10 };

/// An item's result and, if it changed something, where.
type Item = (WriteResult, Option<Location>);

impl<I: NodeIo> Shard<I> {
    pub(super) async fn write(self: &Rc<Self>, request: WriteRequest) -> ApiResult<WriteResponse> {
        if let Some(reason) = self.engine.failure() {
            return Err(self.failed(&reason));
        }
        self.check_primary()?;
        let replicates = self.replicates();
        let (mut operations, mut operation_bytes) = (Vec::new(), 0);
        let mut parts = Vec::new();
        let pace = self.io.pace(None);
        let mut parsed = self.scratch.borrow_mut().pop().unwrap_or_default();
        let mut items = Vec::with_capacity(request.ops.len());
        let mut last: Option<Location> = None;
        let mut last_seq_no = SeqNo::NONE;
        let mut patient = true;
        for op in &request.ops {
            let item = match self.settings.borrow().write_block {
                Some(block) => Err(ApiError::new(
                    403,
                    "cluster_block_exception",
                    format!("index [{}] blocked by: [FORBIDDEN/8/{block}];", self.id.index),
                )),
                None => Ok(()),
            };
            let item = match item {
                Ok(()) => {
                    let room = self.memory_room(patient).await;
                    // What the first waited for in vain the others need not wait for, too.
                    patient &= room.is_ok();
                    room
                }
                refused => refused,
            };
            let item = match item {
                Ok(()) => self.write_one(op, &mut parsed).await,
                Err(e) => Err(e),
            };
            // Nothing has waited since it was left there.
            if let Some(operation) = self.encoded.borrow_mut().take() {
                operation_bytes += operation.len();
                operations.push(operation);
            }
            if operation_bytes >= PART_BYTES {
                operation_bytes = 0;
                parts.push(self.begin(std::mem::take(&mut operations)));
            }
            items.push(item.map(|(result, location)| {
                if location.is_some() {
                    last = last.max(location);
                    last_seq_no = last_seq_no.max(result.seq_no);
                }
                result
            }));
            pace.yield_if_needed().await;
        }
        self.scratch.borrow_mut().push(parsed);
        if last.is_some() && request.refresh == RefreshPolicy::WaitFor {
            // While it becomes durable.
            self.soon_now.raise();
        }
        if !operations.is_empty() || replicates && last.is_some() && parts.is_empty() {
            parts.push(self.begin(operations));
        }
        if let Some(location) = last {
            // A request that insists on a sync makes an asynchronous translog sync now.
            let by_setting = self.settings.borrow().sync_each_request;
            if request.wait_for_sync.unwrap_or(by_setting) {
                if !by_setting {
                    self.sync_now.raise();
                }
                let began = self.io.monotonic_ns();
                let durable = self.engine.wait_durable(location).await;
                self.timed(Stage::SyncWait, began);
                if let Err(e) = durable {
                    self.report_failure();
                    return Err(self.failed(&e.to_string()));
                }
            }
        }
        if !parts.is_empty() {
            parts.iter().for_each(|(id, _)| self.synced(*id));
            let began = self.io.monotonic_ns();
            let mut done = Ok(());
            for (_, others) in parts {
                done = done.and(others.get().await);
            }
            self.timed(Stage::Replicate, began);
            done?;
        }
        let forced_refresh = match request.refresh {
            RefreshPolicy::None => false,
            RefreshPolicy::Immediate => {
                self.refresh(true).await?;
                true
            }
            RefreshPolicy::WaitFor if last.is_none() => false,
            RefreshPolicy::WaitFor => {
                let settings = self.settings.borrow().clone();
                if self.visible.waiting() >= settings.max_refresh_listeners {
                    self.refresh(true).await?;
                    true
                } else {
                    let began = self.io.monotonic_ns();
                    self.until_visible(last_seq_no.0).await;
                    self.timed(Stage::RefreshWait, began);
                    if let Some(reason) = self.engine.failure()
                        && self.engine.visible_seq_no() < last_seq_no
                    {
                        return Err(self.failed(&reason));
                    }
                    false
                }
            }
        };
        let fsynced = last.is_none_or(|location| self.engine.translog().is_synced(location));
        Ok(WriteResponse { items, forced_refresh, fsynced, copies: self.copies_in_writes() })
    }

    /// Waits, if `patient`, until the node has memory for what an operation adds to the buffer.
    async fn memory_room(&self, patient: bool) -> ApiResult<()> {
        self.buffer.set(self.engine.indexing_bytes());
        if self.buffer.wants_refresh() {
            self.refresh_now.raise();
        }
        if !self.buffer.is_full() {
            return Ok(());
        }
        self.buffer.note_stall();
        let until = self.io.monotonic_ns() + BUFFER_WAIT.as_nanos() as u64;
        while self.buffer.is_full() {
            if !patient || self.io.monotonic_ns() > until || self.closing.get() || self.engine.failure().is_some() {
                return Err(self.buffer.refuse());
            }
            self.refresh_now.raise();
            self.images_now.raise();
            self.io.sleep(Duration::from_millis(2)).await;
            self.buffer.set(self.engine.indexing_bytes());
        }
        Ok(())
    }

    pub(super) fn failed(&self, reason: &str) -> ApiError {
        ApiError::new(
            503,
            "shard_failed_exception",
            format!("[{}][{}] shard has failed: {reason}", self.id.index, self.id.shard),
        )
        .with("index", &*self.id.index)
        .with("shard", self.id.shard.to_string())
    }

    async fn write_one(&self, op: &WriteOp, parsed: &mut ParsedDocument) -> ApiResult<Item> {
        let began = self.io.monotonic_ns();
        let done = match &op.kind {
            WriteKind::Index { source, create, auto_id } => {
                let done = self.index(op, source, *create, *auto_id, op.condition, parsed).await;
                add(&self.counters.index_ns, self.io.monotonic_ns() - began);
                done
            }
            WriteKind::Delete => {
                let done = self.delete(op).await;
                add(&self.counters.delete_ns, self.io.monotonic_ns() - began);
                done
            }
            WriteKind::Update(update) => self.update(op, update, parsed).await,
        };
        if done.is_err() && !matches!(op.kind, WriteKind::Delete) {
            add(&self.counters.index_failed, 1);
        }
        done
    }

    async fn index(
        &self,
        op: &WriteOp,
        source: &[u8],
        create: bool,
        auto_id: bool,
        condition: VersionMatch,
        parsed: &mut ParsedDocument,
    ) -> ApiResult<Item> {
        let began = self.io.monotonic_ns();
        let size = OPERATION_OVERHEAD + op.id.len() + op.routing.as_ref().map_or(0, String::len) + source.len();
        // First: a document that is refused for want of space must not have changed the mapping.
        self.reserve(size).await?;
        self.parse(&op.id, source, parsed).await?;
        let parsed_at = self.io.monotonic_ns();
        self.record(Stage::Parse, parsed_at - began);
        // Again, for parsing may have waited. Nothing awaits from here to the append.
        self.reserve(size).await?;
        let operation = IndexOperation {
            id: &op.id,
            routing: op.routing.as_deref(),
            source,
            condition: condition_of(condition),
            create,
            auto_id,
        };
        let compiled = self.compiled.borrow().clone();
        let applied =
            self.engine.index(&compiled.mapping, parsed, &operation, self.term()).map_err(|e| self.here(e))?;
        if self.replicates() {
            let (id, version, routing) = (&*op.id, applied.version, op.routing.as_deref());
            self.keep_encoded(&applied, OperationKind::Index { id, version, routing, source });
        }
        let took = parsed_at - began + self.timed(Stage::Buffer, parsed_at);
        self.settings.borrow().slow_log.index(&self.id, took, &op.id, op.routing.as_deref(), source);
        add(&self.counters.index, 1);
        add(&self.counters.source_bytes, source.len() as u64);
        let outcome = if applied.existed { WriteOutcome::Updated } else { WriteOutcome::Created };
        Ok((result_of(outcome, &applied), Some(applied.location)))
    }

    /// Keeps what was done for the other copies: the same bytes that are in the translog.
    fn keep_encoded(&self, applied: &Applied, kind: OperationKind<'_>) {
        let mut encoded = Vec::new();
        Operation { seq_no: applied.seq_no, term: applied.term, kind }.encode(&mut encoded);
        *self.encoded.borrow_mut() = Some(encoded.into());
    }

    /// Waits for room for an operation in the translog. On a full disk the refused do not all look for space again: they
    /// are told what was found within the last second, and upkeep, which can make space, is hurried.
    async fn reserve(&self, size: usize) -> ApiResult<()> {
        let translog = self.engine.translog();
        let hurry = || {
            self.upkeep_backoff.borrow_mut().press();
            self.upkeep_now.raise();
        };
        if let Some(full) = translog.refusal(size)
            && !self.room_backoff.borrow().rest(self.io.monotonic_ns()).is_zero()
        {
            hurry();
            return Err(self.here(full));
        }
        match translog.reserve(size).await {
            Ok(()) => {
                if self.room_backoff.borrow_mut().succeeded().is_some() {
                    hurry();
                }
                Ok(())
            }
            Err(e) => {
                if matches!(e, Error::DiskFull { .. }) {
                    self.room_backoff.borrow_mut().failed(self.io.monotonic_ns());
                    hurry();
                }
                Err(self.here(e))
            }
        }
    }

    async fn delete(&self, op: &WriteOp) -> ApiResult<Item> {
        self.reserve(OPERATION_OVERHEAD + op.id.len()).await?;
        let condition = condition_of(op.condition);
        let now_ms = self.io.now_ms();
        let applied = self.engine.delete(&op.id, condition, self.term(), now_ms).map_err(|e| self.here(e))?;
        if self.replicates() {
            self.keep_encoded(&applied, OperationKind::Delete { id: &op.id, version: applied.version });
        }
        add(&self.counters.delete, 1);
        let outcome = if applied.existed { WriteOutcome::Deleted } else { WriteOutcome::NotFound };
        Ok((result_of(outcome, &applied), Some(applied.location)))
    }

    async fn update(&self, op: &WriteOp, update: &UpdateOp, parsed: &mut ParsedDocument) -> ApiResult<Item> {
        let mut tries_left = update.retry_on_conflict;
        loop {
            let done = self.try_update(op, update, parsed).await;
            match done {
                Err(e) if e.status == 409 && tries_left > 0 => tries_left -= 1,
                done => return done,
            }
        }
    }

    async fn try_update(&self, op: &WriteOp, update: &UpdateOp, parsed: &mut ParsedDocument) -> ApiResult<Item> {
        let Some(current) = self.engine.get(&op.id).map_err(|e| self.here(e))? else {
            let upsert = match (&update.upsert, &update.doc) {
                (Some(upsert), _) => upsert,
                (None, Some(doc)) if update.doc_as_upsert => doc,
                _ => {
                    return Err(ApiError::new(
                        404,
                        "document_missing_exception",
                        format!("[_doc][{}]: document missing", op.id),
                    )
                    .with("index_uuid", &*self.id.uuid)
                    .with("shard", self.id.shard.to_string())
                    .with("index", &*self.id.index));
                }
            };
            if op.condition != VersionMatch::Any {
                let missing = ringdex_engine::write::plan::plan(&op.id, false, condition_of(op.condition), None);
                missing.map_err(|e| self.here(e))?;
            }
            let (mut result, location) = self.index(op, upsert, true, false, VersionMatch::Any, parsed).await?;
            result.get = self.updated_source(update, &result, op.routing.clone(), upsert)?;
            return Ok((result, location));
        };
        if let VersionMatch::SeqNo(seq_no, term) = op.condition
            && (seq_no, term) != (current.seq_no, current.term)
        {
            let now = ringdex_engine::write::plan::Current {
                version: current.version,
                seq_no: current.seq_no,
                term: current.term,
                deleted: false,
            };
            ringdex_engine::write::plan::plan(&op.id, false, condition_of(op.condition), Some(now))
                .map_err(|e| self.here(e))?;
        }
        let mut document: Map<String, Value> = serde_json::from_slice(&current.source).map_err(|e| {
            ApiError::new(500, "parse_exception", format!("stored source of [{}] is not an object: {e}", op.id))
        })?;
        let changed = match &update.doc {
            None => false,
            Some(doc) => {
                let changes: Map<String, Value> = serde_json::from_slice(doc)
                    .map_err(|e| ApiError::new(400, "parse_exception", format!("failed to parse doc: {e}")))?;
                merge_into(&mut document, changes)
            }
        };
        if !changed && update.detect_noop {
            add(&self.counters.noop, 1);
            let mut result = WriteResult {
                outcome: WriteOutcome::Noop,
                version: current.version,
                seq_no: current.seq_no,
                term: current.term,
                get: None,
                location: None,
            };
            result.get = self.updated_source(update, &result, current.routing.clone(), &current.source)?;
            return Ok((result, None));
        }
        let source = serde_json::to_vec(&document).map_err(|e| ApiError::new(500, "exception", e.to_string()))?;
        let condition = VersionMatch::SeqNo(current.seq_no, current.term);
        let op = WriteOp { routing: op.routing.clone().or(current.routing), ..op.clone() };
        let (mut result, location) = self.index(&op, &source, false, false, condition, parsed).await?;
        result.get = self.updated_source(update, &result, op.routing.clone(), &source)?;
        Ok((result, location))
    }

    /// The document an update leaves, if the request asked for it.
    fn updated_source(
        &self,
        update: &UpdateOp,
        result: &WriteResult,
        routing: Option<String>,
        source: &[u8],
    ) -> ApiResult<Option<GetResult>> {
        let Some(filter) = &update.source else { return Ok(None) };
        let document = GetDocument {
            version: result.version,
            seq_no: result.seq_no,
            term: result.term,
            routing,
            source: source.to_vec(),
        };
        self.found(document, filter).map(Some)
    }

    /// A document as an answer shows it.
    pub(super) fn found(
        &self,
        document: GetDocument,
        filter: &ringdex_engine::search::SourceFilter,
    ) -> ApiResult<GetResult> {
        let source = if filter.disabled {
            None
        } else {
            Some(source_filter::filter(&document.source, filter).map_err(ApiError::from)?.into_owned().into())
        };
        Ok(GetResult {
            found: true,
            version: document.version,
            seq_no: document.seq_no,
            term: document.term,
            routing: document.routing,
            source,
            fields: None,
        })
    }

    /// An engine error with the shard it happened in.
    pub(super) fn here(&self, error: Error) -> ApiError {
        ApiError::of_engine(error, &self.id.index, &self.id.uuid, self.id.shard)
    }
}

fn condition_of(version: VersionMatch) -> Condition {
    match version {
        VersionMatch::Any => Condition::Any,
        VersionMatch::SeqNo(seq_no, term) => Condition::SeqNo(seq_no, term),
        VersionMatch::Internal(v) => Condition::Internal(v),
        VersionMatch::External(v) => Condition::External(v),
        VersionMatch::ExternalGte(v) => Condition::ExternalGte(v),
    }
}

fn result_of(outcome: WriteOutcome, applied: &Applied) -> WriteResult {
    let version: Version = applied.version;
    WriteResult {
        outcome,
        version,
        seq_no: applied.seq_no,
        term: applied.term,
        get: None,
        location: Some(applied.location),
    }
}

/// Merges a partial document into a document, objects member by member, anything else as a whole; whether anything changed.
/// Depth is bounded by the parser that made both.
fn merge_into(document: &mut Map<String, Value>, changes: Map<String, Value>) -> bool {
    let mut changed = false;
    for (key, new) in changes {
        match (document.get_mut(&key), new) {
            (Some(Value::Object(old)), Value::Object(new)) => changed |= merge_into(old, new),
            (Some(old), new) if *old == new => {}
            (_, new) => {
                document.insert(key, new);
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(document: Value, changes: Value, want: Value, changed: bool) {
        let (Value::Object(mut document), Value::Object(changes)) = (document, changes) else { panic!("objects") };
        assert_eq!(merge_into(&mut document, changes), changed);
        assert_eq!(Value::Object(document), want);
    }

    #[test]
    fn partial_documents_merge_deeply_and_notice_when_nothing_changes() {
        check(json!({"a": 1}), json!({"a": 1}), json!({"a": 1}), false);
        check(json!({"a": 1}), json!({"b": null}), json!({"a": 1, "b": null}), true);
        check(json!({"o": {"x": 1, "y": 2}}), json!({"o": {"y": 3}}), json!({"o": {"x": 1, "y": 3}}), true);
        check(json!({"o": {"x": [1, 2]}}), json!({"o": {"x": [1]}}), json!({"o": {"x": [1]}}), true);
        check(json!({"o": {"x": 1}}), json!({"o": {}}), json!({"o": {"x": 1}}), false);
        check(json!({"o": 1}), json!({"o": {}}), json!({"o": {}}), true);
    }
}

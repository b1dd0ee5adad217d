//! Opening a shard: the newest commit point, then the translog from where that commit ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_lock::Mutex;

use crate::commit::CommitPoint;
use crate::copy;
use crate::document::ParsedDocument;
use crate::engine::{CommittedFiles, Counters, Engine, EngineConfig, Home, IndexOperation, SegmentEntry, State, add};
use crate::error::{Error, Result};
use crate::flush::segment_of_any_file;
use crate::ids::{Generation, SegmentId, SeqNo};
use crate::mapping::Mapping;
use crate::op::{Operation, OperationKind};
use crate::replica::{self, CopyState};
use crate::search::Searcher;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::segment::segment_file_name;
use crate::store::Directory;
use crate::translog::{OperationReader, Options, Translog};
use crate::write::buffer::IndexingBuffer;
use crate::write::local_checkpoint::LocalCheckpointTracker;
use crate::write::plan::Condition;
use crate::write::version_map::LiveVersionMap;

impl<D: Directory> Engine<D> {
    /// Opens the shard in `directory`, or makes an empty one where there never was one. Operations newer than the commit
    /// are not applied yet: feed [`Engine::replay`] to [`Engine::recover`], then refresh.
    ///
    /// # Errors
    /// `Corrupt`, naming file and offset; `Io`; `DiskFull`.
    pub async fn open(directory: D, config: EngineConfig) -> Result<Engine<D>> {
        let claim = directory.claim();
        let size_max = config.translog_generation_bytes;
        let first_size = Options::default().first_size.min(size_max);
        let options = Options { first_size, size_max, ..Options::default() };
        copy::finish_install(&directory).await?;
        copy::remove_unfinished(&directory).await?;
        let (commit, translog) = match CommitPoint::load_newest(&directory).await? {
            Some(commit) => {
                if commit.shard_uuid != config.shard_uuid {
                    return Err(Error::corrupt(commit.file_name(), 0, "belongs to another shard"));
                }
                let translog =
                    Translog::open(directory.clone(), config.shard_uuid, commit.translog_position, options).await?;
                (commit, translog)
            }
            None => {
                // A crash during creation leaves at most an empty translog; segments without a commit are lost data.
                let files = directory.list().await?;
                if let Some((name, _)) = files.iter().find(|(name, _)| segment_of_any_file(name).is_some()) {
                    return Err(Error::corrupt(name.clone(), 0, "there is a segment, but no commit point"));
                }
                let translog = Translog::create(directory.clone(), config.shard_uuid, options).await?;
                let commit = CommitPoint {
                    generation: Generation(1),
                    shard_uuid: config.shard_uuid,
                    segments: Vec::new(),
                    local_checkpoint: SeqNo::NONE,
                    max_seq_no: SeqNo::NONE,
                    max_unsafe_auto_id_timestamp: -1,
                    translog_uuid: config.shard_uuid,
                    translog_position: translog.min_generation_for(SeqNo(0)),
                    user_data: BTreeMap::new(),
                };
                commit.write(&directory).await?;
                translog.committed(commit.translog_position);
                (commit, translog)
            }
        };
        let rolled_back = replica::rolled_back(&commit)?;
        rolled_back.iter().for_each(|(generation, voided)| translog.void_before(*generation, *voided));
        let mut older = commit.load_older(&directory).await?;
        older.retain(|c| translog.holds(c.translog_position));
        let segments = open_segments(&directory, &commit).await?;
        // Files of segments that no commit names may be there still: never use their ids again.
        let on_disk = directory.list().await?;
        let newest = on_disk.iter().filter_map(|(name, _)| segment_of_any_file(name)).max();
        let next_segment = SegmentId(newest.map_or(1, |id| id.0 + 1));
        let hash_seed = config.hash_seed;
        let mut checkpoints = LocalCheckpointTracker::new(commit.local_checkpoint);
        checkpoints.advance_max(commit.max_seq_no);
        let mut copy_state = CopyState::new(commit.local_checkpoint);
        copy_state.global_checkpoint = replica::global_checkpoint(&commit)?;
        copy_state.rolled_back = rolled_back;
        copy_state.commits = older;
        let engine = Engine {
            directory,
            config: RefCell::new(config),
            translog,
            state: RefCell::new(State {
                buffer: IndexingBuffer::new(hash_seed),
                frozen: None,
                versions: LiveVersionMap::new(hash_seed),
                checkpoints,
                segments,
                pending_deletes: Vec::new(),
                next_segment,
                visible: commit.local_checkpoint,
                visible_max: commit.max_seq_no,
                changes: 0,
                shown: 0,
                copy: copy_state,
                committed: CommittedFiles::default(),
                merging: BTreeMap::new(),
                cancelled: BTreeSet::new(),
            }),
            searcher: RefCell::new(Searcher::default()),
            refresh_lock: Mutex::new(()),
            flush_lock: Mutex::new(()),
            write_lock: Mutex::new(()),
            counters: Counters::default(),
            failure: RefCell::new(None),
            rolling_back: Cell::new(false),
            _claim: claim,
        };
        engine.install(&commit);
        engine.remove_garbage().await?;
        engine.publish(&engine.state.borrow());
        Ok(engine)
    }

    /// Operations that the commit lacks, in order.
    #[must_use]
    pub fn replay(&self) -> OperationReader<D> {
        self.translog.replay()
    }

    /// Whether replaying this operation would change anything.
    ///
    /// # Errors
    /// `Corrupt` where what is here of its document is damaged.
    pub fn recovery_needs(&self, operation: &Operation<'_>) -> Result<bool> {
        let state = self.state.borrow();
        if state.checkpoints.contains(operation.seq_no) {
            return Ok(false);
        }
        let found = operation.id().map_or(Ok(None), |id| state.find(id))?;
        Ok(found.is_none_or(|k| k.current.seq_no < operation.seq_no))
    }

    /// Applies an operation that is in the translog already, with the numbers it has. Older than what is there: nothing
    /// but its number is noted. `parsed` is the source of an index operation, parsed with `mapping`.
    ///
    /// # Errors
    /// `Corrupt` where what is here of its document is damaged.
    pub fn recover(
        &self,
        mapping: &Mapping,
        operation: &Operation<'_>,
        parsed: &ParsedDocument,
        now_ms: i64,
    ) -> Result<()> {
        let needed = self.recovery_needs(operation)?;
        let state = &mut *self.state.borrow_mut();
        add(&self.counters.recovered_operations, 1);
        let Operation { seq_no, term, kind } = *operation;
        match kind {
            OperationKind::Index { id, version, routing, source } if needed => {
                let found = state.find(id)?;
                let index =
                    IndexOperation { id, routing, source, condition: Condition::Any, create: false, auto_id: false };
                state.put(mapping, parsed, &index, found, version, seq_no, term);
            }
            OperationKind::Delete { id, version } if needed => {
                let found = state.find(id)?;
                state.remove(id, found, version, seq_no, term, now_ms);
            }
            _ => state.mark(seq_no),
        }
        state.recovered(seq_no, term);
        Ok(())
    }
}

/// The segments of a commit, with its deletes.
pub(crate) async fn open_segments<D: Directory>(directory: &D, commit: &CommitPoint) -> Result<Vec<SegmentEntry>> {
    let mut segments = Vec::with_capacity(commit.segments.len());
    for committed in &commit.segments {
        let (id, size) = (committed.id, committed.size);
        let opened = directory.map_with(&committed.file, move |bytes| {
            if bytes.len() as u64 != size {
                let reason = format!("{size} bytes expected, {} found", bytes.len());
                return Err(Error::corrupt(segment_file_name(id), 0, reason));
            }
            SegmentReader::open(id, bytes)
        });
        let reader = opened.await??;
        if reader.meta().crc != committed.crc || reader.doc_count() != committed.doc_count {
            return Err(Error::corrupt(committed.file.clone(), 0, "is not the segment that was committed"));
        }
        let (live, live_generation) = match (committed.live_docs, committed.live_docs_file()) {
            (Some(generation), Some(file)) => {
                let bytes = directory.read(&file).await?;
                let live = LiveDocs::decode(&file, &bytes, committed.id, generation, committed.doc_count)?;
                (Some(Arc::new(live)), generation)
            }
            _ => (None, Generation(0)),
        };
        let home = Home::Durable;
        segments.push(SegmentEntry {
            id: committed.id,
            reader: Arc::new(reader),
            live,
            live_generation,
            home,
            merging: false,
            young: false,
        });
    }
    Ok(segments)
}

//! One shard copy: plan -> translog append -> buffer -> (sync) for a write; version map, then segments, for a get.
//!
//! Everything that changes a document is synchronous and runs to its end, so the shard's history is the order of the
//! calls. What awaits (syncs, refreshes, flushes) never holds a borrow of the state across an await.
//!
//! Invariants:
//! - an operation is in the translog's batch before it is in the buffer; it is acknowledged only after
//!   [`Engine::wait_durable`] of its location.
//! - at most one live copy of a document: the newest. An older one is deleted in the same published [`Searcher`] that
//!   shows the newer one.
//! - a segment file is never changed; deletes live in [`LiveDocs`], one generation per published change.
//! - files are removed only when neither the newest durable commit point nor the current segments name them.
//! - after an error that [`Error::fails_shard`] nothing is acknowledged any more.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use async_lock::Mutex;
use serde::{Deserialize, Serialize};

use crate::document::ParsedDocument;
use crate::error::{Error, Result};
use crate::ids::{DocId, Generation, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::mapping::Mapping;
use crate::op::{Operation, OperationKind};
use crate::replica::CopyState;
use crate::search::{Searcher, SegmentView};
use crate::seed::HashSeed;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::{Numbering, SegmentReader};
use crate::segment::writer::Codec;
use crate::store::Directory;
use crate::translog::{Location, Translog};
use crate::write::buffer::{FrozenBuffer, IndexingBuffer};
use crate::write::local_checkpoint::LocalCheckpointTracker;
use crate::write::plan::{self, Condition, Current};
use crate::write::version_map::{Entry, Found, LiveVersionMap, Place};

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Names this shard copy's history; 16 bytes, the same for ever.
    pub shard_uuid: [u8; 16],
    /// How `_source` is compressed in new segments.
    pub codec: Codec,
    /// A translog generation is closed when it has this many bytes.
    pub translog_generation_bytes: u64,
    /// Under which tables of ids and terms hash; see `seed`.
    pub hash_seed: HashSeed,
}

/// One shard's storage. See the module.
pub struct Engine<D: Directory> {
    pub(crate) directory: D,
    pub(crate) config: RefCell<EngineConfig>,
    pub(crate) translog: Translog<D>,
    pub(crate) state: RefCell<State>,
    pub(crate) searcher: RefCell<Searcher>,
    /// Held by a refresh from freezing the buffer to publishing its segment.
    pub(crate) refresh_lock: Mutex<()>,
    /// Held by a flush.
    pub(crate) flush_lock: Mutex<()>,
    /// Held by whoever writes segment images.
    pub(crate) write_lock: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) failure: RefCell<Option<Error>>,
    /// From the beginning of a roll-back until its commit is durable.
    pub(crate) rolling_back: Cell<bool>,
    pub(crate) _claim: Option<Rc<()>>,
}

/// Everything that a synchronous step may change together.
pub(crate) struct State {
    pub buffer: IndexingBuffer,
    /// The buffer being made into this segment.
    pub frozen: Option<(SegmentId, Rc<FrozenBuffer>)>,
    pub versions: LiveVersionMap,
    pub checkpoints: LocalCheckpointTracker,
    /// In order of creation.
    pub segments: Vec<SegmentEntry>,
    /// Documents of segments (or of the frozen buffer) that the next refresh deletes.
    pub pending_deletes: Vec<(SegmentId, DocId)>,
    pub next_segment: SegmentId,
    /// Everything up to here is visible to searches.
    pub visible: SeqNo,
    /// Nothing above this is.
    pub visible_max: SeqNo,
    /// Counts operations, and how many of them searches see: sequence numbers do not tell when they come out of order.
    pub changes: u64,
    pub shown: u64,
    /// What this copy knows of the others, and keeps for them.
    pub copy: CopyState,
    /// What the newest durable commit point holds.
    pub committed: CommittedFiles,
    /// Sources of each running merge, by the segment it makes.
    pub merging: BTreeMap<SegmentId, Vec<SegmentId>>,
    /// Merges whose sources a roll-back has taken away while they ran.
    pub cancelled: BTreeSet<SegmentId>,
}

/// The newest durable commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommittedFiles {
    pub generation: Generation,
    pub local_checkpoint: SeqNo,
    pub max_seq_no: SeqNo,
    pub files: Vec<String>,
    pub segments: Vec<SegmentId>,
}

/// A searchable segment.
#[derive(Clone)]
pub(crate) struct SegmentEntry {
    pub id: SegmentId,
    pub reader: Arc<SegmentReader>,
    pub live: Option<Arc<LiveDocs>>,
    /// Grows with each change of `live`; 0 = no deletes.
    pub live_generation: Generation,
    pub home: Home,
    pub merging: bool,
    /// Made by [`Engine::refresh_soon`]: in memory, soon to be one with its neighbours.
    pub young: bool,
}

/// Where a segment's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Only in memory.
    Memory,
    /// In a file, which may not be synced yet.
    Written,
    /// In a file that is durable (its directory entry included).
    Durable,
}

/// What happened how often. Cells, because the engine lives on one core.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub refreshes: Cell<u64>,
    pub flushes: Cell<u64>,
    pub merges: Cell<u64>,
    pub merged_docs: Cell<u64>,
    pub merged_bytes: Cell<u64>,
    pub written_segment_bytes: Cell<u64>,
    pub recovered_operations: Cell<u64>,
}

pub(crate) fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

/// Bytes of all segments of a shard, by what they hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Storage {
    /// All of them.
    pub segment_bytes: u64,
    /// The documents in them as clients sent them.
    pub source_bytes: u64,
    /// Documents, deleted ones included.
    pub documents: u64,
    /// Deleted ones.
    pub deleted: u64,
    /// What belongs to no field: sources, ids, versions.
    pub documents_parts: BTreeMap<Cow<'static, str>, u64>,
    /// What belongs to each field.
    pub fields: BTreeMap<String, BTreeMap<Cow<'static, str>, u64>>,
}

/// An index operation, before it is planned.
#[derive(Clone, Copy, Debug)]
pub struct IndexOperation<'a> {
    /// Document id.
    pub id: &'a str,
    /// Custom routing.
    pub routing: Option<&'a str>,
    /// The document as the client sent it.
    pub source: &'a [u8],
    /// What must be there.
    pub condition: Condition,
    /// Nothing may be there (`op_type=create`).
    pub create: bool,
    /// The id was made by us and is used for the first time: no look-up.
    pub auto_id: bool,
}

/// What an accepted write did; durable once its location is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Applied {
    /// Version after it.
    pub version: Version,
    /// Place in history.
    pub seq_no: SeqNo,
    /// Term.
    pub term: PrimaryTerm,
    /// A live document was there before.
    pub existed: bool,
    /// For [`Engine::wait_durable`].
    pub location: Location,
}

/// A document as a get sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct GetDocument {
    /// Version.
    pub version: Version,
    /// Place of its last change.
    pub seq_no: SeqNo,
    /// Term of that.
    pub term: PrimaryTerm,
    /// Custom routing.
    pub routing: Option<String>,
    /// The document as the client sent it.
    pub source: Vec<u8>,
}

impl<D: Directory> Engine<D> {
    /// Puts a document. `parsed` is `source` parsed with `mapping`.
    ///
    /// # Errors
    /// `VersionConflict`; `DiskFull` and `Rejected` (nothing was changed); `Failed`.
    pub fn index(
        &self,
        mapping: &Mapping,
        parsed: &ParsedDocument,
        operation: &IndexOperation<'_>,
        term: PrimaryTerm,
    ) -> Result<Applied> {
        self.check_open()?;
        let state = &mut *self.state.borrow_mut();
        let found = if operation.auto_id { None } else { state.find(operation.id)? };
        let plan = plan::plan(operation.id, operation.create, operation.condition, found.as_ref().map(|f| f.current))?;
        let seq_no = state.checkpoints.peek();
        let location = self.translog.append(&Operation {
            seq_no,
            term,
            kind: OperationKind::Index {
                id: operation.id,
                version: plan.version,
                routing: operation.routing,
                source: operation.source,
            },
        })?;
        state.put(mapping, parsed, operation, found, plan.version, seq_no, term);
        state.appended(location, self.translog.synced(), seq_no, term);
        Ok(Applied { version: plan.version, seq_no, term, existed: plan.existed, location })
    }

    /// Removes a document. Deleting what is not there is an operation, too: it gets a sequence number and a tombstone.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub fn delete(&self, id: &str, condition: Condition, term: PrimaryTerm, now_ms: i64) -> Result<Applied> {
        self.check_open()?;
        let state = &mut *self.state.borrow_mut();
        let found = state.find(id)?;
        let plan = plan::plan(id, false, condition, found.as_ref().map(|f| f.current))?;
        let seq_no = state.checkpoints.peek();
        let kind = OperationKind::Delete { id, version: plan.version };
        let location = self.translog.append(&Operation { seq_no, term, kind })?;
        state.remove(id, found, plan.version, seq_no, term, now_ms);
        state.appended(location, self.translog.synced(), seq_no, term);
        Ok(Applied { version: plan.version, seq_no, term, existed: plan.existed, location })
    }

    /// The last state of a document with no regard to refreshes.
    ///
    /// # Errors
    /// `Corrupt` when the stored bytes are damaged.
    pub fn get(&self, id: &str) -> Result<Option<GetDocument>> {
        let state = self.state.borrow();
        let Some(found) = state.find(id)? else { return Ok(None) };
        let Current { version, seq_no, term, deleted } = found.current;
        if deleted {
            return Ok(None);
        }
        let mut source = Vec::new();
        let routing = match found.home {
            Where::Tombstone => return Ok(None),
            Where::Buffer(doc) => {
                state.buffer.source(doc, &mut source)?;
                state.buffer.routing(doc).map(str::to_owned)
            }
            Where::Frozen(_, doc) => {
                let (_, frozen) = state.frozen.as_ref().expect("an old entry belongs to the frozen buffer");
                frozen.source(doc, &mut source)?;
                frozen.routing(doc).map(str::to_owned)
            }
            Where::Segment(index, doc) => {
                let reader = &state.segments[index].reader;
                reader.source_once(doc, &mut source)?;
                reader.address(doc)?.1.map(str::to_owned)
            }
        };
        Ok(Some(GetDocument { version, seq_no, term, routing, source }))
    }

    /// A document as searches see it.
    ///
    /// # Errors
    /// `Corrupt` when the stored bytes are damaged.
    pub fn get_visible(&self, id: &str) -> Result<Option<GetDocument>> {
        for view in self.searcher.borrow().segments.iter().rev() {
            if let Some(doc) = view.reader.lookup_id(id.as_bytes())?
                && view.live.as_ref().is_none_or(|live| live.is_live(doc))
            {
                let reader = &view.reader;
                let mut source = Vec::new();
                reader.source_once(doc, &mut source)?;
                let routing = reader.address(doc)?.1.map(str::to_owned);
                let Numbering { version, seq_no, term } = reader.numbering(doc)?;
                return Ok(Some(GetDocument { version, seq_no, term, routing, source }));
            }
        }
        Ok(None)
    }

    /// The state a plan for `id` would start from: version, place, and whether it is there.
    ///
    /// # Errors
    /// `Corrupt` when the stored bytes are damaged.
    pub fn current(&self, id: &str) -> Result<Option<Current>> {
        Ok(self.state.borrow().find(id)?.map(|f| f.current))
    }

    /// What damage reading has found, if any. It does not fail the shard.
    #[must_use]
    pub fn damage(&self) -> Option<Error> {
        self.state.borrow().segments.iter().find_map(|s| s.reader.damage().cloned())
    }

    /// What searches see now.
    #[must_use]
    pub fn searcher(&self) -> Searcher {
        self.searcher.borrow().clone()
    }

    /// Waits until the operation at `location` survives a crash. Somebody must be driving [`Engine::sync`].
    ///
    /// # Errors
    /// The error that failed the translog: the operation must not be acknowledged.
    pub async fn wait_durable(&self, location: Location) -> Result<()> {
        self.noting(self.translog.wait_synced(location).await)
    }

    /// Makes every operation so far durable.
    ///
    /// # Errors
    /// Any error fails the shard.
    pub async fn sync(&self) -> Result<()> {
        self.noting(self.translog.sync().await)
    }

    /// The operation log, for its owner's loop: what to sync, when to prepare the next generation, sizes.
    #[must_use]
    pub fn translog(&self) -> &Translog<D> {
        &self.translog
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &D {
        &self.directory
    }

    /// Every operation up to here is in this copy.
    #[must_use]
    pub fn local_checkpoint(&self) -> SeqNo {
        self.state.borrow().checkpoints.checkpoint()
    }

    /// The highest sequence number given out.
    #[must_use]
    pub fn max_seq_no(&self) -> SeqNo {
        self.state.borrow().checkpoints.max_seq_no()
    }

    /// Under which tables that clients fill hash.
    #[must_use]
    pub fn hash_seed(&self) -> HashSeed {
        self.config.borrow().hash_seed
    }

    /// Everything up to here is visible to searches.
    #[must_use]
    pub fn visible_seq_no(&self) -> SeqNo {
        self.state.borrow().visible
    }

    /// Whether a refresh would show something new.
    #[must_use]
    pub fn refresh_needed(&self) -> bool {
        let state = self.state.borrow();
        state.shown < state.changes
    }

    /// Bytes of memory held by the indexing buffers and the version map.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let state = self.state.borrow();
        state.buffer.memory_bytes()
            + state.frozen.as_ref().map_or(0, |(_, f)| f.memory_bytes())
            + state.versions.memory_bytes()
    }

    /// Bytes of segment images that are not in files yet.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.segments.iter().filter(|s| s.home == Home::Memory).map(|s| s.reader.size_bytes()).sum()
    }

    /// Bytes of memory that indexing holds and a refresh or [`Engine::write_images`] would free: buffers, the image being
    /// made of the frozen one (counted as large as the buffer, from the beginning), images that no file has.
    #[must_use]
    pub fn indexing_bytes(&self) -> u64 {
        let state = self.state.borrow();
        let image = state.frozen.as_ref().map_or(0, |(_, f)| f.memory_bytes());
        (self.buffer_bytes() + image - state.versions.tombstone_bytes()) as u64 + self.unwritten_bytes()
    }

    /// Bytes of memory of the version map.
    #[must_use]
    pub fn version_map_bytes(&self) -> usize {
        self.state.borrow().versions.memory_bytes()
    }

    /// Generation of the newest durable commit point.
    #[must_use]
    pub fn commit_generation(&self) -> Generation {
        self.state.borrow().committed.generation
    }

    /// What happened how often.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Changes the codec of segments written from now on.
    pub fn set_codec(&self, codec: Codec) {
        self.config.borrow_mut().codec = codec;
    }

    /// What the bytes of the shard's segments are, added up.
    #[must_use]
    pub fn storage(&self) -> Storage {
        let state = self.state.borrow();
        let mut storage = Storage::default();
        for segment in &state.segments {
            let reader = &segment.reader;
            storage.segment_bytes += reader.size_bytes();
            storage.source_bytes += reader.source_bytes();
            storage.documents += u64::from(reader.doc_count());
            storage.deleted += segment.live.as_ref().map_or(0, |live| u64::from(live.deleted_count()));
            for (field, part, bytes) in reader.storage() {
                let parts = match field {
                    None => &mut storage.documents_parts,
                    Some(field) => storage.fields.entry(field.to_owned()).or_default(),
                };
                *parts.entry(Cow::Borrowed(part)).or_default() += bytes;
            }
        }
        storage
    }

    /// The segments, newest last: (id, documents, deleted, bytes, committed, in a file).
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let state = self.state.borrow();
        let describe = |s: &SegmentEntry| SegmentInfo {
            id: s.id,
            doc_count: s.reader.doc_count(),
            deleted_count: s.live.as_ref().map_or(0, |l| l.deleted_count()),
            size_bytes: s.reader.size_bytes(),
            committed: state.committed.segments.contains(&s.id),
            written: s.home != Home::Memory,
        };
        state.segments.iter().map(describe).collect()
    }

    /// Why the shard has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.first_failure().map(|e| e.to_string())
    }

    /// Whether it failed because what the disk gave back was not what had been written: the files are of no use to a copy that
    /// can be made of another's.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self.first_failure(), Some(Error::Corrupt { .. }))
    }

    fn first_failure(&self) -> Option<Error> {
        self.failure.borrow().clone().or_else(|| self.translog.failure())
    }

    /// Fails the shard after an error outside the engine's own calls (a merge), if it is one that must.
    pub fn fail(&self, error: &Error) {
        let _ = self.noting::<()>(Err(error.clone()));
    }

    /// Notes an error that fails the shard, and gives it back.
    pub(crate) fn noting<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(e) = &result
            && e.fails_shard()
        {
            self.failure.borrow_mut().get_or_insert_with(|| e.clone());
            // Nobody syncs for a failed shard: who waits for it must not wait for ever.
            self.translog.fail(e.clone());
        }
        result
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.rolling_back.get() {
            return Err(Error::Rejected { reason: "the copy is being rolled back".to_owned() });
        }
        match self.failure() {
            None => Ok(()),
            Some(reason) => Err(Error::Failed { reason }),
        }
    }

    /// Shows the current segments, with their present deletes, to searches.
    pub(crate) fn publish(&self, state: &State) {
        let view = |s: &SegmentEntry| SegmentView { reader: s.reader.clone(), live: s.live.clone() };
        *self.searcher.borrow_mut() = Searcher { segments: Arc::new(state.segments.iter().map(view).collect()) };
    }
}

/// One line of [`Engine::segments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SegmentInfo {
    pub id: SegmentId,
    pub doc_count: u32,
    pub deleted_count: u32,
    pub size_bytes: u64,
    pub committed: bool,
    pub written: bool,
}

/// Where the newest copy of a document is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    Buffer(DocId),
    Frozen(SegmentId, DocId),
    /// Position in `State::segments`.
    Segment(usize, DocId),
    Tombstone,
}

/// The last change of a document, and where it left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub current: Current,
    pub home: Where,
}

impl State {
    /// The last change of `id`; none if there was never one that is still known.
    ///
    /// # Errors
    /// `Corrupt` where what is looked at is not what was written.
    pub fn find(&self, id: &str) -> Result<Option<Known>> {
        if let Some(found) = self.versions.get(id) {
            let home = match (found, found.entry().place) {
                (_, Place::Deleted(_)) => Where::Tombstone,
                (Found::Current(_), Place::Buffer(doc)) => Where::Buffer(doc),
                (_, Place::Buffer(doc)) => {
                    let (segment, _) = self.frozen.as_ref().expect("an old entry belongs to the frozen buffer");
                    Where::Frozen(*segment, doc)
                }
            };
            return Ok(Some(Known { current: found.entry().current(), home }));
        }
        for (index, s) in self.segments.iter().enumerate().rev() {
            let Some(doc) = s.reader.lookup_id(id.as_bytes())? else { continue };
            if s.live.as_ref().is_none_or(|live| live.is_live(doc)) {
                let Numbering { version, seq_no, term } = s.reader.numbering(doc)?;
                let current = Current { version, seq_no, term, deleted: false };
                return Ok(Some(Known { current, home: Where::Segment(index, doc) }));
            }
        }
        Ok(None)
    }

    /// Adds the document to the buffer in place of what was found.
    #[allow(clippy::too_many_arguments)] // one call, one line each
    pub fn put(
        &mut self,
        mapping: &Mapping,
        parsed: &ParsedDocument,
        operation: &IndexOperation<'_>,
        found: Option<Known>,
        version: Version,
        seq_no: SeqNo,
        term: PrimaryTerm,
    ) {
        self.delete_copy(found);
        let doc =
            self.buffer.add(mapping, operation.id, operation.routing, seq_no, term, version, operation.source, parsed);
        self.versions.put(operation.id, Entry { version, seq_no, term, place: Place::Buffer(doc) });
        self.mark(seq_no);
    }

    /// Leaves a tombstone in place of what was found.
    pub fn remove(
        &mut self,
        id: &str,
        found: Option<Known>,
        version: Version,
        seq_no: SeqNo,
        term: PrimaryTerm,
        now_ms: i64,
    ) {
        self.delete_copy(found);
        self.versions.put(id, Entry { version, seq_no, term, place: Place::Deleted(now_ms) });
        self.mark(seq_no);
    }

    /// An operation is in this copy, with all it does.
    pub fn mark(&mut self, seq_no: SeqNo) {
        self.checkpoints.mark(seq_no);
        self.changes += 1;
    }

    /// The older copy goes with the next refresh (or at once, if no refresh has begun to show it).
    fn delete_copy(&mut self, found: Option<Known>) {
        match found.map(|f| f.home) {
            None | Some(Where::Tombstone) => {}
            Some(Where::Buffer(doc)) => self.buffer.delete(doc),
            Some(Where::Frozen(segment, doc)) => self.pending_deletes.push((segment, doc)),
            Some(Where::Segment(index, doc)) => self.pending_deletes.push((self.segments[index].id, doc)),
        }
    }

    pub fn new_segment_id(&mut self) -> SegmentId {
        let id = self.next_segment;
        self.next_segment = SegmentId(id.0 + 1);
        id
    }
}

//! Refresh: freeze the buffer, build its segment image, publish it with the deletes that belong to it.
//!
//! Visibility never waits for a disk: the image is searched in memory and written to a file later
//! ([`Engine::take_unwritten`], [`Engine::written`]).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::engine::{Engine, Home, SegmentEntry, State, add};
use crate::error::Result;
use crate::ids::{DocId, Generation, SegmentId};
use crate::pace::Pace;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::segment::segment_file_name;
use crate::store::{Directory, FileBytes};
use crate::write::buffer::{FrozenBuffer, IndexingBuffer, build_image};

/// A segment that only memory has, to be written by anyone who can write files.
#[derive(Clone)]
pub struct Unwritten {
    /// Which.
    pub id: SegmentId,
    /// File name.
    pub name: String,
    /// Its bytes.
    pub reader: Arc<SegmentReader>,
}

impl<D: Directory> Engine<D> {
    /// Makes every operation so far visible to searches. False if there was nothing new. One refresh at a time:
    /// a second caller waits and then shows what came meanwhile.
    ///
    /// # Errors
    /// `Corrupt` if the image just built cannot be opened (a bug, and it fails the shard).
    pub async fn refresh<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        let _one_at_a_time = self.refresh_lock.lock().await;
        self.refresh_locked(now_ms, pace).await
    }

    pub(crate) async fn refresh_locked<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        let (segment, frozen, deletes, upto) = {
            let state = &mut *self.state.borrow_mut();
            let upto = state.checkpoints.max_seq_no();
            if state.visible >= upto {
                return Ok(false);
            }
            let segment = state.new_segment_id();
            let seed = self.config.borrow().hash_seed;
            let frozen = Rc::new(std::mem::replace(&mut state.buffer, IndexingBuffer::new(seed)).freeze());
            state.frozen = Some((segment, frozen.clone()));
            state.versions.begin_refresh();
            (segment, frozen, std::mem::take(&mut state.pending_deletes), upto)
        };
        let built = self.noting(self.build(segment, &frozen, pace).await)?;
        let state = &mut *self.state.borrow_mut();
        state.frozen = None;
        if let Some(entry) = built {
            state.segments.push(entry);
        } else {
            // Every document of the frozen buffer had been deleted in it, so nothing can have asked to delete one since.
            debug_assert!(state.pending_deletes.iter().all(|(s, _)| *s != segment));
        }
        apply_deletes(state, deletes);
        state.versions.end_refresh(now_ms);
        state.visible = upto;
        self.publish(state);
        add(&self.counters.refreshes, 1);
        Ok(true)
    }

    async fn build<P: Pace>(
        &self,
        segment: SegmentId,
        frozen: &FrozenBuffer,
        pace: &P,
    ) -> Result<Option<SegmentEntry>> {
        if frozen.live_count() == 0 {
            return Ok(None);
        }
        let codec = self.config.borrow().codec;
        let dictionary = |s: &SegmentEntry| s.reader.source_dictionary().cloned();
        let dictionaries = self.state.borrow().segments.iter().filter_map(dictionary).collect();
        let (image, live) = build_image(frozen, segment, codec, dictionaries, pace).await;
        let reader = Arc::new(SegmentReader::open(segment, FileBytes::new(image))?);
        let live_generation = Generation(u64::from(live.is_some()));
        let live = live.map(Arc::new);
        Ok(Some(SegmentEntry { id: segment, reader, live, live_generation, home: Home::Memory, merging: false }))
    }

    /// Segments that are only in memory and not being merged away: to be written to the files named, not synced.
    #[must_use]
    pub fn take_unwritten(&self) -> Vec<Unwritten> {
        let state = self.state.borrow();
        let only_memory = state.segments.iter().filter(|s| s.home == Home::Memory);
        only_memory.map(|s| Unwritten { id: s.id, name: segment_file_name(s.id), reader: s.reader.clone() }).collect()
    }

    /// A segment's file has all its bytes (perhaps not durable yet); from now on it is read from there. If the segment was
    /// merged away meanwhile, the file is garbage and goes with the next flush.
    ///
    /// # Errors
    /// `Corrupt` when the mapped file does not open.
    pub fn written(&self, id: SegmentId, bytes: FileBytes) -> Result<()> {
        let state = &mut *self.state.borrow_mut();
        let Some(entry) = state.segments.iter_mut().find(|s| s.id == id) else { return Ok(()) };
        if entry.home != Home::Memory {
            return Ok(());
        }
        let reader = self.noting(SegmentReader::open(id, bytes))?;
        add(&self.counters.written_segment_bytes, reader.size_bytes());
        entry.reader = Arc::new(reader);
        entry.home = Home::Written;
        self.publish(state);
        Ok(())
    }
}

/// Deletes documents of published segments: each changed segment gets a new generation of live docs; a segment without
/// a live document left goes.
pub(crate) fn apply_deletes(state: &mut State, deletes: Vec<(SegmentId, DocId)>) {
    let mut by_segment: BTreeMap<SegmentId, Vec<DocId>> = BTreeMap::new();
    for (segment, doc) in deletes {
        by_segment.entry(segment).or_default().push(doc);
    }
    for entry in &mut state.segments {
        let Some(docs) = by_segment.get(&entry.id) else { continue };
        let mut live = entry.live.as_deref().cloned().unwrap_or_else(|| LiveDocs::all(entry.reader.doc_count()));
        for doc in docs {
            live.delete(*doc);
        }
        entry.live = Some(Arc::new(live));
        entry.live_generation = Generation(entry.live_generation.0 + 1);
    }
    let unused = |s: &SegmentEntry| !s.merging && s.live.as_ref().is_some_and(|live| live.live_count() == 0);
    state.segments.retain(|s| !unused(s));
}

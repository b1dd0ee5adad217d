//! Refresh: freeze the buffer, build its segment image, publish it with the deletes that belong to it.
//!
//! Visibility never waits for a disk: the image is searched in memory and written to a file later
//! ([`Engine::take_unwritten`], [`Engine::written`]).
//!
//! Somebody who waits for what was just written need not wait for the next regular refresh: [`Engine::refresh_soon`] makes
//! a *young* segment, of few documents, as often as every few milliseconds. Young segments never become files. Each is at
//! once merged in memory with those before it that are not much larger, so that there are as many as the logarithm of
//! their documents and a document is copied as often; the next regular refresh or flush makes one segment of all of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::engine::{Engine, Home, SegmentEntry, State, add};
use crate::error::Result;
use crate::ids::{DocId, Generation, SegmentId};
use crate::merge::policy::MergeCandidate;
use crate::pace::Pace;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::segment::segment_file_name;
use crate::segment::source_dictionary::{Choice, SourceDictionary};
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
    /// Makes every operation so far visible to searches. False if nothing has changed. One refresh at a time:
    /// a second caller waits and then shows what came meanwhile.
    ///
    /// # Errors
    /// `Corrupt` if the image just built cannot be opened (a bug, and it fails the shard).
    pub async fn refresh<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        let _one_at_a_time = self.refresh_lock.lock().await;
        self.refresh_locked(now_ms, pace).await
    }

    /// The same, for those who cannot wait: what it makes stays young, see the module. Costs little for few documents.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub async fn refresh_soon<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        let _one_at_a_time = self.refresh_lock.lock().await;
        let shown = self.show(true, now_ms, pace).await?;
        let docs: Vec<u32> = self.young().into_iter().map(|(_, docs)| docs).collect();
        self.join_young(like_sized(&docs), pace).await?;
        Ok(shown)
    }

    /// Whether there are segments that are not to be written before the next regular refresh.
    #[must_use]
    pub fn has_young(&self) -> bool {
        self.state.borrow().segments.iter().any(|s| s.young)
    }

    /// Ids and documents of the young segments, oldest first.
    fn young(&self) -> Vec<(SegmentId, u32)> {
        let state = self.state.borrow();
        state.segments.iter().filter(|s| s.young).map(|s| (s.id, s.reader.doc_count())).collect()
    }

    /// Makes one young segment of the newest `count`.
    async fn join_young<P: Pace>(&self, count: usize, pace: &P) -> Result<()> {
        let young = self.young();
        if count < 2 {
            return Ok(());
        }
        let segments = young[young.len() - count..].iter().map(|(id, _)| *id).collect();
        self.noting(self.merge_in_memory(&MergeCandidate { segments }, pace).await)
    }

    /// Shows everything so far, and leaves no segment young.
    pub(crate) async fn refresh_locked<P: Pace>(&self, now_ms: i64, pace: &P) -> Result<bool> {
        let had_young = self.has_young();
        let shown = self.show(had_young, now_ms, pace).await?;
        self.join_young(self.young().len(), pace).await?;
        self.state.borrow_mut().segments.iter_mut().for_each(|s| s.young = false);
        Ok(shown || had_young)
    }

    async fn show<P: Pace>(&self, young: bool, now_ms: i64, pace: &P) -> Result<bool> {
        let (segment, frozen, deletes, upto) = {
            let state = &mut *self.state.borrow_mut();
            if state.shown == state.changes {
                return Ok(false);
            }
            let upto = (state.changes, state.checkpoints.checkpoint(), state.checkpoints.max_seq_no());
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
            state.segments.push(SegmentEntry { young, ..entry });
        } else {
            // Every document of the frozen buffer had been deleted in it, so nothing can have asked to delete one since.
            debug_assert!(state.pending_deletes.iter().all(|(s, _)| *s != segment));
        }
        apply_deletes(state, deletes);
        state.versions.end_refresh(now_ms, state.checkpoints.checkpoint());
        (state.shown, state.visible, state.visible_max) = upto;
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
        let dictionaries = self.source_dictionaries();
        let (image, live) = build_image(frozen, segment, codec, dictionaries, pace).await;
        let reader = Arc::new(SegmentReader::open(segment, FileBytes::new(image))?);
        reader.trust();
        let live_generation = Generation(u64::from(live.is_some()));
        let live = live.map(Arc::new);
        Ok(Some(SegmentEntry {
            id: segment,
            reader,
            live,
            live_generation,
            home: Home::Memory,
            merging: false,
            young: false,
        }))
    }

    /// Of all segments.
    fn source_dictionaries(&self) -> Vec<Arc<SourceDictionary>> {
        let state = self.state.borrow();
        state.segments.iter().filter_map(|s| s.reader.source_dictionary().cloned()).collect()
    }

    /// Whether the buffer holds so many sources that [`prepare_packing`](Self::prepare_packing) pays.
    #[must_use]
    pub fn wants_packing(&self) -> bool {
        self.state.borrow().buffer.wants_dictionary()
    }

    /// Finds the dictionary that the buffer's sources are packed with as more come: the shard's, or one trained by those there
    /// are.
    ///
    /// # Errors
    /// `Corrupt` if memory is.
    pub async fn prepare_packing<P: Pace>(&self, pace: &P) -> Result<()> {
        let known = self.source_dictionaries();
        let source_len = self.state.borrow().buffer.source_len();
        let dictionary = match SourceDictionary::choose(source_len, known.iter()) {
            Choice::Nowhere => None,
            Choice::Taken(dictionary) => Some(dictionary),
            Choice::Trained => {
                let samples = self.state.borrow().buffer.samples()?;
                samples.dictionary(source_len, &known, pace).await
            }
        };
        let codec = self.config.borrow().codec;
        let buffer = &mut self.state.borrow_mut().buffer;
        // Perhaps the next one already; small ones ask when they are not.
        if buffer.wants_dictionary() {
            buffer.pack_with(codec, dictionary);
        }
        Ok(())
    }

    /// Segments that are only in memory and not about to be merged away: to be written to the files named, not synced.
    #[must_use]
    pub fn take_unwritten(&self) -> Vec<Unwritten> {
        let state = self.state.borrow();
        let only_memory = state.segments.iter().filter(|s| s.home == Home::Memory && !s.young);
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

/// How many of the newest segments become one: each that is at most twice as large as all newer ones together.
fn like_sized(docs: &[u32]) -> usize {
    let Some((newest, older)) = docs.split_last() else { return 0 };
    let mut sum = u64::from(*newest);
    let joins = |docs: &&u32| {
        let joins = u64::from(**docs) <= 2 * sum;
        sum += u64::from(**docs);
        joins
    };
    1 + older.iter().rev().take_while(joins).count()
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

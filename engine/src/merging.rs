//! Merges beside the shard: choose segments here, merge them anywhere, swap the result in here.
//!
//! A merge reads immutable segments and the deletes as they were when it began; documents deleted since are found in the
//! result through the merge's document maps.

use std::sync::Arc;

use crate::engine::{Engine, Home, SegmentEntry, add};
use crate::error::Result;
use crate::ids::{DocId, Generation, SegmentId};
use crate::merge::merger::{self, DocMap, MergeSource, Merged};
use crate::merge::policy::{MergeCandidate, SegmentSize};
use crate::merge::sink::{FileSink, Unthrottled};
use crate::pace::Pace;
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::SegmentReader;
use crate::segment::segment_file_name;
use crate::segment::writer::Codec;
use crate::store::{Directory, File, FileBytes};

/// A merge to be done. `Send`: it runs on a maintenance thread.
pub struct MergeJob {
    /// The new segment.
    pub target: SegmentId,
    /// Its file.
    pub name: String,
    /// In index order.
    pub sources: Vec<MergeSource>,
    /// For the new `_source` blocks.
    pub codec: Codec,
    /// Bytes of all sources.
    pub input_bytes: u64,
    /// Live documents of all sources.
    pub input_docs: u64,
}

impl MergeJob {
    /// The whole merge, on the thread of the caller: the new segment's file, written, synced, and in memory but for `_source`.
    ///
    /// # Errors
    /// Those of the disk, `Corrupt` where a source is damaged, `Stopped` if the pace says so. Half a file may be left.
    pub async fn run<D: Directory, P: Pace>(&self, directory: &D, pace: &P) -> Result<Merged> {
        let file = directory.create(&self.name, 0).await?;
        let mut sink = FileSink::new(file, Unthrottled);
        let merged = merger::merge(&self.sources, self.target, self.codec, &mut sink, pace).await?;
        sink.finish().await?.close().await?;
        if merged.meta.is_some() {
            // Direct writes have left nothing of it in memory, and the segments that it replaces are there.
            let bytes = directory.map(&self.name).await?;
            SegmentReader::open(self.target, bytes)?.make_resident(u64::MAX, pace).await?;
        }
        Ok(merged)
    }
}

impl<D: Directory> Engine<D> {
    /// Sizes of all segments, for the merge policy, oldest first.
    #[must_use]
    pub fn segment_sizes(&self) -> Vec<SegmentSize> {
        let state = self.state.borrow();
        let size = |s: &SegmentEntry| SegmentSize {
            id: s.id,
            size_bytes: s.reader.size_bytes(),
            doc_count: s.reader.doc_count(),
            deleted_count: s.live.as_ref().map_or(0, |l| l.deleted_count()),
            // Those are joined where they are.
            merging: s.merging || s.young,
        };
        state.segments.iter().map(size).collect()
    }

    /// Takes the segments of `candidate` for a merge; none if one of them is gone or taken.
    #[must_use]
    pub fn begin_merge(&self, candidate: &MergeCandidate) -> Option<MergeJob> {
        self.choose(candidate, false)
    }

    /// `young` segments are no background merge's.
    fn choose(&self, candidate: &MergeCandidate, young: bool) -> Option<MergeJob> {
        let state = &mut *self.state.borrow_mut();
        let chosen = |s: &SegmentEntry| candidate.segments.contains(&s.id) && s.young == young;
        let free = state.segments.iter().filter(|s| chosen(s) && !s.merging).count();
        if free != candidate.segments.len() || free == 0 {
            return None;
        }
        let target = state.new_segment_id();
        let mut sources = Vec::with_capacity(free);
        let (mut input_bytes, mut input_docs) = (0, 0);
        for entry in state.segments.iter_mut().filter(|s| candidate.segments.contains(&s.id)) {
            entry.merging = true;
            input_bytes += entry.reader.size_bytes();
            input_docs += u64::from(entry.live.as_ref().map_or(entry.reader.doc_count(), |l| l.live_count()));
            sources.push(MergeSource { reader: entry.reader.clone(), live: entry.live.clone() });
        }
        state.merging.insert(target, sources.iter().map(|s| s.reader.segment_id()).collect());
        let codec = self.config.borrow().codec;
        Some(MergeJob { target, name: segment_file_name(target), sources, codec, input_bytes, input_docs })
    }

    /// Merges young segments into a young one, here and now. The caller holds the refresh lock.
    pub(crate) async fn merge_in_memory<P: Pace>(&self, candidate: &MergeCandidate, pace: &P) -> Result<()> {
        let Some(job) = self.choose(candidate, true) else { return Ok(()) };
        let began_with: Vec<_> = job.sources.iter().map(|s| s.live.clone()).collect();
        // No larger than all of them, but for tables of a few bytes.
        let mut image = Vec::with_capacity(job.input_bytes as usize);
        let merged = merger::merge(&job.sources, job.target, job.codec, &mut image, pace).await?;
        image.shrink_to_fit();
        let bytes = merged.meta.is_some().then(|| FileBytes::new(image));
        self.swap_in(job.target, &began_with, &merged.maps, bytes, Home::Memory)
    }

    /// A merge failed or was given up; its segments are free again.
    pub fn abort_merge(&self, target: SegmentId) {
        let state = &mut *self.state.borrow_mut();
        state.cancelled.remove(&target);
        for id in state.merging.remove(&target).unwrap_or_default() {
            if let Some(entry) = state.segments.iter_mut().find(|s| s.id == id) {
                entry.merging = false;
            }
        }
    }

    /// Puts the merged segment in place of its sources. `bytes` is the mapped file; `None` when no document was left.
    /// `began_with` are the deletes the merge knew of, `maps` where each source's documents went.
    ///
    /// # Errors
    /// `Corrupt` when the new segment does not open: the sources stay, and the shard fails.
    pub async fn finish_merge(
        &self,
        target: SegmentId,
        began_with: &[Option<Arc<LiveDocs>>],
        maps: &[DocMap],
        bytes: Option<FileBytes>,
    ) -> Result<()> {
        let _no_refresh_in_between = self.refresh_lock.lock().await;
        self.swap_in(target, began_with, maps, bytes, Home::Written)?;
        add(&self.counters.merges, 1);
        Ok(())
    }

    fn swap_in(
        &self,
        target: SegmentId,
        began_with: &[Option<Arc<LiveDocs>>],
        maps: &[DocMap],
        bytes: Option<FileBytes>,
        home: Home,
    ) -> Result<()> {
        let opened = bytes.map(|b| SegmentReader::open(target, b)).transpose();
        let reader = self.noting(opened)?.map(Arc::new);
        let state = &mut *self.state.borrow_mut();
        state.cancelled.remove(&target);
        let Some(source_ids) = state.merging.remove(&target) else { return Ok(()) };
        assert!(source_ids.len() == maps.len() && maps.len() == began_with.len(), "one map per merged segment");

        // Deletes published while the merge ran.
        let mut live = reader.as_ref().map(|r| LiveDocs::all(r.doc_count()));
        for (id, (map, before)) in source_ids.iter().zip(maps.iter().zip(began_with)) {
            let Some(entry) = state.segments.iter().find(|s| s.id == *id) else { continue };
            let (Some(now), Some(live)) = (&entry.live, &mut live) else { continue };
            for doc in 0..entry.reader.doc_count() {
                let was_live = before.as_ref().is_none_or(|b| b.is_live(doc));
                if was_live && !now.is_live(doc) {
                    live.delete(map.get(doc).expect("a document live at the beginning was merged"));
                }
            }
        }
        // Deletes waiting for the next refresh.
        let moved = |(segment, doc): (SegmentId, DocId)| match source_ids.iter().position(|id| *id == segment) {
            None => Some((segment, doc)),
            Some(i) => maps[i].get(doc).map(|new| (target, new)),
        };
        state.pending_deletes = std::mem::take(&mut state.pending_deletes).into_iter().filter_map(moved).collect();

        let at = state.segments.iter().position(|s| source_ids.contains(&s.id)).unwrap_or(state.segments.len());
        state.segments.retain(|s| !source_ids.contains(&s.id));
        if let (Some(reader), Some(live)) = (reader, live)
            && live.live_count() > 0
        {
            let deleted = live.deleted_count() > 0;
            if home == Home::Written {
                add(&self.counters.merged_docs, u64::from(reader.doc_count()));
                add(&self.counters.merged_bytes, reader.size_bytes());
                add(&self.counters.written_segment_bytes, reader.size_bytes());
            }
            let at = at.min(state.segments.len());
            state.segments.insert(
                at,
                SegmentEntry {
                    id: target,
                    reader,
                    live: deleted.then(|| Arc::new(live)),
                    live_generation: Generation(u64::from(deleted)),
                    young: home == Home::Memory,
                    home,
                    merging: false,
                },
            );
        }
        self.publish(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::pace::StopAfter;
    use crate::replica::tests::{Copy, operation};
    use crate::store::sim::SimDirectory;
    use futures_lite::future::block_on;

    #[test]
    fn a_merge_that_is_stopped_leaves_its_sources() {
        let copy = Copy::open(SimDirectory::new(1)).unwrap();
        for n in 0..5 {
            copy.apply(&operation(n, 1, 15 + n as u8)).unwrap();
            copy.flush().unwrap();
        }
        let ids = || copy.engine.segment_sizes().iter().filter(|s| !s.merging).map(|s| s.id).collect::<Vec<_>>();
        let before = ids();
        assert!(before.len() > 1);
        let mut stops = 0;
        for asked in 1.. {
            let job = copy.engine.begin_merge(&MergeCandidate { segments: ids() }).unwrap();
            assert!(ids().is_empty(), "they are taken");
            let merged = block_on(job.run(&copy.disk, &StopAfter(std::cell::Cell::new(asked))));
            copy.engine.abort_merge(job.target);
            assert_eq!(ids(), before);
            match merged {
                Err(Error::Stopped) => stops += 1,
                merged => {
                    merged.unwrap();
                    break;
                }
            }
        }
        assert!(stops > 3, "{stops}");
        copy.merge().unwrap();
        assert_eq!(ids().len(), 1);
        assert!(copy.engine.failure().is_none());
    }
}

//! Flush: everything up to now durable in segments, a commit point that says so, and the translog trimmed.
//!
//! Order on disk, with what a crash after each step leaves:
//! 1. segment files and live-docs files written and synced: unreferenced files, removed by the next flush;
//! 2. `commit-N` written, synced, directory synced: either the old or the new commit, both complete;
//! 3. translog trimmed, commits that are not kept and unreferenced files removed: leftovers, removed by the next flush.
//!
//! Besides the newest commit those are kept that a roll-back may need (`replica.rs`) or somebody is reading (`copy.rs`).

use std::collections::BTreeMap;

use crate::commit::{CommitPoint, CommittedSegment, live_docs_file, parse_name};
use crate::engine::{CommittedFiles, Engine, Home, SegmentEntry, add};
use crate::error::{Error, Result};
use crate::ids::{Generation, SegmentId, SeqNo};
use crate::pace::Pace;
use crate::segment::{segment_file_name, segment_of_file};
use crate::store::{Directory, File, write_file};

impl<D: Directory> Engine<D> {
    /// Commits. False if nothing changed since the last commit (and not `force`). One at a time: a second caller waits.
    ///
    /// # Errors
    /// `DiskFull`: the old commit stays and everything goes on; anything else fails the shard.
    pub async fn flush<P: Pace>(&self, force: bool, now_ms: i64, pace: &P) -> Result<bool> {
        let _one_at_a_time = self.flush_lock.lock().await;
        self.noting(self.flush_locked(force, now_ms, pace).await)
    }

    /// Whether a flush is running.
    #[must_use]
    pub fn flushing(&self) -> bool {
        self.flush_lock.try_lock().is_none()
    }

    /// Writes the images of segments that only memory has; not synced. Memory is freed as the files take over.
    ///
    /// # Errors
    /// `DiskFull`: those segments stay in memory and are tried again next time.
    pub async fn write_images(&self) -> Result<()> {
        let _one_at_a_time = self.write_lock.lock().await;
        for unwritten in self.take_unwritten() {
            self.noting(self.write_image(unwritten.id, &unwritten.name, unwritten.reader.bytes()).await)?;
        }
        Ok(())
    }

    async fn write_image(&self, id: SegmentId, name: &str, image: &[u8]) -> Result<()> {
        write_file(&self.directory, name, image).await?;
        // Searches are in it already.
        let mapped = self.directory.map_resident(name).await?;
        self.written(id, mapped)
    }

    pub(crate) async fn flush_locked<P: Pace>(&self, force: bool, now_ms: i64, pace: &P) -> Result<bool> {
        let (segments, checkpoint, max_seq_no) = {
            let _refreshing = self.refresh_lock.lock().await;
            match self.translog.roll().await {
                // Without space for another generation the commit only keeps more of this one.
                Ok(()) | Err(Error::DiskFull { .. }) => {}
                Err(e) => return Err(e),
            }
            self.refresh_locked(now_ms, pace).await?;
            let state = self.state.borrow();
            (state.segments.clone(), state.visible, state.visible_max)
        };
        let unchanged = {
            let state = self.state.borrow();
            (state.committed.local_checkpoint, state.committed.max_seq_no) == (checkpoint, max_seq_no)
                && state.committed.segments.iter().copied().eq(segments.iter().map(|s| s.id))
        };
        if unchanged && !force {
            // What the last commit could not free may be free by now: the others have it.
            self.trim_locked().await?;
            return Ok(false);
        }
        if checkpoint < max_seq_no {
            // Segments do not tell which numbers above the checkpoint are in them, nor which documents were deleted there:
            // the translog does.
            self.translog.sync().await?;
        }
        {
            let _one_at_a_time = self.write_lock.lock().await;
            let written: BTreeMap<SegmentId, Home> =
                self.state.borrow().segments.iter().map(|s| (s.id, s.home.clone())).collect();
            for segment in &segments {
                let home = written.get(&segment.id).unwrap_or(&segment.home);
                if *home == Home::Memory {
                    self.write_image(segment.id, &segment_file_name(segment.id), segment.reader.bytes()).await?;
                }
            }
        }
        let durable: Vec<SegmentId> = self.state.borrow().committed.segments.clone();
        let mut committed = Vec::with_capacity(segments.len());
        for segment in &segments {
            committed.push(self.commit_segment(segment, durable.contains(&segment.id)).await?);
        }
        let position = self.translog.min_generation_for(checkpoint.next());
        let config = self.config.borrow().clone();
        let commit = CommitPoint {
            generation: Generation(self.state.borrow().committed.generation.0 + 1),
            shard_uuid: config.shard_uuid,
            segments: committed,
            local_checkpoint: checkpoint,
            max_seq_no,
            max_unsafe_auto_id_timestamp: -1,
            translog_uuid: config.shard_uuid,
            translog_position: position,
            user_data: self.state.borrow().copy.user_data(self.translog.min_generation()),
        };
        commit.write(&self.directory).await?;
        self.install(&commit);
        self.translog.committed(position);
        self.trim_locked().await?;
        self.remove_garbage().await?;
        add(&self.counters.flushes, 1);
        Ok(true)
    }

    /// Makes one segment's file and deletes durable, and describes them.
    async fn commit_segment(&self, segment: &SegmentEntry, durable: bool) -> Result<CommittedSegment> {
        let file = segment_file_name(segment.id);
        if !durable {
            let opened = self.directory.open(&file).await?;
            opened.sync().await?;
            opened.close().await?;
        }
        let live_docs = match &segment.live {
            None => None,
            Some(live) => {
                let name = live_docs_file(segment.id, segment.live_generation);
                if !self.state.borrow().committed.files.contains(&name) {
                    write_file(&self.directory, &name, &live.encode(segment.id, segment.live_generation)).await?;
                }
                Some(segment.live_generation)
            }
        };
        let reader = &segment.reader;
        Ok(CommittedSegment {
            id: segment.id,
            file,
            size: reader.size_bytes(),
            crc: reader.meta().crc,
            doc_count: reader.doc_count(),
            deleted_count: segment.live.as_ref().map_or(0, |l| l.deleted_count()),
            live_docs,
            min_seq_no: reader.min_seq_no(),
            max_seq_no: reader.max_seq_no(),
        })
    }

    /// The commit is durable: what it names is kept until the next one.
    pub(crate) fn install(&self, commit: &CommitPoint) {
        let state = &mut *self.state.borrow_mut();
        for entry in &mut state.segments {
            if commit.segments.iter().any(|s| s.id == entry.id) {
                entry.home = Home::Durable;
            }
        }
        state.committed = CommittedFiles {
            generation: commit.generation,
            local_checkpoint: commit.local_checkpoint,
            max_seq_no: commit.max_seq_no,
            files: commit.referenced_files().into_iter().collect(),
            segments: commit.segments.iter().map(|s| s.id).collect(),
        };
        state.copy.persisted.mark_up_to(commit.local_checkpoint);
        state.copy.commits.push(commit.clone());
    }

    /// Removes commits that are not kept, and segment and live-docs files that nothing names any more.
    pub(crate) async fn remove_garbage(&self) -> Result<()> {
        self.state.borrow_mut().copy.retire_commits();
        let files = self.directory.list().await?;
        let mut removed = false;
        for (name, _) in files {
            let unfinished = name.strip_suffix(".tmp").is_some_and(|n| parse_name(n).is_some());
            if unfinished || parse_name(&name).is_some_and(|g| !self.state.borrow().copy.keeps(g)) {
                self.directory.remove(&name).await?;
                removed = true;
                continue;
            }
            let Some(id) = segment_of_any_file(&name) else { continue };
            let in_use = {
                let state = self.state.borrow();
                state.copy.names(&name)
                    || state.merging.contains_key(&id)
                    || state.cancelled.contains(&id)
                    || (name == segment_file_name(id) && state.segments.iter().any(|s| s.id == id))
            };
            if !in_use {
                self.directory.remove(&name).await?;
                removed = true;
            }
        }
        if removed {
            self.directory.sync().await?;
        }
        Ok(())
    }

    /// What the newest durable commit point contains: every operation up to here.
    #[must_use]
    pub fn committed_checkpoint(&self) -> SeqNo {
        self.state.borrow().committed.local_checkpoint
    }
}

/// The segment that a file belongs to: `_7.seg` or `7-2.live`; none for other files.
pub(crate) fn segment_of_any_file(name: &str) -> Option<SegmentId> {
    match name.strip_suffix(".live") {
        Some(live) => live.split_once('-')?.0.parse().ok().map(SegmentId),
        None => segment_of_file(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Generation;

    #[test]
    fn files_of_a_segment_are_told_from_others() {
        let id = SegmentId(41);
        assert_eq!(segment_of_any_file(&segment_file_name(id)), Some(id));
        assert_eq!(segment_of_any_file(&live_docs_file(id, Generation(3))), Some(id));
        for other in ["commit-3", "translog-1.tlog", "_x.seg", "7.live", "_7.seg.tmp"] {
            assert_eq!(segment_of_any_file(other), None, "{other}");
        }
    }
}

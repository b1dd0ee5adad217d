//! Merging from the shard's side: what to merge, on the maintenance thread, and swapping the result in.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringdex_engine::Error;
use ringdex_engine::budget::Taken;
use ringdex_engine::ids::SegmentId;
use ringdex_engine::merge::merger::Merged;
use ringdex_engine::merge::policy::MergeCandidate;
use ringdex_engine::pace::Pace;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::store::Directory;

use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::shard::{Shard, add};
use crate::stats::Stage;

/// A merge has its thread to itself, and ends early when its shard closes.
struct Wanted(Arc<AtomicBool>);

impl Pace for Wanted {
    async fn yield_if_needed(&self) {}

    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<I: NodeIo> Shard<I> {
    /// Starts one background merge if the policy wants one and none is running.
    pub(super) fn start_merges(self: &Rc<Self>) {
        if self.merging.get() || !self.merge_backoff.borrow().rest(self.io.monotonic_ns()).is_zero() {
            return;
        }
        let policy = self.settings.borrow().merge.clone();
        let Some(candidate) = policy.find_merges(&self.engine.segment_sizes()).into_iter().next() else { return };
        // No memory for it: the next round of upkeep asks again.
        let Some(held) = self.merge_memory(&candidate) else { return };
        let shard = self.clone();
        self.merging.set(true);
        self.keep(Lane::Background, async move {
            let merged = shard.merge(&candidate).await;
            drop(held);
            shard.merging.set(false);
            match merged {
                Ok(()) => {
                    shard.merge_backoff.borrow_mut().succeeded();
                    shard.upkeep_now.raise();
                }
                Err(_) if shard.closing.get() => {}
                Err(e) => {
                    let failures = shard.merge_backoff.borrow_mut().failed(shard.io.monotonic_ns());
                    if let Some(failures) = failures {
                        tracing::warn!(index = %shard.id.index, shard = shard.id.shard, error = %e, failures, "merge given up");
                    }
                }
            }
            shard.report_failure();
        });
    }

    /// `_forcemerge`: merges until the policy is content with at most so many segments.
    pub(super) async fn force_merge(
        self: &Rc<Self>,
        max_segments: Option<u32>,
        only_expunge_deletes: bool,
        flush: bool,
    ) -> ApiResult<()> {
        self.refresh(true).await?;
        loop {
            while self.merging.get() {
                self.io.sleep(std::time::Duration::from_millis(5)).await;
            }
            let policy = self.settings.borrow().merge.clone();
            let sizes = self.engine.segment_sizes();
            let next = if only_expunge_deletes {
                policy.find_expunge_merges(&sizes)
            } else {
                match max_segments {
                    Some(n) => policy.find_forced_merges(&sizes, n.max(1) as usize),
                    None => policy.find_merges(&sizes),
                }
            };
            let Some(candidate) = next.into_iter().next() else { break };
            self.merging.set(true);
            let merged: ApiResult<()> = async {
                let _held = loop {
                    match self.merge_memory(&candidate) {
                        Some(held) => break held,
                        None if self.closing.get() => return Err(self.unavailable("is closing")),
                        None => self.io.sleep(std::time::Duration::from_millis(20)).await,
                    }
                };
                self.merge(&candidate).await
            }
            .await;
            self.merging.set(false);
            merged?;
        }
        if flush {
            self.timed_flush(false).await?;
        }
        Ok(())
    }

    /// Memory for a merge of these segments, if there is enough beside the merges that run. One that wants more than there
    /// is for all of them has to run alone.
    fn merge_memory(&self, candidate: &MergeCandidate) -> Option<Taken> {
        let sizes = self.engine.segment_sizes();
        let sources = || sizes.iter().filter(|s| candidate.segments.contains(&s.id));
        let docs = sources().map(|s| u64::from(s.doc_count)).sum();
        let bytes = sources().map(|s| s.size_bytes).sum();
        let merges = &self.memory.merges;
        merges.take(merge_bytes(docs, bytes).min(merges.limit())).ok()
    }

    async fn merge(&self, candidate: &MergeCandidate) -> ApiResult<()> {
        let Some(job) = self.engine.begin_merge(candidate) else { return Ok(()) };
        let began = self.io.monotonic_ns();
        let began_with: Vec<Option<Arc<LiveDocs>>> = job.sources.iter().map(|s| s.live.clone()).collect();
        let target = job.target;
        let name = job.name.clone();
        let wanted = Wanted(Arc::clone(&self.merges_end));
        let merged = self
            .io
            .maintain(self.engine.directory(), move |directory| {
                Box::pin(async move { job.run(&directory, &wanted).await })
            })
            .await;
        add(&self.counters.merge_ns, self.timed(Stage::Merge, began));
        let finished = match merged {
            Ok(Ok(output)) => self.swap_in(target, &name, &began_with, output).await,
            Ok(Err(e)) => Err(e),
            Err(e) => {
                // The maintenance thread is gone: nothing is wrong with the shard's files.
                self.give_up(target, &name).await;
                return Err(e);
            }
        };
        if let Err(e) = &finished {
            // Stopped: the shard is closing, and the next life merges.
            if !matches!(e, Error::Stopped) {
                self.engine.fail(e);
            }
            self.give_up(target, &name).await;
        }
        finished.map_err(ApiError::from)
    }

    async fn swap_in(
        &self,
        target: SegmentId,
        name: &str,
        began_with: &[Option<Arc<LiveDocs>>],
        merged: Merged,
    ) -> ringdex_engine::Result<()> {
        let bytes = match merged.meta {
            None => None,
            Some(_) => Some(self.engine.directory().map(name).await?),
        };
        self.engine.finish_merge(target, began_with, &merged.maps, bytes).await?;
        self.forget_segments();
        Ok(())
    }

    async fn give_up(&self, target: SegmentId, name: &str) {
        self.engine.abort_merge(target);
        // Half a file that nothing names; if it cannot be removed now, the next flush does.
        let _ = self.engine.directory().remove(name).await;
    }
}

/// What a merge holds, on the high side: buffers of files, what a dictionary is chosen from and with, per document its
/// place in the id index, in one column, its norm and where it was and will be, and the ordinals of the terms.
fn merge_bytes(docs: u64, bytes: u64) -> u64 {
    (6 << 20) + docs * 32 + bytes / 32
}

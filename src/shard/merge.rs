//! What the maintenance thread does for a shard: merges (what to merge, and swapping the result in), and reading ahead after a start.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringdex_engine::Error;
use ringdex_engine::budget::Taken;
use ringdex_engine::ids::SegmentId;
use ringdex_engine::merge::merger::Merged;
use ringdex_engine::merge::policy::{MergeCandidate, SegmentSize};
use ringdex_engine::pace::Pace;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::segment::reader::SegmentReader;
use ringdex_engine::store::Directory;
use rustc_hash::FxHashSet;

use crate::backend::LocalFuture;
use crate::config::machine_memory;
use crate::error::{ApiError, ApiResult};
use crate::io::{Claim, GiveWay, Lane, NodeIo};
use crate::shard::{Shard, add};
use crate::stats::Stage;

/// A merge gives way to those who serve, and ends early when its shard closes.
struct Wanted {
    ends: Arc<AtomicBool>,
    give_way: GiveWay,
}

impl Pace for Wanted {
    async fn yield_if_needed(&self) {
        (self.give_way)();
    }

    fn stopped(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }
}

/// From so many times the segments that the policy allows on, the spare time of the core is too little for merges.
const LAG_MAX: f64 = 1.25;
/// The most of the core that they get then, and the lag at which they get it.
const PERCENT_MAX: f64 = 50.0;
const LAG_OF_MOST: f64 = 2.0;

/// What part of the core a merge takes: the further behind they are the more, so that they keep up with the writes of a core
/// that never rests, and no more than that needs.
fn claim(lag: f64) -> Claim {
    if lag < LAG_MAX {
        return Claim::Spare;
    }
    Claim::Percent((PERCENT_MAX * (lag - 1.0) / (LAG_OF_MOST - 1.0)).min(PERCENT_MAX) as u8)
}

/// What searches are given to end in segments that have been merged; a longer one unmaps them itself.
const LAST_SEARCHES: Duration = Duration::from_millis(100);
/// The part of the machine's memory that a shard's files are read into after a start.
const WARM_PART: u64 = 2;
/// How often a forced merge looks whether others have ended.
const MERGES_LOOK: Duration = Duration::from_millis(5);

/// What is being merged in one shard.
#[derive(Default)]
pub(super) struct Merges {
    /// What each claims, and bytes that it reads.
    running: RefCell<Vec<(Claim, u64)>>,
    reserved: RefCell<Reserved>,
}

/// Segments that a forced merge will take, so that no other does.
#[derive(Default)]
enum Reserved {
    #[default]
    Nothing,
    /// It waits for the merges that run.
    Everything,
    These(FxHashSet<SegmentId>),
}

impl Merges {
    /// How many run.
    pub(super) fn count(&self) -> usize {
        self.running.borrow().len()
    }

    /// Whether a merge of so many bytes may begin beside those that run. A large merge takes minutes, and the small segments
    /// that come meanwhile must not wait for it; but two of a size only make each other longer. One that is given a part of
    /// the core does not wait for those that live on spare time: there may be none.
    fn has_room_for(&self, claim: Claim, bytes: u64) -> bool {
        let waits_for = |running: Claim| claim == Claim::Spare || running != Claim::Spare;
        self.running.borrow().iter().all(|(running, size)| !waits_for(*running) || bytes <= size / 2)
    }

    fn is_reserved(&self, id: SegmentId) -> bool {
        match &*self.reserved.borrow() {
            Reserved::Nothing => false,
            Reserved::Everything => true,
            Reserved::These(ids) => ids.contains(&id),
        }
    }
}

/// A merge that runs.
struct Underway(Rc<Merges>, (Claim, u64));

impl Underway {
    fn begin(merges: &Rc<Merges>, claim: Claim, bytes: u64) -> Underway {
        merges.running.borrow_mut().push((claim, bytes));
        Underway(Rc::clone(merges), (claim, bytes))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut running = self.0.running.borrow_mut();
        let at = running.iter().position(|merge| *merge == self.1).expect("it is there until it ends");
        running.swap_remove(at);
    }
}

/// A forced merge that has segments to itself.
struct Reservation(Rc<Merges>);

impl Reservation {
    /// None while another has one.
    fn of_everything(merges: &Rc<Merges>) -> Option<Reservation> {
        let reserved = &mut *merges.reserved.borrow_mut();
        if !matches!(reserved, Reserved::Nothing) {
            return None;
        }
        *reserved = Reserved::Everything;
        Some(Reservation(Rc::clone(merges)))
    }

    fn only(&self, ids: FxHashSet<SegmentId>) {
        *self.0.reserved.borrow_mut() = Reserved::These(ids);
    }

    fn add(&self, id: SegmentId) {
        if let Reserved::These(ids) = &mut *self.0.reserved.borrow_mut() {
            ids.insert(id);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.0.reserved.borrow_mut() = Reserved::Nothing;
    }
}

impl<I: NodeIo> Shard<I> {
    /// Starts the background merges that the policy wants, as far as there is room beside those that run.
    pub(super) fn start_merges(self: &Rc<Self>) {
        if !self.merge_backoff.borrow().rest(self.io.monotonic_ns()).is_zero() {
            return;
        }
        let policy = self.settings.borrow().merge.clone();
        let mut sizes = self.engine.segment_sizes();
        let claim = claim(policy.lag(&sizes));
        sizes.iter_mut().for_each(|s| s.merging |= self.merges.is_reserved(s.id));
        for candidate in policy.find_merges(&sizes) {
            let input = Input::of(&candidate, &sizes);
            if !self.merges.has_room_for(claim, input.bytes) {
                continue;
            }
            // No memory for it: the next round of upkeep asks again.
            let Some(held) = self.merge_memory(&input) else { continue };
            let (shard, underway) = (self.clone(), Underway::begin(&self.merges, claim, input.bytes));
            self.keep(Lane::Background, async move {
                let merged = shard.merge(&candidate, claim).await;
                drop((held, underway));
                match merged {
                    Ok(_) => {
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
    }

    /// `_forcemerge`: merges what is there now until the policy is content with at most so many segments.
    pub(super) async fn force_merge(
        self: &Rc<Self>,
        max_segments: Option<u32>,
        only_expunge_deletes: bool,
        flush: bool,
    ) -> ApiResult<()> {
        let reservation = loop {
            match Reservation::of_everything(&self.merges) {
                Some(reservation) => break reservation,
                None => self.rest_of_merging().await?,
            }
        };
        self.refresh(true).await?;
        while self.merges.count() > 0 {
            self.rest_of_merging().await?;
        }
        reservation.only(self.engine.segment_sizes().iter().map(|s| s.id).collect());
        loop {
            let policy = self.settings.borrow().merge.clone();
            let mut sizes = self.engine.segment_sizes();
            sizes.retain(|s| self.merges.is_reserved(s.id));
            let next = if only_expunge_deletes {
                policy.find_expunge_merges(&sizes)
            } else {
                match max_segments {
                    Some(n) => policy.find_forced_merges(&sizes, n.max(1) as usize),
                    None => policy.find_merges(&sizes),
                }
            };
            let Some(candidate) = next.into_iter().next() else { break };
            let input = Input::of(&candidate, &sizes);
            let _held = loop {
                match self.merge_memory(&input) {
                    Some(held) => break held,
                    None => self.rest_of_merging().await?,
                }
            };
            let _underway = Underway::begin(&self.merges, Claim::Spare, input.bytes);
            match self.merge(&candidate, Claim::Spare).await? {
                Some(made) => reservation.add(made),
                // A segment of it has gone meanwhile.
                None => self.rest_of_merging().await?,
            }
        }
        drop(reservation);
        if flush {
            self.timed_flush(false).await?;
        }
        Ok(())
    }

    /// Once, after the start: reads what searches will read into memory. Nobody waits for it.
    pub(super) async fn warm_task(self: Rc<Self>) {
        let readers = self.engine.readers_of_files();
        let ends = Arc::clone(&self.merges_end);
        let warm = self.io.maintain(Claim::Spare, self.engine.directory(), move |_, give_way| {
            Box::pin(async move {
                let pace = Wanted { ends, give_way };
                let mut room = machine_memory() / WARM_PART;
                for (_, reader) in readers {
                    let Ok(read) = reader.make_resident(room, &pace).await else { return };
                    room -= read;
                }
            })
        });
        if let Err(e) = warm.await {
            tracing::warn!(index = %self.id.index, shard = self.id.shard, error = %e, "what searches read could not be read ahead");
        }
    }

    /// A moment for other merges to end.
    async fn rest_of_merging(&self) -> ApiResult<()> {
        self.io.sleep(MERGES_LOOK).await;
        if self.closing.get() { Err(self.unavailable("is closing")) } else { Ok(()) }
    }

    /// Memory for a merge, if there is enough beside the merges that run. One that wants more than there
    /// is for all of them has to run alone.
    fn merge_memory(&self, input: &Input) -> Option<Taken> {
        let merges = &self.memory.merges;
        merges.take(input.memory().min(merges.limit())).ok()
    }

    /// The new segment; none if one of those to be merged is gone or taken.
    async fn merge(self: &Rc<Self>, candidate: &MergeCandidate, claim: Claim) -> ApiResult<Option<SegmentId>> {
        let Some(job) = self.engine.begin_merge(candidate) else { return Ok(None) };
        let began = self.io.monotonic_ns();
        let began_with: Vec<Option<Arc<LiveDocs>>> = job.sources.iter().map(|s| s.live.clone()).collect();
        let replaced: Vec<Arc<SegmentReader>> = job.sources.iter().map(|s| Arc::clone(&s.reader)).collect();
        let target = job.target;
        let name = job.name.clone();
        let ends = Arc::clone(&self.merges_end);
        let merged = self
            .io
            .maintain(claim, self.engine.directory(), move |directory, give_way| {
                Box::pin(async move { job.run(&directory, &Wanted { ends, give_way }).await })
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
        match &finished {
            Ok(()) => self.let_go(replaced),
            Err(e) => {
                // Stopped: the shard is closing, and the next life merges.
                if !matches!(e, Error::Stopped) {
                    self.engine.fail(e);
                }
                self.give_up(target, &name).await;
            }
        }
        finished.map(|()| Some(target)).map_err(ApiError::from)
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

    /// Unmaps segments elsewhere, when the searches that run in them have ended: it takes a millisecond for some ten megabytes.
    fn let_go(self: &Rc<Self>, readers: Vec<Arc<SegmentReader>>) {
        let shard = self.clone();
        self.keep(Lane::Background, async move {
            shard.io.sleep(LAST_SEARCHES).await;
            // If it cannot be done there they have been dropped here.
            let job = move |_, _: GiveWay| -> LocalFuture<'static, ()> { Box::pin(async move { drop(readers) }) };
            let _ = shard.io.maintain(Claim::Spare, shard.engine.directory(), job).await;
        });
    }

    async fn give_up(&self, target: SegmentId, name: &str) {
        self.engine.abort_merge(target);
        // Half a file that nothing names; if it cannot be removed now, the next flush does.
        let _ = self.engine.directory().remove(name).await;
    }
}

/// What a merge reads.
struct Input {
    docs: u64,
    bytes: u64,
}

impl Input {
    fn of(candidate: &MergeCandidate, sizes: &[SegmentSize]) -> Input {
        let sources = || sizes.iter().filter(|s| candidate.segments.contains(&s.id));
        Input { docs: sources().map(|s| u64::from(s.doc_count)).sum(), bytes: sources().map(|s| s.size_bytes).sum() }
    }

    /// What the merge holds, on the high side: buffers of files, what a dictionary is chosen from and with, per document its
    /// place in the id index, in one column, its norm and where it was and will be, and the ordinals of the terms.
    fn memory(&self) -> u64 {
        (6 << 20) + self.docs * 32 + self.bytes / 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_begins_beside_those_that_are_larger_by_far() {
        let merges = Rc::new(Merges::default());
        let room = |bytes| merges.has_room_for(Claim::Spare, bytes);
        assert!(room(1000));
        let large = Underway::begin(&merges, Claim::Spare, 1000);
        assert!(!room(501));
        assert!(room(500));
        let small = Underway::begin(&merges, Claim::Spare, 100);
        assert!(!room(500));
        assert!(room(50));
        drop(large);
        assert!(!room(500), "the small one still runs");
        let urgent = |bytes| merges.has_room_for(Claim::Percent(20), bytes);
        assert!(urgent(500), "the small one may stand still");
        let part = Underway::begin(&merges, Claim::Percent(30), 500);
        assert!(!urgent(500) && urgent(250));
        drop((small, part));
        assert!(room(u64::MAX));
        assert_eq!(merges.count(), 0);
    }

    #[test]
    fn the_further_behind_the_larger_the_part() {
        assert_eq!([0.0, 1.0, 1.2].map(claim), [Claim::Spare; 3]);
        assert_eq!([1.25, 1.5, 2.0, 30.0].map(claim), [12, 25, 50, 50].map(Claim::Percent));
    }

    #[test]
    fn a_forced_merge_has_its_segments_to_itself() {
        let merges = Rc::new(Merges::default());
        let (old, made, new) = (SegmentId(1), SegmentId(7), SegmentId(8));
        assert!(!merges.is_reserved(old));
        let forced = Reservation::of_everything(&merges).unwrap();
        assert!(Reservation::of_everything(&merges).is_none(), "one at a time");
        assert!(merges.is_reserved(old) && merges.is_reserved(new), "while it waits");
        forced.only([old].into_iter().collect());
        forced.add(made);
        assert!(merges.is_reserved(old) && merges.is_reserved(made) && !merges.is_reserved(new));
        drop(forced);
        assert!(!merges.is_reserved(old));
        assert!(Reservation::of_everything(&merges).is_some());
    }
}

//! Statistics of live documents alone, so that copies of a shard that hold the same operations score alike to the last bit,
//! whatever their segments are and whatever their merges have left of deleted documents.
//!
//! A segment knows how many documents have a term and how long its fields are, deleted documents included. What the deleted
//! ones hold is counted and taken off: of a term, those of its postings that are deleted; of a field, the deleted documents that
//! have it and their lengths. Where a segment has no deletes, nothing is asked here.
//!
//! What was counted is kept, by field and term, and cost is paid once for an unchanged searcher and little for a changed one:
//!
//! - Deletes only grow. Of each segment a log tells which documents were deleted from one published set to the next, and a count
//!   made for one of them is put right for another by looking at the documents between the two alone.
//! - A set that is not the successor of the last one (a copy was rolled back) starts the log anew, under another epoch, in which
//!   no older count is right. Sets are told apart by identity, never by their numbers.
//! - Each sum over all segments is kept with the searcher that it is of, so that to score by it takes one look-up.
//!
//! Memory comes from a pool that is shared with other shards. Entries are in two generations: what is used goes to the young
//! one; when that has its share, or the pool is empty, the old one is dropped and the young one is old.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::budget::{Pool, Taken};
use crate::ids::{DocId, NO_MORE_DOCS, SegmentId};
use crate::pace::Pace;
use crate::search::leaf::turn;
use crate::search::{Searcher, SegmentView};
use crate::seed::{HashSeed, SeededMap};
use crate::segment::live_docs::LiveDocs;
use crate::segment::reader::{TermInfo, Want};

/// Terms and fields in one generation.
const ENTRIES_MAX: usize = 16_384;
/// The young generation has at most this part of the pool.
const POOL_PART: u64 = 16;
/// Bytes of an entry beside its key and what it knows of segments.
const ENTRY_BYTES: u64 = 192;
/// Searchers that are known at a time: of searches, and of points in time that are held.
const SEARCHERS_MAX: usize = 8;
/// Published sets of deletes that a log tells apart.
const SETS_MAX: usize = 64;
/// A log has at most this part of a segment's documents: then it is as large as a bitmap of them.
const LOG_PART: u32 = 32;
const LOG_MIN: usize = 1024;
/// What looking for one document in a list costs, in postings that are walked.
const SEEK_COST: u64 = 8;
/// Postings walked, or lengths of documents added up, between two questions to the pace.
const PACE_POSTINGS: u32 = 8192;

/// What some deleted documents hold of a term or of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Documents that have it.
    pub docs: u64,
    /// Of a field: occurrences of all terms in them.
    pub occurrences: u64,
}

/// A term of a field, or (without a term) a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub field: Arc<str>,
    pub term: Option<Vec<u8>>,
}

/// Where a published set of deletes stands in the log of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    epoch: u64,
    /// Documents deleted before it, counted from the beginning of the epoch.
    at: u64,
}

/// Deletes of one segment in the order in which they were published.
struct Log {
    epoch: u64,
    /// Documents of the set `latest` but not of the first one, less those forgotten. Of one set to the next they ascend.
    docs: Vec<DocId>,
    /// How many were forgotten.
    forgotten: u64,
    /// Identities of sets, and where they stand.
    sets: Vec<(Weak<LiveDocs>, u64)>,
    latest: Arc<LiveDocs>,
}

impl Log {
    fn new(epoch: u64, first: &Arc<LiveDocs>) -> Log {
        let sets = vec![(Arc::downgrade(first), 0)];
        Log { epoch, docs: Vec::new(), forgotten: 0, sets, latest: Arc::clone(first) }
    }

    fn end(&self) -> u64 {
        self.forgotten + self.docs.len() as u64
    }

    fn find(&self, set: &Arc<LiveDocs>) -> Option<Place> {
        let same = |known: &&(Weak<LiveDocs>, u64)| std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(set));
        self.sets.iter().rev().find(same).map(|&(_, at)| Place { epoch: self.epoch, at })
    }

    /// Takes a set in that has all deletes of the latest; false if it does not.
    fn append(&mut self, set: &Arc<LiveDocs>) -> bool {
        let (before, now) = (self.latest.words(), set.words());
        if before.len() != now.len() || before.iter().zip(now).any(|(before, now)| now & !before != 0) {
            return false;
        }
        for (index, (before, now)) in before.iter().zip(now).enumerate() {
            let mut fresh = before & !now;
            while fresh != 0 {
                self.docs.push(index as u32 * 64 + fresh.trailing_zeros());
                fresh &= fresh - 1;
            }
        }
        self.latest = Arc::clone(set);
        self.sets.push((Arc::downgrade(set), self.end()));
        let most = LOG_MIN.max((set.doc_count() / LOG_PART) as usize);
        if self.docs.len() > most {
            let excess = self.docs.len() - most / 2;
            self.docs.drain(..excess);
            self.docs.shrink_to(most);
            self.forgotten += excess as u64;
        }
        let spare = self.sets.len().saturating_sub(SETS_MAX);
        self.sets.drain(..spare);
        self.sets.retain(|(_, at)| *at >= self.forgotten);
        true
    }

    /// The documents deleted between two places, ascending; none if they are not all known.
    fn between(&self, a: u64, b: u64) -> Option<Vec<DocId>> {
        let from = a.min(b).checked_sub(self.forgotten)?;
        let to = a.max(b) - self.forgotten;
        let mut docs = self.docs.get(from as usize..to as usize)?.to_vec();
        docs.sort_unstable();
        Some(docs)
    }

    fn bytes(&self) -> u64 {
        (size_of::<Log>() + self.docs.capacity() * 4 + self.sets.capacity() * 16 + self.latest.words().len() * 8) as u64
    }
}

/// What was counted in one segment.
#[derive(Clone, Copy, Debug)]
struct Known {
    place: Place,
    deleted: Deleted,
}

struct Entry {
    /// Of which searcher `sum` is.
    searcher: u64,
    sum: Deleted,
    segments: SmallVec<[(SegmentId, Known); 2]>,
    bytes: u64,
}

struct Half {
    entries: SeededMap<Box<[u8]>, Entry>,
    taken: Taken,
}

struct State {
    pool: Arc<Pool>,
    seed: HashSeed,
    logs: FxHashMap<SegmentId, Log>,
    logs_taken: Taken,
    epochs: u64,
    /// Identities of searchers and their numbers, the last used last.
    searchers: Vec<(Weak<Vec<SegmentView>>, u64)>,
    searchers_ever: u64,
    young: Half,
    old: Half,
    /// Whether a look-up was made since the last sweep.
    used: bool,
    key: Vec<u8>,
}

/// See the module.
pub struct LiveCounts {
    state: RefCell<State>,
}

impl std::fmt::Debug for LiveCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LiveCounts({} bytes)", self.bytes())
    }
}

impl LiveCounts {
    /// An empty one that takes its memory from `pool`. Terms come from clients, so they hash under `seed`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, seed: HashSeed) -> Rc<LiveCounts> {
        let nothing = || pool.take(0).expect("nothing");
        let half = || Half { entries: SeededMap::with_hasher(seed), taken: nothing() };
        let state = State {
            logs: FxHashMap::default(),
            logs_taken: nothing(),
            epochs: 0,
            searchers: Vec::new(),
            searchers_ever: 0,
            young: half(),
            old: half(),
            used: false,
            key: Vec::new(),
            seed,
            pool,
        };
        Rc::new(LiveCounts { state: RefCell::new(state) })
    }

    /// Memory in use.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.logs_taken.bytes() + state.young.taken.bytes() + state.old.taken.bytes()
    }

    /// Forgets all.
    pub fn clear(&self) {
        let state = &mut *self.state.borrow_mut();
        state.rotate();
        state.rotate();
        state.logs.clear();
        state.account_logs();
    }

    /// Forgets segments that `searcher` no longer has.
    pub fn retain(&self, searcher: &Searcher) {
        let state = &mut *self.state.borrow_mut();
        if state.logs.is_empty() {
            return;
        }
        let alive: FxHashSet<SegmentId> = searcher.segments.iter().map(|s| s.reader.segment_id()).collect();
        state.logs.retain(|id, _| alive.contains(id));
        state.account_logs();
    }

    /// To be called now and then: while memory is short, what nobody asked for since the call before goes.
    pub fn sweep(&self) {
        let state = &mut *self.state.borrow_mut();
        let used = std::mem::replace(&mut state.used, false);
        if state.pool.used() <= state.pool.limit() / 4 * 3 {
            return;
        }
        state.rotate();
        if !used {
            state.rotate();
            state.logs.clear();
            state.account_logs();
        }
    }

    /// A number for a searcher: another one for each.
    pub(crate) fn number(&self, searcher: &Searcher) -> u64 {
        let state = &mut *self.state.borrow_mut();
        state.used = true;
        let same =
            |known: &(Weak<Vec<SegmentView>>, u64)| std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(&searcher.segments));
        let number = match state.searchers.iter().rposition(same) {
            Some(last) if last + 1 == state.searchers.len() => return state.searchers[last].1,
            Some(at) => state.searchers.remove(at).1,
            None => {
                state.searchers_ever += 1;
                state.searchers_ever
            }
        };
        let spare = (state.searchers.len() + 1).saturating_sub(SEARCHERS_MAX);
        state.searchers.drain(..spare);
        state.searchers.push((Arc::downgrade(&searcher.segments), number));
        number
    }

    /// What the deleted documents of a searcher hold, if it is known.
    pub(crate) fn get(&self, field: &str, term: Option<&[u8]>, searcher: u64) -> Option<Deleted> {
        let state = &mut *self.state.borrow_mut();
        state.set_key(field, term);
        let entry = state.young.entries.get(&*state.key).or_else(|| state.old.entries.get(&*state.key))?;
        if entry.searcher != searcher {
            return None;
        }
        let sum = entry.sum;
        state.rejuvenate();
        Some(sum)
    }

    /// Where the deletes of a segment stand; none if that cannot be told.
    fn place(&self, id: SegmentId, live: &Arc<LiveDocs>) -> Option<Place> {
        let state = &mut *self.state.borrow_mut();
        if let Some(log) = state.logs.get_mut(&id) {
            if let Some(place) = log.find(live) {
                return Some(place);
            }
            // As long as somebody has the latest, what does not go beyond it is older, and not worth its place.
            if !log.append(live) && Arc::strong_count(&log.latest) > 1 {
                return None;
            }
            if !Arc::ptr_eq(&log.latest, live) {
                state.epochs += 1;
                *log = Log::new(state.epochs, live);
            }
        } else {
            state.epochs += 1;
            state.logs.insert(id, Log::new(state.epochs, live));
        }
        state.account_logs();
        state.logs.get(&id)?.find(live)
    }

    /// What is known of a segment for some place, and the documents deleted between that place and `place`.
    fn near(&self, asked: &Asked, id: SegmentId, place: Place) -> Option<(Known, Vec<DocId>)> {
        let state = &mut *self.state.borrow_mut();
        state.set_key(&asked.field, asked.term.as_deref());
        let entry = state.young.entries.get(&*state.key).or_else(|| state.old.entries.get(&*state.key))?;
        let known = entry.segments.iter().find(|(of, _)| *of == id)?.1;
        if known.place.epoch != place.epoch {
            return None;
        }
        let docs = state.logs.get(&id)?.between(known.place.at, place.at)?;
        Some((known, docs))
    }

    /// Keeps what was counted for a searcher.
    fn keep(&self, asked: &Asked, searcher: u64, sum: Deleted, counted: &[(SegmentId, Known)]) {
        let state = &mut *self.state.borrow_mut();
        state.set_key(&asked.field, asked.term.as_deref());
        let before = [&mut state.young, &mut state.old].into_iter().find_map(|half| half.take(&state.key));
        let mut segments = before.map(|entry| entry.segments).unwrap_or_default();
        segments.retain(|(id, _)| state.logs.contains_key(id));
        for &(id, known) in counted {
            match segments.iter_mut().find(|(of, _)| *of == id) {
                // A count for later deletes is worth more than one for earlier ones.
                Some((_, later)) if later.place.epoch == known.place.epoch && later.place.at > known.place.at => {}
                Some((_, older)) => *older = known,
                None => segments.push((id, known)),
            }
        }
        let beside = if segments.spilled() { segments.capacity() * size_of::<(SegmentId, Known)>() } else { 0 };
        let bytes = ENTRY_BYTES + (state.key.len() + beside) as u64;
        state.insert(Entry { searcher, sum, segments, bytes });
    }
}

impl Half {
    fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.taken.resize(self.taken.bytes() - entry.bytes).expect("less than before");
        Some(entry)
    }
}

impl State {
    /// No field's name has the bytes that end it here: they are not UTF-8.
    fn set_key(&mut self, field: &str, term: Option<&[u8]>) {
        self.key.clear();
        self.key.extend_from_slice(field.as_bytes());
        self.key.push(if term.is_some() { 0xff } else { 0xfe });
        self.key.extend_from_slice(term.unwrap_or_default());
    }

    fn rejuvenate(&mut self) {
        if !self.old.entries.is_empty()
            && let Some(entry) = self.old.take(&self.key)
        {
            self.insert(entry);
        }
    }

    /// Puts an entry under `key` into the young generation, if there is room.
    fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes;
        for _ in 0..2 {
            let fits = self.young.entries.len() < ENTRIES_MAX
                && self.young.taken.bytes() + bytes <= self.pool.limit() / POOL_PART;
            if fits && self.young.taken.resize(self.young.taken.bytes() + bytes).is_ok() {
                self.young.entries.insert(self.key.as_slice().into(), entry);
                return;
            }
            self.rotate();
        }
    }

    /// The young become old, and the old go.
    fn rotate(&mut self) {
        let taken = self.pool.take(0).expect("nothing");
        let young = Half { entries: SeededMap::with_hasher(self.seed), taken };
        self.old = std::mem::replace(&mut self.young, young);
    }

    /// Takes memory for the logs; where there is none they are forgotten.
    fn account_logs(&mut self) {
        let bytes = self.logs.values().map(Log::bytes).sum();
        if self.logs_taken.resize(bytes).is_err() {
            self.logs.clear();
            self.logs_taken.resize(0).expect("less than before");
        }
    }
}

impl SegmentView {
    /// Its deletes, if it has any.
    pub(crate) fn deletes(&self) -> Option<&Arc<LiveDocs>> {
        self.live.as_ref().filter(|live| live.deleted_count() > 0)
    }

    /// Whether a live document has the term.
    pub(crate) fn has_live(&self, field: &str, info: &TermInfo) -> bool {
        let Some(live) = self.deletes() else { return true };
        let Some(index) = self.reader.field(field).and_then(|f| f.terms()) else { return false };
        let mut postings = index.postings(info, Want::Docs);
        loop {
            match postings.next() {
                NO_MORE_DOCS => return false,
                doc if live.is_live(doc) => return true,
                _ => {}
            }
        }
    }
}

/// Counts what the deleted documents of a searcher hold; `infos` are the term's, by segment. None when stopped.
pub(crate) async fn count<P: Pace>(
    counts: Option<&LiveCounts>,
    searcher: &Searcher,
    asked: &Asked,
    infos: &[Option<TermInfo>],
    pace: &P,
) -> Option<Deleted> {
    let mut sum = Deleted::default();
    let mut counted: SmallVec<[(SegmentId, Known); 8]> = SmallVec::new();
    for (ordinal, view) in searcher.segments.iter().enumerate() {
        let Some(live) = view.deletes() else { continue };
        let info = infos.get(ordinal).copied().flatten();
        if view.reader.field(&asked.field).is_none() || asked.term.is_some() && info.is_none() {
            continue;
        }
        let id = view.reader.segment_id();
        let place = counts.and_then(|counts| counts.place(id, live));
        let near = counts.zip(place).and_then(|(counts, place)| counts.near(asked, id, place));
        let deleted = match (near, place) {
            (Some((known, docs)), Some(place)) => {
                let between = hold(view, asked, info, Some(&docs), pace).await?;
                if known.place.at <= place.at {
                    Deleted {
                        docs: known.deleted.docs + between.docs,
                        occurrences: known.deleted.occurrences.saturating_add(between.occurrences),
                    }
                } else {
                    Deleted {
                        docs: known.deleted.docs.saturating_sub(between.docs),
                        occurrences: known.deleted.occurrences.saturating_sub(between.occurrences),
                    }
                }
            }
            _ => hold(view, asked, info, None, pace).await?,
        };
        sum.docs += deleted.docs;
        sum.occurrences = sum.occurrences.saturating_add(deleted.occurrences);
        if let Some(place) = place {
            counted.push((id, Known { place, deleted }));
        }
    }
    if let Some(counts) = counts {
        counts.keep(asked, counts.number(searcher), sum, &counted);
    }
    Some(sum)
}

/// What `docs`, or all deleted documents, hold. None when stopped.
async fn hold<P: Pace>(
    view: &SegmentView,
    asked: &Asked,
    info: Option<TermInfo>,
    docs: Option<&[DocId]>,
    pace: &P,
) -> Option<Deleted> {
    let Some(field) = view.reader.field(&asked.field) else { return Some(Deleted::default()) };
    let live = view.live.as_ref().expect("a segment with deletes");
    let mut held = Deleted::default();
    let (mut all, mut some) = (live.deleted(), docs.unwrap_or_default().iter().copied());
    let mut next = || if docs.is_some() { some.next() } else { all.next() };
    let mut work = 0;
    let Some(info) = info else {
        while let Some(doc) = next() {
            let occurrences = field.occurrences(doc);
            held.docs += u64::from(occurrences > 0);
            held.occurrences = held.occurrences.saturating_add(occurrences);
            work += 1;
            if work == PACE_POSTINGS {
                work = 0;
                if turn(pace).await {
                    return None;
                }
            }
        }
        return Some(held);
    };
    let Some(index) = field.terms() else { return Some(held) };
    let mut postings = index.postings(&info, Want::Docs);
    let wanted = docs.map_or(u64::from(live.deleted_count()), |docs| docs.len() as u64);
    if docs.is_some() || wanted * SEEK_COST < u64::from(info.doc_freq) {
        while let Some(doc) = next() {
            match postings.seek(doc) {
                NO_MORE_DOCS => break,
                found => held.docs += u64::from(found == doc),
            }
            work += SEEK_COST as u32;
            if work >= PACE_POSTINGS {
                work = 0;
                if turn(pace).await {
                    return None;
                }
            }
        }
        return Some(held);
    }
    postings.next();
    while postings.doc() != NO_MORE_DOCS {
        let block = postings.block_docs();
        held.docs += block.iter().map(|&doc| u64::from(!live.is_live(doc))).sum::<u64>();
        let count = block.len();
        postings.advance(count);
        work += count as u32;
        if work >= PACE_POSTINGS {
            work = 0;
            if turn(pace).await {
                return None;
            }
        }
    }
    Some(held)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pace::Unpaced;
    use crate::search::tests::{Dice, Shard};

    const DOCS: u32 = 3000;

    /// Two segments. In the first, every document has `a` and every third has `b`.
    fn shard() -> Shard {
        let text = |doc: u32| "a ".repeat(1 + doc as usize % 50) + if doc.is_multiple_of(3) { "b" } else { "c" };
        let docs = |count: u32| (0..count).map(|doc| json!({ "t": text(doc) })).collect();
        Shard::new(&json!({"properties": {"t": {"type": "text"}}}), &[docs(DOCS), docs(10)], &[])
    }

    fn with_live(shard: &Shard, live: &Arc<LiveDocs>) -> Searcher {
        let mut segments = (*shard.searcher.segments).clone();
        segments[0].live = Some(Arc::clone(live));
        Searcher { segments: Arc::new(segments) }
    }

    fn asked(term: Option<&str>) -> Asked {
        Asked { field: "t".into(), term: term.map(|t| t.as_bytes().to_vec()) }
    }

    fn counted(counts: Option<&LiveCounts>, searcher: &Searcher, term: Option<&str>) -> Deleted {
        let info = |s: &SegmentView| s.reader.field("t")?.terms()?.get(term?.as_bytes());
        let infos: Vec<Option<TermInfo>> = searcher.segments.iter().map(info).collect();
        block_on(count(counts, searcher, &asked(term), &infos, &Unpaced)).expect("never stopped")
    }

    fn by_hand(live: &LiveDocs, term: Option<&str>) -> Deleted {
        let has = |doc: &DocId| term.is_none_or(|t| t == "a" || (t == "b") == doc.is_multiple_of(3));
        let docs: Vec<DocId> = live.deleted().filter(has).collect();
        let occurrences = if term.is_none() { docs.iter().map(|doc| 2 + u64::from(doc % 50)).sum() } else { 0 };
        Deleted { docs: docs.len() as u64, occurrences }
    }

    const TERMS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];

    #[derive(Clone, Debug)]
    enum Step {
        /// So many documents are deleted.
        Delete(u32, u64),
        /// The deletes are those of an earlier set, and others follow.
        RollBack(u32, u64),
        /// Somebody holds the present set.
        Hold,
        Release,
        /// Whoever held something asks.
        AskEarlier,
    }

    fn step() -> impl Strategy<Value = Step> {
        let many = || prop_oneof![3 => 0u32..30, 1 => 0u32..1500];
        prop_oneof![
            6 => (many(), any::<u64>()).prop_map(|(n, seed)| Step::Delete(n, seed)),
            1 => (many(), any::<u64>()).prop_map(|(n, seed)| Step::RollBack(n, seed)),
            2 => Just(Step::Hold),
            1 => Just(Step::Release),
            2 => Just(Step::AskEarlier),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn counts_are_right_whichever_set_of_deletes_is_asked_for(
            steps in proptest::collection::vec(step(), 1..40),
            room in prop_oneof![Just(0u64), Just(3000), Just(40_000), Just(1 << 24)],
        ) {
            let shard = shard();
            let pool = Pool::new("live_counts", room);
            let counts = LiveCounts::new(Arc::clone(&pool), HashSeed::new(5));
            let mut present = Arc::new(LiveDocs::all(DOCS));
            let mut held: Vec<(Searcher, Arc<LiveDocs>)> = Vec::new();
            let check = |searcher: &Searcher, live: &LiveDocs| {
                for term in TERMS {
                    assert_eq!(counted(Some(&counts), searcher, term), by_hand(live, term), "{term:?}");
                    let kept = counts.get("t", term.map(str::as_bytes), counts.number(searcher));
                    assert!(kept.is_none_or(|kept| kept == by_hand(live, term)), "{term:?}");
                    assert!(kept.is_some() || room < 1 << 24, "an unchanged searcher pays once");
                }
                assert!(pool.used() <= room && pool.used() == counts.bytes());
            };
            for step in steps {
                match step {
                    Step::Delete(n, seed) | Step::RollBack(n, seed) => {
                        let mut next = match (&step, held.first()) {
                            (Step::RollBack(..), Some((_, earlier))) => (**earlier).clone(),
                            (Step::RollBack(..), None) => LiveDocs::all(DOCS),
                            _ => (*present).clone(),
                        };
                        let mut dice = Dice(seed | 1);
                        (0..n).for_each(|_| {
                            next.delete(dice.roll(u64::from(DOCS)) as u32);
                        });
                        present = Arc::new(next);
                    }
                    Step::Hold => held.push((with_live(&shard, &present), Arc::clone(&present))),
                    Step::Release => held.clear(),
                    Step::AskEarlier => held.iter().for_each(|(searcher, live)| check(searcher, live)),
                }
                check(&with_live(&shard, &present), &present);
            }
            counts.retain(&Searcher::default());
            counts.sweep();
            counts.clear();
            prop_assert_eq!(pool.used(), 0);
        }
    }

    /// How many questions a pace was asked: about as many as there was work.
    struct Asks(std::cell::Cell<u32>);

    impl Pace for Asks {
        async fn yield_if_needed(&self) {
            self.0.set(self.0.get() + 1);
        }

        fn stopped(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_few_more_deletes_are_counted_without_a_walk_over_all() {
        let docs: Vec<_> = (0..60_000).map(|_| json!({"t": "a"})).collect();
        let shard = Shard::new(&json!({"properties": {"t": {"type": "text"}}}), &[docs], &[]);
        let counts = LiveCounts::new(Pool::new("live_counts", 1 << 20), HashSeed::new(5));
        let mut live = LiveDocs::all(60_000);
        (0..20_000).for_each(|doc| {
            live.delete(doc * 3);
        });
        let info = shard.searcher.segments[0].reader.field("t").unwrap().terms().unwrap().get(b"a");
        let work = |live: &LiveDocs| {
            let searcher = with_live(&shard, &Arc::new(live.clone()));
            let pace = Asks(std::cell::Cell::new(0));
            let deleted = block_on(count(Some(&counts), &searcher, &asked(Some("a")), &[info], &pace)).unwrap();
            assert_eq!(deleted.docs, u64::from(live.deleted_count()));
            pace.0.get()
        };
        assert!(work(&live) > 5, "all postings are walked");
        (0..200).for_each(|doc| {
            live.delete(doc * 30 + 1);
        });
        assert_eq!(work(&live), 0, "200 are looked for");
    }

    #[test]
    fn what_is_not_asked_for_makes_room() {
        let shard = shard();
        let mut live = LiveDocs::all(DOCS);
        live.delete(7);
        let searcher = with_live(&shard, &Arc::new(live));
        let counts = LiveCounts::new(Pool::new("live_counts", 64 << 10), HashSeed::new(5));
        counted(Some(&counts), &searcher, Some("a"));
        let number = counts.number(&searcher);
        for other in 0..1000 {
            let other = other.to_string();
            assert!(counts.get("t", Some(b"a"), number).is_some(), "used all the time");
            block_on(count(Some(&counts), &searcher, &asked(Some(&other)), &[None, None], &Unpaced));
        }
        assert!(counts.get("t", Some(b"999"), number).is_some());
        assert!(counts.get("t", Some(b"0"), number).is_none());
        assert!(counts.bytes() <= 16 << 10);
    }
}

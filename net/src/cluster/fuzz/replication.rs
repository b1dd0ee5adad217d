//! The machines of replication: a group of copies and a copy that follows, among peers that say anything at any time, and two
//! trackers of honest copies in whatever order things happen.

use std::collections::{BTreeMap, BTreeSet};

use ringdex_engine::ids::{PrimaryTerm, SeqNo};

use super::super::ids::AllocationId;
use super::super::replication::group::{self, BatchId, Group};
use super::super::replication::replica::{self, Replica, Request};
use super::super::replication::tracker::{self, Handoff, LEASE_MS, ReplicationGroup, Tracker};
use super::{Input, STEPS_MAX};

const COPIES: u8 = 5;

/// Arbitrary bytes as events: whatever comes, the machines keep their invariants; a batch is answered once, and only when all have
/// it; a request is answered once, and nothing is applied beside a roll-back; the global checkpoint never goes back, and no copy
/// that may be promoted is below it.
///
/// What copies tell a tracker is late, out of order or missing, but true: nothing is safe from one that claims what it has not.
///
/// # Panics
/// When an invariant is broken.
pub fn fuzz_replication(data: &[u8]) {
    let mut input = Input(data);
    let (mut batches, mut follower) = (Batches::new(), Follower::new(&mut input));
    let mut copies = Copies::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            return;
        }
        match input.below(4) {
            0 => batches.happen(&mut input),
            1 => follower.happen(&mut input),
            _ => copies.happen(&mut input),
        }
    }
}

impl Input<'_> {
    fn copy(&mut self) -> AllocationId {
        AllocationId(u128::from(1 + self.below(COPIES)))
    }

    fn copies(&mut self) -> BTreeSet<AllocationId> {
        let picked = self.byte();
        (0..COPIES).filter(|n| (picked >> n) & 1 == 1).map(|n| AllocationId(u128::from(n) + 1)).collect()
    }

    fn term(&mut self, near: PrimaryTerm) -> PrimaryTerm {
        PrimaryTerm(self.number(near.0))
    }
}

/// A group, and what it may say by a simple account of what it was told.
struct Batches {
    group: Group,
    last: BatchId,
    /// What is in progress: whether it is durable here, and who has not acknowledged it.
    waiting: BTreeMap<BatchId, (bool, BTreeSet<AllocationId>)>,
    failing: BTreeSet<AllocationId>,
    stepped_down: bool,
}

impl Batches {
    const TERM: PrimaryTerm = PrimaryTerm(7);

    fn new() -> Batches {
        Batches {
            group: Group::new(Self::TERM),
            last: 0,
            waiting: BTreeMap::new(),
            failing: BTreeSet::new(),
            stepped_down: false,
        }
    }

    fn happen(&mut self, input: &mut Input<'_>) {
        let some = input.number(self.last);
        let event = match input.below(16) {
            0..=3 => {
                let begun = if input.below(8) == 0 { some } else { self.last + 1 };
                let targets = input.copies();
                let unavailable = input.copies().difference(&targets).copied().collect();
                group::Event::Begin(begun, ReplicationGroup { targets, unavailable })
            }
            4..=6 => group::Event::Synced(some),
            7..=9 => group::Event::Ack(some, input.copy()),
            10 | 11 => group::Event::Failed(some, input.copy()),
            12 => group::Event::Removed(input.copy()),
            13 => group::Event::NotRemoved(input.copy()),
            14 => group::Event::StaleTerm(PrimaryTerm(u64::from(input.below(8)))),
            _ if input.below(32) == 0 => group::Event::Demoted(PrimaryTerm(input.number(Self::TERM.0))),
            _ => return,
        };
        let mut effects = Vec::new();
        self.group.step(event.clone(), &mut effects);
        self.group.check();
        self.told(&event);
        for effect in effects {
            self.said(effect, &event);
        }
        let ready: Vec<_> =
            self.waiting.iter().filter(|(_, (synced, missing))| *synced && missing.is_empty()).collect();
        assert!(ready.is_empty(), "not answered: {ready:?}");
        assert_eq!(self.group.in_progress(), self.waiting.len());
    }

    fn told(&mut self, event: &group::Event) {
        match event {
            group::Event::Begin(id, group) if !self.stepped_down && self.waiting.keys().next_back() < Some(id) => {
                self.last = self.last.max(*id).min(1 << 40);
                self.waiting.insert(*id, (false, group.targets.union(&group.unavailable).copied().collect()));
            }
            group::Event::Synced(id) => {
                if let Some((synced, _)) = self.waiting.get_mut(id) {
                    *synced = true;
                }
            }
            group::Event::Ack(id, copy) => {
                if let Some((_, missing)) = self.waiting.get_mut(id) {
                    missing.remove(copy);
                }
            }
            group::Event::Removed(copy) => {
                self.failing.remove(copy);
                for (_, missing) in self.waiting.values_mut() {
                    missing.remove(copy);
                }
            }
            group::Event::NotRemoved(copy) => {
                self.failing.remove(copy);
            }
            _ => {}
        }
    }

    fn said(&mut self, effect: group::Effect, event: &group::Event) {
        match effect {
            group::Effect::Send(id, copy) => {
                assert!(!self.stepped_down && !self.failing.contains(&copy));
                assert!(self.waiting.get(&id).is_some_and(|(_, missing)| missing.contains(&copy)), "not asked to");
            }
            group::Effect::FailCopy(copy) => {
                assert!(!self.stepped_down && self.failing.insert(copy), "{copy} is failed already");
            }
            group::Effect::Reply(id) => {
                let (synced, missing) = self.waiting.remove(&id).expect("answered once");
                assert!(synced && missing.is_empty() && !self.stepped_down, "{id}: {synced}, {missing:?}");
            }
            group::Effect::Reject(id) => {
                let begun_after = matches!(event, group::Event::Begin(begun, _) if *begun == id) && self.stepped_down;
                assert!(self.waiting.remove(&id).is_some() || begun_after, "{id} is answered already");
            }
            group::Effect::StepDown(term) => {
                assert!(term > Self::TERM && !self.stepped_down && self.waiting.is_empty());
                self.stepped_down = true;
            }
        }
    }
}

/// A copy that follows primaries.
struct Follower {
    replica: Replica,
    requests: u64,
    /// Requests that are not answered, with their terms.
    waiting: BTreeMap<u64, PrimaryTerm>,
    rolling_back: bool,
    /// The highest term of a request that was applied.
    applied: PrimaryTerm,
    term: PrimaryTerm,
    global: SeqNo,
    /// The highest number that was applied here.
    max: i64,
}

impl Follower {
    fn new(input: &mut Input<'_>) -> Follower {
        let (term, global) = (PrimaryTerm(1), SeqNo(i64::from(input.below(8)) - 1));
        Follower {
            replica: Replica::new(term, global),
            requests: 0,
            waiting: BTreeMap::new(),
            rolling_back: false,
            applied: term,
            term,
            global,
            max: global.0,
        }
    }

    fn happen(&mut self, input: &mut Input<'_>) {
        let event = match input.below(8) {
            0 => replica::Event::RolledBack,
            1 if input.below(16) == 0 => replica::Event::RollBackFailed,
            2 => replica::Event::Term(input.term(self.term)),
            _ => {
                self.requests += 1;
                let term = input.term(self.term);
                self.waiting.insert(self.requests, term);
                let number = |step: u8| SeqNo(self.global.0.saturating_add(i64::from(step % 16)) - 4);
                let (global_checkpoint, term_max_seq_no) = (number(input.byte()), number(input.byte()));
                let request = Request { id: self.requests, term, global_checkpoint, term_max_seq_no };
                self.max = self.max.saturating_add(i64::from(input.below(4)));
                replica::Event::Request(request, SeqNo(self.max))
            }
        };
        let mut effects = Vec::new();
        self.replica.step(event, &mut effects);
        self.replica.check();
        assert!(self.replica.term() >= self.term, "from term {} back to {}", self.term, self.replica.term());
        self.term = self.replica.term();
        if matches!(event, replica::Event::RolledBack | replica::Event::RollBackFailed) {
            self.rolling_back = false;
        }
        effects.into_iter().for_each(|effect| self.said(effect));
        assert!(self.rolling_back || self.waiting.is_empty(), "not answered: {:?}", self.waiting);
    }

    fn said(&mut self, effect: replica::Effect) {
        match effect {
            replica::Effect::GlobalCheckpoint(global) => {
                assert!(global > self.global && !self.rolling_back, "from {} to {global}", self.global);
                self.global = global;
            }
            replica::Effect::Apply(id) => {
                let term = self.waiting.remove(&id).expect("answered once");
                assert!(term == self.term && !self.rolling_back, "{id} of term {term} in term {}", self.term);
                assert!(term >= self.applied);
                self.applied = term;
            }
            replica::Effect::RefuseTerm(id, newer) => {
                let term = self.waiting.remove(&id).expect("answered once");
                assert!(term < newer && newer == self.term);
            }
            replica::Effect::Refuse(id) => assert!(self.waiting.remove(&id).is_some(), "answered once"),
            replica::Effect::RollBack { to, .. } => {
                assert!(!self.rolling_back && to == self.global && self.applied < self.term);
                self.rolling_back = true;
                self.max = self.max.min(to.0);
            }
            replica::Effect::FailCopy => assert!(!self.rolling_back),
        }
    }
}

/// Copies that are what they say they are, two of which may be the primary.
struct Copies {
    trackers: [Tracker; 2],
    /// Which of them is the primary.
    primary: usize,
    /// Up to where each copy has everything, durably.
    durable: BTreeMap<AllocationId, i64>,
    /// At least this it tells the primary of now.
    told_from: BTreeMap<AllocationId, i64>,
    /// The master's.
    version: u64,
    in_sync: BTreeSet<AllocationId>,
    routed: BTreeSet<AllocationId>,
    /// Said to be in sync, and not taken out by the master since.
    may_be_in_sync: BTreeSet<AllocationId>,
    handoff: Option<(AllocationId, Handoff)>,
    now: u64,
}

impl Copies {
    const OWN: [AllocationId; 2] = [AllocationId(1), AllocationId(2)];

    fn new(input: &mut Input<'_>) -> Copies {
        let global = i64::from(input.below(4)) - 1;
        let mut in_sync = input.copies();
        in_sync.insert(Self::OWN[0]);
        let mut routed: BTreeSet<AllocationId> = in_sync.union(&input.copies()).copied().collect();
        routed.insert(Self::OWN[1]);
        let all = (1..=u128::from(COPIES)).map(AllocationId);
        let durable: BTreeMap<_, _> = all
            .map(|copy| (copy, if in_sync.contains(&copy) { global + i64::from(input.below(4)) } else { -1 }))
            .collect();
        let mut copies = Copies {
            trackers: Self::OWN.map(|own| Tracker::new(own, SeqNo(if in_sync.contains(&own) { global } else { -1 }))),
            primary: 0,
            told_from: durable.clone(),
            durable,
            version: 1,
            may_be_in_sync: in_sync.clone(),
            in_sync,
            routed,
            handoff: None,
            now: 0,
        };
        (0..2).for_each(|n| copies.tell_state(n));
        copies.activate(0);
        copies
    }

    fn happen(&mut self, input: &mut Input<'_>) {
        let copy = input.copy();
        match input.below(16) {
            0..=2 => *self.durable.get_mut(&copy).expect("all") += i64::from(input.below(8)),
            3..=6 => {
                let (from, to) = (self.told_from[&copy], self.durable[&copy]);
                let local = SeqNo(from.max(to - i64::from(input.below(8))));
                let retain_after = SeqNo(to - i64::from(input.below(16)));
                self.step(self.primary, tracker::Event::Checkpoint { copy, local, retain_after });
            }
            7 => {
                let told = self.trackers[self.primary].global_checkpoint().0 - i64::from(input.below(4));
                self.step(1 - self.primary, tracker::Event::GlobalCheckpoint(SeqNo(told)));
            }
            8 => self.decide(input),
            9 => self.tell_state(usize::from(input.below(2))),
            10 => self.step(self.primary, tracker::Event::InitTracking(copy)),
            11 => {
                let local = SeqNo(self.durable[&copy] - i64::from(input.below(4)));
                self.step(self.primary, tracker::Event::MarkInSync(copy, local));
            }
            12 if self.handoff.is_none() => {
                self.step(self.primary, tracker::Event::BeginHandoff(copy));
            }
            12 => self.end_handoff(input),
            13 => {
                self.now += u64::from(input.byte()) * (LEASE_MS / 100);
                self.step(self.primary, tracker::Event::Tick);
            }
            14 => self.promote(),
            _ => {}
        }
    }

    /// The master changes its mind: copies go, and do not come back; copies that the primary calls in sync become so.
    fn decide(&mut self, input: &mut Input<'_>) {
        let own = Self::OWN[self.primary];
        let gone = input.copies();
        self.version += 1;
        self.in_sync.extend(self.may_be_in_sync.intersection(&self.routed));
        if input.below(2) == 0 {
            // It is away, and may come back: it stays in sync until the primary asks to remove it.
            self.routed.retain(|copy| *copy == own || !gone.contains(copy));
        } else {
            self.in_sync.retain(|copy| *copy == own || !gone.contains(copy));
            self.may_be_in_sync.retain(|copy| *copy == own || !gone.contains(copy));
            self.routed.retain(|copy| *copy == own || !gone.contains(copy));
        }
    }

    fn remove(&mut self, copy: AllocationId) {
        for set in [&mut self.in_sync, &mut self.routed, &mut self.may_be_in_sync] {
            set.remove(&copy);
        }
    }

    fn tell_state(&mut self, to: usize) {
        let (in_sync, routed) = (self.in_sync.clone(), self.routed.clone());
        self.step(to, tracker::Event::FromMaster { version: self.version, in_sync, routed });
    }

    /// The primary is lost, and the other tracker's copy takes its place.
    fn promote(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        if !self.in_sync.contains(&Self::OWN[new]) || !self.routed.contains(&Self::OWN[new]) {
            return;
        }
        self.version += 1;
        self.remove(Self::OWN[old]);
        self.may_be_in_sync = self.in_sync.clone();
        self.handoff = None;
        self.tell_state(new);
        self.activate(new);
        // What was the old primary is a new copy, if anything.
        self.trackers[old] = Tracker::new(Self::OWN[old], SeqNo::NONE);
    }

    fn activate(&mut self, new: usize) {
        self.primary = new;
        self.told_from = self.durable.clone();
        let local = SeqNo(self.durable[&Self::OWN[new]]);
        self.step(new, tracker::Event::Activate(local));
        assert!(self.trackers[new].is_primary());
    }

    fn end_handoff(&mut self, input: &mut Input<'_>) {
        let Some((to, handoff)) = self.handoff.take() else { return };
        let new = 1 - self.primary;
        if Self::OWN[new] != to || input.below(4) == 0 {
            return self.step(self.primary, tracker::Event::HandoffFailed);
        }
        // What was told to the one counts for the other.
        let local = SeqNo(self.durable[&to]);
        self.step(self.primary, tracker::Event::HandoffDone);
        let old = std::mem::replace(&mut self.primary, new);
        self.step(new, tracker::Event::ActivateWith(handoff, local));
        assert!(self.trackers[new].is_primary() && !self.trackers[old].is_primary());
        self.version += 1;
        self.in_sync.extend(self.may_be_in_sync.intersection(&self.routed));
        self.remove(Self::OWN[old]);
        self.trackers[old] = Tracker::new(Self::OWN[old], SeqNo::NONE);
    }

    fn step(&mut self, n: usize, event: tracker::Event) {
        let tracker = &mut self.trackers[n];
        let before = (tracker.global_checkpoint(), tracker.is_primary());
        let mut effects = Vec::new();
        tracker.step(self.now, event.clone(), &mut effects);
        tracker.check();
        let global = tracker.global_checkpoint();
        assert!(global >= before.0, "{event:?}: from {} back to {global}", before.0);
        for effect in effects {
            match effect {
                tracker::Effect::GlobalCheckpoint(told) => assert!(told == global && told > before.0, "{event:?}"),
                tracker::Effect::InSync(copy) => {
                    assert!(self.routed.contains(&copy) || self.version > 1, "{copy} is nowhere");
                    self.may_be_in_sync.insert(copy);
                }
                tracker::Effect::RetainFrom(from) => assert!(from <= global.next(), "{event:?}: {from}, {global}"),
                tracker::Effect::HandOff(to, handoff) => {
                    assert!(before.1 && handoff.copies[&to].in_sync && self.handoff.is_none(), "{event:?}");
                    self.handoff = Some((to, handoff));
                }
            }
        }
        for copy in &self.in_sync {
            assert!(self.durable[copy] >= global.0, "{event:?}: {copy} may be promoted without all up to {global}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_events_break_no_invariant(data in prop::collection::vec(any::<u8>(), 0..3000)) {
            fuzz_replication(&data);
        }
    }
}

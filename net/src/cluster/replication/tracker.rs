//! What the primary knows of its copies: which are in sync, how far each is, and how much history each may still need.
//!
//! Invariants (while it is the primary):
//! - its own copy is in sync;
//! - the global checkpoint is not above the checkpoint of any in-sync copy, and never goes back
//!   (`GlobalCheckPointBelowLocalCheckPoints`);
//! - a copy becomes in sync only when its checkpoint has reached the global one; until then the global one waits for it;
//! - a copy that is away holds the global checkpoint until the master has removed it from the in-sync set: it may be promoted.

use std::collections::{BTreeMap, BTreeSet};

use ringdex_engine::ids::SeqNo;

use crate::cluster::ids::AllocationId;

/// Elasticsearch's `index.soft_deletes.retention_lease.period`, in milliseconds.
pub const LEASE_MS: u64 = 12 * 60 * 60 * 1000;

/// One copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// It has everything up to here, durably; `UNASSIGNED` until it has said so to this primary.
    pub local_checkpoint: SeqNo,
    /// It may be promoted, and no answer leaves without it.
    pub in_sync: bool,
    /// It gets new operations.
    pub tracked: bool,
    /// It waits to become in sync.
    pub pending: bool,
}

const UNKNOWN: CopyProgress =
    CopyProgress { local_checkpoint: SeqNo::UNASSIGNED, in_sync: false, tracked: false, pending: false };

/// Keeps history for a copy that is away, or is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// From here on.
    pub retain_from: SeqNo,
    /// When it was last renewed.
    pub renewed_ms: u64,
}

/// Who gets operations, and who should but cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationGroup {
    /// Other copies that get every operation.
    pub targets: BTreeSet<AllocationId>,
    /// Copies that the master counts as in sync and that are nowhere: they must be removed before anything is acknowledged.
    pub unavailable: BTreeSet<AllocationId>,
}

/// The state of a primary that moves, for the copy that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Of the cluster state it was made from.
    pub version: u64,
    /// All copies.
    pub copies: BTreeMap<AllocationId, CopyProgress>,
    /// Their leases.
    pub leases: BTreeMap<AllocationId, Lease>,
    /// Copies to be removed before anything is acknowledged.
    pub unavailable: BTreeSet<AllocationId>,
    /// The global checkpoint.
    pub global_checkpoint: SeqNo,
}

/// What happens to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This copy is the primary from now on, and has everything up to here, durably.
    Activate(SeqNo),
    /// A primary that moves has handed over; this copy has everything up to here, durably.
    ActivateWith(Handoff, SeqNo),
    /// A copy (or this one) has everything up to `local`, durably, and would need history after `retain_after` if it came back.
    Checkpoint {
        /// Which.
        copy: AllocationId,
        /// Its persisted local checkpoint.
        local: SeqNo,
        /// The global checkpoint it would go back to.
        retain_after: SeqNo,
    },
    /// On a copy that is not the primary: what its primary says.
    GlobalCheckpoint(SeqNo),
    /// The master's state: the in-sync set, and the copies there are, this one included.
    FromMaster {
        /// Grows.
        version: u64,
        /// May be promoted.
        in_sync: BTreeSet<AllocationId>,
        /// Started or being made.
        routed: BTreeSet<AllocationId>,
    },
    /// A recovery begins: from now on the copy gets every new operation.
    InitTracking(AllocationId),
    /// A recovery ends: the copy has everything up to here, durably.
    MarkInSync(AllocationId, SeqNo),
    /// The primary's move ends: no operation is in progress, none is begun.
    BeginHandoff(AllocationId),
    /// The other one has taken over.
    HandoffDone,
    /// It has not.
    HandoffFailed,
    /// Time passes.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The global checkpoint is this now: tell the engine, and the copies with the next message.
    GlobalCheckpoint(SeqNo),
    /// The copy is in sync: tell the master that it has started.
    InSync(AllocationId),
    /// Keep history from here on (`Engine::retain_from`).
    RetainFrom(SeqNo),
    /// Send this to the copy that takes the primary's place.
    HandOff(AllocationId, Handoff),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Replica,
    Primary,
    /// A move is being made: nothing is changed.
    HandingOff,
    /// Another has taken over.
    HandedOff,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Tracker {
    own: AllocationId,
    mode: Mode,
    version: u64,
    copies: BTreeMap<AllocationId, CopyProgress>,
    leases: BTreeMap<AllocationId, Lease>,
    /// In sync for the master, and nowhere.
    unavailable: BTreeSet<AllocationId>,
    global: SeqNo,
    retain_from: SeqNo,
}

impl Tracker {
    /// Of the copy `own`, which knows this global checkpoint.
    #[must_use]
    pub fn new(own: AllocationId, global_checkpoint: SeqNo) -> Tracker {
        Tracker {
            own,
            mode: Mode::Replica,
            version: 0,
            copies: BTreeMap::new(),
            leases: BTreeMap::new(),
            unavailable: BTreeSet::new(),
            global: global_checkpoint,
            retain_from: SeqNo(i64::MAX),
        }
    }

    /// Whether operations may be begun here.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.mode == Mode::Primary
    }

    /// All in-sync copies have everything up to here.
    #[must_use]
    pub fn global_checkpoint(&self) -> SeqNo {
        self.global
    }

    /// What is known of a copy.
    #[must_use]
    pub fn copy(&self, copy: AllocationId) -> Option<CopyProgress> {
        self.copies.get(&copy).copied()
    }

    /// Every copy's lease.
    #[must_use]
    pub fn leases(&self) -> &BTreeMap<AllocationId, Lease> {
        &self.leases
    }

    /// Whom a batch that is begun now goes to.
    #[must_use]
    pub fn group(&self) -> ReplicationGroup {
        let here = |id: &AllocationId| *id != self.own && !self.unavailable.contains(id);
        let tracked = self.copies.iter().filter(|(id, copy)| here(id) && copy.tracked);
        ReplicationGroup { targets: tracked.map(|(id, _)| *id).collect(), unavailable: self.unavailable.clone() }
    }

    /// Takes one event. `now_ms` is monotonic.
    pub fn step(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Activate(local) if self.mode == Mode::Replica => {
                self.mode = Mode::Primary;
                self.copies.insert(
                    self.own,
                    CopyProgress { local_checkpoint: local, in_sync: true, tracked: true, pending: false },
                );
                let global = self.global;
                for id in self.copies.keys() {
                    self.leases.entry(*id).or_insert(Lease { retain_from: global.next(), renewed_ms: now_ms });
                }
            }
            Event::ActivateWith(handoff, local) if self.mode == Mode::Replica => {
                // An older state than this copy knows would bring back copies that are gone.
                let known: BTreeSet<AllocationId> = self.copies.keys().copied().collect();
                let newer = self.version > handoff.version;
                self.version = self.version.max(handoff.version);
                self.copies = handoff.copies;
                if newer {
                    self.copies.retain(|id, _| known.contains(id));
                } else {
                    self.unavailable = handoff.unavailable;
                }
                self.leases = handoff.leases;
                self.global = self.global.max(handoff.global_checkpoint);
                self.mode = Mode::Primary;
                let own = self.copies.entry(self.own).or_insert(UNKNOWN);
                let local = own.local_checkpoint.max(local);
                *own = CopyProgress { local_checkpoint: local, in_sync: true, tracked: true, pending: false };
            }
            Event::Checkpoint { copy, local, retain_after } if self.mode == Mode::Primary => {
                if let Some(progress) = self.copies.get_mut(&copy) {
                    progress.local_checkpoint = progress.local_checkpoint.max(local);
                    let lease = self.leases.entry(copy).or_insert(Lease { retain_from: SeqNo(0), renewed_ms: now_ms });
                    lease.retain_from = lease.retain_from.max(retain_after.min(self.global).next());
                    lease.renewed_ms = now_ms;
                }
            }
            Event::GlobalCheckpoint(global) if self.mode == Mode::Replica && global > self.global => {
                self.global = global;
                effects.push(Effect::GlobalCheckpoint(global));
            }
            Event::FromMaster { version, in_sync, routed } if version > self.version => {
                self.version = version;
                self.follow(&in_sync, &routed);
            }
            Event::InitTracking(copy) if self.mode == Mode::Primary => {
                if let Some(progress) = self.copies.get_mut(&copy) {
                    progress.tracked = true;
                    // What it needs is in the history that its recovery holds; from here on, the lease does.
                    let retain_from = self.global.next();
                    self.leases.entry(copy).or_insert(Lease { retain_from, renewed_ms: now_ms });
                }
            }
            Event::MarkInSync(copy, local) if self.mode == Mode::Primary => {
                if let Some(progress) = self.copies.get_mut(&copy).filter(|p| p.tracked && !p.in_sync) {
                    progress.local_checkpoint = progress.local_checkpoint.max(local);
                    progress.pending = true;
                }
            }
            Event::BeginHandoff(to) if self.mode == Mode::Primary => {
                let ready = self.copies.get(&to).is_some_and(|p| p.in_sync) && to != self.own;
                if ready && !self.unavailable.contains(&to) && !self.copies.values().any(|p| p.pending) {
                    self.mode = Mode::HandingOff;
                    let handoff = Handoff {
                        version: self.version,
                        copies: self.copies.clone(),
                        leases: self.leases.clone(),
                        unavailable: self.unavailable.clone(),
                        global_checkpoint: self.global,
                    };
                    effects.push(Effect::HandOff(to, handoff));
                }
            }
            Event::HandoffDone if self.mode == Mode::HandingOff => self.mode = Mode::HandedOff,
            Event::HandoffFailed if self.mode == Mode::HandingOff => self.mode = Mode::Primary,
            _ => {}
        }
        if self.mode == Mode::Primary {
            self.settle(now_ms, effects);
        }
    }

    /// Takes over which copies there are.
    fn follow(&mut self, in_sync: &BTreeSet<AllocationId>, routed: &BTreeSet<AllocationId>) {
        self.unavailable = in_sync.difference(routed).copied().filter(|id| *id != self.own).collect();
        let primary = self.mode != Mode::Replica;
        let listed: BTreeSet<AllocationId> = in_sync.union(routed).copied().collect();
        self.copies.retain(|id, _| listed.contains(id) || primary && *id == self.own);
        for id in listed {
            let away = self.unavailable.contains(&id);
            let progress = self.copies.entry(id).or_insert(UNKNOWN);
            // A primary has made its copies in sync itself; what is here and it has not, it does not take for one.
            if away || !primary {
                progress.in_sync = in_sync.contains(&id);
                progress.tracked = progress.in_sync;
                progress.pending = false;
            }
        }
    }

    /// Draws the conclusions: pending copies, global checkpoint, leases.
    fn settle(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for (id, progress) in &mut self.copies {
            if progress.pending && progress.local_checkpoint >= self.global {
                (progress.pending, progress.in_sync) = (false, true);
                effects.push(Effect::InSync(*id));
            }
        }
        let least = self.copies.values().filter(|p| p.in_sync).map(|p| p.local_checkpoint).min();
        let waits = self.copies.values().any(|p| p.pending);
        if let Some(least) = least.filter(|least| !waits && *least > self.global) {
            self.global = least;
            effects.push(Effect::GlobalCheckpoint(least));
        }
        let Tracker { leases, copies, own, global, .. } = self;
        // What this copy needs of itself, it needs from what is safe by now.
        if let Some(lease) = leases.get_mut(own) {
            (lease.retain_from, lease.renewed_ms) = (lease.retain_from.max(global.next()), now_ms);
        }
        leases.retain(|id, lease| copies.contains_key(id) || now_ms.saturating_sub(lease.renewed_ms) <= LEASE_MS);
        let from = self.leases.values().map(|l| l.retain_from).min().unwrap_or(self.global.next());
        if from != self.retain_from {
            self.retain_from = from;
            effects.push(Effect::RetainFrom(from));
        }
    }

    /// The invariants.
    pub fn check(&self) {
        if self.mode == Mode::Replica {
            return;
        }
        assert!(self.copies.get(&self.own).is_some_and(|p| p.in_sync), "the primary is in sync");
        for (id, p) in &self.copies {
            assert!(!(p.pending && p.in_sync), "{id} is in sync and waits to be");
            assert!(p.tracked || !p.in_sync && !p.pending, "{id} is in sync and gets no operations");
            // In sync since the term before: it has not yet said so to this primary.
            let told = p.in_sync && p.local_checkpoint != SeqNo::UNASSIGNED;
            assert!(!told || p.local_checkpoint >= self.global, "GlobalCheckPointBelowLocalCheckPoints: {id}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AllocationId = AllocationId(1);
    const B: AllocationId = AllocationId(2);
    const C: AllocationId = AllocationId(3);

    struct Driven(Tracker);

    impl Driven {
        fn step(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
            let mut effects = Vec::new();
            self.0.step(now_ms, event, &mut effects);
            self.0.check();
            effects
        }

        fn at(&mut self, copy: AllocationId, local: i64) -> Vec<Effect> {
            let retain_after = SeqNo(4);
            let effects = self.step(0, Event::Checkpoint { copy, local: SeqNo(local), retain_after });
            effects.into_iter().filter(|e| !matches!(e, Effect::RetainFrom(_))).collect()
        }

        fn master(&mut self, version: u64, in_sync: &[AllocationId], routed: &[AllocationId]) {
            let set = |ids: &[AllocationId]| ids.iter().copied().collect();
            self.step(0, Event::FromMaster { version, in_sync: set(in_sync), routed: set(routed) });
        }
    }

    fn primary() -> Driven {
        let mut tracker = Driven(Tracker::new(A, SeqNo(4)));
        tracker.master(1, &[A, B], &[A, B]);
        tracker.step(0, Event::Activate(SeqNo(9)));
        tracker
    }

    #[test]
    fn global_checkpoint_waits_for_every_in_sync_copy_and_never_goes_back() {
        let mut t = primary();
        assert_eq!(t.0.global_checkpoint(), SeqNo(4), "nobody knows how far b is");
        assert_eq!(t.at(B, 7), [Effect::GlobalCheckpoint(SeqNo(7))]);
        assert_eq!(t.at(B, 6), []);
        assert_eq!(t.at(B, 20), [Effect::GlobalCheckpoint(SeqNo(9))]);
        assert_eq!(t.at(A, 12), [Effect::GlobalCheckpoint(SeqNo(12))]);
        t.master(2, &[A], &[A]);
        assert_eq!(t.at(A, 30), [Effect::GlobalCheckpoint(SeqNo(30))]);
        assert_eq!(t.at(B, 31), [], "b is gone");
    }

    #[test]
    fn a_copy_is_in_sync_when_it_has_caught_up_and_not_before() {
        let mut t = primary();
        t.at(B, 9);
        t.master(2, &[A, B], &[A, B, C]);
        assert_eq!(t.0.group().targets, [B].into());
        assert_eq!(t.step(0, Event::MarkInSync(C, SeqNo(50))), [], "it was never tracked");
        t.step(0, Event::InitTracking(C));
        assert_eq!(t.0.group().targets, [B, C].into());
        t.step(0, Event::MarkInSync(C, SeqNo(5)));
        assert!(!t.0.copy(C).unwrap().in_sync);
        assert_eq!((t.at(A, 12), t.at(B, 12)), (vec![], vec![]), "the global checkpoint waits");
        assert_eq!(t.at(C, 9), [Effect::InSync(C)]);
        assert_eq!(t.at(C, 11), [Effect::GlobalCheckpoint(SeqNo(11))]);
        // The master tells of it later: an older state does not undo it, nor does the next.
        t.master(1, &[A, B], &[A, B]);
        t.master(3, &[A, B, C], &[A, B, C]);
        assert!(t.0.copy(C).unwrap().in_sync);
    }

    #[test]
    fn in_sync_copies_that_are_nowhere_are_to_be_removed() {
        let mut t = primary();
        t.master(2, &[A, B, C], &[A, B]);
        assert_eq!(t.0.group(), ReplicationGroup { targets: [B].into(), unavailable: [C].into() });
        t.master(3, &[A, B], &[A, B]);
        assert_eq!(t.0.group().unavailable, [].into());
    }

    #[test]
    fn an_in_sync_copy_that_is_away_holds_the_global_checkpoint_until_it_is_removed() {
        let mut t = primary();
        t.at(B, 6);
        t.master(2, &[A, B], &[A]);
        assert_eq!(t.at(A, 12), [], "b may be promoted, and has only what is up to 6");
        assert_eq!(t.step(0, Event::BeginHandoff(B)), []);
        t.master(3, &[A], &[A]);
        assert_eq!(t.at(A, 12), []);
        assert_eq!(t.0.global_checkpoint(), SeqNo(12));
        // The same for one that was away when this copy became the primary.
        let mut t = Driven(Tracker::new(A, SeqNo(4)));
        t.master(1, &[A, B], &[A]);
        t.step(0, Event::Activate(SeqNo(9)));
        assert_eq!(t.at(A, 12), []);
        t.master(2, &[A], &[A]);
        assert_eq!(t.0.global_checkpoint(), SeqNo(12));
    }

    #[test]
    fn a_move_hands_everything_over_and_stops_the_old_primary() {
        let mut t = primary();
        t.at(B, 8);
        assert_eq!(t.step(0, Event::BeginHandoff(C)), [], "not in sync");
        let effects = t.step(0, Event::BeginHandoff(B));
        let [Effect::HandOff(B, handoff)] = &effects[..] else { panic!("{effects:?}") };
        assert!(!t.0.is_primary());
        let mut other = Driven(Tracker::new(B, SeqNo(4)));
        other.master(1, &[A, B], &[A, B]);
        other.step(0, Event::ActivateWith(handoff.clone(), SeqNo(9)));
        assert!(other.0.is_primary());
        assert_eq!(other.0.global_checkpoint(), SeqNo(9), "a had 9, and so has b now");
        assert_eq!(other.0.group().targets, [A].into());
        t.step(0, Event::HandoffDone);
        assert_eq!(t.at(A, 99), []);
        let mut failed = primary();
        failed.at(B, 8);
        failed.step(0, Event::BeginHandoff(B));
        failed.step(0, Event::HandoffFailed);
        assert!(failed.0.is_primary());
    }

    #[test]
    fn history_is_kept_for_a_copy_that_is_away_as_long_as_its_lease() {
        let mut t = primary();
        t.at(A, 20);
        t.at(B, 20);
        t.step(5, Event::Checkpoint { copy: B, local: SeqNo(20), retain_after: SeqNo(11) });
        t.step(5, Event::Checkpoint { copy: A, local: SeqNo(20), retain_after: SeqNo(20) });
        assert_eq!(t.0.retain_from, SeqNo(12));
        t.master(2, &[A], &[A]);
        let tick = |t: &mut Driven, now| t.step(now, Event::Tick);
        assert_eq!(tick(&mut t, 5 + LEASE_MS), []);
        assert_eq!(tick(&mut t, 6 + LEASE_MS), [Effect::RetainFrom(SeqNo(21))]);
        // Those of copies that are there do not expire.
        assert_eq!(tick(&mut t, 99 * LEASE_MS), []);
    }
}

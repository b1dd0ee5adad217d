//! The primary's side of writing: one batch of operations, sent to every copy, answered when all have it.
//!
//! Invariants:
//! - a batch is answered only when it is durable here, and each copy it was sent to has acknowledged it or was removed
//!   from the in-sync set by the master;
//! - the master is asked to fail a copy once;
//! - after stepping down nothing is sent and nothing is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use ringdex_engine::ids::PrimaryTerm;

use super::tracker::ReplicationGroup;
use crate::cluster::ids::AllocationId;

/// Names a batch: grows.
pub type BatchId = u64;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The batch's operations are appended here; the group is the tracker's of this moment.
    Begin(BatchId, ReplicationGroup),
    /// They are durable here.
    Synced(BatchId),
    /// They are durable there.
    Ack(BatchId, AllocationId),
    /// No answer, or not the right one.
    Failed(BatchId, AllocationId),
    /// A copy has refused: it follows the primary of this term.
    StaleTerm(PrimaryTerm),
    /// The master has removed this copy, durably: its word, or its state without it.
    Removed(AllocationId),
    /// The master could not be asked; ask again later.
    NotRemoved(AllocationId),
    /// The master takes another copy for the primary, or this one fails.
    Demoted(PrimaryTerm),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the batch.
    Send(BatchId, AllocationId),
    /// Ask the master to remove this copy from the in-sync set and to fail it, in the name of this term.
    FailCopy(AllocationId),
    /// Everybody has it: answer the clients.
    Reply(BatchId),
    /// Nobody knows whether it will be kept: tell the clients so.
    Reject(BatchId),
    /// There is another primary, of this term.
    StepDown(PrimaryTerm),
}

#[derive(Clone, Debug, Default)]
struct Batch {
    synced: bool,
    waits_for: BTreeSet<AllocationId>,
}

/// See the module. Bounded by who begins batches.
#[derive(Clone, Debug)]
pub struct Group {
    term: PrimaryTerm,
    batches: BTreeMap<BatchId, Batch>,
    /// Copies that the master was asked to remove.
    failing: BTreeSet<AllocationId>,
    stepped_down: bool,
}

impl Group {
    /// Of the primary of `term`.
    #[must_use]
    pub fn new(term: PrimaryTerm) -> Group {
        Group { term, batches: BTreeMap::new(), failing: BTreeSet::new(), stepped_down: false }
    }

    /// Batches that are not answered.
    #[must_use]
    pub fn in_progress(&self) -> usize {
        self.batches.len()
    }

    /// Takes one event.
    pub fn step(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Begin(id, _) if self.stepped_down => effects.push(Effect::Reject(id)),
            Event::Begin(id, group) if self.batches.last_key_value().is_none_or(|(last, _)| *last < id) => {
                let mut waits_for = group.targets;
                // One that is being removed has failed already: it need not fail again.
                effects.extend(waits_for.difference(&self.failing).map(|copy| Effect::Send(id, *copy)));
                for copy in &group.unavailable {
                    self.fail(*copy, effects);
                }
                waits_for.extend(group.unavailable);
                self.batches.insert(id, Batch { synced: false, waits_for });
            }
            Event::Synced(id) => {
                if let Some(batch) = self.batches.get_mut(&id) {
                    batch.synced = true;
                    self.release(id, effects);
                }
            }
            Event::Ack(id, copy) => {
                if let Some(batch) = self.batches.get_mut(&id) {
                    batch.waits_for.remove(&copy);
                    self.release(id, effects);
                }
            }
            Event::Failed(id, copy) if self.batches.get(&id).is_some_and(|b| b.waits_for.contains(&copy)) => {
                self.fail(copy, effects);
            }
            Event::Removed(copy) => {
                self.failing.remove(&copy);
                let waiting: Vec<BatchId> = self.batches.keys().copied().collect();
                for id in waiting {
                    self.batches.get_mut(&id).expect("listed").waits_for.remove(&copy);
                    self.release(id, effects);
                }
            }
            Event::NotRemoved(copy) if self.failing.remove(&copy) => self.fail(copy, effects),
            Event::StaleTerm(term) | Event::Demoted(term) if term > self.term && !self.stepped_down => {
                self.stepped_down = true;
                effects.extend(std::mem::take(&mut self.batches).into_keys().map(Effect::Reject));
                effects.push(Effect::StepDown(term));
            }
            _ => {}
        }
    }

    fn fail(&mut self, copy: AllocationId, effects: &mut Vec<Effect>) {
        if !self.stepped_down && self.failing.insert(copy) {
            effects.push(Effect::FailCopy(copy));
        }
    }

    fn release(&mut self, id: BatchId, effects: &mut Vec<Effect>) {
        if self.batches.get(&id).is_some_and(|batch| batch.synced && batch.waits_for.is_empty()) {
            self.batches.remove(&id);
            effects.push(Effect::Reply(id));
        }
    }

    /// The invariants.
    pub fn check(&self) {
        assert!(
            self.batches.values().all(|b| !b.synced || !b.waits_for.is_empty()),
            "a batch that could be answered is"
        );
        assert!(!self.stepped_down || self.batches.is_empty(), "nothing is in progress after stepping down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: AllocationId = AllocationId(2);
    const C: AllocationId = AllocationId(3);

    fn step(group: &mut Group, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        group.step(event, &mut effects);
        group.check();
        effects
    }

    fn begin(id: BatchId) -> Event {
        Event::Begin(id, ReplicationGroup { targets: [B, C].into(), unavailable: [].into() })
    }

    #[test]
    fn an_answer_waits_for_all() {
        let mut g = Group::new(PrimaryTerm(1));
        assert_eq!(step(&mut g, begin(1)), [Effect::Send(1, B), Effect::Send(1, C)]);
        assert_eq!(step(&mut g, Event::Ack(1, B)), []);
        assert_eq!(step(&mut g, Event::Ack(1, B)), []);
        assert_eq!(step(&mut g, Event::Synced(1)), []);
        assert_eq!(step(&mut g, Event::Ack(1, C)), [Effect::Reply(1)]);
        assert_eq!(step(&mut g, Event::Ack(1, C)), []);
    }

    #[test]
    fn a_failed_copy_holds_the_answer_until_the_master_has_removed_it() {
        let mut g = Group::new(PrimaryTerm(1));
        step(&mut g, begin(1));
        step(&mut g, Event::Synced(1));
        step(&mut g, Event::Ack(1, B));
        assert_eq!(step(&mut g, Event::Failed(1, C)), [Effect::FailCopy(C)]);
        assert_eq!(step(&mut g, Event::Failed(1, C)), [], "once");
        assert_eq!(step(&mut g, begin(2)), [Effect::Send(2, B)]);
        step(&mut g, Event::Synced(2));
        assert_eq!(step(&mut g, Event::NotRemoved(C)), [Effect::FailCopy(C)]);
        assert_eq!(step(&mut g, Event::Ack(2, B)), []);
        assert_eq!(step(&mut g, Event::Removed(C)), [Effect::Reply(1), Effect::Reply(2)]);
    }

    #[test]
    fn copies_that_are_nowhere_are_removed_first() {
        let mut g = Group::new(PrimaryTerm(1));
        let group = ReplicationGroup { targets: [].into(), unavailable: [C].into() };
        assert_eq!(step(&mut g, Event::Begin(1, group)), [Effect::FailCopy(C)]);
        assert_eq!(step(&mut g, Event::Synced(1)), []);
        assert_eq!(step(&mut g, Event::Removed(C)), [Effect::Reply(1)]);
    }

    #[test]
    fn a_primary_that_is_none_acknowledges_nothing() {
        let mut g = Group::new(PrimaryTerm(2));
        step(&mut g, begin(1));
        assert_eq!(step(&mut g, Event::StaleTerm(PrimaryTerm(1))), []);
        let down = [Effect::Reject(1), Effect::StepDown(PrimaryTerm(3))];
        assert_eq!(step(&mut g, Event::StaleTerm(PrimaryTerm(3))), down);
        assert_eq!(step(&mut g, Event::Ack(1, B)), []);
        assert_eq!(step(&mut g, begin(2)), [Effect::Reject(2)]);
    }
}

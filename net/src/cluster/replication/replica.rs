//! A copy that follows a primary: lower terms are refused, and before a higher one is followed, what the new primary may not
//! have is undone.
//!
//! Invariants: the term never goes down; while a roll-back runs nothing is applied, and what waits for it has the newest term.

use std::collections::VecDeque;

use ringdex_engine::ids::{PrimaryTerm, SeqNo};

/// Requests that may wait for a roll-back; further ones are refused, and their primary takes that as a failure.
pub const WAITING_MAX: usize = 1024;

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it for the driver.
    pub id: u64,
    /// Of the primary that sent it.
    pub term: PrimaryTerm,
    /// As the primary knows it.
    pub global_checkpoint: SeqNo,
    /// The primary's highest sequence number when its term began.
    pub term_max_seq_no: SeqNo,
}

/// What happens to a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A primary wants its operations applied (or none: it tells a term, or a global checkpoint). The copy's highest sequence number
    /// is `max_seq_no`.
    Request(Request, SeqNo),
    /// The roll-back is done, and durable.
    RolledBack,
    /// It cannot be done: the copy has failed, and is to be recovered anew.
    RollBackFailed,
    /// The cluster state says this term; as a request, without one to answer.
    Term(PrimaryTerm),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the engine.
    GlobalCheckpoint(SeqNo),
    /// Apply the request's operations, make them durable, and answer with the persisted checkpoint.
    Apply(u64),
    /// The sender is primary no more; the term is the one that is.
    RefuseTerm(u64, PrimaryTerm),
    /// Too many wait, or this copy has failed.
    Refuse(u64),
    /// `Engine::roll_back(to, suspended_to)`; then [`Event::RolledBack`].
    RollBack {
        /// The global checkpoint.
        to: SeqNo,
        /// What is above never happened.
        suspended_to: SeqNo,
    },
    /// The copy cannot follow: tell the master, so that it is recovered anew.
    FailCopy,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Replica {
    term: PrimaryTerm,
    /// The highest term whose primary this copy has followed.
    followed: PrimaryTerm,
    global: SeqNo,
    rolling_back: bool,
    failed: bool,
    waiting: VecDeque<Request>,
}

impl Replica {
    /// A copy that has recovered from the primary of `term`, or was its own.
    #[must_use]
    pub fn new(term: PrimaryTerm, global_checkpoint: SeqNo) -> Replica {
        Replica {
            term,
            followed: term,
            global: global_checkpoint,
            rolling_back: false,
            failed: false,
            waiting: VecDeque::new(),
        }
    }

    /// The highest term known.
    #[must_use]
    pub fn term(&self) -> PrimaryTerm {
        self.term
    }

    /// Whether a roll-back has been asked for and has not ended.
    #[must_use]
    pub fn rolling_back(&self) -> bool {
        self.rolling_back
    }

    /// Takes one event.
    pub fn step(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Term(term) => self.fence(term, effects),
            Event::Request(request, _) if request.term < self.term => {
                effects.push(Effect::RefuseTerm(request.id, self.term));
            }
            Event::Request(request, _) if self.failed || self.waiting.len() >= WAITING_MAX => {
                self.fence(request.term, effects);
                effects.push(Effect::Refuse(request.id));
            }
            Event::Request(request, max_seq_no) => {
                self.fence(request.term, effects);
                if self.rolling_back {
                    self.waiting.push_back(request);
                    return;
                }
                if request.global_checkpoint > self.global {
                    self.global = request.global_checkpoint;
                    effects.push(Effect::GlobalCheckpoint(self.global));
                }
                if request.term == self.followed {
                    effects.push(Effect::Apply(request.id));
                    return;
                }
                self.followed = request.term;
                if max_seq_no > self.global {
                    self.rolling_back = true;
                    self.waiting.push_back(request);
                    effects.push(Effect::RollBack { to: self.global, suspended_to: request.term_max_seq_no });
                } else {
                    effects.push(Effect::Apply(request.id));
                }
            }
            Event::RolledBack if self.rolling_back => {
                self.rolling_back = false;
                // What waits has one term, or the first of a higher one goes back to where this has left it: nothing is above.
                for request in std::mem::take(&mut self.waiting) {
                    self.step(Event::Request(request, self.global), effects);
                }
            }
            Event::RollBackFailed if self.rolling_back => {
                (self.rolling_back, self.failed) = (false, true);
                effects.extend(self.waiting.drain(..).map(|request| Effect::Refuse(request.id)));
                effects.push(Effect::FailCopy);
            }
            Event::RolledBack | Event::RollBackFailed => {}
        }
    }

    /// Nobody of a lower term is obeyed from now on.
    fn fence(&mut self, term: PrimaryTerm, effects: &mut Vec<Effect>) {
        if term <= self.term {
            return;
        }
        self.term = term;
        let (old, new): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|request| request.term < term);
        effects.extend(old.into_iter().map(|request| Effect::RefuseTerm(request.id, term)));
        self.waiting = new.into();
    }

    /// The invariants.
    pub fn check(&self) {
        assert!(self.followed <= self.term, "a term is followed when it is known");
        assert!(self.rolling_back || self.waiting.is_empty(), "nothing waits for nothing");
        assert!(self.waiting.iter().all(|r| r.term == self.term), "what waits has the newest term");
        assert!(self.waiting.len() <= WAITING_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(replica: &mut Replica, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        replica.step(event, &mut effects);
        replica.check();
        effects
    }

    fn request(id: u64, term: u64, global: i64, max: i64) -> Event {
        let (term, global_checkpoint) = (PrimaryTerm(term), SeqNo(global));
        Event::Request(Request { id, term, global_checkpoint, term_max_seq_no: SeqNo(7) }, SeqNo(max))
    }

    fn replica() -> Replica {
        Replica::new(PrimaryTerm(1), SeqNo(3))
    }

    #[test]
    fn lower_terms_are_refused() {
        let mut r = replica();
        assert_eq!(step(&mut r, request(1, 1, 3, 5)), [Effect::Apply(1)]);
        assert_eq!(step(&mut r, Event::Term(PrimaryTerm(2))), []);
        assert_eq!(step(&mut r, request(2, 1, 3, 5)), [Effect::RefuseTerm(2, PrimaryTerm(2))]);
    }

    #[test]
    fn a_higher_term_is_followed_after_a_roll_back() {
        let mut r = replica();
        let back = Effect::RollBack { to: SeqNo(4), suspended_to: SeqNo(7) };
        assert_eq!(step(&mut r, request(1, 2, 4, 6)), [Effect::GlobalCheckpoint(SeqNo(4)), back]);
        assert_eq!(step(&mut r, request(2, 2, 5, 6)), []);
        assert_eq!(step(&mut r, request(3, 1, 5, 6)), [Effect::RefuseTerm(3, PrimaryTerm(2))]);
        let after = [Effect::Apply(1), Effect::GlobalCheckpoint(SeqNo(5)), Effect::Apply(2)];
        assert_eq!(step(&mut r, Event::RolledBack), after);
        assert_eq!(step(&mut r, request(4, 2, 5, 9)), [Effect::Apply(4)], "once a term");
    }

    #[test]
    fn a_copy_with_nothing_to_undo_follows_at_once() {
        let mut r = replica();
        assert_eq!(step(&mut r, request(1, 2, 6, 6)), [Effect::GlobalCheckpoint(SeqNo(6)), Effect::Apply(1)]);
    }

    #[test]
    fn a_still_higher_term_meanwhile_refuses_who_waits() {
        let mut r = replica();
        step(&mut r, request(1, 2, 3, 6));
        assert_eq!(step(&mut r, request(2, 3, 3, 6)), [Effect::RefuseTerm(1, PrimaryTerm(3))]);
        assert_eq!(step(&mut r, Event::RolledBack), [Effect::Apply(2)]);
    }

    #[test]
    fn a_copy_that_cannot_go_back_fails() {
        let mut r = replica();
        step(&mut r, request(1, 2, 3, 6));
        assert_eq!(step(&mut r, Event::RollBackFailed), [Effect::Refuse(1), Effect::FailCopy]);
        assert_eq!(step(&mut r, request(2, 2, 3, 6)), [Effect::Refuse(2)]);
    }
}

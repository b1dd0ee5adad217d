//! The updates of the cluster state that wait for the master, and those it is working on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringdex_net::cluster::state::ClusterState;

use crate::backend::{PendingUpdate, Priority, StateUpdate};
use crate::error::ApiResult;
use crate::mesh::OneShot;
use crate::shard::signal::Signal;

/// The answer to an update: the state that has it.
pub(super) type Answer = ApiResult<Arc<ClusterState>>;

/// An update and who waits for it.
pub(super) struct Waiting {
    number: u64,
    pub(super) priority: Priority,
    pub(super) source: String,
    pub(super) update: StateUpdate,
    pub(super) answer: OneShot<Answer>,
    /// Monotonic nanoseconds after which it is not waited for a master any more.
    pub(super) until: u64,
    since: u64,
    in_work: Option<InWork>,
}

type Working = Rc<RefCell<BTreeMap<u64, (Priority, String, u64)>>>;

/// Keeps an update on the list while it is worked on.
struct InWork(u64, Working);

impl Drop for InWork {
    fn drop(&mut self) {
        self.1.borrow_mut().remove(&self.0);
    }
}

/// Updates in the order they came. An update is listed until it has been answered.
#[derive(Default)]
pub(super) struct Queue {
    waiting: RefCell<Vec<Waiting>>,
    working: Working,
    last: Cell<u64>,
    /// Raised by what comes.
    pub(super) comes: Signal,
}

impl Queue {
    /// Takes an update at `now` that is to find a master until `until`; both in monotonic nanoseconds.
    pub(super) fn add(&self, source: String, update: StateUpdate, now: u64, until: u64) -> OneShot<Answer> {
        self.last.set(self.last.get() + 1);
        let answer = OneShot::default();
        let priority = priority_of(&source);
        let waiting = Waiting {
            number: self.last.get(),
            priority,
            source,
            update,
            answer: answer.clone(),
            until,
            since: now,
            in_work: None,
        };
        self.again(waiting);
        answer
    }

    /// Takes back an update that came to nothing.
    pub(super) fn again(&self, mut waiting: Waiting) {
        waiting.in_work = None;
        self.waiting.borrow_mut().push(waiting);
        self.comes.raise();
    }

    /// The same of several, which are first in line again.
    pub(super) fn all_again(&self, mut all: Vec<Waiting>) {
        all.iter_mut().for_each(|waiting| waiting.in_work = None);
        self.waiting.borrow_mut().splice(0..0, all);
        self.comes.raise();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Takes out all that wait, to be passed on.
    pub(super) fn take(&self) -> Vec<Waiting> {
        self.waiting.take()
    }

    /// Takes out all that wait, to be worked on: the most urgent first, of those the oldest.
    pub(super) fn take_to_work(&self) -> Vec<Waiting> {
        let mut all = self.take();
        all.sort_by_key(|waiting| (waiting.priority, waiting.number));
        for waiting in &mut all {
            let number = waiting.number;
            let listed = (waiting.priority, waiting.source.clone(), waiting.since);
            self.working.borrow_mut().insert(number, listed);
            waiting.in_work = Some(InWork(number, Rc::clone(&self.working)));
        }
        all
    }

    /// Takes out those that shall not wait any longer.
    pub(super) fn expired(&self, keep: impl Fn(&Waiting) -> bool) -> Vec<OneShot<Answer>> {
        self.waiting.borrow_mut().extract_if(.., |waiting| !keep(waiting)).map(|waiting| waiting.answer).collect()
    }

    /// What is there at `now`, as it will be worked on.
    pub(super) fn pending(&self, now: u64) -> Vec<PendingUpdate> {
        let one = |number: u64, priority: Priority, source: &str, since: u64, executing: bool| {
            let waited_ms = now.saturating_sub(since) / 1_000_000;
            PendingUpdate { number, priority, source: source.to_owned(), executing, waited_ms }
        };
        let working = self.working.borrow();
        let mut out: Vec<PendingUpdate> = working
            .iter()
            .map(|(number, (priority, source, since))| one(*number, *priority, source, *since, true))
            .collect();
        let waiting = self.waiting.borrow();
        out.extend(waiting.iter().map(|w| one(w.number, w.priority, &w.source, w.since, false)));
        out.sort_by_key(|update| (!update.executing, update.priority, update.number));
        out
    }
}

/// How urgent an update is, by the first words of what it is called. What a user asks for is urgent.
fn priority_of(source: &str) -> Priority {
    const OTHERS: [(&str, Priority); 6] = [
        ("cluster_update_settings", Priority::Immediate),
        ("cluster_reroute (api)", Priority::Immediate),
        ("shard-failed", Priority::High),
        ("put-mapping", Priority::High),
        ("reroute", Priority::High),
        ("cluster_health", Priority::Languid),
    ];
    OTHERS.iter().find(|(word, _)| source.starts_with(word)).map_or(Priority::Urgent, |(_, priority)| *priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(queue: &Queue, source: &str, now_ms: u64) {
        queue.add(source.to_owned(), Box::new(|_| Ok(None)), now_ms * 1_000_000, u64::MAX);
    }

    fn shown(queue: &Queue, now_ms: u64) -> Vec<(u64, String, bool, u64)> {
        let all = queue.pending(now_ms * 1_000_000).into_iter();
        all.map(|u| (u.number, format!("{:?} {}", u.priority, u.source), u.executing, u.waited_ms)).collect()
    }

    #[test]
    fn what_is_more_urgent_comes_first_and_is_listed_until_it_is_answered() {
        let queue = Queue::default();
        add(&queue, "put-mapping (dynamic)", 10);
        add(&queue, "create-index [a]", 20);
        add(&queue, "cluster_update_settings", 30);
        let put = |executing| (1, "High put-mapping (dynamic)".to_owned(), executing, 90);
        let create = |executing| (2, "Urgent create-index [a]".to_owned(), executing, 80);
        let settings = |executing| (3, "Immediate cluster_update_settings".to_owned(), executing, 70);
        assert_eq!(shown(&queue, 100), [settings(false), create(false), put(false)]);
        let mut batch = queue.take_to_work();
        assert_eq!(batch.iter().map(|w| w.number).collect::<Vec<_>>(), [3, 2, 1]);
        add(&queue, "reroute", 100);
        let reroute = (4, "High reroute".to_owned(), false, 0);
        assert_eq!(shown(&queue, 100), [settings(true), create(true), put(true), reroute.clone()]);
        // One is answered, the others come to nothing.
        drop(batch.remove(0));
        queue.all_again(batch);
        assert_eq!(shown(&queue, 100), [create(false), put(false), reroute]);
        assert_eq!(queue.expired(|w| w.priority == Priority::Urgent).len(), 2);
        assert_eq!((queue.len(), shown(&queue, 100)), (1, vec![create(false)]));
    }
}

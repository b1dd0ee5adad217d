//! Tasks that wait for a condition of one thread's state, whatever the executor.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakers by position; a task that stops waiting leaves nothing behind.
#[derive(Default)]
pub(super) struct WaitList {
    wakers: BTreeMap<(u64, u64), Waker>,
    tickets: u64,
}

impl WaitList {
    fn register(&mut self, ticket: &mut Option<(u64, u64)>, position: u64, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.tickets += 1;
            (position, self.tickets)
        });
        self.wakers.insert(ticket, waker.clone());
    }

    fn forget(&mut self, ticket: (u64, u64)) {
        self.wakers.remove(&ticket);
    }

    /// Those waiting for `position` or less; to be woken when no borrow is held.
    pub(super) fn take_up_to(&mut self, position: u64) -> Vec<Waker> {
        let later = self.wakers.split_off(&(position.saturating_add(1), 0));
        std::mem::replace(&mut self.wakers, later).into_values().collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers).into_values().collect()
    }
}

/// Wakes tasks.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// Ready once `check` answers; asked again whenever the list is woken. `list` runs a function on the list waited in.
pub(super) struct WaitUntil<C, L: FnMut(&mut dyn FnMut(&mut WaitList))> {
    check: C,
    list: L,
    position: u64,
    ticket: Option<(u64, u64)>,
}

impl<T, C, L> WaitUntil<C, L>
where
    C: FnMut() -> Option<T> + Unpin,
    L: FnMut(&mut dyn FnMut(&mut WaitList)) + Unpin,
{
    pub(super) fn new(position: u64, check: C, list: L) -> Self {
        WaitUntil { check, list, position, ticket: None }
    }
}

impl<T, C, L> Future for WaitUntil<C, L>
where
    C: FnMut() -> Option<T> + Unpin,
    L: FnMut(&mut dyn FnMut(&mut WaitList)) + Unpin,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if let Some(answer) = (this.check)() {
            return Poll::Ready(answer);
        }
        let WaitUntil { list, position, ticket, .. } = this;
        list(&mut |l| l.register(ticket, *position, cx.waker()));
        Poll::Pending
    }
}

impl<C, L: FnMut(&mut dyn FnMut(&mut WaitList))> Drop for WaitUntil<C, L> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            (self.list)(&mut |l| l.forget(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_reached_positions_wake_and_dropped_waits_leave_nothing() {
        let list = Rc::new(RefCell::new(WaitList::default()));
        let now = Rc::new(Cell::new(0));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let wait = |position| {
            let (list, now) = (list.clone(), now.clone());
            Box::pin(WaitUntil::new(
                position,
                move || (now.get() >= position).then_some(()),
                move |f: &mut dyn FnMut(&mut WaitList)| f(&mut list.borrow_mut()),
            ))
        };
        let mut waits: Vec<_> = [1, 2, 3].map(wait).into();
        for w in &mut waits {
            assert!(w.as_mut().poll(&mut cx).is_pending());
            assert!(w.as_mut().poll(&mut cx).is_pending(), "asking twice registers once");
        }
        assert_eq!(list.borrow().wakers.len(), 3);
        now.set(2);
        wake(list.borrow_mut().take_up_to(2));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(waits[0].as_mut().poll(&mut cx).is_ready());
        assert!(waits[2].as_mut().poll(&mut cx).is_pending());
        drop(waits);
        assert!(list.borrow().wakers.is_empty());
    }
}

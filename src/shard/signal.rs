//! A wake-up call between tasks of one core.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Raised by one task, awaited by another; raising before waiting is not lost. Several raises are one.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiting task, or the next one that waits.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until raised, and lowers it. One task at a time.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Tasks waiting until a number has been reached.
#[derive(Debug, Default)]
pub struct Watermark {
    value: Cell<i64>,
    waiting: RefCell<Vec<(i64, Waker)>>,
}

impl Watermark {
    /// Starts at `value`.
    #[must_use]
    pub fn new(value: i64) -> Watermark {
        Watermark { value: Cell::new(value), waiting: RefCell::default() }
    }

    /// Raises the number (never lowers it) and wakes those it satisfies.
    pub fn advance(&self, value: i64) {
        self.value.set(self.value.get().max(value));
        let reached = self.value.get();
        self.waiting.borrow_mut().retain(|(at, waker)| {
            if *at <= reached {
                waker.wake_by_ref();
            }
            *at > reached
        });
    }

    /// Waits until the number is at least `at`.
    pub async fn reached(&self, at: i64) {
        poll_fn(|cx| {
            if self.value.get() >= at {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|(known, waker)| *known == at && waker.will_wake(cx.waker())) {
                waiting.push((at, cx.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether the number is at least `at`.
    #[must_use]
    pub fn has_reached(&self, at: i64) -> bool {
        self.value.get() >= at
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_raise_before_the_wait_is_not_lost() {
        let signal = Signal::default();
        signal.raise();
        block_on(signal.wait());
        assert!(block_on(poll_once(signal.wait())).is_none(), "one raise, one wake");
    }

    #[test]
    fn waiters_wake_at_their_number() {
        let mark = Watermark::new(3);
        block_on(mark.reached(3));
        let mut wait = Box::pin(mark.reached(5));
        assert!(block_on(poll_once(&mut wait)).is_none());
        mark.advance(4);
        assert!(block_on(poll_once(&mut wait)).is_none());
        mark.advance(5);
        assert!(block_on(poll_once(&mut wait)).is_some());
    }
}

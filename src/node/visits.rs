//! Which cores a request's work goes to, noted where it is sent and read when it has been answered.
//!
//! A request's future has a set of cores of its own while it is polled, so nothing has to be handed down. What a request leaves to
//! tasks of its own is not noted.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

use ringdex_net::http::WorkedOn;

/// Cores with a bit of their own in a set. Any other looks like several.
const TOLD_APART: usize = 62;
const OTHERS: u64 = u64::MAX << TOLD_APART;

thread_local! {
    static VISITED: Cell<u64> = const { Cell::new(0) };
}

/// Work of the request that is being polled goes to `core`.
pub(super) fn visit(core: usize) {
    let bit = if core < TOLD_APART { 1 << core } else { OTHERS };
    VISITED.set(VISITED.get() | bit);
}

/// Puts back the set of whoever polled, even when the poll panics.
struct Restore(u64);

impl Drop for Restore {
    fn drop(&mut self) {
        VISITED.set(self.0);
    }
}

/// Runs `work`; its answer, and the cores that its work went to.
pub(super) async fn noting<F: Future>(work: F) -> (F::Output, WorkedOn) {
    let mut work = pin!(work);
    let mut visited = 0;
    let answer = poll_fn(|cx| {
        let _before = Restore(VISITED.replace(visited));
        let polled = work.as_mut().poll(cx);
        visited = VISITED.get();
        polled
    })
    .await;
    let on = match visited.count_ones() {
        0 => WorkedOn::None,
        1 => WorkedOn::One(visited.trailing_zeros() as usize),
        _ => WorkedOn::Several,
    };
    (answer, on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sees_only_its_own_work() {
        let step = |core| async move {
            visit(core);
            futures_lite::future::yield_now().await;
            visit(core);
        };
        let all = async {
            let one = noting(step(3));
            let several = noting(async {
                step(1).await;
                step(2).await;
            });
            let far = noting(step(100));
            let none = noting(futures_lite::future::yield_now());
            let (a, b) = futures_lite::future::zip(one, several).await;
            let (c, d) = futures_lite::future::zip(far, none).await;
            [a.1, b.1, c.1, d.1]
        };
        let (on, outer) = futures_lite::future::block_on(noting(all));
        assert_eq!(on, [WorkedOn::One(3), WorkedOn::Several, WorkedOn::Several, WorkedOn::None]);
        assert_eq!(outer, WorkedOn::None);
    }
}

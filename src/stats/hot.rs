//! Tasks that kept their core to themselves for too long: the last ones, for `_nodes/hot_threads`.
//!
//! A core runs one task at a time, and a task that does not give way delays everything else there. Every poll is timed;
//! those over [`LIMIT`] are noted with their lane, and with the route if a request was handled in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Longer without giving way is noted.
pub const LIMIT: Duration = Duration::from_millis(1);
/// Notes that a core keeps.
const KEPT: usize = 64;

/// A task that did not give way.
#[derive(Clone, Debug)]
pub struct HotTask {
    /// Its lane.
    pub lane: &'static str,
    /// Path of the route it handled, if it did.
    pub route: Option<&'static str>,
    /// For how long.
    pub took: Duration,
    /// Since when.
    pub ended: Instant,
}

#[derive(Default)]
struct Notes {
    count: u64,
    last: VecDeque<HotTask>,
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
    static ROUTE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The task that runs now handles a request of this route.
pub fn handles(route: &'static str) {
    ROUTE.set(Some(route));
}

/// Runs `task` and notes when it does not give way.
pub async fn watched<F: Future>(lane: &'static str, task: F) -> F::Output {
    let mut task = pin!(task);
    std::future::poll_fn(move |cx| {
        let began = Instant::now();
        let polled = task.as_mut().poll(cx);
        let took = began.elapsed();
        let route = ROUTE.take();
        if took > LIMIT {
            note(HotTask { lane, route, took, ended: began + took });
        }
        polled
    })
    .await
}

fn note(task: HotTask) {
    NOTES.with_borrow_mut(|notes| {
        notes.count += 1;
        if notes.last.len() == KEPT {
            notes.last.pop_front();
        }
        notes.last.push_back(task);
    });
}

/// How many there were on this core, and the last of them.
#[must_use]
pub fn notes() -> (u64, Vec<HotTask>) {
    NOTES.with_borrow(|notes| (notes.count, notes.last.iter().cloned().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_does_not_give_way_is_noted_with_what_it_did() {
        let (count, last) = std::thread::spawn(|| {
            futures_lite::future::block_on(async {
                watched("search", async {
                    handles("/{index}/_search");
                    std::thread::sleep(2 * LIMIT);
                    futures_lite::future::yield_now().await;
                })
                .await;
                for _ in 0..KEPT {
                    watched("write", async { std::thread::sleep(LIMIT + LIMIT / 2) }).await;
                }
            });
            notes()
        })
        .join()
        .unwrap();
        // A machine that is busy elsewhere may make hot what is not.
        assert!(count > KEPT as u64 && last.len() == KEPT);
        assert!(last.iter().all(|task| task.took > LIMIT));
        let one = std::thread::spawn(|| {
            futures_lite::future::block_on(watched("search", async {
                handles("/a");
                std::thread::sleep(2 * LIMIT);
            }));
            notes()
        });
        assert_eq!(one.join().unwrap().1[0].route, Some("/a"));
    }
}

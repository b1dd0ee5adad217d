//! Waiting for several futures of one core.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use crate::backend::LocalFuture;

/// Runs all at once; results in the order given. For tens to hundreds of futures (one per shard).
pub async fn all<'a, T>(futures: Vec<LocalFuture<'a, T>>) -> Vec<T> {
    let mut waiting: Vec<Option<LocalFuture<'a, T>>> = futures.into_iter().map(Some).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    let mut left = waiting.len();
    poll_fn(|context| {
        for (slot, result) in waiting.iter_mut().zip(&mut done) {
            let Some(future) = slot else { continue };
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
                *slot = None;
                left -= 1;
            }
        }
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Runs several at once, and gives their results in the order in which they were begun. All of them are driven while one
/// is waited for, and only then.
pub struct Ordered<'a, T> {
    waiting: VecDeque<Begun<'a, T>>,
}

enum Begun<'a, T> {
    Running(LocalFuture<'a, T>),
    Done(T),
}

impl<'a, T> Default for Ordered<'a, T> {
    fn default() -> Ordered<'a, T> {
        Ordered { waiting: VecDeque::new() }
    }
}

impl<'a, T: Unpin> Ordered<'a, T> {
    /// One more, behind the others.
    pub fn push(&mut self, future: LocalFuture<'a, T>) {
        self.waiting.push_back(Begun::Running(future));
    }

    /// How many results there are to come.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// The result of the one begun first; none if there are none.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|context| {
            for begun in &mut self.waiting {
                if let Begun::Running(future) = begun
                    && let Poll::Ready(value) = future.as_mut().poll(context)
                {
                    *begun = Begun::Done(value);
                }
            }
            match self.waiting.pop_front() {
                None => Poll::Ready(None),
                Some(Begun::Done(value)) => Poll::Ready(Some(value)),
                Some(running) => {
                    self.waiting.push_front(running);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_runs_while_the_first_is_waited_for() {
        let begun = std::rc::Rc::new(std::cell::Cell::new(0));
        let mut ordered = Ordered::default();
        for i in 0..5u32 {
            let begun = std::rc::Rc::clone(&begun);
            ordered.push(Box::pin(async move {
                begun.set(begun.get() + 1);
                for _ in 0..(5 - i) {
                    futures_lite::future::yield_now().await;
                }
                i
            }));
        }
        futures_lite::future::block_on(async {
            assert_eq!(ordered.next().await, Some(0));
            assert_eq!(begun.get(), 5);
            for i in 1..5 {
                assert_eq!((ordered.pending(), ordered.next().await), (5 - i as usize, Some(i)));
            }
            assert_eq!(ordered.next().await, None);
        });
    }

    #[test]
    fn results_keep_their_order() {
        let futures: Vec<LocalFuture<'_, u32>> = (0..5u32)
            .map(|i| {
                Box::pin(async move {
                    for _ in 0..(5 - i) {
                        futures_lite::future::yield_now().await;
                    }
                    i
                }) as LocalFuture<'_, u32>
            })
            .collect();
        assert_eq!(futures_lite::future::block_on(all(futures)), vec![0, 1, 2, 3, 4]);
    }
}

//! Waiting for several futures of one core.

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

#[cfg(test)]
mod tests {
    use super::*;

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

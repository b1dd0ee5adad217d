//! Cooperation: how long work inside a shard gives way to others on its core, and stops at its deadline.

use std::future::Future;

/// Passed into every loop that may run longer than a millisecond. Cheap to ask (a nanosecond), so ask once per block.
pub trait Pace {
    /// Gives other tasks of this core a turn if this one has had its share.
    fn yield_if_needed(&self) -> impl Future<Output = ()>;

    /// Whether the deadline has passed or the client is gone.
    fn stopped(&self) -> bool;
}

/// Never yields, never stops: for tests, fuzzers, offline tools and maintenance threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpaced;

impl Pace for Unpaced {
    async fn yield_if_needed(&self) {}

    fn stopped(&self) -> bool {
        false
    }
}

/// Says stop when it has been asked so often: a deadline of tests.
#[cfg(test)]
pub(crate) struct StopAfter(pub std::cell::Cell<u32>);

#[cfg(test)]
impl Pace for StopAfter {
    async fn yield_if_needed(&self) {}

    fn stopped(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

//! Memory that several users share: counted before it is taken, refused when it would be too much.
//!
//! A [`Pool`] may be shared by threads. It is one counter, touched once per request or per batch of documents, never per
//! document.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes for everyone who takes from it.
#[derive(Debug)]
#[repr(align(64))] // its own cache line: cores meet here, and should meet nobody else
pub struct Pool {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
    refused: AtomicU64,
    ever: AtomicU64,
}

/// Bytes that were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// The pool's name.
    pub pool: &'static str,
    /// Bytes that would be in use.
    pub wanted: u64,
    /// Bytes there are.
    pub limit: u64,
}

/// Bytes of a pool in somebody's hands; given back when dropped.
#[derive(Debug)]
pub struct Taken {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Pool {
    /// A pool of `limit` bytes, called `name` in errors.
    #[must_use]
    pub fn new(name: &'static str, limit: u64) -> Arc<Pool> {
        Arc::new(Pool { name, limit, used: AtomicU64::new(0), refused: AtomicU64::new(0), ever: AtomicU64::new(0) })
    }

    /// Takes bytes, or none at all.
    ///
    /// # Errors
    /// [`Exhausted`] when they are more than is left.
    pub fn take(self: &Arc<Pool>, bytes: u64) -> Result<Taken, Exhausted> {
        let mut taken = Taken { pool: Arc::clone(self), bytes: 0 };
        taken.resize(bytes)?;
        Ok(taken)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes there are.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes ever taken.
    #[must_use]
    pub fn taken_ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }

    /// How often bytes were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) -> Result<(), Exhausted> {
        // Only a count: nothing is published through it, so no order is needed.
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|wanted| *wanted <= self.limit)
        });
        if grown.is_ok() {
            self.ever.fetch_add(bytes, Ordering::Relaxed);
        }
        grown.map(drop).map_err(|used| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Exhausted { pool: self.name, wanted: used.saturating_add(bytes), limit: self.limit }
        })
    }
}

impl Taken {
    /// Holds `bytes` from now on: takes the difference, or gives it back.
    ///
    /// # Errors
    /// [`Exhausted`] when the difference is more than is left; what was held stays.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Exhausted> {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.pool.add(more)?,
            None => drop(self.pool.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed)),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exhausted { pool, wanted, limit } = self;
        write!(f, "[{pool}] would be [{wanted}] bytes, which is larger than the limit of [{limit}]")
    }
}

impl std::error::Error for Exhausted {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_refused_whole_and_counted() {
        let pool = Pool::new("test", 100);
        let mut a = pool.take(60).unwrap();
        assert_eq!(pool.take(41).unwrap_err(), Exhausted { pool: "test", wanted: 101, limit: 100 });
        assert_eq!((pool.used(), pool.refused()), (60, 1));
        let b = pool.take(40).unwrap();
        assert!(a.resize(61).is_err());
        assert_eq!((a.bytes(), pool.used()), (60, 100), "a refused growth leaves what was held");
        drop(b);
        a.resize(100).unwrap();
        a.resize(1).unwrap();
        assert_eq!(pool.used(), 1);
        assert!(pool.take(u64::MAX).is_err(), "no overflow");
    }

    #[test]
    fn threads_never_hold_more_than_there_is_and_leave_nothing() {
        let pool = Pool::new("test", 1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..2000 {
                        let taken = pool.take(i % 700);
                        assert!(pool.used() <= pool.limit());
                        drop(taken);
                    }
                });
            }
        });
        assert_eq!(pool.used(), 0);
    }

    proptest! {
        #[test]
        fn use_is_the_sum_of_what_is_held(steps in proptest::collection::vec((0usize..4, 0u64..60), 0..60)) {
            let pool = Pool::new("test", 100);
            let mut held: Vec<Taken> = (0..4).map(|_| pool.take(0).unwrap()).collect();
            for (who, bytes) in steps {
                let others: u64 = held.iter().enumerate().filter(|(i, _)| *i != who).map(|(_, t)| t.bytes()).sum();
                prop_assert_eq!(held[who].resize(bytes).is_ok(), others + bytes <= 100 || bytes <= held[who].bytes());
                prop_assert_eq!(pool.used(), held.iter().map(Taken::bytes).sum::<u64>());
            }
            drop(held);
            prop_assert_eq!(pool.used(), 0);
        }
    }
}

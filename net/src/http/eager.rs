//! Waiting for a client's next request by looking at the socket for some microseconds, instead of going to sleep.
//!
//! To sleep and to be woken costs more than a small request: a turn of the executor (four or five system calls), and an
//! interrupt to a CPU that has halted. A client that sends its next request as soon as it has the answer saves both when the
//! core looks a moment longer. It must not cost anybody else:
//!
//! - Only where it works: a connection earns the wait by short pauses, and loses it quickly when nothing comes ([`Habit`]).
//! - Only for the one connection that this core has had requests from lately ([`Eager`]): others never wait for a look.
//! - Never past a call of the executor (its timers, other cores), and through a turn of it after [`LOOKS_IN_A_ROW`].
//! - An idle core sleeps.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Requests that one connection must have sent since another did.
const ALONE_MIN: u32 = 32;
/// Requests served without a turn of the executor.
const LOOKS_IN_A_ROW: u32 = 16;
/// A pause as short as this, sleep and waking included, lets a look seem worth it.
const PAUSE_SHORT: Duration = Duration::from_micros(200);
/// The score from which a connection is looked at.
const SCORE_LOOKS: u32 = 16;
const SCORE_MAX: u32 = 64;
/// What a look that found nothing takes from the score: looking goes on where 16 of 17 find something.
const SCORE_MISSED: u32 = 16;
/// Hints to the CPU between two looks: they leave the core's other thread, often the client, its share.
const HINTS: u32 = 16;

/// What the connections of a core have in common.
pub(super) struct Eager {
    spin: Duration,
    last: Cell<u64>,
    streak: Cell<u32>,
    /// How long it has looked, all in all.
    looked: Cell<Duration>,
}

impl Eager {
    /// Looks for at most `spin`.
    pub(super) fn new(spin: Duration) -> Eager {
        Eager { spin, last: Cell::new(u64::MAX), streak: Cell::new(0), looked: Cell::default() }
    }

    fn begins(&self, connection: u64) {
        let streak = if self.last.replace(connection) == connection { self.streak.get().saturating_add(1) } else { 0 };
        self.streak.set(streak);
    }

    fn is_alone(&self, connection: u64) -> bool {
        self.last.get() == connection && self.streak.get() >= ALONE_MIN
    }

    /// How long the core has looked at connections since it began.
    pub(super) fn looked(&self) -> Duration {
        self.looked.get()
    }

    /// Asks `look` until it finds something, the time is up, or the executor wants to run.
    pub(super) fn look<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let (executor, begun) = (glommio::executor(), Instant::now());
        let (mut found, mut looked) = (None, Duration::ZERO);
        while found.is_none() && !executor.need_preempt() && looked < self.spin {
            for _ in 0..HINTS {
                std::hint::spin_loop();
            }
            found = look();
            looked = begun.elapsed();
        }
        self.looked.set(self.looked.get() + looked);
        found
    }
}

/// How soon a connection's next request tends to come.
pub(super) struct Habit {
    connection: u64,
    score: u32,
    in_a_row: u32,
    /// When the connection had nothing more to do.
    idle_since: Option<Instant>,
    /// It was looked at since then, in vain.
    missed: bool,
}

impl Habit {
    pub(super) fn new(connection: u64) -> Habit {
        Habit { connection, score: 0, in_a_row: 0, idle_since: None, missed: false }
    }

    /// The connection has nothing to do from `now` on. Whether to look for its next request.
    pub(super) fn waits(&mut self, eager: &Eager, now: Instant) -> bool {
        if self.idle_since.is_some() {
            return false;
        }
        self.idle_since = Some(now);
        let worth_it = self.score >= SCORE_LOOKS && self.in_a_row < LOOKS_IN_A_ROW;
        let looks = worth_it && !eager.spin.is_zero() && eager.is_alone(self.connection);
        if !looks {
            self.in_a_row = 0;
        }
        looks
    }

    /// It was looked at.
    pub(super) fn looked(&mut self, found: bool) {
        if found {
            self.in_a_row += 1;
        } else {
            self.in_a_row = 0;
            self.score = self.score.saturating_sub(SCORE_MISSED);
            self.missed = true;
        }
    }

    /// A request begins to arrive.
    pub(super) fn begins(&mut self, eager: &Eager, now: Instant) {
        eager.begins(self.connection);
        let short = self.idle_since.take().is_some_and(|since| now.duration_since(since) < PAUSE_SHORT);
        let missed = std::mem::take(&mut self.missed);
        if short && !missed {
            self.score = (self.score + 1).min(SCORE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: Duration = Duration::from_micros(50);

    /// A connection and a clock that only moves when told.
    struct Scene {
        eager: Eager,
        now: Instant,
    }

    impl Scene {
        fn new(spin: Duration) -> Scene {
            Scene { eager: Eager::new(spin), now: Instant::now() }
        }

        /// One pause and the request that ends it. Whether the connection was looked at.
        fn pause(&mut self, habit: &mut Habit, pause: Duration) -> bool {
            let looks = habit.waits(&self.eager, self.now);
            if looks {
                habit.looked(pause < self.eager.spin);
                assert!(!habit.waits(&self.eager, self.now), "one look in a pause");
            }
            self.now += pause;
            habit.begins(&self.eager, self.now);
            looks
        }

        /// How many of `n` pauses looked.
        fn pauses(&mut self, habit: &mut Habit, n: usize, pause: Duration) -> usize {
            (0..n).filter(|_| self.pause(habit, pause)).count()
        }
    }

    #[test]
    fn a_prompt_client_alone_is_looked_at_with_turns_of_the_executor_between() {
        let (mut scene, mut habit) = (Scene::new(SPIN), Habit::new(1));
        let early = scene.pauses(&mut habit, ALONE_MIN as usize, Duration::from_micros(20));
        assert_eq!(early, 0, "it has to show itself first");
        let rows = 10;
        let looks = scene.pauses(&mut habit, rows * (LOOKS_IN_A_ROW as usize + 1), Duration::from_micros(20));
        assert!((rows * LOOKS_IN_A_ROW as usize - 1..=rows * LOOKS_IN_A_ROW as usize).contains(&looks), "{looks}");
    }

    #[test]
    fn slow_clients_are_not_looked_at() {
        for (pause, most) in [(PAUSE_SHORT, 0), (Duration::from_millis(5), 0), (Duration::from_micros(100), 60)] {
            let (mut scene, mut habit) = (Scene::new(SPIN), Habit::new(1));
            let looks = scene.pauses(&mut habit, 1000, pause);
            assert!(looks <= most, "{looks} of 1000 at {pause:?}");
        }
    }

    #[test]
    fn a_client_that_slows_down_is_soon_left_alone() {
        let (mut scene, mut habit) = (Scene::new(SPIN), Habit::new(1));
        scene.pauses(&mut habit, 1000, Duration::from_micros(20));
        let looks = scene.pauses(&mut habit, 1000, Duration::from_millis(1));
        assert!(looks <= (SCORE_MAX / SCORE_MISSED) as usize, "{looks}");
    }

    #[test]
    fn connections_that_take_turns_are_not_looked_at() {
        let mut scene = Scene::new(SPIN);
        let (mut a, mut b) = (Habit::new(1), Habit::new(2));
        for _ in 0..1000 {
            assert!(!scene.pause(&mut a, Duration::from_micros(10)));
            assert!(!scene.pause(&mut b, Duration::from_micros(10)));
        }
        // One that is left alone is looked at again.
        assert!(scene.pauses(&mut a, 100, Duration::from_micros(10)) > 50);
    }

    #[test]
    fn zero_never_looks() {
        let (mut scene, mut habit) = (Scene::new(Duration::ZERO), Habit::new(1));
        assert_eq!(scene.pauses(&mut habit, 1000, Duration::ZERO), 0);
    }
}

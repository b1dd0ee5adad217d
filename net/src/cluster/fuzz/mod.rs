//! Bodies for fuzzing the machines: arbitrary bytes are read as events.

mod coordination;
mod replication;

pub use coordination::fuzz_coordination;
pub use replication::fuzz_replication;

/// Steps of one input, at most.
const STEPS_MAX: usize = 500;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// Around `near`, or far from it.
    fn number(&mut self, near: u64) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 62,
            253 => 0,
            step => near.saturating_add(u64::from(step % 8)).saturating_sub(3),
        }
    }
}

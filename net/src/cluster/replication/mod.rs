//! Writing to several copies of one shard, as machines: which copies must have an operation before it is acknowledged, what
//! all of them have, and what a copy does when its primary changes.
//!
//! ```text
//!            primary                                        replica
//!  Tracker   who is in sync, how far each is                Replica   fences lower terms, rolls back before it
//!  Group     one batch: send, await, fail, answer                     follows a higher one
//! ```
//!
//! A batch is answered when it is durable on the primary and on every copy it was sent to, but for copies that the
//! master has removed from the in-sync set. Up to the *global checkpoint*, the least that an in-sync copy has durably, all
//! histories are the same. When a primary is lost, an in-sync copy takes its place with a higher term:
//!
//! 1. it restores what it was itself rolled back from (`Engine::suspended`) and fills gaps with its own term;
//! 2. every request of its term tells the highest sequence number it had then (`term_max_seq_no`);
//! 3. a copy that sees the higher term goes back to the global checkpoint, keeping what is up to that number aside;
//! 4. the primary sends everything above the global checkpoint again, as a batch like others.
//!
//! No machine reads a clock or does anything itself: an event goes in, effects come out in order. They are total: what makes no sense
//! (a copy nobody knows, an old message) is ignored.

pub mod group;
pub mod replica;
#[cfg(test)]
mod simulation;
pub mod tracker;

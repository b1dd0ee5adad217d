//! What all nodes agree on, and how they come to.
//!
//! # Machines
//!
//! Every decision of the cluster is made by a machine: a value without IO, clock or threads. A driver feeds it and does what it
//! says; a simulator does the same over invented clocks, networks and disks.
//!
//! - `step(now, event, &mut effects)` takes one event, at a time in milliseconds that never goes back, and fills the
//!   empty list of what is to be done. It is total: what makes no sense is refused, never a panic.
//! - Effects are carried out in order. `Persist` is a barrier: nothing after it happens before it is durable. Then its ticket
//!   comes back as the event `Persisted`. Steps may go on meanwhile; what they bring queues behind it.
//! - `deadline()` is when the machine wants to be stepped again with `Tick`, if nothing else happens before.
//! - `check()` asserts the machine's invariants. Tests call it after every step.
//! - Randomness comes from a seed: the same events at the same times bring the same effects.
//!
//! # Reading order of the coordinator
//!
//! | file | what |
//! |---|---|
//! | `coordination.rs` | the actions of the ZenWithTerms model: terms, votes, two-phase publication |
//! | `messages.rs`, `value.rs`, `quorum.rs` | what is said, what is agreed on, who decides |
//! | `coordinator/mod.rs` | the machine: its events, effects, modes |
//! | `coordinator/{candidate,leader,follower}.rs` | what it does in each mode |
//! | `election.rs`, `discovery.rs`, `liveness.rs`, `publication.rs` | the parts it is made of |
//! | `simulator/` | hundreds of clusters under faults, the model's invariants, planted bugs |

#[macro_use]
mod mutant;

pub mod allocation;
pub mod coordination;
pub mod coordinator;
pub mod diff;
pub mod discovery;
pub mod election;
pub mod fuzz;
pub mod health;
pub mod ids;
pub mod liveness;
pub mod messages;
pub mod publication;
pub mod quorum;
pub mod replication;
pub mod routing;
#[cfg(test)]
mod simulator;
pub mod state;
pub mod value;

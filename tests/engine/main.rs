//! The shard and its engine over simulated disks: crash at every step, faults, random operations against a model.

mod crash;
mod faults;
mod harness;
mod memory;
mod model;

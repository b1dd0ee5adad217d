//! The ringdex binary.
fn main() {}

//! The ringdex binary.

use std::process::ExitCode;

/// Per-thread heaps: cores do not meet in the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringdex::cli::main()
}

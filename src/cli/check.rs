//! `ringdex check`.
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Data directory
    data: PathBuf,
}

pub(super) fn run(args: &CheckArgs) -> Result<i32, String> {
    Err(format!("{}", args.data.display()))
}

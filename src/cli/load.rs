//! `ringdex load`.
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// File
    file: String,
}

pub(super) fn run(args: &LoadArgs) -> Result<i32, String> {
    Err(args.file.clone())
}

//! `ringdex bench`: load tests of any server with the same REST API.
//!
//! ```text
//! workload.rs -> plan.rs (data.rs, source.rs, template.rs, random.rs): request k as bytes
//! schedule.rs: when request k is due
//! drive.rs -> worker.rs (connection.rs, answer.rs, verdict.rs): sends, times, records -> record.rs
//! results.rs -> table.rs, hlog.rs, page.rs (plot.rs); compare.rs (statistics.rs) over two results
//! prove.rs, stub.rs: the load generator measured against delays that are known
//! ```

mod answer;
mod compare;
mod connection;
mod data;
mod drive;
mod hlog;
mod page;
mod plan;
mod plot;
mod prove;
mod random;
mod record;
mod results;
mod run;
mod schedule;
mod source;
mod statistics;
mod stub;
mod table;
mod template;
mod verdict;
mod worker;
mod workload;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ringdex bench run benches/workloads/mixed.toml --url http://127.0.0.1:9200 --cores 1
  ringdex bench run mixed.toml --rate 5000 --duration 60s --out before
  ringdex bench compare before after --gate
  ringdex bench format                                         every key of a workload file
  ringdex bench prove --cores 0,1";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a workload file against a server
    #[command(after_help = run::HELP)]
    Run(run::RunArgs),
    /// Say whether results B are faster than results A
    #[command(after_help = compare::HELP)]
    Compare(compare::CompareArgs),
    /// Describe workload files: every key
    Format,
    /// Measure the load generator itself against known delays
    #[command(after_help = prove::HELP)]
    Prove(prove::ProveArgs),
}

pub(super) fn run(args: &BenchArgs) -> Result<i32, String> {
    match &args.command {
        Command::Run(args) => run::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Format => {
            print!("{}", workload::format_page());
            Ok(0)
        }
        Command::Prove(args) => prove::run(args),
    }
}

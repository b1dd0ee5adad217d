//! Where logs go and how they look; panics are logged with their place.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or targets such as ringdex=debug [default: info; demo: warn]
    #[arg(long, global = true, value_name = "LEVEL", env = "RINGDEX_LOG")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "RINGDEX_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Logs to the standard error, from `level` up unless the arguments say otherwise.
pub(super) fn start(args: &LogArgs, level: &str) -> Result<(), String> {
    let level = args.log.as_deref().unwrap_or(level);
    // What is slow is decided by the settings of each index.
    let slow = "index.search.slowlog=trace,index.indexing.slowlog=trace";
    let filter = EnvFilter::try_new(format!("{slow},{level}")).map_err(|e| format!("--log {level}: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        let text = crate::mesh::panic_text(info.payload());
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(thread, place, panic = text, "panic\n{backtrace}");
    }));
    Ok(())
}

//! The log of events on standard error: one line an event, for people or for machines.

use std::io;

use tracing::Level;

use crate::config::Config;
use crate::config::LogFormat;
use crate::config::LogLevel;

/// From here on events are written. Once a process.
pub(super) fn start(config: &Config) {
    let level = match config.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let events = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match config.log {
        LogFormat::Text => events.with_ansi(false).init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
}

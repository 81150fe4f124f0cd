//! Log lines: text for people on a terminal, one JSON object a line otherwise or on request.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::model::{Format, Level, Log};

/// Starts logging to the standard error. Only our own lines: a library's could hold a value.
pub fn start(log: &Log) {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let ours = Targets::new().with_target("gatewright", level);
    let registry = tracing_subscriber::registry().with(ours);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // A reader that has gone must not end us.
        .log_internal_errors(false)
        .with_target(false);
    let json = match log.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !terminal,
    };
    // A second start (in tests) keeps the first one's.
    let _ = if json {
        registry.with(layer.json().flatten_event(true)).try_init()
    } else {
        // The sentence says it all; its parts are for machines.
        let sentence = debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            _ => Ok(()),
        });
        registry
            .with(layer.with_ansi(colours).fmt_fields(sentence))
            .try_init()
    };
}

//! Log lines: text for people on a terminal, one JSON object a line otherwise or on request.
//!
//! A line goes to a thread of its own that writes to the standard error, so that a reader who has gone or
//! stopped reading ends or delays nobody; what he cannot take is lost, counted and told. Repeats are
//! summed up (`status::repeats`). Whatever a line holds from elsewhere stays one line and is never
//! done by a terminal.

use std::io::{IsTerminal, Write};
use std::panic::Location;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level as Severity, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::diagnostic::{is_unplain, plain};
use crate::settings::model::{Format, Level, Log};
use crate::status::repeats::{self, LEFT_OUT, Repeats, Summary};

/// Lines that wait for a reader; more are lost.
const WAITING: usize = 1_024;
/// How often is looked whether something is due to be told.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end waits for a reader.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Lines about lines are not counted among them.
const ABOUT_LINES: &str = "gatewright::repeats";

static REPEATS: Mutex<Option<Repeats<Severity>>> = Mutex::new(None);

/// The log while it is written; when dropped, what waits is written out, if somebody reads.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct Logging {
    lines: Option<SyncSender<Message>>,
}

enum Message {
    Line(Vec<u8>),
    /// The end: tell the rest, and say when it is written.
    Last(SyncSender<()>),
}

/// Starts logging to the standard error. Only our own lines: a library's could hold a value.
pub fn start(log: &Log) -> Logging {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let json = match log.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !terminal,
    };
    let (send, lines) = sync_channel(WAITING);
    let writing = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&lines));
    let ours = Targets::new().with_target("gatewright", level);
    let registry = tracing_subscriber::registry().with(ours);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Lines {
            to: writing.is_ok().then(|| send.clone()),
            json,
        })
        // A reader that has gone must not end us.
        .log_internal_errors(false)
        .with_target(false);
    // A second start (in tests) keeps the first one's.
    let started = if json {
        let layer = layer.json().flatten_event(true);
        registry.with(layer.with_filter(Bound)).try_init()
    } else {
        // The sentence says it all; its parts are for machines.
        let sentence = debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{}", plain(&format!("{value:?}"))),
            _ => Ok(()),
        });
        let layer = layer.with_ansi(colours).fmt_fields(sentence);
        registry.with(layer.with_filter(Bound)).try_init()
    };
    Logging {
        lines: (started.is_ok() && writing.is_ok()).then_some(send),
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(lines) = self.lines.take() else {
            return;
        };
        let (send, written) = sync_channel(1);
        let end = Instant::now() + LAST_LINES;
        let mut last = Message::Last(send);
        while let Err(std::sync::mpsc::TrySendError::Full(back)) = lines.try_send(last) {
            if Instant::now() >= end {
                return;
            }
            last = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Lets repeats pass up to the bound. Details, which nobody sees who has not asked for them, all pass.
struct Bound;

impl<S> Filter<S> for Bound {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let level = *metadata.level();
        if level > Severity::INFO || metadata.target() == ABOUT_LINES {
            return true;
        }
        let place = repeats::kind().map_or_else(
            || {
                (
                    metadata.file().unwrap_or_default(),
                    metadata.line().unwrap_or_default(),
                )
            },
            |kind: &'static Location<'static>| (kind.file(), kind.line()),
        );
        let mut message = Sentence(String::new());
        event.record(&mut message);
        let is_error = level == Severity::ERROR;
        with_repeats(|repeats| repeats.passes(place, level, is_error, &message.0, Instant::now()))
    }
}

fn with_repeats<T>(what: impl FnOnce(&mut Repeats<Severity>) -> T) -> T {
    let mut repeats = REPEATS.lock().unwrap_or_else(PoisonError::into_inner);
    what(repeats.get_or_insert_default())
}

/// The sentence of an event.
struct Sentence(String);

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Takes each line to the thread that writes.
struct Lines {
    /// Without it, lines are written where they are said.
    to: Option<SyncSender<Message>>,
    json: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Gets one whole line at a time from the formatter.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let bytes = match self.json {
            true => plain_json(line),
            false => line.to_vec(),
        };
        match &self.to {
            Some(to) => {
                if to.try_send(Message::Line(bytes)).is_err() {
                    LEFT_OUT.lost.fetch_add(1, Relaxed);
                }
            }
            None => {
                let _ = std::io::stderr().write_all(&bytes);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// JSON escapes the C0 codes only; a terminal does others too. They can stand in strings alone.
fn plain_json(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let body = text.trim_end_matches('\n');
    if !body.contains(is_unplain) {
        return line.to_vec();
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for character in body.chars() {
        match character {
            // All of them are in the plane whose characters JSON writes with four digits.
            c if is_unplain(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('\n');
    shown.into_bytes()
}

/// The thread that writes.
fn write(lines: &Receiver<Message>) {
    let mut told_lost = 0;
    let mut next_look = Instant::now() + LOOK;
    loop {
        let wait = next_look.saturating_duration_since(Instant::now());
        match lines.recv_timeout(wait) {
            Ok(Message::Line(line)) => {
                // Blocks as long as the reader does not read; that is why it is done here.
                let _ = std::io::stderr().write_all(&line);
            }
            Ok(Message::Last(written)) => {
                with_repeats(|repeats| repeats.rest(Instant::now()))
                    .iter()
                    .for_each(tell);
                while let Ok(Message::Line(line)) = lines.try_recv() {
                    let _ = std::io::stderr().write_all(&line);
                }
                let _ = written.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        if now < next_look {
            continue;
        }
        next_look = now + LOOK;
        with_repeats(|repeats| repeats.due(now))
            .iter()
            .for_each(tell);
        let (_, lost) = LEFT_OUT.counts();
        if lost > told_lost {
            let count = lost - told_lost;
            told_lost = lost;
            tracing::warn!(target: ABOUT_LINES, count, "{count} log lines are lost, because nobody read the log.");
        }
    }
}

fn tell(summary: &Summary<Severity>) {
    let Summary {
        level,
        count,
        over,
        last,
    } = summary;
    let (count, seconds) = (*count, over.as_secs().max(1));
    macro_rules! say {
        ($log:ident) => {
            tracing::$log!(target: ABOUT_LINES, count, "{count} more lines of this kind in {seconds} s; the last one: {last}")
        };
    }
    match *level {
        Severity::ERROR => say!(error),
        Severity::WARN => say!(warn),
        _ => say!(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // L09
    #[test]
    fn a_json_line_holds_no_terminal_code_and_reads_back_the_same() {
        let hostile = "web\n\u{1b}[2J\u{9b}31m\u{202e}";
        let line = format!("{}\n", serde_json::json!({ "message": hostile }));
        let shown = String::from_utf8(plain_json(line.as_bytes())).unwrap();
        assert!(!shown.trim_end().contains(is_unplain), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["message"], hostile);
    }
}

//! `gatewright status`: asks a running sidecar and shows what it says.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::exit;
use crate::settings::{Environment, environment};
use crate::status::model::{Hold, Snapshot, State, Status, Watched};
use crate::status::socket;

use super::Failure;
use super::flags::SettingsFlag;

/// Ask a running sidecar what is applied, how old the data is and what is held
///
/// Reads the sidecar's local status socket. The exit code is 0 when a sidecar answers, whatever it
/// says, and 10 when none does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright status -c /etc/gatewright/gatewright.toml
  gatewright status --socket /run/gatewright/status.sock --json")]
pub struct StatusCommand {
    #[command(flatten)]
    settings: SettingsFlag,
    /// The status socket, when no settings file names it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let environment = environment::read();
        let path = self.path(&environment)?;
        let status = super::run::block_on(socket::ask(&path))?
            .map_err(|error| not_running(&path, &error))?;
        let text = if self.json {
            serde_json::to_string_pretty(&status)
                .map(|text| text + "\n")
                .unwrap_or_default()
        } else {
            describe(&status)
        };
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        Ok(exit::OK)
    }

    fn path(&self, environment: &Environment) -> Result<PathBuf, Failure> {
        match &self.socket {
            Some(path) => Ok(path.clone()),
            None => Ok(self
                .settings
                .load(environment, |_| {})?
                .status_socket(environment)),
        }
    }
}

/// Nobody answers on the status socket.
pub(super) fn not_running(path: &Path, error: &std::io::Error) -> Failure {
    Failure::one(
        exit::NOT_RUNNING,
        Diagnostic::error(
            "not-running",
            format!("No sidecar answers on {}: {error}.", path.display()),
        )
        .help("Start one with `gatewright run`, or name its socket with --socket or its settings with --config."),
    )
}

/// The status as a person reads it.
fn describe(status: &Status) -> String {
    let mut lines = Vec::new();
    let bold = anstyle::Style::new().bold();
    let state = match status.state {
        State::Starting => "starting: nothing was applied yet",
        State::Confirmed => "confirmed: HAProxy runs what the catalog says",
        State::Unconfirmed => "unconfirmed: the files are current, HAProxy has not confirmed them",
        State::Held => "held: the last good configuration is in force",
        State::Waiting => "waiting: the last good configuration is in force",
        State::Guarded => "guarded: what vanished from the catalog in mass is kept",
        State::Applying => "applying a new set",
    };
    lines.push(format!("{bold}{state}{bold:#}"));
    if let Some(applied) = &status.applied {
        let confirmed = if applied.confirmed {
            "confirmed"
        } else {
            "not confirmed"
        };
        lines.push(format!(
            "  revision   {} ({confirmed}), applied {} ago",
            applied.revision,
            age(applied.seconds_ago)
        ));
        if !applied.story.is_empty() {
            lines.push(format!("  last       {}", applied.story));
        }
    }
    if let Some(revision) = &status.pending {
        lines.push(format!("  pending    revision {revision}"));
    }
    if let Some(held) = &status.held {
        lines.push(format!(
            "  refused    revision {} by {}",
            held.revision, held.by
        ));
        lines.extend(held.why.iter().map(|why| format!("             {why}")));
    }
    for (index, query) in status.waiting_for.iter().enumerate() {
        let since = status.waiting_seconds.map(age).unwrap_or_default();
        if index == 0 {
            lines.push(format!("  waits for  {query} since {since}"));
        } else {
            lines.push(format!("             {query}"));
        }
    }
    let holds: Vec<String> = status.holds.iter().map(hold).collect();
    section(&mut lines, "guarded", &holds);
    section(&mut lines, "templates", &status.template_errors);
    section(&mut lines, "left out", &status.quarantined);
    section(&mut lines, "warning", &status.warnings);
    let haproxy = &status.haproxy;
    let version = haproxy.version.as_deref().unwrap_or("unknown version");
    lines.push(if haproxy.reachable {
        format!(
            "  haproxy    {version}, told by {}, worker {}, {} old",
            haproxy.mode,
            haproxy.worker.map_or("?".to_owned(), |pid| pid.to_string()),
            haproxy.old_workers
        )
    } else {
        format!(
            "  haproxy    told by {}; no worker was seen answering",
            haproxy.mode
        )
    });
    lines.push(format!(
        "  changes    {} by commands, {} by a reload, {} divergences put right",
        haproxy.by_commands, haproxy.reloads, haproxy.divergences
    ));
    section(&mut lines, "leaving", &haproxy.leaving);
    section(&mut lines, "by hand", &haproxy.by_hand);
    section(&mut lines, "drift", &haproxy.drift);
    lines.push("  queries".to_owned());
    lines.extend(status.queries.iter().map(watched));
    lines.extend(status.snapshot.iter().map(snapshot));
    lines.push(format!(
        "  sidecar    {} pid {}, up {}",
        status.version,
        status.pid,
        age(status.uptime_seconds)
    ));
    lines.join("\n") + "\n"
}

fn section(lines: &mut Vec<String>, name: &str, sentences: &[String]) {
    for (index, sentence) in sentences.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        lines.push(format!("  {name:<10} {sentence}"));
    }
}

fn hold(hold: &Hold) -> String {
    let ends = match hold.ends_in_seconds {
        Some(seconds) => format!("ends in {}", age(seconds)),
        None => match &hold.service {
            Some(service) => {
                format!("ends when they return or by `gatewright release {service}`")
            }
            None => "ends when they return or by `gatewright release --all`".to_owned(),
        },
    };
    format!(
        "{}: {} of {} kept for {}, {ends}. {}",
        hold.query,
        hold.held,
        hold.reference,
        age(hold.since_seconds),
        hold.reason
    )
}

fn snapshot(snapshot: &Snapshot) -> String {
    let saved = match snapshot.saved_seconds_ago {
        Some(seconds) => format!("written {} ago", age(seconds)),
        None => "not written yet".to_owned(),
    };
    let used = match (snapshot.in_use, snapshot.oldest_seconds) {
        (0, _) => String::new(),
        (queries, Some(seconds)) => {
            format!(
                "; {queries} queries answered from it, at most {} old",
                age(seconds)
            )
        }
        (queries, None) => format!("; {queries} queries answered from it"),
    };
    format!("  snapshot   {saved}{used}")
}

fn watched(watched: &Watched) -> String {
    let known = match (watched.items, watched.age_seconds) {
        (Some(items), Some(seconds)) => format!("{items} known, at most {} old", age(seconds)),
        _ => "no answer yet".to_owned(),
    };
    let failing = match (&watched.error, watched.failing_seconds) {
        (Some(error), Some(seconds)) => format!("; failing for {}: {error}", age(seconds)),
        _ => String::new(),
    };
    format!("    {}: {known}{failing}", watched.query)
}

/// Seconds in the unit a person would choose.
fn age(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

//! `gatewright status`: asks a running sidecar and shows what it says.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::apply::listeners::in_shell;
use crate::diagnostic::{Diagnostic, plain};
use crate::exit;
use crate::settings::{Environment, environment, status_socket_of};
use crate::source::Origin;
use crate::status::model::{
    Certificate, Consul, Hold, Listener, LogLines, Snapshot, Status, Watched, Work,
};
use crate::status::socket;
use crate::status::words::{age, grouped, size};

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
  gatewright status --socket /run/gatewright/status.sock --json

More: `gatewright help states`, `gatewright help status`")]
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
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings.find_and_say(self.socket.is_none())?;
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

    /// The socket. While the settings are wrong a sidecar may run that has read them before: it is
    /// looked for where what can still be read of them says, or at the usual place.
    fn path(&self, environment: &Environment) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        match self.settings.load(environment, |_| {}) {
            Ok(settings) => Ok(settings.status_socket(environment)),
            Err(failure) => {
                let file = self.settings.config.as_deref();
                let Some(path) = file.and_then(|file| status_socket_of(file, environment)) else {
                    return Err(failure);
                };
                failure.print();
                let message = format!(
                    "The settings are wrong, as told above; a sidecar is asked on {} all the same.",
                    path.display()
                );
                super::failure::print_diagnostics(&[Diagnostic::warning(
                    "wrong-settings",
                    message,
                )]);
                Ok(path)
            }
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
    let state = format!("{}: {}", status.state.as_str(), status.meaning());
    lines.push(format!("{bold}{state}{bold:#}"));
    if let Some(why) = &status.not_ready {
        lines.push(format!("  not ready  {why}"));
    }
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
    if let Some(kept) = &status.structure_kept {
        let servers = match &kept.not_current {
            None => "its servers are current",
            Some(why) => why,
        };
        lines.push(format!(
            "  structure  kept for {}, because {}; {servers}",
            age(kept.since_seconds),
            kept.because
        ));
    }
    if let Some(why) = &status.not_applied {
        lines.push(format!("  failed     {why}"));
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
    let waiting: Vec<String> = status.listeners.iter().map(listener).collect();
    section(&mut lines, "listeners", &waiting);
    section(&mut lines, "templates", &status.template_errors);
    section(&mut lines, "left out", &status.quarantined);
    section(&mut lines, "warning", &status.warnings);
    let haproxy = &status.haproxy;
    let version = haproxy.described();
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
        "  changes    {} by commands, {} by a reload, {} divergences put right{}",
        grouped(haproxy.by_commands),
        grouped(haproxy.reloads),
        grouped(haproxy.divergences),
        not_taken(&status.work)
    ));
    section(&mut lines, "leaving", &haproxy.leaving);
    section(&mut lines, "by hand", &haproxy.by_hand);
    section(&mut lines, "drift", &haproxy.drift);
    let source = status.consul.source.word();
    lines.push(format!("  {source:<10} {}", consul(&status.consul)));
    if let Some(why) = &status.consul.load.late {
        lines.push(format!("  {:<10} {why}", ""));
    }
    section(&mut lines, "", &certificates(&status.consul));
    lines.push("  queries".to_owned());
    lines.extend(status.queries.iter().map(watched));
    lines.extend(status.snapshot.iter().map(snapshot));
    lines.push(format!(
        "  sidecar    {} pid {}, up {}, {}",
        status.version,
        status.pid,
        age(status.uptime_seconds),
        size(status.process.resident_bytes)
    ));
    if let Some(address) = &status.listening {
        lines.push(format!("  served on  http://{address}/"));
    }
    let LogLines { summed_up, lost } = status.log;
    if summed_up + lost > 0 {
        lines.push(format!(
            "  log        {} repeated lines summed up, {} lost",
            grouped(summed_up),
            grouped(lost)
        ));
    }
    // Names from the catalog do nothing to a terminal; the first line is ours alone.
    let told = lines.iter().skip(1).map(|line| plain(line));
    let first = lines.iter().take(1).map(|line| line.as_str().into());
    first.chain(told).collect::<Vec<_>>().join("\n") + "\n"
}

fn section(lines: &mut Vec<String>, name: &str, sentences: &[String]) {
    for (index, sentence) in sentences.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        lines.push(format!("  {name:<10} {sentence}"));
    }
}

/// Changes that HAProxy has not taken, if there were any.
fn not_taken(work: &Work) -> String {
    ["refused", "rejected", "unconfirmed", "failed"]
        .iter()
        .filter_map(|word| {
            let count = work
                .changes
                .get(*word)
                .copied()
                .filter(|count| *count > 0)?;
            Some(format!(", {} {word}", grouped(count)))
        })
        .collect()
}

fn consul(consul: &Consul) -> String {
    let failed: u64 = consul.errors.values().sum();
    let classes: Vec<String> = consul
        .errors
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(class, count)| format!("{} {class}", grouped(*count)))
        .collect();
    let failed = match failed {
        0 => String::new(),
        failed => format!(", {} failed ({})", grouped(failed), classes.join(", ")),
    };
    let throttled = match consul.throttled_seconds {
        Some(seconds) => format!("; asks to be left alone for {}", age(seconds)),
        None => String::new(),
    };
    let members: Vec<String> = consul
        .members
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!(", {} {state}", grouped(*count)))
        .collect();
    let asked = match consul.source {
        Origin::Consul => "requests",
        Origin::Serf | Origin::File => "reads",
    };
    format!(
        "{}{}, {} {asked}{failed}{throttled}",
        consul.address,
        members.concat(),
        grouped(consul.requests)
    )
}

fn certificates(consul: &Consul) -> Vec<String> {
    let one = |certificate: &Certificate| {
        let left = certificate.expires_in_seconds;
        let when = match left {
            left if left > 0.0 => format!("expires in {}", age(left)),
            left => format!("expired {} ago", age(-left)),
        };
        let Certificate { purpose, file, .. } = certificate;
        format!("{purpose} certificate {file} {when}")
    };
    consul.certificates.iter().map(one).collect()
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

fn listener(one: &Listener) -> String {
    let meanwhile = match &one.not_kept {
        None => "its section is kept".to_owned(),
        Some(why) => format!("the whole set waits, because {why}"),
    };
    format!(
        "{} ({}): waits for {}, {meanwhile}; ends by `gatewright release --listener {}`. {}",
        one.address,
        one.section,
        age(one.since_seconds),
        in_shell(&one.address),
        one.reason
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::is_unplain;

    // L09
    #[test]
    fn p10_the_text_tells_everything_and_does_nothing_to_a_terminal() {
        let text = describe(&crate::status::model::tests::status());
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.contains("held: the last good configuration is in force"));
        for line in rest.lines() {
            assert!(!line.contains(is_unplain), "{line:?}");
        }
        for part in [
            "revision   0123456789abcdef (confirmed), applied 12 s ago",
            "failed     HAProxy said `canary-config-word`.",
            "refused    revision fedcba9876543210 by validation",
            "waits for  key \"a/b\" since 61 s",
            "guarded    service \"web\": 8 of 10 kept",
            "left out   Instance web</td>",
            "warning    Consul's certificate is not verified.",
            "changes    1,204,567 by commands, 3 by a reload, 1 divergences put right",
            "leaving    web/a",
            "by hand    web/b is in maintenance.",
            "drift      The file /etc/haproxy.cfg was changed.",
            "consul     https://127.0.0.1:8501, 10,000 requests, 2 failed (2 timeout)",
            "client certificate /etc/client.pem expires in 100 s",
            "failing for 2 s",
            "snapshot   written 4 s ago",
            "served on  http://127.0.0.1:9877/",
            "log        1,204 repeated lines summed up, 1 lost",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}

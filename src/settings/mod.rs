//! Settings: read from one TOML file, completed from Consul's environment variables, checked as a
//! whole. Flags are laid over the file by the commands that have them.

mod check;
pub mod environment;
mod error;
pub mod model;
pub mod types;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Place};
use crate::haproxy::address::Address;
use crate::source::Origin;
use crate::text;

pub use environment::Environment;
pub use model::{HandWeights, Kind, Mode, NewServers, Settings};

/// The address asked when nothing names one.
pub const DEFAULT_CONSUL: &str = "http://127.0.0.1:8500";
/// The RPC address asked when nothing names one.
pub const DEFAULT_SERF: &str = "127.0.0.1:7373";
/// The master socket of Debian's HAProxy package.
pub const DEFAULT_MASTER_SOCKET: &str = "/run/haproxy-master.sock";

/// The state directory of root, and of a user who has no place for one.
const SYSTEM_STATE: &str = "/var/lib/gatewright";

/// Where settings come from.
pub struct Sources<'a> {
    /// The settings file, if there is one.
    pub file: Option<&'a Path>,
    /// The process's environment.
    pub environment: &'a Environment,
}

impl Sources<'_> {
    /// Reads, completes and checks. `flags` is laid over the file before the environment fills
    /// what is still open, so flags win over the file and the file over the environment.
    pub fn load(&self, flags: impl FnOnce(&mut Settings)) -> Result<Settings, Vec<Diagnostic>> {
        let nowhere = Path::new("gatewright.toml");
        let (path, source) = match self.file {
            None => (nowhere, String::new()),
            Some(path) => (path, read(path).map_err(|wrong| vec![wrong])?),
        };
        if self.file.is_some() {
            refuse_empty(path, &source).map_err(|wrong| vec![wrong])?;
        }
        let mut settings = parse(path, &source).map_err(|wrong| vec![wrong])?;
        if let Some(path) = self.file {
            refuse_readable_secret(path, &source, &settings).map_err(|wrong| vec![wrong])?;
            let folder = std::path::absolute(path)
                .ok()
                .and_then(|path| path.parent().map(Path::to_owned))
                .unwrap_or_default();
            settings.make_absolute(&folder);
        }
        flags(&mut settings);
        environment::fill(&mut settings, self.environment)?;
        if settings.consul.addresses.is_empty() {
            settings.consul.addresses = vec![DEFAULT_CONSUL.to_owned()];
        }
        if settings.catalog.source == Origin::Serf && settings.serf.addresses.is_empty() {
            settings.serf.addresses = vec![DEFAULT_SERF.to_owned()];
        }
        let here = std::env::current_dir().unwrap_or_default();
        settings.make_absolute(&here);
        let mut wrong = check::check(&settings, path, &source);
        if wrong.is_empty() {
            wrong.extend(one_file_twice(&settings, path, &source));
        }
        if wrong.is_empty() {
            Ok(settings)
        } else {
            Err(wrong)
        }
    }
}

/// Reads the text of a settings file into types.
pub fn parse(path: &Path, source: &str) -> Result<Settings, Diagnostic> {
    toml::from_str(source).map_err(|error| error::diagnose(path, source, &error))
}

/// The status socket that a settings file names which is wrong elsewhere, or the usual one when nothing
/// can be made of it. `None` when the file cannot be read at all.
pub fn status_socket_of(path: &Path, environment: &Environment) -> Option<PathBuf> {
    let source = text::read(path, text::WRITTEN).ok()?;
    let value = |table: &str, key: &str| {
        // What stands on lines of its own is found in a text that is no TOML as well.
        let lines = source.lines().map(str::trim);
        let mut of_table = lines
            .skip_while(|line| *line != format!("[{table}]"))
            .skip(1)
            .take_while(|line| !line.starts_with('['));
        of_table.find_map(|line| {
            let (name, value) = line.split_once('=')?;
            let value: toml::Table = toml::from_str(&format!("value ={value}")).ok()?;
            (name.trim() == key).then(|| value["value"].as_str().map(PathBuf::from))?
        })
    };
    let mut settings = Settings::default();
    settings.status.socket = value("status", "socket");
    settings.state.directory = value("state", "directory");
    let folder = std::path::absolute(path).ok()?.parent()?.to_owned();
    settings.make_absolute(&folder);
    Some(settings.status_socket(environment))
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    text::read(path, text::WRITTEN).map_err(|error| {
        Diagnostic::error(
            "unreadable",
            format!("The settings file cannot be read: {error}."),
        )
        .at(Place::file(path))
        .help("Name an existing file with --config, or leave --config out to use flags and Consul's environment variables only.")
    })
}

/// A file that was cut or never written must not replace everything by defaults.
fn refuse_empty(path: &Path, source: &str) -> Result<(), Diagnostic> {
    let says_something = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    };
    if source.lines().any(says_something) {
        return Ok(());
    }
    Err(Diagnostic::error(
        "empty",
        "The settings file is empty, or holds comments alone.",
    )
    .at(Place::file(path))
    .help("Write at least one setting, or leave --config out to use flags and Consul's environment variables only."))
}

/// Two templates that write one file by different ways: `..`, or folders that are links.
fn one_file_twice(settings: &Settings, path: &Path, source: &str) -> Option<Diagnostic> {
    let place = |destination: &Path| {
        let folder = std::fs::canonicalize(destination.parent()?).ok()?;
        Some(folder.join(destination.file_name()?))
    };
    let mut seen = std::collections::BTreeMap::new();
    for (index, template) in settings.template.iter().enumerate() {
        let Some(place) = place(&template.destination) else {
            continue;
        };
        if let Some(first) = seen.insert(place, index) {
            let keys = ["template", &index.to_string(), "destination"];
            let place = error::locate(source, &keys).map_or_else(
                || Place::file(path),
                |span| Place::bytes(path, source, span),
            );
            let message = format!(
                "Template {} already writes the same file under another path.",
                first + 1
            );
            let help = "Give each template a destination of its own.";
            return Some(Diagnostic::error("conflict", message).at(place).help(help));
        }
    }
    None
}

/// A token in a file that others can read is no secret.
fn refuse_readable_secret(
    path: &Path,
    source: &str,
    settings: &Settings,
) -> Result<(), Diagnostic> {
    let secrets = [
        (
            "consul",
            "token",
            settings.consul.token.is_some(),
            "token_file",
        ),
        (
            "serf",
            "auth_key",
            settings.serf.auth_key.is_some(),
            "auth_key_file",
        ),
        (
            "consul",
            "http_auth",
            settings.consul.http_auth.is_some(),
            "token_file",
        ),
    ];
    let open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    let secret = secrets
        .into_iter()
        .find(|(_, _, is_set, _)| *is_set && open);
    let Some((table, key, _, instead)) = secret else {
        return Ok(());
    };
    let place = error::locate(source, &[table, key])
        .map(|span| Place {
            // The line holds the secret: it is not shown.
            text: format!("{key} = (secret)"),
            column: 1,
            length: key.len(),
            ..Place::bytes(path, source, span)
        })
        .unwrap_or_else(|| Place::file(path));
    Err(Diagnostic::error(
        "readable-secret",
        format!("This file holds `{table}.{key}` and can be read by others."),
    )
    .at(place)
    .help(format!(
        "Run `chmod 600 {}`, or use `{instead}`.",
        path.display()
    )))
}

impl Settings {
    /// Makes every path absolute, seen from `folder`.
    fn make_absolute(&mut self, folder: &Path) {
        let fix = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        };
        self.check.fixtures.iter_mut().for_each(fix);
        let tls = &mut self.consul.tls;
        for path in [
            &mut self.consul.token_file,
            &mut self.serf.auth_key_file,
            &mut self.catalog.file,
            &mut tls.ca_file,
            &mut tls.ca_path,
            &mut tls.client_cert,
            &mut tls.client_key,
            &mut self.templates.partials,
            &mut self.templates.files,
            &mut self.haproxy.master_socket,
            &mut self.haproxy.pid_file,
            &mut self.haproxy.working_directory,
            &mut self.state.directory,
            &mut self.status.socket,
        ]
        .into_iter()
        .flatten()
        {
            fix(path);
        }
        if let Some(Address::File(path)) = &mut self.haproxy.stats_socket {
            fix(path);
        }
        for template in &mut self.template {
            if !template.source.to_string_lossy().starts_with("shipped:") {
                fix(&mut template.source);
            }
            fix(&mut template.destination);
            // Configurations name the other files of the set; `/a//b` is not how they write it.
            template.destination = template.destination.components().collect();
        }
        for path in &mut self.haproxy.config_files {
            fix(path);
        }
        // A bare word is looked up in PATH.
        if self.haproxy.binary.components().count() > 1 {
            fix(&mut self.haproxy.binary);
        }
    }

    /// Where the last good sets and the lock live.
    pub fn state_directory(&self, environment: &Environment) -> PathBuf {
        if let Some(directory) = &self.state.directory {
            // Configurations name files in it; `/a//b` is not how they write it.
            return directory.components().collect();
        }
        match nix::unistd::geteuid().is_root() {
            true => PathBuf::from(SYSTEM_STATE),
            false => of_user(environment).unwrap_or_else(|| PathBuf::from(SYSTEM_STATE)),
        }
    }

    /// Where `gatewright status` asks.
    pub fn status_socket(&self, environment: &Environment) -> PathBuf {
        self.status
            .socket
            .clone()
            .unwrap_or_else(|| self.state_directory(environment).join("status.sock"))
    }
}

/// The state directory below a user's own ones. Where everybody may put files, only one that this user has already.
fn of_user(environment: &Environment) -> Option<PathBuf> {
    let own = |name: &str, below: &str| {
        let folder = Path::new(environment.get(name)?);
        let open = [
            Path::new("/tmp"),
            Path::new("/var/tmp"),
            Path::new("/dev/shm"),
        ];
        let state = folder.join(below);
        let is_shared = open.iter().any(|one| folder.starts_with(one));
        (folder.is_absolute() && (!is_shared || is_own(&state))).then_some(state)
    };
    own("XDG_STATE_HOME", "gatewright").or_else(|| own("HOME", ".local/state/gatewright"))
}

/// Whether it is a directory, no link to one, which nobody else may write to.
fn is_own(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests;

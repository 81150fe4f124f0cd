//! Settings: read from one TOML file, completed from Consul's environment variables, checked as a
//! whole. Flags are laid over the file by the commands that have them.

mod check;
pub mod environment;
mod error;
pub mod model;
pub mod types;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Place};

pub use environment::Environment;
pub use model::{HandWeights, Kind, Mode, NewServers, Settings};

/// The address asked when nothing names one.
pub const DEFAULT_CONSUL: &str = "http://127.0.0.1:8500";
/// The master socket of Debian's HAProxy package.
pub const DEFAULT_MASTER_SOCKET: &str = "/run/haproxy-master.sock";

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
        let here = std::env::current_dir().unwrap_or_default();
        settings.make_absolute(&here);
        let wrong = check::check(&settings, path, &source);
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

fn read(path: &Path) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|error| {
        Diagnostic::error(
            "unreadable",
            format!("The settings file cannot be read: {error}."),
        )
        .at(Place::file(path))
        .help("Name an existing file with --config, or leave --config out to use flags and Consul's environment variables only.")
    })
}

/// A token in a file that others can read is no secret.
fn refuse_readable_secret(
    path: &Path,
    source: &str,
    settings: &Settings,
) -> Result<(), Diagnostic> {
    let (key, secret) = if settings.consul.token.is_some() {
        ("token", true)
    } else {
        ("http_auth", settings.consul.http_auth.is_some())
    };
    let open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if !(secret && open) {
        return Ok(());
    }
    let place = error::locate(source, &["consul", key])
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
        format!("This file holds `consul.{key}` and can be read by others."),
    )
    .at(place)
    .help(format!(
        "Run `chmod 600 {}`, or use `token_file`.",
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
        let tls = &mut self.consul.tls;
        for path in [
            &mut self.consul.token_file,
            &mut tls.ca_file,
            &mut tls.ca_path,
            &mut tls.client_cert,
            &mut tls.client_key,
            &mut self.templates.partials,
            &mut self.templates.files,
            &mut self.haproxy.master_socket,
            &mut self.haproxy.stats_socket,
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
            return directory.clone();
        }
        let home = |name: &str| {
            environment
                .get(name)
                .filter(|value| value.starts_with('/'))
                .map(PathBuf::from)
        };
        if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/lib/gatewright")
        } else if let Some(state) = home("XDG_STATE_HOME") {
            state.join("gatewright")
        } else if let Some(home) = home("HOME") {
            home.join(".local/state/gatewright")
        } else {
            std::env::temp_dir().join(format!("gatewright-{}", nix::unistd::geteuid()))
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

#[cfg(test)]
mod tests;

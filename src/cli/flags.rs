//! Flags that several commands share, laid over the settings file.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::exit;
use crate::settings::model::{Format, Kind, Level, Mode, Template};
use crate::settings::types::{ListenAddress, SecretText};
use crate::settings::{Environment, Settings, Sources};
use crate::source::Origin;

use super::Failure;

/// Where the settings are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SettingsFlag {
    /// The settings file [default: ./gatewright.toml, else /etc/gatewright/gatewright.toml; none where flags say what to render]
    #[arg(short, long, value_name = "FILE", env = "GATEWRIGHT_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Where settings are looked for that nothing names.
const FOUND: [&str; 2] = ["gatewright.toml", "/etc/gatewright/gatewright.toml"];

impl SettingsFlag {
    /// Where `wanted` and nothing is named, takes the settings file that is found.
    pub fn find(&mut self, wanted: bool) -> Result<(), Failure> {
        if let Some(path) = self.found(wanted)? {
            self.config = Some(std::path::absolute(&path).unwrap_or(path));
        }
        Ok(())
    }

    /// The same, and says which.
    pub fn find_and_say(&mut self, wanted: bool) -> Result<(), Failure> {
        let named = self.config.is_some();
        self.find(wanted)?;
        if let (false, Some(path)) = (named, &self.config) {
            let mut error = anstream::stderr().lock();
            let _ = writeln!(error, "{}", reads(path));
        }
        Ok(())
    }

    /// The settings file that is found. One that another user could have put there is refused: it names programs.
    fn found(&self, wanted: bool) -> Result<Option<PathBuf>, Failure> {
        if self.config.is_some() || !wanted {
            return Ok(None);
        }
        let found = FOUND.iter().map(Path::new).find_map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((path.to_owned(), file))
        });
        let Some((path, file)) = found else {
            return Ok(None);
        };
        let owner = file.uid();
        // A link in the current folder may lead to settings whose paths are meant below another one.
        let is_link = path.is_relative()
            && std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        let is_foreign = ![0, nix::unistd::geteuid().as_raw()].contains(&owner);
        if is_link || is_foreign || file.mode() & 0o002 != 0 {
            let why = match (is_link, is_foreign) {
                (true, _) => "is a link".to_owned(),
                (false, true) => format!("belongs to the user {owner}"),
                (false, false) => "can be written by everybody".to_owned(),
            };
            let message = format!(
                "The settings file {} was found and not read, because it {why}.",
                path.display()
            );
            let help = format!("If it is to be used, name it: -c {}.", path.display());
            let wrong = Diagnostic::error("foreign-settings", message).help(help);
            return Err(Failure::one(exit::SETTINGS, wrong));
        }
        Ok(Some(path))
    }

    /// Reads, completes and checks the settings.
    pub fn load(
        &self,
        environment: &Environment,
        flags: impl FnOnce(&mut Settings),
    ) -> Result<Settings, Failure> {
        Sources {
            file: self.config.as_deref(),
            environment,
        }
        .load(flags)
        .map_err(|wrong| Failure::new(exit::SETTINGS, wrong))
    }
}

/// Says which settings file is read.
pub fn reads(file: &Path) -> String {
    format!("Gatewright reads the settings file {}.", file.display())
}

/// What to read from the catalog and what to render.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceFlags {
    /// A service for the shipped template to balance; may be repeated
    #[arg(long = "service", value_name = "NAME")]
    pub services: Vec<String>,
    /// Route by the tags of services, as Fabio does (urlprefix-host/path), with no template of your own
    #[arg(long, conflicts_with_all = ["services", "templates"])]
    pub routes: bool,
    /// Where the shipped template listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// A template instead of the settings' ones; may be repeated
    #[arg(short, long = "template", value_name = "SOURCE[:DESTINATION]")]
    pub templates: Vec<String>,
    /// The folder of partials
    #[arg(long, value_name = "FOLDER")]
    pub partials: Option<PathBuf>,
    /// A Consul agent; may be repeated for fail-over [env: CONSUL_HTTP_ADDR]
    #[arg(long = "consul-addr", value_name = "URL")]
    pub consul: Vec<String>,
    /// A file that holds the ACL token [env: CONSUL_HTTP_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Read Serf instead of Consul: an agent's RPC address; may be repeated for fail-over [env: SERF_RPC_ADDR, with catalog.source]
    #[arg(
        long = "serf-addr",
        value_name = "HOST:PORT",
        conflicts_with = "consul"
    )]
    pub serf: Vec<String>,
    /// The datacenter asked when a template names none
    #[arg(long, value_name = "NAME")]
    pub datacenter: Option<String>,
    /// The HAProxy program that validates and, under supervise, runs
    #[arg(long, value_name = "PROGRAM")]
    pub haproxy: Option<PathBuf>,
}

/// The destination of the shipped template when nothing names one: below the state directory.
pub const OWN_CONFIGURATION: &str = "haproxy.cfg";

impl SourceFlags {
    /// Whether they say what to render, so that no settings file is looked for.
    pub fn say_what_to_render(&self) -> bool {
        self.routes || !self.services.is_empty() || !self.templates.is_empty()
    }

    /// Lays the flags over the settings. With no template at all, the shipped one for HTTP is
    /// used; its result goes below the state directory.
    pub fn apply(&self, settings: &mut Settings, environment: &Environment) {
        let consul = &mut settings.consul;
        if !self.consul.is_empty() {
            consul.addresses = self
                .consul
                .iter()
                .map(|address| {
                    if address.contains("://") {
                        address.clone()
                    } else {
                        format!("http://{address}")
                    }
                })
                .collect();
        }
        if !self.serf.is_empty() {
            settings.catalog.source = Origin::Serf;
            settings.serf.addresses.clone_from(&self.serf);
        }
        if let Some(file) = &self.token_file {
            consul.token_file = Some(file.clone());
            consul.token = None::<SecretText>;
        }
        if let Some(datacenter) = &self.datacenter {
            consul.datacenter = Some(datacenter.clone());
        }
        if let Some(partials) = &self.partials {
            settings.templates.partials = Some(partials.clone());
        }
        if let Some(binary) = &self.haproxy {
            settings.haproxy.binary = binary.clone();
        }
        let parameters = &mut settings.parameters;
        if !self.services.is_empty() {
            let names = self.services.iter().cloned().map(toml::Value::String);
            parameters.insert("services".to_owned(), toml::Value::Array(names.collect()));
        }
        if let Some(listen) = &self.listen {
            parameters.insert("listen".to_owned(), toml::Value::String(listen.clone()));
        }
        let own = settings.state_directory(environment);
        if self.routes {
            route(settings, &own);
        } else if !self.templates.is_empty() {
            settings.template = self
                .templates
                .iter()
                .enumerate()
                .map(|(index, text)| template(text, index, &own))
                .collect();
        } else if settings.template.is_empty() {
            settings.template = vec![Template {
                source: "shipped:http".into(),
                destination: own.join(OWN_CONFIGURATION),
                kind: Kind::Config,
                mode: None,
            }];
            own_socket(settings, &own);
        }
    }
}

/// The shipped set for routes: the configuration, its maps and its pages, all in one folder.
fn route(settings: &mut Settings, own: &Path) {
    const SET: [(&str, &str, Kind); 5] = [
        ("routes", OWN_CONFIGURATION, Kind::Config),
        ("routes-http", "http.map", Kind::Map),
        ("routes-sni", "sni.map", Kind::Map),
        ("routes-noroute", "noroute.html", Kind::Other),
        ("routes-unavailable", "unavailable.html", Kind::Other),
    ];
    let template = |(source, file, kind): (&str, &str, Kind)| Template {
        source: format!("shipped:{source}").into(),
        destination: own.join(file),
        kind,
        mode: None,
    };
    settings.template = SET.map(template).into();
    let folder = own.to_string_lossy().into_owned();
    settings
        .parameters
        .insert("folder".to_owned(), folder.into());
    own_socket(settings, own);
}

fn own_socket(settings: &mut Settings, own: &Path) {
    settings
        .parameters
        .entry("stats_socket".to_owned())
        .or_insert_with(|| own.join("stats.sock").to_string_lossy().into_owned().into());
}

/// `SOURCE[:DESTINATION]`. Without a destination the result is named after the template.
fn template(text: &str, index: usize, own: &Path) -> Template {
    let (shipped, rest) = match text.strip_prefix("shipped:") {
        Some(rest) => ("shipped:", rest),
        None => ("", text),
    };
    let (source, destination) = match rest.split_once(':') {
        Some((source, destination)) => (source, Some(PathBuf::from(destination))),
        None => (rest, None),
    };
    let name = Path::new(source)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|| format!("template-{index}"));
    let name = name.strip_suffix(".hbs").unwrap_or(&name).to_owned();
    let kind = if name.ends_with(".map") {
        Kind::Map
    } else if name.ends_with(".crt-list") {
        Kind::CrtList
    } else {
        Kind::Config
    };
    Template {
        source: PathBuf::from(format!("{shipped}{source}")),
        destination: destination.unwrap_or_else(|| own.join(name)),
        kind,
        mode: None,
    }
}

/// How the sidecar behaves.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SidecarFlags {
    /// How HAProxy is made to take a configuration
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<Mode>,
    /// HAProxy's master socket
    #[arg(long, value_name = "PATH")]
    pub master_socket: Option<PathBuf>,
    /// Where the last good sets, the lock and the status socket are
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Serve metrics, health and the status page by HTTP there
    #[arg(long, value_name = "ADDRESS:PORT", env = "GATEWRIGHT_STATUS_LISTEN")]
    pub status_listen: Option<ListenAddress>,
    /// How much is logged
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub log_level: Option<Level>,
    /// How a log line looks
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<Format>,
}

impl SidecarFlags {
    /// Lays the flags over the settings.
    pub fn apply(&self, settings: &mut Settings) {
        if let Some(mode) = self.mode {
            settings.haproxy.mode = mode;
        }
        if let Some(socket) = &self.master_socket {
            settings.haproxy.master_socket = Some(socket.clone());
        }
        if let Some(directory) = &self.state_dir {
            settings.state.directory = Some(directory.clone());
        }
        if let Some(listen) = self.status_listen {
            settings.status.listen = Some(listen);
        }
        if let Some(level) = self.log_level {
            settings.log.level = level;
        }
        if let Some(format) = self.log_format {
            settings.log.format = format;
        }
    }
}

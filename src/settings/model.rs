//! The settings file as types, with its defaults. `examples/settings/gatewright.toml` shows every
//! key; a test holds the two together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::types::{FileMode, Lasting, ListenAddress, SecretText, Share, Size, Time, Variable};
use crate::catalog::Network;
use crate::catalog::secrets::SECRET_NAMES;
use crate::haproxy::address::Address;
use crate::source::Origin;
use crate::source::serf::Failed;
use crate::source::serf::members::Mapping;

/// The whole of `gatewright.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How Consul is reached and read.
    pub consul: Consul,
    /// How Serf is reached and read, where it is the source.
    pub serf: Serf,
    /// What of the catalog is let through.
    pub catalog: Catalog,
    /// The files of the set; the first `config` one carries the revision.
    pub template: Vec<Template>,
    /// What all templates share.
    pub templates: Templates,
    /// Values that templates read by `(parameter "name")`.
    pub parameters: BTreeMap<String, toml::Value>,
    /// What a new configuration must keep to.
    pub gate: Gate,
    /// What `gatewright check` checks with.
    pub check: Check,
    /// What `gatewright capture` records.
    pub capture: Capture,
    /// What may vanish from the catalog, and for how long it is kept.
    pub guard: Guard,
    /// How HAProxy is reached, validated and told.
    pub haproxy: HAProxy,
    /// When a change is applied.
    pub apply: Apply,
    /// Where Gatewright keeps the last good sets.
    pub state: State,
    /// Where `gatewright status` asks.
    pub status: Status,
    /// What is logged, and how.
    pub log: Log,
}

/// `[consul]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consul {
    /// Agents in order of preference.
    pub addresses: Vec<String>,
    /// The ACL token itself.
    pub token: Option<SecretText>,
    /// A file that holds the ACL token.
    pub token_file: Option<PathBuf>,
    /// `user:password` for HTTP basic authentication.
    pub http_auth: Option<SecretText>,
    /// The datacenter asked when a query names none.
    pub datacenter: Option<String>,
    /// The namespace asked when a query names none (Consul Enterprise).
    pub namespace: Option<String>,
    /// The partition asked when a query names none (Consul Enterprise).
    pub partition: Option<String>,
    /// Whether any server may answer, not only the leader.
    pub stale: bool,
    /// The oldest stale answer that is taken without asking the leader.
    pub max_stale: Time,
    /// How long one blocking query waits at the agent.
    pub wait: Time,
    /// How long connecting may take.
    pub connect_timeout: Time,
    /// How long a body may take from its first byte.
    pub body_timeout: Time,
    /// The most connections to one agent.
    pub max_connections: usize,
    /// How often endpoints that cannot block are read.
    pub poll_interval: Time,
    /// The largest decoded answer.
    pub max_answer: Size,
    /// `[consul.tls]`.
    pub tls: Tls,
}

impl Default for Consul {
    fn default() -> Consul {
        Consul {
            addresses: Vec::new(),
            token: None,
            token_file: None,
            http_auth: None,
            datacenter: None,
            namespace: None,
            partition: None,
            stale: false,
            max_stale: Time::seconds(10),
            wait: Time::seconds(60),
            connect_timeout: Time::seconds(5),
            body_timeout: Time::seconds(10),
            max_connections: 60,
            poll_interval: Time::seconds(15),
            max_answer: Size::mebibytes(16),
            tls: Tls::default(),
        }
    }
}

/// `[consul.tls]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Directory of such files.
    pub ca_path: Option<PathBuf>,
    /// PEM file of the certificate shown to Consul.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// The name Consul's certificate must carry, instead of the address's host.
    pub server_name: Option<String>,
    /// Takes any certificate. Only for trying things out; it is shown in the status for ever.
    pub insecure_skip_verify: bool,
}

/// `[serf]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serf {
    /// RPC addresses of agents in order of preference.
    pub addresses: Vec<String>,
    /// The agents' `rpc_auth` itself.
    pub auth_key: Option<SecretText>,
    /// A file that holds it.
    pub auth_key_file: Option<PathBuf>,
    /// How often all members are read, beside the events.
    pub read_interval: Time,
    /// How long a connection, and an answer, may take.
    pub timeout: Time,
    /// The largest answer.
    pub max_answer: Size,
    /// What becomes of members that Serf calls failed.
    pub failed: Failed,
    /// `[serf.tags]`.
    pub tags: Mapping,
}

impl Default for Serf {
    fn default() -> Serf {
        Serf {
            addresses: Vec::new(),
            auth_key: None,
            auth_key_file: None,
            read_interval: Time::seconds(30),
            timeout: Time::seconds(5),
            max_answer: Size::mebibytes(16),
            failed: Failed::Keep,
            tags: Mapping::default(),
        }
    }
}

/// `[catalog]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalog {
    /// Which catalog is read.
    pub source: Origin,
    /// The file that is read with `source = "file"`.
    pub file: Option<PathBuf>,
    /// Lets instances through whose address is a host name.
    pub allow_host_names: bool,
    /// The networks that instances' addresses must lie in; without any, all but the following.
    pub allow_addresses: Vec<Network>,
    /// The networks that they must not lie in.
    pub deny_addresses: Vec<Network>,
    /// Lets instances through whose address is a loopback address while their node is another machine.
    pub allow_loopback: bool,
    /// Lets instances through that are an address on which the configuration itself, Gatewright, its Consul or its Serf agent listens.
    pub allow_own_listeners: bool,
    /// How many times templates may discover further queries before the change is held.
    pub max_discovery_rounds: u32,
}

/// Where machines in a cloud get their credentials: link-local addresses (AWS, Azure, Google and others; containers of AWS
/// at 169.254.170.2), AWS with IPv6, Alibaba, Azure's host.
const METADATA: [&str; 5] = [
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
];

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            source: Origin::Consul,
            file: None,
            allow_host_names: false,
            allow_addresses: Vec::new(),
            deny_addresses: METADATA
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
            allow_loopback: false,
            allow_own_listeners: false,
            max_discovery_rounds: 8,
        }
    }
}

/// What a template makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A configuration file that HAProxy loads by `-f`.
    #[default]
    Config,
    /// A map file.
    Map,
    /// A list of certificates.
    CrtList,
    /// Any other file that the configuration names.
    Other,
}

/// `[[template]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The template's file, or `shipped:NAME` for one that comes with the program.
    pub source: PathBuf,
    /// The file that HAProxy reads.
    pub destination: PathBuf,
    /// What HAProxy takes it for.
    #[serde(default)]
    pub kind: Kind,
    /// Permission bits; without it those of the existing file, or 0600.
    #[serde(default)]
    pub mode: Option<FileMode>,
}

/// `[templates]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// Directory of partials: `NAME.hbs` is `{{> NAME}}`.
    pub partials: Option<PathBuf>,
    /// The directory below which the helper `file` may read.
    pub files: Option<PathBuf>,
    /// Environment variables that the helpers `env`, `mustEnv` and `envOrDefault` may read.
    pub environment: Vec<String>,
    /// Whether the helper `raw` may write values as they are.
    pub allow_raw: bool,
    /// The largest template or partial.
    pub max_template: Size,
    /// The largest rendered file.
    pub max_output: Size,
    /// How long one rendering may take.
    pub timeout: Time,
}

impl Default for Templates {
    fn default() -> Templates {
        Templates {
            partials: None,
            files: None,
            environment: Vec::new(),
            allow_raw: false,
            max_template: Size(1 << 20),
            max_output: Size::mebibytes(64),
            timeout: Time::seconds(5),
        }
    }
}

/// `[gate]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The smallest number of enabled servers for each named backend; a named one must exist.
    pub min_servers: BTreeMap<String, usize>,
    /// The smallest number of enabled servers for every other backend.
    pub min_servers_default: usize,
    /// Lets a new configuration drop any address that the last good one listened on, at once.
    pub allow_bind_loss: bool,
    /// Refuses a configuration about which `haproxy -c` warns.
    pub strict_warnings: bool,
}

/// `[guard]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Whether what vanishes in mass is held.
    pub enabled: bool,
    /// The largest share of a list that may vanish within the window.
    pub max_loss: Share,
    /// The time over which losses add up.
    pub window: Time,
    /// With fewer instances of a service than this, any loss is held.
    pub min_instances: usize,
    /// How long a loss beyond the share is held.
    pub hold: Lasting,
    /// How long a loss is held that leaves too few.
    pub hold_last: Lasting,
    /// A service that the token sees as long as it has its rights.
    pub canary: String,
    /// The largest share of all instances that all services together may lose within the window.
    pub overall_max_loss: Share,
    /// `[guard.services.NAME]`: other values for single services.
    pub services: BTreeMap<String, GuardedService>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            enabled: true,
            max_loss: Share(30),
            window: Time::seconds(60),
            min_instances: 1,
            hold: Lasting::For(Time::seconds(60)),
            hold_last: Lasting::Forever,
            canary: "consul".to_owned(),
            overall_max_loss: Share(50),
            services: BTreeMap::new(),
        }
    }
}

/// `[guard.services.NAME]`; what is left out is as in `[guard]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardedService {
    /// The largest share that may vanish within the window.
    pub max_loss: Option<Share>,
    /// The time over which losses add up.
    pub window: Option<Time>,
    /// With fewer instances than this, any loss is held.
    pub min_instances: Option<usize>,
    /// How long a loss beyond the share is held.
    pub hold: Option<Lasting>,
    /// How long a loss is held that leaves too few.
    pub hold_last: Option<Lasting>,
}

/// How HAProxy is made to take a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `master` where there is a master socket, else `signal` or `command` where set, else `supervise`.
    #[default]
    Auto,
    /// Gatewright starts HAProxy and is its parent.
    Supervise,
    /// `reload` on the master socket.
    Master,
    /// SIGUSR2 to the process in the pid file.
    Signal,
    /// A command of yours.
    Command,
    /// Nobody is told; the files are kept current.
    None,
}

/// `[haproxy]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HAProxy {
    /// How HAProxy is made to take a set.
    pub mode: Mode,
    /// The program, looked up in PATH when it holds no slash.
    pub binary: PathBuf,
    /// The master socket (`-S`).
    pub master_socket: Option<PathBuf>,
    /// The stats socket, as HAProxy's `stats socket` line writes it; without it the most able one of the
    /// configuration is used.
    pub stats_socket: Option<Address>,
    /// The master's pid file (`-p`).
    pub pid_file: Option<PathBuf>,
    /// The command that reloads HAProxy, as a list of words; no shell reads it.
    pub command: Vec<String>,
    /// Further configuration files that HAProxy loads before ours, which others write.
    pub config_files: Vec<PathBuf>,
    /// Further arguments for validation and, under `supervise`, for the start.
    pub arguments: Vec<String>,
    /// HAProxy's working directory.
    pub working_directory: Option<PathBuf>,
    /// Environment variables that HAProxy gets when Gatewright starts or validates it, besides the usual ones.
    pub environment: Vec<Variable>,
    /// How long `haproxy -c` may take.
    pub validate_timeout: Time,
    /// How long HAProxy may take until it reports the new revision.
    pub confirm_timeout: Time,
    /// How long the reload command may take.
    pub command_timeout: Time,
    /// How long HAProxy may finish its connections when `supervise` ends it.
    pub stop_timeout: Time,
    /// No reload while so many old workers still live.
    pub max_old_workers: usize,
    /// Whether servers and map entries are changed by commands, without a reload.
    pub commands: bool,
    /// Whether a new server takes traffic before HAProxy's own first check of it.
    pub new_servers: NewServers,
    /// What happens to a weight that somebody has set by hand.
    pub hand_weights: HandWeights,
    /// `[haproxy.drain]`.
    pub drain: Drain,
}

/// Whether a new server takes traffic before HAProxy's own first check of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewServers {
    /// At once: the catalog has said that it is healthy.
    #[default]
    Up,
    /// After its first good checks.
    Checked,
}

/// What happens to a weight that somebody has set by hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandWeights {
    /// It stays until the file's weight changes.
    #[default]
    Keep,
    /// The file's weight is set again.
    TakeBack,
}

/// `[haproxy.drain]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long the connections of a removed server may last before it is deleted.
    pub time: Time,
    /// Whether connections that are left then are shut.
    pub shutdown_sessions: bool,
    /// Another time for single backends.
    pub backends: BTreeMap<String, Time>,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            time: Time::seconds(60),
            shutdown_sessions: false,
            backends: BTreeMap::new(),
        }
    }
}

impl Default for HAProxy {
    fn default() -> HAProxy {
        HAProxy {
            mode: Mode::Auto,
            binary: "haproxy".into(),
            master_socket: None,
            stats_socket: None,
            pid_file: None,
            command: Vec::new(),
            config_files: Vec::new(),
            arguments: Vec::new(),
            working_directory: None,
            environment: Vec::new(),
            validate_timeout: Time::seconds(30),
            confirm_timeout: Time::seconds(30),
            command_timeout: Time::seconds(30),
            stop_timeout: Time::seconds(10),
            max_old_workers: 5,
            commands: true,
            new_servers: NewServers::Up,
            hand_weights: HandWeights::Keep,
            drain: Drain::default(),
        }
    }
}

/// `[apply]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Apply {
    /// A reload waits for so long a quiet time, so that changes that come together cost one.
    pub settle: Time,
    /// A reload waits no longer than this, however restless the catalog is.
    pub max_settle: Time,
    /// The shortest time between two reloads. The last change is never lost.
    pub reload_interval: Time,
    /// How often the files and the running HAProxy are compared with what was applied.
    pub compare_interval: Time,
    /// How often every server of the worker is compared with the file.
    pub audit_interval: Time,
}

impl Default for Apply {
    fn default() -> Apply {
        Apply {
            settle: Time::milliseconds(50),
            max_settle: Time::seconds(1),
            reload_interval: Time::seconds(2),
            compare_interval: Time::seconds(10),
            audit_interval: Time::seconds(60),
        }
    }
}

/// `[check]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Catalog files, or folders of them, that `gatewright check` uses besides those that it is given.
    pub fixtures: Vec<PathBuf>,
    /// Codes of lints that are allowed everywhere.
    pub allow: Vec<String>,
}

/// `[capture]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Patterns of keys' paths and metadata's names whose values are not recorded, and of metadata's names whose values
    /// no message shows; `*` stands for anything.
    pub secrets: Vec<String>,
}

impl Default for Capture {
    fn default() -> Capture {
        Capture {
            secrets: SECRET_NAMES.map(str::to_owned).to_vec(),
        }
    }
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The directory; without it `/var/lib/gatewright` for root, else below the user's state directory.
    pub directory: Option<PathBuf>,
    /// How many good sets are kept for a roll-back.
    pub keep: usize,
}

impl Default for State {
    fn default() -> State {
        State {
            directory: None,
            keep: 5,
        }
    }
}

/// `[status]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// The socket; without it `status.sock` in the state directory.
    pub socket: Option<PathBuf>,
    /// Where metrics, health and the status page are served by HTTP; without it nowhere.
    pub listen: Option<ListenAddress>,
    /// The names under which the listener may be asked for, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Only what needs somebody.
    Error,
    /// Also what may need somebody.
    Warn,
    /// Also each change.
    #[default]
    Info,
    /// Also each answer and each decision.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// How it looks.
    pub format: Format,
}

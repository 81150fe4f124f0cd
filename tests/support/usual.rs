//! The template and the settings that most tests of one service behind one supervised HAProxy start from.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Outcome;
use super::gatewright::Setup;
use super::haproxies::oldest;

/// The service `web`, and a key that shows in a comment. `@bind@` is where HAProxy listens; see [`filled`].
pub const TEMPLATE: &str = r#"defaults
    mode http
    option idle-close-on-response
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    default_backend web

backend web
    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
"#;

/// A template with the entrance and the setup's directory filled in.
pub fn filled(template: &str, setup: &Setup, entrance: SocketAddr) -> String {
    template
        .replace("@bind@", &entrance.to_string())
        .replace("@dir@", setup.path("").trim_end_matches('/'))
}

/// What the settings say; all but the addresses has a usual value.
pub struct Usual<'a> {
    /// Consul's.
    pub addresses: &'a [String],
    /// Further lines of the section `[consul]`.
    pub consul: &'a str,
    /// The template, below the directory.
    pub source: &'a str,
    /// What it becomes.
    pub destination: &'a str,
    /// The oldest HAProxy, if nothing else is said.
    pub binary: Option<PathBuf>,
    /// Further lines of the section `[haproxy]`.
    pub haproxy: &'a str,
    /// Further sections.
    pub more: &'a str,
}

impl<'a> Usual<'a> {
    /// The usual ones.
    pub fn of(addresses: &'a [String]) -> Usual<'a> {
        Usual {
            addresses,
            consul: "",
            source: "haproxy.cfg.hbs",
            destination: "haproxy.cfg",
            binary: None,
            haproxy: "",
            more: "",
        }
    }

    /// Writes them.
    pub fn write(&self, setup: &Setup) -> Outcome<()> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => oldest().program().to_owned(),
        };
        setup.settings(&format!(
            "[consul]\naddresses = {:?}\n{}\n\
             [[template]]\nsource = \"{}\"\ndestination = \"{{dir}}/{}\"\n\n\
             [haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\nmaster_socket = \"{{dir}}/master.sock\"\n{}\n\
             [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\n\
             [state]\ndirectory = \"{{dir}}/state\"\n\n{}",
            self.addresses,
            self.consul,
            self.source,
            self.destination,
            binary.display(),
            self.haproxy,
            self.more,
        ))
    }
}

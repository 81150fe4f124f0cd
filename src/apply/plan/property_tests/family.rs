//! The family of configurations that the plan is tried on: small sites whose servers come and go, and
//! now and then a line that commands cannot say.
//!
//! Each is a value first and a text second, so that the fake worker is laid out from the value and
//! shares no parser with the plan.

use std::fmt;
use std::path::Path;

use gatewright::apply::set::{Role, SetFile};
use proptest::prelude::*;

/// What one set of files says.
#[derive(Clone, PartialEq, Eq)]
pub struct Site {
    pub backends: Vec<Lines>,
    pub map: Vec<(String, String)>,
    /// The patterns of its one ACL file.
    pub acl: Vec<String>,
    /// A line that means nothing.
    pub comment: u8,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    pub name: String,
    pub balance: usize,
    pub defaults: usize,
    /// In the order of the file.
    pub servers: Vec<Line>,
    /// The port of a `server-template` of two, and whether it is checked.
    pub template: Option<(u16, bool)>,
    /// Whether another `default-server` line stands before the last server.
    pub between: bool,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    /// The last part of its address; 0 is a name, which is resolved to 127.0.0.1.
    pub host: u8,
    pub port: u16,
    pub weight: Option<u16>,
    pub id: Option<u32>,
    pub disabled: bool,
    pub options: usize,
}

/// Lines of a backend, and whether HAProxy takes servers there at run time.
pub const BALANCES: [(&str, bool); 8] = [
    ("", true),
    ("balance leastconn", true),
    ("balance random", true),
    ("balance uri\n    hash-type consistent", true),
    ("balance first", true),
    ("balance roundrobin", true),
    ("balance static-rr", false),
    ("balance source", false),
];

/// Words of a `default-server` line, cut into keywords with their values.
pub const DEFAULTS: [&str; 6] = [
    "",
    "check",
    "inter 3s|weight 5",
    "send-proxy",
    "",
    "disabled",
];

/// Words of a server line.
pub const OPTIONS: [&str; 9] = [
    "",
    "check",
    "check|inter 5s",
    "maxconn 20",
    "backup",
    "no-send-proxy",
    "check|fall 2|rise 3",
    "source 127.0.0.2 interface lo",
    "cookie c",
];

/// Patterns, some with what means something on the command line.
const PATTERNS: [&str; 8] = ["/a", "/b", "/c", "/a b", "/a;b", "/a\\b", "/a\\", "/a "];

/// The words that stand before the last server when something stands there.
pub const BETWEEN: &str = "maxconn 7";

impl fmt::Debug for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends: String = self.backends.iter().map(Lines::text).collect();
        write!(out, "\n{backends}map {:?}\nacl {:?}\n", self.map, self.acl)
    }
}

impl Site {
    /// Its files, for a directory that holds the sockets.
    pub fn files(&self, directory: &Path) -> Vec<SetFile> {
        let file = |name: &str, role, text| SetFile {
            destination: directory.join(name),
            role,
            mode: None,
            text,
        };
        let map: String = (self
            .map
            .iter()
            .map(|(key, value)| format!("  {key} {value}\n")))
        .collect();
        // What means nothing stands between the patterns.
        let patterns = self.acl.iter();
        let patterns: String = patterns
            .map(|pattern| format!("#{}\n\t {pattern}\n\n", self.comment))
            .collect();
        vec![
            file("h.cfg", Role::Config, self.text(directory)),
            file("m.map", Role::Map, map),
            file("p.acl", Role::Other, patterns),
        ]
    }

    fn text(&self, directory: &Path) -> String {
        let directory = directory.display();
        let backends: String = self.backends.iter().map(Lines::text).collect();
        format!(
            "# {}\nglobal\n    stats socket {directory}/stats.sock level admin\n    hard-stop-after 5s\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 20s\n    timeout server 20s\n\
             frontend f\n    bind {directory}/f.sock\n    \
             http-request set-header x %[path,map({directory}/m.map)]\n    \
             acl p path -i -f {directory}/p.acl\n    http-request deny if p\n    default_backend b0\n\
             {backends}",
            self.comment
        )
    }
}

impl Lines {
    fn text(&self) -> String {
        let mut text = format!("backend {}\n", self.name);
        let mut say = |line: &str| {
            if !line.is_empty() {
                text.push_str(&format!("    {}\n", line.replace('|', " ")));
            }
        };
        say(BALANCES[self.balance].0);
        if !DEFAULTS[self.defaults].is_empty() {
            say(&format!("default-server {}", DEFAULTS[self.defaults]));
        }
        for (at, server) in self.servers.iter().enumerate() {
            if self.between && at > 0 && at + 1 == self.servers.len() {
                say(&format!("default-server {BETWEEN}"));
            }
            say(&server.text());
        }
        if let Some((port, checked)) = self.template {
            let check = if checked { " check" } else { "" };
            say(&format!("server-template t 1-2 127.0.0.1:{port}{check}"));
        }
        text
    }
}

impl Line {
    fn text(&self) -> String {
        let host = match self.host {
            0 => "localhost".to_owned(),
            host => format!("127.0.0.{host}"),
        };
        let mut text = format!("server {} {host}:{}", self.name, self.port);
        if let Some(weight) = self.weight {
            text.push_str(&format!(" weight {weight}"));
        }
        if let Some(id) = self.id {
            text.push_str(&format!(" id {id}"));
        }
        if self.disabled {
            text.push_str(" disabled");
        }
        format!("{text} {}", OPTIONS[self.options])
    }
}

/// Several sites that follow one another: mostly the same backends, whose servers come and go.
pub fn sites(count: usize) -> impl Strategy<Value = Vec<Site>> {
    let heads = prop::collection::vec(head(), 2..4);
    (heads, prop::collection::vec(any::<u8>(), 8)).prop_flat_map(move |(heads, tastes)| {
        let one = heads
            .into_iter()
            .map(|head| servers(head, tastes.clone()).boxed())
            .collect::<Vec<_>>();
        let map = prop::collection::vec((0..5_u8, 0..3_u8), 0..4);
        let acl = prop::collection::vec(prop::sample::select(PATTERNS.to_vec()), 0..4);
        let site = (one, map, acl, 0..3_u8).prop_map(|(backends, map, acl, comment)| Site {
            backends,
            map: entries(map),
            acl: acl.into_iter().map(str::to_owned).collect(),
            comment,
        });
        prop::collection::vec(site, count)
    })
}

fn entries(map: Vec<(u8, u8)>) -> Vec<(String, String)> {
    // Behind blanks `#` is a key.
    let key = |key: u8| match key {
        0 => "#".to_owned(),
        key => format!("/{key}"),
    };
    let entry = |(number, value)| (key(number), format!("v{value}"));
    map.into_iter().map(entry).collect()
}

fn head() -> impl Strategy<Value = Lines> {
    let defaults = prop_oneof![12 => 0..5_usize, 1 => Just(5)];
    let balance = prop_oneof![20 => 0..6_usize, 1 => 6..8_usize];
    (balance, defaults, any::<bool>(), 0..20_u8).prop_map(|(balance, defaults, template, kind)| {
        Lines {
            name: String::new(),
            balance,
            defaults,
            servers: Vec::new(),
            template: (template && kind < 4).then_some((8100, false)),
            between: false,
        }
    })
}

/// The backend with some servers. What a server is like is mostly a matter of its name, as it is in
/// practice; now and then one differs.
fn servers(head: Lines, tastes: Vec<u8>) -> impl Strategy<Value = Lines> {
    let rare = |many: u32| prop::bool::weighted(1.0 / f64::from(many));
    let weight = prop_oneof![
        3 => Just(None),
        3 => prop::sample::select(vec![0, 1, 5, 100, 256]).prop_map(Some)
    ];
    let line = (
        prop_oneof![100 => 1..4_u8, 1 => Just(0)],
        8001..8004_u16,
        weight,
        prop::bool::weighted(0.2),
        rare(100),
        rare(100),
        0..OPTIONS.len(),
    );
    let lines = prop::collection::vec(prop::option::weighted(0.6, line), 8);
    (lines, rare(25), rare(60), rare(60), rare(60)).prop_map(
        move |(lines, reversed, other, moved, between)| {
            let mut backend = head.clone();
            backend.between = between;
            for (number, line) in lines.into_iter().enumerate() {
                // Whether a server is reached by a name is a matter of the server, and such a line rarely
                // comes, goes or changes.
                let taste = usize::from(tastes[number]);
                let by_name = taste % 23 == 0;
                let kept = by_name.then_some((1, 8001, None, false, false, false, 0));
                let Some((host, port, weight, disabled, id_differs, differs, options)) =
                    line.or(kept)
                else {
                    continue;
                };
                let own = 11 + number as u32;
                let named = by_name && !differs;
                backend.servers.push(Line {
                    name: format!("s{number}"),
                    host: if named { 0 } else { host },
                    port: if named { 8001 } else { port },
                    weight: if named { None } else { weight },
                    id: match id_differs {
                        _ if taste % 16 == 1 => None,
                        true => Some(11 + (number as u32 + 1) % 8),
                        false => Some(own),
                    },
                    disabled: disabled && !named,
                    options: match differs {
                        true => options,
                        false => taste / 16 % (OPTIONS.len() - 1),
                    },
                });
            }
            let mut seen = std::collections::BTreeSet::new();
            backend
                .servers
                .retain(|line| line.id.is_none_or(|id| seen.insert(id)));
            if reversed {
                backend.servers.reverse();
            }
            if other {
                backend.balance = (backend.balance + 1) % BALANCES.len();
            }
            if moved && let Some((port, _)) = &mut backend.template {
                *port += 1;
            }
            backend
        },
    )
}

/// Gives each backend the name of its place.
pub fn named(mut sites: Vec<Site>) -> Vec<Site> {
    for site in &mut sites {
        for (number, backend) in site.backends.iter_mut().enumerate() {
            backend.name = format!("b{number}");
        }
    }
    sites
}

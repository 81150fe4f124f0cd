//! The servers of a backend as the configuration wants them, and how what a worker runs differs from
//! that. Pure; it knows no command.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::haproxy::config::{Backend, Config, Section, Server};
use crate::haproxy::runtime::{Dynamic, ServerRow, algorithm};

/// HAProxy's weight of a server whose line names none (2.6 configuration manual 5.2 "weight").
const WEIGHT: u16 = 1;

/// One server, every option spelt out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its address; names are HAProxy's to resolve and are never wanted here.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its weight, 0 to 256.
    pub weight: u16,
    /// The id that the line gives it.
    pub id: Option<u32>,
    /// Whether the line keeps it out of traffic.
    pub disabled: bool,
    /// Every other keyword with its values, those of `default-server` included: `add server` does not
    /// inherit them (HAProxy 2.6 to 3.2). Servers of a backend that have the same ones share them.
    pub options: Arc<BTreeMap<String, Vec<String>>>,
}

/// The servers of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The backend.
    pub backend: String,
    /// Its servers by name.
    pub servers: BTreeMap<String, Wanted>,
    /// Server lines that cannot be said at run time, by name, with the reason.
    pub unclear: BTreeMap<String, String>,
    /// Prefix, first and last number of each `server-template`.
    templates: Vec<(String, u32, u32)>,
    /// Why no server may be added or removed at run time, if so.
    pub fixed: Option<String>,
    /// Whether servers stand on a ring by their ids: `random` and consistent hashing.
    pub ring: bool,
    /// Whether the order of the server lines can decide where traffic goes.
    pub order_counts: bool,
    /// Whether the whole backend is switched off.
    pub disabled: bool,
}

/// One way in which what runs differs from what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The server is not there.
    Missing,
    /// It has another address or port.
    Address,
    /// It has another weight.
    Weight {
        /// The one it has.
        runs: u16,
    },
    /// It serves although the file keeps it out of traffic.
    Serves,
    /// It is kept out of traffic although the file does not say so: `drain` or `maint`.
    Held(&'static str),
    /// It has another id, which decides where consistent hashing sends a client.
    Id,
    /// It is not in the file and takes traffic.
    Extra,
    /// It is not in the file and takes no new traffic: it was removed and may still have connections.
    Leaving,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing => out.write_str("is not there"),
            Difference::Address => out.write_str("has another address"),
            Difference::Weight { runs } => write!(out, "has the weight {runs}"),
            Difference::Serves => out.write_str("serves although the file disables it"),
            Difference::Held(state) => write!(out, "is in {state}"),
            Difference::Id => out.write_str("has another id"),
            Difference::Extra => out.write_str("is not in the file and serves"),
            Difference::Leaving => out.write_str("was removed and leaves"),
        }
    }
}

impl Pool {
    /// The servers of a section of a configuration.
    pub fn of(config: &Config, section: &Section) -> Pool {
        let backend = config.backend(section);
        let hash_type = last_words(config, section, "hash-type");
        let mut pool = Pool {
            backend: backend.name.clone(),
            servers: BTreeMap::new(),
            unclear: BTreeMap::new(),
            templates: Vec::new(),
            fixed: match algorithm(&backend.balance, hash_type.as_deref()) {
                Dynamic::Yes => None,
                Dynamic::No(why) => Some(why.to_owned()),
            },
            ring: false,
            order_counts: false,
            disabled: backend.disabled || backend.conditional,
        };
        let lines = backend.servers.iter().map(|server| server.defaults_before);
        let defaults_last = lines.clone().max() == lines.min();
        let mut shared: Option<Arc<BTreeMap<String, Vec<String>>>> = None;
        for server in &backend.servers {
            if let Some((low, high)) = server.template {
                pool.templates.push((server.name.clone(), low, high));
                continue;
            }
            match wanted(&backend, server) {
                Ok(mut wanted) if defaults_last => {
                    match &shared {
                        Some(shared) if *shared == wanted.options => {
                            wanted.options = Arc::clone(shared);
                        }
                        _ => shared = Some(Arc::clone(&wanted.options)),
                    }
                    pool.servers.insert(server.name.clone(), wanted);
                }
                Ok(_) => {
                    let why = "`default-server` stands between the servers".to_owned();
                    pool.unclear.insert(server.name.clone(), why);
                }
                Err(why) => {
                    pool.unclear.insert(server.name.clone(), why);
                }
            }
        }
        let without_id = pool.servers.values().any(|server| server.id.is_none());
        pool.ring = pool.fixed.is_none()
            && !matches!(
                backend.balance.first().map(String::as_str),
                None | Some("roundrobin" | "leastconn" | "first")
            );
        let by_order = backend.balance.first().map(String::as_str) == Some("first")
            || hash_type.is_some()
            || pool.fixed.is_some();
        pool.order_counts = pool.fixed.is_some() || (by_order && without_id);
        pool
    }

    /// Whether a running server belongs to a line of this backend, clear or not.
    pub fn names(&self, server: &str) -> bool {
        let of_template = |(prefix, low, high): &(String, u32, u32)| {
            let number = server.strip_prefix(prefix.as_str());
            number
                .and_then(|number| number.parse::<u32>().ok())
                .is_some_and(|number| (*low..=*high).contains(&number))
        };
        self.servers.contains_key(server)
            || self.unclear.contains_key(server)
            || self.templates.iter().any(of_template)
    }

    /// Whether the `server-template` lines make the same servers.
    pub fn same_templates(&self, other: &Pool) -> bool {
        self.templates == other.templates
    }

    /// How what runs differs from this, by server. `rows` are those of this backend.
    pub fn compare<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a ServerRow>,
    ) -> Vec<(String, Difference)> {
        let rows: BTreeMap<&str, &ServerRow> = rows
            .into_iter()
            .map(|row| (row.server.as_str(), row))
            .collect();
        let mut found = Vec::new();
        for (name, wanted) in &self.servers {
            let differences = match rows.get(name.as_str()) {
                None => vec![Difference::Missing],
                Some(row) => wanted.compare(row),
            };
            found.extend(differences.into_iter().map(|what| (name.clone(), what)));
        }
        for row in rows.values().filter(|row| !self.names(&row.server)) {
            let what = match row.admin.serves() {
                true => Difference::Extra,
                false => Difference::Leaving,
            };
            found.push((row.server.clone(), what));
        }
        found
    }
}

impl Wanted {
    fn compare(&self, row: &ServerRow) -> Vec<Difference> {
        let mut found = Vec::new();
        if row.address != Some(self.address) || row.port != self.port {
            found.push(Difference::Address);
        }
        if row.user_weight != self.weight {
            found.push(Difference::Weight {
                runs: row.user_weight,
            });
        }
        if self.id.is_some_and(|id| id != row.id) {
            found.push(Difference::Id);
        }
        let in_maintenance = row.admin.forced_maint();
        if self.disabled && !in_maintenance {
            found.push(Difference::Serves);
        } else if !self.disabled && is_held(row) {
            found.push(Difference::Held(match in_maintenance {
                true => "maint",
                false => "drain",
            }));
        }
        found
    }
}

/// Whether it is kept out of traffic by a command or by `disabled`; what a tracked server or a resolver
/// does is theirs.
pub fn is_held(row: &ServerRow) -> bool {
    row.admin.forced_maint() || row.admin.forced_drain()
}

/// What a directive of a section or, failing that, of its defaults says last.
fn last_words(config: &Config, section: &Section, keyword: &str) -> Option<Vec<String>> {
    std::iter::once(section)
        .chain(config.defaults_of(section))
        .find_map(|section| section.all(keyword).last())
        .map(|directive| directive.rest(1))
}

/// A server line with everything that is inherited, or why it cannot be said at run time.
fn wanted(backend: &Backend, server: &Server) -> Result<Wanted, String> {
    if server.conditional {
        return Err("it stands in a conditional block".to_owned());
    }
    if server.opaque {
        return Err("its line holds an environment variable".to_owned());
    }
    let address = ["ipv4@", "ipv6@"]
        .iter()
        .find_map(|prefix| server.address.strip_prefix(prefix))
        .unwrap_or(&server.address);
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = bare
        .parse()
        .map_err(|_| format!("its address {} is no IP address", server.address))?;
    let port = server.port.as_deref().unwrap_or_default();
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => port,
        _ => return Err(format!("its port {port:?} is no number from 1 to 65535")),
    };
    let mut options = options(&backend.default_keywords(), &server.keywords);
    let number = |options: &mut BTreeMap<String, Vec<String>>, name: &str| {
        options
            .remove(name)
            .map(|values| values.concat())
            .map(|text| match text.parse::<u32>() {
                Ok(number) => Ok(number),
                Err(_) => Err(format!("its {name} {text:?} is no number")),
            })
            .transpose()
    };
    let weight = match number(&mut options, "weight")? {
        None => WEIGHT,
        Some(weight @ 0..=256) => weight as u16,
        Some(weight) => return Err(format!("its weight {weight} is above 256")),
    };
    let id = number(&mut options, "id")?;
    Ok(Wanted {
        address,
        port,
        weight,
        id,
        disabled: server.disabled,
        options: Arc::new(options),
    })
}

/// Keywords with their values, the later ones in force, without those that a later `no-…` takes back.
fn options(defaults: &[Vec<String>], own: &[Vec<String>]) -> BTreeMap<String, Vec<String>> {
    let mut options = BTreeMap::new();
    for group in defaults.iter().chain(own) {
        let Some((keyword, values)) = group.split_first() else {
            continue;
        };
        match keyword.as_str() {
            // The state of a server is told on its own.
            "enabled" | "disabled" => {}
            // HAProxy reads these only right after `source` and its address.
            "interface" | "usesrc" => {
                let source: &mut Vec<String> = options.entry("source".to_owned()).or_default();
                source.extend(group.iter().cloned());
            }
            negated if takes_back(negated).is_some() => {
                options.remove(takes_back(negated).unwrap_or_default());
            }
            _ => {
                options.insert(keyword.clone(), values.to_vec());
            }
        }
    }
    options
}

/// The keyword that a `no-…` only takes back. Others, such as `no-tlsv10`, are options of their own.
fn takes_back(negated: &str) -> Option<&str> {
    const TAKEN_BACK: [&str; 12] = [
        "agent-check",
        "backup",
        "check",
        "check-send-proxy",
        "check-ssl",
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2-ssl",
        "send-proxy-v2-ssl-cn",
        "ssl",
        "tfo",
        "check-via-socks4",
    ];
    let keyword = negated.strip_prefix("no-")?;
    TAKEN_BACK.contains(&keyword).then_some(keyword)
}

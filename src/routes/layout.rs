//! What of the table becomes a backend, a map entry or a listener.
//!
//! Targets with the same options share a backend. A route of all the instances of a service shares its backend
//! with every other such route, so that another path for a service is another entry of a map; what
//! differs from that has backends of its own. Names depend on what a backend is for and not on who is in
//! it, so that instances come and go without a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::weights::{is_fine, scaled};
use super::{HostHeader, Options, Route, Rules, Source, Table, Target, reserved};

/// Of so many requests a split counts.
pub const WHOLE: u32 = 1_000_000;

/// In place of a backend: the request has no route, although others take more hosts. No backend is named so.
pub const NOWHERE: &str = "/";

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// Requests: what a lookup of the longest beginning finds, and the backend. A key is a path for every host
    /// (`/x`), else the length of the host or its pattern, both and the path (`3:a.b/x`, `5:*.a.b/`).
    pub http: Vec<(String, String)>,
    /// Names that TLS clients ask for, or their patterns, and the backend.
    pub sni: Vec<(String, String)>,
    /// TLS connections for one backend that go to another one, in order.
    pub sni_splits: Vec<Split>,
    /// Requests for one backend that go to another one, in order.
    pub splits: Vec<Split>,
    /// One for each port that may be used, whether or not it is.
    pub listeners: Vec<Listener>,
    /// By name.
    pub backends: BTreeMap<String, Backend>,
}

/// So many of a million requests for one backend go to another one instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// For which.
    pub from: String,
    /// To which.
    pub to: String,
    /// Of [`WHOLE`].
    pub part: u32,
}

/// A TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Where connections go.
    pub backend: String,
    /// Those that go elsewhere.
    pub splits: Vec<Split>,
}

/// Servers with the same options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Backend {
    /// Whose they are.
    pub services: BTreeSet<String>,
    /// The options.
    pub options: Options,
    /// The targets that get requests, and their weights.
    pub servers: Vec<(Arc<Target>, u16)>,
}

/// What keeps targets of one route apart: their options, the target itself where the Host header names it,
/// and whether their share is too small to be a weight beside the others.
type Apart = (bool, Options, String);

/// Lays the table out. `name` makes a legal and unique name of a service's name and what is special.
pub fn lay_out(
    table: &Table,
    rules: &Rules,
    name: impl Fn(&str, Option<&str>) -> String,
) -> Layout {
    let mut layout = Layout::default();
    let members = members(table);
    let mut used = BTreeMap::new();
    let mut found: Vec<(&Source, String)> = Vec::new();
    for route in &table.routes {
        let groups = groups(route);
        let named: Vec<(String, &Apart, &Vec<&Arc<Target>>)> = groups
            .iter()
            .enumerate()
            .map(|(index, (apart, targets))| {
                let alone = groups.len() == 1;
                let backend = match &route.source {
                    Source::Tcp { port } if index == 0 => format!("tcp::{port}"),
                    source => backend_of(source, apart, targets, alone, &members, &name),
                };
                (backend, apart, targets)
            })
            .collect();
        let Some((main, ..)) = named.first() else {
            continue;
        };
        let splits = splits(&named);
        match &route.source {
            Source::Tcp { port } => {
                used.insert(*port, (main.clone(), splits));
            }
            Source::Sni { .. } => layout.sni_splits.extend(splits),
            Source::Http { .. } => layout.splits.extend(splits),
        }
        layout.enter(&route.source, main);
        found.push((&route.source, main.clone()));
        for (backend, apart, targets) in named {
            layout
                .backends
                .entry(backend)
                .or_insert_with(|| filled(apart, targets));
        }
    }
    let found: Vec<(&Source, &str)> = found
        .iter()
        .map(|(source, backend)| (*source, backend.as_str()))
        .collect();
    for (source, backend) in reserved::entries(&rules.owners, &found) {
        layout.enter(&source, backend.unwrap_or(NOWHERE));
    }
    for port in &rules.ports {
        let unused = format!("tcp::{port}");
        if !used.contains_key(port) {
            layout.backends.insert(
                unused.clone(),
                Backend {
                    options: Options {
                        protocol: super::Protocol::Tcp,
                        ..Options::default()
                    },
                    ..Backend::default()
                },
            );
        }
        let (backend, splits) = used.remove(port).unwrap_or((unused, Vec::new()));
        layout.listeners.push(Listener {
            port: *port,
            backend,
            splits,
        });
    }
    layout
}

impl Layout {
    /// An entry for the lookup of requests or of names.
    fn enter(&mut self, source: &Source, backend: &str) {
        let (list, key) = match source {
            Source::Tcp { .. } => return,
            Source::Sni { host } => (&mut self.sni, host.clone()),
            Source::Http { host, path } => match host.len() {
                0 => (&mut self.http, path.clone()),
                length => (&mut self.http, format!("{length}:{host}{path}")),
            },
        };
        list.push((key, backend.to_owned()));
    }
}

/// All instances of each service that have any route, whatever their state.
fn members(table: &Table) -> BTreeMap<&str, BTreeSet<(&str, &str)>> {
    let mut members: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for target in table.routes.iter().flat_map(|route| &route.targets) {
        let of_service = members.entry(&target.service).or_default();
        of_service.insert((&target.node, &target.id));
    }
    members
}

fn groups(route: &Route) -> BTreeMap<Apart, Vec<&Arc<Target>>> {
    let mut groups: BTreeMap<(Options, String), Vec<&Arc<Target>>> = BTreeMap::new();
    for target in &route.targets {
        let own = match target.options.host {
            Some(HostHeader::Target) => format!("{}:{}", target.address, target.port),
            _ => String::new(),
        };
        let key = (target.options.clone(), own);
        groups.entry(key).or_default().push(target);
    }
    let mut apart: BTreeMap<Apart, Vec<&Arc<Target>>> = BTreeMap::new();
    for ((options, own), targets) in groups {
        let largest = targets.iter().map(|one| one.share).fold(0.0, f64::max);
        for target in targets {
            let key = (is_fine(target.share, largest), options.clone(), own.clone());
            apart.entry(key).or_default().push(target);
        }
    }
    apart
}

fn backend_of(
    source: &Source,
    (fine, options, own): &Apart,
    targets: &[&Arc<Target>],
    alone: bool,
    members: &BTreeMap<&str, BTreeSet<(&str, &str)>>,
    name: &impl Fn(&str, Option<&str>) -> String,
) -> String {
    let service = targets.first().map_or("", |one| one.service.as_str());
    let here: BTreeSet<(&str, &str)> = targets
        .iter()
        .map(|one| (one.node.as_str(), one.id.as_str()))
        .collect();
    let whole = alone
        && own.is_empty()
        && targets
            .iter()
            .all(|one| one.service == service && one.weight.is_none())
        && members.get(service) == Some(&here);
    let special = options.to_string();
    match (whole, special.is_empty()) {
        (true, true) => name(service, None),
        (true, false) => name(service, Some(&special)),
        // A source holds a slash or a colon, so no options look like it.
        (false, _) => {
            let fine = if *fine { "fine" } else { "" };
            let special = format!("{source} {special} {own} {fine}");
            name(service, Some(special.trim_end()))
        }
    }
}

/// All but the first get their part of what is left.
fn splits(named: &[(String, &Apart, &Vec<&Arc<Target>>)]) -> Vec<Split> {
    let share = |targets: &[&Arc<Target>]| targets.iter().map(|one| one.share).sum::<f64>();
    let Some(((main, ..), others)) = named.split_first() else {
        return Vec::new();
    };
    let mut left = 1.0;
    let mut splits = Vec::new();
    for (backend, _, targets) in others {
        let own = share(targets);
        // Between 0 and a million.
        let part = (own / left * f64::from(WHOLE)).round();
        let part = part.clamp(0.0, f64::from(WHOLE)) as u32;
        left -= own;
        if part > 0 {
            splits.push(Split {
                from: main.clone(),
                to: backend.clone(),
                part,
            });
        }
    }
    splits
}

fn filled((_, options, _): &Apart, targets: &[&Arc<Target>]) -> Backend {
    let up: Vec<&Arc<Target>> = targets
        .iter()
        .filter(|one| one.up && one.options.redirect.is_none())
        .copied()
        .collect();
    let weights = scaled(&up.iter().map(|one| one.share).collect::<Vec<f64>>());
    Backend {
        services: targets.iter().map(|one| one.service.clone()).collect(),
        options: options.clone(),
        servers: up.into_iter().cloned().zip(weights).collect(),
    }
}

//! Hosts that belong to an owner: a request for one never falls through to a route that others claim for more hosts.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::owners::are_named;
use super::{Owner, Source};

/// Further entries for the lookup of the hosts that owners name: the routes of more hosts that an owner names as well,
/// with their backends, and, where none of those takes every path, the end of the search.
pub fn entries<'a>(
    owners: &[Owner],
    routes: &[(&'a Source, &'a str)],
) -> Vec<(Source, Option<&'a str>)> {
    let named: Vec<&(&Source, &str)> = routes
        .iter()
        .filter(|(source, _)| are_named(owners, source))
        .collect();
    let mut entries = Vec::new();
    for (host, paths) in hosts(owners, routes) {
        for sni in [false, true] {
            // Passed through by its name, a connection has no path.
            let paths = match sni {
                true => BTreeSet::from(["/"]),
                false => paths.clone(),
            };
            let own = |source: &Source| match source {
                Source::Http { host: own, .. } => !sni && *own == host,
                Source::Sni { host: own } => sni && *own == host,
                Source::Tcp { .. } => false,
            };
            let own = named.iter().filter(|(source, _)| own(source));
            let mut taken: Vec<String> = own.map(|(source, _)| path(source).to_owned()).collect();
            let mut add = |path: &str, backend: Option<&'a str>| {
                if taken.iter().any(|one| path.starts_with(one.as_str())) {
                    return;
                }
                taken.push(path.to_owned());
                let host = host.to_owned();
                let path = path.to_owned();
                let source = if sni {
                    Source::Sni { host }
                } else {
                    Source::Http { host, path }
                };
                entries.push((source, backend));
            };
            // They stand in the order in which they are tried.
            for (source, backend) in &named {
                match source {
                    Source::Http { host: wide, .. } if !sni && covers(wide, host) => {}
                    Source::Sni { host: wide } if sni && covers(wide, host) => {}
                    _ => continue,
                }
                for owned in &paths {
                    let wide = path(source);
                    if wide.starts_with(*owned) {
                        add(wide, Some(backend));
                    } else if owned.starts_with(wide) {
                        add(owned, Some(backend));
                    }
                }
            }
            for owned in &paths {
                add(owned, None);
            }
        }
    }
    entries
}

/// The hosts that owners name, and those of routes among them, each with the paths that an owner has.
fn hosts<'a>(
    owners: &'a [Owner],
    routes: &[(&'a Source, &str)],
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let routed: BTreeSet<&str> = routes
        .iter()
        .filter_map(|(source, _)| match source {
            Source::Http { host, .. } | Source::Sni { host } => Some(host.as_str()),
            Source::Tcp { .. } => None,
        })
        .collect();
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for owner in owners {
        let own: Vec<&str> = owner.paths.iter().map(String::as_str).collect();
        let paths = if own.is_empty() { vec!["/"] } else { own };
        let named = owner.hosts.iter().map(String::as_str);
        let within = routed.iter().copied().filter(|host| owner.owns_host(host));
        for host in named.chain(within) {
            hosts.entry(host).or_default().extend(&paths);
        }
    }
    hosts
}

fn path(source: &Source) -> &str {
    match source {
        Source::Http { path, .. } => path,
        Source::Sni { .. } | Source::Tcp { .. } => "/",
    }
}

/// Whether requests for a host would get to the routes of another, wider one, if it had none of its own.
fn covers(wide: &str, host: &str) -> bool {
    let before = |end: &str| host.strip_suffix(end).filter(|before| *before != "*");
    match wide.strip_prefix("*.*") {
        _ if wide == host => false,
        Some(end) => before(end).is_some_and(|before| before.contains('.')),
        None => match wide.strip_prefix('*') {
            Some(end) => before(end).is_some_and(|before| !before.is_empty()),
            None => wide.is_empty(),
        },
    }
}

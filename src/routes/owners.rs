//! Which service may claim which routes: the parameter `owners`. Pure.

use std::collections::BTreeSet;

use super::Source;

/// What the services of one entry may claim, and no other service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The name of a service, or the beginning of names with `*` at the end.
    pub service: String,
    /// Names, or `*.NAME` for all names that end so; `*` for all, and for paths of every host.
    pub hosts: BTreeSet<String>,
    /// Beginnings of paths: of these hosts, or of every host where no host is named. Without one, all paths of the hosts.
    pub paths: BTreeSet<String>,
    /// TCP ports.
    pub ports: BTreeSet<u16>,
}

impl Owner {
    fn is(&self, service: &str) -> bool {
        match self.service.strip_suffix('*') {
            Some(beginning) => service.starts_with(beginning),
            None => service == self.service,
        }
    }

    fn owns(&self, source: &Source) -> bool {
        match source {
            Source::Tcp { port } => self.ports.contains(port),
            Source::Sni { host } => self.owns_host(host),
            Source::Http { host, path } => {
                let by_path = self.paths.iter().any(|own| path.starts_with(own.as_str()));
                match self.hosts.is_empty() {
                    true => matches!(host.as_str(), "" | "*" | "*.*") && by_path,
                    false => self.owns_host(host) && (self.paths.is_empty() || by_path),
                }
            }
        }
    }

    pub(super) fn owns_host(&self, host: &str) -> bool {
        let name = host.split(':').next().unwrap_or_default();
        self.hosts.iter().any(|own| match own.strip_prefix('*') {
            Some("") => true,
            Some(end) => !name.is_empty() && name.ends_with(end),
            None => own == host || own == name,
        })
    }
}

/// Whether an entry names this source, so that an operator has decided who may claim it.
pub fn are_named(owners: &[Owner], source: &Source) -> bool {
    owners.iter().any(|owner| owner.owns(source))
}

/// Why a service may not claim this, to follow "because".
pub fn fault(owners: &[Owner], service: &str, source: &Source) -> Option<String> {
    let named: Vec<&Owner> = owners.iter().filter(|owner| owner.owns(source)).collect();
    if named.iter().any(|owner| owner.is(service)) {
        return None;
    }
    let words: Vec<String> = named
        .iter()
        .map(|owner| format!("`{}`", owner.service))
        .collect();
    match (
        words.is_empty(),
        owners.iter().any(|owner| owner.is(service)),
    ) {
        (false, _) => Some(format!(
            "the parameter owners gives {source} to {}",
            words.join(", ")
        )),
        (true, true) => Some(format!(
            "the parameter owners does not name {source} among what this service may claim"
        )),
        (true, false) => None,
    }
}

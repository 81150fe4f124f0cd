//! With which rights a HAProxy that Gatewright starts goes on: those of HAProxy's own user, where root starts it.

use std::fs::read_to_string;

use nix::unistd::{Group, User, geteuid};

use super::wiring::resolve_mode;
use crate::haproxy::process::status_mask;
use crate::settings::{Mode, Settings};

/// The user and the group of HAProxy in the packages of distributions.
const HAPROXY: &str = "haproxy";

/// CAP_SETGID and CAP_SETUID (capabilities(7)).
const SET_IDS: u64 = 1 << 6 | 1 << 7;

/// The shipped `global` of a HAProxy that root starts names HAProxy's own user and group, where the system has them and
/// root may become them.
pub fn drop_rights(settings: &mut Settings) {
    let is_set = |name| settings.parameters.contains_key(name);
    if !geteuid().is_root()
        || resolve_mode(settings) != Mode::Supervise
        || is_set("haproxy_user")
        || is_set("haproxy_group")
        || !may_set_ids()
    {
        return;
    }
    let Ok(Some(user)) = User::from_name(HAPROXY) else {
        return;
    };
    if !is_mapped("uid_map", user.uid.as_raw()) {
        return;
    }
    let mut set = |name: &str| settings.parameters.insert(name.to_owned(), HAPROXY.into());
    set("haproxy_user");
    if let Ok(Some(group)) = Group::from_name(HAPROXY)
        && is_mapped("gid_map", group.gid.as_raw())
    {
        set("haproxy_group");
    }
}

/// Whether we may become another user and group, which a container may forbid. An unreadable file counts as forbidden.
fn may_set_ids() -> bool {
    let capabilities = status_mask("self", "CapEff:");
    let is_denied = read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
    capabilities.is_some_and(|all| all & SET_IDS == SET_IDS) && !is_denied
}

/// Whether an id exists in our user namespace (user_namespaces(7)): lines of first id, first id outside, count.
fn is_mapped(map: &str, id: u32) -> bool {
    let text = read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.nth(1)) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_ids_are_mapped() {
        assert!(is_mapped("uid_map", geteuid().as_raw()));
        assert!(!is_mapped("no_map", 0));
        // 4294967295 is reserved (credentials(7)); the map of the first namespace ends before it.
        assert!(!is_mapped("uid_map", u32::MAX));
    }
}

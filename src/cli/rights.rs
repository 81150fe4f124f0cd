//! With which rights a HAProxy that Gatewright starts goes on: those of HAProxy's own user, where root starts it.

use nix::unistd::{Group, User, geteuid};

use super::wiring::resolve_mode;
use crate::settings::{Mode, Settings};

/// The user and the group of HAProxy in the packages of distributions.
const HAPROXY: &str = "haproxy";

/// The shipped `global` of a HAProxy that root starts names HAProxy's own user and group, where the system has them.
pub fn drop_rights(settings: &mut Settings) {
    if !geteuid().is_root() || resolve_mode(settings) != Mode::Supervise {
        return;
    }
    let user = matches!(User::from_name(HAPROXY), Ok(Some(_)));
    let group = matches!(Group::from_name(HAPROXY), Ok(Some(_)));
    for (name, exists) in [("haproxy_user", user), ("haproxy_group", user && group)] {
        if exists {
            let parameter = settings.parameters.entry(name.to_owned());
            parameter.or_insert_with(|| HAPROXY.into());
        }
    }
}

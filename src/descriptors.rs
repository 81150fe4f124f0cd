//! How many file descriptors this process may have, and which part may use how many of them. The limit is raised
//! at the start; the programs that are started see the former one.

use std::sync::OnceLock;

use nix::libc::rlim_t;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More is of no use, and some systems allow a thousand million.
const MOST: rlim_t = 65_536;
/// For HAProxy, its validation, its sockets, files and what the program itself keeps open. With fewer it may be
/// unable to start HAProxy.
const KEPT: usize = 40;

/// To start a program.
const ROOM: usize = 16;

/// The soft limit before it was raised.
static FORMER: OnceLock<rlim_t> = OnceLock::new();

/// How many descriptors each part may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Requests to the catalog that are under way at the same time.
    pub watches: usize,
    /// Connections to the status listener.
    pub status: usize,
    /// Connections to the status socket.
    pub socket: usize,
}

impl Shares {
    /// Shares out a limit.
    fn of(limit: usize) -> Shares {
        let rest = limit.saturating_sub(KEPT);
        let (status, socket) = ((rest / 4).clamp(2, 64), (rest / 8).clamp(2, 16));
        Shares {
            watches: rest.saturating_sub(status + socket).clamp(2, 4096),
            status,
            socket,
        }
    }
}

/// The shares under the limit in force.
pub fn shares() -> Shares {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    Shares::of(usize::try_from(limit.min(MOST)).unwrap_or(1024))
}

/// Raises the soft limit to the hard one. Only the first call has an effect.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(MOST);
    if wanted > soft && FORMER.set(soft).is_ok() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

/// Starts a program under the limit that was in force before it was raised. No two calls may overlap.
///
/// To start it takes some descriptors here as well, below that limit. Where too few are left there, the program sees
/// the raised limit instead: HAProxy raises its own as far as it needs.
pub fn as_before<T>(start: impl FnOnce() -> T) -> T {
    let raised = FORMER.get().zip(getrlimit(Resource::RLIMIT_NOFILE).ok());
    let Some((former, (soft, hard))) = raised.filter(|(former, _)| leaves_room(**former)) else {
        return start();
    };
    let lowered = setrlimit(Resource::RLIMIT_NOFILE, *former, hard);
    let started = start();
    if lowered.is_ok() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
    started
}

/// Whether enough descriptors below a limit are free, for the start of a program and for other threads meanwhile.
fn leaves_room(limit: rlim_t) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    open.is_ok_and(|open| (open + ROOM) as rlim_t <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_some_and_all_together_have_no_more_than_there_are() {
        for limit in 48..20_000 {
            let shares = Shares::of(limit);
            let all = KEPT + shares.watches + shares.status + shares.socket;
            assert!(all <= limit, "{limit}: {shares:?}");
            assert!(shares.watches >= 2 && shares.status >= 2 && shares.socket >= 2);
        }
        assert_eq!(
            Shares::of(64),
            Shares {
                watches: 15,
                status: 6,
                socket: 3
            }
        );
        // A plenty takes nothing from anybody.
        let plenty = Shares::of(65_536);
        assert_eq!(
            (plenty.watches, plenty.status, plenty.socket),
            (4096, 64, 16)
        );
        // None is none.
        assert_eq!(Shares::of(0).watches, 2);
    }
}

//! Numbered places in the way of a change, at which a debug build can be made to end as by `kill -9`, so
//! that tests can kill Gatewright after every single effect and see what the next start makes of it.
//!
//! In a release build a place is nothing at all. Never changes what the program does unless one of these
//! variables is set:
//!
//! * `GATEWRIGHT_CRASH_LOG=FILE` appends the number and the name of each place that is reached;
//! * `GATEWRIGHT_CRASH_AT=NUMBER` ends the process at the place with that number, the first being 1;
//! * `GATEWRIGHT_PANIC_AT=NAME` panics at every place with that name.

/// Something that outlives us has just been done: a file, a name, a signal, a word to HAProxy.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::reached(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// What the environment asks for.
    #[derive(Default)]
    struct Orders {
        log: Option<std::path::PathBuf>,
        end_at: Option<u64>,
        panic_at: Option<String>,
    }

    static ORDERS: OnceLock<Orders> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn reached(name: &'static str) {
        let orders = ORDERS.get_or_init(|| Orders {
            log: std::env::var_os("GATEWRIGHT_CRASH_LOG").map(Into::into),
            end_at: std::env::var("GATEWRIGHT_CRASH_AT")
                .ok()
                .and_then(|number| number.parse().ok()),
            panic_at: std::env::var("GATEWRIGHT_PANIC_AT").ok(),
        });
        let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(path) = &orders.log
            && let Ok(mut log) = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
        {
            let _ = writeln!(log, "{number} {name}");
        }
        if orders.end_at == Some(number) {
            // Nobody cleans up: no destructor, no buffer, no child that is told.
            let _ = kill(Pid::this(), Signal::SIGKILL);
            loop {
                std::thread::park();
            }
        }
        assert!(
            orders.panic_at.as_deref() != Some(name),
            "a panic was asked for at {name}"
        );
    }
}

//! Numbered places in the way of a change, at which a debug build can be made to end as by `kill -9`, so
//! that tests can kill Gatewright after every single effect and see what the next start makes of it; or to wait, as for
//! a slow disk.
//!
//! In a release build a place is nothing at all. Never changes what the program does unless one of these
//! variables is set:
//!
//! * `GATEWRIGHT_CRASH_LOG=FILE` appends the number and the name of each place that is reached;
//! * `GATEWRIGHT_CRASH_AT=NUMBER` ends the process at the place with that number, the first being 1;
//! * `GATEWRIGHT_PANIC_AT=NAME` panics at every place with that name;
//! * `GATEWRIGHT_SLOW=DIRECTORY` waits at each place of which a file in that directory has the name: for as many
//!   milliseconds as the file says, or until the file is removed where it says nothing.

/// Something that outlives us has just been done: a file, a name, a signal, a word to HAProxy.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::reached(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Something is about to be read, for which a disk may take its time. Such a place has no number.
#[inline]
pub fn reading(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::wait(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// What the environment asks for.
    #[derive(Default)]
    struct Orders {
        log: Option<std::path::PathBuf>,
        end_at: Option<u64>,
        panic_at: Option<String>,
        slow: Option<std::path::PathBuf>,
    }

    static ORDERS: OnceLock<Orders> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    fn orders() -> &'static Orders {
        ORDERS.get_or_init(|| Orders {
            log: std::env::var_os("GATEWRIGHT_CRASH_LOG").map(Into::into),
            end_at: std::env::var("GATEWRIGHT_CRASH_AT")
                .ok()
                .and_then(|number| number.parse().ok()),
            panic_at: std::env::var("GATEWRIGHT_PANIC_AT").ok(),
            slow: std::env::var_os("GATEWRIGHT_SLOW").map(Into::into),
        })
    }

    pub(super) fn wait(name: &'static str) {
        let Some(directory) = &orders().slow else {
            return;
        };
        while let Ok(text) = std::fs::read_to_string(directory.join(name)) {
            match text.trim().parse() {
                Ok(time) => return std::thread::sleep(Duration::from_millis(time)),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub(super) fn reached(name: &'static str) {
        let orders = orders();
        let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(path) = &orders.log
            && let Ok(mut log) = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
        {
            let _ = writeln!(log, "{number} {name}");
        }
        wait(name);
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

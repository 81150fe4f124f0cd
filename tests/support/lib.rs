//! What tests, the quick start and benchmarks need around Gatewright: the real Consul and HAProxy,
//! HTTP backends, traffic, and Gatewright itself as a child process.
//!
//! Everything listens on loopback, on ports that [`ports`] or the system gave, and ends when its value is dropped.
//! Nothing but [`scene`] asserts: each function answers with what it saw, or with a sentence that says why not.

pub mod backend;
pub mod cluster;
pub mod consul;
pub mod demo;
pub mod fault_proxy;
pub mod gatewright;
pub mod haproxies;
pub mod haproxy;
pub mod http;
pub mod keep_alive;
pub mod measured;
pub mod network;
pub mod ports;
pub mod process;
pub mod scene;
pub mod script;
pub mod serf;
pub mod temp;
pub mod thrift;
pub mod tools;
pub mod traffic;
pub mod usage;

pub use matrix::consuls;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What came out, or a whole sentence that says what went wrong.
pub type Outcome<T> = Result<T, String>;

/// Whether long tests try all their cases: `GATEWRIGHT_LONG` is set, as by `tests/run --long`.
pub fn long() -> bool {
    std::env::var_os("GATEWRIGHT_LONG").is_some_and(|value| !value.is_empty())
}

/// How many cases a long test tries: all of them where [`long`] says so, or else a tenth.
pub fn cases(all: u32) -> u32 {
    if long() { all } else { all.div_ceil(10) }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait and all traffic with an error; for a program that was told to stop.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Makes Ctrl-C and SIGTERM call [`interrupt`], so that everything is stopped on the usual way out.
pub fn interrupt_on_signals() -> Outcome<()> {
    let failed = |error: std::io::Error| format!("Signals cannot be handled: {error}.");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let interrupt = signal(SignalKind::interrupt());
            let terminate = signal(SignalKind::terminate());
            let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            self::interrupt();
        });
    });
    Ok(())
}

/// Asks `probe` again and again until it has something, or `limit` is over. The error names `what`.
pub fn wait_for<T>(limit: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> Outcome<T> {
    wait_unless(interrupted, limit, what, probe)
}

/// As [`wait_for`], but goes on after [`interrupt`]: for stopping things in good order.
pub fn wait_for_end<T>(
    limit: Duration,
    what: &str,
    probe: impl FnMut() -> Option<T>,
) -> Outcome<T> {
    wait_unless(|| false, limit, what, probe)
}

fn wait_unless<T>(
    stop: impl Fn() -> bool,
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> Outcome<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if stop() {
            return Err(format!("Interrupted while waiting for {what}."));
        }
        let waited = start.elapsed();
        if waited >= limit {
            return Err(format!("Waited {limit:?} in vain for {what}."));
        }
        // Looking costs processor time that other tests need.
        let pause = (waited / 20).clamp(Duration::from_millis(10), Duration::from_millis(25));
        std::thread::sleep(pause);
    }
}

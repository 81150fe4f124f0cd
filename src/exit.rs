//! One exit code a class of failure, so that a script or a supervisor can tell them apart.
//!
//! The numbers are part of the interface: `gatewright help exit-codes` lists them, and they never change meaning.
//! 7 is not used.

/// Everything asked for was done.
pub const OK: u8 = 0;
/// Something went wrong that no other code names (an input or output error of our own).
pub const FAILURE: u8 = 1;
/// The command line is wrong. Clap uses the same number.
pub const USAGE: u8 = 2;
/// The settings file, a flag or an environment variable holds an impossible value, or one that is not to
/// be had here: an address to listen on that is taken.
pub const SETTINGS: u8 = 3;
/// A template, partial or fixture cannot be loaded or rendered.
pub const TEMPLATE: u8 = 4;
/// HAProxy's own validation (`haproxy -c`) or our gate refused the rendered configuration.
pub const REFUSED: u8 = 5;
/// The catalog could not be read: Consul is unreachable, forbids it or answers nonsense.
pub const CATALOG: u8 = 6;
/// Another instance holds the lock on the same destination.
pub const LOCKED: u8 = 8;
/// Two texts that were compared differ (`render --diff`), or an expected output does.
pub const DIFFERENT: u8 = 9;
/// No sidecar answers on the status socket.
pub const NOT_RUNNING: u8 = 10;

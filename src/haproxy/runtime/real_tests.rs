//! The Runtime API of every version, by the real ones.

//! Configuration, validation, sockets and processes of real HAProxy programs.

mod alerts;
mod check;
mod child;
mod config;
mod process;
mod runtime;
mod supervise;

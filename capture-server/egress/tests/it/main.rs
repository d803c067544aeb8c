//! The proxy from outside: real sockets on loopback, stubs for names and for the way to checked addresses.
//!
//! A checked address such as 93.184.216.34 leads to a listener on 127.0.0.1; nothing leaves the machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking; clippy.toml only knows functions marked as tests"
)]

mod authority;
mod budgets;
mod decisions;
mod exceptions;
mod forwarding;
mod harness;
mod name_server;
mod pins;
mod rebinding;
mod sessions;
mod threats;
mod tunnels;
mod upstream;

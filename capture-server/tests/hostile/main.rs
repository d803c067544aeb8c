//! Hostile pages, each with a harmless capture of another client beside it. The claim: whatever a page does, its capture
//! ends by its deadline, its place is free within five seconds, the server lives, and the neighbour hardly notices.
//!
//! Real browsers in real jails; the pages come from a server on loopback or as `html_content`. One test at a time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test that cannot go on fails; the harness is shared"
)]

mod crash_urls;
mod crashes;
#[path = "../it/harness.rs"]
mod harness;
mod kills;
mod memory;
mod pages;
mod site;

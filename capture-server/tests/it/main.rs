//! The capture server from outside: a real browser in a real jail, over HTTP. Nothing leaves the machine: pages are
//! brought as `html_content`, and URLs are asked for only where the refusal is the point.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "the harness is shared; a test that cannot go on fails"
)]

mod canary;
mod certificates;
mod contexts;
mod control;
mod encoding;
mod endings;
mod formats;
mod harness;
mod isolation;
mod lifecycle;
mod link;
mod lists;
mod pictures;
mod print;
mod proof;
mod refusals;
mod self_signed;
mod threats;
mod tls;
mod tracing;
mod unpacking;
mod unread;
mod upstream;
mod warm;
mod web;

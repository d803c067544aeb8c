//! The capture server: an HTTP API that turns a URL or HTML into a picture, in a jailed browser, through a filtering
//! proxy, under one policy.
//!
//! The walk of one request, which is also the way to read this crate:
//!
//! 1. `http::capture` stamps the arrival and opens the record (`http::observe`).
//! 2. [`access`] turns the credential into a caller and a permit.
//! 3. The body is read, bounded, and `capture::request` parses it within the policy.
//! 4. `limits::admission` gives a slot, perhaps after waiting.
//! 5. `capture::pool` leases an empty page in a jail; `capture_egress` is opened on that page's own listening socket.
//! 6. `capture::engine` drives the page by [`browser`]; `capture::wait` says when it is ready.
//! 7. The page, or its whole jail, is cleared away, `capture::verdict` names the one outcome, `capture::output` has checked it.
//! 8. `http::capture` answers, or `http::problem` does; the audit line and the metrics come from the same outcome.
//!
//! Beside it run `supervisor` (a proven jailer, always), `probe` (the proof), `canary` (the proof of the cluster's half),
//! `access::keyset` and `cluster_ranges` (the reloads, by `file`), `service` (gate, engine and browsers; the crate's face as
//! a library) and `server` (wiring, readiness, shutdown). The process holds no Kubernetes client and no unsafe line.

pub mod access;
pub mod browser;
pub mod canary;
pub mod capture;
pub mod child;
pub mod clock;
pub mod cluster_ranges;
pub mod config;
pub mod file;
pub mod http;
pub mod image;
pub mod limits;
pub mod nonces;
pub mod probe;
pub mod server;
pub mod service;
pub mod state;
pub mod supervisor;
pub mod upstream;

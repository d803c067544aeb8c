//! The operator: keeps every `ScreenshotService` as its spec says, and says truthfully how far that is.
//!
//! One pass: trigger → observe (the only reads) → validate (pure) → plan (pure) → apply (ordered server-side apply, and
//! the steps of the token rotation) → status (pure) → next wake-up. `reconcile` is the order of it, on one screen.
//! Must not: write spec or metadata of the resource, copy its labels to children, use a finalizer, or put a secret in a
//! log line, an event, a metric or a status.

pub mod address_lists;
pub mod apply;
pub mod attest;
pub mod backoff;
pub mod cache;
pub mod canary;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod compact;
pub mod context;
pub mod credentials;
pub mod drift;
pub mod error;
pub mod events;
pub mod http;
pub mod internal_key;
pub mod leader;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod netpol;
pub mod observe;
pub mod plan;
pub mod probe;
pub mod quantity;
pub mod rbac;
pub mod reconcile;
pub mod rotation;
pub mod run;
pub mod seccomp;
pub mod status;
pub mod trigger;
pub mod validate;
pub mod views;

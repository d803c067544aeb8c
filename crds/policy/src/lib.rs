//! The contract between the operator and the capture server.
//!
//! In: bytes of `policy.json`, `keyset.json`, tokens, host names, addresses, and a point in time.
//! Out: decisions as values. Both sides link this one crate, so that "the same controls" is true by
//! construction: the operator plans with what the server later enforces.
//! It must not do I/O, read a clock, draw random numbers, or know Kubernetes or tokio.

pub mod address;
pub mod attest;
pub mod canary;
pub mod cidr;
pub mod cluster;
pub mod domain;
pub mod egress;
pub mod finding;
pub mod host;
pub mod keyset;
pub mod layout;
pub mod policy;
pub mod tls;
pub mod token;
pub mod unit;

mod canonical;
#[cfg(test)]
mod schema;

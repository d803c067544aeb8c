//! What the end-to-end tests share: the API server, `kubectl` as a user runs it, forwarded ports, captures over HTTP.
//!
//! In: a cluster with the operator, named by `KUBECONFIG` (`hack/install.sh up` makes one), and `CONTEXT` where that file
//! has several. Out: plain values that tests compare. Everything is bounded in time; what a test starts ends with it.

#![allow(clippy::disallowed_methods)] // It starts kubectl, as a user does.

mod api;
mod capture;
mod figures;
mod forward;
mod kubectl;
mod namespace;
mod service;
mod wait;

pub use api::{Kind, delete, find, get, list, merge};
pub use capture::{Answer, capture, fetch};
pub use figures::record;
pub use forward::Forward;
pub use kubectl::{apply, kubectl, kubectl_with};
pub use namespace::{Namespace, operator_namespace, with_images};
pub use service::{AT_REST, Condition, condition, conditions, pods, service, token, wait_ready};
pub use wait::eventually;

/// Why a step of a test failed, in words.
pub type Failure = String;

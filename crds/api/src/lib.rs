//! The `ScreenshotService` resource, group `screenshot-operator.io`, version `v1alpha1`.
//!
//! In: nothing. Out: the Rust types of the resource and its schema ([`schema::crd`]).
//! The schema carries every rule that one object can decide by itself (CEL included), so that the API server
//! refuses a bad manifest and no webhook is needed. A field is here only if something acts on it.
//! Must not: talk to a cluster, know the children of the resource, or decide policy (that is `screenshot-policy`).

pub mod schema;
mod spec;
mod status;

pub use spec::*;
pub use status::{AuthStatus, BrowserStatus, ExceptionKind, ExceptionStatus, ScreenshotServiceStatus};

/// The API group of every resource, label and annotation of this project.
pub const GROUP: &str = "screenshot-operator.io";
/// Name under which the resource is known to the API server.
pub const CRD_NAME: &str = "screenshotservices.screenshot-operator.io";
/// Longest name a `ScreenshotService` may have, in characters: the name is also a label value and a Service name (63 at
/// most), and a pod's name adds eleven or more characters of its own.
pub const MAX_NAME: usize = 52;

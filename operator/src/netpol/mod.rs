//! What NetworkPolicies let through, by the API's own definition.
//!
//! In: NetworkPolicies and the pods they are about. Out: whether one connection passes. Pure; knows nothing of how an
//! engine does it, and is checked against a real one. `verify` holds its answers against the proxy's.
//! Must not: read a cluster, or be more lenient than the API where a policy is malformed (what cannot be read opens nothing).

mod evaluate;
pub mod verify;

pub use evaluate::{Endpoint, Network, Pod, Protocol};

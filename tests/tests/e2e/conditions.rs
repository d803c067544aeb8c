//! What a service that lacks nothing says of itself.

use screenshot_tests::{Namespace, condition, service, wait_ready};

use crate::apply_in;

#[test]
fn an_empty_spec_runs_and_every_condition_is_true() {
    let namespace = Namespace::create("e2e-conditions").unwrap();
    apply_in(&namespace.0, &service("shots", "{}"));
    wait_ready(&namespace.0, "shots").unwrap();
    for kind in [
        "Ready",
        "Available",
        "PolicyInForce",
        "CredentialsReady",
        "SandboxVerified",
        "EgressEnforced",
    ] {
        let found = condition(&namespace.0, "shots", kind).map(|condition| condition.status);
        assert_eq!(found.as_deref(), Some("True"), "{kind}");
    }
    for absent in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&namespace.0, "shots", absent), None, "{absent}");
    }
}

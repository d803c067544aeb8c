//! Manifests that the API server refuses.

use screenshot_tests::{Namespace, kubectl_with, service};

#[test]
fn a_manifest_that_breaks_a_rule_is_refused_with_field_and_rule() {
    let namespace = Namespace::create("e2e-manifests").unwrap();
    let refused =
        |spec: &str| kubectl_with(&["-n", &namespace.0, "apply", "-f", "-"], &service("shots", spec)).unwrap_err();
    for (spec, words) in [
        ("{replicas: -1}", vec!["spec.replicas", "greater than or equal to 0"]),
        (
            "{auth: {rotation: {periodDays: 1, overlapHours: 48}}}",
            vec!["overlapHours"],
        ),
        ("{sandbox: {mode: Off}}", vec!["spec.sandbox.mode", "Required"]),
        (
            "{network: {egress: {exceptions: [{host: intra.example.org, ports: [80], reason: x, expires: \"2099-01-01T00:00:00Z\"}]}}}",
            vec!["cidr"],
        ),
        ("{replica: 2}", vec!["unknown field", "spec.replica"]),
    ] {
        let message = refused(spec);
        for word in words {
            assert!(message.contains(word), "{spec}: {message}");
        }
    }
}

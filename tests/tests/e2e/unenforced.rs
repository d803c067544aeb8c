//! The check of `network` under a network that accepts NetworkPolicies and ignores them: it must notice.
//!
//! Needs a cluster of its own (`cluster.sh up --no-network-policy`), without the operator.

use screenshot_tests::Namespace;

use crate::apply_in;
use crate::network::{CLOSED, dial_past_the_proxy};

/// What every service has: nothing in, nothing out, but DNS.
const DENY: &str = r"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress: [{ports: [{port: 53, protocol: TCP}, {port: 53, protocol: UDP}]}]
";

#[test]
fn a_network_that_ignores_policies_is_found_out_by_the_pod_that_walks_past_the_proxy() {
    let namespace = Namespace::create("e2e-unenforced").unwrap();
    apply_in(&namespace.0, DENY);
    let found = dial_past_the_proxy(&namespace.0, r#"{"app": "shots"}"#);
    let open = format!("{} is open", CLOSED[0]);
    assert!(
        !found.as_expected && found.log.contains(&open),
        "the check did not notice that nothing is enforced:\n{}",
        found.log
    );
}

//! The reverse of the canary: the operator tries the capture pods' API port, which it has no business with.
//!
//! In: who may connect, by the spec. Out: whether getting in would prove anything. Pure; `attest` does the knocking.
//! What cannot be ruled out counts as let in: the labels of the operator's namespace are not known here, nor all of its
//! pod's, and every namespace has the label with its name. The chart lets the operator out to that port, so that it is the
//! service's own NetworkPolicy that stops it.

use std::net::IpAddr;

use ipnet::IpNet;
use screenshot_api::{Ingress, Peer, Selector};

use crate::context::Settings;
use crate::names::NAME_LABEL;

const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Whether no rule of the spec can let an operator pod with these addresses in.
pub fn is_shut_out(ingress: &Ingress, namespace: &str, settings: &Settings, own: &[IpAddr]) -> bool {
    let by_range = ingress.cidrs.iter().any(|text| {
        text.parse::<IpNet>()
            .map_or(true, |net| own.iter().any(|ip| net.contains(ip)))
    });
    !own.is_empty() && !by_range && !ingress.from.iter().any(|peer| may_be(peer, namespace, settings))
}

fn may_be(peer: &Peer, namespace: &str, settings: &Settings) -> bool {
    let in_namespace = match &peer.namespace_selector {
        None => namespace == settings.operator_namespace,
        Some(selector) => not_other(selector, NAMESPACE_LABEL, &settings.operator_namespace),
    };
    let pod = peer.pod_selector.as_ref();
    in_namespace && pod.is_none_or(|selector| not_other(selector, NAME_LABEL, &settings.operator_name))
}

/// Whether the selector does not name another value for the label.
fn not_other(selector: &Selector, label: &str, value: &str) -> bool {
    selector.match_labels.get(label).is_none_or(|wanted| wanted == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shut_out(ingress: &str, namespace: &str, own: &[&str]) -> bool {
        let ingress: Ingress = serde_saphyr::from_str(ingress).unwrap();
        let settings = Settings {
            capture_image: None,
            operator_namespace: "ops".into(),
            operator_name: "screenshot-operator".into(),
            cluster: crate::cluster::ClusterSettings::default(),
        };
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        is_shut_out(&ingress, namespace, &settings, &own)
    }

    #[test]
    fn getting_in_proves_something_only_if_no_rule_can_have_let_the_operator_in() {
        let own = ["10.1.2.3"];
        // The default: the pods of the service's own namespace.
        assert!(shut_out("{}", "web", &own));
        assert!(!shut_out("{}", "ops", &own));
        assert!(!shut_out("{}", "web", &[]), "its own address is not known");
        let metadata =
            |name: &str| format!("namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}");
        for (peer, expected) in [
            ("namespaceSelector: {}".to_owned(), false),
            (metadata("ops"), false),
            (metadata("gateway"), true),
            // Nobody here knows the namespace's labels.
            ("namespaceSelector: {matchLabels: {team: a}}".to_owned(), false),
            (
                metadata("ops") + ", podSelector: {matchLabels: {app.kubernetes.io/name: other}}",
                true,
            ),
            (metadata("ops") + ", podSelector: {matchLabels: {app: x}}", false),
            ("podSelector: {matchLabels: {app: x}}".to_owned(), true),
        ] {
            assert_eq!(
                shut_out(&format!("from: [{{{peer}}}]"), "web", &own),
                expected,
                "{peer}"
            );
        }
        assert!(!shut_out("{from: [], cidrs: [10.1.0.0/16]}", "web", &own));
        assert!(shut_out("{from: [], cidrs: [10.2.0.0/16]}", "web", &own));
        assert!(shut_out("{from: [], cidrs: []}", "web", &own));
    }
}

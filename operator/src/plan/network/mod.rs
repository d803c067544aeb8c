//! The NetworkPolicies: deny by default, then one policy for each purpose.
//!
//! In: what is wanted, what the Services named by exceptions look like, where the operator runs. Out: the policies, and the
//! exceptions that open nothing. Policies only ever add up, so each can be read by itself: who may call, who may check
//! health, who may scrape, where names are resolved, what pages may reach.

mod egress;

use std::collections::BTreeSet;

use jiff::Timestamp;
use screenshot_api::{Peer, Selector};
use screenshot_policy::layout;
use serde_json::{Value, json};

use super::{Child, Kind, Surroundings, object};
use crate::names::NAME_LABEL;
use crate::validate::{Identity, Validated};

pub use egress::{PortTarget, ServiceTarget, Targets};

const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
/// NodeLocal DNSCache listens here on every node that has it, in the node's own network: no selector finds it.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";
/// Where OpenShift's DNS pods listen; policies see the pods' port, not the Service's.
const OPENSHIFT_DNS_PORT: u16 = 5353;

pub(super) fn build(wanted: &Validated, around: &Surroundings<'_>, now: Timestamp) -> (Vec<Child>, BTreeSet<String>) {
    let id = &wanted.identity;
    let names = &id.names;
    let (egress, unresolved) = egress::rules(wanted, around.targets, now);
    let both = json!({"policyTypes": ["Ingress", "Egress"]});
    let mut policies = vec![policy(id, &names.default_deny(), both)];
    policies.extend(
        [
            opening(id, &names.dns(), "Egress", dns()),
            opening(id, &names.operator(), "Ingress", operator(around)),
            opening(id, &names.clients(), "Ingress", clients(wanted)),
            opening(id, &names.monitoring(), "Ingress", monitoring(wanted)),
            opening(id, &names.egress(), "Egress", egress),
        ]
        .into_iter()
        .flatten(),
    );
    (policies, unresolved)
}

/// A policy that opens something; none where there is nothing to open.
fn opening(id: &Identity, name: &str, direction: &str, rules: Vec<Value>) -> Option<Child> {
    if rules.is_empty() {
        return None;
    }
    let field = direction.to_ascii_lowercase();
    let spec = object([("policyTypes", json!([direction])), (&field, rules.into())]);
    Some(policy(id, name, spec))
}

fn policy(id: &Identity, name: &str, mut spec: Value) -> Child {
    spec["podSelector"] = json!({"matchLabels": id.names.selector()});
    Child::new(id, Kind::NetworkPolicy, name, object([("spec", spec)]))
}

fn dns() -> Vec<Value> {
    let resolver = |namespace: &str, key: &str, value: &str| {
        // One peer with both selectors: as two peers they would be alternatives.
        json!({
            "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}},
            "podSelector": {"matchLabels": {key: value}},
        })
    };
    let ports = |port: u16| json!([{"port": port, "protocol": "UDP"}, {"port": port, "protocol": "TCP"}]);
    vec![
        json!({
            "to": [resolver("kube-system", "k8s-app", "kube-dns"), {"ipBlock": {"cidr": NODE_LOCAL_DNS}}],
            "ports": ports(53),
        }),
        json!({
            "to": [resolver("openshift-dns", "dns.operator.openshift.io/daemonset-dns", "default")],
            "ports": ports(OPENSHIFT_DNS_PORT),
        }),
    ]
}

fn clients(wanted: &Validated) -> Vec<Value> {
    let pods = wanted.ingress.from.iter().map(peer);
    let ranges = wanted
        .ingress
        .cidrs
        .iter()
        .map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
    from(pods.chain(ranges).collect(), layout::API_PORT)
}

fn operator(around: &Surroundings<'_>) -> Vec<Value> {
    let pods = json!({
        "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: around.operator.namespace}},
        "podSelector": {"matchLabels": {NAME_LABEL: around.operator.name}},
    });
    from(vec![pods], layout::HEALTH_PORT)
}

fn monitoring(wanted: &Validated) -> Vec<Value> {
    let monitoring = &wanted.monitoring;
    let mut peers: Vec<Value> = monitoring.from.iter().map(peer).collect();
    if peers.is_empty() && monitoring.pod_monitor.enabled {
        // The label that the Prometheus operator gives to what it runs, agents included.
        let named = json!([{"key": NAME_LABEL, "operator": "In", "values": ["prometheus", "prometheus-agent"]}]);
        peers.push(json!({"namespaceSelector": {}, "podSelector": {"matchExpressions": named}}));
    }
    from(peers, layout::METRICS_PORT)
}

/// No rule without peers: in a NetworkPolicy an empty list of peers means everybody.
fn from(peers: Vec<Value>, port: u16) -> Vec<Value> {
    if peers.is_empty() {
        return Vec::new();
    }
    vec![object([("from", peers.into()), ("ports", vec![tcp(port)].into())])]
}

fn peer(peer: &Peer) -> Value {
    let mut value = json!({});
    for (key, chosen) in [
        ("namespaceSelector", &peer.namespace_selector),
        ("podSelector", &peer.pod_selector),
    ] {
        if let Some(chosen) = chosen {
            value[key] = selector(chosen);
        }
    }
    value
}

fn selector(selector: &Selector) -> Value {
    if selector.match_labels.is_empty() {
        json!({})
    } else {
        json!({"matchLabels": selector.match_labels})
    }
}

fn tcp(port: u16) -> Value {
    json!({"port": port, "protocol": "TCP"})
}

//! What pages may reach: the public internet, straight or through an upstream proxy, and what exceptions name.
//!
//! In: the policy, what the Services named by exceptions look like, the time. Out: egress rules, and the exceptions that
//! open nothing. The addresses are the ones the egress proxy refuses (one table, in `screenshot-policy`), so that a page
//! which broke out of proxy and jail meets the same walls at the pod's edge.
//! NetworkPolicies see pods after address translation: a Service becomes a selector of its pods with their ports. A headless
//! one with a range does not: the proxy sees its pods' own addresses, and a selector would open those outside of the range.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use screenshot_policy::address::Block;
use screenshot_policy::egress::{EgressException, UpstreamProxy};
use screenshot_policy::host::Host;
use screenshot_policy::policy::EffectivePolicy;
use screenshot_policy::unit::Port;
use serde_json::{Value, json};

use super::tcp;
use crate::plan::object;
use crate::validate::Validated;

/// Where a port of a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// A port number of the pods.
    Number(u16),
    /// A named port of the pods.
    Name(String),
}

/// What an exception needs to know of the Service it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Which pods are behind it; empty when endpoints are kept by hand.
    pub selector: BTreeMap<String, String>,
    /// Its TCP ports and where they lead.
    pub ports: BTreeMap<u16, PortTarget>,
    /// Whether clients connect to the pods themselves, without address translation.
    pub headless: bool,
}

/// The Services named by exceptions, by (namespace, name). One that does not exist is absent.
pub type Targets = BTreeMap<(String, String), ServiceTarget>;

/// The rules, and the hosts of exceptions, or of the upstream, that open nothing.
pub(super) fn rules(wanted: &Validated, targets: &Targets, now: Timestamp) -> (Vec<Value>, BTreeSet<String>) {
    let mut unresolved = BTreeSet::new();
    let mut rules = way_out(&wanted.policy, targets, &mut unresolved);
    for exception in wanted
        .policy
        .exceptions()
        .iter()
        .filter(|exception| exception.active(now))
    {
        let opened = exception_rules(&wanted.policy, exception, targets);
        if opened.is_empty() {
            unresolved.insert(exception.host.to_string());
        }
        rules.extend(opened);
    }
    (rules, unresolved)
}

/// Straight to everything public, or to the upstream and nowhere else.
fn way_out(policy: &EffectivePolicy, targets: &Targets, unresolved: &mut BTreeSet<String>) -> Vec<Value> {
    let Some(upstream) = policy.upstream().filter(|_| policy.uses_upstream()) else {
        return public(policy).into_iter().collect();
    };
    let rules = upstream_rules(policy, upstream, targets);
    if rules.is_empty() {
        unresolved.insert(upstream.host.to_string());
    }
    rules
}

fn public(policy: &EffectivePolicy) -> Option<Value> {
    block_rule(&policy.open_blocks(), policy.egress_ports())
}

/// As for an exception: its range, the pods behind its Service, else any public address on its port. None where nothing
/// public is open at all.
fn upstream_rules(policy: &EffectivePolicy, upstream: &UpstreamProxy, targets: &Targets) -> Vec<Value> {
    let (blocks, ranged) = (policy.upstream_blocks(upstream), upstream.cidr.is_some());
    let pods = pods_rule(policy, targets, &upstream.host, &[upstream.port], ranged);
    block_rule(&blocks, &[upstream.port]).into_iter().chain(pods).collect()
}

fn exception_rules(policy: &EffectivePolicy, exception: &EgressException, targets: &Targets) -> Vec<Value> {
    if policy.denies_exception(exception) {
        return Vec::new();
    }
    let (blocks, ranged) = (policy.exception_blocks(exception), exception.cidr.is_some());
    let pods = pods_rule(policy, targets, &exception.host, &exception.ports, ranged);
    block_rule(&blocks, &exception.ports).into_iter().chain(pods).collect()
}

/// None without blocks or ports: in a NetworkPolicy an empty list of ports means every port, and of peers everyone.
fn block_rule(blocks: &[Block], ports: &[Port]) -> Option<Value> {
    let to: Vec<Value> = blocks.iter().map(ip_block).collect();
    let ports: Vec<Value> = ports.iter().map(|port| tcp(port.get())).collect();
    (!to.is_empty() && !ports.is_empty()).then(|| object([("to", to.into()), ("ports", ports.into())]))
}

fn ip_block(block: &Block) -> Value {
    if block.except.is_empty() {
        json!({"ipBlock": {"cidr": block.cidr}})
    } else {
        json!({"ipBlock": {"cidr": block.cidr, "except": block.except}})
    }
}

/// The rule for the pods behind a host that is a Service; `ranged` where the manifest names the Service's range as well.
fn pods_rule(policy: &EffectivePolicy, targets: &Targets, host: &Host, ports: &[Port], ranged: bool) -> Option<Value> {
    let (service, namespace) = host.in_cluster_service(&policy.egress().cluster.domain)?;
    let target = targets.get(&(namespace.to_owned(), service.to_owned()))?;
    // Without a selector it is not known which pods are meant; an empty one in a policy would mean all of them. Pods of a
    // headless Service are seen as they are, and a selector cannot be narrowed to a range.
    if target.selector.is_empty() || (target.headless && ranged) {
        return None;
    }
    let pod_ports: Vec<Value> = ports.iter().filter_map(|port| pod_port(target, port.get())).collect();
    (!pod_ports.is_empty()).then(|| {
        json!({
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "podSelector": {"matchLabels": target.selector},
            }],
            "ports": pod_ports,
        })
    })
}

fn pod_port(target: &ServiceTarget, port: u16) -> Option<Value> {
    if target.headless {
        return Some(tcp(port));
    }
    Some(match target.ports.get(&port)? {
        PortTarget::Number(number) => tcp(*number),
        PortTarget::Name(name) => json!({"port": name, "protocol": "TCP"}),
    })
}

#[cfg(test)]
mod tests {
    use screenshot_policy::policy::{Ceiling, EgressRules, PolicyDocument};

    use super::*;

    fn policy(change: impl FnOnce(&mut EgressRules)) -> EffectivePolicy {
        let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
        change(&mut document.egress);
        EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
    }

    #[test]
    fn a_rule_with_an_empty_list_is_left_out_since_it_would_open_everything() {
        assert!(public(&policy(|_| {})).is_some());
        assert_eq!(public(&policy(|rules| rules.ports.clear())), None);
        let closed = policy(|rules| {
            rules.cidrs.allow = vec!["9.9.9.0/24".parse().unwrap()];
            rules.cluster.cidrs = vec!["9.9.0.0/16".parse().unwrap()];
        });
        assert_eq!(public(&closed), None, "everything that is allowed is the cluster's own");
    }

    #[test]
    fn a_headless_service_with_a_range_is_its_range_and_any_other_its_pods_as_well() {
        let selected = |headless, cidr: Option<&str>| {
            let exception = EgressException {
                host: "db.shop.svc.cluster.local".parse().unwrap(),
                ports: vec![Port::try_from(9000u64).unwrap()],
                cidr: cidr.map(|text| text.parse().unwrap()),
                reason: "a test".parse().unwrap(),
                expires: "2027-01-01T00:00:00Z".parse().unwrap(),
            };
            let target = ServiceTarget {
                selector: BTreeMap::from([("app".to_owned(), "db".to_owned())]),
                ports: BTreeMap::from([(9000, PortTarget::Number(9000))]),
                headless,
            };
            let targets = Targets::from([(("shop".to_owned(), "db".to_owned()), target)]);
            let policy = policy(|rules| rules.exceptions = vec![exception.clone()]);
            let rules = exception_rules(&policy, &exception, &targets);
            let peer = |rule: &Value| rule["to"][0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            rules.iter().flat_map(peer).collect::<Vec<_>>()
        };
        let range = Some("10.244.1.0/24");
        let (block, pods) = (["ipBlock"], ["namespaceSelector", "podSelector"]);
        assert_eq!(selected(true, range), block);
        assert_eq!(selected(true, None), pods);
        assert_eq!(selected(false, range), [&block[..], &pods[..]].concat());
        assert_eq!(selected(false, None), pods);
    }
}

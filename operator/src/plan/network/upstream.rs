//! The way to the upstream proxy, which takes the place of the public rule.
//!
//! In: the policy, what the Services that it names look like. Out: rules for the upstream's own address and port, as for an
//! exception: its range, the pods behind its Service, else any public address on that one port. None where nothing public
//! is open at all.

use screenshot_policy::egress::UpstreamProxy;
use screenshot_policy::policy::EffectivePolicy;
use serde_json::Value;

use super::egress::{ip_block, service_rule};
use super::{Targets, tcp};
use crate::plan::object;

pub(super) fn rules(policy: &EffectivePolicy, upstream: &UpstreamProxy, targets: &Targets) -> Vec<Value> {
    let mut rules = Vec::new();
    let blocks: Vec<Value> = policy.upstream_blocks(upstream).iter().map(ip_block).collect();
    if !blocks.is_empty() {
        let ports = vec![tcp(upstream.port.get())];
        rules.push(object([("to", blocks.into()), ("ports", ports.into())]));
    }
    if let Some((service, namespace)) = upstream.host.in_cluster_service(&policy.egress().cluster.domain) {
        let ranged = upstream.cidr.is_some();
        rules.extend(service_rule(targets, (namespace, service), &[upstream.port], ranged));
    }
    rules
}

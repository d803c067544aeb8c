//! What pages may reach: the public internet, and what exceptions name.
//!
//! In: the policy, what the Services named by exceptions look like, the time. Out: egress rules, and the exceptions that
//! open nothing. The addresses are the ones the egress proxy refuses (one table, in `screenshot-policy`), so that a page
//! which broke out of proxy and jail meets the same walls at the pod's edge.
//! NetworkPolicies see pods after address translation: a Service becomes a selector of its pods with their ports.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;
use screenshot_policy::address::{V6_GLOBAL, v4_excepts, v6_excepts};
use screenshot_policy::egress::EgressException;
use screenshot_policy::host::Host;
use serde_json::{Value, json};

use super::tcp;
use crate::validate::Validated;

/// Some network plugins cut off longer lists.
const MAX_EXCEPTS: usize = 32;

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

/// The rules, and the hosts of exceptions that open nothing.
pub(super) fn rules(wanted: &Validated, targets: &Targets, now: Timestamp) -> (Vec<Value>, BTreeSet<String>) {
    let mut rules: Vec<Value> = public(wanted.policy.egress_ports()).into_iter().collect();
    let mut unresolved = BTreeSet::new();
    for exception in wanted
        .policy
        .exceptions()
        .iter()
        .filter(|exception| exception.active(now))
    {
        let opened = exception_rules(exception, targets);
        if opened.is_empty() {
            unresolved.insert(exception.host.clone());
        }
        rules.extend(opened);
    }
    (rules, unresolved)
}

fn public(ports: &[u16]) -> Option<Value> {
    // An empty list of ports in a NetworkPolicy means every port.
    if ports.is_empty() {
        return None;
    }
    let v4: Vec<IpNet> = v4_excepts().into_iter().map(IpNet::V4).collect();
    let v6: Vec<IpNet> = v6_excepts().into_iter().map(IpNet::V6).collect();
    let all_v4 = IpNet::V4(ipnet::Ipv4Net::default());
    let blocks: Vec<Value> = blocks(all_v4, &v4)
        .into_iter()
        .chain(blocks(IpNet::V6(V6_GLOBAL), &v6))
        .map(|b| ip_block(&b))
        .collect();
    Some(json!({"to": blocks, "ports": ports.iter().copied().map(tcp).collect::<Vec<_>>()}))
}

struct Block {
    cidr: IpNet,
    except: Vec<IpNet>,
}

fn ip_block(block: &Block) -> Value {
    if block.except.is_empty() {
        json!({"ipBlock": {"cidr": block.cidr}})
    } else {
        json!({"ipBlock": {"cidr": block.cidr, "except": block.except}})
    }
}

/// `cidr` without `excepts`, in blocks of at most [`MAX_EXCEPTS`]. The range is halved, never the list: peers are
/// alternatives, so two blocks over one range would open what each other excepts.
fn blocks(cidr: IpNet, excepts: &[IpNet]) -> Vec<Block> {
    if excepts.iter().any(|except| except.contains(&cidr)) {
        return Vec::new();
    }
    let inside: Vec<IpNet> = excepts
        .iter()
        .filter(|except| cidr.contains(*except))
        .copied()
        .collect();
    if inside.len() <= MAX_EXCEPTS {
        return vec![Block { cidr, except: inside }];
    }
    match cidr.subnets(cidr.prefix_len() + 1) {
        Ok(halves) => halves.flat_map(|half| blocks(half, &inside)).collect(),
        Err(_) => Vec::new(),
    }
}

fn exception_rules(exception: &EgressException, targets: &Targets) -> Vec<Value> {
    let mut rules = Vec::new();
    let Ok(host) = exception.host.parse::<Host>() else {
        return rules;
    };
    let literal = match &host {
        Host::Ip(ip) => Some(IpNet::from(*ip)),
        Host::Name(_) => None,
    };
    if let Some(cidr) = exception.cidr.or(literal) {
        let ports: Vec<Value> = exception.ports.iter().copied().map(tcp).collect();
        rules.push(json!({"to": [{"ipBlock": {"cidr": cidr}}], "ports": ports}));
    }
    if let Some((service, namespace)) = host.in_cluster_service() {
        let target = targets.get(&(namespace.to_owned(), service.to_owned()));
        rules.extend(target.and_then(|target| service_rule(namespace, target, &exception.ports)));
    }
    rules
}

fn service_rule(namespace: &str, target: &ServiceTarget, ports: &[u16]) -> Option<Value> {
    // Without a selector it is not known which pods are meant; an empty one in a policy would mean all of them.
    if target.selector.is_empty() {
        return None;
    }
    let pod_ports: Vec<Value> = ports.iter().filter_map(|port| pod_port(target, *port)).collect();
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
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn opens(blocks: &[Block], ip: &str) -> bool {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        blocks
            .iter()
            .any(|b| b.cidr.contains(&ip) && !b.except.iter().any(|e| e.contains(&ip)))
    }

    #[test]
    fn a_long_list_of_excepts_is_split_by_halving_the_range_and_opens_none_of_them() {
        let excepts: Vec<IpNet> = (0..200u8).map(|n| net(&format!("{n}.1.0.0/16"))).collect();
        let blocks = blocks(net("0.0.0.0/0"), &excepts);
        assert!(blocks.len() > 1);
        assert!(blocks.iter().all(|b| b.except.len() <= MAX_EXCEPTS));
        for n in 0..200 {
            assert!(!opens(&blocks, &format!("{n}.1.2.3")), "{n}.1.2.3 is open");
            assert!(opens(&blocks, &format!("{n}.2.2.3")), "{n}.2.2.3 is closed");
        }
    }

    #[test]
    fn a_half_that_is_excepted_as_a_whole_is_left_out() {
        assert!(blocks(net("128.0.0.0/1"), &[net("128.0.0.0/1")]).is_empty());
    }

    #[test]
    fn every_special_address_of_the_table_is_closed_and_public_ones_are_open() {
        let v4: Vec<IpNet> = v4_excepts().into_iter().map(IpNet::V4).collect();
        let open_v4 = blocks(net("0.0.0.0/0"), &v4);
        for ip in [
            "169.254.169.254",
            "10.0.0.1",
            "127.0.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "255.255.255.255",
        ] {
            assert!(!opens(&open_v4, ip), "{ip} is open");
        }
        assert!(opens(&open_v4, "1.1.1.1") && opens(&open_v4, "93.184.215.14"));
        let v6: Vec<IpNet> = v6_excepts().into_iter().map(IpNet::V6).collect();
        let open_v6 = blocks(IpNet::V6(V6_GLOBAL), &v6);
        for ip in [
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "2001:db8::1",
            "2002:a00:1::",
            "64:ff9b::a00:1",
        ] {
            assert!(!opens(&open_v6, ip), "{ip} is open");
        }
        assert!(opens(&open_v6, "2606:4700::1111"));
    }
}

//! One connection against all policies.
//!
//! The rules are those of `networking.k8s.io/v1`: a pod that some policy selects for a direction is closed in it but for
//! what the rules of all such policies open together; a connection needs the egress of its source and the ingress of its
//! target; what cannot be read opens nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

type Labels = BTreeMap<String, String>;

/// The transport of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn is(self, name: Option<&str>) -> bool {
        match name.unwrap_or("TCP") {
            "TCP" => self == Self::Tcp,
            "UDP" => self == Self::Udp,
            _ => false,
        }
    }
}

/// A pod, as far as policies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// Its address.
    pub ip: IpAddr,
    /// Its named container ports.
    pub ports: Vec<(String, Protocol, u16)>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint<'n> {
    /// A pod of the cluster.
    Pod(&'n Pod),
    /// Anything else.
    Outside(IpAddr),
}

impl Endpoint<'_> {
    fn ip(&self) -> IpAddr {
        match self {
            Self::Pod(pod) => pod.ip,
            Self::Outside(ip) => *ip,
        }
    }
}

/// The policies of a cluster and the labels of its namespaces.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// All policies.
    pub policies: Vec<NetworkPolicy>,
    /// Labels of namespaces by name; the API server sets `kubernetes.io/metadata.name` on each.
    pub namespaces: BTreeMap<String, Labels>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// A rule of either direction: the far ends, and the ports of the target.
struct Rule<'p> {
    peers: &'p [NetworkPolicyPeer],
    ports: &'p [NetworkPolicyPort],
}

impl Network {
    /// Whether a connection from one end to the other passes. Addresses and ports are those after address
    /// translation: of pods, never of a Service.
    pub fn allows(&self, from: Endpoint<'_>, to: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
        if let (Endpoint::Pod(a), Endpoint::Pod(b)) = (from, to)
            && a == b
        {
            return true;
        }
        let out = match from {
            Endpoint::Pod(pod) => self.opens(Direction::Egress, pod, to, to, protocol, port),
            Endpoint::Outside(_) => true,
        };
        let into = match to {
            Endpoint::Pod(pod) => self.opens(Direction::Ingress, pod, from, to, protocol, port),
            Endpoint::Outside(_) => true,
        };
        out && into
    }

    fn opens(
        &self,
        direction: Direction,
        pod: &Pod,
        far: Endpoint<'_>,
        target: Endpoint<'_>,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let mut isolated = false;
        for policy in &self.policies {
            let Some(spec) = selecting(policy, pod) else { continue };
            let types = spec.policy_types.as_deref().unwrap_or_default();
            // Without types: ingress always, egress if there are egress rules.
            let applies = if types.is_empty() {
                direction == Direction::Ingress || spec.egress.is_some()
            } else {
                types.iter().any(|name| name == direction.name())
            };
            if !applies {
                continue;
            }
            isolated = true;
            let matched = rules(policy, direction).any(|rule| {
                self.peers_hold(rule.peers, &pod.namespace, far) && ports_hold(rule.ports, target, protocol, port)
            });
            if matched {
                return true;
            }
        }
        !isolated
    }

    fn peers_hold(&self, peers: &[NetworkPolicyPeer], namespace: &str, far: Endpoint<'_>) -> bool {
        peers.is_empty() || peers.iter().any(|peer| self.peer_holds(peer, namespace, far))
    }

    fn peer_holds(&self, peer: &NetworkPolicyPeer, namespace: &str, far: Endpoint<'_>) -> bool {
        if let Some(block) = &peer.ip_block {
            let alone = peer.pod_selector.is_none() && peer.namespace_selector.is_none();
            return alone && block_holds(block, far.ip());
        }
        let Endpoint::Pod(pod) = far else { return false };
        let none = Labels::new();
        let namespace_holds = match &peer.namespace_selector {
            Some(selector) => selects(selector, self.namespaces.get(&pod.namespace).unwrap_or(&none)),
            None => peer.pod_selector.is_some() && pod.namespace == namespace,
        };
        namespace_holds
            && peer
                .pod_selector
                .as_ref()
                .is_none_or(|selector| selects(selector, &pod.labels))
    }
}

fn selecting<'p>(
    policy: &'p NetworkPolicy,
    pod: &Pod,
) -> Option<&'p k8s_openapi::api::networking::v1::NetworkPolicySpec> {
    let spec = policy.spec.as_ref()?;
    let same = policy.metadata.namespace.as_deref() == Some(pod.namespace.as_str());
    let selector = spec.pod_selector.clone().unwrap_or_default();
    (same && selects(&selector, &pod.labels)).then_some(spec)
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> Box<dyn Iterator<Item = Rule<'_>> + '_> {
    let Some(spec) = &policy.spec else {
        return Box::new(std::iter::empty());
    };
    match direction {
        Direction::Ingress => Box::new(spec.ingress.iter().flatten().map(|rule| Rule {
            peers: rule.from.as_deref().unwrap_or_default(),
            ports: rule.ports.as_deref().unwrap_or_default(),
        })),
        Direction::Egress => Box::new(spec.egress.iter().flatten().map(|rule| Rule {
            peers: rule.to.as_deref().unwrap_or_default(),
            ports: rule.ports.as_deref().unwrap_or_default(),
        })),
    }
}

fn block_holds(block: &IPBlock, ip: IpAddr) -> bool {
    let Ok(cidr) = block.cidr.parse::<IpNet>() else {
        return false;
    };
    let except: Result<Vec<IpNet>, _> = block.except.iter().flatten().map(|text| text.parse()).collect();
    except.is_ok_and(|except| cidr.contains(&ip) && !except.iter().any(|net| net.contains(&ip)))
}

fn ports_hold(ports: &[NetworkPolicyPort], target: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
    ports.is_empty() || ports.iter().any(|rule| port_holds(rule, target, protocol, port))
}

fn port_holds(rule: &NetworkPolicyPort, target: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
    if !protocol.is(rule.protocol.as_deref()) {
        return false;
    }
    let port_number = i32::from(port);
    match (&rule.port, rule.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&port_number),
        (Some(IntOrString::Int(number)), None) => *number == port_number,
        (Some(IntOrString::String(name)), _) => match target {
            Endpoint::Pod(pod) => pod
                .ports
                .iter()
                .any(|(n, p, number)| n == name && *p == protocol && *number == port),
            Endpoint::Outside(_) => false,
        },
    }
}

/// A label selector; an empty one selects everything.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let matched = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten();
    matched
        && expressions.clone().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = || {
                let values = expression.values.iter().flatten();
                value.is_some_and(|value| values.clone().any(|one| one == value))
            };
            match expression.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests;

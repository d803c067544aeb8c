//! Whether the proxy and the NetworkPolicies of a service agree, tuple by tuple.
//!
//! In: a policy, NetworkPolicies, a pod, a time; or a file with the rendered objects. Out: how many connections were
//! compared, and those on which the two differ. Pure but for nothing: the file's text comes in as a string.
//! Compared is what both can see: address, port, transport. A scheme neither sees: the proxy's policy does not take one, and
//! what follows from it is the port. A NetworkPolicy sees no names, so a connection counts as one the proxy lets through if
//! there is a host under which it does (one public name stands for all: `tests/equivalence/hosts.rs`). Of selectors only those
//! are seen that open pods without labels; pods with particular labels are compared by the tests, which know the pods behind
//! a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use screenshot_policy::address::{self, V6_GLOBAL};
use screenshot_policy::cluster::ClusterRanges;
use screenshot_policy::egress::UpstreamProxy;
use screenshot_policy::host::{Host, HostName};
use screenshot_policy::layout;
use screenshot_policy::policy::{Ceiling, DomainLists, EffectivePolicy};
use serde::Deserialize;
use serde_json::Value;

use super::evaluate::{Endpoint, Network, Pod, Protocol};

/// The port of name servers. Pods reach the cluster's own; the browser's proxy never dials it (ceiling of the policy).
const DNS: u16 = 53;
/// A name server that is no pod: NodeLocal DNSCache, which a pod may ask, and a page never.
const NODE_LOCAL_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));
/// A namespace that nothing knows.
const ELSEWHERE: &str = "verify-elsewhere";
/// The label that the API server gives to every namespace: its name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Where a connection would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address that is no pod's.
    Address(IpAddr),
    /// A pod of this namespace that no policy of a service names.
    Pod(String),
}

/// One connection on which the two differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The transport.
    pub protocol: Protocol,
    /// Where to.
    pub target: Target,
    /// Its port.
    pub port: u16,
    /// The host under which the proxy connects, or why it does not under any.
    pub proxy: Result<Host, &'static str>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = format!("{:?}", self.protocol).to_lowercase();
        let to = match &self.target {
            Target::Address(address) => std::net::SocketAddr::new(*address, self.port).to_string(),
            Target::Pod(namespace) => format!("any pod in namespace {namespace}, port {}", self.port),
        };
        match &self.proxy {
            Ok(host) => write!(
                f,
                "{protocol} {to}: the proxy connects (as {host}), the NetworkPolicies do not let it"
            ),
            Err(reason) => write!(
                f,
                "{protocol} {to}: the proxy refuses ({reason}), the NetworkPolicies let it through"
            ),
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// How many connections were compared.
    pub compared: usize,
    /// Those on which the two differ.
    pub disagreements: Vec<Disagreement>,
}

/// Compares over the first and last address of every range that either side knows, their neighbours, and every port
/// that either side names, with its neighbours; and over pods that nobody named, here, in every namespace that the network
/// knows and elsewhere, which are closed on every port.
pub fn compare(policy: &EffectivePolicy, network: &Network, pod: &Pod, now: Timestamp) -> Comparison {
    let proxy = Proxy::new(policy, now);
    let (addresses, ports) = (addresses(policy, network), ports(policy, network));
    let mut comparison = Comparison::default();
    let mut namespaces: BTreeSet<&str> = network.namespaces.keys().map(String::as_str).collect();
    namespaces.extend([pod.namespace.as_str(), ELSEWHERE]);
    for namespace in namespaces {
        for port in ports.iter().copied().chain([DNS]).collect::<BTreeSet<_>>() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                comparison.compared += 1;
                comparison
                    .disagreements
                    .extend(stranger(network, pod, namespace, protocol, port));
            }
        }
    }
    for address in addresses {
        for port in &ports {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                comparison.compared += 1;
                comparison
                    .disagreements
                    .extend(one(&proxy, network, pod, protocol, address, *port));
            }
        }
    }
    comparison
}

/// Compares one connection to a pod without labels, which no exception and no rule for name servers is about: those name
/// the labels of their pods. By its address the proxy refuses it, as pods have private ones or such as the cluster calls its
/// own. Here it has one that no policy can open, so that nothing but a selector does.
fn stranger(network: &Network, pod: &Pod, namespace: &str, protocol: Protocol, port: u16) -> Option<Disagreement> {
    let other = Pod {
        namespace: namespace.to_owned(),
        labels: BTreeMap::new(),
        ip: IpAddr::V4(Ipv4Addr::new(240, 0, 0, 2)),
        ports: Vec::new(),
    };
    let open = network.allows(Endpoint::Pod(pod), Endpoint::Pod(&other), protocol, port);
    open.then(|| Disagreement {
        protocol,
        target: Target::Pod(namespace.to_owned()),
        port,
        proxy: Err("cluster_address"),
    })
}

/// Compares one connection to something that is no pod.
pub fn one(
    proxy: &Proxy,
    network: &Network,
    pod: &Pod,
    protocol: Protocol,
    address: IpAddr,
    port: u16,
) -> Option<Disagreement> {
    let open = network.allows(Endpoint::Pod(pod), Endpoint::Outside(address), protocol, port);
    if port == DNS && address == NODE_LOCAL_DNS {
        return None;
    }
    let judged = match protocol {
        Protocol::Tcp => proxy.connects(address, port),
        Protocol::Udp => Err("udp"),
    };
    (judged.is_ok() != open).then_some(Disagreement {
        protocol,
        target: Target::Address(address),
        port,
        proxy: judged,
    })
}

/// The proxy's decision, over all hosts that a page could name.
pub struct Proxy {
    policy: EffectivePolicy,
    hosts: Vec<Host>,
    now: Timestamp,
}

impl Proxy {
    /// The proxy under a policy at a time. Lists of names are left out, as no NetworkPolicy sees them, and with them the
    /// exceptions that they deny.
    pub fn new(policy: &EffectivePolicy, now: Timestamp) -> Self {
        let mut document = policy.document().clone();
        document.egress.domains = DomainLists::default();
        document
            .egress
            .exceptions
            .retain(|exception| !policy.denies_exception(exception));
        let exceptions = document.egress.exceptions.iter();
        // A Service's exception without a range leads to pods, whatever their addresses.
        let ranged = exceptions.filter(|exception| exception.cidr.is_some() || matches!(exception.host, Host::Ip(_)));
        let hosts = ranged.map(|exception| exception.host.clone()).collect();
        // What is in force resolves again; if it ever did not, the policy itself is the stricter one.
        let own = policy.cluster_ranges().clone();
        let policy = EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap_or_else(|_| policy.clone());
        let policy = policy.in_cluster(own);
        Self { policy, hosts, now }
    }

    /// A host under which the proxy makes a connection to the address, or why there is none: what a page asks for, or, where
    /// there is an upstream, that and what exceptions name.
    pub fn connects(&self, address: IpAddr, port: u16) -> Result<Host, &'static str> {
        let public = "www.example.org".parse::<HostName>().map(Host::Name);
        let literal = [Host::Ip(address)];
        let upstream = self.policy.upstream();
        let mut reason = match upstream.map(|upstream| self.reaches(upstream, address, port)) {
            Some(Ok(host)) => return Ok(host),
            Some(Err(reason)) => reason,
            None => "no_host",
        };
        let asked = public.iter().chain(&literal).filter(|_| upstream.is_none());
        for host in asked.chain(&self.hosts) {
            if matches!(host, Host::Ip(ip) if ip.to_canonical() != address.to_canonical()) {
                continue;
            }
            let verdict = self.policy.admit_host(host, port, self.now);
            // What no exception names goes through the upstream.
            let verdict = verdict.map(|verdict| (upstream.is_none() || verdict.is_excepted()).then_some(verdict));
            let Some(verdict) = verdict.transpose() else { continue };
            let judged = verdict.and_then(|verdict| self.policy.admit_addresses(&verdict, &[address], self.now));
            match judged {
                Ok(_) => return Ok(host.clone()),
                Err(refusal) => reason = refusal.reason(),
            }
        }
        Err(reason)
    }
}

impl Proxy {
    /// Whether the upstream may have this address. What a Service leads to are pods, whatever their addresses.
    fn reaches(&self, upstream: &UpstreamProxy, address: IpAddr, port: u16) -> Result<Host, &'static str> {
        let service = upstream.host.in_cluster_service(&self.policy.egress().cluster.domain);
        if upstream.port.get() != port || !self.policy.uses_upstream() || (service.is_some() && upstream.cidr.is_none())
        {
            return Err("not_the_upstream");
        }
        let admitted = self.policy.admit_upstream(upstream, &[], &[address]);
        admitted
            .map(|_| upstream.host.clone())
            .map_err(|refusal| refusal.reason())
    }
}

fn addresses(policy: &EffectivePolicy, network: &Network) -> BTreeSet<IpAddr> {
    let mut nets: Vec<IpNet> = address::v4_excepts().into_iter().map(IpNet::V4).collect();
    nets.extend(address::v6_excepts().into_iter().map(IpNet::V6));
    nets.extend(address::never_excepted());
    nets.extend(address::metadata());
    nets.push(IpNet::V6(V6_GLOBAL));
    nets.extend(policy.own_ranges());
    let upstream = policy.upstream().into_iter();
    nets.extend(
        upstream
            .flat_map(|upstream| policy.upstream_blocks(upstream))
            .map(|b| b.cidr),
    );
    nets.extend(
        policy
            .exceptions()
            .iter()
            .flat_map(|exception| policy.exception_blocks(exception))
            .map(|b| b.cidr),
    );
    for policy in &network.policies {
        let blocks = targets(policy).filter_map(|peer| peer.ip_block.as_ref());
        let texts = blocks.flat_map(|block| std::iter::once(&block.cidr).chain(block.except.iter().flatten()));
        nets.extend(texts.filter_map(|text| text.parse::<IpNet>().ok()));
    }
    // What leads into an IPv4 range through a translated prefix is judged as that range is.
    let prefixes = &policy.egress().nat64_prefixes;
    let images: Vec<IpNet> = prefixes.iter().flat_map(|prefix| prefix.images(&nets)).collect();
    nets.extend(prefixes.iter().map(|prefix| IpNet::V6(prefix.net())));
    nets.extend(images);
    // An IPv4-mapped address is no address of its own on the wire.
    let mapped = |ip: &IpAddr| *ip != ip.to_canonical();
    // An address in a prefix with bits 64 to 71 set leads nowhere. The proxy refuses it, and no range can say it.
    let nowhere = |ip: &IpAddr| match ip {
        IpAddr::V6(ip) => ip.octets()[8] != 0 && prefixes.iter().any(|prefix| prefix.net().contains(ip)),
        IpAddr::V4(_) => false,
    };
    nets.into_iter()
        .flat_map(address::edges)
        .filter(|ip| !mapped(ip) && !nowhere(ip))
        .collect()
}

/// Whom a policy lets its pods reach.
fn targets(policy: &NetworkPolicy) -> impl Iterator<Item = &NetworkPolicyPeer> {
    let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten());
    rules.flat_map(|rule| rule.to.iter().flatten())
}

fn ports(policy: &EffectivePolicy, network: &Network) -> BTreeSet<u16> {
    let mut named: BTreeSet<u16> = policy.egress_ports().iter().map(|port| port.get()).collect();
    named.extend(policy.upstream().map(|upstream| upstream.port.get()));
    named.extend(
        policy
            .exceptions()
            .iter()
            .flat_map(|exception| &exception.ports)
            .map(|port| port.get()),
    );
    for policy in &network.policies {
        let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten());
        for port in rules.flat_map(|rule| rule.ports.iter().flatten()) {
            let ends = [&port.port, &port.end_port.map(IntOrString::Int)].map(Clone::clone);
            named.extend(ends.into_iter().flatten().filter_map(|end| match end {
                IntOrString::Int(number) => u16::try_from(number).ok(),
                IntOrString::String(_) => None,
            }));
        }
    }
    let neighbours = |port: u16| [port.checked_sub(1), Some(port), port.checked_add(1)];
    named
        .into_iter()
        .flat_map(neighbours)
        .flatten()
        .filter(|port| *port != 0)
        .collect()
}

/// One service found in a file.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its namespace and name, as its policy has them.
    pub service: String,
    /// Its policy.
    pub policy: EffectivePolicy,
    /// A pod of it.
    pub pod: Pod,
}

/// Why a file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not YAML.
    #[error("the file is not YAML: {0}")]
    Yaml(String),
    /// A NetworkPolicy that cannot be read.
    #[error("NetworkPolicy {name}: {error}")]
    NetworkPolicy {
        /// Its name.
        name: String,
        /// What the reader says.
        error: serde_json::Error,
    },
    /// A policy that the capture server would refuse.
    #[error("ConfigMap {name}: {error}")]
    Policy {
        /// The ConfigMap's name.
        name: String,
        /// The rule.
        error: screenshot_policy::policy::PolicyError,
    },
    /// Ranges of the cluster that the capture server would refuse.
    #[error("ConfigMap {name}: {error}")]
    Ranges {
        /// The ConfigMap's name.
        name: String,
        /// The rule.
        error: screenshot_policy::cluster::ClusterRangesError,
    },
    /// Nothing to compare.
    #[error("the file has no ConfigMap with {}", layout::POLICY_FILE)]
    Empty,
}

/// Reads rendered objects: the documents of a YAML file, and the items of lists in it.
pub fn read(text: &str) -> Result<(Network, Vec<Subject>), VerifyError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| VerifyError::Yaml(error.to_string()))?;
    let mut network = Network::default();
    let mut subjects = Vec::new();
    for object in documents.iter().flat_map(items) {
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match object.get("kind").and_then(Value::as_str) {
            Some("NetworkPolicy") => {
                let policy = NetworkPolicy::deserialize(object);
                network
                    .policies
                    .push(policy.map_err(|error| VerifyError::NetworkPolicy { name, error })?);
            }
            Some("ConfigMap") => {
                let data = |file| {
                    object
                        .get("data")
                        .and_then(|data| data.get(file))
                        .and_then(Value::as_str)
                };
                if let Some(text) = data(layout::POLICY_FILE) {
                    let ranges =
                        match data(layout::CLUSTER_RANGES_FILE).map(|text| ClusterRanges::load(text.as_bytes())) {
                            None => ClusterRanges::default(),
                            Some(Ok(ranges)) => ranges,
                            Some(Err(error)) => return Err(VerifyError::Ranges { name, error }),
                        };
                    subjects.push(subject(object, text, ranges).map_err(|error| VerifyError::Policy { name, error })?);
                }
            }
            _ => {}
        }
    }
    if subjects.is_empty() {
        return Err(VerifyError::Empty);
    }
    network.namespaces = namespaces(&network.policies, &subjects);
    Ok((network, subjects))
}

/// The namespaces of services and policies, those that rules for what pods reach name, and one that nothing knows. The file
/// does not tell of their labels, so each has the one that the API server gives it.
fn namespaces(policies: &[NetworkPolicy], subjects: &[Subject]) -> BTreeMap<String, BTreeMap<String, String>> {
    let services = subjects.iter().map(|subject| &subject.pod.namespace);
    let homes = policies.iter().filter_map(|policy| policy.metadata.namespace.as_ref());
    let selectors = policies
        .iter()
        .flat_map(targets)
        .filter_map(|peer| peer.namespace_selector.as_ref());
    let names = services.chain(homes).chain(selectors.flat_map(named)).cloned();
    names
        .chain([ELSEWHERE.to_owned()])
        .map(|name| {
            let labels = BTreeMap::from([(NAMESPACE_LABEL.to_owned(), name.clone())]);
            (name, labels)
        })
        .collect()
}

/// The namespaces that a selector names, to have them or not to.
fn named(selector: &LabelSelector) -> impl Iterator<Item = &String> {
    let labels = selector.match_labels.iter();
    let alone = labels.filter_map(|labels| labels.get(NAMESPACE_LABEL));
    let expressions = selector.match_expressions.iter().flatten();
    let listed = expressions.filter(|expression| expression.key == NAMESPACE_LABEL);
    alone.chain(listed.flat_map(|expression| expression.values.iter().flatten()))
}

fn items(document: &Value) -> Vec<&Value> {
    match document.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

/// Every child carries the labels that its pods have, so the ConfigMap tells what a pod looks like to a policy.
fn subject(
    config_map: &Value,
    text: &str,
    ranges: ClusterRanges,
) -> Result<Subject, screenshot_policy::policy::PolicyError> {
    let policy = EffectivePolicy::load(text.as_bytes())?.in_cluster(ranges);
    let labels = config_map.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    let pod = Pod {
        namespace: policy.service().namespace.to_string(),
        labels: labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        // Of a range that no policy can open: the pod's own address must not matter.
        ip: IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1)),
        ports: Vec::new(),
    };
    Ok(Subject {
        service: format!("{}/{}", policy.service().namespace, policy.service().name),
        policy,
        pod,
    })
}

//! Which addresses an object of the cluster has.
//!
//! In: a Node, a Service, a ServiceCIDR, an EndpointSlice. Out: ranges, whatever of them is public. What cannot be read as
//! an address, such as a load balancer's host name, is left out. Of a Node only what is needed is decoded: it is large
//! and told of every few minutes.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::core::Object;
use screenshot_policy::cluster::host;
use serde::Deserialize;

/// The part of a Node that matters.
pub type Node = Object<NodeSpec, NodeStatus>;

/// Its ranges of pods.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// Its addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Internal and external addresses, and the ranges of its pods.
pub fn node(node: &Node) -> Vec<IpNet> {
    let kinds = ["InternalIP", "ExternalIP"];
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    let own = addresses
        .filter(|address| kinds.contains(&address.kind.as_str()))
        .map(|address| &address.address);
    let pods = node.spec.pod_cidr.iter().chain(&node.spec.pod_cidrs);
    own.filter_map(ip).chain(pods.filter_map(range)).collect()
}

/// Cluster addresses, external addresses, and those of its load balancer.
pub fn service(service: &Service) -> Vec<IpNet> {
    let spec = service.spec.iter();
    let own = spec.flat_map(|spec| spec.cluster_ips.iter().chain(&spec.external_ips).flatten());
    let balancer = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = balancer.flat_map(|balancer| balancer.ingress.iter().flatten());
    own.chain(ingress.filter_map(|ingress| ingress.ip.as_ref()))
        .filter_map(ip)
        .collect()
}

/// A range that Services get their addresses from.
pub fn service_cidr(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let ranges = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    ranges.filter_map(range).collect()
}

/// Where the API server listens.
pub fn endpoints(slice: &EndpointSlice) -> Vec<IpNet> {
    slice
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(ip)
        .collect()
}

fn ip(text: impl AsRef<str>) -> Option<IpNet> {
    text.as_ref().parse::<IpAddr>().ok().map(host)
}

fn range(text: impl AsRef<str>) -> Option<IpNet> {
    text.as_ref().parse::<IpNet>().ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(nets: &[IpNet]) -> Vec<String> {
        nets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_address_of_the_clusters_objects_is_found_and_names_are_left_out() {
        let found: Node = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"podCIDR": "2a00:1:0:1::/64", "podCIDRs": ["2a00:1:0:1::/64", "10.244.1.0/24"], "providerID": "x"},
            "status": {"images": [{"names": ["a"]}], "addresses": [
                {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.7"},
                {"type": "ExternalIP", "address": "20.1.2.3"}, {"type": "ExternalDNS", "address": "20.9.9.9"},
                {"type": "InternalIP", "address": "2a00::7"},
            ]},
        }))
        .unwrap();
        assert_eq!(
            texts(&node(&found)),
            [
                "10.0.0.7/32",
                "20.1.2.3/32",
                "2a00::7/128",
                "2a00:1:0:1::/64",
                "2a00:1:0:1::/64",
                "10.244.1.0/24"
            ]
        );
        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {}})).unwrap();
        assert!(node(&bare).is_empty());
        let found: Service = serde_json::from_value(json!({
            "spec": {"clusterIPs": ["10.96.0.7", "None"], "externalIPs": ["20.1.2.4"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "20.1.2.5"}, {"hostname": "lb.example.com"}]}},
        }))
        .unwrap();
        assert_eq!(texts(&service(&found)), ["10.96.0.7/32", "20.1.2.4/32", "20.1.2.5/32"]);
        let found: ServiceCIDR =
            serde_json::from_value(json!({"spec": {"cidrs": ["20.96.0.0/16", "fd00::/108"]}})).unwrap();
        assert_eq!(texts(&service_cidr(&found)), ["20.96.0.0/16", "fd00::/108"]);
        let found: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["20.1.2.6"]}, {"addresses": ["20.1.2.7"]}],
        }))
        .unwrap();
        assert_eq!(texts(&endpoints(&found)), ["20.1.2.6/32", "20.1.2.7/32"]);
    }
}

//! Who may connect to the capture pods, what pages may reach.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use screenshot_policy::policy::DEFAULT_PORTS;
use serde::{Deserialize, Serialize};

use super::exposure::Exposure;
use super::lists::{CidrLists, DomainLists};
use super::parts::{self, Peer, Selector};
use super::tls::EgressTls;
use super::upstream::UpstreamProxySpec;

/// Connections to the capture pods and from them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Who may connect to the capture API. Default: the pods of the service's own namespace.
    #[serde(default)]
    pub ingress: Ingress,
    /// Connections from a page to the outside. Default: the public internet on ports 80 and 443.
    #[serde(default)]
    pub egress: Egress,
    /// How clients outside of the cluster reach the service. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
}

/// Who may connect to the capture API. A token is needed all the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Pods that may connect, at most 16 entries. A service with `exposure` must name the pods of the ingress controller or
    /// gateway here, unless they run in its own namespace. Default: every pod of the service's own namespace.
    #[serde(default = "default_from")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<Peer>,
    /// Address ranges that may connect, in CIDR notation, at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parts::cidrs")]
    pub cidrs: Vec<String>,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            from: default_from(),
            cidrs: Vec::new(),
        }
    }
}

fn default_from() -> Vec<Peer> {
    vec![Peer {
        namespace_selector: None,
        pod_selector: Some(Selector::default()),
    }]
}

/// Connections from a page to the outside.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.upstreamProxy) || self.upstreamProxy.resolve != 'Remote' || ((!has(self.cidrs.allow) || size(self.cidrs.allow) == 0) && (!has(self.cidrs.deny) || size(self.cidrs.deny) == 0))",
    "message": "`cidrs` must not be set where the upstream proxy resolves names: nothing would hold it",
    "reason": "FieldValueInvalid",
    "fieldPath": ".cidrs"
}]))]
pub struct Egress {
    /// TCP ports on which pages may reach the public internet, out of 80 and 443. An empty list leaves only the exceptions.
    /// Default: both.
    #[serde(default = "default_ports")]
    #[schemars(length(max = 2), inner(range(min = 1, max = 65535)), extend(
        "x-kubernetes-list-type" = "set",
        "x-kubernetes-validations" = [{
            "rule": "self.all(port, port == 80 || port == 443)",
            "message": "must be 80 or 443; any other port needs an entry in `exceptions`",
            "reason": "FieldValueInvalid"
        }]
    ))]
    pub ports: Vec<i32>,
    /// Names that pages may ask for. Default: any public name.
    #[serde(default)]
    pub domains: DomainLists,
    /// Address ranges that pages may reach. Default: every public address.
    #[serde(default)]
    pub cidrs: CidrLists,
    /// Destinations that pages may reach although they are not public, each with a reason and an end. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub exceptions: Vec<EgressExceptionSpec>,
    /// Certificates of hosts that are known by their keys. Default: public authorities vouch for every host.
    #[serde(default)]
    pub tls: EgressTls,
    /// Forward proxy that is the way to the public internet. Default: none, connections are made straight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<UpstreamProxySpec>,
    /// What follows when a capture pod reaches the operator's canary, an address that none of its NetworkPolicies opens: the
    /// cluster does not enforce them then. `Required`: the pod is not ready until it is kept away again. `Advisory`:
    /// captures go on behind the proxy alone, and the status says so. What is not known, as while no operator runs, stops
    /// nothing. Default: `Required`.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// What follows when the cluster's network plugin does not enforce NetworkPolicies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum Enforcement {
    /// Capture pods that were found open are not ready.
    #[default]
    Required,
    /// It is told, and captures go on.
    Advisory,
}

/// One destination that pages may reach although it is not public. Metadata addresses, loopback and link-local
/// addresses can never be one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.cidr) || isIP(self.host) || self.host.startsWith('[') || self.host.matches('^[^.]+[.][^.]+[.]svc([.]|$)')",
    "message": "`cidr` must be set unless `host` is an IP address or the name of a Service such as 'web.shop.svc'",
    "reason": "FieldValueRequired",
    "fieldPath": ".cidr"
}]))]
pub struct EgressExceptionSpec {
    /// Host as it stands in a page's URL: a lower-case name without trailing dot, an IPv4 address, or an IPv6 address
    /// in square brackets. Required.
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]+\])$"
        )
    )]
    pub host: String,
    /// TCP ports, 1 to 65535, at most 16 of them. Required.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)), extend("x-kubernetes-list-type" = "set"))]
    pub ports: Vec<i32>,
    /// Addresses the host may resolve to, in CIDR notation. Default: the host itself if it is an address, the pods behind
    /// it if it is a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 43), regex(pattern = r"^[0-9a-f:.]+/[0-9]{1,3}$"), extend("x-kubernetes-validations" = [{
        "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
        "message": "must be an address range in CIDR notation without host bits, such as '10.20.0.0/16'",
        "reason": "FieldValueInvalid"
    }]))]
    pub cidr: Option<String>,
    /// Why this is needed, for whoever reviews it: 1 to 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// Instant, RFC 3339, after which the exception no longer holds. Required.
    pub expires: Time,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            ports: default_ports(),
            domains: DomainLists::default(),
            cidrs: CidrLists::default(),
            exceptions: Vec::new(),
            tls: EgressTls::default(),
            upstream_proxy: None,
            enforcement: Enforcement::default(),
        }
    }
}

fn default_ports() -> Vec<i32> {
    DEFAULT_PORTS.map(|port| i32::from(port.get())).to_vec()
}

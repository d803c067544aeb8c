//! What the user writes: `spec`.
//!
//! In: a manifest. Out: typed, defaulted values; `spec: {}` is complete and every default is the safe one.
//! One file per topic. Must not: hold a field that nothing acts on, an unbounded string, list or number, or a default
//! that differs between Rust and the schema (both come from the functions here).

mod auth;
mod autoscaling;
mod exposure;
mod lists;
mod monitoring;
mod network;
mod parts;
mod sandbox;
mod tls;
mod upstream;
mod workload;

pub use auth::{Auth, Rotation};
pub use autoscaling::Autoscaling;
pub use exposure::{Exposure, HttpRouteExposure, IngressExposure, ParentReference, Scheme};
pub use lists::{CidrLists, DomainLists};
pub use monitoring::{Monitoring, MonitoringObject, PodMonitor};
pub use network::{Egress, EgressExceptionSpec, Enforcement, Ingress, Network};
pub use parts::{Metadata, Peer, SecretReference, Selector};
pub use sandbox::{Isolation, Sandbox, SandboxMode};
pub use tls::{EgressTls, TlsHostSpec, TlsTrust};
pub use upstream::{Resolution, UpstreamProxySpec};
pub use workload::{
    ContainerResources, DefaultResources, PullPolicy, Quantities, Resources, Scheduling, TaintEffect, Toleration,
    TolerationOperator, TopologySpread,
};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One screenshot service: capture pods, their network rules, their policy and the tokens that open them.
#[derive(CustomResource, Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[kube(
    group = "screenshot-operator.io",
    version = "v1alpha1",
    kind = "ScreenshotService",
    plural = "screenshotservices",
    shortname = "shot",
    category = "screenshots",
    namespaced,
    status = "crate::status::ScreenshotServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A screenshot service: capture pods, their network rules, their policy and the tokens that open them. `spec: {}` is a complete and safe service.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.suspend",
    selectable = ".spec.sandbox.mode",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the service is as the spec says, controls verified."}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url","description":"Where clients send captures."}"#,
    printcolumn = r#"{"name":"Replicas","type":"integer","jsonPath":".status.readyReplicas","description":"Capture pods that take requests."}"#,
    printcolumn = r#"{"name":"Key Age","type":"date","jsonPath":".status.auth.lastRotationTime","description":"Time since the current token was made."}"#,
    printcolumn = r#"{"name":"Sandbox","type":"string","jsonPath":".status.conditions[?(@.type==\"SandboxVerified\")].status","description":"Whether every browser was found confined."}"#,
    printcolumn = r#"{"name":"Egress","type":"string","jsonPath":".status.conditions[?(@.type==\"EgressEnforced\")].status","description":"Whether the cluster enforces the NetworkPolicies of the capture pods."}"#,
    printcolumn = r#"{"name":"Browser","type":"string","jsonPath":".status.browser.version","description":"Version of the browser, as every capture pod attests it."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","priority":1,"description":"Why Ready is what it is."}"#,
    printcolumn = r#"{"name":"Browser Age","type":"date","jsonPath":".status.browser.buildTime","priority":1,"description":"Time since the browser was built."}"#,
    printcolumn = r#"{"name":"Addresses","type":"string","jsonPath":".status.conditions[?(@.type==\"AddressesChecked\")].status","priority":1,"description":"Whether the capture pods check the addresses of pages themselves, where there is an upstream proxy."}"#,
    printcolumn = r#"{"name":"Next Rotation","type":"string","jsonPath":".status.auth.nextRotationTime","priority":1,"description":"When the token is replaced next."}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspend","priority":1,"description":"Whether the service rests as asked."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ScreenshotServiceSpec {
    /// Image of the capture pods, best by digest. Default: the image the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: Option<String>,

    /// When the node fetches the image: `Always`, `IfNotPresent` or `Never`. Default: `IfNotPresent`.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,

    /// Secrets with the registry's credentials, in the service's namespace, at most 8. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretReference>,

    /// Number of capture pods, 0 to 100. Not used while `autoscaling` is set. Default: 2. 0 keeps everything else in place and
    /// stops captures.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

    /// Lets the number of capture pods follow the load, in place of `replicas`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// When true, no capture pod runs and no token is rotated; everything else stays. Default: false.
    #[serde(default)]
    pub suspend: bool,

    /// Any new value here replaces every capture pod, one after the other and without a gap. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._:+-]+$"))]
    pub restart_nonce: Option<String>,

    /// CPU and memory of the two containers of a capture pod. Default: see the fields.
    #[serde(default)]
    pub resources: Resources,

    /// Which nodes the capture pods may run on, and how they spread. Default: any, evenly.
    #[serde(default)]
    pub scheduling: Scheduling,

    /// Labels and annotations of the capture pods; a change replaces them. Default: none but the operator's.
    #[serde(default)]
    pub pod_metadata: Metadata,

    /// Labels and annotations of all objects that the operator makes for the service, but the pods and the Secrets.
    /// Default: none but the operator's.
    #[serde(default)]
    pub object_metadata: Metadata,

    /// Who may ask for captures, and how the token is renewed. Default: one client, a new token every 30 days.
    #[serde(default)]
    pub auth: Auth,

    /// Who may connect, and what pages may reach. Default: from the service's own namespace, to the public internet on ports
    /// 80 and 443.
    #[serde(default)]
    pub network: Network,

    /// How browsers are confined. Default: fully, or the pod does not become ready.
    #[serde(default)]
    pub sandbox: Sandbox,

    /// Objects for the Prometheus operator and for Grafana. Default: none.
    #[serde(default)]
    pub monitoring: Monitoring,
}

impl Default for ScreenshotServiceSpec {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            replicas: default_replicas(),
            autoscaling: None,
            suspend: false,
            restart_nonce: None,
            resources: Resources::default(),
            scheduling: Scheduling::default(),
            pod_metadata: Metadata::default(),
            object_metadata: Metadata::default(),
            auth: Auth::default(),
            network: Network::default(),
            sandbox: Sandbox::default(),
            monitoring: Monitoring::default(),
        }
    }
}

fn default_replicas() -> i32 {
    2
}

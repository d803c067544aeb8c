//! What the user writes: `spec`.
//!
//! In: a manifest. Out: typed, defaulted values; `spec: {}` is complete and every default is the safe one.
//! Must not: hold a field that nothing acts on, an unbounded string, list or number, or a default that differs
//! between Rust and the schema (both come from the functions here).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the service is as the spec says, controls verified."}"#,
    printcolumn = r#"{"name":"Replicas","type":"integer","jsonPath":".status.readyReplicas","description":"Capture pods that take requests."}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url","description":"Where clients inside the cluster send captures."}"#,
    printcolumn = r#"{"name":"Key Age","type":"date","jsonPath":".status.auth.lastRotationTime","description":"Time since the current token was made."}"#,
    printcolumn = r#"{"name":"Next Rotation","type":"string","jsonPath":".status.auth.nextRotationTime","priority":1,"description":"When the token is replaced next."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","priority":1,"description":"Why Ready is what it is."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ScreenshotServiceSpec {
    /// Image of the capture pods, best by digest. Default: the image the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: Option<String>,

    /// Number of capture pods, 0 to 100. Default: 2. 0 keeps everything else in place and stops captures.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

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

    /// Who may ask for captures, and how the token is renewed.
    #[serde(default)]
    pub auth: Auth,

    /// What pages may reach. Default: the public internet on ports 80 and 443 and nothing else.
    #[serde(default)]
    pub network: Network,

    /// How browsers are confined. Default: fully, or the pod does not become ready.
    #[serde(default)]
    pub sandbox: Sandbox,
}

/// CPU and memory of the two containers of a capture pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The API server container. Default: requests 50m and 64Mi, limits memory 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ContainerResources>,
    /// The browser container. Default: requests 200m and 256Mi, limits memory 1536Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<ContainerResources>,
}

/// Requests and limits of one container. A quantity that is left out takes the operator's default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResources {
    /// What the scheduler reserves. Default: see `resources.server` and `resources.browser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Quantities>,
    /// What the container may not exceed. Default: see `resources.server` and `resources.browser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Quantities>,
}

/// An amount of CPU and of memory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quantities {
    /// Processor time in cores, such as `250m` (a quarter of a core) or `2`. Default: see the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), regex(pattern = r"^([1-9][0-9]{0,5}m|[1-9][0-9]{0,2})$"))]
    pub cpu: Option<String>,
    /// Memory in bytes with a binary unit, such as `512Mi` or `2Gi`. Default: see the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), regex(pattern = r"^[1-9][0-9]{0,5}(Mi|Gi)$"))]
    pub memory: Option<String>,
}

/// Who may ask for captures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Name of the client that the token belongs to, as it appears in metrics and logs. Default: `default`.
    #[serde(default = "default_client")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub client_name: String,
    /// When and how the token is replaced.
    #[serde(default)]
    pub rotation: Rotation,
}

/// When and how the token is replaced. Captures do not fail during a rotation as long as clients read their Secret
/// again within the overlap.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.overlapHours < self.periodDays * 24",
    "message": "`overlapHours` must be less than `periodDays` times 24",
    "reason": "FieldValueInvalid",
    "fieldPath": ".overlapHours"
}]))]
pub struct Rotation {
    /// Days after which a token is replaced, 1 to 365. Default: 30.
    #[serde(default = "default_period_days")]
    #[schemars(range(min = 1, max = 365))]
    pub period_days: i32,
    /// Hours for which the replaced token still works, 0 to 720, less than the period. Default: 24.
    #[serde(default = "default_overlap_hours")]
    #[schemars(range(min = 0, max = 720))]
    pub overlap_hours: i32,
    /// Any new value here replaces the token at once; `status.auth.lastHandledNonce` answers when it is done.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._:+-]+$"))]
    pub nonce: Option<String>,
}

/// What pages may reach.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Connections from a page to the outside.
    #[serde(default)]
    pub egress: Egress,
}

/// Connections from a page to the outside.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// Destinations that pages may reach although they are not public, each with a reason and an end. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub exceptions: Vec<EgressExceptionSpec>,
}

/// One destination that pages may reach although it is not public. Metadata addresses, loopback and link-local
/// addresses can never be one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.cidr) || isIP(self.host) || self.host.startsWith('[') || self.host.endsWith('.svc') || self.host.endsWith('.svc.cluster.local')",
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

/// How browsers are confined.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// `Required`: every browser runs in its own user, network and pid namespace with Chromium's sandbox on, or the pod
    /// does not become ready; the node needs the operator's seccomp profile. `Degraded`: pods run on nodes without the
    /// profile, with weaker confinement, and the status says so. Default: `Required`.
    #[serde(default)]
    pub mode: SandboxMode,
}

/// How much confinement is demanded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum SandboxMode {
    /// All of it, verified, or not ready.
    #[default]
    Required,
    /// What the node offers.
    Degraded,
}

impl Default for ScreenshotServiceSpec {
    fn default() -> Self {
        Self {
            image: None,
            replicas: default_replicas(),
            suspend: false,
            restart_nonce: None,
            resources: Resources::default(),
            auth: Auth::default(),
            network: Network::default(),
            sandbox: Sandbox::default(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            client_name: default_client(),
            rotation: Rotation::default(),
        }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            period_days: default_period_days(),
            overlap_hours: default_overlap_hours(),
            nonce: None,
        }
    }
}

fn default_replicas() -> i32 {
    2
}

fn default_client() -> String {
    "default".to_owned()
}

fn default_period_days() -> i32 {
    30
}

fn default_overlap_hours() -> i32 {
    24
}

//! What the operator answers: `status`.
//!
//! In: what was observed and attested. Out: what users, GitOps tools and autoscalers read.
//! Must not: hold token text, digests of tokens, or a value that changes on every pass.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the operator observed and verified.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScreenshotServiceStatus {
    /// Conditions: Ready, Available, PolicyInForce, CredentialsReady, SandboxVerified, EgressEnforced, ClusterAddressesKnown,
    /// Suspended; where the spec asks for it, ExceptionsLasting, AddressesChecked, AutoscalingActive, Exposed and MonitoringInPlace;
    /// and, only while true, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes; -1 before the first pass.
    #[serde(default = "default_generation")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: i64,
    /// Where clients send captures: outside of the cluster if `spec.network.exposure` is set, else inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 263))]
    pub url: Option<String>,
    /// Digest of the policy that the spec leads to, `sha256:` and 64 hexadecimal digits. That every capture pod has it in
    /// force is what `PolicyInForce` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 71, max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub policy_digest: Option<String>,
    /// The exceptions of `spec.network.egress` that hold now, the first to end first, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub exceptions: Vec<ExceptionStatus>,
    /// State of the token; never the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthStatus>,
    /// The browser that captures are taken with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserStatus>,
    /// Capture pods that exist, 0 or more.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Capture pods that take requests, 0 or more.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub ready_replicas: i32,
    /// Label selector of the capture pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
}

/// What an exception is from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, JsonSchema)]
pub enum ExceptionKind {
    /// The host may be reached although it is not public.
    #[default]
    Destination,
    /// No authority need vouch for the host's certificate.
    Certificate,
}

/// An egress exception that holds now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionStatus {
    /// The host that it is about.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// What it is an exception from. `Destination`: the host may be reached although it is not public. `Certificate`: no
    /// authority need vouch for its certificate.
    #[serde(default)]
    pub kind: ExceptionKind,
    /// When it ends by itself, RFC 3339.
    pub expires: Time,
    /// Whole days until then, 0 on the last one.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3_650_000))]
    pub days_left: i64,
}

/// State of the token; never the token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthStatus {
    /// Id of the key that the client Secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub active_key_id: Option<String>,
    /// Ids of the keys that still work and soon will not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 32)), extend("x-kubernetes-list-type" = "atomic"))]
    pub retiring_key_ids: Vec<String>,
    /// When the token is replaced next, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// When the token in use was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,
    /// Last value of `spec.auth.rotation.nonce` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub last_handled_nonce: Option<String>,
}

/// The browser that captures are taken with.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrowserStatus {
    /// Product and version that capture pods attest, the lowest one while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub version: Option<String>,
    /// When that build was made, RFC 3339; absent where the image does not say so. Whether there is a newer one is not known
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_time: Option<Time>,
}

impl Default for ScreenshotServiceStatus {
    fn default() -> Self {
        Self {
            conditions: Vec::new(),
            observed_generation: default_generation(),
            url: None,
            policy_digest: None,
            exceptions: Vec::new(),
            auth: None,
            browser: None,
            replicas: 0,
            ready_replicas: 0,
            selector: None,
        }
    }
}

fn default_generation() -> i64 {
    -1
}

/// The upstream type has no bounds in its Rust schema; these are the ones of the Go type.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the state of the service.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "minLength": 1, "maxLength": 316, "description": "Name of the aspect."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 9_007_199_254_740_991_i64,
                    "description": "Generation of the spec that was judged."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` last changed, RFC 3339."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word for programs."},
                "message": {"type": "string", "maxLength": 4096, "description": "Why, in a sentence for people."}
            }
        }
    })
}

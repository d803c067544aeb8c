//! The capture pods: image, CPU and memory, where they run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts;

/// When the node fetches the image.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// CPU and memory of the two containers of a capture pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The API server container. Default: requests 50m and 64Mi, limits 2 and 512Mi, no limit below its request
    /// and no request above its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ContainerResources>,
    /// The browser container. Default: requests 200m and 256Mi, limits 2 (as many cores as captures may use at one time)
    /// and 1536Mi, no limit below its request and no request above its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<ContainerResources>,
}

/// What a container gets whose spec says nothing, as quantities.
#[derive(Clone, Copy, Debug)]
pub struct DefaultResources {
    /// CPU that is reserved.
    pub cpu_request: &'static str,
    /// Memory that is reserved.
    pub memory_request: &'static str,
    /// CPU that it may not exceed, so that a pod does not depend on what its node has to spare.
    pub cpu_limit: &'static str,
    /// Memory that it may not exceed.
    pub memory_limit: &'static str,
}

impl DefaultResources {
    /// The server: it encodes pictures and carries pages' traffic.
    pub const SERVER: Self = Self {
        cpu_request: "50m",
        memory_request: "64Mi",
        cpu_limit: "2",
        memory_limit: "512Mi",
    };
    /// The browsers. The CPU limit is the least: a policy that lets captures use more cores raises it.
    pub const BROWSER: Self = Self {
        cpu_request: "200m",
        memory_request: "256Mi",
        cpu_limit: "2",
        memory_limit: "1536Mi",
    };
}

/// Requests and limits of one container. A quantity that is left out takes the operator's default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0",
        "message": "`requests.cpu` must not be greater than `limits.cpu`",
        "reason": "FieldValueInvalid",
        "fieldPath": ".requests.cpu"
    },
    {
        "rule": "!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0",
        "message": "`requests.memory` must not be greater than `limits.memory`",
        "reason": "FieldValueInvalid",
        "fieldPath": ".requests.memory"
    }
]))]
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

/// Which nodes the pods may run on, and how they spread.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parts::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Name of the PriorityClass of the pods. Default: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// How pods spread over nodes and zones. `Preferred`: evenly where possible. `Required`: a pod that would make them
    /// uneven stays pending. `Disabled`: as the scheduler likes. Default: `Preferred`.
    #[serde(default)]
    pub topology_spread: TopologySpread,
}

/// How pods spread over nodes and zones.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum TopologySpread {
    /// Evenly where possible.
    #[default]
    Preferred,
    /// Evenly or not at all.
    Required,
    /// As the scheduler likes.
    Disabled,
}

/// A taint that the pods tolerate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.operator != 'Exists' || !has(self.value)",
        "message": "`value` may not be specified when `operator` is 'Exists'",
        "reason": "FieldValueForbidden",
        "fieldPath": ".value"
    },
    {
        "rule": "has(self.key) || self.operator == 'Exists'",
        "message": "`operator` must be 'Exists' when `key` is not specified",
        "reason": "FieldValueInvalid",
        "fieldPath": ".operator"
    },
    {
        "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "message": "`tolerationSeconds` may not be specified unless `effect` is 'NoExecute'",
        "reason": "FieldValueForbidden",
        "fieldPath": ".tolerationSeconds"
    }
]))]
pub struct Toleration {
    /// Key of the taint. Default: every key, which needs the operator `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 316),
        regex(pattern = r"^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub key: Option<String>,
    /// `Equal`: the taint has this value. `Exists`: whatever its value. Default: `Equal`.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint. Default: the empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub value: Option<String>,
    /// Effect of the taint. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds that a pod stays on a node after it got the taint, 0 to 86400. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration is compared with a taint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum TolerationOperator {
    /// Whatever its value.
    Exists,
    /// The same value.
    #[default]
    Equal,
}

/// Effect of the taint. Default: every effect.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum TaintEffect {
    /// No new pod.
    NoSchedule,
    /// A new pod only if it fits nowhere else.
    PreferNoSchedule,
    /// No pod, not even one that runs.
    NoExecute,
}

//! How the number of capture pods follows the load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds and target of a HorizontalPodAutoscaler on the CPU of the browser container. Needs a metrics API in the cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.minReplicas <= self.maxReplicas",
    "message": "`minReplicas` must not be greater than `maxReplicas`",
    "reason": "FieldValueInvalid",
    "fieldPath": ".minReplicas"
}]))]
pub struct Autoscaling {
    /// Fewest capture pods, 1 to 100. Default: 2.
    #[serde(default = "default_min_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Most capture pods, 1 to 100, not less than `minReplicas`. Required.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// CPU that the browser containers use on average, in percent of what each requests (`resources.browser.requests.cpu`),
    /// 1 to 1000. More pods are started above it, pods are ended below it. Default: 80.
    #[serde(rename = "targetCPUUtilizationPercentage", default = "default_target")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: i32,
    /// Seconds for which the load must have been lower before pods are ended, 0 to 3600. Then at most half of them are
    /// ended per minute. Default: 300.
    #[serde(default = "default_scale_down_stabilization")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
}

fn default_min_replicas() -> i32 {
    2
}

fn default_target() -> i32 {
    80
}

fn default_scale_down_stabilization() -> i32 {
    300
}

//! Objects for the Prometheus operator and for Grafana.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{self, Peer};

/// What is made for monitoring. Rules and dashboard read the label `screenshotservice`, which the PodMonitor sets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Pods that may read metrics, at most 16 entries. Default: while the PodMonitor is enabled, pods with the label
    /// `app.kubernetes.io/name: prometheus` or `prometheus-agent` in any namespace; else nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<Peer>,
    /// A PodMonitor over the capture pods. Default: none.
    #[serde(default)]
    pub pod_monitor: PodMonitor,
    /// A PrometheusRule with alerts. Default: none.
    #[serde(default)]
    pub prometheus_rule: MonitoringObject,
    /// A ConfigMap with a dashboard, which also has the label `grafana_dashboard: "1"`. Default: none.
    #[serde(default)]
    pub dashboard: MonitoringObject,
}

/// A PodMonitor over the capture pods.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitor {
    /// Whether it is made; the cluster must know the kind. Default: false.
    #[serde(default)]
    pub enabled: bool,
    /// Labels by which a Prometheus selects it, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parts::own_labels")]
    pub labels: BTreeMap<String, String>,
    /// Seconds between two scrapes, 5 to 600. Default: 30.
    #[serde(default = "default_interval")]
    #[schemars(range(min = 5, max = 600))]
    pub interval_seconds: i32,
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self {
            enabled: false,
            labels: BTreeMap::new(),
            interval_seconds: default_interval(),
        }
    }
}

/// An object for monitoring, and how it is found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringObject {
    /// Whether it is made. Default: false.
    #[serde(default)]
    pub enabled: bool,
    /// Labels by which it is selected, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parts::own_labels")]
    pub labels: BTreeMap<String, String>,
}

fn default_interval() -> i32 {
    30
}

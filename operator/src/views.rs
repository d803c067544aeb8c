//! What Deployments, autoscalers and pods say of themselves, cut down to what decisions need.
//!
//! In: whole objects as the API server gave them. Out: small values, equal as long as nothing changed that matters.
//! Pure: no reads, no clock. Must not carry counters or times that change while the state stays the same.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use screenshot_policy::layout;

use crate::names::MANAGER;

/// What a condition says: a word for programs, a sentence for people, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The word.
    pub reason: String,
    /// The sentence. It comes from elsewhere: shorten and clean it before it is shown.
    pub message: String,
    /// When the condition last changed.
    pub since: Option<Timestamp>,
}

/// The Deployment's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentView {
    /// Whether its controller has seen the latest spec.
    pub current: bool,
    /// Pods that are asked for.
    pub desired: i32,
    /// [`Self::desired`] while the operator is the last that wrote it; `None` once an autoscaler or a person did.
    pub held_replicas: Option<i32>,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods of the latest template.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Whether it gave up waiting for progress.
    pub stuck: bool,
    /// Whether somebody paused it: pods are not replaced meanwhile.
    pub paused: bool,
    /// Why pods cannot be created (quota, admission, a missing class), when they cannot.
    pub failure: Option<Said>,
}

/// The autoscaler's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoscalerView {
    /// Whether it computes a number of pods; `None` before its first look.
    pub active: Option<bool>,
    /// What it says about that.
    pub said: Said,
}

/// A pod's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node it runs on; `None` until it is scheduled.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Whether it is on its way out or has ended.
    pub leaving: bool,
    /// Whether its containers passed their readiness probes.
    pub ready: bool,
    /// Whether its server container runs, so that it may hold an old keyset.
    pub started: bool,
    /// How often its server container was started anew: what an earlier one attested says nothing of this one.
    pub restarts: i32,
    /// Why the first container that cannot start cannot, if any.
    pub waiting: Option<Said>,
    /// Since when its node has been about to begin its containers, while it has begun none.
    pub creating: Option<Timestamp>,
    /// Why no node was found for it, while none is.
    pub unschedulable: Option<Said>,
}

/// Looks at a Deployment.
pub fn deployment(deployment: &Deployment) -> DeploymentView {
    let status = deployment.status.clone().unwrap_or_default();
    let condition = |kind: &str, value: &str| {
        let found = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == value)?;
        Some(Said {
            reason: found.reason.clone().unwrap_or_default(),
            message: found.message.clone().unwrap_or_default(),
            since: found.last_transition_time.as_ref().map(|time| time.0),
        })
    };
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let held = deployment.metadata.managed_fields.iter().flatten().any(holds_replicas);
    DeploymentView {
        current: status.observed_generation >= deployment.metadata.generation,
        desired,
        held_replicas: held.then_some(desired),
        replicas: status.replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        stuck: condition("Progressing", "False").is_some_and(|said| said.reason == "ProgressDeadlineExceeded"),
        paused: deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false),
        failure: condition("ReplicaFailure", "True"),
    }
}

fn holds_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.is_none()
        && entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

/// Looks at an autoscaler. That it cannot act (`AbleToScale`) weighs more than that it has nothing to go by
/// (`ScalingActive`).
pub fn autoscaler(autoscaler: &HorizontalPodAutoscaler) -> AutoscalerView {
    let status = autoscaler.status.as_ref();
    let conditions = || {
        status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
    };
    let unable = conditions().find(|c| c.type_ == "AbleToScale" && c.status == "False");
    let Some(found) = unable.or_else(|| conditions().find(|c| c.type_ == "ScalingActive")) else {
        return AutoscalerView::default();
    };
    AutoscalerView {
        active: Some(found.status == "True"),
        said: Said {
            reason: found.reason.clone().unwrap_or_default(),
            message: found.message.clone().unwrap_or_default(),
            since: found.last_transition_time.as_ref().map(|time| time.0),
        },
    }
}

/// Looks at a pod.
pub fn pod(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.as_deref();
    PodState {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        leaving: pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")),
        ready: condition(&status, "Ready", "True").is_some(),
        started: server_runs(&status),
        restarts: server(&status).map_or(0, |container| container.restart_count),
        waiting: waiting(&status),
        creating: creating(pod, &status),
        unschedulable: condition(&status, "PodScheduled", "False"),
    }
}

fn condition(status: &PodStatus, kind: &str, value: &str) -> Option<Said> {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == value)?;
    Some(Said {
        reason: found.reason.clone().unwrap_or_default(),
        message: found.message.clone().unwrap_or_default(),
        since: found.last_transition_time.as_ref().map(|time| time.0),
    })
}

fn server(status: &PodStatus) -> Option<&ContainerStatus> {
    let mut containers = status.container_statuses.iter().flatten();
    containers.find(|container| container.name == layout::SERVER_CONTAINER)
}

fn server_runs(status: &PodStatus) -> bool {
    server(status)
        .and_then(|container| container.state.as_ref())
        .is_some_and(|state| state.running.is_some())
}

fn waiting(status: &PodStatus) -> Option<Said> {
    status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        (!starting(&reason)).then(|| Said {
            reason,
            message: waiting.message.clone().unwrap_or_default(),
            since: None,
        })
    })
}

/// What the kubelet says of a container that it has not got to yet.
fn starting(reason: &str) -> bool {
    matches!(reason, "ContainerCreating" | "PodInitializing")
}

fn creating(pod: &Pod, status: &PodStatus) -> Option<Timestamp> {
    pod.spec.as_ref()?.node_name.as_ref()?;
    let begun = status.container_statuses.iter().flatten().any(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        !waiting.is_some_and(|waiting| waiting.reason.as_deref().is_some_and(starting))
    });
    if begun || status.phase.as_deref() != Some("Pending") {
        return None;
    }
    condition(status, "PodScheduled", "True")?.since
}

#[cfg(test)]
mod tests;

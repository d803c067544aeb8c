//! Why capture pods cannot be made, placed or started, in terms of what a person can change.
//!
//! In: what the Deployment and the pods say of themselves. Out: the first [`Trouble`], or none. Texts of the cluster's own
//! parts are recognised by the words that their sources use (named beside each); what is not recognised is quoted.

use jiff::{SignedDuration, Timestamp};

use super::sandbox;
use super::verdict::{quote, word};
use crate::observe::PodView;
use crate::validate::Validated;
use crate::views::{DeploymentView, Said};

/// How long a pod may be without a node before a person is called: a cluster autoscaler may be adding one.
const PLACEMENT_GRACE: SignedDuration = SignedDuration::from_secs(120);

/// What stops pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One word out of a bounded set.
    pub reason: &'static str,
    /// What to look at.
    pub message: String,
    /// Whether it stays until a person changes something.
    pub person: bool,
}

fn stalled(reason: &'static str, message: impl Into<String>) -> Trouble {
    Trouble {
        reason,
        message: message.into(),
        person: true,
    }
}

fn passing(reason: &'static str, message: impl Into<String>) -> Trouble {
    Trouble {
        person: false,
        ..stalled(reason, message)
    }
}

/// The first trouble in the order in which a pod meets them: made, placed, started.
pub(super) fn find(
    wanted: &Validated,
    deployment: Option<&DeploymentView>,
    pods: &[PodView],
    now: Timestamp,
) -> Option<Trouble> {
    let creation = deployment
        .and_then(|deployment| deployment.failure.as_ref())
        .map(creation);
    let missing = || Some(stalled(sandbox::PROFILE_MISSING, sandbox::profile_missing(pods)?));
    let unplaced = || {
        let said = pods.iter().find_map(|pod| pod.unschedulable.as_ref())?;
        Some(placement(said, now))
    };
    let waiting = || {
        pods.iter()
            .find_map(|pod| Some(start(wanted, pod, pod.waiting.as_ref()?)))
    };
    creation.or_else(missing).or_else(unplaced).or_else(waiting)
}

/// The ReplicaSet controller passes on what the API server answered to the creation of a pod.
fn creation(said: &Said) -> Trouble {
    let text = quote(&said.message);
    let has = |part: &str| text.contains(part);
    // Each text is that of the admission plugin of Kubernetes that refuses.
    if has("exceeded quota") || has("failed quota") {
        return stalled(
            "QuotaExceeded",
            format!("the namespace's quota has no room for a capture pod: {text}"),
        );
    }
    if has("no PriorityClass with name") {
        return stalled(
            "PriorityClassMissing",
            format!("`spec.scheduling.priorityClassName` names a class that does not exist: {text}"),
        );
    }
    if has("RuntimeClass") && has("not found") {
        return stalled(
            "RuntimeClassMissing",
            format!("`spec.sandbox.runtimeClassName` names a class that does not exist: {text}"),
        );
    }
    if has("violates PodSecurity") {
        return stalled(
            "PodSecurityRefused",
            format!("the namespace's Pod Security level refuses capture pods: {text}"),
        );
    }
    // LimitRanger, webhooks and admission policies.
    if has("forbidden") || has("denied the request") || has("denied request") {
        return stalled(
            "AdmissionRefused",
            format!("the cluster's admission refuses capture pods: {text}"),
        );
    }
    passing("PodsNotCreated", format!("capture pods cannot be created: {text}"))
}

fn placement(said: &Said, now: Timestamp) -> Trouble {
    let text = quote(&said.message);
    let message = format!("no node takes a capture pod: {text}");
    let long = said
        .since
        .is_some_and(|since| now.duration_since(since) > PLACEMENT_GRACE);
    Trouble {
        person: long,
        ..stalled("Unschedulable", message)
    }
}

fn start(wanted: &Validated, pod: &PodView, said: &Said) -> Trouble {
    let node = sandbox::place(pod);
    match said.reason.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => stalled(
            "ImagePullFailed",
            format!("{node} cannot get the image {}", quote(&wanted.image)),
        ),
        "CrashLoopBackOff" => passing(
            "ContainerCrashes",
            format!("a container on {node} ends again and again"),
        ),
        reason => passing(
            "ContainerWaiting",
            format!("a container on {node} cannot start: {}", word(reason)),
        ),
    }
}

#[cfg(test)]
mod tests;

//! Why capture pods cannot be made, placed or started, in terms of what a person can change.
//!
//! In: what the Deployment and the pods say of themselves, and the kubelet of pods. Out: the first [`Trouble`], or none. Texts of the cluster's own
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

/// The first trouble in the order in which a pod meets them (made, placed, begun, started), a rollout that somebody holds
/// last; one that a person has to mend before one that may pass.
pub(super) fn find(
    wanted: &Validated,
    deployment: Option<&DeploymentView>,
    pods: &[PodView],
    now: Timestamp,
) -> Option<Trouble> {
    let missing = || Some(stalled(sandbox::PROFILE_MISSING, sandbox::profile_missing(pods)?));
    let all = [
        deployment
            .and_then(|deployment| deployment.failure.as_ref())
            .map(creation),
        missing(),
        pods.iter()
            .find_map(|pod| Some(placement(pod.unschedulable.as_ref()?, now))),
        pods.iter().find_map(|pod| Some(refusal(pod, pod.refused.as_ref()?))),
        pods.iter()
            .find_map(|pod| Some(start(wanted, pod, pod.waiting.as_ref()?))),
        deployment.and_then(held),
    ];
    let found = || all.iter().flatten();
    found()
        .find(|trouble| trouble.person)
        .or_else(|| found().next())
        .cloned()
}

/// A pause is left to who made it; that pods wait for its end has to be said. They are still added and taken away meanwhile,
/// and those that are just being added wait for nobody.
fn held(deployment: &DeploymentView) -> Option<Trouble> {
    let message = "the Deployment is paused and capture pods wait to be started or replaced: resume it (`kubectl rollout resume`)";
    let adding = (1..deployment.desired).contains(&deployment.replicas);
    let waiting = deployment.updated < deployment.desired && !adding;
    (deployment.paused && waiting).then(|| stalled("RolloutPaused", message))
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

/// The kubelet passes on what it found out itself or what the container runtime answered to the creation of the pod.
fn refusal(pod: &PodView, said: &Said) -> Trouble {
    let (node, text) = (sandbox::place(pod), quote(&without_ids(&said.message)));
    let has = |part: &str| text.contains(part);
    // The kubelet's userns_manager, runc ("user namespaces", "userns"), and kernels without idmapped mounts.
    if has("user namespace") || has("userns") || has("idmap") {
        return stalled(
            "UserNamespacesUnsupported",
            format!("{node} cannot do `spec.sandbox.hostUsers: false`: {text}"),
        );
    }
    // containerd, CRI-O, and the kubelet where `hostUsers` has it look first.
    if has("no runtime for") || has("failed to find runtime handler") || (has("handler") && has("not known")) {
        return stalled(
            "RuntimeHandlerMissing",
            format!("{node} lacks the runtime of the class that `spec.sandbox.runtimeClassName` names: {text}"),
        );
    }
    passing("PodNotBegun", format!("{node} cannot begin a capture pod: {text}"))
}

/// Every attempt has an id of its own, and a status that names it would be written for each.
fn without_ids(text: &str) -> String {
    let pieces = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let plain = pieces.map(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let id = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        if id {
            piece.replacen(word, "(id)", 1)
        } else {
            piece.to_owned()
        }
    });
    plain.collect()
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

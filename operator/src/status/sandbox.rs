//! Whether every browser is confined, and on which nodes not.
//!
//! In: what the pods attested, which of their containers cannot start. Out: the verdict `SandboxVerified`.
//! What is missing on a node is named first, with the node, as only a person can mend that. Must not: quote a pod; words
//! that it sends are matched against known ones or shown bare.

use std::collections::BTreeSet;

use screenshot_policy::attest::AttestReport;
use screenshot_policy::finding::Finding;
use screenshot_policy::policy::SandboxMode;

use super::Pass;
use super::controls::every_pod;
use super::verdict::{Verdict, Weight, verdict, word};
use crate::observe::PodView;

/// A node has no seccomp profile for the browser's container.
pub(super) const PROFILE_MISSING: &str = "SeccompProfileMissing";
/// A node, or the profile on it, refuses user namespaces.
pub(super) const NAMESPACES_BLOCKED: &str = Finding::UserNamespacesBlocked.word();
/// Not confined, as `spec.sandbox.mode: Degraded` accepts.
pub const DEGRADED: &str = "Degraded";
/// Not confined, for a reason that this operator does not know by name.
const UNVERIFIED: &str = "SandboxUnverified";

pub(super) const KIND: &str = "SandboxVerified";

pub(super) fn verified(pass: &Pass<'_>) -> Verdict {
    if let Some(message) = profile_missing(pass.pods) {
        return verdict(KIND, false, PROFILE_MISSING, message).weighing(Weight::Person);
    }
    if let Some(message) = namespaces_blocked(pass.pods) {
        return verdict(KIND, false, NAMESPACES_BLOCKED, message).weighing(Weight::Person);
    }
    let accepted = pass.wanted.policy.sandbox_mode() == SandboxMode::Degraded;
    let fault = |pod: &PodView, report: &AttestReport| {
        if report.sandbox.verified {
            return None;
        }
        let why = word(report.sandbox.reason.as_deref().unwrap_or("unverified"));
        let finding = Finding::named(&why);
        let reason = match finding {
            Some(Finding::SandboxDegraded) if accepted => DEGRADED,
            Some(finding) => finding.word(),
            None => UNVERIFIED,
        };
        let why = finding
            .and_then(meaning)
            .map_or(why.clone(), |text| format!("{why}, {text}"));
        Some((
            reason,
            format!("browsers are not fully confined on {}: {why}", place(pod)),
        ))
    };
    let verdict = every_pod(
        pass,
        KIND,
        "SandboxAttested",
        "every browser is confined, checked by each pod",
        fault,
    );
    // Asked for by name: it does not stop the service from being as wanted.
    if verdict.reason == DEGRADED {
        verdict.weighing(Weight::Shown)
    } else {
        verdict
    }
}

/// What a person can do something about, in words.
fn meaning(finding: Finding) -> Option<&'static str> {
    match finding {
        Finding::LandlockUnavailable => Some("the kernel does not have Landlock or does not have it switched on"),
        Finding::LandlockIncomplete => Some("not everything that the kernel's Landlock can confine is confined"),
        Finding::GpuUnsandboxed => Some("the browser's GPU process has no filter"),
        Finding::SecretsReadable => Some("files outside of a browser's own can be opened from inside"),
        Finding::DevtoolsReachable => Some("something besides the proxy answers in a browser's network"),
        Finding::PidLimit => Some("no more processes can be had: the node's podPidsLimit is too small"),
        Finding::BrowserDiedEarly => {
            Some("the browser ends as it starts: its seccomp profile or image does not fit it")
        }
        Finding::ExecFailed => Some("the image has no browser that can be started"),
        Finding::ProfileDirectory => Some("the browser container's /tmp cannot be written to"),
        _ => None,
    }
}

/// The nodes without the profile, in a sentence.
pub(super) fn profile_missing(pods: &[PodView]) -> Option<String> {
    let lacking = pods.iter().filter(|pod| {
        let waiting = pod.waiting.as_ref();
        waiting.is_some_and(|said| said.message.contains("cannot load seccomp profile"))
    });
    let nodes = nodes(lacking)?;
    Some(format!(
        "the operator's seccomp profile is missing on {nodes}: no browser can be started there"
    ))
}

fn namespaces_blocked(pods: &[PodView]) -> Option<String> {
    let blocked = || {
        pods.iter().filter_map(|pod| {
            let sandbox = &pod.attested.as_ref().ok()?.sandbox;
            (!sandbox.verified && sandbox.reason.as_deref() == Some(NAMESPACES_BLOCKED)).then_some((pod, sandbox))
        })
    };
    let nodes = nodes(blocked().map(|(pod, _)| pod))?;
    let why = blocked().find_map(|(_, sandbox)| sandbox.blocker.as_deref());
    Some(format!(
        "browsers cannot be confined on {nodes}: user namespaces are refused there, {}",
        explanation(why)
    ))
}

fn explanation(blocker: Option<&str>) -> &'static str {
    match blocker {
        Some("SeccompFilter") => "by a seccomp filter that is not the operator's profile",
        Some("NodeSetting") => "by a setting of the node's kernel",
        Some("Limit") => "as user.max_user_namespaces is 0 or used up",
        Some("Confined") => "as AppArmor leaves them without power",
        _ => "for a reason that the pod does not know",
    }
}

/// Where a pod runs.
pub(super) fn place(pod: &PodView) -> String {
    nodes(std::iter::once(pod)).unwrap_or_default()
}

/// The nodes of these pods, sorted and bounded; `None` without pods.
pub(super) fn nodes<'a>(pods: impl Iterator<Item = &'a PodView>) -> Option<String> {
    let names: BTreeSet<&str> = pods.map(|pod| pod.node.as_deref().unwrap_or("(unknown)")).collect();
    let shown: Vec<&str> = names.iter().copied().take(3).collect();
    let list = shown.join(", ");
    match names.len() {
        0 => None,
        1 => Some(format!("node {list}")),
        2 | 3 => Some(format!("nodes {list}")),
        many => Some(format!("nodes {list} and {} more", many - shown.len())),
    }
}

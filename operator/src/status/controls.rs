//! The conditions of the controls: what every capture pod attested, and nothing that none did.

use jiff::Timestamp;
use screenshot_policy::attest::AttestReport;
use screenshot_policy::egress::{EgressException, UpstreamProxy};

use super::trouble::Trouble;
use super::verdict::{Verdict, Weight, verdict, word};
use super::{Pass, egress, sandbox};
use crate::observe::PodView;
use crate::rotation::{Step, Wait};

pub(super) fn conditions(pass: &Pass<'_>, trouble: Option<&Trouble>, now: Timestamp) -> Vec<Verdict> {
    vec![
        available(pass, trouble),
        policy_in_force(pass, now),
        credentials_ready(pass, now),
        sandbox::verified(pass),
        egress::enforced(pass),
        cluster_addresses_known(pass),
        suspended(pass),
    ]
}

fn available(pass: &Pass<'_>, trouble: Option<&Trouble>) -> Verdict {
    let kind = "Available";
    if pass.wanted.scale.least() == 0 {
        return verdict(kind, false, "NoReplicas", "no capture pod is asked for").weighing(Weight::Shown);
    }
    if pass.deployment.is_some_and(|d| d.ready > 0) {
        return verdict(kind, true, "PodsReady", "at least one capture pod takes requests");
    }
    if let Some(trouble) = trouble {
        return verdict(kind, false, trouble.reason, trouble.message.clone());
    }
    let why = not_ready(pass.pods).unwrap_or_else(|| "no capture pod is ready yet".into());
    verdict(kind, false, "PodsNotReady", why)
}

/// The first reason that a pod gives for itself.
pub(super) fn not_ready(pods: &[PodView]) -> Option<String> {
    pods.iter().find_map(|pod| {
        let why = word(&pod.attested.as_ref().ok()?.not_ready.first()?.reason);
        Some(format!("a capture pod on {} is not ready: {why}", sandbox::place(pod)))
    })
}

fn policy_in_force(pass: &Pass<'_>, now: Timestamp) -> Verdict {
    let kind = "PolicyInForce";
    let denied = |exception: &&EgressException| exception.active(now) && pass.wanted.policy.denies_exception(exception);
    if let Some(exception) = pass.wanted.policy.exceptions().iter().find(denied) {
        let message = format!(
            "the exception for {} opens nothing: a deny list holds it",
            exception.host
        );
        return verdict(kind, false, "ExceptionDenied", message).weighing(Weight::Person);
    }
    let named = |upstream: &&UpstreamProxy| pass.unresolved.contains(&upstream.host.to_string());
    if let Some(upstream) = pass.wanted.policy.upstream().filter(named) {
        let message = format!(
            "the upstream proxy {} is out of reach: there is no such Service with that port and a selector",
            upstream.host
        );
        return verdict(kind, false, "UpstreamProxyMissing", message).weighing(Weight::Person);
    }
    if let Some(host) = pass.unresolved.first() {
        let message =
            format!("the exception for {host} opens nothing: there is no such Service with that port and a selector");
        return verdict(kind, false, "ExceptionTargetMissing", message).weighing(Weight::Person);
    }
    let wanted = Some(pass.wanted.policy.digest());
    every_pod(
        pass,
        kind,
        "PolicyAttested",
        "every capture pod enforces the policy",
        |_, report| {
            if report.policy_digest.as_deref() != wanted {
                return Some(("PolicyOutdated", "a capture pod enforces another policy".into()));
            }
            let ranges = report.cluster_ranges.as_ref();
            (!pass.wanted.cluster.accepts(ranges)).then_some((
                "ClusterRangesOutdated",
                "a capture pod does not close the public addresses that the cluster has now".into(),
            ))
        },
    )
}

/// Shown and no more: a service of an operator that may not read them is as wanted.
fn cluster_addresses_known(pass: &Pass<'_>) -> Verdict {
    let kind = "ClusterAddressesKnown";
    let unread: Vec<&str> = pass.wanted.cluster.unread.iter().map(|source| source.name()).collect();
    let verdict = if unread.is_empty() {
        verdict(
            kind,
            true,
            "AddressesRead",
            "public addresses of the cluster itself are closed to pages",
        )
    } else {
        let message = format!(
            "the operator may not read {}: public addresses of the cluster itself are closed to pages only where it \
             read them before, or its --extra-denied-cidr names them",
            unread.join(", ")
        );
        verdict(kind, false, "AddressesNotReadable", message)
    };
    verdict.weighing(Weight::Shown)
}

fn credentials_ready(pass: &Pass<'_>, now: Timestamp) -> Verdict {
    let kind = "CredentialsReady";
    if pass.facts.client.token().is_none() {
        return verdict(kind, false, "TokenMissing", "clients have no token yet");
    }
    if let Some(message) = keyset_refused(pass.pods) {
        return verdict(kind, false, "KeysetRefused", message);
    }
    // One of an old backup, for example, or one that retired while its successor waits for a pod.
    if !pass.facts.client_works(now) {
        let message = "capture pods do not accept the token of the client Secret; another one is written there as soon as \
                       every capture pod accepts it";
        return verdict(kind, false, "TokenMissing", message);
    }
    match pass.stopped {
        Step::Wait(Wait::Pickup(_)) if pass.facts.pending.token().is_some() => verdict(
            kind,
            true,
            "Rotating",
            "the token works; a new one waits until every capture pod accepts it",
        ),
        Step::Wait(Wait::Pickup(_)) => verdict(
            kind,
            false,
            "KeysetNotLoaded",
            "not every capture pod has loaded the keyset",
        ),
        Step::Wait(Wait::Overlap(_)) => verdict(
            kind,
            true,
            "OverlapFull",
            "the token works; a new one waits until an older one has retired",
        ),
        _ => verdict(
            kind,
            true,
            "TokenAccepted",
            "every capture pod accepts the token of the client Secret",
        ),
    }
}

/// The pods that go on with an older keyset, as they cannot read the one that is there: clients are served, and what was
/// retired since is not. What they have in force does not show it.
fn keyset_refused(pods: &[PodView]) -> Option<String> {
    let refusing = counted(pods).filter_map(|pod| {
        let keyset = pod.attested.as_ref().ok()?.keyset.as_ref()?;
        Some((pod.name.as_str(), keyset.stale.as_deref()?))
    });
    let mut refusing: Vec<_> = refusing.collect();
    refusing.sort_unstable();
    let (pod, why) = refusing.first()?;
    let others = match refusing.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let why = word(why);
    Some(format!(
        "pod {pod}{others}: the newer keyset is refused ({why}), the last good one stays in force"
    ))
}

fn suspended(pass: &Pass<'_>) -> Verdict {
    let verdict = if pass.wanted.suspended {
        verdict("Suspended", true, "SuspendedBySpec", "spec.suspend is true")
    } else {
        verdict("Suspended", false, "NotSuspended", "spec.suspend is false")
    };
    verdict.weighing(Weight::Shown)
}

/// True only if there is a pod and each that counts says so, in an answer that only it can give.
pub(super) fn every_pod(
    pass: &Pass<'_>,
    kind: &'static str,
    reason: &'static str,
    message: &'static str,
    fault: impl Fn(&PodView, &AttestReport) -> Option<(&'static str, String)>,
) -> Verdict {
    if pass.wanted.scale.least() == 0 {
        return verdict(kind, true, "NoReplicas", "no capture pod is asked for");
    }
    if pass.pods.is_empty() {
        return verdict(kind, false, "NoPods", "there is no capture pod yet");
    }
    for pod in counted(pass.pods) {
        match &pod.attested {
            Err(why) => return verdict(kind, false, "NotAttested", format!("a capture pod {why}")),
            Ok(report) => {
                if let Some((reason, message)) = fault(pod, report) {
                    return verdict(kind, false, reason, message);
                }
            }
        }
    }
    verdict(kind, true, reason, message)
}

/// The pods that can get a request, and those that know what their browsers are worth. One that is only starting counts while
/// there is no other: else every pod that an autoscaler adds would make the service unready for as long as it starts.
pub(super) fn counted(pods: &[PodView]) -> impl Iterator<Item = &PodView> {
    let some_ready = pods.iter().any(|pod| pod.ready);
    pods.iter()
        .filter(move |pod| pod.ready || pod.attested.as_ref().is_ok_and(has_looked) || !some_ready)
}

/// Whether a pod has looked at its first browser: a server answers as soon as it runs.
fn has_looked(report: &AttestReport) -> bool {
    report.sandbox.verified || report.sandbox.reason.is_some()
}

//! What the service's status says.
//!
//! In: the previous status, what was observed, attested and done. Out: the new status.
//! Pure. Conditions are proven, never assumed: what no pod attested is not true. Texts are stable (no counters that
//! change with every pass, no times), so that an idle service is never patched.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use screenshot_api::{AuthStatus, ScreenshotServiceStatus};
use screenshot_policy::attest::AttestReport;
use screenshot_policy::keyset::KeyState;

use crate::error::Error;
use crate::observe::PodView;
use crate::rotation::{self, Facts, Rules, Step, Wait};
use crate::validate::{Invalid, Validated};
use crate::views::DeploymentView;

/// What a finished pass knows.
pub struct Pass<'a> {
    /// What is wanted.
    pub wanted: &'a Validated,
    /// The Deployment, if it existed when the pass began.
    pub deployment: Option<&'a DeploymentView>,
    /// The pods.
    pub pods: &'a [PodView],
    /// The credentials after this pass.
    pub facts: &'a Facts,
    /// Where the rotation stopped.
    pub stopped: &'a Step,
    /// The rotation's rules.
    pub rules: &'a Rules,
    /// Exceptions that open nothing.
    pub unresolved: &'a BTreeSet<String>,
}

/// One condition before it is merged with the previous one.
struct Verdict {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

fn verdict(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        kind,
        status,
        reason,
        message: message.into(),
    }
}

/// The status after a pass.
pub fn compute(previous: &ScreenshotServiceStatus, pass: &Pass<'_>, now: Timestamp) -> ScreenshotServiceStatus {
    let details = [
        available(pass),
        policy_in_force(pass),
        credentials_ready(pass),
        sandbox::verified(pass),
        suspended(pass),
    ];
    let mut verdicts = summary(pass, &details);
    verdicts.extend(details);
    let id = &pass.wanted.identity;
    ScreenshotServiceStatus {
        conditions: merge(&previous.conditions, verdicts, id.generation, now),
        observed_generation: id.generation,
        url: Some(format!("http://{}.{}.svc", id.names.main(), id.namespace)),
        policy_digest: Some(pass.wanted.policy.digest().to_owned()),
        auth: Some(auth(previous.auth.as_ref(), pass)),
        replicas: pass.deployment.map_or(0, |deployment| deployment.replicas),
        ready_replicas: pass.deployment.map_or(0, |deployment| deployment.ready),
        selector: Some(id.names.selector_text()),
    }
}

/// The status of a service whose spec cannot be acted upon; what runs keeps running.
pub fn invalid(
    previous: &ScreenshotServiceStatus,
    why: &Invalid,
    generation: i64,
    now: Timestamp,
) -> ScreenshotServiceStatus {
    let verdicts = vec![
        verdict("Ready", false, why.reason(), why.to_string()),
        verdict("Stalled", true, why.reason(), why.to_string()),
    ];
    replaced(previous, verdicts, generation, now)
}

/// The previous status with another summary; what else is known stays.
fn replaced(
    previous: &ScreenshotServiceStatus,
    verdicts: Vec<Verdict>,
    generation: i64,
    now: Timestamp,
) -> ScreenshotServiceStatus {
    let kept = previous
        .conditions
        .iter()
        .filter(|c| !["Ready", "Stalled", "Reconciling"].contains(&c.type_.as_str()));
    let mut conditions = merge(&previous.conditions, verdicts, generation, now);
    conditions.extend(kept.cloned());
    ScreenshotServiceStatus {
        conditions,
        observed_generation: generation,
        ..previous.clone()
    }
}

/// The status after a pass that was stopped by an error. The error's text stays in the log: it may quote what was sent.
pub fn failed(
    previous: &ScreenshotServiceStatus,
    error: &Error,
    generation: i64,
    now: Timestamp,
) -> ScreenshotServiceStatus {
    let message = "the operator could not write or read what the service needs; its log says more";
    let stalled = matches!(error.reason(), "NameTaken" | "Invalid" | "Forbidden");
    let trouble = if stalled { "Stalled" } else { "Reconciling" };
    let verdicts = vec![
        verdict("Ready", false, error.reason(), message),
        verdict(trouble, true, error.reason(), message),
    ];
    replaced(previous, verdicts, generation, now)
}

/// Whether the service is as wanted, so that the next pass may be late.
pub fn settled(status: &ScreenshotServiceStatus) -> bool {
    let holds = |kind: &str| status.conditions.iter().any(|c| c.type_ == kind && c.status == "True");
    holds("Ready") && !holds("Reconciling")
}

fn summary(pass: &Pass<'_>, details: &[Verdict]) -> Vec<Verdict> {
    if pass.wanted.suspended {
        return vec![verdict(
            "Ready",
            true,
            "Suspended",
            "suspended as asked; no capture pod runs",
        )];
    }
    let rolling = rollout(pass);
    let failing = || {
        details
            .iter()
            .filter(|d| !d.status && d.kind != "Suspended" && !tolerated(d))
    };
    // The cause that somebody has to mend comes before its symptoms.
    let failing = failing()
        .find(|d| NEEDS_A_PERSON.contains(&d.reason))
        .or_else(|| failing().next());
    match (failing, rolling) {
        (None, None) => vec![as_wanted(details)],
        (None, Some(message)) => {
            vec![
                verdict("Ready", true, "RollingOut", message),
                verdict("Reconciling", true, "RollingOut", message),
            ]
        }
        (Some(detail), _) => {
            let trouble = if needs_a_person(pass, detail) {
                "Stalled"
            } else {
                "Reconciling"
            };
            vec![
                verdict("Ready", false, detail.reason, detail.message.clone()),
                verdict(trouble, true, detail.reason, detail.message.clone()),
            ]
        }
    }
}

fn as_wanted(details: &[Verdict]) -> Verdict {
    if details.iter().any(tolerated) {
        let message = "the service is as its spec says, which accepts that browsers are not fully confined";
        return verdict("Ready", true, sandbox::DEGRADED, message);
    }
    let message = "the service is as its spec says, every control verified";
    verdict("Ready", true, "AsWanted", message)
}

/// `Degraded` is asked for by name: an unverified sandbox then does not stop the service from being as wanted.
fn tolerated(detail: &Verdict) -> bool {
    !detail.status && detail.reason == sandbox::DEGRADED
}

/// Reasons that no further pass mends.
const NEEDS_A_PERSON: [&str; 3] = [
    "ExceptionTargetMissing",
    sandbox::PROFILE_MISSING,
    sandbox::NAMESPACES_BLOCKED,
];

fn needs_a_person(pass: &Pass<'_>, detail: &Verdict) -> bool {
    pass.deployment.is_some_and(|d| d.stuck) || NEEDS_A_PERSON.contains(&detail.reason)
}

fn rollout(pass: &Pass<'_>) -> Option<&'static str> {
    let deployment = pass.deployment?;
    let wanted = pass.wanted.replicas;
    let done = deployment.current
        && deployment.updated == wanted
        && deployment.replicas == wanted
        && deployment.ready == wanted;
    (!done).then_some("capture pods are being replaced")
}

fn available(pass: &Pass<'_>) -> Verdict {
    let kind = "Available";
    if pass.wanted.replicas == 0 {
        return verdict(kind, false, "NoReplicas", "no capture pod is asked for");
    }
    if pass.deployment.is_some_and(|d| d.ready > 0) {
        return verdict(kind, true, "PodsReady", "at least one capture pod takes requests");
    }
    if let Some(message) = sandbox::profile_missing(pass.pods) {
        return verdict(kind, false, sandbox::PROFILE_MISSING, message);
    }
    match pass.pods.iter().find_map(|pod| pod.waiting.as_ref()) {
        Some(said) => verdict(
            kind,
            false,
            "ContainerWaiting",
            format!("a container cannot start: {}", word(&said.reason)),
        ),
        None => verdict(kind, false, "PodsNotReady", not_ready(pass.pods)),
    }
}

/// The first reason that a pod gives for itself.
fn not_ready(pods: &[PodView]) -> String {
    let reason = pods
        .iter()
        .find_map(|pod| Some((pod, pod.attested.as_ref().ok()?.not_ready.first()?)));
    reason.map_or_else(
        || "no capture pod is ready yet".into(),
        |(pod, why)| {
            format!(
                "a capture pod on {} is not ready: {}",
                sandbox::place(pod),
                word(&why.reason)
            )
        },
    )
}

fn policy_in_force(pass: &Pass<'_>) -> Verdict {
    let kind = "PolicyInForce";
    if let Some(host) = pass.unresolved.first() {
        let message =
            format!("the exception for {host} opens nothing: there is no such Service with that port and a selector");
        return verdict(kind, false, "ExceptionTargetMissing", message);
    }
    let wanted = Some(pass.wanted.policy.digest());
    every_pod(
        pass,
        kind,
        "PolicyAttested",
        "every capture pod enforces the policy",
        |_, report| {
            (report.policy_digest.as_deref() != wanted)
                .then_some(("PolicyOutdated", "a capture pod enforces another policy".into()))
        },
    )
}

fn credentials_ready(pass: &Pass<'_>) -> Verdict {
    let kind = "CredentialsReady";
    if pass.facts.client.token().is_none() {
        return verdict(kind, false, "TokenMissing", "clients have no token yet");
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

fn suspended(pass: &Pass<'_>) -> Verdict {
    if pass.wanted.suspended {
        verdict("Suspended", true, "SuspendedBySpec", "spec.suspend is true")
    } else {
        verdict("Suspended", false, "NotSuspended", "spec.suspend is false")
    }
}

/// True only if there is a pod and each of them says so, in an answer that only it can give.
fn every_pod(
    pass: &Pass<'_>,
    kind: &'static str,
    reason: &'static str,
    message: &'static str,
    fault: impl Fn(&PodView, &AttestReport) -> Option<(&'static str, String)>,
) -> Verdict {
    if pass.wanted.replicas == 0 {
        return verdict(kind, true, "NoReplicas", "no capture pod is asked for");
    }
    if pass.pods.is_empty() {
        return verdict(kind, false, "NoPods", "there is no capture pod yet");
    }
    for pod in pass.pods {
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

/// What came from elsewhere is shown only as a short plain word.
fn word(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c))
        .take(64)
        .collect()
}

fn auth(previous: Option<&AuthStatus>, pass: &Pass<'_>) -> AuthStatus {
    let client = pass.facts.client.token();
    let keys = pass.facts.keyset.iter().flat_map(|keyset| &keyset.keys);
    let retiring = keys
        .filter(|key| key.state == KeyState::Retiring)
        .map(|key| key.kid.to_string());
    AuthStatus {
        active_key_id: client.map(|token| token.kid.to_string()),
        retiring_key_ids: retiring.take(8).collect(),
        next_rotation_time: client
            .filter(|_| !pass.rules.suspended)
            .and_then(|token| rotation::next_rotation(token, pass.rules))
            .map(Time),
        last_rotation_time: client.and_then(|token| token.issued_at).map(Time),
        last_handled_nonce: client
            .and_then(|token| token.nonce.clone())
            .or_else(|| previous.and_then(|auth| auth.last_handled_nonce.clone())),
    }
}

/// `lastTransitionTime` moves only when a status flips.
fn merge(previous: &[Condition], verdicts: Vec<Verdict>, generation: i64, now: Timestamp) -> Vec<Condition> {
    let conditions = verdicts.into_iter().map(|verdict| {
        let status = if verdict.status { "True" } else { "False" };
        let since = previous
            .iter()
            .find(|old| old.type_ == verdict.kind && old.status == status);
        Condition {
            type_: verdict.kind.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            // Seconds are all that the API server keeps.
            last_transition_time: since
                .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone()),
            reason: verdict.reason.to_owned(),
            message: verdict.message,
        }
    });
    conditions.collect()
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

mod sandbox;
pub use sandbox::DEGRADED;

#[cfg(test)]
mod tests;

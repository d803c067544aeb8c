//! What the service's status says.
//!
//! In: the previous status, what was observed, attested and done. Out: the new status.
//! Pure. Conditions are proven, never assumed: what no pod attested is not true. Texts are stable (no counters that
//! change with every pass, no times), so that an idle service is never patched.

mod controls;
mod egress;
mod exceptions;
mod optional;
mod sandbox;
mod trouble;
mod upstream;
mod verdict;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use screenshot_api::{AuthStatus, BrowserStatus, ScreenshotServiceStatus};
use screenshot_policy::keyset::KeyState;

pub use self::sandbox::DEGRADED;
use self::trouble::Trouble;
use self::verdict::{Verdict, Weight, merge, verdict};

use crate::canary::Offer;
use crate::clock;
use crate::error::Error;
use crate::observe::PodView;
use crate::plan::{Kind, url};
use crate::rotation::{self, Facts, Rules, Step};
use crate::validate::{Invalid, Scale, Validated};
use crate::views::{AutoscalerView, DeploymentView};

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
    /// The autoscaler, if it existed when the pass began.
    pub autoscaler: Option<&'a AutoscalerView>,
    /// Exceptions that open nothing.
    pub unresolved: &'a BTreeSet<String>,
    /// Optional kinds that the spec asks for and the API server does not serve.
    pub unserved: &'a BTreeSet<Kind>,
    /// Whether pods were asked to try the canary.
    pub offer: Offer,
}

/// The status after a pass.
pub fn compute(previous: &ScreenshotServiceStatus, pass: &Pass<'_>, now: Timestamp) -> ScreenshotServiceStatus {
    let trouble = trouble::find(pass.wanted, pass.deployment, pass.pods, now);
    let mut details = controls::conditions(pass, trouble.as_ref(), now);
    details.extend(optional::conditions(pass, now));
    let mut verdicts = summary(pass, &details, trouble);
    verdicts.extend(details);
    let id = &pass.wanted.identity;
    ScreenshotServiceStatus {
        conditions: merge(&previous.conditions, verdicts, id.generation, now),
        observed_generation: id.generation,
        url: Some(url(pass.wanted)),
        policy_digest: Some(pass.wanted.policy.digest().to_owned()),
        exceptions: exceptions::holding(&pass.wanted.policy, now),
        auth: Some(auth(previous.auth.as_ref(), pass)),
        browser: browser(previous.browser.as_ref(), pass),
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
    let message = error.public();
    let trouble = if error.lasting() { "Stalled" } else { "Reconciling" };
    let verdicts = vec![
        verdict("Ready", false, error.reason(), message.clone()),
        verdict(trouble, true, error.reason(), message),
    ];
    replaced(previous, verdicts, generation, now)
}

/// Whether the service is as wanted, so that the next pass may be late.
pub fn settled(status: &ScreenshotServiceStatus) -> bool {
    let holds = |kind: &str| status.conditions.iter().any(|c| c.type_ == kind && c.status == "True");
    holds("Ready") && !holds("Reconciling")
}

fn summary(pass: &Pass<'_>, details: &[Verdict], trouble: Option<Trouble>) -> Vec<Verdict> {
    if pass.wanted.suspended {
        let message = "suspended as asked; no capture pod takes requests";
        return match rollout(pass) {
            None => vec![verdict("Ready", true, "Suspended", message)],
            Some(_) => rolling_out("suspended as asked; capture pods are being ended"),
        };
    }
    let failing = |weight: Weight| {
        details
            .iter()
            .find(move |detail| !detail.status && detail.weight == weight)
    };
    let (person, failing) = (failing(Weight::Person), failing(Weight::Blocks));
    // The cause that somebody has to mend comes before its symptoms.
    match (trouble, person, failing, rollout(pass)) {
        (_, None, None, None) => vec![as_wanted(details)],
        (Some(trouble), ..) if trouble.person => not_ready(trouble.reason, &trouble.message, true),
        (_, Some(detail), ..) => not_ready(detail.reason, &detail.message, true),
        (Some(trouble), ..) => not_ready(trouble.reason, &trouble.message, stuck(pass)),
        (None, None, Some(detail), _) => not_ready(detail.reason, &detail.message, stuck(pass)),
        // The pods from before serve on, and nothing will replace them by itself.
        (None, None, None, Some(_)) if stuck(pass) => not_ready("ProgressDeadlineExceeded", &gave_up(pass.pods), true),
        (None, None, None, Some(message)) => rolling_out(message),
    }
}

fn rolling_out(message: &str) -> Vec<Verdict> {
    vec![
        verdict("Ready", true, "RollingOut", message),
        verdict("Reconciling", true, "RollingOut", message),
    ]
}

fn as_wanted(details: &[Verdict]) -> Verdict {
    let lacks = |kind, reason| {
        let mut lacking = details.iter().filter(|detail| !detail.status && detail.kind == kind);
        lacking.any(|detail| detail.reason == reason)
    };
    if lacks(sandbox::KIND, DEGRADED) {
        let message = "the service is as its spec says, which accepts that browsers are not fully confined";
        return verdict("Ready", true, DEGRADED, message);
    }
    if lacks(egress::KIND, egress::NOT_ENFORCED) {
        let message = "the service is as its spec says, which accepts that the cluster enforces no NetworkPolicies";
        return verdict("Ready", true, DEGRADED, message);
    }
    if lacks(upstream::KIND, upstream::REMOTE) {
        let message = "the service is as its spec says, which accepts that the upstream proxy looks names up";
        return verdict("Ready", true, DEGRADED, message);
    }
    let message = if details.iter().any(|detail| detail.unknown) {
        "the service is as its spec says; whether the cluster enforces NetworkPolicies is not known"
    } else {
        "the service is as its spec says, every control verified"
    };
    verdict("Ready", true, "AsWanted", message)
}

fn not_ready(reason: &'static str, message: &str, person: bool) -> Vec<Verdict> {
    let trouble = if person { "Stalled" } else { "Reconciling" };
    vec![
        verdict("Ready", false, reason, message),
        verdict(trouble, true, reason, message),
    ]
}

fn stuck(pass: &Pass<'_>) -> bool {
    pass.deployment.is_some_and(|deployment| deployment.stuck)
}

fn gave_up(pods: &[PodView]) -> String {
    let message = "new capture pods were not ready in time and the Deployment gave up; the pods that are ready go on";
    controls::not_ready(pods).map_or_else(|| message.to_owned(), |why| format!("{message}: {why}"))
}

fn rollout(pass: &Pass<'_>) -> Option<&'static str> {
    let deployment = pass.deployment?;
    let wanted = match &pass.wanted.scale {
        Scale::Fixed(replicas) => *replicas,
        Scale::Auto(_) => deployment.desired,
    };
    // Without pods there is nothing to replace, also before the Deployment's controller has looked.
    let done = (deployment.current || wanted == 0)
        && deployment.updated == wanted
        && deployment.replicas == wanted
        && deployment.ready == wanted;
    (!done).then_some("capture pods are being started or replaced")
}

/// What pods attest; while none has run a browser yet, what was known before.
fn browser(previous: Option<&BrowserStatus>, pass: &Pass<'_>) -> Option<BrowserStatus> {
    if pass.wanted.scale.least() == 0 {
        return None;
    }
    let attested = pass.pods.iter().filter_map(|pod| pod.attested.as_ref().ok());
    let versions = attested.filter_map(|report| Some((report.browser.version.as_deref()?, report.browser.built_at)));
    let oldest = versions
        .min_by_key(|(version, _)| numbers(version))
        .map(|(version, built_at)| BrowserStatus {
            version: Some(plain(version)),
            build_time: built_at.map(clock::whole).map(Time),
        });
    oldest.or_else(|| previous.cloned())
}

/// The numbers of a version, in order, so that 99 is older than 140.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// A product and version as a browser gives it, and nothing else.
fn plain(version: &str) -> String {
    let legal = |c: &char| c.is_ascii_alphanumeric() || "./ -_".contains(*c);
    version.chars().filter(legal).take(64).collect()
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

#[cfg(test)]
mod tests;

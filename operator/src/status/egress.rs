//! Whether the cluster enforces its half of the egress control, proven by the canary.
//!
//! In: what the pods found when they tried the operator's canary, whether the operator got in where nobody lets it. Out:
//! the verdict `EgressEnforced`: true only if every pod that counts tried and was kept away. What is not known is
//! `Unknown`, and does not stop a service: without an operator's address there is no canary, and captures go on.

use screenshot_policy::canary::{CanaryFacts, Finding, Outcome};
use screenshot_policy::policy::Enforcement;

use super::Pass;
use super::controls::counted;
use super::sandbox::nodes;
use super::verdict::{Verdict, Weight, unknown, verdict};
use crate::canary::Offer;
use crate::observe::PodView;

pub(super) const KIND: &str = "EgressEnforced";
/// A pod reached what no policy opens.
pub(super) const NOT_ENFORCED: &str = "NetworkPolicyNotEnforced";

pub(super) fn enforced(pass: &Pass<'_>) -> Verdict {
    if pass.wanted.scale.least() == 0 {
        return unknown(KIND, "NoReplicas", "no capture pod is asked for");
    }
    if pass.pods.is_empty() {
        return unknown(KIND, "NoPods", "there is no capture pod yet");
    }
    open(pass).or_else(|| proxy(pass)).unwrap_or_else(|| closed(pass))
}

fn facts(pod: &PodView) -> Option<&CanaryFacts> {
    pod.attested.as_ref().ok()?.egress.canary.as_ref()
}

fn found(pod: &PodView) -> Option<Finding> {
    facts(pod).map(CanaryFacts::finding)
}

/// The first proof that something is open. A pod that is found to be ahead of its NetworkPolicies, as it has only just
/// started, is not one, whichever half it is ahead of.
fn open(pass: &Pass<'_>) -> Option<Verdict> {
    let early = |pod: &&PodView| facts(pod).is_some_and(|facts| facts.early);
    let reached = || pass.pods.iter().filter(|pod| found(pod) == Some(Finding::Open));
    let message = if let Some(nodes) = nodes(reached().filter(|pod| !early(pod))) {
        format!(
            "NetworkPolicies are not enforced on {nodes}: a capture pod reached the operator, which none of the service's \
             policies allows. The network plugin ignores them, or another policy opens the pods"
        )
    } else {
        let nodes = nodes(pass.pods.iter().filter(|pod| pod.let_in && !early(pod)))?;
        format!(
            "NetworkPolicies are not enforced on {nodes}: the operator reached the API port of a capture pod, which none of \
             the service's policies allows. The network plugin ignores them, or another policy opens the pods"
        )
    };
    let weight = match pass.wanted.policy.enforcement() {
        Enforcement::Required => Weight::Person,
        Enforcement::Advisory => Weight::Shown,
    };
    Some(verdict(KIND, false, NOT_ENFORCED, message).weighing(weight))
}

/// The other half: what the policy closes, the pod's own proxy refuses.
fn proxy(pass: &Pass<'_>) -> Option<Verdict> {
    let mut admitting = pass
        .pods
        .iter()
        .filter(|pod| facts(pod).is_some_and(|facts| !facts.proxy_refuses()));
    admitting.next().map(|_| {
        let message = "the proxy of a capture pod admits an address that the policy closes";
        verdict(KIND, false, "ProxyNotEnforcing", message).weighing(Weight::Person)
    })
}

fn closed(pass: &Pass<'_>) -> Verdict {
    match pass.offer {
        Offer::Made => {}
        Offer::NoAddress => {
            let message = "the operator does not know an address of its own that pods could try";
            return unknown(KIND, "CanaryUnavailable", message);
        }
        Offer::Deaf => {
            let message = "the operator's canary does not answer the operator itself";
            return unknown(KIND, "CanaryUnavailable", message);
        }
        Offer::Opened => {
            let message = "an exception opens the operator's address, so that reaching it proves nothing";
            return unknown(KIND, "CanaryExcepted", message);
        }
    }
    for pod in counted(pass.pods) {
        let Ok(report) = &pod.attested else {
            return unknown(KIND, "NotAttested", "a capture pod has not attested yet");
        };
        match report.egress.canary.as_ref().map(CanaryFacts::finding) {
            Some(Finding::Closed) => {}
            Some(Finding::Open) => {
                return unknown(
                    KIND,
                    "PodStarting",
                    "a new capture pod may be ahead of its NetworkPolicies",
                );
            }
            Some(Finding::Unproven(Outcome::Mistaken)) => {
                let message = "something else than the canary answers a capture pod: a service mesh, for example";
                return unknown(KIND, "CanaryMistaken", message);
            }
            Some(Finding::Unproven(_)) | None => {
                return unknown(KIND, "CanaryNotTried", "a capture pod could not try the canary");
            }
        }
    }
    verdict(
        KIND,
        true,
        "CanaryOutOfReach",
        "the cluster keeps every capture pod from an address that none of its policies opens",
    )
}

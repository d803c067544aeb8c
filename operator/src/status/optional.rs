//! Conditions for what the spec may ask for beside the service itself. Each is there only while it is asked for.
//!
//! A cluster without the kind that is needed is told by the condition; the rest of the service is made all the same.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Pass;
use super::verdict::{Verdict, Weight, quote, verdict, word};
use super::{exceptions, upstream};
use crate::plan::Kind;
use crate::validate::Scale;

pub(super) fn conditions(pass: &Pass<'_>, now: Timestamp) -> Vec<Verdict> {
    [
        exceptions::lasting(&pass.wanted.policy, now),
        upstream::checked(&pass.wanted.policy),
        autoscaling_active(pass),
        exposed(pass),
        monitoring_in_place(pass),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Does not stop a service from being as wanted: it runs with the fewest pods, and metrics may come any time.
fn autoscaling_active(pass: &Pass<'_>) -> Option<Verdict> {
    let Scale::Auto(_) = pass.wanted.scale else { return None };
    let kind = "AutoscalingActive";
    let verdict = match pass.autoscaler {
        Some(view) if view.active == Some(true) => verdict(
            kind,
            true,
            "ScalingActive",
            "the number of capture pods follows the CPU of their browsers",
        ),
        Some(view) if view.active == Some(false) => verdict(
            kind,
            false,
            "ScalingInactive",
            format!("{}: {}", word(&view.said.reason), quote(&strip(&view.said.message))),
        ),
        _ => verdict(kind, false, "ScalingPending", "the autoscaler has not looked yet"),
    };
    Some(verdict.weighing(Weight::Shown))
}

/// The autoscaler's texts end in what its client met, which names the time or the pod and so never rests.
fn strip(text: &str) -> String {
    text.split(": ").take(2).collect::<Vec<_>>().join(": ")
}

/// Whether the way in exists. Whether its controller or gateway serves it, that object's own status says.
fn exposed(pass: &Pass<'_>) -> Option<Verdict> {
    let exposure = pass.wanted.exposure.as_ref()?;
    let kind = "Exposed";
    if pass.unserved.contains(&Kind::HttpRoute) {
        let message =
            "the cluster does not know the kind HTTPRoute of gateway.networking.k8s.io/v1: install the Gateway API";
        return Some(verdict(kind, false, "GatewayCRDMissing", message).weighing(Weight::Person));
    }
    let (reason, message) = if exposure.ingress.is_some() {
        (
            "IngressInPlace",
            "the Ingress is in place; its own status says whether it is served",
        )
    } else {
        (
            "RouteInPlace",
            "the HTTPRoute is in place; its own status says whether it is served",
        )
    };
    Some(verdict(kind, true, reason, message))
}

/// Does not stop a service from being as wanted: captures do not need it.
fn monitoring_in_place(pass: &Pass<'_>) -> Option<Verdict> {
    let monitoring = &pass.wanted.monitoring;
    let asked = monitoring.pod_monitor.enabled || monitoring.prometheus_rule.enabled || monitoring.dashboard.enabled;
    if !asked {
        return None;
    }
    let kind = "MonitoringInPlace";
    let missing = missing(pass.unserved);
    let verdict = if missing.is_empty() {
        verdict(
            kind,
            true,
            "MonitoringInPlace",
            "what is asked for monitoring is in place",
        )
    } else {
        let message = format!(
            "the cluster does not know the kind {} of monitoring.coreos.com/v1: install the Prometheus operator",
            missing.join(" and ")
        );
        verdict(kind, false, "MonitoringCRDMissing", message)
    };
    Some(verdict.weighing(Weight::Shown))
}

fn missing(unserved: &BTreeSet<Kind>) -> Vec<&'static str> {
    let monitoring = |kind: &&Kind| kind.group_resource().0 == "monitoring.coreos.com";
    unserved.iter().filter(monitoring).map(|kind| kind.name()).collect()
}

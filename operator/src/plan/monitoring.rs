//! The PodMonitor and the PrometheusRule: how the metrics of the capture pods are scraped, and when a person is called.
//!
//! Every expression reads only metrics that the capture server exports (a test compares) and selects the pods of one
//! service by the labels `namespace` and [`SERVICE_LABEL`], which the PodMonitor sets.

use screenshot_policy::policy::SandboxMode;
use serde_json::{Value, json};

use super::{Child, Kind};
use crate::validate::Validated;

/// Label of every series with the name of its service.
pub(super) const SERVICE_LABEL: &str = "screenshotservice";
/// Outcomes of captures that are the service's fault, not the caller's or the page's.
pub(super) const FAULTS: &str = "browser_lost|no_browser|driver|output_invalid|internal|not_ready";
/// Outcomes of captures that came at a time of too many.
pub(super) const OVERLOAD: &str = "queue_full|would_miss_deadline";

pub(super) fn pod_monitor(wanted: &Validated) -> Option<Child> {
    let monitor = &wanted.monitoring.pod_monitor;
    let names = &wanted.identity.names;
    let content = json!({"spec": {
        "selector": {"matchLabels": names.selector()},
        "podMetricsEndpoints": [{
            "port": "metrics",
            "path": "/metrics",
            "interval": format!("{}s", monitor.interval_seconds),
            "relabelings": [{"action": "replace", "targetLabel": SERVICE_LABEL, "replacement": names.main()}],
        }],
    }});
    let child = Child::new(&wanted.identity, Kind::PodMonitor, names.main(), content);
    monitor.enabled.then(|| child.labelled(&monitor.labels))
}

/// None while no pod is wanted: its first alert would be that there is none.
pub(super) fn prometheus_rule(wanted: &Validated) -> Option<Child> {
    let rule = &wanted.monitoring.prometheus_rule;
    if !rule.enabled || wanted.scale.least() == 0 {
        return None;
    }
    let names = &wanted.identity.names;
    let content = json!({"spec": {"groups": [{
        "name": format!("screenshotservice.{}.{}", wanted.identity.namespace, names.main()),
        "rules": alerts(wanted),
    }]}});
    let child = Child::new(&wanted.identity, Kind::PrometheusRule, names.main(), content);
    Some(child.labelled(&rule.labels))
}

/// Selects the series of one service.
pub(super) fn matchers(wanted: &Validated) -> String {
    let id = &wanted.identity;
    format!(r#"namespace="{}",{SERVICE_LABEL}="{}""#, id.namespace, id.names.main())
}

fn alerts(wanted: &Validated) -> Vec<Value> {
    let of = matchers(wanted);
    let slow = wanted.policy.limits().deadline_ms.get() * 8 / 10_000;
    let captures = |extra: &str| format!("sum(rate(screenshot_server_captures_total{{{of}{extra}}}[5m]))");
    let mut alerts = vec![
        alert(
            "ScreenshotServiceDown",
            &format!("(sum(screenshot_server_ready{{{of}}}) or vector(0)) == 0"),
            "5m",
            "critical",
            "No capture pod takes requests.",
        ),
        alert(
            "ScreenshotCapturesFail",
            &format!(
                "{} / {} > 0.05",
                captures(&format!(r#",reason=~"{FAULTS}""#)),
                captures("")
            ),
            "10m",
            "warning",
            "More than 5 % of captures fail for reasons of the service's own.",
        ),
        alert(
            "ScreenshotCapturesRefused",
            &format!(
                "{} / {} > 0.05",
                captures(&format!(r#",reason=~"{OVERLOAD}""#)),
                captures("")
            ),
            "10m",
            "warning",
            "More than 5 % of captures are refused because too many wait; more capture pods are needed.",
        ),
        alert(
            "ScreenshotCapturesSlow",
            &format!(
                "histogram_quantile(0.95, sum by (le) (rate(screenshot_server_capture_seconds_bucket{{{of}}}[10m]))) > {slow}"
            ),
            "10m",
            "warning",
            "One capture in twenty takes more than 80 % of its deadline.",
        ),
        alert(
            "ScreenshotKeysetRefused",
            &format!("max by (pod) (screenshot_server_keyset_stale{{{of}}}) == 1"),
            "5m",
            "critical",
            "A capture pod refuses the newest keyset: it may accept tokens that were retired.",
        ),
        alert(
            "ScreenshotKeysetsDiffer",
            &format!(
                "max(screenshot_server_keyset_revision{{{of}}}) - min(screenshot_server_keyset_revision{{{of}}}) > 0"
            ),
            "15m",
            "warning",
            "Capture pods have had different keysets for a quarter of an hour: a rotation is stuck.",
        ),
    ];
    alerts.push(alert(
        "ScreenshotEgressUnenforced",
        &format!("min by (pod) (screenshot_server_egress_enforced{{{of}}}) == 0"),
        "2m",
        "critical",
        "The cluster does not enforce NetworkPolicies: a capture pod reached an address that none of them opens.",
    ));
    alerts.push(alert(
        "ScreenshotBrowserOld",
        // 0 is unknown. Chromium brings a new milestone every four weeks and mends the one before for a short time only.
        &format!("time() - (min(screenshot_server_browser_build_timestamp_seconds{{{of}}}) > 0) > 45 * 86400"),
        "1h",
        "warning",
        "The browser was built more than 45 days ago; newer images have one with later security fixes.",
    ));
    if wanted.policy.sandbox_mode() == SandboxMode::Required {
        alerts.push(alert(
            "ScreenshotSandboxUnverified",
            &format!("min by (pod) (screenshot_server_sandbox_verified{{{of}}}) == 0"),
            "5m",
            "critical",
            "A capture pod could not prove that its browsers are confined; it takes no captures.",
        ));
    }
    alerts
}

fn alert(name: &str, expression: &str, pending: &str, severity: &str, summary: &str) -> Value {
    json!({
        "alert": name,
        "expr": expression,
        "for": pending,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    })
}

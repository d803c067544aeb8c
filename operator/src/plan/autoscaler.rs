//! The HorizontalPodAutoscaler, and who says how many pods there are.
//!
//! The metric is the CPU of the browser container alone: the server's is small and steady and would dilute it.

use screenshot_api::Autoscaling;
use screenshot_policy::layout;
use serde_json::json;

use super::{Child, Kind};
use crate::validate::{Scale, Validated};
use crate::views::DeploymentView;

/// Most pods that are ended within [`SCALE_DOWN_PERIOD_SECONDS`], in percent of those that run.
const SCALE_DOWN_PERCENT: u32 = 50;
const SCALE_DOWN_PERIOD_SECONDS: u32 = 60;

pub(super) fn build(wanted: &Validated) -> Option<Child> {
    let Scale::Auto(bounds) = &wanted.scale else {
        return None;
    };
    let names = &wanted.identity.names;
    let content = json!({"spec": {
        "scaleTargetRef": {"apiVersion": Kind::Deployment.api_version(), "kind": Kind::Deployment.name(), "name": names.main()},
        "minReplicas": bounds.min_replicas,
        "maxReplicas": bounds.max_replicas,
        "metrics": [{
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": layout::BROWSER_CONTAINER,
                "target": {"type": "Utilization", "averageUtilization": bounds.target_cpu_utilization_percentage},
            },
        }],
        "behavior": behavior(bounds),
    }});
    Some(Child::new(
        &wanted.identity,
        Kind::HorizontalPodAutoscaler,
        names.main(),
        content,
    ))
}

/// Up at once and fast, as captures wait; down late and by halves, as a browser that was ended is dear to start again.
fn behavior(bounds: &Autoscaling) -> serde_json::Value {
    json!({
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": bounds.scale_down_stabilization_seconds,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": SCALE_DOWN_PERCENT, "periodSeconds": SCALE_DOWN_PERIOD_SECONDS}],
        },
    })
}

/// What stands in the Deployment's `spec.replicas`; `None` leaves the number to the autoscaler.
///
/// A field that its only owner drops from an apply falls back to its default, here one pod. So the number is sent on, as
/// it is, until the autoscaler has written it and thereby become its owner. A Deployment that somebody scaled to no pods is
/// taken back from it: an autoscaler takes that for being switched off, and would leave it so for ever.
pub(super) fn replicas(wanted: &Validated, live: Option<&DeploymentView>) -> Option<i32> {
    match (&wanted.scale, live) {
        (Scale::Fixed(replicas), _) => Some(*replicas),
        (Scale::Auto(bounds), None) => Some(bounds.min_replicas),
        (Scale::Auto(bounds), Some(_)) if is_switched_off(wanted, live) => Some(bounds.min_replicas),
        (Scale::Auto(bounds), Some(live)) => live
            .held_replicas
            .map(|held| held.clamp(bounds.min_replicas, bounds.max_replicas)),
    }
}

/// Whether somebody else scaled to no pods what the autoscaler should look after.
pub(super) fn is_switched_off(wanted: &Validated, live: Option<&DeploymentView>) -> bool {
    matches!(wanted.scale, Scale::Auto(_)) && live.is_some_and(|live| live.desired == 0 && live.held_replicas.is_none())
}

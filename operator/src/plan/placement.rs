//! The part of a pod's spec that says where it may run and how it is started there.
//!
//! In: what is wanted. Out: fields of a PodSpec; what the spec does not ask for is left out, not set to its default.

use screenshot_api::TopologySpread;
use serde_json::{Map, Value, json};

use crate::validate::Validated;

pub(super) fn fields(wanted: &Validated) -> Map<String, Value> {
    let scheduling = &wanted.scheduling;
    let optional = [
        ("imagePullSecrets", list(json!(wanted.pull_secrets))),
        ("nodeSelector", map(json!(scheduling.node_selector))),
        ("tolerations", list(json!(scheduling.tolerations))),
        (
            "priorityClassName",
            scheduling.priority_class_name.as_ref().map(|name| json!(name)),
        ),
        (
            "runtimeClassName",
            wanted.runtime_class.as_ref().map(|name| json!(name)),
        ),
        ("hostUsers", wanted.host_users.map(|own| json!(own))),
        (
            "topologySpreadConstraints",
            spread(wanted).map(|constraints| constraints.into_iter().collect()),
        ),
        ("affinity", affinity(wanted)),
    ];
    let set = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    set.collect()
}

fn list(value: Value) -> Option<Value> {
    value.as_array().is_some_and(|items| !items.is_empty()).then_some(value)
}

fn map(value: Value) -> Option<Value> {
    value
        .as_object()
        .is_some_and(|entries| !entries.is_empty())
        .then_some(value)
}

fn spread(wanted: &Validated) -> Option<[Value; 2]> {
    let unsatisfiable = match wanted.scheduling.topology_spread {
        TopologySpread::Preferred => "ScheduleAnyway",
        TopologySpread::Required => "DoNotSchedule",
        TopologySpread::Disabled => return None,
    };
    let over = |key: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": unsatisfiable,
            "labelSelector": {"matchLabels": wanted.identity.names.selector()},
            // Without it the pods of the template before count, and a rollout ends unevenly.
            "matchLabelKeys": ["pod-template-hash"],
        })
    };
    Some([over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")])
}

/// Two pods of a service on one node only where there is no other: says the same as the spread, to schedulers and
/// checkers that look here.
fn affinity(wanted: &Validated) -> Option<Value> {
    if wanted.scheduling.topology_spread == TopologySpread::Disabled {
        return None;
    }
    Some(
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": wanted.identity.names.selector()},
            },
        }]}}),
    )
}
